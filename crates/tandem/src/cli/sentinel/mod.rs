//! `tandem sentinel status` and `tandem sentinel explain`: what every sentinel of a fleet believes, side by side.
//!
//! The address that was given is asked first, then all sentinels that it names and those that they name ([`fetch`]). Ours
//! answer `SENTINEL TANDEM STATUS`; a redis-sentinel is asked by its ordinary commands ([`foreign`]) and shown with what it
//! tells. Nothing is changed and nothing is concluded here that a sentinel could say itself: who would be promoted and why
//! there is no failover are the machine's own words. [`table`] is what people see.
//!
//! Exit codes are the command line's: 0 when the given address answered, whatever the others did (they are shown), 1 when
//! it did not, 2 for a wrong address, an unreadable password file or a group that nobody knows.

mod fetch;
mod foreign;
mod table;

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

use serde_json::json;

use crate::cli::{DONE, FAILED, USAGE, at_path, block_on};
use crate::redis::raw::Credentials;
use fetch::Asked;

/// The port of a sentinel.
const SENTINEL_PORT: u16 = 26379;

/// The questions to a fleet. They are verbs wherever they come first: a file that is called `status` is written `./status`.
#[derive(Debug, clap::Subcommand)]
pub(crate) enum SentinelVerb {
    /// What each sentinel of a fleet believes, where they differ, and what would happen if the primary died now.
    Status(SentinelQuestion),
    /// Why there was no failover, in each sentinel's own words.
    Explain(SentinelQuestion),
}

/// Whom to ask, and about what.
#[derive(Debug, clap::Args)]
pub(crate) struct SentinelQuestion {
    /// Print help.
    #[arg(short, long, action = clap::ArgAction::Help)]
    help: Option<bool>,
    /// One sentinel, `HOST[:PORT]`; the others are found through it.
    address: Address,
    /// One group of several.
    group: Option<String>,
    /// For machines.
    #[arg(long)]
    json: bool,
    /// The password, in a file; the same one for all sentinels.
    #[arg(long)]
    password_file: Option<PathBuf>,
    /// The ACL user that the password is for.
    #[arg(long, requires = "password_file")]
    user: Option<String>,
}

/// A host by name or address, and a port.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Address {
    host: String,
    port: u16,
}

impl FromStr for Address {
    type Err = &'static str;

    /// `host`, `host:port`, `[v6]:port`; a bare IPv6 address has no port.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (host, port) = match text.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
            Some((host, "")) => (host, None),
            Some((host, port)) => (host, Some(port.strip_prefix(':').ok_or("not HOST[:PORT]")?)),
            None => match text.rsplit_once(':') {
                Some((host, port)) if !host.contains(':') => (host, Some(port)),
                Some(_) | None => (text, None),
            },
        };
        let port = match port {
            Some(port) => port.parse().ok().filter(|port| *port != 0),
            None => Some(SENTINEL_PORT),
        };
        if host.is_empty() {
            return Err("no host");
        }
        Ok(Self {
            host: host.to_owned(),
            port: port.ok_or("not a port")?,
        })
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.host.contains(':') {
            write!(f, "[{}]:{}", self.host, self.port)
        } else {
            write!(f, "{}:{}", self.host, self.port)
        }
    }
}

/// Asks, prints, and gives the exit code.
pub(crate) fn sentinel(verb: &SentinelVerb) -> u8 {
    let (question, show): (_, fn(&[Asked], &str) -> String) = match verb {
        SentinelVerb::Status(question) => (question, table::status),
        SentinelVerb::Explain(question) => (question, table::explain),
    };
    let login = match login(question) {
        Ok(login) => login,
        Err(text) => return failed(USAGE, &text),
    };
    let group = question.group.as_deref();
    let asked = match block_on(fetch::fleet(&question.address, login.as_ref(), group)) {
        Ok(asked) => asked,
        Err(error) => return failed(FAILED, &error.to_string()),
    };
    if question.json {
        println!("{}", json!({ "format": 1, "sentinels": asked }));
    }
    // The one that was named comes first; without its answer there is no fleet.
    if let Some(error) = asked.first().and_then(|first| first.error.as_ref()) {
        return failed(FAILED, &format!("no answer from {}: {error}", asked[0].at));
    }
    let groups = table::groups(&asked);
    if let Some(group) = group
        && !groups.contains(group)
    {
        return failed(
            USAGE,
            &format!("no sentinel of this fleet knows a group {group}"),
        );
    }
    if !question.json {
        if groups.is_empty() {
            println!("{} monitors nothing", asked[0].at);
        }
        for group in groups {
            print!("{}", show(&asked, group));
        }
    }
    DONE
}

fn failed(code: u8, text: &str) -> u8 {
    eprintln!("tandem: {text}");
    code
}

fn login(question: &SentinelQuestion) -> Result<Option<Credentials>, String> {
    let Some(path) = &question.password_file else {
        return Ok(None);
    };
    let bytes = std::fs::read(path).map_err(|error| at_path(path, &error).to_string())?;
    Ok(Some(Credentials {
        user: question.user.clone().map(String::into_bytes),
        password: bytes.trim_ascii_end().to_vec(),
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses() {
        let cases = [
            ("10.0.0.1", Some("10.0.0.1:26379")),
            ("s1.example:5000", Some("s1.example:5000")),
            ("[::1]:5000", Some("[::1]:5000")),
            ("[::1]", Some("[::1]:26379")),
            ("fe80::1", Some("[fe80::1]:26379")),
            ("a:0", None),
            ("a:b", None),
            (":5000", None),
            ("[::1]x", None),
            ("", None),
        ];
        for (text, expected) in cases {
            let read = text.parse::<Address>().ok().map(|it| it.to_string());
            assert_eq!(read.as_deref(), expected, "{text}");
        }
    }
}
