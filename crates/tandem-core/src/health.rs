//! Is the local server alive? Classes of answers, silence, proof of death.
//!
//! Silence counts from the last answer, whatever the answer was: `-LOADING`, `-BUSY` and even
//! `-NOAUTH` come from a living process. Only a proof (rule 3) is death. A daemon that was itself
//! late distrusts its own accusations: [`Detector::late`] takes its lateness out of the silence, or starts the clock
//! again where it missed a large part of it.

use std::time::{Duration, Instant};

/// Why a server process is certainly not going to answer again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DeathProof {
    /// Its pidfd became readable, or its process id is gone or belongs to another start.
    Exited,
    /// The kernel is tearing it down (`PF_EXITING`): true long before its sockets close when the
    /// heap is large.
    Exiting,
    /// The port refuses and the process that used to listen there is gone.
    RefusedAndGone,
    /// Another process with another run id answers at its address.
    Replaced,
}

impl DeathProof {
    /// For evidence lines.
    pub fn words(self) -> &'static str {
        match self {
            Self::Exited => "its process exited",
            Self::Exiting => "the kernel is tearing its process down",
            Self::RefusedAndGone => "its port refuses and its process is gone",
            Self::Replaced => "another process answers at its address",
        }
    }
}

/// What an answer of the server says about it. `Fine` and `Readable` refusals such as `-READONLY`
/// are health; the rest are conditions of a living process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AnswerKind {
    /// `+PONG`, a reply to INFO, or any reply that only a working server gives.
    Fine,
    /// `-LOADING`.
    Loading,
    /// `-BUSY`: a script runs.
    Busy,
    /// `-MISCONF`: persistence fails and writes are refused.
    Misconf,
    /// `-NOAUTH`, `-WRONGPASS`, `-NOPERM`.
    Auth,
}

/// The verdict on the local server at an instant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Health {
    /// No answer since the daemon started, and no proof of anything.
    Unknown,
    /// Answers as it should.
    Fine,
    /// Reads its data set.
    Loading,
    /// Runs a script; alive.
    Busy,
    /// Refuses writes because its disk fails, for longer than the grace.
    Sick,
    /// Alive, but it does not accept our credentials: alarm, never failover.
    Unmanageable,
    /// No answer for longer than `down_after`.
    Silent(Duration),
    /// Proven dead.
    Dead(DeathProof),
}

/// Turns answers and their absence into [`Health`].
#[derive(Clone, Debug)]
pub struct Detector {
    down_after: Duration,
    sick_grace: Duration,
    last_answer: Option<Instant>,
    kind: AnswerKind,
    kind_since: Option<Instant>,
    dead: Option<DeathProof>,
}

/// A lateness of this share of `down_after` starts the clock again.
const STARVED_SHARE: u32 = 4;

impl Detector {
    /// A detector that has heard nothing yet.
    pub fn new(down_after: Duration, sick_grace: Duration) -> Self {
        Self {
            down_after,
            sick_grace,
            last_answer: None,
            kind: AnswerKind::Fine,
            kind_since: None,
            dead: None,
        }
    }

    /// The server answered. An answer after a proof of death comes from its successor.
    pub fn answered(&mut self, kind: AnswerKind, now: Instant) {
        if self.kind != kind || self.kind_since.is_none() {
            self.kind = kind;
            self.kind_since = Some(now);
        }
        self.last_answer = Some(now);
        self.dead = None;
    }

    /// An answer was read that had come before: at this time at the earliest, from which silence counts. It may have come from
    /// a server that has died since, so it takes nothing back.
    pub fn had_answered(&mut self, kind: AnswerKind, at: Instant) {
        if self.dead.is_none() {
            let last = self.last_answer.map_or(at, |last| last.max(at));
            self.answered(kind, last);
        }
    }

    /// Whether an answer of this kind is what the server has given all along.
    pub fn goes_on(&self, kind: AnswerKind, now: Instant) -> bool {
        let answers = self.silent_at().is_some_and(|at| now < at);
        answers && self.kind == kind && kind != AnswerKind::Misconf
    }

    /// Its death was proven.
    pub fn died(&mut self, proof: DeathProof) {
        self.dead = Some(proof);
        self.last_answer = None;
        self.kind_since = None;
    }

    /// Our own loop was late by this much: what looked like silence may have been ours.
    ///
    /// A short lateness is taken out of the silence. A quarter of `down_after` or more says that this host is
    /// starved, and then its server may be as well: the clock starts again.
    pub fn late(&mut self, by: Duration, now: Instant) {
        let starved = by >= self.down_after / STARVED_SHARE;
        if let Some(last) = &mut self.last_answer {
            *last = if starved { now } else { now.min(*last + by) };
        }
    }

    /// When silence would begin if nothing is heard until then.
    pub fn silent_at(&self) -> Option<Instant> {
        if self.dead.is_some() {
            None
        } else {
            self.last_answer.map(|t| t + self.down_after)
        }
    }

