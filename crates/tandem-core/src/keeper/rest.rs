//! Rest: when the shell may tell late that the local server goes on answering, and what an answer says after a silence.

use std::time::Instant;

use crate::health::Health;
use crate::keeper::Keeper;
use crate::keeper::phase::Phase;

impl Keeper {
    /// Nothing is under way and nothing is awaited of the local server: that it goes on answering may be told late
    /// ([`ServerEvent::Earlier`](crate::keeper::ServerEvent::Earlier)), and so may readings of INFO, by a tenth of `down_after`.
    ///
    /// A replica is at rest beside a primary that is well: as soon as that is in doubt, the link to it is looked at at once and
    /// then without delay, because an orphan has to be detached before it finds somebody else (rule 18).
    pub fn is_at_rest(&self, now: Instant) -> bool {
        let steady = match &self.phase {
            Phase::Primary { .. } => true,
            Phase::Replica { .. } => self.is_served(now),
            Phase::Booting { .. }
            | Phase::Waiting { .. }
            | Phase::TakingOver(_)
            | Phase::HandingOver(_)
            | Phase::Released { .. }
            | Phase::Split(_)
            | Phase::Rejoining(_) => false,
        };
        steady && self.view.is_some() && matches!(self.health(now), Health::Fine)
    }

    /// After silence or death another process answers, or one that has slept and reads on where it stopped: what is known is
    /// history until INFO is read again.
    pub(super) fn forget_outdated_view(&mut self, now: Instant) {
        let outdated = matches!(self.health(now), Health::Dead(_) | Health::Silent(_));
        if outdated && !self.holds_role() && self.closing_silent.is_none() {
            self.view = None;
        }
    }
}
