//! Both hosts come back after both were dead, with every kind of persistence and in both orders: the newest data goes
//! on, or a host waits and says for what. And the ways in which a restarted server could destroy its replica's data.

#![allow(clippy::unwrap_used, reason = "a helper fails as its test does")]

mod common;

use common::{BOUND, EVERY, Rig, with};
use tandem_lab::arrangement::{Arrangement, Fault, Side};
use tandem_lab::server::{Persistence, Settings, config};
use tandem_lab::{can_run, poll};

/// Every write is on disk at once, so that what a dead host held is known.
fn durable(persistence: Persistence) -> Settings {
    let extra = match persistence {
        Persistence::None => None,
        Persistence::Rdb => Some("save 1 1"),
        Persistence::Aof | Persistence::Mixed => Some("appendfsync always"),
    };
    Settings {
        persistence,
        extra: extra.map(str::to_owned).into_iter().collect(),
        ..Settings::default()
    }
}

/// The newest data is on B alone and both hosts are dead.
fn dead_pair(persistence: Persistence) -> Rig {
    let mut rig = Rig::start_of(with(durable(persistence)).group_line("boot_wait = \"4s\""));
    rig.redis(Side::A, &["SET", "old", "1"]);
    // A replica is sent nothing before its primary has its first acknowledgement, up to a second after the sync.
    poll::until("B to have the old data", BOUND, EVERY, || {
        Ok(rig.get(Side::B, "old").ok_or_else(|| "not yet".to_owned()))
    })
    .unwrap();
    for side in Side::BOTH {
        rig.pair().server(side).wait_until_rewritten(BOUND).unwrap();
    }
    rig.pair_mut().power_off(Side::A).unwrap();
    poll::until("B to take over", BOUND, EVERY, || rig.primary()).unwrap();
    // Both hosts losing power before the promotion's record is on the disk is another story: then the newest data
    // is archived rather than served.
    let journal = rig.state_dir(Side::B).join("orders/journal");
    poll::until("B's journal to say so", BOUND, EVERY, || {
        let text = std::fs::read_to_string(&journal).unwrap_or_default();
        Ok(if text.contains("\"role\": \"primary\"") {
            Ok(())
        } else {
            Err(text)
        })
    })
    .unwrap();
    rig.redis(Side::B, &["SET", "newest", "1"]);
    if persistence == Persistence::Rdb {
        poll::until("the snapshot", BOUND, EVERY, || {
            let pending = rig.info(Side::B, "rdb_changes_since_last_save");
            Ok(if pending == "0" { Ok(()) } else { Err(pending) })
        })
        .unwrap();
    }
    rig.pair_mut().power_off(Side::B).unwrap();
    rig
}

fn power_on(rig: &mut Rig, side: Side) {
    rig.pair_mut().power_on(side).unwrap();
    rig.start_daemons(side).unwrap();
}

fn newest_data_wins(persistence: Persistence, first: Side) {
    let mut rig = dead_pair(persistence);
    power_on(&mut rig, first);
    rig.wait_for_reason(first, "boot.");
    power_on(&mut rig, first.other());
    let primary = rig.wait_until_well(BOUND).unwrap();
    let kept = (persistence != Persistence::None).then(|| "1".to_owned());
    for side in Side::BOTH {
        assert_eq!(
            rig.get(side, "newest"),
            kept,
            "{side:?}, primary {primary:?}"
        );
        assert_eq!(rig.get(side, "old"), kept, "{side:?}, primary {primary:?}");
    }
}

macro_rules! boots {
    ($($name:ident: $persistence:ident, $first:ident;)*) => { $(
        #[test]
        fn $name() {
            if can_run(stringify!($name)) {
                newest_data_wins(Persistence::$persistence, Side::$first);
            }
        }
    )* };
}

boots! {
    with_aof_and_the_older_host_first: Aof, A;
    with_aof_and_the_newer_host_first: Aof, B;
    with_rdb_and_the_older_host_first: Rdb, A;
    with_rdb_and_the_newer_host_first: Rdb, B;
    with_mixed_persistence_and_the_older_host_first: Mixed, A;
    with_mixed_persistence_and_the_newer_host_first: Mixed, B;
    with_nothing_kept_and_the_older_host_first: None, A;
}

