//! The version that HELLO tells.

use super::*;

fn info(version: &str) -> Vec<u8> {
    let mut reply = Vec::new();
    let text = format!("# Server\r\nredis_version:{version}\r\n");
    tandem_resp::write_bulk(text.as_bytes(), &mut reply);
    reply
}

#[test]
fn it_is_the_lowest_of_the_servers_behind_and_asked_again_of_one_that_comes_back() {
    let mut world = World::new(pool(2));
    let client = world.client();
    world.give(client, &request("HELLO"));
    for server in [0, 1] {
        assert_eq!(world.at_server(server).into_bytes(), request("INFO server"));
    }
    world.server_says(0, &info("7.10.1"));
    assert_eq!(world.take(client), "", "not before all have said it");
    world.server_says(1, &info("7.9.2"));
    let said = world.take(client);
    assert!(said.contains("version\r\n$5\r\n7.9.2\r\n"), "{said}");

    let other = world.client();
    world.give(other, &request("HELLO 2"));
    assert!(world.take(other).contains("7.9.2"), "by heart");
    let (key, lane) = (world.key_on(1), world.up[&1]);
    world.core.closed(lane, How::Eof, world.now);
    world.turn();
    world.give(other, &request(&format!("GET {key}")));
    world.server_says(1, b"$-1\r\n");
    assert_eq!(world.take(other), "$-1\r\n");
    world.give(other, &request("HELLO 2"));
    world.server_says(1, b"-NOPERM no\r\n");
    world.server_says(0, &info("7.10.1"));
    assert!(world.take(other).contains("7.10.1"), "who tells it");
    world.assert_nothing_is_left();
}

#[test]
fn without_a_server_it_is_the_oldest_that_there_may_be() {
    let mut world = World::new(pool(1));
    world.refusing.push(0);
    let client = world.client();
    world.give(client, &request("HELLO 3"));
    let said = world.take(client);
    assert!(said.contains("7.0.0"), "{said}");
    world.give(client, &request("PING"));
    assert_eq!(world.take(client), "+PONG\r\n");
}
