//! WAIT of clients.

use super::acks::{pair, role, standing};
use super::*;
use crate::topology::{Fork, Forks};

/// What a primary and its replica say to a batch.
fn says(history: char, offset: u64, replica: u64) -> Vec<u8> {
    let all = format!(
        ":0\r\n{}:1\r\n{}",
        standing(history, offset, '0', -1),
        role(7, replica)
    );
    all.into_bytes()
}

/// A client of a pair that has said WAIT, and the connection on which it is found out.
fn waiting(words: &str) -> (World, Peer, Peer) {
    let mut world = World::new(pool(1));
    world.core.snapshot(0, &pair(1, 0, 7, true), world.now);
    let client = world.client();
    world.give(client, &request(words));
    let batches = world.connections[0].1;
    let sent = world.take(batches);
    assert!(sent.starts_with("*3\r\n$7\r\nPUBLISH\r\n"), "{sent}");
    (world, client, batches)
}

#[test]
fn who_waits_is_told_how_many_replicas_have_what_was_written_before() {
    let (mut world, client, batches) = waiting("WAIT 1 1000");
    world.give(batches, &says('a', 90, 80));
    assert_eq!(world.take(client), "", "it lacks ten bytes");
    let other = world.client();
    world.give(other, &request("WAIT 1 0"));
    world.later(Duration::from_millis(20));
    assert!(
        world
            .take(batches)
            .contains("WAIT\r\n$1\r\n1\r\n$3\r\n100\r\n")
    );
    world.give(batches, &says('a', 95, 90));
    assert_eq!(
        world.take(client),
        ":1\r\n",
        "that it has more by now is the other's matter"
    );
    assert_eq!(world.take(other), "");
    world.later(Duration::from_millis(20));
    world.give(batches, &says('a', 99, 95));
    assert_eq!(world.take(other), ":1\r\n");
    world.assert_nothing_is_left();
}

#[test]
fn a_replica_that_may_not_be_promoted_does_not_count_and_time_ends_it() {
    let mut world = World::new(pool(1));
    world.core.snapshot(0, &pair(1, 0, 7, false), world.now);
    let client = world.client();
    world.give(client, &request("WAIT 1 50"));
    let batches = world.connections[0].1;
    assert!(
        world
            .take(batches)
            .contains("WAIT\r\n$1\r\n1\r\n$2\r\n50\r\n")
    );
    world.later(Duration::from_millis(50));
    world.give(batches, &says('a', 90, 90));
    assert_eq!(world.take(client), ":0\r\n");
    // One that does not answer is not waited for much longer than a client wants.
    world.give(client, &request("WAIT 1 50"));
    world.later(Duration::from_millis(20));
    world.take(batches);
    world.later(Duration::from_millis(300));
    assert_eq!(world.take(client), ":0\r\n");
    world.assert_nothing_is_left();
}

/// A message to nobody makes a server wait for everything up to now.
fn about_files(words: &str) -> Vec<u8> {
    [request("PUBLISH tandem:wait "), request(words)].concat()
}

#[test]
fn files_are_asked_about_on_a_connection_that_is_for_this_alone() {
    let mut world = World::new(pool(1));
    let client = world.client();
    world.give(client, &request("SET a 1"));
    world.server_says(0, b"+OK\r\n");
    world.take(client);
    let shared = world.up[&0];
    world.take(shared);
    world.give(client, &request("WAITAOF 1 1 0"));
    let lent = world.up[&0];
    assert_ne!(lent, shared);
    assert_eq!(world.take(lent).into_bytes(), about_files("WAITAOF 1 1 0"));
    world.give(client, &request("GET a"));
    assert_eq!(world.take(shared).len(), request("GET a").len());
    world.give(shared, b"+1\r\n");
    world.give(lent, b":0\r\n*2\r\n:1\r\n:0\r\n");
    assert_eq!(world.take(client), "*2\r\n:1\r\n:0\r\n+1\r\n");
    assert_eq!(world.core.pins.taken, 0);
    // An older server says so itself, and one that does not take the message is asked about nothing.
    for (says, told) in [
        (
            &b":0\r\n-ERR unknown command 'WAITAOF'\r\n"[..],
            "-ERR unknown command 'WAITAOF'\r\n",
        ),
        (b"-NOPERM no\r\n*2\r\n:1\r\n:0\r\n", "-NOPERM no\r\n"),
    ] {
        world.give(client, &request("WAITAOF 1 1 0"));
        world.give(lent, says);
        assert_eq!(world.take(client), told);
    }
    // Who leaves takes it along.
    world.give(client, &request("WAITAOF 1 1 0"));
    assert_eq!(world.core.pins.taken, 1);
    world.core.closed(client, How::Eof, world.now);
    world.turn();
    assert!(world.closed.contains(&lent));
    assert_eq!((world.core.pins.taken, world.core.pins.lent), (0, 0));
    assert_eq!(world.core.desk.splits.in_use(), 0);
    world.assert_nothing_is_left();
}

