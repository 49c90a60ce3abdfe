//! The proxy's own users (`[[proxy.user]]`): what each may do, when the servers know only one user for all of them.
//!
//! A user has rules for commands and prefixes of keys and channels. Rules for commands are written and applied as those of
//! Redis' ACL: `+get`, `-@dangerous`, `+config|get`, `+@all`, one after another, the later over the earlier; a user starts
//! with nothing. Instead of key patterns there are prefixes, which need no matching and cannot surprise.
//!
//! As in Redis, commands that concern all keys at once (KEYS, SCAN, FLUSHALL, DBSIZE) are a matter of the rules for commands:
//! there is no key in them to look at. Passwords are somebody else's: here nothing is secret.

use thiserror::Error;

use crate::command::{
    self, Access, Args, COUNT, Channels, Command, KeyList, PubSub, Route, category,
};

const WORDS: usize = COUNT.div_ceil(64);

/// A user of the proxy, and what it may do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct User {
    /// As in AUTH.
    pub name: String,
    /// Which commands.
    pub commands: Allowed,
    /// Which keys.
    pub keys: Vec<KeyRule>,
    /// Prefixes of channels; an empty one is all of them.
    pub channels: Vec<Vec<u8>>,
}

/// Keys that a user may use.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyRule {
    /// What they begin with; nothing means all keys.
    pub prefix: Vec<u8>,
    /// Whether they may be changed, too.
    pub write: bool,
}

/// A set of commands and sub-commands.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Allowed {
    bits: [u64; WORDS],
}

/// A rule that means nothing: a mistake in the file.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum RuleError {
    /// Neither `+` nor `-` before it.
    #[error("`{0}` is no rule: it has to begin with + or -")]
    NoSign(String),
    /// After `@`.
    #[error("there is no category `@{0}`")]
    NoCategory(String),
    /// Not in the table of commands.
    #[error("there is no command `{0}`")]
    NoCommand(String),
}

/// Why a request is refused. Nothing was executed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum Denied {
    /// The user may not call this command.
    #[error("this user has no permissions to run the '{0}' command")]
    Command(&'static str),
    /// One of the keys is not the user's, or may not be changed by it.
    #[error("this user has no permissions to access one of the keys used as arguments")]
    Key,
    /// A script may touch any key and call any command, and no one sees it do so.
    #[error("this user has no permissions to run scripts, which may do anything")]
    Script,
    /// One of the channels is not the user's.
    #[error("this user has no permissions to access one of the channels used as arguments")]
    Channel,
}

impl Allowed {
    /// Applies rules in their order, from nothing.
    ///
    /// # Errors
    /// For the first rule that names what does not exist.
    pub fn from_rules<'a>(rules: impl IntoIterator<Item = &'a str>) -> Result<Self, RuleError> {
        let mut allowed = Self::default();
        for rule in rules {
            allowed.apply(rule)?;
        }
        Ok(allowed)
    }

    /// Whether a command, or one sub-command, is in it.
    #[must_use]
    pub fn has(&self, command: &Command) -> bool {
        let id = usize::from(command.id);
        self.bits[id / 64] & (1 << (id % 64)) != 0
    }

    fn apply(&mut self, rule: &str) -> Result<(), RuleError> {
        let (allow, what) = match (rule.strip_prefix('+'), rule.strip_prefix('-')) {
            (Some(what), _) => (true, what),
            (None, Some(what)) => (false, what),
            (None, None) => return Err(RuleError::NoSign(rule.to_owned())),
        };
        if let Some(name) = what.strip_prefix('@') {
            // `all` is every category, and what has none.
            let bits = if name.eq_ignore_ascii_case("all") {
                None
            } else {
                let bit = category::by_name(name);
                Some(bit.ok_or_else(|| RuleError::NoCategory(name.to_owned()))?)
            };
            for command in command::all() {
                for entry in std::iter::once(command).chain(command.subs) {
                    if bits.is_none_or(|bits| entry.categories & bits != 0) {
                        self.set(entry, allow);
                    }
                }
            }
            return Ok(());
        }
        let unknown = || RuleError::NoCommand(what.to_owned());
        let (container, sub) = match what.split_once('|') {
            Some((container, sub)) => (container, Some(sub)),
            None => (what, None),
        };
        let command = command::find(container.as_bytes()).ok_or_else(unknown)?;
        match sub {
            Some(sub) => self.set(command.sub(sub.as_bytes()).ok_or_else(unknown)?, allow),
            None => {
                for entry in std::iter::once(command).chain(command.subs) {
                    self.set(entry, allow);
                }
            }
        }
        Ok(())
    }

    fn set(&mut self, command: &Command, allow: bool) {
        let id = usize::from(command.id);
        let bit = 1 << (id % 64);
        if allow {
            self.bits[id / 64] |= bit;
        } else {
            self.bits[id / 64] &= !bit;
        }
    }
}

