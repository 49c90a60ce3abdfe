//! keepalived 2.4's HMAC trailer (draft-cassen-vrrp-auth-hmac): the only real authentication.
//!
//! 28 bytes behind the message: type, key id, two reserved, stamp of eight bytes (UTC seconds,
//! binary fraction, counter), sixteen bytes of HMAC-SHA256. A stamp must rise per sender, which
//! defeats replay; a receiver may also want it near its own clock. A peer without the feature
//! drops trailered adverts for their length, hence the modes for a rollout.

use std::collections::BTreeMap;
use std::fmt;
use std::net::IpAddr;
use std::time::Duration;

use ::hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;
use thiserror::Error;

use super::error::DecodeError;
use crate::types::{Version, Vrid};

/// Bytes of the trailer.
pub const TRAILER_LEN: usize = 28;
const MAC_LEN: usize = 16;
const TYPE_HMAC_SHA256: u8 = 1;
/// Senders remembered against replay. They hold a key, so this is no stranger's to fill.
const REPLAY_SENDERS_MAX: usize = 64;

/// A shared key of 32 to 64 bytes. Not shown by `Debug`.
#[derive(Clone, PartialEq, Eq)]
pub struct HmacKey(Vec<u8>);

impl fmt::Debug for HmacKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("HmacKey(..)")
    }
}

/// Keys that cannot be used. The operator's fault.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum HmacKeyError {
    /// Outside 32..=64 bytes.
    #[error("an HMAC key has 32 to 64 bytes, this one {0}")]
    Length(usize),
    /// Id 0 is not a key.
    #[error("HMAC key id 0 does not exist")]
    IdZero,
    /// Nothing to send with.
    #[error("active HMAC key {0} is not among the keys")]
    NoActive(u8),
}

impl HmacKey {
    /// A key of these bytes.
    ///
    /// # Errors
    /// [`HmacKeyError::Length`].
    pub fn new(bytes: &[u8]) -> Result<Self, HmacKeyError> {
        if !(32..=64).contains(&bytes.len()) {
            return Err(HmacKeyError::Length(bytes.len()));
        }
        Ok(Self(bytes.to_vec()))
    }
}

/// Keys by id, one of them for sending. Any is good for receiving, so that keys can be rolled.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HmacKeys {
    keys: BTreeMap<u8, HmacKey>,
    active: u8,
}

impl HmacKeys {
    /// These keys, sending with `active`.
    ///
    /// # Errors
    /// Id 0, or an active key that is not among them.
    pub fn new(
        keys: impl IntoIterator<Item = (u8, HmacKey)>,
        active: u8,
    ) -> Result<Self, HmacKeyError> {
        let keys: BTreeMap<_, _> = keys.into_iter().collect();
        if keys.contains_key(&0) {
            return Err(HmacKeyError::IdZero);
        }
        if !keys.contains_key(&active) {
            return Err(HmacKeyError::NoActive(active));
        }
        Ok(Self { keys, active })
    }
}

/// How a rollout goes without a gap: everybody receive-only, then permissive, then enforce.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum HmacMode {
    /// Send none; accept adverts with a valid trailer and without one.
    ReceiveOnly,
    /// Send trailers; accept adverts with a valid one and without.
    Permissive,
    /// Send trailers; accept nothing without a valid one.
    Enforce,
}

/// Protection against replay.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AntiReplay {
    /// Stamps rise per sender.
    Counter,
    /// And lie within this of our clock (`time_window`, 1..=300 s).
    Time(Duration),
}

/// Settings of the trailer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HmacSettings {
    /// Keys by id.
    pub keys: HmacKeys,
    /// Step of the rollout.
    pub mode: HmacMode,
    /// Replay protection.
    pub anti_replay: AntiReplay,
}

impl HmacSettings {
    /// keepalived's default window: the larger of three intervals and 5 s.
    pub fn default_window(advert_interval: Duration) -> Duration {
        (advert_interval * 3).max(Duration::from_secs(5))
    }
}

