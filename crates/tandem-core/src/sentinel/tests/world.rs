//! A fleet in one thread: sentinels, servers, and a network between them, on a clock of its own.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::{IpAddr, Ipv4Addr};
use std::time::{Duration, Instant};

use tandem_resp::Value;

use super::server::{Effect, Life, Server};
use super::view::Plan;
use crate::sentinel::Sentinel;
use crate::sentinel::daemon::About;
use crate::sentinel::ids::{ConfigEpoch, ElectionEpoch, Endpoint, GroupName, SentinelId};
use crate::sentinel::io::{ConnId, ConnKind, Input, Loss, Output, Question, RequestId, Word};
use crate::sentinel::saved::{SavedGroup, SavedState};
use crate::sentinel::settings::{Globals, GroupSettings, Periods};

/// One way through the network.
const LATENCY: Duration = Duration::from_micros(200);
/// A write to disk.
const DISK: Duration = Duration::from_millis(1);
const PING_PERIOD: Duration = Duration::from_secs(1);

#[derive(Clone, Debug)]
pub(super) struct Told {
    pub(super) node: usize,
    pub(super) at: Duration,
    pub(super) name: String,
    pub(super) payload: String,
}

pub(super) struct Node {
    pub(super) sentinel: Sentinel,
    pub(super) at: Endpoint,
    pub(super) up: bool,
    pub(super) foreign: bool,
    pub(super) disk_broken: bool,
}

#[derive(Clone, Debug)]
enum Delivery {
    To(usize, Input),
    /// A command reaches the other end of a connection.
    Command(usize, ConnId, Vec<Vec<u8>>),
    Open(usize, ConnId),
    /// Nobody answered an attempt.
    GiveUp(usize, ConnId),
}

pub(super) struct Wire {
    to: Endpoint,
    kind: ConnKind,
    open: bool,
    /// Commands that arrived at a frozen or paused server.
    waiting: Vec<Vec<Vec<u8>>>,
    /// Replies that a sentinel owes, in the order of the commands: a held one holds those behind it.
    owed: VecDeque<(RequestId, Option<Value>)>,
}

pub(super) struct World {
    pub(super) start: Instant,
    pub(super) now: Instant,
    pub(super) nodes: Vec<Node>,
    pub(super) servers: BTreeMap<Endpoint, Server>,
    pub(super) told: Vec<Told>,
    pub(super) logs: Vec<String>,
    /// Pairs of hosts that cannot reach each other.
    pub(super) cuts: BTreeSet<(String, String)>,
    pub(super) codes: Vec<(usize, i32)>,
    pub(super) scripts: Vec<(usize, Vec<String>)>,
    /// What the daemons beside servers say when they are to archive.
    pub(super) daemons: BTreeMap<Endpoint, Word>,
    pub(super) wires: BTreeMap<(usize, ConnId), Wire>,
    queue: BTreeMap<(Instant, u64), Delivery>,
    asked: BTreeMap<RequestId, (usize, ConnId)>,
    pub(super) answers: BTreeMap<RequestId, Value>,
    serial: u64,
}

pub(super) fn server_at(index: u16) -> Endpoint {
    Endpoint::new(format!("10.0.1.{index}"), 6379)
}

pub(super) fn group_name() -> GroupName {
    GroupName("orders".to_owned())
}

fn id_of(index: usize) -> SentinelId {
    SentinelId::parse(&format!("{:040x}", 0xabcd_0000 + index)).expect("forty digits")
}

