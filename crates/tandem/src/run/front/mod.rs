//! The front of a group on this host, or of a proxy: its addresses, their announcements, and the gate before the server.
//!
//! The addresses have a finite lifetime in the kernel and are renewed every third of it, so a daemon that was
//! killed leaves none behind for longer. They go on as /32 and /128: a VIP is no network, and no source
//! address for the host's own connections. Whatever removes one while it belongs here, it is put back.

mod change;

use std::collections::BTreeMap;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::num::NonZeroU32;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use tandem_config::settings::Vip as VipSettings;
use tandem_vrrp::garp::{Announcements, Round};

use crate::linux::addr::{Addresses, Change, Entry, Lifetime, Vip};
use crate::linux::announce::Announcer;
use crate::linux::gate::{Closure, Exemption, Gate};
use crate::linux::sockdiag::{Local, SocketDiag};

/// The addresses of a daemon that leaves while its server goes on serving live this long: time enough to
/// start it again.
const LEFT_SERVING: Duration = Duration::from_secs(60);

/// Addresses, announcements and gate of one group.
pub(crate) struct Front {
    addresses: Addresses,
    diag: SocketDiag,
    gate: Option<Gate>,
    server: SocketAddr,
    friends: Vec<IpAddr>,
    interface: Option<Interface>,
    vips: Vec<IpAddr>,
    lifetime: Duration,
    up: bool,
    renew_at: Option<Instant>,
    waiting: Vec<Round>,
    planned: BTreeMap<(Instant, u32), IpAddr>,
    planned_count: u32,
    gap: (Duration, Duration),
    closed: Vec<Closure>,
}

/// What a front is before.
pub(crate) struct Place<'a> {
    /// The group's name.
    pub(crate) group: &'a str,
    /// Its server on this host.
    pub(crate) server: SocketAddr,
    /// Its addresses.
    pub(crate) vip: Option<&'a VipSettings>,
    /// With a kernel gate. A proxy needs none: it refuses clients itself, and no data is behind it.
    pub(crate) gated: bool,
}

#[derive(Debug)]
struct Interface {
    name: String,
    index: NonZeroU32,
    mac: Option<[u8; 6]>,
    announcer: Option<Announcer>,
}

impl Front {
    /// Opens what is needed and removes what an earlier daemon of this group left of the gate. Addresses of
    /// ours that are on stay on: whether they belong here is decided first (rule 15).
    pub(crate) fn open(
        place: &Place<'_>,
        friends: Vec<IpAddr>,
        announcements: &Announcements,
    ) -> Result<Self> {
        let mut addresses = Addresses::open().context("netlink")?;
        let mut interface = None;
        if let Some(vip) = place.vip {
            let link = addresses
                .link(&vip.interface)
                .context("netlink: listing interfaces")?
                .with_context(|| format!("interface {} does not exist", vip.interface))?;
            let announcer = if link.resolves {
                Some(Announcer::open(link.index).with_context(|| {
                    format!("announcements on {}: CAP_NET_RAW is needed", vip.interface)
                })?)
            } else {
                None
            };
            interface = Some(Interface {
                name: link.name.clone(),
                index: link.index,
                mac: link.mac,
                announcer,
            });
        }
        let gate = place.gated.then(|| install_gate(place, &friends)).flatten();
        Ok(Self {
            addresses,
            diag: SocketDiag::open().context("socket diagnosis")?,
            gate,
            server: place.server,
            friends,
            interface,
            vips: place
                .vip
                .iter()
                .flat_map(|v| v.addresses.iter().map(|p| p.addr))
                .collect(),
            lifetime: place.vip.map_or(Duration::from_secs(3), |v| v.lifetime),
            up: false,
            renew_at: None,
            waiting: Vec::new(),
            planned: BTreeMap::new(),
            planned_count: 0,
            gap: (announcements.arp_interval, announcements.na_interval),
            closed: Vec::new(),
        })
    }

    /// The kernel has an address of ours from an earlier daemon.
    pub(crate) fn has_leftovers(&mut self) -> bool {
        let ours = self.addresses.ours().unwrap_or_default();
        ours.iter()
            .any(|entry| self.vips.contains(&entry.vip.address))
    }

