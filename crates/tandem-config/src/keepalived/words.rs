//! From characters to words, in keepalived's two ways.
//!
//! The plain way splits at blanks and strips double quotes; the script way is a shell's: both kinds of quotes, joined with what
//! touches them, and C escapes. Every character remembers its place, so a word made by substitution still points to the
//! text that an operator can edit.

use crate::diagnostic::{FileId, Span};

/// A character with the bytes of the file that it came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Ch {
    pub(super) c: char,
    pub(super) at: Span,
}

/// The characters of a text that begins at byte `offset` of `file`.
pub(super) fn chars(text: &str, file: FileId, offset: usize) -> Vec<Ch> {
    text.char_indices()
        .map(|(index, c)| Ch {
            c,
            at: Span::new(file, offset + index, offset + index + c.len_utf8()),
        })
        .collect()
}

/// The characters as text.
pub(super) fn plain(chars: &[Ch]) -> String {
    chars.iter().map(|ch| ch.c).collect()
}

/// Removes blanks at both ends.
pub(super) fn trim(mut chars: &[Ch]) -> &[Ch] {
    while let [first, rest @ ..] = chars
        && first.c.is_whitespace()
    {
        chars = rest;
    }
    while let [rest @ .., last] = chars
        && last.c.is_whitespace()
    {
        chars = rest;
    }
    chars
}

/// One word of a line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Word {
    pub(super) text: String,
    pub(super) at: Span,
}

/// Splits as keepalived's plain lexer: blanks separate, a double-quoted text is a word of its own without its quotes.
pub(super) fn split(chars: &[Ch]) -> Vec<Word> {
    let mut words = Vec::new();
    let mut rest = trim(chars);
    while let Some(first) = rest.first() {
        let taken;
        let word;
        if first.c == '"' {
            let close = rest[1..].iter().position(|ch| ch.c == '"');
            let end = close.map_or(rest.len(), |at| at + 1);
            word = &rest[1..end];
            taken = close.map_or(rest.len(), |at| at + 2);
        } else {
            taken = rest
                .iter()
                .position(|ch| ch.c.is_whitespace() || ch.c == '"')
                .unwrap_or(rest.len());
            word = &rest[..taken];
        }
        let at = first.at.to(rest[taken - 1].at);
        words.push(Word {
            text: plain(word),
            at,
        });
        rest = trim(&rest[taken..]);
    }
    words
}

/// Splits as keepalived's script lexer: like a shell, without expansion.
pub(super) fn split_script(chars: &[Ch]) -> Vec<Word> {
    let mut words: Vec<Word> = Vec::new();
    let mut open: Option<Word> = None;
    let mut quote: Option<char> = None;
    let mut input = chars.iter().copied().peekable();
    while let Some(ch) = input.next() {
        if quote.is_none() && ch.c.is_whitespace() {
            words.extend(open.take());
            continue;
        }
        let word = open.get_or_insert_with(|| Word {
            text: String::new(),
            at: ch.at,
        });
        word.at = word.at.to(ch.at);
        match (quote, ch.c) {
            (None, '"' | '\'') => quote = Some(ch.c),
            (Some(open), c) if c == open => quote = None,
            (None | Some('"'), '\\') => {
                if let Some(next) = input.next() {
                    word.at = word.at.to(next.at);
                    word.text.push(escape(next.c));
                }
            }
            (_, c) => word.text.push(c),
        }
    }
    words.extend(open);
    words
}

/// The C escapes that make sense in an argument; any other escaped character stands for itself.
fn escape(c: char) -> char {
    match c {
        'n' => '\n',
        't' => '\t',
        'r' => '\r',
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::diagnostic::Sources;

    fn texts(words: Vec<Word>) -> Vec<String> {
        words.into_iter().map(|word| word.text).collect()
    }

    #[test]
    fn both_ways_of_splitting() {
        let mut sources = Sources::default();
        let file = sources.add("x", "");
        let plain = |text: &str| texts(split(&chars(text, file, 0)));
        let script = |text: &str| texts(split_script(&chars(text, file, 0)));
        assert_eq!(plain("a  b\t\"c d\"e"), ["a", "b", "c d", "e"]);
        assert_eq!(plain("\"0.5\""), ["0.5"]);
        assert_eq!(plain("x 'a b'"), ["x", "'a", "b'"]);
        assert_eq!(plain("x \"open"), ["x", "open"]);
        assert_eq!(
            script("a 'b c'd \"e\\\" f\" g\\ h"),
            ["a", "b cd", "e\" f", "g h"]
        );
        assert_eq!(script("'' \"\""), ["", ""]);
        assert!(plain("   ").is_empty() && script(" ").is_empty());
    }
}
