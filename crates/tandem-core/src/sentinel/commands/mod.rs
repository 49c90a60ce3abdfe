//! Every SENTINEL command: what is asked, what is answered, and what the machine has to do first.
//!
//! ```text
//!   words -> parse -> Subcommand -> answer(view) -> Outcome::Reply(value)
//!                                                -> Outcome::Change(change)   the machine carries it out and answers
//! ```
//!
//! Nothing here changes anything: [`answer`] sees the machine through a [`View`] and either knows the reply or says in
//! a [`Change`] what is to be done and what is replied then. Shapes, orders and texts are those of Redis 7.0.15 and, where
//! `compat` says so, of 7.2 (`sentinelCommand` and what it calls); the names that Valkey 8 added are taken as well.
//! `SENTINEL TANDEM` is ours. Votes, hellos and the choice of a replica are left to the machine.

mod config;
mod error;
pub mod glob;
mod help;
mod instance;
mod parse;
mod periods;
mod replies;
mod set;
pub mod status;

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::{Duration, Instant};

use tandem_resp::Value;

pub use config::{ConfigChange, LogLevel};
pub use error::CommandError;
pub use parse::{Subcommand, parse};
pub use periods::PeriodChange;
pub use replies::{answers_null_array, info_section, opinion, role};
pub use set::{GroupChange, SetChange, scripts_named};

use crate::sentinel::events::Announce;
use crate::sentinel::ids::{ElectionEpoch, Endpoint, GroupName, SentinelId};
use crate::sentinel::model::{Group, GroupId, Link, LinkId};
use crate::sentinel::scripts::Queue;
use crate::sentinel::settings::{Globals, GroupSettings, Periods};

/// Groups that one process monitors at most.
pub const GROUPS_MAX: usize = 16_384;
/// Longest name of a group, in bytes.
pub const GROUP_NAME_MAX: usize = 255;
/// Longer times that are set count as this: a century, so that no sum of times runs over.
pub const TIME_MAX: Duration = Duration::from_secs(100 * 365 * 24 * 3600);

/// The groups, found by name and shown in the order of names.
#[derive(Clone, Copy, Debug)]
pub struct Directory<'a> {
    /// The number of each name.
    pub names: &'a BTreeMap<GroupName, GroupId>,
    /// The group of each number.
    pub groups: &'a BTreeMap<GroupId, Group>,
}

impl<'a> Directory<'a> {
    /// The group of this name.
    #[must_use]
    pub fn group(&self, name: &GroupName) -> Option<&'a Group> {
        self.groups.get(self.names.get(name)?)
    }

    /// How many there are.
    #[must_use]
    pub fn count(&self) -> usize {
        self.names.len()
    }

    /// All of them.
    pub fn all(&self) -> impl Iterator<Item = &'a Group> + use<'a> {
        let groups = self.groups;
        self.names.values().filter_map(|id| groups.get(id))
    }
}

/// What a command may see of the machine.
#[derive(Clone, Copy)]
pub struct View<'a> {
    /// The time of the question.
    pub now: Instant,
    /// Our own id.
    pub id: &'a SentinelId,
    /// The newest election known.
    pub epoch: ElectionEpoch,
    /// Settings of the process.
    pub globals: &'a Globals,
    /// What `SENTINEL CONFIG GET loglevel` shows.
    pub log_level: LogLevel,
    /// The periods.
    pub periods: &'a Periods,
    /// The groups.
    pub groups: Directory<'a>,
    /// The links to all instances.
    pub links: &'a BTreeMap<LinkId, Link>,
    /// Addresses behind names, as far as known.
    pub resolved: &'a BTreeMap<String, IpAddr>,
    /// Since when this process is not sure of what it sees (Redis: TILT).
    pub tilt: Option<Instant>,
    /// Failures that are to be simulated.
    pub simulate: Simulate,
    /// The scripts.
    pub scripts: &'a Queue,
    /// Whether this path is a program that can be run: asked of the shell before the question was handed in, see
    /// [`scripts_named`].
    pub executable: &'a dyn Fn(&str) -> bool,
    /// Why a group is as it is; asked for [`Subcommand::Status`] alone.
    pub reasons: &'a dyn Fn(&Group) -> status::Reasons,
}

