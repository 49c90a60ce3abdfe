//! Fleets of five, real Sentinels and ours together: one primary and equal epochs after every trouble.
//!
//! Here every trouble once, with another number of ours and another place each; `tandem-lab bench sentinel` runs all.

#![allow(clippy::unwrap_used)] // A panic in a test is its report.

use tandem_lab::fleet::Program;
use tandem_lab::fleet::mixed::{Mix, Trouble, trial};
use tandem_lab::{can_run, skip};

fn comes_to_one_mind(test: &str, ours: &[usize], trouble: Trouble) {
    if !can_run(test) {
        return;
    }
    if let (false, Err(reason)) = (ours.is_empty(), Program::Tandem.available()) {
        skip(test, &format!("{reason:#}"));
        return;
    }
    let mix = Mix::ours_at(ours);
    let verdict = trial(mix, trouble).unwrap();
    println!(
        "{trouble} on {mix}: known after {:.0} ms, settled {:.0} ms later, epoch {}",
        verdict.known.as_secs_f64() * 1000.0,
        verdict.settled.as_secs_f64() * 1000.0,
        verdict.config_epoch
    );
}

#[test]
fn real_ones_alone_after_a_return() {
    comes_to_one_mind("real_ones_alone_after_a_return", &[], Trouble::Return);
}

#[test]
fn real_ones_alone_after_a_manual_failover() {
    comes_to_one_mind(
        "real_ones_alone_after_a_manual_failover",
        &[],
        Trouble::Manual,
    );
}

#[test]
fn one_of_ours_beside_the_killed_primary() {
    comes_to_one_mind("one_of_ours_beside_the_killed_primary", &[0], Trouble::Kill);
}

#[test]
fn two_of_ours_away_from_the_frozen_primary() {
    comes_to_one_mind(
        "two_of_ours_away_from_the_frozen_primary",
        &[1, 3],
        Trouble::Freeze,
    );
}

#[test]
fn three_of_ours_one_of_them_cut_off() {
    comes_to_one_mind(
        "three_of_ours_one_of_them_cut_off",
        &[0, 2, 4],
        Trouble::Cut,
    );
}

#[test]
fn four_of_ours_when_the_primary_returns() {
    comes_to_one_mind(
        "four_of_ours_when_the_primary_returns",
        &[0, 1, 2, 3],
        Trouble::Return,
    );
}

#[test]
fn a_manual_failover_ordered_of_ours() {
    comes_to_one_mind(
        "a_manual_failover_ordered_of_ours",
        &[3, 4],
        Trouble::Manual,
    );
}

#[test]
fn a_manual_failover_ordered_of_a_real_one() {
    comes_to_one_mind(
        "a_manual_failover_ordered_of_a_real_one",
        &[0, 1, 2],
        Trouble::Manual,
    );
}
