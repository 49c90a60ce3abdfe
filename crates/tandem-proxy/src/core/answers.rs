//! What servers send: replies, matched in order to the requests that their lane carried.

use super::aside::Standing;
use super::desk::Desk;
use super::lane::{Lane, RING_BOUND, State};
use super::particular::{self, Look};
use super::peer::How;
use super::pubsub::Came;
use super::slots::{NONE, Owner, Wait};
use super::slow::Run;
use super::{Core, Order};
use super::{pubsub, recall};
use crate::frame::Fed;

/// A reply that has brought so many bytes and is not whole is passed on in pieces if its client may have them.
const STREAMED: usize = 16 * 1024;
/// Bytes of replies that a client may leave untaken before the lane they come from stops.
pub(super) const HEAVY: usize = 1024 * 1024;

/// How a walk over what a lane brought ended.
enum End {
    /// All of it is understood; bytes from this offset on are the start of a reply.
    Used(usize),
    /// The set-up is complete: bytes from this offset on are still to be looked at.
    SetUp(usize),
    /// The server refuses the set-up with this error, line end included.
    Refused(Vec<u8>),
    /// It answers, and is not the primary that it was; what it was asked before is still in doubt.
    Demoted,
    /// Something that is no reply, or a reply that nobody asked for.
    Broken,
    /// What is listened to on this connection is elsewhere: bytes from this offset on are still to be looked at.
    SentOn(usize),
    /// Nobody is subscribed on this connection any more.
    Unsubscribed,
    /// A request has to be asked elsewhere: bytes from this offset on are still to be looked at.
    SentBack(usize),
    /// A subscriber listens again: bytes from this offset on are still to be looked at.
    Renewed(usize),
    /// A client has to take what it has first; bytes from this offset on are still to be looked at.
    Stalled(usize),
}

impl Core {
    /// `count` bytes came on a lane, behind those that were carried over.
    #[inline]
    pub(super) fn lane_received(&mut self, index: u32, count: usize) {
        let mut scratch = std::mem::take(&mut self.scratch);
        let carried = std::mem::take(&mut self.carried);
        let mut input = std::mem::take(&mut self.lanes[index as usize].input);
        if input.len() > carried {
            // Too much to carry: a large reply that may not be passed on yet grows in its own buffer.
            let fed = input.len();
            input.extend_from_slice(&scratch[..count]);
            let kept = self.lane_bytes(index, &input, fed);
            self.keep(index, input, kept);
        } else {
            self.desk.spare.give(input);
            let total = carried + count;
            let kept = self.lane_bytes(index, &scratch[..total], carried);
            if kept < total {
                let mut input = self.desk.spare.take();
                input.extend_from_slice(&scratch[kept..total]);
                self.lanes[index as usize].input = input;
            }
        }
        std::mem::swap(&mut self.scratch, &mut scratch);
        self.lanes[index as usize].gauge(&self.desk.slots);
    }

    /// Gives a lane its own buffer back, without what is understood.
    pub(super) fn keep(&mut self, index: u32, mut input: Vec<u8>, kept: usize) {
        if kept == input.len() {
            self.desk.spare.give(input);
            return;
        }
        input.drain(..kept);
        self.lanes[index as usize].input = input;
    }

    /// Walks over bytes of a lane, of which the scanner has seen the first `fed`. From where on they must be kept.
    pub(super) fn lane_bytes(&mut self, index: u32, bytes: &[u8], fed: usize) -> usize {
        let mut start = 0;
        let mut fed = fed;
        loop {
            let lane = &mut self.lanes[index as usize];
            let end = walk(lane, &mut self.desk, bytes, start, fed, self.now_ms);
            if !self.desk.witnessed.is_empty() {
                self.witnessed(index);
            }
            match end {
                End::Used(kept) => {
                    self.replied(index);
                    return if self.lanes[index as usize].state == State::Closed {
                        bytes.len()
                    } else {
                        kept
                    };
                }
                End::SetUp(next) => {
                    self.ready(index);
                    start = next;
                    fed = next;
                }
                End::Refused(error) => {
                    self.lane_refused(index, &error);
                    return bytes.len();
                }
                End::Unsubscribed => {
                    self.subscribed_no_more(index);
                    return bytes.len();
                }
                End::SentOn(next) => {
                    let generation = self.lanes[index as usize].generation;
                    let word = std::mem::take(&mut self.lanes[index as usize].sent_on);
                    self.listens_elsewhere(index, &word);
                    if self.lanes[index as usize].generation != generation {
                        return bytes.len();
                    }
                    start = next;
                    fed = next;
                }
                End::Renewed(next) => {
                    self.renewed(index);
                    start = next;
                    fed = next;
                }
                End::SentBack(next) => {
                    let generation = self.lanes[index as usize].generation;
                    self.sent_back(index);
                    if self.lanes[index as usize].generation != generation {
                        return bytes.len();
                    }
                    start = next;
                    fed = next;
                }
                End::Demoted => {
                    self.lane_down(index, How::Refused);
                    return bytes.len();
                }
                End::Broken => {
                    self.lane_down(index, How::Protocol);
                    return bytes.len();
                }
                End::Stalled(next) => {
                    if self.lanes[index as usize].particular {
                        self.particular_replied(index);
                    }
                    if let Some(client) = self.lanes[index as usize].stalled_on {
                        self.desk.clients[client.index()].progress_ms = self.now_ms as u32;
                    }
                    self.arm(self.now_ms + super::PATIENCE_MS + 1);
                    return next;
                }
            }
        }
    }

