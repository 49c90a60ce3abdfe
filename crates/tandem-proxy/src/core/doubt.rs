//! Writes that were sent to a primary that is gone, and never answered: sent again if they are proven not to be in the
//! history that the next primary goes on with.
//!
//! The proof, for a write that was handed over when the old primary had come to offset O of its history L, or later: the
//! next primary left L at F. If F ≤ O it has nothing of what came after; otherwise what it has after O, up to F, is read
//! from it, and touches none of the write's keys. A write without keys must not meet any command there; for scripts, for
//! messages and for whatever else leaves no trace under its keys only F ≤ O will do. Of a transaction all parts count.
//!
//! ```text
//!   connection lost --> in doubt --another primary, its fork known--> history read --> sent again, or UNKNOWN
//!                          |                                              |
//!                          +-- the same primary answers, no fork, 3 s     +-- unreadable, too long, 300 ms --> UNKNOWN
//! ```
//! Nothing of a lane is sent while one of its writes is in doubt, so that order holds.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use super::lane::State;
use super::slots::{NONE, Owner};
use super::takeback::{Queue, Unit};
use super::witness::{Reading, Sample};
use super::{Core, History, Order};
use crate::command::{self, KeyList, PubSub, Route};
use crate::frame::{Limits, Scan};
use crate::tail::{MOST, Question, Tail};
use crate::tls::Connector;
use crate::topology::{Fork, Forks, Phase};

/// How long a history may take to be read.
pub const READ_WITHIN: Duration = Duration::from_millis(300);

/// A write that may have been executed.
#[derive(Debug, Clone, Copy)]
pub(super) struct Doubt {
    pub(super) slot: u32,
    /// It was executed after this, if at all.
    pub(super) since: Sample,
}

/// What is known of a fork.
#[derive(Debug, Clone, Copy)]
enum Known<'a> {
    /// Where it is.
    Fork(&'a Fork),
    /// And what is before it.
    History(&'a Fork, &'a Tail),
    /// Nothing.
    Nothing,
}

impl Core {
    /// What is to be read. None: nobody waits for it any more.
    #[must_use]
    pub fn history_question(&self, history: History) -> Option<&Question> {
        let witness = self.witness(history.pool, history.server)?;
        let reading = witness.reading.as_ref()?;
        (reading.number == history.number).then_some(&reading.question)
    }

    /// How the server is spoken to that is to be asked: over TLS, or plainly.
    #[must_use]
    pub fn history_connector(&self, history: History) -> Option<Connector> {
        let pool = self.pools.get(history.pool as usize)?;
        pool.setup.settings.access.server_tls.clone()
    }

    /// What was read; none: it cannot be had.
    pub fn history_read(&mut self, history: History, tail: Option<&Tail>, now: Instant) {
        self.clock(now);
        if self.history_question(history).is_some() {
            self.decide_with(history.pool, history.server, tail);
        }
        self.settle();
    }

    /// The history that is being read is what it is, or cannot be had: everyone who waits for it is told.
    fn decide_with(&mut self, pool: u32, server: u32, tail: Option<&Tail>) {
        if let Some(witness) = self.witness_mut(pool, server) {
            witness.reading = None;
        }
        let fork = self.fork(pool, server).cloned();
        let known = match (&fork, tail) {
            (Some(fork), Some(tail)) => Known::History(fork, tail),
            (Some(fork), None) => Known::Fork(fork),
            (None, _) => Known::Nothing,
        };
        for index in 0..self.lanes.len() as u32 {
            let lane = &self.lanes[index as usize];
            if lane.pool == pool && lane.server == server && !lane.doubts.is_empty() {
                self.decide(index, known);
                self.go_on_with(index);
            }
        }
    }

