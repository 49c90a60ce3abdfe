//! The command line of nutcracker, with the options of this program beside it.
//!
//! Values are checked here and not by the argument parser, by nutcracker's rules and in its words: scripts may look
//! at them, and at the exit code 1.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use clap::{CommandFactory as _, Parser as _};
use tandem_config::nutcracker::number;

/// nutcracker's bounds of `-m`.
const MBUF_MIN: u32 = 512;
const MBUF_MAX: u32 = 16_777_216;
/// And its default.
const MBUF_DEFAULT: u32 = 16_384;
/// More threads than this are a mistake.
const THREADS_MAX: u32 = 256;

/// Options of `tandem proxy`; letters and long forms are nutcracker's as far as it has them.
#[derive(Debug, Clone, clap::Args)]
#[command(
    disable_help_flag = true,
    disable_version_flag = true,
    args_override_self = true,
    infer_long_args = true
)]
pub(crate) struct ProxyArgs {
    /// Say how to call this, and end.
    #[arg(short, long)]
    help: bool,
    /// Say the version, and end.
    #[arg(short = 'V', long)]
    version: bool,
    /// Check the file and end: 0 valid, 1 invalid, as nutcracker says it.
    #[arg(short, long)]
    test_conf: bool,
    /// Go on without the terminal.
    #[arg(short, long)]
    daemonize: bool,
    /// Describe the statistics, and end.
    #[arg(short = 'D', long)]
    describe_stats: bool,
    /// How much is logged, from 0 to 11.
    #[arg(
        short,
        long,
        value_name = "N",
        default_value = "5",
        allow_hyphen_values = true
    )]
    verbose: OsString,
    /// Where the log goes.
    #[arg(
        short,
        long,
        value_name = "FILE",
        default_value = "/var/log/nutcracker/nutcracker.log",
        allow_hyphen_values = true
    )]
    output: PathBuf,
    /// The configuration file.
    #[arg(
        short,
        long,
        value_name = "FILE",
        default_value = "/etc/nutcracker/nutcracker.yml",
        allow_hyphen_values = true
    )]
    conf_file: PathBuf,
    /// Port of the statistics.
    #[arg(
        short,
        long,
        value_name = "PORT",
        default_value = "22222",
        allow_hyphen_values = true
    )]
    stats_port: OsString,
    /// Address of the statistics.
    #[arg(
        short = 'a',
        long,
        value_name = "ADDR",
        default_value = "0.0.0.0",
        allow_hyphen_values = true
    )]
    stats_addr: String,
    /// Accepted for nutcracker's sake, in milliseconds: statistics are never older than the question.
    #[arg(
        short = 'i',
        long,
        value_name = "MSEC",
        default_value = "30000",
        allow_hyphen_values = true
    )]
    stats_interval: OsString,
    /// Where the process id is written, with --daemonize only.
    #[arg(
        short,
        long,
        value_name = "FILE",
        default_value = "/run/nutcracker/nutcracker.pid",
        allow_hyphen_values = true
    )]
    pid_file: PathBuf,
    /// Accepted for nutcracker's sake: there are no chunks that a key has to fit into.
    #[arg(
        short,
        long,
        value_name = "BYTES",
        default_value = "16384",
        allow_hyphen_values = true
    )]
    mbuf_size: OsString,
    /// How many threads carry requests.
    #[arg(long, value_name = "N", default_value = "1")]
    threads: OsString,
    /// With --test-conf: which share of the keys lives elsewhere than by this older file; 3 if any does.
    #[arg(long, value_name = "OLD", requires = "test_conf")]
    diff: Option<PathBuf>,
    /// Let SIGUSR1 apply a file that moves keys to other servers.
    #[arg(long)]
    accept_move: bool,
    /// Serve the statistics for Prometheus over HTTP on this address and port.
    #[arg(long, value_name = "ADDR:PORT")]
    metrics: Option<String>,
    /// nutcracker passes over words that are no options.
    #[arg(hide = true)]
    words: Vec<OsString>,
}

/// `tandem proxy`, where twemproxy has no words of its own.
#[derive(Debug, clap::Args)]
#[command(args_conflicts_with_subcommands = true, disable_help_subcommand = true)]
pub(crate) struct ProxyCommand {
    #[command(flatten)]
    pub(super) args: ProxyArgs,
    #[command(subcommand)]
    pub(super) verb: Option<super::ask::ProxyVerb>,
}

