//! Fleets of sentinels under faults: a share of the seeds, and those that found a fault once.
//!
//! All ten thousand: `cargo run -p tandem-sim -- --fleet --seeds 0..10000`.

use tandem_sim::fleet::{Fleet, Size, run_range, run_seed};

/// Seeds and what they found in the machine.
const FIXED: &[(Size, u64, &str)] = &[
    (
        Size::Three,
        168,
        "one sentinel found a primary down for ever, for data that nobody held any more",
    ),
    (
        Size::Five,
        671,
        "the same, with replicas that had resynced before the others looked",
    ),
    (
        Size::Three,
        442,
        "a loading server was told SLAVEOF again with every reply",
    ),
    (
        Size::Three,
        68,
        "two sentinels that could not reach each other's choice deposed a primary every 15 ms",
    ),
    (
        Size::Five,
        696,
        "a failover on request took the number of an election that was won meanwhile",
    ),
    (
        Size::Three,
        794,
        "a restarted sentinel took a number again for a failover on request",
    ),
    (
        Size::Three,
        173,
        "servers that came back following each other stayed without a primary",
    ),
    (
        Size::Three,
        1513,
        "a primary that came back as a replica was noticed after its replicas counted as detached",
    ),
    (
        Size::Three,
        1801,
        "the configured primary followed an empty one, and nobody dared to choose",
    ),
    (
        Size::Three,
        9038,
        "two failovers on request without votes shared a number, and the fleet stayed divided",
    ),
    (
        Size::Three,
        9784,
        "after a fruitless attempt nobody tried the last resort",
    ),
    (
        Size::Three,
        627,
        "started without its file, it took its whole fleet for strangers",
    ),
    (
        Size::Five,
        1111,
        "started without its file, it took its whole fleet for strangers",
    ),
    (
        Size::Three,
        3864,
        "a voter that had lost its file voted again in the same election",
    ),
];

#[test]
fn seeds_of_fixed_faults_hold() {
    for (size, seed, found) in FIXED {
        let violation = run_seed(*size, *seed, false);
        assert!(
            violation.is_none(),
            "seed {seed}, {size:?} ({found}): {violation:?}"
        );
    }
}

#[test]
fn three_hundred_fleets_of_each_size_keep_the_invariants() {
    let failures = run_range(0..300, 2, |_| {});
    let words: Vec<String> = failures
        .iter()
        .map(|(size, seed, v)| {
            format!(
                "seed {seed}, {size:?}: {} at {} us: {}",
                v.rule, v.at, v.text
            )
        })
        .collect();
    assert!(words.is_empty(), "{}", words.join("\n"));
}

#[test]
fn a_seed_gives_the_same_run_again_and_seeds_differ() {
    let mut promotions = 0;
    for seed in 3..63 {
        let mut one = Fleet::new(Size::Three, seed, false);
        let mut two = Fleet::new(Size::Three, seed, false);
        one.run();
        two.run();
        assert_eq!(one.summary(), two.summary(), "seed {seed}");
        promotions += one.summary().3;
    }
    // What never fails over shows nothing.
    assert!(promotions > 30, "{promotions} promotions in sixty runs");
}
