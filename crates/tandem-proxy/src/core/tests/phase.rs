//! Switchovers: closing, given up and gone through with, and what has a connection of its own meanwhile.

use super::follow::{phase, serving, turned, world};
use super::*;
use crate::topology::{Lease, Phase};

const UNBLOCKED: &[u8] =
    b"-UNBLOCKED force unblock from blocking operation, instance state changed (master -> \
                           replica?)\r\n";

fn closing() -> crate::topology::Topology {
    turned(1, phase(1, Phase::Closing))
}

#[test]
fn a_switchover_that_is_given_up_goes_on_where_it_stopped() {
    let mut world = world();
    let (one, two) = (world.client(), world.client());
    world.give(one, &request("INCR n"));
    let lane = world.up[&0];
    world.take(lane);
    world.hears(&closing());
    world.give(two, &request("INCR n"));
    world.hears(&turned(2, serving(1, 0)));
    assert_eq!(world.take(lane).into_bytes(), request("INCR n"));
    assert_eq!(world.closed, [], "the connection is the same one");
    world.server_says(0, b":1\r\n:2\r\n");
    world.give(two, &request("GET n"));
    assert_eq!(world.take(lane).into_bytes(), request("GET n"));
    world.server_says(0, b"+2\r\n");
    assert_eq!(
        (world.take(one), world.take(two)),
        (":1\r\n".into(), ":2\r\n+2\r\n".into())
    );
    world.assert_nothing_is_left();
}

#[test]
fn each_closing_is_reported_once_when_it_is_done() {
    let mut world = world();
    world.hears(&closing());
    world.hears(&closing());
    let rank = |turn| {
        let rank = Rank {
            turn,
            ..Rank::of(1)
        };
        (0, rank)
    };
    assert_eq!(world.quiet, [rank(1)]);
    world.hears(&turned(2, serving(1, 0)));
    let client = world.client();
    world.give(client, &request("GET a"));
    world.hears(&turned(3, phase(1, Phase::Closing)));
    assert_eq!(world.quiet, [rank(1)]);
    world.loses(0);
    assert_eq!(
        world.quiet,
        [rank(1), rank(3)],
        "what is lost is not awaited"
    );
}

#[test]
fn a_large_request_that_is_half_out_is_awaited() {
    for answered in [true, false] {
        let mut world = world();
        let client = world.client();
        let large = request(&format!("SET a {}", "v".repeat(1_000_000)));
        assert!(world.give(client, &large[..500_000]));
        world.hears(&closing());
        assert!(world.give(client, &large[500_000..]));
        assert_eq!(world.quiet, []);
        if answered {
            world.server_says(0, b"+OK\r\n");
            assert_eq!(world.take(client), "+OK\r\n");
        } else {
            world.loses(0);
            assert!(world.take(client).starts_with("-TANDEM-UNKNOWN "));
        }
        assert_eq!(world.quiet.len(), 1);
    }
}

#[test]
fn a_blocked_command_is_not_awaited_and_begins_again_at_the_next_primary() {
    let mut world = world();
    let client = world.client();
    world.give(client, &request("BLPOP q 60"));
    let old = world.up[&0];
    assert_eq!(world.take(old).into_bytes(), request("BLPOP q 60"));
    world.later(Duration::from_secs(20));
    world.hears(&closing());
    assert_eq!(world.quiet.len(), 1, "it would keep everybody waiting");
    world.server_says(0, UNBLOCKED);
    world.core.closed(old, How::Eof, world.now);
    world.turn();
    world.later(Duration::from_millis(50));
    assert_eq!(world.take(client), "", "it was not executed");
    world.hears(&serving(2, 7));
    assert_eq!(world.at_server(7).into_bytes(), request("BLPOP q 60"));
    world.server_says(7, b"*2\r\n$1\r\nq\r\n$1\r\nx\r\n");
    assert!(world.take(client).starts_with("*2"));
    world.give(client, &request("GET a"));
    assert_eq!(world.at_server(7).into_bytes(), request("GET a"));
    world.server_says(7, b"+a\r\n");
    world.assert_nothing_is_left();
}

#[test]
fn a_command_that_somebody_ended_by_hand_is_over() {
    let mut world = world();
    let client = world.client();
    world.give(client, &request("BLPOP q 0"));
    let error = "-UNBLOCKED client unblocked via CLIENT UNBLOCK\r\n";
    world.server_says(0, error.as_bytes());
    assert_eq!(world.take(client), error);
    world.assert_nothing_is_left();
}

#[test]
fn what_blocks_when_its_server_dies_may_have_taken_something() {
    let mut world = world();
    let client = world.client();
    world.give(client, &request("BLPOP q 0"));
    world.loses(0);
    assert!(world.take(client).starts_with("-TANDEM-UNKNOWN "));
    world.hears(&serving(2, 7));
    assert_eq!(world.at_server(7), "");
    world.assert_nothing_is_left();
}

