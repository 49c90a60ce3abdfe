//! What is due when: one moment for each link, each group and each chore.
//!
//! A moment may be set too early but never too late: whoever is woken looks at everything it has to do, does what is
//! due, and says when it wants to be woken next. So a PONG does not have to move anything here, and a change costs one
//! look-up in an ordered set, however many groups there are.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Instant;

use crate::sentinel::model::{GroupId, LinkId};

/// Who is to be woken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Key {
    /// A link: connections, periodic commands, silence.
    Link(LinkId),
    /// A group: opinions, elections, failovers.
    Group(GroupId),
    /// A state that is not on disk yet.
    Save,
    /// The end of a stall's handling.
    Stall,
    /// Scripts that wait or run.
    Scripts,
}

/// The moments, earliest first.
#[derive(Debug, Default)]
pub(super) struct Due {
    queue: BTreeSet<(Instant, Key)>,
    at: BTreeMap<Key, Instant>,
}

impl Due {
    /// Wakes `key` at this moment and not before.
    pub(super) fn set(&mut self, key: Key, at: Instant) {
        match self.at.insert(key, at) {
            Some(old) if old == at => return,
            Some(old) => {
                self.queue.remove(&(old, key));
            }
            None => {}
        }
        self.queue.insert((at, key));
    }

    /// Wakes `key` at this moment at the latest.
    pub(super) fn by(&mut self, key: Key, at: Instant) {
        if self.at.get(&key).is_none_or(|set| at < *set) {
            self.set(key, at);
        }
    }

    /// Does not wake `key` any more.
    pub(super) fn forget(&mut self, key: Key) {
        if let Some(at) = self.at.remove(&key) {
            self.queue.remove(&(at, key));
        }
    }

    /// Takes the earliest whose moment has come.
    pub(super) fn pop(&mut self, now: Instant) -> Option<Key> {
        let (at, key) = *self.queue.first()?;
        if at > now {
            return None;
        }
        self.forget(key);
        Some(key)
    }

    /// The earliest moment.
    pub(super) fn next(&self) -> Option<Instant> {
        self.queue.first().map(|(at, _)| *at)
    }
}

/// The earlier of two moments, where `None` is never.
pub(super) fn earlier(one: Option<Instant>, other: Option<Instant>) -> Option<Instant> {
    match (one, other) {
        (Some(one), Some(other)) => Some(one.min(other)),
        (Some(only), None) | (None, Some(only)) => Some(only),
        (None, None) => None,
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::testing::origin;

    #[test]
    fn the_earliest_comes_first_and_only_once() {
        let start = origin();
        let at = |ms| start + Duration::from_millis(ms);
        let (one, two) = (Key::Link(LinkId(1)), Key::Group(GroupId(2)));
        let mut due = Due::default();
        due.set(one, at(20));
        due.set(two, at(10));
        due.by(one, at(30));
        due.by(one, at(5));
        assert_eq!(due.next(), Some(at(5)));
        assert_eq!(due.pop(at(4)), None);
        assert_eq!(due.pop(at(10)), Some(one));
        assert_eq!(due.pop(at(10)), Some(two));
        assert_eq!(due.pop(at(100)), None);
        assert_eq!(due.next(), None);
    }

    #[test]
    fn a_later_moment_replaces_the_one_before() {
        let start = origin();
        let later = start + Duration::from_secs(1);
        let mut due = Due::default();
        due.set(Key::Save, start);
        due.set(Key::Save, later);
        assert_eq!(due.pop(start), None);
        assert_eq!(due.next(), Some(later));
        due.forget(Key::Save);
        assert_eq!(due.next(), None);
    }
}
