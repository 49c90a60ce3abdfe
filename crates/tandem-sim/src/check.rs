//! The invariants P1 to P6, looked at where they could break.
//!
//! What a legitimate loss is, exactly: a write acknowledged by a process that died, or a host that lost
//! power, while it was neither on the other host (data, or bytes that its kernel had received) nor in
//! an archive nor in what the dead server would load again; and what an operator accepted by
//! name. A switchover and a cut excuse nothing.

use tandem_core::ids::Epoch;
use tandem_core::journal::Journal;
use tandem_core::keeper::phase::Cause;
use tandem_core::keeper::{Phase, Step};
use tandem_core::statement::PhaseName;

use crate::chance::{SEC, Us};
use crate::clients::Write;
use crate::data::Data;
use crate::redis::{Kind, Link, Proc};
use crate::world::{HOSTS, World, other};

/// What was acknowledged this recently may be in flight, which the promise says.
const IN_FLIGHT: Us = 700_000;

impl World {
    /// P1: whoever begins to take over because of silence must have heard nothing.
    pub(crate) fn check_phase(&mut self, h: usize) {
        let Some(daemon) = &mut self.hosts[h].daemon else {
            return;
        };
        let phase = daemon.pair.keeper().phase().clone();
        let name = phase.name();
        if daemon.last_phase == name {
            return;
        }
        daemon.last_phase = name;
        self.say(Some(h), || format!("phase {}", name.word()));
        let barred = self.hosts[h]
            .daemon
            .as_ref()
            .is_some_and(|d| d.pair.keeper().journal().barred.is_some());
        if matches!(name, PhaseName::Primary | PhaseName::Split) && barred {
            let text = format!("{} is {} in spite of its promise", HOSTS[h], name.word());
            self.broken("alone", text);
        }
        let Phase::TakingOver(state) = phase else {
            return;
        };
        let silence_needed = match state.cause {
            Cause::Unfenced | Cause::ServerGone | Cause::RemoteFenced | Cause::BootAlone => true,
            Cause::Statement | Cause::Boot | Cause::Adopted | Cause::Restored | Cause::Operator => {
                false
            }
        };
        let skew = 100_000 * (256 - Us::from(self.plan.priority[h])) / 256;
        let master_down = 300_000 + skew;
        if silence_needed
            && let Some(heard) = self.hosts[h].heard
            && self.now - heard < master_down
        {
            let ms = (self.now - heard) / 1000;
            self.broken(
                "P1",
                format!(
                    "{} takes over ({:?}) {ms} ms after it heard the other side",
                    HOSTS[h], state.cause
                ),
            );
        }
    }

    /// Who follows from elsewhere obeys the word of the highest rank: of one rank there is one word on each primary, and after
    /// healing the highest one is the primary's own, and says that it serves. The proxies of a host obey its keeper's last word: so
    /// that has to be the primary's own, too, on both hosts.
    pub(crate) fn check_told(&mut self, h: usize) {
        let Some(told) = self.daemon_topology(h) else {
            return;
        };
        let Some(primary) = told.primary else {
            return;
        };
        let key = (told.rank, primary.name());
        let before = *self.told.entry(key.clone()).or_insert(told.closing);
        if before != told.closing {
            let (rank, primary) = key;
            let text = format!("{primary} is told as closing and as serving at {rank:?}");
            self.broken("P6", text);
        }
    }

    /// See [`Self::check_told`].
    pub(crate) fn check_obeyed(&mut self, primary: usize) {
        let right = self.daemon_topology(primary);
        let right = right.and_then(|told| Some((told.rank, told.primary?.name())));
        let obeyed = self.told.last_key_value();
        if obeyed.map(|(key, closing)| (Some(key), *closing)) != Some((right.as_ref(), false)) {
            let text = format!("proxies obey {obeyed:?}, the primary says {right:?}");
            self.broken("P6", text);
        }
        let last = self.daemon_topology(other(primary)).map(|told| {
            let serves = !told.closing;
            (told.rank, told.primary.map(|at| at.name()), serves)
        });
        let right = right.map(|(rank, at)| (rank, Some(at), true));
        if last != right {
            let text =
                format!("beside the replica proxies obey {last:?}, the primary says {right:?}");
            self.broken("P6", text);
        }
    }

