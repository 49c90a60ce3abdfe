//! The stories.

use std::time::Duration;

use super::server::Life;
use super::world::{Plan, World, server_at};
use crate::sentinel::io::Loss;

const SETTLE: Duration = Duration::from_secs(15);

fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

fn settled(plan: &Plan) -> World {
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
    let mut world = settled(&Plan::default());
    let died = world.clock();
    world.kill(&server_at(1));
    let known = |world: &World| !world.agreed(&server_at(1));
    assert!(world.run_till(ms(500), known), "{:?}", world.told);
    world.run_till(ms(500), |world| {
        world.agreed(&server_at(2)) || world.agreed(&server_at(3))
    });
    let took = world.clock() - died;
    assert!(took < ms(500), "{took:?}");
    world.run_for(SETTLE);
    assert_eq!(world.writable().len(), 1);
    let primary = world.writable()[0].clone();
    assert!(world.agreed(&primary));
    for server in world
        .servers
        .values()
        .filter(|server| server.life == Life::Up)
    {
        assert!(
            server.at == primary || server.follows.as_ref() == Some(&primary),
            "{server:?}"
        );
    }
}
