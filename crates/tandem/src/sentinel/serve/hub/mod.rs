//! What all connections share, and what each request does to it: users, subscriptions, the list of clients, statistics.
//!
//! The hub carries out a request as redis-sentinel 7.0's `processCommand` does, check by check and in the same order:
//! command known, number of arguments, authentication, permission, subscribed mode, pause. It knows no sockets: replies and
//! messages are appended to the client's [`Outbox`], and its connection is woken. What the sentinel itself must answer leaves
//! as a [`Flow::Ask`]; the connection waits for the answer, and nobody else does.

mod acl;
mod client;
mod clients;
mod generic;
mod info;
mod pubsub;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::rc::Rc;
use std::time::Instant;

use tandem_core::sentinel::Question;
use tandem_resp::{Limits, Protocol, Value, write_null_array};
use tokio::sync::Notify;

use super::acl::{ChannelUse, DEFAULT, Denied, Log, Reason, Users};
use super::command::{self, CommandId, Lookup};
use super::settings::Identity;
use super::subscriptions::{ClientId, Subscriptions};

use client::Replies;
pub(crate) use client::{Client, Closing, Origin};
pub(crate) use info::Stats;

/// What a connection does next.
#[derive(Debug)]
pub(crate) enum Flow {
    /// Everything there is to say is in the outbox.
    Done,
    /// The sentinel answers, through [`Hub::answer`].
    Ask {
        /// What.
        question: Question,
        /// How the answer is put.
        shape: Shape,
    },
    /// Clients are paused: the same request again then, or when woken.
    Later(Instant),
    /// Read this file and give its text to [`Hub::load_users`].
    ReadUsers(PathBuf),
    /// Write this text to this file and tell [`Hub::users_saved`].
    WriteUsers(PathBuf, String),
}

/// How an answer of the sentinel is put.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Shape {
    /// As it is.
    Plain,
    /// A null stands where an array was asked for (`GET-MASTER-ADDR-BY-NAME`): `*-1` in RESP2.
    NullIsArray,
    /// The last section of an INFO, behind these.
    Info(String),
}

/// What a command says at once.
enum Reply {
    Nothing,
    Value(Value),
    Values(Vec<Value>),
    Flow(Flow),
}

impl Reply {
    fn ok() -> Self {
        Self::Value(Value::Simple(b"OK".to_vec()))
    }

    fn error(text: impl AsRef<str>) -> Self {
        Self::Value(error(text.as_ref().as_bytes()))
    }

    fn bulk(text: impl AsRef<[u8]>) -> Self {
        Self::Value(Value::Bulk(text.as_ref().to_vec()))
    }

    fn syntax() -> Self {
        Self::error("syntax error")
    }
}

/// An error; text without a code of its own gets `ERR`.
fn error(text: &[u8]) -> Value {
    Value::Error(match text.strip_prefix(b"-") {
        Some(coded) => coded.to_vec(),
        None => [b"ERR ", text].concat(),
    })
}

/// What clients may be held up in (`CLIENT PAUSE`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Pause {
    /// What writes or is replicated: none of a sentinel's commands.
    Write,
    /// Every command.
    All,
}

/// Everything that connections share.
#[derive(Debug)]
pub(crate) struct Hub {
    identity: Identity,
    request: Limits,
    users: Users,
    all_channels: bool,
    acl_file: Option<PathBuf>,
    acl_log: Log,
    clients: BTreeMap<ClientId, Client>,
    last_id: ClientId,
    subscriptions: Subscriptions,
    paused: Option<(Pause, Instant)>,
    started: Instant,
    stats: Stats,
    shutdown: Rc<Notify>,
}

/// What anybody else may send: ten arguments of 16 KiB.
const STRANGER: Limits = Limits {
    max_elements: 10,
    ..Limits::stranger()
};

impl Hub {
    /// A hub without clients.
    pub(crate) fn new(
        identity: Identity,
        users: Users,
        all_channels: bool,
        acl_file: Option<PathBuf>,
        acl_log_max: usize,
        now: Instant,
    ) -> Self {
        Self {
            identity,
            request: super::Settings::default().request,
            users,
            all_channels,
            acl_file,
            acl_log: Log::new(acl_log_max),
            clients: BTreeMap::new(),
            last_id: 0,
            subscriptions: Subscriptions::default(),
            paused: None,
            started: now,
            stats: Stats::default(),
            shutdown: Rc::new(Notify::new()),
        }
    }

