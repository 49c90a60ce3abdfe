//! The frames of a question and of its answer: ARP (RFC 826, RFC 5227) and neighbour discovery (RFC 4861).
//!
//! Built and read by hand, down to Ethernet. An ARP question is a probe: its sender's IPv4 address is zero, so nobody's
//! table changes by it.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use tandem_vrrp::arp::Mac;
use tandem_vrrp::packet::internet_checksum;

const ETHERNET_LEN: usize = 14;
const ARP_FRAME_LEN: usize = ETHERNET_LEN + 28;
const IPV6_HEADER_LEN: usize = 40;
const ICMP_AT: usize = ETHERNET_LEN + IPV6_HEADER_LEN;
/// Type, code, checksum, flags, target.
const ICMP_LEN: usize = 24;
/// An option with a hardware address.
const OPTION_LEN: usize = 8;
const BROADCAST: Mac = [0xff; 6];
/// Ethernet, IPv4, and the lengths of their addresses.
const ARP_OF_IPV4: [u8; 6] = [0, 1, 8, 0, 6, 4];
const NEXT_HEADER_ICMPV6: u8 = 58;
const TYPE_SOLICITATION: u8 = 135;
const TYPE_ADVERTISEMENT: u8 = 136;
const OPTION_SOURCE: u8 = 1;
const OPTION_TARGET: u8 = 2;

/// EtherType of ARP.
pub(super) const ARP: u16 = 0x0806;
/// EtherType of IPv6.
pub(super) const IPV6: u16 = 0x86dd;
/// Where an ARP frame names the IPv4 address that its sender has.
pub(super) const ARP_SENDER_AT: usize = 28;
/// Where an IPv6 frame names its next header.
pub(super) const NEXT_HEADER_AT: usize = 20;
/// Where the last word of the address stands that an advertisement is about.
pub(super) const TARGET_TAIL_AT: usize = ICMP_AT + 20;
/// Next header and ICMP type of an advertisement, each with its place.
pub(super) const ADVERTISEMENT: [(usize, u8); 2] = [
    (NEXT_HEADER_AT, NEXT_HEADER_ICMPV6),
    (ICMP_AT, TYPE_ADVERTISEMENT),
];

/// Who has `address`? Broadcast; the answer comes to `mac`.
pub(super) fn arp_probe(mac: Mac, address: Ipv4Addr) -> Vec<u8> {
    let mut frame = Vec::with_capacity(ARP_FRAME_LEN);
    frame.extend_from_slice(&BROADCAST);
    frame.extend_from_slice(&mac);
    frame.extend_from_slice(&ARP.to_be_bytes());
    frame.extend_from_slice(&ARP_OF_IPV4);
    frame.extend_from_slice(&[0, 1]);
    frame.extend_from_slice(&mac);
    frame.extend_from_slice(&[0; 4]);
    frame.extend_from_slice(&[0; 6]);
    frame.extend_from_slice(&address.octets());
    frame
}

/// Who has `address`? To its solicited-node group. Without a source it is the question of duplicate address
/// detection (RFC 4862 section 5.4.2): the answer goes to all nodes, and a host that is just taking the address gives it
/// up. With one, the answer comes to it, and a host that is just taking the address is not disturbed.
pub(super) fn solicitation(mac: Mac, source: Option<Ipv6Addr>, address: Ipv6Addr) -> Vec<u8> {
    let [.., a, b, c] = address.octets();
    let group = Ipv6Addr::new(
        0xff02,
        0,
        0,
        0,
        0,
        1,
        u16::from_be_bytes([0xff, a]),
        u16::from_be_bytes([b, c]),
    );
    let mut icmp = vec![TYPE_SOLICITATION, 0, 0, 0, 0, 0, 0, 0];
    icmp.extend_from_slice(&address.octets());
    if source.is_some() {
        icmp.extend_from_slice(&[OPTION_SOURCE, 1]);
        icmp.extend_from_slice(&mac);
    }
    let source = source.unwrap_or(Ipv6Addr::UNSPECIFIED);
    let length = u8::try_from(icmp.len()).expect("24 or 32");
    let checksum = icmp_checksum(source, group, &icmp);
    icmp[2..4].copy_from_slice(&checksum.to_be_bytes());

    let mut frame = vec![0x33, 0x33, 0xff, a, b, c];
    frame.extend_from_slice(&mac);
    frame.extend_from_slice(&IPV6.to_be_bytes());
    frame.extend_from_slice(&[0x60, 0, 0, 0, 0, length, NEXT_HEADER_ICMPV6, 255]);
    frame.extend_from_slice(&source.octets());
    frame.extend_from_slice(&group.octets());
    frame.extend_from_slice(&icmp);
    frame
}

fn icmp_checksum(source: Ipv6Addr, destination: Ipv6Addr, icmp: &[u8]) -> u16 {
    let length = u32::try_from(icmp.len()).unwrap_or(u32::MAX).to_be_bytes();
    let next_header = [0, 0, 0, NEXT_HEADER_ICMPV6];
    internet_checksum(&[
        &source.octets(),
        &destination.octets(),
        &length,
        &next_header,
        icmp,
    ])
}

