//! Austin Appleby's MurmurHash2 of 32 bits.

const M: u32 = 0x5bd1_e995;
const R: u32 = 24;

/// With a seed that depends on the length: 0xdeadbeef × length.
pub(super) fn murmur(key: &[u8]) -> u32 {
    // Redis' keys end at 512 MiB, and C reduces the length just so.
    let length = (key.len() & 0xffff_ffff) as u32;
    let mut h = 0xdead_beef_u32.wrapping_mul(length) ^ length;
    let mut groups = key.chunks_exact(4);
    for group in &mut groups {
        let mut k = u32::from_le_bytes([group[0], group[1], group[2], group[3]]);
        k = k.wrapping_mul(M);
        k ^= k >> R;
        k = k.wrapping_mul(M);
        h = h.wrapping_mul(M) ^ k;
    }
    let tail = groups.remainder();
    for (position, &byte) in tail.iter().enumerate() {
        h ^= u32::from(byte) << (8 * position);
    }
    if !tail.is_empty() {
        h = h.wrapping_mul(M);
    }
    h ^= h >> 13;
    h = h.wrapping_mul(M);
    h ^ (h >> 15)
}
