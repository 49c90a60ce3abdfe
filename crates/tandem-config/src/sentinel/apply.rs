//! The `sentinel ...` statements: which one a line is, whom it is about, and what is forgiven about its form.
//!
//! What each does is in [`super::groups`] and [`super::globals`], its values in [`super::value`]. The order of checks within a
//! statement is Redis', so that the first refusal is the one Redis would have printed.

use std::collections::{BTreeMap, BTreeSet};

use crate::diagnostic::{Diagnostic, Span};
use crate::suggest;

use super::findings::{Line, Origin};
use super::model::Secret;
use super::read::Reader;
use super::statement::{Global, InGroup, Key, STATEMENTS, Statement};
use super::words::Word;

/// What has to be found quickly about groups while reading, so that a hostile file costs no more than its length.
#[derive(Debug, Default)]
pub(super) struct GroupIndex {
    pub(super) by_name: BTreeMap<String, Monitored>,
    /// Groups whose `monitor` was refused: what else is said about them is not worth a second error.
    pub(super) refused: BTreeSet<String>,
    pub(super) replicas: BTreeSet<(usize, String, u16)>,
    pub(super) sentinels: BTreeMap<(usize, String), usize>,
    pub(super) renamed: BTreeMap<(usize, String), String>,
    said: BTreeMap<(Key, Option<usize>), Span>,
}

/// A group by the `monitor` statement that defined it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Monitored {
    /// Its place among the groups of the configuration.
    pub(super) index: usize,
    pub(super) origin: Origin,
    pub(super) at: Span,
}

/// May the rest of this line be one value, quotes and all? Redis 7.0 writes passwords and names without quotes.
pub(super) fn takes_rest_of_line(words: &[Word], is_unbalanced: bool) -> bool {
    let [sentinel, name, values @ ..] = words else {
        return false;
    };
    let Some(statement) = Statement::find(&name.bytes).filter(|known| known.loose) else {
        return false;
    };
    // The word with the open quote is not among the words.
    sentinel.is("sentinel") && values.len() + usize::from(is_unbalanced) >= statement.words
}

impl Reader<'_> {
    /// Applies one statement. `unbalanced` is where a quote opens that does not close.
    pub(super) fn statement(&mut self, mut line: Line<'_>, unbalanced: Option<usize>) {
        let Some(statement) = Statement::find(line.bytes(1)) else {
            self.unknown_statement(&line);
            return;
        };
        let values = line.words.len() - 2;
        let is_loose = unbalanced.is_some() || values > statement.words;
        let is_empty = statement.may_be_empty() && values + 1 == statement.words;
        if statement.loose && (is_loose || is_empty) {
            self.take_rest_of_line(&mut line, statement, unbalanced);
        } else if !(statement.words..=statement.words_max).contains(&values) {
            let found = Diagnostic::error(
                "wrong-arguments",
                format!("`{}` has the wrong number of words", statement.name),
            )
            .at(line.span(), "")
            .help(format!("it is written `{}`", statement.usage));
            let found = match statement.key {
                Key::Monitor if values + 1 == statement.words => found.help(
                    "redis-sentinel leaves out a name that it could not resolve; write the address again",
                ),
                Key::Monitor | Key::Global(_) | Key::Group(_) => found,
            };
            let reason = "Unrecognized sentinel configuration statement.";
            self.findings.refuse(line.fatal(reason), found);
            return;
        }
        match statement.key {
            Key::Monitor => self.monitor(&line),
            Key::Group(key) => {
                if let Some(group) = self.group_of(&line, statement) {
                    self.repeated(&line, statement, Some(group));
                    self.group_statement(key, group, &line);
                }
            }
            Key::Global(key) => {
                self.repeated(&line, statement, None);
                self.global_statement(key, &line);
            }
        }
    }

    fn unknown_statement(&mut self, line: &Line<'_>) {
        let name = String::from_utf8_lossy(line.bytes(1)).into_owned();
        let known = STATEMENTS.iter().flat_map(Statement::spellings);
        let mut found = Diagnostic::error(
            "unknown-statement",
            format!("there is no statement `sentinel {name}`"),
        )
        .at(line.word_span(1), "");
        if let Some(meant) = suggest::nearest(&name, known) {
            found = found.help(format!("did you mean `{meant}`?"));
        }
        let reason = "Unrecognized sentinel configuration statement.";
        self.findings.refuse(line.fatal(reason), found);
    }

    /// Makes everything from the last value on one word.
    fn take_rest_of_line(
        &mut self,
        line: &mut Line<'_>,
        statement: &Statement,
        unbalanced: Option<usize>,
    ) {
        let last = statement.words + 1;
        let end = line.start + line.text.len();
        let start = line
            .words
            .get(last)
            .map(|word| word.start)
            .or(unbalanced)
            .unwrap_or(end);
        line.words.truncate(last);
        line.words.push(Word {
            bytes: line.source.bytes[start..end].to_vec(),
            start,
            end,
        });
        let what = if start == end {
            "is missing; taken as none"
        } else {
            "is not quoted; the rest of the line is taken as it stands"
        };
        let found = Diagnostic::warning(
            "unquoted-value",
            format!("the value of `{}` {what}", statement.name),
        )
        .at(
            line.word_span(last),
            "redis-sentinel would not start with this line",
        )
        .help("it is written with quotes at the next change");
        self.findings.advise(found);
    }

    /// A statement of which only the last counts, given twice.
    fn repeated(&mut self, line: &Line<'_>, statement: &Statement, group: Option<usize>) {
        let merges = statement.is_state()
            || matches!(
                statement.key,
                Key::Global(Global::CurrentEpoch) | Key::Group(InGroup::RenameCommand)
            );
        if merges {
            return;
        }
        let before = self.groups.said.insert((statement.key, group), line.span());
        // The command line is there to say it again.
        if let Some(before) = before
            && line.source.origin != Origin::Overrides
        {
            let found = Diagnostic::warning(
                "repeated",
                format!("`{}` is given twice; the last one counts", statement.name),
            )
            .at(line.span(), "this one counts")
            .at(before, "this one does not");
            self.findings.advise(found);
        }
    }

    /// The group that a line is about.
    fn group_of(&mut self, line: &Line<'_>, statement: &Statement) -> Option<usize> {
        let name = self.text(line, 2)?;
        if let Some(known) = self.groups.by_name.get(&name) {
            return Some(known.index);
        }
        if self.groups.refused.contains(&name) {
            return None;
        }
        if statement.is_state() {
            let found = Diagnostic::warning(
                "state-of-unknown-group",
                format!("saved state of `{name}`, which is not monitored"),
            )
            .at(line.word_span(2), "ignored, and dropped at the next change");
            self.findings.advise(found);
            return None;
        }
        let mut found =
            Diagnostic::error("unknown-group", format!("no group `{name}` is monitored"))
                .at(line.word_span(2), "");
        let known = self.groups.by_name.keys().map(String::as_str);
        found = match suggest::nearest(&name, known) {
            Some(meant) => found.help(format!("did you mean `{meant}`?")),
            None => found.help(format!(
                "add `sentinel monitor {name} <address> <port> <quorum>`"
            )),
        };
        let reason = "No such master with specified name.";
        self.findings.refuse(line.fatal(reason), found);
        None
    }
}

/// The text, if there is any.
pub(super) fn filled(text: String) -> Option<String> {
    Some(text).filter(|text| !text.is_empty())
}

/// The password, if there is one.
pub(super) fn secret(bytes: &[u8]) -> Option<Secret> {
    (!bytes.is_empty()).then(|| Secret::new(bytes))
}
