//! The daemon's own death, freeze and restart, and adverts that are filtered on the way: faults of the watcher, not of
//! what it watches.

#![allow(clippy::unwrap_used, reason = "a helper fails as its test does")]

mod common;

use std::time::{Duration, Instant};

use common::{BOUND, EVERY, Rig, STEADY, never_two_writable, plain};
use tandem_lab::arrangement::{Arrangement, Fault, Side, VIP, Watch};
use tandem_lab::{can_run, poll};

/// Longer than Master_Down at the lab's settings, several times over: time in which something could move that must not.
const LOOK: Duration = Duration::from_secs(2);

#[test]
fn a_killed_daemon_leaves_no_second_writer_and_no_address() {
    if !can_run("a_killed_daemon_leaves_no_second_writer_and_no_address") {
        return;
    }
    let mut rig = Rig::started();
    let client = rig.client();
    let watch = Watch::start(rig.pair()).unwrap();
    rig.inject(Fault::KillDaemon).unwrap();
    // Nobody renews the address on the old host any more; its lifetime ends there by itself.
    rig.wait_until_without_vip(Side::A);
    poll::until("B to be primary", BOUND, EVERY, || rig.primary()).unwrap();
    assert_eq!(rig.primary().unwrap(), Ok(Side::B));
    client
        .wait_until_steady(Instant::now(), STEADY, BOUND)
        .unwrap();
    assert!(!rig.pair().server(Side::A).is_primary().unwrap());
    rig.nothing_missing(&client.record(), Side::B);
    assert_eq!(rig.settle(BOUND).unwrap(), Side::B);
    never_two_writable(watch);
    rig.nothing_missing(&client.stop().unwrap(), Side::B);
}

#[test]
fn a_frozen_daemon_leaves_no_second_writer_and_yields_when_it_wakes() {
    if !can_run("a_frozen_daemon_leaves_no_second_writer_and_yields_when_it_wakes") {
        return;
    }
    let mut rig = Rig::started();
    let client = rig.client();
    let watch = Watch::start(rig.pair()).unwrap();
    let injection = rig.inject(Fault::FreezeDaemon).unwrap();
    rig.wait_until_without_vip(Side::A);
    rig.moved(&client, injection, "SIGSTOP of the daemon");
    // Thawed, it must not touch the address nor its server before it has heard the peer.
    assert_eq!(rig.settle(BOUND).unwrap(), Side::B);
    assert!(!rig.pair().host(Side::A).has_address(VIP).unwrap());
    never_two_writable(watch);
    rig.nothing_missing(&client.stop().unwrap(), Side::B);
}

#[test]
fn a_daemon_restarted_in_time_resumes_its_role_in_the_same_epoch() {
    if !can_run("a_daemon_restarted_in_time_resumes_its_role_in_the_same_epoch") {
        return;
    }
    // Adverts each second make "in time" three seconds, which a busy machine keeps.
    let mut rig = Rig::start_of(plain().advert_interval("1s"));
    let client = rig.client();
    let epoch = rig.epoch(Side::A);
    let promotions = rig.events(Side::B, "+switch-master").len();
    rig.inject(Fault::KillDaemon).unwrap();
    assert_eq!(rig.settle(BOUND).unwrap(), Side::A);
    assert_eq!(rig.epoch(Side::A), epoch);
    assert_eq!(rig.events(Side::B, "+switch-master").len(), promotions);
    assert_eq!(rig.events(Side::A, "resumed").len(), 1);
    let record = client.stop().unwrap();
    assert_eq!(record.error_count(), 0, "{:?}", record.errors());
    rig.nothing_missing(&record, Side::A);
}

#[test]
fn the_standbys_daemon_may_die_and_return_without_a_trace() {
    if !can_run("the_standbys_daemon_may_die_and_return_without_a_trace") {
        return;
    }
    let mut rig = Rig::started();
    let client = rig.client();
    let epoch = rig.epoch(Side::A);
    rig.pair_mut().daemons_mut(Side::B)[0].kill();
    poll::until("the loss to be shown", BOUND, EVERY, || {
        let promise = rig.group(Side::A)["promise"].to_string();
        Ok(if promise.contains("NOT PROTECTED") {
            Ok(())
        } else {
            Err(promise)
        })
    })
    .unwrap();
    assert_eq!(rig.settle(BOUND).unwrap(), Side::A);
    assert_eq!(rig.epoch(Side::A), epoch);
    let record = client.stop().unwrap();
    assert_eq!(record.error_count(), 0, "{:?}", record.errors());
}

#[test]
fn filtered_adverts_move_nothing_and_the_cause_is_named() {
    if !can_run("filtered_adverts_move_nothing_and_the_cause_is_named") {
        return;
    }
    let mut rig = Rig::started();
    let client = rig.client();
    let watch = Watch::start(rig.pair()).unwrap();
    let epoch = rig.epoch(Side::A);
    rig.inject(Fault::FilterVrrp).unwrap();
    rig.wait_for_event(Side::B, "-failover-abort", "takeover.peer-link");
    let explain = rig.tandem(Side::B, "explain", &[]).unwrap();
    assert!(
        explain.contains("takeover.peer-link") && explain.contains("protocol 112"),
        "{explain}"
    );
    std::thread::sleep(LOOK);
    assert_eq!(rig.primary().unwrap(), Ok(Side::A));
    assert_eq!(rig.settle(BOUND).unwrap(), Side::A);
    assert_eq!(rig.epoch(Side::A), epoch);
    let overlap = watch.stop().unwrap();
    assert!(
        overlap.primaries.is_zero() && overlap.vips.is_zero(),
        "{overlap:?}"
    );
    let record = client.stop().unwrap();
    assert_eq!(record.error_count(), 0, "{:?}", record.errors());
}
