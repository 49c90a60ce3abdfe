//! Unsolicited neighbour advertisement: the IPv6 counterpart of gratuitous ARP (RFC 4861 7.2.6).
//!
//! Built by hand down to Ethernet, so that it can leave before the kernel considers the address
//! usable. Override is set, Solicited clear; Router is the caller's choice: RFC 9568 wants it for
//! routers, a host that serves a database must not be taken for one.

use std::net::Ipv6Addr;

use crate::arp::Mac;
use crate::packet::internet_checksum;

/// Bytes of the frame.
pub const FRAME_LEN: usize = 14 + 40 + ICMP_LEN;
/// Advertisement of 24 bytes and the target link-layer option of 8.
const ICMP_LEN: usize = 32;
const ALL_NODES_MAC: Mac = [0x33, 0x33, 0, 0, 0, 1];
const ALL_NODES: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1);
const NEXT_HEADER_ICMPV6: u8 = 58;
const TYPE_NEIGHBOUR_ADVERTISEMENT: u8 = 136;
const FLAG_ROUTER: u8 = 0x80;
const FLAG_OVERRIDE: u8 = 0x20;

/// The Ethernet frame to all nodes that says `address` is at `mac`. `router` sets the R flag.
pub fn unsolicited(mac: Mac, address: Ipv6Addr, router: bool) -> [u8; FRAME_LEN] {
    let mut icmp = [0; ICMP_LEN];
    icmp[0] = TYPE_NEIGHBOUR_ADVERTISEMENT;
    icmp[4] = FLAG_OVERRIDE | if router { FLAG_ROUTER } else { 0 };
    icmp[8..24].copy_from_slice(&address.octets());
    // Target link-layer address, one unit of eight bytes.
    icmp[24..26].copy_from_slice(&[2, 1]);
    icmp[26..].copy_from_slice(&mac);
    let pseudo_tail = [0, 0, 0, ICMP_LEN as u8, 0, 0, 0, NEXT_HEADER_ICMPV6];
    let checksum =
        internet_checksum(&[&address.octets(), &ALL_NODES.octets(), &pseudo_tail, &icmp]);
    icmp[2..4].copy_from_slice(&checksum.to_be_bytes());

    let mut frame = [0; FRAME_LEN];
    frame[..6].copy_from_slice(&ALL_NODES_MAC);
    frame[6..12].copy_from_slice(&mac);
    frame[12..14].copy_from_slice(&[0x86, 0xdd]);
    frame[14] = 0x60;
    frame[19] = ICMP_LEN as u8;
    frame[20] = NEXT_HEADER_ICMPV6;
    frame[21] = 255;
    frame[22..38].copy_from_slice(&address.octets());
    frame[38..54].copy_from_slice(&ALL_NODES.octets());
    frame[54..].copy_from_slice(&icmp);
    frame
}

#[cfg(test)]
mod tests {
    use etherparse::{LinkSlice, NetSlice, SlicedPacket, TransportSlice};

    use super::*;

    #[test]
    fn another_implementation_reads_the_frame() {
        let mac = [0x02, 0, 0, 0, 0, 0x0a];
        let address: Ipv6Addr = "2001:db8::100".parse().unwrap();
        for (router, flags) in [(false, 0x20), (true, 0xa0)] {
            let frame = unsolicited(mac, address, router);
            let packet = SlicedPacket::from_ethernet(&frame).unwrap();
            let Some(LinkSlice::Ethernet2(ethernet)) = &packet.link else {
                panic!("no Ethernet header")
            };
            assert_eq!(
                (ethernet.destination(), ethernet.source()),
                (ALL_NODES_MAC, mac)
            );
            let Some(NetSlice::Ipv6(ip)) = &packet.net else {
                panic!("not IPv6")
            };
            assert_eq!(ip.header().hop_limit(), 255);
            assert_eq!(
                (ip.header().source_addr(), ip.header().destination_addr()),
                (address, ALL_NODES)
            );
            let Some(TransportSlice::Icmpv6(icmp)) = &packet.transport else {
                panic!("not ICMPv6")
            };
            assert!(icmp.is_checksum_valid(address.octets(), ALL_NODES.octets()));
            assert_eq!((icmp.type_u8(), icmp.code_u8()), (136, 0));
            let body = icmp.slice();
            assert_eq!(body[4], flags);
            assert_eq!(body[8..24], address.octets());
            assert_eq!(body[24..], [2, 1, 2, 0, 0, 0, 0, 0x0a]);
        }
    }
}
