//! Where a group's servers are and which of them is the primary: what electors tell the front and the directory.
//!
//! A topology is a snapshot. Whoever receives one obeys the newest and asks nothing back; what it does not say
//! (`primary: None`) is not to be guessed from an older one.

use crate::ids::{Offset, ReplId};
use crate::sentinel::Endpoint;

/// One snapshot of a group.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Topology {
    /// Grows with every change of primary: the counter of the pair's epoch, or a fleet's configuration epoch.
    pub epoch: u64,
    /// Where the primary is; `None` while none is known.
    pub primary: Option<Endpoint>,
    /// Every server known, the primary among them, each once.
    pub servers: Vec<Member>,
    /// Host ids of the other daemons that are heard.
    pub daemons: Vec<String>,
    /// Where the primary left the history of the one before.
    pub forks: Forks,
}

/// What is told of promotions besides their address: what a proxy needs to know to send a write again that was never
/// answered.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Forks {
    /// Nothing, ever.
    #[default]
    Untold,
    /// Of the present primary none is known; or what the one before did beyond it may come to light again.
    None,
    /// It left this history at this offset, and what was done in that one beyond is over: the server is dead, or it was
    /// fenced at no greater offset. Nothing of it is ever archived as commands that could be replayed.
    At {
        /// The lineage that was left.
        parent: ReplId,
        /// The last offset that both have.
        offset: Offset,
    },
}

impl Forks {
    /// The field of `SENTINEL MASTER` that tells them to other hosts.
    pub const FIELD: &str = "tandem-fork";

    /// Its value there. None: there is no such field.
    #[must_use]
    pub fn told(&self) -> Option<String> {
        match self {
            Self::Untold => None,
            Self::None => Some("none".to_owned()),
            Self::At { parent, offset } => Some(format!("{} {}", parent.0, offset.0)),
        }
    }

    /// What such a field says, and the lack of it.
    #[must_use]
    pub fn heard(field: Option<&str>) -> Self {
        let Some(field) = field else {
            return Self::Untold;
        };
        let fork = field.split_once(' ').and_then(|(parent, offset)| {
            Some(Self::At {
                parent: ReplId(parent.to_owned()),
                offset: Offset(offset.parse().ok()?),
            })
        });
        fork.unwrap_or(Self::None)
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn forks_are_heard_as_they_are_told() {
        let at = Forks::At {
            parent: ReplId("a".repeat(40)),
            offset: Offset(4711),
        };
        for forks in [Forks::Untold, Forks::None, at] {
            assert_eq!(Forks::heard(forks.told().as_deref()), forks);
        }
        assert_eq!(Forks::heard(Some("a b c")), Forks::None);
    }
}
