//! A pool before a cluster is replaced by another: clients stay, and what they have asked goes on by newer maps.

use super::*;

impl Cluster {
    /// The pool becomes one with another bound, as a reload makes it, with the map that there is.
    fn reload(&mut self) {
        let map = Word::Slots(Arc::new(self.seats.map().clone()));
        let longer =
            |pool: &mut Pool| pool.timeout = Some(pool.timeout.unwrap_or_default() + HOLD * 10);
        self.world.replace(longer, Some(map));
    }
}

/// The lower half has failed over.
fn failed_over() -> Vec<Shard> {
    vec![
        shard(&[11, 1], &[(0, 8191)]),
        shard(&[2, 12], &[(8192, 16383)]),
    ]
}

#[test]
fn it_begins_with_the_map_that_there_is() {
    let mut cluster = Cluster::new();
    let client = cluster.world.client();
    cluster.ask(client, "GET bar");
    cluster.at(1);
    cluster.says(1, b"$1\r\n1\r\n");
    let old = cluster.world.up[&1];
    cluster.reload();
    assert!(cluster.world.closed.contains(&old), "nobody waits on it");
    cluster.ask(client, "GET bar");
    cluster.ask(client, "GET foo");
    assert_eq!(cluster.at(1), "GET bar");
    assert_eq!(cluster.at(2), "GET foo");
    cluster.says(1, b"$1\r\n1\r\n");
    cluster.says(2, b"$1\r\n2\r\n");
    assert_eq!(
        cluster.world.take(client),
        "$1\r\n1\r\n$1\r\n1\r\n$1\r\n2\r\n"
    );
    cluster.world.assert_nothing_is_left();
}

#[test]
fn what_was_asked_before_is_sent_on_and_nothing_overtakes_it() {
    let mut cluster = Cluster::new();
    let client = cluster.world.client();
    cluster.ask(client, "SET bar 1");
    cluster.ask(client, "MGET bar foo");
    let old = cluster.world.up[&1];
    assert_eq!(cluster.at(1), "SET bar 1, mget bar");
    assert_eq!(cluster.at(2), "mget foo");
    cluster.reload();
    assert!(!cluster.world.closed.contains(&old), "it is awaited");
    cluster.ask(client, "GET bar");
    cluster.says(1, &[moved(5061, 2), moved(5061, 2)].concat());
    assert!(cluster.world.closed.contains(&old));
    assert_eq!(cluster.at(2), "SET bar 1, mget bar");
    cluster.says(2, b"*1\r\n$1\r\nf\r\n+OK\r\n*1\r\n$1\r\n1\r\n");
    assert_eq!(
        cluster.world.take(client),
        "+OK\r\n*2\r\n$1\r\n1\r\n$1\r\nf\r\n"
    );
    // The new pool goes by the map, and learns the same.
    assert_eq!(cluster.at(1), "GET bar");
    cluster.says(1, &moved(5061, 2));
    assert_eq!(cluster.at(2), "GET bar");
    cluster.says(2, b"$1\r\n1\r\n");
    assert_eq!(cluster.world.take(client), "$1\r\n1\r\n");
    cluster.world.assert_nothing_is_left();
}

#[test]
fn a_primary_that_steps_down_afterwards_is_heard_out() {
    let mut cluster = Cluster::new();
    let client = cluster.world.client();
    cluster.ask(client, "INCR {bar}n");
    cluster.ask(client, "INCR {bar}m");
    cluster.reload();
    cluster.is(failed_over());
    assert_eq!(cluster.at(1), "INCR {bar}n, INCR {bar}m");
    cluster.says(1, &[&b":1\r\n"[..], &moved(5061, 11)].concat());
    cluster.world.later(Duration::from_millis(2));
    assert_eq!(cluster.at(11), "INCR {bar}m");
    cluster.says(11, b":1\r\n");
    assert_eq!(cluster.world.take(client), ":1\r\n:1\r\n");
    cluster.world.assert_nothing_is_left();
}

