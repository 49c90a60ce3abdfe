//! The phases of a host, each with what only it needs.

use std::time::Instant;

use crate::ids::{Epoch, Offset};
use crate::keeper::io::StepId;
use crate::rules::verdict::Evidence;
use crate::statement::{Fork, PhaseName};

/// Where this host stands.
#[derive(Clone, Debug)]
pub enum Phase {
    /// Nothing decided since the start, or since the group lost its primary.
    Booting {
        /// When it began: `boot_wait` counts from here.
        since: Instant,
    },
    /// A person has to say something, or the peer has to come back.
    Waiting {
        /// The rule that forbids going on.
        rule: &'static str,
        /// In words.
        why: String,
        /// When it began.
        since: Instant,
    },
    /// The local server is the group's primary.
    Primary {
        /// When it became so.
        since: Instant,
    },
    /// The local server follows the peer's.
    Replica {
        /// When it began.
        since: Instant,
    },
    /// On the way to being primary.
    TakingOver(TakeOver),
    /// On the way to giving the role away.
    HandingOver(HandOver),
    /// The role is given away and the peer has not confirmed yet.
    Released {
        /// When it was stated.
        since: Instant,
    },
    /// Both are primary.
    Split(Split),
    /// On the way to being a replica.
    Rejoining(Rejoin),
}

impl Phase {
    /// Its name, as the peer sees it.
    pub fn name(&self) -> PhaseName {
        match self {
            Self::Booting { .. } => PhaseName::Booting,
            Self::Waiting { .. } => PhaseName::Waiting,
            Self::Primary { .. } => PhaseName::Primary,
            Self::Replica { .. } => PhaseName::Replica,
            Self::TakingOver(_) => PhaseName::TakingOver,
            Self::HandingOver(_) => PhaseName::HandingOver,
            Self::Released { .. } => PhaseName::Released,
            Self::Split(_) => PhaseName::Split,
            Self::Rejoining(_) => PhaseName::Rejoining,
        }
    }

    /// Something is under way that should not wait for the ordinary tick.
    pub fn is_transition(&self) -> bool {
        match self {
            Self::TakingOver(_)
            | Self::HandingOver(_)
            | Self::Released { .. }
            | Self::Split(_)
            | Self::Rejoining(_)
            | Self::Booting { .. } => true,
            Self::Waiting { .. } | Self::Primary { .. } | Self::Replica { .. } => false,
        }
    }
}

/// Why a host takes over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cause {
    /// The peer stated that it stepped back.
    Statement,
    /// The other side is silent on every channel; nobody could fence it.
    Unfenced,
    /// The peer's daemon is gone, its server was fenced by us.
    RemoteFenced,
    /// The peer's host answers, its server's port refuses.
    ServerGone,
    /// The boot comparison chose this host.
    Boot,
    /// `boot_wait` is over and this host goes on alone.
    BootAlone,
    /// A running primary is taken as it is.
    Adopted,
    /// The peer declined, so the role comes back.
    Restored,
    /// A person accepted the loss.
    Operator,
}

impl Cause {
    /// For events and history.
    pub fn words(self) -> &'static str {
        match self {
            Self::Statement => "the other side stated that it stepped back",
            Self::Unfenced => "the other side is silent on every channel (unfenced)",
            Self::RemoteFenced => "the other daemon is gone and its server was fenced from here",
            Self::ServerGone => "the other server's port refuses and its daemon is gone",
            Self::Boot => "this host holds the newest data after both were down",
            Self::BootAlone => "the other host did not come within boot_wait",
            Self::Adopted => "a running primary was adopted",
            Self::Restored => "the other side declined to take over",
            Self::Operator => "an operator accepted the loss",
        }
    }

    /// It was the daemons' own decision: counts against flapping.
    pub fn is_automatic_failover(self) -> bool {
        match self {
            Self::Statement | Self::Unfenced | Self::RemoteFenced | Self::ServerGone => true,
            Self::Boot | Self::BootAlone | Self::Adopted | Self::Restored | Self::Operator => false,
        }
    }
}