    /// P2: addresses only where the promotion is complete.
    pub(crate) fn check_step(&mut self, h: usize, step: &Step) {
        if *step != Step::AddVip {
            return;
        }
        let right = match self.phase(h).map(Phase::name) {
            Some(PhaseName::Primary | PhaseName::HandingOver | PhaseName::Split) => true,
            Some(
                PhaseName::Booting
                | PhaseName::Waiting
                | PhaseName::Replica
                | PhaseName::TakingOver
                | PhaseName::Released
                | PhaseName::Rejoining,
            )
            | None => false,
        };
        if !right {
            self.broken(
                "P2",
                format!("{} adds the VIP without being primary", HOSTS[h]),
            );
        }
    }

    /// A promotion reaches the server: its epoch is its own, and what was said to be fenced is.
    pub(crate) fn check_promoted(&mut self, h: usize) {
        let Some(Phase::TakingOver(state)) = self.phase(h).cloned() else {
            // A command that outlived its phase, as in a server that was frozen meanwhile.
            return;
        };
        let inc = self.inc(h);
        let name = (h, inc);
        if let Some(before) = self.promoted.insert(state.epoch.clone(), name)
            && before != name
        {
            let text = format!("epoch {} is used by two promotions", state.epoch);
            self.broken("P5", text);
        }
        if state.cause != Cause::Operator {
            self.check_alone(h, "is promoted");
        }
        self.forget_alone(other(h));
        // The other side may rightly have taken a newer epoch since, through a cut, or one of the same number.
        let newer = self.hosts[other(h)]
            .daemon
            .as_ref()
            .is_some_and(|d| d.pair.keeper().journal().data_epoch.counter >= state.epoch.counter);
        if !newer
            && matches!(state.cause, Cause::Statement | Cause::RemoteFenced)
            && self.could_acknowledge(other(h))
        {
            let text = format!(
                "{} is promoted ({:?}) while clients are still served by {}",
                HOSTS[h],
                state.cause,
                HOSTS[other(h)]
            );
            self.broken("two-writers", text);
        }
    }

    /// A proxy beside this host's daemon may pass on a reply that no replica vouches for.
    pub(crate) fn may_be_alone(&self, h: usize) -> bool {
        self.hosts[h].daemon.as_ref().is_some_and(|daemon| {
            let granted = daemon.pair.keeper().alone_until(self.instant());
            daemon.frozen_since.is_none() && granted.is_some()
        })
    }

    /// Nothing that was acknowledged alone is lost by the promotion of a server that was absent.
    fn check_alone(&mut self, h: usize, what: &str) {
        let Some(proc) = &self.hosts[h].server.proc else {
            return;
        };
        // What that one has lost itself, with its process or disk, this promotion does not lose.
        let theirs = &self.hosts[other(h)].server;
        let mut held = theirs.survivors(false);
        if let Some(proc) = &theirs.proc {
            held.extend(&proc.data);
        }
        let lacks = |(id, write): &(usize, &Write)| {
            let id = u32::try_from(*id).unwrap_or(u32::MAX);
            let by_other = write.acked.is_some_and(|(_, by)| by != h);
            write.alone && by_other && held.contains(id) && !proc.data.contains(id)
        };
        let missing = self.writes.iter().enumerate().filter(lacks).count();
        if missing > 0 {
            let text = format!(
                "{} {what} without {missing} writes that the other side acknowledged alone",
                HOSTS[h]
            );
            self.broken("alone", text);
        }
    }

    /// What this host has acknowledged alone is on the other one, or that has been decided upon.
    fn forget_alone(&mut self, h: usize) {
        for write in &mut self.writes {
            write.alone &= write.acked.is_none_or(|(_, by)| by != h);
        }
    }

