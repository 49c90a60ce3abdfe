//! A connection that is asked one thing at a time: for the handshake of every link, and for replication
//! connections, which leave the request and answer pattern after it.

use std::net::{IpAddr, SocketAddr};
use std::time::Instant;

use tandem_core::answer::AnswerClass;
use tandem_resp::{Command, Limits, ReplyDecoder, Value};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};
use tokio::time::timeout_at;

use super::error::{LinkError, ProtocolError};

/// What AUTH is sent. `Debug` does not show the password.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Credentials {
    /// The ACL user; `None` for the default user.
    pub(crate) user: Option<Vec<u8>>,
    /// The password.
    pub(crate) password: Vec<u8>,
}

impl std::fmt::Debug for Credentials {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let user = self.user.as_deref().unwrap_or(b"default");
        write!(f, "Credentials({}, ***)", user.escape_ascii())
    }
}

/// Where a server is and how to be let in.
#[derive(Clone, Debug)]
pub(crate) struct Target {
    /// The server.
    pub(crate) address: SocketAddr,
    /// The address to connect from; `None` leaves it to the kernel.
    pub(crate) source: Option<IpAddr>,
    /// Sent first if given.
    pub(crate) credentials: Option<Credentials>,
}

impl Target {
    /// A server without a password.
    pub(crate) fn new(address: SocketAddr) -> Self {
        Self {
            address,
            source: None,
            credentials: None,
        }
    }
}

/// Bytes read at once.
pub(super) const READ_BYTES: usize = 16 * 1024;

/// A connection with at most one question open.
#[derive(Debug)]
pub(crate) struct RawConnection {
    stream: TcpStream,
    decoder: ReplyDecoder,
}

impl RawConnection {
    /// Connects and authenticates.
    pub(crate) async fn open(target: &Target, deadline: Instant) -> Result<Self, LinkError> {
        let stream = timeout_at(deadline.into(), connect(target))
            .await
            .map_err(|_| LinkError::TimedOut { sent: false })??;
        let mut connection = Self {
            stream,
            decoder: ReplyDecoder::new(Limits::control()),
        };
        if let Some(credentials) = &target.credentials {
            let mut auth = Command::new("AUTH");
            if let Some(user) = &credentials.user {
                auth = auth.arg(user);
            }
            let answer = connection
                .ask(&auth.arg(&credentials.password), deadline)
                .await
                // Authentication changes nothing on the server: it may always be repeated.
                .map_err(LinkError::unsent)?;
            if let Value::Error(text) = &answer {
                let class = AnswerClass::of_error(text);
                // A server without a password refuses AUTH and serves us all the same.
                if !text.starts_with(b"ERR Client sent AUTH")
                    && !text.starts_with(b"ERR AUTH <password> called")
                {
                    return Err(LinkError::Auth(class));
                }
            }
        }
        Ok(connection)
    }

    /// Sends a command and waits for its answer.
    pub(crate) async fn ask(
        &mut self,
        command: &Command,
        deadline: Instant,
    ) -> Result<Value, LinkError> {
        self.send(command, deadline).await?;
        self.answer(deadline).await
    }

    /// Sends a command.
    pub(crate) async fn send(
        &mut self,
        command: &Command,
        deadline: Instant,
    ) -> Result<(), LinkError> {
        let mut bytes = Vec::new();
        command.encode(&mut bytes);
        timeout_at(deadline.into(), self.stream.write_all(&bytes))
            .await
            .map_err(|_| LinkError::TimedOut { sent: true })?
            .map_err(|error| LinkError::from_io(&error, true))
    }

    /// Waits for an answer.
    pub(crate) async fn answer(&mut self, deadline: Instant) -> Result<Value, LinkError> {
        loop {
            match self.decoder.next_value()? {
                // Nothing here subscribes, so a push is no answer.
                Some(Value::Push(_)) => {}
                Some(value) => return Ok(value),
                None => {
                    let mut bytes = [0; READ_BYTES];
                    let read = read_some(&mut self.stream, &mut bytes, deadline).await?;
                    self.decoder.feed(&bytes[..read]);
                }
            }
        }
    }

    /// Leaves the pattern of question and answer: the stream, and the bytes already read.
    pub(crate) fn into_parts(self) -> (TcpStream, ReplyDecoder) {
        (self.stream, self.decoder)
    }

    /// The stream, and the bytes already read that belong to no answer.
    pub(crate) fn into_stream(self) -> (TcpStream, Vec<u8>) {
        (self.stream, self.decoder.into_rest())
    }