#[test]
fn of_the_files_of_several_servers_the_least_is_told() {
    let mut world = World::new(pool(2));
    let client = world.client();
    world.give(client, &request("WAITAOF 1 2 500"));
    for server in [0, 1] {
        assert_eq!(
            world.at_server(server).into_bytes(),
            about_files("WAITAOF 1 2 500")
        );
    }
    world.server_says(0, b":0\r\n*2\r\n:1\r\n:1\r\n");
    assert_eq!(world.take(client), "");
    world.server_says(1, b":3\r\n*2\r\n:0\r\n:2\r\n");
    assert_eq!(world.take(client), "*2\r\n:0\r\n:1\r\n");
    assert_eq!((world.core.pins.taken, world.core.pins.lent), (0, 0));
    // One that cannot be reached is an error, as with any request to all.
    world.refusing = vec![1];
    let gone = world.up[&1];
    world.core.closed(gone, How::Eof, world.now);
    world.turn();
    world.give(client, &request("WAITAOF 1 0 0"));
    world.server_says(0, b":0\r\n*2\r\n:1\r\n:0\r\n");
    assert!(world.take(client).starts_with("-ERR "));
    assert_eq!((world.core.pins.taken, world.core.pins.lent), (0, 0));
    world.assert_nothing_is_left();
}

#[test]
fn what_went_with_a_primary_is_in_no_file() {
    const NONE: &str = "*2\r\n:0\r\n:0\r\n";
    let moves = |world: &mut World| {
        world.core.snapshot(0, &pair(2, 7, 0, true), world.now);
        world.turn();
    };
    for how in ["before", "unblocked", "lost", "moved"] {
        let mut world = World::new(pool(1));
        world.core.snapshot(0, &pair(1, 0, 7, true), world.now);
        let client = world.client();
        if how == "before" {
            moves(&mut world);
            world.give(client, &request("WAITAOF 1 0 0"));
        } else {
            world.give(client, &request("WAITAOF 1 0 0"));
            let own = world.up[&0];
            world.give(own, b":0\r\n");
            match how {
                "unblocked" => world.server_says(
                    0,
                    b"-UNBLOCKED force unblock from blocking operation, instance state changed (master -> replica?)\r\n",
                ),
                "lost" => world.core.closed(own, How::Eof, world.now),
                _ => {}
            }
            moves(&mut world);
        }
        assert_eq!(world.take(client), NONE, "{how}");
        if how == "unblocked" {
            // It was not known then that the primary is another one.
            world.give(client, &request("WAITAOF 1 0 0"));
            assert_eq!(world.take(client), NONE);
        }
        // What it writes from now on is another matter.
        world.give(client, &request("WAITAOF 1 0 0"));
        assert_eq!(world.take(client), "", "{how}");
        assert_eq!(
            world.at_server(7).into_bytes(),
            about_files("WAITAOF 1 0 0"),
            "{how}"
        );
        world.server_says(7, b":0\r\n*2\r\n:1\r\n:0\r\n");
        assert_eq!(world.take(client), "*2\r\n:1\r\n:0\r\n");
        assert_eq!((world.core.pins.taken, world.core.pins.lent), (0, 0));
        world.assert_nothing_is_left();
    }
    // One that is held while there is no primary.
    let mut world = World::new(pool(1));
    world.core.snapshot(0, &pair(1, 0, 7, true), world.now);
    let client = world.client();
    let mut nobody = pair(1, 0, 7, true);
    nobody.groups[0].rank.turn = 1;
    nobody.groups[0].phase = crate::topology::Phase::None;
    world.core.snapshot(0, &nobody, world.now);
    world.give(client, &request("WAITAOF 1 0 0"));
    assert_eq!(world.take(client), "");
    moves(&mut world);
    assert_eq!(world.take(client), NONE);
    assert_eq!((world.core.pins.taken, world.core.pins.lent), (0, 0));
    world.assert_nothing_is_left();
    // One that is held for as long as anyone may.
    let later = world.client();
    nobody.groups[0].rank.epoch = 3;
    world.core.snapshot(0, &nobody, world.now);
    world.give(later, &request("WAITAOF 1 0 0"));
    world.later(Duration::from_millis(3100));
    assert!(world.take(later).starts_with("-TANDEM-NOPRIMARY "));
    assert_eq!((world.core.pins.taken, world.core.pins.lent), (0, 0));
    world.assert_nothing_is_left();
}

