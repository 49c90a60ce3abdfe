//! Waits for the death of one process on all its pidfds at once.

use std::fs;
use std::future::poll_fn;
use std::io;
use std::os::fd::OwnedFd;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use rustix::process::{Pid, PidfdFlags, pidfd_open};
use tokio::io::unix::AsyncFd;

use super::super::sys;
use super::{Life, Process};

/// `PIDFD_THREAD` is defined as `O_EXCL`.
const PIDFD_THREAD: PidfdFlags = PidfdFlags::from_bits_retain(libc::O_EXCL.cast_unsigned());
/// Two siblings would do, as only the last user of the memory is held up by it; more make it likelier that one of them
/// sleeps somewhere that a kill ends quickly.
const THREADS_MAX: usize = 8;
/// A killed process carries the proof before its first thread ends. One that ends by itself or crashes does so within
/// microseconds, unless its main thread waits for a processor: so long the flag is looked at again and again.
const SUSPICION: Duration = Duration::from_millis(50);
/// For the first of it the looks follow each other as fast as the loop lets them: the main thread's flag has been
/// seen 30 us after the first thread's exit, and tokio's timer would round that up to two milliseconds.
const EAGER: Duration = Duration::from_micros(500);
/// Time between two later looks, the resolution of tokio's timer.
const LOOK_INTERVAL: Duration = Duration::from_millis(1);

/// How a death was proved.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum DeathProof {
    /// The process is completely gone: its sockets are closed.
    Exited,
    /// It is exiting. Its sockets may still accept and receive: refuse at the port and destroy them.
    Exiting,
}

/// A watch over one process.
#[derive(Debug)]
pub(crate) struct Watch {
    process: Process,
    whole: AsyncFd<OwnedFd>,
    threads: Vec<AsyncFd<OwnedFd>>,
    suspicious_until: Option<Instant>,
}

impl Watch {
    /// Opens the pidfds. Must be called inside a runtime; needs no privilege.
    ///
    /// # Errors
    /// `NotFound` if the process is gone already or the pid has another owner; otherwise what the kernel says
    /// (`EMFILE`, or `ENOSYS` before Linux 5.3).
    pub(crate) fn new(process: Process) -> io::Result<Self> {
        let pid = Pid::from_raw(process.pid()).ok_or(io::ErrorKind::NotFound)?;
        let whole =
            sys::watch_readable(pidfd_open(pid, PidfdFlags::NONBLOCK).map_err(gone_is_not_found)?)?;
        // Checked after opening: from here on the pidfd names the process that was checked, whatever becomes of the pid.
        match process.check_now()? {
            Life::Alive | Life::Killed | Life::Exiting => {}
            Life::Gone | Life::Reused => return Err(io::ErrorKind::NotFound.into()),
        }
        let mut watch = Self {
            process,
            whole,
            threads: Vec::new(),
            suspicious_until: None,
        };
        watch.open_threads();
        Ok(watch)
    }

    /// How many threads give early notice; zero on kernels before 6.9 and for single-threaded processes.
    #[cfg(test)]
    pub(super) fn thread_count(&self) -> usize {
        self.threads.len()
    }

    /// Waits for the death. May be cancelled and called again; once over, it answers at once each time.
    ///
    /// # Errors
    /// Only if `/proc` cannot be read or the reactor is gone: then nothing is known.
    pub(crate) async fn exited(&mut self) -> io::Result<DeathProof> {
        loop {
            // Whatever woke us, and also the first time: the flag decides.
            match self.process.check_now()? {
                Life::Gone | Life::Reused => return Ok(DeathProof::Exited),
                Life::Killed | Life::Exiting if self.whole_is_readable().await? => {
                    return Ok(DeathProof::Exited);
                }
                Life::Killed | Life::Exiting => return Ok(DeathProof::Exiting),
                Life::Alive => {}
            }
            match self.suspicious_until {
                None => self.wait().await?,
                Some(until) if Instant::now() + (SUSPICION - EAGER) < until => {
                    tokio::task::yield_now().await;
                }
                Some(until) if Instant::now() < until => {
                    // The outcome does not matter: both mean another look.
                    let _ = tokio::time::timeout(LOOK_INTERVAL, self.wait()).await;
                }
                Some(_) => {
                    // The thread ended of its own accord. Others may have been started.
                    self.suspicious_until = None;
                    self.open_threads();
                }
            }
        }
    }

