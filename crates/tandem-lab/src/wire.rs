//! RESP2 and RESP3 as they are on the wire: an incremental reader, and the lines by which a recording shows a value.
//!
//! Unlike [`crate::resp`], which gives callers what a reply means, this keeps every kind apart (nil bulk and nil array,
//! map and flat array, push and array), because a recording is about the bytes. It never loses a part of a value to a
//! time-out: bytes are collected until a value is whole.

use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

/// The most that one value may take: above any answer of a Sentinel, far below memory.
const LIMIT: usize = 16 << 20;
/// How deep values may be nested; `COMMAND DOCS` needs 7.
const DEPTH: u8 = 16;

/// One value, as it was sent.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Value {
    /// `+`, `-`, `:`, `,`, `#`, `(` or `_`: the line with its first byte.
    Line(String),
    /// `$`: a bulk string.
    Bulk(Vec<u8>),
    /// `=`: a verbatim string, its three letters and colon included.
    Verbatim(Vec<u8>),
    /// `$-1`.
    NilBulk,
    /// `*-1`.
    NilArray,
    /// `*`, `~` or `>`: an array, a set or a push, with its first byte.
    List(char, Vec<Value>),
    /// `%`: keys and values in turn.
    Map(Vec<Value>),
}

impl Value {
    /// The text of a bulk string, or of a line without its first byte.
    #[must_use]
    pub fn text(&self) -> Option<String> {
        match self {
            Self::Line(line) => Some(line[1..].to_owned()),
            Self::Bulk(bytes) | Self::Verbatim(bytes) => {
                Some(String::from_utf8_lossy(bytes).into_owned())
            }
            Self::NilBulk | Self::NilArray | Self::List(..) | Self::Map(_) => None,
        }
    }

    /// The members of a list or map; of anything else none.
    #[must_use]
    pub fn members(&self) -> &[Self] {
        match self {
            Self::List(_, members) | Self::Map(members) => members,
            Self::Line(_) | Self::Bulk(_) | Self::Verbatim(_) | Self::NilBulk | Self::NilArray => {
                &[]
            }
        }
    }
}

/// Reads one value from the beginning of `bytes` and says how long it was; `None` when it is not whole yet.
///
/// # Errors
/// For what is not RESP.
pub fn parse(bytes: &[u8]) -> Result<Option<(Value, usize)>, String> {
    let mut reader = Reader { bytes, at: 0 };
    Ok(reader.value(DEPTH)?.map(|value| (value, reader.at)))
}

struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl Reader<'_> {
    fn line(&mut self) -> Option<String> {
        let rest = &self.bytes[self.at..];
        let end = rest.windows(2).position(|two| two == b"\r\n")?;
        self.at += end + 2;
        Some(String::from_utf8_lossy(&rest[..end]).into_owned())
    }

    fn value(&mut self, depth: u8) -> Result<Option<Value>, String> {
        let Some(line) = self.line() else {
            return Ok(None);
        };
        let Some(kind) = line.chars().next() else {
            return Err("an empty line where a value was due".to_owned());
        };
        match kind {
            '+' | '-' | ':' | ',' | '#' | '(' | '_' => Ok(Some(Value::Line(line))),
            '$' | '=' => {
                let length = count(&line)?;
                let Some(length) = length else {
                    return Ok(Some(Value::NilBulk));
                };
                let Some(bytes) = self.bytes.get(self.at..self.at + length + 2) else {
                    return Ok(None);
                };
                self.at += length + 2;
                if !bytes.ends_with(b"\r\n") {
                    return Err(format!("{line} does not end where it says"));
                }
                let bytes = bytes[..length].to_vec();
                Ok(Some(match kind {
                    '$' => Value::Bulk(bytes),
                    _ => Value::Verbatim(bytes),
                }))
            }
            '*' | '~' | '>' | '%' => {
                let Some(length) = count(&line)? else {
                    return Ok(Some(Value::NilArray));
                };
                let Some(depth) = depth.checked_sub(1) else {
                    return Err("nested too deeply".to_owned());
                };
                let length = if kind == '%' { length * 2 } else { length };
                // Not reserved ahead: the length is the other side's claim.
                let mut members = Vec::new();
                for _ in 0..length {
                    let Some(member) = self.value(depth)? else {
                        return Ok(None);
                    };
                    members.push(member);
                }
                Ok(Some(match kind {
                    '%' => Value::Map(members),
                    _ => Value::List(kind, members),
                }))
            }
            _ => Err(format!("no value begins like `{line}`")),
        }
    }
}

/// The length in a header line; `None` for -1.
fn count(line: &str) -> Result<Option<usize>, String> {
    match line[1..].parse::<i64>() {
        Ok(-1) => Ok(None),
        Ok(length) => match usize::try_from(length) {
            Ok(length) if length <= LIMIT => Ok(Some(length)),
            Ok(_) | Err(_) => Err(format!("`{line}` is beyond any answer")),
        },
        Err(_) => Err(format!("`{line}` has no length")),
    }
}

/// The lines by which a recording shows a value: the wire's own, a bulk string's length before its text.
#[must_use]
pub fn lines(value: &Value) -> Vec<String> {
    let mut out = Vec::new();
    write_lines(value, &mut out);
    for line in &mut out {
        // A space at the end of a line is too easily lost.
        if line.ends_with(' ') {
            line.pop();
            line.push_str("\\x20");
        }
    }
    out
}

