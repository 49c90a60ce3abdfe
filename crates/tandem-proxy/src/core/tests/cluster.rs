//! A Redis Cluster behind the proxy: nodes that send requests elsewhere, and maps that change.

use super::*;
use crate::cluster::{Node, Seats, Shard, View, pool as cluster_pool};
use crate::core::follow::HOLD;

/// Slot 5061, in the lower half, and 12182, in the upper.
const LOWER: &str = "bar";
const UPPER: &str = "foo";

const OK: &[u8] = b"+OK\r\n";
const TRYAGAIN: &[u8] = b"-TRYAGAIN Multiple keys request during rehashing of slot\r\n";

/// A cluster, and who asks its nodes.
struct Cluster {
    world: World,
    seats: Seats,
}

/// A shard: its nodes, the primary first, and its slots.
fn shard(places: &[u16], slots: &[(u16, u16)]) -> Shard {
    let mut nodes = places.iter().map(|&place| Node {
        id: format!("node{place}"),
        at: Address::Tcp {
            host: "127.0.0.1".to_owned(),
            port: 1000 + place,
        },
    });
    Shard {
        primary: nodes.next().unwrap(),
        replicas: nodes.collect(),
        slots: slots.to_vec(),
    }
}

/// The lower half at place 1, the upper at place 2.
fn halves() -> Vec<Shard> {
    vec![
        shard(&[1, 11], &[(0, 8191)]),
        shard(&[2, 12], &[(8192, 16383)]),
    ]
}

fn moved(slot: u16, place: u16) -> Vec<u8> {
    format!("-MOVED {slot} 127.0.0.1:{}\r\n", 1000 + place).into_bytes()
}

fn ask(slot: u16, place: u16) -> Vec<u8> {
    format!("-ASK {slot} 127.0.0.1:{}\r\n", 1000 + place).into_bytes()
}

impl Cluster {
    fn unknown() -> Self {
        let address = Address::Tcp {
            host: "127.0.0.1".to_owned(),
            port: 1,
        };
        let mut world = World::new(cluster_pool("test".to_owned(), address));
        world.turn();
        Self {
            world,
            seats: Seats::new(),
        }
    }

    fn new() -> Self {
        let mut cluster = Self::unknown();
        cluster.is(halves());
        cluster
    }

    /// A newer map.
    fn is(&mut self, shards: Vec<Shard>) {
        self.seats.take(&View { shards });
        let world = &mut self.world;
        world.core.remap(0, self.seats.map(), world.now);
        world.turn();
    }

    fn says(&mut self, place: usize, reply: &[u8]) {
        self.world.server_says(place, reply);
    }

    /// What a place was sent, command by command.
    fn at(&mut self, place: usize) -> String {
        let sent = self.world.at_server(place);
        let mut words = sent
            .split("\r\n")
            .filter(|line| !line.starts_with('$') && !line.is_empty());
        let mut commands = Vec::new();
        while let Some(count) = words.next() {
            let count: usize = count.trim_start_matches('*').parse().unwrap();
            commands.push(words.by_ref().take(count).collect::<Vec<_>>().join(" "));
        }
        commands.join(", ")
    }

    fn ask(&mut self, client: Peer, words: &str) {
        self.world.give(client, &request(words));
    }
}

#[test]
fn keys_go_by_their_slots_and_wait_until_these_are_known() {
    let mut cluster = Cluster::unknown();
    let client = cluster.world.client();
    cluster.ask(client, "GET foo");
    cluster.ask(client, "GET bar");
    cluster.ask(client, "DBSIZE");
    assert!(cluster.world.connections.is_empty());
    cluster.is(halves());
    assert_eq!(cluster.at(1), "GET bar");
    // What was asked of nobody is asked of somebody.
    assert_eq!(cluster.at(2), "GET foo");
    cluster.says(2, b"$1\r\n2\r\n");
    cluster.says(1, b"$1\r\n1\r\n");
    assert_eq!(cluster.world.take(client), "$1\r\n2\r\n$1\r\n1\r\n");
}

#[test]
fn who_waits_for_a_cluster_that_never_comes_is_told() {
    let mut cluster = Cluster::unknown();
    let client = cluster.world.client();
    cluster.ask(client, "SET foo 1");
    cluster.world.later(HOLD / 2);
    assert_eq!(cluster.world.take(client), "");
    cluster.world.later(HOLD);
    assert!(cluster.world.take(client).starts_with("-TANDEM-NOPRIMARY "));
    cluster.world.assert_nothing_is_left();
}

#[test]
fn a_moved_slot_is_asked_there_and_nowhere_else_from_then_on() {
    let mut cluster = Cluster::new();
    let client = cluster.world.client();
    cluster.ask(client, "SET bar 1");
    cluster.ask(client, "GET bar");
    assert_eq!(cluster.at(1), "SET bar 1, GET bar");
    cluster.says(1, &[moved(5061, 2), moved(5061, 2)].concat());
    assert_eq!(cluster.at(2), "SET bar 1, GET bar");
    assert_eq!(cluster.world.remaps, 1, "and somebody asks for the rest");
    cluster.says(2, b"+OK\r\n$1\r\n1\r\n");
    assert_eq!(cluster.world.take(client), "+OK\r\n$1\r\n1\r\n");
    cluster.ask(client, "GET bar");
    assert_eq!(cluster.at(1), "");
    assert_eq!(cluster.at(2), "GET bar");
    cluster.says(2, b"$1\r\n1\r\n");
    assert_eq!(cluster.world.take(client), "$1\r\n1\r\n");
    cluster.world.assert_nothing_is_left();
}

