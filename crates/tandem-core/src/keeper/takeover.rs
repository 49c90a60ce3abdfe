//! Becoming primary: fence what can be fenced, drain, write it down, promote, confirm, then show.
//!
//! The order is the safety. The intent is durable before the server is promoted, so a crash between
//! the two leaves an epoch that is skipped and never one that is used twice; VRRP hears of it after
//! the promotion is confirmed, so no advert and no address runs ahead of the data.

use std::time::{Duration, Instant};

use crate::health::Health;
use crate::ids::Offset;
use crate::journal::JournalRole;
use crate::keeper::io::{Hook, Outcome, Output, Reply, Severity, Step, StepErrorKind, VrrpCommand};
use crate::keeper::phase::{Cause, Phase, TakeOver, TakeOverStage};
use crate::keeper::{Keeper, Probe};
use crate::server::ServerView;
use crate::statement::{Fork, ReleaseKind};

/// Bound on writing the journal. A disk this slow is not a disk to promise on.
const JOURNAL_WITHIN: Duration = Duration::from_secs(2);
/// Bound on REPLICAOF NO ONE, which takes under a millisecond on a healthy server.
const PROMOTE_WITHIN: Duration = Duration::from_secs(2);
/// Bound on fencing the peer's server from here.
const REMOTE_FENCE_WITHIN: Duration = Duration::from_secs(2);
/// After a takeover failed, nothing is tried for this long.
const RETRY_AFTER: Duration = Duration::from_secs(1);

impl Keeper {
    /// Begins; the rules have allowed it. `exact` is the offset that a switchover left.
    pub(super) fn begin_takeover(
        &mut self,
        cause: Cause,
        exact: Option<Offset>,
        now: Instant,
    ) -> bool {
        if self.journal.barred.is_some() && cause != Cause::Operator {
            // Whatever rule has led here.
            return false;
        }
        let peer_epoch = self.peer.statement.as_ref();
        let peer_epoch = peer_epoch.map(|peer| peer.newest_epoch().clone());
        let base = peer_epoch.unwrap_or_else(|| self.journal.epoch.clone());
        let mut epoch = self.journal.epoch.after(&base, &self.settings.host);
        self.learn_intent();
        if self.intent.as_ref() != Some(&epoch)
            && let Some(intended) = &self.journal.intent
        {
            // What was intended may have been used before a crash: it is skipped.
            epoch = epoch.max(intended.after(intended, &self.settings.host));
        }
        // Used up whether or not it comes to a promotion: no later record goes behind the intent.
        self.journal.epoch = epoch.clone();
        let lineage = self.server().map(|view| view.replid.clone());
        let stage = if let (Cause::RemoteFenced, Some(lineage)) = (cause, lineage) {
            let step = Step::RemoteFence { lineage };
            TakeOverStage::RemoteFencing(self.start(step, REMOTE_FENCE_WITHIN, now))
        } else {
            self.prepare(cause, &epoch, exact, now)
        };
        self.tell(
            "+try-failover",
            Severity::Warning,
            None,
            format!("becomes primary at epoch {epoch}: {}", cause.words()),
        );
        self.set_phase(
            Phase::TakingOver(TakeOver {
                cause,
                epoch,
                since: now,
                stage,
                fork: None,
                exact,
            }),
            now,
        );
        true
    }

    /// Writes the intent down and reads the rest of the old stream, both at once.
    fn prepare(
        &mut self,
        cause: Cause,
        epoch: &crate::ids::Epoch,
        exact: Option<Offset>,
        now: Instant,
    ) -> TakeOverStage {
        let mut record = self.journal.clone();
        record.epoch = epoch.clone();
        record.role = JournalRole::Promoting;
        let step = Step::Journal(Box::new(record));
        let journal = if self.intent.take().as_ref() == Some(epoch) {
            // Durable ahead of time, as a standing intent; the record follows without being waited
            // for.
            self.journal.epoch = epoch.clone();
            self.start_background(step, JOURNAL_WITHIN, now);
            None
        } else {
            Some(self.start(step, JOURNAL_WITHIN, now))
        };
        let last = self.last_primary.as_ref().map(|last| last.offset);
        let drain = match cause {
            Cause::Statement => {
                let released = self
                    .peer
                    .statement
                    .as_ref()
                    .and_then(|p| p.released.as_ref())
                    .map(|r| r.offset);
                let heard = self.peer.statement.as_ref();
                Some(Step::Drain {
                    offset: exact.or(released).max(last),
                    exact: exact.is_some(),
                    last_words: heard.map_or_else(Vec::new, |peer| peer.last_words.clone()),
                })
            }
            Cause::Unfenced | Cause::ServerGone => Some(Step::Drain {
                offset: last,
                exact: false,
                last_words: Vec::new(),
            }),
            // Fenced from here means equal already; the others have no stream to read.
            Cause::RemoteFenced
            | Cause::Boot
            | Cause::BootAlone
            | Cause::Adopted
            | Cause::Restored
            | Cause::Operator => None,
        };
        let drain = drain.map(|step| self.start(step, self.settings.drain_deadline, now));
        TakeOverStage::Preparing { journal, drain }
    }

