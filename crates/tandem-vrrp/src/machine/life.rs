//! The transitions that nobody else's advert causes: start, answers to a wish, faults, handing
//! over, stop, reload.

use std::net::IpAddr;
use std::time::Instant;

use super::counters::Told;
use super::io::{
    AdvertReason, ClaimId, ClaimReason, Event, FaultReason, FaultSource, Output, Reason, State,
};
use super::timers::skew_time;
use super::{Machine, Phase};
use crate::garp::{Round, RoundKind};
use crate::packet::DecodeError;
use crate::settings::Settings;

impl Machine {
    pub(super) fn start(&mut self, now: Instant, out: &mut Vec<Output>) {
        if !matches!(self.phase, Phase::Init { .. }) {
            return;
        }
        if self
            .faults
            .values()
            .any(|reason| *reason == FaultReason::Failed)
        {
            self.set_phase(Phase::Fault);
            self.became(State::Fault, Reason::Fault, out);
        } else if !self.faults.is_empty() {
            self.phase = Phase::Init { started: true };
        } else if self.settings.priority.is_owner() && self.settings.start_as_master {
            self.start_owner(now, out);
        } else {
            self.enter_backup(Reason::Started, now, out);
        }
    }

    /// The owner does not wait for silence; in a sync group it gives the others one interval, as
    /// keepalived does.
    fn start_owner(&mut self, now: Instant, out: &mut Vec<Output>) {
        if !self.settings.in_sync_group {
            self.claim(ClaimReason::Owner, out);
            return;
        }
        self.enter_backup(Reason::Started, now, out);
        let interval = self.settings.advert_interval;
        let wait = interval + skew_time(self.settings.version, interval, 255);
        if let Phase::Backup(backup) = &mut self.phase {
            backup.down_at = now + wait;
            backup.on_expiry = ClaimReason::Owner;
        }
    }

    pub(super) fn resume(&mut self, now: Instant, out: &mut Vec<Output>) {
        if !matches!(self.phase, Phase::Init { .. }) {
            return;
        }
        if self.faults.is_empty() {
            self.enter_master(Reason::Resumed, now, out);
        } else {
            self.start(now, out);
        }
    }

    pub(super) fn granted(&mut self, claim: ClaimId, now: Instant, out: &mut Vec<Output>) {
        match self.phase {
            Phase::Claiming {
                claim: ours,
                reason,
            } if ours == claim => {
                self.enter_master(Reason::Granted(reason), now, out);
            }
            // The wish was given up meanwhile: whoever granted it must not keep what it prepared.
            Phase::Init { .. }
            | Phase::Backup(_)
            | Phase::Claiming { .. }
            | Phase::Fault
            | Phase::Stopped => {
                out.push(Output::Yield {
                    to: self.state(),
                    reason: Reason::StaleGrant,
                });
            }
            // Answered twice; or an older answer while the addresses are rightly here.
            Phase::Master { .. } | Phase::Releasing { .. } => {}
        }
    }

    pub(super) fn denied(&mut self, claim: ClaimId, now: Instant, out: &mut Vec<Output>) {
        if matches!(self.phase, Phase::Claiming { claim: ours, .. } if ours == claim) {
            self.enter_backup(Reason::Denied, now, out);
        }
    }

    /// The advert goes first, so that the old master drops its addresses before ours are announced.
    fn enter_master(&mut self, reason: Reason, now: Instant, out: &mut Vec<Output>) {
        self.learned = None;
        self.master = None;
        self.preempt_from = None;
        self.conceded = false;
        self.counters.become_master += 1;
        self.senders.state_changed();
        self.advert_now(AdvertReason::Entry, now, out);
        self.became(State::Master, reason, out);
        let round = self.schedule.enter(&self.settings.announcements, now);
        out.extend(round.map(Output::Announce));
    }

    pub(super) fn peer_released(&mut self, out: &mut Vec<Output>) {
        if matches!(&self.phase, Phase::Backup(backup) if backup.on_expiry == ClaimReason::MasterLeft)
        {
            self.claim(ClaimReason::PeerReleased, out);
        }
    }

    pub(super) fn claim_asked(&mut self, out: &mut Vec<Output>) {
        match self.phase {
            Phase::Backup(_) => self.claim(ClaimReason::Asked, out),
            Phase::Init { .. }
            | Phase::Claiming { .. }
            | Phase::Releasing { .. }
            | Phase::Master { .. }
            | Phase::Fault
            | Phase::Stopped => {}
        }
    }

    pub(super) fn fault(
        &mut self,
        source: FaultSource,
        reason: FaultReason,
        out: &mut Vec<Output>,
    ) {
        if self.faults.insert(source, reason) == Some(reason) || reason == FaultReason::Pending {
            return;
        }
        match self.phase {
            Phase::Init { started: false } | Phase::Stopped => return,
            // The hand-over goes on; it ends in FAULT instead of BACKUP.
            Phase::Releasing { .. } => return,
            Phase::Fault => {
                out.push(Output::Event(Event::FaultsChanged {
                    remaining: self.faults.len(),
                }));
                return;
            }
            Phase::Init { started: true } | Phase::Backup(_) => {}
            Phase::Claiming { .. } => out.push(Output::Yield {
                to: State::Fault,
                reason: Reason::Fault,
            }),
            Phase::Master { .. } => {
                self.send_priority_zero(out);
                self.leave_master(State::Fault, Reason::Fault, out);
            }
        }
        self.set_phase(Phase::Fault);
        self.became(State::Fault, Reason::Fault, out);
    }

