//! The proxy's table of commands against the servers that it was made from, and one that is older.

use std::net::SocketAddr;
use std::time::Duration;

use tandem_lab::ns::Lab;
use tandem_lab::proxy::{Pool, Program, Proxy};
use tandem_lab::resp::{Connection, Reply, encode};
use tandem_lab::server::{Flavour, Server, Settings};
use tandem_lab::{can_run, skip};
use tandem_proxy::command::{Access, Command, KeyList, Route, all, find, keys, resolve};

/// Requests for every command whose keys move with its arguments. For all others calls are made up from their arity.
const MOVABLE: [&str; 41] = [
    "BLMPOP 0 2 a b LEFT COUNT 3",
    "BZMPOP 0 1 a MIN",
    "EVAL script 2 a b c",
    "EVAL script 0",
    "EVALSHA sha 1 a b",
    "EVALSHA_RO sha 2 a b",
    "EVAL_RO script 1 a",
    "FCALL f 2 a b c d",
    "FCALL_RO f 1 a",
    "GEORADIUS a 1 2 3 km",
    "GEORADIUS a 1 2 3 km COUNT 5 STORE b",
    "GEORADIUSBYMEMBER a m 3 km",
    "GEORADIUSBYMEMBER a m 3 km STOREDIST b",
    "LMPOP 2 a b LEFT",
    "MIGRATE host 1 a 0 5",
    "MIGRATE host 1 a 0 5 COPY REPLACE",
    "MIGRATE host 1 '' 0 5 AUTH2 keys keys KEYS a b c",
    "MIGRATE host 1 '' 0 5 AUTH keys KEYS a",
    "MSETEX 2 a 1 b 2 NX EX 5",
    "SINTERCARD 2 a b LIMIT 1",
    "SORT a",
    "SORT a LIMIT 0 5 GET # DESC ALPHA",
    "SORT a BY w GET o STORE d",
    "SORT a STORE d STORE e",
    "SORT_RO a GET x LIMIT 1 2",
    "XREAD STREAMS a 0",
    "XREAD COUNT 5 BLOCK 0 STREAMS a b c 0 0 0",
    "XREADGROUP GROUP streams c STREAMS a >",
    "XREADGROUP GROUP g c COUNT 1 BLOCK 1 NOACK STREAMS a b > >",
    "ZDIFF 2 a b WITHSCORES",
    "ZDIFFSTORE d 2 a b",
    "ZINTER 1 a",
    "ZINTERCARD 3 a b c LIMIT 2",
    "ZINTERSTORE d 1 a WEIGHTS 2",
    "ZMPOP 2 a b MAX",
    "ZUNION 2 a b AGGREGATE MAX",
    "ZUNIONSTORE d 2 a b",
    "ZUNION 3 a b",
    "ZUNION x a",
    "LMPOP 0 a LEFT",
    "EVAL script 5 a",
];
/// Of which requests are drawn for the commands whose parsers have options.
const WORDS: [&str; 24] = [
    "a",
    "b",
    "c",
    "0",
    "1",
    "2",
    "3",
    "-1",
    "99",
    "x",
    "STREAMS",
    "streams",
    "store",
    "STOREDIST",
    "KEYS",
    "by",
    "GET",
    "LIMIT",
    "w_*",
    "#",
    "COUNT",
    "BLOCK",
    "GROUP",
    "",
];
/// Drawn requests for each such command.
const DRAWN: u32 = 400;

/// What the server says: the keys, in order; None: it cannot tell for these arguments.
fn asked(connection: &mut Connection, args: &[&str]) -> Option<Vec<String>> {
    let request = [&["COMMAND", "GETKEYS"], args].concat();
    match connection.call(&request).expect("the server answers") {
        Reply::Array(keys) => keys.iter().map(Reply::text).collect(),
        Reply::Error(text) if text.contains("no key arguments") => Some(Vec::new()),
        // Redis 7.0 does not take a command without arguments.
        Reply::Error(text) if args.len() == 1 && text.contains("'command|getkeys'") => {
            Some(Vec::new())
        }
        Reply::Error(text) if text.contains("Invalid arguments specified") => None,
        other => panic!("{request:?}: {other:?}"),
    }
}

