//! The measuring client: what an application with one connection would have seen.
//!
//! A write every millisecond, each with a number of its own under a key of its own, so that every acknowledged write
//! can be looked for afterwards. Whatever goes wrong, an error reply included, makes the client drop its connection
//! and connect again at once. A number is used once: a write without an answer is never repeated, since nobody knows
//! whether it was carried out.
//!
//! It runs on an operating-system thread of its own inside a host's network. [`record`] holds what it saw.

mod record;

use std::io;
use std::net::{SocketAddr, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Context, anyhow};

pub use self::record::{Acknowledged, Record};
use crate::ns::Host;
use crate::poll;
use crate::resp::{Connection, Reply, encode};

/// How a client finds the server it writes to.
#[derive(Debug, Clone)]
pub enum Target {
    /// One address that stays, a VIP for example.
    Address(SocketAddr),
    /// Sentinels, asked in order before every connection until one answers.
    Sentinels {
        /// Their addresses.
        sentinels: Vec<SocketAddr>,
        /// The name of the group, Sentinel's "master name".
        group: String,
    },
}

/// How a client behaves.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Where to.
    pub target: Target,
    /// Time between the beginnings of two writes.
    pub interval: Duration,
    /// For a connection to be made.
    pub connect_timeout: Duration,
    /// For a write to be answered.
    pub reply_timeout: Duration,
    /// Distinguishes the keys of several clients: `KEY:1`, `KEY:2` ...
    pub key: String,
}

impl Settings {
    /// The impatient client of the benchmarks: a write each millisecond, 100 ms to connect, 250 ms for a reply.
    #[must_use]
    pub fn new(target: Target) -> Self {
        Self {
            target,
            interval: Duration::from_millis(1),
            connect_timeout: Duration::from_millis(100),
            reply_timeout: Duration::from_millis(250),
            key: "w".to_owned(),
        }
    }

    /// The patient client: 10 s for a connection and for a reply, as many libraries have by default.
    #[must_use]
    pub fn patient(target: Target) -> Self {
        let patience = Duration::from_secs(10);
        Self {
            connect_timeout: patience,
            reply_timeout: patience,
            ..Self::new(target)
        }
    }
}

/// A client at work.
#[derive(Debug)]
pub struct Client {
    record: Arc<Mutex<Record>>,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<io::Result<()>>>,
}

impl Client {
    /// Starts a client on a host.
    ///
    /// # Errors
    /// When no thread can be had.
    pub fn start(host: &Arc<Host>, settings: Settings) -> anyhow::Result<Self> {
        let record = Arc::new(Mutex::new(Record::new(&settings.key)));
        let stop = Arc::new(AtomicBool::new(false));
        let worker = Worker {
            record: Arc::clone(&record),
            stop: Arc::clone(&stop),
            settings,
        };
        let host = Arc::clone(host);
        let thread = std::thread::Builder::new()
            .name("lab-client".to_owned())
            .spawn(move || {
                host.move_in()?;
                worker.run();
                Ok(())
            })?;
        Ok(Self {
            record,
            stop,
            thread: Some(thread),
        })
    }

    /// What it has seen so far.
    #[must_use]
    pub fn record(&self) -> Record {
        self.record
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    /// Waits until it has been acknowledged writes without a gap of 50 ms for all of `span`, which began after `since`.
    ///
    /// # Errors
    /// When that does not happen within `bound`, with the errors that it met.
    pub fn wait_until_steady(
        &self,
        since: Instant,
        span: Duration,
        bound: Duration,
    ) -> anyhow::Result<()> {
        poll::until(
            "the client's writes to be acknowledged steadily",
            bound,
            Duration::from_millis(20),
            || {
                let record = self.record.lock().unwrap_or_else(PoisonError::into_inner);
                let now = Instant::now();
                let begin = now.checked_sub(span).filter(|begin| *begin >= since);
                let steady = begin.is_some_and(|begin| {
                    record.longest_gap(begin, now) < Duration::from_millis(50)
                });
                Ok(if steady {
                    Ok(())
                } else {
                    Err(format!("errors so far: {:?}", record.errors()))
                })
            },
        )
    }

    /// Ends it and returns what it saw.
    ///
    /// # Errors
    /// When it could not work at all.
    pub fn stop(mut self) -> anyhow::Result<Record> {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            thread
                .join()
                .map_err(|_| anyhow!("the client panicked"))?
                .context("entering the client's network")?;
        }
        Ok(self.record())
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
    }
}

/// The client's thread.
struct Worker {
    settings: Settings,
    record: Arc<Mutex<Record>>,
    stop: Arc<AtomicBool>,
}

/// Why a write was not acknowledged: the words under which it is counted, and whether it may have been carried out.
struct Failure {
    kind: String,
    sent: bool,
}

