//! `when_alone = "continue"`: a primary without its replica acknowledges writes once the other daemon has promised that its server
//! is not promoted, and no failover loses one of them.

#![allow(clippy::unwrap_used)] // A panic in a test is its report.

mod common;

use std::net::SocketAddr;
use std::time::Duration;

use common::{BOUND, EVERY, Rig, with};
use tandem_lab::arrangement::{Arrangement, CLIENT, Fault, Side};
use tandem_lab::resp::{Connection, Reply};
use tandem_lab::server::{Persistence, Settings};
use tandem_lab::{can_run, poll};

const PORT: u16 = 6390;
/// On each host, before the pair of which it has one half.
const PROXY: &str = "[[proxy]]\nlisten = \"0.0.0.0:6390\"\ngroups = [\"orders\"]\nack = 1\nwhen_alone = \"continue\"\n";
/// What clients are told where that is not promised: of the write that found out, and of the next ones.
const UNKNOWN: &str = "TANDEM-UNKNOWN ";
const REFUSED: &str = "NOREPLICAS ";

/// A pair that keeps its data, with a proxy on each host.
fn started() -> Rig {
    let pair = with(Settings {
        persistence: Persistence::Aof,
        ..Settings::default()
    });
    Rig::start_of(pair.section(PROXY))
}

/// What was acknowledged by the proxy of one host.
struct Writer {
    connection: Connection,
    acknowledged: Vec<u32>,
    next: u32,
}

impl Writer {
    fn at(rig: &Rig, side: Side) -> Self {
        let host = rig.pair().lab().host(CLIENT);
        let at = SocketAddr::new(rig.pair().host(side).address(), PORT);
        let connection = poll::until("the proxy to accept", BOUND, EVERY, || {
            Ok(Connection::open(host, at, Duration::from_secs(10)).map_err(|it| it.to_string()))
        })
        .unwrap();
        Self {
            connection,
            acknowledged: Vec::new(),
            next: 0,
        }
    }

    /// One write of a key of its own; the error that it got.
    fn write(&mut self) -> Result<(), String> {
        let (number, key) = (self.next, key(self.next));
        self.next += 1;
        match self.connection.call(&["SET", &key, "v"]).unwrap() {
            Reply::Error(text) => Err(text),
            reply => {
                assert_eq!(reply.text().as_deref(), Some("OK"));
                self.acknowledged.push(number);
                Ok(())
            }
        }
    }

    fn write_until_acknowledged(&mut self, what: &str) {
        poll::until(what, BOUND, EVERY, || Ok(self.write())).unwrap();
    }

    /// Everything that was acknowledged is on a side's server.
    fn nothing_missing(&self, rig: &Rig, side: Side) {
        let mut server = rig.pair().server(side).connect().unwrap();
        let has = |number: &&u32| {
            let found = server.demand(&["EXISTS", &key(**number)]).unwrap();
            found != Reply::Integer(1)
        };
        let missing: Vec<&u32> = self.acknowledged.iter().filter(has).collect();
        let all = self.acknowledged.len();
        assert!(missing.is_empty(), "{missing:?} of {all} on {side:?}");
    }
}

fn key(number: u32) -> String {
    format!("key:{number}")
}

/// Waits until a verb of tandem says something on a side.
fn wait_for_words(rig: &Rig, side: Side, verb: &str, words: &str) {
    poll::until(
        &format!("{verb} on {side:?} to say `{words}`"),
        BOUND,
        EVERY,
        || {
            let said = rig.tandem(side, verb, &[])?;
            Ok(if said.contains(words) {
                Ok(())
            } else {
                Err(said)
            })
        },
    )
    .unwrap();
}

/// How the replica's server goes, while its daemon stays.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Gone {
    Killed,
    Frozen,
}

