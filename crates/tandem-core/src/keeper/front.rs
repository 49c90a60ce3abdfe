//! The gate before the local server, and leaving with nothing half done.
//!
//! Closing is ordered by whoever gives the role up; opening follows from the phase alone and is
//! tried again until it is done, because a closed front behind which a healthy primary waits is an
//! outage that nobody sees. A daemon that starts does not know what its predecessor left closed and
//! so opens once it is settled.

use std::time::{Duration, Instant};

use crate::keeper::io::{Output, Step, StepId, VrrpCommand};
use crate::keeper::{Keeper, Phase};

/// Bound on opening.
const OPEN_WITHIN: Duration = Duration::from_millis(500);
/// Opening is tried again after this.
const OPEN_AGAIN: Duration = Duration::from_millis(200);
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
}
