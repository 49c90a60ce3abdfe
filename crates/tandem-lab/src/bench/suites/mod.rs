//! `bench suites`: what client libraries' own tests say of `tandem proxy`.
//!
//! Each suite runs three times: against redis-server itself, which shows what is the suite's own fault, through a proxy in
//! front of one group, and through one in front of two. Groups are real pairs under `tandem run`. What ends otherwise than
//! against the server is run again by itself, on both, and counts only if it differs again; then it has to be in
//! `docs/compat/clients.md` with its reason.
//!
//! Nothing of a suite is in this repository: `scripts/fetch-suites` gets them.

mod compare;
mod stage;
mod suite;

use std::path::PathBuf;

use anyhow::Context;

pub use self::compare::{Difference, Report, render};
use self::stage::Stage;
pub use self::stage::Target;
pub use self::suite::{Outcome, Suite};
use super::lines::Lines;
use compare::{Run, compare};

/// What is to be run.
#[derive(Debug, Clone)]
pub struct Plan {
    /// The suites, in the order of the report.
    pub suites: Vec<Suite>,
    /// Where `scripts/fetch-suites` put them.
    pub folder: PathBuf,
    /// Only these files or tests, as the suite's own runner takes them; empty for all.
    pub only: Vec<String>,
    /// Where results are kept.
    pub results: PathBuf,
}

/// After so many repetitions a test that still ends otherwise does so for a reason.
const REPETITIONS: u32 = 2;

/// Runs what the results file does not hold yet.
///
/// # Errors
/// When a suite is not there, does not run at all, or the results file cannot be written.
pub fn run(plan: &Plan) -> anyhow::Result<Vec<Report>> {
    let mut lines: Lines<Run> = Lines::open(&plan.results).context("the results file")?;
    let mut reports = Vec::new();
    for &suite in &plan.suites {
        suite.find(&plan.folder)?;
        for target in Target::ALL {
            if lines.outcomes().iter().any(|run| run.is(suite, target)) {
                eprintln!("{suite}, {target}: is in {}", plan.results.display());
                continue;
            }
            let outcomes = Stage::build(target)?.run(suite, &plan.folder, &plan.only)?;
            eprintln!("{suite}, {target}: {} tests", outcomes.len());
            let run = Run::new(suite, target, outcomes);
            let doubtful = match lines
                .outcomes()
                .iter()
                .find(|run| run.is(suite, Target::Server))
            {
                Some(server) if target != Target::Server => compare(server, &run),
                _ => Vec::new(),
            };
            lines.add(steady(plan, suite, target, run, &doubtful)?)?;
        }
        reports.push(Report::of(suite, lines.outcomes())?);
    }
    Ok(reports)
}

/// Runs the tests that ended otherwise again: one that does not each time says nothing.
fn steady(
    plan: &Plan,
    suite: Suite,
    target: Target,
    mut run: Run,
    doubtful: &[String],
) -> anyhow::Result<Run> {
    let mut doubtful = doubtful.to_vec();
    for _ in 0..REPETITIONS {
        if doubtful.is_empty() {
            break;
        }
        eprintln!("{suite}, {target}: {} tests again", doubtful.len());
        let again = suite.only(&doubtful);
        let there = Stage::build(target)?.run(suite, &plan.folder, &again)?;
        let here = Stage::build(Target::Server)?.run(suite, &plan.folder, &again)?;
        let differing = compare(
            &Run::new(suite, Target::Server, here),
            &Run::new(suite, target, there),
        );
        doubtful.retain(|test| {
            let differs = differing.contains(test);
            if !differs {
                run.unsteady.push(test.clone());
            }
            differs
        });
    }
    Ok(run)
}