/// Time and counter of an advert: 32 bits of UTC seconds, 16 of fraction, 16 of counter.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct Stamp(pub u64);

impl Stamp {
    /// The stamp of `unix_time` that is above `last`: of the same or an earlier instant (a clock
    /// set back) the counter goes up, and carries into the fraction when it is full.
    pub fn after(last: Self, unix_time: Duration) -> Self {
        let seconds = unix_time.as_secs() & 0xffff_ffff;
        let fraction = (u64::from(unix_time.subsec_nanos()) << 16) / 1_000_000_000;
        let fresh = (seconds << 32) | (fraction << 16);
        Self(fresh.max(last.0.saturating_add(1)))
    }

    /// How far the stamp is from `unix_time`, either way.
    fn skew(self, unix_time: Duration) -> Duration {
        let nanos = ((self.0 >> 16 & 0xffff) * 1_000_000_000) >> 16;
        let stamped = Duration::from_secs(self.0 >> 32) + Duration::from_nanos(nanos);
        stamped.abs_diff(unix_time)
    }
}

/// What the MAC covers beside the trailer.
#[derive(Debug, Clone, Copy)]
pub(super) struct Signed<'a> {
    pub(super) version: Version,
    pub(super) vrid: Vrid,
    pub(super) source: IpAddr,
    /// With whatever checksum; it counts as zero, since the kernel may fill it later.
    pub(super) message: &'a [u8],
}

/// A trailer as it stands on the wire.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Trailer {
    /// Which key.
    pub key_id: u8,
    /// When.
    pub stamp: Stamp,
    /// The proof.
    pub mac: [u8; MAC_LEN],
}

impl Trailer {
    /// The trailer that proves `signed` with the active key.
    pub(super) fn seal(keys: &HmacKeys, stamp: Stamp, signed: &Signed<'_>) -> Self {
        let key = keys
            .keys
            .get(&keys.active)
            .expect("the constructor requires the active key");
        let mut trailer = Self {
            key_id: keys.active,
            stamp,
            mac: [0; MAC_LEN],
        };
        let digest = trailer.mac(key, signed).finalize().into_bytes();
        trailer.mac.copy_from_slice(&digest[..MAC_LEN]);
        trailer
    }

    /// The 28 bytes.
    pub fn encode(&self) -> [u8; TRAILER_LEN] {
        let mut bytes = [0; TRAILER_LEN];
        bytes[0] = TYPE_HMAC_SHA256;
        bytes[1] = self.key_id;
        bytes[4..12].copy_from_slice(&self.stamp.0.to_be_bytes());
        bytes[12..].copy_from_slice(&self.mac);
        bytes
    }

    /// Reads exactly 28 bytes.
    ///
    /// # Errors
    /// [`DecodeError::HmacFormat`] for another length, type, or reserved bytes that are not zero.
    pub fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        let bytes: &[u8; TRAILER_LEN] = bytes.try_into().map_err(|_| DecodeError::HmacFormat)?;
        if bytes[0] != TYPE_HMAC_SHA256 || bytes[2..4] != [0, 0] {
            return Err(DecodeError::HmacFormat);
        }
        let mut stamp = [0; 8];
        stamp.copy_from_slice(&bytes[4..12]);
        let mut mac = [0; MAC_LEN];
        mac.copy_from_slice(&bytes[12..]);
        Ok(Self {
            key_id: bytes[1],
            stamp: Stamp(u64::from_be_bytes(stamp)),
            mac,
        })
    }

    /// Whether the MAC proves `signed`, compared in constant time.
    pub(super) fn verify(&self, keys: &HmacKeys, signed: &Signed<'_>) -> Result<(), DecodeError> {
        let key = keys
            .keys
            .get(&self.key_id)
            .ok_or(DecodeError::HmacKey(self.key_id))?;
        self.mac(key, signed)
            .verify_truncated_left(&self.mac)
            .map_err(|_| DecodeError::HmacMac)
    }

    fn mac(&self, key: &HmacKey, signed: &Signed<'_>) -> Hmac<Sha256> {
        let mut pseudo = [0; 20];
        pseudo[1] = signed.version.number();
        pseudo[2] = signed.vrid.get();
        match signed.source {
            IpAddr::V4(source) => {
                pseudo[0] = 4;
                pseudo[4..8].copy_from_slice(&source.octets());
            }
            IpAddr::V6(source) => {
                pseudo[0] = 6;
                pseudo[4..].copy_from_slice(&source.octets());
            }
        }
        let mut message = signed.message.to_vec();
        if let Some(checksum) = message.get_mut(6..8) {
            checksum.fill(0);
        }
        let bare = Self {
            mac: [0; MAC_LEN],
            ..*self
        };
        let mut mac =
            Hmac::<Sha256>::new_from_slice(&key.0).expect("HMAC takes a key of any length");
        mac.update(&pseudo);
        mac.update(&message);
        mac.update(&bare.encode());
        mac
    }
}

