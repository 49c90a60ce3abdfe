//! `read = "replica"`: each client reads from one replica, once that has the client's last write.
//!
//! Rounds of samples, each with a number, ask every primary and every replica how far it is, at most every
//! [`ROUND_MS`] and only while somebody reads. A client keeps the number of the first round begun after its last write was
//! answered. A replica *covers* a round when its own offset is past the primary's of that round: then it has every write
//! that was answered before the round began, and the client may go there. Otherwise, and whenever the replica's link is
//! down or it has not been heard of lately, the primary answers.
//!
//! A client goes from the one to the other only when it is owed nothing, so that no reply overtakes another. What a
//! replica leaves unanswered when it goes is asked of the primary: it only reads.

use std::collections::VecDeque;

use super::aside::{ASK_STANDING, Aside, Lineage, Standing};
use super::follow::HOLD;
use super::intake::Taken;
use super::lane::{Lane, State};
use super::scatter::Shared;
use super::slots::{NONE, Owner};
use super::{Core, How};
use crate::command::{Command, Route};
use crate::frame::Request;
use crate::settings::{Address, ReadFrom};
use crate::topology::Group;

/// From one round of samples to the next.
const ROUND_MS: u64 = 20;
/// A replica that was not heard of for so long is not read from.
const FRESH_MS: u64 = 500;
/// So many rounds are remembered: a replica that is further behind is not read from.
const ROUNDS: usize = 64;

/// How far the servers of one group are.
#[derive(Debug)]
pub(super) struct Reading {
    primary: Probe,
    /// The primary's history.
    lineage: Lineage,
    /// Its offset in the last rounds.
    rounds: VecDeque<(u32, u64)>,
    copies: Vec<Copy>,
    /// When a round was begun.
    begun_ms: u64,
}

/// A connection for samples.
#[derive(Debug)]
struct Probe {
    /// [`NONE`] before the first.
    lane: u32,
    /// The round whose answer is outstanding.
    asked: Option<u32>,
}

/// One replica.
#[derive(Debug)]
struct Copy {
    address: Address,
    /// As the snapshot says.
    link_up: bool,
    probe: Probe,
    /// Connections for requests: one for each bank that has asked, with that bank.
    lanes: Vec<(u32, u32)>,
    /// How far it is in the primary's history. None: it is not in it, or its link is down.
    offset: Option<u64>,
    heard_ms: u64,
}

impl Probe {
    const fn new() -> Self {
        Self {
            lane: NONE,
            asked: None,
        }
    }
}

impl Reading {
    pub(super) fn new() -> Self {
        Self {
            primary: Probe::new(),
            lineage: Lineage::UNKNOWN,
            rounds: VecDeque::new(),
            copies: Vec::new(),
            begun_ms: 0,
        }
    }

    /// The last round that this replica covers; 0 if none.
    fn covers(&self, copy: &Copy) -> u32 {
        let Some(offset) = copy.offset else { return 0 };
        let covered = self.rounds.iter().rev().find(|(_, then)| *then <= offset);
        covered.map_or(0, |&(round, _)| round)
    }
}

impl Core {
    fn reading(&mut self, pool: u32, server: u32) -> Option<&mut Reading> {
        self.pools[pool as usize].reading.get_mut(server as usize)
    }

    /// Sends a read to the client's replica. None: it is the primary's, now or for good.
    pub(super) fn read_at_replica(
        &mut self,
        index: u32,
        command: &'static Command,
        request: &Request<'_>,
    ) -> Option<Taken> {
        let client = &self.desk.clients[index as usize];
        let pool = client.pool;
        if self.pools[pool as usize].setup.settings.replicas.read != ReadFrom::Replica
            || !command.is_read_only()
            || client.is_special()
            || client.pinned != NONE
            || (client.outstanding > 0 && !client.away)
        {
            return None;
        }
        let server = match command.route {
            Route::OneKey { at } => {
                let key = request.argument(usize::from(at))?;
                self.server_for(pool, key)?
            }
            // Who asks for too long a key is told so in the ordinary way.
            _ if self.has_long_key(index, command, request) => return None,
            Route::Split { .. } | Route::Keys | Route::Script => {
                match self.servers_of_keys(index, command, request) {
                    Shared::At(server) => server,
                    Shared::Nowhere | Shared::Apart(_) | Shared::Anywhere | Shared::Nobody => {
                        return None;
                    }
                }
            }
            // They ask more than one server, keep a place in one, or block.
            _ => return None,
        };
        let lane = self.replica_for(index, pool, server)?;
        let taken = self.forward_on(lane, index, request.bytes());
        if taken == Taken::Yes {
            self.arm(self.now_ms + HOLD.as_millis() as u64 + 1);
            self.desk.clients[index as usize].away = true;
        }
        Some(taken)
    }

