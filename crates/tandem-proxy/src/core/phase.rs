//! What is said of a group, and what a thread does about it.
//!
//! | said | so |
//! |---|---|
//! | serving | requests go there; from a primary before it everything is taken back |
//! | closing | nothing more is sent, what was sent is awaited, then that is reported ([`Order::Quiesced`]) |
//! | none | nothing is sent |
//!
//! A command that blocks is not awaited: the server itself ends it (`-UNBLOCKED`) when it stops being a primary, without
//! having executed it, and it begins again at the next one. A WATCH ends with its connection, and the transaction that it
//! was for is aborted, as if a key had changed.

use std::time::{Duration, Instant};

use super::client::Watch;
use super::lane::State;
use super::slots::NONE;
use super::upload::Bulk;
use super::witness::Witness;
use super::{Core, How, Order, Peer, text};
use crate::settings::Address;
use crate::topology::{Forks, Group, Lease, Phase, Rank, Topology};

/// What a thread knows of a group.
#[derive(Debug)]
pub(super) struct Known {
    pub(super) group: Group,
    /// Where its primary was when there last was one.
    home: Option<Address>,
    /// The closing that was reported as done.
    pub(super) quiet: Option<Rank>,
    /// Since when, by the clock of leases, it may not be believed until it is confirmed.
    pub(super) doubted: Option<Duration>,
    /// When its primary became another one, in milliseconds of the core.
    pub(super) moved_ms: u64,
}

impl Core {
    /// The newest word on the groups of a pool. Whoever gives them has put them in order: this one counts, whatever its rank.
    pub fn snapshot(&mut self, pool: usize, topology: &Topology, now: Instant) {
        self.clock(now);
        let Some(state) = self.pools.get_mut(pool) else {
            return;
        };
        let servers = state.setup.settings.servers.len();
        if state.groups.is_empty() {
            state.groups.resize_with(servers, || None);
            state.witnesses.resize_with(servers, Witness::default);
        }
        for (server, group) in topology.groups.iter().enumerate().take(servers) {
            let known = self.pools[pool].groups[server]
                .as_ref()
                .map(|known| &known.group);
            if known == Some(group) {
                continue;
            }
            self.regroup(pool as u32, server as u32, group);
        }
        self.settle();
    }

    /// Takes the word on one group.
    pub(super) fn regroup(&mut self, pool: u32, server: u32, group: &Group) {
        let (boot, now_ms) = (self.watch.boot, self.now_ms);
        let state = &mut self.pools[pool as usize];
        let before = state.groups[server as usize].take();
        let same = |known: &Known| {
            let known = &known.group;
            (&known.rank, &known.phase, known.lease, &known.forks)
                == (&group.rank, &group.phase, group.lease, &group.forks)
        };
        let only_replicas = before.as_ref().is_some_and(same);
        let (home, quiet, doubted, moved_ms) = match before {
            Some(known) => (known.home, known.quiet, known.doubted, known.moved_ms),
            None => (None, None, None, 0),
        };
        let mut known = Known {
            group: group.clone(),
            home,
            quiet,
            doubted,
            moved_ms,
        };
        let anew = self.note_era(pool, server, group);
        let moved = match &group.phase {
            Phase::Serving { primary } => {
                known.home.replace(primary.clone()).as_ref() != Some(primary) || anew
            }
            Phase::Closing | Phase::None => false,
        };
        if moved {
            known.moved_ms = now_ms;
        }
        match group.lease {
            Lease::Fixed | Lease::Members => known.doubted = None,
            Lease::Until(until) if boot <= until => known.doubted = None,
            Lease::Until(_) | Lease::Open => {}
        }
        self.pools[pool as usize].groups[server as usize] = Some(known);
        if !only_replicas {
            self.leases_changed();
            self.obey(pool, server, moved);
        }
        if moved {
            self.acks_moved(pool, server);
        }
        if group.alone.is_some() {
            self.release_alone(pool, server);
        }
        self.read_from(pool, server, group, moved);
        self.note_quiet(pool, server);
    }

    /// Counts the primaries that a group has had. Whether this is another one at the same address: that of a VIP.
    fn note_era(&mut self, pool: u32, server: u32, group: &Group) -> bool {
        let address = match &group.phase {
            Phase::Serving { primary } => Some(primary.clone()),
            Phase::Closing | Phase::None => None,
        };
        let Some(witness) = self.witness_mut(pool, server) else {
            return false;
        };
        let mut anew = false;
        let host = &group.rank.host;
        if address.is_some() && !host.is_empty() {
            // Each host of a pair has a server of its own.
            let before = std::mem::replace(&mut witness.host, host.clone());
            anew = !before.is_empty() && before != *host;
        }
        if let (Forks::At(fork), Some(_)) = (&group.forks, &address) {
            // One that is told later than its promotion is no other one.
            let before = witness.fork.replace(fork.clone());
            anew |= before.as_ref() != Some(fork) && group.rank.epoch > witness.epoch;
        }
        if address.is_none() || witness.primary != address || anew {
            // What is read is not asked for any more.
            witness.reading = None;
        }
        if address.is_some() && (witness.primary != address || anew) {
            witness.primary = address;
            witness.era += 1;
        }
        if group.forks != Forks::Untold && matches!(group.phase, Phase::Serving { .. }) {
            witness.epoch = group.rank.epoch;
        }
        anew
    }

