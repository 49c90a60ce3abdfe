//! How many clients of a pool listen to messages, over all threads.
//!
//! While a primary moves, requests to it wait until every subscriber listens at the next one: a PUBLISH that one thread
//! sent before another thread's subscribers had moved would be missed by them.

use std::sync::atomic::{AtomicUsize, Ordering};

/// The subscribers of each server of a pool.
#[derive(Debug)]
pub struct Subscribers(Vec<One>);

#[derive(Debug, Default)]
struct One {
    all: AtomicUsize,
    away: AtomicUsize,
}

impl Subscribers {
    /// None yet, of so many servers.
    #[must_use]
    pub fn new(servers: usize) -> Self {
        Self((0..servers).map(|_| One::default()).collect())
    }

    /// One more, or one less.
    pub(crate) fn count(&self, server: u32, more: bool) {
        self.0[server as usize].all.change(more);
    }

    /// One of them has lost its server, or listens again, or is no more.
    pub(crate) fn count_away(&self, server: u32, more: bool) {
        self.0[server as usize].away.change(more);
    }

    /// Whether some of them listen nowhere now.
    pub(crate) fn are_away(&self, server: u32) -> bool {
        self.0[server as usize].away.load(Ordering::Acquire) > 0
    }

    /// How many there are.
    #[must_use]
    pub fn of(&self, server: usize) -> usize {
        self.0
            .get(server)
            .map_or(0, |one| one.all.load(Ordering::Relaxed))
    }
}

trait Change {
    fn change(&self, more: bool);
}

impl Change for AtomicUsize {
    fn change(&self, more: bool) {
        if more {
            self.fetch_add(1, Ordering::AcqRel);
        } else {
            let before = self.fetch_sub(1, Ordering::AcqRel);
            debug_assert!(before > 0, "who is taken off was counted");
        }
    }
}
