//! `ack = k`: the reply to a write is passed on only when k replicas that could be promoted have the write.
//!
//! ```text
//!   lane ==reply==> withheld queue --batch says that replicas have it--> desk
//!                        |                                                ^
//!                        +--failed, or too late: nobody knows-------------+
//! ```
//! A batch is `PUBLISH, INFO replication, WAIT k, ROLE` on a connection of its own, one at a time for each server, for all
//! replies that were read before its first byte left. PUBLISH, because newer servers answer WAIT at once, and untruly, on
//! a connection that has written nothing. INFO, because its offset is past everything that the batch is about, and it
//! names the history. WAIT has the replicas asked and awaits them. ROLE says that nothing was demoted meanwhile, and which
//! replicas have acknowledged what: only those that the snapshot calls promotable count.
//!
//! A reply belongs to the history that its own connection was set up with, and a batch speaks for one history: a
//! server that was restarted, or demoted and promoted again, cannot vouch for what it has forgotten. After a failover
//! what still waits is passed on if the new primary names that history as its former one and has it up to an offset
//! that is past the write; of everything else nobody knows.
//!
//! A batch that no replica answers in time is asked once more before it has failed: the time may have gone by while the whole
//! machine stood still, or replicas did that nobody had asked. When it has failed no further write is sent (NOREPLICAS) until
//! one succeeds; batches go on, at a pace, and wait at the server, so that a replica that is back is noticed at once. With
//! `when_alone = "continue"` writes are passed on meanwhile for as long as the snapshot says that no other server is promoted
//! without them; the clock that this ends by is read after each reply, as for leases.

use super::aside::{ASK_STANDING, Aside, Lineage, Standing, integer, replicas_of};
use super::desk::Desk;
use super::follow::{HOLD, RETRY_MS};
use super::lane::State;
use super::slots::NONE;
use super::slow;
use super::split::push_decimal;
use super::withheld::Queue;
use super::{Core, How, text};
use crate::settings::Address;
use crate::statistics::PoolCounters;

/// How long replicas may take to acknowledge.
const PATIENCE_MS: u64 = 1000;
/// And once more, before they count as gone: where everything stood still the first time went by unused.
const ONCE_MORE_MS: u64 = 200;
/// From the beginning of a failed batch to the next.
const PROBE_MS: u64 = 100;
/// From a batch that was answered by the wrong replicas to the next.
const AGAIN_MS: u64 = 2;
/// What one server owes to acknowledgements.
#[derive(Debug)]
pub(super) struct Acks {
    /// The connection for batches; [`NONE`] before the first.
    lane: u32,
    queue: Queue,
    /// The history that everything in `queue` is part of.
    lineage: Lineage,
    /// The first so many of `queue` were executed at or before this offset of it.
    known: (usize, u64),
    batch: Option<Batch>,
    /// The last batch failed: writes are refused.
    alone: bool,
    /// The last batch had no answer of its replicas, and is asked once more before it has failed.
    once_more: bool,
    /// No batch begins before this.
    next_ms: u64,
    /// Batches so far.
    number: u64,
    /// Some lane has replies of another history than `lineage`.
    left_behind: bool,
}

/// A batch that is under way.
#[derive(Debug)]
struct Batch {
    /// So many of the queue are what it is about. None: nothing of it was handed over yet.
    covered: Option<usize>,
    /// When it began.
    since_ms: u64,
    /// It is given up then.
    until_ms: u64,
    /// Replies that came.
    heard: u8,
    /// A primary's offset that is past everything it is about. None: whom we asked is no primary.
    offset: Option<u64>,
    /// What WAIT said.
    waited: i64,
}

impl Acks {
    pub(super) fn new() -> Self {
        Self {
            lane: NONE,
            queue: Queue::default(),
            lineage: Lineage::UNKNOWN,
            known: (0, 0),
            batch: None,
            alone: false,
            once_more: false,
            next_ms: 0,
            number: 0,
            left_behind: false,
        }
    }

    /// Nobody waits for an acknowledgement.
    pub(super) fn is_quiet(&self) -> bool {
        self.queue.entries.is_empty()
    }

