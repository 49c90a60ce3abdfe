//! One thread: a poller, its sockets, and a core that knows what the bytes mean.
//!
//! A turn: wait; read once from everyone who has something; then write once to everyone who should get something,
//! servers before clients; then open and close. That all reads come before all writes is what makes it cheap: what
//! fifty clients ask in one turn leaves for a server in one write.
//!
//! Readiness is edge-triggered and registered once. A short read says that nothing is left, so that no second read is
//! needed to learn it; whoever filled the space is read again in the next turn, before waiting.

mod doors;

use std::collections::VecDeque;
use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

use mio::event::Event;
use mio::{Events, Poll, Token};

use super::crowd::{Crowd, Place};
use super::history;
use super::mailbox::{Letter, Mailbox, Replacement};
use super::notice::{Notice, Teller};
use super::resolve::Resolver;
use super::socket::{Door, Stream, how};
use crate::core::{Core, How, Order, Peer, Side};
use crate::settings::Address;

/// Events taken from the kernel at once.
const EVENTS: usize = 1024;
/// Requests per event from which on a turn counts as pipelined.
const PIPELINED: usize = 2;
/// After so many writes to clients a server that was asked before them has as a rule answered.
const BETWEEN: u32 = 4;
/// Lower half of a token at and above which it names no connection.
const SPECIAL: u64 = 0x7fff_0000;
/// The token of the waker.
pub(super) const WAKER: Token = Token(0x7fff_ffff);

/// One connection's socket.
#[derive(Debug)]
struct Socket {
    peer: Peer,
    stream: Stream,
    /// A lane that is not connected yet.
    connecting: bool,
    /// The kernel takes nothing more until it says so.
    blocked: bool,
    /// The other side has closed its half: a short read is not the end of what there is to learn.
    ended: bool,
    /// A client's, among all clients.
    _place: Option<Place>,
}

/// A listener and where its clients go.
#[derive(Debug)]
struct Entrance {
    door: Door,
    pool: usize,
}

/// One thread's loop.
pub(super) struct Worker {
    poll: Poll,
    core: Core,
    doors: Vec<Option<Entrance>>,
    clients: Vec<Option<Socket>>,
    lanes: Vec<Option<Socket>>,
    /// To be read again without waiting.
    ready: Vec<Peer>,
    /// The list that `ready` was in the turn before, empty.
    reading: Vec<Peer>,
    /// Servers that were asked in this turn.
    asked: Vec<Peer>,
    /// Writes to clients in this turn.
    answered: u32,
    /// Doors to be tried again without waiting.
    open_doors: Vec<usize>,
    /// When to try doors again after descriptors ran out.
    doors_at: Option<Instant>,
    /// Clients that have begun TLS, in their order, and until when they must have agreed on it.
    handshakes: VecDeque<(Peer, Instant)>,
    mailbox: Arc<Mailbox>,
    /// Letters are waiting.
    mail: bool,
    resolver: Resolver,
    /// Clients for whom there is no place are closed at once.
    crowd: Crowd,
    /// Who is told what the core has to say.
    teller: Teller,
    /// Draining: the end.
    ends_at: Option<Instant>,
    now: Instant,
}

impl Worker {
    pub(super) fn new(
        poll: Poll,
        core: Core,
        listeners: Vec<(usize, Door)>,
        mailbox: Arc<Mailbox>,
        resolver: Resolver,
        crowd: Crowd,
        teller: Teller,
    ) -> io::Result<Self> {
        let mut worker = Self {
            poll,
            core,
            doors: Vec::new(),
            clients: Vec::new(),
            lanes: Vec::new(),
            ready: Vec::new(),
            reading: Vec::new(),
            asked: Vec::new(),
            answered: 0,
            open_doors: Vec::new(),
            doors_at: None,
            handshakes: VecDeque::new(),
            mailbox,
            mail: false,
            resolver,
            crowd,
            teller,
            ends_at: None,
            now: Instant::now(),
        };
        for (pool, listener) in listeners {
            worker.add_door(pool, listener)?;
        }
        Ok(worker)
    }

    /// Its way to say something.
    pub(super) fn teller(&self) -> Teller {
        self.teller.clone()
    }

