//! Chance and time: one seeded generator for a whole run, and microseconds from its beginning.
//!
//! The same seed gives the same run on every machine, which is what makes a seed worth printing.

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};

/// Virtual time: microseconds since the run began.
pub type Us = u64;

/// Microseconds in a millisecond.
pub const MS: Us = 1_000;
/// Microseconds in a second.
pub const SEC: Us = 1_000_000;

/// The only source of chance of a run.
#[derive(Debug)]
pub struct Chance(ChaCha8Rng);

impl Chance {
    /// The generator of `seed`.
    pub fn new(seed: u64) -> Self {
        Self(ChaCha8Rng::seed_from_u64(seed))
    }

    /// Uniform within `low..high`; `low` when the range is empty.
    pub fn within(&mut self, low: u64, high: u64) -> u64 {
        if high <= low {
            return low;
        }
        low + self.0.next_u64() % (high - low)
    }

    /// True in `percent` of a hundred cases.
    pub fn percent(&mut self, percent: u64) -> bool {
        self.within(0, 100) < percent
    }

    /// One of two hosts.
    pub fn host(&mut self) -> usize {
        usize::from(self.percent(50))
    }

    /// A name that nothing else has: never 0.
    pub fn name(&mut self) -> u64 {
        self.0.next_u64() | 1
    }
}
