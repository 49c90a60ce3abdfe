//! What a lost connection leaves unanswered, request by request, and what becomes of each.
//!
//! | of the request | the server | so |
//! |---|---|---|
//! | not the last byte was handed over | cannot have executed it | sent to the next primary |
//! | all of it, and it only reads | may have answered into the void | sent again |
//! | all of it, and it may write | may or may not have executed it | waits for proof ([`super::doubt`]) or is told so |
//!
//! A transaction is one request here: from MULTI to EXEC it is sent again whole or not at all. Whoever has left meanwhile
//! is not asked for any more: what it asked is dropped unsent, as its retry may be held beside it. That holds for one
//! who has closed only its half, too, once a request of it had to be held.

use std::ops::Range;

use super::client::Life;
use super::cluster::ASKING;
use super::doubt::Doubt;
use super::lane::{Lane, State};
use super::slots::{NONE, Owner};
use super::transaction::{EXEC, MULTI};
use super::witness::Sample;
use super::{Core, How, text};
use crate::command;
use crate::frame::{Limits, Scan};

/// What becomes of a request whose connection is gone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fate {
    /// It is sent to the next primary.
    Again,
    /// Nobody wants its reply.
    Dropped,
    /// It may have been executed, after this place in the server's history if at all.
    Doubtful(Sample),
    /// Its client is told that nobody knows.
    Unknown,
}

/// A request, or a transaction from MULTI to EXEC; in a cluster, with the ASKING before it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Unit {
    /// Its slots, by place in the queue. The last one is that of the client.
    pub(super) slots: Range<usize>,
    /// Its bytes.
    pub(super) bytes: Range<usize>,
    /// It is the end of a transaction whose beginning was answered already.
    pub(super) headless: bool,
}

/// Everything that is queued on a lane, taken out of it.
#[derive(Debug, Default)]
pub(super) struct Queue {
    pub(super) bytes: Vec<u8>,
    /// Each slot, and where its bytes end.
    pub(super) slots: Vec<(u32, usize)>,
    pub(super) units: Vec<Unit>,
    /// Bytes that were handed over.
    handed: usize,
}

impl Core {
    /// Takes the queue of a lane out of it.
    pub(super) fn take_queue(&mut self, index: u32) -> Queue {
        let lane = &mut self.lanes[index as usize];
        let (bytes, handed) = lane.ring.take_all();
        let mut slot = std::mem::replace(&mut lane.first, NONE);
        lane.last = NONE;
        lane.queued = 0;
        let mut slots = Vec::new();
        let mut end = 0;
        while slot != NONE {
            let place = &self.desk.slots[slot];
            end += place.len as usize;
            slots.push((slot, end));
            slot = place.next_in_lane;
        }
        let mut queue = Queue {
            bytes,
            slots,
            units: Vec::new(),
            handed,
        };
        queue.divide();
        queue
    }

    /// Puts a request back at the end of a lane's queue.
    pub(super) fn put_back(&mut self, index: u32, queue: &Queue, unit: &Unit) {
        let lane = &mut self.lanes[index as usize];
        lane.ring.push(&queue.bytes[unit.bytes.clone()]);
        for &(slot, _) in &queue.slots[unit.slots.clone()] {
            self.desk.slots[slot].next_in_lane = NONE;
            lane.enqueue(slot, &mut self.desk.slots);
        }
    }

    /// Puts a request back that is to be sent on a new connection, with the scripts that it calls.
    pub(super) fn ask_again(&mut self, index: u32, queue: &Queue, unit: &Unit) {
        for request in queue.requests(unit) {
            self.bring_script(index, request);
        }
        self.put_back(index, queue, unit);
    }

    /// Gives the slots of a request back that nobody waits for.
    fn drop_unit(&mut self, index: u32, queue: &Queue, unit: &Unit) {
        for &(slot, _) in &queue.slots[unit.slots.clone()] {
            match self.desk.slots[slot].owner {
                // It counts its parts.
                Owner::Part { .. } => self.desk.answer(slot, b""),
                Owner::Witness => {
                    self.desk.slots.give(slot);
                    let lane = &self.lanes[index as usize];
                    self.ask_from(lane.pool, lane.server, self.now_ms);
                }
                Owner::Client(_) | Owner::Script | Owner::Nobody => self.desk.slots.give(slot),
            }
        }
    }

