//! Clients that know Redis Sentinel against a pair: they find the primary at either daemon, and follow it.

#![allow(clippy::unwrap_used, reason = "a helper fails as its test does")]

mod common;

use std::process::Command;
use std::time::Duration;

use common::{BOUND, EVERY, Rig, plain};
use redis::sentinel::{SentinelClient, SentinelServerType};
use tandem_lab::arrangement::{Arrangement, CLIENT, Fault, Side};
use tandem_lab::{can_run, poll};

/// The daemons' port.
const PORT: &str = "26379";

/// What a daemon answers to redis-cli on the clients' host, words in one line.
fn ask(rig: &Rig, side: Side, words: &[&str]) -> String {
    let daemon = rig.pair().host(side).address().to_string();
    let args = [&["-h", &daemon, "-p", PORT], words].concat();
    let host = rig.pair().lab().host(CLIENT);
    let said = host.run("redis-cli", &args).unwrap();
    said.split_whitespace().collect::<Vec<_>>().join(" ")
}

fn named(rig: &Rig, side: Side) -> String {
    named_of(rig, side, "orders")
}

/// The address as a directory shows it.
fn shown(address: std::net::SocketAddr) -> String {
    format!("{} {}", address.ip(), address.port())
}

fn both_name(rig: &Rig, address: std::net::SocketAddr) {
    for side in Side::BOTH {
        poll::until("the primary to be named", BOUND, EVERY, || {
            let found = named(rig, side);
            Ok(if found == shown(address) {
                Ok(())
            } else {
                Err(format!("host {}: {found:?}", side.host()))
            })
        })
        .unwrap();
    }
}

/// A write by redis-rs over a connection that it makes for it.
fn write(rig: &Rig, client: &mut SentinelClient, number: u64) -> Result<(), String> {
    let work = || {
        let mut connection = client.get_connection()?;
        connection.set_write_timeout(Some(Duration::from_secs(1)))?;
        connection.set_read_timeout(Some(Duration::from_secs(1)))?;
        redis::cmd("SET")
            .arg(format!("directory:{number}"))
            .arg(number)
            .exec(&mut connection)
    };
    let host = rig.pair().lab().host(CLIENT);
    host.enter(work)
        .unwrap()
        .map_err(|error: redis::RedisError| error.to_string())
}

fn holds(rig: &Rig, side: Side, number: u64) -> bool {
    let mut connection = rig.pair().server(side).connect().unwrap();
    let value = connection.demand(&["GET", &format!("directory:{number}")]);
    value.unwrap().text() == Some(number.to_string())
}

/// Discovery, the death of the primary, and its successor. `told` says what clients are told while a side is primary.
fn clients_follow(mut rig: Rig, told: impl Fn(&Rig, Side) -> std::net::SocketAddr) {
    both_name(&rig, told(&rig, Side::A));
    let daemons = Side::BOTH.map(|side| rig.pair().host(side).address());
    let sentinels = daemons.map(|ip| format!("redis://{ip}:{PORT}")).to_vec();
    let kind = SentinelServerType::Master;
    let mut client = SentinelClient::build(sentinels, "orders".to_owned(), None, kind).unwrap();
    write(&rig, &mut client, 1).unwrap();
    assert!(holds(&rig, Side::A, 1));

    let mut subscribe = Command::new("redis-cli");
    subscribe.args(["-h", &daemons[1].to_string(), "-p", PORT]);
    subscribe.args(["SUBSCRIBE", "+switch-master"]);
    let host = rig.pair().lab().host(CLIENT);
    let listening = host.spawn("listening", &mut subscribe).unwrap();
    let heard = || std::fs::read_to_string(listening.log()).unwrap_or_default();
    poll::until("the subscription", BOUND, EVERY, || {
        Ok(if heard().contains("+switch-master") {
            Ok(())
        } else {
            Err(heard())
        })
    })
    .unwrap();

    let (old, new) = (told(&rig, Side::A), told(&rig, Side::B));
    rig.inject(Fault::KillServer).unwrap();
    both_name(&rig, new);
    let mut number = 1;
    poll::until("redis-rs to write again", BOUND, EVERY, || {
        number += 1;
        Ok(write(&rig, &mut client, number))
    })
    .unwrap();
    assert!(holds(&rig, Side::B, number));
    let switch = format!("orders {} {}", shown(old), shown(new));
    poll::until("the event", BOUND, EVERY, || {
        Ok(if heard().contains(&switch) {
            Ok(())
        } else {
            Err(format!("{switch:?} is not in {:?}", heard()))
        })
    })
    .unwrap();
}

#[test]
fn sentinel_clients_are_sent_to_the_vip_and_follow_it() {
    if !can_run("sentinel_clients_are_sent_to_the_vip_and_follow_it") {
        return;
    }
    clients_follow(Rig::started(), |rig, _| rig.pair().vip());
}

#[test]
fn sentinel_clients_are_sent_to_the_servers_where_the_file_says_so() {
    if !can_run("sentinel_clients_are_sent_to_the_servers_where_the_file_says_so") {
        return;
    }
    let pair = plain().host_line("directory   = \"servers\"");
    clients_follow(Rig::start_of(pair), |rig, side| {
        rig.pair().server_address(side)
    });
}

#[test]
fn either_daemon_describes_the_group_as_a_sentinel_does() {
    if !can_run("either_daemon_describes_the_group_as_a_sentinel_does") {
        return;
    }
    let rig = Rig::started();
    both_name(&rig, rig.pair().vip());
    let [a, b] = Side::BOTH.map(|side| rig.pair().server_address(side));
    let ids = Side::BOTH.map(|side| ask(&rig, side, &["SENTINEL", "MYID"]));
    for side in Side::BOTH {
        assert_eq!(named_of(&rig, side, "nobody"), "");
        assert_eq!(ask(&rig, side, &["ROLE"]), "sentinel orders");
        let info = ask(&rig, side, &["INFO"]);
        assert!(info.contains("redis_mode:sentinel"), "{info}");
        assert!(info.contains("name=orders,status=ok"), "{info}");
        let primary = ask(&rig, side, &["SENTINEL", "MASTER", "orders"]);
        assert!(primary.contains("flags master "), "{primary}");
        let replicas = ask(&rig, side, &["SENTINEL", "REPLICAS", "orders"]);
        assert!(replicas.contains(&format!("name {b} ")), "{replicas}");
        assert!(replicas.contains("flags slave "), "{replicas}");
        assert!(replicas.contains("master-link-status ok"), "{replicas}");
        assert!(
            replicas.contains(&format!("master-host {}", a.ip())),
            "{replicas}"
        );
        let other = match side {
            Side::A => &ids[1],
            Side::B => &ids[0],
        };
        let sentinels = ask(&rig, side, &["SENTINEL", "SENTINELS", "orders"]);
        assert!(sentinels.contains(other.as_str()), "{sentinels}");
        let quorum = ask(&rig, side, &["SENTINEL", "CKQUORUM", "orders"]);
        assert!(quorum.starts_with("OK 2 usable"), "{quorum}");
        let refused = ask(&rig, side, &["PUBLISH", "+switch-master", "x"]);
        assert!(refused.contains("discovery only"), "{refused}");
    }
}

fn named_of(rig: &Rig, side: Side, group: &str) -> String {
    ask(rig, side, &["SENTINEL", "get-master-addr-by-name", group])
}
