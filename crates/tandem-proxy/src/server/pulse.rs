//! Beats: whether every thread still takes its turns.
//!
//! A beat is asked of a thread by its waker and answered in its loop, so it says that the thread comes round, and costs an
//! ordinary request nothing. A thread owes at most one answer at a time: nothing piles up before one that is stuck.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use super::mailbox::Mailbox;

/// One thread's beats.
#[derive(Debug, Default)]
pub(super) struct Beats {
    asked: AtomicU64,
    answered: AtomicU64,
}

impl Beats {
    /// By the thread: everything that was asked so far is answered.
    pub(super) fn answer(&self) {
        self.answered
            .store(self.asked.load(Ordering::Relaxed), Ordering::Relaxed);
    }

    /// How many were answered, and whether another one is asked now.
    fn ask(&self) -> (u64, bool) {
        let answered = self.answered.load(Ordering::Relaxed);
        let owed = self.asked.load(Ordering::Relaxed) != answered;
        if !owed {
            self.asked.store(answered + 1, Ordering::Relaxed);
        }
        (answered, !owed)
    }
}

/// Asks the threads of one proxy; outlives it, and then nobody answers.
#[derive(Debug)]
pub struct Pulse {
    mailboxes: Vec<Arc<Mailbox>>,
}

impl Pulse {
    pub(super) fn of(mailboxes: &[Arc<Mailbox>]) -> Self {
        Self {
            mailboxes: mailboxes.to_vec(),
        }
    }

    /// How many threads there are.
    #[must_use]
    pub fn threads(&self) -> usize {
        self.mailboxes.len()
    }

    /// How often each thread has answered, and asks again those that owe nothing. To be called by one caller, every so often:
    /// a thread whose number stays the same does not come round.
    pub fn ask(&self) -> Vec<u64> {
        let ask = |mailbox: &Arc<Mailbox>| {
            let (answered, again) = mailbox.beats.ask();
            if again {
                mailbox.wake();
            }
            answered
        };
        self.mailboxes.iter().map(ask).collect()
    }
}
