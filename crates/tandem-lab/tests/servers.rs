//! Real servers on the lab's hosts, and the measuring client beside them.

use std::time::{Duration, Instant};

use tandem_lab::client::{Client, Settings as ClientSettings, Target};
use tandem_lab::ns::Lab;
use tandem_lab::server::{Flavour, Persistence, Server, Settings};
use tandem_lab::{can_run, poll, skip};

const BOUND: Duration = Duration::from_secs(20);

#[test]
fn every_flavour_starts_with_every_persistence_and_keeps_what_it_should() {
    let test = "every_flavour_starts_with_every_persistence_and_keeps_what_it_should";
    if !can_run(test) {
        return;
    }
    let lab = Lab::pair().unwrap();
    for flavour in Flavour::ALL {
        if let Err(reason) = flavour.find() {
            skip(&format!("{test}, {}", flavour.name()), &reason.to_string());
            continue;
        }
        let line = flavour.name().rsplit('-').next().unwrap();
        assert!(
            flavour.version().unwrap().starts_with(line),
            "{flavour:?} is {:?}",
            flavour.version()
        );
        for (port, persistence) in (7001..).zip(Persistence::ALL) {
            let settings = Settings {
                flavour,
                port,
                persistence,
                extra: vec!["appendfsync always".to_owned()],
            };
            let mut server = Server::start(lab.host("a"), &settings).unwrap();
            let mut connection = server.connect().unwrap();
            connection.demand(&["SET", "kept", "1"]).unwrap();
            if persistence == Persistence::Rdb {
                connection.demand(&["SAVE"]).unwrap();
            }
            server.restart().unwrap();
            let kept = server
                .connect()
                .unwrap()
                .demand(&["GET", "kept"])
                .unwrap()
                .text();
            assert_eq!(
                kept.is_some(),
                persistence != Persistence::None,
                "{flavour:?} {persistence:?}"
            );
            std::fs::remove_dir_all(lab.host("a").dir().join(format!("data-{port}"))).unwrap();
        }
    }
}

#[test]
fn a_filled_server_holds_that_much_and_its_replica_too() {
    if !can_run("a_filled_server_holds_that_much_and_its_replica_too") {
        return;
    }
    let lab = Lab::pair().unwrap();
    let a = Server::start(lab.host("a"), &Settings::default()).unwrap();
    let b = Server::start(lab.host("b"), &Settings::default()).unwrap();
    a.fill(1).unwrap();
    b.replicate(Some(a.address())).unwrap();
    b.wait_until_synced(Duration::from_secs(60)).unwrap();
    let keys = |server: &Server| server.connect().unwrap().demand(&["DBSIZE"]).unwrap();
    assert_eq!(keys(&a), keys(&b));
    assert!(!b.is_primary().unwrap());
}

#[test]
fn the_client_measures_a_freeze_and_finds_what_a_server_lacks() {
    if !can_run("the_client_measures_a_freeze_and_finds_what_a_server_lacks") {
        return;
    }
    let lab = Lab::pair().unwrap();
    let a = Server::start(lab.host("a"), &Settings::default()).unwrap();
    let client = Client::start(
        lab.host("client"),
        ClientSettings::new(Target::Address(a.address())),
    )
    .unwrap();
    client
        .wait_until_steady(Instant::now(), Duration::from_millis(100), BOUND)
        .unwrap();

    let frozen = Instant::now();
    a.process().freeze();
    poll::until("a timeout", BOUND, Duration::from_millis(5), || {
        let errors = client.record().errors().clone();
        Ok(if errors.contains_key("reply: timed out") {
            Ok(())
        } else {
            Err(format!("{errors:?}"))
        })
    })
    .unwrap();
    let seen = frozen.elapsed();
    a.process().thaw();
    client
        .wait_until_steady(Instant::now(), Duration::from_millis(100), BOUND)
        .unwrap();
    let record = client.stop().unwrap();
    let gap = record.longest_gap(frozen, Instant::now());
    assert!(gap >= seen, "gap {gap:?}, frozen for at least {seen:?}");
    assert!(!record.unknown().is_empty());

    let mut connection = a.connect().unwrap();
    assert_eq!(record.missing(&mut connection).unwrap(), Vec::<u64>::new());
    let lost = record.acknowledged()[3].number;
    connection.demand(&["DEL", &record.key(lost)]).unwrap();
    assert_eq!(record.missing(&mut connection).unwrap(), [lost]);
}
