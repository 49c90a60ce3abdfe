//! From what a file says of a pool to the pool: defaults, what has to hold between directives, and what is valid but
//! will not do what its author means.

use std::collections::BTreeMap;
use std::time::Duration;

use tandem_proxy::placement::{compare_names, worth_a_warning};
use tandem_proxy::settings::{Access, Address, Bounds, Compat, Ejection, Pool, Replicas, Server};

use super::address::UNIX_PATH_MAX;
use super::directive::{Draft, Given};
use super::{MEMCACHED_POOL, Memcached, Resolve};
use crate::diagnostic::{Bounded, Diagnostic, Span};

/// The pools that can be run and those that cannot, both in twemproxy's order.
pub(super) fn finish(
    mut drafts: Vec<Draft>,
    resolve: Resolve<'_>,
    report: &mut Bounded,
) -> (Vec<Pool>, Vec<Memcached>) {
    unique(&drafts, report);
    drafts.sort_by(|a, b| compare_names(&a.name.text, &b.name.text));
    let (mut pools, mut memcached) = (Vec::new(), Vec::new());
    for draft in drafts {
        let at = draft.name.at;
        let (pool, is_redis) = finish_one(draft, resolve, report);
        if is_redis {
            pools.extend(pool);
        } else if let Some(pool) = pool {
            report.push(
                Diagnostic::warning(MEMCACHED_POOL, format!("the pool `{}` speaks memcached's protocol, which this program does not", pool.name))
                    .at(at, "valid, and refused when it is to be run")
                    .help("write `redis: true` if its servers are Redis; otherwise leave this pool to nutcracker, in a file of its own"),
            );
            memcached.push(Memcached {
                pool: pool.name,
                at,
            });
        }
    }
    (pools, memcached)
}

/// No two pools have one name, or one address as it is written.
fn unique(drafts: &[Draft], report: &mut Bounded) {
    let mut names: BTreeMap<&str, Span> = BTreeMap::new();
    let mut addresses: BTreeMap<&str, Span> = BTreeMap::new();
    for draft in drafts {
        if let Some(first) = names.insert(&draft.name.text, draft.name.at) {
            report.push(
                Diagnostic::error(
                    "duplicate",
                    format!("two pools are called `{}`", draft.name.text),
                )
                .at(draft.name.at, "the second")
                .at(first, "the first")
                .help("statistics know pools by their names; give them different ones"),
            );
        }
        let Some(listen) = &draft.listen else {
            continue;
        };
        if let Some(first) = addresses.insert(&draft.listen_text, listen.at) {
            report.push(
                Diagnostic::error(
                    "duplicate",
                    format!("two pools listen on `{}`", draft.listen_text),
                )
                .at(listen.at, "the second")
                .at(first, "the first")
                .help("each pool has an address of its own"),
            );
        }
    }
}

/// Nothing where an error took away what a pool cannot be without. The flag: its protocol is Redis'.
fn finish_one(
    mut draft: Draft,
    resolve: Resolve<'_>,
    report: &mut Bounded,
) -> (Option<Pool>, bool) {
    let is_redis = draft.redis.as_ref().is_some_and(|redis| redis.value);
    needed(&draft, is_redis, report);
    address(&draft, resolve, report);
    same_names(&draft, report);
    if is_redis {
        surprises(&draft, report);
    }
    draft
        .servers
        .sort_by(|a, b| compare_names(&a.value.name, &b.value.name));
    let places = (draft.hash.as_ref().map(|given| given.at))
        .or_else(|| draft.distribution.as_ref().map(|given| given.at))
        .unwrap_or(draft.name.at);
    let password = taken(draft.password);
    let number = |given: Option<Given<u32>>, default| taken(given).unwrap_or(default);
    let flag = |given: Option<Given<bool>>| taken(given).unwrap_or(false);
    let milliseconds = |count: u32| Duration::from_millis(count.into());
    let pool = draft.listen.map(|listen| Pool {
        name: draft.name.text,
        listen: listen.value,
        servers: draft
            .servers
            .into_iter()
            .map(|server| server.value)
            .collect(),
        hash: taken(draft.hash).unwrap_or_default(),
        distribution: taken(draft.distribution).unwrap_or_default(),
        hash_tag: taken(draft.hash_tag),
        // twemproxy starts no clock for 0.
        timeout: taken(draft.timeout)
            .filter(|count| *count > 0)
            .map(milliseconds),
        backlog: number(draft.backlog, Pool::BACKLOG),
        // With a password twemproxy's SELECT comes before its AUTH and fails, so all data are in database 0.
        database: if password.is_some() {
            0
        } else {
            number(draft.database, 0)
        },
        password,
        keepalive: flag(draft.keepalive),
        preconnect: flag(draft.preconnect),
        server_connections: number(draft.server_connections, 1),
        ejection: flag(draft.eject).then(|| Ejection {
            failure_limit: number(draft.failure_limit, Pool::FAILURE_LIMIT),
            retry_after: taken(draft.retry_timeout).map_or(Pool::RETRY_AFTER, milliseconds),
        }),
        compat: Compat::Twemproxy,
        access: Access::by_password(),
        // nutcracker has no slow log, and knows no SLOWLOG.
        bounds: Bounds {
            slowlog_slower_than: None,
            ..Bounds::default()
        },
        replicas: Replicas::default(),
    });
    let pool = pool.filter(|pool| !pool.servers.is_empty());
    if let Some(why) = pool.as_ref().filter(|_| is_redis).and_then(worth_a_warning) {
        report.push(
            Diagnostic::warning("places-badly", why)
                .at(places, "")
                .help("keep it where data are: another hash would look for them elsewhere"),
        );
    }
    (pool, is_redis)
}

