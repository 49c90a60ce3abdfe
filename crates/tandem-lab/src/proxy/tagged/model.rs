//! What one client of the tagged workload may be told: its commands, and the judge of their answers.
//!
//! Every key and value carries the tag of its client, and a value its place and number, so an answer that was meant
//! for somebody else, or for another command of the same client, is recognised. For each key the model holds all
//! numbers that its value may have: one, as long as every write was answered; after a write that got an error or no
//! answer, the number before and the one after, until an answer decides. So faults make the model less certain and
//! never wrong, as long as the servers keep what they acknowledged and the proxy executes nothing later than it
//! answers.
//!
//! A client that lost its connection cannot know when its last commands run: it goes on with a model of other keys.

use std::collections::BTreeSet;

use crate::chance::Chance;
use crate::resp::{Reply, encode};

/// Keys of each client that hold texts.
const TEXTS: usize = 24;
/// Keys of each client that hold counters.
const COUNTERS: usize = 2;
/// The most keys in one command.
const KEYS_MAX: usize = 10;

/// One command of a client, by the places of its keys.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Step {
    Ping,
    Get(usize),
    Set(usize, u64),
    Increment(usize),
    Length(usize),
    GetMany(Vec<usize>),
    SetMany(Vec<(usize, u64)>),
    Delete(Vec<usize>),
}

/// What an answer shows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Verdict {
    /// It is the one that was due.
    Exact,
    /// An error: its text. Whether the command ran is unknown.
    Failed(String),
    /// It cannot be the answer to this command: what was due.
    Wrong(String),
}

/// See the module.
#[derive(Debug)]
pub(super) struct Model {
    tag: String,
    value_bytes_max: usize,
    next: u64,
    texts: Vec<BTreeSet<Option<u64>>>,
    counters: Vec<BTreeSet<i64>>,
}

impl Model {
    pub(super) fn new(tag: String, value_bytes_max: usize) -> Self {
        Self {
            tag,
            value_bytes_max,
            next: 1,
            texts: vec![BTreeSet::from([None]); TEXTS],
            counters: vec![BTreeSet::from([0]); COUNTERS],
        }
    }

    /// The next command.
    pub(super) fn plan(&mut self, chance: &mut Chance) -> Step {
        match chance.below(100) {
            0..=3 => Step::Ping,
            4..=33 => Step::Get(chance.below(TEXTS)),
            34..=63 => Step::Set(chance.below(TEXTS), self.number()),
            64..=71 => Step::Increment(chance.below(COUNTERS)),
            72..=75 => Step::Length(chance.below(TEXTS)),
            76..=87 => Step::GetMany(places(chance)),
            88..=93 => {
                let places = places(chance).into_iter();
                Step::SetMany(places.map(|place| (place, self.number())).collect())
            }
            _ => Step::Delete(places(chance)),
        }
    }

    /// The command as it is sent.
    pub(super) fn encode(&self, step: &Step) -> Vec<u8> {
        let keys = |places: &[usize]| places.iter().map(|place| self.key(*place)).collect();
        let (name, arguments): (&str, Vec<String>) = match step {
            Step::Ping => ("PING", Vec::new()),
            Step::Get(place) => ("GET", keys(&[*place])),
            Step::Set(place, number) => {
                ("SET", vec![self.key(*place), self.value(*place, *number)])
            }
            Step::Increment(place) => ("INCR", vec![self.counter(*place)]),
            Step::Length(place) => ("STRLEN", keys(&[*place])),
            Step::GetMany(places) => ("MGET", keys(places)),
            Step::SetMany(pairs) => (
                "MSET",
                pairs
                    .iter()
                    .flat_map(|(place, number)| [self.key(*place), self.value(*place, *number)])
                    .collect(),
            ),
            Step::Delete(places) => ("DEL", keys(places)),
        };
        let words: Vec<&str> = std::iter::once(name)
            .chain(arguments.iter().map(String::as_str))
            .collect();
        encode(&words)
    }

