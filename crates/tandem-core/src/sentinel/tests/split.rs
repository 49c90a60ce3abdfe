//! Votes that are split while a voter is lost.

use std::time::Duration;

use super::stories::{SETTLE, ms, settled};
use super::view::Plan;
use super::world::{World, server_at};
use crate::sentinel::io::Input;

/// The host of the primary is lost with its sentinel: two voters are left of three, whose connections to the third stand
/// for a while. When both vote for themselves, nobody can be elected, and neither is to wait for the lost one.
#[test]
fn a_split_beside_a_lost_voter_is_not_waited_out() {
    let mut slowest = Duration::ZERO;
    let mut splits = 0;
    for seed in 0..20 {
        let mut world = settled(&Plan {
            seed: seed * 1_000,
            ..Plan::default()
        });
        for other in ["10.0.0.1", "10.0.0.2", "10.0.1.2", "10.0.1.3"] {
            world.cut("10.0.0.0", other);
            world.cut("10.0.1.1", other);
        }
        let ready = |world: &World| {
            [1, 2].iter().all(|node| {
                let group = world.group(*node);
                group.primary.down.objective.is_some() && group.failover.is_none()
            })
        };
        if !world.run_till(SETTLE, ready) {
            // One of them was quicker: an ordinary election.
            continue;
        }
        for node in [1, 2] {
            let id = world.group(node).id;
            world.nodes[node].sentinel.begin(id, false);
        }
        for node in [1, 2] {
            world.input(node, Input::Tick);
        }
        splits += 1;
        let begun = world.clock();
        let changed = |world: &World| {
            [1, 2]
                .iter()
                .all(|node| world.address(*node) != server_at(1))
        };
        assert!(
            world.run_till(Duration::from_secs(60), changed),
            "seed {seed}"
        );
        slowest = slowest.max(world.clock() - begun);
    }
    assert!(splits > 0, "nobody's votes were split");
    println!("{splits} splits, the slowest took {slowest:?}");
    assert!(slowest < ms(1_000), "{slowest:?}");
}