#[test]
fn a_slot_under_way_is_asked_behind_asking_and_stays_where_it_is() {
    let mut cluster = Cluster::new();
    let (one, two) = (cluster.world.client(), cluster.world.client());
    cluster.ask(one, "GET bar");
    cluster.ask(two, "GET foo");
    cluster.says(1, &ask(5061, 2));
    assert_eq!(cluster.at(2), "GET foo, ASKING, GET bar");
    cluster.says(2, b"$1\r\nf\r\n+OK\r\n$1\r\nb\r\n");
    assert_eq!(cluster.world.take(one), "$1\r\nb\r\n");
    assert_eq!(cluster.world.take(two), "$1\r\nf\r\n");
    cluster.at(1);
    cluster.ask(one, "GET bar");
    assert_eq!(cluster.at(1), "GET bar");
    assert_eq!(cluster.world.remaps, 0);
    cluster.says(1, b"$1\r\nb\r\n");
    cluster.world.assert_nothing_is_left();
}

#[test]
fn asking_is_sent_again_with_its_request_and_dropped_with_it() {
    let mut cluster = Cluster::new();
    let (one, two) = (cluster.world.client(), cluster.world.client());
    cluster.ask(one, "GET bar");
    cluster.ask(two, "GET {bar}2");
    cluster.says(1, &[ask(5061, 2), ask(5061, 2)].concat());
    assert_eq!(cluster.at(2), "ASKING, GET bar, ASKING, GET {bar}2");
    cluster
        .world
        .core
        .closed(one, How::Reset, cluster.world.now);
    cluster.world.loses(2);
    cluster.world.later(Duration::from_millis(20));
    assert_eq!(cluster.at(2), "ASKING, GET {bar}2");
    cluster.says(2, b"+OK\r\n$1\r\n2\r\n");
    assert_eq!(cluster.world.take(two), "$1\r\n2\r\n");
    cluster.world.assert_nothing_is_left();
}

#[test]
fn somebody_unknown_who_is_named_is_asked_when_a_map_has_him() {
    let mut cluster = Cluster::new();
    let client = cluster.world.client();
    cluster.ask(client, "GET bar");
    cluster.says(1, &ask(5061, 3));
    let named = Address::Tcp {
        host: "127.0.0.1".to_owned(),
        port: 1003,
    };
    assert_eq!(cluster.world.core.take_stranger(0), Some(named));
    assert_eq!(cluster.world.remaps, 1);
    let mut shards = halves();
    shards.push(shard(&[3], &[]));
    cluster.is(shards);
    cluster.at(1);
    cluster.world.later(Duration::from_millis(20));
    assert_eq!(cluster.at(1), "GET bar", "it is asked who has it now");
    cluster.says(1, &ask(5061, 3));
    assert_eq!(cluster.at(3), "ASKING, GET bar");
    cluster.says(3, b"+OK\r\n$1\r\nb\r\n");
    assert_eq!(cluster.world.take(client), "$1\r\nb\r\n");
    cluster.world.assert_nothing_is_left();
}

#[test]
fn nodes_that_each_name_the_other_are_asked_until_one_has_it() {
    let mut cluster = Cluster::new();
    let client = cluster.world.client();
    cluster.ask(client, "GET bar");
    for _ in 0..40 {
        for (place, other) in [(1, 2), (2, 1)] {
            if cluster.at(place) == "GET bar" {
                cluster.says(place, &moved(5061, other as u16));
            }
        }
        cluster.world.later(Duration::from_millis(16));
    }
    assert_eq!(cluster.world.take(client), "");
    let sent = [cluster.at(1), cluster.at(2)];
    let answering = if sent[0] == "GET bar" { 1 } else { 2 };
    cluster.says(answering, b"$1\r\nb\r\n");
    assert_eq!(cluster.world.take(client), "$1\r\nb\r\n");
    cluster.ask(client, "GET bar");
    let began = cluster.world.now;
    while cluster.world.now < began + HOLD * 2 {
        for (place, other) in [(1, 2), (2, 1)] {
            if cluster.at(place) == "GET bar" {
                cluster.says(place, &moved(5061, other as u16));
            }
        }
        cluster.world.later(Duration::from_millis(16));
    }
    let reply = cluster.world.take(client);
    assert!(reply.starts_with("-MOVED 5061 "), "{reply}");
    cluster.world.assert_nothing_is_left();
}

