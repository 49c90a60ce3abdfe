//! Pools that were replaced and are over: what they had goes to the next ones.
//!
//! A pool before a cluster has hundreds of lanes, and all lanes are looked at now and then: reloads must not add to them for ever. A
//! replaced pool is over once its last client and last connection are gone, which is looked for every half minute and at the next
//! reload. Its number stays its own; its banks, with their lanes, are taken by pools that need just as many.

use super::Core;
use super::client::Life;
use super::lane::Lane;

impl Core {
    /// Finds replaced pools that are over, after it has closed what nobody waits for there. Whether some are not.
    pub(super) fn retire(&mut self) -> bool {
        let mut left = false;
        for pool in 0..self.pools.len() as u32 {
            if !self.is_replaced(pool) || self.pools[pool as usize].over {
                continue;
            }
            self.cool(|lane| lane.pool == pool);
            let unused = self.is_unused(pool);
            let mut closed = true;
            for index in 0..self.lanes.len() as u32 {
                if self.lanes[index as usize].pool != pool {
                    continue;
                }
                if self.lanes[index as usize].is_at_rest() && (unused || self.aside_rests(index)) {
                    self.hang_up(index);
                } else {
                    closed = false;
                }
            }
            if unused && closed {
                self.end_pool(pool);
            } else {
                left = true;
            }
        }
        left
    }

    /// Whether no client belongs to a pool any more.
    fn is_unused(&self, pool: u32) -> bool {
        let mut clients = self.desk.clients.iter();
        let mut banks = self.banks.iter().filter(|bank| bank.pool == pool);
        !clients.any(|client| client.life != Life::Vacant && client.pool == pool)
            && banks.all(|bank| bank.clients == 0)
    }

    /// Nothing is kept of it but what its name leads to: its heir.
    fn end_pool(&mut self, pool: u32) {
        let mut heir = pool;
        while let Some(next) = self.pools[heir as usize].heir {
            heir = next;
        }
        let after = &self.pools[heir as usize];
        let (setup, placement) = (after.setup.clone(), after.placement.clone());
        let state = &mut self.pools[pool as usize];
        state.over = true;
        state.setup = setup;
        state.placement = placement;
        state.groups = Vec::new();
        state.acks = Vec::new();
        state.waits = Vec::new();
        state.reading = Vec::new();
        state.witnesses = Vec::new();
        state.cluster = None;
    }
}

impl Lane {
    /// Whether nobody would miss it, or whatever else it is for.
    fn is_at_rest(&self) -> bool {
        self.is_idle() && self.owner.is_none() && self.doubts.is_empty()
    }

    /// Takes the place of another. The generation goes on, so that late news of the last tenant do not reach this one; and the
    /// place may still be in the list of those with something to send.
    pub(super) fn settle_in(self, place: &mut Self) {
        *place = Self {
            generation: place.generation,
            dirty: place.dirty,
            next_dirty: place.next_dirty,
            ..self
        };
    }
}
