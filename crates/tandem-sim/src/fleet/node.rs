//! One sentinel's process: the machine, its inbox while the process is paused, its file, and its timer.

use std::net::{IpAddr, Ipv4Addr};

use tandem_core::sentinel::daemon::About;
use tandem_core::sentinel::io::{SaveVersion, Word};
use tandem_core::sentinel::saved::{SavedGroup, SavedState};
use tandem_core::sentinel::settings::{Globals, GroupSettings};
use tandem_core::sentinel::{
    ConfigEpoch, ElectionEpoch, Endpoint, Input, Sentinel, SentinelId, io::Output,
};

use super::plan::Plan;
use super::wires::{Argv, Target};
use super::world::{Ev, Fleet, group_name, server_endpoint};
use crate::chance::{MS, Us};

/// A shell notices a lateness of its own from here on.
const LATE: Us = 20 * MS;
/// A sentinel's wires: two to each server, one to each peer, and as many that are just being closed.
const WIRES_MAX: usize = 40;
/// What one input may give rise to.
const OUTPUTS_MAX: usize = 500;

/// What waits for a paused process.
#[derive(Debug)]
pub(super) enum Mail {
    Input(Input),
    /// A question on this wire.
    Asked(u64, Argv),
}

/// A sentinel's place.
#[derive(Debug)]
pub(super) struct Node {
    pub(super) at: Endpoint,
    pub(super) id: SentinelId,
    pub(super) machine: Option<Sentinel>,
    /// Counts its processes.
    pub(super) inc: u32,
    pub(super) foreign: bool,
    pub(super) frozen_since: Option<Us>,
    mailbox: Vec<Mail>,
    /// The last state that was written completely.
    pub(super) file: Option<SavedState>,
    template: SavedState,
    /// Files lost so far; each makes a new identity.
    lost: usize,
    pub(super) disk_full: bool,
    pub(super) disk_slow: Us,
    wake_at: Us,
    /// A majority voted for the failover under way.
    pub(super) backed: bool,
}

fn id_of(n: usize, lost: usize) -> SentinelId {
    let text = format!("{:08x}{:032x}", 0xa000_0000_usize + n, lost);
    SentinelId::parse(&text).expect("forty hex digits")
}

impl Node {
    pub(super) fn new(n: usize, plan: &Plan) -> Self {
        let node = &plan.nodes[n];
        let mut settings = GroupSettings::new(group_name(), node.quorum, &plan.periods);
        settings.down_after = node.down_after;
        settings.failover_timeout = node.failover_timeout;
        settings.parallel_syncs = node.parallel_syncs;
        let template = SavedState {
            id: id_of(n, 0),
            current_epoch: ElectionEpoch(0),
            globals: Globals {
                port: 26379,
                ..Globals::default()
            },
            groups: vec![SavedGroup {
                settings,
                primary: server_endpoint(0),
                config_epoch: ConfigEpoch(0),
                leader_epoch: ElectionEpoch(0),
                replicas: Vec::new(),
                peers: Vec::new(),
            }],
        };
        Self {
            at: Endpoint::new(format!("10.0.0.{}", n + 1), 26379),
            id: id_of(n, 0),
            machine: None,
            inc: 0,
            foreign: node.foreign,
            frozen_since: None,
            mailbox: Vec::new(),
            file: None,
            template,
            lost: 0,
            disk_full: false,
            disk_slow: 0,
            wake_at: 0,
            backed: false,
        }
    }

    pub(super) fn ip(&self) -> IpAddr {
        self.at
            .host
            .parse()
            .unwrap_or(IpAddr::V4(Ipv4Addr::LOCALHOST))
    }

    /// Running, and not paused.
    pub(super) fn is_awake(&self) -> bool {
        self.machine.is_some() && self.frozen_since.is_none()
    }
}

