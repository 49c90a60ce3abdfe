//! Forgetting replicas and sentinels that are gone for good, which Redis does only on RESET.
//!
//! A replica: down for [`REPLICA_AGE`] and not listed by its primary in that time, while the primary is well. The bound is
//! long because a former primary that returns after it was forgotten is nobody's to demote.
//!
//! A sentinel: no hello for this group for [`PEER_AGE`], while every known sentinel is ours (a foreign one would go on
//! counting it, and there would be two majorities) and while those heard lately are a majority of all known, the silent ones
//! included. So only the larger side of a cut forgets, and what the smaller side still counts never adds up to a
//! majority there.

use std::time::{Duration, Instant};

use crate::sentinel::due::earlier;
use crate::sentinel::events::Kind;
use crate::sentinel::ids::{Endpoint, SentinelId};
use crate::sentinel::machine::Sentinel;
use crate::sentinel::model::{Group, GroupId, ReportedRole};

/// For how long a replica must be gone.
pub const REPLICA_AGE: Duration = Duration::from_secs(24 * 3600);
/// For how long a sentinel must be gone.
pub const PEER_AGE: Duration = Duration::from_secs(3600);
/// A sentinel heard of within this many publish periods is there.
const HEARD_PERIODS: u32 = 5;

impl Sentinel {
    /// Forgets what has been gone for long enough.
    ///
    /// # Returns
    /// When the next one will have been.
    pub(super) fn forget_the_gone(&mut self, id: GroupId) -> Option<Instant> {
        let now = self.now;
        let group = self.groups.get(&id)?;
        let mut next = None;
        if group.failover.is_some() {
            return None;
        }
        let mut gone: Vec<Endpoint> = Vec::new();
        for replica in group.replicas.values() {
            if replica.down.subjective.is_none() {
                continue;
            }
            let at = replica.last_seen + REPLICA_AGE;
            if at > now {
                next = earlier(next, Some(at));
            } else if primary_is_well(group) {
                gone.push(replica.at.clone());
            }
        }
        let silent = self.silent_peers(group);
        for at in gone {
            self.tell_replica(id, &at, Kind::MinusSlaveForgotten);
            self.remove_replica(id, &at);
            self.save_soon();
        }
        let group = self.groups.get(&id)?;
        if group.all_ours() {
            let ages = group.peers.values().map(|peer| peer.last_seen + PEER_AGE);
            next = earlier(next, ages.filter(|at| *at > now).min());
        }
        for peer in silent {
            self.tell_peer(id, &peer, Kind::MinusSentinelForgotten);
            self.remove_peer(id, &peer);
            self.save_soon();
        }
        next
    }

    fn silent_peers(&self, group: &Group) -> Vec<SentinelId> {
        let now = self.now;
        if !group.all_ours() {
            return Vec::new();
        }
        let lately = self.periods.publish * HEARD_PERIODS;
        let heard = 1 + group
            .peers
            .values()
            .filter(|peer| now.saturating_duration_since(peer.last_seen) < lately)
            .count();
        if heard <= group.voters() / 2 {
            return Vec::new();
        }
        group
            .peers
            .values()
            .filter(|peer| now.saturating_duration_since(peer.last_seen) >= PEER_AGE)
            .map(|peer| peer.id.clone())
            .collect()
    }
}

fn primary_is_well(group: &Group) -> bool {
    group.primary.down.subjective.is_none() && group.primary.observed.role == ReportedRole::Primary
}
