//! Which commands a sentinel knows, how many arguments each takes, and who may call it by category.
//!
//! The table is what a real redis-sentinel 7.0.15 says of itself in `COMMAND INFO` and `COMMAND DOCS` (names, arity, flags,
//! categories, versions); the summaries are ours. Commands that only later versions or Valkey know, or that a sentinel
//! refuses although clients try them (`SELECT 0`, `ECHO`), are in it too, marked as not listed: they run, and `COMMAND` is
//! silent about them, so that its count stays the one that clients and test suites expect.

mod arguments;
mod bits;
mod describe;
mod extras;
mod table;

pub(crate) use describe::{count, docs, help, info, keys, list};

use tandem_core::sentinel::settings::Compat;

use extras::EXTRAS;
use table::LISTED;

/// One command, or one subcommand of a container.
#[derive(Debug)]
pub(crate) struct Entry {
    /// Lower case; a subcommand is written `container|name`.
    pub(crate) name: &'static str,
    /// Number of arguments, the name (and container) included; a negative one is the least number.
    pub(crate) arity: i32,
    /// As `COMMAND INFO` names them.
    pub(crate) flags: &'static [&'static str],
    /// Bits by position in [`CATEGORIES`].
    pub(crate) categories: u32,
    /// As `COMMAND INFO` names them.
    pub(crate) tips: &'static [&'static str],
    /// One line for people.
    pub(crate) summary: &'static str,
    /// The Redis version that brought it.
    pub(crate) since: &'static str,
    /// The documentation's group of commands.
    pub(crate) group: &'static str,
    /// Cost, as the documentation gives it; empty where it gives none.
    pub(crate) complexity: &'static str,
    /// Whether `COMMAND` speaks of it.
    pub(crate) listed: Listed,
    /// The command whose permission it goes by; its own for those that are listed.
    pub(crate) as_if: &'static str,
}

/// Whether `COMMAND` speaks of a command.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Listed {
    /// As a sentinel of 7.0 does.
    Always,
    /// As one of 7.2 does: `# tandem: compat 7.2`.
    From7_2,
    /// It runs, and nobody speaks of it.
    Never,
}

/// A command by its place in the table.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct CommandId(u8);

/// ACL categories in the order of Redis' own list, which its replies keep.
pub(crate) const CATEGORIES: [&str; 21] = [
    "keyspace",
    "read",
    "write",
    "set",
    "sortedset",
    "list",
    "hash",
    "string",
    "bitmap",
    "hyperloglog",
    "geo",
    "stream",
    "pubsub",
    "admin",
    "fast",
    "slow",
    "blocking",
    "dangerous",
    "connection",
    "transaction",
    "scripting",
];

const _: () = assert!(LISTED.len() + EXTRAS.len() <= 128);

/// What a request's first words stand for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Lookup {
    /// A command or subcommand.
    Known(CommandId),
    /// No such command.
    UnknownCommand,
    /// The container is known, its subcommand is not.
    UnknownSubcommand,
}

impl CommandId {
    /// All of them, in the table's order: a container before its subcommands.
    pub(crate) fn all() -> impl Iterator<Item = Self> {
        // At most 128, so that a set of them is a number; the assertion below holds that.
        #[allow(clippy::cast_possible_truncation)]
        (0..(LISTED.len() + EXTRAS.len()) as u8).map(Self)
    }

    /// What the table says.
    pub(crate) fn entry(self) -> &'static Entry {
        let at = usize::from(self.0);
        LISTED.get(at).unwrap_or_else(|| &EXTRAS[at - LISTED.len()])
    }

    /// The command's bit in a set of commands.
    pub(crate) fn bit(self) -> u128 {
        1 << self.0
    }

    /// The command whose permission decides about this one.
    pub(crate) fn permission(self) -> Self {
        match self.entry().as_if {
            "" => self,
            like => Self::by_name(like.as_bytes()).unwrap_or(self),
        }
    }

    /// The subcommands of a container; none for any other command.
    pub(crate) fn subcommands(self) -> impl Iterator<Item = Self> {
        let name = self.entry().name;
        Self::all().filter(move |id| id.entry().container() == Some(name))
    }

    /// Whether it has subcommands.
    pub(crate) fn is_container(self) -> bool {
        self.subcommands().next().is_some()
    }

    /// By its full name: `ping`, `acl|cat`; in any case.
    pub(crate) fn by_name(name: &[u8]) -> Option<Self> {
        Self::all().find(|id| id.entry().name.as_bytes().eq_ignore_ascii_case(name))
    }
}