/// What the table says. Channels are none of the server's keys.
fn found(command: &Command, args: &[&str]) -> Option<Vec<String>> {
    let mut list = KeyList::default();
    if keys(command, args, &mut list).is_err() {
        // Of scripts, which need no keys, servers do not tell a wrong number of keys from none.
        return (command.route == Route::Script).then(Vec::new);
    }
    let keys = list.keys().iter();
    Some(
        keys.filter(|key| key.access != Access::NotAKey)
            .map(|key| args[key.at as usize].to_owned())
            .collect(),
    )
}

fn words(request: &str) -> Vec<&str> {
    request
        .split(' ')
        .map(|word| if word == "''" { "" } else { word })
        .collect()
}

/// A call of a command with so many arguments as a server of this arity takes.
fn made_up(command: &Command, arity: i64) -> Vec<String> {
    let count = usize::try_from(arity.unsigned_abs()).unwrap_or_default();
    // Room for options, and pairs where pairs are wanted.
    let count = if arity < 0 { (count + 2) | 1 } else { count };
    let mut args: Vec<String> = command.name.split('|').map(str::to_owned).collect();
    let named = args.len();
    args.extend((named..count).map(|at| format!("argument{at}")));
    args
}

fn flavours(test: &str) -> Vec<Flavour> {
    [Flavour::Redis70, Flavour::Valkey91]
        .into_iter()
        .filter(|flavour| match flavour.find() {
            Ok(_) => true,
            Err(reason) => {
                skip(&format!("{test}, {}", flavour.name()), &reason.to_string());
                false
            }
        })
        .collect()
}

fn start(lab: &Lab, flavour: Flavour) -> Server {
    let settings = Settings {
        flavour,
        ..Settings::default()
    };
    Server::start(lab.host("a"), &settings).expect("the server starts")
}

/// The arity that the server announces. None: it does not know the command.
fn arity(connection: &mut Connection, command: &Command) -> Option<i64> {
    let reply = connection
        .call(&["COMMAND", "INFO", command.name])
        .expect("the server answers");
    let Reply::Array(infos) = reply else {
        return None;
    };
    match &infos[..] {
        [Reply::Array(info)] => match info.get(1) {
            Some(Reply::Integer(arity)) => Some(*arity),
            _ => None,
        },
        _ => None,
    }
}

#[test]
fn keys_are_where_the_servers_say() {
    let test = "keys_are_where_the_servers_say";
    if !can_run(test) {
        return;
    }
    let lab = Lab::pair().unwrap();
    for flavour in flavours(test) {
        let server = start(&lab, flavour);
        let mut connection = server.connect().unwrap();
        let mut compared = 0;
        for command in all()
            .iter()
            .flat_map(|command| std::iter::once(command).chain(command.subs))
        {
            let is_movable = MOVABLE.iter().any(|request| {
                resolve(&words(request)[..]).is_some_and(|named| named.name == command.name)
            });
            if is_movable || !command.subs.is_empty() {
                continue;
            }
            let Some(arity) = arity(&mut connection, command) else {
                continue;
            };
            let args = made_up(command, arity);
            let args: Vec<&str> = args.iter().map(String::as_str).collect();
            assert_eq!(
                found(command, &args),
                asked(&mut connection, &args),
                "{flavour:?} {args:?}"
            );
            compared += 1;
        }
        // Redis 7.0 has 240 commands and as many sub-commands as containers need.
        assert!(compared > 300, "{flavour:?}: {compared}");
        for request in MOVABLE {
            let args = words(request);
            let command = resolve(&args[..]).unwrap();
            if arity(&mut connection, command).is_some() {
                assert_eq!(
                    found(command, &args),
                    asked(&mut connection, &args),
                    "{flavour:?} {request}"
                );
            }
        }
        drop(server);
    }
}