fn write_lines(value: &Value, out: &mut Vec<String>) {
    match value {
        Value::Line(line) => out.push(line.clone()),
        Value::NilBulk => out.push("$-1".to_owned()),
        Value::NilArray => out.push("*-1".to_owned()),
        Value::Bulk(bytes) => text_lines('$', bytes, out),
        Value::Verbatim(bytes) => text_lines('=', bytes, out),
        Value::List(kind, members) => {
            out.push(format!("{kind}{}", members.len()));
            members.iter().for_each(|member| write_lines(member, out));
        }
        Value::Map(members) => {
            out.push(format!("%{}", members.len() / 2));
            members.iter().for_each(|member| write_lines(member, out));
        }
    }
}

/// A text of several lines is shown as such, each with its line end escaped, so that nothing of it is invisible.
fn text_lines(kind: char, bytes: &[u8], out: &mut Vec<String>) {
    let text = String::from_utf8_lossy(bytes);
    // A text in which something was masked has no length that could be compared.
    let masked = text.contains('\u{ab}');
    out.push(if masked {
        format!("{kind}?")
    } else {
        format!("{kind}{}", bytes.len())
    });
    for line in text.split_inclusive('\n') {
        out.push(escape(line));
    }
    if bytes.is_empty() {
        out.push(String::new());
    }
}

fn escape(text: &str) -> String {
    let mut out = String::new();
    for c in text.chars() {
        match c {
            '\r' => out.push_str("\\r"),
            '\n' => out.push_str("\\n"),
            '\\' => out.push_str("\\\\"),
            c if c.is_control() || c == '\u{fffd}' => out.push_str(&c.escape_unicode().to_string()),
            c => out.push(c),
        }
    }
    out
}

/// A connection that reads whole values, with a bound for each.
#[derive(Debug)]
pub struct Raw {
    stream: TcpStream,
    pending: Vec<u8>,
}

impl Raw {
    /// Uses a stream that is connected already.
    ///
    /// # Errors
    /// When its options cannot be set.
    pub fn over(stream: TcpStream) -> io::Result<Self> {
        stream.set_nodelay(true)?;
        stream.set_write_timeout(Some(Duration::from_secs(10)))?;
        Ok(Self {
            stream,
            pending: Vec::new(),
        })
    }

    /// Sends bytes as they are.
    ///
    /// # Errors
    /// Of the connection.
    pub fn send(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.stream.write_all(bytes)
    }

    /// Waits for one value.
    ///
    /// # Errors
    /// `TimedOut` after `bound`, with what was received so far kept; `UnexpectedEof` at the end of the connection;
    /// `InvalidData` for what is not RESP.
    pub fn read(&mut self, bound: Duration) -> io::Result<Value> {
        let deadline = Instant::now() + bound;
        loop {
            match parse(&self.pending) {
                Ok(Some((value, used))) => {
                    self.pending.drain(..used);
                    return Ok(value);
                }
                Ok(None) if self.pending.len() > LIMIT => {
                    return Err(invalid("a value beyond the limit"));
                }
                Ok(None) => {}
                Err(reason) => return Err(invalid(&reason)),
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Err(io::ErrorKind::TimedOut.into());
            }
            self.stream.set_read_timeout(Some(left))?;
            let mut buffer = [0; 16384];
            match self.stream.read(&mut buffer) {
                Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
                Ok(count) => self.pending.extend_from_slice(&buffer[..count]),
                Err(error)
                    if matches!(
                        error.kind(),
                        io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut
                    ) =>
                {
                    return Err(io::ErrorKind::TimedOut.into());
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
    }
}

fn invalid(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what)
}

#[cfg(test)]
mod tests {
    use super::*;

    const EVERYTHING: &str = "%2\r\n+a\r\n:1\r\n$1\r\nb\r\n*3\r\n$-1\r\n_\r\n=5\r\ntxt:x\r\n";

    #[test]
    fn a_value_is_read_when_it_is_whole_and_not_before() {
        let bytes = EVERYTHING.as_bytes();
        for end in 0..bytes.len() {
            assert_eq!(parse(&bytes[..end]), Ok(None), "{end} bytes");
        }
        let (value, used) = parse(bytes).unwrap().unwrap();
        assert_eq!(used, bytes.len());
        assert_eq!(
            lines(&value),
            ["%2", "+a", ":1", "$1", "b", "*3", "$-1", "_", "=5", "txt:x"]
        );
    }

    #[test]
    fn what_is_no_value_is_an_error() {
        for wire in ["hello\r\n", "\r\n", "$x\r\n", "$1\r\nabc\r\n", "*-2\r\n"] {
            assert!(parse(wire.as_bytes()).is_err(), "{wire:?}");
        }
        let nested = "*1\r\n".repeat(usize::from(DEPTH) + 1);
        assert!(parse(nested.as_bytes()).is_err());
    }

    #[test]
    fn every_byte_of_a_text_is_visible_and_a_masked_one_has_no_length() {
        let shown = |text: &str| lines(&Value::Bulk(text.as_bytes().to_vec()));
        assert_eq!(shown("a:1\r\nb\\\t"), ["$8", "a:1\\r\\n", "b\\\\\\u{9}"]);
        assert_eq!(shown(""), ["$0", ""]);
        assert_eq!(lines(&Value::Line("-ERR x ".to_owned())), ["-ERR x\\x20"]);
        assert_eq!(shown("a:\u{ab}age\u{bb}"), ["$?", "a:\u{ab}age\u{bb}"]);
    }
}
