//! Whether a datagram is an advert for this router: the checks of RFC 9568 7.1 and keepalived's.
//!
//! The accept and drop set is keepalived 2.4's with three differences, all stricter or wider on
//! purpose: a unicast peer's TTL is checked as its settings say, every checksum dialect is accepted
//! and none skipped, and our own adverts that come back are dropped. State (a router that is not
//! started, an owner conflict) is the machine's.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv6Addr};
use std::time::Duration;

use super::ah::AhHeader;
use super::checksum::Dialect;
use super::error::DecodeError;
use super::hmac::{HmacMode, ReplayTable, Signed, TRAILER_LEN, Trailer};
use super::ipv4::{Ipv4Header, PROTOCOL_AH, PROTOCOL_VRRP};
use super::message::{AuthField, Decoded, Message};
use super::send::ah_key;
use crate::settings::{AddressCheck, Auth, Settings, Transport};
use crate::types::Version;

/// Smallest payload of an Ethernet frame: what is shorter arrives padded to this.
const ETHERNET_PAYLOAD_MIN: usize = 46;
/// A VLAN tag removed on the way leaves this much padding more.
const VLAN_TAG_LEN: usize = 4;
/// AH senders remembered; each holds the password, so this is no stranger's to fill.
const AH_SENDERS_MAX: usize = 64;

/// A datagram as a raw socket hands it over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Datagram<'a> {
    /// Sender.
    pub source: IpAddr,
    /// Group or our address.
    pub destination: IpAddr,
    /// TTL or hop limit as received.
    pub ttl: u8,
    /// IP protocol or next header.
    pub protocol: u8,
    ip_header: &'a [u8],
    payload: &'a [u8],
}

impl<'a> Datagram<'a> {
    /// From a raw IPv4 socket: the IP header comes first. Padding behind the datagram's total
    /// length is cut off if it can be Ethernet's.
    ///
    /// # Errors
    /// A header that is none, a datagram cut short, a tail too long for padding.
    pub fn from_ipv4(bytes: &'a [u8]) -> Result<Self, DecodeError> {
        let (header, header_len) = Ipv4Header::decode(bytes)?;
        let total_len = usize::from(header.total_len);
        if total_len < header_len {
            return Err(DecodeError::IpHeader);
        }
        if bytes.len() < total_len {
            return Err(DecodeError::Truncated {
                need: total_len,
                got: bytes.len(),
            });
        }
        if bytes.len() > total_len && bytes.len() > ETHERNET_PAYLOAD_MIN + VLAN_TAG_LEN {
            return Err(DecodeError::TooLong {
                extra: bytes.len() - total_len,
            });
        }
        Ok(Self {
            source: header.source.into(),
            destination: header.destination.into(),
            ttl: header.ttl,
            protocol: header.protocol,
            ip_header: &bytes[..header_len],
            payload: &bytes[header_len..total_len],
        })
    }

    /// From a raw IPv6 socket: payload alone, the rest from ancillary data.
    pub const fn from_ipv6(
        source: Ipv6Addr,
        destination: Ipv6Addr,
        hop_limit: u8,
        payload: &'a [u8],
    ) -> Self {
        Self {
            source: IpAddr::V6(source),
            destination: IpAddr::V6(destination),
            ttl: hop_limit,
            protocol: PROTOCOL_VRRP,
            ip_header: &[],
            payload,
        }
    }

    /// The VRRP message in it, behind AH if there is one, for a dispatcher or a survey.
    pub fn message_bytes(&self) -> &'a [u8] {
        if self.protocol == PROTOCOL_AH {
            AhHeader::decode(self.payload).map_or(&[], |(_, message)| message)
        } else {
            self.payload
        }
    }
}

/// An advert that passed all checks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Received {
    /// Sender's address, the tie-breaker.
    pub source: IpAddr,
    /// 0 leaving, 255 owner.
    pub priority: u8,
    /// Advertised interval.
    pub interval: Duration,
    /// Which checksum dialect the sender speaks; for v2 [`Dialect::C`], for IPv6 [`Dialect::A`],
    /// where there is no choice.
    pub dialect: Dialect,
    /// Whether its address list, in any order, is ours.
    pub same_addresses: bool,
    /// Whether a valid HMAC trailer was on it.
    pub authenticated: bool,
}

