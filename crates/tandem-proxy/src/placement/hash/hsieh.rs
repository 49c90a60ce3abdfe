//! Paul Hsieh's SuperFastHash.

use super::signed;

/// Starts at 0 where the original starts at the length. Of the tails, the one of three bytes reads its last byte as
/// signed and the one of a single byte as unsigned, as twemproxy's source does.
pub(super) fn hsieh(key: &[u8]) -> u32 {
    let mut h: u32 = 0;
    let mut groups = key.chunks_exact(4);
    for group in &mut groups {
        h = h.wrapping_add(word(group[0], group[1]));
        let mixed = (word(group[2], group[3]) << 11) ^ h;
        h = (h << 16) ^ mixed;
        h = h.wrapping_add(h >> 11);
    }
    match *groups.remainder() {
        [first, second, third] => {
            h = h.wrapping_add(word(first, second));
            h ^= h << 16;
            h ^= signed(third) << 18;
            h = h.wrapping_add(h >> 11);
        }
        [first, second] => {
            h = h.wrapping_add(word(first, second));
            h ^= h << 11;
            h = h.wrapping_add(h >> 17);
        }
        [first] => {
            h = h.wrapping_add(u32::from(first));
            h ^= h << 10;
            h = h.wrapping_add(h >> 1);
        }
        _ => {}
    }
    h ^= h << 3;
    h = h.wrapping_add(h >> 5);
    h ^= h << 4;
    h = h.wrapping_add(h >> 17);
    h ^= h << 25;
    h.wrapping_add(h >> 6)
}

/// Two bytes, the first one lowest.
fn word(first: u8, second: u8) -> u32 {
    u32::from(u16::from_le_bytes([first, second]))
}
