//! The loop around the threads that carry requests: signals, the ports of the statistics, a changed file, the end.
//!
//! Nothing here touches a request. What takes long (a name server, a drain) delays statistics and signals at most.

use std::future::pending;
use std::io;
use std::time::{Duration, Instant};

use jiff::Timestamp;
use serde_json::{Value, json};
use tandem_proxy::server::{Notice, Notices, Running};
use tandem_proxy::settings::Pool;
use tandem_proxy::statistics::PoolStatistics;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::{mpsc, oneshot};

use super::control::{Ask, Question};
use super::log::Log;
use super::options::RunOptions;
use super::serve::Port;
use super::stats::{self, Moment};
use super::{DONE, FAILED, change, load, status};

/// How long TERM lets requests finish.
const DRAIN_WITHIN: Duration = Duration::from_secs(5);
/// How long a reload waits for the threads before it says that it is applied.
const TAKEN_WITHIN: Duration = Duration::from_millis(200);

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

/// What carries requests.
enum Engine {
    Serving(Running),
    /// It lets requests finish, on a thread that waits for it. The numbers are those of the moment before.
    Draining {
        last: Vec<PoolStatistics>,
        ended: oneshot::Receiver<()>,
    },
}

impl Engine {
    fn statistics(&self) -> Vec<PoolStatistics> {
        match self {
            Self::Serving(running) => running.statistics(),
            Self::Draining { last, .. } => last.clone(),
        }
    }

    /// The end of the drain, if one has begun.
    async fn ended(&mut self) {
        match self {
            Self::Serving(_) => pending().await,
            // An error is the end of the waiting thread too.
            Self::Draining { ended, .. } => drop(ended.await),
        }
    }

    /// Begins to drain. The waiting is done on a thread of its own: a second signal must find us awake.
    fn drain(self) -> Self {
        let running = match self {
            Self::Serving(running) => running,
            draining @ Self::Draining { .. } => return draining,
        };
        let last = running.statistics();
        let (done, ended) = oneshot::channel();
        running.drain(DRAIN_WITHIN);
        // Without a thread the sender is dropped with the closure, which ends the loop at once.
        let _ = std::thread::Builder::new()
            .name("drain".to_owned())
            .spawn(move || {
                running.join();
                // The loop may have ended meanwhile.
                let _ = done.send(());
            });
        Self::Draining { last, ended }
    }
}

/// What threads have to say, and where it comes out. There is no more of it than that they have ended.
pub(super) fn notices() -> (Notices, mpsc::Receiver<(usize, Notice)>) {
    let (said, heard) = mpsc::channel(16);
    let notices = Notices::new(move |thread, notice| {
        // The loop may have ended.
        let _ = said.try_send((thread, notice));
    });
    (notices, heard)
}

/// The process while it serves.
pub(super) struct Shell {
    options: RunOptions,
    log: Log,
    /// What is served now.
    pools: Vec<Pool>,
    stats: Port,
    metrics: Option<Port>,
    asked: Option<mpsc::Receiver<Ask>>,
    source: String,
    started: Instant,
}

impl Shell {
    pub(super) fn new(
        options: RunOptions,
        log: Log,
        pools: Vec<Pool>,
        stats: Port,
        metrics: Option<Port>,
        asked: Option<mpsc::Receiver<Ask>>,
    ) -> Self {
        Self {
            options,
            log,
            pools,
            stats,
            metrics,
            asked,
            source: host_name(),
            started: Instant::now(),
        }
    }

