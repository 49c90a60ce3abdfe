//! The course of a run: how it begins, how it heals, who helps, and when it is over.
//!
//! After the faults everything is mended and the group has a bound of time to become one primary and
//! one replica in sync. Where it rightly waits for a person, the simulator is that person and does
//! what status says.

use std::time::Duration;

use tandem_core::keeper::Command;
use tandem_core::keeper::Phase;
use tandem_core::keeper::phase::RejoinStage;
use tandem_core::keeper::settings::Manage;
use tandem_core::statement::PhaseName;

use crate::chance::{MS, SEC, Us};
use crate::clients::{Client, Write};
use crate::plan::Beginning;
use crate::redis::{RETRY, Target};
use crate::replication::LINK_TIMEOUT;
use crate::shell::{FLAP_BLOCK, INTERVAL, VIP_LIFETIME};
use crate::steps::GIVEN_UP_AFTER;
use crate::talk::REDIAL_AFTER;
use crate::world::{Ev, HOSTS, Undo, World, other};

/// Persons, supervisors and retries of the servers included, no run takes longer than this to heal.
const HEAL_WITHIN: Us = 40 * SEC;
/// Converged means so for this long.
const SETTLED_FOR: Us = 600 * MS;
/// Rules that wait for a person.
const PERSONS: [&str; 6] = [
    "boot.unrelated",
    "boot.alone",
    "source.empty",
    "source.older",
    "resync.ask",
    "join.unrelated",
];
/// A person looks this often.
const OPERATOR_EVERY: Us = 2 * SEC;
/// How often the world is looked at while it heals.
const LOOK_EVERY: Us = 50 * MS;

impl World {
    /// Servers, daemons, clients and the first fault.
    pub(crate) fn begin(&mut self) {
        let plan = self.plan.clone();
        self.say(None, || format!("{plan:?}"));
        let data: [u32; 2] = match plan.beginning {
            Beginning::Running => [40, 0],
            Beginning::Empty => [0, 0],
            Beginning::Unrelated => [30, 20],
            Beginning::OneEmpty => [0, 30],
        };
        let runs_before = match plan.beginning {
            Beginning::Running | Beginning::Unrelated | Beginning::OneEmpty => true,
            Beginning::Empty => plan.manage == Manage::Adopt,
        };
        for (h, keys) in data.into_iter().enumerate() {
            if runs_before {
                let now = self.now;
                self.hosts[h].server.start(false, 0, now, &mut self.chance);
                for _ in 0..keys {
                    let id = u32::try_from(self.writes.len()).unwrap_or(0);
                    self.writes.push(Write {
                        acked: Some((now, h)),
                        alone: false,
                        reached: false,
                        excused: None,
                    });
                    self.hosts[h].server.write(id);
                }
            }
        }
        if plan.beginning == Beginning::Running {
            let now = self.now;
            self.hosts[1]
                .server
                .replicaof(Some(Target::Peer), now, &mut self.chance);
        }
        for h in 0..2 {
            self.after(0, Ev::Link { h });
            let boot = self.hosts[h].boot;
            let wait = self.chance.within(0, 3 * SEC);
            self.after(wait, Ev::DaemonStart { h, boot });
            self.after(SEC, Ev::Upkeep { h });
            self.after(SEC, Ev::ReplicaPing { h });
            self.after(SEC, Ev::ReplicaAck { h });
        }
        for c in 0..plan.clients {
            self.clients.push(Client::new(0));
            self.after(MS, Ev::Client { c });
        }
        let calm = self.chance.within(2 * SEC, 5 * SEC);
        self.after(calm, Ev::Fault);
        self.after(calm + plan.faults_for, Ev::Heal);
    }

    /// Faults end and everything broken is mended.
    pub(crate) fn heal(&mut self) {
        self.say(None, || "faults end".to_owned());
        self.healed_at = Some(self.now);
        self.operator_at = self.now;
        self.undo(Undo::Cuts);
        self.undo(Undo::Weather);
        self.undo(Undo::Steps);
        for h in 0..2 {
            self.undo(Undo::Disk(h));
            self.undo(Undo::Misconf(h));
            self.undo(Undo::PowerOn(h));
            self.thaw_server(h);
            self.thaw_daemon(h);
        }
        self.after(LOOK_EVERY, Ev::Look);
    }

