//! The replies of `COMMAND`: facts about the table in the shapes that clients parse.

use tandem_core::sentinel::settings::Compat;
use tandem_resp::Value;

use super::arguments::{self, Argument};
use super::{CATEGORIES, CommandId, Entry, Lookup, category, lookup};
use crate::sentinel::serve::glob;

fn bulk(text: impl AsRef<[u8]>) -> Value {
    Value::Bulk(text.as_ref().to_vec())
}

fn simple(text: impl AsRef<[u8]>) -> Value {
    Value::Simple(text.as_ref().to_vec())
}

/// The listed commands that are no subcommands.
fn listed(compat: Compat) -> impl Iterator<Item = CommandId> {
    CommandId::all()
        .filter(move |id| id.entry().is_listed_in(compat) && id.entry().container().is_none())
}

fn listed_subcommands(id: CommandId, compat: Compat) -> impl Iterator<Item = CommandId> {
    id.subcommands()
        .filter(move |id| id.entry().is_listed_in(compat))
}

/// `COMMAND COUNT`.
pub(crate) fn count(compat: Compat) -> Value {
    Value::Integer(i64::try_from(listed(compat).count()).unwrap_or(i64::MAX))
}

/// The ten fields of a command, as `COMMAND INFO` gives them.
fn describe(id: CommandId, compat: Compat) -> Value {
    let entry = id.entry();
    let categories = CATEGORIES
        .iter()
        .enumerate()
        .filter(|(index, _)| entry.in_category(*index))
        .map(|(_, name)| simple(format!("@{name}")))
        .collect();
    let subcommands: Vec<Value> = listed_subcommands(id, compat)
        .map(|id| describe(id, compat))
        .collect();
    Value::Array(vec![
        bulk(entry.name),
        Value::Integer(entry.arity_in(compat).into()),
        Value::Set(entry.flags.iter().map(simple).collect()),
        // No command of a sentinel has keys.
        Value::Integer(0),
        Value::Integer(0),
        Value::Integer(0),
        Value::Set(categories),
        Value::Set(entry.tips.iter().map(bulk).collect()),
        Value::Set(Vec::new()),
        if subcommands.is_empty() {
            Value::Set(Vec::new())
        } else {
            Value::Array(subcommands)
        },
    ])
}

/// `COMMAND` and `COMMAND INFO [name ...]`; a null in the place of an unknown name.
pub(crate) fn info(names: &[Vec<u8>], compat: Compat) -> Value {
    if names.is_empty() {
        return Value::Array(listed(compat).map(|id| describe(id, compat)).collect());
    }
    let each = names.iter().map(|name| {
        CommandId::by_name(name)
            .filter(|id| id.entry().is_listed_in(compat))
            .map_or(Value::Null, |id| describe(id, compat))
    });
    Value::Array(each.collect())
}

/// A text, where there is one.
fn said(name: &str, text: &str) -> Option<(Value, Value)> {
    (!text.is_empty()).then(|| (bulk(name), bulk(text)))
}

fn argument(it: &Argument) -> Value {
    let mut fields = vec![
        (bulk("name"), bulk(it.name)),
        (bulk("type"), bulk(it.kind.word())),
    ];
    fields.extend(said("token", it.token));
    fields.extend(said("since", it.since));
    fields.extend(said("deprecated_since", it.deprecated_since));
    let flags = [
        (it.is_optional, "optional"),
        (it.is_multiple, "multiple"),
        (it.is_multiple_token, "multiple_token"),
    ];
    let flags: Vec<Value> = flags
        .into_iter()
        .filter(|(is, _)| *is)
        .map(|(_, name)| simple(name))
        .collect();
    if !flags.is_empty() {
        fields.push((bulk("flags"), Value::Set(flags)));
    }
    if !it.arguments.is_empty() {
        let inner = it.arguments.iter().map(argument).collect();
        fields.push((bulk("arguments"), Value::Array(inner)));
    }
    Value::Map(fields)
}

