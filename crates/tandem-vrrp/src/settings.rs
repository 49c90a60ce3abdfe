//! What one virtual router is told: the values of a `vrrp_instance`, checked.
//!
//! Defaults are keepalived's (2.4), so that a file which says nothing behaves as it did there; the
//! one addition is an alarm on a large learned interval. Reading files is left to others.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::Duration;

use thiserror::Error;

use crate::garp::Announcements;
use crate::packet::{AH_LEN, Dialect, HmacSettings, PassKey, TRAILER_LEN};
use crate::types::{Family, Priority, Version, Vrid};

/// Group of IPv4 adverts (RFC 9568 5.1.1.2).
pub const GROUP_V4: Ipv4Addr = Ipv4Addr::new(224, 0, 0, 18);
/// Group of IPv6 adverts (RFC 9568 5.1.2.2).
pub const GROUP_V6: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 0x12);

/// When a backup takes mastership from a live master of lower priority.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Preempt {
    /// As soon as the lower master's last accepted advert is one Master_Down old.
    Always,
    /// Only after its adverts have been lower for this long (`preempt_delay`, 0..=1000 s).
    After(Duration),
    /// Never (`nopreempt`): any master that speaks is accepted.
    Never,
}

/// One unicast neighbour and the hops it may be away.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct UnicastPeer {
    /// Where our adverts go, and where its come from.
    pub address: IpAddr,
    /// Smallest TTL or hop limit accepted from it. 255 means on this link. keepalived checks
    /// nothing unless `min_ttl` is set; we keep 255 as the default of [`UnicastPeer::on_link`].
    pub min_ttl: u8,
    /// Largest TTL or hop limit accepted from it.
    pub max_ttl: u8,
}

impl UnicastPeer {
    /// A peer on the same link: nothing that crossed a router is accepted (RFC 5082).
    pub const fn on_link(address: IpAddr) -> Self {
        Self {
            address,
            min_ttl: 255,
            max_ttl: 255,
        }
    }

    /// A peer at any distance.
    pub const fn routed(address: IpAddr) -> Self {
        Self {
            address,
            min_ttl: 0,
            max_ttl: 255,
        }
    }
}

/// Where adverts go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Transport {
    /// To a group, TTL 255; anything with another TTL is dropped on receipt.
    Multicast {
        /// 224.0.0.18 or ff02::12 unless configured otherwise.
        group: IpAddr,
    },
    /// To each peer in turn.
    Unicast {
        /// At least one; each gets its own checksum.
        peers: Vec<UnicastPeer>,
        /// Drop adverts from other sources (`check_unicast_src`; off in keepalived).
        check_source: bool,
        /// TTL or hop limit that we send with (`unicast_ttl`).
        ttl: u8,
    },
}

/// The authentication block of v2. v3 has none and ignores it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Auth {
    /// AuthType 0.
    None,
    /// AuthType 1: eight cleartext bytes.
    Pass(PassKey),
    /// AuthType 2: an AH header in front, IPv4 only, in keepalived's dialect.
    Ah(PassKey),
}

/// What to do with an advert whose addresses differ from ours.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AddressCheck {
    /// Accept and report: keepalived from 2.3.3 on.
    Report,
    /// Drop unless the sender is the owner: RFC 3768 7.1, keepalived up to 2.3.2.
    Drop,
}

