//! The IPv4 header in front of an advert: written for `IP_HDRINCL`, read from a raw socket.
//!
//! Values are keepalived's: no options, TOS C0 (CS6), no flags, identification from its own counter.
//! The kernel fills length and checksum on sending whatever we write; they are right all the same,
//! because AH signs the header and tests compare bytes.

use std::net::Ipv4Addr;

use super::checksum::internet_checksum;
use super::error::DecodeError;

/// IP protocol number of VRRP.
pub const PROTOCOL_VRRP: u8 = 112;
/// IP protocol number of AH.
pub const PROTOCOL_AH: u8 = 51;
/// TOS or traffic class of adverts: class selector 6, network control.
pub const TOS_CS6: u8 = 0xc0;
/// Length without options.
const HEADER_LEN: usize = 20;

/// The fields of an IPv4 header that matter here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ipv4Header {
    /// Length of header and payload in bytes.
    pub total_len: u16,
    /// Identification; 0 lets the kernel choose, which AH would not survive.
    pub id: u16,
    /// Time to live.
    pub ttl: u8,
    /// [`PROTOCOL_VRRP`] or [`PROTOCOL_AH`].
    pub protocol: u8,
    /// Sender.
    pub source: Ipv4Addr,
    /// Group or peer.
    pub destination: Ipv4Addr,
}

impl Ipv4Header {
    /// The 20 bytes, checksum included.
    pub fn encode(&self) -> [u8; HEADER_LEN] {
        let mut bytes = [0; HEADER_LEN];
        bytes[0] = 0x45;
        bytes[1] = TOS_CS6;
        bytes[2..4].copy_from_slice(&self.total_len.to_be_bytes());
        bytes[4..6].copy_from_slice(&self.id.to_be_bytes());
        bytes[8] = self.ttl;
        bytes[9] = self.protocol;
        bytes[12..16].copy_from_slice(&self.source.octets());
        bytes[16..].copy_from_slice(&self.destination.octets());
        let checksum = internet_checksum(&[&bytes]);
        bytes[10..12].copy_from_slice(&checksum.to_be_bytes());
        bytes
    }

    /// Reads the header at the start of a datagram; also its length with options.
    ///
    /// The header checksum is the kernel's business and not looked at: it has verified it.
    ///
    /// # Errors
    /// [`DecodeError::IpHeader`] if it is not IPv4 or cut off.
    pub fn decode(bytes: &[u8]) -> Result<(Self, usize), DecodeError> {
        let (header, _) = bytes
            .split_first_chunk::<HEADER_LEN>()
            .ok_or(DecodeError::IpHeader)?;
        let len = usize::from(header[0] & 0x0f) * 4;
        if header[0] >> 4 != 4 || len < HEADER_LEN || bytes.len() < len {
            return Err(DecodeError::IpHeader);
        }
        let address =
            |at: usize| Ipv4Addr::new(header[at], header[at + 1], header[at + 2], header[at + 3]);
        let fields = Self {
            total_len: u16::from_be_bytes([header[2], header[3]]),
            id: u16::from_be_bytes([header[4], header[5]]),
            ttl: header[8],
            protocol: header[9],
            source: address(12),
            destination: address(16),
        };
        Ok((fields, len))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn another_implementation_reads_the_same() {
        let header = Ipv4Header {
            total_len: 32,
            id: 7,
            ttl: 255,
            protocol: PROTOCOL_VRRP,
            source: Ipv4Addr::new(10, 99, 0, 1),
            destination: Ipv4Addr::new(224, 0, 0, 18),
        };
        let bytes = header.encode();
        let (theirs, _) = etherparse::Ipv4Header::from_slice(&bytes).unwrap();
        assert_eq!(theirs.header_checksum, theirs.calc_header_checksum());
        assert_eq!(theirs.total_len, 32);
        assert_eq!(theirs.dscp.value(), 48, "class selector 6");
        assert!(!theirs.dont_fragment);
        assert_eq!(theirs.protocol.0, 112);
        assert_eq!((theirs.identification, theirs.time_to_live), (7, 255));
        assert_eq!(theirs.source, [10, 99, 0, 1]);
        assert_eq!(theirs.destination, [224, 0, 0, 18]);
        assert_eq!(Ipv4Header::decode(&bytes), Ok((header, 20)));
    }

    #[test]
    fn headers_that_are_none() {
        let good = [0x45; 20];
        assert!(Ipv4Header::decode(&good).is_ok());
        assert_eq!(Ipv4Header::decode(&good[..19]), Err(DecodeError::IpHeader));
        for first in [0x65, 0x44, 0x46] {
            let mut bytes = good;
            bytes[0] = first;
            assert_eq!(
                Ipv4Header::decode(&bytes),
                Err(DecodeError::IpHeader),
                "{first:#x}"
            );
        }
    }
}
