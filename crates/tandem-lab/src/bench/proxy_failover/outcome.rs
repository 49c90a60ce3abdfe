//! What one run showed.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::Contestant;
use crate::arrangement::Fault;

/// The first word of an answer that says: this write may or may not have been carried out.
const UNKNOWN: &str = "TANDEM-UNKNOWN";
/// Commands that change nothing, as failures name them.
const READS: [&str; 4] = ["GET", "MGET", "STRLEN", "PING"];

/// What one run showed. Times are in milliseconds.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Outcome {
    /// The fault's name.
    pub fault: String,
    /// The contestant's name.
    pub contestant: String,
    /// Which run, from 0.
    pub run: u32,
    /// Why the run could not be carried through, if it could not; a wrong answer is one of the reasons.
    pub failure: Option<String>,
    /// The longest time from a request to its answer, an error included.
    pub longest_ms: f64,
    /// For how long the host itself stood still meanwhile.
    pub stall_ms: f64,
    /// Exact answers in all.
    pub answers: u64,
    /// Reads that were answered by an error.
    pub reads_failed: u64,
    /// Writes whose outcome was said to be unknown.
    pub unknown: u64,
    /// Other writes that were answered by an error.
    pub writes_failed: u64,
    /// Connections that were lost.
    pub connections_lost: u64,
    /// The most failures that one client met.
    pub worst_client: u64,
    /// The failures in words.
    pub note: String,
}

impl Outcome {
    /// An outcome with nothing in it yet.
    #[must_use]
    pub fn of(fault: Fault, contestant: Contestant, run: u32) -> Self {
        Self {
            fault: fault.name().to_owned(),
            contestant: contestant.name().to_owned(),
            run,
            ..Self::default()
        }
    }

    /// Whether it is of this fault and contestant.
    #[must_use]
    pub fn is_of(&self, fault: Fault, contestant: Contestant) -> bool {
        self.fault == fault.name() && self.contestant == contestant.name()
    }

    /// Sorts what failed since `before`, as [`crate::proxy::tagged::Report::failures`] names it.
    pub(super) fn take_failures(
        &mut self,
        before: &BTreeMap<String, u64>,
        after: &BTreeMap<String, u64>,
    ) {
        let mut words = Vec::new();
        for (what, count) in after {
            let count = count - before.get(what).copied().unwrap_or(0);
            if count == 0 {
                continue;
            }
            words.push(format!("{count} x {what}"));
            let (command, text) = what.split_once(": ").unwrap_or((what, ""));
            let kind = if command == "connection" {
                &mut self.connections_lost
            } else if READS.contains(&command) {
                &mut self.reads_failed
            } else if text.starts_with(UNKNOWN) {
                &mut self.unknown
            } else {
                &mut self.writes_failed
            };
            *kind += count;
        }
        self.note = words.join("; ");
    }

    /// One line for the person who watches.
    #[must_use]
    pub fn summary(&self) -> String {
        let head = format!("{} {} run {}", self.fault, self.contestant, self.run + 1);
        if let Some(failure) = &self.failure {
            return format!("{head}: FAILED: {failure}");
        }
        format!(
            "{head}: longest {:.1} ms (host stalled {:.1}), {} answers, {} reads failed, {} unknown, {} writes failed, \
             {} connections lost, at most {} for one client {}",
            self.longest_ms,
            self.stall_ms,
            self.answers,
            self.reads_failed,
            self.unknown,
            self.writes_failed,
            self.connections_lost,
            self.worst_client,
            self.note
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn failures_are_sorted_by_what_they_did_to_the_client() {
        let count = |pairs: &[(&str, u64)]| -> BTreeMap<String, u64> {
            pairs
                .iter()
                .map(|(what, count)| ((*what).to_owned(), *count))
                .collect()
        };
        let mut outcome = Outcome::of(Fault::KillServer, Contestant::Tandem, 0);
        outcome.take_failures(
            &count(&[("GET: ERR x", 1), ("SET: ERR y", 2)]),
            &count(&[
                ("GET: ERR x", 1),
                ("MGET: ERR x", 3),
                ("SET: ERR y", 6),
                ("SET: TANDEM-UNKNOWN the link was lost", 5),
                ("connection: closed", 7),
            ]),
        );
        assert_eq!(outcome.reads_failed, 3);
        assert_eq!(outcome.writes_failed, 4);
        assert_eq!(outcome.unknown, 5);
        assert_eq!(outcome.connections_lost, 7);
        // What was there before the fault is not of the fault.
        assert_eq!(outcome.note.split("; ").count(), 4, "{}", outcome.note);
    }
}