impl Worker {
    fn run(&self) {
        let mut connection: Option<Connection> = None;
        let mut number = 0;
        let mut due = Instant::now();
        while !self.stop.load(Ordering::Relaxed) {
            number += 1;
            let outcome = self.write(&mut connection, number);
            let now = Instant::now();
            {
                let mut record = self.record.lock().unwrap_or_else(PoisonError::into_inner);
                match outcome {
                    Ok(()) => record.acknowledge(number, now),
                    Err(failure) => {
                        connection = None;
                        record.fail(number, failure.kind, failure.sent);
                    }
                }
            }
            // A late write does not make the next ones crowd: the schedule goes on from now.
            due = (due + self.settings.interval).max(now);
            std::thread::sleep(due.saturating_duration_since(Instant::now()));
        }
    }

    fn write(&self, slot: &mut Option<Connection>, number: u64) -> Result<(), Failure> {
        let connection = match slot {
            Some(connection) => connection,
            None => slot.insert(self.connect()?),
        };
        let number = number.to_string();
        let sent = |error: &io::Error| Failure {
            kind: format!("reply: {}", kind(error)),
            sent: true,
        };
        let write = encode(&["SET", &format!("{}:{number}", self.settings.key), &number]);
        connection.send(&write).map_err(|error| sent(&error))?;
        match connection.read().map_err(|error| sent(&error))? {
            Reply::Simple(text) if text == "OK" => Ok(()),
            Reply::Error(text) => {
                let code = text.split_whitespace().next().unwrap_or("empty").to_owned();
                Err(Failure {
                    kind: code,
                    sent: false,
                })
            }
            other @ (Reply::Simple(_) | Reply::Integer(_) | Reply::Bulk(_) | Reply::Array(_)) => {
                Err(Failure {
                    kind: format!("reply: {other:?}"),
                    sent: true,
                })
            }
        }
    }

    fn connect(&self) -> Result<Connection, Failure> {
        let failed = |what: &str, error: &io::Error| Failure {
            kind: format!("{what}: {}", kind(error)),
            sent: false,
        };
        let address = match &self.settings.target {
            Target::Address(address) => *address,
            Target::Sentinels { sentinels, group } => {
                let found = sentinels
                    .iter()
                    .find_map(|sentinel| self.ask(*sentinel, group).ok());
                found.ok_or_else(|| Failure {
                    kind: "sentinel: none answers".to_owned(),
                    sent: false,
                })?
            }
        };
        let stream = TcpStream::connect_timeout(&address, self.settings.connect_timeout)
            .map_err(|error| failed("connect", &error))?;
        Connection::over(stream, self.settings.reply_timeout)
            .map_err(|error| failed("connect", &error))
    }

    /// Asks a Sentinel for the primary.
    fn ask(&self, sentinel: SocketAddr, group: &str) -> anyhow::Result<SocketAddr> {
        let stream = TcpStream::connect_timeout(&sentinel, self.settings.connect_timeout)?;
        let mut connection = Connection::over(stream, self.settings.connect_timeout)?;
        sentinel_answer(&connection.demand(&["SENTINEL", "GET-MASTER-ADDR-BY-NAME", group])?)
    }
}

/// Reads a Sentinel's answer to GET-MASTER-ADDR-BY-NAME: an array of address and port.
pub(crate) fn sentinel_answer(reply: &Reply) -> anyhow::Result<SocketAddr> {
    let Reply::Array(parts) = reply else {
        return Err(anyhow!("no address: {reply:?}"));
    };
    let [ip, port] = parts.as_slice() else {
        return Err(anyhow!("no address: {reply:?}"));
    };
    let (ip, port) = (
        ip.text().unwrap_or_default(),
        port.text().unwrap_or_default(),
    );
    Ok(SocketAddr::new(ip.parse()?, port.parse()?))
}

/// The kinds of error that a client can tell apart, in short words.
pub(crate) fn kind(error: &io::Error) -> &'static str {
    match error.kind() {
        // The kernel reports an expired SO_RCVTIMEO as "would block".
        io::ErrorKind::TimedOut | io::ErrorKind::WouldBlock => "timed out",
        io::ErrorKind::ConnectionRefused => "refused",
        io::ErrorKind::ConnectionReset
        | io::ErrorKind::BrokenPipe
        | io::ErrorKind::ConnectionAborted => "reset",
        io::ErrorKind::UnexpectedEof => "closed",
        io::ErrorKind::HostUnreachable | io::ErrorKind::NetworkUnreachable => "unreachable",
        _ => "other",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sentinels_answer_is_an_address_and_a_port() {
        let bulk = |text: &str| Reply::Bulk(Some(text.as_bytes().to_vec()));
        let answer = Reply::Array(vec![bulk("10.0.0.1"), bulk("6379")]);
        assert_eq!(
            sentinel_answer(&answer).unwrap(),
            "10.0.0.1:6379".parse().unwrap()
        );
        for nothing in [
            Reply::Array(Vec::new()),
            Reply::Bulk(None),
            Reply::Array(vec![bulk("x"), bulk("6379")]),
        ] {
            assert!(sentinel_answer(&nothing).is_err(), "{nothing:?}");
        }
    }
}