#[test]
fn several_keys_are_cut_by_slot_even_on_one_node() {
    let mut cluster = Cluster::new();
    let client = cluster.world.client();
    cluster.ask(client, "MGET {bar}1 foo {bar}2 x");
    assert_eq!(cluster.at(1), "mget {bar}1 {bar}2");
    assert_eq!(cluster.at(2), "mget foo, mget x");
    cluster.says(2, b"*1\r\n$1\r\nf\r\n*1\r\n$1\r\nx\r\n");
    cluster.says(1, b"*2\r\n$1\r\n1\r\n$1\r\n2\r\n");
    assert_eq!(
        cluster.world.take(client),
        "*4\r\n$1\r\n1\r\n$1\r\nf\r\n$1\r\n2\r\n$1\r\nx\r\n"
    );
    cluster.ask(client, "MSET foo 1 bar 2 {foo}3 4");
    assert_eq!(cluster.at(2), "mset foo 1 {foo}3 4");
    assert_eq!(cluster.at(1), "mset bar 2");
    cluster.says(1, OK);
    cluster.says(2, OK);
    assert_eq!(cluster.world.take(client), "+OK\r\n");
    cluster.ask(client, "DEL foo {foo}2");
    assert_eq!(cluster.at(2), "DEL foo {foo}2", "as it came");
    cluster.says(2, b":2\r\n");
    cluster.ask(client, "SINTER foo bar");
    assert!(cluster.world.take(client).contains("-CROSSSLOT "));
    cluster.world.assert_nothing_is_left();
}

#[test]
fn a_part_that_moved_comes_from_elsewhere() {
    let mut cluster = Cluster::new();
    let client = cluster.world.client();
    cluster.ask(client, "MGET bar foo");
    cluster.says(1, &moved(5061, 2));
    assert_eq!(cluster.at(2), "mget foo, mget bar");
    cluster.says(2, b"*1\r\n$1\r\nf\r\n*1\r\n$1\r\nb\r\n");
    assert_eq!(cluster.world.take(client), "*2\r\n$1\r\nb\r\n$1\r\nf\r\n");
    cluster.world.assert_nothing_is_left();
}

#[test]
fn keys_that_are_on_two_nodes_are_asked_for_one_by_one() {
    for words in ["MGET {bar}1 {bar}2", "MGET {bar}1 {bar}2 foo"] {
        let mut cluster = Cluster::new();
        let client = cluster.world.client();
        cluster.ask(client, words);
        cluster.at(1);
        cluster.at(2);
        cluster.says(1, TRYAGAIN);
        assert_eq!(cluster.at(1), "mget {bar}1, mget {bar}2");
        cluster.says(1, &[&b"*1\r\n$1\r\n1\r\n"[..], &ask(5061, 2)].concat());
        assert_eq!(cluster.at(2), "ASKING, mget {bar}2");
        let mut expected = "*2\r\n$1\r\n1\r\n$1\r\n2\r\n".to_owned();
        if words.ends_with("foo") {
            cluster.says(2, b"*1\r\n$1\r\nf\r\n");
            expected = "*3\r\n$1\r\n1\r\n$1\r\n2\r\n$1\r\nf\r\n".to_owned();
        }
        cluster.says(2, b"+OK\r\n*1\r\n$1\r\n2\r\n");
        assert_eq!(cluster.world.take(client), expected, "{words}");
        cluster.world.assert_nothing_is_left();
    }
}

#[test]
fn what_cannot_be_split_is_tried_again_and_what_is_behind_it_waits() {
    let mut cluster = Cluster::new();
    let (client, other) = (cluster.world.client(), cluster.world.client());
    cluster.ask(client, "SUNIONSTORE {bar}1 {bar}2 {bar}3");
    cluster.ask(client, "SCARD {bar}1");
    cluster.ask(other, "SCARD {bar}1");
    cluster.at(1);
    cluster.says(1, TRYAGAIN);
    // The other's answer is its own; this one's must not come before what it was asked behind.
    cluster.says(1, b":7\r\n:7\r\n");
    assert_eq!(cluster.world.take(client), "");
    assert_eq!(cluster.world.take(other), ":7\r\n");
    assert!(
        !cluster.world.give(client, &request("SCARD {bar}1")),
        "it is not read from"
    );
    cluster.world.later(Duration::from_millis(4));
    assert_eq!(
        cluster.at(1),
        "SUNIONSTORE {bar}1 {bar}2 {bar}3, SCARD {bar}1"
    );
    cluster.says(1, b":3\r\n:3\r\n");
    assert_eq!(cluster.world.take(client), ":3\r\n:3\r\n");
    assert!(cluster.world.resumed.contains(&client));
    cluster.world.assert_nothing_is_left();
}

#[test]
fn a_write_that_was_executed_behind_it_makes_its_error_stand() {
    let mut cluster = Cluster::new();
    let client = cluster.world.client();
    cluster.ask(client, "SUNIONSTORE {bar}1 {bar}2 {bar}3");
    cluster.ask(client, "SADD {bar}1 x");
    cluster.says(1, &[TRYAGAIN, b":1\r\n"].concat());
    assert_eq!(
        cluster.world.take(client),
        format!("{}:1\r\n", String::from_utf8_lossy(TRYAGAIN))
    );
    cluster.world.assert_nothing_is_left();
}

