//! Changing a server's role, and reading what it says about that.
//!
//! The pipeline is Redis' (`sentinel.c`): MULTI, SLAVEOF, CONFIG REWRITE, CLIENT KILL TYPE normal and pubsub, EXEC. Redis
//! discards the replies and learns the outcome from the next INFO poll, up to a second later. Here INFO follows in the
//! same pipeline, and the replies are read: a refusal is told (`-step-refused`), and where the transaction as a whole was
//! refused (a command in it is renamed or not allowed), SLAVEOF is sent again by itself, which is the part that counts.

use tandem_resp::Value;

use crate::sentinel::events::Kind;
use crate::sentinel::ids::Endpoint;
use crate::sentinel::io::Level;
use crate::sentinel::machine::Sentinel;
use crate::sentinel::model::{Expect, GroupId, LinkId, Stage};

/// Refusals kept for the explanation of a step.
const REFUSALS_MAX: usize = 5;

/// What a step is for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Purpose {
    /// Make the chosen replica primary.
    Promote,
    /// Make it follow the primary.
    Follow(Endpoint),
    /// Hold back writes for a planned change.
    Pause,
    /// Make the old primary of a planned change follow its successor.
    Fence(Endpoint),
    /// Make it primary again after a planned change that failed.
    Restore,
}

/// A step under way.
#[derive(Clone, Debug)]
pub(super) struct Step {
    pub(super) group: GroupId,
    pub(super) target: Endpoint,
    pub(super) purpose: Purpose,
    /// SLAVEOF by itself: the transaction was refused.
    plain: bool,
    refusals: Vec<String>,
}

/// How a step ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ending {
    /// Done, as the server says.
    Done,
    /// Refused; nothing was changed.
    Refused,
    /// The connection ended before the answer: it may or may not have been done.
    Unknown,
}

/// The commands whose answers EXEC returns.
const TRANSACTION: [&str; 4] = [
    "SLAVEOF",
    "CONFIG REWRITE",
    "CLIENT KILL TYPE normal",
    "CLIENT KILL TYPE pubsub",
];

impl Sentinel {
    /// Has a server change its role.
    ///
    /// # Returns
    /// Whether it could be sent.
    pub(super) fn change_role(
        &mut self,
        group: GroupId,
        target: &Endpoint,
        purpose: Purpose,
    ) -> bool {
        let Some(link) = self.server_link(group, target) else {
            return false;
        };
        if !self.links.get(&link).is_some_and(|link| link.is_up()) {
            return false;
        }
        let step = self.number();
        let slaveof = self.slaveof(&purpose);
        let words = |line: &str| -> Vec<Vec<u8>> {
            line.split(' ')
                .map(|word| word.as_bytes().to_vec())
                .collect()
        };
        self.send(link, words("MULTI"), Expect::StepPart(step));
        self.send(link, slaveof, Expect::StepPart(step));
        self.send(link, words("CONFIG REWRITE"), Expect::StepPart(step));
        self.send(
            link,
            words("CLIENT KILL TYPE normal"),
            Expect::StepPart(step),
        );
        self.send(
            link,
            words("CLIENT KILL TYPE pubsub"),
            Expect::StepPart(step),
        );
        self.send(link, words("EXEC"), Expect::Step(step));
        self.ask_info(link);
        self.steps.insert(
            step,
            Step {
                group,
                target: target.clone(),
                purpose,
                plain: false,
                refusals: Vec::new(),
            },
        );
        true
    }

    /// Has a server hold back writes for at most this many milliseconds.
    pub(super) fn pause_writes(&mut self, group: GroupId, target: &Endpoint, ms: u128) -> bool {
        let Some(link) = self.server_link(group, target) else {
            return false;
        };
        let step = self.number();
        let words = ["CLIENT", "PAUSE", &ms.to_string(), "WRITE"];
        let words = words.map(|word| word.as_bytes().to_vec()).to_vec();
        if !self.send(link, words, Expect::Step(step)) {
            return false;
        }
        self.ask_info(link);
        self.steps.insert(
            step,
            Step {
                group,
                target: target.clone(),
                purpose: Purpose::Pause,
                plain: false,
                refusals: Vec::new(),
            },
        );
        true
    }

    /// Whether a step for this server is under way.
    pub(super) fn has_step(&self, group: GroupId, target: &Endpoint) -> bool {
        self.steps
            .values()
            .any(|step| step.group == group && step.target == *target)
    }

    fn slaveof(&self, purpose: &Purpose) -> Vec<Vec<u8>> {
        let words: [String; 3] = match purpose {
            Purpose::Promote | Purpose::Restore | Purpose::Pause => {
                ["SLAVEOF".to_owned(), "NO".to_owned(), "ONE".to_owned()]
            }
            Purpose::Follow(to) | Purpose::Fence(to) => {
                let to = self.announce().endpoint(to);
                ["SLAVEOF".to_owned(), to.host, to.port.to_string()]
            }
        };
        words.map(String::into_bytes).to_vec()
    }

