//! Whose reply is whose: the pure core of the data plane, without sockets and without a clock.
//!
//! ```text
//!   client --bytes--> intake --whole requests--> route --> lane.ring ==> socket of the server
//!                       |                          |                              |
//!                       | local answer             | split in parts               v
//!   client <==bytes-- desk.output <--in client's order-- desk <--in lane's order-- answers
//! ```
//! The shell owns sockets and time and calls, in this order in each turn:
//! 1. for each readable peer: [`Core::recv_space`], read into it, [`Core::received`] (or [`Core::closed`]);
//! 2. [`Core::next_dirty`] until it is used up, servers before clients; for each [`Core::pending`], write,
//!    [`Core::sent`];
//! 3. [`Core::next_order`] until it is used up: connections to open and close, rare;
//! 4. waits until something is readable or [`Core::deadline`], then [`Core::tick`].
//!
//! `now` must not go back between calls. Nothing here allocates, hashes or reads a clock for an ordinary request: a
//! request is copied once, into the ring of its lane, a reply once, into the output of its client.
//!
//! Bounds: [`desk::OUTSTANDING`] requests and [`desk::UNTAKEN`] bytes of replies per client, then it is not read from;
//! [`lane::RING_BOUND`] bytes per lane, then clients wait; a client that does not take a large reply stops its lane
//! for at most `client_stall`, then it is cut off; requests over 64 KiB are not kept ([`upload`]), and of a reply that comes
//! before its turn 1 MiB is ([`early`]).

mod accounts;
mod acks;
mod answers;
mod aside;
mod bank;
mod client;
mod clients;
mod cluster;
mod desk;
mod doubt;
mod early;
mod ears;
mod files;
mod follow;
mod hello;
mod identity;
mod idle;
mod info;
mod intake;
mod lane;
mod lease;
mod life;
mod local;
mod monitor;
mod moving;
mod particular;
mod peer;
mod phase;
mod pinned;
mod pubsub;
mod reading;
mod recall;
mod reload;
mod retire;
mod ring;
mod scan;
mod scatter;
mod scripts;
mod slots;
mod slow;
mod spare;
mod split;
mod takeback;
mod text;
mod transaction;
mod upload;
mod waits;
mod withheld;
mod witness;

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::ejection::Ejector;
use crate::placement::Placement;
use crate::settings::{self, Compat, ReadFrom, Replicas};
use crate::statistics::PoolCounters;
use crate::subscribers::Subscribers;
use crate::topology::Rank;

use client::Hold;
use desk::Desk;
pub use doubt::READ_WITHIN;
use lane::{Lane, State};
pub use peer::{How, Peer, Side};
use phase::Known;
pub use reload::Word;
use slots::{NONE, Wait};

/// Bytes that one read may bring.
pub const SCRATCH: usize = 64 * 1024;
/// An unfinished frame up to this size is copied in front of the next read instead of owning a growing buffer.
const CARRIED: usize = 16 * 1024;
/// How long a connection to a server may take to come up.
const CONNECT: Duration = Duration::from_secs(5);
/// A client that takes nothing of a reply for this long stops its lane for new requests of others too, which would only
/// wait behind it.
const PATIENCE_MS: u64 = 200;

/// What the shell has to do besides reading and writing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Order {
    /// Connect this peer to what [`Core::address_of`] names, then say [`Core::connected`] or
    /// [`Core::closed`].
    Connect(Peer),
    /// Close the socket; the core has forgotten this peer.
    Close(Peer),
    /// Read from this peer again: it was held and may go on.
    Resume(Peer),
    /// Say that nothing sent to this server of this pool is unanswered, after the word of this rank that it closes.
    Quiesced(usize, usize, Rank),
    /// Ask whether what is believed of the groups still holds, and then say [`Core::confirmed`].
    Confirm,
    /// Ask the nodes of this pool's cluster where its slots are, one first that [`Core::take_stranger`] names, and then say
    /// [`Core::remap`].
    Remap(usize),
    /// Read the end of a history, which [`Core::history_question`] describes, then say [`Core::history_read`].
    ReadHistory(History),
}

/// One question about a history.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct History {
    pool: u32,
    server: u32,
    number: u32,
}

/// One pool as a thread gets it.
#[derive(Debug, Clone)]
pub struct PoolSetup {
    /// What it is.
    pub settings: Arc<settings::Pool>,
    /// Which servers take part, for the whole process.
    pub ejector: Arc<Ejector>,
    /// This thread's counters.
    pub counters: Arc<PoolCounters>,
    /// Who listens to messages, for the whole process.
    pub subscribers: Arc<Subscribers>,
    /// Lanes to each server that this thread may open, at least 1.
    pub connections: u32,
}

