//! What is read too late is not passed on, and a thread that stood still asks before it goes on.

use super::follow::{phase, serving, world};
use super::*;
use crate::topology::{Lease, Phase, Topology};

const MS: Duration = Duration::from_millis(1);

impl World {
    /// So much time goes by, and a turn begins.
    fn turns(&mut self, boot: Duration) {
        self.core.turned(boot, self.now);
        self.turn();
    }
}

fn leased(mut topology: Topology, until: Duration) -> Topology {
    topology.groups[0].lease = Lease::Until(until);
    topology
}

/// A thread that is awake, one second after the boot, and has a write and a read under way.
fn under_way() -> (World, Peer, Peer) {
    let mut world = world();
    world.turns(1000 * MS);
    let (writer, reader) = (world.client(), world.client());
    world.give(writer, &request("INCR n"));
    world.give(reader, &request("GET n"));
    world.at_server(0);
    (world, writer, reader)
}

#[test]
fn a_reply_that_was_read_after_the_lease_is_not_passed_on() {
    for (read_at, passed) in [(1100 * MS, true), (1101 * MS, false)] {
        let mut world = world();
        world.hears(&leased(serving(2, 0), 1100 * MS));
        world.turns(1000 * MS);
        let (writer, reader) = (world.client(), world.client());
        world.give(writer, &request("INCR n"));
        world.give(reader, &request("GET n"));
        let lane = world.up[&0];
        world.take(lane);
        world.core.look(read_at);
        world.give(lane, b":1\r\n+1\r\n");
        if passed {
            assert_eq!(
                (world.take(writer), world.take(reader)),
                (":1\r\n".into(), "+1\r\n".into())
            );
            continue;
        }
        assert!(world.take(writer).starts_with("-TANDEM-UNKNOWN "));
        assert_eq!(world.take(reader), "", "a read is asked again");
        assert!(
            !world.up.contains_key(&0),
            "nothing is sent without a lease"
        );
        world.hears(&leased(serving(2, 0), 2000 * MS));
        assert_eq!(world.at_server(0).into_bytes(), request("GET n"));
        world.server_says(0, b"+1\r\n");
        assert_eq!(world.take(reader), "+1\r\n");
        world.assert_nothing_is_left();
    }
}

#[test]
fn a_thread_without_anything_to_do_wakes_up_often_enough_to_know_that_it_is_awake() {
    let (mut world, ..) = under_way();
    world.server_says(0, b":1\r\n+1\r\n");
    let begun = world.now;
    while world.now < begun + Duration::from_secs(20) {
        world.now = world.core.deadline().unwrap().max(world.now + MS);
        // As the loop does: the turn begins, and then what is due is done.
        world.turns(1000 * MS + (world.now - begun));
        world.later(Duration::ZERO);
        assert_eq!(world.confirms, 0);
    }
}

#[test]
fn what_comes_between_two_leases_is_read_under_the_second() {
    let mut world = world();
    world.hears(&leased(serving(2, 0), 1100 * MS));
    world.turns(1000 * MS);
    let client = world.client();
    world.give(client, &request("INCR n"));
    let lane = world.up[&0];
    world.turns(1200 * MS);
    assert!(!world.give(lane, b":1\r\n"), "not read from");
    world.hears(&leased(serving(2, 0), 2000 * MS));
    assert!(world.resumed.contains(&lane));
    world.give(lane, b":1\r\n");
    assert_eq!(world.take(client), ":1\r\n");
}

#[test]
fn one_that_slept_and_missed_nothing_goes_on() {
    let (mut world, writer, reader) = under_way();
    let lane = world.up[&0];
    world.turns(61_000 * MS);
    assert_eq!(world.confirms, 1);
    assert!(
        !world.give(lane, b":1\r\n+1\r\n"),
        "what has come in stays where it is"
    );
    world.give(reader, &request("GET m"));
    assert_eq!(world.take(lane), "", "nothing is sent");
    world.core.confirmed(0, 0, 60_000 * MS, world.now);
    world.turn();
    assert!(
        !world.give(lane, b":1\r\n"),
        "that was asked before the sleep was over"
    );
    world.core.confirmed(0, 0, 61_000 * MS, world.now);
    world.turn();
    assert!(world.resumed.contains(&lane));
    assert_eq!(world.take(lane).into_bytes(), request("GET m"));
    world.give(lane, b":1\r\n+1\r\n+m\r\n");
    assert_eq!(
        (world.take(writer), world.take(reader)),
        (":1\r\n".into(), "+1\r\n+m\r\n".into())
    );
    world.assert_nothing_is_left();
}

#[test]
fn one_that_slept_through_a_failover_passes_nothing_of_the_old_primary_on() {
    let (mut world, writer, reader) = under_way();
    let lane = world.up[&0];
    world.turns(61_000 * MS);
    world.hears(&serving(2, 7));
    assert!(world.closed.contains(&lane));
    assert!(world.take(writer).starts_with("-TANDEM-UNKNOWN "));
    assert_eq!(world.at_server(7), "", "not before it is confirmed");
    world.core.confirmed(0, 0, 61_000 * MS, world.now);
    world.turn();
    assert_eq!(world.at_server(7).into_bytes(), request("GET n"));
    world.server_says(7, b"+0\r\n");
    assert_eq!(world.take(reader), "+0\r\n");
    world.assert_nothing_is_left();
}

#[test]
fn one_that_slept_between_waking_and_reading_takes_what_it_read_for_nothing() {
    let (mut world, writer, reader) = under_way();
    let lane = world.up[&0];
    world.core.look(61_000 * MS);
    world.give(lane, b":1\r\n+1\r\n");
    assert!(world.take(writer).starts_with("-TANDEM-UNKNOWN "));
    assert_eq!((world.take(reader), world.confirms), (String::new(), 1));
    world.core.confirmed(0, 0, 61_000 * MS, world.now);
    world.turn();
    assert_eq!(world.at_server(0).into_bytes(), request("GET n"));
    world.server_says(0, b"+1\r\n");
    world.assert_nothing_is_left();
}

#[test]
fn a_doubt_that_nobody_settles_ends_as_a_lost_connection() {
    let (mut world, writer, reader) = under_way();
    world.turns(61_000 * MS);
    for _ in 0..80 {
        world.later(50 * MS);
    }
    assert!(world.take(writer).starts_with("-TANDEM-UNKNOWN "));
    assert!(world.take(reader).starts_with("-TANDEM-NOPRIMARY "));
    world.assert_nothing_is_left();
}

#[test]
fn short_waits_and_servers_of_nobody_s_are_not_doubted() {
    let (mut world, writer, _) = under_way();
    for turn in 1..10 {
        world.turns(1000 * MS + turn * 300 * MS);
    }
    world.core.look(3900 * MS);
    world.server_says(0, b":1\r\n+1\r\n");
    assert_eq!((world.take(writer), world.confirms), (":1\r\n".into(), 0));

    let mut world = World::new(pool(1));
    let mut fixed = serving(1, 0);
    fixed.groups[0].lease = Lease::Fixed;
    world.hears(&fixed);
    assert!(!world.core.has_leases(), "no clock need be read");
    world.hears(&phase(2, Phase::None));
    assert!(world.core.has_leases());
}
