//! Standing repairs: servers that do not do what the configuration says.
//!
//! Redis' rules (`sentinel.c`): a server that should be a replica and says it is a primary is made one, a replica of the
//! wrong primary is put right, each only while our own primary is well and only after a time in which a newer
//! configuration would have reached us (four publish periods; the failover time-out). Who won the present
//! configuration himself has nothing to wait for with the primary that he replaced, and demotes it the moment it returns.
//!
//! Before a server is resynced, the bytes that only it holds are counted and told (`+diverged`), and archived where a
//! tandem daemon is on its host (tail.rs).

use std::time::Duration;

use crate::sentinel::events::Kind;
use crate::sentinel::ids::{ElectionEpoch, Endpoint};
use crate::sentinel::machine::Sentinel;
use crate::sentinel::model::{Group, GroupId, ReportedRole, Stage};
use crate::sentinel::steps::Purpose;
use crate::sentinel::tail::Tail;

/// Publish periods for which a wrong role must last.
const ROLE_PERIODS: u32 = 4;

impl Sentinel {
    /// Looks at all replicas of a group again: its primary has just been seen well.
    pub(super) fn repair_replicas(&mut self, id: GroupId) {
        let wrong: Vec<Endpoint> = self.groups.get(&id).map_or_else(Vec::new, |group| {
            let role = |at: &Endpoint| group.replicas.get(at).map(|replica| replica.observed.role);
            group
                .replicas
                .keys()
                .filter(|at| role(at) == Some(ReportedRole::Primary))
                .cloned()
                .collect()
        });
        for at in wrong {
            self.repair(id, &at);
        }
    }

    /// Puts a replica right if it is time.
    pub(super) fn repair(&mut self, id: GroupId, at: &Endpoint) {
        let now = self.now;
        let wait = self.periods.publish * ROLE_PERIODS;
        let Some(group) = self.groups.get_mut(&id) else {
            return;
        };
        let Some(replica) = group.replicas.get(at) else {
            return;
        };
        if replica.observed.role == ReportedRole::Replica
            && group.deposed.as_ref() == Some(at)
            && replica.observed.info_at.is_some()
        {
            // It returned, and as a replica.
            group.deposed = None;
        }
        let Some(group) = self.groups.get(&id) else {
            return;
        };
        let Some(replica) = group.replicas.get(at) else {
            return;
        };
        if !self.is_sane(group) || replica.down.subjective.is_some() || self.has_step(id, at) {
            return;
        }
        // A loading server refuses; and what was refused is tried again at the pace of a PING, not of the replies.
        let tried_lately = replica
            .repaired_at
            .is_some_and(|tried| now.saturating_duration_since(tried) < self.periods.ping);
        if replica.observed.loading || tried_lately {
            return;
        }
        let for_long = |since: std::time::Instant, time: Duration| {
            now.saturating_duration_since(since) >= time
        };
        let primary = group.primary.at.clone();
        match replica.observed.role {
            ReportedRole::Primary => {
                let ours = group.deposed.as_ref() == Some(at)
                    && group.leader_epoch <= ElectionEpoch(group.config_epoch.0);
                let ripe =
                    for_long(replica.up_since, wait) && for_long(replica.observed.role_since, wait);
                if (ours || ripe) && self.tail_settled(id, at) {
                    self.tell_loss(id, at);
                    if self.change_role(id, at, Purpose::Follow(primary)) {
                        self.repair_tried(id, at);
                        self.tell_replica(id, at, Kind::PlusConvertToSlave);
                    }
                }
            }
            ReportedRole::Replica => {
                let timeout = group.settings.failover_timeout;
                let right = replica
                    .follows
                    .as_ref()
                    .is_none_or(|follows| self.is_at(follows, &primary));
                // Its host's daemon fenced it when it had archived what it held, and waits for us.
                let fenced = matches!(replica.tail, Some(Tail::Archived(_)));
                let ripe = fenced
                    || for_long(replica.up_since, timeout)
                        && for_long(replica.follows_since, timeout);
                if right {
                    self.tail_is_history(id, at);
                } else if ripe && replica.reconf.is_none() && self.tail_settled(id, at) {
                    self.tell_loss(id, at);
                    if self.change_role(id, at, Purpose::Follow(primary)) {
                        self.repair_tried(id, at);
                        self.tell_replica(id, at, Kind::PlusFixSlaveConfig);
                    }
                }
            }
        }
    }

    /// It follows our primary: whatever it held of its own is dealt with.
    fn tail_is_history(&mut self, id: GroupId, at: &Endpoint) {
        if let Some(replica) = self
            .groups
            .get_mut(&id)
            .and_then(|group| group.replicas.get_mut(at))
        {
            replica.tail = None;
        }
    }

    fn repair_tried(&mut self, id: GroupId, at: &Endpoint) {
        let now = self.now;
        if let Some(replica) = self
            .groups
            .get_mut(&id)
            .and_then(|group| group.replicas.get_mut(at))
        {
            replica.repaired_at = Some(now);
        }
    }

    /// Our primary is what the configuration says, and was seen so lately.
    pub(super) fn is_sane(&self, group: &Group) -> bool {
        let primary = &group.primary;
        let changing = group.failover.as_ref().is_some_and(|failover| {
            !matches!(failover.stage, Stage::Reconfiguring | Stage::Updating)
        });
        primary.observed.role == ReportedRole::Primary
            && primary.down.subjective.is_none()
            && primary.down.objective.is_none()
            && !changing
            && primary.observed.info_at.is_some_and(|read| {
                self.now.saturating_duration_since(read) < self.periods.info * 2
            })
    }
}
