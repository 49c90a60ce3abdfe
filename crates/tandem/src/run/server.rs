//! The local server as the rest of the daemon knows it, from one connection and one process to the next, and how its death is
//! told. Who asks over a connection is [`super::attend`].

use std::net::IpAddr;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::PoisonError;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use tandem_core::health::{AnswerKind, DeathProof};
use tandem_core::keeper::{Input, ServerEvent};
use tandem_core::statement::{LAST_WORDS_MAX, LastWords};
use tokio::sync::{Notify, mpsc};

use super::attend::attend;
use super::group::Event;
use super::streams::Streams;
use crate::linux::proc::{DeathProof as KernelProof, Process};
use crate::linux::sockdiag::SocketDiag;
use crate::redis::client::Link;
use crate::redis::error::LinkError;
use crate::redis::raw::Target;
use crate::redis::rest::Heard;

/// Between attempts to connect.
const RECONNECT_AFTER: Duration = Duration::from_millis(20);
/// A process that is killed ends its last system call within this, or its last words are not waited for.
const STILL_WITHIN: Duration = Duration::from_millis(20);
/// It is as a rule within this, and looks follow each other as fast as the loop lets them: tokio's timer would round a wait up
/// to two milliseconds, in which nobody serves.
const STILL_EAGER: Duration = Duration::from_millis(1);
/// Between later looks.
const STILL_LOOK: Duration = Duration::from_millis(1);
/// Bound on connecting to a local server.
pub(super) const CONNECT_WITHIN: Duration = Duration::from_secs(1);

/// What steps share with the watch.
#[derive(Debug)]
pub(crate) struct Server {
    /// Where it is and how to be let in.
    pub(crate) target: Target,
    link: Mutex<Option<Link>>,
    pub(super) process: Mutex<Option<Process>>,
    /// Where the server is that would take its place.
    successor: Mutex<Option<IpAddr>>,
    pub(super) streams: Streams,
    pub(super) heard: Heard,
    /// Whoever listens looks at `heard`, and need not be told of every PONG.
    pub(super) may_rest: AtomicBool,
    pub(super) busy: AtomicBool,
    pub(super) look: Notify,
}

impl Server {
    /// A server that has not been looked at.
    pub(crate) fn new(target: Target) -> Arc<Self> {
        Arc::new(Self {
            target,
            link: Mutex::new(None),
            process: Mutex::new(None),
            successor: Mutex::new(None),
            streams: Streams::default(),
            heard: Heard::default(),
            may_rest: AtomicBool::new(false),
            busy: AtomicBool::new(false),
            look: Notify::new(),
        })
    }

    /// The connection, while there is one.
    pub(crate) fn link(&self) -> Option<Link> {
        lock(&self.link).clone().filter(|link| !link.is_closed())
    }

    /// The process, once it is known.
    pub(crate) fn process(&self) -> Option<Process> {
        *lock(&self.process)
    }

    /// The other server of the group is there.
    pub(crate) fn set_successor(&self, address: IpAddr) {
        *lock(&self.successor) = Some(address);
    }

    /// It answered at this time or later, and has not been taken for it yet.
    pub(crate) fn heard(&self) -> Option<Instant> {
        self.heard.take()
    }

    /// Whoever says so looks at [`Server::heard`] before anything that depends on time, and need not be told of every PONG.
    pub(crate) fn set_rest(&self, rest: bool) {
        if self.may_rest.swap(rest, Ordering::Relaxed) != rest && !rest {
            self.look.notify_one();
        }
    }

    /// Look more often while a change of role is under way.
    pub(crate) fn set_busy(&self, busy: bool) {
        if self.busy.swap(busy, Ordering::Relaxed) != busy && busy {
            self.look.notify_one();
        }
    }

    /// Read INFO now.
    pub(crate) fn look_now(&self) {
        self.look.notify_one();
    }
}