    /// The same with other limits for the requests of those who need not authenticate, or have.
    pub(crate) fn with_request_limits(self, request: Limits) -> Self {
        Self { request, ..self }
    }

    /// Told when a client sent SHUTDOWN.
    pub(crate) fn shutdown(&self) -> Rc<Notify> {
        Rc::clone(&self.shutdown)
    }

    /// The users.
    pub(crate) fn users(&self) -> &Users {
        &self.users
    }

    /// How many connections there are.
    pub(crate) fn client_count(&self) -> usize {
        self.clients.len()
    }

    /// One more connection; `wake` is notified when there is something to send or the connection is to end.
    pub(crate) fn connect(&mut self, origin: Origin, wake: Rc<Notify>, now: Instant) -> ClientId {
        self.last_id += 1;
        let id = self.last_id;
        self.stats.connections += 1;
        self.clients.insert(
            id,
            Client {
                id,
                origin,
                since: now,
                active: now,
                name: Vec::new(),
                lib_name: Vec::new(),
                lib_ver: Vec::new(),
                user: DEFAULT.to_vec(),
                authenticated: self.users.default_user().is_open(),
                protocol: Protocol::Resp2,
                replies: Replies::On,
                no_evict: false,
                no_touch: false,
                tracking: None,
                command: "NULL",
                query: 0,
                outbox: super::outbox::Outbox::default(),
                closing: Closing::No,
                wake,
            },
        );
        id
    }

    /// A connection was turned away: `maxclients`.
    pub(crate) fn rejected(&mut self) {
        self.stats.rejected += 1;
    }

    /// A connection has ended.
    pub(crate) fn disconnect(&mut self, id: ClientId) {
        self.clients.remove(&id);
        self.subscriptions.forget(id);
    }

    /// Its record; `None` after [`Hub::disconnect`].
    pub(crate) fn client_mut(&mut self, id: ClientId) -> Option<&mut Client> {
        self.clients.get_mut(&id)
    }

    /// Whether a client listens to something: the idle limit does not count for it.
    pub(crate) fn is_subscriber(&self, id: ClientId) -> bool {
        self.subscriptions.count(id) > 0
    }

    /// When a client last sent something.
    pub(crate) fn active(&self, id: ClientId) -> Option<Instant> {
        self.clients.get(&id).map(|client| client.active)
    }

    /// How much the client's next request may hold.
    pub(crate) fn limits(&self, id: ClientId) -> Limits {
        if self.must_authenticate(id) {
            STRANGER
        } else {
            self.request
        }
    }

    /// Whether a client has to authenticate before anything else.
    pub(crate) fn must_authenticate(&self, id: ClientId) -> bool {
        !self.users.default_user().is_open()
            && !self
                .clients
                .get(&id)
                .is_some_and(|client| client.authenticated)
    }

    /// Bytes came in, and so many wait to be carried out.
    pub(crate) fn received(&mut self, id: ClientId, bytes: usize, waiting: usize, now: Instant) {
        self.stats.look(now);
        self.stats.bytes_in += bytes as u64;
        self.stats.reads += 1;
        if let Some(client) = self.clients.get_mut(&id) {
            client.active = now;
            client.query = waiting;
        }
    }

    /// Bytes were accepted by the kernel.
    pub(crate) fn sent(&mut self, id: ClientId, bytes: usize, now: Instant) {
        self.stats.bytes_out += bytes as u64;
        self.stats.writes += 1;
        if let Some(client) = self.clients.get_mut(&id) {
            client.outbox.written(bytes);
            client.active = now;
        }
    }

    /// The bytes are no request: tells the client so, after which its connection ends.
    pub(crate) fn refuse(&mut self, id: ClientId, text: &str) {
        self.stats.errors += 1;
        if let Some(client) = self.clients.get_mut(&id) {
            error(format!("Protocol error: {text}").as_bytes())
                .encode(client.protocol, client.outbox.buffer());
            client.close(Closing::AfterReplies);
        }
    }

