//! What instances refer to: scripts, files, processes; and sync groups.

use std::path::PathBuf;
use std::time::Duration;

use super::super::keywords;
use super::super::model::{
    GlobalDefs, Notify, ScriptDef, ScriptTest, SyncGroup, TrackFile, TrackProcess, Tracked,
    TrackedInterface,
};
use super::super::tree::Node;
use super::super::words::{Word, split_script};
use super::{Reader, command, name_of};
use crate::diagnostic::Diagnostic;

/// Times of scripts are whole seconds in keepalived's documents and fractions in its reader.
const SCRIPT_TIME_US: std::ops::RangeInclusive<u64> = 1..=4_294_967_295;

pub(super) fn script(
    node: &Node,
    global: &GlobalDefs,
    reader: &mut Reader<'_>,
) -> Option<ScriptDef> {
    let (name, at) = name_of(node, reader)?;
    let mut def = ScriptDef {
        name,
        at,
        test: None,
        interval: Duration::from_secs(1),
        timeout: Duration::ZERO,
        weight: 0,
        reverse: false,
        rise: 1,
        fall: 1,
        init_fail: false,
    };
    let mut timeout = None;
    let mut user = global.script_user.clone();
    reader.duplicates(node.lines());
    for line in node.lines() {
        match line.keyword.text.as_str() {
            "script" => def.test = script_test(line, reader),
            "interval" => {
                if let Some(interval) = reader.seconds(line, SCRIPT_TIME_US) {
                    def.interval = interval;
                }
                reader.lost_words(line, 1);
            }
            "timeout" => {
                timeout = reader.seconds(line, SCRIPT_TIME_US);
                reader.lost_words(line, 1);
            }
            "weight" => {
                if let Some((weight, reverse)) = weight(line, &line.args, reader, 253) {
                    (def.weight, def.reverse) = (weight, reverse);
                }
            }
            "rise" => {
                def.rise = reader.number(line, 1..=i64::from(i32::MAX)).unwrap_or(1);
                reader.lost_words(line, 1);
            }
            "fall" => {
                def.fall = reader.number(line, 1..=i64::from(i32::MAX)).unwrap_or(1);
                reader.lost_words(line, 1);
            }
            "user" => {
                let group = line.args.get(1).map(|word| word.text.clone());
                user = reader.word(line).map(|word| (word.text.clone(), group));
            }
            "init_fail" => def.init_fail = true,
            _ => reader.unacted(line, "vrrp_script", keywords::SCRIPT),
        }
    }
    def.timeout = timeout.unwrap_or(def.interval);
    if let (Some(ScriptTest::Run(script)), Some((user, group))) = (&mut def.test, user) {
        script.user = Some(user);
        script.group = group;
    }
    if def.test.is_none() {
        reader.findings.config_error(
            Diagnostic::error(
                "no-script",
                format!("vrrp_script `{}` names no script", def.name),
            )
            .at(at, "keepalived would drop it, and with it the check"),
        );
    }
    Some(def)
}

fn script_test(line: &Node, reader: &mut Reader<'_>) -> Option<ScriptTest> {
    let words = split_script(&line.raw);
    // Only the first word is the command: without quotes around it the arguments are lost.
    if let [_, lost @ ..] = words.as_slice()
        && let [from, .., to] | [from @ to] = lost
    {
        reader.findings.advice(
            Diagnostic::warning("lost-words", "arguments of `script` are lost")
                .at(
                    from.at.to(to.at),
                    "keepalived takes one word as the command",
                )
                .help("put the command with its arguments into double quotes"),
        );
    }
    let first = words.first()?;
    if let Some(path) = first.text.strip_prefix('<') {
        return Some(ScriptTest::Readable(PathBuf::from(path.trim()), first.at));
    }
    let argv = command(first);
    if argv.is_empty() {
        return None;
    }
    Some(ScriptTest::Run(super::super::model::Script {
        argv,
        user: None,
        group: None,
        at: first.at,
    }))
}

/// `weight N [reverse]` from the words after the keyword.
fn weight(node: &Node, words: &[Word], reader: &mut Reader<'_>, limit: i16) -> Option<(i16, bool)> {
    let number = words
        .first()
        .and_then(|word| word.text.parse::<i16>().ok())
        .filter(|weight| (-limit..=limit).contains(weight));
    let Some(number) = number else {
        reader.invalid(node, &format!("a weight from -{limit} to {limit}"));
        return None;
    };
    let reverse = words.get(1).is_some_and(|word| word.text == "reverse");
    Some((number, reverse))
}

pub(super) fn track_file(node: &Node, reader: &mut Reader<'_>) -> Option<TrackFile> {
    let (name, at) = name_of(node, reader)?;
    let mut path = None;
    let mut factor = (1, false);
    let mut init = None;
    for line in node.lines() {
        match line.keyword.text.as_str() {
            "file" => path = reader.word(line).map(|word| PathBuf::from(&word.text)),
            "weight" => factor = weight(line, &line.args, reader, 254).unwrap_or(factor),
            "init_file" => {
                let number = line.args.iter().find_map(|word| word.text.parse().ok());
                let overwrite = line.args.iter().any(|word| word.text == "overwrite");
                init = Some((number.unwrap_or(0), overwrite));
            }
            _ => reader.unacted(line, "track_file", keywords::TRACK_FILE),
        }
    }
    let Some(path) = path else {
        reader.findings.config_error(
            Diagnostic::error("no-file", format!("track_file `{name}` names no file"))
                .at(at, "keepalived would drop it, and with it the check"),
        );
        return None;
    };
    Some(TrackFile {
        name,
        at,
        path,
        weight: factor.0,
        reverse: factor.1,
        init,
    })
}

