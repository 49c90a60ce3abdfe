//! The table: a row for each scenario and figure, a column for each program, medians with the worst run beside, and
//! where something was promised whether it was kept.

use super::{Outcome, Scenario};
use crate::bench::table::median;
use crate::fleet::Program;

/// What is promised of the median.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Goal {
    /// Nothing.
    Free,
    /// No more than this.
    AtMost(f64),
    /// This at least.
    AtLeast(f64),
    /// No more than half of what the real one has.
    HalfOfReal,
}

impl Goal {
    fn cell(self, real: Option<f64>, tandem: Option<f64>) -> String {
        let (words, kept) = match self {
            Self::Free => return String::new(),
            Self::AtMost(most) => (format!("≤ {most}"), tandem.map(|value| value <= most)),
            Self::AtLeast(least) => (format!("≥ {least}"), tandem.map(|value| value >= least)),
            Self::HalfOfReal => (
                "≤ half".to_owned(),
                real.zip(tandem).map(|(real, tandem)| tandem * 2.0 <= real),
            ),
        };
        match kept {
            Some(true) => format!("{words}: kept"),
            Some(false) => format!("{words}: MISSED"),
            None => words,
        }
    }
}

/// A figure of an outcome: its label, how it is read, and what is promised.
type Figure = (&'static str, fn(&Outcome) -> f64, Goal);

/// The figures of a scenario. down-after is 1000 ms in all of them.
fn figures(scenario: Scenario) -> Vec<Figure> {
    use Goal::{AtLeast, AtMost, Free, HalfOfReal};
    let failover = |writable, known, gap, lost, full_syncs| -> Vec<Figure> {
        vec![
            ("writable, ms", |o| o.writable_ms, writable),
            ("known everywhere, ms", |o| o.known_ms, known),
            ("write gap, ms", |o| o.gap_ms, gap),
            (
                "old primary last seen as one, ms",
                |o| o.old_primary_ms,
                Free,
            ),
            ("acknowledged writes lost, %", lost_percent, lost),
            ("full resyncs", |o| o.full_syncs as f64, full_syncs),
            ("in order again, ms", |o| o.settled_ms, Free),
        ]
    };
    match scenario {
        // The death is proved, and all Sentinels are of one kind.
        Scenario::Kill => failover(Free, AtMost(500.0), Free, Free, Free),
        Scenario::Freeze => failover(AtMost(1100.0), AtMost(1150.0), Free, Free, Free),
        Scenario::Manual => failover(Free, Free, AtMost(50.0), AtMost(0.0), AtMost(0.0)),
        Scenario::Cut => {
            let mut all = failover(Free, Free, Free, Free, Free);
            let counted: Figure = (
                "runs whose loss was counted and named, %",
                |o| f64::from(u8::from(o.note.contains("+diverged"))) * 100.0,
                AtLeast(100.0),
            );
            all.push(counted);
            all
        }
        Scenario::Client(_) => vec![("writes again after the kill, ms", |o| o.gap_ms, Free)],
        Scenario::Groups => vec![
            ("all known, ms", |o| o.start_ms, Free),
            ("processor, % of a core", |o| o.cpu_percent, HalfOfReal),
            ("memory, MiB", |o| o.memory_mib, HalfOfReal),
        ],
        Scenario::Mixed(..) => Vec::new(),
    }
}

fn lost_percent(outcome: &Outcome) -> f64 {
    // Without a write nothing can be lost.
    outcome.lost as f64 * 100.0 / outcome.acknowledged.max(1) as f64
}

/// Renders all outcomes as Markdown.
#[must_use]
pub fn render(outcomes: &[Outcome]) -> String {
    let mut text = String::from(
        "| scenario | figure | real: median / worst | tandem: median / worst | goal |\n|---|---|---|---|---|\n",
    );
    for scenario in Scenario::COMPARED {
        let columns = Program::ALL.map(|program| good(outcomes, scenario, Some(program)));
        if columns.iter().all(Vec::is_empty) {
            continue;
        }
        for (label, of, goal) in figures(scenario) {
            let [real, tandem] = columns.each_ref().map(|column| sorted(column, of));
            let goal = goal.cell(median(&real), median(&tandem));
            let [real, tandem] = [real, tandem].map(|values| cell(&values));
            text.push_str(&format!(
                "| {scenario} | {label} | {real} | {tandem} | {goal} |\n"
            ));
        }
        let [real, tandem] = columns.each_ref().map(Vec::len);
        text.push_str(&format!("| {scenario} | runs | {real} | {tandem} | |\n"));
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
            "\n| five Sentinels (R real, T ours; the first beside the primary) | one primary and equal epochs | known, ms | \
             in order again, ms | goal |\n|---|---|---|---|---|\n",
        );
    }
    for (scenario, good, all) in mixed {
        let known = cell(&sorted(&good, |o| o.known_ms));
        let settled = cell(&sorted(&good, |o| o.settled_ms));
        let goal = if good.len() == all {
            "always: kept"
        } else {
            "always: MISSED"
        };
        text.push_str(&format!(
            "| {scenario} | {} of {all} | {known} | {settled} | {goal} |\n",
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

fn sorted(outcomes: &[&Outcome], of: fn(&Outcome) -> f64) -> Vec<f64> {
    let mut values: Vec<f64> = outcomes.iter().map(|outcome| of(outcome)).collect();
    values.sort_by(f64::total_cmp);
    values
}

fn cell(values: &[f64]) -> String {
    match (median(values), values.last()) {
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
            text.contains("| kill | known everywhere, ms | 30.0 / 900 | - | ≤ 500 |"),
            "{text}"
        );
        assert!(
            text.contains("| kill | acknowledged writes lost, % | 50.0 / 50.0 | - |  |"),
            "{text}"
        );
        assert!(text.contains("| kill | runs | 3 | 0 |"), "{text}");
        assert!(text.contains("mixed-TRRRR-kill | 1 of 1 |"), "{text}");
        assert!(text.contains("| always: kept |"), "{text}");
        assert!(text.contains("1 of 5 runs failed"), "{text}");
    }

    #[test]
    fn a_goal_is_kept_or_missed_by_the_median() {
        let table = [
            (Goal::AtMost(50.0), None, Some(50.0), "≤ 50: kept"),
            (Goal::AtMost(50.0), None, Some(50.1), "≤ 50: MISSED"),
            (Goal::AtMost(50.0), Some(1.0), None, "≤ 50"),
            (Goal::AtLeast(100.0), None, Some(0.0), "≥ 100: MISSED"),
            (Goal::HalfOfReal, Some(4.0), Some(2.0), "≤ half: kept"),
            (Goal::HalfOfReal, Some(4.0), Some(2.1), "≤ half: MISSED"),
            (Goal::HalfOfReal, None, Some(2.1), "≤ half"),
            (Goal::Free, Some(4.0), Some(2.0), ""),
        ];
        for (goal, real, tandem, words) in table {
            assert_eq!(goal.cell(real, tandem), words, "{goal:?}");
        }
    }
}