    /// Carries out one request, whose first word is the command.
    pub(crate) fn execute(&mut self, id: ClientId, argv: &[Vec<u8>], now: Instant) -> Flow {
        let Some(client) = self.clients.get_mut(&id) else {
            return Flow::Done;
        };
        client.active = now;
        let reply = match self.admit(id, argv, now) {
            Ok(command) => {
                if let Some(until) = self.pause_of(now) {
                    return Flow::Later(until);
                }
                self.stats.commands += 1;
                if let Some(client) = self.clients.get_mut(&id) {
                    client.command = command.entry().name;
                }
                self.run(id, command, argv, now)
            }
            Err(Some(refusal)) => Reply::Value(refusal),
            Err(None) => Reply::Nothing,
        };
        match reply {
            Reply::Flow(flow) => return flow,
            Reply::Nothing => {}
            Reply::Value(value) => self.say(id, &value),
            Reply::Values(values) => {
                for value in values {
                    self.say(id, &value);
                }
            }
        }
        self.finish(id);
        Flow::Done
    }

    /// The sentinel's answer to a [`Flow::Ask`].
    pub(crate) fn answer(&mut self, id: ClientId, shape: Shape, value: Value) {
        match (shape, value) {
            (Shape::NullIsArray, Value::Null) => {
                if let Some(client) = self.clients.get_mut(&id)
                    && client.wants_replies()
                {
                    write_null_array(client.protocol, client.outbox.buffer());
                }
            }
            (Shape::Info(mut text), value) => {
                if let Some(section) = value.as_bytes() {
                    if !text.is_empty() {
                        text.push_str("\r\n");
                    }
                    text.push_str(&String::from_utf8_lossy(section));
                }
                self.say(id, &Value::Bulk(text.into_bytes()));
            }
            (Shape::Plain | Shape::NullIsArray, value) => self.say(id, &value),
        }
        self.finish(id);
    }

    /// The checks before a command. `Err(None)` says nothing and closes.
    fn admit(
        &mut self,
        id: ClientId,
        argv: &[Vec<u8>],
        now: Instant,
    ) -> Result<CommandId, Option<Value>> {
        let name = argv.first().map_or(&b""[..], Vec::as_slice);
        // A browser that was tricked into talking to this port would go on with a body of commands.
        if name.eq_ignore_ascii_case(b"host:") || name.eq_ignore_ascii_case(b"post") {
            if let Some(client) = self.clients.get_mut(&id) {
                tracing::warn!(
                    "{} speaks HTTP to the sentinel's port: connection closed",
                    client.origin.remote
                );
                client.close(Closing::Now);
            }
            return Err(None);
        }
        let command = match command::lookup(argv) {
            Lookup::Known(command) => command,
            found @ (Lookup::UnknownCommand | Lookup::UnknownSubcommand) => {
                return Err(Some(error(&command::unknown(argv, found))));
            }
        };
        let entry = command.entry();
        if !entry.takes(argv.len()) {
            return Err(Some(error(command::wrong_arity(entry).as_bytes())));
        }
        if self.must_authenticate(id) && !entry.has_flag("no_auth") {
            return Err(Some(error(b"-NOAUTH Authentication required.")));
        }
        self.permit(id, command, argv, now).map_err(Some)?;
        let subscribed = self.is_subscriber(id);
        let old_protocol = self
            .clients
            .get(&id)
            .is_some_and(|client| client.protocol == Protocol::Resp2);
        if subscribed && old_protocol && !pubsub::is_allowed_while_subscribed(entry.name) {
            return Err(Some(error(
                format!(
                    "Can't execute '{}': only (P|S)SUBSCRIBE / (P|S)UNSUBSCRIBE / PING / QUIT / RESET are allowed in this \
                     context",
                    entry.name
                )
                .as_bytes(),
            )));
        }
        Ok(command)
    }