    /// Runs until it has drained.
    pub(super) fn run(mut self) -> io::Result<()> {
        let mut events = Events::with_capacity(EVENTS);
        let mut pipelined = false;
        self.write_all();
        loop {
            if pipelined {
                // Whoever was woken by this turn gets the processor first, and its requests share the next turn.
                // On an idle machine nobody else is runnable and the call returns at once. Where each client has one
                // request at a time it gains nothing, and is one more call.
                std::thread::yield_now();
            }
            match self.poll.poll(&mut events, self.patience()) {
                Ok(()) => {}
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(error),
            }
            self.now = Instant::now();
            if self.core.has_leases() {
                self.core.turned(boot_time(), self.now);
            }
            let mut count = self.ready.len();
            if count > 0 {
                // Those who are still not done come into the other list.
                std::mem::swap(&mut self.ready, &mut self.reading);
                for at in 0..count {
                    self.read(self.reading[at]);
                }
                self.reading.clear();
            }
            for event in &events {
                count += 1;
                self.event(event);
            }
            if std::mem::take(&mut self.mail) {
                // After all that was read: what a server said before its group moved was said by the primary.
                for letter in self.mailbox.take() {
                    self.letter(letter);
                }
            }
            self.reopen_doors();
            if !self.handshakes.is_empty() {
                self.end_handshakes();
            }
            self.core.tick(self.now);
            self.write_all();
            pipelined = self.core.take_entered() as usize > PIPELINED * count && count > 1;
            self.look_again(pipelined);
            if self.is_over() {
                return Ok(());
            }
        }
    }

    /// How long to wait at most.
    fn patience(&self) -> Option<Duration> {
        if !self.ready.is_empty() || !self.open_doors.is_empty() {
            return Some(Duration::ZERO);
        }
        let handshake = self.handshakes.front().map(|&(_, until)| until);
        let due = [self.core.deadline(), self.doors_at, self.ends_at, handshake]
            .into_iter()
            .flatten()
            .min()?;
        let left = due.saturating_duration_since(self.now);
        // The poller counts in milliseconds and rounds up; never wait for nothing in a circle.
        Some(left.max(Duration::from_millis(1)))
    }

    fn event(&mut self, event: &Event) {
        let token = event.token();
        if token == WAKER {
            self.mailbox.beats.answer();
            self.mail = true;
            return;
        }
        let low = token.0 as u64 & 0xffff_ffff;
        if (SPECIAL..0x8000_0000).contains(&low) {
            self.accept((low - SPECIAL) as usize);
            return;
        }
        let peer = Peer::from_token(token.0 as u64);
        let Some(socket) = find(&mut self.clients, &mut self.lanes, peer) else {
            return;
        };
        if socket.connecting {
            match socket.stream.outcome() {
                None => return,
                Some(Ok(())) => {
                    socket.connecting = false;
                    self.core.connected(peer, self.now);
                }
                Some(Err(error)) => {
                    self.core.closed(peer, how(&error), self.now);
                    return;
                }
            }
        } else if socket.blocked && event.is_writable() {
            socket.blocked = false;
            self.write(peer);
        }
        let Some(socket) = find(&mut self.clients, &mut self.lanes, peer) else {
            return;
        };
        socket.ended |= event.is_read_closed();
        if event.is_readable() || event.is_read_closed() || event.is_error() {
            if event.is_error() && self.core.recv_space(peer).is_empty() {
                // Held, and cut off: nobody would read the news.
                self.core.closed(peer, How::Reset, self.now);
                return;
            }
            self.read(peer);
        }
    }