impl Fleet {
    /// The process starts, with what its file holds or, without one, with what the operator wrote.
    pub(super) fn node_start(&mut self, n: usize) {
        if self.nodes[n].machine.is_some() {
            return;
        }
        let seed = self.chance.name();
        let instant = self.instant();
        let periods = self.plan.periods.clone();
        let node = &mut self.nodes[n];
        node.inc += 1;
        let fresh = node.file.is_none();
        let state = node.file.clone().unwrap_or_else(|| SavedState {
            id: id_of(n, node.lost),
            ..node.template.clone()
        });
        node.id = state.id.clone();
        node.frozen_since = None;
        node.mailbox.clear();
        node.wake_at = Us::MAX;
        node.backed = false;
        let (machine, outputs) = Sentinel::new(state, periods, seed, instant);
        node.machine = Some(machine);
        self.say(|| {
            format!(
                "sentinel {n} starts{}",
                if fresh { " without a file" } else { "" }
            )
        });
        self.check_start(n);
        self.carry_out(n, outputs);
        self.plan_tick(n);
    }

    /// The process dies. A write that was under way may have been completed or not: its event decides.
    pub(super) fn node_kill(&mut self, n: usize) {
        if self.nodes[n].machine.take().is_none() {
            return;
        }
        self.say(|| format!("sentinel {n} dies"));
        self.nodes[n].frozen_since = None;
        self.nodes[n].mailbox.clear();
        let inc = self.nodes[n].inc;
        let own: Vec<u64> = self
            .wires
            .iter()
            .filter(|(_, wire)| wire.node == n && wire.inc == inc)
            .map(|(id, _)| *id)
            .collect();
        for id in own {
            self.close(id);
        }
        let others: Vec<u64> = self.wires_to(Target::Sentinel(n)).collect();
        for id in others {
            self.hang_up(id);
        }
        self.forget_questions(n);
    }

    /// The file is gone; the next start is that of another sentinel at the same address.
    pub(super) fn lose_file(&mut self, n: usize) {
        let node = &mut self.nodes[n];
        node.file = None;
        node.lost += 1;
    }

    pub(super) fn node_freeze(&mut self, n: usize) {
        if self.nodes[n].is_awake() {
            self.nodes[n].frozen_since = Some(self.now);
            self.say(|| format!("sentinel {n} is paused"));
        }
    }

    pub(super) fn node_thaw(&mut self, n: usize) {
        let Some(since) = self.nodes[n].frozen_since.take() else {
            return;
        };
        self.say(|| format!("sentinel {n} goes on"));
        // A timer that ran out meanwhile woke nobody.
        self.nodes[n].wake_at = Us::MAX;
        let late = self.now - since;
        if late >= LATE {
            self.handle(n, Input::Late(std::time::Duration::from_micros(late)));
        }
        for mail in std::mem::take(&mut self.nodes[n].mailbox) {
            match mail {
                Mail::Input(input) => self.handle(n, input),
                Mail::Asked(wire, argv) => self.asked_on_wire(n, wire, argv),
            }
        }
        self.handle(n, Input::Tick);
    }

    /// Something for a process, if it is still the one that it is for.
    pub(super) fn input(&mut self, n: usize, inc: u32, input: Input) {
        if self.nodes[n].inc != inc || self.nodes[n].machine.is_none() {
            return;
        }
        if self.nodes[n].frozen_since.is_some() {
            self.nodes[n].mailbox.push(Mail::Input(input));
            return;
        }
        self.handle(n, input);
    }

    /// Keeps a question for later if the process is paused. Whether it did.
    pub(super) fn keep(&mut self, n: usize, wire: u64, argv: &Argv) -> bool {
        let frozen = self.nodes[n].frozen_since.is_some();
        if frozen {
            self.nodes[n].mailbox.push(Mail::Asked(wire, argv.clone()));
        }
        frozen
    }

    pub(super) fn tick(&mut self, n: usize, inc: u32, at: Us) {
        let node = &self.nodes[n];
        if node.inc == inc && node.wake_at == at && node.is_awake() {
            self.nodes[n].wake_at = Us::MAX;
            self.handle(n, Input::Tick);
        }
    }

    pub(super) fn handle(&mut self, n: usize, input: Input) {
        let instant = self.instant();
        let Some(machine) = &mut self.nodes[n].machine else {
            return;
        };
        let outputs = machine.handle(input, instant);
        if outputs.len() > OUTPUTS_MAX {
            self.broken("bounds", format!("{} outputs at once", outputs.len()));
        }
        self.carry_out(n, outputs);
        self.check_node(n);
        self.plan_tick(n);
    }