    /// Does what the word on a group says. `moved`: its primary is another one than before.
    pub(super) fn obey(&mut self, pool: u32, server: u32, moved: bool) {
        let Some(known) = self.known(pool, server) else {
            return;
        };
        let doubted = known.doubted.is_some();
        let tells_forks = known.group.forks != Forks::Untold;
        let followed = self.is_group(pool, server);
        let replaced = self.is_replaced(pool);
        for index in 0..self.lanes.len() as u32 {
            let lane = &mut self.lanes[index as usize];
            if lane.pool != pool || lane.server != server || (lane.retired && !replaced) {
                continue;
            }
            if lane.at.is_some() {
                continue;
            }
            if lane.aside.is_some() {
                self.mute(index, doubted);
                continue;
            }
            let owned = !lane.pinned || lane.owner.is_some();
            if !owned || lane.bulk != Bulk::No {
                // What is streamed is not kept, so it can be neither held nor sent again.
                if moved && lane.state != State::Closed {
                    self.end_lane(index, How::Reset, text::UNKNOWN);
                } else if owned {
                    self.mute(index, doubted);
                }
                continue;
            }
            self.mute(index, doubted);
            let lane = &mut self.lanes[index as usize];
            if lane.messages {
                // What it listened to is not there any more.
                if moved && lane.state != State::Closed {
                    self.end_lane(index, How::Reset, text::UNKNOWN);
                    self.overtaken(index);
                }
                self.lanes[index as usize].retry_at_ms = 0;
                self.messages_due(index);
                continue;
            }
            if lane.clustered && moved && lane.pinned && lane.extra_ms > 0 {
                // The node itself ends what blocks there, and has not executed it.
                lane.retired = true;
                continue;
            }
            lane.followed = followed;
            if tells_forks && lane.ask_at_ms == u64::MAX && !lane.pinned {
                lane.ask_at_ms = self.now_ms;
            }
            if moved && lane.state != State::Closed {
                self.lose_watch(index);
                self.disconnect(index);
                self.take_back(index, None);
                self.spent(index);
            }
        }
        // Only now is it known which subscribers have to be moved first.
        let open = self.is_open(pool, server);
        for index in 0..self.lanes.len() as u32 {
            let lane = &self.lanes[index as usize];
            let theirs = lane.pool == pool && lane.server == server && (!lane.retired || replaced);
            let owned = !lane.pinned || lane.owner.is_some();
            let kept = !lane.messages && lane.bulk == Bulk::No;
            if !theirs || !kept || !lane.is_to_primary() || !owned {
                continue;
            }
            if open {
                self.release(index);
            } else {
                self.hold(index);
            }
        }
        if self.address(pool, server).is_some() && !open {
            self.arm(self.now_ms + 1);
        }
        self.note_quiet(pool, server);
    }

    /// Whether requests to a server may be sent now.
    pub(super) fn is_open(&self, pool: u32, server: u32) -> bool {
        self.address(pool, server).is_some()
            && !(self.is_group(pool, server) && self.waits_for_subscribers(pool, server))
    }

    fn known(&self, pool: u32, server: u32) -> Option<&Known> {
        self.pools[pool as usize]
            .groups
            .get(server as usize)?
            .as_ref()
    }

    /// Whether a server is a group's, whose primary may move.
    pub(super) fn is_group(&self, pool: u32, server: u32) -> bool {
        self.known(pool, server)
            .is_some_and(|known| known.group.lease != Lease::Fixed)
    }

    /// Whether it is told of a group where its primary left an older history.
    pub(super) fn tells_forks(&self, pool: u32, server: u32) -> bool {
        self.known(pool, server)
            .is_some_and(|known| known.group.forks != Forks::Untold)
    }

    /// Where requests for a server go now. None: it has no primary, or none that may be believed.
    pub(super) fn address(&self, pool: u32, server: u32) -> Option<&Address> {
        let state = &self.pools[pool as usize];
        match self.known(pool, server) {
            Some(known) => match &known.group.phase {
                Phase::Serving { primary } if known.doubted.is_none() => Some(primary),
                Phase::Serving { .. } | Phase::Closing | Phase::None => None,
            },
            None => state
                .setup
                .settings
                .servers
                .get(server as usize)
                .map(|server| &server.address),
        }
    }

