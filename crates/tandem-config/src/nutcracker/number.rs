//! Numbers as twemproxy reads them, mistakes included: a file that it accepts must mean the same here.

/// `nc_atoi`: decimal digits only, in a C `int` that wraps round without a word.
///
/// Nothing for what twemproxy refuses: no digits, anything else, or an `int` that ends up negative. The flag says that the
/// number is not what is written.
pub fn number(text: &str) -> Option<(u32, bool)> {
    if text.is_empty() || !text.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let (mut value, mut wrapped) = (0_i32, false);
    for digit in text.bytes() {
        let digit = i32::from(digit - b'0');
        wrapped |= value
            .checked_mul(10)
            .and_then(|tens| tens.checked_add(digit))
            .is_none();
        value = value.wrapping_mul(10).wrapping_add(digit);
    }
    u32::try_from(value).ok().map(|value| (value, wrapped))
}

/// `strtol(text, NULL, 8)` in a `mode_t`: what stands before the first character that is no octal digit, 0 without any.
///
/// Nothing above 0777, which twemproxy refuses. The flag says that the text is not an octal number.
pub(super) fn mode(text: &str) -> Option<(u32, bool)> {
    let digits = text.trim_start_matches([' ', '\t', '\n', '\r', '\u{b}', '\u{c}']);
    let (negative, digits) = match digits.as_bytes().first() {
        Some(b'-') => (true, &digits[1..]),
        Some(b'+') => (false, &digits[1..]),
        Some(_) | None => (false, digits),
    };
    let octal = digits
        .bytes()
        .take_while(|byte| (b'0'..=b'7').contains(byte));
    let mut value = 0_i64;
    let mut length = 0;
    for digit in octal {
        value = value.checked_mul(8)?.checked_add(i64::from(digit - b'0'))?;
        length += 1;
    }
    let value = if negative { -value } else { value };
    // The low half is what a mode_t holds.
    let mode = u32::try_from(value & 0xFFFF_FFFF).expect("the upper half is masked out");
    (mode <= 0o777).then_some((
        mode,
        i64::from(mode) != value || length == 0 || length != text.len(),
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Verdicts of nutcracker 0.5.0; the values of wrapped numbers are 2^32 less, as often as it takes.
    #[test]
    fn numbers_wrap_as_a_c_int_does() {
        for (text, is) in [
            ("0", Some((0, false))),
            ("008", Some((8, false))),
            ("2147483647", Some((2_147_483_647, false))),
            ("2147483648", None),
            ("4294967296", Some((0, true))),
            ("4294967297", Some((1, true))),
            ("99999999999999999999", Some((1_661_992_959, true))),
            ("", None),
            ("-1", None),
            ("+1", None),
            ("1 ", None),
            ("1s", None),
            ("0x10", None),
            ("\u{661}", None),
        ] {
            assert_eq!(number(text), is, "{text}");
        }
    }

    #[test]
    fn a_mode_is_whatever_octal_digits_come_first() {
        for (text, is) in [
            ("0666", Some((0o666, false))),
            ("666", Some((0o666, false))),
            ("0777", Some((0o777, false))),
            ("01000", None),
            ("888", Some((0, true))),
            ("xyz", Some((0, true))),
            ("", Some((0, true))),
            ("644x", Some((0o644, true))),
            ("+7", Some((7, true))),
            ("-1", None),
            ("40000000000", Some((0, true))),
            ("7777777777777777777777777", None),
        ] {
            assert_eq!(mode(text), is, "{text}");
        }
    }
}
