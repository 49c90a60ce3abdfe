//! One shared connection to a server: what it has to send, who waits for its replies, and where its life is.
//!
//! ```text
//!  Closed --first request--> Connecting --connected--> SettingUp --every reply is OK--> Ready
//!     ^                          |                         |                              |
//!     +--------------------------+-------------------------+------------------------------+  closed, timed out
//! ```
//! Requests may wait in the ring from the first moment, but none is sent before every set-up reply was read: a SELECT
//! that fails would otherwise put all of them into database 0.

use std::collections::{BTreeSet, VecDeque};
use std::sync::Arc;

use super::aside::{Aside, Lineage};
use super::cluster::Block;
use super::doubt::Doubt;
use super::early::Early;
use super::ears::Ear;
use super::identity::Claimant;
use super::moving::Away;
use super::peer::{How, Peer, Side};
use super::recall::Recalled;
use super::ring::Ring;
use super::slots::{NONE, Slots};
use super::upload::Bulk;
use super::withheld::Withheld;
use super::witness::Mark;
use crate::frame::Scanner;
use crate::settings::{Address, Distribution, Pool, Replicas};
use crate::statistics::ServerCounters;

/// Where a lane's life is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum State {
    /// No connection, and nobody needs one.
    Closed,
    /// The shell is connecting.
    Connecting {
        /// Given up then, in milliseconds of the core.
        until_ms: u64,
    },
    /// So many set-up replies are missing.
    SettingUp {
        /// Replies.
        left: u8,
        /// Given up then, in milliseconds of the core.
        until_ms: u64,
    },
    /// Carries requests.
    Ready,
}

/// One shared connection.
#[derive(Debug)]
pub(super) struct Lane {
    pub(super) pool: u32,
    pub(super) server: u32,
    /// Which identity it is for; lanes of the two protocols are never mixed, as replies are not converted.
    pub(super) bank: u32,
    /// Of the connection: grows with each.
    pub(super) generation: u32,
    pub(super) state: State,
    pub(super) ring: Ring,
    /// Bytes that it may hold: [`RING_BOUND`], or nothing while a client keeps it from going on.
    pub(super) bound: usize,
    /// Oldest request that was not answered.
    pub(super) first: u32,
    /// Youngest.
    pub(super) last: u32,
    /// How many.
    pub(super) queued: u32,
    pub(super) scanner: Scanner,
    /// The start of a reply that is not whole, unless it is passed on in pieces.
    pub(super) input: Vec<u8>,
    /// The reply at hand is passed on in pieces; its client is the owner of `first`.
    pub(super) streaming: bool,
    /// Nothing is read because this client does not take what it asked for.
    pub(super) stalled_on: Option<Peer>,
    /// A large reply at its head may not be passed on yet.
    pub(super) early: Early,
    /// Made for one client at a time.
    pub(super) pinned: bool,
    /// Who has it for itself; none: it is shared, or pinned and free.
    pub(super) owner: Option<Peer>,
    /// Carries a large request for its owner.
    pub(super) bulk: Bulk,
    /// Its owner has it for one question only, and may have another one.
    pub(super) lent: bool,
    /// Brings messages to its owner, beside or instead of replies.
    pub(super) messages: bool,
    /// Counted as a subscriber's.
    pub(super) listens: bool,
    /// Listens for a client whose own connection is to another server.
    pub(super) ear: Option<Box<Ear>>,
    /// Of a client's own connection for messages: those of its ears.
    pub(super) ears: Vec<u32>,
    /// It brought messages, has ended, and is to be made again at the next primary.
    pub(super) away: Option<Away>,
    /// Confirmations that are not its owner's but of its subscriptions made again.
    pub(super) renewing: usize,
    /// A WATCH was asked on it.
    pub(super) watched: bool,
    /// A connection on which a WATCH was asked has ended, and what waits was to be sent on it.
    pub(super) unwatched: bool,
    /// A request on it may block so much longer, in milliseconds; `u64::MAX`: for ever.
    pub(super) extra_ms: u64,
    /// Its server is a group, whose primary may move.
    pub(super) followed: bool,
    /// Not to be sent on now, but for so many bytes of a request that is half out.
    pub(super) held: Option<usize>,
    /// Not to be read from: whether its server is still the one to ask is being found out.
    pub(super) mute: bool,
    /// Requests that the server has sent back unexecuted.
    pub(super) recalled: Vec<Recalled>,
    /// Its server is a shard of a cluster.
    pub(super) clustered: bool,
    /// A request that a node of a cluster has just sent back, and whose way is to be found.
    pub(super) sent_back: Option<Recalled>,
    /// Transactions that were sent to a node of a cluster, and may have to be sent again.
    pub(super) blocks: VecDeque<Block>,
    /// A node of a cluster has sent a subscriber on, with this word.
    pub(super) sent_on: Vec<u8>,
    /// Its pool wants something of replicas: its replies are looked at.
    pub(super) particular: bool,
    /// Replies to writes wait until replicas have them.
    pub(super) acked: bool,
    /// A connection of the proxy's own, and what it is for.
    pub(super) aside: Option<Aside>,
    /// Not to the primary of its group, but to this replica.
    pub(super) at: Option<Address>,
    /// The history that its server told when it was set up; only asked where acknowledgements need it.
    pub(super) lineage: Lineage,
    /// Replies that wait to be acknowledged and are not in the queue of their server yet.
    pub(super) withheld: Withheld,
    /// Of a connection of the proxy's own: replies that nobody has looked at.
    pub(super) heard: Vec<u8>,
    /// Bytes of requests handed over, on all connections that it had.
    pub(super) handed: u64,
    /// When to ask the server where in its history it is, in milliseconds of the core; `u64::MAX`: not at all.
    pub(super) ask_at_ms: u64,
    /// How far `handed` was when each of the latest answers to that was read.
    pub(super) marks: VecDeque<Mark>,
    /// Writes in the ring that may have been executed, in its order. Nothing is sent while there are any.
    pub(super) doubts: VecDeque<Doubt>,
    /// The primary, by number, that its connection goes to or last went to.
    pub(super) era: u32,
    /// Scripts that were loaded over its connection.
    pub(super) loaded: BTreeSet<super::scripts::Name>,
    /// Belongs to a pool that was replaced: closed as soon as nobody waits for it.
    pub(super) retired: bool,
    /// Something was asked since the last look for lanes that idle.
    pub(super) used: bool,
    pub(super) dirty: bool,
    pub(super) next_dirty: u32,
    /// Clients whose next request did not fit.
    pub(super) waiters: Vec<Peer>,
    /// Clients who wait for the set-up, to see whether it is let in.
    pub(super) claimants: Vec<Claimant>,
    /// Connections that failed since the last good reply.
    pub(super) failures: u32,
    /// No attempt before this, in milliseconds of the core.
    pub(super) retry_at_ms: u64,
    /// Why the last connection ended.
    pub(super) ended: How,
    /// AUTH, SELECT, HELLO.
    pub(super) setup: Vec<u8>,
    /// The user in it is a client's choice, who is told what the server says to that.
    pub(super) theirs: bool,
    pub(super) setup_sent: usize,
    pub(super) counters: Arc<ServerCounters>,
    /// What this lane has put into the gauges.
    pub(super) gauged: [u64; 4],
}

