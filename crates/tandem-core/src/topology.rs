//! Where a group's servers are and which of them is the primary: what electors tell the front and the directory.
//!
//! A topology is a snapshot. Whoever receives one obeys the newest and asks nothing back; what it does not say
//! (`primary: None`) is not to be guessed from an older one.

use crate::sentinel::Endpoint;

/// One snapshot of a group.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Topology {
    /// Grows with every change of primary: the counter of the pair's epoch, or a fleet's configuration epoch.
    pub epoch: u64,
    /// Orders the snapshots of one epoch, see [`Rank`]; 0 where nobody counts them.
    pub turn: u64,
    /// Where the primary is; `None` while none is known.
    pub primary: Option<Endpoint>,
    /// The primary is about to give its role away: ask it nothing more, and wait for what was asked.
    pub closing: bool,
    /// Every server known, the primary among them, each once.
    pub servers: Vec<Member>,
    /// Host ids of the other daemons that are heard.
    pub daemons: Vec<String>,
}

/// Which of two snapshots is the newer one: the later epoch, and within an epoch the later turn.
///
/// The host whose server is the epoch's primary counts the turns, one for each change of its phase, and its peer passes
/// them on; so a switchover that was given up goes back to serving in the same epoch, and the word that it was closing,
/// however late it arrives, does not win over that.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Rank {
    /// Of the promotion.
    pub epoch: u64,
    /// Within it.
    pub turn: u64,
}

impl Topology {
    /// Its place among the snapshots of its group.
    #[must_use]
    pub fn rank(&self) -> Rank {
        Rank {
            epoch: self.epoch,
            turn: self.turn,
        }
    }
}

/// One server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Member {
    /// Where it listens.
    pub at: Endpoint,
    /// `run_id`; empty before it was read.
    pub run_id: String,
    /// It answers as it should, as far as is known.
    pub healthy: bool,
    /// Of a replica: whom it follows.
    pub follows: Option<Endpoint>,
    /// Of a replica: its link to the primary is up.
    pub link_up: bool,
    /// Of a replica: what it has applied of the stream.
    pub offset: u64,
}

impl Member {
    /// A server of which only the address is known.
    #[must_use]
    pub fn unknown(at: Endpoint) -> Self {
        Self {
            at,
            run_id: String::new(),
            healthy: false,
            follows: None,
            link_up: false,
            offset: 0,
        }
    }
}

/// `ip:port` or `[v6]:port` as an endpoint; `None` for anything else.
#[must_use]
pub fn endpoint(text: &str) -> Option<Endpoint> {
    let at: std::net::SocketAddr = text.parse().ok()?;
    Some(Endpoint::new(at.ip().to_string(), at.port()))
}
