//! `SENTINEL SET` and `SENTINEL MONITOR`: settings of a group.
//!
//! SET reads its options one after the other and stops at the first that is wrong; those before it are changed all the
//! same, as in Redis. A value that the file or a hello message could not hold is refused, where Redis takes it and does
//! not start again.

use std::net::IpAddr;
use std::time::Duration;

use crate::sentinel::commands::config::text;
use crate::sentinel::commands::error::{CommandError, echo};
use crate::sentinel::commands::parse::integer;
use crate::sentinel::commands::periods::time;
use crate::sentinel::commands::{Change, GROUP_NAME_MAX, GROUPS_MAX, View};
use crate::sentinel::ids::{Endpoint, GroupName};
use crate::sentinel::settings::GroupSettings;

/// What stands in an event where a password was given.
const REDACTED: &str = "******";

/// One setting of a group and its new value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum GroupChange {
    /// `down-after-milliseconds`.
    DownAfter(Duration),
    /// `failover-timeout`.
    FailoverTimeout(Duration),
    /// `parallel-syncs`.
    ParallelSyncs(u32),
    /// `quorum`.
    Quorum(u32),
    /// `notification-script`.
    NotificationScript(Option<String>),
    /// `client-reconfig-script`.
    ClientReconfigScript(Option<String>),
    /// `auth-pass`.
    AuthPass(Option<String>),
    /// `auth-user`.
    AuthUser(Option<String>),
    /// `rename-command`.
    Rename {
        /// The command, in upper case.
        command: String,
        /// What the servers call it; `None` if by its own name.
        to: Option<String>,
    },
    /// `master-reboot-down-after-period`.
    RebootDownAfter(Duration),
}

impl GroupChange {
    /// Puts the value in its place.
    pub fn apply(&self, settings: &mut GroupSettings) {
        match self {
            Self::DownAfter(time) => settings.down_after = *time,
            Self::FailoverTimeout(time) => settings.failover_timeout = *time,
            Self::ParallelSyncs(number) => settings.parallel_syncs = *number,
            Self::Quorum(number) => settings.quorum = *number,
            Self::NotificationScript(path) => settings.notification_script.clone_from(path),
            Self::ClientReconfigScript(path) => settings.client_reconfig_script.clone_from(path),
            Self::AuthPass(pass) => settings.auth_pass.clone_from(pass),
            Self::AuthUser(user) => settings.auth_user.clone_from(user),
            Self::Rename {
                command,
                to: Some(name),
            } => {
                settings
                    .rename_commands
                    .insert(command.clone(), name.clone());
            }
            Self::Rename { command, to: None } => {
                settings.rename_commands.remove(command);
            }
            Self::RebootDownAfter(time) => settings.reboot_down_after = *time,
        }
    }

    /// Whether the links to the group's servers have to be made anew, with the new name or password.
    #[must_use]
    pub fn drops_server_links(&self) -> bool {
        match self {
            Self::AuthPass(_) | Self::AuthUser(_) => true,
            Self::DownAfter(_)
            | Self::FailoverTimeout(_)
            | Self::ParallelSyncs(_)
            | Self::Quorum(_)
            | Self::NotificationScript(_)
            | Self::ClientReconfigScript(_)
            | Self::Rename { .. }
            | Self::RebootDownAfter(_) => false,
        }
    }
}

/// A change, and how its event `+set` words it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SetChange {
    /// What changes.
    pub change: GroupChange,
    /// Option and value as they were given; a password as asterisks.
    pub said: String,
}

/// The options of SET.
#[derive(Clone, Copy)]
enum SetOption {
    DownAfter,
    FailoverTimeout,
    ParallelSyncs,
    Quorum,
    NotificationScript,
    ClientReconfigScript,
    AuthPass,
    AuthUser,
    Rename,
    RebootDownAfter,
}

