//! What only several keys together can show to be wrong.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use super::{Group, Resync, Settings, Vip, Vrrp, VrrpVersion};
use crate::diagnostic::{Diagnostic, Report, Span};
use crate::value::format_duration;

/// Where to report findings of one group.
pub(super) struct GroupPlaces {
    pub(super) header: Span,
    pub(super) name: Span,
    pub(super) server: Span,
    pub(super) username: Span,
    pub(super) down_after: Span,
    pub(super) resync_window: Span,
    /// Header, addresses, lifetime.
    pub(super) vip: Option<(Span, Span, Span)>,
    pub(super) vrrp: Option<VrrpPlaces>,
}

/// Where to report findings of one `[group.vrrp]` or `[proxy.vrrp]`.
pub(super) struct VrrpPlaces {
    pub(super) header: Span,
    pub(super) router_id: Span,
    pub(super) advert_interval: Span,
}

/// Where to report findings of the whole file.
pub(super) struct Places {
    pub(super) host: Span,
    pub(super) peers: Vec<Span>,
    pub(super) groups: Vec<GroupPlaces>,
}

/// Checks that need more than one key. The places stand in the order of the settings' peers and groups.
pub(super) fn across(settings: &Settings, places: &Places, report: &mut Report) {
    hosts(settings, places, report);
    for (index, (group, at)) in settings.groups.iter().zip(&places.groups).enumerate() {
        for (earlier, earlier_at) in settings.groups[..index].iter().zip(&places.groups) {
            distinct(group, at, earlier, earlier_at, report);
        }
        server(settings, group, at, report);
        times(group, at, report);
        if let (Some(vrrp), Some(places)) = (group.vrrp(), &at.vrrp) {
            adverts(vrrp, group.vip.as_ref(), places, at.vip, report);
        }
        if let (Some(vip), Some(vip_at)) = (&group.vip, at.vip) {
            addresses(settings, Some(group.server), vip, vip_at, report);
        }
    }
}

fn hosts(settings: &Settings, places: &Places, report: &mut Report) {
    if let (Some(peer), None) = (places.peers.first(), &settings.host.secret_file) {
        report.push(
            Diagnostic::error("no-secret", "there is a peer but no `secret_file`")
                .at(places.host, "add secret_file = \"/etc/tandem/secret\" here")
                .at(*peer, "hosts authenticate each other by a shared secret")
                .help("make one with: head -c 32 /dev/urandom | base64 > /etc/tandem/secret; copy it to both hosts, readable by root only"),
        );
    }
    for (index, (peer, at)) in settings.peers.iter().zip(&places.peers).enumerate() {
        if peer.id == settings.host.id {
            report.push(
                Diagnostic::error("same-id", format!("two hosts are called `{}`", peer.id))
                    .at(*at, "this peer")
                    .at(places.host, "and this host"),
            );
        }
        if peer.socket_addr() == settings.host.socket_addr() {
            report.push(
                Diagnostic::error(
                    "same-address",
                    "a peer has this host's own address and port",
                )
                .at(*at, "")
                .help("[[peer]] describes the other host; each host has its own file"),
            );
        }
        for (earlier, earlier_at) in settings.peers[..index].iter().zip(&places.peers) {
            if earlier.id == peer.id {
                report.push(
                    Diagnostic::error("same-id", format!("two peers are called `{}`", peer.id))
                        .at(*at, "this one")
                        .at(*earlier_at, "and this one"),
                );
            }
        }
    }
    // Two hosts exactly: VRRP has no majority, so with three of them two could each see the third silent and both promote.
    let Some(vrrp) = places.groups.iter().find_map(|group| group.vrrp.as_ref()) else {
        return;
    };
    match places.peers.as_slice() {
        [_] => {}
        [] => report.push(
            Diagnostic::error(
                "pair-of-one",
                "a group under [group.vrrp] needs the other host",
            )
            .at(vrrp.header, "elected by a pair, but there is no [[peer]]")
            .help("add [[peer]] with id and address of the other host"),
        ),
        [_, more @ ..] => {
            for third in more {
                report.push(
                    Diagnostic::error(
                        "pair-of-three",
                        "a group under [group.vrrp] has exactly two hosts",
                    )
                    .at(*third, "one host too many")
                    .at(vrrp.header, "VRRP has no majority to decide between three")
                    .help("three hosts need the elector `votes`, which a coming version brings; further Redis replicas need no tandem host, they are followed as they are"),
                );
            }
        }
    }
}

