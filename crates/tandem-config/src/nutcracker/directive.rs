//! The directives of a pool: their names, what values they take, and a pool as far as a file has described it.

use tandem_proxy::settings::{Address, Distribution, Hash, Server};

use super::address::{self, Wrong};
use super::number::number;
use super::yaml::Word;
use crate::diagnostic::{Bounded, Diagnostic, Span};
use crate::suggest::nearest;

/// A value and where it stands.
#[derive(Debug, Clone)]
pub(super) struct Given<T> {
    pub(super) value: T,
    pub(super) at: Span,
}

/// A pool, as far as its part of the file says. Nothing has a default here.
#[derive(Debug)]
pub(super) struct Draft {
    pub(super) name: Word,
    /// As written, which is what twemproxy compares two addresses by.
    pub(super) listen_text: String,
    pub(super) listen: Option<Given<Address>>,
    /// There may have been lines that were refused.
    pub(super) servers_given: bool,
    /// There is a list, of whatever directive.
    pub(super) list_given: bool,
    pub(super) servers: Vec<Given<Server>>,
    pub(super) hash: Option<Given<Hash>>,
    pub(super) hash_tag: Option<Given<[u8; 2]>>,
    pub(super) distribution: Option<Given<Distribution>>,
    pub(super) password: Option<Given<String>>,
    pub(super) timeout: Option<Given<u32>>,
    pub(super) backlog: Option<Given<u32>>,
    pub(super) client_connections: Option<Given<u32>>,
    pub(super) database: Option<Given<u32>>,
    pub(super) server_connections: Option<Given<u32>>,
    pub(super) retry_timeout: Option<Given<u32>>,
    pub(super) failure_limit: Option<Given<u32>>,
    pub(super) redis: Option<Given<bool>>,
    pub(super) keepalive: Option<Given<bool>>,
    pub(super) preconnect: Option<Given<bool>>,
    pub(super) eject: Option<Given<bool>>,
    /// Directives that were given, with their first place: a second time is an error even if the first was wrong.
    seen: Vec<(&'static str, Span)>,
}

type Slot<T> = fn(&mut Draft) -> &mut Option<Given<T>>;

/// How a value is read and where it goes.
enum Kind {
    Listen,
    Servers,
    Hash,
    HashTag,
    Distribution,
    Password,
    Number(Slot<u32>),
    Flag(Slot<bool>),
}

const DIRECTIVES: [(&str, Kind); 17] = [
    ("listen", Kind::Listen),
    ("hash", Kind::Hash),
    ("hash_tag", Kind::HashTag),
    ("distribution", Kind::Distribution),
    ("timeout", Kind::Number(|pool| &mut pool.timeout)),
    ("backlog", Kind::Number(|pool| &mut pool.backlog)),
    (
        "client_connections",
        Kind::Number(|pool| &mut pool.client_connections),
    ),
    ("redis", Kind::Flag(|pool| &mut pool.redis)),
    ("tcpkeepalive", Kind::Flag(|pool| &mut pool.keepalive)),
    ("redis_auth", Kind::Password),
    ("redis_db", Kind::Number(|pool| &mut pool.database)),
    ("preconnect", Kind::Flag(|pool| &mut pool.preconnect)),
    ("auto_eject_hosts", Kind::Flag(|pool| &mut pool.eject)),
    (
        "server_connections",
        Kind::Number(|pool| &mut pool.server_connections),
    ),
    (
        "server_retry_timeout",
        Kind::Number(|pool| &mut pool.retry_timeout),
    ),
    (
        "server_failure_limit",
        Kind::Number(|pool| &mut pool.failure_limit),
    ),
    ("servers", Kind::Servers),
];

/// The words of twemproxy: all that the proxy knows but those of new pools.
fn hashes() -> Vec<(&'static str, Hash)> {
    let known = Hash::ALL.into_iter().filter(|hash| *hash != Hash::Xxh3);
    known.map(|hash| (hash.name(), hash)).collect()
}

fn distributions() -> Vec<(&'static str, Distribution)> {
    let known = Distribution::ALL
        .into_iter()
        .filter(|it| *it != Distribution::Rendezvous);
    known.map(|it| (it.name(), it)).collect()
}

/// What twemproxy 0.5.0 does not know and files have all the same.
const ELSEWHERE: [(&str, &str); 2] = [
    (
        "reuseport",
        "only twemproxy's unreleased code has it; `tandem proxy --threads` does it by itself",
    ),
    (
        "sentinels",
        "only forks of twemproxy have it; `[[proxy]]` in tandem.toml follows a group",
    ),
];

impl Draft {
    pub(super) fn new(name: Word) -> Self {
        Self {
            name,
            listen_text: String::new(),
            listen: None,
            servers_given: false,
            list_given: false,
            servers: Vec::new(),
            hash: None,
            hash_tag: None,
            distribution: None,
            password: None,
            timeout: None,
            backlog: None,
            client_connections: None,
            database: None,
            server_connections: None,
            retry_timeout: None,
            failure_limit: None,
            redis: None,
            keepalive: None,
            preconnect: None,
            eject: None,
            seen: Vec::new(),
        }
    }

