//! What those who decide tell a proxy: which server of each group is its primary, and whether it may be asked now.
//!
//! A proxy obeys the last snapshot that it is given, whatever its rank, and never decides by itself. Whoever gives them has put
//! them in order, and knows when an older one counts again:
//!
//! | who | in order because |
//! |---|---|
//! | the keeper of this host, or two side by side | each is what one state machine says of itself now, and all of them leave from one thread |
//! | the follower of daemons or sentinels elsewhere | newer epochs win, turns within one; an older one after 10 s in which nobody named a newer |
//! | the seats of a cluster | each change has an epoch of its own, after the node that is behind was passed over |
//! | the file, of a server that nobody fails over | there is one, of the lowest rank |
//!
//! From there on they go through one mailbox for each thread. So a rank is for telling words apart, not for choosing among them.

use std::sync::Arc;
use std::time::Duration;

use crate::settings::Address;

/// The groups of one pool, in the order of its servers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Topology {
    /// One for each of the pool's servers.
    pub groups: Vec<Group>,
}

/// One group: a primary with its replicas, or the lack of one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Group {
    /// When this was said.
    pub rank: Rank,
    /// What may be done now.
    pub phase: Phase,
    /// For how long it may be believed.
    pub lease: Lease,
    /// Writes that no replica has may be acknowledged: whoever decides has made sure that no server becomes primary without them.
    pub alone: Option<GoingAlone>,
    /// The servers that replicate its primary, in an order that does not change by itself.
    pub replicas: Vec<Replica>,
    /// Where its present primary left the history of the one before.
    pub forks: Forks,
}

/// For how long, and for which writes, no replica is needed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GoingAlone {
    /// Not after this, since the boot of this host (`CLOCK_BOOTTIME`).
    pub until: Duration,
    /// Only those that were answered in this history (a `master_replid`): a server that was started again at the same address
    /// may have forgotten the ones before.
    pub history: String,
}

/// Orders the snapshots of a group: by the promotion that they are of, and within it by the changes of its phase, so that
/// a switchover that is given up goes back to serving and no late word that it is closing wins over that.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Rank {
    /// Of the promotion.
    pub epoch: u64,
    /// Tells promotions of one number apart, where two hosts can count to the same.
    pub host: Arc<str>,
    /// Within it.
    pub turn: u64,
}

impl Rank {
    /// The beginning of an epoch that nobody else counts to.
    #[must_use]
    pub fn of(epoch: u64) -> Self {
        Self {
            epoch,
            ..Self::default()
        }
    }
}

/// A server that is not the primary.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Replica {
    /// Where it is; its primary's `ROLE` names it so.
    pub address: Address,
    /// It may become the primary: what it has is not lost with the primary.
    pub promotable: bool,
    /// The link to the primary that it follows is up.
    pub link_up: bool,
}

/// What is told of promotions besides their address.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Forks {
    /// Nothing, ever: what a lost primary did is never proven, and nothing needs to be known for that.
    #[default]
    Untold,
    /// Forks are told. Of the present primary none is known, or what the one before did beyond it may not be over.
    None,
    /// The present primary began here.
    At(Fork),
}

/// The point at which a promotion left an older history that has ended: its server is dead, or was fenced at no greater
/// offset. So nothing of that history is saved and replayed some day that this point does not cover.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fork {
    /// The history that was left (a `master_replid`).
    pub parent: String,
    /// The last offset that both have.
    pub offset: u64,
    /// Nothing was done there beyond that offset, answered or not: its server was fenced there.
    pub whole: bool,
}

/// What may be done with a group now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Phase {
    /// Requests go to this primary.
    Serving {
        /// Where it is.
        primary: Address,
    },
    /// A switchover is under way: nothing more is sent, what was sent is awaited, new requests are held.
    Closing,
    /// There is no primary: requests are held.
    None,
}

/// For how long a snapshot may be believed. What is read from a server after that is not passed on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lease {
    /// For ever: nobody fails this server over.
    Fixed,
    /// Whoever decides gives no lease: until something newer is said, but by nobody who may have slept through that. A
    /// thread that stood still asks again before it goes on, see [`crate::core::Core::confirmed`].
    Open,
    /// As long as its servers do not say otherwise, and they do: a node of a Redis Cluster that is not the one to ask any
    /// more answers with `MOVED`. So a thread that stood still need not ask first.
    Members,
    /// Until then, since the boot of this host (`CLOCK_BOOTTIME`).
    Until(Duration),
}