    /// Judges an answer, and learns from it.
    pub(super) fn judge(&mut self, step: &Step, reply: &Reply) -> Verdict {
        if let Reply::Error(text) = reply {
            self.unanswered(step);
            return Verdict::Failed(text.clone());
        }
        match step {
            Step::Ping => exact(reply == &Reply::Simple("PONG".to_owned()), || {
                "PONG".to_owned()
            }),
            Step::Get(place) => self.learn(*place, reply),
            Step::Set(place, number) => {
                self.texts[*place] = BTreeSet::from([Some(*number)]);
                self.accepted(reply)
            }
            Step::SetMany(pairs) => {
                for (place, number) in pairs {
                    self.texts[*place] = BTreeSet::from([Some(*number)]);
                }
                self.accepted(reply)
            }
            Step::Increment(place) => {
                let known = &mut self.counters[*place];
                let due: BTreeSet<i64> = known.iter().map(|value| value + 1).collect();
                match reply {
                    Reply::Integer(value) if due.contains(value) => {
                        *known = BTreeSet::from([*value]);
                        Verdict::Exact
                    }
                    _ => Verdict::Wrong(format!("one of {due:?}")),
                }
            }
            Step::Length(place) => {
                let length = |number: &Option<u64>| {
                    number.map_or(0, |number| self.value(*place, number).len() as i64)
                };
                let due: BTreeSet<i64> = self.texts[*place].iter().map(length).collect();
                let told = matches!(reply, Reply::Integer(length) if due.contains(length));
                exact(told, || format!("one of {due:?}"))
            }
            Step::GetMany(places) => match reply {
                Reply::Array(values) if values.len() == places.len() => places
                    .iter()
                    .zip(values)
                    .map(|(place, value)| self.learn(*place, value))
                    .find(|verdict| *verdict != Verdict::Exact)
                    .unwrap_or(Verdict::Exact),
                _ => Verdict::Wrong(format!("{} values", places.len())),
            },
            Step::Delete(places) => {
                let surely = |known: &BTreeSet<Option<u64>>| !known.contains(&None);
                let perhaps = |known: &BTreeSet<Option<u64>>| known.iter().any(Option::is_some);
                let count = |of: &dyn Fn(&BTreeSet<Option<u64>>) -> bool| {
                    let counted = places.iter().filter(|place| of(&self.texts[**place]));
                    counted.count() as i64
                };
                let due = count(&surely)..=count(&perhaps);
                for place in places {
                    self.texts[*place] = BTreeSet::from([None]);
                }
                let told = matches!(reply, Reply::Integer(count) if due.contains(count));
                exact(told, || format!("a count in {due:?}"))
            }
        }
    }

    /// No answer came, or an error: the command may have run.
    pub(super) fn unanswered(&mut self, step: &Step) {
        match step {
            Step::Ping | Step::Get(_) | Step::GetMany(_) | Step::Length(_) => {}
            Step::Set(place, number) => {
                self.texts[*place].insert(Some(*number));
            }
            Step::SetMany(pairs) => {
                for (place, number) in pairs {
                    self.texts[*place].insert(Some(*number));
                }
            }
            Step::Increment(place) => {
                let known = &mut self.counters[*place];
                let more: Vec<i64> = known.iter().map(|value| value + 1).collect();
                known.extend(more);
            }
            Step::Delete(places) => {
                for place in places {
                    self.texts[*place].insert(None);
                }
            }
        }
    }

