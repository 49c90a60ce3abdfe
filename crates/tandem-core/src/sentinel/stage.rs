//! How far a failover of ours is: its stages, and the steps of a planned one before the promotion.

use std::time::Instant;

use crate::sentinel::ids::{ElectionEpoch, Endpoint};

/// The states of a failover, numbered as Redis logs them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Stage {
    /// Waiting to be elected (`wait_start`).
    Electing,
    /// Choosing a replica (`select_slave`).
    Selecting,
    /// About to promote it (`send_slaveof_noone`).
    Promoting,
    /// Promoted, not confirmed yet (`wait_promotion`).
    Confirming,
    /// Pointing the others to it (`reconf_slaves`).
    Reconfiguring,
    /// Taking over the new address (`update_config`).
    Updating,
}

impl Stage {
    /// The word in `failover-state`.
    #[must_use]
    pub fn word(&self) -> &'static str {
        match self {
            Self::Electing => "wait_start",
            Self::Selecting => "select_slave",
            Self::Promoting => "send_slaveof_noone",
            Self::Confirming => "wait_promotion",
            Self::Reconfiguring => "reconf_slaves",
            Self::Updating => "update_config",
        }
    }
}

/// A failover of ours.
#[derive(Clone, Debug)]
pub struct Failover {
    /// The election it rests on.
    pub epoch: ElectionEpoch,
    /// How far it is.
    pub stage: Stage,
    /// Since when it is there.
    pub stage_since: Instant,
    /// An operator asked for it (flag `force_failover`; forced.rs says what that changes).
    pub forced: bool,
    /// The replica to promote.
    pub chosen: Option<Endpoint>,
    /// The primary before, once another took its place.
    pub old: Option<Endpoint>,
    /// How far a planned change of primaries is.
    pub handover: Option<Handover>,
    /// When it is to be acted on again while nothing else happens; while votes are asked for on an operator's request, when
    /// they are not waited for any more.
    pub act_at: Option<Instant>,
    /// An election is not lost before each peer had this much time to answer.
    pub asked_at: Instant,
    /// Another number is tried then: this one is somebody else's, or was refused.
    pub again_at: Option<Instant>,
    /// No majority could be reached: it rests on the operator's word alone.
    pub by_word: bool,
}

/// A planned change: the old primary is healthy and is to lose nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Handover {
    /// How far it is.
    pub step: HandoverStep,
    /// When the server lets writes through again by itself.
    pub deadline: Instant,
    /// Equal or given up at this time.
    pub give_up: Instant,
    /// The old primary's end of history, frozen.
    pub target: Option<u64>,
}

/// See [`Handover`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HandoverStep {
    /// CLIENT PAUSE was sent.
    Pausing,
    /// Paused; the replica reads what is left.
    Draining,
    /// The old primary was told to follow the new one.
    Fencing,
    /// It does; the new one may be promoted.
    Fenced,
}
