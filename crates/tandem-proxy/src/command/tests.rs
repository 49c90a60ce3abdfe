//! The table as a whole, and keys out of requests.

use proptest::prelude::*;

use super::*;

fn args(request: &str) -> Vec<&str> {
    request
        .split(' ')
        .map(|word| if word == "''" { "" } else { word })
        .collect()
}

fn keys_of(request: &str) -> Result<(Vec<String>, bool), KeyError> {
    let args = args(request);
    let command = resolve(&args[..]).unwrap_or_else(|| panic!("{request}"));
    assert!(command.takes(args.len()), "{request}");
    let mut found = KeyList::default();
    keys(command, &args[..], &mut found)?;
    let named = found
        .keys()
        .iter()
        .map(|key| args[key.at as usize].to_owned())
        .collect();
    Ok((named, found.has_patterns()))
}

/// Every command and sub-command.
fn entries() -> impl Iterator<Item = &'static Command> {
    all()
        .iter()
        .flat_map(|command| std::iter::once(command).chain(command.subs))
}

#[test]
fn the_table_is_sorted_and_whole() {
    for commands in std::iter::once(all()).chain(all().iter().map(|command| command.subs)) {
        assert!(commands.windows(2).all(|two| two[0].name < two[1].name));
    }
    let ids: Vec<usize> = entries().map(|command| usize::from(command.id)).collect();
    assert_eq!(ids, (0..COUNT).collect::<Vec<_>>());
    // 240 of Redis 7.0 and 17 that only Valkey 9.1 has.
    assert_eq!(all().len(), 257);
    for command in entries() {
        assert!(
            !(command.is_read_only() && command.is_write()),
            "{}",
            command.name
        );
        assert!(command.subs.iter().all(|sub| {
            sub.name
                .split_once('|')
                .is_some_and(|(container, _)| container == command.name)
        }));
    }
}

#[test]
fn writes_are_writes() {
    // Each of these is a read in some proxy's hand-kept table.
    for name in [
        "getdel",
        "getex",
        "getset",
        "xadd",
        "xack",
        "xclaim",
        "xdel",
        "xtrim",
        "eval",
        "fcall",
        "hgetdel",
        "xreadgroup",
    ] {
        let command = find(name.as_bytes()).unwrap();
        assert!(
            command.is_write() && !command.is_read_only() && !command.may_repeat(),
            "{name}"
        );
    }
    for name in [
        "eval_ro",
        "fcall_ro",
        "touch",
        "pfcount",
        "xread",
        "sort_ro",
        "randomkey",
    ] {
        let command = find(name.as_bytes()).unwrap();
        assert!(
            !command.is_write() && command.is_read_only() && command.may_repeat(),
            "{name}"
        );
    }
    for name in ["publish", "spublish"] {
        let command = find(name.as_bytes()).unwrap();
        assert!(
            !command.is_write() && !command.is_read_only() && !command.may_repeat(),
            "{name}"
        );
    }
}

