//! Which arguments of a request are keys, by the key specifications that servers announce.
//!
//! A specification says where a group of keys begins (an index, or after a keyword) and which arguments from there are
//! keys (a range, or as many as an argument says). They are followed as Redis 7.0 follows them (`getKeysUsingKeySpecs`).
//! The few commands of which they do not tell the whole truth have extractors of their own ([`super::extractors`]).

use thiserror::Error;

use super::args::{Args, integer};
use super::flags::NO_MANDATORY_KEYS;
use super::{Command, extractors};

/// A group of keys in a command.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct KeySpec {
    /// Where it begins.
    pub begin: Begin,
    /// What belongs to it.
    pub find: Find,
    /// What happens to these keys.
    pub access: Access,
}

/// Where a group of keys begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Begin {
    /// At this argument.
    Index(u8),
    /// After this word, in any case, searched from argument `from` on; no word, no keys.
    Keyword {
        /// Upper case.
        word: &'static str,
        /// At least 1. From the end if negative.
        from: i8,
    },
}

/// Which arguments from the beginning of a group are keys.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Find {
    /// Up to an argument.
    Range {
        /// Counted from the first key; if negative, from the end of the arguments (-1 is the last).
        last: i8,
        /// From key to key.
        step: u8,
        /// If above 1: only the first one in so many of the remaining arguments are keys.
        limit: u8,
    },
    /// As many as a number says. Positions are relative to the beginning.
    KeyNum {
        /// Where the number is.
        at: u8,
        /// Where the first key is.
        first: u8,
        /// From key to key.
        step: u8,
    },
}

/// What a command does to a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Access {
    /// Not a key but a channel that lives on the shard of its name.
    NotAKey,
    /// Reads it.
    Read,
    /// Reads and changes it.
    ReadWrite,
    /// Writes it whatever it was.
    Overwrite,
    /// Removes it.
    Remove,
}

/// How the table says where a command's keys are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Extractor {
    /// By the specifications alone.
    Specs,
    /// SORT and SORT_RO: patterns of BY and GET, key of STORE.
    Sort,
    /// MIGRATE: one key, or those after KEYS.
    Migrate,
    /// GEORADIUS and GEORADIUSBYMEMBER: the last of STORE and STOREDIST.
    Georadius,
}

/// An argument that is a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Key {
    /// Which argument.
    pub at: u32,
    /// What happens to it.
    pub access: Access,
}

/// The keys of one request. Kept and filled again, it allocates only for more keys than it ever held.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct KeyList {
    keys: Vec<Key>,
    patterns: Vec<u32>,
}

impl KeyList {
    /// The keys, in the order in which Redis names them.
    #[must_use]
    pub fn keys(&self) -> &[Key] {
        &self.keys
    }

    /// Whether the command reads keys too that no argument names, by a pattern (SORT's BY and GET). They can be anywhere.
    #[must_use]
    pub fn has_patterns(&self) -> bool {
        !self.patterns.is_empty()
    }

    /// The arguments that are such patterns.
    #[must_use]
    pub fn patterns(&self) -> &[u32] {
        &self.patterns
    }

    fn clear(&mut self) {
        self.keys.clear();
        self.patterns.clear();
    }

    pub(super) fn push(&mut self, at: usize, access: Access) {
        // A request of 2^32 arguments does not fit into any buffer.
        if let Ok(at) = u32::try_from(at) {
            self.keys.push(Key { at, access });
        }
    }

    pub(super) fn push_pattern(&mut self, at: usize) {
        self.patterns.extend(u32::try_from(at));
    }
}

/// The client's fault: no server would execute this request, and each would say why. So it can be sent to any shard for
/// the sake of the right text.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("the arguments of `{command}` do not say where its keys are")]
pub struct KeyError {
    /// Which command.
    pub command: &'static str,
}

/// Finds the keys of a request; what `found` held before is forgotten.
///
/// The number of arguments has to be right already ([`Command::takes`]).
///
/// # Errors
/// When the arguments contradict themselves: a number of keys that is no number, or more keys than arguments.
pub fn keys<A: Args + ?Sized>(
    command: &Command,
    args: &A,
    found: &mut KeyList,
) -> Result<(), KeyError> {
    found.clear();
    let consistent = match command.extractor {
        Extractor::Specs => by_specs(command, args, found).is_some(),
        Extractor::Sort => {
            extractors::sort(command, args, found);
            true
        }
        Extractor::Migrate => extractors::migrate(args, found),
        Extractor::Georadius => {
            extractors::georadius(command, args, found);
            true
        }
    };
    let may_lack_keys = command.specs.is_empty() || command.flags.has(NO_MANDATORY_KEYS);
    if consistent && (may_lack_keys || !found.keys.is_empty()) {
        return Ok(());
    }
    found.clear();
    Err(KeyError {
        command: command.name,
    })
}

fn by_specs<A: Args + ?Sized>(command: &Command, args: &A, found: &mut KeyList) -> Option<()> {
    for spec in command.specs {
        let first = match spec.begin {
            Begin::Index(at) => usize::from(at),
            Begin::Keyword { word, from } => match after(args, word, from) {
                Some(first) => first,
                None => continue,
            },
        };
        let (first, last, step) = match spec.find {
            Find::Range { last, step, limit } => {
                (first, range_end(args.count(), first, last, limit)?, step)
            }
            Find::KeyNum {
                at,
                first: offset,
                step,
            } => {
                let at = first + usize::from(at);
                if at >= args.count() {
                    return None;
                }
                let number = usize::try_from(integer(args.arg(at))?).ok()?;
                if number == 0 && command.flags.has(NO_MANDATORY_KEYS) {
                    continue;
                }
                let first = first + usize::from(offset);
                let last = number
                    .checked_sub(1)?
                    .checked_mul(usize::from(step))?
                    .checked_add(first)?;
                (first, last, step)
            }
        };
        if last < first || last >= args.count() {
            return None;
        }
        for at in (first..=last).step_by(usize::from(step).max(1)) {
            found.push(at, spec.access);
        }
    }
    Some(())
}

/// The argument after `word`. As in Redis the last argument is not looked at: nothing could follow it.
fn after<A: Args + ?Sized>(args: &A, word: &str, from: i8) -> Option<usize> {
    let is_word = |&at: &usize| args.arg(at).eq_ignore_ascii_case(word.as_bytes());
    let offset = usize::from(from.unsigned_abs());
    if from > 0 {
        (offset..args.count().saturating_sub(1)).find(is_word)
    } else {
        let from = args.count().checked_sub(offset)?;
        (2..=from).rev().find(is_word)
    }
    .map(|at| at + 1)
}

/// The last key of a range; before the first one when there is none.
fn range_end(count: usize, first: usize, last: i8, limit: u8) -> Option<usize> {
    let offset = usize::from(last.unsigned_abs());
    if last >= 0 {
        return first.checked_add(offset);
    }
    if limit > 1 {
        let share = count.checked_sub(first)? / usize::from(limit);
        return (first + share).checked_sub(offset);
    }
    count.checked_sub(offset)
}
