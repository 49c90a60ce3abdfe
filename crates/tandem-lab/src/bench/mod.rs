//! `bench failover`: every fault on every arrangement, many times, with what clients saw in one table.
//!
//! Each run is one line of a results file, written when the run is over, so that a benchmark that was interrupted goes
//! on where it stopped. tandem runs on: the next fault hits the pair that the last one left. The peers start afresh
//! for every run, because by hand-made set-ups only the first failover is promised.
//!
//! [`sentinel`] is the benchmark of Sentinels alone, [`interop`] the matrix of `tandem vrrp` beside keepalived, [`proxy`] and
//! [`proxy_failover`] those of proxies, [`suites`] what client libraries' own tests say of a proxy.

mod idle;
pub mod interop;
mod lines;
mod measure;
mod outcome;
pub mod proxy;
pub mod proxy_failover;
mod scenario;
pub mod sentinel;
mod stall;
pub mod suites;
mod table;

use std::path::PathBuf;
use std::time::Duration;

use anyhow::Context;

pub use self::outcome::{Outcome, Results};
pub use self::scenario::Scenario;
pub use self::table::render;
use crate::arrangement::{Arrangement, Keepalived, Sentinel, TandemPair, Tuning};
use crate::server::{Flavour, Settings};

/// What is to be run.
#[derive(Debug, Clone)]
pub struct Plan {
    /// Runs of tandem per fault.
    pub runs: u32,
    /// Runs of each peer per fault.
    pub peer_runs: u32,
    /// The scenarios, in the order of the table.
    pub scenarios: Vec<Scenario>,
    /// The arrangements.
    pub contestants: Vec<Contestant>,
    /// Sizes of the data, in GiB, for the scenarios in which it matters.
    pub data_gib: Vec<u64>,
    /// The server programs. Those other than Redis 7.0 run a part of it; see [`Scenario::for_other_servers`].
    pub flavours: Vec<Flavour>,
    /// Where results are kept.
    pub results: PathBuf,
}

/// An arrangement that takes part.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Contestant {
    /// This project.
    Tandem,
    /// keepalived, tuned by hand.
    KeepalivedTuned,
    /// keepalived, as tutorials have it.
    KeepalivedTutorial,
    /// Sentinel with down-after 1000 ms.
    Sentinel1000,
    /// Sentinel with down-after 200 ms.
    Sentinel200,
}

impl Contestant {
    /// All of them, in the order of the columns.
    pub const ALL: [Self; 5] = [
        Self::Tandem,
        Self::KeepalivedTuned,
        Self::KeepalivedTutorial,
        Self::Sentinel1000,
        Self::Sentinel200,
    ];

    /// The name in results and on the command line.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Tandem => "tandem",
            Self::KeepalivedTuned => "keepalived-tuned",
            Self::KeepalivedTutorial => "keepalived-tutorial",
            Self::Sentinel1000 => "sentinel-1000",
            Self::Sentinel200 => "sentinel-200",
        }
    }

    /// Builds the network of its pair.
    ///
    /// # Errors
    /// When the lab cannot be built, or the tandem binary is not there.
    pub fn build(self, settings: Settings) -> anyhow::Result<Box<dyn Arrangement>> {
        Ok(match self {
            Self::Tandem => Box::new(TandemPair::new(crate::tandem_binary()?, settings)?),
            Self::KeepalivedTuned => Box::new(Keepalived::new(Tuning::Tuned, settings)?),
            Self::KeepalivedTutorial => Box::new(Keepalived::new(Tuning::Tutorial, settings)?),
            Self::Sentinel1000 => Box::new(Sentinel::new(Duration::from_millis(1000), settings)?),
            Self::Sentinel200 => Box::new(Sentinel::new(Duration::from_millis(200), settings)?),
        })
    }

    fn runs(self, plan: &Plan) -> u32 {
        match self {
            Self::Tandem => plan.runs,
            Self::KeepalivedTuned
            | Self::KeepalivedTutorial
            | Self::Sentinel1000
            | Self::Sentinel200 => plan.peer_runs,
        }
    }
}

