//! Reading what `COMMAND` answered, as JSON.

use std::collections::BTreeSet;

use serde_json::Value;

/// One command or sub-command.
#[derive(Debug, Clone, Default)]
pub(super) struct Entry {
    /// Lower case; a sub-command's with its container's before it, `config|get`.
    pub(super) name: String,
    pub(super) arity: i64,
    pub(super) flags: BTreeSet<String>,
    /// Without the `@`.
    pub(super) categories: BTreeSet<String>,
    pub(super) tips: Vec<String>,
    pub(super) specs: Vec<Spec>,
    /// Sorted by name.
    pub(super) subs: Vec<Entry>,
}

/// One key specification.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Spec {
    pub(super) begin: Begin,
    pub(super) find: Find,
    pub(super) flags: BTreeSet<String>,
}

/// Where its keys begin.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Begin {
    Index(i64),
    Keyword { word: String, from: i64 },
    Unknown,
}

/// Which arguments from there are keys.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Find {
    Range { last: i64, step: i64, limit: i64 },
    KeyNum { at: i64, first: i64, step: i64 },
    Unknown,
}

impl Entry {
    /// The value of a tip, `agg_sum` of `response_policy:agg_sum`.
    pub(super) fn tip(&self, name: &str) -> Option<&str> {
        self.tips
            .iter()
            .find_map(|tip| tip.strip_prefix(name)?.strip_prefix(':'))
    }

    pub(super) fn flag(&self, name: &str) -> bool {
        self.flags.contains(name)
    }

    pub(super) fn category(&self, name: &str) -> bool {
        self.categories.contains(name)
    }
}

/// The answer without its notes in prose, sorted, a command on each line, so that two versions can be compared.
pub(super) fn tidied(json: &str) -> Result<String, String> {
    let mut answer: Value = serde_json::from_str(json).map_err(|e| e.to_string())?;
    strip_notes(&mut answer);
    let mut lines = Vec::new();
    for command in answer.as_array_mut().ok_or("COMMAND is no list")? {
        // Servers list sub-commands in the order of a hash table with a seed.
        if let Some(Value::Array(subs)) = command.get_mut(9) {
            subs.sort_by_key(Value::to_string);
        }
        lines.push(command.to_string());
    }
    lines.sort();
    Ok(format!("[\n{}\n]\n", lines.join(",\n")))
}

fn strip_notes(value: &mut Value) {
    match value {
        Value::Array(items) => items.iter_mut().for_each(strip_notes),
        Value::Object(fields) => {
            fields.remove("notes");
            fields.values_mut().for_each(strip_notes);
        }
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

/// The commands of one answer, sorted by name.
pub(super) fn parse(json: &str) -> Result<Vec<Entry>, String> {
    let answer: Value = serde_json::from_str(json).map_err(|e| e.to_string())?;
    entries(&answer)
}

/// Takes what `newer` says over what is in `merged`, and what only it has.
///
/// The number of arguments stays the looser one: a server that takes fewer says so itself. Whether a command reads or
/// writes is not allowed to change unnoticed.
pub(super) fn merge(merged: &mut Vec<Entry>, newer: Vec<Entry>) -> Result<(), String> {
    for mut entry in newer {
        match merged.binary_search_by(|old| old.name.cmp(&entry.name)) {
            Err(at) => merged.insert(at, entry),
            Ok(at) => {
                let old = &mut merged[at];
                for flag in ["readonly", "write"] {
                    if old.flag(flag) != entry.flag(flag) {
                        return Err(format!("{}: servers differ on `{flag}`", entry.name));
                    }
                }
                entry.arity = looser(old.arity, entry.arity);
                let mut subs = std::mem::take(&mut old.subs);
                merge(&mut subs, std::mem::take(&mut entry.subs))?;
                entry.subs = subs;
                *old = entry;
            }
        }
    }
    Ok(())
}

/// The one of two arities that takes more: `-3` is three or more, `3` exactly three.
fn looser(a: i64, b: i64) -> i64 {
    if a == b { a } else { -a.abs().min(b.abs()) }
}

fn entries(value: &Value) -> Result<Vec<Entry>, String> {
    let mut entries = list(value)?
        .iter()
        .map(entry)
        .collect::<Result<Vec<_>, _>>()?;
    entries.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(entries)
}

fn entry(value: &Value) -> Result<Entry, String> {
    let fields = list(value)?;
    let [name, arity, flags, _, _, _, categories, tips, specs, subs] = fields else {
        return Err(format!("not ten fields: {value}"));
    };
    Ok(Entry {
        name: text(name)?,
        arity: number(arity)?,
        flags: texts(flags)?.into_iter().collect(),
        categories: texts(categories)?
            .into_iter()
            .map(|category| category.trim_start_matches('@').to_owned())
            .collect(),
        tips: texts(tips)?,
        specs: list(specs)?.iter().map(spec).collect::<Result<_, _>>()?,
        subs: entries(subs)?,
    })
}

fn spec(value: &Value) -> Result<Spec, String> {
    let (begin, find) = (&value["begin_search"], &value["find_keys"]);
    let at = |from: &Value, field: &str| number(&from["spec"][field]);
    Ok(Spec {
        begin: match text(&begin["type"])?.as_str() {
            "index" => Begin::Index(at(begin, "index")?),
            "keyword" => Begin::Keyword {
                word: text(&begin["spec"]["keyword"])?,
                from: at(begin, "startfrom")?,
            },
            "unknown" => Begin::Unknown,
            other => return Err(format!("begin_search {other}")),
        },
        find: match text(&find["type"])?.as_str() {
            "range" => Find::Range {
                last: at(find, "lastkey")?,
                step: at(find, "keystep")?,
                limit: at(find, "limit")?,
            },
            "keynum" => Find::KeyNum {
                at: at(find, "keynumidx")?,
                first: at(find, "firstkey")?,
                step: at(find, "keystep")?,
            },
            "unknown" => Find::Unknown,
            other => return Err(format!("find_keys {other}")),
        },
        flags: texts(&value["flags"])?.into_iter().collect(),
    })
}

fn list(value: &Value) -> Result<&[Value], String> {
    value
        .as_array()
        .map(Vec::as_slice)
        .ok_or_else(|| format!("no list: {value}"))
}

fn text(value: &Value) -> Result<String, String> {
    value
        .as_str()
        .map(str::to_owned)
        .ok_or_else(|| format!("no text: {value}"))
}

fn texts(value: &Value) -> Result<Vec<String>, String> {
    list(value)?.iter().map(text).collect()
}

fn number(value: &Value) -> Result<i64, String> {
    value.as_i64().ok_or_else(|| format!("no number: {value}"))
}
