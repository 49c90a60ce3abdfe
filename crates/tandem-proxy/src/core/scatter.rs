//! Requests that concern several servers, and those whose keys must share one.

use super::intake::Taken;
use super::slots::{NONE, Owner, Slot, Wait};
use super::split::{Join, push_decimal};
use super::{Core, text};
use crate::command::{self, Command, KeyList, Merge};
use crate::frame::{Request, Span};
use crate::placement::tagged;

/// What a split needs while it is made; kept to be filled again.
#[derive(Debug, Default)]
pub(super) struct Tally {
    /// Of each key, the server.
    servers: Vec<u32>,
    /// Of each key, the number of its part.
    order: Vec<u16>,
    /// One for each server that has a key.
    parts: Vec<Share>,
    keys: KeyList,
    spans: Vec<Span>,
}

#[derive(Debug)]
struct Share {
    server: u32,
    lane: u32,
    arguments: usize,
    /// Of its request: the line that says how many arguments, and the name.
    head: usize,
    /// Of its request, all.
    bytes: usize,
}

/// The arguments of a request, found once.
pub(super) struct Indexed<'a> {
    bytes: &'a [u8],
    spans: &'a [Span],
}

impl Tally {
    /// The arguments of a request, and the list for its keys.
    pub(super) fn index<'a>(&'a mut self, request: &Request<'a>) -> (Indexed<'a>, &'a mut KeyList) {
        self.spans.clear();
        self.spans.extend(request.arguments().map(|argument| Span {
            start: argument.start,
            len: argument.value.len() as u32,
        }));
        let indexed = Indexed {
            bytes: request.bytes(),
            spans: &self.spans,
        };
        (indexed, &mut self.keys)
    }
}

impl command::Args for Indexed<'_> {
    fn count(&self) -> usize {
        self.spans.len()
    }

    fn arg(&self, at: usize) -> &[u8] {
        let span = self.spans[at];
        &self.bytes[span.start as usize..(span.start + span.len) as usize]
    }
}

impl Core {
    /// Cuts a request by the servers of its keys. With one server it goes as it came, as twemproxy does for one key.
    pub(super) fn split(
        &mut self,
        index: u32,
        command: &'static Command,
        (first, step): (usize, usize),
        merge: Merge,
        request: &Request<'_>,
    ) -> Taken {
        if !(request.count() - first).is_multiple_of(step) {
            return self.wrong_number(index, command);
        }
        let pool = self.desk.clients[index as usize].pool;
        if self.pools[pool as usize].cluster.is_some() {
            return self.split_by_slot(index, command, (first, step), merge, request);
        }
        if self.pools[pool as usize].setup.settings.servers.len() == 1 {
            return self.forward(index, 0, request.bytes());
        }
        let mut tally = std::mem::take(&mut self.tally);
        let taken = if self.share_out(index, request, first, step, &mut tally) {
            match tally.parts[..] {
                [Share { server, .. }] => self.forward(index, server, request.bytes()),
                _ => self.send_parts(index, command, (first, step), merge, request, &mut tally),
            }
        } else {
            self.nobody(index);
            Taken::Yes
        };
        self.tally = tally;
        taken
    }

    /// Finds the server of each key, and how much each server gets. False: no server takes part.
    fn share_out(
        &mut self,
        index: u32,
        request: &Request<'_>,
        first: usize,
        step: usize,
        tally: &mut Tally,
    ) -> bool {
        tally.servers.clear();
        tally.order.clear();
        tally.parts.clear();
        let pool = self.desk.clients[index as usize].pool;
        let mut part = 0;
        for (at, argument) in request.arguments().skip(first).enumerate() {
            if at % step == 0 {
                let Some(server) = self.server_for(pool, argument.value) else {
                    return false;
                };
                part = match tally.parts.iter().position(|share| share.server == server) {
                    Some(part) => part,
                    None => {
                        let lane = self.lane_for(index, server);
                        tally.parts.push(Share {
                            server,
                            lane,
                            arguments: 0,
                            head: 0,
                            bytes: 0,
                        });
                        tally.parts.len() - 1
                    }
                };
                tally.order.push(part as u16);
            }
            let share = &mut tally.parts[part];
            share.arguments += 1;
            share.bytes += argument.wire.len();
        }
        !tally.parts.is_empty()
    }