/// What is to be done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Job {
    /// Any of `-h`, `-V`, `-D`: say this on standard error.
    Say {
        usage: bool,
        statistics: bool,
    },
    /// `-t`.
    Test {
        conf: PathBuf,
        diff: Option<PathBuf>,
        accept_move: bool,
    },
    Run(RunOptions),
}

/// How to run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct RunOptions {
    pub(super) conf: PathBuf,
    pub(super) log: PathBuf,
    pub(super) verbosity: u32,
    pub(super) stats: (String, u16),
    pub(super) metrics: Option<String>,
    /// Present exactly with `-d`.
    pub(super) pid_file: Option<PathBuf>,
    pub(super) threads: usize,
    pub(super) accept_move: bool,
    /// `-m` was given, and something else than the default.
    pub(super) mbuf_given: bool,
}

/// A call that nutcracker refuses, in its words.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("nutcracker: {0}")]
pub(super) struct Refused(String);

/// Arguments for the name `nutcracker`.
#[derive(Debug, clap::Parser)]
#[command(name = "nutcracker")]
struct Alias {
    #[command(flatten)]
    args: ProxyArgs,
}

impl ProxyArgs {
    /// The arguments of a process that was called `nutcracker`; nothing for any other name.
    pub(crate) fn of_alias(
        words: impl IntoIterator<Item = OsString>,
    ) -> Option<Result<Self, clap::Error>> {
        let words: Vec<OsString> = words.into_iter().collect();
        let called = Path::new(words.first()?).file_name()?;
        (called == "nutcracker").then(|| Alias::try_parse_from(words).map(|alias| alias.args))
    }

    /// What these arguments ask for.
    ///
    /// # Errors
    /// What nutcracker refuses; it ends with 1 then.
    pub(super) fn job(self) -> Result<Job, Refused> {
        let wanted = |text: &OsString, letter: char| {
            numeric(text).ok_or_else(|| Refused(format!("option -{letter} requires a number")))
        };
        let verbosity = wanted(&self.verbose, 'v')?;
        let port = wanted(&self.stats_port, 's')?;
        let stats_port = u16::try_from(port)
            .ok()
            .filter(|port| *port > 0)
            .ok_or_else(|| Refused(format!("option -s value {port} is not a valid port")))?;
        wanted(&self.stats_interval, 'i')?;
        let mbuf = numeric(&self.mbuf_size)
            .filter(|size| *size > 0)
            .ok_or_else(|| Refused("option -m requires a non-zero number".to_owned()))?;
        if !(MBUF_MIN..=MBUF_MAX).contains(&mbuf) {
            return Err(Refused(format!(
                "mbuf chunk size must be between {MBUF_MIN} and {MBUF_MAX} bytes"
            )));
        }
        let threads = numeric(&self.threads)
            .filter(|threads| (1..=THREADS_MAX).contains(threads))
            .and_then(|threads| usize::try_from(threads).ok())
            .ok_or_else(|| {
                Refused(format!(
                    "option --threads requires a number from 1 to {THREADS_MAX}"
                ))
            })?;
        if self.help || self.version || self.describe_stats {
            return Ok(Job::Say {
                usage: self.help,
                statistics: self.describe_stats,
            });
        }
        if self.test_conf {
            return Ok(Job::Test {
                conf: self.conf_file,
                diff: self.diff,
                accept_move: self.accept_move,
            });
        }
        Ok(Job::Run(RunOptions {
            conf: self.conf_file,
            log: self.output,
            verbosity,
            stats: (self.stats_addr, stats_port),
            metrics: self.metrics,
            pid_file: self.daemonize.then_some(self.pid_file),
            threads,
            accept_move: self.accept_move,
            mbuf_given: mbuf != MBUF_DEFAULT,
        }))
    }
}

/// As nutcracker counts, overflow included.
fn numeric(text: &OsString) -> Option<u32> {
    number(text.to_str()?).map(|(value, _)| value)
}

