//! Properties: however streams are cut, whoever leaves, whichever server is faster, replies reach those who asked,
//! in the order in which they asked.

use super::*;
use crate::frame::{Limits, Scan};
use proptest::prelude::*;
use std::collections::VecDeque;

#[derive(Debug, Clone)]
enum Act {
    /// Client, how many keys.
    Ask(usize, usize),
    Ping(usize),
    /// Server, pieces of how many bytes.
    Reply(usize, usize),
    Leave(usize),
    /// The server closes its connection.
    Cut(usize),
}

fn acts() -> impl Strategy<Value = Vec<Act>> {
    let act = prop_oneof![
        6 => (0usize..4, 1usize..4).prop_map(|(client, keys)| Act::Ask(client, keys)),
        1 => (0usize..4).prop_map(Act::Ping),
        6 => (0usize..3, 1usize..60).prop_map(|(server, piece)| Act::Reply(server, piece)),
        1 => (0usize..4).prop_map(Act::Leave),
        1 => (0usize..3).prop_map(Act::Cut),
    ];
    prop::collection::vec(act, 1..80)
}

/// Three servers that answer GET and MGET with the names of the keys.
struct Servers {
    unread: Vec<Vec<u8>>,
    unsent: Vec<VecDeque<u8>>,
}

impl Servers {
    fn take_in(&mut self, world: &mut World) {
        for server in 0..3 {
            self.unread[server].extend(world.at_server(server).into_bytes());
            loop {
                let bytes = &self.unread[server];
                let mut scan = Scan::default();
                if bytes.is_empty() {
                    break;
                }
                let Some(len) = scan.advance(bytes, &Limits::CLIENT).unwrap() else {
                    break;
                };
                let request = scan.request(&bytes[..len]);
                let mut reply = Vec::new();
                if request.argument(0).unwrap().eq_ignore_ascii_case(b"MGET") {
                    tandem_resp::write_array_header(request.count() - 1, &mut reply);
                }
                for key in request.arguments().skip(1) {
                    tandem_resp::write_bulk(key.value, &mut reply);
                }
                self.unsent[server].extend(reply);
                self.unread[server].drain(..len);
            }
        }
    }

    fn cut(&mut self, world: &mut World, server: usize) {
        self.unread[server].clear();
        self.unsent[server].clear();
        if let Some(&lane) = world.up.get(&server) {
            world.core.closed(lane, How::Reset, world.now);
            world.turn();
            world.take(lane);
        }
    }

    fn reply(&mut self, world: &mut World, server: usize, most: usize) {
        let bytes: Vec<u8> = {
            let unsent = &mut self.unsent[server];
            let now = most.min(unsent.len());
            unsent.drain(..now).collect()
        };
        if !bytes.is_empty() {
            world.server_says(server, &bytes);
        }
    }
}

/// What one client waits for: replies in order; either of two where a server was cut off.
#[derive(Default)]
struct Asked {
    replies: VecDeque<String>,
}

const CUT: &str = "-ERR Connection reset by peer\r\n";

impl Asked {
    /// Takes replies off the text; panics on one that is not the next.
    fn check(&mut self, got: &str) -> Result<(), TestCaseError> {
        let mut rest = got;
        while !rest.is_empty() {
            let Some(next) = self.replies.pop_front() else {
                return Err(TestCaseError::fail(format!("{rest:?} was not asked for")));
            };
            rest = match (rest.strip_prefix(&next[..]), rest.strip_prefix(CUT)) {
                (Some(rest), _) | (None, Some(rest)) => rest,
                (None, None) => {
                    return Err(TestCaseError::fail(format!("{rest:?} instead of {next:?}")));
                }
            };
        }
        Ok(())
    }
}

