//! What a client saw, and what can be asked of it: gaps, errors, and acknowledged writes that a server lacks.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use anyhow::bail;

use crate::resp::{Connection, Reply};

/// How many writes are looked for with one command.
const BATCH: usize = 500;

/// A write that was acknowledged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Acknowledged {
    /// Its number, part of its key, and its value.
    pub number: u64,
    /// When the acknowledgement was read.
    pub at: Instant,
}

/// Everything that one client saw.
#[derive(Debug, Clone)]
pub struct Record {
    key: String,
    acknowledged: Vec<Acknowledged>,
    unknown: Vec<u64>,
    errors: BTreeMap<String, u64>,
}

impl Record {
    pub(super) fn new(key: &str) -> Self {
        Self {
            key: key.to_owned(),
            acknowledged: Vec::new(),
            unknown: Vec::new(),
            errors: BTreeMap::new(),
        }
    }

    pub(super) fn acknowledge(&mut self, number: u64, at: Instant) {
        self.acknowledged.push(Acknowledged { number, at });
    }

    pub(super) fn fail(&mut self, number: u64, kind: String, sent: bool) {
        *self.errors.entry(kind).or_default() += 1;
        if sent {
            self.unknown.push(number);
        }
    }

    /// The acknowledged writes, in the order of their acknowledgement.
    #[must_use]
    pub fn acknowledged(&self) -> &[Acknowledged] {
        &self.acknowledged
    }

    /// Writes that were sent and not answered: each may have been carried out or not.
    #[must_use]
    pub fn unknown(&self) -> &[u64] {
        &self.unknown
    }

    /// How often each kind of error was met: `connect: refused`, `reply: timed out`, `READONLY` ...
    #[must_use]
    pub fn errors(&self) -> &BTreeMap<String, u64> {
        &self.errors
    }

    /// All errors together.
    #[must_use]
    pub fn error_count(&self) -> u64 {
        self.errors.values().sum()
    }

    /// The longest time without an acknowledgement that overlaps the span.
    ///
    /// A gap counts in full even where it began before `from`: the last acknowledgement before a fault is its start.
    /// Silence up to `to` counts as a gap that is still open.
    #[must_use]
    pub fn longest_gap(&self, from: Instant, to: Instant) -> Duration {
        let inside = self.acknowledged.partition_point(|ack| ack.at < from);
        let mut last = match inside.checked_sub(1) {
            Some(before) => self.acknowledged[before].at,
            None => from,
        };
        let mut longest = Duration::ZERO;
        for ack in &self.acknowledged[inside..] {
            longest = longest.max(ack.at.saturating_duration_since(last));
            last = ack.at;
            if last >= to {
                return longest;
            }
        }
        longest.max(to.saturating_duration_since(last))
    }

    /// The key of a write.
    #[must_use]
    pub fn key(&self, number: u64) -> String {
        format!("{}:{number}", self.key)
    }

    /// The acknowledged writes that a server does not hold.
    ///
    /// # Errors
    /// When the server cannot be asked.
    pub fn missing(&self, server: &mut Connection) -> anyhow::Result<Vec<u64>> {
        let mut missing = Vec::new();
        for batch in self.acknowledged.chunks(BATCH) {
            let keys: Vec<String> = batch.iter().map(|ack| self.key(ack.number)).collect();
            let command: Vec<&str> = ["MGET"]
                .into_iter()
                .chain(keys.iter().map(String::as_str))
                .collect();
            let Reply::Array(values) = server.demand(&command)? else {
                bail!("MGET was not answered by an array")
            };
            anyhow::ensure!(
                values.len() == batch.len(),
                "MGET answered {} of {} keys",
                values.len(),
                batch.len()
            );
            for (ack, value) in batch.iter().zip(values) {
                if value.text() != Some(ack.number.to_string()) {
                    missing.push(ack.number);
                }
            }
        }
        Ok(missing)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ms(count: u64) -> Duration {
        Duration::from_millis(count)
    }

    #[test]
    fn the_longest_gap_is_the_one_around_the_fault() {
        let start = Instant::now();
        let mut record = Record::new("w");
        for (number, at) in [0, 1, 2, 40, 41, 900, 901].into_iter().enumerate() {
            record.acknowledge(number as u64, start + ms(at));
        }
        for (from, to, gap) in [
            (0, 30, 38),       // the fault's gap, begun inside the span and ended after it
            (20, 45, 859),     // a second gap begins inside
            (20, 41, 38),      // it ends where the span ends
            (3, 950, 859),     // two gaps, the longer counts
            (905, 2000, 1099), // still open, counted from the last acknowledgement
            (902, 902, 1),
        ] {
            assert_eq!(
                record.longest_gap(start + ms(from), start + ms(to)),
                ms(gap),
                "{from}..{to}"
            );
        }
    }

    #[test]
    fn without_acknowledgements_all_of_the_span_is_a_gap() {
        let start = Instant::now();
        assert_eq!(Record::new("w").longest_gap(start, start + ms(70)), ms(70));
    }

    #[test]
    fn only_writes_that_were_sent_are_unknown() {
        let mut record = Record::new("w");
        record.fail(1, "connect: refused".to_owned(), false);
        record.fail(2, "reply: closed".to_owned(), true);
        record.fail(3, "reply: closed".to_owned(), true);
        assert_eq!(record.unknown(), [2, 3]);
        assert_eq!(record.error_count(), 3);
        assert_eq!(record.errors()["reply: closed"], 2);
    }
}
