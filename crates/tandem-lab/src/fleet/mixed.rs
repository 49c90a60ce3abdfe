//! One trouble on a fleet of five Sentinels, some real and some ours, and whether they come to one mind.
//!
//! Three servers, the first on the host of the first Sentinel. Whatever happens, at the end there is one primary, every
//! Sentinel names it, and all hold equal epochs.

use std::fmt;
use std::str::FromStr;
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};

use super::{Fleet, Plan, Program};
use crate::poll;

/// How many Sentinels.
pub const SIZE: usize = 5;
const SERVERS: usize = 3;
/// For the Sentinels to know one another, and for a failover with its repairs; an election that nobody won is repeated
/// after twice the failover-timeout of 10 s.
const BOUND: Duration = Duration::from_secs(60);
/// Between two looks at who is named.
const EVERY: Duration = Duration::from_millis(10);

/// What happens to the primary.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Trouble {
    /// SIGKILL to its server, which stays away until all know the new one.
    Kill,
    /// SIGSTOP to its server until all know the new one; then it goes on where it was.
    Freeze,
    /// Its host, with the first Sentinel, is cut off until all others know the new one.
    Cut,
    /// SIGKILL to its server, which comes back as a primary the moment one Sentinel names another.
    Return,
    /// `SENTINEL FAILOVER` while all is well.
    Manual,
}

impl Trouble {
    /// All of them.
    pub const ALL: [Self; 5] = [
        Self::Kill,
        Self::Freeze,
        Self::Cut,
        Self::Return,
        Self::Manual,
    ];

    /// The name in results and on the command line.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Kill => "kill",
            Self::Freeze => "freeze",
            Self::Cut => "cut",
            Self::Return => "return",
            Self::Manual => "manual",
        }
    }
}

impl fmt::Display for Trouble {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Trouble {
    type Err = String;

    fn from_str(name: &str) -> Result<Self, String> {
        crate::named::parse("trouble", &Self::ALL, Self::name, name)
    }
}

/// Which of the five are ours.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Mix([Program; SIZE]);

impl Mix {
    /// The members at these places are ours, the others real.
    #[must_use]
    pub fn ours_at(places: &[usize]) -> Self {
        Self(std::array::from_fn(|place| {
            if places.contains(&place) {
                Program::Tandem
            } else {
                Program::Real
            }
        }))
    }

    /// Every number from one to four of ours, once beside the primary and once away from it.
    #[must_use]
    pub fn all() -> Vec<Self> {
        (1..SIZE)
            .flat_map(|ours| {
                let first: Vec<usize> = (0..ours).collect();
                let last: Vec<usize> = (SIZE - ours..SIZE).collect();
                [Self::ours_at(&first), Self::ours_at(&last)]
            })
            .collect()
    }

    /// The programs by place.
    #[must_use]
    pub fn programs(self) -> [Program; SIZE] {
        self.0
    }
}

impl fmt::Display for Mix {
    /// `TTRRR`: a letter for each place.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|program| {
            f.write_str(match program {
                Program::Real => "R",
                Program::Tandem => "T",
                Program::Valkey => "V",
            })
        })
    }
}

/// What a trial showed. The times are figures, not promises.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Verdict {
    /// Until every reachable Sentinel named the new primary.
    pub known: Duration,
    /// Until one primary, all replicas and all Sentinels were in order, counted from the repair.
    pub settled: Duration,
    /// The configuration epoch that all hold.
    pub config_epoch: u64,
}

/// Runs one trouble on a fresh fleet.
///
/// # Errors
/// When the fleet does not come to one mind, or is wrong.
pub fn trial(mix: Mix, trouble: Trouble) -> anyhow::Result<Verdict> {
    let mut fleet = Fleet::build(Plan::of(SERVERS, &mix.programs()).hurried())?;
    let verdict = run(&mut fleet, trouble);
    verdict.with_context(|| format!("{trouble} on {mix}\n{}", fleet.logs()))
}

fn run(fleet: &mut Fleet, trouble: Trouble) -> anyhow::Result<Verdict> {
    fleet.start(BOUND)?;
    ensure!(
        fleet.settle(BOUND)? == 0,
        "the first server is primary at first"
    );
    let (epoch_before, _) = fleet.epochs()?;
    let old = fleet.servers()[0].address();
    let begun = Instant::now();
    let first_host = fleet.members()[0].host().name().to_owned();
    match trouble {
        Trouble::Kill | Trouble::Return => fleet.servers()[0].process().kill(),
        Trouble::Freeze => fleet.servers()[0].process().freeze(),
        Trouble::Cut => fleet.cut(&[&first_host])?,
        // The last member: in the mixes of both kinds it is once ours and once real.
        Trouble::Manual => fleet.members()[SIZE - 1]
            .demand(&["SENTINEL", "FAILOVER", fleet.group()])
            .map(drop)?,
    }
    // Behind a cut the first Sentinel cannot know.
    let reached = usize::from(trouble == Trouble::Cut);
    if trouble == Trouble::Return {
        wait_until_named(fleet, 1, old, 1)?;
        fleet.restart_server(0)?;
    }
    wait_until_named(fleet, reached, old, SIZE - reached)?;
    let known = begun.elapsed();

    let repaired = Instant::now();
    match trouble {
        Trouble::Kill => fleet.restart_server(0)?,
        Trouble::Freeze => fleet.servers()[0].process().thaw(),
        Trouble::Cut => fleet.heal()?,
        Trouble::Return | Trouble::Manual => {}
    }
    let primary = fleet.settle(BOUND)?;
    let (config_epoch, _) = fleet.epochs()?;
    // All named another primary. The first one may be it again by a failover of its own: a real Sentinel that gets no
    // processor for a second finds the new primary down, and its quorum is the word on the old one, which it keeps for
    // 5 s over a change of address.
    let promotions = if primary == 0 { 2 } else { 1 };
    ensure!(
        config_epoch >= epoch_before + promotions,
        "server {primary} is primary in epoch {config_epoch}, after {epoch_before}: a promotion without an epoch of its own"
    );
    Ok(Verdict {
        known,
        settled: repaired.elapsed(),
        config_epoch,
    })
}

/// Waits until so many of the members from a place on name another primary than the old one.
fn wait_until_named(
    fleet: &Fleet,
    from: usize,
    old: std::net::SocketAddr,
    enough: usize,
) -> anyhow::Result<()> {
    poll::until("the new primary to be named", BOUND, EVERY, || {
        let named = fleet.members()[from..]
            .iter()
            .filter(|member| {
                let named = member.addr_by_name(fleet.group());
                named.is_ok_and(|address| address != old)
            })
            .count();
        Ok(if named >= enough {
            Ok(())
        } else {
            Err(format!("by {named} of {enough}"))
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mixes_cover_every_number_of_ours_beside_the_primary_and_away_from_it() {
        let shown: Vec<String> = Mix::all().iter().map(ToString::to_string).collect();
        assert_eq!(
            shown,
            [
                "TRRRR", "RRRRT", "TTRRR", "RRRTT", "TTTRR", "RRTTT", "TTTTR", "RTTTT"
            ]
        );
    }

    #[test]
    fn names_are_read_back() {
        for trouble in Trouble::ALL {
            assert_eq!(trouble.name().parse(), Ok(trouble));
        }
        assert!("flood".parse::<Trouble>().is_err());
    }
}