impl Denied {
    /// The error reply, without the hyphen and the end of the line.
    #[must_use]
    pub fn reply(&self) -> String {
        format!("NOPERM {self}")
    }
}

/// Whether `user` may make this request. `keys` are those that [`command::keys`] found in it.
///
/// What is needed to become another user (AUTH, HELLO, RESET, QUIT) everybody may.
///
/// # Errors
/// Says what is denied, the command before its keys before its channels.
pub fn may<A: Args + ?Sized>(
    user: &User,
    command: &'static Command,
    args: &A,
    keys: &KeyList,
) -> Result<(), Denied> {
    if command.needs_no_authentication() {
        return Ok(());
    }
    if !user.commands.has(command) {
        return Err(Denied::Command(command.name));
    }
    if command.route == Route::Script && !user.may_all() {
        return Err(Denied::Script);
    }
    let may_use = |key: &[u8], write: bool| {
        user.keys
            .iter()
            .any(|rule| key.starts_with(&rule.prefix) && (rule.write || !write))
    };
    for key in keys.keys() {
        let write = match key.access {
            Access::NotAKey => continue,
            Access::Read => false,
            Access::ReadWrite | Access::Overwrite | Access::Remove => true,
        };
        if !may_use(args.arg(key.at as usize), write) {
            return Err(Denied::Key);
        }
    }
    // Patterns make keys out of data: only who may read all keys may read those.
    if keys.has_patterns() && !may_use(b"", false) {
        return Err(Denied::Key);
    }
    let channels = channels(command, args.count());
    let mut channels = channels.map(|at| args.arg(at));
    let is_pattern = matches!(
        command.route,
        Route::PubSub(PubSub::Subscribe(Channels::Patterns))
    );
    if channels.all(|channel| user.may_hear(channel, is_pattern)) {
        Ok(())
    } else {
        Err(Denied::Channel)
    }
}

impl User {
    /// Whether there is nothing that it may not do.
    #[must_use]
    pub fn may_all(&self) -> bool {
        let every = |command: &'static Command| {
            std::iter::once(command)
                .chain(command.subs)
                .all(|entry| self.commands.has(entry))
        };
        self.keys
            .iter()
            .any(|rule| rule.write && rule.prefix.is_empty())
            && self.channels.iter().any(Vec::is_empty)
            && command::all().iter().all(every)
    }

    fn may_hear(&self, channel: &[u8], is_pattern: bool) -> bool {
        // Of a pattern only what comes before its first wildcard is certain.
        let certain = match channel.iter().position(|byte| b"*?[\\".contains(byte)) {
            Some(end) if is_pattern => &channel[..end],
            Some(_) | None => channel,
        };
        self.channels
            .iter()
            .any(|prefix| certain.starts_with(prefix))
    }
}

