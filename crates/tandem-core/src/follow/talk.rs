//! The conversation with one sentinel: two connections, polls, and what it said last.
//!
//! One connection hears `+switch-master`, the other asks: who is the primary (`get-master-addr-by-name`, which the leader
//! of a failover changes first), in which configuration (`master`), with which replicas (`replicas`). The event is only a
//! reason to ask at once; what counts is the answer, because it carries the epoch. Both connections end together, so a
//! sentinel that cannot be asked is not heard either.

use std::collections::VecDeque;
use std::net::IpAddr;
use std::time::{Duration, Instant};

use tandem_resp::Value;

use super::io::{Output, Settings};
use super::judge::Configuration;
use crate::ids::HostId;
use crate::sentinel::{ConfigEpoch, ConnId, ConnKind, Endpoint};
use crate::topology::{Forks, Member, Rank};
use crate::word::{self, Word};

/// Between two polls while nothing happens.
pub(super) const POLL: Duration = Duration::from_secs(1);
/// A sentinel that leaves a poll unanswered for this long is connected afresh.
const ANSWER_WITHIN: Duration = Duration::from_secs(2);
/// What was said counts for this long.
pub(super) const FRESH: Duration = Duration::from_secs(4);
/// Before the second attempt to connect; doubles up to [`BACKOFF_MAX`].
const BACKOFF_MIN: Duration = Duration::from_millis(100);
/// See [`BACKOFF_MIN`].
const BACKOFF_MAX: Duration = Duration::from_secs(2);
/// Replies waited for at a time; events beyond it ask no further question.
const EXPECTS_MAX: usize = 16;
/// Replicas taken from one answer.
const REPLICAS_MAX: usize = 64;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Expect {
    Auth,
    Address,
    Primary,
    Replicas,
    Word,
    Nothing,
}

#[derive(Debug)]
struct Conn {
    id: ConnId,
    up: bool,
}

/// One sentinel.
#[derive(Debug)]
pub(super) struct Talk {
    pub(super) at: Endpoint,
    command: Option<Conn>,
    hearing: Option<Conn>,
    expects: VecDeque<Expect>,
    retry_at: Instant,
    backoff: Duration,
    poll_at: Instant,
    waiting_since: Option<Instant>,
    /// The address of the poll under way.
    address: Option<Endpoint>,
    /// What it said last, and when.
    said: Option<(Configuration, Instant)>,
    /// What it told of forks along with it.
    pub(super) forks: Forks,
    pub(super) replicas: Vec<Member>,
    /// What it told beside that, until it is looked at.
    pub(super) word: Option<Word>,
    /// Why nothing is known of it.
    pub(super) trouble: Option<String>,
}

impl Talk {
    pub(super) fn new(at: Endpoint, now: Instant) -> Self {
        Self {
            at,
            command: None,
            hearing: None,
            expects: VecDeque::new(),
            retry_at: now,
            backoff: BACKOFF_MIN,
            poll_at: now,
            waiting_since: None,
            address: None,
            said: None,
            forks: Forks::Untold,
            replicas: Vec::new(),
            word: None,
            trouble: Some("not connected yet".to_owned()),
        }
    }

    /// What it believes, while that is fresh.
    pub(super) fn belief(&self, now: Instant) -> Option<(&Configuration, Instant)> {
        let (said, at) = self.said.as_ref()?;
        (now.saturating_duration_since(*at) < FRESH).then_some((said, *at))
    }

    pub(super) fn has(&self, conn: ConnId) -> bool {
        let is = |it: &Option<Conn>| it.as_ref().is_some_and(|it| it.id == conn);
        is(&self.command) || is(&self.hearing)
    }

    pub(super) fn is_up(&self) -> bool {
        self.command.as_ref().is_some_and(|it| it.up)
    }

    /// When it has to be looked at.
    pub(super) fn next_wake(&self) -> Instant {
        match (&self.command, self.waiting_since) {
            (None, _) => self.retry_at,
            (Some(_), Some(since)) => since + ANSWER_WITHIN,
            (Some(_), None) => self.poll_at,
        }
    }

