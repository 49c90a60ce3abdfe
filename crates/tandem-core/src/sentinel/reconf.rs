//! Pointing the other replicas to the new primary, behind the switch.
//!
//! Redis' pace and events (`sentinel.c`): `parallel-syncs` at a time, `+slave-reconf-sent`, `-inprog`, `-done`, a time-out
//! for each and one for all. The old primary is no part of it: it is brought back by repair.rs when it returns.

use std::time::Instant;

use crate::sentinel::due::earlier;
use crate::sentinel::events::Kind;
use crate::sentinel::ids::Endpoint;
use crate::sentinel::machine::Sentinel;
use crate::sentinel::model::{GroupId, Link, Reconf};
use crate::sentinel::steps::Purpose;

impl Sentinel {
    /// Tells as many replicas as may be told at the same time.
    ///
    /// # Returns
    /// When a time-out is due.
    pub(super) fn advance_reconf(&mut self, id: GroupId) -> Option<Instant> {
        let now = self.now;
        self.time_out_reconf(id);
        let (group, failover) = self.with_failover(id)?;
        let primary = group.primary.at.clone();
        let end = failover.stage_since + group.settings.failover_timeout;
        let waits = |at: &Endpoint| failover.old.as_ref() != Some(at);
        let open: Vec<_> = group
            .replicas
            .values()
            .filter(|replica| waits(&replica.at) && replica.reconf != Some(Reconf::Done))
            .filter(|replica| replica.down.subjective.is_none())
            .collect();
        // A primary that is down again needs the next failover, not the end of this one.
        if open.is_empty() || group.primary.down.subjective.is_some() {
            self.tell_primary(id, Kind::PlusFailoverEnd);
            self.end_failover(id);
            return None;
        }
        if now >= end {
            let late: Vec<Endpoint> = open
                .iter()
                .filter(|replica| replica.reconf.is_none())
                .map(|replica| replica.at.clone())
                .collect();
            self.tell_primary(id, Kind::PlusFailoverEndForTimeout);
            self.tell_primary(id, Kind::PlusFailoverEnd);
            for at in late {
                if self.change_role(id, &at, Purpose::Follow(primary.clone())) {
                    self.tell_replica(id, &at, Kind::PlusSlaveReconfSentBe);
                }
            }
            self.end_failover(id);
            return None;
        }
        let parallel = group.settings.parallel_syncs as usize;
        let busy = open
            .iter()
            .filter(|replica| replica.reconf.is_some())
            .count();
        let tell: Vec<Endpoint> = open
            .iter()
            .filter(|replica| {
                replica.reconf.is_none() && self.links.get(&replica.link).is_some_and(Link::is_up)
            })
            .take(parallel.saturating_sub(busy))
            .map(|replica| replica.at.clone())
            .collect();
        for at in tell {
            if !self.change_role(id, &at, Purpose::Follow(primary.clone())) {
                continue;
            }
            if let Some(replica) = self
                .groups
                .get_mut(&id)
                .and_then(|group| group.replicas.get_mut(&at))
            {
                replica.reconf = Some(Reconf::Sent(now));
            }
            self.tell_replica(id, &at, Kind::PlusSlaveReconfSent);
        }
        let limit = self.periods.slave_reconf_timeout;
        let group = self.groups.get(&id)?;
        let next = group
            .replicas
            .values()
            .filter_map(|replica| match replica.reconf {
                Some(Reconf::Sent(at)) => Some(at + limit),
                Some(Reconf::InProgress | Reconf::Done) | None => None,
            })
            .min();
        earlier(next, Some(end))
    }

    fn end_failover(&mut self, id: GroupId) {
        if let Some(group) = self.groups.get_mut(&id) {
            group.failover = None;
            for replica in group.replicas.values_mut() {
                replica.reconf = None;
            }
        }
        self.mark(id);
    }

    /// Replicas that were told and do not say so: done with, as far as this failover goes.
    fn time_out_reconf(&mut self, id: GroupId) {
        let now = self.now;
        let limit = self.periods.slave_reconf_timeout;
        let Some(group) = self.groups.get_mut(&id) else {
            return;
        };
        let mut late = Vec::new();
        for replica in group.replicas.values_mut() {
            if let Some(Reconf::Sent(at)) = replica.reconf
                && now >= at + limit
            {
                replica.reconf = Some(Reconf::Done);
                late.push(replica.at.clone());
            }
        }
        for at in late {
            self.tell_replica(id, &at, Kind::MinusSlaveReconfSentTimeout);
        }
    }

    /// What a replica's INFO says about its way to the new primary.
    pub(super) fn reconf_seen(&mut self, id: GroupId, at: &Endpoint) {
        let Some(group) = self.groups.get(&id) else {
            return;
        };
        let Some(replica) = group.replicas.get(at) else {
            return;
        };
        let follows = replica
            .follows
            .as_ref()
            .is_some_and(|follows| self.is_at(follows, &group.primary.at));
        let linked = replica.link_up;
        let before = replica.reconf;
        let mut told = Vec::new();
        let mut reconf = before;
        if matches!(reconf, Some(Reconf::Sent(_))) && follows {
            reconf = Some(Reconf::InProgress);
            told.push(Kind::PlusSlaveReconfInprog);
        }
        if reconf == Some(Reconf::InProgress) && follows && linked {
            reconf = Some(Reconf::Done);
            told.push(Kind::PlusSlaveReconfDone);
        }
        if reconf == before {
            return;
        }
        if let Some(replica) = self
            .groups
            .get_mut(&id)
            .and_then(|group| group.replicas.get_mut(at))
        {
            replica.reconf = reconf;
        }
        for kind in told {
            self.tell_replica(id, at, kind);
        }
    }
}
