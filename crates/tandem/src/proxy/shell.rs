//! The loop around the threads that carry requests: signals, the ports of the statistics, a changed file, the end.
//!
//! Nothing here touches a request. What takes long (a name server, a drain) delays statistics and signals at most.

use std::future::pending;
use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::engine::Running;
use jiff::Timestamp;
use tandem_proxy::settings::Pool;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::oneshot;

use super::log::Log;
use super::options::RunOptions;
use super::serve::Port;
use super::stats::{self, Moment};
use super::{DONE, FAILED, change, load};

/// How long TERM lets requests finish.
const DRAIN_WITHIN: Duration = Duration::from_secs(5);

/// The signals that mean something to nutcracker, and TERM, which here means something too.
pub(super) struct Signals {
    interrupt: Signal,
    terminate: Signal,
    hang_up: Signal,
    user1: Signal,
    user2: Signal,
    louder: Signal,
    quieter: Signal,
}

impl Signals {
    /// Takes them over from the kernel's defaults. Needs a runtime.
    pub(super) fn new() -> io::Result<Self> {
        Ok(Self {
            interrupt: signal(SignalKind::interrupt())?,
            terminate: signal(SignalKind::terminate())?,
            hang_up: signal(SignalKind::hangup())?,
            user1: signal(SignalKind::user_defined1())?,
            user2: signal(SignalKind::user_defined2())?,
            louder: signal(SignalKind::from_raw(libc::SIGTTIN))?,
            quieter: signal(SignalKind::from_raw(libc::SIGTTOU))?,
        })
    }
}

/// The process while it serves.
pub(super) struct Shell {
    options: RunOptions,
    log: Log,
    /// What is served now.
    pools: Vec<Pool>,
    running: Arc<Running>,
    stats: Port,
    metrics: Option<Port>,
    source: String,
    started: Instant,
}

impl Shell {
    pub(super) fn new(
        options: RunOptions,
        log: Log,
        pools: Vec<Pool>,
        running: Running,
        stats: Port,
        metrics: Option<Port>,
    ) -> Self {
        Self {
            options,
            log,
            pools,
            running: Arc::new(running),
            stats,
            metrics,
            source: host_name(),
            started: Instant::now(),
        }
    }

    /// Serves until a signal ends it; the exit code. Needs a [`tokio::task::LocalSet`].
    pub(super) async fn live(mut self, mut signals: Signals) -> u8 {
        let mut drained: Option<oneshot::Receiver<()>> = None;
        loop {
            tokio::select! {
                biased;
                _ = signals.interrupt.recv() => {
                    self.log.notice("signal 2 (SIGINT) received, ending at once");
                    return FAILED;
                }
                _ = signals.terminate.recv() => {
                    if drained.is_some() {
                        self.log.notice("signal 15 (SIGTERM) received again, ending at once");
                        return FAILED;
                    }
                    self.log.notice("signal 15 (SIGTERM) received, letting requests finish");
                    drained = Some(self.drain());
                }
                () = until(&mut drained) => return DONE,
                _ = signals.hang_up.recv() => {
                    self.log.notice("signal 1 (SIGHUP) received, reopening log file");
                    self.log.reopen();
                }
                _ = signals.louder.recv() => {
                    let level = self.log.up();
                    self.log.error(&format!("signal 21 (SIGTTIN) received, up log level to {level}"));
                }
                _ = signals.quieter.recv() => {
                    let level = self.log.down();
                    self.log.error(&format!("signal 22 (SIGTTOU) received, down log level to {level}"));
                }
                _ = signals.user1.recv() => {
                    if drained.is_none() {
                        self.read_again();
                    }
                }
                _ = signals.user2.recv() => self.log.notice("signal 12 (SIGUSR2) received"),
                talk = self.stats.next() => {
                    let text = stats::object(&self.moment(), &self.running.statistics());
                    tokio::task::spawn_local(talk.tell(text));
                }
                talk = next(self.metrics.as_ref()) => {
                    let text = stats::metrics(&self.moment(), &self.running.statistics());
                    tokio::task::spawn_local(talk.answer(text));
                }
            }
        }
    }

    fn moment(&self) -> Moment {
        Moment {
            source: self.source.clone(),
            uptime_s: self.started.elapsed().as_secs(),
            timestamp_s: Timestamp::now().as_second(),
        }
    }

    /// SIGUSR1. Whatever is wrong, what is served stays as it is.
    fn read_again(&mut self) {
        let conf = self.options.conf.display();
        self.log.notice(&format!(
            "signal 10 (SIGUSR1) received, reading {conf} again"
        ));
        let (pools, warnings) = match load::load(&self.options.conf) {
            Ok(loaded) => loaded,
            Err(refused) => {
                for line in refused.lines() {
                    self.log.error(&line);
                }
                self.log
                    .error(&format!("{conf} is refused; nothing was changed"));
                return;
            }
        };
        for warning in warnings {
            self.log.warning(&warning);
        }
        if pools == self.pools {
            self.log.notice("nothing in it has changed");
            return;
        }
        let moves = change::moves(&self.pools, &pools);
        for moved in &moves {
            self.log.warning(&moved.to_string());
        }
        if !moves.is_empty() && !self.options.accept_move {
            self.log.error(&format!("{conf} is refused because it moves keys; nothing was changed. Without --accept-move a restart is what applies it"));
            return;
        }
        match self.running.reload(pools.clone()) {
            Ok(()) => {
                self.pools = pools;
                self.log.notice(&format!("{conf} is applied"));
            }
            Err(error) => self.log.error(&format!(
                "{conf} is not applied: {error}; nothing was changed"
            )),
        }
    }

    /// On a thread of its own: a second signal must find us awake.
    fn drain(&self) -> oneshot::Receiver<()> {
        let (done, drained) = oneshot::channel();
        let running = Arc::clone(&self.running);
        let spawned = std::thread::Builder::new()
            .name("drain".to_owned())
            .spawn(move || {
                running.drain(DRAIN_WITHIN);
                // The loop may have ended meanwhile.
                let _ = done.send(());
            });
        if let Err(error) = spawned {
            // The sender is dropped with the closure, which ends the loop.
            self.log.error(&format!("requests cannot finish: {error}"));
        }
        drained
    }
}

/// The end of the drain, if one has begun.
async fn until(drained: &mut Option<oneshot::Receiver<()>>) {
    match drained {
        Some(drained) => {
            // An error is the end of the draining thread too.
            let _ = drained.await;
        }
        None => pending().await,
    }
}

async fn next(port: Option<&Port>) -> super::serve::Talk {
    match port {
        Some(port) => port.next().await,
        None => pending().await,
    }
}

fn host_name() -> String {
    let name = rustix::system::uname();
    name.nodename().to_string_lossy().into_owned()
}