    /// Connects, polls and gives up as it is time.
    pub(super) fn tick(
        &mut self,
        settings: &Settings,
        next: &mut u64,
        now: Instant,
        out: &mut Vec<Output>,
    ) {
        if self
            .waiting_since
            .is_some_and(|since| now >= since + ANSWER_WITHIN)
        {
            self.end("no answer".to_owned(), now, out);
        }
        if self.command.is_none() && now >= self.retry_at {
            for kind in [ConnKind::Command, ConnKind::PubSub] {
                *next += 1;
                let conn = ConnId(*next);
                let slot = match kind {
                    ConnKind::Command => &mut self.command,
                    ConnKind::PubSub => &mut self.hearing,
                };
                *slot = Some(Conn {
                    id: conn,
                    up: false,
                });
                let to = self.at.clone();
                out.push(Output::Connect { conn, to, kind });
            }
        } else if self.is_up() && self.waiting_since.is_none() && now >= self.poll_at {
            self.poll(settings, now, out);
        }
    }

    pub(super) fn connected(
        &mut self,
        conn: ConnId,
        settings: &Settings,
        now: Instant,
        out: &mut Vec<Output>,
    ) {
        let login = login(settings);
        if let Some(command) = self.command.as_mut().filter(|it| it.id == conn) {
            command.up = true;
            if let Some(argv) = login {
                self.expects.push_back(Expect::Auth);
                out.push(Output::Send { conn, argv });
            }
            self.poll(settings, now, out);
        } else if let Some(hearing) = self.hearing.as_mut().filter(|it| it.id == conn) {
            hearing.up = true;
            out.extend(login.map(|argv| Output::Send { conn, argv }));
            let argv = words(&["SUBSCRIBE", "+switch-master"]);
            out.push(Output::Send { conn, argv });
            if settings.daemons {
                let argv = words(&["SUBSCRIBE", word::CHANNEL]);
                out.push(Output::Send { conn, argv });
            }
            // What was told before the subscription stood was missed.
            self.ask_now(settings, now, out);
        }
    }

    /// Ends both connections and waits before the next attempt.
    pub(super) fn end(&mut self, why: String, now: Instant, out: &mut Vec<Output>) {
        for conn in [self.command.take(), self.hearing.take()]
            .into_iter()
            .flatten()
        {
            out.push(Output::Close(conn.id));
        }
        self.expects.clear();
        self.waiting_since = None;
        self.address = None;
        self.trouble = Some(why);
        self.retry_at = now + self.backoff;
        self.backoff = (self.backoff * 2).min(BACKOFF_MAX);
    }

    /// An event says that something changed.
    pub(super) fn ask_now(&mut self, settings: &Settings, now: Instant, out: &mut Vec<Output>) {
        if self.is_up() && self.expects.len() + 4 <= EXPECTS_MAX {
            self.poll(settings, now, out);
        }
    }

    /// What it said may have been overtaken: it does not count until it is said again.
    pub(super) fn doubt(&mut self, settings: &Settings, now: Instant, out: &mut Vec<Output>) {
        self.said = None;
        self.ask_now(settings, now, out);
    }

    fn poll(&mut self, settings: &Settings, now: Instant, out: &mut Vec<Output>) {
        let Some(conn) = self.command.as_ref().map(|it| it.id) else {
            return;
        };
        for (expect, word) in [
            (Expect::Address, "get-master-addr-by-name"),
            (Expect::Primary, "master"),
            (Expect::Replicas, "replicas"),
        ] {
            self.expects.push_back(expect);
            let argv = words(&["SENTINEL", word, &settings.master]);
            out.push(Output::Send { conn, argv });
        }
        if settings.daemons {
            self.expects.push_back(Expect::Word);
            let argv = word::Request::Topology(settings.master.clone()).argv();
            out.push(Output::Send { conn, argv });
        }
        self.waiting_since.get_or_insert(now);
        self.poll_at = now + POLL;
    }

    /// Tells something that needs no answer.
    pub(super) fn report(&mut self, report: &word::Request, now: Instant, out: &mut Vec<Output>) {
        let Some(conn) = self.command.as_ref().filter(|it| it.up).map(|it| it.id) else {
            return;
        };
        if self.expects.len() < EXPECTS_MAX {
            self.expects.push_back(Expect::Nothing);
            self.waiting_since.get_or_insert(now);
            let argv = report.argv();
            out.push(Output::Send { conn, argv });
        }
    }

