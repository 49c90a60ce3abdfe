//! What survives a restart: everything that a rewritten `sentinel.conf` holds of the machine's state.

use crate::sentinel::ids::{ConfigEpoch, ElectionEpoch, Endpoint, SentinelId};
use crate::sentinel::settings::{Globals, GroupSettings};

/// The whole state, as it is written and as it is read at the start.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SavedState {
    /// Our own id.
    pub id: SentinelId,
    /// The newest election we know of.
    pub current_epoch: ElectionEpoch,
    /// Settings that concern no group in particular.
    pub globals: Globals,
    /// The groups, by name.
    pub groups: Vec<SavedGroup>,
}

/// One group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SavedGroup {
    /// Its settings.
    pub settings: GroupSettings,
    /// Where its primary is; after a promotion that is under way, the promoted one.
    pub primary: Endpoint,
    /// The configuration that says so.
    pub config_epoch: ConfigEpoch,
    /// The newest election in which we gave a vote for this group.
    pub leader_epoch: ElectionEpoch,
    /// Its replicas, in order of name.
    pub replicas: Vec<Endpoint>,
    /// The other sentinels, in order of id.
    pub peers: Vec<SavedPeer>,
}

/// Another sentinel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SavedPeer {
    /// Its id.
    pub id: SentinelId,
    /// Where it listens.
    pub at: Endpoint,
}
