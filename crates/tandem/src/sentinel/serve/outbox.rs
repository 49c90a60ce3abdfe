//! What waits to be sent to one client, and when it is too much.
//!
//! Replies wait without a limit of their own, because no further request is read while they do. Messages of a subscription
//! come whether the client reads or not, so a subscriber has Redis' limits for pub/sub: 32 MiB at once, or more than 8 MiB
//! for 60 seconds, and it is disconnected.

use std::time::{Duration, Instant};

/// A subscriber with more than this waiting is disconnected at once.
pub(crate) const HARD_BYTES: usize = 32 * 1024 * 1024;
/// A subscriber with more than this waiting is disconnected after [`SOFT_FOR`].
pub(crate) const SOFT_BYTES: usize = 8 * 1024 * 1024;
/// How long [`SOFT_BYTES`] may be exceeded.
pub(crate) const SOFT_FOR: Duration = Duration::from_secs(60);
/// No further request is carried out while more than this waits.
pub(crate) const FULL_BYTES: usize = 256 * 1024;

/// Bytes on their way to one client.
#[derive(Debug, Default)]
pub(crate) struct Outbox {
    queued: Vec<u8>,
    /// Taken for writing and not yet accepted by the kernel.
    flying: usize,
    /// Since when more than [`SOFT_BYTES`] wait.
    soft_since: Option<Instant>,
}

impl Outbox {
    /// Bytes that the kernel has not taken yet.
    pub(crate) fn waiting(&self) -> usize {
        self.queued.len() + self.flying
    }

    /// Whether requests must wait for the client to read.
    pub(crate) fn is_full(&self) -> bool {
        self.waiting() > FULL_BYTES
    }

    /// Where replies are appended.
    pub(crate) fn buffer(&mut self) -> &mut Vec<u8> {
        &mut self.queued
    }

    /// Takes what waits, to be written.
    pub(crate) fn take(&mut self) -> Vec<u8> {
        self.flying += self.queued.len();
        std::mem::take(&mut self.queued)
    }

    /// So many of the taken bytes were accepted by the kernel.
    pub(crate) fn written(&mut self, bytes: usize) {
        self.flying = self.flying.saturating_sub(bytes);
        if self.waiting() <= SOFT_BYTES {
            self.soft_since = None;
        }
    }

    /// Whether a subscriber has left too much unread; asked after each message.
    pub(crate) fn is_overdue(&mut self, now: Instant) -> bool {
        let waiting = self.waiting();
        if waiting <= SOFT_BYTES {
            self.soft_since = None;
            return false;
        }
        let since = *self.soft_since.get_or_insert(now);
        waiting > HARD_BYTES || now.saturating_duration_since(since) > SOFT_FOR
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_of_a_subscriber() {
        let start = Instant::now();
        let mut outbox = Outbox::default();
        outbox.buffer().resize(SOFT_BYTES, 0);
        assert!(!outbox.is_overdue(start));
        outbox.buffer().push(0);
        assert!(!outbox.is_overdue(start));
        assert!(!outbox.is_overdue(start + SOFT_FOR));
        assert!(outbox.is_overdue(start + SOFT_FOR + Duration::from_millis(1)));

        // Taken but unwritten bytes count; when they are gone the minute begins anew.
        let taken = outbox.take();
        assert_eq!(outbox.waiting(), taken.len());
        outbox.written(taken.len());
        assert_eq!(outbox.waiting(), 0);
        outbox.buffer().resize(SOFT_BYTES + 1, 0);
        assert!(!outbox.is_overdue(start + 2 * SOFT_FOR));
        outbox.buffer().resize(HARD_BYTES + 1, 0);
        assert!(outbox.is_overdue(start + 2 * SOFT_FOR));
    }
}