    /// The ACL's word.
    fn permit(
        &mut self,
        id: ClientId,
        command: CommandId,
        argv: &[Vec<u8>],
        now: Instant,
    ) -> Result<(), Value> {
        let name = match self.clients.get(&id) {
            Some(client) => client.user.clone(),
            None => return Ok(()),
        };
        let channels = pubsub::channels_of(command.entry().name);
        let checked = match self.users.get(&name) {
            Some(user) => user.check(command, argv, channels),
            // Removed a moment ago; the connection is being closed.
            None => Err(Denied::Command),
        };
        let Err(denied) = checked else {
            return Ok(());
        };
        let (reason, object) = match denied {
            Denied::Command => (Reason::Command, command.entry().name.as_bytes()),
            Denied::Channel(at) => (Reason::Channel, argv.get(at).map_or(&b""[..], |a| a)),
        };
        let info = self.describe(id, now);
        self.acl_log.add(reason, object, &name, info, now);
        Err(error(
            format!("-NOPERM {}", acl::refusal(denied, command)).as_bytes(),
        ))
    }

    fn pause_of(&mut self, now: Instant) -> Option<Instant> {
        let (pause, until) = self.paused?;
        if until <= now {
            self.paused = None;
            return None;
        }
        match pause {
            Pause::All => Some(until),
            Pause::Write => None,
        }
    }

    fn run(&mut self, id: ClientId, command: CommandId, argv: &[Vec<u8>], now: Instant) -> Reply {
        let name = command.entry().name;
        if argv.len() > command::most_words(command.entry()) {
            return Reply::Value(error(&command::too_many(argv)));
        }
        match name.split_once('|') {
            Some(("acl", sub)) => self.run_acl(id, sub, &argv[2..], now),
            Some(("client", sub)) => self.run_client(id, sub, &argv[2..], now),
            Some(("command", sub)) => self.run_command(sub, &argv[2..]),
            // Whatever the container SENTINEL has is the machine's.
            Some(_) => Reply::Flow(Flow::Ask {
                question: Question::Sentinel(argv[1..].to_vec()),
                shape: Shape::NullIsArray,
            }),
            None => self.run_generic(id, name, argv, now),
        }
    }

    /// Puts a value into a client's outbox, unless it wants no replies.
    fn say(&mut self, id: ClientId, value: &Value) {
        if matches!(value, Value::Error(_)) {
            self.stats.errors += 1;
        }
        if let Some(client) = self.clients.get_mut(&id)
            && client.wants_replies()
        {
            value.encode(client.protocol, client.outbox.buffer());
        }
    }

    /// After each request: what `CLIENT REPLY SKIP` asked for counts for one.
    fn finish(&mut self, id: ClientId) {
        if let Some(client) = self.clients.get_mut(&id) {
            client.replies = match client.replies {
                Replies::SkipNext => Replies::Skip,
                Replies::Skip => Replies::On,
                other @ (Replies::On | Replies::Off) => other,
            };
        }
    }

    fn describe(&self, id: ClientId, now: Instant) -> String {
        use super::subscriptions::Kind;
        self.clients.get(&id).map_or_else(String::new, |client| {
            client.describe(
                self.subscriptions.count_of(id, Kind::Channel),
                self.subscriptions.count_of(id, Kind::Pattern),
                now,
            )
        })
    }

    /// Ends a connection; the one that asked for it gets its reply first.
    fn close(&mut self, id: ClientId, asked_by: ClientId) {
        if let Some(client) = self.clients.get_mut(&id) {
            client.close(if id == asked_by {
                Closing::AfterReplies
            } else {
                Closing::Now
            });
        }
    }
}

impl Client {
    fn wants_replies(&self) -> bool {
        match self.replies {
            Replies::On => self.closing != Closing::Now,
            Replies::Off | Replies::Skip | Replies::SkipNext => false,
        }
    }

    /// What waits to be sent.
    pub(crate) fn outbox(&mut self) -> &mut super::outbox::Outbox {
        &mut self.outbox
    }

    /// The other side will say no more: the connection ends when it has what it asked for.
    pub(crate) fn finish(&mut self) {
        self.close(Closing::AfterReplies);
    }

    /// Whether the connection is to end.
    pub(crate) fn closing(&self) -> Closing {
        self.closing
    }
}
