//! Users and databases: each with lanes of its own, none entered before its server has said yes.

use std::collections::VecDeque;

use proptest::prelude::*;

use super::*;
use crate::core::follow::HOLD;
use crate::frame::{Limits, Scan};
use crate::topology::{Forks, Group, Lease, Phase, Topology};

const WRONGPASS: &[u8] = b"-WRONGPASS invalid username-password pair or user is disabled.\r\n";

fn all(requests: &[&str]) -> Vec<u8> {
    requests.iter().flat_map(|words| request(words)).collect()
}

/// A client that is the user `u` of the servers, and the lane that proves it.
fn user(world: &mut World) -> (Peer, Peer) {
    let client = world.client();
    world.give(client, &request("AUTH u p"));
    let lane = world.up[&0];
    assert_eq!(world.take(lane).into_bytes(), request("AUTH u p"));
    assert_eq!(world.take(client), "", "not before the server has said it");
    world.give(lane, b"+OK\r\n");
    assert_eq!(world.take(client), "+OK\r\n");
    (client, lane)
}

#[test]
fn a_client_goes_to_another_database_when_it_is_owed_nothing() {
    let mut world = World::new(pool(1));
    let (client, other) = (world.client(), world.client());
    world.give(client, &all(&["SET a 1", "SELECT 5", "SET a 2", "GET a"]));
    let zero = world.up[&0];
    assert_eq!(world.take(zero).into_bytes(), request("SET a 1"));
    world.give(zero, b"+OK\r\n");
    let five = world.up[&0];
    assert_ne!(zero, five);
    assert_eq!(world.take(client), "+OK\r\n");
    assert_eq!(world.take(five).into_bytes(), request("SELECT 5"));
    world.give(five, b"+OK\r\n");
    assert_eq!(world.take(client), "+OK\r\n");
    assert_eq!(world.take(five).into_bytes(), all(&["SET a 2", "GET a"]));
    world.give(other, &request("GET a"));
    assert_eq!(world.take(zero).into_bytes(), request("GET a"));
    world.give(five, b"+OK\r\n$1\r\n2\r\n");
    world.give(zero, b"$1\r\n1\r\n");
    assert_eq!(world.take(client), "+OK\r\n$1\r\n2\r\n");
    assert_eq!(world.take(other), "$1\r\n1\r\n");

    // Who comes later needs no proof any more, and goes back the same way.
    world.give(other, &all(&["SELECT 5", "GET a"]));
    assert_eq!(world.take(other), "+OK\r\n");
    assert_eq!(world.take(five).into_bytes(), request("GET a"));
    world.give(five, b"$1\r\n2\r\n");
    world.give(other, &all(&["RESET", "GET a"]));
    assert_eq!(world.take(zero).into_bytes(), request("GET a"));
    world.give(zero, b"$1\r\n1\r\n");
    world.assert_nothing_is_left();
}

#[test]
fn a_database_that_does_not_exist_leaves_its_client_where_it_was() {
    let mut world = World::new(pool(1));
    let client = world.client();
    world.give(client, &all(&["SELECT 99", "SET a 1"]));
    let lane = world.up[&0];
    assert_eq!(world.take(lane).into_bytes(), request("SELECT 99"));
    world.give(lane, b"-ERR DB index is out of range\r\n");
    assert_eq!(world.take(client), "-ERR DB index is out of range\r\n");
    assert_eq!(world.closed, [lane]);
    assert_eq!(world.at_server(0).into_bytes(), request("SET a 1"));
    world.server_says(0, b"+OK\r\n");
    assert_eq!(world.take(client), "+OK\r\n");
    for wrong in ["-1", "4294967296", "x"] {
        world.give(client, &request(&format!("SELECT {wrong}")));
        assert!(world.take(client).starts_with("-ERR "), "{wrong}");
    }
    world.assert_nothing_is_left();
}

