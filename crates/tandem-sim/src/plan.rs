//! What a seed decides before its run begins: settings, servers, clients, and which faults exist.
//!
//! Swarm style: each seed switches a random subset of the faults on, so that rare combinations are
//! not drowned by the common ones.

use std::time::Duration;

use tandem_core::keeper::settings::{Manage, Preempt, Resync};

use crate::chance::{Chance, MS, SEC, Us};
use crate::redis::Persistence;

/// Kinds of fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum FaultKind {
    /// SIGKILL of a server.
    KillServer,
    /// SIGSTOP of a server for a while.
    FreezeServer,
    /// SIGKILL of a daemon, started again later.
    KillDaemon,
    /// SIGSTOP of a daemon for a while.
    FreezeDaemon,
    /// A host loses power for a while.
    PowerOff,
    /// The hosts do not reach each other, in one of many ways.
    Cut,
    /// Datagrams are lost, doubled, delayed.
    Weather,
    /// The disk is full or slow.
    Disk,
    /// Steps fail, with and without effect.
    Steps,
    /// An operator asks for a switchover.
    Switchover,
    /// An operator pauses and resumes.
    Pause,
    /// TERM of a daemon, started again later.
    Term,
    /// Both servers or both hosts at once.
    Both,
    /// The server refuses writes for its disk.
    Misconf,
    /// An operator accepts loss.
    AcceptLoss,
}

const KINDS: [FaultKind; 15] = [
    FaultKind::KillServer,
    FaultKind::FreezeServer,
    FaultKind::KillDaemon,
    FaultKind::FreezeDaemon,
    FaultKind::PowerOff,
    FaultKind::Cut,
    FaultKind::Weather,
    FaultKind::Disk,
    FaultKind::Steps,
    FaultKind::Switchover,
    FaultKind::Pause,
    FaultKind::Term,
    FaultKind::Both,
    FaultKind::Misconf,
    FaultKind::AcceptLoss,
];

/// How the group begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Beginning {
    /// A running primary with its replica.
    Running,
    /// Two servers without data.
    Empty,
    /// Two servers with unrelated data.
    Unrelated,
    /// One with data, one without, neither following.
    OneEmpty,
}

/// A seed's plan.
#[derive(Clone, Debug)]
pub struct Plan {
    /// How it begins.
    pub beginning: Beginning,
    /// Who starts servers.
    pub manage: Manage,
    /// What each server keeps on disk.
    pub persistence: [Persistence; 2],
    /// Bytes of backlog.
    pub backlog: u64,
    /// Fail-back.
    pub preempt: Preempt,
    /// Resync policy.
    pub resync: Resync,
    /// VRRP preempts by priority.
    pub vrrp_preempt: bool,
    /// Priorities.
    pub priority: [u8; 2],
    /// boot_wait.
    pub boot_wait: Duration,
    /// A full resync takes up to this.
    pub resync_time: Us,
    /// The faults that exist.
    pub faults: Vec<FaultKind>,
    /// Mean time between faults.
    pub gap: Us,
    /// How long faults go on.
    pub faults_for: Us,
    /// Percent of dead servers that their supervisor starts again (adopt).
    pub supervised: u64,
    /// Full syncs go without a disk, and the stream after them waits for an acknowledgement.
    pub diskless: bool,
    /// What a supervisor starts is not fenced by its configuration: it comes back as a primary (rule 18).
    pub bare: bool,
    /// Mean time between a client's writes.
    pub pace: Us,
    /// How many clients.
    pub clients: usize,
    /// Both servers are on one host.
    pub one_host: bool,
    /// Clients are answered without a replica where the keeper lets them.
    pub alone: bool,
}

impl Plan {
    /// The plan of a seed. What was added later draws from a stream of its own, so that the seeds of
    /// faults found before keep their course.
    pub fn of_seed(chance: &mut Chance, later: &mut Chance) -> Self {
        let mut plan = Self::draw(chance);
        plan.bare = plan.manage == Manage::Adopt && later.percent(30);
        plan.diskless = later.percent(30);
        plan
    }

    /// Draws a plan.
    fn draw(chance: &mut Chance) -> Self {
        let persistence = |chance: &mut Chance| match chance.within(0, 3) {
            0 => Persistence::None,
            1 => Persistence::Rdb,
            _ => Persistence::Aof,
        };
        let on = chance.within(15, 60);
        let mut faults: Vec<FaultKind> = KINDS
            .into_iter()
            .filter(|kind| {
                chance.percent(match kind {
                    FaultKind::AcceptLoss => 5,
                    _ => on,
                })
            })
            .collect();
        if faults.is_empty() {
            faults.push(FaultKind::KillServer);
        }
        let manage = if chance.percent(50) {
            Manage::Adopt
        } else {
            Manage::Spawn
        };
        let beginning = match chance.within(0, 100) {
            0..80 => Beginning::Running,
            80..88 => Beginning::Empty,
            88..94 => Beginning::OneEmpty,
            _ => Beginning::Unrelated,
        };
        Self {
            beginning,
            manage,
            persistence: [persistence(chance), persistence(chance)],
            backlog: if chance.percent(80) {
                1 << 20
            } else {
                chance.within(500, 20_000)
            },
            preempt: if chance.percent(20) {
                Preempt::AfterSync
            } else {
                Preempt::Never
            },
            resync: if chance.percent(15) {
                Resync::Ask
            } else {
                Resync::Automatic
            },
            vrrp_preempt: chance.percent(50),
            priority: match chance.within(0, 3) {
                0 => [100, 100],
                1 => [100, 90],
                _ => [90, 100],
            },
            boot_wait: Duration::from_millis(chance.within(1_000, 4_000)),
            resync_time: [5 * MS, 50 * MS, 700 * MS]
                [usize::try_from(chance.within(0, 3)).unwrap_or(0)],
            faults,
            gap: [150 * MS, 500 * MS, 1_500 * MS]
                [usize::try_from(chance.within(0, 3)).unwrap_or(0)],
            faults_for: chance.within(3 * SEC, 10 * SEC),
            supervised: if chance.percent(70) { 100 } else { 50 },
            bare: false,
            diskless: false,
            pace: chance.within(5 * MS, 25 * MS),
            clients: usize::try_from(chance.within(1, 4)).unwrap_or(1),
            one_host: false,
            alone: false,
        }
    }
}