    /// Replies came: what failed before is forgiven, and clients that waited for room may go on.
    #[inline]
    fn replied(&mut self, index: u32) {
        if self.lanes[index as usize].particular {
            self.particular_replied(index);
        }
        let lane = &mut self.lanes[index as usize];
        lane.failures = 0;
        let pool = &self.pools[lane.pool as usize];
        if pool.ejects {
            pool.setup.ejector.answered(lane.server as usize);
        }
        if !lane.waiters.is_empty() && lane.has_room(RING_BOUND / 2) {
            self.desk.wake.append(&mut lane.waiters);
        }
        if lane.held.is_some() {
            self.held_replied(index);
            return;
        }
        if lane.first == NONE {
            if lane.owner.is_some() {
                self.pinned_idle(index);
            } else if lane.retired {
                self.hang_up(index);
            }
        }
    }

    /// Goes on with lanes whose client has taken what it had, or is gone, or whose turn has come. Whether there was one.
    pub(super) fn release_stalled(&mut self) -> bool {
        let mut any = false;
        for index in 0..self.lanes.len() as u32 {
            any |= self.release_early(index);
            let lane = &mut self.lanes[index as usize];
            let Some(client) = lane.stalled_on else {
                continue;
            };
            let light = match self.desk.find(client) {
                Some(client) => self.desk.clients[client as usize].unsent() <= HEAVY / 2,
                None => true,
            };
            if !light {
                continue;
            }
            any = true;
            lane.stalled_on = None;
            self.desk.stalling -= 1;
            lane.bound = RING_BOUND;
            self.desk.wake.append(&mut lane.waiters);
            if lane.first != NONE {
                // The wait was the client's doing: the server's time begins now.
                self.desk.slots[lane.first].since = self.now_ms as u32;
            }
            let input = std::mem::take(&mut lane.input);
            let kept = self.lane_bytes(index, &input, 0);
            self.keep(index, input, kept);
            let lane = &self.lanes[index as usize];
            if lane.stalled_on.is_none() && lane.state == State::Ready {
                self.orders.push_back(Order::Resume(lane.peer(index)));
            }
        }
        any
    }
}

