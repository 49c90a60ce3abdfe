//! Check scripts: run at their interval, one run at a time, each bounded by its timeout.
//!
//! A run that lasts longer than the interval makes the next one be skipped (keepalived logs the same); a run that exceeds
//! its timeout is one failure. What the results mean is `tandem_vrrp::track`.

use std::fs::File;
use std::time::Duration;

use tandem_config::keepalived::{ScriptDef, ScriptTest};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio::time::{Instant, MissedTickBehavior, interval, sleep_until};

use super::user::{Account, UnknownUser};
use super::{Job, describe};
use crate::vrrp::daemon::Happening;

/// One run of a check script.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::vrrp) struct Checked {
    /// The script's name.
    pub(in crate::vrrp) name: String,
    pub(in crate::vrrp) good: bool,
    /// Why, in words.
    pub(in crate::vrrp) words: String,
}

/// What one run does.
enum Test {
    Run(Job),
    Readable(std::path::PathBuf),
}

/// A running check; ends when dropped.
#[derive(Debug)]
pub(in crate::vrrp) struct Check {
    worker: JoinHandle<()>,
}

impl Check {
    /// Starts checking at once, then at each interval.
    ///
    /// # Errors
    /// The script's user does not exist.
    pub(in crate::vrrp) fn start(
        def: &ScriptDef,
        default: Option<&Account>,
        report: mpsc::Sender<Happening>,
    ) -> Result<Self, UnknownUser> {
        let test = match &def.test {
            Some(ScriptTest::Run(script)) => Test::Run(Job::new(script, &[], default)?),
            Some(ScriptTest::Readable(path, _)) => Test::Readable(path.clone()),
            // Refused when the file was read.
            None => Test::Readable(std::path::PathBuf::new()),
        };
        let (name, every, timeout) = (def.name.clone(), def.interval, def.timeout);
        let worker = tokio::spawn(async move {
            // An interval of zero would be a busy loop.
            let mut ticks = interval(every.max(Duration::from_millis(1)));
            ticks.set_missed_tick_behavior(MissedTickBehavior::Skip);
            loop {
                ticks.tick().await;
                let (good, words) = match &test {
                    Test::Run(job) => once(job, timeout).await,
                    Test::Readable(path) => match File::open(path) {
                        Ok(_) => (true, "readable".to_owned()),
                        Err(error) => (false, error.to_string()),
                    },
                };
                let checked = Checked {
                    name: name.clone(),
                    good,
                    words,
                };
                if report.send(Happening::Checked(checked)).await.is_err() {
                    return;
                }
            }
        });
        Ok(Self { worker })
    }
}

impl Drop for Check {
    fn drop(&mut self) {
        self.worker.abort();
    }
}

/// Runs it once: whether it was good, and why.
async fn once(job: &Job, timeout: Duration) -> (bool, String) {
    let mut running = match job.start() {
        Ok(running) => running,
        Err(error) => return (false, format!("not started: {error}")),
    };
    let deadline = Instant::now() + timeout;
    let status = tokio::select! {
        biased;
        status = running.ended() => Some(status),
        () = sleep_until(deadline) => None,
    };
    match status {
        Some(Ok(status)) => (status.success(), describe(status)),
        Some(Err(error)) => (false, error.to_string()),
        None => {
            running.end().await;
            (false, format!("timed out after {timeout:?}"))
        }
    }
}
