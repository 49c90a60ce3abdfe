//! The VRRP machine's sockets: datagrams in and out, and the settings that the file gives it, for a group or for a proxy.

use std::net::{IpAddr, Ipv6Addr};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result, bail};
use tandem_config::settings::{Group, Peer, ProxyVip, Vip, Vrrp, VrrpVersion};
use tandem_core::pair::PairInput;
use tandem_core::session::Secret;
use tandem_vrrp::machine::FaultSource;
use tandem_vrrp::packet::{
    AntiReplay, Datagram, DecodeError, HmacKey, HmacKeys, HmacMode, HmacSettings, Received,
    Receiver, Sender,
};
use tandem_vrrp::settings::{Preempt, Settings, Transport, UnicastPeer};
use tandem_vrrp::{Family, Priority, Version, Vrid};
use tokio::sync::mpsc;

use super::group::Event;
use super::reload::adverts_in_ipv6;
use crate::linux::addr::{Addresses, link_local_ipv6, primary_ipv4};
use crate::linux::raw;

/// The sockets of one virtual router.
pub(crate) struct VrrpIo {
    settings: Settings,
    own: IpAddr,
    wire: raw::Sender,
    sender: Sender,
    receiver: Receiver,
}

/// A packet as it came in, copied out of the socket's buffer.
#[derive(Debug)]
pub(crate) struct Packet {
    bytes: Vec<u8>,
    source: IpAddr,
    destination: IpAddr,
    ttl: u8,
}

/// What was made of a packet.
#[derive(Debug)]
pub(crate) enum Judged {
    /// An advert that counts.
    Advert(Received),
    /// One that does not.
    Rejected {
        /// Who sent it.
        source: IpAddr,
        /// Why.
        error: DecodeError,
    },
}

impl From<Judged> for PairInput {
    fn from(judged: Judged) -> Self {
        match judged {
            Judged::Advert(advert) => Self::Advert(advert),
            Judged::Rejected { source, error } => Self::Rejected { source, error },
        }
    }
}

/// Whose adverts they are, and what differs by that.
pub(crate) struct Router<'a> {
    vip: Option<&'a Vip>,
    vrrp: &'a Vrrp,
    preempt: Preempt,
    /// What the key of the adverts' trailer is derived for.
    purpose: String,
    release_hold: Option<Duration>,
}

/// A proxy that leaves keeps its address for its successor's advert this long: it refuses clients meanwhile.
const PROXY_HOLD: Duration = Duration::from_millis(500);

impl<'a> Router<'a> {
    /// A group's. Preemption is off: who takes a role back is the keeper's decision, by data and then by priority.
    pub(crate) fn of_group(group: &'a Group, vrrp: &'a Vrrp) -> Self {
        Self {
            vip: group.vip.as_ref(),
            vrrp,
            preempt: Preempt::Never,
            purpose: format!("vrrp {} {}", group.name, vrrp.router_id),
            release_hold: None,
        }
    }

    /// A proxy's. Its name may differ from host to host and is no part of the key.
    pub(crate) fn of_proxy(vip: &'a ProxyVip) -> Self {
        Self {
            vip: Some(&vip.front),
            vrrp: &vip.vrrp,
            preempt: if vip.preempt {
                Preempt::Always
            } else {
                Preempt::Never
            },
            purpose: format!("vrrp proxy {}", vip.vrrp.router_id),
            release_hold: Some(PROXY_HOLD),
        }
    }

