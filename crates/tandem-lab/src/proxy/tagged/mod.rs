//! The tagged workload: many clients at once, pipelined, each of which knows what it may be told and recognises any
//! answer that was meant for somebody else.
//!
//! Each client is a thread with one connection. It sends commands in batches, up to two of them unanswered at a time,
//! now and then cut into pieces in the middle of a command, and judges each answer in its order by its `Model`. A
//! client that loses its connection, or leaves it, comes back with new keys. The first answer that cannot be stops the
//! workload and is its result.

mod model;

use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::net::{SocketAddr, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{anyhow, bail};

use self::model::{Model, Step, Verdict};
use crate::chance::Chance;
use crate::client::kind;
use crate::ns::Host;
use crate::poll;
use crate::resp::{Connection, Reply};

/// For a connection, and for each answer: longer than any fault of the lab.
const PATIENCE: Duration = Duration::from_secs(20);
/// Before a client connects again, and while it rests.
const PAUSE: Duration = Duration::from_millis(5);
/// Batches of one client that wait for answers at the same time.
const BATCHES: usize = 2;
/// How much of an answer is shown in a report.
const SHOWN: usize = 200;

/// How the clients behave.
#[derive(Debug, Clone)]
pub struct Settings {
    /// How many there are.
    pub clients: usize,
    /// The most commands in one batch; 1 is one request in flight per connection.
    pub depth: usize,
    /// The longest value.
    pub value_bytes_max: usize,
    /// Of a hundred batches, how many a client leaves behind unanswered: it closes its connection, in the middle of a
    /// batch or while answers are on their way, and comes back.
    pub leaves_percent: usize,
    /// Of a hundred batches, before how many it rests for some milliseconds without reading.
    pub rests_percent: usize,
    /// Chance begins here.
    pub seed: u64,
    /// Tells the keys of workloads that run beside or after each other apart.
    pub name: String,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            clients: 20,
            depth: 32,
            value_bytes_max: 20_000,
            leaves_percent: 0,
            rests_percent: 0,
            seed: 1,
            name: "t".to_owned(),
        }
    }
}

/// What the clients have seen so far.
#[derive(Debug, Clone, Default)]
pub struct Report {
    /// Exact answers of each client.
    pub exact: Vec<u64>,
    /// Error answers and lost connections, `GET: ERR Connection refused` or `connection: closed`, and how often.
    pub failures: BTreeMap<String, u64>,
    /// Failures of each client.
    pub failed: Vec<u64>,
    /// The longest time from sending to an answer, exact or error, since [`Workload::forget_longest`].
    pub longest: Duration,
    /// The first answer that cannot be.
    pub wrong: Option<String>,
}

impl Report {
    /// Failures of all kinds together.
    #[must_use]
    pub fn failure_count(&self) -> u64 {
        self.failures.values().sum()
    }
}

/// Clients at work, until they are stopped or dropped.
#[derive(Debug)]
pub struct Workload {
    shared: Arc<Shared>,
    threads: Vec<JoinHandle<()>>,
}

#[derive(Debug)]
struct Shared {
    report: Mutex<Report>,
    stop: AtomicBool,
}

impl Shared {
    fn report(&self) -> MutexGuard<'_, Report> {
        self.report.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Workload {
    /// Starts clients on a host.
    ///
    /// # Errors
    /// When a thread cannot be had.
    pub fn start(host: &Arc<Host>, to: SocketAddr, settings: &Settings) -> anyhow::Result<Self> {
        let shared = Arc::new(Shared {
            report: Mutex::new(Report {
                exact: vec![0; settings.clients],
                failed: vec![0; settings.clients],
                ..Report::default()
            }),
            stop: AtomicBool::new(false),
        });
        let mut workload = Self {
            shared,
            threads: Vec::new(),
        };
        for place in 0..settings.clients {
            let mut worker = Worker {
                place,
                to,
                chance: Chance::new(settings.seed.wrapping_mul(1_000_003) + place as u64),
                settings: settings.clone(),
                shared: Arc::clone(&workload.shared),
            };
            let host = Arc::clone(host);
            let thread = std::thread::Builder::new().name(format!("tagged-{place}"));
            workload.threads.push(thread.spawn(move || {
                if let Err(error) = host.move_in() {
                    worker.fail("network", &error.to_string());
                    return;
                }
                worker.run();
            })?);
        }
        Ok(workload)
    }

    /// What was seen until now.
    #[must_use]
    pub fn report(&self) -> Report {
        self.shared.report().clone()
    }

    /// Waits until every client has been given `more` further exact answers.
    ///
    /// # Errors
    /// At once for a wrong answer; when it does not happen within `bound`, with the failures so far.
    pub fn wait_for_each(&self, more: u64, bound: Duration) -> anyhow::Result<()> {
        let before = self.report().exact;
        let what = format!("{more} exact answers to each client");
        poll::until(&what, bound, Duration::from_millis(5), || {
            let report = self.shared.report();
            if let Some(wrong) = &report.wrong {
                bail!("{wrong}");
            }
            let counts = report.exact.iter().zip(&before);
            let least = counts.map(|(now, then)| now - then).min().unwrap_or(more);
            Ok(if least >= more {
                Ok(())
            } else {
                Err(format!("one had {least}; failures: {:?}", report.failures))
            })
        })
    }

    /// Lets [`Report::longest`] begin again. Answers that are awaited now count in full.
    pub fn forget_longest(&self) {
        self.shared.report().longest = Duration::ZERO;
    }

    /// Ends the clients and returns what they saw.
    ///
    /// # Errors
    /// The first answer that could not be.
    pub fn stop(mut self) -> anyhow::Result<Report> {
        self.shared.stop.store(true, Ordering::Relaxed);
        for thread in self.threads.drain(..) {
            thread.join().map_err(|_| anyhow!("a client panicked"))?;
        }
        let report = self.report();
        match &report.wrong {
            Some(wrong) => bail!("{wrong}"),
            None => Ok(report),
        }
    }
}

impl Drop for Workload {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::Relaxed);
    }
}

