//! One thread: a poller, its sockets, and a core that knows what the bytes mean.
//!
//! A turn: wait; read once from everyone who has something; then write once to everyone who should get something,
//! servers before clients; then open and close. That all reads come before all writes is what makes it cheap: what
//! fifty clients ask in one turn leaves for a server in one write.
//!
//! Readiness is edge-triggered and registered once. A short read says that nothing is left, so that no second read is
//! needed to learn it; whoever filled the space is read again in the next turn, before waiting.

use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

use mio::event::Event;
use mio::{Events, Poll, Token};

use super::mailbox::{Letter, Mailbox, Replacement};
use super::resolve::Resolver;
use super::socket::{Listener, Stream, how};
use crate::core::{Core, How, Order, Peer, Side};
use crate::settings::Address;

/// Events taken from the kernel at once.
const EVENTS: usize = 1024;
/// Clients accepted from one listener in one turn; the rest have to wait for the next.
const ACCEPTS: usize = 64;
/// After an accept failed for want of descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
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
}

/// A listener and where its clients go.
#[derive(Debug)]
struct Door {
    listener: Listener,
    pool: usize,
}

/// One thread's loop.
pub(super) struct Worker {
    poll: Poll,
    core: Core,
    doors: Vec<Option<Door>>,
    clients: Vec<Option<Socket>>,
    lanes: Vec<Option<Socket>>,
    /// To be read again without waiting.
    ready: Vec<Peer>,
    /// The list that `ready` was in the turn before, empty.
    reading: Vec<Peer>,
    /// Doors to be tried again without waiting.
    open_doors: Vec<usize>,
    /// When to try doors again after descriptors ran out.
    doors_at: Option<Instant>,
    mailbox: Arc<Mailbox>,
    resolver: Resolver,
    /// Clients beyond this are closed at once, as twemproxy does.
    client_limit: usize,
    /// Draining: the end.
    ends_at: Option<Instant>,
    now: Instant,
}

impl Worker {
    pub(super) fn new(
        poll: Poll,
        core: Core,
        listeners: Vec<(usize, Listener)>,
        mailbox: Arc<Mailbox>,
        resolver: Resolver,
        client_limit: usize,
    ) -> io::Result<Self> {
        let mut worker = Self {
            poll,
            core,
            doors: Vec::new(),
            clients: Vec::new(),
            lanes: Vec::new(),
            ready: Vec::new(),
            reading: Vec::new(),
            open_doors: Vec::new(),
            doors_at: None,
            mailbox,
            resolver,
            client_limit,
            ends_at: None,
            now: Instant::now(),
        };
        for (pool, listener) in listeners {
            worker.add_door(pool, listener)?;
        }
        Ok(worker)
    }

    /// Runs until it has drained.
    pub(super) fn run(mut self) -> io::Result<()> {
        let mut events = Events::with_capacity(EVENTS);
        let mut crowded = false;
        self.write_all();
        loop {
            if crowded {
                // Whoever was woken by this turn gets the processor first, and its requests share the next turn.
                // On an idle machine nobody else is runnable and the call returns at once.
                std::thread::yield_now();
            }
            match self.poll.poll(&mut events, self.patience()) {
                Ok(()) => {}
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(error),
            }
            self.now = Instant::now();
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
            self.reopen_doors();
            self.core.tick(self.now);
            self.write_all();
            crowded = count > 1;
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
        let due = [self.core.deadline(), self.doors_at, self.ends_at]
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
            for letter in self.mailbox.take() {
                self.letter(letter);
            }
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
        match socket.stream.read(space) {
            Ok(0) => self.core.closed(peer, How::Eof, self.now),
            Ok(bytes) => {
                if bytes == room || socket.ended {
                    self.ready.push(peer);
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
                return;
            }
            match socket.stream.write(pending) {
                Ok(bytes) => {
                    self.core.sent(peer, bytes);
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
                    && place.as_ref().is_some_and(|socket| socket.peer == peer)
                {
                    // Closing takes it off the poller.
                    *place = None;
                }
            }
            Order::Resume(peer) => self.ready.push(peer),
        }
    }

    /// A connection to a server is on its way, or failed at once.
    fn begin(&mut self, peer: Peer, stream: io::Result<Stream>) {
        let registered = stream.and_then(|mut stream| {
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
            Letter::Reload(replacement) => self.reload(*replacement),
            Letter::Topology { pool, topology } => {
                if let Some(pool) = self.core.pool_named(&pool) {
                    self.core.snapshot(pool, &topology, self.now);
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
        let old: Vec<Option<Address>> = self
            .doors
            .iter()
            .map(|door| {
                door.as_ref()
                    .map(|door| self.core.settings(door.pool).listen.clone())
            })
            .collect();
        let numbers = self.core.reload(replacement.pools, self.now);
        for (door, old) in self.doors.iter_mut().zip(old) {
            let Some(open) = door else { continue };
            let heir = numbers
                .iter()
                .find(|&&pool| Some(&self.core.settings(pool).listen) == old.as_ref());
            match heir {
                Some(&pool) => open.pool = pool,
                None => *door = None,
            }
        }
        for (pool, listener) in replacement.listeners {
            // What can fail here is memory of the kernel; the other doors stay open then.
            let _ = self.add_door(numbers[pool], listener);
        }
    }

    fn add_door(&mut self, pool: usize, mut listener: Listener) -> io::Result<()> {
        let number = self.doors.len();
        listener.register(self.poll.registry(), Token(SPECIAL as usize + number))?;
        self.doors.push(Some(Door { listener, pool }));
        // Clients that came before the registration give no edge.
        self.open_doors.push(number);
        Ok(())
    }

    fn reopen_doors(&mut self) {
        if self.doors_at.is_some_and(|at| at <= self.now) {
            self.doors_at = None;
            self.open_doors = (0..self.doors.len()).collect();
        }
        for number in std::mem::take(&mut self.open_doors) {
            self.accept(number);
        }
    }

    fn accept(&mut self, number: usize) {
        for _ in 0..ACCEPTS {
            let Some(Some(door)) = self.doors.get(number) else {
                return;
            };
            let mut stream = match door.listener.accept() {
                Ok(stream) => stream,
                Err(error) => match error.kind() {
                    io::ErrorKind::WouldBlock => return,
                    io::ErrorKind::Interrupted | io::ErrorKind::ConnectionAborted => continue,
                    _ => {
                        // Out of descriptors or memory, as a rule: those who are here go on.
                        self.doors_at = Some(self.now + ACCEPT_PAUSE);
                        return;
                    }
                },
            };
            if self.core.clients() >= self.client_limit {
                continue;
            }
            let Some(peer) = self.core.accepted(door.pool, self.now) else {
                continue;
            };
            if stream
                .register(self.poll.registry(), Token(peer.token() as usize))
                .is_err()
            {
                self.core.closed(peer, How::Failed, self.now);
                continue;
            }
            place(
                &mut self.clients,
                Socket {
                    peer,
                    stream,
                    connecting: false,
                    blocked: false,
                    ended: false,
                },
            );
        }
        self.open_doors.push(number);
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
