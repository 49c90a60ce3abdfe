//! What took long: the newest requests over a threshold, of all threads of a pool, for SLOWLOG.
//!
//! It is written under a lock, and only by a request that was slow already; what is kept of each has a bound.

use std::collections::VecDeque;
use std::sync::{Mutex, PoisonError};
use std::time::{Instant, SystemTime};

/// Entries kept, as Redis' `slowlog-max-len`.
pub const KEPT: usize = 128;
/// Arguments kept of each, as Redis.
const ARGUMENTS: usize = 32;
/// Bytes kept of each argument, as Redis.
const BYTES: usize = 128;

/// One slow request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// Grows by one with each.
    pub id: u64,
    /// When it was answered, in seconds of the Unix epoch.
    pub at_s: u64,
    /// From the turn that read it to the turn that read its reply.
    pub took_us: u32,
    /// Its words, cut to size.
    pub words: Vec<Vec<u8>>,
    /// Who was asked.
    pub server: String,
}

/// The log of one pool.
#[derive(Debug)]
pub struct SlowLog {
    /// Requests that take so long are noted; `u32::MAX`: none.
    pub(crate) threshold_us: u32,
    /// One moment by both clocks.
    base: (Instant, SystemTime),
    entries: Mutex<(u64, VecDeque<Entry>)>,
}

impl SlowLog {
    /// Empty. None: nothing is noted.
    #[must_use]
    pub fn new(threshold: Option<std::time::Duration>, base: (Instant, SystemTime)) -> Self {
        Self {
            threshold_us: threshold.map_or(u32::MAX, |threshold| {
                u32::try_from(threshold.as_micros()).unwrap_or(u32::MAX - 1)
            }),
            base,
            entries: Mutex::default(),
        }
    }

    /// Notes a request.
    pub(crate) fn note<'a>(
        &self,
        now: Instant,
        took_us: u32,
        server: &str,
        words: impl Iterator<Item = &'a [u8]>,
        count: usize,
    ) {
        let mut kept: Vec<Vec<u8>> = words.take(ARGUMENTS).map(cut).collect();
        if count > kept.len() && !kept.is_empty() {
            let more = count - kept.len() + 1;
            let last = kept.len() - 1;
            kept[last] = format!("... ({more} more arguments)").into_bytes();
        }
        let at = self.base.1 + now.saturating_duration_since(self.base.0);
        let at_s = at
            .duration_since(SystemTime::UNIX_EPOCH)
            .map_or(0, |since| since.as_secs());
        let mut entries = self.entries.lock().unwrap_or_else(PoisonError::into_inner);
        let (next, entries) = &mut *entries;
        entries.push_front(Entry {
            id: *next,
            at_s,
            took_us,
            words: kept,
            server: server.to_owned(),
        });
        *next += 1;
        entries.truncate(KEPT);
    }

    /// The newest, newest first.
    #[must_use]
    pub fn newest(&self, most: usize) -> Vec<Entry> {
        let entries = self.entries.lock().unwrap_or_else(PoisonError::into_inner);
        entries.1.iter().take(most).cloned().collect()
    }

    /// How many are kept.
    #[must_use]
    pub fn len(&self) -> usize {
        let entries = self.entries.lock().unwrap_or_else(PoisonError::into_inner);
        entries.1.len()
    }

    /// Whether none is.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Forgets all; numbers go on.
    pub fn reset(&self) {
        let mut entries = self.entries.lock().unwrap_or_else(PoisonError::into_inner);
        entries.1.clear();
    }
}

/// As Redis shows what is too long.
fn cut(word: &[u8]) -> Vec<u8> {
    let mut kept = word[..word.len().min(BYTES)].to_vec();
    if word.len() > BYTES {
        kept.extend_from_slice(format!("... ({} more bytes)", word.len() - BYTES).as_bytes());
    }
    kept
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn what_is_kept_has_a_bound() {
        let base = (Instant::now(), SystemTime::UNIX_EPOCH);
        let log = SlowLog::new(Some(Duration::from_millis(10)), base);
        let words: Vec<Vec<u8>> = (0..40).map(|_| vec![b'x'; 200]).collect();
        for _ in 0..KEPT + 5 {
            let now = base.0 + Duration::from_secs(7);
            log.note(now, 12_000, "s", words.iter().map(Vec::as_slice), 40);
        }
        assert_eq!(log.len(), KEPT);
        let newest = &log.newest(1)[0];
        assert_eq!((newest.id, newest.at_s), (KEPT as u64 + 4, 7));
        assert_eq!(newest.words.len(), ARGUMENTS);
        assert!(newest.words[0].ends_with(b"x... (72 more bytes)"));
        assert_eq!(newest.words[31], b"... (9 more arguments)");
        log.reset();
        assert!(log.is_empty());
    }
}
