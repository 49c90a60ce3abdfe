//! From the words after SENTINEL to what is asked.
//!
//! Names are taken in any case, with Valkey's second spelling where it has one. What can be refused by looking at the
//! words alone is refused here, in the order in which Redis looks at them; everything else needs the state and is
//! [`super::answer`]'s.

use crate::sentinel::commands::error::{CommandError, echo};
use crate::sentinel::ids::{ElectionEpoch, GroupName, SentinelId};
use crate::sentinel::settings::Compat;

/// A SENTINEL command whose form is right.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Subcommand {
    /// `MASTERS`.
    Primaries,
    /// `MASTER name`.
    Primary(GroupName),
    /// `REPLICAS name`, `SLAVES name`.
    Replicas(GroupName),
    /// `SENTINELS name`.
    Sentinels(GroupName),
    /// `GET-MASTER-ADDR-BY-NAME name`.
    AddressOf(GroupName),
    /// `IS-MASTER-DOWN-BY-ADDR ip port epoch id`.
    IsDown {
        /// The primary's host, as the asker shows it.
        host: String,
        /// Its port; any number.
        port: i64,
        /// The asker's election.
        epoch: ElectionEpoch,
        /// For whom a vote is asked; `None` when only the opinion is, or when the id is none.
        candidate: Option<SentinelId>,
    },
    /// `RESET pattern`.
    Reset(Vec<u8>),
    /// `FAILOVER name`.
    Failover(GroupName),
    /// `PENDING-SCRIPTS`.
    PendingScripts,
    /// `MONITOR name host port quorum`; the quorum is at least 1.
    Monitor {
        /// The name.
        name: Vec<u8>,
        /// Where its primary is.
        host: String,
        /// Its port; any number.
        port: i64,
        /// The quorum.
        quorum: u32,
    },
    /// `REMOVE name`.
    Remove(GroupName),
    /// `SET name option value ...`.
    Set {
        /// The group.
        name: GroupName,
        /// Options and values, as they came.
        words: Vec<Vec<u8>>,
    },
    /// `CONFIG GET pattern ...`; several only for 7.2.
    ConfigGet(Vec<Vec<u8>>),
    /// `CONFIG SET option value ...`; several only for 7.2.
    ConfigSet(Vec<Vec<u8>>),
    /// `CKQUORUM name`.
    CheckQuorum(GroupName),
    /// `FLUSHCONFIG`.
    FlushConfig,
    /// `INFO-CACHE name ...`.
    InfoCache(Vec<GroupName>),
    /// `MYID`.
    MyId,
    /// `SIMULATE-FAILURE word ...`.
    SimulateFailure(Vec<Vec<u8>>),
    /// `DEBUG [period ms ...]`.
    Debug(Vec<Vec<u8>>),
    /// `HELP`.
    Help,
    /// `TANDEM`: whether this is a tandem sentinel, and which.
    Tandem,
    /// `TANDEM STATUS`, `TANDEM EXPLAIN [name]`: what this sentinel believes.
    Status(Option<GroupName>),
}

/// Reads the words of a command whose count is right, the name first.
type Reader = fn(&[Vec<u8>], Compat) -> Result<Subcommand, CommandError>;

/// One row of the table of commands.
struct Form {
    name: &'static str,
    /// Valkey's spelling.
    alias: Option<&'static str>,
    /// Words that it takes, the name itself included. Redis counts the container's name as well.
    words: usize,
    /// Whether it takes more than those.
    more: bool,
    read: Reader,
}

const fn exactly(words: usize, name: &'static str, read: Reader) -> Form {
    Form {
        name,
        alias: None,
        words,
        more: false,
        read,
    }
}

const fn at_least(words: usize, name: &'static str, read: Reader) -> Form {
    Form {
        more: true,
        ..exactly(words, name, read)
    }
}

const fn or(alias: &'static str, form: Form) -> Form {
    Form {
        alias: Some(alias),
        ..form
    }
}

