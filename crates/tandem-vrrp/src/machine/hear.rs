//! What another host's advert does in each state (RFC 9568 6.4.2 and 6.4.3, keepalived's reading).

use std::cmp::Ordering;
use std::time::Instant;

use super::counters::Told;
use super::io::{AdvertReason, ClaimReason, Event, Output, Reason, State};
use super::{Machine, OwnerConflict, Phase};
use crate::packet::{CounterKind, Dialect, Received};
use crate::settings::Preempt;
use crate::types::{Family, Version};

/// An owner's silence for this many of its intervals ends a conflict; the next is a new one.
const CONFLICT_FORGOTTEN_INTERVALS: u32 = 3;

impl Machine {
    pub(super) fn hear(&mut self, advert: &Received, now: Instant, out: &mut Vec<Output>) {
        self.counters.advert_received += 1;
        if advert.priority == 0 {
            self.counters.priority_zero_received += 1;
        }
        self.senders.note(advert, now);
        match self.phase {
            Phase::Init { .. } | Phase::Fault | Phase::Stopped => return,
            Phase::Backup(_) => self.backup_hears(advert, now, out),
            Phase::Claiming { .. } => self.claiming_hears(advert, now, out),
            Phase::Master { .. } => self.master_hears(advert, now, out),
            Phase::Releasing { .. } => self.releasing_hears(advert, now, out),
        }
        self.remark(advert, out);
    }

    fn backup_hears(&mut self, advert: &Received, now: Instant, out: &mut Vec<Output>) {
        if advert.priority == 0 {
            let down_at = now + self.skew();
            if let Phase::Backup(backup) = &mut self.phase {
                backup.down_at = down_at;
                backup.on_expiry = ClaimReason::MasterLeft;
            }
        } else if self.accepts(advert, now) {
            self.follow(advert, now, out);
        } else {
            // The timer keeps running: the takeover follows at its expiry.
            if let Phase::Backup(backup) = &mut self.phase {
                backup.on_expiry = ClaimReason::Preempt;
            }
            let Received {
                source, priority, ..
            } = *advert;
            self.tell(
                source,
                Told::PreemptPending,
                Event::PreemptPending { source, priority },
                out,
            );
        }
    }

    /// While the answer to our wish is out, a master that we would follow ends the wish.
    fn claiming_hears(&mut self, advert: &Received, now: Instant, out: &mut Vec<Output>) {
        if advert.priority == 0 || !self.accepts(advert, now) {
            return;
        }
        let Received {
            source, priority, ..
        } = *advert;
        let reason = Reason::HigherMaster { source, priority };
        out.push(Output::Yield {
            to: State::Backup,
            reason,
        });
        self.enter_backup(reason, now, out);
        self.follow(advert, now, out);
    }

    fn master_hears(&mut self, advert: &Received, now: Instant, out: &mut Vec<Output>) {
        let Received {
            source, priority, ..
        } = *advert;
        if priority == 0 {
            self.advert_now(AdvertReason::PeerLeft, now, out);
            return;
        }
        let ours = self.effective_priority();
        let order = priority
            .cmp(&ours)
            .then_with(|| self.compare_address(advert));
        let conflict = priority == 255 && ours == 255;
        if conflict {
            self.tell(
                source,
                Told::OwnerConflict,
                Event::OwnerConflict { source },
                out,
            );
        }
        match order {
            Ordering::Equal => {
                self.tell(
                    source,
                    Told::OwnAddressHeard,
                    Event::OwnAddressHeard { source },
                    out,
                );
            }
            Ordering::Less if !(conflict && self.insisted_enough(advert, now)) => {
                if !self.settings.lower_prio_no_advert {
                    self.advert_now(AdvertReason::LowerMaster, now, out);
                }
                let round = self
                    .schedule
                    .lower_priority(&self.settings.announcements, now);
                out.extend(round.map(Output::Announce));
                out.push(Output::Event(Event::LowerMaster { source, priority }));
            }
            Ordering::Greater | Ordering::Less => {
                if self.settings.higher_prio_send_advert {
                    self.advert_now(AdvertReason::HigherMaster, now, out);
                }
                let reason = Reason::HigherMaster { source, priority };
                self.leave_master(State::Backup, reason, out);
                self.enter_backup(reason, now, out);
                self.follow(advert, now, out);
            }
        }
    }

    /// The successor, whatever its priority: we have asked it to take over.
    fn releasing_hears(&mut self, advert: &Received, now: Instant, out: &mut Vec<Output>) {
        if advert.priority == 0 {
            return;
        }
        self.finish_release(now, out);
        if matches!(self.phase, Phase::Backup(_)) {
            self.follow(advert, now, out);
        }
    }

