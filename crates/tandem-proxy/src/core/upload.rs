//! Requests too large to be kept: passed on over a connection of their own while they arrive.
//!
//! ```text
//!   client --64 KiB--> tail: where does it end? --> ring of a pinned lane, freed when sent ==> socket
//!                        \--> nowhere: it was refused, the rest is thrown away and the connection goes on
//! ```
//! Only a request with one key can be passed on, because its beginning says where it goes. It begins when its client is
//! owed nothing, and what follows it waits for its reply: nothing overtakes. It is not kept for repeating. While not one
//! byte of it has left it waits for the next primary as other requests do; lost half way it was not executed, because
//! servers execute whole requests only, and the client is told exactly that; lost after its last byte nobody knows.
//!
//! What has to be gathered (split commands, several keys, MULTI) may be [`GATHERED`] long, all of a thread's together
//! [`BUDGET`]. What is over a bound is refused with an error, and closes nothing. Gathered, within the budget alone, is
//! also what somebody must see whole before it leaves: where replies wait for replicas or reads go to them, as each
//! write has its place in those queues; and of a user who may not do everything, as the last argument may ask for more
//! (`BITFIELD key GET ... SET ...` writes).

use super::client::Watch;
use super::follow::{HOLD, RETRY_MS};
use super::intake::Taken;
use super::lane::State;
use super::peer::{How, Peer};
use super::slots::{NONE, Owner, Slot, Wait};
use super::{Core, text};
use crate::command::{self, Route};
use crate::frame::{Limits, Scan, Tail};

/// A request over this size is not kept in memory, if that can be avoided.
pub(super) const LARGE: u64 = 64 * 1024;
/// One that has to be: its bound.
pub(super) const GATHERED: u64 = 16 * 1024 * 1024;
/// Bytes of unfinished requests and transactions, over all clients of a thread; and as much of replies that wait for
/// their turn.
pub(super) const BUDGET: usize = 256 * 1024 * 1024;
/// Bytes that may wait for a server to take them; then nothing more is read from the client.
const AHEAD: usize = 128 * 1024;

/// What a lane carries a large request for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Bulk {
    /// It carries ordinary requests.
    No,
    /// Not a byte of it has left.
    Unsent,
    /// Some have.
    Begun,
}

/// The rest of a client's large request.
#[derive(Debug)]
pub(super) struct Upload {
    tail: Tail,
    /// Passed on to this lane; none: thrown away.
    to: Option<Peer>,
}

impl Core {
    /// Looks at a request that is not whole. How many of `bytes` are done with; none of them: it is gathered, or its
    /// client is held.
    #[cold]
    pub(super) fn unfinished(&mut self, index: u32, scan: &Scan, bytes: &[u8]) -> usize {
        let announced = scan.announced(bytes);
        if announced <= LARGE || self.desk.clients[index as usize].stranger {
            return 0;
        }
        let request = scan.request(bytes);
        let seen = scan.seen();
        let name = request.argument(0).filter(|_| seen > 0);
        let container = name.and_then(command::find);
        let command = match container {
            Some(container) if !container.subs.is_empty() && seen > 1 => {
                request.argument(1).and_then(|sub| container.sub(sub))
            }
            other => other,
        };
        let longest = self.bounds_of(index).key as u64;
        let mut most = GATHERED;
        if let Some(command) = command
            && let Route::OneKey { at } = command.route
        {
            let at = usize::from(at);
            self.asking = command.id;
            let key = request.argument(at).filter(|_| seen > at);
            // The key itself may be what is at hand: then its length is known, and not yet the whole of it.
            let key_len = match key {
                Some(key) => key.len() as u64,
                None if seen == at => scan.at_hand(bytes).map_or(0, |(len, _)| len),
                None => 0,
            };
            if key_len > longest {
                return self.throw_away(index, scan, Some(text::KEY_TOO_LONG));
            }
            let client = &self.desk.clients[index as usize];
            let in_multi = client
                .cold
                .as_ref()
                .is_some_and(|cold| cold.multi.is_some() || cold.subscribed);
            // What a node of a cluster sends back has to be there to be asked elsewhere.
            let clustered = self.pools[client.pool as usize].cluster.is_some();
            let looked_at = client.particular || client.restricted || clustered;
            if let Some(key) = key
                && !in_multi
                && command.takes(request.count())
            {
                most = BUDGET as u64;
                if !looked_at && let Some(used) = self.pass_on(index, key, scan, bytes) {
                    return used;
                }
            }
        }
        if announced > most {
            let error = if most == GATHERED {
                text::TOO_LARGE
            } else {
                text::TOO_LARGE_WHOLE
            };
            return self.throw_away(index, scan, Some(error));
        }
        if self.desk.gathered + self.desk.multi_bytes() > BUDGET {
            return self.throw_away(index, scan, Some(text::OVER_BUDGET));
        }
        0
    }