    /// A command before the deciding one was answered; only a refusal says anything.
    pub(super) fn step_part_answered(&mut self, step: u64, value: &Value) {
        if let (Some(error), Some(step)) = (value.as_error(), self.steps.get_mut(&step))
            && step.refusals.len() < REFUSALS_MAX
        {
            step.refusals
                .push(String::from_utf8_lossy(error).into_owned());
        }
    }

    /// The deciding command was answered.
    pub(super) fn step_answered(&mut self, number: u64, value: &Value) {
        let Some(mut step) = self.steps.remove(&number) else {
            return;
        };
        if let Some(error) = value.as_error() {
            step.refusals
                .push(String::from_utf8_lossy(error).into_owned());
        }
        // The transaction's answers: SLAVEOF's is first. An error behind it costs clients a reconnection, not the role.
        let parts = value.as_array().unwrap_or_default();
        for (part, command) in parts.iter().zip(TRANSACTION) {
            if let Some(error) = part.as_error() {
                step.refusals
                    .push(format!("{command}: {}", String::from_utf8_lossy(error)));
            }
        }
        let transaction = !step.plain && step.purpose != Purpose::Pause;
        let refused = if transaction {
            parts.first().is_none_or(|first| first.as_error().is_some())
        } else {
            value.as_error().is_some()
        };
        if !step.refusals.is_empty() {
            let detail = step.refusals.join("; ");
            match (&step.purpose, refused) {
                (Purpose::Pause, _) => {
                    self.tell_server_with(
                        step.group,
                        &step.target,
                        Kind::MinusPauseRefused,
                        detail,
                    );
                }
                (
                    Purpose::Promote | Purpose::Follow(_) | Purpose::Fence(_) | Purpose::Restore,
                    true,
                ) => {
                    self.tell_server_with(step.group, &step.target, Kind::MinusStepRefused, detail);
                }
                // The role changed. A server without a configuration file cannot keep that over a restart.
                (
                    Purpose::Promote | Purpose::Follow(_) | Purpose::Fence(_) | Purpose::Restore,
                    false,
                ) => self.log(Level::Notice, format!("{}: {detail}", step.target)),
            }
        }
        if refused && transaction && parts.is_empty() && self.send_plain(number, &step) {
            return;
        }
        let ending = if refused {
            Ending::Refused
        } else {
            Ending::Done
        };
        self.step_ended(&step, ending);
    }

    /// SLAVEOF without the transaction around it.
    fn send_plain(&mut self, number: u64, step: &Step) -> bool {
        let Some(link) = self.server_link(step.group, &step.target) else {
            return false;
        };
        let slaveof = self.slaveof(&step.purpose);
        if !self.send(link, slaveof, Expect::Step(number)) {
            return false;
        }
        self.ask_info(link);
        let mut step = step.clone();
        step.plain = true;
        step.refusals.clear();
        self.steps.insert(number, step);
        true
    }

    /// The connection ended before the deciding answer.
    pub(super) fn step_lost(&mut self, number: u64) {
        if let Some(step) = self.steps.remove(&number) {
            self.step_ended(&step, Ending::Unknown);
        }
    }

    fn step_ended(&mut self, step: &Step, ending: Ending) {
        match step.purpose {
            Purpose::Promote => self.promotion_ended(step.group, &step.target, ending),
            // What follows is seen in INFO, and repaired where it does not.
            Purpose::Follow(_) | Purpose::Restore => {}
            Purpose::Pause => self.pause_ended(step.group, ending),
            Purpose::Fence(_) => self.fence_ended(step.group, ending),
        }
        self.mark(step.group);
    }

    /// The chosen replica answered the promotion, or did not. A refusal ends the failover at once; otherwise its role decides.
    fn promotion_ended(&mut self, id: GroupId, target: &Endpoint, ending: Ending) {
        let now = self.now;
        let Some(group) = self.groups.get_mut(&id) else {
            return;
        };
        let current = group.failover.as_ref().is_some_and(|failover| {
            failover.stage == Stage::Confirming && failover.chosen.as_ref() == Some(target)
        });
        if !current || ending != Ending::Refused {
            return;
        }
        if let Some(replica) = group.replicas.get_mut(target) {
            replica.refused = Some(now);
        }
        self.promotion_refused(id);
    }

    /// Lets writes through again on a server where they were held back.
    pub(super) fn unpause(&mut self, link: LinkId) {
        let words = ["CLIENT", "UNPAUSE"].map(|word| word.as_bytes().to_vec());
        self.send(link, words.to_vec(), Expect::Nothing);
        if let Some(link) = self.links.get_mut(&link) {
            link.hold_hello = false;
        }
    }
}
