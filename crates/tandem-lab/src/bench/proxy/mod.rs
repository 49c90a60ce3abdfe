//! `bench proxy`: what a proxy costs, beside the server itself and beside other proxies, round by round in turn.
//!
//! Everything stands on one host of the lab and talks over its loopback: two servers, each proxy in front of the first,
//! and once more in front of both where it can shard. The figure that counts is a quotient: processor time of the
//! proxy per request divided by that of redis-server asked directly, in the same round, because microseconds drift
//! with the machine and this quotient does not. A row of a round is measured as a whole; one that was interrupted, or
//! to which a proxy was added, is measured again.

mod ack;
mod bed;
mod calls;
mod large;
mod latency;
mod load;
mod memory;
mod outcome;
mod table;

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

use anyhow::Context;

use self::bed::Bed;
pub use self::outcome::Outcome;
pub use self::table::render;
use super::lines::Lines;
use crate::proxy::Program;

/// A command that `redis-benchmark` sends.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Command {
    /// SET of a 64-byte value to one of 100,000 keys.
    Set,
    /// GET of one of them.
    Get,
}

impl Command {
    /// As `redis-benchmark -t` names it.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Set => "set",
            Self::Get => "get",
        }
    }
}

/// A row of the table.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Row {
    /// Processor time per request, 50 connections, so many requests at once on each.
    Load(Command, u16),
    /// The same for MGET of ten keys at pipeline 16 over two servers.
    Mget,
    /// Resident memory for each idle connection, after use.
    Memory,
    /// System calls per request, without pipelining.
    Calls,
    /// Waiting time at half load.
    Latency,
    /// Throughput of SET at pipeline 16 with `ack = 1`, beside `ack = 0`.
    Ack,
    /// A value of 512 MiB: the most memory that the proxy needs for it.
    Large,
}

/// Requests at once on each connection.
pub(super) const PIPELINES: [u16; 3] = [1, 16, 64];

impl Row {
    /// All of them, in the order of the table.
    #[must_use]
    pub fn all() -> Vec<Self> {
        PIPELINES
            .into_iter()
            .flat_map(|depth| [Command::Set, Command::Get].map(|name| Self::Load(name, depth)))
            .chain([
                Self::Mget,
                Self::Memory,
                Self::Calls,
                Self::Latency,
                Self::Ack,
                Self::Large,
            ])
            .collect()
    }

    /// Who is measured in it.
    fn includes(self, contestant: Contestant) -> bool {
        match self {
            Self::Load(..) => true,
            Self::Mget => matches!(contestant, Contestant::Nutcracker | Contestant::Tandem),
            Self::Latency => contestant != Contestant::TandemTwo,
            Self::Ack => contestant == Contestant::Tandem,
            Self::Memory | Self::Calls | Self::Large => {
                !matches!(contestant, Contestant::Direct | Contestant::TandemTwo)
            }
        }
    }

    /// How many rounds of those asked for: some figures hardly vary, and cost more time than the others together.
    fn rounds(self, asked: u32) -> u32 {
        match self {
            Self::Load(..) | Self::Mget | Self::Latency | Self::Ack => asked,
            Self::Memory | Self::Calls => asked.min(3),
            Self::Large => asked.min(1),
        }
    }
}

impl fmt::Display for Row {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Load(command, depth) => write!(f, "{}-{depth}", command.name()),
            Self::Mget => f.write_str("mget"),
            Self::Memory => f.write_str("memory"),
            Self::Calls => f.write_str("calls"),
            Self::Latency => f.write_str("latency"),
            Self::Ack => f.write_str("ack"),
            Self::Large => f.write_str("large"),
        }
    }
}

impl FromStr for Row {
    type Err = String;

    fn from_str(name: &str) -> Result<Self, String> {
        crate::named::parse("row", &Self::all(), |one| one, name)
    }
}

/// Who is asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Contestant {
    /// redis-server itself.
    Direct,
    /// nutcracker.
    Nutcracker,
    /// haproxy.
    Haproxy,
    /// `tandem proxy`, one thread.
    Tandem,
    /// `tandem proxy`, two threads.
    TandemTwo,
}

impl Contestant {
    /// All of them, in the order of the columns.
    pub const ALL: [Self; 5] = [
        Self::Direct,
        Self::Nutcracker,
        Self::Haproxy,
        Self::Tandem,
        Self::TandemTwo,
    ];