    /// Waits until the process' pidfd or one of the threads' becomes readable; an ended thread is forgotten.
    async fn wait(&mut self) -> io::Result<()> {
        poll_fn(|context| self.poll(context)).await
    }

    fn poll(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        if let Poll::Ready(ready) = self.whole.poll_read_ready(context) {
            return Poll::Ready(ready.map(drop));
        }
        for index in 0..self.threads.len() {
            if let Poll::Ready(ready) = self.threads[index].poll_read_ready(context) {
                let outcome = ready.map(drop);
                self.threads.swap_remove(index);
                self.suspicious_until = Some(Instant::now() + SUSPICION);
                return Poll::Ready(outcome);
            }
        }
        Poll::Pending
    }

    /// Whether the process' own pidfd is readable now.
    async fn whole_is_readable(&self) -> io::Result<bool> {
        poll_fn(|context| match self.whole.poll_read_ready(context) {
            Poll::Ready(ready) => Poll::Ready(ready.map(|_| true)),
            Poll::Pending => Poll::Ready(Ok(false)),
        })
        .await
    }

    /// Opens pidfds for the threads other than the main one. Failure means less early notice, not less safety.
    fn open_threads(&mut self) {
        self.threads.clear();
        let pid = self.process.pid();
        let Ok(entries) = fs::read_dir(format!("/proc/{pid}/task")) else {
            return;
        };
        let threads = entries
            .flatten()
            .filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok());
        self.threads = threads
            .filter(|thread| *thread != pid)
            .filter_map(|thread| {
                pidfd_open(Pid::from_raw(thread)?, PIDFD_THREAD | PidfdFlags::NONBLOCK).ok()
            })
            .filter_map(|fd| sys::watch_readable(fd).ok())
            .take(THREADS_MAX)
            .collect();
    }
}

fn gone_is_not_found(error: rustix::io::Errno) -> io::Error {
    if error == rustix::io::Errno::SRCH {
        io::ErrorKind::NotFound.into()
    } else {
        error.into()
    }
}

#[cfg(test)]
mod tests {
    use std::process::{Command, Stdio};

    use super::*;

    fn runtime() -> tokio::runtime::Runtime {
        tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .expect("a runtime")
    }

    #[test]
    fn a_watch_waits_for_the_kill_and_not_for_less() {
        runtime().block_on(async {
            let mut child = Command::new("sleep")
                .arg("60")
                .stdin(Stdio::null())
                .spawn()
                .expect("sleep starts");
            let pid = i32::try_from(child.id()).expect("a pid");
            let process = Process::with_pid(pid).expect("readable").expect("it runs");
            let mut watch = Watch::new(process).expect("a watch");
            rustix::process::kill_process(
                Pid::from_raw(pid).expect("a pid"),
                rustix::process::Signal::STOP,
            )
            .expect("stopped");
            let early = tokio::time::timeout(Duration::from_millis(5), watch.exited()).await;
            assert!(early.is_err(), "stopped is not dead");
            child.kill().expect("killed");
            watch.exited().await.expect("a proof");
            child.wait().expect("reaped");
            assert_eq!(watch.exited().await.expect("again"), DeathProof::Exited);
            assert_eq!(
                Watch::new(process).expect_err("gone").kind(),
                io::ErrorKind::NotFound
            );
        });
    }

    #[test]
    fn a_thread_that_ends_alone_proves_nothing() {
        runtime().block_on(async {
            let (stop, stopped) = std::sync::mpsc::channel::<()>();
            let thread = std::thread::spawn(move || stopped.recv());
            let own = i32::try_from(std::process::id()).expect("a pid");
            let process = Process::with_pid(own).expect("readable").expect("that is us");
            let mut watch = Watch::new(process).expect("a watch");
            if watch.thread_count() == 0 {
                println!("skipped: a_thread_that_ends_alone_proves_nothing: no PIDFD_THREAD before Linux 6.9");
                return;
            }
            drop(stop);
            thread.join().expect("joined").expect_err("hung up");
            let outlived = tokio::time::timeout(SUSPICION * 2, watch.exited()).await;
            assert!(outlived.is_err(), "{outlived:?}");
        });
    }
}
