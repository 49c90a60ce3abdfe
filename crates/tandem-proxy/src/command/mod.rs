//! What the proxy must know of a command before it forwards it: where its keys are, whether it may be cut, repeated, or has
//! to be refused.
//!
//! The table is generated from what real servers answer to `COMMAND` (see `xtask/src/commands`), because tables kept
//! by hand go wrong in silence: a write that is taken for a read ends on a replica. Commands of newer servers that the table
//! lacks are unknown here and answered as an unknown command.
//!
//! Nothing here sends, holds state, or knows of shards: it answers questions about one request.

mod args;
mod blocking;
mod extractors;
mod flags;
mod keys;
mod lookup;
mod route;
#[rustfmt::skip]
mod table;
mod twemproxy;

pub use self::args::Args;
pub use self::blocking::{Blocks, blocks_for};
pub use self::flags::{Flags, category};
pub use self::keys::{Access, Begin, Extractor, Find, Key, KeyError, KeyList, KeySpec, keys};
pub use self::lookup::find;
pub use self::route::{
    Channels, Connection, Local, Merge, PubSub, Refusal, Route, Timeout, Transaction,
};
pub use self::twemproxy::{accepts, deciding_argument};

/// A command or a sub-command.
#[derive(Debug, PartialEq, Eq)]
pub struct Command {
    /// Its number among all commands and sub-commands, below [`COUNT`]. Not the same in every version of this program.
    pub id: u16,
    /// Lower case; a sub-command's with its container's, as servers write it in errors: `config|get`.
    pub name: &'static str,
    /// How many arguments it takes, names included: exactly so many, or at least so many if negative.
    pub arity: i16,
    /// What servers say of it.
    pub flags: Flags,
    /// Its ACL categories, bits of [`category`].
    pub categories: u32,
    /// What the proxy does with it.
    pub route: Route,
    /// Whether `specs` tell the whole truth.
    pub extractor: Extractor,
    /// Where its keys are.
    pub specs: &'static [KeySpec],
    /// The sub-commands of a container, sorted by name.
    pub subs: &'static [Self],
}

/// How many commands and sub-commands there are.
pub const COUNT: usize = table::COUNT;

/// Every command, sorted by name; sub-commands are in [`Command::subs`] of theirs.
#[must_use]
pub fn all() -> &'static [Command] {
    &table::COMMANDS
}

/// The name of the command or sub-command of this number, by a search.
#[must_use]
pub fn name_of(id: u16) -> Option<&'static str> {
    all()
        .iter()
        .flat_map(|command| std::iter::once(command).chain(command.subs))
        .find(|command| command.id == id)
        .map(|command| command.name)
}

/// The command of a request, sub-commands resolved. None: nobody knows it, or not this sub-command of it.
#[must_use]
pub fn resolve<A: Args + ?Sized>(args: &A) -> Option<&'static Command> {
    let command = find(args.arg(0))?;
    if command.subs.is_empty() || args.count() < 2 {
        return Some(command);
    }
    command.sub(args.arg(1))
}

impl Command {
    /// A container's sub-command of this name, in any case.
    #[must_use]
    pub fn sub(&self, name: &[u8]) -> Option<&'static Self> {
        let after_container = self.name.len() + 1;
        self.subs
            .iter()
            .find(|sub| sub.name.as_bytes()[after_container..].eq_ignore_ascii_case(name))
    }

    /// Whether a request of `count` arguments, names included, has as many as this takes.
    #[must_use]
    #[inline]
    pub fn takes(&self, count: usize) -> bool {
        let needed = usize::from(self.arity.unsigned_abs());
        if self.arity < 0 {
            count >= needed
        } else {
            count == needed
        }
    }

    /// Changes nothing: may go to a replica, and once more when nobody knows what became of the first.
    #[must_use]
    pub const fn is_read_only(&self) -> bool {
        self.flags.has(flags::READONLY)
    }

    /// May change data: for a primary only. Scripts that do not promise otherwise count as writes.
    #[must_use]
    pub const fn is_write(&self) -> bool {
        self.flags.has(flags::WRITE)
            || (matches!(self.route, Route::Script) && !self.is_read_only())
    }

    /// May block its connection; whether this request does says [`blocks_for`].
    #[must_use]
    pub const fn is_blocking(&self) -> bool {
        self.flags.has(flags::BLOCKING)
    }

    /// Refused inside MULTI by servers that know the flag.
    #[must_use]
    pub const fn is_refused_in_multi(&self) -> bool {
        self.flags.has(flags::NO_MULTI)
    }

    /// Allowed to clients that have not authenticated.
    #[must_use]
    pub const fn needs_no_authentication(&self) -> bool {
        self.flags.has(flags::NO_AUTH)
    }

    /// Executed twice it leaves what it leaves when executed once, and answers truly: it may be sent again although the
    /// first may have been executed. Reads, and what asks or sets up servers without touching data; never a write, a
    /// message, or what ends a script, which could be another one by then.
    #[must_use]
    pub const fn may_repeat(&self) -> bool {
        if self.is_read_only() {
            return true;
        }
        if self.is_write() {
            return false;
        }
        match self.route {
            Route::AnyShard | Route::OnlyShard => true,
            Route::AllShards(merge) | Route::AllNodes(merge) => {
                !matches!(merge, Merge::OneSucceeded)
            }
            Route::OneKey { .. }
            | Route::Split { .. }
            | Route::Keys
            | Route::Script
            | Route::Blocking(_)
            | Route::Wait
            | Route::Scan
            | Route::PubSub(_)
            | Route::Monitor
            | Route::Transaction(_)
            | Route::Connection(_)
            | Route::Local(_)
            | Route::Container
            | Route::Refused(_) => false,
        }
    }
}

#[cfg(test)]
mod tests;
