use std::io::{ErrorKind, Read, Write};
use std::net::{TcpListener, TcpStream};

use super::super::testing::{eventually, in_namespace, run};
use super::*;

fn connect(listener: &TcpListener) -> (TcpStream, TcpStream) {
    let client = TcpStream::connect(listener.local_addr().expect("bound")).expect("accepted");
    let (server, _) = listener.accept().expect("a client");
    (client, server)
}

fn ends(socket: &TcpSocket) -> Ends {
    let (local, remote) = (socket.local, socket.remote);
    Ends { local, remote }
}

fn local(listener: &TcpListener) -> Local {
    let address = listener.local_addr().expect("bound");
    Local {
        address: Some(address.ip()),
        port: address.port(),
    }
}

#[test]
fn sockets_are_listed_with_their_queues() {
    in_namespace("sockets_are_listed_with_their_queues", async || {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a listener");
        let (mut client, _server) = connect(&listener);
        client.write_all(b"12345").expect("written");
        let mut diag = SocketDiag::open().expect("netlink");
        let listening = diag
            .list(local(&listener), States::LISTENING)
            .expect("a listing");
        assert_eq!(listening.len(), 1);
        assert_eq!(
            (listening[0].state, listening[0].receive_queue),
            (State::Listen, 0)
        );
        assert_ne!(listening[0].inode, 0);
        let connected = diag
            .list(local(&listener), States::CONNECTED)
            .expect("a listing");
        assert_eq!(connected.len(), 1, "{connected:?}");
        assert_eq!(connected[0].remote, client.local_addr().expect("connected"));
        assert_eq!(
            (connected[0].state, connected[0].receive_queue),
            (State::Established, 5)
        );
        let elsewhere = Local {
            address: Some([127, 0, 0, 9].into()),
            ..local(&listener)
        };
        assert_eq!(
            diag.list(elsewhere, States::CONNECTED).expect("a listing"),
            []
        );
    });
}

#[test]
fn both_ends_count_alike_what_a_connection_carries() {
    in_namespace(
        "both_ends_count_alike_what_a_connection_carries",
        async || {
            for bind in ["127.0.0.1:0", "[::1]:0"] {
                let listener = TcpListener::bind(bind).expect("a listener");
                let (mut client, mut server) = connect(&listener);
                let mut diag = SocketDiag::open().expect("netlink");
                server.write_all(&[0; 5]).expect("written");
                client.read_exact(&mut [0; 5]).expect("read");
                // More than the other side takes: some of it has not left yet.
                server.set_nonblocking(true).expect("set");
                let mut given = 5;
                while let Ok(length) = server.write(&[0; 65536]) {
                    given += length as u64;
                }
                let address = listener.local_addr().expect("bound");
                let near = diag
                    .list_between(address.port(), address.ip())
                    .expect("a listing");
                assert_eq!(near.len(), 1, "{near:?}");
                assert_eq!(near[0].remote, client.local_addr().expect("connected"));
                assert_eq!(near[0].carried.expect("counted").given, given);

                assert_eq!(
                    diag.list_between(address.port(), [127, 0, 0, 9].into())
                        .expect("a listing"),
                    []
                );
                // An orphan's bytes are still on their way, and counted.
                drop(server);
                let near = diag
                    .list_between(address.port(), address.ip())
                    .expect("a listing");
                // The end itself counts as one until it has left, and at the other side from when it has come.
                let end = near[0].carried.expect("counted").given - given;
                assert!(end <= 1, "{near:?}");

                client.read_to_end(&mut Vec::new()).expect("the end");
                let far = diag.list_to(address, States::CONNECTED).expect("a listing");
                assert_eq!(far.len(), 1, "{far:?}");
                let carried = far[0].carried.expect("counted");
                assert_eq!(carried.given, 0);
                let end = carried.received - given;
                assert!(
                    end <= 1,
                    "the end may count as a byte: {carried:?}, {given}"
                );
            }
        },
    );
}

