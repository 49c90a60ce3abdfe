//! What HELLO tells of the server: one standalone server, of the lowest version among those behind.
//!
//! They are asked (INFO server) when a client wants to know and one of them was connected to since that was known: a version
//! changes with a restart or a failover at most, and nobody waits for a server that stands still. Where none can be asked
//! now, or none may be, it is the oldest version whose commands the table has.

use super::Core;
use super::info;
use super::intake::Taken;
use super::slots::Wait;
use super::split::Join;
use tandem_resp::Protocol;

/// The oldest version whose commands the table has.
const OLDEST: &[u8] = b"7.0.0";
const ASK_VERSION: &[u8] = b"*2\r\n$4\r\nINFO\r\n$6\r\nserver\r\n";

/// Who said HELLO.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Hello {
    pool: u32,
    id: u64,
    resp3: bool,
}

impl Hello {
    pub(super) fn pool(self) -> u32 {
        self.pool
    }

    /// The reply. `version`: what the servers have said, if they have.
    pub(super) fn write(self, version: Option<&[u8]>, reply: &mut Vec<u8>) {
        let (protocol, number) = match self.resp3 {
            true => (Protocol::Resp3, 3),
            false => (Protocol::Resp2, 2),
        };
        tandem_resp::write_map_header(7, protocol, reply);
        let version = version.unwrap_or(OLDEST);
        for (field, value) in [(&b"server"[..], &b"redis"[..]), (b"version", version)] {
            tandem_resp::write_bulk(field, reply);
            tandem_resp::write_bulk(value, reply);
        }
        for (field, value) in [(&b"proto"[..], number), (b"id", self.id as i64)] {
            tandem_resp::write_bulk(field, reply);
            tandem_resp::write_integer(value, reply);
        }
        for (field, value) in [(&b"mode"[..], &b"standalone"[..]), (b"role", b"master")] {
            tandem_resp::write_bulk(field, reply);
            tandem_resp::write_bulk(value, reply);
        }
        tandem_resp::write_bulk(b"modules", reply);
        tandem_resp::write_array_header(0, reply);
    }
}

/// The lowest version that these replies to the question name.
pub(super) fn lowest<'r>(replies: impl Iterator<Item = &'r [u8]>) -> Option<&'r [u8]> {
    info::lowest_version(replies)
}

impl Core {
    /// Answers HELLO, once its client is whom it wants to be.
    pub(super) fn say_hello(&mut self, index: u32) -> Taken {
        let client = &self.desk.clients[index as usize];
        let hello = Hello {
            pool: client.pool,
            id: client.id,
            resp3: client.resp3,
        };
        self.note_versions();
        let state = &self.pools[hello.pool as usize];
        let servers = state.setup.settings.servers.len() as u32;
        let told = state.told_version.as_deref();
        let askable = |server| self.is_open(hello.pool, server);
        if told.is_some() || !(0..servers).all(askable) {
            let mut reply = self.desk.spare.take();
            hello.write(told, &mut reply);
            self.desk.say(index, &reply);
            self.desk.spare.give(reply);
            return Taken::Yes;
        }
        // No write that replicas would have to acknowledge.
        let asks = std::mem::replace(&mut self.asks, Wait::Lane);
        let taken = self.ask_everywhere(index, Join::Hello(hello), servers, ASK_VERSION);
        self.asks = asks;
        taken
    }

    /// Notes what the answers to earlier questions were.
    fn note_versions(&mut self) {
        for (pool, told) in std::mem::take(&mut self.desk.versions) {
            self.pools[pool as usize].told_version = Some(told);
        }
    }

    /// A server was connected to that requests of many go to: it may be another one.
    pub(super) fn forget_version(&mut self, lane: u32) {
        let lane = &self.lanes[lane as usize];
        if !lane.pinned && lane.aside.is_none() && lane.at.is_none() {
            self.pools[lane.pool as usize].told_version = None;
        }
    }
}
