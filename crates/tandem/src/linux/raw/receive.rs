//! The receiving socket: adverts with what their packet said, and how long they lay in the queue.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV6};
use std::os::fd::OwnedFd;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use socket2::Socket;
use tokio::io::unix::AsyncFd;

use super::super::sys;
use super::control::{self, i32_at};
use super::{Endpoint, Mode};

/// The largest IP packet.
const PACKET_LEN_MAX: usize = 65_535;
/// Room for packet info, hop limit and time stamp.
const CONTROL_LEN: usize = 256;
/// A stamp further away than this from now means that somebody set the clock in between.
const QUEUED_MAX: Duration = Duration::from_secs(60);
const IPV4_HEADER_LEN_MIN: usize = 20;

/// A received packet.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Datagram<'a> {
    /// What follows the IP header: the VRRP message, or the authentication header.
    pub(crate) payload: &'a [u8],
    /// The IPv4 header as received (the authentication header covers it); empty for IPv6.
    pub(crate) header: &'a [u8],
    /// Source address of the packet.
    pub(crate) source: IpAddr,
    /// Destination address of the packet: the group, or ours.
    pub(crate) destination: IpAddr,
    /// TTL or hop limit on arrival.
    pub(crate) ttl: u8,
    /// How long ago the kernel received it: our own lateness, not the network's. `None` if unknown.
    pub(crate) queued: Option<Duration>,
}

/// The receiving socket of an [`Endpoint`].
#[derive(Debug)]
pub(crate) struct Receiver {
    socket: AsyncFd<OwnedFd>,
    buffer: Box<[u8]>,
}

impl Receiver {
    /// Opens the socket and joins the group. Must be called inside a runtime; needs `CAP_NET_RAW`.
    ///
    /// # Errors
    /// `InvalidInput` if group, source and carrier do not go together; `ENODEV` if the interface is gone;
    /// `EADDRNOTAVAIL` if an IPv6 source is not (yet) usable.
    pub(crate) fn open(endpoint: &Endpoint) -> io::Result<Self> {
        let socket = endpoint.socket()?;
        match endpoint.source {
            IpAddr::V4(source) => configure_ipv4(&socket, endpoint, source)?,
            IpAddr::V6(source) => configure_ipv6(&socket, endpoint, source)?,
        }
        sys::set_int_option(&socket, libc::SOL_SOCKET, libc::SO_TIMESTAMPNS, 1)?;
        let buffer = vec![0; PACKET_LEN_MAX].into_boxed_slice();
        Ok(Self {
            socket: sys::watch_readable(socket.into())?,
            buffer,
        })
    }

    /// Waits for the next packet. Cancelling loses nothing. Packets whose header does not parse are skipped.
    ///
    /// # Errors
    /// What the kernel says, `ENETDOWN` for instance; the socket remains usable when the interface returns up.
    pub(crate) async fn receive(&mut self) -> io::Result<Datagram<'_>> {
        let received = loop {
            let mut guard = self.socket.readable().await?;
            match guard.try_io(|socket| receive_now(socket.get_ref(), &mut self.buffer)) {
                Ok(Ok(Some(received))) => break received,
                Ok(Ok(None)) | Err(_) => {}
                Ok(Err(error)) => return Err(error),
            }
        };
        let bytes = &self.buffer[..received.length];
        let (header, payload) = bytes.split_at(received.header_length);
        let Received {
            source,
            destination,
            ttl,
            queued,
            ..
        } = received;
        Ok(Datagram {
            payload,
            header,
            source,
            destination,
            ttl,
            queued,
        })
    }
}

fn configure_ipv4(socket: &Socket, endpoint: &Endpoint, source: Ipv4Addr) -> io::Result<()> {
    socket.set_multicast_all_v4(false)?;
    match endpoint.mode {
        Mode::Multicast(IpAddr::V4(group)) => {
            let interface = socket2::InterfaceIndexOrAddress::Index(endpoint.interface_index.get());
            socket.join_multicast_v4_n(&group, &interface)?;
            socket.bind(&SocketAddr::from((group, 0)).into())
        }
        Mode::Unicast => {
            socket.set_freebind_v4(true)?;
            socket.bind(&SocketAddr::from((source, 0)).into())
        }
        Mode::Multicast(IpAddr::V6(_)) => Err(io::ErrorKind::InvalidInput.into()),
    }
}

