//! The table: a line for each figure, a column for each contestant, medians with the least and the most beside, and
//! what tandem's figure has to be.

use std::collections::BTreeMap;

use super::{Command, Contestant, Outcome, PIPELINES, Row};
use crate::bench::table::{align, median};

/// What a figure is seen against, always of the same round.
#[derive(Debug, Clone, Copy)]
enum Against {
    Nothing,
    /// Divided by the other's.
    Quotient(Contestant),
    /// Less the other's.
    Difference(Contestant),
}

/// What has to be reached.
#[derive(Debug, Clone, Copy)]
struct Bar {
    /// Who has to.
    who: Contestant,
    /// At the most.
    goal: f64,
    /// What would be better still.
    stretch: Option<f64>,
}

/// A line of the table.
struct Line {
    label: String,
    row: Row,
    figure: fn(&Outcome) -> f64,
    against: Against,
    bar: Option<Bar>,
}

impl Line {
    fn new(row: Row, label: &str, figure: fn(&Outcome) -> f64) -> Self {
        Self {
            label: format!("{row}{label}"),
            row,
            figure,
            against: Against::Nothing,
            bar: None,
        }
    }

    fn against(mut self, against: Against) -> Self {
        self.against = against;
        self
    }

    fn bar(mut self, who: Contestant, goal: f64, stretch: Option<f64>) -> Self {
        self.bar = Some(Bar { who, goal, stretch });
        self
    }
}

fn lines() -> Vec<Line> {
    let cpu: fn(&Outcome) -> f64 = |outcome| outcome.cpu_us;
    let rate: fn(&Outcome) -> f64 = |outcome| outcome.rate;
    let tandem = Contestant::Tandem;
    let mut lines = Vec::new();
    for (depth, goal, stretch) in PIPELINES
        .into_iter()
        .zip([(0.92, 0.85), (0.40, 0.35), (0.30, 0.25)])
        .map(|(depth, (goal, stretch))| (depth, goal, stretch))
    {
        for row in [Command::Set, Command::Get].map(|command| Row::Load(command, depth)) {
            lines.extend([
                Line::new(row, ", processor / direct", cpu)
                    .against(Against::Quotient(Contestant::Direct))
                    .bar(tandem, goal, Some(stretch)),
                Line::new(row, ", processor / one thread", cpu)
                    .against(Against::Quotient(tandem))
                    .bar(Contestant::TandemTwo, 1.15, None),
                Line::new(row, ", us per request", cpu),
                Line::new(row, ", us of the server behind", |o| o.server_us),
                Line::new(row, ", requests/s", rate),
            ]);
        }
    }
    lines.extend([
        Line::new(Row::Mget, ", processor / nutcracker", cpu)
            .against(Against::Quotient(Contestant::Nutcracker))
            .bar(tandem, 0.4, Some(0.3)),
        Line::new(Row::Mget, ", us per request", cpu),
        Line::new(Row::Mget, ", requests/s", rate),
        Line::new(Row::Memory, ", bytes per connection", |o| {
            o.connection_bytes
        })
        .bar(tandem, 512.0, None),
        Line::new(Row::Calls, " per request", |o| o.calls).bar(tandem, 2.1, None),
        Line::new(Row::Latency, ", us p50", |o| o.p50_us),
        Line::new(Row::Latency, ", us p99", |o| o.p99_us),
        Line::new(Row::Latency, ", us p50 - direct", |o| o.p50_us)
            .against(Against::Difference(Contestant::Direct)),
        Line::new(Row::Latency, ", us p99 - direct", |o| o.p99_us)
            .against(Against::Difference(Contestant::Direct))
            .bar(tandem, 200.0, None),
        Line::new(Row::Latency, ", at requests/s", rate),
        Line::new(Row::Ack, ", part of throughput lost", |o| o.ack_cost).bar(tandem, 0.15, None),
        Line::new(Row::Ack, ", requests/s with ack = 1", rate),
        Line::new(Row::Large, ", MiB for 512 MiB", |o| o.peak_mib).bar(tandem, 16.0, None),
    ]);
    lines
}

/// Renders all outcomes for a terminal, with a legend.
#[must_use]
pub fn render(outcomes: &[Outcome]) -> String {
    let mut grid = vec![vec!["figure".to_owned()]];
    grid[0].extend(Contestant::ALL.map(|contestant| contestant.name().to_owned()));
    grid[0].extend(["goal", "verdict"].map(str::to_owned));
    for line in lines() {
        let values = Contestant::ALL.map(|contestant| values(outcomes, &line, contestant));
        let told = match line.against {
            // Without the one that has to reach it, the line would say 1 for the one it is measured by.
            Against::Quotient(Contestant::Tandem) => !values[4].is_empty(),
            Against::Nothing | Against::Quotient(_) | Against::Difference(_) => {
                values.iter().any(|values| !values.is_empty())
            }
        };
        if !told {
            continue;
        }
        let mut cells = vec![line.label.clone()];
        cells.extend(values.iter().map(|values| cell(values)));
        cells.extend(verdict(&line, &values));
        grid.push(cells);
    }
    let failed = outcomes.iter().filter(|o| o.failure.is_some()).count();
    let mut text = align(&grid);
    text.push_str(&format!(
        "\nEach cell: median (least..most) over the rounds; quotients and differences are taken within a round.\n{failed} of \
         {} measurements failed.\n",
        outcomes.len()
    ));
    text
}