/// Bytes that a ring may hold before clients have to wait; a single larger request may fill an empty ring.
pub(super) const RING_BOUND: usize = 1024 * 1024;

impl Lane {
    pub(super) fn new(pool: u32, server: u32, bank: u32, counters: Arc<ServerCounters>) -> Self {
        Self {
            pool,
            server,
            bank,
            generation: 0,
            state: State::Closed,
            ring: Ring::default(),
            bound: RING_BOUND,
            first: NONE,
            last: NONE,
            queued: 0,
            scanner: Scanner::new(),
            input: Vec::new(),
            streaming: false,
            stalled_on: None,
            early: Early::No,
            pinned: false,
            owner: None,
            bulk: Bulk::No,
            lent: false,
            messages: false,
            listens: false,
            ear: None,
            ears: Vec::new(),
            away: None,
            renewing: 0,
            watched: false,
            unwatched: false,
            extra_ms: 0,
            followed: false,
            held: None,
            mute: false,
            recalled: Vec::new(),
            clustered: false,
            sent_back: None,
            blocks: VecDeque::new(),
            sent_on: Vec::new(),
            particular: false,
            acked: false,
            aside: None,
            at: None,
            lineage: Lineage::UNKNOWN,
            withheld: Withheld::default(),
            heard: Vec::new(),
            handed: 0,
            ask_at_ms: u64::MAX,
            marks: VecDeque::new(),
            doubts: VecDeque::new(),
            era: 0,
            loaded: BTreeSet::new(),
            retired: false,
            used: false,
            dirty: false,
            next_dirty: NONE,
            waiters: Vec::new(),
            claimants: Vec::new(),
            failures: 0,
            retry_at_ms: 0,
            ended: How::Eof,
            setup: Vec::new(),
            theirs: false,
            setup_sent: 0,
            counters,
            gauged: [0; 4],
        }
    }

    /// As its pool wants it.
    pub(super) fn wanted_by(self, pool: &Pool) -> Self {
        Self {
            particular: pool.replicas != Replicas::default(),
            acked: pool.replicas.ack.is_some(),
            clustered: pool.distribution == Distribution::Slots,
            ..self
        }
    }

    /// It carries requests of clients to the primary of its group, or its one server.
    pub(super) fn is_to_primary(&self) -> bool {
        self.aside.is_none() && self.at.is_none()
    }

    pub(super) fn peer(&self, index: u32) -> Peer {
        Peer::new(Side::Lane, index, self.generation)
    }

