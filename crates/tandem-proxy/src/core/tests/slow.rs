//! How long answers take is counted by command and server, and what was slow can be asked for.

use super::*;
use crate::latency::Latency;

fn times(world: &World, command: &str) -> Latency {
    let mut sums = vec![Latency::default(); crate::command::COUNT];
    world.counters.commands.add_to(&mut sums);
    let id = crate::command::find(command.as_bytes()).unwrap().id;
    sums.swap_remove(usize::from(id))
}

#[test]
fn answers_are_timed_from_turn_to_turn() {
    let mut world = World::new(pool(1));
    let client = world.client();
    world.give(client, &[request("GET a"), request("SET a 1")].concat());
    world.now += Duration::from_micros(3000);
    world.server_says(0, b"$-1\r\n");
    world.now += Duration::from_micros(3000);
    world.server_says(0, b"+OK\r\n");
    let (get, set) = (times(&world, "get"), times(&world, "set"));
    assert_eq!((get.count(), get.sum_us()), (1, 3000));
    assert_eq!((set.count(), set.sum_us()), (1, 6000));
    let mut server = Latency::default();
    server.add(&world.counters.servers[0].latency);
    assert_eq!((server.count(), server.sum_us()), (2, 9000));
    assert_eq!(times(&world, "ping").count(), 0);
}

#[test]
fn what_blocks_is_not_slow() {
    let mut world = World::new(pool(1));
    let client = world.client();
    world.give(client, &request("BLPOP l 5"));
    world.now += Duration::from_secs(3);
    world.server_says(0, b"*2\r\n$1\r\nl\r\n$1\r\nx\r\n");
    world.take(client);
    world.give(client, &request("SLOWLOG LEN"));
    assert_eq!(world.take(client), ":0\r\n");
    assert_eq!(times(&world, "blpop").count(), 0);
}

#[test]
fn slow_requests_are_told_with_their_words() {
    let mut world = World::new(pool(1));
    let client = world.client();
    for (words, us) in [
        ("GET quick", 9_999),
        ("GET slow", 10_000),
        ("SET slower 1", 20_000),
    ] {
        world.give(client, &request(words));
        world.now += Duration::from_micros(us);
        world.server_says(0, b"+x\r\n");
    }
    world.take(client);
    world.give(client, &request("SLOWLOG LEN"));
    assert_eq!(world.take(client), ":2\r\n");
    world.give(client, &request("SLOWLOG GET 1"));
    assert_eq!(
        world.take(client),
        "*1\r\n*6\r\n:1\r\n:0\r\n:20000\r\n*3\r\n$3\r\nSET\r\n$6\r\nslower\r\n$1\r\n1\r\n$7\r\nserver0\r\n$0\r\n\r\n"
    );
    world.give(client, &request("SLOWLOG GET x"));
    assert!(
        world
            .take(client)
            .starts_with("-ERR value is not an integer")
    );
    world.give(client, &request("SLOWLOG RESET"));
    world.give(client, &request("SLOWLOG GET"));
    assert_eq!(world.take(client), "+OK\r\n*0\r\n");
    world.assert_nothing_is_left();
}

#[test]
fn a_large_request_is_noted_by_its_name() {
    let mut world = World::new(pool(1));
    let client = world.client();
    world.give(client, &request(&format!("SET a {}", "v".repeat(100_000))));
    world.now += Duration::from_millis(50);
    world.server_says(0, b"+OK\r\n");
    world.give(client, &request("SLOWLOG GET"));
    let said = world.take(client);
    assert!(said.contains(":50000\r\n*1\r\n$3\r\nset\r\n"), "{said}");
}

#[test]
fn of_what_is_answered_at_once_the_first_are_noted() {
    let mut world = World::new(pool(1));
    let client = world.client();
    let mut words = request("EVAL x 1 a");
    for n in 0..30 {
        words.extend(request(&format!("GET k{n}")));
        words.extend(request(&format!("SET k{n} v")));
    }
    world.give(client, &words);
    world.now += Duration::from_millis(50);
    world.server_says(0, "+x\r\n".repeat(61).as_bytes());
    world.take(client);
    world.give(client, &request("SLOWLOG GET -1"));
    let said = world.take(client);
    assert!(said.starts_with("*8\r\n"), "{said}");
    assert!(said.contains("$4\r\nEVAL\r\n"), "{said}");

    // And those of the next turn again.
    world.give(client, &request("GET later"));
    world.now += Duration::from_millis(50);
    world.server_says(0, b"+x\r\n");
    world.take(client);
    world.give(client, &request("SLOWLOG LEN"));
    assert_eq!(world.take(client), ":9\r\n");
}
