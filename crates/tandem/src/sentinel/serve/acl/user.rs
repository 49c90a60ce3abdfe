//! One user: flags, passwords, and the selectors that say what is allowed.

use sha2::{Digest as _, Sha256};
use tandem_resp::Value;

use super::{ChannelUse, Denied, RuleError, Selector};
use crate::sentinel::serve::command::CommandId;

/// Most passwords and selectors of one user: a bound on one who may change users.
const EACH_MAX: usize = 1024;

/// A user of the ACL.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct User {
    on: bool,
    nopass: bool,
    /// `sanitize-payload` or `skip-sanitize-payload`, of no meaning to a sentinel, as it was given last.
    sanitize: Option<bool>,
    /// SHA-256, in lower-case hexadecimal, in the order in which they were given.
    passwords: Vec<String>,
    root: Selector,
    selectors: Vec<Selector>,
}

/// SHA-256 in lower-case hexadecimal.
pub(super) fn hash(password: &[u8]) -> String {
    Sha256::digest(password)
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect()
}

/// Compares without telling by the time where the difference is.
fn same(one: &str, other: &str) -> bool {
    one.len() == other.len()
        && one
            .bytes()
            .zip(other.bytes())
            .fold(0, |difference, (a, b)| difference | (a ^ b))
            == 0
}

impl User {
    /// A user as `ACL SETUSER name` makes it: off, no password, nothing allowed.
    pub(super) fn new(all_channels: bool) -> Self {
        Self {
            on: false,
            nopass: false,
            sanitize: None,
            passwords: Vec::new(),
            root: Selector::new(all_channels),
            selectors: Vec::new(),
        }
    }

    /// Applies one rule; a selector comes as one, in its parentheses.
    pub(super) fn apply(&mut self, rule: &[u8], all_channels: bool) -> Result<(), RuleError> {
        let is = |word: &str| rule.eq_ignore_ascii_case(word.as_bytes());
        if is("on") {
            self.on = true;
        } else if is("off") {
            self.on = false;
        } else if is("nopass") {
            self.nopass = true;
            self.passwords.clear();
        } else if is("resetpass") {
            self.nopass = false;
            self.passwords.clear();
        } else if is("sanitize-payload") {
            self.sanitize = Some(true);
        } else if is("skip-sanitize-payload") {
            self.sanitize = Some(false);
        } else if is("clearselectors") {
            self.selectors.clear();
        } else if is("reset") {
            *self = Self::new(all_channels);
            self.sanitize = Some(true);
        } else {
            match rule {
                [b'>', password @ ..] => self.add_password(hash(password)),
                [b'#', hash @ ..] => self.add_password(checked(hash)?),
                [b'<', password @ ..] => return self.remove_password(&hash(password)),
                [b'!', hash @ ..] => return self.remove_password(&checked(hash)?),
                [b'(', inner @ .., b')'] => {
                    if self.selectors.len() >= EACH_MAX {
                        return Err(RuleError::Syntax);
                    }
                    let mut selector = Selector::new(all_channels);
                    for rule in inner.split(|byte| *byte == b' ').filter(|r| !r.is_empty()) {
                        selector.apply(rule)?;
                    }
                    self.selectors.push(selector);
                }
                _ => return self.root.apply(rule),
            }
        }
        Ok(())
    }

    fn add_password(&mut self, hash: String) {
        if !self.passwords.contains(&hash) && self.passwords.len() < EACH_MAX {
            self.passwords.push(hash);
        }
        self.nopass = false;
    }

    fn remove_password(&mut self, hash: &str) -> Result<(), RuleError> {
        let at = self.passwords.iter().position(|known| known == hash);
        self.passwords.remove(at.ok_or(RuleError::NoSuchPassword)?);
        Ok(())
    }

    /// `requirepass`.
    pub(super) fn require_password(&mut self, password: &[u8]) {
        self.passwords.clear();
        self.nopass = password.is_empty();
        if !password.is_empty() {
            self.passwords.push(hash(password));
        }
    }

    /// Whether everybody may be this user without AUTH.
    pub(crate) fn is_open(&self) -> bool {
        self.on && self.nopass
    }

    /// Whether no password is asked for.
    pub(crate) fn has_no_password(&self) -> bool {
        self.nopass
    }

    /// Whether this password lets in.
    pub(super) fn accepts(&self, password: &[u8]) -> bool {
        let given = hash(password);
        let known = self
            .passwords
            .iter()
            .fold(false, |found, known| found | same(known, &given));
        self.on && (self.nopass || known)
    }

    fn each(&self) -> impl Iterator<Item = &Selector> {
        std::iter::once(&self.root).chain(&self.selectors)
    }

    /// Whether one of the selectors allows the command. Where none does, the refusal that came furthest is told.
    pub(crate) fn check(
        &self,
        id: CommandId,
        argv: &[Vec<u8>],
        channels: ChannelUse,
    ) -> Result<(), Denied> {
        let mut worst = Denied::Command;
        for selector in self.each() {
            match selector.check(id, argv, channels) {
                Ok(()) => return Ok(()),
                Err(denied) => worst = worst.max(denied),
            }
        }
        Err(worst)
    }

    /// Whether the user may still use a channel or, letter by letter, a pattern that it has subscribed to.
    pub(crate) fn allows_channel(&self, channel: &[u8], is_pattern: bool) -> bool {
        self.each()
            .any(|selector| selector.allows_channel(channel, is_pattern))
    }

    /// The rules that make this user anew.
    pub(crate) fn describe(&self) -> String {
        let mut parts: Vec<String> = self.flags().into_iter().map(str::to_owned).collect();
        parts.extend(self.passwords.iter().map(|hash| format!("#{hash}")));
        parts.push(self.root.describe());
        parts.extend(
            self.selectors
                .iter()
                .map(|selector| format!("({})", selector.describe())),
        );
        parts.join(" ")
    }

    fn flags(&self) -> Vec<&'static str> {
        let mut flags = vec![if self.on { "on" } else { "off" }];
        if self.nopass {
            flags.push("nopass");
        }
        match self.sanitize {
            Some(true) => flags.push("sanitize-payload"),
            Some(false) => flags.push("skip-sanitize-payload"),
            None => {}
        }
        flags
    }

    /// `ACL GETUSER`.
    pub(crate) fn to_value(&self) -> Value {
        let bulk = |text: &str| Value::Bulk(text.as_bytes().to_vec());
        let permissions = |selector: &Selector| {
            vec![
                (bulk("commands"), bulk(&selector.describe_commands())),
                (bulk("keys"), bulk(&selector.describe_keys())),
                (bulk("channels"), bulk(&selector.describe_channels())),
            ]
        };
        let mut fields = vec![
            (
                bulk("flags"),
                Value::Set(self.flags().iter().map(|flag| bulk(flag)).collect()),
            ),
            (
                bulk("passwords"),
                Value::Array(self.passwords.iter().map(|hash| bulk(hash)).collect()),
            ),
        ];
        fields.extend(permissions(&self.root));
        fields.push((
            bulk("selectors"),
            Value::Array(
                self.selectors
                    .iter()
                    .map(|selector| Value::Map(permissions(selector)))
                    .collect(),
            ),
        ));
        Value::Map(fields)
    }
}

/// A hash as `#` and `!` take it.
fn checked(hash: &[u8]) -> Result<String, RuleError> {
    let fits = |byte: &u8| matches!(byte, b'0'..=b'9' | b'a'..=b'f');
    if hash.len() != 64 || !hash.iter().all(fits) {
        return Err(RuleError::BadHash);
    }
    String::from_utf8(hash.to_vec()).map_err(|_| RuleError::BadHash)
}
