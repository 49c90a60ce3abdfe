//! The world of one run: two hosts, a network, clients, a clock, and the queue of what comes next.

use std::cmp::Ordering;
use std::collections::{BTreeMap, BinaryHeap, VecDeque};
use std::time::{Duration, Instant};

use tandem_core::ids::{Epoch, HostId};
use tandem_core::journal::Journal;
use tandem_core::keeper::io::{Step, StepError, StepId};
use tandem_core::keeper::{Outcome, Phase};
use tandem_core::pair::{Pair, PairInput};
use tandem_core::server::{ServerRole, ServerView};
use tandem_core::statement::Statement;
use tandem_vrrp::packet::Received;

use crate::chance::{Chance, MS, SEC, Us};
use crate::clients::{Client, Write};
use crate::data::Data;
use crate::plan::Plan;
use crate::redis::Server;
use crate::wire::{Flying, Wire};

/// Tells the second stream of chance of a seed from the first.
const LATER: u64 = 0x5eed_0002;

/// Names of the two hosts.
pub const HOSTS: [&str; 2] = ["a", "b"];
/// Where their servers listen.
pub const ADDRESSES: [&str; 2] = ["10.0.0.1:6379", "10.0.0.2:6379"];

/// The other host.
pub fn other(host: usize) -> usize {
    1 - host
}

/// What happens at an instant.
#[derive(Debug)]
pub(crate) enum Ev {
    Wake {
        h: usize,
        inc: u64,
        at: Us,
    },
    Poll {
        h: usize,
        inc: u64,
        round: u32,
    },
    Advert {
        to: usize,
        advert: Received,
    },
    Datagram {
        to: usize,
        flying: Box<Flying>,
    },
    Dial {
        h: usize,
        inc: u64,
        at: Us,
    },
    Talk {
        h: usize,
        name: u64,
    },
    Statement {
        to: usize,
        statement: Box<Statement>,
    },
    PeerLost {
        to: usize,
    },
    ServerDied {
        h: usize,
        inc: u64,
        run: u64,
    },
    Step(Box<Run>),
    StepDone {
        h: usize,
        inc: u64,
        id: StepId,
        result: Result<Outcome, StepError>,
    },
    Disk {
        h: usize,
        boot: u32,
        write: Box<DiskWrite>,
    },
    Link {
        h: usize,
    },
    ReplicaPing {
        h: usize,
    },
    ReplicaAck {
        h: usize,
    },
    Upkeep {
        h: usize,
    },
    ServerStart {
        h: usize,
        boot: u32,
        fenced: bool,
    },
    Renew {
        h: usize,
        inc: u64,
    },
    DaemonStart {
        h: usize,
        boot: u32,
    },
    Client {
        c: usize,
    },
    Arrive {
        c: usize,
        serial: u64,
        h: usize,
        id: u32,
    },
    Unpaused {
        h: usize,
    },
    Fault,
    Undo(Undo),
    Heal,
    Look,
}

/// The end of a fault.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Undo {
    ThawServer { h: usize, boot: u32 },
    ThawDaemon { h: usize, inc: u64 },
    PowerOn(usize),
    Cuts,
    Weather,
    Disk(usize),
    Steps,
    Misconf(usize),
}

/// A step on its way through the shell.
#[derive(Clone, Debug)]
pub(crate) struct Run {
    pub(crate) h: usize,
    pub(crate) inc: u64,
    pub(crate) id: StepId,
    pub(crate) step: Step,
    pub(crate) deadline: Us,
    pub(crate) begun: bool,
    pub(crate) mishap: Mishap,
}

/// What goes wrong with a step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mishap {
    None,
    Refused,
    LostBefore,
    LostAfter,
    LateBefore,
    LateAfter,
}

/// A record on its way to the disk.
#[derive(Clone, Debug)]
pub(crate) struct DiskWrite {
    pub(crate) journal: Journal,
    pub(crate) step: Option<(u64, StepId)>,
    pub(crate) inc: u64,
    pub(crate) deadline: Us,
    pub(crate) mishap: Mishap,
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

/// A command that waits in a server's socket.
#[derive(Clone, Debug)]
pub(crate) enum Cmd {
    Write { c: usize, serial: u64, id: u32 },
    Admin(Admin),
}

/// The keeper's commands to a server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Admin {
    Promote,
    Fence,
    Attach,
    Pause(Us),
    Unpause,
}