#[test]
fn the_first_to_give_a_password_is_checked_by_the_server_and_the_next_is_not() {
    let mut world = World::new(pool(1));
    let (_, lane) = user(&mut world);
    let second = world.client();
    world.give(second, &all(&["AUTH u p", "ACL WHOAMI", "GET a"]));
    assert_eq!(world.take(second), "+OK\r\n$1\r\nu\r\n");
    assert_eq!(world.take(lane).into_bytes(), request("GET a"));
    world.give(lane, b"-NOPERM this user has no permissions\r\n");
    assert_eq!(
        world.take(second),
        "-NOPERM this user has no permissions\r\n"
    );
    // Another password is another matter.
    world.give(second, &all(&["AUTH u q", "GET b"]));
    let wrong = world.up[&0];
    assert_ne!(wrong, lane);
    world.give(wrong, WRONGPASS);
    assert_eq!(world.take(second).into_bytes(), WRONGPASS);
    assert_eq!(
        world.take(lane).into_bytes(),
        request("GET b"),
        "who fails stays who it was"
    );
    world.give(lane, b"$-1\r\n");
    // As often as it is tried.
    for _ in 0..5 {
        let third = world.client();
        world.give(third, &request("AUTH u q"));
        world.server_says(0, WRONGPASS);
        assert_eq!(world.take(third).into_bytes(), WRONGPASS);
    }
    world.assert_nothing_is_left();
}

#[test]
fn a_hello_may_say_it_all() {
    let mut world = World::new(pool(1));
    let client = world.client();
    world.give(
        client,
        &all(&["HELLO 3 AUTH u p SETNAME me", "CLIENT GETNAME", "GET a"]),
    );
    let setup = [request("AUTH u p"), request("HELLO 3")].concat();
    assert_eq!(world.at_server(0).into_bytes(), setup);
    world.server_says(0, b"+OK\r\n%1\r\n+proto\r\n:3\r\n");
    assert_eq!(
        world.at_server(0).into_bytes(),
        all(&["INFO server", "GET a"])
    );
    world.server_says(0, b"$0\r\n\r\n");
    let said = world.take(client);
    assert!(said.starts_with("%7\r\n$6\r\nserver\r\n"), "{said}");
    assert!(said.ends_with("$2\r\nme\r\n"), "{said}");
    world.server_says(0, b"_\r\n");
    assert_eq!(world.take(client), "_\r\n");
}

#[test]
fn what_a_user_watches_or_blocks_on_is_set_up_for_it_as_well() {
    let mut world = World::new(pool(1));
    let (client, _) = user(&mut world);
    world.give(client, &request("BLPOP a 0"));
    let own = world.up[&0];
    assert_eq!(world.take(own).into_bytes(), request("AUTH u p"));
    world.give(own, b"+OK\r\n");
    assert_eq!(world.take(own).into_bytes(), request("BLPOP a 0"));
    world.give(own, b"*-1\r\n");
    assert_eq!(world.take(client), "*-1\r\n");
    // It waits for the next who needs it, but not for another user.
    let stranger = world.client();
    world.give(stranger, &request("BLPOP a 0"));
    assert_ne!(world.up[&0], own);
    world.give(client, &request("WATCH a"));
    assert_eq!(world.take(own).into_bytes(), request("WATCH a"));
    world.give(own, b"+OK\r\n");
    world.take(client);
    world.give(client, &request("SELECT 3"));
    assert!(
        world
            .take(client)
            .starts_with("-ERR this connection watches")
    );
}

#[test]
fn a_user_that_was_deleted_is_checked_again() {
    let mut world = World::new(pool(1));
    let (client, lane) = user(&mut world);
    world.core.closed(lane, How::Eof, world.now);
    world.turn();
    world.give(client, &request("GET a"));
    world.server_says(0, WRONGPASS);
    assert_eq!(world.take(client).into_bytes(), WRONGPASS);
    let next = world.client();
    world.give(next, &request("AUTH u p"));
    assert_eq!(world.take(next), "");
    world.server_says(0, b"+OK\r\n");
    assert_eq!(world.take(next), "+OK\r\n");
}

