//! The table: a row per fault, size and patience, a column per arrangement, each cell a distribution.

use std::collections::BTreeMap;
use std::fmt::Write;

use hdrhistogram::Histogram;

use super::{Contestant, Outcome, Scenario};

/// Ten minutes in microseconds: longer than any run.
const LONGEST_US: u64 = 600_000_000;

/// What makes a row of its own: the scenario's place and name, the size in GiB, the server.
type RowKey<'a> = (usize, &'a str, u64, &'a str);
/// The outcomes of a row by column.
type Columns<'a> = BTreeMap<usize, Vec<&'a Outcome>>;
/// A line of a row: its label, and what a cell shows in it.
type Line = (String, fn(&[&Outcome]) -> String);

/// What a scenario shows.
fn lines(scenario: &str, gib: u64, flavour: &str) -> Vec<Line> {
    let label = format!("{scenario} {gib} GiB {flavour}");
    let gap: Line = (label.clone(), |cell| gaps(cell, |outcome| outcome.gap_ms));
    let lost: Line = ("  lost / gone / archived".to_owned(), losses);
    match scenario.parse() {
        Ok(Scenario::Boots) => vec![(label, boots)],
        Ok(Scenario::Idle) => vec![(label, usages)],
        Ok(Scenario::Alternating) => vec![gap, lost, ("  outcome".to_owned(), notes)],
        Ok(Scenario::Single(_)) | Err(_) => vec![
            gap,
            ("  client with 10 s time-outs".to_owned(), |cell| {
                gaps(cell, |outcome| outcome.patient_gap_ms)
            }),
            ("  the host's own stalls".to_owned(), |cell| {
                gaps(cell, |outcome| outcome.stall_ms)
            }),
            lost,
            (
                "  runs, by hand, two writable, two with the VIP".to_owned(),
                troubles,
            ),
        ],
    }
}

/// Renders all outcomes for a terminal, with a legend.
#[must_use]
pub fn render(outcomes: &[Outcome]) -> String {
    let mut rows: BTreeMap<RowKey<'_>, Columns<'_>> = BTreeMap::new();
    let scenarios: Vec<String> = Scenario::all().iter().map(ToString::to_string).collect();
    for outcome in outcomes {
        let row = scenarios
            .iter()
            .position(|name| *name == outcome.scenario)
            .unwrap_or(scenarios.len());
        let column = Contestant::ALL
            .iter()
            .position(|contestant| contestant.name() == outcome.contestant);
        let key = (
            row,
            outcome.scenario.as_str(),
            outcome.gib,
            outcome.flavour.as_str(),
        );
        rows.entry(key)
            .or_default()
            .entry(column.unwrap_or(Contestant::ALL.len()))
            .or_default()
            .push(outcome);
    }
    let mut grid = vec![vec!["fault".to_owned()]];
    grid[0].extend(
        Contestant::ALL
            .iter()
            .map(|contestant| contestant.name().to_owned()),
    );
    for ((_, scenario, gib, flavour), columns) in &rows {
        for (label, text) in lines(scenario, *gib, flavour) {
            let cell = |column| {
                columns
                    .get(&column)
                    .map_or_else(|| "-".to_owned(), |cell| text(cell))
            };
            grid.push(
                std::iter::once(label)
                    .chain((0..Contestant::ALL.len()).map(cell))
                    .collect(),
            );
        }
    }
    let mut text = align(&grid);
    text.push_str(
        "\nGaps are the longest time without an acknowledged write: median / 95th percentile / maximum in ms over the \
         runs.\nlost: acknowledged writes that the primary lacked once clients wrote again (after the heal for a cut); \
         gone: after the repair,\nand in no archive; archived: not on the primary, kept in an archive. By hand: runs \
         that did not become well by themselves.\nTwo writable: longest time with the VIP and a primary on both hosts; two with the VIP: whatever was behind it, as long as its\nlifetime where nobody was left to take it off. Idle: the busier of the two daemons. Boots: with the newest data, or waiting\nfor the host or the person who has it. Stalls: by how much a nap of 1 ms on each \
         processor was late\nat the worst; gaps contain them.\n",
    );
    text
}

