//! What a client sees when all is well.

use super::*;

#[test]
fn requests_leave_in_one_write_and_replies_find_their_clients() {
    let mut world = World::new(pool(1));
    let (one, two) = (world.client(), world.client());
    world.give(one, &request("GET a"));
    world.give(two, &request("SET b 1"));
    world.give(one, &request("GET c"));
    let sent = [request("GET a"), request("SET b 1"), request("GET c")].concat();
    assert_eq!(world.at_server(0).into_bytes(), sent);
    world.server_says(0, b"$1\r\nA\r\n+OK\r\n$-1\r\n");
    assert_eq!(world.take(one), "$1\r\nA\r\n$-1\r\n");
    assert_eq!(world.take(two), "+OK\r\n");
    world.assert_nothing_is_left();
    assert_eq!(world.counters.servers[0].requests.value(), 3);
    assert_eq!(world.counters.servers[0].responses.value(), 3);
}

#[test]
fn replies_leave_in_the_order_of_requests_whichever_shard_is_faster() {
    let mut world = World::new(pool(2));
    let client = world.client();
    let (left, right) = (world.key_on(0), world.key_on(1));
    world.give(client, &request(&format!("GET {left}")));
    world.give(client, &request(&format!("GET {right}")));
    world.give(client, &request("PING"));
    world.server_says(1, b"+right\r\n");
    assert_eq!(world.take(client), "");
    world.server_says(0, b"+left\r\n");
    assert_eq!(world.take(client), "+left\r\n+right\r\n+PONG\r\n");
    world.assert_nothing_is_left();
}

#[test]
fn several_keys_are_cut_by_shard_and_their_values_put_back_in_order() {
    let mut world = World::new(pool(2));
    let client = world.client();
    let (left, right) = (world.key_on(0), world.key_on(1));
    world.give(client, &request(&format!("MGET {right} {left} {right}")));
    assert_eq!(
        world.at_server(0).into_bytes(),
        request(&format!("mget {left}"))
    );
    assert_eq!(
        world.at_server(1).into_bytes(),
        request(&format!("mget {right} {right}"))
    );
    world.server_says(1, b"*2\r\n$2\r\nr1\r\n$-1\r\n");
    world.server_says(0, b"*1\r\n$2\r\nl1\r\n");
    assert_eq!(world.take(client), "*3\r\n$2\r\nr1\r\n$2\r\nl1\r\n$-1\r\n");

    world.give(client, &request(&format!("DEL {right} {left} {right}")));
    world.server_says(0, b":1\r\n");
    world.server_says(1, b":2\r\n");
    assert_eq!(world.take(client), ":3\r\n");

    world.give(client, &request(&format!("MSET {right} 1 {left} 2")));
    assert!(
        world
            .at_server(0)
            .ends_with(&format!("{left}\r\n$1\r\n2\r\n"))
    );
    world.server_says(0, b"+OK\r\n");
    world.server_says(1, b"-OOM no memory\r\n");
    assert_eq!(world.take(client), "-OOM no memory\r\n");
    world.assert_nothing_is_left();
}

#[test]
fn keys_that_must_be_together_and_are_not_get_an_error_that_says_so() {
    let mut world = World::new(pool(2));
    let client = world.client();
    let (left, right) = (world.key_on(0), world.key_on(1));
    world.give(client, &request(&format!("SUNION {left} {right}")));
    assert!(world.take(client).starts_with("-CROSSSLOT "));
    world.give(client, &request(&format!("SUNION {left} {left}")));
    world.server_says(0, b"*0\r\n");
    assert_eq!(world.take(client), "*0\r\n");
    world.assert_nothing_is_left();
}

#[test]
fn twemproxys_pools_go_by_the_first_key() {
    let mut world = World::new(Pool {
        compat: Compat::Twemproxy,
        ..pool(2)
    });
    let client = world.client();
    let (left, right) = (world.key_on(0), world.key_on(1));
    world.give(client, &request(&format!("SUNION {right} {left}")));
    world.server_says(1, b"*0\r\n");
    assert_eq!(world.take(client), "*0\r\n");
}