#[test]
fn a_primary_that_dies_is_waited_for_and_its_replica_goes_on() {
    let mut cluster = Cluster::new();
    let (reads, writes, held) = (
        cluster.world.client(),
        cluster.world.client(),
        cluster.world.client(),
    );
    cluster.ask(reads, "GET bar");
    cluster.ask(writes, "INCR {bar}n");
    cluster.world.refusing = vec![1];
    cluster.world.loses(1);
    assert!(cluster.world.take(writes).starts_with("-TANDEM-UNKNOWN "));
    assert!(cluster.world.remaps > 0);
    cluster.ask(held, "SET bar 2");
    cluster.world.later(Duration::from_millis(100));
    cluster.is(vec![
        shard(&[2, 12], &[(8192, 16383)]),
        shard(&[11], &[(0, 8191)]),
    ]);
    assert_eq!(cluster.at(11), "GET bar, SET bar 2");
    cluster.says(11, b"$1\r\n1\r\n+OK\r\n");
    assert_eq!(cluster.world.take(reads), "$1\r\n1\r\n");
    assert_eq!(cluster.world.take(held), "+OK\r\n");
    cluster.world.assert_nothing_is_left();
}

#[test]
fn a_primary_that_steps_down_is_heard_out() {
    let mut cluster = Cluster::new();
    let (one, two) = (cluster.world.client(), cluster.world.client());
    cluster.ask(one, "INCR {bar}n");
    cluster.ask(two, "INCR {bar}m");
    cluster.at(1);
    let failed_over = || {
        vec![
            shard(&[11, 1], &[(0, 8191)]),
            shard(&[2, 12], &[(8192, 16383)]),
        ]
    };
    cluster.is(failed_over());
    cluster.is(failed_over());
    let three = cluster.world.client();
    cluster.ask(three, "GET {bar}n");
    assert_eq!(cluster.at(1), "", "it is asked nothing more");
    cluster.says(1, &[&b":1\r\n"[..], &moved(5061, 11)].concat());
    assert_eq!(cluster.world.take(one), ":1\r\n");
    cluster.world.later(Duration::from_millis(2));
    assert_eq!(cluster.at(11), "INCR {bar}m, GET {bar}n");
    cluster.says(11, b":1\r\n$1\r\n1\r\n");
    assert_eq!(cluster.world.take(two), ":1\r\n");
    assert_eq!(cluster.world.take(three), "$1\r\n1\r\n");
    cluster.world.assert_nothing_is_left();
}

#[test]
fn nothing_overtakes_what_is_on_its_way_to_a_slot_that_moves() {
    let mut cluster = Cluster::new();
    let (one, two) = (cluster.world.client(), cluster.world.client());
    cluster.ask(one, "GET bar");
    cluster.ask(two, "SET bar 1");
    cluster.at(1);
    cluster.says(1, &moved(5061, 2));
    assert_eq!(cluster.at(2), "GET bar");
    // This one has a word at the old node, which will be sent on; the next must not be there before it.
    cluster.ask(two, "GET bar");
    assert_eq!(cluster.at(2), "");
    cluster.says(1, &moved(5061, 2));
    assert_eq!(cluster.at(2), "SET bar 1");
    cluster.says(2, b"$-1\r\n+OK\r\n");
    assert!(cluster.world.resumed.contains(&two));
    cluster.ask(two, "GET bar");
    assert_eq!(cluster.at(2), "GET bar");
    cluster.says(2, b"$1\r\n1\r\n");
    assert_eq!(cluster.world.take(two), "+OK\r\n$1\r\n1\r\n");
    cluster.world.assert_nothing_is_left();
}

#[test]
fn what_waited_for_a_shard_that_is_gone_goes_where_its_slots_are() {
    let mut cluster = Cluster::new();
    let (one, two) = (cluster.world.client(), cluster.world.client());
    cluster.ask(one, "SET bar 1");
    cluster.at(1);
    cluster.says(1, OK);
    cluster.world.refusing = vec![1];
    cluster.world.loses(1);
    cluster.ask(one, "SET bar 2");
    cluster.ask(two, "MGET bar foo");
    assert_eq!(cluster.at(2), "mget foo");
    cluster.is(vec![shard(&[2], &[(0, 16383)])]);
    assert_eq!(cluster.at(2), "SET bar 2, mget bar");
    cluster.says(2, b"*1\r\n$1\r\nf\r\n+OK\r\n*1\r\n$1\r\n2\r\n");
    assert_eq!(cluster.world.take(two), "*2\r\n$1\r\n2\r\n$1\r\nf\r\n");
    cluster.world.assert_nothing_is_left();
}