    /// How long ago the last answer came.
    pub fn answer_age(&self, now: Instant) -> Option<Duration> {
        self.last_answer.map(|t| now.saturating_duration_since(t))
    }

    /// The verdict.
    pub fn health(&self, now: Instant) -> Health {
        if let Some(proof) = self.dead {
            return Health::Dead(proof);
        }
        let Some(age) = self.answer_age(now) else {
            return Health::Unknown;
        };
        if age >= self.down_after {
            return Health::Silent(age);
        }
        match self.kind {
            AnswerKind::Fine => Health::Fine,
            AnswerKind::Loading => Health::Loading,
            AnswerKind::Busy => Health::Busy,
            AnswerKind::Auth => Health::Unmanageable,
            AnswerKind::Misconf => {
                let since = self.kind_since.unwrap_or(now);
                if now.saturating_duration_since(since) >= self.sick_grace {
                    Health::Sick
                } else {
                    Health::Fine
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    #[test]
    fn silence_counts_from_the_last_answer_of_any_kind() {
        let t0 = crate::testing::origin();
        let mut d = Detector::new(300 * MS, 1000 * MS);
        assert_eq!(d.health(t0), Health::Unknown);
        d.answered(AnswerKind::Busy, t0);
        assert_eq!(d.health(t0 + 299 * MS), Health::Busy);
        assert_eq!(d.health(t0 + 300 * MS), Health::Silent(300 * MS));
        d.answered(AnswerKind::Auth, t0 + 310 * MS);
        assert_eq!(
            d.health(t0 + 320 * MS),
            Health::Unmanageable,
            "alive, never a failover"
        );
    }

    #[test]
    fn a_starved_daemon_starts_the_clock_again() {
        let t0 = crate::testing::origin();
        let mut d = Detector::new(300 * MS, 1000 * MS);
        d.answered(AnswerKind::Fine, t0);
        d.late(75 * MS, t0 + 500 * MS);
        assert_eq!(d.health(t0 + 600 * MS), Health::Fine);
        assert_eq!(d.health(t0 + 800 * MS), Health::Silent(300 * MS));
    }

    #[test]
    fn a_short_lateness_is_taken_out_of_the_silence_and_no_more() {
        let t0 = crate::testing::origin();
        let mut d = Detector::new(300 * MS, 1000 * MS);
        d.answered(AnswerKind::Fine, t0);
        d.late(74 * MS, t0 + 250 * MS);
        assert_eq!(d.health(t0 + 373 * MS), Health::Fine);
        assert_eq!(d.health(t0 + 374 * MS), Health::Silent(300 * MS));
        // An answer that was only read late is not from the future.
        d.answered(AnswerKind::Fine, t0 + 400 * MS);
        d.late(30 * MS, t0 + 410 * MS);
        assert_eq!(d.answer_age(t0 + 410 * MS), Some(Duration::ZERO));
    }

    #[test]
    fn an_answer_that_lay_counts_from_when_it_may_have_come() {
        let t0 = crate::testing::origin();
        let mut d = Detector::new(300 * MS, 1000 * MS);
        d.answered(AnswerKind::Fine, t0);
        d.had_answered(AnswerKind::Fine, t0 + 30 * MS);
        assert_eq!(d.health(t0 + 330 * MS), Health::Silent(300 * MS));
        // Silence that was forgiven is not taken up again.
        d.late(200 * MS, t0 + 250 * MS);
        d.had_answered(AnswerKind::Fine, t0 + 60 * MS);
        assert_eq!(d.answer_age(t0 + 260 * MS), Some(10 * MS));
        d.died(DeathProof::Exiting);
        d.had_answered(AnswerKind::Fine, t0 + 270 * MS);
        assert_eq!(d.health(t0 + 280 * MS), Health::Dead(DeathProof::Exiting));
    }

    #[test]
    fn a_full_disk_is_sick_only_after_the_grace() {
        let t0 = crate::testing::origin();
        let mut d = Detector::new(10_000 * MS, 1000 * MS);
        d.answered(AnswerKind::Misconf, t0);
        assert_eq!(d.health(t0 + 999 * MS), Health::Fine);
        d.answered(AnswerKind::Misconf, t0 + 999 * MS);
        assert_eq!(d.health(t0 + 1000 * MS), Health::Sick);
        d.answered(AnswerKind::Fine, t0 + 1001 * MS);
        assert_eq!(d.health(t0 + 1002 * MS), Health::Fine);
    }

    #[test]
    fn proof_outlasts_silence_until_a_successor_answers() {
        let t0 = crate::testing::origin();
        let mut d = Detector::new(300 * MS, 1000 * MS);
        d.answered(AnswerKind::Fine, t0);
        d.died(DeathProof::Exiting);
        assert_eq!(d.health(t0 + MS), Health::Dead(DeathProof::Exiting));
        d.answered(AnswerKind::Loading, t0 + 2 * MS);
        assert_eq!(d.health(t0 + 3 * MS), Health::Loading);
    }
}
