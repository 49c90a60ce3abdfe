//! The replication stream: what a connection yields after `PSYNC` was answered `+CONTINUE`.
//!
//! The stream is a sequence of commands in request form. Its bytes are what `master_repl_offset` counts, so a command's
//! place in the history of a server is exact: the byte after offset `n` is asked for with `PSYNC <replid> <n + 1>`.
//! PING, SELECT and `REPLCONF GETACK` count like any other command. A bare line feed between commands does not: a server sends it
//! outside of its backlog, to keep a waiting replica from giving up (`replicationCron`: "no effect in the offset").
//!
//! This module says who wrote a command (a client, or the server for its own needs), in which database it works, and
//! whether it is part of a transaction. It does not say whether a command matters to anyone, with one hint: a
//! [lone deletion](Summary::lone_deletions) may be the server's own expiry, which a stream cannot tell from a client's DEL.
//!
//! The one surprising thing: a stream taken up in the middle need not begin with SELECT, so its first commands
//! may be in an unknown database.

mod keys;
mod summary;

use std::ops::Range;

pub use keys::first_key;
pub use summary::{KeySample, LoneDeletions, Summary, client_bytes, summarize};

use crate::{Argv, ErrorKind, FrameError, Limits, RequestParser};

/// The channel on which Sentinels tell each other what they know.
const SENTINEL_HELLO: &[u8] = b"__sentinel__:hello";

/// Who wrote a command into the stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Class {
    /// The server, for the sake of replication: PING, SELECT, REPLCONF GETACK. Or a Sentinel that says hello on it.
    Bookkeeping,
    /// A client, or the server on behalf of its data (expiry, eviction).
    Data,
}

/// How a command stands to a transaction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Grouping {
    /// Outside.
    Alone,
    /// The MULTI that opens it.
    Opens,
    /// Between MULTI and EXEC: applied only if EXEC arrives as well.
    Inside,
    /// The EXEC that closes it.
    Closes,
}

/// One command of the stream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// The arguments, the name first, relative to the slice that was parsed.
    pub argv: Vec<Range<usize>>,
    /// Bytes to drop from the buffer afterwards; more than `end - start` by the line feeds before the command.
    pub len: usize,
    /// Replication offset before the command.
    pub start: u64,
    /// Replication offset after it: `master_repl_offset` when the server had just written it.
    pub end: u64,
    /// Who wrote it.
    pub class: Class,
    /// The database it works in (for SELECT: the one it selects); `None` until the first SELECT.
    pub db: Option<u32>,
    /// Its place in a transaction.
    pub grouping: Grouping,
}

impl Entry {
    /// The argument at `index`; `buf` is the slice that was parsed.
    #[must_use]
    pub fn arg<'a>(&self, index: usize, buf: &'a [u8]) -> Option<&'a [u8]> {
        buf.get(self.argv.get(index)?.clone())
    }
}

/// An incremental parser of the replication stream; used as [`RequestParser`] is.
#[derive(Debug)]
pub struct StreamParser {
    requests: RequestParser,
    offset: u64,
    /// Line feeds before the command in progress.
    newlines: usize,
    db: Option<u32>,
    in_transaction: bool,
    failed: Option<FrameError>,
    /// Bytes of the connection before the command in progress, for errors.
    base: u64,
}

impl StreamParser {
    /// A parser of a stream whose first byte follows `offset`: one less than the offset that PSYNC named.
    #[must_use]
    pub fn new(offset: u64, limits: Limits) -> Self {
        Self::in_db(offset, None, limits)
    }

    /// As [`new`](Self::new), for a stream that is known to begin in a database.
    #[must_use]
    pub fn in_db(offset: u64, db: Option<u32>, limits: Limits) -> Self {
        Self {
            requests: RequestParser::new(limits),
            offset,
            newlines: 0,
            db,
            in_transaction: false,
            failed: None,
            base: 0,
        }
    }

    /// The replication offset after the last complete command.
    #[must_use]
    pub fn offset(&self) -> u64 {
        self.offset
    }