#[derive(Debug)]
struct PoolState {
    setup: PoolSetup,
    placement: Arc<Placement>,
    /// Of `placement`.
    version: u64,
    /// The bank of lanes that its clients begin with; that for RESP3 is the next.
    bank: u32,
    timeout_ms: Option<u64>,
    /// Of the settings' bounds.
    longest_key: usize,
    ejects: bool,
    twemproxy: bool,
    /// Of each server, what was said last; empty while nothing was said, and all servers are where the settings say.
    groups: Vec<Option<Known>>,
    /// Of each server, what waits for its replicas; empty where nothing does.
    acks: Vec<acks::Acks>,
    /// How many of them get no acknowledgements now.
    alone: u32,
    /// Of each server, who waits for its replicas; empty before the first.
    waits: Vec<waits::Waits>,
    /// Of each server, what is known of its replicas; empty where nothing is read from them.
    reading: Vec<reading::Reading>,
    /// Of each server, where it was; as long as `groups`.
    witnesses: Vec<witness::Witness>,
    /// Where its slots are, if its servers are those of a cluster.
    cluster: Option<Box<cluster::Cluster>>,
    /// What HELLO tells, once a server was asked.
    told_version: Option<Vec<u8>>,
    /// After a reload: the pool that its clients belong to now.
    heir: Option<u32>,
    /// It has neither clients nor connections any more.
    over: bool,
}

/// The request-tracking machine of one thread.
#[derive(Debug)]
pub struct Core {
    base: Instant,
    now: Instant,
    /// Since `base`.
    now_ms: u64,
    pools: Vec<PoolState>,
    lanes: Vec<Lane>,
    banks: Vec<bank::Bank>,
    desk: Desk,
    scratch: Vec<u8>,
    /// Bytes at the start of `scratch` that were carried over from the last read of the same peer.
    carried: usize,
    dirty_lanes: u32,
    orders: VecDeque<Order>,
    /// Nothing is due before this; `u64::MAX` if nothing ever is.
    due_ms: u64,
    /// When to look for lanes that idle.
    sweep_at_ms: u64,
    /// When to look for clients that idle.
    idle_at_ms: u64,
    /// State of the generator behind `random` placement.
    draws: u32,
    /// Requests that entered a lane since [`Core::take_entered`].
    entered: u32,
    /// The command that is looked at.
    asking: u16,
    next_id: u64,
    id_step: u64,
    tally: scatter::Tally,
    /// What the slots of the request at hand wait for.
    asks: Wait,
    pins: pinned::Pins,
    watch: lease::Watch,
    /// Lanes whose large request waits for a primary.
    uploads: Vec<u32>,
    scripts: scripts::Scripts,
    /// None: clients are welcome.
    draining: bool,
}

impl Core {
    /// A thread's core. `seed` makes the draws of `random` placement; `thread` of `threads` keeps client ids apart.
    #[must_use]
    pub fn new(pools: Vec<PoolSetup>, seed: u32, thread: u32, threads: u32, now: Instant) -> Self {
        let mut core = Self {
            base: now,
            now,
            now_ms: 0,
            pools: Vec::new(),
            lanes: Vec::new(),
            banks: Vec::new(),
            desk: Desk::new(now),
            scratch: vec![0; SCRATCH],
            carried: 0,
            dirty_lanes: NONE,
            orders: VecDeque::new(),
            due_ms: u64::MAX,
            sweep_at_ms: u64::MAX,
            idle_at_ms: u64::MAX,
            draws: seed | 1,
            entered: 0,
            asking: 0,
            next_id: u64::from(thread) + 1,
            id_step: u64::from(threads.max(1)),
            tally: scatter::Tally::default(),
            asks: Wait::Lane,
            pins: pinned::Pins::default(),
            watch: lease::Watch::default(),
            uploads: Vec::new(),
            scripts: scripts::Scripts::default(),
            draining: false,
        };
        for setup in pools {
            core.add_pool(setup);
        }
        core
    }

    fn add_pool(&mut self, setup: PoolSetup) -> u32 {
        let number = self.pools.len() as u32;
        let replicas = setup.settings.replicas;
        let preconnect = setup.settings.preconnect;
        let servers = setup.settings.servers.len() as u32;
        self.pools.push(PoolState {
            placement: setup.ejector.placement(),
            version: setup.ejector.version(),
            bank: NONE,
            timeout_ms: setup
                .settings
                .timeout
                .map(|timeout| timeout.as_millis() as u64),
            longest_key: setup.settings.bounds.key,
            ejects: setup.settings.ejection.is_some(),
            twemproxy: setup.settings.compat == Compat::Twemproxy,
            groups: Vec::new(),
            acks: match replicas.ack {
                Some(_) => (0..servers).map(|_| acks::Acks::new()).collect(),
                None => Vec::new(),
            },
            alone: 0,
            waits: Vec::new(),
            reading: match replicas.read {
                ReadFrom::Replica => (0..servers).map(|_| reading::Reading::new()).collect(),
                ReadFrom::Primary => Vec::new(),
            },
            witnesses: Vec::new(),
            cluster: None,
            told_version: None,
            heir: None,
            over: false,
            setup,
        });
        let bank = self.own_banks(number);
        self.pools[number as usize].bank = bank;
        self.begin_cluster(number);
        if preconnect {
            for server in 0..servers {
                let lane = self.lane_to(bank, server, 0);
                self.connect(lane);
            }
        }
        number
    }

