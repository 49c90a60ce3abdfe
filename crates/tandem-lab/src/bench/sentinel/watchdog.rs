//! Ends the program when a run takes longer than any can.

use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::time::Duration;

/// Until it is dropped, the program is watched.
#[derive(Debug)]
pub(super) struct Watched {
    _over: Sender<()>,
}

/// Watches one run.
pub(super) fn start(bound: Duration, what: String) -> Watched {
    let (over, ended) = channel();
    std::thread::spawn(move || {
        if ended.recv_timeout(bound) == Err(RecvTimeoutError::Timeout) {
            eprintln!(
                "{what}: still running after {bound:?}, which no run can; begin again with the same results file"
            );
            // The namespaces, and the processes in them, end with this process.
            std::process::exit(1);
        }
    });
    Watched { _over: over }
}