    /// The name in results and on the command line.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Direct => "direct",
            Self::Nutcracker => "nutcracker",
            Self::Haproxy => "haproxy",
            Self::Tandem => "tandem",
            Self::TandemTwo => "tandem-2",
        }
    }

    /// The proxy's program and its threads; none for the server itself.
    pub(super) fn proxy(self) -> Option<(Program, usize)> {
        match self {
            Self::Direct => None,
            Self::Nutcracker => Some((Program::Nutcracker, 1)),
            Self::Haproxy => Some((Program::Haproxy, 1)),
            Self::Tandem => Some((Program::Tandem, 1)),
            Self::TandemTwo => Some((Program::Tandem, 2)),
        }
    }

    /// Everybody who can take part here; who cannot is named with the reason.
    #[must_use]
    pub fn available() -> Vec<Self> {
        let can = |contestant: &Self| match contestant.proxy().map(|(program, _)| program.find()) {
            None | Some(Ok(_)) => true,
            Some(Err(reason)) => {
                eprintln!("without {}: {reason:#}", contestant.name());
                false
            }
        };
        Self::ALL.into_iter().filter(can).collect()
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
    /// Rounds.
    pub runs: u32,
    /// The rows, in their order.
    pub rows: Vec<Row>,
    /// Who takes part. The server itself always does where a quotient needs it.
    pub contestants: Vec<Contestant>,
    /// Where results are kept.
    pub results: PathBuf,
}

/// After so many measurements in a row that failed, the run is left.
const PATIENCE_RUNS: u32 = 5;

/// Measures everything that the results file does not hold yet, with a line of progress for each measurement.
///
/// # Errors
/// When servers or proxies cannot be started, or the results file cannot be read or written. A measurement that fails
/// is a result.
pub fn run(plan: &Plan) -> anyhow::Result<Vec<Outcome>> {
    let mut results = Lines::open(&plan.results).context("the results file")?;
    let mut bed = Bed::build(&plan.contestants)?;
    let mut failed = 0;
    for round in 0..plan.runs {
        for &row in plan.rows.iter().filter(|row| round < row.rounds(plan.runs)) {
            let mut who: Vec<Contestant> = Contestant::ALL
                .into_iter()
                .filter(|one| row.includes(*one) && takes_part(plan, *one))
                .collect();
            if complete(results.outcomes(), row, round, &who) || failed >= PATIENCE_RUNS {
                continue;
            }
            // Everybody comes after everybody else once: what one leaves behind hits them all alike.
            let first = round as usize % who.len().max(1);
            who.rotate_left(first);
            for contestant in who {
                let mut outcome = Outcome::of(row, contestant, round);
                let measured = match row {
                    Row::Load(command, depth) => {
                        load::measure(&bed, contestant, command, depth, &mut outcome)
                    }
                    Row::Mget => load::measure_mget(&bed, contestant, &mut outcome),
                    Row::Memory => memory::measure(&bed, contestant, &mut outcome),
                    Row::Calls => calls::measure(&bed, contestant, &mut outcome),
                    Row::Latency => latency::measure(&mut bed, contestant, round, &mut outcome),
                    Row::Ack => ack::measure(&mut bed, round, &mut outcome),
                    Row::Large => large::measure(&bed, contestant, &mut outcome),
                };
                outcome.failure = measured.err().map(|error| format!("{error:#}"));
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

fn takes_part(plan: &Plan, contestant: Contestant) -> bool {
    contestant == Contestant::Direct || plan.contestants.contains(&contestant)
}

/// Whether all of them were measured in the row of a round.
fn complete(outcomes: &[Outcome], row: Row, round: u32, who: &[Contestant]) -> bool {
    who.iter().all(|contestant| {
        outcomes.iter().any(|outcome| {
            outcome.is_of(row, *contestant) && outcome.round == round && outcome.failure.is_none()
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_read_back() {
        for row in Row::all() {
            assert_eq!(row.to_string().parse(), Ok(row));
        }
        assert_eq!("get-16".parse(), Ok(Row::Load(Command::Get, 16)));
        assert!("get-3".parse::<Row>().unwrap_err().contains("mget"));
        for contestant in Contestant::ALL {
            assert_eq!(contestant.name().parse(), Ok(contestant));
        }
    }

    #[test]
    fn a_row_of_a_round_is_complete_with_all_who_take_part() {
        let row = Row::Load(Command::Get, 1);
        let who = [Contestant::Direct, Contestant::Nutcracker];
        let mut outcomes = vec![
            Outcome::of(row, Contestant::Direct, 2),
            Outcome::of(row, Contestant::Nutcracker, 2),
        ];
        assert!(complete(&outcomes, row, 2, &who));
        assert!(!complete(&outcomes, row, 1, &who));
        let more = [
            Contestant::Direct,
            Contestant::Nutcracker,
            Contestant::Haproxy,
        ];
        assert!(!complete(&outcomes, row, 2, &more));
        outcomes[1].failure = Some("dark".to_owned());
        assert!(!complete(&outcomes, row, 2, &who));
    }
}