impl World {
    /// A fleet that watches server 1, with the others as its replicas; not run yet.
    pub(super) fn new(plan: &Plan) -> Self {
        let start = crate::testing::origin();
        let mut servers = BTreeMap::new();
        let primary = server_at(1);
        servers.insert(primary.clone(), Server::primary(primary.clone(), 1));
        for index in 2..2 + plan.replicas {
            let at = server_at(index);
            servers.insert(at.clone(), Server::replica(at, u64::from(index), &primary));
        }
        let mut world = Self {
            start,
            now: start,
            nodes: Vec::new(),
            servers,
            told: Vec::new(),
            logs: Vec::new(),
            cuts: BTreeSet::new(),
            codes: Vec::new(),
            scripts: Vec::new(),
            daemons: BTreeMap::new(),
            wires: BTreeMap::new(),
            queue: BTreeMap::new(),
            asked: BTreeMap::new(),
            answers: BTreeMap::new(),
            serial: 0,
        };
        for index in 0..plan.sentinels {
            let mut settings = GroupSettings::new(group_name(), plan.quorum, &Periods::default());
            settings.down_after = Duration::from_secs(1);
            settings.failover_timeout = plan.failover_timeout;
            let state = SavedState {
                id: id_of(index),
                current_epoch: ElectionEpoch(0),
                globals: Globals {
                    port: 26379,
                    ..Globals::default()
                },
                groups: vec![SavedGroup {
                    settings,
                    primary: primary.clone(),
                    config_epoch: ConfigEpoch(0),
                    leader_epoch: ElectionEpoch(0),
                    replicas: Vec::new(),
                    peers: Vec::new(),
                }],
            };
            world.boot(state, plan.seed + index as u64, index < plan.foreign);
        }
        world
    }

    fn boot(&mut self, state: SavedState, seed: u64, foreign: bool) {
        let node = self.nodes.len();
        let (sentinel, outputs) = Sentinel::new(state, Periods::default(), seed, self.now);
        self.nodes.push(Node {
            sentinel,
            at: Endpoint::new(format!("10.0.0.{node}"), 26379),
            up: true,
            foreign,
            disk_broken: false,
        });
        self.carry_out(node, outputs);
    }

    /// Time since the beginning.
    pub(super) fn clock(&self) -> Duration {
        self.now - self.start
    }

    pub(super) fn run_for(&mut self, time: Duration) {
        let end = self.now + time;
        self.run_until(end, |_| false);
        self.now = end;
    }

    /// Runs until the condition holds; false when it did not within this time.
    pub(super) fn run_till(&mut self, time: Duration, done: impl Fn(&Self) -> bool) -> bool {
        let end = self.now + time;
        let held = self.run_until(end, done);
        if !held {
            self.now = end;
        }
        held
    }

    fn run_until(&mut self, end: Instant, done: impl Fn(&Self) -> bool) -> bool {
        let mut steps = 0_u64;
        loop {
            if done(self) {
                return true;
            }
            let delivery = self.queue.keys().next().copied();
            let wake = self
                .nodes
                .iter()
                .enumerate()
                .filter(|(_, node)| node.up)
                .filter_map(|(index, node)| Some((node.sentinel.next_wake()?, index)))
                .min();
            let next = [delivery.map(|(at, _)| at), wake.map(|(at, _)| at)];
            let Some(next) = next.into_iter().flatten().min().filter(|at| *at <= end) else {
                return false;
            };
            self.now = self.now.max(next);
            self.replicate();
            if let Some(key) = delivery.filter(|(at, _)| *at <= next) {
                let delivery = self.queue.remove(&key).expect("it is first");
                self.deliver(delivery);
            } else if let Some((_, node)) = wake {
                self.input(node, Input::Tick);
            }
            steps += 1;
            assert!(steps < 3_000_000, "the world does not come to rest");
        }
    }

    /// Replicas read all that their primary has written.
    fn replicate(&mut self) {
        let snapshot: BTreeMap<Endpoint, Server> = self.servers.clone();
        for server in self.servers.values_mut() {
            let Some(of) = server.follows.clone() else {
                continue;
            };
            if server.life != Life::Up {
                continue;
            }
            let Some(source) = snapshot.get(&of) else {
                server.link_up = false;
                continue;
            };
            match source.life {
                Life::Killed => server.link_up = false,
                Life::Frozen => {}
                Life::Up if server.syncing => {}
                Life::Up => {
                    server.link_up = true;
                    if !server.lazy {
                        server.offset = source.offset;
                        server.keys = source.keys;
                    }
                    server.replid.clone_from(&source.replid);
                    server.replid2.clone_from(&source.replid2);
                    server.second_offset = source.second_offset;
                }
            }
        }
    }

