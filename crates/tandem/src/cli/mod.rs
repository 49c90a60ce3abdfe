//! The command line: parse, choose, run, exit code.
//!
//! Exit codes: 0 done, 1 failed, 2 usage or configuration, 3 refused for safety with the rule's name.

mod archive;
mod ask;
mod check;
mod history;
mod import;
mod init;
pub(crate) mod journal;
mod load;
mod log;
#[cfg(test)]
mod reference;
mod sentinel;
mod status;
pub(crate) mod table;

use std::io;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use clap::{Parser, Subcommand};
use tandem_config::settings::{Group, Settings};

pub(crate) use load::load;
pub(crate) use sentinel::SentinelVerb;

/// Done.
const DONE: u8 = 0;
/// Tried and failed.
const FAILED: u8 = 1;
/// Usage or configuration.
const USAGE: u8 = 2;
/// Refused for safety.
const REFUSED: u8 = 3;

/// Keeps Redis and Valkey behind one address that stays up.
#[derive(Debug, Parser)]
#[command(name = "tandem", version)]
pub(crate) struct Cli {
    #[command(subcommand)]
    command: Verb,
}

/// Which configuration, and which of its groups.
#[derive(Debug, clap::Args)]
pub(crate) struct Where {
    /// The configuration of this host.
    #[arg(short, long, default_value = "/etc/tandem/tandem.toml")]
    config: PathBuf,
    /// One group of several.
    #[arg(short, long)]
    group: Option<String>,
}

impl Where {
    /// All groups of this configuration.
    pub(crate) fn of(config: PathBuf) -> Self {
        Self {
            config,
            group: None,
        }
    }
}

/// The daemon's answers by name; the error is an exit code, and was told.
pub(crate) fn ask_daemon(at: &Where, verb: crate::run::control::Verb) -> Result<ask::Answers, u8> {
    ask::ask(at, verb).map_err(ask::NoAnswer::report)
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// The daemon of this host.
    Run {
        /// The configuration of this host.
        #[arg(short, long, default_value = "/etc/tandem/tandem.toml")]
        config: PathBuf,
    },
    /// Two hosts, real servers and a writing client in network namespaces, broken one way after another.
    Demo(crate::demo::DemoArgs),
    /// In place of keepalived: the same file, the same scripts.
    Vrrp(crate::vrrp::VrrpArgs),
    /// In place of redis-sentinel: the same file, port, commands and messages.
    Sentinel(crate::sentinel::SentinelArgs),
    /// In place of nutcracker (twemproxy): the same file, key placement, options and statistics.
    Proxy(crate::proxy::ProxyCommand),
    /// How the group stands, what it promises, and what would happen if a member died now.
    Status {
        #[command(flatten)]
        at: Where,
        /// For machines; this form is stable.
        #[arg(long)]
        json: bool,
        /// Again and again, every second.
        #[arg(short, long)]
        watch: bool,
    },
    /// Why there was or was no failover: rule by rule, with the evidence and its age.
    Explain {
        #[command(flatten)]
        at: Where,
        /// For machines.
        #[arg(long)]
        json: bool,
    },
    /// Hand the role to the other host, in order and without loss.
    Switchover {
        #[command(flatten)]
        at: Where,
        /// The host that is to be primary.
        #[arg(long)]
        to: Option<String>,
    },
    /// Make this host primary although the rules forbid it.
    Failover {
        #[command(flatten)]
        at: Where,
        /// The word for it: what only the other host has is lost, or archived when it returns.
        #[arg(long, required = true)]
        accept_loss: bool,
    },
    /// No automatic failover on this host until `tandem resume`.
    Pause {
        #[command(flatten)]
        at: Where,
    },
    /// Automatic failover again.
    Resume {
        #[command(flatten)]
        at: Where,
    },
    /// Begin the resync that waits for a person.
    Resync {
        #[command(flatten)]
        at: Where,
    },
    /// Read the configuration again; refused (exit code 3) while that would move something, unless accepted.
    Reload {
        /// The configuration of this host.
        #[arg(short, long, default_value = "/etc/tandem/tandem.toml")]
        config: PathBuf,
        /// Also move what the changed file moves: priority, addresses, preemption.
        #[arg(long)]
        accept: bool,
    },
    /// Is this host ready for its configuration? Changes nothing.
    Check {
        #[command(flatten)]
        at: Where,
        /// For machines.
        #[arg(long)]
        json: bool,
        /// For how many seconds the write rate is measured; 0 leaves it out.
        #[arg(long, default_value_t = 2, value_parser = clap::value_parser!(u64).range(0..=3600))]
        sample: u64,
    },
    /// Look at the Redis that runs here and write what tandem needs.
    Init(init::InitOptions),
    /// Make a tandem.toml from a keepalived.conf.
    Import(import::ImportOptions),
    /// What happened: one line per event.
    History {
        #[command(flatten)]
        at: Where,
        /// How many of the newest events.
        #[arg(short = 'n', long, default_value_t = 50)]
        count: usize,
        /// For machines: one object per line.
        #[arg(long)]
        json: bool,
    },
    /// Writes that were acknowledged here and are not in the group's history any more.
    Archive {
        #[command(subcommand)]
        verb: archive::ArchiveVerb,
    },
}