/// What thaws is fit by every rule but that promise.
fn the_primary_dies_too(rig: &mut Rig) {
    rig.inject(Fault::KillServer).unwrap();
    rig.pair().server(Side::B).process().thaw();
    rig.wait_for_event(Side::B, "-failover-abort-not-eligible", "alone");
    wait_for_words(rig, Side::B, "explain", "eligible.barred");
    assert!(rig.events(Side::B, "+switch-master").is_empty());
    rig.pair_mut().server_mut(Side::A).restart().unwrap();
    // How much its file has beyond the journal's last mark is not known.
    rig.wait_for_reason(Side::A, "boot.unrelated");
    rig.tandem(Side::A, "failover", &["--accept-loss"]).unwrap();
}

fn nothing_acknowledged_alone_is_lost(name: &str, gone: Gone) {
    if !can_run(name) {
        return;
    }
    let mut rig = started();
    let mut writer = Writer::at(&rig, Side::A);
    writer.write_until_acknowledged("a write that the replica has");
    // That a replica attaches is no reason to do without a failover.
    assert!(rig.events(Side::B, "+barred").is_empty());
    match gone {
        Gone::Killed => rig.pair().server(Side::B).process().kill(),
        Gone::Frozen => rig.pair().server(Side::B).process().freeze(),
    }
    wait_for_words(&rig, Side::A, "status", "by this host's server alone");
    writer.write_until_acknowledged("a write without the replica");
    wait_for_words(&rig, Side::A, "explain", "the other host has promised");
    wait_for_words(&rig, Side::B, "status", "eligible.barred");
    assert_eq!(rig.journal(Side::B)["barred"]["host"], "a");
    for _ in 0..100 {
        writer.write().unwrap();
    }
    // The proxy of the host without a server is not told for how long.
    let mut beside = Writer::at(&rig, Side::B);
    let unknown = beside.write().unwrap_err();
    assert!(unknown.starts_with(UNKNOWN), "{unknown}");
    let refused = beside.write().unwrap_err();
    assert!(refused.starts_with(REFUSED), "{refused}");

    match gone {
        Gone::Killed => rig.pair_mut().server_mut(Side::B).restart().unwrap(),
        Gone::Frozen => the_primary_dies_too(&mut rig),
    }
    assert_eq!(rig.wait_until_well(BOUND).unwrap(), Side::A);
    rig.wait_for_event(Side::B, "-barred", "has all");
    writer.write_until_acknowledged("a write that the replica has again");
    let injection = rig.inject(Fault::KillServer).unwrap();
    assert_eq!(injection.primary, Side::A);
    rig.wait_for_event(Side::B, "+switch-master", "primary");
    writer.nothing_missing(&rig, Side::B);
}

#[test]
fn no_failover_loses_what_was_acknowledged_while_the_replica_was_dead() {
    nothing_acknowledged_alone_is_lost(
        "no_failover_loses_what_was_acknowledged_while_the_replica_was_dead",
        Gone::Killed,
    );
}

#[test]
fn no_failover_loses_what_was_acknowledged_while_the_replica_was_frozen() {
    nothing_acknowledged_alone_is_lost(
        "no_failover_loses_what_was_acknowledged_while_the_replica_was_frozen",
        Gone::Frozen,
    );
}

#[test]
fn a_host_that_is_off_has_promised_nothing() {
    if !can_run("a_host_that_is_off_has_promised_nothing") {
        return;
    }
    let mut rig = started();
    let mut writer = Writer::at(&rig, Side::A);
    writer.write_until_acknowledged("a write that the replica has");
    rig.pair_mut().power_off(Side::B).unwrap();
    let unknown = writer.write().unwrap_err();
    assert!(unknown.starts_with(UNKNOWN), "{unknown}");
    wait_for_words(&rig, Side::A, "explain", "has not promised yet");
    for _ in 0..20 {
        let refused = writer.write().unwrap_err();
        assert!(refused.starts_with(REFUSED), "{refused}");
    }
    assert!(rig.events(Side::A, "+alone").is_empty());
    rig.pair_mut().power_on(Side::B).unwrap();
    rig.start_daemons(Side::B).unwrap();
    writer.write_until_acknowledged("a write with the other host");
}
