//! A failover from the first doubt to the new primary.
//!
//! The stages, their order, their events and their time-outs are Redis' (`sentinel.c`). Each input lets a group
//! run through as many stages as it can. What differs, and stays within the protocol:
//!
//! - Candidates wait for a short random time so that they do not split the votes: up to 20 ms where all sentinels
//!   are ours, up to 100 ms (the length of Redis' tick) otherwise. A sentinel by itself does not wait.
//! - Where all are ours, an election that cannot be won any more ends at once and is repeated after 50 to 300 ms, longer
//!   with each; a vote for somebody else keeps us back for the election time-out only. With a foreign one known, Redis'
//!   twice the failover time-out holds.
//! - Who was cut off from the majority does not stand in the moment the cut ends: what it believes of the primary is from
//!   the time of the cut, and its connection to it comes back later than those to willing voters.
//! - The leader looks once more, before SLAVEOF NO ONE, whether a newer election or configuration is known.
//! - A promotion confirmed is a switch: `+switch-master` and the addresses change then, and the others are pointed to the
//!   new primary behind it (reconf.rs).

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use crate::sentinel::due::{Key, earlier};
use crate::sentinel::events::Kind;
use crate::sentinel::forced::Forced;
use crate::sentinel::ids::{ConfigEpoch, Endpoint};
use crate::sentinel::io::{Level, Output};
use crate::sentinel::links::server_links;
use crate::sentinel::machine::Sentinel;
use crate::sentinel::model::{Failover, Group, GroupId, Link, LinkId, Stage};
use crate::sentinel::reasons::explain;
use crate::sentinel::steps::Purpose;

/// Steps of one group within one input; more would be a loop.
const STEPS_MAX: u32 = 16;
/// How long a candidate waits at most before it stands, where all are ours.
const STAND_OURS: Duration = Duration::from_millis(20);
/// And with a foreign one: the length of Redis' tick.
const STAND_FOREIGN: Duration = Duration::from_millis(100);
/// Ping periods for which a majority must have been reachable before we stand.
const MAJORITY_PERIODS: u32 = 2;
/// Between two elections of ours where all are ours.
const AGAIN: (Duration, Duration) = (Duration::from_millis(50), Duration::from_millis(300));
/// Doublings of it.
const AGAIN_DOUBLINGS: u32 = 5;
/// Before another attempt where no replica was good enough and all are ours; doubles.
const NO_REPLICA_AGAIN: Duration = Duration::from_secs(1);
/// How long the newest positions of the replicas are waited for.
const POSITIONS_WAIT: Duration = Duration::from_millis(200);
/// Random part of the time of a start (Redis).
const DESYNC_MAX: Duration = Duration::from_secs(1);
/// How the process ends on purpose (Redis).
const SIMULATED_FAILURE: i32 = 99;

/// Whether a stage can go on.
enum Next {
    /// Look again at once.
    Again,
    /// Something must come in, or this moment.
    Wait(Option<Instant>),
}

