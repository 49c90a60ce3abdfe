//! Netlink framing and the one request loop that addresses, socket diagnosis and nftables share.
//!
//! The kernel works a netlink request off inside `sendmsg`: when the call returns, the acknowledgement or the
//! first part of a dump already waits in the socket, and every further part is made inside `recvmsg`. So a
//! request costs two system calls, needs no task and no timer, and cannot wait for anybody: the socket is
//! non-blocking, and an answer that is missing is an error, not a reason to wait. This is why the tree uses a
//! codec of its own here and not an asynchronous netlink crate; it needs four message types and a dozen attributes.
//!
//! Layouts follow `linux/netlink.h`: native byte order, everything aligned to four bytes, lengths include headers.

use std::io;
use std::os::fd::OwnedFd;

use rustix::net::netlink::{self, SocketAddrNetlink};
use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType};

/// `NLM_F_REQUEST`.
pub(super) const REQUEST: u16 = 0x1;
/// `NLM_F_ACK`: answer success too.
pub(super) const ACK: u16 = 0x4;
/// `NLM_F_DUMP`.
pub(super) const DUMP: u16 = 0x300;
/// `NLM_F_REPLACE`.
pub(super) const REPLACE: u16 = 0x100;
/// `NLM_F_CREATE`.
pub(super) const CREATE: u16 = 0x400;
/// `NLM_F_APPEND`.
pub(super) const APPEND: u16 = 0x800;

/// `NLM_F_DUMP_INTR`: the table changed while it was being dumped.
const DUMP_INTERRUPTED: u16 = 0x10;
const HEADER_LEN: usize = 16;
const ERROR: u16 = 2;
const DONE: u16 = 3;
/// `NLA_F_NESTED`, which nftables insists on.
const NESTED: u16 = 1 << 15;
const TYPE_MASK: u16 = 0x3fff;

/// The kernel never builds a dump part larger than this; see `NLMSG_GOODSIZE` and `netlink_dump`.
const BUFFER_LEN: usize = 64 * 1024;
/// A dump that is interrupted by changes more often than this is reported as an error.
const DUMP_ATTEMPTS: usize = 8;
/// Upper bound on the datagrams read for one request: four million addresses or sockets.
const PARTS_MAX: usize = 64 * 1024;

/// Which kernel subsystem a socket talks to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Subsystem {
    /// Links and addresses.
    Route,
    /// Socket listing and `SOCK_DESTROY`.
    SockDiag,
    /// nftables.
    Netfilter,
}

/// Opens a non-blocking netlink socket; `groups` is the `RTMGRP_*` bit mask to subscribe to.
pub(super) fn open(subsystem: Subsystem, groups: u32) -> io::Result<OwnedFd> {
    let protocol = match subsystem {
        Subsystem::Route => None,
        Subsystem::SockDiag => Some(netlink::SOCK_DIAG),
        Subsystem::Netfilter => Some(netlink::NETFILTER),
    };
    let fd = rustix::net::socket_with(
        AddressFamily::NETLINK,
        SocketType::RAW,
        SocketFlags::CLOEXEC | SocketFlags::NONBLOCK,
        protocol,
    )?;
    rustix::net::bind(&fd, &SocketAddrNetlink::new(0, groups))?;
    Ok(fd)
}

/// A message under construction. The sequence number is filled in when it is sent.
#[derive(Debug, Clone)]
pub(super) struct Message {
    bytes: Vec<u8>,
}

impl Message {
    /// Starts a message of `kind` with `NLM_F_REQUEST` and `flags`.
    pub(super) fn new(kind: u16, flags: u16) -> Self {
        let mut bytes = Vec::with_capacity(128);
        bytes.extend_from_slice(&[0; 4]);
        bytes.extend_from_slice(&kind.to_ne_bytes());
        bytes.extend_from_slice(&(flags | REQUEST).to_ne_bytes());
        bytes.extend_from_slice(&[0; 8]);
        Self { bytes }
    }