    /// A promise not to be promoted ends only when all is there that was acknowledged alone.
    pub(crate) fn check_bar(&mut self, h: usize) {
        let Some(daemon) = &mut self.hosts[h].daemon else {
            return;
        };
        let keeper = daemon.pair.keeper();
        let barred = keeper.journal().barred.is_some();
        let lifted = std::mem::replace(&mut daemon.barred, barred) && !barred;
        let promotes = keeper.phase().name() == PhaseName::TakingOver;
        if lifted && !promotes && !keeper.phase().name().holds_primary() {
            self.check_alone(h, "lifts its bar");
            self.forget_alone(other(h));
        }
    }

    /// A client's write on this host could be acknowledged now or on its thaw.
    fn could_acknowledge(&self, h: usize) -> bool {
        let host = &self.hosts[h];
        let Some(proc) = &host.server.proc else {
            return false;
        };
        host.powered
            && proc.is_primary()
            && host.vip_until > self.now
            && !host.gate
            && !host.gate_direct
            && proc.paused_until <= self.now
    }

    /// Two servers never acknowledge in one epoch.
    pub(crate) fn check_writer(&mut self, h: usize) {
        let Some(daemon) = &self.hosts[h].daemon else {
            return;
        };
        let keeper = daemon.pair.keeper();
        let epoch: Epoch = keeper.journal().data_epoch.clone();
        // A server may go on while its daemon, which begins anew, has no say in it yet: whether that is in the epoch of
        // the journal, or in one that was lost with a full disk, is not known.
        if epoch.counter == 0 || !keeper.phase().name().holds_primary() {
            return;
        }
        let before = *self.acked_in.entry(epoch.clone()).or_insert(h);
        if before != h {
            let text = format!("both servers acknowledge writes in epoch {epoch}");
            self.broken("two-writers", text);
        }
    }

    /// P5: what is on disk never goes back.
    pub(crate) fn check_journal(&mut self, h: usize, journal: &Journal) {
        if let Some(before) = &self.hosts[h].disk_epoch
            && journal.epoch < *before
        {
            let text = format!(
                "{}'s journal goes from epoch {before} to {}",
                HOSTS[h], journal.epoch
            );
            self.broken("P5", text);
        }
        self.hosts[h].disk_epoch = Some(journal.epoch.clone());
    }

    /// Both daemons say that the pair survives the death of its primary, and this replica is there.
    fn promised(&self, replica: usize) -> bool {
        let says = |h: usize| {
            self.hosts[h].daemon.as_ref().is_some_and(|d| {
                d.frozen_since.is_none() && d.pair.keeper().status(self.instant()).ready
            })
        };
        // Through a cut nobody can know at once that nothing arrives.
        let whole = self.redis_path() && self.now > self.cut_until + SEC;
        let there = self.hosts[replica].server.proc.is_some() && !self.hosts[replica].server_frozen;
        whole && there && says(0) && says(1)
    }

    /// What the other host, the archives and the disks hold of a dying server's data.
    fn elsewhere(&self, h: usize, proc: &Proc, power_off: bool) -> Data {
        let mut all = self.hosts[h].server.survivors(power_off);
        all.extend(&self.hosts[0].archive);
        all.extend(&self.hosts[1].archive);
        let peer = &self.hosts[other(h)];
        match &peer.server.proc {
            Some(theirs) => {
                all.extend(&theirs.data);
                if let Link::Full {
                    snapshot,
                    loading: true,
                    ..
                } = &theirs.link
                {
                    all.extend(&snapshot.data);
                }
                if let Link::Full {
                    conn,
                    loading: true,
                    ..
                }
                | Link::Up(conn) = &theirs.link
                    && conn.source == proc.run
                    && conn.mute_since.is_none()
                {
                    for (at, entry) in &conn.queue {
                        let arrives = self.redis_path() && *at <= self.now;
                        if let (true, Kind::Write(id)) = (arrives, entry.kind) {
                            all.insert(id);
                        }
                    }
                }
            }
            None => all.extend(&peer.server.survivors(false)),
        }
        all
    }