/// Judges datagrams for one router.
#[derive(Debug, Clone, Default)]
pub struct Receiver {
    replay: ReplayTable,
    /// Last AH sequence of each sender and when it came.
    ah: BTreeMap<IpAddr, (u32, Duration)>,
    ah_highest: u32,
}

impl Receiver {
    /// A receiver that has heard nobody.
    pub fn new() -> Self {
        Self::default()
    }

    /// The highest AH sequence that any sender has proven, for [`Sender::continue_after`](super::Sender::continue_after).
    pub const fn highest_ah_sequence(&self) -> u32 {
        self.ah_highest
    }

    /// Judges `datagram` for the router of `settings` whose own address is `own`.
    ///
    /// `unix_time` is the time since 1970: for the HMAC window, and to let an AH sender that was
    /// silent for longer than a Master_Down begin at 1 again, as it does after a restart.
    ///
    /// # Errors
    /// The first check that fails. [`DecodeError::Vrid`] means that another router should be asked.
    pub fn receive(
        &mut self,
        settings: &Settings,
        own: Option<IpAddr>,
        datagram: &Datagram<'_>,
        unix_time: Duration,
    ) -> Result<Received, DecodeError> {
        check_path(settings, own, datagram)?;
        let ah = match (ah_key(settings), datagram.protocol) {
            (Some(key), PROTOCOL_AH) => Some((key, AhHeader::decode(datagram.payload)?)),
            (None, PROTOCOL_VRRP) => None,
            (Some(_) | None, other) => return Err(DecodeError::Protocol(other)),
        };
        let bytes = ah
            .as_ref()
            .map_or(datagram.payload, |(_, (_, message))| *message);
        let Decoded {
            message,
            dialect,
            len,
        } = Message::decode(bytes, datagram.source, datagram.destination)?;
        if message.version != settings.version {
            return Err(DecodeError::Version {
                got: message.version.number(),
                expected: Some(settings.version),
            });
        }
        if message.vrid != settings.vrid {
            return Err(DecodeError::Vrid(message.vrid.get()));
        }
        if let Some((key, (header, message_bytes))) = ah {
            header.verify(key, datagram.ip_header, message_bytes)?;
            self.check_ah(datagram.source, &header, settings, unix_time)?;
        }
        let authenticated = self.check_trailer(settings, datagram.source, bytes, len, unix_time)?;
        let same_addresses = check_fields(settings, &message)?;
        Ok(Received {
            source: datagram.source,
            priority: message.priority,
            interval: message.interval(),
            dialect,
            same_addresses,
            authenticated,
        })
    }

    /// SPI and sequence of a header that verified.
    fn check_ah(
        &mut self,
        source: IpAddr,
        header: &AhHeader,
        settings: &Settings,
        unix_time: Duration,
    ) -> Result<(), DecodeError> {
        if IpAddr::V4(header.spi) != source {
            return Err(DecodeError::AhSpi);
        }
        self.ah_highest = self.ah_highest.max(header.sequence);
        let silence_max = settings.advert_interval * (u32::from(settings.down_timer_adverts) + 1);
        // A dead sender's entry has no value: its sequence may begin again anyway.
        self.ah
            .retain(|_, (_, at)| unix_time.saturating_sub(*at) <= silence_max);
        if let Some((last, _)) = self
            .ah
            .get(&source)
            .filter(|(last, _)| header.sequence <= *last)
        {
            return Err(DecodeError::AhReplay {
                got: header.sequence,
                last: *last,
            });
        }
        if self.ah.len() < AH_SENDERS_MAX || self.ah.contains_key(&source) {
            self.ah.insert(source, (header.sequence, unix_time));
        }
        Ok(())
    }

