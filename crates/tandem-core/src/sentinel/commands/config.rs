//! `SENTINEL CONFIG`: settings of the process, shown and changed at run time.
//!
//! 7.0 takes one setting at a time. 7.2 takes several, looks at all of them before it changes any, and knows `loglevel`.
//! An empty `announce-ip` and an `announce-port` of 0 take the announced address back to the real one.

use std::collections::BTreeSet;

use tandem_resp::Value;

use crate::sentinel::commands::error::{CommandError, echo};
use crate::sentinel::commands::instance::Fields;
use crate::sentinel::commands::parse::integer;
use crate::sentinel::commands::{Change, View, glob};
use crate::sentinel::settings::{Compat, Globals};

/// How much is logged (`loglevel`). Does not touch what subscribers are told.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum LogLevel {
    /// Everything.
    Debug,
    /// Much.
    Verbose,
    /// What matters to an operator.
    #[default]
    Notice,
    /// Only what went wrong, or changed who is primary.
    Warning,
    /// Nothing at all (7.2).
    Nothing,
}

impl LogLevel {
    /// Every level.
    pub const ALL: [Self; 5] = [
        Self::Debug,
        Self::Verbose,
        Self::Notice,
        Self::Warning,
        Self::Nothing,
    ];

    /// The word for it.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Debug => "debug",
            Self::Verbose => "verbose",
            Self::Notice => "notice",
            Self::Warning => "warning",
            Self::Nothing => "nothing",
        }
    }
}

/// One setting's new value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ConfigChange {
    /// `resolve-hostnames`.
    ResolveHostnames(bool),
    /// `announce-hostnames`.
    AnnounceHostnames(bool),
    /// `announce-ip`; `None` announces our real address.
    AnnounceIp(Option<String>),
    /// `announce-port`; `None` announces our real port.
    AnnouncePort(Option<u16>),
    /// `sentinel-user`.
    SentinelUser(Option<String>),
    /// `sentinel-pass`.
    SentinelPass(Option<String>),
    /// `loglevel`, which is the shell's.
    LogLevel(LogLevel),
}

impl ConfigChange {
    /// Puts the value in its place. [`Self::LogLevel`] has none in here.
    pub fn apply(&self, globals: &mut Globals) {
        match self {
            Self::ResolveHostnames(yes) => globals.resolve_hostnames = *yes,
            Self::AnnounceHostnames(yes) => globals.announce_hostnames = *yes,
            Self::AnnounceIp(ip) => globals.announce_ip.clone_from(ip),
            Self::AnnouncePort(port) => globals.announce_port = *port,
            Self::SentinelUser(user) => globals.sentinel_user.clone_from(user),
            Self::SentinelPass(pass) => globals.sentinel_pass.clone_from(pass),
            Self::LogLevel(_) => {}
        }
    }

    /// Whether the links to other sentinels have to be made anew, with the new name or password.
    #[must_use]
    pub fn drops_peer_links(&self) -> bool {
        match self {
            Self::SentinelUser(_) | Self::SentinelPass(_) => true,
            Self::ResolveHostnames(_)
            | Self::AnnounceHostnames(_)
            | Self::AnnounceIp(_)
            | Self::AnnouncePort(_)
            | Self::LogLevel(_) => false,
        }
    }
}

