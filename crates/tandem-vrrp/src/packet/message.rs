//! One VRRP message without context: v2 (RFC 3768 5.3) and v3 (RFC 9568 5.2).
//!
//! Decoding checks what the bytes themselves say: version, type, length, checksum. Whether the
//! message counts for a router is [`super::Receiver`]'s. The surprising thing: v2 always carries
//! eight authentication bytes, also with AuthType 0.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::Duration;

use super::checksum::{Dialect, internet_checksum, v3_checksum};
use super::error::DecodeError;
use crate::types::{Family, Version, Vrid};

/// Bytes before the addresses.
const HEADER_LEN: usize = 8;
/// The v2 authentication block.
const AUTH_LEN: usize = 8;
/// Largest v3 interval: 12 bits of hundredths of a second.
const CENTISECONDS_MAX: u16 = 0x0fff;

/// The v2 authentication block as it stands on the wire.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum AuthField {
    /// AuthType 0; the eight bytes are ignored on receipt and zero when sent.
    None,
    /// AuthType 1 and its eight bytes.
    Pass([u8; 8]),
    /// AuthType 2; the proof is in the AH header outside.
    Ah,
}

impl AuthField {
    fn type_number(self) -> u8 {
        match self {
            Self::None => 0,
            Self::Pass(_) => 1,
            Self::Ah => 2,
        }
    }
}

impl fmt::Display for AuthField {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::None => "none",
            Self::Pass(_) => "PASS",
            Self::Ah => "AH",
        })
    }
}

/// Shows the type only: a stranger's password may be the one of somebody's network.
impl fmt::Debug for AuthField {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// An ADVERTISEMENT.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Message {
    /// Protocol version; `auth` counts only in v2.
    pub version: Version,
    /// Which router.
    pub vrid: Vrid,
    /// 0 leaving, 255 owner.
    pub priority: u8,
    /// Advert interval in the unit of the version: seconds in v2, hundredths in v3 (12 bits).
    pub interval_units: u16,
    /// Addresses, all of the family of the datagram, at most 255.
    pub addresses: Vec<IpAddr>,
    /// v2 authentication block; [`AuthField::None`] in v3.
    pub auth: AuthField,
}

/// A message together with what only decoding knows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Decoded {
    /// The message.
    pub message: Message,
    /// Under which dialect the checksum fitted; always [`Dialect::C`] for v2 and
    /// [`Dialect::A`] for IPv6, which have only one.
    pub dialect: Dialect,
    /// Bytes of the message proper; what follows is a trailer or padding.
    pub len: usize,
}

impl Message {
    /// The interval as a duration.
    pub fn interval(&self) -> Duration {
        match self.version {
            Version::V2 => Duration::from_secs(self.interval_units.into()),
            Version::V3 => Duration::from_millis(10 * u64::from(self.interval_units)),
        }
    }

    /// The wire units of `interval`, cut to what the version's field can hold.
    pub fn units_of(version: Version, interval: Duration) -> u16 {
        let (units, max) = match version {
            Version::V2 => (u128::from(interval.as_secs()), 255),
            Version::V3 => (interval.as_millis() / 10, CENTISECONDS_MAX),
        };
        u16::try_from(units).unwrap_or(u16::MAX).min(max)
    }

    /// Bytes that this message takes.
    pub fn encoded_len(&self, family: Family) -> usize {
        message_len(self.version, self.addresses.len().min(255), family)
    }

