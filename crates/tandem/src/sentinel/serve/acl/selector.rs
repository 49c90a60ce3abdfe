//! One set of permissions: commands, keys and channels, and the rules that change it.
//!
//! A user has one root selector and any number of others; a command is allowed where one of them allows all of it. Keys are
//! only remembered: no command of a sentinel has any, yet a file shared with servers must keep them.

use std::collections::BTreeMap;

use super::RuleError;
use crate::sentinel::serve::command::{CATEGORIES, CommandId, category};
use crate::sentinel::serve::glob;

/// Why a command was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Denied {
    /// The command itself.
    Command,
    /// The channel at this argument.
    Channel(usize),
}

/// A pattern of keys, and what may be done with them.
#[derive(Clone, Debug, PartialEq, Eq)]
struct KeyPattern {
    read: bool,
    write: bool,
    pattern: Vec<u8>,
}

/// How the channels of a command are given.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ChannelUse {
    /// Arguments from here on are channels.
    Names(usize),
    /// Arguments from here on are patterns.
    Patterns(usize),
    /// This argument alone is a channel.
    One(usize),
    /// No argument is a channel that needs a permission.
    None,
}

/// Permissions.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Selector {
    /// A bit for each command of the table.
    commands: u128,
    /// `+@all` came last: commands that a later version brings are allowed too.
    future: bool,
    /// `+command|word`: allowed with this first argument only (deprecated in Redis, and read all the same).
    first_args: BTreeMap<CommandId, Vec<Vec<u8>>>,
    all_keys: bool,
    keys: Vec<KeyPattern>,
    all_channels: bool,
    channels: Vec<Vec<u8>>,
}

impl Selector {
    /// Nothing is allowed, except every channel where `acl-pubsub-default allchannels` says so.
    pub(crate) fn new(all_channels: bool) -> Self {
        Self {
            commands: 0,
            future: false,
            first_args: BTreeMap::new(),
            all_keys: false,
            keys: Vec::new(),
            all_channels,
            channels: Vec::new(),
        }
    }

    /// Applies one rule.
    pub(crate) fn apply(&mut self, rule: &[u8]) -> Result<(), RuleError> {
        let is = |word: &str| rule.eq_ignore_ascii_case(word.as_bytes());
        if is("allkeys") || is("~*") {
            self.all_keys = true;
            self.keys.clear();
        } else if is("resetkeys") {
            self.all_keys = false;
            self.keys.clear();
        } else if is("allchannels") || is("&*") {
            self.all_channels = true;
            self.channels.clear();
        } else if is("resetchannels") {
            self.all_channels = false;
            self.channels.clear();
        } else if is("allcommands") || is("+@all") {
            self.commands = u128::MAX;
            self.future = true;
            self.first_args.clear();
        } else if is("nocommands") || is("-@all") {
            self.commands = 0;
            self.future = false;
            self.first_args.clear();
        } else {
            return match rule.split_first() {
                Some((b'~' | b'%', _)) => self.key_pattern(rule),
                Some((b'&', pattern)) => self.channel(pattern),
                Some((sign @ (b'+' | b'-'), [b'@', name @ ..])) => {
                    let index = category(name).ok_or(RuleError::UnknownCommand)?;
                    self.change_category(index, *sign == b'+');
                    Ok(())
                }
                Some((b'+', name)) => self.add(name),
                Some((b'-', name)) => {
                    let id = CommandId::by_name(name).ok_or(RuleError::UnknownCommand)?;
                    self.change(id, false);
                    Ok(())
                }
                Some(_) | None => Err(RuleError::Syntax),
            };
        }
        Ok(())
    }

