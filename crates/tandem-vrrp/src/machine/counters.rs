//! What a router counts: the fields of keepalived's statistics, and what it has heard of whom.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::time::{Duration, Instant};

use crate::packet::{CounterKind, Dialect, Received};

/// Senders kept for status. A stranger who forges sources pushes out the one silent longest.
const PEERS_MAX: usize = 64;
/// Kinds of event per sender remembered as already told.
const TOLD_MAX: usize = 256;

/// Counters of one router; they only go up.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Counters {
    /// `advert_rcvd`: adverts that passed all checks.
    pub advert_received: u64,
    /// `advert_sent`: times that an advert left, whatever the number of destinations.
    pub advert_sent: u64,
    /// `become_master`
    pub become_master: u64,
    /// `release_master`
    pub release_master: u64,
    /// `pri_zero_rcvd`
    pub priority_zero_received: u64,
    /// `pri_zero_sent`
    pub priority_zero_sent: u64,
    dropped: BTreeMap<CounterKind, u64>,
}

impl Counters {
    /// How often a check of this kind failed. An address list that differs counts here also when
    /// the advert was accepted, as in keepalived.
    pub fn dropped(&self, kind: CounterKind) -> u64 {
        self.dropped.get(&kind).copied().unwrap_or(0)
    }

    pub(super) fn drop_of(&mut self, kind: CounterKind) {
        *self.dropped.entry(kind).or_default() += 1;
    }
}

/// The last that was heard of another host with this VRID.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Heard {
    /// When.
    pub at: Instant,
    /// Its priority, 0 when it left.
    pub priority: u8,
    /// Its interval.
    pub interval: Duration,
    /// How it computes checksums.
    pub dialect: Dialect,
    /// Whether its adverts carry a valid HMAC.
    pub authenticated: bool,
}

/// Kinds of event that are told once per sender and state.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Told {
    Rejected(CounterKind),
    IntervalDiffers,
    IntervalLarge,
    AddressesDiffer,
    DialectDiffers,
    OwnAddressHeard,
    PreemptPending,
    OwnerConflict,
}

/// Answer to "may this be told?".
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Permit {
    /// Yes, the first time.
    Tell,
    /// It was told.
    Silent,
    /// Not told, and nothing more will be: the table has just become full.
    Full,
}

/// Senders and what was told of them.
#[derive(Debug, Clone, Default)]
pub(super) struct Senders {
    peers: BTreeMap<IpAddr, Heard>,
    told: BTreeSet<(IpAddr, Told)>,
    overflowed: bool,
}

impl Senders {
    pub(super) fn note(&mut self, advert: &Received, now: Instant) {
        if self.peers.len() >= PEERS_MAX && !self.peers.contains_key(&advert.source) {
            let oldest = self
                .peers
                .iter()
                .min_by_key(|(_, heard)| heard.at)
                .map(|(source, _)| *source);
            if let Some(oldest) = oldest {
                self.peers.remove(&oldest);
            }
        }
        let heard = Heard {
            at: now,
            priority: advert.priority,
            interval: advert.interval,
            dialect: advert.dialect,
            authenticated: advert.authenticated,
        };
        self.peers.insert(advert.source, heard);
    }

    pub(super) fn peers(&self) -> impl Iterator<Item = (IpAddr, &Heard)> {
        self.peers.iter().map(|(source, heard)| (*source, heard))
    }

    /// RFC 9568 asks for a limit on logging: once per kind and sender until the state changes.
    pub(super) fn permit(&mut self, source: IpAddr, kind: Told) -> Permit {
        if self.told.contains(&(source, kind)) {
            return Permit::Silent;
        }
        if self.told.len() >= TOLD_MAX {
            return if std::mem::replace(&mut self.overflowed, true) {
                Permit::Silent
            } else {
                Permit::Full
            };
        }
        self.told.insert((source, kind));
        Permit::Tell
    }

    pub(super) fn state_changed(&mut self) {
        self.told.clear();
        self.overflowed = false;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sender(n: u16) -> IpAddr {
        let [high, low] = n.to_be_bytes();
        IpAddr::from([10, 0, high, low])
    }

    #[test]
    fn told_once_until_the_state_changes_and_never_without_bound() {
        let mut senders = Senders::default();
        for n in 0..256 {
            assert_eq!(senders.permit(sender(n), Told::OwnerConflict), Permit::Tell);
        }
        assert_eq!(
            senders.permit(sender(0), Told::OwnerConflict),
            Permit::Silent
        );
        assert_eq!(
            senders.permit(sender(256), Told::OwnerConflict),
            Permit::Full
        );
        assert_eq!(
            senders.permit(sender(257), Told::OwnerConflict),
            Permit::Silent
        );
        senders.state_changed();
        assert_eq!(senders.permit(sender(0), Told::OwnerConflict), Permit::Tell);
    }

    #[test]
    #[expect(
        clippy::disallowed_methods,
        reason = "an arbitrary start; no decision depends on it"
    )]
    fn the_longest_silent_peer_makes_room() {
        let mut senders = Senders::default();
        let start = Instant::now();
        for n in 0..65u16 {
            let advert = Received {
                source: sender(n),
                priority: 100,
                interval: Duration::from_secs(1),
                dialect: Dialect::A,
                same_addresses: true,
                authenticated: false,
            };
            senders.note(&advert, start + Duration::from_secs(n.into()));
        }
        let kept: Vec<_> = senders.peers().map(|(source, _)| source).collect();
        assert_eq!(kept.len(), 64);
        assert!(!kept.contains(&sender(0)) && kept.contains(&sender(64)));
    }
}
