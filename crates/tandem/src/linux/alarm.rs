//! An alarm clock of the kernel's: one descriptor that becomes readable at a given time.
//!
//! For the loops that wake up many times a second for as long as the daemon lives. The runtime's timers are a wheel of
//! 64 slots: a wait that crosses from one ring of it into the next wakes the thread twice, and one that is earlier
//! than what the thread already waits for makes it wake itself. An idle daemon did little else (about half of its
//! wake-ups at `down_after` 300 ms). A timerfd costs a call to set and one to read, fires once and is exact to the clock.

use std::io;
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use rustix::time::{
    Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec, timerfd_create,
    timerfd_settime,
};
use tokio::io::unix::AsyncFd;

use super::sys;

/// Waits for one point in time.
#[derive(Debug)]
pub(crate) struct Alarm {
    /// Absent if the kernel refused; the runtime's timers are slower and as right.
    timer: Option<AsyncFd<OwnedFd>>,
    set_for: Option<Instant>,
}

impl Alarm {
    /// An alarm that is not set.
    pub(crate) fn new() -> Self {
        let timer = open().map_err(|error| {
            tracing::warn!("timerfd: {error}; the runtime's timers are used instead");
        });
        Self {
            timer: timer.ok(),
            set_for: None,
        }
    }

    /// Waits until this time; what is past is over at once. Whoever stops waiting may go on with any other time.
    pub(crate) async fn at(&mut self, at: Instant) {
        if let Some(timer) = &self.timer {
            let rung = async {
                if self.set_for != Some(at) {
                    set(timer, at)?;
                    self.set_for = Some(at);
                }
                rung(timer, at).await
            };
            match rung.await {
                Ok(()) => {
                    self.set_for = None;
                    return;
                }
                Err(error) => {
                    tracing::warn!("timerfd: {error}; the runtime's timers are used instead");
                    self.timer = None;
                }
            }
        }
        tokio::time::sleep_until(at.into()).await;
    }
}

fn open() -> io::Result<AsyncFd<OwnedFd>> {
    let timer = timerfd_create(
        TimerfdClockId::Monotonic,
        TimerfdFlags::NONBLOCK | TimerfdFlags::CLOEXEC,
    )?;
    sys::watch_readable(timer)
}

/// What was set before is forgotten, even if it has rung unheard.
fn set(timer: &AsyncFd<OwnedFd>, at: Instant) -> io::Result<()> {
    // Zero would turn it off.
    let wait = at
        .saturating_duration_since(Instant::now())
        .max(Duration::from_nanos(1));
    let once = Itimerspec {
        it_interval: Timespec::default(),
        it_value: Timespec::try_from(wait).map_err(io::Error::other)?,
    };
    timerfd_settime(timer, TimerfdTimerFlags::empty(), &once)?;
    Ok(())
}

/// It rings without being read: setting it takes back what it has counted, and the runtime is told of each ring once.
async fn rung(timer: &AsyncFd<OwnedFd>, at: Instant) -> io::Result<()> {
    loop {
        timer.readable().await?.clear_ready();
        // Or it was set anew after it had rung.
        if Instant::now() >= at {
            return Ok(());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SHORT: Duration = Duration::from_millis(5);
    const LONG: Duration = Duration::from_secs(3600);

    async fn rings_soon(alarm: &mut Alarm, at: Instant) -> bool {
        tokio::time::timeout(4 * SHORT, alarm.at(at)).await.is_ok()
    }

    #[tokio::test]
    async fn it_rings_not_before_its_time_and_once() {
        let mut alarm = Alarm::new();
        assert!(alarm.timer.is_some());
        let at = Instant::now() + SHORT;
        alarm.at(at).await;
        assert!(Instant::now() >= at);
        assert!(!rings_soon(&mut alarm, at + LONG).await);
        alarm.at(at).await;
    }

    #[tokio::test]
    async fn the_last_setting_counts() {
        let mut alarm = Alarm::new();
        let soon = Instant::now() + SHORT;
        let waiting = tokio::time::timeout(Duration::ZERO, alarm.at(soon)).await;
        assert!(waiting.is_err(), "set, and not waited for");
        while Instant::now() < soon + SHORT {
            std::thread::yield_now();
        }
        // It has rung unheard.
        assert!(!rings_soon(&mut alarm, soon + LONG).await);
    }

    #[tokio::test]
    async fn who_stops_waiting_loses_nothing() {
        let mut alarm = Alarm::new();
        let at = Instant::now() + SHORT;
        for _ in 0..3 {
            tokio::select! {
                biased;
                () = std::future::ready(()) => {}
                () = alarm.at(at) => {}
            }
        }
        alarm.at(at).await;
        assert!(Instant::now() >= at);
    }
}
