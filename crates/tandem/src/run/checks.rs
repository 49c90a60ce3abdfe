//! The operator's extra checks (`track_script`): run on a period, counted by rise and fall.

use std::process::Stdio;
use std::time::Instant;

use tandem_config::settings::TrackScript;
use tokio::process::Command;
use tokio::sync::mpsc;

use super::group::Event;

/// Runs one check until the group is gone. It is good until it has failed `fall` times in a row.
pub(crate) async fn run(check: TrackScript, events: mpsc::Sender<Event>) {
    let name = check.script.join(" ");
    let mut good = true;
    let mut streak = 0;
    loop {
        let started = Instant::now();
        let passed = once(&check).await;
        if passed == good {
            streak = 0;
        } else {
            streak += 1;
            if streak >= if good { check.fall } else { check.rise } {
                good = passed;
                streak = 0;
                tracing::warn!(
                    "check {name}: {}",
                    if good { "good again" } else { "failed" }
                );
            }
        }
        // Told each time: the loop may have been started anew.
        let event = Event::Check {
            name: name.clone(),
            good,
            weight: check.weight,
        };
        if events.send(event).await.is_err() {
            return;
        }
        tokio::time::sleep_until((started + check.interval).into()).await;
    }
}

async fn once(check: &TrackScript) -> bool {
    let Some((program, arguments)) = check.script.split_first() else {
        return true;
    };
    let child = Command::new(program)
        .args(arguments)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .process_group(0)
        .kill_on_drop(true)
        .spawn();
    let mut child = match child {
        Ok(child) => child,
        Err(error) => {
            tracing::error!("check {program}: {error}");
            return false;
        }
    };
    let group = child.id().and_then(|id| i32::try_from(id).ok());
    match tokio::time::timeout(check.timeout, child.wait()).await {
        Ok(Ok(status)) => status.success(),
        Ok(Err(_)) => false,
        Err(_) => {
            if let Some(pid) = group.and_then(rustix::process::Pid::from_raw) {
                let _ = rustix::process::kill_process_group(pid, rustix::process::Signal::KILL);
            }
            let _ = child.wait().await;
            false
        }
    }
}
