//! `tandem sentinel`: in place of redis-sentinel, with the same file, port, commands and messages.
//!
//! ```text
//!  clients, peers -> serve -> Question --+                 +--> Send, Connect -> links -> servers, peers
//!                                        v                 |
//!                     links -> Input -> the machine -> Output -> file, scripts, names, log, subscribers
//! ```
//!
//! The machine (`tandem_core::sentinel`) decides; [`shell`] carries out. Everything runs on one thread but the writer
//! of the file, the writer of the log and the system's resolver.

mod boot;
mod daemon;
mod file;
pub(crate) mod links;
mod log;
mod names;
mod scripts;
pub(crate) mod serve;
mod shell;

use std::ffi::OsString;
use std::fmt;
use std::io;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use tandem_config::sentinel as conf;
use tandem_core::sentinel::commands::LogLevel;
use tandem_core::sentinel::io::Level;
use tandem_core::sentinel::settings::Periods;
use tandem_core::sentinel::{Sentinel, SentinelId};

use tokio_rustls::TlsConnector;

use crate::cli::SentinelVerb;
use crate::daemonize;
use crate::durable;
use crate::files::HostFiles;
use crate::linux::sys;
use crate::service;
use crate::tls;

/// The version whose ways are kept.
const REDIS_VERSION: &str = "7.0.15";
/// TLS sessions kept at most.
const SESSIONS_MAX: usize = 20 * 1024;
/// And where the file says `# tandem: compat 7.2`.
const REDIS_VERSION_7_2: &str = "7.2.4";
/// What real sentinels answer with after `SENTINEL SIMULATE-FAILURE`, and what everything else that ends us early gives.
const FAILED: u8 = 1;

/// Arguments as redis-sentinel takes them.
#[derive(Debug, clap::Args)]
#[command(
    disable_help_flag = true,
    disable_version_flag = true,
    disable_help_subcommand = true,
    args_conflicts_with_subcommands = true
)]
pub(crate) struct SentinelArgs {
    /// The configuration file, then options as redis-server takes them: `--port 26380`.
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    words: Vec<OsString>,
    /// Instead of running one: questions to those that run.
    #[command(subcommand)]
    verb: Option<SentinelVerb>,
}

impl SentinelArgs {
    /// The arguments of a process that was called `redis-sentinel`; nothing for any other name.
    pub(crate) fn of_alias(mut words: impl Iterator<Item = OsString>) -> Option<Self> {
        let called = words.next()?;
        (Path::new(&called).file_name()? == "redis-sentinel").then(|| Self {
            words: words.collect(),
            verb: None,
        })
    }

    /// A question to sentinels that run. A process that was called `redis-sentinel` has no such words.
    pub(crate) fn verb(&self) -> Option<&SentinelVerb> {
        self.verb.as_ref()
    }
}

/// Why the process did not start.
enum Refused {
    /// The file, or the way in which we were called.
    Usage(String),
    /// Something of the host: a port that is taken, a file that cannot be written.
    Host(String),
}

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Usage(text) | Self::Host(text) => f.write_str(text),
        }
    }
}

/// What redis-sentinel says without a file.
const NO_FILE: &str = "Sentinel needs config file on disk to save state.  Exiting...";
const USAGE: &str = "usage: tandem sentinel /path/to/sentinel.conf [--option value ...]\n\
     tandem sentinel status|explain HOST[:PORT] [GROUP]: questions to sentinels that run; see --help of these.\n\
     In place of redis-sentinel, whose arguments these are. The state is kept in the configuration file, so there has to be one.";

/// Runs a sentinel until it is told to end.
pub(crate) fn run(args: &SentinelArgs) -> ExitCode {
    if matches!(args.words.as_slice(), [word] if word == "--help" || word == "-h") {
        println!("{USAGE}");
        return ExitCode::SUCCESS;
    }
    match start(args) {
        Ok(code) => code,
        Err(refused) => {
            eprintln!("{refused}");
            ExitCode::from(FAILED)
        }
    }
}

