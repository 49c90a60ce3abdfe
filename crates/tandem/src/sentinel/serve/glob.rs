//! Patterns as `PSUBSCRIBE`, ACL channels and `CLIENT`-side filters know them (Redis' `stringmatchlen`).
//!
//! `*`, `?`, `[abc]`, `[a-z]`, `[^a]` and `\` before a byte that is meant literally. A class that is not closed ends
//! with the pattern; an empty class matches nothing. Matching remembers one star only, so the time is bounded by the
//! product of the two lengths whatever a stranger sends.

/// Whether the whole text matches the pattern.
pub(crate) fn matches(pattern: &[u8], text: &[u8]) -> bool {
    let (mut at, mut seen) = (0, 0);
    // Behind the last star, and the text it has swallowed so far: an earlier star never has to be tried again.
    let mut star: Option<(usize, usize)> = None;
    loop {
        if pattern.get(at) == Some(&b'*') {
            at += 1;
            star = Some((at, seen));
            continue;
        }
        let Some(&byte) = text.get(seen) else {
            return at == pattern.len();
        };
        if let Some(next) = step(&pattern[at..], byte) {
            at += next;
            seen += 1;
            continue;
        }
        let Some((behind, swallowed)) = star else {
            return false;
        };
        at = behind;
        seen = swallowed + 1;
        star = Some((behind, seen));
    }
}

/// As [`matches`], without regard to the case of ASCII letters.
pub(crate) fn matches_nocase(pattern: &[u8], text: &[u8]) -> bool {
    matches(&pattern.to_ascii_lowercase(), &text.to_ascii_lowercase())
}

/// Matches one byte with the head of the pattern, which is no star: how much of the pattern that took.
fn step(pattern: &[u8], byte: u8) -> Option<usize> {
    match pattern {
        [] => None,
        [b'?', ..] => Some(1),
        [b'[', class @ ..] => {
            let (found, len) = class_has(class, byte);
            found.then_some(1 + len)
        }
        [b'\\', literal, ..] => (*literal == byte).then_some(2),
        [literal, ..] => (*literal == byte).then_some(1),
    }
}

/// Whether the class has the byte, and the class's length with its closing bracket.
fn class_has(class: &[u8], byte: u8) -> (bool, usize) {
    let inverted = class.first() == Some(&b'^');
    let mut at = usize::from(inverted);
    let mut found = false;
    loop {
        match &class[at..] {
            [] => break,
            [b']', ..] => {
                at += 1;
                break;
            }
            [b'\\', literal, ..] => {
                found |= *literal == byte;
                at += 2;
            }
            [low, b'-', high, ..] => {
                found |= (*low.min(high)..=*low.max(high)).contains(&byte);
                at += 3;
            }
            [literal, ..] => {
                found |= *literal == byte;
                at += 1;
            }
        }
    }
    (found != inverted, at)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_of_clients_and_corners() {
        for (pattern, text, expected) in [
            ("*", "", true),
            ("*", "+sdown", true),
            ("", "", true),
            ("", "a", false),
            ("+switch-master", "+switch-master", true),
            ("[-+]sdown", "-sdown", true),
            ("[-+]sdown", "*sdown", false),
            ("+s*n", "+sdown", true),
            ("+s*n", "+sdowns", false),
            ("a*b*c", "axxbyyc", true),
            ("a*b*c", "axxbyy", false),
            ("h?llo", "hllo", false),
            ("h[^e]llo", "hello", false),
            ("h[^e]llo", "hallo", true),
            ("h[a-b]llo", "hbllo", true),
            ("h[b-a]llo", "hbllo", true),
            ("h\\*llo", "h*llo", true),
            ("h\\*llo", "hallo", false),
            ("[\\]]", "]", true),
            ("[]", "]", false),
            ("[^]", "x", true),
            ("[abc", "c", true),
            ("a\\", "a\\", true),
            ("**a**", "bab", true),
            ("[", "[", false),
        ] {
            assert_eq!(
                matches(pattern.as_bytes(), text.as_bytes()),
                expected,
                "{pattern} on {text}"
            );
        }
    }

    #[test]
    fn many_stars_take_no_exponential_time() {
        let pattern = "a*".repeat(5_000) + "b";
        assert!(!matches(pattern.as_bytes(), "a".repeat(5_000).as_bytes()));
    }

    #[test]
    fn case_is_ignored_where_asked() {
        assert!(matches_nocase(b"ACL|*", b"acl|cat"));
        assert!(!matches(b"ACL|*", b"acl|cat"));
    }
}
