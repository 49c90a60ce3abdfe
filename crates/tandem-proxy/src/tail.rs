//! What of a dead primary's history the new one has: which keys were touched after an offset, and up to where.
//!
//! A new primary serves the end of the history that it shares with the old one as it would to a replica (`PSYNC`). From
//! that it follows which of the writes that a connection left unanswered cannot be part of it: those none of whose keys
//! occur there. What cannot be told counts as touched: a command without keys, one that nobody knows, a script, whose
//! keys are not all declared, and whatever reaches over to another database.
//!
//! Here nothing is read and nobody is asked: the shell reads ([`Reader`] is fed by it), the core decides
//! ([`Tail::touches`]).

use std::collections::BTreeMap;
use std::fmt;

use tandem_resp::Limits;
use tandem_resp::stream::{Class, Entry, StreamParser};

use crate::command::{self, Args, KeyList, Route};
use crate::settings::Address;

/// Bytes of history that are looked at; after more of it nothing is known.
pub const MOST: u64 = 4 * 1024 * 1024;

/// The history of one server up to its promotion, to be read from it.
#[derive(Clone, PartialEq, Eq)]
pub struct Question {
    /// The new primary.
    pub primary: Address,
    /// What AUTH is to be told: a password, or a user and one; nothing if there is none.
    pub login: Vec<Vec<u8>>,
    /// The history that it has to be a continuation of.
    pub parent: String,
    /// What is asked for begins after this offset.
    pub from: u64,
    /// Where it left the old history: what is asked for ends here.
    pub to: u64,
}

impl fmt::Debug for Question {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            primary,
            parent,
            from,
            to,
            ..
        } = self;
        write!(out, "Question({primary:?}, {parent}, {from}..{to})")
    }
}

/// What was touched in a part of a history.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tail {
    /// Of each key of each database, the offset after the last command with it. Without a database: it may be any.
    keys: BTreeMap<Option<u32>, BTreeMap<Box<[u8]>, u64>>,
    /// The offset after the last command that may have touched any key.
    anything: u64,
    /// The offset after the last command that was not the server's own.
    last: u64,
    from: u64,
}

impl Tail {
    /// Whether a command after `offset` may have touched this key of this database.
    #[must_use]
    pub fn touches(&self, database: u32, key: &[u8], offset: u64) -> bool {
        let named = |database| Some(*self.keys.get(&database)?.get(key)? > offset);
        offset < self.from
            || self.anything > offset
            || named(Some(database)) == Some(true)
            || named(None) == Some(true)
    }

    /// Whether there is any command after `offset`.
    #[must_use]
    pub fn has_any(&self, offset: u64) -> bool {
        offset < self.from || self.last > offset
    }
}

/// Takes a history in pieces.
#[derive(Debug)]
pub struct Reader {
    parser: StreamParser,
    to: u64,
    tail: Tail,
    list: KeyList,
}

/// Why a history says nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Unreadable {
    /// No sequence of commands: the offset asked for was between none.
    #[error("what came is no history of commands")]
    NoCommands,
    /// A command reaches over the end.
    #[error("its end is inside a command")]
    NotItsEnd,
}

struct Words<'a> {
    entry: &'a Entry,
    bytes: &'a [u8],
}

impl Args for Words<'_> {
    fn count(&self) -> usize {
        self.entry.argv.len()
    }

    fn arg(&self, at: usize) -> &[u8] {
        self.entry.arg(at, self.bytes).unwrap_or_default()
    }
}

impl Reader {
    /// For what `question` asks.
    #[must_use]
    pub fn new(question: &Question) -> Self {
        let limits = Limits {
            max_bulk: MOST as usize,
            max_frame: MOST as usize,
            ..Limits::default()
        };
        Self {
            parser: StreamParser::new(question.from, limits),
            to: question.to,
            tail: Tail {
                keys: BTreeMap::new(),
                anything: 0,
                last: 0,
                from: question.from,
            },
            list: KeyList::default(),
        }
    }

    /// Whether all of it was taken.
    #[must_use]
    pub fn is_complete(&self) -> bool {
        self.parser.offset() >= self.to
    }

    /// Takes the whole commands at the start of `bytes`, up to the end of what was asked for; how many bytes that were.
    ///
    /// # Errors
    /// It is not what was asked for.
    pub fn take(&mut self, bytes: &[u8]) -> Result<usize, Unreadable> {
        let mut taken = 0;
        while !self.is_complete() {
            let rest = &bytes[taken..];
            match self.parser.next_entry(rest) {
                Ok(Some(entry)) => {
                    self.add(&entry, rest);
                    taken += entry.len;
                }
                Ok(None) => break,
                Err(_) => return Err(Unreadable::NoCommands),
            }
        }
        if self.parser.offset() > self.to {
            return Err(Unreadable::NotItsEnd);
        }
        Ok(taken)
    }

    /// What was touched.
    #[must_use]
    pub fn finish(self) -> Tail {
        self.tail
    }

