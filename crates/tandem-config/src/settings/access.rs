//! Of `[[proxy]]`, who may connect, how, and as whom: users, TLS, sockets, bounds.

use std::path::PathBuf;
use std::time::Duration;

use serde::Serialize;
use tandem_proxy::users::Allowed;

use super::kinds::{Name, Text, UsersWord};
use super::read::number;
use super::section::Section;
use super::{Group, Proxy, Settings, Shard, ShardAt};
use crate::diagnostic::{Diagnostic, Report, Span};

/// Who may connect to a proxy, and as whom.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Access {
    /// The proxy's own users; none: the servers' users are meant.
    pub users: Vec<Account>,
    /// Whom `password_file` belongs to at the servers; none: the default user.
    pub server_user: Option<String>,
    /// Clients speak TLS.
    pub tls: Option<ClientTls>,
    /// Servers are spoken to over TLS.
    pub server_tls: Option<ServerTls>,
    /// A Unix socket where clients may connect as well.
    pub unix_socket: Option<PathBuf>,
    /// Its permission bits.
    pub unix_socket_mode: u32,
    /// Clients at once; none: as many as there are descriptors for.
    pub max_clients: Option<u32>,
    /// How long a client may idle; none: for ever.
    pub client_timeout: Option<Duration>,
}

/// `[[proxy.user]]`: a user of the proxy's own.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Account {
    /// As in AUTH.
    pub name: String,
    /// None only for `default`: clients are this one without asking.
    pub password_file: Option<PathBuf>,
    /// Rules that are known to mean something, in their order.
    pub commands: Vec<String>,
    /// Prefixes of keys that it may read and change.
    pub keys: Vec<String>,
    /// Prefixes of keys that it may read.
    pub read_keys: Vec<String>,
    /// Prefixes of channels.
    pub channels: Vec<String>,
}

/// `[proxy.tls]`: clients speak TLS.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ClientTls {
    /// The proxy's certificate with what leads to its authority, in PEM.
    pub cert_file: PathBuf,
    /// Its key.
    pub key_file: PathBuf,
    /// Given: clients must show a certificate of this authority.
    pub client_ca_file: Option<PathBuf>,
}

/// `[proxy.server_tls]`: servers are spoken to over TLS.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ServerTls {
    /// Whose certificates the servers have.
    pub ca_file: PathBuf,
    /// The certificate and key that servers are shown, if they ask.
    pub identity: Option<(PathBuf, PathBuf)>,
    /// The name that their certificates must be for; none: it is not looked at, as in Redis.
    pub server_name: Option<String>,
}

/// A prefix of keys or channels, written as a pattern that ends with its only star.
pub(super) struct Prefix(pub(super) String);

/// Where to report what the shards show to be wrong.
pub(super) struct AccessPlaces {
    server_tls: Span,
    server_user: Span,
}

/// Reads it from a proxy's section; findings go into the report.
pub(super) fn read_access(
    section: &Section<'_, '_>,
    report: &mut Report,
) -> (Option<Access>, AccessPlaces) {
    let places = AccessPlaces {
        server_tls: section.place("server_tls"),
        server_user: section.place("server_user"),
    };
    let word = section.get::<UsersWord>(report, "users");
    let server_user = section.get::<Name>(report, "server_user");
    let tls = section
        .child(report, "tls")
        .map(|tls| read_tls(&tls, report));
    let server_tls = section
        .child(report, "server_tls")
        .map(|tls| read_server_tls(&tls, report));
    let unix_socket = section.get::<PathBuf>(report, "unix_socket");
    let mode = section.get::<Text>(report, "unix_socket_mode");
    let mode = mode.and_then(|mode| octal(section, report, &mode.0));
    let max_clients = if section.has("max_clients") {
        Some(number(section, report, "max_clients", 1..=10_000_000, ""))
    } else {
        None
    };
    let client_timeout = section.get::<Duration>(report, "client_timeout");
    let sections = section.children(report, "user");
    let given = sections.len();
    let users: Vec<Account> = sections
        .iter()
        .filter_map(|user| read_account(user, report))
        .collect();
    check_users(section, word, &sections, report);
    let access = || {
        Some(Access {
            server_user: server_user.map(|name| name.0),
            // What could not be read was reported; nothing half is made of it.
            tls: tls.map_or(Some(None), |tls| tls.map(Some))?,
            server_tls: server_tls.map_or(Some(None), |tls| tls.map(Some))?,
            unix_socket,
            unix_socket_mode: mode?,
            max_clients: match max_clients {
                None => None,
                Some(number) => Some(u32::try_from(number?).ok()?),
            },
            client_timeout,
            users: (users.len() == given).then_some(users)?,
        })
    };
    (access(), places)
}

/// What concerns users altogether.
fn check_users(
    section: &Section<'_, '_>,
    word: Option<UsersWord>,
    users: &[Section<'_, '_>],
    report: &mut Report,
) {
    match (word, users) {
        (Some(UsersWord::Proxy), []) => report.push(
            Diagnostic::error("no-user", "users = \"proxy\" without any [[proxy.user]]")
                .at(section.place("users"), "nobody could log in")
                .help("add [[proxy.user]] with name, password_file, commands and keys"),
        ),
        (Some(UsersWord::Server), [first, ..]) => report.push(
            Diagnostic::error("users", "[[proxy.user]] beside users = \"server\"")
                .at(first.header, "this user would not be asked for")
                .help("write users = \"proxy\" for users of the proxy's own; without [[proxy.user]] the servers' users log in"),
        ),
        (None | Some(UsersWord::Proxy | UsersWord::Server), _) => {}
    }
    if section.has("server_user") && !section.has("password_file") {
        report.push(
            Diagnostic::error("no-password", "`server_user` without `password_file`")
                .at(
                    section.place("server_user"),
                    "no server lets it in by its name alone",
                )
                .help("add password_file = \"/etc/tandem/redis.password\""),
        );
    }
    if section.has("server_user") && word == Some(UsersWord::Server) {
        report.push(
            Diagnostic::error("users", "`server_user` beside users = \"server\"")
                .at(
                    section.place("server_user"),
                    "there clients give the servers' names themselves",
                )
                .help("write users = \"proxy\" and [[proxy.user]] for users of the proxy's own"),
        );
    }
}

