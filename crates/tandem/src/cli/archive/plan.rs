//! What of a tail could be replayed, before anybody is asked which keys exist.
//!
//! Keys that occur in one command or one transaction belong together, and so do, in turn, those that occur with them
//! elsewhere: such a *bundle* is replayed whole and in order, or not at all. Half of a rename or of a transaction would be
//! data that no client ever wrote. Commands before a FLUSHALL or FLUSHDB were undone by it and are left out.

use std::collections::BTreeMap;

use tandem_resp::stream::{Class, Grouping};

use super::commands::{TailCommand, TailFile, TailFileError};
use super::keys::{Touches, touches};

/// More keys than this are not planned for: the plan is held in memory.
const KEYS_MAX: usize = 1_000_000;
/// As [`KEYS_MAX`], for commands.
const COMMANDS_MAX: usize = 10_000_000;

/// A key in its database.
pub(super) type Key = (u32, Vec<u8>);

/// Where a command is in the file, and the database in which it runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Place {
    pub(super) at: u64,
    pub(super) len: u64,
    pub(super) db: u32,
}

/// Keys and commands that are replayed together or not at all.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Bundle {
    /// Ordered by database and name.
    pub(super) keys: Vec<Key>,
    /// In the order of the tail.
    pub(super) commands: Vec<Place>,
    /// Holds a command whose keys are not known.
    pub(super) unknown: bool,
}

impl Bundle {
    /// Bytes of its commands.
    pub(super) fn bytes(&self) -> u64 {
        self.commands.iter().map(|place| place.len).sum()
    }
}

/// Commands that are not replayed, whatever the primary holds.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Left {
    /// PUBLISH and the like.
    pub(super) without_key: u64,
    /// Undone by a later FLUSHALL or FLUSHDB, and these themselves.
    pub(super) wiped: u64,
    /// Before the first SELECT of a tail whose first database is not known.
    pub(super) unknown_db: u64,
    /// In a transaction whose EXEC is not in the tail: never carried out.
    pub(super) unfinished: u64,
}

/// What could be replayed.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Plan {
    /// In the order of their first commands.
    pub(super) bundles: Vec<Bundle>,
    /// What could not.
    pub(super) left: Left,
}