fn taken<T>(given: Option<Given<T>>) -> Option<T> {
    given.map(|given| given.value)
}

/// What twemproxy's last check refuses.
fn needed(draft: &Draft, is_redis: bool, report: &mut Bounded) {
    let pool = &draft.name;
    if draft.listen.is_none() && draft.listen_text.is_empty() {
        report.push(
            Diagnostic::error(
                "missing",
                format!("the pool `{}` has no `listen`", pool.text),
            )
            .at(pool.at, "")
            .help("write `listen: 0.0.0.0:22121`"),
        );
    }
    // Without any list that is what was said already.
    if draft.list_given && !draft.servers_given {
        report.push(
            Diagnostic::error(
                "missing",
                format!("the pool `{}` has no servers", pool.text),
            )
            .at(pool.at, "")
            .help("below `servers:` one line for each: `- 10.0.0.1:6379:1`"),
        );
    }
    if let Some(connections) = draft
        .server_connections
        .as_ref()
        .filter(|given| given.value == 0)
    {
        report.push(
            Diagnostic::error("value", "`server_connections` cannot be 0")
                .at(connections.at, "")
                .help("at least 1; without the directive it is 1"),
        );
    }
    if let Some(password) = draft.password.as_ref().filter(|_| !is_redis) {
        report.push(
            Diagnostic::error(
                "value",
                "`redis_auth` is only for a pool with `redis: true`",
            )
            .at(password.at, "")
            .help("add `redis: true` if its servers are Redis"),
        );
    }
}

/// The address to listen on exists.
fn address(draft: &Draft, resolve: Resolve<'_>, report: &mut Bounded) {
    let Some(Given {
        value: Address::Tcp { host, port },
        at,
    }) = &draft.listen
    else {
        return;
    };
    if let Err(reason) = resolve(host, *port) {
        let found = Diagnostic::error("no-such-host", format!("`{host}` has no address: {reason}"))
            .at(*at, "");
        report.push(if host.is_empty() {
            found.help("to listen everywhere write `0.0.0.0`")
        } else if host.starts_with('[') {
            found.help("an IPv6 address stands without brackets: `::1:22121`")
        } else {
            found.help("an address of this host, or a name that has one here")
        });
    }
}

fn same_names(draft: &Draft, report: &mut Bounded) {
    let mut names: BTreeMap<&str, Span> = BTreeMap::new();
    for Given {
        value: Server { name, .. },
        at,
    } in &draft.servers
    {
        if let Some(first) = names.insert(name, *at) {
            report.push(
                Diagnostic::error("duplicate", format!("two servers of the pool `{}` are called `{name}`", draft.name.text))
                    .at(*at, "the second")
                    .at(first, "the first")
                    .help("give each a name of its own after its weight; a name decides which keys a server holds"),
            );
        }
    }
}

/// Valid, and not what was meant.
fn surprises(draft: &Draft, report: &mut Bounded) {
    if let (Some(password), Some(database)) = (
        &draft.password,
        draft.database.as_ref().filter(|given| given.value != 0),
    ) {
        report.push(
            Diagnostic::warning("auth-and-db", format!("with `redis_auth` all data are in database 0, not {}", database.value))
                .at(database.at, "not selected")
                .at(password.at, "because of this")
                .help("twemproxy selects before it authenticates, which fails, and goes on in database 0; this program uses the same one so that it finds the data")
                .help("take `redis_db` out"),
        );
    }
    if let Some(connections) = &draft.client_connections {
        report.push(
            Diagnostic::warning("not-used", "`client_connections` limits nothing")
                .at(connections.at, "twemproxy reads it and ignores it")
                .help("the number of clients is bounded by the open files allowed (ulimit -n, LimitNOFILE=); take the line out"),
        );
    }
    if let Some(eject) = draft
        .eject
        .as_ref()
        .filter(|given| given.value && draft.servers.len() > 1)
    {
        report.push(
            Diagnostic::warning("ejects-data", "`auto_eject_hosts` makes keys vanish while a server is away")
                .at(eject.at, "reads of them are answered with nil, and writes go to other servers")
                .help("good for a cache; for data leave it out, or let `[[proxy]]` in tandem.toml promote the server's replica"),
        );
    }
    for Given { value: server, at } in &draft.servers {
        if let Address::Unix { path, .. } = &server.address
            && path.as_os_str().len() > UNIX_PATH_MAX
        {
            report.push(
                Diagnostic::warning(
                    "address",
                    "this path is longer than a socket's address, which holds 107 bytes",
                )
                .at(*at, "it can never be connected to")
                .help("move the socket to a shorter path"),
            );
        }
    }
}
