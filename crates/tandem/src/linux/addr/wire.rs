//! The rtnetlink messages of `addr`: `ifaddrmsg`, `ifinfomsg` and the few attributes that matter.

use std::ffi::CStr;
use std::net::IpAddr;
use std::num::NonZeroU32;

use super::super::netlink::{self, Message, u32_at};
use super::{ADDRESS_PROTOCOL, Entry, Lifetime, Link, Options, Vip, whole_seconds};

const ADDRESS_HEADER_LEN: usize = 8;
const LINK_HEADER_LEN: usize = 16;
/// `IFA_PROTO`, since Linux 5.18; older kernels ignore it.
const ATTRIBUTE_PROTOCOL: u16 = 11;
/// `RT_SCOPE_LINK`: from here on scopes do not leave the link.
const SCOPE_LINK: u8 = 253;

/// Asks for all links.
pub(super) fn dump_links() -> Message {
    Message::new(libc::RTM_GETLINK, netlink::DUMP).raw(&[0; LINK_HEADER_LEN])
}

/// Asks for all addresses.
pub(super) fn dump_addresses() -> Message {
    Message::new(libc::RTM_GETADDR, netlink::DUMP).raw(&[0; ADDRESS_HEADER_LEN])
}

/// Adds or renews.
pub(super) fn install(vip: &Vip, lifetime: Lifetime, options: &Options) -> Message {
    let mut flags = libc::IFA_F_NOPREFIXROUTE;
    if vip.address.is_ipv6() && !options.detect_duplicates {
        flags |= libc::IFA_F_NODAD;
    }
    if lifetime == Lifetime::FOREVER {
        flags |= libc::IFA_F_PERMANENT;
    }
    let valid = lifetime.seconds();
    let preferred = options.preferred.map_or(valid, whole_seconds).min(valid);
    // struct ifa_cacheinfo: preferred and valid lifetime, then two time stamps that only the kernel writes.
    let cache_info = [preferred.to_ne_bytes(), valid.to_ne_bytes(), [0; 4], [0; 4]].concat();
    let message = Message::new(
        libc::RTM_NEWADDR,
        netlink::ACK | netlink::CREATE | netlink::REPLACE,
    );
    let mut message = identity(message, vip, options.scope)
        .attribute(libc::IFA_FLAGS, &flags.to_ne_bytes())
        .attribute(libc::IFA_CACHEINFO, &cache_info)
        .attribute(ATTRIBUTE_PROTOCOL, &[ADDRESS_PROTOCOL]);
    // IPv6 knows neither.
    if vip.address.is_ipv4() {
        if let Some(broadcast) = options.broadcast {
            message = message.attribute(libc::IFA_BROADCAST, &broadcast.octets());
        }
        if let Some(label) = &options.label {
            message = message.string(libc::IFA_LABEL, label);
        }
    }
    message
}

/// Removes. The kernel finds the address whatever its scope and label.
pub(super) fn remove(vip: &Vip) -> Message {
    identity(
        Message::new(libc::RTM_DELADDR, netlink::ACK),
        vip,
        libc::RT_SCOPE_UNIVERSE,
    )
}

fn identity(message: Message, vip: &Vip, scope: u8) -> Message {
    let (family, bytes) = match vip.address {
        IpAddr::V4(address) => (libc::AF_INET, address.octets().to_vec()),
        IpAddr::V6(address) => (libc::AF_INET6, address.octets().to_vec()),
    };
    // struct ifaddrmsg: family, prefix length, the lower flag byte (IFA_FLAGS carries all), scope, index.
    let mut header = vec![family as u8, vip.prefix_length, 0, scope];
    header.extend_from_slice(&vip.interface_index.get().to_ne_bytes());
    message
        .raw(&header)
        .attribute(libc::IFA_LOCAL, &bytes)
        .attribute(libc::IFA_ADDRESS, &bytes)
}

/// Reads an `ifaddrmsg` with attributes; `None` for other families and malformed bodies.
pub(super) fn address(body: &[u8]) -> Option<Entry> {
    let header: [u8; 4] = body.first_chunk().copied()?;
    let [family, prefix_length, low_flags, scope] = header;
    if ![libc::AF_INET, libc::AF_INET6].contains(&i32::from(family)) {
        return None;
    }
    let interface_index = NonZeroU32::new(u32_at(body, 4)?)?;
    let (mut local, mut peer, mut valid, mut protocol, mut flags) =
        (None, None, None, 0, u32::from(low_flags));
    for (kind, value) in netlink::attributes(body.get(ADDRESS_HEADER_LEN..)?) {
        match kind {
            libc::IFA_LOCAL => local = ip(value),
            libc::IFA_ADDRESS => peer = ip(value),
            libc::IFA_CACHEINFO => valid = u32_at(value, 4),
            libc::IFA_FLAGS => flags = u32_at(value, 0)?,
            ATTRIBUTE_PROTOCOL => protocol = value.first().copied()?,
            _ => {}
        }
    }
    Some(Entry {
        // IPv6 reports IFA_LOCAL only for point-to-point addresses, where IFA_ADDRESS is the other end.
        vip: Vip {
            interface_index,
            address: local.or(peer)?,
            prefix_length,
        },
        ours: protocol == ADDRESS_PROTOCOL,
        valid_seconds: valid.filter(|seconds| *seconds != u32::MAX),
        secondary: flags & libc::IFA_F_SECONDARY != 0,
        tentative: flags & libc::IFA_F_TENTATIVE != 0,
        duplicate: flags & libc::IFA_F_DADFAILED != 0,
        global: scope < SCOPE_LINK,
    })
}

fn ip(bytes: &[u8]) -> Option<IpAddr> {
    match bytes.len() {
        4 => bytes.first_chunk::<4>().map(|octets| IpAddr::from(*octets)),
        16 => bytes
            .first_chunk::<16>()
            .map(|octets| IpAddr::from(*octets)),
        _ => None,
    }
}

/// Reads an `ifinfomsg` with attributes.
pub(super) fn link(body: &[u8]) -> Option<Link> {
    let index = link_index(body)?;
    let flags = u32_at(body, 8)?;
    let has = |flag: i32| flags & flag.cast_unsigned() != 0;
    let (mut name, mut mac) = (None, None);
    for (kind, value) in netlink::attributes(body.get(LINK_HEADER_LEN..)?) {
        match kind {
            libc::IFLA_IFNAME => {
                name = CStr::from_bytes_until_nul(value)
                    .ok()
                    .and_then(|name| name.to_str().ok());
            }
            libc::IFLA_ADDRESS => mac = value.try_into().ok(),
            _ => {}
        }
    }
    Some(Link {
        index,
        name: name?.to_owned(),
        mac,
        up: has(libc::IFF_UP),
        running: has(libc::IFF_RUNNING),
        resolves: !has(libc::IFF_NOARP),
    })
}

/// The index in an `ifinfomsg`.
pub(super) fn link_index(body: &[u8]) -> Option<NonZeroU32> {
    NonZeroU32::new(u32_at(body, 4)?)
}
