//! When to announce: the rounds of gratuitous ARP and unsolicited NA that follow a takeover.
//!
//! Decides the instants and the order and spacing of frames within a round; building frames is
//! [`crate::arp`] and [`crate::ndisc`], sending them the shell's. Defaults are keepalived's
//! (`garp_master_*`, `garp_lower_prio_*`).

use std::time::{Duration, Instant};

/// Settings of announcement rounds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Announcements {
    /// Frames per address in the rounds after entry (`garp_master_repeat`).
    pub repeat: u32,
    /// Second round this long after entry (`garp_master_delay`); zero: none.
    pub delay: Duration,
    /// Period of further rounds while MASTER (`garp_master_refresh`); zero: none.
    pub refresh: Duration,
    /// Frames per address in a refresh round (`garp_master_refresh_repeat`).
    pub refresh_repeat: u32,
    /// Frames per address after a lower master was heard (`garp_lower_prio_repeat`); zero: none.
    pub lower_prio_repeat: u32,
    /// Second such round after this long (`garp_lower_prio_delay`); zero: none.
    pub lower_prio_delay: Duration,
    /// Smallest gap between two ARP frames on an interface (`garp_interval`).
    pub arp_interval: Duration,
    /// Smallest gap between two NA frames on an interface (`gna_interval`).
    pub na_interval: Duration,
}

impl Default for Announcements {
    fn default() -> Self {
        Self {
            repeat: 5,
            delay: Duration::from_secs(5),
            refresh: Duration::ZERO,
            refresh_repeat: 1,
            lower_prio_repeat: 5,
            lower_prio_delay: Duration::from_secs(5),
            arp_interval: Duration::ZERO,
            na_interval: Duration::ZERO,
        }
    }
}

impl Announcements {
    /// `vrrp_min_garp`: one frame per address, no second round.
    pub fn minimal() -> Self {
        Self {
            repeat: 1,
            delay: Duration::ZERO,
            lower_prio_repeat: 1,
            lower_prio_delay: Duration::ZERO,
            ..Self::default()
        }
    }
}

/// Why a round is sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum RoundKind {
    /// On becoming MASTER.
    Entry,
    /// The second round after entry.
    EntryRepeat,
    /// A periodic refresh.
    Refresh,
    /// A master of lower priority was heard: its segment may have learned its address.
    LowerPriority,
    /// The second round after that.
    LowerPriorityRepeat,
    /// New addresses after a reload, or a request of the shell or the sync group.
    Requested,
    /// Our own source address, once, on leaving FAULT in unicast mode: the peer may have no
    /// neighbour entry and its adverts would wait for resolution.
    OwnAddress,
}

/// One announcement round: each address `repeat` times, in turn.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Round {
    /// Why.
    pub kind: RoundKind,
    /// Frames per address, at least 1.
    pub repeat: u32,
}

impl Round {
    /// The frames of this round over `addresses` addresses, at most one every `gap`: pairs of
    /// address index and offset from the start. Round-robin, as keepalived sends them, so that
    /// the last address does not wait for all repeats of the first.
    pub fn frames(
        self,
        addresses: usize,
        gap: Duration,
    ) -> impl Iterator<Item = (usize, Duration)> {
        (0..self.repeat)
            .flat_map(move |_| 0..addresses)
            .zip(0u32..)
            .map(move |(address, index)| (address, gap.saturating_mul(index)))
    }
}

/// The pending rounds of one MASTER.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Schedule {
    second_at: Option<Instant>,
    refresh_at: Option<Instant>,
    lower_prio_at: Option<Instant>,
}

impl Schedule {
    /// Becoming MASTER: the round for now; later ones are remembered.
    pub(crate) fn enter(&mut self, settings: &Announcements, now: Instant) -> Option<Round> {
        *self = Self {
            second_at: after(now, settings.delay).filter(|_| settings.repeat > 0),
            refresh_at: after(now, settings.refresh),
            lower_prio_at: None,
        };
        round(RoundKind::Entry, settings.repeat)
    }

    /// A lower master was heard: the round for now. Its repeat is re-armed by each.
    pub(crate) fn lower_priority(
        &mut self,
        settings: &Announcements,
        now: Instant,
    ) -> Option<Round> {
        if settings.lower_prio_repeat > 0 {
            self.lower_prio_at = after(now, settings.lower_prio_delay);
        }
        round(RoundKind::LowerPriority, settings.lower_prio_repeat)
    }

    /// Nothing is announced any more.
    pub(crate) fn clear(&mut self) {
        *self = Self::default();
    }

    /// New settings while MASTER: a refresh begins, ends or changes its period.
    pub(crate) fn reload(&mut self, settings: &Announcements, now: Instant) {
        let at_latest = after(now, settings.refresh);
        self.refresh_at = match (self.refresh_at, at_latest) {
            (Some(old), Some(new)) => Some(old.min(new)),
            (None, new) => new,
            (Some(_), None) => None,
        };
    }

