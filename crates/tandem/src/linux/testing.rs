//! Tests run in a network namespace of their own: one thread, one empty namespace, gone with the thread.

use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use super::sys;

/// No test may wait longer, whatever it waits for.
const TEST_LIMIT: Duration = Duration::from_secs(60);

/// Runs `test` on its own thread, in a fresh network namespace with `lo` up and inside a current-thread runtime.
///
/// Without the permission to make a namespace it prints why and passes, except under `CI=true`, where a test that
/// does not run is a failure.
pub(super) fn in_namespace<F>(name: &str, test: F)
where
    F: AsyncFnOnce() + Send + 'static,
{
    in_namespace_within(TEST_LIMIT, name, test);
}

/// As [`in_namespace`], with a limit of its own.
pub(super) fn in_namespace_within<F>(limit: Duration, name: &str, test: F)
where
    F: AsyncFnOnce() + Send + 'static,
{
    let outcome = std::thread::spawn(move || {
        if let Err(error) = sys::enter_new_network_namespace() {
            return Some(error.to_string());
        }
        run(&["ip", "link", "set", "lo", "up"]);
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .expect("a runtime");
        let bounded = runtime.block_on(async { tokio::time::timeout(limit, test()).await });
        assert!(bounded.is_ok(), "not finished within {limit:?}");
        None
    })
    .join();
    match outcome {
        Ok(None) => {}
        Ok(Some(reason)) => {
            println!("skipped: {name}: {reason}");
            assert_ne!(
                std::env::var("CI").as_deref(),
                Ok("true"),
                "{name} must run under CI"
            );
        }
        Err(panic) => std::panic::resume_unwind(panic),
    }
}

/// Runs a command to its end and insists on success.
pub(super) fn run(command: &[&str]) {
    let status = Command::new(command[0])
        .args(&command[1..])
        .stdin(Stdio::null())
        .status();
    assert!(
        status.as_ref().is_ok_and(|status| status.success()),
        "{command:?}: {status:?}"
    );
}

/// The standard output of a command that succeeds.
pub(super) fn output(command: &[&str]) -> String {
    let output = Command::new(command[0])
        .args(&command[1..])
        .stdin(Stdio::null())
        .output()
        .expect("it starts");
    assert!(output.status.success(), "{command:?}: {output:?}");
    String::from_utf8(output.stdout).expect("text")
}

/// A pair of connected Ethernet interfaces in this namespace, both up and able to send: the kernel notices a carrier a
/// little later than the command that brings it, and drops what is sent before.
pub(super) fn veth_pair(one: &str, other: &str) {
    run(&[
        "ip", "link", "add", one, "type", "veth", "peer", "name", other,
    ]);
    run(&["ip", "link", "set", one, "up"]);
    run(&["ip", "link", "set", other, "up"]);
    let started = Instant::now();
    while [one, other]
        .iter()
        .any(|name| !output(&["ip", "link", "show", name]).contains("state UP"))
    {
        assert!(
            started.elapsed() < Duration::from_secs(5),
            "{one} and {other} have no carrier"
        );
        std::thread::sleep(Duration::from_millis(1));
    }
}

/// Polls `condition` every millisecond and fails the test after five seconds.
pub(super) async fn eventually(what: &str, mut condition: impl FnMut() -> bool) {
    let started = Instant::now();
    while !condition() {
        assert!(
            started.elapsed() < Duration::from_secs(5),
            "not reached: {what}"
        );
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}
