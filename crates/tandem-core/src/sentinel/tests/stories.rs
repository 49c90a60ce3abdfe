//! The stories.

use std::time::Duration;

use super::server::Life;
use super::view::Plan;
use super::world::{World, server_at};
use crate::sentinel::Endpoint;
use crate::sentinel::io::{Input, Word};

pub(super) const SETTLE: Duration = Duration::from_secs(15);
const NO_ONE: &str = "SLAVEOF NO ONE";

pub(super) fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

/// A fleet that has found itself.
pub(super) fn settled(plan: &Plan) -> World {
    let mut world = World::new(plan);
    world.run_for(SETTLE);
    for node in 0..plan.sentinels {
        let group = world.group(node);
        assert_eq!(
            group.replicas.len(),
            usize::from(plan.replicas),
            "node {node}"
        );
        assert_eq!(group.peers.len(), plan.sentinels - 1, "node {node}");
    }
    world
}

/// Every sentinel names one of these, and the same.
pub(super) fn agreed_on_another(world: &World) -> bool {
    (2..6).any(|index| world.agreed(&server_at(index)))
}

/// One primary, everybody knows it, and all living servers follow it.
pub(super) fn assert_whole(world: &World) {
    let writable = world.writable();
    assert_eq!(writable.len(), 1, "{writable:?}");
    let primary = writable[0].clone();
    assert!(world.agreed(&primary), "not agreed on {primary}");
    for server in world
        .servers
        .values()
        .filter(|server| server.life == Life::Up)
    {
        assert!(
            server.at == primary || server.follows.as_ref() == Some(&primary),
            "{} follows {:?}",
            server.at,
            server.follows
        );
    }
    let epochs: Vec<_> = (0..world.nodes.len())
        .filter(|node| world.nodes[*node].up)
        .map(|node| world.group(node).config_epoch)
        .collect();
    assert!(epochs.windows(2).all(|two| two[0] == two[1]), "{epochs:?}");
}

pub(super) fn promotions(world: &World) -> usize {
    world
        .servers
        .values()
        .map(|server| server.told.iter().filter(|line| *line == NO_ONE).count())
        .sum()
}

#[test]
fn they_find_each_other_and_the_replicas() {
    let world = settled(&Plan::default());
    assert!(world.group(0).all_ours());
    assert_eq!(world.count("+monitor"), 3);
    assert_eq!(world.count("+slave"), 6);
    assert_eq!(world.count("+sentinel"), 6);
    assert_eq!(world.count("+sdown"), 0);
}

#[test]
fn a_dead_primary_is_replaced_on_proof() {
    for seed in 0..20 {
        let mut world = settled(&Plan {
            seed,
            ..Plan::default()
        });
        let died = world.clock();
        world.kill(&server_at(1));
        assert!(
            world.run_till(ms(500), agreed_on_another),
            "seed {seed}: {:#?}",
            world.told
        );
        let took = world.clock() - died;
        assert!(took < ms(200), "seed {seed}: {took:?}");
        world.run_for(SETTLE);
        assert_whole(&world);
        assert_eq!(promotions(&world), 1, "seed {seed}");
    }
}

#[test]
fn a_daemons_word_of_a_death_counts_while_the_connection_is_gone() {
    let mut world = settled(&Plan::default());
    let server = server_at(1);
    let dead = Input::Witness {
        server: server.clone(),
        word: Word::Dead,
    };
    for node in 0..3 {
        world.input(node, dead.clone());
    }
    world.run_for(ms(100));
    assert_eq!(world.count("+evidence"), 0, "it answers us");
    world.kill(&server);
    world.run_for(ms(1));
    for node in 0..3 {
        world.input(node, dead.clone());
    }
    // Two refusals in a row, 50 ms apart, would prove it no sooner.
    assert!(world.run_till(ms(40), |world| world.count("+odown") > 0));
    assert!(world.run_till(ms(300), agreed_on_another));
}

#[test]
fn a_frozen_primary_is_replaced_when_it_was_silent_for_long_enough() {
    for seed in 0..20 {
        let mut world = settled(&Plan {
            seed,
            ..Plan::default()
        });
        world.run_for(ms(seed * 7));
        let froze = world.clock();
        world.freeze(&server_at(1));
        assert!(!world.run_till(ms(999), agreed_on_another), "too early");
        let writable = |world: &World| !world.writable().is_empty();
        let told = |world: &World| {
            let lines = world.told.iter().filter(|told| told.at >= froze);
            lines
                .map(|told| {
                    format!(
                        "{:?} {} {} {}\n",
                        told.at - froze,
                        told.node,
                        told.name,
                        told.payload
                    )
                })
                .collect::<String>()
        };
        assert!(
            world.run_till(ms(101), writable),
            "seed {seed}: {}",
            told(&world)
        );
        assert!(world.run_till(ms(50), agreed_on_another), "seed {seed}");
        assert!(world.clock() - froze < ms(1150));
        // It wakes up as a primary, and is a replica as soon as it is seen.
        world.run_for(ms(5_000));
        world.thaw(&server_at(1));
        world.run_for(ms(1_500));
        assert_whole(&world);
        assert_eq!(promotions(&world), 1, "seed {seed}");
    }
}