    /// A process dies: what only it had is excused.
    pub(crate) fn excuse_deaths(&mut self, h: usize, proc: &Proc, power_off: bool) {
        let elsewhere = self.elsewhere(h, proc, power_off);
        let now = self.now;
        let mut lost = proc.data.clone();
        // With a replica dies what its kernel had received.
        if let Link::Full { conn, .. } | Link::Up(conn) = &proc.link {
            for (_, entry) in &conn.queue {
                if let Kind::Write(id) = entry.kind {
                    lost.insert(id);
                }
            }
        }
        if let Link::Full { snapshot, .. } = &proc.link {
            lost.extend(&snapshot.data);
        }
        let mut count = 0;
        let promised = !power_off && proc.is_primary() && self.promised(other(h));
        let mut broken = 0;
        for id in lost.iter() {
            let write = &mut self.writes[id as usize];
            if write.excused.is_none()
                && !elsewhere.contains(id)
                && let Some((at, by)) = write.acked
            {
                count += 1;
                broken += u64::from(by == h && at + IN_FLIGHT < now);
                write.excused = Some(format!("died with {} at {} ms", HOSTS[h], now / 1000));
            }
        }
        let keeps = self.hosts[h].server.survivors(power_off).len();
        self.say(Some(h), || {
            format!("{count} writes died, {keeps} keys survive")
        });
        if promised && broken > 0 {
            let text = format!(
                "{broken} writes die with {} while both hosts say that it would be survived",
                HOSTS[h]
            );
            self.broken("promise", text);
        }
    }

    /// A command that waited in a frozen server runs before the stream that arrived after it, and
    /// ends that stream: what was in it died with its primary if that is gone.
    pub(crate) fn excuse_unread(&mut self, h: usize) {
        let Some(proc) = &self.hosts[h].server.proc else {
            return;
        };
        let (Link::Full { conn, .. } | Link::Up(conn)) = &proc.link else {
            return;
        };
        let peer = &self.hosts[other(h)].server;
        let mut kept = peer.survivors(false);
        if let Some(theirs) = &peer.proc {
            if theirs.run == conn.source {
                return;
            }
            kept.extend(&theirs.data);
        }
        let unread: Vec<u32> = conn
            .queue
            .iter()
            .filter_map(|(_, entry)| match entry.kind {
                Kind::Write(id) => Some(id),
                Kind::Ping | Kind::Select => None,
            })
            .filter(|id| !kept.contains(*id))
            .collect();
        for id in unread {
            let write = &mut self.writes[id as usize];
            if write.acked.is_some() && write.excused.is_none() {
                write.excused = Some(format!("unread in the frozen server of {}", HOSTS[h]));
            }
        }
    }

    /// An operator made this host's data the group's.
    pub(crate) fn excuse_accepted(&mut self, h: usize) {
        let Some(proc) = &self.hosts[h].server.proc else {
            return;
        };
        let mut kept = proc.data.clone();
        kept.extend(&self.hosts[0].archive);
        kept.extend(&self.hosts[1].archive);
        for (id, write) in self.writes.iter_mut().enumerate() {
            let id = u32::try_from(id).unwrap_or(u32::MAX);
            if write.acked.is_some() && write.excused.is_none() && !kept.contains(id) {
                write.excused = Some(format!("accepted by an operator on {}", HOSTS[h]));
            }
        }
    }

    /// P3 at the end.
    pub(crate) fn check_writes(&mut self, primary: usize) {
        let Some(proc) = &self.hosts[primary].server.proc else {
            return;
        };
        let mut kept = proc.data.clone();
        kept.extend(&self.hosts[0].archive);
        kept.extend(&self.hosts[1].archive);
        let missing: Vec<(usize, Us, usize)> = self
            .writes
            .iter()
            .enumerate()
            .filter(|(id, w)| {
                w.excused.is_none() && !kept.contains(u32::try_from(*id).unwrap_or(u32::MAX))
            })
            .filter_map(|(id, w)| w.acked.map(|(at, h)| (id, at, h)))
            .collect();
        if let Some((id, at, h)) = missing.first() {
            let text = format!(
                "{} acknowledged writes are nowhere; the first is {id}, acknowledged by {} at {} ms (reached the other host: {})",
                missing.len(),
                HOSTS[*h],
                at / 1000,
                self.writes[*id].reached,
            );
            self.broken("P3", text);
        }
    }
}
