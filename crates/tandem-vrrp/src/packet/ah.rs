//! The authentication header of v2's AuthType 2, in keepalived's dialect.
//!
//! It is not RFC 4302: the key is the eight password bytes, and the TTL counts as immutable in
//! multicast (where it must be 255) and as mutable in unicast. SPI is the source address, the
//! sequence is common to all senders of a router, the ICV is the first twelve bytes of HMAC-MD5.

use std::net::Ipv4Addr;

use hmac::{Hmac, KeyInit, Mac};
use md5::Md5;

use super::auth::PassKey;
use super::error::DecodeError;
use super::ipv4::PROTOCOL_VRRP;

/// Bytes of the header, ICV included.
pub const AH_LEN: usize = 24;
const ICV_LEN: usize = 12;
/// Length in 32-bit words less two (RFC 4302 2.2).
const PAYLOAD_LEN: u8 = 4;

/// The fields of an authentication header.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AhHeader {
    /// Security parameters index: keepalived puts the source address here.
    pub spi: Ipv4Addr,
    /// Beyond every one that was sent or heard before.
    pub sequence: u32,
    /// Proof over IP header, this header and message.
    pub icv: [u8; ICV_LEN],
}

impl AhHeader {
    /// The header that proves `message` behind `ip_header` (20 bytes) with `key`.
    pub fn seal(
        key: &PassKey,
        ip_header: &[u8],
        sequence: u32,
        spi: Ipv4Addr,
        message: &[u8],
    ) -> Self {
        let mut header = Self {
            spi,
            sequence,
            icv: [0; ICV_LEN],
        };
        let digest = header.mac(key, ip_header, message).finalize().into_bytes();
        header.icv.copy_from_slice(&digest[..ICV_LEN]);
        header
    }

    /// The 24 bytes.
    pub fn encode(&self) -> [u8; AH_LEN] {
        let mut bytes = [0; AH_LEN];
        bytes[0] = PROTOCOL_VRRP;
        bytes[1] = PAYLOAD_LEN;
        bytes[4..8].copy_from_slice(&self.spi.octets());
        bytes[8..12].copy_from_slice(&self.sequence.to_be_bytes());
        bytes[12..].copy_from_slice(&self.icv);
        bytes
    }

    /// Reads the header at the start of `bytes`; the message follows it.
    ///
    /// # Errors
    /// Too short, another next header, another length.
    pub fn decode(bytes: &[u8]) -> Result<(Self, &[u8]), DecodeError> {
        let (header, rest) = bytes
            .split_first_chunk::<AH_LEN>()
            .ok_or(DecodeError::Truncated {
                need: AH_LEN,
                got: bytes.len(),
            })?;
        if header[0] != PROTOCOL_VRRP {
            return Err(DecodeError::Protocol(header[0]));
        }
        if header[1] != PAYLOAD_LEN {
            return Err(DecodeError::AuthFailure);
        }
        let mut icv = [0; ICV_LEN];
        icv.copy_from_slice(&header[12..]);
        let fields = Self {
            spi: Ipv4Addr::new(header[4], header[5], header[6], header[7]),
            sequence: u32::from_be_bytes([header[8], header[9], header[10], header[11]]),
            icv,
        };
        Ok((fields, rest))
    }

    /// Whether the ICV proves `message` behind `ip_header`, compared in constant time.
    ///
    /// # Errors
    /// [`DecodeError::AuthFailure`].
    pub fn verify(
        &self,
        key: &PassKey,
        ip_header: &[u8],
        message: &[u8],
    ) -> Result<(), DecodeError> {
        self.mac(key, ip_header, message)
            .verify_truncated_left(&self.icv)
            .map_err(|_| DecodeError::AuthFailure)
    }

