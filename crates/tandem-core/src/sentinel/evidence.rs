//! Evidence beyond silence: who says, and what proves, that a primary is gone.
//!
//! - A connection refused twice, 50 ms apart or more, by a server that was reachable before: its host is up and answers,
//!   and nobody listens. Once may be a listener that is being replaced.
//! - A word of the tandem daemon on its host, which is asked when the connection ends.
//! - Every replica that answers says that its link to the primary is down, while the primary is silent here as well.
//! - It came back without data that its replicas hold, or that it held itself.
//!
//! With a foreign sentinel in the group the first three never make it subjectively down any earlier: its vote could not
//! follow, and the fleet would disagree. A primary that lost its data is a failed one in any fleet.
//!
//! What no sentinel can prevent: a replica whose primary comes back empty reattaches by itself, within about a second
//! (plus the primary's `repl-diskless-sync-delay`, 5 s by default since Redis 7.0), and is then emptied too. Finding it at
//! once is a race that is mostly won while all sentinels are ours; what prevents it is persistence, a server that
//! starts as a replica of nothing, or a tandem daemon on the host.

use std::time::Duration;

use crate::sentinel::daemon::About;
use crate::sentinel::events::Kind;
use crate::sentinel::ids::Endpoint;
use crate::sentinel::io::{Output, Word};
use crate::sentinel::machine::Sentinel;
use crate::sentinel::model::{Group, GroupId, Lineage, Link, LinkId, Owner, Replica};

/// Two refusals that are closer together are one.
const REFUSALS_APART: Duration = Duration::from_millis(50);
/// A primary that is silent for this part of `down-after` is silent enough for its replicas' word to count.
const SILENT_PART: u32 = 4;
/// A restarted primary with fewer than this part of its keys lost its data. Expired keys are no loss, so not every
/// missing key is one.
const KEYS_PART: u64 = 2;

impl Sentinel {
    /// An attempt was refused: twice is proof.
    pub(super) fn refusal_seen(&mut self, id: LinkId) {
        let Some(link) = self.links.get(&id) else {
            return;
        };
        let proof = link.reached
            && link.refused >= 2
            && link
                .refused_since
                .is_some_and(|since| self.now.saturating_duration_since(since) >= REFUSALS_APART);
        if let (true, Owner::Primary(group)) = (proof, &link.owner) {
            self.primary_gone(*group, "connection refused twice");
        }
    }

    /// A connection stands: whatever was gone is back.
    pub(super) fn back_from_the_dead(&mut self, id: LinkId) {
        if let Some(link) = self.links.get(&id)
            && let Owner::Primary(group) = &link.owner
            && let Some(group) = self.groups.get_mut(group)
        {
            group.primary.gone = None;
        }
    }

    /// A host's daemon speaks of the server beside it.
    pub(super) fn witnessed(&mut self, server: &Endpoint, word: &Word) {
        self.tail_answered(server, word);
        if *word != Word::Dead {
            return;
        }
        // Whoever answers us again was started again since.
        let gone = |link| {
            self.links
                .get(&link)
                .is_some_and(|link: &Link| !link.is_up())
        };
        let groups: Vec<GroupId> = self
            .groups
            .values()
            .filter(|group| group.primary.at == *server && gone(group.primary.link))
            .map(|group| group.id)
            .collect();
        for id in groups {
            self.primary_gone(id, "its host says that it ended");
        }
    }

    /// The connection to a primary was closed, and not by us: its host's daemon knows whether the process is gone before
    /// two refusals prove it. Where that counts for nothing it is not asked.
    pub(super) fn ask_for_life(&mut self, id: LinkId) {
        let Some(Owner::Primary(group)) = self.links.get(&id).map(|link| &link.owner) else {
            return;
        };
        if let Some(group) = self.groups.get(group)
            && group.all_ours()
            && group.primary.gone.is_none()
        {
            let server = group.primary.at.clone();
            self.out.push(Output::AskDaemon {
                server,
                about: About::Life,
            });
        }
    }

    fn primary_gone(&mut self, id: GroupId, why: &str) {
        let now = self.now;
        let Some(group) = self.groups.get_mut(&id) else {
            return;
        };
        if group.primary.gone.is_some() {
            return;
        }
        group.primary.gone = Some(now);
        let at = group.primary.at.clone();
        self.tell_server_with(id, &at, Kind::PlusEvidence, why);
        self.mark(id);
    }

