//! Failovers on request: numbers that are taken, voters that say nothing, and stalls on the way.

use std::time::Duration;

use super::stories::{SETTLE, agreed_on_another, assert_whole, ms, promotions, settled};
use super::view::Plan;
use super::world::{World, server_at};
use crate::sentinel::ids::ElectionEpoch;
use crate::sentinel::io::Input;
use crate::sentinel::model::Stage;

const NOT_ELECTED: &str = "-failover-abort-not-elected";

fn stage(world: &World, node: usize) -> Option<Stage> {
    let failover = world.group(node).failover.as_ref();
    failover.map(|failover| failover.stage.clone())
}

/// The process of a sentinel does not run for this long, and learns of it before anything else.
fn freeze(world: &mut World, node: usize, time: Duration) {
    world.now += time;
    world.input(node, Input::Late(time));
}

#[test]
fn two_that_are_asked_at_once_take_two_numbers() {
    for seed in 0..20 {
        let mut world = settled(&Plan {
            seed: seed * 100,
            ..Plan::default()
        });
        world.run_for(ms(seed * 37));
        world.ask(0, "failover orders");
        world.ask(1, "failover orders");
        world.run_for(SETTLE);
        assert_whole(&world);
        let tried = world.count("+try-failover");
        assert!(tried <= 12, "seed {seed}: {tried} numbers for two changes");
        assert!(promotions(&world) <= 2, "seed {seed}");
    }
}

#[test]
fn a_majority_within_reach_that_gives_no_vote_is_not_passed_over() {
    let mut world = settled(&Plan::default());
    world.nodes[1].disk_broken = true;
    world.nodes[2].disk_broken = true;
    world.ask(0, "failover orders");
    world.run_for(ms(1_500));
    assert_eq!(world.count(NOT_ELECTED), 1, "{:#?}", world.told);
    assert_eq!(promotions(&world), 0);
    assert_eq!(world.writable(), [&server_at(1)]);
    let tried = world.count("+try-failover");
    assert!((2..=60).contains(&tried), "{tried} numbers in a second");
}

#[test]
fn where_no_majority_is_within_reach_the_word_counts() {
    let mut world = settled(&Plan::default());
    world.cut("10.0.0.0", "10.0.0.1");
    world.cut("10.0.0.0", "10.0.0.2");
    world.run_for(Duration::from_secs(5));
    world.ask(0, "failover orders");
    world.run_for(ms(900));
    assert_eq!(
        stage(&world, 0),
        Some(Stage::Electing),
        "votes may still come"
    );
    world.run_for(ms(600));
    assert_eq!(promotions(&world), 1, "{:#?}", world.told);
    world.cuts.clear();
    world.run_for(SETTLE);
    assert_whole(&world);
}

/// An answer that tells of another leader in the same election comes when the second is over.
#[test]
fn a_late_answer_still_ends_what_rests_on_the_word_alone() {
    let mut world = settled(&Plan::default());
    for replica in [2, 3] {
        world.server(&server_at(replica)).lazy = true;
    }
    world.server(&server_at(1)).offset += 500;
    world.cut("10.0.0.0", "10.0.0.1");
    world.cut("10.0.0.0", "10.0.0.2");
    world.run_for(Duration::from_secs(5));
    world.ask(0, "failover orders");
    assert!(world.run_till(ms(1_100), |world| stage(world, 0) == Some(Stage::Promoting)));
    let epoch = world.nodes[0].sentinel.current_epoch;
    let (voter, other) = (
        world.nodes[1].sentinel.id.clone(),
        world.nodes[2].sentinel.id.clone(),
    );
    let id = world.group(0).id;
    let group = world.nodes[0].sentinel.groups.get_mut(&id).unwrap();
    group.peers.get_mut(&voter).unwrap().vote = Some((other, epoch));
    world.input(0, Input::Tick);
    world.run_for(ms(20));
    assert_eq!(stage(&world, 0), None);
    assert_eq!(world.count(NOT_ELECTED), 1);
    assert_eq!(promotions(&world), 0);
    assert_eq!(world.writable(), [&server_at(1)], "the pause was ended");
}