impl<'a> View<'a> {
    /// How addresses are shown.
    #[must_use]
    pub fn announce(&self) -> Announce<'a> {
        Announce {
            hostnames: self.globals.announce_hostnames,
            resolved: self.resolved,
        }
    }

    /// A link that does not stand, or stands only in part.
    fn disconnected(&self, link: LinkId, needs_pubsub: bool) -> bool {
        self.links
            .get(&link)
            .is_none_or(|link| link.disconnected(needs_pubsub))
    }

    fn known(&self, name: &GroupName) -> Result<&'a Group, CommandError> {
        self.groups.group(name).ok_or(CommandError::NoSuchGroup)
    }
}

/// Failures that `SENTINEL SIMULATE-FAILURE` asks for: the process ends with code 99 at that point.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Simulate {
    /// Right after an election was won.
    pub after_election: bool,
    /// Right after the replica was promoted.
    pub after_promotion: bool,
}

impl Simulate {
    /// The number that INFO shows.
    #[must_use]
    pub fn flags(self) -> u8 {
        u8::from(self.after_election) | u8::from(self.after_promotion) << 1
    }
}

/// A peer's question whether a primary is down, and perhaps for our vote.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DownQuestion {
    /// The primary, as the peer shows it: looked up by address among all groups.
    pub at: Endpoint,
    /// The peer's election.
    pub epoch: ElectionEpoch,
    /// For whom it wants our vote.
    pub candidate: Option<SentinelId>,
}

/// What becomes of a command.
#[derive(Clone, Debug, PartialEq)]
pub enum Outcome {
    /// This is the reply.
    Reply(Value),
    /// The machine has to do this, and replies as said there.
    Change(Change),
}

impl From<Value> for Outcome {
    fn from(reply: Value) -> Self {
        Self::Reply(reply)
    }
}

impl From<Change> for Outcome {
    fn from(change: Change) -> Self {
        Self::Change(change)
    }
}

impl From<CommandError> for Outcome {
    fn from(error: CommandError) -> Self {
        Self::Reply(error.reply())
    }
}

/// Something that the machine has to do, all of it within its rights: names exist, values are in range.
///
/// Where a reply "follows the file", the state is saved first; if that fails the reply is
/// [`CommandError::SaveFailed`], and the change stays in force until the process ends, as in Redis.
#[derive(Clone, Debug, PartialEq)]
pub enum Change {
    /// Give an opinion and perhaps a vote; the reply is [`opinion`], after the vote is on disk.
    Opinion(DownQuestion),
    /// Drop all that was learned of these groups, and tell `+reset-master` of each. The reply is their number.
    Reset(Vec<GroupName>),
    /// Begin a failover without an election. The reply is `OK` at once, or [`CommandError::NoGoodReplica`].
    Failover(GroupName),
    /// Watch a new group, and tell `+monitor`. A host name is resolved first; if that fails the reply is
    /// [`CommandError::BadHost`]. `OK` follows the file.
    Monitor {
        /// Its settings.
        settings: Box<GroupSettings>,
        /// Its primary.
        primary: Endpoint,
    },
    /// Forget a group, and tell `-monitor`. `OK` follows the file.
    Remove(GroupName),
    /// Change settings of a group in this order, each with its event `+set`. Then, if there were any, save.
    /// Without an error `OK` follows the file; with one, the error is the reply whatever becomes of the file.
    Set {
        /// The group.
        group: GroupName,
        /// What changes.
        changes: Vec<SetChange>,
        /// What is wrong with the rest.
        error: Option<CommandError>,
    },
    /// Change settings of the process. `OK` follows the file. Links to peers are dropped if any of them says so.
    Config(Vec<ConfigChange>),
    /// Write the file. `OK` follows it.
    FlushConfig,
    /// From now on end the process at these points, and reply that.
    Simulate(Simulate, Value),
    /// Change periods; no file is written. The reply is `OK`, or the error.
    Periods {
        /// What changes.
        changes: Vec<PeriodChange>,
        /// What is wrong with the rest.
        error: Option<CommandError>,
    },
}

