//! A report as text, drawn by annotate-snippets.

use annotate_snippets::{AnnotationKind, Group, Level, Renderer, Snippet};

use super::{Diagnostic, FileId, Label, Report, Severity};

pub(super) fn report(report: &Report, colour: bool) -> String {
    let renderer = if colour {
        Renderer::styled()
    } else {
        Renderer::plain()
    };
    let mut out = String::new();
    for diagnostic in &report.diagnostics {
        let group = group(report, diagnostic);
        out.push_str(&renderer.render(&[group]));
        out.push_str("\n\n");
    }
    out
}

fn group<'a>(report: &'a Report, diagnostic: &'a Diagnostic) -> Group<'a> {
    let level = match diagnostic.severity {
        Severity::Error => Level::ERROR,
        Severity::Warning => Level::WARNING,
        Severity::Note => Level::NOTE,
    };
    let mut group = Group::with_title(level.primary_title(&diagnostic.message).id(diagnostic.code));
    for file in files_in_order(&diagnostic.labels) {
        let mut snippet =
            Snippet::source(report.sources.text(file)).path(report.sources.name(file));
        for (index, label) in diagnostic.labels.iter().enumerate() {
            if label.span.file != file {
                continue;
            }
            let kind = if index == 0 {
                AnnotationKind::Primary
            } else {
                AnnotationKind::Context
            };
            let text = (!label.text.is_empty()).then_some(label.text.as_str());
            snippet = snippet.annotation(kind.span(report.sources.clamp(label.span)).label(text));
        }
        group = group.element(snippet);
    }
    for help in &diagnostic.help {
        group = group.element(Level::HELP.message(help));
    }
    group
}

/// Each file once, the one of the main place first.
fn files_in_order(labels: &[Label]) -> Vec<FileId> {
    let mut files = Vec::new();
    for label in labels {
        if !files.contains(&label.span.file) {
            files.push(label.span.file);
        }
    }
    files
}

#[cfg(test)]
mod tests {
    use super::super::Span;
    use super::*;

    #[test]
    fn text_names_file_line_column_and_help() {
        let mut found = Report::default();
        let file = found.sources.add("tandem.toml", "[host]\nidd = \"a\"\n");
        found.push(
            Diagnostic::error("unknown-key", "unknown key `idd`")
                .at(Span::new(file, 7, 10), "not a key of [host]")
                .help("did you mean `id`?"),
        );
        let text = found.render(false);
        for part in [
            "error[unknown-key]: unknown key `idd`",
            "tandem.toml:2:1",
            "not a key of [host]",
            "help: did you mean `id`?",
        ] {
            assert!(text.contains(part), "{part:?} is not in:\n{text}");
        }
    }

    #[test]
    fn a_finding_without_a_place_still_shows() {
        let mut found = Report::default();
        found.push(Diagnostic::warning("empty", "nothing to do"));
        assert!(
            found
                .render(false)
                .contains("warning[empty]: nothing to do")
        );
    }
}