    fn key_pattern(&mut self, rule: &[u8]) -> Result<(), RuleError> {
        if self.all_keys {
            return Err(RuleError::PatternAfterAllKeys);
        }
        let (read, write, pattern) = match rule {
            [b'~', pattern @ ..] => (true, true, pattern),
            _ => {
                let tilde = rule.iter().position(|byte| *byte == b'~');
                let at = tilde.ok_or(RuleError::Syntax)?;
                let marks = &rule[1..at];
                if marks.is_empty()
                    || !marks
                        .iter()
                        .all(|mark| matches!(mark.to_ascii_uppercase(), b'R' | b'W'))
                {
                    return Err(RuleError::Syntax);
                }
                let has = |wanted: u8| marks.iter().any(|mark| mark.to_ascii_uppercase() == wanted);
                (has(b'R'), has(b'W'), &rule[at + 1..])
            }
        };
        if super::has_spaces(pattern) {
            return Err(RuleError::Syntax);
        }
        // The same pattern twice is one with both permissions.
        match self.keys.iter_mut().find(|key| key.pattern == pattern) {
            Some(key) => {
                key.read |= read;
                key.write |= write;
            }
            None => self.keys.push(KeyPattern {
                read,
                write,
                pattern: pattern.to_vec(),
            }),
        }
        Ok(())
    }

    fn channel(&mut self, pattern: &[u8]) -> Result<(), RuleError> {
        if self.all_channels {
            return Err(RuleError::PatternAfterAllChannels);
        }
        if super::has_spaces(pattern) {
            return Err(RuleError::Syntax);
        }
        if !self.channels.iter().any(|known| known == pattern) {
            self.channels.push(pattern.to_vec());
        }
        Ok(())
    }

    /// `+command`, `+container|subcommand` or `+command|first-argument`.
    fn add(&mut self, name: &[u8]) -> Result<(), RuleError> {
        let Some(bar) = name.iter().rposition(|byte| *byte == b'|') else {
            let id = CommandId::by_name(name).ok_or(RuleError::UnknownCommand)?;
            self.change(id, true);
            return Ok(());
        };
        let (command, sub) = (&name[..bar], &name[bar + 1..]);
        let id = CommandId::by_name(command).ok_or(RuleError::UnknownCommand)?;
        if id.entry().container().is_some() {
            return Err(RuleError::FirstArgOfSubcommand);
        }
        if sub.is_empty() {
            return Err(RuleError::Syntax);
        }
        if id.is_container() {
            let id = CommandId::by_name(name).ok_or(RuleError::UnknownCommand)?;
            self.change(id, true);
            return Ok(());
        }
        let words = self.first_args.entry(id).or_default();
        if !words.iter().any(|word| word.eq_ignore_ascii_case(sub)) {
            words.push(sub.to_vec());
        }
        Ok(())
    }

    /// A container takes its subcommands with it. A rule about a command that is not listed is taken and changes nothing: it
    /// comes from a file of another version, and the command goes by the permission of its like.
    fn change(&mut self, id: CommandId, allow: bool) {
        self.first_args.remove(&id);
        self.commands = with(self.commands, id, allow);
    }

    fn change_category(&mut self, index: usize, allow: bool) {
        self.commands = with_category(self.commands, index, allow);
        self.first_args
            .retain(|id, _| !id.entry().in_category(index));
    }

    /// Whether this selector allows a command with these words, which are the whole request.
    pub(crate) fn check(
        &self,
        id: CommandId,
        argv: &[Vec<u8>],
        channels: ChannelUse,
    ) -> Result<(), Denied> {
        let id = id.permission();
        if !id.entry().has_flag("no_auth") && self.commands & id.bit() == 0 {
            let first = argv.get(1).filter(|first| {
                self.first_args
                    .get(&id)
                    .is_some_and(|words| words.iter().any(|word| word.eq_ignore_ascii_case(first)))
            });
            if first.is_none() {
                return Err(Denied::Command);
            }
        }
        let (range, literal) = match channels {
            ChannelUse::None => return Ok(()),
            ChannelUse::Names(from) => (from..argv.len(), false),
            ChannelUse::Patterns(from) => (from..argv.len(), true),
            ChannelUse::One(at) => (at..(at + 1).min(argv.len()), false),
        };
        for at in range {
            if !self.allows_channel(&argv[at], literal) {
                return Err(Denied::Channel(at));
            }
        }
        Ok(())
    }

    /// Whether a channel may be used. A pattern must be one of the user's own, letter by letter: whether one pattern covers
    /// another is not asked.
    pub(crate) fn allows_channel(&self, channel: &[u8], is_pattern: bool) -> bool {
        self.all_channels
            || self.channels.iter().any(|allowed| {
                if is_pattern {
                    allowed == channel
                } else {
                    glob::matches(allowed, channel)
                }
            })
    }

