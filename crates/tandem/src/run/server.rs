//! The watch over the local server: one pipelined connection, its process, and proof of its death.
//!
//! PING goes out every tenth of `down_after`, INFO on a period of its own; one of each is under way at most,
//! so a frozen server is not buried in questions. What is seen is reported and not judged: silence, classes
//! and death are the detector's business.
//!
//! While nothing happens and the kernel would tell of a death, the connection rests: it asks by itself, and the group's loop
//! looks at when its server was last heard ([`Server::heard`]) whenever it wakes up for something else.

use std::net::IpAddr;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::PoisonError;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use tandem_core::answer::AnswerClass;
use tandem_core::health::{AnswerKind, DeathProof};
use tandem_core::info::ServerInfo;
use tandem_core::keeper::{Input, ServerEvent};
use tandem_core::server::{ServerRole, ServerView};
use tandem_core::statement::{LAST_WORDS_MAX, LastWords};
use tandem_resp::{Command, Value};
use tokio::sync::{Notify, mpsc};

use super::group::Event;
use crate::linux::alarm::Alarm;
use crate::linux::proc::{DeathProof as KernelProof, Process, Watch};
use crate::linux::sockdiag::SocketDiag;
use crate::redis::client::Link;
use crate::redis::error::LinkError;
use crate::redis::raw::Target;
use crate::redis::rest::{Heard, News, Noticed, Rest};

/// INFO period while nothing happens.
const INFO_EVERY: Duration = Duration::from_millis(500);
/// INFO period while the server follows another: a link that broke has to be seen before the server finds
/// somebody else at the same address, and Redis tries again every second (rule 18).
const INFO_FOLLOWING: Duration = Duration::from_millis(100);
/// INFO period while a change of role is under way.
const INFO_BUSY: Duration = Duration::from_millis(20);
/// A PING that is this late makes us look at the process (rule 3).
const LATE_AFTER: Duration = Duration::from_millis(5);
/// An answer is waited for this long; a frozen server may still give it when it thaws.
const ANSWER_WITHIN: Duration = Duration::from_secs(60);
/// Between attempts to connect.
const RECONNECT_AFTER: Duration = Duration::from_millis(20);
/// A process that is killed ends its last system call within this, or its last words are not waited for.
const STILL_WITHIN: Duration = Duration::from_millis(20);
/// Between looks until then.
const STILL_LOOK: Duration = Duration::from_millis(1);
/// Bound on connecting to a local server.
const CONNECT_WITHIN: Duration = Duration::from_secs(1);

/// What steps share with the watch.
#[derive(Debug)]
pub(crate) struct Server {
    /// Where it is and how to be let in.
    pub(crate) target: Target,
    link: Mutex<Option<Link>>,
    process: Mutex<Option<Process>>,
    /// Where the server is that would take its place.
    successor: Mutex<Option<IpAddr>>,
    heard: Heard,
    /// Whoever listens looks at `heard`, and need not be told of every PONG.
    may_rest: AtomicBool,
    busy: AtomicBool,
    look: Notify,
}

