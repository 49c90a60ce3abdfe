//! The directives of any Redis process that mean something to a sentinel: one table, read and written from the same rows.

use super::model::{LogLevel, Secret, ServerConf, Supervised, TlsAuthClients};

/// A directive's arguments or the words to write for it.
pub(super) type Words = Vec<Vec<u8>>;

/// Why a value is refused, in the words of Redis 7.0.
type Refused = String;

/// One directive.
pub(super) struct Setting {
    /// As it is written.
    pub(super) name: &'static str,
    /// Can it take more than one argument?
    pub(super) is_list: bool,
    /// Takes the arguments over.
    pub(super) read: fn(&mut ServerConf, &[&[u8]]) -> Result<(), Refused>,
    /// The arguments that say what the settings hold.
    pub(super) write: fn(&ServerConf) -> Words,
}

const fn setting(
    name: &'static str,
    read: fn(&mut ServerConf, &[&[u8]]) -> Result<(), Refused>,
    write: fn(&ServerConf) -> Words,
) -> Setting {
    Setting {
        name,
        is_list: false,
        read,
        write,
    }
}

/// A row for a field of one of the usual kinds.
macro_rules! row {
    ($name:literal, $($field:ident).+, number $low:literal .. $high:literal) => {
        setting(
            $name,
            |conf, words| number(words, $low, $high).map(|value| conf.$($field).+ = value),
            |conf| one(conf.$($field).+.to_string()),
        )
    };
    ($name:literal, $($field:ident).+, yes_no) => {
        setting(
            $name,
            |conf, words| yes_no(words).map(|value| conf.$($field).+ = value),
            |conf| one(if conf.$($field).+ { "yes" } else { "no" }),
        )
    };
    ($name:literal, $($field:ident).+, text) => {
        setting(
            $name,
            |conf, words| text(words).map(|value| conf.$($field).+ = value),
            |conf| one(conf.$($field).+.as_str()),
        )
    };
    ($name:literal, $($field:ident).+, optional text) => {
        setting(
            $name,
            |conf, words| text(words).map(|value| conf.$($field).+ = some(value)),
            |conf| one(conf.$($field).+.as_deref().unwrap_or("")),
        )
    };
    ($name:literal, $($field:ident).+, secret) => {
        setting(
            $name,
            |conf, words| {
                conf.$($field).+ = words
                    .first()
                    .filter(|word| !word.is_empty())
                    .map(|word| Secret::new(*word));
                Ok(())
            },
            |conf| one(conf.$($field).+.as_ref().map_or(&b""[..], Secret::as_bytes)),
        )
    };
    ($name:literal, $($field:ident).+, choice $choices:ident) => {
        setting(
            $name,
            |conf, words| choice(words, $choices).map(|value| conf.$($field).+ = value),
            |conf| one(choice_name(conf.$($field).+, $choices)),
        )
    };
}

static LOG_LEVELS: &[(&str, LogLevel)] = &[
    ("debug", LogLevel::Debug),
    ("verbose", LogLevel::Verbose),
    ("notice", LogLevel::Notice),
    ("warning", LogLevel::Warning),
    ("nothing", LogLevel::Nothing),
];

/// Redis 7.0 does not know this one, and so does not list it among the choices.
const NEWER: &str = "nothing";

static SUPERVISED: &[(&str, Supervised)] = &[
    ("upstart", Supervised::Upstart),
    ("systemd", Supervised::Systemd),
    ("auto", Supervised::Auto),
    ("no", Supervised::No),
];

static TLS_AUTH_CLIENTS: &[(&str, TlsAuthClients)] = &[
    ("no", TlsAuthClients::No),
    ("yes", TlsAuthClients::Yes),
    ("optional", TlsAuthClients::Optional),
];

