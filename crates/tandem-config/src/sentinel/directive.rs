//! The other directives of redis.conf: accepted because redis-sentinel accepts them, told apart by what a sentinel makes of
//! them.

use super::setting::SETTINGS;

/// What a directive is to a sentinel that has no row in the table of settings for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Meaning {
    /// Written by redis-sentinel itself into every file; nothing to tell anybody.
    Silent,
    /// Of redis.conf, without effect here.
    None,
    /// Not known.
    Unknown,
}

/// What redis-sentinel adds to files by itself.
const SILENT: &[&str] = &["latency-tracking-info-percentiles"];

/// Directives of redis.conf from 2.8 to 8 and of Valkey to 9, old names included. Only whether a name is known matters, so
/// that a misspelt one can be told from one that means nothing here.
const KNOWN: &[&str] = &[
    "acl-pubsub-default",
    "active-defrag-cycle-max",
    "active-defrag-cycle-min",
    "active-defrag-cycle-us",
    "active-defrag-ignore-bytes",
    "active-defrag-max-scan-fields",
    "active-defrag-threshold-lower",
    "active-defrag-threshold-upper",
    "active-expire-effort",
    "activedefrag",
    "activerehashing",
    "always-show-logo",
    "aof-disable-auto-gc",
    "aof-load-corrupt-tail-max-size",
    "aof-load-truncated",
    "aof-rewrite-cpulist",
    "aof-rewrite-incremental-fsync",
    "aof-timestamp-enabled",
    "aof-use-rdb-preamble",
    "aof_rewrite_cpulist",
    "appenddirname",
    "appendfilename",
    "appendfsync",
    "appendonly",
    "auto-aof-rewrite-min-size",
    "auto-aof-rewrite-percentage",
    "availability-zone",
    "bgsave_cpulist",
    "bgsave-cpulist",
    "bio_cpulist",
    "bio-cpulist",
    "busy-reply-threshold",
    "client-default-resp",
    "client-output-buffer-limit",
    "client-query-buffer-limit",
    "cluster-allow-pubsubshard-when-down",
    "cluster-allow-reads-when-down",
    "cluster-allow-replica-migration",
    "cluster-announce-bus-port",
    "cluster-announce-client-ipv4",
    "cluster-announce-client-ipv6",
    "cluster-announce-client-port",
    "cluster-announce-client-tls-port",
    "cluster-announce-hostname",
    "cluster-announce-human-nodename",
    "cluster-announce-ip",
    "cluster-announce-port",
    "cluster-announce-tls-port",
    "cluster-blacklist-ttl",
    "cluster-compatibility-sample-ratio",
    "cluster-config-file",
    "cluster-config-save-behavior",
    "cluster-databases",
    "cluster-enabled",
    "cluster-link-sendbuf-limit",
    "cluster-manual-failover-timeout",
    "cluster-migration-barrier",
    "cluster-node-timeout",
    "cluster-port",
    "cluster-preferred-endpoint-type",
    "cluster-replica-no-failover",
    "cluster-replica-validity-factor",
    "cluster-require-full-coverage",
    "cluster-slave-no-failover",
    "cluster-slave-validity-factor",
    "cluster-slot-migration-handoff-max-lag-bytes",
    "cluster-slot-migration-write-pause-timeout",
    "cluster-slot-migration-log-max-len",
    "cluster-slot-stats-enabled",
    "commandlog-execution-slower-than",
    "commandlog-large-reply-max-len",
    "commandlog-large-request-max-len",
    "commandlog-reply-larger-than",
    "commandlog-request-larger-than",
    "commandlog-slow-execution-max-len",
    "crash-log-enabled",
    "crash-memcheck-enabled",
    "databases",
    "dbfilename",
    "disable-thp",
    "dual-channel-replication-enabled",
    "dynamic-hz",
    "enable-debug-command",
    "enable-module-command",
    "enable-protected-configs",
    "events-per-io-thread",
    "extended-redis-compatibility",
    "gopher-enabled",
    "hash-max-listpack-entries",
    "hash-max-listpack-value",
    "hash-max-ziplist-entries",
    "hash-max-ziplist-value",
    "hash-seed",
    "hide-user-data-from-log",
    "hll-sparse-max-bytes",
    "hz",
    "ignore-warnings",
    "import-mode",
    "io-threads",
    "io-threads-always-active",
    "io-threads-do-reads",
    "jemalloc-bg-thread",
    "key-load-delay",
    "latency-monitor-threshold",
    "latency-tracking",
    "lazyfree-lazy-eviction",
    "lazyfree-lazy-expire",
    "lazyfree-lazy-server-del",
    "lazyfree-lazy-user-del",
    "lazyfree-lazy-user-flush",
    "lfu-decay-time",
    "lfu-log-factor",
    "list-compress-depth",
    "list-max-listpack-size",
    "list-max-ziplist-entries",
    "list-max-ziplist-size",
    "list-max-ziplist-value",
    "loading-process-events-interval-bytes",
    "loadmodule",
    "locale-collate",
    "log-format",
    "log-timestamp-format",
    "lua-enable-deprecated-api",
    "lua-enable-insecure-api",
    "lua-replicate-commands",
    "lua-time-limit",
    "masterauth",
    "masteruser",
    "max-new-connections-per-cycle",
    "max-new-tls-connections-per-cycle",
    "maxmemory",
    "maxmemory-clients",
    "maxmemory-eviction-tenacity",
    "maxmemory-policy",
    "maxmemory-samples",
    "min-io-threads-avoid-copy-reply",
    "min-replicas-max-lag",
    "min-replicas-to-write",
    "min-slaves-max-lag",
    "min-slaves-to-write",
    "min-string-size-avoid-copy-reply",
    "min-string-size-avoid-copy-reply-threaded",
    "mptcp",
    "no-appendfsync-on-rewrite",
    "notify-keyspace-events",
    "oom-score-adj",
    "oom-score-adj-values",
    "prefetch-batch-max-size",
    "primaryauth",
    "primaryuser",
    "proc-title-template",
    "propagation-error-behavior",
    "proto-max-bulk-len",
    "rdb-del-sync-files",
    "rdb-key-save-delay",
    "rdb-save-incremental-fsync",
    "rdb-version-check",
    "rdbchecksum",
    "rdbcompression",
    "rdma-bind",
    "rdma-completion-vector",
    "rdma-port",
    "rdma-rx-size",
    "rename-command",
    "repl-backlog-size",
    "repl-backlog-ttl",
    "repl-disable-tcp-nodelay",
    "repl-diskless-load",
    "repl-diskless-sync",
    "repl-diskless-sync-delay",
    "repl-diskless-sync-max-replicas",
    "repl-mptcp",
    "repl-ping-replica-period",
    "repl-ping-slave-period",
    "repl-timeout",
    "replica-announce-ip",
    "replica-announce-port",
    "replica-announced",
    "replica-full-sync-buffer-limit",
    "replica-ignore-disk-write-errors",
    "replica-ignore-maxmemory",
    "replica-lazy-flush",
    "replica-priority",
    "replica-read-only",
    "replica-serve-stale-data",
    "replicaof",
    "req-res-logfile",
    "sanitize-dump-payload",
    "save",
    "server-cpulist",
    "server_cpulist",
    "set-max-intset-entries",
    "set-max-listpack-entries",
    "set-max-listpack-value",
    "set-proc-title",
    "shutdown-on-sigint",
    "shutdown-on-sigterm",
    "shutdown-timeout",
    "slave-announce-ip",
    "slave-announce-port",
    "slave-ignore-maxmemory",
    "slave-lazy-flush",
    "slave-priority",
    "slave-read-only",
    "slave-serve-stale-data",
    "slaveof",
    "slot-migration-max-failover-repl-bytes",
    "slowlog-log-slower-than",
    "slowlog-max-len",
    "socket-mark-id",
    "stop-writes-on-bgsave-error",
    "stream-node-max-bytes",
    "stream-node-max-entries",
    "tls-auth-clients-user",
    "tls-auto-reload-interval",
    "tls-cluster",
    "tracking-table-max-keys",
    "unixsocketgroup",
    "use-exit-on-panic",
    "vm-enabled",
    "watchdog-period",
    "zset-max-listpack-entries",
    "zset-max-listpack-value",
    "zset-max-ziplist-entries",
    "zset-max-ziplist-value",
];

