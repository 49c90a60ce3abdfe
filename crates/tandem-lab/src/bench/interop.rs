//! `bench interop`: `tandem vrrp` beside the real keepalived, all of [`crate::interop::matrix`], each case once.

use std::path::Path;
use std::time::Instant;

use serde::{Deserialize, Serialize};

use super::lines::Lines;
use crate::interop::{Case, matrix, run as play};

/// What one case showed.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Outcome {
    /// The case in words.
    pub case: String,
    /// The first step at which the wrong hosts had the address; `None` if each had it rightly.
    pub failure: Option<String>,
    /// How long it took, in seconds.
    pub took_s: f64,
}

/// Runs what the results file does not hold yet. A case that failed is run again by the next invocation.
///
/// # Errors
/// When the results file cannot be read or written.
pub fn run(results: &Path) -> anyhow::Result<Vec<Outcome>> {
    let mut lines: Lines<Outcome> = Lines::open(results)?;
    for case in missing(lines.outcomes()) {
        let begun = Instant::now();
        let failure = play(case).err().map(|error| format!("{error:#}"));
        let outcome = Outcome {
            case: case.to_string(),
            failure,
            took_s: begun.elapsed().as_secs_f64(),
        };
        eprintln!(
            "{}: {} after {:.0} s",
            outcome.case,
            outcome.failure.as_deref().unwrap_or("well"),
            outcome.took_s
        );
        lines.add(outcome)?;
    }
    Ok(lines.outcomes().to_vec())
}

fn missing(outcomes: &[Outcome]) -> Vec<Case> {
    let well = |case: &Case| {
        let name = case.to_string();
        outcomes
            .iter()
            .any(|outcome| outcome.case == name && outcome.failure.is_none())
    };
    matrix().into_iter().filter(|case| !well(case)).collect()
}

/// A line for each case, by its newest outcome, and the sum.
#[must_use]
pub fn render(outcomes: &[Outcome]) -> String {
    let mut text = String::new();
    let mut well = 0;
    let all = matrix();
    for case in &all {
        let name = case.to_string();
        let newest = outcomes.iter().rev().find(|outcome| outcome.case == name);
        let word = match newest {
            None => "not run",
            Some(outcome) => outcome.failure.as_deref().unwrap_or("well"),
        };
        well += usize::from(word == "well");
        text.push_str(&format!("{name:<44} {word}\n"));
    }
    text.push_str(&format!("\n{well} of {} went well.\n", all.len()));
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_case_that_failed_is_run_again_and_its_newest_outcome_counts() {
        let first = matrix()[0];
        let mut outcomes = vec![Outcome {
            case: first.to_string(),
            failure: Some("the address is on []".to_owned()),
            took_s: 1.0,
        }];
        assert_eq!(missing(&outcomes).len(), 54);
        assert!(render(&outcomes).contains("the address is on []"));
        outcomes.push(Outcome {
            failure: None,
            ..outcomes[0].clone()
        });
        assert_eq!(missing(&outcomes).len(), 53);
        let text = render(&outcomes);
        assert!(text.contains("1 of 54 went well"), "{text}");
        assert!(text.contains("not run"), "{text}");
    }
}
