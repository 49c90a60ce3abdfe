//! A node sends a request elsewhere, which is asked there, in order.

use super::*;

#[test]
fn a_moved_slot_is_asked_there_and_nowhere_else_from_then_on() {
    let mut cluster = Cluster::new();
    let client = cluster.world.client();
    cluster.ask(client, "SET bar 1");
    cluster.ask(client, "GET bar");
    assert_eq!(cluster.at(1), "SET bar 1, GET bar");
    cluster.says(1, &[moved(5061, 2), moved(5061, 2)].concat());
    assert_eq!(cluster.at(2), "SET bar 1, GET bar");
    assert_eq!(cluster.world.remaps, 1, "and somebody asks for the rest");
    cluster.says(2, b"+OK\r\n$1\r\n1\r\n");
    assert_eq!(cluster.world.take(client), "+OK\r\n$1\r\n1\r\n");
    cluster.ask(client, "GET bar");
    assert_eq!(cluster.at(1), "");
    assert_eq!(cluster.at(2), "GET bar");
    cluster.says(2, b"$1\r\n1\r\n");
    assert_eq!(cluster.world.take(client), "$1\r\n1\r\n");
    cluster.world.assert_nothing_is_left();
}

#[test]
fn a_slot_under_way_is_asked_behind_asking_and_stays_where_it_is() {
    let mut cluster = Cluster::new();
    let (one, two) = (cluster.world.client(), cluster.world.client());
    cluster.ask(one, "GET bar");
    cluster.ask(two, "GET foo");
    cluster.says(1, &ask(5061, 2));
    assert_eq!(cluster.at(2), "GET foo, ASKING, GET bar");
    cluster.says(2, b"$1\r\nf\r\n+OK\r\n$1\r\nb\r\n");
    assert_eq!(cluster.world.take(one), "$1\r\nb\r\n");
    assert_eq!(cluster.world.take(two), "$1\r\nf\r\n");
    cluster.at(1);
    cluster.ask(one, "GET bar");
    assert_eq!(cluster.at(1), "GET bar");
    assert_eq!(cluster.world.remaps, 0);
    cluster.says(1, b"$1\r\nb\r\n");
    cluster.world.assert_nothing_is_left();
}

#[test]
fn asking_is_sent_again_with_its_request_and_dropped_with_it() {
    let mut cluster = Cluster::new();
    let (one, two) = (cluster.world.client(), cluster.world.client());
    cluster.ask(one, "GET bar");
    cluster.ask(two, "GET {bar}2");
    cluster.says(1, &[ask(5061, 2), ask(5061, 2)].concat());
    assert_eq!(cluster.at(2), "ASKING, GET bar, ASKING, GET {bar}2");
    cluster
        .world
        .core
        .closed(one, How::Reset, cluster.world.now);
    cluster.world.loses(2);
    cluster.world.later(Duration::from_millis(20));
    assert_eq!(cluster.at(2), "ASKING, GET {bar}2");
    cluster.says(2, b"+OK\r\n$1\r\n2\r\n");
    assert_eq!(cluster.world.take(two), "$1\r\n2\r\n");
    cluster.world.assert_nothing_is_left();
}

#[test]
fn somebody_unknown_who_is_named_is_asked_when_a_map_has_him() {
    let mut cluster = Cluster::new();
    let client = cluster.world.client();
    cluster.ask(client, "GET bar");
    cluster.says(1, &ask(5061, 3));
    let named = Address::Tcp {
        host: "127.0.0.1".to_owned(),
        port: 1003,
    };
    assert_eq!(cluster.world.core.take_stranger(0), Some(named));
    assert_eq!(cluster.world.remaps, 1);
    let mut shards = halves();
    shards.push(shard(&[3], &[]));
    cluster.is(shards);
    cluster.at(1);
    cluster.world.later(Duration::from_millis(20));
    assert_eq!(cluster.at(1), "GET bar", "it is asked who has it now");
    cluster.says(1, &ask(5061, 3));
    assert_eq!(cluster.at(3), "ASKING, GET bar");
    cluster.says(3, b"+OK\r\n$1\r\nb\r\n");
    assert_eq!(cluster.world.take(client), "$1\r\nb\r\n");
    cluster.world.assert_nothing_is_left();
}

