//! The addresses and the gate before the local server, and leaving with nothing half done.
//!
//! Closing is ordered by whoever gives the role up; opening follows from the phase alone and is
//! tried again until it is done, because a closed front behind which a healthy primary waits is an
//! outage that nobody sees. A daemon that starts does not know what its predecessor left closed and
//! so opens once it is settled.

use std::time::{Duration, Instant};

use crate::keeper::io::{Hook, Output, Severity, Step, StepId, VrrpCommand};
use crate::keeper::{Keeper, Phase};

/// Bound on opening.
const OPEN_WITHIN: Duration = Duration::from_millis(500);
/// Opening is tried again after this.
const OPEN_AGAIN: Duration = Duration::from_millis(200);
/// A restarted daemon that has not resumed by then does not.
const RESUME_WITHIN: Duration = Duration::from_secs(1);
/// Addresses that VRRP gave up stay this long for a peer that is about to announce them.
const HOLD_FOR: Duration = Duration::from_millis(50);
/// A daemon that leaves waits this long for the steps that it has begun.
const LEAVE_WITHIN: Duration = Duration::from_secs(2);

/// What is known of the gate.
#[derive(Debug)]
pub(super) struct Gate {
    /// It rejects, or may do so: a predecessor may have closed it.
    pub(super) closed: bool,
    opening: Option<StepId>,
    retry_at: Option<Instant>,
}

impl Default for Gate {
    fn default() -> Self {
        Self {
            closed: true,
            opening: None,
            retry_at: None,
        }
    }
}

impl Keeper {
    /// Closes the gate. An opening under way no longer counts.
    pub(super) fn close_front(
        &mut self,
        direct: bool,
        listener: bool,
        within: Duration,
        now: Instant,
    ) -> StepId {
        self.gate.closed = true;
        self.gate.opening = None;
        self.start(Step::CloseFront { direct, listener }, within, now)
    }

    /// The gate is open while this host is settled in its role.
    pub(super) fn keep_gate_in_step(&mut self, now: Instant) {
        if let Some(id) = self.gate.opening {
            match self.result(id) {
                None => return,
                Some(Ok(_)) => {
                    self.gate.opening = None;
                    self.gate.closed = false;
                }
                Some(Err(_)) => {
                    self.gate.opening = None;
                    self.gate.retry_at = Some(now + OPEN_AGAIN);
                }
            }
        }
        let settled = matches!(self.phase, Phase::Primary { .. } | Phase::Replica { .. });
        if self.gate.closed && settled && self.gate.retry_at.is_none_or(|at| now >= at) {
            self.gate.opening = Some(self.start_background(Step::OpenFront, OPEN_WITHIN, now));
        }
    }

    /// Leaves once the steps that were begun have ended.
    pub(super) fn leave(&mut self, serving: bool, now: Instant) {
        if self.leaving.is_none() {
            if !serving {
                self.out.push(Output::Vrrp(VrrpCommand::Stop));
            }
            self.leaving = Some((serving, now));
        }
    }

    /// A host on its way out decides nothing any more.
    pub(super) fn leave_if_due(&mut self, now: Instant) {
        let Some((serving, since)) = self.leaving else {
            return;
        };
        let ready = self.ops.is_empty() && !(serving && self.gate.closed);
        if ready || now.saturating_duration_since(since) >= LEAVE_WITHIN {
            self.out.push(Output::Exit { serving });
            self.exited = true;
        }
    }

