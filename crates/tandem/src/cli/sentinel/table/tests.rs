use super::*;
use crate::cli::sentinel::Address;
use crate::cli::sentinel::foreign::tests::peer;
use tandem_core::sentinel::commands::status::{
    InstanceReport, PrimaryReport, Reason, ReplicaReport, Report,
};

fn instance(at: &str) -> InstanceReport {
    InstanceReport {
        at: at.to_owned(),
        connected: true,
        silent_ms: Some(120),
        s_down_ms: None,
        o_down_ms: None,
    }
}

/// A sentinel that knows a group `m` with one replica and two peers.
pub(in crate::cli::sentinel) fn report(id: &str, config_epoch: u64) -> Report {
    let group = GroupReport {
        name: "m".to_owned(),
        address: "10.0.0.1:6379".to_owned(),
        primary: PrimaryReport {
            instance: instance("10.0.0.1:6379"),
            role: "primary".to_owned(),
            replid: None,
            offset: None,
            gone_ms: None,
            data_gone: None,
        },
        quorum: 2,
        majority: 2,
        voters: 3,
        config_epoch,
        leader_epoch: 0,
        leader: None,
        replicas: vec![ReplicaReport {
            instance: instance("10.0.0.2:6379"),
            role: "replica".to_owned(),
            follows: Some("10.0.0.1:6379".to_owned()),
            link_up: true,
            priority: 100,
            replid: None,
            offset: 1234,
            excluded: None,
        }],
        peers: vec![peer("b", "10.0.0.2:26379"), peer("c", "10.0.0.3:26379")],
        failover: None,
        no_failover: Some(Reason::new("not-down", "silent for 120 of 1000 ms")),
        would_promote: Some("10.0.0.2:6379".to_owned()),
    };
    Report {
        id: id.to_owned(),
        version: "0.1.0".to_owned(),
        epoch: config_epoch,
        stalled_ms: None,
        groups: vec![group],
    }
}

fn asked(at: &str, program: Program, report: Report) -> Asked {
    Asked {
        at: at.parse::<Address>().unwrap().to_string(),
        program: Some(program),
        report: Some(report),
        error: None,
    }
}

fn silent(at: &str) -> Asked {
    Asked {
        at: at.parse::<Address>().unwrap().to_string(),
        program: None,
        report: None,
        error: Some("connection refused".to_owned()),
    }
}

#[test]
fn a_fleet_that_agrees() {
    let fleet = [
        asked("10.0.0.1", Program::Tandem, report("a", 3)),
        asked("10.0.0.2", Program::Tandem, report("b", 3)),
        silent("10.0.0.3"),
    ];
    let expected = "\
m   primary 10.0.0.1:6379   configuration 3   quorum 2, majority 2 of 3

 SENTINEL        KIND    PRIMARY        EPOCH  FINDS IT                       ANSWERED    SENTINEL HEARD 
 10.0.0.1:26379  tandem  10.0.0.1:6379  3      up                             120 ms ago  - 
 10.0.0.2:26379  tandem  10.0.0.1:6379  3      up                             120 ms ago  700 ms ago 
 10.0.0.3:26379  -       -              -      no answer: connection refused  -           700 ms ago

 REPLICA        ROLE     STATE  FOLLOWS        LINK  PRIORITY  OFFSET  MAY BE PROMOTED 
 10.0.0.2:6379  replica  up     10.0.0.1:6379  up    100       1234    yes

 If the primary died now: quorum and majority are reached by 2 of 3 sentinels; whichever leads promotes 10.0.0.2:6379.

";
    let words = |text: &str| -> Vec<Vec<String>> {
        let line = |line: &str| line.split_whitespace().map(str::to_owned).collect();
        text.lines().map(line).collect()
    };
    assert_eq!(words(&status(&fleet, "m")), words(expected));
}

#[test]
fn what_differs_is_marked_and_named() {
    let mut old = report("b", 2);
    old.groups[0].address = "10.0.0.9:6379".to_owned();
    old.groups[0].primary.instance.s_down_ms = Some(12_000);
    old.groups[0].would_promote = None;
    let fleet = [
        asked("10.0.0.2", Program::Redis, old),
        asked("10.0.0.1", Program::Tandem, report("a", 3)),
    ];
    let text = status(&fleet, "m");
    assert!(
        text.starts_with("m   primary 10.0.0.1:6379   configuration 3"),
        "{text}"
    );
    for part in [
        "10.0.0.9:6379 !",
        "2 !",
        "s_down for 12 s",
        "DIFFER on who is primary: 10.0.0.1:6379 (10.0.0.1:26379); 10.0.0.9:6379 (10.0.0.2:26379)",
        "DIFFER on the configuration epoch: 2 (10.0.0.2:26379); 3 (10.0.0.1:26379)",
        "10.0.0.2:26379 does not say whom it would promote",
        "10.0.0.1:26379 promotes 10.0.0.2:6379",
    ] {
        assert!(text.contains(part), "{part}\n{text}");
    }
    assert!(!text.contains("DIFFER on the quorum"), "{text}");
}

#[test]
fn without_a_majority_it_says_so() {
    let mut lonely = report("a", 3);
    for peer in &mut lonely.groups[0].peers {
        peer.instance.s_down_ms = Some(9000);
    }
    let fleet = [
        asked("10.0.0.1", Program::Tandem, lonely),
        silent("10.0.0.2"),
        silent("10.0.0.3"),
    ];
    let text = status(&fleet, "m");
    let expected = "If the primary died now: no failover; 10.0.0.1:26379 reaches 1 of 3, 2 needed (quorum 2, majority 2).";
    assert!(text.contains(expected), "{text}");
}

#[test]
fn explain_gives_each_ones_reason_and_every_excluded_replica() {
    let mut ours = report("a", 3);
    ours.groups[0].replicas[0].excluded = Some(Reason::new("empty", "it is empty"));
    ours.groups[0].leader = Some("0123456789".to_owned());
    ours.groups[0].leader_epoch = 8;
    let mut real = report("b", 3);
    real.groups[0].no_failover = None;
    real.groups[0].primary.instance.s_down_ms = Some(400);
    let fleet = [
        asked("10.0.0.1", Program::Tandem, ours),
        asked("10.0.0.2", Program::Redis, real),
        silent("10.0.0.3"),
    ];
    let text = explain(&fleet, "m");
    let line = |at: &str| {
        text.lines()
            .find(|line| line.contains(at))
            .unwrap_or_default()
            .to_owned()
    };
    assert!(line("10.0.0.1:26379").contains("01234567 in 8"), "{text}");
    assert!(
        line("10.0.0.1:26379").ends_with("silent for 120 of 1000 ms"),
        "{text}"
    );
    assert!(
        line("10.0.0.2:26379").contains("finds the primary s_down for 400 ms"),
        "{text}"
    );
    assert!(line("10.0.0.3:26379").contains("no-answer"), "{text}");
    assert!(line("10.0.0.2:6379").contains("it is empty"), "{text}");
}