#[test]
fn who_leaves_while_it_is_held_pops_nothing() {
    let mut world = world();
    let client = world.client();
    world.give(client, &request("BLPOP q 0"));
    world.hears(&closing());
    world.server_says(0, UNBLOCKED);
    world.core.closed(client, How::Reset, world.now);
    world.turn();
    world.hears(&serving(2, 7));
    assert_eq!(world.at_server(7), "");
    world.assert_nothing_is_left();
}

#[test]
fn a_transaction_whose_watch_is_gone_is_aborted_and_never_sent() {
    let mut world = world();
    let client = world.client();
    world.give(client, &request("WATCH a"));
    world.server_says(0, b"+OK\r\n");
    world.take(client);
    world.hears(&closing());
    let block = [request("MULTI"), request("SET a 1"), request("EXEC")].concat();
    world.give(client, &block);
    assert_eq!(world.at_server(0).into_bytes(), request("WATCH a"));
    world.take(client);
    world.hears(&serving(2, 7));
    assert_eq!(world.take(client), "*-1\r\n");
    assert_eq!(world.at_server(7), "");
    world.give(client, &block);
    assert_eq!(world.at_server(7).into_bytes(), block, "the next one goes");
    world.server_says(7, b"+OK\r\n+QUEUED\r\n*1\r\n+OK\r\n");
    world.assert_nothing_is_left();
}

#[test]
fn a_watch_outlives_a_switchover_that_is_given_up() {
    let mut world = world();
    let client = world.client();
    world.give(client, &request("WATCH a"));
    world.server_says(0, b"+OK\r\n");
    world.at_server(0);
    world.hears(&closing());
    let block = [request("MULTI"), request("SET a 1"), request("EXEC")].concat();
    world.give(client, &block);
    world.hears(&turned(2, serving(1, 0)));
    assert_eq!(world.at_server(0).into_bytes(), block);
    world.server_says(0, b"+OK\r\n+QUEUED\r\n*1\r\n+OK\r\n");
    assert!(world.take(client).ends_with("*1\r\n+OK\r\n"));
    world.assert_nothing_is_left();
}

const SUBSCRIBED: &[u8] = b"*3\r\n$9\r\nsubscribe\r\n$1\r\na\r\n:1\r\n";
const P_SUBSCRIBED: &[u8] = b"*3\r\n$10\r\npsubscribe\r\n$2\r\nb*\r\n:2\r\n";
const MESSAGE: &[u8] = b"*3\r\n$7\r\nmessage\r\n$1\r\na\r\n$1\r\nx\r\n";

/// A client that listens to a channel and a pattern, and its connection to the server.
fn listening(world: &mut World) -> (Peer, Peer) {
    let client = world.client();
    world.give(client, &request("SUBSCRIBE a"));
    world.give(client, &request("PSUBSCRIBE b*"));
    let lane = world.up[&0];
    world.give(lane, &[SUBSCRIBED, P_SUBSCRIBED].concat());
    world.take(lane);
    world.take(client);
    (client, lane)
}

#[test]
fn a_subscriber_listens_at_the_next_primary_before_anything_is_published_there() {
    let mut world = world();
    let (listener, old) = listening(&mut world);
    let publisher = world.client();
    world.hears(&closing());
    assert_eq!(world.quiet.len(), 1);
    world.give(publisher, &request("PUBLISH a x"));
    world.give(old, MESSAGE);
    assert_eq!(
        world.take(listener).into_bytes(),
        MESSAGE,
        "the last one of the old primary"
    );
    world.core.closed(old, How::Eof, world.now);
    world.turn();
    world.later(Duration::from_millis(5));
    world.hears(&serving(2, 7));
    let new = world.up[&7];
    let again = [request("SUBSCRIBE a"), request("PSUBSCRIBE b*")].concat();
    assert_eq!(world.take(new).into_bytes(), again);
    world.give(new, SUBSCRIBED);
    assert_eq!(world.up[&7], new, "nothing is published yet");
    world.give(new, &[P_SUBSCRIBED, MESSAGE].concat());
    assert_eq!(
        world.take(listener).into_bytes(),
        MESSAGE,
        "it does not notice"
    );
    assert_ne!(world.up[&7], new);
    assert_eq!(world.at_server(7).into_bytes(), request("PUBLISH a x"));
    world.server_says(7, b":1\r\n");
    assert_eq!(world.take(publisher), ":1\r\n");
    world.give(listener, &request("UNSUBSCRIBE a"));
    assert_eq!(world.take(new).into_bytes(), request("UNSUBSCRIBE a"));
    world.assert_nothing_is_left();
}

#[test]
fn a_subscriber_whose_server_is_silent_is_moved_all_the_same() {
    let mut world = world();
    let (listener, old) = listening(&mut world);
    world.hears(&serving(2, 7));
    assert!(world.closed.contains(&old), "break before make");
    let new = world.up[&7];
    world.give(new, &[SUBSCRIBED, P_SUBSCRIBED].concat());
    world.give(new, MESSAGE);
    assert_eq!(world.take(listener).into_bytes(), MESSAGE);
}

