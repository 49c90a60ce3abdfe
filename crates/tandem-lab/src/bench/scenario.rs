//! What a cell of the table runs: a single fault, fifty of them in a row, or a start after both hosts were dead.

use std::fmt;
use std::str::FromStr;
use std::time::{Duration, Instant};

use anyhow::Context;

use super::idle::idle;
use super::measure::measure;
use super::{Cell, Contestant, Outcome};
use crate::arrangement::{Arrangement, CLIENT, Fault, Side};
use crate::client::{Client, Settings as ClientSettings};
use crate::poll;
use crate::resp::Connection;
use crate::server::{Persistence, Settings};

/// A row of the table.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Scenario {
    /// One fault, measured.
    Single(Fault),
    /// Fifty failovers in a row, kills and switchovers mixed.
    Alternating,
    /// Both hosts lose power, the newer data on B; they come back in every order with every persistence.
    Boots,
    /// Nothing happens: what the daemons use.
    Idle,
}

/// How many failovers follow one another in [`Scenario::Alternating`].
const IN_A_ROW: u32 = 50;
/// For one failover of those.
const BOUND: Duration = Duration::from_secs(60);
const STEADY: Duration = Duration::from_millis(500);

/// After how long the second host comes back, and whether it does.
const SECOND_AFTER: [Option<u64>; 3] = [Some(5), Some(60), None];
/// How long a lone host may wait for its peer (30 s by default) before the outcome is read, with a margin.
const LONE: Duration = Duration::from_secs(45);

impl Scenario {
    /// All of them, in the order of the table.
    #[must_use]
    pub fn all() -> Vec<Self> {
        Fault::ALL
            .into_iter()
            .map(Self::Single)
            .chain([Self::Alternating, Self::Boots, Self::Idle])
            .collect()
    }

    /// Whether the size of the data changes what is measured.
    pub(super) fn depends_on_size(self) -> bool {
        match self {
            Self::Single(fault) => matches!(
                fault,
                Fault::KillServer | Fault::PowerOff | Fault::Switchover
            ),
            Self::Alternating | Self::Boots | Self::Idle => false,
        }
    }

    /// Whether the arrangement takes part. Only tandem promises more than one failover and anything about boots.
    pub(super) fn includes(self, contestant: Contestant) -> bool {
        let sentinel = matches!(
            contestant,
            Contestant::Sentinel1000 | Contestant::Sentinel200
        );
        let tandem = contestant == Contestant::Tandem;
        match self {
            Self::Single(Fault::Switchover) => tandem || sentinel,
            Self::Single(Fault::KillDaemon | Fault::FreezeDaemon | Fault::FilterVrrp) => !sentinel,
            Self::Single(Fault::RestartDaemon) => tandem,
            Self::Single(_) => true,
            Self::Alternating | Self::Boots | Self::Idle => tandem,
        }
    }

    /// Whether it is run on the other servers than Redis 7.0 too: the core of what differs between them.
    pub(super) fn for_other_servers(self) -> bool {
        matches!(
            self,
            Self::Boots
                | Self::Single(
                    Fault::KillServer
                        | Fault::FreezeServer
                        | Fault::Switchover
                        | Fault::CutBothUsed
                )
        )
    }

    /// How many outcomes make the cell complete.
    pub(super) fn runs(self, asked: u32) -> u32 {
        match self {
            Self::Single(_) => asked,
            Self::Alternating | Self::Idle => asked.min(1),
            Self::Boots => {
                if asked == 0 {
                    0
                } else {
                    boots().len() as u32
                }
            }
        }
    }
}

impl fmt::Display for Scenario {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Single(fault) => fault.fmt(f),
            Self::Alternating => f.write_str("alternating"),
            Self::Boots => f.write_str("boots"),
            Self::Idle => f.write_str("idle"),
        }
    }
}

impl FromStr for Scenario {
    type Err = String;

    fn from_str(name: &str) -> Result<Self, String> {
        crate::named::parse("fault", &Self::all(), |one| one, name)
    }
}

/// Makes the runs of a cell and hands each outcome to `done`, which says whether to go on.
pub(super) fn run_cell(
    cell: &Cell,
    runs: &[u32],
    done: &mut dyn FnMut(Outcome) -> anyhow::Result<bool>,
) -> anyhow::Result<()> {
    let mut arrangement: Option<Box<dyn Arrangement>> = None;
    for &run in runs {
        let mut outcome = Outcome::of(cell, run);
        let begun = Instant::now();
        // What ran before is kept only when it is to be hit again and is well.
        if let Err(error) = one_run(cell, &mut arrangement, &mut outcome) {
            outcome.failure = Some(format!("{error:#}"));
        }
        outcome.took_s = begun.elapsed().as_secs_f64();
        if cell.contestant != Contestant::Tandem || !outcome.settled {
            arrangement = None;
        }
        if !done(outcome)? {
            break;
        }
    }
    Ok(())
}

