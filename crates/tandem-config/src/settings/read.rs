//! From TOML text to [`Settings`].
//!
//! Each section is read key by key; a key that cannot be read is reported and the rest is read all the same. Only when
//! everything that is required was there does a section become a value, so no daemon ever sees half a setting.

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use toml::de::DeTable;

use super::check::{self, GroupPlaces, Places};
use super::follow;
use super::kinds::{Command, Commands, Interface, ManageWord, Name, Port, Size, Text};
use super::local;
use super::proxy;
use super::section::Section;
use super::{
    ArchiveLimits, Elector, Group, Hooks, Host, Manage, Peer, Settings, TrackScript, Vip, Vrrp,
    VrrpVersion,
};
use crate::diagnostic::{Diagnostic, Report, Span};
use crate::value::IpPrefix;

/// Reads a `tandem.toml`. `name` is what findings call the file.
///
/// The settings are there exactly if the report has no errors; warnings may accompany them.
pub fn read(name: &str, text: &str) -> (Option<Settings>, Report) {
    let mut report = Report::default();
    let file = report.sources.add(name, text);
    let (document, errors) = DeTable::parse_recoverable(text);
    for error in &errors {
        let at = error.span().unwrap_or(0..0);
        report.push(
            Diagnostic::error("toml", format!("not TOML: {}", one_line(error.message())))
                .at(Span::new(file, at.start, at.end), ""),
        );
    }
    let top = Span::new(file, 0, 0);
    let root = Section::new(file, "", top, document.get_ref());
    root.report_unknown(&mut report);
    let settings = whole_file(&root, &mut report);
    report.sort();
    let settings = settings.filter(|_| !report.has_errors());
    (settings, report)
}

/// The parser's messages may span lines; a diagnostic's message is one sentence.
fn one_line(message: &str) -> String {
    message.split_whitespace().collect::<Vec<_>>().join(" ")
}

fn whole_file(root: &Section<'_, '_>, report: &mut Report) -> Option<Settings> {
    let host = match root.child(report, "host") {
        Some(section) => read_host(&section, report).map(|host| (host, section.header)),
        None => {
            report.push(
                Diagnostic::error("missing-section", "there is no [host]")
                    .at(root.header, "")
                    .help("begin with [host], id = \"a\" and address = \"10.0.0.1\""),
            );
            None
        }
    };
    let mut peers = Vec::new();
    let mut groups = Vec::new();
    let mut follows = Vec::new();
    let mut follow_places = Vec::new();
    let mut places = Places {
        host: host.as_ref().map_or(root.header, |(_, at)| *at),
        peers: Vec::new(),
        groups: Vec::new(),
    };
    let peer_sections = root.children(report, "peer");
    let peers_given = peer_sections.len();
    for section in peer_sections {
        if let Some(peer) = read_peer(&section, report) {
            places.peers.push(section.header);
            peers.push(peer);
        }
    }
    let group_sections = root.children(report, "group");
    let proxy_sections = root.children(report, "proxy");
    if group_sections.is_empty() && !root.has("group") && !root.has("proxy") {
        report.push(
            Diagnostic::error("missing-section", "there is no [[group]]")
                .at(root.header, "")
                .help("add [[group]] with name and servers, and its elector [group.vrrp]"),
        );
    }
    let groups_given = group_sections.len();
    for section in group_sections {
        if section.has("sentinel") {
            if let Some((follow, at)) = follow::read_follow(&section, report) {
                follows.push(follow);
                follow_places.push(at);
            }
        } else if let Some((group, at)) = read_group(&section, report) {
            places.groups.push(at);
            groups.push(group);
        }
    }
    let proxies_given = proxy_sections.len();
    let (proxies, proxy_places): (Vec<_>, Vec<_>) = proxy_sections
        .iter()
        .filter_map(|section| proxy::read_proxy(section, report))
        .unzip();
    let settings = Settings {
        host: host?.0,
        peers,
        groups,
        follows,
        proxies,
    };
    check::across(&settings, &places, report);
    follow::check(&settings, &follow_places, report);
    // A group that could not be read would be reported twice.
    let groups_read = settings.groups.len() + settings.follows.len();
    if groups_read == groups_given {
        proxy::check(&settings, &proxy_places, report);
    }
    let whole = settings.peers.len() == peers_given
        && groups_read == groups_given
        && settings.proxies.len() == proxies_given;
    whole.then_some(settings)
}

