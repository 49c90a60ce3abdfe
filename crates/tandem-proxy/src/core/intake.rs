//! What clients send: whole requests cut from the stream, and each put on its way.
//!
//! A request is either taken (on a lane, or answered) or it has to wait for room; then it and what follows stay in
//! the client's buffer and nothing is read until there is room. Order within a client is never changed.

use super::client::{Client, Hold, Life};
use super::desk::{OUTSTANDING, UNTAKEN};
use super::follow::RETRY_MS;
use super::lane::State;
use super::slots::{NONE, Owner, Slot, Stamp};
use super::{Core, Order, SCRATCH, text};
use crate::command::{self, Command, Route};
use crate::frame::{Limits, Request, RequestError, Scan};

/// Longest line of words, as Redis' `PROTO_INLINE_MAX_SIZE`.
const LINE: usize = 64 * 1024;

/// What became of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Taken {
    /// It is on its way or answered.
    Yes,
    /// A lane is full: again when [`Hold::Lane`] ends.
    Wait,
}

/// How much of an unfinished request counts: what one read brings is nothing special.
pub(super) fn gathered(bytes: usize) -> usize {
    if bytes > SCRATCH { bytes } else { 0 }
}

impl command::Args for Request<'_> {
    fn count(&self) -> usize {
        Request::count(self)
    }

    fn arg(&self, at: usize) -> &[u8] {
        self.argument(at).unwrap_or_default()
    }
}

impl Core {
    /// `count` bytes came from a client, behind those that were carried over.
    #[inline]
    pub(super) fn client_received(&mut self, index: u32, count: usize) {
        let mut scratch = std::mem::take(&mut self.scratch);
        let carried = std::mem::take(&mut self.carried);
        let mut input = std::mem::take(&mut self.desk.clients[index as usize].input);
        if input.len() > carried {
            // Too much to carry: a large request grows in its own buffer.
            input.extend_from_slice(&scratch[..count]);
            self.desk.gathered -= gathered(input.len() - count);
            let used = self.intake(index, &input);
            self.keep_input(index, input, used);
        } else {
            self.desk.spare.give(input);
            let total = carried + count;
            let used = self.intake(index, &scratch[..total]);
            if used < total {
                let mut input = self.desk.spare.take();
                input.extend_from_slice(&scratch[used..total]);
                self.desk.clients[index as usize].input = input;
            }
        }
        std::mem::swap(&mut self.scratch, &mut scratch);
    }

    /// Gives a client its own buffer back, without what is done.
    fn keep_input(&mut self, index: u32, mut input: Vec<u8>, used: usize) {
        if used == input.len() {
            self.desk.spare.give(input);
            return;
        }
        input.drain(..used);
        self.desk.gathered += gathered(input.len());
        self.desk.clients[index as usize].input = input;
    }

    /// A client that was held may go on: first with what it has sent already.
    pub(super) fn go_on(&mut self, index: u32) {
        let client = &mut self.desk.clients[index as usize];
        if client.life != Life::Open || (client.hold == Hold::Quiet && client.outstanding > 0) {
            return;
        }
        client.hold = Hold::No;
        let input = std::mem::take(&mut client.input);
        self.desk.gathered -= gathered(input.len());
        let used = self.intake(index, &input);
        self.keep_input(index, input, used);
        let client = &self.desk.clients[index as usize];
        if client.hold == Hold::No && client.life == Life::Open {
            self.orders.push_back(Order::Resume(client.peer(index)));
        }
    }

