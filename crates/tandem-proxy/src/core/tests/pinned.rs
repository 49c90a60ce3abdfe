//! What needs more than one request: transactions, blocking, messages, scans.

use super::*;

#[test]
fn a_transaction_is_sent_in_one_piece_between_what_others_ask() {
    let mut world = World::new(pool(1));
    let (one, two) = (world.client(), world.client());
    world.give(one, &request("MULTI"));
    world.give(one, &request("SET a 1"));
    world.give(two, &request("GET a"));
    world.give(one, &request("PING"));
    assert_eq!(world.take(one), "+OK\r\n+QUEUED\r\n+QUEUED\r\n");
    assert_eq!(
        world.at_server(0).into_bytes(),
        request("GET a"),
        "nothing of it before EXEC"
    );
    world.give(one, &request("EXEC"));
    let block = [
        request("MULTI"),
        request("SET a 1"),
        request("PING"),
        request("EXEC"),
    ]
    .concat();
    assert_eq!(world.at_server(0).into_bytes(), block);
    world.server_says(
        0,
        b"$-1\r\n+OK\r\n+QUEUED\r\n+QUEUED\r\n*2\r\n+OK\r\n+PONG\r\n",
    );
    assert_eq!(world.take(one), "*2\r\n+OK\r\n+PONG\r\n");
    assert_eq!(world.take(two), "$-1\r\n");
    world.give(one, &request("EXEC"));
    assert_eq!(world.take(one), "-ERR EXEC without MULTI\r\n");
    world.assert_nothing_is_left();
}

#[test]
fn a_transaction_with_a_wrong_command_is_not_sent() {
    let mut world = World::new(pool(2));
    let (left, right) = (world.key_on(0), world.key_on(1));
    for (wrong, error) in [
        ("GET".to_owned(), "-ERR wrong number of arguments"),
        ("NOSUCH".to_owned(), "-ERR unknown command"),
        (
            "SELECT 0".to_owned(),
            "-ERR 'select' is not let through the proxy inside MULTI",
        ),
        (
            "FLUSHALL".to_owned(),
            "-ERR 'flushall' concerns all servers",
        ),
        (format!("GET {right}"), "-CROSSSLOT "),
    ] {
        let client = world.client();
        world.give(client, &request("MULTI"));
        world.give(client, &request(&format!("GET {left}")));
        world.give(client, &request(&wrong));
        let got = world.take(client);
        assert!(
            got.starts_with(&format!("+OK\r\n+QUEUED\r\n{error}")),
            "{wrong}: {got}"
        );
        world.give(client, &request("EXEC"));
        assert!(world.take(client).starts_with("-EXECABORT "), "{wrong}");
        world.give(client, &request(&format!("GET {left}")));
        world.server_says(0, b"+ordinary\r\n");
        assert_eq!(world.take(client), "+ordinary\r\n", "{wrong}");
    }
    world.assert_nothing_is_left();
}

#[test]
fn what_is_watched_is_watched_on_a_connection_of_its_own() {
    let mut world = World::new(pool(1));
    let (watcher, other) = (world.client(), world.client());
    world.give(other, &request("GET a"));
    let shared = world.up[&0];
    world.take(shared);
    world.give(watcher, &request("WATCH a"));
    let own = world.up[&0];
    assert_ne!(own, shared);
    assert_eq!(world.take(own).into_bytes(), request("WATCH a"));
    world.give(own, b"+OK\r\n");
    world.give(watcher, &request("GET a"));
    world.give(watcher, &request("MULTI"));
    world.give(watcher, &request("SET a 2"));
    world.give(watcher, &request("EXEC"));
    let all = [
        request("GET a"),
        request("MULTI"),
        request("SET a 2"),
        request("EXEC"),
    ]
    .concat();
    assert_eq!(world.take(own).into_bytes(), all);
    world.give(own, b"$1\r\n1\r\n+OK\r\n+QUEUED\r\n*-1\r\n");
    assert_eq!(
        world.take(watcher),
        "+OK\r\n$1\r\n1\r\n+OK\r\n+QUEUED\r\n*-1\r\n"
    );
    world.give(watcher, &request("GET a"));
    assert_eq!(
        world.take(shared).into_bytes(),
        request("GET a"),
        "an ordinary client again"
    );
    world.give(other, &request("WATCH a"));
    assert_eq!(
        world.take(own),
        "",
        "not before its earlier request is answered"
    );
    world.give(shared, b"+1\r\n+2\r\n");
    assert_eq!(
        world.take(own).into_bytes(),
        request("WATCH a"),
        "the same connection again"
    );
    world.give(own, b"+OK\r\n");
    world.core.closed(other, How::Reset, world.now);
    world.turn();
    assert!(world.closed.contains(&own), "it still watches");
    world.assert_nothing_is_left();
}

