//! Nothing grows without bound, and whoever does not keep up waits alone.

use super::*;
use crate::core::answers::HEAVY;
use crate::core::desk::{OUTSTANDING, UNTAKEN};
use crate::core::lane::RING_BOUND;

const STALL: Duration = Duration::from_secs(2);

#[test]
fn a_client_with_too_many_requests_outstanding_is_not_read_from() {
    let mut world = World::new(pool(1));
    let client = world.client();
    let many = request("GET a").repeat(OUTSTANDING as usize + 10);
    world.give(client, &many);
    assert!(world.core.recv_space(client).is_empty());
    let replies = b"+a\r\n".repeat(OUTSTANDING as usize / 2);
    world.server_says(0, &replies);
    assert_eq!(world.resumed, [client]);
    assert!(!world.core.recv_space(client).is_empty());
    world.server_says(0, &b"+a\r\n".repeat(OUTSTANDING as usize / 2 + 10));
    assert_eq!(world.take(client).len(), (OUTSTANDING as usize + 10) * 4);
    world.assert_nothing_is_left();
}

#[test]
fn a_client_that_takes_nothing_is_not_read_from() {
    let mut world = World::new(pool(1));
    let client = world.client();
    world.stuck.push(client);
    let ask = request(&format!("PING {}", "x".repeat(16_000)));
    let mut asked = 0;
    while world.give(client, &ask) {
        asked += 1;
        assert!(asked < 100, "never held");
    }
    assert!(world.core.pending(client)[0].len() < UNTAKEN + 128 * 1024);
    world.stuck.clear();
    let taken = world.core.pending(client)[0].len();
    world.core.sent(client, taken);
    world.turn();
    assert_eq!(world.resumed, [client]);
}

#[test]
fn clients_wait_while_a_server_takes_nothing() {
    let mut world = World::new(pool(1));
    let (one, two) = (world.client(), world.client());
    world.give(one, &request("GET first"));
    let lane = world.up[&0];
    world.stuck.push(lane);
    let ask = request(&format!("SET a {}", "x".repeat(60_000)));
    let mut asked = 0;
    while world.give(one, &ask) {
        asked += 1;
        assert!(asked < 100, "never held");
    }
    assert!(world.core.pending(lane).concat().len() <= RING_BOUND);
    world.stuck.clear();
    let bytes = world.core.pending(lane).concat().len();
    world.core.sent(lane, bytes);
    // Sent is not answered: what may have to be repeated still fills the ring.
    assert!(world.resumed.is_empty());
    let in_ring = world.core.desk.slots.used();
    assert_eq!(in_ring, asked, "the first and all but the one that waits");
    world.server_says(0, &b"+OK\r\n".repeat(in_ring));
    assert_eq!(world.resumed, [one]);
    world.give(two, &request("GET small"));
    world.server_says(0, b"+OK\r\n+small\r\n");
    assert_eq!(world.take(one).len(), (asked + 1) * 5);
    assert_eq!(world.take(two), "+small\r\n");
    world.assert_nothing_is_left();
}

#[test]
fn a_large_request_and_a_large_reply_pass() {
    const SIZE: usize = 3 * 1024 * 1024;
    let mut world = World::new(pool(1));
    let client = world.client();
    let set = request(&format!("SET a {}", "v".repeat(SIZE)));
    assert!(world.give(client, &set));
    assert_eq!(world.at_server(0).into_bytes(), set);
    world.server_says(0, b"+OK\r\n");
    world.give(client, &request("GET a"));
    let value = format!("${SIZE}\r\n{}\r\n", "w".repeat(SIZE));
    world.server_says(0, value.as_bytes());
    assert_eq!(world.take(client), format!("+OK\r\n{value}"));
    world.assert_nothing_is_left();
}

#[test]
fn a_large_reply_that_nobody_takes_stops_its_lane_and_then_costs_the_client() {
    let mut world = World::new(pool(1));
    let (slow, other) = (world.client(), world.client());
    world.give(slow, &request("GET big"));
    world.give(other, &request("GET small"));
    world.stuck.push(slow);
    let lane = world.up[&0];
    let big = format!("$10000000\r\n{}\r\n", "x".repeat(10_000_000));
    let all = [big.as_bytes(), b"+small\r\n"].concat();
    let mut given = 0;
    while given < all.len() {
        let space = world.core.recv_space(lane);
        if space.is_empty() {
            break;
        }
        let now = space.len().min(all.len() - given);
        space[..now].copy_from_slice(&all[given..given + now]);
        world.core.received(lane, now, world.now);
        given += now;
        world.turn();
    }
    assert!(given <= HEAVY + 2 * SCRATCH, "{given} bytes in memory");
    world.take(lane);
    world.give(other, &request("GET early"));
    assert_eq!(world.take(lane).into_bytes(), request("GET early"));
    world.later(STALL / 2);
    assert!(world.core.recv_space(lane).is_empty(), "it still has time");
    world.give(other, &request("GET late").repeat(2));
    assert_eq!(world.take(lane), "", "what would only wait is not sent");
    world.later(STALL / 2 + Duration::from_millis(2));
    assert_eq!(world.closed, [slow]);
    assert_eq!(world.resumed, [lane, other]);
    assert_eq!(world.take(lane).into_bytes(), request("GET late").repeat(2));
    assert!(world.give(lane, &all[given..]));
    assert_eq!(world.take(other), "+small\r\n");
    world.server_says(0, &b"+x\r\n".repeat(3));
    world.assert_nothing_is_left();
}