    /// Sorts everything unanswered on a lane without connection (or at rest) and puts back what is to be sent again, or
    /// waits for proof: first what the server itself sent back, then the rest, each in the order in which it was asked.
    /// `ended`: how the connection ended, if it did so by itself.
    pub(super) fn take_back(&mut self, index: u32, ended: Option<How>) {
        self.part_from_those_who_left(index);
        let queue = self.take_queue(index);
        let lane = &mut self.lanes[index as usize];
        let first_byte = lane.handed - queue.handed as u64;
        let mut doubts = std::mem::take(&mut lane.doubts);
        if lane.state != State::Ready {
            lane.loaded.clear();
        }
        let recalled = std::mem::take(&mut lane.recalled);
        for request in recalled {
            if self.is_wanted(request.slot) && self.lanes[index as usize].clustered {
                self.queue_again(index, request.slot, &request.bytes);
            } else if self.is_wanted(request.slot) {
                let lane = &mut self.lanes[index as usize];
                lane.ring.push(&request.bytes);
                self.desk.slots[request.slot].next_in_lane = NONE;
                lane.enqueue(request.slot, &mut self.desk.slots);
            } else {
                self.desk.answer(request.slot, b"");
            }
        }
        let mut unknown = Vec::new();
        // What a transaction is answered that was not sent and whose WATCH is gone: as if a key had changed.
        let null = self.void_watch(index);
        let mut aborted = Vec::new();
        // It has a connection for this alone: what goes for one half of the question goes for the other.
        let files_lost = queue.units.iter().any(|unit| {
            let slot = queue.slots[unit.slots.end - 1].0;
            self.files_are_lost(index, slot, unit.bytes.end <= queue.handed)
        });
        for unit in &queue.units {
            let slot = queue.slots[unit.slots.end - 1].0;
            let doubtful = doubts.front().is_some_and(|doubt| doubt.slot == slot);
            let doubt = if doubtful { doubts.pop_front() } else { None };
            // Brought along again where it is needed, but for a connection that has it under way.
            let script = self.desk.slots[slot].owner == Owner::Script;
            let connected = self.lanes[index as usize].state == State::Ready;
            if files_lost {
                self.tell_files_lost(slot);
                continue;
            }
            let fate = match doubt {
                _ if script && connected => Fate::Again,
                _ if !self.is_wanted(slot) => Fate::Dropped,
                Some(doubt) => Fate::Doubtful(doubt.since),
                None => self.fate(index, &queue, unit, first_byte, ended),
            };
            let unguarded = null.is_some() && unit.slots.len() > 1;
            match fate {
                Fate::Again if unguarded => aborted.push(unit),
                // Even if it is proven that it was not executed it could not be sent again.
                Fate::Doubtful(_) if unguarded => unknown.push(unit),
                Fate::Again => self.ask_again(index, &queue, unit),
                Fate::Dropped => self.drop_unit(index, &queue, unit),
                Fate::Doubtful(since) => {
                    self.ask_again(index, &queue, unit);
                    let lane = &mut self.lanes[index as usize];
                    lane.doubts.push_back(Doubt { slot, since });
                }
                Fate::Unknown => unknown.push(unit),
            }
        }
        for unit in unknown {
            self.tell_unknown(index, &queue, unit);
        }
        for unit in aborted {
            for &(slot, _) in &queue.slots[unit.slots.clone()] {
                self.desk.answer(slot, null.unwrap_or_default());
            }
        }
        let lane = &mut self.lanes[index as usize];
        lane.marks.clear();
        lane.gauge(&self.desk.slots);
        self.wake_waiters(index);
        self.lent_if_wanted(index);
    }

    /// Tells the client of a request that nobody knows what became of it.
    pub(super) fn tell_unknown(&mut self, index: u32, queue: &Queue, unit: &Unit) {
        let pool = self.lanes[index as usize].pool;
        self.pools[pool as usize].setup.counters.unknown.add(1);
        for &(slot, _) in &queue.slots[unit.slots.clone()] {
            self.desk.answer(slot, text::UNKNOWN);
        }
    }

    /// What becomes of a request that somebody wants.
    fn fate(
        &self,
        index: u32,
        queue: &Queue,
        unit: &Unit,
        first_byte: u64,
        ended: Option<How>,
    ) -> Fate {
        if unit.headless {
            return Fate::Unknown;
        }
        if unit.bytes.end > queue.handed {
            return Fate::Again;
        }
        if queue.requests(unit).all(may_repeat) {
            return Fate::Again;
        }
        let lane = &self.lanes[index as usize];
        let fresh = lane.sample_before(first_byte + unit.bytes.end as u64);
        match fresh.or_else(|| self.idle_since(lane, ended)) {
            Some(sample) => Fate::Doubtful(sample),
            None => Fate::Unknown,
        }
    }

    /// Of what a client blocks in on its own connection: if it had been executed before the sample before the last, its
    /// answer would have come. That needs a connection that has ended by itself, after all that was written to it.
    fn idle_since(&self, lane: &Lane, ended: Option<How>) -> Option<Sample> {
        let ended = matches!(ended, Some(How::Eof | How::Reset));
        let state = &self.pools[lane.pool as usize];
        let witness = state.witnesses.get(lane.server as usize)?;
        (lane.pinned && ended && witness.era == lane.era)
            .then(|| witness.before_last())
            .flatten()
    }

