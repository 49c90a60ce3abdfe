//! The rules by which a host may or may not become primary, as values.
//!
//! A rule looks at evidence and returns a [`Ruling`]: what it says, on what grounds, and how old
//! they are. The keeper acts on rulings and `tandem explain` prints the very same ones, so the
//! explanation can never differ from the decision. Nothing here changes state or reads a clock.

use std::time::Duration;

use serde::Serialize;

pub mod boot;
pub mod duplicate;
pub mod eligible;
pub mod verdict;

/// What a rule says about the step it was asked about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Says {
    /// Nothing in this rule stands against the step.
    Yes,
    /// The step is forbidden as things are.
    No,
    /// It cannot be said yet; the step waits.
    Wait,
}

/// One rule's answer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Ruling {
    /// Short stable name, the one that a refusal prints: `eligible.lineage`, `takeover.peer-link`.
    pub rule: &'static str,
    /// Yes, no or not yet.
    pub says: Says,
    /// The grounds, in words that name hosts, offsets and epochs.
    pub evidence: String,
    /// How old the evidence is, in milliseconds; `None` when it does not age.
    pub age_ms: Option<u64>,
}

impl Ruling {
    /// A rule that does not stand in the way.
    pub fn yes(rule: &'static str, evidence: impl Into<String>) -> Self {
        Self {
            rule,
            says: Says::Yes,
            evidence: evidence.into(),
            age_ms: None,
        }
    }

    /// A rule that forbids.
    pub fn no(rule: &'static str, evidence: impl Into<String>) -> Self {
        Self {
            rule,
            says: Says::No,
            evidence: evidence.into(),
            age_ms: None,
        }
    }

    /// A rule that cannot tell yet.
    pub fn wait(rule: &'static str, evidence: impl Into<String>) -> Self {
        Self {
            rule,
            says: Says::Wait,
            evidence: evidence.into(),
            age_ms: None,
        }
    }

    /// The same ruling with the age of its evidence.
    #[must_use]
    pub fn aged(mut self, age: Duration) -> Self {
        self.age_ms = Some(u64::try_from(age.as_millis()).unwrap_or(u64::MAX));
        self
    }
}

/// The answer of several rules together: one `No` forbids, else one `Wait` delays.
pub fn together(rulings: &[Ruling]) -> Says {
    if rulings.iter().any(|r| r.says == Says::No) {
        Says::No
    } else if rulings.iter().any(|r| r.says == Says::Wait) {
        Says::Wait
    } else {
        Says::Yes
    }
}

/// The first ruling that stands in the way, for a one-line reason.
pub fn obstacle(rulings: &[Ruling]) -> Option<&Ruling> {
    rulings
        .iter()
        .find(|r| r.says == Says::No)
        .or_else(|| rulings.iter().find(|r| r.says == Says::Wait))
}
