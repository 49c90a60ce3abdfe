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
}

impl Announcer {
    /// Opens a packet socket on the interface. It receives nothing, so it never fills up. Needs `CAP_NET_RAW`.
    ///
    /// # Errors
    /// `ENODEV` if there is no such interface; it has to be opened again after the interface was re-created.
    pub(crate) fn open(interface_index: NonZeroU32) -> io::Result<Self> {
        let socket = Socket::new(Domain::PACKET, Type::RAW.nonblocking().cloexec(), None)?;
        sys::bind_packet(&socket, interface_index.get(), 0)?;
        Ok(Self { socket })
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
}

#[cfg(test)]
mod tests {
    use std::io::Read;
    use std::time::Duration;

    use socket2::Protocol;

    use super::super::addr::Addresses;
    use super::super::testing::{in_namespace, run, veth_pair};
    use super::*;

    /// Not a protocol that the kernel itself sends: one for local experiments (IEEE 802).
    const EXPERIMENT: [u8; 2] = [0x88, 0xb5];

    fn frame(mark: u8) -> Vec<u8> {
        let mut frame = vec![0xff; 6];
        frame.extend_from_slice(&[2, 0, 0, 0, 0, 1]);
        frame.extend_from_slice(&EXPERIMENT);
        frame.resize(60, mark);
        frame
    }

    #[test]
    fn frames_leave_as_they_are() {
        in_namespace("frames_leave_as_they_are", async || {
            veth_pair("v0", "v1");
            let protocol = Protocol::from(i32::from(u16::from_ne_bytes(EXPERIMENT)));
            let mut far_end =
                Socket::new(Domain::PACKET, Type::RAW, Some(protocol)).expect("a packet socket");
            far_end
                .set_read_timeout(Some(Duration::from_secs(5)))
                .expect("set");
            let index = Addresses::open()
                .expect("netlink")
                .link("v0")
                .expect("links")
                .expect("v0")
                .index;
            let announcer = Announcer::open(index).expect("an announcer");
            let frames = [frame(1), frame(2)];
            for frame in &frames {
                announcer.send(frame).expect("sent");
            }
            for frame in &frames {
                let mut received = [0; 128];
                let length = far_end.read(&mut received).expect("a frame");
                assert_eq!(&received[..length], frame);
            }
            assert_eq!(
                announcer.send(&[0; 41]).expect_err("too short").kind(),
                io::ErrorKind::InvalidInput
            );
            run(&["ip", "link", "set", "v0", "down"]);
            let error = announcer.send(&frames[0]).expect_err("down");
            assert_eq!(error.raw_os_error(), Some(libc::ENETDOWN));
        });
    }
}
