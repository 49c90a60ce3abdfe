//! A stall of this process: what was silent meanwhile was so because we did not listen.
//!
//! Redis enters TILT for 30 s, because a wall clock cannot tell a stall from a jump. A monotonic clock can: the length is
//! known, so every clock that counts others' silence is moved on by it, and nothing is frozen. For one ping period, in
//! which everybody has the chance to answer, no primary is called down to others, and
//! `+tilt` and `-tilt` tell operators so if the stall was as long as `tilt-trigger`.

use std::time::{Duration, Instant};

use crate::sentinel::due::Key;
use crate::sentinel::events::Kind;
use crate::sentinel::machine::Sentinel;

impl Sentinel {
    /// The process did not run for this long.
    pub(super) fn late(&mut self, by: Duration) {
        let now = self.now;
        let later = |at: &mut Instant| *at = (*at + by).min(now);
        for link in self.links.values_mut() {
            if let Some(pending) = &mut link.ping_pending {
                later(pending);
            }
            later(&mut link.last_available);
            later(&mut link.last_pong);
            later(&mut link.pubsub_activity);
            if let Some(since) = &mut link.refused_since {
                later(since);
            }
        }
        for group in self.groups.values_mut() {
            if let Some(failover) = &mut group.failover {
                later(&mut failover.stage_since);
            }
        }
        if by < self.periods.tilt_trigger {
            return;
        }
        if self.stalled.is_none() {
            self.tell(Kind::PlusTilt, "#tilt mode entered");
        }
        self.stalled = Some(now);
        self.due.set(Key::Stall, now + self.periods.ping);
    }

    /// Everybody had the chance to answer.
    pub(super) fn stall_over(&mut self) {
        self.stalled = None;
        self.tell(Kind::MinusTilt, "#tilt mode exited");
        self.marked.extend(self.groups.keys());
    }

    /// Since when the consequences of a stall are handled (`sentinel_tilt`).
    #[must_use]
    pub fn tilt_since(&self) -> Option<Instant> {
        self.stalled
    }
}
