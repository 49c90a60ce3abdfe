//! The drain of a takeover (rule 6): the server reads what the other kernel still delivers, before it is promoted. How that is
//! known: `docs/decisions/016-last-words.md`.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use tandem_core::ids::Offset;
use tandem_core::keeper::{Outcome, StepError, StepErrorKind};
use tandem_core::server::{ServerRole, ServerView};
use tandem_core::statement::LastWords;

use super::archive::op_error;
use super::steps::{Workshop, refused};
use crate::linux::sockdiag::{SocketDiag, States, TcpSocket};
use crate::redis::ops;

/// Between looks while a replica drains.
const DRAIN_LOOK: Duration = Duration::from_millis(1);
/// A stream whose socket is empty and whose offset stands still for this long has been read. The other
/// kernel delivers what it holds at line speed; a gap this long within it would be a cut.
const DRAINED_AFTER: Duration = Duration::from_millis(3);
/// And this long if the other kernel has said how much it still delivers and that does not come.
const LAST_WORDS_AFTER: Duration = Duration::from_millis(100);

/// Reads what the other kernel still delivers (rule 6).
pub(super) async fn drain(
    workshop: &Workshop,
    offset: Option<Offset>,
    exact: bool,
    last_words: &[LastWords],
    deadline: Instant,
) -> Result<Outcome, StepError> {
    let link = workshop.link()?;
    let mut diag = SocketDiag::open().ok();
    let mut quiet_since: Option<(Offset, Instant)> = None;
    let drained_after = if last_words.is_empty() {
        DRAINED_AFTER
    } else {
        LAST_WORDS_AFTER
    };
    loop {
        // Before INFO is read: what the server has taken from its socket by now is in its answer.
        let has_all = diag
            .as_mut()
            .zip(workshop.peer_server)
            .is_some_and(|(diag, primary)| has_arrived(diag, primary, last_words));
        let info = ops::info(&link, deadline).await.map_err(op_error)?;
        let Some(view) = ServerView::from_info(&info) else {
            return Err(refused("INFO lacks what decisions rest on"));
        };
        let reached = offset.is_none_or(|offset| view.offset >= offset);
        let done = if exact {
            reached
        } else {
            match &view.role {
                ServerRole::Replica { link_up: false, .. } => true,
                ServerRole::Replica {
                    link_up: true, of, ..
                } => {
                    let stood = match quiet_since {
                        Some((at, since)) if at == view.offset => since.elapsed(),
                        Some(_) | None => {
                            quiet_since = Some((view.offset, Instant::now()));
                            Duration::ZERO
                        }
                    };
                    // Asking the kernel costs a millisecond, so it comes last.
                    has_all
                        || reached
                            && stood >= drained_after
                            && !diag.as_mut().is_some_and(|d| unread(d, of))
                }
                ServerRole::Primary => true,
            }
        };
        if done {
            return Ok(Outcome::View(Box::new(view)));
        }
        if Instant::now() + DRAIN_LOOK >= deadline {
            return Err(StepError {
                kind: StepErrorKind::TimedOut,
                text: format!("read up to {} of {offset:?}", view.offset),
            });
        }
        tokio::time::sleep(DRAIN_LOOK).await;
    }
}

/// All that the dead primary's kernel said it would deliver has arrived here and was read. Which of this host's connections to
/// the primary is the stream is not known, so each must be accounted for on both sides: one that was not named may be it, and so
/// may one that was named and is gone.
fn has_arrived(diag: &mut SocketDiag, primary: SocketAddr, last_words: &[LastWords]) -> bool {
    if last_words.is_empty() {
        // Nothing to compare with, and a listing takes a millisecond.
        return false;
    }
    let Ok(sockets) = diag.list_to(primary, States::CONNECTED) else {
        return false;
    };
    let is_named = |socket: &TcpSocket| last_words.iter().any(|it| it.port == socket.local.port());
    let is_read = |words: &LastWords| {
        let socket = sockets.iter().find(|it| it.local.port() == words.port);
        socket.is_some_and(|socket| {
            let carried = socket.carried.map(|carried| carried.received);
            carried.is_some_and(|bytes| bytes >= words.bytes) && socket.receive_queue == 0
        })
    };
    sockets.iter().all(is_named) && last_words.iter().all(is_read)
}

/// Bytes of the primary's stream wait in this host's kernel to be read by our server.
fn unread(diag: &mut SocketDiag, primary: &str) -> bool {
    let Ok(primary) = primary.parse::<SocketAddr>() else {
        return false;
    };
    // The replication link is our server's client socket: its local port is any.
    diag.list_to(primary, States::CONNECTED)
        .is_ok_and(|sockets| sockets.iter().any(|socket| socket.receive_queue > 0))
}