    /// Begins to pass a request on. None: its client's own connection is for something else, so it goes the ordinary way.
    fn pass_on(&mut self, index: u32, key: &[u8], scan: &Scan, bytes: &[u8]) -> Option<usize> {
        if !self.desk.quiet(index) {
            return Some(0);
        }
        let pool = self.desk.clients[index as usize].pool;
        let Some(server) = self.server_for(pool, key) else {
            self.nobody(index);
            return Some(self.throw_away(index, scan, None));
        };
        let lane = match self.pinned_to(index, server) {
            Ok(Some(lane)) => lane,
            Ok(None) => match self.pin(index, server) {
                Some(lane) => lane,
                None => return Some(self.throw_away(index, scan, None)),
            },
            Err(_) => return None,
        };
        // It has waits of its own: what is not kept cannot be held as other requests are.
        let place = &mut self.lanes[lane as usize];
        place.followed = false;
        place.held = None;
        if let Some(error) = self.shut(lane) {
            self.unpin(index);
            return Some(self.throw_away(index, scan, Some(error)));
        }
        let Some((tail, at)) = scan.tail() else {
            return Some(0);
        };
        let place = &mut self.lanes[lane as usize];
        place.bulk = Bulk::Unsent;
        place.ring.push(&bytes[..at]);
        let to = Some(place.peer(lane));
        place.counters.request_bytes.add(at as u64);
        let slot = self.desk.expect(
            index,
            Slot {
                owner: Owner::Client(index),
                wait: Wait::Lane,
                next_in_lane: NONE,
                next_of_client: NONE,
                // Its bytes are freed when they are sent, not when it is answered.
                len: 0,
                since: self.now_ms as u32,
            },
        );
        self.enter(lane, slot, 0);
        self.desk.cold(index).upload = Some(Box::new(Upload { tail, to }));
        self.desk.clients[index as usize].set_special();
        Some(at)
    }

    /// Answers a request that is not whole, and has the rest of it thrown away.
    fn throw_away(&mut self, index: u32, scan: &Scan, error: Option<&[u8]>) -> usize {
        let Some((tail, at)) = scan.tail() else {
            return 0;
        };
        if let Some(error) = error {
            let _: Taken = self.wrong(index, error);
        }
        self.desk.cold(index).upload = Some(Box::new(Upload { tail, to: None }));
        self.desk.clients[index as usize].set_special();
        at
    }

    /// More of a large request, if one is under way. How many bytes are done with, and whether what follows may be looked
    /// at now.
    #[cold]
    pub(super) fn upload(&mut self, index: u32, bytes: &[u8]) -> (usize, bool) {
        let Some(upload) = self.desk.clients[index as usize]
            .cold
            .as_mut()
            .and_then(|cold| cold.upload.as_mut())
        else {
            return (0, true);
        };
        let used = match upload.tail.advance(bytes, &Limits::CLIENT) {
            Ok(used) => used,
            Err(error) => {
                let to = upload.to;
                if let Some(lane) = to.and_then(|to| self.find_bulk(index, to)) {
                    // It never becomes whole, and the server is not to blame.
                    self.disconnect(lane);
                    self.fail_bulk(lane, text::NOT_SENT);
                }
                self.protocol_error(index, error);
                return (bytes.len(), false);
            }
        };
        let over = upload.tail.is_over();
        let to = upload.to;
        if over && let Some(cold) = &mut self.desk.clients[index as usize].cold {
            cold.upload = None;
            self.desk.clients[index as usize].set_special();
        }
        let Some(lane) = to.and_then(|to| self.find_bulk(index, to)) else {
            return (used, over);
        };
        let place = &mut self.lanes[lane as usize];
        place.ring.push(&bytes[..used]);
        place.counters.request_bytes.add(used as u64);
        let ahead = place.ring.len();
        self.touch_lane(lane);
        if over {
            // Whatever follows waits for the reply.
            return (used, self.desk.quiet(index));
        }
        if ahead > AHEAD {
            let client = &mut self.desk.clients[index as usize];
            client.hold = super::client::Hold::Lane;
            let peer = client.peer(index);
            self.lanes[lane as usize].waiters.push(peer);
        }
        (used, false)
    }

    /// The lane of an upload. Its generation may have changed while it waits to be connected again.
    fn find_bulk(&self, index: u32, to: Peer) -> Option<u32> {
        let lane = self.desk.clients[index as usize].pinned;
        (lane != NONE && lane as usize == to.index() && self.lanes[lane as usize].bulk != Bulk::No)
            .then_some(lane)
    }

