//! Where a suite ends otherwise through a proxy than against a server.

use std::collections::BTreeMap;

use anyhow::Context;
use serde::{Deserialize, Serialize};

use super::stage::Target;
use super::suite::{Outcome, Suite};

/// The page that has to name every difference.
const PAGE: &str = include_str!("../../../../../docs/compat/clients.md");

/// One suite against one target: a line of the results file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Run {
    suite: Suite,
    target: Target,
    outcomes: Vec<Outcome>,
    /// Tests that ended otherwise than against the server, and not when they were run again.
    pub(super) unsteady: Vec<String>,
}

impl Run {
    pub(super) fn new(suite: Suite, target: Target, outcomes: Vec<Outcome>) -> Self {
        Self {
            suite,
            target,
            outcomes,
            unsteady: Vec::new(),
        }
    }

    pub(super) fn is(&self, suite: Suite, target: Target) -> bool {
        self.suite == suite && self.target == target
    }

    fn by_name(&self) -> BTreeMap<&str, &Outcome> {
        let pairs = self.outcomes.iter();
        pairs.map(|one| (one.test.as_str(), one)).collect()
    }

    fn count(&self, outcome: &str) -> usize {
        let all = self.outcomes.iter();
        all.filter(|one| one.outcome == outcome).count()
    }
}

/// The tests that end otherwise here than against the server, also those that are told of here only or not at all.
pub(super) fn compare(server: &Run, here: &Run) -> Vec<String> {
    let (server, here) = (server.by_name(), here.by_name());
    let ends =
        |of: &BTreeMap<&str, &Outcome>, test: &str| of.get(test).map(|one| one.outcome.clone());
    let mut tests: Vec<&str> = server.keys().chain(here.keys()).copied().collect();
    tests.sort_unstable();
    tests.dedup();
    tests
        .into_iter()
        .filter(|test| ends(&server, test) != ends(&here, test))
        .map(str::to_owned)
        .collect()
}

/// A test that ends otherwise through a proxy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Difference {
    /// Its name.
    pub test: String,
    /// How it ends against the server, through one group, through two.
    pub outcomes: [String; 3],
    /// What it says where it differs.
    pub reason: String,
    /// Whether the page names it.
    pub listed: bool,
}

/// All of one suite.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Report {
    suite: Suite,
    /// Of each target: passed, failed, skipped.
    counts: [[usize; 3]; 3],
    /// In the order of names.
    pub differences: Vec<Difference>,
    unsteady: Vec<String>,
}

impl Report {
    pub(super) fn of(suite: Suite, runs: &[Run]) -> anyhow::Result<Self> {
        let run = |target| {
            let of = runs.iter().rev().find(|run| run.is(suite, target));
            of.with_context(|| format!("{suite}, {target}: has no result"))
        };
        let [server, one, two] = Target::ALL.map(run);
        let runs = [server?, one?, two?];
        let steadily = |here: &Run| {
            let mut tests = compare(runs[0], here);
            tests.retain(|test| !here.unsteady.contains(test));
            tests
        };
        let mut tests = [steadily(runs[1]), steadily(runs[2])].concat();
        tests.sort_unstable();
        tests.dedup();
        let differences = tests.into_iter().map(|test| {
            let found = runs.map(|run| run.outcomes.iter().find(|one| one.test == test));
            let reasons = found.iter().flatten().map(|one| one.reason.clone());
            Difference {
                outcomes: found
                    .map(|one| one.map_or_else(|| "not run".to_owned(), |one| one.outcome.clone())),
                reason: reasons
                    .rev()
                    .find(|text| !text.is_empty())
                    .unwrap_or_default(),
                listed: is_listed(&test),
                test,
            }
        });
        Ok(Self {
            suite,
            counts: runs.map(|run| ["passed", "failed", "skipped"].map(|word| run.count(word))),
            differences: differences.collect(),
            unsteady: runs.iter().flat_map(|run| run.unsteady.clone()).collect(),
        })
    }
}

/// Whether the page has the test's name, without its file and its parameters, between backticks.
fn is_listed(test: &str) -> bool {
    let name = test.rsplit("::").next().unwrap_or(test);
    let name = name.split('[').next().unwrap_or(name);
    PAGE.contains(&format!("`{name}`"))
}

/// For each suite its counts and then each difference.
#[must_use]
pub fn render(reports: &[Report]) -> String {
    let mut text = String::new();
    for report in reports {
        text.push_str(&format!("{}\n", report.suite));
        for (target, counts) in Target::ALL.iter().zip(report.counts) {
            let [passed, failed, skipped] = counts;
            text.push_str(&format!(
                "  {target:<13} {passed:>5} passed {failed:>4} failed {skipped:>4} skipped\n"
            ));
        }
        for difference in &report.differences {
            let [server, one, two] = &difference.outcomes;
            let mark = if difference.listed { " " } else { "!" };
            text.push_str(&format!(
                "{mark} {} | {server} | {one} | {two} | {}\n",
                difference.test, difference.reason
            ));
        }
        if !report.unsteady.is_empty() {
            text.push_str(&format!(
                "  not each time: {}\n",
                report.unsteady.join(", ")
            ));
        }
        text.push('\n');
    }
    let all = reports.iter().flat_map(|report| &report.differences);
    let unlisted = all.filter(|one| !one.listed).count();
    text.push_str(&format!(
        "{unlisted} differences (!) are not in docs/compat/clients.md.\n"
    ));
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(target: Target, outcomes: &[(&str, &str)]) -> Run {
        let outcome = |&(test, outcome): &(&str, &str)| Outcome {
            test: test.to_owned(),
            outcome: outcome.to_owned(),
            reason: String::new(),
        };
        Run::new(
            Suite::Ioredis,
            target,
            outcomes.iter().map(outcome).collect(),
        )
    }

    #[test]
    fn only_what_differs_each_time_is_reported() {
        let server = run(
            Target::Server,
            &[
                ("a", "passed"),
                ("b", "failed"),
                ("c", "passed"),
                ("d", "passed"),
            ],
        );
        let mut one = run(
            Target::OneGroup,
            &[
                ("a", "failed"),
                ("b", "failed"),
                ("c", "failed"),
                ("e", "passed"),
            ],
        );
        assert_eq!(compare(&server, &one), ["a", "c", "d", "e"]);
        one.unsteady.push("c".to_owned());
        let two = run(
            Target::TwoGroups,
            &[
                ("a", "passed"),
                ("b", "passed"),
                ("c", "passed"),
                ("d", "passed"),
            ],
        );
        let runs = [server, one, two];
        let report = Report::of(Suite::Ioredis, &runs).unwrap();
        let rows: Vec<String> = report
            .differences
            .iter()
            .map(|one| format!("{} {}", one.test, one.outcomes.join(" ")))
            .collect();
        assert_eq!(
            rows,
            [
                "a passed failed passed",
                "b failed failed passed",
                "d passed not run passed",
                "e not run passed not run"
            ]
        );
        let text = render(&[report]);
        assert!(text.contains("not each time: c"), "{text}");
        assert!(text.contains("4 differences (!)"), "{text}");
        assert!(Report::of(Suite::RedisPy, &runs).is_err());
    }

    #[test]
    fn a_test_is_looked_up_by_its_own_name() {
        assert!(!is_listed("tests/test_x.py::TestX::no_such_test[3]"));
        assert!(is_listed(
            "tests/test_commands.py::TestRedisCommands::test_client_list[x]"
        ));
    }
}