    /// A group has a primary: whether a lane's doubts are over. False: its history is being read.
    pub(super) fn doubts_over(&mut self, index: u32) -> bool {
        let lane = &self.lanes[index as usize];
        let (pool, server) = (lane.pool, lane.server);
        if lane.doubts.is_empty() {
            return true;
        }
        let Some(witness) = self.witness(pool, server) else {
            return true;
        };
        if witness.era == lane.era {
            // The same one as before: if it answers nobody will ever prove anything, and until then another may follow.
            return true;
        }
        if witness.reading.is_some() {
            return false;
        }
        let Some(fork) = self.fork(pool, server).cloned() else {
            self.decide(index, Known::Nothing);
            return true;
        };
        let asked = self
            .lanes
            .iter()
            .filter(|lane| lane.pool == pool && lane.server == server && lane.era != witness.era);
        let offsets = asked
            .flat_map(|lane| &lane.doubts)
            .filter(|doubt| doubt.since.lineage == *fork.parent.as_bytes())
            .map(|doubt| doubt.since.offset)
            // What is too old is given up, so that it costs the others nothing.
            .filter(|&offset| offset < fork.offset && fork.offset - offset <= MOST);
        let Some(from) = offsets.min() else {
            self.decide(index, Known::Fork(&fork));
            return true;
        };
        let Some(primary) = self.address(pool, server).cloned() else {
            return false;
        };
        let question = Question {
            primary,
            login: self.login(index),
            parent: fork.parent.clone(),
            from,
            to: fork.offset,
        };
        let until_ms = self.now_ms + READ_WITHIN.as_millis() as u64;
        let Some(witness) = self.witness_mut(pool, server) else {
            return true;
        };
        witness.readings += 1;
        let number = witness.readings;
        witness.reading = Some(Reading {
            number,
            question,
            until_ms,
        });
        self.orders.push_back(Order::ReadHistory(History {
            pool,
            server,
            number,
        }));
        self.arm(until_ms);
        false
    }

    /// Gives up waiting for a history that takes too long.
    pub(super) fn doubts_due(&mut self, index: u32) {
        let lane = &self.lanes[index as usize];
        let (pool, server) = (lane.pool, lane.server);
        let reading = self
            .witness(pool, server)
            .and_then(|it| it.reading.as_ref());
        match reading.map(|reading| reading.until_ms) {
            Some(until_ms) if self.now_ms >= until_ms => self.decide_with(pool, server, None),
            Some(until_ms) => self.arm(until_ms),
            None => {}
        }
    }

    /// The primary that a lane had all along answers again.
    pub(super) fn doubts_in_vain(&mut self, index: u32) {
        if !self.lanes[index as usize].doubts.is_empty() {
            self.decide(index, Known::Nothing);
        }
    }

    /// Decides everything that is in doubt on a lane.
    fn decide(&mut self, index: u32, known: Known<'_>) {
        let queue = self.take_queue(index);
        let lane = &mut self.lanes[index as usize];
        let database = self.banks[lane.bank as usize].identity.database;
        let mut doubts = std::mem::take(&mut lane.doubts);
        // From the last one: what a client asked before something that may have been executed was executed before it, and
        // without a trace if there is none. Doing it again would turn two of its writes round.
        let mut unknown = Vec::new();
        let mut uncertain: BTreeSet<u32> = BTreeSet::new();
        for (at, unit) in queue.units.iter().enumerate().rev() {
            let slot = queue.slots[unit.slots.end - 1].0;
            let Some(doubt) = doubts.pop_back_if(|doubt| doubt.slot == slot) else {
                continue;
            };
            let client = match self.desk.slots[slot].owner {
                Owner::Client(client) => Some(client),
                Owner::Part { .. } | Owner::Witness | Owner::Script | Owner::Nobody => None,
            };
            let later = client.is_some_and(|client| uncertain.contains(&client));
            if later || !is_absent(&queue, unit, doubt.since, database, known) {
                unknown.push(at);
                uncertain.extend(client);
            }
        }
        debug_assert!(doubts.is_empty(), "each is of a request that is queued");
        unknown.reverse();
        let mut left = unknown.iter().copied().peekable();
        for (at, unit) in queue.units.iter().enumerate() {
            if left.next_if_eq(&at).is_none() {
                self.put_back(index, &queue, unit);
            }
        }
        for &at in &unknown {
            self.tell_unknown(index, &queue, &queue.units[at]);
        }
        self.lanes[index as usize].gauge(&self.desk.slots);
        self.wake_waiters(index);
    }

