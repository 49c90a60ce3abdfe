//! `[[group]]` with `[group.sentinel]`: reading it, and what only several keys show to be wrong.
//!
//! Such a group is followed and not led, so every key about promoting or starting servers is refused: it would
//! have no effect, and whoever wrote it expects one.

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use super::kinds::{Name, Size, Text};
use super::read::{read_hooks, read_server, read_vip, vip_places};
use super::section::Section;
use super::{ArchiveLimits, Fleet, Follow, Settings, Vip, check};
use crate::diagnostic::{Diagnostic, Report, Span};
use crate::value::format_duration;

/// Keys of `[[group]]` that only a host which leads the group can obey.
const IDLE: &[&str] = &[
    "manage",
    "redis_conf",
    "redis_server",
    "run_as",
    "unit",
    "preempt",
    "resync",
    "resync_window",
    "max_lag",
    "boot_wait",
    "flap_block",
    "drain_deadline",
    "switchover_deadline",
    "on_promote",
    "on_demote",
    "on_fault",
];

/// Where to report findings of one group.
pub(super) struct Places {
    name: Span,
    server: Span,
    username: Span,
    down_after: Span,
    /// Header, addresses, lifetime.
    vip: Option<(Span, Span, Span)>,
    sentinels: Span,
    sentinel_username: Span,
}

/// Reads one group; findings go into the report.
pub(super) fn read_follow(
    section: &Section<'_, '_>,
    report: &mut Report,
) -> Option<(Follow, Places)> {
    section.report_unknown(report);
    for (elector, decides) in [("vrrp", "VRRP decides"), ("local", "this daemon decides")] {
        if section.has(elector) {
            report.push(
                Diagnostic::error("two-electors", "a group has one elector")
                    .at(section.place(elector), format!("{decides} here"))
                    .at(section.place("sentinel"), "and a Sentinel fleet here")
                    .help(format!(
                        "remove one of [group.{elector}] and [group.sentinel]"
                    )),
            );
        }
    }
    for key in IDLE.iter().filter(|key| section.has(key)) {
        report.push(
            Diagnostic::error("idle-key", format!("`{key}` would have no effect"))
                .at(
                    section.place(key),
                    "the Sentinel fleet promotes and demotes, this host follows",
                )
                .help(format!("remove `{key}`, or [group.sentinel]")),
        );
    }
    let name = section.get::<Name>(report, "name");
    let server = read_server(section, report);
    let username = section.get::<Text>(report, "username");
    let password_file = section.get::<PathBuf>(report, "password_file");
    let down_after = section.get::<Duration>(report, "down_after");
    let archive_keep = section.get(report, "archive_keep");
    let archive_max = section.get::<Size>(report, "archive_max");
    let on_vip = read_hooks(section, report, "on_vip");
    let vip_section = section.child(report, "vip");
    let vip = vip_section.as_ref().map(|vip| read_vip(vip, report));
    let fleet_section = section.child(report, "sentinel")?;
    let fleet = read_fleet(&fleet_section, report);
    let places = Places {
        name: section.place("name"),
        server: section.place("servers"),
        username: section.place("username"),
        down_after: section.place("down_after"),
        vip: vip_section.as_ref().map(vip_places),
        sentinels: fleet_section.place("sentinels"),
        sentinel_username: fleet_section.place("username"),
    };
    let follow = Follow {
        name: name?.0,
        server: server?,
        username: username.map(|text| text.0),
        password_file,
        down_after: down_after?,
        archive: ArchiveLimits {
            keep: archive_keep?,
            max_bytes: archive_max?.0,
        },
        on_vip,
        vip: match vip {
            Some(vip) => Some(vip?),
            None => None,
        },
        fleet: fleet?,
    };
    Some((follow, places))
}

fn read_fleet(section: &Section<'_, '_>, report: &mut Report) -> Option<Fleet> {
    section.report_unknown(report);
    let master = section.get::<Name>(report, "master");
    let sentinels = section.get::<Vec<SocketAddr>>(report, "sentinels");
    let username = section.get::<Text>(report, "username");
    let password_file = section.get::<PathBuf>(report, "password_file");
    Some(Fleet {
        master: master?.0,
        sentinels: sentinels?,
        username: username.map(|text| text.0),
        password_file,
    })
}