    /// Takes one value of a directive; a list gives its items one after another, as twemproxy takes them.
    pub(super) fn set(&mut self, name: &Word, value: &Word, report: &mut Bounded) {
        let Some((known, kind)) = DIRECTIVES.iter().find(|(known, _)| *known == name.text) else {
            report.push(unknown(name));
            return;
        };
        if matches!(kind, Kind::Servers) {
            self.servers_given = true;
        } else if let Some((_, first)) = self.seen.iter().find(|(seen, _)| seen == known) {
            report.push(
                Diagnostic::error("duplicate", format!("`{known}` is given twice"))
                    .at(value.at, "the second time")
                    .at(*first, "the first time")
                    .help("keep one of them"),
            );
            return;
        } else {
            self.seen.push((known, value.at));
        }
        match kind {
            Kind::Listen => {
                self.listen_text.clone_from(&value.text);
                self.listen = address_of(address::listen(&value.text), value, report);
            }
            Kind::Servers => {
                let server = address_of(address::server(&value.text), value, report);
                self.servers.extend(server);
            }
            Kind::Hash => self.hash = one_of(&hashes(), "hash", value, report),
            Kind::Distribution => {
                self.distribution = one_of(&distributions(), "distribution", value, report);
            }
            Kind::HashTag => self.hash_tag = tag(value, report),
            Kind::Password => self.password = Some(given(value.text.clone(), value)),
            Kind::Number(slot) => *slot(self) = count(known, value, report),
            Kind::Flag(slot) => *slot(self) = flag(known, value, report),
        }
    }
}

fn given<T>(value: T, word: &Word) -> Given<T> {
    Given { value, at: word.at }
}

fn unknown(name: &Word) -> Diagnostic {
    let found = Diagnostic::error(
        "unknown-directive",
        format!("unknown directive `{}`", name.text),
    )
    .at(name.at, "twemproxy refuses the whole file");
    if let Some((_, why)) = ELSEWHERE.iter().find(|(known, _)| *known == name.text) {
        return found.help(*why);
    }
    match nearest(&name.text, DIRECTIVES.iter().map(|(known, _)| *known)) {
        Some(known) => found.help(format!("did you mean `{known}`?")),
        None => {
            let names: Vec<&str> = DIRECTIVES.iter().map(|(known, _)| *known).collect();
            found.help(format!("there are {}", names.join(", ")))
        }
    }
}

fn address_of<T>(
    read: Result<address::Read<T>, Wrong>,
    word: &Word,
    report: &mut Bounded,
) -> Option<Given<T>> {
    match read {
        Ok(read) => {
            for taken in read.taken_as {
                report.push(taken_otherwise(taken, word));
            }
            Some(given(read.value, word))
        }
        Err(wrong) => {
            let (message, right) = wrong.text();
            report.push(
                Diagnostic::error("address", message)
                    .at(word.at, "")
                    .help(right),
            );
            None
        }
    }
}

fn taken_otherwise(taken: String, word: &Word) -> Diagnostic {
    Diagnostic::warning("taken-otherwise", taken)
        .at(word.at, "twemproxy takes it so, and this program too")
        .help("write what is meant")
}

fn one_of<T: Copy>(
    table: &[(&str, T)],
    what: &str,
    word: &Word,
    report: &mut Bounded,
) -> Option<Given<T>> {
    if let Some((_, value)) = table.iter().find(|(name, _)| *name == word.text) {
        return Some(given(*value, word));
    }
    let names = table.iter().map(|(name, _)| *name);
    let right = match nearest(&word.text, names.clone()) {
        Some(name) => format!("did you mean `{name}`?"),
        None => format!("one of {}", names.collect::<Vec<_>>().join(", ")),
    };
    report.push(
        Diagnostic::error("value", format!("there is no {what} `{}`", word.text))
            .at(word.at, "")
            .help(right),
    );
    None
}

fn tag(word: &Word, report: &mut Bounded) -> Option<Given<[u8; 2]>> {
    if let Ok(tag) = <[u8; 2]>::try_from(word.text.as_bytes()) {
        return Some(given(tag, word));
    }
    report.push(
        Diagnostic::error(
            "value",
            format!("`hash_tag` is two bytes, not `{}`", word.text),
        )
        .at(word.at, "")
        .help("the byte before and the byte after what is hashed, quoted: \"{}\""),
    );
    None
}

fn count(name: &str, word: &Word, report: &mut Bounded) -> Option<Given<u32>> {
    let Some((value, wrapped)) = number(&word.text) else {
        let right = match name {
            "timeout" => "milliseconds, in digits alone; without the directive there is no bound",
            "server_retry_timeout" => "milliseconds, in digits alone",
            _ => "digits alone",
        };
        report.push(
            Diagnostic::error(
                "value",
                format!(
                    "`{name}` is not a number from 0 to 2147483647: `{}`",
                    word.text
                ),
            )
            .at(word.at, "")
            .help(right),
        );
        return None;
    };
    if wrapped {
        report.push(taken_otherwise(
            format!("`{name}: {}` counts as {value}", word.text),
            word,
        ));
    }
    Some(given(value, word))
}

fn flag(name: &str, word: &Word, report: &mut Bounded) -> Option<Given<bool>> {
    match word.text.as_str() {
        "true" => Some(given(true, word)),
        "false" => Some(given(false, word)),
        other => {
            let right = match other.to_ascii_lowercase().as_str() {
                "yes" | "on" | "1" | "true" => "write `true`",
                "no" | "off" | "0" | "false" => "write `false`",
                _ => "write `true` or `false`",
            };
            report.push(
                Diagnostic::error(
                    "value",
                    format!("`{name}` is `true` or `false`, not `{other}`"),
                )
                .at(word.at, "")
                .help(right),
            );
            None
        }
    }
}
