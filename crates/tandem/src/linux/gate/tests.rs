use std::io::{ErrorKind, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::time::Duration;

use super::super::testing::{in_namespace, output, run};
use super::*;

fn endpoint(text: &str) -> SocketAddr {
    text.parse().expect("an endpoint")
}

/// Why a connect from `source` is refused; `None` if it succeeds.
fn refusal(source: &str, target: SocketAddr) -> Option<ErrorKind> {
    let source: IpAddr = source.parse().expect("an address");
    let socket = socket2::Socket::new(
        socket2::Domain::for_address(target),
        socket2::Type::STREAM,
        None,
    )
    .expect("a socket");
    socket
        .bind(&SocketAddr::new(source, 0).into())
        .expect("bound");
    socket
        .connect_timeout(&target.into(), Duration::from_secs(1))
        .err()
        .map(|error| error.kind())
}

fn two_addresses_of_each_family() {
    for address in ["10.9.0.1/32", "10.9.0.2/32", "fd00::1/128", "fd00::2/128"] {
        let mut command = vec!["ip", "addr", "add", address, "dev", "lo"];
        if address.contains(':') {
            command.push("nodad");
        }
        run(&command);
    }
}

#[test]
fn table_names_are_safe_to_type() {
    assert_eq!(
        table_name("orders-eu.1").expect("fits"),
        "tandem_orders_eu_1"
    );
    for bad in ["", "a b", "a;b", "\u{e9}", &"x".repeat(65)] {
        assert_eq!(
            table_name(bad).expect_err(bad).kind(),
            ErrorKind::InvalidInput,
            "{bad}"
        );
    }
}

#[test]
fn a_closed_front_resets_new_and_old_clients_and_opens_again() {
    in_namespace(
        "a_closed_front_resets_new_and_old_clients_and_opens_again",
        async || {
            two_addresses_of_each_family();
            let mut gate = Gate::install("orders", &[], &[]).expect("installed");
            for (source, host) in [("10.9.0.2", "10.9.0.1"), ("fd00::2", "fd00::1")] {
                let listener = TcpListener::bind((host, 0)).expect("a listener");
                let front = listener.local_addr().expect("bound");
                let mut old = TcpStream::connect(front).expect("open");
                let closure = Closure::Front(front);
                gate.close(closure).expect("closed");
                gate.close(closure).expect("closing twice is no error");
                assert_eq!(
                    refusal(source, front),
                    Some(ErrorKind::ConnectionRefused),
                    "{front}"
                );
                old.write_all(b"PING\r\n").expect("sent");
                assert_eq!(
                    old.read(&mut [0]).expect_err("reset").kind(),
                    ErrorKind::ConnectionReset,
                    "{front}"
                );
                assert!(gate.open(closure).expect("opened"));
                assert!(!gate.open(closure).expect("opening twice is no error"));
                assert_eq!(refusal(source, front), None, "{front}");
            }
            gate.remove().expect("removed");
            assert_eq!(output(&["nft", "list", "tables"]), "");
        },
    );
}

#[test]
fn a_closed_server_lets_only_the_exempt_through() {
    in_namespace("a_closed_server_lets_only_the_exempt_through", async || {
        two_addresses_of_each_family();
        for (exempt, other, host) in [
            ("10.9.0.2", "10.9.0.1", "10.9.0.1"),
            ("fd00::2", "fd00::1", "fd00::1"),
        ] {
            let listener = TcpListener::bind((host, 0)).expect("a listener");
            let server = listener.local_addr().expect("bound");
            let exemption = Exemption {
                source: exempt.parse().expect("an address"),
                server,
            };
            Gate::install("orders", &[Closure::Server(server)], &[exemption]).expect("installed");
            assert_eq!(refusal(exempt, server), None);
            assert_eq!(refusal(other, server), Some(ErrorKind::ConnectionRefused));
        }
        let mixed = Exemption {
            source: [10, 9, 0, 2].into(),
            server: endpoint("[fd00::1]:6379"),
        };
        let refused = Gate::install("orders", &[], &[mixed]).expect_err("mixed families");
        assert_eq!(refused.kind(), ErrorKind::InvalidInput);
    });
}

#[test]
fn installing_replaces_what_an_earlier_process_left() {
    in_namespace(
        "installing_replaces_what_an_earlier_process_left",
        async || {
            let front = endpoint("10.9.0.1:6379");
            drop(Gate::install("orders", &[Closure::Front(front)], &[]).expect("installed"));
            run(&["nft", "add", "table", "inet", "foreign"]);
            let listed = output(&["nft", "list", "ruleset"]);
            assert!(
                listed.contains("10.9.0.1 . 6379") && listed.contains("table inet foreign"),
                "{listed}"
            );
            let mut gate = Gate::install("orders", &[], &[]).expect("replaced");
            assert!(!output(&["nft", "list", "ruleset"]).contains("10.9.0.1 . 6379"));
            run(&["nft", "flush", "ruleset"]);
            let gone = gate
                .close(Closure::Front(front))
                .expect_err("someone removed the table");
            assert_eq!(gone.raw_os_error(), Some(libc::ENOENT));
            gate.remove().expect("gone is removed");
        },
    );
}