    pub(super) fn fault_cleared(
        &mut self,
        source: &FaultSource,
        now: Instant,
        out: &mut Vec<Output>,
    ) {
        if self.faults.remove(source).is_none() {
            return;
        }
        match self.phase {
            Phase::Init { started: true } if self.faults.is_empty() => self.start(now, out),
            Phase::Fault if self.faults.is_empty() => {
                self.learned = None;
                self.master = None;
                if self.settings.is_unicast() {
                    out.push(Output::Announce(Round {
                        kind: RoundKind::OwnAddress,
                        repeat: 1,
                    }));
                }
                self.enter_backup(Reason::Recovered, now, out);
            }
            Phase::Fault => out.push(Output::Event(Event::FaultsChanged {
                remaining: self.faults.len(),
            })),
            Phase::Init { .. }
            | Phase::Backup(_)
            | Phase::Claiming { .. }
            | Phase::Master { .. }
            | Phase::Releasing { .. }
            | Phase::Stopped => {}
        }
    }

    pub(super) fn release(&mut self, now: Instant, out: &mut Vec<Output>) {
        match self.phase {
            Phase::Master { .. } => {
                self.send_priority_zero(out);
                self.schedule.clear();
                self.conflict = None;
                self.set_phase(Phase::Releasing {
                    until: now + self.settings.release_hold,
                });
            }
            Phase::Claiming { .. } => {
                out.push(Output::Yield {
                    to: State::Backup,
                    reason: Reason::Released,
                });
                self.enter_backup(Reason::Released, now, out);
            }
            Phase::Init { .. }
            | Phase::Backup(_)
            | Phase::Releasing { .. }
            | Phase::Fault
            | Phase::Stopped => {}
        }
    }

    /// The successor was heard, or has had its time: the addresses go.
    pub(super) fn finish_release(&mut self, now: Instant, out: &mut Vec<Output>) {
        if self
            .faults
            .values()
            .any(|reason| *reason == FaultReason::Failed)
        {
            self.leave_master(State::Fault, Reason::Released, out);
            self.set_phase(Phase::Fault);
            self.became(State::Fault, Reason::Fault, out);
        } else {
            self.leave_master(State::Backup, Reason::Released, out);
            self.enter_backup(Reason::Released, now, out);
        }
    }

    pub(super) fn withdraw(&mut self, now: Instant, out: &mut Vec<Output>) {
        match self.phase {
            Phase::Master { .. } => self.leave_master(State::Backup, Reason::Withdrawn, out),
            Phase::Claiming { .. } => out.push(Output::Yield {
                to: State::Backup,
                reason: Reason::Withdrawn,
            }),
            Phase::Init { .. }
            | Phase::Backup(_)
            | Phase::Releasing { .. }
            | Phase::Fault
            | Phase::Stopped => {
                return;
            }
        }
        self.enter_backup(Reason::Withdrawn, now, out);
    }

    pub(super) fn stop(&mut self, out: &mut Vec<Output>) {
        match self.phase {
            Phase::Stopped => return,
            Phase::Master { .. } => {
                self.send_priority_zero(out);
                self.leave_master(State::Stopped, Reason::Stopped, out);
            }
            // Priority 0 has been sent.
            Phase::Releasing { .. } => self.leave_master(State::Stopped, Reason::Stopped, out),
            Phase::Claiming { .. } => out.push(Output::Yield {
                to: State::Stopped,
                reason: Reason::Stopped,
            }),
            Phase::Init { .. } | Phase::Backup(_) | Phase::Fault => {}
        }
        self.set_phase(Phase::Stopped);
        self.became(State::Stopped, Reason::Stopped, out);
    }

    /// New settings for the same router: a MASTER advertises them at once, a BACKUP's timer moves.
    pub(super) fn reload(&mut self, settings: Settings, now: Instant, out: &mut Vec<Output>) {
        let other = (settings.vrid, settings.version, settings.family)
            != (
                self.settings.vrid,
                self.settings.version,
                self.settings.family,
            );
        if other || settings.check().is_err() {
            out.push(Output::Event(Event::ReloadRefused));
            return;
        }
        let (priority, down) = (self.effective_priority(), self.master_down());
        let readdressed = settings.addresses != self.settings.addresses;
        self.settings = settings;
        self.shift_down_timer(down, now);
        if self.effective_priority() != priority {
            let to = self.effective_priority();
            out.push(Output::Event(Event::PriorityChanged { from: priority, to }));
        }
        if matches!(self.phase, Phase::Master { .. }) {
            self.advert_now(AdvertReason::Reload, now, out);
            self.schedule.reload(&self.settings.announcements, now);
            if readdressed {
                self.announce(out);
            }
        }
    }

    pub(super) fn reject(&mut self, source: IpAddr, error: DecodeError, out: &mut Vec<Output>) {
        let kind = error.counter();
        self.counters.drop_of(kind);
        self.tell(
            source,
            Told::Rejected(kind),
            Event::Rejected { source, error },
            out,
        );
    }
}
