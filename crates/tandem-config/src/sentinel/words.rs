//! From a line to its words and back, in the way of redis.conf.
//!
//! Splitting follows Redis to the letter, with its quirks, because the same file must mean the same: a quote may open in the
//! middle of a word, a closing quote must be followed by a blank, only double quotes know escapes, and `#` means nothing
//! after the first character of a line. Quoting is the inverse, used only where a bare word would not survive.

/// One word of a line, with the bytes of the source that it came from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Word {
    /// The word with quotes and escapes resolved. Any bytes: escapes can spell them.
    pub(super) bytes: Vec<u8>,
    /// The first byte in the source, its quote included.
    pub(super) start: usize,
    /// One past the last byte in the source.
    pub(super) end: usize,
}

impl Word {
    /// The word in lower case, for keywords, which Redis compares without regard to case.
    pub(super) fn keyword(&self) -> String {
        String::from_utf8_lossy(&self.bytes).to_ascii_lowercase()
    }

    /// Is it this keyword, in any case?
    pub(super) fn is(&self, keyword: &str) -> bool {
        self.bytes.eq_ignore_ascii_case(keyword.as_bytes())
    }
}

/// What splitting a line gives.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Split {
    /// The words up to the end, or up to the one whose quotes do not balance.
    pub(super) words: Vec<Word>,
    /// Where the word begins whose quotes do not balance; Redis refuses the whole line then.
    pub(super) unbalanced: Option<usize>,
}

/// Splits a line that begins at byte `offset` of its source.
pub(super) fn split(line: &[u8], offset: usize) -> Split {
    let mut found = Split::default();
    let mut at = 0;
    loop {
        while line.get(at).is_some_and(|byte| is_space(*byte)) {
            at += 1;
        }
        if at >= line.len() {
            return found;
        }
        match word(line, at) {
            Some((bytes, end)) => {
                found.words.push(Word {
                    bytes,
                    start: offset + at,
                    end: offset + end,
                });
                at = end;
            }
            None => {
                found.unbalanced = Some(offset + at);
                return found;
            }
        }
    }
}

/// What isspace() of the C locale calls a blank: what may stand between words.
fn is_space(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t' | b'\n' | b'\r' | 0x0b | 0x0c)
}

/// What ends a bare word; a vertical tab or a form feed does not.
fn ends_word(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t' | b'\n' | b'\r')
}

/// The word at `at` and where it ends, or nothing if its quotes do not balance.
fn word(line: &[u8], mut at: usize) -> Option<(Vec<u8>, usize)> {
    let mut bytes = Vec::new();
    while let Some(&byte) = line.get(at) {
        match byte {
            b'"' => return double_quoted(line, at + 1, bytes),
            b'\'' => return single_quoted(line, at + 1, bytes),
            byte if ends_word(byte) => break,
            byte => bytes.push(byte),
        }
        at += 1;
    }
    Some((bytes, at))
}

fn double_quoted(line: &[u8], mut at: usize, mut bytes: Vec<u8>) -> Option<(Vec<u8>, usize)> {
    loop {
        match (line.get(at)?, line.get(at + 1)) {
            (b'\\', Some(b'x')) if hex_pair(line, at + 2).is_some() => {
                bytes.extend(hex_pair(line, at + 2));
                at += 4;
            }
            (b'\\', Some(&escaped)) => {
                bytes.push(match escaped {
                    b'n' => b'\n',
                    b'r' => b'\r',
                    b't' => b'\t',
                    b'b' => 0x08,
                    b'a' => 0x07,
                    other => other,
                });
                at += 2;
            }
            (b'"', next) => {
                return next
                    .is_none_or(|byte| is_space(*byte))
                    .then_some((bytes, at + 1));
            }
            (&byte, _) => {
                bytes.push(byte);
                at += 1;
            }
        }
    }
}

fn single_quoted(line: &[u8], mut at: usize, mut bytes: Vec<u8>) -> Option<(Vec<u8>, usize)> {
    loop {
        match (line.get(at)?, line.get(at + 1)) {
            (b'\\', Some(b'\'')) => {
                bytes.push(b'\'');
                at += 2;
            }
            (b'\'', next) => {
                return next
                    .is_none_or(|byte| is_space(*byte))
                    .then_some((bytes, at + 1));
            }
            (&byte, _) => {
                bytes.push(byte);
                at += 1;
            }
        }
    }
}

fn hex_pair(line: &[u8], at: usize) -> Option<u8> {
    let digit = |at: usize| {
        line.get(at)
            .and_then(|byte| char::from(*byte).to_digit(16))
            .and_then(|digit| u8::try_from(digit).ok())
    };
    Some(digit(at)? << 4 | digit(at + 1)?)
}

