//! The table: a line for each fault and contestant, and the verdict on tandem.

use super::{Contestant, FAULTS, Outcome};
use crate::arrangement::Fault;
use crate::bench::table::{align, median};

/// At the most for the median of the longest answers, in milliseconds.
fn goal_ms(fault: Fault) -> f64 {
    if fault == Fault::Switchover {
        30.0
    } else {
        20.0
    }
}

/// Renders all outcomes for a terminal, with a legend.
#[must_use]
pub fn render(outcomes: &[Outcome]) -> String {
    let mut grid = vec![
        [
            "fault",
            "proxy",
            "runs",
            "longest answer, ms",
            "host's own stalls",
            "reads failed",
            "unknown",
            "writes failed",
            "connections lost",
            "worst client",
            "verdict",
        ]
        .map(str::to_owned)
        .to_vec(),
    ];
    for fault in FAULTS {
        for contestant in Contestant::ALL {
            let runs: Vec<&Outcome> = outcomes
                .iter()
                .filter(|outcome| outcome.is_of(fault, contestant) && outcome.failure.is_none())
                .collect();
            if runs.is_empty() {
                continue;
            }
            let sum = |of: fn(&Outcome) -> u64| runs.iter().map(|run| of(run)).sum::<u64>();
            let worst = runs.iter().map(|run| run.worst_client).max().unwrap_or(0);
            grid.push(vec![
                fault.to_string(),
                contestant.to_string(),
                runs.len().to_string(),
                spread(&runs, |run| run.longest_ms),
                spread(&runs, |run| run.stall_ms),
                sum(|run| run.reads_failed).to_string(),
                sum(|run| run.unknown).to_string(),
                sum(|run| run.writes_failed).to_string(),
                sum(|run| run.connections_lost).to_string(),
                worst.to_string(),
                match contestant {
                    Contestant::Tandem => verdict(fault, &runs).to_owned(),
                    Contestant::NutcrackerVip => "-".to_owned(),
                },
            ]);
        }
    }
    let failed = outcomes.iter().filter(|o| o.failure.is_some()).count();
    let mut text = align(&grid);
    text.push_str(&format!(
        "\nTimes: median / maximum over the runs. Goals: the median of the longest answers at most 20 ms after a kill, 30 \
         ms for a\nswitchover; after a kill no read fails and a client meets at most one unknown outcome; a switchover \
         fails nothing.\n{failed} of {} runs failed.\n",
        outcomes.len()
    ));
    text
}

fn sorted(runs: &[&Outcome], of: fn(&Outcome) -> f64) -> Vec<f64> {
    let mut values: Vec<f64> = runs.iter().map(|run| of(run)).collect();
    values.sort_by(f64::total_cmp);
    values
}

fn spread(runs: &[&Outcome], of: fn(&Outcome) -> f64) -> String {
    let values = sorted(runs, of);
    match (median(&values), values.last()) {
        (Some(median), Some(most)) => format!("{median:.1} / {most:.1}"),
        _ => "-".to_owned(),
    }
}

fn verdict(fault: Fault, runs: &[&Outcome]) -> &'static str {
    let fails = runs.iter().any(|run| {
        let always = run.reads_failed + run.writes_failed + run.connections_lost > 0;
        let unknown = if fault == Fault::Switchover { 0 } else { 1 };
        always || run.worst_client > unknown
    });
    if fails {
        "FAILS CLIENTS"
    } else if median(&sorted(runs, |run| run.longest_ms)).is_some_and(|ms| ms > goal_ms(fault)) {
        "TOO SLOW"
    } else {
        "met"
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_unknown_outcome_per_client_is_allowed_after_a_kill_and_none_in_a_switchover() {
        let run = |fault, longest_ms| Outcome {
            longest_ms,
            unknown: 3,
            worst_client: 1,
            ..Outcome::of(fault, Contestant::Tandem, 0)
        };
        for (fault, longest_ms, expected) in [
            (Fault::KillServer, 12.0, "met"),
            (Fault::KillServer, 21.0, "TOO SLOW"),
            (Fault::Switchover, 12.0, "FAILS CLIENTS"),
        ] {
            let run = run(fault, longest_ms);
            assert_eq!(verdict(fault, &[&run]), expected);
            assert!(render(&[run]).contains(expected));
        }
        let read = Outcome {
            reads_failed: 1,
            ..run(Fault::KillServer, 1.0)
        };
        assert_eq!(verdict(Fault::KillServer, &[&read]), "FAILS CLIENTS");
    }
}
