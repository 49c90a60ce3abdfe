//! WAITAOF of clients: how many servers have what a client has written in their files.
//!
//! ```text
//!   client --WAITAOF--> for each server, on a connection for this alone:  PUBLISH to nobody, WAITAOF
//!          <----------- the least of what they say, file by file
//! ```
//! A server answers for the connection that asks, and on one that has written nothing newer servers answer at once, and
//! untruly: the message makes it wait for everything up to now. What was lost with a primary is in no file of the next one:
//! a client that was here before its primary moved is told so once, as with WAIT ([`waits`](super::waits)), and so is one who
//! waits while the connection to its primary ends.
//!
//! Such a connection blocks, so nobody shares it, and it is not its client's own, which may watch something meanwhile: it is
//! lent for one question. A client that leaves takes it along.

use super::intake::Taken;
use super::lane::{Lane, State};
use super::slots::Owner;
use super::split::Join;
use super::{Core, Peer, text};
use crate::command::{self, Blocks, Command, Refusal};
use crate::frame::Request;

/// A message to nobody.
const TO_NOBODY: &[u8] = b"*3\r\n$7\r\nPUBLISH\r\n$11\r\ntandem:wait\r\n$0\r\n\r\n";
/// No file has it: neither the primary's nor a replica's.
pub(super) const IN_NONE: &[u8] = b"*2\r\n:0\r\n:0\r\n";

/// Whether a request with this stamp asks for that.
pub(super) fn is_about_files(command: u16) -> bool {
    command::find(b"WAITAOF").is_some_and(|it| it.id == command)
}

impl Core {
    /// `WAITAOF local replicas milliseconds`.
    pub(super) fn wait_for_files(
        &mut self,
        index: u32,
        command: &'static Command,
        request: &Request<'_>,
    ) -> Taken {
        let pool = self.desk.clients[index as usize].pool;
        if self.pools[pool as usize].cluster.is_some() {
            self.refused(index, command, Refusal::Cluster);
            return Taken::Yes;
        }
        // What it wrote is to be on its way before the message.
        if !self.desk.quiet(index) {
            return Taken::Wait;
        }
        let servers = self.pools[pool as usize].setup.settings.servers.len() as u32;
        if (0..servers).any(|server| self.has_lost_its_primary(index, server)) {
            // It has been told; what it writes from now on is another matter.
            self.desk.cold(index).waited = self.next_id;
            self.desk.say(index, IN_NONE);
            return Taken::Yes;
        }
        let extra_ms = match command::blocks_for(command, request) {
            Blocks::No => 0,
            Blocks::For(time) => u64::try_from(time.as_millis()).unwrap_or(u64::MAX),
            Blocks::Forever => u64::MAX,
        };
        let split = self.await_parts(index, Join::Files, 2 * servers as u16, &[]);
        for server in 0..servers {
            let parts = [server, servers + server].map(|part| part as u16);
            let lent = self.lend(index, server).ok_or(text::TOO_MANY_PINNED);
            let ready = lent.and_then(|lane| match self.shut(lane) {
                None => Ok(lane),
                Some(error) => {
                    self.give_back(lane);
                    Err(error)
                }
            });
            match ready {
                Ok(lane) => {
                    self.lanes[lane as usize].extra_ms = extra_ms;
                    for (part, bytes) in [(parts[1], TO_NOBODY), (parts[0], request.bytes())] {
                        self.lanes[lane as usize].ring.push(bytes);
                        self.enter_waiting_part(lane, split, part, bytes.len());
                    }
                }
                Err(error) => {
                    for part in parts {
                        self.desk.part_answered(split, part, error);
                    }
                }
            }
        }
        Taken::Yes
    }

    /// A connection for one question of this client. None: there are too many.
    fn lend(&mut self, index: u32, server: u32) -> Option<u32> {
        let client = &self.desk.clients[index as usize];
        let (peer, pool, bank) = (client.peer(index), client.pool, client.bank);
        let lane = self.pin_for(peer, (pool, server), bank)?;
        self.lanes[lane as usize].lent = true;
        self.pins.lent += 1;
        Some(lane)
    }

    /// The question is answered.
    pub(super) fn give_back(&mut self, lane: u32) {
        self.lanes[lane as usize].lent = false;
        self.pins.lent -= 1;
        self.unpin_lane(lane);
    }

    /// A lent connection has ended by itself, and who asked was told.
    pub(super) fn lent_down(&mut self, lane: u32) {
        let place = &mut self.lanes[lane as usize];
        place.lent = false;
        place.owner = None;
        self.pins.lent -= 1;
        self.pins.taken -= 1;
        self.pins.free.push(lane);
    }

    /// Whoever asked on a lent connection may have been told without it.
    pub(super) fn lent_if_wanted(&mut self, index: u32) {
        let place = &mut self.lanes[index as usize];
        if !place.lent || place.is_wanted() {
            return;
        }
        if place.state == State::Closed {
            return self.lent_down(index);
        }
        place.lent = false;
        self.pins.lent -= 1;
        self.drop_pinned(index);
    }

    /// Whether a client has lent connections.
    pub(super) fn has_lent(&self, client: Peer) -> bool {
        self.pins.lent > 0 && self.lent_to(client).is_some()
    }

    fn lent_to(&self, client: Peer) -> Option<u32> {
        let theirs = |lane: &Lane| lane.lent && lane.owner == Some(client);
        self.lanes.iter().position(theirs).map(|lane| lane as u32)
    }

    /// A client has left: what was lent to it blocks for nobody.
    pub(super) fn drop_lent(&mut self, client: Peer) {
        while self.pins.lent > 0
            && let Some(lane) = self.lent_to(client)
        {
            self.lanes[lane as usize].lent = false;
            self.pins.lent -= 1;
            self.drop_pinned(lane);
        }
    }

    /// Whether a client was here before this primary moved, and was not told.
    fn has_lost_its_primary(&self, index: u32, server: u32) -> bool {
        let client = &self.desk.clients[index as usize];
        let told = client.cold.as_ref().map_or(0, |cold| cold.waited);
        client.id.max(told) < self.moved_before(client.pool, server)
    }

    /// Whose question this is, while that one is here.
    fn asks_about_files(&self, slot: u32) -> Option<u32> {
        let Owner::Part { split, .. } = self.desk.slots[slot].owner else {
            return None;
        };
        if !is_about_files(self.desk.slots.stamp(slot).command) {
            return None;
        }
        match self.desk.slots[self.desk.splits.slot(split)?].owner {
            Owner::Client(client) => Some(client),
            Owner::Part { .. } | Owner::Witness | Owner::Script | Owner::Nobody => None,
        }
    }

    /// Of a request that has lost its connection, or never had one: whether what it asks about may be lost, too.
    pub(super) fn files_are_lost(&self, lane: u32, slot: u32, handed: bool) -> bool {
        let Some(client) = self.asks_about_files(slot) else {
            return false;
        };
        let place = &self.lanes[lane as usize];
        let era = self
            .witness(place.pool, place.server)
            .map_or(0, |it| it.era);
        let moved = place.era != 0 && place.era != era;
        handed || moved || self.has_lost_its_primary(client, place.server)
    }

    /// Tells who asked that.
    pub(super) fn tell_files_lost(&mut self, slot: u32) {
        if let Some(client) = self.asks_about_files(slot) {
            self.desk.cold(client).waited = self.next_id;
        }
        self.desk.answer(slot, IN_NONE);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_that_command_is_about_files() {
        let id = |name: &[u8]| command::find(name).unwrap().id;
        assert!(is_about_files(id(b"waitaof")));
        assert!(!is_about_files(id(b"wait")));
    }
}
