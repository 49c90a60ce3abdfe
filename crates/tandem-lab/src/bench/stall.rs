//! A yardstick beside every run: for how long the host itself stood still.
//!
//! On a machine that is shared, a processor is now and then taken away for tens or hundreds of milliseconds. Clients
//! see that as a gap whatever the program does. One thread per processor sleeps a millisecond at a time and notes by
//! how much it overslept; the longest of it stands beside the gaps, so that a reader can tell the two apart.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};

const NAP: Duration = Duration::from_millis(1);

/// See the module.
#[derive(Debug)]
pub(super) struct Yardstick {
    stop: Arc<AtomicBool>,
    threads: Vec<JoinHandle<Duration>>,
}

impl Yardstick {
    /// Begins to measure, on every processor that this process may use.
    ///
    /// # Errors
    /// When the kernel does not say which processors there are, or no thread can be started.
    pub(super) fn start() -> anyhow::Result<Self> {
        let allowed = sched_getaffinity(None)?;
        let stop = Arc::new(AtomicBool::new(false));
        let threads = (0..CpuSet::MAX_CPU)
            .filter(|processor| allowed.is_set(*processor))
            .map(|processor| {
                let stop = Arc::clone(&stop);
                std::thread::Builder::new()
                    .name(format!("yardstick-{processor}"))
                    .spawn(move || watch(processor, &stop))
            })
            .collect::<Result<_, _>>()?;
        Ok(Self { stop, threads })
    }

    /// Ends, with the longest time by which a nap was late.
    #[must_use]
    pub(super) fn stop(self) -> Duration {
        self.stop.store(true, Ordering::Relaxed);
        self.threads
            .into_iter()
            .filter_map(|thread| thread.join().ok())
            .max()
            .unwrap_or_default()
    }
}

fn watch(processor: usize, stop: &AtomicBool) -> Duration {
    let mut only = CpuSet::new();
    only.set(processor);
    // Without its processor it would only see the best of all of them.
    if sched_setaffinity(None, &only).is_err() {
        return Duration::ZERO;
    }
    let mut longest = Duration::ZERO;
    while !stop.load(Ordering::Relaxed) {
        let begin = Instant::now();
        std::thread::sleep(NAP);
        longest = longest.max(begin.elapsed().saturating_sub(NAP));
    }
    longest
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_busy_host_shows_no_more_than_the_time_that_passed() {
        let begin = Instant::now();
        let yardstick = Yardstick::start().unwrap();
        assert!(!yardstick.threads.is_empty());
        std::thread::sleep(NAP * 5);
        let longest = yardstick.stop();
        assert!(longest > Duration::ZERO, "a nap is never exact");
        assert!(longest <= begin.elapsed());
    }
}
