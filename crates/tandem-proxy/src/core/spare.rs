//! Buffers that connections borrow while they have something unfinished, so that idle ones own none.

use super::text;
use super::upload::BUDGET;

/// Buffers not in use, and replies that wait for their turn.
#[derive(Debug, Default)]
pub(super) struct Spare {
    free: Vec<Vec<u8>>,
    parked: Vec<Vec<u8>>,
    parked_free: Vec<u32>,
    parked_bytes: usize,
}

impl Spare {
    /// A fresh buffer begins so large: most single replies fit. One that has to grow stays as large as it became, so that only
    /// a peak of many clients in one turn meets many of these.
    const FRESH: usize = 512;
    /// A buffer that grew beyond this after a large value goes back to the allocator.
    const LARGEST: usize = 64 * 1024;
    /// A reply up to this size is kept whatever the budget says: an error in its place would be little less.
    const SMALL: usize = 1024;
    /// So many are kept.
    const KEEP: usize = 256;

    /// An empty buffer.
    #[inline]
    pub(super) fn take(&mut self) -> Vec<u8> {
        self.free
            .pop()
            .unwrap_or_else(|| Vec::with_capacity(Self::FRESH))
    }

    /// A buffer that is not needed any more.
    #[inline]
    pub(super) fn give(&mut self, mut buffer: Vec<u8>) {
        if buffer.capacity() != 0
            && buffer.capacity() <= Self::LARGEST
            && self.free.len() < Self::KEEP
        {
            buffer.clear();
            self.free.push(buffer);
        }
    }

    /// Keeps a reply until it is its client's turn.
    pub(super) fn park(&mut self, mut reply: Vec<u8>) -> u32 {
        if reply.len() > Self::SMALL && self.parked_bytes + reply.len() > BUDGET {
            reply = text::REPLY_OVER_BUDGET.to_vec();
        }
        self.parked_bytes += reply.len();
        if let Some(index) = self.parked_free.pop() {
            self.parked[index as usize] = reply;
            return index;
        }
        self.parked.push(reply);
        (self.parked.len() - 1) as u32
    }

    /// Its turn has come, or its client has left.
    pub(super) fn unpark(&mut self, index: u32) -> Vec<u8> {
        self.parked_free.push(index);
        let reply = std::mem::take(&mut self.parked[index as usize]);
        self.parked_bytes -= reply.len();
        reply
    }

    /// Bytes of parked replies.
    pub(super) fn parked_bytes(&self) -> usize {
        self.parked_bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn replies_over_the_budget_are_errors_whatever_their_size() {
        let mut spare = Spare::default();
        let most = BUDGET / Spare::LARGEST;
        let parked: Vec<u32> = (0..most)
            .map(|_| spare.park(vec![0; Spare::LARGEST]))
            .collect();
        assert_eq!(spare.parked_bytes(), BUDGET);
        let over = spare.park(vec![0; 2 * Spare::SMALL]);
        assert_eq!(spare.unpark(over), text::REPLY_OVER_BUDGET);
        let small = spare.park(b"+OK\r\n".to_vec());
        assert_eq!(spare.unpark(small), b"+OK\r\n");
        for index in parked {
            spare.unpark(index);
        }
        assert_eq!(spare.parked_bytes(), 0);
    }
}
