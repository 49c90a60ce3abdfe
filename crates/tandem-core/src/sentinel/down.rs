//! Down, subjectively (by our own finding) and objectively (by the quorum's).
//!
//! The conditions are Redis' (`sentinel.c`), with proof beside silence (evidence.rs). Each link says when its
//! silence will have lasted long enough, so that nothing has to be looked at before.

use std::time::{Duration, Instant};

use crate::sentinel::due::{Key, earlier};
use crate::sentinel::events::Kind;
use crate::sentinel::ids::{Endpoint, SentinelId};
use crate::sentinel::machine::Sentinel;
use crate::sentinel::model::{Group, GroupId, Link, LinkId, Owner, ReportedRole};

/// An opinion older than this many ask periods is forgotten (Redis).
const OPINION_PERIODS: u32 = 5;

impl Sentinel {
    /// Whether anything that a link leads to is down in any group.
    pub(super) fn any_down(&self, id: LinkId) -> bool {
        let group = |id: &GroupId| self.groups.get(id);
        match self.links.get(&id).map(|link| &link.owner) {
            Some(Owner::Primary(id)) => {
                group(id).is_some_and(|group| group.primary.down.subjective.is_some())
            }
            Some(Owner::Replica(id, at)) => group(id)
                .and_then(|group| group.replicas.get(at))
                .is_some_and(|replica| replica.down.subjective.is_some()),
            Some(Owner::Peer(peer, groups)) => groups
                .iter()
                .filter_map(group)
                .filter_map(|group| group.peers.get(peer))
                .any(|peer| peer.down.subjective.is_some()),
            None => false,
        }
    }

    /// Finds out whether what a link leads to is down.
    ///
    /// # Returns
    /// When that may change by time alone.
    pub(super) fn check_link_down(&mut self, id: LinkId) -> Option<Instant> {
        let link = self.links.get(&id)?;
        let silent_since = link.silent_since();
        match link.owner.clone() {
            Owner::Primary(group) => self.check_primary_down(group),
            Owner::Replica(group, at) => self.check_replica_down(group, &at, silent_since),
            Owner::Peer(peer, groups) => {
                let mut next = None;
                for group in groups {
                    next = earlier(next, self.check_peer_down(group, &peer, silent_since));
                }
                next
            }
        }
    }

    fn check_primary_down(&mut self, id: GroupId) -> Option<Instant> {
        let now = self.now;
        let info = self.periods.info;
        let group = self.groups.get_mut(&id)?;
        let link = self.links.get(&group.primary.link)?;
        let at = primary_down_at(group, link, info);
        let down = at.is_some_and(|at| at <= now);
        let was = group.primary.down.subjective.is_some();
        if down && !was {
            group.primary.down.subjective = Some(now);
            self.tell_primary(id, Kind::PlusSdown);
            self.opinion_changed(id);
        } else if !down && was {
            group.primary.down.subjective = None;
            group.primary.script_kill_sent = false;
            self.tell_primary(id, Kind::MinusSdown);
            self.opinion_changed(id);
        }
        at.filter(|at| *at > now)
    }

    fn check_replica_down(
        &mut self,
        id: GroupId,
        at: &Endpoint,
        silent_since: Option<Instant>,
    ) -> Option<Instant> {
        let now = self.now;
        let group = self.groups.get_mut(&id)?;
        let deadline = silent_since.map(|since| since + group.settings.down_after);
        let replica = group.replicas.get_mut(at)?;
        let down = deadline.is_some_and(|at| at <= now);
        let was = replica.down.subjective.is_some();
        if down != was {
            if down {
                replica.down.subjective = Some(now);
                self.tell_replica(id, at, Kind::PlusSdown);
            } else {
                replica.down.subjective = None;
                replica.up_since = now;
                replica.script_kill_sent = false;
                self.tell_replica(id, at, Kind::MinusSdown);
            }
            self.mark(id);
        }
        deadline.filter(|at| *at > now)
    }

