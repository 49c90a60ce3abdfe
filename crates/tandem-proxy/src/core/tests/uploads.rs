//! Large requests: passed on while they arrive, refused without closing anything, lost half way.

use super::*;
use crate::topology::{Forks, Group, Lease, Phase, Rank, Topology};
use proptest::prelude::*;

const MIB: usize = 1024 * 1024;

fn set(key: &str, size: usize) -> Vec<u8> {
    request(&format!("SET {key} {}", "v".repeat(size)))
}

/// Hands a stream over, of which the shell reads no more while its client is held.
fn give_all(world: &mut World, client: Peer, bytes: &[u8]) {
    assert!(world.give(client, bytes), "held with room for all of it");
}

fn serving(port: u16, epoch: u64) -> Topology {
    let primary = Address::Tcp {
        host: "127.0.0.1".to_owned(),
        port,
    };
    Topology {
        groups: vec![Group {
            rank: Rank::of(epoch),
            lease: Lease::Open,
            alone: None,
            phase: Phase::Serving { primary },
            forks: Forks::Untold,
            replicas: Vec::new(),
        }],
    }
}

fn nobody(epoch: u64) -> Topology {
    Topology {
        groups: vec![Group {
            rank: Rank::of(epoch),
            lease: Lease::Open,
            alone: None,
            phase: Phase::None,
            forks: Forks::Untold,
            replicas: Vec::new(),
        }],
    }
}

#[test]
fn a_large_request_goes_over_a_connection_of_its_own_and_is_not_kept() {
    let mut world = World::new(pool(1));
    let (large, other) = (world.client(), world.client());
    world.give(other, &request("GET a"));
    let shared = world.up[&0];
    world.server_says(0, b"+a\r\n");
    world.take(shared);
    let bytes = set("a", 8 * MIB);
    let (first, rest) = bytes.split_at(4 * MIB);
    give_all(&mut world, large, first);
    let own = world.up[&0];
    assert_ne!(own, shared);
    let kept: usize = world.core.lanes.iter().map(|lane| lane.ring.len()).sum();
    let input = world.core.desk.clients[large.index()].input.len();
    assert!(kept + input < 64, "{kept} and {input} bytes are kept");
    world.give(other, &request("GET a"));
    assert_eq!(world.take(shared).into_bytes(), request("GET a"));
    world.give(shared, b"+b\r\n");
    assert_eq!(world.take(other), "+a\r\n+b\r\n");
    give_all(&mut world, large, rest);
    assert_eq!(world.take(own).into_bytes(), bytes);
    world.give(own, b"+OK\r\n");
    assert_eq!(world.take(large), "+OK\r\n");
    world.give(large, &request("GET a"));
    assert_eq!(
        world.take(shared).into_bytes(),
        request("GET a"),
        "an ordinary client again"
    );
    world.give(shared, b"+c\r\n");
    world.assert_nothing_is_left();
}

#[test]
fn a_server_that_takes_nothing_stops_its_client() {
    let mut world = World::new(pool(1));
    let client = world.client();
    let bytes = set("a", 8 * MIB);
    world.give(client, &bytes[..100_000]);
    let own = world.up[&0];
    world.stuck.push(own);
    assert!(!world.give(client, &bytes[100_000..]), "never held");
    assert!(world.core.pending(own).concat().len() < 256 * 1024);
    assert!(world.resumed.is_empty());
    let ready = world.core.pending(own).concat().len();
    world.core.sent(own, ready);
    world.turn();
    assert_eq!(world.resumed, [client]);
}

#[test]
fn what_follows_a_large_request_waits_for_it() {
    let mut world = World::new(pool(1));
    let client = world.client();
    world.give(client, &request("GET before"));
    let shared = world.up[&0];
    let all = [set("a", 100_000), request("GET a")].concat();
    assert!(!world.give(client, &all), "it is owed something");
    assert_eq!(world.take(shared).into_bytes(), request("GET before"));
    world.give(shared, b"+before\r\n");
    assert_eq!(world.resumed, [client]);
    let given = SCRATCH;
    give_all(&mut world, client, &all[given..]);
    let own = world.up[&0];
    assert_eq!(world.take(own).into_bytes(), set("a", 100_000));
    assert_eq!(world.take(shared), "");
    world.give(own, b"+OK\r\n");
    assert_eq!(world.take(shared).into_bytes(), request("GET a"));
    world.give(shared, b"+v\r\n");
    assert_eq!(world.take(client), "+before\r\n+OK\r\n+v\r\n");
    world.assert_nothing_is_left();
}

