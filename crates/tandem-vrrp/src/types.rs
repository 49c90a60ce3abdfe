//! The small words of VRRP: which router, which version, which address family, which priority.
//!
//! Each is a value that cannot be out of range once it exists; where a field of the wire may hold
//! more than our own settings may, two types say so (`Priority` is ours, a plain `u8` is theirs).

use std::fmt;
use std::net::IpAddr;
use std::num::NonZeroU8;

/// Virtual router identifier, 1..=255 (RFC 9568 5.2.3). Its namespace is one interface and one
/// address family.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Vrid(NonZeroU8);

impl Vrid {
    /// The identifier `value`, or `None` for 0, which the protocol does not have.
    pub const fn new(value: u8) -> Option<Self> {
        match NonZeroU8::new(value) {
            Some(value) => Some(Self(value)),
            None => None,
        }
    }

    /// The number as it stands on the wire.
    pub const fn get(self) -> u8 {
        self.0.get()
    }
}

impl fmt::Display for Vrid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// A priority that a host can be given, 1..=255. On the wire there is also 0, "I am leaving",
/// which nobody is configured with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Priority(NonZeroU8);

impl Priority {
    /// 100, what RFC 9568 and keepalived take when nothing is said.
    pub const DEFAULT: Self = Self(NonZeroU8::new(100).expect("100 is not zero"));
    /// 255, the owner of the addresses.
    pub const OWNER: Self = Self(NonZeroU8::MAX);

    /// The priority `value`, or `None` for 0.
    pub const fn new(value: u8) -> Option<Self> {
        match NonZeroU8::new(value) {
            Some(value) => Some(Self(value)),
            None => None,
        }
    }

    /// The number as it stands on the wire.
    pub const fn get(self) -> u8 {
        self.0.get()
    }

    /// Whether this is the address owner's priority, which no weight changes.
    pub const fn is_owner(self) -> bool {
        self.get() == 255
    }
}

impl fmt::Display for Priority {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Protocol version. One router speaks one of them: keepalived has no dual mode, nor do we.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Version {
    /// RFC 3768 with the authentication of RFC 2338; IPv4 only, whole seconds.
    V2,
    /// RFC 9568; both families, hundredths of a second.
    V3,
}

impl Version {
    /// The number in the upper half of the first byte.
    pub const fn number(self) -> u8 {
        match self {
            Self::V2 => 2,
            Self::V3 => 3,
        }
    }
}

/// Address family of the virtual router, which is also that of its adverts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Family {
    /// IPv4, protocol 112 to 224.0.0.18.
    Ipv4,
    /// IPv6, next header 112 to ff02::12.
    Ipv6,
}

impl Family {
    /// The family that `address` belongs to.
    pub const fn of(address: &IpAddr) -> Self {
        match address {
            IpAddr::V4(_) => Self::Ipv4,
            IpAddr::V6(_) => Self::Ipv6,
        }
    }

    /// Bytes that one address takes in an advert.
    pub const fn address_len(self) -> usize {
        match self {
            Self::Ipv4 => 4,
            Self::Ipv6 => 16,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn zero_is_neither_a_router_nor_a_priority() {
        assert_eq!(Vrid::new(0), None);
        assert_eq!(Priority::new(0), None);
        assert_eq!(Vrid::new(51).unwrap().get(), 51);
        assert!(Priority::new(255).unwrap().is_owner());
        assert!(!Priority::DEFAULT.is_owner());
    }
}
