//! Connections that one client has for itself for a while: for what blocks, for what is watched, for messages.
//!
//! A client gets one when it is owed nothing, so that nothing of it overtakes on the way there; while it has one, its
//! requests to that server go over it. It is given back only with nothing outstanding and nothing left behind on the
//! server; otherwise it is closed. When its client goes it is closed at once, else a BLPOP would pop for nobody.

use super::client::Watch;
use super::desk::Desk;
use super::intake::Taken;
use super::lane::{Lane, State};
use super::peer::Peer;
use super::slots::{NONE, Owner, Slot, Wait};
use super::upload::Bulk;
use super::{Core, text};
use crate::command::{self, Blocks, Command};
use crate::frame::Request;

/// Pinned connections that a thread may have.
const MOST: usize = 1024;
/// Connections kept open for the next one who needs one.
const WARM: usize = 16;
/// Pinned connections of a thread, by what becomes of them.
#[derive(Debug, Default)]
pub(super) struct Pins {
    /// Places of lanes without a connection.
    pub(super) free: Vec<u32>,
    /// Connected, clean, nobody's.
    warm: Vec<u32>,
    /// How many are somebody's.
    pub(super) taken: usize,
    /// How many of these are lent for one question.
    pub(super) lent: usize,
}

impl Core {
    /// Gives a client a connection of its own to a server. None: there are too many already, and it was told.
    pub(super) fn pin(&mut self, index: u32, server: u32) -> Option<u32> {
        let client = &self.desk.clients[index as usize];
        let (pool, bank, peer) = (client.pool, client.bank, client.peer(index));
        let Some(lane) = self.pin_for(peer, (pool, server), bank) else {
            self.desk.say(index, text::TOO_MANY_PINNED);
            return None;
        };
        self.desk.clients[index as usize].pinned = lane;
        Some(lane)
    }

    /// One more for the client whose own connection is `home`. None: there are too many already.
    pub(super) fn pin_ear(&mut self, home: u32, server: u32) -> Option<u32> {
        let place = &self.lanes[home as usize];
        let (pool, bank) = (place.pool, place.bank);
        self.pin_for(place.owner?, (pool, server), bank)
    }

    pub(super) fn pin_for(
        &mut self,
        owner: Peer,
        (pool, server): (u32, u32),
        bank: u32,
    ) -> Option<u32> {
        if self.pins.taken >= MOST {
            return None;
        }
        let fits = |lane: &Lane| {
            lane.pool == pool
                && lane.server == server
                && lane.bank == bank
                && lane.state == State::Ready
        };
        // While there is no primary nothing may go to who was it.
        let wanted = self.address(pool, server).is_some();
        let mut warm = self.pins.warm.iter();
        let warm = warm.position(|&lane| wanted && fits(&self.lanes[lane as usize]));
        let lane = match warm {
            Some(place) => self.pins.warm.swap_remove(place),
            None => self.fresh_lane(pool, server, bank),
        };
        self.pins.taken += 1;
        let followed = self.is_group(pool, server);
        let held = followed && !self.is_open(pool, server);
        let place = &mut self.lanes[lane as usize];
        place.owner = Some(owner);
        place.followed = followed;
        place.held = held.then_some(0);
        Some(lane)
    }

    fn fresh_lane(&mut self, pool: u32, server: u32, bank: u32) -> u32 {
        let setup = &self.pools[pool as usize].setup;
        let counters = setup.counters.servers[server as usize].clone();
        let fresh = Lane::new(pool, server, bank, counters).wanted_by(&setup.settings);
        self.place_lane(Lane {
            pinned: true,
            ..fresh
        })
    }

    /// Finds a place for a lane that is not one of the shared ones.
    pub(super) fn place_lane(&mut self, fresh: Lane) -> u32 {
        match self.pins.free.pop() {
            Some(lane) => {
                fresh.settle_in(&mut self.lanes[lane as usize]);
                lane
            }
            None => {
                self.lanes.push(fresh);
                (self.lanes.len() - 1) as u32
            }
        }
    }

    /// The lane for a client that has a pinned one: that, if it goes to the right server and brings replies.
    pub(super) fn lane_beside_pinned(&self, index: u32, server: u32) -> u32 {
        let client = &self.desk.clients[index as usize];
        let pinned = &self.lanes[client.pinned as usize];
        if pinned.server == server && !pinned.messages {
            client.pinned
        } else {
            self.lane_to(client.bank, server, index)
        }
    }

    /// Everything asked on a pinned connection is answered: whether its client needs it longer.
    #[cold]
    pub(super) fn pinned_idle(&mut self, lane: u32) {
        let large = self.lanes[lane as usize].bulk != Bulk::No;
        if large {
            self.bulk_answered(lane);
        }
        let place = &self.lanes[lane as usize];
        if !place.recalled.is_empty() {
            // What a node has sent back is still to be asked.
            return;
        }
        if place.lent {
            return self.give_back(lane);
        }
        let (owner, pool, server) = (place.owner, place.pool, place.server);
        let Some(client) = owner.and_then(|owner| self.desk.find(owner)) else {
            return;
        };
        let needed = match &self.desk.clients[client as usize].cold {
            Some(cold) => cold.subscribed || cold.watch == Watch::Yes,
            None => false,
        };
        if !needed {
            self.unpin(client);
        }
        if large {
            // Its group may be closing, and waiting for this: what is streamed is not held.
            self.note_quiet(pool, server);
        }
    }

    /// Takes a client's connection back, if it has one.
    pub(super) fn unpin(&mut self, index: u32) {
        let lane = std::mem::replace(&mut self.desk.clients[index as usize].pinned, NONE);
        if lane != NONE {
            self.unpin_lane(lane);
        }
    }

