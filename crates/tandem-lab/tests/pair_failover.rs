//! The everyday faults on a tandem pair of real servers: nothing acknowledged is missing, and what was repaired comes
//! back by itself.

#![allow(clippy::unwrap_used, reason = "a helper fails as its test does")]

mod common;

use std::time::Duration;

use common::{BOUND, EVERY, Rig, never_two_writable};
use tandem_lab::arrangement::{Arrangement, Fault, Side, VIP, Watch};
use tandem_lab::resp::{Connection, encode};
use tandem_lab::{can_run, poll};

#[test]
fn a_killed_server_is_replaced_and_returns_as_a_replica_in_both_directions() {
    if !can_run("a_killed_server_is_replaced_and_returns_as_a_replica_in_both_directions") {
        return;
    }
    let mut rig = Rig::started();
    let client = rig.client();
    for (old, new) in [(Side::A, Side::B), (Side::B, Side::A)] {
        let before = rig.epoch(new);
        let injection = rig.inject(Fault::KillServer).unwrap();
        assert_eq!(injection.primary, old);
        rig.moved(&client, injection, "kill -9 of the server");
        assert!(rig.epoch(new) > before);
        rig.nothing_missing(&client.record(), new);
        rig.wait_until_without_vip(old);
        assert_eq!(rig.settle(BOUND).unwrap(), new);
        rig.nothing_missing(&client.record(), new);
    }
    let record = client.stop().unwrap();
    for side in Side::BOTH {
        rig.pair().server(side).connect().unwrap();
    }
    rig.nothing_missing(&record, Side::A);
}

#[test]
fn a_frozen_server_is_replaced_and_what_it_does_on_thaw_is_archived() {
    if !can_run("a_frozen_server_is_replaced_and_what_it_does_on_thaw_is_archived") {
        return;
    }
    let mut rig = Rig::started();
    let client = rig.client();
    let watch = Watch::start(rig.pair()).unwrap();
    // On the server's own host no front stands between: what is sent there waits in the frozen server's socket.
    let loopback = ([127, 0, 0, 1], rig.pair().vip().port()).into();
    let mut direct =
        Connection::open(rig.pair().host(Side::A), loopback, Duration::from_secs(5)).unwrap();
    let injection = rig.inject(Fault::FreezeServer).unwrap();
    direct
        .send(&encode(&[
            "SET",
            "queued:1",
            "in the frozen server's socket",
        ]))
        .unwrap();
    rig.moved(&client, injection, "SIGSTOP of the server");
    rig.wait_until_without_vip(Side::A);
    assert_eq!(rig.settle(BOUND).unwrap(), Side::B);
    never_two_writable(watch);
    let record = client.stop().unwrap();
    rig.nothing_missing(&record, Side::B);
    assert_eq!(rig.get(Side::B, "queued:1"), None);
    assert_eq!(rig.get(Side::A, "queued:1"), None);
    assert!(rig.archived_sets(Side::A).contains("queued:1"));
}

#[test]
fn a_host_without_power_is_replaced_and_returns_as_a_replica() {
    if !can_run("a_host_without_power_is_replaced_and_returns_as_a_replica") {
        return;
    }
    let mut rig = Rig::started();
    let client = rig.client();
    let injection = rig.inject(Fault::PowerOff).unwrap();
    rig.moved(&client, injection, "power-off");
    assert_eq!(rig.settle(BOUND).unwrap(), Side::B);
    let record = client.stop().unwrap();
    // What the dead host had acknowledged and its kernel had not sent died with it; the lab's power-off silences the
    // wire first, so this is at most what was in flight.
    let mut survivor = rig.pair().server(Side::B).connect().unwrap();
    let missing = record.missing(&mut survivor).unwrap();
    println!(
        "power-off: {} acknowledged writes were in flight",
        missing.len()
    );
    assert!(missing.len() < 20, "{missing:?}");
}