/// A running daemon.
#[derive(Debug)]
pub(crate) struct Daemon {
    pub(crate) pair: Pair,
    pub(crate) inc: u64,
    pub(crate) frozen_since: Option<Us>,
    pub(crate) inbox: Vec<PairInput>,
    pub(crate) held: Vec<Run>,
    pub(crate) wake_at: Us,
    pub(crate) vip_on: bool,
    /// What its connection to the server has heard while it rested.
    pub(crate) rest: Rest,
    pub(crate) last_phase: tandem_core::statement::PhaseName,
    /// It has promised that its server is not promoted.
    pub(crate) barred: bool,
}

/// A connection that asks its server by itself, as the shell's does while nothing happens.
#[derive(Debug, Default)]
pub(crate) struct Rest {
    /// The process that is watched: INFO of it was read at once.
    pub(crate) watches: Option<u64>,
    /// The server was last heard then, and the loop has not looked.
    pub(crate) heard: Option<Us>,
    /// Of this process, read at this time: its reading lies until the next period.
    pub(crate) lies: Option<(u64, Us, Box<ServerView>)>,
    /// The role in the last reading that was told, and when that was.
    pub(crate) role: Option<ServerRole>,
    pub(crate) read_at: Us,
    /// A replica's link was seen to be another than in that reading: INFO is asked for at once.
    pub(crate) link_changed: bool,
}

/// One host.
#[derive(Debug)]
pub(crate) struct Host {
    pub(crate) powered: bool,
    pub(crate) boot: u32,
    pub(crate) server: Server,
    pub(crate) server_frozen: bool,
    pub(crate) misconf: bool,
    pub(crate) queued: VecDeque<Cmd>,
    pub(crate) paused: VecDeque<Cmd>,
    pub(crate) daemon: Option<Daemon>,
    pub(crate) journal: Option<Vec<u8>>,
    pub(crate) disk_full: bool,
    pub(crate) disk_slow: Us,
    pub(crate) disk_busy: Us,
    pub(crate) vip_until: Us,
    pub(crate) gate: bool,
    pub(crate) gate_direct: bool,
    pub(crate) archive: Data,
    pub(crate) heard: Option<Us>,
    pub(crate) last_statement_at: Us,
    pub(crate) last_step_at: Us,
    /// The server's link broke by itself at this instant, from that process, and nobody gave it an order since.
    pub(crate) orphaned: Option<(Us, u64)>,
    /// While it was an orphan its daemon had the time to detach it.
    pub(crate) neglected: bool,
    /// The daemon was not there, or it or the server frozen, up to this instant.
    pub(crate) unwatched: Us,
    /// Epochs as the disk has had them, for P5.
    pub(crate) disk_epoch: Option<Epoch>,
}

/// What does not get through, by the sending host.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Cuts {
    pub(crate) vrrp: [bool; 2],
    pub(crate) peer: [bool; 2],
    pub(crate) redis: [bool; 2],
}

/// Loss in percent and extra delay.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Weather {
    pub(crate) loss: u64,
    pub(crate) twice: u64,
    pub(crate) delay: Us,
}

/// A rule that was broken.
#[derive(Clone, Debug)]
pub struct Violation {
    /// Which: `P1` to `P6`, `two-writers`, `promise`, `wire`, or `panic`.
    pub rule: &'static str,
    /// When.
    pub at: Us,
    /// In words.
    pub text: String,
}

