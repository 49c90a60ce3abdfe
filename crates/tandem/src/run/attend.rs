//! The watch over one connection to the local server, and over its process.
//!
//! PING goes out every tenth of `down_after`, INFO on a period of its own; one of each is under way at most,
//! so a frozen server is not buried in questions. What is seen is reported and not judged: silence, classes
//! and death are the detector's business.
//!
//! While nothing happens and the kernel would tell of a death, the connection rests: it asks by itself, and the group's loop
//! looks at when its server was last heard ([`Server::heard`]) whenever it wakes up for something else.

use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use tandem_core::answer::AnswerClass;
use tandem_core::health::AnswerKind;
use tandem_core::info::ServerInfo;
use tandem_core::keeper::ServerEvent;
use tandem_core::server::{ServerRole, ServerView};
use tandem_resp::{Command, Value};

use super::server::{CONNECT_WITHIN, Ended, Reporter, Server, closed, dead, lock};
use super::streams::Sign;
use crate::linux::alarm::Alarm;
use crate::linux::proc::{DeathProof as KernelProof, Process, Watch};
use crate::redis::client::Link;
use crate::redis::error::LinkError;
use crate::redis::rest::{LinkLook, News, Noticed, Rest};

/// INFO period while nothing happens.
const INFO_EVERY: Duration = Duration::from_millis(500);
/// INFO period while the server follows another: a link that broke has to be seen before the server finds
/// somebody else at the same address, and Redis tries again every second (rule 18). In a rest ROLE says as much.
const INFO_FOLLOWING: Duration = Duration::from_millis(100);
/// INFO period while a change of role is under way.
const INFO_BUSY: Duration = Duration::from_millis(20);
/// A PING that is this late makes us look at the process (rule 3).
const LATE_AFTER: Duration = Duration::from_millis(5);
/// An answer is waited for this long; a frozen server may still give it when it thaws.
const ANSWER_WITHIN: Duration = Duration::from_secs(60);

/// Asks over one connection until it ends or the process dies.
pub(super) async fn attend(
    server: &Server,
    link: &Link,
    down_after: Duration,
    reporter: &Reporter,
) -> Ended {
    let now = Instant::now();
    let mut attendance = Attendance {
        server,
        link,
        reporter,
        ping_every: (down_after / 10).max(Duration::from_millis(2)),
        ping_at: now,
        info_at: now,
        stop_writes: stops_writes(link).await,
        role: ServerRole::Primary,
        missed: false,
        ping: None,
        info: None,
        sign: None,
        streams: None,
        watch: None,
        alarm: Alarm::new(),
    };
    loop {
        let ended = if attendance.may_rest() {
            attendance.rest().await
        } else {
            attendance.ask();
            attendance.hear().await
        };
        if let Some(ended) = ended {
            return ended;
        }
    }
}

/// Whether the server refuses writes while it cannot save.
async fn stops_writes(link: &Link) -> bool {
    let words = ["CONFIG", "GET", "stop-writes-on-bgsave-error"];
    match link.call(&words, Instant::now() + CONNECT_WITHIN).await {
        Ok(Value::Array(pair)) => pair.get(1).and_then(Value::as_bytes) != Some(b"no"),
        Ok(_) | Err(_) => true,
    }
}

struct Attendance<'a> {
    server: &'a Server,
    link: &'a Link,
    reporter: &'a Reporter,
    ping_every: Duration,
    ping_at: Instant,
    info_at: Instant,
    stop_writes: bool,
    /// What it was when INFO was read last; a primary before.
    role: ServerRole,
    /// No rest until an answer has come in time again.
    missed: bool,
    ping: Option<Asking>,
    info: Option<Asking>,
    /// What the last reading said of the connections of replication, and the question which ones they are.
    sign: Option<Sign>,
    streams: Option<Asking>,
    watch: Option<Dying>,
    alarm: Alarm,
}

