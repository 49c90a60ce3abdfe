//! What a reader has to say about a file, as a value.
//!
//! A [`Diagnostic`] names what is wrong, where (byte ranges of files that [`Sources`] holds) and what would be right. A
//! [`Report`] collects all of them; readers never stop at the first. Turning a report into text is the business of
//! `render`; turning it into JSON is the caller's, by serialising [`Report::entries`].

mod bounded;
mod render;
mod source;

use serde::Serialize;

pub(crate) use bounded::Bounded;
pub use source::{FileId, Position, Sources, Span};

/// How much a finding matters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// The file cannot be used as it stands.
    Error,
    /// The file can be used, but does not do what its author probably meant.
    Warning,
    /// Worth knowing; nothing needs to change.
    Note,
}

/// One place in a file that belongs to a finding.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Label {
    /// The bytes meant.
    pub span: Span,
    /// What to say beside them; may be empty.
    pub text: String,
}

/// One finding: what is wrong, where, and what would be right.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Diagnostic {
    /// How much it matters.
    pub severity: Severity,
    /// A stable name for the kind of finding, for tests, documents and machines: `unknown-key`, `no-secret`.
    pub code: &'static str,
    /// What is wrong, in one sentence without a full stop.
    pub message: String,
    /// Places; the first is where the finding is reported. Empty only when no file is to blame.
    pub labels: Vec<Label>,
    /// What would be right, one sentence each.
    pub help: Vec<String>,
}

impl Diagnostic {
    /// A finding without places yet.
    pub fn new(severity: Severity, code: &'static str, message: impl Into<String>) -> Self {
        Self {
            severity,
            code,
            message: message.into(),
            labels: Vec::new(),
            help: Vec::new(),
        }
    }

    /// An error: the file cannot be used as it stands.
    pub fn error(code: &'static str, message: impl Into<String>) -> Self {
        Self::new(Severity::Error, code, message)
    }

    /// A warning: usable, but probably not what was meant.
    pub fn warning(code: &'static str, message: impl Into<String>) -> Self {
        Self::new(Severity::Warning, code, message)
    }

    /// A note: worth knowing.
    pub fn note(code: &'static str, message: impl Into<String>) -> Self {
        Self::new(Severity::Note, code, message)
    }

    /// Adds a place. The first one added is where the finding is reported.
    #[must_use]
    pub fn at(mut self, span: Span, text: impl Into<String>) -> Self {
        self.labels.push(Label {
            span,
            text: text.into(),
        });
        self
    }

    /// Adds a sentence that says what would be right.
    #[must_use]
    pub fn help(mut self, text: impl Into<String>) -> Self {
        self.help.push(text.into());
        self
    }
}

/// A [`Diagnostic`] with its places resolved to files, lines and columns: the stable JSON form.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Entry {
    /// How much it matters.
    pub severity: Severity,
    /// The stable name of the kind of finding.
    pub code: &'static str,
    /// What is wrong.
    pub message: String,
    /// Where; the first is the main place.
    pub places: Vec<Place>,
    /// What would be right.
    pub help: Vec<String>,
}

/// One resolved place of an [`Entry`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Place {
    /// The file's name as the reader was given it.
    pub file: String,
    /// Counted from 1.
    pub line: usize,
    /// Counted from 1, in characters.
    pub column: usize,
    /// What is said beside the place; may be empty.
    pub text: String,
}

/// Everything found in one set of files.
#[derive(Debug, Clone, Default)]
pub struct Report {
    /// The texts that the findings point into.
    pub sources: Sources,
    /// The findings, in the order found until [`Report::sort`].
    pub diagnostics: Vec<Diagnostic>,
}

impl Report {
    /// Adds a finding.
    pub fn push(&mut self, diagnostic: Diagnostic) {
        self.diagnostics.push(diagnostic);
    }

    /// Is there at least one error? Then the settings must not be used.
    pub fn has_errors(&self) -> bool {
        self.count(Severity::Error) > 0
    }

    /// How many findings of this severity there are.
    pub fn count(&self, severity: Severity) -> usize {
        self.diagnostics
            .iter()
            .filter(|diagnostic| diagnostic.severity == severity)
            .count()
    }

    /// Puts the findings in the order of the files and of the places in them, which is how a person works through them.
    pub fn sort(&mut self) {
        self.diagnostics.sort_by_key(|diagnostic| {
            diagnostic
                .labels
                .first()
                .map(|label| (label.span.file, label.span.start))
        });
    }

    /// The findings with their places resolved, for machines.
    pub fn entries(&self) -> Vec<Entry> {
        self.diagnostics
            .iter()
            .map(|diagnostic| Entry {
                severity: diagnostic.severity,
                code: diagnostic.code,
                message: diagnostic.message.clone(),
                places: diagnostic
                    .labels
                    .iter()
                    .map(|label| {
                        let position = self.sources.position(label.span);
                        Place {
                            file: self.sources.name(label.span.file).to_owned(),
                            line: position.line,
                            column: position.column,
                            text: label.text.clone(),
                        }
                    })
                    .collect(),
                help: diagnostic.help.clone(),
            })
            .collect()
    }

    /// The findings as text for a terminal: each with `file:line:column`, the line itself and the help.
    pub fn render(&self, colour: bool) -> String {
        render::report(self, colour)
    }
}
