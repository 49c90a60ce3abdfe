//! A small generator of random numbers that is the machine's own, so that a run can be repeated from its seed.
//!
//! SplitMix64 (Steele, Lea, Flood 2014). It spreads moments in time and nothing else: nothing here is a secret.

use std::time::Duration;

/// The generator.
#[derive(Clone, Debug)]
pub(super) struct Random(u64);

impl Random {
    /// A generator that gives the same numbers for the same seed.
    #[must_use]
    pub(super) fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// The next number.
    pub(super) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// A time from `from` up to, but not including, `to`, in whole microseconds; `from` if there is none between.
    pub(super) fn between(&mut self, from: Duration, to: Duration) -> Duration {
        let span = to.saturating_sub(from).as_micros();
        let span = u64::try_from(span).unwrap_or(u64::MAX);
        if span == 0 {
            return from;
        }
        from + Duration::from_micros(self.next() % span)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_numbers_are_those_of_the_published_algorithm() {
        let mut random = Random::new(1_234_567);
        let first: Vec<u64> = (0..3).map(|_| random.next()).collect();
        assert_eq!(
            first,
            [
                6_457_827_717_110_365_317,
                3_203_168_211_198_807_973,
                9_817_491_932_198_370_423
            ]
        );
    }

    #[test]
    fn a_time_lies_between_its_bounds() {
        let mut random = Random::new(7);
        let (from, to) = (Duration::from_millis(50), Duration::from_millis(300));
        for _ in 0..1000 {
            let time = random.between(from, to);
            assert!(from <= time && time < to, "{time:?}");
        }
        assert_eq!(random.between(to, from), to);
    }
}
