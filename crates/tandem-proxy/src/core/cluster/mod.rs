//! Pools whose servers are the shards of a Redis Cluster.
//!
//! A shard is a group to everything else in here ([`crate::cluster`]): what a lost primary means, how long requests wait and
//! what becomes of those that were sent is as for any group. Only this is a cluster's own:
//!
//! | | |
//! |---|---|
//! | `redirect` | a node says `MOVED`, `ASK` or `TRYAGAIN`: it has not executed the request, which is asked elsewhere |
//! | `block` | the same of a transaction, which is asked again as a whole |
//! | `listen` | the same of subscribers |
//! | `waiting` | what may be asked again only in a moment, or of a shard that is not known yet |
//! | `spread` | commands over several slots, and over all shards |
//! | this file | the map: obeying a newer one, and wishing for one |
//!
//! A thread goes by its own copy of the table of slots, in which a `MOVED` counts at once. It wishes for a new map then, and
//! when a connection is lost; whoever asks the nodes sees to it that they are not asked too often.

mod block;
mod listen;
mod redirect;
mod spread;
mod waiting;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::client::{Hold, Life, Watch};
use super::slots::{NONE, Owner};
use super::{Core, Order};
use crate::cluster::{Map, Seats};
use crate::placement::Placement;
use crate::settings::{Address, Distribution};
use crate::topology::{Group, Phase, Topology};

pub(super) use block::{Block, is_block};
pub(super) use listen::{Home, sends_on};
pub(super) use redirect::{ASKING, look};
use spread::Spread;
pub(super) use waiting::slot_of_request;

/// Between two wishes of a thread for a newer map.
const WISH_MS: u64 = 50;
/// When a shard has another primary, what the one before was asked may take so long to be answered: it answers that it is
/// not the one, if it is alive.
const PART_WITHIN: Duration = Duration::from_millis(200);

/// What a pool knows of its cluster.
#[derive(Debug, Default)]
pub(super) struct Cluster {
    /// Where each shard's primary is, and its seat.
    seats: Vec<(Address, u32)>,
    /// Shards whose last primary is still being heard out.
    parting: Vec<Parting>,
    /// No wish before this, in milliseconds of the core.
    wish_at_ms: u64,
    /// There is a wish that was not said.
    wishes: bool,
    /// Who was named and is not known; asked first.
    stranger: Option<Address>,
    spread: Spread,
}

#[derive(Debug)]
struct Parting {
    server: u32,
    /// What it will be.
    group: Group,
    until_ms: u64,
}

impl Cluster {
    fn seat_at(&self, at: &Address) -> Option<u32> {
        self.seats
            .iter()
            .find(|(it, _)| it == at)
            .map(|&(_, seat)| seat)
    }

    /// The seats that are somebody's, in their order.
    pub(super) fn taken(&self) -> impl Iterator<Item = u32> {
        self.seats.iter().map(|&(_, seat)| seat)
    }
}

impl Core {
    /// A new pool: if it is a cluster, it begins with a map on which nothing is.
    pub(super) fn begin_cluster(&mut self, pool: u32) {
        let state = &mut self.pools[pool as usize];
        if state.setup.settings.distribution == Distribution::Slots {
            state.cluster = Some(Box::default());
            self.remap(pool as usize, Seats::new().map(), self.now);
        }
    }

    /// The newest map of a pool's cluster. Other pools have none, and nothing happens.
    pub fn remap(&mut self, pool: usize, map: &Map, now: Instant) {
        self.clock(now);
        let Some(state) = self.pools.get_mut(pool) else {
            return;
        };
        let Some(cluster) = &mut state.cluster else {
            return;
        };
        let seats = map.topology.groups.iter().zip(0..);
        cluster.seats = seats
            .filter_map(|(group, seat)| match &group.phase {
                Phase::Serving { primary } => Some((primary.clone(), seat)),
                Phase::Closing | Phase::None => None,
            })
            .collect();
        let placement = Placement::by_slots(map.slots.clone());
        let left = placement.left_by(&state.placement);
        state.placement = Arc::new(placement);
        state.version = map.version;
        // Its servers are groups from now on; which, is said one by one.
        let nothing = Topology { groups: Vec::new() };
        self.snapshot(pool, &nothing, now);
        let servers = self.pools[pool].setup.settings.servers.len();
        for (server, group) in map.topology.groups.iter().enumerate().take(servers) {
            self.reseat(pool as u32, server as u32, group);
        }
        self.reroute(pool as u32);
        if !left.is_empty() {
            self.slots_moved(pool as u32, &left);
        }
        self.part_with_idle(pool as u32);
        self.all_spread_anew(pool as u32);
        self.settle();
    }

