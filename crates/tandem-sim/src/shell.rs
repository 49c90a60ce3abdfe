//! The shell of a simulated daemon: what carries outputs out and brings inputs in.
//!
//! It does what the documentation of `keeper::io` asks of a shell, with the latencies and losses of
//! the run: polls the server, renews the address, writes the journal in order, holds everything back
//! while it is frozen and tells the freeze first when it wakes.

use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

use tandem_core::health::{AnswerKind, DeathProof};
use tandem_core::journal::Journal;
use tandem_core::keeper::Outcome;
use tandem_core::keeper::io::Severity;
use tandem_core::keeper::settings::Settings;
use tandem_core::keeper::{
    Input, Keeper, Output, PeerEvent, ServerEvent, Step, StepError, StepErrorKind, StepId,
};
use tandem_core::pair::{Pair, PairInput, PairOutput};
use tandem_core::statement::{LastWords, PhaseName, Statement};
use tandem_vrrp::machine::Machine;
use tandem_vrrp::packet::{Dialect, Received};
use tandem_vrrp::settings::{Preempt as VrrpPreempt, Settings as VrrpSettings};
use tandem_vrrp::{Family, Priority, Version, Vrid};

use crate::chance::{MS, SEC, Us};
use crate::wire::own_address;
use crate::world::{ADDRESSES, Daemon, DiskWrite, Ev, HOSTS, Mishap, Rest, Run, World, other};

/// The advert interval of every run.
pub(crate) const INTERVAL: Duration = Duration::from_millis(100);
/// No second failover within this while the other server lives.
pub(crate) const FLAP_BLOCK: Duration = Duration::from_secs(3);
/// Kernel lifetime of the address.
pub(crate) const VIP_LIFETIME: Us = 3 * SEC;
/// Frames that a frozen daemon's sockets hold; later ones are lost with the connection.
const INBOX: usize = 60;
/// A wake-up later than this is a freeze; a smaller lateness is told as such.
const FREEZE: Us = 150 * MS;

impl World {
    fn settings(&mut self, h: usize) -> Settings {
        let plan = &self.plan;
        let skew = Duration::from_micros(100_000 * (256 - u64::from(plan.priority[h])) / 256);
        Settings {
            host: Self::host_id(h),
            peer: Some(Self::host_id(other(h))),
            one_host: plan.one_host,
            group: "main".to_owned(),
            server_address: ADDRESSES[h].to_owned(),
            peer_server_address: Some(ADDRESSES[other(h)].to_owned()),
            manage: plan.manage,
            preempt: plan.preempt,
            resync: plan.resync,
            alone: plan.alone,
            down_after: Duration::from_millis(300),
            sick_grace: Duration::from_secs(1),
            master_down: INTERVAL * 3 + skew,
            advert_interval: INTERVAL,
            max_lag: 1 << 20,
            boot_wait: plan.boot_wait,
            flap_block: FLAP_BLOCK,
            drain_deadline: Duration::from_millis(300),
            switchover_deadline: Duration::from_secs(1),
            priority: plan.priority[h],
            vip_lifetime: (!plan.one_host).then(|| Duration::from_micros(VIP_LIFETIME)),
            boot_id: format!("{}-{}", HOSTS[h], self.hosts[h].boot),
            incarnation: self.chance.name(),
            turns_from: self.now / MS,
        }
    }

    /// A daemon starts: journal, keeper, VRRP machine.
    pub(crate) fn daemon_start(&mut self, h: usize, boot: u32) {
        let host = &self.hosts[h];
        if !host.powered || host.boot != boot || host.daemon.is_some() {
            return;
        }
        let settings = self.settings(h);
        let inc = settings.incarnation;
        let journal = match &self.hosts[h].journal {
            None => Journal::fresh(Self::host_id(h), "main"),
            Some(bytes) => match Journal::decode(bytes, &Self::host_id(h), "main") {
                Ok(journal) => journal,
                Err(error) => {
                    self.broken(
                        "P5",
                        format!("the journal of {} is refused: {error}", HOSTS[h]),
                    );
                    return;
                }
            },
        };
        let own = own_address(h);
        let vip = IpAddr::V4(Ipv4Addr::new(10, 0, 0, 100));
        let vrid = Vrid::new(51).expect("51 is a router id");
        let mut vrrp = VrrpSettings::new(vrid, Family::Ipv4, vec![vip]);
        vrrp.version = Version::V3;
        vrrp.advert_interval = INTERVAL;
        vrrp.priority = Priority::new(self.plan.priority[h]).expect("a plan has no priority 0");
        if !self.plan.vrrp_preempt {
            vrrp.preempt = VrrpPreempt::Never;
        }
        if let Some(wire) = &mut self.wire {
            wire.daemon_started(h, vrrp.clone());
        }
        let machine = Machine::new(vrrp, Some(own)).expect("these settings work");
        let keeper = Keeper::new(settings, journal, self.instant());
        self.hosts[h].daemon = Some(Daemon {
            pair: Pair::new(keeper, Some(machine).filter(|_| !self.plan.one_host)),
            inc,
            frozen_since: None,
            inbox: Vec::new(),
            held: Vec::new(),
            wake_at: self.now,
            vip_on: false,
            rest: Rest::default(),
            last_phase: PhaseName::Booting,
            barred: false,
        });
        self.hosts[h].unwatched = self.now;
        self.say(Some(h), || "daemon starts".to_owned());
        self.talk_begins(h);
        self.after(
            0,
            Ev::Wake {
                h,
                inc,
                at: self.now,
            },
        );
        self.after(MS, Ev::Poll { h, inc, round: 0 });
        self.after(SEC, Ev::Renew { h, inc });
    }