    /// The rules about keys, in the form in which they can be given again.
    pub(crate) fn describe_keys(&self) -> String {
        if self.all_keys {
            return "~*".to_owned();
        }
        let each = self.keys.iter().map(|key| {
            let pattern = String::from_utf8_lossy(&key.pattern);
            match (key.read, key.write) {
                (true, true) => format!("~{pattern}"),
                (true, false) => format!("%R~{pattern}"),
                (false, _) => format!("%W~{pattern}"),
            }
        });
        each.collect::<Vec<_>>().join(" ")
    }

    /// The rules about channels.
    pub(crate) fn describe_channels(&self) -> String {
        if self.all_channels {
            return "&*".to_owned();
        }
        let each = self
            .channels
            .iter()
            .map(|pattern| format!("&{}", String::from_utf8_lossy(pattern)));
        each.collect::<Vec<_>>().join(" ")
    }

    /// The rules about commands, found anew from what is allowed: all or nothing first, then the categories that fit best,
    /// then single commands. Redis 7.0 writes them so, and reads back what it wrote; it does not keep the user's own words.
    pub(crate) fn describe_commands(&self) -> String {
        let additive = !self.future;
        let sign = if additive { '+' } else { '-' };
        let mut rules = vec![if additive { "-@all" } else { "+@all" }.to_owned()];
        // What the rules written so far amount to, and what of the commands they have not dealt with yet.
        let mut written = if additive { 0 } else { u128::MAX };
        let mut rest = self.commands;
        let mut used = [false; CATEGORIES.len()];
        while let Some(best) = best_category(rest, additive, &used) {
            written = with_category(written, best, additive);
            rest = with_category(rest, best, !additive);
            used[best] = true;
            rules.push(format!("{sign}@{}", CATEGORIES[best]));
        }
        for id in CommandId::all().filter(|id| id.entry().is_listed()) {
            let name = id.entry().name;
            let wanted = self.commands & id.bit() != 0;
            if wanted != (written & id.bit() != 0) {
                rules.push(format!("{}{name}", if wanted { '+' } else { '-' }));
                written = with(written, id, wanted);
            }
            if !wanted {
                for word in self.first_args.get(&id).into_iter().flatten() {
                    rules.push(format!("+{name}|{}", String::from_utf8_lossy(word)));
                }
            }
        }
        rules.join(" ")
    }

    /// All rules on one line.
    pub(crate) fn describe(&self) -> String {
        let mut parts = Vec::new();
        let keys = self.describe_keys();
        if !keys.is_empty() {
            parts.push(keys);
        }
        if !self.all_channels {
            parts.push("resetchannels".to_owned());
        }
        let channels = self.describe_channels();
        if !channels.is_empty() {
            parts.push(channels);
        }
        parts.push(self.describe_commands());
        parts.join(" ")
    }
}

fn with(set: u128, id: CommandId, allow: bool) -> u128 {
    let bits = id
        .subcommands()
        .fold(id.bit(), |bits, sub| bits | sub.bit());
    if allow { set | bits } else { set & !bits }
}

fn with_category(set: u128, index: usize, allow: bool) -> u128 {
    CommandId::all()
        .filter(|id| id.entry().is_listed() && id.entry().in_category(index))
        .fold(set, |set, id| with(set, id, allow))
}

/// The category with the fewest commands that do not fit, and among equals with the most that do; it must fit more than it
/// misses.
fn best_category(rest: u128, additive: bool, used: &[bool]) -> Option<usize> {
    let mut best: Option<(usize, usize, usize)> = None;
    for (index, _) in used.iter().enumerate().filter(|(_, used)| !**used) {
        let members = CommandId::all().filter(|id| id.entry().in_category(index));
        let (mut on, mut off) = (0, 0);
        for id in members.filter(|id| id.entry().is_listed()) {
            if rest & id.bit() == 0 {
                off += 1;
            } else {
                on += 1;
            }
        }
        let (same, different) = if additive { (on, off) } else { (off, on) };
        let better = best.is_none_or(|(_, least, most)| {
            different < least || (different == least && same > most)
        });
        if same > different && better {
            best = Some((index, different, same));
        }
    }
    best.map(|(index, _, _)| index)
}
