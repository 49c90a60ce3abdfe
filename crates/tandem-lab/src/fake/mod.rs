//! Endpoints that look like servers and Sentinels to a Sentinel: to hear what it sends, and to be many.
//!
//! One thread serves all endpoints of a [`Fake`] by epoll, so that three thousand of them cost next to nothing. What is
//! answered decides an [`Actor`]: [`Stand`] plays a group for the recording of what a Sentinel sends, [`Crowd`] a
//! thousand quiet groups for the measurement of its load.

mod crowd;
mod stand;

use std::collections::BTreeMap;
use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;

use anyhow::Context;
use rustix::buffer::spare_capacity;
use rustix::event::{Timespec, epoll};

pub use self::crowd::Crowd;
pub use self::stand::{Heard, Stand, World};
use crate::ns::Host;
use crate::wire::{Value, parse};

/// One command as an endpoint received it.
#[derive(Debug)]
pub struct Call<'a> {
    /// Which endpoint, by its place in the list of ports.
    pub endpoint: usize,
    /// Which connection, numbered over all endpoints.
    pub connection: u64,
    /// The command and its arguments.
    pub words: &'a [String],
}

/// What an actor has to say to a command.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    /// Bytes to who asked.
    Reply(Vec<u8>),
    /// Bytes to who asked, who is a subscriber of the endpoint from now on.
    Subscribed(Vec<u8>),
    /// Bytes to all subscribers of an endpoint.
    Publish(usize, Vec<u8>),
}

/// Decides what is answered.
pub trait Actor: Send {
    /// The answers to one command, in their order; none is silence.
    fn answer(&mut self, call: &Call<'_>) -> Vec<Answer>;
}

/// Endpoints on a host of the lab, until it is dropped.
#[derive(Debug)]
pub struct Fake {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<io::Result<()>>>,
}

impl Fake {
    /// Listens on these ports of a host's every address.
    ///
    /// # Errors
    /// When a port cannot be had.
    pub fn start(host: &Host, ports: &[u16], actor: Box<dyn Actor>) -> anyhow::Result<Self> {
        let bind = |port: &u16| TcpListener::bind(SocketAddr::from(([0, 0, 0, 0], *port)));
        let listeners = host
            .enter(|| ports.iter().map(bind).collect::<io::Result<Vec<_>>>())
            .and_then(|bound| bound)
            .context("a port of the fake endpoints")?;
        let stop = Arc::new(AtomicBool::new(false));
        let mut turn = Turn {
            epoll: epoll::create(epoll::CreateFlags::CLOEXEC)?,
            listeners,
            connections: BTreeMap::new(),
            subscribers: vec![Vec::new(); ports.len()],
            next: 0,
            actor,
        };
        for (endpoint, listener) in turn.listeners.iter().enumerate() {
            listener.set_nonblocking(true)?;
            let data = epoll::EventData::new_u64(endpoint as u64);
            epoll::add(&turn.epoll, listener, data, epoll::EventFlags::IN)?;
        }
        turn.next = turn.listeners.len() as u64;
        let ended = Arc::clone(&stop);
        let thread = std::thread::Builder::new().name("lab-fake".to_owned());
        let thread = thread.spawn(move || turn.run(&ended))?;
        Ok(Self {
            stop,
            thread: Some(thread),
        })
    }
}

impl Drop for Fake {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            // A panic there was reported when it happened.
            let _ = thread.join();
        }
    }
}

/// A connection to an endpoint.
struct Guest {
    stream: TcpStream,
    endpoint: usize,
    input: Vec<u8>,
    output: Vec<u8>,
    /// Whether epoll was asked to say when there is room for more output.
    waits_for_room: bool,
}

/// The thread that serves.
struct Turn {
    epoll: OwnedFd,
    /// An endpoint's number in epoll is its place here; connections come after.
    listeners: Vec<TcpListener>,
    connections: BTreeMap<u64, Guest>,
    subscribers: Vec<Vec<u64>>,
    next: u64,
    actor: Box<dyn Actor>,
}

impl Turn {
    fn run(mut self, stop: &AtomicBool) -> io::Result<()> {
        let mut events = Vec::with_capacity(1024);
        let tick = Timespec {
            tv_sec: 0,
            tv_nsec: 20_000_000,
        };
        while !stop.load(Ordering::Relaxed) {
            match epoll::wait(&self.epoll, spare_capacity(&mut events), Some(&tick)) {
                Ok(_) => {}
                Err(rustix::io::Errno::INTR) => continue,
                Err(error) => return Err(error.into()),
            }
            for event in events.drain(..) {
                let number = event.data.u64();
                match usize::try_from(number) {
                    Ok(endpoint) if endpoint < self.listeners.len() => self.accept(endpoint)?,
                    Ok(_) | Err(_) => self.serve(number),
                }
            }
        }
        Ok(())
    }