/// Why there is no plan.
#[derive(Debug, thiserror::Error)]
pub(super) enum PlanError {
    /// The tail cannot be read.
    #[error(transparent)]
    Tail(#[from] TailFileError),
    /// The tail is too large for it.
    #[error("the tail has more than {0}; replay it by hand, the file holds plain commands")]
    TooLarge(&'static str),
}

/// The last commands that wiped databases: what comes before them in the file is gone.
#[derive(Debug, Default)]
struct Wipes {
    all: Option<u64>,
    one: BTreeMap<Option<u32>, u64>,
}

impl Wipes {
    fn covers(&self, at: u64, db: Option<u32>) -> bool {
        self.all.is_some_and(|wipe| at <= wipe) || self.one.get(&db).is_some_and(|wipe| at <= *wipe)
    }
}

/// Reads the tail twice, by two readers of the same file: for what wipes, and for the rest.
pub(super) fn plan(mut first: TailFile, mut second: TailFile) -> Result<Plan, PlanError> {
    let mut wipes = Wipes::default();
    while let Some(command) = first.next()? {
        if let Touches::Wipes { all } = touches(&command.args()) {
            if all {
                wipes.all = Some(command.at);
            } else {
                wipes.one.insert(command.entry.db, command.at);
            }
        }
    }
    let mut planner = Planner {
        wipes,
        ..Planner::default()
    };
    while let Some(command) = second.next()? {
        planner.take(&command)?;
    }
    Ok(planner.finish())
}

/// A command of a transaction that is still open, or one alone.
struct Step {
    keys: Vec<usize>,
    place: Place,
    unknown: bool,
}

#[derive(Default)]
struct Planner {
    wipes: Wipes,
    numbers: BTreeMap<Key, usize>,
    /// Union-find over keys: the parent of each.
    parents: Vec<usize>,
    steps: Vec<Step>,
    open: Vec<Step>,
    left: Left,
}

impl Planner {
    fn take(&mut self, command: &TailCommand<'_>) -> Result<(), PlanError> {
        if command.entry.class == Class::Data
            && let Some(step) = self.step(command)?
        {
            self.open.push(step);
        }
        match command.entry.grouping {
            Grouping::Opens | Grouping::Inside => {}
            Grouping::Alone | Grouping::Closes => {
                let done = std::mem::take(&mut self.open);
                let mut all = done.iter().flat_map(|step| step.keys.iter().copied());
                if let Some(one) = all.next() {
                    let others: Vec<usize> = all.collect();
                    for other in others {
                        self.join(one, other);
                    }
                }
                self.steps.extend(done);
            }
        }
        Ok(())
    }

    /// The command as a step; `None` if it is left out, which is counted.
    fn step(&mut self, command: &TailCommand<'_>) -> Result<Option<Step>, PlanError> {
        if self.steps.len() + self.open.len() >= COMMANDS_MAX {
            return Err(PlanError::TooLarge("ten million commands"));
        }
        if matches!(command.entry.grouping, Grouping::Opens | Grouping::Closes) {
            return Ok(None);
        }
        let args = command.args();
        let here = command.entry.db;
        let key = |index: usize, db: Option<u32>| (db, args[index].to_vec());
        let (touched, unknown) = match touches(&args) {
            Touches::Keys(indices) => (
                indices
                    .into_iter()
                    .map(|index| key(index, here))
                    .collect::<Vec<_>>(),
                false,
            ),
            Touches::KeyAndDb(there) => (vec![key(1, here), key(1, Some(there))], false),
            Touches::KeysAcross(there) => (vec![key(1, here), key(2, Some(there))], false),
            Touches::Unknown => (
                (1..args.len()).map(|index| key(index, here)).collect(),
                true,
            ),
            Touches::NoKey => (Vec::new(), false),
            Touches::Wipes { all: _ } => {
                self.left.wiped += 1;
                return Ok(None);
            }
        };
        if touched.is_empty() {
            self.left.without_key += 1;
            return Ok(None);
        }
        let wiped = touched
            .iter()
            .filter(|(db, _)| self.wipes.covers(command.at, *db))
            .count();
        if wiped == touched.len() {
            self.left.wiped += 1;
            return Ok(None);
        }
        let Some(db) = here else {
            self.left.unknown_db += 1;
            return Ok(None);
        };
        let mut keys = Vec::with_capacity(touched.len());
        for (key_db, name) in touched {
            keys.push(self.number((key_db.unwrap_or(db), name))?);
        }
        let place = Place {
            at: command.at,
            len: command.bytes.len() as u64,
            db,
        };
        // Undone in one database and not in the other: what is left of it cannot be told.
        Ok(Some(Step {
            keys,
            place,
            unknown: unknown || wiped > 0,
        }))
    }

    fn number(&mut self, key: Key) -> Result<usize, PlanError> {
        if let Some(number) = self.numbers.get(&key) {
            return Ok(*number);
        }
        let number = self.parents.len();
        if number >= KEYS_MAX {
            return Err(PlanError::TooLarge("a million keys"));
        }
        self.parents.push(number);
        self.numbers.insert(key, number);
        Ok(number)
    }

    fn root(&mut self, mut key: usize) -> usize {
        while self.parents[key] != key {
            // Halving the path keeps later walks short.
            self.parents[key] = self.parents[self.parents[key]];
            key = self.parents[key];
        }
        key
    }

    fn join(&mut self, a: usize, b: usize) {
        let (a, b) = (self.root(a), self.root(b));
        self.parents[b] = a;
    }

    fn finish(mut self) -> Plan {
        self.left.unfinished += self.open.len() as u64;
        let mut numbers: BTreeMap<usize, usize> = BTreeMap::new();
        let mut bundles: Vec<Bundle> = Vec::new();
        for step in std::mem::take(&mut self.steps) {
            let root = self.root(step.keys[0]);
            let number = *numbers.entry(root).or_insert_with(|| {
                bundles.push(Bundle::default());
                bundles.len() - 1
            });
            bundles[number].commands.push(step.place);
            bundles[number].unknown |= step.unknown;
        }
        for (key, number) in std::mem::take(&mut self.numbers) {
            let root = self.root(number);
            // A key of an unfinished transaction only has no bundle.
            if let Some(bundle) = numbers.get(&root) {
                bundles[*bundle].keys.push(key);
            }
        }
        Plan {
            bundles,
            left: self.left,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tandem_resp::encode_command;

    fn planned(lines: &[&str], first_db: Option<u32>) -> Plan {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("tail.resp");
        let mut bytes = Vec::new();
        for line in lines {
            let args: Vec<&str> = line.split(' ').collect();
            encode_command(&args, &mut bytes);
        }
        std::fs::write(&path, &bytes).unwrap();
        let open = || TailFile::open(&path, first_db).unwrap();
        plan(open(), open()).unwrap()
    }

    /// Each bundle as `keys: number of commands`, a mark for unknown ones.
    fn shape(plan: &Plan) -> Vec<String> {
        let name = |(db, key): &Key| format!("{db}/{}", String::from_utf8_lossy(key));
        plan.bundles
            .iter()
            .map(|bundle| {
                let keys: Vec<String> = bundle.keys.iter().map(name).collect();
                let mark = if bundle.unknown { "?" } else { "" };
                format!("{}: {}{mark}", keys.join(" "), bundle.commands.len())
            })
            .collect()
    }

    #[test]
    fn a_key_keeps_its_commands_in_order() {
        let plan = planned(
            &["SELECT 0", "RPUSH l 1", "SET s x", "RPUSH l 2", "PING"],
            None,
        );
        assert_eq!(shape(&plan), ["0/l: 2", "0/s: 1"]);
        let places = &plan.bundles[0].commands;
        assert!(places[0].at < places[1].at);
        assert_eq!(plan.left, Left::default());
    }

    #[test]
    fn keys_that_meet_anywhere_belong_together() {
        let plan = planned(
            &[
                "SELECT 0",
                "SET a 1",
                "SET b 1",
                "SET c 1",
                "RENAME a b",
                "SET d 1",
                "SMOVE c d x",
            ],
            None,
        );
        assert_eq!(shape(&plan), ["0/a 0/b: 3", "0/c 0/d: 3"]);
    }

    #[test]
    fn a_transaction_is_one_and_an_unfinished_one_is_none() {
        let plan = planned(
            &[
                "SELECT 0",
                "MULTI",
                "SET a 1",
                "PUBLISH c x",
                "SET b 1",
                "EXEC",
                "MULTI",
                "SET z 1",
            ],
            None,
        );
        assert_eq!(shape(&plan), ["0/a 0/b: 2"]);
        let left = Left {
            without_key: 1,
            unfinished: 1,
            ..Left::default()
        };
        assert_eq!(plan.left, left);
    }

    #[test]
    fn databases_are_apart() {
        let lines = ["SET k 1", "SELECT 3", "SET k 2", "MOVE m 5"];
        let plan = planned(&lines, Some(1));
        assert_eq!(shape(&plan), ["1/k: 1", "3/k: 1", "3/m 5/m: 1"]);
        let plan = planned(&lines, None);
        assert_eq!(shape(&plan), ["3/k: 1", "3/m 5/m: 1"]);
        assert_eq!(plan.left.unknown_db, 1);
    }

    #[test]
    fn what_was_wiped_stays_wiped() {
        let plan = planned(
            &[
                "SELECT 0", "SET a 1", "SELECT 1", "SET a 1", "FLUSHDB", "SET b 1", "SELECT 0",
                "SET c 1",
            ],
            None,
        );
        assert_eq!(shape(&plan), ["0/a: 1", "1/b: 1", "0/c: 1"]);
        assert_eq!(plan.left.wiped, 2);
        let plan = planned(&["SELECT 0", "SET a 1", "FLUSHALL", "SET a 2"], None);
        assert_eq!(shape(&plan), ["0/a: 1"]);
    }

    #[test]
    fn a_command_that_nobody_knows_spoils_what_it_may_touch() {
        let plan = planned(&["SELECT 0", "SET a 1", "JSON.SET a $ 1", "SET b 1"], None);
        assert_eq!(shape(&plan), ["0/$ 0/1 0/a: 2?", "0/b: 1"]);
    }
}