/// The last stamp of each sender.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ReplayTable {
    last: BTreeMap<IpAddr, Stamp>,
}

impl ReplayTable {
    /// Whether `stamp` is news from `source`; remembers it if so. Only for stamps whose MAC fits.
    ///
    /// # Errors
    /// A stamp that is not above the last, or outside the window. A full table refuses a new
    /// sender rather than forget an old one, whose adverts could be replayed then.
    pub fn accept(
        &mut self,
        source: IpAddr,
        stamp: Stamp,
        anti_replay: AntiReplay,
        unix_time: Duration,
    ) -> Result<(), DecodeError> {
        match anti_replay {
            AntiReplay::Time(window) => {
                let skew = stamp.skew(unix_time);
                if skew > window {
                    return Err(DecodeError::HmacTime { skew });
                }
            }
            AntiReplay::Counter => {}
        }
        let news = match self.last.get(&source) {
            Some(last) => stamp > *last,
            None => self.last.len() < REPLAY_SENDERS_MAX,
        };
        if !news {
            return Err(DecodeError::HmacReplay);
        }
        self.last.insert(source, stamp);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn keys(active: u8) -> HmacKeys {
        let key = |fill: u8| HmacKey::new(&[fill; 32]).unwrap();
        HmacKeys::new([(1, key(1)), (2, key(2))], active).unwrap()
    }

    fn signed(message: &[u8]) -> Signed<'_> {
        Signed {
            version: Version::V3,
            vrid: Vrid::new(51).unwrap(),
            source: "10.99.0.1".parse().unwrap(),
            message,
        }
    }

    #[test]
    fn every_part_is_covered_except_the_checksum() {
        let message = *b"\x31\x33\x96\x01\x00\x0a\xaa\xbb\x0a\x63\x00\x64";
        let trailer = Trailer::seal(&keys(2), Stamp(77), &signed(&message));
        assert_eq!(Trailer::decode(&trailer.encode()), Ok(trailer));
        assert_eq!(
            trailer.verify(&keys(1), &signed(&message)),
            Ok(()),
            "any key receives"
        );

        let mut refilled = message;
        refilled[6..8].fill(0x55);
        assert_eq!(trailer.verify(&keys(1), &signed(&refilled)), Ok(()));
        let mut louder = message;
        louder[2] = 200;
        assert_eq!(
            trailer.verify(&keys(1), &signed(&louder)),
            Err(DecodeError::HmacMac)
        );
        let other = Signed {
            source: "10.99.0.9".parse().unwrap(),
            ..signed(&message)
        };
        assert_eq!(trailer.verify(&keys(1), &other), Err(DecodeError::HmacMac));
        let later = Trailer {
            stamp: Stamp(78),
            ..trailer
        };
        assert_eq!(
            later.verify(&keys(1), &signed(&message)),
            Err(DecodeError::HmacMac)
        );
        let unknown = Trailer {
            key_id: 9,
            ..trailer
        };
        assert_eq!(
            unknown.verify(&keys(1), &signed(&message)),
            Err(DecodeError::HmacKey(9))
        );
    }

