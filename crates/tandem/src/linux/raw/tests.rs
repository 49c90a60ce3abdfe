use std::time::Duration;

use super::super::addr::Addresses;
use super::super::testing::{in_namespace, run, veth_pair};
use super::receive::Datagram;
use super::send::ipv4_header;
use super::*;

/// Two ends of a wire in one namespace. IPv4 packets between local addresses would take the loopback, but these are
/// bound to their interfaces; the receiving end must accept a source that is also its own address.
fn wire(addresses: [&str; 2]) -> [NonZeroU32; 2] {
    veth_pair("v0", "v1");
    for (name, address) in ["v0", "v1"].into_iter().zip(addresses) {
        let mut command = vec!["ip", "addr", "add", address, "dev", name];
        if address.contains(':') {
            command.push("nodad");
        }
        run(&command);
    }
    let mut netlink = Addresses::open().expect("netlink");
    ["v0", "v1"].map(|name| {
        netlink
            .link(name)
            .expect("links")
            .expect("made above")
            .index
    })
}

fn endpoint(name: &str, index: NonZeroU32, source: &str, mode: Mode, carrier: Carrier) -> Endpoint {
    let source = source.parse().expect("an address");
    Endpoint {
        interface: name.to_owned(),
        interface_index: index,
        source,
        mode,
        carrier,
    }
}

async fn receive(receiver: &mut Receiver) -> Datagram<'_> {
    tokio::time::timeout(Duration::from_secs(5), receiver.receive())
        .await
        .expect("in time")
        .expect("a packet")
}

#[test]
fn the_header_is_keepaliveds() {
    let header = ipv4_header(
        Carrier::Vrrp,
        [10, 99, 0, 1].into(),
        [224, 0, 0, 18].into(),
        1,
        255,
        20,
    );
    assert_eq!(
        header,
        [
            0x45, 0xc0, 0, 40, 0, 1, 0, 0, 255, 112, 0, 0, 10, 99, 0, 1, 224, 0, 0, 18
        ]
    );
}

#[test]
fn ipv4_multicast_crosses_the_wire_with_ttl_and_addresses() {
    in_namespace(
        "ipv4_multicast_crosses_the_wire_with_ttl_and_addresses",
        async || {
            let [left, right] = wire(["10.9.0.1/24", "10.9.1.2/24"]);
            run(&[
                "sysctl",
                "-qw",
                "net.ipv4.conf.v1.accept_local=1",
                "net.ipv4.conf.all.rp_filter=0",
            ]);
            run(&["sysctl", "-qw", "net.ipv4.conf.v1.rp_filter=0"]);
            let group: IpAddr = [224, 0, 0, 18].into();
            for carrier in [Carrier::Vrrp, Carrier::AuthenticationHeader] {
                let mode = Mode::Multicast(group);
                let sender = Sender::open(&endpoint("v0", left, "10.9.0.1", mode, carrier))
                    .expect("a sender");
                let mut receiver =
                    Receiver::open(&endpoint("v1", right, "10.9.1.2", mode, carrier))
                        .expect("a receiver");
                sender
                    .send_with_ttl(b"a routed one", group, 6, 7)
                    .expect("sent");
                assert_eq!(receive(&mut receiver).await.ttl, 7);
                sender.send(b"an advert", group, 7).expect("sent");
                let datagram = receive(&mut receiver).await;
                assert_eq!((datagram.payload, datagram.ttl), (&b"an advert"[..], 255));
                assert_eq!(
                    (datagram.source, datagram.destination),
                    ([10, 9, 0, 1].into(), group)
                );
                assert_eq!(
                    datagram.header[..10],
                    [0x45, 0xc0, 0, 29, 0, 7, 0, 0, 255, carrier.number()]
                );
                assert!(datagram.queued.is_some());
            }
        },
    );
}

