//! Another server is primary now: what is said, and what becomes of everything known.
//!
//! Redis forgets the group and builds it again from addresses (`sentinelResetMasterAndChangeAddress`), which costs
//! new connections and everything INFO told. Here the links and what is known of each server are kept; only what the
//! old roles meant is forgotten. What subscribers see is the same: `+switch-master`, then `+slave` for every replica, the
//! old primary the last of them.

use crate::sentinel::due::Key;
use crate::sentinel::events::{Kind, switch_text};
use crate::sentinel::ids::Endpoint;
use crate::sentinel::machine::Sentinel;
use crate::sentinel::model::{Down, GroupId, Observed, Owner, Primary, Replica, ReportedRole};

impl Sentinel {
    /// Makes `to` the group's primary and the primary so far its replica. Whatever failover was under way is over.
    pub(super) fn switch_primary(&mut self, id: GroupId, to: &Endpoint) {
        let now = self.now;
        let announce = self.announce();
        let Some(group) = self.groups.get(&id) else {
            return;
        };
        let from = group.primary.at.clone();
        let text = switch_text(group, &from, to, announce);
        self.tell_of(id, Kind::PlusSwitchMaster, text);

        let promoted = self
            .groups
            .get_mut(&id)
            .and_then(|group| group.replicas.remove(to));
        let (link, observed) = match promoted {
            Some(replica) => (replica.link, Some(replica.observed)),
            None => (self.add_link(Owner::Primary(id), to.clone()), None),
        };
        if let Some(link) = self.links.get_mut(&link) {
            link.owner = Owner::Primary(id);
        }
        let mut primary = Primary::new(to.clone(), link, now);
        if let Some(mut observed) = observed {
            if observed.role != ReportedRole::Primary {
                // Not seen as one yet; until then it is taken for what the configuration says.
                observed.role = ReportedRole::Primary;
                observed.role_since = now;
            }
            primary.observed = observed;
        }
        let Some(group) = self.groups.get_mut(&id) else {
            return;
        };
        let old = std::mem::replace(&mut group.primary, primary);
        let overtaken = group
            .failover
            .take()
            .is_some_and(|failover| failover.handover.is_some());
        group.failover_started = None;
        group.retry_at = None;
        group.stand_at = None;
        group.fruitless = 0;
        group.leader = None;
        group.deposed = None;
        for replica in group.replicas.values_mut() {
            replica.promoted = false;
            replica.reconf = None;
            replica.refused = None;
        }
        for peer in group.peers.values_mut() {
            peer.primary_down = false;
            peer.opinion_at = None;
        }
        let others: Vec<Endpoint> = group.replicas.keys().cloned().collect();

        let mut replica = Replica::new(from.clone(), old.link, now);
        replica.observed = Observed {
            lineage: old.observed.lineage,
            keys: old.observed.keys,
            ..Observed::new(ReportedRole::Replica, now)
        };
        replica.down = Down::default();
        group.replicas.insert(from.clone(), replica);
        if let Some(link) = self.links.get_mut(&old.link) {
            link.owner = Owner::Replica(id, from.clone());
        }
        // What was begun for the old arrangement ends without consequences; its answers find no step any more.
        self.steps.retain(|_, step| step.group != id);
        // A planned change of ours was overtaken: its pause must not outlast it.
        if overtaken {
            self.unpause(old.link);
        }
        for at in others.iter().chain([&from]) {
            self.tell_replica(id, at, Kind::PlusSlave);
        }
        self.due.set(Key::Link(link), now);
        self.due.set(Key::Link(old.link), now);
        self.ask_info_now(link);
        self.mark(id);
    }
}
