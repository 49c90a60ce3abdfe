//! MULTI to EXEC, kept here and sent to one server in one piece; WATCH over a connection of its own.
//!
//! A block that is written contiguously runs atomically on a connection that others share: nothing of theirs can come
//! between. So a transaction needs no connection of its own, and nothing is sent for one that is never finished. Only
//! WATCH changes the state of a connection.

use super::client::{Multi, Watch};
use super::cluster::slot_of_request;
use super::intake::Taken;
use super::scatter::{ANYWHERE, Shared};
use super::slots::{NONE, Owner, Slot};
use super::upload::BUDGET;
use super::{Core, How, SCRATCH, text};
use crate::command::{Command, Connection, Local, PubSub, Route, Transaction};
use crate::frame::Request;

/// Bytes of a transaction.
const LARGEST: usize = 16 * 1024 * 1024;
/// Its requests.
const LONGEST: usize = 64 * 1024;

pub(super) const MULTI: &[u8] = b"*1\r\n$5\r\nMULTI\r\n";
pub(super) const EXEC: &[u8] = b"*1\r\n$4\r\nEXEC\r\n";
const UNWATCH: &[u8] = b"*1\r\n$7\r\nUNWATCH\r\n";

impl Core {
    /// MULTI and its family, outside of a transaction.
    pub(super) fn transaction(
        &mut self,
        index: u32,
        which: Transaction,
        command: &'static Command,
        request: &Request<'_>,
    ) -> Taken {
        match which {
            Transaction::Multi => {
                self.desk.cold(index).multi = Some(Box::default());
                self.desk.clients[index as usize].set_special();
                self.desk.say(index, b"+OK\r\n");
            }
            Transaction::Exec => self.desk.say(index, b"-ERR EXEC without MULTI\r\n"),
            Transaction::Discard => self.desk.say(index, b"-ERR DISCARD without MULTI\r\n"),
            Transaction::Watch => return self.watch(index, command, request),
            Transaction::Unwatch => {
                self.unwatch(index);
                self.desk.say(index, b"+OK\r\n");
            }
        }
        Taken::Yes
    }

    fn watch(&mut self, index: u32, command: &'static Command, request: &Request<'_>) -> Taken {
        let Some(server) = self.shared_server(index, command, request) else {
            return Taken::Yes;
        };
        let lane = match self.pinned_to(index, server) {
            Ok(Some(lane)) => lane,
            Ok(None) => {
                if !self.desk.quiet(index) {
                    return Taken::Wait;
                }
                match self.pin(index, server) {
                    Some(lane) => lane,
                    None => return Taken::Yes,
                }
            }
            Err(error) => {
                self.desk.say(index, error);
                return Taken::Yes;
            }
        };
        self.lanes[lane as usize].watched = true;
        let cold = self.desk.cold(index);
        if cold.watch == Watch::No {
            cold.watch = Watch::Yes;
        }
        self.desk.clients[index as usize].set_special();
        self.forward_on(lane, index, request.bytes())
    }

    /// Nothing is watched any more.
    pub(super) fn unwatch(&mut self, index: u32) {
        let client = &mut self.desk.clients[index as usize];
        let Some(cold) = &mut client.cold else { return };
        let before = std::mem::take(&mut cold.watch);
        client.set_special();
        let pinned = client.pinned;
        if before == Watch::Yes && pinned != NONE {
            // The connection goes back when this is answered.
            self.send_unheard(pinned, UNWATCH);
        }
    }