    /// Who is primary, if the group is as it should be.
    fn converged(&self) -> Option<usize> {
        let primary = (0..2).find(|h| matches!(self.phase(*h), Some(Phase::Primary { .. })))?;
        let replica = other(primary);
        if !matches!(self.phase(replica), Some(Phase::Replica { .. })) {
            return None;
        }
        let (p, r) = (&self.hosts[primary], &self.hosts[replica]);
        let (pp, rp) = (p.server.proc.as_ref()?, r.server.proc.as_ref()?);
        let servers = pp.is_primary()
            && rp.of == Some(Target::Peer)
            && rp.link_up()
            && rp.replid == pp.replid
            && self.follows(replica, pp.run);
        let front = p.vip_until > self.now && !p.gate && !p.gate_direct && r.vip_until <= self.now;
        (servers && front).then_some(primary)
    }

    /// Looks whether the group has healed, and helps where a person has to.
    pub(crate) fn look(&mut self) {
        let Some(healed) = self.healed_at else { return };
        self.after(LOOK_EVERY, Ev::Look);
        for h in 0..2 {
            self.mend(h);
        }
        self.look_at_the_pair();
        let Some(primary) = self.converged() else {
            self.settled_since = None;
            if self.now > healed + HEAL_WITHIN {
                self.not_healed("not converged");
            } else if self.now >= self.operator_at + OPERATOR_EVERY {
                self.operator_at = self.now;
                self.operate();
            }
            return;
        };
        let since = *self.settled_since.get_or_insert(self.now);
        if self.now < since + SETTLED_FOR {
            return;
        }
        if self.quiet {
            self.finish(primary);
        } else if self.last_ack > since {
            // Clients stop; the replica reads the rest.
            self.quiet = true;
            self.settled_since = Some(self.now);
        } else if self.now > since + 10 * SEC {
            self.broken("P4", "healed, but no client is served".to_owned());
        }
    }

    fn not_healed(&mut self, what: &str) {
        let word = |h: usize| {
            self.phase(h)
                .map_or_else(|| "no daemon".to_owned(), |p| format!("{p:?}"))
        };
        let text = format!("{what}: a is {}, b is {}", word(0), word(1));
        self.broken("P4", text);
    }

    /// P4 itself: what the pair takes while nothing outside of it is in its way.
    fn look_at_the_pair(&mut self) {
        if (0..2).any(|h| self.hindered(h)) {
            self.able_since = None;
            return;
        }
        let since = *self.able_since.get_or_insert(self.now);
        let taken = self.now - since;
        if self.one_primary().is_none() && taken > self.alone_within() {
            self.not_healed("no primary, and nothing was in the way");
        }
        if self.converged().is_none() && taken > self.alone_within() + self.sync_within() {
            self.not_healed("no replica in sync, and nothing was in the way");
        }
    }

    /// Every wait of the keeper's once: the rule's Master_Down, two intervals and a reconnect; and, for a
    /// pair whose last steps failed, boot_wait, flap_block, the lifetime of an address that was left,
    /// and two steps that are given up.
    fn alone_within(&self) -> Us {
        let micros = |wait: Duration| Us::try_from(wait.as_micros()).unwrap_or(Us::MAX);
        let master_down = 4 * micros(INTERVAL);
        let rule = master_down + 2 * micros(INTERVAL) + REDIAL_AFTER;
        let waits = micros(self.plan.boot_wait) + micros(FLAP_BLOCK) + VIP_LIFETIME;
        rule + waits + 2 * GIVEN_UP_AFTER + LOOK_EVERY
    }

    /// A link that broke without a word times out, is tried again, and brings a snapshot and its loading.
    fn sync_within(&self) -> Us {
        LINK_TIMEOUT + RETRY + 2 * self.plan.resync_time
    }

    /// Something is missing that is not the pair's to mend: a process, or a person's word.
    fn hindered(&self, h: usize) -> bool {
        let host = &self.hosts[h];
        let Some(daemon) = host.daemon.as_ref().filter(|d| d.frozen_since.is_none()) else {
            return true;
        };
        if host.disk_busy > self.now {
            // Records from before the end of the faults are still being written.
            return true;
        }
        let server = host.server.proc.as_ref();
        let serves = !host.server_frozen && server.is_some_and(|p| !p.is_loading(self.now));
        !serves || daemon.pair.keeper().journal().paused || self.asks(h).is_some()
    }