    /// A client has connected to pool number `pool`. None: the core is draining, close it.
    pub fn accepted(&mut self, pool: usize, now: Instant) -> Option<Peer> {
        self.clock(now);
        if self.draining {
            return None;
        }
        let state = self.pools.get(pool)?;
        let id = self.next_id;
        self.next_id += self.id_step;
        state.setup.counters.accepted.add(1);
        state.setup.counters.client_connections.add(1);
        let particular = state.setup.settings.replicas != Replicas::default();
        let now_ms = self.now_ms as u32;
        let peer = self.desk.admit(pool as u32, particular, id, now_ms);
        let index = peer.index() as u32;
        self.enter_bank(index, self.pools[pool].bank);
        self.greet(index);
        self.arm_idle(pool as u32);
        Some(peer)
    }

    /// Where to read into. Empty: this peer is not to be read from until [`Order::Resume`].
    #[inline]
    pub fn recv_space(&mut self, peer: Peer) -> &mut [u8] {
        self.carried = 0;
        let input = match peer.side() {
            Side::Client => match self.desk.find(peer) {
                Some(index) => {
                    let client = &self.desk.clients[index as usize];
                    if client.hold != Hold::No || client.life != client::Life::Open {
                        return &mut [];
                    }
                    &client.input
                }
                None => return &mut [],
            },
            Side::Lane => match self.find_lane(peer) {
                Some(index) => {
                    let lane = &self.lanes[index as usize];
                    if lane.stalled_on.is_some() || lane.mute || lane.waits_for_turn() {
                        return &mut [];
                    }
                    &lane.input
                }
                None => return &mut [],
            },
        };
        if !input.is_empty() && input.len() <= CARRIED {
            self.carried = input.len();
            self.scratch[..self.carried].copy_from_slice(input);
        }
        &mut self.scratch[self.carried..]
    }

    /// `bytes` were read into the start of what [`Core::recv_space`] gave last, for this peer.
    #[inline]
    pub fn received(&mut self, peer: Peer, bytes: usize, now: Instant) {
        self.clock(now);
        match peer.side() {
            Side::Client => {
                if let Some(index) = self.desk.find(peer) {
                    self.client_received(index, bytes);
                }
            }
            Side::Lane => {
                if let Some(index) = self.find_lane(peer) {
                    if self.watch.late && self.came_late(index) {
                        self.carried = 0;
                    } else {
                        self.lane_received(index, bytes);
                    }
                }
            }
        }
        self.settle();
    }

    /// The next peer with something to send: servers first, then clients, each once.
    #[inline]
    pub fn next_dirty(&mut self) -> Option<Peer> {
        while self.dirty_lanes != NONE {
            let index = self.dirty_lanes;
            let lane = &mut self.lanes[index as usize];
            self.dirty_lanes = lane.next_dirty;
            lane.dirty = false;
            if lane.state != State::Closed {
                let peer = lane.peer(index);
                if self.now_ms >= lane.ask_at_ms {
                    self.ask_where(index);
                }
                return Some(peer);
            }
        }
        self.desk.next_dirty()
    }

    /// What to send to this peer now, in order.
    #[inline]
    #[must_use]
    pub fn pending(&self, peer: Peer) -> [&[u8]; 2] {
        match peer.side() {
            Side::Client => match self.desk.find(peer) {
                Some(index) => {
                    let client = &self.desk.clients[index as usize];
                    [&client.output[client.sent..], &[]]
                }
                None => [&[], &[]],
            },
            Side::Lane => match self.find_lane(peer) {
                Some(index) => self.lanes[index as usize].pending(),
                None => [&[], &[]],
            },
        }
    }

    /// The kernel took the first `bytes` of [`Core::pending`].
    #[inline]
    pub fn sent(&mut self, peer: Peer, bytes: usize) {
        match peer.side() {
            Side::Client => {
                if let Some(index) = self.desk.find(peer) {
                    self.desk.sent(index, bytes, self.now_ms as u32);
                }
            }
            Side::Lane => {
                if let Some(index) = self.find_lane(peer) {
                    let lane = &mut self.lanes[index as usize];
                    match lane.state {
                        State::Ready => lane.sent(bytes),
                        State::SettingUp { .. } => lane.setup_sent += bytes,
                        State::Closed | State::Connecting { .. } => {}
                    }
                    lane.gauge(&self.desk.slots);
                    if lane.particular {
                        self.particular_sent(index);
                    } else if lane.bulk != upload::Bulk::No {
                        self.bulk_sent(index);
                    }
                }
            }
        }
        self.settle();
    }