#[test]
fn a_slow_client_that_goes_on_taking_keeps_its_reply() {
    let mut world = World::new(pool(1));
    let slow = world.client();
    world.give(slow, &request("GET big"));
    world.stuck.push(slow);
    let lane = world.up[&0];
    let all = format!("$4000000\r\n{}\r\n", "x".repeat(4_000_000)).into_bytes();
    let (mut given, mut taken) = (0, 0);
    while taken < all.len() {
        let space = world.core.recv_space(lane);
        let now = space.len().min(all.len() - given);
        if now > 0 {
            space[..now].copy_from_slice(&all[given..given + now]);
            world.core.received(lane, now, world.now);
            given += now;
        } else {
            world.later(STALL - Duration::from_millis(100));
            let some = world.core.pending(slow)[0].len().min(600_000);
            world.core.sent(slow, some);
            taken += some;
        }
        world.turn();
        assert!(!world.closed.contains(&slow), "{taken} of {}", all.len());
    }
    world.assert_nothing_is_left();
}

#[test]
fn a_breach_of_the_protocol_ends_one_connection_after_what_it_is_owed() {
    let mut world = World::new(pool(1));
    let (bad, good) = (world.client(), world.client());
    world.give(good, &request("GET a"));
    world.give(bad, &[&request("GET b")[..], b"*1\r\n:1\r\n"].concat());
    world.server_says(0, b"+a\r\n+b\r\n");
    assert_eq!(
        world.take(bad),
        "+b\r\n-ERR Protocol error: expected '$', got ':'\r\n"
    );
    assert_eq!(world.take(good), "+a\r\n");
    assert_eq!(world.closed, [bad]);
    assert_eq!(world.counters.client_err.value(), 1);
}

#[test]
fn a_line_without_end_ends_its_connection() {
    let mut world = World::new(pool(1));
    let client = world.client();
    world.give(client, &[b'x'; 70_000]);
    assert_eq!(
        world.take(client),
        "-ERR Protocol error: too big inline request\r\n"
    );
    assert_eq!(world.closed, [client]);
}

#[test]
fn idle_clients_own_no_buffers() {
    let mut world = World::new(pool(1));
    let client = world.client();
    world.give(client, &request("GET a")[..5]);
    world.give(client, &request("GET a")[5..]);
    world.server_says(0, b"+a\r\n");
    let place = &world.core.desk.clients[client.index()];
    assert_eq!((place.input.capacity(), place.output.capacity()), (0, 0));
    assert!(place.cold.is_none());
}

#[test]
fn a_key_that_is_too_long_is_refused_wherever_it_stands() {
    let mut world = World::new(Pool {
        bounds: Bounds {
            key: 100,
            ..Bounds::default()
        },
        ..pool(2)
    });
    let client = world.client();
    let long = "k".repeat(101);
    for words in [
        format!("GET {long}"),
        format!("SET {long} 1"),
        format!("SPUBLISH {long} 1"),
        format!("WATCH {long}"),
        format!("MGET a {long}"),
        format!("MSET {long} 1 b 2"),
        format!("SUNION {{a}}1 {{a}}{long}"),
        format!("EVAL s 1 {long}"),
        format!("BLPOP {long} 0"),
    ] {
        world.give(client, &request(&words));
        let said = world.take(client);
        assert!(said.contains("(max_key)"), "{words}: {said}");
    }
    world.give(client, &request("MULTI"));
    world.give(client, &request(&format!("DEL {long}")));
    world.give(client, &request("EXEC"));
    let said = world.take(client);
    assert!(said.contains("(max_key)"), "{said}");
    assert!(said.contains("-EXECABORT"), "{said}");
    // One that just fits passes.
    let fits = &long[1..];
    world.give(client, &request(&format!("GET {fits}")));
    let (&server, _) = world.up.iter().next().unwrap();
    assert_eq!(
        world.at_server(server).into_bytes(),
        request(&format!("GET {fits}"))
    );
    world.server_says(server, b"$-1\r\n");
    assert_eq!(world.take(client), "$-1\r\n");
    // A value may be as long as it likes.
    let key = world.key_on(0);
    world.give(client, &request(&format!("MSET {key} {long}")));
    world.server_says(0, b"+OK\r\n");
    assert_eq!(world.take(client), "+OK\r\n");
    world.assert_nothing_is_left();
}
