//! A report that a hostile file cannot make grow without bound.

use super::{Diagnostic, FileId, Report, Severity};

/// More findings than this help nobody, and a hostile file could ask for one per two bytes.
const FINDINGS_MAX: usize = 500;

/// Collects findings; what exceeds the bound is counted, by the gravest of it.
#[derive(Debug, Default)]
pub(crate) struct Bounded {
    report: Report,
    left_out: Option<(Severity, usize)>,
}

impl Bounded {
    /// Adds a text that findings point into.
    pub(crate) fn add_source(
        &mut self,
        name: impl Into<String>,
        text: impl Into<String>,
    ) -> FileId {
        self.report.sources.add(name, text)
    }

    /// Adds a finding.
    pub(crate) fn push(&mut self, found: Diagnostic) {
        if self.report.diagnostics.len() < FINDINGS_MAX {
            self.report.push(found);
            return;
        }
        let (worst, count) = self.left_out.unwrap_or((found.severity, 0));
        self.left_out = Some((worst.min(found.severity), count + 1));
    }

    /// The findings in the order of the files, the number of those left out at the end.
    pub(crate) fn finish(mut self) -> Report {
        self.report.sort();
        if let Some((worst, count)) = self.left_out {
            self.report.push(Diagnostic::new(
                worst,
                "more-findings",
                format!("{count} more findings are not shown"),
            ));
        }
        self.report
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn findings_are_bounded_and_an_error_among_those_left_out_still_counts() {
        let mut found = Bounded::default();
        for _ in 0..FINDINGS_MAX + 7 {
            found.push(Diagnostic::warning("w", "w"));
        }
        found.push(Diagnostic::error("e", "e"));
        found.push(Diagnostic::note("n", "n"));
        let report = found.finish();
        assert_eq!(report.diagnostics.len(), FINDINGS_MAX + 1);
        assert!(report.has_errors());
        assert_eq!(
            report.diagnostics.last().unwrap().message,
            "9 more findings are not shown"
        );
    }
}