/// The whole text of a failover, as subscribers see it.
#[test]
fn the_events_of_a_failover() {
    let mut world = settled(&Plan {
        sentinels: 1,
        quorum: 1,
        ..Plan::default()
    });
    world.server(&server_at(3)).priority = 10;
    world.run_for(SETTLE);
    let since = world.clock();
    world.kill(&server_at(1));
    world.run_for(ms(4_000));
    let told: Vec<String> = world
        .told
        .iter()
        .filter(|told| told.at >= since)
        .map(|told| format!("{} {}", told.name, told.payload))
        .collect();
    let id = format!("{:040x}", 0xabcd_0000_u32);
    let expected = [
        "+evidence master orders 10.0.1.1 6379 connection refused twice".to_owned(),
        "+sdown master orders 10.0.1.1 6379".to_owned(),
        "+odown master orders 10.0.1.1 6379 #quorum 1/1".to_owned(),
        "+new-epoch 1".to_owned(),
        "+try-failover master orders 10.0.1.1 6379".to_owned(),
        format!("+vote-for-leader {id} 1"),
        "+elected-leader master orders 10.0.1.1 6379".to_owned(),
        "+failover-state-select-slave master orders 10.0.1.1 6379".to_owned(),
        "+selected-slave slave 10.0.1.3:6379 10.0.1.3 6379 @ orders 10.0.1.1 6379".to_owned(),
        "+failover-state-send-slaveof-noone slave 10.0.1.3:6379 10.0.1.3 6379 @ orders 10.0.1.1 6379"
            .to_owned(),
        "+failover-state-wait-promotion slave 10.0.1.3:6379 10.0.1.3 6379 @ orders 10.0.1.1 6379"
            .to_owned(),
        "-role-change slave 10.0.1.3:6379 10.0.1.3 6379 @ orders 10.0.1.1 6379 new reported role is master"
            .to_owned(),
        "+promoted-slave slave 10.0.1.3:6379 10.0.1.3 6379 @ orders 10.0.1.1 6379".to_owned(),
        "+failover-state-reconf-slaves master orders 10.0.1.1 6379".to_owned(),
        "+switch-master orders 10.0.1.1 6379 10.0.1.3 6379".to_owned(),
        "+slave slave 10.0.1.2:6379 10.0.1.2 6379 @ orders 10.0.1.3 6379".to_owned(),
        "+slave slave 10.0.1.1:6379 10.0.1.1 6379 @ orders 10.0.1.3 6379".to_owned(),
        "+slave-reconf-sent slave 10.0.1.2:6379 10.0.1.2 6379 @ orders 10.0.1.3 6379".to_owned(),
        "+slave-reconf-inprog slave 10.0.1.2:6379 10.0.1.2 6379 @ orders 10.0.1.3 6379".to_owned(),
        "+slave-reconf-done slave 10.0.1.2:6379 10.0.1.2 6379 @ orders 10.0.1.3 6379".to_owned(),
        "+failover-end master orders 10.0.1.3 6379".to_owned(),
        "+sdown slave 10.0.1.1:6379 10.0.1.1 6379 @ orders 10.0.1.3 6379".to_owned(),
    ];
    assert_eq!(told, expected);
}

#[test]
fn with_a_foreign_sentinel_proof_alone_is_not_enough() {
    let mut world = settled(&Plan {
        foreign: 1,
        ..Plan::default()
    });
    assert!(!world.group(1).all_ours());
    world.kill(&server_at(1));
    assert!(!world.run_till(ms(990), |world| world.count("+sdown") > 0));
    assert!(
        world.run_till(ms(300), agreed_on_another),
        "{:#?}",
        world.told
    );
    world.run_for(SETTLE);
    assert_whole(&world);
}

#[test]
fn a_returning_primary_is_made_a_replica_at_once_and_its_loss_is_counted() {
    let mut world = diverged(None);
    let old = server_at(1);
    let healed = world.clock();
    assert!(world.run_till(ms(3_000), |world| world.servers[&old].follows.is_some()));
    let told = world.first("+diverged", healed).expect("it is told");
    assert!(told.payload.ends_with("40 discarded"), "{}", told.payload);
    assert!(world.first("+convert-to-slave", healed).is_some());
    world.run_for(SETTLE);
    assert_whole(&world);
}