#[test]
fn what_the_proxy_knows_it_answers_by_itself() {
    let mut world = World::new(pool(2));
    let client = world.client();
    for (asked, answer) in [
        ("PING", "+PONG\r\n"),
        ("PING hello", "$5\r\nhello\r\n"),
        ("ECHO hello", "$5\r\nhello\r\n"),
        ("SELECT 0", "+OK\r\n"),
        (
            "SELECT x",
            "-ERR value is not an integer or out of range\r\n",
        ),
        ("CLIENT GETNAME", "$-1\r\n"),
        ("CLIENT SETNAME me", "+OK\r\n"),
        ("CLIENT GETNAME", "$2\r\nme\r\n"),
        ("CLIENT SETINFO LIB-NAME lib", "+OK\r\n"),
        ("CLIENT NO-EVICT on", "+OK\r\n"),
        ("CLIENT TRACKING off", "+OK\r\n"),
        ("CLIENT GETREDIR", ":-1\r\n"),
        (
            "CLIENT TRACKINGINFO",
            "*6\r\n$5\r\nflags\r\n*1\r\n$3\r\noff\r\n$8\r\nredirect\r\n:-1\r\n$8\r\nprefixes\r\n*0\r\n",
        ),
        (
            "CLIENT TRACKING on",
            "-ERR 'client|tracking' is not let through the proxy: a server tells who has read a key on the connection that \
read it, which clients of a proxy share; connect to the server itself for that\r\n",
        ),
        ("CLIENT LIST ID x", "-ERR Invalid client ID\r\n"),
        ("CLIENT ID", ":1\r\n"),
        ("HELLO 4", "-NOPROTO unsupported protocol version\r\n"),
        (
            "get",
            "-ERR wrong number of arguments for 'get' command\r\n",
        ),
        ("RESET", "+RESET\r\n"),
        ("CLIENT GETNAME", "$-1\r\n"),
    ] {
        world.give(client, &request(asked));
        assert_eq!(world.take(client), answer, "{asked}");
    }
    world.give(client, &request("NOSUCH a b"));
    assert_eq!(
        world.take(client),
        "-ERR unknown command 'NOSUCH', with args beginning with: 'a' 'b' \r\n"
    );
    assert!(
        world.up.is_empty(),
        "nothing of this is a server's business"
    );
}

#[test]
fn lines_of_words_are_requests_too() {
    let mut world = World::new(pool(1));
    let client = world.client();
    world.give(client, b"get \"a b\"\r\n\r\nPI");
    world.give(client, b"NG\r\n");
    assert_eq!(world.at_server(0), "*2\r\n$3\r\nget\r\n$3\r\na b\r\n");
    world.server_says(0, b"$-1\r\n");
    assert_eq!(world.take(client), "$-1\r\n+PONG\r\n");
}

#[test]
fn a_password_is_asked_before_anything_else() {
    let mut world = World::new(Pool {
        password: Some("secret".to_owned()),
        ..pool(1)
    });
    let client = world.client();
    world.give(client, &request("GET a"));
    assert_eq!(world.take(client), "-NOAUTH Authentication required.\r\n");
    world.give(client, &request("AUTH wrong"));
    assert!(world.take(client).starts_with("-WRONGPASS "));
    world.give(client, &request("AUTH default secret"));
    assert_eq!(world.take(client), "+OK\r\n");
    world.give(client, &request("GET a"));
    assert_eq!(
        world.at_server(0).into_bytes(),
        request("AUTH secret"),
        "nothing else before its reply"
    );
    world.server_says(0, b"+OK\r\n");
    assert_eq!(world.at_server(0).into_bytes(), request("GET a"));
    world.server_says(0, b"$-1\r\n");
    assert_eq!(world.take(client), "$-1\r\n");
}

#[test]
fn a_database_that_the_server_lacks_lets_no_request_through() {
    let mut world = World::new(Pool {
        database: 99,
        ..pool(1)
    });
    let client = world.client();
    world.give(client, &request("SET a 1"));
    assert_eq!(world.at_server(0).into_bytes(), request("SELECT 99"));
    world.server_says(0, b"-ERR DB index is out of range\r\n");
    assert_eq!(world.take(client), "-ERR DB index is out of range\r\n");
    world.assert_nothing_is_left();
}

#[test]
fn the_two_protocols_have_lanes_of_their_own() {
    let mut world = World::new(pool(1));
    let (old, new) = (world.client(), world.client());
    world.give(old, &request("GET a"));
    let lane2 = world.up[&0];
    world.give(new, &request("HELLO 3"));
    let lane3 = world.up[&0];
    assert_ne!(lane2, lane3);
    assert_eq!(world.take(lane3).into_bytes(), request("HELLO 3"));
    world.give(lane3, b"%1\r\n+proto\r\n:3\r\n");
    assert_eq!(world.take(lane3).into_bytes(), request("INFO server"));
    world.give(lane3, b"=23\r\ntxt:redis_version:7.2.5\r\n");
    let said = world.take(new);
    assert!(
        said.starts_with("%7\r\n$6\r\nserver\r\n$5\r\nredis\r\n$7\r\nversion\r\n$5\r\n7.2.5\r\n"),
        "{said}"
    );
    world.give(new, &request("GET a"));
    assert_eq!(world.take(lane3).into_bytes(), request("GET a"));
    world.give(lane3, b"_\r\n");
    world.give(lane2, b"$-1\r\n");
    assert_eq!(world.take(new), "_\r\n");
    assert_eq!(world.take(old), "$-1\r\n");
}