/// A setting: how it is shown, and how it is read, where `None` is a value that it does not take.
struct Setting {
    name: &'static str,
    show: fn(&View<'_>) -> String,
    read: fn(&[u8]) -> Option<ConfigChange>,
    since: Compat,
}

/// In the order of the reply.
const SETTINGS: [Setting; 7] = [
    Setting {
        name: "resolve-hostnames",
        show: |view| yes_no(view.globals.resolve_hostnames),
        read: |word| truth(word).map(ConfigChange::ResolveHostnames),
        since: Compat::V7_0,
    },
    Setting {
        name: "announce-hostnames",
        show: |view| yes_no(view.globals.announce_hostnames),
        read: |word| truth(word).map(ConfigChange::AnnounceHostnames),
        since: Compat::V7_0,
    },
    Setting {
        name: "announce-ip",
        show: |view| view.globals.announce_ip.clone().unwrap_or_default(),
        read: |word| text(word).map(ConfigChange::AnnounceIp),
        since: Compat::V7_0,
    },
    Setting {
        name: "announce-port",
        show: |view| view.globals.announce_port.unwrap_or_default().to_string(),
        read: |word| {
            let port = u16::try_from(integer(word)?).ok()?;
            Some(ConfigChange::AnnouncePort((port != 0).then_some(port)))
        },
        since: Compat::V7_0,
    },
    Setting {
        name: "sentinel-user",
        show: |view| view.globals.sentinel_user.clone().unwrap_or_default(),
        read: |word| text(word).map(ConfigChange::SentinelUser),
        since: Compat::V7_0,
    },
    Setting {
        name: "sentinel-pass",
        show: |view| view.globals.sentinel_pass.clone().unwrap_or_default(),
        read: |word| text(word).map(ConfigChange::SentinelPass),
        since: Compat::V7_0,
    },
    Setting {
        name: "loglevel",
        show: |view| view.log_level.word().to_owned(),
        read: |word| {
            let level = LogLevel::ALL
                .into_iter()
                .find(|level| word.eq_ignore_ascii_case(level.word().as_bytes()));
            level.map(ConfigChange::LogLevel)
        },
        since: Compat::V7_2,
    },
];

fn yes_no(yes: bool) -> String {
    if yes { "yes" } else { "no" }.to_owned()
}

fn truth(word: &[u8]) -> Option<bool> {
    if word.eq_ignore_ascii_case(b"yes") {
        Some(true)
    } else if word.eq_ignore_ascii_case(b"no") {
        Some(false)
    } else {
        None
    }
}

/// A text, where the empty one takes the setting away. One that the file could not hold is refused.
pub(super) fn text(word: &[u8]) -> Option<Option<String>> {
    let text = std::str::from_utf8(word).ok()?;
    let fits = !text.chars().any(char::is_control);
    fits.then(|| (!text.is_empty()).then(|| text.to_owned()))
}

/// The settings that this version has.
fn settings(compat: Compat) -> impl Iterator<Item = &'static Setting> {
    SETTINGS
        .iter()
        .filter(move |setting| setting.since <= compat)
}

/// `CONFIG GET`: what the patterns match, in the order of the patterns, each once.
pub(super) fn get(view: &View<'_>, patterns: &[Vec<u8>]) -> Value {
    let mut shown = BTreeSet::new();
    let mut fields = Fields::default();
    for pattern in patterns {
        for setting in settings(view.globals.compat) {
            if glob::matches(pattern, setting.name.as_bytes(), true) && shown.insert(setting.name) {
                fields.text(setting.name, (setting.show)(view));
            }
        }
    }
    fields.map()
}

/// `CONFIG SET`: all of it or nothing.
pub(super) fn change(view: &View<'_>, words: &[Vec<u8>]) -> Result<Change, CommandError> {
    let mut seen = BTreeSet::new();
    let mut changes = Vec::new();
    let mut words = words.iter();
    while let Some(option) = words.next() {
        let setting = settings(view.globals.compat)
            .find(|setting| option.eq_ignore_ascii_case(setting.name.as_bytes()))
            .ok_or_else(|| CommandError::ConfigOption(echo(option)))?;
        if !seen.insert(setting.name) {
            return Err(CommandError::ConfigTwice(echo(option)));
        }
        let value = words
            .next()
            .ok_or_else(|| CommandError::ConfigMissing(echo(option)))?;
        let change = (setting.read)(value).ok_or_else(|| CommandError::ConfigValue {
            value: echo(value),
            option: echo(option),
        })?;
        changes.push(change);
    }
    Ok(Change::Config(changes))
}
