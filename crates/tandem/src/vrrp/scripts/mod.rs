//! The processes that this daemon starts: their environment, their users, and how they are ended.
//!
//! Environment as in keepalived: own process group, no standard input and output, `LD_PRELOAD`, `LD_LIBRARY_PATH` and `IFS`
//! removed, the configured user and group. Unlike there a script may not outlive its time: SIGTERM goes to its whole
//! process group, SIGKILL two seconds later. A daemon that is killed itself leaves a running script to its end.

pub(super) mod check;
pub(super) mod notify;
pub(super) mod reader;
pub(super) mod user;

use std::io;
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process_group};
use tandem_config::keepalived::Script;
use tokio::process::{Child, Command};

use self::user::Account;

/// What a process group has between SIGTERM and SIGKILL; keepalived's time for check scripts.
const KILL_AFTER: Duration = Duration::from_secs(2);
/// Where a program without a slash is looked for.
const PATH: &[&str] = &[
    "/usr/local/bin",
    "/usr/bin",
    "/bin",
    "/usr/local/sbin",
    "/usr/sbin",
    "/sbin",
];

/// A command ready to run: found, and with its user known.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Job {
    /// Program and arguments.
    pub(super) argv: Vec<String>,
    /// The user to become; none: stay who we are.
    pub(super) account: Option<Account>,
}

impl Job {
    /// The configured script with `extra` arguments, as its user or the default one.
    ///
    /// # Errors
    /// A user or group that does not exist.
    pub(super) fn new(
        script: &Script,
        extra: &[&str],
        default: Option<&Account>,
    ) -> Result<Self, user::UnknownUser> {
        let account = match &script.user {
            Some(user) => Some(user::find(user, script.group.as_deref())?),
            None => default.cloned(),
        };
        let mut argv = script.argv.clone();
        argv.extend(extra.iter().map(|word| (*word).to_owned()));
        Ok(Self { argv, account })
    }

    /// What to call it in the log: the program, without arguments that may hold passwords.
    pub(super) fn name(&self) -> &str {
        self.argv.first().map_or("", String::as_str)
    }

    fn start(&self) -> io::Result<Running> {
        let (program, arguments) = self.argv.split_first().ok_or(io::ErrorKind::InvalidInput)?;
        let mut command = Command::new(resolve(program));
        command
            .args(arguments)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .env_remove("LD_PRELOAD")
            .env_remove("LD_LIBRARY_PATH")
            .env_remove("IFS")
            .env_remove(crate::service::NOTIFY_SOCKET)
            .process_group(0)
            .kill_on_drop(true);
        if let Some(account) = self.account.as_ref().filter(|account| !account.is_us()) {
            command.uid(account.uid).gid(account.gid);
        }
        let child = command.spawn()?;
        let group = child
            .id()
            .and_then(|id| i32::try_from(id).ok())
            .and_then(Pid::from_raw);
        Ok(Running { child, group })
    }
}

/// The program's path; one that is not found is left to `execve` to refuse.
fn resolve(program: &str) -> String {
    if program.contains('/') {
        return program.to_owned();
    }
    PATH.iter()
        .map(|folder| format!("{folder}/{program}"))
        .find(|path| std::path::Path::new(path).is_file())
        .unwrap_or_else(|| program.to_owned())
}

/// A started script. Dropping it kills its process group.
#[derive(Debug)]
struct Running {
    child: Child,
    /// The process group; none once the leader was waited for, as its number may then be somebody else's.
    group: Option<Pid>,
}

impl Running {
    /// Waits for its end. Cancelling loses nothing.
    async fn ended(&mut self) -> io::Result<ExitStatus> {
        let status = self.child.wait().await?;
        self.group = None;
        Ok(status)
    }

    /// Ends the whole process group: asked first, then killed.
    async fn end(mut self) {
        self.signal(Signal::TERM);
        if tokio::time::timeout(KILL_AFTER, self.ended())
            .await
            .is_err()
        {
            self.signal(Signal::KILL);
            // A killed leader ends as soon as the kernel gets to it.
            let _ = self.ended().await;
        }
    }

    fn signal(&self, signal: Signal) {
        if let Some(group) = self.group {
            // A group that has just gone needs no signal.
            let _ = kill_process_group(group, signal);
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.signal(Signal::KILL);
    }
}

/// An exit as people read it.
fn describe(status: ExitStatus) -> String {
    use std::os::unix::process::ExitStatusExt;
    match (status.code(), status.signal()) {
        (Some(code), _) => format!("exit code {code}"),
        (None, Some(signal)) => format!("ended by signal {signal}"),
        (None, None) => "ended".to_owned(),
    }
}

#[cfg(test)]
mod tests;
