//! Fleets that are not ours and have a group of the same name: a copied file, an address that was used again.
//!
//! Redis takes the newest configuration from whoever publishes it, so one message makes every server of the group a
//! replica of somebody else's primary and empties it. A sentinel of our fleet names one of our servers from its first
//! message on. One that never did is a stranger: it is counted as Redis counts it, but
//!
//! - it moves us to no server that we do not know, while our primary is well or a replica that answers follows another
//!   one;
//! - where nothing works, or a server of ours says itself that it follows the one that is named (our file is older than
//!   all that the fleet names), it is believed from its second message on, so that a stray one cannot move us;
//! - it is not written down, or it would be no stranger after a restart.
//!
//! Who has named one of our servers once is believed at once with what we do not know: a replica that was added
//! and promoted while we were away.

use std::time::Instant;

use crate::sentinel::hello::Hello;
use crate::sentinel::ids::Endpoint;
use crate::sentinel::machine::Sentinel;
use crate::sentinel::model::{Group, GroupId, Link};

/// Publish periods for which a word is refused before that is told: where only our own knowledge is old, it is news by
/// then.
const REFUSED_PERIODS: u32 = 4;

/// A word that was refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RefusedWord {
    /// The server that it named.
    pub primary: Endpoint,
    /// Since when.
    pub since: Instant,
    /// It was told.
    pub told: bool,
}

/// Whether a hello's word for a server that is not known here is taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Word {
    /// It is.
    Taken,
    /// Not yet: it is the first one.
    Again,
    /// It is a stranger's, and we know better.
    Refused,
}

impl Sentinel {
    /// Judges the sender's word about a server that is neither the group's primary nor one of its replicas.
    pub(super) fn word_of(&self, group: &Group, hello: &Hello, known: bool) -> Word {
        let acquainted = group
            .peers
            .get(&hello.id)
            .is_some_and(|peer| peer.acquainted);
        if acquainted {
            Word::Taken
        } else if !self.says_so_itself(group, &hello.primary)
            && (self.is_sane(group) || self.any_replica_works(group))
        {
            Word::Refused
        } else if known {
            Word::Taken
        } else {
            Word::Again
        }
    }

    /// Whether a server of the group says that it follows this one.
    fn says_so_itself(&self, group: &Group, named: &Endpoint) -> bool {
        let replicas = group
            .replicas
            .values()
            .map(|replica| replica.follows.as_ref());
        replicas
            .chain([group.primary.follows.as_ref()])
            .flatten()
            .any(|followed| self.is_at(followed, named))
    }

    fn any_replica_works(&self, group: &Group) -> bool {
        group.replicas.values().any(|replica| {
            replica.down.subjective.is_none()
                && self.links.get(&replica.link).is_some_and(Link::is_up)
        })
    }

    /// Whether a hello names one of the servers of the group.
    pub(super) fn names_ours(&self, group: &Group, hello: &Hello) -> bool {
        self.is_at(&group.primary.at, &hello.primary)
            || self.member_at(group, &hello.primary).is_some()
    }

    /// Notes that the sender has named one of our servers.
    pub(super) fn acquaint(&mut self, id: GroupId, hello: &Hello) {
        let Some(group) = self.groups.get(&id) else {
            return;
        };
        let stranger = group
            .peers
            .get(&hello.id)
            .is_some_and(|peer| !peer.acquainted);
        if !stranger || !self.names_ours(group, hello) {
            return;
        }
        if let Some(peer) = self
            .groups
            .get_mut(&id)
            .and_then(|group| group.peers.get_mut(&hello.id))
        {
            peer.acquainted = true;
            self.save_soon();
        }
    }

    /// Tells of a word that was refused for a while, once for each address.
    pub(super) fn tell_refused_word(&mut self, id: GroupId, hello: &Hello) {
        let now = self.now;
        let wait = self.periods.publish * REFUSED_PERIODS;
        let Some(peer) = self
            .groups
            .get_mut(&id)
            .and_then(|group| group.peers.get_mut(&hello.id))
        else {
            return;
        };
        match &mut peer.refused_word {
            Some(word) if word.primary == hello.primary => {
                if word.told || now.saturating_duration_since(word.since) < wait {
                    return;
                }
                word.told = true;
            }
            word => {
                *word = Some(RefusedWord {
                    primary: hello.primary.clone(),
                    since: now,
                    told: false,
                });
                return;
            }
        }
        self.refuse_hello(
            id,
            hello,
            "it never named a server of this group, and names one that is not known here",
        );
    }
}