    /// The kernel took some bytes of a large request.
    #[cold]
    pub(super) fn bulk_sent(&mut self, index: u32) {
        let lane = &mut self.lanes[index as usize];
        if lane.state != State::Ready {
            return;
        }
        lane.bulk = Bulk::Begun;
        if lane.first != NONE {
            // The server's time begins when it has everything.
            self.desk.slots[lane.first].since = self.now_ms as u32;
        }
        if lane.ring.len() <= AHEAD / 2 {
            self.desk.wake.append(&mut lane.waiters);
        }
    }

    /// Whether a client has sent only a part of what this lane carries for it.
    pub(super) fn bulk_is_cut(&self, index: u32) -> bool {
        let lane = &self.lanes[index as usize];
        let owner = lane.owner.and_then(|owner| self.desk.find(owner));
        let under_way = owner.is_some_and(|client| {
            let cold = self.desk.clients[client as usize].cold.as_ref();
            cold.is_some_and(|cold| cold.upload.as_ref().is_some_and(|it| it.to.is_some()))
        });
        lane.bulk != Bulk::No && under_way
    }

    /// A large request was answered, as a rule after it was sent.
    pub(super) fn bulk_answered(&mut self, index: u32) {
        let early = self.bulk_is_cut(index) || self.lanes[index as usize].ring.unsent() > 0;
        self.lanes[index as usize].bulk = Bulk::No;
        if early {
            // Refused before it was read; the connection is in the middle of it and of no use to anyone.
            self.lanes[index as usize].retired = true;
            self.forget_upload(index);
        }
    }

    /// What is still to come of a client's request goes nowhere.
    fn forget_upload(&mut self, index: u32) {
        let lane = &mut self.lanes[index as usize];
        self.desk.wake.append(&mut lane.waiters);
        let Some(client) = lane.owner.and_then(|owner| self.desk.find(owner)) else {
            return;
        };
        if let Some(cold) = &mut self.desk.clients[client as usize].cold {
            if let Some(upload) = &mut cold.upload {
                upload.to = None;
            }
            if cold.watch == Watch::Yes {
                cold.watch = Watch::Lost;
            }
        }
    }

    /// The connection that carries a large request is lost.
    #[cold]
    pub(super) fn end_bulk(&mut self, index: u32, how: How, error: &[u8]) {
        let lane = &self.lanes[index as usize];
        let pool = &self.pools[lane.pool as usize];
        let followed = !pool.groups.is_empty();
        let unsent = lane.bulk == Bulk::Unsent;
        let cut = self.bulk_is_cut(index) || lane.ring.unsent() > 0;
        let waited = match lane.first {
            NONE => 0,
            first => (self.now_ms as u32).wrapping_sub(self.desk.slots[first].since),
        };
        self.close_lane(index, how);
        if followed && unsent && u128::from(waited) < HOLD.as_millis() {
            // Nothing of it has left: it waits for the next primary, and its client with it.
            self.uploads.push(index);
            self.arm(self.now_ms + RETRY_MS);
            return;
        }
        let error = match (unsent, cut, followed) {
            (true, _, true) => text::NO_PRIMARY,
            (true, _, false) => error,
            (false, true, _) => text::NOT_SENT,
            (false, false, true) => text::UNKNOWN,
            (false, false, false) => error,
        };
        self.fail_bulk(index, error);
    }

    /// Whoever waits on the lane of a large request, which has no connection any more, is told.
    pub(super) fn fail_bulk(&mut self, index: u32, error: &[u8]) {
        self.forget_upload(index);
        let lane = &mut self.lanes[index as usize];
        lane.bulk = Bulk::No;
        let left = lane.ring.len();
        lane.ring.free(left);
        let counters = &self.pools[lane.pool as usize].setup.counters;
        counters.forward_error.add(u64::from(lane.queued));
        if error == text::UNKNOWN {
            counters.unknown.add(u64::from(lane.queued));
        }
        while lane.first != NONE {
            let slot = lane.dequeue(&self.desk.slots);
            self.desk.answer(slot, error);
        }
        lane.gauge(&self.desk.slots);
        let (pool, server) = (lane.pool, lane.server);
        self.pinned_down(index);
        self.note_quiet(pool, server);
    }

    /// Tries again to connect what waits for a primary.
    pub(super) fn retry_uploads(&mut self) {
        for index in std::mem::take(&mut self.uploads) {
            let lane = &self.lanes[index as usize];
            if lane.bulk != Bulk::Unsent || lane.owner.is_none() || lane.state != State::Closed {
                // Its client has left meanwhile.
                continue;
            }
            if self.is_open(lane.pool, lane.server) {
                self.connect(index);
                continue;
            }
            let since = match lane.first {
                NONE => self.now_ms as u32,
                first => self.desk.slots[first].since,
            };
            if u128::from((self.now_ms as u32).wrapping_sub(since)) >= HOLD.as_millis() {
                self.end_bulk(index, How::Refused, text::NO_PRIMARY);
            } else {
                self.uploads.push(index);
                self.arm(self.now_ms + RETRY_MS);
            }
        }
    }
}