proptest! {
    #[test]
    fn replies_reach_those_who_asked_in_their_order(acts in acts(), cut in 1usize..30) {
        let mut world = World::new(pool(3));
        let mut servers = Servers { unread: vec![Vec::new(); 3], unsent: vec![VecDeque::new(); 3] };
        let mut clients: Vec<(Peer, Asked)> = (0..4).map(|_| (world.client(), Asked::default())).collect();
        let mut serial = 0;
        for act in acts {
            match act {
                Act::Ask(client, count) => {
                    let keys: Vec<String> = (0..count).map(|_| {
                        serial += 1;
                        format!("c{client}s{serial}")
                    }).collect();
                    let (name, mut expected) = if count == 1 { ("GET", Vec::new()) } else {
                        let mut head = Vec::new();
                        tandem_resp::write_array_header(count, &mut head);
                        ("MGET", head)
                    };
                    for key in &keys {
                        tandem_resp::write_bulk(key.as_bytes(), &mut expected);
                    }
                    let (peer, asked) = &mut clients[client];
                    asked.replies.push_back(String::from_utf8(expected).unwrap());
                    let peer = *peer;
                    for piece in request(&format!("{name} {}", keys.join(" "))).chunks(cut) {
                        prop_assert!(world.give(peer, piece));
                    }
                }
                Act::Ping(client) => {
                    let (peer, asked) = &mut clients[client];
                    asked.replies.push_back("+PONG\r\n".to_owned());
                    let peer = *peer;
                    prop_assert!(world.give(peer, b"PING\r\n"));
                }
                Act::Reply(server, piece) => {
                    servers.take_in(&mut world);
                    servers.reply(&mut world, server, piece);
                }
                Act::Leave(client) => {
                    let peer = clients[client].0;
                    world.core.closed(peer, How::Reset, world.now);
                    world.turn();
                    world.take(peer);
                    clients[client] = (world.client(), Asked::default());
                }
                Act::Cut(server) => {
                    servers.take_in(&mut world);
                    servers.cut(&mut world, server);
                    // Beyond every pause, so that the next request connects.
                    world.later(Duration::from_secs(2));
                }
            }
            for (peer, asked) in &mut clients {
                let got = world.take(*peer);
                asked.check(&got)?;
            }
        }
        servers.take_in(&mut world);
        for server in 0..3 {
            servers.reply(&mut world, server, usize::MAX);
        }
        for (peer, asked) in &mut clients {
            let got = world.take(*peer);
            asked.check(&got)?;
            prop_assert!(asked.replies.is_empty(), "lost: {:?}", asked.replies);
        }
        world.assert_nothing_is_left();
    }

    #[test]
    fn any_cut_of_what_clients_and_servers_send_gives_the_same(
        from_client in prop::collection::vec(1usize..50, 1..10),
        from_server in prop::collection::vec(1usize..50, 1..10),
    ) {
        let asked = [
            request("SET a 1"), request("GET a"), b"PING\r\n".to_vec(), request("LRANGE l 0 -1"), request("GET missing"),
        ].concat();
        let replies = b"+OK\r\n$1\r\n1\r\n*2\r\n$3\r\nabc\r\n:7\r\n$-1\r\n";
        let mut world = World::new(pool(1));
        let client = world.client();
        let mut sizes = from_client.into_iter().cycle();
        let mut rest = &asked[..];
        while !rest.is_empty() {
            let (piece, after) = rest.split_at(sizes.next().unwrap().min(rest.len()));
            prop_assert!(world.give(client, piece));
            rest = after;
        }
        let mut sizes = from_server.into_iter().cycle();
        let mut rest = &replies[..];
        while !rest.is_empty() {
            let (piece, after) = rest.split_at(sizes.next().unwrap().min(rest.len()));
            world.server_says(0, piece);
            rest = after;
        }
        let expected = "+OK\r\n$1\r\n1\r\n+PONG\r\n*2\r\n$3\r\nabc\r\n:7\r\n$-1\r\n";
        prop_assert_eq!(world.take(client), expected);
        world.assert_nothing_is_left();
    }
}