    /// The bytes as sent from `source` to `destination`. `dialect` counts for v3 over IPv4.
    ///
    /// Addresses of another family than the source's are left out, as are those beyond 255:
    /// settings are checked for both before they get here.
    pub fn encode(&self, source: IpAddr, destination: IpAddr, dialect: Dialect) -> Vec<u8> {
        let family = Family::of(&source);
        let addresses = || {
            self.addresses
                .iter()
                .filter(|a| Family::of(a) == family)
                .take(255)
        };
        let count = u8::try_from(addresses().count()).expect("cut to 255 by take");
        let mut bytes = Vec::with_capacity(self.encoded_len(family));
        bytes.extend([
            (self.version.number() << 4) | 1,
            self.vrid.get(),
            self.priority,
            count,
        ]);
        match self.version {
            Version::V2 => {
                let seconds = u8::try_from(self.interval_units).unwrap_or(u8::MAX);
                bytes.extend([self.auth.type_number(), seconds]);
            }
            Version::V3 => bytes.extend((self.interval_units & CENTISECONDS_MAX).to_be_bytes()),
        }
        bytes.extend([0, 0]);
        for address in addresses() {
            match address {
                IpAddr::V4(address) => bytes.extend(address.octets()),
                IpAddr::V6(address) => bytes.extend(address.octets()),
            }
        }
        let checksum = match self.version {
            Version::V2 => {
                bytes.extend(match self.auth {
                    AuthField::Pass(data) => data,
                    AuthField::None | AuthField::Ah => [0; AUTH_LEN],
                });
                internet_checksum(&[&bytes])
            }
            Version::V3 => v3_checksum(&bytes, source, destination, dialect),
        };
        bytes[6..8].copy_from_slice(&checksum.to_be_bytes());
        bytes
    }

    /// Reads the message at the start of `bytes`, sent from `source` to `destination`.
    ///
    /// What follows the message is left to the caller, who knows about padding and trailers.
    ///
    /// # Errors
    /// Version, type, VRID 0, truncation and checksum, in this order; an unknown AuthType.
    pub fn decode(
        bytes: &[u8],
        source: IpAddr,
        destination: IpAddr,
    ) -> Result<Decoded, DecodeError> {
        let Some((header, _)) = bytes.split_first_chunk::<HEADER_LEN>() else {
            return Err(DecodeError::Truncated {
                need: HEADER_LEN,
                got: bytes.len(),
            });
        };
        let family = Family::of(&source);
        let version = match (header[0] >> 4, family) {
            (2, Family::Ipv4) => Version::V2,
            (3, Family::Ipv4 | Family::Ipv6) => Version::V3,
            (got, Family::Ipv4 | Family::Ipv6) => {
                return Err(DecodeError::Version {
                    got,
                    expected: None,
                });
            }
        };
        if header[0] & 0x0f != 1 {
            return Err(DecodeError::Type(header[0] & 0x0f));
        }
        let vrid = Vrid::new(header[1]).ok_or(DecodeError::Vrid(0))?;
        let count = usize::from(header[3]);
        let len = message_len(version, count, family);
        let Some(bytes) = bytes.get(..len) else {
            return Err(DecodeError::Truncated {
                need: len,
                got: bytes.len(),
            });
        };
        let dialect = verify(bytes, version, source, destination)?;
        let (body, trailing) = bytes[HEADER_LEN..].split_at(count * family.address_len());
        let (interval_units, auth) = match version {
            Version::V2 => (u16::from(header[5]), auth_field(header[4], trailing)?),
            Version::V3 => (
                u16::from_be_bytes([header[4], header[5]]) & CENTISECONDS_MAX,
                AuthField::None,
            ),
        };
        let message = Self {
            version,
            vrid,
            priority: header[2],
            interval_units,
            addresses: addresses(body, family),
            auth,
        };
        Ok(Decoded {
            message,
            dialect,
            len,
        })
    }
}

/// The VRID of a message, for a dispatcher that serves several routers and for a survey of which
/// are in use. Looks at nothing else.
pub fn peek_vrid(message: &[u8]) -> Option<Vrid> {
    message.get(1).copied().and_then(Vrid::new)
}

const fn message_len(version: Version, count: usize, family: Family) -> usize {
    let auth = match version {
        Version::V2 => AUTH_LEN,
        Version::V3 => 0,
    };
    HEADER_LEN + count * family.address_len() + auth
}

fn addresses(body: &[u8], family: Family) -> Vec<IpAddr> {
    match family {
        Family::Ipv4 => body
            .as_chunks::<4>()
            .0
            .iter()
            .map(|a| Ipv4Addr::from(*a).into())
            .collect(),
        Family::Ipv6 => body
            .as_chunks::<16>()
            .0
            .iter()
            .map(|a| Ipv6Addr::from(*a).into())
            .collect(),
    }
}

