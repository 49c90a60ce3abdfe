//! What a run consists of, drawn from its seed.
//!
//! One thing is never drawn: quorums below a majority together with sentinels that forget the others (RESET, or a lost
//! file). One that knows nobody is a majority of one, in Redis as here, and the quorum is then all that keeps
//! it from leading; operators who use RESET with a quorum of 1 get two leaders by design. RESET comes only when all is well,
//! and one sentinel at most loses its file: a fleet whose members have nobody in common cannot find together by any rule.

use std::time::Duration;

use tandem_core::sentinel::settings::Periods;

use crate::chance::{Chance, MS, SEC, Us};
use crate::redis::Persistence;

/// Something done to the fleet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fault {
    KillServer,
    KillServerEmpty,
    FreezeServer,
    KillSentinel,
    LoseFile,
    FreezeSentinel,
    CutOneWay,
    Isolate,
    Split,
    Weather,
    Disk,
    Manual,
    Reset,
    Set,
}

/// What can be done in any fleet.
const ALWAYS: &[Fault] = &[
    Fault::KillServer,
    Fault::KillServerEmpty,
    Fault::FreezeServer,
    Fault::KillSentinel,
    Fault::FreezeSentinel,
    Fault::CutOneWay,
    Fault::Isolate,
    Fault::Split,
    Fault::Weather,
    Fault::Disk,
    Fault::Manual,
    Fault::Set,
];
/// What makes a sentinel forget the others.
const FORGETTING: &[Fault] = &[Fault::LoseFile, Fault::Reset];

/// One sentinel's settings.
#[derive(Clone, Debug)]
pub(super) struct NodePlan {
    pub(super) quorum: u32,
    pub(super) down_after: Duration,
    pub(super) failover_timeout: Duration,
    pub(super) parallel_syncs: u32,
    pub(super) foreign: bool,
}

/// One run.
#[derive(Clone, Debug)]
pub(super) struct Plan {
    pub(super) nodes: Vec<NodePlan>,
    pub(super) periods: Periods,
    pub(super) persistence: [Persistence; 3],
    pub(super) priority: [u32; 3],
    /// The servers' configuration files can be written, so a restart keeps the role.
    pub(super) rewrites: bool,
    /// The servers' ACL has no CLIENT PAUSE.
    pub(super) no_pause: bool,
    pub(super) backlog: u64,
    pub(super) resync_time: Us,
    pub(super) repl_timeout: Us,
    /// Between two writes.
    pub(super) write_every: Us,
    /// Nothing is done but failovers on request, and every acknowledged write has to be there at the end.
    pub(super) calm: bool,
    pub(super) faults: Vec<Fault>,
    /// Between two faults, about.
    pub(super) gap: Us,
    /// When the first is, and for how long they go on.
    pub(super) first: Us,
    pub(super) length: Us,
    /// Quorums that SENTINEL SET may choose from.
    pub(super) quorums: (u32, u32),
}

fn ms(chance: &mut Chance, low: u64, high: u64) -> Duration {
    Duration::from_millis(chance.within(low, high))
}

