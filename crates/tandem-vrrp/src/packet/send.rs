//! The datagrams of one advert: one per destination, each with its own checksum.
//!
//! IPv4 comes with its header for an `IP_HDRINCL` socket; IPv6 is the payload alone, hop limit and
//! traffic class being socket options. Counters (identification, AH sequence, HMAC stamp) live here
//! because they must outlive one advert and survive a reload of settings.

use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

use super::ah::{AH_LEN, AhHeader};
use super::auth::PassKey;
use super::hmac::{HmacMode, HmacSettings, Signed, Stamp, Trailer};
use super::ipv4::{Ipv4Header, PROTOCOL_AH, PROTOCOL_VRRP};
use super::message::{AuthField, Message};
use crate::settings::{Auth, Settings, Transport};
use crate::types::Version;

/// One datagram to send.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Transmission {
    /// Group or peer.
    pub destination: IpAddr,
    /// TTL or hop limit; in IPv4 it is in `bytes` as well.
    pub ttl: u8,
    /// IPv4: header and payload. IPv6: payload.
    pub bytes: Vec<u8>,
}

/// Makes adverts of one router.
#[derive(Debug, Clone, Default)]
pub struct Sender {
    ip_id: u16,
    ah_sequence: u32,
    stamp: Stamp,
}

impl Sender {
    /// A sender that has sent nothing.
    pub fn new() -> Self {
        Self::default()
    }

    /// The next AH sequence will be beyond `heard`.
    ///
    /// keepalived has one counter for what it sends and what it hears, for all senders together, and
    /// drops what is not beyond it. So whoever speaks next has to go on from there.
    pub fn continue_after(&mut self, heard: u32) {
        self.ah_sequence = self.ah_sequence.max(heard);
    }

    /// The datagrams of an advert of `priority` from `source`. `unix_time`, the time since 1970, goes
    /// into the HMAC trailer, and an AH sequence begins with its seconds: adverts of version 2 are no
    /// faster than that on average, so one that begins again after a restart is beyond its last
    /// ([`Sender::continue_after`] says why it must be). Destinations of another family than `source` get nothing.
    pub fn advert(
        &mut self,
        settings: &Settings,
        source: IpAddr,
        priority: u8,
        unix_time: Duration,
    ) -> Vec<Transmission> {
        // Never 0: that lets the kernel choose another one, which the AH proof would not cover.
        self.ip_id = self.ip_id.checked_add(1).unwrap_or(1);
        if self.ah_sequence == 0 {
            self.ah_sequence = u32::try_from(unix_time.as_secs()).unwrap_or_default();
        }
        let trailer_of = settings
            .hmac
            .as_ref()
            .filter(|hmac| hmac.mode != HmacMode::ReceiveOnly);
        if trailer_of.is_some() {
            self.stamp = Stamp::after(self.stamp, unix_time);
        }
        let message = Message {
            version: settings.version,
            vrid: settings.vrid,
            priority,
            interval_units: Message::units_of(settings.version, settings.advert_interval),
            addresses: settings.addresses.clone(),
            auth: auth_field(settings),
        };
        let ttl = match settings.transport {
            Transport::Multicast { .. } => 255,
            Transport::Unicast { ttl, .. } => ttl,
        };
        let mut transmissions = Vec::new();
        for destination in settings.destinations() {
            let mut payload = message.encode(source, destination, settings.checksum);
            if let Some(hmac) = trailer_of {
                let trailer = self.trailer(hmac, settings, source, &payload);
                payload.extend(trailer);
            }
            let bytes = match (source, destination) {
                (IpAddr::V4(source), IpAddr::V4(destination)) => {
                    self.with_ipv4(settings, source, destination, ttl, &payload)
                }
                (IpAddr::V6(_), IpAddr::V6(_)) => payload,
                (IpAddr::V4(_), IpAddr::V6(_)) | (IpAddr::V6(_), IpAddr::V4(_)) => continue,
            };
            transmissions.push(Transmission {
                destination,
                ttl,
                bytes,
            });
        }
        transmissions
    }

    fn trailer(
        &self,
        hmac: &HmacSettings,
        settings: &Settings,
        source: IpAddr,
        message: &[u8],
    ) -> [u8; 28] {
        let signed = Signed {
            version: settings.version,
            vrid: settings.vrid,
            source,
            message,
        };
        Trailer::seal(&hmac.keys, self.stamp, &signed).encode()
    }

    fn with_ipv4(
        &mut self,
        settings: &Settings,
        source: Ipv4Addr,
        destination: Ipv4Addr,
        ttl: u8,
        payload: &[u8],
    ) -> Vec<u8> {
        let ah_key = ah_key(settings);
        let ah_len = if ah_key.is_some() { AH_LEN } else { 0 };
        let header = Ipv4Header {
            total_len: u16::try_from(20 + ah_len + payload.len())
                .expect("at most 20 + 24 + 8 + 255 * 4 + 8 + 28 bytes"),
            id: self.ip_id,
            ttl,
            protocol: if ah_key.is_some() {
                PROTOCOL_AH
            } else {
                PROTOCOL_VRRP
            },
            source,
            destination,
        }
        .encode();
        let mut bytes = header.to_vec();
        if let Some(key) = ah_key {
            self.ah_sequence = self.ah_sequence.checked_add(1).unwrap_or(1);
            bytes.extend(AhHeader::seal(key, &header, self.ah_sequence, source, payload).encode());
        }
        bytes.extend(payload);
        bytes
    }
}

fn auth_field(settings: &Settings) -> AuthField {
    match (settings.version, &settings.auth) {
        (Version::V3, _) | (Version::V2, Auth::None) => AuthField::None,
        (Version::V2, Auth::Pass(key)) => AuthField::Pass(*key.bytes()),
        (Version::V2, Auth::Ah(_)) => AuthField::Ah,
    }
}

/// The AH key, if this router's adverts carry AH: v2 with AuthType 2.
pub(super) fn ah_key(settings: &Settings) -> Option<&PassKey> {
    match (settings.version, &settings.auth) {
        (Version::V2, Auth::Ah(key)) => Some(key),
        (Version::V2, Auth::None | Auth::Pass(_)) | (Version::V3, _) => None,
    }
}
