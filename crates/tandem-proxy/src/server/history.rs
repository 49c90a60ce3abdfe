//! Reads the end of a history from a new primary, off the loop: on a thread of its own, which ends with its answer.
//!
//! The server is asked where it stands before it is asked for its history, because one that lacks what is asked for would
//! begin a full resync instead, which forks. What it says there has to be what the keepers said, else another promotion
//! has come between. A connection that reads a history counts, for the moment it is open, as a replica that is well;
//! where writes depend on the number of such (`min-replicas-to-write`), none is read.

use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustls::{ClientConnection, StreamOwned};

use super::mailbox::{Letter, Mailbox};
use super::resolve::first_address;
use crate::core::{History, READ_WITHIN};
use crate::frame::{Fed, Scanner};
use crate::settings::Address;
use crate::tail::{MOST, Question, Reader, Tail};
use crate::tls::Connector;

/// Bytes taken from the socket at once.
const PIECE: usize = 64 * 1024;
/// The longest answer to anything but PSYNC.
const ANSWER: usize = 256 * 1024;

/// Has it read; the answer comes to the mailbox. Workers ask once per group and failover, so threads are few.
pub(super) fn read(
    history: History,
    question: Question,
    tls: Option<Connector>,
    back: Arc<Mailbox>,
) {
    let answer = back.clone();
    let spawned = std::thread::Builder::new()
        .name("proxy-history".to_owned())
        .spawn(move || {
            let tail = ask(&question, tls.as_ref(), Instant::now() + READ_WITHIN).ok();
            answer.put(Letter::History { history, tail });
        });
    if spawned.is_err() {
        let tail = None;
        back.put(Letter::History { history, tail });
    }
}

/// A connection with an end to all patience.
struct Line {
    stream: Stream,
    until: Instant,
    input: Vec<u8>,
}

enum Stream {
    Tcp(TcpStream),
    Tls(Box<StreamOwned<ClientConnection, TcpStream>>),
    Unix(UnixStream),
}

impl Stream {
    /// No single call takes longer than this.
    fn within(&self, within: Duration) -> io::Result<()> {
        match self {
            Self::Tcp(stream) => bounded(stream, within),
            Self::Tls(stream) => bounded(stream.get_ref(), within),
            Self::Unix(stream) => {
                stream.set_read_timeout(Some(within))?;
                stream.set_write_timeout(Some(within))
            }
        }
    }
}

fn bounded(stream: &TcpStream, within: Duration) -> io::Result<()> {
    stream.set_read_timeout(Some(within))?;
    stream.set_write_timeout(Some(within))
}

fn ask(question: &Question, tls: Option<&Connector>, until: Instant) -> io::Result<Tail> {
    let mut line = Line::open(&question.primary, tls, until)?;
    if !question.login.is_empty() {
        let mut words = vec![&b"AUTH"[..]];
        words.extend(question.login.iter().map(Vec::as_slice));
        line.say(&words)?;
        if line.hear()?.first() == Some(&b'-') {
            return Err(other("it does not let us in"));
        }
    }
    line.say(&[b"INFO", b"replication"])?;
    let info = line.hear()?;
    if !serves(&info, question) {
        return Err(other("it is not, or not any more, what was expected"));
    }
    let next = (question.from + 1).to_string();
    line.say(&[b"PSYNC", question.parent.as_bytes(), next.as_bytes()])?;
    let answer = line.hear()?;
    if !answer.starts_with(b"+CONTINUE") {
        return Err(other("it does not go on from there"));
    }
    let mut reader = Reader::new(question);
    while !reader.is_complete() {
        let taken = reader
            .take(&line.input)
            .map_err(|error| other(&error.to_string()))?;
        line.input.drain(..taken);
        if reader.is_complete() {
            break;
        }
        if line.input.len() as u64 > MOST {
            return Err(other("a command is longer than all that is read"));
        }
        line.fill()?;
    }
    Ok(reader.finish())
}

