//! What people see of a fleet: one row for each sentinel, marks where they differ, and what follows.
//!
//! The rows are compared with the newest configuration that anybody reports (`config epoch`; among equals ours first, since
//! they tell more). What differs from it carries a `!` and is named below the table.

use std::collections::{BTreeMap, BTreeSet};

use tandem_core::sentinel::commands::status::{
    FailoverReport, GroupReport, InstanceReport, Reason, ReplicaReport,
};

use super::fetch::{Asked, Program};
use crate::cli::table::{printable, table};

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

fn sentinels(views: &[View<'_>], newest: &GroupReport) -> String {
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

fn state(of: &InstanceReport) -> String {
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

fn age_of(ms: u64) -> String {
    match ms {
        0..10_000 => format!("{ms} ms"),
        10_000..600_000 => format!("{} s", ms / 1000),
        _ => format!("{} min", ms / 60_000),
    }
}

fn replicas(best: &View<'_>, group: &GroupReport) -> String {
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

/// What one sentinel answers to a question, as text to be compared.
type Answer = fn(&GroupReport) -> String;

/// What the sentinels do not agree on, one line for each question.
fn differences(views: &[View<'_>]) -> Vec<String> {
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

fn failovers(views: &[View<'_>]) -> Vec<String> {
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
fn prospect(views: &[View<'_>]) -> String {
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

fn reason(view: &View<'_>) -> (String, String) {
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

fn vote(view: &View<'_>) -> String {
    match view
        .group
        .and_then(|group| Some((group.leader.as_ref()?, group.leader_epoch)))
    {
        // Eight digits tell sentinels apart, as in a log.
        Some((leader, epoch)) => format!("{} in {epoch}", leader.get(..8).unwrap_or(leader)),
        None => "-".to_owned(),
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::cli::sentinel::Address;
    use crate::cli::sentinel::foreign::tests::peer;
    use tandem_core::sentinel::commands::status::{PrimaryReport, Report};

    fn instance(at: &str) -> InstanceReport {
        InstanceReport {
            at: at.to_owned(),
            connected: true,
            silent_ms: Some(120),
            s_down_ms: None,
            o_down_ms: None,
        }
    }

    /// A sentinel that knows a group `m` with one replica and two peers.
    pub(in crate::cli::sentinel) fn report(id: &str, config_epoch: u64) -> Report {
        let group = GroupReport {
            name: "m".to_owned(),
            address: "10.0.0.1:6379".to_owned(),
            primary: PrimaryReport {
                instance: instance("10.0.0.1:6379"),
                role: "primary".to_owned(),
                replid: None,
                offset: None,
                gone_ms: None,
                data_gone: None,
            },
            quorum: 2,
            majority: 2,
            voters: 3,
            config_epoch,
            leader_epoch: 0,
            leader: None,
            replicas: vec![ReplicaReport {
                instance: instance("10.0.0.2:6379"),
                role: "replica".to_owned(),
                follows: Some("10.0.0.1:6379".to_owned()),
                link_up: true,
                priority: 100,
                replid: None,
                offset: 1234,
                excluded: None,
            }],
            peers: vec![peer("b", "10.0.0.2:26379"), peer("c", "10.0.0.3:26379")],
            failover: None,
            no_failover: Some(Reason::new("not-down", "silent for 120 of 1000 ms")),
            would_promote: Some("10.0.0.2:6379".to_owned()),
        };
        Report {
            id: id.to_owned(),
            version: "0.1.0".to_owned(),
            epoch: config_epoch,
            stalled_ms: None,
            groups: vec![group],
        }
    }

    fn asked(at: &str, program: Program, report: Report) -> Asked {
        Asked {
            at: at.parse::<Address>().unwrap().to_string(),
            program: Some(program),
            report: Some(report),
            error: None,
        }
    }

    fn silent(at: &str) -> Asked {
        Asked {
            at: at.parse::<Address>().unwrap().to_string(),
            program: None,
            report: None,
            error: Some("connection refused".to_owned()),
        }
    }

    #[test]
    fn a_fleet_that_agrees() {
        let fleet = [
            asked("10.0.0.1", Program::Tandem, report("a", 3)),
            asked("10.0.0.2", Program::Tandem, report("b", 3)),
            silent("10.0.0.3"),
        ];
        let expected = "\
m   primary 10.0.0.1:6379   configuration 3   quorum 2, majority 2 of 3

 SENTINEL        KIND    PRIMARY        EPOCH  FINDS IT                       ANSWERED    SENTINEL HEARD 
 10.0.0.1:26379  tandem  10.0.0.1:6379  3      up                             120 ms ago  - 
 10.0.0.2:26379  tandem  10.0.0.1:6379  3      up                             120 ms ago  700 ms ago 
 10.0.0.3:26379  -       -              -      no answer: connection refused  -           700 ms ago

 REPLICA        ROLE     STATE  FOLLOWS        LINK  PRIORITY  OFFSET  MAY BE PROMOTED 
 10.0.0.2:6379  replica  up     10.0.0.1:6379  up    100       1234    yes

 If the primary died now: quorum and majority are reached by 2 of 3 sentinels; whichever leads promotes 10.0.0.2:6379.

";
        let words = |text: &str| -> Vec<Vec<String>> {
            let line = |line: &str| line.split_whitespace().map(str::to_owned).collect();
            text.lines().map(line).collect()
        };
        assert_eq!(words(&status(&fleet, "m")), words(expected));
    }

    #[test]
    fn what_differs_is_marked_and_named() {
        let mut old = report("b", 2);
        old.groups[0].address = "10.0.0.9:6379".to_owned();
        old.groups[0].primary.instance.s_down_ms = Some(12_000);
        old.groups[0].would_promote = None;
        let fleet = [
            asked("10.0.0.2", Program::Redis, old),
            asked("10.0.0.1", Program::Tandem, report("a", 3)),
        ];
        let text = status(&fleet, "m");
        assert!(
            text.starts_with("m   primary 10.0.0.1:6379   configuration 3"),
            "{text}"
        );
        for part in [
            "10.0.0.9:6379 !",
            "2 !",
            "s_down for 12 s",
            "DIFFER on who is primary: 10.0.0.1:6379 (10.0.0.1:26379); 10.0.0.9:6379 (10.0.0.2:26379)",
            "DIFFER on the configuration epoch: 2 (10.0.0.2:26379); 3 (10.0.0.1:26379)",
            "10.0.0.2:26379 does not say whom it would promote",
            "10.0.0.1:26379 promotes 10.0.0.2:6379",
        ] {
            assert!(text.contains(part), "{part}\n{text}");
        }
        assert!(!text.contains("DIFFER on the quorum"), "{text}");
    }

    #[test]
    fn without_a_majority_it_says_so() {
        let mut lonely = report("a", 3);
        for peer in &mut lonely.groups[0].peers {
            peer.instance.s_down_ms = Some(9000);
        }
        let fleet = [
            asked("10.0.0.1", Program::Tandem, lonely),
            silent("10.0.0.2"),
            silent("10.0.0.3"),
        ];
        let text = status(&fleet, "m");
        let expected = "If the primary died now: no failover; 10.0.0.1:26379 reaches 1 of 3, 2 needed (quorum 2, majority 2).";
        assert!(text.contains(expected), "{text}");
    }

    #[test]
    fn explain_gives_each_ones_reason_and_every_excluded_replica() {
        let mut ours = report("a", 3);
        ours.groups[0].replicas[0].excluded = Some(Reason::new("empty", "it is empty"));
        ours.groups[0].leader = Some("0123456789".to_owned());
        ours.groups[0].leader_epoch = 8;
        let mut real = report("b", 3);
        real.groups[0].no_failover = None;
        real.groups[0].primary.instance.s_down_ms = Some(400);
        let fleet = [
            asked("10.0.0.1", Program::Tandem, ours),
            asked("10.0.0.2", Program::Redis, real),
            silent("10.0.0.3"),
        ];
        let text = explain(&fleet, "m");
        let line = |at: &str| {
            text.lines()
                .find(|line| line.contains(at))
                .unwrap_or_default()
                .to_owned()
        };
        assert!(line("10.0.0.1:26379").contains("01234567 in 8"), "{text}");
        assert!(
            line("10.0.0.1:26379").ends_with("silent for 120 of 1000 ms"),
            "{text}"
        );
        assert!(
            line("10.0.0.2:26379").contains("finds the primary s_down for 400 ms"),
            "{text}"
        );
        assert!(line("10.0.0.3:26379").contains("no-answer"), "{text}");
        assert!(line("10.0.0.2:6379").contains("it is empty"), "{text}");
    }
}
