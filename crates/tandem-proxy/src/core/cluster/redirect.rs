//! A node says that it is not the one to ask: the request is asked elsewhere, and its client does not notice.
//!
//! | the node says | so |
//! |---|---|
//! | `MOVED` | asked there; the slot counts as moved |
//! | `ASK` | asked there, behind an ASKING in the same piece |
//! | `TRYAGAIN` | its keys are on two nodes: each by itself, if the command can be split; otherwise again in a moment |
//! | `CLUSTERDOWN Hash slot not served` | again in a moment |
//! | `MOVED`, `ASK` to somebody unknown, or too often | again in a moment, by a newer map |
//!
//! None of these executes anything, so asking again is always safe. What a client asked about one slot keeps its order: what was
//! sent behind a request that has to wait is taken back too if it only reads; if it was a write, the one before gets its
//! error after all. Nothing waits longer than [`super::super::follow::HOLD`] from when it was first sent back on: a primary that
//! hands over lets its clients wait itself, and what it then sends on has not been asked anywhere else.

use super::super::client::Watch;
use super::super::desk::Desk;
use super::super::lane::{Lane, State};
use super::super::recall::{self, Recalled};
use super::super::slots::{NONE, Owner, Slot, Stamp, Wait};
use super::super::split::Join;
use super::super::takeback::may_repeat;
use super::super::text;
use super::super::transaction::{EXEC, MULTI};
use super::super::{Core, scatter};
use super::{block, waiting};
use crate::cluster::Redirection;
use crate::command::{self, Merge, Route};
use crate::frame::{Limits, Scan};
use crate::settings::Address;

/// What makes a node answer for a slot that is moving to it; for the next request only.
pub(in super::super) const ASKING: &[u8] = b"*1\r\n$6\r\nASKING\r\n";

/// So often a request follows an ASK at once: more than any cluster sends it on.
const AT_ONCE: u8 = 4;

/// What was sent on after so long has blocked, in milliseconds.
const BLOCKED_MS: u32 = 1000;
/// What blocks is sent on so often without having blocked anywhere, over some two seconds.
const HOPS_MAX: u8 = 250;

const TRY_AGAIN: &[u8] = b"-TRYAGAIN ";
const NOT_SERVED: &[u8] = b"-CLUSTERDOWN Hash slot not served";
const ELSEWHERE: [&[u8]; 4] = [b"-MOVED ", b"-ASK ", TRY_AGAIN, NOT_SERVED];

/// Looks at the reply to the oldest request of a lane to a node. `Some(true)`: it was taken out of the lane;
/// `Some(false)`: it is an answer; `None`: it is an error that any group may give.
pub(in super::super) fn look(lane: &mut Lane, desk: &mut Desk, reply: &[u8]) -> Option<bool> {
    let slot = lane.first;
    let place = desk.slots[slot];
    let mut elsewhere = ELSEWHERE.iter().any(|text| reply.starts_with(text));
    if !matches!(place.owner, Owner::Client(_) | Owner::Part { .. }) {
        if elsewhere {
            block::note_refusal(lane, &desk.slots, reply);
        }
        return Some(false);
    }
    if place.len as usize == EXEC.len()
        && reply.first() == Some(&b'-')
        && lane.ring.oldest(EXEC.len()) == EXEC
    {
        return Some(match block::refused(lane, reply, elsewhere) {
            Some((bytes, reply)) => {
                lane.dequeue(&desk.slots);
                lane.sent_back = Some(Recalled { slot, bytes, reply });
                true
            }
            None if elsewhere => {
                lane.dequeue(&desk.slots);
                desk.answer(slot, text::EXECABORT);
                true
            }
            None => false,
        });
    }
    if lane.held.is_some() && !elsewhere {
        return None;
    }
    if !elsewhere && recall::is_refusal(reply) {
        return None;
    }
    let mut bytes = Vec::new();
    let mut behind = false;
    if elsewhere || !lane.recalled.is_empty() {
        bytes = lane.ring.oldest(place.len as usize);
        let slot = waiting::slot_of_request(&bytes);
        if Redirection::read(reply).is_some_and(|to| Some(to.slot) != slot) {
            // No node says this: a script has made it up.
            elsewhere = false;
        }
        behind = lane.recalled.iter().any(|before| {
            recall::same_client(desk.slots[before.slot].owner, place.owner)
                && waiting::slot_of_request(&before.bytes) == slot
        });
    }
    if !elsewhere && !behind {
        return Some(false);
    }
    if !elsewhere && !may_repeat(&bytes) {
        recall::pass_on(lane, desk, place.owner);
        return Some(false);
    }
    lane.dequeue(&desk.slots);
    let back = Recalled {
        slot,
        bytes,
        reply: reply.to_vec(),
    };
    if behind {
        lane.recalled.push(back);
    } else {
        lane.sent_back = Some(back);
    }
    Some(true)
}

