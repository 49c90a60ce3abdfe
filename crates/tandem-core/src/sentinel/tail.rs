//! What only a diverged server holds, before it is resynced.
//!
//! A tandem daemon on that server's host can keep it in its archive. It is asked before the server is told to follow our
//! primary, and waited for within a bound; where there is none, which is known as soon as the connection is refused, the
//! loss is told and the resync goes on as in Redis. A daemon that leads the server itself does its own resync: the
//! server is left to it.

use std::time::{Duration, Instant};

use crate::sentinel::daemon::About;
use crate::sentinel::events::Kind;
use crate::sentinel::evidence::bytes_lost;
use crate::sentinel::ids::Endpoint;
use crate::sentinel::io::{Level, Output, Word};
use crate::sentinel::machine::Sentinel;
use crate::sentinel::model::GroupId;

/// How long a resync waits for the archive at most: what a backlog holds is read in a second, and a whole data set at
/// disk speed. Writes stand still there meanwhile.
pub const ARCHIVE_WITHIN: Duration = Duration::from_secs(30);
/// Beyond the shell's own bound, the answer is not waited for any more.
const GRACE: Duration = Duration::from_secs(5);
/// A server that its daemon leads is asked about again after this.
const OWNED_FOR: Duration = Duration::from_secs(60);

/// How far the asking is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Tail {
    /// The daemon was asked, then.
    Asked(Instant),
    /// It leads the server itself; said then.
    Owned(Instant),
    /// Archived; the text says what and where.
    Archived(String),
    /// Nobody keeps it; the text says why.
    Lost(String),
}

impl Sentinel {
    /// Whether a server may be told to follow our primary: it holds nothing of its own, that is archived, or cannot be.
    /// Has it asked about if need be.
    pub(super) fn tail_settled(&mut self, id: GroupId, at: &Endpoint) -> bool {
        let now = self.now;
        let Some(group) = self.groups.get_mut(&id) else {
            return false;
        };
        let leader = group.primary.observed.lineage.clone();
        let Some(replica) = group.replicas.get_mut(at) else {
            return false;
        };
        let own = replica.observed.lineage.as_ref();
        let loss = own
            .zip(leader.as_ref())
            .map(|(own, leader)| bytes_lost(own, leader));
        let holds_something = match loss.flatten() {
            Some(bytes) => bytes > 0,
            None => replica.observed.keys > 0,
        };
        if !holds_something {
            return true;
        }
        match &replica.tail {
            Some(Tail::Archived(_) | Tail::Lost(_)) => true,
            Some(Tail::Asked(since)) if now < *since + ARCHIVE_WITHIN + GRACE => false,
            Some(Tail::Asked(_)) => {
                replica.tail = Some(Tail::Lost("its host's daemon does not answer".to_owned()));
                true
            }
            Some(Tail::Owned(since)) if now < *since + OWNED_FOR => false,
            Some(Tail::Owned(_)) | None => {
                replica.tail = Some(Tail::Asked(now));
                self.out.push(Output::AskDaemon {
                    server: at.clone(),
                    about: About::Tail,
                });
                false
            }
        }
    }

    /// The daemon of a server's host answered, or there is none.
    pub(super) fn tail_answered(&mut self, server: &Endpoint, word: &Word) {
        let now = self.now;
        let tail = match word {
            Word::Archived(text) => Tail::Archived(text.clone()),
            Word::Unarchived(why) => Tail::Lost(why.clone()),
            Word::Owned => Tail::Owned(now),
            Word::Dead => return,
        };
        let mut asking = Vec::new();
        for group in self.groups.values_mut() {
            if let Some(replica) = group.replicas.get_mut(server)
                && matches!(replica.tail, Some(Tail::Asked(_)))
            {
                replica.tail = Some(tail.clone());
                asking.push(group.id);
            }
        }
        for id in asking {
            if matches!(tail, Tail::Owned(_)) {
                self.tell_loss(id, server);
            }
            self.repair(id, server);
            self.mark(id);
        }
    }

    /// Counts and tells what a server loses when it is made to follow our primary; once for the same loss.
    pub(super) fn tell_loss(&mut self, id: GroupId, at: &Endpoint) {
        let Some(group) = self.groups.get_mut(&id) else {
            return;
        };
        let Some(leader) = group.primary.observed.lineage.clone() else {
            return;
        };
        let Some(replica) = group.replicas.get_mut(at) else {
            return;
        };
        let Some(own) = replica.observed.lineage.clone() else {
            return;
        };
        let told = Some((own.replid.clone(), own.offset));
        if replica.told_loss == told {
            return;
        }
        replica.told_loss = told;
        let keys = replica.observed.keys;
        let (count, what) = match bytes_lost(&own, &leader) {
            Some(0) => return,
            Some(bytes) => (
                bytes.to_string(),
                format!("{bytes} bytes of writes that the primary never had"),
            ),
            None if keys > 0 => (
                "unknown".to_owned(),
                format!("{keys} keys of an unrelated history"),
            ),
            None => return,
        };
        let (fate, then) = match &replica.tail {
            Some(Tail::Archived(text)) => {
                ("archived", format!("they are archived on its host: {text}"))
            }
            Some(Tail::Owned(_)) => (
                "owned",
                "the tandem daemon on its host leads it, and its resync is left to that".to_owned(),
            ),
            Some(Tail::Lost(why)) => (
                "discarded",
                format!("they are lost with its resync, and not archived: {why}"),
            ),
            Some(Tail::Asked(_)) | None => {
                ("discarded", "they are lost with its resync".to_owned())
            }
        };
        self.tell_server_with(id, at, Kind::PlusDiverged, format_args!("{count} {fate}"));
        self.log(Level::Warning, format!("{at} holds {what}; {then}"));
    }
}
