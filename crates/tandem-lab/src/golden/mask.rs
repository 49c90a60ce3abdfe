//! What of an answer is different each time, and what is shown in its place.
//!
//! | where | what | shown as |
//! |---|---|---|
//! | a pair of name and value whose name is in [`FIELDS`] | ages, ids, offsets, addresses of the asking client | the name in `«»` |
//! | a `name:value` line of INFO whose name is in [`FIELDS`], or any under `@names` | the same; everything about machine and build | `name:«»` |
//! | a `name=value` word of CLIENT LIST and CLIENT INFO whose name is in [`CLIENT_FIELDS`] | ids, addresses, memory | `name=«»` |
//! | 40 hexadecimal digits other than the ids that the stage gives | run ids of servers | `«run id»` |
//! | under `@hide`, every text and number | what is random by its nature | `«»` |
//! | under `@prose`, summaries and histories in answers of COMMAND DOCS, and of complexities all but the formula | each program's own words | `«summary»`, `«history»`, `«complexity»` |
//! | under `@sort`, the order of parts, and of the `masterN:` lines of INFO | the order of Redis' hash tables | sorted, `master?:` |
//!
//! A text in which something is masked is shown without its length. Everything else is compared byte for byte.

use super::script::Look;
use crate::wire::{Value, lines};

/// Names whose values are masked, in pairs and in INFO.
pub const FIELDS: [&str; 17] = [
    // Ages and counters of an instance.
    "last-ping-sent",
    "last-ok-ping-reply",
    "last-ping-reply",
    "last-hello-message",
    "s-down-time",
    "o-down-time",
    "info-refresh",
    "role-reported-time",
    "link-pending-commands",
    "slave-repl-offset",
    // Of HELLO, and the client's id in ACL LOG.
    "id",
    // Of ACL LOG.
    "age-seconds",
    "client-info",
    // Of PENDING-SCRIPTS.
    "pid",
    "run-time",
    "run-delay",
    // Of INFO.
    "sentinel_tilt_since_seconds",
];

/// Names of CLIENT LIST whose values are masked.
pub const CLIENT_FIELDS: [&str; 17] = [
    "id",
    "addr",
    "laddr",
    "fd",
    "age",
    "idle",
    "qbuf",
    "qbuf-free",
    "argv-mem",
    "multi-mem",
    "rbs",
    "rbp",
    "obl",
    "oll",
    "omem",
    "tot-mem",
    "events",
];

/// The lines by which a recording shows an answer.
#[must_use]
pub fn shown(mut value: Value, look: Look, known_ids: &[&str]) -> Vec<String> {
    if look.hide {
        hide(&mut value);
    } else {
        mask(&mut value, look.names, known_ids);
    }
    if look.prose {
        cover_prose(&mut value);
    }
    if look.sort {
        sort(&mut value, true);
    }
    lines(&value)
}

fn masked(name: &str) -> String {
    format!("\u{ab}{name}\u{bb}")
}

/// Replaces a leaf's content; its kind stays visible.
fn cover(value: &mut Value, name: &str) {
    match value {
        Value::Line(line) => *line = format!("{}{}", &line[..1], masked(name)),
        Value::Bulk(bytes) | Value::Verbatim(bytes) => *bytes = masked(name).into_bytes(),
        Value::NilBulk | Value::NilArray | Value::List(..) | Value::Map(_) => {}
    }
}

/// `O(N) where N is ...` is a formula with a sentence behind it; some are sentences only.
fn cover_all_but_formula(value: &mut Value) {
    let said = value.text().unwrap_or_default();
    let formula = said.find(')').filter(|_| said.starts_with("O("));
    match (formula, &mut *value) {
        (Some(end), Value::Bulk(bytes)) => bytes.truncate(end + 1),
        (Some(_) | None, leaf) => cover(leaf, "complexity"),
    }
}

/// What COMMAND DOCS says for people: the summary, and beside each version what changed with it.
fn cover_prose(value: &mut Value) {
    let (Value::List(_, members) | Value::Map(members)) = value else {
        return;
    };
    for pair in members.chunks_mut(2) {
        let name = pair[0].text();
        match (name.as_deref(), pair) {
            (Some("summary"), [_, text]) => cover(text, "summary"),
            (Some("complexity"), [_, text]) => cover_all_but_formula(text),
            (Some("history"), [_, Value::List(_, changes)]) => {
                for change in changes {
                    if let Value::List(_, parts) = change
                        && let [_, text] = &mut parts[..]
                    {
                        cover(text, "history");
                    }
                }
            }
            (_, pair) => pair.iter_mut().for_each(cover_prose),
        }
    }
}