    /// Takes requests from the start of `bytes`. How many bytes are done with; the rest must be kept.
    fn intake(&mut self, index: u32, bytes: &[u8]) -> usize {
        if !self.inherited(index) {
            return 0;
        }
        let client = &mut self.desk.clients[index as usize];
        let generation = client.generation;
        let special = client.special;
        let mut scan = std::mem::take(&mut client.scan);
        let mut at = 0;
        if special {
            let (used, goes_on) = self.upload(index, bytes);
            if !goes_on {
                return used;
            }
            at = used;
        }
        while at < bytes.len() {
            let client = &mut self.desk.clients[index as usize];
            if client.generation != generation || client.life != Life::Open {
                // Gone, or sent away: what it says does not matter any more.
                return bytes.len();
            }
            if client.outstanding >= OUTSTANDING || client.unsent() >= UNTAKEN {
                client.hold = Hold::Own;
                break;
            }
            let rest = &bytes[at..];
            if Scan::is_inline(rest[0]) {
                match self.line(index, rest) {
                    Some((used, Taken::Yes)) => at += used,
                    Some((_, Taken::Wait)) | None => break,
                }
                continue;
            }
            if !scan.has_begun()
                && let Some(request) = Request::usual(rest)
            {
                if self.request(index, &request) == Taken::Wait {
                    break;
                }
                at += request.bytes().len();
                continue;
            }
            let limits = if client.stranger {
                &Limits::STRANGER
            } else {
                &Limits::CLIENT
            };
            match scan.advance(rest, limits) {
                Ok(Some(len)) => {
                    let request = scan.request(&rest[..len]);
                    scan = Scan::default();
                    if self.request(index, &request) == Taken::Wait {
                        break;
                    }
                    at += len;
                }
                Ok(None) => {
                    let used = self.unfinished(index, &scan, rest);
                    if used > 0 {
                        scan = Scan::default();
                        let (more, _) = self.upload(index, &rest[used..]);
                        at += used + more;
                    }
                    break;
                }
                Err(error) => {
                    self.protocol_error(index, error);
                    return bytes.len();
                }
            }
        }
        let client = &mut self.desk.clients[index as usize];
        if client.generation != generation || client.life != Life::Open {
            return bytes.len();
        }
        client.scan = scan;
        at
    }

    /// One whole request.
    #[inline]
    pub(super) fn request(&mut self, index: u32, request: &Request<'_>) -> Taken {
        let Some(name) = request.argument(0) else {
            // `*0`: asks nothing, gets nothing.
            return Taken::Yes;
        };
        let Some(command) = command::find(name) else {
            return self.unknown(index, request);
        };
        self.asking = command.id;
        let client = &self.desk.clients[index as usize];
        if let Route::OneKey { at } = command.route
            && !client.special
            && command.takes(request.count())
            && let Some(key) = request.argument(usize::from(at))
            && key.len() <= self.pools[client.pool as usize].longest_key
        {
            return self.by_key(index, key, request.bytes());
        }
        self.unusual(index, command, request)
    }

    /// Forwards a request to the server of `key`.
    #[inline(always)]
    pub(super) fn by_key(&mut self, index: u32, key: &[u8], bytes: &[u8]) -> Taken {
        match self.server_for(self.desk.clients[index as usize].pool, key) {
            Some(server) => self.forward(index, server, bytes),
            None => {
                self.nobody(index);
                Taken::Yes
            }
        }
    }

    /// Which server of a pool has `key` now.
    #[inline(always)]
    pub(super) fn server_for(&mut self, pool: u32, key: &[u8]) -> Option<u32> {
        let state = &mut self.pools[pool as usize];
        if state.ejects {
            let ejector = &state.setup.ejector;
            ejector.look(self.now);
            let version = ejector.version();
            if version != state.version {
                state.placement = ejector.placement();
                state.version = version;
            }
        }
        let draws = &mut self.draws;
        state
            .placement
            .server_of(key, || draw(draws))
            .map(|server| server as u32)
    }

    /// No server of the pool takes part: twemproxy's answer.
    #[cold]
    pub(super) fn nobody(&mut self, index: u32) {
        let pool = self.desk.clients[index as usize].pool;
        self.pools[pool as usize]
            .setup
            .counters
            .forward_error
            .add(1);
        self.desk.say(index, text::unreachable(super::How::Refused));
    }

    /// Forwards a request to a server, as it came.
    #[inline(always)]
    pub(super) fn forward(&mut self, index: u32, server: u32, bytes: &[u8]) -> Taken {
        let lane = self.lane_for(index, server);
        self.forward_on(lane, index, bytes)
    }

    /// The lane for requests of this client to that server.
    #[inline(always)]
    pub(super) fn lane_for(&self, index: u32, server: u32) -> u32 {
        let client = &self.desk.clients[index as usize];
        if client.pinned == NONE {
            self.lane_to(client.bank, server, index)
        } else {
            self.lane_beside_pinned(index, server)
        }
    }

    /// Forwards a request on this lane.
    #[inline(always)]
    pub(super) fn forward_on(&mut self, lane: u32, index: u32, bytes: &[u8]) -> Taken {
        if !self.open_for(lane, index, bytes.len()) {
            return Taken::Wait;
        }
        if let Some(error) = self.shut(lane) {
            self.desk.say(index, error);
            return Taken::Yes;
        }
        self.lanes[lane as usize].ring.push(bytes);
        let slot = self.desk.expect(
            index,
            Slot {
                owner: Owner::Client(index),
                wait: self.asks,
                next_in_lane: NONE,
                next_of_client: NONE,
                len: bytes.len() as u32,
                since: self.now_ms as u32,
            },
        );
        self.enter(lane, slot, bytes.len());
        Taken::Yes
    }