    /// Whether the replicas' word and our own silence together say that the primary is gone.
    pub(super) fn hear_replicas(&mut self, id: GroupId) {
        let now = self.now;
        let Some(group) = self.groups.get(&id) else {
            return;
        };
        let Some(link) = self.links.get(&group.primary.link) else {
            return;
        };
        // A frozen primary keeps its replicas' links; they go down only when its process or its host's network went.
        if group.primary.gone.is_some() || link.is_up() || !link.reached {
            return;
        }
        let Some(silent_since) = link.silent_since() else {
            return;
        };
        if now.saturating_duration_since(silent_since) < group.settings.down_after / SILENT_PART {
            return;
        }
        let mut heard = group
            .replicas
            .values()
            .filter(|replica| {
                self.links.get(&replica.link).is_some_and(Link::is_up)
                    && replica
                        .observed
                        .info_at
                        .is_some_and(|read| read > silent_since)
            })
            .peekable();
        if heard.peek().is_some() && heard.all(|replica| !replica.link_up && !replica.syncing) {
            self.primary_gone(id, "every replica reports its link down");
        }
    }

    /// A primary was seen to have restarted: did it come back with its data?
    ///
    /// `loading` servers are asked again when they have read everything.
    pub(super) fn check_data_after_restart(&mut self, id: GroupId) {
        let Some(group) = self.groups.get(&id) else {
            return;
        };
        if group.primary.observed.loading {
            return;
        }
        let verdict = data_lost(group, |replica| {
            // Data that cannot be reached saves nobody from an empty primary.
            self.links.get(&replica.link).is_some_and(Link::is_up)
                && replica.down.subjective.is_none()
        });
        let Some(group) = self.groups.get_mut(&id) else {
            return;
        };
        match verdict {
            Some(_) if group.primary.data_gone.is_some() => {}
            Some(reason) => {
                group.primary.data_gone = Some(reason.clone());
                let at = group.primary.at.clone();
                self.tell_server_with(id, &at, Kind::PlusDataGone, reason);
                self.mark(id);
            }
            // From here on nobody holds more than it has: there is nothing left to save.
            None => {
                group.primary.before_reboot = None;
                group.primary.data_gone = None;
                self.mark(id);
            }
        }
    }
}

/// What a primary that restarted lost, if a replica still holds it. `None` also when nobody holds more who may be
/// promoted: then a failover would save nothing.
fn data_lost(group: &Group, reachable: impl Fn(&Replica) -> bool) -> Option<String> {
    let before = group.primary.before_reboot.as_ref()?;
    let after = group.primary.observed.lineage.as_ref()?;
    let holder = group
        .replicas
        .values()
        .filter(|replica| reachable(replica) && !replica.syncing && replica.priority > 0)
        .filter(|replica| {
            replica
                .observed
                .lineage
                .as_ref()
                .is_some_and(|lineage| lineage.replid == before.replid)
        })
        .max_by_key(|replica| replica.offset)?;
    if after.replid == before.replid {
        return None;
    }
    // Restarted from a dump: the old history up to where the dump was made.
    if after.replid2 == before.replid {
        let kept = after.second_offset?;
        return (holder.offset >= kept).then(|| {
            format!(
                "restarted at offset {} of a history that a replica holds to {}",
                kept.saturating_sub(1),
                holder.offset
            )
        });
    }
    // Any other restart gives a new history, also with all data (append-only file). The keys tell.
    let keys = group.primary.observed.keys;
    let had = group.primary.keys_before.max(holder.observed.keys);
    (had > 0 && keys < had.div_ceil(KEYS_PART))
        .then(|| format!("restarted with {keys} keys of {had}"))
}

/// Bytes of its history that a server loses when it is made to follow another, if that can be known.
///
/// With `replid` equal the one behind is merely behind. With the follower's history being the other's former one, what
/// lies beyond the fork was never on the other side. Without any common history nothing can be said (PSYNC2, `replication.c`).
#[must_use]
pub fn bytes_lost(follower: &Lineage, leader: &Lineage) -> Option<u64> {
    if follower.replid == leader.replid {
        return Some(follower.offset.saturating_sub(leader.offset));
    }
    if follower.replid == leader.replid2 {
        let fork = leader.second_offset?;
        return Some((follower.offset + 1).saturating_sub(fork));
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lineage(replid: &str, replid2: &str, second: Option<u64>, offset: u64) -> Lineage {
        Lineage {
            replid: replid.to_owned(),
            replid2: replid2.to_owned(),
            second_offset: second,
            offset,
        }
    }

    #[test]
    fn what_a_demotion_destroys() {
        let old = |offset| lineage("a", "", None, offset);
        let new = lineage("b", "a", Some(101), 500);
        // The new one was promoted after byte 100 of history a.
        assert_eq!(bytes_lost(&old(100), &new), Some(0));
        assert_eq!(bytes_lost(&old(80), &new), Some(0));
        assert_eq!(bytes_lost(&old(140), &new), Some(40));
        // One history: the bytes by which the leader is behind.
        assert_eq!(bytes_lost(&old(140), &old(100)), Some(40));
        assert_eq!(bytes_lost(&old(100), &old(140)), Some(0));
        // No common history, or no fork known.
        assert_eq!(bytes_lost(&lineage("c", "", None, 9), &new), None);
        assert_eq!(bytes_lost(&old(9), &lineage("b", "a", None, 9)), None);
    }
}
