//! When a sentinel stands for election: the primary is down for the quorum, and nothing keeps us.
//!
//! - Candidates wait for a short random time so that they do not split the votes: up to 20 ms where all sentinels
//!   are ours, up to 100 ms (the length of Redis' tick) otherwise. A sentinel by itself does not wait.
//! - Where all are ours, a vote for somebody else keeps us back for the election time-out only. With a foreign one known,
//!   Redis' twice the failover time-out holds.
//! - Who was cut off from the majority does not stand in the moment the cut ends: what it believes of the primary is from
//!   the time of the cut, and its connection to it comes back later than those to willing voters.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use crate::sentinel::due::Key;
use crate::sentinel::election::needed;
use crate::sentinel::io::Output;
use crate::sentinel::links::server_links;
use crate::sentinel::machine::Sentinel;
use crate::sentinel::model::{Group, GroupId, Link, LinkId};

/// How long a candidate waits at most before it stands, where all are ours.
const STAND_OURS: Duration = Duration::from_millis(20);
/// And with a foreign one: the length of Redis' tick.
const STAND_FOREIGN: Duration = Duration::from_millis(100);
/// Ping periods for which a majority must have been reachable before we stand.
const MAJORITY_PERIODS: u32 = 2;
/// Before another attempt where no replica was good enough and all are ours; doubles.
pub(super) const NO_REPLICA_AGAIN: Duration = Duration::from_secs(1);

impl Sentinel {
    /// Notes since when a majority can be reached; when it comes back, the servers are tried again at once.
    pub(super) fn watch_majority(&mut self, id: GroupId) {
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
    pub(super) fn start_if_due(&mut self, id: GroupId) -> Option<Instant> {
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
}

/// Sentinels of a group that can be reached, ourselves included.
fn reachable(links: &BTreeMap<LinkId, Link>, group: &Group) -> usize {
    let peers = group.peers.values();
    1 + peers
        .filter(|peer| links.get(&peer.link).is_some_and(Link::is_up))
        .count()
}
