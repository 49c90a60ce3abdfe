//! What one measurement showed.

use serde::{Deserialize, Serialize};

use super::{Contestant, Row};

/// One contestant in one row of one round. What a row does not measure is 0.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Outcome {
    /// The row's name.
    pub row: String,
    /// The contestant's name.
    pub contestant: String,
    /// Which round, from 0.
    pub round: u32,
    /// Why it could not be measured, if it could not. Then nothing below counts.
    pub failure: Option<String>,
    /// Processor time per request, all threads, in microseconds.
    pub cpu_us: f64,
    /// Processor time per request of all servers together, in microseconds.
    pub server_us: f64,
    /// Requests per second.
    pub rate: f64,
    /// Resident memory for each idle connection, in bytes.
    pub connection_bytes: f64,
    /// System calls per request.
    pub calls: f64,
    /// Half of all answers came within this, in microseconds.
    pub p50_us: f64,
    /// All but a hundredth of the answers came within this, in microseconds.
    pub p99_us: f64,
    /// The most memory beyond what was there before, in MiB.
    pub peak_mib: f64,
    /// Which part of the throughput acknowledgements cost.
    pub ack_cost: f64,
    /// What numbers do not say.
    pub note: String,
}

impl Outcome {
    /// An outcome with nothing in it yet.
    #[must_use]
    pub fn of(row: Row, contestant: Contestant, round: u32) -> Self {
        Self {
            row: row.to_string(),
            contestant: contestant.name().to_owned(),
            round,
            ..Self::default()
        }
    }

    /// Whether it is of this row and contestant.
    #[must_use]
    pub fn is_of(&self, row: Row, contestant: Contestant) -> bool {
        self.row == row.to_string() && self.contestant == contestant.name()
    }

    /// One line for the person who watches.
    #[must_use]
    pub fn summary(&self) -> String {
        let head = format!("{} {} round {}", self.row, self.contestant, self.round + 1);
        if let Some(failure) = &self.failure {
            return format!("{head}: FAILED: {failure}");
        }
        let mut text = head;
        for (label, value) in [
            ("us of processor per request", self.cpu_us),
            ("us of the server", self.server_us),
            ("requests/s", self.rate),
            ("bytes per connection", self.connection_bytes),
            ("calls per request", self.calls),
            ("us p50", self.p50_us),
            ("us p99", self.p99_us),
            ("MiB at the most", self.peak_mib),
            ("of throughput for acknowledgements", self.ack_cost),
        ] {
            if value > 0.0 {
                text.push_str(&format!(", {value:.2} {label}"));
            }
        }
        if !self.note.is_empty() {
            text.push_str(", ");
            text.push_str(&self.note);
        }
        text
    }
}
