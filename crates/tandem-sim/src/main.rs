//! `tandem-sim --seeds 0..10000` runs seeds; `tandem-sim --seed N --trace` shows one. With `--local` both servers are on one host, with `--alone` primaries
//! acknowledge without a replica; with `--fleet`, fleets of three and
//! of five sentinels instead of pairs; `--five` shows the larger one.

use std::process::ExitCode;
use std::sync::atomic::{AtomicU64, Ordering};

use tandem_sim::{Place, fleet};

const USAGE: &str = "usage: tandem-sim [--local | --alone | --fleet] [--seeds FROM..TO | --seed N [--trace [--five]]] [--threads N]";

fn main() -> ExitCode {
    let mut seeds = 0..1000;
    let mut trace = false;
    let mut fleets = false;
    let mut place = Place::TwoHosts;
    let mut size = fleet::Size::Three;
    let mut threads = 2;
    let mut args = std::env::args().skip(1);
    while let Some(arg) = args.next() {
        let taken = match arg.as_str() {
            "--trace" => {
                trace = true;
                Some(())
            }
            "--fleet" => {
                fleets = true;
                Some(())
            }
            "--alone" => {
                place = Place::Alone;
                Some(())
            }
            "--local" => {
                place = Place::OneHost;
                Some(())
            }
            "--five" => {
                size = fleet::Size::Five;
                Some(())
            }
            "--seed" => args
                .next()
                .and_then(|n| n.parse().ok())
                .map(|n: u64| seeds = n..n + 1),
            "--threads" => args
                .next()
                .and_then(|n| n.parse().ok())
                .map(|n| threads = n),
            "--seeds" => args
                .next()
                .and_then(|range| {
                    let (from, to) = range.split_once("..")?;
                    Some(from.parse().ok()?..to.parse().ok()?)
                })
                .map(|range| seeds = range),
            _ => None,
        };
        if taken.is_none() {
            eprintln!("{USAGE}");
            return ExitCode::from(2);
        }
    }
    if fleets {
        return run_fleets(seeds, size, trace, threads);
    }
    if trace {
        let found = tandem_sim::run_seed(place, seeds.start, true);
        println!("{found:?}");
        return ExitCode::from(u8::from(found.is_some()));
    }
    let total = seeds.end.saturating_sub(seeds.start);
    let done = AtomicU64::new(0);
    let failures = tandem_sim::run_range(place, seeds, threads, |_| {
        let n = done.fetch_add(1, Ordering::Relaxed) + 1;
        if n.is_multiple_of(1000) {
            eprintln!("{n} of {total} seeds");
        }
    });
    for (seed, violation) in &failures {
        println!(
            "seed {seed}: {} at {} ms: {}",
            violation.rule,
            violation.at / 1000,
            violation.text
        );
    }
    println!("{total} seeds, {} failures", failures.len());
    ExitCode::from(u8::from(!failures.is_empty()))
}

fn run_fleets(
    seeds: std::ops::Range<u64>,
    size: fleet::Size,
    trace: bool,
    threads: u64,
) -> ExitCode {
    if trace {
        let found = fleet::run_seed(size, seeds.start, true);
        println!("{found:?}");
        return ExitCode::from(u8::from(found.is_some()));
    }
    let total = seeds.end.saturating_sub(seeds.start);
    let done = AtomicU64::new(0);
    let failures = fleet::run_range(seeds, threads, |_| {
        let n = done.fetch_add(1, Ordering::Relaxed) + 1;
        if n.is_multiple_of(1000) {
            eprintln!("{n} of {total} seeds");
        }
    });
    for (size, seed, violation) in &failures {
        println!(
            "seed {seed}, {size:?}: {} at {} ms: {}",
            violation.rule,
            violation.at / 1000,
            violation.text
        );
    }
    println!(
        "{total} seeds, each with 3 and 5 sentinels, {} failures",
        failures.len()
    );
    ExitCode::from(u8::from(!failures.is_empty()))
}
