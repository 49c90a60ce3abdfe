//! The traps: configurations that are valid and do not do what they look like.

use super::Findings;
use super::model::{Config, Instance, Preemption};
use crate::diagnostic::{Diagnostic, Report, Span};

pub(super) fn lint(config: &Config, findings: &mut Findings) {
    for instance in &config.instances {
        weight_and_nopreempt(config, instance, findings);
        intervals(config, instance, findings);
    }
    one_fifo_for_two(config, findings);
    for script in &config.scripts {
        if script.timeout > script.interval {
            findings.advice(
                Diagnostic::warning(
                    "timeout-beyond-interval",
                    format!("`{}` may run longer than its interval", script.name),
                )
                .at(
                    script.at,
                    "a run that is late is skipped, so failures are noticed later",
                ),
            );
        }
    }
}

/// Everything watched that can change the priority, with its name and the effect's sign.
fn weighted(instance: &Instance) -> impl Iterator<Item = (&str, Span, i16)> {
    instance
        .track_scripts
        .iter()
        .chain(&instance.track_processes)
        .map(|tracked| {
            (
                tracked.name.as_str(),
                tracked.at,
                tracked.weight.unwrap_or(0),
            )
        })
        .chain(
            instance
                .track_interfaces
                .iter()
                .map(|tracked| (tracked.name.as_str(), tracked.at, tracked.weight)),
        )
        .filter(|(_, _, weight)| *weight != 0)
}

/// A failing check only lowers the priority, and a backup with `nopreempt` accepts every priority above 0: nothing moves until the
/// master's daemon dies.
fn weight_and_nopreempt(config: &Config, instance: &Instance, findings: &mut Findings) {
    if instance.preemption != Preemption::Never {
        return;
    }
    for (name, at, weight) in weighted(instance) {
        let definition = config.scripts.iter().find(|script| script.name == name);
        let mut found = Diagnostic::warning(
            "weight-nopreempt",
            format!("a failure of `{name}` does not move the address"),
        )
        .at(
            at,
            format!("with weight {weight} it only changes the priority"),
        );
        if let Some(definition) = definition {
            found = found.at(definition.at, "defined here");
        }
        findings.advice(found.help(
            "a backup with nopreempt accepts a master of any priority; leave the weight out, so that a failure is a fault and the address moves, or remove nopreempt on the other host",
        ));
    }
}

/// Each reader would get a part of the lines.
fn one_fifo_for_two(config: &Config, findings: &mut Findings) {
    let (Some(one), Some(other)) = (&config.global.notify_fifo, &config.global.vrrp_notify_fifo)
    else {
        return;
    };
    if one.path == other.path {
        findings.advice(
            Diagnostic::warning(
                "same-fifo",
                "notify_fifo and vrrp_notify_fifo are the same FIFO",
            )
            .at(other.at, "each line would be written twice")
            .at(one.at, "named here first")
            .help("remove one of the two: for VRRP both carry the same lines"),
        );
    }
}

/// keepalived's rule: an interface may be late by less than the adverts that a backup may miss, or it takes over meanwhile.
fn intervals(config: &Config, instance: &Instance, findings: &mut Findings) {
    let slack = instance.advert_interval * u32::from(instance.down_timer_adverts.saturating_sub(1));
    for (name, _, down) in &config.global.interface_delays {
        if *name == instance.interface && *down >= slack {
            findings.config_error(
                Diagnostic::warning(
                    "interface-delay",
                    format!("the delay of `{name}` is longer than a failover"),
                )
                .at(
                    instance.at,
                    "this instance would take over on a link that is down",
                ),
            );
        }
    }
}

/// What is known of the other host: the same file there, or a stated priority.
#[derive(Debug, Clone, Copy)]
pub struct PeerView<'a> {
    /// The other host's configuration.
    pub config: &'a Config,
}

/// What only both hosts' files together show: can a failed check here make the other host win, and do the two understand
/// each other's adverts? Findings point into this host's `report`.
pub fn compare(here: &Config, peer: PeerView<'_>, report: &mut Report) {
    for instance in &here.instances {
        let Some(other) = peer.config.instances.iter().find(|other| {
            other.router_id == instance.router_id && other.is_ipv6() == instance.is_ipv6()
        }) else {
            report.push(
                Diagnostic::warning(
                    "peer-lacks-instance",
                    format!(
                        "the other host has no virtual_router_id {}",
                        instance.router_id
                    ),
                )
                .at(instance.at, "nobody would take over from this instance"),
            );
            continue;
        };
        understand(instance, other, report);
        crossing(instance, other, report);
    }
}

/// Differences for which one host drops the other's adverts, so that both become master.
fn understand(here: &Instance, there: &Instance, report: &mut Report) {
    let different = [
        ("version", here.version != there.version),
        ("authentication", here.auth != there.auth),
        (
            "advert_int",
            here.version == 2 && here.advert_interval != there.advert_interval,
        ),
        (
            "use of unicast_peer",
            here.unicast_peers.is_empty() != there.unicast_peers.is_empty(),
        ),
    ];
    for (what, differs) in different {
        if differs {
            report.push(
                Diagnostic::error("peer-differs", format!("the two hosts differ in {what}")).at(
                    here.at,
                    "each would drop the other's adverts, and both would be master",
                ),
            );
        }
    }
}

/// The weights of the preferred host must be able to bring it below the other one's priority, or a failed check moves nothing.
fn crossing(here: &Instance, there: &Instance, report: &mut Report) {
    if here.priority <= there.priority {
        return;
    }
    for (name, at, weight) in weighted(here) {
        let (good, bad) = if weight > 0 {
            (
                i32::from(here.priority) + i32::from(weight),
                i32::from(here.priority),
            )
        } else {
            (
                i32::from(here.priority),
                i32::from(here.priority) + i32::from(weight),
            )
        };
        // The other host's own check is good while ours is bad.
        let gain: i32 = weighted(there)
            .filter(|(other, _, weight)| *other == name && *weight > 0)
            .map(|(_, _, weight)| i32::from(weight))
            .sum();
        let other = i32::from(there.priority) + gain;
        if bad.clamp(1, 254) > other.clamp(1, 254) {
            report.push(
                Diagnostic::warning(
                    "weight-too-small",
                    format!("a failure of `{name}` does not move the address"),
                )
                .at(
                    at,
                    format!(
                        "{} while good, {} while bad: never below the other host's {other}",
                        good.clamp(1, 254),
                        bad.clamp(1, 254)
                    ),
                )
                .at(here.priority_at, "this priority")
                .help("make the weight larger than the difference of the priorities"),
            );
        }
    }
}
