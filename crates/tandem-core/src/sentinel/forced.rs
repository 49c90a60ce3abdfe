//! The election of a failover that an operator asked for.
//!
//! Redis holds none: SENTINEL FAILOVER takes the next number on its own authority. So do two sentinels that are asked at
//! the same time, or one that has not heard of the last election, and two configurations of one number never become one.
//! Here votes are asked for as in any election; voters give theirs, real ones too, without finding the primary down. A
//! majority is enough, the quorum is not asked. Who finds the number taken tries the next. Where no majority can be
//! reached the operator's word counts, as in Redis.

use std::time::{Duration, Instant};

use crate::sentinel::election::{needed, superseded};
use crate::sentinel::ids::ElectionEpoch;
use crate::sentinel::machine::Sentinel;
use crate::sentinel::model::{Failover, Group, GroupId};

/// For how long votes are waited for, further numbers included.
const WAIT: Duration = Duration::from_secs(1);

/// How such an election stands.
pub(super) enum Forced {
    /// Go on.
    Elected,
    /// The number is somebody else's: another one was taken.
    Again,
    /// It is not over by this time.
    Wait(Instant),
    /// Others were always faster.
    Lost,
}

impl Sentinel {
    /// When a failover on request goes on without the votes that did not come; kept when another number is tried.
    pub(super) fn forced_deadline(&self, group: &Group) -> Instant {
        let first = group.failover.as_ref().filter(|failover| failover.forced);
        first
            .and_then(|failover| failover.act_at)
            .unwrap_or(self.now + WAIT)
    }

    /// Looks at the votes of a failover on request.
    pub(super) fn forced_election(&mut self, id: GroupId) -> Forced {
        let now = self.now;
        let Some((group, failover)) = self.with_failover(id) else {
            return Forced::Lost;
        };
        let deadline = failover.act_at.unwrap_or(now);
        let count = self.count(group, failover, needed_of_all(group));
        if count.won {
            return Forced::Elected;
        }
        if superseded(group, failover) || taken(group, failover, &self.id) {
            if now >= deadline {
                return Forced::Lost;
            }
            let newest = group
                .peers
                .values()
                .filter_map(|peer| peer.vote.as_ref().map(|(_, epoch)| *epoch))
                .max()
                .unwrap_or(ElectionEpoch(0));
            if newest > self.current_epoch {
                self.adopt_epoch(id, newest);
            }
            self.begin(id, true);
            return Forced::Again;
        }
        if count.lost || now >= deadline {
            return Forced::Elected;
        }
        Forced::Wait(deadline)
    }
}

/// A majority of all known sentinels.
fn needed_of_all(group: &Group) -> usize {
    needed(group).min(group.voters() / 2 + 1)
}

/// Somebody voted for another one in this election.
fn taken(group: &Group, failover: &Failover, own: &crate::sentinel::ids::SentinelId) -> bool {
    group.peers.values().any(|peer| {
        peer.vote
            .as_ref()
            .is_some_and(|(leader, epoch)| *epoch == failover.epoch && leader != own)
    })
}