    pub(super) fn advance_takeover(&mut self, mut state: TakeOver, now: Instant) -> bool {
        if matches!(self.health(now), Health::Dead(_)) {
            return self.abort_takeover(&state, "the local server died meanwhile", now);
        }
        match state.stage {
            TakeOverStage::RemoteFencing(id) => match self.result(id) {
                None => false,
                Some(Ok(_)) => {
                    self.tell(
                        "+fence",
                        Severity::Info,
                        None,
                        "the other host's server is fenced from here".to_owned(),
                    );
                    state.stage = self.prepare(state.cause, &state.epoch.clone(), None, now);
                    self.phase = Phase::TakingOver(state);
                    true
                }
                Some(Err(error)) => {
                    self.probe = Probe::default();
                    let why = format!("the other server could not be fenced: {}", error.text);
                    self.abort_takeover(&state, &why, now)
                }
            },
            TakeOverStage::Preparing { journal, drain } => {
                self.advance_preparing(state, journal, drain, now)
            }
            TakeOverStage::Promoting(id) => match self.result(id) {
                None => false,
                Some(Ok(Outcome::View(view))) => self.finish_takeover(state, *view, now),
                Some(Ok(_)) => self.abort_takeover(&state, "the server did not confirm", now),
                Some(Err(error)) if error.kind == StepErrorKind::Refused => {
                    let why = format!("the server refused to be promoted: {}", error.text);
                    self.abort_takeover(&state, &why, now)
                }
                // Perhaps it is primary now. It is treated as one that steps back at the new epoch.
                Some(Err(error)) => self.step_back_from(&state, &error.text, now),
            },
        }
    }

    fn advance_preparing(
        &mut self,
        mut state: TakeOver,
        mut journal: Option<crate::keeper::StepId>,
        mut drain: Option<crate::keeper::StepId>,
        now: Instant,
    ) -> bool {
        if let Some(result) = journal.and_then(|id| self.result(id)) {
            journal = None;
            if let Err(error) = result {
                let why = format!("the journal cannot be written: {}", error.text);
                return self.abort_takeover(&state, &why, now);
            }
        }
        if let Some(result) = drain.and_then(|id| self.result(id)) {
            drain = None;
            match result {
                Ok(Outcome::View(view)) => {
                    let behind = state.exact.is_some_and(|exact| view.offset < exact);
                    self.view = Some((*view, now));
                    if behind {
                        return self.abort_takeover(
                            &state,
                            "not equal to what was handed over",
                            now,
                        );
                    }
                }
                Ok(_) => {}
                // A drain that ran out of time reads no more; rule 6 gives it a deadline. In a
                // switchover the exact offset is the whole point.
                Err(error) if state.exact.is_some() => {
                    let why = format!("the rest of the stream did not arrive: {}", error.text);
                    return self.abort_takeover(&state, &why, now);
                }
                Err(_) => {}
            }
        }
        if journal.is_none() && drain.is_none() {
            if self.detaching.is_some() {
                // Behind a promotion it would undo it.
                state.stage = TakeOverStage::Preparing { journal, drain };
                self.phase = Phase::TakingOver(state);
                return false;
            }
            // What was eligible a moment ago may have been replaced since.
            let unchanged = match state.cause {
                Cause::Statement | Cause::Unfenced | Cause::ServerGone | Cause::RemoteFenced => {
                    self.is_eligible() || self.is_second_choice()
                }
                Cause::Boot
                | Cause::BootAlone
                | Cause::Adopted
                | Cause::Restored
                | Cause::Operator => self.server_usable(now),
            };
            let replaced = self
                .live_peer(now)
                .is_some_and(|peer| peer.phase.holds_primary());
            if replaced && state.cause != Cause::Operator {
                let why = "the other side was heard to be primary meanwhile";
                return self.abort_takeover(&state, why, now);
            }
            if !unchanged {
                return self.abort_takeover(&state, "the local data is no longer eligible", now);
            }
            let id = self.start(Step::Promote, PROMOTE_WITHIN, now);
            state.stage = TakeOverStage::Promoting(id);
        } else {
            let stage = TakeOverStage::Preparing { journal, drain };
            if stage == state.stage {
                return false;
            }
            state.stage = stage;
        }
        self.phase = Phase::TakingOver(state);
        false
    }

