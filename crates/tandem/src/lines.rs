//! Lines of a log, written by a thread of their own, so that a slow disk holds up nothing.
//!
//! Lines wait in a bounded queue; what exceeds it is left out and counted, and the count is written where they are
//! missing. What a line looks like is the business of whoever logs.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::time::Duration;

/// Lines waiting to be written.
const WAITING_MAX: usize = 4096;
/// How long the end waits for the last lines.
const FLUSH_WITHIN: Duration = Duration::from_secs(1);

/// Where lines go.
#[derive(Debug)]
pub(crate) enum Target {
    Stdout,
    Stderr,
    /// A file that is opened for each line, as Redis does: one that was rotated is followed.
    Anew(PathBuf),
    /// A file that stays open until [`Lines::reopen`], as twemproxy does.
    Kept(PathBuf),
}

/// The near end of the queue.
#[derive(Debug, Clone)]
pub(crate) struct Lines {
    items: SyncSender<Item>,
    left_out: Arc<AtomicU64>,
}

enum Item {
    Line(String),
    Reopen,
    Flush(SyncSender<()>),
}

impl Lines {
    /// Starts the writer.
    ///
    /// # Errors
    /// When a file cannot be opened for appending: a wrong path shows now.
    pub(crate) fn start(target: Target) -> io::Result<Self> {
        let outlet = Outlet::new(target)?;
        let (items, waiting) = sync_channel(WAITING_MAX);
        let left_out = Arc::new(AtomicU64::new(0));
        let counter = Arc::clone(&left_out);
        std::thread::Builder::new()
            .name("log".to_owned())
            .spawn(move || write_all(outlet, &waiting, &counter))?;
        Ok(Self { items, left_out })
    }

    /// Writes a line, which ends with its break.
    pub(crate) fn line(&self, line: String) {
        if self.items.try_send(Item::Line(line)).is_err() {
            self.left_out.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Closes the file and opens one of the same name, after what was logged so far.
    ///
    /// If that fails the old one is kept: lines in a file that was moved away are better than none.
    pub(crate) fn reopen(&self) {
        // With a full queue the disk stands still; the next signal will do.
        let _ = self.items.try_send(Item::Reopen);
    }

    /// Waits until what was logged so far is written, within reason.
    pub(crate) fn flush(&self) {
        let (done, written) = sync_channel(1);
        if self.items.try_send(Item::Flush(done)).is_ok() {
            // Out of time: the disk stands still, and we leave all the same.
            let _ = written.recv_timeout(FLUSH_WITHIN);
        }
    }
}

enum Outlet {
    Stdout,
    Stderr,
    Anew(PathBuf),
    Kept(PathBuf, File),
}

impl Outlet {
    fn new(target: Target) -> io::Result<Self> {
        Ok(match target {
            Target::Stdout => Self::Stdout,
            Target::Stderr => Self::Stderr,
            Target::Anew(path) => {
                open(&path)?;
                Self::Anew(path)
            }
            Target::Kept(path) => {
                let file = open(&path)?;
                Self::Kept(path, file)
            }
        })
    }

    fn write(&mut self, text: &[u8]) -> io::Result<()> {
        match self {
            Self::Stdout => io::stdout().lock().write_all(text),
            Self::Stderr => io::stderr().lock().write_all(text),
            Self::Anew(path) => open(path)?.write_all(text),
            Self::Kept(_, file) => file.write_all(text),
        }
    }

    fn reopen(&mut self) {
        if let Self::Kept(path, file) = self
            && let Ok(fresh) = open(path)
        {
            *file = fresh;
        }
    }
}

fn open(path: &Path) -> io::Result<File> {
    // The mode of Redis and twemproxy, whatever the process's mask is.
    OpenOptions::new()
        .create(true)
        .append(true)
        .mode(0o644)
        .open(path)
}

fn write_all(mut outlet: Outlet, waiting: &Receiver<Item>, left_out: &AtomicU64) {
    while let Ok(item) = waiting.recv() {
        match item {
            Item::Line(mut text) => {
                let missing = left_out.swap(0, Ordering::Relaxed);
                if missing > 0 {
                    text.push_str(&format!("# {missing} lines were left out here\n"));
                }
                // A log that cannot be written is no reason to stop serving.
                let _ = outlet.write(text.as_bytes());
            }
            Item::Reopen => outlet.reopen(),
            Item::Flush(done) => {
                // Whoever asked may have stopped waiting.
                let _ = done.send(());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn a_kept_file_is_followed_only_when_told() {
        let dir = tempfile::tempdir().unwrap();
        let (path, moved) = (dir.path().join("log"), dir.path().join("log.1"));
        let lines = Lines::start(Target::Kept(path.clone())).unwrap();
        lines.line("a\n".to_owned());
        lines.flush();
        fs::rename(&path, &moved).unwrap();
        lines.line("b\n".to_owned());
        lines.reopen();
        lines.line("c\n".to_owned());
        lines.flush();
        assert_eq!(fs::read_to_string(&moved).unwrap(), "a\nb\n");
        assert_eq!(fs::read_to_string(&path).unwrap(), "c\n");
    }

    #[test]
    fn a_file_opened_anew_is_followed_at_once() {
        let dir = tempfile::tempdir().unwrap();
        let (path, moved) = (dir.path().join("log"), dir.path().join("log.1"));
        let lines = Lines::start(Target::Anew(path.clone())).unwrap();
        lines.line("a\n".to_owned());
        lines.flush();
        fs::rename(&path, &moved).unwrap();
        lines.line("b\n".to_owned());
        lines.flush();
        assert_eq!(fs::read_to_string(&moved).unwrap(), "a\n");
        assert_eq!(fs::read_to_string(&path).unwrap(), "b\n");
    }

    #[test]
    fn a_path_that_cannot_be_written_shows_at_once() {
        let path = PathBuf::from("/nowhere/at/all/log");
        assert!(Lines::start(Target::Kept(path.clone())).is_err());
        assert!(Lines::start(Target::Anew(path)).is_err());
    }
}
