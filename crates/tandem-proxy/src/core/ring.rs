//! What a lane has to send: one ring of bytes, `[answered | sent | unsent]`, freed when replies come.
//!
//! ```text
//!      answered            sent, not answered          unsent
//!  ... ........ |aaaaaaaaaaaaaaaaaaaaaaaaaaaaaa|bbbbbbbbbbbbbbbb| ...
//!            head                             sent            tail
//! ```
//! Bytes between `head` and `sent` are kept because a failover may have to send them again; they were copied once,
//! when the request was accepted, and are not copied for that. The three positions only grow and are taken modulo
//! the capacity; whenever nothing is left the ring begins at its start again, which keeps it in the cache.

/// Requests that were not answered yet.
#[derive(Debug, Default)]
pub(super) struct Ring {
    /// Length is zero or a power of two.
    data: Vec<u8>,
    head: u64,
    sent: u64,
    tail: u64,
}

impl Ring {
    /// The smallest ring with anything in it.
    const SMALLEST: usize = 4 * 1024;
    /// What an empty ring may keep for the next burst.
    const KEEP: usize = 256 * 1024;

    /// Bytes of requests that were not answered.
    #[inline]
    pub(super) fn len(&self) -> usize {
        (self.tail - self.head) as usize
    }

    /// Bytes that were not sent.
    #[inline]
    pub(super) fn unsent(&self) -> usize {
        (self.tail - self.sent) as usize
    }

    /// Appends; the caller has checked its bound.
    #[inline(always)]
    pub(super) fn push(&mut self, bytes: &[u8]) {
        if self.len() + bytes.len() > self.data.len() {
            self.grow(self.len() + bytes.len());
        }
        let at = (self.tail as usize) & (self.data.len() - 1);
        match self.data.get_mut(at..at + bytes.len()) {
            Some(place) => place.copy_from_slice(bytes),
            None => self.push_around(at, bytes),
        }
        self.tail += bytes.len() as u64;
    }

    /// Over the end of the buffer, and on at its start.
    #[cold]
    fn push_around(&mut self, at: usize, bytes: &[u8]) {
        let (first, second) = bytes.split_at(self.data.len() - at);
        self.data[at..].copy_from_slice(first);
        self.data[..second.len()].copy_from_slice(second);
    }

    /// What to send next, in order.
    #[inline]
    pub(super) fn pending(&self) -> [&[u8]; 2] {
        self.span(self.sent, self.tail)
    }

    /// So many bytes of [`Ring::pending`] were handed to the kernel.
    #[inline]
    pub(super) fn sent(&mut self, bytes: usize) {
        debug_assert!(bytes <= self.unsent(), "more sent than there was");
        self.sent += bytes as u64;
    }

    /// The oldest request, of so many bytes, was answered (or given up).
    #[inline(always)]
    pub(super) fn free(&mut self, bytes: usize) {
        self.head += bytes as u64;
        debug_assert!(self.head <= self.tail, "more answered than there was");
        // A server may answer before it has read all, with an error; what is unsent then is not sent any more.
        self.sent = self.sent.max(self.head);
        if self.head == self.tail {
            self.head = 0;
            self.sent = 0;
            self.tail = 0;
            if self.data.len() > Self::KEEP {
                self.data = Vec::new();
            }
        }
    }

    /// Bytes that were handed over and not answered.
    #[inline]
    pub(super) fn handed(&self) -> usize {
        (self.sent - self.head) as usize
    }

    /// The oldest request, which has so many bytes.
    pub(super) fn oldest(&self, bytes: usize) -> Vec<u8> {
        self.span(self.head, self.head + bytes as u64).concat()
    }

    /// Takes everything unanswered out, and says how much of it was handed over.
    pub(super) fn take_all(&mut self) -> (Vec<u8>, usize) {
        let handed = self.handed();
        let all = self.span(self.head, self.tail).concat();
        *self = Self::default();
        (all, handed)
    }

    #[inline]
    fn span(&self, from: u64, to: u64) -> [&[u8]; 2] {
        if from == to {
            return [&[], &[]];
        }
        let mask = self.data.len() - 1;
        let start = (from as usize) & mask;
        let len = (to - from) as usize;
        let first = len.min(self.data.len() - start);
        [&self.data[start..start + first], &self.data[..len - first]]
    }

    #[cold]
    fn grow(&mut self, needed: usize) {
        let mut larger = vec![0; needed.next_power_of_two().max(Self::SMALLEST)];
        let [first, second] = if self.data.is_empty() {
            [&[][..], &[]]
        } else {
            self.span(self.head, self.tail)
        };
        larger[..first.len()].copy_from_slice(first);
        larger[first.len()..first.len() + second.len()].copy_from_slice(second);
        self.data = larger;
        self.sent -= self.head;
        self.tail -= self.head;
        self.head = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::VecDeque;

    #[derive(Debug, Clone)]
    enum Step {
        Push(usize),
        Send(usize),
        Free,
    }

    proptest! {
        #[test]
        fn behaves_as_three_positions_in_one_stream(
            steps in prop::collection::vec(
                prop_oneof![(1usize..3000).prop_map(Step::Push), (1usize..6000).prop_map(Step::Send), Just(Step::Free)],
                1..80,
            ),
        ) {
            let mut ring = Ring::default();
            let mut stream: Vec<u8> = Vec::new();
            let (mut sent, mut head) = (0usize, 0usize);
            let mut requests = VecDeque::new();
            for step in steps {
                match step {
                    Step::Push(len) => {
                        let bytes: Vec<u8> = (0..len).map(|at| (at ^ stream.len()) as u8).collect();
                        ring.push(&bytes);
                        stream.extend_from_slice(&bytes);
                        requests.push_back(len);
                    }
                    Step::Send(wanted) => {
                        let [first, second] = ring.pending();
                        let both = [first, second].concat();
                        prop_assert_eq!(&both[..], &stream[sent..]);
                        let now = wanted.min(both.len());
                        ring.sent(now);
                        sent += now;
                    }
                    Step::Free => {
                        if let Some(len) = requests.pop_front() {
                            ring.free(len);
                            head += len;
                            sent = sent.max(head);
                        }
                    }
                }
                prop_assert_eq!(ring.len(), stream.len() - head);
                prop_assert_eq!(ring.unsent(), stream.len() - sent);
            }
            prop_assert_eq!(ring.take_all(), (stream[head..].to_vec(), sent - head));
            prop_assert_eq!(ring.len(), 0);
        }
    }
}
