//! A Redis server as far as a sentinel sees it: roles, histories, transactions, pauses.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::time::{Duration, Instant};

use tandem_resp::Value;

use crate::sentinel::Endpoint;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Life {
    Up,
    /// Takes connections and bytes, and does nothing with them.
    Frozen,
    Killed,
}

/// Whether a command in it was refused, and its commands.
type Queue = (bool, Vec<Vec<String>>);

#[derive(Clone, Debug)]
pub(super) struct Server {
    pub(super) at: Endpoint,
    pub(super) life: Life,
    pub(super) run_id: u64,
    pub(super) replid: String,
    pub(super) replid2: String,
    pub(super) second_offset: i64,
    pub(super) offset: u64,
    pub(super) keys: u64,
    pub(super) priority: u32,
    pub(super) follows: Option<Endpoint>,
    pub(super) link_up: bool,
    pub(super) syncing: bool,
    pub(super) loading: bool,
    /// Does not read from its primary, though linked.
    pub(super) lazy: bool,
    pub(super) paused_until: Option<Instant>,
    /// Commands that are refused, by their first word.
    pub(super) denies: Vec<&'static str>,
    /// Commands that changed a role, for assertions.
    pub(super) told: Vec<String>,
    /// Connections in MULTI, with what is queued.
    queues: BTreeMap<(usize, u64), Queue>,
}

/// What the world has to do for a command.
pub(super) enum Effect {
    Reply(Value),
    Publish(Vec<u8>),
    Subscribe,
    /// Replies, after closing every other connection of this kind (`true`: hearing ones).
    Kill(Value, bool),
    Many(Vec<Effect>),
    /// Nothing, for now: a write is held back.
    Postpone,
}

impl Server {
    pub(super) fn primary(at: Endpoint, run_id: u64) -> Self {
        Self {
            at,
            life: Life::Up,
            run_id,
            replid: "a".repeat(40),
            replid2: "0".repeat(40),
            second_offset: -1,
            offset: 1_000,
            keys: 10,
            priority: 100,
            follows: None,
            link_up: false,
            syncing: false,
            loading: false,
            lazy: false,
            paused_until: None,
            denies: Vec::new(),
            told: Vec::new(),
            queues: BTreeMap::new(),
        }
    }

    pub(super) fn replica(at: Endpoint, run_id: u64, of: &Endpoint) -> Self {
        Self {
            follows: Some(of.clone()),
            link_up: true,
            ..Self::primary(at, run_id)
        }
    }

    /// Clients can write here.
    pub(super) fn is_writable(&self, now: Instant) -> bool {
        self.life == Life::Up && self.follows.is_none() && !self.is_paused(now)
    }

    fn is_paused(&self, now: Instant) -> bool {
        self.paused_until.is_some_and(|until| now < until)
    }

