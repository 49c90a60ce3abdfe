//! Giving the role away while the server lives: quiesce, pause, equal, close, fence, state.
//!
//! The order of rule 13: the peer is promoted only after this server is fenced, because promoting
//! first leaves two writers if this daemon dies in between. Up to the fence everything can be
//! undone in the same epoch; after it the peer is primary or this host takes the role back at a
//! newer epoch, never both.

use std::time::{Duration, Instant};

use crate::health::Health;
use crate::journal::JournalRole;
use crate::keeper::io::{Outcome, Output, Reply, Severity, Step, StepError, VrrpCommand};
use crate::keeper::phase::{HandCause, HandOver, HandOverStage, Phase, TakeOver};
use crate::keeper::{Hook, Keeper};
use crate::statement::ReleaseKind;

/// Bound on one command to a healthy server.
const COMMAND_WITHIN: Duration = Duration::from_secs(1);
/// Bound on waiting for proxies: what they have outstanding by then meets the pause.
const QUIESCE_WITHIN: Duration = Duration::from_millis(5);
/// After a hand-over failed, none begins by itself for this long.
const NOT_AGAIN_FOR: Duration = Duration::from_secs(10);

impl Keeper {
    pub(super) fn begin_handover(&mut self, cause: HandCause, now: Instant) -> bool {
        // The intent has to be durable before the fence; the disk works while the peer reads.
        let mut record = self.journal.clone();
        record.role = JournalRole::Handing;
        let journal = Some(self.start(Step::Journal(Box::new(record)), COMMAND_WITHIN, now));
        self.tell(
            "+switchover",
            Severity::Info,
            None,
            format!("hands its role over ({})", cause_words(cause)),
        );
        // From here on the role is told as closing. A pause freezes a proxy's connection at its first write, with
        // everything behind it; so proxies finish first, and the pause then meets none of theirs.
        let rank = self.next_rank();
        let id = self.start(Step::Quiesce(rank), QUIESCE_WITHIN, now);
        self.set_phase(
            Phase::HandingOver(HandOver {
                cause,
                since: now,
                journal,
                offset: crate::ids::Offset(0),
                stage: HandOverStage::Quiescing(id, now + QUIESCE_WITHIN),
            }),
            now,
        );
        true
    }

    fn pause_writes(&mut self, now: Instant) -> HandOverStage {
        let whole = self.settings.switchover_deadline;
        HandOverStage::Pausing(self.start(Step::PauseWrites(whole), COMMAND_WITHIN, now))
    }

    pub(super) fn advance_handover(&mut self, mut state: HandOver, now: Instant) -> bool {
        if matches!(self.health(now), Health::Dead(_)) {
            self.answer_handover(state.cause, Err("the server died meanwhile".to_owned()));
            return self.release(ReleaseKind::Dead, now);
        }
        let half_over =
            now.saturating_duration_since(state.since) >= self.settings.switchover_deadline / 2;
        match state.stage {
            HandOverStage::Quiescing(id, until) => {
                // However it ended: a proxy that does not answer is not waited for.
                if self.result(id).is_none() && now < until {
                    return false;
                }
                state.stage = self.pause_writes(now);
                self.phase = Phase::HandingOver(state);
                false
            }
            HandOverStage::Pausing(id) => match self.result(id) {
                None => false,
                Some(Ok(Outcome::View(view))) => {
                    state.offset = view.offset;
                    let Some(address) = self.peer.server_address.clone() else {
                        return self.abort_handover(&state, "the peer's server is unknown", now);
                    };
                    let within = (self.settings.switchover_deadline / 2)
                        .saturating_sub(now.saturating_duration_since(state.since));
                    let step = Step::WaitPeerOffset {
                        address,
                        offset: view.offset,
                    };
                    state.stage = HandOverStage::Equalizing(self.start(step, within, now));
                    self.view = Some((*view, now));
                    self.phase = Phase::HandingOver(state);
                    false
                }
                Some(result) => self.abort_handover_with(&state, "writes not paused", result, now),
            },
            HandOverStage::Equalizing(id) => match self.result(id) {
                None if half_over => {
                    self.abort_handover(&state, "the peer was not equal by half the deadline", now)
                }
                None => false,
                Some(Ok(_)) if self.peer_could_take_over(now).is_ok() => {
                    // Begun with the pause; usually long done.
                    state.stage = match state.journal {
                        Some(id) => HandOverStage::Journaling(id),
                        None => HandOverStage::Closing(self.close_front(
                            false,
                            false,
                            COMMAND_WITHIN,
                            now,
                        )),
                    };
                    self.phase = Phase::HandingOver(state);
                    false
                }
                Some(Ok(_)) => self.abort_handover(&state, "the peer is no longer ready", now),
                Some(result) => {
                    self.abort_handover_with(&state, "the peer is not equal", result, now)
                }
            },
            HandOverStage::Journaling(id) => match self.result(id) {
                None => false,
                Some(Ok(_)) => {
                    let id = self.close_front(false, false, COMMAND_WITHIN, now);
                    state.stage = HandOverStage::Closing(id);
                    self.phase = Phase::HandingOver(state);
                    false
                }
                Some(result) => {
                    self.abort_handover_with(&state, "the journal cannot be written", result, now)
                }
            },
            HandOverStage::Closing(id) => match self.result(id) {
                None => false,
                Some(Ok(_)) => {
                    state.stage =
                        HandOverStage::Fencing(self.start(Step::Fence, COMMAND_WITHIN, now));
                    self.phase = Phase::HandingOver(state);
                    false
                }
                Some(result) => {
                    self.abort_handover_with(&state, "the front cannot be closed", result, now)
                }
            },
            HandOverStage::Fencing(id) => match self.result(id) {
                None => false,
                Some(Ok(Outcome::View(view))) => self.handed_over(&state, *view, now),
                // Whether the fence took is unknown: close everything, then say so.
                Some(_) => self.begin_close_silent(now),
            },
        }
    }

