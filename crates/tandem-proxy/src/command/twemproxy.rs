//! What nutcracker 0.5.0 takes and how it routes it, for pools of [`Compat::Twemproxy`](crate::settings::Compat).
//!
//! It looks at the first argument only, so commands over several keys work there for those who keep the keys together by
//! tags, and go wrong in silence for others. Such a pool is not to get errors for what it was allowed before. Two things are
//! done better than there, which changes no placement of data: EXISTS is cut like the other four, and ZUNION, ZINTER and
//! ZDIFF go by their first key, where nutcracker takes their *number* of keys for one.

use super::keys::KeyList;
use super::{Command, Route};

/// Commands by how many arguments, the name included, nutcracker takes them with; all others it answers by closing the
/// connection.
const EXACTLY: [(usize, &[&str]); 5] = [
    (1, &["ping", "quit", "command"]),
    (
        2,
        &[
            "auth", "persist", "pttl", "ttl", "type", "dump", "decr", "get", "getdel", "incr",
            "strlen", "hgetall", "hkeys", "hlen", "hvals", "llen", "scard", "smembers", "zcard",
        ],
    ),
    (
        3,
        &[
            "expire",
            "expireat",
            "pexpire",
            "pexpireat",
            "move",
            "append",
            "decrby",
            "getbit",
            "getset",
            "incrby",
            "incrbyfloat",
            "setnx",
            "hexists",
            "hget",
            "hstrlen",
            "lindex",
            "rpoplpush",
            "sismember",
            "zrank",
            "zrevrank",
            "zscore",
        ],
    ),
    (
        4,
        &[
            "getrange",
            "psetex",
            "setbit",
            "setex",
            "setrange",
            "hincrby",
            "hincrbyfloat",
            "hsetnx",
            "lrange",
            "lrem",
            "lset",
            "ltrim",
            "smove",
            "zcount",
            "zlexcount",
            "zincrby",
            "zremrangebylex",
            "zremrangebyrank",
            "zremrangebyscore",
        ],
    ),
    (5, &["linsert", "lmove"]),
];

/// Likewise, with at least so many.
const AT_LEAST: [(usize, &[&str]); 3] = [
    (1, &["lolwut"]),
    (
        2,
        &[
            "sort",
            "copy",
            "bitcount",
            "bitpos",
            "bitfield",
            "exists",
            "getex",
            "set",
            "hdel",
            "hmget",
            "hmset",
            "hscan",
            "hset",
            "hrandfield",
            "lpush",
            "lpushx",
            "rpush",
            "rpushx",
            "lpop",
            "rpop",
            "lpos",
            "sadd",
            "sdiff",
            "sdiffstore",
            "sinter",
            "sinterstore",
            "srem",
            "sunion",
            "sunionstore",
            "srandmember",
            "sscan",
            "spop",
            "smismember",
            "pfadd",
            "pfmerge",
            "pfcount",
            "zadd",
            "zdiff",
            "zdiffstore",
            "zinter",
            "zinterstore",
            "zmscore",
            "zpopmax",
            "zpopmin",
            "zrandmember",
            "zrange",
            "zrangebylex",
            "zrangebyscore",
            "zrangestore",
            "zrem",
            "zrevrange",
            "zrevrangebylex",
            "zrevrangebyscore",
            "zscan",
            "zunion",
            "zunionstore",
            "geodist",
            "geopos",
            "geohash",
            "geoadd",
            "georadius",
            "georadiusbymember",
            "geosearch",
            "geosearchstore",
            "restore",
            "mget",
            "del",
            "unlink",
            "touch",
        ],
    ),
    (4, &["eval", "evalsha"]),
];

/// Whether nutcracker takes this command with `count` arguments, the name included. It does not look further, but for
/// MSET, which needs pairs, and EVAL and EVALSHA, which need at least one key.
#[must_use]
pub fn accepts(command: &Command, count: usize) -> bool {
    let listed = |names: &[&str]| names.contains(&command.name);
    if command.name == "mset" {
        return count >= 3 && count % 2 == 1;
    }
    EXACTLY
        .iter()
        .any(|&(needed, names)| count == needed && listed(names))
        || AT_LEAST
            .iter()
            .any(|&(needed, names)| count >= needed && listed(names))
}

/// The argument whose shard gets a command whose keys are on several shards, as nutcracker would have it. None: nutcracker
/// does not take it or cuts it, and there is no old behaviour to keep.
///
/// `found` holds the keys of the request, which has `count` arguments.
#[must_use]
pub fn deciding_argument(command: &Command, count: usize, found: &KeyList) -> Option<usize> {
    let goes_whole = matches!(command.route, Route::Keys | Route::Script);
    if !goes_whole || !accepts(command, count) {
        return None;
    }
    // Its destination where it has one: the same argument as nutcracker's.
    found.keys().first().map(|key| key.at as usize)
}

#[cfg(test)]
mod tests {
    use super::super::{KeyList, find, keys};
    use super::*;

    fn decides(request: &str) -> Option<usize> {
        let args: Vec<&str> = request.split(' ').collect();
        let command = find(args[0].as_bytes()).unwrap();
        let mut found = KeyList::default();
        keys(command, &args[..], &mut found).unwrap();
        deciding_argument(command, args.len(), &found)
    }

    #[test]
    fn every_name_is_a_command_and_is_there_once() {
        let mut names: Vec<&str> = EXACTLY
            .iter()
            .chain(&AT_LEAST)
            .flat_map(|&(_, names)| names.iter().copied())
            .collect();
        for name in &names {
            assert!(find(name.as_bytes()).is_some(), "{name}");
        }
        let count = names.len();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), count);
    }

    #[test]
    fn whole_commands_go_by_their_first_argument() {
        for (request, argument) in [
            ("SUNION a b c", Some(1)),
            ("SMOVE a b m", Some(1)),
            ("RPOPLPUSH a b", Some(1)),
            ("SORT a STORE b", Some(1)),
            ("ZUNIONSTORE d 2 a b", Some(1)),
            ("ZUNION 2 a b", Some(2)),
            ("EVAL s 2 a b", Some(3)),
            // Cut, as there.
            ("MGET a b", None),
            ("DEL a b", None),
            // Not taken there.
            ("RENAME a b", None),
            ("BITOP AND d a b", None),
            ("EVAL_RO s 1 a", None),
        ] {
            assert_eq!(decides(request), argument, "{request}");
        }
    }

    #[test]
    fn arguments_are_counted_as_there() {
        for (name, count, taken) in [
            ("ping", 1, true),
            ("ping", 2, false),
            ("get", 2, true),
            ("expire", 3, true),
            ("expire", 4, false),
            ("mset", 3, true),
            ("mset", 4, false),
            ("mset", 5, true),
            ("eval", 3, false),
            ("eval", 4, true),
            ("select", 2, false),
            ("lolwut", 1, true),
            ("lolwut", 3, true),
        ] {
            assert_eq!(
                accepts(find(name.as_bytes()).unwrap(), count),
                taken,
                "{name} {count}"
            );
        }
    }
}
