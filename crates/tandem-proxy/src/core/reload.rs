//! Pools replaced by others while clients stay connected.
//!
//! A client moves to the pool of the same name as soon as it is owed nothing, so that none of its requests can
//! overtake another on a different connection. Connections of the old pool end when nobody waits for them.

use std::sync::Arc;
use std::time::Instant;

use super::client::Life;
use super::slots::NONE;
use super::{Core, PoolSetup};
use crate::cluster::Map;
use crate::settings::{Replicas, Users};
use crate::topology::Topology;

/// What is said of the servers of a pool that replaces another.
#[derive(Debug, Clone)]
pub enum Word {
    /// They are groups.
    Groups(Arc<Topology>),
    /// They are the seats of a cluster.
    Slots(Arc<Map>),
}

impl Core {
    /// These are all pools from now on. The number of each, in this order.
    ///
    /// A pool with the very settings that it had stays as it is. Clients of a pool whose name is gone are let go. A new pool
    /// has its word on its servers before anybody asks it for anything.
    pub fn reload(&mut self, setups: Vec<(PoolSetup, Option<Word>)>, now: Instant) -> Vec<usize> {
        self.clock(now);
        self.retire();
        let old: Vec<u32> = (0..self.pools.len() as u32)
            .filter(|&pool| self.pools[pool as usize].heir.is_none())
            .collect();
        let mut kept = Vec::new();
        let mut numbers = Vec::new();
        for (setup, word) in setups {
            let same = old.iter().copied().find(|&pool| {
                Arc::ptr_eq(&self.pools[pool as usize].setup.settings, &setup.settings)
            });
            let namesake = old
                .iter()
                .copied()
                .find(|&pool| self.pools[pool as usize].setup.settings.name == setup.settings.name);
            let number = match (same, namesake) {
                (Some(same), _) => {
                    kept.push(same);
                    same
                }
                (None, Some(namesake)) => {
                    let number = self.add_informed(setup, word.as_ref(), now);
                    self.pools[namesake as usize].heir = Some(number);
                    self.waits_inherited(namesake, number);
                    kept.push(namesake);
                    number
                }
                (None, None) => self.add_informed(setup, word.as_ref(), now),
            };
            numbers.push(number as usize);
        }
        for index in 0..self.desk.clients.len() as u32 {
            let client = &self.desk.clients[index as usize];
            if client.life == Life::Vacant {
                continue;
            }
            if old.contains(&client.pool) && !kept.contains(&client.pool) {
                if client.life == Life::Open {
                    self.desk.dismiss(index);
                }
            } else if client.outstanding == 0 {
                self.inherited(index);
            }
        }
        for index in 0..self.lanes.len() as u32 {
            let lane = &mut self.lanes[index as usize];
            let pool = lane.pool;
            if old.contains(&pool)
                && !(kept.contains(&pool) && self.pools[pool as usize].heir.is_none())
            {
                lane.retired = true;
                if !lane.is_wanted() && lane.owner.is_none() && self.aside_rests(index) {
                    self.hang_up(index);
                }
            }
        }
        self.cool(|lane| lane.retired);
        self.arm_sweep();
        self.settle();
        numbers
    }

    fn add_informed(&mut self, setup: PoolSetup, word: Option<&Word>, now: Instant) -> u32 {
        let number = self.add_pool(setup);
        match word {
            Some(Word::Groups(topology)) => self.snapshot(number as usize, topology, now),
            Some(Word::Slots(map)) => self.remap(number as usize, map, now),
            None => {}
        }
        number
    }

    /// Whether there is another pool in the place of this one: what was asked of it is still to be answered, and who listens
    /// there still listens.
    pub(super) fn is_replaced(&self, pool: u32) -> bool {
        self.pools[pool as usize].heir.is_some()
    }

    /// The pools that a word on the servers of this name is for: that of its clients, and those that it has replaced, whose
    /// last connections are not over yet. Not those that had other groups.
    #[must_use]
    pub fn pools_told(&self, name: &str) -> Vec<usize> {
        let Some(current) = self.pool_named(name) else {
            return Vec::new();
        };
        let groups = |pool: usize| {
            let servers = self.settings(pool).servers.iter();
            servers.map(|server| &server.name)
        };
        let is_told = |&pool: &usize| {
            let named = self.settings(pool).name == name && groups(pool).eq(groups(current));
            named && !self.pools[pool].over
        };
        (0..self.pools.len()).filter(is_told).collect()
    }

    /// Moves a client to where its pool has gone. False: not before it is owed nothing, and it is held until then.
    #[inline]
    pub(super) fn inherited(&mut self, index: u32) -> bool {
        let pool = self.desk.clients[index as usize].pool;
        match self.pools[pool as usize].heir {
            None => true,
            Some(heir) => self.inherit(index, pool, heir),
        }
    }

    #[cold]
    fn inherit(&mut self, index: u32, pool: u32, heir: u32) -> bool {
        if self.desk.clients[index as usize].pinned != NONE {
            // What it watches or is subscribed to is on a server of the old pool, and is over before it moves.
            return true;
        }
        let client = &self.desk.clients[index as usize];
        if client
            .cold
            .as_ref()
            .is_some_and(|cold| cold.claim.is_some())
        {
            return true;
        }
        if !self.desk.quiet(index) {
            return false;
        }
        // More than one reload may have gone by.
        let mut heir = heir;
        while let Some(next) = self.pools[heir as usize].heir {
            heir = next;
        }
        let account = self.account_in(index, heir);
        let bank = self.desk.clients[index as usize].bank;
        let Some(bank) = self.heir_of_bank(bank, heir) else {
            // There is no place for one more of its kind there.
            self.desk.dismiss(index);
            return false;
        };
        self.enter_bank(index, bank);
        self.pools[pool as usize]
            .setup
            .counters
            .client_connections
            .sub(1);
        let new = &self.pools[heir as usize].setup;
        new.counters.client_connections.add(1);
        let client = &mut self.desk.clients[index as usize];
        client.pool = heir;
        client.particular = new.settings.replicas != Replicas::default();
        // Who was let in stays in, unless there is another password to be asked for.
        let before = &self.pools[pool as usize].setup.settings;
        let after = &self.pools[heir as usize].setup.settings;
        let same_door = match (&before.access.users, &after.access.users) {
            (Users::Own(_), _) | (_, Users::Own(_)) => account.is_some(),
            (Users::Server | Users::Password, Users::Server | Users::Password) => {
                after.password.is_none() || after.password == before.password
            }
        };
        if same_door {
            client.stranger &= after.password.is_some() || account.is_some();
            self.become_account(index, account);
        } else {
            self.greet(index);
        }
        true
    }

    /// Closes a connection that nobody waits for; no failure of anyone.
    pub(super) fn hang_up(&mut self, index: u32) {
        debug_assert_eq!(self.lanes[index as usize].first, NONE, "somebody waits");
        self.disconnect(index);
    }
}
