//! The log of a daemon: lines to stderr, written by a thread of their own.
//!
//! A reader that stands still, or a file system that is busy, must not hold the loop up: a daemon that is late looks
//! frozen to itself and to its peer. Lines wait in a bounded queue; beyond it they are left out and counted.

use std::io::{self, Write};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::time::Duration;

use tracing_subscriber::fmt::MakeWriter;

/// Lines waiting.
const WAITING_MAX: usize = 1024;
/// How long a daemon that ends waits for its last lines.
const FLUSH_WITHIN: Duration = Duration::from_secs(1);

/// Lines that found the queue full.
static LEFT_OUT: AtomicU64 = AtomicU64::new(0);

enum Item {
    Line(Vec<u8>),
    Flush(SyncSender<()>),
}

/// Where the subscriber writes.
#[derive(Clone)]
pub(crate) struct Log {
    items: SyncSender<Item>,
}

impl Log {
    /// Starts the writer.
    pub(crate) fn start() -> io::Result<Self> {
        let (items, waiting) = sync_channel(WAITING_MAX);
        std::thread::Builder::new()
            .name("log".to_owned())
            .spawn(move || write_all(&waiting))?;
        Ok(Self { items })
    }

    /// Waits until what was logged so far is written, within reason.
    pub(crate) fn flush(&self) {
        let (done, written) = sync_channel(1);
        if self.items.try_send(Item::Flush(done)).is_ok() {
            // Out of time: the reader stands still, and we leave all the same.
            let _ = written.recv_timeout(FLUSH_WITHIN);
        }
    }
}

fn write_all(waiting: &Receiver<Item>) {
    while let Ok(item) = waiting.recv() {
        match item {
            Item::Line(line) => {
                let left_out = LEFT_OUT.swap(0, Ordering::Relaxed);
                let mut stderr = io::stderr().lock();
                if left_out > 0 {
                    let _ = writeln!(
                        stderr,
                        "{left_out} lines were left out: the log is not read"
                    );
                }
                let _ = stderr.write_all(&line);
            }
            Item::Flush(done) => {
                let _ = done.try_send(());
            }
        }
    }
}

impl Write for Log {
    /// The subscriber writes one event at a time.
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.items.try_send(Item::Line(bytes.to_vec())).is_err() {
            LEFT_OUT.fetch_add(1, Ordering::Relaxed);
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl<'a> MakeWriter<'a> for Log {
    type Writer = Self;

    fn make_writer(&'a self) -> Self {
        self.clone()
    }
}