#[test]
fn lost_half_way_it_was_not_executed_and_lost_after_that_nobody_knows() {
    let mut world = World::new(pool(1));
    world.core.snapshot(0, &serving(1000, 1), world.now);
    let client = world.client();
    let bytes = set("a", MIB);
    for (before, word) in [
        (MIB / 2, "-TANDEM-NOTSENT "),
        (bytes.len(), "-TANDEM-UNKNOWN "),
    ] {
        give_all(&mut world, client, &bytes[..before]);
        let own = world.up[&0];
        world.core.closed(own, How::Reset, world.now);
        world.turn();
        let said = world.take(client);
        assert!(said.starts_with(word), "{said}");
        give_all(&mut world, client, &bytes[before..]);
        assert_eq!(world.take(client), "", "the rest is thrown away");
        world.give(client, b"PING\r\n");
        assert_eq!(
            world.take(client),
            "+PONG\r\n",
            "and the connection goes on"
        );
        world.assert_nothing_is_left();
    }
}

#[test]
fn while_nothing_of_it_has_left_it_waits_for_a_primary() {
    let mut world = World::new(pool(1));
    world.core.snapshot(0, &nobody(1), world.now);
    let client = world.client();
    let bytes = set("a", 100_000);
    give_all(&mut world, client, &bytes);
    world.later(Duration::from_millis(500));
    assert_eq!(world.take(client), "");
    world.core.snapshot(0, &serving(1000, 2), world.now);
    world.later(Duration::from_millis(50));
    assert_eq!(world.at_server(0).into_bytes(), bytes);
    world.server_says(0, b"+OK\r\n");
    assert_eq!(world.take(client), "+OK\r\n");

    world.core.snapshot(0, &nobody(3), world.now);
    give_all(&mut world, client, &bytes);
    for _ in 0..40 {
        world.later(Duration::from_millis(100));
    }
    assert!(world.take(client).starts_with("-TANDEM-NOPRIMARY "));
    world.give(client, b"PING\r\n");
    assert_eq!(world.take(client), "+PONG\r\n");
    world.assert_nothing_is_left();
}

#[test]
fn what_cannot_be_passed_on_is_refused_and_closes_nothing() {
    let mut world = World::new(pool(2));
    let long = "k".repeat(70_000);
    let huge = "v".repeat(17 * MIB);
    for (asked, word) in [
        (request(&format!("GET {long}")), "-ERR this key is longer"),
        (
            request(&format!("SET {long} {huge}")),
            "-ERR this key is longer",
        ),
        (
            request(&format!("MSET a 1 b {huge}")),
            "-ERR this request is too large",
        ),
        (
            request(&format!("EVAL x 0 {huge}")),
            "-ERR this request is too large",
        ),
        (
            request(&format!("PUBLISH x {huge}")),
            "-ERR this request is too large",
        ),
        (
            request(&format!("{huge} x")),
            "-ERR this request is too large",
        ),
    ] {
        let client = world.client();
        give_all(&mut world, client, &[asked, b"PING\r\n".to_vec()].concat());
        let said = world.take(client);
        assert!(
            said.starts_with(word) && said.ends_with("\r\n+PONG\r\n"),
            "{said}"
        );
    }
    let client = world.client();
    world.give(client, &request("MULTI"));
    world.give(client, &request(&format!("SET a {huge}")));
    world.give(client, &request("EXEC"));
    let said = world.take(client);
    assert!(
        said.starts_with("+OK\r\n-ERR this request is too large"),
        "{said}"
    );
    assert!(said.contains("\r\n-EXECABORT "), "{said}");
    assert_eq!(world.core.desk.gathered, 0);
    world.assert_nothing_is_left();
}

#[test]
fn all_that_is_gathered_has_one_budget() {
    let mut world = World::new(pool(1));
    let part = request(&format!("MSET a 1 b {}", "v".repeat(15 * MIB)));
    let mut clients = Vec::new();
    let refused = loop {
        let client = world.client();
        give_all(&mut world, client, &part[..part.len() - 10]);
        let said = world.take(client);
        if !said.is_empty() {
            assert!(
                said.starts_with("-ERR the proxy has too many unfinished"),
                "{said}"
            );
            break client;
        }
        clients.push(client);
        assert!(clients.len() < 20, "no bound");
    };
    for client in clients {
        world.core.closed(client, How::Reset, world.now);
    }
    assert_eq!(world.core.desk.gathered, 0);
    give_all(&mut world, refused, &part[part.len() - 10..]);
    world.give(refused, b"PING\r\n");
    assert_eq!(world.take(refused), "+PONG\r\n");
}

#[test]
fn a_server_that_refuses_early_costs_its_connection_and_not_the_clients() {
    let mut world = World::new(pool(1));
    let client = world.client();
    let bytes = set("a", MIB);
    give_all(&mut world, client, &bytes[..MIB / 2]);
    let own = world.up[&0];
    world.give(own, b"-ERR too much\r\n");
    assert_eq!(world.take(client), "-ERR too much\r\n");
    assert!(world.closed.contains(&own));
    give_all(&mut world, client, &bytes[MIB / 2..]);
    world.give(client, b"PING\r\n");
    assert_eq!(world.take(client), "+PONG\r\n");
    world.assert_nothing_is_left();
}

