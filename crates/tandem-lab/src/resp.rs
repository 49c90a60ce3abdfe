//! A minimal RESP2 client: enough to command and question the servers of the lab, blocking, with a deadline per reply.
//!
//! Kept apart from the product's own protocol code on purpose: an instrument that shares its decoder with what it
//! measures would share its mistakes.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use crate::ns::Host;

/// The largest bulk string or array that the lab accepts: far above what it asks for, far below memory.
const LIMIT: usize = 64 << 20;
/// How deep arrays may be nested; `SENTINEL` answers need 2.
const DEPTH: u8 = 8;

/// One reply of a server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reply {
    /// `+OK` and the like.
    Simple(String),
    /// `-ERR ...`, without the hyphen.
    Error(String),
    /// `:1`.
    Integer(i64),
    /// A bulk string, or nil.
    Bulk(Option<Vec<u8>>),
    /// An array, or nil as an empty one.
    Array(Vec<Reply>),
}

impl Reply {
    /// The text of a simple or bulk string.
    #[must_use]
    pub fn text(&self) -> Option<String> {
        match self {
            Self::Simple(text) => Some(text.clone()),
            Self::Bulk(Some(bytes)) => Some(String::from_utf8_lossy(bytes).into_owned()),
            Self::Error(_) | Self::Integer(_) | Self::Bulk(None) | Self::Array(_) => None,
        }
    }
}

/// A connection to a server.
#[derive(Debug)]
pub struct Connection {
    stream: BufReader<TcpStream>,
}

impl Connection {
    /// Connects from a host of the lab; the timeout holds for connecting and afterwards for each reply.
    ///
    /// # Errors
    /// As [`TcpStream::connect_timeout`].
    pub fn open(from: &Host, to: SocketAddr, timeout: Duration) -> io::Result<Self> {
        Self::over(from.connect(to, timeout)?, timeout)
    }

    /// Uses a stream that is connected already.
    ///
    /// # Errors
    /// When its options cannot be set.
    pub fn over(stream: TcpStream, reply_timeout: Duration) -> io::Result<Self> {
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(reply_timeout))?;
        stream.set_write_timeout(Some(reply_timeout))?;
        Ok(Self {
            stream: BufReader::new(stream),
        })
    }

    /// Sends one command and waits for its reply.
    ///
    /// # Errors
    /// Only of the connection: an error reply is a reply.
    pub fn call(&mut self, command: &[&str]) -> io::Result<Reply> {
        self.send(&encode(command))?;
        self.read()
    }

    /// Sends one command and makes an error reply an error.
    ///
    /// # Errors
    /// Of the connection, or the server's.
    pub fn demand(&mut self, command: &[&str]) -> anyhow::Result<Reply> {
        match self.call(command)? {
            Reply::Error(text) => anyhow::bail!("`{}` was answered with {text}", command.join(" ")),
            reply => Ok(reply),
        }
    }

    /// Sends encoded commands; see [`encode`].
    ///
    /// # Errors
    /// Of the connection.
    pub fn send(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.stream.get_mut().write_all(bytes)
    }

    /// Reads one reply.
    ///
    /// # Errors
    /// Of the connection; `InvalidData` for what is not RESP2.
    pub fn read(&mut self) -> io::Result<Reply> {
        read(&mut self.stream, DEPTH)
    }

    /// A field of `INFO`, in any section.
    ///
    /// # Errors
    /// Of the connection, or when there is no such field.
    pub fn info(&mut self, field: &str) -> anyhow::Result<String> {
        let text = self.demand(&["INFO"])?.text().unwrap_or_default();
        let value = text
            .lines()
            .find_map(|line| line.strip_prefix(field)?.strip_prefix(':'));
        value
            .map(str::to_owned)
            .ok_or_else(|| anyhow::anyhow!("INFO has no field {field}"))
    }
}

/// Reads a file of commands, an archived tail for example: each is an array of bulk strings.
///
/// # Errors
/// `InvalidData` for what is no such array, `UnexpectedEof` for a torn end.
pub fn commands(bytes: &[u8]) -> io::Result<Vec<Vec<String>>> {
    let mut rest = bytes;
    let mut found = Vec::new();
    while !rest.is_empty() {
        let Reply::Array(parts) = read(&mut rest, DEPTH)? else {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "not a command"));
        };
        let words = parts.iter().map(Reply::text).collect::<Option<_>>();
        found.push(words.ok_or_else(|| {
            io::Error::new(
                io::ErrorKind::InvalidData,
                "a command has bulk strings only",
            )
        })?);
    }
    Ok(found)
}