    fn mac(&self, key: &PassKey, ip_header: &[u8], message: &[u8]) -> Hmac<Md5> {
        let mut outer = ip_header.to_vec();
        // Mutable in transit: TOS, flags with fragment offset, checksum. The TTL of a group's
        // datagram may not change, so keepalived leaves it in; a unicast one may be routed.
        let multicast = outer
            .get(16)
            .is_some_and(|first| (224..240).contains(first));
        for at in [1, 6, 7, 10, 11] {
            if let Some(byte) = outer.get_mut(at) {
                *byte = 0;
            }
        }
        if let Some(ttl) = outer.get_mut(8).filter(|_| !multicast) {
            *ttl = 0;
        }
        let bare = Self {
            icv: [0; ICV_LEN],
            ..*self
        };
        let mut mac =
            Hmac::<Md5>::new_from_slice(key.bytes()).expect("HMAC takes a key of any length");
        mac.update(&outer);
        mac.update(&bare.encode());
        mac.update(message);
        mac
    }
}

#[cfg(test)]
mod tests {
    use super::super::Dialect;
    use super::super::ipv4::{Ipv4Header, PROTOCOL_AH};
    use super::super::message::{AuthField, Message};
    use super::*;
    use crate::types::{Version, Vrid};

    #[test]
    fn golden_advert() {
        let source = Ipv4Addr::new(10, 99, 0, 1);
        let group = Ipv4Addr::new(224, 0, 0, 18);
        let message = Message {
            version: Version::V2,
            vrid: Vrid::new(51).unwrap(),
            priority: 150,
            interval_units: 1,
            addresses: vec!["10.99.0.100".parse().unwrap()],
            auth: AuthField::Ah,
        }
        .encode(source.into(), group.into(), Dialect::A);
        assert_eq!(message[6..8], [0x3c, 0x03]);
        let ip = Ipv4Header {
            total_len: 64,
            id: 1,
            ttl: 255,
            protocol: PROTOCOL_AH,
            source,
            destination: group,
        };
        assert_eq!(20 + AH_LEN + message.len(), 64);
        let key = PassKey::new(b"secret12").unwrap();
        let header = AhHeader::seal(&key, &ip.encode(), 1, source, &message);
        assert_eq!(
            header.icv,
            [
                0xb4, 0xbc, 0x3b, 0xb3, 0xc3, 0x56, 0x90, 0xed, 0x98, 0xea, 0xf4, 0x97
            ]
        );

        let bytes = header.encode();
        assert_eq!(AhHeader::decode(&bytes), Ok((header, &[][..])));
        assert_eq!(header.verify(&key, &ip.encode(), &message), Ok(()));
        let other = PassKey::new(b"secret13").unwrap();
        assert_eq!(
            header.verify(&other, &ip.encode(), &message),
            Err(DecodeError::AuthFailure)
        );
        let closer = Ipv4Header { ttl: 254, ..ip };
        assert_eq!(
            header.verify(&key, &closer.encode(), &message),
            Err(DecodeError::AuthFailure)
        );
        let marked = {
            let mut b = ip.encode();
            b[1] = 0;
            b
        };
        assert_eq!(
            header.verify(&key, &marked, &message),
            Ok(()),
            "TOS may change on the way"
        );
    }

    #[test]
    fn a_unicast_ttl_may_change() {
        let (source, destination) = (Ipv4Addr::new(10, 99, 0, 1), Ipv4Addr::new(10, 99, 0, 2));
        let ip = Ipv4Header {
            total_len: 64,
            id: 9,
            ttl: 255,
            protocol: PROTOCOL_AH,
            source,
            destination,
        };
        let key = PassKey::new(b"k").unwrap();
        let header = AhHeader::seal(&key, &ip.encode(), 5, source, b"message");
        let routed = Ipv4Header { ttl: 250, ..ip };
        assert_eq!(header.verify(&key, &routed.encode(), b"message"), Ok(()));
        assert_eq!(
            header.verify(&key, &routed.encode(), b"massage"),
            Err(DecodeError::AuthFailure)
        );
    }
}