    /// A daemon ends without a word.
    pub(crate) fn kill_daemon(&mut self, h: usize) {
        self.watch_ends(h);
        if self.hosts[h].daemon.take().is_some() {
            self.say(Some(h), || "daemon dies".to_owned());
            if !self.talks_end() {
                let wait = self.stream();
                self.after(wait, Ev::PeerLost { to: other(h) });
            }
        }
    }

    /// Hands an input to a daemon, or keeps it in its sockets while it is frozen.
    pub(crate) fn feed(&mut self, h: usize, input: PairInput) {
        let Some(daemon) = &mut self.hosts[h].daemon else {
            return;
        };
        if daemon.frozen_since.is_some() {
            if daemon.inbox.len() < INBOX {
                daemon.inbox.push(input);
            }
            return;
        }
        let heard = daemon.rest.heard.take();
        if let Some(at) = heard {
            let at = self.base + Duration::from_micros(at);
            let heard = ServerEvent::Earlier(AnswerKind::Fine, at);
            self.handle(h, PairInput::Keeper(Input::Server(heard)));
        }
        self.handle(h, input);
    }

    fn handle(&mut self, h: usize, input: PairInput) {
        let now = self.instant();
        if let Some(daemon) = &mut self.hosts[h].daemon {
            let outputs = daemon.pair.handle(input, now);
            self.carry(h, outputs);
        }
    }

    fn carry(&mut self, h: usize, outputs: Vec<PairOutput>) {
        self.check_phase(h);
        self.check_bar(h);
        self.check_told(h);
        self.follow_keepers();
        let inc = self.inc(h);
        for output in outputs {
            if self.inc(h) != inc {
                break;
            }
            match output {
                PairOutput::Keeper(output) => self.carry_keeper(h, output),
                PairOutput::Advert(advert) => self.send_advert(h, advert.priority),
                PairOutput::Announce(_) => self.announce(h),
                PairOutput::VrrpState(state) => self.say(Some(h), || format!("vrrp {state}")),
                PairOutput::VrrpLog(_) => {}
            }
        }
        let now = self.instant();
        let Some(daemon) = &mut self.hosts[h].daemon else {
            return;
        };
        let at = daemon.pair.next_deadline(now);
        let inc = daemon.inc;
        let old = daemon.wake_at;
        let at = self.us(at).max(self.now + 100);
        if old <= self.now || at < old {
            if let Some(daemon) = &mut self.hosts[h].daemon {
                daemon.wake_at = at;
            }
            self.after(at - self.now, Ev::Wake { h, inc, at });
        }
    }

    fn carry_keeper(&mut self, h: usize, output: Output) {
        match output {
            Output::Do { id, step, deadline } => {
                // Its answer comes after what lay, and that is no news by then.
                if let Some(daemon) = &mut self.hosts[h].daemon {
                    daemon.rest.lies = None;
                }
                let deadline = self.us(deadline);
                self.begin_step(h, id, step, deadline);
            }
            Output::Vrrp(_) => self.broken("P5", "a VRRP command left the pair".to_owned()),
            Output::Publish(statement) => self.publish(h, statement),
            Output::Mark(journal) => {
                let inc = self.inc(h);
                self.disk_write(h, *journal, None, inc, self.now + 5 * SEC, Mishap::None);
            }
            Output::Event(event) => {
                let loud = if event.severity == Severity::Alarm {
                    "!"
                } else {
                    ""
                };
                self.say(Some(h), || {
                    format!("{loud}{} {} ({})", event.name, event.text, event.epoch)
                });
            }
            // The simulated segment has no third host.
            Output::AskVip => {}
            Output::Reply { id, reply } => self.say(Some(h), || format!("reply {id}: {reply:?}")),
            Output::Exit { serving } => {
                self.say(Some(h), || format!("daemon leaves, serving: {serving}"));
                self.watch_is_left(h);
                if serving && self.hosts[h].vip_until > self.now {
                    self.hosts[h].vip_until = self.now + 60 * SEC;
                } else {
                    self.hosts[h].vip_until = self.now;
                }
                self.kill_daemon(h);
                let wait = self.chance.within(100 * MS, 3 * SEC);
                let boot = self.hosts[h].boot;
                self.after(wait, Ev::DaemonStart { h, boot });
            }
        }
    }