#[test]
fn keys_of_drawn_requests_are_where_the_servers_say() {
    let test = "keys_of_drawn_requests_are_where_the_servers_say";
    if !can_run(test) {
        return;
    }
    let lab = Lab::pair().unwrap();
    for flavour in flavours(test) {
        let server = start(&lab, flavour);
        let mut connection = server.connect().unwrap();
        let mut state = 1_u64;
        let mut draw = |below: usize| {
            state = state
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1);
            (state >> 33) as usize % below
        };
        let mut names: Vec<&str> = MOVABLE
            .iter()
            .filter_map(|request| request.split(' ').next())
            .collect();
        names.dedup();
        for name in names {
            let command = find(name.as_bytes()).unwrap();
            if arity(&mut connection, command).is_none() {
                continue;
            }
            for _ in 0..DRAWN {
                let needed = usize::from(command.arity.unsigned_abs());
                let mut args = vec![name];
                let count = needed + draw(6);
                args.extend((1..count).map(|_| WORDS[draw(WORDS.len())]));
                if is_told_wrongly(&args) {
                    continue;
                }
                assert_eq!(
                    found(command, &args),
                    asked(&mut connection, &args),
                    "{flavour:?} {args:?}"
                );
            }
        }
        drop(server);
    }
}

/// Requests of which COMMAND GETKEYS says something else than what happens. `SORT a STORE get`: it takes `get` for a key
/// and for an option. GEORADIUS with two words for a destination: Redis 7.0 names both or the first one, the last one counts. MIGRATE with KEYS
/// and none after it: its last argument is not looked at.
fn is_told_wrongly(args: &[&str]) -> bool {
    let is_store = |word: &&&str| word.to_lowercase().starts_with("store");
    // Before its group and consumer STREAMS is no option, but servers look for one when they find none later.
    if args[0] == "XREADGROUP"
        && args[1..4]
            .iter()
            .any(|word| word.eq_ignore_ascii_case("streams"))
    {
        return true;
    }
    if args[0] == "MIGRATE" && args.last().is_some_and(|last| *last == "KEYS") {
        return true;
    }
    if args[0].starts_with("GEORADIUS") {
        // In the place of the unit it is no option, but Valkey looks for one there.
        return args.iter().filter(is_store).count() > 1 || args.get(5).iter().any(is_store);
    }
    args[0].starts_with("SORT")
        && args.windows(2).any(|two| {
            two[0].eq_ignore_ascii_case("store")
                && ["by", "get", "limit", "store"].contains(&two[1].to_lowercase().as_str())
        })
}

#[test]
fn every_server_knows_its_commands_as_the_table_does() {
    let test = "every_server_knows_its_commands_as_the_table_does";
    if !can_run(test) {
        return;
    }
    let lab = Lab::pair().unwrap();
    for flavour in Flavour::ALL {
        if let Err(reason) = flavour.find() {
            skip(&format!("{test}, {}", flavour.name()), &reason.to_string());
            continue;
        }
        let server = start(&lab, flavour);
        let Reply::Array(announced) = server.connect().unwrap().demand(&["COMMAND"]).unwrap()
        else {
            panic!("COMMAND is no array");
        };
        assert!(announced.len() > 200, "{flavour:?}");
        for info in announced {
            let Reply::Array(info) = info else {
                panic!("{info:?}")
            };
            let name = info[0].text().unwrap();
            // What Redis 6.2 calls an HTTP request, in order to close its connection, and what LCS replaced.
            if ["host:", "post", "stralgo"].contains(&name.as_str()) {
                continue;
            }
            let Some(command) = find(name.as_bytes()) else {
                panic!("{flavour:?}: {name} is not in the table");
            };
            let Reply::Array(flags) = &info[2] else {
                panic!("{info:?}")
            };
            let has = |wanted: &str| {
                flags
                    .iter()
                    .any(|flag| flag.text().as_deref() == Some(wanted))
            };
            // A container's flags are its sub-commands' business since 7.0.
            if command.subs.is_empty() {
                assert_eq!(
                    command.is_read_only(),
                    has("readonly"),
                    "{flavour:?} {name}"
                );
                assert!(command.is_write() || !has("write"), "{flavour:?} {name}");
                let Reply::Integer(arity) = info[1] else {
                    panic!("{info:?}")
                };
                let fewest = usize::try_from(arity.unsigned_abs()).unwrap();
                assert!(command.takes(fewest), "{flavour:?} {name}: {arity}");
            }
        }
        drop(server);
    }
}

