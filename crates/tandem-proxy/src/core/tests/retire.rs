//! Pools that were replaced: what is under way in them.

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
