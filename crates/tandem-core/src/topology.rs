//! Where a group's servers are and which of them is the primary: what electors tell the front and the directory.
//!
//! A topology is a snapshot. Whoever receives one obeys the newest and asks nothing back; what it does not say
//! (`primary: None`) is not to be guessed from an older one.

use std::time::Instant;

use crate::ids::{Epoch, HostId, Offset, ReplId};
use crate::sentinel::Endpoint;

/// One snapshot of a group.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Topology {
    /// When it was said.
    pub rank: Rank,
    /// Where the primary is; `None` while none is known.
    pub primary: Option<Endpoint>,
    /// The primary is about to give its role away: ask it nothing more, and wait for what was asked.
    pub closing: bool,
    /// Every server known, the primary among them, each once.
    pub servers: Vec<Member>,
    /// Host ids of the other daemons that are heard.
    pub daemons: Vec<String>,
    /// Where the primary left the history of the one before.
    pub forks: Forks,
    /// Proxies of the host that says this may acknowledge writes alone: the other server is promised not to become primary
    /// without them.
    pub alone: Option<GoingAlone>,
}

/// For how long, and for which writes, a primary's proxies need no replica.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GoingAlone {
    /// Not after this.
    pub until: Instant,
    /// Only writes of this history: a server that was started again at the same address may have forgotten those before, and
    /// nothing was promised for what it is told next.
    pub history: ReplId,
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
        /// Nothing at all was done there beyond the offset: its server was fenced there.
        whole: bool,
    },
}

impl Forks {
    /// The field of `SENTINEL MASTER` that tells them to other hosts.
    pub const FIELD: &str = "tandem-fork";
    /// Ends the value of one that left nothing behind.
    const WHOLE: &str = " whole";

    /// Its value there. None: there is no such field.
    #[must_use]
    pub fn told(&self) -> Option<String> {
        match self {
            Self::Untold => None,
            Self::None => Some("none".to_owned()),
            Self::At {
                parent,
                offset,
                whole,
            } => {
                let whole = if *whole { Self::WHOLE } else { "" };
                Some(format!("{} {}{whole}", parent.0, offset.0))
            }
        }
    }

    /// What such a field says, and the lack of it.
    #[must_use]
    pub fn heard(field: Option<&str>) -> Self {
        let Some(field) = field else {
            return Self::Untold;
        };
        let (field, whole) = match field.strip_suffix(Self::WHOLE) {
            Some(field) => (field, true),
            None => (field, false),
        };
        let fork = field.split_once(' ').and_then(|(parent, offset)| {
            Some(Self::At {
                parent: ReplId(parent.to_owned()),
                offset: Offset(offset.parse().ok()?),
                whole,
            })
        });
        fork.unwrap_or(Self::None)
    }
}

/// Which of two snapshots is the newer one: the later epoch of a primary, and within it the later turn.
///
/// Epochs of a pair are ordered as [`Epoch`] is, so that two promotions never have one rank, also where a cut let both hosts
/// count to the same number. The host whose server is the epoch's primary counts the turns, one for each change of its phase,
/// and its peer passes them on; so a switchover that was given up goes back to serving in the same epoch, and the word that
/// it was closing, however late it arrives, does not win over that. Where no primary is told, the rank is that of the newest
/// one that was: an epoch in which nothing was promoted counts for nothing.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Rank {
    /// Grows with every change of primary: the counter of the pair's epoch, or a fleet's configuration epoch.
    pub epoch: u64,
    /// Of a pair: the host whose epoch it is. A fleet's epoch belongs to nobody.
    pub host: HostId,
    /// Within it; 0 where nobody counts them.
    pub turn: u64,
}

impl Rank {
    /// The field of `SENTINEL MASTER` that tells other hosts whose epoch it is.
    pub const FIELD: &str = "tandem-epoch-of";

    /// Of this turn in an epoch of a pair.
    #[must_use]
    pub fn of(epoch: &Epoch, turn: u64) -> Self {
        Self {
            epoch: epoch.counter,
            host: epoch.host.clone(),
            turn,
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
    /// It may become the primary, as far as is known; priority 0 says no.
    pub promotable: bool,
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
            promotable: true,
        }
    }
}

/// `ip:port` or `[v6]:port` as an endpoint; `None` for anything else.
#[must_use]
pub fn endpoint(text: &str) -> Option<Endpoint> {
    let at: std::net::SocketAddr = text.parse().ok()?;
    Some(Endpoint::new(at.ip().to_string(), at.port()))
}

/// One word on a group from keepers that run side by side, one for each of its servers.
///
/// Each speaks of its own server at first hand and of the other's by hearsay, which may be a moment old: a server is the
/// primary while its own keeper says so, and of two that say so the newer rank counts. `None` before anybody spoke.
#[must_use]
pub fn at_first_hand(words: &[(Endpoint, Topology)]) -> Option<Topology> {
    let own = |(at, word): &&(Endpoint, Topology)| word.primary.as_ref() == Some(at);
    let newest = |words: &mut dyn Iterator<Item = &(Endpoint, Topology)>| {
        words
            .max_by(|(_, one), (_, other)| one.rank.cmp(&other.rank))
            .map(|(_, word)| word.clone())
    };
    if let Some(word) = newest(&mut words.iter().filter(own)) {
        return Some(Topology {
            daemons: Vec::new(),
            ..word
        });
    }
    let word = newest(&mut words.iter())?;
    Some(Topology {
        primary: None,
        forks: Forks::None,
        alone: None,
        daemons: Vec::new(),
        ..word
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hearsay_makes_no_primary() {
        let at = |port| Endpoint::new("10.0.0.1", port);
        let word = |epoch, primary: Option<u16>| Topology {
            rank: Rank {
                epoch,
                ..Rank::default()
            },
            primary: primary.map(at),
            daemons: vec!["the other".to_owned()],
            ..Topology::default()
        };
        let said = |first, second| {
            let word = at_first_hand(&[(at(6379), first), (at(63791), second)]).unwrap();
            assert!(word.daemons.is_empty(), "there is one daemon");
            (word.rank.epoch, word.primary.map(|primary| primary.port))
        };
        assert_eq!(at_first_hand(&[]), None);
        let settled = said(word(5, Some(6379)), word(5, Some(6379)));
        assert_eq!(settled, (5, Some(6379)));
        // It has stepped back, which the other one has not heard yet.
        assert_eq!(said(word(5, None), word(5, Some(6379))), (5, None));
        // The other one was promoted, which the first has not heard yet.
        let promoted = said(word(5, None), word(6, Some(63791)));
        assert_eq!(promoted, (6, Some(63791)));
        let split = said(word(5, Some(6379)), word(6, Some(63791)));
        assert_eq!(split, (6, Some(63791)));
    }

    #[test]
    fn forks_are_heard_as_they_are_told() {
        let at = |whole| Forks::At {
            parent: ReplId("a".repeat(40)),
            offset: Offset(4711),
            whole,
        };
        for forks in [Forks::Untold, Forks::None, at(false), at(true)] {
            assert_eq!(Forks::heard(forks.told().as_deref()), forks);
        }
        assert_eq!(Forks::heard(Some("a b c")), Forks::None);
    }
}