#[test]
fn nodes_that_each_name_the_other_are_asked_until_one_has_it() {
    let mut cluster = Cluster::new();
    let client = cluster.world.client();
    cluster.ask(client, "GET bar");
    for _ in 0..40 {
        for (place, other) in [(1, 2), (2, 1)] {
            if cluster.at(place) == "GET bar" {
                cluster.says(place, &moved(5061, other as u16));
            }
        }
        cluster.world.later(Duration::from_millis(16));
    }
    assert_eq!(cluster.world.take(client), "");
    let sent = [cluster.at(1), cluster.at(2)];
    let answering = if sent[0] == "GET bar" { 1 } else { 2 };
    cluster.says(answering, b"$1\r\nb\r\n");
    assert_eq!(cluster.world.take(client), "$1\r\nb\r\n");
    cluster.ask(client, "GET bar");
    let began = cluster.world.now;
    while cluster.world.now < began + HOLD * 2 {
        for (place, other) in [(1, 2), (2, 1)] {
            if cluster.at(place) == "GET bar" {
                cluster.says(place, &moved(5061, other as u16));
            }
        }
        cluster.world.later(Duration::from_millis(16));
    }
    let reply = cluster.world.take(client);
    assert!(reply.starts_with("-MOVED 5061 "), "{reply}");
    cluster.world.assert_nothing_is_left();
}

#[test]
fn what_cannot_be_split_is_tried_again_and_what_is_behind_it_waits() {
    let mut cluster = Cluster::new();
    let (client, other) = (cluster.world.client(), cluster.world.client());
    cluster.ask(client, "SUNIONSTORE {bar}1 {bar}2 {bar}3");
    cluster.ask(client, "SCARD {bar}1");
    cluster.ask(other, "SCARD {bar}1");
    cluster.at(1);
    cluster.says(1, TRYAGAIN);
    // The other's answer is its own; this one's must not come before what it was asked behind.
    cluster.says(1, b":7\r\n:7\r\n");
    assert_eq!(cluster.world.take(client), "");
    assert_eq!(cluster.world.take(other), ":7\r\n");
    assert!(
        !cluster.world.give(client, &request("SCARD {bar}1")),
        "it is not read from"
    );
    cluster.world.later(Duration::from_millis(4));
    assert_eq!(
        cluster.at(1),
        "SUNIONSTORE {bar}1 {bar}2 {bar}3, SCARD {bar}1"
    );
    cluster.says(1, b":3\r\n:3\r\n");
    assert_eq!(cluster.world.take(client), ":3\r\n:3\r\n");
    assert!(cluster.world.resumed.contains(&client));
    cluster.world.assert_nothing_is_left();
}

#[test]
fn a_write_that_was_executed_behind_it_makes_its_error_stand() {
    let mut cluster = Cluster::new();
    let client = cluster.world.client();
    cluster.ask(client, "SUNIONSTORE {bar}1 {bar}2 {bar}3");
    cluster.ask(client, "SADD {bar}1 x");
    cluster.says(1, &[TRYAGAIN, b":1\r\n"].concat());
    assert_eq!(
        cluster.world.take(client),
        format!("{}:1\r\n", String::from_utf8_lossy(TRYAGAIN))
    );
    cluster.world.assert_nothing_is_left();
}

#[test]
fn nothing_overtakes_what_is_on_its_way_to_a_slot_that_moves() {
    let mut cluster = Cluster::new();
    let (one, two) = (cluster.world.client(), cluster.world.client());
    cluster.ask(one, "GET bar");
    cluster.ask(two, "SET bar 1");
    cluster.at(1);
    cluster.says(1, &moved(5061, 2));
    assert_eq!(cluster.at(2), "GET bar");
    // This one has a word at the old node, which will be sent on; the next must not be there before it.
    cluster.ask(two, "GET bar");
    assert_eq!(cluster.at(2), "");
    cluster.says(1, &moved(5061, 2));
    assert_eq!(cluster.at(2), "SET bar 1");
    cluster.says(2, b"$-1\r\n+OK\r\n");
    assert!(cluster.world.resumed.contains(&two));
    cluster.ask(two, "GET bar");
    assert_eq!(cluster.at(2), "GET bar");
    cluster.says(2, b"$1\r\n1\r\n");
    assert_eq!(cluster.world.take(two), "+OK\r\n$1\r\n1\r\n");
    cluster.world.assert_nothing_is_left();
}

/// A planned failover of a cluster on a busy machine: the old primary made its clients wait for four seconds, and 48 were told MOVED.
#[test]
fn what_a_primary_that_hands_over_lets_wait_is_still_sent_on() {
    let mut cluster = Cluster::new();
    let client = cluster.world.client();
    cluster.ask(client, "SET bar 1");
    cluster.ask(client, "GET bar");
    assert_eq!(cluster.at(1), "SET bar 1, GET bar");
    cluster.world.later(HOLD * 2);
    cluster.says(1, &[moved(5061, 2), moved(5061, 2)].concat());
    assert_eq!(cluster.world.take(client), "");
    assert_eq!(cluster.at(2), "SET bar 1, GET bar");
    cluster.says(2, b"+OK\r\n$1\r\n1\r\n");
    assert_eq!(cluster.world.take(client), "+OK\r\n$1\r\n1\r\n");
    cluster.world.assert_nothing_is_left();
}