/// The thread of a client.
struct Worker {
    place: usize,
    to: SocketAddr,
    settings: Settings,
    chance: Chance,
    shared: Arc<Shared>,
}

/// Commands that were sent together, and when.
struct Batch {
    steps: VecDeque<Step>,
    sent: Instant,
}

impl Worker {
    fn run(&mut self) {
        let mut incarnation = 0;
        while !self.shared.stop.load(Ordering::Relaxed) {
            incarnation += 1;
            if let Err(error) = self.session(incarnation) {
                self.fail("connection", kind(&error));
                std::thread::sleep(PAUSE);
            }
        }
    }

    /// One connection, from its beginning to its end: the workload's, or an error.
    fn session(&mut self, incarnation: u32) -> io::Result<()> {
        let stream = TcpStream::connect_timeout(&self.to, PATIENCE)?;
        let mut connection = Connection::over(stream, PATIENCE)?;
        let tag = format!("{}{}.{incarnation}", self.settings.name, self.place);
        let mut model = Model::new(tag, self.settings.value_bytes_max);
        let mut unanswered: VecDeque<Batch> = VecDeque::new();
        let most = if self.settings.depth == 1 { 1 } else { BATCHES };
        loop {
            let ends = self.shared.stop.load(Ordering::Relaxed);
            if !ends && unanswered.len() < most {
                let batch = self.send(&mut connection, &mut model)?;
                unanswered.push_back(batch);
                if self.chance.below(100) < self.settings.leaves_percent {
                    return Ok(());
                }
            }
            if self.chance.below(100) < self.settings.rests_percent {
                std::thread::sleep(PAUSE);
            }
            if ends || unanswered.len() == most || self.chance.below(2) == 0 {
                let Some(batch) = unanswered.pop_front() else {
                    return Ok(());
                };
                self.receive(&mut connection, &mut model, batch)?;
            }
        }
    }

    fn send(&mut self, connection: &mut Connection, model: &mut Model) -> io::Result<Batch> {
        let count = 1 + self.chance.below(self.settings.depth);
        let steps: VecDeque<Step> = (0..count).map(|_| model.plan(&mut self.chance)).collect();
        let bytes: Vec<u8> = steps.iter().flat_map(|step| model.encode(step)).collect();
        let sent = Instant::now();
        // One batch in four arrives in two pieces, cut anywhere.
        let cut = match self.chance.below(4) {
            0 => self.chance.below(bytes.len()),
            _ => 0,
        };
        if cut > 0 {
            connection.send(&bytes[..cut])?;
            std::thread::yield_now();
        }
        connection.send(&bytes[cut..])?;
        Ok(Batch { steps, sent })
    }

    fn receive(
        &mut self,
        connection: &mut Connection,
        model: &mut Model,
        batch: Batch,
    ) -> io::Result<()> {
        for step in &batch.steps {
            let reply = connection.read()?;
            let verdict = model.judge(step, &reply);
            let mut report = self.shared.report();
            report.longest = report.longest.max(batch.sent.elapsed());
            match verdict {
                Verdict::Exact => report.exact[self.place] += 1,
                Verdict::Failed(text) => {
                    drop(report);
                    self.fail(step.name(), &text);
                }
                Verdict::Wrong(due) => {
                    let told = shown(&reply);
                    let wrong = format!(
                        "client {}: {step:?} was answered with {told}, not {due}",
                        self.place
                    );
                    report.wrong.get_or_insert(wrong);
                    self.shared.stop.store(true, Ordering::Relaxed);
                }
            }
        }
        Ok(())
    }

    fn fail(&self, what: &str, text: &str) {
        let mut report = self.shared.report();
        *report
            .failures
            .entry(format!("{what}: {text}"))
            .or_default() += 1;
        report.failed[self.place] += 1;
    }
}

/// An answer for a report: values can be long.
fn shown(reply: &Reply) -> String {
    let mut text = match reply {
        Reply::Bulk(Some(bytes)) => String::from_utf8_lossy(bytes).into_owned(),
        Reply::Bulk(None)
        | Reply::Simple(_)
        | Reply::Error(_)
        | Reply::Integer(_)
        | Reply::Array(_) => format!("{reply:?}"),
    };
    if let Some((end, _)) = text.char_indices().nth(SHOWN) {
        text.truncate(end);
        text.push_str("...");
    }
    text
}