#[test]
fn a_primary_that_comes_back_empty_waits_for_the_other_host_and_takes_its_data() {
    if !can_run("a_primary_that_comes_back_empty_waits_for_the_other_host_and_takes_its_data") {
        return;
    }
    let mut rig = dead_pair(Persistence::Aof);
    let data = rig.pair().host(Side::B).dir().join("data-6379");
    std::fs::remove_dir_all(&data).unwrap();
    std::fs::create_dir_all(&data).unwrap();
    power_on(&mut rig, Side::B);
    // Longer than boot_wait: being the last primary is not enough for an empty server.
    rig.wait_for_reason(Side::B, "boot.alone");
    power_on(&mut rig, Side::A);
    assert_eq!(rig.wait_until_well(BOUND).unwrap(), Side::A);
    assert_eq!(rig.get(Side::B, "old").as_deref(), Some("1"));
}

#[test]
fn a_replica_alone_waits_for_a_person_who_accepts_the_loss() {
    if !can_run("a_replica_alone_waits_for_a_person_who_accepts_the_loss") {
        return;
    }
    let settings = durable(Persistence::Aof);
    let mut rig = Rig::start_of(with(settings).group_line("boot_wait = \"1s\""));
    rig.redis(Side::A, &["SET", "kept", "1"]);
    poll::until("B to have it", BOUND, EVERY, || {
        Ok(rig.get(Side::B, "kept").ok_or_else(|| "not yet".to_owned()))
    })
    .unwrap();
    rig.pair()
        .server(Side::B)
        .wait_until_rewritten(BOUND)
        .unwrap();
    rig.pair_mut().power_off(Side::B).unwrap();
    rig.pair_mut().power_off(Side::A).unwrap();
    power_on(&mut rig, Side::B);
    rig.wait_for_reason(Side::B, "boot.alone");
    assert!(rig.reason(Side::B).contains("failover --accept-loss"));
    assert!(rig.primary().unwrap().is_err());
    rig.tandem(Side::B, "failover", &["--accept-loss"]).unwrap();
    poll::until("B to be primary", BOUND, EVERY, || rig.primary()).unwrap();
    power_on(&mut rig, Side::A);
    assert_eq!(rig.wait_until_well(BOUND).unwrap(), Side::B);
    assert_eq!(rig.get(Side::A, "kept").as_deref(), Some("1"));
}

#[test]
fn the_replica_with_an_aof_beats_the_primary_with_an_older_snapshot() {
    if !can_run("the_replica_with_an_aof_beats_the_primary_with_an_older_snapshot") {
        return;
    }
    let settings = Settings {
        persistence: Persistence::None,
        ..Settings::default()
    };
    let mut rig = Rig::start_of(with(settings));
    // A keeps a snapshot of the first half, B an append-only file of everything.
    rig.redis(Side::B, &["CONFIG", "SET", "appendfsync", "always"]);
    rig.redis(Side::B, &["CONFIG", "SET", "appendonly", "yes"]);
    let file = config(rig.pair().host(Side::B), 6379);
    let text = std::fs::read_to_string(&file).unwrap();
    std::fs::write(&file, text.replace("appendonly no", "appendonly yes")).unwrap();
    rig.pair()
        .server(Side::B)
        .wait_until_rewritten(BOUND)
        .unwrap();
    for number in 0..100 {
        rig.redis(Side::A, &["SET", &format!("k{number}"), "1"]);
        if number == 49 {
            rig.redis(Side::A, &["SAVE"]);
        }
    }
    // An append-only file does not say how far it reaches in the group's history; the journal's mark does.
    let offset = rig.count(Side::A, "master_repl_offset");
    poll::until("B's mark", BOUND, EVERY, || {
        let mark = rig.journal(Side::B)["mark"]["offset"].as_u64();
        Ok(if mark >= Some(offset) {
            Ok(())
        } else {
            Err(format!("{mark:?} of {offset}"))
        })
    })
    .unwrap();
    // Both servers die at once, and both daemons with them.
    for side in Side::BOTH {
        rig.pair_mut().daemons_mut(side)[0].kill();
    }
    for side in Side::BOTH {
        rig.pair_mut().power_off(side).unwrap();
    }
    for side in Side::BOTH {
        power_on(&mut rig, side);
    }
    assert_eq!(rig.wait_until_well(BOUND).unwrap(), Side::B);
    for side in Side::BOTH {
        assert_eq!(rig.get(side, "k99").as_deref(), Some("1"), "{side:?}");
    }
}

