//! The script that reads a FIFO: it runs as long as the daemon and is started again when it ends.
//!
//! A pause lies between an end and the next start, doubled each time up to half a minute, so that a script that cannot run
//! costs nothing; one that has run well for a while begins with the short pause again. The lines wait in the FIFO meanwhile.

use std::time::Duration;

use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep, timeout};
use tracing::warn;

use super::notify::{Finished, Outcome};
use super::{Job, Running};
use crate::vrrp::daemon::Happening;

const PAUSE_MIN: Duration = Duration::from_secs(1);
const PAUSE_MAX: Duration = Duration::from_secs(30);
/// One that ran for this long did not fail at its start.
const STEADY: Duration = Duration::from_secs(10);

/// A reader at work.
#[derive(Debug)]
pub(in crate::vrrp) struct Reader {
    job: Job,
    stop: oneshot::Sender<Duration>,
    worker: JoinHandle<()>,
}

impl Reader {
    /// Starts it once `before` has ended. Every end is reported to `report`.
    pub(in crate::vrrp) fn start(
        job: Job,
        before: Option<JoinHandle<()>>,
        report: mpsc::Sender<Happening>,
    ) -> Self {
        let (stop, stopped) = oneshot::channel();
        let worker = Worker {
            job: job.clone(),
            report,
        };
        Self {
            job,
            stop,
            worker: tokio::spawn(async move {
                if let Some(before) = before {
                    // It does not panic; if it did, it has ended as well.
                    let _ = before.await;
                }
                worker.run(stopped).await;
            }),
        }
    }

    /// What runs.
    pub(in crate::vrrp) fn job(&self) -> &Job {
        &self.job
    }

    /// Starts it no more. It may end by itself for `grace`, then it is ended; the handle ends with it.
    pub(in crate::vrrp) fn finish(self, grace: Duration) -> JoinHandle<()> {
        // A worker that is gone needs no word.
        let _ = self.stop.send(grace);
        self.worker
    }
}

struct Worker {
    job: Job,
    report: mpsc::Sender<Happening>,
}

impl Worker {
    async fn run(self, mut stopped: oneshot::Receiver<Duration>) {
        let mut pause = PAUSE_MIN;
        loop {
            let begun = Instant::now();
            let outcome = match self.job.start() {
                Ok(mut running) => tokio::select! {
                    biased;
                    grace = &mut stopped => {
                        end(running, grace.unwrap_or_default()).await;
                        return;
                    }
                    status = running.ended() => match status {
                        Ok(status) => Outcome::Exited(status),
                        Err(error) => Outcome::NotStarted(error.to_string()),
                    },
                },
                Err(error) => Outcome::NotStarted(error.to_string()),
            };
            if begun.elapsed() >= STEADY {
                pause = PAUSE_MIN;
            }
            self.tell(outcome, pause);
            tokio::select! {
                biased;
                _ = &mut stopped => return,
                () = sleep(pause) => {}
            }
            pause = (pause * 2).min(PAUSE_MAX);
        }
    }

    fn tell(&self, outcome: Outcome, pause: Duration) {
        let finished = Finished {
            owner: "FIFO".to_owned(),
            occasion: "reader",
            script: self.job.name().to_owned(),
            outcome,
        };
        let (script, words) = (&finished.script, finished.words());
        warn!("(FIFO) reader {script}: {words}; started again in {pause:?}");
        // A full queue costs the status a line, never the script.
        let _ = self.report.try_send(Happening::ScriptEnded(finished));
    }
}

async fn end(mut running: Running, grace: Duration) {
    if timeout(grace, running.ended()).await.is_err() {
        running.end().await;
    }
}
