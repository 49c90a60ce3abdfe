//! What follows from the rows: where sentinels differ, failovers under way, and whether one would succeed.

use std::collections::BTreeMap;

use tandem_core::sentinel::commands::status::{FailoverReport, GroupReport, Reason};

use super::View;
use super::rows::{age_of, state};

/// What one sentinel answers to a question, as text to be compared.
type Answer = fn(&GroupReport) -> String;

/// What the sentinels do not agree on, one line for each question.
pub(super) fn differences(views: &[View<'_>]) -> Vec<String> {
    let questions: [(&str, Answer); 5] = [
        ("who is primary", |group| group.address.clone()),
        ("the configuration epoch", |group| {
            group.config_epoch.to_string()
        }),
        ("the quorum", |group| group.quorum.to_string()),
        ("how many sentinels there are", |group| {
            group.voters.to_string()
        }),
        ("which replicas there are", |group| {
            let mut names: Vec<&str> = group
                .replicas
                .iter()
                .map(|of| of.instance.at.as_str())
                .collect();
            names.sort_unstable();
            if names.is_empty() {
                "none".to_owned()
            } else {
                names.join(", ")
            }
        }),
    ];
    let mut lines = Vec::new();
    for (what, answer) in questions {
        let mut said: BTreeMap<String, Vec<&str>> = BTreeMap::new();
        for (view, group) in views.iter().filter_map(|view| Some((view, view.group?))) {
            said.entry(answer(group)).or_default().push(&view.asked.at);
        }
        if said.len() > 1 {
            let parts: Vec<String> = said
                .into_iter()
                .map(|(said, by)| format!("{said} ({})", by.join(", ")))
                .collect();
            lines.push(format!("DIFFER on {what}: {}", parts.join("; ")));
        }
    }
    lines
}

pub(super) fn failovers(views: &[View<'_>]) -> Vec<String> {
    views
        .iter()
        .filter_map(|view| Some((view, view.group?.failover.as_ref()?)))
        .map(|(view, failover)| {
            let FailoverReport {
                epoch,
                stage,
                stage_ms,
                forced,
                chosen,
            } = failover;
            let of = if view.is_ours() {
                format!(" in election {epoch}, {stage} since {}", age_of(*stage_ms))
            } else {
                format!(", {stage}")
            };
            let chosen = chosen
                .as_ref()
                .map(|at| format!(", promotes {at}"))
                .unwrap_or_default();
            let forced = if *forced {
                ", asked for by a person"
            } else {
                ""
            };
            format!("FAILOVER by {}{of}{chosen}{forced}", view.asked.at)
        })
        .collect()
}

/// Who could lead, and whom those would promote.
pub(super) fn prospect(views: &[View<'_>]) -> String {
    let known: Vec<(&View<'_>, &GroupReport)> = views
        .iter()
        .filter_map(|view| Some((view, view.group?)))
        .collect();
    let usable = |group: &GroupReport| {
        1 + group
            .peers
            .iter()
            .filter(|peer| peer.instance.s_down_ms.is_none() && peer.instance.connected)
            .count() as u64
    };
    let needed = |group: &GroupReport| group.majority.max(u64::from(group.quorum));
    let able: Vec<_> = known
        .iter()
        .filter(|(_, group)| usable(group) >= needed(group))
        .collect();
    if able.is_empty() {
        let reach: Vec<String> = known
            .iter()
            .map(|(view, group)| {
                format!(
                    "{} reaches {} of {}, {} needed (quorum {}, majority {})",
                    view.asked.at,
                    usable(group),
                    group.voters,
                    needed(group),
                    group.quorum,
                    group.majority
                )
            })
            .collect();
        return format!("no failover; {}", reach.join("; "));
    }
    let mut chosen: BTreeMap<String, Vec<&str>> = BTreeMap::new();
    for (view, group) in &able {
        let whom = match &group.would_promote {
            Some(at) => format!("promotes {at}"),
            None if view.is_ours() => "finds no replica that may be promoted".to_owned(),
            None => "does not say whom it would promote".to_owned(),
        };
        chosen.entry(whom).or_default().push(&view.asked.at);
    }
    let all = chosen.len() == 1;
    let words: Vec<String> = chosen
        .into_iter()
        .map(|(whom, by)| {
            if all {
                format!("whichever leads {whom}")
            } else if let [one] = by[..] {
                format!("{one} {whom}")
            } else {
                format!("each of {} {whom}", by.join(", "))
            }
        })
        .collect();
    format!(
        "quorum and majority are reached by {} of {} sentinels; {}",
        able.len(),
        views.len(),
        words.join("; ")
    )
}

pub(super) fn reason(view: &View<'_>) -> (String, String) {
    let own = |code: &str, why: &str| (code.to_owned(), why.to_owned());
    let Some(group) = view.group else {
        return match &view.asked.error {
            Some(error) => own("no-answer", error),
            None => own("not-monitored", "it does not monitor this group"),
        };
    };
    match (&group.no_failover, &group.failover) {
        (Some(Reason { code, text }), _) => own(code, text),
        (None, Some(_)) => own("-", "a failover is under way"),
        (None, None) if view.is_ours() => own("-", "-"),
        (None, None) => own(
            "not-told",
            &format!(
                "a redis-sentinel does not say; it finds the primary {}",
                state(&group.primary.instance)
            ),
        ),
    }
}

pub(super) fn vote(view: &View<'_>) -> String {
    match view
        .group
        .and_then(|group| Some((group.leader.as_ref()?, group.leader_epoch)))
    {
        // Eight digits tell sentinels apart, as in a log.
        Some((leader, epoch)) => format!("{} in {epoch}", leader.get(..8).unwrap_or(leader)),
        None => "-".to_owned(),
    }
}