    /// Appends the fixed header of the subsystem, or any other raw bytes, padded to four.
    pub(super) fn raw(mut self, bytes: &[u8]) -> Self {
        self.bytes.extend_from_slice(bytes);
        self.pad();
        self
    }

    /// Appends one attribute.
    pub(super) fn attribute(mut self, kind: u16, value: &[u8]) -> Self {
        let length =
            u16::try_from(4 + value.len()).expect("attributes built here are far below 64 KiB");
        self.bytes.extend_from_slice(&length.to_ne_bytes());
        self.bytes.extend_from_slice(&kind.to_ne_bytes());
        self.raw(value)
    }

    /// Appends one attribute holding a nul-terminated string.
    pub(super) fn string(self, kind: u16, value: &str) -> Self {
        let mut bytes = value.as_bytes().to_vec();
        bytes.push(0);
        self.attribute(kind, &bytes)
    }

    /// Appends one nested attribute whose content `fill` writes.
    pub(super) fn nest(mut self, kind: u16, fill: impl FnOnce(Self) -> Self) -> Self {
        let start = self.bytes.len();
        self.bytes.extend_from_slice(&[0; 2]);
        self.bytes.extend_from_slice(&(kind | NESTED).to_ne_bytes());
        let mut filled = fill(self);
        let length = u16::try_from(filled.bytes.len() - start)
            .expect("attributes built here are far below 64 KiB");
        filled.bytes[start..start + 2].copy_from_slice(&length.to_ne_bytes());
        filled
    }

    fn pad(&mut self) {
        self.bytes.resize(self.bytes.len().next_multiple_of(4), 0);
    }

    /// The finished bytes with length and sequence number in place.
    fn finish(mut self, sequence: u32) -> Vec<u8> {
        let length =
            u32::try_from(self.bytes.len()).expect("messages built here are far below 4 GiB");
        self.bytes[0..4].copy_from_slice(&length.to_ne_bytes());
        self.bytes[8..12].copy_from_slice(&sequence.to_ne_bytes());
        self.bytes
    }
}

/// One received message: header fields that matter and the bytes after the header.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Received<'a> {
    pub(super) kind: u16,
    pub(super) flags: u16,
    pub(super) sequence: u32,
    pub(super) body: &'a [u8],
}

/// Splits a datagram into messages; stops at the first length that does not fit.
pub(super) fn messages(mut bytes: &[u8]) -> impl Iterator<Item = Received<'_>> {
    std::iter::from_fn(move || {
        let length = usize::try_from(u32_at(bytes, 0)?).ok()?;
        let body = bytes.get(HEADER_LEN..length)?;
        let received = Received {
            kind: u16_at(bytes, 4)?,
            flags: u16_at(bytes, 6)?,
            sequence: u32_at(bytes, 8)?,
            body,
        };
        bytes = bytes.get(length.next_multiple_of(4)..).unwrap_or_default();
        Some(received)
    })
}

/// Splits a body into attributes (type without flag bits, value); stops at the first length that does not fit.
pub(super) fn attributes(mut bytes: &[u8]) -> impl Iterator<Item = (u16, &[u8])> {
    std::iter::from_fn(move || {
        let length = usize::from(u16_at(bytes, 0)?);
        let kind = u16_at(bytes, 2)? & TYPE_MASK;
        let value = bytes.get(4..length)?;
        bytes = bytes.get(length.next_multiple_of(4)..).unwrap_or_default();
        Some((kind, value))
    })
}

/// The native-order 16-bit field at `offset`, if the bytes reach that far.
pub(super) fn u16_at(bytes: &[u8], offset: usize) -> Option<u16> {
    Some(u16::from_ne_bytes(
        bytes.get(offset..)?.first_chunk().copied()?,
    ))
}

/// The native-order 32-bit field at `offset`, if the bytes reach that far.
pub(super) fn u32_at(bytes: &[u8], offset: usize) -> Option<u32> {
    Some(u32::from_ne_bytes(
        bytes.get(offset..)?.first_chunk().copied()?,
    ))
}

/// A socket for requests. Not shared: one request is finished before the next begins.
#[derive(Debug)]
pub(super) struct Requests {
    fd: OwnedFd,
    sequence: u32,
    buffer: Box<[u8]>,
}

