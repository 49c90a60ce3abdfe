//! `[[proxy]]`: reading it, and what only several keys show to be wrong.
//!
//! A proxy's shards are groups: one of this host's `[[group]]`s, or a `[[proxy.group]]` whose daemons are on other hosts or
//! which is one fixed server. In their place it may have a Redis Cluster ([`cluster`]).

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use tandem_proxy::settings::{Distribution, Hash};

use super::access::{self, AccessPlaces, read_access};
use super::cluster;
use super::kinds::{Name, Size, Tag};
use super::proxy_vip::{self, read_proxy_vip};
use super::read::number;
use super::replicas;
use super::section::Section;
use super::{Proxy, Settings, Shard, ShardAt};
use crate::diagnostic::{Diagnostic, Report, Span};

/// Shards of one proxy: the cursor of SCAN has ten bits for the shard's number.
const SHARDS_MAX: usize = 1024;

/// Where to report findings of one proxy.
pub(super) struct Places {
    header: Span,
    listen: Span,
    groups: Span,
    distribution: Span,
    access: AccessPlaces,
    vip: Option<proxy_vip::Places>,
    replicas: replicas::Places,
    cluster: cluster::Places,
}

/// A `[[proxy.group]]`, before it is known which proxy names it.
struct Remote {
    name: String,
    at: ShardAt,
    place: Span,
}

/// Reads one proxy; findings go into the report.
pub(super) fn read_proxy(
    section: &Section<'_, '_>,
    report: &mut Report,
) -> Option<(Proxy, Places)> {
    section.report_unknown(report);
    let listen = section.get::<SocketAddr>(report, "listen");
    let name = section.get::<Name>(report, "name");
    let groups = section.get::<Vec<Name>>(report, "groups");
    let groups_given = section.has("groups");
    let cluster = cluster::read(section, report);
    let hash = section.get::<Hash>(report, "hash");
    let distribution = section.get::<Distribution>(report, "distribution");
    let hash_tag = section.get::<Tag>(report, "hash_tag");
    let threads = number(
        section,
        report,
        "threads",
        0..=256,
        "; 0 is one for each core",
    );
    let server_connections = number(section, report, "server_connections", 1..=256, "");
    let timeout = section.get::<Duration>(report, "timeout");
    let client_stall = section.get::<Duration>(report, "client_stall");
    let max_key = section.get::<Size>(report, "max_key");
    let slower_than = section.get::<Duration>(report, "slowlog_slower_than");
    let password_file = section.get::<PathBuf>(report, "password_file");
    let (access, access_at) = read_access(section, report);
    let vip = read_proxy_vip(section, report);
    let replicas = replicas::read(section, report);
    let sections = section.children(report, "group");
    let given = sections.len();
    let remotes: Vec<Remote> = sections
        .iter()
        .filter_map(|section| read_remote(section, report))
        .collect();
    let (replicas, replica_places) = replicas?;
    let (cluster, cluster_places) = cluster?;
    let mut places = Places {
        vip: None,
        header: section.header,
        listen: section.place("listen"),
        groups: section.place("groups"),
        distribution: section.place("distribution"),
        access: access_at,
        replicas: replica_places,
        cluster: cluster_places,
    };
    if groups_given && groups.is_none() {
        return None;
    }
    let listen = listen?;
    let shards = if cluster.is_empty() {
        shards(groups?, &remotes, &places, report)
    } else {
        Vec::new()
    };
    let (hash, distribution, hash_tag) = if cluster.is_empty() {
        (hash?, distribution?, hash_tag?.0)
    } else {
        cluster::PLACEMENT
    };
    if remotes.len() != given {
        return None;
    }
    let (vip, vip_places) = vip?.unzip();
    places.vip = vip_places;
    let proxy = Proxy {
        name: name.map_or_else(|| format!("proxy-{}", listen.port()), |name| name.0),
        listen,
        shards,
        cluster,
        hash,
        distribution,
        hash_tag,
        threads: u16::try_from(threads?).ok()?,
        server_connections: u32::try_from(server_connections?).ok()?,
        timeout,
        client_stall: client_stall?,
        max_key: max_key?.0,
        slowlog_slower_than: slower_than.filter(|slow| !slow.is_zero()),
        password_file,
        access: access?,
        vip,
        replicas,
    };
    Some((proxy, places))
}

fn read_remote(section: &Section<'_, '_>, report: &mut Report) -> Option<Remote> {
    section.report_unknown(report);
    let name = section.get::<Name>(report, "name");
    let daemons = section.get::<Vec<SocketAddr>>(report, "daemons");
    let server = section.get::<SocketAddr>(report, "server");
    let socket = section.get::<PathBuf>(report, "unix_socket");
    let given = ["daemons", "server", "unix_socket"].map(|key| section.has(key));
    let at = match given {
        [true, false, false] => ShardAt::Daemons { daemons: daemons? },
        [false, true, false] => ShardAt::Server { server: server? },
        [false, false, true] => ShardAt::Socket { socket: socket? },
        _ => {
            report.push(
                Diagnostic::error(
                    "proxy-group",
                    "[[proxy.group]] takes one of `daemons`, `server` and `unix_socket`",
                )
                .at(section.header, "one of them says where the shard is")
                .help(
                    "write daemons = [\"10.0.0.1:26379\", \"10.0.0.2:26379\"] for a group that tandem keeps, or server = \"10.0.0.9:6379\" for one that nobody does",
                ),
            );
            return None;
        }
    };
    if let ShardAt::Daemons { daemons } = &at
        && daemons.is_empty()
    {
        report.push(Diagnostic::error("no-daemon", "`daemons` is empty").at(
            section.place("daemons"),
            "name the group's daemons: both hosts of a pair",
        ));
    }
    Some(Remote {
        name: name?.0,
        at,
        place: section.place("name"),
    })
}