/// Which arguments are channels that the user has to have a right to. Leaving one needs none.
fn channels(command: &Command, count: usize) -> std::ops::Range<usize> {
    match command.route {
        Route::PubSub(PubSub::Subscribe(_)) => 1..count,
        Route::PubSub(PubSub::Publish(_)) => 1..2,
        Route::PubSub(PubSub::Unsubscribe(_) | PubSub::Inspect)
        | Route::OneKey { .. }
        | Route::Split { .. }
        | Route::Keys
        | Route::Script
        | Route::Blocking(_)
        | Route::Wait
        | Route::AnyShard
        | Route::OnlyShard
        | Route::AllShards(_)
        | Route::AllNodes(_)
        | Route::Scan
        | Route::Monitor
        | Route::Transaction(_)
        | Route::Connection(_)
        | Route::Local(_)
        | Route::Container
        | Route::Refused(_) => 0..0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn user(rules: &[&str], keys: &[(&str, bool)], channels: &[&str]) -> User {
        User {
            name: "app".to_owned(),
            commands: Allowed::from_rules(rules.iter().copied()).unwrap(),
            keys: keys
                .iter()
                .map(|&(prefix, write)| KeyRule {
                    prefix: prefix.as_bytes().to_vec(),
                    write,
                })
                .collect(),
            channels: channels
                .iter()
                .map(|prefix| prefix.as_bytes().to_vec())
                .collect(),
        }
    }

    fn asked(user: &User, request: &str) -> Result<(), Denied> {
        let args: Vec<&str> = request.split(' ').collect();
        let command = command::resolve(&args[..]).unwrap();
        let mut keys = KeyList::default();
        command::keys(command, &args[..], &mut keys).unwrap();
        may(user, command, &args[..], &keys)
    }

    #[test]
    fn later_rules_win() {
        let user = user(
            &["+@all", "-@dangerous", "+keys", "-config", "+config|get"],
            &[("", true)],
            &[],
        );
        for (request, allowed) in [
            ("GET a", true),
            ("KEYS a", true),
            ("FLUSHALL", false),
            ("CONFIG GET a", true),
            ("CONFIG SET a b", false),
        ] {
            assert_eq!(asked(&user, request).is_ok(), allowed, "{request}");
        }
        assert_eq!(
            asked(&user, "CONFIG SET a b"),
            Err(Denied::Command("config|set"))
        );
    }

    #[test]
    fn a_new_user_may_only_become_another() {
        let nobody = user(&[], &[], &[]);
        for request in ["AUTH x", "HELLO 3", "QUIT", "RESET"] {
            assert_eq!(asked(&nobody, request), Ok(()), "{request}");
        }
        assert_eq!(asked(&nobody, "PING"), Err(Denied::Command("ping")));
    }

    #[test]
    fn scripts_are_for_those_who_may_do_anything() {
        let most = user(&["+@all", "-flushall"], &[("", true)], &[""]);
        assert_eq!(asked(&most, "EVAL x 1 a"), Err(Denied::Script));
        assert_eq!(asked(&most, "FCALL f 0"), Err(Denied::Script));
        let all = user(&["+@all"], &[("a", true), ("", true)], &[""]);
        assert!(all.may_all() && !most.may_all());
        assert_eq!(asked(&all, "EVAL x 1 a"), Ok(()));
    }

    #[test]
    fn keys_are_looked_at_one_by_one() {
        let user = user(&["+@all"], &[("app:", true), ("shared:", false)], &[]);
        for (request, answer) in [
            ("GET app:1", Ok(())),
            ("GET shared:1", Ok(())),
            ("GET other", Err(Denied::Key)),
            ("SET app:1 x", Ok(())),
            ("SET shared:1 x", Err(Denied::Key)),
            ("MGET app:1 shared:1", Ok(())),
            ("MGET app:1 other", Err(Denied::Key)),
            ("COPY shared:1 app:1", Ok(())),
            ("COPY app:1 shared:1", Err(Denied::Key)),
            ("SORT app:1", Ok(())),
            ("SORT app:1 BY w_*", Err(Denied::Key)),
            ("DBSIZE", Ok(())),
        ] {
            assert_eq!(asked(&user, request), answer, "{request}");
        }
    }

    #[test]
    fn channels_go_by_prefix_and_patterns_by_what_is_certain() {
        let user = user(&["+@all"], &[], &["news:"]);
        for (request, answer) in [
            ("SUBSCRIBE news:1", Ok(())),
            ("SUBSCRIBE news:1 other", Err(Denied::Channel)),
            ("PSUBSCRIBE news:*", Ok(())),
            ("PSUBSCRIBE news*", Err(Denied::Channel)),
            ("PSUBSCRIBE n?ws:1", Err(Denied::Channel)),
            ("PUBLISH news:1 other", Ok(())),
            ("PUBLISH other news:1", Err(Denied::Channel)),
            ("SPUBLISH news:1 x", Ok(())),
            ("UNSUBSCRIBE other", Ok(())),
        ] {
            assert_eq!(asked(&user, request), answer, "{request}");
        }
    }

    #[test]
    fn rules_that_mean_nothing_are_errors() {
        for (rule, error) in [
            ("get", RuleError::NoSign("get".to_owned())),
            ("+gte", RuleError::NoCommand("gte".to_owned())),
            ("+config|gte", RuleError::NoCommand("config|gte".to_owned())),
            ("-@dangerus", RuleError::NoCategory("dangerus".to_owned())),
        ] {
            assert_eq!(Allowed::from_rules([rule]), Err(error), "{rule}");
        }
    }
}
