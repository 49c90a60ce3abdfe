//! Tracking: how checks become weights and faults (keepalived's `track_*`).
//!
//! Pure arithmetic: whoever runs a script, watches an interface or reads a file says what came out,
//! and this says what it does to the priority. One defect of keepalived is not copied: there, one
//! failure before the first success counts at once however large `fall` is; here `fall` counts
//! from the start.

use std::collections::BTreeMap;

use crate::types::Priority;

/// Contributions to the priority, by source.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Weights {
    by_source: BTreeMap<String, i32>,
}

impl Weights {
    /// `source` contributes `delta` from now on; 0 forgets it.
    pub fn set(&mut self, source: String, delta: i32) {
        if delta == 0 {
            self.by_source.remove(&source);
        } else {
            self.by_source.insert(source, delta);
        }
    }

    /// The priority that `base` becomes: an owner's never changes, any other stays within 1..=254,
    /// since 0 and 255 have meanings that no arithmetic may produce.
    pub fn apply(&self, base: Priority) -> u8 {
        if base.is_owner() {
            return base.get();
        }
        let sum: i64 = self.by_source.values().copied().map(i64::from).sum();
        let clamped = (i64::from(base.get()) + sum).clamp(1, 254);
        u8::try_from(clamped).expect("clamped to 1..=254")
    }
}

/// What a tracked object does to its router.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Effect {
    /// FAULT while this lasts.
    Fault,
    /// Added to the priority; 0 for nothing.
    Weight(i32),
}

/// The effect of something that is up or down under `weight`.
///
/// Weight 0: FAULT while down. Positive: added while up. Negative: added, that is subtracted, while
/// down. `reverse` swaps up and down.
pub fn effect(weight: i32, reverse: bool, up: bool) -> Effect {
    let up = up != reverse;
    match (weight, up) {
        (0, false) => Effect::Fault,
        (0, true) => Effect::Weight(0),
        (1.., true) | (..0, false) => Effect::Weight(weight),
        (1.., false) | (..0, true) => Effect::Weight(0),
    }
}

/// The effect of a tracked file's value: FAULT for a value other than 0 under weight 0, and for a
/// product below -253; otherwise value times weight.
pub fn file_effect(value: i64, weight: i32) -> Effect {
    if weight == 0 {
        return if value == 0 {
            Effect::Weight(0)
        } else {
            Effect::Fault
        };
    }
    match value.saturating_mul(weight.into()) {
        ..-253 => Effect::Fault,
        product => Effect::Weight(i32::try_from(product.min(253)).expect("within -253..=253")),
    }
}

/// Whether enough, and not too many, processes run (`track_process`).
pub fn process_up(running: u32, quorum: u32, quorum_max: Option<u32>) -> bool {
    running >= quorum && quorum_max.is_none_or(|max| running <= max)
}

/// Verdict of a script so far.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// Not enough results yet.
    Pending,
    /// Good.
    Up,
    /// Bad.
    Down,
}

/// Rise and fall of one script: consecutive results before the verdict turns.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Counter {
    rise: u32,
    fall: u32,
    verdict: Verdict,
    /// Consecutive results against the verdict; while pending, consecutive failures.
    against: u32,
}

impl Counter {
    /// A script of which nothing is known: the first success makes it [`Verdict::Up`], `fall`
    /// failures in a row make it [`Verdict::Down`]. A `rise` or `fall` of 0 counts as 1.
    pub fn new(rise: u32, fall: u32) -> Self {
        Self {
            rise: rise.max(1),
            fall: fall.max(1),
            verdict: Verdict::Pending,
            against: 0,
        }
    }

    /// A script that is bad until `rise` successes (`init_fail`).
    pub fn failed(rise: u32, fall: u32) -> Self {
        Self {
            verdict: Verdict::Down,
            ..Self::new(rise, fall)
        }
    }

    /// The verdict.
    pub fn verdict(&self) -> Verdict {
        self.verdict
    }

