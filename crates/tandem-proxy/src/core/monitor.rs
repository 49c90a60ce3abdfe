//! MONITOR: over a connection of its own, what the server behind says of every command that it executes.
//!
//! It is that server's view: clients of the proxy have the proxy's address there, and what the proxy asks for itself is
//! seen, too. Nothing is made up where several servers are behind: then it is refused. When the primary moves its
//! client's connection ends, as one to the server itself would.

use super::intake::Taken;
use super::slots::NONE;
use super::{Core, text};
use crate::command::{Command, Connection, Local, Refusal, Route};
use crate::frame::Request;

/// What is allowed meanwhile, after the name of a command.
const ONLY_MONITORING: &str = ": only PING / QUIT / RESET are allowed while MONITOR runs";

impl Core {
    /// MONITOR of one who does not yet.
    pub(super) fn monitor(
        &mut self,
        index: u32,
        command: &'static Command,
        request: &Request<'_>,
    ) -> Taken {
        let client = &self.desk.clients[index as usize];
        let (pool, pinned) = (client.pool, client.pinned);
        if self.pools[pool as usize].setup.settings.servers.len() > 1 {
            self.refused(index, command, Refusal::OneServer);
            return Taken::Yes;
        }
        if pinned != NONE {
            self.desk.say(index, text::PINNED_ELSEWHERE);
            return Taken::Yes;
        }
        if !self.desk.quiet(index) {
            return Taken::Wait;
        }
        if !self.is_open(pool, 0) {
            // It concerns what happens now, so there is nothing to wait for.
            self.desk.say(index, text::NO_PRIMARY);
            return Taken::Yes;
        }
        let Some(lane) = self.pin(index, 0) else {
            return Taken::Yes;
        };
        if let Some(error) = self.shut(lane) {
            self.desk.say(index, error);
            self.unpin(index);
            return Taken::Yes;
        }
        let place = &mut self.lanes[lane as usize];
        place.messages = true;
        place.extra_ms = u64::MAX;
        place.ring.push(request.bytes());
        let cold = self.desk.cold(index);
        cold.subscribed = true;
        cold.subscriptions = None;
        self.desk.clients[index as usize].set_special();
        self.touch_lane(lane);
        Taken::Yes
    }

    /// A request of one whose MONITOR runs. None: the ordinary thing.
    pub(super) fn while_monitoring(
        &mut self,
        index: u32,
        command: &'static Command,
    ) -> Option<Taken> {
        match command.route {
            Route::Connection(Connection::Quit | Connection::Reset) | Route::Local(Local::Ping) => {
                None
            }
            // A server does not answer the second one.
            Route::Monitor => Some(Taken::Yes),
            _ => {
                let name = command.name.as_bytes();
                let error = text::about("Can't execute ", name, ONLY_MONITORING);
                self.desk.say(index, &error);
                Some(Taken::Yes)
            }
        }
    }
}
