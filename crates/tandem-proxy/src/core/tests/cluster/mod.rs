//! A Redis Cluster behind the proxy: nodes that send requests elsewhere, and maps that change.

mod block;
mod listen;
mod redirect;
mod reload;
mod spread;

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
        for pool in world.core.pools_told("test") {
            world.core.remap(pool, self.seats.map(), world.now);
        }
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
