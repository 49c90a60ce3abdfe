//! The table: a row for each scenario and figure, a column for each program, medians with the worst run beside.

use super::{Outcome, Scenario};
use crate::bench::table::median;
use crate::fleet::Program;

/// A figure of an outcome: its label, and how it is read.
type Figure = (&'static str, fn(&Outcome) -> f64);

const FAILOVER: [Figure; 7] = [
    ("writable, ms", |o| o.writable_ms),
    ("known everywhere, ms", |o| o.known_ms),
    ("write gap, ms", |o| o.gap_ms),
    ("old primary last seen as one, ms", |o| o.old_primary_ms),
    ("acknowledged writes lost, %", |o| {
        // Without a write nothing can be lost.
        o.lost as f64 * 100.0 / (o.acknowledged.max(1)) as f64
    }),
    ("full resyncs", |o| o.full_syncs as f64),
    ("in order again, ms", |o| o.settled_ms),
];

const LOAD: [Figure; 3] = [
    ("all known, ms", |o| o.start_ms),
    ("processor, % of a core", |o| o.cpu_percent),
    ("memory, MiB", |o| o.memory_mib),
];

/// Renders all outcomes as Markdown.
#[must_use]
pub fn render(outcomes: &[Outcome]) -> String {
    let mut text = String::from(
        "| scenario | figure | real: median / worst | tandem: median / worst |\n|---|---|---|---|\n",
    );
    for scenario in Scenario::COMPARED {
        let figures: &[Figure] = if scenario == Scenario::Groups {
            &LOAD
        } else {
            &FAILOVER
        };
        let columns = Program::ALL.map(|program| good(outcomes, scenario, Some(program)));
        if columns.iter().all(Vec::is_empty) {
            continue;
        }
        for (label, of) in figures {
            let [real, tandem] = columns.each_ref().map(|column| cell(column, *of));
            text.push_str(&format!("| {scenario} | {label} | {real} | {tandem} |\n"));
        }
        let [real, tandem] = columns.each_ref().map(Vec::len);
        text.push_str(&format!("| {scenario} | runs | {real} | {tandem} |\n"));
    }
    let mixed: Vec<_> = Scenario::mixed()
        .into_iter()
        .map(|scenario| {
            let all = outcomes.iter().filter(|o| o.is_of(scenario, None)).count();
            (scenario, good(outcomes, scenario, None), all)
        })
        .filter(|(_, _, all)| *all > 0)
        .collect();
    if !mixed.is_empty() {
        text.push_str(
            "\n| five Sentinels (R real, T ours; the first beside the primary) | of one mind | known, ms | in order \
             again, ms |\n|---|---|---|---|\n",
        );
    }
    for (scenario, good, all) in mixed {
        let known = cell(&good, |o| o.known_ms);
        let settled = cell(&good, |o| o.settled_ms);
        text.push_str(&format!(
            "| {scenario} | {} of {all} | {known} | {settled} |\n",
            good.len()
        ));
    }
    let failed = outcomes.iter().filter(|o| o.failure.is_some()).count();
    text.push_str(&format!("\n{failed} of {} runs failed.\n", outcomes.len()));
    text
}

fn good(outcomes: &[Outcome], scenario: Scenario, program: Option<Program>) -> Vec<&Outcome> {
    outcomes
        .iter()
        .filter(|outcome| outcome.is_of(scenario, program) && outcome.failure.is_none())
        .collect()
}

fn cell(outcomes: &[&Outcome], of: fn(&Outcome) -> f64) -> String {
    let mut values: Vec<f64> = outcomes.iter().map(|outcome| of(outcome)).collect();
    values.sort_by(f64::total_cmp);
    match (median(&values), values.last()) {
        (Some(median), Some(worst)) => format!("{} / {}", short(median), short(*worst)),
        _ => "-".to_owned(),
    }
}

/// One decimal below 100, none above.
fn short(value: f64) -> String {
    if value < 100.0 {
        format!("{value:.1}")
    } else {
        format!("{value:.0}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cells_are_medians_of_good_runs() {
        let run = |known_ms: f64, failure: Option<&str>| Outcome {
            known_ms,
            lost: 5,
            acknowledged: 10,
            failure: failure.map(str::to_owned),
            ..Outcome::of(Scenario::Kill, Some(Program::Real), 0)
        };
        let mixed = Scenario::mixed()[0];
        let outcomes = [
            run(900.0, None),
            run(20.0, None),
            run(30.0, None),
            run(1.0, Some("dark")),
            Outcome::of(mixed, None, 0),
        ];
        let text = render(&outcomes);
        assert!(
            text.contains("| kill | known everywhere, ms | 30.0 / 900 | - |"),
            "{text}"
        );
        assert!(
            text.contains("| kill | acknowledged writes lost, % | 50.0 / 50.0 | - |"),
            "{text}"
        );
        assert!(text.contains("| kill | runs | 3 | 0 |"), "{text}");
        assert!(text.contains("mixed-TRRRR-kill | 1 of 1 |"), "{text}");
        assert!(text.contains("1 of 5 runs failed"), "{text}");
    }
}