/// All of them, in the order in which new ones are appended to a file.
pub(super) static SETTINGS: &[Setting] = &[
    row!("port", port, number 0..65535),
    Setting {
        name: "bind",
        is_list: true,
        read: |conf, words| {
            let addresses = words
                .iter()
                .map(|word| utf8(word))
                .collect::<Result<Vec<_>, _>>()?;
            if addresses.len() > BIND_MAX {
                return Err("Too many bind addresses specified.".to_owned());
            }
            let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b".:%*_-".contains(&byte);
            if !addresses
                .iter()
                .all(|address| address.bytes().all(is_plain))
            {
                return Err("Invalid bind address.".to_owned());
            }
            conf.bind = addresses
                .into_iter()
                .filter(|word| !word.is_empty())
                .collect();
            Ok(())
        },
        write: |conf| {
            if conf.bind.is_empty() {
                return one("");
            }
            conf.bind
                .iter()
                .map(|address| address.clone().into_bytes())
                .collect()
        },
    },
    row!("bind-source-addr", bind_source_addr, optional text),
    row!("protected-mode", protected_mode, yes_no),
    row!("unixsocket", unixsocket, optional text),
    setting(
        "unixsocketperm",
        |conf, words| {
            let bits = u32::from_str_radix(&text(words)?, 8)
                .map_err(|_| "argument couldn't be parsed as an octal number".to_owned())?;
            if bits > 0o777 {
                return Err("argument must be between 0 and 777 inclusive".to_owned());
            }
            // 0 is how Redis says that the rights are left to the umask.
            conf.unixsocketperm = Some(bits).filter(|bits| *bits != 0);
            Ok(())
        },
        |conf| one(format!("{:o}", conf.unixsocketperm.unwrap_or(0))),
    ),
    row!("timeout", timeout_s, number 0..2147483647),
    row!("tcp-backlog", tcp_backlog, number 0..2147483647),
    row!("tcp-keepalive", tcp_keepalive_s, number 0..2147483647),
    row!("maxclients", maxclients, number 1..4294967295),
    row!("dir", dir, optional text),
    row!("logfile", logfile, optional text),
    row!("loglevel", loglevel, choice LOG_LEVELS),
    row!("daemonize", daemonize, yes_no),
    row!("pidfile", pidfile, optional text),
    row!("supervised", supervised, choice SUPERVISED),
    row!("syslog-enabled", syslog_enabled, yes_no),
    row!("syslog-ident", syslog_ident, text),
    row!("syslog-facility", syslog_facility, text),
    row!("aclfile", aclfile, optional text),
    row!("acllog-max-len", acllog_max_len, number 0..9223372036854775807),
    row!("requirepass", requirepass, secret),
    row!("tls-port", tls.port, number 0..65535),
    row!("tls-replication", tls.replication, yes_no),
    row!("tls-cert-file", tls.cert_file, optional text),
    row!("tls-key-file", tls.key_file, optional text),
    row!("tls-key-file-pass", tls.key_file_pass, secret),
    row!("tls-client-cert-file", tls.client_cert_file, optional text),
    row!("tls-client-key-file", tls.client_key_file, optional text),
    row!("tls-client-key-file-pass", tls.client_key_file_pass, secret),
    row!("tls-dh-params-file", tls.dh_params_file, optional text),
    row!("tls-ca-cert-file", tls.ca_cert_file, optional text),
    row!("tls-ca-cert-dir", tls.ca_cert_dir, optional text),
    row!("tls-auth-clients", tls.auth_clients, choice TLS_AUTH_CLIENTS),
    row!("tls-protocols", tls.protocols, optional text),
    row!("tls-ciphers", tls.ciphers, optional text),
    row!("tls-ciphersuites", tls.ciphersuites, optional text),
    row!(
        "tls-prefer-server-ciphers",
        tls.prefer_server_ciphers,
        yes_no
    ),
    row!("tls-session-caching", tls.session_caching, yes_no),
    row!("tls-session-cache-size", tls.session_cache_size, number 0..2147483647),
    row!("tls-session-cache-timeout", tls.session_cache_timeout_s, number 0..2147483647),
];

