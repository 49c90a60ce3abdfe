//! WAIT of clients: how many replicas have what a client has written, asked for all who wait at once.
//!
//! The batches are those of [`acks`](super::acks), for the same reasons, on a connection of their own. Who waits is owed
//! nothing else, so all its writes are before the offset that the first batch after its request reads; it is answered
//! when so many replicas that could be promoted have acknowledged that offset, or with how many did when its time is up.
//! Over several servers the least of them is the answer, as WAIT does not say where a client wrote.
//!
//! What was lost with a primary is not vouched for by the next one's replicas: a client that was here before its primary
//! moved is told 0 once, and so is one who waits while that happens, unless the new primary has the old one's history
//! as far as it had been read, or the whole of it, because the old one was fenced where the new one begins: a switchover loses
//! nothing, and nobody is told. A batch asks its server to wait 100 ms at most, so that nobody waits for another's patience.

use super::acks::batch;
use super::aside::{Aside, Lineage, Standing, integer, replicas_of};
use super::follow::{HOLD, RETRY_MS};
use super::intake::Taken;
use super::slots::{NONE, Owner, Slot, Wait};
use super::split::{Join, push_decimal};
use super::{Core, How, text};
use crate::command::{Command, Merge, Refusal};
use crate::frame::Request;
use crate::settings::Address;

/// How long a server is asked to wait in one batch.
const STEP_MS: u64 = 100;
/// From a batch whose server did not wait to the next.
const PACE_MS: u64 = 10;

/// Those who wait for the replicas of one server.
#[derive(Debug)]
pub(super) struct Waits {
    /// The connection for batches; [`NONE`] before the first.
    lane: u32,
    waiting: Vec<Waiting>,
    /// Of the next who comes.
    number: u64,
    /// The history that offsets of `waiting` are of.
    lineage: Lineage,
    batch: Option<Batch>,
    next_ms: u64,
    batches: u64,
    /// Clients with a lower id were here when the primary moved.
    moved_id: u64,
}

/// Somebody who waits.
#[derive(Debug, Clone, Copy)]
struct Waiting {
    slot: u32,
    number: u64,
    replicas: i64,
    until_ms: u64,
    /// Everything that its client wrote is before this. None: no batch has told it yet.
    offset: Option<u64>,
}

/// A batch that is under way.
#[derive(Debug)]
struct Batch {
    /// It is about those with a lower number. None: nothing of it was handed over yet.
    below: Option<u64>,
    /// It is given up then.
    until_ms: u64,
    heard: u8,
    /// The primary's offset. None: whom we asked is no primary.
    offset: Option<u64>,
}

impl Waits {
    fn new() -> Self {
        Self {
            lane: NONE,
            waiting: Vec::new(),
            number: 0,
            lineage: Lineage::UNKNOWN,
            batch: None,
            next_ms: 0,
            batches: 0,
            moved_id: 0,
        }
    }

    /// Nobody waits.
    pub(super) fn is_quiet(&self) -> bool {
        self.waiting.is_empty()
    }
}