    /// A request between MULTI and EXEC. None: it ends the transaction by itself.
    pub(super) fn in_multi(
        &mut self,
        index: u32,
        command: &'static Command,
        request: &Request<'_>,
    ) -> Option<Taken> {
        match command.route {
            Route::Transaction(Transaction::Exec) => return Some(self.exec(index)),
            Route::Transaction(Transaction::Discard) => {
                self.desk.cold(index).multi = None;
                self.desk.say(index, b"+OK\r\n");
                return Some(self.transaction_over(index));
            }
            Route::Transaction(Transaction::Multi) => {
                self.desk
                    .say(index, b"-ERR MULTI calls can not be nested\r\n");
                return Some(Taken::Yes);
            }
            Route::Transaction(Transaction::Watch) => {
                self.desk
                    .say(index, b"-ERR WATCH inside MULTI is not allowed\r\n");
                return Some(Taken::Yes);
            }
            Route::Connection(Connection::Quit | Connection::Reset) => return None,
            // They would change a connection that is others' too, or concern several servers.
            Route::Connection(
                Connection::Auth | Connection::Hello | Connection::Select | Connection::Client,
            )
            | Route::PubSub(PubSub::Subscribe(_) | PubSub::Unsubscribe(_))
            | Route::Local(Local::ClusterDisabled)
            | Route::Container
            | Route::Refused(_)
            | Route::Scan
            | Route::Monitor
            | Route::Wait => {
                let error = text::about(
                    "",
                    command.name.as_bytes(),
                    " is not let through the proxy inside MULTI",
                );
                return Some(self.wrong(index, &error));
            }
            Route::AllShards(_) | Route::AllNodes(_) | Route::OnlyShard => {
                let pool = self.desk.clients[index as usize].pool;
                if self.pools[pool as usize].setup.settings.servers.len() > 1 {
                    let error = text::about(
                        "",
                        command.name.as_bytes(),
                        " concerns all servers of this proxy, a transaction only one",
                    );
                    return Some(self.wrong(index, &error));
                }
            }
            Route::OneKey { .. }
            | Route::Split { .. }
            | Route::Keys
            | Route::Script
            | Route::Blocking(_)
            | Route::AnyShard
            | Route::PubSub(PubSub::Publish(_) | PubSub::Inspect)
            | Route::Transaction(Transaction::Unwatch)
            | Route::Local(_) => {}
        }
        Some(self.queue(index, command, request))
    }

    fn queue(&mut self, index: u32, command: &'static Command, request: &Request<'_>) -> Taken {
        if self.has_long_key(index, command, request) {
            return self.wrong(index, text::KEY_TOO_LONG);
        }
        let server = match self.servers_of_keys(index, command, request) {
            Shared::Nowhere => None,
            Shared::At(server) => Some(server),
            Shared::Apart(_) => return self.wrong(index, text::CROSS_SHARD),
            Shared::Anywhere => return self.wrong(index, text::CROSS_PATTERN),
            Shared::Nobody => return self.wrong(index, text::unreachable(How::Refused)),
        };
        let pool = self.desk.clients[index as usize].pool;
        let clustered = self.pools[pool as usize].cluster.is_some();
        let slot = if clustered {
            slot_of_request(request.bytes())
        } else {
            None
        };
        let Some(multi) = &mut self.desk.cold(index).multi else {
            return Taken::Yes;
        };
        let apart = match (multi.slot, slot) {
            (Some(before), Some(now)) => before != now,
            _ if clustered => false,
            _ => matches!((multi.server, server), (Some(before), Some(now)) if before != now),
        };
        if apart {
            return self.wrong(index, text::CROSS_SHARD);
        }
        if multi.bytes.len() + request.bytes().len() > LARGEST || multi.lengths.len() >= LONGEST {
            return self.wrong(index, text::MULTI_TOO_LARGE);
        }
        let grows = multi.bytes.len() + request.bytes().len() > multi.bytes.capacity();
        if grows
            && multi.bytes.len() > SCRATCH
            && self.desk.gathered + self.desk.multi_bytes() > BUDGET
        {
            return self.wrong(index, text::OVER_BUDGET);
        }
        let Some(multi) = &mut self.desk.cold(index).multi else {
            return Taken::Yes;
        };
        multi.server = if clustered {
            // The slot is the same; where it is may have changed.
            server.or(multi.server)
        } else {
            multi.server.or(server)
        };
        multi.slot = multi.slot.or(slot);
        multi.bytes.extend_from_slice(request.bytes());
        multi.lengths.push(request.bytes().len() as u32);
        self.desk.say(index, b"+QUEUED\r\n");
        Taken::Yes
    }