/// The address that a frame's sender says it has, and at which hardware address. Any ARP packet says so, a question as
/// well as an answer (RFC 5227 section 2.1.1); of IPv6, an advertisement from this segment.
pub(super) fn claim(frame: &[u8]) -> Option<(IpAddr, Mac)> {
    let kind = u16::from_be_bytes(*frame.get(12..14)?.first_chunk()?);
    match kind {
        ARP => arp_claim(frame),
        IPV6 => advertised(frame),
        _ => None,
    }
}

fn arp_claim(frame: &[u8]) -> Option<(IpAddr, Mac)> {
    let body = frame.get(ETHERNET_LEN..ARP_FRAME_LEN)?;
    if !body.starts_with(&ARP_OF_IPV4) || !matches!(body[6..8], [0, 1 | 2]) {
        return None;
    }
    let address = Ipv4Addr::from(*body[14..].first_chunk::<4>()?);
    (!address.is_unspecified()).then_some((address.into(), *body[8..].first_chunk()?))
}

fn advertised(frame: &[u8]) -> Option<(IpAddr, Mac)> {
    let header = frame.get(ETHERNET_LEN..ICMP_AT)?;
    let length = usize::from(u16::from_be_bytes([header[4], header[5]]));
    // A hop limit of 255 proves that no router passed it on.
    if header[0] >> 4 != 6 || header[6..8] != [NEXT_HEADER_ICMPV6, 255] || length < ICMP_LEN {
        return None;
    }
    let icmp = frame.get(ICMP_AT..ICMP_AT + length)?;
    let address = |at: usize| Some(Ipv6Addr::from(*header[at..].first_chunk::<16>()?));
    let sound = icmp_checksum(address(8)?, address(24)?, icmp) == 0;
    if !sound || icmp[..2] != [TYPE_ADVERTISEMENT, 0] {
        return None;
    }
    let target = Ipv6Addr::from(*icmp[8..].first_chunk::<16>()?);
    let named = target_option(&icmp[ICMP_LEN..]);
    let mac = named.or_else(|| frame[6..].first_chunk().copied())?;
    Some((target.into(), mac))
}

/// The hardware address in an advertisement's options.
fn target_option(mut options: &[u8]) -> Option<Mac> {
    loop {
        let (kind, units) = (*options.first()?, usize::from(*options.get(1)?));
        if (kind, units * OPTION_LEN) == (OPTION_TARGET, OPTION_LEN) {
            return options.get(2..)?.first_chunk().copied();
        }
        // A length of nothing would never end.
        options = options.get((units * OPTION_LEN).max(OPTION_LEN)..)?;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MAC: Mac = [2, 0, 0, 0, 0, 7];

    /// RFC 826's layout, byte by byte.
    #[test]
    fn a_probe_has_no_sender_and_an_answer_has() {
        let vip = Ipv4Addr::new(10, 0, 0, 100);
        let probe = arp_probe(MAC, vip);
        #[rustfmt::skip]
        let expected = [
            0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 2, 0, 0, 0, 0, 7, 0x08, 0x06,
            0, 1, 8, 0, 6, 4, 0, 1, 2, 0, 0, 0, 0, 7, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 10, 0, 0, 100,
        ];
        assert_eq!(probe, expected);
        assert_eq!(claim(&probe), None);
        let mut answer = probe;
        answer[21] = 2;
        answer[ARP_SENDER_AT..ARP_SENDER_AT + 4].copy_from_slice(&vip.octets());
        assert_eq!(claim(&answer), Some((vip.into(), MAC)));
        // Another operation, another protocol, a piece of it.
        for (at, value) in [(21, 3), (16, 9), (12, 9)] {
            let mut other = answer.clone();
            other[at] = value;
            assert_eq!(claim(&other), None, "{at}");
        }
        assert_eq!(claim(&answer[..ARP_FRAME_LEN - 1]), None);
    }

    /// What `tandem-vrrp` announces with, which another implementation has read.
    #[test]
    fn an_advertisement_is_a_claim_unless_it_is_damaged_or_from_afar() {
        let vip: Ipv6Addr = "2001:db8::100".parse().unwrap();
        let frame = tandem_vrrp::ndisc::unsolicited(MAC, vip, false);
        assert_eq!(claim(&frame), Some((vip.into(), MAC)));
        for (at, what) in [
            (21, "hop limit"),
            (ICMP_AT, "type"),
            (ICMP_AT + 9, "target"),
        ] {
            let mut other = frame;
            other[at] ^= 1;
            assert_eq!(claim(&other), None, "{what}");
        }
        for length in 0..frame.len() {
            assert_eq!(claim(&frame[..length]), None, "{length}");
        }
        assert_eq!(
            frame[TARGET_TAIL_AT..TARGET_TAIL_AT + 4],
            vip.octets()[12..]
        );
        for (at, value) in ADVERTISEMENT {
            assert_eq!(frame[at], value);
        }
    }

    #[test]
    fn options_of_any_order_and_of_no_length_end() {
        let target = [&[OPTION_TARGET, 1][..], &MAC].concat();
        let other = [14, 1, 9, 9, 9, 9, 9, 9];
        assert_eq!(target_option(&target), Some(MAC));
        assert_eq!(target_option(&[&other[..], &target].concat()), Some(MAC));
        assert_eq!(target_option(&other), None);
        assert_eq!(target_option(&[0; 64]), None);
        assert_eq!(target_option(&target[..7]), None);
    }
}