/// Names and the number of values. The last is Valkey's name for the one before.
const OPTIONS: [(&str, SetOption, usize); 11] = [
    ("down-after-milliseconds", SetOption::DownAfter, 1),
    ("failover-timeout", SetOption::FailoverTimeout, 1),
    ("parallel-syncs", SetOption::ParallelSyncs, 1),
    ("quorum", SetOption::Quorum, 1),
    ("notification-script", SetOption::NotificationScript, 1),
    ("client-reconfig-script", SetOption::ClientReconfigScript, 1),
    ("auth-pass", SetOption::AuthPass, 1),
    ("auth-user", SetOption::AuthUser, 1),
    ("rename-command", SetOption::Rename, 2),
    (
        "master-reboot-down-after-period",
        SetOption::RebootDownAfter,
        1,
    ),
    (
        "primary-reboot-down-after-period",
        SetOption::RebootDownAfter,
        1,
    ),
];

fn option(word: &[u8]) -> Option<(SetOption, usize)> {
    OPTIONS
        .iter()
        .find(|(name, _, _)| word.eq_ignore_ascii_case(name.as_bytes()))
        .map(|(_, option, values)| (*option, *values))
}

/// Reads the words of SET after the group's name.
pub(super) fn change(view: &View<'_>, group: GroupName, words: &[Vec<u8>]) -> Change {
    let mut changes = Vec::new();
    let mut rest = words;
    let error = loop {
        let Some((name, after)) = rest.split_first() else {
            break None;
        };
        let Some((which, count)) = option(name).filter(|(_, count)| after.len() >= *count) else {
            break Some(CommandError::SetOption(echo(name)));
        };
        let (values, next) = after.split_at(count);
        match read(view, which, name, values) {
            Ok(change) => changes.push(SetChange {
                said: said(which, name, values),
                change,
            }),
            Err(error) => break Some(error),
        }
        rest = next;
    };
    Change::Set {
        group,
        changes,
        error,
    }
}

fn read(
    view: &View<'_>,
    which: SetOption,
    name: &[u8],
    values: &[Vec<u8>],
) -> Result<GroupChange, CommandError> {
    let value = &values[0];
    let wrong = |value: &[u8]| CommandError::SetValue {
        value: echo(value),
        option: echo(name),
    };
    let positive = || {
        time(value)
            .filter(|time| !time.is_zero())
            .ok_or_else(|| wrong(value))
    };
    let count = || {
        integer(value)
            .and_then(|number| u32::try_from(number).ok())
            .filter(|number| *number > 0)
            .ok_or_else(|| wrong(value))
    };
    let word = || text(value).ok_or_else(|| wrong(value));
    Ok(match which {
        SetOption::DownAfter => GroupChange::DownAfter(positive()?),
        SetOption::FailoverTimeout => GroupChange::FailoverTimeout(positive()?),
        SetOption::ParallelSyncs => GroupChange::ParallelSyncs(count()?),
        SetOption::Quorum => GroupChange::Quorum(count()?),
        SetOption::NotificationScript => {
            GroupChange::NotificationScript(script(view, value, CommandError::NotificationScript)?)
        }
        SetOption::ClientReconfigScript => GroupChange::ClientReconfigScript(script(
            view,
            value,
            CommandError::ClientReconfigScript,
        )?),
        SetOption::AuthPass => GroupChange::AuthPass(word()?),
        SetOption::AuthUser => GroupChange::AuthUser(word()?),
        SetOption::Rename => {
            // One that would need quotes in the file is none that a server could have.
            let command = |value: &[u8]| {
                let name = text(value).flatten();
                name.filter(|name| !name.contains([' ', '"', '\'', '\\']))
                    .ok_or_else(|| wrong(value))
            };
            let (from, to) = (command(&values[0])?, command(&values[1])?);
            let same = from.eq_ignore_ascii_case(&to);
            GroupChange::Rename {
                command: from.to_ascii_uppercase(),
                to: (!same).then_some(to),
            }
        }
        SetOption::RebootDownAfter => {
            GroupChange::RebootDownAfter(time(value).ok_or_else(|| wrong(value))?)
        }
    })
}