    fn send_parts(
        &mut self,
        index: u32,
        command: &'static Command,
        (first, step): (usize, usize),
        merge: Merge,
        request: &Request<'_>,
        tally: &mut Tally,
    ) -> Taken {
        let name = command.name.as_bytes();
        let mut head = self.desk.spare.take();
        for share in &mut tally.parts {
            let before = head.len();
            head_of_part(&mut head, name, share.arguments + 1);
            share.head = head.len() - before;
            share.bytes += share.head;
        }
        // All or none: a part that waits while others are under way would be answered in another order.
        for share in &tally.parts {
            if !self.open_for(share.lane, index, share.bytes) {
                self.desk.spare.give(head);
                return Taken::Wait;
            }
        }
        let mut written = &head[..];
        for share in &tally.parts {
            let (this, rest) = written.split_at(share.head);
            written = rest;
            if self.shut(share.lane).is_none() {
                self.lanes[share.lane as usize].ring.push(this);
            }
        }
        for (at, argument) in request.arguments().skip(first).enumerate() {
            let share = &tally.parts[usize::from(tally.order[at / step])];
            let lane = &mut self.lanes[share.lane as usize];
            if lane.state != super::State::Closed {
                lane.ring.push(argument.wire);
            }
        }
        self.desk.spare.give(head);
        let parts = tally.parts.len() as u16;
        let order = if merge == Merge::InOrder {
            &tally.order[..]
        } else {
            &[]
        };
        let split = self.await_parts(index, Join::All(merge), parts, order);
        for (part, share) in tally.parts.iter().enumerate() {
            self.enter_part(share.lane, split, part as u16, share.bytes);
        }
        Taken::Yes
    }

    /// The client's slot for a reply that is put together.
    pub(super) fn await_parts(&mut self, index: u32, join: Join, parts: u16, order: &[u16]) -> u32 {
        let pool = self.desk.clients[index as usize].pool;
        self.pools[pool as usize]
            .setup
            .counters
            .fragments
            .add(u64::from(parts));
        let split = self.desk.splits.open(join, parts, order);
        let slot = self.desk.expect(
            index,
            Slot {
                owner: Owner::Client(index),
                wait: Wait::Split(split),
                next_in_lane: NONE,
                next_of_client: NONE,
                len: 0,
                since: self.now_ms as u32,
            },
        );
        self.desk.splits.bind(split, slot);
        split
    }

    /// A part whose bytes are in the ring; or, where no connection is to be had, the error at once.
    fn enter_part(&mut self, lane: u32, split: u32, part: u16, bytes: usize) {
        if self.lanes[lane as usize].state == super::State::Closed {
            let error = text::unreachable(self.lanes[lane as usize].ended);
            self.desk.part_answered(split, part, error);
            return;
        }
        self.enter_waiting_part(lane, split, part, bytes);
    }

    /// A part whose bytes are in the ring, of a lane that is connected or will be.
    pub(super) fn enter_waiting_part(&mut self, lane: u32, split: u32, part: u16, bytes: usize) {
        let slot = self.desk.slots.take(Slot {
            owner: Owner::Part { split, part },
            wait: self.asks,
            next_in_lane: NONE,
            next_of_client: NONE,
            len: bytes as u32,
            since: self.now_ms as u32,
        });
        self.enter(lane, slot, bytes);
    }

    /// The same request to every server of the pool.
    pub(super) fn everywhere(&mut self, index: u32, merge: Merge, request: &Request<'_>) -> Taken {
        let pool = self.desk.clients[index as usize].pool;
        if self.pools[pool as usize].cluster.is_some() {
            return self.everywhere_in_cluster(index, merge, request);
        }
        let servers = self.pools[pool as usize].setup.settings.servers.len() as u32;
        if servers == 1 {
            return self.forward(index, 0, request.bytes());
        }
        self.ask_everywhere(index, Join::All(merge), servers, request.bytes())
    }

    /// The same bytes to every server, and one reply made of theirs.
    pub(super) fn ask_everywhere(
        &mut self,
        index: u32,
        join: Join,
        servers: u32,
        bytes: &[u8],
    ) -> Taken {
        for server in 0..servers {
            let lane = self.lane_for(index, server);
            if !self.open_for(lane, index, bytes.len()) {
                return Taken::Wait;
            }
        }
        let split = self.await_parts(index, join, servers as u16, &[]);
        for server in 0..servers {
            let lane = self.lane_for(index, server);
            if self.shut(lane).is_none() {
                self.lanes[lane as usize].ring.push(bytes);
            }
            self.enter_part(lane, split, server as u16, bytes.len());
        }
        Taken::Yes
    }

    /// A part of a request that concerns one server, whose reply needs a change.
    pub(super) fn send_part(&mut self, index: u32, server: u32, join: Join, bytes: &[u8]) -> Taken {
        let lane = self.lane_for(index, server);
        if !self.open_for(lane, index, bytes.len()) {
            return Taken::Wait;
        }
        let split = self.await_parts(index, join, 1, &[]);
        if self.shut(lane).is_none() {
            self.lanes[lane as usize].ring.push(bytes);
        }
        self.enter_part(lane, split, 0, bytes.len());
        Taken::Yes
    }

