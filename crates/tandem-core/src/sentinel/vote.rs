//! Votes: asking for them, giving them, and keeping them.
//!
//! A vote is a promise: at most one per group and election (`sentinel.c`). It is in the file before the answer that
//! tells it leaves, and when it cannot be written it is not told: the answer is `*` then, as from a sentinel that has not
//! voted. In memory it stays given, so that nobody else gets it either.
//!
//! Beyond Redis: a sentinel that is itself past the selection in a failover of the group votes for nobody until that
//! ended, because two promotions would follow each other; and an election more than 2^32 ahead of ours is refused
//! like such a hello is.

use std::time::{Duration, Instant};

use tandem_resp::Value;

use crate::sentinel::due::earlier;
use crate::sentinel::events::Kind;
use crate::sentinel::hello::EPOCH_LEAP_MAX;
use crate::sentinel::ids::{ElectionEpoch, Endpoint, SentinelId};
use crate::sentinel::io::{Output, RequestId, SaveVersion};
use crate::sentinel::machine::Sentinel;
use crate::sentinel::model::{Expect, Group, GroupId, PeerKind, Stage};

/// Random part of the time for which a vote keeps us from standing ourselves (Redis).
const DESYNC_MAX: Duration = Duration::from_secs(1);
/// While the quorum is not reached yet, our own sentinels are asked this often: they find it down at nearly the
/// same moment.
const ASK_FAST: Duration = Duration::from_millis(50);
/// For how long after our own finding they are asked so often.
const ASK_FAST_FOR: Duration = Duration::from_secs(2);
/// Answers held back for the disk at the same time; beyond it the oldest is answered without its vote.
const HELD_MAX: usize = 1_024;

/// An answer that tells a vote and waits until that vote is durable.
#[derive(Debug)]
pub(super) struct Held {
    request: RequestId,
    version: SaveVersion,
    down: bool,
    leader: SentinelId,
    epoch: ElectionEpoch,
}

/// Asking.
impl Sentinel {
    /// Asks the other sentinels what they think of the primary, and for their vote while we stand.
    ///
    /// Without `at_once`, only those whose last answer is an ask period old.
    ///
    /// # Returns
    /// When the next one is due.
    pub(super) fn ask_peers(&mut self, id: GroupId, at_once: bool) -> Option<Instant> {
        let now = self.now;
        let ask = self.periods.ask;
        let group = self.groups.get(&id)?;
        // A failover on request asks for votes, whatever we think of the primary.
        let electing = group
            .failover
            .as_ref()
            .is_some_and(|failover| failover.forced && failover.stage == Stage::Electing);
        let down_since = match group.primary.down.subjective {
            Some(since) => since,
            None if electing => now,
            None => return None,
        };
        let candidate = match &group.failover {
            Some(_) => self.id.as_str(),
            None => "*",
        };
        let hurry = group.primary.down.objective.is_none()
            && now.saturating_duration_since(down_since) < ASK_FAST_FOR;
        let at = self.announce().endpoint(&group.primary.at);
        let words = [
            "SENTINEL",
            "is-master-down-by-addr",
            &at.host,
            &at.port.to_string(),
            &self.current_epoch.to_string(),
            candidate,
        ]
        .map(|word| word.as_bytes().to_vec());

        let mut next = None;
        let mut due = Vec::new();
        for peer in group.peers.values() {
            if !self.links.get(&peer.link).is_some_and(|link| link.is_up()) {
                continue;
            }
            let pause = if hurry && peer.kind == PeerKind::Tandem {
                ASK_FAST.min(ask)
            } else {
                ask
            };
            let ready = peer.asked_at.map_or(now, |asked| {
                Some(asked).max(peer.opinion_at).unwrap_or(asked) + pause
            });
            if at_once || ready <= now {
                due.push((peer.id.clone(), peer.link));
                next = earlier(next, Some(now + pause));
            } else {
                next = earlier(next, Some(ready));
            }
        }
        for (peer, link) in due {
            if self.may_send(link)
                && self.send(link, words.to_vec(), Expect::Opinion(id))
                && let Some(peer) = self
                    .groups
                    .get_mut(&id)
                    .and_then(|group| group.peers.get_mut(&peer))
            {
                peer.asked_at = Some(now);
            }
        }
        next
    }
}

/// Giving.
impl Sentinel {
    /// Answers `IS-MASTER-DOWN-BY-ADDR`: what we think, and, for a candidate, whom we voted for.
    pub(super) fn opinion_asked(
        &mut self,
        request: RequestId,
        at: &Endpoint,
        epoch: ElectionEpoch,
        candidate: Option<&SentinelId>,
    ) {
        // Nearly always it is spelled as we have it; names are looked through only where it is not.
        let found = self
            .groups
            .values()
            .find(|group| group.primary.at == *at)
            .or_else(|| {
                let mut groups = self.groups.values();
                groups.find(|group| self.is_at(&group.primary.at, at))
            })
            .map(|group| (group.id, group.primary.down.subjective.is_some()));
        let Some((id, down)) = found else {
            self.answer_opinion(request, false, None, ElectionEpoch(0));
            return;
        };
        // In doubt, which a stall leaves us in, a primary is not down.
        let down = down && self.stalled.is_none();
        if down {
            // Who asks finds it down as well: its opinion may have changed since we asked.
            self.hear_asker(id);
        }
        let Some(candidate) = candidate else {
            self.answer_opinion(request, down, None, ElectionEpoch(0));
            return;
        };
        self.vote(id, epoch, candidate);
        let Some(group) = self.groups.get(&id) else {
            return;
        };
        let epoch = group.leader_epoch;
        match group.leader.clone() {
            Some(leader) if !self.saver.holds(group.vote_saved) => {
                let version = self.save();
                self.hold(Held {
                    request,
                    version,
                    down,
                    leader,
                    epoch,
                });
            }
            leader => self.answer_opinion(request, down, leader.as_ref(), epoch),
        }
    }