pub(super) fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Watches until the group is gone.
pub(crate) async fn watch(server: Arc<Server>, down_after: Duration, events: mpsc::Sender<Event>) {
    let reporter = Reporter { events };
    loop {
        if reporter.events.is_closed() {
            return;
        }
        match Link::connect(&server.target, Instant::now() + CONNECT_WITHIN).await {
            Ok(link) => {
                *lock(&server.link) = Some(link.clone());
                let ended = attend(&server, &link, down_after, &reporter).await;
                *lock(&server.link) = None;
                if ended == Ended::Died {
                    // Its successor will be somebody else.
                    *lock(&server.process) = None;
                    tokio::time::sleep(RECONNECT_AFTER).await;
                }
                // A closed connection alone is no proof: ask again at once.
            }
            Err(error) => {
                refused(&server, &error, &reporter).await;
                tokio::time::sleep(RECONNECT_AFTER).await;
            }
        }
    }
}

async fn refused(server: &Server, error: &LinkError, reporter: &Reporter) {
    match error {
        LinkError::Refused => {
            if let Some(process) = server.process()
                && process.check_now().is_ok_and(|life| life.is_over())
            {
                *lock(&server.process) = None;
                tell_death(server, DeathProof::RefusedAndGone, reporter).await;
            }
        }
        LinkError::Auth(_) => reporter.send(ServerEvent::Answer(AnswerKind::Auth)).await,
        LinkError::TimedOut { .. }
        | LinkError::Closed { .. }
        | LinkError::Unreachable
        | LinkError::Protocol(_)
        | LinkError::Local(_) => {}
    }
}

/// How the watch over one connection ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Ended {
    /// The connection is closed, and the process lives as far as is known.
    Closed,
    /// The process has died, and that was told.
    Died,
}

/// The group's loop, for those who watch.
pub(super) struct Reporter {
    events: mpsc::Sender<Event>,
}

impl Reporter {
    pub(super) async fn send(&self, event: ServerEvent) {
        let _ = self.events.send(Event::Input(Input::Server(event))).await;
    }
}

/// The kernel has proven the death.
pub(super) async fn dead(server: &Server, proof: KernelProof, reporter: &Reporter) -> Ended {
    let proof = match proof {
        KernelProof::Exited => DeathProof::Exited,
        KernelProof::Exiting => DeathProof::Exiting,
    };
    tell_death(server, proof, reporter).await;
    Ended::Died
}

async fn tell_death(server: &Server, proof: DeathProof, reporter: &Reporter) {
    let words = last_words(server).await.unwrap_or_default();
    server.streams.forget();
    reporter.send(ServerEvent::LastWords(words)).await;
    reporter.send(ServerEvent::Dead(proof)).await;
}

/// The connection ended: dead if the process is, else only a reason to ask again.
pub(super) async fn closed(server: &Server, reporter: &Reporter) -> Ended {
    let over = server
        .process()
        .is_some_and(|p| p.check_now().is_ok_and(|life| life.is_over()));
    if over {
        dead(server, KernelProof::Exited, reporter).await
    } else {
        Ended::Closed
    }
}

/// What this host's kernel had been given by the dead server for its successor: told before the death, so that the other side
/// reads all of it before it promotes. None if that cannot be known.
///
/// The process must have made its last system call. Acknowledgements are of no use: a kernel delays its own by 40 ms.
async fn last_words(server: &Server) -> Option<Vec<LastWords>> {
    let successor = (*lock(&server.successor))?;
    let since = Instant::now();
    while let Some(process) = server.process()
        && !process.check_now().ok()?.is_still()
    {
        let waited = since.elapsed();
        if waited >= STILL_WITHIN {
            return None;
        }
        if waited < STILL_EAGER {
            tokio::task::yield_now().await;
        } else {
            tokio::time::sleep(STILL_LOOK).await;
        }
    }
    let mut diag = SocketDiag::open().ok()?;
    let sockets = match server.streams.downstream(&mut diag, successor) {
        Some(sockets) => sockets,
        // Its replica has come anew, or was never there.
        None => {
            let port = server.target.address.port();
            diag.list_between(port, successor).ok()?
        }
    };
    if sockets.len() > LAST_WORDS_MAX {
        return None;
    }
    let words = sockets.iter().map(|socket| {
        Some(LastWords {
            port: socket.remote.port(),
            bytes: socket.carried?.given,
        })
    });
    words.collect()
}