    /// Who is primary and serves, while the other one does not.
    fn one_primary(&self) -> Option<usize> {
        let serves = |h: usize| {
            let host = &self.hosts[h];
            matches!(self.phase(h), Some(Phase::Primary { .. }))
                && host.server.proc.as_ref().is_some_and(|p| p.is_primary())
                && host.vip_until > self.now
                && !host.gate
                && !host.gate_direct
        };
        match (serves(0), serves(1)) {
            (true, false) => Some(0),
            (false, true) => Some(1),
            (true, true) | (false, false) => None,
        }
    }

    fn finish(&mut self, primary: usize) {
        // Bookkeeping may still be on its way; every key must be there.
        let keys = |h: usize| self.hosts[h].server.proc.as_ref().map(|p| &p.data);
        if keys(0) != keys(1) {
            self.broken(
                "P4",
                "the replica's keys differ from the primary's".to_owned(),
            );
        }
        self.check_writes(primary);
        self.check_obeyed(primary);
        self.done = true;
    }

    /// A person or a supervisor starts what is not running.
    fn mend(&mut self, h: usize) {
        let boot = self.hosts[h].boot;
        if self.hosts[h].daemon.is_none() && self.chance.percent(5) {
            for h in self.hit_with(h) {
                let boot = self.hosts[h].boot;
                self.daemon_start(h, boot);
            }
        }
        let adopt = self.plan.manage == Manage::Adopt;
        if adopt && self.hosts[h].server.proc.is_none() && self.chance.percent(5) {
            self.server_start(h, boot, !self.plan.bare);
        }
    }

    /// What this host asks a person for.
    fn asks(&self, h: usize) -> Option<&'static str> {
        let rule = match self.phase(h)? {
            Phase::Waiting { rule, .. } => rule,
            Phase::Rejoining(state) => match &state.stage {
                RejoinStage::Asking { rule, .. } => rule,
                RejoinStage::Assess
                | RejoinStage::Closing(_)
                | RejoinStage::Archiving(_)
                | RejoinStage::Fencing(_)
                | RejoinStage::Attaching(_)
                | RejoinStage::Syncing
                | RejoinStage::RetryAt(_) => return None,
            },
            Phase::Booting { .. }
            | Phase::Primary { .. }
            | Phase::Replica { .. }
            | Phase::TakingOver(_)
            | Phase::HandingOver(_)
            | Phase::Released { .. }
            | Phase::Split(_) => return None,
        };
        // The others wait for the peer or for time to pass.
        PERSONS.contains(rule).then_some(*rule)
    }

    /// Does what status asks a person to do, after it has asked for a while.
    fn operate(&mut self) {
        for h in 0..2 {
            let paused = self.hosts[h]
                .daemon
                .as_ref()
                .is_some_and(|d| d.pair.keeper().journal().paused);
            if paused {
                self.ask(h, Command::Resume);
            }
        }
        let keys = |h: usize| {
            self.hosts[h]
                .server
                .proc
                .as_ref()
                .map_or(0, |p| p.data.len())
        };
        let fuller = usize::from(keys(1) > keys(0));
        for h in [fuller, other(fuller)] {
            let rule = self.asks(h);
            // Only what has been asked for a while is a person's.
            let since = match (rule, self.stuck[h]) {
                (Some(rule), Some((old, since))) if old == rule => since,
                (Some(rule), _) => {
                    self.stuck[h] = Some((rule, self.now));
                    self.now
                }
                (None, _) => {
                    self.stuck[h] = None;
                    continue;
                }
            };
            if self.now < since + OPERATOR_EVERY {
                continue;
            }
            match rule {
                Some("boot.unrelated" | "boot.alone") if h == fuller => {
                    self.say(None, || format!("a person chooses {}", HOSTS[h]));
                    self.accept_loss(h);
                    return;
                }
                Some("source.empty") => {
                    self.accept_loss(h);
                    if !matches!(self.phase(h).map(Phase::name), Some(PhaseName::TakingOver)) {
                        self.ask(h, Command::Resync);
                    }
                    return;
                }
                Some("source.older" | "resync.ask" | "join.unrelated") => {
                    self.ask(h, Command::Resync);
                    return;
                }
                Some(_) | None => {}
            }
        }
    }
}