    fn add(&mut self, entry: &Entry, bytes: &[u8]) {
        let words = Words { entry, bytes };
        let name = words.arg(0);
        let frames = name.eq_ignore_ascii_case(b"MULTI") || name.eq_ignore_ascii_case(b"EXEC");
        if entry.class == Class::Bookkeeping || frames {
            return;
        }
        self.tail.last = entry.end;
        let command = command::resolve(&words).filter(|command| command.takes(words.count()));
        if command.is_some_and(|command| matches!(command.route, Route::PubSub(_))) {
            return;
        }
        let keyed = command.filter(|command| !matches!(command.route, Route::Script));
        let found =
            keyed.is_some_and(|command| command::keys(command, &words, &mut self.list).is_ok());
        if !found || self.list.keys().is_empty() {
            self.tail.anything = entry.end;
            return;
        }
        // MOVE and COPY reach into another database.
        let reaches = name.eq_ignore_ascii_case(b"MOVE") || name.eq_ignore_ascii_case(b"COPY");
        let database = entry.db.filter(|_| !reaches);
        let keys = self.tail.keys.entry(database).or_default();
        for key in self.list.keys() {
            let key = words.arg(key.at as usize);
            match keys.get_mut(key) {
                Some(last) => *last = entry.end,
                None => {
                    keys.insert(key.into(), entry.end);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn question(to: u64) -> Question {
        Question {
            primary: Address::Tcp {
                host: "127.0.0.1".to_owned(),
                port: 1,
            },
            login: Vec::new(),
            parent: "a".repeat(40),
            from: 1000,
            to,
        }
    }

    /// Commands, the offset after each, and what is known of them together.
    fn read(commands: &[&str]) -> (Vec<u64>, Tail) {
        let mut bytes = Vec::new();
        let mut ends = Vec::new();
        for command in commands {
            let words: Vec<&str> = command.split(' ').collect();
            tandem_resp::encode_command(&words, &mut bytes);
            ends.push(1000 + bytes.len() as u64);
        }
        let mut reader = Reader::new(&question(1000 + bytes.len() as u64));
        // What the new primary did by itself follows, and does not count.
        let end = bytes.len();
        bytes.extend_from_slice(b"*1\r\n$8\r\nFLUSHALL\r\n");
        assert_eq!(reader.take(&bytes), Ok(end));
        assert!(reader.is_complete());
        (ends, reader.finish())
    }

    #[test]
    fn a_key_counts_after_the_offset_before_its_command() {
        let (ends, tail) = read(&["SET a 1", "PING", "RPUSH b 1 2", "INCR a"]);
        assert!(tail.touches(0, b"a", 1000) && tail.touches(0, b"a", ends[2]));
        assert!(!tail.touches(0, b"a", ends[3]));
        assert!(tail.touches(0, b"b", ends[0]) && !tail.touches(0, b"b", ends[2]));
        assert!(!tail.touches(0, b"c", 1000));
        assert!(
            tail.touches(0, b"c", 999),
            "of what was not asked for nothing is known"
        );
        assert!(tail.has_any(ends[2]) && !tail.has_any(ends[3]));
    }

    #[test]
    fn what_has_no_keys_or_hides_them_touches_every_key() {
        for command in [
            "FLUSHALL",
            "FLUSHDB ASYNC",
            "SWAPDB 0 1",
            "FUNCTION FLUSH",
            "SCRIPT LOAD x",
            "EVAL x 1 a",
            "FCALL f 1 a",
            "my.module.add a 1",
            "SET a",
        ] {
            let (ends, tail) = read(&["SET z 1", command, "SET y 1"]);
            assert!(tail.touches(0, b"key", ends[0]), "{command}");
            assert!(!tail.touches(0, b"key", ends[1]), "{command}");
        }
    }

    #[test]
    fn bookkeeping_touches_nothing_and_a_message_no_key() {
        let (_, tail) = read(&["PING", "SELECT 0", "REPLCONF GETACK *", "MULTI", "EXEC"]);
        assert!(!tail.has_any(1000) && !tail.touches(0, b"a", 1000));
        let (_, tail) = read(&["PUBLISH a m"]);
        assert!(tail.has_any(1000) && !tail.touches(0, b"a", 1000));
    }

    #[test]
    fn every_database_counts_until_one_is_named_and_then_that_one() {
        let (_, tail) = read(&[
            "SET a 1",
            "SELECT 3",
            "SET b 1",
            "MOVE c 0",
            "COPY d d DB 0",
            "SELECT 0",
            "SET e 1",
        ]);
        let touched: Vec<bool> = [b"a", b"b", b"c", b"d", b"e"]
            .iter()
            .map(|key| tail.touches(0, &key[..], 1000))
            .collect();
        assert_eq!(touched, [true, false, true, true, true]);
        assert!(tail.touches(3, b"a", 1000) && tail.touches(3, b"b", 1000));
        assert!(!tail.touches(3, b"e", 1000));
    }

    #[test]
    fn both_keys_of_a_move_count_and_those_inside_a_transaction() {
        let (_, tail) = read(&["MULTI", "LMOVE a b LEFT RIGHT", "EXEC"]);
        assert!(tail.touches(0, b"a", 1000) && tail.touches(0, b"b", 1000));
    }

    #[test]
    fn an_end_inside_a_command_and_bytes_that_are_none_say_nothing() {
        let mut bytes = Vec::new();
        tandem_resp::encode_command(&["SET", "a", "1"], &mut bytes);
        let inside = 1000 + bytes.len() as u64 - 1;
        let mut reader = Reader::new(&question(inside));
        assert_eq!(reader.take(&bytes), Err(Unreadable::NotItsEnd));
        let mut reader = Reader::new(&question(2000));
        assert_eq!(reader.take(b"SET a 1\r\n"), Err(Unreadable::NoCommands));
    }
}