impl Requests {
    pub(super) fn open(subsystem: Subsystem) -> io::Result<Self> {
        Ok(Self {
            fd: open(subsystem, 0)?,
            sequence: 0,
            buffer: vec![0; BUFFER_LEN].into_boxed_slice(),
        })
    }

    /// Sends one message and returns the kernel's verdict on it.
    ///
    /// # Errors
    /// The errno of the kernel's answer, or [`io::ErrorKind::WouldBlock`] if it gave none.
    pub(super) fn acknowledged(&mut self, message: Message) -> io::Result<()> {
        self.batch([message])
    }

    /// Sends several messages in one datagram and returns the first refusal among them. nftables applies such a
    /// batch completely or not at all; the last message that asks for an acknowledgement ends the exchange.
    pub(super) fn batch(&mut self, messages: impl IntoIterator<Item = Message>) -> io::Result<()> {
        self.discard_stale();
        let mut datagram = Vec::with_capacity(512);
        let first = self.sequence.wrapping_add(1);
        let mut last_wanted = first;
        for message in messages {
            self.sequence = self.sequence.wrapping_add(1);
            if u16_at(&message.bytes, 6).is_some_and(|flags| flags & ACK != 0) {
                last_wanted = self.sequence;
            }
            datagram.extend_from_slice(&message.finish(self.sequence));
        }
        self.send(&datagram)?;
        for _ in 0..PARTS_MAX {
            let length = self.receive()?;
            for received in messages_of(&self.buffer, length) {
                if received.sequence.wrapping_sub(first) > self.sequence.wrapping_sub(first)
                    || received.kind != ERROR
                {
                    continue;
                }
                match errno(received.body) {
                    Some(error) => return Err(error),
                    None if received.sequence == last_wanted => return Ok(()),
                    None => {}
                }
            }
        }
        Err(io::Error::other("netlink answers never ended"))
    }

    /// Sends one message that is answered by one other, and returns the body of that.
    ///
    /// # Errors
    /// As for [`Self::acknowledged`].
    pub(super) fn ask(&mut self, message: Message) -> io::Result<Vec<u8>> {
        self.discard_stale();
        self.sequence = self.sequence.wrapping_add(1);
        let sequence = self.sequence;
        self.send(&message.finish(sequence))?;
        for _ in 0..PARTS_MAX {
            let length = self.receive()?;
            for received in messages_of(&self.buffer, length) {
                if received.sequence != sequence {
                    continue;
                }
                if received.kind != ERROR {
                    return Ok(received.body.to_vec());
                }
                return Err(
                    errno(received.body).unwrap_or_else(|| io::ErrorKind::InvalidData.into())
                );
            }
        }
        Err(io::Error::other("netlink answers never ended"))
    }

    /// Sends one message without waiting for anything.
    fn send(&self, datagram: &[u8]) -> io::Result<()> {
        let sent = rustix::net::sendto(
            &self.fd,
            datagram,
            SendFlags::empty(),
            &SocketAddrNetlink::new(0, 0),
        )?;
        if sent == datagram.len() {
            Ok(())
        } else {
            Err(io::ErrorKind::WriteZero.into())
        }
    }

    fn receive(&mut self) -> io::Result<usize> {
        let (length, full_length) =
            rustix::net::recv(&self.fd, &mut *self.buffer, RecvFlags::TRUNC)?;
        if full_length > length {
            return Err(io::Error::other(
                "netlink datagram larger than the receive buffer",
            ));
        }
        Ok(length)
    }

    /// Answers to an earlier request that failed half-way must not be taken for answers to this one.
    fn discard_stale(&mut self) {
        for _ in 0..PARTS_MAX {
            if let Err(error) = self.receive()
                && error.kind() == io::ErrorKind::WouldBlock
            {
                return;
            }
        }
    }