#[test]
fn over_several_servers_the_least_is_told() {
    let mut world = World::new(pool(2));
    let client = world.client();
    world.give(client, &request("WAIT 1 100"));
    world.server_says(0, &says('a', 90, 90));
    assert_eq!(world.take(client), "");
    world.later(Duration::from_millis(100));
    world.server_says(1, &says('b', 90, 10));
    assert_eq!(world.take(client), ":0\r\n");
    world.assert_nothing_is_left();
}

#[test]
fn nobody_vouches_for_what_went_with_a_primary() {
    let (mut world, client, _) = waiting("WAIT 1 0");
    world.core.snapshot(0, &pair(2, 7, 0, true), world.now);
    world.turn();
    assert_eq!(world.take(client), ":0\r\n", "who waits");
    let before = client;
    world.give(before, &request("WAIT 1 0"));
    let batches = world.connections.last().unwrap().1;
    world.take(batches);
    let all = format!(":0\r\n{}:1\r\n{}", standing('b', 90, 'a', 5), role(0, 90));
    world.give(batches, all.as_bytes());
    world.later(Duration::from_millis(20));
    world.give(batches, all.as_bytes());
    assert_eq!(world.take(before), ":1\r\n", "it has been told once");

    let mut world = World::new(pool(1));
    world.core.snapshot(0, &pair(1, 0, 7, true), world.now);
    let client = world.client();
    world.core.snapshot(0, &pair(2, 7, 0, true), world.now);
    world.turn();
    world.give(client, &request("WAIT 1 0"));
    assert_eq!(world.take(client), ":0\r\n", "what it wrote before");
    world.assert_nothing_is_left();
}

/// A primary that was fenced where the next one begins has answered nothing that this one lacks; one that died may have, and so may one
/// whose history is not the one that was seen.
#[test]
fn a_switchover_that_left_nothing_behind_is_nobody_s_loss() {
    let told = |epoch, primary, replica, forks| {
        let mut word = pair(epoch, primary, replica, true);
        word.groups[0].forks = forks;
        word
    };
    for (parent, whole, answer) in [("a", true, ":1"), ("a", false, ":0"), ("c", true, ":0")] {
        let mut world = World::new(pool(1));
        let first = told(1, 0, 7, Forks::None);
        world.core.snapshot(0, &first, world.now);
        let client = world.client();
        world.give(client, &request("SET k 1"));
        let seen = standing('a', 40, '0', -1);
        world.server_says(0, format!("+OK\r\n{seen}").as_bytes());
        world.give(client, &request("SET k 2"));
        world.server_says(0, b"+OK\r\n");
        world.take(client);
        let fork = Forks::At(Fork {
            parent: parent.repeat(40),
            offset: 60,
            whole,
        });
        world.core.snapshot(0, &told(2, 7, 0, fork), world.now);
        world.turn();
        world.give(client, &request("WAIT 1 0"));
        if answer == ":1" {
            let batches = world.up[&7];
            let all = format!(":0\r\n{}:1\r\n{}", standing('b', 90, 'a', 61), role(0, 90));
            world.give(batches, all.as_bytes());
        }
        assert_eq!(
            world.take(client),
            format!("{answer}\r\n"),
            "{parent} {whole}"
        );
        world.assert_nothing_is_left();
    }
}

#[test]
fn the_first_primary_that_is_heard_of_has_taken_nobodys_place() {
    let mut world = World::new(pool(1));
    let client = world.client();
    world.core.snapshot(0, &pair(1, 0, 7, true), world.now);
    world.give(client, &request("WAIT 1 0"));
    let batches = world.connections[0].1;
    world.give(batches, &says('a', 90, 90));
    assert_eq!(world.take(client), ":1\r\n");
    world.assert_nothing_is_left();
}

#[test]
fn a_wait_that_is_none_is_said_as_redis_says_it() {
    let mut world = World::new(pool(1));
    let client = world.client();
    for (words, said) in [
        (
            "WAIT x 1",
            "-ERR value is not an integer or out of range\r\n",
        ),
        (
            "WAIT 1 x",
            "-ERR timeout is not an integer or out of range\r\n",
        ),
        ("WAIT 1 -1", "-ERR timeout is negative\r\n"),
    ] {
        world.give(client, &request(words));
        assert_eq!(world.take(client), said);
    }
    world.give(client, &request("WAIT 1 0"));
    world.core.closed(client, How::Reset, world.now);
    world.later(Duration::from_millis(200));
    world.server_says(0, &says('a', 1, 0));
    world.later(Duration::from_millis(200));
    world.assert_nothing_is_left();
}
