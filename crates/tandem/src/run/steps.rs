//! Carrying out the keeper's steps against the servers: each in a task of its own, each within its deadline.
//!
//! Steps that concern this host's kernel (addresses, gate) and the journal are the group loop's; here are those
//! that talk to Redis. A step that cannot be done says why and whether it may have happened.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use tandem_config::settings::Manage;
use tandem_core::ids::Offset;
use tandem_core::info::ServerInfo;
use tandem_core::keeper::{Outcome, ProbeResult, Step, StepError, StepErrorKind};
use tandem_core::server::{ServerRole, ServerView};
use tandem_core::statement::LastWords;

use super::archive::{Archive, op_error};
use super::server::Server;
use crate::linux::sockdiag::{SocketDiag, States, TcpSocket};
use crate::redis::client::Link;
use crate::redis::error::LinkError;
use crate::redis::fence::{RemoteFenceError, remote_fence};
use crate::redis::ops;
use crate::redis::raw::{Credentials, Target};

/// Between looks while a replica drains.
const DRAIN_LOOK: Duration = Duration::from_millis(1);
/// A stream whose socket is empty and whose offset stands still for this long has been read. The other
/// kernel delivers what it holds at line speed; a gap this long within it would be a cut.
const DRAINED_AFTER: Duration = Duration::from_millis(3);
/// And this long if the other kernel has said how much it still delivers and that does not come.
const LAST_WORDS_AFTER: Duration = Duration::from_millis(100);

/// What steps work with.
#[derive(Debug, Clone)]
pub(crate) struct Workshop {
    pub(crate) server: Arc<Server>,
    pub(crate) credentials: Option<Credentials>,
    pub(crate) archive: Archive,
    pub(crate) manage: Manage,
    /// The peer's server as last stated, or as it is likely to be.
    pub(crate) peer_server: Option<SocketAddr>,
    /// Connections to the peer come from here.
    pub(crate) source: IpAddr,
}

/// Carries one step out. Never longer than the deadline by more than a moment.
pub(crate) async fn carry_out(
    workshop: Workshop,
    step: Step,
    deadline: Instant,
) -> Result<Outcome, StepError> {
    let work = do_step(&workshop, step, deadline);
    match tokio::time::timeout_at((deadline + Duration::from_millis(20)).into(), work).await {
        Ok(result) => result,
        Err(_) => Err(StepError {
            kind: StepErrorKind::TimedOut,
            text: "not done within its deadline".to_owned(),
        }),
    }
}

async fn do_step(workshop: &Workshop, step: Step, deadline: Instant) -> Result<Outcome, StepError> {
    match step {
        Step::Promote => {
            let link = workshop.link()?;
            let info = ops::promote(&link, deadline).await.map_err(op_error)?;
            // A pause from an earlier hand-over must not outlive the promotion.
            let _ = ops::unpause(&link, deadline).await;
            view(&info)
        }
        Step::Fence => {
            let link = workshop.link()?;
            let info = ops::fence(&link, deadline).await.map_err(op_error)?;
            // What a pause holds back is told that it was not executed, before its connection is closed.
            let _ = ops::unpause(&link, deadline).await;
            let _ = ops::kill_clients(&link, deadline).await;
            view(&info)
        }
        Step::Attach { address } => {
            let to = parse_address(&address)?;
            let link = workshop.link()?;
            let credentials = workshop.credentials.as_ref();
            let info = ops::attach(
                &link,
                &to.ip().to_string(),
                to.port(),
                credentials,
                deadline,
            )
            .await
            .map_err(op_error)?;
            workshop.server.look_now();
            view(&info)
        }
        Step::PauseWrites(time) => {
            let link = workshop.link()?;
            ops::pause_writes(&link, time, deadline)
                .await
                .map_err(op_error)?;
            view(&ops::info(&link, deadline).await.map_err(op_error)?)
        }
        Step::Unpause => {
            ops::unpause(&workshop.link()?, deadline)
                .await
                .map_err(op_error)?;
            Ok(Outcome::Done)
        }
        Step::WaitPeerOffset { address, offset } => {
            let target = workshop.remote(parse_address(&address)?);
            let link = Link::connect(&target, deadline).await.map_err(link_error)?;
            ops::wait_equal_offset(&link, offset.0, deadline)
                .await
                .map_err(op_error)?;
            Ok(Outcome::Done)
        }
        Step::Drain {
            offset,
            exact,
            last_words,
        } => drain(workshop, offset, exact, &last_words, deadline).await,
        Step::Probe => Ok(Outcome::Probed(probe(workshop, deadline).await)),
        Step::RemoteFence { lineage } => {
            let address = workshop
                .peer_server
                .ok_or_else(|| refused("no peer server known"))?;
            let local = workshop.link()?;
            match remote_fence(&workshop.remote(address), &local, &lineage, deadline).await {
                Ok(offset) => Ok(Outcome::RemoteFenced(Offset(offset))),
                Err(error) => {
                    let kind = match &error {
                        RemoteFenceError::Before { .. } | RemoteFenceError::Unrelated(_) => {
                            StepErrorKind::Refused
                        }
                        RemoteFenceError::Unconfirmed(_) => StepErrorKind::Broken,
                    };
                    Err(StepError {
                        kind,
                        text: error.to_string(),
                    })
                }
            }
        }
        Step::MeasureTail { from } => {
            let link = workshop.link()?;
            let target = &workshop.server.target;
            let bytes = workshop
                .archive
                .measure(&link, target, from, deadline)
                .await?;
            Ok(Outcome::Measured(bytes))
        }
        Step::ArchiveTail { from, epoch } => {
            let link = workshop.link()?;
            let target = &workshop.server.target;
            let saved = workshop
                .archive
                .save_tail(&link, target, from, &epoch, deadline)
                .await?;
            Ok(archived(saved))
        }
        Step::ArchiveRdb { epoch, why } => {
            let link = workshop.link()?;
            let target = &workshop.server.target;
            let saved = workshop
                .archive
                .save_rdb(&link, target, &epoch, &why, deadline)
                .await?;
            Ok(archived(saved))
        }
        Step::StartServer => {
            let manage = workshop.manage.clone();
            // systemctl and /etc/passwd may take their time.
            let started = tokio::task::spawn_blocking(move || super::spawn::start(&manage)).await;
            match started {
                Ok(Ok(())) => Ok(Outcome::Done),
                Ok(Err(error)) => Err(refused(&format!("{error:#}"))),
                Err(error) => Err(refused(&error.to_string())),
            }
        }
        Step::KillServer => {
            let process = workshop
                .server
                .process()
                .ok_or_else(|| refused("no process known"))?;
            let pid = rustix::process::Pid::from_raw(process.pid())
                .ok_or_else(|| refused("no process known"))?;
            rustix::process::kill_process(pid, rustix::process::Signal::KILL)
                .map_err(|error| refused(&error.to_string()))?;
            Ok(Outcome::Done)
        }
        Step::Journal(_)
        | Step::Quiesce(_)
        | Step::CloseFront { .. }
        | Step::OpenFront
        | Step::AddVip
        | Step::DropVip => Err(refused("not a step of the server's")),
    }
}

