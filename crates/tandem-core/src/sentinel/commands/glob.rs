//! Patterns of RESET and CONFIG GET, with the meaning that Redis' `stringmatchlen` gives them.
//!
//! `*` any text, `?` any byte, `[a-z]` one of a class (`[^...]` one outside of it), `\x` the byte itself. A class that is
//! not closed ends with the pattern, and a range may be written backwards. Redis tries every way to divide the text among
//! the stars, which a hostile pattern makes exponential; here only the last star is ever taken back, which finds the
//! same matches in at most pattern x text steps.

/// A longer pattern, in bytes, matches nothing.
pub const PATTERN_MAX: usize = 512;

/// Whether the pattern covers the whole text. `nocase` ignores the case of ASCII letters.
#[must_use]
pub fn matches(pattern: &[u8], text: &[u8], nocase: bool) -> bool {
    if pattern.len() > PATTERN_MAX {
        return false;
    }
    let (mut at, mut read) = (0, 0);
    // After the last star: where the pattern goes on, and the first byte that the star has not taken yet.
    let mut star: Option<(usize, usize)> = None;
    while read < text.len() {
        if pattern.get(at) == Some(&b'*') {
            at += 1;
            star = Some((at, read));
            continue;
        }
        let step = if at < pattern.len() {
            one(&pattern[at..], text[read], nocase)
        } else {
            None
        };
        if let Some(length) = step {
            at += length;
            read += 1;
            continue;
        }
        let Some((after, taken)) = star else {
            return false;
        };
        star = Some((after, taken + 1));
        (at, read) = (after, taken + 1);
    }
    pattern[at..].iter().all(|&byte| byte == b'*')
}

/// Whether the element at the start of a pattern that is not empty matches the byte: its length if so.
fn one(pattern: &[u8], byte: u8, nocase: bool) -> Option<usize> {
    let fold = |byte: u8| {
        if nocase {
            byte.to_ascii_lowercase()
        } else {
            byte
        }
    };
    let literal = |expected: u8, length| (fold(expected) == fold(byte)).then_some(length);
    match pattern[0] {
        b'?' => Some(1),
        b'[' => {
            let (within, length) = class(&pattern[1..], fold(byte), fold);
            within.then_some(1 + length)
        }
        b'\\' if pattern.len() > 1 => literal(pattern[1], 2),
        other => literal(other, 1),
    }
}

/// Whether the class after a `[` holds the byte, and its length with the closing bracket.
fn class(pattern: &[u8], byte: u8, fold: impl Fn(u8) -> u8) -> (bool, usize) {
    let negated = pattern.first() == Some(&b'^');
    let mut at = usize::from(negated);
    let mut found = false;
    loop {
        match &pattern[at..] {
            [] => break,
            [b'\\', escaped, ..] => {
                found |= fold(*escaped) == byte;
                at += 2;
            }
            [b']', ..] => {
                at += 1;
                break;
            }
            [first, b'-', last, ..] => {
                let (low, high) = (fold(*first.min(last)), fold(*first.max(last)));
                let (low, high) = (low.min(high), low.max(high));
                found |= (low..=high).contains(&byte);
                at += 3;
            }
            [single, ..] => {
                found |= fold(*single) == byte;
                at += 1;
            }
        }
    }
    (found != negated, at)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns() {
        let table: &[(&str, &str, bool)] = &[
            ("*", "orders", true),
            ("**", "orders", true),
            ("orders", "orders", true),
            ("orders", "order", false),
            ("order", "orders", false),
            ("", "orders", false),
            ("o*s", "orders", true),
            ("o*x", "orders", false),
            ("*r*r*", "orders", true),
            ("*r*r*r*", "orders", false),
            ("orders*", "orders", true),
            ("?rders", "orders", true),
            ("?orders", "orders", false),
            ("Orders", "orders", false),
            ("[no]rders", "orders", true),
            ("[^no]rders", "orders", false),
            ("[a-z]rders", "orders", true),
            ("[z-a]rders", "orders", true),
            ("[p-z]rders", "orders", false),
            // A backslash takes the meaning away, in a class too; at the very end it stands for itself.
            ("\\*", "*", true),
            ("\\*", "x", false),
            ("[\\]]", "]", true),
            ("a\\", "a\\", true),
            ("[\\-a]", "-", true),
            // Not closed: the class ends with the pattern.
            ("[abc", "b", true),
            ("[abc", "d", false),
            ("[", "a", false),
            ("[^", "a", true),
            // Closed at once: none, or any.
            ("[]", "a", false),
            ("[^]", "a", true),
            // Three bytes make a range even if the last is the bracket.
            ("[a-]", "]", true),
            ("[a-]", "a", true),
            ("[a-]", "-", false),
            ("*[0-9]", "shard7", true),
            ("*[0-9]", "shardx", false),
        ];
        for (pattern, text, expected) in table {
            assert_eq!(
                matches(pattern.as_bytes(), text.as_bytes(), false),
                *expected,
                "{pattern} on {text}"
            );
        }
    }

    /// Random patterns and keys, and whether `KEYS` of Redis 7.0.15 found the key.
    #[test]
    fn as_redis_matches() {
        for line in include_str!("tests/globs.tsv").lines() {
            let columns: Vec<_> = line.split('\t').collect();
            let [pattern, text, found] = columns[..] else {
                panic!("{line} has not three columns");
            };
            let expected = found == "1";
            let got = matches(pattern.as_bytes(), text.as_bytes(), false);
            assert_eq!(got, expected, "{pattern} on {text}");
        }
    }

    #[test]
    fn case_may_be_ignored() {
        assert!(matches(b"ANNOUNCE-*", b"announce-ip", true));
        assert!(matches(b"[A-C]nnounce*", b"announce-ip", true));
        assert!(matches(b"\\A*", b"announce-ip", true));
        assert!(!matches(b"ANNOUNCE-*", b"announce-ip", false));
    }

    /// Redis 7.0.8 and older need years for this one.
    #[test]
    fn a_hostile_pattern_ends() {
        let pattern = b"a*".repeat(PATTERN_MAX / 2 - 1);
        let mut hostile = pattern.clone();
        hostile.push(b'b');
        let text = vec![b'a'; 4096];
        assert!(matches(&pattern, &text, false));
        assert!(!matches(&hostile, &text, false));
    }

    #[test]
    fn a_pattern_without_end_matches_nothing() {
        assert!(!matches(&[b'*'; PATTERN_MAX + 1], b"a", false));
    }
}