/// For anything that should happen within a second or so, on a machine that is busy with other things.
const BOUND: Duration = Duration::from_secs(30);

/// What client libraries' own tests found.
#[test]
fn what_a_connection_is_told_is_what_a_server_would_say() {
    let test = "what_a_connection_is_told_is_what_a_server_would_say";
    if !can_run(test) {
        return;
    }
    for flavour in flavours(test) {
        let lab = Lab::pair().unwrap();
        let primary = start(&lab, flavour);
        let replica = Server::start(
            lab.host("b"),
            &Settings {
                flavour,
                ..Settings::default()
            },
        )
        .unwrap();
        replica.replicate(Some(primary.address())).unwrap();
        replica.wait_until_synced(BOUND).unwrap();
        let pool = Pool::new(22121, &[SocketAddr::from(([127, 0, 0, 1], 6379))]);
        let proxy = Proxy::start(Program::Tandem, lab.host("a"), &pool).unwrap();
        let connect = || Connection::open(lab.host("a"), proxy.address(), BOUND).unwrap();
        let (mut one, mut other) = (connect(), connect());

        // The version that the server tells.
        let version = primary.connect().unwrap().info("redis_version").unwrap();
        let Reply::Array(hello) = one.demand(&["HELLO", "2"]).unwrap() else {
            panic!("HELLO is no array")
        };
        assert_eq!(hello[3].text(), Some(version), "{flavour:?}");

        // A replica that has what was written, and one that has not.
        one.demand(&["SET", "a", "1"]).unwrap();
        let all = one.demand(&["WAIT", "1", "20000"]).unwrap();
        assert_eq!(all, Reply::Integer(1), "{flavour:?}");
        replica.process().freeze();
        one.demand(&["SET", "a", "2"]).unwrap();
        let none = one.demand(&["WAIT", "1", "300"]).unwrap();
        assert_eq!(none, Reply::Integer(0), "{flavour:?}");
        replica.process().thaw();

        // What is in a file.
        if flavour == Flavour::Valkey91 {
            let mut direct = primary.connect().unwrap();
            direct
                .demand(&["CONFIG", "SET", "appendonly", "yes"])
                .unwrap();
            one.demand(&["SET", "a", "3"]).unwrap();
            let in_files = one.demand(&["WAITAOF", "1", "0", "20000"]).unwrap();
            let due = [Reply::Integer(1), Reply::Integer(0)];
            assert_eq!(in_files, Reply::Array(due.to_vec()));
        }

        // Whoever subscribes again at once is subscribed.
        let words = [&["SUBSCRIBE", "news"][..], &["UNSUBSCRIBE"]];
        let both = words.map(encode).concat();
        one.send(&[&both[..], &encode(words[0])].concat()).unwrap();
        for (kind, count) in [("subscribe", 1), ("unsubscribe", 0), ("subscribe", 1)] {
            let due = [
                Reply::Bulk(Some(kind.as_bytes().to_vec())),
                Reply::Bulk(Some(b"news".to_vec())),
                Reply::Integer(count),
            ];
            assert_eq!(
                one.read().unwrap(),
                Reply::Array(due.to_vec()),
                "{flavour:?}"
            );
        }
        assert_eq!(
            other.demand(&["PUBLISH", "news", "hi"]).unwrap(),
            Reply::Integer(1)
        );

        // What the server executes.
        let mut watcher = connect();
        watcher.demand(&["MONITOR"]).unwrap();
        other.demand(&["GET", "of the other"]).unwrap();
        loop {
            // The proxy asks something for itself, too.
            let Reply::Simple(line) = watcher.read().unwrap() else {
                panic!("a line of MONITOR")
            };
            if line.contains("of the other") {
                break;
            }
        }
    }
}