#[test]
fn routes_of_every_kind() {
    for (request, route) in [
        ("GET a", Route::OneKey { at: 1 }),
        ("OBJECT ENCODING a", Route::OneKey { at: 2 }),
        ("XGROUP DESTROY a g", Route::OneKey { at: 2 }),
        ("MEMORY USAGE a", Route::OneKey { at: 2 }),
        ("BITFIELD_RO a", Route::OneKey { at: 1 }),
        (
            "MGET a b",
            Route::Split {
                first: 1,
                step: 1,
                merge: Merge::InOrder,
            },
        ),
        (
            "MSET a 1 b 2",
            Route::Split {
                first: 1,
                step: 2,
                merge: Merge::AllSucceeded,
            },
        ),
        (
            "DEL a b",
            Route::Split {
                first: 1,
                step: 1,
                merge: Merge::Sum,
            },
        ),
        (
            "EXISTS a b",
            Route::Split {
                first: 1,
                step: 1,
                merge: Merge::Sum,
            },
        ),
        ("MSETNX a 1", Route::Keys),
        ("MSETEX 1 a 1", Route::Keys),
        ("SUNION a b", Route::Keys),
        ("LCS a b", Route::Keys),
        ("SORT a", Route::Keys),
        ("EVALSHA x 0", Route::Script),
        ("FCALL_RO f 1 a", Route::Script),
        ("BLPOP a 0", Route::Blocking(Timeout::Last)),
        ("BZMPOP 0 1 a MIN", Route::Blocking(Timeout::First)),
        (
            "XREADGROUP GROUP g c STREAMS a >",
            Route::Blocking(Timeout::Option),
        ),
        ("WAIT 1 0", Route::Wait),
        ("DBSIZE", Route::AllShards(Merge::Sum)),
        ("KEYS *", Route::AllShards(Merge::Concatenate)),
        ("FLUSHALL", Route::AllShards(Merge::AllSucceeded)),
        ("RANDOMKEY", Route::AllShards(Merge::Pick)),
        ("INFO", Route::AllShards(Merge::Info)),
        ("SCRIPT EXISTS x", Route::AllShards(Merge::And)),
        ("SCRIPT LOAD x", Route::AllNodes(Merge::AllSucceeded)),
        ("FUNCTION KILL", Route::AllShards(Merge::OneSucceeded)),
        ("MEMORY STATS", Route::OnlyShard),
        ("TIME", Route::AnyShard),
        ("OBJECT HELP", Route::AnyShard),
        ("SCAN 0", Route::Scan),
        (
            "SUBSCRIBE a",
            Route::PubSub(PubSub::Subscribe(Channels::Plain)),
        ),
        (
            "SPUBLISH a m",
            Route::PubSub(PubSub::Publish(Channels::Sharded)),
        ),
        ("PUBSUB NUMPAT", Route::PubSub(PubSub::Inspect)),
        ("WATCH a", Route::Transaction(Transaction::Watch)),
        ("SELECT 1", Route::Connection(Connection::Select)),
        ("CLIENT LIST", Route::Connection(Connection::Client)),
        ("CLIENT", Route::Container),
        ("COMMAND", Route::Local(Local::Command)),
        ("COMMAND COUNT", Route::Local(Local::Command)),
        ("CONFIG GET a", Route::Local(Local::ConfigGet)),
        ("CLUSTER SLOTS", Route::Local(Local::ClusterDisabled)),
        ("CONFIG SET a b", Route::Refused(Refusal::Administration)),
        ("ACL LIST", Route::Refused(Refusal::Administration)),
        ("DEBUG SLEEP 1", Route::Refused(Refusal::Administration)),
        ("REPLICAOF a b", Route::Refused(Refusal::Role)),
        ("SYNC", Route::Refused(Refusal::Replication)),
        ("SWAPDB 0 1", Route::Refused(Refusal::MovesKeys)),
    ] {
        assert_eq!(
            resolve(&args(request)[..]).map(|c| c.route),
            Some(route),
            "{request}"
        );
    }
    for unknown in ["NOSUCH a", "CLIENT NOSUCH", "GETT a"] {
        assert_eq!(resolve(&args(unknown)[..]), None, "{unknown}");
    }
}

#[test]
fn shortcuts_agree_with_the_specifications() {
    for command in entries() {
        let count = usize::from(command.arity.unsigned_abs()).max(4) | 1;
        let request = vec!["1"; count];
        let mut found = KeyList::default();
        let at = |found: &KeyList| -> Vec<usize> {
            found.keys().iter().map(|key| key.at as usize).collect()
        };
        match command.route {
            Route::OneKey { at: key } => {
                keys(command, &request[..], &mut found).unwrap();
                assert_eq!(at(&found), [usize::from(key)], "{}", command.name);
            }
            Route::Split { first, step, .. } => {
                keys(command, &request[..], &mut found).unwrap();
                let expected: Vec<usize> = (usize::from(first)..count)
                    .step_by(usize::from(step))
                    .collect();
                assert_eq!(at(&found), expected, "{}", command.name);
            }
            Route::Keys | Route::Script | Route::Blocking(_) => {
                assert!(!command.specs.is_empty(), "{}", command.name);
            }
            Route::AnyShard
            | Route::OnlyShard
            | Route::AllShards(_)
            | Route::AllNodes(_)
            | Route::Scan
            | Route::Monitor
            | Route::Wait
            | Route::Connection(_)
            | Route::Container => assert!(command.specs.is_empty(), "{}", command.name),
            Route::PubSub(_) | Route::Transaction(_) | Route::Local(_) | Route::Refused(_) => {}
        }
    }
}