    /// Whether a lane has room; if not, the client waits for it.
    #[inline(always)]
    pub(super) fn open_for(&mut self, lane: u32, index: u32, bytes: usize) -> bool {
        let lane = &mut self.lanes[lane as usize];
        if lane.has_room(bytes) {
            return true;
        }
        let client = &mut self.desk.clients[index as usize];
        client.hold = Hold::Lane;
        let peer = client.peer(index);
        lane.waiters.push(peer);
        false
    }

    /// The error for a request to a server that failed so often that it gets a pause. Connects if there is none.
    #[inline(always)]
    pub(super) fn shut(&mut self, lane: u32) -> Option<&'static [u8]> {
        if self.lanes[lane as usize].state == State::Closed {
            return self.open(lane);
        }
        None
    }

    #[cold]
    fn open(&mut self, index: u32) -> Option<&'static [u8]> {
        let lane = &self.lanes[index as usize];
        if lane.followed {
            // Held, if it cannot be connected now: `held_due` tries, and sees to it that it is not for ever.
            let (pool, server, retry_at_ms) = (lane.pool, lane.server, lane.retry_at_ms);
            if self.now_ms >= retry_at_ms
                && self.address(pool, server).is_some()
                && self.doubts_over(index)
            {
                self.connect(index);
            }
            self.arm(self.now_ms + RETRY_MS);
            return None;
        }
        if lane.failures > 0 && self.now_ms < lane.retry_at_ms {
            self.pools[lane.pool as usize]
                .setup
                .counters
                .forward_error
                .add(1);
            return Some(text::unreachable(lane.ended));
        }
        self.connect(index);
        None
    }

    /// A slot whose bytes are in the ring takes its place in the queue.
    #[inline(always)]
    pub(super) fn enter(&mut self, index: u32, slot: u32, bytes: usize) {
        let lane = &mut self.lanes[index as usize];
        lane.enqueue(slot, &mut self.desk.slots);
        lane.used = true;
        let stamp = Stamp {
            at_us: self.desk.now_us,
            command: self.asking,
            hops: 0,
        };
        self.desk.slots.set_stamp(slot, stamp);
        self.entered = self.entered.wrapping_add(1);
        lane.counters.requests.add(1);
        lane.counters.request_bytes.add(bytes as u64);
        if lane.queued == 1 || lane.held.is_some() {
            self.arm_for(index);
        }
        self.touch_lane(index);
    }

    /// Something waits for its answer, or for a primary.
    fn arm_for(&mut self, index: u32) {
        let lane = &self.lanes[index as usize];
        let timeout_ms = self.pools[lane.pool as usize].timeout_ms;
        let (first, held) = (lane.queued == 1, lane.held.is_some());
        if held {
            self.arm(self.now_ms + RETRY_MS);
        }
        if let Some(timeout_ms) = timeout_ms.filter(|_| first) {
            self.arm(self.now_ms + timeout_ms + 1);
        }
    }

    /// A line of words; how many bytes it has, line end included. None: it is not whole yet, or the end of its client.
    #[cold]
    fn line(&mut self, index: u32, rest: &[u8]) -> Option<(usize, Taken)> {
        let Some(end) = memchr::memchr(b'\n', &rest[..rest.len().min(LINE)]) else {
            if rest.len() >= LINE {
                self.protocol_error(index, RequestError::Inline);
            }
            return None;
        };
        let Ok(words) = tandem_resp::split_inline(&rest[..end]) else {
            self.protocol_error(index, RequestError::Quotes);
            return None;
        };
        if words.is_empty() {
            return Some((end + 1, Taken::Yes));
        }
        if words[0].eq_ignore_ascii_case(b"POST") || words[0].eq_ignore_ascii_case(b"Host:") {
            // As Redis: a browser that was tricked into this must not get a second line executed.
            self.refuse_client(index, text::CROSS_PROTOCOL);
            return None;
        }
        let mut framed = self.desk.spare.take();
        tandem_resp::encode_command(&words, &mut framed);
        let mut scan = Scan::default();
        let taken = match scan.advance(&framed, &Limits::CLIENT) {
            Ok(Some(_)) => self.request(index, &scan.request(&framed)),
            Ok(None) | Err(_) => unreachable!("what was just encoded is whole, and short"),
        };
        self.desk.spare.give(framed);
        Some((end + 1, taken))
    }

    #[cold]
    pub(super) fn protocol_error(&mut self, index: u32, error: RequestError) {
        self.refuse_client(index, format!("-ERR {error}\r\n").as_bytes());
    }

    /// The last word to a client that breaks the protocol.
    fn refuse_client(&mut self, index: u32, error: &[u8]) {
        let pool = self.desk.clients[index as usize].pool;
        self.pools[pool as usize].setup.counters.client_err.add(1);
        self.desk.say(index, error);
        self.desk.dismiss(index);
    }

    /// A command that nobody knows, in Redis' words.
    #[cold]
    fn unknown(&mut self, index: u32, request: &Request<'_>) -> Taken {
        if self.desk.clients[index as usize].stranger {
            self.noauth(index);
            return Taken::Yes;
        }
        let mut error = text::about(
            "unknown command ",
            request.argument(0).unwrap_or_default(),
            "",
        );
        error.truncate(error.len() - 2);
        error.extend_from_slice(b", with args beginning with: ");
        for argument in request.arguments().skip(1).take(3) {
            let shown = argument.value.iter().take(32);
            error.push(b'\'');
            error.extend(shown.map(|&byte| {
                if (0x20..0x7f).contains(&byte) {
                    byte
                } else {
                    b'?'
                }
            }));
            error.extend_from_slice(b"' ");
        }
        error.extend_from_slice(b"\r\n");
        self.wrong(index, &error)
    }

    /// Everything but one key, not too long, of one who may ask for it.
    #[cold]
    #[inline(never)]
    fn unusual(&mut self, index: u32, command: &'static Command, request: &Request<'_>) -> Taken {
        let resolved = match request.argument(1) {
            Some(name) if !command.subs.is_empty() => command.sub(name),
            Some(_) | None => Some(command),
        };
        let Some(command) = resolved else {
            let name = request.argument(1).unwrap_or_default();
            let error = text::about("unknown subcommand ", name, "");
            return self.wrong(index, &error);
        };
        self.asking = command.id;
        if self.desk.clients[index as usize].stranger && !command.needs_no_authentication() {
            self.noauth(index);
            return Taken::Yes;
        }
        if !command.takes(request.count()) {
            return self.wrong_number(index, command);
        }
        if self.desk.clients[index as usize].restricted
            && let Some(error) = self.denied(index, command, request)
        {
            return self.wrong(index, &error);
        }
        let client = &self.desk.clients[index as usize];
        if client.particular {
            return self.particularly(index, command, request);
        }
        if client.special
            && let Some(taken) = self.specially(index, command, request)
        {
            return taken;
        }
        self.routed(index, command, request)
    }

    /// A request that no server would take; inside MULTI it ends the transaction.
    pub(super) fn wrong(&mut self, index: u32, error: &[u8]) -> Taken {
        if let Some(cold) = &mut self.desk.clients[index as usize].cold
            && let Some(multi) = &mut cold.multi
        {
            multi.broken = true;
        }
        self.desk.say(index, error);
        Taken::Yes
    }

    /// Too few arguments, too many, or half a pair.
    pub(super) fn wrong_number(&mut self, index: u32, command: &Command) -> Taken {
        let name = command.name.as_bytes();
        let error = text::about("wrong number of arguments for ", name, " command");
        self.wrong(index, &error)
    }

    /// What those do who are inside MULTI or subscribed. None: the ordinary thing.
    pub(super) fn specially(
        &mut self,
        index: u32,
        command: &'static Command,
        request: &Request<'_>,
    ) -> Option<Taken> {
        let client = &self.desk.clients[index as usize];
        let cold = client.cold.as_ref()?;
        if cold.multi.is_some() {
            return self.in_multi(index, command, request);
        }
        if client.is_monitoring() {
            return self.while_monitoring(index, command);
        }
        if cold.subscribed && !client.resp3 {
            return self.while_subscribed(index, command, request);
        }
        None
    }

    fn noauth(&mut self, index: u32) {
        let pool = self.desk.clients[index as usize].pool;
        let twemproxy = self.pools[pool as usize].twemproxy;
        self.desk.say(
            index,
            if twemproxy {
                text::NOAUTH_TWEMPROXY
            } else {
                text::NOAUTH
            },
        );
    }
}

/// The next number of a small generator (xorshift): `random` placement needs no better one.
#[inline]
fn draw(state: &mut u32) -> u32 {
    let mut next = *state;
    next ^= next << 13;
    next ^= next >> 17;
    next ^= next << 5;
    *state = next;
    next
}

const _: () = assert!(size_of::<Client>() <= 256, "an idle connection is cheap");