    /// Whether somebody still waits for this.
    fn is_wanted(&self, slot: u32) -> bool {
        match self.desk.slots[slot].owner {
            Owner::Client(_) => true,
            Owner::Part { split, .. } => self.desk.splits.slot(split).is_some(),
            Owner::Witness | Owner::Script | Owner::Nobody => false,
        }
    }

    /// Clients that have said that they say no more, and one of whose requests is here, unsent, are gone for good.
    fn part_from_those_who_left(&mut self, index: u32) {
        let lane = &self.lanes[index as usize];
        let handed = lane.ring.handed();
        let mut slot = lane.first;
        let mut end = 0;
        let mut gone = Vec::new();
        while slot != NONE {
            let place = &self.desk.slots[slot];
            end += place.len as usize;
            let client = match place.owner {
                Owner::Client(client) => Some(client),
                Owner::Part { split, .. } => match self.desk.splits.slot(split) {
                    Some(slot) => match self.desk.slots[slot].owner {
                        Owner::Client(client) => Some(client),
                        Owner::Part { .. } | Owner::Witness | Owner::Script | Owner::Nobody => None,
                    },
                    None => None,
                },
                Owner::Witness | Owner::Script | Owner::Nobody => None,
            };
            if let Some(client) = client
                && end > handed
                && self.desk.clients[client as usize].gave_up
            {
                gone.push(client);
            }
            slot = place.next_in_lane;
        }
        for client in gone {
            if self.desk.clients[client as usize].life != Life::Vacant {
                self.desk.leave(client);
            }
        }
    }

    /// Before a held lane goes on, on the connection that it has: drops what was asked by those who have left meanwhile, as
    /// far as nothing of it was sent.
    pub(super) fn drop_unwanted(&mut self, index: u32) {
        self.part_from_those_who_left(index);
        let queue = self.take_queue(index);
        for unit in &queue.units {
            let slot = queue.slots[unit.slots.end - 1].0;
            let unsent = unit.bytes.start >= queue.handed && !unit.headless;
            let script = self.desk.slots[slot].owner == Owner::Script;
            if unsent && !script && !self.is_wanted(slot) {
                self.drop_unit(index, &queue, unit);
                let doubts = &mut self.lanes[index as usize].doubts;
                doubts.retain(|doubt| doubt.slot != slot);
            } else {
                self.put_back(index, &queue, unit);
            }
        }
        let lane = &mut self.lanes[index as usize];
        lane.ring.sent(queue.handed);
        lane.gauge(&self.desk.slots);
        self.wake_waiters(index);
    }
}

impl Queue {
    /// Finds the requests, and the transactions among them. MULTI and EXEC are on a lane only around a transaction, which
    /// is in one piece; only the first one can lack its beginning, which was answered then.
    fn divide(&mut self) {
        let request = |at: usize| {
            let start = if at == 0 { 0 } else { self.slots[at - 1].1 };
            &self.bytes[start..self.slots[at].1]
        };
        let end_of = |from: usize| (from..self.slots.len()).find(|&at| request(at) == EXEC);
        let headless = end_of(0).filter(|&end| (0..end).all(|at| request(at) != MULTI));
        let mut units = Vec::new();
        let mut at = 0;
        while at < self.slots.len() {
            // What is asked of a node behind ASKING is never without it, and never anything else.
            let behind = at + 1 < self.slots.len() && request(at) == ASKING;
            let begins = at + usize::from(behind);
            let last = match headless {
                Some(end) if at == 0 => end,
                Some(_) | None if request(begins) == MULTI => end_of(begins).unwrap_or(begins),
                Some(_) | None => begins,
            };
            let start = if at == 0 { 0 } else { self.slots[at - 1].1 };
            units.push(Unit {
                slots: at..last + 1,
                bytes: start..self.slots[last].1,
                headless: at == 0 && headless.is_some(),
            });
            at = last + 1;
        }
        self.units = units;
    }

    /// The requests of a unit; of a transaction those between MULTI and EXEC.
    pub(super) fn requests<'a>(&'a self, unit: &Unit) -> impl Iterator<Item = &'a [u8]> {
        let bytes = |at: usize| {
            let start = if at == 0 { 0 } else { self.slots[at - 1].1 };
            &self.bytes[start..self.slots[at].1]
        };
        let mut slots = unit.slots.clone();
        if slots.len() > 1 && bytes(slots.start) == ASKING {
            slots.start += 1;
        }
        let inner = if slots.len() > 1 {
            slots.start + 1..slots.end - 1
        } else {
            slots
        };
        inner.map(bytes)
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
