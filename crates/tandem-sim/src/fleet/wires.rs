//! Connections of the sentinels, as TCP keeps them: in order, nothing lost and nothing twice while both ends live, and what
//! was written before a close still arrives, to be read by whoever wakes up then.

use std::collections::VecDeque;

use tandem_core::sentinel::io::Loss;
use tandem_core::sentinel::{ConnId, ConnKind, Endpoint, Input};
use tandem_resp::Value;

use super::world::{Ev, Fleet};
use crate::chance::{MS, SEC, Us};

/// A command's words.
pub(super) type Argv = Vec<Vec<u8>>;

/// To the end that was called.
#[derive(Debug)]
pub(super) enum Down {
    Command(Argv),
    Fin,
}

/// To the sentinel that called.
#[derive(Debug)]
pub(super) enum Up {
    Reply(Value),
    Message(Vec<u8>),
    Fin,
}

/// Who was called.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Target {
    Server(usize),
    Sentinel(usize),
}

impl Target {
    /// Both kinds live on the host of their number.
    pub(super) fn host(self) -> usize {
        match self {
            Self::Server(host) | Self::Sentinel(host) => host,
        }
    }
}

/// One direction.
#[derive(Debug)]
pub(super) struct Lane<T> {
    queue: VecDeque<(Us, T)>,
    last: Us,
    busy: bool,
    stalled: bool,
}

impl<T> Lane<T> {
    fn new() -> Self {
        Self {
            queue: VecDeque::new(),
            last: 0,
            busy: false,
            stalled: false,
        }
    }

    /// Adds something that arrives at this time at the earliest.
    ///
    /// # Returns
    /// When to look, if nobody does yet.
    fn push(&mut self, at: Us, item: T) -> Option<Us> {
        let at = at.max(self.last);
        self.last = at;
        self.queue.push_back((at, item));
        (!std::mem::replace(&mut self.busy, true)).then_some(at)
    }

    fn pop(&mut self, now: Us) -> Option<T> {
        if self.queue.front().is_some_and(|(at, _)| *at <= now) {
            return self.queue.pop_front().map(|(_, item)| item);
        }
        None
    }

    fn next(&mut self) -> Option<Us> {
        let next = self.queue.front().map(|(at, _)| *at);
        self.busy = next.is_some();
        next
    }
}

/// A connection.
#[derive(Debug)]
pub(super) struct Wire {
    pub(super) node: usize,
    pub(super) inc: u32,
    pub(super) conn: ConnId,
    pub(super) kind: ConnKind,
    pub(super) target: Target,
    pub(super) open: bool,
    /// Written before it stood.
    early: Vec<Argv>,
    down: Lane<Down>,
    up: Lane<Up>,
    /// The caller closed it or is gone.
    node_gone: bool,
    /// The other end is gone; its kernel says so.
    target_gone: bool,
    /// What the called end has not read: it is frozen, or holds writes back.
    pub(super) waiting: VecDeque<Down>,
    /// A command of this connection is held back by CLIENT PAUSE.
    pub(super) held: bool,
    /// MULTI: whether something in it was refused, and what is queued.
    pub(super) multi: Option<(bool, Vec<Argv>)>,
    pub(super) subscribed: bool,
    /// Answers of a sentinel in the order of the questions.
    pub(super) slots: VecDeque<(u64, Option<Value>)>,
}

impl Fleet {
    pub(super) fn wire_of(&self, node: usize, conn: ConnId) -> Option<u64> {
        let inc = self.nodes[node].inc;
        self.calls.get(&(node, inc, conn)).copied()
    }

    pub(super) fn connect(&mut self, node: usize, conn: ConnId, to: &Endpoint, kind: ConnKind) {
        let inc = self.nodes[node].inc;
        let Some(target) = self.target_at(to) else {
            self.broken("stranger", format!("sentinel {node} connects to {to}"));
            return;
        };
        self.serial += 1;
        let id = self.serial;
        self.calls.insert((node, inc, conn), id);
        self.wires.insert(
            id,
            Wire {
                node,
                inc,
                conn,
                kind,
                target,
                open: false,
                early: Vec::new(),
                down: Lane::new(),
                up: Lane::new(),
                node_gone: false,
                target_gone: false,
                waiting: VecDeque::new(),
                held: false,
                multi: None,
                subscribed: false,
                slots: VecDeque::new(),
            },
        );
        let latency = self.latency();
        self.after(latency, Ev::Open(id));
    }

