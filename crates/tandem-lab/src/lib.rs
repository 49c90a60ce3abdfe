//! Hosts in network namespaces running the real thing: tests, demo and benchmarks share it.
//!
//! The lab decides nothing about failover. It builds a small network on one machine (a bridge, some hosts, a
//! client), starts unmodified servers and daemons on it, breaks it on purpose and measures what a client saw:
//!
//! - [`ns`]: the network and its faults (cut, one-way cut, filtered VRRP, power-off, link down);
//! - [`server`]: redis-server and its relatives, with their identity asserted after every start;
//! - [`client`]: the measuring client, and the comparison of what it was promised with what a server holds;
//! - [`fleet`]: a group of servers under many Sentinels, real ones and ours side by side;
//! - [`fake`]: endpoints that only look like servers, to hear what a Sentinel sends, and to be thousands;
//! - [`libraries`]: unmodified client libraries that follow a Sentinel fleet;
//! - [`golden`]: recorded exchanges with a real Sentinel, and their comparison with any other;
//! - [`arrangement`]: the same pair of servers kept available by tandem, by keepalived or by Sentinel;
//! - [`interop`]: `tandem vrrp` beside the real keepalived;
//! - [`proxy`]: nutcracker, haproxy and `tandem proxy` in front of servers, and the loads that judge and measure them;
//! - [`usage`]: processor time, memory and descriptors of a process;
//! - [`bench`]: runs each fault on each arrangement and prints the comparison.
//!
//! It starts the `tandem` binary by path and shares no code with it, so a defect in the product cannot hide in the
//! instrument. It needs root, or a kernel that lets users make user namespaces ([`ns::ensure_capable`]).

#![forbid(unsafe_code)]

pub mod arrangement;
pub mod bench;
pub mod chance;
pub mod client;
pub mod fake;
pub mod fleet;
pub mod golden;
pub mod interop;
pub mod libraries;
mod named;
pub mod ns;
pub mod poll;
pub mod process;
pub mod proxy;
pub mod resp;
pub mod server;
pub mod usage;
pub mod wire;

use std::io::Write;
use std::path::PathBuf;

/// Finds the `tandem` binary that the lab is to exercise.
///
/// The variable `TANDEM_BIN` wins. Otherwise the build directory of the running executable is searched, its own
/// profile first, then `release`, then `debug`, so that a test of a debug build does not pick up an older release.
///
/// # Errors
/// Names the places searched when there is no such file.
pub fn tandem_binary() -> anyhow::Result<PathBuf> {
    if let Some(path) = std::env::var_os("TANDEM_BIN") {
        let path = PathBuf::from(path);
        anyhow::ensure!(
            path.is_file(),
            "TANDEM_BIN names {}, which is not a file",
            path.display()
        );
        return Ok(path);
    }
    let running = std::env::current_exe()?;
    let mut searched = Vec::new();
    // An ordinary binary sits in target/PROFILE, a test binary in target/PROFILE/deps.
    for folder in running.ancestors().skip(1).take(2) {
        searched.push(folder.join("tandem"));
    }
    if let Some(target) = running
        .ancestors()
        .find(|folder| folder.ends_with("target"))
    {
        searched.push(target.join("release/tandem"));
        searched.push(target.join("debug/tandem"));
    }
    searched.iter().find(|path| path.is_file()).cloned().ok_or_else(|| {
        anyhow::anyhow!(
            "no tandem binary: build it (cargo build -p tandem) or set TANDEM_BIN; looked for {}",
            searched.iter().map(|p| p.display().to_string()).collect::<Vec<_>>().join(", ")
        )
    })
}

/// Whether a test that needs namespaces can run: the beginning of every such test.
///
/// Otherwise it reports the test as skipped, by name and with the reason.
///
/// # Panics
/// Under `CI=true`, where a test that cannot run counts as failed.
#[must_use]
pub fn can_run(test: &str) -> bool {
    match ns::capability() {
        Ok(()) => true,
        Err(reason) => {
            skip(test, &reason.to_string());
            false
        }
    }
}

/// As [`can_run`], for a test that the root of a user namespace cannot run either.
///
/// # Panics
/// As [`can_run`].
#[must_use]
pub fn can_run_as_root(test: &str) -> bool {
    if !can_run(test) {
        return false;
    }
    if !ns::is_real_root() {
        skip(test, "needs real root, not that of a user namespace");
        return false;
    }
    true
}

/// Reports a test, or a part of one, as skipped.
///
/// # Panics
/// Under `CI=true`, where a test that cannot run counts as failed.
pub fn skip(test: &str, reason: &str) {
    assert!(
        std::env::var("CI").as_deref() != Ok("true"),
        "{test} cannot run: {reason}"
    );
    // Written past the test harness' capture, which would hide it: a skipped test is never silent.
    let _ = writeln!(std::io::stdout(), "skipped: {test}: {reason}");
}
