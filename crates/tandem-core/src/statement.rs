//! What the daemons tell each other (rule 4).
//!
//! A daemon does not send requests; it publishes its whole state, often and after every change, and
//! the other side acts on the newest one. A lost or repeated frame therefore costs nothing. Some
//! parts of a statement are promises: `released` binds its sender until a newer epoch is agreed,
//! `declined` binds it not to take over on that release.

use serde::{Deserialize, Serialize};

use crate::ids::{Epoch, HostId, Offset, ReplId};
use crate::rules::boot::Position;
use crate::rules::verdict::Evidence;
use crate::server::ServerView;

/// How far a host that gave up being primary got. In this order the fences are from hard to soft.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ReleaseKind {
    /// The server process is dead or dying: it acknowledges nothing any more.
    Dead,
    /// The server obeys and is read-only.
    Fenced,
    /// The server does not answer; its port rejects and its clients' sockets are destroyed
    /// (rule 12).
    FrontClosed,
}

/// A promise: nothing that this host's server does from now on is acknowledged to a client, until
/// an epoch newer than `epoch` is agreed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Released {
    /// The epoch whose primary steps back.
    pub epoch: Epoch,
    /// How.
    pub kind: ReleaseKind,
    /// The lineage it had.
    pub lineage: ReplId,
    /// The last offset known of the released server. After `Fenced` it is exact.
    pub offset: Offset,
    /// The peer must hold exactly `offset` before it takes over: set in a switchover.
    pub exact: bool,
    /// The sender asks to have its role back: the peer answers by being primary or by declining.
    pub recalled: bool,
}

/// The point where a promotion left the older history.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fork {
    /// The epoch that began here.
    pub epoch: Epoch,
    /// The lineage it left.
    pub parent: ReplId,
    /// The last offset shared with it.
    pub offset: Offset,
    /// The lineage it began.
    pub lineage: ReplId,
    /// Nothing was done in the parent beyond the offset that could be replayed some day: its server is dead, or was fenced
    /// at no greater one.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub ended: bool,
    /// Nothing at all was done in the parent beyond the offset: its server was fenced at no greater one.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub whole: bool,
}

/// A host's phase in one word, for the peer and for people.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum PhaseName {
    /// Nothing decided since the start.
    Booting,
    /// Waits for a person or for the peer.
    Waiting,
    /// Its server is the primary.
    Primary,
    /// Its server follows the peer's, or is about to.
    Replica,
    /// It is making its server primary.
    TakingOver,
    /// It is giving its role to the peer.
    HandingOver,
    /// It gave up its role and waits for the peer.
    Released,
    /// Both wrote; the verdict is being found.
    Split,
    /// It archives, fences and attaches on its way to being a replica.
    Rejoining,
}

impl PhaseName {
    /// The server of a host in this phase may be accepting writes by right.
    pub fn holds_primary(self) -> bool {
        match self {
            Self::Primary | Self::HandingOver | Self::Split => true,
            Self::Booting
            | Self::Waiting
            | Self::Replica
            | Self::TakingOver
            | Self::Released
            | Self::Rejoining => false,
        }
    }

    /// The word that statements, `status` and logs use.
    pub fn word(self) -> &'static str {
        match self {
            Self::Booting => "booting",
            Self::Waiting => "waiting",
            Self::Primary => "primary",
            Self::Replica => "replica",
            Self::TakingOver => "taking-over",
            Self::HandingOver => "handing-over",
            Self::Released => "released",
            Self::Split => "split",
            Self::Rejoining => "rejoining",
        }
    }
}

/// A host counts the changes of its phase in each epoch in which it is primary.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Turn {
    /// The epoch.
    pub of: Epoch,
    /// How far it has counted.
    pub number: u64,
}

/// What the kernel of a dead server had been given for the other host on one connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LastWords {
    /// The other host's port of that connection.
    pub port: u16,
    /// Bytes since the connection was made: as many arrive there, or none of them is to be had any more.
    pub bytes: u64,
}

/// More connections than this are not told; see [`LastWords`].
pub const LAST_WORDS_MAX: usize = 128;