#[test]
fn a_refusal_anywhere_has_the_next_client_checked_where_nothing_is_open() {
    let mut world = World::new(pool(2));
    let client = world.client();
    world.give(client, &request("AUTH u p"));
    let home = *world.up.keys().next().unwrap();
    world.server_says(home, b"+OK\r\n");
    let away = 1 - home;
    world.give(client, &request(&format!("GET {}", world.key_on(away))));
    world.server_says(away, WRONGPASS);
    assert!(world.take(client).ends_with(" or user is disabled.\r\n"));
    let next = world.client();
    world.give(next, &request("AUTH u p"));
    assert_eq!(
        world.take(next),
        "",
        "although a connection is open at home"
    );
    world.server_says(away, WRONGPASS);
    assert_eq!(world.take(next).into_bytes(), WRONGPASS);
    world.give(next, &request("AUTH u p"));
    world.server_says(away, b"+OK\r\n");
    assert_eq!(world.take(next), "+OK\r\n");
}

#[test]
fn lanes_that_nobody_uses_are_closed_but_for_the_first() {
    let mut world = World::new(pool(1));
    let plain = world.client();
    world.give(plain, &request("GET a"));
    let first = world.up[&0];
    world.give(first, b"$-1\r\n");
    let (client, lane) = user(&mut world);
    world.later(Duration::from_secs(31));
    world.give(client, &request("GET a"));
    world.give(lane, b"$-1\r\n");
    world.later(Duration::from_secs(31));
    assert_eq!(world.closed, [], "it was used");
    world.later(Duration::from_secs(31));
    assert_eq!(world.closed, [lane]);
    // Who comes now is checked again, as the password may be another one by now.
    let late = world.client();
    world.give(late, &request("AUTH u p"));
    assert_eq!(world.take(late), "");
    world.server_says(0, WRONGPASS);
    assert_eq!(world.take(late).into_bytes(), WRONGPASS);
    // For those who are in it comes back when it is needed, without anybody having to say the password again.
    world.take(client);
    world.give(client, &request("GET a"));
    assert_eq!(world.at_server(0).into_bytes(), request("AUTH u p"));
    world.server_says(0, b"+OK\r\n");
    world.server_says(0, b"$-1\r\n");
    assert_eq!(world.take(client), "$-1\r\n");
}

#[test]
fn identities_are_bounded_and_those_that_nobody_uses_make_room() {
    let mut world = World::new(pool(1));
    let mut clients = Vec::new();
    let mut refused = 0;
    for at in 0..300 {
        let client = world.client();
        world.give(client, &request(&format!("SELECT {at}")));
        if world.take(client).starts_with("-ERR too many different") {
            refused += 1;
        } else {
            if at > 0 {
                world.server_says(0, b"+OK\r\n");
            }
            clients.push(client);
        }
    }
    assert_eq!((clients.len(), refused), (255, 45));
    let lanes = world.core.lanes.len();
    for client in clients {
        world.core.closed(client, How::Reset, world.now);
    }
    world.turn();
    for at in 300..600 {
        let client = world.client();
        world.give(client, &request(&format!("SELECT {at}")));
        world.server_says(0, b"+OK\r\n");
        assert_eq!(world.take(client), "+OK\r\n");
        world.core.closed(client, How::Reset, world.now);
        world.turn();
    }
    assert_eq!(world.core.lanes.len(), lanes, "places are used again");
}

#[test]
fn nobody_waits_for_ever_to_be_let_in() {
    let mut world = World::new(pool(1));
    world.refusing.push(0);
    let client = world.client();
    world.give(client, &request("AUTH u p"));
    assert_eq!(world.take(client), "-ERR Connection refused\r\n");
    world.refusing.clear();

    let nobody = Topology {
        groups: vec![Group {
            rank: Rank::of(1),
            phase: Phase::None,
            lease: Lease::Open,
            alone: None,
            replicas: Vec::new(),
            forks: Forks::Untold,
        }],
    };
    world.core.snapshot(0, &nobody, world.now);
    world.give(client, &all(&["AUTH u p", "PING"]));
    assert_eq!(world.take(client), "");
    world.later(HOLD / 2);
    assert_eq!(world.take(client), "");
    world.later(HOLD);
    let said = world.take(client);
    assert!(said.starts_with("-TANDEM-NOPRIMARY "), "{said}");
    assert!(said.ends_with("+PONG\r\n"), "{said}");

    // With a primary, it is asked at once; and who gives up waiting leaves nothing behind.
    world.give(client, &request("AUTH u p"));
    let gone = world.client();
    world.give(gone, &request("AUTH u p"));
    world.core.closed(gone, How::Reset, world.now);
    let serving = Topology {
        groups: vec![Group {
            rank: Rank::of(2),
            lease: Lease::Open,
            alone: None,
            phase: Phase::Serving {
                primary: Address::Tcp {
                    host: "127.0.0.1".to_owned(),
                    port: 1001,
                },
            },
            replicas: Vec::new(),
            forks: Forks::Untold,
        }],
    };
    world.core.snapshot(0, &serving, world.now);
    world.turn();
    let lane = world.up[&1];
    assert_eq!(world.take(lane).into_bytes(), request("AUTH u p"));
    world.give(lane, WRONGPASS);
    assert_eq!(world.take(client).into_bytes(), WRONGPASS, "and not held");
    world.assert_nothing_is_left();
}

