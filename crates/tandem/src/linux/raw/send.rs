//! The sending socket.

use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, SocketAddrV6};

use socket2::{MsgHdr, SockAddr, SockFilter, Socket};

use super::super::sys;
use super::control;
use super::{Carrier, Endpoint, Mode, SOCKET_PRIORITY, TRAFFIC_CLASS};

/// Nothing is received, so the smallest buffer does; the kernel rounds up.
const RECEIVE_BUFFER_LEN: usize = 1024;
const HOP_LIMIT: u32 = 255;
const IPV4_HEADER_LEN: usize = 20;
/// The largest IPv4 packet less its header.
const MESSAGE_LEN_MAX: usize = 65_535 - IPV4_HEADER_LEN;

/// The sending socket of an [`Endpoint`].
#[derive(Debug)]
pub(crate) struct Sender {
    socket: Socket,
    endpoint: Endpoint,
}

/// The IPv4 header that [`Sender::send`] puts before a message, as keepalived's: CS6, not fragmented, no options. The
/// header checksum is left to the kernel. Public because the authentication header's digest covers it.
pub(crate) fn ipv4_header(
    carrier: Carrier,
    source: Ipv4Addr,
    destination: Ipv4Addr,
    identification: u16,
    ttl: u8,
    message_length: u16,
) -> [u8; IPV4_HEADER_LEN] {
    let length = message_length
        .saturating_add(IPV4_HEADER_LEN as u16)
        .to_be_bytes();
    let identification = identification.to_be_bytes();
    let mut header = [0; IPV4_HEADER_LEN];
    header[..2].copy_from_slice(&[0x45, TRAFFIC_CLASS]);
    header[2..4].copy_from_slice(&length);
    header[4..6].copy_from_slice(&identification);
    header[8..10].copy_from_slice(&[ttl, carrier.number()]);
    header[12..16].copy_from_slice(&source.octets());
    header[16..20].copy_from_slice(&destination.octets());
    header
}

impl Sender {
    /// Opens the socket. Needs `CAP_NET_RAW`.
    ///
    /// # Errors
    /// As [`super::Receiver::open`].
    pub(crate) fn open(endpoint: &Endpoint) -> io::Result<Self> {
        let socket = endpoint.socket()?;
        // "return 0": every packet is cut to nothing, which drops it.
        socket.attach_filter(&[SockFilter::new(0x06, 0, 0, 0)])?;
        socket.set_recv_buffer_size(RECEIVE_BUFFER_LEN)?;
        socket.set_priority(SOCKET_PRIORITY)?;
        let interface_index = endpoint.interface_index.get();
        match endpoint.source {
            IpAddr::V4(_) => {
                socket.set_header_included_v4(true)?;
                socket.set_multicast_loop_v4(false)?;
                rustix::net::sockopt::set_ip_multicast_if_with_ifindex(
                    &socket,
                    &Ipv4Addr::UNSPECIFIED,
                    &Ipv4Addr::UNSPECIFIED,
                    interface_index,
                )?;
            }
            IpAddr::V6(_) => {
                sys::set_int_option(&socket, libc::IPPROTO_IPV6, libc::IPV6_CHECKSUM, 6)?;
                socket.set_multicast_loop_v6(false)?;
                socket.set_multicast_if_v6(interface_index)?;
                socket.set_multicast_hops_v6(HOP_LIMIT)?;
                socket.set_unicast_hops_v6(HOP_LIMIT)?;
                socket.set_tclass_v6(TRAFFIC_CLASS.into())?;
            }
        }
        Ok(Self {
            socket,
            endpoint: endpoint.clone(),
        })
    }

    /// As [`Sender::send_with_ttl`], with 255.
    ///
    /// # Errors
    /// As there.
    pub(crate) fn send(
        &self,
        message: &[u8],
        destination: IpAddr,
        identification: u16,
    ) -> io::Result<()> {
        self.send_with_ttl(message, destination, identification, HOP_LIMIT as u8)
    }

    /// Sends one message. `ttl` is the hop limit of IPv6. `identification` goes into the IPv4 header and is not used for IPv6; the checksum of an IPv6
    /// message is filled in by the kernel.
    ///
    /// # Errors
    /// `InvalidInput` for a destination of the other family or a message that fits into no packet; `ENETDOWN`,
    /// `ENODEV` or `WouldBlock` from below. Nothing left then; sending the same message again is safe.
    pub(crate) fn send_with_ttl(
        &self,
        message: &[u8],
        destination: IpAddr,
        identification: u16,
        ttl: u8,
    ) -> io::Result<()> {
        if message.len() > MESSAGE_LEN_MAX {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        match (self.endpoint.source, destination) {
            (IpAddr::V4(source), IpAddr::V4(destination)) => {
                let length = u16::try_from(message.len()).expect("checked above");
                let carrier = self.endpoint.carrier;
                let header = ipv4_header(carrier, source, destination, identification, ttl, length);
                let flags = match self.endpoint.mode {
                    Mode::Multicast(_) => libc::MSG_DONTROUTE,
                    Mode::Unicast => 0,
                };
                let to = SockAddr::from(SocketAddr::from((destination, 0)));
                let parts = [io::IoSlice::new(&header), io::IoSlice::new(message)];
                self.socket.send_to_vectored_with_flags(&parts, &to, flags)
            }
            (IpAddr::V6(source), IpAddr::V6(destination)) => {
                let interface_index = self.endpoint.interface_index.get();
                let to = SockAddr::from(SocketAddrV6::new(destination, 0, 0, interface_index));
                // struct in6_pktinfo: source address and interface.
                let packet_info = [&source.octets()[..], &interface_index.to_ne_bytes()].concat();
                let hops = i32::from(ttl).to_ne_bytes();
                let control = [
                    control::item(libc::IPPROTO_IPV6, libc::IPV6_PKTINFO, &packet_info),
                    control::item(libc::IPPROTO_IPV6, libc::IPV6_HOPLIMIT, &hops),
                ]
                .concat();
                let parts = [io::IoSlice::new(message)];
                let header = MsgHdr::new()
                    .with_addr(&to)
                    .with_buffers(&parts)
                    .with_control(&control);
                self.socket.sendmsg(&header, 0)
            }
            (IpAddr::V4(_), IpAddr::V6(_)) | (IpAddr::V6(_), IpAddr::V4(_)) => {
                Err(io::ErrorKind::InvalidInput.into())
            }
        }
        .map(drop)
    }
}
