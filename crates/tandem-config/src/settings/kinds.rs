//! The kinds of values that keys take: each says what would be right when it refuses one.

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use tandem_proxy::settings::{Distribution, Hash};
use toml::de::DeValue;

use super::access::Prefix;
use super::section::{Read, Wrong};
use super::{DirectoryAddress, Hook, Preempt, Resync};
use crate::suggest::nearest;
use crate::value::{self, IpPrefix, Window};

/// How long a hook may run where nothing is said.
const HOOK_TIMEOUT: Duration = Duration::from_secs(10);

/// A word without blanks: a host, a group, a user.
#[derive(Debug)]
pub(super) struct Name(pub(super) String);
/// Any non-empty text.
#[derive(Debug)]
pub(super) struct Text(pub(super) String);
/// The name of a network interface.
#[derive(Debug, Clone)]
pub(super) struct Interface(pub(super) String);
/// A TCP port.
#[derive(Debug)]
pub(super) struct Port(pub(super) u16);
/// Two bytes around the part of a key that is hashed.
#[derive(Debug)]
pub(super) struct Tag(pub(super) Option<[u8; 2]>);
/// A number of bytes.
#[derive(Debug)]
pub(super) struct Size(pub(super) u64);
/// A program with its arguments.
#[derive(Debug)]
pub(super) struct Command(pub(super) Vec<String>);
/// The hooks of one occasion.
#[derive(Debug)]
pub(super) struct Commands(pub(super) Vec<Hook>);
/// The word after `users`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum UsersWord {
    Server,
    Proxy,
}
/// The word after `manage`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ManageWord {
    Adopt,
    Spawn,
    Systemd,
}

fn text<'a>(value: &'a DeValue<'_>, right: &str) -> Result<&'a str, Wrong> {
    value.as_str().ok_or_else(|| Wrong::new(right))
}

impl Read for Text {
    const KIND: &'static str = "text";
    fn read(value: &DeValue<'_>) -> Result<Self, Wrong> {
        const RIGHT: &str = "text in quotes, not empty";
        match text(value, RIGHT)? {
            "" => Err(Wrong::new(RIGHT)),
            text => Ok(Self(text.to_owned())),
        }
    }
}

impl Read for Name {
    const KIND: &'static str = "name";
    fn read(value: &DeValue<'_>) -> Result<Self, Wrong> {
        const RIGHT: &str =
            "a name of letters, digits, `.`, `_` and `-`, at most 64, such as \"a\"";
        let text = text(value, RIGHT)?;
        let good = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
        if text.is_empty() || text.len() > 64 || !text.chars().all(good) {
            return Err(Wrong::new(RIGHT));
        }
        Ok(Self(text.to_owned()))
    }
}

impl Read for Interface {
    const KIND: &'static str = "interface";
    fn read(value: &DeValue<'_>) -> Result<Self, Wrong> {
        // The kernel's own rule: IFNAMSIZ less the final zero, no slash, no blank, not a folder's dots.
        const RIGHT: &str = "the name of a network interface, such as \"eth0\"";
        let text = text(value, RIGHT)?;
        let bad = |c: char| c == '/' || c == ':' || c.is_whitespace() || c.is_control();
        if text.is_empty() || text.len() > 15 || text == "." || text == ".." || text.contains(bad) {
            return Err(Wrong::new(RIGHT));
        }
        Ok(Self(text.to_owned()))
    }
}

impl Read for IpAddr {
    const KIND: &'static str = "address";
    fn read(value: &DeValue<'_>) -> Result<Self, Wrong> {
        // Not a host name: failing over must not depend on a resolver.
        const RIGHT: &str = "an IP address such as \"10.0.0.1\", not a name and without a port";
        text(value, RIGHT)?.parse().map_err(|_| Wrong::new(RIGHT))
    }
}

impl Read for PathBuf {
    const KIND: &'static str = "path";
    fn read(value: &DeValue<'_>) -> Result<Self, Wrong> {
        const RIGHT: &str = "an absolute path, such as \"/etc/tandem/secret\"";
        let path = Self::from(text(value, RIGHT)?);
        if path.is_absolute() {
            Ok(path)
        } else {
            Err(Wrong::new(RIGHT))
        }
    }
}

fn integer(value: &DeValue<'_>) -> Option<i64> {
    let integer = value.as_integer()?;
    i64::from_str_radix(integer.as_str(), integer.radix()).ok()
}

impl Read for i64 {
    const KIND: &'static str = "number";
    fn read(value: &DeValue<'_>) -> Result<Self, Wrong> {
        integer(value).ok_or_else(|| Wrong::new("a whole number, without quotes"))
    }
}

impl Read for Port {
    const KIND: &'static str = "port";
    fn read(value: &DeValue<'_>) -> Result<Self, Wrong> {
        integer(value)
            .and_then(|number| u16::try_from(number).ok())
            .filter(|port| *port != 0)
            .map(Self)
            .ok_or_else(|| Wrong::new("a port from 1 to 65535, without quotes"))
    }
}

