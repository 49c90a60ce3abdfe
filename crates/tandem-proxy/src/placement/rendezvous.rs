//! `distribution: rendezvous`, the default of new pools: every server draws a number for the key, and the best draw wins.
//!
//! A server's draw depends on its name and on the key alone. So a server that goes gives up its own keys and no others,
//! one that comes takes only what it now wins, and the order in the file means nothing.
//!
//! The draw `x` is the finaliser of SplitMix64 over `key's number XOR XXH3-64 of the name`. Between servers of one weight the
//! largest `x` wins. Otherwise it is the smallest `-log2(x / 2^64) / weight` (the logarithmic method: the minimum of
//! exponentially distributed draws falls to each server in proportion to its rate). The logarithm is a fixed-point one
//! made of integers, never the platform's, so that every build places every key alike; equal quotients go to the larger
//! `x`, equal draws to the earlier server. Because the logarithm never falls as `x` rises, both rules agree where weights
//! are equal, and the choice between them is no part of the placement.

use xxhash_rust::xxh3::xxh3_64;

/// Fraction bits of the logarithms.
const FRACTION_BITS: u32 = 40;
/// The logarithm's table has 2^8 sections of equal width, joined by straight lines: wrong by less than 3 millionths.
const SECTION_BITS: u32 = 8;
/// Bits of the mantissa that say where in its section a number is.
const WITHIN_BITS: u32 = 24;
/// log2(1 + i/256), rounded down.
const LOG2: [u64; SECTIONS + 1] = log2_table();
const SECTIONS: usize = 1 << SECTION_BITS;

#[derive(Debug, Clone, Copy)]
struct Candidate {
    /// XXH3-64 of its name.
    seed: u64,
    weight: u32,
    index: u32,
}

#[derive(Debug, Clone)]
pub(super) struct Draw {
    candidates: Box<[Candidate]>,
    /// Spares the logarithms.
    equal_weights: bool,
}

impl Draw {
    /// `servers`: index in the pool, name and weight of those that take part.
    pub(super) fn new<'a>(servers: impl Iterator<Item = (u32, &'a str, u32)>) -> Self {
        let candidates: Box<[Candidate]> = servers
            .map(|(index, name, weight)| Candidate {
                seed: xxh3_64(name.as_bytes()),
                weight,
                index,
            })
            .collect();
        let equal_weights = candidates
            .windows(2)
            .all(|two| two[0].weight == two[1].weight);
        Self {
            candidates,
            equal_weights,
        }
    }

    /// Whose draw for the key with this number is the best. None without servers.
    #[inline]
    pub(super) fn owner(&self, number: u64) -> Option<u32> {
        if self.equal_weights {
            self.largest(number)
        } else {
            self.smallest_quotient(number)
        }
    }

    fn largest(&self, number: u64) -> Option<u32> {
        let (first, others) = self.candidates.split_first()?;
        let (mut best, mut owner) = (draw(number, first.seed), first.index);
        for candidate in others {
            let x = draw(number, candidate.seed);
            if x > best {
                (best, owner) = (x, candidate.index);
            }
        }
        Some(owner)
    }

    fn smallest_quotient(&self, number: u64) -> Option<u32> {
        let (first, others) = self.candidates.split_first()?;
        let mut best = first;
        let mut best_x = draw(number, first.seed);
        let mut best_log = negative_log2(best_x);
        for candidate in others {
            let x = draw(number, candidate.seed);
            // log / weight < best_log / best.weight, without a division.
            let its = u128::from(best_log) * u128::from(candidate.weight);
            // Most draws are so far from winning that it shows without their logarithm.
            if u128::from(at_least(x)) * u128::from(best.weight) > its {
                continue;
            }
            let log = negative_log2(x);
            let mine = u128::from(log) * u128::from(best.weight);
            if mine < its || (mine == its && x > best_x) {
                (best, best_x, best_log) = (candidate, x, log);
            }
        }
        Some(best.index)
    }
}

/// SplitMix64's finaliser: two multiplications, and every bit of the sum reaches every bit of the result.
#[inline]
fn draw(number: u64, seed: u64) -> u64 {
    let mut x = number ^ seed;
    x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    x ^ (x >> 31)
}

/// `-log2(x / 2^64)` with [`FRACTION_BITS`]; 0 counts as 1. Never rises as `x` rises.
#[inline]
fn negative_log2(x: u64) -> u64 {
    let x = x | 1;
    let zeros = x.leading_zeros();
    // Without the leading one: 63 bits of fraction at the top of the word.
    let fraction = (x << zeros) << 1;
    let section = (fraction >> (64 - SECTION_BITS)) as usize;
    let within = (fraction << SECTION_BITS) >> (64 - WITHIN_BITS);
    let from = LOG2[section];
    let logarithm = from + (((LOG2[section + 1] - from) * within) >> WITHIN_BITS);
    ((u64::from(zeros) + 1) << FRACTION_BITS) - logarithm
}