#[test]
fn what_blocks_blocks_where_its_key_is() {
    let mut cluster = Cluster::new();
    let client = cluster.world.client();
    cluster.ask(client, "BLPOP bar 0");
    assert_eq!(cluster.at(1), "BLPOP bar 0");
    // However long it has blocked.
    cluster.world.later(HOLD * 2);
    cluster.says(1, &moved(5061, 2));
    assert_eq!(cluster.at(2), "BLPOP bar 0");
    cluster.world.later(HOLD * 2);
    cluster.says(2, &moved(5061, 1));
    assert_eq!(cluster.at(1), "BLPOP bar 0");
    cluster.says(1, &moved(5061, 2));
    cluster.world.later(Duration::from_millis(16));
    assert_eq!(cluster.at(2), "BLPOP bar 0");
    cluster.says(2, b"*2\r\n$3\r\nbar\r\n$1\r\nx\r\n");
    assert_eq!(cluster.world.take(client), "*2\r\n$3\r\nbar\r\n$1\r\nx\r\n");
    cluster.world.assert_nothing_is_left();
    // Also while nobody is known who has it.
    let mut cluster = Cluster::unknown();
    let client = cluster.world.client();
    cluster.ask(client, "BLPOP bar 0");
    cluster.is(halves());
    assert_eq!(cluster.at(1), "BLPOP bar 0");
    cluster.says(1, b"*-1\r\n");
    assert_eq!(cluster.world.take(client), "*-1\r\n");
    cluster.world.assert_nothing_is_left();
}

#[test]
fn what_a_script_makes_up_is_its_answer() {
    let mut cluster = Cluster::new();
    let client = cluster.world.client();
    cluster.ask(client, "EVAL script 1 bar");
    cluster.says(1, &moved(12182, 2));
    assert!(cluster.world.take(client).starts_with("-MOVED 12182 "));
    assert_eq!(cluster.at(2), "");
    cluster.world.assert_nothing_is_left();
}

#[test]
fn who_has_left_is_not_asked_for_again() {
    let mut cluster = Cluster::new();
    let client = cluster.world.client();
    cluster.ask(client, "SUNIONSTORE {bar}1 {bar}2 {bar}3");
    cluster.at(1);
    cluster.says(1, TRYAGAIN);
    cluster
        .world
        .core
        .closed(client, How::Reset, cluster.world.now);
    cluster.world.later(Duration::from_millis(4));
    assert_eq!(cluster.at(1), "");
    cluster.world.assert_nothing_is_left();
}

#[test]
fn who_blocks_and_leaves_is_noticed_while_slots_move() {
    let mut cluster = Cluster::new();
    let client = cluster.world.client();
    cluster.ask(client, "BLPOP bar 0");
    cluster.is(vec![
        shard(&[1, 11], &[(1, 8191)]),
        shard(&[2, 12], &[(0, 0), (8192, 16383)]),
    ]);
    assert!(!cluster.world.core.recv_space(client).is_empty());
    cluster.says(1, &moved(5061, 3));
    assert!(!cluster.world.core.recv_space(client).is_empty());
    let own = cluster.world.up[&1];
    cluster
        .world
        .core
        .closed(client, How::Eof, cluster.world.now);
    cluster.world.turn();
    assert!(cluster.world.closed.contains(&own));
    cluster.world.assert_nothing_is_left();
}

#[test]
fn a_watch_whose_slot_moves_aborts_its_transaction_as_a_change_would() {
    let mut cluster = Cluster::new();
    let client = cluster.world.client();
    cluster.ask(client, "WATCH bar");
    cluster.says(1, OK);
    cluster.ask(client, "GET bar");
    cluster.says(1, &moved(5061, 2));
    assert_eq!(cluster.at(2), "GET bar");
    cluster.says(2, b"$1\r\n1\r\n");
    cluster.ask(client, "MULTI");
    cluster.ask(client, "SET bar 2");
    cluster.ask(client, "EXEC");
    assert_eq!(
        cluster.world.take(client),
        "+OK\r\n$1\r\n1\r\n+OK\r\n+QUEUED\r\n*-1\r\n"
    );
    assert_eq!(cluster.at(2), "");
    cluster.ask(client, "WATCH bar");
    assert_eq!(cluster.at(2), "WATCH bar", "and the next one is right");
}

#[test]
fn a_large_request_is_kept_until_it_is_answered() {
    let mut cluster = Cluster::new();
    let client = cluster.world.client();
    let large = request(&format!("SET bar {}", "x".repeat(200 * 1024)));
    for piece in large.chunks(50_000) {
        assert!(cluster.world.give(client, piece));
    }
    assert_eq!(cluster.world.at_server(1).len(), large.len());
    cluster.says(1, &moved(5061, 2));
    assert_eq!(cluster.world.at_server(2).into_bytes(), large);
    cluster.says(2, OK);
    assert_eq!(cluster.world.take(client), "+OK\r\n");
    cluster.world.assert_nothing_is_left();
}

#[test]
fn what_concerns_all_shards_is_asked_of_those_that_there_are() {
    let mut cluster = Cluster::new();
    let client = cluster.world.client();
    cluster.ask(client, "DBSIZE");
    cluster.says(1, b":3\r\n");
    cluster.says(2, b":4\r\n");
    assert_eq!(cluster.world.take(client), ":7\r\n");
    cluster.ask(client, "SCAN 0");
    cluster.says(1, b"*2\r\n$1\r\n0\r\n*1\r\n$3\r\nbar\r\n");
    let reply = cluster.world.take(client);
    let cursor = reply.split("\r\n").nth(2).unwrap().to_owned();
    assert_ne!(cursor, "0");
    cluster.at(2);
    cluster.ask(client, &format!("SCAN {cursor}"));
    assert_eq!(cluster.at(2), "SCAN 0");
    cluster.says(2, b"*2\r\n$1\r\n0\r\n*1\r\n$3\r\nfoo\r\n");
    assert_eq!(
        cluster.world.take(client),
        "*2\r\n$1\r\n0\r\n*1\r\n$3\r\nfoo\r\n"
    );
    // A slot has moved since: some of it may be behind, and some ahead.
    cluster.is(vec![
        shard(&[1], &[(0, 5060)]),
        shard(&[2], &[(5061, 16383)]),
    ]);
    cluster.ask(client, &format!("SCAN {cursor}"));
    assert!(
        cluster
            .world
            .take(client)
            .starts_with("-ERR invalid cursor")
    );
    cluster.world.assert_nothing_is_left();
}

