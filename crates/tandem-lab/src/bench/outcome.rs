//! The outcome of one run, and the file in which outcomes are kept: JSON, one line each.

use std::path::Path;

use serde::{Deserialize, Serialize};

use super::Cell;
use super::lines::Lines;

/// What one run showed. Times are in milliseconds.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Outcome {
    /// The scenario's name.
    pub scenario: String,
    /// The arrangement's name.
    pub contestant: String,
    /// The server's name and line.
    pub flavour: String,
    /// Data in the servers.
    pub gib: u64,
    /// Which run of the cell, from 0.
    pub run: u32,
    /// Why the run could not be carried through, if it could not. Then nothing below counts.
    pub failure: Option<String>,
    /// The longest time without an acknowledgement, impatient client.
    pub gap_ms: f64,
    /// The same for the client with time-outs of 10 s.
    pub patient_gap_ms: f64,
    /// For how long the host itself stood still meanwhile; the gaps contain it.
    #[serde(default)]
    pub stall_ms: f64,
    /// Errors that the impatient client met.
    pub errors: u64,
    /// Writes acknowledged to all clients.
    pub acknowledged: u64,
    /// Acknowledged writes that the primary lacked once clients could write again; after the heal for a cut.
    pub lost: u64,
    /// Acknowledged writes that the primary lacked after everything was repaired and archives do not hold either.
    pub gone: u64,
    /// Acknowledged writes that an archive holds and the primary does not.
    pub archived: u64,
    /// For how long both hosts had the VIP and a primary behind it.
    pub two_writable_ms: f64,
    /// For how long both hosts had the VIP, whatever was behind it.
    #[serde(default)]
    pub two_vips_ms: f64,
    /// Of a pair that idles, the share of a core that the busier daemon uses.
    #[serde(default)]
    pub processor_percent: f64,
    /// The same for memory: the larger one at its largest.
    #[serde(default)]
    pub memory_mib: f64,
    /// How long the run took, in seconds, everything included.
    #[serde(default)]
    pub took_s: f64,
    /// Whether all was well again after the repair, without a hand.
    pub settled: bool,
    /// What numbers do not say.
    pub note: String,
}

impl Outcome {
    /// An outcome of a cell, with nothing in it yet.
    #[must_use]
    pub fn of(cell: &Cell, run: u32) -> Self {
        Self {
            scenario: cell.scenario.to_string(),
            contestant: cell.contestant.name().to_owned(),
            flavour: cell.flavour.name().to_owned(),
            gib: cell.gib,
            run,
            ..Self::default()
        }
    }

    /// One line for the person who watches.
    #[must_use]
    pub fn summary(&self) -> String {
        if let Some(failure) = &self.failure {
            return format!("FAILED: {failure}");
        }
        format!(
            "gap {:.1} ms (patient {:.1}, host stalled {:.1}), {} errors, {} acknowledged, lost {}, gone {}, archived {}, two writable \
             {:.0} ms, took {:.0} s{}{}{}",
            self.gap_ms,
            self.patient_gap_ms,
            self.stall_ms,
            self.errors,
            self.acknowledged,
            self.lost,
            self.gone,
            self.archived,
            self.two_writable_ms,
            self.took_s,
            if self.settled { "" } else { ", NEEDS A HAND" },
            if self.note.is_empty() { "" } else { ": " },
            self.note,
        )
    }

    fn is_of(&self, cell: &Cell) -> bool {
        self.scenario == cell.scenario.to_string()
            && self.contestant == cell.contestant.name()
            && self.flavour == cell.flavour.name()
            && self.gib == cell.gib
    }
}

/// All outcomes, those of earlier invocations included.
#[derive(Debug)]
pub struct Results(Lines<Outcome>);

impl Results {
    /// Opens the file, or begins it.
    ///
    /// # Errors
    /// When it cannot be read or written, or a line in it is no outcome; the line is named.
    pub fn open(path: &Path) -> anyhow::Result<Self> {
        Lines::open(path).map(Self)
    }

    /// Which of the first `wanted` runs of a cell have not succeeded yet. Their numbers matter: each start of
    /// [`super::Scenario::Boots`] is another one.
    #[must_use]
    pub fn missing(&self, cell: &Cell, wanted: u32) -> Vec<u32> {
        let good = |run: &u32| {
            self.outcomes().iter().any(|outcome| {
                outcome.is_of(cell) && outcome.failure.is_none() && outcome.run == *run
            })
        };
        (0..wanted).filter(|run| !good(run)).collect()
    }

    /// Adds one and writes it down.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn add(&mut self, outcome: Outcome) -> anyhow::Result<()> {
        self.0.add(outcome)
    }

    /// All of them, in the order in which they were made.
    #[must_use]
    pub fn outcomes(&self) -> &[Outcome] {
        self.0.outcomes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::{Contestant, Scenario};
    use crate::server::Flavour;

    #[test]
    fn results_survive_an_interruption_and_the_torn_line_is_repeated() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("results");
        let cell = Cell {
            scenario: Scenario::Alternating,
            contestant: Contestant::Tandem,
            gib: 4,
            flavour: Flavour::Redis70,
        };
        let mut results = Results::open(&path).unwrap();
        results.add(Outcome::of(&cell, 0)).unwrap();
        results
            .add(Outcome {
                failure: Some("dark".to_owned()),
                ..Outcome::of(&cell, 1)
            })
            .unwrap();
        drop(results);
        let mut text = std::fs::read_to_string(&path).unwrap();
        text.push_str("{\"scenario\":\"alt");
        std::fs::write(&path, text).unwrap();

        let mut results = Results::open(&path).unwrap();
        assert_eq!(results.outcomes().len(), 2);
        assert_eq!(
            results.missing(&cell, 3),
            [1, 2],
            "a failed run is repeated"
        );
        let empty = Cell { gib: 0, ..cell };
        assert_eq!(results.missing(&empty, 2), [0, 1]);
        results.add(Outcome::of(&cell, 2)).unwrap();
        assert_eq!(Results::open(&path).unwrap().missing(&cell, 3), [1]);
    }

    #[test]
    fn a_line_that_is_no_outcome_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("results");
        std::fs::write(&path, "{}\n").unwrap();
        assert!(
            Results::open(&path)
                .unwrap_err()
                .to_string()
                .ends_with("results, line 1")
        );
    }
}
