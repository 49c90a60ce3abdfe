//! Reads from replicas: who may go there, when a client comes back from the primary, and what a lost replica leaves.

use super::*;
use crate::core::follow::HOLD;
use crate::topology::{Group, Lease, Phase, Replica, Topology};

const INFO: &str = "*2\r\n$4\r\nINFO\r\n$11\r\nreplication\r\n";

fn at(place: u16) -> Address {
    Address::Tcp {
        host: "127.0.0.1".to_owned(),
        port: 1000 + place,
    }
}

fn pair(epoch: u64, link_up: bool) -> Topology {
    Topology {
        groups: vec![Group {
            forks: crate::topology::Forks::Untold,
            rank: Rank::of(epoch),
            lease: Lease::Open,
            alone: None,
            phase: Phase::Serving { primary: at(0) },
            replicas: vec![Replica {
                address: at(7),
                promotable: true,
                link_up,
            }],
        }],
    }
}

fn info(role: &str, link: &str, history: char, offset: u64) -> String {
    let id = history.to_string().repeat(40);
    let text = format!(
        "role:{role}\r\nmaster_link_status:{link}\r\nslave_repl_offset:{offset}\r\nmaster_replid:{id}\r\nmaster_replid2:{id}\r\nmaster_repl_offset:{offset}\r\nsecond_repl_offset:-1\r\n"
    );
    format!("${}\r\n{text}\r\n", text.len())
}

struct Readers {
    world: World,
    client: Peer,
    /// Connections for requests.
    primary: Peer,
    replica: Peer,
    /// Connections for samples, of the primary and the replica.
    samples: [Peer; 2],
}

impl Readers {
    /// A primary and a replica at offset 10, everything connected, and a client that reads from the replica.
    fn new() -> Self {
        let mut settings = pool(1);
        settings.replicas.read = ReadFrom::Replica;
        let mut world = World::new(settings);
        world.core.snapshot(0, &pair(1, true), world.now);
        let client = world.client();
        world.give(client, &request("GET a"));
        let place = |world: &World, nth: usize| world.connections[nth].1;
        let samples = [place(&world, 0), place(&world, 1)];
        let primary = place(&world, 2);
        assert_eq!(
            world.take(primary).into_bytes(),
            request("GET a"),
            "nothing is known of the replica"
        );
        world.give(primary, b"+1\r\n");
        let mut it = Self {
            world,
            client,
            primary,
            replica: primary,
            samples,
        };
        // The first round found nobody connected; the next one asks, and the one after that opens the way.
        it.read_at(primary, 25);
        it.sampled([10, 10]);
        it.read_at(primary, 25);
        it.sampled([10, 10]);
        let connected = it.world.connections.clone();
        it.replica = connected.last().unwrap().1;
        assert_ne!(it.replica, primary);
        it.read_at(it.replica, 0);
        it
    }

    /// A read, so many milliseconds later, is asked there.
    fn read_at(&mut self, there: Peer, later: u64) {
        self.world.later(Duration::from_millis(later));
        self.world.take(self.client);
        self.world.give(self.client, &request("GET a"));
        assert_eq!(self.world.take(there).into_bytes(), request("GET a"));
        self.world.give(there, b"+1\r\n");
        assert_eq!(self.world.take(self.client), "+1\r\n");
    }

    /// A round was begun; primary and replica have so much.
    fn sampled(&mut self, offsets: [u64; 2]) {
        let [primary, replica] = self.samples;
        for (lane, text) in [
            (primary, info("master", "up", 'a', offsets[0])),
            (replica, info("slave", "up", 'a', offsets[1])),
        ] {
            assert_eq!(self.world.take(lane), INFO);
            self.world.give(lane, text.as_bytes());
        }
    }
}

#[test]
fn a_client_reads_its_own_writes() {
    let mut it = Readers::new();
    it.world.give(it.client, &request("SET a 2"));
    assert_eq!(it.world.take(it.primary).into_bytes(), request("SET a 2"));
    it.world.give(it.primary, b"+OK\r\n");
    it.world.take(it.client);
    it.read_at(it.primary, 0);
    // The next round is the first after its write: the replica is behind it, then past it.
    it.read_at(it.primary, 25);
    it.sampled([50, 40]);
    it.read_at(it.primary, 0);
    it.read_at(it.primary, 25);
    it.sampled([60, 50]);
    it.read_at(it.replica, 0);
    // Another client wrote nothing and was there all along.
}

