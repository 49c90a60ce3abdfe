//! Looks at servers and Sentinels all the time and notes when the first other server became a primary, when each
//! Sentinel named another one, and for how long the old one went on saying that it is primary.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use super::{Fleet, PORT};
use crate::client::sentinel_answer;
use crate::ns::Host;
use crate::poll;
use crate::resp::{Connection, Reply};

/// Between two looks.
const EVERY: Duration = Duration::from_millis(2);
/// For an answer: a frozen server is no primary.
const PATIENCE: Duration = Duration::from_millis(50);

/// What was seen.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Seen {
    /// When the first server other than the old primary said that it is one.
    pub writable: Option<Instant>,
    /// When each Sentinel first named another primary, by its place.
    pub named: Vec<Option<Instant>>,
    /// When the old primary last said that it is one.
    pub old_was_primary: Option<Instant>,
}

impl Seen {
    /// When the last Sentinel named another primary; nothing while one has not.
    #[must_use]
    pub fn known(&self) -> Option<Instant> {
        self.named
            .iter()
            .copied()
            .collect::<Option<Vec<_>>>()?
            .into_iter()
            .max()
    }
}

/// Looks until it is dropped.
#[derive(Debug)]
pub struct Observer {
    seen: Arc<Mutex<Seen>>,
    stop: Arc<AtomicBool>,
    threads: Vec<JoinHandle<()>>,
}

/// What one thread looks at.
#[derive(Debug, Clone, Copy)]
enum Subject {
    OldPrimary,
    OtherServer,
    Sentinel(usize),
}

impl Observer {
    /// Begins to look at a fleet whose primary is the server at a place.
    ///
    /// # Errors
    /// When no thread can be had.
    pub fn start(fleet: &Fleet, primary: usize) -> anyhow::Result<Self> {
        let old = fleet.servers()[primary].address();
        let mut observer = Self {
            seen: Arc::new(Mutex::new(Seen {
                named: vec![None; fleet.members().len()],
                ..Seen::default()
            })),
            stop: Arc::default(),
            threads: Vec::new(),
        };
        let mut subjects = Vec::new();
        for (place, server) in fleet.servers().iter().enumerate() {
            let subject = if place == primary {
                Subject::OldPrimary
            } else {
                Subject::OtherServer
            };
            subjects.push((subject, Arc::clone(server.host()), server.address().port()));
        }
        for (place, member) in fleet.members().iter().enumerate() {
            subjects.push((Subject::Sentinel(place), Arc::clone(member.host()), PORT));
        }
        for (subject, host, port) in subjects {
            let (seen, stop) = (Arc::clone(&observer.seen), Arc::clone(&observer.stop));
            let group = fleet.group().to_owned();
            let mut eye = Eye {
                host,
                port,
                connection: None,
            };
            let thread = std::thread::Builder::new().name("lab-observer".to_owned());
            observer.threads.push(thread.spawn(move || {
                while !stop.load(Ordering::Relaxed) {
                    let noted = match subject {
                        Subject::OldPrimary | Subject::OtherServer => eye.is_primary(),
                        Subject::Sentinel(_) => eye.names_another(&group, old),
                    };
                    if noted {
                        let now = Instant::now();
                        let mut seen = seen.lock().unwrap_or_else(PoisonError::into_inner);
                        match subject {
                            Subject::OldPrimary => seen.old_was_primary = Some(now),
                            Subject::OtherServer => seen.writable = seen.writable.or(Some(now)),
                            Subject::Sentinel(place) => {
                                seen.named[place] = seen.named[place].or(Some(now));
                            }
                        }
                    }
                    std::thread::sleep(EVERY);
                }
            })?);
        }
        Ok(observer)
    }

    /// What was seen until now.
    #[must_use]
    pub fn seen(&self) -> Seen {
        self.seen
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    /// Waits until a server is writable and the Sentinels from a place on name it.
    ///
    /// # Errors
    /// When that does not happen within `bound`.
    pub fn wait_until_known(&self, from: usize, bound: Duration) -> anyhow::Result<Seen> {
        poll::until("the new primary to be known", bound, EVERY, || {
            let seen = self.seen();
            let known = seen.writable.is_some() && seen.named[from..].iter().all(Option::is_some);
            Ok(if known {
                Ok(seen)
            } else {
                Err(format!("{seen:?}"))
            })
        })
    }
}

impl Drop for Observer {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        for thread in self.threads.drain(..) {
            // A panic there was reported when it happened.
            let _ = thread.join();
        }
    }
}

/// A connection that is made again when it fails.
struct Eye {
    host: Arc<Host>,
    port: u16,
    connection: Option<Connection>,
}

impl Eye {
    fn ask(&mut self, command: &[&str]) -> Option<Reply> {
        if self.connection.is_none() {
            let to = ([127, 0, 0, 1], self.port).into();
            self.connection = Connection::open(&self.host, to, PATIENCE).ok();
        }
        let reply = self.connection.as_mut()?.call(command).ok();
        if reply.is_none() {
            self.connection = None;
        }
        reply
    }

    fn is_primary(&mut self) -> bool {
        let Some(Reply::Array(parts)) = self.ask(&["ROLE"]) else {
            return false;
        };
        parts.first().and_then(Reply::text).as_deref() == Some("master")
    }

    fn names_another(&mut self, group: &str, old: std::net::SocketAddr) -> bool {
        let reply = self.ask(&["SENTINEL", "GET-MASTER-ADDR-BY-NAME", group]);
        reply.is_some_and(|reply| sentinel_answer(&reply).is_ok_and(|address| address != old))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_known_when_the_last_one_names_it() {
        let now = Instant::now();
        let later = now + Duration::from_millis(5);
        let mut seen = Seen {
            named: vec![Some(later), None, Some(now)],
            ..Seen::default()
        };
        assert_eq!(seen.known(), None);
        seen.named[1] = Some(now);
        assert_eq!(seen.known(), Some(later));
    }
}
