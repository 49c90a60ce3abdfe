//! Reading INFO: what a server says about itself.
//!
//! INFO is text for people that programs read: lines of `field:value` in sections, which differ by version. So
//! nothing here is an error. A field that is missing or unreadable is `None`; numbers that are counted
//! from nothing (keys, evictions) are 0. Whoever needs a field to decide refuses on `None`.
//!
//! Two spellings deserve a warning. Redis answers an `offset` of 0 or -1 where it means "not known", which is kept here
//! as it comes, except for the -1 of `second_repl_offset` and of the times. And Valkey calls itself `redis_version:7.2.4` for
//! the sake of old clients: [`ServerInfo::server_name`] tells it apart.

use std::net::IpAddr;

/// The role a server says it has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// `role:master`.
    Primary,
    /// `role:slave`, whether or not its primary exists.
    Replica,
}

/// A version, compared field by field.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Version {
    /// First number.
    pub major: u32,
    /// Second number.
    pub minor: u32,
    /// Third number; 0 if there is none.
    pub patch: u32,
}

impl Version {
    /// Reads `7.0.15`; what follows the third number (`-rc1`) is ignored.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let mut parts = text.splitn(3, '.');
        let major = parts.next()?.parse().ok()?;
        let minor = parts.next()?.parse().ok()?;
        let patch = parts.next().map_or("0", |part| {
            let end = part
                .find(|c: char| !c.is_ascii_digit())
                .unwrap_or(part.len());
            &part[..end]
        });
        Some(Self {
            major,
            minor,
            patch: patch.parse().ok()?,
        })
    }
}

impl std::fmt::Display for Version {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}.{}.{}", self.major, self.minor, self.patch)
    }
}

/// A replica as its primary sees it (`slave0:ip=...,port=...,state=...,offset=...,lag=...`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReplicaEntry {
    /// Its address, or a name if it announces one.
    pub ip: String,
    /// Its port.
    pub port: u16,
    /// `online`, or `wait_bgsave` or `send_bulk` while it is synced.
    pub state: String,
    /// The replication offset that it has acknowledged.
    pub offset: u64,
    /// Seconds since its last acknowledgement; `None` if it never sent one.
    pub lag_seconds: Option<u64>,
}

impl ReplicaEntry {
    /// Whether the first sync is over.
    #[must_use]
    pub fn is_online(&self) -> bool {
        self.state == "online"
    }

    /// The address, unless it is a name.
    #[must_use]
    pub fn address(&self) -> Option<IpAddr> {
        self.ip.parse().ok()
    }
}

