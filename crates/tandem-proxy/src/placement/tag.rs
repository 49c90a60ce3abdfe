//! Hash tags: the part of a key that is hashed, so that related keys can be kept on one server.

/// What of `key` is hashed under the tag `[open, close]`.
///
/// The bytes between the first `open` and the first `close` after it, if both are there and something is between them;
/// otherwise the whole key. Only the first `open` counts, an empty first tag does not make room for a second, and
/// the two bytes may be the same. Redis Cluster's rule is the same for `{}`.
#[must_use]
#[inline]
pub fn tagged(key: &[u8], [open, close]: [u8; 2]) -> &[u8] {
    let Some(before) = position(key, open) else {
        return key;
    };
    let inside = &key[before + 1..];
    match position(inside, close) {
        None | Some(0) => key,
        Some(length) => &inside[..length],
    }
}

fn position(bytes: &[u8], wanted: u8) -> Option<usize> {
    bytes.iter().position(|&byte| byte == wanted)
}

#[cfg(test)]
mod tests {
    use super::tagged;

    #[test]
    fn only_the_first_opening_counts() {
        let braces: [(&str, &str); 11] = [
            ("", ""),
            ("{tag}:one", "tag"),
            ("a{tag}b", "tag"),
            ("{{tag}}", "{tag"),
            ("x{}y{tag}", "x{}y{tag}"),
            ("}tag{", "}tag{"),
            ("{tag", "{tag"),
            ("tag}", "tag}"),
            ("{}", "{}"),
            ("}{tag}", "tag"),
            ("{a}{b}", "a"),
        ];
        for (key, hashed) in braces {
            assert_eq!(tagged(key.as_bytes(), *b"{}"), hashed.as_bytes(), "{key}");
        }
    }

    #[test]
    fn both_bytes_may_be_the_same() {
        for (key, hashed) in [
            ("$tag$x", "tag"),
            ("a$$b", "a$$b"),
            ("$tag", "$tag"),
            ("a$b$c$d", "b"),
        ] {
            assert_eq!(tagged(key.as_bytes(), *b"$$"), hashed.as_bytes(), "{key}");
        }
    }
}
