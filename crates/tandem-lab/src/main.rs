//! The lab's own command: benchmarks against the real peers.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand};
use tandem_lab::arrangement::Fault;
use tandem_lab::bench::{
    Contestant, Plan, Scenario, interop as bench_interop, proxy, proxy_failover, render, run,
    sentinel, suites,
};
use tandem_lab::fleet::Program;
use tandem_lab::libraries::Library;
use tandem_lab::ns::{ensure_capable, measure_alone};
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
    /// `tandem vrrp` and the real keepalived on one segment: every wire, mode, rank and blow.
    Interop(Interop),
    /// Real redis-sentinel and `tandem sentinel` through the same troubles, and fleets of both.
    Sentinel(Sentinel),
    /// What a proxy costs: nutcracker, haproxy and `tandem proxy` beside redis-server asked directly.
    Proxy(Proxy),
    /// What clients behind a proxy notice when the primary of a pair is killed or moved.
    ProxyFailover(ProxyFailover),
    /// Client libraries' own tests against a server, and against `tandem proxy` in front of one group and of two.
    Suites(Suites),
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
    /// The servers: redis-7.0 for all of it, redis-6.2 and valkey-9.1 for kill, freeze, switchover, cut-both-used and boots.
    #[arg(long, value_delimiter = ',', default_values = ["redis-7.0", "redis-6.2", "valkey-9.1"])]
    server: Vec<Flavour>,
    /// Where results are kept; what is in it is not run again.
    #[arg(long, default_value = "failover-results.jsonl")]
    results: PathBuf,
}

#[derive(Debug, Args)]
struct Interop {
    /// Where results are kept; what is in it is not run again.
    #[arg(long, default_value = "interop-results.jsonl")]
    results: PathBuf,
}

#[derive(Debug, Args)]
struct Sentinel {
    /// Runs of each program per scenario.
    #[arg(long, default_value_t = 20)]
    runs: u32,
    /// Runs of each mix per trouble.
    #[arg(long, default_value_t = 1)]
    mixed_runs: u32,
    /// Runs of each program over many groups; one takes up to three minutes.
    #[arg(long, default_value_t = 20)]
    group_runs: u32,
    /// Only these: kill, freeze, manual, cut, clients, groups, mixed, or one such as client-ioredis or mixed-TRRRR-kill.
    #[arg(long, value_delimiter = ',')]
    only: Vec<String>,
    /// Only these programs: real, tandem.
    #[arg(long, value_delimiter = ',')]
    on: Vec<Program>,
    /// How many groups one Sentinel watches in `groups`.
    #[arg(long, default_value_t = 1000)]
    groups: usize,
    /// Where results are kept; what is in it is not run again.
    #[arg(long, default_value = "sentinel-results.jsonl")]
    results: PathBuf,
}

#[derive(Debug, Args)]
struct Proxy {
    /// Rounds.
    #[arg(long, default_value_t = 9)]
    runs: u32,
    /// Only these rows: set-1, get-1, set-16, get-16, set-64, get-64, mget, memory, calls, latency, ack, large.
    #[arg(long, value_delimiter = ',')]
    only: Vec<proxy::Row>,
    /// Only these: nutcracker, haproxy, tandem, tandem-2. The server itself always takes part.
    #[arg(long, value_delimiter = ',')]
    on: Vec<proxy::Contestant>,
    /// Where results are kept; what is in it is not run again.
    #[arg(long, default_value = "proxy-results.jsonl")]
    results: PathBuf,
}

#[derive(Debug, Args)]
struct ProxyFailover {
    /// Runs of each proxy under each fault.
    #[arg(long, default_value_t = 20)]
    runs: u32,
    /// Only these faults: kill, switchover.
    #[arg(long, value_delimiter = ',')]
    only: Vec<Fault>,
    /// Only these: tandem, nutcracker-vip.
    #[arg(long, value_delimiter = ',')]
    on: Vec<proxy_failover::Contestant>,
    /// Where results are kept; what is in it is not run again.
    #[arg(long, default_value = "proxy-failover-results.jsonl")]
    results: PathBuf,
}

