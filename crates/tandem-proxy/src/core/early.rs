//! Large replies that cannot be passed on while they arrive, because it is not their client's turn, or because they are
//! needed whole.
//!
//! ```text
//!   a client asks shard B, then shard A; A is faster, and its reply is large
//!     A's lane: [ the large reply, not to be read yet | what others have asked ]
//!     B's lane: [ ... | what has to be answered first ]
//! ```
//! Up to [`EARLY`] of such a reply is read. Then its lane is not read from until the turn has come, and the rest passes
//! through as it arrives. If others wait behind it, that is for [`PATIENCE_MS`] at most: then it is read on and kept, within
//! [`BUDGET`] for all of a thread's, and what is over that is thrown away, with an error in its place.
//!
//! Lanes do not wait for each other in a circle: requests enter them in one order, so before the oldest that is not
//! answered nothing stands. Where requests were sent again and stand in another order, each lane of a circle has somebody
//! else's behind, and goes on after its patience.

use super::desk::Desk;
use super::lane::{Lane, State};
use super::particular::{self, Look};
use super::slots::{NONE, Owner, Slot, Wait};
use super::upload::BUDGET;
use super::{Core, Order, PATIENCE_MS, text};

/// So much of a reply is kept without further ado.
pub(super) const EARLY: usize = 1024 * 1024;

/// What becomes of the reply at the head of a lane that may not be passed on yet.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) enum Early {
    /// There is none, or it is small so far.
    #[default]
    No,
    /// Nothing is read until its turn has come; since then, in milliseconds of the core.
    Waits(u64),
    /// It is kept until it is whole: so many bytes so far.
    Kept(usize),
}

impl Lane {
    /// The reply at its head is done with, in one way or the other.
    pub(super) fn early_over(&mut self, desk: &mut Desk) {
        match std::mem::take(&mut self.early) {
            Early::No => {}
            Early::Waits(_) => desk.stalling -= 1,
            Early::Kept(bytes) => desk.kept -= bytes,
        }
    }

    /// Looks at a reply that is not whole and may not be passed on, of which this much has come. True: it is not wanted any
    /// more.
    pub(super) fn hold_back(&mut self, desk: &mut Desk, piece: &[u8], now_ms: u64) -> bool {
        if piece.len() < EARLY {
            return false;
        }
        if self.early == Early::No && self.turn_will_come(desk, piece) {
            self.early = Early::Waits(now_ms);
            desk.stalling += 1;
        }
        let before = match self.early {
            Early::Waits(_) => return false,
            Early::Kept(bytes) => bytes,
            Early::No => 0,
        };
        desk.kept += piece.len() - before;
        self.early = Early::Kept(piece.len());
        desk.kept + desk.spare.parked_bytes() > BUDGET
    }

    /// Whether it is a client's, and will pass through once those before it are answered.
    fn turn_will_come(&self, desk: &Desk, piece: &[u8]) -> bool {
        let Owner::Client(client) = desk.slots[self.first].owner else {
            return false;
        };
        let client = &desk.clients[client as usize];
        client.first != self.first
            && !client.is_subscribed()
            && desk.slots[self.first].wait == Wait::Lane
            && piece.first() != Some(&b'-')
    }

    /// Whether the turn of the reply at its head has come, or nobody wants it any more.
    fn turn_has_come(&self, desk: &Desk) -> bool {
        match desk.slots[self.first].owner {
            Owner::Client(client) => desk.clients[client as usize].first == self.first,
            Owner::Part { .. } | Owner::Witness | Owner::Script | Owner::Nobody => true,
        }
    }

    /// Whether somebody else than the owner of the reply at its head has asked something behind it.
    fn others_wait(&self, desk: &Desk) -> bool {
        let owner = desk.slots[self.first].owner;
        let mut slot = desk.slots[self.first].next_in_lane;
        while slot != NONE && desk.slots[slot].owner == owner {
            slot = desk.slots[slot].next_in_lane;
        }
        slot != NONE
    }

    /// Gives an error to whoever waits for the reply at its head; what is still to come of it goes to nobody.
    pub(super) fn throw_away(&mut self, desk: &mut Desk, now_ms: u64) {
        self.early_over(desk);
        let error = text::REPLY_OVER_BUDGET;
        let looked = self
            .particular
            .then(|| particular::look(self, desk, error, now_ms));
        if looked != Some(Look::Done) {
            let slot = self.dequeue(&desk.slots);
            desk.answer(slot, error);
        }
        let rest = desk.slots.take(Slot {
            owner: Owner::Nobody,
            wait: Wait::Lane,
            next_in_lane: self.first,
            next_of_client: NONE,
            len: 0,
            since: now_ms as u32,
        });
        self.enqueue_first(rest);
        self.streaming = true;
    }
}

impl Core {
    /// Goes on with a lane whose large reply may pass now, or has kept others waiting for long enough. Whether it did.
    pub(super) fn release_early(&mut self, index: u32) -> bool {
        let lane = &mut self.lanes[index as usize];
        let Early::Waits(since_ms) = lane.early else {
            return false;
        };
        let come = lane.turn_has_come(&self.desk);
        let patient = self.now_ms < since_ms + PATIENCE_MS;
        if !come && patient {
            self.arm(since_ms + PATIENCE_MS);
            return false;
        }
        if !come && !lane.others_wait(&self.desk) {
            return false;
        }
        lane.early_over(&mut self.desk);
        // The wait was not the server's doing: its time begins now.
        self.desk.slots[lane.first].since = self.now_ms as u32;
        if come {
            let input = std::mem::take(&mut lane.input);
            let kept = self.lane_bytes(index, &input, input.len());
            self.keep(index, input, kept);
        } else {
            lane.early = Early::Kept(lane.input.len());
            self.desk.kept += lane.input.len();
        }
        let lane = &self.lanes[index as usize];
        if lane.stalled_on.is_none() && lane.state == State::Ready {
            self.orders.push_back(Order::Resume(lane.peer(index)));
        }
        true
    }
}
