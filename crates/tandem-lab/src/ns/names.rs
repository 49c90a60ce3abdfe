//! Names of namespaces and directories that say which process made them, so that the left-overs of a dead one can be
//! told from the property of a living one.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};

use rustix::process::Signal;

use crate::process;

const PREFIX: &str = "tandem-lab";

/// The folder in which iproute2 keeps its namespaces.
const NETNS: &str = "/run/netns";

/// A name that no other lab has, alive or dead: `tandem-lab.PID.START.SERIAL.what`.
///
/// START is the process' start time in clock ticks, because process ids are used again.
pub(super) fn unique(what: &str) -> String {
    static SERIAL: AtomicU32 = AtomicU32::new(0);
    let pid = std::process::id();
    let start = process::stat_field(pid, START_TIME).unwrap_or(0);
    format!(
        "{PREFIX}.{pid}.{start}.{}.{what}",
        SERIAL.fetch_add(1, Ordering::Relaxed)
    )
}

/// Field of `/proc/PID/stat`, proc(5).
const START_TIME: usize = 22;

/// The file by which a namespace is entered.
pub(super) fn path(netns: &str) -> PathBuf {
    Path::new(NETNS).join(netns)
}

/// Whether the process that made this name is gone; a name of another form is nobody's business here.
fn is_stale(name: &str, start_of: impl Fn(u32) -> Option<u64>) -> bool {
    let mut parts = name.split('.');
    if parts.next() != Some(PREFIX) {
        return false;
    }
    let (Some(Ok(pid)), Some(Ok(start))) = (
        parts.next().map(str::parse),
        parts.next().map(str::parse::<u64>),
    ) else {
        return false;
    };
    start_of(pid) != Some(start)
}

/// Ends the processes and removes the namespaces and directories of labs whose own process is dead.
///
/// Errors are ignored: two labs may clean up at the same time, and what cannot be removed harms nobody.
pub(super) fn remove_stale() {
    for name in entries(Path::new(NETNS)) {
        if is_stale(&name, |pid| process::stat_field(pid, START_TIME)) {
            remove(&name);
        }
    }
    let temp = std::env::temp_dir();
    for name in entries(&temp) {
        if is_stale(&name, |pid| process::stat_field(pid, START_TIME)) {
            let _ = std::fs::remove_dir_all(temp.join(name));
        }
    }
}

/// Ends every process in a namespace of the lab, then removes the namespace.
pub(super) fn remove(netns: &str) {
    for pid in members(netns) {
        process::signal(pid, Signal::KILL);
    }
    let _ = Command::new("ip").args(["netns", "del", netns]).output();
}

/// The processes whose main thread is in the namespace. Zombies belong to no namespace any more.
pub(super) fn members(netns: &str) -> Vec<u32> {
    use std::os::unix::fs::MetadataExt;
    let Ok(wanted) = std::fs::metadata(path(netns)) else {
        return Vec::new();
    };
    process::pids()
        .filter(|pid| {
            std::fs::metadata(format!("/proc/{pid}/ns/net"))
                .is_ok_and(|found| (found.dev(), found.ino()) == (wanted.dev(), wanted.ino()))
        })
        .collect()
}

fn entries(folder: &Path) -> Vec<String> {
    std::fs::read_dir(folder)
        .into_iter()
        .flatten()
        .flatten()
        .filter_map(|entry| entry.file_name().into_string().ok())
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_dead_labs_names_are_stale() {
        let start_of = |pid| (pid == 7).then_some(100);
        for (name, stale) in [
            ("tandem-lab.7.100.0.a", false),
            ("tandem-lab.7.99.0.a", true), // the process id was given to another process since
            ("tandem-lab.8.100.0.a", true),
            ("tandem-lab.x.100.0.a", false),
            ("tandem-lab", false),
            ("somebody-elses.8.100.0.a", false),
        ] {
            assert_eq!(is_stale(name, start_of), stale, "{name}");
        }
    }

    #[test]
    fn own_names_are_unique_and_not_stale() {
        let (first, second) = (unique("a"), unique("a"));
        assert_ne!(first, second);
        assert!(!is_stale(&first, |pid| process::stat_field(
            pid, START_TIME
        )));
    }
}