fn read_host(section: &Section<'_, '_>, report: &mut Report) -> Option<Host> {
    section.report_unknown(report);
    let id = section.get::<Name>(report, "id");
    let address = section.get::<IpAddr>(report, "address");
    let secret_file = section.get::<PathBuf>(report, "secret_file");
    let state_dir = section.get::<PathBuf>(report, "state_dir");
    let port = section.get::<Port>(report, "port");
    let directory = section.get(report, "directory");
    Some(Host {
        id: id?.0,
        address: address?,
        port: port?.0,
        secret_file,
        state_dir: state_dir?,
        directory: directory?,
    })
}

fn read_peer(section: &Section<'_, '_>, report: &mut Report) -> Option<Peer> {
    section.report_unknown(report);
    let id = section.get::<Name>(report, "id");
    let address = section.get::<IpAddr>(report, "address");
    let port = section.get::<Port>(report, "port");
    Some(Peer {
        id: id?.0,
        address: address?,
        port: port?.0,
    })
}

fn read_group(section: &Section<'_, '_>, report: &mut Report) -> Option<(Group, GroupPlaces)> {
    section.report_unknown(report);
    let name = section.get::<Name>(report, "name");
    let is_local = section.has("local");
    let server = if is_local {
        local::read_servers(section, report)
    } else {
        read_server(section, report).map(|server| (server, None))
    };
    let manage = read_manage(section, report);
    let username = section.get::<Text>(report, "username");
    let password_file = section.get::<PathBuf>(report, "password_file");
    let down_after = section.get::<Duration>(report, "down_after");
    let preempt = section.get(report, "preempt");
    let resync = section.get(report, "resync");
    let resync_window = section.get(report, "resync_window");
    let max_lag = section.get::<Size>(report, "max_lag");
    let boot_wait = section.get(report, "boot_wait");
    let flap_block = section.get(report, "flap_block");
    let archive_keep = section.get(report, "archive_keep");
    let archive_max = section.get::<Size>(report, "archive_max");
    let drain_deadline = section.get(report, "drain_deadline");
    let switchover_deadline = section.get(report, "switchover_deadline");
    let hooks = Hooks {
        on_promote: read_hooks(section, report, "on_promote"),
        on_demote: read_hooks(section, report, "on_demote"),
        on_vip: read_hooks(section, report, "on_vip"),
        on_fault: read_hooks(section, report, "on_fault"),
    };
    let vip_section = section.child(report, "vip");
    let vip = vip_section
        .as_ref()
        .map(|section| read_vip(section, report));
    let vip_interface = vip_section.as_ref().and_then(interface_of);
    let vrrp_section = section.child(report, "vrrp");
    if vrrp_section.is_none() && !section.has("vrrp") && !is_local {
        report.push(
            Diagnostic::error("no-elector", "[[group]] says nothing about who is primary")
                .at(section.header, "this group has no elector")
                .help("add [group.vrrp] with router_id and priority, [group.local] for two servers of this host, or [group.sentinel] to follow a fleet"),
        );
    }
    let vrrp = vrrp_section
        .as_ref()
        .and_then(|section| read_vrrp(section, report, vip_interface));
    if is_local {
        local::check(section, manage.as_ref(), report);
    }
    let (server, other) = server.unzip();
    let elector = match other.flatten() {
        Some(other) => Some(Elector::Local {
            other,
            preferred: true,
        }),
        None => vrrp.map(Elector::Vrrp),
    };

    let places = GroupPlaces {
        header: section.header,
        name: section.place("name"),
        server: section.place("servers"),
        username: section.place("username"),
        down_after: section.place("down_after"),
        resync_window: section.place("resync_window"),
        vip: vip_section.as_ref().map(vip_places),
        vrrp: vrrp_section.as_ref().map(vrrp_places),
    };
    let group = Group {
        name: name?.0,
        server: server?,
        manage: manage?,
        username: username.map(|text| text.0),
        password_file,
        down_after: down_after?,
        preempt: preempt?,
        resync: resync?,
        resync_window,
        max_lag_bytes: max_lag?.0,
        boot_wait: boot_wait?,
        flap_block: flap_block?,
        archive: ArchiveLimits {
            keep: archive_keep?,
            max_bytes: archive_max?.0,
        },
        drain_deadline: drain_deadline?,
        switchover_deadline: switchover_deadline?,
        hooks,
        vip: match vip {
            Some(vip) => Some(vip?),
            None => None,
        },
        elector: elector?,
    };
    Some((group, places))
}

