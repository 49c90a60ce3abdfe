//! One run of one fault: clients at work, the fault, what they saw, the repair, what is left of what they wrote.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use crate::arrangement::{Arrangement, CLIENT, Fault, OTHER_SIDE, Watch};
use crate::client::{Client, Record, Settings};

use super::Outcome;
use super::stall::Yardstick;

/// Before the fault, writes flow for this long.
const WARM_UP: Duration = Duration::from_millis(500);
/// After the fault, the gap is over when writes have flown for this long.
const STEADY: Duration = Duration::from_millis(1500);
/// After this time without a primary, a run counts as an outage that needs a person.
const OUTAGE: Duration = Duration::from_secs(40);
/// How long a cut lasts.
const CUT: Duration = Duration::from_secs(12);
/// Faults after which nothing should happen are looked at for this long: longer than any lifetime or time-out in play.
const LOOK: Duration = Duration::from_secs(6);
/// After a planned switchover by Sentinel the old primary goes on acknowledging for about 11 s what is then thrown away.
const LATE_LOSS: Duration = Duration::from_secs(12);
/// For everything to be well again after the repair; a full resync of some GiB included.
const SETTLE: Duration = Duration::from_secs(120);

/// Runs the fault on an arrangement that is well, and fills the outcome in.
///
/// # Errors
/// When the run could not be carried through. An outage is a result, not an error.
pub(super) fn measure(
    arrangement: &mut dyn Arrangement,
    fault: Fault,
    outcome: &mut Outcome,
) -> anyhow::Result<()> {
    let clients = start_clients(arrangement, fault, outcome.run)?;
    for client in &clients {
        client.wait_until_steady(Instant::now(), WARM_UP, OUTAGE)?;
    }
    let watch = Watch::start(arrangement.pair())?;
    let yardstick = Yardstick::start()?;
    let injection = arrangement.inject(fault)?;
    // What a planned switchover does to clients is over at once; what it may lose shows only later.
    let mut seen = None;
    if fault == Fault::Switchover {
        std::thread::sleep(STEADY.saturating_sub(injection.at.elapsed()));
        seen = Some((Instant::now(), yardstick.longest()));
    }
    let observed = if fault.is_cut() {
        // The length of the fault itself.
        std::thread::sleep(CUT);
        Ok(())
    } else {
        let look = match fault {
            Fault::KillDaemon | Fault::FreezeDaemon | Fault::RestartDaemon | Fault::FilterVrrp => {
                LOOK
            }
            Fault::Switchover => LATE_LOSS,
            Fault::KillServer
            | Fault::FreezeServer
            | Fault::PowerOff
            | Fault::CutBothUsed
            | Fault::CutStandbyUsed
            | Fault::CutStandbyIdle => STEADY,
        };
        std::thread::sleep(look.saturating_sub(injection.at.elapsed()));
        clients
            .iter()
            .try_for_each(|client| client.wait_until_steady(injection.at, STEADY, OUTAGE))
    };
    let (end, stall) = seen.unwrap_or_else(|| (Instant::now(), yardstick.longest()));
    drop(yardstick);
    if let Err(outage) = observed {
        add_note(outcome, &format!("outage: {outage:#}"));
    }
    let records = clients
        .into_iter()
        .map(Client::stop)
        .collect::<anyhow::Result<Vec<_>>>()?;
    let milliseconds = |duration: Duration| duration.as_secs_f64() * 1000.0;
    let gaps: Vec<f64> = records
        .iter()
        .map(|record| milliseconds(record.longest_gap(injection.at, end)))
        .collect();
    outcome.gap_ms = gaps[IMPATIENT];
    outcome.patient_gap_ms = gaps[PATIENT];
    outcome.stall_ms = milliseconds(stall);
    outcome.errors = records[IMPATIENT].error_count();
    outcome.acknowledged = records
        .iter()
        .map(|record| record.acknowledged().len() as u64)
        .sum();
    // Lost is what clients would miss now. During a cut, and with two primaries, it cannot be known before the repair.
    let before = if fault.is_cut() {
        None
    } else {
        missing(arrangement, &records)?
    };
    match arrangement.settle(SETTLE) {
        Ok(_) => outcome.settled = true,
        Err(error) => add_note(outcome, &format!("not settled: {error:#}")),
    }
    let overlap = watch.stop()?;
    outcome.two_writable_ms = milliseconds(overlap.both);
    outcome.two_vips_ms = milliseconds(overlap.vips);
    if let Some(after) = missing(arrangement, &records)? {
        let archived = arrangement.archived(&after)?;
        outcome.lost = before.map_or(after.len(), |keys| keys.len()) as u64;
        outcome.archived = archived.len() as u64;
        outcome.gone = after.difference(&archived).count() as u64;
    } else {
        add_note(
            outcome,
            "nobody is primary after the repair: all counted as lost",
        );
        outcome.lost = outcome.acknowledged;
        outcome.gone = outcome.acknowledged;
    }
    Ok(())
}

fn add_note(outcome: &mut Outcome, note: &str) {
    if !outcome.note.is_empty() {
        outcome.note.push_str("; ");
    }
    outcome.note.push_str(note);
}

/// The places of the clients in the list.
const IMPATIENT: usize = 0;
const PATIENT: usize = 1;

fn start_clients(
    arrangement: &dyn Arrangement,
    fault: Fault,
    run: u32,
) -> anyhow::Result<Vec<Client>> {
    let pair = arrangement.pair();
    let at = |host: &str, key: &str, settings: fn(_) -> Settings| {
        // Keys differ from run to run: data may stay from one to the next. A clock tells invocations apart.
        let key = format!("{key}-{}-{run}", std::process::id());
        Client::start(
            pair.lab().host(host),
            Settings {
                key,
                ..settings(arrangement.target())
            },
        )
    };
    let mut clients = vec![
        at(CLIENT, "w", Settings::new)?,
        at(CLIENT, "p", Settings::patient)?,
    ];
    if fault == Fault::CutBothUsed {
        clients.push(at(OTHER_SIDE, "o", Settings::new)?);
    }
    Ok(clients)
}

/// The keys of acknowledged writes that the present primary lacks; nothing when there is no primary.
fn missing(
    arrangement: &mut dyn Arrangement,
    records: &[Record],
) -> anyhow::Result<Option<BTreeSet<String>>> {
    let Ok(primary) = arrangement.primary()? else {
        return Ok(None);
    };
    let mut connection = arrangement.pair().server(primary).connect()?;
    let mut keys = BTreeSet::new();
    for record in records {
        keys.extend(
            record
                .missing(&mut connection)?
                .into_iter()
                .map(|number| record.key(number)),
        );
    }
    Ok(Some(keys))
}