/// Runs the command line.
pub(crate) fn main() -> ExitCode {
    if let Some(args) = crate::sentinel::SentinelArgs::of_alias(std::env::args_os()) {
        return crate::sentinel::run(&args);
    }
    if let Some(code) = crate::proxy::called() {
        return code;
    }
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => {
            // Help and version are errors of a kind to clap; they are no failure.
            let code = match (
                error.use_stderr(),
                crate::proxy::is_called_by(std::env::args_os()),
            ) {
                (false, _) => DONE,
                (true, false) => USAGE,
                (true, true) => crate::proxy::FAILED,
            };
            let _ = error.print();
            return ExitCode::from(code);
        }
    };
    ExitCode::from(match cli.command {
        Verb::Demo(args) => demo(&args),
        Verb::Vrrp(args) => return crate::vrrp::main(args),
        Verb::Sentinel(args) => match args.verb() {
            Some(verb) => sentinel::sentinel(verb),
            None => return crate::sentinel::run(&args),
        },
        Verb::Proxy(args) => return crate::proxy::command(args),
        Verb::Run { config } => run(config),
        Verb::Status { at, json, watch } => status::status(&at, json, watch),
        Verb::Explain { at, json } => status::explain(&at, json),
        Verb::Switchover { at, to } => {
            ask::command(&at, crate::run::control::Verb::Switchover { to })
        }
        Verb::Failover { at, accept_loss: _ } => {
            ask::command(&at, crate::run::control::Verb::FailoverAcceptLoss)
        }
        Verb::Pause { at } => ask::command(&at, crate::run::control::Verb::Pause),
        Verb::Resume { at } => ask::command(&at, crate::run::control::Verb::Resume),
        Verb::Resync { at } => ask::command(&at, crate::run::control::Verb::Resync),
        Verb::Reload { config, accept } => {
            // The file is one for all groups.
            let at = Where::of(config);
            ask::command(&at, crate::run::control::Verb::Reload { accept })
        }
        Verb::Check { at, json, sample } => check::check(&at, json, Duration::from_secs(sample)),
        Verb::Init(options) => init::init(&options),
        Verb::Import(options) => import::run(&options),
        Verb::History { at, count, json } => history::history(&at, count, json),
        Verb::Archive { verb } => archive::archive(verb),
    })
}

/// The settings, and the groups that are meant. The error is a report ready to be printed.
fn groups_at(at: &Where) -> Result<(Settings, Vec<Group>), String> {
    let settings = load(&at.config)?;
    let mut groups = settings.groups.clone();
    if let Some(name) = &at.group {
        groups.retain(|group| group.name == *name);
        if groups.is_empty() {
            let names: Vec<&str> = settings.groups.iter().map(|g| g.name.as_str()).collect();
            return Err(format!(
                "tandem: there is no group {name}; the file has: {}\n",
                names.join(", ")
            ));
        }
    }
    Ok((settings, groups))
}

/// The settings, where what is wrong with them has been said already.
fn quietly(path: &Path) -> Option<Settings> {
    let text = std::fs::read_to_string(path).ok()?;
    tandem_config::settings::read(&path.display().to_string(), &text).0
}

/// An error with the path it is about, and what to do where only root may look.
fn at_path(path: &Path, error: &io::Error) -> io::Error {
    let hint = if error.kind() == io::ErrorKind::PermissionDenied {
        "; run this as root or as the daemon's user"
    } else {
        ""
    };
    io::Error::new(error.kind(), format!("{}: {error}{hint}", path.display()))
}

/// Runs a command's own conversation with servers and peers.
fn block_on<T>(future: impl Future<Output = T>) -> io::Result<T> {
    Ok(tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?
        .block_on(future))
}

fn demo(args: &crate::demo::DemoArgs) -> u8 {
    match crate::demo::run(args) {
        Ok(()) => DONE,
        Err(error) => {
            eprintln!("tandem demo: {error:#}");
            FAILED
        }
    }
}

fn run(config: PathBuf) -> u8 {
    let log = match log::Log::start() {
        Ok(log) => log,
        Err(error) => {
            eprintln!("tandem: the log's thread: {error}");
            return FAILED;
        }
    };
    let lines = tracing_subscriber::fmt()
        .with_writer(log.clone())
        .with_target(false)
        .with_ansi(false)
        .with_max_level(tracing::Level::INFO);
    if journal::listens() {
        lines.event_format(journal::Lines).init();
    } else {
        lines.init();
    }
    let settings = match load(&config) {
        Ok(settings) => settings,
        Err(report) => {
            eprint!("{report}");
            return USAGE;
        }
    };
    let runtime = match tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
    {
        Ok(runtime) => runtime,
        Err(error) => {
            eprintln!("tandem: {error}");
            return FAILED;
        }
    };
    let ended = runtime.block_on(crate::run::run(settings, config));
    log.flush();
    match ended {
        Ok(()) => DONE,
        Err(error) => {
            eprintln!("tandem: {error:#}");
            FAILED
        }
    }
}