    fn later(&mut self, after: Duration, delivery: Delivery) {
        self.serial += 1;
        self.queue.insert((self.now + after, self.serial), delivery);
    }

    pub(super) fn input(&mut self, node: usize, input: Input) {
        if !self.nodes[node].up {
            return;
        }
        let outputs = self.nodes[node].sentinel.handle(input, self.now);
        self.carry_out(node, outputs);
    }

    /// A client asks.
    pub(super) fn ask(&mut self, node: usize, words: &str) -> RequestId {
        self.serial += 1;
        let request = RequestId(self.serial);
        let words = words
            .split(' ')
            .map(|word| word.as_bytes().to_vec())
            .collect();
        self.input(
            node,
            Input::Asked {
                request,
                question: Question::Sentinel(words),
            },
        );
        request
    }

    fn carry_out(&mut self, node: usize, outputs: Vec<Output>) {
        for output in outputs {
            match output {
                Output::Connect { conn, to, kind, .. } => {
                    self.wires.insert(
                        (node, conn),
                        Wire {
                            to,
                            kind,
                            open: false,
                            waiting: Vec::new(),
                            owed: VecDeque::new(),
                        },
                    );
                    self.later(LATENCY, Delivery::Open(node, conn));
                }
                Output::Close { conn } => {
                    self.wires.remove(&(node, conn));
                }
                Output::Send { conn, argv } => {
                    self.later(LATENCY * 2, Delivery::Command(node, conn, argv));
                }
                Output::Answer { request, value } => {
                    if let Some((asker, conn)) = self.asked.remove(&request) {
                        self.owed(asker, conn, request, value);
                    } else {
                        self.answers.insert(request, value);
                    }
                }
                Output::Tell(event) => self.told.push(Told {
                    node,
                    at: self.now - self.start,
                    name: event.name.to_owned(),
                    payload: event.payload,
                }),
                Output::Log { text, .. } => self.logs.push(text),
                Output::Save { version, .. } => {
                    let result = if self.nodes[node].disk_broken {
                        Err("no space left".to_owned())
                    } else {
                        Ok(())
                    };
                    self.later(DISK, Delivery::To(node, Input::Saved { version, result }));
                }
                Output::Exit { code } => {
                    self.codes.push((node, code));
                    self.stop(node);
                }
                Output::RunScript { argv, .. } => self.scripts.push((node, argv)),
                Output::NextFailover { .. }
                | Output::SetLogLevel(_)
                | Output::KillScript { .. }
                | Output::Resolve { .. } => {}
                Output::AskDaemon { server, about } => {
                    if about == About::Tail {
                        let none = Word::Unarchived("nobody listens there".to_owned());
                        let word = self.daemons.get(&server).cloned().unwrap_or(none);
                        let answer = Input::Witness { server, word };
                        self.later(LATENCY, Delivery::To(node, answer));
                    }
                }
            }
        }
    }

    pub(super) fn resume(&mut self, at: &Endpoint) {
        let wires: Vec<(usize, ConnId)> = self
            .wires
            .iter()
            .filter(|(_, wire)| wire.to == *at)
            .map(|(key, _)| *key)
            .collect();
        for (node, conn) in wires {
            let waiting = self
                .wires
                .get_mut(&(node, conn))
                .map(|wire| std::mem::take(&mut wire.waiting))
                .unwrap_or_default();
            for argv in waiting {
                self.later(Duration::ZERO, Delivery::Command(node, conn, argv));
            }
        }
    }

    pub(super) fn hang_up(
        &mut self,
        at: &Endpoint,
        only: Option<(ConnKind, (usize, ConnId))>,
        loss: Loss,
    ) {
        let gone: Vec<(usize, ConnId)> = self
            .wires
            .iter()
            .filter(|(key, wire)| {
                wire.to == *at
                    && wire.open
                    && only.is_none_or(|(kind, spared)| wire.kind == kind && **key != spared)
            })
            .map(|(key, _)| *key)
            .collect();
        for (node, conn) in gone {
            self.wires.remove(&(node, conn));
            self.later(LATENCY, Delivery::To(node, Input::Lost { conn, loss }));
        }
    }