/// How a failover ended without a new primary.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Abort {
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

    /// Notes since when a majority can be reached; when it comes back, the servers are tried again at once.
    fn watch_majority(&mut self, id: GroupId) {
        let now = self.now;
        let Some(group) = self.groups.get_mut(&id) else {
            return;
        };
        if reachable(&self.links, group) <= group.voters() / 2 {
            group.majority_since = None;
            return;
        }
        if group.majority_since.is_some() {
            return;
        }
        group.majority_since = Some(now);
        for link in server_links(group) {
            if let Some(link) = self.links.get_mut(&link) {
                link.retry_at = link.retry_at.min(now);
            }
            self.due.by(Key::Link(link), now);
        }
    }

    /// Stands for election if the primary is down for the quorum and nothing keeps us.
    fn start_if_due(&mut self, id: GroupId) -> Option<Instant> {
        let now = self.now;
        let group = self.groups.get_mut(&id)?;
        if group.primary.down.objective.is_none() {
            group.stand_at = None;
            return None;
        }
        if group.failover.is_some() {
            return None;
        }
        if let Some(at) = group.retry_at.filter(|at| now < *at) {
            if group.retry_told != Some(at) {
                group.retry_told = Some(at);
                let group = group.settings.name.clone();
                self.out.push(Output::NextFailover { group, at });
            }
            return Some(at);
        }
        // Redis asks voters that it cannot reach as well, and is not elected.
        if let Some(since) = group.majority_since {
            let sure = since + self.periods.ping * MAJORITY_PERIODS;
            if now < sure {
                return Some(sure);
            }
        }
        let Some(at) = group.stand_at else {
            let most = if group.peers.is_empty() {
                Duration::ZERO
            } else if group.all_ours() || group.primary.gone.is_some() {
                STAND_OURS
            } else {
                STAND_FOREIGN
            };
            let at = now + self.random.between(Duration::ZERO, most);
            group.stand_at = Some(at);
            return if at > now {
                Some(at)
            } else {
                self.begin(id, false);
                None
            };
        };
        if now < at {
            return Some(at);
        }
        let group = self.groups.get(&id)?;
        // After an attempt that came to nothing, only what can come to something is tried: each attempt costs the
        // fleet an epoch.
        if group.fruitless > 0 && group.all_ours() && !self.could_succeed(group) {
            return Some(now + NO_REPLICA_AGAIN);
        }
        self.begin(id, false);
        None
    }

    /// Enough sentinels can be reached for a majority, and a replica is good enough.
    fn could_succeed(&self, group: &Group) -> bool {
        reachable(&self.links, group) >= needed(group)
            && (self.choose(group).is_some() || self.stranded(group).is_some())
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

    fn enter(&mut self, id: GroupId, stage: Stage) {
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

    fn advance_election(&mut self, id: GroupId) -> Next {
        let now = self.now;
        let Some((group, failover)) = self.with_failover(id) else {
            return Next::Wait(None);
        };
        let elected = if failover.forced {
            match self.forced_election(id) {
                Forced::Elected => true,
                Forced::Again => return Next::Again,
                Forced::Wait(until) => return Next::Wait(Some(until)),
                Forced::Lost => {
                    self.abort(id, Abort::NotElected);
                    return Next::Wait(None);
                }
            }
        } else {
            self.count(group, failover, needed(group)).won
        };
        if elected {
            self.tell_primary(id, Kind::PlusElectedLeader);
            if self.simulate.after_election {
                self.out.push(Output::Exit {
                    code: SIMULATED_FAILURE,
                });
                return Next::Wait(None);
            }
            self.enter(id, Stage::Selecting);
            self.tell_primary(id, Kind::PlusFailoverStateSelectSlave);
            self.ask_replicas(id);
            self.ask_primary(id);
            return Next::Again;
        }
        let Some((group, failover)) = self.with_failover(id) else {
            return Next::Wait(None);
        };
        let limit = self
            .periods
            .election_timeout
            .min(group.settings.failover_timeout);
        let end = failover.stage_since + limit;
        let lost = superseded(group, failover)
            || group.all_ours() && self.count(group, failover, needed(group)).lost;
        if lost || now >= end {
            self.abort(id, Abort::NotElected);
            return Next::Wait(None);
        }
        Next::Wait(Some(end))
    }

    fn advance_selection(&mut self, id: GroupId) -> Next {
        let now = self.now;
        let Some((group, failover)) = self.with_failover(id) else {
            return Next::Wait(None);
        };
        if superseded(group, failover) {
            self.abort(id, Abort::NotElected);
            return Next::Wait(None);
        }
        // The positions must be those after the primary fell silent, or the wrong one looks best.
        let since = group
            .primary
            .down
            .subjective
            .map_or(failover.stage_since, |down| down);
        let until = failover.stage_since + POSITIONS_WAIT;
        let waits = now < until
            && group.replicas.values().any(|replica| {
                let read = replica.observed.info_at.is_some_and(|read| read >= since);
                !read
                    && replica.down.subjective.is_none()
                    && self.links.get(&replica.link).is_some_and(Link::is_up)
            });
        if waits {
            return Next::Wait(Some(until));
        }
        let chosen = self.choose(group);
        // What nobody can be by the ordinary rules, the one with the most data is in the end.
        let Some(chosen) = chosen.or_else(|| self.stranded(group)) else {
            self.abort(id, Abort::NoGoodReplica);
            return Next::Wait(None);
        };
        if chosen == group.primary.at {
            self.log(
                Level::Warning,
                format!(
                    "Nobody is primary, and {chosen} has the most data: it becomes primary again"
                ),
            );
            self.change_role(id, &chosen, Purpose::Restore);
            self.abort(id, Abort::NoGoodReplica);
            return Next::Wait(None);
        }
        let Some(group) = self.groups.get_mut(&id) else {
            return Next::Wait(None);
        };
        if let Some(replica) = group.replicas.get_mut(&chosen) {
            replica.promoted = true;
        }
        if let Some(failover) = &mut group.failover {
            failover.chosen = Some(chosen.clone());
        }
        self.tell_replica(id, &chosen, Kind::PlusSelectedSlave);
        self.enter(id, Stage::Promoting);
        self.tell_replica(id, &chosen, Kind::PlusFailoverStateSendSlaveofNoone);
        self.begin_handover(id);
        Next::Again
    }

    fn advance_promotion(&mut self, id: GroupId) -> Next {
        let now = self.now;
        let Some((group, failover)) = self.with_failover(id) else {
            return Next::Wait(None);
        };
        let Some(chosen) = failover.chosen.clone() else {
            self.abort(id, Abort::NoGoodReplica);
            return Next::Wait(None);
        };
        if superseded(group, failover) {
            // Somebody was elected after us, or won already: what we would promote now, they would have to undo.
            self.stand_down(id);
            return Next::Wait(None);
        }
        let end = failover.stage_since + group.settings.failover_timeout;
        let replica_down = group
            .replicas
            .get(&chosen)
            .is_none_or(|replica| replica.down.subjective.is_some());
        if replica_down || now >= end {
            self.give_back(id);
            self.abort(id, Abort::ReplicaTimeout);
            return Next::Wait(None);
        }
        if let Some(wait) = self.advance_handover(id) {
            return Next::Wait(earlier(wait, Some(end)));
        }
        // The hand-over may have ended the failover.
        if self.with_failover(id).is_none() {
            return Next::Wait(None);
        }
        if !self.change_role(id, &chosen, Purpose::Promote) {
            return Next::Wait(Some(end));
        }
        self.enter(id, Stage::Confirming);
        self.tell_replica(id, &chosen, Kind::PlusFailoverStateWaitPromotion);
        Next::Again
    }

    fn advance_confirmation(&mut self, id: GroupId) -> Next {
        let Some((group, failover)) = self.with_failover(id) else {
            return Next::Wait(None);
        };
        let end = failover.stage_since + group.settings.failover_timeout;
        if self.now >= end {
            self.give_back(id);
            self.abort(id, Abort::ReplicaTimeout);
            return Next::Wait(None);
        }
        Next::Wait(Some(end))
    }

    /// The replica to be promoted refused: nothing has changed, so another attempt may follow at once.
    pub(super) fn promotion_refused(&mut self, id: GroupId) {
        self.give_back(id);
        self.abort(id, Abort::ReplicaTimeout);
    }

    /// A planned change was given up before anything was changed.
    pub(super) fn abort_behind(&mut self, id: GroupId) {
        self.abort(id, Abort::Behind);
    }

    fn stand_down(&mut self, id: GroupId) {
        self.log(
            Level::Warning,
            "A newer election or configuration of this group is known: standing down before the promotion",
        );
        self.give_back(id);
        self.abort(id, Abort::NotElected);
    }

    /// A server that is our replica reports that it is a primary.
    pub(super) fn became_primary(&mut self, id: GroupId, at: &Endpoint) {
        let Some((_, failover)) = self.with_failover(id) else {
            return;
        };
        if failover.stage != Stage::Confirming || failover.chosen.as_ref() != Some(at) {
            return;
        }
        let epoch = failover.epoch;
        let handover = failover.handover.is_some();
        let forced = failover.forced;
        let Some(group) = self.groups.get_mut(&id) else {
            return;
        };
        group.config_epoch = ConfigEpoch::won(epoch);
        let old = group.primary.at.clone();
        self.tell_replica(id, at, Kind::PlusPromotedSlave);
        if self.simulate.after_promotion {
            self.save();
            self.out.push(Output::Exit {
                code: SIMULATED_FAILURE,
            });
            return;
        }
        self.tell_primary(id, Kind::PlusFailoverStateReconfSlaves);
        self.run_reconfiguration(id, "leader", &old, at);
        let kept = self
            .groups
            .get_mut(&id)
            .and_then(|group| group.failover.take());
        self.switch_primary(id, at);
        let now = self.now;
        if let Some(group) = self.groups.get_mut(&id) {
            group.won_here = true;
            group.deposed = Some(old.clone());
            group.failover = kept.map(|failover| Failover {
                stage: Stage::Reconfiguring,
                stage_since: now,
                old: Some(old.clone()),
                ..failover
            });
        }
        self.save();
        if handover {
            self.handover_done(id, &old);
        } else if forced {
            // It is alive and takes writes that will be lost: every moment counts.
            self.tell_loss(id, &old);
            self.change_role(id, &old, Purpose::Follow(at.clone()));
        }
        self.hello_everywhere(id);
        self.mark(id);
    }

    fn abort(&mut self, id: GroupId, why: Abort) {
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

    /// How long a vote for somebody else keeps us from standing.
    pub(super) fn pause_after_vote(&self, id: GroupId) -> Duration {
        let Some(group) = self.groups.get(&id) else {
            return Duration::ZERO;
        };
        let twice = group.settings.failover_timeout * 2;
        if group.all_ours() {
            twice.min(self.periods.election_timeout)
        } else {
            twice
        }
    }

    pub(super) fn with_failover(&self, id: GroupId) -> Option<(&Group, &Failover)> {
        let group = self.groups.get(&id)?;
        Some((group, group.failover.as_ref()?))
    }

    /// How our election stands.
    pub(super) fn count(&self, group: &Group, failover: &Failover, needed: usize) -> Count {
        let epoch = failover.epoch;
        let own = group.leader.as_ref() == Some(&self.id)
            && group.leader_epoch == epoch
            && self.saver.holds(group.vote_saved);
        let pending_own = !own && group.leader_epoch == epoch && !self.saver.is_failing();
        let mut votes = usize::from(own);
        let mut open = usize::from(pending_own);
        for peer in group.peers.values() {
            match &peer.vote {
                Some((leader, voted)) if *voted == epoch => {
                    votes += usize::from(*leader == self.id);
                }
                // It voted in a later election already, so not in ours any more.
                Some((_, voted)) if *voted > epoch => {}
                Some(_) | None => {
                    let answered = peer
                        .opinion_at
                        .is_some_and(|told| told > failover.asked_at && peer.asked_at < Some(told));
                    let reachable = self.links.get(&peer.link).is_some_and(Link::is_up);
                    open += usize::from(reachable && !answered);
                }
            }
        }
        Count {
            won: votes >= needed,
            lost: votes + open < needed,
        }
    }
}

/// See [`Sentinel::count`].
pub(super) struct Count {
    pub(super) won: bool,
    pub(super) lost: bool,
}

/// Sentinels of a group that can be reached, ourselves included.
fn reachable(links: &BTreeMap<LinkId, Link>, group: &Group) -> usize {
    let peers = group.peers.values();
    1 + peers
        .filter(|peer| links.get(&peer.link).is_some_and(Link::is_up))
        .count()
}

/// Votes that make a leader: a majority of all known sentinels, and the quorum.
pub(super) fn needed(group: &Group) -> usize {
    (group.voters() / 2 + 1).max(group.settings.quorum as usize)
}

/// A newer election of this group, or its outcome, is known.
pub(super) fn superseded(group: &Group, failover: &Failover) -> bool {
    let voted = group.leader_epoch > failover.epoch;
    let won = group.config_epoch >= ConfigEpoch::won(failover.epoch);
    let seen = group.peers.values().any(|peer| {
        peer.vote
            .as_ref()
            .is_some_and(|(_, epoch)| *epoch > failover.epoch)
    });
    voted || won || seen
}