fn good<'a>(cell: &'a [&'a Outcome]) -> impl Iterator<Item = &'a Outcome> {
    cell.iter()
        .copied()
        .filter(|outcome| outcome.failure.is_none())
}

fn gaps(cell: &[&Outcome], of: fn(&Outcome) -> f64) -> String {
    let mut histogram = Histogram::<u64>::new_with_max(LONGEST_US, 3)
        .expect("the bounds are constants that it takes");
    for outcome in good(cell) {
        // Saturating: what exceeds ten minutes is ten minutes.
        histogram.saturating_record((of(outcome) * 1000.0) as u64);
    }
    if histogram.is_empty() {
        return "failed".to_owned();
    }
    let at = |quantile| histogram.value_at_quantile(quantile) as f64 / 1000.0;
    format!(
        "{} / {} / {}",
        short(at(0.5)),
        short(at(0.95)),
        short(histogram.max() as f64 / 1000.0)
    )
}

/// One decimal below 100 ms, none above.
fn short(milliseconds: f64) -> String {
    if milliseconds < 100.0 {
        format!("{milliseconds:.1}")
    } else {
        format!("{milliseconds:.0}")
    }
}

fn losses(cell: &[&Outcome]) -> String {
    let sum = |of: fn(&Outcome) -> u64| good(cell).map(of).sum::<u64>();
    let acknowledged = sum(|outcome| outcome.acknowledged);
    let (lost, gone, archived) = (sum(|o| o.lost), sum(|o| o.gone), sum(|o| o.archived));
    format!("{lost} / {gone} / {archived} of {acknowledged}")
}

fn troubles(cell: &[&Outcome]) -> String {
    let runs = good(cell).count();
    let failed = cell.len() - runs;
    let by_hand = good(cell).filter(|outcome| !outcome.settled).count();
    let two = good(cell)
        .map(|outcome| outcome.two_writable_ms)
        .fold(0.0, f64::max);
    let vips = good(cell)
        .map(|outcome| outcome.two_vips_ms)
        .fold(0.0, f64::max);
    let mut text = format!("{runs}, {by_hand}, {two:.0} ms, {vips:.0} ms");
    if failed > 0 {
        // Writing to a string cannot fail.
        let _ = write!(text, " ({failed} failed)");
    }
    text
}

fn boots(cell: &[&Outcome]) -> String {
    let right = |outcome: &&Outcome| outcome.settled && outcome.gone == 0;
    let runs = good(cell).count();
    let mut text = format!("{} of {runs} right", good(cell).filter(right).count());
    let failed = cell.len() - runs;
    if failed > 0 {
        // Writing to a string cannot fail.
        let _ = write!(text, " ({failed} failed)");
    }
    text
}

fn usages(cell: &[&Outcome]) -> String {
    let most = |of: fn(&Outcome) -> f64| good(cell).map(of).fold(0.0, f64::max);
    if good(cell).next().is_none() {
        return "failed".to_owned();
    }
    format!(
        "{:.2} % of a core, {:.1} MiB",
        most(|outcome| outcome.processor_percent),
        most(|outcome| outcome.memory_mib)
    )
}

fn notes(cell: &[&Outcome]) -> String {
    let notes: Vec<&str> = cell
        .iter()
        .map(|outcome| outcome.failure.as_deref().unwrap_or(&outcome.note))
        .collect();
    notes.join("; ")
}

/// Of sorted values the middle one; of an even number the lower, so that it is one that was seen.
pub(super) fn median(sorted: &[f64]) -> Option<f64> {
    sorted.get(sorted.len().checked_sub(1)? / 2).copied()
}

/// A grid as text, each column as wide as its widest cell.
pub(super) fn align(grid: &[Vec<String>]) -> String {
    let width = |column: usize| {
        grid.iter()
            .map(|row| row[column].chars().count())
            .max()
            .unwrap_or(0)
    };
    let widths: Vec<usize> = (0..grid[0].len()).map(width).collect();
    let mut text = String::new();
    for row in grid {
        let cells: Vec<String> = row
            .iter()
            .zip(&widths)
            .map(|(cell, width)| format!("{cell:<width$}"))
            .collect();
        text.push_str(cells.join("  ").trim_end());
        text.push('\n');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cell_is_a_distribution_and_failed_runs_stay_out_of_it() {
        let run = |run: u32, gap_ms: f64, failure: Option<&str>| Outcome {
            scenario: "kill".to_owned(),
            contestant: "tandem".to_owned(),
            flavour: "redis-7.0".to_owned(),
            run,
            gap_ms,
            patient_gap_ms: 2.0,
            acknowledged: 100,
            lost: 1,
            settled: run != 2,
            failure: failure.map(str::to_owned),
            ..Outcome::default()
        };
        let outcomes = [
            run(0, 4.0, None),
            run(1, 5.0, None),
            run(2, 250.0, None),
            run(3, 9999.0, Some("dark")),
        ];
        let text = render(&outcomes);
        assert!(text.contains("kill 0 GiB redis-7.0"), "{text}");
        assert!(text.contains("5.0 / 250 / 250"), "{text}");
        assert!(text.contains("3 / 0 / 0 of 300"), "{text}");
        assert!(text.contains("3, 1, 0 ms, 0 ms (1 failed)"), "{text}");
    }

    #[test]
    fn what_has_no_gap_shows_something_else() {
        let of = |scenario: &str| Outcome {
            scenario: scenario.to_owned(),
            contestant: "tandem".to_owned(),
            flavour: "redis-7.0".to_owned(),
            settled: true,
            processor_percent: 0.314,
            memory_mib: 11.25,
            note: "50 of 50 worked".to_owned(),
            ..Outcome::default()
        };
        let lost = Outcome {
            run: 1,
            gone: 1,
            ..of("boots")
        };
        let text = render(&[of("boots"), lost, of("idle"), of("alternating")]);
        assert!(text.contains("1 of 2 right"), "{text}");
        assert!(text.contains("0.31 % of a core, 11.2 MiB"), "{text}");
        assert!(text.contains("50 of 50 worked"), "{text}");
        assert!(!text.contains("time-outs"), "{text}");
    }
}
