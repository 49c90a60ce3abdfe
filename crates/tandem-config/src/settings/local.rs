//! `[group.local]`: both servers of a group on this host.
//!
//! One daemon keeps both, so nothing has to be elected over a network, and there is nothing to set. What belongs to a pair of
//! hosts is refused: an address cannot choose between two ports of one host, and the files that start a server name one.

use std::net::SocketAddr;

use super::Manage;
use super::section::Section;
use crate::diagnostic::{Diagnostic, Report};

/// Both servers.
pub(super) fn read_servers(
    section: &Section<'_, '_>,
    report: &mut Report,
) -> Option<(SocketAddr, Option<SocketAddr>)> {
    let servers = section.get::<Vec<SocketAddr>>(report, "servers")?;
    match servers.as_slice() {
        [first, second] if first != second => Some((*first, Some(*second))),
        _ => {
            report.push(
                Diagnostic::error(
                    "two-servers",
                    "a group under [group.local] has exactly two servers, both on this host",
                )
                .at(
                    section.place("servers"),
                    "must be two different addresses",
                )
                .help("write servers = [\"10.0.0.1:6379\", \"10.0.0.1:63791\"]; for a server on each of two hosts use [group.vrrp]"),
            );
            None
        }
    }
}

/// What does not go with it.
pub(super) fn check(section: &Section<'_, '_>, manage: Option<&Manage>, report: &mut Report) {
    if let Some(local) = section.child(report, "local") {
        local.report_unknown(report);
    }
    if section.has("vrrp") {
        report.push(
            Diagnostic::error("two-electors", "a group has one elector")
                .at(section.place("vrrp"), "VRRP decides here")
                .at(section.place("local"), "and this daemon here")
                .help("remove one of [group.vrrp] and [group.local]"),
        );
    }
    if section.has("vip") {
        report.push(
            Diagnostic::error("local-vip", "[group.vip] under [group.local]")
                .at(
                    section.place("vip"),
                    "both servers are on this host: an address cannot choose between their ports",
                )
                .help("put a [[proxy]] in front of the group; a [proxy.vip] may move between its hosts"),
        );
    }
    if matches!(manage, Some(Manage::Spawn { .. } | Manage::Systemd { .. })) {
        report.push(
            Diagnostic::error(
                "local-manage",
                "[group.local] keeps servers that run already",
            )
            .at(
                section.place("manage"),
                "there is one such key for two servers",
            )
            .help("write manage = \"adopt\", and have systemd or another supervisor start both"),
        );
    }
}