    #[test]
    fn trailer_layout() {
        let trailer = Trailer {
            key_id: 3,
            stamp: Stamp(0x0102_0304_0506_0708),
            mac: [0xee; 16],
        };
        let mut golden = vec![1, 3, 0, 0, 1, 2, 3, 4, 5, 6, 7, 8];
        golden.extend([0xee; 16]);
        assert_eq!(trailer.encode().to_vec(), golden);
        for (at, value) in [(0, 2), (2, 1), (3, 1)] {
            let mut bytes = golden.clone();
            bytes[at] = value;
            assert_eq!(Trailer::decode(&bytes), Err(DecodeError::HmacFormat));
        }
        assert_eq!(Trailer::decode(&golden[..27]), Err(DecodeError::HmacFormat));
    }

    #[test]
    fn stamps_rise_even_when_the_clock_goes_back() {
        let first = Stamp::after(Stamp::default(), Duration::from_millis(1_500));
        assert_eq!(first, Stamp(0x1_8000_0000));
        let same = Stamp::after(first, Duration::from_millis(1_500));
        assert_eq!(same, Stamp(0x1_8000_0001));
        assert_eq!(
            Stamp::after(same, Duration::from_secs(1)),
            Stamp(0x1_8000_0002)
        );
        assert_eq!(
            Stamp::after(same, Duration::from_secs(2)),
            Stamp(0x2_0000_0000)
        );
    }

    #[test]
    fn replay_and_window() {
        let mut table = ReplayTable::default();
        let (a, b): (IpAddr, IpAddr) = ("10.0.0.1".parse().unwrap(), "10.0.0.2".parse().unwrap());
        let at = |seconds: u64| Stamp(seconds << 32);
        let now = Duration::from_secs(100);
        let window = AntiReplay::Time(Duration::from_secs(5));
        assert_eq!(table.accept(a, at(100), window, now), Ok(()));
        assert_eq!(
            table.accept(a, at(100), window, now),
            Err(DecodeError::HmacReplay)
        );
        assert_eq!(
            table.accept(a, at(99), window, now),
            Err(DecodeError::HmacReplay)
        );
        assert_eq!(
            table.accept(b, at(99), window, now),
            Ok(()),
            "senders are apart"
        );
        let skew = Duration::from_secs(6);
        assert_eq!(
            table.accept(b, at(106), window, now),
            Err(DecodeError::HmacTime { skew })
        );
        assert_eq!(table.accept(b, at(106), AntiReplay::Counter, now), Ok(()));
    }

    #[test]
    fn a_full_table_refuses_new_senders_and_keeps_old_ones() {
        let mut table = ReplayTable::default();
        let sender = |n: u8| IpAddr::from([10, 0, 0, n]);
        for n in 0..64 {
            assert_eq!(
                table.accept(sender(n), Stamp(1), AntiReplay::Counter, Duration::ZERO),
                Ok(())
            );
        }
        let late = table.accept(sender(64), Stamp(1), AntiReplay::Counter, Duration::ZERO);
        assert_eq!(late, Err(DecodeError::HmacReplay));
        assert_eq!(
            table.accept(sender(0), Stamp(2), AntiReplay::Counter, Duration::ZERO),
            Ok(())
        );
    }

    #[test]
    fn keys_that_cannot_be_used() {
        assert_eq!(HmacKey::new(&[0; 31]), Err(HmacKeyError::Length(31)));
        assert_eq!(HmacKey::new(&[0; 65]), Err(HmacKeyError::Length(65)));
        let key = HmacKey::new(&[0; 64]).unwrap();
        assert_eq!(
            HmacKeys::new([(0, key.clone())], 0),
            Err(HmacKeyError::IdZero)
        );
        assert_eq!(HmacKeys::new([(1, key)], 2), Err(HmacKeyError::NoActive(2)));
    }
}
