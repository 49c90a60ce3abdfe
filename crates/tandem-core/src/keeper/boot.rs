//! Nothing is decided: a host that just started, or a group whose primary vanished with its memory.
//!
//! The order of grounds: a role that never stopped is resumed (rule 15); a peer that is primary is
//! joined; two undecided hosts compare positions (rules 16 and 17); a lone host waits `boot_wait`
//! and then goes on only if its journal says that it may.

use std::time::{Duration, Instant};

use crate::health::Health;
use crate::ids::{Epoch, Offset};
use crate::journal::JournalRole;
use crate::keeper::io::{ProbeResult, Severity};
use crate::keeper::phase::{Cause, Phase, Rejoin, RejoinStage};
use crate::keeper::{Keeper, VrrpCommand};
use crate::rules::boot::{Basis, Choice, Position, alone, newest};
use crate::server::ServerView;
use crate::statement::PhaseName;

/// How long a restarted daemon listens for a newer epoch before it resumes the role that its server
/// never stopped having. Shorter than any Master_Down in use, so that resuming makes no gap.
const RESUME_LISTEN: Duration = Duration::from_millis(60);

impl Keeper {
    pub(super) fn advance_undecided(&mut self, now: Instant) -> bool {
        match self.health(now) {
            Health::Unknown | Health::Dead(_) | Health::Silent(_) => {
                self.want_server(now);
                if let Some(peer) = self.live_peer(now).cloned() {
                    self.decline_without_server(&peer, now);
                }
                return self.wait("boot.server", "the local server does not answer", now);
            }
            Health::Unmanageable => {
                return self.wait(
                    "boot.credentials",
                    "the local server refuses the configured user or password",
                    now,
                );
            }
            Health::Loading => {
                return self.wait("boot.loading", "the local server is loading its data", now);
            }
            Health::Fine | Health::Busy | Health::Sick => {}
        }
        let Some(view) = self.server().cloned() else {
            return false;
        };
        if view.loading {
            return self.wait("boot.loading", "the local server is loading its data", now);
        }
        if self.accept_loss {
            self.accept_loss = false;
            return self.begin_takeover(Cause::Operator, None, now);
        }
        if let Some(resumed) = self.try_resume(&view, now) {
            return resumed;
        }
        if self.live_peer(now).is_some() {
            return self.undecided_with_peer(&view, now);
        }
        self.undecided_alone(&view, now)
    }

    /// Rule 15: the daemon was restarted, the server never stopped being primary.
    fn try_resume(&mut self, view: &ServerView, now: Instant) -> Option<bool> {
        let resumable = self.journal.role == JournalRole::Primary
            && self.journal.released.is_none()
            && self.journal.barred.is_none()
            && self.journal.run_id.as_ref() == Some(&view.run_id)
            && view.is_writable();
        if !resumable {
            return None;
        }
        match self.live_peer(now) {
            Some(peer) => {
                let newer = peer.epoch > self.journal.epoch
                    || (peer.phase == PhaseName::TakingOver && peer.epoch >= self.journal.epoch);
                if newer {
                    return None;
                }
            }
            None => {
                if self.settings.peer.is_some()
                    && now.saturating_duration_since(self.started) < RESUME_LISTEN
                {
                    return Some(false);
                }
            }
        }
        self.tell(
            "resumed",
            Severity::Info,
            None,
            format!(
                "resumes as primary at epoch {}: the server never stopped",
                self.journal.epoch
            ),
        );
        self.set_phase(Phase::Primary { since: now }, now);
        self.vrrp_clear_fault();
        self.out
            .push(super::Output::Vrrp(VrrpCommand::ResumeMaster));
        Some(true)
    }

    fn undecided_with_peer(&mut self, view: &ServerView, now: Instant) -> bool {
        let Some(peer) = self.live_peer(now).cloned() else {
            return false;
        };
        match peer.phase {
            PhaseName::Primary | PhaseName::HandingOver | PhaseName::Split => self.join(view, now),
            PhaseName::TakingOver => self.wait(
                "boot.peer-takes-over",
                &format!("{} is becoming primary", peer.host),
                now,
            ),
            PhaseName::Booting
            | PhaseName::Waiting
            | PhaseName::Replica
            | PhaseName::Released
            | PhaseName::Rejoining => self.compare_positions(view, now),
        }
    }