#[derive(Debug, Clone)]
enum Act {
    Get(usize),
    Select(usize, u32),
    /// As one of these; the last is refused.
    Auth(usize, usize),
    Reset(usize),
    /// A transaction that is aborted, because it tries to be elsewhere.
    Multi(usize),
    Leave(usize),
    /// All lanes bring so many bytes of what they have.
    Reply(usize),
    /// Longer than lanes are kept without use.
    Later,
}

const USERS: [&str; 3] = ["one", "two", "bad"];

fn acts() -> impl Strategy<Value = Vec<Act>> {
    let client = 0usize..4;
    let act = prop_oneof![
        6 => client.clone().prop_map(Act::Get),
        2 => (client.clone(), 0u32..3).prop_map(|(client, database)| Act::Select(client, database)),
        2 => (client.clone(), 0usize..3).prop_map(|(client, user)| Act::Auth(client, user)),
        1 => client.clone().prop_map(Act::Reset),
        1 => client.clone().prop_map(Act::Multi),
        1 => client.prop_map(Act::Leave),
        8 => (1usize..60).prop_map(Act::Reply),
        1 => Just(Act::Later),
    ];
    prop::collection::vec(act, 1..120)
}

/// A server as one of its connections sees it: it answers GET with the database, the user and the key.
#[derive(Default)]
struct Seen {
    unread: Vec<u8>,
    unsent: VecDeque<u8>,
    database: u32,
    user: String,
}

impl Seen {
    fn take_in(&mut self, bytes: Vec<u8>) {
        self.unread.extend(bytes);
        while !self.unread.is_empty() {
            let mut scan = Scan::default();
            let Some(len) = scan.advance(&self.unread, &Limits::CLIENT).unwrap() else {
                return;
            };
            let request = scan.request(&self.unread[..len]);
            let argument = |at| String::from_utf8_lossy(request.argument(at).unwrap_or_default());
            let reply = match &*argument(0) {
                "AUTH" if argument(1) == "bad" => WRONGPASS.to_vec(),
                "AUTH" => {
                    self.user = argument(1).into_owned();
                    b"+OK\r\n".to_vec()
                }
                "SELECT" => {
                    self.database = argument(1).parse().unwrap();
                    b"+OK\r\n".to_vec()
                }
                "GET" => said(self.database, &self.user, &argument(1)).into_bytes(),
                other => panic!("{other} reached a server"),
            };
            self.unsent.extend(reply);
            self.unread.drain(..len);
        }
    }
}

fn said(database: u32, user: &str, key: &str) -> String {
    format!("+{database}/{user}/{key}\r\n")
}

/// What a client believes to be, and what it waits for.
#[derive(Default)]
struct Asker {
    database: u32,
    user: String,
    expected: String,
}

/// Lets every lane bring up to so many bytes; whether any had some.
fn answer(world: &mut World, seen: &mut HashMap<Peer, Seen>, most: usize) -> bool {
    let mut lanes: Vec<Peer> = world.got.keys().copied().collect();
    lanes.extend(seen.keys());
    lanes.retain(|peer| peer.side() == Side::Lane && !world.closed.contains(peer));
    lanes.sort_by_key(|peer| peer.token());
    lanes.dedup();
    let mut any = false;
    for lane in lanes {
        let bytes = world.take(lane).into_bytes();
        let server = seen.entry(lane).or_default();
        server.take_in(bytes);
        let now = most.min(server.unsent.len());
        let bytes: Vec<u8> = server.unsent.drain(..now).collect();
        if !bytes.is_empty() && !world.closed.contains(&lane) {
            any = true;
            assert!(world.give(lane, &bytes));
        }
    }
    any
}

