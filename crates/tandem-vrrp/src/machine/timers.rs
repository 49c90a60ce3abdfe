//! The arithmetic of RFC 9568 6.1 and RFC 3768 6.1: skew and Master_Down.
//!
//! In v2 the skew is a part of one second whatever the interval; in v3 it scales with the interval of
//! the current master. D is keepalived's `down_timer_adverts`, 3 in the standards.

use std::time::{Duration, Instant};

use crate::types::Version;

/// Skew_Time: (256 - priority) / 256 of a second in v2, of `interval` in v3.
pub fn skew_time(version: Version, interval: Duration, priority: u8) -> Duration {
    let unit = match version {
        Version::V2 => Duration::from_secs(1),
        Version::V3 => interval,
    };
    unit * (256 - u32::from(priority)) / 256
}

/// Master_Down_Interval: `adverts` intervals and the skew.
pub fn master_down_interval(
    version: Version,
    interval: Duration,
    adverts: u8,
    priority: u8,
) -> Duration {
    interval * u32::from(adverts) + skew_time(version, interval, priority)
}

/// The first instant after `now` that is a whole number of periods after `last`: a late timer
/// skips what it missed and keeps its phase, so that lateness does not add up to drift.
pub(super) fn next_in_phase(last: Instant, period: Duration, now: Instant) -> Instant {
    let missed = now.saturating_duration_since(last).as_nanos() / period.as_nanos().max(1);
    let periods = u32::try_from(missed).unwrap_or(u32::MAX).saturating_add(1);
    last + period.saturating_mul(periods)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn intervals_of_the_standards() {
        let ms = Duration::from_millis;
        let us = Duration::from_micros;
        for (version, interval, adverts, priority, skew, down) in [
            (Version::V2, ms(1000), 3, 100, us(609_375), us(3_609_375)),
            (
                Version::V2,
                ms(1000),
                3,
                254,
                Duration::from_nanos(7_812_500),
                Duration::from_nanos(3_007_812_500),
            ),
            (Version::V2, ms(3000), 3, 100, us(609_375), us(9_609_375)),
            (
                Version::V3,
                ms(100),
                3,
                100,
                Duration::from_nanos(60_937_500),
                Duration::from_nanos(360_937_500),
            ),
            (Version::V3, ms(1000), 2, 128, ms(500), ms(2500)),
            (Version::V3, ms(256), 1, 255, ms(1), ms(257)),
            (Version::V3, ms(256), 1, 1, ms(255), ms(511)),
        ] {
            assert_eq!(skew_time(version, interval, priority), skew);
            assert_eq!(
                master_down_interval(version, interval, adverts, priority),
                down
            );
        }
    }

    #[test]
    #[expect(
        clippy::disallowed_methods,
        reason = "an arbitrary start; no decision depends on it"
    )]
    fn a_late_timer_keeps_its_phase() {
        let start = Instant::now();
        let ms = Duration::from_millis;
        for (late, next) in [(0, 100), (3, 100), (99, 100), (100, 200), (350, 400)] {
            assert_eq!(
                next_in_phase(start, ms(100), start + ms(late)),
                start + ms(next),
                "{late}"
            );
        }
    }
}