/// A takeover's steps.
#[derive(Clone, Debug)]
pub struct TakeOver {
    /// Why.
    pub cause: Cause,
    /// The epoch it will be.
    pub epoch: Epoch,
    /// When it began.
    pub since: Instant,
    /// What is being waited for.
    pub stage: TakeOverStage,
    /// The lineage and offset where the history forks, known after the drain.
    pub fork: Option<Fork>,
    /// Offset that must be held, of a switchover.
    pub exact: Option<Offset>,
}

/// Stages of a takeover.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TakeOverStage {
    /// The other server is being fenced from here.
    RemoteFencing(StepId),
    /// The intent is being made durable while the rest of the stream is read.
    Preparing {
        /// Durable record, until done.
        journal: Option<StepId>,
        /// Drain, until done.
        drain: Option<StepId>,
    },
    /// The server is being promoted.
    Promoting(StepId),
}

/// Why a host gives its role away.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HandCause {
    /// An operator asked here; the request to answer.
    Operator(u64),
    /// An operator asked on the peer.
    PeerAsked,
    /// TERM.
    Stopping,
    /// The server refuses writes.
    Sick,
    /// The peer has the higher priority, is in sync and is meant to be primary.
    FailBack,
    /// The daemon was frozen and may have been replaced.
    Frozen,
    /// A promotion was not confirmed.
    FailedPromotion,
}

/// A hand-over's steps.
#[derive(Clone, Debug)]
pub struct HandOver {
    /// Why.
    pub cause: HandCause,
    /// When it began.
    pub since: Instant,
    /// The durable intent, begun with the pause; `None` where nothing is handed over in order.
    pub journal: Option<StepId>,
    /// The paused offset.
    pub offset: Offset,
    /// What is being waited for.
    pub stage: HandOverStage,
}

/// Stages of a hand-over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HandOverStage {
    /// Proxies finish what they have asked; not waited for after the instant.
    Quiescing(StepId, Instant),
    /// Writes are being paused.
    Pausing(StepId),
    /// The peer is reading the rest.
    Equalizing(StepId),
    /// The intent is being made durable.
    Journaling(StepId),
    /// Clients are being sent away.
    Closing(StepId),
    /// The server is being fenced.
    Fencing(StepId),
}

/// After both wrote.
#[derive(Clone, Debug)]
pub struct Split {
    /// When it was noticed.
    pub since: Instant,
    /// The peer's daemon start and epoch this split is with.
    pub with: (u64, Epoch),
    /// Counting the local tail.
    pub measuring: Option<StepId>,
    /// Where the histories part.
    pub fork_offset: Offset,
    /// What this side states.
    pub own: Option<Evidence>,
}

/// On the way to being a replica.
#[derive(Clone, Debug)]
pub struct Rejoin {
    /// When it began.
    pub since: Instant,
    /// What is being waited for.
    pub stage: RejoinStage,
    /// An operator allowed the full resync.
    pub approved: bool,
    /// Name of the archive made on the way.
    pub receipt: Option<String>,
    /// The local data was given up by a verdict, to the side of this evidence: clients must be kept away until fenced.
    pub beaten_by: Option<Evidence>,
}

/// Stages of a rejoin.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RejoinStage {
    /// Look at both servers and choose.
    Assess,
    /// Clients are being sent away before the tail is read.
    Closing(StepId),
    /// The tail, or everything, is being saved.
    Archiving(StepId),
    /// The server is being fenced.
    Fencing(StepId),
    /// A person has to allow the resync.
    Asking {
        /// The rule that asks.
        rule: &'static str,
        /// What it would cost or destroy.
        why: String,
    },
    /// Being told to follow.
    Attaching(StepId),
    /// Following, not yet in sync.
    Syncing,
    /// A step failed; tried again after this instant.
    RetryAt(Instant),
}
