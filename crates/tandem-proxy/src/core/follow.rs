//! Groups whose primary moves: requests are held while there is none, and go on, in order, to the next one.
//!
//! What a connection leaves unanswered when its server is lost falls into three parts:
//!
//! | of the request | the server | so |
//! |---|---|---|
//! | not the last byte was handed over | cannot have executed it | sent to the next primary |
//! | all of it, and it only reads | may have answered into the void | sent again |
//! | all of it, and it may write | may or may not have executed it | the client is told exactly that |
//!
//! Whoever has left meanwhile is not asked for any more: its requests are dropped unsent, as its retry may be held
//! beside them. Nothing is held longer than [`HOLD`], nor more than the ring of a lane has room for.

use std::time::{Duration, Instant};

use super::identity::Claimant;
use super::lane::State;
use super::recall::Recalled;
use super::slots::{NONE, Owner};
use super::transaction::{EXEC, MULTI};
use super::{Core, How, Peer, text};
use crate::command;
use crate::frame::{Limits, Scan};
use crate::settings::Address;
use crate::topology::{Group, Phase, Topology};

/// How long a request is held for a primary before its client is told that there is none: less than what clients
/// wait by themselves, as a rule 5 s.
pub(super) const HOLD: Duration = Duration::from_secs(3);
/// Between two attempts to reach a primary that does not answer, or that says that it is not ready.
pub(super) const RETRY_MS: u64 = 20;

/// What becomes of a request whose connection is gone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fate {
    /// It is sent to the next primary.
    Again,
    /// Nobody wants its reply.
    Dropped,
    /// Its client is told that nobody knows.
    Unknown,
}

impl Core {
    /// The newest word on the groups of a pool. Groups of an older epoch than is known are passed over.
    pub fn snapshot(&mut self, pool: usize, topology: &Topology, now: Instant) {
        self.clock(now);
        let Some(state) = self.pools.get_mut(pool) else {
            return;
        };
        let servers = state.setup.settings.servers.len();
        if state.groups.is_empty() {
            state.groups = vec![None; servers];
        }
        for (server, group) in topology.groups.iter().enumerate().take(servers) {
            let known = &self.pools[pool].groups[server];
            if known
                .as_ref()
                .is_some_and(|known| known.epoch > group.epoch || known == group)
            {
                continue;
            }
            self.regroup(pool as u32, server as u32, group);
        }
        self.settle();
    }

    /// Obeys the word on one group.
    fn regroup(&mut self, pool: u32, server: u32, group: &Group) {
        let before = self.address(pool, server).cloned();
        self.pools[pool as usize].groups[server as usize] = Some(group.clone());
        let moved = self
            .address(pool, server)
            .is_some_and(|now| before.as_ref() != Some(now));
        for index in 0..self.lanes.len() as u32 {
            let lane = &mut self.lanes[index as usize];
            if lane.pool != pool || lane.server != server || lane.retired {
                continue;
            }
            if lane.pinned {
                // What it watched, waited for or listened to is not there any more.
                if moved && lane.state != State::Closed {
                    self.end_lane(index, How::Reset, text::UNKNOWN);
                }
                continue;
            }
            lane.followed = true;
            match group.phase {
                Phase::Serving { .. } => {
                    if moved && lane.state != State::Closed {
                        self.disconnect(index);
                        self.take_back(index);
                    }
                    self.release(index);
                }
                Phase::Closing | Phase::None => self.hold(index),
            }
        }
        self.note_quiet(pool, server);
    }

    /// Where requests for a server go now. None: it has no primary.
    pub(super) fn address(&self, pool: u32, server: u32) -> Option<&Address> {
        let state = &self.pools[pool as usize];
        match state.groups.get(server as usize) {
            Some(Some(group)) => match &group.phase {
                Phase::Serving { primary } => Some(primary),
                Phase::Closing | Phase::None => None,
            },
            Some(None) | None => state
                .setup
                .settings
                .servers
                .get(server as usize)
                .map(|server| &server.address),
        }
    }

    /// The address that a lane is to be connected to, while it is wanted.
    #[must_use]
    pub fn address_of(&self, peer: Peer) -> Option<&Address> {
        let lane = &self.lanes[self.find_lane(peer)? as usize];
        self.address(lane.pool, lane.server)
    }

