//! Gratuitous ARP: the frame that tells a segment where an IPv4 address lives now (RFC 5227 3).
//!
//! keepalived sends the request form. Some stacks honour only replies; Linux counts a reply as
//! gratuitous only if its target MAC is the sender's, so the reply form carries that.

use std::net::Ipv4Addr;

/// A hardware address.
pub type Mac = [u8; 6];

/// Bytes of the frame without Ethernet's padding.
pub const FRAME_LEN: usize = 42;
const BROADCAST: Mac = [0xff; 6];
const ETHERTYPE_ARP: [u8; 2] = [0x08, 0x06];

/// Which of the two forms.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// Operation 1, target MAC all ones: what keepalived sends.
    Request,
    /// Operation 2, target MAC the sender's.
    Reply,
}

/// The broadcast Ethernet frame that says `address` is at `mac`.
pub fn gratuitous(mac: Mac, address: Ipv4Addr, form: Form) -> [u8; FRAME_LEN] {
    let (operation, target_mac) = match form {
        Form::Request => (1, BROADCAST),
        Form::Reply => (2, mac),
    };
    let mut frame = [0; FRAME_LEN];
    frame[..6].copy_from_slice(&BROADCAST);
    frame[6..12].copy_from_slice(&mac);
    frame[12..14].copy_from_slice(&ETHERTYPE_ARP);
    // Ethernet, IPv4, address lengths 6 and 4.
    frame[14..20].copy_from_slice(&[0, 1, 8, 0, 6, 4]);
    frame[21] = operation;
    frame[22..28].copy_from_slice(&mac);
    frame[28..32].copy_from_slice(&address.octets());
    frame[32..38].copy_from_slice(&target_mac);
    frame[38..].copy_from_slice(&address.octets());
    frame
}

#[cfg(test)]
mod tests {
    use etherparse::{ArpOperation, LinkSlice, NetSlice, SlicedPacket};

    use super::*;

    #[test]
    fn another_implementation_reads_both_forms() {
        let mac = [0x02, 0, 0, 0, 0, 0x0a];
        let address = Ipv4Addr::new(10, 99, 0, 100);
        for (form, operation, target) in [
            (Form::Request, ArpOperation::REQUEST, BROADCAST),
            (Form::Reply, ArpOperation::REPLY, mac),
        ] {
            let frame = gratuitous(mac, address, form);
            let packet = SlicedPacket::from_ethernet(&frame).unwrap();
            let Some(LinkSlice::Ethernet2(ethernet)) = &packet.link else {
                panic!("no Ethernet header")
            };
            assert_eq!(
                (ethernet.destination(), ethernet.source()),
                (BROADCAST, mac)
            );
            let Some(NetSlice::Arp(arp)) = &packet.net else {
                panic!("not ARP")
            };
            assert_eq!(arp.operation(), operation);
            assert_eq!(
                (arp.sender_hw_addr(), arp.target_hw_addr()),
                (&mac[..], &target[..])
            );
            assert_eq!(arp.sender_protocol_addr(), address.octets());
            assert_eq!(arp.target_protocol_addr(), address.octets());
        }
    }
}
