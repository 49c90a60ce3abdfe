//! The internet checksum (RFC 1071) and the three ways v3 over IPv4 applies it.
//!
//! The dialects do not interoperate, so the receiver accepts each and reports which one a peer
//! speaks; IPv6 has only one way, with the pseudo header of RFC 8200.

use std::net::{IpAddr, Ipv4Addr};

use super::ipv4::PROTOCOL_VRRP;
use crate::settings::GROUP_V4;

/// How a v3 IPv4 checksum is computed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Dialect {
    /// With a pseudo header of the real source and destination: keepalived since 1.3.7.
    A,
    /// With a pseudo header whose destination is always the multicast group: keepalived until 1.3.6
    /// in unicast. In multicast it equals A, and is reported as A.
    B,
    /// Without a pseudo header: RFC 9568 5.2.8, Cisco, holo, keepalived's `v3_checksum_as_v2`.
    C,
}

/// The checksum of RFC 1071 over `parts` laid end to end; each part but the last has even length.
pub fn internet_checksum(parts: &[&[u8]]) -> u16 {
    let mut sum = 0u64;
    for part in parts {
        let mut words = part.chunks_exact(2);
        for word in &mut words {
            sum += u64::from(u16::from_be_bytes([word[0], word[1]]));
        }
        if let [last] = words.remainder() {
            sum += u64::from(*last) << 8;
        }
    }
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !u16::try_from(sum).expect("folded to 16 bits by the loop above")
}

/// The checksum of a v3 message whose checksum field is zero.
///
/// `source` and `destination` of different families cannot be on one datagram; for such a pair
/// the result is the plain checksum of dialect C.
pub(super) fn v3_checksum(
    message: &[u8],
    source: IpAddr,
    destination: IpAddr,
    dialect: Dialect,
) -> u16 {
    match (source, destination) {
        (IpAddr::V4(source), IpAddr::V4(destination)) => match dialect {
            Dialect::A => with_pseudo_v4(message, source, destination),
            Dialect::B => with_pseudo_v4(message, source, GROUP_V4),
            Dialect::C => internet_checksum(&[message]),
        },
        (IpAddr::V6(source), IpAddr::V6(destination)) => {
            let mut pseudo = [0u8; 40];
            pseudo[..16].copy_from_slice(&source.octets());
            pseudo[16..32].copy_from_slice(&destination.octets());
            let length = u32::try_from(message.len()).unwrap_or(u32::MAX);
            pseudo[32..36].copy_from_slice(&length.to_be_bytes());
            pseudo[39] = PROTOCOL_VRRP;
            internet_checksum(&[&pseudo, message])
        }
        (IpAddr::V4(_), IpAddr::V6(_)) | (IpAddr::V6(_), IpAddr::V4(_)) => {
            internet_checksum(&[message])
        }
    }
}

fn with_pseudo_v4(message: &[u8], source: Ipv4Addr, destination: Ipv4Addr) -> u16 {
    let mut pseudo = [0u8; 12];
    pseudo[..4].copy_from_slice(&source.octets());
    pseudo[4..8].copy_from_slice(&destination.octets());
    pseudo[9] = PROTOCOL_VRRP;
    let length = u16::try_from(message.len()).unwrap_or(u16::MAX);
    pseudo[10..].copy_from_slice(&length.to_be_bytes());
    internet_checksum(&[&pseudo, message])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sums_of_rfc_1071() {
        // The worked example of RFC 1071 section 3: the sum is ddf2, the checksum its complement.
        let data = [0x00, 0x01, 0xf2, 0x03, 0xf4, 0xf5, 0xf6, 0xf7];
        assert_eq!(internet_checksum(&[&data]), !0xddf2);
        assert_eq!(internet_checksum(&[&data[..4], &data[4..]]), !0xddf2);
        assert_eq!(internet_checksum(&[]), 0xffff);
        assert_eq!(
            internet_checksum(&[&[0xab]]),
            !0xab00,
            "an odd byte is padded on the right"
        );
    }
}