    /// The addresses follow VRRP while the phase allows them, and are tried again when that fails.
    pub(super) fn keep_vip_in_step(&mut self, now: Instant) {
        if self.settings.vip_lifetime.is_none() {
            return;
        }
        if let Some((adding, id)) = self.front.changing {
            match self.result(id) {
                None => return,
                Some(Ok(_)) => {
                    self.front.changing = None;
                    self.front.vip = adding;
                    self.front.known = true;
                    self.front.retry_at = None;
                    let (name, hook) = if adding {
                        ("+vip", Some(Hook::VipUp))
                    } else {
                        ("-vip", None)
                    };
                    let text = if adding {
                        "the addresses are here"
                    } else {
                        "the addresses left"
                    };
                    self.said.remove(name);
                    self.tell(name, Severity::Info, hook, text.to_owned());
                }
                Some(Err(_)) => {
                    self.front.changing = None;
                    // It may have taken effect all the same.
                    self.front.known = false;
                    self.front.retry_at = Some(now + Duration::from_millis(200));
                }
            }
        }
        let wanted = match self.phase {
            Phase::Primary { .. } | Phase::HandingOver(_) | Phase::Split(_) => {
                self.front.vrrp_master
            }
            // Stepping back: the addresses stay until the peer has them, but they are never put
            // on here. Its advert comes before its announcements; dropping in between would
            // swallow connects (rule 10).
            Phase::Released { .. } | Phase::Rejoining(_) => {
                self.front.vip && (self.front.vrrp_master || self.peer_takes_addresses(now))
            }
            Phase::Booting { .. }
            | Phase::Waiting { .. }
            | Phase::Replica { .. }
            | Phase::TakingOver(_) => false,
        };
        // A restarted daemon leaves its predecessor's addresses alone until it knows whether it resumes, and then takes off what
        // it does not want. One that resumes is no VRRP master yet in the moment in which it becomes primary again: addresses that
        // were off for as short as that cost clients 200 ms, until TCP has repeated what was refused.
        let may_resume = match self.phase {
            Phase::Booting { .. } | Phase::Waiting { .. } => true,
            Phase::Primary { .. } => !self.front.vrrp_master,
            Phase::Replica { .. }
            | Phase::TakingOver(_)
            | Phase::HandingOver(_)
            | Phase::Released { .. }
            | Phase::Split(_)
            | Phase::Rejoining(_) => false,
        };
        let waits = may_resume && now.saturating_duration_since(self.started) < RESUME_WITHIN;
        let unknown = !self.front.known && !waits;
        if (wanted == self.front.vip && !unknown) || self.front.retry_at.is_some_and(|at| now < at)
        {
            return;
        }
        if wanted && !self.phase.name().holds_primary() {
            // Held for a moment, never put on.
            return;
        }
        let step = if wanted { Step::AddVip } else { Step::DropVip };
        let id = self.start_background(step, Duration::from_millis(500), now);
        self.front.changing = Some((wanted, id));
    }

    /// VRRP has given the addresses up and the peer does not say yet that it carries them.
    fn peer_takes_addresses(&self, now: Instant) -> bool {
        let held = self
            .front
            .given_up_at
            .is_some_and(|at| now.saturating_duration_since(at) < HOLD_FOR);
        held && !self.live_peer(now).is_some_and(|peer| peer.vip)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::health::AnswerKind;
    use crate::ids::{HostId, RunId};
    use crate::journal::{Journal, JournalRole};
    use crate::keeper::testing::settings;
    use crate::keeper::{Input, ServerEvent, VrrpEvent};

    /// A daemon that was restarted beside its primary, which went on, and has heard nobody else; and when it resumed.
    fn resumed() -> (Keeper, Vec<Step>, Instant) {
        let start = crate::testing::origin();
        let journal = Journal {
            role: JournalRole::Primary,
            run_id: Some(RunId("run".to_owned())),
            ..Journal::fresh(HostId::new("b"), "g")
        };
        let mut keeper = Keeper::new(settings(), journal, start);
        let mut begun = Vec::new();
        let mut now = start;
        while !matches!(keeper.phase, Phase::Primary { .. }) {
            assert!(now < start + RESUME_WITHIN, "{:?}", keeper.phase);
            now += Duration::from_millis(10);
            let view = crate::testing::primary_view("run", "lineage", 90);
            for event in [
                ServerEvent::Answer(AnswerKind::Fine),
                ServerEvent::View(Box::new(view)),
            ] {
                begun.extend(steps(keeper.handle(Input::Server(event), now)));
            }
        }
        (keeper, begun, now)
    }

    fn steps(out: Vec<Output>) -> Vec<Step> {
        let step = |out| match out {
            Output::Do { step, .. } => Some(step),
            _ => None,
        };
        out.into_iter().filter_map(step).collect()
    }

    #[test]
    fn a_daemon_that_resumes_leaves_its_addresses_on() {
        let (mut keeper, mut begun, now) = resumed();
        let master = Input::Vrrp(VrrpEvent::BecameMaster);
        begun.extend(steps(keeper.handle(master, now)));
        assert!(begun.contains(&Step::AddVip), "{begun:?}");
        assert!(!begun.contains(&Step::DropVip), "{begun:?}");
    }

    #[test]
    fn one_that_becomes_no_vrrp_master_takes_them_off_in_time() {
        let (mut keeper, begun, now) = resumed();
        assert!(!begun.contains(&Step::DropVip), "{begun:?}");
        let early = steps(keeper.handle(Input::Tick, now));
        assert!(!early.contains(&Step::DropVip), "{early:?}");
        let late = steps(keeper.handle(Input::Tick, keeper.started + RESUME_WITHIN));
        assert!(late.contains(&Step::DropVip), "{late:?}");
    }
}