    fn reply(&mut self, node: usize, conn: ConnId, value: Value) {
        let Some(wire) = self.wires.get(&(node, conn)) else {
            return;
        };
        if wire.kind == ConnKind::Command && !self.is_cut(node, &wire.to.clone()) {
            self.later(LATENCY, Delivery::To(node, Input::Reply { conn, value }));
        }
    }

    /// A sentinel's answer: it leaves when all before it have left.
    fn owed(&mut self, node: usize, conn: ConnId, request: RequestId, value: Value) {
        let Some(wire) = self.wires.get_mut(&(node, conn)) else {
            return;
        };
        for (owed, slot) in &mut wire.owed {
            if *owed == request {
                *slot = Some(value.clone());
            }
        }
        let mut ready = Vec::new();
        while let Some((_, Some(value))) = wire.owed.front() {
            ready.push(value.clone());
            wire.owed.pop_front();
        }
        for value in ready {
            self.reply(node, conn, value);
        }
    }

    fn deliver(&mut self, delivery: Delivery) {
        match delivery {
            Delivery::To(node, input) => self.input(node, input),
            Delivery::Open(node, conn) => self.open(node, conn),
            Delivery::GiveUp(node, conn) => {
                if self.wires.get(&(node, conn)).is_some_and(|wire| !wire.open) {
                    self.wires.remove(&(node, conn));
                    let loss = Loss::TimedOut;
                    self.input(node, Input::Lost { conn, loss });
                }
            }
            Delivery::Command(node, conn, argv) => self.command(node, conn, argv),
        }
    }

    fn open(&mut self, node: usize, conn: ConnId) {
        let Some(wire) = self.wires.get(&(node, conn)) else {
            return;
        };
        let to = wire.to.clone();
        if self.is_cut(node, &to) {
            self.later(PING_PERIOD, Delivery::GiveUp(node, conn));
            return;
        }
        let listens = match self.servers.get(&to) {
            Some(server) => server.life != Life::Killed,
            None => self.nodes.iter().any(|node| node.up && node.at == to),
        };
        if !listens {
            self.wires.remove(&(node, conn));
            let loss = Loss::Refused;
            self.later(LATENCY, Delivery::To(node, Input::Lost { conn, loss }));
            return;
        }
        if let Some(wire) = self.wires.get_mut(&(node, conn)) {
            wire.open = true;
        }
        let local: IpAddr = self.nodes[node].at.host.parse().expect("an address");
        let remote = to.host.parse().unwrap_or(IpAddr::V4(Ipv4Addr::LOCALHOST));
        self.later(
            Duration::ZERO,
            Delivery::To(
                node,
                Input::Connected {
                    conn,
                    local,
                    remote,
                },
            ),
        );
    }

    fn command(&mut self, node: usize, conn: ConnId, argv: Vec<Vec<u8>>) {
        let Some(wire) = self.wires.get_mut(&(node, conn)) else {
            return;
        };
        let to = wire.to.clone();
        if self.is_cut(node, &to) {
            return;
        }
        if let Some(server) = self.servers.get(&to) {
            let wire = self.wires.get_mut(&(node, conn)).expect("found above");
            if server.life == Life::Frozen || !wire.waiting.is_empty() {
                wire.waiting.push(argv);
                return;
            }
            let now = self.now;
            let words: Vec<String> = argv
                .iter()
                .map(|word| String::from_utf8_lossy(word).into_owned())
                .collect();
            let effect = self.server(&to).take((node, conn.0), &words, now);
            if matches!(effect, Effect::Postpone) {
                let wire = self.wires.get_mut(&(node, conn)).expect("found above");
                wire.waiting.push(argv);
                return;
            }
            self.effect(node, conn, &to, effect);
            // A pause that ended lets the others go on.
            if words[0] == "CLIENT" && words[1] == "UNPAUSE" {
                self.resume(&to);
            }
            return;
        }
        self.command_to_sentinel(node, conn, &to, &argv);
    }