impl Workshop {
    fn link(&self) -> Result<Link, StepError> {
        self.server
            .link()
            .ok_or_else(|| refused("no connection to the local server"))
    }

    fn remote(&self, address: SocketAddr) -> Target {
        let source = (address.is_ipv4() == self.source.is_ipv4()).then_some(self.source);
        Target {
            address,
            source,
            credentials: self.credentials.clone(),
        }
    }
}

fn archived(saved: super::archive::Saved) -> Outcome {
    Outcome::Archived {
        commands: saved.receipt.as_ref().map_or(0, |receipt| receipt.commands),
        receipt: saved.receipt.map(|receipt| receipt.name),
        view: Box::new(saved.view),
    }
}

fn view(info: &ServerInfo) -> Result<Outcome, StepError> {
    ServerView::from_info(info)
        .map(|view| Outcome::View(Box::new(view)))
        .ok_or_else(|| StepError {
            kind: StepErrorKind::Broken,
            text: "INFO lacks what decisions rest on".to_owned(),
        })
}

fn refused(text: &str) -> StepError {
    StepError {
        kind: StepErrorKind::Refused,
        text: text.to_owned(),
    }
}

fn link_error(error: LinkError) -> StepError {
    let kind = match &error {
        LinkError::TimedOut { .. } => StepErrorKind::TimedOut,
        error if error.is_retry_safe() => StepErrorKind::Refused,
        LinkError::Refused
        | LinkError::Unreachable
        | LinkError::Closed { .. }
        | LinkError::Auth(_)
        | LinkError::Protocol(_)
        | LinkError::Local(_) => StepErrorKind::Broken,
    };
    StepError {
        kind,
        text: error.to_string(),
    }
}

fn parse_address(text: &str) -> Result<SocketAddr, StepError> {
    text.parse()
        .map_err(|_| refused(&format!("{text} is no address")))
}

/// One question over a fresh connection: an old one may be alive where the host is not reachable any more.
async fn probe(workshop: &Workshop, deadline: Instant) -> ProbeResult {
    let Some(address) = workshop.peer_server else {
        return ProbeResult::Silent;
    };
    let link = match Link::connect(&workshop.remote(address), deadline).await {
        Ok(link) => link,
        Err(LinkError::Refused) => return ProbeResult::Refused,
        Err(LinkError::Auth(_)) => return ProbeResult::AuthRefused,
        Err(_) => return ProbeResult::Silent,
    };
    match ops::info(&link, deadline).await {
        Ok(info) => ProbeResult::Answers {
            writable: ServerView::from_info(&info).is_some_and(|view| view.is_writable()),
        },
        Err(ops::OpError::Refused { class, .. }) if class.is_unmanageable() => {
            ProbeResult::AuthRefused
        }
        // It answered, if only with an error such as LOADING or BUSY.
        Err(ops::OpError::Refused { .. }) => ProbeResult::Answers { writable: true },
        Err(_) => ProbeResult::Silent,
    }
}

/// Reads what the other kernel still delivers (rule 6).
async fn drain(
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
