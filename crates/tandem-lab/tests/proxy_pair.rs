//! A proxy on a third host before a pair: clients keep their address and their connection while the primary moves.

#![allow(clippy::unwrap_used)] // A panic in a test is its report.

mod common;
#[path = "proxy_common/third.rs"]
mod third;

use std::net::SocketAddr;

use common::{BOUND, Rig};
use tandem_lab::arrangement::{Arrangement, CLIENT, Fault, Side};
use tandem_lab::can_run;
use tandem_lab::proxy::tagged::{Settings as Load, Workload};
use tandem_lab::resp::{Connection, Reply, encode};
use third::{UNKNOWN, proxy};

fn connect(rig: &Rig, to: SocketAddr) -> Connection {
    third::connect(rig, to, &["GET", "nothing"])
}

/// Writes and reads key after key until `enough` says so of a write that was acknowledged; all acknowledged keys.
fn write_and_read(
    client: &mut Connection,
    from: u32,
    mut enough: impl FnMut(u32) -> bool,
) -> Vec<u32> {
    let mut acknowledged = Vec::new();
    for number in from.. {
        let (key, value) = (format!("key:{number}"), number.to_string());
        match client.call(&["SET", &key, &value]).unwrap() {
            Reply::Error(text) => assert!(text.starts_with(UNKNOWN), "a write: {text}"),
            reply => {
                assert_eq!(reply.text().as_deref(), Some("OK"));
                let read = client.demand(&["GET", &key]).unwrap();
                assert_eq!(read.text(), Some(value), "a read after its write");
                acknowledged.push(number);
                if enough(number) {
                    return acknowledged;
                }
            }
        }
    }
    unreachable!("numbers do not end before it is enough")
}

#[test]
fn a_killed_primary_costs_clients_of_the_proxy_no_connection_and_no_read() {
    if !can_run("a_killed_primary_costs_clients_of_the_proxy_no_connection_and_no_read") {
        return;
    }
    let mut rig = Rig::started();
    let (_proxy, at) = proxy(&rig, 2, "");
    let mut client = connect(&rig, at);
    let mut kept = write_and_read(&mut client, 0, |number| number >= 200);

    rig.inject(Fault::KillServer).unwrap();
    // On the connection that it had all along.
    let mut after = 0;
    kept.extend(write_and_read(&mut client, 1000, |_| {
        after += 1;
        after == 200
    }));
    let mut promoted = rig.pair().server(Side::B).connect().unwrap();
    for number in kept {
        let value = promoted.demand(&["GET", &format!("key:{number}")]);
        assert_eq!(value.unwrap().text(), Some(number.to_string()));
    }
}

#[test]
fn a_switchover_is_noticed_by_no_client_of_the_proxy() {
    if !can_run("a_switchover_is_noticed_by_no_client_of_the_proxy") {
        return;
    }
    let mut rig = Rig::started();
    let (_proxy, at) = proxy(&rig, 2, "");
    let mut client = connect(&rig, at);
    // Several threads, each with a listener and one who blocks.
    let mut listeners: Vec<Connection> = (0..6).map(|_| connect(&rig, at)).collect();
    for listener in &mut listeners {
        let said = listener.call(&["SUBSCRIBE", "news"]).unwrap();
        assert!(matches!(said, Reply::Array(_)), "{said:?}");
    }
    let mut blocked: Vec<Connection> = (0..4).map(|_| connect(&rig, at)).collect();
    for (number, one) in blocked.iter_mut().enumerate() {
        let queue = format!("queue:{number}");
        one.send(&encode(&["BLPOP", &queue, "0"])).unwrap();
    }
    let load = Load {
        clients: 50,
        depth: 1,
        name: "switchover-".to_owned(),
        ..Load::default()
    };
    let workload = Workload::start(rig.pair().lab().host(CLIENT), at, &load).unwrap();
    workload.wait_for_each(50, BOUND).unwrap();
    let published = |client: &mut Connection, number: u32| {
        let heard = client.demand(&["PUBLISH", "news", &number.to_string()]);
        assert_eq!(heard.unwrap(), Reply::Integer(6), "all who listen hear it");
    };
    published(&mut client, 0);

    rig.inject(Fault::Switchover).unwrap();
    workload.wait_for_each(50, BOUND).unwrap();
    published(&mut client, 1);
    let report = workload.stop().unwrap();
    assert_eq!(report.failure_count(), 0, "{:?}", report.failures);
    // Nothing that was written before the switchover was lost by it.
    let waited = client.demand(&["WAIT", "1", "20000"]).unwrap();
    assert_eq!(waited, Reply::Integer(1));

    for (number, one) in blocked.iter_mut().enumerate() {
        let queue = format!("queue:{number}");
        client.demand(&["RPUSH", &queue, "x"]).unwrap();
        let popped = one.read().unwrap();
        assert!(matches!(popped, Reply::Array(_)), "{popped:?}");
    }
    for listener in &mut listeners {
        for number in ["0", "1"] {
            let Reply::Array(message) = listener.read().unwrap() else {
                panic!("a message");
            };
            assert_eq!(
                message[2].text().as_deref(),
                Some(number),
                "each once, in order"
            );
        }
    }
}
