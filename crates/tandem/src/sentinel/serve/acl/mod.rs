//! Who may do what: the users of Redis' ACL, their rules, and the lines that carry them through a file.
//!
//! Follows Redis 7.0: rules apply in the order in which they are given, a user that fails one of them stays as it was, and
//! `requirepass` is the password of the user `default`. No IO: reading and writing an `aclfile` is the caller's.

mod log;
mod selector;
mod user;

use std::collections::BTreeMap;

pub(crate) use log::{Log, Reason};
pub(crate) use selector::{ChannelUse, Denied, Selector};
pub(crate) use user::User;

/// Most users: far beyond any fleet, and a bound on one who may change them.
const USERS_MAX: usize = 10_000;

/// The user that everybody is before AUTH.
pub(crate) const DEFAULT: &[u8] = b"default";

/// Why a rule was refused: the one who gave it is at fault, and the user is unchanged.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum RuleError {
    /// No command or category of that name.
    #[error("Unknown command or category name in ACL")]
    UnknownCommand,
    /// No rule looks like this.
    #[error("Syntax error")]
    Syntax,
    /// `+container|subcommand|word`.
    #[error("Allowing first-arg of a subcommand is not supported")]
    FirstArgOfSubcommand,
    /// A key pattern that would change nothing.
    #[error(
        "Adding a pattern after the * pattern (or the 'allkeys' flag) is not valid and does not have any effect. Try \
         'resetkeys' to start with an empty list of patterns"
    )]
    PatternAfterAllKeys,
    /// A channel pattern that would change nothing.
    #[error(
        "Adding a pattern after the * pattern (or the 'allchannels' flag) is not valid and does not have any effect. Try \
         'resetchannels' to start with an empty list of channels"
    )]
    PatternAfterAllChannels,
    /// `<password` or `!hash` that the user does not have.
    #[error("The password you are trying to remove from the user does not exist")]
    NoSuchPassword,
    /// `#hash` that is none.
    #[error(
        "The password hash must be exactly 64 characters and contain only lowercase hexadecimal characters"
    )]
    BadHash,
}

/// Why users cannot be taken from lines of a file.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum LoadError {
    /// The line is not `user <name> <rule> ...`.
    #[error("line {line}: should start with user keyword followed by the username")]
    NotAUser {
        /// Counted from 1.
        line: usize,
    },
    /// The name has a space or a NUL.
    #[error("line {line}: usernames can't contain spaces or null characters")]
    BadName {
        /// Counted from 1.
        line: usize,
    },
    /// The user was defined before.
    #[error("line {line}: duplicate user '{name}' found")]
    Duplicate {
        /// Counted from 1.
        line: usize,
        /// Whom.
        name: String,
    },
    /// A parenthesis that is not closed.
    #[error("line {line}: unmatched parenthesis in a selector")]
    Parenthesis {
        /// Counted from 1.
        line: usize,
    },
    /// A rule was refused.
    #[error("line {line}: {rule}: {error}")]
    Rule {
        /// Counted from 1.
        line: usize,
        /// The rule; a password in it is not shown.
        rule: String,
        /// Why.
        error: RuleError,
    },
    /// More than [`USERS_MAX`].
    #[error("too many users")]
    TooMany,
}

/// Whether a name or pattern has what neither may have.
fn has_spaces(text: &[u8]) -> bool {
    text.iter()
        .any(|byte| byte.is_ascii_whitespace() || matches!(byte, 0 | 0x0b))
}

/// All users.
#[derive(Clone, Debug)]
pub(crate) struct Users {
    users: BTreeMap<Vec<u8>, User>,
    /// `acl-pubsub-default allchannels`: what a new user may subscribe to.
    all_channels: bool,
}

impl Users {
    /// The user `default` alone, who may do everything without a password.
    pub(crate) fn new(all_channels: bool) -> Self {
        let mut default = User::new(all_channels);
        for rule in ["on", "nopass", "~*", "&*", "+@all"] {
            // Rules of ours: none of them can be refused for a new user.
            let _ = default.apply(rule.as_bytes(), all_channels);
        }
        Self {
            users: BTreeMap::from([(DEFAULT.to_vec(), default)]),
            all_channels,
        }
    }

    /// `requirepass`: the password of `default`; none for an empty one.
    pub(crate) fn require_password(&mut self, password: &[u8]) {
        let all_channels = self.all_channels;
        let default = self.users.entry(DEFAULT.to_vec());
        let default = default.or_insert_with(|| User::new(all_channels));
        default.require_password(password);
    }

    /// One of them.
    pub(crate) fn get(&self, name: &[u8]) -> Option<&User> {
        self.users.get(name)
    }

    /// The user `default`.
    pub(crate) fn default_user(&self) -> &User {
        self.users
            .get(DEFAULT)
            .expect("the user default is made with the set and never removed")
    }

    /// Names in their order.
    pub(crate) fn names(&self) -> impl Iterator<Item = &[u8]> {
        self.users.keys().map(Vec::as_slice)
    }

