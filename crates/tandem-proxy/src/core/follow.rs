//! Groups whose primary moves: requests are held while there is none, and go on, in order, to the next one.
//!
//! What becomes of requests whose connection is lost says [`super::takeback`], and of those that may have been executed
//! [`super::doubt`]. Nothing is held longer than [`HOLD`], nor more than the ring of a lane has room for.

use std::time::{Duration, Instant};

use super::identity::Claimant;
use super::lane::State;
use super::recall::Recalled;
use super::slots::NONE;
use super::witness::Witness;
use super::{Core, How, Peer, text};
use crate::settings::Address;
use crate::topology::{Forks, Group, Phase, Topology};

/// How long a request is held for a primary before its client is told that there is none: less than what clients
/// wait by themselves, as a rule 5 s.
pub(super) const HOLD: Duration = Duration::from_secs(3);
/// Between two attempts to reach a primary that does not answer, or that says that it is not ready.
pub(super) const RETRY_MS: u64 = 20;

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
            state.witnesses.resize_with(servers, Witness::default);
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
        let before = match self
            .witness(pool, server)
            .and_then(|it| it.primary.as_ref())
        {
            Some(last) => Some(last.clone()),
            None => self.address(pool, server).cloned(),
        };
        let known = &self.pools[pool as usize].groups[server as usize];
        let same = |known: &Group| {
            (known.epoch, &known.phase, &known.forks) == (group.epoch, &group.phase, &group.forks)
        };
        let only_replicas = known.as_ref().is_some_and(same);
        self.pools[pool as usize].groups[server as usize] = Some(group.clone());
        let anew = self.note_era(pool, server, group);
        let now = self.address(pool, server);
        let moved = now.is_some() && (before.as_ref() != now || anew);
        for index in 0..self.lanes.len() as u32 {
            let lane = &mut self.lanes[index as usize];
            if lane.pool != pool
                || lane.server != server
                || lane.retired
                || only_replicas
                || !lane.is_to_primary()
            {
                continue;
            }
            if lane.pinned && !lane.followed {
                // What it watched, waited for or listened to is not there any more.
                if moved && lane.state != State::Closed {
                    self.end_lane(index, How::Reset, text::UNKNOWN);
                }
                continue;
            }
            lane.followed = true;
            if group.forks != Forks::Untold && lane.ask_at_ms == u64::MAX && !lane.pinned {
                lane.ask_at_ms = self.now_ms;
            }
            match group.phase {
                Phase::Serving { .. } => {
                    if moved && lane.state != State::Closed {
                        self.disconnect(index);
                        self.take_back(index, None);
                    }
                    self.release(index);
                }
                Phase::Closing | Phase::None => self.hold(index),
            }
        }
        if moved {
            self.acks_moved(pool, server);
        }
        self.read_from(pool, server, group, moved);
        self.note_quiet(pool, server);
    }

    /// Counts the primaries that a group has had. Whether this is another one at the same address: that of a VIP.
    fn note_era(&mut self, pool: u32, server: u32, group: &Group) -> bool {
        let address = self.address(pool, server).cloned();
        let Some(witness) = self.witness_mut(pool, server) else {
            return false;
        };
        let mut anew = false;
        if let (Forks::At(fork), Some(_)) = (&group.forks, &address) {
            // One that is told later than its promotion is no other one.
            let before = witness.fork.replace(fork.clone());
            anew = before.as_ref() != Some(fork) && group.epoch > witness.epoch;
        }
        if address.is_none() || witness.primary != address || anew {
            // What is read is not asked for any more.
            witness.reading = None;
        }
        if address.is_some() && (witness.primary != address || anew) {
            witness.primary = address;
            witness.era += 1;
        }
        if group.forks != Forks::Untold && matches!(group.phase, Phase::Serving { .. }) {
            witness.epoch = group.epoch;
        }
        anew
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
        self.address_of_lane(self.find_lane(peer)?)
    }

    pub(super) fn address_of_lane(&self, index: u32) -> Option<&Address> {
        let lane = &self.lanes[index as usize];
        match &lane.at {
            Some(replica) => Some(replica),
            None => self.address(lane.pool, lane.server),
        }
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
        let waited = lane.held.take().is_some() || lane.state == State::Closed;
        lane.retry_at_ms = 0;
        lane.failures = 0;
        if !lane.recalled.is_empty() && lane.ring.handed() == 0 {
            self.take_back(index, None);
        } else if waited {
            self.drop_unwanted(index);
        }
        if !self.doubts_over(index) {
            return;
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
                && lane.is_to_primary()
                && (lane.ring.handed() > 0 || lane.held != Some(0))
        });
        let owed = |acks: &super::acks::Acks| !acks.is_quiet();
        let busy = busy || state.acks.get(server as usize).is_some_and(owed);
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
        self.take_back(index, Some(how));
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
        self.doubts_due(index);
        let lane = &self.lanes[index as usize];
        if !lane.is_wanted() {
            return;
        }
        let due = self.now_ms >= lane.retry_at_ms && lane.ring.handed() == 0;
        if due && self.address(lane.pool, lane.server).is_some() && self.doubts_over(index) {
            if !self.lanes[index as usize].recalled.is_empty() {
                self.take_back(index, None);
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
