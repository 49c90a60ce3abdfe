//! Replies that wait for replicas: first with the lane that they came on, then in the queue of their server.

use std::collections::VecDeque;
use std::ops::Range;

use super::desk::Desk;
use super::slots::Wait;

/// Replies already passed on stay in front of the buffer until they are so many bytes.
const SLACK: usize = 64 * 1024;

/// Replies that wait, oldest first, in one buffer.
#[derive(Debug, Default)]
pub(super) struct Queue {
    /// Slot, and length of its reply.
    pub(super) entries: VecDeque<(u32, u32)>,
    pub(super) bytes: Vec<u8>,
    /// How much of `bytes` is done with.
    start: usize,
}

impl Queue {
    pub(super) fn push(&mut self, slot: u32, reply: &[u8]) {
        self.entries.push_back((slot, reply.len() as u32));
        self.bytes.extend_from_slice(reply);
    }

    /// The oldest, and where its reply lies in `bytes`.
    pub(super) fn pop(&mut self) -> Option<(u32, Range<usize>)> {
        let (slot, len) = self.entries.pop_front()?;
        let begin = self.start;
        self.start += len as usize;
        Some((slot, begin..self.start))
    }

    /// Gives room back, after [`Queue::pop`].
    pub(super) fn tidy(&mut self) {
        if self.entries.is_empty() {
            self.bytes.clear();
            self.bytes.shrink_to(SLACK);
            self.start = 0;
        } else if self.start >= SLACK {
            self.bytes.drain(..self.start);
            self.start = 0;
        }
    }
}

/// Replies that wait, in the words of the lane that they came on.
#[derive(Debug, Default)]
pub(super) struct Withheld {
    pub(super) entries: Vec<(u32, u32)>,
    pub(super) bytes: Vec<u8>,
}

impl Withheld {
    pub(super) fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    pub(super) fn clear(&mut self) {
        self.entries.clear();
        self.bytes.clear();
        self.bytes.shrink_to(SLACK);
    }

    /// The reply to a request that has left its lane's queue waits from now on.
    pub(super) fn push(&mut self, slot: u32, reply: &[u8], desk: &mut Desk, now_ms: u64) {
        let place = &mut desk.slots[slot];
        place.wait = Wait::Ack;
        place.since = now_ms as u32;
        self.entries.push((slot, reply.len() as u32));
        self.bytes.extend_from_slice(reply);
    }
}