    /// One read.
    #[inline]
    fn read(&mut self, peer: Peer) {
        let Some(socket) = find(&mut self.clients, &mut self.lanes, peer) else {
            return;
        };
        let space = self.core.recv_space(peer);
        if space.is_empty() {
            return;
        }
        let room = space.len();
        let outcome = socket.stream.read(space);
        if let Stream::Tls(secure) = &socket.stream {
            socket.ended |= secure.has_ended();
            socket.blocked |= secure.is_stuck();
        }
        match outcome {
            Ok(0) => self.core.closed(peer, How::Eof, self.now),
            Ok(bytes) => {
                if bytes == room || socket.ended {
                    self.ready.push(peer);
                }
                if peer.side() == Side::Lane && self.core.has_leases() {
                    // Read after the read: what may be passed on hangs on it.
                    self.core.look(boot_time());
                }
                self.core.received(peer, bytes, self.now);
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(error) if error.kind() == io::ErrorKind::Interrupted => self.ready.push(peer),
            Err(error) => self.core.closed(peer, how(&error), self.now),
        }
    }

    /// Writes what there is, and opens and closes, until nothing is left to do.
    fn write_all(&mut self) {
        loop {
            while let Some(peer) = self.core.next_dirty() {
                self.write(peer);
            }
            let Some(order) = self.core.next_order() else {
                return;
            };
            self.obey(order);
        }
    }

    /// As a rule one write; a second only learns that the kernel takes no more.
    #[inline]
    fn write(&mut self, peer: Peer) {
        let Some(socket) = find(&mut self.clients, &mut self.lanes, peer) else {
            return;
        };
        if socket.blocked || socket.connecting {
            return;
        }
        loop {
            let pending = self.core.pending(peer);
            let wanted = pending[0].len() + pending[1].len();
            if wanted == 0 {
                if let Stream::Tls(secure) = &mut socket.stream {
                    // Its end is noticed by the next read.
                    let _ = secure.flush();
                    socket.blocked = secure.is_stuck();
                }
                return;
            }
            match socket.stream.write(pending) {
                Ok(bytes) => {
                    match peer.side() {
                        Side::Client => self.answered += 1,
                        Side::Lane => self.asked.push(peer),
                    }
                    self.core.sent(peer, bytes);
                    if let Stream::Tls(secure) = &socket.stream {
                        socket.blocked = secure.is_stuck();
                        if socket.blocked {
                            return;
                        }
                    }
                    if bytes == wanted {
                        return;
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    socket.blocked = true;
                    return;
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => {
                    self.core.closed(peer, how(&error), self.now);
                    return;
                }
            }
        }
    }

    /// Reads once more from servers that were asked before clients were answered. Where each client has one request at a time
    /// clients fall into two groups, one of which is answered while the other asks, and a turn serves half of them. What is
    /// read here brings the groups together: they ask in one turn, and leave for the server in one write.
    fn look_again(&mut self, pipelined: bool) {
        if self.answered >= BETWEEN && !pipelined && !self.asked.is_empty() {
            self.now = Instant::now();
            for at in 0..self.asked.len() {
                self.read(self.asked[at]);
            }
            self.write_all();
        }
        self.asked.clear();
        self.answered = 0;
    }

    fn obey(&mut self, order: Order) {
        match order {
            Order::Connect(peer) => {
                let Some(address) = self.core.address_of(peer) else {
                    // Its primary has gone since; the next word on the group connects again.
                    self.core.closed(peer, How::Refused, self.now);
                    return;
                };
                let stream = match address {
                    Address::Unix { path, .. } => Stream::connect_unix(path),
                    Address::Tcp { host, port } => match host.parse() {
                        Ok(ip) => Stream::connect(std::net::SocketAddr::new(ip, *port)),
                        Err(_) => {
                            self.resolver.ask(peer, host, *port, &self.mailbox);
                            return;
                        }
                    },
                };
                self.begin(peer, stream);
            }
            Order::Close(peer) => {
                let table = match peer.side() {
                    Side::Client => &mut self.clients,
                    Side::Lane => &mut self.lanes,
                };
                if let Some(place) = table.get_mut(peer.index())
                    && let Some(socket) = place.as_mut()
                    && socket.peer == peer
                {
                    if let Stream::Tls(secure) = &mut socket.stream
                        && !socket.connecting
                    {
                        secure.farewell();
                    }
                    // Closing takes it off the poller.
                    *place = None;
                }
            }
            Order::Resume(peer) => self.ready.push(peer),
            Order::Quiesced(pool, server, rank) => self.teller.tell(Notice::Quiet {
                pool: self.core.settings(pool).name.clone(),
                server,
                rank,
            }),
            Order::Remap(pool) => {
                let stranger = self.core.take_stranger(pool);
                self.teller.tell(Notice::Remap {
                    pool: self.core.settings(pool).name.clone(),
                    stranger,
                });
            }
            Order::Confirm => self.teller.tell(Notice::Stalled),
            Order::ReadHistory(which) => {
                if let Some(question) = self.core.history_question(which) {
                    let tls = self.core.history_connector(which);
                    history::read(which, question.clone(), tls, self.mailbox.clone());
                }
            }
        }
    }

    /// A connection to a server is on its way, or failed at once.
    fn begin(&mut self, peer: Peer, stream: io::Result<Stream>) {
        let settings = self.core.settings_of(peer);
        let tls = settings.and_then(|settings| settings.access.server_tls.clone());
        let registered = stream.and_then(|mut stream| {
            if let Some(connector) = &tls {
                stream = stream.secured(connector)?;
            }
            stream.register(self.poll.registry(), Token(peer.token() as usize))?;
            Ok(stream)
        });
        match registered {
            Ok(stream) => place(
                &mut self.lanes,
                Socket {
                    peer,
                    stream,
                    connecting: true,
                    blocked: false,
                    ended: false,
                    _place: None,
                },
            ),
            Err(error) => self.core.closed(peer, how(&error), self.now),
        }
    }

    fn letter(&mut self, letter: Letter) {
        match letter {
            Letter::Resolved { peer, address } => {
                if self.core.address_of(peer).is_none() {
                    return;
                }
                match address {
                    Some(address) => self.begin(peer, Stream::connect(address)),
                    None => self.core.closed(peer, How::NoName, self.now),
                }
            }
            Letter::History { history, tail } => {
                self.core.history_read(history, tail.as_ref(), self.now);
            }
            Letter::Reload(replacement) => self.reload(*replacement),
            Letter::Topology { pool, topology } => {
                for pool in self.core.pools_told(&pool) {
                    self.core.snapshot(pool, &topology, self.now);
                }
            }
            Letter::Map { pool, map } => {
                for pool in self.core.pools_told(&pool) {
                    self.core.remap(pool, &map, self.now);
                }
            }
            Letter::Confirmed {
                pool,
                server,
                asked,
            } => {
                for pool in self.core.pools_told(&pool) {
                    self.core.confirmed(pool, server, asked, self.now);
                }
            }
            Letter::Drain(until) => {
                self.doors.clear();
                self.open_doors.clear();
                self.doors_at = None;
                self.core.drain(self.now);
                self.ends_at = Some(until);
            }
        }
    }

    fn reload(&mut self, replacement: Replacement) {
        let Replacement {
            pools,
            words,
            listeners,
            pending,
        } = replacement;
        let setups = pools.into_iter().zip(words);
        let numbers = self.core.reload(setups.collect(), self.now);
        for door in &mut self.doors {
            let Some(open) = door else { continue };
            let heir = numbers.iter().find(|&&pool| {
                let mut addresses = self.core.settings(pool).addresses();
                addresses.any(|address| *address == open.door.address)
            });
            match heir {
                Some(&pool) => open.pool = pool,
                None => *door = None,
            }
        }
        for (pool, listener) in listeners {
            // What can fail here is memory of the kernel; the other doors stay open then.
            let _ = self.add_door(numbers[pool], listener);
        }
        drop(pending);
    }

    fn is_over(&self) -> bool {
        self.ends_at
            .is_some_and(|at| at <= self.now || self.core.clients() == 0)
    }
}

/// The socket of a peer, if it is still the same connection.
#[inline]
fn find<'a>(
    clients: &'a mut [Option<Socket>],
    lanes: &'a mut [Option<Socket>],
    peer: Peer,
) -> Option<&'a mut Socket> {
    let table = match peer.side() {
        Side::Client => clients,
        Side::Lane => lanes,
    };
    table
        .get_mut(peer.index())?
        .as_mut()
        .filter(|socket| socket.peer == peer)
}

fn place(table: &mut Vec<Option<Socket>>, socket: Socket) {
    let index = socket.peer.index();
    if table.len() <= index {
        table.resize_with(index + 1, || None);
    }
    table[index] = Some(socket);
}

/// Time since boot, the time asleep included.
fn boot_time() -> Duration {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::Boottime);
    let seconds = u64::try_from(time.tv_sec).expect("time since boot is not negative");
    let nanoseconds = u32::try_from(time.tv_nsec).expect("below one thousand million");
    Duration::new(seconds, nanoseconds)
}
