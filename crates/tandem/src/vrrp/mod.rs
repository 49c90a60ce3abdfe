//! `tandem vrrp`: in place of keepalived, on keepalived's own file.
//!
//! The file means what keepalived makes of it (`tandem_config::keepalived`), who is MASTER is decided by
//! `tandem_vrrp`, and this module carries it out: adverts, addresses, announcements, scripts, in keepalived's order. Every wish
//! to be MASTER is granted at once, because here nothing but the address moves; a Redis behind it is the business of
//! the user's scripts.
//!
//! Different from keepalived on purpose: a script that cannot run keeps the daemon from starting, scripts of one
//! instance run one after another and end when a newer state supersedes them, an address that somebody removes is put back
//! without a change of state, addresses expire by themselves when this process dies, and a reload with errors
//! keeps the old configuration.
//!
//! | module | what it does |
//! |---|---|
//! | [`load`] | reads and judges the file; `-t` |
//! | [`plan`] | the file as the settings of routers, groups and tracked things; no system calls |
//! | [`daemon`] | the loop; everything that happens enters here |
//! | [`carry`] | carries out what the machines want, in order |
//! | [`adverts`], [`addresses`], [`notices`] | the parts of that: what goes over the wire, onto interfaces, to scripts and FIFOs |
//! | [`track`] | what is tracked and what it does to routers |
//! | [`reload`] | the difference between two files, applied while running |
//! | [`host`] | links and addresses as the kernel reports them |
//! | [`wires`] | VRRP sockets and their readers |
//! | [`announce`] | rounds of gratuitous ARP and NA |
//! | [`scripts`] | processes: notify lanes, check scripts, users |
//! | [`watch`] | tracked files and processes |
//! | [`fifo`], [`outlets`] | state lines for readers of a FIFO, and the scripts that read them |
//! | [`status`] | what is going on, as JSON |

mod addresses;
mod adverts;
mod announce;
mod carry;
mod daemon;
mod fifo;
mod host;
mod load;
mod notices;
mod outlets;
mod plan;
mod reload;
mod scripts;
mod status;
mod track;
mod watch;
mod wires;

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use tandem_config::diagnostic::Severity;
use tandem_config::keepalived::ExitClass;
use tracing::error;

/// The configuration cannot be used, or the command line.
const EXIT_CONFIG: u8 = 2;
/// Something failed while running.
const EXIT_FAILED: u8 = 1;

/// Options of `tandem vrrp`; the letters are keepalived's.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct VrrpArgs {
    /// The configuration file.
    #[arg(
        short = 'f',
        long = "use-file",
        value_name = "FILE",
        default_value = "/etc/keepalived/keepalived.conf"
    )]
    pub(crate) file: PathBuf,
    /// Check the file and exit: 0 fine, 4 fatal, 5 errors, 6 unsafe scripts, as keepalived does.
    #[arg(short = 't', long = "config-test")]
    pub(crate) check: bool,
    /// Stay in the foreground. Accepted for keepalived's sake: this program always does.
    #[arg(short = 'n', long = "dont-fork")]
    pub(crate) dont_fork: bool,
    /// Log to standard error. Accepted for keepalived's sake: this program always does.
    #[arg(short = 'l', long = "log-console")]
    pub(crate) log_console: bool,
    /// Log details too.
    #[arg(short = 'D', long = "log-detail")]
    pub(crate) log_detail: bool,
    /// Run VRRP only. Accepted for keepalived's sake: there is nothing else.
    #[arg(short = 'P', long = "vrrp")]
    pub(crate) vrrp_only: bool,
    /// What `@id` lines are compared with; the host's name up to its first dot if not given.
    #[arg(short = 'i', long = "config-id", value_name = "ID")]
    pub(crate) config_id: Option<String>,
    /// Write the process id here.
    #[arg(short = 'p', long = "pid", value_name = "FILE")]
    pub(crate) pid_file: Option<PathBuf>,
    /// Write the process id here too (keepalived's VRRP child).
    #[arg(short = 'r', long = "vrrp_pid", value_name = "FILE")]
    pub(crate) vrrp_pid_file: Option<PathBuf>,
    /// Keep the state as JSON in this file: rewritten whenever something changes, and on SIGUSR1.
    #[arg(long, value_name = "FILE")]
    pub(crate) state_file: Option<PathBuf>,
    /// Seconds that an address outlives this process if it is killed; 0 for ever, as with keepalived.
    #[arg(long, value_name = "SECONDS", default_value_t = 3)]
    pub(crate) vip_lifetime: u32,
    /// Seconds that a notify script may run.
    #[arg(long, value_name = "SECONDS", default_value_t = 60, value_parser = clap::value_parser!(u32).range(1..=3600))]
    pub(crate) script_timeout: u32,
}

impl VrrpArgs {
    fn script_timeout(&self) -> Duration {
        Duration::from_secs(self.script_timeout.into())
    }
}

/// Runs the command to its end.
pub(crate) fn main(args: VrrpArgs) -> ExitCode {
    let loaded = load::load(&args);
    let report = loaded.report.render(false);
    let plan = plan::Plan::new(&loaded.config);
    if args.check {
        eprint!("{report}");
        let mut class = loaded.exit;
        // What the file's errors explain already needs no second word.
        if let (Err(problem), false) = (&plan, loaded.report.has_errors()) {
            eprintln!("error: {problem}");
            class = class.max(ExitClass::ConfigErrors);
        }
        return ExitCode::from(class.code());
    }
    status::start_log(args.log_detail);
    eprint!("{report}");
    if loaded.report.has_errors() {
        error!(
            "{} is refused: {} errors; nothing was started",
            args.file.display(),
            loaded.report.count(Severity::Error)
        );
        return ExitCode::from(EXIT_CONFIG);
    }
    let plan = match plan {
        Ok(plan) => plan,
        Err(problem) => {
            error!("{problem}; nothing was started");
            return ExitCode::from(EXIT_CONFIG);
        }
    };
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build();
    let outcome = runtime
        .map_err(daemon::Error::from)
        .and_then(|runtime| runtime.block_on(daemon::run(args, plan)));
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(problem @ daemon::Error::MissingInterface { .. }) => {
            error!("{problem}");
            ExitCode::from(EXIT_CONFIG)
        }
        Err(problem @ (daemon::Error::Start { .. } | daemon::Error::Io(_))) => {
            error!("{problem}");
            ExitCode::from(EXIT_FAILED)
        }
    }
}