/// Settings of one virtual router. All fields are public: build with [`Settings::new`], change what
/// differs, and [`Settings::check`] (which `Machine::new` calls) says what cannot be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// Which router on this interface.
    pub vrid: Vrid,
    /// Protocol version.
    pub version: Version,
    /// Family of adverts and addresses.
    pub family: Family,
    /// Base priority; weights are added to it, except for an owner.
    pub priority: Priority,
    /// `state MASTER`. For an owner: start by claiming. Otherwise it only voids
    /// [`Preempt::Never`] and [`Preempt::After`], as in keepalived.
    pub start_as_master: bool,
    /// Whether this router is in a sync group: an owner then waits one interval before it claims.
    pub in_sync_group: bool,
    /// Our own advert interval A: whole seconds 1..=255 in v2, 10 ms..=40.95 s in v3.
    pub advert_interval: Duration,
    /// D, adverts that may be missed, 1..=100.
    pub down_timer_adverts: u8,
    /// Preemption mode.
    pub preempt: Preempt,
    /// Addresses listed in the adverts, in order.
    pub addresses: Vec<IpAddr>,
    /// Where adverts go.
    pub transport: Transport,
    /// v2 authentication.
    pub auth: Auth,
    /// keepalived 2.4's HMAC trailer, if used.
    pub hmac: Option<HmacSettings>,
    /// Checksum dialect that we send in v3 IPv4; all three are accepted.
    pub checksum: Dialect,
    /// Do not answer a lower master with an advert (`lower_prio_no_advert`).
    pub lower_prio_no_advert: bool,
    /// Send one last advert when a higher master is heard, so that it announces again
    /// (`higher_prio_send_advert`).
    pub higher_prio_send_advert: bool,
    /// Treatment of a differing address list.
    pub address_check: AddressCheck,
    /// An owner ignores all adverts (`owner_ignore_adverts`).
    pub owner_ignore_adverts: bool,
    /// A MASTER that finds itself so late that a backup must have claimed yields before it sends
    /// anything (`timer_expired_backup`). On by default here, off in keepalived.
    pub yield_when_late: bool,
    /// A learned interval above this raises an alarm event: a slow master makes every backup slow.
    pub learned_interval_alarm: Duration,
    /// Upper bound on the interval M used from a master's adverts. `None` follows the standard; a
    /// bound below a third of the master's real interval makes two masters.
    pub learned_interval_cap: Option<Duration>,
    /// Announcement rounds.
    pub announcements: Announcements,
    /// How long the addresses stay after priority 0 when handing over (rule of 50 ms), unless the
    /// successor's advert is heard first.
    pub release_hold: Duration,
}

/// Settings that cannot work. The operator's fault; nothing to retry.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum SettingsError {
    /// v2 carries whole seconds, 1 to 255.
    #[error(
        "advert interval {0:?} does not fit VRRPv2, which has whole seconds from 1 to 255; version 3 has hundredths"
    )]
    IntervalV2(Duration),
    /// v3 carries hundredths of a second in 12 bits.
    #[error(
        "advert interval {0:?} does not fit VRRPv3, which has hundredths of a second from 10 ms to 40.95 s"
    )]
    IntervalV3(Duration),
    /// v2 exists for IPv4 only.
    #[error("VRRPv2 has no IPv6; use version 3")]
    V2Ipv6,
    /// An advertised address of the other family.
    #[error("address {0} is not of the router's family")]
    AddressFamily(IpAddr),
    /// More addresses than one advert can list.
    #[error("{0} addresses do not fit one advert, which lists at most 255")]
    TooManyAddresses(usize),
    /// A group or peer of the other family, or a group that is not multicast.
    #[error("destination {0} does not fit the router's family and mode")]
    Destination(IpAddr),
    /// Unicast with nobody to talk to.
    #[error("unicast without a peer")]
    NoPeers,
    /// D outside 1..=100.
    #[error("down_timer_adverts {0} is not within 1 to 100")]
    DownTimerAdverts(u8),
    /// keepalived signs with one or the other, and a receiver could not tell the lengths apart.
    #[error("AH and the HMAC trailer exclude each other")]
    AhWithHmac,
    /// `preempt_delay` outside 0..=1000 s.
    #[error("preempt_delay {0:?} is longer than 1000 s")]
    PreemptDelay(Duration),
}

