//! The ring of `distribution: ketama`, as twemproxy builds it (`nc_ketama.c`).
//!
//! Each server that takes part has a number of points on the circle of 32-bit numbers, about 160 × its share of the
//! weight × the number of servers; a key belongs to the first point at or after its hash. The number of points comes
//! from single-precision arithmetic whose rounding drops four points for some sizes of pools (25 equal servers have 156
//! each). That rounding is part of where the data is, so it is repeated here step by step.

use md5::{Digest, Md5};

/// Points of one server in a pool of equals.
const POINTS_PER_SERVER: f32 = 160.0;
/// Points out of one MD5 digest.
const POINTS_PER_DIGEST: u32 = 4;
/// `name-number` is cut here before it is hashed: the size of twemproxy's buffer without its closing zero.
const LABEL_MAX: usize = 272;

/// Points in ascending order and their owners, apart from each other: a search touches values only.
#[derive(Debug, Clone)]
pub(super) struct Ring {
    values: Box<[u32]>,
    owners: Box<[u32]>,
}

impl Ring {
    /// `servers`: index in the pool, name and weight of those that take part, in the order of placement.
    pub(super) fn new(servers: &[(u32, &str, u32)]) -> Self {
        let total: u64 = servers
            .iter()
            .map(|&(_, _, weight)| u64::from(weight))
            .sum();
        let mut points = Vec::new();
        for &(index, name, weight) in servers {
            for number in 0..digests(weight, total, servers.len()) {
                let mut label = format!("{name}-{number}").into_bytes();
                label.truncate(LABEL_MAX);
                let digest = Md5::digest(&label);
                for bytes in digest.chunks_exact(4) {
                    points.push((
                        u32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]),
                        index,
                    ));
                }
            }
        }
        // Stable: of two servers on one point the earlier one has it, as with the sort of glibc up to 2.36.
        points.sort_by_key(|&(value, _)| value);
        Self {
            values: points.iter().map(|&(value, _)| value).collect(),
            owners: points.iter().map(|&(_, owner)| owner).collect(),
        }
    }

    /// The owner of the first point at or after `hash`, around the circle. None of a ring without points, which
    /// rounding makes of a server whose share of the weight is nearly nothing.
    #[inline]
    pub(super) fn owner(&self, hash: u32) -> Option<u32> {
        let at = self.values.partition_point(|&value| value < hash);
        self.owners.get(at).or_else(|| self.owners.first()).copied()
    }
}

/// How many MD5 digests of four points a server has.
///
/// Every step is rounded to single precision as twemproxy's C is on x86-64, but for the sum with 1e-10, which is in double
/// precision and rounded afterwards.
fn digests(weight: u32, total: u64, servers: usize) -> u32 {
    let share = weight as f32 / total as f32;
    let scaled = share * POINTS_PER_SERVER / POINTS_PER_DIGEST as f32 * servers as f32;
    ((f64::from(scaled) + 0.000_000_000_1) as f32).floor() as u32
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rounding_drops_a_digest_at_the_known_sizes_and_at_no_other() {
        let short = [
            25, 47, 50, 55, 61, 71, 94, 100, 107, 109, 110, 115, 122, 142, 159, 163, 188, 193, 200,
        ];
        for servers in 1..=200 {
            let expected = if short.contains(&servers) { 39 } else { 40 };
            assert_eq!(
                digests(1, servers as u64, servers),
                expected,
                "{servers} servers"
            );
        }
    }

    #[test]
    fn points_follow_the_weights() {
        let points: Vec<u32> = [1, 2, 3, 5]
            .map(|weight| 4 * digests(weight, 11, 4))
            .to_vec();
        assert_eq!(points, [56, 116, 172, 288]);
    }

    #[test]
    fn a_hash_on_a_point_is_the_points_and_one_past_the_last_wraps() {
        let ring = Ring {
            values: Box::new([10, 20, 20, 30]),
            owners: Box::new([0, 1, 2, 3]),
        };
        for (hash, owner) in [
            (0, 0),
            (10, 0),
            (11, 1),
            (20, 1),
            (21, 3),
            (30, 3),
            (31, 0),
            (u32::MAX, 0),
        ] {
            assert_eq!(ring.owner(hash), Some(owner), "{hash}");
        }
    }
}
