//! EVALSHA where a server may not know the script.

use super::*;
use crate::topology::{Forks, Group, Lease, Phase, Topology};

/// Of `return 1`.
const DIGEST: &str = "e0e1f9fabfc9d4800c877a703b823ac0578ff8db";

fn load() -> Vec<u8> {
    let mut bytes = Vec::new();
    tandem_resp::encode_command(&["SCRIPT", "LOAD", "return 1"], &mut bytes);
    bytes
}

fn eval(words: &[&str]) -> Vec<u8> {
    let mut bytes = Vec::new();
    tandem_resp::encode_command(words, &mut bytes);
    bytes
}

fn evalsha() -> Vec<u8> {
    eval(&["EVALSHA", DIGEST, "1", "a"])
}

#[test]
fn a_script_that_is_known_is_brought_along_once_for_each_connection() {
    let mut world = World::new(pool(1));
    let client = world.client();
    world.give(client, &evalsha());
    assert_eq!(
        world.at_server(0).into_bytes(),
        evalsha(),
        "its body is not known"
    );
    world.server_says(0, b"-NOSCRIPT No matching script. Please use EVAL.\r\n");
    assert!(
        world.take(client).starts_with("-NOSCRIPT "),
        "and that is passed on"
    );
    world.give(client, &eval(&["EVAL", "return 1", "1", "a"]));
    world.server_says(0, b":1\r\n");
    world.at_server(0);
    world.take(client);
    world.give(client, &evalsha());
    world.give(client, &evalsha());
    let once = [load(), evalsha(), evalsha()].concat();
    assert_eq!(world.at_server(0).into_bytes(), once);
    let digest = format!("$40\r\n{DIGEST}\r\n:1\r\n:1\r\n");
    world.server_says(0, digest.as_bytes());
    assert_eq!(world.take(client), ":1\r\n:1\r\n");
    let lane = world.up[&0];
    world.core.closed(lane, How::Eof, world.now);
    world.turn();
    world.give(client, &evalsha());
    assert_eq!(
        world.at_server(0).into_bytes(),
        [load(), evalsha()].concat()
    );
    world.server_says(0, format!("$40\r\n{DIGEST}\r\n:1\r\n").as_bytes());
    world.take(client);
    world.assert_nothing_is_left();
}

#[test]
fn a_transaction_has_its_scripts_before_it_begins() {
    let mut world = World::new(pool(1));
    let client = world.client();
    world.give(client, &load());
    world.server_says(0, format!("$40\r\n{DIGEST}\r\n").as_bytes());
    world.at_server(0);
    world.take(client);
    let block = [request("MULTI"), evalsha(), evalsha(), request("EXEC")].concat();
    world.give(client, &block);
    assert_eq!(world.at_server(0).into_bytes(), [load(), block].concat());
    let answers = format!("$40\r\n{DIGEST}\r\n+OK\r\n+QUEUED\r\n+QUEUED\r\n*2\r\n:1\r\n:1\r\n");
    world.server_says(0, answers.as_bytes());
    assert!(world.take(client).ends_with("*2\r\n:1\r\n:1\r\n"));
    world.assert_nothing_is_left();
}

#[test]
fn what_is_sent_to_the_next_primary_has_its_script_with_it() {
    let serving = |epoch, port| Topology {
        groups: vec![Group {
            replicas: Vec::new(),
            rank: Rank::of(epoch),
            lease: Lease::Open,
            alone: None,
            phase: Phase::Serving {
                primary: Address::Tcp {
                    host: "127.0.0.1".to_owned(),
                    port,
                },
            },
            forks: Forks::Untold,
        }],
    };
    let mut world = World::new(pool(1));
    world.core.snapshot(0, &serving(1, 1000), world.now);
    let client = world.client();
    world.give(client, &load());
    world.server_says(0, format!("$40\r\n{DIGEST}\r\n").as_bytes());
    world.take(client);
    let none = Topology {
        groups: vec![Group {
            replicas: Vec::new(),
            rank: Rank::of(2),
            lease: Lease::Open,
            alone: None,
            phase: Phase::None,
            forks: Forks::Untold,
        }],
    };
    let read_only = eval(&["EVALSHA_RO", DIGEST, "1", "a"]);
    world.give(client, &read_only);
    world.core.snapshot(0, &none, world.now);
    let lane = world.up[&0];
    world.core.closed(lane, How::Reset, world.now);
    world.give(client, &evalsha());
    world.turn();
    world.core.snapshot(0, &serving(3, 1007), world.now);
    world.turn();
    assert_eq!(
        world.at_server(7).into_bytes(),
        [load(), read_only, evalsha()].concat()
    );
    world.server_says(7, format!("$40\r\n{DIGEST}\r\n:1\r\n:1\r\n").as_bytes());
    assert_eq!(world.take(client), ":1\r\n:1\r\n");
    world.assert_nothing_is_left();
}

#[test]
fn scripts_and_functions_are_loaded_and_forgotten_everywhere() {
    let mut world = World::new(pool(2));
    let client = world.client();
    let (ok, digest) = ("+OK\r\n".to_owned(), format!("$40\r\n{DIGEST}\r\n"));
    let two =
        |left: &str, right: &str, both: &str| (left.to_owned(), right.to_owned(), both.to_owned());
    for (words, (left, right, both)) in [
        ("SCRIPT LOAD x", two(&digest, &digest, &digest)),
        ("SCRIPT FLUSH", two(&ok, &ok, &ok)),
        (
            "SCRIPT EXISTS a b",
            two(
                "*2\r\n:1\r\n:1\r\n",
                "*2\r\n:1\r\n:0\r\n",
                "*2\r\n:1\r\n:0\r\n",
            ),
        ),
        ("SCRIPT KILL", two("-NOTBUSY No scripts\r\n", &ok, &ok)),
        (
            "FUNCTION LOAD x",
            two("$1\r\nx\r\n", "$1\r\nx\r\n", "$1\r\nx\r\n"),
        ),
        (
            "FUNCTION LOAD x",
            two("$1\r\nx\r\n", "-ERR no\r\n", "-ERR no\r\n"),
        ),
        ("FUNCTION DELETE x", two(&ok, &ok, &ok)),
        ("FUNCTION FLUSH", two(&ok, &ok, &ok)),
        ("FUNCTION RESTORE x", two(&ok, &ok, &ok)),
    ] {
        world.give(client, &request(words));
        assert_eq!(world.at_server(0).into_bytes(), request(words));
        assert_eq!(world.at_server(1).into_bytes(), request(words));
        world.server_says(0, left.as_bytes());
        world.server_says(1, right.as_bytes());
        assert_eq!(world.take(client), both, "{words}");
    }
    world.assert_nothing_is_left();
}

#[test]
fn what_was_flushed_is_not_brought_back() {
    let mut world = World::new(pool(1));
    let client = world.client();
    world.give(client, &load());
    world.give(client, &request("SCRIPT FLUSH"));
    world.give(client, &evalsha());
    let got = world.at_server(0).into_bytes();
    assert_eq!(got, [load(), request("SCRIPT FLUSH"), evalsha()].concat());
}
