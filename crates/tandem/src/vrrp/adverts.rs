//! Adverts in and out: which packet is for which router, and the bytes of those that leave.

use std::net::IpAddr;

use tandem_vrrp::Version;
use tandem_vrrp::machine::{AdvertToSend, Input};
use tandem_vrrp::packet;
use tandem_vrrp::settings::Auth;
use tracing::{info, warn};

use super::daemon::{Daemon, Router};
use super::status;
use super::wires::{Packet, WireId};
use crate::linux::raw::{Carrier, Endpoint, Mode};

/// Length of the IPv4 header that the packet builder writes and the socket writes again.
const IPV4_HEADER_LEN: usize = 20;
/// Strangers' VRIDs remembered as already reported.
const STRANGERS_MAX: usize = 256;

impl Daemon {
    /// Gives a packet to the router on its wire that it is for.
    pub(super) fn heard(&mut self, packet: &Packet) {
        let datagram = match (packet.source, packet.destination) {
            (IpAddr::V4(_), _) => packet::Datagram::from_ipv4(&packet.bytes),
            (IpAddr::V6(source), IpAddr::V6(destination)) => Ok(packet::Datagram::from_ipv6(
                source,
                destination,
                packet.ttl,
                &packet.bytes,
            )),
            (IpAddr::V6(_), IpAddr::V4(_)) => return,
        };
        let vrid = datagram
            .as_ref()
            .ok()
            .and_then(|datagram| packet::peek_vrid(datagram.message_bytes()));
        let mut known = false;
        for index in 0..self.routers.len() {
            let router = &self.routers[index];
            if router.wire != Some(packet.wire) || vrid != Some(router.plan.key.vrid) {
                continue;
            }
            known = true;
            let own = router.own;
            let Some(machine) = self.units[router.unit].group.member(router.member) else {
                continue;
            };
            let settings = machine.settings().clone();
            let received = match &datagram {
                Ok(datagram) => self.routers[index].receiver.receive(
                    &settings,
                    own,
                    datagram,
                    status::unix_time(),
                ),
                Err(error) => Err(error.clone()),
            };
            match received {
                Ok(advert) => self.feed(index, Input::Advert(advert)),
                Err(packet::DecodeError::Own) => {}
                Err(error) => self.feed(
                    index,
                    Input::Rejected {
                        source: packet.source,
                        error,
                    },
                ),
            }
        }
        if let Some(vrid) = vrid.filter(|_| !known)
            && self.strangers.len() < STRANGERS_MAX
            && self.strangers.insert((packet.source, vrid))
        {
            let interface = self
                .wires
                .endpoint(packet.wire)
                .map_or("", |endpoint| endpoint.interface.as_str());
            info!(
                "{} speaks VRID {vrid} on {interface}, which is not configured here",
                packet.source
            );
        }
    }

    /// The sockets for a router with this source address, if they can be opened.
    pub(super) fn open_wire(&mut self, index: usize, own: IpAddr) -> Option<WireId> {
        let plan = &self.routers[index].plan;
        let link = self.host.link(&plan.key.interface)?;
        let settings = &plan.settings;
        let carrier = match (&settings.auth, settings.version) {
            (Auth::Ah(_), Version::V2) => Carrier::AuthenticationHeader,
            (Auth::None | Auth::Pass(_) | Auth::Ah(_), _) => Carrier::Vrrp,
        };
        let mode = match settings.destinations().first() {
            Some(group) if !settings.is_unicast() => Mode::Multicast(*group),
            Some(_) | None => Mode::Unicast,
        };
        let endpoint = Endpoint {
            interface: link.name.clone(),
            interface_index: link.index,
            source: own,
            mode,
            carrier,
        };
        self.wires
            .ensure(&endpoint)
            .inspect_err(|error| {
                if self.routers[index].wire.is_some() || !self.started {
                    warn!("({}) VRRP sockets: {error}", self.routers[index].plan.name);
                }
            })
            .ok()
    }

    pub(super) fn send_advert(&mut self, index: usize, advert: AdvertToSend) {
        let Router {
            unit, member, wire, ..
        } = self.routers[index];
        let Some(machine) = self.units[unit].group.member(member) else {
            return;
        };
        let (Some(own), Some(socket)) = (
            machine.own_address(),
            wire.and_then(|wire| self.wires.sender(wire)),
        ) else {
            return;
        };
        let router = &mut self.routers[index];
        let heard = router.receiver.highest_ah_sequence();
        router.sender.continue_after(heard);
        let transmissions = router.sender.advert(
            machine.settings(),
            own,
            advert.priority,
            status::unix_time(),
        );
        let mut problem = None;
        for transmission in &transmissions {
            let (identification, message) =
                match transmission.bytes.split_at_checked(IPV4_HEADER_LEN) {
                    // The socket writes the header itself, with the same values.
                    Some((header, message)) if own.is_ipv4() => {
                        (u16::from_be_bytes([header[4], header[5]]), message)
                    }
                    Some(_) | None => (0, transmission.bytes.as_slice()),
                };
            let sent = socket.send_with_ttl(
                message,
                transmission.destination,
                identification,
                transmission.ttl,
            );
            if let Err(error) = sent {
                problem = Some((transmission.destination, error));
            }
        }
        let kind = problem.as_ref().map(|(_, error)| error.kind());
        if let Some((destination, error)) = problem.filter(|_| router.send_error != kind) {
            warn!(
                "({}) an advert to {destination} did not leave: {error}",
                router.plan.name
            );
        }
        router.send_error = kind;
    }
}