/// A primary that was cut off goes on taking writes, while the others elect another one; then it is back.
fn diverged(daemon: Option<Word>) -> World {
    let mut world = settled(&Plan::default());
    let old = server_at(1);
    if let Some(word) = daemon {
        world.daemons.insert(old.clone(), word);
    }
    for node in 0..3 {
        world.cut(&format!("10.0.0.{node}"), &old.host);
    }
    world.server(&server_at(2)).lazy = true;
    world.server(&server_at(3)).lazy = true;
    assert!(world.run_till(ms(5_000), agreed_on_another));
    world.run_for(ms(5_000));
    // 40 bytes that the others never had.
    world.server(&old).offset += 40;
    world.server(&server_at(2)).lazy = false;
    world.server(&server_at(3)).lazy = false;
    world.cuts.clear();
    world
}

#[test]
fn what_a_daemon_archived_is_told_as_such() {
    let mut world = diverged(Some(Word::Archived("2 commands".to_owned())));
    assert!(world.run_till(ms(3_000), |world| {
        world.servers[&server_at(1)].follows.is_some()
    }));
    let told = world
        .first("+diverged", Duration::ZERO)
        .expect("it is told");
    assert!(told.payload.ends_with("40 archived"), "{}", told.payload);
    world.run_for(SETTLE);
    assert_whole(&world);
}

#[test]
fn a_server_that_a_daemon_leads_is_left_to_it() {
    let mut world = diverged(Some(Word::Owned));
    world.run_for(Duration::from_secs(50));
    let told = &world.servers[&server_at(1)].told;
    assert!(told.is_empty(), "{told:?}");
    let told = world
        .first("+diverged", Duration::ZERO)
        .expect("it is told");
    assert!(told.payload.ends_with("40 owned"), "{}", told.payload);
    // The daemon has dealt with it.
    let new = world.address(0);
    world.server(&server_at(1)).follows = Some(new);
    world.run_for(SETTLE);
    assert_whole(&world);
}

#[test]
fn a_minority_promotes_nobody() {
    let mut world = settled(&Plan {
        sentinels: 5,
        quorum: 2,
        ..Plan::default()
    });
    // Sentinels 3 and 4 see neither the primary nor the other sentinels.
    for node in [3, 4] {
        world.cut(&format!("10.0.0.{node}"), "10.0.1.1");
        for other in 0..3 {
            world.cut(&format!("10.0.0.{node}"), &format!("10.0.0.{other}"));
        }
    }
    world.run_for(Duration::from_secs(60));
    assert!(world.count("+odown") > 0);
    assert_eq!(promotions(&world), 0);
    world.cuts.clear();
    world.run_for(SETTLE);
    assert_whole(&world);
    assert!(world.agreed(&server_at(1)));
}

#[test]
fn a_planned_change_loses_nothing() {
    let mut world = settled(&Plan::default());
    world.run_for(ms(12_345));
    let since = world.clock();
    let request = world.ask(0, "failover orders");
    assert!(world.answers[&request].is_ok());
    assert!(
        world.run_till(ms(50), agreed_on_another),
        "{:#?}\n{:?}",
        world.told,
        world.logs
    );
    let new = world.writable()[0].clone();
    let told = &world.servers[&server_at(1)].told;
    assert_eq!(
        told[..2],
        [
            "CLIENT PAUSE 500 WRITE".to_owned(),
            format!("SLAVEOF {} 6379", new.host)
        ]
    );
    world.run_for(ms(500));
    assert_eq!(
        world.servers[&server_at(1)].told[2..],
        ["CLIENT UNPAUSE".to_owned()]
    );
    assert_eq!(promotions(&world), 1);
    assert!(world.first("+odown", since).is_none());
    world.run_for(SETTLE);
    assert_whole(&world);
    assert!(world.first("+switch-master", since).is_some());
    assert_eq!(world.count("-failover-abort-not-elected"), 0);
}

#[test]
fn a_planned_change_waits_for_the_replica_and_gives_up_with_nothing_changed() {
    let mut world = settled(&Plan {
        replicas: 1,
        ..Plan::default()
    });
    world.server(&server_at(2)).lazy = true;
    world.server(&server_at(1)).offset += 500;
    world.ask(0, "failover orders");
    world.run_for(ms(200));
    assert_eq!(promotions(&world), 0);
    assert!(world.writable().is_empty(), "paused");
    world.run_for(ms(100));
    assert_eq!(world.count("-failover-abort-slave-behind"), 1);
    assert_eq!(world.writable(), [&server_at(1)]);
    assert_eq!(promotions(&world), 0);
    world.run_for(SETTLE);
    assert!(world.agreed(&server_at(1)));
}

