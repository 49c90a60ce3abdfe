//! Deterministic simulator: a pair on a virtual clock with faults and checkers.
//!
//! The product's own keeper and VRRP machine run here, unchanged, against simulated servers, a
//! simulated network and simulated people. A seed draws a plan ([`plan::Plan`]), the run inflicts its
//! faults and checks the invariants of the pair at each step; then everything is mended, and the
//! group has to become one primary and one replica in sync with every acknowledged write accounted
//! for. What it leaves to the lab: real sockets, real Redis, real time.
//!
//! ```text
//!  chance -> plan -> world { hosts { redis, daemon { pair } }, network, clients } -> violation?
//! ```

pub mod chance;
mod check;
mod clients;
mod course;
pub mod data;
mod faults;
pub mod fleet;
mod one_host;
mod orphans;
pub mod plan;
mod reading;
pub mod redis;
mod replication;
mod rest;
mod shell;
mod steps;
mod talk;
mod wire;
pub mod world;

use std::panic::AssertUnwindSafe;

pub use world::{Violation, World};

/// Where a group's servers are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// On two hosts.
    TwoHosts,
    /// On one, under one daemon.
    OneHost,
    /// On two hosts, and a primary may acknowledge alone (`when_alone = "continue"`).
    Alone,
}

/// Runs one seed. A panic of the machines is a violation like any other.
pub fn run_seed(place: Place, seed: u64, trace: bool) -> Option<Violation> {
    let world = || match place {
        Place::TwoHosts => World::new(seed, trace),
        Place::OneHost => World::on_one_host(seed, trace),
        Place::Alone => World::going_on_alone(seed, trace),
    };
    let run = std::panic::catch_unwind(AssertUnwindSafe(|| world().run()));
    run.unwrap_or_else(|panic| {
        let text = panic
            .downcast_ref::<String>()
            .cloned()
            .or_else(|| panic.downcast_ref::<&str>().map(|s| (*s).to_owned()))
            .unwrap_or_default();
        Some(Violation {
            rule: "panic",
            at: 0,
            text,
        })
    })
}

/// Runs a range of seeds on this many threads; failures in the order of their seeds.
pub fn run_range(
    place: Place,
    seeds: std::ops::Range<u64>,
    threads: u64,
    progress: impl Fn(u64) + Sync,
) -> Vec<(u64, Violation)> {
    let mut failures: Vec<(u64, Violation)> = std::thread::scope(|scope| {
        let workers: Vec<_> = (0..threads)
            .map(|worker| {
                let (seeds, progress) = (seeds.clone(), &progress);
                scope.spawn(move || {
                    let mut found = Vec::new();
                    for seed in seeds.filter(|seed| seed % threads == worker) {
                        if let Some(violation) = run_seed(place, seed, false) {
                            found.push((seed, violation));
                        }
                        progress(seed);
                    }
                    found
                })
            })
            .collect();
        workers
            .into_iter()
            .flat_map(|worker| worker.join().expect("a worker catches its panics"))
            .collect()
    });
    failures.sort_by_key(|(seed, _)| *seed);
    failures
}
