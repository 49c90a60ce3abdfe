//! The hash functions of keys, bit for bit as twemproxy computes them, and XXH3 for new pools.
//!
//! Several of the twelve are not what their names promise (a 15-bit `crc32`, a 32-bit `fnv1a_64`, an unmasked `crc16`).
//! They stay so: data that was written through them is found by them and by nothing else. Each function's comment says
//! where it leaves the textbook.
//!
//! twemproxy reads keys as C `char`. These are its values on x86-64, where a byte from 0x80 up is negative; on platforms
//! with an unsigned `char` its own values differ for such keys.

mod crc;
mod fnv;
mod hsieh;
mod jenkins;
mod murmur;

use md5::{Digest, Md5};
use xxhash_rust::xxh3::xxh3_64;

use crate::settings::Hash;

/// The number that stands for a key when a server is chosen. Only [`Hash::Xxh3`] uses all 64 bits; what twemproxy
/// knows is a `u32`.
///
/// An empty key is 0 under every hash: twemproxy never calls the function for it.
#[must_use]
#[inline]
pub fn number_of(hash: Hash, key: &[u8]) -> u64 {
    if key.is_empty() {
        return 0;
    }
    match hash {
        Hash::Xxh3 => xxh3_64(key),
        Hash::OneAtATime
        | Hash::Md5
        | Hash::Crc16
        | Hash::Crc32
        | Hash::Crc32a
        | Hash::Fnv1_64
        | Hash::Fnv1a64
        | Hash::Fnv1_32
        | Hash::Fnv1a32
        | Hash::Hsieh
        | Hash::Murmur
        | Hash::Jenkins => u64::from(function(hash, key)),
    }
}

/// The pure function, of an empty key too. Of [`Hash::Xxh3`] the low half.
#[must_use]
pub fn function(hash: Hash, key: &[u8]) -> u32 {
    match hash {
        Hash::OneAtATime => one_at_a_time(key),
        Hash::Md5 => {
            let digest = Md5::digest(key);
            u32::from_le_bytes([digest[0], digest[1], digest[2], digest[3]])
        }
        Hash::Crc16 => crc::crc16(key),
        Hash::Crc32 => (crc::crc32a(key) >> 16) & 0x7fff,
        Hash::Crc32a => crc::crc32a(key),
        Hash::Fnv1_64 => fnv::fnv1_64(key),
        Hash::Fnv1a64 => fnv::fnv1a_64(key),
        Hash::Fnv1_32 => fnv::fnv1_32(key),
        Hash::Fnv1a32 => fnv::fnv1a_32(key),
        Hash::Hsieh => hsieh::hsieh(key),
        Hash::Murmur => murmur::murmur(key),
        Hash::Jenkins => jenkins::jenkins(key),
        Hash::Xxh3 => low_half(xxh3_64(key)),
    }
}

/// A byte as x86-64's `char`: from 0x80 up it is negative and its sign fills the word.
const fn signed(byte: u8) -> u32 {
    (byte.cast_signed() as i32).cast_unsigned()
}

/// The low 32 bits.
const fn low_half(number: u64) -> u32 {
    (number & 0xffff_ffff) as u32
}

/// Bob Jenkins' one-at-a-time over signed bytes.
fn one_at_a_time(key: &[u8]) -> u32 {
    let mut h: u32 = 0;
    for &byte in key {
        h = h.wrapping_add(signed(byte));
        h = h.wrapping_add(h << 10);
        h ^= h >> 6;
    }
    h = h.wrapping_add(h << 3);
    h ^= h >> 11;
    h.wrapping_add(h << 15)
}