pub(super) fn read_server(section: &Section<'_, '_>, report: &mut Report) -> Option<SocketAddr> {
    let servers = section.get::<Vec<SocketAddr>>(report, "servers")?;
    match servers.as_slice() {
        [server] => Some(*server),
        [] | [_, _, ..] => {
            report.push(
                Diagnostic::error("one-server", "a group has exactly one server on this host")
                    .at(
                        section.place("servers"),
                        format!("{} are given", servers.len()),
                    )
                    .help("name the server of this host; the other host's file names its own"),
            );
            None
        }
    }
}

fn read_manage(section: &Section<'_, '_>, report: &mut Report) -> Option<Manage> {
    let word = section.get::<ManageWord>(report, "manage");
    let redis_conf = section.get::<PathBuf>(report, "redis_conf");
    let redis_server = section.get::<PathBuf>(report, "redis_server");
    let run_as = section.get::<Name>(report, "run_as");
    let unit = section.get::<Text>(report, "unit");
    let word = word?;
    for (key, wanted, shown) in [
        ("redis_conf", ManageWord::Spawn, "spawn"),
        ("redis_server", ManageWord::Spawn, "spawn"),
        ("run_as", ManageWord::Spawn, "spawn"),
        ("unit", ManageWord::Systemd, "systemd"),
    ] {
        if word != wanted && section.has(key) {
            report.push(
                Diagnostic::error("idle-key", format!("`{key}` would have no effect"))
                    .at(
                        section.place(key),
                        format!("belongs to manage = \"{shown}\""),
                    )
                    .help(format!("write manage = \"{shown}\", or remove `{key}`")),
            );
        }
    }
    let mut missing = |key: &str| {
        report.push(
            Diagnostic::error("missing-key", format!("[[group]] has no `{key}`"))
                .at(section.place("manage"), format!("this needs `{key}`")),
        );
    };
    match word {
        ManageWord::Adopt => Some(Manage::Adopt),
        ManageWord::Spawn => {
            if !section.has("redis_conf") {
                missing("redis_conf");
            }
            Some(Manage::Spawn {
                redis_conf: redis_conf?,
                redis_server: redis_server
                    .unwrap_or_else(|| PathBuf::from("/usr/bin/redis-server")),
                run_as: run_as.map(|name| name.0),
            })
        }
        ManageWord::Systemd => {
            if !section.has("unit") {
                missing("unit");
            }
            Some(Manage::Systemd { unit: unit?.0 })
        }
    }
}

pub(super) fn read_hooks(
    section: &Section<'_, '_>,
    report: &mut Report,
    name: &str,
) -> Vec<super::Hook> {
    section
        .get::<Commands>(report, name)
        .map_or_else(Vec::new, |commands| commands.0)
}

pub(super) fn read_vip(section: &Section<'_, '_>, report: &mut Report) -> Option<Vip> {
    section.report_unknown(report);
    let one = section.get::<IpPrefix>(report, "address");
    let several = section.get::<Vec<IpPrefix>>(report, "addresses");
    let interface = section.get::<Interface>(report, "interface");
    let lifetime = section.get::<Duration>(report, "lifetime");
    let addresses = match (section.has("address"), section.has("addresses")) {
        (true, false) => one.map(|address| vec![address]),
        (false, true) => several,
        (true, true) | (false, false) => {
            report.push(
                Diagnostic::error(
                    "vip-address",
                    format!("{} takes either `address` or `addresses`", section.title()),
                )
                .at(
                    section.place("address"),
                    if one.is_some() {
                        "both are given"
                    } else {
                        "none is given"
                    },
                )
                .help("write address = \"10.0.0.100/24\""),
            );
            None
        }
    };
    Some(Vip {
        addresses: addresses?,
        interface: interface?.0,
        lifetime: lifetime?,
    })
}

/// The interface of a VIP, if it is given and can be read: the default of the adverts'.
pub(super) fn interface_of(vip: &Section<'_, '_>) -> Option<Interface> {
    vip.has("interface")
        .then(|| vip.get::<Interface>(&mut Report::default(), "interface"))?
}

