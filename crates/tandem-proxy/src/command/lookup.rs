//! From a name on the wire to its line of the table, in any case, without allocating.
//!
//! A name of up to 24 bytes is three words in registers, one of up to seven, as most are, a single word that holds its
//! length as well. Lowered there, they are compared as words with the one or two candidates that an open hash table names. The
//! tables are made at compile time from the list of commands, so that there is nothing beside it to keep in step.

use super::Command;
use super::table::COMMANDS;

/// The longest name has 20 bytes.
const NAME_MAX: usize = 24;
/// Slots of the hash table, four for each command: a probe past the first is rare.
const SLOTS: usize = 1024;
/// An odd constant whose product spreads all bits of a word upwards (2^64 divided by the golden ratio).
const SPREAD: u64 = 0x9e37_79b9_7f4a_7c15;
const EMPTY: u16 = u16::MAX;

/// A name in lower case: its bytes from the lowest up, then its length.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Name {
    words: [u64; 3],
    length: usize,
}

/// The longest name that is one word, with its length in the highest byte.
const SHORT: usize = 7;

static NAMES: [Name; COMMANDS.len()] = names();
static INDEX: [u16; SLOTS] = index();
/// By the word of a short name: that word, and which command it is.
static SHORTS: [(u64, u16); SLOTS] = shorts();

/// The command of this name.
#[inline]
#[must_use]
pub fn find(name: &[u8]) -> Option<&'static Command> {
    let Some(wanted) = short(name) else {
        return find_long(name);
    };
    let mut slot = short_slot(wanted);
    loop {
        let (word, at) = SHORTS[slot];
        if word == wanted {
            return Some(&COMMANDS[at as usize]);
        }
        if word == 0 {
            return None;
        }
        slot = (slot + 1) % SLOTS;
    }
}

/// None of a name that is no single word. No word is 0.
#[inline]
const fn short(name: &[u8]) -> Option<u64> {
    let length = name.len();
    let word = match (name.first_chunk::<4>(), name.last_chunk::<4>()) {
        // Two halves that overlap in equal bytes.
        (Some(first), Some(last)) if length <= SHORT => {
            u32::from_le_bytes(*first) as u64
                | (u32::from_le_bytes(*last) as u64) << (8 * (length - 4))
        }
        (Some(_), _) => return None,
        _ => match name {
            // First, middle and last byte: all there are.
            [first, .., last] => {
                *first as u64
                    | (name[length / 2] as u64) << (8 * (length / 2))
                    | (*last as u64) << (8 * (length - 1))
            }
            [only] => *only as u64,
            [] => return None,
        },
    };
    Some(lower(word) | (length as u64) << 56)
}

#[inline]
const fn short_slot(word: u64) -> usize {
    (word.wrapping_mul(SPREAD) >> 54) as usize % SLOTS
}

#[inline(never)]
fn find_long(name: &[u8]) -> Option<&'static Command> {
    let wanted = fold(name)?;
    let mut slot = slot(&wanted);
    loop {
        let at = INDEX[slot];
        if at == EMPTY {
            return None;
        }
        if NAMES[at as usize] == wanted {
            return Some(&COMMANDS[at as usize]);
        }
        slot = (slot + 1) % SLOTS;
    }
}

/// None of a name that is short, or that no command can have.
#[inline]
const fn fold(name: &[u8]) -> Option<Name> {
    let length = name.len();
    let mut words = [0; 3];
    match length {
        8..=16 => {
            words[0] = word(name, 0);
            words[1] = word(name, length - 8);
        }
        17..=NAME_MAX => {
            words[0] = word(name, 0);
            words[1] = word(name, 8);
            words[2] = word(name, length - 8);
        }
        _ => return None,
    }
    Some(Name {
        words: [lower(words[0]), lower(words[1]), lower(words[2])],
        length,
    })
}

const fn half(name: &[u8], at: usize) -> u64 {
    u32::from_le_bytes([name[at], name[at + 1], name[at + 2], name[at + 3]]) as u64
}

const fn word(name: &[u8], at: usize) -> u64 {
    half(name, at) | half(name, at + 4) << 32
}

/// Eight bytes at once: those from `A` to `Z` get bit 0x20, all others stay.
#[inline]
const fn lower(word: u64) -> u64 {
    const EACH: u64 = 0x0101_0101_0101_0101;
    const HIGH: u64 = 0x80 * EACH;
    let low = word & !HIGH;
    // A byte's high bit is set here from `A` up, and there past `Z`; no sum of seven bits and less than 0x80 overflows.
    let from_a = low + (0x80 - b'A' as u64) * EACH;
    let past_z = low + (0x7f - b'Z' as u64) * EACH;
    let upper = (from_a ^ past_z) & !word & HIGH;
    word | (upper >> 2)
}