#[test]
fn clients_see_one_server_and_no_cluster() {
    let mut cluster = Cluster::new();
    let client = cluster.world.client();
    cluster.ask(client, "CLUSTER SLOTS");
    assert!(
        cluster
            .world
            .take(client)
            .contains("cluster support disabled")
    );
    cluster.ask(client, &format!("SUNION {LOWER} {UPPER}"));
    assert!(cluster.world.take(client).starts_with("-CROSSSLOT "));
}

const EXECABORT: &str = "-EXECABORT Transaction discarded because of previous errors.\r\n";

fn transaction(cluster: &mut Cluster, client: Peer) {
    for words in ["MULTI", "SET bar 1", "INCR {bar}n", "EXEC"] {
        cluster.ask(client, words);
    }
    assert_eq!(cluster.world.take(client), "+OK\r\n+QUEUED\r\n+QUEUED\r\n");
    assert_eq!(cluster.at(1), "MULTI, SET bar 1, INCR {bar}n, EXEC");
}

#[test]
fn a_transaction_whose_slot_moves_is_sent_again_as_a_whole() {
    for (asks, expected) in [
        (false, "MULTI, SET bar 1, INCR {bar}n, EXEC"),
        (true, "ASKING, MULTI, SET bar 1, INCR {bar}n, EXEC"),
    ] {
        let mut cluster = Cluster::new();
        let (client, other) = (cluster.world.client(), cluster.world.client());
        transaction(&mut cluster, client);
        cluster.ask(other, "GET bar");
        let sends = if asks { ask(5061, 2) } else { moved(5061, 2) };
        cluster.says(
            1,
            &[OK, b"+QUEUED\r\n", &sends, EXECABORT.as_bytes()].concat(),
        );
        assert_eq!(cluster.at(2), expected);
        let mut replies = b"+OK\r\n+QUEUED\r\n+QUEUED\r\n*2\r\n+OK\r\n:1\r\n".to_vec();
        if asks {
            replies.splice(0..0, *b"+OK\r\n");
        }
        cluster.says(2, &replies);
        assert_eq!(cluster.world.take(client), "*2\r\n+OK\r\n:1\r\n");
        cluster.says(1, b"$-1\r\n");
        assert_eq!(cluster.world.take(other), "$-1\r\n");
        cluster.world.assert_nothing_is_left();
    }
}

#[test]
fn a_slot_may_move_while_a_transaction_is_written() {
    let mut cluster = Cluster::new();
    let client = cluster.world.client();
    cluster.ask(client, "MULTI");
    cluster.ask(client, "SET bar 1");
    cluster.is(vec![
        shard(&[1, 11], &[(0, 5060)]),
        shard(&[2, 12], &[(5061, 16383)]),
    ]);
    cluster.ask(client, "INCR {bar}n");
    cluster.ask(client, "EXEC");
    assert_eq!(cluster.at(2), "MULTI, SET bar 1, INCR {bar}n, EXEC");
    cluster.says(2, b"+OK\r\n+QUEUED\r\n+QUEUED\r\n*2\r\n+OK\r\n:1\r\n");
    assert_eq!(
        cluster.world.take(client),
        "+OK\r\n+QUEUED\r\n+QUEUED\r\n*2\r\n+OK\r\n:1\r\n"
    );
    cluster.ask(client, "MULTI");
    cluster.ask(client, "SET bar 1");
    cluster.ask(client, "SET foo 1");
    assert!(
        cluster
            .world
            .take(client)
            .ends_with("ask for each key by itself\r\n")
    );
    cluster.ask(client, "EXEC");
    assert_eq!(cluster.world.take(client), EXECABORT);
    // What is watched where a slot was counts as changed; elsewhere it does not.
    cluster.ask(client, "WATCH bar");
    cluster.says(2, OK);
    cluster.is(halves());
    cluster.ask(client, "MULTI");
    cluster.ask(client, "SET bar 1");
    cluster.ask(client, "EXEC");
    assert!(cluster.world.take(client).ends_with("+QUEUED\r\n*-1\r\n"));
    cluster.world.assert_nothing_is_left();
}

