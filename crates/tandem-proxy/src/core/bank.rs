//! Where the lanes of one identity are, and how they come there.
//!
//! A bank's lanes lie beside each other, so that the one for a request is found by arithmetic. Banks stay where they are; those of
//! a pool that is [over](super::retire) are taken by pools that need just as many lanes.

use super::Core;
use super::identity::Identity;
use super::lane::Lane;

/// The lanes of one identity.
#[derive(Debug)]
pub(super) struct Bank {
    pub(super) pool: u32,
    pub(super) identity: Identity,
    /// Its lanes are at `first + server * connections + one of these`.
    pub(super) first: u32,
    pub(super) connections: u32,
    pub(super) lanes: u32,
    /// Who uses it, or waits for its proof.
    pub(super) clients: u32,
    /// A server has let it in, or the settings name it.
    pub(super) proven: bool,
    /// The pool's own.
    pub(super) own: bool,
    /// When its last client left, in milliseconds of the core.
    pub(super) left_ms: u64,
}

impl Core {
    /// Makes the two banks that a pool has from the beginning; the number of the first, which is that for RESP2.
    pub(super) fn own_banks(&mut self, pool: u32) -> u32 {
        let first = self.vacant_bank(pool, true);
        let first = first.unwrap_or(self.banks.len() as u32);
        let database = self.pools[pool as usize].setup.settings.database;
        for (number, resp3) in (first..).zip([false, true]) {
            let identity = Identity {
                resp3,
                database,
                user: None,
            };
            self.fill_bank(number, pool, identity);
            let bank = &mut self.banks[number as usize];
            bank.proven = true;
            bank.own = true;
        }
        first
    }

    pub(super) fn open_bank(&mut self, pool: u32, identity: Identity) -> u32 {
        let number = self.vacant_bank(pool, false);
        let number = number.unwrap_or(self.banks.len() as u32);
        self.fill_bank(number, pool, identity);
        number
    }

    /// A bank of a pool that is over, with as many lanes as this pool needs; of its own two, the first.
    fn vacant_bank(&self, pool: u32, own: bool) -> Option<u32> {
        let setup = &self.pools[pool as usize].setup;
        let connections = setup.connections.max(1);
        let lanes = setup.counters.servers.len() as u32 * connections;
        let fits = |bank: &Bank| {
            self.pools[bank.pool as usize].over
                && bank.own == own
                && (bank.lanes, bank.connections) == (lanes, connections)
        };
        let found = self.banks.iter().position(fits);
        found.map(|number| number as u32)
    }

    /// Makes a bank, at the end or in the place of one that is vacant.
    fn fill_bank(&mut self, number: u32, pool: u32, identity: Identity) {
        let vacant = self.banks.get(number as usize).map(|bank| bank.first);
        let first = vacant.unwrap_or(self.lanes.len() as u32);
        let setup = &self.pools[pool as usize].setup;
        let connections = setup.connections.max(1);
        let mut next = first;
        for (server, counters) in setup.counters.servers.iter().enumerate() {
            for _ in 0..connections {
                let lane = Lane::new(pool, server as u32, number, counters.clone());
                let lane = lane.wanted_by(&setup.settings);
                match self
                    .lanes
                    .get_mut(next as usize)
                    .filter(|_| vacant.is_some())
                {
                    Some(place) => lane.settle_in(place),
                    None => self.lanes.push(lane),
                }
                next += 1;
            }
        }
        let bank = Bank {
            pool,
            identity,
            first,
            connections,
            lanes: next - first,
            clients: 0,
            proven: false,
            own: false,
            left_ms: 0,
        };
        match self.banks.get_mut(number as usize) {
            Some(place) => *place = bank,
            None => self.banks.push(bank),
        }
        self.follow_lanes(number);
    }

    /// Lanes that are new obey what was said about their servers before.
    fn follow_lanes(&mut self, bank: u32) {
        let Bank {
            pool, first, lanes, ..
        } = self.banks[bank as usize];
        for index in first..first + lanes {
            let server = self.lanes[index as usize].server;
            if !self.is_group(pool, server) {
                continue;
            }
            let open = self.is_open(pool, server);
            let tells_forks = self.tells_forks(pool, server);
            let lane = &mut self.lanes[index as usize];
            lane.followed = true;
            if tells_forks {
                lane.ask_at_ms = 0;
            }
            lane.held = (!open).then_some(0);
        }
    }
}
