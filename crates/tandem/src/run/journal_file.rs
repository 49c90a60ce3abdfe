//! The journal on disk: replaced as a whole, synced, in the order in which it was handed over.
//!
//! A thread of its own does the writing, because an fsync on the loop's thread would delay adverts.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};

use anyhow::{Context, Result};
use tandem_core::ids::HostId;
use tandem_core::journal::Journal;
use tokio::sync::oneshot;

use crate::durable;

/// Records waiting to be written. The keeper waits for the important ones, so this is never reached by
/// more than a few marks.
const QUEUE_MAX: usize = 64;

type Reply = oneshot::Sender<io::Result<()>>;

/// The writer of one group's journal.
#[derive(Debug)]
pub(crate) struct JournalFile {
    queue: SyncSender<(Vec<u8>, Option<Reply>)>,
}

/// Where a group's journal is.
pub(crate) fn path(group_dir: &Path) -> PathBuf {
    group_dir.join("journal")
}

impl JournalFile {
    /// Reads the journal, if there is one, and starts its writer.
    ///
    /// # Errors
    /// A journal that is torn, damaged or another host's: starting afresh on top of it could let an
    /// epoch go back, so a person has to look.
    pub(crate) fn open(group_dir: &Path, host: &HostId, group: &str) -> Result<(Self, Journal)> {
        let path = path(group_dir);
        let journal = match fs::read(&path) {
            Ok(bytes) => Journal::decode(&bytes, host, group).with_context(|| {
                format!(
                    "journal {}: it says who may be primary, so it is not replaced silently; if \
                     it is beyond repair, move it away on this host only and let the other host \
                     be primary",
                    path.display()
                )
            })?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                Journal::fresh(host.clone(), group)
            }
            Err(error) => {
                return Err(error).with_context(|| format!("journal {}", path.display()));
            }
        };
        let (queue, work) = sync_channel(QUEUE_MAX);
        std::thread::Builder::new()
            .name("journal".to_owned())
            .spawn(move || write_all(&path, &work))
            .context("journal thread")?;
        Ok((Self { queue }, journal))
    }

    /// Makes a record durable; the answer comes when it is.
    pub(crate) fn write(&self, journal: &Journal) -> oneshot::Receiver<io::Result<()>> {
        let (sender, receiver) = oneshot::channel();
        if let Err(
            TrySendError::Full((_, Some(reply))) | TrySendError::Disconnected((_, Some(reply))),
        ) = self.queue.try_send((journal.encode(), Some(sender)))
        {
            let _ = reply.send(Err(io::Error::other("the journal's writer is stuck")));
        }
        receiver
    }

    /// Writes a record when there is time; one that finds the writer busy is left out.
    pub(crate) fn mark(&self, journal: &Journal) {
        let _ = self.queue.try_send((journal.encode(), None));
    }
}

fn write_all(path: &Path, work: &Receiver<(Vec<u8>, Option<Reply>)>) {
    let mut file = Written::new(path);
    while let Ok((bytes, reply)) = work.recv() {
        match reply {
            Some(reply) => {
                let _ = reply.send(file.record(bytes));
            }
            None => {
                if let Err(error) = file.mark(bytes) {
                    tracing::warn!("journal {}: {error}", path.display());
                }
            }
        }
    }
}

/// The file and what it surely holds.
struct Written<'a> {
    path: &'a Path,
    /// Empty while that is not known.
    holds: Vec<u8>,
}

impl<'a> Written<'a> {
    fn new(path: &'a Path) -> Self {
        let holds = Vec::new();
        Self { path, holds }
    }

    fn record(&mut self, bytes: Vec<u8>) -> io::Result<()> {
        self.holds.clear();
        durable::replace(self.path, &bytes)?;
        self.holds = bytes;
        Ok(())
    }

    /// A group at rest makes the same mark every second: two syncs each time, for nothing.
    fn mark(&mut self, bytes: Vec<u8>) -> io::Result<()> {
        if bytes == self.holds {
            return Ok(());
        }
        self.record(bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_written_is_read_and_a_torn_one_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let host = HostId::new("a");
        let (file, mut journal) = JournalFile::open(dir.path(), &host, "g").unwrap();
        journal.epoch.counter = 9;
        file.write(&journal).blocking_recv().unwrap().unwrap();
        let (_, back) = JournalFile::open(dir.path(), &host, "g").unwrap();
        assert_eq!(back.epoch.counter, 9);
        let mut bytes = fs::read(path(dir.path())).unwrap();
        bytes.truncate(bytes.len() / 2);
        fs::write(path(dir.path()), &bytes).unwrap();
        let error = JournalFile::open(dir.path(), &host, "g").unwrap_err();
        assert!(
            format!("{error:#}").contains("torn or damaged"),
            "{error:#}"
        );
    }

    #[test]
    fn only_a_mark_that_says_something_new_is_written() {
        let dir = tempfile::tempdir().unwrap();
        let path = path(dir.path());
        let mut file = Written::new(&path);
        let mut puts = |is_mark: bool, bytes: &[u8]| {
            let _ = fs::remove_file(&path);
            let put = match is_mark {
                true => file.mark(bytes.to_vec()),
                false => file.record(bytes.to_vec()),
            };
            put.unwrap();
            path.exists()
        };
        assert!(puts(true, b"first"));
        assert!(!puts(true, b"first"));
        assert!(puts(false, b"first"), "a record always is");
        assert!(puts(true, b"second"));
        let blocked = dir.path().join("no/such/folder");
        let mut file = Written::new(&blocked);
        assert!(file.mark(b"first".to_vec()).is_err());
        fs::create_dir_all(blocked.parent().unwrap()).unwrap();
        file.mark(b"first".to_vec()).unwrap();
        assert!(blocked.exists(), "what failed is tried again");
    }
}