    /// The peer is primary: become its replica, unless that would destroy unrelated data.
    fn join(&mut self, view: &ServerView, now: Instant) -> bool {
        let _ = view;
        let rejoin = Rejoin {
            since: now,
            stage: RejoinStage::Assess,
            approved: false,
            receipt: None,
            beaten_by: None,
        };
        self.set_phase(Phase::Rejoining(rejoin), now);
        true
    }

    fn compare_positions(&mut self, view: &ServerView, now: Instant) -> bool {
        let Some(own) = self.position() else {
            return false;
        };
        let Some(peer) = self.live_peer(now).cloned() else {
            return false;
        };
        // The peer gave up its role to us and we can take it: that needs no comparison.
        if let Some(released) = &peer.released
            && released.epoch >= self.journal.data_epoch
            && self.journal.declined.as_ref() != Some(&released.epoch)
            && self.is_eligible()
            && !view.is_writable()
        {
            self.set_phase(Phase::Replica { since: now }, now);
            return true;
        }
        if !peer.healthy {
            let why = format!(
                "{}'s server does not answer; its data may be newer",
                peer.host
            );
            return self.wait("boot.peer-server", &why, now);
        }
        if peer.seen_incarnation != self.settings.incarnation || peer.seen < self.position_since {
            // It has not heard where this host stands, and may place its own data by that.
            let why = format!("{} has not heard this host yet", peer.host);
            return self.wait("boot.peer-position", &why, now);
        }
        let Some(theirs) = peer.position else {
            let why = format!("{} has not said where its data stands", peer.host);
            return self.wait("boot.peer-position", &why, now);
        };
        match newest(&own, &theirs) {
            Choice::Ask(why) => self.wait("boot.unrelated", &why, now),
            Choice::Goes(host, why) if host == self.settings.host => {
                if let Some(mine) = self.journal.released.clone() {
                    // We promised to stay back; the peer has to agree first.
                    if peer.declined.as_ref() != Some(&mine.epoch) {
                        self.recall();
                        return self.wait("boot.promise", "waits for the peer to decline", now);
                    }
                }
                // It is chosen only if it has all that the other side has left.
                self.forget_bar();
                let cause = if own.serving {
                    Cause::Adopted
                } else {
                    Cause::Boot
                };
                self.tell(
                    "boot",
                    Severity::Info,
                    None,
                    format!("goes on as primary: {why}"),
                );
                self.begin_takeover(cause, None, now)
            }
            Choice::Goes(host, why) => {
                if let Some(theirs) = peer.released
                    && self.journal.declined.as_ref() != Some(&theirs.epoch)
                {
                    self.decline(theirs.epoch, now);
                }
                self.wait(
                    "boot.peer-newest",
                    &format!("{host} goes on as primary: {why}"),
                    now,
                )
            }
        }
    }

