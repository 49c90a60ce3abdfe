//! Steps under way: their names, their deadlines, and the results that phases ask for.

use std::time::{Duration, Instant};

use crate::keeper::Keeper;
use crate::keeper::io::{Outcome, Output, Severity, Step, StepError, StepErrorKind, StepId};

/// A step's result that is this late is given up by the keeper itself.
const RESULT_GRACE: Duration = Duration::from_millis(250);
/// Results that are kept for whoever asks.
const RESULTS_MAX: usize = 64;

/// A step under way.
#[derive(Clone, Debug)]
pub(super) struct Op {
    word: &'static str,
    deadline: Instant,
    background: bool,
}

impl Keeper {
    /// Starts a step whose result the phase will ask for.
    pub(super) fn start(&mut self, step: Step, within: Duration, now: Instant) -> StepId {
        self.launch(step, within, now, false)
    }

    /// Starts a step that nothing waits for.
    pub(super) fn start_background(
        &mut self,
        step: Step,
        within: Duration,
        now: Instant,
    ) -> StepId {
        self.launch(step, within, now, true)
    }

    fn launch(&mut self, step: Step, within: Duration, now: Instant, background: bool) -> StepId {
        let id = StepId(self.next_step);
        self.next_step += 1;
        let deadline = now + within;
        if matches!(step, Step::Journal(_)) {
            self.last_record = Some(id);
        }
        self.ops.insert(
            id,
            Op {
                word: step.word(),
                deadline,
                background,
            },
        );
        self.out.push(Output::Do { id, step, deadline });
        id
    }

    /// Nothing is known yet of how it ends.
    pub(super) fn is_under_way(&self, id: StepId) -> bool {
        self.ops.contains_key(&id)
    }

    /// The result of a step, once.
    pub(super) fn result(&mut self, id: StepId) -> Option<Result<Outcome, StepError>> {
        self.results.remove(&id)
    }

    pub(super) fn step_done(&mut self, id: StepId, result: Result<Outcome, StepError>) {
        let Some(op) = self.ops.remove(&id) else {
            return;
        };
        if op.background
            && let Err(error) = &result
        {
            self.tell(
                "step-failed",
                Severity::Warning,
                None,
                format!("{} failed: {}", op.word, error.text),
            );
        }
        self.results.insert(id, result);
    }

    /// A shell that never reports must not hold a phase for ever.
    pub(super) fn give_up_late_steps(&mut self, now: Instant) {
        let late: Vec<StepId> = self
            .ops
            .iter()
            .filter(|(_, op)| now >= op.deadline + RESULT_GRACE)
            .map(|(id, _)| *id)
            .collect();
        for id in late {
            let text = "no result within its deadline".to_owned();
            self.step_done(
                id,
                Err(StepError {
                    kind: StepErrorKind::TimedOut,
                    text,
                }),
            );
        }
        // Results nobody asked for belong to phases that were left.
        while self.results.len() > RESULTS_MAX {
            self.results.pop_first();
        }
    }
}