    /// Whether replicas acknowledge; `alone` counts the servers of the pool whose replicas do not.
    fn note_alone(&mut self, now: bool, alone: &mut u32) {
        match (self.alone, now) {
            (false, true) => *alone += 1,
            (true, false) => *alone -= 1,
            (false, false) | (true, true) => {}
        }
        self.alone = now;
    }

    /// The oldest `count` leave the queue: with their reply, or with the news that nobody knows.
    fn settle(&mut self, count: usize, good: bool, to: (&PoolCounters, u32), desk: &mut Desk) {
        let (counters, server) = to;
        for _ in 0..count {
            let Some((slot, reply)) = self.queue.pop() else {
                break;
            };
            slow::measure_acknowledged(&counters.servers[server as usize], desk, slot);
            counters.unknown.add(u64::from(!good));
            let reply = if good {
                &self.queue.bytes[reply]
            } else {
                text::UNACKED
            };
            desk.note_write(slot);
            desk.answer(slot, reply);
        }
        self.queue.tidy();
        self.known.0 = self.known.0.saturating_sub(count);
        if let Some(Batch {
            covered: Some(covered),
            ..
        }) = &mut self.batch
        {
            *covered = covered.saturating_sub(count);
        }
    }
}

impl Core {
    fn acks(&mut self, pool: u32, server: u32) -> &mut Acks {
        &mut self.pools[pool as usize].acks[server as usize]
    }

    /// Replies of a lane that have to wait join the queue of its server.
    pub(super) fn take_withheld(&mut self, index: u32) {
        let lane = &mut self.lanes[index as usize];
        let (pool, server, lineage) = (lane.pool, lane.server, lane.lineage);
        let mut withheld = std::mem::take(&mut lane.withheld);
        let acks = &mut self.pools[pool as usize].acks[server as usize];
        if acks.is_quiet() {
            acks.lineage = lineage;
            acks.known = (0, 0);
        }
        let same = acks.lineage == lineage && lineage != Lineage::UNKNOWN;
        if same {
            let mut at = 0;
            for (slot, len) in withheld.entries.drain(..) {
                acks.queue
                    .push(slot, &withheld.bytes[at..at + len as usize]);
                at += len as usize;
            }
            withheld.clear();
        }
        // Of another history: they stay where they are until a batch has told which one is the server's now.
        acks.left_behind |= !same;
        self.lanes[index as usize].withheld = withheld;
        self.release_alone(pool, server);
        self.batch_if_due(pool, server);
    }

    /// Replies that stayed with their lanes, now that the server has told its history: they are of that one, or nobody
    /// can vouch for them, nor for what comes next on the same connection.
    fn fetch_left(&mut self, pool: u32, server: u32) {
        if !std::mem::take(&mut self.acks(pool, server).left_behind) {
            return;
        }
        let now = self.acks(pool, server).lineage;
        for index in 0..self.lanes.len() as u32 {
            let lane = &mut self.lanes[index as usize];
            if lane.pool != pool || lane.server != server || lane.withheld.is_empty() {
                continue;
            }
            if lane.lineage == now && now != Lineage::UNKNOWN {
                self.take_withheld(index);
                continue;
            }
            self.give_up_left(index);
            if self.lanes[index as usize].state == State::Ready {
                self.end_lane(index, How::Reset, text::UNKNOWN);
            }
        }
    }

    /// Tells those whose replies stayed with a lane that nobody knows.
    pub(super) fn give_up_left(&mut self, index: u32) {
        let mut withheld = std::mem::take(&mut self.lanes[index as usize].withheld);
        for (slot, _) in withheld.entries.drain(..) {
            self.desk.note_write(slot);
            self.desk.answer(slot, text::UNACKED);
        }
    }

    /// Nobody waits there longer than elsewhere.
    fn expire_left(&mut self, pool: u32, server: u32) {
        let (now_ms, hold_ms) = (self.now_ms, HOLD.as_millis() as u64);
        for index in 0..self.lanes.len() as u32 {
            let lane = &self.lanes[index as usize];
            let Some(&(slot, _)) = lane.withheld.entries.first() else {
                continue;
            };
            let since = self.desk.slots[slot].since;
            let waited = u64::from((now_ms as u32).wrapping_sub(since));
            if lane.pool == pool && lane.server == server && waited >= hold_ms {
                self.give_up_left(index);
            }
        }
        self.arm(now_ms + RETRY_MS);
    }