    /// Stops sending, but for the rest of a request that is half out.
    fn hold(&mut self, index: u32) {
        let lane = &mut self.lanes[index as usize];
        lane.held = Some(lane.half_sent(&self.desk.slots));
        self.arm_hold(index);
    }

    /// Sends again, on a new connection if there is none.
    fn release(&mut self, index: u32) {
        let lane = &mut self.lanes[index as usize];
        lane.held = None;
        lane.retry_at_ms = 0;
        lane.failures = 0;
        if !lane.recalled.is_empty() && lane.ring.handed() == 0 {
            self.take_back(index);
        }
        let lane = &self.lanes[index as usize];
        if lane.state == State::Closed && lane.is_wanted() {
            self.connect(index);
        } else {
            self.touch_lane(index);
        }
    }

    /// Whether a server's last requests before a switchover are answered; says so to who asks.
    pub(super) fn note_quiet(&self, pool: u32, server: u32) {
        let state = &self.pools[pool as usize];
        let Some(Some(group)) = state.groups.get(server as usize) else {
            return;
        };
        let busy = self.lanes.iter().any(|lane| {
            lane.pool == pool
                && lane.server == server
                && !lane.retired
                && !lane.pinned
                && (lane.ring.handed() > 0 || lane.held != Some(0))
        });
        if group.phase == Phase::Closing && !busy {
            let counters = &state.setup.counters.servers[server as usize];
            counters.quiet_epoch.set(group.epoch);
        }
    }

    /// Something was answered on a lane that is held.
    pub(super) fn held_replied(&mut self, index: u32) {
        let lane = &self.lanes[index as usize];
        self.note_quiet(lane.pool, lane.server);
        self.arm_hold(index);
    }

    /// A request is held from now on, if none was.
    pub(super) fn arm_hold(&mut self, index: u32) {
        let lane = &self.lanes[index as usize];
        if lane.is_wanted() {
            self.arm(self.now_ms + RETRY_MS);
        }
    }

    /// The connection of a followed lane has failed: what can wait waits.
    pub(super) fn suspend(&mut self, index: u32, how: How) {
        self.close_lane(index, how);
        self.take_back(index);
        let lane = &mut self.lanes[index as usize];
        if lane.held.is_some() {
            lane.held = Some(0);
        }
        lane.retry_at_ms = self.now_ms + RETRY_MS;
        self.arm_hold(index);
    }

    /// Looks at what a followed lane has held for long, and whether to try again.
    pub(super) fn held_due(&mut self, index: u32) {
        let lane = &self.lanes[index as usize];
        if lane.state == State::Ready && lane.held.is_none() {
            return;
        }
        self.expire(index);
        let lane = &self.lanes[index as usize];
        if !lane.is_wanted() {
            return;
        }
        let due = self.now_ms >= lane.retry_at_ms && lane.ring.handed() == 0;
        if due && self.address(lane.pool, lane.server).is_some() {
            if !lane.recalled.is_empty() {
                self.take_back(index);
                self.touch_lane(index);
            }
            self.lanes[index as usize].held = None;
            if self.lanes[index as usize].state == State::Closed {
                self.connect(index);
            }
        }
        self.arm(self.now_ms + RETRY_MS);
    }

    /// Tells those who have waited for as long as anyone may.
    fn expire(&mut self, index: u32) {
        let now_ms = self.now_ms as u32;
        let expired = |since: u32| u64::from(now_ms.wrapping_sub(since)) > HOLD.as_millis() as u64;
        let lane = &mut self.lanes[index as usize];
        let claimants: Vec<Claimant> = lane
            .claimants
            .extract_if(.., |claimant| expired(claimant.since))
            .collect();
        let before = lane.recalled.len();
        let slots = &self.desk.slots;
        let overdue: Vec<Recalled> = lane
            .recalled
            .extract_if(.., |request| expired(slots[request.slot].since))
            .collect();
        debug_assert_eq!(before, lane.recalled.len() + overdue.len(), "none is lost");
        for request in overdue {
            request.pass_on(&mut self.desk);
        }
        for claimant in claimants {
            self.end_claim(claimant, Err(text::NO_PRIMARY.to_vec()));
        }
        loop {
            let lane = &mut self.lanes[index as usize];
            if lane.first == NONE
                || lane.ring.handed() > 0
                || !expired(self.desk.slots[lane.first].since)
            {
                break;
            }
            let slot = lane.dequeue(&self.desk.slots);
            let pool = lane.pool as usize;
            self.pools[pool].setup.counters.forward_error.add(1);
            self.desk.answer(slot, text::NO_PRIMARY);
        }
        self.wake_waiters(index);
    }