/// As many addresses as Redis listens on.
const BIND_MAX: usize = 16;

impl Setting {
    /// The setting of this name, in lower case.
    pub(super) fn find(name: &str) -> Option<&'static Self> {
        SETTINGS.iter().find(|setting| setting.name == name)
    }
}

fn one(word: impl AsRef<[u8]>) -> Words {
    vec![word.as_ref().to_vec()]
}

fn some(value: String) -> Option<String> {
    Some(value).filter(|value| !value.is_empty())
}

fn utf8(word: &[u8]) -> Result<String, Refused> {
    String::from_utf8(word.to_vec()).map_err(|_| "argument is no UTF-8 text".to_owned())
}

fn text(words: &[&[u8]]) -> Result<String, Refused> {
    utf8(words.first().copied().unwrap_or_default())
}

fn number<T: TryFrom<i64>>(words: &[&[u8]], low: i64, high: i64) -> Result<T, Refused> {
    let value: i64 = text(words)?
        .parse()
        .map_err(|_| "argument couldn't be parsed into an integer".to_owned())?;
    if !(low..=high).contains(&value) {
        return Err(format!(
            "argument must be between {low} and {high} inclusive"
        ));
    }
    T::try_from(value).map_err(|_| "argument couldn't be parsed into an integer".to_owned())
}

fn yes_no(words: &[&[u8]]) -> Result<bool, Refused> {
    let word = words.first().copied().unwrap_or_default();
    if word.eq_ignore_ascii_case(b"yes") {
        Ok(true)
    } else if word.eq_ignore_ascii_case(b"no") {
        Ok(false)
    } else {
        Err("argument must be 'yes' or 'no'".to_owned())
    }
}

fn choice<T: Copy>(words: &[&[u8]], choices: &[(&str, T)]) -> Result<T, Refused> {
    let word = words.first().copied().unwrap_or_default();
    choices
        .iter()
        .find(|(name, _)| word.eq_ignore_ascii_case(name.as_bytes()))
        .map(|(_, value)| *value)
        .ok_or_else(|| {
            let names = choices.iter().map(|(name, _)| *name);
            let names: Vec<&str> = names.filter(|name| *name != NEWER).collect();
            format!(
                "argument(s) must be one of the following: {}",
                names.join(", ")
            )
        })
}

fn choice_name<T: PartialEq>(value: T, choices: &[(&'static str, T)]) -> &'static str {
    choices
        .iter()
        .find(|(_, choice)| *choice == value)
        .map(|(name, _)| *name)
        .expect("the table of choices names every value")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_default_is_written_and_read_as_itself() {
        let default = ServerConf::default();
        for setting in SETTINGS {
            let words = (setting.write)(&default);
            let words: Vec<&[u8]> = words.iter().map(Vec::as_slice).collect();
            let mut again = default.clone();
            assert_eq!(
                (setting.read)(&mut again, &words),
                Ok(()),
                "{}",
                setting.name
            );
            assert_eq!(again, default, "{}", setting.name);
        }
    }

    #[test]
    fn values_are_refused_in_the_words_of_redis() {
        for (name, value, reason) in [
            ("port", "x", "argument couldn't be parsed into an integer"),
            (
                "port",
                "65536",
                "argument must be between 0 and 65535 inclusive",
            ),
            ("protected-mode", "maybe", "argument must be 'yes' or 'no'"),
            (
                "loglevel",
                "loud",
                "argument(s) must be one of the following: debug, verbose, notice, warning",
            ),
            (
                "unixsocketperm",
                "9",
                "argument couldn't be parsed as an octal number",
            ),
        ] {
            let setting = Setting::find(name).unwrap();
            let refused = (setting.read)(&mut ServerConf::default(), &[value.as_bytes()]);
            assert_eq!(refused, Err(reason.to_owned()), "{name} {value}");
        }
    }
}