    /// What follows the message: nothing, or a trailer of exactly its length. Whether one was valid.
    fn check_trailer(
        &mut self,
        settings: &Settings,
        source: IpAddr,
        bytes: &[u8],
        len: usize,
        unix_time: Duration,
    ) -> Result<bool, DecodeError> {
        let (message, rest) = bytes.split_at(len);
        match (&settings.hmac, rest.len()) {
            (None, 0) => Ok(false),
            (Some(hmac), 0) => match hmac.mode {
                HmacMode::Enforce => Err(DecodeError::HmacMissing),
                HmacMode::ReceiveOnly | HmacMode::Permissive => Ok(false),
            },
            (None, TRAILER_LEN) => Err(DecodeError::HmacUnexpected),
            (Some(hmac), TRAILER_LEN) => {
                let trailer = Trailer::decode(rest)?;
                let signed = Signed {
                    version: settings.version,
                    vrid: settings.vrid,
                    source,
                    message,
                };
                trailer.verify(&hmac.keys, &signed)?;
                self.replay
                    .accept(source, trailer.stamp, hmac.anti_replay, unix_time)?;
                Ok(true)
            }
            (None | Some(_), extra) => Err(DecodeError::TooLong { extra }),
        }
    }
}

/// Source, destination and TTL: what the outer header alone decides.
fn check_path(
    settings: &Settings,
    own: Option<IpAddr>,
    datagram: &Datagram<'_>,
) -> Result<(), DecodeError> {
    if own == Some(datagram.source) {
        return Err(DecodeError::Own);
    }
    let (min, max) = match &settings.transport {
        Transport::Multicast { group } => {
            if datagram.destination != *group {
                return Err(DecodeError::Destination(datagram.destination));
            }
            (255, 255)
        }
        Transport::Unicast {
            peers,
            check_source,
            ..
        } => {
            if datagram.destination.is_multicast() {
                return Err(DecodeError::Destination(datagram.destination));
            }
            match peers.iter().find(|peer| peer.address == datagram.source) {
                Some(peer) => (peer.min_ttl, peer.max_ttl),
                None if *check_source => return Err(DecodeError::Source(datagram.source)),
                None => (0, 255),
            }
        }
    };
    if !(min..=max).contains(&datagram.ttl) {
        return Err(DecodeError::Ttl {
            got: datagram.ttl,
            min,
            max,
        });
    }
    Ok(())
}

/// v2 authentication and interval, owner, address list. Whether the list is ours.
fn check_fields(settings: &Settings, message: &Message) -> Result<bool, DecodeError> {
    match message.version {
        Version::V2 => {
            check_auth(&settings.auth, message.auth)?;
            if message.interval() != settings.advert_interval {
                let (got, ours) = (message.interval(), settings.advert_interval);
                return Err(DecodeError::Interval { got, ours });
            }
        }
        // Interval 0 would make every timer zero; nobody can mean it.
        Version::V3 if message.interval_units == 0 => {
            return Err(DecodeError::Interval {
                got: Duration::ZERO,
                ours: settings.advert_interval,
            });
        }
        Version::V3 => {}
    }
    if settings.owner_ignore_adverts && settings.priority.is_owner() {
        return Err(DecodeError::OwnerIgnores);
    }
    let same = same_addresses(&settings.addresses, &message.addresses);
    match settings.address_check {
        AddressCheck::Drop if !same && message.priority != 255 => Err(DecodeError::AddressList),
        AddressCheck::Drop | AddressCheck::Report => Ok(same),
    }
}

fn check_auth(ours: &Auth, theirs: AuthField) -> Result<(), DecodeError> {
    match (ours, theirs) {
        (Auth::None, AuthField::None) | (Auth::Ah(_), AuthField::Ah) => Ok(()),
        (Auth::Pass(key), AuthField::Pass(data)) => {
            if *key.bytes() == data {
                Ok(())
            } else {
                Err(DecodeError::AuthFailure)
            }
        }
        (Auth::None, AuthField::Pass(_) | AuthField::Ah)
        | (Auth::Pass(_), AuthField::None | AuthField::Ah)
        | (Auth::Ah(_), AuthField::None | AuthField::Pass(_)) => {
            Err(DecodeError::AuthTypeMismatch { got: theirs })
        }
    }
}

/// Equal as multisets: keepalived compares without regard to order.
fn same_addresses(ours: &[IpAddr], theirs: &[IpAddr]) -> bool {
    let sorted = |list: &[IpAddr]| {
        let mut list = list.to_vec();
        list.sort_unstable();
        list
    };
    ours.len() == theirs.len() && sorted(ours) == sorted(theirs)
}
