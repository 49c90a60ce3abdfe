//! The drain of a takeover (rule 6): the server reads what the other kernel still delivers, before it is promoted. How that is
//! known: `docs/decisions/016-last-words.md`.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use tandem_core::ids::Offset;
use tandem_core::info::ServerInfo;
use tandem_core::keeper::{Outcome, StepError, StepErrorKind};
use tandem_core::server::{ServerRole, ServerView};
use tandem_core::statement::LastWords;

use super::archive::op_error;
use super::steps::{Workshop, refused};
use super::streams::only;
use crate::linux::sockdiag::{Ends, SocketDiag, States, TcpSocket};
use crate::redis::client::Link;
use crate::redis::ops;
use crate::redis::streams::{Towards, named};

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
    let mut sight = Sight::new(workshop);
    let mut quiet_since: Option<(Offset, Instant)> = None;
    let drained_after = if last_words.is_empty() {
        DRAINED_AFTER
    } else {
        LAST_WORDS_AFTER
    };
    loop {
        // Before INFO is read: what the server has taken from its socket by now is in its answer.
        let arrived = !exact && sight.has_arrived(last_words);
        let (info, told) = ask(&link, deadline).await?;
        let Some(view) = ServerView::from_info(&info) else {
            return Err(refused("INFO lacks what decisions rest on"));
        };
        let confirmed = sight.is_confirmed(told);
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
                    // Asking the kernel may cost a millisecond, so it comes last.
                    arrived && confirmed
                        || reached && stood >= drained_after && !sight.has_unread(of)
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
        if confirmed {
            tokio::time::sleep(DRAIN_LOOK).await;
        }
    }
}

/// INFO, and behind it in the same piece the connection that the server reads from, if it says that.
async fn ask(link: &Link, deadline: Instant) -> Result<(ServerInfo, Option<Ends>), StepError> {
    let (info, answer) = ops::info_and(link, Towards::Primary.command(), deadline)
        .await
        .map_err(op_error)?;
    Ok((info, named(&answer).as_deref().and_then(only)))
}

/// The connection that the server reads from, as far as we know.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Upstream {
    /// It was not asked yet.
    Unasked,
    /// It does not say.
    Untold,
    Told(Ends),
}

/// How this host's kernel shows the stream of the dead primary.
struct Sight {
    diag: Option<SocketDiag>,
    primary: Option<SocketAddr>,
    upstream: Upstream,
}

impl Sight {
    fn new(workshop: &Workshop) -> Self {
        let learnt = workshop.server.streams.upstream();
        Self {
            diag: SocketDiag::open().ok(),
            primary: workshop.peer_server,
            upstream: learnt.map_or(Upstream::Unasked, Upstream::Told),
        }
    }

    /// All that the dead primary's kernel said it would deliver has arrived here and was read, if the stream is what it is taken
    /// to be.
    fn has_arrived(&mut self, last_words: &[LastWords]) -> bool {
        // Nothing to compare with, and a listing takes a millisecond.
        if last_words.is_empty() {
            return false;
        }
        let (Some(diag), Some(primary)) = (&mut self.diag, self.primary) else {
            return false;
        };
        match self.upstream {
            Upstream::Unasked => false,
            Upstream::Untold => has_all_arrived(diag, primary, last_words),
            Upstream::Told(ends) => {
                ends.remote == primary && has_stream_arrived(diag, ends, last_words)
            }
        }
    }

    /// Takes the server's word for the connection that it reads from. True if that is what was looked at last.
    fn is_confirmed(&mut self, told: Option<Ends>) -> bool {
        let now = told.map_or(Upstream::Untold, Upstream::Told);
        std::mem::replace(&mut self.upstream, now) == now
    }

    /// Bytes of the primary's stream wait in this host's kernel to be read by our server.
    fn has_unread(&mut self, primary: &str) -> bool {
        let (Some(diag), Ok(primary)) = (&mut self.diag, primary.parse::<SocketAddr>()) else {
            return false;
        };
        if let Upstream::Told(ends) = self.upstream
            && ends.remote == primary
            && let Ok(Some(socket)) = diag.find(ends)
        {
            return socket.receive_queue > 0;
        }
        // Our server's client socket: its local port is any.
        diag.list_to(primary, States::CONNECTED)
            .is_ok_and(|sockets| sockets.iter().any(|socket| socket.receive_queue > 0))
    }
}

/// What was named of this one connection has arrived and was read. One that was not named may bring anything.
fn has_stream_arrived(diag: &mut SocketDiag, ends: Ends, last_words: &[LastWords]) -> bool {
    // Two of the other host's addresses may each have a connection from the same port.
    let mut named = last_words
        .iter()
        .filter(|words| words.port == ends.local.port())
        .peekable();
    if named.peek().is_none() {
        return false;
    }
    let Ok(Some(socket)) = diag.find(ends) else {
        return false;
    };
    named.all(|words| has_read(&socket, words))
}

/// As [`has_stream_arrived`] where the server does not say which of this host's connections to the primary is the stream: each
/// must be accounted for on both sides. One that was not named may be it, and so may one that was named and is gone.
fn has_all_arrived(diag: &mut SocketDiag, primary: SocketAddr, last_words: &[LastWords]) -> bool {
    let Ok(sockets) = diag.list_to(primary, States::CONNECTED) else {
        return false;
    };
    let is_named = |socket: &TcpSocket| last_words.iter().any(|it| it.port == socket.local.port());
    let is_read = |words: &LastWords| {
        let socket = sockets.iter().find(|it| it.local.port() == words.port);
        socket.is_some_and(|socket| has_read(socket, words))
    };
    sockets.iter().all(is_named) && last_words.iter().all(is_read)
}

fn has_read(socket: &TcpSocket, words: &LastWords) -> bool {
    let received = socket.carried.map(|carried| carried.received);
    received.is_some_and(|bytes| bytes >= words.bytes) && socket.receive_queue == 0
}

#[cfg(test)]
mod tests;
