//! Numbers as the C library reads them for Redis: the digits at the front count, what follows is ignored.

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
}
