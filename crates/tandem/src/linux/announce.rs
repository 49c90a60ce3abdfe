//! Sends ready-made Ethernet frames that tell neighbours where a VIP lives now.
//!
//! The frames, gratuitous ARP in both forms and unsolicited neighbour advertisements, are built by `tandem-vrrp`;
//! repetition and pacing are the VRRP machine's. This module only owns one packet socket per interface. Frames go
//! out below the IP layer, so an advertisement may leave before its address is usable, and nftables' inet hooks do
//! not see it. On a bond, open the bond, not its ports: a frame from a port would teach the switch a wrong path.

use std::io;
use std::num::NonZeroU32;

use socket2::{Domain, Socket, Type};

use super::sys;

/// Ethernet header plus the shortest payload we send (ARP, 28 bytes).
const FRAME_LEN_MIN: usize = 14 + 28;

/// Sends frames out of one interface.
#[derive(Debug)]
pub(crate) struct Announcer {
    socket: Socket,
    interface_index: u32,
}

impl Announcer {
    /// Opens a packet socket on the interface. It receives nothing, so it never fills up. Needs `CAP_NET_RAW`.
    ///
    /// # Errors
    /// `ENODEV` if there is no such interface; it has to be opened again after the interface was re-created.
    pub(crate) fn open(interface_index: NonZeroU32) -> io::Result<Self> {
        let socket = Socket::new(Domain::PACKET, Type::RAW.nonblocking().cloexec(), None)?;
        sys::bind_packet_send_only(&socket, interface_index.get())?;
        Ok(Self {
            socket,
            interface_index: interface_index.get(),
        })
    }

    /// The interface this was opened for.
    pub(crate) fn interface_index(&self) -> u32 {
        self.interface_index
    }

    /// Sends one complete Ethernet frame.
    ///
    /// # Errors
    /// `InvalidInput` for a frame too short to be one; `ENETDOWN` or `ENXIO` if the interface is down or gone;
    /// `WouldBlock` if the device queue is full. Sending again later is always safe: announcements repeat.
    pub(crate) fn send(&self, frame: &[u8]) -> io::Result<()> {
        if frame.len() < FRAME_LEN_MIN {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        let sent = self.socket.send(frame)?;
        if sent == frame.len() {
            Ok(())
        } else {
            Err(io::ErrorKind::WriteZero.into())
        }
    }

    /// Sends a round of frames back to back. Returns how many left and the first error; an error does not keep
    /// the remaining frames from being tried, because each may be for another VIP.
    pub(crate) fn send_all<'a>(
        &self,
        frames: impl IntoIterator<Item = &'a [u8]>,
    ) -> (usize, Option<io::Error>) {
        let mut sent = 0;
        let mut first_error = None;
        for frame in frames {
            match self.send(frame) {
                Ok(()) => sent += 1,
                Err(error) => first_error = first_error.or(Some(error)),
            }
        }
        (sent, first_error)
    }
}
