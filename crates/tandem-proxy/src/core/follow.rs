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

use std::time::Duration;

use super::identity::Claimant;
use super::lane::State;
use super::recall::Recalled;
use super::slots::{NONE, Owner};
use super::transaction::{EXEC, MULTI};
use super::{Core, How, text};
use crate::command;
use crate::frame::{Limits, Scan};

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
        self.lose_watch(index);
        self.take_back(index);
        let lane = &mut self.lanes[index as usize];
        if lane.held.is_some() {
            lane.held = Some(0);
        }
        lane.retry_at_ms = self.now_ms + RETRY_MS;
        let (pool, server) = (lane.pool, lane.server);
        self.arm_hold(index);
        self.spent(index);
        self.note_quiet(pool, server);
    }

    /// Looks at what a followed lane has held for long, and whether to try again.
    pub(super) fn held_due(&mut self, index: u32) {
        let lane = &self.lanes[index as usize];
        if lane.state == State::Ready && lane.held.is_none() {
            return;
        }
        if lane.mute && lane.ring.handed() > 0 && self.has_waited(self.desk.slots[lane.first].since)
        {
            // Whether what came may be believed was not found out in time: as if nothing had come.
            self.suspend(index, How::TimedOut);
        }
        self.expire(index);
        let lane = &self.lanes[index as usize];
        if !lane.is_wanted() {
            return;
        }
        let (pool, server) = (lane.pool, lane.server);
        let due = self.now_ms >= lane.retry_at_ms && lane.ring.handed() == 0;
        if due && self.is_open(pool, server) {
            if !lane.recalled.is_empty() {
                self.take_back(index);
            }
            self.lanes[index as usize].held = None;
            if self.lanes[index as usize].state == State::Closed {
                self.connect(index);
            } else {
                self.touch_lane(index);
            }
        }
        let soon = self.is_group(pool, server) && self.waits_for_subscribers(pool, server);
        self.arm(self.now_ms + if soon { 1 } else { RETRY_MS });
    }

    /// Whether a request that entered its queue then has waited for as long as any may.
    fn has_waited(&self, since: u32) -> bool {
        u64::from((self.now_ms as u32).wrapping_sub(since)) > HOLD.as_millis() as u64
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
        self.lanes[index as usize].gauge(&self.desk.slots);
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
        // What EXEC is answered that was not sent and whose WATCH is gone: as if a key had changed.
        let null = self.void_watch(index);
        let mut aborted = Vec::new();
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
                Fate::Again if request == EXEC && null.is_some() => {
                    aborted.push(slot);
                    if let Some(begin) = block.take() {
                        for (slot, _) in kept.drain(begin..) {
                            self.desk.slots.give(slot);
                        }
                    }
                }
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
        for slot in unknown {
            self.desk.answer(slot, text::UNKNOWN);
        }
        for slot in aborted {
            self.desk.answer(slot, null.unwrap_or_default());
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