#[test]
fn a_transaction_on_two_nodes_is_tried_again_and_sent_on_once_more() {
    let mut cluster = Cluster::new();
    let client = cluster.world.client();
    transaction(&mut cluster, client);
    // At EXEC a node looks at all keys together.
    cluster.says(1, &[OK, b"+QUEUED\r\n+QUEUED\r\n", TRYAGAIN].concat());
    cluster.world.later(Duration::from_millis(4));
    assert_eq!(cluster.at(1), "MULTI, SET bar 1, INCR {bar}n, EXEC");
    cluster.says(
        1,
        &[OK, &moved(5061, 2), &moved(5061, 2), EXECABORT.as_bytes()].concat(),
    );
    cluster.world.later(Duration::from_millis(16));
    assert_eq!(cluster.at(2), "MULTI, SET bar 1, INCR {bar}n, EXEC");
    cluster.world.loses(2);
    assert!(cluster.world.take(client).starts_with("-TANDEM-UNKNOWN "));
    cluster.world.assert_nothing_is_left();
}

#[test]
fn a_transaction_that_a_server_would_abort_is_aborted() {
    let mut cluster = Cluster::new();
    let client = cluster.world.client();
    transaction(&mut cluster, client);
    let wrong = b"-ERR wrong number of arguments for 'incr' command\r\n";
    cluster.says(
        1,
        &[OK, b"+QUEUED\r\n", wrong, EXECABORT.as_bytes()].concat(),
    );
    assert_eq!(cluster.world.take(client), EXECABORT);
    // One that watches is aborted as if a key had changed.
    cluster.ask(client, "WATCH bar");
    cluster.says(1, OK);
    cluster.world.take(client);
    cluster.at(1);
    transaction(&mut cluster, client);
    cluster.says(
        1,
        &[OK, &moved(5061, 2), &moved(5061, 2), EXECABORT.as_bytes()].concat(),
    );
    assert_eq!(cluster.world.take(client), "*-1\r\n");
    assert_eq!(cluster.at(2), "");
}

/// What a node says to a subscriber.
fn word(kind: &str, name: &str, count: usize) -> Vec<u8> {
    format!(
        "*3\r\n${}\r\n{kind}\r\n${}\r\n{name}\r\n:{count}\r\n",
        kind.len(),
        name.len()
    )
    .into_bytes()
}

#[test]
fn a_sharded_channel_is_followed_to_where_its_slot_goes() {
    let mut cluster = Cluster::new();
    let client = cluster.world.client();
    cluster.ask(client, "SSUBSCRIBE {bar}news");
    cluster.says(1, &moved(5061, 2));
    assert_eq!(cluster.world.take(client), "");
    assert_eq!(cluster.at(2), "SSUBSCRIBE {bar}news");
    cluster.says(2, &word("ssubscribe", "{bar}news", 1));
    assert_eq!(
        cluster.world.take(client).into_bytes(),
        word("ssubscribe", "{bar}news", 1)
    );
    cluster.ask(client, "SSUBSCRIBE {bar}more");
    cluster.says(2, &word("ssubscribe", "{bar}more", 2));
    cluster.world.take(client);
    cluster.at(2);
    // The slot goes back: the node ends both, and knows no better for a moment.
    cluster.says(2, &word("sunsubscribe", "{bar}news", 1));
    assert_eq!(
        cluster.world.take(client),
        "",
        "the client has not asked for it"
    );
    cluster.world.later(Duration::from_millis(20));
    assert_eq!(cluster.at(2), "SSUBSCRIBE {bar}more {bar}news");
    cluster.says(2, &moved(5061, 1));
    assert_eq!(cluster.at(1), "SSUBSCRIBE {bar}more {bar}news");
    let both = [
        word("ssubscribe", "{bar}more", 1),
        word("ssubscribe", "{bar}news", 2),
        word("smessage", "{bar}news", 7),
    ];
    cluster.says(1, &both.concat());
    assert_eq!(
        cluster.world.take(client).into_bytes(),
        word("smessage", "{bar}news", 7)
    );
    // What it ends itself it hears of.
    cluster.ask(client, "SUNSUBSCRIBE {bar}news");
    cluster.says(1, &word("sunsubscribe", "{bar}news", 1));
    assert_eq!(
        cluster.world.take(client).into_bytes(),
        word("sunsubscribe", "{bar}news", 1)
    );
}

#[test]
fn sharded_channels_that_part_end_the_connection_or_the_wish() {
    let mut cluster = Cluster::new();
    let client = cluster.world.client();
    cluster.ask(client, "SSUBSCRIBE {bar}a {foo}b");
    assert!(cluster.world.take(client).starts_with("-CROSSSLOT "));
    cluster.ask(client, "SSUBSCRIBE {bar}a");
    cluster.says(1, &word("ssubscribe", "{bar}a", 1));
    cluster.world.take(client);
    cluster.ask(client, "SSUBSCRIBE {user}b");
    cluster.says(1, &moved(5474, 2));
    assert!(cluster.world.take(client).starts_with("-CROSSSLOT "));
    cluster.ask(client, "SSUBSCRIBE {x}b");
    assert!(cluster.world.take(client).starts_with("-CROSSSLOT "));
    cluster.ask(client, "SUBSCRIBE plain");
    cluster.says(1, &word("subscribe", "plain", 2));
    assert_eq!(
        cluster.world.take(client).into_bytes(),
        word("subscribe", "plain", 2)
    );
    cluster.ask(client, "SSUBSCRIBE {user}b");
    cluster.says(1, &word("ssubscribe", "{user}b", 3));
    cluster.world.take(client);
    cluster.says(1, &word("sunsubscribe", "{user}b", 2));
    assert!(cluster.world.take(client).starts_with("-ERR "));
    assert!(cluster.world.closed.contains(&client));
}