const FORMS: &[Form] = &[
    or(
        "primaries",
        exactly(1, "masters", |_, _| Ok(Subcommand::Primaries)),
    ),
    or(
        "primary",
        exactly(2, "master", |words, _| {
            Ok(Subcommand::Primary(group(words)))
        }),
    ),
    exactly(2, "replicas", |words, _| {
        Ok(Subcommand::Replicas(group(words)))
    }),
    exactly(2, "slaves", |words, _| {
        Ok(Subcommand::Replicas(group(words)))
    }),
    exactly(2, "sentinels", |words, _| {
        Ok(Subcommand::Sentinels(group(words)))
    }),
    or(
        "get-primary-addr-by-name",
        exactly(2, "get-master-addr-by-name", |words, _| {
            Ok(Subcommand::AddressOf(group(words)))
        }),
    ),
    or(
        "is-primary-down-by-addr",
        exactly(5, "is-master-down-by-addr", |words, _| is_down(words)),
    ),
    exactly(2, "reset", |words, _| {
        Ok(Subcommand::Reset(words[1].clone()))
    }),
    exactly(2, "failover", |words, _| {
        Ok(Subcommand::Failover(group(words)))
    }),
    exactly(1, "pending-scripts", |_, _| Ok(Subcommand::PendingScripts)),
    exactly(5, "monitor", |words, _| monitor(words)),
    exactly(2, "remove", |words, _| Ok(Subcommand::Remove(group(words)))),
    at_least(4, "set", |words, _| {
        Ok(Subcommand::Set {
            name: group(words),
            words: words[2..].to_vec(),
        })
    }),
    at_least(2, "config", |words, compat| config(&words[1..], compat)),
    exactly(2, "ckquorum", |words, _| {
        Ok(Subcommand::CheckQuorum(group(words)))
    }),
    exactly(1, "flushconfig", |_, _| Ok(Subcommand::FlushConfig)),
    at_least(2, "info-cache", |words, _| {
        let names = words[1..].iter().map(|word| GroupName(text(word)));
        Ok(Subcommand::InfoCache(names.collect()))
    }),
    exactly(1, "myid", |_, _| Ok(Subcommand::MyId)),
    at_least(2, "simulate-failure", |words, _| {
        Ok(Subcommand::SimulateFailure(rest(words)))
    }),
    at_least(1, "debug", |words, _| Ok(Subcommand::Debug(rest(words)))),
    exactly(1, "help", |_, _| Ok(Subcommand::Help)),
    at_least(1, "tandem", |words, _| tandem(&words[1..])),
];

/// Reads the words after SENTINEL.
///
/// # Errors
/// [`CommandError`] with the text that Redis gives.
pub fn parse(words: &[Vec<u8>], compat: Compat) -> Result<Subcommand, CommandError> {
    let Some(first) = words.first() else {
        return Err(CommandError::Arity("sentinel".to_owned()));
    };
    let (form, name) = find(first)?;
    if words.len() < form.words || words.len() > form.words && !form.more {
        return Err(CommandError::Arity(format!("sentinel|{name}")));
    }
    (form.read)(words, compat)
}

fn group(words: &[Vec<u8>]) -> GroupName {
    GroupName(text(&words[1]))
}

fn rest(words: &[Vec<u8>]) -> Vec<Vec<u8>> {
    words[1..].to_vec()
}

/// The form of this name, and the spelling that was meant, in lower case.
fn find(word: &[u8]) -> Result<(&'static Form, &'static str), CommandError> {
    let is = |name: &str| word.eq_ignore_ascii_case(name.as_bytes());
    FORMS
        .iter()
        .find_map(|form| {
            let alias = form.alias.filter(|alias| is(alias));
            let name = alias.or_else(|| is(form.name).then_some(form.name))?;
            Some((form, name))
        })
        // Redis says no more than 128 bytes of it back.
        .ok_or_else(|| CommandError::UnknownSubcommand(echo(&word[..word.len().min(128)])))
}

fn is_down(words: &[Vec<u8>]) -> Result<Subcommand, CommandError> {
    let number = |word: &Vec<u8>| integer(word).ok_or(CommandError::NotANumber);
    let port = number(&words[2])?;
    // Redis takes a negative election for one of the far future, which no later one could ever surpass.
    let epoch = u64::try_from(number(&words[3])?).map_err(|_| CommandError::NotANumber)?;
    Ok(Subcommand::IsDown {
        host: text(&words[1]),
        port,
        epoch: ElectionEpoch(epoch),
        candidate: std::str::from_utf8(&words[4])
            .ok()
            .and_then(SentinelId::parse),
    })
}

fn monitor(words: &[Vec<u8>]) -> Result<Subcommand, CommandError> {
    let quorum = integer(&words[4]).ok_or(CommandError::QuorumNotANumber)?;
    let port = integer(&words[3]).ok_or(CommandError::PortNotANumber)?;
    if quorum <= 0 {
        return Err(CommandError::QuorumTooSmall);
    }
    Ok(Subcommand::Monitor {
        name: words[1].clone(),
        host: text(&words[2]),
        port,
        quorum: u32::try_from(quorum).map_err(|_| CommandError::QuorumNotANumber)?,
    })
}