impl Read for bool {
    const KIND: &'static str = "true or false";
    fn read(value: &DeValue<'_>) -> Result<Self, Wrong> {
        value
            .as_bool()
            .ok_or_else(|| Wrong::new("true or false, without quotes"))
    }
}

impl Read for Duration {
    const KIND: &'static str = "duration";
    fn read(value: &DeValue<'_>) -> Result<Self, Wrong> {
        let text = value.as_str().unwrap_or_default();
        value::parse_duration(text).map_err(|wrong| Wrong::new(wrong.0))
    }
}

impl Read for Size {
    const KIND: &'static str = "size";
    fn read(value: &DeValue<'_>) -> Result<Self, Wrong> {
        if let Some(number) = integer(value) {
            return u64::try_from(number)
                .map(Self)
                .map_err(|_| Wrong::new("not negative"));
        }
        value::parse_bytes(value.as_str().unwrap_or_default())
            .map(Self)
            .map_err(|wrong| Wrong::new(wrong.0))
    }
}

impl Read for Window {
    const KIND: &'static str = "window of the day";
    fn read(value: &DeValue<'_>) -> Result<Self, Wrong> {
        value
            .as_str()
            .unwrap_or_default()
            .parse()
            .map_err(|wrong: value::ValueError| Wrong::new(wrong.0))
    }
}

impl Read for IpPrefix {
    const KIND: &'static str = "address/prefix";
    fn read(value: &DeValue<'_>) -> Result<Self, Wrong> {
        value
            .as_str()
            .unwrap_or_default()
            .parse()
            .map_err(|wrong: value::ValueError| Wrong::new(wrong.0))
    }
}

impl Read for SocketAddr {
    const KIND: &'static str = "address:port";
    fn read(value: &DeValue<'_>) -> Result<Self, Wrong> {
        const RIGHT: &str = "an address with a port, such as \"10.0.0.1:6379\"";
        text(value, RIGHT)?.parse().map_err(|_| Wrong::new(RIGHT))
    }
}

/// A list whose elements are read one by one, each blamed for itself.
fn list<T: Read>(value: &DeValue<'_>, right: &str) -> Result<Vec<T>, Wrong> {
    let items = value.as_array().ok_or_else(|| Wrong::new(right))?;
    items
        .iter()
        .map(|item| T::read(item.get_ref()).map_err(|wrong| wrong.within(item.span())))
        .collect()
}

impl Read for Vec<SocketAddr> {
    const KIND: &'static str = "list of address:port";
    fn read(value: &DeValue<'_>) -> Result<Self, Wrong> {
        list(value, "a list such as [\"10.0.0.1:6379\"]")
    }
}

impl Read for Vec<IpPrefix> {
    const KIND: &'static str = "list of address/prefix";
    fn read(value: &DeValue<'_>) -> Result<Self, Wrong> {
        list(
            value,
            "a list such as [\"10.0.0.100/24\", \"2001:db8::100/64\"]",
        )
    }
}

impl Read for Vec<Interface> {
    const KIND: &'static str = "list of interface";
    fn read(value: &DeValue<'_>) -> Result<Self, Wrong> {
        list(value, "a list such as [\"eth0\"]")
    }
}

impl Read for Vec<Name> {
    const KIND: &'static str = "list of name";
    fn read(value: &DeValue<'_>) -> Result<Self, Wrong> {
        list(value, "a list such as [\"orders-a\", \"orders-b\"]")
    }
}

impl Read for Vec<Text> {
    const KIND: &'static str = "list of text";
    fn read(value: &DeValue<'_>) -> Result<Self, Wrong> {
        list(value, "a list such as [\"+@read\", \"-@dangerous\"]")
    }
}

impl Read for Prefix {
    const KIND: &'static str = "prefix";
    fn read(value: &DeValue<'_>) -> Result<Self, Wrong> {
        const RIGHT: &str =
            "a prefix with a star behind it, such as \"app:*\"; \"*\" is everything";
        match text(value, RIGHT)?.strip_suffix('*') {
            Some(prefix) if !prefix.contains(['*', '?', '[', '\\']) => Ok(Self(prefix.to_owned())),
            Some(_) | None => Err(Wrong::new(RIGHT)),
        }
    }
}

impl Read for Vec<Prefix> {
    const KIND: &'static str = "list of prefix";
    fn read(value: &DeValue<'_>) -> Result<Self, Wrong> {
        list(value, "a list such as [\"app:*\"]")
    }
}

impl Read for UsersWord {
    const KIND: &'static str = "\"server\" or \"proxy\"";
    fn read(value: &DeValue<'_>) -> Result<Self, Wrong> {
        word(value, &[("server", Self::Server), ("proxy", Self::Proxy)])
    }
}

impl Read for Tag {
    const KIND: &'static str = "two characters";
    fn read(value: &DeValue<'_>) -> Result<Self, Wrong> {
        const RIGHT: &str = "two ASCII characters such as \"{}\", or \"\" for none";
        match text(value, RIGHT)?.as_bytes() {
            [] => Ok(Self(None)),
            [open, close] => Ok(Self(Some([*open, *close]))),
            [_] | [_, _, _, ..] => Err(Wrong::new(RIGHT)),
        }
    }
}

