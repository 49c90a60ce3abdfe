//! Faults: what a run does to its hosts, and how each is undone.

use tandem_core::keeper::{Command, Input};
use tandem_core::pair::PairInput;

use crate::chance::{MS, SEC, Us};
use crate::plan::FaultKind;
use crate::world::{Cuts, Ev, HOSTS, Undo, Weather, World, other};

impl World {
    /// One fault, and the next one later.
    pub(crate) fn fault(&mut self) {
        if self.healed_at.is_some() {
            return;
        }
        let n = self.chance.within(0, self.plan.faults.len() as u64);
        let kind = self.plan.faults[usize::try_from(n).unwrap_or(0)];
        let h = self.chance.host();
        self.say(None, || format!("fault {kind:?} {}", HOSTS[h]));
        self.inflict(kind, h);
        let gap = self.plan.gap;
        let wait = self.chance.within(gap / 5, gap * 2);
        self.after(wait, Ev::Fault);
    }

    fn lasting(&mut self) -> Us {
        match self.chance.within(0, 3) {
            0 => self.chance.within(20 * MS, 300 * MS),
            1 => self.chance.within(200 * MS, SEC),
            _ => self.chance.within(SEC, 5 * SEC),
        }
    }

    fn inflict(&mut self, kind: FaultKind, h: usize) {
        let length = self.lasting();
        match kind {
            FaultKind::KillServer => self.kill_server(h, false),
            FaultKind::FreezeServer => {
                if self.hosts[h].server.proc.is_some() && !self.hosts[h].server_frozen {
                    self.watch_ends(h);
                    self.hosts[h].server_frozen = true;
                    let boot = self.hosts[h].boot;
                    self.after(length, Ev::Undo(Undo::ThawServer { h, boot }));
                }
            }
            FaultKind::KillDaemon => self.restart_daemon(h, length),
            FaultKind::FreezeDaemon => {
                for h in self.hit_with(h) {
                    self.freeze_daemon(h, length);
                }
            }
            FaultKind::PowerOff => {
                for h in self.hit_with(h) {
                    self.power_off(h, length);
                }
            }
            FaultKind::Cut => {
                self.cuts = self.draw_cuts();
                self.after(length, Ev::Undo(Undo::Cuts));
            }
            FaultKind::Weather => {
                self.weather = Weather {
                    loss: self.chance.within(0, 30),
                    twice: self.chance.within(0, 10),
                    delay: self.chance.within(0, 40 * MS),
                };
                self.after(length, Ev::Undo(Undo::Weather));
            }
            FaultKind::Disk => {
                if self.chance.percent(50) {
                    self.hosts[h].disk_full = true;
                } else {
                    self.hosts[h].disk_slow = self.chance.within(10 * MS, 1500 * MS);
                }
                self.after(length, Ev::Undo(Undo::Disk(h)));
            }
            FaultKind::Steps => {
                for h in 0..2 {
                    self.watch_ends(h);
                }
                self.step_trouble = self.chance.within(2, 25);
                self.after(length, Ev::Undo(Undo::Steps));
            }
            FaultKind::Switchover => self.ask(h, Command::Switchover { to: None }),
            FaultKind::Pause => {
                let command = if self.chance.percent(40) {
                    Command::Pause
                } else {
                    Command::Resume
                };
                self.ask(h, command);
            }
            // Both keepers leave and hand nothing over: a kill, as far as they can tell.
            FaultKind::Term if self.plan.one_host => self.restart_daemon(h, length),
            FaultKind::Term => self.feed(h, PairInput::Keeper(Input::Stop)),
            FaultKind::Both => {
                let power = self.chance.percent(50);
                for h in 0..2 {
                    if power {
                        let length = if self.plan.one_host {
                            length
                        } else {
                            self.lasting()
                        };
                        self.power_off(h, length);
                    } else {
                        self.kill_server(h, false);
                    }
                }
            }
            FaultKind::Misconf => {
                self.hosts[h].misconf = true;
                self.after(length, Ev::Undo(Undo::Misconf(h)));
            }
            FaultKind::AcceptLoss => self.accept_loss(h),
        }
    }

    pub(crate) fn accept_loss(&mut self, h: usize) {
        let before = self.writes.len();
        let busy = matches!(
            self.phase(h).map(tandem_core::keeper::Phase::name),
            Some(tandem_core::statement::PhaseName::TakingOver)
        );
        self.ask(h, Command::FailoverAcceptLoss);
        let taken = !busy
            && matches!(
                self.phase(h).map(tandem_core::keeper::Phase::name),
                Some(tandem_core::statement::PhaseName::TakingOver)
            );
        if taken {
            self.say(Some(h), || {
                format!("operator accepts loss, {before} writes so far")
            });
            self.excuse_accepted(h);
        }
    }

