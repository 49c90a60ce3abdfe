//! What a client sees when servers or other clients fail.

use super::*;

const REFUSED: &str = "-ERR Connection refused\r\n";

#[test]
fn a_server_that_refuses_is_tried_again_and_then_given_a_pause() {
    let mut world = World::new(pool(1));
    let client = world.client();
    world.refusing = vec![0];
    for _ in 0..5 {
        world.give(client, &request("GET a"));
        assert_eq!(world.take(client), REFUSED);
    }
    assert_eq!(
        world.counters.servers[0].err.value(),
        2,
        "two attempts, then a pause"
    );
    world.refusing.clear();
    world.give(client, &request("GET a"));
    assert_eq!(world.take(client), REFUSED, "the pause is not over");
    world.later(Duration::from_millis(50));
    world.give(client, &request("GET a"));
    world.server_says(0, b"$-1\r\n");
    assert_eq!(world.take(client), "$-1\r\n");
    assert_eq!(world.counters.forward_error.value(), 6);
    world.assert_nothing_is_left();
}

#[test]
fn everyone_on_a_connection_that_ends_is_told_in_twemproxys_words() {
    for (how, text) in [
        (How::Eof, "-ERR unknown\r\n"),
        (How::Reset, "-ERR Connection reset by peer\r\n"),
        (How::TimedOut, "-ERR Connection timed out\r\n"),
    ] {
        let mut world = World::new(pool(2));
        let (one, two) = (world.client(), world.client());
        let (left, right) = (world.key_on(0), world.key_on(1));
        world.give(one, &request(&format!("GET {left}")));
        world.give(two, &request(&format!("GET {left}")));
        world.give(one, &request(&format!("GET {right}")));
        let lane = world.up[&0];
        world.core.closed(lane, how, world.now);
        world.turn();
        assert_eq!(world.take(one), text);
        assert_eq!(world.take(two), text);
        world.server_says(1, b"+right\r\n");
        assert_eq!(world.take(one), "+right\r\n");
        world.give(two, &request(&format!("GET {left}")));
        world.server_says(0, b"+left\r\n");
        assert_eq!(world.take(two), "+left\r\n", "over a new connection");
        assert!(world.closed.contains(&lane));
        world.assert_nothing_is_left();
    }
}

#[test]
fn one_request_too_late_ends_the_connection_for_all_on_it() {
    let mut world = World::new(Pool {
        timeout: Some(Duration::from_millis(400)),
        ..pool(1)
    });
    let (one, two) = (world.client(), world.client());
    world.give(one, &request("GET a"));
    world.later(Duration::from_millis(300));
    world.give(two, &request("GET b"));
    assert_eq!(world.take(one), "");
    let due = world.core.deadline().unwrap() - world.now;
    assert!(due <= Duration::from_millis(101), "{due:?}");
    world.later(Duration::from_millis(101));
    assert_eq!(world.take(one), "-ERR Connection timed out\r\n");
    assert_eq!(world.take(two), "-ERR Connection timed out\r\n");
    assert_eq!(world.counters.servers[0].timedout.value(), 1);
    world.assert_nothing_is_left();
}

#[test]
fn the_time_of_a_request_begins_when_it_is_asked() {
    let mut world = World::new(Pool {
        timeout: Some(Duration::from_millis(400)),
        ..pool(1)
    });
    let client = world.client();
    world.give(client, &request("GET a"));
    world.later(Duration::from_millis(300));
    world.give(client, &request("GET b"));
    world.server_says(0, b"+a\r\n");
    world.later(Duration::from_millis(300));
    world.server_says(0, b"+b\r\n");
    assert_eq!(world.take(client), "+a\r\n+b\r\n");
}

#[test]
fn a_reply_that_nobody_asked_for_ends_the_connection() {
    let mut world = World::new(pool(1));
    let client = world.client();
    world.give(client, &request("GET a"));
    let lane = world.up[&0];
    world.server_says(0, b"+a\r\n+stray\r\n");
    assert_eq!(world.take(client), "+a\r\n");
    assert_eq!(world.closed, [lane]);
    world.give(client, &request("GET a"));
    world.server_says(0, b"nonsense\r\n");
    assert_eq!(world.take(client), "-ERR Invalid argument\r\n");
    world.assert_nothing_is_left();
}

#[test]
fn replies_to_one_who_has_left_reach_nobody() {
    let mut world = World::new(pool(2));
    let (gone, here) = (world.client(), world.client());
    let (left, right) = (world.key_on(0), world.key_on(1));
    world.give(gone, &request(&format!("GET {left}")));
    world.give(gone, &request(&format!("MGET {left} {right}")));
    world.give(gone, &request(&format!("GET {right}")));
    world.give(here, &request(&format!("GET {left}")));
    world.server_says(1, b"*1\r\n+x\r\n+parked\r\n");
    world.core.closed(gone, How::Reset, world.now);
    world.turn();
    let next = world.client();
    assert_eq!(next.index(), gone.index(), "the place is used again");
    assert_ne!(next, gone);
    world.server_says(0, b"+secret\r\n*1\r\n+secret\r\n+mine\r\n");
    assert_eq!(
        (world.take(next), world.take(here)),
        (String::new(), "+mine\r\n".to_owned())
    );
    world.assert_nothing_is_left();
}

