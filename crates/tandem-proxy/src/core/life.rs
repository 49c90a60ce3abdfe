//! How connections come up and end, what that means for those who wait, and what is due when.

use std::time::Instant;

use super::aside::{ASK_STANDING, Lineage};
use super::client::Life;
use super::identity::Identity;
use super::lane::{Lane, RING_BOUND, State};
use super::peer::{How, Peer, Side};
use super::slots::{NONE, Owner};
use super::upload::Bulk;
use super::{CONNECT, Core, Order, PATIENCE_MS, text};
use crate::frame::Scanner;

/// The first pause between two attempts to connect, once several have failed in a row.
const PAUSE_MS: u64 = 10;
/// The longest.
const PAUSE_MAX_MS: u64 = 1000;
/// So many failures in a row cost no pause: the first may be a server that was restarted a moment ago.
const FREE_FAILURES: u32 = 2;

impl Core {
    /// A connection that [`Order::Connect`] asked for is up.
    pub fn connected(&mut self, peer: Peer, now: Instant) {
        self.clock(now);
        let Some(index) = self.find_lane(peer) else {
            return;
        };
        if self.lanes[index as usize].followed && !self.lanes[index as usize].messages {
            // What those who have left had asked is not sent.
            self.take_back(index, None);
        }
        let settings = &self.pools[self.lanes[index as usize].pool as usize]
            .setup
            .settings;
        let lane = &mut self.lanes[index as usize];
        if !matches!(lane.state, State::Connecting { .. }) {
            return;
        }
        lane.counters.connections.add(1);
        lane.setup.clear();
        lane.setup_sent = 0;
        let identity = &self.banks[lane.bank as usize].identity;
        lane.theirs = identity.user.is_some();
        let mut left = setup(&mut lane.setup, settings, identity);
        if lane.acked && lane.is_to_primary() {
            lane.setup.extend_from_slice(ASK_STANDING);
            left += 1;
        }
        if !lane.doubts.is_empty() {
            // A dying server's port still takes connections: only one who answers, as a primary, is there again.
            lane.setup.extend_from_slice(super::witness::QUESTION);
            left += 1;
        }
        if left == 0 {
            self.ready(index);
        } else {
            let until_ms = self.now_ms + CONNECT.as_millis() as u64;
            lane.state = State::SettingUp { left, until_ms };
            self.arm(until_ms);
            self.touch_lane(index);
        }
    }

    /// A connection ended, or could not be made. For a client, [`How::Eof`] ends only what it says: what it is owed
    /// is still delivered, as twemproxy and Redis do for a half-closed socket.
    pub fn closed(&mut self, peer: Peer, how: How, now: Instant) {
        self.clock(now);
        match peer.side() {
            Side::Client => {
                if let Some(index) = self.desk.find(peer) {
                    let client = &self.desk.clients[index as usize];
                    let counters = &self.pools[client.pool as usize].setup.counters;
                    if how == How::Eof {
                        if client.life == Life::Open {
                            counters.client_eof.add(1);
                            let pool = client.pool;
                            if client.pinned == NONE && !self.has_lent(peer) {
                                let holds = |lane: &Lane| lane.pool == pool && lane.holds();
                                self.desk.clients[index as usize].gave_up =
                                    self.lanes.iter().any(holds);
                                self.desk.dismiss(index);
                            } else {
                                // One that was killed says no more than one that half closed, and what it blocks in
                                // would take something for nobody. Redis makes no difference either.
                                self.desk.leave(index);
                            }
                        }
                    } else {
                        counters.client_err.add(1);
                        self.desk.leave(index);
                    }
                }
            }
            Side::Lane => {
                if let Some(index) = self.find_lane(peer) {
                    self.lane_down(index, how);
                }
            }
        }
        self.settle();
    }

    /// Does what is due.
    pub fn tick(&mut self, now: Instant) {
        self.clock(now);
        if self.now_ms < self.due_ms {
            return;
        }
        self.due_ms = u64::MAX;
        self.sweep();
        self.end_idle();
        if !self.uploads.is_empty() {
            self.retry_uploads();
        }
        for index in 0..self.lanes.len() as u32 {
            self.lane_due(index);
        }
        self.acks_due();
        self.clusters_due();
        self.waits_due();
        self.arm_turn();
        self.settle();
    }