/// The words as a line, each quoted only if it has to be.
pub(super) fn join<W: AsRef<[u8]>>(words: &[W]) -> Vec<u8> {
    let mut line = Vec::new();
    for (index, word) in words.iter().enumerate() {
        if index > 0 {
            line.push(b' ');
        }
        line.extend(quoted_if_needed(word.as_ref()));
    }
    line
}

fn quoted_if_needed(word: &[u8]) -> Vec<u8> {
    let is_plain = |byte: &u8| byte.is_ascii_graphic() && !matches!(byte, b'"' | b'\'');
    if !word.is_empty() && word.iter().all(is_plain) {
        word.to_vec()
    } else {
        quoted(word)
    }
}

/// In double quotes, with every byte that is not printable ASCII escaped, as Redis writes strings.
pub(super) fn quoted(word: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(word.len() + 2);
    out.push(b'"');
    for &byte in word {
        match byte {
            b'\\' | b'"' => out.extend([b'\\', byte]),
            b'\n' => out.extend(b"\\n"),
            b'\r' => out.extend(b"\\r"),
            b'\t' => out.extend(b"\\t"),
            0x07 => out.extend(b"\\a"),
            0x08 => out.extend(b"\\b"),
            b' '..=b'~' => out.push(byte),
            other => out.extend(format!("\\x{other:02x}").into_bytes()),
        }
    }
    out.push(b'"');
    out
}

/// The text without blanks at both ends, and how many bytes were cut in front. A vertical tab is no blank here.
pub(super) fn trim(line: &[u8]) -> (usize, &[u8]) {
    let start = line
        .iter()
        .position(|byte| !ends_word(*byte))
        .unwrap_or(line.len());
    let end = line
        .iter()
        .rposition(|byte| !ends_word(*byte))
        .map_or(start, |at| at + 1);
    (start, &line[start..end])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn texts(line: &str) -> Option<Vec<String>> {
        let found = split(line.as_bytes(), 0);
        found.unbalanced.is_none().then(|| {
            found
                .words
                .into_iter()
                .map(|word| String::from_utf8(word.bytes).unwrap())
                .collect()
        })
    }

    #[test]
    fn lines_split_as_in_redis() {
        for (line, words) in [
            ("a  b\tc", Some(vec!["a", "b", "c"])),
            ("", Some(vec![])),
            ("a \"b c\" 'd e'", Some(vec!["a", "b c", "d e"])),
            ("\"\" ''", Some(vec!["", ""])),
            (
                r#""\x41\n\t\r\a\b\\\"\q\xZ""#,
                Some(vec!["A\n\t\r\x07\x08\\\"qxZ"]),
            ),
            (r"'it\'s \n'", Some(vec![r"it's \n"])),
            (
                "pa\"ss\"",
                Some(vec!["pass"]),
                // A quote opens in the middle of a word.
            ),
            ("pa\"ss\"word", None),
            ("\"open", None),
            ("'open", None),
            ("it's", None),
            ("a#b #c", Some(vec!["a#b", "#c"])),
            (r"back\slash", Some(vec![r"back\slash"])),
            ("a\x0bb", Some(vec!["a\x0bb"])),
            (r#""open\"#, None),
        ] {
            let words = words.map(|words| words.into_iter().map(str::to_owned).collect());
            assert_eq!(texts(line), words, "{line:?}");
        }
    }

    #[test]
    fn words_know_their_places() {
        let found = split(b"ab \"c d\" 'x", 10);
        let places: Vec<_> = found.words.iter().map(|w| (w.start, w.end)).collect();
        assert_eq!(places, [(10, 12), (13, 18)]);
        assert_eq!(found.unbalanced, Some(19));
    }

    #[test]
    fn only_words_that_need_quotes_get_them() {
        assert_eq!(join(&["a", "", "b c", "d\"e"]), br#"a "" "b c" "d\"e""#);
        assert_eq!(quoted("é\x01".as_bytes()), br#""\xc3\xa9\x01""#);
    }

    proptest::proptest! {
        /// Whatever the words, the line made of them splits into the same words.
        #[test]
        fn joined_words_split_again(
            words in proptest::collection::vec(proptest::collection::vec(proptest::num::u8::ANY, 0..12), 0..6)
        ) {
            let found = split(&join(&words), 0);
            proptest::prop_assert_eq!(found.unbalanced, None);
            let again: Vec<_> = found.words.into_iter().map(|word| word.bytes).collect();
            proptest::prop_assert_eq!(again, words);
        }
    }
}