    /// Whether somebody waits for its connection, or for what was asked on it.
    pub(super) fn is_wanted(&self) -> bool {
        self.first != NONE || !self.recalled.is_empty() || !self.claimants.is_empty()
    }

    /// Whether it may be closed without anybody's notice.
    pub(super) fn is_idle(&self) -> bool {
        !self.is_wanted() && self.waiters.is_empty() && self.withheld.is_empty()
    }

    /// Whether what is asked has to wait for another primary, or for this one to answer again.
    pub(super) fn holds(&self) -> bool {
        let broken = self.followed && self.state != State::Ready && self.failures > 0;
        self.held.is_some() || broken || !self.doubts.is_empty()
    }

    /// Whether so many bytes more may enter.
    #[inline(always)]
    pub(super) fn has_room(&self, bytes: usize) -> bool {
        self.ring.len() + bytes <= self.bound || (self.ring.len() == 0 && self.bound > 0)
    }

    /// Puts a slot at the end of the queue; its bytes are in the ring.
    #[inline(always)]
    pub(super) fn enqueue(&mut self, slot: u32, slots: &mut Slots) {
        if self.last == NONE {
            self.first = slot;
        } else {
            slots[self.last].next_in_lane = slot;
        }
        self.last = slot;
        self.queued += 1;
    }

    /// Puts a slot before all others.
    pub(super) fn enqueue_first(&mut self, slot: u32) {
        self.first = slot;
        if self.last == NONE {
            self.last = slot;
        }
        self.queued += 1;
    }

    /// Whether nothing is read from it because a large reply's turn has not come.
    pub(super) fn waits_for_turn(&self) -> bool {
        matches!(self.early, Early::Waits(_))
    }

    /// Takes the oldest slot out, and its bytes out of the ring.
    #[inline(always)]
    pub(super) fn dequeue(&mut self, slots: &Slots) -> u32 {
        let slot = self.first;
        let place = &slots[slot];
        self.first = place.next_in_lane;
        if self.first == NONE {
            self.last = NONE;
        }
        self.queued -= 1;
        self.ring.free(place.len as usize);
        slot
    }

    /// The kernel took so many bytes of requests.
    #[inline]
    pub(super) fn sent(&mut self, bytes: usize) {
        self.ring.sent(bytes);
        self.handed += bytes as u64;
        if let Some(most) = &mut self.held {
            *most -= bytes;
        }
        if self.messages || self.bulk != Bulk::No {
            // What is sent here has no reply of its own that would free it.
            self.ring.free(bytes);
        }
    }

    /// What the socket should get next.
    #[inline]
    pub(super) fn pending(&self) -> [&[u8]; 2] {
        match self.state {
            State::Ready => match self.held {
                None => self.ring.pending(),
                Some(most) => {
                    let [first, second] = self.ring.pending();
                    let in_first = first.len().min(most);
                    let in_second = second.len().min(most - in_first);
                    [&first[..in_first], &second[..in_second]]
                }
            },
            State::SettingUp { .. } => [&self.setup[self.setup_sent..], &[]],
            State::Closed | State::Connecting { .. } => [&[], &[]],
        }
    }

    /// How much is missing of a request of which some bytes were handed over.
    pub(super) fn half_sent(&self, slots: &Slots) -> usize {
        let mut handed = self.ring.handed();
        let mut slot = self.first;
        while slot != NONE && handed > 0 {
            let len = slots[slot].len as usize;
            if len > handed {
                return len - handed;
            }
            handed -= len;
            slot = slots[slot].next_in_lane;
        }
        0
    }

    /// Requests that are not wholly handed over, counted only when there are any.
    fn waiting(&self, slots: &Slots) -> u64 {
        if self.ring.unsent() == 0 {
            return 0;
        }
        let mut handed = self.ring.len() - self.ring.unsent();
        let mut whole = 0;
        let mut slot = self.first;
        while slot != NONE && slots[slot].len as usize <= handed {
            handed -= slots[slot].len as usize;
            whole += 1;
            slot = slots[slot].next_in_lane;
        }
        u64::from(self.queued) - whole
    }

    /// Brings the gauges to where the queue is, once per turn.
    pub(super) fn gauge(&mut self, slots: &Slots) {
        let waiting = self.waiting(slots);
        let unsent = self.ring.unsent() as u64;
        let now = [
            waiting,
            unsent,
            u64::from(self.queued) - waiting,
            self.ring.len() as u64 - unsent,
        ];
        let counters = &self.counters;
        let gauges = [
            &counters.in_queue,
            &counters.in_queue_bytes,
            &counters.out_queue,
            &counters.out_queue_bytes,
        ];
        for ((gauge, now), before) in gauges.into_iter().zip(now).zip(self.gauged) {
            if now != before {
                gauge.add(now.wrapping_sub(before));
            }
        }
        self.gauged = now;
    }
}