/// Every server tells of its own keys only.
#[test]
fn keyspace_notifications_of_all_servers_are_heard_and_messages_once() {
    let test = "keyspace_notifications_of_all_servers_are_heard_and_messages_once";
    if !can_run(test) {
        return;
    }
    let lab = Lab::pair().unwrap();
    let ports = [6379, 6380];
    let servers = ports.map(|port| {
        let settings = Settings {
            port,
            extra: vec!["notify-keyspace-events KEA".to_owned()],
            ..Settings::default()
        };
        Server::start(lab.host("a"), &settings).unwrap()
    });
    let pool = Pool::new(22121, &ports.map(|port| ([127, 0, 0, 1], port).into()));
    let proxy = Proxy::start(Program::Tandem, lab.host("a"), &pool).unwrap();
    let connect = || Connection::open(lab.host("a"), proxy.address(), BOUND).unwrap();
    let texts = |reply: Reply| match reply {
        Reply::Array(words) => words.iter().filter_map(Reply::text).collect::<Vec<_>>(),
        other => panic!("{other:?} is no message"),
    };
    let (mut one, mut all, mut writer) = (connect(), connect(), connect());
    for (listener, command, name) in [
        (&mut one, "SUBSCRIBE", "__keyevent@0__:set"),
        (&mut all, "PSUBSCRIBE", "*"),
    ] {
        let words = texts(listener.demand(&[command, name]).unwrap());
        assert_eq!(words, [&command.to_lowercase(), name]);
    }
    let keys: Vec<String> = (0..16).map(|at| format!("{at} of many")).collect();
    for key in &keys {
        writer.demand(&["SET", key, "1"]).unwrap();
        let heard = writer.demand(&["PUBLISH", "news", key]).unwrap();
        assert_eq!(heard, Reply::Integer(1));
    }
    for server in &servers {
        let held = server.connect().unwrap().demand(&["DBSIZE"]).unwrap();
        assert_ne!(held, Reply::Integer(0), "each has some of the keys");
    }
    let mut heard: Vec<String> = keys
        .iter()
        .map(|_| texts(one.read().unwrap()).remove(2))
        .collect();
    heard.sort();
    let mut sorted = keys.clone();
    sorted.sort();
    assert_eq!(heard, sorted);
    // Who listens to everything hears of each key twice, and of each message once.
    let mut heard: Vec<String> = (0..3 * keys.len())
        .map(|_| texts(all.read().unwrap())[2..].join(" "))
        .collect();
    heard.sort();
    let mut due: Vec<String> = keys
        .iter()
        .flat_map(|key| {
            [
                format!("__keyevent@0__:set {key}"),
                format!("__keyspace@0__:{key} set"),
                format!("news {key}"),
            ]
        })
        .collect();
    due.sort();
    assert_eq!(heard, due);
    // Ended, nothing is left at any server.
    for (listener, command) in [(&mut one, "UNSUBSCRIBE"), (&mut all, "PUNSUBSCRIBE")] {
        listener.demand(&[command]).unwrap();
        let ordinary = listener.demand(&["GET", &keys[0]]).unwrap();
        assert_eq!(ordinary.text().as_deref(), Some("1"));
    }
    for server in &servers {
        tandem_lab::poll::until(
            "its subscribers to go",
            BOUND,
            Duration::from_millis(5),
            || {
                let left = server
                    .connect()?
                    .demand(&["CLIENT", "LIST", "TYPE", "pubsub"])?;
                let left = left.text().unwrap_or_default();
                Ok(if left.is_empty() { Ok(()) } else { Err(left) })
            },
        )
        .unwrap();
    }
}
