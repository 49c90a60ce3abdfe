//! Faults: what a run does to its fleet, and how each is undone.

use super::plan::{DOWN_AFTER_MAX, FAILOVER_TIMEOUT_MAX, Fault};
use super::world::{Ev, Fleet, SERVERS};
use crate::chance::{MS, SEC, Us};

/// The sentinel that may lose its file. Were it a majority, no votes could be kept by any rule.
const FORGETFUL: usize = 1;

/// Events with which a sentinel is in the middle of something.
const DECISIVE: &[&str] = &[
    "+try-failover",
    "+vote-for-leader",
    "+elected-leader",
    "+selected-slave",
    "+failover-state-send-slaveof-noone",
    "+failover-state-wait-promotion",
    "+promoted-slave",
    "+slave-reconf-sent",
];

/// The end of a fault.
#[derive(Clone, Copy, Debug)]
pub(super) enum Undo {
    ThawServer(usize),
    ThawNode(usize),
    Net,
    Disk(usize),
}

impl Fleet {
    /// One fault, and the next one later.
    pub(super) fn fault(&mut self) {
        if self.healed_at.is_some() {
            return;
        }
        let kind = if self.plan.calm {
            Fault::Manual
        } else {
            let count = self.plan.faults.len() as u64;
            let index = usize::try_from(self.chance.within(0, count)).unwrap_or(0);
            self.plan.faults[index]
        };
        self.inflict(kind);
        let gap = if self.plan.calm {
            // One hand-over at a time, as an operator would.
            10 * SEC
        } else {
            self.plan.gap
        };
        let wait = self.chance.within(gap / 5, gap * 2);
        self.after(wait, Ev::Fault);
    }

    fn lasting(&mut self) -> Us {
        match self.chance.within(0, 3) {
            0 => self.chance.within(20 * MS, 500 * MS),
            1 => self.chance.within(500 * MS, 3 * SEC),
            _ => self.chance.within(2 * SEC, 12 * SEC),
        }
    }

    fn any_node(&mut self) -> usize {
        usize::try_from(self.chance.within(0, self.nodes.len() as u64)).unwrap_or(0)
    }

    /// The primary more often than the others: it is where it hurts.
    fn any_server(&mut self) -> usize {
        let primary = (0..SERVERS).find(|s| self.servers[*s].is_primary());
        match primary {
            Some(primary) if self.chance.percent(50) => primary,
            Some(_) | None => usize::try_from(self.chance.within(0, SERVERS as u64)).unwrap_or(0),
        }
    }

    fn any_host(&mut self) -> usize {
        usize::try_from(self.chance.within(0, self.net.hosts() as u64)).unwrap_or(0)
    }

