//! What an orphaned replica may lose that syncs by itself from whatever answers at the old address (rule 18).

use crate::chance::Us;
use crate::redis::Proc;
use crate::world::{HOSTS, World};

/// A daemon that runs detaches an orphan by then: it reads INFO every 90 ms, and the command takes its way.
const DETACHED_WITHIN: Us = 150_000;

impl World {
    /// An orphaned replica syncs by itself from another process than the one that it lost. Detaching it is
    /// the daemon's (rule 18), which can only do that while it runs and not faster than it looks.
    pub(crate) fn excuse_wiped(&mut self, h: usize, source: &Proc) {
        let host = &self.hosts[h];
        let Some((since, run)) = host.orphaned else {
            return;
        };
        let daemon = host.daemon.as_ref();
        let awake = daemon.is_some_and(|d| d.frozen_since.is_none());
        let watched = self.now.saturating_sub(since.max(host.unwatched));
        let in_time = awake && watched >= DETACHED_WITHIN && self.step_trouble == 0;
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
}