impl Settings {
    /// Settings with keepalived's defaults: priority 100, 1 s, v2 for IPv4 and v3 for IPv6,
    /// multicast, preempting, three adverts.
    pub fn new(vrid: Vrid, family: Family, addresses: Vec<IpAddr>) -> Self {
        let (version, group) = match family {
            Family::Ipv4 => (Version::V2, IpAddr::V4(GROUP_V4)),
            Family::Ipv6 => (Version::V3, IpAddr::V6(GROUP_V6)),
        };
        Self {
            vrid,
            version,
            family,
            priority: Priority::DEFAULT,
            start_as_master: false,
            in_sync_group: false,
            advert_interval: Duration::from_secs(1),
            down_timer_adverts: 3,
            preempt: Preempt::Always,
            addresses,
            transport: Transport::Multicast { group },
            auth: Auth::None,
            hmac: None,
            checksum: Dialect::A,
            lower_prio_no_advert: false,
            higher_prio_send_advert: false,
            address_check: AddressCheck::Report,
            owner_ignore_adverts: false,
            yield_when_late: true,
            learned_interval_alarm: Duration::from_secs(5),
            learned_interval_cap: None,
            announcements: Announcements::default(),
            release_hold: Duration::from_millis(50),
        }
    }

    /// The preemption mode that counts: `state MASTER` and priority 255 void `nopreempt`, and
    /// `state MASTER` voids `preempt_delay` (keepalived warns and does the same).
    pub fn effective_preempt(&self) -> Preempt {
        match self.preempt {
            Preempt::Always => Preempt::Always,
            Preempt::Never if self.start_as_master || self.priority.is_owner() => Preempt::Always,
            Preempt::Never => Preempt::Never,
            Preempt::After(_) if self.start_as_master => Preempt::Always,
            Preempt::After(delay) => Preempt::After(delay),
        }
    }

    /// Where an advert is sent, in order.
    pub fn destinations(&self) -> Vec<IpAddr> {
        match &self.transport {
            Transport::Multicast { group } => vec![*group],
            Transport::Unicast { peers, .. } => peers.iter().map(|peer| peer.address).collect(),
        }
    }

    /// Whether adverts go to peers instead of a group.
    pub fn is_unicast(&self) -> bool {
        matches!(self.transport, Transport::Unicast { .. })
    }

    /// How many addresses one advert can list on a link of `mtu` bytes, at most 255. keepalived
    /// takes the 14 bytes of an Ethernet header off the MTU as well, so this does; what does not
    /// fit belongs in the list that is installed but not advertised.
    pub fn capacity(&self, mtu: usize) -> usize {
        let ip = match self.family {
            Family::Ipv4 => 20,
            Family::Ipv6 => 40,
        };
        let auth = match (self.version, &self.auth) {
            (Version::V3, _) => 0,
            (Version::V2, Auth::None | Auth::Pass(_)) => 8,
            (Version::V2, Auth::Ah(_)) => 8 + AH_LEN,
        };
        let trailer = if self.hmac.is_some() { TRAILER_LEN } else { 0 };
        let room = mtu.saturating_sub(14 + ip + 8 + auth + trailer);
        (room / self.family.address_len()).min(255)
    }

    /// The first thing that cannot work.
    pub fn check(&self) -> Result<(), SettingsError> {
        check_interval(self.version, self.advert_interval)?;
        if self.version == Version::V2 && self.family == Family::Ipv6 {
            return Err(SettingsError::V2Ipv6);
        }
        if self.addresses.len() > 255 {
            return Err(SettingsError::TooManyAddresses(self.addresses.len()));
        }
        if let Some(other) = self
            .addresses
            .iter()
            .find(|address| Family::of(address) != self.family)
        {
            return Err(SettingsError::AddressFamily(*other));
        }
        if matches!(self.auth, Auth::Ah(_)) && self.version == Version::V2 && self.hmac.is_some() {
            return Err(SettingsError::AhWithHmac);
        }
        if !(1..=100).contains(&self.down_timer_adverts) {
            return Err(SettingsError::DownTimerAdverts(self.down_timer_adverts));
        }
        match self.preempt {
            Preempt::After(delay) if delay > Duration::from_secs(1000) => {
                return Err(SettingsError::PreemptDelay(delay));
            }
            Preempt::Always | Preempt::Never | Preempt::After(_) => {}
        }
        self.check_transport()
    }

