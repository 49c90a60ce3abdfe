//! Raw sockets for VRRP adverts, one pair of them per {interface, family, multicast or unicast}, as keepalived has them.
//!
//! The receiving socket is bound to the group (or to our source, for unicast), so that it hears its own mode only; the
//! sending one writes its own IPv4 header, joins no group and carries a filter that drops all input, so that
//! nothing ever queues on it. Both are bound to the interface. Own multicasts are not looped back. What the messages
//! mean, TTL 255 included, is judged by `tandem-vrrp`.
//!
//! A membership dies with its interface. After [`Change::LinkGone`](super::addr::Change::LinkGone) and the link's return,
//! drop both sockets and open them with the new index.

mod control;
mod receive;
mod send;

use std::io;
use std::net::IpAddr;
use std::num::NonZeroU32;

use socket2::{Domain, Protocol, Socket, Type};

pub(crate) use receive::Receiver;
pub(crate) use send::Sender;

/// CS6, network control, as keepalived marks its adverts.
const TRAFFIC_CLASS: u8 = 0xc0;
/// `SO_PRIORITY` for CS6; above it `CAP_NET_ADMIN` would be needed.
const SOCKET_PRIORITY: u32 = 6;

/// The protocol number that carries the adverts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Carrier {
    /// 112.
    Vrrp,
    /// 51: VRRP version 2 inside an authentication header, IPv4 only.
    AuthenticationHeader,
}

impl Carrier {
    /// The IP protocol number.
    pub(crate) fn number(self) -> u8 {
        match self {
            Self::Vrrp => 112,
            Self::AuthenticationHeader => 51,
        }
    }
}

/// Who the adverts are for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Mode {
    /// The multicast group: 224.0.0.18 or ff02::12 unless configured otherwise.
    Multicast(IpAddr),
    /// Configured peers, each addressed by itself.
    Unicast,
}

/// What to open a pair of sockets for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Endpoint {
    /// Interface name, for binding.
    pub(crate) interface: String,
    /// Its index, for memberships and scopes.
    pub(crate) interface_index: NonZeroU32,
    /// Our source address; of the group's family. For IPv6 multicast the interface's link-local.
    pub(crate) source: IpAddr,
    /// Multicast or unicast.
    pub(crate) mode: Mode,
    /// Protocol number.
    pub(crate) carrier: Carrier,
}

impl Endpoint {
    /// A socket of the family and protocol, bound to the interface.
    fn socket(&self) -> io::Result<Socket> {
        let coherent = match self.mode {
            Mode::Multicast(group) => {
                group.is_multicast() && group.is_ipv4() == self.source.is_ipv4()
            }
            Mode::Unicast => true,
        };
        let carried = self.carrier == Carrier::Vrrp || self.source.is_ipv4();
        if !coherent || !carried {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        let domain = if self.source.is_ipv4() {
            Domain::IPV4
        } else {
            Domain::IPV6
        };
        let protocol = Protocol::from(i32::from(self.carrier.number()));
        let socket = Socket::new(domain, Type::RAW.nonblocking().cloexec(), Some(protocol))?;
        socket.bind_device(Some(self.interface.as_bytes()))?;
        Ok(socket)
    }
}

#[cfg(test)]
mod tests;