    /// The machine's settings. With a secret the adverts carry the HMAC trailer and only those that do count (rule 4).
    pub(crate) fn machine_settings(
        &self,
        peers: &[Peer],
        secret: Option<&Secret>,
    ) -> Result<Settings> {
        let v6_only = self.vip.is_some_and(adverts_in_ipv6);
        let family = if v6_only { Family::Ipv6 } else { Family::Ipv4 };
        let vrid = Vrid::new(self.vrrp.router_id).context("router_id 0")?;
        let mut settings = Settings::new(vrid, family, listed(self.vip, family));
        settings.version = match self.vrrp.version {
            VrrpVersion::V2 => Version::V2,
            VrrpVersion::V3 => Version::V3,
        };
        settings.priority = Priority::new(self.vrrp.priority).context("priority 0")?;
        settings.advert_interval = self.vrrp.advert_interval;
        settings.preempt = self.preempt;
        settings.higher_prio_send_advert = true;
        // A switch or router may have missed the first round, or filled its table anew after a split.
        settings.announcements.refresh = Duration::from_secs(30);
        if let Some(hold) = self.release_hold {
            settings.release_hold = hold;
        }
        if self.vrrp.unicast {
            settings.transport = Transport::Unicast {
                peers: peers
                    .iter()
                    .map(|peer| UnicastPeer::on_link(peer.address))
                    .collect(),
                check_source: true,
                ttl: 255,
            };
        }
        if let Some(secret) = secret {
            let key = HmacKey::new(&secret.derive(&self.purpose)).context("advert key")?;
            settings.hmac = Some(HmacSettings {
                keys: HmacKeys::new([(1, key)], 1).context("advert key")?,
                mode: HmacMode::Enforce,
                anti_replay: AntiReplay::Counter,
            });
        }
        settings.check().context("vrrp")?;
        Ok(settings)
    }
}

/// The addresses that adverts list. The other family's follow the same router; one advert lists one family.
fn listed(vip: Option<&Vip>, family: Family) -> Vec<IpAddr> {
    let vips = vip.into_iter().flat_map(|vip| &vip.addresses);
    vips.map(|prefix| prefix.addr)
        .filter(|vip| Family::of(vip) == family)
        .collect()
}

/// Interfaces, each as a fault and whether it is none now; nothing if the kernel does not say.
pub(crate) fn interface_faults(mut names: Vec<String>) -> Vec<(FaultSource, bool)> {
    let links = match Addresses::open().and_then(|mut addresses| addresses.links()) {
        Ok(links) => links,
        Err(error) => {
            tracing::warn!("listing interfaces: {error}");
            return Vec::new();
        }
    };
    names.sort();
    names.dedup();
    let usable = |name: &str| links.iter().any(|link| link.name == name && link.usable());
    names
        .into_iter()
        .map(|name| {
            let usable = usable(&name);
            (FaultSource::Interface(name), usable)
        })
        .collect()
}

/// The source address of adverts on an interface: the host's own if it is there, else the primary one.
pub(crate) fn own_address(
    addresses: &mut Addresses,
    interface: &str,
    host: IpAddr,
    family: Family,
) -> Result<Option<IpAddr>> {
    let link = addresses
        .link(interface)?
        .with_context(|| format!("interface {interface} does not exist"))?;
    let entries: Vec<_> = addresses
        .addresses()?
        .into_iter()
        .filter(|e| !e.ours)
        .collect();
    if family == Family::Ipv4
        && entries
            .iter()
            .any(|e| e.vip.interface_index == link.index && e.vip.address == host)
    {
        return Ok(Some(host));
    }
    Ok(match family {
        Family::Ipv4 => primary_ipv4(&entries, link.index).map(IpAddr::V4),
        Family::Ipv6 => link_local_ipv6(&entries, link.index).map(IpAddr::V6),
    })
}

impl VrrpIo {
    /// Opens the sockets and starts reading.
    pub(crate) fn open(
        settings: Settings,
        interface: &str,
        own: IpAddr,
        events: mpsc::Sender<Event>,
    ) -> Result<Self> {
        let mut addresses = Addresses::open()?;
        let link = addresses
            .link(interface)?
            .with_context(|| format!("interface {interface} does not exist"))?;
        let mode = match &settings.transport {
            Transport::Multicast { group } => raw::Mode::Multicast(*group),
            Transport::Unicast { .. } => raw::Mode::Unicast,
        };
        let endpoint = raw::Endpoint {
            interface: interface.to_owned(),
            interface_index: link.index,
            source: own,
            mode,
            carrier: raw::Carrier::Vrrp,
        };
        let needs = || format!("VRRP sockets on {interface}: CAP_NET_RAW is needed");
        let receiver = raw::Receiver::open(&endpoint).with_context(needs)?;
        let wire = raw::Sender::open(&endpoint).with_context(needs)?;
        tokio::spawn(read(receiver, events));
        Ok(Self {
            settings,
            own,
            wire,
            sender: Sender::new(),
            receiver: Receiver::new(),
        })
    }