    /// The next thing to do besides reading and writing.
    pub fn next_order(&mut self) -> Option<Order> {
        self.orders.pop_front()
    }

    /// How many requests entered lanes since this was asked last.
    #[inline]
    pub fn take_entered(&mut self) -> u32 {
        std::mem::take(&mut self.entered)
    }

    /// The number of the pool of this name that clients belong to now.
    #[must_use]
    pub fn pool_named(&self, name: &str) -> Option<usize> {
        self.pools
            .iter()
            .position(|pool| pool.heir.is_none() && pool.setup.settings.name == name)
    }

    /// What the pool of this number is.
    #[must_use]
    pub fn settings(&self, pool: usize) -> &settings::Pool {
        &self.pools[pool].setup.settings
    }

    /// What the pool of a peer is, while there is that peer.
    #[must_use]
    pub fn settings_of(&self, peer: Peer) -> Option<&settings::Pool> {
        let pool = match peer.side() {
            Side::Client => self.desk.clients[self.desk.find(peer)? as usize].pool,
            Side::Lane => self.lanes[self.find_lane(peer)? as usize].pool,
        };
        Some(self.settings(pool as usize))
    }

    fn bounds_of(&self, client: u32) -> settings::Bounds {
        let pool = self.desk.clients[client as usize].pool;
        self.pools[pool as usize].setup.settings.bounds
    }

    /// When to call [`Core::tick`] if nothing else happens.
    #[must_use]
    pub fn deadline(&self) -> Option<Instant> {
        (self.due_ms != u64::MAX).then(|| self.base + Duration::from_millis(self.due_ms))
    }

    /// Clients connected now.
    #[must_use]
    pub fn clients(&self) -> usize {
        self.desk.open
    }

    /// No new clients; those that are here go as soon as they are owed nothing.
    pub fn drain(&mut self, now: Instant) {
        self.clock(now);
        self.draining = true;
        for index in 0..self.desk.clients.len() as u32 {
            if self.desk.clients[index as usize].life == client::Life::Open {
                self.desk.dismiss(index);
            }
        }
        self.settle();
    }

    #[inline]
    fn clock(&mut self, now: Instant) {
        if now != self.now {
            self.now = now;
            let since = now.saturating_duration_since(self.base);
            self.now_ms = since.as_millis() as u64;
            self.desk.now_us = since.as_micros() as u32;
            self.desk.now = now;
        }
    }

    /// Sees to it that [`Core::tick`] is called no later than then.
    #[inline]
    fn arm(&mut self, at_ms: u64) {
        self.due_ms = self.due_ms.min(at_ms);
    }

    #[inline]
    fn find_lane(&self, peer: Peer) -> Option<u32> {
        let lane = self.lanes.get(peer.index())?;
        (peer.side() == Side::Lane
            && lane.generation == peer.generation()
            && lane.state != State::Closed)
            .then_some(peer.index() as u32)
    }

    #[inline(always)]
    fn touch_lane(&mut self, index: u32) {
        let lane = &mut self.lanes[index as usize];
        if !lane.dirty {
            lane.dirty = true;
            lane.next_dirty = self.dirty_lanes;
            self.dirty_lanes = index;
        }
    }

    /// Lets those go on who were waiting for what just happened, and passes on who has gone.
    #[inline]
    fn settle(&mut self) {
        if !self.desk.wake.is_empty() || self.desk.stalling > 0 || !self.desk.gone.is_empty() {
            self.settle_slowly();
        }
    }

    #[cold]
    fn settle_slowly(&mut self) {
        loop {
            if let Some(peer) = self.desk.wake.pop() {
                if let Some(index) = self.desk.find(peer) {
                    self.go_on(index);
                }
            } else if self.desk.stalling == 0 || !self.release_stalled() {
                break;
            }
        }
        while let Some(gone) = self.desk.gone.pop() {
            let counters = &self.pools[gone.pool as usize].setup.counters;
            counters.client_connections.sub(1);
            for bank in [gone.bank, gone.claims] {
                if bank != NONE {
                    self.leave_bank(bank);
                }
            }
            if gone.pinned != NONE {
                // At once: what blocks there would take something for nobody.
                self.drop_pinned(gone.pinned);
            }
            self.drop_lent(gone.peer);
            self.orders.push_back(Order::Close(gone.peer));
        }
    }
}

#[cfg(test)]
mod tests;