fn one_run(
    cell: &Cell,
    slot: &mut Option<Box<dyn Arrangement>>,
    outcome: &mut Outcome,
) -> anyhow::Result<()> {
    let settings = Settings {
        flavour: cell.flavour,
        ..Settings::default()
    };
    let arrangement = match slot {
        Some(arrangement) => arrangement,
        None => {
            let mut fresh = cell.contestant.build(settings)?;
            if cell.scenario != Scenario::Boots {
                fresh.start(cell.gib).context("the start")?;
            }
            slot.insert(fresh)
        }
    };
    match cell.scenario {
        Scenario::Single(fault) => measure(arrangement.as_mut(), fault, outcome),
        Scenario::Alternating => alternate(arrangement.as_mut(), outcome),
        Scenario::Idle => idle(arrangement.as_mut(), outcome),
        Scenario::Boots => boot(
            arrangement.as_mut(),
            boots()[outcome.run as usize],
            cell,
            outcome,
        ),
    }
}

/// Kills and switchovers in turn; after each, whatever died comes back by itself and nobody touches anything.
fn alternate(arrangement: &mut dyn Arrangement, outcome: &mut Outcome) -> anyhow::Result<()> {
    let host = arrangement.pair().lab().host(CLIENT).clone();
    let client = Client::start(&host, ClientSettings::new(arrangement.target()))?;
    client.wait_until_steady(Instant::now(), STEADY, BOUND)?;
    let begin = Instant::now();
    let mut worked = 0;
    for round in 0..IN_A_ROW {
        let fault = if round % 2 == 0 {
            Fault::KillServer
        } else {
            Fault::Switchover
        };
        let injection = arrangement.inject(fault)?;
        let moved = client
            .wait_until_steady(injection.at, STEADY, BOUND)
            .and_then(|()| arrangement.settle(BOUND));
        match moved {
            Ok(primary) if primary != injection.primary => worked += 1,
            Ok(primary) => {
                outcome.note = format!("round {round}, {fault}: the primary stayed on {primary:?}");
            }
            Err(error) => {
                outcome.note = format!("round {round}, {fault}: {error:#}");
                break;
            }
        }
    }
    let record = client.stop()?;
    outcome.gap_ms = record.longest_gap(begin, Instant::now()).as_secs_f64() * 1000.0;
    outcome.errors = record.error_count();
    outcome.acknowledged = record.acknowledged().len() as u64;
    outcome.settled = worked == IN_A_ROW;
    outcome.note = format!("{worked} of {IN_A_ROW} worked {}", outcome.note)
        .trim()
        .to_owned();
    if let Ok(primary) = arrangement.primary()? {
        outcome.lost = record
            .missing(&mut arrangement.pair().server(primary).connect()?)?
            .len() as u64;
        outcome.gone = outcome.lost;
    }
    Ok(())
}

/// One way in which both hosts come back.
#[derive(Debug, Clone, Copy)]
struct Boot {
    persistence: Persistence,
    first: Side,
    second_after: Option<u64>,
    /// The host with the newest data comes back without any.
    emptied: bool,
}

fn boots() -> Vec<Boot> {
    let mut boots = Vec::new();
    for persistence in Persistence::ALL {
        for first in Side::BOTH {
            for second_after in SECOND_AFTER {
                boots.push(Boot {
                    persistence,
                    first,
                    second_after,
                    emptied: false,
                });
            }
        }
    }
    for first in Side::BOTH {
        boots.push(Boot {
            persistence: Persistence::Aof,
            first,
            second_after: Some(5),
            emptied: true,
        });
    }
    boots
}