    /// What is said of one seat. A primary whose shard has another one now may still answer what it was asked.
    fn reseat(&mut self, pool: u32, server: u32, group: &Group) {
        let state = &mut self.pools[pool as usize];
        let Some(cluster) = &mut state.cluster else {
            return;
        };
        let known = state.groups[server as usize].as_ref();
        if known.is_some_and(|known| known.group == *group) {
            return;
        }
        let serves = matches!(group.phase, Phase::Serving { .. });
        let parting = cluster.parting.iter_mut().find(|it| it.server == server);
        if let Some(parting) = parting
            && serves
        {
            parting.group = group.clone();
            return;
        }
        cluster.parting.retain(|it| it.server != server);
        let served = known.is_some_and(|it| matches!(it.group.phase, Phase::Serving { .. }));
        if serves && served {
            let closing = Group {
                phase: Phase::Closing,
                ..group.clone()
            };
            self.regroup(pool, server, &closing);
            if !self.has_parted(pool, server) {
                let until_ms = self.now_ms + PART_WITHIN.as_millis() as u64;
                if let Some(cluster) = &mut self.pools[pool as usize].cluster {
                    cluster.parting.push(Parting {
                        server,
                        group: group.clone(),
                        until_ms,
                    });
                }
                self.arm(self.now_ms + 1);
                return;
            }
        }
        self.regroup(pool, server, group);
    }

    fn has_parted(&self, pool: u32, server: u32) -> bool {
        let known = self.pools[pool as usize].groups[server as usize].as_ref();
        known.is_none_or(|known| known.quiet.as_ref() == Some(&known.group.rank))
    }

    /// Slots are elsewhere than before, which were at these seats. Whoever is owed something may have asked for it where it was,
    /// and is sent after it only in a moment: nothing more is read from such a client until then, or what it asks next would
    /// overtake that. One with a connection of its own may block on it for long, and its end has to be noticed; but what is
    /// watched there may be changed elsewhere from now on, and counts as changed.
    fn slots_moved(&mut self, pool: u32, from: &BTreeSet<u32>) {
        for client in &mut self.desk.clients {
            if client.pool != pool || client.life != Life::Open {
                continue;
            }
            if client.pinned == NONE {
                if client.outstanding > 0 {
                    client.hold = Hold::Quiet;
                }
                continue;
            }
            let lane = &mut self.lanes[client.pinned as usize];
            if let Some(cold) = &mut client.cold
                && cold.watch == Watch::Yes
                && from.contains(&lane.server)
            {
                cold.watch = Watch::Lost;
                // It watches, and must not be given to another like this.
                lane.retired = true;
            }
        }
    }

    /// One slot is elsewhere than this thread knew.
    fn slot_moved(&mut self, pool: u32, slot: u16, seat: u32) {
        let placement = &mut self.pools[pool as usize].placement;
        let before = placement.place_of_slot(slot);
        if before != Some(seat) {
            Arc::make_mut(placement).put_slot(slot, seat as u16);
            self.slots_moved(pool, &before.into_iter().collect());
        }
    }

    /// Closes what nobody uses to nodes that are nobody's seat.
    fn part_with_idle(&mut self, pool: u32) {
        for index in 0..self.lanes.len() as u32 {
            let lane = &self.lanes[index as usize];
            let gone = lane.pool == pool && self.address(pool, lane.server).is_none();
            let open = lane.state != super::State::Closed;
            if gone && open && lane.owner.is_none() && !lane.pinned && lane.is_idle() {
                self.hang_up(index);
            }
        }
    }

    /// A newer map is wanted; `stranger` was named and is not on this one.
    pub(super) fn wish(&mut self, pool: u32, stranger: Option<Address>) {
        let now_ms = self.now_ms;
        let Some(cluster) = &mut self.pools[pool as usize].cluster else {
            return;
        };
        if stranger.is_some() {
            cluster.stranger = stranger;
        }
        if now_ms < cluster.wish_at_ms {
            cluster.wishes = true;
            let at = cluster.wish_at_ms;
            self.arm(at);
            return;
        }
        cluster.wishes = false;
        cluster.wish_at_ms = now_ms + WISH_MS;
        self.orders.push_back(Order::Remap(pool as usize));
    }

    /// Of [`Order::Remap`]: who was named by a node and is not known.
    pub fn take_stranger(&mut self, pool: usize) -> Option<Address> {
        self.pools.get_mut(pool)?.cluster.as_mut()?.stranger.take()
    }

    /// Does what is due for clusters.
    pub(super) fn clusters_due(&mut self) {
        for pool in 0..self.pools.len() as u32 {
            let now_ms = self.now_ms;
            let Some(cluster) = &mut self.pools[pool as usize].cluster else {
                continue;
            };
            let (wishes, wish_at_ms) = (cluster.wishes, cluster.wish_at_ms);
            for parting in std::mem::take(&mut cluster.parting) {
                if now_ms >= parting.until_ms || self.has_parted(pool, parting.server) {
                    self.regroup(pool, parting.server, &parting.group);
                } else {
                    self.arm(now_ms + 1);
                    if let Some(cluster) = &mut self.pools[pool as usize].cluster {
                        cluster.parting.push(parting);
                    }
                }
            }
            if wishes && now_ms >= wish_at_ms {
                self.wish(pool, None);
            } else if wishes {
                self.arm(wish_at_ms);
            }
        }
    }

    /// The client that a request is of, also of a part of one.
    fn client_of(&self, slot: u32) -> Option<u32> {
        match self.desk.slots[slot].owner {
            Owner::Client(client) => Some(client),
            Owner::Part { split, .. } => self.client_of(self.desk.splits.slot(split)?),
            Owner::Witness | Owner::Script | Owner::Nobody => None,
        }
    }
}