#[test]
fn a_primary_restarted_empty_never_wipes_its_replica() {
    if !can_run("a_primary_restarted_empty_never_wipes_its_replica") {
        return;
    }
    let mut rig = Rig::started();
    let client = rig.client();
    // Paused, so that nothing takes over: the restarted server finds its old replica pointing at it.
    for side in Side::BOTH {
        rig.tandem(side, "pause", &[]).unwrap();
    }
    poll::until("B to have data", BOUND, EVERY, || {
        let keys = rig.redis(Side::B, &["DBSIZE"]);
        Ok(if keys == tandem_lab::resp::Reply::Integer(0) {
            Err("empty".to_owned())
        } else {
            Ok(())
        })
    })
    .unwrap();
    rig.inject(Fault::KillServer).unwrap();
    let record = client.stop().unwrap();
    // What a supervisor does: started again at once, on what it kept, which is nothing.
    rig.pair_mut().server_mut(Side::A).restart().unwrap();
    for side in Side::BOTH {
        rig.tandem(side, "resume", &[]).unwrap();
    }
    assert_eq!(rig.wait_until_well(BOUND).unwrap(), Side::B);
    rig.nothing_missing(&record, Side::B);
    rig.nothing_missing(&record, Side::A);
}

#[test]
fn a_replica_that_is_still_syncing_is_not_promoted() {
    if !can_run("a_replica_that_is_still_syncing_is_not_promoted") {
        return;
    }
    let mut rig = Rig::started();
    for number in 0..200 {
        rig.redis(Side::A, &["SET", &format!("k{number}"), "1"]);
    }
    // B comes back empty and its sync takes minutes: each key costs A a tenth of a second.
    rig.redis(Side::A, &["CONFIG", "SET", "rdb-key-save-delay", "100000"]);
    rig.pair_mut().server_mut(Side::B).restart().unwrap();
    poll::until("B to sync", BOUND, EVERY, || {
        let state = rig.redis(Side::A, &["INFO", "replication"]).text().unwrap();
        let syncing = state.contains("send_bulk") || state.contains("wait_bgsave");
        Ok(if syncing { Ok(()) } else { Err(state) })
    })
    .unwrap();
    let promoted = rig.events(Side::B, "+switch-master").len();
    rig.pair_mut().power_off(Side::A).unwrap();
    poll::until("B to know", BOUND, EVERY, || {
        let promise = rig.group(Side::B)["promise"].to_string();
        Ok(if promise.contains("NOT PROTECTED") {
            Ok(())
        } else {
            Err(promise)
        })
    })
    .unwrap();
    // Several times what a takeover takes.
    std::thread::sleep(std::time::Duration::from_secs(2));
    assert_eq!(rig.events(Side::B, "+switch-master").len(), promoted);
    assert!(rig.primary().unwrap().is_err());
    println!("B says: {}", rig.tandem(Side::B, "explain", &[]).unwrap());
}

#[test]
fn an_older_primary_that_went_on_alone_never_discards_the_newer_data_by_itself() {
    let name = "an_older_primary_that_went_on_alone_never_discards_the_newer_data_by_itself";
    if !can_run(name) {
        return;
    }
    let mut rig = dead_pair(Persistence::Aof);
    // A cannot know that B took over after its own death: in its journal it is the newest epoch's primary.
    power_on(&mut rig, Side::A);
    poll::until("A to go on alone", BOUND, EVERY, || rig.primary()).unwrap();
    rig.redis(Side::A, &["SET", "since", "1"]);
    power_on(&mut rig, Side::B);
    rig.wait_for_reason(Side::B, "source.older");
    assert_eq!(rig.get(Side::B, "newest").as_deref(), Some("1"));
    assert!(rig.pair().replicates(Side::B).is_err());
    // A person decides; what only B had is kept all the same.
    rig.tandem(Side::B, "resync", &[]).unwrap();
    assert_eq!(rig.wait_until_well(BOUND).unwrap(), Side::A);
    assert_eq!(rig.get(Side::B, "since").as_deref(), Some("1"));
    assert_eq!(rig.get(Side::B, "newest"), None);
    // After a restart from an append-only file the tail cannot be read, so it is a snapshot.
    let held = rig.archive(Side::B).iter().any(|(_, dir)| {
        let dump = std::fs::read(dir.join("dump.rdb")).unwrap_or_default();
        dump.windows(6).any(|window| window == b"newest")
    });
    assert!(held, "{:?}", rig.archive(Side::B));
}