impl Attendance<'_> {
    /// Nobody is in a hurry, the kernel would tell of a death, and nothing is under way or due at once.
    fn may_rest(&self) -> bool {
        let wanted = self.server.may_rest.load(Ordering::Relaxed)
            && !self.server.busy.load(Ordering::Relaxed);
        let under_way = self.ping.is_some() || self.info.is_some() || self.streams.is_some();
        wanted
            && self.watch.is_some()
            && !self.missed
            && !under_way
            && Instant::now() < self.info_at
    }

    /// Lets the connection ask by itself until there is news.
    async fn rest(&mut self) -> Option<Ended> {
        let rest = Rest {
            every: self.ping_every,
            ping_at: self.ping_at,
            info_at: self.info_at,
            heard: self.server.heard.clone(),
            link: self.link_look(),
        };
        tokio::select! {
            biased;
            proof = died(self.watch.as_mut()) => {
                return Some(dead(self.server, proof, self.reporter).await);
            }
            _ = self.link.closed() => return Some(closed(self.server, self.reporter).await),
            () = self.server.look.notified() => self.info_at = Instant::now(),
            news = self.link.rest(rest) => {
                let Some(news) = news else {
                    return Some(closed(self.server, self.reporter).await);
                };
                self.news(news).await;
            }
        }
        None
    }

    fn link_look(&self) -> Option<LinkLook> {
        LinkLook::new(&self.role, INFO_FOLLOWING, Instant::now())
    }

    async fn news(&mut self, news: News) {
        self.ping_at = news.ping_at;
        match news.what {
            // We were away ourselves: what it says is of another time.
            Noticed::Info(_, asked) if asked.elapsed() > 3 * self.ping_every => {
                self.info_at = Instant::now();
            }
            Noticed::Info(value, asked) => {
                self.read(&value, Some(asked)).await;
                self.info_at = asked
                    + match self.link_look() {
                        Some(_) => INFO_EVERY,
                        None => self.info_period(),
                    };
            }
            Noticed::Odd(value, asked) => {
                let event = answer_event(kind_of(&value), Some(asked));
                self.reporter.send(event).await;
            }
            Noticed::Link => self.info_at = Instant::now(),
            Noticed::Missing => self.missed = true,
        }
    }

    /// What is due.
    fn ask(&mut self) {
        let now = Instant::now();
        if self.ping.is_none() && now >= self.ping_at {
            self.ping = Some(Asking::start(self.link, Command::new("PING")));
            self.ping_at = now + self.ping_every;
            // Both questions in one packet and both answers in one: each wake-up of an idle daemon costs.
            if self.info_at <= now + self.ping_every / 2 {
                self.info_at = now;
            }
        }
        if self.info.is_none() && now >= self.info_at {
            self.info = Some(Asking::start(self.link, Command::new("INFO")));
            self.info_at = now + self.info_period();
        }
    }

    /// Waits for whatever comes first.
    async fn hear(&mut self) -> Option<Ended> {
        // Whatever is late is a reason to look at the process.
        let mut wake = match &self.ping {
            Some(asking) => asking.look_at,
            None => self.ping_at.max(Instant::now()),
        };
        if self.info.is_none() {
            wake = wake.min(self.info_at);
        }
        tokio::select! {
            biased;
            proof = died(self.watch.as_mut()) => {
                return Some(dead(self.server, proof, self.reporter).await);
            }
            answer = answered(self.ping.as_mut()) => {
                self.ping = None;
                match answer {
                    Ok(value) => {
                        self.missed = false;
                        self.reporter.send(answer_event(kind_of(&value), None)).await;
                    }
                    Err(_) => return self.failed().await,
                }
            }
            answer = answered(self.info.as_mut()) => {
                self.info = None;
                match answer {
                    Ok(value) => self.read(&value, None).await,
                    Err(_) => return self.failed().await,
                }
            }
            answer = answered(self.streams.as_mut()) => {
                self.streams = None;
                match (answer, &self.sign) {
                    (Ok(value), Some(sign)) => self.server.streams.learn(sign.asks(), &value),
                    (Ok(_), None) => {}
                    (Err(_), _) => return self.failed().await,
                }
            }
            _ = self.link.closed() => return Some(closed(self.server, self.reporter).await),
            () = self.server.look.notified() => self.info_at = Instant::now(),
            () = self.alarm.at(wake) => {
                if let Some(asking) = &mut self.ping
                    && Instant::now() >= asking.look_at
                {
                    asking.look_at = Instant::now() + LATE_AFTER;
                    let over = self
                        .server
                        .process()
                        .is_some_and(|p| p.check_now().is_ok_and(|life| life.is_over()));
                    if over {
                        return Some(dead(self.server, KernelProof::Exiting, self.reporter).await);
                    }
                }
            }
        }
        None
    }

    /// A question was not answered: a closed connection, or one that was given up.
    async fn failed(&mut self) -> Option<Ended> {
        if self.link.is_closed() {
            Some(closed(self.server, self.reporter).await)
        } else {
            None
        }
    }

    fn info_period(&self) -> Duration {
        if self.server.busy.load(Ordering::Relaxed) {
            INFO_BUSY
        } else if self.role != ServerRole::Primary {
            INFO_FOLLOWING
        } else {
            INFO_EVERY
        }
    }

    /// Reports a reading of INFO.
    async fn read(&mut self, value: &Value, came: Option<Instant>) {
        let (server, reporter) = (self.server, self.reporter);
        let seen = report_info(
            server,
            value,
            came,
            self.stop_writes,
            &mut self.watch,
            reporter,
        )
        .await;
        let Some(seen) = seen else {
            return;
        };
        self.role = seen.role;
        if seen.sign != self.sign {
            self.sign = seen.sign;
            server.streams.forget();
            let question = self.sign.as_ref().map(|sign| sign.asks().command());
            self.streams = question.map(|question| Asking::start(self.link, question));
        }
    }
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

/// What is made of a reading here.
struct Seen {
    role: ServerRole,
    sign: Option<Sign>,
}

/// Reports a reading, if it is one.
async fn report_info(
    server: &Server,
    value: &Value,
    came: Option<Instant>,
    stop_writes: bool,
    watch: &mut Option<Dying>,
    reporter: &Reporter,
) -> Option<Seen> {
    if value.as_error().is_some() {
        reporter.send(answer_event(kind_of(value), came)).await;
        return None;
    }
    let text = value.as_bytes()?;
    let info = ServerInfo::parse(&String::from_utf8_lossy(text));
    let view = ServerView::from_info(&info)?;
    let seen = Seen {
        role: view.role.clone(),
        sign: Sign::of(&view),
    };
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
    Some(seen)
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
