//! Large replies that come before their client's turn.

use super::*;
use crate::core::early::EARLY;

/// A client has asked one server and then the other, which is faster; the lanes to both.
fn asked(world: &mut World) -> (Peer, Peer, Peer) {
    let client = world.client();
    ask(world, client, 0, 1);
    (client, world.up[&0], world.up[&1])
}

fn ask(world: &mut World, client: Peer, first: usize, second: usize) {
    for server in [first, second] {
        let key = world.key_on(server);
        world.give(client, &request(&format!("GET {key}")));
    }
}

/// The beginning of a reply of so many bytes, and the reply.
fn value(bytes: usize) -> Vec<u8> {
    [
        format!("${bytes}\r\n").as_bytes(),
        &vec![b'v'; bytes],
        b"\r\n",
    ]
    .concat()
}

/// Hands over as much as is read; how much that was.
fn offer(world: &mut World, lane: Peer, reply: &[u8]) -> usize {
    let mut at = 0;
    while at < reply.len() {
        let piece = reply.len().min(at + SCRATCH / 2);
        if !world.give(lane, &reply[at..piece]) {
            break;
        }
        at = piece;
    }
    at
}

#[test]
fn a_reply_before_its_turn_is_not_read_to_its_end_and_passes_through_when_it_comes() {
    let mut world = World::new(pool(2));
    let (client, slow, fast) = asked(&mut world);
    let reply = value(40 * EARLY);
    let mut at = offer(&mut world, fast, &reply);
    assert!((EARLY..2 * EARLY).contains(&at), "{at} bytes are kept");
    world.later(Duration::from_secs(60));
    assert!(
        !world.give(fast, b"x"),
        "nobody else waits: for as long as it takes"
    );
    world.give(slow, b"+first\r\n");
    assert_eq!(world.resumed, [fast]);
    let got = world.take(client);
    assert_eq!(got.len(), b"+first\r\n".len() + at);
    while at < reply.len() {
        let piece = reply.len().min(at + SCRATCH / 2);
        assert!(world.give(fast, &reply[at..piece]));
        assert_eq!(world.take(client).len(), piece - at, "as it arrives");
        at = piece;
    }
    world.assert_nothing_is_left();
    assert_eq!(world.core.desk.kept, 0);
    assert_eq!(world.core.desk.stalling, 0);
}

#[test]
fn others_behind_it_wait_no_longer_than_for_one_who_does_not_take_his() {
    let mut world = World::new(pool(2));
    let (client, slow, fast) = asked(&mut world);
    let other = world.client();
    let key = world.key_on(1);
    world.give(other, &request(&format!("GET {key}")));
    let reply = value(3 * EARLY);
    let at = offer(&mut world, fast, &reply);
    assert!(at < reply.len());
    world.later(Duration::from_millis(PATIENCE_MS - 1));
    assert!(!world.give(fast, b"x"));
    world.later(Duration::from_millis(1));
    assert!(world.give(fast, &reply[at..]), "kept from now on");
    world.give(fast, b"+other\r\n");
    assert_eq!(world.take(other), "+other\r\n");
    assert_eq!(world.take(client), "");
    world.give(slow, b"+first\r\n");
    assert_eq!(world.take(client).len(), reply.len() + b"+first\r\n".len());
    world.assert_nothing_is_left();
    assert_eq!(world.core.desk.kept, 0);
}

#[test]
fn requests_that_cross_each_other_all_get_there() {
    let mut world = World::new(pool(2));
    let (one, first, second) = asked(&mut world);
    let other = world.client();
    ask(&mut world, other, 1, 0);
    let crossed = world.client();
    ask(&mut world, crossed, 0, 1);
    // On each lane one waits for what another has asked first.
    let reply = value(2 * EARLY);
    let small = b"+small\r\n";
    world.give(first, small);
    assert_eq!(world.take(one), "+small\r\n");
    // Before its turn, as the same client's first is behind `one`'s large one.
    let early = offer(&mut world, first, &reply);
    assert!(early < reply.len());
    let passes = offer(&mut world, second, &reply);
    assert_eq!(passes, reply.len(), "it is its turn");
    world.give(second, small);
    assert!(
        world.take(other).starts_with("+small\r\n$"),
        "its turn has come"
    );
    world.take(one);
    assert!(world.give(first, &reply[early..]));
    world.give(first, small);
    world.give(second, small);
    assert_eq!(world.take(crossed), "+small\r\n+small\r\n");
    world.assert_nothing_is_left();
}

#[test]
fn what_is_over_the_budget_is_thrown_away_and_said_so() {
    let mut world = World::new(pool(2));
    let (client, slow, fast) = asked(&mut world);
    let other = world.client();
    let key = world.key_on(1);
    world.give(other, &request(&format!("GET {key}")));
    // As if other replies filled it.
    world.core.desk.kept = upload::BUDGET - 2 * EARLY;
    let reply = value(8 * EARLY);
    let at = offer(&mut world, fast, &reply);
    world.later(Duration::from_millis(PATIENCE_MS));
    assert!(world.give(fast, &reply[at..]));
    world.give(fast, b"+other\r\n");
    assert_eq!(world.take(other), "+other\r\n", "nothing is out of step");
    world.give(slow, b"+first\r\n");
    let got = world.take(client);
    assert!(
        got.starts_with("+first\r\n-ERR the proxy has too many large replies"),
        "{got}"
    );
    world.core.desk.kept -= upload::BUDGET - 2 * EARLY;
    assert_eq!(world.core.desk.kept, 0);
    world.assert_nothing_is_left();
}

#[test]
fn one_who_leaves_before_its_turn_keeps_nobody() {
    for lane_ends in [false, true] {
        let mut world = World::new(pool(2));
        let (client, _, fast) = asked(&mut world);
        let reply = value(3 * EARLY);
        let at = offer(&mut world, fast, &reply);
        if lane_ends {
            world.core.closed(fast, How::Reset, world.now);
        } else {
            world.core.closed(client, How::Reset, world.now);
        }
        world.turn();
        assert_eq!(world.core.desk.stalling, 0);
        if !lane_ends {
            assert!(world.give(fast, &reply[at..]), "to nobody");
        }
    }
}
