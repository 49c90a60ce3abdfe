//! The only unsafe code of this tree: system calls that neither socket2, rustix nor tokio offers in a safe form.

#![allow(unsafe_code)]

use std::io;
use std::mem::MaybeUninit;
use std::net::{Ipv6Addr, SocketAddrV6};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};

use socket2::{MaybeUninitSlice, MsgHdrMut, SockAddr, SockRef};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

/// Sets a socket option whose value is an `int`.
///
/// For `IPV6_CHECKSUM`, `IPV6_RECVPKTINFO` and `SO_TIMESTAMPNS`, which socket2 does not wrap.
pub(super) fn set_int_option(
    socket: impl AsFd,
    level: i32,
    name: i32,
    value: i32,
) -> io::Result<()> {
    let length = libc::socklen_t::try_from(size_of::<i32>()).expect("four fits");
    // SAFETY: the descriptor is borrowed and therefore open; pointer and length describe a live `i32` that the
    // kernel only reads.
    let code = unsafe {
        libc::setsockopt(
            socket.as_fd().as_raw_fd(),
            level,
            name,
            (&raw const value).cast(),
            length,
        )
    };
    if code == 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}

/// Binds an `AF_PACKET` socket to one interface and EtherType. With protocol 0 it sends there and receives nothing.
///
/// Neither socket2 nor rustix has `sockaddr_ll`.
pub(super) fn bind_packet(
    socket: impl AsFd,
    interface_index: u32,
    protocol: u16,
) -> io::Result<()> {
    let address = libc::sockaddr_ll {
        sll_family: libc::AF_PACKET.cast_unsigned() as u16,
        sll_protocol: protocol.to_be(),
        sll_ifindex: interface_index.cast_signed(),
        sll_hatype: 0,
        sll_pkttype: 0,
        sll_halen: 0,
        sll_addr: [0; 8],
    };
    let length = libc::socklen_t::try_from(size_of_val(&address))
        .expect("a socket address is tens of bytes");
    // SAFETY: the descriptor is borrowed and therefore open; pointer and length describe a fully initialised
    // `sockaddr_ll` that the kernel only reads.
    let code = unsafe {
        libc::bind(
            socket.as_fd().as_raw_fd(),
            (&raw const address).cast(),
            length,
        )
    };
    if code == 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}

/// Registers a descriptor with the current runtime's reactor for readability.
///
/// tokio leaves it to the caller to vouch that a type keeps its descriptor open and unchanged.
pub(super) fn watch_readable(fd: OwnedFd) -> io::Result<AsyncFd<OwnedFd>> {
    // SAFETY: an `OwnedFd` keeps one open descriptor, and names the same one, until it is dropped; only `AsyncFd`
    // owns it from here on.
    unsafe { AsyncFd::register_with_interest(fd, Interest::READABLE) }.map_err(Into::into)
}

/// `recvmsg` into plain bytes: the lengths of packet and ancillary data, and the sender.
///
/// socket2 takes `MaybeUninit` buffers and leaves it to the caller to know what the kernel filled.
pub(super) fn receive_message(
    socket: &OwnedFd,
    packet: &mut [u8],
    control: &mut [u8],
) -> io::Result<(usize, usize, SockAddr)> {
    // Any address does: it is overwritten, and IPv6's is the longest that a raw IP socket reports.
    let mut sender = SockAddr::from(SocketAddrV6::new(Ipv6Addr::UNSPECIFIED, 0, 0, 0));
    let mut slices = [MaybeUninitSlice::new(as_uninit(packet))];
    let mut message = MsgHdrMut::new()
        .with_addr(&mut sender)
        .with_buffers(&mut slices)
        .with_control(as_uninit(control));
    let length = SockRef::from(socket).recvmsg(&mut message, 0)?;
    let control_length = message.control_len();
    Ok((length, control_length, sender))
}

/// The same bytes, for a system call to write to.
fn as_uninit(bytes: &mut [u8]) -> &mut [MaybeUninit<u8>] {
    // SAFETY: the layout is the same. The only use, in `receive_message`, hands the slice to recvmsg, which writes
    // initialised bytes or nothing, so the caller's slice stays initialised.
    unsafe { &mut *(std::ptr::from_mut(bytes) as *mut [MaybeUninit<u8>]) }
}

/// Keeps descriptors that our parent left open from reaching programs that we start.
///
/// Rust opens its own with close-on-exec; what was inherited is open here and would be open in every script.
/// `close_range(2)` does it for all at once; kernels before 5.11 do not know the flag.
pub(crate) fn close_on_exec_above_stderr() -> io::Result<()> {
    // SAFETY: no memory is passed, and marking a descriptor close-on-exec changes nothing for whoever uses it here.
    let code = unsafe {
        libc::close_range(
            3,
            libc::c_uint::MAX,
            libc::CLOSE_RANGE_CLOEXEC.cast_signed(),
        )
    };
    if code == 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}

/// Moves the calling thread into a new, empty network namespace.
#[cfg(test)]
pub(super) fn enter_new_network_namespace() -> io::Result<()> {
    // SAFETY: the danger of unshare in Rust is CLONE_FILES, which would give this thread its own descriptor
    // table; only the network namespace is unshared.
    unsafe { rustix::thread::unshare_unsafe(rustix::thread::UnshareFlags::NEWNET) }
        .map_err(Into::into)
}