    /// Whether a MULTI is waiting for its EXEC.
    #[must_use]
    pub fn in_transaction(&self) -> bool {
        self.in_transaction
    }

    /// The next command; `buf` begins after the last one's `len` bytes.
    ///
    /// # Errors
    /// Bytes that are no command in request form. Redis itself never sends such: the offset was not at a command's
    /// boundary, or the other side is no server.
    pub fn next_entry(&mut self, buf: &[u8]) -> Result<Option<Entry>, FrameError> {
        if let Some(error) = self.failed {
            return Err(error);
        }
        let fresh = buf.get(self.newlines..).unwrap_or_default();
        // Line feeds are skipped only in front of a command: within one, its first byte is not a line feed.
        let more = fresh.iter().take_while(|&&byte| byte == b'\n').count();
        self.newlines += more;
        let skip = self.newlines;
        let rest = buf.get(skip..).unwrap_or_default();
        match rest.first() {
            None => return Ok(None),
            Some(b'*') => {}
            // A server never sends its replica an inline command.
            Some(&other) => {
                let error = FrameError {
                    kind: ErrorKind::UnknownType(other),
                    offset: self.base + skip as u64,
                };
                self.failed = Some(error);
                return Err(error);
            }
        }
        let request = match self.requests.parse(rest) {
            Ok(Some(request)) => request,
            Ok(None) => return Ok(None),
            // The inner parser does not count the line feeds.
            Err(error) => {
                let inside = error.offset - self.requests.base();
                let error = FrameError {
                    kind: error.kind,
                    offset: self.base + skip as u64 + inside,
                };
                self.failed = Some(error);
                return Err(error);
            }
        };
        let ranges = match request.argv {
            Argv::Ranges(ranges) => ranges,
            // Unreachable by the check of the first byte; an empty command says the same.
            Argv::Inline(_) => Vec::new(),
        };
        let argv: Vec<_> = ranges
            .into_iter()
            .map(|range| range.start + skip..range.end + skip)
            .collect();
        let start = self.offset;
        self.offset += request.len as u64;
        self.newlines = 0;
        self.base += (skip + request.len) as u64;
        Ok(Some(self.classify(argv, buf, skip + request.len, start)))
    }