    pub(super) fn finish_takeover(
        &mut self,
        state: TakeOver,
        view: ServerView,
        now: Instant,
    ) -> bool {
        let parent = view.replid2.clone();
        if let (false, Some(offset)) = (parent.is_none(), view.fork_offset()) {
            let (ended, whole) = self.parent_ended(state.cause, offset);
            self.journal.add_fork(Fork {
                epoch: state.epoch.clone(),
                parent,
                offset,
                lineage: view.replid.clone(),
                ended,
                whole,
            });
        }
        self.journal.epoch = self.journal.epoch.clone().max(state.epoch.clone());
        self.journal.data_epoch = state.epoch.clone();
        self.journal.primary_lineage = Some(view.replid.clone());
        self.journal.released = None;
        self.journal.declined = None;
        self.journal.intent = None;
        self.forget_bar();
        self.view = Some((view, now));
        self.journal_role(JournalRole::Primary);
        self.evidence = None;
        if state.cause.is_automatic_failover() {
            self.last_failover = Some(now);
        }
        self.set_phase(Phase::Primary { since: now }, now);
        self.take_mark(now);
        self.claim_vrrp(now);
        self.publish(now);
        self.save(now);
        let ms = now.saturating_duration_since(state.since).as_millis();
        self.tell(
            "+switch-master",
            Severity::Warning,
            Some(Hook::Promoted),
            format!(
                "primary at epoch {} after {ms} ms: {}",
                state.epoch,
                state.cause.words()
            ),
        );
        if let Some((id, _)) = self.wants_switchover.take() {
            let text = format!("{} is primary at epoch {}", self.settings.host, state.epoch);
            self.reply(id, Reply::Done(text));
        }
        true
    }

    /// Whether a takeover that forks here leaves nothing behind in the older history that could come to light again as
    /// commands. A dead server's memory is gone: what it saved itself is at most archived as a snapshot. And whether it leaves
    /// nothing behind at all: a dead server may have answered writes that nobody else has.
    fn parent_ended(&self, cause: Cause, offset: Offset) -> (bool, bool) {
        let released = self
            .peer
            .statement
            .as_ref()
            .and_then(|peer| peer.released.as_ref());
        match (cause, released) {
            (Cause::Statement, Some(released)) => match released.kind {
                ReleaseKind::Dead => (true, false),
                ReleaseKind::Fenced => {
                    let has_all = released.offset <= offset;
                    (has_all, has_all)
                }
                // It does not obey: what it had read it may still execute.
                ReleaseKind::FrontClosed => (false, false),
            },
            // Paused, equal, then fenced.
            (Cause::RemoteFenced, _) => (true, true),
            (Cause::Statement, None)
            | (
                Cause::Unfenced
                | Cause::ServerGone
                | Cause::Boot
                | Cause::BootAlone
                | Cause::Adopted
                | Cause::Restored
                | Cause::Operator,
                _,
            ) => (false, false),
        }
    }

    /// Wishes VRRP mastership now: the data is ready.
    pub(super) fn claim_vrrp(&mut self, now: Instant) {
        self.vrrp_fault = None;
        if self.vrrp_faulted {
            self.vrrp_faulted = false;
            self.out.push(Output::Vrrp(VrrpCommand::ClearFault));
        }
        if self.vrrp_want {
            self.vrrp_want = false;
            self.out.push(Output::Vrrp(VrrpCommand::Grant));
        } else if !self.front.vrrp_master {
            self.out.push(Output::Vrrp(VrrpCommand::Claim));
        }
        self.claimed_at = Some(now);
    }

    /// Nothing was promoted: back to what it was, and the peer is told that it may have its role
    /// back.
    fn abort_takeover(&mut self, state: &TakeOver, why: &str, now: Instant) -> bool {
        self.tell(
            "-failover-abort",
            Severity::Alarm,
            Some(Hook::Fault),
            format!("did not become primary at epoch {}: {why}", state.epoch),
        );
        self.no_takeover_until = Some(now + RETRY_AFTER);
        if let Some((id, _)) = self.wants_switchover.take() {
            self.reply(id, Reply::Failed(why.to_owned()));
        }
        if state.cause == Cause::Statement
            && let Some(released) = self
                .peer
                .statement
                .as_ref()
                .and_then(|p| p.released.clone())
        {
            self.decline(released.epoch, now);
        }
        let writable = self.server().is_some_and(ServerView::is_writable);
        if writable || !self.is_eligible() {
            self.become_undecided(now);
        } else {
            self.set_phase(Phase::Replica { since: now }, now);
        }
        false
    }
}