fn config(words: &[Vec<u8>], compat: Compat) -> Result<Subcommand, CommandError> {
    let several = compat >= Compat::V7_2;
    let (verb, rest) = (&words[0], &words[1..]);
    let fits = |count: usize| rest.len() == count || several && rest.len() > count;
    if several && rest.is_empty() {
        return Err(CommandError::Arity("sentinel|config".to_owned()));
    }
    if verb.eq_ignore_ascii_case(b"set") && fits(2) {
        Ok(Subcommand::ConfigSet(rest.to_vec()))
    } else if verb.eq_ignore_ascii_case(b"get") && fits(1) {
        Ok(Subcommand::ConfigGet(rest.to_vec()))
    } else if several {
        Err(CommandError::ConfigFormSeveral)
    } else {
        Err(CommandError::ConfigForm)
    }
}

/// Not of Redis: a real one answers `unknown subcommand`, by which it is told from ours.
fn tandem(words: &[Vec<u8>]) -> Result<Subcommand, CommandError> {
    let Some((verb, rest)) = words.split_first() else {
        return Ok(Subcommand::Tandem);
    };
    match rest {
        [] if verb.eq_ignore_ascii_case(b"status") || verb.eq_ignore_ascii_case(b"explain") => {
            Ok(Subcommand::Status(None))
        }
        [name] if verb.eq_ignore_ascii_case(b"explain") => {
            Ok(Subcommand::Status(Some(GroupName(text(name)))))
        }
        _ => Err(CommandError::Arity("sentinel|tandem".to_owned())),
    }
}

/// Names that are no text match no group: none is taken under such a name.
fn text(word: &[u8]) -> String {
    String::from_utf8_lossy(word).into_owned()
}

