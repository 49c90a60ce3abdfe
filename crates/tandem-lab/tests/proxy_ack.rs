//! `ack = 1` before a pair: nothing that a client was told is lost with the primary, and nothing is told that only the
//! primary has. `read = "replica"`: reads leave the primary, and show what their client wrote.

#![allow(clippy::unwrap_used)] // A panic in a test is its report.

mod common;
#[path = "proxy_common/third.rs"]
mod third;

use std::net::SocketAddr;
use std::time::Duration;

use common::{BOUND, EVERY, Rig, with};
use tandem_lab::arrangement::{Arrangement, CLIENT, Fault, Side};
use tandem_lab::client::{Client, Settings as ClientSettings, Target};
use tandem_lab::resp::{Connection, Reply};
use tandem_lab::server::{Flavour, Settings};
use tandem_lab::{can_run, poll};
use third::{UNKNOWN, proxy};

/// Clients that write at once.
const WRITERS: usize = 8;

fn connect(rig: &Rig, to: SocketAddr) -> Connection {
    third::connect(rig, to, &["SET", "first", "1"])
}

fn is_ok(reply: &Reply) -> bool {
    reply.text().as_deref() == Some("OK")
}

#[test]
fn with_a_frozen_replica_no_write_is_answered_ok() {
    if !can_run("with_a_frozen_replica_no_write_is_answered_ok") {
        return;
    }
    for flavour in Flavour::ALL {
        if let Err(why) = flavour.find() {
            let test = "with_a_frozen_replica_no_write_is_answered_ok";
            tandem_lab::skip(&format!("{test}, {}", flavour.name()), &why.to_string());
            continue;
        }
        let rig = Rig::start_of(with(Settings {
            flavour,
            ..Settings::default()
        }));
        let (_proxy, at) = proxy(&rig, 2, "ack = 1");
        let mut client = connect(&rig, at);
        for number in 0..100 {
            let reply = client.call(&["SET", &format!("k{number}"), "v"]).unwrap();
            assert!(is_ok(&reply), "{flavour:?}: {reply:?}");
        }
        let replica = rig.pair().server(Side::B).process();
        replica.freeze();
        let first = client.call(&["SET", "k", "1"]).unwrap();
        let told = matches!(&first, Reply::Error(text) if text.starts_with(UNKNOWN));
        assert!(told, "{flavour:?}: {first:?}");
        for _ in 0..20 {
            let next = client.call(&["INCR", "n"]).unwrap();
            let refused = matches!(&next, Reply::Error(text) if text.starts_with("NOREPLICAS "));
            assert!(refused, "{flavour:?}: {next:?}");
        }
        // Nothing of the refused ones was sent; reads go on.
        assert_eq!(client.call(&["GET", "n"]).unwrap(), Reply::Bulk(None));
        replica.thaw();
        poll::until("writes to be acknowledged again", BOUND, EVERY, || {
            let reply = client.call(&["SET", "k", "2"])?;
            Ok(if is_ok(&reply) {
                Ok(())
            } else {
                Err(format!("{reply:?}"))
            })
        })
        .unwrap();
    }
}

/// Clients write while the primary is lost; what they were told is on the other one.
fn nothing_told_is_lost(name: &str, fault: Fault) {
    if !can_run(name) {
        return;
    }
    let mut rig = Rig::started();
    let (_proxy, at) = proxy(&rig, 2, "ack = 1");
    drop(connect(&rig, at));
    let writers: Vec<Client> = (0..WRITERS)
        .map(|number| {
            let settings = ClientSettings {
                key: format!("w{number}"),
                interval: Duration::from_millis(1),
                ..ClientSettings::patient(Target::Address(at))
            };
            Client::start(rig.pair().lab().host(CLIENT), settings).unwrap()
        })
        .collect();
    poll::until("writes to flow", BOUND, EVERY, || {
        let few = writers
            .iter()
            .map(|writer| writer.record().acknowledged().len())
            .min();
        Ok(if few >= Some(50) {
            Ok(())
        } else {
            Err(format!("{few:?}"))
        })
    })
    .unwrap();
    rig.inject(fault).unwrap();
    poll::until("the other one to be primary", BOUND, EVERY, || {
        Ok(if rig.pair().server(Side::B).is_primary()? {
            Ok(())
        } else {
            Err("not yet".to_owned())
        })
    })
    .unwrap();
    // Everybody has heard what became of the write that was under way.
    poll::until("the new primary to be alone", BOUND, EVERY, || {
        let all = |record: &tandem_lab::client::Record| record.errors().contains_key("NOREPLICAS");
        let heard = writers.iter().filter(|it| all(&it.record())).count();
        Ok(if heard == WRITERS {
            Ok(())
        } else {
            Err(format!("{heard} have"))
        })
    })
    .unwrap();
    let mut told = 0;
    for writer in writers {
        let record = writer.stop().unwrap();
        told += record.acknowledged().len();
        rig.nothing_missing(&record, Side::B);
    }
    println!("{fault}: {told} writes were acknowledged, none is missing");
}

#[test]
fn a_killed_primary_takes_no_acknowledged_write_with_it() {
    nothing_told_is_lost(
        "a_killed_primary_takes_no_acknowledged_write_with_it",
        Fault::KillServer,
    );
}

#[test]
fn a_frozen_primary_takes_no_acknowledged_write_with_it() {
    nothing_told_is_lost(
        "a_frozen_primary_takes_no_acknowledged_write_with_it",
        Fault::FreezeServer,
    );
}

#[test]
fn a_host_without_power_takes_no_acknowledged_write_with_it() {
    nothing_told_is_lost(
        "a_host_without_power_takes_no_acknowledged_write_with_it",
        Fault::PowerOff,
    );
}

#[test]
fn reads_leave_the_primary_and_show_what_their_client_wrote() {
    if !can_run("reads_leave_the_primary_and_show_what_their_client_wrote") {
        return;
    }
    let rig = Rig::started();
    let (_proxy, at) = proxy(&rig, 2, "read = \"replica\"");
    let mut client = connect(&rig, at);
    let gets = |side| {
        let stats = rig.redis(side, &["INFO", "commandstats"]).text().unwrap();
        let line = stats.lines().find(|line| line.starts_with("cmdstat_get:"));
        let calls = line.and_then(|line| line.split(['=', ',']).nth(1));
        calls.map_or(0, |calls| calls.parse::<u64>().unwrap())
    };
    for number in 0..300u32 {
        let value = number.to_string();
        client.demand(&["SET", "mine", &value]).unwrap();
        for _ in 0..number % 7 {
            assert_eq!(
                client.demand(&["GET", "mine"]).unwrap().text(),
                Some(value.clone())
            );
        }
    }
    // Without a write it goes to the replica, and stays there.
    poll::until("reads at the replica", BOUND, EVERY, || {
        let (before, elsewhere) = (gets(Side::B), gets(Side::A));
        for _ in 0..50 {
            client.demand(&["GET", "mine"])?;
        }
        let all = gets(Side::B) == before + 50 && gets(Side::A) == elsewhere;
        Ok(if all {
            Ok(())
        } else {
            Err("not all of them".to_owned())
        })
    })
    .unwrap();
    rig.pair().server(Side::B).process().kill();
    let read = client.demand(&["GET", "mine"]).unwrap();
    assert_eq!(read.text(), Some("299".to_owned()), "the primary has it");
}