fn start(args: &SentinelArgs) -> Result<ExitCode, Refused> {
    let (path, overrides) = arguments(args)?;
    let loaded = conf::read(&path, &HostFiles, &overrides);
    if let Some(fatal) = &loaded.fatal {
        // What tools look for comes first; then all that is wrong, with what would be right.
        return Err(Refused::Usage(format!(
            "{}\n{}",
            fatal.redis_text(REDIS_VERSION),
            loaded.report.render(false)
        )));
    }
    let warnings = loaded.report.render(false);
    let conf = loaded.conf;
    // Descriptors that a parent left open must reach neither scripts nor the process that goes on without a terminal.
    sys::close_on_exec_above_stderr().map_err(host("closing inherited descriptors"))?;
    // As Redis: a service manager that waits for our word keeps the process in the foreground.
    let supervised = conf.server.supervised != conf::Supervised::No
        && std::env::var_os(service::NOTIFY_SOCKET).is_some();
    let daemonize = conf.server.daemonize && !supervised;
    if daemonize && daemonize::leave_terminal().map_err(host("daemonize"))? {
        return Ok(ExitCode::SUCCESS);
    }
    if let Some(dir) = &conf.server.dir {
        std::env::set_current_dir(dir).map_err(host(&format!("dir {dir}")))?;
    }
    let log = log::RedisLog::start(
        conf.server.logfile.clone().map(PathBuf::from),
        level_of(conf.server.loglevel),
    )
    .map_err(host("logfile"))?;
    for line in warnings.lines().filter(|line| !line.is_empty()) {
        log.line(Level::Warning, line);
    }
    let ended = serve_until_told(&path, conf, loaded.document, &log);
    match &ended {
        // Without a terminal the log is the only place where this is read.
        Err(refused) if daemonize => log.line(Level::Warning, &refused.to_string()),
        // A crash has no last words.
        Err(_) | Ok(shell::End::Simulated(_)) => {}
        Ok(shell::End::Asked) => {
            log.line(Level::Warning, "Sentinel is now ready to exit, bye bye...");
        }
    }
    log.flush();
    Ok(match ended? {
        shell::End::Asked => ExitCode::SUCCESS,
        shell::End::Simulated(code) => ExitCode::from(u8::try_from(code).unwrap_or(FAILED)),
    })
}

fn serve_until_told(
    path: &Path,
    conf: conf::SentinelConf,
    document: conf::Document,
    log: &log::RedisLog,
) -> Result<shell::End, Refused> {
    let pace = links::Pace::default();
    let keep = pace.clone();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .on_thread_park(move || keep.keep())
        .build()
        .map_err(host("the event loop"))?;
    let local = tokio::task::LocalSet::new();
    let server = conf.server.clone();
    local.block_on(&runtime, async {
        let parts = assemble(path, conf, document, log.clone(), pace)?;
        // Only now: the file and the port are ours, so the pid file of another process is not overwritten.
        let pidfile = write_pidfile(&server);
        let port = if server.port == 0 {
            server.tls.port
        } else {
            server.port
        };
        log.line(
            Level::Notice,
            &format!("Running mode=sentinel, port={port}."),
        );
        if let Err(error) = service::ready() {
            log.line(
                Level::Warning,
                &format!("telling the service manager: {error}"),
            );
        }
        let end = shell::run(parts).await.map_err(host("signals"));
        if let Some(path) = pidfile {
            // Left behind it would only be stale.
            let _ = std::fs::remove_file(path);
        }
        end
    })
}

/// `FILE [--option value ...]`; `--sentinel` alone says what we are anyway.
fn arguments(args: &SentinelArgs) -> Result<(PathBuf, conf::Overrides), Refused> {
    use std::os::unix::ffi::OsStrExt;
    let mut words = args.words.iter().filter(|word| *word != "--sentinel");
    let path = words
        .next()
        .filter(|word| !word.as_bytes().starts_with(b"-"));
    let Some(path) = path else {
        return Err(Refused::Usage(format!("{NO_FILE}\n{USAGE}")));
    };
    let path = PathBuf::from(path);
    // Absolute before `dir` moves us.
    let path = std::path::absolute(&path).map_err(host("the configuration file"))?;
    let overrides = conf::Overrides::parse(words.map(|word| word.as_bytes()));
    Ok((path, overrides))
}