    fn classify(&mut self, argv: Vec<Range<usize>>, buf: &[u8], len: usize, start: u64) -> Entry {
        let arg = |index: usize| -> &[u8] {
            argv.get(index)
                .and_then(|range| buf.get(range.clone()))
                .unwrap_or_default()
        };
        let name = arg(0);
        let is = |word: &str| name.eq_ignore_ascii_case(word.as_bytes());
        let grouping = if is("MULTI") && !self.in_transaction {
            self.in_transaction = true;
            Grouping::Opens
        } else if is("EXEC") && self.in_transaction {
            self.in_transaction = false;
            Grouping::Closes
        } else if self.in_transaction {
            Grouping::Inside
        } else {
            Grouping::Alone
        };
        if is("SELECT") {
            self.db = std::str::from_utf8(arg(1))
                .ok()
                .and_then(|db| db.parse().ok());
        }
        // Every Sentinel publishes it on every server every two seconds, and a PUBLISH is part of the history. Counted as
        // data, a primary that nobody wrote to would hold something of its own.
        let hello = is("PUBLISH") && arg(1) == SENTINEL_HELLO;
        let getack = is("REPLCONF") && arg(1).eq_ignore_ascii_case(b"GETACK");
        // `*0` and `*-1` write nothing either; no server sends them.
        let class = if is("PING") || is("SELECT") || getack || hello || argv.is_empty() {
            Class::Bookkeeping
        } else {
            Class::Data
        };
        Entry {
            argv,
            len,
            start,
            end: self.offset,
            class,
            db: self.db,
            grouping,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::encode_command;

    fn bytes(commands: &[&[&str]]) -> Vec<u8> {
        let mut out = Vec::new();
        for command in commands {
            encode_command(command, &mut out);
        }
        out
    }

    fn entries(stream: &[u8], offset: u64) -> Vec<Entry> {
        let mut parser = StreamParser::new(offset, Limits::default());
        let mut rest = stream;
        let mut all = Vec::new();
        while let Some(entry) = parser.next_entry(rest).unwrap() {
            rest = &rest[entry.len..];
            all.push(entry);
        }
        all
    }

    #[test]
    fn classes_databases_and_transactions() {
        use Class::{Bookkeeping, Data};
        use Grouping::{Alone, Closes, Inside, Opens};
        let story: &[(&[&str], Class, Option<u32>, Grouping)] = &[
            (&["SET", "k", "v"], Data, None, Alone),
            (&["SELECT", "3"], Bookkeeping, Some(3), Alone),
            (&["PING"], Bookkeeping, Some(3), Alone),
            (&["replconf", "getack", "*"], Bookkeeping, Some(3), Alone),
            (&["MULTI"], Data, Some(3), Opens),
            (&["INCR", "n"], Data, Some(3), Inside),
            (&["SELECT", "0"], Bookkeeping, Some(0), Inside),
            (&["EXEC"], Data, Some(0), Closes),
            (&["EXEC"], Data, Some(0), Alone),
            (&["PUBLISH", "c", "PING"], Data, Some(0), Alone),
            (
                &["PUBLISH", "__sentinel__:hello", "10.0.0.7,26379"],
                Bookkeeping,
                Some(0),
                Alone,
            ),
        ];
        let commands: Vec<_> = story.iter().map(|step| step.0).collect();
        let stream = bytes(&commands);
        let seen: Vec<_> = entries(&stream, 0)
            .into_iter()
            .map(|entry| (entry.class, entry.db, entry.grouping))
            .collect();
        let expected: Vec<_> = story.iter().map(|step| (step.1, step.2, step.3)).collect();
        assert_eq!(seen, expected);
    }

    #[test]
    fn offsets_are_byte_counts_without_keep_alives() {
        let ping = bytes(&[&["PING"]]);
        assert_eq!(ping.len(), 14);
        let mut stream = b"\n\n".to_vec();
        stream.extend_from_slice(&ping);
        stream.push(b'\n');
        stream.extend_from_slice(&ping);
        let entries = entries(&stream, 665);
        let places: Vec<_> = entries
            .iter()
            .map(|entry| (entry.start, entry.end, entry.len))
            .collect();
        assert_eq!(places, [(665, 679, 16), (679, 693, 15)]);
    }

    #[test]
    fn arguments_are_found_behind_keep_alives() {
        let mut stream = b"\n".to_vec();
        stream.extend_from_slice(&bytes(&[&["SET", "key", "value"]]));
        let entries = entries(&stream, 0);
        assert_eq!(entries[0].arg(1, &stream), Some(&b"key"[..]));
        assert_eq!(entries[0].arg(3, &stream), None);
    }

    #[test]
    fn an_error_names_the_byte_of_the_connection() {
        let mut stream = bytes(&[&["PING"]]);
        stream.extend_from_slice(b"\n*1\r\n:4\r\n");
        let mut parser = StreamParser::new(1000, Limits::default());
        let entry = parser.next_entry(&stream).unwrap().unwrap();
        let error = parser.next_entry(&stream[entry.len..]).unwrap_err();
        assert_eq!(
            error,
            FrameError {
                kind: ErrorKind::ExpectedBulk(b':'),
                offset: 14 + 1 + 4
            }
        );
        assert_eq!(parser.next_entry(&stream[entry.len..]), Err(error));
    }

    #[test]
    fn an_inline_command_is_refused() {
        let mut parser = StreamParser::new(0, Limits::default());
        let error = parser.next_entry(b"SET k v\r\n").unwrap_err();
        assert_eq!(
            error,
            FrameError {
                kind: ErrorKind::UnknownType(b'S'),
                offset: 0
            }
        );
    }
}