    /// An operator types something.
    pub(crate) fn ask(&mut self, h: usize, command: Command) {
        let awake = self.hosts[h]
            .daemon
            .as_ref()
            .is_some_and(|d| d.frozen_since.is_none());
        if !awake {
            return;
        }
        self.asked += 1;
        let id = self.asked;
        self.say(Some(h), || format!("operator {id}: {command:?}"));
        self.feed(h, PairInput::Keeper(Input::Operator { id, command }));
    }

    fn restart_daemon(&mut self, h: usize, length: Us) {
        if self.hosts[h].daemon.is_some() {
            for h in self.hit_with(h) {
                self.kill_daemon(h);
            }
            let boot = self.hosts[h].boot;
            self.after(length, Ev::DaemonStart { h, boot });
        }
    }

    fn freeze_daemon(&mut self, h: usize, length: Us) {
        self.watch_ends(h);
        let now = self.now;
        if let Some(daemon) = &mut self.hosts[h].daemon
            && daemon.frozen_since.is_none()
        {
            daemon.frozen_since = Some(now);
            let inc = daemon.inc;
            self.after(length, Ev::Undo(Undo::ThawDaemon { h, inc }));
        }
    }

    fn power_off(&mut self, h: usize, length: Us) {
        if !self.hosts[h].powered {
            return;
        }
        let ran = self.hosts[h].server.proc.as_ref().map(|proc| proc.run);
        self.kill_server(h, true);
        self.end_kernel(h, ran);
        let host = &mut self.hosts[h];
        host.daemon = None;
        host.powered = false;
        host.boot += 1;
        host.vip_until = self.now;
        host.gate = false;
        host.gate_direct = false;
        host.disk_busy = 0;
        self.drop_clients(h);
        self.after(length, Ev::Undo(Undo::PowerOn(h)));
    }

    fn power_on(&mut self, h: usize) {
        if self.hosts[h].powered {
            return;
        }
        self.say(Some(h), || "power on".to_owned());
        self.hosts[h].powered = true;
        let boot = self.hosts[h].boot;
        let wait = self.chance.within(50 * MS, SEC);
        self.after(wait, Ev::DaemonStart { h, boot });
        if self.plan.manage == tandem_core::keeper::settings::Manage::Adopt {
            let wait = self.chance.within(50 * MS, SEC);
            self.after(
                wait,
                Ev::ServerStart {
                    h,
                    boot,
                    fenced: !self.plan.bare,
                },
            );
        }
        // The new kernel answers what the old one's peers still send with a reset.
        let now = self.now;
        if let Some(proc) = &mut self.hosts[other(h)].server.proc
            && let crate::redis::Link::Up(conn) | crate::redis::Link::Full { conn, .. } =
                &mut proc.link
            && conn.mute_since.is_some()
        {
            conn.mute_since = Some(now.saturating_sub(60 * SEC));
        }
        self.look_at_links();
    }

    fn draw_cuts(&mut self) -> Cuts {
        let mut cuts = Cuts::default();
        let both = [true, true];
        let one = if self.chance.percent(50) {
            [true, false]
        } else {
            [false, true]
        };
        match self.chance.within(0, 8) {
            0 => cuts.vrrp = both,
            1 => cuts.vrrp = one,
            2 => cuts.peer = both,
            3 => cuts.redis = both,
            4 => {
                cuts.vrrp = both;
                cuts.peer = both;
            }
            5 => {
                cuts = Cuts {
                    vrrp: one,
                    peer: one,
                    redis: one,
                }
            }
            _ => {
                cuts = Cuts {
                    vrrp: both,
                    peer: both,
                    redis: both,
                }
            }
        }
        if cuts.redis == both {
            for c in 0..self.clients.len() {
                // A client is on this side, on that side, or sees both.
                self.clients[c].reach = match self.chance.within(0, 3) {
                    0 => [true, false],
                    1 => [false, true],
                    _ => [true, true],
                };
            }
        }
        let text = format!("cuts {cuts:?}");
        self.say(None, || text);
        cuts
    }

    pub(crate) fn undo(&mut self, undo: Undo) {
        self.say(None, || format!("undo {undo:?}"));
        match undo {
            Undo::ThawServer { h, boot } => {
                if self.hosts[h].boot == boot {
                    self.thaw_server(h);
                }
            }
            Undo::ThawDaemon { h, inc } => {
                if self.inc(h) == inc {
                    self.thaw_daemon(h);
                }
            }
            Undo::PowerOn(h) => self.power_on(h),
            Undo::Cuts => {
                self.cuts = Cuts::default();
                self.cut_until = self.now;
                for client in &mut self.clients {
                    client.reach = [true, true];
                }
                // What waited in the kernels goes on; clients learn both sides' addresses anew.
                self.look_at_links();
            }
            Undo::Weather => self.weather = Weather::default(),
            Undo::Disk(h) => {
                self.hosts[h].disk_full = false;
                self.hosts[h].disk_slow = 0;
            }
            Undo::Steps => self.step_trouble = 0,
            Undo::Misconf(h) => self.hosts[h].misconf = false,
        }
    }
}
