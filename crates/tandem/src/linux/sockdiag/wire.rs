//! The messages of `sockdiag`: `inet_diag_req_v2`, `inet_diag_msg` and the one attribute that matters.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use super::super::netlink::{u16_at, u32_at};
use super::{Carried, Ends, State, States, TcpSocket};

/// `struct inet_diag_sockid`: ports, addresses, interface and cookie.
pub(super) const SOCKET_ID_LEN: usize = 48;
/// The cookie names a socket for as long as its kernel runs. Every bit of it set: any socket.
const COOKIE_AT: usize = 40;
const NO_COOKIE: u8 = 0xff;
/// Where `struct inet_diag_msg` keeps its socket id, and what follows it.
const ID_AT: usize = 4;
const RECEIVE_QUEUE_AT: usize = ID_AT + SOCKET_ID_LEN + 4;
const SEND_QUEUE_AT: usize = RECEIVE_QUEUE_AT + 4;
const INODE_AT: usize = SEND_QUEUE_AT + 8;
const ATTRIBUTES_AT: usize = INODE_AT + 4;
/// `INET_DIAG_INFO`: a `struct tcp_info` follows, and where it keeps what it counts (`linux/tcp.h`; since Linux 4.19).
pub(super) const INFO: u16 = 2;
const BYTES_RECEIVED_AT: usize = 128;
const BYTES_UNSENT_AT: usize = 144;
const BYTES_SENT_AT: usize = 200;
const BYTES_SENT_AGAIN_AT: usize = 208;

pub(super) fn family_of(address: IpAddr) -> u8 {
    let family = if address.is_ipv4() {
        libc::AF_INET
    } else {
        libc::AF_INET6
    };
    family as u8
}

/// `struct inet_diag_req_v2`: family, protocol, extensions, padding, states, socket id. 56 bytes. An extension is asked for by
/// its number, none by 0.
pub(super) fn request(
    family: u8,
    states: States,
    id: &[u8; SOCKET_ID_LEN],
    extension: u16,
) -> Vec<u8> {
    let extensions = match extension {
        0 => 0,
        number => 1 << (number - 1),
    };
    let mut bytes = vec![family, libc::IPPROTO_TCP as u8, extensions, 0];
    bytes.extend_from_slice(&states.0.to_ne_bytes());
    bytes.extend_from_slice(id);
    bytes
}

/// `struct inet_diag_req`: family, two unused lengths, extensions, socket id, states, tables. 60 bytes.
pub(super) fn request_of_all_families(states: States, id: &[u8; SOCKET_ID_LEN]) -> Vec<u8> {
    let mut bytes = vec![0; 4];
    bytes.extend_from_slice(id);
    bytes.extend_from_slice(&states.0.to_ne_bytes());
    bytes.extend_from_slice(&[0; 4]);
    bytes
}

/// A dump lets the kernel compare the local port; addresses in the id are ignored there.
pub(super) fn id_with_local_port(port: u16) -> [u8; SOCKET_ID_LEN] {
    let mut id = [0; SOCKET_ID_LEN];
    id[..2].copy_from_slice(&port.to_be_bytes());
    id
}

/// One connection, whatever its cookie is.
pub(super) fn id_of(ends: Ends) -> [u8; SOCKET_ID_LEN] {
    let mut id = id_with_local_port(ends.local.port());
    id[2..4].copy_from_slice(&ends.remote.port().to_be_bytes());
    for (at, address) in [(4, ends.local.ip()), (20, ends.remote.ip())] {
        match address {
            IpAddr::V4(address) => id[at..at + 4].copy_from_slice(&address.octets()),
            IpAddr::V6(address) => id[at..at + 16].copy_from_slice(&address.octets()),
        }
    }
    id[COOKIE_AT..].fill(NO_COOKIE);
    id
}

/// Reads a `struct inet_diag_msg`.
pub(super) fn read_socket(body: &[u8]) -> Option<TcpSocket> {
    let (family, state) = (*body.first()?, State::from_kernel(*body.get(1)?)?);
    let id: [u8; SOCKET_ID_LEN] = body.get(ID_AT..)?.first_chunk().copied()?;
    Some(TcpSocket {
        local: SocketAddr::new(
            address(family, &id[4..20])?,
            u16_at(&id, 0).map(u16::from_be)?,
        ),
        remote: SocketAddr::new(
            address(family, &id[20..36])?,
            u16_at(&id, 2).map(u16::from_be)?,
        ),
        state,
        receive_queue: u32_at(body, RECEIVE_QUEUE_AT)?,
        send_queue: u32_at(body, SEND_QUEUE_AT)?,
        inode: u32_at(body, INODE_AT)?,
        carried: attribute(body, INFO).and_then(carried),
        family,
        id,
    })
}

/// The attribute of this kind behind the message.
fn attribute(body: &[u8], kind: u16) -> Option<&[u8]> {
    let mut rest = body.get(ATTRIBUTES_AT..)?;
    loop {
        let length = usize::from(u16_at(rest, 0)?);
        let value = rest.get(4..length)?;
        if u16_at(rest, 2)? == kind {
            return Some(value);
        }
        rest = rest.get(length.next_multiple_of(4)..)?;
    }
}

fn carried(info: &[u8]) -> Option<Carried> {
    let sent = u64_at(info, BYTES_SENT_AT)?;
    let again = u64_at(info, BYTES_SENT_AGAIN_AT)?;
    let unsent = u64::from(u32_at(info, BYTES_UNSENT_AT)?);
    Some(Carried {
        given: sent.checked_sub(again)? + unsent,
        received: u64_at(info, BYTES_RECEIVED_AT)?,
    })
}

fn u64_at(bytes: &[u8], at: usize) -> Option<u64> {
    Some(u64::from_ne_bytes(bytes.get(at..)?.first_chunk().copied()?))
}

fn address(family: u8, bytes: &[u8]) -> Option<IpAddr> {
    match i32::from(family) {
        libc::AF_INET => bytes
            .first_chunk::<4>()
            .map(|octets| Ipv4Addr::from(*octets).into()),
        libc::AF_INET6 => bytes
            .first_chunk::<16>()
            .map(|octets| IpAddr::from(Ipv6Addr::from(*octets)).to_canonical()),
        _ => None,
    }
}
