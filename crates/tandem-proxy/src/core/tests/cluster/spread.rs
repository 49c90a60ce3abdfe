//! Commands over several slots, and over all shards.

use super::*;

#[test]
fn several_keys_are_cut_by_slot_even_on_one_node() {
    let mut cluster = Cluster::new();
    let client = cluster.world.client();
    cluster.ask(client, "MGET {bar}1 foo {bar}2 x");
    assert_eq!(cluster.at(1), "mget {bar}1 {bar}2");
    assert_eq!(cluster.at(2), "mget foo, mget x");
    cluster.says(2, b"*1\r\n$1\r\nf\r\n*1\r\n$1\r\nx\r\n");
    cluster.says(1, b"*2\r\n$1\r\n1\r\n$1\r\n2\r\n");
    assert_eq!(
        cluster.world.take(client),
        "*4\r\n$1\r\n1\r\n$1\r\nf\r\n$1\r\n2\r\n$1\r\nx\r\n"
    );
    cluster.ask(client, "MSET foo 1 bar 2 {foo}3 4");
    assert_eq!(cluster.at(2), "mset foo 1 {foo}3 4");
    assert_eq!(cluster.at(1), "mset bar 2");
    cluster.says(1, OK);
    cluster.says(2, OK);
    assert_eq!(cluster.world.take(client), "+OK\r\n");
    cluster.ask(client, "DEL foo {foo}2");
    assert_eq!(cluster.at(2), "DEL foo {foo}2", "as it came");
    cluster.says(2, b":2\r\n");
    cluster.ask(client, "SINTER foo bar");
    assert!(cluster.world.take(client).contains("-CROSSSLOT "));
    cluster.world.assert_nothing_is_left();
}

#[test]
fn a_part_that_moved_comes_from_elsewhere() {
    let mut cluster = Cluster::new();
    let client = cluster.world.client();
    cluster.ask(client, "MGET bar foo");
    cluster.says(1, &moved(5061, 2));
    assert_eq!(cluster.at(2), "mget foo, mget bar");
    cluster.says(2, b"*1\r\n$1\r\nf\r\n*1\r\n$1\r\nb\r\n");
    assert_eq!(cluster.world.take(client), "*2\r\n$1\r\nb\r\n$1\r\nf\r\n");
    cluster.world.assert_nothing_is_left();
}

#[test]
fn keys_that_are_on_two_nodes_are_asked_for_one_by_one() {
    for words in ["MGET {bar}1 {bar}2", "MGET {bar}1 {bar}2 foo"] {
        let mut cluster = Cluster::new();
        let client = cluster.world.client();
        cluster.ask(client, words);
        cluster.at(1);
        cluster.at(2);
        cluster.says(1, TRYAGAIN);
        assert_eq!(cluster.at(1), "mget {bar}1, mget {bar}2");
        cluster.says(1, &[&b"*1\r\n$1\r\n1\r\n"[..], &ask(5061, 2)].concat());
        assert_eq!(cluster.at(2), "ASKING, mget {bar}2");
        let mut expected = "*2\r\n$1\r\n1\r\n$1\r\n2\r\n".to_owned();
        if words.ends_with("foo") {
            cluster.says(2, b"*1\r\n$1\r\nf\r\n");
            expected = "*3\r\n$1\r\n1\r\n$1\r\n2\r\n$1\r\nf\r\n".to_owned();
        }
        cluster.says(2, b"+OK\r\n*1\r\n$1\r\n2\r\n");
        assert_eq!(cluster.world.take(client), expected, "{words}");
        cluster.world.assert_nothing_is_left();
    }
}

#[test]
fn what_concerns_all_shards_is_asked_of_those_that_there_are() {
    let mut cluster = Cluster::new();
    let client = cluster.world.client();
    cluster.ask(client, "DBSIZE");
    cluster.says(1, b":3\r\n");
    cluster.says(2, b":4\r\n");
    assert_eq!(cluster.world.take(client), ":7\r\n");
    cluster.ask(client, "SCAN 0");
    cluster.says(1, b"*2\r\n$1\r\n0\r\n*1\r\n$3\r\nbar\r\n");
    let reply = cluster.world.take(client);
    let cursor = reply.split("\r\n").nth(2).unwrap().to_owned();
    assert_ne!(cursor, "0");
    cluster.at(2);
    cluster.ask(client, &format!("SCAN {cursor}"));
    assert_eq!(cluster.at(2), "SCAN 0");
    cluster.says(2, b"*2\r\n$1\r\n0\r\n*1\r\n$3\r\nfoo\r\n");
    assert_eq!(
        cluster.world.take(client),
        "*2\r\n$1\r\n0\r\n*1\r\n$3\r\nfoo\r\n"
    );
    // A slot has moved since: some of it may be behind, and some ahead.
    cluster.is(vec![
        shard(&[1], &[(0, 5060)]),
        shard(&[2], &[(5061, 16383)]),
    ]);
    cluster.ask(client, &format!("SCAN {cursor}"));
    assert!(
        cluster
            .world
            .take(client)
            .starts_with("-ERR invalid cursor")
    );
    cluster.world.assert_nothing_is_left();
}