    /// Puts the addresses on and sends the announcements that wait for them.
    pub(crate) fn add(&mut self, now: Instant) -> io::Result<()> {
        self.install(self.lifetime)?;
        self.up = true;
        self.renew_at = Some(now + self.lifetime / 3);
        for round in std::mem::take(&mut self.waiting) {
            self.announce(round, now);
        }
        Ok(())
    }

    fn install(&mut self, lifetime: Duration) -> io::Result<()> {
        for vip in self.kernel_vips() {
            self.addresses.install(&vip, Lifetime::at_least(lifetime))?;
        }
        Ok(())
    }

    fn kernel_vips(&self) -> Vec<Vip> {
        let Some(interface) = &self.interface else {
            return Vec::new();
        };
        let host_prefix = |address: &IpAddr| if address.is_ipv4() { 32 } else { 128 };
        self.vips
            .iter()
            .map(|address| Vip {
                interface_index: interface.index,
                address: *address,
                prefix_length: host_prefix(address),
            })
            .collect()
    }

    /// Takes the addresses off.
    pub(crate) fn drop_addresses(&mut self) -> io::Result<()> {
        self.up = false;
        self.renew_at = None;
        self.waiting.clear();
        self.planned.clear();
        let mut first_error = None;
        for vip in self.kernel_vips() {
            if let Err(error) = self.addresses.remove(&vip) {
                first_error.get_or_insert(error);
            }
        }
        first_error.map_or(Ok(()), Err)
    }

    /// Announces now if the addresses are on, else as soon as they are.
    pub(crate) fn announce(&mut self, round: Round, now: Instant) {
        if !self.up {
            if self.waiting.len() < 4 {
                self.waiting.push(round);
            }
            return;
        }
        let gap = self.gap.0.max(self.gap.1);
        for (index, offset) in round.frames(self.vips.len(), gap) {
            if let Some(address) = self.vips.get(index).copied() {
                self.planned_count = self.planned_count.wrapping_add(1);
                self.planned
                    .insert((now + offset, self.planned_count), address);
            }
        }
        self.send_planned(now);
    }

    fn send_planned(&mut self, now: Instant) {
        while let Some(entry) = self.planned.first_entry() {
            if entry.key().0 > now {
                return;
            }
            let address = entry.remove();
            let Some(Interface {
                mac: Some(mac),
                announcer: Some(announcer),
                name,
                ..
            }) = &self.interface
            else {
                continue;
            };
            let sent = match address {
                IpAddr::V4(address) => {
                    use tandem_vrrp::arp::{Form, gratuitous};
                    announcer
                        .send(&gratuitous(*mac, address, Form::Request))
                        .and_then(|()| announcer.send(&gratuitous(*mac, address, Form::Reply)))
                }
                IpAddr::V6(address) => {
                    announcer.send(&tandem_vrrp::ndisc::unsolicited(*mac, address, false))
                }
            };
            if let Err(error) = sent {
                tracing::warn!("announcing {address} on {name}: {error}");
            }
        }
    }

    /// When [`Self::tick`] has something to do.
    pub(crate) fn next_deadline(&self) -> Option<Instant> {
        let announce = self.planned.first_key_value().map(|((at, _), _)| *at);
        match (announce, self.renew_at) {
            (Some(a), Some(b)) => Some(a.min(b)),
            (a, b) => a.or(b),
        }
    }

    /// Renews the addresses' lifetime and sends announcements that are due.
    pub(crate) fn tick(&mut self, now: Instant) {
        self.send_planned(now);
        if self.renew_at.is_some_and(|at| now >= at) {
            self.renew_at = Some(now + self.lifetime / 3);
            if let Err(error) = self.install(self.lifetime) {
                tracing::error!("renewing the addresses: {error}");
                self.renew_at = Some(now + Duration::from_millis(100));
            }
        }
    }

    /// The kernel's news. True when an address had to be put back: it wants announcing again.
    pub(crate) fn net_change(&mut self, change: &Change, now: Instant) -> bool {
        match change {
            Change::AddressGone(entry) => self.put_back(entry),
            Change::Overrun => self.up && self.install(self.lifetime).is_ok(),
            Change::Link(link) => {
                if let Some(interface) = &mut self.interface
                    && interface.name == link.name
                    && interface.index != link.index
                {
                    // Deleted and made again under its old name.
                    interface.index = link.index;
                    interface.mac = link.mac;
                    interface.announcer = Announcer::open(link.index).ok();
                    return self.up && self.add(now).is_ok();
                }
                false
            }
            Change::LinkGone(_) | Change::Address(_) => false,
        }
    }