#[test]
fn what_waits_for_a_primary_goes_to_where_its_slots_are_afterwards() {
    for slots_elsewhere in [false, true] {
        let mut cluster = Cluster::new();
        let clients = [(); 3].map(|()| cluster.world.client());
        cluster.ask(clients[0], "GET bar");
        cluster.world.refusing = vec![1];
        cluster.world.loses(1);
        cluster.ask(clients[1], "SET bar 2");
        cluster.ask(clients[2], "BLPOP bar 0");
        cluster.reload();
        let place = if slots_elsewhere { 2 } else { 11 };
        cluster.is(if slots_elsewhere {
            vec![shard(&[2], &[(0, 16383)])]
        } else {
            failed_over()
        });
        cluster.world.later(Duration::from_millis(20));
        let connections = cluster.world.connections.clone();
        let there = connections.iter().filter(|(at, _)| *at == place);
        let mut asked = String::new();
        for &(_, lane) in there {
            asked += &cluster.world.take(lane);
            let reply = match asked.contains("BLPOP") {
                true => &b"*2\r\n$3\r\nbar\r\n$1\r\nx\r\n"[..],
                false => b"$1\r\n1\r\n+OK\r\n",
            };
            assert!(cluster.world.give(lane, reply));
            asked.clear();
        }
        assert_eq!(cluster.world.take(clients[0]), "$1\r\n1\r\n");
        assert_eq!(cluster.world.take(clients[1]), "+OK\r\n");
        assert!(cluster.world.take(clients[2]).ends_with("$1\r\nx\r\n"));
        cluster.world.assert_nothing_is_left();
    }
}

#[test]
fn who_blocks_and_who_listens_goes_on_where_the_slot_is() {
    let mut cluster = Cluster::new();
    let (blocked, listener) = (cluster.world.client(), cluster.world.client());
    cluster.ask(blocked, "BLPOP bar 0");
    let own = cluster.world.up[&1];
    cluster.ask(listener, "SSUBSCRIBE {bar}news");
    cluster.says(1, &word("ssubscribe", "{bar}news", 1));
    cluster.world.take(listener);
    let listens = cluster.world.up[&1];
    cluster.reload();
    for lane in [own, listens] {
        assert!(!cluster.world.closed.contains(&lane), "it stays");
    }
    cluster.is(vec![
        shard(&[1, 11], &[(0, 5060), (5062, 8191)]),
        shard(&[2, 12], &[(5061, 5061), (8192, 16383)]),
    ]);
    assert!(cluster.world.give(own, &moved(5061, 2)));
    assert_eq!(cluster.at(2), "BLPOP bar 0");
    cluster.says(2, b"*2\r\n$3\r\nbar\r\n$1\r\nx\r\n");
    assert!(cluster.world.take(blocked).ends_with("$1\r\nx\r\n"));
    assert!(
        cluster
            .world
            .give(listens, &word("sunsubscribe", "{bar}news", 0))
    );
    cluster.world.later(Duration::from_millis(20));
    assert_eq!(cluster.at(2), "SSUBSCRIBE {bar}news");
    let said = [
        word("ssubscribe", "{bar}news", 1),
        word("smessage", "{bar}news", 7),
    ];
    cluster.says(2, &said.concat());
    assert_eq!(
        cluster.world.take(listener).into_bytes(),
        word("smessage", "{bar}news", 7)
    );
}

#[test]
fn a_transaction_that_is_being_collected_goes_on_in_the_next_pool() {
    let mut cluster = Cluster::new();
    let client = cluster.world.client();
    cluster.ask(client, "MULTI");
    cluster.ask(client, "INCR bar");
    cluster.reload();
    cluster.ask(client, "EXEC");
    assert_eq!(cluster.at(1), "MULTI, INCR bar, EXEC");
    cluster.says(1, b"+OK\r\n+QUEUED\r\n*1\r\n:1\r\n");
    assert_eq!(cluster.world.take(client), "+OK\r\n+QUEUED\r\n*1\r\n:1\r\n");
    cluster.world.assert_nothing_is_left();
}

#[test]
fn what_pools_had_that_are_over_is_taken_by_the_next() {
    let mut cluster = Cluster::new();
    let (client, listener) = (cluster.world.client(), cluster.world.client());
    cluster.ask(listener, "SUBSCRIBE news");
    let mut most = 0;
    for round in 0..20 {
        cluster.ask(client, "GET bar");
        cluster.reload();
        cluster.says(1, b"$1\r\n1\r\n");
        assert_eq!(cluster.world.take(client), "$1\r\n1\r\n");
        let lanes = cluster.world.core.lanes.len();
        if round == 4 {
            // The first pool has somebody who listens, and the last is not over when the next one comes.
            most = lanes;
        }
        assert!(round < 4 || lanes == most, "round {round}: {lanes} lanes");
    }
    assert_eq!(cluster.world.core.pools_told("test").len(), 3);
    cluster.is(failed_over());
    cluster.ask(client, "GET bar");
    assert_eq!(cluster.at(11), "GET bar", "by the newest map");
}