    /// A connection is nobody's any more: kept for the next one, or closed.
    pub(super) fn unpin_lane(&mut self, lane: u32) {
        self.listens_no_more(lane);
        let place = &mut self.lanes[lane as usize];
        place.owner = None;
        place.extra_ms = 0;
        place.watched = false;
        place.followed = false;
        self.pins.taken -= 1;
        let clean =
            place.state == State::Ready && !place.messages && !place.retired && place.first == NONE;
        if clean && self.pins.warm.len() < WARM {
            self.pins.warm.push(lane);
        } else {
            self.drop_lane(lane);
        }
    }

    /// Closes a connection whose client is gone.
    pub(super) fn drop_pinned(&mut self, lane: u32) {
        self.listens_no_more(lane);
        self.lanes[lane as usize].owner = None;
        self.pins.taken -= 1;
        self.drop_lane(lane);
    }

    pub(super) fn drop_lane(&mut self, lane: u32) {
        let place = &mut self.lanes[lane as usize];
        place.streaming = false;
        while place.first != NONE {
            let slot = place.dequeue(&self.desk.slots);
            forget(&mut self.desk, slot);
        }
        for request in std::mem::take(&mut place.recalled) {
            forget(&mut self.desk, request.slot);
        }
        place.doubts.clear();
        let unsent = place.ring.len();
        place.ring.free(unsent);
        if place.stalled_on.take().is_some() {
            self.desk.stalling -= 1;
        }
        place.early_over(&mut self.desk);
        place.gauge(&self.desk.slots);
        self.hang_up(lane);
        self.pins.free.push(lane);
    }

    /// A pinned connection has ended by itself; its place is free, and its client hears of it.
    pub(super) fn pinned_down(&mut self, lane: u32) {
        if let Some(place) = self.pins.warm.iter().position(|&warm| warm == lane) {
            self.pins.warm.swap_remove(place);
            self.pins.free.push(lane);
            return;
        }
        if self.lanes[lane as usize].ear.is_some() {
            return self.ear_lost(lane);
        }
        if self.lanes[lane as usize].lent {
            return self.lent_down(lane);
        }
        self.listens_no_more(lane);
        let Some(owner) = self.lanes[lane as usize].owner.take() else {
            return;
        };
        let Some(index) = self.desk.find(owner) else {
            // It has left a moment ago, and what it had is given back with it.
            return;
        };
        self.pins.taken -= 1;
        self.pins.free.push(lane);
        let client = &mut self.desk.clients[index as usize];
        client.pinned = NONE;
        let Some(cold) = &mut client.cold else { return };
        if cold.watch == Watch::Yes {
            cold.watch = Watch::Lost;
        }
        if cold.subscribed {
            // It would wait for messages that cannot come; one that loses its connection subscribes again.
            self.subscriber_lost(index, lane);
        }
    }

    /// A command that may block: over a connection of its own if this call does.
    pub(super) fn blocking(
        &mut self,
        index: u32,
        command: &'static Command,
        request: &Request<'_>,
    ) -> Taken {
        let extra_ms = match command::blocks_for(command, request) {
            Blocks::No => return self.together(index, command, request),
            Blocks::For(time) => u64::try_from(time.as_millis()).unwrap_or(u64::MAX),
            Blocks::Forever => u64::MAX,
        };
        let Some(server) = self.shared_server(index, command, request) else {
            return Taken::Yes;
        };
        if !self.desk.quiet(index) {
            return Taken::Wait;
        }
        let lane = match self.pinned_to(index, server) {
            Ok(Some(lane)) => lane,
            Ok(None) => match self.pin(index, server) {
                Some(lane) => lane,
                None => return Taken::Yes,
            },
            Err(error) => {
                self.desk.say(index, error);
                return Taken::Yes;
            }
        };
        self.lanes[lane as usize].extra_ms = extra_ms;
        self.forward_on(lane, index, request.bytes())
    }

    /// A client's own connection for requests to this server, if it has one; an error if it has one for something else.
    pub(super) fn pinned_to(&self, index: u32, server: u32) -> Result<Option<u32>, &'static [u8]> {
        let pinned = self.desk.clients[index as usize].pinned;
        if pinned == NONE {
            return Ok(None);
        }
        let lane = &self.lanes[pinned as usize];
        if lane.server == server && !lane.messages {
            Ok(Some(pinned))
        } else {
            Err(text::PINNED_ELSEWHERE)
        }
    }

    /// A request whose reply nobody wants.
    pub(super) fn send_unheard(&mut self, lane: u32, bytes: &[u8]) {
        if self.shut(lane).is_some() {
            return;
        }
        self.lanes[lane as usize].ring.push(bytes);
        let slot = self.desk.slots.take(Slot {
            owner: Owner::Nobody,
            wait: Wait::Lane,
            next_in_lane: NONE,
            next_of_client: NONE,
            len: bytes.len() as u32,
            since: self.now_ms as u32,
        });
        self.enter(lane, slot, bytes.len());
    }

    /// Closes those warm connections that `cold` names.
    pub(super) fn cool(&mut self, cold: impl Fn(&Lane) -> bool) {
        for lane in std::mem::take(&mut self.pins.warm) {
            if cold(&self.lanes[lane as usize]) {
                self.drop_lane(lane);
            } else {
                self.pins.warm.push(lane);
            }
        }
    }
}

/// A request that is asked no more; one that is a part of another counts as answered.
fn forget(desk: &mut Desk, slot: u32) {
    match desk.slots[slot].owner {
        Owner::Part { .. } => desk.answer(slot, b""),
        Owner::Client(_) | Owner::Witness | Owner::Script | Owner::Nobody => desk.slots.give(slot),
    }
}