fn hide(value: &mut Value) {
    match value {
        Value::List(_, members) | Value::Map(members) => members.iter_mut().for_each(hide),
        leaf @ (Value::Line(_)
        | Value::Bulk(_)
        | Value::Verbatim(_)
        | Value::NilBulk
        | Value::NilArray) => cover(leaf, ""),
    }
}

fn mask(value: &mut Value, names_only: bool, known_ids: &[&str]) {
    match value {
        Value::List(_, members) | Value::Map(members) => {
            // A list may be pairs, which nothing on the wire says: a name of the table at an even place is one.
            for pair in members.chunks_mut(2) {
                let name = pair[0].text().unwrap_or_default();
                if let ([_, value], true) = (&mut *pair, FIELDS.contains(&name.as_str())) {
                    cover(value, &name);
                }
                for part in pair {
                    mask(part, names_only, known_ids);
                }
            }
        }
        Value::Bulk(bytes) | Value::Verbatim(bytes) => {
            if let Ok(text) = std::str::from_utf8(bytes) {
                *bytes = mask_text(text, names_only, known_ids).into_bytes();
            }
        }
        Value::Line(line) => *line = mask_ids(line, known_ids),
        Value::NilBulk | Value::NilArray => {}
    }
}

fn mask_text(text: &str, names_only: bool, known_ids: &[&str]) -> String {
    let is_info = text.starts_with("# ") || text.starts_with("txt:# ");
    let is_client = text.starts_with("id=") || text.starts_with("txt:id=");
    if is_info {
        let line = |line: &str| {
            let end = &line[line.trim_end_matches(['\r', '\n']).len()..];
            match line.split_once(':') {
                Some(("txt", _)) => line.to_owned(),
                Some((name, _)) if names_only || FIELDS.contains(&name) => {
                    format!("{name}:\u{ab}\u{bb}{end}")
                }
                Some(_) | None => line.to_owned(),
            }
        };
        return mask_ids(
            &text.split_inclusive('\n').map(line).collect::<String>(),
            known_ids,
        );
    }
    if is_client {
        let word = |word: &str| {
            let end = &word[word.trim_end_matches([' ', '\r', '\n']).len()..];
            let body = word.strip_prefix("txt:").unwrap_or(word);
            let kind = &word[..word.len() - body.len()];
            match body.split_once('=') {
                Some((name, _)) if CLIENT_FIELDS.contains(&name) => {
                    format!("{kind}{name}=\u{ab}\u{bb}{end}")
                }
                Some(_) | None => word.to_owned(),
            }
        };
        return text.split_inclusive([' ', '\n']).map(word).collect();
    }
    mask_ids(text, known_ids)
}

/// Masks every run of exactly 40 hexadecimal digits that is no id of the stage.
fn mask_ids(text: &str, known_ids: &[&str]) -> String {
    let mut out = String::new();
    let mut rest = text;
    while !rest.is_empty() {
        let hex = rest
            .find(|c: char| !c.is_ascii_hexdigit())
            .unwrap_or(rest.len());
        let (run, after) = rest.split_at(hex);
        if run.len() == 40 && !known_ids.contains(&run) {
            out.push_str(&masked("run id"));
        } else {
            out.push_str(run);
        }
        let plain = after
            .find(|c: char| c.is_ascii_hexdigit())
            .unwrap_or(after.len());
        out.push_str(&after[..plain]);
        rest = &after[plain..];
    }
    out
}

/// Sorts the parts of an answer, and below it the subcommands in answers of COMMAND.
fn sort(value: &mut Value, top: bool) {
    if let (Value::Bulk(bytes) | Value::Verbatim(bytes), true) = (&mut *value, top) {
        *bytes = sort_groups(&String::from_utf8_lossy(bytes)).into_bytes();
        return;
    }
    let is_map = matches!(value, Value::Map(_));
    let (Value::List(_, members) | Value::Map(members)) = value else {
        return;
    };
    let mut next_is_subcommands = false;
    for member in members.iter_mut() {
        sort(member, std::mem::take(&mut next_is_subcommands));
        next_is_subcommands = member.text().as_deref() == Some("subcommands");
    }
    let lists = members.iter().filter(|m| !m.members().is_empty()).count();
    let subcommands = !members.is_empty()
        && members.iter().all(|member| {
            let name = member.members().first().and_then(Value::text);
            name.is_some_and(|name| name.contains('|'))
        });
    // Names and their descriptions in turn, as COMMAND DOCS has them in RESP2 too.
    let pairs = is_map || (lists * 2 == members.len() && members.len() > 1);
    if top && pairs {
        let mut sorted: Vec<Vec<Value>> = members.chunks(2).map(<[Value]>::to_vec).collect();
        sorted.sort_by_key(|pair| pair[0].clone());
        *members = sorted.into_iter().flatten().collect();
    } else if top || subcommands {
        members.sort();
    }
}