#[test]
fn others_stay_with_the_replica_and_a_late_one_is_left() {
    let mut it = Readers::new();
    let other = it.world.client();
    it.world.give(it.client, &request("SET a 2"));
    it.world.give(it.primary, b"+OK\r\n");
    it.world.take(it.client);
    it.world.give(other, &request("GET a"));
    assert_eq!(it.world.take(it.replica).into_bytes(), request("GET a"));
    it.world.give(it.replica, b"+1\r\n");
    // Not heard of for long.
    it.world.take(it.primary);
    it.read_at(it.primary, 600);
}

#[test]
fn a_client_moves_only_when_it_is_owed_nothing() {
    let mut it = Readers::new();
    let all = [request("GET a"), request("SET a 2"), request("GET a")].concat();
    it.world.take(it.primary);
    it.world.give(it.client, &all);
    assert_eq!(it.world.take(it.replica).into_bytes(), request("GET a"));
    assert_eq!(it.world.take(it.primary), "", "not beside its read");
    it.world.give(it.replica, b"+1\r\n");
    let rest = [request("SET a 2"), request("GET a")].concat();
    assert_eq!(it.world.take(it.primary).into_bytes(), rest);
    it.world.give(it.primary, b"+OK\r\n+2\r\n");
    assert_eq!(it.world.take(it.client), "+1\r\n+OK\r\n+2\r\n");
    it.world.assert_nothing_is_left();
}

#[test]
fn what_a_lost_replica_leaves_is_asked_of_the_primary() {
    for how in ["lost", "loading", "silent", "gone"] {
        let mut it = Readers::new();
        it.world.take(it.primary);
        it.world.give(it.client, &request("GET a"));
        assert_eq!(it.world.take(it.replica).into_bytes(), request("GET a"));
        match how {
            "lost" => {
                it.world.core.closed(it.replica, How::Reset, it.world.now);
                it.world.turn();
            }
            "loading" => {
                it.world.give(it.replica, b"-LOADING Redis is loading\r\n");
            }
            "silent" => it.world.later(HOLD + Duration::from_millis(2)),
            _ => {
                let mut alone = pair(1, true);
                alone.groups[0].replicas.clear();
                it.world.core.snapshot(0, &alone, it.world.now);
                it.world.turn();
            }
        }
        assert_eq!(
            it.world.take(it.primary).into_bytes(),
            request("GET a"),
            "{how}"
        );
        it.world.give(it.primary, b"+1\r\n");
        assert_eq!(it.world.take(it.client), "+1\r\n", "{how}");
        it.world.assert_nothing_is_left();
        it.world.take(it.client);
        it.world.give(it.client, &request("GET a"));
        assert_eq!(it.world.take(it.primary).into_bytes(), request("GET a"));
    }
}

#[test]
fn a_link_that_is_down_is_heard_of_twice() {
    // From the snapshot.
    let mut it = Readers::new();
    it.world.core.snapshot(0, &pair(1, false), it.world.now);
    it.read_at(it.primary, 0);
    // From the replica itself.
    let mut it = Readers::new();
    it.world.later(Duration::from_millis(25));
    it.world.give(it.client, &request("GET a"));
    it.world.give(it.replica, b"+1\r\n");
    let down = info("slave", "down", 'a', 10);
    it.world.give(it.samples[1], down.as_bytes());
    it.read_at(it.primary, 0);
}

#[test]
fn what_changes_something_or_keeps_a_place_is_the_primarys() {
    let mut it = Readers::new();
    for ask in ["SCAN 0", "XREAD BLOCK 10 STREAMS s 0", "DBSIZE", "INCR n"] {
        let replica = it.world.take(it.replica);
        assert_eq!(replica, "");
        let client = it.world.client();
        it.world.give(client, &request(ask));
        assert_eq!(it.world.take(it.replica), "", "{ask}");
    }
}