#[inline]
const fn slot(name: &Name) -> usize {
    let mixed = name.words[0]
        ^ name.words[1].rotate_left(23)
        ^ name.words[2].rotate_left(41)
        ^ name.length as u64;
    (mixed.wrapping_mul(SPREAD) >> 54) as usize % SLOTS
}

const fn names() -> [Name; COMMANDS.len()] {
    let mut names = [Name {
        words: [0; 3],
        length: 0,
    }; COMMANDS.len()];
    let mut at = 0;
    while at < COMMANDS.len() {
        let name = COMMANDS[at].name.as_bytes();
        match (fold(name), short(name)) {
            (Some(name), _) => names[at] = name,
            (None, Some(_)) => {}
            (None, None) => panic!("a command's name is longer than the lookup is made for"),
        }
        at += 1;
    }
    names
}

const fn shorts() -> [(u64, u16); SLOTS] {
    let mut shorts = [(0, EMPTY); SLOTS];
    let mut at = 0;
    while at < COMMANDS.len() {
        if let Some(word) = short(COMMANDS[at].name.as_bytes()) {
            let mut slot = short_slot(word);
            while shorts[slot].0 != 0 {
                slot = (slot + 1) % SLOTS;
            }
            shorts[slot] = (word, at as u16);
        }
        at += 1;
    }
    shorts
}

const fn index() -> [u16; SLOTS] {
    let names = names();
    let mut index = [EMPTY; SLOTS];
    let mut at = 0;
    while at < names.len() {
        if names[at].length == 0 {
            // Short: found otherwise.
            at += 1;
            continue;
        }
        let mut slot = slot(&names[at]);
        while index[slot] != EMPTY {
            slot = (slot + 1) % SLOTS;
        }
        index[slot] = at as u16;
        at += 1;
    }
    index
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn every_command_is_found_in_any_case_and_its_neighbours_are_not() {
        for command in &COMMANDS {
            let name = command.name;
            let mixed: String = name
                .char_indices()
                .map(|(i, c)| {
                    if i % 2 == 0 {
                        c.to_ascii_uppercase()
                    } else {
                        c
                    }
                })
                .collect();
            for spelt in [name.to_owned(), name.to_uppercase(), mixed] {
                let found = find(spelt.as_bytes()).map(|found| found.name);
                assert_eq!(found, Some(name), "{spelt}");
            }
            for wrong in [
                format!("{name}\0"),
                format!("\0{name}"),
                format!("{name}x9"),
            ] {
                assert!(find(wrong.as_bytes()).is_none(), "{wrong:?}");
            }
        }
    }

    #[test]
    fn a_search_ends_soon() {
        // The longest run of taken slots bounds it.
        let shorts = SHORTS.map(|(_, at)| at);
        for table in [INDEX, shorts] {
            let (mut run, mut longest) = (0, 0);
            for at in table.into_iter().chain(table) {
                run = if at == EMPTY { 0 } else { run + 1 };
                longest = longest.max(run);
            }
            assert!(longest <= 8, "{longest}");
        }
    }

    proptest! {
        #[test]
        fn what_is_found_is_what_was_asked_for(name in prop::collection::vec(any::<u8>(), 0..30)) {
            if let Some(command) = find(&name) {
                prop_assert!(command.name.as_bytes().eq_ignore_ascii_case(&name));
            }
        }

        #[test]
        fn lowering_words_is_lowering_bytes(bytes in any::<[u8; 8]>()) {
            prop_assert_eq!(lower(u64::from_le_bytes(bytes)).to_le_bytes(), bytes.map(|b| b.to_ascii_lowercase()));
        }

        #[test]
        fn a_name_with_one_byte_changed_is_another_one(at in 0..COMMANDS.len(), place in any::<prop::sample::Index>(), byte in any::<u8>()) {
            let mut name = COMMANDS[at].name.as_bytes().to_vec();
            let place = place.index(name.len());
            name[place] = byte;
            let expected = COMMANDS.iter().find(|c| c.name.as_bytes().eq_ignore_ascii_case(&name));
            prop_assert_eq!(find(&name).map(|c| c.name), expected.map(|c| c.name));
        }
    }
}
