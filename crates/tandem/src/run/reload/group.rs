//! A `[[group]]` that has changed in the file: what of it is taken over, what waits for a restart, and what moves.

use std::net::IpAddr;

use tandem_config::settings::{Elector, Group, Preempt, Vip, Vrrp};

/// The running group with what can be taken over from the file. Every field is named, so that a new one is decided upon.
pub(super) fn taken_over(old: &Group, new: &Group) -> Group {
    let Group {
        name,
        server,
        manage,
        username,
        password_file,
        down_after,
        vip,
        elector,
        ..
    } = old.clone();
    let Group {
        preempt,
        resync,
        resync_window,
        max_lag_bytes,
        boot_wait,
        flap_block,
        archive,
        drain_deadline,
        switchover_deadline,
        hooks,
        ..
    } = new.clone();
    Group {
        name,
        server,
        manage,
        username,
        password_file,
        down_after,
        preempt,
        resync,
        resync_window,
        max_lag_bytes,
        boot_wait,
        flap_block,
        archive,
        drain_deadline,
        switchover_deadline,
        hooks,
        vip: match (vip, &new.vip) {
            (Some(old), Some(new)) if same_place(&old, new) => Some(new.clone()),
            (vip, _) => vip,
        },
        elector: match (elector, new.vrrp()) {
            (Elector::Vrrp(vrrp), Some(new)) => Elector::Vrrp(Vrrp {
                priority: new.priority,
                ..vrrp
            }),
            (elector, _) => elector,
        },
    }
}

/// The VIPs stay on their interface, and the adverts in their family.
fn same_place(old: &Vip, new: &Vip) -> bool {
    old.interface == new.interface && adverts_in_ipv6(old) == adverts_in_ipv6(new)
}

/// Adverts go by IPv6 when every VIP is of it.
pub(crate) fn adverts_in_ipv6(vip: &Vip) -> bool {
    vip.addresses.iter().all(|address| address.addr.is_ipv6())
}

/// The keys that differ and cannot change under a running group.
pub(super) fn fixed(old: &Group, new: &Group) -> Vec<&'static str> {
    let (Some(a), Some(b)) = (old.vrrp(), new.vrrp()) else {
        return fixed_here(old, new);
    };
    let vip = match (&old.vip, &new.vip) {
        (Some(old), Some(new)) => !same_place(old, new),
        (None, None) => false,
        (Some(_), None) | (None, Some(_)) => true,
    };
    let keys = [
        ("vip (interface, family, or whether there is one)", vip),
        ("vrrp.router_id", a.router_id != b.router_id),
        ("vrrp.interface", a.interface != b.interface),
        (
            "vrrp.advert_interval",
            a.advert_interval != b.advert_interval,
        ),
        ("vrrp.version", a.version != b.version),
        ("vrrp.unicast", a.unicast != b.unicast),
        (
            "vrrp.track_interface",
            a.track_interface != b.track_interface,
        ),
        ("vrrp.track_script", a.track_script != b.track_script),
    ];
    let mut fixed = fixed_here(old, new);
    fixed.extend(
        keys.iter()
            .filter(|(_, differs)| *differs)
            .map(|(key, _)| *key),
    );
    fixed
}

/// Those of every group, whoever elects.
fn fixed_here(old: &Group, new: &Group) -> Vec<&'static str> {
    let keys = [
        ("the elector", old.vrrp().is_some() != new.vrrp().is_some()),
        ("servers", !old.servers().eq(new.servers())),
        ("manage", old.manage != new.manage),
        ("username", old.username != new.username),
        ("password_file", old.password_file != new.password_file),
        ("down_after", old.down_after != new.down_after),
    ];
    keys.into_iter()
        .filter_map(|(key, differs)| differs.then_some(key))
        .collect()
}

/// What moves when `new` is taken over, in words.
pub(crate) fn moves(old: &Group, new: &Group) -> Vec<String> {
    let mut out = Vec::new();
    let priority = |group: &Group| group.vrrp().map(|vrrp| vrrp.priority);
    if let (Some(before), Some(after)) = (priority(old), priority(new))
        && before != after
    {
        out.push(format!("priority {before} becomes {after}"));
    }
    if (old.preempt, new.preempt) == (Preempt::Never, Preempt::AfterSync) {
        out.push("preempt after-sync may hand the role over".to_owned());
    }
    let (before, after) = (addresses(old), addresses(new));
    let comes = after.iter().filter(|vip| !before.contains(vip));
    out.extend(comes.map(|vip| format!("VIP {vip} comes")));
    let goes = before.iter().filter(|vip| !after.contains(vip));
    out.extend(goes.map(|vip| format!("VIP {vip} goes, and its clients with it")));
    out
}

/// The VIPs of a group.
pub(crate) fn addresses(group: &Group) -> Vec<IpAddr> {
    let vips = group.vip.iter().flat_map(|vip| &vip.addresses);
    vips.map(|prefix| prefix.addr).collect()
}
