//! Counting what a part of the stream holds: the measure of the verdict after a split, and the text of a receipt.

use std::collections::BTreeSet;

use super::{Class, Entry, StreamParser, first_key};
use crate::{FrameError, Limits};

/// A bounded sample of the keys touched.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeySample {
    keys: BTreeSet<(Option<u32>, Vec<u8>)>,
    max_keys: usize,
    truncated: bool,
}

/// A longer key is left out of the sample: a receipt is read by people.
const LONGEST_SAMPLED_KEY: usize = 512;

impl KeySample {
    fn new(max_keys: usize) -> Self {
        Self {
            keys: BTreeSet::new(),
            max_keys,
            truncated: false,
        }
    }

    fn add(&mut self, db: Option<u32>, key: &[u8]) {
        let entry = (db, key.to_vec());
        if self.keys.contains(&entry) {
            return;
        }
        if self.keys.len() >= self.max_keys || key.len() > LONGEST_SAMPLED_KEY {
            self.truncated = true;
            return;
        }
        self.keys.insert(entry);
    }

    /// The keys with their databases (`None`: not known), sorted.
    pub fn iter(&self) -> impl Iterator<Item = (Option<u32>, &[u8])> {
        self.keys.iter().map(|(db, key)| (*db, key.as_slice()))
    }

    /// How many keys the sample holds.
    #[must_use]
    pub fn len(&self) -> usize {
        self.keys.len()
    }

    /// Whether the sample holds no key.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.keys.is_empty()
    }

    /// Whether there were keys that the sample does not hold.
    #[must_use]
    pub fn truncated(&self) -> bool {
        self.truncated
    }
}

/// DEL and UNLINK of one key outside of a transaction: clients write them, and so does expiry. A server that nobody
/// wrote to still writes these, so a caller compares them with the growth of `expired_keys` and `evicted_keys`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LoneDeletions {
    /// How many.
    pub commands: u64,
    /// Their bytes, contained in [`Summary::client_bytes`].
    pub bytes: u64,
}

/// What a part of the stream holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Summary {
    /// Data commands.
    pub commands: u64,
    /// Bytes of data commands.
    pub client_bytes: u64,
    /// Those that may have been expiry or eviction.
    pub lone_deletions: LoneDeletions,
    /// First keys of data commands.
    pub keys: KeySample,
    /// Data commands before the first SELECT, whose database the stream does not name.
    pub commands_in_unknown_db: u64,
}

impl Summary {
    /// Nothing yet; at most `max_keys` keys will be sampled.
    #[must_use]
    pub fn new(max_keys: usize) -> Self {
        Self {
            commands: 0,
            client_bytes: 0,
            lone_deletions: LoneDeletions::default(),
            keys: KeySample::new(max_keys),
            commands_in_unknown_db: 0,
        }
    }

    /// Counts one entry; `buf` is the slice it was parsed from.
    pub fn add(&mut self, entry: &Entry, buf: &[u8]) {
        match entry.class {
            Class::Bookkeeping => return,
            Class::Data => {}
        }
        let bytes = entry.end - entry.start;
        let name = entry.arg(0, buf).unwrap_or_default();
        self.commands += 1;
        self.client_bytes += bytes;
        self.commands_in_unknown_db += u64::from(entry.db.is_none());
        let deletion = name.eq_ignore_ascii_case(b"DEL") || name.eq_ignore_ascii_case(b"UNLINK");
        if deletion && entry.argv.len() == 2 && entry.grouping == super::Grouping::Alone {
            self.lone_deletions.commands += 1;
            self.lone_deletions.bytes += bytes;
        }
        if let Some(key) = first_key(name, entry.argv.len()).and_then(|index| entry.arg(index, buf))
        {
            self.keys.add(entry.db, key);
        }
    }
}

/// Counts the complete commands of a part of the stream; a command cut off at its end is not counted.
///
/// # Errors
/// As [`StreamParser::next_entry`].
pub fn summarize(stream: &[u8], max_keys: usize) -> Result<Summary, FrameError> {
    let mut parser = StreamParser::new(0, Limits::default());
    let mut summary = Summary::new(max_keys);
    let mut rest = stream;
    while let Some(entry) = parser.next_entry(rest)? {
        summary.add(&entry, rest);
        rest = &rest[entry.len..];
    }
    Ok(summary)
}

/// Bytes of data commands only: a side's weight in the verdict after a split.
///
/// # Errors
/// As [`StreamParser::next_entry`].
pub fn client_bytes(stream: &[u8]) -> Result<u64, FrameError> {
    summarize(stream, 0).map(|summary| summary.client_bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::encode_command;

    fn stream(commands: &[&[&str]]) -> Vec<u8> {
        let mut out = Vec::new();
        for command in commands {
            encode_command(command, &mut out);
        }
        out
    }

    #[test]
    fn bookkeeping_weighs_nothing() {
        let idle = stream(&[&["PING"], &["SELECT", "0"], &["REPLCONF", "GETACK", "*"]]);
        assert_eq!(client_bytes(&idle), Ok(0));
        let set = stream(&[&["SET", "k", "v"]]);
        let both = [idle.clone(), set.clone(), idle].concat();
        assert_eq!(client_bytes(&both), Ok(set.len() as u64));
    }

    #[test]
    fn a_command_cut_off_is_not_counted() {
        let whole = stream(&[&["SET", "k", "v"]]);
        for cut in 0..whole.len() {
            assert_eq!(client_bytes(&whole[..cut]), Ok(0));
        }
    }

    #[test]
    fn deletions_that_may_be_expiry_are_counted_apart() {
        let all = stream(&[
            &["DEL", "a"],
            &["UNLINK", "b"],
            &["DEL", "c", "d"],
            &["MULTI"],
            &["DEL", "e"],
            &["EXEC"],
        ]);
        let summary = summarize(&all, 10).unwrap();
        assert_eq!(summary.commands, 6);
        assert_eq!(summary.lone_deletions.commands, 2);
        assert_eq!(
            summary.lone_deletions.bytes,
            stream(&[&["DEL", "a"], &["UNLINK", "b"]]).len() as u64
        );
    }

    #[test]
    fn the_sample_is_bounded_and_says_so() {
        let all = stream(&[
            &["SET", "a", "1"],
            &["SELECT", "1"],
            &["SET", "a", "1"],
            &["SET", "a", "2"],
            &["SET", "b", "1"],
        ]);
        let summary = summarize(&all, 2).unwrap();
        assert_eq!(summary.commands_in_unknown_db, 1);
        assert!(summary.keys.truncated());
        let keys: Vec<_> = summary.keys.iter().collect();
        assert_eq!(keys, [(None, &b"a"[..]), (Some(1), &b"a"[..])]);
        assert!(!summarize(&all, 3).unwrap().keys.truncated());
    }
}
