//! Addresses and links: installs, renews and removes VIPs, lists what is there, and watches for changes.
//!
//! A VIP is installed with a finite kernel lifetime and renewed by installing it again (`RTM_NEWADDR` with
//! `NLM_F_REPLACE`): if the daemon dies, the kernel removes the address by itself. It carries no prefix route, skips
//! duplicate address detection (which must never delay a takeover; it is run while standing by), and is tagged with
//! our own `IFA_PROTO` (Linux 5.18), so that a restarted daemon recognises what its predecessor left. When
//! to install or remove is the keeper's decision.
//!
//! Requests are answered inside the call, in tens of microseconds; see the `netlink` module for why this does not block.

mod monitor;
mod wire;

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::num::NonZeroU32;
use std::time::Duration;

pub(crate) use monitor::{Change, Monitor};

use super::netlink::{Requests, Subsystem};

/// The `IFA_PROTO` value that marks an address as installed by tandem. The kernel itself uses 1 to 3, and
/// `rt_addrprotos` files leave the upper half to applications.
pub(crate) const ADDRESS_PROTOCOL: u8 = 0x74;

/// An address to be installed on an interface.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Vip {
    /// Interface index, from [`Link::index`].
    pub(crate) interface_index: NonZeroU32,
    /// The address.
    pub(crate) address: IpAddr,
    /// Prefix length in bits; removal needs the same one.
    pub(crate) prefix_length: u8,
}

/// How long an installed address lives without being renewed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Lifetime(u32);

impl Lifetime {
    /// No end: the address stays until it is removed, as keepalived does it.
    pub(crate) const FOREVER: Self = Self(u32::MAX);

    /// The kernel counts whole seconds, so the lifetime is rounded up, and is at least one second. Measured on Linux 6.18,
    /// an address goes 0.03 to 0.2 s after its time is up.
    pub(crate) fn at_least(lifetime: Duration) -> Self {
        Self(whole_seconds(lifetime).max(1))
    }

    /// Whole seconds, `u32::MAX` for ever.
    pub(crate) fn seconds(self) -> u32 {
        self.0
    }
}

/// Rounded up; what the kernel cannot count is for ever.
fn whole_seconds(time: Duration) -> u32 {
    let seconds = time
        .as_secs()
        .saturating_add(u64::from(time.subsec_nanos() > 0));
    u32::try_from(seconds).unwrap_or(u32::MAX)
}

/// What an address may carry besides itself. The default is what a VIP of our own has.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Options {
    /// IPv4: the name that ifconfig(8) lists the address under, at most 15 bytes. None: the interface's.
    pub(crate) label: Option<String>,
    /// IPv4: the subnet's broadcast address. None: none.
    pub(crate) broadcast: Option<Ipv4Addr>,
    /// `RT_SCOPE_*`; 0 is global. For IPv6 the kernel derives it from the address.
    pub(crate) scope: u8,
    /// How long the kernel may choose it as the source of new connections, cut to the lifetime. None: as long as it lives;
    /// zero: never, which for IPv6 is called deprecated.
    pub(crate) preferred: Option<Duration>,
    /// IPv6: look for a duplicate first. The address cannot be used for that second.
    pub(crate) detect_duplicates: bool,
}

/// A network interface.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Link {
    /// Changes when an interface is deleted and created again under its old name.
    pub(crate) index: NonZeroU32,
    /// Interface name.
    pub(crate) name: String,
    /// Six-byte hardware address, where the interface has one.
    pub(crate) mac: Option<[u8; 6]>,
    /// Administratively up (`IFF_UP`).
    pub(crate) up: bool,
    /// Carrier and operational state allow traffic (`IFF_RUNNING`).
    pub(crate) running: bool,
    /// Neighbours are resolved by ARP (no `IFF_NOARP`); otherwise announcements are pointless.
    pub(crate) resolves: bool,
}

impl Link {
    /// keepalived's condition for an interface to be usable: up and running.
    pub(crate) fn usable(&self) -> bool {
        self.up && self.running
    }
}

/// An address as the kernel has it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Entry {
    /// Where and what.
    pub(crate) vip: Vip,
    /// Tagged with [`ADDRESS_PROTOCOL`].
    pub(crate) ours: bool,
    /// Whole seconds until the kernel removes it; `None` is for ever.
    pub(crate) valid_seconds: Option<u32>,
    /// Not the first IPv4 address of its subnet (or an IPv6 temporary one).
    pub(crate) secondary: bool,
    /// Duplicate address detection still runs: the address cannot be used yet.
    pub(crate) tentative: bool,
    /// Duplicate address detection found another owner.
    pub(crate) duplicate: bool,
    /// Scope wide enough to reach other hosts (`RT_SCOPE_UNIVERSE` or site).
    pub(crate) global: bool,
}

