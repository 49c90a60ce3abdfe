//! A yardstick beside every run: for how long the host itself stood still.
//!
//! On a machine that is shared, a processor is now and then taken away for tens or hundreds of milliseconds. Clients
//! see that as a gap whatever the program does. One thread per processor sleeps a millisecond at a time and notes by
//! how much it overslept; the longest of it stands beside the gaps, so that a reader can tell the two apart.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};

const NAP: Duration = Duration::from_millis(1);

/// See the module. Dropping it ends the measurement.
#[derive(Debug)]
pub(super) struct Yardstick {
    /// In nanoseconds. Threads go on for as long as somebody could read it.
    longest: Arc<AtomicU64>,
}

impl Yardstick {
    /// Begins to measure, on every processor that this process may use.
    ///
    /// # Errors
    /// When the kernel does not say which processors there are, or no thread can be started.
    pub(super) fn start() -> anyhow::Result<Self> {
        let allowed = sched_getaffinity(None)?;
        let longest = Arc::new(AtomicU64::new(0));
        for processor in (0..CpuSet::MAX_CPU).filter(|processor| allowed.is_set(*processor)) {
            let longest = Arc::downgrade(&longest);
            std::thread::Builder::new()
                .name(format!("yardstick-{processor}"))
                .spawn(move || {
                    let mut only = CpuSet::new();
                    only.set(processor);
                    // Without its processor it would only see the best of all of them.
                    if sched_setaffinity(None, &only).is_err() {
                        return;
                    }
                    while let Some(longest) = longest.upgrade() {
                        let begin = Instant::now();
                        std::thread::sleep(NAP);
                        let late = begin.elapsed().saturating_sub(NAP).as_nanos();
                        longest
                            .fetch_max(u64::try_from(late).unwrap_or(u64::MAX), Ordering::Relaxed);
                    }
                })?;
        }
        Ok(Self { longest })
    }

    /// The longest time so far by which a nap was late.
    pub(super) fn longest(&self) -> Duration {
        Duration::from_nanos(self.longest.load(Ordering::Relaxed))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_busy_host_shows_no_more_than_the_time_that_passed() {
        let begin = Instant::now();
        let yardstick = Yardstick::start().unwrap();
        while yardstick.longest() == Duration::ZERO {
            // A nap is never exact.
            std::thread::sleep(NAP);
        }
        assert!(yardstick.longest() <= begin.elapsed());
    }
}
