//! The log as Redis writes it: `<pid>:X <date> <mark> <text>`, to a file or to standard output.
//!
//! Operators' tools read these lines. A thread of its own writes them, so that a slow disk holds up nothing; what
//! exceeds the queue is left out and counted.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::time::Duration;

use jiff::Zoned;
use tandem_core::sentinel::commands::LogLevel;
use tandem_core::sentinel::io::Level;

/// Lines waiting to be written.
const WAITING_MAX: usize = 4096;
/// How long the end waits for the last lines.
const FLUSH_WITHIN: Duration = Duration::from_secs(1);

/// Where lines go.
#[derive(Clone)]
pub(super) struct RedisLog {
    items: SyncSender<Item>,
    /// Nothing at all where there is none.
    least: Option<Level>,
    left_out: Arc<AtomicU64>,
    pid: u32,
}

enum Item {
    Line(String),
    Flush(SyncSender<()>),
}

impl RedisLog {
    /// Begins to write to `path`, or to standard output. `least` decides what is left out.
    ///
    /// # Errors
    /// When the file cannot be opened for appending.
    pub(super) fn start(path: Option<PathBuf>, least: LogLevel) -> io::Result<Self> {
        if let Some(path) = &path {
            // Opened anew for each batch, as Redis does, so that a rotated file is followed; a wrong path shows now.
            open(path)?;
        }
        let (items, waiting) = sync_channel(WAITING_MAX);
        let left_out = Arc::new(AtomicU64::new(0));
        let counter = Arc::clone(&left_out);
        std::thread::Builder::new()
            .name("log".to_owned())
            .spawn(move || write_all(path.as_ref(), &waiting, &counter))?;
        Ok(Self {
            items,
            least: level_of(least),
            left_out,
            pid: std::process::id(),
        })
    }

    /// From now on, lines below `least` are left out.
    pub(super) fn set_least(&mut self, least: LogLevel) {
        self.least = level_of(least);
    }

    /// Writes a line.
    pub(super) fn line(&self, level: Level, text: &str) {
        if self.least.is_none_or(|least| level < least) {
            return;
        }
        let mark = match level {
            Level::Debug => '.',
            Level::Verbose => '-',
            Level::Notice => '*',
            Level::Warning => '#',
        };
        let time = Zoned::now().strftime("%d %b %Y %H:%M:%S%.3f").to_string();
        let line = format!("{}:X {time} {mark} {text}\n", self.pid);
        if self.items.try_send(Item::Line(line)).is_err() {
            self.left_out.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Waits until what was logged so far is written, within reason.
    pub(super) fn flush(&self) {
        let (done, written) = sync_channel(1);
        if self.items.try_send(Item::Flush(done)).is_ok() {
            // Out of time: the disk stands still, and we leave all the same.
            let _ = written.recv_timeout(FLUSH_WITHIN);
        }
    }
}

/// The least grave lines that are written.
fn level_of(least: LogLevel) -> Option<Level> {
    match least {
        LogLevel::Debug => Some(Level::Debug),
        LogLevel::Verbose => Some(Level::Verbose),
        LogLevel::Notice => Some(Level::Notice),
        LogLevel::Warning => Some(Level::Warning),
        LogLevel::Nothing => None,
    }
}

fn open(path: &PathBuf) -> io::Result<File> {
    OpenOptions::new().create(true).append(true).open(path)
}

fn write_all(path: Option<&PathBuf>, waiting: &Receiver<Item>, left_out: &AtomicU64) {
    while let Ok(item) = waiting.recv() {
        match item {
            Item::Line(mut text) => {
                let missing = left_out.swap(0, Ordering::Relaxed);
                if missing > 0 {
                    text.push_str(&format!("# {missing} lines were left out here\n"));
                }
                // A log that cannot be written is no reason to stop watching servers.
                let _ = match path {
                    Some(path) => open(path).and_then(|mut file| file.write_all(text.as_bytes())),
                    None => io::stdout().lock().write_all(text.as_bytes()),
                };
            }
            Item::Flush(done) => {
                // Whoever asked may have stopped waiting.
                let _ = done.send(());
            }
        }
    }
}
