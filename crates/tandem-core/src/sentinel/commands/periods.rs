//! `SENTINEL DEBUG`: the periods, shown and changed at run time.

use std::time::Duration;

use tandem_resp::Value;

use crate::sentinel::commands::error::{CommandError, echo};
use crate::sentinel::commands::instance::Fields;
use crate::sentinel::commands::parse::integer;
use crate::sentinel::commands::{Change, TIME_MAX};
use crate::sentinel::settings::Periods;

/// A period's name, as it is shown, and where it is kept.
struct Knob {
    name: &'static str,
    of: fn(&mut Periods) -> &mut Duration,
}

const fn knob(name: &'static str, of: fn(&mut Periods) -> &mut Duration) -> Knob {
    Knob { name, of }
}

/// In the order of the reply.
const KNOBS: [Knob; 13] = [
    knob("INFO-PERIOD", |p| &mut p.info),
    knob("PING-PERIOD", |p| &mut p.ping),
    knob("ASK-PERIOD", |p| &mut p.ask),
    knob("PUBLISH-PERIOD", |p| &mut p.publish),
    knob("DEFAULT-DOWN-AFTER", |p| &mut p.default_down_after),
    knob("DEFAULT-FAILOVER-TIMEOUT", |p| {
        &mut p.default_failover_timeout
    }),
    knob("TILT-TRIGGER", |p| &mut p.tilt_trigger),
    knob("TILT-PERIOD", |p| &mut p.tilt_period),
    knob("SLAVE-RECONF-TIMEOUT", |p| &mut p.slave_reconf_timeout),
    knob("MIN-LINK-RECONNECT-PERIOD", |p| &mut p.min_link_reconnect),
    knob("ELECTION-TIMEOUT", |p| &mut p.election_timeout),
    knob("SCRIPT-MAX-RUNTIME", |p| &mut p.script_max_runtime),
    knob("SCRIPT-RETRY-DELAY", |p| &mut p.script_retry_delay),
];

/// One period's new length.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PeriodChange {
    /// Its place in the table above.
    knob: usize,
    to: Duration,
}

impl PeriodChange {
    /// Puts the new length in its place.
    pub fn apply(self, periods: &mut Periods) {
        *(KNOBS[self.knob].of)(periods) = self.to;
    }
}

/// All periods in milliseconds.
pub(super) fn reply(periods: &Periods) -> Value {
    let mut periods = periods.clone();
    let mut fields = Fields::default();
    for knob in &KNOBS {
        fields.number(knob.name, (knob.of)(&mut periods).as_millis());
    }
    fields.map()
}

/// Names and lengths, up to the first that is wrong: those before it are changed all the same.
pub(super) fn change(words: &[Vec<u8>]) -> Change {
    let mut changes = Vec::new();
    let mut words = words.iter();
    let error = loop {
        let Some(option) = words.next() else {
            break None;
        };
        let knob = KNOBS
            .iter()
            .position(|knob| option.eq_ignore_ascii_case(knob.name.as_bytes()));
        let (Some(knob), Some(value)) = (knob, words.next()) else {
            break Some(CommandError::DebugOption(echo(option)));
        };
        let Some(to) = time(value).filter(|to| !to.is_zero()) else {
            break Some(CommandError::DebugValue {
                value: echo(value),
                option: echo(option),
            });
        };
        changes.push(PeriodChange { knob, to });
    };
    Change::Periods { changes, error }
}

/// Milliseconds, not negative; at most [`TIME_MAX`].
pub(super) fn time(word: &[u8]) -> Option<Duration> {
    let millis = u64::try_from(integer(word)?).ok()?;
    Some(Duration::from_millis(millis).min(TIME_MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ask(line: &str) -> (Periods, Option<String>) {
        let words: Vec<_> = line
            .split(' ')
            .map(|word| word.as_bytes().to_vec())
            .collect();
        let Change::Periods { changes, error } = change(&words) else {
            panic!("no change of periods");
        };
        let mut periods = Periods::default();
        for change in changes {
            change.apply(&mut periods);
        }
        (periods, error.map(|error| error.to_string()))
    }

    #[test]
    fn every_period_has_its_own_place() {
        for (at, knob) in KNOBS.iter().enumerate() {
            let (periods, error) = ask(&format!("{} 7", knob.name.to_lowercase()));
            assert_eq!(error, None, "{}", knob.name);
            let (Value::Map(before), Value::Map(after)) =
                (reply(&Periods::default()), reply(&periods))
            else {
                panic!("no maps");
            };
            let changed: Vec<_> = (0..KNOBS.len())
                .filter(|&at| before[at] != after[at])
                .collect();
            assert_eq!(changed, [at], "{}", knob.name);
            assert_eq!(after[at].1.as_integer(), Some(7));
        }
    }

    #[test]
    fn what_stands_before_an_error_counts() {
        let unknown = "ERR Unknown option or number of arguments for SENTINEL DEBUG";
        let invalid = "ERR Invalid argument";
        let table = [
            ("ping-period 10 nonsense 5", format!("{unknown} 'nonsense'")),
            (
                "ping-period 10 info-period",
                format!("{unknown} 'info-period'"),
            ),
            (
                "PING-PERIOD 10 Info-Period 0",
                format!("{invalid} '0' for SENTINEL DEBUG 'Info-Period'"),
            ),
            (
                "ping-period 10 info-period -5",
                format!("{invalid} '-5' for SENTINEL DEBUG 'info-period'"),
            ),
            (
                "ping-period 10 info-period 1s",
                format!("{invalid} '1s' for SENTINEL DEBUG 'info-period'"),
            ),
        ];
        for (line, expected) in table {
            let (periods, error) = ask(line);
            assert_eq!(error, Some(expected), "{line}");
            assert_eq!(periods.ping, Duration::from_millis(10), "{line}");
            assert_eq!(periods.info, Periods::default().info, "{line}");
        }
    }

    #[test]
    fn no_time_is_longer_than_a_century() {
        let (periods, error) = ask("tilt-period 9223372036854775807");
        assert_eq!((periods.tilt_period, error), (TIME_MAX, None));
    }
}
