//! `daemonize yes`: the process that the operator started ends, another goes on without the terminal.
//!
//! Redis forks. A process with threads cannot do that safely, so we start ourselves once more in a session of its
//! own, and a variable tells that one to go on.

use std::io;
use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};

/// Set in the process that goes on.
pub(super) const MARK: &str = "TANDEM_SENTINEL_DETACHED";

/// `true` in the process that is to end now.
///
/// # Errors
/// When the second process cannot be started, or has no session of its own.
pub(super) fn leave_terminal() -> io::Result<bool> {
    if std::env::var_os(MARK).is_some() {
        rustix::process::setsid()?;
        return Ok(false);
    }
    let mut words = std::env::args_os();
    let name = words.next().unwrap_or_default();
    Command::new(std::env::current_exe()?)
        .arg0(name)
        .args(words)
        .env(MARK, "1")
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()?;
    Ok(true)
}
