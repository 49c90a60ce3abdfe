//! FIFOs together with the scripts that read them: opened, changed by a reload, closed.

use std::time::Duration;

use tokio::task::JoinHandle;
use tracing::error;

use super::daemon::Daemon;
use super::fifo::Fifo;
use super::plan::FifoPlan;
use super::scripts::Job;
use super::scripts::reader::Reader;
use super::scripts::user::{self, Account};

/// At the end a reader has this long for the last lines; it meets the end of the FIFO behind them.
const READ_OUT: Duration = Duration::from_secs(2);

/// A FIFO, and its reader if the file names one.
#[derive(Debug)]
pub(super) struct Outlet {
    fifo: Fifo,
    reader: Option<Reader>,
}

impl Outlet {
    fn close(self) -> Option<JoinHandle<()>> {
        self.fifo.close();
        self.reader.map(|reader| reader.finish(READ_OUT))
    }
}

impl Daemon {
    /// Opens what the plan names. What was open before stays open, with the lines that wait in it.
    pub(super) fn open_fifos(&mut self) {
        let mut old = std::mem::take(&mut self.outlets);
        for plan in self.plan.fifos.clone() {
            let known = old
                .iter()
                .position(|outlet| outlet.fifo.path() == plan.path)
                .map(|at| old.remove(at));
            let (fifo, reader) = match known {
                Some(outlet) => (outlet.fifo, outlet.reader),
                None => match Fifo::open(&plan.path, self.owner(&plan).as_ref()) {
                    Ok(fifo) => (fifo, None),
                    Err(error) => {
                        let path = plan.path.display();
                        error!("FIFO {path}: {error}; nothing is written there");
                        continue;
                    }
                },
            };
            let reader = self.reader(&plan, reader);
            self.outlets.push(Outlet { fifo, reader });
        }
        for outlet in old {
            outlet.close();
        }
    }

    fn owner(&self, plan: &FifoPlan) -> Option<Account> {
        match &plan.owner {
            Some((name, group)) => user::find(name, group.as_deref())
                .inspect_err(|problem| error!("FIFO {}: {problem}", plan.path.display()))
                .ok(),
            None => self.default_user.clone(),
        }
    }

    /// The reader that the plan names: the one that runs if it is the same, else a new one that begins when that has ended.
    fn reader(&self, plan: &FifoPlan, running: Option<Reader>) -> Option<Reader> {
        let argument = plan.path.display().to_string();
        let job = plan.script.as_ref().and_then(|script| {
            Job::new(script, &[&argument], self.default_user.as_ref())
                .inspect_err(|problem| error!("the FIFO's script cannot run: {problem}"))
                .ok()
        });
        match (running, job) {
            (Some(running), Some(job)) if *running.job() == job => Some(running),
            (running, job) => {
                let before = running.map(|reader| reader.finish(Duration::ZERO));
                job.map(|job| Reader::start(job, before, self.report.clone()))
            }
        }
    }

    pub(super) fn write_fifos(&mut self, line: &str) {
        for outlet in &mut self.outlets {
            outlet.fifo.write(line);
        }
    }

    /// What waits, for readers that have read something.
    pub(super) fn flush_fifos(&mut self) {
        for outlet in &mut self.outlets {
            outlet.fifo.flush();
        }
    }

    /// Looks whether the paths still lead to what is written to.
    pub(super) fn follow_fifos(&mut self) {
        for outlet in &mut self.outlets {
            outlet.fifo.follow();
        }
    }

    /// Closes all; the handles are those of the readers' ends.
    pub(super) fn close_fifos(&mut self) -> Vec<JoinHandle<()>> {
        self.outlets.drain(..).filter_map(Outlet::close).collect()
    }
}
