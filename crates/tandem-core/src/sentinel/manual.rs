//! `SENTINEL FAILOVER`, and what it does when the primary is well: hand over without losing a write.
//!
//! Real Sentinel promotes the replica and leaves the old primary writable for another ten seconds. Here:
//!
//! 1. `CLIENT PAUSE <bound> WRITE` on the primary: its clients' writes wait, its end of history stands still.
//! 2. INFO of both, until the replica has applied all of it.
//! 3. The old primary is told to follow the replica (MULTI, SLAVEOF, CLIENT KILL, EXEC). It refuses writes from here on,
//!    whatever happens to us: it is fenced.
//! 4. Its INFO must say so, and its end must still be what the replica has; then SLAVEOF NO ONE on the replica.
//! 5. Confirmed: `+switch-master`, UNPAUSE, the others are pointed to it.
//!
//! Why in this order: were the replica promoted first and did this process end between the two, the pause would run
//! out and both would take writes. With the fence first there is none that takes writes for that moment, and what is
//! left behind by a dead sentinel is a primary that reports the role of a replica, which every Sentinel finds down after
//! a while and repairs with an ordinary failover. The replica has the whole history when the old primary attaches to
//! it, so all resyncs are partial.
//!
//! The pause is short (half of `down-after`, five seconds at most): a PUBLISH of another sentinel is held back like a write,
//! and what it asks behind that is not answered. Our own hello is not sent meanwhile for the same reason. At
//! half of the pause the replica must be equal, or writes go on where they were: `-failover-abort-slave-behind`. After the
//! fence there is either the new primary, or the old one again (SLAVEOF NO ONE), if the new one certainly is none.
//! A server that does not take CLIENT PAUSE (its ACL, or a version before 6.2) is told, `-pause-refused`, and fails over
//! plainly, its old primary being made a replica in the moment of the promotion.

use std::time::{Duration, Instant};

use thiserror::Error;

use crate::sentinel::commands::CommandError;
use crate::sentinel::ids::Endpoint;
use crate::sentinel::io::Level;
use crate::sentinel::machine::Sentinel;
use crate::sentinel::model::{GroupId, Handover, HandoverStep, Lineage, Link, ReportedRole, Stage};
use crate::sentinel::steps::{Ending, Purpose};

/// The longest pause.
const PAUSE_MAX: Duration = Duration::from_secs(5);
/// The shortest that leaves time for anything.
const PAUSE_MIN: Duration = Duration::from_millis(200);
/// Between two looks at the replica while it reads the rest.
const POLL: Duration = Duration::from_millis(2);

/// Why a failover asked for is not begun.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum CannotFailOver {
    /// One is under way; it passes by itself.
    #[error("a failover is in progress")]
    InProgress,
    /// No replica may be promoted; [`Sentinel::candidates`] says why.
    #[error("no replica may be promoted")]
    NoGoodReplica,
}

impl From<CannotFailOver> for CommandError {
    fn from(error: CannotFailOver) -> Self {
        match error {
            CannotFailOver::InProgress => Self::InProgress,
            CannotFailOver::NoGoodReplica => Self::NoGoodReplica,
        }
    }
}

impl Sentinel {
    /// Begins a failover that an operator asked for; its election is in forced.rs.
    ///
    /// # Errors
    /// [`CannotFailOver`]; nothing has happened then.
    pub(super) fn force_failover(&mut self, id: GroupId) -> Result<(), CannotFailOver> {
        let Some(group) = self.groups.get(&id) else {
            return Err(CannotFailOver::NoGoodReplica);
        };
        if group.failover.is_some() {
            return Err(CannotFailOver::InProgress);
        }
        if self.choose(group).is_none() {
            return Err(CannotFailOver::NoGoodReplica);
        }
        self.begin(id, true);
        Ok(())
    }

    /// The replica is chosen: begin with the pause, if there is a primary to lose something.
    pub(super) fn begin_handover(&mut self, id: GroupId) {
        let now = self.now;
        let Some((group, failover)) = self.with_failover(id) else {
            return;
        };
        let well = failover.forced
            && group.primary.down.subjective.is_none()
            && group.primary.observed.role == ReportedRole::Primary
            && self.links.get(&group.primary.link).is_some_and(Link::is_up);
        if !well {
            return;
        }
        let bound = (group.settings.down_after / 2).clamp(PAUSE_MIN, PAUSE_MAX);
        let (at, link) = (group.primary.at.clone(), group.primary.link);
        if !self.pause_writes(id, &at, bound.as_millis()) {
            return;
        }
        if let Some(link) = self.links.get_mut(&link) {
            link.hold_hello = true;
        }
        if let Some(failover) = self.failover_mut(id) {
            failover.handover = Some(Handover {
                step: HandoverStep::Pausing,
                deadline: now + bound,
                give_up: now + bound / 2,
                target: None,
            });
        }
    }

