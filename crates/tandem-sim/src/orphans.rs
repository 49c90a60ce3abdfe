//! What an orphaned replica may lose that syncs by itself from whatever answers at the old address (rule 18).

use tandem_core::ids::RunId;
use tandem_core::journal::JournalRole;
use tandem_core::keeper::Phase;

use crate::chance::Us;
use crate::reading::hex;
use crate::redis::Proc;
use crate::world::{HOSTS, World, other};

/// A daemon that runs detaches an orphan by then: it reads INFO every 90 ms, and the command takes its way.
const DETACHED_WITHIN: Us = 150_000;

impl World {
    /// An orphaned replica syncs by itself from another process than the one that it lost. Detaching it is
    /// the daemon's (rule 18), which can only do that while it runs, and its server too, and not faster than it looks. Nor
    /// should the other server have given it a sync where its daemon could have fenced that one.
    pub(crate) fn excuse_wiped(&mut self, h: usize, source: &Proc) {
        let Some((_, run)) = self.hosts[h].orphaned else {
            return;
        };
        let in_time = self.hosts[h].neglected || self.detaches(h) || self.fences(other(h), source);
        let host = &self.hosts[h];
        let Some(proc) = host
            .server
            .proc
            .as_ref()
            .filter(|_| run != source.run && !in_time)
        else {
            return;
        };
        let mut kept = source.data.clone();
        kept.extend(&self.hosts[0].archive);
        kept.extend(&self.hosts[1].archive);
        for id in proc.data.clone().iter() {
            let write = &mut self.writes[id as usize];
            if write.acked.is_some() && write.excused.is_none() && !kept.contains(id) {
                write.excused = Some(format!("wiped on {} before it was detached", HOSTS[h]));
            }
        }
    }

    /// For how long this host's daemon has been able to see what its server is since then, and to order it about.
    fn watched(&self, h: usize, since: Us) -> Us {
        let host = &self.hosts[h];
        let daemon = host.daemon.as_ref();
        let awake = daemon.is_some_and(|d| d.frozen_since.is_none());
        let able = awake && !host.server_frozen && self.step_trouble == 0;
        let since = since.max(host.unwatched);
        if able {
            self.now.saturating_sub(since)
        } else {
            0
        }
    }

    /// The daemon of this orphan has had the time to detach it.
    fn detaches(&self, h: usize) -> bool {
        let since = self.hosts[h].orphaned.map(|(since, _)| since);
        since.is_some_and(|since| self.watched(h, since) >= DETACHED_WITHIN)
    }

    /// The daemon of this server has had the time to fence it: it is another process than the one that had the role here, and
    /// nothing is decided.
    fn fences(&self, h: usize, source: &Proc) -> bool {
        let Some(daemon) = &self.hosts[h].daemon else {
            return false;
        };
        let keeper = daemon.pair.keeper();
        let journal = keeper.journal();
        let known = RunId(hex(source.run));
        let mark = journal.mark.as_ref().map(|mark| &mark.run_id);
        let another = mark.is_some_and(|run| *run != known) && journal.run_id != Some(known);
        let (undecided, since) = match keeper.phase() {
            Phase::Booting { since } | Phase::Waiting { since, .. } => (true, *since),
            _ => (false, self.instant()),
        };
        let followed = !matches!(journal.role, JournalRole::None | JournalRole::Replica);
        let since = source.loading_until.max(self.us(since));
        undecided && another && followed && self.watched(h, since) >= DETACHED_WITHIN
    }

    /// Nobody detaches this host's server from now on: its daemon may have had the time before.
    pub(crate) fn watch_ends(&mut self, h: usize) {
        self.hosts[h].neglected |= self.detaches(h);
    }

    /// This host's daemon leaves by itself, and sees to it first that it leaves no orphan.
    pub(crate) fn watch_is_left(&mut self, h: usize) {
        let host = &self.hosts[h];
        let long = host
            .orphaned
            .is_some_and(|(since, _)| self.now.saturating_sub(since) >= DETACHED_WITHIN);
        let able = !host.server_frozen && self.step_trouble == 0;
        self.hosts[h].neglected |= long && able;
    }
}
