//! `tandem proxy`: in place of nutcracker, on nutcracker's own file, also when it is called by that name.
//!
//! The file means what twemproxy makes of it (`tandem_config::nutcracker`), requests are carried by `tandem_proxy` on
//! threads of its own, and this module is what is around them: arguments, log, pid file, signals, the ports of the
//! statistics.
//!
//! Different from nutcracker on purpose: a file is checked before the terminal is left, so that a wrong one is an exit code;
//! the pid file appears when all ports are bound and goes away at the end; TERM lets requests finish; SIGUSR1 applies
//! a changed file; statistics are never older than the question.
//!
//! | module | what it does |
//! |---|---|
//! | [`options`] | the command line |
//! | [`load`] | reads and judges the file; `-t` |
//! | [`change`] | whose keys another file would move |
//! | [`shell`] | signals and ports while requests are carried |
//! | [`catalogue`] | every number that is told; `-D` |
//! | [`ask`], [`control`], [`status`] | questions to one that runs: how it is, and to read its file again |
//! | [`stats`], [`serve`] | the numbers as text, and the ports that tell them |
//! | [`log`] | lines in twemproxy's form |

mod ask;
mod catalogue;
mod change;
pub(crate) mod control;
mod load;
mod log;
mod options;
mod serve;
mod shell;
mod stats;
pub(crate) mod status;

use std::ffi::OsStr;
use std::io;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use rustix::fs::Mode;
use rustix::process::{Resource, getrlimit};
use tandem_proxy::server::{Options, Running};
use tandem_proxy::settings::Pool;
use tokio::task::LocalSet;

pub(crate) use options::{ProxyArgs, ProxyCommand};

use crate::daemonize;
use crate::service;
use options::{Job, RunOptions};

/// Done.
const DONE: u8 = 0;
/// Everything that nutcracker ends with 1 for: arguments, a file that is invalid, a port that is taken, SIGINT.
pub(crate) const FAILED: u8 = 1;
/// `--diff`: keys would be looked for elsewhere, and nobody has accepted that.
const MOVES: u8 = 3;
/// The file is valid and has a pool that speaks memcached's protocol.
const MEMCACHED: u8 = 4;

/// Descriptors that twemproxy keeps for itself when it counts how many clients it may have.
const RESERVED_FILES: u64 = 32;

/// Runs a process that was called `nutcracker`; nothing for any other name.
pub(crate) fn called() -> Option<ExitCode> {
    let args = ProxyArgs::of_alias(std::env::args_os())?;
    Some(match args {
        Ok(args) => main(args),
        Err(error) => {
            eprint!(
                "nutcracker: {}{}",
                first_line(&error.to_string()),
                options::usage()
            );
            ExitCode::from(FAILED)
        }
    })
}

/// Is this process called `tandem proxy`? Then wrong arguments end it as they end nutcracker.
pub(crate) fn is_called_by(mut words: impl Iterator<Item = impl AsRef<OsStr>>) -> bool {
    words.nth(1).is_some_and(|word| word.as_ref() == "proxy")
}

/// Without the word that clap puts before it.
fn first_line(text: &str) -> String {
    let line = text.lines().next().unwrap_or_default();
    format!("{}\n", line.strip_prefix("error: ").unwrap_or(line))
}

/// Runs `tandem proxy`, or asks one that runs.
pub(crate) fn command(command: ProxyCommand) -> ExitCode {
    match command.verb {
        Some(verb) => ExitCode::from(ask::run(verb)),
        None => main(command.args),
    }
}

/// Runs the command to its end.
fn main(args: ProxyArgs) -> ExitCode {
    ExitCode::from(match args.job() {
        Ok(Job::Say { usage, statistics }) => {
            say(usage, statistics);
            DONE
        }
        Ok(Job::Test {
            conf,
            diff,
            accept_move,
        }) => load::test(&conf, diff.as_deref(), accept_move),
        Ok(Job::Run(options)) => run(&options),
        Err(refused) => {
            eprint!("{refused}\n{}", options::usage());
            FAILED
        }
    })
}

/// To standard error, as nutcracker.
fn say(usage: bool, statistics: bool) {
    let version = env!("CARGO_PKG_VERSION");
    eprintln!(
        "This is nutcracker-{} (tandem {version})\nasync event backend: epoll\n",
        stats::VERSION
    );
    if usage {
        eprintln!("{}", options::usage());
    }
    if statistics {
        eprint!("{}", catalogue::described());
    }
}