    fn target_at(&self, to: &Endpoint) -> Option<Target> {
        if let Some(s) = self.server_at(&to.host, to.port) {
            return Some(Target::Server(s));
        }
        let node = self.nodes.iter().position(|node| node.at == *to)?;
        Some(Target::Sentinel(node))
    }

    fn is_running(&self, target: Target) -> bool {
        match target {
            Target::Server(s) => self.servers[s].redis.proc.is_some(),
            Target::Sentinel(n) => self.nodes[n].machine.is_some(),
        }
    }

    /// The first packet arrives, or does not.
    pub(super) fn opened(&mut self, id: u64) {
        let Some(wire) = self.wires.get(&id) else {
            return;
        };
        let (node, inc, conn, target) = (wire.node, wire.inc, wire.conn, wire.target);
        if !self.net.both(node, target.host()) {
            let wait = self.us_of(self.plan.periods.ping);
            self.after(wait, Ev::GaveUp(id));
            return;
        }
        let latency = self.latency();
        if !self.is_running(target) {
            self.drop_wire(id);
            let loss = Loss::Refused;
            self.input_after(latency, node, inc, Input::Lost { conn, loss });
            return;
        }
        let local = self.nodes[node].ip();
        let remote = local;
        let Some(wire) = self.wires.get_mut(&id) else {
            return;
        };
        wire.open = true;
        let early = std::mem::take(&mut wire.early);
        self.input_after(
            0,
            node,
            inc,
            Input::Connected {
                conn,
                local,
                remote,
            },
        );
        for argv in early {
            self.push_down(id, Down::Command(argv));
        }
    }

    /// Nobody answered the attempt.
    pub(super) fn gave_up(&mut self, id: u64) {
        let Some(wire) = self.wires.get(&id) else {
            return;
        };
        let (node, inc, conn) = (wire.node, wire.inc, wire.conn);
        self.drop_wire(id);
        let loss = Loss::TimedOut;
        self.input_after(0, node, inc, Input::Lost { conn, loss });
    }

    pub(super) fn drop_wire(&mut self, id: u64) {
        if let Some(wire) = self.wires.remove(&id) {
            self.calls.remove(&(wire.node, wire.inc, wire.conn));
        }
    }

    /// The calling sentinel writes.
    pub(super) fn write(&mut self, id: u64, argv: Argv) {
        let Some(wire) = self.wires.get_mut(&id) else {
            return;
        };
        if wire.open {
            self.push_down(id, Down::Command(argv));
        } else {
            wire.early.push(argv);
        }
    }

    /// The calling sentinel closes, or its kernel does it for a dead one.
    pub(super) fn close(&mut self, id: u64) {
        let Some(wire) = self.wires.get_mut(&id) else {
            return;
        };
        if !wire.open || wire.target_gone {
            self.drop_wire(id);
            return;
        }
        wire.node_gone = true;
        let key = (wire.node, wire.inc, wire.conn);
        self.calls.remove(&key);
        self.push_down(id, Down::Fin);
    }

    /// The called process closes, or its kernel does it for a dead one.
    pub(super) fn hang_up(&mut self, id: u64) {
        let Some(wire) = self.wires.get_mut(&id) else {
            return;
        };
        if !wire.open {
            return;
        }
        if wire.node_gone {
            self.drop_wire(id);
            return;
        }
        wire.target_gone = true;
        wire.waiting.clear();
        self.push_up(id, Up::Fin);
    }

    fn push_down(&mut self, id: u64, item: Down) {
        let at = self.now + self.latency();
        if let Some(at) = self
            .wires
            .get_mut(&id)
            .and_then(|wire| wire.down.push(at, item))
        {
            self.at(at, Ev::Down(id));
        }
    }

    pub(super) fn push_up(&mut self, id: u64, item: Up) {
        let at = self.now + self.latency();
        if let Some(at) = self
            .wires
            .get_mut(&id)
            .and_then(|wire| wire.up.push(at, item))
        {
            self.at(at, Ev::Up(id));
        }
    }

