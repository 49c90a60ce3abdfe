//! The world of one run: sentinels, servers, a network, a client, a clock, and the queue of what comes next.

use std::cmp::Ordering;
use std::collections::{BTreeMap, BinaryHeap};
use std::time::{Duration, Instant};

use tandem_core::sentinel::io::SaveVersion;
use tandem_core::sentinel::saved::SavedState;
use tandem_core::sentinel::{ConnId, Endpoint, GroupName, Input, RequestId};

use super::Size;
use super::ask::Asker;
use super::check::Checks;
use super::faults::Undo;
use super::net::Net;
use super::node::Node;
use super::plan::Plan;
use super::server::Srv;
use super::wires::Wire;
use super::writer::Writer;
use crate::chance::{Chance, SEC, Us};
use crate::world::Violation;

/// Servers of the group.
pub(super) const SERVERS: usize = 3;

/// What happens at an instant.
#[derive(Debug)]
pub(super) enum Ev {
    Open(u64),
    GaveUp(u64),
    Down(u64),
    Up(u64),
    Input {
        node: usize,
        inc: u32,
        input: Box<Input>,
    },
    Tick {
        node: usize,
        inc: u32,
        at: Us,
    },
    Disk {
        node: usize,
        inc: u32,
        version: SaveVersion,
        state: Box<SavedState>,
    },
    NodeStart(usize),
    Ambush {
        node: usize,
        inc: u32,
    },
    Link(usize),
    Ping(usize),
    Upkeep,
    Watch,
    ServerStart {
        s: usize,
        wipe: bool,
    },
    Unpaused(usize),
    Write,
    WriteArrives {
        serial: u64,
        s: usize,
        conn: u64,
    },
    WriteAnswered {
        serial: u64,
        taken: bool,
    },
    WriteTimeout(u64),
    Directed {
        to: usize,
    },
    Fault,
    Undo(Undo),
    Heal,
    Look,
}

#[derive(Debug)]
struct Scheduled {
    at: Us,
    seq: u64,
    ev: Ev,
}

impl PartialEq for Scheduled {
    fn eq(&self, other: &Self) -> bool {
        (self.at, self.seq) == (other.at, other.seq)
    }
}
impl Eq for Scheduled {}
impl PartialOrd for Scheduled {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}
impl Ord for Scheduled {
    fn cmp(&self, other: &Self) -> Ordering {
        (other.at, other.seq).cmp(&(self.at, self.seq))
    }
}

/// A fleet and what surrounds it.
#[derive(Debug)]
pub struct Fleet {
    pub(super) now: Us,
    pub(super) base: Instant,
    pub(super) chance: Chance,
    /// Chance of the ambushes, apart so that they move nothing else.
    pub(super) ambush: Chance,
    /// Percent of the decisive moments at which a sentinel is killed.
    pub(super) ambushes: u64,
    pub(super) plan: Plan,
    queue: BinaryHeap<Scheduled>,
    seq: u64,
    pub(super) serial: u64,
    pub(super) nodes: Vec<Node>,
    pub(super) servers: Vec<Srv>,
    pub(super) net: Net,
    pub(super) wires: BTreeMap<u64, Wire>,
    /// The wire of each connection that a living sentinel has.
    pub(super) calls: BTreeMap<(usize, u32, ConnId), u64>,
    pub(super) asked: BTreeMap<RequestId, Asker>,
    pub(super) writer: Writer,
    pub(super) checks: Checks,
    pub(super) healed_at: Option<Us>,
    pub(super) whole_since: Option<Us>,
    pub(super) violation: Option<Violation>,
    pub(super) done: bool,
    pub(super) trace: bool,
    pub(super) events: u64,
}

impl Fleet {
    /// A world with its plan's beginning.
    #[must_use]
    pub fn new(size: Size, seed: u64, trace: bool) -> Self {
        let sentinels = size.sentinels();
        let mut chance = Chance::new(seed);
        let plan = Plan::draw(&mut chance, sentinels);
        let mut ambush = Chance::new(!seed);
        let ambushes = if !plan.calm && ambush.percent(30) {
            ambush.within(5, 30)
        } else {
            0
        };
        let nodes = (0..sentinels).map(|n| Node::new(n, &plan)).collect();
        let servers = (0..SERVERS).map(|s| Srv::new(s, &plan)).collect();
        let mut fleet = Self {
            now: SEC,
            // Only differences of it are ever used.
            base: Instant::now(),
            chance,
            ambush,
            ambushes,
            plan,
            queue: BinaryHeap::new(),
            seq: 0,
            serial: 0,
            nodes,
            servers,
            net: Net::new(sentinels.max(SERVERS) + 1),
            wires: BTreeMap::new(),
            calls: BTreeMap::new(),
            asked: BTreeMap::new(),
            writer: Writer::default(),
            checks: Checks::new(sentinels),
            healed_at: None,
            whole_since: None,
            violation: None,
            done: false,
            trace,
            events: 0,
        };
        fleet.begin();
        fleet
    }