#[test]
fn a_half_closed_client_gets_what_it_is_owed() {
    let mut world = World::new(pool(1));
    let client = world.client();
    world.give(client, &request("GET a"));
    world.core.closed(client, How::Eof, world.now);
    world.turn();
    assert_eq!(world.closed, []);
    world.server_says(0, b"+a\r\n");
    assert_eq!(world.take(client), "+a\r\n");
    assert_eq!(world.closed, [client]);
    assert_eq!(world.counters.client_eof.value(), 1);
}

#[test]
fn a_client_with_half_a_reply_is_cut_off_when_the_rest_cannot_come() {
    let mut world = World::new(pool(1));
    let (big, small) = (world.client(), world.client());
    world.give(big, &request("GET big"));
    world.give(small, &request("GET small"));
    let start = [&b"$100000\r\n"[..], &[b'x'; 40_000]].concat();
    world.server_says(0, &start);
    assert_eq!(world.take(big).len(), start.len(), "passed on as it comes");
    let lane = world.up[&0];
    world.core.closed(lane, How::Reset, world.now);
    world.turn();
    assert!(world.closed.contains(&big));
    assert_eq!(world.take(small), "-ERR Connection reset by peer\r\n");
    world.assert_nothing_is_left();
}

#[test]
fn a_part_that_fails_gives_the_whole_its_error() {
    let mut world = World::new(pool(2));
    let client = world.client();
    let (left, right) = (world.key_on(0), world.key_on(1));
    world.refusing = vec![1];
    world.give(client, &request(&format!("MGET {left} {right}")));
    world.server_says(0, b"*1\r\n+x\r\n");
    assert_eq!(world.take(client), REFUSED);
    for _ in 0..3 {
        // Later ones meet the pause instead of an attempt.
        world.give(client, &request(&format!("MGET {left} {right}")));
        world.server_says(0, b"*1\r\n+x\r\n");
        assert_eq!(world.take(client), REFUSED);
    }
    world.assert_nothing_is_left();
}

#[test]
fn a_server_that_fails_is_left_out_and_tried_again_by_live_traffic() {
    let mut world = World::new(with_ejection(pool(2), 2, Duration::from_secs(3)));
    let client = world.client();
    let right = world.key_on(1);
    let get = request(&format!("GET {right}"));
    world.refusing = vec![1];
    for _ in 0..2 {
        world.give(client, &get);
        assert_eq!(world.take(client), REFUSED);
    }
    world.give(client, &get);
    assert_eq!(
        world.at_server(0).into_bytes(),
        get,
        "its keys are the other's now"
    );
    world.server_says(0, b"+left\r\n");
    assert_eq!(world.take(client), "+left\r\n");
    assert_eq!(world.ejector.ejects(), 1);
    world.later(Duration::from_millis(3001));
    for _ in 0..2 {
        world.give(client, &get);
        assert_eq!(world.take(client), REFUSED, "traffic is the probe");
    }
    world.refusing.clear();
    world.later(Duration::from_millis(3001));
    world.give(client, &get);
    world.server_says(1, b"+right\r\n");
    assert_eq!(world.take(client), "+right\r\n");
    assert_eq!(world.ejector.ejects(), 2);
    world.assert_nothing_is_left();
}

#[test]
fn when_all_are_left_out_requests_are_refused_until_the_first_may_return() {
    let mut world = World::new(with_ejection(pool(2), 1, Duration::from_secs(1)));
    let client = world.client();
    world.refusing = vec![0, 1];
    let (left, right) = (world.key_on(0), world.key_on(1));
    for key in [&left, &right, &left, &right] {
        world.give(client, &request(&format!("GET {key}")));
        assert_eq!(world.take(client), REFUSED);
    }
    assert_eq!(world.ejector.ejects(), 2);
    world.refusing.clear();
    world.later(Duration::from_millis(1001));
    world.give(client, &request(&format!("GET {left}")));
    world.server_says(0, b"+back\r\n");
    assert_eq!(world.take(client), "+back\r\n");
}

#[test]
fn a_drained_proxy_lets_clients_go_when_they_are_owed_nothing() {
    let mut world = World::new(pool(1));
    let (idle, busy) = (world.client(), world.client());
    world.give(busy, &request("GET a"));
    world.core.drain(world.now);
    world.turn();
    assert_eq!(world.closed, [idle]);
    assert!(world.core.accepted(0, world.now).is_none());
    world.server_says(0, b"+a\r\n");
    assert_eq!(world.take(busy), "+a\r\n");
    assert_eq!(world.core.clients(), 0);
}