    /// The earliest pending round.
    pub(crate) fn next(&self) -> Option<(Instant, RoundKind)> {
        [
            (self.second_at, RoundKind::EntryRepeat),
            (self.lower_prio_at, RoundKind::LowerPriorityRepeat),
            (self.refresh_at, RoundKind::Refresh),
        ]
        .into_iter()
        .filter_map(|(at, kind)| at.map(|at| (at, kind)))
        .min()
    }

    /// The rounds due at `now`, each at most once: a late caller gets one refresh, not a burst.
    pub(crate) fn due(&mut self, settings: &Announcements, now: Instant) -> Vec<Round> {
        let mut rounds = Vec::new();
        if self.second_at.take_if(|at| *at <= now).is_some() {
            rounds.extend(round(RoundKind::EntryRepeat, settings.repeat));
        }
        if self.lower_prio_at.take_if(|at| *at <= now).is_some() {
            rounds.extend(round(
                RoundKind::LowerPriorityRepeat,
                settings.lower_prio_repeat,
            ));
        }
        if self.refresh_at.take_if(|at| *at <= now).is_some() {
            self.refresh_at = after(now, settings.refresh);
            rounds.extend(round(RoundKind::Refresh, settings.refresh_repeat));
        }
        rounds
    }
}

fn after(now: Instant, delay: Duration) -> Option<Instant> {
    (!delay.is_zero()).then(|| now + delay)
}

fn round(kind: RoundKind, repeat: u32) -> Option<Round> {
    (repeat > 0).then_some(Round { kind, repeat })
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn ms(milliseconds: u64) -> Duration {
        Duration::from_millis(milliseconds)
    }

    #[expect(
        clippy::disallowed_methods,
        reason = "an arbitrary start; no decision depends on it"
    )]
    fn origin() -> Instant {
        Instant::now()
    }

    #[test]
    fn frames_go_round_the_addresses_with_the_gap_between_any_two() {
        let round = Round {
            kind: RoundKind::Entry,
            repeat: 2,
        };
        let frames: Vec<_> = round.frames(3, ms(10)).collect();
        let expected = [(0, 0), (1, 10), (2, 20), (0, 30), (1, 40), (2, 50)];
        assert_eq!(frames, expected.map(|(address, at)| (address, ms(at))));
        assert_eq!(round.frames(0, ms(10)).count(), 0);
    }

    #[test]
    fn defaults_announce_at_entry_and_five_seconds_later() {
        let settings = Announcements::default();
        let (mut schedule, start) = (Schedule::default(), origin());
        let entry = schedule.enter(&settings, start);
        assert_eq!(
            entry,
            Some(Round {
                kind: RoundKind::Entry,
                repeat: 5
            })
        );
        let second = start + Duration::from_secs(5);
        assert_eq!(schedule.next(), Some((second, RoundKind::EntryRepeat)));
        assert_eq!(schedule.due(&settings, second - ms(1)), []);
        assert_eq!(
            schedule.due(&settings, second),
            [Round {
                kind: RoundKind::EntryRepeat,
                repeat: 5
            }]
        );
        assert_eq!(schedule.next(), None, "no refresh by default");
    }

    #[test]
    fn the_minimum_is_one_frame() {
        let settings = Announcements::minimal();
        let (mut schedule, start) = (Schedule::default(), origin());
        assert_eq!(
            schedule.enter(&settings, start),
            Some(Round {
                kind: RoundKind::Entry,
                repeat: 1
            })
        );
        assert_eq!(schedule.next(), None);
        assert_eq!(
            schedule
                .lower_priority(&settings, start)
                .map(|round| round.repeat),
            Some(1)
        );
        assert_eq!(schedule.next(), None);
    }

    #[test]
    fn each_lower_master_puts_its_second_round_off() {
        let settings = Announcements::default();
        let (mut schedule, start) = (Schedule::default(), origin());
        schedule.lower_priority(&settings, start);
        schedule.lower_priority(&settings, start + ms(100));
        let second = start + ms(5100);
        assert_eq!(
            schedule.next(),
            Some((second, RoundKind::LowerPriorityRepeat))
        );
    }

    #[test]
    fn a_late_refresh_is_one_round() {
        let settings = Announcements {
            refresh: ms(100),
            delay: Duration::ZERO,
            ..Announcements::default()
        };
        let (mut schedule, start) = (Schedule::default(), origin());
        schedule.enter(&settings, start);
        assert_eq!(schedule.due(&settings, start + ms(1000)).len(), 1);
        assert_eq!(
            schedule.next(),
            Some((start + ms(1100), RoundKind::Refresh))
        );
        let off = Announcements {
            refresh: Duration::ZERO,
            ..settings
        };
        schedule.reload(&off, start);
        assert_eq!(schedule.next(), None);
    }
}