fn auth_field(type_number: u8, data: &[u8]) -> Result<AuthField, DecodeError> {
    match type_number {
        0 => Ok(AuthField::None),
        1 => {
            let data = data
                .first_chunk::<AUTH_LEN>()
                .expect("the length covers the authentication block");
            Ok(AuthField::Pass(*data))
        }
        2 => Ok(AuthField::Ah),
        unknown => Err(DecodeError::InvalidAuthType(unknown)),
    }
}

/// Tries the dialects in the order in which they are common. A checksum verifies if it equals the
/// one that we would send; 0000 and ffff are the same number in this arithmetic.
fn verify(
    bytes: &[u8],
    version: Version,
    source: IpAddr,
    destination: IpAddr,
) -> Result<Dialect, DecodeError> {
    let got = normal(u16::from_be_bytes([bytes[6], bytes[7]]));
    let mut zeroed = bytes.to_vec();
    zeroed[6..8].fill(0);
    let fits = |sum: u16| normal(sum) == got;
    match version {
        Version::V2 if fits(internet_checksum(&[&zeroed])) => Ok(Dialect::C),
        Version::V2 => Err(DecodeError::Checksum),
        Version::V3 => {
            let candidates: &[Dialect] = match source {
                IpAddr::V4(_) => &[Dialect::A, Dialect::B, Dialect::C],
                IpAddr::V6(_) => &[Dialect::A],
            };
            candidates
                .iter()
                .copied()
                .find(|dialect| fits(v3_checksum(&zeroed, source, destination, *dialect)))
                .ok_or(DecodeError::Checksum)
        }
    }
}