impl Core {
    /// Finds the way of the request that a node has just sent back.
    #[cold]
    pub(in super::super) fn sent_back(&mut self, index: u32) {
        let Some(back) = self.lanes[index as usize].sent_back.take() else {
            return;
        };
        if self.lanes[index as usize].extra_ms > 0 {
            // It waited there as it was meant to: how long it may be sent on counts from now.
            let place = &mut self.desk.slots[back.slot];
            let blocked = (self.now_ms as u32).wrapping_sub(place.since) > BLOCKED_MS;
            place.since = self.now_ms as u32;
            if blocked {
                self.desk.slots.forget_hops(back.slot);
            } else if self.desk.slots.stamp(back.slot).hops >= HOPS_MAX {
                back.pass_on(&mut self.desk);
                return;
            }
        }
        if self.is_given_up(back.slot) {
            back.pass_on(&mut self.desk);
            return;
        }
        let lane = &self.lanes[index as usize];
        let pool = lane.pool;
        if block::is_block(&back.bytes) && lane.watched {
            // What it watched is elsewhere by now, and may be changed there: as if it was.
            let resp3 = self.banks[lane.bank as usize].identity.resp3;
            let null: &[u8] = if resp3 { b"_\r\n" } else { b"*-1\r\n" };
            self.desk.answer(back.slot, null);
            self.wish(pool, None);
            return;
        }
        let Some(to) = Redirection::read(&back.reply) else {
            if back.reply.starts_with(TRY_AGAIN) {
                if self.ask_singly(index, &back) {
                    return;
                }
            } else {
                self.wish(pool, None);
            }
            self.park(index, back);
            return;
        };
        let hops = self.desk.slots.hop(back.slot);
        let at = self.named_by(index, &to);
        let state = &self.pools[pool as usize];
        let seat = state.cluster.as_ref().and_then(|it| it.seat_at(&at));
        if !to.ask
            && let Some(seat) = seat
        {
            self.slot_moved(pool, to.slot, seat);
        }
        if !to.ask || seat.is_none() {
            // A script can name whom it likes, and whoever is asked for a map is told the proxy's password.
            let trusted = !recall::is_script(&back.bytes);
            self.wish(pool, trusted.then_some(at));
        }
        // While two nodes learn of a move each may name the other: then one waits, so that it is not overtaken by what was
        // asked behind it. So it does if its shard is the same, with another primary.
        let itself = seat == Some(self.lanes[index as usize].server);
        let at_once = if to.ask { AT_ONCE } else { 1 };
        match seat {
            Some(seat) if hops <= at_once && !itself => {
                self.ask_elsewhere(index, seat, to.ask, back);
            }
            Some(_) | None => self.park(index, back),
        }
    }

    /// Where the node of this lane sends somebody.
    pub(super) fn named_by(&self, index: u32, to: &Redirection<'_>) -> Address {
        Address::Tcp {
            host: match (to.host, self.address_of_lane(index)) {
                (Some(host), _) => host.to_owned(),
                (None, Some(Address::Tcp { host, .. })) => host.clone(),
                (None, Some(Address::Unix { .. }) | None) => String::new(),
            },
            port: to.port,
        }
    }

