//! Fleets that are not ours and have a group of the same name: a copied file, an address that was used again.
//!
//! Redis takes the newest configuration from whoever publishes it, so one message makes every server of the group a
//! replica of somebody else's primary and empties it. A sentinel of our fleet names one of our servers from its first
//! message on. One that never did is a stranger: it is counted as Redis counts it, but
//!
//! - it moves us to no server that we do not know while we know a replica, or a primary that is well;
//! - where we know neither (our file is older than all that it names), it is believed from its second message on, so
//!   that a stray one cannot move us;
//! - it is not written down, or it would be no stranger after a restart.
//!
//! Who has named one of our servers once is believed at once with what we do not know: a replica that was added
//! and promoted while we were away.

use crate::sentinel::hello::Hello;
use crate::sentinel::machine::Sentinel;
use crate::sentinel::model::{Group, GroupId};

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
        } else if !group.replicas.is_empty() || self.is_sane(group) {
            Word::Refused
        } else if known {
            Word::Taken
        } else {
            Word::Again
        }
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

    /// Tells of a word that was refused, once for each address.
    pub(super) fn tell_refused_word(&mut self, id: GroupId, hello: &Hello) {
        let Some(peer) = self
            .groups
            .get_mut(&id)
            .and_then(|group| group.peers.get_mut(&hello.id))
        else {
            return;
        };
        if peer.refused_word.as_ref() == Some(&hello.primary) {
            return;
        }
        peer.refused_word = Some(hello.primary.clone());
        self.refuse_hello(
            id,
            hello,
            "it never named a server of this group, and names one that is not known here",
        );
    }
}