#[test]
fn a_watch_whose_connection_is_lost_lets_no_transaction_through() {
    let mut world = World::new(pool(1));
    let client = world.client();
    world.give(client, &request("WATCH a"));
    world.server_says(0, b"+OK\r\n");
    let own = world.up[&0];
    world.core.closed(own, How::Reset, world.now);
    world.turn();
    world.give(
        client,
        &[request("MULTI"), request("SET a 1"), request("EXEC")].concat(),
    );
    assert_eq!(world.take(client), "+OK\r\n+OK\r\n+QUEUED\r\n*-1\r\n");
    assert!(world.up.is_empty(), "nothing was sent");
    world.assert_nothing_is_left();
}

#[test]
fn unwatch_gives_the_connection_back() {
    let mut world = World::new(pool(1));
    let client = world.client();
    world.give(client, &request("WATCH a"));
    let own = world.up[&0];
    world.give(own, b"+OK\r\n");
    world.take(own);
    world.give(client, &request("UNWATCH"));
    assert_eq!(world.take(own).into_bytes(), request("UNWATCH"));
    world.give(own, b"+OK\r\n");
    assert_eq!(world.take(client), "+OK\r\n+OK\r\n");
    world.give(client, &request("GET a"));
    assert_eq!(world.take(own), "");
    world.server_says(0, b"+a\r\n");
    assert_eq!(world.take(client), "+a\r\n");
}

#[test]
fn who_blocks_blocks_nobody_else_and_pops_for_nobody_once_gone() {
    let mut world = World::new(Pool {
        timeout: Some(Duration::from_millis(400)),
        ..pool(1)
    });
    let (blocked, other) = (world.client(), world.client());
    world.give(blocked, &request("BLPOP list 5"));
    let own = world.up[&0];
    assert_eq!(world.take(own).into_bytes(), request("BLPOP list 5"));
    world.give(other, &request("RPUSH list x"));
    assert_ne!(world.up[&0], own);
    world.server_says(0, b":1\r\n");
    assert_eq!(world.take(other), ":1\r\n");
    world.later(Duration::from_millis(4900));
    world.give(own, b"*2\r\n$4\r\nlist\r\n$1\r\nx\r\n");
    assert_eq!(world.take(blocked), "*2\r\n$4\r\nlist\r\n$1\r\nx\r\n");
    world.give(blocked, &request("BLPOP list 0"));
    assert_eq!(world.take(own).into_bytes(), request("BLPOP list 0"));
    world.later(Duration::from_secs(3600));
    assert!(!world.closed.contains(&own));
    world.core.closed(blocked, How::Eof, world.now);
    world.turn();
    assert!(world.closed.contains(&own));
    world.assert_nothing_is_left();
}

#[test]
fn a_call_that_does_not_block_goes_the_ordinary_way() {
    let mut world = World::new(pool(1));
    let client = world.client();
    world.give(client, &request("GET a"));
    let shared = world.up[&0];
    world.give(client, &request("XREAD STREAMS s 0"));
    assert_eq!(world.up[&0], shared);
    world.give(shared, b"$-1\r\n*-1\r\n");
    assert_eq!(world.take(client), "$-1\r\n*-1\r\n");
}