    /// A value that was read must be one that may be there, to the byte; from then on it is the one that is there.
    fn learn(&mut self, place: usize, reply: &Reply) -> Verdict {
        let read = match reply {
            Reply::Bulk(None) => None,
            Reply::Bulk(Some(bytes)) => Some(bytes),
            Reply::Simple(_) | Reply::Error(_) | Reply::Integer(_) | Reply::Array(_) => {
                return Verdict::Wrong("a bulk string or nil".to_owned());
            }
        };
        let known = &self.texts[place];
        let found = known.iter().find(|number| match (number, read) {
            (None, None) => true,
            (Some(number), Some(bytes)) => self.value(place, *number).as_bytes() == bytes,
            (None, Some(_)) | (Some(_), None) => false,
        });
        match found.copied() {
            Some(number) => {
                self.texts[place] = BTreeSet::from([number]);
                Verdict::Exact
            }
            None => Verdict::Wrong(format!("one of {known:?} at {}", self.key(place))),
        }
    }

    fn accepted(&self, reply: &Reply) -> Verdict {
        exact(reply == &Reply::Simple("OK".to_owned()), || "OK".to_owned())
    }

    fn number(&mut self) -> u64 {
        self.next += 1;
        self.next
    }

    fn key(&self, place: usize) -> String {
        format!("{}:{place}", self.tag)
    }

    fn counter(&self, place: usize) -> String {
        format!("{}:n{place}", self.tag)
    }

    /// Tag, place and number, then more of the same letter: most values are short, some are long.
    fn value(&self, place: usize, number: u64) -> String {
        let mut text = format!("{}:{place}:{number}:", self.tag);
        let mut chance = Chance::new(number);
        let most = match chance.below(20) {
            0 => self.value_bytes_max,
            1..=4 => self.value_bytes_max.min(1024),
            _ => self.value_bytes_max.min(64),
        };
        let letter = b'a' + (number % 26) as u8;
        let length = chance.below(most + 1);
        text.extend(std::iter::repeat_n(char::from(letter), length));
        text
    }
}

impl Step {
    /// The command's name.
    pub(super) fn name(&self) -> &'static str {
        match self {
            Self::Ping => "PING",
            Self::Get(_) => "GET",
            Self::Set(..) => "SET",
            Self::Increment(_) => "INCR",
            Self::Length(_) => "STRLEN",
            Self::GetMany(_) => "MGET",
            Self::SetMany(_) => "MSET",
            Self::Delete(_) => "DEL",
        }
    }
}

fn exact(told: bool, due: impl FnOnce() -> String) -> Verdict {
    if told {
        Verdict::Exact
    } else {
        Verdict::Wrong(due())
    }
}

