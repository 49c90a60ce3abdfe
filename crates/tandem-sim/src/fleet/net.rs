//! The network between the hosts: which way is open, and how long a packet takes.

use crate::chance::{Chance, MS, Us};

/// What is lost on the way is sent again after this (TCP's first retransmission).
const AGAIN: Us = 200 * MS;

/// Hosts by number: a sentinel and, on the first three, a server each; the last is the writing client's.
#[derive(Debug)]
pub(super) struct Net {
    blocked: Vec<Vec<bool>>,
    /// Percent of packets.
    pub(super) loss: u64,
    /// Added to each packet's latency at most.
    pub(super) delay: Us,
}

impl Net {
    pub(super) fn new(hosts: usize) -> Self {
        Self {
            blocked: vec![vec![false; hosts]; hosts],
            loss: 0,
            delay: 0,
        }
    }

    pub(super) fn hosts(&self) -> usize {
        self.blocked.len()
    }

    /// Packets of one host reach the other.
    pub(super) fn open(&self, from: usize, to: usize) -> bool {
        from == to || !self.blocked[from][to]
    }

    /// In both directions.
    pub(super) fn both(&self, one: usize, other: usize) -> bool {
        self.open(one, other) && self.open(other, one)
    }

    pub(super) fn block(&mut self, from: usize, to: usize) {
        self.blocked[from][to] = true;
    }

    /// All ways are open again, and the weather is fair.
    pub(super) fn mend(&mut self) {
        for row in &mut self.blocked {
            row.fill(false);
        }
        self.loss = 0;
        self.delay = 0;
    }

    pub(super) fn latency(&self, chance: &mut Chance) -> Us {
        let base = chance.within(80, 400) + chance.within(0, self.delay);
        if self.loss > 0 && chance.percent(self.loss) {
            return base + AGAIN + chance.within(0, AGAIN);
        }
        base
    }
}