fn assemble(
    path: &Path,
    mut conf: conf::SentinelConf,
    document: conf::Document,
    log: log::RedisLog,
    pace: links::Pace,
) -> Result<shell::Parts, Refused> {
    let fresh = random_id().map_err(host("random numbers"))?;
    let state = boot::state_of(&conf, &fresh);
    boot::put_state(&mut conf, &state);
    let text = document
        .render(&conf)
        .map_err(|error| Refused::Usage(error.to_string()))?;
    // Redis does the same: a sentinel whose file cannot be written must not vote.
    durable::replace(path, &text).map_err(|error| {
        Refused::Host(format!(
            "Sentinel config file {} is not writable: {error}. Exiting...",
            path.display()
        ))
    })?;
    let document = document.with_text(text);
    let run_id = random_id().map_err(host("random numbers"))?;
    let settings = serve_settings(path, &conf, run_id.as_str());
    let links = links::Options {
        source: conf
            .server
            .bind_source_addr
            .as_ref()
            .and_then(|text| text.parse::<IpAddr>().ok()),
        tls: connector(&conf.server.tls)?,
        pace,
    };
    let daemons = daemon::Daemons {
        port: conf.daemon_port,
        source: links.source,
    };
    let started = |error: serve::StartError| Refused::Host(error.to_string());
    let (server, asks) = serve::Server::new(settings).map_err(started)?;
    server.listen().map_err(started)?;
    log.line(Level::Warning, &format!("Sentinel ID is {}", state.id));
    let seed = seed().map_err(host("random numbers"))?;
    let (machine, first) = Sentinel::new(state, Periods::default(), seed, Instant::now());
    Ok(shell::Parts {
        machine,
        first,
        server,
        asks,
        links,
        daemons,
        file: file::File::start(document, conf).map_err(host("the writer of the file"))?,
        dir: std::env::current_dir().map_err(host("dir"))?,
        log,
    })
}

fn serve_settings(path: &Path, conf: &conf::SentinelConf, run_id: &str) -> serve::Settings {
    let server = &conf.server;
    let defaults = serve::Settings::default();
    let max_clients = usize::try_from(server.maxclients).unwrap_or(usize::MAX);
    serve::Settings {
        bind: if server.bind.is_empty() {
            defaults.bind
        } else {
            server.bind.clone()
        },
        port: Some(server.port).filter(|port| *port != 0),
        tls_port: Some(server.tls.port).filter(|port| *port != 0),
        tls: tls_files(&server.tls),
        unix_socket: server.unixsocket.clone().map(PathBuf::from),
        unix_socket_mode: server.unixsocketperm,
        backlog: server.tcp_backlog,
        max_clients,
        idle_after: Duration::from_secs(u64::from(server.timeout_s)),
        keepalive: Duration::from_secs(u64::from(server.tcp_keepalive_s)),
        protected: server.protected_mode,
        requirepass: server
            .requirepass
            .as_ref()
            .map(|secret| String::from_utf8_lossy(secret.as_bytes()).into_owned()),
        users: conf.users.iter().map(boot::user_line).collect(),
        acl_file: server.aclfile.clone().map(PathBuf::from),
        acl_log_max: usize::try_from(server.acllog_max_len).unwrap_or(usize::MAX),
        identity: serve::Identity {
            redis_version: redis_version(conf.compat).to_owned(),
            compat: boot::compat_of(conf.compat),
            run_id: run_id.to_owned(),
            executable: std::env::current_exe()
                .map(|path| path.display().to_string())
                .unwrap_or_default(),
            config_file: path.display().to_string(),
            port: if server.port == 0 {
                server.tls.port
            } else {
                server.port
            },
            max_clients,
        },
        ..defaults
    }
}

/// The version that clients are told.
fn redis_version(compat: conf::Compat) -> &'static str {
    match compat {
        conf::Compat::V7_0 => REDIS_VERSION,
        conf::Compat::V7_2 => REDIS_VERSION_7_2,
    }
}