    /// The answer to CLIENT PAUSE.
    pub(super) fn pause_ended(&mut self, id: GroupId, ending: Ending) {
        let Some(handover) = self.handover_mut(id, HandoverStep::Pausing) else {
            return;
        };
        match ending {
            Ending::Done => handover.step = HandoverStep::Draining,
            Ending::Refused | Ending::Unknown => {
                if let Some(failover) = self.failover_mut(id) {
                    failover.handover = None;
                }
                self.hold_hello(id, false);
                self.log(
                    Level::Warning,
                    "Writes cannot be paused: failing over without waiting for the replica",
                );
            }
        }
    }

    /// A server's INFO was read: the primary's tells the end to reach, the replica's how far it is.
    pub(super) fn drained(&mut self, id: GroupId) {
        let now = self.now;
        let Some((group, failover)) = self.with_failover(id) else {
            return;
        };
        let (Some(handover), Some(chosen)) = (&failover.handover, failover.chosen.clone()) else {
            return;
        };
        let fenced = group.primary.observed.role == ReportedRole::Replica;
        // INFO follows each command in its pipeline, so what was read now is later than what was asked before it.
        let fresh = group.primary.observed.info_at == Some(now);
        let end = group.primary.observed.lineage.clone();
        let position = group
            .replicas
            .get(&chosen)
            .and_then(|replica| replica.observed.lineage.clone());
        let primary = group.primary.at.clone();
        let step = handover.step;
        let target = handover.target;
        let in_time = now < handover.deadline;
        match step {
            HandoverStep::Pausing | HandoverStep::Fenced => {}
            HandoverStep::Draining => {
                let target = if fresh {
                    end.as_ref().map(|end| end.offset)
                } else {
                    target
                };
                self.set_target(id, target);
                if in_time && equal(target, end.as_ref(), position.as_ref()) {
                    if let Some(handover) = self.handover_mut(id, HandoverStep::Draining) {
                        handover.step = HandoverStep::Fencing;
                    }
                    if !self.change_role(id, &primary, Purpose::Fence(chosen)) {
                        self.give_back(id);
                        self.abort_behind(id);
                    }
                }
            }
            HandoverStep::Fencing if fresh && fenced => {
                // Had the pause run out before the fence came, the end would be further on now.
                let target = target.max(end.as_ref().map(|end| end.offset));
                self.set_target(id, target);
                if equal(target, end.as_ref(), position.as_ref())
                    && let Some(handover) = self.handover_mut(id, HandoverStep::Fencing)
                {
                    handover.step = HandoverStep::Fenced;
                }
            }
            HandoverStep::Fencing if fenced => {
                if equal(target, end.as_ref(), position.as_ref())
                    && let Some(handover) = self.handover_mut(id, HandoverStep::Fencing)
                {
                    handover.step = HandoverStep::Fenced;
                }
            }
            HandoverStep::Fencing => {}
        }
        self.mark(id);
    }

    /// The answer to the fence. That it holds is read from INFO, which follows it.
    pub(super) fn fence_ended(&mut self, id: GroupId, ending: Ending) {
        if ending == Ending::Refused && self.handover_mut(id, HandoverStep::Fencing).is_some() {
            self.release_primary(id);
            self.abort_behind(id);
        }
    }