/// The figures of a contestant, sorted: one for each round that has what it is seen against. Of measurements of the same
/// round the last counts.
fn values(outcomes: &[Outcome], line: &Line, contestant: Contestant) -> Vec<f64> {
    let own = by_round(outcomes, line, contestant);
    let mut values: Vec<f64> = match line.against {
        Against::Nothing => own.into_values().collect(),
        Against::Quotient(other) | Against::Difference(other) => {
            let others = by_round(outcomes, line, other);
            let seen = |(round, value): (u32, f64)| {
                let other = others.get(&round)?;
                Some(match line.against {
                    Against::Difference(_) => value - other,
                    Against::Nothing | Against::Quotient(_) => value / other,
                })
            };
            own.into_iter().filter_map(seen).collect()
        }
    };
    values.sort_by(f64::total_cmp);
    values
}

fn by_round(outcomes: &[Outcome], line: &Line, contestant: Contestant) -> BTreeMap<u32, f64> {
    outcomes
        .iter()
        .filter(|outcome| outcome.is_of(line.row, contestant) && outcome.failure.is_none())
        .map(|outcome| (outcome.round, (line.figure)(outcome)))
        .collect()
}

fn cell(sorted: &[f64]) -> String {
    match (sorted.first(), median(sorted), sorted.last()) {
        (Some(least), Some(median), Some(most)) => {
            format!("{} ({}..{})", short(median), short(*least), short(*most))
        }
        _ => "-".to_owned(),
    }
}

/// Two digits behind the point for quotients, none for what is large.
fn short(value: f64) -> String {
    if value.abs() < 10.0 {
        format!("{value:.2}")
    } else {
        format!("{value:.0}")
    }
}

fn verdict(line: &Line, values: &[Vec<f64>; 5]) -> [String; 2] {
    let Some(bar) = line.bar else {
        return [String::new(), String::new()];
    };
    let mut goal = format!("<= {}", short(bar.goal));
    if let Some(stretch) = bar.stretch {
        goal.push_str(&format!(" ({})", short(stretch)));
    }
    let place = Contestant::ALL.iter().position(|one| *one == bar.who);
    let reached = place.and_then(|place| median(&values[place]));
    let verdict = match reached {
        None => "not measured",
        Some(reached) if bar.stretch.is_some_and(|stretch| reached <= stretch) => "better",
        Some(reached) if reached <= bar.goal => "met",
        Some(_) => "MISSED",
    };
    [goal, verdict.to_owned()]
}

#[cfg(test)]
mod tests {
    use super::*;

    const ROW: Row = Row::Load(Command::Get, 16);

    fn load(contestant: Contestant, round: u32, cpu_us: f64) -> Outcome {
        Outcome {
            cpu_us,
            ..Outcome::of(ROW, contestant, round)
        }
    }

    fn line_of(text: &str, label: &str) -> String {
        let found = text.lines().find(|line| line.starts_with(label));
        let words: Vec<&str> = found.unwrap().split_whitespace().collect();
        words.join(" ")
    }

    #[test]
    fn quotients_are_taken_within_a_round_and_the_last_measurement_counts() {
        let mut outcomes = Vec::new();
        for (round, direct, tandem) in [(0, 2.0, 0.8), (1, 4.0, 1.2), (2, 2.0, 5.0)] {
            outcomes.push(load(Contestant::Direct, round, direct));
            outcomes.push(load(Contestant::Tandem, round, tandem));
        }
        outcomes.push(load(Contestant::Tandem, 2, 0.9));
        outcomes.push(load(Contestant::Tandem, 3, 9.0));
        let text = render(&outcomes);
        let line = line_of(&text, "get-16, processor / direct");
        assert!(line.contains("0.40 (0.30..0.45)"), "{line}");
        assert!(line.ends_with("<= 0.40 (0.35) met"), "{line}");
        assert!(!text.contains("one thread"), "{text}");
    }

    #[test]
    fn what_was_not_measured_is_no_verdict_and_a_failure_no_value() {
        let outcomes = [
            load(Contestant::Direct, 0, 1.0),
            load(Contestant::Nutcracker, 0, 1.5),
            Outcome {
                failure: Some("dark".to_owned()),
                ..load(Contestant::Tandem, 0, 0.1)
            },
        ];
        let text = render(&outcomes);
        let line = line_of(&text, "get-16, processor / direct");
        assert!(line.contains("1.50 (1.50..1.50)"), "{line}");
        assert!(line.ends_with("not measured"), "{line}");
        assert!(text.contains("1 of 3 measurements failed"), "{text}");
    }

    #[test]
    fn differences_are_in_the_same_units_and_may_miss() {
        let outcome = |contestant, p99_us| Outcome {
            p99_us,
            ..Outcome::of(Row::Latency, contestant, 0)
        };
        let outcomes = [
            outcome(Contestant::Direct, 100.0),
            outcome(Contestant::Tandem, 350.0),
        ];
        let line = line_of(&render(&outcomes), "latency, us p99 - direct");
        assert!(line.contains("250 (250..250)"), "{line}");
        assert!(line.ends_with("<= 200 MISSED"), "{line}");
    }
}