fn distinct(
    group: &Group,
    at: &GroupPlaces,
    earlier: &Group,
    earlier_at: &GroupPlaces,
    report: &mut Report,
) {
    if group.name == earlier.name {
        report.push(
            Diagnostic::error(
                "same-name",
                format!("two groups are called `{}`", group.name),
            )
            .at(at.name, "this one")
            .at(earlier_at.name, "and this one"),
        );
    }
    if group
        .servers()
        .any(|server| earlier.servers().any(|other| other == server))
    {
        report.push(
            Diagnostic::error("same-server", "two groups claim the same server")
                .at(at.server, "here")
                .at(earlier_at.server, "and here"),
        );
    }
    let wire = |group: &Group| {
        let vrrp = group.vrrp()?;
        Some((vrrp.router_id, vrrp.interface.clone()))
    };
    let same_wire = wire(group).is_some() && wire(group) == wire(earlier);
    if let (true, Some(here), Some(there)) = (same_wire, &at.vrrp, &earlier_at.vrrp) {
        report.push(
            Diagnostic::error(
                "same-router-id",
                "two groups use the same router_id on the same interface",
            )
            .at(here.router_id, "here")
            .at(there.router_id, "and here")
            .help("give each group a number of its own, the same on both hosts"),
        );
    }
    let vips = |group: &Group| -> Vec<IpAddr> {
        group
            .vip
            .iter()
            .flat_map(|vip| vip.addresses.iter().map(|address| address.addr))
            .collect()
    };
    let shared = vips(group)
        .into_iter()
        .find(|addr| vips(earlier).contains(addr));
    if let (Some(addr), Some((_, here, _)), Some((_, there, _))) = (shared, at.vip, earlier_at.vip)
    {
        report.push(
            Diagnostic::error("same-vip", format!("two groups claim the VIP {addr}"))
                .at(here, "here")
                .at(there, "and here"),
        );
    }
}

fn server(settings: &Settings, group: &Group, at: &GroupPlaces, report: &mut Report) {
    if let Some(peer) = settings.peers.iter().find(|peer| {
        group.servers().any(|server| server.ip() == peer.address)
            && peer.address != settings.host.address
    }) {
        report.push(
            Diagnostic::error("foreign-server", "`servers` names a server of another host")
                .at(
                    at.server,
                    format!("this is the address of peer `{}`", peer.id),
                )
                .help("each host's file names the server on that host"),
        );
    }
    let loopback = group.servers().find(|server| server.ip().is_loopback());
    if let Some(server) = loopback.filter(|_| !settings.host.address.is_loopback()) {
        report.push(
            Diagnostic::error("loopback-server", "other hosts cannot reach this server")
                .at(at.server, "a loopback address means another server there")
                .help(format!(
                    "write \"{}:{}\", and let the server listen there",
                    settings.host.address,
                    server.port()
                )),
        );
    }
    if group.servers().any(|server| server.ip().is_unspecified()) {
        report.push(
            Diagnostic::error(
                "wildcard-server",
                "a server needs an address, not a wildcard",
            )
            .at(at.server, "nobody can connect to this")
            .help("write the address at which the other host reaches it"),
        );
    }
    if group.username.is_some() && group.password_file.is_none() {
        report.push(
            Diagnostic::error("no-password", "`username` is given without `password_file`")
                .at(at.username, "a user without a password cannot log in"),
        );
    }
}

/// A tenth of it is the time between two PINGs; below this a loaded host accuses healthy servers.
pub(super) const DOWN_AFTER_MIN: Duration = Duration::from_millis(50);

fn times(group: &Group, at: &GroupPlaces, report: &mut Report) {
    if group.down_after < DOWN_AFTER_MIN {
        report.push(
            Diagnostic::error("out-of-range", "`down_after` is too short").at(
                at.down_after,
                format!("must be at least {}", format_duration(DOWN_AFTER_MIN)),
            ),
        );
    }
    let deadlines = [
        ("drain_deadline", group.drain_deadline),
        ("switchover_deadline", group.switchover_deadline),
        ("archive_keep", group.archive.keep),
    ];
    for (name, deadline) in deadlines {
        if deadline.is_zero() {
            report.push(
                Diagnostic::error("out-of-range", format!("`{name}` is 0"))
                    .at(at.header, format!("`{name}` must be longer than 0")),
            );
        }
    }
    if group.resync == Resync::Ask && group.resync_window.is_some() {
        report.push(
            Diagnostic::warning(
                "idle-key",
                "`resync_window` has no effect with resync = \"ask\"",
            )
            .at(
                at.resync_window,
                "a resync waits for `tandem resync` at any time",
            ),
        );
    }
}