/// Some places, none of them twice: what a command says twice, proxies and servers count differently.
fn places(chance: &mut Chance) -> Vec<usize> {
    let mut all: Vec<usize> = (0..TEXTS).collect();
    let count = 1 + chance.below(KEYS_MAX);
    (0..count)
        .map(|_| all.swap_remove(chance.below(all.len())))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn model() -> Model {
        Model::new("t1.0".to_owned(), 2000)
    }

    fn bulk(text: &str) -> Reply {
        Reply::Bulk(Some(text.as_bytes().to_vec()))
    }

    fn ok() -> Reply {
        Reply::Simple("OK".to_owned())
    }

    #[test]
    fn only_the_value_that_was_written_last_is_exact() {
        let mut model = model();
        assert_eq!(
            model.judge(&Step::Get(3), &Reply::Bulk(None)),
            Verdict::Exact
        );
        for number in [5, 6] {
            assert_eq!(model.judge(&Step::Set(3, number), &ok()), Verdict::Exact);
        }
        let (older, value) = (model.value(3, 5), model.value(3, 6));
        assert_eq!(model.judge(&Step::Get(3), &bulk(&value)), Verdict::Exact);
        let stranger = value.replace("t1.0", "t2.0");
        let (elsewhere, cut) = (model.value(4, 6), value[..value.len() - 1].to_owned());
        for other in [older, stranger, elsewhere, cut, String::new()] {
            let verdict = model.judge(&Step::Get(3), &bulk(&other));
            assert!(matches!(verdict, Verdict::Wrong(_)), "{other}");
        }
        for other in [Reply::Bulk(None), ok(), Reply::Integer(1)] {
            let verdict = model.judge(&Step::Get(3), &other);
            assert!(matches!(verdict, Verdict::Wrong(_)), "{other:?}");
        }
    }

    #[test]
    fn a_write_without_an_answer_leaves_both_until_a_read_decides() {
        let mut model = model();
        model.judge(&Step::Set(0, 5), &ok());
        model.unanswered(&Step::Set(0, 6));
        let failed = model.judge(&Step::Delete(vec![0]), &Reply::Error("ERR x".to_owned()));
        assert_eq!(failed, Verdict::Failed("ERR x".to_owned()));
        assert_eq!(model.texts[0], BTreeSet::from([None, Some(5), Some(6)]));
        let value = model.value(0, 6);
        assert_eq!(model.judge(&Step::Get(0), &bulk(&value)), Verdict::Exact);
        let older = model.value(0, 5);
        let verdict = model.judge(&Step::Get(0), &bulk(&older));
        assert!(
            matches!(verdict, Verdict::Wrong(_)),
            "time does not go back"
        );
    }

    #[test]
    fn counts_are_exact_where_everything_is_known_and_a_range_where_not() {
        let mut model = model();
        model.judge(&Step::SetMany(vec![(0, 5), (1, 6)]), &ok());
        let delete = Step::Delete(vec![0, 1, 2]);
        assert_eq!(model.judge(&delete, &Reply::Integer(2)), Verdict::Exact);
        assert!(matches!(
            model.judge(&delete, &Reply::Integer(2)),
            Verdict::Wrong(_)
        ));
        model.unanswered(&Step::Set(0, 7));
        assert_eq!(model.judge(&delete, &Reply::Integer(1)), Verdict::Exact);
    }

    #[test]
    fn counters_go_up_by_one_and_by_no_more_than_was_asked() {
        let mut model = model();
        let step = Step::Increment(1);
        assert_eq!(model.judge(&step, &Reply::Integer(1)), Verdict::Exact);
        model.unanswered(&step);
        assert_eq!(model.judge(&step, &Reply::Integer(3)), Verdict::Exact);
        for wrong in [3, 5] {
            let verdict = model.judge(&step, &Reply::Integer(wrong));
            assert!(matches!(verdict, Verdict::Wrong(_)), "{wrong}");
        }
    }

    #[test]
    fn arrays_answer_key_by_key_in_order() {
        let mut model = model();
        model.judge(&Step::SetMany(vec![(0, 5), (1, 6)]), &ok());
        let (first, second) = (bulk(&model.value(0, 5)), bulk(&model.value(1, 6)));
        let step = Step::GetMany(vec![1, 0]);
        let right = Reply::Array(vec![second.clone(), first.clone()]);
        assert_eq!(model.judge(&step, &right), Verdict::Exact);
        for wrong in [vec![first.clone(), second], vec![first]] {
            let verdict = model.judge(&step, &Reply::Array(wrong));
            assert!(matches!(verdict, Verdict::Wrong(_)));
        }
    }

    #[test]
    fn the_plan_meets_every_command_and_never_names_a_key_twice() {
        let (mut model, mut chance) = (model(), Chance::new(1));
        let mut names = BTreeSet::new();
        for _ in 0..2000 {
            let step = model.plan(&mut chance);
            names.insert(step.name());
            let places = match &step {
                Step::GetMany(places) | Step::Delete(places) => places.clone(),
                Step::SetMany(pairs) => pairs.iter().map(|(place, _)| *place).collect(),
                Step::Ping
                | Step::Get(_)
                | Step::Set(..)
                | Step::Increment(_)
                | Step::Length(_) => Vec::new(),
            };
            let distinct: BTreeSet<_> = places.iter().collect();
            assert_eq!(distinct.len(), places.len(), "{step:?}");
        }
        assert_eq!(names.len(), 8, "{names:?}");
    }
}