    /// The address that a lane is to be connected to, while it is wanted.
    #[must_use]
    pub fn address_of(&self, peer: Peer) -> Option<&Address> {
        self.address_of_lane(self.find_lane(peer)?)
    }

    pub(super) fn address_of_lane(&self, index: u32) -> Option<&Address> {
        let lane = &self.lanes[index as usize];
        match &lane.at {
            Some(replica) => Some(replica),
            None => self.address(lane.pool, lane.server),
        }
    }

    /// Reads from a lane no more, or again.
    fn mute(&mut self, index: u32, mute: bool) {
        let lane = &mut self.lanes[index as usize];
        if std::mem::replace(&mut lane.mute, mute) && !mute && lane.state != State::Closed {
            self.orders.push_back(Order::Resume(lane.peer(index)));
        }
    }

    /// Stops sending, but for the rest of a request that is half out.
    fn hold(&mut self, index: u32) {
        let lane = &mut self.lanes[index as usize];
        lane.held = Some(lane.half_sent(&self.desk.slots));
        self.arm_hold(index);
    }

    /// Sends again, on a new connection if there is none.
    fn release(&mut self, index: u32) {
        let lane = &mut self.lanes[index as usize];
        let waited = lane.held.take().is_some() || lane.state == State::Closed;
        lane.retry_at_ms = 0;
        lane.failures = 0;
        if !lane.recalled.is_empty() && lane.ring.handed() == 0 {
            self.take_back(index, None);
        } else if waited {
            self.drop_unwanted(index);
        }
        if !self.doubts_over(index) {
            return;
        }
        let lane = &self.lanes[index as usize];
        if lane.state == State::Closed && lane.is_wanted() {
            self.connect(index);
        } else {
            self.touch_lane(index);
        }
    }

    /// Whether a server's last requests before a switchover are answered; says so to who waits for it.
    pub(super) fn note_quiet(&mut self, pool: u32, server: u32) {
        let Some(known) = self.known(pool, server) else {
            return;
        };
        let rank = known.group.rank.clone();
        if known.group.phase != Phase::Closing || known.quiet.as_ref() == Some(&rank) {
            return;
        }
        let replaced = self.is_replaced(pool);
        let busy = self.lanes.iter().any(|lane| {
            lane.pool == pool
                && lane.server == server
                && (!lane.retired || replaced)
                && lane.is_to_primary()
                && if lane.pinned {
                    let blocks = lane.extra_ms > 0 || lane.messages;
                    // One that has no connection yet waits for the next primary.
                    let streams = lane.bulk != Bulk::No && lane.state != State::Closed;
                    lane.owner.is_some() && !blocks && (streams || lane.ring.handed() > 0)
                } else {
                    lane.ring.handed() > 0 || lane.held != Some(0)
                }
        });
        let owed = |acks: &super::acks::Acks| !acks.is_quiet();
        let acks = &self.pools[pool as usize].acks;
        let busy = busy || acks.get(server as usize).is_some_and(owed);
        if !busy && let Some(known) = &mut self.pools[pool as usize].groups[server as usize] {
            known.quiet = Some(rank.clone());
            self.orders
                .push_back(Order::Quiesced(pool as usize, server as usize, rank));
        }
    }

    /// Something was answered on a lane that is held.
    pub(super) fn held_replied(&mut self, index: u32) {
        let lane = &self.lanes[index as usize];
        let (pool, server) = (lane.pool, lane.server);
        self.note_quiet(pool, server);
        self.arm_hold(index);
    }

    /// The connection of a lane ends: what was watched over it may have changed since.
    pub(super) fn lose_watch(&mut self, index: u32) {
        let place = &self.lanes[index as usize];
        let owner = place.owner.filter(|_| !place.lent);
        if let Some(client) = owner.and_then(|owner| self.desk.find(owner))
            && let Some(cold) = &mut self.desk.clients[client as usize].cold
            && cold.watch == Watch::Yes
        {
            cold.watch = Watch::Lost;
        }
    }

    /// The answer to a transaction that has not been sent and whose watch went with the last connection.
    pub(super) fn void_watch(&mut self, index: u32) -> Option<&'static [u8]> {
        let lane = &mut self.lanes[index as usize];
        let null: &[u8] = if self.banks[lane.bank as usize].identity.resp3 {
            b"_\r\n"
        } else {
            b"*-1\r\n"
        };
        std::mem::take(&mut lane.unwatched).then_some(null)
    }

    /// A connection of one client's own that has ended with nothing left to ask: the client has none any more.
    pub(super) fn spent(&mut self, index: u32) {
        let lane = &self.lanes[index as usize];
        if lane.pinned
            && lane.state == State::Closed
            && lane.first == NONE
            && lane.recalled.is_empty()
        {
            self.pinned_down(index);
        }
    }
}