    /// Looks at what may be too late on one lane, and arms for what is not yet.
    fn lane_due(&mut self, index: u32) {
        let lane = &self.lanes[index as usize];
        if let Some(client) = lane.stalled_on {
            if lane.owner.is_some() {
                // It waits for itself alone; how much a subscriber may leave untaken is the server's to decide.
                return;
            }
            let since = self.desk.clients[client.index()].progress_ms;
            let waited = u64::from((self.now_ms as u32).wrapping_sub(since));
            let bounds = &self.pools[lane.pool as usize].setup.settings.bounds;
            let stall_ms = bounds.client_stall.as_millis() as u64;
            if waited <= PATIENCE_MS {
                self.lanes[index as usize].bound = RING_BOUND;
                self.arm(self.now_ms + PATIENCE_MS - waited + 1);
            } else if waited > stall_ms {
                if let Some(client) = self.desk.find(client) {
                    let pool = self.desk.clients[client as usize].pool;
                    self.pools[pool as usize].setup.counters.client_err.add(1);
                    self.desk.leave(client);
                }
            } else {
                self.lanes[index as usize].bound = 0;
                self.arm(self.now_ms + stall_ms - waited + 1);
            }
            return;
        }
        if lane.waits_for_turn() {
            // Its server is not late. Looked at when all is settled.
            return;
        }
        if lane.messages {
            self.messages_due(index);
        } else if lane.followed {
            self.held_due(index);
        }
        if self.lanes[index as usize].at.is_some() {
            self.replica_due(index);
        }
        let lane = &self.lanes[index as usize];
        if let State::Connecting { until_ms } | State::SettingUp { until_ms, .. } = lane.state {
            if self.now_ms >= until_ms {
                self.lane_down(index, How::TimedOut);
                return;
            }
            self.arm(until_ms);
        }
        let lane = &self.lanes[index as usize];
        let Some(timeout_ms) = self.pools[lane.pool as usize].timeout_ms else {
            return;
        };
        if lane.first == NONE || lane.extra_ms == u64::MAX {
            return;
        }
        let timeout_ms = timeout_ms.saturating_add(lane.extra_ms);
        if self.bulk_is_cut(index) && self.lanes[index as usize].ring.unsent() == 0 {
            // The rest is its client's to send.
            self.arm(self.now_ms + timeout_ms + 1);
            return;
        }
        let lane = &self.lanes[index as usize];
        let waited =
            u64::from((self.now_ms as u32).wrapping_sub(self.desk.slots[lane.first].since));
        if waited > timeout_ms {
            // As twemproxy: one request too late ends the connection, for everyone on it. Its reply may still come
            // and would be taken for another's.
            self.lane_down(index, How::TimedOut);
        } else {
            self.arm(self.now_ms + timeout_ms - waited + 1);
        }
    }

    /// Opens the connection of a lane.
    pub(super) fn connect(&mut self, index: u32) {
        let until_ms = self.now_ms + CONNECT.as_millis() as u64;
        let lane = &mut self.lanes[index as usize];
        debug_assert_eq!(lane.state, State::Closed, "one connection at a time");
        lane.state = State::Connecting { until_ms };
        if let Some(witness) = self.pools[lane.pool as usize]
            .witnesses
            .get(lane.server as usize)
        {
            lane.era = witness.era;
        }
        self.orders.push_back(Order::Connect(lane.peer(index)));
        self.arm(until_ms);
    }

    /// Every set-up reply was read: requests may be sent.
    pub(super) fn ready(&mut self, index: u32) {
        self.doubts_in_vain(index);
        let lane = &mut self.lanes[index as usize];
        lane.state = State::Ready;
        if lane.ask_at_ms != u64::MAX {
            lane.ask_at_ms = self.now_ms;
        }
        self.forget_version(index);
        self.renew(index);
        self.lane_let_in(index);
        self.aside_ready(index);
        self.touch_lane(index);
    }

    /// The server does not let us in; those who wait get its own words. Another primary would say the same of a wrong
    /// name: only who is loading, or has no primary, may think otherwise in a moment.
    pub(super) fn lane_refused(&mut self, index: u32, error: &[u8]) {
        if !self.lanes[index as usize].is_to_primary() {
            return self.end_lane(index, How::Protocol, error);
        }
        if self.lanes[index as usize].followed && super::recall::is_not_executed(error) {
            return self.suspend(index, How::Protocol);
        }
        let theirs = self.lane_kept_out(index, error);
        self.close_lane(index, How::Protocol);
        if self.lanes[index as usize].bulk != Bulk::No {
            self.fail_bulk(index, error);
            return;
        }
        if theirs {
            // A client's mistake; the next word of it deserves the server's own answer, too.
            self.lanes[index as usize].failures = 0;
            self.lanes[index as usize].retry_at_ms = 0;
        }
        self.fail_queued(index, error);
    }

    /// A lane's connection has ended, or must: everyone on it is told.
    pub(super) fn lane_down(&mut self, index: u32, how: How) {
        self.end_lane(index, how, text::unreachable(how));
    }

    pub(super) fn end_lane(&mut self, index: u32, how: How, error: &[u8]) {
        let lane = &self.lanes[index as usize];
        if lane.aside.is_some() {
            self.aside_down(index, how);
            return;
        }
        if lane.at.is_some() {
            self.replica_down(index, how);
            return;
        }
        // One that nobody has for itself any more is closed.
        let waits = !lane.pinned || lane.owner.is_some();
        if lane.bulk != Bulk::No {
            self.end_bulk(index, how, error);
            return;
        }
        if lane.messages {
            if waits && self.messages_stopped(index, how) {
                return;
            }
        } else if lane.followed && waits {
            self.suspend(index, how);
            return;
        }
        self.close_lane(index, how);
        self.fail_queued(index, error);
    }