/// What a server says about itself. `None`: the field was missing or unreadable.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ServerInfo {
    /// The Redis version; for Valkey, the one it is compatible with.
    pub redis_version: Option<Version>,
    /// `valkey` for Valkey; Redis has no such field.
    pub server_name: Option<String>,
    /// Valkey's own version.
    pub valkey_version: Option<Version>,
    /// The process.
    pub process_id: Option<u32>,
    /// Random, 40 hexadecimal digits; new with every start of the process.
    pub run_id: Option<String>,
    /// Seconds since the start of the process.
    pub uptime_seconds: Option<u64>,
    /// Reading its data from disk.
    pub loading: bool,
    /// Reading a primary's data while still serving its own old data (diskless load).
    pub async_loading: bool,
    /// The role.
    pub role: Option<Role>,
    /// Replica: the host of its primary.
    pub master_host: Option<String>,
    /// Replica: the port of its primary.
    pub master_port: Option<u16>,
    /// Replica: `master_link_status:up`. `None` on a primary.
    pub master_link_up: Option<bool>,
    /// Replica: a full sync is being received.
    pub master_sync_in_progress: bool,
    /// Replica: seconds since a byte came from the primary; `None` while the link is down.
    pub master_last_io_seconds_ago: Option<u64>,
    /// Replica: the offset that it has applied.
    pub slave_repl_offset: Option<u64>,
    /// Replica: the offset that it has read, at least the applied one. Before Redis 6.2.5 there is no such field.
    pub slave_read_repl_offset: Option<u64>,
    /// Replica: seconds since the link went down; `None` while it is up, or if it never was.
    pub master_link_down_since_seconds: Option<u64>,
    /// Replica: what Sentinel sorts replicas by; 0 is never promoted. `None` on a primary.
    pub slave_priority: Option<u32>,
    /// Replica: to be shown to clients (`replica_announced`, Redis 6.2 and later). `None` if missing.
    pub replica_announced: Option<bool>,
    /// Replica: refuses clients' writes (`slave_read_only`). `None` on a primary.
    pub replica_read_only: Option<bool>,
    /// How many replicas are connected.
    pub connected_slaves: u64,
    /// The connected replicas, in the order of the server.
    pub replicas: Vec<ReplicaEntry>,
    /// The lineage that the data belongs to.
    pub master_replid: Option<String>,
    /// The lineage before the last promotion; `None` if there is none (forty zeros).
    pub master_replid2: Option<String>,
    /// The end of the history: bytes ever written to it.
    pub master_repl_offset: Option<u64>,
    /// The first offset that is not of the lineage `master_replid2`: the fork point plus one. `None` without one.
    pub second_repl_offset: Option<u64>,
    /// There is a backlog, so a partial resync is possible.
    pub backlog_active: bool,
    /// Size of the backlog in bytes.
    pub backlog_size_bytes: u64,
    /// The oldest offset in the backlog.
    pub backlog_first_byte_offset: u64,
    /// Bytes in the backlog.
    pub backlog_histlen_bytes: u64,
    /// Append-only file in use.
    pub aof_enabled: bool,
    /// The last RDB was written without error. `None` if missing.
    pub rdb_last_bgsave_ok: Option<bool>,
    /// The last write to the AOF went well. `None` if missing.
    pub aof_last_write_ok: Option<bool>,
    /// Changes that no RDB holds.
    pub rdb_changes_since_last_save: u64,
    /// Keys in all databases.
    pub keys: u64,
    /// The databases that hold keys, ascending.
    pub databases: Vec<u32>,
    /// Keys removed because their time was up, since the start.
    pub expired_keys: u64,
    /// Keys removed for want of memory, since the start.
    pub evicted_keys: u64,
    /// Bytes allocated for data.
    pub used_memory_bytes: u64,
    /// The bound on it; 0 means none.
    pub maxmemory_bytes: u64,
    /// Commands run since the start.
    pub total_commands_processed: u64,
    /// Commands in the last second.
    pub commands_per_s: u64,
    /// Client connections, without replicas.
    pub connected_clients: u64,
    /// Accepted connections since the start, replicas and failed ones included.
    pub total_connections_received: u64,
    /// Full syncs given to replicas since the start.
    pub sync_full: u64,
    /// Partial syncs given to replicas since the start.
    pub sync_partial_ok: u64,
}

impl ServerInfo {
    /// Reads the answer to INFO, whole or some of its sections. Never fails; see the module.
    #[must_use]
    pub fn parse(text: &str) -> Self {
        let mut info = Self::default();
        for line in text.lines() {
            if let Some((field, value)) = line.trim_end_matches('\r').split_once(':') {
                info.set(field, value);
            }
        }
        info
    }

    /// Whether this is Valkey.
    #[must_use]
    pub fn is_valkey(&self) -> bool {
        self.server_name.as_deref() == Some("valkey")
    }