#[test]
fn a_number_that_is_not_on_our_own_disk_leads_nowhere() {
    let mut world = settled(&Plan {
        sentinels: 1,
        quorum: 1,
        ..Plan::default()
    });
    world.nodes[0].disk_broken = true;
    world.ask(0, "failover orders");
    world.run_for(ms(1_500));
    assert_eq!(world.count(NOT_ELECTED), 1, "{:#?}", world.told);
    assert_eq!(promotions(&world), 0);
    world.nodes[0].disk_broken = false;
    world.run_for(Duration::from_secs(3));
    world.ask(0, "failover orders");
    assert!(world.run_till(ms(200), agreed_on_another));
}

/// The file that a crash leaves holds the number of every promotion that was sent.
#[test]
fn a_restart_does_not_use_a_number_again() {
    let mut world = settled(&Plan::default());
    world.ask(0, "failover orders");
    assert!(world.run_till(ms(100), |world| stage(world, 0) == Some(Stage::Promoting)));
    let number = world.nodes[0].sentinel.current_epoch;
    assert!(number > ElectionEpoch(0));
    let group = world.group(0);
    assert!(world.nodes[0].sentinel.saver.holds(group.vote_saved));
    assert_eq!(group.leader_epoch, number);
}

#[test]
fn a_stall_while_votes_come_in_decides_nothing() {
    let mut world = settled(&Plan::default());
    world.ask(0, "failover orders");
    assert_eq!(stage(&world, 0), Some(Stage::Electing));
    // Shorter than anything that could have ended the votes' hold: the answers lie in the sockets, and count.
    freeze(&mut world, 0, ms(1_500));
    assert_eq!(stage(&world, 0), Some(Stage::Electing), "not by the clock");
    world.run_for(ms(100));
    assert_eq!(promotions(&world), 1);
    world.run_for(SETTLE);
    assert_whole(&world);

    let mut world = settled(&Plan::default());
    world.ask(0, "failover orders");
    freeze(&mut world, 0, Duration::from_secs(30));
    assert_eq!(stage(&world, 0), None);
    assert_eq!(world.count(NOT_ELECTED), 1);
    world.run_for(SETTLE);
    assert_eq!(promotions(&world), 0);
    assert!(world.agreed(&server_at(1)));
}

#[test]
fn a_stall_before_the_promotion_leaves_the_primary_as_it_was() {
    let mut world = settled(&Plan::default());
    for replica in [2, 3] {
        world.server(&server_at(replica)).lazy = true;
    }
    world.server(&server_at(1)).offset += 500;
    world.ask(0, "failover orders");
    assert!(world.run_till(ms(100), |world| stage(world, 0) == Some(Stage::Promoting)));
    freeze(&mut world, 0, Duration::from_secs(30));
    for replica in [2, 3] {
        world.server(&server_at(replica)).lazy = false;
    }
    assert_eq!(stage(&world, 0), None);
    world.run_for(SETTLE);
    assert_eq!(promotions(&world), 0);
    assert_eq!(world.writable(), [&server_at(1)]);
}

/// The old primary is fenced already: the votes are asked for anew, and the change is finished.
#[test]
fn a_stall_after_the_fence_is_finished_by_a_new_election() {
    let mut world = settled(&Plan::default());
    world.ask(0, "failover orders");
    assert!(world.run_till(ms(100), |world| {
        world.servers[&server_at(1)].follows.is_some()
    }));
    assert_eq!(stage(&world, 0), Some(Stage::Promoting));
    let before = world.nodes[0].sentinel.current_epoch;
    freeze(&mut world, 0, Duration::from_secs(5));
    assert_eq!(stage(&world, 0), Some(Stage::Electing));
    assert!(world.nodes[0].sentinel.current_epoch > before);
    assert!(world.run_till(ms(1_500), |world| world.writable().len() == 1));
    world.run_for(SETTLE);
    assert_whole(&world);
    assert_eq!(promotions(&world), 1);
}