    /// Everyone on a lane without connection is told.
    fn fail_queued(&mut self, index: u32, error: &[u8]) {
        self.end_claims(index, || Err(error.to_vec()));
        let lane = &mut self.lanes[index as usize];
        let counters = &self.pools[lane.pool as usize].setup.counters;
        counters.forward_error.add(u64::from(lane.queued));
        if error == text::UNKNOWN {
            counters.unknown.add(u64::from(lane.queued));
        }
        while lane.first != NONE {
            let slot = lane.dequeue(&self.desk.slots);
            self.desk.answer(slot, error);
        }
        lane.gauge(&self.desk.slots);
        self.desk.wake.append(&mut lane.waiters);
        self.pinned_down(index);
    }

    /// Forgets the connection of a lane and counts its end; what waits on it stays.
    pub(super) fn close_lane(&mut self, index: u32, how: How) {
        let lane = &mut self.lanes[index as usize];
        let pool = &self.pools[lane.pool as usize].setup;
        match how {
            How::Eof => lane.counters.eof.add(1),
            How::TimedOut => lane.counters.timedout.add(1),
            How::Refused
            | How::Reset
            | How::Unreachable
            | How::NoName
            | How::Protocol
            | How::Failed => {
                lane.counters.err.add(1);
            }
        }
        pool.ejector.failed(lane.server as usize, self.now);
        lane.ended = how;
        lane.failures = lane.failures.saturating_add(1);
        // Where servers are left out that does what a pause would do, and every failure has to be counted.
        if lane.failures >= FREE_FAILURES && pool.settings.ejection.is_none() {
            let doubled = PAUSE_MS << (lane.failures - FREE_FAILURES).min(7);
            lane.retry_at_ms = self.now_ms + doubled.min(PAUSE_MAX_MS);
        }
        self.disconnect(index);
    }

    /// Forgets the connection of a lane, whoever is to blame; what waits on it stays.
    pub(super) fn disconnect(&mut self, index: u32) {
        if !self.lanes[index as usize].withheld.is_empty() {
            // While it is still known which history they are of.
            self.take_withheld(index);
            self.give_up_left(index);
        }
        let lane = &mut self.lanes[index as usize];
        lane.lineage = Lineage::UNKNOWN;
        match lane.state {
            State::Closed => return,
            State::Connecting { .. } => {}
            State::SettingUp { .. } => lane.counters.connections.sub(1),
            State::Ready => {
                lane.counters.connections.sub(1);
                lane.unwatched |= std::mem::take(&mut lane.watched);
            }
        }
        lane.mute = false;
        self.orders.push_back(Order::Close(lane.peer(index)));
        lane.generation = lane.generation.wrapping_add(1);
        lane.state = State::Closed;
        lane.scanner = Scanner::new();
        lane.loaded.clear();
        if lane.stalled_on.take().is_some() {
            self.desk.stalling -= 1;
            lane.bound = RING_BOUND;
        }
        lane.early_over(&mut self.desk);
        let input = std::mem::take(&mut lane.input);
        self.desk.spare.give(input);
        if lane.streaming {
            lane.streaming = false;
            if let Owner::Client(client) = self.desk.slots[lane.first].owner {
                // It has the start of a reply and will never get the rest: nothing that follows could be understood.
                self.desk.leave(client);
            }
        }
    }
}

/// Writes what a fresh connection must say first; how many replies that gives.
fn setup(out: &mut Vec<u8>, settings: &crate::settings::Pool, identity: &Identity) -> u8 {
    let mut replies = 0;
    let mut command = |arguments: &[&[u8]]| {
        tandem_resp::encode_command(arguments, out);
        replies += 1;
    };
    let password = settings.password.as_deref().map(str::as_bytes);
    let name = settings.access.server_user.as_deref().map(str::as_bytes);
    match (identity.resp3, &identity.user, password) {
        (resp3, Some(user), _) => {
            match &user.name {
                Some(name) => command(&[b"AUTH", name, &user.password]),
                None => command(&[b"AUTH", &user.password]),
            }
            if resp3 {
                command(&[b"HELLO", b"3"]);
            }
        }
        (true, None, Some(password)) => {
            command(&[
                b"HELLO",
                b"3",
                b"AUTH",
                name.unwrap_or(b"default"),
                password,
            ]);
        }
        (true, None, None) => command(&[b"HELLO", b"3"]),
        (false, None, Some(password)) => match name {
            Some(name) => command(&[b"AUTH", name, password]),
            None => command(&[b"AUTH", password]),
        },
        (false, None, None) => {}
    }
    // twemproxy sends SELECT before AUTH, which a server with a password refuses unseen: its users' data is in
    // database 0, and is looked for there.
    let unseen = settings.compat == crate::settings::Compat::Twemproxy && password.is_some();
    if identity.database != 0 && !unseen {
        command(&[b"SELECT", identity.database.to_string().as_bytes()]);
    }
    replies
}