    /// Asks for a dump and calls `each` with the type and body of every part.
    ///
    /// `each` may see entries of an attempt that the kernel later calls inconsistent; `restart` is called before
    /// the next attempt so that the caller can forget them.
    pub(super) fn dump<T>(
        &mut self,
        request: &Message,
        state: &mut T,
        mut restart: impl FnMut(&mut T),
        mut each: impl FnMut(&mut T, u16, &[u8]),
    ) -> io::Result<()> {
        for _ in 0..DUMP_ATTEMPTS {
            restart(state);
            if self.dump_once(request, state, &mut each)? {
                return Ok(());
            }
        }
        Err(io::Error::new(
            io::ErrorKind::Interrupted,
            "the table kept changing while it was dumped",
        ))
    }

    /// One attempt; `false` means that the table changed meanwhile.
    fn dump_once<T>(
        &mut self,
        request: &Message,
        state: &mut T,
        each: &mut impl FnMut(&mut T, u16, &[u8]),
    ) -> io::Result<bool> {
        self.discard_stale();
        self.sequence = self.sequence.wrapping_add(1);
        let sequence = self.sequence;
        self.send(&request.clone().finish(sequence))?;
        let mut consistent = true;
        for _ in 0..PARTS_MAX {
            let length = self.receive()?;
            for received in messages_of(&self.buffer, length) {
                if received.sequence != sequence {
                    continue;
                }
                consistent &= received.flags & DUMP_INTERRUPTED == 0;
                match received.kind {
                    DONE => return Ok(consistent),
                    ERROR => {
                        return Err(errno(received.body)
                            .unwrap_or_else(|| io::ErrorKind::InvalidData.into()));
                    }
                    kind => each(state, kind, received.body),
                }
            }
        }
        Err(io::Error::other("netlink dump never ended"))
    }
}

fn messages_of(buffer: &[u8], length: usize) -> impl Iterator<Item = Received<'_>> {
    messages(buffer.get(..length).unwrap_or_default())
}

/// The errno in an `NLMSG_ERROR` body; zero is an acknowledgement.
fn errno(body: &[u8]) -> Option<io::Error> {
    let code = u32_at(body, 0).map_or(-libc::EBADMSG, |code| code as i32);
    (code != 0).then(|| io::Error::from_raw_os_error(code.wrapping_neg()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_built_message_reads_back() {
        let bytes = Message::new(20, ACK)
            .raw(&[1, 2, 3, 4])
            .attribute(7, &[9])
            .nest(8, |inner| inner.string(1, "ab").attribute(2, &[5, 6]))
            .finish(77);
        let received: Vec<_> = messages(&bytes).collect();
        assert_eq!(received.len(), 1);
        assert_eq!(
            (received[0].kind, received[0].flags, received[0].sequence),
            (20, REQUEST | ACK, 77)
        );
        let outer: Vec<_> = attributes(&received[0].body[4..]).collect();
        assert_eq!(outer[0], (7, &[9][..]));
        assert_eq!(outer[1].0, 8);
        let inner: Vec<_> = attributes(outer[1].1).collect();
        assert_eq!(inner, vec![(1, &b"ab\0"[..]), (2, &[5, 6][..])]);
    }

    #[test]
    fn lengths_that_lie_end_the_iteration() {
        let whole = Message::new(20, 0).attribute(7, &[1, 2, 3, 4]).finish(1);
        for cut in 0..whole.len() {
            assert_eq!(messages(&whole[..cut]).count(), 0, "cut at {cut}");
        }
        // A length below the header size would loop for ever if it were believed.
        assert_eq!(messages(&[0; 64]).count(), 0);
        assert_eq!(attributes(&[0; 64]).count(), 0);
        assert_eq!(attributes(&[200, 0, 1, 0, 5]).count(), 0);
    }

    #[test]
    fn errno_zero_is_an_acknowledgement() {
        assert!(errno(&0i32.to_ne_bytes()).is_none());
        let refused = errno(&(-libc::EEXIST).to_ne_bytes()).expect("an error");
        assert_eq!(refused.raw_os_error(), Some(libc::EEXIST));
        assert_eq!(
            errno(&[1]).expect("short").raw_os_error(),
            Some(libc::EBADMSG)
        );
    }
}