    fn plan_tick(&mut self, n: usize) {
        let Some(wake) = self.nodes[n].machine.as_ref().and_then(Sentinel::next_wake) else {
            return;
        };
        let at = self.us(wake).max(self.now);
        if at < self.nodes[n].wake_at {
            self.nodes[n].wake_at = at;
            let inc = self.nodes[n].inc;
            self.at(at, Ev::Tick { node: n, inc, at });
        }
    }

    fn carry_out(&mut self, n: usize, outputs: Vec<Output>) {
        for output in outputs {
            match output {
                Output::Connect { conn, to, kind, .. } => {
                    self.connect(n, conn, &to, kind);
                    let inc = self.nodes[n].inc;
                    let own = |wire: &&super::wires::Wire| wire.node == n && wire.inc == inc;
                    let count = self.wires.values().filter(own).count();
                    if count > WIRES_MAX {
                        self.broken("bounds", format!("sentinel {n} has {count} connections"));
                    }
                }
                Output::Close { conn } => {
                    if let Some(id) = self.wire_of(n, conn) {
                        self.close(id);
                    }
                }
                Output::Send { conn, argv } => {
                    if let Some(id) = self.wire_of(n, conn) {
                        let argv = self.tagged(n, id, argv);
                        self.write(id, argv);
                    }
                }
                Output::Answer { request, value } => self.answered(n, request, value),
                Output::Tell(event) => {
                    self.say(|| format!("sentinel {n}: {} {}", event.name, event.payload));
                    self.check_event(n, &event);
                    self.lie_in_wait(n, event.name);
                }
                Output::Log { text, .. } => self.say(|| format!("sentinel {n}: {text}")),
                Output::Save { version, state } => self.save(n, version, state),
                Output::Exit { code } => {
                    self.broken("exit", format!("sentinel {n} ends with {code}"));
                }
                Output::NextFailover { .. }
                | Output::SetLogLevel(_)
                | Output::RunScript { .. }
                | Output::KillScript { .. }
                | Output::Resolve { .. } => {}
                Output::AskDaemon { server, about } => self.no_daemon(n, server, about),
            }
        }
    }

    /// No host of this world has a daemon.
    fn no_daemon(&mut self, n: usize, server: Endpoint, about: About) {
        if about == About::Life {
            return;
        }
        let wait = self.chance.within(MS / 2, 4 * MS);
        let word = Word::Unarchived("nobody listens there".to_owned());
        let inc = self.nodes[n].inc;
        self.after(
            wait,
            Ev::Input {
                node: n,
                inc,
                input: Box::new(Input::Witness { server, word }),
            },
        );
    }

    fn save(&mut self, n: usize, version: SaveVersion, state: Box<SavedState>) {
        let slow = self.nodes[n].disk_slow;
        let wait = self.chance.within(MS / 2, 4 * MS) + self.chance.within(0, slow);
        let inc = self.nodes[n].inc;
        self.after(
            wait,
            Ev::Disk {
                node: n,
                inc,
                version,
                state,
            },
        );
    }

    /// A write is complete, or failed, or its process died meanwhile.
    pub(super) fn written(&mut self, n: usize, inc: u32, version: SaveVersion, state: SavedState) {
        let node = &self.nodes[n];
        if node.inc != inc || node.machine.is_none() {
            // The rename came before the end, or did not; what came after it has the last word anyway.
            if node.inc == inc && node.file.is_some() && self.chance.percent(50) {
                self.nodes[n].file = Some(state);
            }
            return;
        }
        if let Some(since) = node.frozen_since {
            // A paused process writes nothing either.
            let wait = (self.now - since).clamp(MS, 100 * MS);
            self.after(
                wait,
                Ev::Disk {
                    node: n,
                    inc,
                    version,
                    state: Box::new(state),
                },
            );
            return;
        }
        let result = if node.disk_full {
            Err("no space left on device".to_owned())
        } else {
            self.nodes[n].file = Some(state);
            Ok(())
        };
        self.handle(n, Input::Saved { version, result });
    }
}