    /// Begins a batch if there is a reason, and none is under way.
    pub(super) fn batch_if_due(&mut self, pool: u32, server: u32) {
        let Some(ack) = self.pools[pool as usize].setup.settings.replicas.ack else {
            return;
        };
        let now_ms = self.now_ms;
        let acks = self.acks(pool, server);
        if acks.batch.is_some() || (acks.is_quiet() && !acks.alone && !acks.left_behind) {
            return;
        }
        if now_ms < acks.next_ms {
            let next_ms = acks.next_ms;
            self.arm(next_ms);
            return;
        }
        if acks.lane == NONE {
            let lane = self.aside_lane((pool, server), Aside::Ack, None);
            self.acks(pool, server).lane = lane;
        }
        let acks = self.acks(pool, server);
        let lane = acks.lane;
        let patience_ms = match acks.once_more {
            true => ONCE_MORE_MS,
            false => PATIENCE_MS,
        };
        let bytes = batch(acks.number, (i64::from(ack.replicas), patience_ms));
        if !self.ask_aside(lane, &bytes) {
            self.arm(now_ms + RETRY_MS);
            return;
        }
        let acks = self.acks(pool, server);
        acks.number += 1;
        acks.batch = Some(Batch {
            covered: None,
            since_ms: now_ms,
            until_ms: now_ms + HOLD.as_millis() as u64,
            heard: 0,
            offset: None,
            waited: 0,
        });
        self.arm(now_ms + HOLD.as_millis() as u64);
    }

    /// The first bytes of a batch were handed over: what was read up to now is what it is about.
    pub(super) fn batch_sent(&mut self, pool: u32, server: u32) {
        let acks = self.acks(pool, server);
        let all = acks.queue.entries.len();
        if let Some(batch) = &mut acks.batch {
            batch.covered.get_or_insert(all);
        }
    }

    /// A reply of a batch.
    pub(super) fn batch_heard(&mut self, pool: u32, server: u32, reply: &[u8]) {
        let acks = self.acks(pool, server);
        let Some(batch) = &mut acks.batch else { return };
        batch.heard += 1;
        match batch.heard {
            // How many heard the message says nothing.
            1 => {}
            2 => self.standing_heard(pool, server, Standing::read(reply)),
            3 => match integer(reply) {
                Some(waited) => batch.waited = waited,
                // It was demoted meanwhile, whatever it is again.
                None => batch.offset = None,
            },
            _ => self.batch_over(pool, server, replicas_of(reply)),
        }
    }

    /// Where the asked server stands: whether it is the one whose replies wait, or has what that one had.
    fn standing_heard(&mut self, pool: u32, server: u32, standing: Option<Standing>) {
        let Some(standing) = standing.filter(|standing| standing.primary) else {
            return;
        };
        let state = &mut self.pools[pool as usize];
        let counters = (&*state.setup.counters, server);
        let acks = &mut state.acks[server as usize];
        if acks.lineage != standing.lineage {
            // Everything that waits is of another history.
            let (count, offset) = acks.known;
            let has = acks.lineage == standing.before
                && acks.lineage != Lineage::UNKNOWN
                && standing.before_offset >= offset;
            let all = acks.queue.entries.len();
            acks.settle(count, has, counters, &mut self.desk);
            acks.settle(all - count, false, counters, &mut self.desk);
            acks.lineage = standing.lineage;
            acks.left_behind = true;
            self.cut_others(pool, server, standing.lineage);
        }
        let acks = self.acks(pool, server);
        if let Some(batch) = &mut acks.batch {
            batch.offset = Some(standing.offset);
            acks.known = (batch.covered.unwrap_or(0), standing.offset);
        }
        self.fetch_left(pool, server);
    }

    /// Connections that were set up in another history: their replies could not be vouched for.
    fn cut_others(&mut self, pool: u32, server: u32, lineage: Lineage) {
        for index in 0..self.lanes.len() as u32 {
            let lane = &self.lanes[index as usize];
            let concerned = lane.pool == pool && lane.server == server && lane.is_to_primary();
            if concerned
                && lane.lineage != lineage
                && lane.state == State::Ready
                && lane.withheld.is_empty()
            {
                self.end_lane(index, How::Reset, text::UNKNOWN);
            }
        }
    }