#[derive(Debug, Args)]
struct Suites {
    /// Where `scripts/fetch-suites` put them.
    folder: PathBuf,
    /// Only these: redis-py, redis-py-resp2, ioredis.
    #[arg(long, value_delimiter = ',')]
    on: Vec<suites::Suite>,
    /// Only these files or tests, as the suite's runner names them.
    #[arg(long, value_delimiter = ',')]
    only: Vec<String>,
    /// Where results are kept; what is in it is not run again.
    #[arg(long, default_value = "suites-results.jsonl")]
    results: PathBuf,
}

impl Sentinel {
    fn scenarios(&self) -> Result<Vec<sentinel::Scenario>, String> {
        let mut scenarios = Vec::new();
        for name in &self.only {
            if name == "mixed" {
                scenarios.extend(sentinel::Scenario::mixed());
            } else if name == "clients" {
                scenarios.extend(Library::ALL.map(sentinel::Scenario::Client));
            } else {
                scenarios.push(name.parse()?);
            }
        }
        if scenarios.is_empty() {
            scenarios.extend(sentinel::Scenario::COMPARED);
            scenarios.extend(sentinel::Scenario::mixed());
        }
        Ok(scenarios)
    }
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    let Command::Bench(bench) = cli.command;
    if let Err(reason) = ensure_capable() {
        eprintln!("tandem-lab cannot run here: {reason}");
        return ExitCode::FAILURE;
    }
    // Suites measure nothing and take long.
    if !matches!(bench, Bench::Suites(_)) {
        measure_alone();
    }
    let table = match bench {
        Bench::Failover(args) => failover(args),
        Bench::Interop(args) => interop(&args),
        Bench::Sentinel(args) => sentinels(args),
        Bench::Proxy(args) => proxies(args),
        Bench::ProxyFailover(args) => proxy_failovers(args),
        Bench::Suites(args) => client_suites(args),
    };
    match table {
        Ok(table) => {
            println!("{table}");
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("{error:#}");
            ExitCode::FAILURE
        }
    }
}

fn interop(args: &Interop) -> anyhow::Result<String> {
    Ok(bench_interop::render(&bench_interop::run(&args.results)?))
}

fn sentinels(args: Sentinel) -> anyhow::Result<String> {
    let plan = sentinel::Plan {
        runs: args.runs,
        group_runs: args.group_runs.min(args.runs),
        mixed_runs: args.mixed_runs,
        scenarios: args.scenarios().map_err(anyhow::Error::msg)?,
        programs: if args.on.is_empty() {
            Program::ALL.to_vec()
        } else {
            args.on
        },
        groups: args.groups,
        results: args.results,
    };
    Ok(sentinel::render(&sentinel::run(&plan)?))
}

fn proxies(args: Proxy) -> anyhow::Result<String> {
    let plan = proxy::Plan {
        runs: args.runs,
        rows: if args.only.is_empty() {
            proxy::Row::all()
        } else {
            args.only
        },
        contestants: if args.on.is_empty() {
            proxy::Contestant::available()
        } else {
            args.on
        },
        results: args.results,
    };
    Ok(proxy::render(&proxy::run(&plan)?))
}

fn proxy_failovers(args: ProxyFailover) -> anyhow::Result<String> {
    let known = proxy_failover::FAULTS;
    if let Some(other) = args.only.iter().find(|fault| !known.contains(fault)) {
        anyhow::bail!("`{other}` is no fault of this benchmark; there are kill, switchover");
    }
    let plan = proxy_failover::Plan {
        runs: args.runs,
        faults: if args.only.is_empty() {
            known.to_vec()
        } else {
            args.only
        },
        contestants: if args.on.is_empty() {
            proxy_failover::Contestant::ALL.to_vec()
        } else {
            args.on
        },
        results: args.results,
    };
    Ok(proxy_failover::render(&proxy_failover::run(&plan)?))
}

fn client_suites(args: Suites) -> anyhow::Result<String> {
    let plan = suites::Plan {
        suites: if args.on.is_empty() {
            suites::Suite::ALL.to_vec()
        } else {
            args.on
        },
        folder: args.folder,
        only: args.only,
        results: args.results,
    };
    Ok(suites::render(&suites::run(&plan)?))
}

fn failover(args: Failover) -> anyhow::Result<String> {
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
        flavours: args.server,
        results: args.results,
    };
    Ok(render(run(&plan)?.outcomes()))
}