#[test]
fn keyspace_notifications_are_heard_from_every_primary_also_from_one_that_joins() {
    let mut cluster = Cluster::new();
    let client = cluster.world.client();
    let name = "__keyevent@0__:set";
    let listens = format!("SUBSCRIBE {name}");
    cluster.ask(client, &listens);
    let (ear, own) = match cluster.world.up.contains_key(&1) {
        true => (1, 2),
        false => (2, 1),
    };
    assert_eq!(cluster.at(ear), listens);
    cluster.says(ear, &word("subscribe", name, 1));
    assert_eq!(cluster.at(own), listens);
    cluster.says(own, &word("subscribe", name, 1));
    cluster.world.take(client);
    let mut shards = halves();
    shards.push(shard(&[3, 13], &[]));
    cluster.is(shards);
    let joined = cluster.world.up.contains_key(&3);
    let mut shards = halves();
    shards[0] = shard(&[1, 11], &[(0, 8190)]);
    shards.push(shard(&[3, 13], &[(8191, 8191)]));
    cluster.is(shards);
    if !joined {
        assert_eq!(cluster.at(3), listens, "with its first slot");
    }
    cluster.says(3, &word("subscribe", name, 1));
    let event = word("message", name, 7);
    for place in [1, 2, 3] {
        cluster.says(place, &event);
        assert_eq!(cluster.world.take(client).into_bytes(), event);
    }
    // One primary is replaced by its replica: the others stay.
    let mut shards = halves();
    shards[0] = shard(&[11, 1], &[(0, 8191)]);
    cluster.is(shards);
    cluster.world.later(Duration::from_millis(300));
    assert_eq!(cluster.at(11), listens);
    assert!(!cluster.world.up.contains_key(&3), "one that left is left");
    assert!(cluster.world.up.contains_key(&2));
}

#[test]
fn what_is_asked_behind_a_blocking_command_is_answered_when_both_slots_move() {
    let mut cluster = Cluster::new();
    let client = cluster.world.client();
    cluster.ask(client, "BLPOP bar 0");
    // Another slot of the same node, on the same connection.
    let other = (0..)
        .map(|at| format!("k{at}"))
        .find(|key| crate::placement::slot_of(key.as_bytes()) < 5000)
        .unwrap();
    cluster.ask(client, &format!("GET {other}"));
    assert_eq!(cluster.at(1), format!("BLPOP bar 0, GET {other}"));
    let slot = crate::placement::slot_of(other.as_bytes());
    let both = [moved(5061, 2), moved(slot, 2)].concat();
    cluster.says(1, &both);
    for _ in 0..5 {
        cluster.world.later(Duration::from_millis(20));
    }
    let mut answered = 0;
    let connections: Vec<Peer> = cluster
        .world
        .connections
        .iter()
        .filter_map(|&(place, peer)| (place == 2).then_some(peer))
        .collect();
    for peer in connections {
        let sent = cluster.world.take(peer);
        let mut replies = Vec::new();
        if sent.contains("BLPOP") {
            replies.extend_from_slice(b"*2\r\n$3\r\nbar\r\n$1\r\nx\r\n");
        }
        if sent.contains("GET") {
            replies.extend_from_slice(b"$1\r\ny\r\n");
        }
        answered += usize::from(sent.contains("BLPOP")) + usize::from(sent.contains("GET"));
        if !replies.is_empty() {
            cluster.world.give(peer, &replies);
        }
    }
    assert_eq!(answered, 2, "each is asked where it is, once");
    assert_eq!(
        cluster.world.take(client),
        "*2\r\n$3\r\nbar\r\n$1\r\nx\r\n$1\r\ny\r\n"
    );
    cluster.world.assert_nothing_is_left();
}

#[test]
fn a_script_names_nobody_to_whom_the_proxy_would_tell_its_password() {
    let named = |words: &str| {
        let mut cluster = Cluster::new();
        let client = cluster.world.client();
        cluster.ask(client, words);
        let remaps = cluster.world.remaps;
        cluster.says(1, &moved(5061, 9));
        assert!(cluster.world.remaps > remaps, "a newer map is wanted");
        cluster.world.core.take_stranger(0)
    };
    assert!(named("GET bar").is_some());
    assert_eq!(named("EVAL script 1 bar"), None);
    assert_eq!(named("FCALL f 1 bar"), None);
}

#[test]
fn nobody_waits_for_replicas_of_a_cluster() {
    let mut cluster = Cluster::new();
    let client = cluster.world.client();
    for words in ["WAIT 1 0", "WAITAOF 1 0 0"] {
        cluster.ask(client, words);
        let said = cluster.world.take(client);
        assert!(said.contains("over a Redis Cluster"), "{words}: {said}");
    }
}
