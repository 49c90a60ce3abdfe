//! Groups whose primary moves: requests are held while there is none, and go on, in order, to the next one.
//!
//! What becomes of requests whose connection is lost says [`super::takeback`], and of those that may have been executed
//! [`super::doubt`]. Nothing is held longer than [`HOLD`], nor more than the ring of a lane has room for.

use std::time::Duration;

use super::identity::Claimant;
use super::lane::State;
use super::recall::Recalled;
use super::slots::NONE;
use super::{Core, How, text};

/// How long a request is held for a primary before its client is told that there is none: less than what clients
/// wait by themselves, as a rule 5 s.
pub(super) const HOLD: Duration = Duration::from_secs(3);
/// Between two attempts to reach a primary that does not answer, or that says that it is not ready.
pub(super) const RETRY_MS: u64 = 20;

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
        self.take_back(index, Some(how));
        let lane = &mut self.lanes[index as usize];
        if lane.held.is_some() {
            lane.held = Some(0);
        }
        lane.retry_at_ms = self.now_ms + RETRY_MS;
        let (pool, server) = (lane.pool, lane.server);
        self.arm_hold(index);
        self.wish(pool, None);
        self.spent(index);
        self.note_quiet(pool, server);
    }

    /// Looks at what a followed lane has held for long, and whether to try again.
    pub(super) fn held_due(&mut self, index: u32) {
        let lane = &self.lanes[index as usize];
        if lane.state == State::Ready && lane.held.is_none() {
            if lane.clustered {
                self.parked_due(index);
            }
            return;
        }
        if lane.mute && lane.ring.handed() > 0 && self.has_waited(self.desk.slots[lane.first].since)
        {
            // Whether what came may be believed was not found out in time: as if nothing had come.
            self.suspend(index, How::TimedOut);
        }
        self.expire(index);
        self.doubts_due(index);
        let lane = &self.lanes[index as usize];
        if !lane.is_wanted() {
            self.lent_if_wanted(index);
            return;
        }
        let (pool, server) = (lane.pool, lane.server);
        if lane.clustered {
            self.wish(pool, None);
        }
        let lane = &self.lanes[index as usize];
        let due = self.now_ms >= lane.retry_at_ms && lane.ring.handed() == 0;
        if due && self.is_open(pool, server) && self.doubts_over(index) {
            if !self.lanes[index as usize].recalled.is_empty() {
                self.take_back(index, None);
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
    pub(super) fn has_waited(&self, since: u32) -> bool {
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
            let doubtful = lane.doubts.pop_front_if(|doubt| doubt.slot == slot);
            let pool = lane.pool as usize;
            let counters = &self.pools[pool].setup.counters;
            counters.forward_error.add(1);
            counters.unknown.add(u64::from(doubtful.is_some()));
            let error = match doubtful {
                Some(_) => text::UNKNOWN,
                None => text::NO_PRIMARY,
            };
            self.desk.answer(slot, error);
        }
        self.lanes[index as usize].gauge(&self.desk.slots);
        self.wake_waiters(index);
    }

    /// Lets clients go on that waited for room, if there is some.
    pub(super) fn wake_waiters(&mut self, index: u32) {
        let lane = &mut self.lanes[index as usize];
        if lane.has_room(super::lane::RING_BOUND / 2) {
            self.desk.wake.append(&mut lane.waiters);
        }
    }
}