    fn set(&mut self, field: &str, value: &str) {
        match field {
            "redis_version" => self.redis_version = Version::parse(value),
            "server_name" => self.server_name = text(value),
            "valkey_version" => self.valkey_version = Version::parse(value),
            "process_id" => self.process_id = value.parse().ok(),
            "run_id" => self.run_id = text(value),
            "uptime_in_seconds" => self.uptime_seconds = value.parse().ok(),
            "loading" => self.loading = flag(value),
            "async_loading" => self.async_loading = flag(value),
            "role" => {
                self.role = match value {
                    "master" => Some(Role::Primary),
                    "slave" => Some(Role::Replica),
                    _ => None,
                }
            }
            "master_host" => self.master_host = text(value),
            "master_port" => self.master_port = value.parse().ok(),
            "master_link_status" => self.master_link_up = Some(value == "up"),
            "master_sync_in_progress" => self.master_sync_in_progress = flag(value),
            // The -1 of "not connected" is no u64 and so becomes None, here and below.
            "master_last_io_seconds_ago" => self.master_last_io_seconds_ago = value.parse().ok(),
            "slave_repl_offset" => self.slave_repl_offset = value.parse().ok(),
            "slave_read_repl_offset" => self.slave_read_repl_offset = value.parse().ok(),
            "master_link_down_since_seconds" => {
                self.master_link_down_since_seconds = value.parse().ok();
            }
            "slave_priority" => self.slave_priority = value.parse().ok(),
            "replica_announced" => self.replica_announced = Some(flag(value)),
            "slave_read_only" => self.replica_read_only = Some(flag(value)),
            "connected_slaves" => self.connected_slaves = count(value),
            "master_replid" => self.master_replid = text(value),
            "master_replid2" => {
                self.master_replid2 = text(value).filter(|id| id.bytes().any(|byte| byte != b'0'));
            }
            "master_repl_offset" => self.master_repl_offset = value.parse().ok(),
            "second_repl_offset" => self.second_repl_offset = value.parse().ok(),
            "repl_backlog_active" => self.backlog_active = flag(value),
            "repl_backlog_size" => self.backlog_size_bytes = count(value),
            "repl_backlog_first_byte_offset" => self.backlog_first_byte_offset = count(value),
            "repl_backlog_histlen" => self.backlog_histlen_bytes = count(value),
            "aof_enabled" => self.aof_enabled = flag(value),
            "rdb_last_bgsave_status" => self.rdb_last_bgsave_ok = Some(value == "ok"),
            "aof_last_write_status" => self.aof_last_write_ok = Some(value == "ok"),
            "rdb_changes_since_last_save" => self.rdb_changes_since_last_save = count(value),
            "expired_keys" => self.expired_keys = count(value),
            "evicted_keys" => self.evicted_keys = count(value),
            "used_memory" => self.used_memory_bytes = count(value),
            "maxmemory" => self.maxmemory_bytes = count(value),
            "total_commands_processed" => self.total_commands_processed = count(value),
            "instantaneous_ops_per_sec" => self.commands_per_s = count(value),
            "connected_clients" => self.connected_clients = count(value),
            "total_connections_received" => self.total_connections_received = count(value),
            "sync_full" => self.sync_full = count(value),
            "sync_partial_ok" => self.sync_partial_ok = count(value),
            other => self.set_numbered(other, value),
        }
    }

    /// `slave0`, `db3`: fields whose name ends in a number.
    fn set_numbered(&mut self, field: &str, value: &str) {
        let number = |prefix: &str| field.strip_prefix(prefix)?.parse::<u32>().ok();
        if let Some(db) = number("db") {
            if let Some(keys) = part(value, "keys") {
                self.keys += count(keys);
                self.databases.push(db);
            }
        } else if number("slave").is_some()
            && let Some(entry) = replica(value)
        {
            self.replicas.push(entry);
        }
    }
}

fn text(value: &str) -> Option<String> {
    (!value.is_empty()).then(|| value.to_owned())
}

fn flag(value: &str) -> bool {
    value == "1"
}

fn count(value: &str) -> u64 {
    value.parse().unwrap_or(0)
}

/// The value of `name` in `a=1,b=2`.
fn part<'a>(value: &'a str, name: &str) -> Option<&'a str> {
    value
        .split(',')
        .find_map(|part| part.strip_prefix(name)?.strip_prefix('='))
}

fn replica(value: &str) -> Option<ReplicaEntry> {
    Some(ReplicaEntry {
        ip: part(value, "ip")?.to_owned(),
        port: part(value, "port")?.parse().ok()?,
        state: part(value, "state")?.to_owned(),
        offset: part(value, "offset").map_or(0, count),
        lag_seconds: part(value, "lag").and_then(|lag| lag.parse().ok()),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions() {
        let version = |major, minor, patch| {
            Some(Version {
                major,
                minor,
                patch,
            })
        };
        assert_eq!(Version::parse("7.0.15"), version(7, 0, 15));
        assert_eq!(Version::parse("8.0.0-rc1"), version(8, 0, 0));
        assert_eq!(Version::parse("7.2"), version(7, 2, 0));
        assert_eq!(Version::parse("unstable"), None);
        assert!(Version::parse("6.2.0") < Version::parse("6.10.0"));
    }

    #[test]
    fn unreadable_and_missing_fields_are_none() {
        let info = ServerInfo::parse(
            "process_id:x\r\nmaster_repl_offset:-1\r\nrole:sentinel\r\nnoise\r\n:\r\n",
        );
        assert_eq!(info, ServerInfo::default());
    }

    #[test]
    fn a_replica_entry_without_lag_and_one_that_is_none() {
        let text = "slave0:ip=replica.example,port=1,state=wait_bgsave,offset=0\r\nslave1:port=2\r\nslave_priority:100\r\n";
        let info = ServerInfo::parse(text);
        assert_eq!(info.replicas.len(), 1);
        assert_eq!(info.replicas[0].address(), None);
        assert_eq!(info.replicas[0].lag_seconds, None);
        assert!(!info.replicas[0].is_online());
    }
}