/// Sends address and link requests to the kernel of the opening thread's network namespace.
#[derive(Debug)]
pub(crate) struct Addresses {
    requests: Requests,
}

impl Addresses {
    /// Opens the request socket. Reading needs no privilege, changing needs `CAP_NET_ADMIN`.
    pub(crate) fn open() -> io::Result<Self> {
        Ok(Self {
            requests: Requests::open(Subsystem::Route)?,
        })
    }

    /// All links.
    pub(crate) fn links(&mut self) -> io::Result<Vec<Link>> {
        let mut links = Vec::new();
        self.requests.dump(
            &wire::dump_links(),
            &mut links,
            Vec::clear,
            |links, kind, body| {
                if kind == libc::RTM_NEWLINK {
                    links.extend(wire::link(body));
                }
            },
        )?;
        Ok(links)
    }

    /// The link of that name.
    pub(crate) fn link(&mut self, name: &str) -> io::Result<Option<Link>> {
        Ok(self.links()?.into_iter().find(|link| link.name == name))
    }

    /// All addresses of both families.
    pub(crate) fn addresses(&mut self) -> io::Result<Vec<Entry>> {
        let mut entries = Vec::new();
        self.requests.dump(
            &wire::dump_addresses(),
            &mut entries,
            Vec::clear,
            |entries, kind, body| {
                if kind == libc::RTM_NEWADDR {
                    entries.extend(wire::address(body));
                }
            },
        )?;
        Ok(entries)
    }

    /// The addresses that carry our tag, whoever of our processes installed them.
    pub(crate) fn ours(&mut self) -> io::Result<Vec<Entry>> {
        let mut entries = self.addresses()?;
        entries.retain(|entry| entry.ours);
        Ok(entries)
    }

    /// Adds the address, or renews it if it is there. Renewing interrupts nothing and emits one `NEWADDR` event.
    ///
    /// An untagged address of the same value (left by keepalived, say) takes on the lifetime and our tag.
    ///
    /// # Errors
    /// `EPERM` without `CAP_NET_ADMIN`, `ENODEV` if the interface is gone; trying again is always safe.
    pub(crate) fn install(&mut self, vip: &Vip, lifetime: Lifetime) -> io::Result<()> {
        self.install_with(vip, lifetime, &Options::default())
    }

    /// As [`Addresses::install`], with options. Renewing changes the lifetimes only: for another label, scope or broadcast
    /// address remove it first.
    ///
    /// # Errors
    /// As [`Addresses::install`], and `EINVAL` or `ERANGE` for options that the kernel does not take.
    pub(crate) fn install_with(
        &mut self,
        vip: &Vip,
        lifetime: Lifetime,
        options: &Options,
    ) -> io::Result<()> {
        self.requests
            .acknowledged(wire::install(vip, lifetime, options))
    }

    /// Removes the address. `false`: it was not there, which is success for whoever wants it gone.
    ///
    /// # Errors
    /// `EPERM` without `CAP_NET_ADMIN`; trying again is always safe.
    pub(crate) fn remove(&mut self, vip: &Vip) -> io::Result<bool> {
        match self.requests.acknowledged(wire::remove(vip)) {
            Ok(()) => Ok(true),
            Err(error) => match error.raw_os_error() {
                // ENODEV: the interface went and took its addresses along.
                Some(libc::EADDRNOTAVAIL | libc::ENOENT | libc::ENODEV) => Ok(false),
                Some(_) | None => Err(error),
            },
        }
    }
}

/// The IPv4 address that adverts leave from: the interface's first one that is neither secondary nor ours.
pub(crate) fn primary_ipv4(entries: &[Entry], interface_index: NonZeroU32) -> Option<Ipv4Addr> {
    on_interface(entries, interface_index)
        .filter(|entry| !entry.secondary)
        .find_map(|entry| match entry.vip.address {
            IpAddr::V4(address) => Some(address),
            IpAddr::V6(_) => None,
        })
}

/// The link-local IPv6 address that adverts leave from. One still in duplicate address detection does not count:
/// the kernel would refuse to send from it.
pub(crate) fn link_local_ipv6(entries: &[Entry], interface_index: NonZeroU32) -> Option<Ipv6Addr> {
    on_interface(entries, interface_index)
        .filter(|entry| !entry.tentative && !entry.duplicate)
        .find_map(|entry| match entry.vip.address {
            IpAddr::V6(address) if address.is_unicast_link_local() => Some(address),
            IpAddr::V6(_) | IpAddr::V4(_) => None,
        })
}

fn on_interface(entries: &[Entry], interface_index: NonZeroU32) -> impl Iterator<Item = &Entry> {
    entries
        .iter()
        .filter(move |entry| entry.vip.interface_index == interface_index && !entry.ours)
}

#[cfg(test)]
mod tests;
