//! What people see of a fleet: one row for each sentinel, marks where they differ, and what follows.
//!
//! The rows are compared with the newest configuration that anybody reports (`config epoch`; among equals ours first, since
//! they tell more). What differs from it carries a `!` and is named below the table. The tables are made by [`rows`], the sentences
//! below them by [`findings`].

mod findings;
mod rows;
#[cfg(test)]
pub(super) mod tests;

use std::collections::BTreeSet;

use tandem_core::sentinel::commands::status::GroupReport;

use super::fetch::{Asked, Program};
use crate::cli::table::{printable, table};
use findings::{differences, failovers, prospect, reason, vote};
use rows::{replicas, sentinels};

/// The groups that anybody monitors.
pub(super) fn groups(asked: &[Asked]) -> BTreeSet<&str> {
    asked
        .iter()
        .filter_map(|one| one.report.as_ref())
        .flat_map(|report| &report.groups)
        .map(|group| group.name.as_str())
        .collect()
}

/// One sentinel and what it says of the group in question.
struct View<'a> {
    asked: &'a Asked,
    group: Option<&'a GroupReport>,
}

impl View<'_> {
    fn is_ours(&self) -> bool {
        self.asked.program == Some(Program::Tandem)
    }
}

fn views<'a>(asked: &'a [Asked], name: &str) -> Vec<View<'a>> {
    let view = |asked: &'a Asked| View {
        asked,
        group: asked
            .report
            .as_ref()
            .and_then(|report| report.groups.iter().find(|group| group.name == name)),
    };
    asked.iter().map(view).collect()
}

/// The view that the others are compared with.
fn newest<'v, 'a>(views: &'v [View<'a>]) -> Option<(&'v View<'a>, &'a GroupReport)> {
    let known = views.iter().filter_map(|view| Some((view, view.group?)));
    // The first one of the best, so that the order of asking decides a tie.
    known
        .rev()
        .max_by_key(|(view, group)| (group.config_epoch, view.is_ours()))
}

/// `tandem sentinel status` of one group.
pub(super) fn status(asked: &[Asked], name: &str) -> String {
    let views = views(asked, name);
    let Some((best, group)) = newest(&views) else {
        return String::new();
    };
    let mut out = printable(&format!(
        "{name}   primary {}   configuration {}   quorum {}, majority {} of {}",
        group.address, group.config_epoch, group.quorum, group.majority, group.voters
    ));
    out.push_str("\n\n");
    out.push_str(&sentinels(&views, group));
    out.push('\n');
    out.push_str(&replicas(best, group));
    out.push('\n');
    for line in differences(&views).into_iter().chain(failovers(&views)) {
        out.push_str(&printable(&format!(" {line}")));
        out.push('\n');
    }
    let if_it_died = if group.primary.instance.o_down_ms.is_some() {
        "The primary is down"
    } else {
        "If the primary died now"
    };
    let line = format!(" {if_it_died}: {}.", prospect(&views));
    out.push_str(&printable(&line));
    out.push_str("\n\n");
    out
}

/// `tandem sentinel explain` of one group.
pub(super) fn explain(asked: &[Asked], name: &str) -> String {
    let views = views(asked, name);
    let mut out = printable(name);
    out.push('\n');
    let rows = views.iter().map(|view| {
        let (code, why) = reason(view);
        vec![view.asked.at.clone(), vote(view), code, why]
    });
    out.push_str(&table(&["SENTINEL", "VOTE", "NO FAILOVER", "WHY"], rows));
    out.push('\n');
    let opinions: Vec<Vec<String>> = views
        .iter()
        .filter_map(|view| Some((view, view.group?)))
        .flat_map(|(view, group)| {
            group
                .replicas
                .iter()
                .filter_map(|replica| Some((replica, replica.excluded.as_ref()?)))
                .map(|(replica, why)| {
                    vec![
                        replica.instance.at.clone(),
                        view.asked.at.clone(),
                        why.code.clone(),
                        why.text.clone(),
                    ]
                })
        })
        .collect();
    if !opinions.is_empty() {
        out.push_str(&table(
            &["REPLICA", "NOT PROMOTED BY", "RULE", "WHY"],
            opinions,
        ));
        out.push('\n');
    }
    for line in failovers(&views).into_iter().chain(differences(&views)) {
        out.push_str(&printable(&format!(" {line}")));
        out.push('\n');
    }
    out.push('\n');
    out
}