/// Sorts the lines of INFO that are about a group each, without the number that says which came first.
fn sort_groups(text: &str) -> String {
    let (mut groups, others): (Vec<String>, Vec<String>) = text
        .split_inclusive('\n')
        .map(|line| {
            let numbered = line
                .strip_prefix("master")
                .and_then(|rest| rest.split_once(':'));
            match numbered {
                Some((number, rest)) if number.bytes().all(|c| c.is_ascii_digit()) => {
                    format!("master?:{rest}")
                }
                Some(_) | None => line.to_owned(),
            }
        })
        .partition(|line| line.starts_with("master?:"));
    groups.sort();
    others.into_iter().chain(groups).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::parse;

    fn shown_of(wire: &str, look: Look) -> Vec<String> {
        let wire = wire.replace('\n', "\r\n");
        let (value, _) = parse(wire.as_bytes()).unwrap().unwrap();
        shown(value, look, &[&"1".repeat(40)])
    }

    #[test]
    fn pairs_of_the_table_are_masked_and_others_are_not() {
        let wire = "*4\n$12\ninfo-refresh\n$3\n123\n$4\nname\n$3\n456\n";
        assert_eq!(
            shown_of(wire, Look::default()),
            [
                "*4",
                "$12",
                "info-refresh",
                "$?",
                "\u{ab}info-refresh\u{bb}",
                "$4",
                "name",
                "$3",
                "456"
            ]
        );
        assert_eq!(
            shown_of("%1\n+id\n:7\n", Look::default()),
            ["%1", "+id", ":\u{ab}id\u{bb}"]
        );
    }

    #[test]
    fn ids_that_the_stage_did_not_give_are_masked() {
        let known = "1".repeat(40);
        let strange = "a".repeat(40);
        let longer = "b".repeat(41);
        let wire = format!("+{known},{strange}|{longer}\n");
        assert_eq!(
            shown_of(&wire, Look::default()),
            [format!("+{known},\u{ab}run id\u{bb}|{longer}")]
        );
    }

    #[test]
    fn texts_are_masked_by_the_names_in_them() {
        let wire = "$32\nid=3 addr=1.2.3.4:5 name=x fd=81\n";
        assert_eq!(
            shown_of(wire, Look::default()),
            [
                "$?",
                "id=\u{ab}\u{bb} addr=\u{ab}\u{bb} name=x fd=\u{ab}\u{bb}"
            ]
        );
        let names = Look {
            names: true,
            ..Look::default()
        };
        assert_eq!(
            shown_of("=19\ntxt:# Server\na:b:c\n", names),
            ["=?", "txt:# Server\\r\\n", "a:\u{ab}\u{bb}"]
        );
    }

    #[test]
    fn sorting_keeps_pairs_together() {
        let look = Look {
            sort: true,
            ..Look::default()
        };
        assert_eq!(shown_of("*2\n+b\n+a\n", look), ["*2", "+a", "+b"]);
        assert_eq!(
            sort_groups("x:1\r\nmaster0:name=b\r\nmaster1:name=a\r\n"),
            "x:1\r\nmaster?:name=a\r\nmaster?:name=b\r\n"
        );
        assert_eq!(
            shown_of("*4\n+b\n*1\n+x\n+a\n*1\n+y\n", look),
            ["*4", "+a", "*1", "+y", "+b", "*1", "+x"]
        );
        assert_eq!(
            shown_of("*1\n*2\n+z\n*2\n*1\n+c|b\n*1\n+c|a\n", look),
            ["*1", "*2", "+z", "*2", "*1", "+c|a", "*1", "+c|b"]
        );
    }

    #[test]
    fn prose_is_covered_and_versions_are_not() {
        let look = Look {
            prose: true,
            ..Look::default()
        };
        let wire = "*2\n+ping\n*4\n+summary\n+x\n+history\n*1\n*2\n+7.0.0\n+y\n";
        assert_eq!(
            shown_of(wire, look),
            [
                "*2",
                "+ping",
                "*4",
                "+summary",
                "+\u{ab}summary\u{bb}",
                "+history",
                "*1",
                "*2",
                "+7.0.0",
                "+\u{ab}history\u{bb}"
            ]
        );
    }
}