    fn check_peer_down(
        &mut self,
        id: GroupId,
        peer_id: &SentinelId,
        silent_since: Option<Instant>,
    ) -> Option<Instant> {
        let now = self.now;
        let group = self.groups.get_mut(&id)?;
        let deadline = silent_since.map(|since| since + group.settings.down_after);
        let peer = group.peers.get_mut(peer_id)?;
        let down = deadline.is_some_and(|at| at <= now);
        let was = peer.down.subjective.is_some();
        if down != was {
            peer.down.subjective = down.then_some(now);
            let kind = if down {
                Kind::PlusSdown
            } else {
                Kind::MinusSdown
            };
            self.tell_peer(id, peer_id, kind);
            self.mark(id);
        }
        deadline.filter(|at| *at > now)
    }

    /// Our own finding changed: everybody is asked at once, and the replicas are looked at.
    fn opinion_changed(&mut self, id: GroupId) {
        let down = self
            .groups
            .get(&id)
            .is_some_and(|group| group.primary.down.subjective.is_some());
        if down {
            self.ask_replicas(id);
            self.ask_peers(id, true);
        }
        self.mark(id);
    }

    /// Finds out whether the quorum agrees.
    ///
    /// # Returns
    /// When an opinion will be too old.
    pub(super) fn check_objective(&mut self, id: GroupId) -> Option<Instant> {
        let now = self.now;
        let valid = self.periods.ask * OPINION_PERIODS;
        let group = self.groups.get_mut(&id)?;
        let mut next = None;
        for peer in group.peers.values_mut() {
            let Some(told) = peer.opinion_at else {
                continue;
            };
            if told + valid <= now {
                peer.primary_down = false;
                peer.vote = None;
                peer.opinion_at = None;
            } else {
                next = earlier(next, Some(told + valid));
            }
        }
        let agree = 1 + group
            .peers
            .values()
            .filter(|peer| peer.primary_down)
            .count();
        let quorum = group.settings.quorum;
        let down = group.primary.down.subjective.is_some() && agree >= quorum as usize;
        let was = group.primary.down.objective.is_some();
        if down && !was {
            group.primary.down.objective = Some(now);
            group.agreed = agree;
            self.tell_primary_with(
                id,
                Kind::PlusOdown,
                format_args!("#quorum {agree}/{quorum}"),
            );
        } else if !down && was {
            group.primary.down.objective = None;
            self.tell_primary(id, Kind::MinusOdown);
        }
        next
    }

    /// Has a group look at its primary again, because what the finding rests on changed.
    pub(super) fn recheck_primary(&mut self, id: GroupId) {
        if let Some(next) = self.check_primary_down(id)
            && let Some(group) = self.groups.get(&id)
        {
            self.due.by(Key::Link(group.primary.link), next);
        }
    }
}

/// When a primary is down if nothing more is heard; a moment that has come means that it is.
fn primary_down_at(group: &Group, link: &Link, info: Duration) -> Option<Instant> {
    let settings = &group.settings;
    let primary = &group.primary;
    // Links outlive a change of primaries, a silence does not: else two sentinels that each cannot reach the other's choice
    // would depose one primary after the other as fast as elections go.
    let silent = link
        .silent_since()
        .map(|since| since.max(primary.since) + settings.down_after);
    let demoted = (primary.observed.role == ReportedRole::Replica)
        .then(|| primary.observed.role_since + settings.down_after + info * 2);
    let rebooted = primary
        .rebooted
        .filter(|_| !settings.reboot_down_after.is_zero())
        .map(|since| since + settings.reboot_down_after);
    let gone = primary.gone.filter(|_| group.all_ours());
    // In no fleet is a primary without its data better than a replica with it.
    let emptied = primary
        .data_gone
        .is_some()
        .then_some(primary.observed.info_at)
        .flatten();
    [silent, demoted, rebooted, gone, emptied]
        .into_iter()
        .flatten()
        .min()
}