#[test]
fn keys_are_found_where_redis_finds_them() {
    for (request, expected) in [
        ("GET a", "a"),
        ("MGET a b a", "a b a"),
        ("MSET a 1 b 2", "a b"),
        ("MSETEX 2 a 1 b 2 NX", "a b"),
        ("BITOP AND d a b", "d a b"),
        ("LCS a b IDX", "a b"),
        ("BLPOP a b 0", "a b"),
        ("BLMPOP 0 2 a b LEFT", "a b"),
        ("LMPOP 2 a b LEFT", "a b"),
        ("ZUNIONSTORE d 2 a b WEIGHTS 1 2", "d a b"),
        ("ZUNION 1 a WITHSCORES", "a"),
        ("SINTERCARD 2 a b LIMIT 1", "a b"),
        ("EVAL s 2 a b c", "a b"),
        ("EVAL s 0 a b", ""),
        ("FCALL f 1 a x", "a"),
        ("XREAD STREAMS a b 0 0", "a b"),
        ("XREAD COUNT 1 BLOCK 0 streams a 0", "a"),
        ("XREADGROUP GROUP streams c STREAMS a >", "a"),
        ("XREADGROUP GROUP g streams COUNT 1 STREAMS a b > >", "a b"),
        ("OBJECT FREQ a", "a"),
        ("SPUBLISH a m", "a"),
        ("SSUBSCRIBE a b", "a b"),
        ("WATCH a b", "a b"),
        ("SORT a", "a"),
        ("SORT a BY nosort LIMIT 0 5 ALPHA STORE d", "a d"),
        ("SORT a GET # STORE d STORE e", "a e"),
        ("SORT a LIMIT store 3", "a"),
        ("SORT_RO a DESC", "a"),
        ("GEORADIUS a 1 2 3 km", "a"),
        ("GEORADIUS a 1 2 3 km STORE b STOREDIST c", "a c"),
        ("GEORADIUSBYMEMBER a m 3 km COUNT 5 STORE b", "a b"),
        ("GEORADIUSBYMEMBER a store 3 km", "a"),
        ("MIGRATE h 1 a 0 5 COPY AUTH keys", "a"),
        ("MIGRATE h 1 '' 0 5 AUTH2 u keys KEYS a b", "a b"),
        ("PING", ""),
        ("DBSIZE", ""),
    ] {
        let expected: Vec<String> = expected.split_whitespace().map(str::to_owned).collect();
        assert_eq!(keys_of(request), Ok((expected, false)), "{request}");
    }
}

#[test]
fn patterns_are_told() {
    for (request, patterns) in [
        ("SORT a BY w_*", true),
        ("SORT a GET #", false),
        ("SORT a GET o_*->name", true),
        ("SORT_RO a BY constant GET *", true),
    ] {
        assert_eq!(keys_of(request).unwrap().1, patterns, "{request}");
    }
}

#[test]
fn contradictions_are_errors() {
    for request in [
        "EVAL s x a",
        "MIGRATE h 1 a 0 5 KEYS b",
        "EVAL s 3 a b",
        "EVAL s -1 a",
        "ZUNION 0 a",
        "ZUNION 3 a b",
        "LMPOP 99999999999999999999 a LEFT",
        "LMPOP 9223372036854775807 a LEFT",
        "ZUNIONSTORE d x a",
        "XREAD COUNT 1 a 0",
        "XREAD BLOCK 1 x STREAMS",
    ] {
        let command = resolve(&args(request)[..]).unwrap();
        let error = KeyError {
            command: command.name,
        };
        assert_eq!(keys_of(request), Err(error), "{request}");
    }
}

#[test]
fn a_list_is_filled_anew() {
    let mut found = KeyList::default();
    let sort = args("SORT a BY x_*");
    keys(find(b"sort").unwrap(), &sort[..], &mut found).unwrap();
    assert!(found.has_patterns());
    let get = args("GET b");
    keys(find(b"get").unwrap(), &get[..], &mut found).unwrap();
    assert_eq!(
        found.keys(),
        [Key {
            at: 1,
            access: Access::Read
        }]
    );
    assert!(!found.has_patterns());
}

fn word() -> impl Strategy<Value = Vec<u8>> {
    const OPTIONS: [&str; 13] = [
        "STREAMS", "store", "BY", "get", "LIMIT", "KEYS", "BLOCK", "count", "0", "1", "2", "-1",
        "*",
    ];
    prop_oneof![
        prop::sample::select(&OPTIONS[..]).prop_map(|word| word.as_bytes().to_vec()),
        prop::collection::vec(any::<u8>(), 0..6),
    ]
}

proptest! {
    #[test]
    fn keys_are_arguments_after_the_name(at in any::<prop::sample::Index>(), words in prop::collection::vec(word(), 0..12)) {
        let entries: Vec<&Command> = entries().collect();
        let command = entries[at.index(entries.len())];
        let mut request: Vec<Vec<u8>> = command.name.split('|').map(|part| part.as_bytes().to_vec()).collect();
        request.extend(words);
        prop_assume!(command.takes(request.len()));
        let mut found = KeyList::default();
        if keys(command, &request[..], &mut found).is_ok() {
            prop_assert!(found.keys().iter().all(|key| (1..request.len()).contains(&(key.at as usize))));
        } else {
            prop_assert!(found.keys().is_empty());
        }
        // Says something about any request, whatever stands in it.
        let blocks = blocks_for(command, &request[..]);
        prop_assert!(blocks == Blocks::No || command.is_blocking());
    }
}
