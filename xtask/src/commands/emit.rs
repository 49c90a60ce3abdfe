//! Writing the table as Rust.

use std::fmt::Write;

use super::data::{Begin, Entry, Find, Spec};
use super::routes;

/// The whole file.
pub(super) fn table(entries: &[Entry], servers: &[&str]) -> Result<String, String> {
    let known = |name: &str| {
        entries
            .iter()
            .any(|entry| entry.name == name || entry.subs.iter().any(|sub| sub.name == name))
    };
    let unknown = routes::unknown_exceptions(known);
    if !unknown.is_empty() {
        return Err(format!(
            "exceptions for commands that are not there: {unknown:?}"
        ));
    }
    let mut text = format!(
        "//! Every command, from `COMMAND` of {}. Made by `cargo run -p xtask -- commands`: change its\n\
         //! data or its rules, not this file.\n\n\
         use super::flags::*;\n\
         use super::keys::{{Access, Begin, Extractor, Find, KeySpec}};\n\
         use super::route::{{Channels, Connection, Local, Merge, PubSub, Refusal, Route, Timeout, Transaction}};\n\
         use super::{{Command, Flags, category}};\n\n\
         /// Sorted by name.\n\
         pub(super) static COMMANDS: [Command; {}] = [\n",
        servers.join(" and "),
        entries.len()
    );
    let mut id = 0;
    for entry in entries {
        command(&mut text, entry, 1, &mut id)?;
    }
    text.push_str("];\n\n");
    text.push_str("/// Commands and sub-commands: every [`Command::id`] is below.\n");
    writeln!(text, "pub(super) const COUNT: usize = {id};").map_err(|e| e.to_string())?;
    Ok(text)
}

/// A line for a command, with its sub-commands in lines below; ids count them all.
fn command(text: &mut String, entry: &Entry, depth: usize, id: &mut u16) -> Result<(), String> {
    let indent = "    ".repeat(depth);
    let failed = |e: std::fmt::Error| e.to_string();
    write!(
        text,
        "{indent}Command {{ id: {id}, name: \"{}\", arity: {}, flags: Flags({}), categories: {}, route: Route::{}, extractor: Extractor::{}, specs: &[",
        entry.name,
        entry.arity,
        joined(entry.flags.iter().map(|flag| flag.to_uppercase())),
        joined(entry.categories.iter().map(|name| format!("category::{}", name.to_uppercase()))),
        routes::route(entry)?,
        routes::extractor(entry)?,
    )
    .map_err(failed)?;
    *id += 1;
    let mut specs = Vec::new();
    for known in entry
        .specs
        .iter()
        .filter(|spec| spec.begin != Begin::Unknown && spec.find != Find::Unknown)
    {
        specs.push(spec(&entry.name, known)?);
    }
    text.push_str(&specs.join(", "));
    if entry.subs.is_empty() {
        text.push_str("], subs: &[] },\n");
        return Ok(());
    }
    text.push_str("], subs: &[\n");
    for sub in &entry.subs {
        command(text, sub, depth + 1, id)?;
    }
    writeln!(text, "{indent}] }},").map_err(failed)
}

fn joined(names: impl Iterator<Item = String>) -> String {
    let names: Vec<String> = names.collect();
    if names.is_empty() {
        "0".to_owned()
    } else {
        names.join(" | ")
    }
}

fn spec(name: &str, spec: &Spec) -> Result<String, String> {
    let begin = match &spec.begin {
        Begin::Index(at) => format!("Begin::Index({at})"),
        Begin::Keyword { word, from } => {
            format!("Begin::Keyword {{ word: \"{word}\", from: {from} }}")
        }
        Begin::Unknown => return Err(format!("{name}: unknown begin")),
    };
    let find = match &spec.find {
        Find::Range { last, step, limit } => {
            format!("Find::Range {{ last: {last}, step: {step}, limit: {limit} }}")
        }
        Find::KeyNum { at, first, step } => {
            format!("Find::KeyNum {{ at: {at}, first: {first}, step: {step} }}")
        }
        Find::Unknown => return Err(format!("{name}: unknown find")),
    };
    let access = ["not_key", "RO", "RW", "OW", "RM"]
        .into_iter()
        .zip(["NotAKey", "Read", "ReadWrite", "Overwrite", "Remove"])
        .find(|(flag, _)| spec.flags.contains(*flag))
        .ok_or_else(|| format!("{name}: neither read nor written"))?
        .1;
    Ok(format!(
        "KeySpec {{ begin: {begin}, find: {find}, access: Access::{access} }}"
    ))
}
