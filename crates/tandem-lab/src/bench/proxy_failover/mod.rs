//! `bench proxy-failover`: what clients behind a proxy notice when the primary of a pair is killed or moved.
//!
//! A pair under tandem on two hosts, a proxy on a third, fifty clients on a fourth with one request each in flight,
//! mixed, every answer judged ([`crate::proxy::tagged`]). The figure of a run is its longest answer. tandem's proxy follows
//! the pair by its daemons; nutcracker, which can only be pointed at the VIP, is what one has without it.

mod outcome;
mod stage;
mod table;

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

use anyhow::Context;

pub use self::outcome::Outcome;
use self::stage::Stage;
pub use self::table::render;
use super::lines::Lines;
use crate::arrangement::Fault;
use crate::proxy::Program;

/// The faults, in the order of the table.
pub const FAULTS: [Fault; 2] = [Fault::KillServer, Fault::Switchover];

/// Who takes part.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Contestant {
    /// `[[proxy]]` of a tandem that follows the pair.
    Tandem,
    /// nutcracker before the pair's VIP.
    NutcrackerVip,
}

impl Contestant {
    /// All of them, in the order of the table.
    pub const ALL: [Self; 2] = [Self::Tandem, Self::NutcrackerVip];

    /// The name in results and on the command line.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Tandem => "tandem",
            Self::NutcrackerVip => "nutcracker-vip",
        }
    }

    /// The program, whose absence is a reason to leave it out.
    pub(super) fn program(self) -> Program {
        match self {
            Self::Tandem => Program::Tandem,
            Self::NutcrackerVip => Program::Nutcracker,
        }
    }
}

impl fmt::Display for Contestant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Contestant {
    type Err = String;

    fn from_str(name: &str) -> Result<Self, String> {
        crate::named::parse("contestant", &Self::ALL, Self::name, name)
    }
}

/// What is to be run.
#[derive(Debug, Clone)]
pub struct Plan {
    /// Runs of each contestant under each fault.
    pub runs: u32,
    /// The faults: of [`FAULTS`].
    pub faults: Vec<Fault>,
    /// Who takes part.
    pub contestants: Vec<Contestant>,
    /// Where results are kept.
    pub results: PathBuf,
}

/// After so many runs of a cell that failed one after another, the cell is left.
const PATIENCE_RUNS: u32 = 2;

/// Runs everything that the results file does not hold yet, with a line of progress for each run.
///
/// # Errors
/// When the results file cannot be read or written. A run that fails is a result.
pub fn run(plan: &Plan) -> anyhow::Result<Vec<Outcome>> {
    let mut results = Lines::open(&plan.results).context("the results file")?;
    for &contestant in &plan.contestants {
        // The pair runs on from one fault to the next, as one in service does.
        let mut stage: Option<Stage> = None;
        for &fault in &plan.faults {
            let mut failed = 0;
            for run in have(results.outcomes(), fault, contestant)..plan.runs {
                if failed >= PATIENCE_RUNS {
                    break;
                }
                let mut outcome = Outcome::of(fault, contestant, run);
                if let Err(error) = Stage::play(&mut stage, contestant, fault, &mut outcome) {
                    outcome.failure = Some(format!("{error:#}"));
                    stage = None;
                    failed += 1;
                } else {
                    failed = 0;
                }
                eprintln!("{}", outcome.summary());
                results.add(outcome)?;
            }
        }
    }
    Ok(results.outcomes().to_vec())
}

/// How many runs of a cell succeeded.
fn have(outcomes: &[Outcome], fault: Fault, contestant: Contestant) -> u32 {
    let runs = outcomes
        .iter()
        .filter(|outcome| outcome.is_of(fault, contestant) && outcome.failure.is_none())
        .count();
    u32::try_from(runs).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn failed_runs_are_repeated() {
        let mut outcomes = vec![Outcome::of(Fault::KillServer, Contestant::Tandem, 0); 2];
        outcomes[0].failure = Some("dark".to_owned());
        assert_eq!(have(&outcomes, Fault::KillServer, Contestant::Tandem), 1);
        assert_eq!(have(&outcomes, Fault::Switchover, Contestant::Tandem), 0);
        assert_eq!("tandem".parse(), Ok(Contestant::Tandem));
    }
}