    /// Takes a changed priority and changed addresses over; the settings that the machine is to have then.
    pub(crate) fn reload(&mut self, group: &Group) -> Settings {
        self.settings.addresses = listed(group.vip.as_ref(), self.settings.family);
        let priority = group.vrrp().and_then(|vrrp| Priority::new(vrrp.priority));
        if let Some(priority) = priority {
            self.settings.priority = priority;
        }
        self.settings.clone()
    }

    /// Sends an advert to every destination.
    pub(crate) fn send(&mut self, priority: u8) {
        let adverts = self
            .sender
            .advert(&self.settings, self.own, priority, unix_time());
        for advert in adverts {
            let sent = if self.own.is_ipv4() {
                // The header is the socket's business; the identification in it is the sender's.
                match (advert.bytes.get(4..6), advert.bytes.get(20..)) {
                    (Some(&[high, low]), Some(message)) => {
                        let id = u16::from_be_bytes([high, low]);
                        self.wire.send(message, advert.destination, id)
                    }
                    _ => continue,
                }
            } else {
                self.wire.send(&advert.bytes, advert.destination, 0)
            };
            if let Err(error) = sent {
                tracing::debug!("advert to {}: {error}", advert.destination);
            }
        }
    }

    /// Judges a packet; `None` for what is not about this router or is our own.
    pub(crate) fn judge(&mut self, packet: &Packet) -> Option<Judged> {
        if packet.source == self.own {
            return None;
        }
        let datagram = match (packet.source, packet.destination) {
            (IpAddr::V4(_), _) => Datagram::from_ipv4(&packet.bytes).ok()?,
            (IpAddr::V6(source), IpAddr::V6(destination)) => {
                Datagram::from_ipv6(source, destination, packet.ttl, &packet.bytes)
            }
            (IpAddr::V6(source), IpAddr::V4(_)) => {
                Datagram::from_ipv6(source, Ipv6Addr::UNSPECIFIED, packet.ttl, &packet.bytes)
            }
        };
        match self
            .receiver
            .receive(&self.settings, Some(self.own), &datagram, unix_time())
        {
            Ok(received) => Some(Judged::Advert(received)),
            Err(DecodeError::Vrid(_)) => None,
            Err(error) => Some(Judged::Rejected {
                source: packet.source,
                error,
            }),
        }
    }
}

async fn read(mut receiver: raw::Receiver, events: mpsc::Sender<Event>) {
    loop {
        match receiver.receive().await {
            Ok(datagram) => {
                let mut bytes = datagram.header.to_vec();
                bytes.extend_from_slice(datagram.payload);
                let packet = Packet {
                    bytes,
                    source: datagram.source,
                    destination: datagram.destination,
                    ttl: datagram.ttl,
                };
                if events.send(Event::Packet(packet)).await.is_err() {
                    return;
                }
            }
            Err(error) => {
                // The interface is down; the monitor says when it is back.
                tracing::debug!("receiving adverts: {error}");
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
        if events.is_closed() {
            return;
        }
    }
}

fn unix_time() -> Duration {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default()
}

/// A router needs an address to speak from.
pub(crate) fn require_own(own: Option<IpAddr>, interface: &str) -> Result<IpAddr> {
    match own {
        Some(own) => Ok(own),
        None => bail!("interface {interface} has no address to send adverts from"),
    }
}