    /// A request whose keys must be on one server.
    pub(super) fn together(
        &mut self,
        index: u32,
        command: &'static Command,
        request: &Request<'_>,
    ) -> Taken {
        match self.servers_of_keys(index, command, request) {
            Shared::At(server) => self.forward(index, server, request.bytes()),
            Shared::Apart(first) => {
                // twemproxy goes by the first key and lets the server sort it out; its users' data lies accordingly.
                let pool = self.desk.clients[index as usize].pool;
                let (count, keys) = (request.count(), &self.tally.keys);
                if self.pools[pool as usize].twemproxy
                    && command::deciding_argument(command, count, keys).is_some()
                {
                    return self.forward(index, first, request.bytes());
                }
                self.desk.say(index, text::CROSS_SHARD);
                Taken::Yes
            }
            Shared::Anywhere => {
                self.desk.say(index, text::CROSS_PATTERN);
                Taken::Yes
            }
            Shared::Nobody => {
                self.nobody(index);
                Taken::Yes
            }
            Shared::Nowhere => self.anywhere(index, request),
        }
    }

    /// Where the keys of a request are; [`Tally::keys`] holds them afterwards if there are several servers.
    pub(super) fn servers_of_keys(
        &mut self,
        index: u32,
        command: &'static Command,
        request: &Request<'_>,
    ) -> Shared {
        let pool = self.desk.clients[index as usize].pool;
        if self.pools[pool as usize].setup.settings.servers.len() == 1 {
            return Shared::At(0);
        }
        let mut tally = std::mem::take(&mut self.tally);
        let (indexed, keys) = tally.index(request);
        // Arguments that do not say where keys are: any server will say why.
        let _ = command::keys(command, &indexed, keys);
        let mut shared = Shared::Nowhere;
        for key in keys.keys() {
            let key = command::Args::arg(&indexed, key.at as usize);
            shared = match (shared, self.server_for(pool, key)) {
                (_, None) => Shared::Nobody,
                (Shared::Nowhere, Some(server)) => Shared::At(server),
                (Shared::At(before), Some(server)) if before == server => shared,
                (Shared::At(first), Some(_)) => Shared::Apart(first),
                (Shared::Apart(_) | Shared::Anywhere | Shared::Nobody, Some(_)) => shared,
            };
        }
        if tally.keys.has_patterns()
            && let Shared::At(server) = shared
            && !self.pools[pool as usize].twemproxy
        {
            let (indexed, keys) = tally.index(request);
            let _ = command::keys(command, &indexed, keys);
            let mut patterns = keys.patterns().iter();
            if !patterns.all(|&at| {
                let pattern = command::Args::arg(&indexed, at as usize);
                self.is_bound_to(pool, pattern, server)
            }) {
                shared = Shared::Anywhere;
            }
        }
        self.tally = tally;
        shared
    }

    /// Whether every key that a pattern of SORT may stand for is on this server: its hash tag says so, or nothing does.
    #[cold]
    fn is_bound_to(&mut self, pool: u32, pattern: &[u8], server: u32) -> bool {
        // After an arrow there is the name of a field.
        let star = memchr::memchr(b'*', pattern).unwrap_or(pattern.len());
        let arrow = memchr::memmem::find(&pattern[star..], b"->");
        let key = &pattern[..arrow.map_or(pattern.len(), |at| star + at)];
        let tag = self.pools[pool as usize].setup.settings.hash_tag;
        let hashed = tag.map_or(key, |tag| tagged(key, tag));
        memchr::memchr(b'*', hashed).is_none() && self.server_for(pool, key) == Some(server)
    }

    /// A request that any server can answer.
    pub(super) fn anywhere(&mut self, index: u32, request: &Request<'_>) -> Taken {
        self.by_key(index, ANYWHERE, request.bytes())
    }
}

/// The key that stands for none: always the same server, twemproxy's choice for LOLWUT and COMMAND.
pub(super) const ANYWHERE: &[u8] = b"placeholder";

/// Where the keys of one request are.
#[derive(Debug, Clone, Copy)]
pub(super) enum Shared {
    /// It has none.
    Nowhere,
    /// All on this server.
    At(u32),
    /// On several; this has the first.
    Apart(u32),
    /// Those that it names are on one; it reads others, which may be anywhere.
    Anywhere,
    /// No server takes part.
    Nobody,
}

/// `*count`, and the name.
pub(super) fn head_of_part(head: &mut Vec<u8>, name: &[u8], count: usize) {
    head.push(b'*');
    push_decimal(head, count as i64);
    head.extend_from_slice(b"\r\n$");
    push_decimal(head, name.len() as i64);
    head.extend_from_slice(b"\r\n");
    head.extend_from_slice(name);
    head.extend_from_slice(b"\r\n");
}