#[test]
fn what_blocks_blocks_where_its_key_is() {
    let mut cluster = Cluster::new();
    let client = cluster.world.client();
    cluster.ask(client, "BLPOP bar 0");
    assert_eq!(cluster.at(1), "BLPOP bar 0");
    // However long it has blocked.
    cluster.world.later(HOLD * 2);
    cluster.says(1, &moved(5061, 2));
    assert_eq!(cluster.at(2), "BLPOP bar 0");
    cluster.world.later(HOLD * 2);
    cluster.says(2, &moved(5061, 1));
    assert_eq!(cluster.at(1), "BLPOP bar 0");
    cluster.says(1, &moved(5061, 2));
    cluster.world.later(Duration::from_millis(16));
    assert_eq!(cluster.at(2), "BLPOP bar 0");
    cluster.says(2, b"*2\r\n$3\r\nbar\r\n$1\r\nx\r\n");
    assert_eq!(cluster.world.take(client), "*2\r\n$3\r\nbar\r\n$1\r\nx\r\n");
    cluster.world.assert_nothing_is_left();
    // Also while nobody is known who has it.
    let mut cluster = Cluster::unknown();
    let client = cluster.world.client();
    cluster.ask(client, "BLPOP bar 0");
    cluster.is(halves());
    assert_eq!(cluster.at(1), "BLPOP bar 0");
    cluster.says(1, b"*-1\r\n");
    assert_eq!(cluster.world.take(client), "*-1\r\n");
    cluster.world.assert_nothing_is_left();
}

#[test]
fn what_a_script_makes_up_is_its_answer() {
    let mut cluster = Cluster::new();
    let client = cluster.world.client();
    cluster.ask(client, "EVAL script 1 bar");
    cluster.says(1, &moved(12182, 2));
    assert!(cluster.world.take(client).starts_with("-MOVED 12182 "));
    assert_eq!(cluster.at(2), "");
    cluster.world.assert_nothing_is_left();
}

#[test]
fn what_is_asked_behind_a_blocking_command_is_answered_when_both_slots_move() {
    let mut cluster = Cluster::new();
    let client = cluster.world.client();
    cluster.ask(client, "BLPOP bar 0");
    // Another slot of the same node, on the same connection.
    let other = (0..)
        .map(|at| format!("k{at}"))
        .find(|key| crate::placement::slot_of(key.as_bytes()) < 5000)
        .unwrap();
    cluster.ask(client, &format!("GET {other}"));
    assert_eq!(cluster.at(1), format!("BLPOP bar 0, GET {other}"));
    let slot = crate::placement::slot_of(other.as_bytes());
    let both = [moved(5061, 2), moved(slot, 2)].concat();
    cluster.says(1, &both);
    for _ in 0..5 {
        cluster.world.later(Duration::from_millis(20));
    }
    let mut answered = 0;
    let connections: Vec<Peer> = cluster
        .world
        .connections
        .iter()
        .filter_map(|&(place, peer)| (place == 2).then_some(peer))
        .collect();
    for peer in connections {
        let sent = cluster.world.take(peer);
        let mut replies = Vec::new();
        if sent.contains("BLPOP") {
            replies.extend_from_slice(b"*2\r\n$3\r\nbar\r\n$1\r\nx\r\n");
        }
        if sent.contains("GET") {
            replies.extend_from_slice(b"$1\r\ny\r\n");
        }
        answered += usize::from(sent.contains("BLPOP")) + usize::from(sent.contains("GET"));
        if !replies.is_empty() {
            cluster.world.give(peer, &replies);
        }
    }
    assert_eq!(answered, 2, "each is asked where it is, once");
    assert_eq!(
        cluster.world.take(client),
        "*2\r\n$3\r\nbar\r\n$1\r\nx\r\n$1\r\ny\r\n"
    );
    cluster.world.assert_nothing_is_left();
}

#[test]
fn a_script_names_nobody_to_whom_the_proxy_would_tell_its_password() {
    let named = |words: &str| {
        let mut cluster = Cluster::new();
        let client = cluster.world.client();
        cluster.ask(client, words);
        let remaps = cluster.world.remaps;
        cluster.says(1, &moved(5061, 9));
        assert!(cluster.world.remaps > remaps, "a newer map is wanted");
        cluster.world.core.take_stranger(0)
    };
    assert!(named("GET bar").is_some());
    assert_eq!(named("EVAL script 1 bar"), None);
    assert_eq!(named("FCALL f 1 bar"), None);
}
