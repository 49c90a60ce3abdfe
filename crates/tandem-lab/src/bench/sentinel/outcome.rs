//! The outcome of one run.

use serde::{Deserialize, Serialize};

use super::Scenario;
use crate::fleet::Program;

/// What one run showed. Times are in milliseconds.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Outcome {
    /// The scenario's name.
    pub scenario: String,
    /// `real`, `tandem`, or `mixed`.
    pub program: String,
    /// Which round, from 0.
    pub round: u32,
    /// Why the run could not be carried through, if it could not. Then nothing below counts.
    pub failure: Option<String>,
    /// Until another server said that it is primary.
    pub writable_ms: f64,
    /// Until every Sentinel (behind a cut: every one on the majority's side) named it.
    pub known_ms: f64,
    /// For how long the old primary went on saying that it is one.
    pub old_primary_ms: f64,
    /// The longest time without an acknowledged write.
    pub gap_ms: f64,
    /// Writes acknowledged to the client.
    pub acknowledged: u64,
    /// Those of them that the primary lacked at the end.
    pub lost: u64,
    /// Full resyncs that the servers made from the fault to the end.
    pub full_syncs: u64,
    /// From the repair until one primary, all replicas and all Sentinels were in order.
    pub settled_ms: f64,
    /// Until all groups were known with all their replicas.
    pub start_ms: f64,
    /// Processor time of the Sentinel, per cent of one core.
    pub cpu_percent: f64,
    /// Memory of the Sentinel, MiB.
    pub memory_mib: f64,
    /// How long the run took, seconds.
    pub took_s: f64,
    /// What numbers do not say.
    pub note: String,
}

impl Outcome {
    /// An outcome with nothing in it yet. No program means both.
    #[must_use]
    pub fn of(scenario: Scenario, program: Option<Program>, round: u32) -> Self {
        Self {
            scenario: scenario.to_string(),
            program: name(program).to_owned(),
            round,
            ..Self::default()
        }
    }

    /// Whether it is of this scenario and program.
    #[must_use]
    pub fn is_of(&self, scenario: Scenario, program: Option<Program>) -> bool {
        self.scenario == scenario.to_string() && self.program == name(program)
    }

    /// Which run it is.
    pub(super) fn head(&self) -> String {
        format!("{} {} run {}", self.scenario, self.program, self.round + 1)
    }

    /// One line for the person who watches.
    #[must_use]
    pub fn summary(&self) -> String {
        let head = format!("{} ({:.0} s)", self.head(), self.took_s);
        if let Some(failure) = &self.failure {
            return format!("{head}: FAILED: {failure}");
        }
        if self.scenario.starts_with("client-") {
            return format!("{head}: writes again after {:.0} ms", self.gap_ms);
        }
        if self.cpu_percent > 0.0 {
            return format!(
                "{head}: known after {:.0} ms, {:.1} % of a core, {:.1} MiB {}",
                self.start_ms, self.cpu_percent, self.memory_mib, self.note
            );
        }
        format!(
            "{head}: writable {:.0} ms, known {:.0} ms, old primary {:.0} ms, gap {:.1} ms, lost {} of {}, {} full \
             syncs, settled {:.0} ms {}",
            self.writable_ms,
            self.known_ms,
            self.old_primary_ms,
            self.gap_ms,
            self.lost,
            self.acknowledged,
            self.full_syncs,
            self.settled_ms,
            self.note
        )
    }
}

fn name(program: Option<Program>) -> &'static str {
    program.map_or("mixed", Program::name)
}