    fn check_transport(&self) -> Result<(), SettingsError> {
        match &self.transport {
            Transport::Multicast { group } => {
                if Family::of(group) != self.family || !group.is_multicast() {
                    return Err(SettingsError::Destination(*group));
                }
            }
            Transport::Unicast { peers, .. } => {
                if peers.is_empty() {
                    return Err(SettingsError::NoPeers);
                }
                if let Some(peer) = peers.iter().find(|peer| {
                    Family::of(&peer.address) != self.family || peer.address.is_multicast()
                }) {
                    return Err(SettingsError::Destination(peer.address));
                }
            }
        }
        Ok(())
    }
}

fn check_interval(version: Version, interval: Duration) -> Result<(), SettingsError> {
    match version {
        Version::V2 => {
            if interval.subsec_nanos() != 0 || !(1..=255).contains(&interval.as_secs()) {
                return Err(SettingsError::IntervalV2(interval));
            }
        }
        Version::V3 => {
            let centiseconds = interval.as_nanos() / 10_000_000;
            if !interval.as_nanos().is_multiple_of(10_000_000)
                || !(1..=4095).contains(&centiseconds)
            {
                return Err(SettingsError::IntervalV3(interval));
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings() -> Settings {
        Settings::new(
            Vrid::new(51).unwrap(),
            Family::Ipv4,
            vec!["10.99.0.100".parse().unwrap()],
        )
    }

    #[test]
    fn defaults_are_valid_in_both_families() {
        assert_eq!(settings().check(), Ok(()));
        let six = Settings::new(
            Vrid::new(1).unwrap(),
            Family::Ipv6,
            vec!["fe80::1".parse().unwrap()],
        );
        assert_eq!(six.check(), Ok(()));
        assert_eq!(six.version, Version::V3);
    }

    #[test]
    fn intervals_that_the_wire_cannot_carry() {
        let mut s = settings();
        s.advert_interval = Duration::from_millis(400);
        assert_eq!(s.check(), Err(SettingsError::IntervalV2(s.advert_interval)));
        s.version = Version::V3;
        assert_eq!(s.check(), Ok(()));
        for bad in [
            Duration::ZERO,
            Duration::from_millis(15),
            Duration::from_secs(41),
        ] {
            s.advert_interval = bad;
            assert_eq!(s.check(), Err(SettingsError::IntervalV3(bad)));
        }
    }

    #[test]
    fn families_must_agree() {
        let mut s = settings();
        s.addresses.push("2001:db8::1".parse().unwrap());
        assert!(matches!(s.check(), Err(SettingsError::AddressFamily(_))));
        let mut s = settings();
        s.transport = Transport::Unicast {
            peers: Vec::new(),
            check_source: true,
            ttl: 255,
        };
        assert_eq!(s.check(), Err(SettingsError::NoPeers));
        s.transport = Transport::Multicast {
            group: "10.0.0.1".parse().unwrap(),
        };
        assert!(matches!(s.check(), Err(SettingsError::Destination(_))));
    }

    #[test]
    fn capacity_of_a_link() {
        let mut s = settings();
        assert_eq!(s.capacity(1500), 255);
        assert_eq!(s.capacity(576), (576 - 14 - 20 - 8 - 8) / 4);
        s.auth = Auth::Ah(PassKey::new(b"k").unwrap());
        assert_eq!(s.capacity(576), (576 - 14 - 20 - 8 - 8 - 24) / 4);
        let six = Settings::new(Vrid::new(1).unwrap(), Family::Ipv6, Vec::new());
        assert_eq!(six.capacity(1500), (1500 - 14 - 40 - 8) / 16);
        assert_eq!(six.capacity(10), 0);
    }

    #[test]
    fn state_master_voids_nopreempt() {
        let mut s = settings();
        s.preempt = Preempt::Never;
        assert_eq!(s.effective_preempt(), Preempt::Never);
        s.start_as_master = true;
        assert_eq!(s.effective_preempt(), Preempt::Always);
        s.start_as_master = false;
        s.priority = Priority::OWNER;
        assert_eq!(s.effective_preempt(), Preempt::Always);
    }
}
