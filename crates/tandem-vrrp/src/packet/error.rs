//! Why an advert was dropped, one variant per counter of keepalived's statistics.
//!
//! All of them are the sender's doing or the network's; none is worth a retry, the next advert is.

use std::net::IpAddr;
use std::time::Duration;

use thiserror::Error;

use super::AuthField;
use crate::types::Version;

/// A datagram that is not an advert for this router.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum DecodeError {
    /// Shorter than its own fields say.
    #[error("{got} bytes where at least {need} are needed")]
    Truncated {
        /// Bytes needed.
        need: usize,
        /// Bytes present.
        got: usize,
    },
    /// Longer than its fields say, and not by Ethernet padding or a trailer.
    #[error("{extra} bytes too many")]
    TooLong {
        /// Bytes beyond the message.
        extra: usize,
    },
    /// Not an IPv4 header, or one that contradicts the datagram.
    #[error("malformed IPv4 header")]
    IpHeader,
    /// Neither VRRP nor the AH that is configured.
    #[error("IP protocol {0} is not the configured one")]
    Protocol(u8),
    /// TTL or hop limit outside what the transport allows (RFC 9568 7.1: 255).
    #[error("TTL {got} is not within {min} to {max}")]
    Ttl {
        /// As received.
        got: u8,
        /// Least allowed.
        min: u8,
        /// Most allowed.
        max: u8,
    },
    /// Version other than configured, or none that exists.
    #[error("VRRP version {got}")]
    Version {
        /// As received.
        got: u8,
        /// Configured, if the check was against settings.
        expected: Option<Version>,
    },
    /// Not an ADVERTISEMENT.
    #[error("VRRP packet type {0}, only 1 exists")]
    Type(u8),
    /// A sum under no dialect.
    #[error("checksum does not fit")]
    Checksum,
    /// Another virtual router, or identifier 0.
    #[error("virtual router {0} is not this one")]
    Vrid(u8),
    /// AuthType unknown.
    #[error("authentication type {0} does not exist")]
    InvalidAuthType(u8),
    /// AuthType known, not the configured one.
    #[error("authentication type differs: {got}")]
    AuthTypeMismatch {
        /// As received.
        got: AuthField,
    },
    /// Password differs, or an ICV that does not verify.
    #[error("authentication failed")]
    AuthFailure,
    /// AH whose SPI is not the source address.
    #[error("AH parameters index is not the source address")]
    AhSpi,
    /// AH sequence number not above the last accepted.
    #[error("AH sequence {got} after {last}")]
    AhReplay {
        /// As received.
        got: u32,
        /// Last accepted from this sender.
        last: u32,
    },
    /// No HMAC trailer where one is enforced.
    #[error("no HMAC trailer")]
    HmacMissing,
    /// A trailer, but none is configured.
    #[error("HMAC trailer, none configured here")]
    HmacUnexpected,
    /// Trailer type or reserved bytes unknown.
    #[error("malformed HMAC trailer")]
    HmacFormat,
    /// Key id without a key.
    #[error("HMAC key {0} is not configured")]
    HmacKey(u8),
    /// MAC does not verify.
    #[error("HMAC does not verify")]
    HmacMac,
    /// Stamp not above the last accepted from this sender.
    #[error("HMAC stamp repeated or old")]
    HmacReplay,
    /// Stamp outside the time window: one of the two clocks is wrong.
    #[error("sender's clock differs by {skew:?}")]
    HmacTime {
        /// Absolute difference.
        skew: Duration,
    },
    /// v2 interval differs (RFC 3768 7.1: drop).
    #[error("advert interval {got:?}, ours is {ours:?}")]
    Interval {
        /// As received.
        got: Duration,
        /// Configured.
        ours: Duration,
    },
    /// Address list differs and the settings say drop.
    #[error("address list differs")]
    AddressList,
    /// Multicast for a unicast router or the reverse.
    #[error("sent to {0}, which is not how this router is configured")]
    Destination(IpAddr),
    /// Not one of the configured peers.
    #[error("{0} is not a configured peer")]
    Source(IpAddr),
    /// Our own advert came back.
    #[error("own advert")]
    Own,
    /// This router owns the addresses and ignores adverts.
    #[error("ignored as owner")]
    OwnerIgnores,
}

/// Which of keepalived's counters a drop raises.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum CounterKind {
    /// `packet_len_err`
    PacketLength,
    /// `ip_ttl_err`
    Ttl,
    /// `version_err`
    Version,
    /// `invalid_type_rcvd`
    InvalidType,
    /// `chk_err`
    Checksum,
    /// `vrid_err`
    Vrid,
    /// `invalid_authtype`
    InvalidAuthType,
    /// `authtype_mismatch`
    AuthTypeMismatch,
    /// `auth_failure`
    AuthFailure,
    /// `auth_ext_*`: trailer missing or unexpected
    HmacMissing,
    /// `auth_ext_*`: malformed trailer or unknown key
    HmacKey,
    /// `auth_ext_*`: MAC does not verify
    HmacMac,
    /// `auth_ext_*`: replay or clock
    HmacReplay,
    /// `advert_interval_err`
    Interval,
    /// `addr_list_err`
    AddressList,
    /// Wrong destination or source, own copies: keepalived drops these without a counter.
    Misdirected,
}

impl DecodeError {
    /// The counter to raise.
    pub fn counter(&self) -> CounterKind {
        match self {
            Self::Truncated { .. } | Self::TooLong { .. } | Self::IpHeader => {
                CounterKind::PacketLength
            }
            Self::Ttl { .. } => CounterKind::Ttl,
            Self::Version { .. } => CounterKind::Version,
            Self::Type(_) => CounterKind::InvalidType,
            Self::Checksum => CounterKind::Checksum,
            Self::Vrid(_) => CounterKind::Vrid,
            Self::InvalidAuthType(_) => CounterKind::InvalidAuthType,
            Self::AuthTypeMismatch { .. } | Self::Protocol(_) => CounterKind::AuthTypeMismatch,
            Self::AuthFailure | Self::AhSpi | Self::AhReplay { .. } => CounterKind::AuthFailure,
            Self::HmacMissing | Self::HmacUnexpected => CounterKind::HmacMissing,
            Self::HmacFormat | Self::HmacKey(_) => CounterKind::HmacKey,
            Self::HmacMac => CounterKind::HmacMac,
            Self::HmacReplay | Self::HmacTime { .. } => CounterKind::HmacReplay,
            Self::Interval { .. } => CounterKind::Interval,
            Self::AddressList => CounterKind::AddressList,
            Self::Destination(_) | Self::Source(_) | Self::Own | Self::OwnerIgnores => {
                CounterKind::Misdirected
            }
        }
    }
}