#[test]
fn ipv6_multicast_crosses_the_wire_with_a_checksum() {
    in_namespace(
        "ipv6_multicast_crosses_the_wire_with_a_checksum",
        async || {
            let [left, right] = wire(["fe80::1/64", "fe80::2/64"]);
            let group: IpAddr = "ff02::12".parse().expect("an address");
            let mode = Mode::Multicast(group);
            let sender = Sender::open(&endpoint("v0", left, "fe80::1", mode, Carrier::Vrrp))
                .expect("a sender");
            let mut receiver =
                Receiver::open(&endpoint("v1", right, "fe80::2", mode, Carrier::Vrrp))
                    .expect("a receiver");
            let message = [0x31, 51, 150, 1, 0, 100, 0, 0, 1, 2, 3, 4];
            sender.send(&message, group, 0).expect("sent");
            let datagram = receive(&mut receiver).await;
            assert_eq!(
                (datagram.payload[..6].as_ref(), &datagram.payload[8..]),
                (&message[..6], &message[8..])
            );
            assert_ne!(datagram.payload[6..8], [0, 0], "filled in by the kernel");
            assert_eq!(datagram.ttl, 255);
            assert_eq!(
                datagram.source,
                "fe80::1".parse::<IpAddr>().expect("an address")
            );
            assert_eq!(datagram.destination, group);
        },
    );
}

#[test]
fn a_unicast_receiver_does_not_hear_the_group() {
    in_namespace("a_unicast_receiver_does_not_hear_the_group", async || {
        let [left, right] = wire(["fe80::1/64", "fe80::2/64"]);
        let group: IpAddr = "ff02::12".parse().expect("an address");
        let ours: IpAddr = "fe80::2".parse().expect("an address");
        let grouped = Mode::Multicast(group);
        let to_group = Sender::open(&endpoint("v0", left, "fe80::1", grouped, Carrier::Vrrp))
            .expect("a sender");
        let to_us = Sender::open(&endpoint(
            "v0",
            left,
            "fe80::1",
            Mode::Unicast,
            Carrier::Vrrp,
        ))
        .expect("a sender");
        let unicast = endpoint("v1", right, "fe80::2", Mode::Unicast, Carrier::Vrrp);
        let mut receiver = Receiver::open(&unicast).expect("a receiver");
        to_group.send(&[1; 8], group, 0).expect("sent");
        to_us.send_with_ttl(&[2; 8], ours, 0, 64).expect("sent");
        let datagram = receive(&mut receiver).await;
        assert_eq!((datagram.payload[0], datagram.destination), (2, ours));
        assert_eq!(datagram.ttl, 64, "of this packet alone");
        to_us.send(&[3; 8], ours, 0).expect("sent");
        assert_eq!(receive(&mut receiver).await.ttl, 255);
    });
}

#[test]
fn after_an_interface_came_back_new_sockets_hear_again() {
    in_namespace(
        "after_an_interface_came_back_new_sockets_hear_again",
        async || {
            let group: IpAddr = "ff02::12".parse().expect("an address");
            let mode = Mode::Multicast(group);
            for _ in 0..2 {
                let [left, right] = wire(["fe80::1/64", "fe80::2/64"]);
                let sender = Sender::open(&endpoint("v0", left, "fe80::1", mode, Carrier::Vrrp))
                    .expect("a sender");
                let mut receiver =
                    Receiver::open(&endpoint("v1", right, "fe80::2", mode, Carrier::Vrrp))
                        .expect("a receiver");
                sender.send(&[3; 8], group, 0).expect("sent");
                assert_eq!(receive(&mut receiver).await.payload[0], 3);
                run(&["ip", "link", "del", "v0"]);
                sender.send(&[3; 8], group, 0).expect_err("no interface");
            }
        },
    );
}

#[test]
fn what_does_not_go_together_is_refused() {
    let index = NonZeroU32::MIN;
    let group = |text: &str| Mode::Multicast(text.parse().expect("an address"));
    for (source, mode, carrier) in [
        ("10.9.0.1", group("ff02::12"), Carrier::Vrrp),
        ("10.9.0.1", group("10.9.0.2"), Carrier::Vrrp),
        ("fe80::1", group("ff02::12"), Carrier::AuthenticationHeader),
    ] {
        let error =
            Sender::open(&endpoint("lo", index, source, mode, carrier)).expect_err("incoherent");
        assert_eq!(
            error.kind(),
            io::ErrorKind::InvalidInput,
            "{source} {mode:?}"
        );
    }
}