#[test]
fn a_subscriber_is_moved_to_the_primary_of_an_older_epoch_that_counts_again() {
    let mut world = world();
    world.hears(&serving(2, 0));
    let (listener, old) = listening(&mut world);
    world.core.closed(old, How::Eof, world.now);
    world.turn();
    world.later(Duration::from_millis(5));
    world.hears(&turned(9, serving(1, 7)));
    let new = world.up[&7];
    world.give(new, &[SUBSCRIBED, P_SUBSCRIBED, MESSAGE].concat());
    assert_eq!(world.take(listener).into_bytes(), MESSAGE);
}

#[test]
fn a_subscriber_that_loses_its_connection_to_a_primary_that_stays_is_told() {
    let mut world = world();
    let (listener, old) = listening(&mut world);
    world.core.closed(old, How::Reset, world.now);
    world.turn();
    assert_eq!(world.take(listener), "");
    for _ in 0..60 {
        world.later(Duration::from_millis(20));
    }
    assert!(world.take(listener).starts_with('-'));
    assert!(world.closed.contains(&listener));
    world.assert_nothing_is_left();
}

#[test]
fn a_subscriber_that_cannot_be_moved_keeps_nobody_waiting_for_long() {
    let mut world = world();
    let (listener, _) = listening(&mut world);
    let publisher = world.client();
    world.hears(&serving(2, 7));
    world.give(publisher, &request("PUBLISH a x"));
    assert_eq!(world.at_server(7), "");
    for _ in 0..40 {
        world.later(Duration::from_millis(10));
    }
    assert!(
        world.closed.contains(&listener),
        "it would have missed a message"
    );
    assert_eq!(world.at_server(7).into_bytes(), request("PUBLISH a x"));
}

#[test]
fn who_subscribes_while_there_is_no_primary_listens_to_the_next_one() {
    let mut world = world();
    world.hears(&turned(1, phase(1, Phase::None)));
    let client = world.client();
    world.give(client, &request("SUBSCRIBE a"));
    assert_eq!(world.take(client), "");
    world.hears(&serving(2, 7));
    assert_eq!(world.at_server(7).into_bytes(), request("SUBSCRIBE a"));
    world.server_says(7, SUBSCRIBED);
    assert_eq!(world.take(client).into_bytes(), SUBSCRIBED);
}

#[test]
fn the_errors_of_a_server_that_nobody_fails_over_are_its_clients_to_see() {
    let mut world = World::new(pool(1));
    let mut word = serving(0, 0);
    word.groups[0].lease = Lease::Fixed;
    world.hears(&word);
    let client = world.client();
    world.give(client, &request("SET a 1"));
    let readonly = "-READONLY You can't write against a read only replica.\r\n";
    world.server_says(0, readonly.as_bytes());
    assert_eq!(world.take(client), readonly);
    world.give(client, &request("SET a 2"));
    world.loses(0);
    assert!(world.take(client).starts_with("-ERR "), "nothing is held");
    world.assert_nothing_is_left();
}

/// Behind a VIP both hosts' servers have one address; the host of the epoch tells them apart.
fn of(host: &str, epoch: u64) -> crate::topology::Topology {
    let mut topology = serving(epoch, 0);
    topology.groups[0].rank.host = host.into();
    topology
}

#[test]
fn behind_one_address_for_both_hosts_what_blocks_begins_again_at_the_other_one() {
    let mut world = world();
    world.hears(&of("a", 1));
    let client = world.client();
    world.give(client, &request("BLPOP q 60"));
    let old = world.up[&0];
    assert_eq!(world.take(old).into_bytes(), request("BLPOP q 60"));
    // The same one, in an epoch above one that came to nothing.
    world.hears(&of("a", 3));
    assert_eq!(world.closed, []);
    world.server_says(0, UNBLOCKED);
    world.hears(&of("b", 4));
    assert_ne!(world.up[&0], old, "another connection");
    assert_eq!(world.at_server(0).into_bytes(), request("BLPOP q 60"));
    world.server_says(0, b"*2\r\n$1\r\nq\r\n$1\r\nx\r\n");
    assert!(world.take(client).starts_with("*2"));
    world.assert_nothing_is_left();
}

#[test]
fn behind_one_address_for_both_hosts_subscribers_and_watches_go_with_the_primary() {
    let mut world = world();
    world.hears(&of("a", 2));
    let (listener, old) = listening(&mut world);
    let watcher = world.client();
    world.give(watcher, &request("WATCH k"));
    world.server_says(0, b"+OK\r\n");
    assert_eq!(world.take(watcher), "+OK\r\n");
    // An older epoch that counts again, so of the other host.
    world.hears(&of("b", 1));
    assert!(world.closed.contains(&old), "break before make");
    let new = world.connections.last().unwrap().1;
    let again = [request("SUBSCRIBE a"), request("PSUBSCRIBE b*")].concat();
    assert_eq!(world.take(new).into_bytes(), again);
    world.give(new, &[SUBSCRIBED, P_SUBSCRIBED, MESSAGE].concat());
    assert_eq!(world.take(listener).into_bytes(), MESSAGE);
    for words in ["MULTI", "SET k 1", "EXEC"] {
        world.give(watcher, &request(words));
    }
    assert_eq!(world.take(watcher), "+OK\r\n+QUEUED\r\n*-1\r\n", "aborted");
}