/// Checks that need more than one key. The places stand in the order of the groups.
pub(super) fn check(settings: &Settings, places: &[Places], report: &mut Report) {
    for (index, (follow, at)) in settings.follows.iter().zip(places).enumerate() {
        distinct(settings, index, follow, at, report);
        server(settings, follow, at, report);
        sentinels(settings, follow, at, report);
        if let (Some(vip), Some(places)) = (&follow.vip, at.vip) {
            check::addresses(settings, Some(follow.server), vip, places, report);
        }
    }
}

fn addresses(vip: Option<&Vip>) -> impl Iterator<Item = IpAddr> {
    vip.into_iter()
        .flat_map(|vip| vip.addresses.iter().map(|it| it.addr))
}

fn distinct(settings: &Settings, index: usize, follow: &Follow, at: &Places, report: &mut Report) {
    let led = settings.groups.iter().flat_map(|it| {
        it.servers()
            .map(|server| (&it.name, server, it.vip.as_ref()))
    });
    let followed = settings.follows[..index].iter();
    let followed = followed.map(|it| (&it.name, it.server, it.vip.as_ref()));
    for (name, server, vip) in led.chain(followed) {
        if *name == follow.name {
            let text = format!("two groups are called `{name}`");
            report.push(Diagnostic::error("same-name", text).at(at.name, "this one"));
        }
        if server == follow.server {
            let text = "two groups claim the same server";
            report.push(Diagnostic::error("same-server", text).at(at.server, "here"));
        }
        let shared = addresses(follow.vip.as_ref()).find(|own| addresses(vip).any(|it| it == *own));
        if let (Some(shared), Some((_, place, _))) = (shared, at.vip) {
            let text = format!("two groups claim the VIP {shared}");
            report.push(Diagnostic::error("same-vip", text).at(place, "here"));
        }
    }
}

fn server(settings: &Settings, follow: &Follow, at: &Places, report: &mut Report) {
    let address = follow.server.ip();
    if address.is_unspecified() || (address.is_loopback() && !settings.host.address.is_loopback()) {
        report.push(
            Diagnostic::error("unnamed-server", "the fleet never names this server")
                .at(
                    at.server,
                    "must be the address under which the sentinels know it",
                )
                .help(format!(
                    "write \"{}:{}\"",
                    settings.host.address,
                    follow.server.port()
                )),
        );
    }
    let passwords = [
        (&follow.username, &follow.password_file, at.username),
        (
            &follow.fleet.username,
            &follow.fleet.password_file,
            at.sentinel_username,
        ),
    ];
    for (username, password_file, place) in passwords {
        if username.is_some() && password_file.is_none() {
            report.push(
                Diagnostic::error("no-password", "`username` is given without `password_file`")
                    .at(place, "a user without a password cannot log in"),
            );
        }
    }
    if follow.down_after < check::DOWN_AFTER_MIN {
        report.push(
            Diagnostic::error("out-of-range", "`down_after` is too short").at(
                at.down_after,
                format!(
                    "must be at least {}",
                    format_duration(check::DOWN_AFTER_MIN)
                ),
            ),
        );
    }
}

fn sentinels(settings: &Settings, follow: &Follow, at: &Places, report: &mut Report) {
    let all = &follow.fleet.sentinels;
    let mut refuse = |code: &'static str, text: String, right: &str, help: &str| {
        let found = Diagnostic::error(code, text).at(at.sentinels, right);
        report.push(if help.is_empty() {
            found
        } else {
            found.help(help)
        });
    };
    if all.is_empty() {
        let right = "name the fleet's sentinels, as many of them as possible";
        refuse("no-sentinel", "`sentinels` is empty".to_owned(), right, "");
    }
    for (index, sentinel) in all.iter().enumerate() {
        if all[..index].contains(sentinel) {
            let text = format!("the sentinel {sentinel} is given twice");
            refuse(
                "same-sentinel",
                text,
                "it would count twice in a majority",
                "",
            );
        }
        if *sentinel == settings.host.socket_addr() {
            refuse(
                "own-port",
                format!("{sentinel} is this daemon's own port"),
                "a daemon cannot follow itself",
                "if a sentinel has this port, give the daemon another one: port = 26380 under [host]",
            );
        }
    }
}