    /// Asks to become a replica, and reads the answer's line. A server that is busy with another replica's snapshot
    /// sends bare line feeds first, which are no RESP.
    pub(crate) async fn ask_psync(
        mut self,
        replid: &str,
        offset: i64,
        deadline: Instant,
    ) -> Result<(PsyncAnswer, TcpStream, Vec<u8>), LinkError> {
        // Without `eof` a diskless server would still write its RDB to a disk; without `psync2` it would not name a
        // changed replid.
        let capabilities = Command::from_args(&["REPLCONF", "capa", "eof", "capa", "psync2"]);
        self.ask(&capabilities, deadline).await?;
        let psync = Command::new("PSYNC").arg(replid).number(offset);
        self.send(&psync, deadline).await?;
        let (mut stream, mut bytes) = self.into_stream();
        let line = read_line(&mut stream, &mut bytes, deadline).await?;
        let answer = PsyncAnswer::parse(&line)?;
        Ok((answer, stream, bytes))
    }
}

/// What a server says to PSYNC.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum PsyncAnswer {
    /// The stream follows from the offset asked for.
    Continue,
    /// A snapshot follows, and then the stream from this offset on.
    FullResync {
        /// The server's lineage.
        replid: String,
        /// Its offset at the snapshot.
        offset: u64,
    },
    /// No.
    Refused(String),
}

impl PsyncAnswer {
    fn parse(line: &[u8]) -> Result<Self, LinkError> {
        let text = String::from_utf8_lossy(line);
        let mut words = text.split_ascii_whitespace();
        match words.next() {
            Some("+CONTINUE") => Ok(Self::Continue),
            Some("+FULLRESYNC") => {
                let replid = words.next().map(str::to_owned);
                let offset = words.next().and_then(|word| word.parse().ok());
                match (replid, offset) {
                    (Some(replid), Some(offset)) => Ok(Self::FullResync { replid, offset }),
                    _ => Err(LinkError::Protocol(ProtocolError::Kind)),
                }
            }
            Some(_) if text.starts_with('-') => Ok(Self::Refused(text[1..].to_owned())),
            _ => Err(LinkError::Protocol(ProtocolError::Kind)),
        }
    }
}

/// The longest line of a replication handshake that is waited for.
const LONGEST_LINE: usize = 1024;

/// Reads a line of a replication handshake, without the line feeds before it; what follows stays in `bytes`.
pub(super) async fn read_line(
    stream: &mut TcpStream,
    bytes: &mut Vec<u8>,
    deadline: Instant,
) -> Result<Vec<u8>, LinkError> {
    loop {
        let feeds = bytes.iter().take_while(|&&byte| byte == b'\n').count();
        bytes.drain(..feeds);
        if let Some(end) = bytes.iter().position(|&byte| byte == b'\n') {
            let mut line: Vec<u8> = bytes.drain(..=end).collect();
            line.truncate(end);
            if line.last() == Some(&b'\r') {
                line.pop();
            }
            return Ok(line);
        }
        if bytes.len() > LONGEST_LINE {
            return Err(LinkError::Protocol(ProtocolError::Kind));
        }
        let mut chunk = [0; READ_BYTES];
        let read = read_some(stream, &mut chunk, deadline).await?;
        bytes.extend_from_slice(&chunk[..read]);
    }
}

/// Reads what is there, at least one byte.
pub(super) async fn read_some(
    stream: &mut TcpStream,
    into: &mut [u8],
    deadline: Instant,
) -> Result<usize, LinkError> {
    let read = timeout_at(deadline.into(), stream.read(into))
        .await
        .map_err(|_| LinkError::TimedOut { sent: true })?
        .map_err(|error| LinkError::from_io(&error, true))?;
    if read == 0 {
        return Err(LinkError::Closed { sent: true });
    }
    Ok(read)
}

async fn connect(target: &Target) -> Result<TcpStream, LinkError> {
    let unsent = |error: std::io::Error| LinkError::from_io(&error, false);
    let socket = match target.address {
        SocketAddr::V4(_) => TcpSocket::new_v4(),
        SocketAddr::V6(_) => TcpSocket::new_v6(),
    }
    .map_err(unsent)?;
    if let Some(source) = target.source {
        socket.bind(SocketAddr::new(source, 0)).map_err(unsent)?;
    }
    let stream = socket.connect(target.address).await.map_err(unsent)?;
    stream.set_nodelay(true).map_err(unsent)?;
    Ok(stream)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn psync_answers() {
        let full = PsyncAnswer::FullResync {
            replid: "abc".to_owned(),
            offset: 7,
        };
        let table: &[(&str, Option<PsyncAnswer>)] = &[
            ("+CONTINUE", Some(PsyncAnswer::Continue)),
            ("+CONTINUE abc", Some(PsyncAnswer::Continue)),
            ("+FULLRESYNC abc 7", Some(full)),
            ("+FULLRESYNC abc", None),
            (
                "-NOMASTERLINK x",
                Some(PsyncAnswer::Refused("NOMASTERLINK x".to_owned())),
            ),
            ("$5", None),
        ];
        for (line, expected) in table {
            assert_eq!(
                PsyncAnswer::parse(line.as_bytes()).ok(),
                *expected,
                "{line}"
            );
        }
    }

    #[test]
    fn debug_hides_the_password() {
        let credentials = Credentials {
            user: None,
            password: b"secret".to_vec(),
        };
        assert_eq!(format!("{credentials:?}"), "Credentials(default, ***)");
    }
}
