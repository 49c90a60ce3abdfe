//! Looks names up without holding up the loop: the system's resolver runs on threads of its own.

use std::io;

use tandem_core::sentinel::Input;
use tokio::sync::mpsc;
use tokio::time::{Duration, timeout};

/// A name server that takes longer gives no answer.
const WITHIN: Duration = Duration::from_secs(5);

/// Finds the address behind a name. [`Input::Resolved`] follows within the bound.
pub(super) fn resolve(host: String, inputs: mpsc::Sender<Input>) {
    tokio::task::spawn_local(async move {
        let result = match timeout(WITHIN, tokio::net::lookup_host((host.as_str(), 0))).await {
            Err(_) => Err(format!("no answer within {} s", WITHIN.as_secs())),
            Ok(Err(error)) => Err(error.to_string()),
            Ok(Ok(mut addresses)) => addresses
                .next()
                .map(|address| address.ip())
                .ok_or_else(|| io::Error::from(io::ErrorKind::NotFound).to_string()),
        };
        // Nobody is there to be told once the loop has ended.
        let _ = inputs.send(Input::Resolved { host, result }).await;
    });
}