    pub(super) fn take(&mut self, who: (usize, u64), argv: &[String], now: Instant) -> Effect {
        let name = argv[0].to_ascii_uppercase();
        if let Some((dirty, queue)) = self.queues.get_mut(&who)
            && name != "EXEC"
        {
            if self.denies.contains(&name.as_str()) {
                *dirty = true;
                return Effect::Reply(denied(&name));
            }
            queue.push(argv.to_vec());
            return simple("QUEUED");
        }
        if self.denies.contains(&name.as_str()) {
            return Effect::Reply(denied(&name));
        }
        match name.as_str() {
            "MULTI" => {
                self.queues.insert(who, (false, Vec::new()));
                simple("OK")
            }
            "EXEC" => match self.queues.remove(&who) {
                Some((true, _)) | None => Effect::Reply(Value::Error(
                    b"EXECABORT Transaction discarded because of previous errors.".to_vec(),
                )),
                Some((false, queue)) => {
                    let effects: Vec<Effect> =
                        queue.iter().map(|argv| self.take(who, argv, now)).collect();
                    let mut values = Vec::new();
                    let mut others = Vec::new();
                    for effect in effects {
                        match effect {
                            Effect::Kill(value, hearing) => {
                                values.push(value);
                                others.push(Effect::Kill(Value::Null, hearing));
                            }
                            Effect::Reply(value) => values.push(value),
                            Effect::Publish(_)
                            | Effect::Subscribe
                            | Effect::Many(_)
                            | Effect::Postpone => {}
                        }
                    }
                    others.push(Effect::Reply(Value::Array(values)));
                    Effect::Many(others)
                }
            },
            "PUBLISH" if self.is_paused(now) => Effect::Postpone,
            "PUBLISH" => Effect::Publish(argv[2].clone().into_bytes()),
            "SUBSCRIBE" => Effect::Subscribe,
            "INFO" => Effect::Reply(Value::Bulk(self.info().into_bytes())),
            "PING" if self.loading => {
                Effect::Reply(Value::Error(b"LOADING Redis is loading".to_vec()))
            }
            "PING" => simple("PONG"),
            "SLAVEOF" => {
                self.told.push(argv.join(" "));
                if argv[1].eq_ignore_ascii_case("no") {
                    self.promote();
                } else {
                    let port = argv[2].parse().expect("a port");
                    self.follows = Some(Endpoint::new(argv[1].clone(), port));
                    self.link_up = false;
                }
                simple("OK")
            }
            "CLIENT" => match argv[1].to_ascii_uppercase().as_str() {
                "PAUSE" => {
                    self.told.push(argv.join(" "));
                    let ms = argv[2].parse().expect("milliseconds");
                    self.paused_until = Some(now + Duration::from_millis(ms));
                    simple("OK")
                }
                "UNPAUSE" => {
                    self.told.push(argv.join(" "));
                    self.paused_until = None;
                    simple("OK")
                }
                "KILL" => Effect::Kill(Value::Integer(1), argv[3].eq_ignore_ascii_case("pubsub")),
                _ => simple("OK"),
            },
            _ => simple("OK"),
        }
    }

    fn promote(&mut self) {
        if self.follows.take().is_some() {
            self.replid2 = std::mem::replace(
                &mut self.replid,
                format!("{:040x}", self.run_id + self.offset),
            );
            self.second_offset = i64::try_from(self.offset).expect("small") + 1;
        }
        self.link_up = false;
    }

    /// Comes back after its death, with these keys and a new history.
    pub(super) fn restart(&mut self, keys: u64) {
        self.life = Life::Up;
        self.run_id += 100;
        self.replid = format!("{:040x}", 0xfeed_0000 + self.run_id);
        self.replid2 = "0".repeat(40);
        self.second_offset = -1;
        self.offset = 0;
        self.keys = keys;
        self.queues.clear();
        self.paused_until = None;
    }

    fn info(&self) -> String {
        let mut text = format!("# Server\r\nrun_id:{:040x}\r\n", self.run_id);
        let _ = write!(text, "loading:{}\r\n", u8::from(self.loading));
        match &self.follows {
            None => text.push_str("role:master\r\n"),
            Some(of) => {
                let _ = write!(
                    text,
                    "role:slave\r\nmaster_host:{}\r\nmaster_port:{}\r\nmaster_link_status:{}\r\n\
                     master_sync_in_progress:{}\r\nslave_repl_offset:{}\r\nslave_priority:{}\r\n\
                     replica_announced:1\r\n",
                    of.host,
                    of.port,
                    if self.link_up { "up" } else { "down" },
                    u8::from(self.syncing),
                    self.offset,
                    self.priority
                );
                if !self.link_up {
                    text.push_str("master_link_down_since_seconds:0\r\n");
                }
            }
        }
        let _ = write!(
            text,
            "master_replid:{}\r\nmaster_replid2:{}\r\nmaster_repl_offset:{}\r\nsecond_repl_offset:{}\r\n",
            self.replid, self.replid2, self.offset, self.second_offset
        );
        text.push_str("REPLICAS");
        let _ = write!(text, "# Keyspace\r\ndb0:keys={},expires=0\r\n", self.keys);
        text
    }
}

fn simple(text: &str) -> Effect {
    Effect::Reply(Value::Simple(text.as_bytes().to_vec()))
}

fn denied(name: &str) -> Value {
    Value::Error(
        format!("NOPERM this user has no permissions to run the '{name}' command").into_bytes(),
    )
}