proptest! {
    #[test]
    fn no_request_meets_a_connection_that_was_set_up_for_another(acts in acts()) {
        let mut world = World::new(pool(2));
        let mut seen = HashMap::new();
        let mut clients: Vec<(Peer, Asker)> =
            (0..4).map(|_| (world.client(), Asker::default())).collect();
        let mut serial = 0;
        for act in acts {
            serial += 1;
            match act {
                Act::Get(at) => {
                    let (peer, asker) = &mut clients[at];
                    let key = format!("c{at}s{serial}");
                    if world.give(*peer, &request(&format!("GET {key}"))) {
                        asker.expected += &said(asker.database, &asker.user, &key);
                    }
                }
                Act::Select(at, database) => {
                    let (peer, asker) = &mut clients[at];
                    if world.give(*peer, &request(&format!("SELECT {database}"))) {
                        asker.database = database;
                        asker.expected += "+OK\r\n";
                    }
                }
                Act::Auth(at, user) => {
                    let (peer, asker) = &mut clients[at];
                    let user = USERS[user];
                    if world.give(*peer, &request(&format!("AUTH {user} p"))) {
                        if user == "bad" {
                            asker.expected += &String::from_utf8_lossy(WRONGPASS);
                        } else {
                            asker.user = user.to_owned();
                            asker.expected += "+OK\r\n";
                        }
                    }
                }
                Act::Reset(at) => {
                    let (peer, asker) = &mut clients[at];
                    if world.give(*peer, &request("RESET")) {
                        asker.database = 0;
                        asker.user.clear();
                        asker.expected += "+RESET\r\n";
                    }
                }
                Act::Multi(at) => {
                    let (peer, asker) = &mut clients[at];
                    let block = all(&["MULTI", "GET x", "SELECT 1", "EXEC"]);
                    if world.give(*peer, &block) {
                        asker.expected += "+OK\r\n+QUEUED\r\n-ERR 'select' is not let through the proxy inside MULTI\r\n\
                            -EXECABORT Transaction discarded because of previous errors.\r\n";
                    }
                }
                Act::Leave(at) => {
                    world.core.closed(clients[at].0, How::Reset, world.now);
                    world.turn();
                    world.take(clients[at].0);
                    clients[at] = (world.client(), Asker::default());
                }
                Act::Reply(most) => {
                    answer(&mut world, &mut seen, most);
                }
                Act::Later => {
                    // A set-up that is not answered would be given up.
                    while answer(&mut world, &mut seen, usize::MAX) {}
                    world.later(Duration::from_secs(31));
                }
            }
            for (peer, asker) in &mut clients {
                let got = world.take(*peer);
                let rest = asker.expected.strip_prefix(&got);
                prop_assert!(rest.is_some(), "{:?} instead of {:?}", got, asker.expected);
                asker.expected = rest.unwrap().to_owned();
            }
        }
        while answer(&mut world, &mut seen, usize::MAX) {}
        for (peer, asker) in &mut clients {
            prop_assert_eq!(&world.take(*peer), &asker.expected);
        }
        world.assert_nothing_is_left();
    }
}

#[test]
fn a_password_that_nobody_asked_for_gets_what_the_server_says_to_it() {
    const NOT_ASKED: &[u8] =
        b"-ERR AUTH <password> called without any password configured for the default user. \
Are you sure your configuration is correct?\r\n";
    let mut world = World::new(pool(1));
    let client = world.client();
    world.give(client, &request("AUTH p"));
    assert_eq!(world.at_server(0).into_bytes(), request("AUTH p"));
    world.server_says(0, NOT_ASKED);
    assert_eq!(world.take(client).into_bytes(), NOT_ASKED);
    world.give(client, &request("GET a"));
    world.server_says(0, b"$-1\r\n");
    assert_eq!(world.take(client), "$-1\r\n", "as who it was before");
}
