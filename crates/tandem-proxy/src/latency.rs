//! How long answers took: histograms that one thread writes and anybody may read.
//!
//! Buckets are log-linear: eight to each doubling of the time, so that what is told is at most an eighth off. An addition
//! is two loads and two stores in memory of the thread's own, once for all answers in a row that took the same time. The
//! time is that of the loop's turn, nobody asks a clock for it. It runs from the turn in which a request was read to the turn
//! in which its reply was, so it includes what a request waited for a primary, and leaves out what a client waits for a turn
//! to end.

use std::fmt;
use std::sync::OnceLock;

use crate::command;
use crate::statistics::Counter;

/// Buckets to each doubling: 2 to the power of this.
const FINE: u32 = 3;
/// Times from here on, more than a minute, are one bucket.
const LAST: u32 = 26;
const BUCKETS: usize = ((LAST - FINE + 1) << FINE) as usize + 1;

/// Times of one kind of answer, of one thread.
pub struct Histogram {
    buckets: [Counter; BUCKETS],
    sum_us: Counter,
}

impl Default for Histogram {
    fn default() -> Self {
        Self {
            buckets: std::array::from_fn(|_| Counter::default()),
            sum_us: Counter::default(),
        }
    }
}

impl fmt::Debug for Histogram {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut sum = Latency::default();
        sum.add(self);
        sum.fmt(out)
    }
}

impl Histogram {
    /// Counts so many answers that took the same time; only the owning thread may.
    #[inline]
    pub fn record(&self, us: u32, answers: u32) {
        self.buckets[bucket(us)].add(u64::from(answers));
        self.sum_us.add(u64::from(us) * u64::from(answers));
    }
}

#[inline]
fn bucket(us: u32) -> usize {
    if us < 1 << FINE {
        return us as usize;
    }
    let octave = us.ilog2();
    if octave >= LAST {
        return BUCKETS - 1;
    }
    let within = (us >> (octave - FINE)) - (1 << FINE);
    (((octave - FINE + 1) << FINE) + within) as usize
}

/// The first time beyond a bucket, in microseconds.
fn end(bucket: usize) -> u64 {
    let bucket = bucket as u64;
    let (group, within) = (bucket >> FINE, bucket & ((1 << FINE) - 1));
    match group {
        0 => within + 1,
        _ => ((1 << FINE) + within + 1) << (group - 1),
    }
}

/// One histogram for each command that was ever asked.
pub struct Commands(Box<[OnceLock<Box<Histogram>>]>);

impl Default for Commands {
    fn default() -> Self {
        Self((0..command::COUNT).map(|_| OnceLock::new()).collect())
    }
}

impl fmt::Debug for Commands {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("Commands")
    }
}

impl Commands {
    /// Counts so many answers to one command that took the same time; only the owning thread may.
    #[inline]
    pub fn record(&self, command: u16, us: u32, answers: u32) {
        if let Some(place) = self.0.get(usize::from(command)) {
            place.get_or_init(Box::default).record(us, answers);
        }
    }

    /// Adds what was counted to what other threads have counted; one element for each command.
    pub fn add_to(&self, sums: &mut [Latency]) {
        for (sum, one) in sums.iter_mut().zip(&self.0) {
            if let Some(one) = one.get() {
                sum.add(one);
            }
        }
    }
}

/// Times of one kind of answer, over all threads.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Latency {
    counts: Vec<u64>,
    sum_us: u64,
}

impl Latency {
    /// Adds one thread's.
    pub fn add(&mut self, one: &Histogram) {
        self.counts.resize(BUCKETS, 0);
        for (sum, bucket) in self.counts.iter_mut().zip(&one.buckets) {
            *sum += bucket.value();
        }
        self.sum_us += one.sum_us.value();
    }

    /// Adds another sum.
    pub fn merge(&mut self, other: &Self) {
        self.counts.resize(BUCKETS, 0);
        for (sum, more) in self.counts.iter_mut().zip(&other.counts) {
            *sum += more;
        }
        self.sum_us += other.sum_us;
    }

    /// How many answers.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.counts.iter().sum()
    }

    /// All their times together, in microseconds.
    #[must_use]
    pub fn sum_us(&self) -> u64 {
        self.sum_us
    }

    /// So many of a thousand took no longer than this, in microseconds, rounded up to the end of a bucket. None: there was
    /// no answer.
    #[must_use]
    pub fn per_mille(&self, share: u64) -> Option<u64> {
        let count = self.count();
        let wanted = (count * share.min(1000)).div_ceil(1000).max(1);
        let mut so_far = 0;
        let found = self.counts.iter().position(|bucket| {
            so_far += bucket;
            so_far >= wanted
        });
        found.filter(|_| count > 0).map(end)
    }

    /// How many took less than 2^`power` microseconds, for `power` from 3: exact, as buckets end there.
    #[must_use]
    pub fn below_power(&self, power: u32) -> u64 {
        let end = ((power.clamp(FINE, LAST) - FINE + 1) << FINE) as usize;
        self.counts.iter().take(end).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn buckets_follow_each_other_and_end_where_the_next_begins() {
        let mut before = 0;
        for us in 0..1 << 20 {
            let at = bucket(us);
            assert!(at == before || at == before + 1, "{us}");
            assert_eq!(at != before, us > 0 && u64::from(us) == end(before), "{us}");
            before = at;
        }
        assert_eq!(bucket(u32::MAX), BUCKETS - 1);
        assert_eq!(bucket((1 << LAST) - 1), BUCKETS - 2);
        assert_eq!(end(BUCKETS - 2), 1 << LAST);
    }

    #[test]
    fn nothing_has_no_quantile() {
        assert_eq!(Latency::default().per_mille(500), None);
        assert_eq!(Latency::default().count(), 0);
    }

    proptest! {
        #[test]
        fn quantiles_are_an_eighth_off_at_most(mut times in prop::collection::vec(0u32..2_000_000, 1..300), share in 1u64..=1000) {
            let (one, other) = (Histogram::default(), Histogram::default());
            for (at, &us) in times.iter().enumerate() {
                if at % 2 == 0 { one.record(us, 1) } else { other.record(us, 1) }
            }
            let mut sum = Latency::default();
            sum.add(&one);
            sum.add(&other);
            times.sort_unstable();
            let place = (times.len() as u64 * share).div_ceil(1000).max(1) as usize - 1;
            let (exact, told) = (u64::from(times[place]), sum.per_mille(share).unwrap());
            prop_assert!(told > exact && told <= exact + exact / 8 + 1, "{} for {}", told, exact);
            prop_assert_eq!(sum.count(), times.len() as u64);
            prop_assert_eq!(sum.sum_us(), times.iter().map(|&us| u64::from(us)).sum::<u64>());
            prop_assert_eq!(sum.below_power(10), times.iter().filter(|&&us| us < 1024).count() as u64);
        }
    }
}