/// A connection of a fixed port to a listener, as a client that comes again from where it came before.
fn connect_from(port: u16, listener: &TcpListener) -> TcpStream {
    let target = listener.local_addr().expect("bound");
    let socket = socket2::Socket::new(
        socket2::Domain::for_address(target),
        socket2::Type::STREAM,
        None,
    )
    .expect("a socket");
    socket.set_reuse_address(true).expect("set");
    let source = SocketAddr::new(target.ip(), port);
    socket.bind(&source.into()).expect("bound");
    socket.connect(&target.into()).expect("accepted");
    socket.into()
}

#[test]
fn one_connection_is_found_by_its_ends_as_in_a_listing() {
    in_namespace(
        "one_connection_is_found_by_its_ends_as_in_a_listing",
        async || {
            // An IPv6 wildcard listener: its IPv4 clients live on IPv6 sockets.
            for (bind, to) in [
                ("127.0.0.1:0", "127.0.0.1"),
                ("[::1]:0", "::1"),
                ("[::]:0", "127.0.0.1"),
            ] {
                let listener = TcpListener::bind(bind).expect("a listener");
                let port = listener.local_addr().expect("bound").port();
                let mut client = TcpStream::connect((to, port)).expect("connected");
                let (_server, _) = listener.accept().expect("a client");
                client.write_all(b"12345").expect("written");
                let mut diag = SocketDiag::open().expect("netlink");
                let any = Local {
                    address: None,
                    port,
                };
                let listed = diag.list(any, States::CONNECTED).expect("a listing");
                assert_eq!(listed.len(), 1, "{bind}: {listed:?}");
                let found = diag.find(ends(&listed[0])).expect("an answer");
                let found = found.expect("it is there");
                assert_eq!(found.carried.expect("counted").received, 5, "{bind}");
                let plain = TcpSocket {
                    carried: None,
                    ..found.clone()
                };
                assert_eq!(plain, listed[0], "{bind}");
                assert_eq!(diag.again(&listed[0]).expect("an answer"), Some(found));

                let swapped = Ends {
                    local: listed[0].remote,
                    remote: listed[0].local,
                };
                let other = diag.find(swapped).expect("an answer").expect("our own end");
                assert_eq!(other.carried.expect("counted").given, 5, "{bind}");
                // A listener would take that one; it is no connection.
                let mut unknown = ends(&listed[0]);
                unknown.remote.set_port(unknown.remote.port() ^ 1);
                assert_eq!(diag.find(unknown).expect("an answer"), None, "{bind}");
                unknown.local.set_port(1);
                assert_eq!(diag.find(unknown).expect("an answer"), None, "{bind}");
            }
        },
    );
}

#[test]
fn a_connection_is_not_taken_for_an_earlier_one_between_the_same_ends() {
    in_namespace(
        "a_connection_is_not_taken_for_an_earlier_one_between_the_same_ends",
        async || {
            for bind in ["127.0.0.1:0", "[::1]:0"] {
                let listener = TcpListener::bind(bind).expect("a listener");
                let mut diag = SocketDiag::open().expect("netlink");
                let mut client = connect_from(7001, &listener);
                let (mut server, from) = listener.accept().expect("a client");
                let between = Ends {
                    local: server.local_addr().expect("bound"),
                    remote: from,
                };
                let first = diag.find(between).expect("an answer").expect("it is there");
                server.write_all(b"123").expect("written");
                let later = diag.again(&first).expect("an answer").expect("the same");
                assert_eq!(later.carried.expect("counted").given, 3, "{bind}");
                assert_ne!(later.inode, 0);

                // Nobody has it open any more: its bytes may still be on their way.
                drop(server);
                let orphan = diag.again(&first).expect("an answer").expect("the same");
                let ended = matches!(orphan.state, State::FinWait1 | State::FinWait2);
                assert!(ended && orphan.inode == 0, "{bind}: {orphan:?}");
                // Gone, and remembered for a while.
                client.read_exact(&mut [0; 3]).expect("read");
                drop(client);
                eventually("gone", || diag.again(&first).expect("an answer").is_none()).await;
                assert_eq!(diag.find(between).expect("an answer"), None, "{bind}");

                // The closed one gives way to a connection that begins behind its end.
                let mut client = connect_from(7001, &listener);
                let (mut server, _) = listener.accept().expect("a client");
                server.write_all(b"12345").expect("written");
                client.read_exact(&mut [0; 5]).expect("read");
                let second = diag.find(between).expect("an answer").expect("it is there");
                assert_eq!(ends(&second), ends(&first));
                assert_eq!(diag.again(&first).expect("an answer"), None, "{bind}");
                assert!(diag.again(&second).expect("an answer").is_some(), "{bind}");
            }
        },
    );
}

