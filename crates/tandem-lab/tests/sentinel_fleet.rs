//! The instrument itself, on real Sentinels: what the harness breaks and what it sees.

#![allow(clippy::unwrap_used)] // A panic in a test is its report.

use std::time::{Duration, Instant};

use tandem_lab::client::{Client, Settings as ClientSettings};
use tandem_lab::fleet::{Fleet, Plan, Program, Recorder};
use tandem_lab::{can_run, skip};

const BOUND: Duration = Duration::from_secs(60);
const STEADY: Duration = Duration::from_millis(300);

#[test]
fn a_real_fleet_fails_over_and_takes_the_old_primary_back() {
    if !can_run("a_real_fleet_fails_over_and_takes_the_old_primary_back") {
        return;
    }
    let mut fleet = Fleet::build(Plan::of(3, &[Program::Real; 3]).hurried()).unwrap();
    fleet.start(BOUND).unwrap();
    assert_eq!(fleet.settle(BOUND).unwrap(), 0);
    let (config_epoch, _) = fleet.epochs().unwrap();
    assert_eq!(config_epoch, 0, "nobody was promoted yet");
    let events = Recorder::start(&fleet).unwrap();
    let client = Client::start(fleet.client_host(), ClientSettings::new(fleet.target())).unwrap();
    client
        .wait_until_steady(Instant::now(), STEADY, BOUND)
        .unwrap();

    let killed = Instant::now();
    fleet.servers()[0].process().kill();
    client.wait_until_steady(killed, STEADY, BOUND).unwrap();
    let switched = events.wait_for(0, "+switch-master", "orders 10.0.0.1 6379", BOUND);
    assert!(
        switched.unwrap().at > killed + Duration::from_secs(1),
        "down-after is 1 s"
    );
    fleet.restart_server(0).unwrap();
    let primary = fleet.settle(BOUND).unwrap();
    assert_ne!(primary, 0);
    let (config_epoch, current_epoch) = fleet.epochs().unwrap();
    assert!(config_epoch >= 1 && current_epoch >= config_epoch);

    let record = client.stop().unwrap();
    let mut survivor = fleet.servers()[primary].connect().unwrap();
    // What a killed process had sent its kernel still delivers, so nothing acknowledged is missing.
    assert_eq!(record.missing(&mut survivor).unwrap(), Vec::<u64>::new());
}

#[test]
fn a_sentinel_without_its_file_is_another_one_and_a_frozen_one_is_left_out() {
    if !can_run("a_sentinel_without_its_file_is_another_one_and_a_frozen_one_is_left_out") {
        return;
    }
    let mut fleet = Fleet::build(Plan::of(2, &[Program::Real; 3]).hurried()).unwrap();
    fleet.start(BOUND).unwrap();
    let id = |fleet: &Fleet| {
        let reply = fleet.members()[2].demand(&["SENTINEL", "MYID"]).unwrap();
        reply.text().unwrap()
    };
    let before = id(&fleet);
    fleet.members_mut()[2].restart().unwrap();
    assert_eq!(id(&fleet), before);
    let events = Recorder::start(&fleet).unwrap();
    fleet.members_mut()[2].restart_without_its_file().unwrap();
    assert_ne!(id(&fleet), before);
    // The same address with another id: the others drop the old one.
    events
        .wait_for(0, "+sentinel-invalid-addr", &before, BOUND)
        .unwrap();
    fleet.wait_until_known(BOUND).unwrap();

    fleet.members_mut()[1].freeze();
    events.wait_for(0, "+sdown", "sentinel", BOUND).unwrap();
    assert_eq!(fleet.agreed().unwrap(), Ok(fleet.servers()[0].address()));
    fleet.members_mut()[1].thaw();
    events.wait_for(0, "-sdown", "sentinel", BOUND).unwrap();
    fleet.wait_until_known(BOUND).unwrap();
}

#[test]
fn a_cut_parts_the_fleet_and_the_heal_brings_one_mind_back() {
    if !can_run("a_cut_parts_the_fleet_and_the_heal_brings_one_mind_back") {
        return;
    }
    let mut fleet = Fleet::build(Plan::of(3, &[Program::Real; 3]).hurried()).unwrap();
    fleet.start(BOUND).unwrap();
    let events = Recorder::start(&fleet).unwrap();
    fleet.cut(&["h1"]).unwrap();
    events
        .wait_for(1, "+switch-master", "orders", BOUND)
        .unwrap();
    // The member beside the lost primary cannot know; it is asked over its own host's loopback all the same.
    let alone = fleet.members()[0].addr_by_name(fleet.group()).unwrap();
    assert_eq!(alone, fleet.servers()[0].address());
    assert!(fleet.agreed().unwrap().is_err());
    fleet.heal().unwrap();
    let primary = fleet.settle(BOUND).unwrap();
    assert_ne!(primary, 0);
    events
        .wait_for(0, "+config-update-from", "sentinel", BOUND)
        .unwrap();
}

/// `SENTINEL SIMULATE-FAILURE`: the process ends as a crash would end it, with Redis' exit code, and whoever is left goes on.
#[test]
fn a_leader_that_is_told_to_fail_ends_with_99() {
    let test = "a_leader_that_is_told_to_fail_ends_with_99";
    if !can_run(test) {
        return;
    }
    for program in Program::ALL {
        if let Err(reason) = program.available() {
            skip(test, &format!("{reason:#}"));
            return;
        }
        for moment in ["crash-after-election", "crash-after-promotion"] {
            let mut fleet = Fleet::build(Plan::of(2, &[program]).hurried()).unwrap();
            fleet.start(BOUND).unwrap();
            let member = &mut fleet.members_mut()[0];
            member
                .demand(&["SENTINEL", "SIMULATE-FAILURE", moment])
                .unwrap();
            // Again and again: either Sentinel may give one up with nothing changed, ours when a replica's answers come
            // late and writes would be held back for longer than half of the pause.
            let status = member.wait_for_the_end(BOUND, &["SENTINEL", "FAILOVER", "orders"]);
            let status = status.unwrap();
            assert_eq!(status.code(), Some(99), "{program}: {moment}");
        }
    }
}
