//! The tables: a row for each sentinel, and one for each replica.

use tandem_core::sentinel::commands::status::{GroupReport, InstanceReport, Reason, ReplicaReport};

use super::{Program, View};
use crate::cli::table::table;

pub(super) fn sentinels(views: &[View<'_>], newest: &GroupReport) -> String {
    let rows = views.iter().map(|view| {
        let heard = heard_by_others(views, view).map_or_else(|| "-".to_owned(), age);
        let Some(group) = view.group else {
            let why = match &view.asked.error {
                Some(error) => format!("no answer: {error}"),
                None => "does not monitor it".to_owned(),
            };
            return vec![
                view.asked.at.clone(),
                program(view),
                "-".to_owned(),
                "-".to_owned(),
                why,
                "-".to_owned(),
                heard,
            ];
        };
        vec![
            view.asked.at.clone(),
            program(view),
            marked(&group.address, group.address != newest.address),
            marked(
                &group.config_epoch.to_string(),
                group.config_epoch != newest.config_epoch,
            ),
            state(&group.primary.instance),
            group
                .primary
                .instance
                .silent_ms
                .map_or_else(|| "-".to_owned(), age),
            heard,
        ]
    });
    table(
        &[
            "SENTINEL",
            "KIND",
            "PRIMARY",
            "EPOCH",
            "FINDS IT",
            "ANSWERED",
            "SENTINEL HEARD",
        ],
        rows,
    )
}

fn program(view: &View<'_>) -> String {
    match view.asked.program {
        Some(Program::Tandem) => "tandem",
        Some(Program::Redis) => "redis",
        None => "-",
    }
    .to_owned()
}

fn marked(text: &str, differs: bool) -> String {
    format!("{text}{}", if differs { " !" } else { "" })
}

/// When any of the others last had a hello from this one.
fn heard_by_others(views: &[View<'_>], of: &View<'_>) -> Option<u64> {
    let id = of.asked.report.as_ref().map(|report| report.id.as_str());
    views
        .iter()
        .filter_map(|view| view.group)
        .flat_map(|group| &group.peers)
        .filter(|peer| id.map_or(peer.instance.at == of.asked.at, |id| peer.id == id))
        .filter_map(|peer| peer.hello_ms)
        .min()
}

pub(super) fn state(of: &InstanceReport) -> String {
    let down = [("s_down", of.s_down_ms), ("o_down", of.o_down_ms)];
    let words: Vec<String> = down
        .into_iter()
        .filter_map(|(word, since)| Some(format!("{word} for {}", age_of(since?))))
        .collect();
    if !words.is_empty() {
        words.join(", ")
    } else if of.connected {
        "up".to_owned()
    } else {
        "not connected".to_owned()
    }
}

fn age(ms: u64) -> String {
    format!("{} ago", age_of(ms))
}

pub(super) fn age_of(ms: u64) -> String {
    match ms {
        0..10_000 => format!("{ms} ms"),
        10_000..600_000 => format!("{} s", ms / 1000),
        _ => format!("{} min", ms / 60_000),
    }
}

pub(super) fn replicas(best: &View<'_>, group: &GroupReport) -> String {
    let rows = group.replicas.iter().map(|replica| {
        let link = if replica.link_up { "up" } else { "down" };
        let follows = replica.follows.as_deref().unwrap_or("-");
        vec![
            replica.instance.at.clone(),
            marked(&replica.role, replica.role != "replica"),
            state(&replica.instance),
            marked(follows, replica.follows.as_ref() != Some(&group.address)),
            link.to_owned(),
            replica.priority.to_string(),
            replica.offset.to_string(),
            eligible(best, replica),
        ]
    });
    table(
        &[
            "REPLICA",
            "ROLE",
            "STATE",
            "FOLLOWS",
            "LINK",
            "PRIORITY",
            "OFFSET",
            "MAY BE PROMOTED",
        ],
        rows,
    )
}

fn eligible(best: &View<'_>, replica: &ReplicaReport) -> String {
    match &replica.excluded {
        Some(Reason { code, text }) => format!("no: {text} ({code})"),
        None if best.is_ours() => "yes".to_owned(),
        None => "it does not say".to_owned(),
    }
}