fn configure_ipv6(socket: &Socket, endpoint: &Endpoint, source: Ipv6Addr) -> io::Result<()> {
    let interface_index = endpoint.interface_index.get();
    // The kernel verifies the checksum, at byte 6 of the message, and drops what is wrong.
    sys::set_int_option(socket, libc::IPPROTO_IPV6, libc::IPV6_CHECKSUM, 6)?;
    sys::set_int_option(socket, libc::IPPROTO_IPV6, libc::IPV6_RECVPKTINFO, 1)?;
    socket.set_recv_hoplimit_v6(true)?;
    socket.set_multicast_all_v6(false)?;
    let bind_to = match endpoint.mode {
        Mode::Multicast(IpAddr::V6(group)) => {
            socket.join_multicast_v6(&group, interface_index)?;
            group
        }
        Mode::Unicast => {
            socket.set_freebind_v6(true)?;
            source
        }
        Mode::Multicast(IpAddr::V4(_)) => return Err(io::ErrorKind::InvalidInput.into()),
    };
    socket.bind(&SocketAddrV6::new(bind_to, 0, 0, interface_index).into())
}

struct Received {
    length: usize,
    header_length: usize,
    source: IpAddr,
    destination: IpAddr,
    ttl: u8,
    queued: Option<Duration>,
}

/// One `recvmsg`; `None` for a packet that is not one.
fn receive_now(socket: &OwnedFd, buffer: &mut [u8]) -> io::Result<Option<Received>> {
    let mut control = [0; CONTROL_LEN];
    let (length, control_length, sender) = sys::receive_message(socket, buffer, &mut control)?;
    let control = &control[..control_length.min(CONTROL_LEN)];
    let queued = queued(control);
    Ok(match sender.as_socket() {
        Some(SocketAddr::V4(_)) => read_ipv4(&buffer[..length], queued),
        Some(SocketAddr::V6(sender)) => read_ipv6(length, *sender.ip(), control, queued),
        None => None,
    })
}

/// An IPv4 raw socket delivers the header too.
fn read_ipv4(packet: &[u8], queued: Option<Duration>) -> Option<Received> {
    let header_length = usize::from(packet.first()? & 0xf) * 4;
    if header_length < IPV4_HEADER_LEN_MIN || packet.len() < header_length {
        return None;
    }
    let address = |at: usize| Some(IpAddr::from(*packet.get(at..)?.first_chunk::<4>()?));
    let (source, destination, ttl) = (address(12)?, address(16)?, *packet.get(8)?);
    Some(Received {
        length: packet.len(),
        header_length,
        source,
        destination,
        ttl,
        queued,
    })
}

/// An IPv6 one does not: hop limit and destination come as ancillary data.
fn read_ipv6(
    length: usize,
    source: Ipv6Addr,
    control: &[u8],
    queued: Option<Duration>,
) -> Option<Received> {
    let (mut destination, mut ttl) = (None, None);
    for item in control::items(control) {
        match (item.level, item.kind) {
            (libc::IPPROTO_IPV6, libc::IPV6_HOPLIMIT) => {
                ttl = i32_at(item.data, 0).and_then(|hops| hops.try_into().ok());
            }
            (libc::IPPROTO_IPV6, libc::IPV6_PKTINFO) => {
                destination = item.data.first_chunk::<16>().copied();
            }
            _ => {}
        }
    }
    Some(Received {
        length,
        header_length: 0,
        source: source.into(),
        destination: IpAddr::from(destination?),
        ttl: ttl?,
        queued,
    })
}

/// Now less the kernel's stamp. Both are wall-clock time, so a difference that makes no sense is dropped.
fn queued(control: &[u8]) -> Option<Duration> {
    let stamp = control::items(control)
        .find(|item| (item.level, item.kind) == (libc::SOL_SOCKET, libc::SO_TIMESTAMPNS))
        .map(|item| item.data)?;
    // struct timespec: seconds and nanoseconds, a word each.
    let (seconds, nanoseconds) = stamp.split_at_checked(size_of::<libc::time_t>())?;
    let seconds = u64::try_from(libc::time_t::from_ne_bytes(seconds.try_into().ok()?)).ok()?;
    let nanoseconds =
        u32::try_from(libc::c_long::from_ne_bytes(*nanoseconds.first_chunk()?)).ok()?;
    let stamp = UNIX_EPOCH.checked_add(Duration::new(seconds, nanoseconds))?;
    SystemTime::now()
        .duration_since(stamp)
        .ok()
        .filter(|queued| *queued <= QUEUED_MAX)
}
