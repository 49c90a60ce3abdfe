//! Processes that the lab starts: each one is ended by its own pid, when it is dropped at the latest.

use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ExitStatus};

use anyhow::Context;
use rustix::process::{Pid, Signal, kill_process};

/// Field of `/proc/PID/stat`, proc(5).
const FLAGS: usize = 9;
/// The kernel's flag of a task that is shutting down, `include/linux/sched.h`.
const PF_EXITING: u64 = 4;

/// A child process on one of the lab's hosts.
#[derive(Debug)]
pub struct Process {
    child: Child,
    name: String,
    log: PathBuf,
    alone: bool,
}

impl Process {
    pub(crate) fn new(child: Child, name: String, log: PathBuf) -> Self {
        Self {
            child,
            name,
            log,
            alone: false,
        }
    }

    /// From now on signals go to this process only, not to what it started: a daemon whose servers outlive it.
    #[must_use]
    pub fn alone(mut self) -> Self {
        self.alone = true;
        self
    }

    /// The process id, as every namespace of the lab sees it.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// What its standard output and error went to.
    #[must_use]
    pub fn log(&self) -> &Path {
        &self.log
    }

    /// The exit status if it has ended.
    ///
    /// # Errors
    /// When the kernel does not know the child, which is a defect of the lab.
    pub fn ended(&mut self) -> anyhow::Result<Option<ExitStatus>> {
        self.child
            .try_wait()
            .with_context(|| format!("asking after {}", self.name))
    }

    /// SIGKILL to the process and, unless it stands [alone](Process::alone), everything it started, and returns without waiting for their ends.
    ///
    /// Dead processes are not an error: a host's power-off may have been first.
    pub fn kill(&self) {
        self.signal_tree(Signal::KILL);
    }

    /// SIGSTOP to the process and everything it started.
    pub fn freeze(&self) {
        self.signal_tree(Signal::STOP);
    }

    /// SIGCONT to the process and everything it started.
    pub fn thaw(&self) {
        self.signal_tree(Signal::CONT);
    }

    /// Whether the kernel is taking it down already.
    #[must_use]
    pub fn is_exiting(&self) -> bool {
        stat_field(self.pid(), FLAGS).is_some_and(|flags| flags & PF_EXITING != 0)
    }

    /// SIGTERM to the process alone, then waits for its end.
    ///
    /// # Errors
    /// When it has not ended after `bound`.
    pub fn terminate(&mut self, bound: std::time::Duration) -> anyhow::Result<ExitStatus> {
        signal(self.pid(), Signal::TERM);
        let what = format!("{} to end after SIGTERM", self.name);
        crate::poll::until(&what, bound, std::time::Duration::from_millis(5), || {
            Ok(self
                .ended()?
                .ok_or_else(|| format!("pid {} is running", self.pid())))
        })
    }

    /// Waits until the kernel has taken the whole process down, which for a large heap takes a while after SIGKILL.
    ///
    /// # Errors
    /// When the kernel does not know the child.
    pub fn wait(&mut self) -> anyhow::Result<ExitStatus> {
        self.child
            .wait()
            .with_context(|| format!("waiting for {}", self.name))
    }

    /// One line for an error message: how it ended, and the end of its log.
    pub(crate) fn obituary(&mut self) -> String {
        let state = match self.child.try_wait() {
            Ok(None) => "is running".to_owned(),
            Ok(Some(status)) => match status.signal() {
                Some(signal) => format!("was ended by signal {signal}"),
                None => format!("ended with {status}"),
            },
            Err(error) => format!("is unknown to the kernel ({error})"),
        };
        let log = std::fs::read_to_string(&self.log).unwrap_or_default();
        let tail: Vec<&str> = log.lines().rev().take(5).collect();
        format!(
            "{} {state}; last words: {}",
            self.name,
            tail.into_iter().rev().collect::<Vec<_>>().join(" | ")
        )
    }

    fn signal_tree(&self, what: Signal) {
        if self.alone {
            signal(self.pid(), what);
            return;
        }
        // Parents first: keepalived's parent would start its child again if that died before it.
        for pid in tree(self.pid()) {
            signal(pid, what);
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if matches!(self.child.try_wait(), Ok(None)) {
            self.kill();
            let _ = self.child.wait();
        }
    }
}

/// Sends a signal; a process that no longer exists is not an error.
pub(crate) fn signal(pid: u32, what: Signal) {
    if let Some(pid) = i32::try_from(pid).ok().and_then(Pid::from_raw) {
        let _ = kill_process(pid, what);
    }
}

/// A process and its descendants, parents before children.
fn tree(root: u32) -> Vec<u32> {
    let parents: Vec<(u32, u32)> = pids().filter_map(|pid| Some((pid, parent(pid)?))).collect();
    let mut found = vec![root];
    let mut next = 0;
    while let Some(&pid) = found.get(next) {
        found.extend(
            parents
                .iter()
                .filter(|(_, parent)| *parent == pid)
                .map(|(child, _)| *child),
        );
        next += 1;
    }
    found
}

/// Every process id in `/proc` at this moment.
pub(crate) fn pids() -> impl Iterator<Item = u32> {
    std::fs::read_dir("/proc")
        .into_iter()
        .flatten()
        .flatten()
        .filter_map(|entry| {
            entry
                .file_name()
                .to_str()
                .and_then(|name| name.parse().ok())
        })
}

/// A field of `/proc/PID/stat`, counted as proc(5) counts them, from 1; only those after the command's name.
pub(crate) fn stat_field(pid: u32, field: usize) -> Option<u64> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The command's name may contain spaces and brackets; the last bracket ends it. Field 3 follows.
    let (_, rest) = stat.rsplit_once(')')?;
    rest.split_whitespace()
        .nth(field.checked_sub(3)?)?
        .parse()
        .ok()
}

fn parent(pid: u32) -> Option<u32> {
    stat_field(pid, 4).and_then(|ppid| u32::try_from(ppid).ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_is_in_its_parents_tree() {
        let me = std::process::id();
        let parent = parent(me).unwrap();
        let tree = tree(parent);
        assert_eq!(tree[0], parent);
        assert!(tree.contains(&me));
    }

    #[test]
    fn a_process_that_is_gone_has_no_fields() {
        // Larger than the kernel's largest process id.
        assert_eq!(stat_field(4_194_305, 4), None);
    }
}