#[test]
fn who_leaves_half_way_takes_the_connection_along() {
    let mut world = World::new(pool(1));
    let client = world.client();
    give_all(&mut world, client, &set("a", MIB)[..MIB / 2]);
    let own = world.up[&0];
    world.core.closed(client, How::Eof, world.now);
    world.turn();
    assert!(world.closed.contains(&own) && world.closed.contains(&client));
    world.assert_nothing_is_left();
}

#[test]
fn a_breach_within_it_ends_both_connections() {
    let mut world = World::new(pool(1));
    let client = world.client();
    let mut bytes = set("a", MIB);
    let end = bytes.len();
    bytes[end - 2] = b'x';
    give_all(&mut world, client, &bytes);
    let said = world.take(client);
    assert!(
        said.starts_with("-TANDEM-NOTSENT ") && said.contains("-ERR Protocol error"),
        "{said}"
    );
    assert!(world.closed.contains(&client));
    world.assert_nothing_is_left();
}

#[test]
fn a_breach_while_it_waits_for_a_primary_ends_the_waiting() {
    let mut world = World::new(pool(1));
    world.core.snapshot(0, &nobody(1), world.now);
    let client = world.client();
    let mut bytes = set("a", 100_000);
    let end = bytes.len();
    bytes[end - 2] = b'x';
    world.give(client, &bytes);
    let said = world.take(client);
    assert!(
        said.starts_with("-TANDEM-NOTSENT ") && said.contains("-ERR Protocol error"),
        "{said}"
    );
    assert!(world.closed.contains(&client));
    world.core.snapshot(0, &serving(1000, 2), world.now);
    world.later(Duration::from_millis(50));
    assert!(
        world.connections.is_empty(),
        "for a request that never comes"
    );
    world.assert_nothing_is_left();
}

#[test]
fn who_watches_elsewhere_sends_a_large_request_all_the_same() {
    let mut world = World::new(pool(2));
    let server_of = |world: &mut World, key: &str| world.core.server_for(0, key.as_bytes());
    let watched = server_of(&mut world, "a");
    let other = (0..).map(|number: u32| format!("k{number}"));
    let other = other
        .into_iter()
        .find(|key| server_of(&mut world, key) != watched)
        .unwrap();
    let client = world.client();
    world.give(client, &request("WATCH a"));
    world.server_says(watched.unwrap() as usize, b"+OK\r\n");
    assert_eq!(world.take(client), "+OK\r\n");
    let bytes = set(&other, 100_000);
    give_all(&mut world, client, &bytes);
    let there = 1 - watched.unwrap() as usize;
    assert_eq!(world.at_server(there).into_bytes(), bytes);
    world.server_says(there, b"+OK\r\n");
    assert_eq!(world.take(client), "+OK\r\n");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]
    #[test]
    fn any_cut_gives_the_same(pieces in prop::collection::vec(1usize..40_000, 1..20)) {
        let mut world = World::new(pool(1));
        let client = world.client();
        let large = set("a", 150_000);
        let all = [request("GET x"), large.clone(), request("RPUSH l 1 2"), large.clone(), b"PING\r\n".to_vec()].concat();
        let mut sizes = pieces.into_iter().cycle();
        let (mut sent, mut said, mut owed) = (Vec::new(), String::new(), 0usize);
        let mut rest = &all[..];
        let mut rounds = 0;
        loop {
            rounds += 1;
            prop_assert!(rounds < 300_000, "stuck with {} bytes", rest.len());
            // What the shell does: reads into the space there is.
            let space = world.core.recv_space(client);
            let now = sizes.next().unwrap().min(space.len()).min(rest.len());
            if now > 0 {
                space[..now].copy_from_slice(&rest[..now]);
                rest = &rest[now..];
                world.core.received(client, now, world.now);
                world.turn();
            }
            let lanes: Vec<Peer> = world.got.keys().copied().filter(|peer| *peer != client).collect();
            for lane in lanes {
                sent.extend(world.take(lane).into_bytes());
                let due = [&request("GET x")[..], &large, &request("RPUSH l 1 2"), &large];
                let mut at = 0;
                let whole = due.iter().take_while(|one| { at += one.len(); at <= sent.len() }).count();
                while owed < whole {
                    owed += 1;
                    let reply = format!(":{owed}\r\n");
                    prop_assert!(world.give(lane, reply.as_bytes()));
                }
            }
            said.push_str(&world.take(client));
            if rest.is_empty() && said.ends_with("+PONG\r\n") {
                break;
            }
        }
        prop_assert_eq!(said, ":1\r\n:2\r\n:3\r\n:4\r\n+PONG\r\n");
        world.assert_nothing_is_left();
    }
}