    /// The connection to the client's replica, if that has what the client must see.
    fn replica_for(&mut self, index: u32, pool: u32, server: u32) -> Option<u32> {
        self.round_if_due(pool);
        let now_ms = self.now_ms;
        let client = &self.desk.clients[index as usize];
        let (id, wrote, bank) = (client.id, client.wrote, client.bank);
        let reading = self.reading(pool, server)?;
        let number = (id % (reading.copies.len() as u64).max(1)) as usize;
        let copy = reading.copies.get(number)?;
        let covers = reading.covers(copy);
        let fresh = now_ms.saturating_sub(copy.heard_ms) <= FRESH_MS;
        if !copy.link_up || !fresh || covers == 0 || covers < wrote {
            return None;
        }
        let address = copy.address.clone();
        let lane = match copy.lanes.iter().find(|(known, _)| *known == bank) {
            Some(&(_, lane)) => lane,
            None => {
                let setup = &self.pools[pool as usize].setup;
                let counters = setup.counters.servers[server as usize].clone();
                let lane = self.place_lane(Lane {
                    at: Some(address),
                    particular: true,
                    ..Lane::new(pool, server, bank, counters)
                });
                let copy = &mut self.reading(pool, server)?.copies[number];
                copy.lanes.push((bank, lane));
                lane
            }
        };
        let place = &self.lanes[lane as usize];
        if place.state == State::Ready {
            return Some(lane);
        }
        if place.state == State::Closed && now_ms >= place.retry_at_ms {
            self.connect(lane);
        }
        None
    }

    /// Begins a round of samples, if the last one is old enough.
    fn round_if_due(&mut self, pool: u32) {
        let now_ms = self.now_ms;
        let Some(first) = self.pools[pool as usize].reading.first() else {
            return;
        };
        if self.desk.round > 0 && now_ms < first.begun_ms + ROUND_MS {
            return;
        }
        self.desk.round += 1;
        let round = self.desk.round;
        for server in 0..self.pools[pool as usize].reading.len() as u32 {
            let reading = &mut self.pools[pool as usize].reading[server as usize];
            reading.begun_ms = now_ms;
            let copies = reading.copies.len();
            for which in std::iter::once(None).chain((0..copies).map(Some)) {
                self.probe(pool, server, which, round);
            }
        }
    }

    /// Asks a primary, or replica number `which` of it, how far it is.
    fn probe(&mut self, pool: u32, server: u32, which: Option<usize>, round: u32) {
        let reading = &self.pools[pool as usize].reading[server as usize];
        let (probe, at) = match which {
            None => (&reading.primary, None),
            Some(which) => {
                let copy = &reading.copies[which];
                (&copy.probe, Some(copy.address.clone()))
            }
        };
        if probe.asked.is_some() {
            // One at a time: a server that does not answer is not asked more and more.
            return;
        }
        let lane = if probe.lane == NONE {
            self.aside_lane((pool, server), Aside::Sample, at)
        } else {
            probe.lane
        };
        let asked = self.ask_aside(lane, ASK_STANDING).then_some(round);
        let reading = &mut self.pools[pool as usize].reading[server as usize];
        let probe = match which {
            None => &mut reading.primary,
            Some(which) => &mut reading.copies[which].probe,
        };
        *probe = Probe { lane, asked };
    }

    /// A sample came.
    pub(super) fn sampled(&mut self, lane: u32, reply: &[u8]) {
        let now_ms = self.now_ms;
        let (pool, server) = {
            let lane = &self.lanes[lane as usize];
            (lane.pool, lane.server)
        };
        let standing = Standing::read(reply);
        let Some(reading) = self.reading(pool, server) else {
            return;
        };
        if reading.primary.lane == lane {
            let round = reading.primary.asked.take();
            let Some((round, standing)) = round.zip(standing) else {
                return;
            };
            if !standing.primary {
                reading.forget();
                return;
            }
            if reading.lineage != standing.lineage {
                reading.forget();
                reading.lineage = standing.lineage;
            }
            if reading.rounds.len() == ROUNDS {
                reading.rounds.pop_front();
            }
            reading.rounds.push_back((round, standing.offset));
            return;
        }
        let lineage = reading.lineage;
        let copies = &mut reading.copies;
        let Some(copy) = copies.iter_mut().find(|copy| copy.probe.lane == lane) else {
            return;
        };
        copy.probe.asked = None;
        copy.heard_ms = now_ms;
        copy.offset = standing
            .filter(|it| !it.primary && it.link_up && it.lineage == lineage)
            .map(|it| it.offset);
    }