    fn exec(&mut self, index: u32) -> Taken {
        let client = &self.desk.clients[index as usize];
        let (pool, pinned, resp3) = (client.pool, client.pinned, client.resp3);
        let watch = client.cold.as_ref().map_or(Watch::No, |cold| cold.watch);
        let Some(multi) = self.desk.cold(index).multi.take() else {
            return Taken::Yes;
        };
        if multi.broken {
            self.desk.say(index, text::EXECABORT);
            return self.transaction_over(index);
        }
        if watch == Watch::Lost {
            // Nobody knows whether the keys were changed meanwhile: as if they were.
            self.desk
                .say(index, if resp3 { b"_\r\n" } else { b"*-1\r\n" });
            return self.transaction_over(index);
        }
        let watched =
            (watch == Watch::Yes && pinned != NONE).then(|| self.lanes[pinned as usize].server);
        if let (Some(watched), Some(server)) = (watched, multi.server)
            && watched != server
        {
            self.desk.say(index, text::CROSS_SHARD);
            return self.transaction_over(index);
        }
        let named = watched.or(multi.server);
        let Some(server) = named.or_else(|| self.server_for(pool, ANYWHERE)) else {
            self.nobody(index);
            return self.transaction_over(index);
        };
        let lane = self.lane_for(index, server);
        if !self.open_for(lane, index, MULTI.len() + multi.bytes.len() + EXEC.len()) {
            self.desk.cold(index).multi = Some(multi);
            return Taken::Wait;
        }
        if let Some(error) = self.shut(lane) {
            self.desk.say(index, error);
            return self.transaction_over(index);
        }
        self.send_block(lane, index, &multi);
        self.keep_block(lane, &multi.bytes, multi.lengths.len());
        // EXEC ends the watch, whatever it answers.
        self.desk.cold(index).watch = Watch::No;
        self.desk.clients[index as usize].set_special();
        Taken::Yes
    }

    /// All of it in one piece; of its replies only EXEC's is the client's.
    fn send_block(&mut self, lane: u32, index: u32, multi: &Multi) {
        let mut rest = &multi.bytes[..];
        for &length in &multi.lengths {
            let (request, after) = rest.split_at(length as usize);
            rest = after;
            self.bring_script(lane, request);
        }
        self.send_unheard(lane, MULTI);
        let mut rest = &multi.bytes[..];
        for &length in &multi.lengths {
            let (request, after) = rest.split_at(length as usize);
            rest = after;
            self.send_unheard(lane, request);
        }
        self.lanes[lane as usize].ring.push(EXEC);
        let slot = self.desk.expect(
            index,
            Slot {
                owner: Owner::Client(index),
                wait: self.asks,
                next_in_lane: NONE,
                next_of_client: NONE,
                len: EXEC.len() as u32,
                since: self.now_ms as u32,
            },
        );
        self.enter(lane, slot, EXEC.len());
    }

    /// EXEC cannot be sent: the transaction is dropped, and its client is told why.
    pub(super) fn give_up_transaction(&mut self, index: u32) {
        self.desk.cold(index).multi = None;
        self.transaction_over(index);
    }

    /// A transaction that was not sent is over, and with it what was watched for it.
    fn transaction_over(&mut self, index: u32) -> Taken {
        self.unwatch(index);
        self.desk.clients[index as usize].set_special();
        Taken::Yes
    }

    /// The one server of a request's keys. None: there is none, and the client was told.
    pub(super) fn shared_server(
        &mut self,
        index: u32,
        command: &'static Command,
        request: &Request<'_>,
    ) -> Option<u32> {
        let pool = self.desk.clients[index as usize].pool;
        let server = match self.servers_of_keys(index, command, request) {
            Shared::At(server) => Some(server),
            Shared::Nowhere => self.server_for(pool, ANYWHERE),
            Shared::Apart(_) => {
                self.desk.say(index, text::CROSS_SHARD);
                return None;
            }
            Shared::Anywhere => {
                self.desk.say(index, text::CROSS_PATTERN);
                return None;
            }
            Shared::Nobody => None,
        };
        if server.is_none() {
            self.nobody(index);
        }
        server
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_block_is_what_a_client_would_have_sent() {
        for (bytes, word) in [(MULTI, "MULTI"), (EXEC, "EXEC"), (UNWATCH, "UNWATCH")] {
            let mut encoded = Vec::new();
            tandem_resp::encode_command(&[word], &mut encoded);
            assert_eq!(bytes, encoded);
        }
    }
}