    /// Goes on with a planned change.
    ///
    /// # Returns
    /// `None` when the replica may be promoted, else when to look again.
    pub(super) fn advance_handover(&mut self, id: GroupId) -> Option<Option<Instant>> {
        let now = self.now;
        let (group, failover) = self.with_failover(id)?;
        let handover = failover.handover.clone()?;
        let chosen = failover.chosen.clone()?;
        let primary_link = group.primary.link;
        let chosen_link = group.replicas.get(&chosen).map(|replica| replica.link);
        let until = match handover.step {
            HandoverStep::Fenced => return None,
            HandoverStep::Pausing | HandoverStep::Draining => handover.give_up,
            HandoverStep::Fencing => handover.deadline,
        };
        if now >= until {
            self.give_back(id);
            self.abort_behind(id);
            return Some(None);
        }
        let poll_at = failover.act_at.filter(|at| *at > now);
        let poll_at = match (handover.step, poll_at) {
            (HandoverStep::Pausing, _) => return Some(Some(until)),
            (_, Some(at)) => at,
            (HandoverStep::Draining | HandoverStep::Fencing, None) => {
                if let Some(link) = chosen_link {
                    self.ask_info_now(link);
                }
                if handover.target.is_none() || handover.step == HandoverStep::Fencing {
                    self.ask_info_now(primary_link);
                }
                let at = now + POLL;
                if let Some(failover) = self.failover_mut(id) {
                    failover.act_at = Some(at);
                }
                at
            }
            (HandoverStep::Fenced, None) => return None,
        };
        Some(Some(poll_at.min(until)))
    }

    /// The replica will not be promoted: the old primary goes on, if it is certain that the other one does not.
    pub(super) fn give_back(&mut self, id: GroupId) {
        let Some((group, failover)) = self.with_failover(id) else {
            return;
        };
        let Some(handover) = &failover.handover else {
            return;
        };
        match handover.step {
            HandoverStep::Pausing | HandoverStep::Draining => self.release_primary(id),
            HandoverStep::Fencing | HandoverStep::Fenced => {
                let certain = failover.stage != Stage::Confirming
                    || failover.chosen.as_ref().is_some_and(|chosen| {
                        group.replicas.get(chosen).is_some_and(|replica| {
                            let asked = failover.stage_since;
                            replica.refused.is_some_and(|at| at >= asked)
                                || replica.observed.role == ReportedRole::Replica
                                    && replica.observed.info_at.is_some_and(|read| read > asked)
                        })
                    });
                let at = group.primary.at.clone();
                if certain {
                    self.change_role(id, &at, Purpose::Restore);
                } else {
                    self.log(
                        Level::Warning,
                        format!("Whether the replica was promoted is not known: {at} stays fenced"),
                    );
                }
                self.release_primary(id);
            }
        }
    }

    /// Confirmed: the old primary, a replica now, lets its clients go on.
    pub(super) fn handover_done(&mut self, id: GroupId, old: &Endpoint) {
        if let Some(link) = self.server_link(id, old) {
            self.unpause(link);
        }
    }

    fn release_primary(&mut self, id: GroupId) {
        if let Some(link) = self.groups.get(&id).map(|group| group.primary.link) {
            self.unpause(link);
        }
    }

    fn hold_hello(&mut self, id: GroupId, hold: bool) {
        let link = self.groups.get(&id).map(|group| group.primary.link);
        if let Some(link) = link.and_then(|link| self.links.get_mut(&link)) {
            link.hold_hello = hold;
        }
    }

    fn set_target(&mut self, id: GroupId, target: Option<u64>) {
        if let Some(handover) = self
            .failover_mut(id)
            .and_then(|failover| failover.handover.as_mut())
        {
            handover.target = target;
        }
    }

    pub(super) fn failover_mut(
        &mut self,
        id: GroupId,
    ) -> Option<&mut crate::sentinel::model::Failover> {
        self.groups.get_mut(&id)?.failover.as_mut()
    }

    fn handover_mut(&mut self, id: GroupId, step: HandoverStep) -> Option<&mut Handover> {
        self.failover_mut(id)?
            .handover
            .as_mut()
            .filter(|handover| handover.step == step)
    }
}

/// The replica has applied all of the primary's history up to this end.
fn equal(target: Option<u64>, primary: Option<&Lineage>, replica: Option<&Lineage>) -> bool {
    match (target, primary, replica) {
        (Some(target), Some(primary), Some(replica)) => {
            primary.replid == replica.replid && replica.offset >= target
        }
        (None, _, _) | (_, None, _) | (_, _, None) => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_needs_one_history_and_its_end() {
        let at = |replid: &str, offset| Lineage {
            replid: replid.to_owned(),
            replid2: String::new(),
            second_offset: None,
            offset,
        };
        assert!(equal(Some(7), Some(&at("a", 7)), Some(&at("a", 7))));
        assert!(!equal(Some(7), Some(&at("a", 7)), Some(&at("a", 6))));
        assert!(!equal(Some(7), Some(&at("a", 7)), Some(&at("b", 7))));
        assert!(!equal(None, Some(&at("a", 7)), Some(&at("a", 7))));
        assert!(!equal(Some(7), None, Some(&at("a", 7))));
    }
}