/// Everything one daemon says about one group.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Statement {
    /// Format of this statement; another number is refused with a message that names both.
    pub format: u32,
    /// The group it is about.
    pub group: String,
    /// The sender.
    pub host: HostId,
    /// Chosen at random by each start of the daemon.
    pub incarnation: u64,
    /// Grows by one with each change.
    pub version: u64,
    /// The highest epoch the sender knows to be decided.
    pub epoch: Epoch,
    /// What it is doing.
    pub phase: PhaseName,
    /// Why it waits or is not eligible, in words.
    pub reason: Option<String>,
    /// The promise of a host that stepped back.
    pub released: Option<Released>,
    /// Its server is dead, and this is all that its kernel still sends to the other host; empty if that is not known.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub last_words: Vec<LastWords>,
    /// It will not take over on the peer's release of this epoch.
    pub declined: Option<Epoch>,
    /// Its server as last read.
    pub server: Option<ServerView>,
    /// The local server answers as it should.
    pub healthy: bool,
    /// Its data could be promoted (rule 5).
    pub eligible: bool,
    /// A primary: its stream is known to reach the other host's server.
    #[serde(default)]
    pub streaming: bool,
    /// Of a host that is or was primary: its newest epoch as one, and the turn of it; see [`crate::topology::Rank`].
    #[serde(default)]
    pub turn: Option<Turn>,
    /// A primary whose proxies acknowledge writes alone, or want to: whoever hears it is not to be promoted.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub alone: bool,
    /// A promise, in the journal: the sender's server is not promoted before it has all that the primary of this epoch has
    /// acknowledged alone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub barred: Option<Epoch>,
    /// The newest epoch that the sender may have used, if that is newer than `epoch`.
    #[serde(default)]
    pub spent: Option<Epoch>,
    /// Where its newest promotion forked.
    pub fork: Option<Fork>,
    /// Its evidence for the verdict of a split.
    pub evidence: Option<Evidence>,
    /// The other side's, to which it has lost that verdict.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub beaten_by: Option<Evidence>,
    /// Where its data stands, while nothing is decided.
    pub position: Option<Position>,
    /// Its VRRP priority.
    pub priority: u8,
    /// It carries the VIP.
    pub vip: bool,
    /// Automatic failover is paused by an operator on this side.
    pub paused: bool,
    /// An operator asked here for a switchover that the peer, being primary, must begin.
    pub wants_switchover: Option<u64>,
    /// The version of the peer's statement that the sender has seen last.
    pub seen: u64,
    /// The start of the peer's daemon that `seen` counts in; 0 when it was not heard.
    #[serde(default)]
    pub seen_incarnation: u64,
    /// Address of the sender's server as the peer reaches it.
    pub server_address: String,
}

/// The format number that this program speaks.
pub const STATEMENT_FORMAT: u32 = 1;

/// Largest statement accepted, bytes. A real one is below two kilobytes.
pub const STATEMENT_MAX_BYTES: usize = 16 * 1024;

/// Why a frame from the peer was not taken as a statement.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum StatementError {
    /// Longer than [`STATEMENT_MAX_BYTES`].
    #[error("a statement of {0} bytes is longer than {STATEMENT_MAX_BYTES}")]
    TooLong(usize),
    /// Not the form this program writes: a bug or another version; retrying does not help.
    #[error("not a statement: {0}")]
    Malformed(String),
    /// Another version's format.
    #[error(
        "statement of format {0}, this daemon speaks {STATEMENT_FORMAT}; upgrade the older one"
    )]
    Format(u32),
}

impl Statement {
    /// The newest epoch that its sender knows of or may have used.
    pub fn newest_epoch(&self) -> &Epoch {
        self.spent.as_ref().unwrap_or(&self.epoch).max(&self.epoch)
    }

    /// The bytes that go into a frame.
    pub fn encode(&self) -> Vec<u8> {
        serde_json::to_vec(self).unwrap_or_default()
    }

    /// Reads a statement; refuses what is too long, malformed or of another format.
    pub fn decode(bytes: &[u8]) -> Result<Self, StatementError> {
        #[derive(Deserialize)]
        struct FormatOnly {
            format: u32,
        }
        if bytes.len() > STATEMENT_MAX_BYTES {
            return Err(StatementError::TooLong(bytes.len()));
        }
        let read = serde_json::from_slice::<Self>(bytes);
        // Another format may well lack what this one has: its number is looked at first.
        let format = match &read {
            Ok(statement) => statement.format,
            Err(_) => {
                let only = serde_json::from_slice::<FormatOnly>(bytes);
                only.map_or(STATEMENT_FORMAT, |only| only.format)
            }
        };
        if format != STATEMENT_FORMAT {
            return Err(StatementError::Format(format));
        }
        read.map_err(|error| StatementError::Malformed(error.to_string()))
    }
}