    /// Serves until a signal ends it; the exit code. Needs a [`tokio::task::LocalSet`].
    pub(super) async fn live(
        mut self,
        running: Running,
        mut signals: Signals,
        mut threads: mpsc::Receiver<(usize, Notice)>,
    ) -> u8 {
        let observer = running.observer();
        let mut engine = Engine::Serving(running);
        loop {
            tokio::select! {
                biased;
                _ = signals.interrupt.recv() => {
                    self.log.notice("signal 2 (SIGINT) received, ending at once");
                    return FAILED;
                }
                _ = signals.terminate.recv() => {
                    if matches!(engine, Engine::Draining { .. }) {
                        self.log.notice("signal 15 (SIGTERM) received again, ending at once");
                        return FAILED;
                    }
                    self.log.notice("signal 15 (SIGTERM) received, letting requests finish");
                    engine = engine.drain();
                }
                () = engine.ended() => return DONE,
                Some((thread, notice)) = threads.recv() => match notice {
                    Notice::Ended(why) => {
                        // Its clients are gone; whoever supervises this starts all of it again.
                        self.log.error(&format!("thread {thread} has ended: {why}"));
                        return FAILED;
                    }
                    // Only of servers that follow a group, or are a cluster's.
                    Notice::Quiet { .. } | Notice::Remap { .. } | Notice::Stalled => {}
                },
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
                _ = signals.user1.recv() => match &engine {
                    Engine::Serving(running) => {
                        let accept = self.options.accept_move;
                        self.read_again(running, "signal 10 (SIGUSR1) received", accept);
                    }
                    Engine::Draining { .. } => self.log.notice("signal 10 (SIGUSR1) received, and the end is near"),
                },
                _ = signals.user2.recv() => self.log.notice("signal 12 (SIGUSR2) received"),
                Some(Ask { question, answer }) = asked(&mut self.asked) => {
                    let value = match (question, &engine) {
                        (Question::Status, _) => status::value(&observer.status()),
                        (Question::Reload { accept_move }, Engine::Serving(running)) => {
                            let accept = accept_move || self.options.accept_move;
                            self.read_again(running, "reload asked for", accept)
                        }
                        (Question::Reload { .. }, Engine::Draining { .. }) => {
                            outcome(false, "the process is about to end".to_owned())
                        }
                    };
                    // Whoever asked may have gone.
                    let _ = answer.send(value);
                }
                talk = self.stats.next() => {
                    let text = stats::object(&self.moment(), &engine.statistics());
                    tokio::task::spawn_local(talk.tell(text));
                }
                talk = next(self.metrics.as_ref()) => {
                    let mut text = stats::metrics(&self.moment(), &engine.statistics());
                    text.push_str(&status::metrics(&observer.status()));
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

    /// SIGUSR1, or the same over the control socket. Whatever is wrong, what is served stays as it is.
    fn read_again(&mut self, running: &Running, asked: &str, accept: bool) -> Value {
        let conf = self.options.conf.display();
        self.log.notice(&format!("{asked}, reading {conf} again"));
        let (pools, warnings) = match load::load(&self.options.conf) {
            Ok(loaded) => loaded,
            Err(refused) => {
                for line in refused.lines() {
                    self.log.error(&line);
                }
                let text = format!("{conf} is refused; nothing was changed");
                self.log.error(&text);
                let lines = refused.lines().join("\n");
                return outcome(false, format!("{lines}\n{text}"));
            }
        };
        for warning in warnings {
            self.log.warning(&warning);
        }
        if pools == self.pools {
            let text = "nothing in it has changed".to_owned();
            self.log.notice(&text);
            return outcome(true, text);
        }
        let moves = change::moves(&self.pools, &pools);
        for moved in &moves {
            self.log.warning(&moved.to_string());
        }
        if !moves.is_empty() && !accept {
            let text = format!(
                "{conf} is refused because it moves keys; nothing was changed. Without --accept-move a restart is what applies it"
            );
            self.log.error(&text);
            let moves: Vec<String> = moves.iter().map(ToString::to_string).collect();
            return outcome(false, format!("{}\n{text}", moves.join("\n")));
        }
        match running.reload(pools.clone()) {
            Ok(taken) => {
                // Statistics may wait for so long. A thread that is later than that takes it over when it comes round.
                let _ = taken.wait(TAKEN_WITHIN);
                let text = format!("{conf} is applied");
                self.log.notice(&text);
                self.pools = pools;
                outcome(true, text)
            }
            Err(error) => {
                let text = format!("{conf} is not applied: {error}; nothing was changed");
                self.log.error(&text);
                outcome(false, text)
            }
        }
    }
}

fn outcome(done: bool, text: String) -> Value {
    json!({ "outcome": if done { "done" } else { "failed" }, "text": text })
}

async fn asked(asks: &mut Option<mpsc::Receiver<Ask>>) -> Option<Ask> {
    match asks {
        Some(asks) => asks.recv().await,
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