    /// Asks the shard at `seat` what the node of this lane was asked.
    pub(super) fn ask_elsewhere(&mut self, index: u32, seat: u32, asking: bool, back: Recalled) {
        let Some(client) = self.client_of(back.slot) else {
            // Who has left is not asked for any more.
            self.desk.answer(back.slot, b"");
            return;
        };
        let lane = &self.lanes[index as usize];
        if lane.pinned {
            return self.pinned_elsewhere(index, client, seat, asking, back);
        }
        let lane = self.lane_to(lane.bank, seat, client);
        self.send_again(lane, asking, back.slot, &back.bytes);
    }

    /// The same of a request on its client's own connection.
    fn pinned_elsewhere(
        &mut self,
        index: u32,
        client: u32,
        seat: u32,
        asking: bool,
        back: Recalled,
    ) {
        let own = self.desk.clients[client as usize].pinned;
        let fits = |lane: &Lane| lane.server == seat && !lane.retired && !lane.messages;
        if own != NONE && (own != index || !asking) && fits(&self.lanes[own as usize]) {
            return self.send_again(own, asking, back.slot, &back.bytes);
        }
        let shared = self.lane_to(self.lanes[index as usize].bank, seat, client);
        let watches = self
            .desk
            .cold_mut(client)
            .is_some_and(|cold| cold.watch != Watch::No);
        if watches {
            // What it watches leaves that node, and may be changed where it is then: as if it was.
            self.lanes[index as usize].retired = true;
            self.desk.cold(client).watch = Watch::Lost;
            if is_watch(&back.bytes) {
                self.desk.answer(back.slot, b"+OK\r\n");
                return;
            }
            return self.send_again(shared, asking, back.slot, &back.bytes);
        }
        if own != index {
            return self.send_again(shared, asking, back.slot, &back.bytes);
        }
        let place = &self.lanes[index as usize];
        if place.first != NONE || !place.recalled.is_empty() {
            // What is behind it there is still to be answered, or what was before it waits there.
            return self.park(index, back);
        }
        let extra_ms = place.extra_ms;
        self.unpin(client);
        match self.pin(client, seat) {
            Some(lane) => {
                self.lanes[lane as usize].extra_ms = extra_ms;
                self.send_again(lane, asking, back.slot, &back.bytes);
            }
            // It has just given one back, so there is one; but an answer it must have.
            None => back.pass_on(&mut self.desk),
        }
    }

    /// Puts a request that was in another lane at the end of this one.
    pub(super) fn send_again(&mut self, index: u32, asking: bool, slot: u32, bytes: &[u8]) {
        if self.lanes[index as usize].state == State::Closed {
            // Followed, so it waits if it cannot be connected.
            let _ = self.shut(index);
        }
        if asking {
            for request in block::requests(bytes) {
                self.bring_script(index, request);
            }
            self.queue_unheard(index, slot, ASKING);
        }
        self.queue_again(index, slot, bytes);
        let lane = &mut self.lanes[index as usize];
        lane.used = true;
        if let Some(timeout_ms) = self.pools[lane.pool as usize].timeout_ms {
            self.arm(self.now_ms + timeout_ms + 1);
        }
        self.arm_hold(index);
        self.touch_lane(index);
    }

    /// The same, of a lane that sends it when it can.
    pub(in super::super) fn queue_again(&mut self, index: u32, slot: u32, bytes: &[u8]) {
        let whole = block::is_block(bytes);
        let mut last = bytes;
        if whole {
            for request in block::requests(bytes) {
                self.bring_script(index, request);
            }
            let mut inner = 0;
            for request in block::requests(bytes) {
                last = request;
                if request != EXEC {
                    self.queue_unheard(index, slot, request);
                    inner += 1;
                }
            }
            debug_assert_eq!(last, EXEC, "transactions end with it");
            self.enqueue_again(index, slot, last);
            let inside = &bytes[MULTI.len()..bytes.len() - EXEC.len()];
            self.keep_block(index, inside, inner - 1);
        } else {
            self.bring_script(index, bytes);
            self.enqueue_again(index, slot, last);
        }
    }