/// What the name, in lower case, means here.
pub(super) fn meaning(name: &str) -> Meaning {
    if SILENT.contains(&name) {
        Meaning::Silent
    } else if KNOWN.contains(&name) || name.contains('.') {
        // A dot marks the setting of a module.
        Meaning::None
    } else {
        Meaning::Unknown
    }
}

/// The directive that was probably meant by an unknown name.
pub(super) fn nearest(name: &str) -> Option<&'static str> {
    let own = ["sentinel", "include", "user"];
    let settings = SETTINGS.iter().map(|setting| setting.name);
    let known = settings.chain(own).chain(KNOWN.iter().copied());
    crate::suggest::nearest(name, known.chain(SILENT.iter().copied()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_in_one_list_only() {
        let mut seen = std::collections::BTreeSet::new();
        let settings = SETTINGS.iter().map(|setting| setting.name);
        for name in settings
            .chain(KNOWN.iter().copied())
            .chain(SILENT.iter().copied())
        {
            assert!(seen.insert(name), "{name} is there twice");
        }
    }

    #[test]
    fn names_mean_what_the_lists_say() {
        assert_eq!(meaning("appendonly"), Meaning::None);
        assert_eq!(meaning("search.timeout"), Meaning::None);
        assert_eq!(
            meaning("latency-tracking-info-percentiles"),
            Meaning::Silent
        );
        assert_eq!(meaning("requirepas"), Meaning::Unknown);
        assert_eq!(nearest("requirepas"), Some("requirepass"));
        assert_eq!(nearest("quantum-entanglement"), None);
    }
}