/// The shards in the order of `groups`; those that no `[[proxy.group]]` describes are this host's.
fn shards(
    groups: Vec<Name>,
    remotes: &[Remote],
    places: &Places,
    report: &mut Report,
) -> Vec<Shard> {
    for (index, remote) in remotes.iter().enumerate() {
        if remotes[..index].iter().any(|it| it.name == remote.name) {
            let text = format!("two [[proxy.group]] are called `{}`", remote.name);
            report.push(Diagnostic::error("same-name", text).at(remote.place, "this one"));
        }
        if !groups.iter().any(|group| group.0 == remote.name) {
            let text = format!("no shard is called `{}`", remote.name);
            report.push(
                Diagnostic::error("idle-group", text)
                    .at(remote.place, "this has no effect")
                    .at(places.groups, "the shards are these"),
            );
        }
    }
    let shard = |Name(name): Name| {
        let remote = remotes.iter().find(|remote| remote.name == name);
        Shard {
            at: remote.map_or(ShardAt::Here, |remote| remote.at.clone()),
            name,
        }
    };
    groups.into_iter().map(shard).collect()
}

/// Checks that need more than one key. The places stand in the order of the proxies.
pub(super) fn check(settings: &Settings, places: &[Places], report: &mut Report) {
    for (index, (proxy, at)) in settings.proxies.iter().zip(places).enumerate() {
        for (earlier, earlier_at) in settings.proxies[..index].iter().zip(places) {
            if earlier.listen == proxy.listen {
                report.push(
                    Diagnostic::error("same-listen", "two proxies listen at the same address")
                        .at(at.listen, "here")
                        .at(earlier_at.listen, "and here"),
                );
            }
            if earlier.name == proxy.name {
                let text = format!("two proxies are called `{}`", proxy.name);
                report.push(
                    Diagnostic::error("same-name", text)
                        .at(at.header, "this one")
                        .at(earlier_at.header, "and this one")
                        .help("give one of them another `name`"),
                );
            }
        }
        shards_exist(settings, proxy, at, report);
        placement(proxy, at, report);
        access::check(settings, proxy, &at.access, report);
        replicas::check(proxy.replicas, &proxy.shards, &at.replicas, report);
        cluster::check(proxy, &at.cluster, report);
    }
    let vips: Vec<_> = places.iter().map(|at| at.vip.as_ref()).collect();
    proxy_vip::check(settings, &vips, report);
}

fn shards_exist(settings: &Settings, proxy: &Proxy, at: &Places, report: &mut Report) {
    if !proxy.cluster.is_empty() {
        return;
    }
    if proxy.shards.is_empty() || proxy.shards.len() > SHARDS_MAX {
        report.push(
            Diagnostic::error("no-shard", "`groups` names no shard, or too many")
                .at(at.groups, format!("must be from 1 to {SHARDS_MAX}")),
        );
    }
    for (index, shard) in proxy.shards.iter().enumerate() {
        if proxy.shards[..index].iter().any(|it| it.name == shard.name) {
            let text = format!("the group `{}` is named twice", shard.name);
            report.push(
                Diagnostic::error("same-group", text)
                    .at(at.groups, "a group is one shard of a proxy"),
            );
        }
        if shard.at == ShardAt::Here && !settings.names().any(|name| name == shard.name) {
            let text = format!("there is no group `{}`", shard.name);
            report.push(
                Diagnostic::error("no-such-group", text)
                    .at(at.groups, "neither a [[group]] of this host nor a [[proxy.group]]")
                    .help(format!(
                        "if its daemons are on other hosts, add: [[proxy.group]] name = \"{}\", daemons = [\"10.0.0.1:26379\", ...]",
                        shard.name
                    )),
            );
        }
    }
}

/// XXH3 and rendezvous belong together; everything else is twemproxy's.
fn placement(proxy: &Proxy, at: &Places, report: &mut Report) {
    let new = (
        proxy.hash == Hash::Xxh3,
        proxy.distribution == Distribution::Rendezvous,
    );
    if new.0 != new.1 {
        report.push(
            Diagnostic::error(
                "placement",
                "hash = \"xxh3\" and distribution = \"rendezvous\" belong together",
            )
            .at(at.distribution, "only one of them is chosen")
            .help("leave both out for new shards; for shards that twemproxy filled, write both as they stand in its file"),
        );
    }
}