/// Header, addresses, lifetime.
pub(super) fn vip_places(vip: &Section<'_, '_>) -> (Span, Span, Span) {
    let several = if vip.has("addresses") {
        "addresses"
    } else {
        "address"
    };
    (vip.header, vip.place(several), vip.place("lifetime"))
}

pub(super) fn vrrp_places(vrrp: &Section<'_, '_>) -> check::VrrpPlaces {
    check::VrrpPlaces {
        header: vrrp.header,
        router_id: vrrp.place("router_id"),
        advert_interval: vrrp.place("advert_interval"),
    }
}

/// A number within bounds; reports one outside.
pub(super) fn number(
    section: &Section<'_, '_>,
    report: &mut Report,
    name: &str,
    bounds: std::ops::RangeInclusive<i64>,
    why: &str,
) -> Option<i64> {
    let number = section.get::<i64>(report, name)?;
    if bounds.contains(&number) {
        return Some(number);
    }
    report.push(
        Diagnostic::error("out-of-range", format!("`{name}` is out of range")).at(
            section.place(name),
            format!("must be from {} to {}{why}", bounds.start(), bounds.end()),
        ),
    );
    None
}

fn read_vrrp(
    section: &Section<'_, '_>,
    report: &mut Report,
    vip_interface: Option<Interface>,
) -> Option<Vrrp> {
    let router = read_router(section, report, vip_interface);
    let scripts = section.children(report, "track_script");
    let scripts_given = scripts.len();
    let track_script: Vec<TrackScript> = scripts
        .iter()
        .filter_map(|script| read_track_script(script, report))
        .collect();
    if track_script.len() != scripts_given {
        return None;
    }
    Some(Vrrp {
        track_script,
        ..router?
    })
}

/// What every virtual router has, of a group or of a proxy.
pub(super) fn read_router(
    section: &Section<'_, '_>,
    report: &mut Report,
    vip_interface: Option<Interface>,
) -> Option<Vrrp> {
    section.report_unknown(report);
    let router_id = number(section, report, "router_id", 1..=255, "");
    let priority = number(
        section,
        report,
        "priority",
        1..=254,
        "; 255 would claim the address whatever the data says",
    );
    let own_interface = section.get::<Interface>(report, "interface");
    let interface = own_interface.or(vip_interface);
    if interface.is_none() && !section.has("interface") {
        report.push(
            Diagnostic::error(
                "missing-key",
                format!("{} has no `interface`", section.title()),
            )
            .at(
                section.header,
                "and there is no VIP whose interface it could take",
            )
            .help("add interface = \"eth0\""),
        );
    }
    let advert_interval = section.get::<Duration>(report, "advert_interval");
    let version = match number(section, report, "version", 2..=3, "") {
        Some(2) => Some(VrrpVersion::V2),
        Some(_) => Some(VrrpVersion::V3),
        None => None,
    };
    let unicast = section.get(report, "unicast");
    let track_interface = section.get::<Vec<Interface>>(report, "track_interface");
    Some(Vrrp {
        router_id: u8::try_from(router_id?).ok()?,
        priority: u8::try_from(priority?).ok()?,
        interface: interface?.0,
        advert_interval: advert_interval?,
        version: version?,
        unicast: unicast?,
        track_interface: track_interface?.into_iter().map(|name| name.0).collect(),
        track_script: Vec::new(),
    })
}

fn read_track_script(section: &Section<'_, '_>, report: &mut Report) -> Option<TrackScript> {
    section.report_unknown(report);
    let script = section.get::<Command>(report, "script");
    let interval = section.get::<Duration>(report, "interval");
    let timeout = section.get::<Duration>(report, "timeout");
    let rise = number(section, report, "rise", 1..=1000, "");
    let fall = number(section, report, "fall", 1..=1000, "");
    let weight = number(section, report, "weight", -253..=253, "");
    for (name, value) in [("interval", interval), ("timeout", timeout)] {
        if value.is_some_and(|value| value < Duration::from_millis(10)) {
            report.push(
                Diagnostic::error("out-of-range", format!("`{name}` is too short"))
                    .at(section.place(name), "must be at least 10ms"),
            );
        }
    }
    Some(TrackScript {
        script: script?.0,
        interval: interval?,
        timeout: timeout.or(interval)?,
        rise: u32::try_from(rise?).ok()?,
        fall: u32::try_from(fall?).ok()?,
        weight: i16::try_from(weight?).ok()?,
    })
}