    /// A lane whose doubts are over is connected, if it is needed.
    fn go_on_with(&mut self, index: u32) {
        let lane = &self.lanes[index as usize];
        if lane.state == State::Closed && lane.first != NONE {
            self.connect(index);
        }
    }

    /// What AUTH is to be told by who reads a history for this lane; nothing where nobody is asked.
    fn login(&self, index: u32) -> Vec<Vec<u8>> {
        let lane = &self.lanes[index as usize];
        let user = self.banks[lane.bank as usize].identity.user.as_ref();
        let pool = &self.pools[lane.pool as usize].setup.settings;
        match (&pool.password, user) {
            (Some(password), _) => {
                let user = pool.access.server_user.iter();
                user.chain([password])
                    .map(|word| word.clone().into_bytes())
                    .collect()
            }
            (None, Some(user)) => {
                let words = user.name.iter().chain([&user.password]);
                words.cloned().collect()
            }
            (None, None) => Vec::new(),
        }
    }

    pub(super) fn fork(&self, pool: u32, server: u32) -> Option<&Fork> {
        let group = self.pools[pool as usize].groups.get(server as usize)?;
        let group = &group.as_ref()?.group;
        match (&group.phase, &group.forks) {
            (Phase::Serving { .. }, Forks::At(fork)) => Some(fork),
            (Phase::Serving { .. } | Phase::Closing | Phase::None, _) => None,
        }
    }

    pub(super) fn witness(&self, pool: u32, server: u32) -> Option<&super::witness::Witness> {
        self.pools[pool as usize].witnesses.get(server as usize)
    }

    pub(super) fn witness_mut(
        &mut self,
        pool: u32,
        server: u32,
    ) -> Option<&mut super::witness::Witness> {
        self.pools[pool as usize].witnesses.get_mut(server as usize)
    }
}

/// Whether a request is proven not to be in the history that a primary goes on with.
fn is_absent(queue: &Queue, unit: &Unit, since: Sample, database: u32, known: Known<'_>) -> bool {
    let (fork, tail) = match known {
        Known::Fork(fork) => (fork, None),
        Known::History(fork, tail) => (fork, Some(tail)),
        Known::Nothing => return false,
    };
    if fork.parent.as_bytes() != since.lineage {
        return false;
    }
    if fork.offset <= since.offset {
        return true;
    }
    let Some(tail) = tail else { return false };
    queue
        .requests(unit)
        .all(|request| leaves_no_trace(request, since.offset, database, tail))
}

/// Whether a request, had it been executed after `offset`, would show in `tail`, and does not.
fn leaves_no_trace(bytes: &[u8], offset: u64, database: u32, tail: &Tail) -> bool {
    let mut scan = Scan::default();
    let Ok(Some(_)) = scan.advance(bytes, &Limits::CLIENT) else {
        return false;
    };
    let request = scan.request(bytes);
    let Some(command) = command::resolve(&request) else {
        return false;
    };
    if command.may_repeat() {
        return true;
    }
    let hidden = match command.route {
        // What it does may be under no name that it gave.
        Route::Script | Route::PubSub(PubSub::Publish(_)) => true,
        _ => !command.is_write(),
    };
    if hidden {
        return false;
    }
    let mut list = KeyList::default();
    if command::keys(command, &request, &mut list).is_err() || list.keys().is_empty() {
        return !tail.has_any(offset);
    }
    list.keys().iter().all(|key| {
        let key = request.argument(key.at as usize).unwrap_or_default();
        !tail.touches(database, key, offset)
    })
}
