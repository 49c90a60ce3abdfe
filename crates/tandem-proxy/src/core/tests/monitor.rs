//! MONITOR.

use super::*;

#[test]
fn what_a_server_executes_is_shown_to_who_asks_on_a_connection_of_its_own() {
    let mut world = World::new(pool(1));
    let (watcher, other) = (world.client(), world.client());
    world.give(other, &request("GET a"));
    let shared = world.up[&0];
    world.take(shared);
    world.give(watcher, &request("MONITOR"));
    let own = world.up[&0];
    assert_ne!(own, shared);
    assert_eq!(world.take(own).into_bytes(), request("MONITOR"));
    world.give(own, b"+OK\r\n+1.5 [0 10.0.0.1:5] \"GET\" \"a\"\r\n");
    assert_eq!(
        world.take(watcher),
        "+OK\r\n+1.5 [0 10.0.0.1:5] \"GET\" \"a\"\r\n"
    );
    assert_eq!(world.take(other), "");

    world.give(watcher, &request("GET a"));
    let got = world.take(watcher);
    assert!(
        got.starts_with("-ERR Can't execute 'get': only PING"),
        "{got}"
    );
    world.give(watcher, &request("MONITOR"));
    world.give(watcher, &request("PING"));
    assert_eq!(world.take(watcher), "+PONG\r\n");
    assert_eq!(world.take(own), "", "nothing more is said there");

    world.give(watcher, &request("RESET"));
    assert_eq!(world.take(watcher), "+RESET\r\n");
    assert!(world.closed.contains(&own), "it shows for nobody");
    world.give(watcher, &request("GET a"));
    world.give(shared, b"$1\r\n1\r\n$1\r\n2\r\n");
    assert_eq!(world.take(watcher), "$1\r\n2\r\n");
    world.assert_nothing_is_left();
}

#[test]
fn who_may_not_look_is_an_ordinary_client() {
    let mut world = World::new(pool(1));
    let watcher = world.client();
    world.give(watcher, &request("MONITOR"));
    let own = world.up[&0];
    world.give(own, b"-NOPERM no\r\n");
    assert_eq!(world.take(watcher), "-NOPERM no\r\n");
    assert!(world.closed.contains(&own));
    world.give(watcher, &request("GET a"));
    world.server_says(0, b"$1\r\n1\r\n");
    assert_eq!(world.take(watcher), "$1\r\n1\r\n");
}

#[test]
fn the_end_of_its_server_is_the_end_of_who_looks() {
    let mut world = World::new(pool(1));
    let watcher = world.client();
    world.give(watcher, &request("MONITOR"));
    let own = world.up[&0];
    world.give(own, b"+OK\r\n");
    world.core.closed(own, How::Eof, world.now);
    world.turn();
    assert!(world.closed.contains(&watcher));
    let mut world = World::new(pool(2));
    let watcher = world.client();
    world.give(watcher, &request("MONITOR"));
    let got = world.take(watcher);
    assert!(
        got.starts_with("-ERR 'monitor' asks about one server"),
        "{got}"
    );
}