    /// Creates or changes a user: all rules or none.
    ///
    /// # Errors
    /// The text for the client, without its code.
    pub(crate) fn set(&mut self, name: &[u8], rules: &[Vec<u8>]) -> Result<(), String> {
        if has_spaces(name) {
            return Err("Usernames can't contain spaces or null characters".to_owned());
        }
        // The file is text: what could not be written as it is would come back as another user or rule.
        let is_text = |text: &[u8]| std::str::from_utf8(text).is_ok();
        if !is_text(name) {
            return Err("Usernames must be UTF-8".to_owned());
        }
        if let Some(odd) = rules
            .iter()
            .find(|rule| !matches!(rule.first(), Some(b'>' | b'<')) && !is_text(rule))
        {
            return Err(format!(
                "Error in ACL SETUSER modifier '{}': {}",
                String::from_utf8_lossy(odd),
                RuleError::Syntax
            ));
        }
        if !self.users.contains_key(name) && self.users.len() >= USERS_MAX {
            return Err("too many users".to_owned());
        }
        let rules = join_selectors(rules).map_err(|open| {
            format!(
                "Unmatched parenthesis in acl selector starting at '{}'.",
                String::from_utf8_lossy(&open)
            )
        })?;
        let mut user = self
            .get(name)
            .cloned()
            .unwrap_or_else(|| User::new(self.all_channels));
        for rule in &rules {
            user.apply(rule, self.all_channels).map_err(|error| {
                format!(
                    "Error in ACL SETUSER modifier '{}': {error}",
                    String::from_utf8_lossy(rule)
                )
            })?;
        }
        self.users.insert(name.to_vec(), user);
        Ok(())
    }

    /// Removes a user; `default` cannot be removed, which is the caller's to refuse.
    pub(crate) fn remove(&mut self, name: &[u8]) -> bool {
        name != DEFAULT && self.users.remove(name).is_some()
    }

    /// Name and password: whether they are a user's who is on.
    pub(crate) fn authenticate(&self, name: &[u8], password: &[u8]) -> bool {
        self.get(name).is_some_and(|user| user.accepts(password))
    }

    /// The users as lines for a file: `user <name> <rules>`.
    pub(crate) fn lines(&self) -> Vec<String> {
        self.users
            .iter()
            .map(|(name, user)| {
                format!("user {} {}", String::from_utf8_lossy(name), user.describe())
            })
            .collect()
    }

    /// Reads such lines, comments and blank lines between them. `default` is the usual one where no line speaks of it.
    ///
    /// # Errors
    /// The first line that is wrong; nothing is taken from the others then.
    pub(crate) fn from_lines<'a>(
        lines: impl IntoIterator<Item = &'a str>,
        all_channels: bool,
    ) -> Result<Self, LoadError> {
        let mut users = Self::new(all_channels);
        let mut seen: Vec<Vec<u8>> = Vec::new();
        for (index, text) in lines.into_iter().enumerate() {
            let line = index + 1;
            let text = text.trim();
            if text.is_empty() || text.starts_with('#') {
                continue;
            }
            let mut words = text.split_ascii_whitespace();
            let (Some("user"), Some(name)) = (words.next(), words.next()) else {
                return Err(LoadError::NotAUser { line });
            };
            if has_spaces(name.as_bytes()) {
                return Err(LoadError::BadName { line });
            }
            if seen.iter().any(|known| known == name.as_bytes()) {
                let name = name.to_owned();
                return Err(LoadError::Duplicate { line, name });
            }
            if seen.len() >= USERS_MAX {
                return Err(LoadError::TooMany);
            }
            let rules: Vec<Vec<u8>> = words.map(|word| word.as_bytes().to_vec()).collect();
            let rules = join_selectors(&rules).map_err(|_| LoadError::Parenthesis { line })?;
            let mut user = User::new(all_channels);
            for rule in &rules {
                user.apply(rule, all_channels)
                    .map_err(|error| LoadError::Rule {
                        line,
                        rule: shown(rule),
                        error,
                    })?;
            }
            seen.push(name.as_bytes().to_vec());
            users.users.insert(name.as_bytes().to_vec(), user);
        }
        Ok(users)
    }
}

/// A rule for a log: what follows the mark of a password is left out.
fn shown(rule: &[u8]) -> String {
    match rule.first() {
        Some(mark @ (b'>' | b'<' | b'#' | b'!')) => format!("{}***", char::from(*mark)),
        Some(_) | None => String::from_utf8_lossy(rule).into_owned(),
    }
}

/// Puts a selector's words, `(+ping` `~a)`, back together. `Err` is the word that opened one and was not closed.
fn join_selectors(rules: &[Vec<u8>]) -> Result<Vec<Vec<u8>>, Vec<u8>> {
    let mut joined = Vec::new();
    let mut open: Option<Vec<u8>> = None;
    let mut opened = &[][..];
    for rule in rules {
        match &mut open {
            None if rule.first() == Some(&b'(') && rule.last() != Some(&b')') => {
                open = Some(rule.clone());
                opened = rule;
            }
            None => joined.push(rule.clone()),
            Some(words) => {
                words.push(b' ');
                words.extend_from_slice(rule);
                if rule.last() == Some(&b')') {
                    joined.extend(open.take());
                }
            }
        }
    }
    match open {
        Some(_) => Err(opened.to_vec()),
        None => Ok(joined),
    }
}

#[cfg(test)]
mod tests;
