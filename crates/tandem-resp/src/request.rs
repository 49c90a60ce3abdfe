//! Requests: what a server reads. An array of bulk strings, or one inline line (`networking.c`, `processInlineBuffer`
//! and `processMultibulkBuffer`).

use std::ops::Range;

use crate::line::{self, LineScan};
use crate::{ErrorKind, FrameError, Limits, split_inline};

/// The arguments of a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Argv {
    /// Byte ranges relative to the start of the request.
    Ranges(Vec<Range<usize>>),
    /// Copies: an inline command's quotes had to be taken off.
    Inline(Vec<Vec<u8>>),
}

/// One complete request. An empty one (a bare newline, `*0`, `*-1`) is not answered, as in Redis.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request {
    /// Bytes to drop from the buffer afterwards.
    pub len: usize,
    /// The arguments, the command's name first.
    pub argv: Argv,
}

impl Request {
    /// How many arguments, the name included.
    #[must_use]
    pub fn arg_count(&self) -> usize {
        match &self.argv {
            Argv::Ranges(ranges) => ranges.len(),
            Argv::Inline(args) => args.len(),
        }
    }

    /// The argument at `index`; `buf` is the slice that was parsed.
    #[must_use]
    pub fn arg<'a>(&'a self, index: usize, buf: &'a [u8]) -> Option<&'a [u8]> {
        match &self.argv {
            Argv::Ranges(ranges) => buf.get(ranges.get(index)?.clone()),
            Argv::Inline(args) => args.get(index).map(Vec::as_slice),
        }
    }

    /// All arguments, owned.
    #[must_use]
    pub fn to_args(&self, buf: &[u8]) -> Vec<Vec<u8>> {
        (0..self.arg_count())
            .filter_map(|index| self.arg(index, buf))
            .map(<[u8]>::to_vec)
            .collect()
    }
}

#[derive(Clone, Copy, Debug)]
enum State {
    /// Before the first byte.
    Start,
    /// In a line without a type.
    Inline,
    /// After `*`, in the number of arguments.
    Count,
    /// At an argument's header, with so many arguments to come.
    Header { remaining: usize },
    /// In an argument that ends there.
    Body { end: usize, remaining: usize },
}

/// An incremental parser of requests; used as [`ReplyParser`](crate::ReplyParser) is.
#[derive(Debug)]
pub struct RequestParser {
    limits: Limits,
    base: u64,
    pos: usize,
    scan: LineScan,
    state: State,
    args: Vec<Range<usize>>,
    failed: Option<FrameError>,
}

impl RequestParser {
    /// A parser at the start of a connection.
    #[must_use]
    pub fn new(limits: Limits) -> Self {
        Self {
            limits,
            base: 0,
            pos: 0,
            scan: LineScan::default(),
            state: State::Start,
            args: Vec::new(),
            failed: None,
        }
    }

    /// Other limits from the next request on: what a stranger may send grows when it has authenticated.
    pub fn set_limits(&mut self, limits: Limits) {
        self.limits = limits;
    }

    /// Looks at the bytes that are new since the last call; `buf` begins at the request in progress.
    ///
    /// # Errors
    /// The first thing that is wrong; the same error again on every later call.
    pub fn parse(&mut self, buf: &[u8]) -> Result<Option<Request>, FrameError> {
        if let Some(error) = self.failed {
            return Err(error);
        }
        match self.advance(buf) {
            Ok(None) => Ok(None),
            Ok(Some(argv)) => {
                let len = self.pos;
                self.base += len as u64;
                self.pos = 0;
                self.state = State::Start;
                Ok(Some(Request { len, argv }))
            }
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

    /// Bytes of all requests before the one in progress.
    pub(crate) fn base(&self) -> u64 {
        self.base
    }

    fn advance(&mut self, buf: &[u8]) -> Result<Option<Argv>, ErrorKind> {
        loop {
            match self.state {
                State::Start => match buf.first() {
                    None => return Ok(None),
                    Some(b'*') => self.state = State::Count,
                    Some(_) => self.state = State::Inline,
                },
                State::Inline => {
                    let Some(line) = self.scan.find(buf, 0, &self.limits)? else {
                        return Ok(None);
                    };
                    let args =
                        split_inline(&buf[..line.end]).map_err(|_| ErrorKind::UnbalancedQuotes)?;
                    if args.len() > self.limits.max_elements {
                        return Err(ErrorKind::TooManyElements);
                    }
                    self.pos = line.next;
                    return Ok(Some(Argv::Inline(args)));
                }
                State::Count => {
                    let Some((count, next)) = self.header(buf)? else {
                        return Ok(None);
                    };
                    let count = count.unwrap_or(0);
                    if count > self.limits.max_elements {
                        return Err(ErrorKind::TooManyElements);
                    }
                    self.pos = next;
                    self.args = Vec::new();
                    if count == 0 {
                        return Ok(Some(Argv::Ranges(Vec::new())));
                    }
                    self.state = State::Header { remaining: count };
                }
                State::Header { remaining } => {
                    match buf.get(self.pos) {
                        None => return Ok(None),
                        Some(b'$') => {}
                        Some(&other) => return Err(ErrorKind::ExpectedBulk(other)),
                    }
                    let Some((length, next)) = self.header(buf)? else {
                        return Ok(None);
                    };
                    let length = length.ok_or(ErrorKind::NegativeLength)?;
                    if length > self.limits.max_bulk {
                        return Err(ErrorKind::BulkTooLong);
                    }
                    let end = next.saturating_add(length);
                    if end.saturating_add(2) > self.limits.max_frame {
                        return Err(ErrorKind::FrameTooLong);
                    }
                    self.pos = next;
                    self.state = State::Body { end, remaining };
                }
                State::Body { end, remaining } => {
                    let Some(terminator) = buf.get(end..end + 2) else {
                        return Ok(None);
                    };
                    if terminator != b"\r\n" {
                        return Err(ErrorKind::MissingTerminator);
                    }
                    self.args.push(self.pos..end);
                    self.pos = end + 2;
                    if remaining == 1 {
                        return Ok(Some(Argv::Ranges(std::mem::take(&mut self.args))));
                    }
                    self.state = State::Header {
                        remaining: remaining - 1,
                    };
                }
            }
        }
    }

    /// A line of one mark and a length: the length, and where the next line begins.
    fn header(&mut self, buf: &[u8]) -> Result<Option<(Option<usize>, usize)>, ErrorKind> {
        let start = self.pos + 1;
        let Some(line) = self.scan.find(buf, start, &self.limits)? else {
            return Ok(None);
        };
        if !line.crlf {
            return Err(ErrorKind::MissingCarriageReturn);
        }
        Ok(Some((line::length(&buf[start..line.end])?, line.next)))
    }
}
