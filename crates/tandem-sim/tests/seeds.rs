//! Ten thousand histories of a pair under faults, each checked against P1 to P6.

use tandem_sim::Place;

#[test]
fn ten_thousand_seeds_keep_the_invariants() {
    all_pass(Place::TwoHosts, 10_000);
}

#[test]
fn two_thousand_seeds_keep_the_invariants_on_one_host() {
    all_pass(Place::OneHost, 2_000);
}

/// `when_alone = "continue"`: nothing that was acknowledged alone is lost by a promotion, and no promise ends before all is there.
#[test]
fn four_thousand_seeds_lose_nothing_that_was_acknowledged_alone() {
    all_pass(Place::Alone, 4_000);
}

fn all_pass(place: Place, seeds: u64) {
    let failures = tandem_sim::run_range(place, 0..seeds, 2, |_| {});
    let words: Vec<String> = failures
        .iter()
        .map(|(seed, v)| format!("seed {seed}: {} at {} us: {}", v.rule, v.at, v.text))
        .collect();
    assert!(words.is_empty(), "{}", words.join("\n"));
}

#[test]
fn a_seed_gives_the_same_run_again() {
    for seed in [3, 77, 4242] {
        let mut one = tandem_sim::World::new(seed, false);
        let mut two = tandem_sim::World::new(seed, false);
        one.run();
        two.run();
        assert_eq!(one.summary(), two.summary(), "seed {seed}");
    }
}