    fn accept(&mut self, endpoint: usize) -> io::Result<()> {
        while let Ok((stream, _)) = self.listeners[endpoint].accept() {
            stream.set_nonblocking(true)?;
            stream.set_nodelay(true)?;
            let number = self.next;
            self.next += 1;
            let data = epoll::EventData::new_u64(number);
            epoll::add(&self.epoll, &stream, data, epoll::EventFlags::IN)?;
            self.connections.insert(
                number,
                Guest {
                    stream,
                    endpoint,
                    input: Vec::new(),
                    output: Vec::new(),
                    waits_for_room: false,
                },
            );
        }
        Ok(())
    }

    /// Reads what there is, answers it, and drops a connection that ended or makes no sense.
    fn serve(&mut self, number: u64) {
        let Some(guest) = self.connections.get_mut(&number) else {
            return;
        };
        let endpoint = guest.endpoint;
        let mut alive = guest.flush().is_ok() && guest.fill();
        let mut calls: Vec<Vec<String>> = Vec::new();
        while alive {
            match parse(&guest.input) {
                Ok(Some((value, used))) => {
                    guest.input.drain(..used);
                    calls.push(value.members().iter().filter_map(Value::text).collect());
                }
                Ok(None) => break,
                Err(_) => alive = false,
            }
        }
        for words in calls {
            let call = Call {
                endpoint,
                connection: number,
                words: &words,
            };
            for answer in self.actor.answer(&call) {
                self.carry_out(number, endpoint, answer);
            }
        }
        self.ask_for_room(number);
        if !alive {
            self.connections.remove(&number);
            self.subscribers[endpoint].retain(|subscriber| *subscriber != number);
        }
    }

    fn carry_out(&mut self, number: u64, endpoint: usize, answer: Answer) {
        match answer {
            Answer::Reply(bytes) => self.say(number, &bytes),
            Answer::Subscribed(bytes) => {
                if !self.subscribers[endpoint].contains(&number) {
                    self.subscribers[endpoint].push(number);
                }
                self.say(number, &bytes);
            }
            Answer::Publish(endpoint, bytes) => {
                for subscriber in self.subscribers[endpoint].clone() {
                    self.say(subscriber, &bytes);
                }
            }
        }
    }

    fn say(&mut self, number: u64, bytes: &[u8]) {
        let Some(guest) = self.connections.get_mut(&number) else {
            return;
        };
        guest.output.extend_from_slice(bytes);
        // A failed connection is found out by reading it.
        let _ = guest.flush();
        self.ask_for_room(number);
    }

    /// Has epoll say when a connection can be written to, as long as there is something to be written.
    fn ask_for_room(&mut self, number: u64) {
        let Some(guest) = self.connections.get_mut(&number) else {
            return;
        };
        let waits = !guest.output.is_empty();
        if waits == guest.waits_for_room {
            return;
        }
        guest.waits_for_room = waits;
        let mut flags = epoll::EventFlags::IN;
        flags.set(epoll::EventFlags::OUT, waits);
        let data = epoll::EventData::new_u64(number);
        // It can only fail for a connection that is gone, which reading it will show.
        let _ = epoll::modify(&self.epoll, &guest.stream, data, flags);
    }
}

impl Guest {
    /// Whether the connection is still there after everything there was has been read.
    fn fill(&mut self) -> bool {
        let mut buffer = [0; 16384];
        loop {
            match self.stream.read(&mut buffer) {
                Ok(0) => return false,
                Ok(count) => self.input.extend_from_slice(&buffer[..count]),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return true,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(_) => return false,
            }
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        while !self.output.is_empty() {
            match self.stream.write(&self.output) {
                Ok(count) => drop(self.output.drain(..count)),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }
}

/// A bulk string.
pub(crate) fn bulk(text: &str) -> Vec<u8> {
    format!("${}\r\n{text}\r\n", text.len()).into_bytes()
}

/// An array of bulk strings: a message on a channel, for example.
pub(crate) fn message(words: &[&str]) -> Vec<u8> {
    crate::resp::encode(words)
}
