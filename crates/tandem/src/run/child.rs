//! Runs an operator's command: without a shell, in a process group of its own, within a time.
//!
//! Hooks and tracked checks come here. What the command writes to its standard error is kept up to a bound, for the log;
//! beyond it is read and thrown away, so that a talkative command is never held up by a full pipe. When its time is up the
//! whole group is killed: what the command started goes with it.

use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use thiserror::Error;
use tokio::io::AsyncReadExt as _;
use tokio::process::{ChildStderr, Command};

/// What is kept of a command's standard error.
const SAID_BYTES_MAX: usize = 2048;
/// For a killed process to be gone, and for the rest of its words to be read.
const REAP_WITHIN: Duration = Duration::from_secs(1);

/// Why a command was no success. Running it again is as safe as the operator made it.
#[derive(Debug, Error)]
pub(crate) enum ChildError {
    /// There is no program in the command; the configuration's fault.
    #[error("the command is empty")]
    Empty,
    /// It could not be started: not there, not executable, or no memory.
    #[error("cannot be started: {0}")]
    NotStarted(std::io::Error),
    /// It ended otherwise than by exit code 0.
    #[error("{status}{said}")]
    Failed {
        /// How.
        status: ExitStatus,
        /// Its last words, with what separates them from the status; empty if there were none.
        said: String,
    },
    /// It was still running when its time was up, and was killed.
    #[error("still running after {0:?}, killed")]
    TimedOut(Duration),
    /// The kernel did not say how it ended.
    #[error("waiting for it: {0}")]
    Lost(std::io::Error),
}

/// Runs `command` with these variables added to the daemon's own, and waits for its end.
///
/// # Errors
/// Anything but exit code 0 within `limit`.
pub(crate) async fn run(
    command: &[String],
    environment: &[(&str, String)],
    limit: Duration,
) -> Result<(), ChildError> {
    let (program, arguments) = command.split_first().ok_or(ChildError::Empty)?;
    let mut child = Command::new(program)
        .args(arguments)
        .envs(environment.iter().map(|(key, value)| (key, value)))
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .process_group(0)
        .kill_on_drop(true)
        .spawn()
        .map_err(ChildError::NotStarted)?;
    let group = child.id().and_then(|id| i32::try_from(id).ok());
    let listener = child.stderr.take().map(|pipe| tokio::spawn(listen(pipe)));
    let ended = tokio::time::timeout(limit, child.wait()).await;
    if ended.is_err() {
        if let Some(pid) = group.and_then(rustix::process::Pid::from_raw) {
            let _ = rustix::process::kill_process_group(pid, rustix::process::Signal::KILL);
        }
        let _ = tokio::time::timeout(REAP_WITHIN, child.wait()).await;
    }
    let failed = matches!(&ended, Ok(Ok(status)) if !status.success());
    let said = match listener {
        Some(listener) if failed => last_words(listener).await,
        // What the command left running may hold the pipe for ever.
        Some(listener) => {
            listener.abort();
            String::new()
        }
        None => String::new(),
    };
    match ended {
        Err(_) => Err(ChildError::TimedOut(limit)),
        Ok(Err(error)) => Err(ChildError::Lost(error)),
        Ok(Ok(status)) if status.success() => Ok(()),
        Ok(Ok(status)) => Err(ChildError::Failed { status, said }),
    }
}

/// Reads to the end; the end of what was written is kept.
async fn listen(mut pipe: ChildStderr) -> Vec<u8> {
    let mut kept = Vec::new();
    let mut piece = [0; 512];
    while let Ok(length) = pipe.read(&mut piece).await {
        if length == 0 {
            break;
        }
        kept.extend_from_slice(&piece[..length]);
        let excess = kept.len().saturating_sub(SAID_BYTES_MAX);
        kept.drain(..excess);
    }
    kept
}

/// What was heard. A grandchild may hold the pipe open for as long as it lives, so this does not wait for the end.
async fn last_words(listener: tokio::task::JoinHandle<Vec<u8>>) -> String {
    let stop = listener.abort_handle();
    let Ok(Ok(bytes)) = tokio::time::timeout(REAP_WITHIN, listener).await else {
        stop.abort();
        return String::new();
    };
    let text = String::from_utf8_lossy(&bytes);
    let text = text.trim();
    if text.is_empty() {
        String::new()
    } else {
        format!(": {}", text.replace('\n', " | "))
    }
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use super::*;

    fn sh(script: &str, environment: &[(&str, String)], limit: Duration) -> Result<(), ChildError> {
        let command = ["/bin/sh", "-c", script].map(str::to_owned);
        tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap()
            .block_on(run(&command, environment, limit))
    }

    /// Longer than any of these scripts takes.
    const LONG: Duration = Duration::from_secs(30);

    #[test]
    fn only_exit_code_0_is_a_success_and_a_failure_has_its_words() {
        let environment = [("TANDEM_GROUP", "orders".to_owned())];
        sh("test $TANDEM_GROUP = orders", &environment, LONG).unwrap();
        let failed = sh("echo one >&2; echo two >&2; exit 7", &[], LONG).unwrap_err();
        assert_eq!(failed.to_string(), "exit status: 7: one | two");
        let silent = sh("exit 1", &[], LONG).unwrap_err();
        assert_eq!(silent.to_string(), "exit status: 1");
    }

    /// More than a pipe holds (64 KiB): it would hang if nobody read it.
    #[test]
    fn a_talkative_command_ends_and_its_end_is_kept() {
        let script = "i=0; while [ $i -lt 3000 ]; do echo a-line-of-about-forty-characters-for-it >&2; \
                      i=$((i+1)); done; echo the-end >&2; exit 1";
        let ChildError::Failed { said, .. } = sh(script, &[], LONG).unwrap_err() else {
            panic!("it failed otherwise")
        };
        assert!(said.ends_with("the-end"), "{said}");
        assert!(said.len() < 2 * SAID_BYTES_MAX, "{}", said.len());
    }

    #[test]
    fn a_command_out_of_time_goes_with_what_it_started() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("pid");
        let script = format!("sleep 1000 & echo $! > {}; wait", path.display());
        let error = sh(&script, &[], Duration::from_secs(2)).unwrap_err();
        assert!(matches!(error, ChildError::TimedOut(_)), "{error}");
        let pid = std::fs::read_to_string(&path).unwrap();
        let stat = format!("/proc/{}/stat", pid.trim());
        let begun = Instant::now();
        // Gone, or a zombie that nobody here reaps.
        while std::fs::read_to_string(&stat).is_ok_and(|stat| !stat.contains(") Z ")) {
            assert!(begun.elapsed() < LONG, "the grandchild lives on");
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    #[test]
    fn what_cannot_be_started_is_told() {
        let run = |command: &[&str]| {
            let command: Vec<String> = command.iter().map(|word| (*word).to_owned()).collect();
            tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .unwrap()
                .block_on(run(&command, &[], LONG))
                .unwrap_err()
        };
        assert!(matches!(run(&[]), ChildError::Empty));
        assert!(matches!(
            run(&["/nowhere/at/all"]),
            ChildError::NotStarted(_)
        ));
    }
}
