//! What `tandem sentinel status` reads.

use super::*;
use crate::sentinel::commands::status::{Reason, Reasons, Report};
use crate::sentinel::model::{Lineage, PeerKind};

fn read(value: &Value) -> Report {
    serde_json::from_str(value.as_str().unwrap()).unwrap()
}

#[test]
fn a_report_says_who_believes_what_and_why() {
    let mut world = World::new();
    world.add("n", 7101);
    let down = world.ago(400);
    let m = world.m();
    m.primary.down.subjective = Some(down);
    m.primary.observed.lineage = Some(Lineage {
        replid: "r".to_owned(),
        replid2: String::new(),
        second_offset: None,
        offset: 12,
    });
    m.peers.values_mut().next().unwrap().kind = PeerKind::Foreign;
    world.reasons = |group| Reasons {
        no_failover: Some(Reason::new("no-quorum", "1 of 2 find it down")),
        excluded: group
            .replicas
            .keys()
            .map(|at| (at.clone(), Reason::new("lag", "12 bytes behind")))
            .collect(),
        would_promote: group.replicas.keys().next().cloned(),
    };
    let report = read(&world.reply("tandem status"));
    assert_eq!((report.id.as_str(), report.epoch), (OURS, 9));
    assert_eq!(report.stalled_ms, None);
    let [m, n] = &report.groups[..] else {
        panic!("not two groups");
    };
    assert_eq!((m.name.as_str(), n.name.as_str()), ("m", "n"));
    assert_eq!(m.primary.instance.at, "127.0.0.1:7001");
    assert_eq!(m.primary.instance.s_down_ms, Some(400));
    assert_eq!(m.primary.instance.o_down_ms, None);
    assert_eq!(m.primary.instance.silent_ms, Some(100));
    assert!(m.primary.instance.connected);
    assert_eq!(m.primary.offset, Some(12));
    assert_eq!((m.voters, m.majority, m.quorum), (2, 2, 2));
    assert_eq!(
        m.replicas[0].excluded,
        Some(Reason::new("lag", "12 bytes behind"))
    );
    assert_eq!(m.would_promote, Some(m.replicas[0].instance.at.clone()));
    assert_eq!(n.would_promote, None);
    assert_eq!(m.peers[0].kind, "foreign");
    assert_eq!(m.peers[0].hello_ms, Some(700));
    assert_eq!(
        m.no_failover,
        Some(Reason::new("no-quorum", "1 of 2 find it down"))
    );
    assert!(n.replicas.is_empty());
}

#[test]
fn explain_is_of_one_group() {
    let mut world = World::new();
    world.add("n", 7101);
    assert_eq!(read(&world.reply("tandem explain n")).groups.len(), 1);
    assert_eq!(read(&world.reply("tandem explain")).groups.len(), 2);
}

#[test]
fn no_password_is_shown() {
    let mut world = World::new();
    world.m().settings.auth_pass = Some("geheim".to_owned());
    world.globals.sentinel_pass = Some("geheim".to_owned());
    world.globals.requirepass = Some("geheim".to_owned());
    let value = world.reply("tandem status");
    assert!(!value.as_str().unwrap().contains("geheim"));
}
