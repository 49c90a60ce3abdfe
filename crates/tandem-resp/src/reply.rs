//! Replies: what a client reads. An incremental parser that answers with a flat list of nodes (byte ranges), and a
//! decoder that adds the buffer.
//!
//! A frame is one top-level value together with any RESP3 attributes before it. The nodes are in the order of the
//! wire (an aggregate, then its members), and each says how many nodes its whole subtree takes, so that a reader can skip it.

use std::ops::Range;

use crate::line::{self, Line, LineScan};
use crate::{ErrorKind, FrameError, Limits, Value};

/// What a node is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// `+`; the range is the text.
    Simple,
    /// `-` or RESP3 `!`; the range is the text, the code its first word.
    Error,
    /// `:`; the range is the digits, already checked to fit an `i64`.
    Integer,
    /// `$`; the range is the content.
    Bulk,
    /// `$-1`, `*-1` or `_`; the range is empty.
    Null,
    /// `#t` or `#f`; the range is the letter.
    Boolean,
    /// `,`; the range is the digits, already checked.
    Double,
    /// `(`; the range is the digits, already checked.
    BigNumber,
    /// `=`; the range is the content with its three-letter format and colon.
    Verbatim,
    /// `*`; the range is the whole array, header included.
    Array,
    /// `~`.
    Set,
    /// `>`: not an answer to any command.
    Push,
    /// `%`; the members are keys and values in turn.
    Map,
    /// `|`: describes the value after it and takes no place of its own.
    Attribute,
}

/// One value of a frame.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Node {
    /// What it is.
    pub kind: Kind,
    /// Its bytes, relative to the start of the frame; see [`Kind`].
    pub range: Range<usize>,
    /// How many nodes its subtree takes, itself included.
    pub nodes: usize,
}

#[derive(Clone, Copy, Debug)]
struct Open {
    /// Index of the aggregate's node.
    node: usize,
    /// Members still to come.
    remaining: usize,
}

#[derive(Clone, Copy, Debug)]
struct Body {
    kind: Kind,
    start: usize,
    end: usize,
}

/// An incremental parser of replies.
///
/// Hand [`parse`](Self::parse) a slice that begins at the frame in progress; after `Ok(Some(len))` read
/// [`nodes`](Self::nodes), drop `len` bytes and call again.
#[derive(Debug)]
pub struct ReplyParser {
    limits: Limits,
    /// Bytes of all frames before this one.
    base: u64,
    /// First byte of this frame not yet understood.
    pos: usize,
    scan: LineScan,
    body: Option<Body>,
    stack: Vec<Open>,
    nodes: Vec<Node>,
    done: bool,
    failed: Option<FrameError>,
}

impl ReplyParser {
    /// A parser at the start of a connection.
    #[must_use]
    pub fn new(limits: Limits) -> Self {
        Self {
            limits,
            base: 0,
            pos: 0,
            scan: LineScan::default(),
            body: None,
            stack: Vec::new(),
            nodes: Vec::new(),
            done: false,
            failed: None,
        }
    }

    /// Looks at the bytes that are new since the last call.
    ///
    /// # Returns
    /// The length of the frame in bytes, or `None` if `buf` does not hold it whole.
    ///
    /// # Errors
    /// The first thing that is wrong; the same error again on every later call.
    pub fn parse(&mut self, buf: &[u8]) -> Result<Option<usize>, FrameError> {
        if let Some(error) = self.failed {
            return Err(error);
        }
        if self.done {
            self.base += self.pos as u64;
            self.pos = 0;
            self.nodes.clear();
            self.done = false;
        }
        match self.advance(buf) {
            Ok(true) => {
                self.done = true;
                Ok(Some(self.pos))
            }
            Ok(false) => Ok(None),
            Err(kind) => {
                let error = FrameError {
                    kind,
                    offset: self.base + self.pos as u64,
                };
                self.failed = Some(error);
                Err(error)
            }
        }
    }

    /// The nodes of the frame that [`parse`](Self::parse) has just completed, until it is called again.
    #[must_use]
    pub fn nodes(&self) -> &[Node] {
        &self.nodes
    }