#[test]
fn where_writes_cannot_be_paused_the_change_is_a_plain_one() {
    let mut world = settled(&Plan::default());
    world.server(&server_at(1)).denies = vec!["CLIENT"];
    world.ask(0, "failover orders");
    assert!(
        world.run_till(ms(50), agreed_on_another),
        "{:#?}\n{:?}",
        world.told,
        world.logs
    );
    assert_eq!(world.count("-pause-refused"), 1);
    world.run_for(ms(100));
    // The old one was told at once, and by SLAVEOF alone after its transaction was refused.
    assert!(world.servers[&server_at(1)].follows.is_some());
    world.run_for(SETTLE);
    assert_whole(&world);
}

#[test]
fn a_replica_in_mid_sync_is_never_promoted() {
    let mut world = settled(&Plan {
        replicas: 1,
        ..Plan::default()
    });
    let replica = world.server(&server_at(2));
    replica.syncing = true;
    replica.offset = 0;
    replica.keys = 0;
    world.run_for(SETTLE);
    world.kill(&server_at(1));
    world.run_for(Duration::from_secs(30));
    assert_eq!(promotions(&world), 0);
    assert!(world.count("-failover-abort-no-good-slave") > 0);
    assert!(
        world
            .logs
            .iter()
            .any(|line| line.contains("receiving a sync")),
        "{:?}",
        world.logs
    );
}

#[test]
fn a_primary_that_comes_back_empty_is_a_failed_one() {
    let mut world = settled(&Plan {
        foreign: 3,
        ..Plan::default()
    });
    // The replicas do not read from it again before the sentinels have seen it.
    world.server(&server_at(2)).syncing = true;
    world.server(&server_at(3)).syncing = true;
    world.kill(&server_at(1));
    world.run_for(ms(100));
    world.server(&server_at(2)).syncing = false;
    world.server(&server_at(3)).syncing = false;
    world.server(&server_at(2)).follows = Some(Endpoint::new("10.9.9.9", 1));
    world.server(&server_at(3)).follows = Some(Endpoint::new("10.9.9.9", 1));
    world.server(&server_at(1)).restart(0);
    assert!(
        world.run_till(ms(900), agreed_on_another),
        "{:#?}",
        world.told
    );
    assert!(world.count("+data-gone") > 0);
    let primary = world.address(0);
    assert_eq!(world.servers[&primary].keys, 10);
}

#[test]
fn a_stall_of_our_own_is_nobody_elses_fault() {
    let mut world = settled(&Plan::default());
    world.freeze(&server_at(1));
    world.run_for(ms(900));
    let since = world.clock();
    world.input(0, Input::Late(ms(3_000)));
    world.thaw(&server_at(1));
    world.run_for(ms(1_000));
    assert_eq!(world.count("+sdown"), 0);
    assert_eq!(world.names(0, since), ["+tilt", "-tilt"]);
}

#[test]
fn a_leader_that_dies_is_followed_by_another() {
    for (first, second) in [(true, false), (false, true)] {
        let mut world = settled(&Plan::default());
        for node in &mut world.nodes {
            node.sentinel.simulate.after_election = first;
            node.sentinel.simulate.after_promotion = second;
        }
        world.kill(&server_at(1));
        assert!(world.run_till(ms(2_000), |world| !world.codes.is_empty()));
        for node in &mut world.nodes {
            node.sentinel.simulate.after_election = false;
            node.sentinel.simulate.after_promotion = false;
        }
        assert!(world.run_till(Duration::from_secs(60), agreed_on_another));
        world.run_for(Duration::from_secs(60));
        assert_whole(&world);
    }
}

/// Whatever the moments at which things happen: one primary in the end, and never two promotions for one configuration.
#[test]
fn many_fleets_with_a_primary_that_dies_and_comes_back() {
    for seed in 0..60 {
        let sentinels = if seed % 2 == 0 { 3 } else { 5 };
        let mut world = settled(&Plan {
            sentinels,
            quorum: 2,
            foreign: usize::try_from(seed % 3).unwrap(),
            seed: seed * 1_000,
            ..Plan::default()
        });
        world.run_for(ms(seed * 13));
        let old = server_at(1);
        if seed % 4 < 2 {
            world.kill(&old);
        } else {
            world.freeze(&old);
        }
        world.run_for(ms(300 * (seed % 10)));
        if seed % 4 < 2 {
            world.server(&old).restart(10);
        } else {
            world.thaw(&old);
        }
        world.run_for(Duration::from_secs(90));
        assert_whole(&world);
        assert!(
            promotions(&world) <= 1,
            "seed {seed}: {}",
            promotions(&world)
        );
    }
}
