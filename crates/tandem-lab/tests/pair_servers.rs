//! The core of the promises on the other servers: the oldest Redis that tandem manages, and Valkey.

#![allow(clippy::unwrap_used, reason = "a helper fails as its test does")]

mod common;

use common::{BOUND, EVERY, FAR, Rig, with};
use std::time::Duration;
use tandem_lab::arrangement::{Arrangement, CLIENT, Fault, Side};
use tandem_lab::server::{Flavour, Settings};
use tandem_lab::{can_run, poll, skip};

fn kill_freeze_switchover_and_archive(test: &str, flavour: Flavour) {
    if !can_run(test) {
        return;
    }
    if let Err(reason) = flavour.find() {
        skip(test, &reason.to_string());
        return;
    }
    let settings = Settings {
        flavour,
        ..Settings::default()
    };
    let mut rig = Rig::start_of(with(settings));
    let client = rig.client();
    let mut primary = Side::A;
    for fault in [Fault::KillServer, Fault::FreezeServer, Fault::Switchover] {
        let injection = rig.inject(fault).unwrap();
        rig.moved(&client, injection, &format!("{} {fault}", flavour.name()));
        primary = primary.other();
        assert_eq!(rig.settle(BOUND).unwrap(), primary);
    }
    rig.nothing_missing(&client.stop().unwrap(), primary);

    let near = rig.client_on(CLIENT, "near", Duration::from_millis(1));
    let far = rig.client_on(FAR, "far", Duration::from_millis(4));
    rig.inject(Fault::CutBothUsed).unwrap();
    let before = far.record().acknowledged().len();
    let side = primary.other();
    poll::until("both sides to be written to", BOUND, EVERY, || {
        let written = far.record().acknowledged().len();
        let enough = written >= before + 200;
        Ok(if enough {
            Ok(())
        } else {
            Err(format!("{written}"))
        })
    })
    .unwrap();
    assert_eq!(rig.settle(BOUND).unwrap(), primary);
    let archived = rig.archived_sets(side);
    for client in [near, far] {
        let record = client.stop().unwrap();
        let mut server = rig.pair().server(primary).connect().unwrap();
        for number in record.missing(&mut server).unwrap() {
            assert!(archived.contains(&record.key(number)), "{number} is gone");
        }
    }
    assert!(!archived.is_empty());
}

#[test]
fn redis_6_2_is_managed() {
    kill_freeze_switchover_and_archive("redis_6_2_is_managed", Flavour::Redis62);
}

#[test]
fn valkey_9_1_is_managed() {
    kill_freeze_switchover_and_archive("valkey_9_1_is_managed", Flavour::Valkey91);
}
