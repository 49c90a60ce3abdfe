//! Notices that time went by while the machine was suspended.
//!
//! `CLOCK_MONOTONIC`, behind [`Instant`], stands still while the machine sleeps; `CLOCK_BOOTTIME` does not. What one
//! gains over the other between two looks is the time asleep. A paused virtual machine may stop both; then only the
//! other hosts' clocks know, which is why leases are also checked by their receivers. Wall-clock time takes no part:
//! people set it.

use std::time::{Duration, Instant};

use rustix::time::{ClockId, Timespec, clock_gettime};

/// Differences below this are the two clocks being read one after the other, not sleep.
const READ_SKEW: Duration = Duration::from_millis(10);

/// Time since boot, the time asleep included.
pub(crate) fn boot_time() -> Duration {
    duration(clock_gettime(ClockId::Boottime))
}

fn duration(time: Timespec) -> Duration {
    let seconds = u64::try_from(time.tv_sec).expect("time since boot is not negative");
    let nanoseconds = u32::try_from(time.tv_nsec).expect("below one thousand million");
    Duration::new(seconds, nanoseconds)
}

/// Finds the time that the machine spent suspended between two looks.
#[derive(Debug, Clone, Copy)]
pub(crate) struct SuspendWatch {
    monotonic: Instant,
    boot: Duration,
}

impl SuspendWatch {
    /// Starts from a reading of both clocks, taken as close together as possible.
    pub(crate) fn new(monotonic: Instant, boot: Duration) -> Self {
        Self { monotonic, boot }
    }

    /// Starts now.
    pub(crate) fn start() -> Self {
        Self::new(Instant::now(), boot_time())
    }

    /// How long the machine slept since the last look; zero is `None`.
    pub(crate) fn look(&mut self, monotonic: Instant, boot: Duration) -> Option<Duration> {
        let awake = monotonic.saturating_duration_since(self.monotonic);
        let passed = boot.saturating_sub(self.boot);
        *self = Self::new(monotonic, boot);
        passed
            .checked_sub(awake)
            .filter(|asleep| *asleep > READ_SKEW)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_time_asleep_is_reported_and_only_once() {
        let start = Instant::now();
        let boot = Duration::from_secs(1000);
        let mut watch = SuspendWatch::new(start, boot);
        let second = Duration::from_secs(1);
        assert_eq!(
            watch.look(start + second, boot + second),
            None,
            "awake all the time"
        );
        assert_eq!(
            watch.look(start + 2 * second, boot + 32 * second),
            Some(30 * second),
            "thirty seconds asleep"
        );
        assert_eq!(
            watch.look(start + 3 * second, boot + 33 * second),
            None,
            "reported already"
        );
        let skew = Duration::from_millis(9);
        assert_eq!(
            watch.look(start + 4 * second, boot + 34 * second + skew),
            None,
            "reading skew"
        );
        assert_eq!(
            watch.look(start + 5 * second, boot + 34 * second),
            None,
            "clocks read in the other order"
        );
    }

    #[test]
    fn the_boot_clock_is_never_behind_the_monotonic_one() {
        let monotonic = duration(clock_gettime(ClockId::Monotonic));
        assert!(boot_time() >= monotonic);
    }
}
