//! What an operator meets: wrong passwords, damaged journals, servers that tandem starts, resyncs that ask, fail-back.

#![allow(clippy::unwrap_used, reason = "a helper fails as its test does")]

mod common;

use std::time::Duration;

use common::{BOUND, EVERY, Rig, plain};
use tandem_lab::arrangement::{Arrangement, Fault, Side};
use tandem_lab::resp::Connection;
use tandem_lab::server::{Server, Settings};
use tandem_lab::{can_run, poll};

#[test]
fn a_wrong_password_is_an_alarm_and_no_failover() {
    if !can_run("a_wrong_password_is_an_alarm_and_no_failover") {
        return;
    }
    // tandem has a user of its own; the clients' default user goes on working when that one is broken.
    let settings = Settings {
        extra: vec!["user tandem on >right ~* &* +@all".to_owned()],
        ..Settings::default()
    };
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), "right\n").unwrap();
    let mut rig = Rig::start_of(
        common::with(settings)
            .group_line("username = \"tandem\"")
            .group_line(&format!("password_file = \"{}\"", file.path().display())),
    );
    let client = rig.client();
    let epoch = rig.epoch(Side::A);
    rig.redis(
        Side::A,
        &["ACL", "SETUSER", "tandem", "resetpass", ">changed"],
    );
    rig.redis(
        Side::A,
        &["CLIENT", "KILL", "USER", "tandem", "SKIPME", "yes"],
    );
    poll::until("the alarm", BOUND, EVERY, || {
        let alarms = rig.group(Side::A)["alarms"].to_string();
        Ok(if alarms.contains("user or password") {
            Ok(())
        } else {
            Err(alarms)
        })
    })
    .unwrap();
    // Several times what a takeover takes.
    std::thread::sleep(Duration::from_secs(2));
    assert_eq!(rig.primary().unwrap(), Ok(Side::A));
    assert_eq!(rig.epoch(Side::B), epoch);
    rig.redis(
        Side::A,
        &["ACL", "SETUSER", "tandem", "resetpass", ">right"],
    );
    assert_eq!(rig.wait_until_well(BOUND).unwrap(), Side::A);
    assert_eq!(rig.epoch(Side::A), epoch);
    let record = client.stop().unwrap();
    assert_eq!(record.error_count(), 0, "{:?}", record.errors());
}

#[test]
fn a_torn_journal_is_refused_by_its_name() {
    if !can_run("a_torn_journal_is_refused_by_its_name") {
        return;
    }
    let mut rig = Rig::started();
    let mut daemon = rig.pair_mut().daemons_mut(Side::B).remove(0);
    daemon.terminate(BOUND).unwrap();
    let journal = rig.state_dir(Side::B).join("orders/journal");
    let whole = std::fs::read(&journal).unwrap();
    std::fs::write(&journal, &whole[..whole.len() / 2]).unwrap();
    rig.start_daemons(Side::B).unwrap();
    let status = rig.pair_mut().daemons_mut(Side::B)[0].wait().unwrap();
    assert!(!status.success());
    let log = std::fs::read_to_string(rig.pair().host(Side::B).dir().join("tandem.log")).unwrap();
    assert!(log.contains(&journal.display().to_string()), "{log}");
    assert!(log.contains("torn or damaged"), "{log}");
    assert_eq!(rig.primary().unwrap(), Ok(Side::A));
    // The file is as it was: a person may still look at it.
    assert_eq!(std::fs::read(&journal).unwrap(), &whole[..whole.len() / 2]);
}

#[test]
fn a_resync_that_asks_waits_for_tandem_resync() {
    if !can_run("a_resync_that_asks_waits_for_tandem_resync") {
        return;
    }
    // The smallest backlog: after an outage only a full resync is left.
    let settings = Settings {
        extra: vec!["repl-backlog-size 16kb".to_owned()],
        persistence: tandem_lab::server::Persistence::Aof,
        ..Settings::default()
    };
    let mut rig = Rig::start_of(common::with(settings).group_line("resync = \"ask\""));
    let client = rig.client();
    let injection = rig.inject(Fault::KillServer).unwrap();
    rig.moved(&client, injection, "kill -9 of the server");
    rig.pair_mut().server_mut(Side::A).restart().unwrap();
    rig.wait_for_reason(Side::A, "resync.ask");
    assert!(rig.pair().replicates(Side::A).is_err());
    rig.tandem(Side::A, "resync", &[]).unwrap();
    assert_eq!(rig.wait_until_well(BOUND).unwrap(), Side::B);
    rig.nothing_missing(&client.stop().unwrap(), Side::B);
}