#[test]
fn a_client_changes_its_protocol_only_when_it_is_owed_nothing() {
    let mut world = World::new(pool(1));
    let client = world.client();
    world.give(
        client,
        &[request("SET a 1"), request("HELLO 3"), request("GET a")].concat(),
    );
    assert_eq!(world.at_server(0).into_bytes(), request("SET a 1"));
    let lane2 = world.up[&0];
    world.give(lane2, b"+OK\r\n");
    assert_ne!(world.up[&0], lane2, "what follows goes over the other lane");
    world.server_says(0, b"%0\r\n");
    world.server_says(0, b"$0\r\n\r\n");
    assert!(world.take(client).starts_with("+OK\r\n%7\r\n"));
    world.server_says(0, b"$1\r\n1\r\n");
    assert_eq!(world.take(client), "$1\r\n1\r\n");
    assert_eq!(world.resumed, [client]);
}

#[test]
fn quit_is_answered_after_what_came_before_it() {
    let mut world = World::new(pool(1));
    let client = world.client();
    world.give(
        client,
        &[request("GET a"), request("QUIT"), request("GET b")].concat(),
    );
    assert_eq!(world.at_server(0).into_bytes(), request("GET a"));
    assert_eq!(world.closed, []);
    world.server_says(0, b"$-1\r\n");
    assert_eq!(world.take(client), "$-1\r\n+OK\r\n");
    assert_eq!(world.closed, [client]);
    assert_eq!(world.counters.client_connections.value(), 0);
}

#[test]
fn pools_are_replaced_under_connected_clients() {
    let mut world = World::new(pool(1));
    let (idle, busy) = (world.client(), world.client());
    world.give(busy, &request("GET a"));
    let old_lane = world.up[&0];
    let settings = Arc::new(Pool {
        database: 5,
        ..pool(1)
    });
    let setup = PoolSetup {
        subscribers: Arc::new(Subscribers::new(settings.servers.len())),
        ejector: Arc::new(Ejector::new(settings.clone(), world.now, 0)),
        settings,
        counters: world.counters.clone(),
        connections: 1,
    };
    assert_eq!(world.core.reload(vec![(setup, None)], world.now), [1]);
    world.turn();
    world.give(idle, &request("GET b"));
    assert_ne!(world.up[&0], old_lane);
    assert_eq!(world.at_server(0).into_bytes(), request("SELECT 5"));
    world.give(busy, &request("GET c"));
    assert_eq!(
        world.at_server(0),
        "",
        "it is still owed a reply by the old pool"
    );
    world.give(old_lane, b"+a\r\n");
    assert!(world.closed.contains(&old_lane));
    world.server_says(0, b"+OK\r\n");
    world.server_says(0, b"+b\r\n+c\r\n");
    assert_eq!(
        (world.take(idle), world.take(busy)),
        ("+b\r\n".to_owned(), "+a\r\n+c\r\n".to_owned())
    );
    world.assert_nothing_is_left();
}

#[test]
fn clients_are_listed_to_those_of_the_same_user() {
    let mut world = World::new(pool(1));
    let (one, two, other) = (world.client(), world.client(), world.client());
    world.give(two, &request("CLIENT SETNAME two"));
    world.take(two);
    world.give(other, &request("AUTH u p"));
    world.server_says(0, b"+OK\r\n");
    world.give(one, &request("CLIENT LIST"));
    let list = world.take(one);
    let ids: Vec<&str> = list
        .lines()
        .skip(1)
        .filter(|line| !line.is_empty())
        .collect();
    assert_eq!(ids.len(), 2, "{list}");
    assert!(ids[1].starts_with("id=2 name=two db=0 "), "{list}");
    world.give(one, &request("CLIENT LIST ID 2 3"));
    assert!(world.take(one).contains("id=2 "), "one line of two");
    world.give(one, &request("CLIENT LIST TYPE pubsub"));
    assert_eq!(world.take(one), "$0\r\n\r\n");
}

#[test]
fn a_sort_that_reads_keys_on_any_shard_is_refused() {
    let tagged = || {
        World::new(Pool {
            hash_tag: Some(*b"{}"),
            ..pool(2)
        })
    };
    let mut world = tagged();
    let (here, there) = (world.key_on(0), world.key_on(1));
    let client = world.client();
    for words in [
        "SORT a BY w_*".to_owned(),
        "SORT a GET # GET o_*".to_owned(),
        "SORT_RO a GET h_*->{a}".to_owned(),
        format!("SORT {{{here}}}a BY w{{{there}}}_*"),
    ] {
        world.give(client, &request(&words));
        let said = world.take(client);
        assert!(said.starts_with("-CROSSSLOT BY and GET"), "{words}: {said}");
    }
    for words in [
        "SORT {a}1 BY nosort GET #",
        "SORT {a}1 BY w{a}_*->f GET {a}*",
    ] {
        let mut world = tagged();
        let client = world.client();
        world.give(client, &request(words));
        let server = *world.up.keys().next().unwrap();
        assert_eq!(world.at_server(server).into_bytes(), request(words));
        world.server_says(server, b"*0\r\n");
        assert_eq!(world.take(client), "*0\r\n", "{words}");
    }
}
