//! `bench sentinel`: real redis-sentinel and `tandem sentinel` through the same troubles, run by run in turn.
//!
//! Three servers and three Sentinels, down-after 1000 ms, a fresh fleet for every run, so that no run profits from what
//! the one before has shortened. The groups of [`Scenario::Groups`] are played by the lab ([`crate::fake::Crowd`]):
//! three thousand real servers would not fit beside what is measured. Results are kept as `bench failover` keeps them.
//!
//! Everything that a run waits for has a bound. Should one be stuck all the same, the program ends after
//! [`RUN_MAX`] and says which; begun again, it goes on behind the runs that are in the file.

mod crowd;
mod outcome;
mod run;
mod table;
mod watchdog;

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::{Duration, Instant};

use anyhow::Context;

pub use self::outcome::Outcome;
pub use self::table::render;
use super::lines::Lines;
use crate::fleet::Program;
use crate::fleet::mixed::{Mix, Trouble};
use crate::libraries::{Library, follow};
use crate::ns::TURN_BOUND;

/// A row of the table.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Scenario {
    /// kill -9 of the primary's server, with a client writing.
    Kill,
    /// SIGSTOP of the primary's server, with a client writing.
    Freeze,
    /// `SENTINEL FAILOVER` with a client writing that stays connected as long as it is let.
    Manual,
    /// The primary's host is cut off for 12 s, with a client on its side.
    Cut,
    /// A thousand quiet groups: processor and memory of one Sentinel.
    Groups,
    /// A client library through the death of the primary.
    Client(Library),
    /// A trouble on five Sentinels of both kinds.
    Mixed(Mix, Trouble),
}

impl Scenario {
    /// All that compare the two, in the order of the table.
    pub const COMPARED: [Self; 9] = [
        Self::Kill,
        Self::Freeze,
        Self::Manual,
        Self::Cut,
        Self::Client(Library::RedisPy),
        Self::Client(Library::Ioredis),
        Self::Client(Library::NodeRedis),
        Self::Client(Library::GoRedis),
        Self::Groups,
    ];

    /// Every mix under every trouble.
    #[must_use]
    pub fn mixed() -> Vec<Self> {
        Mix::all()
            .into_iter()
            .flat_map(|mix| Trouble::ALL.map(|trouble| Self::Mixed(mix, trouble)))
            .collect()
    }
}

impl fmt::Display for Scenario {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Kill => f.write_str("kill"),
            Self::Freeze => f.write_str("freeze"),
            Self::Manual => f.write_str("manual"),
            Self::Cut => f.write_str("cut"),
            Self::Client(library) => write!(f, "client-{library}"),
            Self::Groups => f.write_str("groups"),
            Self::Mixed(mix, trouble) => write!(f, "mixed-{mix}-{trouble}"),
        }
    }
}

impl FromStr for Scenario {
    type Err = String;

    fn from_str(name: &str) -> Result<Self, String> {
        let mut all = Self::COMPARED.to_vec();
        all.extend(Self::mixed());
        all.into_iter()
            .find(|scenario| scenario.to_string() == name)
            .ok_or_else(|| {
                format!(
                    "no scenario `{name}`; there are kill, freeze, manual, cut, clients, groups, mixed"
                )
            })
    }
}

/// What is to be run.
#[derive(Debug, Clone)]
pub struct Plan {
    /// Runs of each program in each scenario that compares them.
    pub runs: u32,
    /// Runs of each program in [`Scenario::Groups`], which take minutes.
    pub group_runs: u32,
    /// Runs of each mix under each trouble.
    pub mixed_runs: u32,
    /// The scenarios.
    pub scenarios: Vec<Scenario>,
    /// The programs that are compared.
    pub programs: Vec<Program>,
    /// Groups in [`Scenario::Groups`].
    pub groups: usize,
    /// Where results are kept.
    pub results: PathBuf,
}

/// No run takes this long once it is its turn on the machine: the longest bounds of all its waits together.
pub const RUN_MAX: Duration = Duration::from_secs(900);

/// After so many runs of a scenario that failed one after another, it is left.
const PATIENCE_RUNS: u32 = 3;

/// Runs everything that the results file does not hold yet, with a line of progress for each run.
///
/// # Errors
/// When the results file cannot be read or written. A run that fails is a result.
pub fn run(plan: &Plan) -> anyhow::Result<Vec<Outcome>> {
    let mut results = Lines::open(&plan.results).context("the results file")?;
    for &scenario in &plan.scenarios {
        let both = || plan.programs.iter().copied().map(Some).collect();
        let (wanted, who): (u32, Vec<Option<Program>>) = match scenario {
            Scenario::Mixed(..) => (plan.mixed_runs, vec![None]),
            Scenario::Groups => (plan.group_runs, both()),
            Scenario::Kill
            | Scenario::Freeze
            | Scenario::Manual
            | Scenario::Cut
            | Scenario::Client(_) => (plan.runs, both()),
        };
        let mut failed = 0;
        // The programs take turns, so that both meet the same moods of the machine.
        for round in 0..wanted {
            for &program in &who {
                if have(results.outcomes(), scenario, program) > round || failed >= PATIENCE_RUNS {
                    continue;
                }
                let mut outcome = Outcome::of(scenario, program, round);
                let begun = Instant::now();
                let stuck = watchdog::start(TURN_BOUND + RUN_MAX, outcome.head());
                let ran = match (scenario, program) {
                    (Scenario::Groups, Some(program)) => {
                        crowd::measure(program, plan.groups, &mut outcome)
                    }
                    (Scenario::Client(library), Some(program)) => library
                        .command()
                        .and_then(|command| follow(command, library.name(), program))
                        .map(|gap| outcome.gap_ms = gap.as_secs_f64() * 1000.0),
                    _ => run::measure(scenario, program, &mut outcome),
                };
                drop(stuck);
                outcome.took_s = begun.elapsed().as_secs_f64();
                outcome.failure = ran.err().map(|error| format!("{error:#}"));
                failed = if outcome.failure.is_some() {
                    failed + 1
                } else {
                    0
                };
                eprintln!("{}", outcome.summary());
                results.add(outcome)?;
            }
        }
    }
    Ok(results.outcomes().to_vec())
}

/// How many runs of a scenario succeeded.
fn have(outcomes: &[Outcome], scenario: Scenario, program: Option<Program>) -> u32 {
    let runs = outcomes
        .iter()
        .filter(|outcome| outcome.is_of(scenario, program) && outcome.failure.is_none())
        .count();
    u32::try_from(runs).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_read_back() {
        for scenario in Scenario::COMPARED.into_iter().chain(Scenario::mixed()) {
            assert_eq!(scenario.to_string().parse(), Ok(scenario));
        }
        assert_eq!(Scenario::mixed().len(), 40);
        assert!("flood".parse::<Scenario>().is_err());
    }

    #[test]
    fn failed_runs_are_repeated() {
        let mut outcomes = vec![Outcome::of(Scenario::Kill, Some(Program::Real), 0); 2];
        outcomes[0].failure = Some("dark".to_owned());
        assert_eq!(have(&outcomes, Scenario::Kill, Some(Program::Real)), 1);
        assert_eq!(have(&outcomes, Scenario::Kill, Some(Program::Tandem)), 0);
    }
}