    fn effect(&mut self, node: usize, conn: ConnId, to: &Endpoint, effect: Effect) {
        match effect {
            Effect::Reply(Value::Bulk(text)) if text.ends_with(b"expires=0\r\n") => {
                let text = String::from_utf8_lossy(&text).replace("REPLICAS", &self.listed(to));
                self.reply(node, conn, Value::Bulk(text.into_bytes()));
            }
            Effect::Reply(value) => self.reply(node, conn, value),
            Effect::Publish(message) => {
                let hearers: Vec<(usize, ConnId)> = self
                    .wires
                    .iter()
                    .filter(|(_, wire)| {
                        wire.to == *to && wire.kind == ConnKind::PubSub && wire.open
                    })
                    .map(|(key, _)| *key)
                    .collect();
                for (hearer, conn) in hearers {
                    if self.is_cut(hearer, to) {
                        continue;
                    }
                    let channel = crate::sentinel::hello::CHANNEL.as_bytes().to_vec();
                    let message = message.clone();
                    let heard = Input::Heard {
                        conn,
                        channel,
                        message,
                    };
                    self.later(LATENCY, Delivery::To(hearer, heard));
                }
                self.reply(node, conn, Value::Integer(1));
            }
            Effect::Subscribe | Effect::Postpone => {}
            Effect::Kill(value, hearing) => {
                let kill = if hearing {
                    ConnKind::PubSub
                } else {
                    ConnKind::Command
                };
                self.hang_up(to, Some((kill, (node, conn))), Loss::Closed);
                if value != Value::Null {
                    self.reply(node, conn, value);
                }
            }
            Effect::Many(effects) => {
                for effect in effects {
                    self.effect(node, conn, to, effect);
                }
            }
        }
    }

    /// The lines of INFO that list a server's replicas.
    fn listed(&self, of: &Endpoint) -> String {
        if self
            .servers
            .get(of)
            .is_none_or(|server| server.follows.is_some())
        {
            return String::new();
        }
        let replicas = self
            .servers
            .values()
            .filter(|server| server.follows.as_ref() == Some(of) && server.life != Life::Killed);
        replicas
            .enumerate()
            .map(|(index, replica)| {
                format!(
                    "slave{index}:ip={},port={},state=online,offset={},lag=0\r\n",
                    replica.at.host, replica.at.port, replica.offset
                )
            })
            .collect()
    }

    fn command_to_sentinel(&mut self, node: usize, conn: ConnId, to: &Endpoint, argv: &[Vec<u8>]) {
        let Some(target) = self.nodes.iter().position(|node| node.up && node.at == *to) else {
            return;
        };
        self.serial += 1;
        let request = RequestId(self.serial);
        if let Some(wire) = self.wires.get_mut(&(node, conn)) {
            wire.owed.push_back((request, None));
        }
        let foreign = self.nodes[target].foreign || self.nodes[node].foreign;
        let question = match argv[0].as_slice() {
            // A foreign one does not know the question, and has none itself: it takes everybody for its like.
            b"SENTINEL" if argv[1] == b"TANDEM" && foreign => {
                let error = Value::Error(b"ERR unknown subcommand".to_vec());
                return self.owed(node, conn, request, error);
            }
            b"SENTINEL" => Question::Sentinel(argv[1..].to_vec()),
            b"PUBLISH" => Question::Publish {
                channel: argv[1].clone(),
                message: argv[2].clone(),
            },
            b"PING" => {
                let pong = Value::Simple(b"PONG".to_vec());
                return self.owed(node, conn, request, pong);
            }
            _ => {
                let ok = Value::Simple(b"OK".to_vec());
                return self.owed(node, conn, request, ok);
            }
        };
        self.asked.insert(request, (node, conn));
        self.input(target, Input::Asked { request, question });
    }
}
