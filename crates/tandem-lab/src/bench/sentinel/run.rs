//! One run of one trouble: a client at work, the fault, when who knew, the repair, what is left of what was written.

use std::time::{Duration, Instant};

use anyhow::{Context, ensure};

use super::{Outcome, Scenario};
use crate::client::{Client, Settings as ClientSettings, Target};
use crate::fleet::mixed::trial;
use crate::fleet::{Fleet, OTHER_SIDE, Observer, Plan, Program, Recorder};

/// Where it is set, every event of a run is printed with its time: for the question why one was slow.
const STORY: &str = "TANDEM_LAB_STORY";
/// For the fleet to know itself, to fail over, and to be in order again; a real Sentinel takes a returned primary back
/// after 8 to 18 s.
const BOUND: Duration = Duration::from_secs(90);
/// Before the fault, writes flow for this long. A deployment has been at work for a while when something breaks; ours
/// stands for election only when it has reached a majority for two ping periods.
const WARM_UP: Duration = Duration::from_secs(3);
/// After the fault, the gap is over when writes have flown for this long.
const STEADY: Duration = Duration::from_millis(1000);
/// How long a cut lasts, and how long a planned failover is looked at: longer than the 11 s for which a real
/// Sentinel lets the old primary go on.
const LONG: Duration = Duration::from_secs(12);

/// Runs a scenario and fills the outcome in.
///
/// # Errors
/// When the run could not be carried through.
pub(super) fn measure(
    scenario: Scenario,
    program: Option<Program>,
    outcome: &mut Outcome,
) -> anyhow::Result<()> {
    if let Scenario::Mixed(mix, trouble) = scenario {
        let verdict = trial(mix, trouble)?;
        outcome.known_ms = ms(verdict.known);
        outcome.settled_ms = ms(verdict.settled);
        return Ok(());
    }
    let program = program.context("only mixes have no program")?;
    let mut fleet = Fleet::build(Plan::of(3, &[program; 3]))?;
    fleet.start(BOUND)?;
    ensure!(
        fleet.settle(BOUND)? == 0,
        "the first server is primary at first"
    );
    let client = start_client(&fleet, scenario)?;
    client.wait_until_steady(Instant::now(), WARM_UP, BOUND)?;
    let syncs_before = full_syncs(&fleet)?;
    let events = Recorder::start(&fleet)?;
    let observer = Observer::start(&fleet, 0)?;

    let begun = Instant::now();
    let host = fleet.members()[0].host().name().to_owned();
    match scenario {
        Scenario::Kill => fleet.servers()[0].process().kill(),
        Scenario::Freeze => fleet.servers()[0].process().freeze(),
        Scenario::Manual => fleet.members()[1]
            .demand(&["SENTINEL", "FAILOVER", fleet.group()])
            .map(drop)?,
        // The client on the minority's side keeps the primary company.
        Scenario::Cut => fleet.cut(&[&host, OTHER_SIDE])?,
        Scenario::Client(_) | Scenario::Groups | Scenario::Mixed(..) => {
            anyhow::bail!("{scenario} is measured elsewhere")
        }
    }
    let from = usize::from(scenario == Scenario::Cut);
    let seen = observer.wait_until_known(from, BOUND)?;
    match scenario {
        Scenario::Kill | Scenario::Freeze => client.wait_until_steady(begun, STEADY, BOUND)?,
        Scenario::Manual | Scenario::Cut => {
            std::thread::sleep(LONG.saturating_sub(begun.elapsed()));
        }
        Scenario::Client(_) | Scenario::Groups | Scenario::Mixed(..) => {}
    }
    let looked_until = Instant::now();
    let after = |at: Option<Instant>| at.map_or(0.0, |at| ms(at.saturating_duration_since(begun)));
    outcome.writable_ms = after(seen.writable);
    outcome.known_ms = after(seen.named[from..].iter().flatten().max().copied());

    let record = client.stop()?;
    outcome.gap_ms = ms(record.longest_gap(begun, looked_until));
    outcome.acknowledged = record
        .acknowledged()
        .iter()
        .filter(|ack| ack.at >= begun)
        .count() as u64;
    match scenario {
        Scenario::Kill => fleet.restart_server(0)?,
        Scenario::Freeze => fleet.servers()[0].process().thaw(),
        Scenario::Cut => fleet.heal()?,
        Scenario::Manual | Scenario::Client(_) | Scenario::Groups | Scenario::Mixed(..) => {}
    }
    let repaired = Instant::now();
    let primary = fleet.settle(BOUND)?;
    outcome.settled_ms = ms(repaired.elapsed());
    outcome.old_primary_ms = after(observer.seen().old_was_primary);
    let mut connection = fleet.servers()[primary].connect()?;
    outcome.lost = record.missing(&mut connection)?.len() as u64;
    outcome.full_syncs = full_syncs(&fleet)?
        .into_iter()
        .zip(syncs_before)
        // A server that was restarted in between counts from zero.
        .map(|(after, before)| after.checked_sub(before).unwrap_or(after))
        .sum();
    outcome.note = strange_events(&events);
    if std::env::var_os(STORY).is_some() {
        for event in events.events() {
            let after = ms(event.at.saturating_duration_since(begun));
            eprintln!(
                "{after:8.1} ms, Sentinel {}: {} {}",
                event.member, event.name, event.payload
            );
        }
    }
    Ok(())
}