    /// The last reply of a batch.
    fn batch_over(&mut self, pool: u32, server: u32, replicas: Option<Vec<(Address, u64)>>) {
        let now_ms = self.now_ms;
        let state = &mut self.pools[pool as usize];
        let Some(ack) = state.setup.settings.replicas.ack else {
            return;
        };
        let may_be_alone = self.may_pass_alone(pool, server);
        let state = &mut self.pools[pool as usize];
        let counters = (&*state.setup.counters, server);
        let acks = &mut state.acks[server as usize];
        let Some(Batch {
            covered,
            offset,
            waited,
            since_ms,
            ..
        }) = acks.batch
        else {
            return;
        };
        let covered = covered.unwrap_or(0);
        acks.next_ms = now_ms;
        match (offset, replicas) {
            (Some(offset), Some(replicas)) => {
                let group = state.groups.get(server as usize);
                let promotable = group.and_then(Option::as_ref).map_or(0, |known| {
                    let has = |at: &Address| {
                        let had = replicas.iter().find(|(address, _)| address == at);
                        had.is_some_and(|(_, had)| *had >= offset)
                    };
                    let counts =
                        |one: &&crate::topology::Replica| one.promotable && has(&one.address);
                    known.group.replicas.iter().filter(counts).count()
                });
                let oldest = acks.queue.entries.front();
                let waiting_ms = oldest.map_or(PATIENCE_MS, |&(slot, _)| {
                    u64::from((now_ms as u32).wrapping_sub(self.desk.slots[slot].since))
                });
                if promotable >= ack.replicas as usize {
                    acks.settle(covered, true, counters, &mut self.desk);
                    acks.note_alone(false, &mut state.alone);
                    acks.once_more = false;
                } else if waited >= i64::from(ack.replicas) && waiting_ms < PATIENCE_MS {
                    // Others were faster than those that count.
                    acks.next_ms = now_ms + AGAIN_MS;
                } else if waited < i64::from(ack.replicas) && !acks.alone && !acks.once_more {
                    acks.once_more = true;
                } else {
                    // Where it may go on alone, nothing is lost by it.
                    acks.settle(covered, may_be_alone, counters, &mut self.desk);
                    acks.note_alone(true, &mut state.alone);
                    acks.once_more = false;
                    // It has waited for them itself: as a rule the next one waits at once, to hear of them as soon as they are back.
                    acks.next_ms = now_ms.max(since_ms + PROBE_MS);
                }
            }
            // Demoted, or not promoted yet: who is primary is for others to say.
            (None, _) | (_, None) => acks.next_ms = now_ms + RETRY_MS,
        }
        acks.batch = None;
        self.release_alone(pool, server);
        if self.address(pool, server).is_none() {
            // It may be closing, and waiting for this.
            self.note_quiet(pool, server);
        }
        self.batch_if_due(pool, server);
    }

    /// Whether what waits may be passed on although no replica has it: it is of the history that this was promised for.
    fn may_pass_alone(&self, pool: u32, server: u32) -> bool {
        let state = &self.pools[pool as usize];
        let acks = state.acks.get(server as usize);
        let group = state.groups.get(server as usize).and_then(Option::as_ref);
        let promised = group.and_then(|known| known.group.alone.as_ref());
        acks.zip(promised)
            .is_some_and(|(acks, promised)| acks.lineage.is(&promised.history))
            && self.may_be_alone(pool, server)
    }

    /// Whether writes may be acknowledged that no replica has.
    fn may_be_alone(&self, pool: u32, server: u32) -> bool {
        let state = &self.pools[pool as usize];
        let wanted = state.setup.settings.replicas.ack;
        let group = state.groups.get(server as usize).and_then(Option::as_ref);
        wanted.is_some_and(|ack| ack.alone)
            && self.address(pool, server).is_some()
            && group.is_some_and(|known| {
                // The clock was read after the last reply was.
                let promised = known.group.alone.as_ref();
                promised.is_some_and(|promised| self.watch.boot <= promised.until)
            })
    }