/// A loses power, B takes over and is written to, B loses power: the newest data is on B alone. Then both come back.
fn boot(
    arrangement: &mut dyn Arrangement,
    boot: Boot,
    cell: &Cell,
    outcome: &mut Outcome,
) -> anyhow::Result<()> {
    // A power-off loses what was not synced; to be able to tell old from new data every write is.
    let extra = ["appendfsync always".to_owned(), "save 1 1".to_owned()];
    let extra = match boot.persistence {
        Persistence::None => Vec::new(),
        Persistence::Rdb => extra[1..].to_vec(),
        Persistence::Aof | Persistence::Mixed => extra[..1].to_vec(),
    };
    let settings = Settings {
        flavour: cell.flavour,
        persistence: boot.persistence,
        extra,
        ..Settings::default()
    };
    arrangement.stop()?;
    arrangement.pair_mut().set_settings(settings);
    anyhow::ensure!(
        arrangement.start(0)? == Side::A,
        "B is primary at the start"
    );

    for side in Side::BOTH {
        arrangement
            .pair()
            .server(side)
            .wait_until_rewritten(BOUND)?;
    }
    arrangement
        .pair()
        .server(Side::A)
        .connect()?
        .demand(&["SET", "older", "1"])?;
    for side in Side::BOTH {
        poll::until(
            "both to hold the older data",
            BOUND,
            Duration::from_millis(20),
            || {
                let held = arrangement.pair().server(side).connect()?;
                holds(held, "older")
                    .map(|held| held.then_some(()).ok_or_else(|| "not yet".to_owned()))
            },
        )?;
    }
    arrangement.pair_mut().power_off(Side::A)?;
    let primary = poll::until("B to take over", BOUND, Duration::from_millis(20), || {
        arrangement.primary()
    })?;
    let newest = arrangement.pair().server(primary);
    newest.connect()?.demand(&["SET", "newest", "1"])?;
    if boot.persistence == Persistence::Rdb {
        poll::until("the snapshot", BOUND, Duration::from_millis(20), || {
            let pending = newest.connect()?.info("rdb_changes_since_last_save")?;
            Ok(if pending == "0" {
                Ok(())
            } else {
                Err(format!("{pending} changes are not in it"))
            })
        })?;
    }
    arrangement.pair_mut().power_off(Side::B)?;
    if boot.emptied {
        let dir = arrangement
            .pair()
            .host(Side::B)
            .dir()
            .join(format!("data-{}", arrangement.pair().vip().port()));
        std::fs::remove_dir_all(&dir)?;
        std::fs::create_dir_all(&dir)?;
    }

    for (after, side) in [
        (Some(0), boot.first),
        (boot.second_after, boot.first.other()),
    ] {
        let Some(after) = after else { continue };
        std::thread::sleep(Duration::from_secs(after));
        arrangement.pair_mut().power_on(side)?;
        arrangement.start_daemons(side)?;
    }
    let who = poll::until("a primary", LONE, Duration::from_millis(50), || {
        arrangement.primary()
    });
    outcome.note = format!("{boot:?}: ");
    match who {
        Ok(side) => {
            // What there is to be had: the newest, or what A alone still has once B came back empty.
            let wanted = if boot.emptied { "older" } else { "newest" };
            let held = holds(arrangement.pair().server(side).connect()?, wanted)?;
            let could = boot.persistence != Persistence::None;
            // A host that returned long after the other had gone on may keep its newer data and wait for a person.
            let waits = boot.second_after.is_some()
                && holds(arrangement.pair().server(side.other()).connect()?, wanted)?;
            outcome.settled = held || !could || waits;
            outcome.lost = u64::from(!held && could);
            outcome.gone = u64::from(!held && could && !waits);
            outcome.note += if held {
                if boot.emptied {
                    "the data of A"
                } else {
                    "newest data"
                }
            } else if waits {
                "older data, while the newest waits on the other host for a person"
            } else if could {
                "OLD DATA"
            } else {
                "what there was"
            };
            outcome.note += &format!(" on {side:?}");
        }
        Err(waits) => {
            outcome.settled = true;
            outcome.note += &format!("waits ({waits:#})");
        }
    }
    Ok(())
}

fn holds(mut server: Connection, key: &str) -> anyhow::Result<bool> {
    Ok(server.demand(&["GET", key])?.text().is_some())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_read_back() {
        for scenario in Scenario::all() {
            assert_eq!(scenario.to_string().parse(), Ok(scenario));
        }
        assert!("flood".parse::<Scenario>().unwrap_err().contains("boots"));
    }

    #[test]
    fn boots_cover_every_persistence_in_both_orders() {
        let boots = boots();
        for persistence in Persistence::ALL {
            for first in Side::BOTH {
                let waits: Vec<_> = boots
                    .iter()
                    .filter(|boot| {
                        boot.persistence == persistence && boot.first == first && !boot.emptied
                    })
                    .map(|boot| boot.second_after)
                    .collect();
                assert_eq!(waits, SECOND_AFTER);
            }
        }
        assert!(boots.iter().any(|boot| boot.emptied));
    }
}