impl Server {
    /// A server that has not been looked at.
    pub(crate) fn new(target: Target) -> Arc<Self> {
        Arc::new(Self {
            target,
            link: Mutex::new(None),
            process: Mutex::new(None),
            successor: Mutex::new(None),
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

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
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

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Ended {
    Closed,
    Died,
}

struct Reporter {
    events: mpsc::Sender<Event>,
}

impl Reporter {
    async fn send(&self, event: ServerEvent) {
        let _ = self.events.send(Event::Input(Input::Server(event))).await;
    }
}

/// Asks over one connection until it ends or the process dies.
async fn attend(server: &Server, link: &Link, down_after: Duration, reporter: &Reporter) -> Ended {
    let ping_every = (down_after / 10).max(Duration::from_millis(2));
    let mut ping_at = Instant::now();
    let mut info_at = Instant::now();
    let mut stop_writes = true;
    let mut following = false;
    let mut watch: Option<Dying> = None;
    let mut ping: Option<Asking> = None;
    let mut info: Option<Asking> = None;
    let mut alarm = Alarm::new();
    if let Ok(Value::Array(pair)) = link
        .call(
            &["CONFIG", "GET", "stop-writes-on-bgsave-error"],
            Instant::now() + CONNECT_WITHIN,
        )
        .await
    {
        stop_writes = pair.get(1).and_then(Value::as_bytes) != Some(b"no");
    }
    // No rest until an answer has come in time again.
    let mut missed = false;
    loop {
        let now = Instant::now();
        let busy = server.busy.load(Ordering::Relaxed);
        let under_way = ping.is_some() || info.is_some();
        if server.may_rest.load(Ordering::Relaxed)
            && watch.is_some()
            && !busy
            && !missed
            && !under_way
        {
            let rest = Rest {
                every: ping_every,
                ping_at,
                info_at,
                heard: server.heard.clone(),
            };
            tokio::select! {
                biased;
                proof = died(watch.as_mut()) => return dead(server, proof, reporter).await,
                _ = link.closed() => return closed(server, reporter).await,
                () = server.look.notified() => info_at = Instant::now(),
                news = link.rest(rest) => {
                    let Some(News { what, ping_at: next }) = news else {
                        return closed(server, reporter).await;
                    };
                    ping_at = next;
                    match what {
                        // We were away ourselves: what it says is of another time.
                        Noticed::Info(_, asked) if asked.elapsed() > 3 * ping_every => {
                            info_at = Instant::now();
                        }
                        Noticed::Info(value, asked) => {
                            info_at = asked + info_period(false, following);
                            let came = Some(asked);
                            let role =
                                report_info(server, &value, came, stop_writes, &mut watch, reporter)
                                    .await;
                            following = role.is_some_and(|role| role != ServerRole::Primary);
                        }
                        Noticed::Odd(value, asked) => {
                            reporter.send(answer_event(kind_of(&value), Some(asked))).await;
                        }
                        Noticed::Missing => missed = true,
                    }
                }
            }
            continue;
        }
        if ping.is_none() && now >= ping_at {
            ping = Some(Asking::start(link, Command::new("PING")));
            ping_at = now + ping_every;
            // Both questions in one packet and both answers in one: each wake-up of an idle daemon costs.
            if info_at <= now + ping_every / 2 {
                info_at = now;
            }
        }
        if info.is_none() && now >= info_at {
            info = Some(Asking::start(link, Command::new("INFO")));
            info_at = now + info_period(busy, following);
        }
        // Whatever is late is a reason to look at the process.
        let late_at = ping.as_ref().map(|asking| asking.look_at);
        let mut wake = ping_at.max(now);
        if ping.is_some() {
            wake = late_at.unwrap_or(wake);
        }
        if info.is_none() {
            wake = wake.min(info_at);
        }
        tokio::select! {
            biased;
            proof = died(watch.as_mut()) => return dead(server, proof, reporter).await,
            answer = answered(ping.as_mut()) => {
                ping = None;
                match answer {
                    Ok(value) => {
                        missed = false;
                        reporter.send(answer_event(kind_of(&value), None)).await;
                    }
                    Err(_) if link.is_closed() => return closed(server, reporter).await,
                    Err(_) => {}
                }
            }
            answer = answered(info.as_mut()) => {
                info = None;
                match answer {
                    Ok(value) => {
                        let role =
                            report_info(server, &value, None, stop_writes, &mut watch, reporter)
                                .await;
                        following = role.is_some_and(|role| role != ServerRole::Primary);
                    }
                    Err(_) if link.is_closed() => return closed(server, reporter).await,
                    Err(_) => {}
                }
            }
            _ = link.closed() => return closed(server, reporter).await,
            () = server.look.notified() => info_at = Instant::now(),
            () = alarm.at(wake) => {
                if let Some(asking) = &mut ping
                    && Instant::now() >= asking.look_at
                {
                    asking.look_at = Instant::now() + LATE_AFTER;
                    let over = server
                        .process()
                        .is_some_and(|p| p.check_now().is_ok_and(|life| life.is_over()));
                    if over {
                        return dead(server, KernelProof::Exiting, reporter).await;
                    }
                }
            }
        }
    }
}

fn info_period(busy: bool, following: bool) -> Duration {
    match (busy, following) {
        (true, _) => INFO_BUSY,
        (false, true) => INFO_FOLLOWING,
        (false, false) => INFO_EVERY,
    }
}

/// The kernel has proven the death.
async fn dead(server: &Server, proof: KernelProof, reporter: &Reporter) -> Ended {
    let proof = match proof {
        KernelProof::Exited => DeathProof::Exited,
        KernelProof::Exiting => DeathProof::Exiting,
    };
    tell_death(server, proof, reporter).await;
    Ended::Died
}

async fn tell_death(server: &Server, proof: DeathProof, reporter: &Reporter) {
    let words = last_words(server).await.unwrap_or_default();
    reporter.send(ServerEvent::LastWords(words)).await;
    reporter.send(ServerEvent::Dead(proof)).await;
}

/// The connection ended: dead if the process is, else only a reason to ask again.
async fn closed(server: &Server, reporter: &Reporter) -> Ended {
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
    let until = Instant::now() + STILL_WITHIN;
    while let Some(process) = server.process()
        && !process.check_now().ok()?.is_still()
    {
        if Instant::now() >= until {
            return None;
        }
        tokio::time::sleep(STILL_LOOK).await;
    }
    let mut diag = SocketDiag::open().ok()?;
    let port = server.target.address.port();
    let sockets = diag.list_between(port, successor).ok()?;
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

/// One question under way.
struct Asking {
    answer: std::pin::Pin<Box<dyn Future<Output = Result<Value, LinkError>> + Send>>,
    look_at: Instant,
}

impl Asking {
    fn start(link: &Link, command: Command) -> Self {
        let link = link.clone();
        let now = Instant::now();
        let answer = Box::pin(async move { link.ask(command, now + ANSWER_WITHIN).await });
        Self {
            answer,
            look_at: now + LATE_AFTER,
        }
    }
}

async fn answered(asking: Option<&mut Asking>) -> Result<Value, LinkError> {
    match asking {
        Some(asking) => asking.answer.as_mut().await,
        None => std::future::pending().await,
    }
}

/// The wait for the process' death, kept over all turns of the loop: begun anew it would read `/proc` each time.
type Dying = std::pin::Pin<Box<dyn Future<Output = KernelProof> + Send>>;

async fn died(watch: Option<&mut Dying>) -> KernelProof {
    match watch {
        Some(watch) => watch.as_mut().await,
        None => std::future::pending().await,
    }
}

async fn exited(mut watch: Watch) -> KernelProof {
    match watch.exited().await {
        Ok(proof) => proof,
        Err(error) => {
            tracing::warn!("the server's process cannot be watched any more: {error}");
            std::future::pending().await
        }
    }
}

fn kind_of(value: &Value) -> AnswerKind {
    match value.as_error() {
        None => AnswerKind::Fine,
        Some(text) => match AnswerClass::of_error(text) {
            AnswerClass::Loading => AnswerKind::Loading,
            AnswerClass::Busy => AnswerKind::Busy,
            AnswerClass::Misconf => AnswerKind::Misconf,
            class if class.is_unmanageable() => AnswerKind::Auth,
            _ => AnswerKind::Fine,
        },
    }
}

/// An answer that came just now, or one that came at this time or later.
fn answer_event(kind: AnswerKind, came: Option<Instant>) -> ServerEvent {
    match came {
        Some(at) => ServerEvent::Earlier(kind, at),
        None => ServerEvent::Answer(kind),
    }
}

/// Reports a reading; its role, if it was one.
async fn report_info(
    server: &Server,
    value: &Value,
    came: Option<Instant>,
    stop_writes: bool,
    watch: &mut Option<Dying>,
    reporter: &Reporter,
) -> Option<ServerRole> {
    if value.as_error().is_some() {
        reporter.send(answer_event(kind_of(value), came)).await;
        return None;
    }
    let text = value.as_bytes()?;
    let info = ServerInfo::parse(&String::from_utf8_lossy(text));
    let view = ServerView::from_info(&info)?;
    let role = view.role.clone();
    if watch.is_none() {
        *watch = begin_watch(server, view.pid);
    }
    let disk_fails = info.aof_last_write_ok == Some(false)
        || (stop_writes && info.rdb_last_bgsave_ok == Some(false));
    let kind = if view.loading {
        AnswerKind::Loading
    } else if disk_fails {
        AnswerKind::Misconf
    } else {
        AnswerKind::Fine
    };
    reporter.send(answer_event(kind, came)).await;
    reporter.send(ServerEvent::View(Box::new(view))).await;
    Some(role)
}

fn begin_watch(server: &Server, pid: u32) -> Option<Dying> {
    let pid = i32::try_from(pid).ok()?;
    let process = Process::with_pid(pid).ok().flatten()?;
    *lock(&server.process) = Some(process);
    match Watch::new(process) {
        Ok(watch) => Some(Box::pin(exited(watch))),
        Err(error) => {
            tracing::warn!(
                "the server's process {pid} cannot be watched ({error}): its death is seen by \
                 its connection and by silence only"
            );
            None
        }
    }
}
