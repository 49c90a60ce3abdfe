//! What the keeper knows of a server: the part of INFO that decisions rest on.

use std::net::SocketAddr;

use serde::{Deserialize, Serialize};

use crate::ids::{Offset, ReplId, RunId};
use crate::info::{Role, ServerInfo};

/// The role a server reports.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ServerRole {
    /// `role:master`: it accepts writes.
    Primary,
    /// `role:slave`.
    Replica {
        /// `master_host:master_port` as it was told; `127.0.0.1:1` is our fence.
        of: String,
        /// `master_link_status:up`.
        link_up: bool,
        /// A full sync is under way or has not completed yet.
        syncing: bool,
    },
}

/// Bound on the replicas that a reading carries.
pub const REPLICAS_SHOWN: usize = 16;

/// The address a fenced server is told to follow: nothing listens there (rule of design section 6).
pub const FENCE_ADDRESS: &str = "127.0.0.1:1";

/// A replica that its primary calls online (`slave0:...,state=online,...`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OnlineReplica {
    /// Where it listens, as `ip:port`.
    pub address: String,
    /// What it has acknowledged; 0 before the first time.
    pub acked: Offset,
    /// Seconds since it acknowledged last, or since it was called online. Redis counts in whole
    /// seconds of the wall clock.
    pub lag_s: u64,
}

/// One reading of a server's INFO.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServerView {
    /// Process id as the server reports it.
    pub pid: u32,
    /// Changes with each start of the process.
    pub run_id: RunId,
    /// Primary or replica, and of whom.
    pub role: ServerRole,
    /// `loading:1`: the data set is being read from disk.
    pub loading: bool,
    /// `master_replid`.
    pub replid: ReplId,
    /// `master_replid2`: the lineage it was promoted from.
    pub replid2: ReplId,
    /// `second_repl_offset`: first offset that is no longer shared with `replid2`; 0 when unset.
    pub second_offset: Offset,
    /// `master_repl_offset`, which on a replica is what it has applied.
    pub offset: Offset,
    /// Keys in all databases.
    pub keys: u64,
    /// AOF is on: a restart gives a new lineage and offset 0 (rule 16).
    pub aof: bool,
    /// Expired plus evicted keys since start: deletions no client asked for.
    pub expired: u64,
    /// Replicas that are attached and online, which does not say that the stream reaches them.
    pub online_replicas: u32,
    /// The first of them, at most [`REPLICAS_SHOWN`]; only in a reading of our own server.
    #[serde(skip)]
    pub replicas: Vec<OnlineReplica>,
    /// Syncs it has given to replicas since its start, full and partial.
    #[serde(skip)]
    pub syncs: u64,
    /// Seconds since the process started.
    pub uptime_s: u64,
    /// Memory in use, bytes: the cost of a full resync.
    pub used_memory: u64,
    /// `master_link_down_since_seconds` or `last_io`, for display; `None` when linked.
    pub link_down_s: Option<u64>,
    /// Only for people; nothing is decided by it.
    #[serde(default, skip_serializing_if = "Shown::is_unknown")]
    pub shown: Shown,
}

/// What people like to see of a server beside what matters.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Shown {
    /// Its version; with its name where that is not Redis.
    pub version: String,
    /// Connections of clients, this program's own included.
    pub clients: u64,
    /// Commands in the last second, on a replica those of the stream included.
    pub commands_per_s: u64,
}

impl Shown {
    fn is_unknown(&self) -> bool {
        *self == Self::default()
    }

    fn of(info: &ServerInfo) -> Self {
        let version = match (info.valkey_version, info.redis_version) {
            (Some(version), _) => format!("Valkey {version}"),
            (None, Some(version)) => version.to_string(),
            (None, None) => String::new(),
        };
        Self {
            version,
            clients: info.connected_clients,
            commands_per_s: info.commands_per_s,
        }
    }
}

impl ServerView {
    /// It accepts writes from anyone who reaches its port.
    pub fn is_writable(&self) -> bool {
        self.role == ServerRole::Primary
    }

    /// It follows somebody, or nobody by our own order.
    pub fn is_replica(&self) -> bool {
        !self.is_writable()
    }

    /// It follows nobody by our own order.
    pub fn is_fenced(&self) -> bool {
        matches!(&self.role, ServerRole::Replica { of, .. } if of == FENCE_ADDRESS)
    }

    /// It was told to follow `address`.
    pub fn follows(&self, address: &str) -> bool {
        matches!(&self.role, ServerRole::Replica { of, .. } if of == address)
    }

    /// It follows somebody, the link is up and no sync is under way.
    pub fn in_sync(&self) -> bool {
        matches!(
            self.role,
            ServerRole::Replica {
                link_up: true,
                syncing: false,
                ..
            }
        ) && !self.loading
    }

    /// The last offset it shares with the lineage it was promoted from.
    pub fn fork_offset(&self) -> Option<Offset> {
        if self.replid2.is_none() || self.second_offset.0 == 0 {
            None
        } else {
            Some(Offset(self.second_offset.0 - 1))
        }
    }
}

impl ServerView {
    /// The view that a reading of INFO gives; `None` while it lacks what decisions rest on.
    pub fn from_info(info: &ServerInfo) -> Option<Self> {
        let role = match info.role? {
            Role::Primary => ServerRole::Primary,
            Role::Replica => ServerRole::Replica {
                of: format!(
                    "{}:{}",
                    info.master_host.as_deref().unwrap_or("?"),
                    info.master_port.unwrap_or(0)
                ),
                link_up: info.master_link_up.unwrap_or(false),
                syncing: info.master_sync_in_progress,
            },
        };
        let online = || info.replicas.iter().filter(|replica| replica.is_online());
        let replicas = online()
            .take(REPLICAS_SHOWN)
            .map(|replica| OnlineReplica {
                address: replica.address().map_or_else(
                    || format!("{}:{}", replica.ip, replica.port),
                    |ip| SocketAddr::new(ip, replica.port).to_string(),
                ),
                acked: Offset(replica.offset),
                lag_s: replica.lag_seconds.unwrap_or(u64::MAX),
            })
            .collect();
        Some(Self {
            pid: info.process_id?,
            run_id: RunId(info.run_id.clone()?),
            role,
            loading: info.loading || info.async_loading,
            replid: ReplId(info.master_replid.clone()?),
            replid2: ReplId(info.master_replid2.clone().unwrap_or_default()),
            second_offset: Offset(info.second_repl_offset.unwrap_or(0)),
            offset: Offset(info.master_repl_offset.unwrap_or(0)),
            keys: info.keys,
            aof: info.aof_enabled,
            expired: info.expired_keys.saturating_add(info.evicted_keys),
            online_replicas: u32::try_from(online().count()).unwrap_or(u32::MAX),
            replicas,
            syncs: info.sync_full.saturating_add(info.sync_partial_ok),
            uptime_s: info.uptime_seconds.unwrap_or(0),
            used_memory: info.used_memory_bytes,
            link_down_s: info.master_link_down_since_seconds,
            shown: Shown::of(info),
        })
    }
}