    fn advance(&mut self, buf: &[u8]) -> Result<bool, ErrorKind> {
        loop {
            if let Some(body) = self.body {
                let Some(end) = buf.get(body.end..body.end + 2) else {
                    return Ok(false);
                };
                if end != b"\r\n" {
                    return Err(ErrorKind::MissingTerminator);
                }
                self.body = None;
                self.pos = body.end + 2;
                self.push(body.kind, body.start..body.end);
                if self.close() {
                    return Ok(true);
                }
                continue;
            }
            let Some(&mark) = buf.get(self.pos) else {
                return Ok(false);
            };
            // The type is judged before its line is complete, so that garbage is refused at its first byte.
            if !b"+-:$*_#,(!=%~>|".contains(&mark) {
                return Err(ErrorKind::UnknownType(mark));
            }
            if self.nodes.len() >= self.limits.max_elements {
                return Err(ErrorKind::TooManyElements);
            }
            let Some(line) = self.scan.find(buf, self.pos + 1, &self.limits)? else {
                return Ok(false);
            };
            if !line.crlf {
                return Err(ErrorKind::MissingCarriageReturn);
            }
            if line.next > self.limits.max_frame {
                return Err(ErrorKind::FrameTooLong);
            }
            if self.take_line(mark, buf, &line)? {
                return Ok(true);
            }
        }
    }

    /// Takes one complete line; true if it ended the frame.
    fn take_line(&mut self, mark: u8, buf: &[u8], line: &Line) -> Result<bool, ErrorKind> {
        let range = self.pos + 1..line.end;
        let text = &buf[range.clone()];
        let scalar = match mark {
            b'$' => return self.open_body(Kind::Bulk, text, line),
            b'!' => return self.open_body(Kind::Error, text, line),
            b'=' => return self.open_body(Kind::Verbatim, text, line),
            b'*' => return self.open_aggregate(Kind::Array, 1, text, line),
            b'~' => return self.open_aggregate(Kind::Set, 1, text, line),
            b'>' => return self.open_aggregate(Kind::Push, 1, text, line),
            b'%' => return self.open_aggregate(Kind::Map, 2, text, line),
            b'|' => return self.open_aggregate(Kind::Attribute, 2, text, line),
            b'+' => Kind::Simple,
            b'-' => Kind::Error,
            b':' => {
                parse_text::<i64>(text)?;
                Kind::Integer
            }
            b',' => {
                parse_text::<f64>(text)?;
                Kind::Double
            }
            b'(' => {
                let digits = text.strip_prefix(b"-").unwrap_or(text);
                if digits.is_empty() || !digits.iter().all(u8::is_ascii_digit) {
                    return Err(ErrorKind::BadNumber);
                }
                Kind::BigNumber
            }
            b'#' if matches!(text, b"t" | b"f") => Kind::Boolean,
            b'_' if text.is_empty() => Kind::Null,
            // Only `#` and `_` with a wrong content are left: the caller let no other type through.
            _ => return Err(ErrorKind::BadNumber),
        };
        self.pos = line.next;
        self.push(scalar, range);
        Ok(self.close())
    }

    fn open_body(&mut self, kind: Kind, text: &[u8], line: &Line) -> Result<bool, ErrorKind> {
        let Some(length) = line::length(text)? else {
            // Only a bulk string has a null form.
            if kind != Kind::Bulk {
                return Err(ErrorKind::NegativeLength);
            }
            self.pos = line.next;
            self.push(Kind::Null, line.next..line.next);
            return Ok(self.close());
        };
        if length > self.limits.max_bulk {
            return Err(ErrorKind::BulkTooLong);
        }
        let end = line.next.saturating_add(length);
        if end.saturating_add(2) > self.limits.max_frame {
            return Err(ErrorKind::FrameTooLong);
        }
        self.pos = line.next;
        self.body = Some(Body {
            kind,
            start: line.next,
            end,
        });
        Ok(false)
    }

