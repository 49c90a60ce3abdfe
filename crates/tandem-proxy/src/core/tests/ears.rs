//! Keyspace notifications, which every server gives of its own keys only.

use super::follow::{HOLD_BOUND, phase, serving};
use super::*;
use crate::topology::{Phase, Topology};

/// What a server says to a subscriber: of a kind, the words that follow, and a count.
fn said(words: &[&str], count: Option<usize>) -> Vec<u8> {
    let parts = words.len() + usize::from(count.is_some());
    let mut bytes = format!("*{parts}\r\n").into_bytes();
    for word in words {
        tandem_resp::write_bulk(word.as_bytes(), &mut bytes);
    }
    if let Some(count) = count {
        bytes.extend_from_slice(format!(":{count}\r\n").as_bytes());
    }
    bytes
}

/// The newest connection to each place.
fn newest(world: &World, place: usize) -> Peer {
    let to = |(at, peer): &(usize, Peer)| (*at == place).then_some(*peer);
    world.connections.iter().rev().find_map(to).unwrap()
}

/// Where plain channels live in a pool of two, and the other place.
fn home_and_other(world: &mut World) -> (usize, usize) {
    let probe = world.client();
    world.give(probe, &request("SUBSCRIBE probe"));
    let home = *world.up.keys().next().unwrap();
    world.core.closed(probe, How::Reset, world.now);
    world.turn();
    world.connections.clear();
    world.up.clear();
    (home, 1 - home)
}

fn subscribers(world: &World) -> [usize; 2] {
    let counted = &world.core.pools[0].setup.subscribers;
    [counted.of(0), counted.of(1)]
}

/// Subscribes to this, and has all servers confirm it. Its own connection and its ear.
fn listening(world: &mut World, client: Peer, command: &str, name: &str) -> (Peer, Peer) {
    let (home, other) = home_and_other(world);
    let words = format!("{command} {name}");
    world.give(client, &request(&words));
    let ear = newest(world, other);
    assert_eq!(world.take(ear).into_bytes(), request(&words));
    assert!(
        world.connections.iter().all(|(place, _)| *place == other),
        "its own connection is asked when the others have confirmed"
    );
    let confirmed = said(&[&command.to_lowercase(), name], Some(1));
    world.give(ear, &confirmed);
    assert_eq!(world.take(client), "", "there is one confirmation");
    let own = newest(world, home);
    assert_eq!(world.take(own).into_bytes(), request(&words));
    world.give(own, &confirmed);
    assert_eq!(world.take(client).into_bytes(), confirmed);
    (own, ear)
}

#[test]
fn notifications_are_heard_from_every_server_with_one_confirmation() {
    let mut world = World::new(pool(2));
    let client = world.client();
    let name = "__keyevent@0__:set";
    let (own, ear) = listening(&mut world, client, "SUBSCRIBE", name);
    assert_eq!(subscribers(&world), [1, 1]);
    let one = said(&["message", name, "a"], None);
    let two = said(&["message", name, "b"], None);
    world.give(ear, &[&one[..], &two[..10]].concat());
    world.give(own, &two);
    world.give(ear, &two[10..]);
    let all = [&one[..], &two, &two].concat();
    assert_eq!(
        world.take(client).into_bytes(),
        all,
        "whole, in their order"
    );
    // An ordinary channel is its own connection's alone.
    world.give(client, &request("SUBSCRIBE news"));
    assert_eq!(world.take(own).into_bytes(), request("SUBSCRIBE news"));
    assert_eq!(world.take(ear), "");
    world.give(own, &said(&["subscribe", "news"], Some(2)));
    world.take(client);
    // Ended, nothing is left at the other server.
    world.give(client, &request(&format!("UNSUBSCRIBE {name}")));
    assert!(world.closed.contains(&ear));
    world.give(own, &said(&["unsubscribe", name], Some(1)));
    assert_eq!(
        world.take(client).into_bytes(),
        said(&["unsubscribe", name], Some(1))
    );
    assert_eq!(subscribers(&world).iter().sum::<usize>(), 1);
    world.give(client, &request("UNSUBSCRIBE"));
    world.give(own, &said(&["unsubscribe", "news"], Some(0)));
    assert_eq!(subscribers(&world), [0, 0]);
    world.assert_nothing_is_left();
}