/// Whether a primary says that it left the history at that point, and still has what is asked for.
fn serves(info: &[u8], question: &Question) -> bool {
    let text = String::from_utf8_lossy(info);
    let field = |name: &str| {
        text.split("\r\n")
            .find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))
    };
    let number = |name: &str| field(name).and_then(|text| text.parse::<u64>().ok());
    let left = number("second_repl_offset").and_then(|first| first.checked_sub(1));
    let (Some(size), Some(first), Some(length)) = (
        number("repl_backlog_size"),
        number("repl_backlog_first_byte_offset"),
        number("repl_backlog_histlen"),
    ) else {
        return false;
    };
    // A full one loses its beginning while we ask.
    let margin = if length < size { 0 } else { size / 8 };
    let next = question.from + 1;
    field("role") == Some("master")
        && field("master_replid2") == Some(&question.parent)
        && left == Some(question.to)
        && field("repl_backlog_active") == Some("1")
        && next >= first + margin
        && next <= first + length
        && field("min_slaves_good_slaves").is_none()
}

impl Line {
    /// Over TLS where servers are spoken to so; never over a Unix socket.
    fn open(address: &Address, tls: Option<&Connector>, until: Instant) -> io::Result<Self> {
        let stream = match address {
            Address::Tcp { host, port } => {
                let at =
                    first_address(host, *port).ok_or_else(|| other("nobody knows its name"))?;
                let stream = TcpStream::connect_timeout(&at, left(until)?)?;
                stream.set_nodelay(true)?;
                match tls {
                    None => Stream::Tcp(stream),
                    Some(connector) => {
                        let (config, name) = (connector.config.get(), connector.name.clone());
                        let connection =
                            ClientConnection::new(config, name).map_err(io::Error::other)?;
                        // The handshake is part of what is said first.
                        Stream::Tls(Box::new(StreamOwned::new(connection, stream)))
                    }
                }
            }
            Address::Unix { path, .. } => Stream::Unix(UnixStream::connect(path)?),
        };
        Ok(Self {
            stream,
            until,
            input: Vec::new(),
        })
    }

    fn say(&mut self, words: &[&[u8]]) -> io::Result<()> {
        let mut bytes = Vec::new();
        tandem_resp::encode_command(words, &mut bytes);
        self.stream.within(left(self.until)?)?;
        match &mut self.stream {
            Stream::Tcp(stream) => stream.write_all(&bytes),
            Stream::Tls(stream) => stream.write_all(&bytes).and_then(|()| stream.flush()),
            Stream::Unix(stream) => stream.write_all(&bytes),
        }
    }

    /// The next reply, whole.
    fn hear(&mut self) -> io::Result<Vec<u8>> {
        loop {
            match Scanner::new().feed(&self.input) {
                Ok(Fed::End(len)) => {
                    let rest = self.input.split_off(len);
                    return Ok(std::mem::replace(&mut self.input, rest));
                }
                Ok(Fed::More) if self.input.len() > ANSWER => {
                    return Err(other("an answer that does not end"));
                }
                Ok(Fed::More) => self.fill()?,
                Err(_) => return Err(other("what came is no reply")),
            }
        }
    }

    fn fill(&mut self) -> io::Result<()> {
        self.stream.within(left(self.until)?)?;
        let before = self.input.len();
        self.input.resize(before + PIECE, 0);
        let space = &mut self.input[before..];
        let read = match &mut self.stream {
            Stream::Tcp(stream) => stream.read(space),
            Stream::Tls(stream) => stream.read(space),
            Stream::Unix(stream) => stream.read(space),
        };
        self.input.truncate(before + *read.as_ref().unwrap_or(&0));
        match read {
            Ok(0) => Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(_) => Ok(()),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => Ok(()),
            Err(error) => Err(error),
        }
    }
}

fn left(until: Instant) -> io::Result<Duration> {
    let left = until.saturating_duration_since(Instant::now());
    if left.is_zero() {
        return Err(io::ErrorKind::TimedOut.into());
    }
    Ok(left)
}