#[test]
fn with_preempt_after_sync_the_preferred_host_is_primary_again() {
    if !can_run("with_preempt_after_sync_the_preferred_host_is_primary_again") {
        return;
    }
    let mut rig = Rig::start_of(plain().group_line("preempt = \"after-sync\""));
    let client = rig.client();
    let injection = rig.inject(Fault::KillServer).unwrap();
    poll::until("B to be primary", BOUND, EVERY, || {
        Ok(match rig.primary()? {
            Ok(Side::B) => Ok(()),
            other => Err(format!("{other:?}")),
        })
    })
    .unwrap();
    rig.pair_mut().server_mut(Side::A).restart().unwrap();
    poll::until("A to be primary again", BOUND, EVERY, || {
        Ok(match rig.primary()? {
            Ok(Side::A) => Ok(()),
            other => Err(format!("{other:?}")),
        })
    })
    .unwrap();
    assert_eq!(rig.wait_until_well(BOUND).unwrap(), Side::A);
    client
        .wait_until_steady(injection.at, common::STEADY, BOUND)
        .unwrap();
    rig.nothing_missing(&client.stop().unwrap(), Side::A);
}

/// The process id of the server on a side that answers on its loopback.
fn server_pid(rig: &Rig, side: Side) -> anyhow::Result<u32> {
    let host = rig.pair().host(side);
    let loopback = ([127, 0, 0, 1], rig.pair().vip().port()).into();
    let mut server = Connection::open(host, loopback, Duration::from_secs(1))?;
    Ok(server.info("process_id")?.parse()?)
}

/// Waits until the daemons are content with each other.
fn wait_until_content(rig: &mut Rig) {
    poll::until("both sides to be ready", BOUND, EVERY, || rig.content()).unwrap();
}

/// The side whose daemon says that it is primary.
fn primary_by_status(rig: &Rig) -> Side {
    let is = |side: &Side| rig.group(*side)["role"] == "primary";
    Side::BOTH.into_iter().find(is).unwrap()
}

#[test]
fn servers_that_tandem_starts_are_restarted_and_adopted_again() {
    if !can_run("servers_that_tandem_starts_are_restarted_and_adopted_again") {
        return;
    }
    let mut rig = Rig::of(plain().spawning());
    for side in Side::BOTH {
        Server::configure(rig.pair().host(side), &Settings::default()).unwrap();
        rig.start_daemons(side).unwrap();
    }
    wait_until_content(&mut rig);
    let old = primary_by_status(&rig);
    let client = rig.client();

    // A killed server: the other side takes over, and this one is started again as its replica.
    let killed = server_pid(&rig, old).unwrap();
    let at = std::time::Instant::now();
    rig.pair().host(old).kill(killed).unwrap();
    client.wait_until_steady(at, common::STEADY, BOUND).unwrap();
    wait_until_content(&mut rig);
    assert_eq!(primary_by_status(&rig), old.other());
    assert_ne!(server_pid(&rig, old).unwrap(), killed);

    // A killed daemon: its server outlives it and is adopted by the next.
    let kept = server_pid(&rig, old).unwrap();
    rig.pair_mut().daemons_mut(old).remove(0).kill();
    rig.start_daemons(old).unwrap();
    wait_until_content(&mut rig);
    assert_eq!(server_pid(&rig, old).unwrap(), kept);
    assert_eq!(primary_by_status(&rig), old.other());

    let record = client.stop().unwrap();
    for side in Side::BOTH {
        let loopback = ([127, 0, 0, 1], rig.pair().vip().port()).into();
        let mut server =
            Connection::open(rig.pair().host(side), loopback, Duration::from_secs(5)).unwrap();
        let missing = record.missing(&mut server).unwrap();
        assert!(
            missing.is_empty(),
            "{side:?}: {} are missing",
            missing.len()
        );
    }
}