    fn inflict(&mut self, kind: Fault) {
        let length = self.lasting();
        self.say(|| format!("fault {kind:?} for {} ms", length / MS));
        match kind {
            Fault::KillServer | Fault::KillServerEmpty => {
                let s = self.any_server();
                self.server_kill(s);
                let wipe = kind == Fault::KillServerEmpty;
                self.after(length, Ev::ServerStart { s, wipe });
            }
            Fault::FreezeServer => {
                let s = self.any_server();
                self.server_freeze(s);
                self.after(length, Ev::Undo(Undo::ThawServer(s)));
            }
            Fault::KillSentinel | Fault::LoseFile => {
                let lose = kind == Fault::LoseFile;
                let n = if lose { FORGETFUL } else { self.any_node() };
                self.node_kill(n);
                if lose {
                    self.lose_file(n);
                }
                self.after(length, Ev::NodeStart(n));
            }
            Fault::FreezeSentinel => {
                let n = self.any_node();
                self.node_freeze(n);
                self.after(length, Ev::Undo(Undo::ThawNode(n)));
            }
            Fault::CutOneWay => {
                let (one, other) = (self.any_host(), self.any_host());
                self.net.block(one, other);
                self.say(|| format!("nothing from host {one} to {other}"));
                self.after(length, Ev::Undo(Undo::Net));
            }
            Fault::Isolate => {
                let host = self.any_host();
                self.split(&[host]);
                self.after(length, Ev::Undo(Undo::Net));
            }
            Fault::Split => {
                let hosts = self.net.hosts();
                let side: Vec<usize> = (0..hosts).filter(|_| self.chance.percent(40)).collect();
                self.split(&side);
                self.after(length, Ev::Undo(Undo::Net));
            }
            Fault::Weather => {
                self.net.loss = self.chance.within(0, 30);
                self.net.delay = self.chance.within(0, 60 * MS);
                self.after(length, Ev::Undo(Undo::Net));
            }
            Fault::Disk => {
                let n = self.any_node();
                if self.chance.percent(50) {
                    self.nodes[n].disk_full = true;
                } else {
                    self.nodes[n].disk_slow = self.chance.within(10 * MS, 1500 * MS);
                }
                self.after(length, Ev::Undo(Undo::Disk(n)));
            }
            Fault::Manual => {
                let n = self.any_node();
                self.operate(n, "failover orders");
            }
            Fault::Reset => {
                // As operators are told to: when all is well, so that what is forgotten is found again.
                let n = self.any_node();
                let well = (0..SERVERS).any(|s| {
                    self.servers[s].is_primary()
                        && self.replicas_of(s).len() == SERVERS - 1
                        && self.names(n, s)
                });
                if well {
                    self.operate(n, "reset orders");
                }
            }
            Fault::Set => self.set(),
        }
    }

    /// Some sentinels die in the moment in which it matters most: between a vote and its file, between an order and
    /// its answer.
    pub(super) fn lie_in_wait(&mut self, n: usize, event: &str) {
        if self.ambushes == 0 || self.healed_at.is_some() || !DECISIVE.contains(&event) {
            return;
        }
        if self.ambush.percent(self.ambushes) {
            let wait = self.ambush.within(0, 4 * MS);
            let inc = self.nodes[n].inc;
            self.after(wait, Ev::Ambush { node: n, inc });
        }
    }

    pub(super) fn strike(&mut self, n: usize, inc: u32) {
        if self.healed_at.is_some() || self.nodes[n].inc != inc || self.nodes[n].machine.is_none() {
            return;
        }
        self.node_kill(n);
        let wait = if self.ambush.percent(70) {
            self.ambush.within(MS, 60 * MS)
        } else {
            self.ambush.within(60 * MS, 3 * SEC)
        };
        self.after(wait, Ev::NodeStart(n));
    }

    fn split(&mut self, side: &[usize]) {
        let one_way = self.chance.percent(25);
        self.say(|| format!("cut: {side:?}, one way {one_way}"));
        for host in side {
            for other in (0..self.net.hosts()).filter(|other| !side.contains(other)) {
                self.net.block(*host, other);
                if !one_way {
                    self.net.block(other, *host);
                }
            }
        }
    }

    fn set(&mut self) {
        let n = self.any_node();
        let us = |time: std::time::Duration| u64::try_from(time.as_millis()).unwrap_or(0);
        let words = match self.chance.within(0, 3) {
            0 => {
                let (low, high) = self.plan.quorums;
                let quorum = self.chance.within(u64::from(low), u64::from(high));
                format!("set orders quorum {quorum}")
            }
            1 => {
                let time = self.chance.within(300, us(DOWN_AFTER_MAX));
                format!("set orders down-after-milliseconds {time}")
            }
            _ => {
                let time = self.chance.within(1500, us(FAILOVER_TIMEOUT_MAX));
                format!("set orders failover-timeout {time}")
            }
        };
        self.operate(n, &words);
    }

    pub(super) fn undo(&mut self, undo: Undo) {
        match undo {
            Undo::ThawServer(s) => self.server_thaw(s),
            Undo::ThawNode(n) => self.node_thaw(n),
            Undo::Net => {
                self.say(|| "the network is well".to_owned());
                self.net.mend();
                self.unstall();
                self.look_at_links();
            }
            Undo::Disk(n) => {
                self.nodes[n].disk_full = false;
                self.nodes[n].disk_slow = 0;
            }
        }
    }
}