fn documented(id: CommandId, compat: Compat) -> Value {
    let entry = id.entry();
    let mut fields = vec![
        (bulk("summary"), bulk(entry.summary)),
        (bulk("since"), bulk(entry.since)),
        (bulk("group"), bulk(entry.group)),
    ];
    fields.extend(said("complexity", entry.complexity));
    if let Some((since, by)) = arguments::replaced(entry.name) {
        let flags = Value::Set(vec![simple("deprecated")]);
        fields.push((bulk("doc_flags"), flags));
        fields.push((bulk("deprecated_since"), bulk(since)));
        fields.push((bulk("replaced_by"), bulk(by)));
    }
    let history: Vec<Value> = arguments::history(entry.name)
        .iter()
        .map(|(version, change)| Value::Array(vec![bulk(version), bulk(change)]))
        .collect();
    if !history.is_empty() {
        fields.push((bulk("history"), Value::Set(history)));
    }
    let takes: Vec<Value> = arguments::of(entry.name).iter().map(argument).collect();
    if !takes.is_empty() {
        fields.push((bulk("arguments"), Value::Array(takes)));
    }
    let subcommands: Vec<(Value, Value)> = listed_subcommands(id, compat)
        .map(|id| (bulk(id.entry().name), documented(id, compat)))
        .collect();
    if !subcommands.is_empty() {
        fields.push((bulk("subcommands"), Value::Map(subcommands)));
    }
    Value::Map(fields)
}

/// `COMMAND DOCS [name ...]`; unknown names are left out.
pub(crate) fn docs(names: &[Vec<u8>], compat: Compat) -> Value {
    let pair = |id: CommandId| (bulk(id.entry().name), documented(id, compat));
    if names.is_empty() {
        return Value::Map(listed(compat).map(pair).collect());
    }
    Value::Map(
        names
            .iter()
            .filter_map(|name| CommandId::by_name(name))
            .filter(|id| id.entry().is_listed_in(compat))
            .map(pair)
            .collect(),
    )
}

/// `COMMAND LIST [FILTERBY MODULE name | ACLCAT category | PATTERN pattern]`; the arguments after LIST.
pub(crate) fn list(args: &[Vec<u8>], compat: Compat) -> Value {
    let keep: Box<dyn Fn(&Entry) -> bool> = match args {
        [] => Box::new(|_| true),
        [filter, kind, word] if filter.eq_ignore_ascii_case(b"FILTERBY") => {
            if kind.eq_ignore_ascii_case(b"MODULE") {
                // A sentinel has no modules.
                Box::new(|_| false)
            } else if kind.eq_ignore_ascii_case(b"ACLCAT") {
                match category(word) {
                    Some(index) => Box::new(move |entry| entry.in_category(index)),
                    None => Box::new(|_| false),
                }
            } else if kind.eq_ignore_ascii_case(b"PATTERN") {
                Box::new(move |entry| glob::matches_nocase(word, entry.name.as_bytes()))
            } else {
                return Value::Error(b"ERR syntax error".to_vec());
            }
        }
        _ => return Value::Error(b"ERR syntax error".to_vec()),
    };
    Value::Array(
        CommandId::all()
            .map(CommandId::entry)
            .filter(|entry| entry.is_listed_in(compat) && keep(entry))
            .map(|entry| bulk(entry.name))
            .collect(),
    )
}

/// `COMMAND GETKEYS command [argument ...]` and `GETKEYSANDFLAGS`: which words are keys. None is, ever.
pub(crate) fn keys(argv: &[Vec<u8>]) -> Value {
    Value::Error(match lookup(argv) {
        Lookup::Known(id) if id.entry().is_listed() => {
            b"ERR The command has no key arguments".to_vec()
        }
        Lookup::Known(_) | Lookup::UnknownCommand | Lookup::UnknownSubcommand => {
            b"ERR Invalid command specified".to_vec()
        }
    })
}

/// `HELP` of a container: how to call it, and a line for each subcommand.
pub(crate) fn help(container: &str) -> Value {
    let mut lines = vec![simple(format!(
        "{} <subcommand> [<arg> [value] [opt] ...]. Subcommands are:",
        container.to_ascii_uppercase()
    ))];
    let subcommands = CommandId::all()
        .map(CommandId::entry)
        .filter(|entry| entry.container() == Some(container));
    for entry in subcommands {
        let name = entry.name.rsplit_once('|').map_or("", |(_, name)| name);
        lines.push(simple(name.to_ascii_uppercase()));
        lines.push(simple(format!("    {}", entry.summary)));
    }
    Value::Array(lines)
}
