//! The network is parted and both sides may be written to: one verdict in the same words on both sides, and every
//! acknowledged write of the loser in the archive, as commands.

#![allow(clippy::unwrap_used, reason = "a helper fails as its test does")]

mod common;

use std::collections::BTreeSet;
use std::time::Duration;

use common::{BOUND, EVERY, FAR, Rig};
use tandem_lab::arrangement::{Arrangement, CLIENT, Fault, Side};
use tandem_lab::client::{Client, Record};
use tandem_lab::{can_run, poll};

/// How long the long cut lasts: beyond every time-out in play but Redis' own of 60 s.
const LONG: Duration = Duration::from_secs(12);
/// Writes that a client has to get through during a short cut.
const SOME: usize = 300;

/// Waits until a client has been acknowledged `SOME` further writes.
fn write_some(client: &Client) {
    let before = client.record().acknowledged().len();
    poll::until("writes during the cut", BOUND, EVERY, || {
        let now = client.record().acknowledged().len();
        Ok(if now >= before + SOME {
            Ok(())
        } else {
            Err(format!("{} of {SOME}", now - before))
        })
    })
    .unwrap();
}

/// Both sides told the same verdict, and it names the winner.
fn one_verdict(rig: &Rig, winner: Side) {
    for side in Side::BOTH {
        rig.wait_for_event(side, "+verdict", winner.host());
    }
    let [a, b] = Side::BOTH.map(|side| rig.events(side, "+verdict"));
    assert_eq!(a.last(), b.last(), "\n{a:?}\n{b:?}");
    println!("verdict: {}", a.last().unwrap());
}

/// What was acknowledged is on the primary or among the commands archived on the loser's host.
fn all_accounted_for(rig: &Rig, records: &[&Record], winner: Side) -> usize {
    let archived = rig.archived_sets(winner.other());
    let mut server = rig.pair().server(winner).connect().unwrap();
    let mut kept = 0;
    for record in records {
        let missing: BTreeSet<String> = record
            .missing(&mut server)
            .unwrap()
            .into_iter()
            .map(|number| record.key(number))
            .collect();
        let gone: Vec<_> = missing.difference(&archived).take(10).collect();
        assert!(
            gone.is_empty(),
            "neither on the primary nor in the archive: {gone:?} ..."
        );
        kept += missing.len();
    }
    kept
}

/// Cuts with clients of these paces (milliseconds per write) on both sides, heals, and expects the busier side to win.
fn both_write(near_ms: u64, far_ms: u64, long: bool) {
    let mut rig = Rig::started();
    let near = rig.client_on(CLIENT, "near", Duration::from_millis(near_ms));
    let far = rig.client_on(FAR, "far", Duration::from_millis(far_ms));
    let winner = if near_ms < far_ms { Side::A } else { Side::B };
    rig.inject(Fault::CutBothUsed).unwrap();
    if long {
        // The length of the fault itself.
        std::thread::sleep(LONG);
    }
    write_some(&near);
    write_some(&far);
    assert_eq!(rig.settle(BOUND).unwrap(), winner);
    one_verdict(&rig, winner);
    write_some(&near);
    write_some(&far);
    let (near, far) = (near.stop().unwrap(), far.stop().unwrap());
    let kept = all_accounted_for(&rig, &[&near, &far], winner);
    assert!(kept >= SOME, "only {kept} writes were archived");
    assert!(rig.archive(winner).is_empty());
}

#[test]
fn a_long_cut_with_writes_on_both_sides_keeps_everything() {
    if !can_run("a_long_cut_with_writes_on_both_sides_keeps_everything") {
        return;
    }
    both_write(1, 4, true);
}

#[test]
fn the_old_primary_loses_the_verdict_when_the_other_side_wrote_more() {
    if !can_run("the_old_primary_loses_the_verdict_when_the_other_side_wrote_more") {
        return;
    }
    both_write(4, 1, false);
}

#[test]
fn a_cut_with_writes_on_the_standbys_side_only_goes_to_the_standby() {
    if !can_run("a_cut_with_writes_on_the_standbys_side_only_goes_to_the_standby") {
        return;
    }
    let mut rig = Rig::started();
    let client = rig.client();
    let injection = rig.inject(Fault::CutStandbyUsed).unwrap();
    client
        .wait_until_steady(injection.at, common::STEADY, BOUND)
        .unwrap();
    write_some(&client);
    assert_eq!(rig.settle(BOUND).unwrap(), Side::B);
    one_verdict(&rig, Side::B);
    write_some(&client);
    let record = client.stop().unwrap();
    // From the heal to the verdict the address is where VRRP has it, by priority: on the side that loses.
    let kept = all_accounted_for(&rig, &[&record], Side::B);
    println!("{kept} writes came between the heal and the verdict, and were archived");
}

#[test]
fn an_isolated_standby_that_nobody_uses_loses_the_verdict() {
    if !can_run("an_isolated_standby_that_nobody_uses_loses_the_verdict") {
        return;
    }
    let mut rig = Rig::started();
    let client = rig.client();
    rig.inject(Fault::CutStandbyIdle).unwrap();
    // It promotes itself for nobody, and its epoch is newer.
    poll::until("B to be primary too", BOUND, EVERY, || {
        let role = rig.group(Side::B)["role"].to_string();
        Ok(if role.contains("primary") {
            Ok(())
        } else {
            Err(role)
        })
    })
    .unwrap();
    assert!(rig.epoch(Side::B) > rig.epoch(Side::A));
    write_some(&client);
    assert_eq!(rig.settle(BOUND).unwrap(), Side::A);
    one_verdict(&rig, Side::A);
    let record = client.stop().unwrap();
    rig.nothing_missing(&record, Side::A);
    assert!(rig.archive(Side::B).is_empty());
    assert!(rig.epoch(Side::A) > 2, "the winner's epoch is above both");
}
