//! Views of servers for the unit tests of this crate.

use crate::ids::{Offset, ReplId, RunId};
use crate::server::{ServerRole, ServerView, Shown};

/// A primary with some keys.
pub(crate) fn primary_view(run_id: &str, replid: &str, offset: u64) -> ServerView {
    ServerView {
        pid: 100,
        run_id: RunId(run_id.into()),
        role: ServerRole::Primary,
        loading: false,
        replid: ReplId(replid.into()),
        replid2: ReplId("0".repeat(40)),
        second_offset: Offset(0),
        offset: Offset(offset),
        keys: 10,
        aof: false,
        expired: 0,
        online_replicas: 0,
        replicas: Vec::new(),
        syncs: 0,
        uptime_s: 1000,
        used_memory: 1 << 20,
        link_down_s: None,
        shown: Shown::default(),
    }
}

/// A replica in sync with 10.0.0.1:6379.
pub(crate) fn replica_view(run_id: &str, replid: &str, offset: u64) -> ServerView {
    ServerView {
        role: ServerRole::Replica {
            of: "10.0.0.1:6379".into(),
            link_up: true,
            syncing: false,
        },
        ..primary_view(run_id, replid, offset)
    }
}

/// An instant to count from. The only clock reading in this crate, and only in its tests.
#[allow(clippy::disallowed_methods)]
pub(crate) fn origin() -> std::time::Instant {
    std::time::Instant::now()
}