    /// What waits for replicas that are gone is passed on, where that is safe.
    pub(super) fn release_alone(&mut self, pool: u32, server: u32) {
        let alone = |acks: &Acks| acks.alone && !acks.is_quiet();
        let acks = self.pools[pool as usize].acks.get(server as usize);
        if !acks.is_some_and(alone) || !self.may_pass_alone(pool, server) {
            return;
        }
        let state = &mut self.pools[pool as usize];
        let counters = (&*state.setup.counters, server);
        let acks = &mut state.acks[server as usize];
        let all = acks.queue.entries.len();
        acks.settle(all, true, counters, &mut self.desk);
    }

    /// The connection for batches is gone.
    pub(super) fn batch_lost(&mut self, pool: u32, server: u32) {
        let next_ms = self.now_ms + RETRY_MS;
        let acks = self.acks(pool, server);
        acks.batch = None;
        acks.once_more = false;
        acks.next_ms = next_ms;
        self.arm(next_ms);
    }

    /// The primary is another one: it is asked at once whether it has what waits.
    pub(super) fn acks_moved(&mut self, pool: u32, server: u32) {
        self.waits_moved(pool, server);
        let Some(acks) = self.pools[pool as usize].acks.get(server as usize) else {
            return;
        };
        let lane = acks.lane;
        if lane != NONE {
            self.disconnect(lane);
            self.rest_aside(lane);
            let now_ms = self.now_ms;
            let lane = &mut self.lanes[lane as usize];
            lane.retry_at_ms = now_ms;
            lane.failures = 0;
            self.acks(pool, server).next_ms = now_ms;
        }
        self.batch_if_due(pool, server);
    }

    /// Does what is due of all acknowledgements.
    pub(super) fn acks_due(&mut self) {
        for pool in 0..self.pools.len() as u32 {
            for server in 0..self.pools[pool as usize].acks.len() as u32 {
                self.ack_due(pool, server);
            }
        }
    }

    fn ack_due(&mut self, pool: u32, server: u32) {
        let now_ms = self.now_ms;
        let hold_ms = HOLD.as_millis() as u64;
        let state = &mut self.pools[pool as usize];
        let counters = (&*state.setup.counters, server);
        let acks = &mut state.acks[server as usize];
        while let Some(&(slot, _)) = acks.queue.entries.front() {
            let since = self.desk.slots[slot].since;
            let waited = u64::from((now_ms as u32).wrapping_sub(since));
            if waited < hold_ms {
                self.due_ms = self.due_ms.min(now_ms + hold_ms - waited);
                break;
            }
            acks.settle(1, false, counters, &mut self.desk);
            acks.note_alone(true, &mut state.alone);
        }
        if acks.left_behind {
            self.expire_left(pool, server);
        }
        let acks = &mut self.pools[pool as usize].acks[server as usize];
        let Some(batch) = &acks.batch else {
            self.batch_if_due(pool, server);
            return;
        };
        let (until_ms, lane) = (batch.until_ms, acks.lane);
        if now_ms >= until_ms {
            // It does not answer at all. Whatever it says later is about nothing.
            self.aside_down(lane, How::TimedOut);
        } else {
            self.arm(until_ms);
        }
    }

    /// Whether a write to this server would not be acknowledged.
    pub(super) fn is_alone(&self, pool: u32, server: u32) -> bool {
        let acks = &self.pools[pool as usize].acks;
        acks.get(server as usize).is_some_and(|acks| acks.alone) && !self.may_be_alone(pool, server)
    }
}

/// The requests of a batch.
pub(super) fn batch(number: u64, (replicas, patience_ms): (i64, u64)) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(192);
    let mut digits = Vec::new();
    push_decimal(&mut digits, number as i64);
    tandem_resp::encode_command(&[b"PUBLISH", &b"tandem:ack"[..], &digits], &mut bytes);
    bytes.extend_from_slice(ASK_STANDING);
    let (mut count, mut patience) = (Vec::new(), Vec::new());
    push_decimal(&mut count, replicas);
    push_decimal(&mut patience, patience_ms as i64);
    tandem_resp::encode_command(&[&b"WAIT"[..], &count, &patience], &mut bytes);
    tandem_resp::encode_command(&[b"ROLE"], &mut bytes);
    bytes
}