/// What there is to type, from the same table that reads it, in nutcracker's layout.
pub(super) fn usage() -> String {
    let mut text = String::from("Usage: nutcracker [OPTION]...\n\nOptions:\n");
    let command = Alias::command();
    for option in command
        .get_arguments()
        .filter(|option| !option.is_hide_set())
    {
        let short = option
            .get_short()
            .map_or_else(|| "    ".to_owned(), |short| format!("-{short}, "));
        let long = option.get_long().unwrap_or_default();
        let takes = option.get_action().takes_values();
        let value = option
            .get_value_names()
            .and_then(|names| names.first())
            .filter(|_| takes);
        let value = value.map_or_else(String::new, |name| format!("={name}"));
        let default = option.get_default_values().first().filter(|_| takes);
        let default = default.map_or_else(String::new, |default| {
            format!(" (default: {})", default.to_string_lossy())
        });
        let names = format!("{short}--{long}{value}");
        let meaning = option
            .get_help()
            .map(ToString::to_string)
            .unwrap_or_default();
        text.push_str(&format!("  {names:<27}: {meaning}{default}\n"));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn job(words: &[&str]) -> Result<Job, Refused> {
        let words = ["/usr/sbin/nutcracker"]
            .iter()
            .chain(words)
            .map(OsString::from);
        ProxyArgs::of_alias(words).unwrap().unwrap().job()
    }

    #[test]
    fn without_options_it_runs_as_debian_has_it() {
        let Ok(Job::Run(options)) = job(&[]) else {
            panic!("runs")
        };
        assert_eq!(
            options,
            RunOptions {
                conf: PathBuf::from("/etc/nutcracker/nutcracker.yml"),
                log: PathBuf::from("/var/log/nutcracker/nutcracker.log"),
                verbosity: 5,
                stats: ("0.0.0.0".to_owned(), 22222),
                metrics: None,
                pid_file: None,
                threads: 1,
                accept_move: false,
                mbuf_given: false,
            }
        );
        let Ok(Job::Run(options)) = job(&["-d", "-m", "512", "-v", "99", "-v", "7"]) else {
            panic!("runs")
        };
        assert_eq!(
            options.pid_file,
            Some(PathBuf::from("/run/nutcracker/nutcracker.pid"))
        );
        assert!(options.mbuf_given);
        assert_eq!(options.verbosity, 7, "the last one counts");
    }

    #[test]
    fn numbers_are_refused_in_nutcrackers_words() {
        for (words, said) in [
            (["-v", "x"], "nutcracker: option -v requires a number"),
            (["-s", "-1"], "nutcracker: option -s requires a number"),
            (
                ["-s", "70000"],
                "nutcracker: option -s value 70000 is not a valid port",
            ),
            (["-i", ""], "nutcracker: option -i requires a number"),
            (
                ["-m", "0"],
                "nutcracker: option -m requires a non-zero number",
            ),
            (
                ["-m", "511"],
                "nutcracker: mbuf chunk size must be between 512 and 16777216 bytes",
            ),
            (
                ["--threads", "0"],
                "nutcracker: option --threads requires a number from 1 to 256",
            ),
        ] {
            assert_eq!(job(&words).unwrap_err().to_string(), said);
        }
    }

    #[test]
    fn what_is_said_comes_before_what_is_tested_and_run() {
        let say = |usage, statistics| Ok(Job::Say { usage, statistics });
        assert_eq!(job(&["-t", "-V"]), say(false, false));
        assert_eq!(job(&["-Dh"]), say(true, true));
        let conf = PathBuf::from("x");
        assert_eq!(
            job(&["-tcx"]),
            Ok(Job::Test {
                conf,
                diff: None,
                accept_move: false
            })
        );
    }

    #[test]
    fn another_name_is_another_program() {
        assert!(ProxyArgs::of_alias([OsString::from("/usr/bin/tandem")]).is_none());
        assert!(ProxyArgs::of_alias([]).is_none());
    }

    #[test]
    fn the_usage_names_every_option_with_its_default() {
        let usage = usage();
        for line in [
            "  -s, --stats-port=PORT      : Port of the statistics (default: 22222)",
            "  -t, --test-conf            : Check the file and end: 0 valid, 1 invalid, as nutcracker says it",
            "      --metrics=ADDR:PORT    : Serve the statistics for Prometheus over HTTP on this address and port",
        ] {
            assert!(usage.contains(line), "{usage}");
        }
    }
}
