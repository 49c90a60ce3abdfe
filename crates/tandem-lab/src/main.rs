//! The lab's own command: benchmarks against the real peers.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand};
use tandem_lab::bench::{Contestant, Plan, Scenario, render, run};
use tandem_lab::ns::ensure_capable;
use tandem_lab::server::Flavour;

/// Runs the real thing in network namespaces and measures it.
#[derive(Debug, Parser)]
#[command(version)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Benchmarks.
    #[command(subcommand)]
    Bench(Bench),
}

#[derive(Debug, Subcommand)]
enum Bench {
    /// Every fault on tandem, keepalived and Sentinel: gaps and losses as clients see them.
    Failover(Failover),
}

#[derive(Debug, Args)]
struct Failover {
    /// Runs of tandem per fault.
    #[arg(long, default_value_t = 20)]
    runs: u32,
    /// Runs of each peer per fault.
    #[arg(long, default_value_t = 5)]
    peer_runs: u32,
    /// Only these faults.
    #[arg(long, value_delimiter = ',')]
    only: Vec<Scenario>,
    /// Only these arrangements.
    #[arg(long, value_delimiter = ',')]
    on: Vec<Contestant>,
    /// Sizes of the data in GiB, for the faults in which it matters.
    #[arg(long, value_delimiter = ',', default_values_t = [0, 4])]
    data_gib: Vec<u64>,
    /// The server: redis-6.2, redis-7.0 or valkey-9.1.
    #[arg(long, default_value = "redis-7.0")]
    server: Flavour,
    /// Where results are kept; what is in it is not run again.
    #[arg(long, default_value = "failover-results.jsonl")]
    results: PathBuf,
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    let Command::Bench(Bench::Failover(args)) = cli.command;
    if let Err(reason) = ensure_capable() {
        eprintln!("tandem-lab cannot run here: {reason}");
        return ExitCode::FAILURE;
    }
    let plan = Plan {
        runs: args.runs,
        peer_runs: args.peer_runs,
        scenarios: if args.only.is_empty() {
            Scenario::all()
        } else {
            args.only
        },
        contestants: if args.on.is_empty() {
            Contestant::ALL.to_vec()
        } else {
            args.on
        },
        data_gib: args.data_gib,
        flavour: args.server,
        results: args.results,
    };
    match run(&plan) {
        Ok(results) => {
            println!("{}", render(results.outcomes()));
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("{error:#}");
            ExitCode::FAILURE
        }
    }
}
