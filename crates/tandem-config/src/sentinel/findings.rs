//! What reading collects besides the model, within bounds.

use crate::diagnostic::{Diagnostic, FileId, Report, Severity, Span};

use super::fatal::Fatal;
use super::words::Word;

/// More findings than this help nobody, and a hostile file could ask for one per two bytes.
const FINDINGS_MAX: usize = 500;

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
    pub(super) report: Report,
    pub(super) fatal: Option<Fatal>,
    left_out: Option<(Severity, usize)>,
}

impl Findings {
    /// The file cannot be used. The first refusal is the one that Redis would have stopped at.
    pub(super) fn refuse(&mut self, fatal: Fatal, found: Diagnostic) {
        self.fatal.get_or_insert(fatal);
        self.push(found);
    }

    /// The file can be used.
    pub(super) fn advise(&mut self, found: Diagnostic) {
        self.push(found);
    }

    fn push(&mut self, found: Diagnostic) {
        if self.report.diagnostics.len() < FINDINGS_MAX {
            self.report.push(found);
            return;
        }
        let (worst, count) = self.left_out.unwrap_or((found.severity, 0));
        self.left_out = Some((worst.min(found.severity), count + 1));
    }

    /// The findings in the order of the files, and the refusal.
    pub(super) fn finish(mut self) -> (Report, Option<Fatal>) {
        self.report.sort();
        if let Some((worst, count)) = self.left_out {
            self.report.push(Diagnostic::new(
                worst,
                "more-findings",
                format!("{count} more findings are not shown"),
            ));
        }
        (self.report, self.fatal)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn findings_are_bounded_and_an_error_among_those_left_out_still_counts() {
        let mut findings = Findings::default();
        for _ in 0..FINDINGS_MAX + 7 {
            findings.advise(Diagnostic::warning("w", "w"));
        }
        let reason = "no".to_owned();
        findings.refuse(Fatal::File { reason }, Diagnostic::error("e", "e"));
        findings.advise(Diagnostic::note("n", "n"));
        let (report, fatal) = findings.finish();
        assert_eq!(report.diagnostics.len(), FINDINGS_MAX + 1);
        assert!(report.has_errors() && fatal.is_some());
        assert_eq!(
            report.diagnostics.last().unwrap().message,
            "9 more findings are not shown"
        );
    }
}
