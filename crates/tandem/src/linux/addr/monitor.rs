//! Watches links and addresses through a multicast netlink socket.
//!
//! The socket's buffer is finite. When the kernel had to drop events it says so once (`ENOBUFS`), and then the only
//! right answer is a full listing compared with what is wanted; keepalived asks the kernel not to tell
//! (`NETLINK_NO_ENOBUFS`) and so never notices. [`Change::Overrun`] is that signal.
//!
//! The surprising thing: the error is delivered ahead of the events still queued, and until those are read to the
//! last the kernel drops every new one without a further error. So the queue is emptied before the signal is given;
//! otherwise a change between the signal and the listing would be lost for good.

use std::collections::VecDeque;
use std::io;
use std::num::NonZeroU32;
use std::os::fd::OwnedFd;

use rustix::net::RecvFlags;
use tokio::io::unix::AsyncFd;

use super::super::netlink::{self, Subsystem};
use super::super::sys;
use super::{Entry, Link, wire};

/// `RTMGRP_LINK | RTMGRP_IPV4_IFADDR | RTMGRP_IPV6_IFADDR`.
const GROUPS: u32 = 0x1 | 0x10 | 0x100;
/// Room for some thousand events between two visits of the loop.
const RECEIVE_BUFFER_LEN: usize = 1 << 20;
/// One datagram of events.
const DATAGRAM_LEN: usize = 32 * 1024;

/// Something about links or addresses changed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Change {
    /// A link appeared or its state, name or hardware address changed.
    Link(Link),
    /// A link was deleted, and with it its addresses and multicast memberships.
    LinkGone(NonZeroU32),
    /// An address was added, renewed, or its state changed.
    Address(Entry),
    /// An address went: removed by someone, or its lifetime ended.
    AddressGone(Entry),
    /// Events were lost: list everything anew and reconcile.
    Overrun,
}

/// The stream of changes in the opening thread's network namespace.
#[derive(Debug)]
pub(crate) struct Monitor {
    socket: AsyncFd<OwnedFd>,
    buffer: Box<[u8]>,
    pending: VecDeque<Change>,
}

impl Monitor {
    /// Subscribes. Open it before the first listing, so that nothing falls between the two.
    pub(crate) fn open() -> io::Result<Self> {
        let fd = netlink::open(Subsystem::Route, GROUPS)?;
        // FORCE needs CAP_NET_ADMIN; without it the system's default limit applies, and overruns come earlier.
        let _ = rustix::net::sockopt::set_socket_recv_buffer_size_force(&fd, RECEIVE_BUFFER_LEN);
        Ok(Self {
            socket: sys::watch_readable(fd)?,
            buffer: vec![0; DATAGRAM_LEN].into_boxed_slice(),
            pending: VecDeque::new(),
        })
    }

    /// Waits for the next change. Cancelling loses nothing.
    ///
    /// # Errors
    /// Only for a broken socket: open a new monitor and treat it as [`Change::Overrun`].
    pub(crate) async fn next(&mut self) -> io::Result<Change> {
        loop {
            if let Some(change) = self.pending.pop_front() {
                return Ok(change);
            }
            let mut guard = self.socket.readable().await?;
            let buffer = &mut *self.buffer;
            match guard.try_io(|socket| receive(socket.get_ref(), buffer)) {
                Ok(Ok(Some(length))) => {
                    self.pending
                        .extend(netlink::messages(&self.buffer[..length]).filter_map(change));
                }
                Ok(Ok(None)) => {
                    empty(self.socket.get_ref(), &mut self.buffer);
                    return Ok(Change::Overrun);
                }
                Ok(Err(error)) => return Err(error),
                Err(_would_block) => {}
            }
        }
    }
}

/// One datagram's length; `None` if events were lost, by the kernel or because the datagram did not fit.
fn receive(socket: &OwnedFd, buffer: &mut [u8]) -> io::Result<Option<usize>> {
    match rustix::net::recv(socket, buffer, RecvFlags::TRUNC) {
        Ok((length, full_length)) => Ok((full_length == length).then_some(length)),
        Err(rustix::io::Errno::NOBUFS) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

/// Throws away what is queued. The kernel queues nothing new while the socket is congested, so this ends; the bound
/// is for the moment after.
fn empty(socket: &OwnedFd, buffer: &mut [u8]) {
    for _ in 0..RECEIVE_BUFFER_LEN {
        match receive(socket, buffer) {
            Ok(_) => {}
            Err(_would_block) => return,
        }
    }
}

fn change(received: netlink::Received<'_>) -> Option<Change> {
    match received.kind {
        libc::RTM_NEWLINK => wire::link(received.body).map(Change::Link),
        libc::RTM_DELLINK => wire::link_index(received.body).map(Change::LinkGone),
        libc::RTM_NEWADDR => wire::address(received.body).map(Change::Address),
        libc::RTM_DELADDR => wire::address(received.body).map(Change::AddressGone),
        _ => None,
    }
}
