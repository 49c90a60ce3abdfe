//! Going on without the terminal: the process that the operator started ends, another goes on in a session of its own.
//!
//! Redis and twemproxy fork. A process with threads cannot do that safely, so we start ourselves once more, and a
//! variable tells that one to go on.

use std::io;
use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};

/// Set in the process that goes on. What it starts must not inherit it.
pub(crate) const MARK: &str = "TANDEM_DETACHED";

/// Is this the process that goes on?
pub(crate) fn is_detached() -> bool {
    std::env::var_os(MARK).is_some()
}

/// `true` in the process that is to end now.
///
/// # Errors
/// When the second process cannot be started, or has no session of its own.
pub(crate) fn leave_terminal() -> io::Result<bool> {
    if is_detached() {
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
