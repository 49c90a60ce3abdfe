//! A stall of this process: what was silent meanwhile was so because we did not listen.
//!
//! Redis enters TILT for 30 s, because a wall clock cannot tell a stall from a jump. A monotonic clock can: the length is
//! known, so every clock that counts others' silence is moved on by it, and nothing is frozen. For one ping period, in
//! which everybody has the chance to answer, no primary is called down to others, and
//! `+tilt` and `-tilt` tell operators so if the stall was as long as `tilt-trigger`.
//!
//! A failover that was on its way to a promotion during so long a stall is given up: the votes that it rests on bind the
//! voters for twice the failover time-out at most, others may have been elected meanwhile, and what they told us lies
//! unread in our sockets. A command that was on its way out when the process stopped cannot be taken back.

use std::time::{Duration, Instant};

use crate::sentinel::due::Key;
use crate::sentinel::events::Kind;
use crate::sentinel::machine::Sentinel;
use crate::sentinel::model::Stage;

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
        let mut stale = Vec::new();
        for group in self.groups.values_mut() {
            let Some(failover) = &mut group.failover else {
                continue;
            };
            later(&mut failover.stage_since);
            // Answers may lie in our sockets, unread: they get the time that they had left.
            for at in [&mut failover.act_at, &mut failover.again_at]
                .into_iter()
                .flatten()
            {
                *at += by;
            }
            let undecided = match failover.stage {
                Stage::Electing | Stage::Selecting | Stage::Promoting => true,
                Stage::Confirming | Stage::Reconfiguring | Stage::Updating => false,
            };
            if undecided
                && by
                    >= self
                        .periods
                        .tilt_trigger
                        .min(group.settings.failover_timeout)
            {
                stale.push(group.id);
            }
        }
        for id in stale {
            self.lead_no_more(id);
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
