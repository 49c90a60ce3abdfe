//! Transactions whose slot moves.

use super::*;

const EXECABORT: &str = "-EXECABORT Transaction discarded because of previous errors.\r\n";

fn transaction(cluster: &mut Cluster, client: Peer) {
    for words in ["MULTI", "SET bar 1", "INCR {bar}n", "EXEC"] {
        cluster.ask(client, words);
    }
    assert_eq!(cluster.world.take(client), "+OK\r\n+QUEUED\r\n+QUEUED\r\n");
    assert_eq!(cluster.at(1), "MULTI, SET bar 1, INCR {bar}n, EXEC");
}

#[test]
fn a_watch_whose_slot_moves_aborts_its_transaction_as_a_change_would() {
    let mut cluster = Cluster::new();
    let client = cluster.world.client();
    cluster.ask(client, "WATCH bar");
    cluster.says(1, OK);
    cluster.ask(client, "GET bar");
    cluster.says(1, &moved(5061, 2));
    assert_eq!(cluster.at(2), "GET bar");
    cluster.says(2, b"$1\r\n1\r\n");
    cluster.ask(client, "MULTI");
    cluster.ask(client, "SET bar 2");
    cluster.ask(client, "EXEC");
    assert_eq!(
        cluster.world.take(client),
        "+OK\r\n$1\r\n1\r\n+OK\r\n+QUEUED\r\n*-1\r\n"
    );
    assert_eq!(cluster.at(2), "");
    cluster.ask(client, "WATCH bar");
    assert_eq!(cluster.at(2), "WATCH bar", "and the next one is right");
}

#[test]
fn a_transaction_whose_slot_moves_is_sent_again_as_a_whole() {
    for (asks, expected) in [
        (false, "MULTI, SET bar 1, INCR {bar}n, EXEC"),
        (true, "ASKING, MULTI, SET bar 1, INCR {bar}n, EXEC"),
    ] {
        let mut cluster = Cluster::new();
        let (client, other) = (cluster.world.client(), cluster.world.client());
        transaction(&mut cluster, client);
        cluster.ask(other, "GET bar");
        let sends = if asks { ask(5061, 2) } else { moved(5061, 2) };
        cluster.says(
            1,
            &[OK, b"+QUEUED\r\n", &sends, EXECABORT.as_bytes()].concat(),
        );
        assert_eq!(cluster.at(2), expected);
        let mut replies = b"+OK\r\n+QUEUED\r\n+QUEUED\r\n*2\r\n+OK\r\n:1\r\n".to_vec();
        if asks {
            replies.splice(0..0, *b"+OK\r\n");
        }
        cluster.says(2, &replies);
        assert_eq!(cluster.world.take(client), "*2\r\n+OK\r\n:1\r\n");
        cluster.says(1, b"$-1\r\n");
        assert_eq!(cluster.world.take(other), "$-1\r\n");
        cluster.world.assert_nothing_is_left();
    }
}

#[test]
fn a_slot_may_move_while_a_transaction_is_written() {
    let mut cluster = Cluster::new();
    let client = cluster.world.client();
    cluster.ask(client, "MULTI");
    cluster.ask(client, "SET bar 1");
    cluster.is(vec![
        shard(&[1, 11], &[(0, 5060)]),
        shard(&[2, 12], &[(5061, 16383)]),
    ]);
    cluster.ask(client, "INCR {bar}n");
    cluster.ask(client, "EXEC");
    assert_eq!(cluster.at(2), "MULTI, SET bar 1, INCR {bar}n, EXEC");
    cluster.says(2, b"+OK\r\n+QUEUED\r\n+QUEUED\r\n*2\r\n+OK\r\n:1\r\n");
    assert_eq!(
        cluster.world.take(client),
        "+OK\r\n+QUEUED\r\n+QUEUED\r\n*2\r\n+OK\r\n:1\r\n"
    );
    cluster.ask(client, "MULTI");
    cluster.ask(client, "SET bar 1");
    cluster.ask(client, "SET foo 1");
    assert!(
        cluster
            .world
            .take(client)
            .ends_with("ask for each key by itself\r\n")
    );
    cluster.ask(client, "EXEC");
    assert_eq!(cluster.world.take(client), EXECABORT);
    // What is watched where a slot was counts as changed; elsewhere it does not.
    cluster.ask(client, "WATCH bar");
    cluster.says(2, OK);
    cluster.is(halves());
    cluster.ask(client, "MULTI");
    cluster.ask(client, "SET bar 1");
    cluster.ask(client, "EXEC");
    assert!(cluster.world.take(client).ends_with("+QUEUED\r\n*-1\r\n"));
    cluster.world.assert_nothing_is_left();
}

#[test]
fn a_transaction_on_two_nodes_is_tried_again_and_sent_on_once_more() {
    let mut cluster = Cluster::new();
    let client = cluster.world.client();
    transaction(&mut cluster, client);
    // At EXEC a node looks at all keys together.
    cluster.says(1, &[OK, b"+QUEUED\r\n+QUEUED\r\n", TRYAGAIN].concat());
    cluster.world.later(Duration::from_millis(4));
    assert_eq!(cluster.at(1), "MULTI, SET bar 1, INCR {bar}n, EXEC");
    cluster.says(
        1,
        &[OK, &moved(5061, 2), &moved(5061, 2), EXECABORT.as_bytes()].concat(),
    );
    cluster.world.later(Duration::from_millis(16));
    assert_eq!(cluster.at(2), "MULTI, SET bar 1, INCR {bar}n, EXEC");
    cluster.world.loses(2);
    assert!(cluster.world.take(client).starts_with("-TANDEM-UNKNOWN "));
    cluster.world.assert_nothing_is_left();
}

#[test]
fn a_transaction_that_a_server_would_abort_is_aborted() {
    let mut cluster = Cluster::new();
    let client = cluster.world.client();
    transaction(&mut cluster, client);
    let wrong = b"-ERR wrong number of arguments for 'incr' command\r\n";
    cluster.says(
        1,
        &[OK, b"+QUEUED\r\n", wrong, EXECABORT.as_bytes()].concat(),
    );
    assert_eq!(cluster.world.take(client), EXECABORT);
    // One that watches is aborted as if a key had changed.
    cluster.ask(client, "WATCH bar");
    cluster.says(1, OK);
    cluster.world.take(client);
    cluster.at(1);
    transaction(&mut cluster, client);
    cluster.says(
        1,
        &[OK, &moved(5061, 2), &moved(5061, 2), EXECABORT.as_bytes()].concat(),
    );
    assert_eq!(cluster.world.take(client), "*-1\r\n");
    assert_eq!(cluster.at(2), "");
}