    fn undecided_alone(&mut self, view: &ServerView, now: Instant) -> bool {
        let Some(own) = self.position() else {
            return false;
        };
        let waited = now.saturating_duration_since(self.undecided_since);
        if self.settings.peer.is_some() {
            self.probe_if_silent(now);
            if waited < self.settings.boot_wait {
                let left = (self.settings.boot_wait - waited).as_secs() + 1;
                let why = format!("waits for the other host for another {left} s (boot_wait)");
                self.phase_waiting("boot.wait", why, now);
                return false;
            }
            if self.peer_silence(now) < self.settings.master_down {
                return self.wait("boot.adverts", "adverts of the other host arrive", now);
            }
            match self.probed(now).map(|(found, _)| found.clone()) {
                Some(ProbeResult::Silent | ProbeResult::Refused) => {}
                Some(ProbeResult::Answers { .. } | ProbeResult::AuthRefused) => {
                    return self.wait(
                        "boot.peer-server-answers",
                        "the other host's server answers but its daemon does not; start the daemon",
                        now,
                    );
                }
                None if self.peer.server_address.is_none() => {}
                None => return false,
            }
        }
        let was_primary = matches!(
            self.journal.role,
            JournalRole::Primary | JournalRole::Handing | JournalRole::Released
        );
        let peer_offset = self
            .journal
            .mark
            .as_ref()
            .filter(|m| m.lineage == own.lineage)
            .and_then(|m| m.peer_offset);
        // What came back is older than what the journal knows, and the peer had some of that.
        let had_more = own.epoch < self.journal.data_epoch
            && self
                .journal
                .mark
                .as_ref()
                .is_some_and(|m| m.peer_offset.is_some());
        // It held data when it was last read, whoever was primary: what is left of that is elsewhere.
        let lost_all = own.keys == 0 && self.journal.mark.as_ref().is_some_and(|m| m.keys > 0);
        // Without a journal only a server that ran before the daemon came is evidence enough.
        let running = own.serving && view.uptime_s >= self.settings.boot_wait.as_secs();
        let verdict = if let Some(ruling) = self.bar_ruling() {
            Err(ruling.evidence)
        } else if self.journal.data_epoch == Epoch::zero() && !running && own.keys > 0 {
            Err(
                "has no journal and the other host is unknown; start it, or type \
                 tandem failover --accept-loss"
                    .to_owned(),
            )
        } else if self.journal.data_epoch == Epoch::zero() && own.keys == 0 {
            Err("is empty and the other host is unknown; start it, or type \
                 tandem failover --accept-loss"
                .to_owned())
        } else if lost_all && !own.serving {
            Err(
                "came back empty where it had held data; what is left of it may be on the other host. Start it, or \
                 type tandem failover --accept-loss"
                    .to_owned(),
            )
        } else if had_more {
            Err(
                "came back with older data than the other host was known to have; start it, or \
                 type tandem failover --accept-loss"
                    .to_owned(),
            )
        } else {
            alone(&own, was_primary, peer_offset)
        };
        match verdict {
            Ok(why) => {
                self.tell(
                    "boot",
                    Severity::Warning,
                    None,
                    format!("goes on alone: {why}"),
                );
                self.begin_takeover(Cause::BootAlone, None, now)
            }
            Err(why) => self.wait("boot.alone", &why, now),
        }
    }

    /// Where the local data stands (rule 16), at the epoch whose lineage it is: a server goes on
    /// replicating while its daemon is away, so its data may be newer than the journal.
    pub(super) fn position(&self) -> Option<Position> {
        let mut position = self.own_position()?;
        if let Some(fork) = self.peer.statement.as_ref().and_then(|p| p.fork.as_ref())
            && fork.lineage == position.lineage
            && fork.epoch > position.epoch
        {
            position.epoch = fork.epoch.clone();
            position.was_primary = false;
        }
        Some(position)
    }