    fn send_advert(&mut self, h: usize, priority: u8) {
        if self.send_datagrams(h, priority) {
            return;
        }
        let times = if self.chance.percent(self.weather.twice) {
            2
        } else {
            1
        };
        for _ in 0..times {
            let advert = Received {
                source: own_address(h),
                priority,
                interval: INTERVAL,
                dialect: Dialect::A,
                same_addresses: true,
                authenticated: true,
            };
            if let Some(lat) = self.wire_latency()
                && !self.cuts.vrrp[h]
            {
                self.after(
                    lat,
                    Ev::Advert {
                        to: other(h),
                        advert,
                    },
                );
            }
        }
    }

    pub(crate) fn advert_arrives(&mut self, to: usize, advert: Received) {
        if self.hosts[to].powered && self.hosts[to].daemon.is_some() {
            self.heard(to);
            self.feed(to, PairInput::Advert(advert));
        }
    }

    fn heard(&mut self, h: usize) {
        let awake = self.hosts[h]
            .daemon
            .as_ref()
            .is_some_and(|d| d.frozen_since.is_none());
        if awake {
            self.hosts[h].heard = Some(self.now);
        }
    }

    fn publish(&mut self, h: usize, statement: Box<Statement>) {
        if self.wire.is_some() {
            self.talk_says(h, &statement);
            return;
        }
        if !self.peer_path() || self.chance.percent(self.weather.loss / 4) {
            return;
        }
        let lat = self.stream();
        let to = other(h);
        let at = (self.now + lat).max(self.hosts[to].last_statement_at);
        self.hosts[to].last_statement_at = at;
        self.after(at - self.now, Ev::Statement { to, statement });
    }

    pub(crate) fn statement_arrives(&mut self, to: usize, statement: Box<Statement>) {
        if self.peer_path() && self.hosts[to].daemon.is_some() {
            self.heard(to);
            self.feed(
                to,
                PairInput::Keeper(Input::Peer(PeerEvent::Heard(statement))),
            );
        }
    }

    pub(crate) fn peer_lost(&mut self, to: usize) {
        if self.peer_path() {
            self.feed(to, PairInput::Keeper(Input::Peer(PeerEvent::Lost)));
        }
    }

    pub(crate) fn wake(&mut self, h: usize, inc: u64, at: Us) {
        let Some(daemon) = &mut self.hosts[h].daemon else {
            return;
        };
        if daemon.inc != inc || daemon.wake_at != at || daemon.frozen_since.is_some() {
            return;
        }
        self.feed(h, PairInput::Keeper(Input::Tick));
    }

    pub(crate) fn server_says(&mut self, h: usize, event: ServerEvent) {
        self.feed(h, PairInput::Keeper(Input::Server(event)));
    }

    pub(crate) fn death_noticed(&mut self, h: usize, inc: u64, run: u64) {
        let same = self.hosts[h]
            .server
            .proc
            .as_ref()
            .is_some_and(|p| p.run == run);
        if self.inc(h) == inc && !same {
            // One connection, whose bytes are not counted here: what matters is that all of them are waited for.
            let words = LastWords { port: 1, bytes: 1 };
            self.server_says(h, ServerEvent::LastWords(vec![words]));
            self.server_says(h, ServerEvent::Dead(DeathProof::Exited));
        }
    }

    /// The address is renewed by a daemon that lives, and put back if its lifetime ran out.
    pub(crate) fn renew(&mut self, h: usize, inc: u64) {
        if self.inc(h) != inc {
            return;
        }
        self.after(SEC, Ev::Renew { h, inc });
        let renews = self.hosts[h]
            .daemon
            .as_ref()
            .is_some_and(|d| d.vip_on && d.frozen_since.is_none());
        if renews {
            self.hosts[h].vip_until = self.now + VIP_LIFETIME;
        }
    }

    pub(crate) fn vip_added(&mut self, h: usize) {
        self.hosts[h].vip_until = self.now + VIP_LIFETIME;
        if let Some(daemon) = &mut self.hosts[h].daemon {
            daemon.vip_on = true;
        }
        self.announce(h);
    }

    pub(crate) fn vip_dropped(&mut self, h: usize) {
        self.hosts[h].vip_until = self.now;
        if let Some(daemon) = &mut self.hosts[h].daemon {
            daemon.vip_on = false;
        }
    }