    /// Redis' rule, and the exceptions of this module.
    pub(super) fn vote(&mut self, id: GroupId, epoch: ElectionEpoch, candidate: &SentinelId) {
        if epoch.0.saturating_sub(self.current_epoch.0) > EPOCH_LEAP_MAX {
            self.tell_primary_with(
                id,
                Kind::MinusHelloRefused,
                format_args!("its epoch is from the far future: a vote is asked for {epoch}"),
            );
            return;
        }
        if epoch > self.current_epoch {
            self.adopt_epoch(id, epoch);
            self.save_soon();
        }
        if self.may_have_voted() {
            return;
        }
        let own = *candidate == self.id;
        let Some(group) = self.groups.get(&id) else {
            return;
        };
        if group.leader_epoch >= epoch || self.current_epoch > epoch || (!own && promoting(group)) {
            return;
        }
        let version = self.save();
        let blocked = self.random.between(Duration::ZERO, DESYNC_MAX);
        let now = self.now;
        let current = self.current_epoch;
        let pause = self.pause_after_vote(id);
        let Some(group) = self.groups.get_mut(&id) else {
            return;
        };
        group.leader = Some(candidate.clone());
        group.leader_epoch = current;
        group.vote_saved = version;
        if !own {
            group.failover_started = Some(now + blocked);
            group.retry_at = group.retry_at.max(Some(now + blocked + pause));
        }
        self.tell_of(
            id,
            Kind::PlusVoteForLeader,
            format_args!("{candidate} {current}"),
        );
        self.mark(id);
    }

    /// A sentinel that began without a file in a fleet that has had elections may have taken part in them under another name.
    /// It promises nothing until it has heard from everybody who can be heard, or it would give two votes in one election.
    /// Hellos come every publish period, and one may be missed.
    fn may_have_voted(&self) -> bool {
        self.blank && self.history && self.now < self.began + 2 * self.periods.publish
    }

    /// Takes over a newer election's number.
    pub(super) fn adopt_epoch(&mut self, id: GroupId, epoch: ElectionEpoch) {
        self.current_epoch = epoch;
        self.tell_of(id, Kind::PlusNewEpoch, epoch);
    }

    /// Somebody who finds the primary down asked: those who had not found it down yet are asked again.
    fn hear_asker(&mut self, id: GroupId) {
        let now = self.now;
        let Some(group) = self.groups.get_mut(&id) else {
            return;
        };
        if group.primary.down.objective.is_some() {
            return;
        }
        let mut again = false;
        for peer in group.peers.values_mut() {
            let fresh = peer.asked_at.is_some_and(|asked| {
                now.saturating_duration_since(asked) < Duration::from_millis(5)
            });
            if !peer.primary_down && !fresh {
                // Due now, whatever the period says.
                peer.asked_at = None;
                again = true;
            }
        }
        if again {
            self.mark(id);
        }
    }

    fn answer_opinion(
        &mut self,
        request: RequestId,
        down: bool,
        leader: Option<&SentinelId>,
        epoch: ElectionEpoch,
    ) {
        let leader = leader.map_or("*", SentinelId::as_str);
        let value = Value::Array(vec![
            Value::Integer(i64::from(down)),
            Value::Bulk(leader.as_bytes().to_vec()),
            Value::Integer(i64::try_from(epoch.0).unwrap_or(i64::MAX)),
        ]);
        self.out.push(Output::Answer { request, value });
    }
}

/// Keeping.
impl Sentinel {
    fn hold(&mut self, held: Held) {
        if self.held.len() >= HELD_MAX {
            let oldest = self.held.remove(0);
            self.answer_opinion(oldest.request, oldest.down, None, oldest.epoch);
        }
        self.held.push(held);
    }

    /// The state of this version is on disk, or could not be written: answers that waited for it leave.
    pub(super) fn release_held(&mut self, version: SaveVersion) {
        let (ready, waiting) = std::mem::take(&mut self.held)
            .into_iter()
            .partition(|held: &Held| held.version <= version);
        self.held = waiting;
        for held in ready {
            let durable = self.saver.holds(held.version);
            let leader = durable.then_some(&held.leader);
            self.answer_opinion(held.request, held.down, leader, held.epoch);
        }
    }
}

/// Past the selection: a promotion is under way or about to be.
fn promoting(group: &Group) -> bool {
    group
        .failover
        .as_ref()
        .is_some_and(|failover| matches!(failover.stage, Stage::Promoting | Stage::Confirming))
}