impl Core {
    /// `WAIT replicas milliseconds`.
    pub(super) fn wait_for_replicas(
        &mut self,
        index: u32,
        command: &Command,
        request: &Request<'_>,
    ) -> Taken {
        let pool = self.desk.clients[index as usize].pool;
        if self.pools[pool as usize].cluster.is_some() {
            self.refused(index, command, Refusal::Cluster);
            return Taken::Yes;
        }
        let number = |at| {
            let text = std::str::from_utf8(request.argument(at).unwrap_or_default());
            text.ok().and_then(|text| text.parse::<i64>().ok())
        };
        let (replicas, patience) = match (number(1), number(2)) {
            (None, _) => {
                self.desk.say(index, text::NOT_INTEGER);
                return Taken::Yes;
            }
            (_, None) => {
                self.desk.say(index, text::TIMEOUT_NOT_INTEGER);
                return Taken::Yes;
            }
            (Some(replicas), Some(patience)) => (replicas, patience),
        };
        let Ok(patience) = u64::try_from(patience) else {
            self.desk.say(index, text::TIMEOUT_NEGATIVE);
            return Taken::Yes;
        };
        if !self.desk.quiet(index) {
            return Taken::Wait;
        }
        let client = &self.desk.clients[index as usize];
        let id = client.id;
        let known_since = id.max(client.cold.as_ref().map_or(0, |cold| cold.waited));
        let until_ms = match patience {
            0 => u64::MAX,
            patience => self.now_ms.saturating_add(patience),
        };
        let servers = self.waits_of(pool).len() as u32;
        let split = match servers {
            1 => NONE,
            _ => self.await_parts(index, Join::All(Merge::Min), servers as u16, &[]),
        };
        let mut lost = false;
        for server in 0..servers {
            let slot = Slot {
                owner: match split {
                    NONE => Owner::Client(index),
                    split => Owner::Part {
                        split,
                        part: server as u16,
                    },
                },
                wait: Wait::Lane,
                next_in_lane: NONE,
                next_of_client: NONE,
                len: 0,
                since: self.now_ms as u32,
            };
            let slot = match split {
                NONE => self.desk.expect(index, slot),
                _ => self.desk.slots.take(slot),
            };
            let waits = &mut self.waits_of(pool)[server as usize];
            if known_since < waits.moved_id {
                lost = true;
                self.desk.answer(slot, b":0\r\n");
                continue;
            }
            let number = waits.number;
            waits.number += 1;
            waits.waiting.push(Waiting {
                slot,
                number,
                replicas,
                until_ms,
                offset: None,
            });
            self.wait_if_due(pool, server);
        }
        if lost {
            // It has been told; what it writes from now on is another matter.
            self.desk.cold(index).waited = self.next_id;
        }
        Taken::Yes
    }

    /// Of each server of a pool, those who wait.
    fn waits_of(&mut self, pool: u32) -> &mut Vec<Waits> {
        let state = &mut self.pools[pool as usize];
        let servers = state.setup.settings.servers.len();
        if state.waits.len() < servers {
            state.waits.resize_with(servers, Waits::new);
        }
        &mut state.waits
    }

    /// Clients with a lower id than this were here when a primary moved.
    pub(super) fn moved_before(&self, pool: u32, server: u32) -> u64 {
        let waits = self.pools[pool as usize].waits.get(server as usize);
        waits.map_or(0, |waits| waits.moved_id)
    }

    fn waits(&mut self, pool: u32, server: u32) -> &mut Waits {
        &mut self.pools[pool as usize].waits[server as usize]
    }

    /// Begins a batch if somebody waits and none is under way.
    pub(super) fn wait_if_due(&mut self, pool: u32, server: u32) {
        let now_ms = self.now_ms;
        let waits = self.waits(pool, server);
        if waits.batch.is_some() || waits.waiting.is_empty() {
            return;
        }
        let soonest = waits.waiting.iter().map(|one| one.until_ms).min();
        let soonest = soonest.unwrap_or(u64::MAX);
        if now_ms < waits.next_ms {
            let due_ms = waits.next_ms.min(soonest);
            self.arm(due_ms);
            return;
        }
        let most = waits.waiting.iter().map(|one| one.replicas).max();
        let patience = soonest.saturating_sub(now_ms).clamp(1, STEP_MS);
        let bytes = batch(waits.batches, (most.unwrap_or(0).max(0), patience));
        if waits.lane == NONE {
            let lane = self.aside_lane((pool, server), Aside::Wait, None);
            self.waits(pool, server).lane = lane;
        }
        let lane = self.waits(pool, server).lane;
        // While it closes, or moves, the primary has nothing to say.
        if self.address(pool, server).is_none() || !self.ask_aside(lane, &bytes) {
            self.arm((now_ms + RETRY_MS).min(soonest));
            return;
        }
        let until_ms = now_ms + HOLD.as_millis() as u64;
        let waits = self.waits(pool, server);
        waits.batches += 1;
        waits.batch = Some(Batch {
            below: None,
            until_ms,
            heard: 0,
            offset: None,
        });
        self.arm(until_ms.min(soonest));
    }

    /// The first bytes of a batch were handed over: whoever waits by now has written before it.
    pub(super) fn wait_sent(&mut self, pool: u32, server: u32) {
        let waits = self.waits(pool, server);
        let number = waits.number;
        if let Some(batch) = &mut waits.batch {
            batch.below.get_or_insert(number);
        }
    }