    fn own_position(&self) -> Option<Position> {
        let view = self.server()?;
        if view.loading {
            return None;
        }
        let journal = &self.journal;
        let mut position = Position {
            host: self.settings.host.clone(),
            // A record of a promotion that was under way: the server had drained by then, and may
            // have been primary and written to before the next record was durable.
            epoch: if journal.role == JournalRole::Promoting {
                journal.epoch.clone()
            } else {
                journal.data_epoch.clone()
            },
            was_primary: matches!(
                journal.role,
                JournalRole::Primary | JournalRole::Handing | JournalRole::Released
            ),
            serving: view.is_writable(),
            lineage: view.replid.clone(),
            parent: view
                .fork_offset()
                .map(|offset| (view.replid2.clone(), offset)),
            offset: view.offset,
            basis: Basis::Running,
            keys: view.keys,
            barred: journal.barred.clone(),
            follows_peer: self
                .peer
                .server_address
                .as_ref()
                .is_some_and(|address| view.follows(address)),
        };
        let Some(mark) = &journal.mark else {
            position.basis = Basis::KeysOnly;
            return Some(position);
        };
        if mark.run_id == view.run_id {
            return Some(position);
        }
        if view.is_replica() && journal.primary_lineage.as_ref() == Some(&view.replid) {
            // Restarted since the mark, and resynced since its restart: its own word counts.
            return Some(position);
        }
        // The process is another one than the mark's: what did it load?
        position.serving = false;
        if view.replid == mark.lineage {
            position.basis = Basis::LoadedRdb;
        } else if view.replid2 == mark.lineage {
            // A restarted primary continues its RDB's history under a new name (fact 12).
            position.basis = Basis::LoadedRdb;
            position.lineage = mark.lineage.clone();
            position.offset = view.fork_offset().unwrap_or(view.offset);
        } else if !view.aof {
            // An RDB of another lineage than the last one: an older snapshot, such as the file that
            // a full resync leaves behind. What the journal says of the newer data is not here.
            position.basis = Basis::LoadedRdb;
            position.epoch = Epoch::zero();
            position.was_primary = false;
            if let Some(offset) = view.fork_offset() {
                position.lineage = view.replid2.clone();
                position.offset = offset;
            }
        } else {
            // AOF: the name is new and the offset is 0. The journal knows better; what fsync may
            // have missed counts off only when the page cache was lost with the host.
            position.basis = Basis::JournalMark;
            position.lineage = mark.lineage.clone();
            position.offset = if mark.boot_id == self.settings.boot_id {
                mark.offset
            } else {
                mark.previous_offset
            };
            if view.keys == 0 {
                position.offset = Offset(0);
            }
            // What surely came back ends before the last promotion: it is the older history, not the newer one.
            let fork = journal.forks.last();
            if let Some(fork) = fork.filter(|fork| fork.lineage == mark.lineage)
                && position.offset < fork.offset
            {
                position.lineage = fork.parent.clone();
                position.parent = None;
                position.was_primary = false;
            }
        }
        Some(position)
    }

    /// Stays undecided and says why. Returns false: nothing more to do now.
    pub(super) fn wait(&mut self, rule: &'static str, why: &str, now: Instant) -> bool {
        self.phase_waiting(rule, why.to_owned(), now);
        false
    }

    fn phase_waiting(&mut self, rule: &'static str, why: String, now: Instant) {
        self.vrrp_set_fault(&why);
        if is_ordinary(rule) && self.waits_too_long(rule, now) {
            let bound = self.settings.boot_wait.as_secs();
            self.tell(
                "waiting",
                Severity::Alarm,
                Some(super::Hook::Fault),
                format!("{rule} for longer than {bound} s (boot_wait): {why}"),
            );
        }
        match &mut self.phase {
            Phase::Waiting {
                rule: r, why: w, ..
            } if *r == rule => *w = why,
            Phase::Booting { .. }
            | Phase::Waiting { .. }
            | Phase::Primary { .. }
            | Phase::Replica { .. }
            | Phase::TakingOver(_)
            | Phase::HandingOver(_)
            | Phase::Released { .. }
            | Phase::Split(_)
            | Phase::Rejoining(_) => {
                let (severity, hook) = if is_ordinary(rule) {
                    (Severity::Info, None)
                } else {
                    (Severity::Alarm, Some(super::Hook::Fault))
                };
                self.tell("waiting", severity, hook, format!("{rule}: {why}"));
                self.set_phase(
                    Phase::Waiting {
                        rule,
                        why,
                        since: now,
                    },
                    now,
                );
            }
        }
    }

    /// A wait that needs a person: at once where somebody has to act, and otherwise once an ordinary
    /// start would be over.
    pub(super) fn waits_too_long(&self, rule: &str, now: Instant) -> bool {
        let undecided = now.saturating_duration_since(self.undecided_since);
        !is_ordinary(rule) || undecided > self.settings.boot_wait
    }

    /// Back to nothing decided.
    pub(super) fn become_undecided(&mut self, now: Instant) {
        self.undecided_since = now;
        self.set_phase(Phase::Booting { since: now }, now);
    }
}