#[test]
fn messages_reach_their_subscriber_alone() {
    let mut world = World::new(pool(2));
    let (subscriber, publisher) = (world.client(), world.client());
    world.give(subscriber, &request("SUBSCRIBE news"));
    let (&home, &own) = world.up.iter().next().unwrap();
    world.give(own, b"*3\r\n$9\r\nsubscribe\r\n$4\r\nnews\r\n:1\r\n");
    world.take(subscriber);
    world.give(publisher, &request("PUBLISH news hi"));
    assert_eq!(
        world.up.keys().collect::<Vec<_>>(),
        [&home],
        "where its subscribers are"
    );
    world.server_says(home, b":1\r\n");
    let message = b"*3\r\n$7\r\nmessage\r\n$4\r\nnews\r\n$2\r\nhi\r\n";
    world.give(own, &message[..20]);
    assert_eq!(world.take(subscriber), "", "only whole ones");
    world.give(own, &message[20..]);
    assert_eq!(world.take(subscriber).as_bytes(), message);
    assert_eq!(world.take(publisher), ":1\r\n");
    world.give(subscriber, &request("GET a"));
    assert!(
        world
            .take(subscriber)
            .starts_with("-ERR Can't execute 'get': only ")
    );
    world.take(own);
    world.give(subscriber, &request("PING"));
    assert_eq!(world.take(own).into_bytes(), request("PING"));
    world.give(own, b"*2\r\n$4\r\npong\r\n$0\r\n\r\n");
    world.give(subscriber, &request("UNSUBSCRIBE"));
    world.give(own, b"*3\r\n$11\r\nunsubscribe\r\n$4\r\nnews\r\n:0\r\n");
    assert!(world.closed.contains(&own));
    world.take(subscriber);
    let key = world.key_on(home);
    world.give(subscriber, &request(&format!("GET {key}")));
    world.server_says(home, b"+ordinary\r\n");
    assert_eq!(world.take(subscriber), "+ordinary\r\n");
    world.assert_nothing_is_left();
}

#[test]
fn who_subscribes_again_before_the_last_subscription_has_ended_is_a_subscriber() {
    let mut world = World::new(pool(1));
    let client = world.client();
    let words = ["SUBSCRIBE a b", "UNSUBSCRIBE", "PING", "PSUBSCRIBE c*"];
    let all: Vec<u8> = words.iter().flat_map(|words| request(words)).collect();
    world.give(client, &all);
    let own = world.up[&0];
    assert_eq!(world.take(own).into_bytes(), all);
    let said: Vec<u8> = [
        &b"*3\r\n$9\r\nsubscribe\r\n$1\r\na\r\n:1\r\n"[..],
        b"*3\r\n$9\r\nsubscribe\r\n$1\r\nb\r\n:2\r\n",
        b"*3\r\n$11\r\nunsubscribe\r\n$1\r\nb\r\n:1\r\n",
        b"*3\r\n$11\r\nunsubscribe\r\n$1\r\na\r\n:0\r\n",
        b"+PONG\r\n",
        b"*3\r\n$10\r\npsubscribe\r\n$2\r\nc*\r\n:1\r\n",
        b"*4\r\n$8\r\npmessage\r\n$2\r\nc*\r\n$1\r\nc\r\n$1\r\n0\r\n",
    ]
    .concat();
    world.give(own, &said);
    assert_eq!(world.take(client).into_bytes(), said);
    assert!(!world.closed.contains(&own));
    let ends = b"*3\r\n$12\r\npunsubscribe\r\n$2\r\nc*\r\n:0\r\n";
    world.give(client, &request("PUNSUBSCRIBE c*"));
    world.give(own, ends);
    assert_eq!(world.take(client).as_bytes(), ends);
    assert!(world.closed.contains(&own), "now nothing is left");
}

#[test]
fn with_resp3_messages_come_between_replies() {
    let mut world = World::new(pool(1));
    let client = world.client();
    world.give(client, &request("HELLO 3"));
    let shared = world.up[&0];
    world.give(shared, b"%0\r\n$0\r\n\r\n");
    world.take(client);
    world.give(client, &request("SUBSCRIBE news"));
    let own = world.up[&0];
    assert_ne!(shared, own);
    world.give(own, b"%0\r\n");
    world.give(own, b">3\r\n$9\r\nsubscribe\r\n$4\r\nnews\r\n:1\r\n");
    world.take(client);
    world.give(client, &request("GET a"));
    world.give(shared, b"$5\r\nab");
    world.give(own, b">3\r\n$7\r\nmessage\r\n$4\r\nnews\r\n$2\r\nhi\r\n");
    world.give(shared, b"cde\r\n");
    assert_eq!(
        world.take(client),
        ">3\r\n$7\r\nmessage\r\n$4\r\nnews\r\n$2\r\nhi\r\n$5\r\nabcde\r\n"
    );
}