    fn begin(&mut self) {
        self.say(|| format!("{:?}", self.plan));
        for s in 0..SERVERS {
            self.server_start(s, false);
            let wait = self.chance.within(0, SEC);
            self.after(wait, Ev::Ping(s));
        }
        for n in 0..self.nodes.len() {
            let wait = self.chance.within(0, SEC / 2);
            self.after(wait, Ev::NodeStart(n));
        }
        self.after(SEC / 10, Ev::Write);
        self.after(SEC, Ev::Upkeep);
        self.after(SEC / 10, Ev::Watch);
        let first = self.plan.first;
        self.after(first, Ev::Fault);
        self.after(first + self.plan.length, Ev::Heal);
    }

    /// Runs until it ends; a broken rule ends it at once.
    pub fn run(&mut self) -> Option<Violation> {
        while !self.done && self.violation.is_none() {
            let Some(next) = self.queue.pop() else { break };
            debug_assert!(next.at >= self.now);
            self.now = next.at;
            self.events += 1;
            self.happen(next.ev);
        }
        self.violation.clone()
    }

    /// Numbers that two runs of one seed must share: events, end, acknowledged writes, promotions.
    #[must_use]
    pub fn summary(&self) -> (u64, Us, usize, usize) {
        let acked = self.writer.acked.len();
        (self.events, self.now, acked, self.checks.promoted.len())
    }

    pub(super) fn instant(&self) -> Instant {
        self.base + Duration::from_micros(self.now)
    }

    pub(super) fn us(&self, at: Instant) -> Us {
        self.us_of(at.saturating_duration_since(self.base))
    }

    pub(super) fn us_of(&self, time: Duration) -> Us {
        u64::try_from(time.as_micros()).unwrap_or(Us::MAX)
    }

    pub(super) fn after(&mut self, wait: Us, ev: Ev) {
        self.at(self.now + wait, ev);
    }

    pub(super) fn at(&mut self, at: Us, ev: Ev) {
        self.seq += 1;
        let seq = self.seq;
        self.queue.push(Scheduled { at, seq, ev });
    }

    pub(super) fn input_after(&mut self, wait: Us, node: usize, inc: u32, input: Input) {
        let input = Box::new(input);
        self.after(wait, Ev::Input { node, inc, input });
    }

    pub(super) fn latency(&mut self) -> Us {
        self.net.latency(&mut self.chance)
    }

    pub(super) fn say(&self, text: impl FnOnce() -> String) {
        if self.trace {
            println!("{:>10.3} {}", self.now as f64 / 1000.0, text());
        }
    }

    pub(super) fn broken(&mut self, rule: &'static str, text: String) {
        self.say(|| format!("BROKEN {rule}: {text}"));
        if self.violation.is_none() {
            self.violation = Some(Violation {
                rule,
                at: self.now,
                text,
            });
        }
    }

    /// The host of the writing client.
    pub(super) fn client_host(&self) -> usize {
        self.net.hosts() - 1
    }

    fn happen(&mut self, ev: Ev) {
        match ev {
            Ev::Open(id) => self.opened(id),
            Ev::GaveUp(id) => self.gave_up(id),
            Ev::Down(id) => self.down(id),
            Ev::Up(id) => self.up(id),
            Ev::Input { node, inc, input } => self.input(node, inc, *input),
            Ev::Tick { node, inc, at } => self.tick(node, inc, at),
            Ev::Disk {
                node,
                inc,
                version,
                state,
            } => self.written(node, inc, version, *state),
            Ev::NodeStart(node) => self.node_start(node),
            Ev::Ambush { node, inc } => self.strike(node, inc),
            Ev::Link(s) => self.link(s),
            Ev::Ping(s) => self.replica_ping(s),
            Ev::Upkeep => self.upkeep(),
            Ev::Watch => self.watch(),
            Ev::ServerStart { s, wipe } => self.server_start(s, wipe),
            Ev::Unpaused(s) => self.unpaused(s),
            Ev::Write => self.write_next(),
            Ev::WriteArrives { serial, s, conn } => self.write_arrives(serial, s, conn),
            Ev::WriteAnswered { serial, taken } => self.write_answered(serial, taken),
            Ev::WriteTimeout(serial) => self.write_timed_out(serial),
            Ev::Directed { to } => self.directed(to),
            Ev::Fault => self.fault(),
            Ev::Undo(undo) => self.undo(undo),
            Ev::Heal => self.heal(),
            Ev::Look => self.look(),
        }
    }
}

/// The address of a server.
pub(super) fn server_endpoint(s: usize) -> Endpoint {
    Endpoint::new(format!("10.0.1.{}", s + 1), 6379)
}

/// The group's name.
pub(super) fn group_name() -> GroupName {
    GroupName("orders".to_owned())
}

impl Fleet {
    /// The server with this address.
    pub(super) fn server_at(&self, host: &str, port: u16) -> Option<usize> {
        if port != 6379 {
            return None;
        }
        let last = host.strip_prefix("10.0.1.")?.parse::<usize>().ok()?;
        last.checked_sub(1).filter(|s| *s < SERVERS)
    }
}
