//! `cluster` of a `[[proxy]]`: a Redis Cluster in place of groups, and what cannot be asked for then.

use std::net::SocketAddr;

use tandem_proxy::settings::{Distribution, Hash, ReadFrom, Replicas};

use super::Proxy;
use super::section::Section;
use crate::diagnostic::{Diagnostic, Report, Span};

/// Seeds that are of any use.
const SEEDS_MAX: usize = 64;

/// Where to report what only several keys show.
pub(super) struct Places {
    cluster: Span,
    ack: Span,
    read: Span,
}

/// Reads the key; findings about its neighbours go into the report. None: it is given, and wrong.
pub(super) fn read(
    section: &Section<'_, '_>,
    report: &mut Report,
) -> Option<(Vec<SocketAddr>, Places)> {
    let places = Places {
        cluster: section.place("cluster"),
        ack: section.place("ack"),
        read: section.place("read"),
    };
    if !section.has("cluster") {
        if !section.has("groups") {
            report.push(
                Diagnostic::error("missing-key", format!("{} has no `groups`", section.title()))
                    .at(section.header, "`groups` or `cluster` is required here")
                    .help("add: groups = [\"orders-a\", \"orders-b\"], or for a Redis Cluster: cluster = [\"10.0.0.1:7000\", \"10.0.0.2:7000\"]"),
            );
        }
        return Some((Vec::new(), places));
    }
    let seeds = section.get::<Vec<SocketAddr>>(report, "cluster")?;
    let right = seeds.len() <= SEEDS_MAX
        && !seeds.is_empty()
        && seeds
            .iter()
            .all(|it| it.port() != 0 && !it.ip().is_unspecified());
    if !right {
        report.push(
            Diagnostic::error("seeds", "`cluster` names no node that can be asked")
                .at(
                    places.cluster,
                    format!("must be from 1 to {SEEDS_MAX} addresses of nodes"),
                )
                .help("name a few nodes; the others are found by asking them"),
        );
    }
    let mut refuse = |key: &str, why: &str, help: &str| {
        if section.has(key) {
            report.push(
                Diagnostic::error("cluster", format!("`{key}` beside `cluster`"))
                    .at(section.place(key), why)
                    .at(places.cluster, "the servers are these and their peers")
                    .help(help),
            );
        }
    };
    let own = "a cluster itself says which of its nodes has a key";
    refuse(
        "groups",
        "a proxy stands before groups or before one cluster",
        "make two [[proxy]] blocks of it, with an address each",
    );
    for key in ["hash", "distribution", "hash_tag"] {
        refuse(
            key,
            own,
            "leave it out; keys are kept together by {} as in every cluster",
        );
    }
    if let Some(first) = section.children(report, "group").first() {
        report.push(
            Diagnostic::error("cluster", "[[proxy.group]] beside `cluster`")
                .at(
                    first.header,
                    "a proxy stands before groups or before one cluster",
                )
                .at(places.cluster, "the servers are these and their peers")
                .help("make two [[proxy]] blocks of it, with an address each"),
        );
    }
    Some((seeds, places))
}

/// How keys are placed in a cluster.
pub(super) const PLACEMENT: (Hash, Distribution, Option<[u8; 2]>) =
    (Hash::Crc16, Distribution::Slots, Some(*b"{}"));

/// What replicas cannot do in a cluster.
pub(super) fn check(proxy: &Proxy, at: &Places, report: &mut Report) {
    if proxy.cluster.is_empty() {
        return;
    }
    let Replicas { ack, read } = proxy.replicas;
    if ack.is_some() {
        report.push(
            Diagnostic::error("cluster-ack", "`ack` cannot be kept over a Redis Cluster")
                .at(
                    at.ack,
                    "batches are acknowledged by a PUBLISH that replicas get from their primary, and in a cluster they do not",
                )
                .help("leave it out, or keep these keys in groups of tandem"),
        );
    }
    if read == ReadFrom::Replica {
        report.push(
            Diagnostic::error(
                "cluster-read",
                "read = \"replica\" is not possible over a Redis Cluster in this version",
            )
            .at(at.read, "reads go to the primary of their slot")
            .help("leave it out, or keep these keys in groups of tandem"),
        );
    }
}