fn start_client(fleet: &Fleet, scenario: Scenario) -> anyhow::Result<Client> {
    if scenario == Scenario::Cut {
        // It asks only the Sentinel that it can reach.
        let target = Target::Sentinels {
            sentinels: vec![fleet.members()[0].address()],
            group: fleet.group().to_owned(),
        };
        return Client::start(fleet.lab().host(OTHER_SIDE), ClientSettings::new(target));
    }
    Client::start(fleet.client_host(), ClientSettings::new(fleet.target()))
}

/// The full resyncs that each server has served since its start.
fn full_syncs(fleet: &Fleet) -> anyhow::Result<Vec<u64>> {
    let of = |server: &crate::server::Server| {
        let served = server.connect()?.info("sync_full")?;
        Ok(served.parse::<u64>()?)
    };
    fleet.servers().iter().map(of).collect()
}

/// The names of events that no redis-sentinel publishes: what was said of lost or archived writes, for example.
fn strange_events(events: &Recorder) -> String {
    let mut strange: Vec<String> = events
        .events()
        .into_iter()
        .filter(|event| !KNOWN_EVENTS.contains(&event.name.trim_start_matches(['+', '-'])))
        .map(|event| format!("{} {}", event.name, event.payload))
        .collect();
    strange.sort();
    strange.dedup();
    strange.join("; ")
}

/// What redis-sentinel publishes, without the sign.
const KNOWN_EVENTS: [&str; 39] = [
    "monitor",
    "set",
    "reset-master",
    "slave",
    "sentinel",
    "sentinel-address-switch",
    "sentinel-invalid-addr",
    "sentinel-address-update",
    "reboot",
    "role-change",
    "sdown",
    "odown",
    "new-epoch",
    "vote-for-leader",
    "try-failover",
    "elected-leader",
    "failover-state-select-slave",
    "failover-state-send-slaveof-noone",
    "failover-state-wait-promotion",
    "failover-state-reconf-slaves",
    "failover-end",
    "failover-end-for-timeout",
    "failover-abort-not-elected",
    "failover-abort-no-good-slave",
    "failover-abort-slave-timeout",
    "selected-slave",
    "promoted-slave",
    "slave-reconf-sent",
    "slave-reconf-sent-be",
    "slave-reconf-sent-timeout",
    "slave-reconf-inprog",
    "slave-reconf-done",
    "convert-to-slave",
    "fix-slave-config",
    "config-update-from",
    "switch-master",
    "tilt",
    "script-error",
    "script-timeout",
];

fn ms(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1000.0
}
