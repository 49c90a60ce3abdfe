//! Notify scripts of one instance or group: one at a time, in order, and only for the newest state.
//!
//! keepalived starts them and looks away, so that an old state's script may finish after a new one's. Here a [`Lane`] runs
//! them one after another; a batch for a newer state drops what has not begun, ends what runs, and begins when that is
//! gone. The one exception is keepalived's order within a state: the specific script, then the generic one.

use std::collections::VecDeque;
use std::io;
use std::process::ExitStatus;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep_until};
use tracing::{info, warn};

use super::{Job, Running, describe};
use crate::vrrp::daemon::Happening;

/// Batches that may wait while a script is being ended. States change no faster than that.
const BATCHES_MAX: usize = 64;
/// Scripts waiting in one lane, for instances that hear lower masters again and again.
const WAITING_MAX: usize = 16;

/// The scripts of one change.
#[derive(Debug, Clone)]
pub(in crate::vrrp) struct Batch {
    /// `MASTER` and so on, for the log.
    pub(in crate::vrrp) occasion: &'static str,
    /// Whether this is a state, which ends the scripts of older ones.
    pub(in crate::vrrp) supersedes: bool,
    /// In order.
    pub(in crate::vrrp) jobs: Vec<Job>,
}

/// How one script ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::vrrp) enum Outcome {
    Exited(ExitStatus),
    /// It ran longer than it may.
    TimedOut,
    /// A newer state came.
    Superseded,
    /// It could not be started.
    NotStarted(String),
}

/// A script's end, for the log and the status.
#[derive(Debug, Clone)]
pub(in crate::vrrp) struct Finished {
    /// Instance or group.
    pub(in crate::vrrp) owner: String,
    pub(in crate::vrrp) occasion: &'static str,
    pub(in crate::vrrp) script: String,
    pub(in crate::vrrp) outcome: Outcome,
}

impl Finished {
    /// The outcome in words.
    pub(in crate::vrrp) fn words(&self) -> String {
        match &self.outcome {
            Outcome::Exited(status) => describe(*status),
            Outcome::TimedOut => "timed out".to_owned(),
            Outcome::Superseded => "ended for a newer state".to_owned(),
            Outcome::NotStarted(why) => format!("not started: {why}"),
        }
    }

    pub(in crate::vrrp) fn log(&self) {
        let Self {
            owner,
            occasion,
            script,
            outcome,
        } = self;
        let words = self.words();
        match outcome {
            Outcome::Exited(status) if status.success() => {
                info!("({owner}) {occasion} script {script}: {words}");
            }
            Outcome::Superseded => info!("({owner}) {occasion} script {script}: {words}"),
            Outcome::Exited(_) | Outcome::TimedOut | Outcome::NotStarted(_) => {
                warn!("({owner}) {occasion} script {script}: {words}");
            }
        }
    }
}

/// A queue with one worker.
#[derive(Debug)]
pub(in crate::vrrp) struct Lane {
    batches: mpsc::Sender<Batch>,
    worker: JoinHandle<()>,
}

impl Lane {
    /// Starts the worker. Every script's end is reported to `report`.
    pub(in crate::vrrp) fn start(
        owner: String,
        timeout: Duration,
        report: mpsc::Sender<Happening>,
    ) -> Self {
        let (batches, queue) = mpsc::channel(BATCHES_MAX);
        let worker = Worker {
            owner,
            timeout,
            report,
            queue,
            waiting: VecDeque::new(),
        };
        Self {
            batches,
            worker: tokio::spawn(worker.run()),
        }
    }

    /// Adds the scripts of a change. `false` if the lane is full: they will not run.
    pub(in crate::vrrp) fn push(&self, batch: Batch) -> bool {
        self.batches.try_send(batch).is_ok()
    }

    /// Takes nothing more; the handle ends with the last script.
    pub(in crate::vrrp) fn finish(self) -> JoinHandle<()> {
        self.worker
    }
}

/// Why a script is no longer waited for.
enum Verdict {
    Ended(io::Result<ExitStatus>),
    Timeout,
    Newer(Batch),
}

struct Worker {
    owner: String,
    timeout: Duration,
    report: mpsc::Sender<Happening>,
    queue: mpsc::Receiver<Batch>,
    waiting: VecDeque<(&'static str, Job)>,
}

impl Worker {
    async fn run(mut self) {
        loop {
            // What has come meanwhile may supersede what waits.
            while let Ok(batch) = self.queue.try_recv() {
                self.take(batch);
            }
            if let Some((occasion, job)) = self.waiting.pop_front() {
                self.execute(occasion, &job).await;
            } else if let Some(batch) = self.queue.recv().await {
                self.take(batch);
            } else {
                return;
            }
        }
    }

    fn take(&mut self, batch: Batch) {
        if batch.supersedes {
            let dropped: Vec<_> = self.waiting.drain(..).collect();
            for (occasion, job) in dropped {
                self.tell(occasion, &job, Outcome::Superseded);
            }
        }
        for job in batch.jobs {
            if self.waiting.len() >= WAITING_MAX {
                let why = format!("{WAITING_MAX} scripts are waiting");
                self.tell(batch.occasion, &job, Outcome::NotStarted(why));
            } else {
                self.waiting.push_back((batch.occasion, job));
            }
        }
    }

    async fn execute(&mut self, occasion: &'static str, job: &Job) {
        let mut running = match job.start() {
            Ok(running) => running,
            Err(error) => {
                self.tell(occasion, job, Outcome::NotStarted(error.to_string()));
                return;
            }
        };
        let deadline = Instant::now() + self.timeout;
        let outcome = loop {
            match self.wait(&mut running, deadline).await {
                Verdict::Ended(Ok(status)) => break Outcome::Exited(status),
                Verdict::Ended(Err(error)) => break Outcome::NotStarted(error.to_string()),
                Verdict::Timeout => {
                    running.end().await;
                    break Outcome::TimedOut;
                }
                Verdict::Newer(batch) if batch.supersedes => {
                    running.end().await;
                    self.take(batch);
                    break Outcome::Superseded;
                }
                Verdict::Newer(batch) => self.take(batch),
            }
        };
        self.tell(occasion, job, outcome);
    }

    async fn wait(&mut self, running: &mut Running, deadline: Instant) -> Verdict {
        tokio::select! {
            biased;
            status = running.ended() => Verdict::Ended(status),
            Some(batch) = self.queue.recv() => Verdict::Newer(batch),
            () = sleep_until(deadline) => Verdict::Timeout,
        }
    }

    fn tell(&self, occasion: &'static str, job: &Job, outcome: Outcome) {
        let finished = Finished {
            owner: self.owner.clone(),
            occasion,
            script: job.name().to_owned(),
            outcome,
        };
        finished.log();
        // A full queue costs the status a line, never the script.
        let _ = self.report.try_send(Happening::ScriptEnded(finished));
    }
}