    /// Something may have arrived at the called end.
    pub(super) fn down(&mut self, id: u64) {
        let now = self.now;
        loop {
            let Some(wire) = self.wires.get_mut(&id) else {
                return;
            };
            if !self.net.open(wire.node, wire.target.host()) {
                wire.down.stalled = true;
                return;
            }
            let Some(item) = wire.down.pop(now) else {
                break;
            };
            self.arrived(id, item);
        }
        if let Some(at) = self.wires.get_mut(&id).and_then(|wire| wire.down.next()) {
            self.at(at, Ev::Down(id));
        }
    }

    /// Something may have arrived at the caller.
    pub(super) fn up(&mut self, id: u64) {
        let now = self.now;
        loop {
            let Some(wire) = self.wires.get_mut(&id) else {
                return;
            };
            if !self.net.open(wire.target.host(), wire.node) {
                wire.up.stalled = true;
                return;
            }
            let Some(item) = wire.up.pop(now) else {
                break;
            };
            let (node, inc, conn) = (wire.node, wire.inc, wire.conn);
            let heard = !wire.node_gone;
            let input = match item {
                Up::Reply(value) => Input::Reply { conn, value },
                Up::Message(message) => Input::Heard {
                    conn,
                    channel: tandem_core::sentinel::hello::CHANNEL.as_bytes().to_vec(),
                    message,
                },
                Up::Fin => {
                    self.drop_wire(id);
                    let loss = Loss::Closed;
                    Input::Lost { conn, loss }
                }
            };
            if heard {
                self.input(node, inc, input);
            }
        }
        if let Some(at) = self.wires.get_mut(&id).and_then(|wire| wire.up.next()) {
            self.at(at, Ev::Up(id));
        }
    }

    fn arrived(&mut self, id: u64, item: Down) {
        let Some(wire) = self.wires.get_mut(&id) else {
            return;
        };
        if wire.target_gone {
            if matches!(item, Down::Fin) {
                self.drop_wire(id);
            }
            return;
        }
        match wire.target {
            Target::Server(s) => {
                if self.servers[s].frozen || wire.held {
                    wire.waiting.push_back(item);
                } else {
                    self.read(id, item);
                }
            }
            Target::Sentinel(n) => match item {
                Down::Command(argv) => self.asked_on_wire(n, id, argv),
                Down::Fin => self.drop_wire(id),
            },
        }
    }

    /// A server reads the next thing of a connection.
    fn read(&mut self, id: u64, item: Down) {
        match item {
            Down::Command(argv) => self.serve(id, argv),
            Down::Fin => self.drop_wire(id),
        }
    }

    /// A server reads what has waited: it was thawed, or lets writes through again.
    pub(super) fn read_waiting(&mut self, s: usize) {
        let ids: Vec<u64> = self.wires_to(Target::Server(s)).collect();
        for id in ids {
            while let Some(wire) = self.wires.get_mut(&id) {
                if wire.held || self.servers[s].frozen {
                    break;
                }
                let Some(item) = wire.waiting.pop_front() else {
                    break;
                };
                self.read(id, item);
            }
        }
    }

    pub(super) fn wires_to(&self, target: Target) -> impl Iterator<Item = u64> + '_ {
        self.wires
            .iter()
            .filter(move |(_, wire)| wire.target == target)
            .map(|(id, _)| *id)
    }

    /// Ways were opened: what was sent again and again arrives.
    pub(super) fn unstall(&mut self) {
        let mut again = Vec::new();
        for (id, wire) in &mut self.wires {
            let (one, other) = (wire.node, wire.target.host());
            if wire.down.stalled && self.net.open(one, other) {
                wire.down.stalled = false;
                again.push(Ev::Down(*id));
            }
            if wire.up.stalled && self.net.open(other, one) {
                wire.up.stalled = false;
                again.push(Ev::Up(*id));
            }
        }
        for ev in again {
            // The longer it was cut, the longer the sender waits between two attempts.
            let most = if self.chance.percent(80) {
                300 * MS
            } else {
                2 * SEC
            };
            let wait = self.chance.within(0, most);
            self.after(wait, ev);
        }
    }
}