fn other(text: &str) -> io::Error {
    io::Error::other(text.to_owned())
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use rustls::pki_types::{PrivateKeyDer, ServerName};
    use rustls::{ClientConfig, RootCertStore, ServerConfig, ServerConnection};

    use super::*;
    use crate::tls::Live;

    /// Both sides of TLS, by a certificate that vouches for itself.
    fn both_sides() -> (Arc<ServerConfig>, Connector) {
        let made = rcgen::generate_simple_self_signed(vec!["redis.test".to_owned()]).unwrap();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let mut roots = RootCertStore::empty();
        roots.add(made.cert.der().clone()).unwrap();
        let key = PrivateKeyDer::try_from(made.signing_key.serialize_der()).unwrap();
        let server = ServerConfig::builder_with_provider(provider.clone())
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![made.cert.der().clone()], key)
            .unwrap();
        let client = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth();
        let connector = Connector {
            config: Live::new(Arc::new(client)),
            name: ServerName::try_from("redis.test").unwrap(),
        };
        (Arc::new(server), connector)
    }

    fn encoded(words: &[&str]) -> Vec<u8> {
        let mut bytes = Vec::new();
        tandem_resp::encode_command(words, &mut bytes);
        bytes
    }

    #[test]
    fn a_history_is_read_over_tls() {
        let (config, connector) = both_sides();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let written = encoded(&["SET", "a", "1"]);
        let parent = "a".repeat(40);
        let question = Question {
            primary: Address::Tcp {
                host: "127.0.0.1".to_owned(),
                port,
            },
            login: vec![b"p".to_vec()],
            parent: parent.clone(),
            from: 1000,
            to: 1000 + written.len() as u64,
        };
        let info = format!(
            "role:master\r\nmaster_replid2:{parent}\r\nsecond_repl_offset:{}\r\nrepl_backlog_active:1\r\n\
             repl_backlog_size:800\r\nrepl_backlog_first_byte_offset:901\r\nrepl_backlog_histlen:700\r\n",
            question.to + 1
        );
        let answers = [
            (encoded(&["AUTH", "p"]), b"+OK\r\n".to_vec()),
            (
                encoded(&["INFO", "replication"]),
                format!("${}\r\n{info}\r\n", info.len()).into_bytes(),
            ),
            (
                encoded(&["PSYNC", &parent, "1001"]),
                [&b"+CONTINUE b\r\n"[..], &written].concat(),
            ),
        ];
        let server = std::thread::spawn(move || {
            let (stream, _) = listener.accept().unwrap();
            let mut stream = StreamOwned::new(ServerConnection::new(config).unwrap(), stream);
            for (asked, answer) in answers {
                let mut got = vec![0; asked.len()];
                stream.read_exact(&mut got).unwrap();
                assert_eq!(got, asked);
                stream.write_all(&answer).unwrap();
                stream.flush().unwrap();
            }
        });
        let until = Instant::now() + Duration::from_secs(20);
        let tail = ask(&question, Some(&connector), until).unwrap();
        assert!(tail.touches(0, b"a", 1000));
        assert!(!tail.touches(0, b"b", 1000));
        server.join().unwrap();
    }

    #[test]
    fn only_the_server_that_left_that_history_there_and_still_has_it_is_asked() {
        let question = Question {
            primary: Address::Tcp {
                host: "127.0.0.1".to_owned(),
                port: 1,
            },
            login: Vec::new(),
            parent: "a".repeat(40),
            from: 1000,
            to: 1500,
        };
        let good = format!(
            "$400\r\n# Replication\r\nrole:master\r\nconnected_slaves:0\r\nmaster_replid:{}\r\nmaster_replid2:{}\r\n\
             master_repl_offset:1600\r\nsecond_repl_offset:1501\r\nrepl_backlog_active:1\r\nrepl_backlog_size:800\r\n\
             repl_backlog_first_byte_offset:901\r\nrepl_backlog_histlen:700\r\n\r\n",
            "b".repeat(40),
            "a".repeat(40)
        );
        assert!(serves(good.as_bytes(), &question));
        for (what, instead) in [
            ("role:master", "role:slave"),
            ("second_repl_offset:1501", "second_repl_offset:1502"),
            ("second_repl_offset:1501", "second_repl_offset:-1"),
            ("first_byte_offset:901", "first_byte_offset:1002"),
            ("backlog_active:1", "backlog_active:0"),
            ("replid2:aa", "replid2:cc"),
            ("slaves:0", "slaves:0\r\nmin_slaves_good_slaves:0"),
        ] {
            let bad = good.replace(what, instead);
            assert_ne!(bad, good);
            assert!(!serves(bad.as_bytes(), &question), "{instead}");
        }
        // A full backlog loses its beginning all the time: what is asked for must not be close to it.
        let full = good.replace("backlog_size:800", "backlog_size:700");
        assert!(serves(full.as_bytes(), &question));
        let close = full.replace("first_byte_offset:901", "first_byte_offset:950");
        assert!(!serves(close.as_bytes(), &question));
    }
}