#[test]
fn a_switchover_loses_nothing_and_resyncs_partially() {
    if !can_run("a_switchover_loses_nothing_and_resyncs_partially") {
        return;
    }
    let mut rig = Rig::started();
    let client = rig.client();
    for (old, new) in [(Side::A, Side::B), (Side::B, Side::A)] {
        let full = rig.count(new, "sync_full");
        let partial = rig.count(new, "sync_partial_ok");
        let injection = rig.inject(Fault::Switchover).unwrap();
        rig.moved(&client, injection, "switchover");
        assert_eq!(rig.settle(BOUND).unwrap(), new);
        assert_eq!(rig.count(new, "sync_full"), full, "full resync of {old:?}");
        assert_eq!(rig.count(new, "sync_partial_ok"), partial + 1);
    }
    let record = client.stop().unwrap();
    rig.nothing_missing(&record, Side::A);
    rig.nothing_missing(&record, Side::B);
    // A client meets its connection's end and the moment in which nobody has the address, never a refusal to write.
    for kind in record.errors().keys() {
        let known = [
            "reply: reset",
            "reply: closed",
            "connect: refused",
            "connect: reset",
        ];
        assert!(known.contains(&kind.as_str()), "{:?}", record.errors());
    }
}

#[test]
fn term_is_a_switchover_and_the_daemon_that_left_comes_back_as_a_replica() {
    if !can_run("term_is_a_switchover_and_the_daemon_that_left_comes_back_as_a_replica") {
        return;
    }
    let mut rig = Rig::started();
    let client = rig.client();
    let mut daemon = rig.pair_mut().daemons_mut(Side::A).remove(0);
    let status = daemon.terminate(BOUND).unwrap();
    assert!(status.success(), "{status}");
    poll::until("B to be primary", BOUND, EVERY, || rig.primary()).unwrap();
    assert_eq!(rig.primary().unwrap(), Ok(Side::B));
    assert!(!rig.pair().host(Side::A).has_address(VIP).unwrap());
    assert_eq!(rig.pair().replicates(Side::A), Ok(()));
    rig.start_daemons(Side::A).unwrap();
    assert_eq!(rig.wait_until_well(BOUND).unwrap(), Side::B);
    rig.nothing_missing(&client.stop().unwrap(), Side::B);
}

#[test]
fn an_address_that_somebody_else_removed_is_put_back() {
    if !can_run("an_address_that_somebody_else_removed_is_put_back") {
        return;
    }
    let mut rig = Rig::started();
    let client = rig.client();
    let epoch = rig.epoch(Side::A);
    for length in ["32", "24"] {
        // Whatever its prefix length is, it is removed by the one that fits.
        let address = format!("{VIP}/{length}");
        let _ = rig
            .pair()
            .host(Side::A)
            .run("ip", &["addr", "del", &address, "dev", "eth0"]);
    }
    poll::until("the VIP to be back", BOUND, EVERY, || rig.primary()).unwrap();
    let since = std::time::Instant::now();
    client
        .wait_until_steady(since, common::STEADY, BOUND)
        .unwrap();
    assert_eq!(rig.primary().unwrap(), Ok(Side::A));
    assert_eq!(rig.epoch(Side::A), epoch);
    rig.nothing_missing(&client.stop().unwrap(), Side::A);
    let log = std::fs::read_to_string(rig.pair().host(Side::A).dir().join("tandem.log")).unwrap();
    assert!(
        log.contains("removed by somebody else"),
        "it was not removed at all"
    );
}

#[test]
fn failovers_alternate_without_a_hand() {
    if !can_run("failovers_alternate_without_a_hand") {
        return;
    }
    let mut rig = Rig::started();
    let client = rig.client();
    let mut primary = Side::A;
    for round in 0..10 {
        let fault = [Fault::KillServer, Fault::Switchover, Fault::FreezeServer][round % 3];
        let injection = rig.inject(fault).unwrap();
        assert_eq!(injection.primary, primary);
        rig.moved(&client, injection, &format!("round {round}, {fault}"));
        primary = primary.other();
        assert_eq!(rig.settle(BOUND).unwrap(), primary);
    }
    rig.nothing_missing(&client.stop().unwrap(), primary);
}
