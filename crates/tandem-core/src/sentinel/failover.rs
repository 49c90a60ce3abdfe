//! A failover from the first doubt to the new primary: the order of its stages, and how it ends.
//!
//! The stages, their order, their events and their time-outs are Redis' (`sentinel.c`). Each input lets a group
//! run through as many stages as it can. When to begin is in standing.rs, the votes are in election.rs, what the leader
//! then does is in promotion.rs and reconf.rs. What differs from Redis is said there, and stays within the protocol.
//!
//! An attempt that came to nothing is repeated, where all are ours, after 50 to 300 ms, longer with each; with a foreign
//! sentinel known, Redis' twice the failover time-out holds.

use std::time::{Duration, Instant};

use crate::sentinel::due::{Key, earlier};
use crate::sentinel::events::Kind;
use crate::sentinel::io::Level;
use crate::sentinel::machine::Sentinel;
use crate::sentinel::model::{Failover, Group, GroupId, Stage};
use crate::sentinel::reasons::explain;
use crate::sentinel::standing::NO_REPLICA_AGAIN;

/// Steps of one group within one input; more would be a loop.
const STEPS_MAX: u32 = 16;
/// Between two elections of ours where all are ours.
const AGAIN: (Duration, Duration) = (Duration::from_millis(50), Duration::from_millis(300));
/// Doublings of it.
const AGAIN_DOUBLINGS: u32 = 5;
/// Random part of the time of a start (Redis).
const DESYNC_MAX: Duration = Duration::from_secs(1);
/// How the process ends on purpose (Redis).
pub(super) const SIMULATED_FAILURE: i32 = 99;

/// Whether a stage can go on.
pub(super) enum Next {
    /// Look again at once.
    Again,
    /// Something must come in, or this moment.
    Wait(Option<Instant>),
}

/// How a failover ended without a new primary.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Abort {
    NotElected,
    NoGoodReplica,
    ReplicaTimeout,
    Behind,
}

impl Sentinel {
    /// Lets a group do whatever it can do now, and plans its next look.
    pub(super) fn decide(&mut self, id: GroupId) {
        self.recheck_primary(id);
        self.watch_majority(id);
        let mut next = self.check_objective(id);
        next = earlier(next, self.start_if_due(id));
        for _ in 0..STEPS_MAX {
            match self.advance(id) {
                Next::Again => {}
                Next::Wait(at) => {
                    next = earlier(next, at);
                    break;
                }
            }
        }
        next = earlier(next, self.ask_peers(id, false));
        next = earlier(next, self.hello_to_peers(id));
        next = earlier(next, self.forget_the_gone(id));
        match next {
            Some(at) if self.groups.contains_key(&id) => {
                let soon = self.now + Duration::from_millis(1);
                self.due.set(Key::Group(id), at.max(soon));
            }
            Some(_) | None => self.due.forget(Key::Group(id)),
        }
    }

    /// Begins a failover in an election of its own.
    pub(super) fn begin(&mut self, id: GroupId, forced: bool) {
        let now = self.now;
        let Some(epoch) = self.current_epoch.next() else {
            self.log(Level::Warning, "There are no elections left to number");
            return;
        };
        let delay = self.random.between(Duration::ZERO, DESYNC_MAX);
        let Some(group) = self.groups.get(&id) else {
            return;
        };
        let act_at = forced.then(|| self.forced_deadline(group));
        let Some(group) = self.groups.get_mut(&id) else {
            return;
        };
        group.stand_at = None;
        group.failover_started = Some(now + delay);
        group.retry_at = Some(now + delay + group.settings.failover_timeout * 2);
        group.failover = Some(Failover {
            epoch,
            stage: Stage::Electing,
            stage_since: now,
            forced,
            chosen: None,
            old: None,
            handover: None,
            act_at,
            asked_at: now,
            again_at: None,
            by_word: false,
        });
        self.adopt_epoch(id, epoch);
        self.tell_primary(id, Kind::PlusTryFailover);
        // Without an election too: nobody else may get this vote and a promotion in the same epoch.
        let own = self.id.clone();
        self.vote(id, epoch, &own);
        self.ask_replicas(id);
        self.ask_peers(id, true);
        self.mark(id);
    }

    fn advance(&mut self, id: GroupId) -> Next {
        let Some(group) = self.groups.get(&id) else {
            return Next::Wait(None);
        };
        let Some(failover) = &group.failover else {
            return Next::Wait(None);
        };
        match failover.stage {
            Stage::Electing => self.advance_election(id),
            Stage::Selecting => self.advance_selection(id),
            Stage::Promoting => self.advance_promotion(id),
            Stage::Confirming => self.advance_confirmation(id),
            Stage::Reconfiguring | Stage::Updating => Next::Wait(self.advance_reconf(id)),
        }
    }

    pub(super) fn enter(&mut self, id: GroupId, stage: Stage) {
        let now = self.now;
        if let Some(failover) = self
            .groups
            .get_mut(&id)
            .and_then(|group| group.failover.as_mut())
        {
            failover.stage = stage;
            failover.stage_since = now;
            failover.act_at = None;
        }
    }

    pub(super) fn abort(&mut self, id: GroupId, why: Abort) {
        let now = self.now;
        let kind = match why {
            Abort::NotElected => Kind::MinusFailoverAbortNotElected,
            Abort::NoGoodReplica => Kind::MinusFailoverAbortNoGoodSlave,
            Abort::ReplicaTimeout => Kind::MinusFailoverAbortSlaveTimeout,
            Abort::Behind => Kind::MinusFailoverAbortSlaveBehind,
        };
        self.tell_primary(id, kind);
        if why == Abort::NoGoodReplica {
            let reasons = explain(self, id);
            self.log(Level::Warning, reasons);
        }
        let Some(group) = self.groups.get_mut(&id) else {
            return;
        };
        group.failover = None;
        group.stand_at = None;
        for replica in group.replicas.values_mut() {
            replica.promoted = false;
            replica.reconf = None;
        }
        if group.all_ours() {
            let twice = group.settings.failover_timeout * 2;
            let doublings = 2_u32.pow(group.fruitless.min(AGAIN_DOUBLINGS));
            let pause = match why {
                Abort::NotElected | Abort::ReplicaTimeout | Abort::Behind => {
                    self.random.between(AGAIN.0, AGAIN.1) * doublings
                }
                Abort::NoGoodReplica => NO_REPLICA_AGAIN * doublings,
            };
            group.fruitless = group.fruitless.saturating_add(1);
            group.retry_at = Some(now + pause.min(twice));
        }
        self.mark(id);
    }

    pub(super) fn with_failover(&self, id: GroupId) -> Option<(&Group, &Failover)> {
        let group = self.groups.get(&id)?;
        Some((group, group.failover.as_ref()?))
    }
}