/// Encodes a command as an array of bulk strings.
#[must_use]
pub fn encode(command: &[&str]) -> Vec<u8> {
    let mut bytes = format!("*{}\r\n", command.len()).into_bytes();
    for word in command {
        bytes.extend_from_slice(format!("${}\r\n{word}\r\n", word.len()).as_bytes());
    }
    bytes
}

fn read(from: &mut impl BufRead, depth: u8) -> io::Result<Reply> {
    let mut line = Vec::new();
    from.by_ref()
        .take(LIMIT as u64)
        .read_until(b'\n', &mut line)?;
    if line.is_empty() {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    let line = String::from_utf8_lossy(&line);
    let line = line
        .strip_suffix("\r\n")
        .ok_or_else(|| invalid("a line without its end"))?;
    let mut chars = line.chars();
    let kind = chars.next().ok_or_else(|| invalid("an empty line"))?;
    let rest = chars.as_str();
    let number = || {
        rest.parse::<i64>()
            .map_err(|_| invalid("a number was expected"))
    };
    match kind {
        '+' => Ok(Reply::Simple(rest.to_owned())),
        '-' => Ok(Reply::Error(rest.to_owned())),
        ':' => Ok(Reply::Integer(number()?)),
        '$' => {
            let Ok(length) = usize::try_from(number()?) else {
                return Ok(Reply::Bulk(None));
            };
            if length > LIMIT {
                return Err(invalid("a bulk string beyond the limit"));
            }
            let mut bytes = vec![0; length + 2];
            from.read_exact(&mut bytes)?;
            bytes.truncate(length);
            Ok(Reply::Bulk(Some(bytes)))
        }
        '*' => {
            let Ok(length) = usize::try_from(number()?) else {
                return Ok(Reply::Array(Vec::new()));
            };
            if length > LIMIT || depth == 0 {
                return Err(invalid("an array beyond the limit"));
            }
            // Not reserved ahead: the length is the other side's claim.
            (0..length)
                .map(|_| read(from, depth - 1))
                .collect::<io::Result<_>>()
                .map(Reply::Array)
        }
        _ => Err(invalid("an unknown kind of reply")),
    }
}

fn invalid(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_of_reply_is_read() {
        for (wire, reply) in [
            ("+OK\r\n", Reply::Simple("OK".into())),
            ("-READONLY no\r\n", Reply::Error("READONLY no".into())),
            (":-7\r\n", Reply::Integer(-7)),
            ("$2\r\n\r\n\r\n", Reply::Bulk(Some(b"\r\n".to_vec()))),
            ("$-1\r\n", Reply::Bulk(None)),
            (
                "*2\r\n$1\r\na\r\n*0\r\n",
                Reply::Array(vec![Reply::Bulk(Some(b"a".to_vec())), Reply::Array(vec![])]),
            ),
        ] {
            assert_eq!(
                read(&mut wire.as_bytes(), DEPTH).unwrap(),
                reply,
                "{wire:?}"
            );
        }
    }

    #[test]
    fn what_is_not_a_reply_is_an_error() {
        for (wire, kind) in [
            ("", io::ErrorKind::UnexpectedEof),
            ("$5\r\nab", io::ErrorKind::UnexpectedEof),
            ("+OK", io::ErrorKind::InvalidData),
            ("!\r\n", io::ErrorKind::InvalidData),
            (":x\r\n", io::ErrorKind::InvalidData),
            ("$99999999999\r\n", io::ErrorKind::InvalidData),
        ] {
            assert_eq!(
                read(&mut wire.as_bytes(), DEPTH).unwrap_err().kind(),
                kind,
                "{wire:?}"
            );
        }
        let nested = "*1\r\n".repeat(usize::from(DEPTH) + 1);
        assert_eq!(
            read(&mut nested.as_bytes(), DEPTH).unwrap_err().kind(),
            io::ErrorKind::InvalidData
        );
    }

    #[test]
    fn a_file_of_commands_is_read_to_its_end_and_a_torn_one_refused() {
        let mut file = encode(&["SET", "k", "1"]);
        file.extend(encode(&["DEL", "k"]));
        let read = commands(&file).unwrap();
        assert_eq!(read, [vec!["SET", "k", "1"], vec!["DEL", "k"]]);
        assert!(commands(&file[..file.len() - 1]).is_err());
        assert!(commands(b"+OK\r\n").is_err());
    }

    #[test]
    fn commands_are_arrays_of_bulk_strings() {
        assert_eq!(
            encode(&["SET", "k", ""]),
            b"*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$0\r\n\r\n"
        );
    }
}
