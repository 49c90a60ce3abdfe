//! The course of a run: how it begins, how it heals, who helps, and when it is over.
//!
//! After the faults everything is mended and the group has a bound of time to become one primary and
//! one replica in sync. Where it rightly waits for a person, the simulator is that person and does
//! what status says.

use tandem_core::keeper::Command;
use tandem_core::keeper::Phase;
use tandem_core::keeper::phase::RejoinStage;
use tandem_core::keeper::settings::Manage;
use tandem_core::statement::PhaseName;

use crate::chance::{MS, SEC, Us};
use crate::clients::{Client, Write};
use crate::plan::Beginning;
use crate::redis::Target;
use crate::world::{Ev, HOSTS, Undo, World, other};

/// Time to converge once everything is mended.
const HEAL_WITHIN: Us = 40 * SEC;
/// Converged means so for this long.
const SETTLED_FOR: Us = 600 * MS;
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
        let Some(primary) = self.converged() else {
            self.settled_since = None;
            if self.now > healed + HEAL_WITHIN {
                let word = |h: usize| {
                    self.phase(h)
                        .map_or_else(|| "no daemon".to_owned(), |p| format!("{p:?}"))
                };
                let text = format!("not converged: a is {}, b is {}", word(0), word(1));
                self.broken("P4", text);
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
        self.done = true;
    }

    /// A person or a supervisor starts what is not running.
    fn mend(&mut self, h: usize) {
        let boot = self.hosts[h].boot;
        if self.hosts[h].daemon.is_none() && self.chance.percent(5) {
            self.daemon_start(h, boot);
        }
        let adopt = self.plan.manage == Manage::Adopt;
        if adopt && self.hosts[h].server.proc.is_none() && self.chance.percent(5) {
            self.server_start(h, boot, true);
        }
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
        let asks = |world: &Self, h: usize| -> Option<&'static str> {
            match world.phase(h)? {
                Phase::Waiting { rule, .. } => Some(rule),
                Phase::Rejoining(state) => match &state.stage {
                    RejoinStage::Asking { rule, .. } => Some(rule),
                    RejoinStage::Assess
                    | RejoinStage::Closing(_)
                    | RejoinStage::Archiving(_)
                    | RejoinStage::Fencing(_)
                    | RejoinStage::Attaching(_)
                    | RejoinStage::Syncing
                    | RejoinStage::RetryAt(_) => None,
                },
                Phase::Booting { .. }
                | Phase::Primary { .. }
                | Phase::Replica { .. }
                | Phase::TakingOver(_)
                | Phase::HandingOver(_)
                | Phase::Released { .. }
                | Phase::Split(_) => None,
            }
        };
        let keys = |h: usize| {
            self.hosts[h]
                .server
                .proc
                .as_ref()
                .map_or(0, |p| p.data.len())
        };
        let fuller = usize::from(keys(1) > keys(0));
        for h in [fuller, other(fuller)] {
            let rule = asks(self, h);
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