impl Entry {
    /// The command that this is a subcommand of.
    pub(crate) fn container(&self) -> Option<&'static str> {
        self.name.split_once('|').map(|(container, _)| container)
    }

    /// Whether a sentinel of 7.0 has it, so that rules about permissions are about it.
    pub(crate) fn is_listed(&self) -> bool {
        self.is_listed_in(Compat::V7_0)
    }

    /// Whether `COMMAND` of this version speaks of it.
    pub(crate) fn is_listed_in(&self, compat: Compat) -> bool {
        match self.listed {
            Listed::Always => true,
            Listed::From7_2 => compat >= Compat::V7_2,
            Listed::Never => false,
        }
    }

    /// The arity as this version tells it. 7.2 counts the parameter of SENTINEL CONFIG in; what it is called with is
    /// refused all the same, only by another check.
    fn arity_in(&self, compat: Compat) -> i32 {
        if compat >= Compat::V7_2 && self.name == "sentinel|config" {
            return self.arity - 1;
        }
        self.arity
    }

    /// Whether it carries this flag.
    pub(crate) fn has_flag(&self, flag: &str) -> bool {
        self.flags.contains(&flag)
    }

    /// Whether it belongs to the category at this position of [`CATEGORIES`].
    pub(crate) fn in_category(&self, index: usize) -> bool {
        self.categories & (1 << index) != 0
    }

    /// Whether so many arguments, the names included, will do.
    pub(crate) fn takes(&self, args: usize) -> bool {
        let least = usize::try_from(self.arity.unsigned_abs()).unwrap_or(usize::MAX);
        if self.arity >= 0 {
            args == least
        } else {
            args >= least
        }
    }
}

/// The position of a category's name, in any case.
pub(crate) fn category(name: &[u8]) -> Option<usize> {
    CATEGORIES
        .iter()
        .position(|known| known.as_bytes().eq_ignore_ascii_case(name))
}

/// Finds the command of a request. A container without a further word stands for itself, and its arity then refuses it.
pub(crate) fn lookup<A: AsRef<[u8]>>(argv: &[A]) -> Lookup {
    let Some(name) = argv.first() else {
        return Lookup::UnknownCommand;
    };
    // A bar would reach a subcommand through the front door.
    let Some(id) = CommandId::by_name(name.as_ref()).filter(|_| !name.as_ref().contains(&b'|'))
    else {
        return Lookup::UnknownCommand;
    };
    let Some(sub) = argv.get(1).filter(|_| id.is_container()) else {
        return Lookup::Known(id);
    };
    let sub = sub.as_ref();
    id.subcommands()
        .find(|id| {
            let name = id.entry().name;
            let at = name.find('|').map_or(0, |bar| bar + 1);
            name.as_bytes()[at..].eq_ignore_ascii_case(sub)
        })
        .map_or(Lookup::UnknownSubcommand, Lookup::Known)
}

/// Text up to its first NUL and to 128 bytes: what C's `%.128s` would print.
fn excerpt(text: &[u8], most: usize) -> &[u8] {
    let text = &text[..text.len().min(most)];
    let end = text.iter().position(|byte| *byte == 0);
    &text[..end.unwrap_or(text.len())]
}

/// The error for a request whose words are not in the table, without its code.
pub(crate) fn unknown<A: AsRef<[u8]>>(argv: &[A], found: Lookup) -> Vec<u8> {
    let word = |at: usize| argv.get(at).map_or(&b""[..], AsRef::as_ref);
    match found {
        Lookup::UnknownSubcommand => [
            b"unknown subcommand '",
            excerpt(word(1), 128),
            b"'. Try ",
            &word(0).to_ascii_uppercase(),
            b" HELP.",
        ]
        .concat(),
        Lookup::UnknownCommand | Lookup::Known(_) => {
            let mut args = Vec::new();
            for arg in argv.iter().skip(1) {
                if args.len() >= 128 {
                    break;
                }
                let room = 128 - args.len();
                args.push(b'\'');
                args.extend_from_slice(excerpt(arg.as_ref(), room));
                args.extend_from_slice(b"' ");
            }
            [
                b"unknown command '",
                excerpt(word(0), 128),
                b"', with args beginning with: ",
                &args,
            ]
            .concat()
        }
    }
}

/// The most words of a request, its names included, where the arity alone allows more than the command knows.
pub(crate) fn most_words(entry: &Entry) -> usize {
    match entry.name {
        "acl|cat" | "acl|genpass" | "acl|log" => 3,
        "client|pause" | "client|unblock" => 4,
        _ => usize::MAX,
    }
}

/// The error for too many words, without its code.
pub(crate) fn too_many<A: AsRef<[u8]>>(argv: &[A]) -> Vec<u8> {
    let word = |at: usize| argv.get(at).map_or(&b""[..], AsRef::as_ref);
    [
        b"unknown subcommand or wrong number of arguments for '",
        excerpt(word(1), 128),
        b"'. Try ",
        &word(0).to_ascii_uppercase(),
        b" HELP.",
    ]
    .concat()
}

/// The error for a wrong number of arguments, without its code.
pub(crate) fn wrong_arity(entry: &Entry) -> String {
    format!("wrong number of arguments for '{}' command", entry.name)
}

#[cfg(test)]
mod tests;