#[test]
fn a_destroyed_client_gets_a_reset_and_a_kept_one_does_not() {
    in_namespace(
        "a_destroyed_client_gets_a_reset_and_a_kept_one_does_not",
        async || {
            run(&["ip", "addr", "add", "10.9.0.1/32", "dev", "lo"]);
            // An IPv6 wildcard listener: its IPv4 clients live on IPv6 sockets.
            for bind in ["127.0.0.1:0", "[::1]:0", "[::]:0"] {
                let listener = TcpListener::bind(bind).expect("a listener");
                let port = listener.local_addr().expect("bound").port();
                let target = if bind.starts_with("[::1]") {
                    "::1"
                } else {
                    "127.0.0.1"
                };
                let mut client = TcpStream::connect((target, port)).expect("connected");
                let _accepted = listener.accept().expect("a client");
                let never_accepted = TcpStream::connect((target, port)).expect("connected");
                let mut diag = SocketDiag::open().expect("netlink");
                let clients = Local {
                    address: Some(target.parse().expect("an address")),
                    port,
                };

                let outcome = diag
                    .destroy_clients(clients, &[target.parse().expect("an address")])
                    .expect("listed");
                assert_eq!((outcome.gone, outcome.kept), (0, 2), "{bind}");
                client.set_nonblocking(true).expect("set");
                assert_eq!(
                    client.read(&mut [0]).expect_err("no bytes").kind(),
                    ErrorKind::WouldBlock,
                    "kept"
                );

                let outcome = diag.destroy_clients(clients, &[]).expect("listed");
                assert_eq!(outcome.gone, 2, "{bind}: {:?}", outcome.refused);
                for mut reset in [client, never_accepted] {
                    reset.set_nonblocking(true).expect("set");
                    assert_eq!(
                        reset.read(&mut [0]).expect_err("reset").kind(),
                        ErrorKind::ConnectionReset,
                        "{bind}"
                    );
                }
            }
        },
    );
}

#[test]
fn a_destroyed_listener_refuses() {
    in_namespace("a_destroyed_listener_refuses", async || {
        for bind in ["127.0.0.1:0", "0.0.0.0:0", "[::]:0"] {
            let listener = TcpListener::bind(bind).expect("a listener");
            let port = listener.local_addr().expect("bound").port();
            let mut waiting = TcpStream::connect(("127.0.0.1", port)).expect("queued");
            let mut diag = SocketDiag::open().expect("netlink");
            let outcome = diag
                .destroy_listeners(Local {
                    address: None,
                    port,
                })
                .expect("listed");
            assert_eq!(outcome.gone, 1, "{bind}: {:?}", outcome.refused);
            let refused = TcpStream::connect(("127.0.0.1", port)).expect_err("nobody listens");
            assert_eq!(refused.kind(), ErrorKind::ConnectionRefused, "{bind}");
            assert_eq!(
                waiting.read(&mut [0]).expect_err("reset").kind(),
                ErrorKind::ConnectionReset,
                "{bind}"
            );
        }
    });
}