    /// Equal priorities are decided by the higher address, as an unsigned number. Without an own
    /// address we are in FAULT and never get here.
    fn compare_address(&self, advert: &Received) -> Ordering {
        self.own
            .map_or(Ordering::Greater, |own| advert.source.cmp(&own))
    }

    /// Whether this advert's sender is a master to follow: higher or equal, or lower while we may
    /// not preempt.
    fn accepts(&mut self, advert: &Received, now: Instant) -> bool {
        if advert.priority >= self.effective_priority() {
            self.preempt_from = None;
            return true;
        }
        match self.settings.effective_preempt() {
            Preempt::Always => false,
            Preempt::Never => true,
            Preempt::After(delay) => {
                let since = *self.preempt_from.get_or_insert(now);
                now.saturating_duration_since(since) < delay
            }
        }
    }

    /// Takes the sender as master: its interval (v3) and a full Master_Down.
    fn follow(&mut self, advert: &Received, now: Instant, out: &mut Vec<Output>) {
        self.master = Some((advert.source, advert.priority));
        self.concede(advert, now, out);
        match self.settings.version {
            Version::V3 => {
                let cap = self.settings.learned_interval_cap;
                self.learned = Some(cap.map_or(advert.interval, |cap| advert.interval.min(cap)));
            }
            Version::V2 => {}
        }
        let down_at = now + self.master_down();
        if let Phase::Backup(backup) = &mut self.phase {
            backup.down_at = down_at;
            backup.on_expiry = ClaimReason::Silence;
            backup.graced = false;
        }
    }

    /// An owner that follows another owner runs at 254 until it hears something else or takes over.
    fn concede(&mut self, advert: &Received, now: Instant, out: &mut Vec<Output>) {
        if !self.settings.priority.is_owner() {
            return;
        }
        let before = self.effective_priority();
        self.conceded = advert.priority == 255;
        self.priority_changed(before, now, out);
        if self.conceded {
            let source = advert.source;
            self.tell(
                source,
                Told::OwnerConflict,
                Event::OwnerConflict { source },
                out,
            );
        }
    }

    /// Whether the other owner, whose address is lower, has ignored two of our adverts and 1.2 of
    /// the longer interval: then one of the two must go, and it does not (keepalived's rule).
    fn insisted_enough(&mut self, advert: &Received, now: Instant) -> bool {
        let ours = self.settings.advert_interval;
        let longer = ours.max(advert.interval);
        let fresh = OwnerConflict {
            yield_at: now + ours * 2 + longer * 6 / 5,
            last_heard: now,
        };
        let conflict = match self.conflict {
            Some(known) if now < known.last_heard + longer * CONFLICT_FORGOTTEN_INTERVALS => {
                OwnerConflict {
                    last_heard: now,
                    ..known
                }
            }
            Some(_) | None => fresh,
        };
        self.conflict = Some(conflict);
        now >= conflict.yield_at
    }

    /// What is odd about an advert that counted, told once per sender and state.
    fn remark(&mut self, advert: &Received, out: &mut Vec<Output>) {
        let Received {
            source,
            interval: theirs,
            ..
        } = *advert;
        if !advert.same_addresses {
            self.counters.drop_of(CounterKind::AddressList);
            self.tell(
                source,
                Told::AddressesDiffer,
                Event::AddressesDiffer { source },
                out,
            );
        }
        let ours = self.settings.advert_interval;
        if self.settings.version == Version::V3 && theirs != ours {
            let event = Event::IntervalDiffers {
                source,
                theirs,
                ours,
            };
            self.tell(source, Told::IntervalDiffers, event, out);
            if theirs > self.settings.learned_interval_alarm {
                let event = Event::IntervalLarge {
                    source,
                    theirs,
                    used: self.master_interval(),
                };
                self.tell(source, Told::IntervalLarge, event, out);
            }
        }
        let one_dialect =
            self.settings.version == Version::V2 || self.settings.family == Family::Ipv6;
        if !one_dialect
            && advert.dialect != ours_as_seen(self.settings.checksum, self.settings.is_unicast())
        {
            let event = Event::DialectDiffers {
                source,
                theirs: advert.dialect,
            };
            self.tell(source, Told::DialectDiffers, event, out);
        }
    }
}

/// In multicast B is A: the group is the real destination.
fn ours_as_seen(dialect: Dialect, unicast: bool) -> Dialect {
    match dialect {
        Dialect::B if !unicast => Dialect::A,
        Dialect::A | Dialect::B | Dialect::C => dialect,
    }
}
