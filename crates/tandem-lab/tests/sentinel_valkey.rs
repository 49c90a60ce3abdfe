//! Valkey's Sentinel, which is that of Redis 7.2: one fleet with ours, and the same answers where ours is told to be 7.2.

#![allow(clippy::unwrap_used)] // A panic in a test is its report.

use std::time::Duration;

use tandem_lab::fleet::{Fleet, Plan, Program};
use tandem_lab::{can_run, skip};

const BOUND: Duration = Duration::from_secs(60);

fn runs(test: &str) -> bool {
    if !can_run(test) {
        return false;
    }
    for program in [Program::Valkey, Program::Tandem] {
        if let Err(reason) = program.available() {
            skip(test, &format!("{reason:#}"));
            return false;
        }
    }
    true
}

#[test]
fn valkeys_sentinels_and_ours_are_one_fleet() {
    if !runs("valkeys_sentinels_and_ours_are_one_fleet") {
        return;
    }
    // Two of three, so that neither kind can be elected by itself.
    let programs = [Program::Tandem, Program::Valkey, Program::Valkey];
    let mut fleet = Fleet::build(Plan::of(2, &programs).hurried()).unwrap();
    fleet.start(BOUND).unwrap();
    assert_eq!(fleet.settle(BOUND).unwrap(), 0);
    fleet.members_mut()[2].kill().unwrap();
    fleet.servers()[0].process().kill();
    let b = fleet.servers()[1].address();
    tandem_lab::poll::until(
        "both to name the other server",
        BOUND,
        Duration::from_millis(20),
        || {
            Ok(match fleet.agreed()? {
                Ok(named) if named == b => Ok(()),
                other => Err(format!("{other:?}")),
            })
        },
    )
    .unwrap();
    fleet.restart_server(0).unwrap();
    fleet.members_mut()[2].start().unwrap();
    assert_eq!(fleet.settle(BOUND).unwrap(), 1, "{}", fleet.logs());
}

/// What 7.2 added to `SENTINEL CONFIG`, what it says to nonsense, and what came with it.
const REQUESTS: &[&str] = &[
    "SENTINEL CONFIG SET",
    "SENTINEL CONFIG SET announce-port",
    "SENTINEL CONFIG SET announce-port 7 announce-ip 10.1.1.1",
    "SENTINEL CONFIG GET announce-port announce-ip",
    "SENTINEL CONFIG GET announce*",
    "SENTINEL CONFIG GET *",
    "SENTINEL CONFIG GET",
    "SENTINEL CONFIG SET announce-port 7 announce-port 8",
    "SENTINEL CONFIG SET announce-port 8 nosuch 8",
    "SENTINEL CONFIG SET announce-port 99999 announce-ip 10.9.9.9",
    "SENTINEL CONFIG GET announce-*",
    "SENTINEL CONFIG SET announce-port 7 announce-ip",
    "SENTINEL CONFIG SET loglevel debug",
    "SENTINEL CONFIG SET loglevel nosuch",
    "SENTINEL CONFIG SET resolve-hostnames maybe",
    "SENTINEL CONFIG SET resolve-hostnames yes announce-hostnames yes",
    "SENTINEL CONFIG GET *host* log*",
    "SENTINEL CONFIG SET ANNOUNCE-PORT -1",
    "SENTINEL CONFIG NOSUCH x",
    "SENTINEL CONFIG SET sentinel-user u sentinel-pass p",
    "SENTINEL CONFIG GET sentinel-*",
    "SENTINEL SET orders master-reboot-down-after-period -1",
    "CLIENT SETINFO lib-name x",
    "CLIENT SETINFO lib-name",
    "CLIENT SETINFO nosuch x",
    "COMMAND COUNT",
];

#[test]
fn as_7_2_ours_answers_as_valkey_does() {
    if !runs("as_7_2_ours_answers_as_valkey_does") {
        return;
    }
    let mut plan = Plan::of(2, &[Program::Valkey, Program::Tandem]);
    plan.lines.push("# tandem: compat 7.2".to_owned());
    let mut fleet = Fleet::build(plan).unwrap();
    fleet.start(BOUND).unwrap();
    let mut connections = [0, 1].map(|place: usize| fleet.members()[place].connect().unwrap());
    for request in REQUESTS {
        let words: Vec<&str> = request.split(' ').collect();
        let [valkey, ours] = connections
            .each_mut()
            .map(|connection| connection.call(&words).unwrap());
        assert_eq!(ours, valkey, "{request}");
    }
}