/// Never above [`negative_log2`], and near it where it matters: `1 - x / 2^64`, since `-log2(u) >= -ln(u) >= 1 - u`, and
/// the straight lines of the table lie on the far side of the curve.
#[inline]
fn at_least(x: u64) -> u64 {
    !x >> (64 - FRACTION_BITS)
}

const fn log2_table() -> [u64; SECTIONS + 1] {
    let mut table = [0; SECTIONS + 1];
    let mut section = 0;
    while section < SECTIONS {
        // 1 + i/256 with 62 bits of fraction; each squaring doubles the logarithm and so yields its next bit.
        let mut value = ((SECTIONS + section) as u128) << (62 - SECTION_BITS);
        let mut bits = 0;
        let mut logarithm = 0;
        while bits < FRACTION_BITS {
            value = (value * value) >> 62;
            logarithm <<= 1;
            if value >= 1 << 63 {
                value >>= 1;
                logarithm |= 1;
            }
            bits += 1;
        }
        table[section] = logarithm;
        section += 1;
    }
    table[SECTIONS] = 1 << FRACTION_BITS;
    table
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn draw_of(weights: &[u32]) -> Draw {
        let names: Vec<String> = (0..weights.len()).map(|i| format!("shard-{i}")).collect();
        let servers = names.iter().zip(weights);
        Draw::new(
            (0..)
                .zip(servers)
                .map(|(i, (name, &weight))| (i, name.as_str(), weight)),
        )
    }

    #[test]
    fn the_logarithm_is_one() {
        for x in [
            1,
            2,
            3,
            255,
            1 << 20,
            (1 << 40) + 12_345,
            u64::MAX / 3,
            u64::MAX / 2,
            u64::MAX - 1,
        ] {
            let real = 64.0 - ((x | 1) as f64).log2();
            let ours = negative_log2(x) as f64 / (1_u64 << FRACTION_BITS) as f64;
            assert!((real - ours).abs() < 3e-6, "{x}: {real} and {ours}");
        }
    }

    #[test]
    fn keys_follow_the_weights() {
        let weights = [1, 2, 3, 10];
        let draw = draw_of(&weights);
        let keys = 160_000_u64;
        let mut held = [0_u32; 4];
        for key in 0..keys {
            held[draw.owner(xxh3_64(&key.to_le_bytes())).unwrap() as usize] += 1;
        }
        for (held, weight) in held.into_iter().zip(weights) {
            // Four standard deviations of the largest share are 900 keys.
            assert!(
                held.abs_diff(weight * 10_000) < 900,
                "weight {weight}: {held}"
            );
        }
    }

    #[test]
    fn equal_weights_need_no_logarithm() {
        let ones = draw_of(&[1; 7]);
        let sevens = draw_of(&[7; 7]);
        for key in 0..10_000_u64 {
            let number = xxh3_64(&key.to_le_bytes());
            assert_eq!(ones.smallest_quotient(number), ones.largest(number));
            assert_eq!(ones.owner(number), sevens.owner(number));
        }
    }

    proptest! {
        #[test]
        fn the_logarithm_never_rises(x in any::<u64>(), step in 0..1_u64 << 40) {
            let above = x.saturating_add(step);
            prop_assert!(negative_log2(above) <= negative_log2(x));
            prop_assert!(negative_log2(x.saturating_add(1)) <= negative_log2(x));
        }

        #[test]
        fn a_logarithm_is_at_least_what_is_said(x in any::<u64>(), zeros in 0..64_u32) {
            for x in [x, x >> zeros, !(x >> zeros)] {
                prop_assert!(at_least(x) <= negative_log2(x));
            }
        }

        #[test]
        fn a_new_server_only_takes(weights in prop::collection::vec(1_u32..100, 1..20), new in 1_u32..100, number in any::<u64>()) {
            let before = draw_of(&weights).owner(number).unwrap();
            let mut more = weights.clone();
            more.push(new);
            let after = draw_of(&more).owner(number).unwrap();
            prop_assert!(after == before || after as usize == weights.len());
        }

        #[test]
        fn more_weight_only_takes(weights in prop::collection::vec(1_u32..100, 2..20), more in 1_u32..1000, number in any::<u64>()) {
            let before = draw_of(&weights).owner(number).unwrap();
            let mut heavier = weights;
            heavier[0] += more;
            let after = draw_of(&heavier).owner(number).unwrap();
            prop_assert!(after == before || after == 0);
        }
    }
}
