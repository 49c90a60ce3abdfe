//! Whether all threads have taken over what a reload brings: only then it counts for whoever asks next.

use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::time::{Duration, Instant};

/// A reload on its way to the threads.
#[derive(Debug)]
pub struct Taken(Receiver<()>);

/// What each thread lets go of when it has taken it over.
pub(super) type Pending = Sender<()>;

impl Taken {
    /// For threads that each get a copy of the other half, when that itself is gone.
    pub(super) fn new() -> (Pending, Self) {
        let (pending, taken) = channel();
        (pending, Self(taken))
    }

    /// Waits for all threads, but no longer than this. False: one has not come round yet; it takes it over when it does.
    #[must_use]
    pub fn wait(self, within: Duration) -> bool {
        let until = Instant::now() + within;
        loop {
            let left = until.saturating_duration_since(Instant::now());
            match self.0.recv_timeout(left) {
                Ok(()) => {}
                Err(RecvTimeoutError::Disconnected) => return true,
                Err(RecvTimeoutError::Timeout) => return false,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_are_waited_for_and_nobody_for_ever() {
        let (pending, taken) = Taken::new();
        let one = pending.clone();
        drop(pending);
        let thread = std::thread::spawn(move || drop(one));
        assert!(taken.wait(Duration::from_secs(60)));
        thread.join().unwrap();
        let (pending, taken) = Taken::new();
        assert!(!taken.wait(Duration::ZERO), "one is left");
        drop(pending);
    }
}
