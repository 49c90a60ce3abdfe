//! Reading one TOML table against the table of keys.
//!
//! A [`Section`] looks values up by name, takes the default from [`KEYS`](super::KEYS) where nothing is given, and reports what is
//! missing, of the wrong kind or unknown. It never stops at the first finding: a getter that fails reports and returns
//! None, and the caller goes on to the next key.

use std::ops::Range;

use toml::de::{DeTable, DeValue};

use super::table::{self, Presence};
use crate::diagnostic::{Diagnostic, FileId, Report, Span};
use crate::suggest::nearest;

/// A parsed value with its place in the text.
pub(super) type Spanned<'i> = toml::Spanned<DeValue<'i>>;

/// Why a value was refused.
#[derive(Debug)]
pub(super) struct Wrong {
    /// The part to blame, where it is smaller than the whole value.
    pub(super) at: Option<Range<usize>>,
    /// What would be right.
    pub(super) right: String,
}

impl Wrong {
    pub(super) fn new(right: impl Into<String>) -> Self {
        Self {
            at: None,
            right: right.into(),
        }
    }

    pub(super) fn within(mut self, at: Range<usize>) -> Self {
        self.at.get_or_insert(at);
        self
    }
}

/// A type that a key may have.
pub(super) trait Read: Sized {
    /// Its name in [`Key::kind`](super::Key).
    const KIND: &'static str;
    fn read(value: &DeValue<'_>) -> Result<Self, Wrong>;
}

/// One table of the file.
pub(super) struct Section<'a, 'i> {
    file: FileId,
    /// The path of the section in the table of keys.
    path: &'static str,
    /// Where the section begins: blamed for what is missing.
    pub(super) header: Span,
    table: &'a DeTable<'i>,
}

impl<'a, 'i> Section<'a, 'i> {
    pub(super) fn new(
        file: FileId,
        path: &'static str,
        header: Span,
        table: &'a DeTable<'i>,
    ) -> Self {
        Self {
            file,
            path,
            header,
            table,
        }
    }

    fn key_path(&self, name: &str) -> String {
        if self.path.is_empty() {
            name.to_owned()
        } else {
            format!("{}.{name}", self.path)
        }
    }

    fn entry(&self, name: &str) -> Option<(Span, &'a Spanned<'i>)> {
        self.table
            .iter()
            .find(|(key, _)| key.get_ref() == name)
            .map(|(key, value)| (self.span(key.span()), value))
    }

    fn span(&self, range: Range<usize>) -> Span {
        Span::new(self.file, range.start, range.end)
    }

    /// Is the key given in the file?
    pub(super) fn has(&self, name: &str) -> bool {
        self.entry(name).is_some()
    }

    /// Where to report what is wrong with a key: its value, or the section's header if it is not given.
    pub(super) fn place(&self, name: &str) -> Span {
        self.entry(name)
            .map_or(self.header, |(_, value)| self.span(value.span()))
    }

    /// The key's value, or its default. Reports a missing required key and a value of the wrong kind.
    pub(super) fn get<T: Read>(&self, report: &mut Report, name: &str) -> Option<T> {
        let path = self.key_path(name);
        let key = table::key(&path).expect("every key that is read stands in the table of keys");
        debug_assert_eq!(key.kind, T::KIND, "{path} is read as what the table says");
        if let Some((_, value)) = self.entry(name) {
            return self.convert(report, name, value);
        }
        match key.presence {
            Presence::Default(text) => {
                let value = DeValue::parse(text).expect("defaults in the table are TOML");
                Some(T::read(value.get_ref()).expect("defaults in the table are valid"))
            }
            Presence::Required => {
                report.push(
                    Diagnostic::error("missing-key", format!("{} has no `{name}`", self.title()))
                        .at(self.header, format!("`{name}` is required here"))
                        .help(format!("{} Add: {name} = {}", key.doc, key.example)),
                );
                None
            }
            Presence::Optional | Presence::Later(_) => None,
        }
    }

    fn convert<T: Read>(&self, report: &mut Report, name: &str, value: &Spanned<'i>) -> Option<T> {
        match T::read(value.get_ref()) {
            Ok(read) => Some(read),
            Err(wrong) => {
                let at = self.span(wrong.at.unwrap_or_else(|| value.span()));
                report.push(
                    Diagnostic::error(
                        "wrong-value",
                        format!("`{name}` has a value that it cannot have"),
                    )
                    .at(at, format!("must be {}", wrong.right)),
                );
                None
            }
        }
    }

    /// The section's name in messages.
    pub(super) fn title(&self) -> String {
        table::section_info(self.path)
            .map_or_else(|| "the file".to_owned(), table::SectionInfo::header)
    }

