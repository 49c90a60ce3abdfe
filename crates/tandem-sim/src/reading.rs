//! INFO of a simulated server, as the shell reads it.

use tandem_core::ids::{Offset, ReplId, RunId};
use tandem_core::server::{FENCE_ADDRESS, OnlineReplica, ServerRole, ServerView, Shown};

use crate::chance::{SEC, Us};
use crate::redis::{Link, Persistence, Proc, Target};
use crate::world::{ADDRESSES, World, other};

pub(crate) fn hex(id: u64) -> String {
    format!("{id:040x}")
}

/// What INFO of this process says.
fn view_of(
    proc: &Proc,
    persistence: Persistence,
    peer: &str,
    replica: Option<OnlineReplica>,
    now: Us,
) -> ServerView {
    let role = match proc.of {
        None => ServerRole::Primary,
        Some(target) => ServerRole::Replica {
            of: match target {
                Target::Fence => FENCE_ADDRESS.to_owned(),
                Target::Peer => peer.to_owned(),
            },
            link_up: proc.link_up(),
            syncing: matches!(proc.link, Link::Full { .. }),
        },
    };
    ServerView {
        pid: u32::try_from(proc.run & 0xffff_ffff).unwrap_or(1),
        run_id: RunId(hex(proc.run)),
        role,
        loading: proc.is_loading(now),
        replid: ReplId(hex(proc.replid)),
        replid2: ReplId(hex(proc.replid2)),
        second_offset: Offset(proc.second),
        offset: Offset(proc.offset),
        keys: proc.data.len(),
        aof: persistence == Persistence::Aof,
        expired: 0,
        online_replicas: u32::from(replica.is_some()),
        replicas: replica.into_iter().collect(),
        syncs: proc.syncs,
        uptime_s: now / SEC - proc.started / SEC,
        used_memory: 1 << 20,
        link_down_s: None,
        shown: Shown::default(),
    }
}

impl World {
    /// INFO of a host's server, which must not be frozen.
    pub(crate) fn view(&self, h: usize) -> Option<Box<ServerView>> {
        let server = &self.hosts[h].server;
        let proc = server.proc.as_ref()?;
        let peer = ADDRESSES[other(h)];
        let replica = self.acknowledges(h);
        Some(Box::new(view_of(
            proc,
            server.persistence,
            peer,
            replica,
            self.now,
        )))
    }

    /// The other host's server as a replica of this one, as INFO shows it.
    fn acknowledges(&self, h: usize) -> Option<OnlineReplica> {
        let run = self.hosts[h].server.proc.as_ref()?.run;
        let theirs = self.hosts[other(h)].server.proc.as_ref()?;
        let Link::Up(conn) = &theirs.link else {
            return None;
        };
        let (acked, at) = conn.acked.unwrap_or((0, self.now));
        self.follows(other(h), run).then(|| OnlineReplica {
            address: ADDRESSES[other(h)].to_owned(),
            acked: Offset(acked),
            // Whole seconds of the clock.
            lag_s: self.now / SEC - at / SEC,
        })
    }
}
