//! `Distribution::Slots`: the slots of a Redis Cluster, and which shard has each.

use super::hash;
use super::tag::tagged;
use crate::settings::Hash;

/// Slots that every Redis Cluster has.
pub const SLOTS: usize = 16384;

/// The slot of a key: CRC-16 (XMODEM) of the key, or of its tag in braces.
#[must_use]
#[inline]
pub fn slot_of(key: &[u8]) -> u16 {
    // twemproxy's register is wider and never masked, but its low bits are the same.
    let hash = hash::number_of(Hash::Crc16, tagged(key, *b"{}"));
    (hash % SLOTS as u64) as u16
}

/// Of each slot, the place of its shard among the servers of a pool.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Slots(Box<[u16]>);

impl Slots {
    /// All of them at one place.
    #[must_use]
    pub fn all_at(place: u16) -> Self {
        Self(vec![place; SLOTS].into())
    }

    /// Puts slots, both ends included, at a place. What is no slot is passed over.
    pub fn put(&mut self, (first, last): (u16, u16), place: u16) {
        let end = usize::from(last).saturating_add(1).min(SLOTS);
        if let Some(range) = self.0.get_mut(usize::from(first)..end) {
            range.fill(place);
        }
    }

    /// Where the slot of a key is.
    #[inline]
    pub(super) fn owner(&self, key: &[u8]) -> u32 {
        u32::from(self.0[usize::from(slot_of(key))])
    }

    /// Where a slot is; none for what is no slot.
    #[must_use]
    pub fn place_of(&self, slot: u16) -> Option<u16> {
        self.0.get(usize::from(slot)).copied()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What `CLUSTER KEYSLOT` of Redis 7.0.15 says.
    const SAID: [(&str, u16); 31] = [
        ("foo", 12182),
        ("{user}a", 5474),
        ("a{}b", 13694),
        ("{}{x}", 3257),
        ("x{y", 2740),
        ("{{z}}", 2942),
        ("", 0),
        ("foo{bar}{zap}", 5061),
        ("}{", 12793),
        ("{a}{b}", 15495),
        ("key:000000000042", 7803),
        ("c}abxb", 14973),
        ("ax{ab}", 13567),
        ("b{bx}ab", 4823),
        ("a}a{", 728),
        ("x", 16287),
        ("}}c", 14489),
        ("b}xcb{{bx", 9477),
        ("a{", 14311),
        ("x}{::{}{", 10182),
        ("{b}", 3300),
        (":{:}bbx}c", 5913),
        ("c:}abx", 7879),
        ("{{::bb", 4301),
        (":ba}:", 15293),
        ("}{a:{", 10607),
        ("b:a", 9170),
        ("}c{}", 593),
        (":bc:}x}", 14660),
        ("}x}", 13459),
        ("{}{cbcc", 81),
    ];

    #[test]
    fn a_slot_is_what_a_server_says() {
        for (key, slot) in SAID {
            assert_eq!(slot_of(key.as_bytes()), slot, "{key}");
        }
    }

    #[test]
    fn slots_are_put_with_both_ends() {
        let mut slots = Slots::all_at(0);
        slots.put((0, 5460), 1);
        slots.put((5461, 16383), 2);
        slots.put((12182, 12182), 3);
        slots.put((7, 3), 9);
        slots.put((16384, u16::MAX), 9);
        for (slot, place) in [(0, 1), (5460, 1), (5461, 2), (12182, 3), (16383, 2)] {
            assert_eq!(slots.place_of(slot), Some(place), "{slot}");
        }
        assert_eq!(slots.place_of(16384), None);
        assert_eq!(slots.owner(b"{foo}bar"), 3);
    }
}