/// Matches replies to requests until the bytes are used up or something unusual happens.
#[inline]
fn walk(
    lane: &mut Lane,
    desk: &mut Desk,
    bytes: &[u8],
    mut start: usize,
    mut at: usize,
    now_ms: u64,
) -> End {
    let mut replies = 0u64;
    let mut run = Run::default();
    let begun = start;
    // Neither changes before the walk ends.
    let ordinary = lane.state == State::Ready && !lane.messages;
    let end = loop {
        if at == bytes.len() {
            break None;
        }
        match lane.scanner.feed(&bytes[at..]) {
            Ok(Fed::End(len)) => at += len,
            Ok(Fed::More) => break None,
            Err(_) => break Some(End::Broken),
        }
        let reply = &bytes[start..at];
        start = at;
        if !ordinary && let State::SettingUp { left, until_ms } = lane.state {
            if lane.acked
                && let Some(standing) = Standing::read(reply)
            {
                lane.lineage = standing.lineage;
            }
            if is_refusal(reply, lane.theirs) {
                break Some(End::Refused(reply.to_vec()));
            }
            if let Some(doubt) = lane.doubts.front()
                && super::witness::is_another(reply, &doubt.since.lineage)
            {
                break Some(End::Demoted);
            }
            if left <= 1 {
                break Some(End::SetUp(start));
            }
            lane.state = State::SettingUp {
                left: left - 1,
                until_ms,
            };
            continue;
        }
        if !ordinary && lane.messages {
            if lane.aside.is_some() {
                lane.heard.extend_from_slice(reply);
                continue;
            }
            match pubsub::message(desk, lane, reply) {
                Came::Message => {}
                Came::LastUnsubscribed => break Some(End::Unsubscribed),
                Came::LastRenewed => break Some(End::Renewed(start)),
                Came::SentOn => break Some(End::SentOn(start)),
            }
            if desk.heavy != NONE && stalls(lane, desk) {
                break Some(End::Stalled(start));
            }
            continue;
        }
        if lane.first == NONE {
            if reply.first() == Some(&b'>') && !lane.streaming {
                continue;
            }
            break Some(End::Broken);
        }
        replies += 1;
        if lane.followed
            && (reply.first() == Some(&b'-') || !lane.recalled.is_empty())
            && !lane.streaming
            && recall::take_back(lane, desk, reply, now_ms)
        {
            if lane.sent_back.is_some() {
                break Some(End::SentBack(start));
            }
            continue;
        }
        if lane.particular {
            match particular::look(lane, desk, reply, now_ms) {
                Look::Ordinary => {}
                Look::Done => continue,
                Look::Unfit => break Some(End::Refused(reply.to_vec())),
            }
        }
        run.measure(lane, desk);
        let slot = lane.dequeue(&desk.slots);
        if lane.streaming {
            lane.streaming = false;
            finish_stream(desk, slot, reply);
        } else {
            desk.answer(slot, reply);
        }
        if desk.heavy != NONE && stalls(lane, desk) {
            break Some(End::Stalled(start));
        }
    };
    if replies > 0 {
        run.end(&lane.counters, desk);
        lane.counters.responses.add(replies);
        lane.counters.response_bytes.add((start - begun) as u64);
        lane.early_over(desk);
    }
    if let Some(end) = end {
        return end;
    }
    // What is left is the start of a reply, and the scanner has seen it.
    let piece = &bytes[start..];
    if piece.is_empty() || lane.first == NONE || lane.state != State::Ready {
        return End::Used(start);
    }
    if lane.streaming || (piece.len() >= STREAMED && may_stream(desk, lane.first, piece)) {
        lane.streaming = true;
        if let Owner::Client(client) = desk.slots[lane.first].owner {
            desk.stream(client, piece);
        }
        if desk.heavy != NONE && stalls(lane, desk) {
            return End::Stalled(bytes.len());
        }
        return End::Used(bytes.len());
    }
    if lane.hold_back(desk, piece, now_ms) {
        lane.throw_away(desk, now_ms);
        return End::Used(bytes.len());
    }
    End::Used(start)
}

/// Whether pieces of this reply may leave before its end: it is its client's turn, and it is no error, which has
/// to be read as a whole.
fn may_stream(desk: &Desk, slot: u32, piece: &[u8]) -> bool {
    if piece.first() == Some(&b'-') {
        return false;
    }
    match desk.slots[slot].owner {
        // Between the pieces there must be no message.
        Owner::Client(client) => {
            let client = &desk.clients[client as usize];
            client.first == slot && !client.is_subscribed() && desk.slots[slot].wait == Wait::Lane
        }
        Owner::Part { .. } | Owner::Witness => false,
        Owner::Script | Owner::Nobody => true,
    }
}

/// The last piece of a reply that was passed on in pieces.
fn finish_stream(desk: &mut Desk, slot: u32, piece: &[u8]) {
    match desk.slots[slot].owner {
        Owner::Client(client) => {
            desk.stream(client, piece);
            desk.advance(client);
        }
        Owner::Part { .. } | Owner::Witness | Owner::Script | Owner::Nobody => {
            desk.slots.give(slot);
        }
    }
}

/// Stops a lane for a client that has too much untaken, if there still is one.
#[cold]
fn stalls(lane: &mut Lane, desk: &mut Desk) -> bool {
    let index = std::mem::replace(&mut desk.heavy, NONE);
    let client = &desk.clients[index as usize];
    if client.unsent() <= HEAVY {
        return false;
    }
    lane.stalled_on = Some(client.peer(index));
    desk.stalling += 1;
    true
}

/// Whether a set-up reply means that requests would not do what they say. A server without password says so to
/// AUTH, and does everything all the same; but a client (`theirs`) that gave it gets that for an answer.
fn is_refusal(reply: &[u8], theirs: bool) -> bool {
    const NO_PASSWORD: &[u8] = b"without any password configured";
    const NO_PASSWORD_OLD: &[u8] = b"but no password is set";
    let harmless = |text: &[u8]| reply.windows(text.len()).any(|part| part == text);
    reply.first() == Some(&b'-') && (theirs || !harmless(NO_PASSWORD) && !harmless(NO_PASSWORD_OLD))
}
