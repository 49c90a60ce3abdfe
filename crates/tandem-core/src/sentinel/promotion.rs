//! From the leader's choice of a replica to the new primary.
//!
//! The leader looks once more, before SLAVEOF NO ONE, whether a newer election or configuration is known. A promotion
//! confirmed is a switch: `+switch-master` and the addresses change then, and the others are pointed to the new primary
//! behind it (reconf.rs).

use std::time::Duration;

use crate::sentinel::due::earlier;
use crate::sentinel::events::Kind;
use crate::sentinel::failover::{Abort, Next, SIMULATED_FAILURE};
use crate::sentinel::ids::{ConfigEpoch, Endpoint};
use crate::sentinel::io::{Level, Output};
use crate::sentinel::machine::Sentinel;
use crate::sentinel::model::{Failover, GroupId, HandoverStep, Link, Stage};
use crate::sentinel::steps::Purpose;

/// How long the newest positions of the replicas are waited for.
const POSITIONS_WAIT: Duration = Duration::from_millis(200);

impl Sentinel {
    pub(super) fn advance_selection(&mut self, id: GroupId) -> Next {
        let now = self.now;
        let Some((group, failover)) = self.with_failover(id) else {
            return Next::Wait(None);
        };
        if self.superseded(group, failover) {
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

    pub(super) fn advance_promotion(&mut self, id: GroupId) -> Next {
        let now = self.now;
        let Some((group, failover)) = self.with_failover(id) else {
            return Next::Wait(None);
        };
        let Some(chosen) = failover.chosen.clone() else {
            self.abort(id, Abort::NoGoodReplica);
            return Next::Wait(None);
        };
        if self.superseded(group, failover) {
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

    pub(super) fn advance_confirmation(&mut self, id: GroupId) -> Next {
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

    /// This process stood still while it was about to promote somebody.
    pub(super) fn lead_no_more(&mut self, id: GroupId) {
        let Some((group, failover)) = self.with_failover(id) else {
            return;
        };
        let fenced = failover
            .handover
            .as_ref()
            .is_some_and(|handover| match handover.step {
                HandoverStep::Fencing | HandoverStep::Fenced => true,
                HandoverStep::Pausing | HandoverStep::Draining => false,
            });
        let link = group.primary.link;
        self.log(
            Level::Warning,
            "This process stood still on the way to a promotion: what it rests on may be over",
        );
        if fenced {
            // Nobody takes writes then, unless somebody else put it right. The voters know, and we ask them anew.
            self.unpause(link);
            if let Some(group) = self.groups.get_mut(&id) {
                for replica in group.replicas.values_mut() {
                    replica.promoted = false;
                }
            }
            self.begin(id, true);
        } else {
            self.give_back(id);
            self.abort(id, Abort::NotElected);
        }
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
}