fn normal(sum: u16) -> u16 {
    if sum == 0xffff { 0 } else { sum }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SOURCE: &str = "10.99.0.1";

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    fn v3(priority: u8) -> Message {
        Message {
            version: Version::V3,
            vrid: Vrid::new(51).unwrap(),
            priority,
            interval_units: 10,
            addresses: vec![ip("10.99.0.100")],
            auth: AuthField::None,
        }
    }

    #[test]
    fn golden_v2_pass() {
        let message = Message {
            version: Version::V2,
            interval_units: 1,
            addresses: vec![ip("10.99.0.100"), ip("10.99.0.101")],
            auth: AuthField::Pass(*b"secret12"),
            ..v3(150)
        };
        let golden = [
            0x21, 0x33, 0x96, 0x02, 0x01, 0x01, 0xc4, 0xbb, 0x0a, 0x63, 0x00, 0x64, 0x0a, 0x63,
            0x00, 0x65, 0x73, 0x65, 0x63, 0x72, 0x65, 0x74, 0x31, 0x32,
        ];
        let bytes = message.encode(ip(SOURCE), ip("224.0.0.18"), Dialect::A);
        assert_eq!(bytes, golden);
        let decoded = Message::decode(&golden, ip(SOURCE), ip("224.0.0.18")).unwrap();
        assert_eq!(decoded.message, message);
        assert_eq!(decoded.len, 24);
        assert_eq!(decoded.message.interval(), Duration::from_secs(1));
    }

    #[test]
    fn golden_v3_ipv4_in_all_dialects() {
        for (priority, destination, dialect, checksum) in [
            (150, "224.0.0.18", Dialect::A, 0x4307u16),
            (150, "10.99.0.2", Dialect::A, 0x18b5),
            (150, "10.99.0.2", Dialect::B, 0x4307),
            (150, "224.0.0.18", Dialect::C, 0x2dfa),
            (150, "10.99.0.2", Dialect::C, 0x2dfa),
            (0, "224.0.0.18", Dialect::A, 0xd907),
        ] {
            let mut golden = vec![0x31, 0x33, priority, 0x01, 0x00, 0x0a];
            golden.extend(checksum.to_be_bytes());
            golden.extend([0x0a, 0x63, 0x00, 0x64]);
            let bytes = v3(priority).encode(ip(SOURCE), ip(destination), dialect);
            assert_eq!(bytes, golden, "{destination} {dialect:?}");
            let decoded = Message::decode(&golden, ip(SOURCE), ip(destination)).unwrap();
            assert_eq!((decoded.message, decoded.dialect), (v3(priority), dialect));
        }
    }

    #[test]
    fn golden_v3_ipv6() {
        let message = Message {
            interval_units: 100,
            addresses: vec![ip("fe80::100"), ip("2001:db8::100"), ip("2001:db8::101")],
            ..v3(150)
        };
        let (source, group) = (ip("fe80::2c55:36ff:fe8b:d58b"), ip("ff02::12"));
        let bytes = message.encode(source, group, Dialect::A);
        assert_eq!(bytes[6..8], [0xa5, 0xc6]);
        assert_eq!(
            Message::decode(&bytes, source, group).unwrap().message,
            message
        );
    }

    #[test]
    fn what_the_bytes_themselves_forbid() {
        let good = v3(150).encode(ip(SOURCE), ip("224.0.0.18"), Dialect::A);
        let decode =
            |bytes: &[u8]| Message::decode(bytes, ip(SOURCE), ip("224.0.0.18")).map(|d| d.len);
        assert_eq!(decode(&good), Ok(12));
        assert_eq!(
            decode(&good[..7]),
            Err(DecodeError::Truncated { need: 8, got: 7 })
        );
        assert_eq!(
            decode(&good[..11]),
            Err(DecodeError::Truncated { need: 12, got: 11 })
        );
        let with = |at: usize, value: u8| {
            let mut bytes = good.clone();
            bytes[at] = value;
            decode(&bytes)
        };
        assert_eq!(
            with(0, 0x41),
            Err(DecodeError::Version {
                got: 4,
                expected: None
            })
        );
        assert_eq!(with(0, 0x32), Err(DecodeError::Type(2)));
        assert_eq!(with(1, 0), Err(DecodeError::Vrid(0)));
        assert_eq!(with(2, 151), Err(DecodeError::Checksum));
    }

    #[test]
    fn reserved_bits_are_ignored_and_not_sent() {
        let mut bytes = v3(150).encode(ip(SOURCE), ip("224.0.0.18"), Dialect::C);
        bytes[4] |= 0xf0;
        bytes[6..8].fill(0);
        let sum = internet_checksum(&[&bytes]);
        bytes[6..8].copy_from_slice(&sum.to_be_bytes());
        let decoded = Message::decode(&bytes, ip(SOURCE), ip("224.0.0.18")).unwrap();
        assert_eq!(decoded.message, v3(150));
    }

    #[test]
    fn an_unknown_auth_type_and_v2_over_ipv6() {
        let message = Message {
            version: Version::V2,
            ..v3(100)
        };
        let mut bytes = message.encode(ip(SOURCE), ip("224.0.0.18"), Dialect::A);
        bytes[4] = 7;
        bytes[6..8].fill(0);
        let sum = internet_checksum(&[&bytes]);
        bytes[6..8].copy_from_slice(&sum.to_be_bytes());
        let decoded = Message::decode(&bytes, ip(SOURCE), ip("224.0.0.18"));
        assert_eq!(decoded, Err(DecodeError::InvalidAuthType(7)));
        let decoded = Message::decode(&bytes, ip("fe80::1"), ip("ff02::12"));
        assert_eq!(
            decoded,
            Err(DecodeError::Version {
                got: 2,
                expected: None
            })
        );
    }

    #[test]
    fn units_are_cut_to_the_field() {
        for (version, interval, units) in [
            (Version::V2, Duration::from_secs(3), 3),
            (Version::V2, Duration::from_secs(1000), 255),
            (Version::V3, Duration::from_millis(300), 30),
            (Version::V3, Duration::from_secs(41), 4095),
        ] {
            assert_eq!(Message::units_of(version, interval), units);
        }
    }
}