    /// A connection for samples is gone.
    pub(super) fn sample_lost(&mut self, lane: u32) {
        let (pool, server) = {
            let lane = &self.lanes[lane as usize];
            (lane.pool, lane.server)
        };
        let Some(reading) = self.reading(pool, server) else {
            return;
        };
        if reading.primary.lane == lane {
            reading.primary.asked = None;
            return;
        }
        for copy in &mut reading.copies {
            if copy.probe.lane == lane {
                copy.probe.asked = None;
                copy.offset = None;
            }
        }
    }

    /// A new word on a group: who its replicas are now.
    pub(super) fn read_from(&mut self, pool: u32, server: u32, group: &Group, moved: bool) {
        let Some(reading) = self.reading(pool, server) else {
            return;
        };
        let mut gone = Vec::new();
        if moved {
            reading.forget();
            gone.push(std::mem::replace(&mut reading.primary, Probe::new()).lane);
        }
        let mut before = std::mem::take(&mut reading.copies);
        for replica in &group.replicas {
            let known = before.iter().position(|it| it.address == replica.address);
            let mut copy = match known {
                Some(known) => before.swap_remove(known),
                None => Copy {
                    address: replica.address.clone(),
                    link_up: false,
                    probe: Probe::new(),
                    lanes: Vec::new(),
                    offset: None,
                    heard_ms: 0,
                },
            };
            copy.link_up = replica.link_up;
            reading.copies.push(copy);
        }
        for copy in before {
            gone.push(copy.probe.lane);
            gone.extend(copy.lanes.iter().map(|&(_, lane)| lane));
        }
        for lane in gone.into_iter().filter(|&lane| lane != NONE) {
            self.disconnect(lane);
            self.hand_back(lane);
            self.drop_lane(lane);
            let waiters = std::mem::take(&mut self.lanes[lane as usize].waiters);
            self.desk.wake.extend(waiters);
        }
    }

    /// What a replica has not answered is asked of its primary.
    pub(super) fn hand_back(&mut self, index: u32) {
        let lane = &mut self.lanes[index as usize];
        if lane.first == NONE {
            return;
        }
        let (server, bank) = (lane.server, lane.bank);
        let (bytes, _) = lane.ring.take_all();
        let mut slot = std::mem::replace(&mut lane.first, NONE);
        lane.last = NONE;
        lane.queued = 0;
        lane.gauge(&self.desk.slots);
        let mut at = 0;
        while slot != NONE {
            let place = self.desk.slots[slot];
            let request = &bytes[at..at + place.len as usize];
            at += place.len as usize;
            self.desk.slots[slot].next_in_lane = NONE;
            match place.owner {
                Owner::Client(client) => {
                    let lane = self.lane_to(bank, server, client);
                    match self.shut(lane) {
                        Some(error) => self.desk.answer(slot, error),
                        None => {
                            self.lanes[lane as usize].ring.push(request);
                            self.enter(lane, slot, request.len());
                        }
                    }
                }
                // Parts and the core's own questions go to primaries; whoever has left needs no answer.
                Owner::Part { .. } | Owner::Witness | Owner::Script | Owner::Nobody => {
                    self.desk.slots.give(slot);
                }
            }
            slot = place.next_in_lane;
        }
    }

    /// A bank becomes another's: its connections to replicas are closed. Nobody waits for anything there.
    pub(super) fn cool_replicas(&mut self, bank: u32) {
        for index in 0..self.lanes.len() as u32 {
            let lane = &self.lanes[index as usize];
            if lane.bank == bank && lane.at.is_some() && lane.aside.is_none() {
                self.disconnect(index);
                self.hand_back(index);
            }
        }
    }

    /// A replica that answers nothing keeps its readers waiting no longer than a missing primary would.
    pub(super) fn replica_due(&mut self, index: u32) {
        let lane = &self.lanes[index as usize];
        if lane.aside.is_some() || lane.first == NONE {
            return;
        }
        let hold_ms = HOLD.as_millis() as u64;
        let since = self.desk.slots[lane.first].since;
        let waited = u64::from((self.now_ms as u32).wrapping_sub(since));
        if waited > hold_ms {
            self.lane_down(index, How::TimedOut);
        } else {
            self.arm(self.now_ms + hold_ms - waited + 1);
        }
    }

    /// A connection to a replica has ended, or the replica says that it cannot answer.
    pub(super) fn replica_down(&mut self, index: u32, how: How) {
        self.close_lane(index, how);
        self.hand_back(index);
        let waiters = std::mem::take(&mut self.lanes[index as usize].waiters);
        self.desk.wake.extend(waiters);
    }
}

impl Reading {
    /// Nothing that was sampled counts any more.
    fn forget(&mut self) {
        self.rounds.clear();
        self.lineage = Lineage::UNKNOWN;
        for copy in &mut self.copies {
            copy.offset = None;
        }
    }
}
