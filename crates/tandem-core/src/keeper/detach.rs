//! Detaching an orphaned replica (rule 18), and noticing that one was resynced.
//!
//! A replica whose primary is gone reconnects by itself the moment anything answers at the old
//! address, and a server that came back empty or older then wipes it. So once the link is down and the
//! other side is not heard to be primary, the local server is told to follow nobody; its data, lineage
//! and offset stay what they were, and only the keeper attaches it again.

use std::time::{Duration, Instant};

use crate::keeper::Keeper;
use crate::keeper::io::{Outcome, Step};
use crate::keeper::phase::{Phase, RejoinStage, TakeOverStage};
use crate::server::{ServerRole, ServerView};

/// Bound on the command.
const DETACH_WITHIN: Duration = Duration::from_secs(1);
/// A reading older than this does not count: INFO is read every 100 ms.
const FRESH: Duration = Duration::from_millis(150);

impl Keeper {
    /// Detaches when that is due, and takes note of the result.
    pub(super) fn detach_if_orphaned(&mut self, now: Instant) {
        if let Some(id) = self.detaching {
            match self.result(id) {
                None => return,
                Some(Ok(Outcome::View(view))) => {
                    self.view = Some((*view, now));
                    self.detaching = None;
                }
                Some(Ok(_) | Err(_)) => self.detaching = None,
            }
        }
        let ours_to_do = match &self.phase {
            Phase::Booting { .. } | Phase::Waiting { .. } | Phase::Replica { .. } => true,
            Phase::Rejoining(state) => state.stage == RejoinStage::Syncing,
            // It waits for the rest of the stream of a server that may restart meanwhile. Later stages have drained it.
            Phase::TakingOver(state) => matches!(state.stage, TakeOverStage::RemoteFencing(_)),
            Phase::Primary { .. }
            | Phase::HandingOver(_)
            | Phase::Released { .. }
            | Phase::Split(_) => false,
        };
        if !ours_to_do || self.leaving.is_some() || !self.server_usable(now) {
            return;
        }
        let served = self
            .live_peer(now)
            .is_some_and(|peer| peer.phase.holds_primary() && peer.healthy);
        // An old reading says nothing: the stream may have come up since, and what it has brought
        // into the server's socket would be thrown away.
        let fresh = self
            .view
            .as_ref()
            .filter(|(_, at)| now.saturating_duration_since(*at) < FRESH);
        let orphaned = fresh.is_some_and(|(view, _)| {
            !view.is_fenced()
                && matches!(
                    view.role,
                    ServerRole::Replica {
                        link_up: false,
                        syncing: false,
                        ..
                    }
                )
        });
        if orphaned && !served {
            self.detaching = Some(self.start_background(Step::Fence, DETACH_WITHIN, now));
        }
    }

    /// The same process has changed its lineage while it followed the peer: it was resynced, and
    /// holds the history of the epoch in which the peer is primary.
    pub(super) fn note_resync(&mut self, view: &ServerView, now: Instant) {
        let resynced = self.server().is_some_and(|old| {
            old.run_id == view.run_id && old.replid != view.replid && !old.is_writable()
        });
        let epoch = self
            .peer
            .statement
            .as_ref()
            .filter(|p| p.phase.holds_primary() && view.follows(&p.server_address))
            .map(|p| p.epoch.clone());
        if let (true, Some(epoch)) = (resynced, epoch)
            && epoch > self.journal.data_epoch
        {
            self.journal.epoch = self.journal.epoch.clone().max(epoch.clone());
            self.journal.data_epoch = epoch;
            self.journal.primary_lineage = Some(view.replid.clone());
            self.save(now);
        }
    }
}
