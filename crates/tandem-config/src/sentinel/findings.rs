//! What reading collects besides the model, within bounds.

use crate::diagnostic::{Bounded, Diagnostic, FileId, Report, Span};

use super::fatal::Fatal;
use super::words::Word;

/// One text that lines come from.
#[derive(Debug)]
pub(super) struct Source {
    pub(super) file: FileId,
    pub(super) bytes: Vec<u8>,
    pub(super) origin: Origin,
    /// The number of its first line.
    pub(super) first_line: usize,
}

/// Where a text comes from, which decides between two that contradict each other: the main file holds the saved state.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Origin {
    Main,
    Included,
    Overrides,
}

/// A line with what is needed to blame it.
#[derive(Debug)]
pub(super) struct Line<'a> {
    pub(super) source: &'a Source,
    /// Without blanks around it.
    pub(super) text: &'a [u8],
    /// Where `text` begins in the source.
    pub(super) start: usize,
    pub(super) number: usize,
    pub(super) words: Vec<Word>,
}

impl Line<'_> {
    /// The whole line.
    pub(super) fn span(&self) -> Span {
        Span::new(self.source.file, self.start, self.start + self.text.len())
    }

    /// One word, or the whole line if there is none.
    pub(super) fn word_span(&self, index: usize) -> Span {
        self.words.get(index).map_or_else(
            || self.span(),
            |word| Span::new(self.source.file, word.start, word.end),
        )
    }

    /// The bytes of a word; empty if there is none.
    pub(super) fn bytes(&self, index: usize) -> &[u8] {
        self.words
            .get(index)
            .map_or(&[], |word| word.bytes.as_slice())
    }

    /// Redis' refusal of this line.
    pub(super) fn fatal(&self, reason: impl Into<String>) -> Fatal {
        Fatal::Line {
            number: self.number,
            text: String::from_utf8_lossy(self.text).into_owned(),
            reason: reason.into(),
        }
    }
}

/// Collects the findings and, beside them, the first refusal in Redis' own order.
#[derive(Debug, Default)]
pub(super) struct Findings {
    pub(super) found: Bounded,
    pub(super) fatal: Option<Fatal>,
}

impl Findings {
    /// The file cannot be used. The first refusal is the one that Redis would have stopped at.
    pub(super) fn refuse(&mut self, fatal: Fatal, found: Diagnostic) {
        self.fatal.get_or_insert(fatal);
        self.found.push(found);
    }

    /// The file can be used.
    pub(super) fn advise(&mut self, found: Diagnostic) {
        self.found.push(found);
    }

    /// The findings in the order of the files, and the refusal.
    pub(super) fn finish(self) -> (Report, Option<Fatal>) {
        (self.found.finish(), self.fatal)
    }
}