/// The world.
#[derive(Debug)]
pub struct World {
    pub(crate) now: Us,
    pub(crate) base: Instant,
    /// What was told of primaries, by anybody: at which rank, and whether it was closing.
    pub(crate) told: BTreeMap<(tandem_core::topology::Rank, String), bool>,
    pub(crate) chance: Chance,
    /// Chance of what was added later; see [`Plan::of_seed`].
    pub(crate) later: Chance,
    pub(crate) plan: Plan,
    queue: BinaryHeap<Scheduled>,
    seq: u64,
    pub(crate) hosts: [Host; 2],
    pub(crate) clients: Vec<Client>,
    pub(crate) writes: Vec<Write>,
    pub(crate) cuts: Cuts,
    pub(crate) cut_until: Us,
    pub(crate) weather: Weather,
    pub(crate) wire: Option<Wire>,
    pub(crate) step_trouble: u64,
    pub(crate) healed_at: Option<Us>,
    pub(crate) quiet: bool,
    pub(crate) settled_since: Option<Us>,
    /// Since when nothing outside of the pair is in its way.
    pub(crate) able_since: Option<Us>,
    pub(crate) last_ack: Us,
    pub(crate) operator_at: Us,
    pub(crate) stuck: [Option<(&'static str, Us)>; 2],
    pub(crate) asked: u64,
    pub(crate) promoted: BTreeMap<Epoch, (usize, u64)>,
    pub(crate) acked_in: BTreeMap<Epoch, usize>,
    pub(crate) violation: Option<Violation>,
    pub(crate) done: bool,
    pub(crate) trace: bool,
    pub(crate) events: u64,
}

impl World {
    /// A world with its plan's beginning.
    pub fn new(seed: u64, trace: bool) -> Self {
        Self::with(seed, trace, |plan| plan)
    }

    /// The same with both servers on one host, under one daemon.
    pub fn on_one_host(seed: u64, trace: bool) -> Self {
        Self::with(seed, trace, Plan::on_one_host)
    }

    /// The same with primaries that go on without a replica.
    pub fn going_on_alone(seed: u64, trace: bool) -> Self {
        Self::with(seed, trace, |plan| Plan {
            alone: true,
            ..plan
        })
    }

    fn with(seed: u64, trace: bool, change: impl FnOnce(Plan) -> Plan) -> Self {
        let mut chance = Chance::new(seed);
        let mut later = Chance::new(seed ^ LATER);
        let plan = change(Plan::of_seed(&mut chance, &mut later));
        let host = |h: usize| Host {
            powered: true,
            boot: 1,
            server: Server::new(plan.persistence[h], plan.backlog),
            server_frozen: false,
            misconf: false,
            queued: VecDeque::new(),
            paused: VecDeque::new(),
            daemon: None,
            journal: None,
            disk_full: false,
            disk_slow: 0,
            disk_busy: 0,
            vip_until: 0,
            gate: false,
            gate_direct: false,
            archive: Data::default(),
            heard: None,
            last_statement_at: 0,
            last_step_at: 0,
            orphaned: None,
            neglected: false,
            unwatched: 0,
            disk_epoch: None,
        };
        let wire = Wire::of_seed(seed).filter(|_| !plan.one_host);
        let mut world = Self {
            now: SEC,
            // Only differences of it are ever used.
            base: Instant::now(),
            told: BTreeMap::new(),
            hosts: [host(0), host(1)],
            chance,
            later,
            plan,
            queue: BinaryHeap::new(),
            seq: 0,
            clients: Vec::new(),
            writes: Vec::new(),
            cuts: Cuts::default(),
            cut_until: 0,
            weather: Weather::default(),
            wire,
            step_trouble: 0,
            healed_at: None,
            quiet: false,
            settled_since: None,
            able_since: None,
            last_ack: 0,
            operator_at: 0,
            stuck: [None; 2],
            asked: 0,
            promoted: BTreeMap::new(),
            acked_in: BTreeMap::new(),
            violation: None,
            done: false,
            trace,
            events: 0,
        };
        world.begin();
        world
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

    /// Numbers that two runs of one seed must share: events, end, writes, acknowledged, promotions.
    pub fn summary(&self) -> (u64, Us, usize, usize, usize) {
        let acked = self.writes.iter().filter(|w| w.acked.is_some()).count();
        let promotions = self.promoted.len();
        (self.events, self.now, self.writes.len(), acked, promotions)
    }

    /// Virtual time as the machines see it.
    pub(crate) fn instant(&self) -> Instant {
        self.base + Duration::from_micros(self.now)
    }

    pub(crate) fn us(&self, at: Instant) -> Us {
        u64::try_from(at.saturating_duration_since(self.base).as_micros()).unwrap_or(Us::MAX)
    }

    pub(crate) fn after(&mut self, wait: Us, ev: Ev) {
        self.seq += 1;
        self.queue.push(Scheduled {
            at: self.now + wait,
            seq: self.seq,
            ev,
        });
    }

    pub(crate) fn say(&self, h: Option<usize>, text: impl FnOnce() -> String) {
        if self.trace {
            let who = h.map_or("-", |h| HOSTS[h]);
            println!("{:>10.3} {who} {}", self.now as f64 / 1000.0, text());
        }
    }

    pub(crate) fn broken(&mut self, rule: &'static str, text: String) {
        self.say(None, || format!("BROKEN {rule}: {text}"));
        if self.violation.is_none() {
            self.violation = Some(Violation {
                rule,
                at: self.now,
                text,
            });
        }
    }

    /// A short latency within a host.
    pub(crate) fn local(&mut self) -> Us {
        self.chance.within(50, 400)
    }

    /// The latency of one datagram; `None` when it is lost.
    pub(crate) fn wire_latency(&mut self) -> Option<Us> {
        if self.chance.percent(self.weather.loss) {
            return None;
        }
        let delay = self.weather.delay;
        Some(self.chance.within(60, 300) + self.chance.within(0, delay))
    }

    /// The latency of a piece of a TCP stream: what is lost is sent again.
    pub(crate) fn stream(&mut self) -> Us {
        self.wire_latency().unwrap_or(200 * MS)
    }

    pub(crate) fn peer_path(&self) -> bool {
        let both = self.hosts.iter().all(|h| h.powered);
        both && !self.cuts.peer[0] && !self.cuts.peer[1]
    }

    pub(crate) fn redis_path(&self) -> bool {
        let both = self.hosts.iter().all(|h| h.powered);
        both && !self.cuts.redis[0] && !self.cuts.redis[1]
    }

    pub(crate) fn inc(&self, h: usize) -> u64 {
        self.hosts[h].daemon.as_ref().map_or(0, |d| d.inc)
    }

    /// What a daemon tells of the pair.
    pub(crate) fn daemon_topology(&self, h: usize) -> Option<tandem_core::topology::Topology> {
        let daemon = self.hosts[h].daemon.as_ref()?;
        let keeper = daemon.pair.keeper();
        Some(keeper.topology(self.instant()))
    }

    pub(crate) fn phase(&self, h: usize) -> Option<&Phase> {
        self.hosts[h]
            .daemon
            .as_ref()
            .map(|d| d.pair.keeper().phase())
    }

    pub(crate) fn host_id(h: usize) -> HostId {
        HostId::new(HOSTS[h])
    }

    fn happen(&mut self, ev: Ev) {
        match ev {
            Ev::Wake { h, inc, at } => self.wake(h, inc, at),
            Ev::Poll { h, inc, round } => self.poll(h, inc, round),
            Ev::Advert { to, advert } => self.advert_arrives(to, advert),
            Ev::Datagram { to, flying } => self.datagram_arrives(to, &flying),
            Ev::Dial { h, inc, at } => self.dial(h, inc, at),
            Ev::Talk { h, name } => self.talk_turn(h, name),
            Ev::Statement { to, statement } => self.statement_arrives(to, statement),
            Ev::PeerLost { to } => self.peer_lost(to),
            Ev::ServerDied { h, inc, run } => self.death_noticed(h, inc, run),
            Ev::Step(run) => self.step_runs(*run),
            Ev::StepDone { h, inc, id, result } => self.step_done(h, inc, id, result),
            Ev::Disk { h, boot, write } => self.disk_written(h, boot, *write),
            Ev::Link { h } => self.link(h),
            Ev::ReplicaPing { h } => self.replica_ping(h),
            Ev::ReplicaAck { h } => self.replica_acks(h),
            Ev::Upkeep { h } => self.upkeep(h),
            Ev::ServerStart { h, boot, fenced } => self.server_start(h, boot, fenced),
            Ev::Renew { h, inc } => self.renew(h, inc),
            Ev::DaemonStart { h, boot } => {
                self.daemon_start(h, boot);
                if self.plan.one_host {
                    let boot = self.hosts[other(h)].boot;
                    self.daemon_start(other(h), boot);
                }
            }
            Ev::Client { c } => self.client(c),
            Ev::Arrive { c, serial, h, id } => self.arrive(c, serial, h, id),
            Ev::Unpaused { h } => self.unpaused(h),
            Ev::Fault => self.fault(),
            Ev::Undo(undo) => self.undo(undo),
            Ev::Heal => self.heal(),
            Ev::Look => self.look(),
        }
    }
}
