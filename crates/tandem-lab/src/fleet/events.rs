//! Listens to every event of every member, as an operator's tool would, and notes when each was heard.

use std::io;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use super::{Fleet, Member, PORT};
use crate::ns::Host;
use crate::poll;
use crate::resp::encode;
use crate::wire::Raw;

/// Between two attempts to reach a Sentinel that is away, and the longest that an end is noticed late.
const RETRY: Duration = Duration::from_millis(20);
/// For all recorders to have subscribed.
const SUBSCRIBE_BOUND: Duration = Duration::from_secs(10);

/// An event as one member published it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Event {
    /// When it was heard.
    pub at: Instant,
    /// The member's place in the fleet.
    pub member: usize,
    /// The channel: `+sdown`.
    pub name: String,
    /// What it says.
    pub payload: String,
}

/// Records the events of a fleet until it is dropped.
#[derive(Debug)]
pub struct Recorder {
    heard: Arc<Mutex<Vec<Event>>>,
    stop: Arc<AtomicBool>,
    threads: Vec<JoinHandle<()>>,
}

impl Recorder {
    /// Subscribes to every member that is at work. One that dies is subscribed to again when it is back.
    ///
    /// # Errors
    /// When a member does not let it subscribe.
    pub fn start(fleet: &Fleet) -> anyhow::Result<Self> {
        Self::of(fleet.members().iter().map(Member::host))
    }

    /// As [`Recorder::start`], of the Sentinels on these hosts.
    ///
    /// # Errors
    /// As [`Recorder::start`].
    pub fn of<'a>(hosts: impl Iterator<Item = &'a Arc<Host>>) -> anyhow::Result<Self> {
        let heard = Arc::new(Mutex::new(Vec::new()));
        let stop = Arc::new(AtomicBool::new(false));
        let mut recorder = Self {
            heard: Arc::clone(&heard),
            stop: Arc::clone(&stop),
            threads: Vec::new(),
        };
        let mut subscribed = Vec::new();
        for (member, host) in hosts.enumerate() {
            let ready = Arc::new(AtomicBool::new(false));
            subscribed.push(Arc::clone(&ready));
            let ear = Ear {
                member,
                host: Arc::clone(host),
                heard: Arc::clone(&heard),
                stop: Arc::clone(&stop),
                ready,
            };
            let thread = std::thread::Builder::new().name("lab-events".to_owned());
            recorder.threads.push(thread.spawn(move || ear.run())?);
        }
        poll::until(
            "the event recorder to be subscribed",
            SUBSCRIBE_BOUND,
            RETRY,
            || {
                let missing = subscribed
                    .iter()
                    .filter(|ready| !ready.load(Ordering::Acquire))
                    .count();
                Ok(if missing == 0 {
                    Ok(())
                } else {
                    Err(format!("{missing} Sentinels do not let it"))
                })
            },
        )?;
        Ok(recorder)
    }

    /// Everything heard so far, in the order in which it was heard.
    #[must_use]
    pub fn events(&self) -> Vec<Event> {
        self.heard
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    /// What one member published, in its order.
    #[must_use]
    pub fn of_member(&self, member: usize) -> Vec<Event> {
        let mut events = self.events();
        events.retain(|event| event.member == member);
        events
    }

    /// The first event of a member with this name whose payload contains some words, if it was heard.
    #[must_use]
    pub fn find(&self, member: usize, name: &str, words: &str) -> Option<Event> {
        self.of_member(member)
            .into_iter()
            .find(|event| event.name == name && event.payload.contains(words))
    }

    /// Waits for such an event.
    ///
    /// # Errors
    /// When it is not heard within `bound`; what was heard is in the message.
    pub fn wait_for(
        &self,
        member: usize,
        name: &str,
        words: &str,
        bound: Duration,
    ) -> anyhow::Result<Event> {
        let what = format!("{name} `{words}` of member {member}");
        poll::until(&what, bound, RETRY, || {
            Ok(self.find(member, name, words).ok_or_else(|| {
                let heard = self.of_member(member);
                format!("it said {}", story(&heard).join("; "))
            }))
        })
    }

    /// Forgets what was heard.
    pub fn clear(&self) {
        self.heard
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clear();
    }
}

impl Drop for Recorder {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        for thread in self.threads.drain(..) {
            // A panic there was reported when it happened.
            let _ = thread.join();
        }
    }
}

/// Events as lines: name and payload.
#[must_use]
pub fn story(events: &[Event]) -> Vec<String> {
    events
        .iter()
        .map(|event| format!("{} {}", event.name, event.payload))
        .collect()
}

/// The thread that listens to one member.
struct Ear {
    member: usize,
    host: Arc<Host>,
    heard: Arc<Mutex<Vec<Event>>>,
    stop: Arc<AtomicBool>,
    ready: Arc<AtomicBool>,
}

impl Ear {
    fn run(self) {
        while !self.stop.load(Ordering::Relaxed) {
            // Whatever ends a subscription, a Sentinel that was killed for example, it is tried again.
            if self.listen().is_err() {
                std::thread::sleep(RETRY);
            }
        }
    }

    fn listen(&self) -> io::Result<()> {
        let to = SocketAddr::from(([127, 0, 0, 1], PORT));
        let mut raw = Raw::over(self.host.connect(to, Duration::from_secs(1))?)?;
        raw.send(&encode(&["PSUBSCRIBE", "*"]))?;
        while !self.stop.load(Ordering::Relaxed) {
            let message = match raw.read(RETRY) {
                Ok(message) => message,
                Err(error) if error.kind() == io::ErrorKind::TimedOut => continue,
                Err(error) => return Err(error),
            };
            let parts = message.members();
            let texts: Vec<_> = parts.iter().filter_map(crate::wire::Value::text).collect();
            match texts.as_slice() {
                [kind, _, name, payload] if kind == "pmessage" => {
                    let event = Event {
                        at: Instant::now(),
                        member: self.member,
                        name: name.clone(),
                        payload: payload.clone(),
                    };
                    self.heard
                        .lock()
                        .unwrap_or_else(PoisonError::into_inner)
                        .push(event);
                }
                [kind, ..] if kind == "psubscribe" => self.ready.store(true, Ordering::Release),
                _ => return Err(io::Error::new(io::ErrorKind::InvalidData, "no event")),
            }
        }
        Ok(())
    }
}