    /// A frozen daemon wakes: first it tells how long, then it reads what waited.
    pub(crate) fn thaw_daemon(&mut self, h: usize) {
        let now = self.now;
        let Some(daemon) = &mut self.hosts[h].daemon else {
            return;
        };
        let Some(since) = daemon.frozen_since.take() else {
            return;
        };
        let inbox = std::mem::take(&mut daemon.inbox);
        let held = std::mem::take(&mut daemon.held);
        let inc = daemon.inc;
        daemon.wake_at = now;
        let length = Duration::from_micros(now - since);
        self.hosts[h].unwatched = now;
        self.say(Some(h), || {
            format!("daemon thaws after {} ms", length.as_millis())
        });
        let told = if now - since >= FREEZE {
            Input::Frozen(length)
        } else {
            Input::Late(length)
        };
        self.feed(h, PairInput::Keeper(told));
        for input in inbox {
            self.feed(h, input);
        }
        if self.inc(h) == inc {
            for run in held {
                self.step_runs(run);
            }
            self.after(0, Ev::Wake { h, inc, at: now });
        }
    }

    // --- the disk -------------------------------------------------------------------------------

    /// Writes a record after those before it.
    pub(crate) fn disk_write(
        &mut self,
        h: usize,
        journal: Journal,
        step: Option<(u64, StepId)>,
        inc: u64,
        deadline: Us,
        mishap: Mishap,
    ) {
        let slow = self.hosts[h].disk_slow;
        let takes = self.chance.within(200, 3 * MS) + self.chance.within(0, slow);
        let at = self.hosts[h].disk_busy.max(self.now) + takes;
        self.hosts[h].disk_busy = at;
        let boot = self.hosts[h].boot;
        let write = Box::new(DiskWrite {
            journal,
            step,
            inc,
            deadline,
            mishap,
        });
        self.after(at - self.now, Ev::Disk { h, boot, write });
    }

    pub(crate) fn disk_written(&mut self, h: usize, boot: u32, write: DiskWrite) {
        let host = &self.hosts[h];
        if host.boot != boot || !host.powered || self.inc(h) != write.inc {
            return;
        }
        let full = host.disk_full || write.mishap == Mishap::Refused;
        if !full && write.mishap != Mishap::LateBefore && write.mishap != Mishap::LostBefore {
            self.check_journal(h, &write.journal);
            self.hosts[h].journal = Some(write.journal.encode());
        }
        let Some((inc, id)) = write.step else { return };
        let late = self.now > write.deadline
            || matches!(write.mishap, Mishap::LateBefore | Mishap::LateAfter);
        let result = if full {
            Err(error(StepErrorKind::NoSpace, "no space for the journal"))
        } else if late {
            Err(error(StepErrorKind::TimedOut, "the disk is slow"))
        } else if write.mishap == Mishap::None {
            Ok(Outcome::Done)
        } else {
            Err(error(StepErrorKind::Broken, "the disk failed"))
        };
        let wait = if late {
            write.deadline.saturating_sub(self.now)
        } else {
            0
        };
        self.after(wait, Ev::StepDone { h, inc, id, result });
    }

    // --- steps ----------------------------------------------------------------------------------

    fn begin_step(&mut self, h: usize, id: StepId, step: Step, deadline: Us) {
        let inc = self.inc(h);
        self.check_step(h, &step);
        self.say(Some(h), || match &step {
            Step::Journal(j) => format!("step {} journal {:?} {}", id.0, j.role, j.epoch),
            other => format!("step {} {other:?}", id.0),
        });
        let mishap = if self.chance.percent(self.step_trouble) {
            match self.chance.within(0, 5) {
                0 => Mishap::Refused,
                1 => Mishap::LostBefore,
                2 => Mishap::LostAfter,
                3 => Mishap::LateBefore,
                _ => Mishap::LateAfter,
            }
        } else {
            Mishap::None
        };
        if let Step::Journal(journal) = step {
            self.disk_write(h, *journal, Some((inc, id)), inc, deadline, mishap);
            return;
        }
        // One queue for the server's connection and the gate: steps begin in their order.
        let begins = (self.now + self.local()).max(self.hosts[h].last_step_at);
        self.hosts[h].last_step_at = begins;
        let wait = begins - self.now;
        let run = Run {
            h,
            inc,
            id,
            step,
            deadline,
            begun: false,
            mishap,
        };
        self.after(wait, Ev::Step(Box::new(run)));
    }

    pub(crate) fn step_done(
        &mut self,
        h: usize,
        inc: u64,
        id: StepId,
        result: Result<Outcome, StepError>,
    ) {
        if self.inc(h) == inc {
            if let Err(e) = &result {
                self.say(Some(h), || format!("step {} failed: {}", id.0, e.text));
            }
            self.feed(h, PairInput::Keeper(Input::Done { id, result }));
        }
    }
}

pub(crate) fn error(kind: StepErrorKind, text: &str) -> StepError {
    StepError {
        kind,
        text: text.to_owned(),
    }
}