    fn handed_over(
        &mut self,
        state: &HandOver,
        view: crate::server::ServerView,
        now: Instant,
    ) -> bool {
        let exact = view.offset;
        self.view = Some((view, now));
        self.handing = Some(state.cause);
        self.release(ReleaseKind::Fenced, now);
        if let Some(released) = &mut self.journal.released {
            // A fence that follows a failed promotion or a freeze was not drained; its peer takes
            // what it has. A paused one is exact.
            released.exact = state.offset.0 > 0;
            released.offset = exact;
        }
        self.publish(now);
        true
    }

    /// Undoes a hand-over before its fence: same epoch, clients go on.
    fn abort_handover(&mut self, state: &HandOver, why: &str, now: Instant) -> bool {
        self.start_background(Step::Unpause, COMMAND_WITHIN, now);
        if self.journal.role != JournalRole::Primary {
            self.journal_role(JournalRole::Primary);
        }
        self.save(now);
        self.no_takeover_until = Some(now + NOT_AGAIN_FOR);
        self.tell(
            "-switchover-abort",
            Severity::Warning,
            None,
            format!("goes on as primary in the same epoch: {why}"),
        );
        self.answer_handover(state.cause, Err(why.to_owned()));
        self.stop_failed |= state.cause == HandCause::Stopping;
        self.set_phase(Phase::Primary { since: now }, now);
        // Looked at again with the next input: the reason may still hold.
        false
    }

    fn abort_handover_with(
        &mut self,
        state: &HandOver,
        what: &str,
        result: Result<Outcome, StepError>,
        now: Instant,
    ) -> bool {
        let why = match result {
            Ok(_) => what.to_owned(),
            Err(error) => format!("{what}: {}", error.text),
        };
        self.abort_handover(state, &why, now)
    }

    pub(super) fn answer_handover(&mut self, cause: HandCause, outcome: Result<String, String>) {
        let HandCause::Operator(id) = cause else {
            return;
        };
        let reply = match outcome {
            Ok(text) => Reply::Done(text),
            Err(text) => Reply::Failed(text),
        };
        self.reply(id, reply);
    }

    // --- fences without a hand-over ------------------------------------------------------------

    /// The server does not answer: its front is closed, which is the fence for a server that cannot
    /// obey (rule 12). Stated only once it is done and durable.
    pub(super) fn begin_close_silent(&mut self, now: Instant) -> bool {
        let id = self.close_front(true, false, Duration::from_millis(500), now);
        self.closing_silent = Some((id, None));
        self.set_phase(Phase::Released { since: now }, now);
        false
    }

    /// We may have been replaced while frozen: close, fence, and only then speak.
    pub(super) fn begin_self_fence(&mut self, now: Instant) {
        self.out.push(Output::Vrrp(VrrpCommand::Release));
        self.vrrp_set_fault("was frozen; looks around first");
        self.close_front(false, false, COMMAND_WITHIN, now);
        let id = self.start(Step::Fence, COMMAND_WITHIN, now);
        self.set_phase(
            Phase::HandingOver(HandOver {
                cause: HandCause::Frozen,
                since: now,
                journal: None,
                offset: crate::ids::Offset(0),
                stage: HandOverStage::Fencing(id),
            }),
            now,
        );
    }

    /// A promotion whose outcome is unknown steps back at its own epoch.
    pub(super) fn step_back_from(&mut self, state: &TakeOver, why: &str, now: Instant) -> bool {
        self.tell(
            "-failover-abort",
            Severity::Alarm,
            Some(Hook::Fault),
            format!(
                "the promotion at epoch {} is not confirmed: {why}; fences it",
                state.epoch
            ),
        );
        // A newer epoch may have been heard of while the promotion hung.
        self.journal.epoch = self.journal.epoch.clone().max(state.epoch.clone());
        self.journal.data_epoch = state.epoch.clone();
        let id = self.start(Step::Fence, COMMAND_WITHIN, now);
        self.set_phase(
            Phase::HandingOver(HandOver {
                cause: HandCause::FailedPromotion,
                since: now,
                journal: None,
                offset: crate::ids::Offset(0),
                stage: HandOverStage::Fencing(id),
            }),
            now,
        );
        true
    }
}

fn cause_words(cause: HandCause) -> &'static str {
    match cause {
        HandCause::Operator(_) => "asked by an operator",
        HandCause::PeerAsked => "asked by an operator on the other host",
        HandCause::Stopping => "the daemon is stopping",
        HandCause::Sick => "the server refuses writes",
        HandCause::FailBack => "the other host has the higher priority and equal data",
        HandCause::Frozen => "the daemon was frozen",
        HandCause::FailedPromotion => "a promotion was not confirmed",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::keeper::Input;
    use crate::keeper::testing::keeper;

    #[test]
    fn a_primary_fences_itself_after_a_freeze_unless_the_other_keeper_was_frozen_with_it() {
        let start = crate::testing::origin();
        for one_host in [false, true] {
            let mut keeper = keeper(start);
            keeper.settings.one_host = one_host;
            keeper.phase = Phase::Primary { since: start };
            let later = start + Duration::from_secs(60);
            let out = keeper.handle(Input::Frozen(Duration::from_secs(60)), later);
            let fences = out.iter().any(|output| {
                let Output::Do { step, .. } = output else {
                    return false;
                };
                *step == Step::Fence
            });
            assert_eq!(fences, !one_host);
        }
    }
}