pub(super) fn track_process(node: &Node, reader: &mut Reader<'_>) -> Option<TrackProcess> {
    let (name, at) = name_of(node, reader)?;
    let mut def = TrackProcess {
        name,
        at,
        process: Vec::new(),
        param_match: None,
        full_command: false,
        quorum: 1,
        quorum_max: None,
        fork_delay: Duration::ZERO,
        terminate_delay: Duration::ZERO,
        weight: 0,
        reverse: false,
    };
    let delay_us = 0..=3_600_000_000;
    for line in node.lines() {
        match line.keyword.text.as_str() {
            "process" => {
                def.process = split_script(&line.raw)
                    .into_iter()
                    .map(|word| word.text)
                    .collect();
            }
            "param_match" => def.param_match = reader.word(line).map(|word| word.text.clone()),
            "full_command" => def.full_command = true,
            "quorum" => def.quorum = reader.number(line, 1..=65535).unwrap_or(1),
            "quorum_max" => def.quorum_max = reader.number(line, 0..=65535),
            "delay" => {
                let delay = reader.seconds(line, delay_us.clone()).unwrap_or_default();
                (def.fork_delay, def.terminate_delay) = (delay, delay);
            }
            "fork_delay" => {
                def.fork_delay = reader.seconds(line, delay_us.clone()).unwrap_or_default();
            }
            "terminate_delay" => {
                def.terminate_delay = reader.seconds(line, delay_us.clone()).unwrap_or_default();
            }
            "weight" => {
                (def.weight, def.reverse) =
                    weight(line, &line.args, reader, 254).unwrap_or((def.weight, def.reverse));
            }
            _ => reader.unacted(line, "vrrp_track_process", keywords::TRACK_PROCESS),
        }
    }
    if def.process.is_empty() {
        reader.findings.config_error(
            Diagnostic::error(
                "no-process",
                format!("vrrp_track_process `{}` names no process", def.name),
            )
            .at(at, "keepalived would drop it, and with it the check"),
        );
        return None;
    }
    Some(def)
}

pub(super) fn sync_group(
    node: &Node,
    global: &GlobalDefs,
    reader: &mut Reader<'_>,
) -> Option<SyncGroup> {
    let (name, _) = name_of(node, reader)?;
    let mut group = SyncGroup {
        name,
        notify_priority_changes: global.notify_priority_changes,
        ..SyncGroup::default()
    };
    for line in node.lines() {
        match line.keyword.text.as_str() {
            // Here every word is a name, also several on a line.
            "group" => group.members.extend(line.lines().iter().flat_map(|member| {
                std::iter::once(&member.keyword)
                    .chain(&member.args)
                    .map(|word| (word.text.clone(), word.at))
            })),
            "track_script" => group.track_scripts.extend(tracked(line, reader)),
            "track_file" => group.track_files.extend(tracked(line, reader)),
            "track_process" => group.track_processes.extend(tracked(line, reader)),
            "track_interface" => group.track_interfaces.extend(interfaces(line, reader)),
            "sync_group_tracking_weight" | "global_tracking" => group.tracking_weight = true,
            "notify_priority_changes" => {
                group.notify_priority_changes = reader.flag(line).unwrap_or(true);
            }
            _ => {
                if !notify(line, global, &mut group.notify, reader) {
                    reader.unacted(line, "vrrp_sync_group", keywords::SYNC_GROUP);
                }
            }
        }
    }
    Some(group)
}

/// The notify keywords. False: another keyword.
pub(super) fn notify(
    line: &Node,
    global: &GlobalDefs,
    notify: &mut Notify,
    reader: &mut Reader<'_>,
) -> bool {
    let slot = match line.keyword.text.as_str() {
        "notify_master" => &mut notify.master,
        "notify_backup" => &mut notify.backup,
        "notify_fault" => &mut notify.fault,
        "notify_stop" => &mut notify.stop,
        "notify_deleted" => &mut notify.deleted,
        "notify_master_rx_lower_pri" => &mut notify.master_rx_lower_pri,
        "notify" => &mut notify.any,
        _ => return false,
    };
    *slot = reader.script(line, global.script_user.as_ref());
    true
}

/// `NAME [weight N [reverse]]` per line; several names on the opening line occur as well.
pub(super) fn tracked(node: &Node, reader: &mut Reader<'_>) -> Vec<Tracked> {
    let opening = node.args.iter().map(|word| Tracked {
        name: word.text.clone(),
        at: word.at,
        weight: None,
        reverse: false,
    });
    let mut all: Vec<Tracked> = opening.collect();
    for line in node.lines() {
        let given = reference_weight(line, reader);
        all.push(Tracked {
            name: line.keyword.text.clone(),
            at: line.keyword.at,
            weight: given.map(|(weight, _)| weight),
            reverse: given.is_some_and(|(_, reverse)| reverse),
        });
    }
    all
}

/// As [`tracked`], for interfaces, whose weight is 0 where none is given.
pub(super) fn interfaces(node: &Node, reader: &mut Reader<'_>) -> Vec<TrackedInterface> {
    tracked(node, reader)
        .into_iter()
        .map(|tracked| TrackedInterface {
            name: tracked.name,
            at: tracked.at,
            weight: tracked.weight.unwrap_or(0),
            reverse: tracked.reverse,
        })
        .collect()
}

fn reference_weight(line: &Node, reader: &mut Reader<'_>) -> Option<(i16, bool)> {
    match line.args.split_first() {
        None => None,
        Some((word, rest)) if word.text == "weight" => weight(line, rest, reader, 254),
        Some(_) => {
            reader.lost_words(line, 0);
            None
        }
    }
}