impl Plan {
    pub(super) fn draw(chance: &mut Chance, sentinels: usize) -> Self {
        let majority = u32::try_from(sentinels / 2 + 1).unwrap_or(u32::MAX);
        let all = u32::try_from(sentinels).unwrap_or(u32::MAX);
        let calm = chance.percent(20);
        let mut faults: Vec<Fault> = ALWAYS
            .iter()
            .copied()
            .filter(|_| chance.percent(60))
            .collect();
        let forgetting = !calm && chance.percent(25);
        if forgetting {
            faults.extend(FORGETTING);
        }
        if faults.is_empty() {
            faults.push(Fault::KillServer);
        }
        let quorums = if forgetting {
            (majority, majority + 1)
        } else {
            (1, majority + 1)
        };
        let periods = draw_periods(chance);
        let foreigners = if chance.percent(30) {
            chance.within(1, u64::from(all))
        } else {
            0
        };
        let mixed = chance.percent(40);
        let common = draw_node(chance, quorums);
        let nodes = (0..sentinels as u64)
            .map(|index| {
                let mut node = if mixed {
                    draw_node(chance, quorums)
                } else {
                    common.clone()
                };
                node.foreign = index < foreigners;
                node
            })
            .collect();
        let persistence = [(); 3].map(|()| match chance.within(0, 3) {
            0 => Persistence::None,
            1 => Persistence::Rdb,
            _ => Persistence::Aof,
        });
        let mut priority = [100; 3];
        if chance.percent(30) {
            priority = priority.map(|_| u32::try_from(chance.within(1, 3)).unwrap_or(1) * 50);
        }
        if chance.percent(10) {
            priority[usize::try_from(chance.within(0, 3)).unwrap_or(0)] = 0;
        }
        Self {
            nodes,
            periods,
            persistence,
            priority,
            rewrites: chance.percent(80),
            no_pause: !calm && chance.percent(10),
            backlog: if chance.percent(80) { 1 << 20 } else { 2_000 },
            resync_time: chance.within(20 * MS, 1500 * MS),
            repl_timeout: chance.within(2 * SEC, 10 * SEC),
            write_every: if calm {
                chance.within(2 * MS, 30 * MS)
            } else {
                chance.within(50 * MS, 200 * MS)
            },
            calm,
            faults,
            gap: chance.within(300 * MS, 5 * SEC),
            // Those who do not know each other yet are no fleet whose majority could be counted.
            first: if forgetting {
                chance.within(SEC, 6 * SEC)
            } else {
                chance.within(8 * SEC, 10 * SEC)
            },
            length: chance.within(3 * SEC, 25 * SEC),
            quorums,
        }
    }

    /// The longest time in which a mended fleet has to become one again. See `heal`.
    pub(super) fn bound(&self) -> Us {
        let us = |time: Duration| u64::try_from(time.as_micros()).unwrap_or(Us::MAX);
        let most = |of: fn(&NodePlan) -> Duration| self.nodes.iter().map(of).max().map_or(0, us);
        // SENTINEL SET may have raised either since.
        let down_after = most(|node| node.down_after).max(us(DOWN_AFTER_MAX));
        let timeout = most(|node| node.failover_timeout).max(us(FAILOVER_TIMEOUT_MAX));
        let periods = &self.periods;
        // A primary that says it is a replica, or a silent one, is found down.
        let find = down_after + 2 * us(periods.info);
        // A vote or an attempt keeps back for twice the time-out and the random second, and an attempt that was under way
        // takes the election time-out or, having promoted, the time-out.
        let elect = 2 * (2 * timeout + SEC) + us(periods.election_timeout).min(timeout) + timeout;
        // Then each server is put right: by role after four hellos, by whom it follows after the time-out.
        let repair = 4 * us(periods.publish) + timeout + 3 * us(periods.info);
        // Connections that only look alive are closed after this.
        let links = us(periods.min_link_reconnect) + 3 * us(periods.publish);
        find + elect + repair + links + self.repl_timeout + 4 * self.resync_time + 5 * SEC
    }
}

/// SENTINEL SET goes no higher, and no draw either.
pub(super) const DOWN_AFTER_MAX: Duration = Duration::from_millis(3_000);
/// See [`DOWN_AFTER_MAX`].
pub(super) const FAILOVER_TIMEOUT_MAX: Duration = Duration::from_millis(8_000);

fn draw_node(chance: &mut Chance, quorums: (u32, u32)) -> NodePlan {
    let (low, high) = quorums;
    NodePlan {
        quorum: u32::try_from(chance.within(u64::from(low), u64::from(high))).unwrap_or(low),
        down_after: ms(chance, 300, 3_000),
        failover_timeout: ms(chance, 1_500, 8_000),
        parallel_syncs: u32::try_from(chance.within(1, 3)).unwrap_or(1),
        foreign: false,
    }
}

fn draw_periods(chance: &mut Chance) -> Periods {
    if chance.percent(30) {
        return Periods::default();
    }
    // As SENTINEL DEBUG sets them.
    Periods {
        info: ms(chance, 500, 5_000),
        ping: ms(chance, 200, 1_000),
        ask: ms(chance, 200, 1_000),
        publish: ms(chance, 300, 2_000),
        slave_reconf_timeout: ms(chance, 2_000, 10_000),
        min_link_reconnect: ms(chance, 2_000, 15_000),
        election_timeout: ms(chance, 2_000, 10_000),
        ..Periods::default()
    }
}
