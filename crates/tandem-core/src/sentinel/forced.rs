//! The election of a failover that an operator asked for.
//!
//! Redis holds none: SENTINEL FAILOVER takes the next number on its own authority. So do two sentinels that are asked at
//! the same time, or one that has not heard of the last election, and two configurations of one number never become one.
//! Here votes are asked for as in any election; voters give theirs, real ones too, without finding the primary down. A
//! majority is enough, the quorum is not asked.
//!
//! - Who finds the number taken, or is refused by those within reach, waits a short random time and tries the next one,
//!   for a second in all. A majority within reach that gives no vote knows something (it promotes somebody itself, follows
//!   another primary, cannot write its vote down, or is late with the answer), and nothing is done against it.
//! - Where no majority is within reach for that second, the operator's word counts, as in Redis. Then a late
//!   answer that tells of somebody else's election of the same number still ends it, until the promotion leaves.
//! - A number that is not on our own disk is nobody's: after a restart it would be used again.
//!
//! What is left: without a majority two operators on two sides of a cut can use one number. Tandem sentinels agree
//! on one of the two when the cut heals (hello.rs); real ones do not.

use std::time::{Duration, Instant};

use crate::sentinel::ids::SentinelId;
use crate::sentinel::machine::Sentinel;
use crate::sentinel::model::{Failover, Group, GroupId, Link};

/// For how long votes are waited for, further numbers included.
const WAIT: Duration = Duration::from_secs(1);
/// Before another number is tried: long enough for whoever has this one to be done, and seldom equal for two.
const AGAIN: (Duration, Duration) = (Duration::from_millis(20), Duration::from_millis(100));

/// How such an election stands.
pub(super) enum Forced {
    /// Go on.
    Elected,
    /// The number is somebody else's: another one was taken.
    Again,
    /// It is not over by this time.
    Wait(Instant),
    /// Others were always faster, or did not vote.
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
        let again_at = failover.again_at;
        let count = self.count(group, failover, majority(group));
        if count.won {
            return Forced::Elected;
        }
        let over = now >= deadline;
        let within_reach = self.within_reach(group) >= majority(group);
        let refused = count.lost && within_reach;
        if self.superseded(group, failover) || taken(group, failover, &self.id) || refused {
            if over {
                return Forced::Lost;
            }
            return match again_at {
                Some(at) if now >= at => {
                    self.adopt_newest(id);
                    self.begin(id, true);
                    Forced::Again
                }
                Some(at) => Forced::Wait(at.min(deadline)),
                None => {
                    let at = now + self.random.between(AGAIN.0, AGAIN.1);
                    if let Some(failover) = self.failover_mut(id) {
                        failover.again_at = Some(at);
                    }
                    Forced::Wait(at.min(deadline))
                }
            };
        }
        if !over {
            return Forced::Wait(deadline);
        }
        if within_reach || !self.saver.holds(group.vote_saved) {
            return Forced::Lost;
        }
        if let Some(failover) = self.failover_mut(id) {
            failover.by_word = true;
        }
        Forced::Elected
    }

    /// Sentinels that could have answered, ourselves included. Connections to a frozen one stand for a while: those found
    /// down are not within reach.
    fn within_reach(&self, group: &Group) -> usize {
        let peers = group.peers.values();
        1 + peers
            .filter(|peer| {
                peer.down.subjective.is_none()
                    && self.links.get(&peer.link).is_some_and(Link::is_up)
            })
            .count()
    }

    /// Takes over the newest number that a voter told of.
    fn adopt_newest(&mut self, id: GroupId) {
        let newest = self.groups.get(&id).and_then(|group| {
            let votes = group.peers.values().filter_map(|peer| peer.vote.as_ref());
            votes.map(|(_, epoch)| *epoch).max()
        });
        if let Some(newest) = newest.filter(|newest| *newest > self.current_epoch) {
            self.adopt_epoch(id, newest);
        }
    }
}

fn majority(group: &Group) -> usize {
    group.voters() / 2 + 1
}

/// Somebody voted for another one in this election.
pub(super) fn taken(group: &Group, failover: &Failover, own: &SentinelId) -> bool {
    group.peers.values().any(|peer| {
        peer.vote
            .as_ref()
            .is_some_and(|(leader, epoch)| *epoch == failover.epoch && leader != own)
    })
}
