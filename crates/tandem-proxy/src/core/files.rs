//! WAITAOF of clients: how many servers have what a client has written in their files.
//!
//! A server answers for the connection that asks, so it is asked on one of its client's own, behind a message to nobody: on
//! a connection that has written nothing newer servers answer at once, and untruly. What was lost with a primary is in no
//! file of the next one: a client that was here before its primary moved is told so once, as with WAIT
//! ([`waits`](super::waits)), and so is one who waits while the connection to its primary ends.

use super::Core;
use super::intake::Taken;
use super::slots::Owner;
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
        if self.pools[pool as usize].setup.settings.servers.len() > 1 {
            self.refused(index, command, Refusal::Files);
            return Taken::Yes;
        }
        if !self.desk.quiet(index) {
            return Taken::Wait;
        }
        if self.has_lost_its_primary(index) {
            // It has been told; what it writes from now on is another matter.
            self.desk.cold(index).waited = self.next_id;
            self.desk.say(index, IN_NONE);
            return Taken::Yes;
        }
        let lane = match self.own_lane(index, 0) {
            Ok(Some(lane)) => lane,
            Ok(None) => return Taken::Yes,
            Err(error) => {
                self.desk.say(index, error);
                return Taken::Yes;
            }
        };
        self.lanes[lane as usize].extra_ms = match command::blocks_for(command, request) {
            Blocks::No => 0,
            Blocks::For(time) => u64::try_from(time.as_millis()).unwrap_or(u64::MAX),
            Blocks::Forever => u64::MAX,
        };
        self.send_unheard(lane, TO_NOBODY);
        self.forward_on(lane, index, request.bytes())
    }

    /// A request goes back into a lane: with the message before it, which nobody waits for and which was dropped.
    pub(super) fn bring_message(&mut self, lane: u32, slot: u32) {
        if is_about_files(self.desk.slots.stamp(slot).command) {
            self.queue_unheard(lane, slot, TO_NOBODY);
        }
    }

    /// Whether a client of one group was here before its primary moved, and was not told.
    fn has_lost_its_primary(&self, index: u32) -> bool {
        let client = &self.desk.clients[index as usize];
        let told = client.cold.as_ref().map_or(0, |cold| cold.waited);
        client.id.max(told) < self.moved_before(client.pool, 0)
    }

    /// Of a request that has lost its connection, or never had one: whether what it asks about may be lost, too.
    pub(super) fn files_are_lost(&self, lane: u32, slot: u32, handed: bool) -> bool {
        let Owner::Client(client) = self.desk.slots[slot].owner else {
            return false;
        };
        if !is_about_files(self.desk.slots.stamp(slot).command) {
            return false;
        }
        let place = &self.lanes[lane as usize];
        let era = self
            .witness(place.pool, place.server)
            .map_or(0, |it| it.era);
        let moved = place.era != 0 && place.era != era;
        handed || moved || self.has_lost_its_primary(client)
    }

    /// Tells who asked that.
    pub(super) fn tell_files_lost(&mut self, slot: u32) {
        if let Owner::Client(client) = self.desk.slots[slot].owner {
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