/// A script's path, which must be a program; empty for none.
fn script(
    view: &View<'_>,
    value: &[u8],
    missing: CommandError,
) -> Result<Option<String>, CommandError> {
    if view.globals.deny_scripts_reconfig {
        return Err(CommandError::ScriptsDenied);
    }
    match text(value) {
        Some(None) => Ok(None),
        Some(Some(path)) if (view.executable)(&path) => Ok(Some(path)),
        Some(Some(_)) | None => Err(missing),
    }
}

/// Option and values as they were given, but never a password.
fn said(which: SetOption, name: &[u8], values: &[Vec<u8>]) -> String {
    let mut said = echo(name);
    for value in values {
        said.push(' ');
        match which {
            SetOption::AuthPass => said.push_str(REDACTED),
            SetOption::DownAfter
            | SetOption::FailoverTimeout
            | SetOption::ParallelSyncs
            | SetOption::Quorum
            | SetOption::NotificationScript
            | SetOption::ClientReconfigScript
            | SetOption::AuthUser
            | SetOption::Rename
            | SetOption::RebootDownAfter => said.push_str(&echo(value)),
        }
    }
    said
}

/// The paths that a SENTINEL command (the words after SENTINEL) would make scripts of. The shell looks whether they are
/// programs before it hands the command in, since that is IO.
#[must_use]
pub fn scripts_named(words: &[Vec<u8>]) -> Vec<String> {
    let mut paths = Vec::new();
    let [verb, _, rest @ ..] = words else {
        return paths;
    };
    if !verb.eq_ignore_ascii_case(b"set") {
        return paths;
    }
    let mut rest = rest;
    while let Some((name, after)) = rest.split_first() {
        let Some((which, count)) = option(name).filter(|(_, count)| after.len() >= *count) else {
            break;
        };
        let (values, next) = after.split_at(count);
        match which {
            SetOption::NotificationScript | SetOption::ClientReconfigScript => {
                paths.extend(text(&values[0]).flatten());
            }
            SetOption::DownAfter
            | SetOption::FailoverTimeout
            | SetOption::ParallelSyncs
            | SetOption::Quorum
            | SetOption::AuthPass
            | SetOption::AuthUser
            | SetOption::Rename
            | SetOption::RebootDownAfter => {}
        }
        rest = next;
    }
    paths
}

/// Looks at the words of MONITOR in the order of Redis: host, port, name.
pub(super) fn monitor(
    view: &View<'_>,
    name: &[u8],
    host: &str,
    port: i64,
    quorum: u32,
) -> Result<Change, CommandError> {
    let host = match host.parse::<IpAddr>() {
        Ok(address) => address.to_string(),
        Err(_) if view.globals.resolve_hostnames && is_host_name(host) => host.to_owned(),
        Err(_) => return Err(CommandError::BadHost),
    };
    let port = u16::try_from(port).map_err(|_| CommandError::PortOutOfRange)?;
    let name = group_name(name).ok_or(CommandError::BadGroupName)?;
    if view.groups.group(&name).is_some() {
        return Err(CommandError::DuplicateGroup);
    }
    if view.groups.count() >= GROUPS_MAX {
        return Err(CommandError::TooManyGroups);
    }
    Ok(Change::Monitor {
        settings: Box::new(GroupSettings::new(name, quorum, view.periods)),
        primary: Endpoint { host, port },
    })
}

/// A name that stands in the file, in a hello message and in an event as one word.
fn group_name(name: &[u8]) -> Option<GroupName> {
    let name = std::str::from_utf8(name).ok()?;
    let breaks = |c: char| {
        c.is_whitespace() || c.is_control() || matches!(c, ',' | '"' | '\'' | '\\' | '\u{fffd}')
    };
    let fits = (1..=GROUP_NAME_MAX).contains(&name.len()) && !name.contains(breaks);
    fits.then(|| GroupName(name.to_owned()))
}

/// What may be handed to a resolver, and stands in a hello message as one word.
fn is_host_name(host: &str) -> bool {
    (1..=253).contains(&host.len())
        && host
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-' | b'_'))
}
