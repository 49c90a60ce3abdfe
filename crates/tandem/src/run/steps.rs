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
use tandem_core::server::ServerView;

use super::archive::{Archive, op_error};
use super::drain::drain;
use super::server::Server;
use crate::redis::client::Link;
use crate::redis::error::LinkError;
use crate::redis::fence::{RemoteFenceError, remote_fence};
use crate::redis::ops;
use crate::redis::raw::{Credentials, Target};

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
    pub(super) fn link(&self) -> Result<Link, StepError> {
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

pub(super) fn refused(text: &str) -> StepError {
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