    fn open_aggregate(
        &mut self,
        kind: Kind,
        per_entry: usize,
        text: &[u8],
        line: &Line,
    ) -> Result<bool, ErrorKind> {
        let Some(entries) = line::length(text)? else {
            if kind != Kind::Array {
                return Err(ErrorKind::NegativeLength);
            }
            self.pos = line.next;
            self.push(Kind::Null, line.next..line.next);
            return Ok(self.close());
        };
        let remaining = entries.saturating_mul(per_entry);
        // What the open aggregates still promise counts as well, less the value in progress of each.
        let promised: usize = self.stack.iter().map(|open| open.remaining - 1).sum();
        let known = self.nodes.len() + 1 + promised;
        if remaining > self.limits.max_elements.saturating_sub(known) {
            return Err(ErrorKind::TooManyElements);
        }
        if self.stack.len() >= self.limits.max_depth {
            return Err(ErrorKind::TooDeep);
        }
        let node = self.push(kind, self.pos..line.next);
        self.pos = line.next;
        if remaining > 0 {
            self.stack.push(Open { node, remaining });
            return Ok(false);
        }
        Ok(kind != Kind::Attribute && self.close())
    }

    fn push(&mut self, kind: Kind, range: Range<usize>) -> usize {
        self.nodes.push(Node {
            kind,
            range,
            nodes: 1,
        });
        self.nodes.len() - 1
    }

    /// A value has just ended: closes the aggregates that it was the last of. True if the frame is whole.
    fn close(&mut self) -> bool {
        loop {
            let Some(top) = self.stack.last_mut() else {
                return true;
            };
            top.remaining -= 1;
            if top.remaining > 0 {
                return false;
            }
            let node = top.node;
            self.stack.pop();
            let count = self.nodes.len() - node;
            let aggregate = &mut self.nodes[node];
            aggregate.nodes = count;
            aggregate.range.end = self.pos;
            // An attribute takes no place: the value that it describes is still to come.
            if aggregate.kind == Kind::Attribute {
                return false;
            }
        }
    }
}

/// Rust reads numbers as RESP3 writes them: an optional sign of either kind, `inf`, `nan`, an exponent.
fn parse_text<T: std::str::FromStr>(text: &[u8]) -> Result<T, ErrorKind> {
    std::str::from_utf8(text)
        .ok()
        .and_then(|text| text.parse().ok())
        .ok_or(ErrorKind::BadNumber)
}

/// A parser with its buffer: bytes in, owned values out. Holds at most one frame and one read.
#[derive(Debug)]
pub struct ReplyDecoder {
    parser: ReplyParser,
    buffer: Vec<u8>,
    /// Bytes at the front that earlier frames took.
    taken: usize,
}

/// A buffer larger than this is given back once it is empty.
const KEEP_CAPACITY: usize = 64 * 1024;

impl ReplyDecoder {
    /// A decoder at the start of a connection.
    #[must_use]
    pub fn new(limits: Limits) -> Self {
        Self {
            parser: ReplyParser::new(limits),
            buffer: Vec::new(),
            taken: 0,
        }
    }

    /// Appends what was read.
    pub fn feed(&mut self, bytes: &[u8]) {
        if self.taken > 0 {
            self.buffer.drain(..self.taken);
            self.taken = 0;
            if self.buffer.is_empty() && self.buffer.capacity() > KEEP_CAPACITY {
                self.buffer.shrink_to(KEEP_CAPACITY);
            }
        }
        self.buffer.extend_from_slice(bytes);
    }

    /// The next complete value, if there is one.
    ///
    /// # Errors
    /// As [`ReplyParser::parse`].
    pub fn next_value(&mut self) -> Result<Option<Value>, FrameError> {
        let buffer = &self.buffer[self.taken..];
        let Some(len) = self.parser.parse(buffer)? else {
            return Ok(None);
        };
        let value = Value::from_nodes(self.parser.nodes(), buffer);
        self.taken += len;
        Ok(Some(value))
    }

    /// Bytes that were read and belong to no complete value yet. What follows a handshake that leaves RESP, such as
    /// an RDB, is taken from here.
    #[must_use]
    pub fn into_rest(mut self) -> Vec<u8> {
        self.buffer.drain(..self.taken);
        self.buffer
    }
}