    /// The one table under `name`, if given.
    pub(super) fn child(&self, report: &mut Report, name: &str) -> Option<Section<'a, 'i>> {
        let info = table::section_info(&self.key_path(name))
            .expect("every section that is read stands in the table of sections");
        let (key, value) = self.entry(name)?;
        match value.get_ref() {
            DeValue::Table(table) => Some(Section::new(self.file, info.path, key, table)),
            DeValue::Array(_)
            | DeValue::String(_)
            | DeValue::Integer(_)
            | DeValue::Float(_)
            | DeValue::Boolean(_)
            | DeValue::Datetime(_) => {
                report.push(
                    Diagnostic::error("wrong-value", format!("`{name}` is not one table"))
                        .at(key, format!("write it once, as {}", info.header())),
                );
                None
            }
        }
    }

    /// All the tables under `name`, in the order of the file.
    pub(super) fn children(&self, report: &mut Report, name: &str) -> Vec<Section<'a, 'i>> {
        let info = table::section_info(&self.key_path(name))
            .expect("every section that is read stands in the table of sections");
        let Some((key, value)) = self.entry(name) else {
            return Vec::new();
        };
        let mut sections = Vec::new();
        let mut refuse = |at: Span| {
            report.push(
                Diagnostic::error("wrong-value", format!("`{name}` is not a list of tables"))
                    .at(at, format!("write each one under {}", info.header())),
            );
        };
        let Some(items) = value.get_ref().as_array() else {
            refuse(key);
            return sections;
        };
        for item in items {
            let at = self.span(item.span());
            match item.get_ref().as_table() {
                Some(table) => sections.push(Section::new(self.file, info.path, at, table)),
                None => refuse(at),
            }
        }
        sections
    }

    /// Reports every key that the table does not know or that is of a coming version.
    pub(super) fn report_unknown(&self, report: &mut Report) {
        let prefix_len = if self.path.is_empty() {
            0
        } else {
            self.path.len() + 1
        };
        let known: Vec<&'static str> = table::KEYS
            .iter()
            .filter(|key| key.section() == self.path)
            .map(table::Key::name)
            .chain(
                table::SECTIONS
                    .iter()
                    .filter(|section| {
                        section.path.rsplit_once('.').map_or("", |(up, _)| up) == self.path
                    })
                    .map(|section| &section.path[prefix_len..]),
            )
            .collect();
        for (key, _) in self.table {
            let name: &str = key.get_ref();
            let at = self.span(key.span());
            if let Some(Presence::Later(instead)) =
                table::key(&self.key_path(name)).map(|key| key.presence)
            {
                report.push(
                    Diagnostic::error(
                        "not-in-this-version",
                        format!("`{name}` is not in this version of tandem"),
                    )
                    .at(at, "known, but refused")
                    .help(instead),
                );
            } else if !known.contains(&name) {
                report.push(self.unknown(name, at, &known));
            }
        }
    }

    fn unknown(&self, name: &str, at: Span, known: &[&'static str]) -> Diagnostic {
        if let Some((_, file_key)) = INLINE_SECRETS
            .iter()
            .find(|(inline, _)| name.eq_ignore_ascii_case(inline))
        {
            return Diagnostic::error(
                "inline-secret",
                format!("`{name}` must not stand in this file"),
            )
            .at(at, "everyone who may read the settings would know it")
            .help(format!(
                "put it alone into a file that only root can read, and name that file: {file_key} = \"/etc/tandem/...\""
            ));
        }
        let found = Diagnostic::error(
            "unknown-key",
            format!("{} has no key `{name}`", self.title()),
        );
        if let Some(word) = nearest(name, known.iter().copied()) {
            return found.at(at, format!("did you mean `{word}`?"));
        }
        // The right key in the wrong section is the other common slip.
        let elsewhere = table::KEYS
            .iter()
            .find(|key| key.name() == name && !matches!(key.presence, Presence::Later(_)))
            .and_then(|key| table::section_info(key.section()));
        match elsewhere {
            Some(section) => found.at(at, format!("it belongs under {}", section.header())),
            None if known.is_empty() => found.at(at, "there are no keys here"),
            None => found
                .at(at, "unknown")
                .help(format!("the keys here are: {}", known.join(", "))),
        }
    }
}

/// Keys that people try for secrets, and the key to use.
const INLINE_SECRETS: &[(&str, &str)] = &[
    ("password", "password_file"),
    ("requirepass", "password_file"),
    ("masterauth", "password_file"),
    ("auth_pass", "password_file"),
    ("secret", "secret_file"),
];