pub(super) fn adverts(
    vrrp: &Vrrp,
    vip: Option<&Vip>,
    places: &VrrpPlaces,
    vip_at: Option<(Span, Span, Span)>,
    report: &mut Report,
) {
    let interval = vrrp.advert_interval;
    let mut refuse = |right: &str, help: &str| {
        let found = Diagnostic::error(
            "advert-interval",
            format!("adverts cannot be {} apart", format_duration(interval)),
        )
        .at(places.advert_interval, right);
        report.push(if help.is_empty() {
            found
        } else {
            found.help(help)
        });
    };
    match vrrp.version {
        // RFC 3768 5.3.7: an octet of whole seconds.
        VrrpVersion::V2 => {
            if interval.subsec_nanos() != 0 || !(1..=255).contains(&interval.as_secs()) {
                refuse(
                    "version 2 counts whole seconds, from 1s to 255s",
                    "write advert_interval = \"1s\", or use version = 3",
                );
            }
        }
        // RFC 9568 5.2.7: twelve bits of centiseconds.
        VrrpVersion::V3 => {
            let micros = interval.as_micros();
            if !micros.is_multiple_of(10_000) || !(10_000..=40_950_000).contains(&micros) {
                refuse("must be a multiple of 10ms, from 10ms to 40.95s", "");
            }
        }
    }
    let has_ipv6 = vip
        .iter()
        .any(|vip| vip.addresses.iter().any(|address| address.addr.is_ipv6()));
    if let (VrrpVersion::V2, true, Some((_, addresses, _))) = (vrrp.version, has_ipv6, vip_at) {
        report.push(
            Diagnostic::error("v2-ipv6", "version 2 of VRRP carries no IPv6 address")
                .at(addresses, "an IPv6 address is among these")
                .help("use version = 3"),
        );
    }
}

pub(super) fn addresses(
    settings: &Settings,
    server: Option<SocketAddr>,
    vip: &Vip,
    (header, addresses, lifetime): (Span, Span, Span),
    report: &mut Report,
) {
    if vip.addresses.is_empty() {
        report.push(
            Diagnostic::error("vip-address", "the VIP has no address")
                .at(header, "leave the section out where there is no VIP"),
        );
    }
    // Whole seconds because the kernel counts an address' lifetime in them; renewed every third of it.
    let seconds = vip.lifetime.as_secs();
    if vip.lifetime.subsec_nanos() != 0 || !(1..=3600).contains(&seconds) {
        report.push(
            Diagnostic::error("vip-lifetime", "`lifetime` must be whole seconds").at(
                lifetime,
                "must be from 1s to 1h, in whole seconds, as the kernel counts",
            ),
        );
    }
    for (index, address) in vip.addresses.iter().enumerate() {
        let taken = if address.addr == settings.host.address {
            Some("this host's own address".to_owned())
        } else if Some(address.addr) == server.map(|server| server.ip()) {
            Some("the address of this group's server".to_owned())
        } else {
            settings
                .peers
                .iter()
                .find(|peer| peer.address == address.addr)
                .map(|peer| format!("the address of peer `{}`", peer.id))
        };
        if let Some(taken) = taken {
            report.push(
                Diagnostic::error("vip-taken", format!("the VIP {} cannot move", address.addr))
                    .at(addresses, format!("it is {taken}"))
                    .help("a VIP is an address of its own, free on the network"),
            );
        }
        let unusable = address.addr.is_unspecified()
            || address.addr.is_multicast()
            || address.addr.is_loopback();
        if unusable || address.prefix == 0 {
            report.push(
                Diagnostic::error("vip-address", format!("{address} cannot be a VIP"))
                    .at(addresses, "must be an address that clients can reach"),
            );
        }
        if vip.addresses[..index]
            .iter()
            .any(|earlier| earlier.addr == address.addr)
        {
            report.push(
                Diagnostic::error(
                    "vip-address",
                    format!("the VIP {} is given twice", address.addr),
                )
                .at(addresses, ""),
            );
        }
    }
}