    fn put_back(&mut self, gone: &Entry) -> bool {
        if !self.up || !self.kernel_vips().contains(&gone.vip) {
            return false;
        }
        match self
            .addresses
            .install(&gone.vip, Lifetime::at_least(self.lifetime))
        {
            Ok(()) => {
                tracing::warn!(
                    "{} was removed by somebody else and put back",
                    gone.vip.address
                );
                true
            }
            Err(error) => {
                tracing::error!(
                    "{} was removed and cannot be put back: {error}",
                    gone.vip.address
                );
                false
            }
        }
    }

    /// Refuses and resets clients (rule 10); with `direct` at the server's own port too, for everybody but
    /// the group's hosts (rule 12); with `listener` the dead server's listening socket goes as well.
    pub(crate) fn close(&mut self, direct: bool, listener: bool) -> Result<()> {
        let port = self.server.port();
        if listener {
            // First: listing connections takes a millisecond, and until then connects would hang.
            let any = Local {
                address: None,
                port,
            };
            if self.owns_port_alone() {
                let gone = self.diag.destroy_listeners(any)?;
                if let Some(error) = gone.refused {
                    tracing::debug!("destroying the dead server's listener: {error}");
                }
            }
            self.diag.destroy_clients(any, &self.friends)?;
            return Ok(());
        }
        let mut closures: Vec<Closure> = self
            .vips
            .iter()
            .map(|vip| Closure::Front(SocketAddr::new(*vip, port)))
            .collect();
        if direct || self.vips.is_empty() {
            closures.push(Closure::Server(self.server));
        }
        match &mut self.gate {
            Some(gate) => {
                for closure in closures {
                    gate.close(closure)?;
                    self.closed.push(closure);
                }
            }
            None if direct => bail!("there is no kernel gate on this host"),
            None => {}
        }
        for vip in &self.vips {
            let local = Local {
                address: Some(*vip),
                port,
            };
            self.diag.destroy_clients(local, &[])?;
        }
        if direct || self.vips.is_empty() {
            let local = Local {
                address: None,
                port,
            };
            self.diag.destroy_clients(local, &self.friends)?;
        }
        Ok(())
    }

    /// Whether every listener at the port is one that a dead server left: destroying a living stranger's
    /// would be our fault.
    fn owns_port_alone(&mut self) -> bool {
        use crate::linux::sockdiag::States;
        let local = Local {
            address: None,
            port: self.server.port(),
        };
        self.diag
            .list(local, States::LISTENING)
            .is_ok_and(|sockets| {
                sockets.iter().all(|s| {
                    s.local.ip().is_unspecified()
                        || s.local.ip().is_loopback()
                        || s.local.ip() == self.server.ip()
                        || self.vips.contains(&s.local.ip())
                })
            })
    }

    /// Opens again what was closed.
    pub(crate) fn reopen(&mut self) -> Result<()> {
        let closed = std::mem::take(&mut self.closed);
        if let Some(gate) = &mut self.gate {
            for closure in closed {
                gate.open(closure)?;
            }
        }
        Ok(())
    }

    /// Leaves: the addresses go, or stay for a while when the server goes on serving without us.
    pub(crate) fn leave(mut self, serving: bool) {
        if serving && self.up {
            if let Err(error) = self.install(LEFT_SERVING) {
                tracing::error!("the addresses could not be left: {error}");
            }
        } else if let Err(error) = self.drop_addresses() {
            tracing::error!("removing the addresses: {error}");
        }
        if let Some(gate) = self.gate
            && let Err(error) = gate.remove()
        {
            tracing::warn!("removing the gate: {error}");
        }
    }
}

/// The gate, or none and a warning where the kernel gives none.
fn install_gate(place: &Place<'_>, friends: &[IpAddr]) -> Option<Gate> {
    let exempt: Vec<Exemption> = friends
        .iter()
        .filter(|source| source.is_ipv4() == place.server.is_ipv4())
        .map(|source| Exemption {
            source: *source,
            server: place.server,
        })
        .collect();
    match Gate::install(place.group, &[], &exempt) {
        Ok(gate) => Some(gate),
        Err(error) => {
            tracing::warn!(
                "no kernel gate ({error}): a frozen server's front cannot be closed, it would be \
                 killed instead; nftables and CAP_NET_ADMIN are needed"
            );
            None
        }
    }
}
