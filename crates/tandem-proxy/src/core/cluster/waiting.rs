//! Requests that wait in a cluster: for a moment, for a newer map, for a shard that is not known yet.
//!
//! Those that a node has sent back wait with the lane that they came from, and their clients say nothing more meanwhile. Those
//! that could not be sent wait in the ring of their lane, as for any group; when a map says that their slot is elsewhere, they
//! go there.

use super::super::Core;
use super::super::client::{Hold, Life};
use super::super::lane::{RING_BOUND, State};
use super::super::recall::Recalled;
use super::super::scatter::ANYWHERE;
use super::super::slots::{NONE, Owner};
use super::super::takeback::Queue;
use super::super::upload::Bulk;
use super::block::{self, is_block};
use crate::command::{self, Channels, KeyList, PubSub, Route};
use crate::frame::{Limits, Scan};
use crate::placement::slot_of;

/// Requests that wait with one lane.
const MOST: usize = 4096;
/// Their bytes, unless it is one alone.
const MOST_BYTES: usize = 4 * RING_BOUND;
/// The longest pause between two attempts.
const PAUSE_MAX_MS: u64 = 16;

impl Core {
    /// A request that was sent back is asked again in a moment.
    pub(super) fn park(&mut self, index: u32, back: Recalled) {
        let lane = &mut self.lanes[index as usize];
        let bytes: usize = lane.recalled.iter().map(|it| it.bytes.len()).sum();
        if lane.recalled.len() >= MOST || bytes > MOST_BYTES {
            back.pass_on(&mut self.desk);
            return;
        }
        let hops = self.desk.slots.hop(back.slot);
        let pause_ms = (1 << (hops / 2).min(6)).min(PAUSE_MAX_MS);
        let at_ms = self.now_ms + pause_ms;
        if lane.recalled.is_empty() {
            lane.retry_at_ms = at_ms;
        } else {
            lane.retry_at_ms = lane.retry_at_ms.min(at_ms);
        }
        let slot = back.slot;
        lane.recalled.push(back);
        self.arm(at_ms);
        if let Some(client) = self.client_of(slot) {
            let client = &mut self.desk.clients[client as usize];
            let open = client.hold == Hold::No && client.life == Life::Open;
            if open && client.pinned == NONE {
                client.hold = Hold::Quiet;
            }
        }
    }

    /// Whether a request has been sent from one node to the other for as long as anything may wait. What it waited for its first
    /// answer does not count.
    pub(super) fn is_given_up(&mut self, slot: u32) -> bool {
        if self.desk.slots.stamp(slot).hops == 0 {
            self.desk.slots[slot].since = self.now_ms as u32;
        }
        self.has_waited(self.desk.slots[slot].since)
    }

    /// Asks again what waits with a lane that is up and not held.
    pub(in super::super) fn parked_due(&mut self, index: u32) {
        let lane = &mut self.lanes[index as usize];
        if lane.recalled.is_empty() {
            return;
        }
        if lane.pinned && lane.first != NONE {
            lane.retry_at_ms = lane.retry_at_ms.max(self.now_ms + 1);
        }
        if self.now_ms < lane.retry_at_ms {
            let at_ms = lane.retry_at_ms;
            self.arm(at_ms);
            return;
        }
        let pool = lane.pool;
        for back in std::mem::take(&mut lane.recalled) {
            if self.is_given_up(back.slot) {
                back.pass_on(&mut self.desk);
                continue;
            }
            match self.seat_of(pool, &back.bytes) {
                Some(seat) => self.ask_elsewhere(index, seat, false, back),
                None => back.pass_on(&mut self.desk),
            }
        }
    }

    /// The seat of a request's first key, or of one without keys that any shard can answer.
    fn seat_of(&mut self, pool: u32, bytes: &[u8]) -> Option<u32> {
        self.seat_of_keys(pool, bytes)
            .or_else(|| self.server_for(pool, ANYWHERE))
    }

    fn seat_of_keys(&self, pool: u32, bytes: &[u8]) -> Option<u32> {
        let slot = slot_of_request(bytes)?;
        self.pools[pool as usize].placement.place_of_slot(slot)
    }

    /// What waits for shards that cannot be asked goes to those that have its slots by now.
    pub(super) fn reroute(&mut self, pool: u32) {
        let replaced = self.is_replaced(pool);
        for index in 0..self.lanes.len() as u32 {
            let lane = &self.lanes[index as usize];
            let waits = lane.pool == pool
                && (lane.state != State::Ready || lane.held.is_some())
                && lane.is_wanted()
                && lane.ring.handed() == 0
                && !lane.messages
                && lane.bulk == Bulk::No
                && lane.is_to_primary()
                && lane.doubts.is_empty()
                && (!lane.retired || replaced);
            if !waits {
                continue;
            }
            if lane.pinned {
                self.reroute_pinned(index);
            } else {
                self.reroute_claimants(index);
                self.reroute_shared(index);
            }
        }
    }

