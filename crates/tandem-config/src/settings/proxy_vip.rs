//! `[proxy.vip]` and `[proxy.vrrp]`: reading them, and what they and the rest of the file show to be wrong.
//!
//! The hosts of a proxy need no `[[peer]]`: nothing but adverts passes between them. `secret_file` signs those where it is
//! given, and is required as soon as there is a peer, like everywhere.

use std::net::IpAddr;

use super::check::{self, VrrpPlaces};
use super::read::{interface_of, read_router, read_vip, vip_places, vrrp_places};
use super::section::Section;
use super::{Group, Proxy, ProxyVip, Settings, Vip};
use crate::diagnostic::{Diagnostic, Report, Span};

/// Where to report findings of one proxy's addresses.
pub(super) struct Places {
    /// Header, addresses, lifetime.
    vip: (Span, Span, Span),
    vrrp: VrrpPlaces,
    unicast: Span,
}

/// Reads both sections. The outer `None`: something is wrong with them; the inner one: there is no VIP.
pub(super) fn read_proxy_vip(
    proxy: &Section<'_, '_>,
    report: &mut Report,
) -> Option<Option<(ProxyVip, Places)>> {
    let vip = proxy.child(report, "vip");
    let vrrp = proxy.child(report, "vrrp");
    let (vip, vrrp) = match (vip, vrrp) {
        (Some(vip), Some(vrrp)) => (vip, vrrp),
        (None, None) => return (!proxy.has("vip") && !proxy.has("vrrp")).then_some(None),
        (Some(vip), None) => {
            if !proxy.has("vrrp") {
                report.push(
                    Diagnostic::error("no-elector", "[proxy.vip] without [proxy.vrrp]")
                        .at(vip.header, "nothing says which host has this address")
                        .help("add [proxy.vrrp] with router_id and priority"),
                );
            }
            return None;
        }
        (None, Some(vrrp)) => {
            if !proxy.has("vip") {
                report.push(
                    Diagnostic::error("no-vip", "[proxy.vrrp] without [proxy.vip]")
                        .at(vrrp.header, "there is no address to have")
                        .help("add [proxy.vip] with address and interface"),
                );
            }
            return None;
        }
    };
    let front = read_vip(&vip, report);
    let router = read_router(&vrrp, report, interface_of(&vip));
    let preempt = vrrp.get::<bool>(report, "preempt");
    let places = Places {
        vip: vip_places(&vip),
        vrrp: vrrp_places(&vrrp),
        unicast: vrrp.place("unicast"),
    };
    let read = ProxyVip {
        front: front?,
        vrrp: router?,
        preempt: preempt?,
    };
    Some(Some((read, places)))
}

/// Checks that need more than one key. The places stand in the order of the proxies.
pub(super) fn check(settings: &Settings, places: &[Option<&Places>], report: &mut Report) {
    for (index, (proxy, at)) in settings.proxies.iter().zip(places).enumerate() {
        let (Some(vip), Some(at)) = (&proxy.vip, at) else {
            continue;
        };
        check::addresses(settings, None, &vip.front, at.vip, report);
        check::adverts(&vip.vrrp, Some(&vip.front), &at.vrrp, Some(at.vip), report);
        listens(proxy, &vip.front, at, report);
        if vip.vrrp.unicast && settings.peers.is_empty() {
            report.push(
                Diagnostic::error("no-peer", "`unicast` without a [[peer]]")
                    .at(at.unicast, "nobody to send adverts to")
                    .help("add [[peer]] with id and address of the other host of this proxy, and the secret_file of both"),
            );
        }
        distinct(settings, index, vip, at, report);
    }
}

/// Clients of the VIP have to meet the proxy there.
fn listens(proxy: &Proxy, vip: &Vip, at: &Places, report: &mut Report) {
    let listen = proxy.listen.ip();
    let heard = |address: IpAddr| {
        address == listen || (listen.is_unspecified() && (listen.is_ipv6() || address.is_ipv4()))
    };
    for address in vip.addresses.iter().filter(|it| !heard(it.addr)) {
        let port = proxy.listen.port();
        let any = if address.addr.is_ipv6() {
            "[::]"
        } else {
            "0.0.0.0"
        };
        report.push(
            Diagnostic::error(
                "unheard-vip",
                format!("the proxy does not listen at its VIP {}", address.addr),
            )
            .at(at.vip.1, format!("`listen` is {}", proxy.listen))
            .help(format!("write listen = \"{any}:{port}\"")),
        );
    }
}

/// Neither a router nor an address twice.
fn distinct(settings: &Settings, index: usize, vip: &ProxyVip, at: &Places, report: &mut Report) {
    let earlier = || {
        settings.proxies[..index]
            .iter()
            .filter_map(|it| it.vip.as_ref())
    };
    let routers = settings.groups.iter().filter_map(Group::vrrp);
    let same_wire = routers
        .chain(earlier().map(|it| &it.vrrp))
        .any(|it| (it.router_id, &it.interface) == (vip.vrrp.router_id, &vip.vrrp.interface));
    if same_wire {
        report.push(
            Diagnostic::error(
                "same-router-id",
                "a group or another proxy uses the same router_id on the same interface",
            )
            .at(at.vrrp.router_id, "here")
            .help("give each a number of its own, the same on all its hosts"),
        );
    }
    let led = settings.groups.iter().filter_map(|it| it.vip.as_ref());
    let followed = settings.follows.iter().filter_map(|it| it.vip.as_ref());
    let taken: Vec<IpAddr> = led
        .chain(followed)
        .chain(earlier().map(|it| &it.front))
        .flat_map(|it| it.addresses.iter().map(|address| address.addr))
        .collect();
    for address in vip
        .front
        .addresses
        .iter()
        .filter(|it| taken.contains(&it.addr))
    {
        let text = format!(
            "a group or another proxy claims the VIP {} too",
            address.addr
        );
        report.push(Diagnostic::error("same-vip", text).at(at.vip.1, "here"));
    }
}
