//! Writes the configuration file: whole, atomically and synced, away from the loop.
//!
//! One thread does all writing, in order. Redis writes inside its loop, and a slow disk makes it miss its own pings;
//! here only what must be durable waits, namely a vote.

use std::io;
use std::sync::mpsc::{SyncSender, sync_channel};
use std::time::Duration;

use tandem_config::sentinel::{AclUser, Document, SentinelConf};
use tandem_core::sentinel::saved::SavedState;

use super::boot;
use crate::durable;

/// Writes that wait: the machine has at most one outstanding.
const WAITING_MAX: usize = 4;

/// How long the end of the process waits for the file.
const FINISH_WITHIN: Duration = Duration::from_secs(2);

/// A write's result goes to this.
type Done = Box<dyn FnOnce(Result<(), String>) + Send>;

/// The file and the thread that writes it.
pub(super) struct File {
    jobs: SyncSender<(SavedState, Vec<AclUser>, Done)>,
}

impl File {
    /// Takes over the file that was read into `conf`.
    ///
    /// # Errors
    /// When no thread can be started.
    pub(super) fn start(document: Document, conf: SentinelConf) -> io::Result<Self> {
        let (jobs, waiting) = sync_channel::<(SavedState, Vec<AclUser>, Done)>(WAITING_MAX);
        let mut writer = Writer { document, conf };
        std::thread::Builder::new()
            .name("config".to_owned())
            .spawn(move || {
                while let Ok((state, users, done)) = waiting.recv() {
                    done(writer.write(&state, users));
                }
            })?;
        Ok(Self { jobs })
    }

    /// Writes the state; `done` is called from the writing thread.
    pub(super) fn save(
        &self,
        state: SavedState,
        users: Vec<AclUser>,
        done: impl FnOnce(Result<(), String>) + Send + 'static,
    ) {
        let job: (SavedState, Vec<AclUser>, Done) = (state, users, Box::new(done));
        if let Err(error) = self.jobs.try_send(job) {
            let (std::sync::mpsc::TrySendError::Full(job)
            | std::sync::mpsc::TrySendError::Disconnected(job)) = error;
            (job.2)(Err("the writer of the file does not keep up".to_owned()));
        }
    }
}

impl File {
    /// Writes the state once more, after all that waits, and ends the writer.
    ///
    /// # Errors
    /// When it cannot be written, or the disk stands still; we leave all the same.
    pub(super) fn finish(self, state: SavedState, users: Vec<AclUser>) -> Result<(), String> {
        let (done, written) = sync_channel(1);
        self.save(state, users, move |result| {
            // Out of time: whoever asked has gone.
            let _ = done.try_send(result);
        });
        written
            .recv_timeout(FINISH_WITHIN)
            .unwrap_or_else(|_| Err("the disk does not answer".to_owned()))
    }
}

struct Writer {
    document: Document,
    /// What does not come from the machine: ports, TLS and so on.
    conf: SentinelConf,
}

impl Writer {
    fn write(&mut self, state: &SavedState, users: Vec<AclUser>) -> Result<(), String> {
        boot::put_state(&mut self.conf, state);
        self.conf.users = users;
        let text = self
            .document
            .render(&self.conf)
            .map_err(|error| error.to_string())?;
        if text == self.document.text() {
            return Ok(());
        }
        durable::replace(self.document.path(), &text)
            .map_err(|error| format!("{}: {error}", self.document.path().display()))?;
        self.document = self.document.clone().with_text(text);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn the_end_waits_for_the_file() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("sentinel.conf");
        fs::write(&path, "port 26379\nsentinel monitor m 10.0.0.1 6379 2\n").unwrap();
        let loaded = tandem_config::sentinel::read(
            &path,
            &crate::files::HostFiles,
            &tandem_config::sentinel::Overrides::default(),
        );
        let fresh = tandem_core::sentinel::SentinelId::parse(&"a".repeat(40)).unwrap();
        let mut state = boot::state_of(&loaded.conf, &fresh);
        state.current_epoch.0 = 7;
        let file = File::start(loaded.document, loaded.conf).unwrap();
        assert_eq!(file.finish(state, Vec::new()), Ok(()));
        let text = fs::read_to_string(&path).unwrap();
        assert!(text.contains("sentinel current-epoch 7"), "{text}");
    }
}