#[test]
fn a_subscriber_whose_server_is_gone_hears_of_it() {
    let mut world = World::new(pool(1));
    let client = world.client();
    world.give(client, &request("SUBSCRIBE news"));
    let own = world.up[&0];
    world.core.closed(own, How::Eof, world.now);
    world.turn();
    assert!(world.closed.contains(&client));
    world.assert_nothing_is_left();
}

#[test]
fn a_scan_walks_from_server_to_server() {
    let mut world = World::new(pool(2));
    let client = world.client();
    let mut cursor = "0".to_owned();
    for (server, asked, answered) in [(0, "0", "7"), (0, "7", "0"), (1, "0", "0")] {
        world.give(client, &request(&format!("SCAN {cursor} COUNT 2")));
        assert_eq!(
            world.at_server(server).into_bytes(),
            request(&format!("SCAN {asked} COUNT 2"))
        );
        let reply = format!(
            "*2\r\n${}\r\n{answered}\r\n*1\r\n$1\r\na\r\n",
            answered.len()
        );
        world.server_says(server, reply.as_bytes());
        let got = world.take(client);
        assert!(got.ends_with("*1\r\n$1\r\na\r\n"), "{got}");
        cursor = got.lines().nth(2).unwrap().to_owned();
    }
    assert_eq!(cursor, "0");
    world.give(client, &request("SCAN 5"));
    assert!(
        world.take(client).starts_with("-ERR invalid cursor"),
        "of no topology"
    );
    world.assert_nothing_is_left();
}

#[test]
fn the_same_is_asked_of_all_servers_and_their_answers_are_one() {
    let mut world = World::new(pool(2));
    let client = world.client();
    for (asked, left, right, answer) in [
        ("DBSIZE", ":3\r\n", ":4\r\n", ":7\r\n"),
        ("FLUSHALL", "+OK\r\n", "+OK\r\n", "+OK\r\n"),
        (
            "KEYS *",
            "*1\r\n$1\r\na\r\n",
            "*1\r\n$1\r\nb\r\n",
            "*2\r\n$1\r\na\r\n$1\r\nb\r\n",
        ),
        (
            "SCRIPT EXISTS x y",
            "*2\r\n:1\r\n:1\r\n",
            "*2\r\n:1\r\n:0\r\n",
            "*2\r\n:1\r\n:0\r\n",
        ),
        ("RANDOMKEY", "$-1\r\n", "$1\r\nb\r\n", "$1\r\nb\r\n"),
        ("DBSIZE", ":3\r\n", "-LOADING wait\r\n", "-LOADING wait\r\n"),
        ("SCRIPT KILL", "-NOTBUSY none\r\n", "+OK\r\n", "+OK\r\n"),
    ] {
        world.give(client, &request(asked));
        world.server_says(1, right.as_bytes());
        world.server_says(0, left.as_bytes());
        assert_eq!(world.take(client), answer, "{asked}");
    }
    world.assert_nothing_is_left();
}

#[test]
fn who_leaves_with_part_of_a_request_on_its_own_connection_leaves_nothing_behind() {
    let mut world = World::new(pool(2));
    let client = world.client();
    let keys = [world.key_on(0), world.key_on(1)];
    world.give(client, &request(&format!("WATCH {}", keys[0])));
    world.server_says(0, b"+OK\r\n");
    world.take(client);
    world.give(client, &request(&format!("MGET {} {}", keys[0], keys[1])));
    assert_eq!(world.core.desk.splits.in_use(), 1);
    world.core.closed(client, How::Reset, world.now);
    world.turn();
    world.server_says(1, b"*1\r\n$-1\r\n");
    assert_eq!(world.core.desk.splits.in_use(), 0);
    world.assert_nothing_is_left();
}