    fn enqueue_again(&mut self, index: u32, slot: u32, bytes: &[u8]) {
        let lane = &mut self.lanes[index as usize];
        lane.ring.push(bytes);
        self.desk.slots[slot].next_in_lane = NONE;
        lane.enqueue(slot, &mut self.desk.slots);
    }

    /// Something before a request of `slot` whose reply nobody wants.
    fn queue_unheard(&mut self, index: u32, slot: u32, bytes: &[u8]) {
        let unheard = self.desk.slots.take(Slot {
            owner: Owner::Nobody,
            wait: Wait::Lane,
            next_in_lane: NONE,
            next_of_client: NONE,
            len: bytes.len() as u32,
            since: self.desk.slots[slot].since,
        });
        self.desk.slots.set_stamp(unheard, Stamp::default());
        let lane = &mut self.lanes[index as usize];
        lane.ring.push(bytes);
        lane.enqueue(unheard, &mut self.desk.slots);
    }

    /// Asks for each key of a request by itself, whose keys are on two nodes just now. False: it cannot be split.
    fn ask_singly(&mut self, index: u32, back: &Recalled) -> bool {
        let mut scan = Scan::default();
        let Ok(Some(_)) = scan.advance(&back.bytes, &Limits::CLIENT) else {
            return false;
        };
        let request = scan.request(&back.bytes);
        let Some(command) = command::resolve(&request) else {
            return false;
        };
        let Route::Split { first, step, merge } = command.route else {
            return false;
        };
        let (first, step) = (usize::from(first), usize::from(step));
        let keys = request.count().saturating_sub(first) / step;
        let Ok(parts) = u16::try_from(keys) else {
            return false;
        };
        if parts < 2 {
            return false;
        }
        let order: Vec<u16> = match merge {
            Merge::InOrder => (0..parts).collect(),
            _ => Vec::new(),
        };
        let lane = &self.lanes[index as usize];
        let (pool, bank) = (lane.pool, lane.bank);
        let client = self.client_of(back.slot).unwrap_or_default();
        let split = self.desk.splits.open(Join::All(merge), parts, &order);
        self.desk.slots[back.slot].wait = Wait::Split(split);
        self.desk.splits.bind(split, back.slot);
        let (stamp, since) = (
            self.desk.slots.stamp(back.slot),
            self.desk.slots[back.slot].since,
        );
        let arguments: Vec<_> = request.arguments().skip(first).collect();
        for (part, group) in (0..parts).zip(arguments.chunks(step)) {
            let mut bytes = self.desk.spare.take();
            scatter::head_of_part(&mut bytes, command.name.as_bytes(), step + 1);
            for argument in group {
                bytes.extend_from_slice(argument.wire);
            }
            let slot = self.desk.slots.take(Slot {
                owner: Owner::Part { split, part },
                wait: Wait::Lane,
                next_in_lane: NONE,
                next_of_client: NONE,
                len: bytes.len() as u32,
                since,
            });
            self.desk.slots.set_stamp(slot, stamp);
            let seat = self.server_for(pool, group[0].value).unwrap_or_default();
            let lane = self.lane_to(bank, seat, client);
            self.send_again(lane, false, slot, &bytes);
            self.desk.spare.give(bytes);
        }
        true
    }
}

fn is_watch(bytes: &[u8]) -> bool {
    let mut scan = Scan::default();
    match scan.advance(bytes, &Limits::CLIENT) {
        Ok(Some(_)) => scan
            .request(bytes)
            .argument(0)
            .is_some_and(|name| name.eq_ignore_ascii_case(b"WATCH")),
        Ok(None) | Err(_) => false,
    }
}