#[test]
fn what_is_published_comes_once_to_who_listens_to_everything() {
    let mut world = World::new(pool(2));
    let client = world.client();
    let (own, ear) = listening(&mut world, client, "PSUBSCRIBE", "*");
    // The nodes of a cluster tell each other what is published.
    let news = said(&["pmessage", "*", "news", "hi"], None);
    world.give(ear, &news);
    assert_eq!(world.take(client), "");
    world.give(own, &news);
    assert_eq!(world.take(client).into_bytes(), news);
    let event = said(&["pmessage", "*", "__keyevent@0__:set", "a"], None);
    world.give(ear, &event);
    assert_eq!(world.take(client).into_bytes(), event);
}

#[test]
fn an_ear_ends_some_of_what_it_hears_and_hears_it_again() {
    let mut world = World::new(pool(2));
    let client = world.client();
    let (one, two) = ("__keyspace@0__:a", "__keyspace@0__:b");
    let (own, ear) = listening(&mut world, client, "SUBSCRIBE", one);
    world.give(client, &request(&format!("SUBSCRIBE {two}")));
    world.give(ear, &said(&["subscribe", two], Some(2)));
    world.give(own, &said(&["subscribe", two], Some(2)));
    world.take(client);
    world.take(ear);
    let words = [format!("UNSUBSCRIBE {one}"), format!("SUBSCRIBE {one}")];
    world.give(client, &request(&words[0]));
    world.give(client, &request(&words[1]));
    let both: Vec<u8> = words.iter().flat_map(|words| request(words)).collect();
    assert_eq!(world.take(ear).into_bytes(), both);
    world.give(ear, &said(&["unsubscribe", one], Some(1)));
    world.give(own, &said(&["unsubscribe", one], Some(1)));
    world.take(client);
    let event = said(&["message", one, "del"], None);
    world.give(ear, &event);
    assert_eq!(world.take(client), "", "it does not listen to that now");
    world.give(ear, &said(&["subscribe", one], Some(2)));
    world.give(own, &said(&["subscribe", one], Some(2)));
    world.take(client);
    world.give(ear, &event);
    assert_eq!(world.take(client).into_bytes(), event);
    // All of a kind at once.
    world.give(client, &request("UNSUBSCRIBE"));
    assert!(world.closed.contains(&ear));
}

#[test]
fn who_leaves_or_resets_or_loses_an_ear_leaves_no_connection_behind() {
    for how in ["leaves", "resets", "loses"] {
        let mut world = World::new(pool(2));
        let client = world.client();
        let (own, ear) = listening(&mut world, client, "PSUBSCRIBE", "__key*");
        match how {
            "leaves" => world.core.closed(client, How::Eof, world.now),
            "resets" => assert!(world.give(client, &request("RESET"))),
            _ => world.core.closed(ear, How::Eof, world.now),
        }
        world.turn();
        assert!(world.closed.contains(&own), "{how}");
        assert!(world.closed.contains(&ear), "{how}");
        match how {
            "resets" => assert_eq!(world.take(client), "+RESET\r\n"),
            "leaves" => {}
            // It would believe that it hears everything.
            _ => assert!(world.closed.contains(&client)),
        }
        assert_eq!(subscribers(&world), [0, 0], "{how}");
        world.assert_nothing_is_left();
        // And the places are somebody's again.
        let next = world.client();
        world.connections.clear();
        listening(&mut world, next, "PSUBSCRIBE", "__key*");
    }
}

#[test]
fn who_may_not_subscribe_is_told_and_subscribed_to_nothing() {
    let mut world = World::new(pool(2));
    let client = world.client();
    let (home, other) = home_and_other(&mut world);
    let noperm = b"-NOPERM No permissions to access a channel\r\n";
    world.give(client, &request("SUBSCRIBE __keyspace@0__:a"));
    let ear = newest(&world, other);
    world.give(ear, noperm);
    assert_eq!(world.take(client).as_bytes(), noperm);
    assert!(world.closed.contains(&ear));
    assert_eq!(subscribers(&world), [0, 0]);
    // The same of an ordinary channel.
    world.give(client, &request("SUBSCRIBE a"));
    let own = newest(&world, home);
    world.give(own, noperm);
    assert_eq!(world.take(client).as_bytes(), noperm);
    assert!(world.closed.contains(&own));
    let key = world.key_on(home);
    world.give(client, &request(&format!("GET {key}")));
    world.server_says(home, b"+ordinary\r\n");
    assert_eq!(world.take(client), "+ordinary\r\n");
    world.assert_nothing_is_left();
}

