//! Which keys a replicated command touches: all of them, because a replay must not change a key that exists.
//!
//! The table holds the commands that servers from 6.2 on write into the stream. A command that is not in it, a module's
//! for instance, is [`Touches::Unknown`]: the plan then takes every argument for a key and replays none of them.

/// What a command touches.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Touches {
    /// These arguments, by index, in the database that is selected.
    Keys(Vec<usize>),
    /// The argument at 1 here and the same name in another database.
    KeyAndDb(u32),
    /// The argument at 1 here and the argument at 2 in another database.
    KeysAcross(u32),
    /// No data: messages, scripts.
    NoKey,
    /// Everything, in the database that is selected or in all.
    Wipes {
        /// FLUSHALL.
        all: bool,
    },
    /// It cannot be told.
    Unknown,
}

const FIRST: &[&str] = &[
    "SET",
    "SETEX",
    "PSETEX",
    "SETNX",
    "GETSET",
    "GETDEL",
    "GETEX",
    "APPEND",
    "INCR",
    "DECR",
    "INCRBY",
    "DECRBY",
    "INCRBYFLOAT",
    "SETRANGE",
    "SETBIT",
    "BITFIELD",
    "EXPIRE",
    "PEXPIRE",
    "EXPIREAT",
    "PEXPIREAT",
    "PERSIST",
    "LPUSH",
    "RPUSH",
    "LPUSHX",
    "RPUSHX",
    "LPOP",
    "RPOP",
    "LSET",
    "LREM",
    "LTRIM",
    "LINSERT",
    "HSET",
    "HSETNX",
    "HMSET",
    "HINCRBY",
    "HINCRBYFLOAT",
    "HDEL",
    "HEXPIRE",
    "HPEXPIRE",
    "HEXPIREAT",
    "HPEXPIREAT",
    "HPERSIST",
    "HGETDEL",
    "HGETEX",
    "HSETEX",
    "SADD",
    "SREM",
    "SPOP",
    "ZADD",
    "ZREM",
    "ZINCRBY",
    "ZREMRANGEBYSCORE",
    "ZREMRANGEBYRANK",
    "ZREMRANGEBYLEX",
    "ZPOPMIN",
    "ZPOPMAX",
    "PFADD",
    "XADD",
    "XDEL",
    "XTRIM",
    "XACK",
    "XSETID",
    "XCLAIM",
    "XAUTOCLAIM",
    "GEOADD",
    "RESTORE",
];
const FIRST_TWO: &[&str] = &[
    "RENAME",
    "RENAMENX",
    "RPOPLPUSH",
    "BRPOPLPUSH",
    "LMOVE",
    "BLMOVE",
    "SMOVE",
    "ZRANGESTORE",
    "GEOSEARCHSTORE",
];
const ALL: &[&str] = &[
    "DEL",
    "UNLINK",
    "PFMERGE",
    "SINTERSTORE",
    "SUNIONSTORE",
    "SDIFFSTORE",
    "TOUCH",
];
const PAIRS: &[&str] = &["MSET", "MSETNX"];
const DESTINATION_AND_COUNTED: &[&str] = &["ZUNIONSTORE", "ZINTERSTORE", "ZDIFFSTORE"];
const COUNTED: &[&str] = &["EVAL", "EVALSHA", "FCALL"];
const NO_KEY: &[&str] = &[
    "PUBLISH", "SPUBLISH", "SCRIPT", "FUNCTION", "ACL", "MULTI", "EXEC",
];