/// The certificates of the listening side, where there are some.
fn tls_files(files: &conf::TlsConf) -> Option<tls::ServerFiles> {
    Some(tls::ServerFiles {
        pair: own_pair(files)?,
        authorities: authorities(files),
        auth_clients: match files.auth_clients {
            conf::TlsAuthClients::Yes => tls::AuthClients::Yes,
            conf::TlsAuthClients::No => tls::AuthClients::No,
            conf::TlsAuthClients::Optional => tls::AuthClients::Optional,
        },
        offer: offer(files),
    })
}

/// The connecting side, where `tls-replication` asks for it. The client's pair is preferred, as in Redis.
fn connector(files: &conf::TlsConf) -> Result<Option<TlsConnector>, Refused> {
    if !files.replication {
        return Ok(None);
    }
    let files = tls::ClientFiles {
        pair: client_pair(files).or_else(|| own_pair(files)),
        authorities: authorities(files),
        offer: offer(files),
    };
    tls::connector(&files)
        .map(Some)
        .map_err(|error| Refused::Host(format!("TLS: {error}")))
}

/// Reading the file has refused what cannot be honoured, so nothing is refused here any more.
fn offer(files: &conf::TlsConf) -> tls::Offer {
    let all = tls::Offer::default();
    tls::Offer {
        choice: files.choice().unwrap_or(all.choice),
        prefers_own_order: files.prefer_server_ciphers,
        // OpenSSL takes 0 for no bound; here the cache is never larger than Redis' default.
        sessions: files
            .session_caching
            .then(|| match files.session_cache_size {
                0 => SESSIONS_MAX,
                size => SESSIONS_MAX.min(size as usize),
            }),
    }
}

fn own_pair(files: &conf::TlsConf) -> Option<tls::Pair> {
    Some(tls::Pair {
        certificate: PathBuf::from(files.cert_file.as_deref()?),
        key: PathBuf::from(files.key_file.as_deref()?),
        passphrase: files.key_file_pass.clone(),
    })
}

fn client_pair(files: &conf::TlsConf) -> Option<tls::Pair> {
    Some(tls::Pair {
        certificate: PathBuf::from(files.client_cert_file.as_deref()?),
        key: PathBuf::from(files.client_key_file.as_deref()?),
        passphrase: files.client_key_file_pass.clone(),
    })
}

fn authorities(files: &conf::TlsConf) -> tls::Authorities {
    tls::Authorities {
        file: files.ca_cert_file.clone().map(PathBuf::from),
        folder: files.ca_cert_dir.clone().map(PathBuf::from),
    }
}

fn level_of(level: conf::LogLevel) -> LogLevel {
    match level {
        conf::LogLevel::Debug => LogLevel::Debug,
        conf::LogLevel::Verbose => LogLevel::Verbose,
        conf::LogLevel::Notice => LogLevel::Notice,
        conf::LogLevel::Warning => LogLevel::Warning,
        conf::LogLevel::Nothing => LogLevel::Nothing,
    }
}

fn write_pidfile(server: &conf::ServerConf) -> Option<PathBuf> {
    let path = match (&server.pidfile, server.daemonize) {
        (Some(path), _) => PathBuf::from(path),
        (None, true) => PathBuf::from("/var/run/redis-sentinel.pid"),
        (None, false) => return None,
    };
    // As Redis: a pid file that cannot be written is no reason not to run.
    std::fs::write(&path, format!("{}\n", std::process::id()))
        .is_ok()
        .then_some(path)
}

fn random_id() -> io::Result<SentinelId> {
    let mut bytes = [0; 20];
    fill_random(&mut bytes)?;
    let digits: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    Ok(SentinelId::parse(&digits).expect("twenty bytes are forty digits"))
}

fn seed() -> io::Result<u64> {
    let mut bytes = [0; 8];
    fill_random(&mut bytes)?;
    Ok(u64::from_ne_bytes(bytes))
}

fn fill_random(bytes: &mut [u8]) -> io::Result<()> {
    // Up to 256 bytes come whole.
    rustix::rand::getrandom(bytes, rustix::rand::GetRandomFlags::empty())?;
    Ok(())
}

fn host(what: &str) -> impl Fn(io::Error) -> Refused {
    move |error| Refused::Host(format!("{what}: {error}"))
}
