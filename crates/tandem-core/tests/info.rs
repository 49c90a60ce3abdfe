//! INFO as real servers print it. The texts in `data/info` were recorded from a primary with one replica, from
//! that replica, and from the replica after `REPLICAOF 127.0.0.1 1`; five keys each in databases 0 and 3.

use tandem_core::info::{Role, ServerInfo, Version};

struct Recorded {
    name: &'static str,
    version: (u32, u32, u32),
    offset: u64,
    backlog_size_bytes: u64,
    primary: &'static str,
    replica: &'static str,
    fenced: &'static str,
}

const RECORDED: [Recorded; 3] = [
    Recorded {
        name: "redis 6.2",
        version: (6, 2, 14),
        offset: 620,
        backlog_size_bytes: 1 << 20,
        primary: include_str!("data/info/redis-6.2-primary.txt"),
        replica: include_str!("data/info/redis-6.2-replica.txt"),
        fenced: include_str!("data/info/redis-6.2-fenced.txt"),
    },
    Recorded {
        name: "redis 7.0",
        version: (7, 0, 15),
        offset: 665,
        backlog_size_bytes: 1 << 20,
        primary: include_str!("data/info/redis-7.0-primary.txt"),
        replica: include_str!("data/info/redis-7.0-replica.txt"),
        fenced: include_str!("data/info/redis-7.0-fenced.txt"),
    },
    Recorded {
        name: "valkey 9.1",
        version: (7, 2, 4),
        offset: 679,
        backlog_size_bytes: 10 << 20,
        primary: include_str!("data/info/valkey-9.1-primary.txt"),
        replica: include_str!("data/info/valkey-9.1-replica.txt"),
        fenced: include_str!("data/info/valkey-9.1-fenced.txt"),
    },
];

#[test]
fn common_fields() {
    for recorded in &RECORDED {
        for text in [recorded.primary, recorded.replica, recorded.fenced] {
            let info = ServerInfo::parse(text);
            let name = recorded.name;
            let (major, minor, patch) = recorded.version;
            assert_eq!(
                info.redis_version,
                Some(Version {
                    major,
                    minor,
                    patch
                }),
                "{name}"
            );
            assert_eq!(info.is_valkey(), name == "valkey 9.1", "{name}");
            assert!(info.process_id.is_some(), "{name}");
            assert_eq!(info.run_id.as_deref().map(str::len), Some(40), "{name}");
            assert_eq!(
                info.master_replid.as_deref().map(str::len),
                Some(40),
                "{name}"
            );
            assert_eq!(info.master_replid2, None, "{name}");
            assert_eq!(info.second_repl_offset, None, "{name}");
            assert_eq!(info.master_repl_offset, Some(recorded.offset), "{name}");
            assert!(info.backlog_active, "{name}");
            assert_eq!(
                info.backlog_size_bytes, recorded.backlog_size_bytes,
                "{name}"
            );
            assert_eq!(info.backlog_first_byte_offset, 1, "{name}");
            assert_eq!(info.backlog_histlen_bytes, recorded.offset, "{name}");
            assert_eq!((info.keys, info.databases), (10, vec![0, 3]), "{name}");
            assert_eq!(info.rdb_last_bgsave_ok, Some(true), "{name}");
            assert_eq!(info.aof_last_write_ok, Some(true), "{name}");
            assert!(!info.loading && !info.aof_enabled, "{name}");
            assert!(info.used_memory_bytes > 100_000, "{name}");
            assert_eq!(info.maxmemory_bytes, 0, "{name}");
            assert!(info.total_commands_processed > 0, "{name}");
            assert!(info.connected_clients > 0, "{name}");
        }
    }
}

#[test]
fn a_primary_lists_its_replica() {
    for recorded in &RECORDED {
        let info = ServerInfo::parse(recorded.primary);
        assert_eq!(info.role, Some(Role::Primary));
        assert_eq!((info.master_link_up, info.master_host), (None, None));
        assert_eq!(info.connected_slaves, 1);
        assert_eq!(info.replicas.len(), 1, "{}", recorded.name);
        let replica = &info.replicas[0];
        assert!(replica.is_online());
        assert_eq!(replica.address(), Some([127, 0, 0, 1].into()));
        assert_eq!(replica.offset, recorded.offset);
        assert!(replica.lag_seconds.is_some());
    }
}

#[test]
fn a_replica_and_a_fenced_server_differ_by_their_link() {
    for recorded in &RECORDED {
        let replica = ServerInfo::parse(recorded.replica);
        assert_eq!(replica.role, Some(Role::Replica));
        assert_eq!(replica.master_link_up, Some(true));
        assert_eq!(replica.master_last_io_seconds_ago, Some(2));
        assert_eq!(replica.master_link_down_since_seconds, None);
        let fenced = ServerInfo::parse(recorded.fenced);
        assert_eq!(fenced.role, Some(Role::Replica));
        assert_eq!(fenced.master_host.as_deref(), Some("127.0.0.1"));
        assert_eq!(fenced.master_port, Some(1));
        assert_eq!(fenced.master_link_up, Some(false));
        assert_eq!(fenced.master_last_io_seconds_ago, None);
        assert_eq!(fenced.master_link_down_since_seconds, Some(1));
        // The fence keeps data, lineage and offset.
        assert_eq!(fenced.master_replid, replica.master_replid);
        for info in [replica, fenced] {
            assert_eq!(info.replica_read_only, Some(true));
            assert_eq!(info.slave_repl_offset, Some(recorded.offset));
            assert_eq!(info.slave_read_repl_offset, Some(recorded.offset));
            assert!(!info.master_sync_in_progress);
        }
    }
}