    /// A reply of a batch.
    pub(super) fn wait_heard(&mut self, pool: u32, server: u32, reply: &[u8]) {
        let waits = self.waits(pool, server);
        let Some(batch) = &mut waits.batch else {
            return;
        };
        batch.heard += 1;
        match batch.heard {
            // How many heard the message says nothing.
            1 => {}
            2 => {
                if let Some(standing) = Standing::read(reply).filter(|standing| standing.primary) {
                    batch.offset = Some(standing.offset);
                    self.wait_stands(pool, server, &standing);
                }
            }
            3 => {
                if integer(reply).is_none() {
                    // It was demoted meanwhile, whatever it is again.
                    batch.offset = None;
                }
            }
            _ => self.wait_over(pool, server, replicas_of(reply)),
        }
    }

    /// The asked server tells its history: whether it is that of those who wait.
    fn wait_stands(&mut self, pool: u32, server: u32, standing: &Standing) {
        let waits = self.waits(pool, server);
        let before = std::mem::replace(&mut waits.lineage, standing.lineage);
        if before == standing.lineage || before == Lineage::UNKNOWN {
            return;
        }
        let kept = |one: &Waiting| match one.offset {
            None => true,
            Some(offset) => before == standing.before && standing.before_offset >= offset,
        };
        let lost: Vec<Waiting> = waits.waiting.extract_if(.., |one| !kept(one)).collect();
        for one in lost {
            self.tell_lost(one.slot);
        }
    }

    /// What this one wrote may be gone; what it writes from now on is another matter.
    fn tell_lost(&mut self, slot: u32) {
        let owner = match self.desk.slots[slot].owner {
            Owner::Part { split, .. } => {
                let slot = self.desk.splits.slot(split);
                slot.map(|slot| self.desk.slots[slot].owner)
            }
            owner => Some(owner),
        };
        if let Some(Owner::Client(client)) = owner {
            self.desk.cold(client).waited = self.next_id;
        }
        self.desk.answer(slot, b":0\r\n");
    }

    /// The last reply of a batch.
    fn wait_over(&mut self, pool: u32, server: u32, replicas: Option<Vec<(Address, u64)>>) {
        let now_ms = self.now_ms;
        let state = &self.pools[pool as usize];
        let known = state.groups.get(server as usize).and_then(Option::as_ref);
        let told = known.map(|known| &known.group.replicas[..]);
        let followed = self.is_group(pool, server);
        let counts = |address: &Address| {
            !followed
                || told.is_some_and(|told| {
                    let mut told = told.iter();
                    told.any(|one| one.promotable && one.address == *address)
                })
        };
        let acknowledged: Vec<u64> = replicas
            .iter()
            .flatten()
            .filter(|(address, _)| counts(address))
            .map(|&(_, offset)| offset)
            .collect();
        let is_primary = replicas.is_some();
        let waits = self.waits(pool, server);
        let Some(Batch { below, offset, .. }) = waits.batch.take() else {
            return;
        };
        waits.next_ms = now_ms + PACE_MS;
        let (Some(below), Some(now_at), true) = (below, offset, is_primary) else {
            // Demoted, or not promoted yet: who is primary is for others to say.
            waits.next_ms = now_ms + RETRY_MS;
            self.wait_due(pool, server);
            return;
        };
        for one in &mut waits.waiting {
            if one.number < below {
                one.offset.get_or_insert(now_at);
            }
        }
        let have = |offset: u64| acknowledged.iter().filter(|&&had| had >= offset).count() as i64;
        let mut answers = Vec::new();
        waits.waiting.retain(|one| {
            let Some(offset) = one.offset else {
                return true;
            };
            let have = have(offset);
            let over = have >= one.replicas || now_ms >= one.until_ms;
            if over {
                answers.push((one.slot, have));
            }
            !over
        });
        for (slot, have) in answers {
            let mut reply = vec![b':'];
            push_decimal(&mut reply, have);
            reply.extend_from_slice(b"\r\n");
            self.desk.answer(slot, &reply);
        }
        self.wait_due(pool, server);
    }

    /// The connection for batches is gone.
    pub(super) fn wait_lost(&mut self, pool: u32, server: u32) {
        let next_ms = self.now_ms + RETRY_MS;
        let waits = self.waits(pool, server);
        waits.batch = None;
        waits.next_ms = next_ms;
        self.arm(next_ms);
    }