fn read_account(section: &Section<'_, '_>, report: &mut Report) -> Option<Account> {
    section.report_unknown(report);
    let name = section.get::<Name>(report, "name");
    let password_file = section.get::<PathBuf>(report, "password_file");
    let commands = section.get::<Vec<Text>>(report, "commands");
    let keys = section.get::<Vec<Prefix>>(report, "keys");
    let read_keys = section.get::<Vec<Prefix>>(report, "read_keys");
    let channels = section.get::<Vec<Prefix>>(report, "channels");
    let name = name?.0;
    if !section.has("password_file") && name != "default" {
        report.push(
            Diagnostic::error("no-password", format!("user `{name}` has no password_file"))
                .at(section.header, "anybody could log in as it")
                .help("only the user `default` may have none: clients are that one from the beginning"),
        );
    }
    let commands: Vec<String> = commands?.into_iter().map(|text| text.0).collect();
    if let Err(error) = Allowed::from_rules(commands.iter().map(String::as_str)) {
        report.push(
            Diagnostic::error("rule", error.to_string())
                .at(section.place("commands"), "in one of these rules")
                .help("rules are as in Redis' ACL, from nothing: +@all, -@dangerous, +get, -config, +config|get"),
        );
        return None;
    }
    let texts = |prefixes: Option<Vec<Prefix>>| -> Option<Vec<String>> {
        Some(prefixes?.into_iter().map(|prefix| prefix.0).collect())
    };
    Some(Account {
        name,
        password_file,
        commands,
        keys: texts(keys)?,
        read_keys: texts(read_keys)?,
        channels: texts(channels)?,
    })
}

fn read_tls(section: &Section<'_, '_>, report: &mut Report) -> Option<ClientTls> {
    section.report_unknown(report);
    let cert_file = section.get::<PathBuf>(report, "cert_file");
    let key_file = section.get::<PathBuf>(report, "key_file");
    let client_ca_file = section.get::<PathBuf>(report, "client_ca_file");
    Some(ClientTls {
        cert_file: cert_file?,
        key_file: key_file?,
        client_ca_file,
    })
}

fn read_server_tls(section: &Section<'_, '_>, report: &mut Report) -> Option<ServerTls> {
    section.report_unknown(report);
    let ca_file = section.get::<PathBuf>(report, "ca_file");
    let cert_file = section.get::<PathBuf>(report, "cert_file");
    let key_file = section.get::<PathBuf>(report, "key_file");
    let server_name = section.get::<Text>(report, "server_name");
    let identity = match (cert_file, key_file) {
        (Some(certificate), Some(key)) => Some((certificate, key)),
        (None, None) => None,
        (Some(_), None) | (None, Some(_)) => {
            report.push(
                Diagnostic::error("half-pair", "`cert_file` and `key_file` belong together")
                    .at(section.header, "one of them is missing"),
            );
            None
        }
    };
    Some(ServerTls {
        ca_file: ca_file?,
        identity,
        server_name: server_name.map(|name| name.0),
    })
}

fn octal(section: &Section<'_, '_>, report: &mut Report, text: &str) -> Option<u32> {
    let mode = u32::from_str_radix(text, 8)
        .ok()
        .filter(|mode| *mode <= 0o777);
    if mode.is_none() {
        report.push(
            Diagnostic::error(
                "wrong-value",
                "`unix_socket_mode` has a value that it cannot have",
            )
            .at(
                section.place("unix_socket_mode"),
                "must be permission bits in octal, such as \"0660\"",
            ),
        );
    }
    mode
}

/// What only the shards show to be wrong.
pub(super) fn check(settings: &Settings, proxy: &Proxy, at: &AccessPlaces, report: &mut Report) {
    let keeps = |group: &&Group| {
        let here = |shard: &Shard| shard.at == ShardAt::Here && shard.name == group.name;
        group.username.is_some()
            && group.username == proxy.access.server_user
            && proxy.shards.iter().any(here)
    };
    if let Some(group) = settings.groups.iter().find(keeps) {
        let text = format!(
            "`server_user` is the user with which group `{}` is kept",
            group.name
        );
        report.push(
            Diagnostic::error("keeper-user", text)
                .at(
                    at.server_user,
                    "clients would ask with the rights of an administrator",
                )
                .help("give the proxy a user of its own, with the rights that its clients need"),
        );
    }
    let kept_here = proxy.shards.iter().find(|shard| shard.at == ShardAt::Here);
    if let Some(shard) = kept_here
        && proxy.access.server_tls.is_some()
    {
        let text = format!(
            "group `{}` of this host is not spoken to over TLS",
            shard.name
        );
        report.push(
            Diagnostic::error("server-tls", text)
                .at(
                    at.server_tls,
                    "the keeper of this host's groups speaks to their servers plainly",
                )
                .help("leave [proxy.server_tls] out, or let the proxy run on a host of its own"),
        );
    }
}
