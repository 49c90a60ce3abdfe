//! Commands that redis-sentinel 7.0 does not list and clients send all the same. They run here; `COMMAND` does not mention
//! them, and each goes by the permission of a listed command that is like it.

use super::bits::{CONNECTION, FAST, SLOW};
use super::{Entry, Listed};

const fn extra(name: &'static str, arity: i32, as_if: &'static str) -> Entry {
    Entry {
        name,
        arity,
        flags: &["loading", "stale", "fast"],
        categories: FAST | CONNECTION,
        tips: &[],
        summary: "",
        since: "",
        group: "connection",
        complexity: "",
        listed: Listed::Never,
        as_if,
    }
}

/// Allowed to strangers: it ends what was.
const fn farewell(name: &'static str, arity: i32) -> Entry {
    Entry {
        flags: &["loading", "stale", "fast", "no_auth"],
        ..extra(name, arity, "ping")
    }
}

/// Another word for a subcommand of SENTINEL.
const fn alias(name: &'static str, arity: i32, as_if: &'static str) -> Entry {
    Entry {
        flags: &["admin"],
        categories: SLOW,
        ..extra(name, arity, as_if)
    }
}

/// The commands that `COMMAND` is silent about.
pub(super) const EXTRAS: &[Entry] = &[
    extra("client|no-touch", 3, "client|no-evict"),
    Entry {
        flags: &["noscript", "loading", "stale"],
        categories: SLOW | CONNECTION,
        summary: "Takes the name and the version of the client's library.",
        since: "7.2.0",
        complexity: "O(1)",
        listed: Listed::From7_2,
        ..extra("client|setinfo", 4, "client|setname")
    },
    extra("echo", 2, "ping"),
    farewell("quit", -1),
    farewell("reset", 1),
    extra("select", 2, "ping"),
    // Valkey 8.
    alias(
        "sentinel|get-primary-addr-by-name",
        3,
        "sentinel|get-master-addr-by-name",
    ),
    alias(
        "sentinel|is-primary-down-by-addr",
        6,
        "sentinel|is-master-down-by-addr",
    ),
    alias("sentinel|primaries", 2, "sentinel|masters"),
    alias("sentinel|primary", 3, "sentinel|master"),
    // Ours: who is allowed to see all groups may see what we believe of them.
    alias("sentinel|tandem", -2, "sentinel|masters"),
];
