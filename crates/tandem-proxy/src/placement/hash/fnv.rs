//! The family of Fowler, Noll and Vo, over signed bytes.

use super::{low_half, signed};

const INIT_64: u64 = 0xcbf2_9ce4_8422_2325;
const PRIME_64: u64 = 0x0100_0000_01b3;
const INIT_32: u32 = 2_166_136_261;
const PRIME_32: u32 = 16_777_619;

/// FNV-1 of 64 bits, of which the low half is the hash.
pub(super) fn fnv1_64(key: &[u8]) -> u32 {
    low_half(key.iter().fold(INIT_64, |h, &byte| {
        h.wrapping_mul(PRIME_64) ^ i64::from(byte.cast_signed()).cast_unsigned()
    }))
}

/// Called FNV-1a of 64 bits, but its state has 32: start and multiplier are the low halves of the real ones. The
/// multiplier 435 = 3 × 5 × 29 shares factors with many numbers of servers, which is why it places so badly with
/// `modula`.
pub(super) fn fnv1a_64(key: &[u8]) -> u32 {
    key.iter().fold(low_half(INIT_64), |h, &byte| {
        (h ^ signed(byte)).wrapping_mul(low_half(PRIME_64))
    })
}

/// FNV-1 of 32 bits.
pub(super) fn fnv1_32(key: &[u8]) -> u32 {
    key.iter()
        .fold(INIT_32, |h, &byte| h.wrapping_mul(PRIME_32) ^ signed(byte))
}

/// FNV-1a of 32 bits.
pub(super) fn fnv1a_32(key: &[u8]) -> u32 {
    key.iter().fold(INIT_32, |h, &byte| {
        (h ^ signed(byte)).wrapping_mul(PRIME_32)
    })
}