/// Waits that belong to every start: the servers and the other host come up in their own time.
fn is_ordinary(rule: &str) -> bool {
    matches!(
        rule,
        "boot.server"
            | "boot.loading"
            | "boot.wait"
            | "boot.peer-takes-over"
            | "boot.peer-position"
            | "boot.peer-server"
            | "boot.peer-newest"
            | "boot.promise"
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::ReplId;
    use crate::keeper::io::{Step, StepId};
    use crate::keeper::phase::{TakeOver, TakeOverStage};
    use crate::keeper::testing::{keeper, settings};
    use crate::keeper::{Hook, Input, Output, ServerEvent};

    /// Severity and hook of the `waiting` events of one tick.
    fn told(keeper: &mut Keeper, now: Instant) -> Vec<(Severity, Option<Hook>)> {
        let out = keeper.handle(Input::Tick, now);
        out.into_iter()
            .filter_map(|out| match out {
                Output::Event(event) if event.name == "waiting" => {
                    Some((event.severity, event.hook))
                }
                _ => None,
            })
            .collect()
    }

    #[test]
    fn what_belongs_to_a_start_is_an_alarm_only_when_it_lasts() {
        let start = crate::testing::origin();
        let mut keeper = keeper(start);
        let bound = settings().boot_wait;
        assert_eq!(told(&mut keeper, start), [(Severity::Info, None)]);
        assert!(keeper.status(start + bound).alarms.is_empty());
        assert_eq!(told(&mut keeper, start + bound), []);

        let late = start + bound + Duration::from_millis(1);
        let alarm = (Severity::Alarm, Some(Hook::Fault));
        assert_eq!(told(&mut keeper, late), [alarm]);
        assert!(keeper.status(late).alarms[0].starts_with("boot.server: "));
        assert_eq!(told(&mut keeper, late + bound), [], "told once");
    }

    #[test]
    fn what_needs_a_person_is_an_alarm_at_once() {
        let start = crate::testing::origin();
        let mut keeper = keeper(start);
        let refused = crate::health::AnswerKind::Auth;
        let event = ServerEvent::Answer(refused);
        let out = keeper.handle(Input::Server(event), start);
        let alarm = out.iter().any(|out| {
            matches!(out, Output::Event(event)
                if event.name == "waiting" && event.severity == Severity::Alarm)
        });
        assert!(alarm, "{out:?}");
        assert!(!keeper.status(start).alarms.is_empty());
    }

    /// Power lost within the first second as primary, before the first mark of that role. Seen in the lab: the host came
    /// back with an RDB whose lineage no record named, and the older host won.
    #[test]
    fn a_primary_of_a_moment_knows_its_own_data_after_a_power_loss() {
        let start = crate::testing::origin();
        let mut before = keeper(start);
        let replica = crate::testing::replica_view("run1", "lineage-of-a", 100);
        before.handle(
            Input::Server(ServerEvent::View(Box::new(replica.clone()))),
            start,
        );
        before.set_phase(Phase::Replica { since: start }, start);
        assert!(before.take_mark(start), "a mark as replica");
        let promoted = ServerView {
            replid2: replica.replid,
            second_offset: Offset(101),
            ..crate::testing::primary_view("run1", "lineage-of-b", 120)
        };
        let epoch = Epoch::zero().after(&Epoch::zero(), &settings().host);
        let state = TakeOver {
            cause: Cause::Statement,
            epoch: epoch.clone(),
            since: start,
            stage: TakeOverStage::Promoting(StepId(1)),
            fork: None,
            exact: None,
        };
        assert!(before.finish_takeover(state, promoted, start));
        let record = before
            .out
            .drain(..)
            .filter_map(|out| match out {
                Output::Do {
                    step: Step::Journal(record),
                    ..
                } => Some(*record),
                _ => None,
            })
            .next_back()
            .expect("the promotion is recorded");

        // A restarted primary gives its RDB's lineage as the second one, and has a new one.
        let restarted = ServerView {
            replid2: ReplId("lineage-of-b".to_owned()),
            second_offset: Offset(131),
            ..crate::testing::primary_view("run2", "lineage-of-nobody", 131)
        };
        let mut after = Keeper::new(settings(), record, start);
        after.handle(Input::Server(ServerEvent::View(Box::new(restarted))), start);
        let position = after.position().expect("the server answered");
        assert_eq!(position.epoch, epoch);
        assert!(position.was_primary);
        assert_eq!(position.lineage, ReplId("lineage-of-b".to_owned()));
        assert_eq!(position.offset, Offset(130));
    }
}