#[test]
fn a_server_that_never_confirms_keeps_nobody_for_ever() {
    let mut world = World::new(pool(2));
    let client = world.client();
    world.give(client, &request("PSUBSCRIBE *"));
    world.later(HOLD_BOUND);
    world.later(Duration::from_millis(20));
    assert!(world.closed.contains(&client));
    assert_eq!(subscribers(&world), [0, 0]);
}

/// What is said of both groups of a pool: of the first, of the second.
fn both(mut first: Topology, second: Topology) -> Topology {
    first.groups.extend(second.groups);
    first
}

#[test]
fn the_failover_of_one_group_moves_its_part_alone() {
    let mut world = World::new(pool(2));
    world.hears(&both(serving(1, 0), serving(1, 1)));
    let client = world.client();
    let name = "__keyspace@0__:a";
    let (own, ear) = listening(&mut world, client, "SUBSCRIBE", name);
    let other = usize::from(world.connections[0].0 == 1);
    let moves = |place| match other {
        0 => both(serving(2, place), serving(1, 1)),
        _ => both(serving(1, 0), serving(2, place)),
    };
    let gone = match other {
        0 => both(phase(1, Phase::None), serving(1, 1)),
        _ => both(serving(1, 0), phase(1, Phase::None)),
    };
    let key = world.key_on(other);
    let writer = world.client();
    world.core.closed(ear, How::Eof, world.now);
    world.hears(&gone);
    world.hears(&moves(7));
    let moved = newest(&world, 7);
    assert_eq!(
        world.take(moved).into_bytes(),
        request(&format!("SUBSCRIBE {name}"))
    );
    world.give(writer, &request(&format!("SET {key} 1")));
    let shared = newest(&world, 7);
    assert_eq!(world.take(shared), "", "nothing is written yet");
    let event = said(&["message", name, "set"], None);
    world.give(moved, &said(&["subscribe", name], Some(1)));
    let shared = newest(&world, 7);
    assert_ne!(shared, moved);
    assert_eq!(
        world.take(shared).into_bytes(),
        request(&format!("SET {key} 1"))
    );
    world.give(moved, &event);
    world.give(own, &event);
    assert_eq!(
        world.take(client).into_bytes(),
        [&event[..], &event].concat(),
        "it does not notice"
    );
    assert!(!world.closed.contains(&own), "the other group's part stays");
    world.give(shared, b"+OK\r\n");
    assert_eq!(world.take(writer), "+OK\r\n");
    // Now its own connection's group, whose last primary is silent.
    let home = 1 - other;
    let moves = match home {
        0 => both(serving(3, 8), serving(2, 7)),
        _ => both(serving(2, 7), serving(3, 8)),
    };
    world.hears(&moves);
    assert!(world.closed.contains(&own), "break before make");
    let own = newest(&world, 8);
    world.give(own, &said(&["subscribe", name], Some(1)));
    world.give(own, &event);
    world.give(moved, &event);
    assert_eq!(
        world.take(client).into_bytes(),
        [&event[..], &event].concat()
    );
    world.give(client, &request("UNSUBSCRIBE"));
    world.give(own, &said(&["unsubscribe", name], Some(0)));
    assert_eq!(subscribers(&world), [0, 0]);
    world.assert_nothing_is_left();
}

#[test]
fn who_subscribes_while_a_group_has_no_primary_waits_for_the_next_one() {
    let mut world = World::new(pool(2));
    world.hears(&both(serving(1, 0), serving(1, 1)));
    let (home, other) = home_and_other(&mut world);
    let word = |word: Topology| match other {
        0 => both(word, serving(1, 1)),
        _ => both(serving(1, 0), word),
    };
    world.hears(&word(phase(2, Phase::None)));
    let client = world.client();
    world.give(client, &request("PSUBSCRIBE *"));
    assert!(world.connections.is_empty());
    world.later(Duration::from_millis(500));
    world.hears(&word(serving(3, 7)));
    let ear = newest(&world, 7);
    assert_eq!(world.take(ear).into_bytes(), request("PSUBSCRIBE *"));
    world.give(ear, &said(&["psubscribe", "*"], Some(1)));
    let own = newest(&world, home);
    assert_eq!(world.take(own).into_bytes(), request("PSUBSCRIBE *"));
}