impl Read for Hash {
    const KIND: &'static str = "hash";
    fn read(value: &DeValue<'_>) -> Result<Self, Wrong> {
        word(value, &Self::ALL.map(|hash| (hash.name(), hash)))
    }
}

impl Read for Distribution {
    const KIND: &'static str = "distribution";
    fn read(value: &DeValue<'_>) -> Result<Self, Wrong> {
        word(value, &Self::ALL.map(|it| (it.name(), it)))
    }
}

/// One of a few words; a near miss is named.
pub(super) fn word<T: Copy>(value: &DeValue<'_>, words: &[(&str, T)]) -> Result<T, Wrong> {
    let given = value.as_str().unwrap_or_default();
    if let Some((_, meaning)) = words.iter().find(|(word, _)| *word == given) {
        return Ok(*meaning);
    }
    let all: Vec<String> = words
        .iter()
        .map(|(word, _)| format!("\"{word}\""))
        .collect();
    let mut right = all.join(" or ");
    if let Some(near) = nearest(given, words.iter().map(|(word, _)| *word)) {
        right.push_str(&format!("; did you mean \"{near}\"?"));
    }
    Err(Wrong::new(right))
}

impl Read for ManageWord {
    const KIND: &'static str = "\"adopt\", \"spawn\" or \"systemd\"";
    fn read(value: &DeValue<'_>) -> Result<Self, Wrong> {
        word(
            value,
            &[
                ("adopt", Self::Adopt),
                ("spawn", Self::Spawn),
                ("systemd", Self::Systemd),
            ],
        )
    }
}

impl Read for Preempt {
    const KIND: &'static str = "\"never\" or \"after-sync\"";
    fn read(value: &DeValue<'_>) -> Result<Self, Wrong> {
        word(
            value,
            &[("never", Self::Never), ("after-sync", Self::AfterSync)],
        )
    }
}

impl Read for DirectoryAddress {
    const KIND: &'static str = "\"vip\" or \"servers\"";
    fn read(value: &DeValue<'_>) -> Result<Self, Wrong> {
        word(value, &[("vip", Self::Vip), ("servers", Self::Servers)])
    }
}

impl Read for Resync {
    const KIND: &'static str = "\"automatic\" or \"ask\"";
    fn read(value: &DeValue<'_>) -> Result<Self, Wrong> {
        word(value, &[("automatic", Self::Automatic), ("ask", Self::Ask)])
    }
}

impl Read for Command {
    const KIND: &'static str = "command";
    fn read(value: &DeValue<'_>) -> Result<Self, Wrong> {
        const RIGHT: &str = "a list of program and arguments whose program is an absolute path, such as [\"/usr/local/bin/check\", \"now\"]";
        let items = value.as_array().ok_or_else(|| Wrong::new(RIGHT))?;
        let mut command = Vec::with_capacity(items.len());
        for item in items {
            let word = item
                .get_ref()
                .as_str()
                .ok_or_else(|| Wrong::new("text in quotes").within(item.span()))?;
            // A zero byte would cut the argument short on its way to the kernel.
            if word.contains('\0') {
                return Err(Wrong::new("text without a zero byte").within(item.span()));
            }
            command.push(word.to_owned());
        }
        match command.first() {
            Some(program) if program.starts_with('/') => Ok(Self(command)),
            Some(_) | None => Err(Wrong::new(RIGHT)),
        }
    }
}

fn hook(value: &DeValue<'_>) -> Result<Hook, Wrong> {
    let Some(table) = value.as_table() else {
        return Ok(Hook {
            command: Command::read(value)?.0,
            timeout: HOOK_TIMEOUT,
        });
    };
    const RIGHT: &str =
        "a table such as { command = [\"/usr/local/bin/route\"], timeout = \"10s\" }";
    let mut command = None;
    let mut timeout = HOOK_TIMEOUT;
    for (key, item) in table {
        let name: &str = key.get_ref();
        match name {
            "command" => {
                let read = Command::read(item.get_ref());
                command = Some(read.map_err(|wrong| wrong.within(item.span()))?.0);
            }
            "timeout" => {
                let read = Duration::read(item.get_ref());
                timeout = read.map_err(|wrong| wrong.within(item.span()))?;
                if timeout.is_zero() {
                    return Err(Wrong::new("longer than 0").within(item.span()));
                }
            }
            _ => return Err(Wrong::new(RIGHT).within(key.span())),
        }
    }
    let command = command.ok_or_else(|| Wrong::new(RIGHT))?;
    Ok(Hook { command, timeout })
}

impl Read for Commands {
    const KIND: &'static str = "command or commands";
    /// A list of words is one command; a list of lists or tables is several, run in that order.
    fn read(value: &DeValue<'_>) -> Result<Self, Wrong> {
        let several = value
            .as_array()
            .filter(|items| items.iter().any(|item| !item.get_ref().is_str()));
        match several {
            Some(items) => items
                .iter()
                .map(|item| hook(item.get_ref()).map_err(|wrong| wrong.within(item.span())))
                .collect::<Result<_, _>>()
                .map(Self),
            None => Ok(Self(vec![hook(value)?])),
        }
    }
}