fn run(options: &RunOptions) -> u8 {
    if options.pid_file.is_some() {
        // While there is a terminal, a wrong file shows there.
        if !daemonize::is_detached()
            && let Err(refused) = load::load(&options.conf)
        {
            eprint!("{}", refused.rendered());
            return refused.code();
        }
        match daemonize::leave_terminal() {
            Ok(true) => return DONE,
            // As nutcracker: sockets and files get the modes that are asked for.
            Ok(false) => drop(rustix::process::umask(Mode::empty())),
            Err(error) => {
                eprintln!("nutcracker: going on without the terminal: {error}");
                return FAILED;
            }
        }
    }
    let log = match log::Log::start(Some(options.log.clone()), options.verbosity) {
        Ok(log) => log,
        Err(error) => {
            eprintln!(
                "nutcracker: opening log file '{}' failed: {error}",
                options.log.display()
            );
            return FAILED;
        }
    };
    log.notice(&format!(
        "nutcracker-{} (tandem {}) started on pid {}",
        stats::VERSION,
        env!("CARGO_PKG_VERSION"),
        std::process::id()
    ));
    let code = match load::load(&options.conf) {
        Ok((pools, warnings)) => {
            for warning in warnings {
                log.warning(&warning);
            }
            serve(options, pools, &log).unwrap_or_else(|problem| {
                log.error(&problem);
                eprintln!("nutcracker: {problem}");
                FAILED
            })
        }
        Err(refused) => {
            for line in refused.lines() {
                log.error(&line);
            }
            eprint!("{}", refused.rendered());
            refused.code()
        }
    };
    log.notice("ended");
    log.flush();
    code
}

/// Binds everything and serves until a signal ends it. The error is a sentence for the log.
fn serve(options: &RunOptions, pools: Vec<Pool>, log: &log::Log) -> Result<u8, String> {
    let client_limit = clients_allowed(&pools, log)?;
    if options.mbuf_given {
        log.notice(
            "option -m is accepted and not needed: there are no chunks that a key has to fit into",
        );
    }
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| format!("the event loop: {error}"))?;
    let local = LocalSet::new();
    local.block_on(&runtime, async {
        let (host, port) = &options.stats;
        let stats = serve::Port::bind(host, *port)
            .map_err(|error| format!("statistics on {host}:{port}: {error}"))?;
        let metrics = options.metrics.as_deref().map(bind_metrics).transpose()?;
        let signals = shell::Signals::new().map_err(|error| format!("signals: {error}"))?;
        let (notices, threads) = shell::notices();
        let engine = Options {
            threads: options.threads,
            client_limit: Some(client_limit),
            notices: Some(notices),
            ..Options::default()
        };
        let running = Running::start(pools.clone(), engine).map_err(|error| error.to_string())?;
        // Only now: all ports are ours, so the pid file of another process is not overwritten.
        let pid_file = options
            .pid_file
            .as_deref()
            .map(PidFile::write)
            .transpose()?;
        if let Err(error) = service::ready() {
            log.warning(&format!("telling the service manager: {error}"));
        }
        let asked = control::listen(*port);
        if let Err(error) = &asked {
            log.warning(&format!("tandem proxy status will find nobody: {error}"));
        }
        let shell = shell::Shell::new(
            options.clone(),
            log.clone(),
            pools,
            stats,
            metrics,
            asked.ok(),
        );
        let code = shell.live(running, signals, threads).await;
        drop(pid_file);
        Ok(code)
    })
}

fn bind_metrics(text: &str) -> Result<serve::Port, String> {
    serve::host_and_port(text)
        .and_then(|(host, port)| serve::Port::bind(host, port))
        .map_err(|error| format!("metrics on {text}: {error}"))
}

/// twemproxy's arithmetic: what the files allowed leave after connections to servers, listening sockets and a reserve.
fn clients_allowed(pools: &[Pool], log: &log::Log) -> Result<usize, String> {
    let files = getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX);
    let servers = connections_to_servers(pools);
    let clients = files.saturating_sub(servers).saturating_sub(RESERVED_FILES);
    log.notice(&format!(
        "max fds {files} max client conns {clients} max server conns {servers}"
    ));
    if clients == 0 {
        return Err(format!(
            "{files} open files are too few for {servers} connections to servers and {RESERVED_FILES} in reserve: raise `ulimit -n` or LimitNOFILE="
        ));
    }
    Ok(usize::try_from(clients).unwrap_or(usize::MAX))
}

/// With one for each listening socket, as twemproxy counts.
fn connections_to_servers(pools: &[Pool]) -> u64 {
    pools
        .iter()
        .map(|pool| u64::from(pool.server_connections) * pool.servers.len() as u64 + 1)
        .sum()
}

/// The pid file, which goes away with its holder. nutcracker leaves it behind when a signal ends it.
struct PidFile(PathBuf);

impl PidFile {
    fn write(path: &Path) -> Result<Self, String> {
        std::fs::write(path, std::process::id().to_string())
            .map_err(|error: io::Error| format!("pid file {}: {error}", path.display()))?;
        Ok(Self(path.to_owned()))
    }
}

impl Drop for PidFile {
    fn drop(&mut self) {
        // Left behind it would only be stale.
        let _ = std::fs::remove_file(&self.0);
    }
}