    /// Takes the next reply. Says whether the belief may be another one.
    pub(super) fn reply(&mut self, value: &Value, now: Instant, out: &mut Vec<Output>) -> bool {
        let Some(expect) = self.expects.pop_front() else {
            self.end("a reply to nothing".to_owned(), now, out);
            return false;
        };
        self.waiting_since = (!self.expects.is_empty()).then_some(now);
        if let Some(error) = value.as_error() {
            let text = String::from_utf8_lossy(error).into_owned();
            match expect {
                // A sentinel without a password refuses one, and answers all the same.
                Expect::Auth => {}
                // A daemon of an older version has no word for it.
                Expect::Word | Expect::Nothing => {}
                Expect::Address | Expect::Primary | Expect::Replicas => {
                    self.trouble = Some(text);
                    self.said = None;
                }
            }
            return true;
        }
        match expect {
            Expect::Auth | Expect::Nothing => false,
            Expect::Word => {
                self.word = value.as_bytes().and_then(Word::read);
                true
            }
            Expect::Address => {
                self.address = address(value);
                false
            }
            Expect::Primary => {
                let epoch = field(value, "config-epoch").and_then(|text| text.parse().ok());
                match (self.address.take(), epoch) {
                    (Some(primary), Some(epoch)) => {
                        let epoch = ConfigEpoch(epoch);
                        self.forks = Forks::heard(field(value, Forks::FIELD));
                        let host = field(value, Rank::FIELD).unwrap_or_default();
                        let said = Configuration {
                            primary,
                            epoch,
                            host: HostId::new(host),
                        };
                        self.said = Some((said, now));
                        self.trouble = None;
                        self.backoff = BACKOFF_MIN;
                    }
                    (None, _) => {
                        self.said = None;
                        self.trouble = Some("names no address of a primary".to_owned());
                    }
                    (Some(_), None) => {
                        self.said = None;
                        self.trouble = Some("tells no configuration epoch".to_owned());
                    }
                }
                true
            }
            Expect::Replicas => {
                let rows = value.as_array().unwrap_or_default();
                self.replicas = rows.iter().take(REPLICAS_MAX).filter_map(replica).collect();
                true
            }
        }
    }
}

fn login(settings: &Settings) -> Option<Vec<Vec<u8>>> {
    let password = settings.password.clone()?;
    let mut argv = words(&["AUTH"]);
    argv.extend(
        settings
            .username
            .as_ref()
            .map(|user| user.clone().into_bytes()),
    );
    argv.push(password);
    Some(argv)
}

fn words(words: &[&str]) -> Vec<Vec<u8>> {
    words.iter().map(|word| word.as_bytes().to_vec()).collect()
}

fn text(value: &Value) -> Option<&str> {
    std::str::from_utf8(value.as_bytes()?).ok()
}

/// An IP address: a name would be another one on each host, and the local server is found by comparing.
fn numeric(host: &str, port: &str) -> Option<Endpoint> {
    let ip: IpAddr = host.parse().ok()?;
    let port: u16 = port.parse().ok().filter(|port| *port != 0)?;
    Some(Endpoint::new(ip.to_string(), port))
}

fn address(value: &Value) -> Option<Endpoint> {
    match value.as_array()? {
        [host, port] => numeric(text(host)?, text(port)?),
        _ => None,
    }
}

/// A field of an instance's map, in either protocol's form.
fn field<'v>(value: &'v Value, name: &str) -> Option<&'v str> {
    let named = |key: &Value| text(key) == Some(name);
    if let Value::Map(pairs) = value {
        let (_, found) = pairs.iter().find(|(key, _)| named(key))?;
        return text(found);
    }
    let mut pairs = value.as_array()?.chunks_exact(2);
    let pair = pairs.find(|pair| named(&pair[0]))?;
    text(&pair[1])
}

fn replica(value: &Value) -> Option<Member> {
    let flags = field(value, "flags")?;
    let follows = field(value, "master-host").zip(field(value, "master-port"));
    Some(Member {
        at: numeric(field(value, "ip")?, field(value, "port")?)?,
        run_id: field(value, "runid").unwrap_or_default().to_owned(),
        healthy: !flags.split(',').any(|flag| flag == "s_down"),
        follows: follows.and_then(|(host, port)| numeric(host, port)),
        link_up: field(value, "master-link-status") == Some("ok"),
        offset: field(value, "slave-repl-offset")
            .and_then(|text| text.parse().ok())
            .unwrap_or(0),
        promotable: field(value, "slave-priority") != Some("0"),
    })
}
