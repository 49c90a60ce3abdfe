//! This host's links and addresses, kept up to date from the kernel's events, and what they mean for a router.

use std::collections::BTreeMap;
use std::io;
use std::net::IpAddr;
use std::num::NonZeroU32;
use std::time::{Duration, Instant};

use tandem_vrrp::Family;

use super::plan::RouterPlan;
use crate::linux::addr::{Addresses, Change, Entry, Link, link_local_ipv6, primary_ipv4};

/// The kernel's view, as of the last event.
#[derive(Debug, Default)]
pub(super) struct Host {
    links: BTreeMap<NonZeroU32, Link>,
    entries: Vec<Entry>,
}

impl Host {
    /// A full listing.
    pub(super) fn list(netlink: &mut Addresses) -> io::Result<Self> {
        Ok(Self {
            links: netlink
                .links()?
                .into_iter()
                .map(|link| (link.index, link))
                .collect(),
            entries: netlink.addresses()?,
        })
    }

    /// Takes one event in. [`Change::Overrun`] needs a new listing instead.
    pub(super) fn apply(&mut self, change: &Change) {
        match change {
            Change::Link(link) => {
                self.links.insert(link.index, link.clone());
            }
            Change::LinkGone(index) => {
                self.links.remove(index);
                self.entries
                    .retain(|entry| entry.vip.interface_index != *index);
            }
            Change::Address(entry) => {
                self.entries.retain(|known| known.vip != entry.vip);
                self.entries.push(*entry);
            }
            Change::AddressGone(entry) => self.entries.retain(|known| known.vip != entry.vip),
            Change::Overrun => {}
        }
    }

    /// The link of that name.
    pub(super) fn link(&self, name: &str) -> Option<&Link> {
        self.links.values().find(|link| link.name == name)
    }

    /// The link with that index.
    pub(super) fn link_at(&self, index: NonZeroU32) -> Option<&Link> {
        self.links.get(&index)
    }

    /// Up and running.
    pub(super) fn usable(&self, name: &str) -> bool {
        self.link(name).is_some_and(Link::usable)
    }

    /// All addresses.
    pub(super) fn entries(&self) -> &[Entry] {
        &self.entries
    }

    /// Where the router's adverts leave from: what the file says, else the interface's first address (IPv4) or its
    /// link-local one (IPv6).
    pub(super) fn own_address(&self, router: &RouterPlan) -> Option<IpAddr> {
        let index = self.link(&router.key.interface)?.index;
        if let Some(source) = router.source {
            let present = self.entries.iter().any(|entry| {
                entry.vip.interface_index == index
                    && entry.vip.address == source
                    && !entry.tentative
            });
            // IPv6 refuses to send from an address that is not there, whatever the file says.
            let needed = router.track_source || source.is_ipv6();
            return (present || !needed).then_some(source);
        }
        match router.key.family {
            Family::Ipv4 => primary_ipv4(&self.entries, index).map(IpAddr::V4),
            Family::Ipv6 => link_local_ipv6(&self.entries, index).map(IpAddr::V6),
        }
    }
}

/// A condition that counts only after it has lasted: `interface_up_down_delays`, `fork_delay`, `terminate_delay`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Debounce {
    shown: bool,
    since: Option<Instant>,
}

impl Debounce {
    /// Begins with a condition that counts at once.
    pub(super) fn new(good: bool) -> Self {
        Self {
            shown: good,
            since: None,
        }
    }

    /// The condition is this now; what counts after that.
    pub(super) fn observe(
        &mut self,
        good: bool,
        until_good: Duration,
        until_bad: Duration,
        now: Instant,
    ) -> bool {
        if good == self.shown {
            self.since = None;
            return self.shown;
        }
        let since = *self.since.get_or_insert(now);
        let needed = if good { until_good } else { until_bad };
        if now.saturating_duration_since(since) >= needed {
            *self = Self::new(good);
        }
        self.shown
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_condition_counts_once_it_has_lasted() {
        let start = Instant::now();
        let ms = Duration::from_millis;
        let mut link = Debounce::new(true);
        let mut at = |good, after| link.observe(good, ms(50), ms(100), start + ms(after));
        assert!(at(false, 0), "down, not for long");
        assert!(at(true, 50), "up again: forgotten");
        assert!(at(false, 60));
        assert!(at(false, 159));
        assert!(!at(false, 160), "down for 100 ms");
        assert!(!at(true, 170));
        assert!(at(true, 220), "up for 50 ms");
    }

    #[test]
    fn without_a_delay_it_counts_at_once() {
        let start = Instant::now();
        let mut link = Debounce::new(true);
        assert!(!link.observe(false, Duration::ZERO, Duration::ZERO, start));
        assert!(link.observe(true, Duration::ZERO, Duration::ZERO, start));
    }
}
