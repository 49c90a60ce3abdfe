//! Numbers as the C library reads them for Redis: the digits at the front count, what follows is ignored.

use std::net::Ipv4Addr;

/// A number from the front of a word.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Leading<T> {
    /// 0 without a digit; the nearest limit if it is out of range.
    pub(super) value: T,
    /// Was the word nothing but the number?
    pub(super) is_whole: bool,
}

/// A signed number, as atoi() would read it, except that it never wraps around.
pub(super) fn signed(word: &[u8]) -> Leading<i64> {
    let (negative, digits) = match word {
        [b'-', rest @ ..] => (true, rest),
        [b'+', rest @ ..] => (false, rest),
        rest => (false, rest),
    };
    let magnitude = unsigned(digits);
    let value = i64::try_from(magnitude.value).unwrap_or(i64::MAX);
    Leading {
        value: if negative { -value } else { value },
        is_whole: magnitude.is_whole,
    }
}

/// A number without a sign, as strtoull() would read it.
pub(super) fn unsigned(word: &[u8]) -> Leading<u64> {
    let length = word
        .iter()
        .position(|byte| !byte.is_ascii_digit())
        .unwrap_or(word.len());
    let value = word[..length].iter().fold(0u64, |value, digit| {
        value
            .saturating_mul(10)
            .saturating_add(u64::from(digit - b'0'))
    });
    Leading {
        value,
        is_whole: length > 0 && length == word.len(),
    }
}

/// An IPv4 address in one of the forms besides four decimal numbers that the C library takes: fewer parts, the last of
/// which fills the rest, and parts in octal (`0...`) or hexadecimal (`0x...`).
pub(super) fn short_ipv4(text: &str) -> Option<Ipv4Addr> {
    let mut parts = Vec::new();
    for part in text.split('.') {
        let (digits, radix) = match part.strip_prefix("0x").or_else(|| part.strip_prefix("0X")) {
            Some(digits) => (digits, 16),
            None if part.len() > 1 && part.starts_with('0') => (part, 8),
            None => (part, 10),
        };
        // from_str_radix would take a sign.
        if parts.len() == 4 || !digits.chars().all(|digit| digit.is_digit(radix)) {
            return None;
        }
        parts.push(u32::from_str_radix(digits, radix).ok()?);
    }
    let (last, leading) = parts.split_last()?;
    let mut address = 0;
    for part in leading {
        address = address << 8 | u32::from(u8::try_from(*part).ok()?);
    }
    let bits = 32 - 8 * u32::try_from(leading.len()).ok()?;
    if u64::from(*last) >> bits != 0 {
        return None;
    }
    let address = u64::from(address) << bits | u64::from(*last);
    u32::try_from(address).ok().map(Ipv4Addr::from)
}

/// Only lower-case hexadecimal digits?
pub(super) fn is_hex(text: &str) -> bool {
    text.bytes()
        .all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_front_of_a_word_counts() {
        for (word, value, is_whole) in [
            ("6379", 6379, true),
            ("-5", -5, true),
            ("+5", 5, true),
            ("6379x", 6379, false),
            ("x", 0, false),
            ("", 0, false),
            ("-", 0, false),
            ("99999999999999999999", i64::MAX, true),
        ] {
            let expected = Leading { value, is_whole };
            assert_eq!(signed(word.as_bytes()), expected, "{word}");
        }
        assert_eq!(unsigned(b"18446744073709551615").value, u64::MAX);
        assert_eq!(unsigned(b"18446744073709551616").value, u64::MAX);
    }

    #[test]
    fn short_addresses_are_those_of_the_c_library() {
        for (text, address) in [
            ("10.0.0.1", Some([10, 0, 0, 1])),
            ("127.1", Some([127, 0, 0, 1])),
            ("127.0.258", Some([127, 0, 1, 2])),
            ("0x7f.0.0.010", Some([127, 0, 0, 8])),
            ("2130706433", Some([127, 0, 0, 1])),
            ("4294967296", None),
            ("256.1", None),
            ("1.16777216", None),
            ("1.2.3.4.5", None),
            ("1..2", None),
            ("+1.2", None),
            ("", None),
            ("db1", None),
        ] {
            assert_eq!(short_ipv4(text), address.map(Ipv4Addr::from), "{text}");
        }
    }
}