/// What the command with these arguments, the name first, touches.
pub(super) fn touches(args: &[&[u8]]) -> Touches {
    let name = args
        .first()
        .map(|name| name.to_ascii_uppercase())
        .unwrap_or_default();
    let is_in = |names: &[&str]| names.iter().any(|known| known.as_bytes() == name);
    let count = args.len();
    let keys = |indices: Vec<usize>| match indices.iter().all(|index| *index < count) {
        true if !indices.is_empty() => Touches::Keys(indices),
        _ => Touches::Unknown,
    };
    let counted = |first: Vec<usize>| match number(args, 2) {
        Some(numkeys) if numkeys <= count => {
            let mut indices = first;
            indices.extend(3..3 + numkeys);
            if indices.is_empty() {
                Touches::NoKey
            } else {
                keys(indices)
            }
        }
        _ => Touches::Unknown,
    };
    let is = |word: &str| word.as_bytes() == name;
    if is_in(FIRST) {
        keys(vec![1])
    } else if is_in(FIRST_TWO) {
        keys(vec![1, 2])
    } else if is_in(ALL) {
        keys((1..count).collect())
    } else if is_in(PAIRS) {
        keys((1..count).step_by(2).collect())
    } else if is_in(DESTINATION_AND_COUNTED) {
        counted(vec![1])
    } else if is_in(COUNTED) {
        counted(Vec::new())
    } else if is_in(NO_KEY) {
        Touches::NoKey
    } else if is("XGROUP") {
        keys(vec![2])
    } else if is("BITOP") {
        keys((2..count).collect())
    } else if is("SORT") || is("GEORADIUS") || is("GEORADIUSBYMEMBER") {
        // Only the form that stores is ever replicated; a destination may be named twice, the last one counts.
        let stores = |arg: &[u8]| {
            arg.eq_ignore_ascii_case(b"STORE") || arg.eq_ignore_ascii_case(b"STOREDIST")
        };
        let mut indices = vec![1];
        indices.extend((2..count).filter(|at| stores(args[*at])).map(|at| at + 1));
        keys(indices)
    } else if is("MOVE") {
        db(args, 2).map_or(Touches::Unknown, Touches::KeyAndDb)
    } else if is("COPY") {
        match (3..count).find(|at| args[*at].eq_ignore_ascii_case(b"DB")) {
            Some(at) => db(args, at + 1).map_or(Touches::Unknown, Touches::KeysAcross),
            None => keys(vec![1, 2]),
        }
    } else if is("FLUSHALL") || is("FLUSHDB") {
        Touches::Wipes {
            all: is("FLUSHALL"),
        }
    } else {
        Touches::Unknown
    }
}

fn number(args: &[&[u8]], index: usize) -> Option<usize> {
    std::str::from_utf8(args.get(index)?).ok()?.parse().ok()
}

fn db(args: &[&[u8]], index: usize) -> Option<u32> {
    number(args, index).and_then(|db| u32::try_from(db).ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_key_is_found() {
        use Touches::{KeyAndDb, Keys, KeysAcross, NoKey, Unknown, Wipes};
        let table: &[(&str, Touches)] = &[
            ("SET k v", Keys(vec![1])),
            ("set k v EX 10", Keys(vec![1])),
            ("SET", Unknown),
            ("DEL a b c", Keys(vec![1, 2, 3])),
            ("MSET a 1 b 2", Keys(vec![1, 3])),
            ("LMOVE a b LEFT RIGHT", Keys(vec![1, 2])),
            ("ZUNIONSTORE d 2 a b WEIGHTS 1 2", Keys(vec![1, 3, 4])),
            ("ZUNIONSTORE d 9 a b", Unknown),
            ("ZUNIONSTORE d x a b", Unknown),
            ("EVAL return 0", NoKey),
            ("EVAL return 2 a b x", Keys(vec![3, 4])),
            ("BITOP AND d a b", Keys(vec![2, 3, 4])),
            ("XGROUP CREATE s g $", Keys(vec![2])),
            ("SORT l BY nosort STORE d", Keys(vec![1, 5])),
            ("SORT l STORE", Unknown),
            ("GEORADIUS g 1 2 3 km STOREDIST d", Keys(vec![1, 7])),
            ("MOVE k 3", KeyAndDb(3)),
            ("COPY a b", Keys(vec![1, 2])),
            ("COPY a b DB 4 REPLACE", KeysAcross(4)),
            ("PUBLISH channel text", NoKey),
            ("FLUSHDB ASYNC", Wipes { all: false }),
            ("FLUSHALL", Wipes { all: true }),
            ("SWAPDB 0 1", Unknown),
            ("MODULE.DO a b", Unknown),
        ];
        for (text, expected) in table {
            let args: Vec<&[u8]> = text.split(' ').map(str::as_bytes).collect();
            assert_eq!(touches(&args), *expected, "{text}");
        }
    }
}