    /// Lets clients go on that waited for room, if there is some.
    fn wake_waiters(&mut self, index: u32) {
        let lane = &mut self.lanes[index as usize];
        if lane.has_room(super::lane::RING_BOUND / 2) {
            self.desk.wake.append(&mut lane.waiters);
        }
    }

    /// Sorts everything unanswered on a lane without connection (or at rest) and puts back what is to be sent again:
    /// first what the server itself sent back, then the rest, each in the order in which it was asked.
    pub(super) fn take_back(&mut self, index: u32) {
        let lane = &mut self.lanes[index as usize];
        let (bytes, handed) = lane.ring.take_all();
        let mut slot = std::mem::replace(&mut lane.first, NONE);
        lane.last = NONE;
        lane.queued = 0;
        let recalled = std::mem::take(&mut lane.recalled);
        let mut kept: Vec<(u32, Vec<u8>)> = Vec::new();
        for request in recalled {
            if self.desk.slots[request.slot].owner == Owner::Nobody {
                self.desk.slots.give(request.slot);
            } else {
                kept.push((request.slot, request.bytes));
            }
        }
        let mut unknown = Vec::new();
        // Where in `kept` a transaction begins that was not sent.
        let mut block = None;
        let mut at = 0;
        while slot != NONE {
            let place = self.desk.slots[slot];
            let end = at + place.len as usize;
            let request = &bytes[at..end];
            let was_handed = end <= handed;
            if place.owner == Owner::Nobody && request == MULTI && !was_handed && block.is_none() {
                block = Some(kept.len());
            }
            match fate(place.owner, request, was_handed, block.is_some()) {
                Fate::Again => kept.push((slot, request.to_vec())),
                Fate::Dropped => {
                    self.desk.slots.give(slot);
                    if let Some(begin) = block.take_if(|_| request == EXEC) {
                        for (slot, _) in kept.drain(begin..) {
                            self.desk.slots.give(slot);
                        }
                    }
                }
                Fate::Unknown => unknown.push(slot),
            }
            if request == EXEC {
                block = None;
            }
            at = end;
            slot = place.next_in_lane;
        }
        let lane = &mut self.lanes[index as usize];
        for (slot, bytes) in kept {
            self.desk.slots[slot].next_in_lane = NONE;
            lane.ring.push(&bytes);
            lane.enqueue(slot, &mut self.desk.slots);
        }
        let pool = self.lanes[index as usize].pool;
        let counters = &self.pools[pool as usize].setup.counters;
        counters.unknown.add(unknown.len() as u64);
        for slot in unknown {
            self.desk.answer(slot, text::UNKNOWN);
        }
        self.lanes[index as usize].gauge(&self.desk.slots);
        self.wake_waiters(index);
    }
}

/// What becomes of one request. `in_block`: it is part of a transaction of which nothing was sent.
fn fate(owner: Owner, request: &[u8], handed: bool, in_block: bool) -> Fate {
    match owner {
        // The parts of a transaction before EXEC belong to nobody; EXEC of one who has left ends it all.
        Owner::Nobody if in_block && request != EXEC => Fate::Again,
        Owner::Nobody => Fate::Dropped,
        Owner::Client(_) | Owner::Part { .. } => {
            // Without its beginning an EXEC can only be the end of what was sent already.
            let whole = request != EXEC || in_block;
            if whole && (!handed || may_repeat(request)) {
                Fate::Again
            } else {
                Fate::Unknown
            }
        }
    }
}

/// Whether a request may be sent although it may have been executed.
pub(super) fn may_repeat(bytes: &[u8]) -> bool {
    let mut scan = Scan::default();
    match scan.advance(bytes, &Limits::CLIENT) {
        Ok(Some(_)) => {
            command::resolve(&scan.request(bytes)).is_some_and(command::Command::may_repeat)
        }
        Ok(None) | Err(_) => false,
    }
}