impl std::str::FromStr for Contestant {
    type Err = String;

    fn from_str(name: &str) -> Result<Self, String> {
        crate::named::parse("arrangement", &Self::ALL, Self::name, name)
    }
}

/// One cell of the table: a scenario on an arrangement.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cell {
    /// What happens.
    pub scenario: Scenario,
    /// To whom.
    pub contestant: Contestant,
    /// With how much data.
    pub gib: u64,
    /// On which server.
    pub flavour: Flavour,
}

/// After so many runs of a cell that failed one after another, the cell is left.
const PATIENCE_RUNS: u32 = 3;

/// Runs everything that the results file does not hold yet, with a line of progress for each run.
///
/// # Errors
/// When the results file cannot be read or written. A run that fails is a result.
pub fn run(plan: &Plan) -> anyhow::Result<Results> {
    let mut results = Results::open(&plan.results).context("the results file")?;
    for cell in cells(plan) {
        let wanted = cell.scenario.runs(cell.contestant.runs(plan));
        let missing = results.missing(&cell, wanted);
        if missing.is_empty() {
            eprintln!(
                "{}: {wanted} runs are in {}",
                cell.label(),
                plan.results.display()
            );
            continue;
        }
        if let Err(error) = cell.flavour.find() {
            eprintln!("{}: skipped: {error:#}", cell.label());
            continue;
        }
        let mut failed = 0;
        scenario::run_cell(&cell, &missing, &mut |outcome| {
            eprintln!(
                "{} run {}: {}",
                cell.label(),
                outcome.run + 1,
                outcome.summary()
            );
            failed = if outcome.failure.is_some() {
                failed + 1
            } else {
                0
            };
            results.add(outcome)?;
            Ok(failed < PATIENCE_RUNS)
        })?;
    }
    Ok(results)
}

impl Cell {
    fn label(&self) -> String {
        format!(
            "{} {} GiB {} on {}",
            self.scenario,
            self.gib,
            self.flavour.name(),
            self.contestant.name()
        )
    }
}

fn cells(plan: &Plan) -> Vec<Cell> {
    let mut cells = Vec::new();
    for &flavour in &plan.flavours {
        for &scenario in &plan.scenarios {
            for &gib in &plan.data_gib {
                for &contestant in &plan.contestants {
                    let whole = flavour == Flavour::Redis70
                        && (gib == 0 || scenario.depends_on_size())
                        && scenario.includes(contestant);
                    let part = contestant == Contestant::Tandem
                        && gib == 0
                        && scenario.for_other_servers();
                    if whole || part {
                        cells.push(Cell {
                            scenario,
                            contestant,
                            gib,
                            flavour,
                        });
                    }
                }
            }
        }
    }
    cells
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::arrangement::Fault;

    #[test]
    fn every_row_of_the_table_is_run() {
        let plan = Plan {
            runs: 20,
            peer_runs: 5,
            scenarios: Scenario::all(),
            contestants: Contestant::ALL.to_vec(),
            data_gib: vec![0, 4],
            flavours: Flavour::ALL.to_vec(),
            results: PathBuf::new(),
        };
        let cells = cells(&plan);
        let has = |scenario, contestant, gib, flavour| {
            cells.contains(&Cell {
                scenario,
                contestant,
                gib,
                flavour,
            })
        };
        let (redis, tandem) = (Flavour::Redis70, Contestant::Tandem);
        for scenario in Scenario::all() {
            assert!(has(scenario, tandem, 0, redis), "{scenario}");
        }
        for contestant in Contestant::ALL {
            for gib in [0, 4] {
                let kill = Scenario::Single(Fault::KillServer);
                assert!(has(kill, contestant, gib, redis), "{contestant:?}");
            }
        }
        for flavour in [Flavour::Redis62, Flavour::Valkey91] {
            let of: Vec<String> = cells
                .iter()
                .filter(|cell| cell.flavour == flavour)
                .map(|cell| cell.scenario.to_string())
                .collect();
            assert_eq!(
                of,
                ["kill", "freeze", "switchover", "cut-both-used", "boots"]
            );
        }
    }
}
