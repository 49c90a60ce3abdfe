//! The operator's extra checks (`track_script`): run on a period, counted by rise and fall.

use std::time::Instant;

use tandem_config::settings::TrackScript;
use tokio::sync::mpsc;

use super::child;
use super::group::Event;

/// Runs one check until the group is gone. It is good until it has failed `fall` times in a row.
pub(crate) async fn run(check: TrackScript, events: mpsc::Sender<Event>) {
    let name = check.script.join(" ");
    let mut good = true;
    let mut streak = 0;
    loop {
        let started = Instant::now();
        let ended = child::run(&check.script, &[], check.timeout).await;
        let passed = ended.is_ok();
        if passed == good {
            streak = 0;
        } else {
            streak += 1;
            if streak >= if good { check.fall } else { check.rise } {
                good = passed;
                streak = 0;
                match ended {
                    Ok(()) => tracing::warn!("check {name}: good again"),
                    Err(error) => tracing::warn!("check {name}: failed: {error}"),
                }
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