    /// One run ended; a time-out is one failure. The verdict after it, if it turned.
    pub fn record(&mut self, success: bool) -> Option<Verdict> {
        let agrees = match self.verdict {
            Verdict::Up => success,
            Verdict::Down => !success,
            Verdict::Pending => {
                if success {
                    return self.turn(Verdict::Up);
                }
                false
            }
        };
        if agrees {
            self.against = 0;
            return None;
        }
        self.against += 1;
        match self.verdict {
            Verdict::Up | Verdict::Pending if self.against >= self.fall => self.turn(Verdict::Down),
            Verdict::Down if self.against >= self.rise => self.turn(Verdict::Up),
            Verdict::Up | Verdict::Pending | Verdict::Down => None,
        }
    }

    fn turn(&mut self, verdict: Verdict) -> Option<Verdict> {
        self.verdict = verdict;
        self.against = 0;
        Some(verdict)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn base(priority: u8) -> Priority {
        Priority::new(priority).unwrap()
    }

    #[test]
    fn sums_are_clamped_and_owners_left_alone() {
        for (start, deltas, expected) in [
            (100, &[][..], 100),
            (100, &[10, -30], 80),
            (100, &[-200], 1),
            (100, &[200], 254),
            (254, &[1], 254),
            (255, &[-100], 255),
            (100, &[i32::MAX, i32::MAX, i32::MIN], 254),
        ] {
            let mut weights = Weights::default();
            for (index, delta) in deltas.iter().enumerate() {
                weights.set(format!("check {index}"), *delta);
            }
            assert_eq!(weights.apply(base(start)), expected, "{start} {deltas:?}");
        }
    }

    #[test]
    fn a_source_replaces_its_own_weight() {
        let mut weights = Weights::default();
        weights.set("a".into(), -10);
        weights.set("a".into(), -20);
        assert_eq!(weights.apply(base(100)), 80);
        weights.set("a".into(), 0);
        assert_eq!(weights.apply(base(100)), 100);
    }

    #[test]
    fn effects_of_up_and_down() {
        for (weight, reverse, up, expected) in [
            (0, false, false, Effect::Fault),
            (0, false, true, Effect::Weight(0)),
            (0, true, true, Effect::Fault),
            (10, false, true, Effect::Weight(10)),
            (10, false, false, Effect::Weight(0)),
            (-10, false, true, Effect::Weight(0)),
            (-10, false, false, Effect::Weight(-10)),
            (-10, true, true, Effect::Weight(-10)),
        ] {
            assert_eq!(
                effect(weight, reverse, up),
                expected,
                "{weight} {reverse} {up}"
            );
        }
    }

    #[test]
    fn effects_of_a_file() {
        for (value, weight, expected) in [
            (0, 0, Effect::Weight(0)),
            (5, 0, Effect::Fault),
            (2, 10, Effect::Weight(20)),
            (-253, 1, Effect::Weight(-253)),
            (-254, 1, Effect::Fault),
            (1000, 1, Effect::Weight(253)),
            (i64::MIN, 2, Effect::Fault),
        ] {
            assert_eq!(file_effect(value, weight), expected, "{value} * {weight}");
        }
    }

    #[test]
    fn process_quorum() {
        assert!(process_up(1, 1, None) && process_up(2, 1, Some(2)));
        assert!(!process_up(0, 1, None) && !process_up(3, 1, Some(2)));
    }

    /// Each letter is a run: `+` success, `-` failure; beneath it the verdict after the run.
    #[test]
    fn rise_and_fall() {
        let verdicts = |mut counter: Counter, runs: &str| -> String {
            runs.chars()
                .map(|run| {
                    counter.record(run == '+');
                    match counter.verdict() {
                        Verdict::Pending => '?',
                        Verdict::Up => 'U',
                        Verdict::Down => 'D',
                    }
                })
                .collect()
        };
        for (counter, runs, expected) in [
            (Counter::new(1, 1), "+-+", "UDU"),
            (Counter::new(2, 3), "+--+---", "UUUUUUD"),
            (Counter::new(2, 3), "+---+-++", "UUUDDDDU"),
            // keepalived turns down at the first of these; `fall` says three.
            (Counter::new(2, 3), "---++", "??DDU"),
            (Counter::new(2, 3), "--+", "??U"),
            (Counter::failed(2, 3), "+-++", "DDDU"),
            (Counter::new(0, 0), "+-", "UD"),
        ] {
            assert_eq!(verdicts(counter, runs), expected, "{runs}");
        }
    }
}