/// A number as strictly as Redis reads one: no blanks, no plus, no zeros in front.
pub(super) fn integer(word: &[u8]) -> Option<i64> {
    let digits = word.strip_prefix(b"-").unwrap_or(word);
    let plain = match digits {
        [b'0'] => digits.len() == word.len(),
        [b'1'..=b'9', rest @ ..] => rest.iter().all(u8::is_ascii_digit),
        _ => false,
    };
    plain.then(|| std::str::from_utf8(word).ok()?.parse().ok())?
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(line: &str) -> Result<Subcommand, String> {
        read_as(line, Compat::V7_0)
    }

    fn read_as(line: &str, compat: Compat) -> Result<Subcommand, String> {
        let words: Vec<_> = line.split(' ').filter(|word| !word.is_empty()).collect();
        let words: Vec<_> = words.iter().map(|word| word.as_bytes().to_vec()).collect();
        parse(&words, compat).map_err(|error| error.to_string())
    }

    fn name() -> GroupName {
        GroupName("m".to_owned())
    }

    #[test]
    fn both_spellings_in_any_case() {
        let id = "0123456789abcdef0123456789abcdef01234567";
        let asks = Subcommand::IsDown {
            host: "10.0.0.1".to_owned(),
            port: 6379,
            epoch: ElectionEpoch(3),
            candidate: SentinelId::parse(id),
        };
        let table = [
            ("masters", Subcommand::Primaries),
            ("PRIMARIES", Subcommand::Primaries),
            ("Master m", Subcommand::Primary(name())),
            ("primary m", Subcommand::Primary(name())),
            ("replicas m", Subcommand::Replicas(name())),
            ("slaves m", Subcommand::Replicas(name())),
            ("get-master-addr-by-name m", Subcommand::AddressOf(name())),
            ("GET-PRIMARY-ADDR-BY-NAME m", Subcommand::AddressOf(name())),
            (
                &format!("is-master-down-by-addr 10.0.0.1 6379 3 {id}"),
                asks.clone(),
            ),
            (
                &format!("is-primary-down-by-addr 10.0.0.1 6379 3 {id}"),
                asks,
            ),
            ("debug", Subcommand::Debug(Vec::new())),
            ("tandem", Subcommand::Tandem),
            ("tandem status", Subcommand::Status(None)),
            ("tandem explain m", Subcommand::Status(Some(name()))),
        ];
        for (line, expected) in table {
            assert_eq!(read(line), Ok(expected), "{line}");
        }
    }

    #[test]
    fn group_names_keep_their_case() {
        assert_ne!(read("master M"), read("master m"));
    }

    /// Every row of the table with one word too few, and with one too many where none more are taken.
    #[test]
    fn every_count_of_words_is_checked() {
        for form in FORMS {
            for spelling in [Some(form.name), form.alias].into_iter().flatten() {
                let error = Err(format!(
                    "ERR wrong number of arguments for 'sentinel|{spelling}' command"
                ));
                let with = |words: usize| read(&format!("{spelling}{}", " 1".repeat(words - 1)));
                if form.words > 1 {
                    assert_eq!(with(form.words - 1), error, "{spelling}");
                }
                if !form.more {
                    assert_eq!(with(form.words + 1), error, "{spelling}");
                }
            }
        }
        assert_eq!(
            read(""),
            Err("ERR wrong number of arguments for 'sentinel' command".to_owned())
        );
    }

    #[test]
    fn refusals_in_the_order_of_redis() {
        let table = [
            (
                "nonsense",
                "ERR unknown subcommand 'nonsense'. Try SENTINEL HELP.",
            ),
            // The quorum is read before the port, and its size looked at after both.
            ("monitor m 10.0.0.1 x y", "ERR Invalid quorum"),
            ("monitor m 10.0.0.1 x 0", "ERR Invalid port"),
            (
                "monitor m 10.0.0.1 6379 0",
                "ERR Quorum must be 1 or greater.",
            ),
            (
                "monitor m 10.0.0.1 6379 -1",
                "ERR Quorum must be 1 or greater.",
            ),
            ("monitor m 10.0.0.1 6379 4294967296", "ERR Invalid quorum"),
            (
                "is-master-down-by-addr h x 1 *",
                "ERR value is not an integer or out of range",
            ),
            (
                "is-master-down-by-addr h 1 x *",
                "ERR value is not an integer or out of range",
            ),
            // 2^64 - 1 in disguise.
            (
                "is-master-down-by-addr h 1 -1 *",
                "ERR value is not an integer or out of range",
            ),
            (
                "is-master-down-by-addr h 1 9223372036854775808 *",
                "ERR value is not an integer or out of range",
            ),
            (
                "config rewrite",
                "ERR Only SENTINEL CONFIG GET <option> / SET <option> <value> are supported.",
            ),
            (
                "config get a b",
                "ERR Only SENTINEL CONFIG GET <option> / SET <option> <value> are supported.",
            ),
            (
                "config set a",
                "ERR Only SENTINEL CONFIG GET <option> / SET <option> <value> are supported.",
            ),
        ];
        for (line, expected) in table {
            assert_eq!(read(line), Err(expected.to_owned()), "{line}");
        }
        let long = "x".repeat(200);
        let cut = format!(
            "ERR unknown subcommand '{}'. Try SENTINEL HELP.",
            &long[..128]
        );
        assert_eq!(read(&long), Err(cut));
    }

    #[test]
    fn what_is_no_id_asks_for_no_vote() {
        for id in ["*", "x", "0123456789abcdef0123456789abcdef0123456"] {
            let Ok(Subcommand::IsDown { candidate, .. }) =
                read(&format!("is-master-down-by-addr h 1 2 {id}"))
            else {
                panic!("{id} is refused");
            };
            assert_eq!(candidate, None, "{id}");
        }
    }

    #[test]
    fn of_7_2_several_at_once() {
        let words = |line: &str| {
            line.split(' ')
                .map(|word| word.as_bytes().to_vec())
                .collect()
        };
        let new = |line| read_as(line, Compat::V7_2);
        assert_eq!(
            new("config get a b"),
            Ok(Subcommand::ConfigGet(words("a b")))
        );
        assert_eq!(
            new("config set a 1 b 2"),
            Ok(Subcommand::ConfigSet(words("a 1 b 2")))
        );
        assert!(
            new("config rewrite now")
                .unwrap_err()
                .contains("<param> [<param> <param> ...]")
        );
        assert!(new("config get").unwrap_err().contains("'sentinel|config'"));
    }

    #[test]
    fn numbers_are_read_strictly() {
        for (word, expected) in [
            ("0", Some(0)),
            ("7", Some(7)),
            ("-7", Some(-7)),
            ("9223372036854775807", Some(i64::MAX)),
            ("-9223372036854775808", Some(i64::MIN)),
            ("9223372036854775808", None),
            ("", None),
            ("-", None),
            ("-0", None),
            ("07", None),
            ("+7", None),
            (" 7", None),
            ("7 ", None),
            ("7x", None),
        ] {
            assert_eq!(integer(word.as_bytes()), expected, "{word:?}");
        }
    }
}
