//! `tandem proxy status` and `tandem proxy reload`: questions to a proxy that runs on this host.

use std::path::PathBuf;

use serde_json::{Value, json};

use super::control::{Question, ask};
use super::{DONE, FAILED, status};
use crate::cli::{self, Where};
use crate::run::control::Verb;

/// twemproxy's port of the statistics.
const STATS_PORT: u16 = 22222;

/// Instead of running one: questions to one that runs.
#[derive(Debug, clap::Subcommand)]
pub(crate) enum ProxyVerb {
    /// Pools, shards, where their primaries are, requests, and how long answers take.
    Status {
        /// The `tandem proxy` whose statistics are at this port (default: 22222 if one answers there, else the daemon).
        #[arg(short, long, value_name = "PORT")]
        stats_port: Option<u16>,
        /// The daemon of this configuration (default: /etc/tandem/tandem.toml).
        #[arg(short, long, conflicts_with = "stats_port")]
        config: Option<PathBuf>,
        /// For machines; this form is stable.
        #[arg(long)]
        json: bool,
    },
    /// Apply the changed file of a `tandem proxy` without dropping a connection, as SIGUSR1 does.
    Reload {
        /// The process whose statistics are at this port.
        #[arg(short, long, value_name = "PORT", default_value_t = STATS_PORT)]
        stats_port: u16,
        /// Also if keys would be looked for on other servers.
        #[arg(long)]
        accept_move: bool,
    },
}

/// Asks, shows, and says how it went.
pub(crate) fn run(verb: ProxyVerb) -> u8 {
    match verb {
        ProxyVerb::Status {
            stats_port,
            config,
            json,
        } => match pools(stats_port, config) {
            Ok(pools) => show(&pools, json),
            Err(code) => code,
        },
        ProxyVerb::Reload {
            stats_port,
            accept_move,
        } => match ask(stats_port, Question::Reload { accept_move }) {
            Ok(answer) => {
                let said = answer["text"].as_str().unwrap_or_default();
                let done = answer["outcome"] == "done";
                if done {
                    println!("{said}");
                } else {
                    eprintln!("tandem proxy: {said}");
                }
                u8::from(!done)
            }
            Err(error) => nobody(stats_port, &error),
        },
    }
}

fn nobody(port: u16, error: &std::io::Error) -> u8 {
    eprintln!(
        "tandem proxy: no proxy with statistics at port {port} answers: {error}; name its port with -s, and ask as root or as its user"
    );
    FAILED
}

fn pools(stats_port: Option<u16>, config: Option<PathBuf>) -> Result<Vec<Value>, u8> {
    if config.is_none() {
        let port = stats_port.unwrap_or(STATS_PORT);
        match ask(port, Question::Status) {
            Ok(Value::Array(pools)) => return Ok(pools),
            Ok(_) => return Err(FAILED),
            Err(error) if stats_port.is_some() => return Err(nobody(port, &error)),
            Err(_) => {}
        }
    }
    let at = Where::of(config.unwrap_or_else(|| PathBuf::from("/etc/tandem/tandem.toml")));
    let answers = cli::ask_daemon(&at, Verb::Proxies)?;
    let pools = answers.into_values().filter_map(|pools| match pools {
        Value::Array(pools) => Some(pools),
        _ => None,
    });
    Ok(pools.flatten().collect())
}

fn show(pools: &[Value], as_json: bool) -> u8 {
    if as_json {
        println!("{}", json!({ "format": 1, "pools": pools }));
        return DONE;
    }
    for (at, pool) in pools.iter().enumerate() {
        if at > 0 {
            println!();
        }
        print!("{}", status::shown(pool));
    }
    if pools.is_empty() {
        println!("no proxy runs in this process");
    }
    DONE
}
