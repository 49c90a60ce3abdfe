//! Fleets of sentinels on a virtual clock: the product's own machine, unchanged, among faults.
//!
//! Three or five sentinels watch one primary and two replicas. The network has latency, loss, and cuts in either
//! direction; connections are TCP's: in order, nothing twice, and what was written before a close still arrives. Processes
//! are killed, paused and started again, sentinels with their file, an older one, or none; servers with their data or
//! without. Some fleets hold foreign sentinels: the same machine that refuses `SENTINEL TANDEM` and is refused it,
//! and so keeps to Redis' ways. Hello messages go through the simulated servers.
//!
//! What is checked after every event is in [`check`]; what must hold once everything is mended, and within which time, in
//! [`heal`]. Left to the lab: real sockets, real Redis, and sentinels that are another program.
//!
//! ```text
//!  chance -> plan -> world { nodes { machine, file }, servers { redis }, wires, net, writer } -> violation?
//! ```

mod ask;
mod check;
mod commands;
mod faults;
mod heal;
mod info;
mod net;
mod node;
mod plan;
mod server;
mod stream;
mod wires;
mod world;
mod writer;

use std::panic::AssertUnwindSafe;

use crate::world::Violation;

pub use world::Fleet;

/// Sentinels of a fleet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Size {
    /// Three.
    Three,
    /// Five.
    Five,
}

impl Size {
    /// How many.
    #[must_use]
    pub fn sentinels(self) -> usize {
        match self {
            Self::Three => 3,
            Self::Five => 5,
        }
    }
}

/// Runs one seed. A panic of the machine is a violation like any other.
#[must_use]
pub fn run_seed(size: Size, seed: u64, trace: bool) -> Option<Violation> {
    let run = std::panic::catch_unwind(AssertUnwindSafe(|| Fleet::new(size, seed, trace).run()));
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

/// Runs a range of seeds, each with both sizes, on this many threads; failures in the order of their seeds.
pub fn run_range(
    seeds: std::ops::Range<u64>,
    threads: u64,
    progress: impl Fn(u64) + Sync,
) -> Vec<(Size, u64, Violation)> {
    let mut failures: Vec<(Size, u64, Violation)> = std::thread::scope(|scope| {
        let workers: Vec<_> = (0..threads)
            .map(|worker| {
                let (seeds, progress) = (seeds.clone(), &progress);
                scope.spawn(move || {
                    let mut found = Vec::new();
                    for seed in seeds.filter(|seed| seed % threads == worker) {
                        for size in [Size::Three, Size::Five] {
                            if let Some(violation) = run_seed(size, seed, false) {
                                found.push((size, seed, violation));
                            }
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
    failures.sort_by_key(|(size, seed, _)| (*seed, *size));
    failures
}
