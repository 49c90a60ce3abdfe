//! Chance that can be repeated: a small generator with a seed, so that a run that failed can be run again.

/// SplitMix64: one multiplication chain per number, every seed as good as another.
#[derive(Debug, Clone)]
pub struct Chance(u64);

impl Chance {
    /// A generator of its own for each seed.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// Sixty-four bits.
    pub fn bits(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// A number below `end`, which is not 0. The unevenness of the remainder does not matter to a load.
    pub fn below(&mut self, end: usize) -> usize {
        (self.bits() % end as u64) as usize
    }

    /// Between 0 (not included) and 1.
    pub fn share(&mut self) -> f64 {
        // 53 bits are what a double holds exactly.
        ((self.bits() >> 11) + 1) as f64 / (1_u64 << 53) as f64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_seed_gives_the_same_numbers_and_another_others() {
        let draw = |seed| {
            let mut chance = Chance::new(seed);
            [chance.bits(), chance.bits(), chance.bits()]
        };
        assert_eq!(draw(1), draw(1));
        assert_ne!(draw(1), draw(2));
    }

    #[test]
    fn numbers_stay_in_their_bounds_and_meet_all_of_them() {
        let mut chance = Chance::new(7);
        let mut met = [false; 5];
        for _ in 0..1000 {
            met[chance.below(5)] = true;
            let share = chance.share();
            assert!(share > 0.0 && share <= 1.0, "{share}");
        }
        assert_eq!(met, [true; 5]);
    }
}
