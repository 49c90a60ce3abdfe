//! A server that came back by itself as a primary is nobody's source before it is decided whose data goes on.
//!
//! An adopted server is started by others, and may be started as a primary (rule 18). What it has loaded may be less than what the
//! replica holds that had followed it: nothing at all, or an older snapshot. That replica asks at the old address once a second,
//! whatever becomes of its daemon, and is wiped as soon as it is answered. Its own daemon detaches it (`detach`) where it can: not
//! while that daemon is gone, or its server stands still and reads on before it obeys. So the other end is closed, too: fenced, the
//! server refuses a sync (NOMASTERLINK) as one does that was started by us. Whoever is chosen is promoted from there.

use crate::journal::JournalRole;
use crate::keeper::Keeper;
use crate::keeper::phase::Phase;
use crate::server::ServerView;

impl Keeper {
    /// Another process than the one that had the role here, a primary by nobody's decision.
    pub(super) fn came_back_as_source(&self, view: &ServerView) -> bool {
        let undecided = match &self.phase {
            Phase::Booting { .. } | Phase::Waiting { .. } => true,
            Phase::Released { .. } => self.closing_silent.is_none(),
            Phase::Primary { .. }
            | Phase::Replica { .. }
            | Phase::TakingOver(_)
            | Phase::HandingOver(_)
            | Phase::Split(_)
            | Phase::Rejoining(_) => false,
        };
        // Nobody follows one that was a replica itself, and that it was written to must stay to be seen.
        let was_followed = match self.journal.role {
            JournalRole::Promoting
            | JournalRole::Primary
            | JournalRole::Handing
            | JournalRole::Released
            | JournalRole::Loser => true,
            JournalRole::None | JournalRole::Replica => false,
        };
        let mark = self.journal.mark.as_ref();
        let another = mark.is_some_and(|mark| mark.run_id != view.run_id)
            && self.journal.run_id.as_ref() != Some(&view.run_id);
        undecided
            && was_followed
            && another
            && self.settings.peer.is_some()
            && view.is_writable()
            && !view.loading
    }
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use super::*;
    use crate::health::AnswerKind;
    use crate::ids::Epoch;
    use crate::keeper::io::{Input, Output, ServerEvent, Step};
    use crate::keeper::testing::{keeper, settings};
    use crate::testing::{primary_view, replica_view};

    /// What the keeper of a host whose server `run1` had this role does when it reads that.
    fn fences(role: JournalRole, view: ServerView, now: Instant) -> bool {
        let mut before = keeper(now);
        let first = Epoch::zero().after(&Epoch::zero(), &settings().host);
        before.journal.epoch = first.clone();
        before.journal.data_epoch = first;
        before.journal.role = role;
        let served = Box::new(primary_view("run1", "lineage", 100));
        before.handle(Input::Server(ServerEvent::View(served)), now);
        before.phase = Phase::Primary { since: now };
        assert!(before.take_mark(now));
        let mut after = Keeper::new(settings(), before.journal.clone(), now);
        after.handle(Input::Server(ServerEvent::Answer(AnswerKind::Fine)), now);
        let out = after.handle(Input::Server(ServerEvent::View(Box::new(view))), now);
        out.iter()
            .any(|out| matches!(out, Output::Do { step, .. } if *step == Step::Fence))
    }

    /// A primary came back with an older snapshot, and what had been acknowledged was on its replica alone, whose server was
    /// frozen: it thawed, and was wiped before its daemon could detach it. Seed 36997 of the simulator, and 5061 with
    /// both servers on one host, where the primary came back empty.
    #[test]
    fn a_primary_that_came_back_by_itself_is_fenced_until_it_is_decided() {
        let now = crate::testing::origin();
        let back = || primary_view("run2", "lineage-of-nobody", 50);
        let empty = || ServerView { keys: 0, ..back() };
        let loading = || ServerView {
            loading: true,
            ..back()
        };
        assert!(fences(JournalRole::Primary, back(), now));
        assert!(fences(JournalRole::Primary, empty(), now));
        assert!(fences(JournalRole::Released, back(), now));
        assert!(!fences(JournalRole::Primary, loading(), now));
        // The process that had the role goes on with it.
        let same = primary_view("run1", "lineage", 120);
        assert!(!fences(JournalRole::Primary, same, now));
        // One that was a replica has been written to by others, which an archive must not miss.
        assert!(!fences(JournalRole::Replica, back(), now));
        assert!(!fences(
            JournalRole::Primary,
            replica_view("run2", "lineage", 50),
            now
        ));
    }
}
