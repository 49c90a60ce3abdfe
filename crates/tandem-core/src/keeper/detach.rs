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

/// Bound on the command, which takes microseconds. It is short because an orphan looks for its primary once a second: one
/// that went astray must be repeated before that.
const DETACH_WITHIN: Duration = Duration::from_millis(250);
/// A reading older than this does not count: INFO is read every 100 ms.
const FRESH: Duration = Duration::from_millis(150);
/// A daemon that leaves waits this long for a reading of its replica, and for the command where that is due.
const LOOK_BEFORE_LEAVING: Duration = Duration::from_millis(500);

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
            // The old server may restart while the other one is being fenced, or while a slow disk holds the promotion up. A
            // stream that is being drained is still wanted.
            Phase::TakingOver(state) => matches!(
                state.stage,
                TakeOverStage::RemoteFencing(_) | TakeOverStage::Preparing { drain: None, .. }
            ),
            Phase::Primary { .. }
            | Phase::HandingOver(_)
            | Phase::Released { .. }
            | Phase::Split(_) => false,
        };
        if self.leaving.is_some() || !self.server_usable(now) {
            return;
        }
        let Some(view) = self.fresh_view(now) else {
            return;
        };
        let orphaned = ours_to_do && is_orphan(view) && !self.is_served(now);
        if orphaned || self.came_back_as_source(view) {
            self.detaching = Some(self.start_background(Step::Fence, DETACH_WITHIN, now));
        }
    }

    /// The reading, unless it is old. An old one says nothing: the stream may have come up since, and what it has brought into
    /// the server's socket would be thrown away.
    fn fresh_view(&self, now: Instant) -> Option<&ServerView> {
        let (view, at) = self.view.as_ref()?;
        (now.saturating_duration_since(*at) < FRESH).then_some(view)
    }

    /// Whether this daemon may leave its replica as it is: nobody detaches it from then on. Bounded by `since`.
    pub(super) fn may_leave_replica(&self, since: Instant, now: Instant) -> bool {
        let cannot = !self.server_usable(now) && self.view.is_some();
        let seen =
            self.detaching.is_none() && self.fresh_view(now).is_some_and(|view| !is_orphan(view));
        let enough = now.saturating_duration_since(since) >= LOOK_BEFORE_LEAVING;
        self.is_served(now) || cannot || seen || enough
    }

    /// The peer is heard to be primary, and its server to be well.
    pub(super) fn is_served(&self, now: Instant) -> bool {
        self.live_peer(now)
            .is_some_and(|peer| peer.phase.holds_primary() && peer.healthy)
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

/// It follows somebody who does not answer.
fn is_orphan(view: &ServerView) -> bool {
    let alone = matches!(
        view.role,
        ServerRole::Replica {
            link_up: false,
            syncing: false,
            ..
        }
    );
    alone && !view.is_fenced()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::health::AnswerKind;
    use crate::ids::Epoch;
    use crate::keeper::io::{Input, Output, ServerEvent, StepId};
    use crate::keeper::phase::{Cause, TakeOver};
    use crate::keeper::testing::{keeper, settings};

    fn steps(out: &[Output], of: impl Fn(&Step) -> bool) -> Vec<StepId> {
        out.iter()
            .filter_map(|out| match out {
                Output::Do { id, step, .. } if of(step) => Some(*id),
                _ => None,
            })
            .collect()
    }

    /// The old primary's server came back, and wiped the replica that waited for a slow disk with its promotion. Seed 143606
    /// of the simulator.
    #[test]
    fn a_takeover_that_waits_for_the_journal_does_not_leave_its_server_attached() {
        let start = crate::testing::origin();
        let mut keeper = keeper(start);
        let journal = keeper.start(Step::Promote, Duration::from_secs(2), start);
        let drain = keeper.start(Step::Unpause, Duration::from_secs(2), start);
        keeper.out.clear();
        let taking = |drain| {
            Phase::TakingOver(TakeOver {
                cause: Cause::Operator,
                epoch: Epoch::zero().after(&Epoch::zero(), &settings().host),
                since: start,
                stage: TakeOverStage::Preparing {
                    journal: Some(journal),
                    drain,
                },
                fork: None,
                exact: None,
            })
        };
        let orphan = ServerView {
            role: ServerRole::Replica {
                of: "10.0.0.1:6379".into(),
                link_up: false,
                syncing: false,
            },
            ..crate::testing::replica_view("run", "lineage", 100)
        };
        let read = |keeper: &mut Keeper| {
            keeper.handle(Input::Server(ServerEvent::Answer(AnswerKind::Fine)), start);
            let view = Box::new(orphan.clone());
            keeper.handle(Input::Server(ServerEvent::View(view)), start)
        };
        keeper.phase = taking(Some(drain));
        let out = read(&mut keeper);
        assert!(
            steps(&out, |step| *step == Step::Fence).is_empty(),
            "{out:?}"
        );
        keeper.phase = taking(None);
        let out = keeper.handle(Input::Tick, start);
        let fence = steps(&out, |step| *step == Step::Fence);
        assert_eq!(fence.len(), 1, "{out:?}");

        // The promotion goes behind it, or it would undo the promotion.
        let done = |id, outcome| Input::Done {
            id,
            result: Ok(outcome),
        };
        let out = keeper.handle(done(journal, Outcome::Done), start);
        assert!(
            steps(&out, |step| *step == Step::Promote).is_empty(),
            "{out:?}"
        );
        let fenced = ServerView {
            role: ServerRole::Replica {
                of: crate::server::FENCE_ADDRESS.to_owned(),
                link_up: false,
                syncing: false,
            },
            ..orphan.clone()
        };
        let mut out = keeper.handle(done(fence[0], Outcome::View(Box::new(fenced))), start);
        out.extend(keeper.handle(Input::Tick, start));
        assert_eq!(
            steps(&out, |step| *step == Step::Promote).len(),
            1,
            "{out:?}"
        );
    }

    /// It was told to leave while it was frozen and its primary died: it left an orphan, which found the old primary with an
    /// older snapshot before the next daemon could see it. Seed 36997 of the simulator.
    #[test]
    fn a_daemon_that_leaves_leaves_no_orphan() {
        let start = crate::testing::origin();
        let leaves = |link_up, then: Duration| {
            let mut keeper = keeper(start);
            keeper.phase = Phase::Replica { since: start };
            keeper.handle(Input::Server(ServerEvent::Answer(AnswerKind::Fine)), start);
            let mut out = keeper.handle(Input::Stop, start);
            assert!(keeper.leaving.is_none(), "the server was not read yet");
            let view = ServerView {
                role: ServerRole::Replica {
                    of: "10.0.0.1:6379".into(),
                    link_up,
                    syncing: false,
                },
                ..crate::testing::replica_view("run", "lineage", 100)
            };
            let view = Box::new(view);
            out.extend(keeper.handle(Input::Server(ServerEvent::View(view)), start));
            out.extend(keeper.handle(Input::Tick, start + then));
            let detaches = !steps(&out, |step| *step == Step::Fence).is_empty();
            (keeper.leaving.is_some(), detaches)
        };
        let soon = Duration::from_millis(20);
        assert_eq!(leaves(true, soon), (true, false));
        assert_eq!(leaves(false, soon), (false, true));
        assert_eq!(leaves(false, LOOK_BEFORE_LEAVING), (true, true));
    }
}
