//! Pools that want something of their groups' replicas: acknowledgements ([`acks`](super::acks)), reads
//! ([`reading`](super::reading)). Their clients' requests and their servers' replies pass by here; those of other
//! pools do not.

use super::desk::Desk;
use super::intake::Taken;
use super::lane::Lane;
use super::slots::Wait;
use super::{Core, text};
use crate::command::{self, Command, KeyList, PubSub, Route, Transaction};
use crate::frame::Request;
use crate::settings::ReadFrom;

/// What a look at a reply has shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Look {
    /// Nothing: it goes its way.
    Ordinary,
    /// It is taken care of.
    Done,
    /// This replica cannot answer now.
    Unfit,
}

/// What replicas say that cannot answer a read: the primary can.
const UNFIT: [&[u8]; 3] = [b"-LOADING ", b"-MASTERDOWN ", b"-NOAUTH "];

/// Looks at the reply to the oldest request of a lane.
#[inline(never)]
pub(super) fn look(lane: &mut Lane, desk: &mut Desk, reply: &[u8], now_ms: u64) -> Look {
    if lane.streaming {
        return Look::Ordinary;
    }
    if lane.at.is_some() {
        let unfit = reply.first() == Some(&b'-') && UNFIT.iter().any(|it| reply.starts_with(it));
        return if unfit { Look::Unfit } else { Look::Ordinary };
    }
    match desk.slots[lane.first].wait {
        Wait::Write => {}
        Wait::Lane | Wait::Ack | Wait::Split(_) | Wait::Turn(_) => return Look::Ordinary,
    }
    let slot = lane.dequeue(&desk.slots);
    if lane.acked {
        lane.withheld.push(slot, reply, desk, now_ms);
    } else {
        desk.note_write(slot);
        desk.answer(slot, reply);
    }
    Look::Done
}

impl Core {
    /// A request of a client whose pool wants something of replicas.
    #[inline(never)]
    pub(super) fn particularly(
        &mut self,
        index: u32,
        command: &'static Command,
        request: &Request<'_>,
    ) -> Taken {
        let client = &self.desk.clients[index as usize];
        let replicas = self.pools[client.pool as usize].setup.settings.replicas;
        if replicas.read == ReadFrom::Replica {
            if let Some(taken) = self.read_at_replica(index, command, request) {
                return taken;
            }
            if self.desk.clients[index as usize].away {
                if !self.desk.quiet(index) {
                    return Taken::Wait;
                }
                self.desk.clients[index as usize].away = false;
            }
        }
        let acked_read = replicas.ack.is_some_and(|ack| ack.reads);
        if command.may_repeat() && !acked_read || command.route == Route::Wait {
            // WAIT is its own acknowledgement.
            return self.in_its_way(index, command, request);
        }
        if replicas.ack.is_some() && self.nobody_would_acknowledge(index, command, request) {
            if command.route == Route::Transaction(Transaction::Exec) {
                self.give_up_transaction(index);
            }
            return self.wrong(index, text::NOREPLICAS);
        }
        self.asks = Wait::Write;
        let taken = self.in_its_way(index, command, request);
        self.asks = Wait::Lane;
        taken
    }

    /// As in any other pool.
    fn in_its_way(
        &mut self,
        index: u32,
        command: &'static Command,
        request: &Request<'_>,
    ) -> Taken {
        if let Some(taken) = self.specially(index, command, request) {
            return taken;
        }
        self.routed(index, command, request)
    }

    /// Whether a request concerns a server whose replicas do not acknowledge now.
    fn nobody_would_acknowledge(
        &mut self,
        index: u32,
        command: &'static Command,
        request: &Request<'_>,
    ) -> bool {
        let client = &self.desk.clients[index as usize];
        let pool = client.pool;
        if self.pools[pool as usize].alone == 0 {
            return false;
        }
        match command.route {
            Route::OneKey { .. }
            | Route::Split { .. }
            | Route::Keys
            | Route::Script
            | Route::Blocking(_)
            | Route::AnyShard => {
                let mut keys = KeyList::default();
                // Arguments that do not say where keys are: any server will say why.
                let _ = command::keys(command, request, &mut keys);
                let concerned = |key: &command::Key| {
                    let key = request.argument(key.at as usize).unwrap_or_default();
                    let server = self.server_for(pool, key);
                    server.is_some_and(|server| self.is_alone(pool, server))
                };
                keys.keys().is_empty() || keys.keys().iter().any(concerned)
            }
            Route::Transaction(Transaction::Exec) => {
                let multi = client.cold.as_ref().and_then(|cold| cold.multi.as_ref());
                multi.is_some_and(|multi| !multi.broken)
            }
            Route::OnlyShard
            | Route::AllShards(_)
            | Route::AllNodes(_)
            | Route::Scan
            | Route::PubSub(PubSub::Publish(_)) => true,
            // Nothing of them reaches a server, or nothing that an acknowledgement is about.
            Route::Wait
            | Route::Monitor
            | Route::PubSub(PubSub::Subscribe(_) | PubSub::Unsubscribe(_) | PubSub::Inspect)
            | Route::Transaction(_)
            | Route::Connection(_)
            | Route::Local(_)
            | Route::Container
            | Route::Refused(_) => false,
        }
    }
}
