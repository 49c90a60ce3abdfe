//! The election: who has which votes, and what decides it.
//!
//! Where all are ours, one that cannot be won any more ends at once; with a foreign sentinel known, Redis' time-out holds.
//! Votes that were split are such a case once those who have not answered had their time: a host that is lost takes
//! the primary and a voter with it, and the connection to that voter stands for a while.

use std::time::Duration;

use crate::sentinel::events::Kind;
use crate::sentinel::failover::{Abort, Next, SIMULATED_FAILURE};
use crate::sentinel::forced::{Forced, taken};
use crate::sentinel::ids::ConfigEpoch;
use crate::sentinel::io::Output;
use crate::sentinel::machine::Sentinel;
use crate::sentinel::model::{Failover, Group, GroupId, Stage};

/// When somebody else has votes too, nobody's answer is waited for any longer. A vote takes one write to a disk.
const SPLIT_WAIT: Duration = Duration::from_millis(150);

impl Sentinel {
    pub(super) fn advance_election(&mut self, id: GroupId) -> Next {
        let now = self.now;
        let Some((group, failover)) = self.with_failover(id) else {
            return Next::Wait(None);
        };
        let elected = if failover.forced {
            match self.forced_election(id) {
                Forced::Elected => true,
                Forced::Again => return Next::Again,
                Forced::Wait(until) => return Next::Wait(Some(until)),
                Forced::Lost => {
                    self.abort(id, Abort::NotElected);
                    return Next::Wait(None);
                }
            }
        } else {
            self.count(group, failover, needed(group)).won
        };
        if elected {
            self.tell_primary(id, Kind::PlusElectedLeader);
            if self.simulate.after_election {
                self.out.push(Output::Exit {
                    code: SIMULATED_FAILURE,
                });
                return Next::Wait(None);
            }
            self.enter(id, Stage::Selecting);
            self.tell_primary(id, Kind::PlusFailoverStateSelectSlave);
            self.ask_replicas(id);
            self.ask_primary(id);
            return Next::Again;
        }
        let Some((group, failover)) = self.with_failover(id) else {
            return Next::Wait(None);
        };
        let limit = self
            .periods
            .election_timeout
            .min(group.settings.failover_timeout);
        let end = failover.stage_since + limit;
        let lost = self.superseded(group, failover)
            || group.all_ours() && self.count(group, failover, needed(group)).lost;
        if lost || now >= end {
            self.abort(id, Abort::NotElected);
            return Next::Wait(None);
        }
        let split_at = failover.asked_at + SPLIT_WAIT;
        let splits = group.all_ours() && now < split_at && taken(group, failover, &self.id);
        Next::Wait(Some(if splits { end.min(split_at) } else { end }))
    }

    /// A newer election of this group, or its outcome, is known; where no majority voted, also one of the same number.
    pub(super) fn superseded(&self, group: &Group, failover: &Failover) -> bool {
        let voted = group.leader_epoch > failover.epoch;
        let won = group.config_epoch >= ConfigEpoch::won(failover.epoch);
        let seen = group.peers.values().any(|peer| {
            peer.vote
                .as_ref()
                .is_some_and(|(_, epoch)| *epoch > failover.epoch)
        });
        let rivalled = failover.by_word && taken(group, failover, &self.id);
        voted || won || seen || rivalled
    }

    /// How our election stands.
    pub(super) fn count(&self, group: &Group, failover: &Failover, needed: usize) -> Count {
        let epoch = failover.epoch;
        let own = group.leader.as_ref() == Some(&self.id)
            && group.leader_epoch == epoch
            && self.saver.holds(group.vote_saved);
        let own_open = !own && group.leader_epoch == epoch && !self.saver.is_failing();
        let split = taken(group, failover, &self.id) && self.now >= failover.asked_at + SPLIT_WAIT;
        let mut votes = usize::from(own);
        let mut open = usize::from(own_open);
        for peer in group.peers.values() {
            match &peer.vote {
                Some((leader, voted)) if *voted == epoch => {
                    votes += usize::from(*leader == self.id);
                }
                // It voted in a later election already, so not in ours any more.
                Some((_, voted)) if *voted > epoch => {}
                Some(_) | None => {
                    let link = self.links.get(&peer.link).filter(|link| link.is_up());
                    let owes = link.is_some_and(|link| link.owes_opinion(group.id));
                    let answered =
                        !owes && peer.opinion_at.is_some_and(|told| told > failover.asked_at);
                    open += usize::from(link.is_some() && !answered && !split);
                }
            }
        }
        Count {
            // A number that is not on our own disk would be used again after a restart.
            won: own && votes >= needed,
            lost: votes + open < needed || !own && !own_open,
        }
    }
}

/// See [`Sentinel::count`].
pub(super) struct Count {
    pub(super) won: bool,
    pub(super) lost: bool,
}

/// Votes that make a leader: a majority of all known sentinels, and the quorum.
pub(super) fn needed(group: &Group) -> usize {
    (group.voters() / 2 + 1).max(group.settings.quorum as usize)
}