    /// The primary is another one. Of those who wait, nobody knows what the last one had of theirs, unless an offset says it.
    pub(super) fn waits_moved(&mut self, pool: u32, server: u32) {
        if self.witness(pool, server).is_none_or(|seen| seen.era <= 1) {
            // It is the first that is heard of: nobody has written to another.
            return;
        }
        let fork = self.fork(pool, server);
        let seen = self.witness(pool, server);
        let whole = seen.zip(fork).is_some_and(|(seen, at)| seen.ended_at(at));
        let (next_id, now_ms) = (self.next_id, self.now_ms);
        let waits = &mut self.waits_of(pool)[server as usize];
        if !whole {
            waits.moved_id = next_id;
        }
        waits.next_ms = now_ms;
        let lane = waits.lane;
        let unknown = |one: &mut Waiting| !whole && one.offset.is_none();
        let lost: Vec<Waiting> = waits.waiting.extract_if(.., unknown).collect();
        for one in lost {
            self.tell_lost(one.slot);
        }
        if lane != NONE {
            self.disconnect(lane);
            self.rest_aside(lane);
            let lane = &mut self.lanes[lane as usize];
            lane.retry_at_ms = now_ms;
            lane.failures = 0;
            self.waits(pool, server).next_ms = now_ms;
        }
        self.wait_if_due(pool, server);
    }

    /// A pool takes the place of another, whose clients it gets: what went with a primary before is still gone.
    pub(super) fn waits_inherited(&mut self, old: u32, new: u32) {
        let names = |pool: &super::PoolState| -> Vec<String> {
            let servers = pool.setup.settings.servers.iter();
            servers.map(|server| server.name.clone()).collect()
        };
        let (before, after) = (&self.pools[old as usize], &self.pools[new as usize]);
        let (names_before, names_after) = (names(before), names(after));
        let moved: Vec<u64> = before.waits.iter().map(|waits| waits.moved_id).collect();
        let waits = self.waits_of(new);
        for (name, waits) in names_after.iter().zip(waits) {
            let place = names_before.iter().position(|other| other == name);
            let moved_id = place.and_then(|place| moved.get(place));
            waits.moved_id = moved_id.copied().unwrap_or(0);
        }
    }

    /// Does what is due of all who wait.
    pub(super) fn waits_due(&mut self) {
        for pool in 0..self.pools.len() as u32 {
            for server in 0..self.pools[pool as usize].waits.len() as u32 {
                self.wait_due(pool, server);
            }
        }
    }

    fn wait_due(&mut self, pool: u32, server: u32) {
        let now_ms = self.now_ms;
        let waits = &self.pools[pool as usize].waits[server as usize];
        if waits.waiting.is_empty() {
            return;
        }
        let asked = waits.batch.is_some();
        let (lane, expired) = (
            waits.lane,
            waits
                .batch
                .as_ref()
                .is_some_and(|batch| now_ms >= batch.until_ms),
        );
        let desk = &self.desk;
        let gone = |slot: u32| match desk.slots[slot].owner {
            Owner::Nobody => true,
            Owner::Part { split, .. } => desk.splits.slot(split).is_none(),
            Owner::Client(_) | Owner::Witness | Owner::Script => false,
        };
        // A batch that ends in a moment says how many it is.
        let late = |one: &Waiting| {
            let grace = if asked { 2 * STEP_MS } else { 0 };
            now_ms >= one.until_ms.saturating_add(grace)
        };
        let over: Vec<Waiting> = waits
            .waiting
            .iter()
            .copied()
            .filter(|one| gone(one.slot) || late(one))
            .collect();
        let waits = self.waits(pool, server);
        waits
            .waiting
            .retain(|one| !over.iter().any(|other| other.number == one.number));
        for one in over {
            self.desk.answer(one.slot, b":0\r\n");
        }
        if expired {
            // It does not answer at all. Whatever it says later is about nothing.
            self.aside_down(lane, How::TimedOut);
        }
        let waits = self.waits(pool, server);
        let soonest = waits.waiting.iter().map(|one| one.until_ms).min();
        let until_ms = waits.batch.as_ref().map(|batch| batch.until_ms);
        if let Some(due_ms) = soonest.into_iter().chain(until_ms).min() {
            // Its grace is not known here; a look too early costs nothing.
            self.arm(due_ms.max(now_ms + STEP_MS / 2));
        }
        self.wait_if_due(pool, server);
    }
}
