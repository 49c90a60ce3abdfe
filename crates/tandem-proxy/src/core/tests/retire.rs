//! Pools that were replaced: what is under way in them, and what is left of them.

use super::acks::{Acked, NO_HISTORY, ONE, pair, role, standing};
use super::*;

fn longer(pool: &mut Pool) {
    pool.timeout = Some(pool.timeout.unwrap_or_default() + Duration::from_secs(10));
}

#[test]
fn a_write_that_waits_for_replicas_is_acknowledged_after_a_reload() {
    let (mut it, writer) = Acked::with_a_write(ONE);
    let word = Word::Groups(Arc::new(pair(1, 0, 7, true)));
    it.world.replace(longer, Some(word));
    it.batch_says(&standing('a', 20, NO_HISTORY, -1), 1, &role(7, 20));
    assert_eq!(it.world.take(writer), "+OK\r\n");
}

#[test]
fn a_pool_that_is_over_leaves_its_lanes_to_the_next_and_is_told_nothing_more() {
    let mut world = World::new(pool(2));
    let client = world.client();
    let lanes = world.core.lanes.len();
    for _ in 0..10 {
        let key = world.key_on(0);
        world.give(client, &request(&format!("GET {key}")));
        world.server_says(0, b"$-1\r\n");
        assert_eq!(world.take(client), "$-1\r\n");
        world.replace(longer, None);
    }
    assert_eq!(world.core.lanes.len(), 2 * lanes);
    assert_eq!(world.core.pools_told("test").len(), 2);
    // What is not followed by another reload is looked at later.
    world.later(Duration::from_secs(30));
    assert_eq!(world.core.pools_told("test").len(), 1);
    // With more servers it needs more lanes.
    let three = |new: &mut Pool| new.servers = pool(3).servers;
    world.replace(three, None);
    assert_eq!(world.core.lanes.len(), 2 * lanes + 6);
    world.give(client, &request("GET a"));
    assert_eq!(world.connections.len(), 11);
}