/// `+OK`.
#[must_use]
pub fn ok() -> Value {
    Value::Simple(b"OK".to_vec())
}

/// Reads a command and answers it, or says what has to be done for it.
#[must_use]
pub fn take(view: &View<'_>, words: &[Vec<u8>]) -> Outcome {
    match parse(words, view.globals.compat) {
        Ok(subcommand) => answer(view, subcommand),
        Err(error) => error.into(),
    }
}

/// Answers a command, or says what has to be done for it.
#[must_use]
pub fn answer(view: &View<'_>, subcommand: Subcommand) -> Outcome {
    decide(view, subcommand).unwrap_or_else(Outcome::from)
}

fn decide(view: &View<'_>, subcommand: Subcommand) -> Result<Outcome, CommandError> {
    Ok(match subcommand {
        Subcommand::Primaries => replies::primaries(view).into(),
        Subcommand::Primary(name) => instance::primary(view, view.known(&name)?).into(),
        Subcommand::Replicas(name) => replies::replicas(view, view.known(&name)?).into(),
        Subcommand::Sentinels(name) => replies::sentinels(view, view.known(&name)?).into(),
        Subcommand::AddressOf(name) => replies::address_of(view, &name).into(),
        Subcommand::CheckQuorum(name) => replies::check_quorum(view.known(&name)?)?.into(),
        Subcommand::InfoCache(names) => replies::info_cache(view, &names).into(),
        Subcommand::PendingScripts => replies::pending_scripts(view).into(),
        Subcommand::MyId => instance::bulk(view.id.as_str()).into(),
        Subcommand::Help => help::reply(view.globals.compat).into(),
        Subcommand::ConfigGet(patterns) => config::get(view, &patterns).into(),
        Subcommand::Tandem => replies::tandem().into(),
        Subcommand::Status(None) => status::reply(view, view.groups.all()).into(),
        Subcommand::Status(Some(name)) => {
            status::reply(view, std::iter::once(view.known(&name)?)).into()
        }
        Subcommand::Debug(words) if words.is_empty() => periods::reply(view.periods).into(),
        Subcommand::Debug(words) => periods::change(&words).into(),
        Subcommand::IsDown {
            host,
            port,
            epoch,
            candidate,
        } => match u16::try_from(port) {
            Ok(port) => Change::Opinion(DownQuestion {
                at: Endpoint { host, port },
                epoch,
                candidate,
            })
            .into(),
            // No primary is there, so there is nothing to have an opinion on.
            Err(_) => opinion(false, None, ElectionEpoch(0)).into(),
        },
        Subcommand::Reset(pattern) => {
            let names = view.groups.all().map(|group| &group.settings.name);
            let reset = names.filter(|name| glob::matches(&pattern, name.0.as_bytes(), false));
            Change::Reset(reset.cloned().collect()).into()
        }
        Subcommand::Failover(name) if view.known(&name)?.failover.is_some() => {
            return Err(CommandError::InProgress);
        }
        Subcommand::Failover(name) => Change::Failover(name).into(),
        Subcommand::Monitor {
            name,
            host,
            port,
            quorum,
        } => set::monitor(view, &name, &host, port, quorum)?.into(),
        Subcommand::Remove(name) => {
            view.known(&name)?;
            Change::Remove(name).into()
        }
        Subcommand::Set { name, words } => {
            view.known(&name)?;
            set::change(view, name, &words).into()
        }
        Subcommand::ConfigSet(words) => config::change(view, &words)?.into(),
        Subcommand::FlushConfig => Change::FlushConfig.into(),
        Subcommand::SimulateFailure(words) => replies::simulate(&words).into(),
    })
}

#[cfg(test)]
mod tests;