    /// Where a request, or a transaction, is to be asked. None: where it is.
    fn seat_of_unit(&mut self, pool: u32, queue: &Queue, unit: usize) -> Option<u32> {
        let unit = &queue.units[unit];
        let found = queue
            .requests(unit)
            .find_map(|request| self.seat_of_keys(pool, request));
        // One without keys stays, unless nothing is there.
        found.or_else(|| {
            let last = queue.slots[unit.slots.end - 1].0;
            let part = matches!(self.desk.slots[last].owner, Owner::Part { .. });
            if part {
                None
            } else {
                self.server_for(pool, ANYWHERE)
            }
        })
    }

    fn reroute_shared(&mut self, index: u32) {
        let lane = &mut self.lanes[index as usize];
        let (pool, server, bank) = (lane.pool, lane.server, lane.bank);
        let recalled = std::mem::take(&mut lane.recalled);
        let mut kept = Vec::new();
        for back in recalled {
            match self.seat_of(pool, &back.bytes) {
                Some(seat) if seat != server => self.ask_elsewhere(index, seat, false, back),
                Some(_) | None => kept.push(back),
            }
        }
        self.lanes[index as usize].recalled = kept;
        let queue = self.take_queue(index);
        // What was to be loaded is in the queue, and is loaded again where it is needed.
        self.lanes[index as usize].loaded.clear();
        for (at, unit) in queue.units.iter().enumerate() {
            let last = queue.slots[unit.slots.end - 1].0;
            if self.desk.slots[last].owner == Owner::Script {
                self.desk.slots.give(last);
                continue;
            }
            let seat = self.seat_of_unit(pool, &queue, at).unwrap_or(server);
            if seat == server {
                self.ask_again(index, &queue, unit);
                continue;
            }
            let client = self.client_of(last).unwrap_or_default();
            let lane = self.lane_to(bank, seat, client);
            if self.lanes[lane as usize].state == State::Closed {
                let _ = self.shut(lane);
            }
            self.ask_again(lane, &queue, unit);
            self.lanes[lane as usize].used = true;
            self.arm_hold(lane);
            self.touch_lane(lane);
        }
        self.lanes[index as usize].gauge(&self.desk.slots);
        self.wake_waiters(index);
    }

    /// A client's own connection that waits: it begins with the shard that has its keys now.
    fn reroute_pinned(&mut self, index: u32) {
        let lane = &self.lanes[index as usize];
        let (pool, server, extra_ms) = (lane.pool, lane.server, lane.extra_ms);
        let Some(client) = lane.owner.and_then(|owner| self.desk.find(owner)) else {
            return;
        };
        if !lane.recalled.is_empty() || lane.first == NONE {
            return;
        }
        let queue = self.take_queue(index);
        let seat = (0..queue.units.len()).find_map(|at| self.seat_of_unit(pool, &queue, at));
        let to = match seat {
            Some(seat) if seat != server => {
                self.unpin(client);
                self.pin(client, seat).unwrap_or(index)
            }
            Some(_) | None => index,
        };
        self.lanes[to as usize].extra_ms = extra_ms;
        if self.lanes[to as usize].state == State::Closed {
            let _ = self.shut(to);
        }
        for unit in &queue.units {
            self.put_back(to, &queue, unit);
        }
        self.arm_hold(to);
        self.touch_lane(to);
    }

    /// Clients that wait to be let in as somebody else wait for a shard that there is.
    fn reroute_claimants(&mut self, index: u32) {
        let lane = &self.lanes[index as usize];
        let (pool, bank) = (lane.pool, lane.bank);
        if lane.claimants.is_empty() || self.address(pool, lane.server).is_some() {
            return;
        }
        let Some(seat) = self.server_for(pool, ANYWHERE) else {
            return;
        };
        let to = self.lane_to(bank, seat, 0);
        if to == index || self.address(pool, seat).is_none() {
            return;
        }
        let claimants = std::mem::take(&mut self.lanes[index as usize].claimants);
        if self.lanes[to as usize].state == State::Ready {
            for claimant in claimants {
                self.end_claim(claimant, Ok(()));
            }
            return;
        }
        self.lanes[to as usize].claimants.extend(claimants);
        let _ = self.shut(to);
    }
}

/// The slot of the first key of a request, or of a transaction. None: it has none.
pub(in super::super) fn slot_of_request(bytes: &[u8]) -> Option<u16> {
    if is_block(bytes) {
        return block::requests(bytes).skip(1).find_map(slot_of_request);
    }
    let mut scan = Scan::default();
    let Ok(Some(_)) = scan.advance(bytes, &Limits::CLIENT) else {
        return None;
    };
    let request = scan.request(bytes);
    let command = command::resolve(&request)?;
    let at = match command.route {
        Route::OneKey { at } => usize::from(at),
        Route::PubSub(PubSub::Publish(Channels::Sharded)) => 1,
        _ => {
            let mut keys = KeyList::default();
            // Arguments that do not say where keys are go anywhere.
            let _ = command::keys(command, &request, &mut keys);
            keys.keys().first()?.at as usize
        }
    };
    Some(slot_of(request.argument(at)?))
}
