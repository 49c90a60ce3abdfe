//! Standing repairs: servers that do not do what the configuration says.
//!
//! Redis' rules (`sentinel.c`): a server that should be a replica and says it is a primary is made one, a replica of the
//! wrong primary is put right, each only while our own primary is well and only after a time in which a newer
//! configuration would have reached us (four publish periods; the failover time-out). Who won the present
//! configuration himself has nothing to wait for with the primary that he replaced, and demotes it the moment it returns.
//!
//! Before a server is resynced, the bytes that only it holds are counted and told (`+diverged`, evidence.rs).

use std::time::Duration;

use crate::sentinel::events::Kind;
use crate::sentinel::evidence::bytes_lost;
use crate::sentinel::ids::{ElectionEpoch, Endpoint};
use crate::sentinel::io::Level;
use crate::sentinel::machine::Sentinel;
use crate::sentinel::model::{Group, GroupId, ReportedRole, Stage};
use crate::sentinel::steps::Purpose;

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
                if ours || ripe {
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
                let ripe =
                    for_long(replica.up_since, timeout) && for_long(replica.follows_since, timeout);
                if !right && ripe && replica.reconf.is_none() {
                    self.tell_loss(id, at);
                    if self.change_role(id, at, Purpose::Follow(primary)) {
                        self.repair_tried(id, at);
                        self.tell_replica(id, at, Kind::PlusFixSlaveConfig);
                    }
                }
            }
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
    fn is_sane(&self, group: &Group) -> bool {
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

    /// Counts and tells what a server loses when it is made to follow our primary; once for the same loss.
    pub(super) fn tell_loss(&mut self, id: GroupId, at: &Endpoint) {
        let Some(group) = self.groups.get_mut(&id) else {
            return;
        };
        let Some(leader) = group.primary.observed.lineage.clone() else {
            return;
        };
        let Some(replica) = group.replicas.get_mut(at) else {
            return;
        };
        let Some(own) = replica.observed.lineage.clone() else {
            return;
        };
        let told = Some((own.replid.clone(), own.offset));
        if replica.told_loss == told {
            return;
        }
        replica.told_loss = told;
        let keys = replica.observed.keys;
        match bytes_lost(&own, &leader) {
            Some(0) => {}
            Some(bytes) => {
                self.tell_server_with(
                    id,
                    at,
                    Kind::PlusDiverged,
                    format_args!("{bytes} discarded"),
                );
                self.log(
                    Level::Warning,
                    format!(
                        "{at} holds {bytes} bytes of writes that the primary never had; they are lost with its resync"
                    ),
                );
            }
            None if keys > 0 => {
                self.tell_server_with(id, at, Kind::PlusDiverged, "unknown discarded");
                self.log(
                    Level::Warning,
                    format!("{at} holds {keys} keys of an unrelated history; they are lost with its resync"),
                );
            }
            None => {}
        }
    }
}
