//! Which connections replication runs over, learnt while nothing happens.
//!
//! When a server dies its kernel is asked what it still delivers (`docs/decisions/016-last-words.md`). Finding the connections takes
//! a walk over all of the kernel's, milliseconds on a large machine; asking for one that is known takes none. So whoever watches a
//! server asks it which ones they are, whenever INFO shows that they may be others than before.
//!
//! What is kept here may be outdated at any time, and nobody may rely on it: the dead server's host asks its kernel for the very
//! sockets that it learnt, and the drain asks its server again in one breath with INFO.

use std::net::IpAddr;
use std::sync::Mutex;

use tandem_core::ids::RunId;
use tandem_core::server::{ServerRole, ServerView};
use tandem_core::statement::LAST_WORDS_MAX;
use tandem_resp::Value;

use super::server::lock;
use crate::linux::sockdiag::{Ends, SocketDiag, State, TcpSocket};
use crate::redis::streams::{Towards, named};

/// What a reading of INFO says of the connections. While it stays the same, so do they, as far as it shows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Sign {
    /// It feeds replicas. Each sync, partial or full, is another connection.
    Primary {
        run_id: RunId,
        syncs: u64,
        online: u32,
    },
    /// It reads from a primary. That it has connected anew between two readings does not show.
    Replica { run_id: RunId, of: String },
}

impl Sign {
    /// `None` while there is no connection to ask for.
    pub(super) fn of(view: &ServerView) -> Option<Self> {
        let run_id = view.run_id.clone();
        match &view.role {
            ServerRole::Primary => (view.online_replicas > 0).then_some(Self::Primary {
                run_id,
                syncs: view.syncs,
                online: view.online_replicas,
            }),
            ServerRole::Replica { of, link_up, .. } => {
                let of = of.clone();
                link_up.then_some(Self::Replica { run_id, of })
            }
        }
    }

    /// What the server is to be asked.
    pub(super) fn asks(&self) -> Towards {
        match self {
            Self::Primary { .. } => Towards::Replicas,
            Self::Replica { .. } => Towards::Primary,
        }
    }
}

/// What was learnt of a server's connections.
#[derive(Debug, Default)]
pub(crate) struct Streams(Mutex<Known>);

#[derive(Debug, Default)]
struct Known {
    /// A replica's to its primary.
    up: Option<Ends>,
    /// A primary's to its replicas.
    down: Vec<TcpSocket>,
}

impl Streams {
    /// They may be others.
    pub(super) fn forget(&self) {
        *lock(&self.0) = Known::default();
    }

    /// Takes the server's answer.
    pub(super) fn learn(&self, towards: Towards, answer: &Value) {
        let named = named(answer).unwrap_or_default();
        match towards {
            Towards::Primary => lock(&self.0).up = only(&named),
            Towards::Replicas => {
                let down = sockets(&named).unwrap_or_default();
                lock(&self.0).down = down;
            }
        }
    }

    /// The connection that a replica is likely to read from.
    pub(super) fn upstream(&self) -> Option<Ends> {
        lock(&self.0).up
    }

    /// The connections that a dead primary fed on that host, as they are now. `None` if they are not what was learnt: then
    /// there may be others.
    pub(super) fn downstream(&self, diag: &mut SocketDiag, host: IpAddr) -> Option<Vec<TcpSocket>> {
        let known = lock(&self.0).down.clone();
        let learnt = known.iter().filter(|socket| socket.remote.ip() == host);
        let now: Option<Vec<TcpSocket>> = learnt
            .map(|socket| diag.again(socket).ok()?.filter(still_delivers))
            .collect();
        now.filter(|sockets| !sockets.is_empty())
    }
}

/// Only this side has ended it, if anybody has: the other one still reads.
fn still_delivers(socket: &TcpSocket) -> bool {
    matches!(
        socket.state,
        State::Established | State::FinWait1 | State::FinWait2
    )
}

/// A replica reads from one primary.
pub(super) fn only(named: &[Ends]) -> Option<Ends> {
    match named {
        [ends] => Some(*ends),
        _ => None,
    }
}

/// Those that this kernel knows: a server in a container may have a network of its own.
fn sockets(named: &[Ends]) -> Option<Vec<TcpSocket>> {
    let mut diag = SocketDiag::open().ok()?;
    let named = named.iter().take(LAST_WORDS_MAX);
    Some(named.filter_map(|ends| diag.find(*ends).ok()?).collect())
}

#[cfg(test)]
mod tests;
