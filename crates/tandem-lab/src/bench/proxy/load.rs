//! Processor time per request, under `redis-benchmark`.

use std::time::Duration;

use anyhow::Context;

use super::bed::{Bed, KEYS, Shards, VALUE_BYTES};
use super::{Command, Contestant, Outcome};
use crate::ns::Host;
use crate::usage;

/// Connections of the load.
pub(super) const CONNECTIONS: usize = 50;
/// Keys of one MGET, and its pipeline.
const MGET_KEYS: usize = 10;
const MGET_PIPELINE: u16 = 16;
const MGET_REQUESTS: usize = 100_000;
/// For the ends of connections to be over.
const REST: Duration = Duration::from_millis(30);

/// Runs one command on a contestant and fills in what it cost.
pub(super) fn measure(
    bed: &Bed,
    contestant: Contestant,
    command: Command,
    pipeline: u16,
    outcome: &mut Outcome,
) -> anyhow::Result<()> {
    // A second or so for each.
    let requests = match pipeline {
        1 => 100_000,
        2..=16 => 700_000,
        _ => 1_000_000,
    };
    let arguments = ["-t", command.name()];
    charge(
        bed,
        contestant,
        Shards::One,
        pipeline,
        requests,
        &arguments,
        outcome,
    )
}

/// The same for MGET over two servers.
pub(super) fn measure_mget(
    bed: &Bed,
    contestant: Contestant,
    outcome: &mut Outcome,
) -> anyhow::Result<()> {
    let mut arguments = vec!["MGET"];
    arguments.resize(1 + MGET_KEYS, "key:__rand_int__");
    let shards = match contestant {
        Contestant::Direct => Shards::One,
        Contestant::Nutcracker
        | Contestant::Haproxy
        | Contestant::Tandem
        | Contestant::TandemTwo => Shards::Two,
    };
    charge(
        bed,
        contestant,
        shards,
        MGET_PIPELINE,
        MGET_REQUESTS,
        &arguments,
        outcome,
    )
}

fn charge(
    bed: &Bed,
    contestant: Contestant,
    shards: Shards,
    pipeline: u16,
    requests: usize,
    arguments: &[&str],
    outcome: &mut Outcome,
) -> anyhow::Result<()> {
    let (pid, port) = bed.subject(contestant, shards)?;
    let before = (usage::processor(pid)?, bed.server_time()?);
    outcome.rate = benchmark(bed.host(), port, pipeline, requests, arguments)?;
    std::thread::sleep(REST);
    let after = (usage::processor(pid)?, bed.server_time()?);
    let each = |before: Duration, after: Duration| {
        after.saturating_sub(before).as_secs_f64() * 1e6 / requests as f64
    };
    outcome.cpu_us = each(before.0, after.0);
    outcome.server_us = each(before.1, after.1);
    Ok(())
}

/// Runs `redis-benchmark` to its end and returns its requests per second.
///
/// # Errors
/// When it fails or tells no rate.
pub(super) fn benchmark(
    host: &Host,
    port: u16,
    pipeline: u16,
    requests: usize,
    arguments: &[&str],
) -> anyhow::Result<f64> {
    let options = [
        ("-p", usize::from(port)),
        ("-c", CONNECTIONS),
        ("-d", VALUE_BYTES),
        ("-r", KEYS),
        ("-n", requests),
        ("-P", usize::from(pipeline)),
    ];
    let mut words = vec!["--csv".to_owned()];
    for (option, value) in options {
        words.extend([option.to_owned(), value.to_string()]);
    }
    words.extend(arguments.iter().map(|word| (*word).to_owned()));
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    rate(&host.run("redis-benchmark", &words)?)
}

/// The rate in its output: lines of quoted fields, the test's name and its requests per second first.
fn rate(text: &str) -> anyhow::Result<f64> {
    let line = text.lines().rfind(|line| line.starts_with('"'));
    line.and_then(|line| line.split("\",\"").nth(1)?.parse().ok())
        .with_context(|| format!("redis-benchmark tells no rate: {text}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rate_is_the_second_field_of_the_last_line() {
        let text = "\"test\",\"rps\",\"avg_latency_ms\"\n\"GET\",\"98039.22\",\"0.263\"\n";
        assert!((rate(text).unwrap() - 98_039.22).abs() < 1e-6);
        assert!(rate("\"test\",\"rps\"\n").is_err());
        assert!(rate("").is_err());
    }
}
