//! One virtual router: who should be MASTER, and when to say so.
//!
//! Follows keepalived's transitions (which are RFC 9568 6.4 and a FAULT state) with two states of
//! our own. CLAIMING lies between the wish to be MASTER and the leave to be it: nothing is sent
//! there, however long the answer takes. RELEASING lies between priority 0 and giving the addresses
//! up, so that clients can still be refused there. The machine knows no address as installed, no
//! socket and no clock: `now` is an argument, and [`Machine::next_deadline`] says when to come back.
//!
//! ```text
//!            silence, priority 0                Granted: advert
//!   BACKUP ----------------------> CLAIMING ----------------------> MASTER
//!     ^  ^--- Denied, a master speaks --'                            |  |
//!     |        higher master, a long pause                           |  | Release: priority 0
//!     +--------------------------------------------------------------+  v
//!     +-------------- successor's advert, or 50 ms ---------------- RELEASING
//! ```
//!
//! Not copied from keepalived: a rejected advert never restarts a timer, the interval learned from
//! another master ends with its mastership, adverts keep their phase instead of drifting, priority
//! 0 is sent once, and a MASTER that was frozen yields before it speaks.

mod counters;
mod hear;
mod io;
mod life;
pub mod timers;

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::{Duration, Instant};

pub use counters::{Counters, Heard};
pub use io::{
    AdvertReason, AdvertToSend, ClaimId, ClaimReason, DeadlineReason, Event, FaultReason,
    FaultSource, Input, Output, Reason, State,
};

use self::counters::{Permit, Senders, Told};
use self::timers::{master_down_interval, next_in_phase, skew_time};
use crate::garp::{Round, RoundKind, Schedule};
use crate::settings::{Settings, SettingsError};
use crate::track::Weights;
use crate::types::Version;

/// A state with what belongs to it.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Phase {
    Init {
        /// Start came, and checks without a first result hold us back.
        started: bool,
    },
    Backup(Backup),
    Claiming {
        claim: ClaimId,
        reason: ClaimReason,
    },
    Master {
        advert_at: Instant,
        /// Last advert that left, for the question whether somebody must have missed us.
        sent_at: Instant,
    },
    Releasing {
        until: Instant,
    },
    Fault,
    Stopped,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Backup {
    down_at: Instant,
    /// What the timer's expiry will mean.
    on_expiry: ClaimReason,
    /// A late expiry has been given one interval of grace; there is no second.
    graced: bool,
}

/// Two owners: how long we, with the higher address, insist.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct OwnerConflict {
    yield_at: Instant,
    last_heard: Instant,
}

/// One virtual router. Feed it with [`Machine::handle`]; carry its outputs out in order.
#[derive(Debug, Clone)]
pub struct Machine {
    settings: Settings,
    own: Option<IpAddr>,
    phase: Phase,
    /// What [`Output::Became`] said last.
    told: Option<State>,
    faults: BTreeMap<FaultSource, FaultReason>,
    weights: Weights,
    /// M, the interval of the master that a v3 backup listens to; `None` for our own.
    learned: Option<Duration>,
    /// The master last accepted.
    master: Option<(IpAddr, u8)>,
    /// When a lower master was first heard, for `preempt_delay`.
    preempt_from: Option<Instant>,
    /// An owner that heard another owner runs at 254 until that one is gone.
    conceded: bool,
    conflict: Option<OwnerConflict>,
    schedule: Schedule,
    counters: Counters,
    senders: Senders,
    last_claim: u64,
}

impl Machine {
    /// A router that has not started. `own` is the source address of its adverts; without one it
    /// will be in FAULT.
    ///
    /// # Errors
    /// Settings that cannot work.
    pub fn new(settings: Settings, own: Option<IpAddr>) -> Result<Self, SettingsError> {
        settings.check()?;
        let mut faults = BTreeMap::new();
        if own.is_none() {
            faults.insert(FaultSource::OwnAddress, FaultReason::Failed);
        }
        Ok(Self {
            settings,
            own,
            phase: Phase::Init { started: false },
            told: None,
            faults,
            weights: Weights::default(),
            learned: None,
            master: None,
            preempt_from: None,
            conceded: false,
            conflict: None,
            schedule: Schedule::default(),
            counters: Counters::default(),
            senders: Senders::default(),
            last_claim: 0,
        })
    }

    /// Takes one input. Outputs are to be carried out in order, before the next input.
    ///
    /// `now` must not go back; if it does, deadlines only come later.
    pub fn handle(&mut self, input: Input, now: Instant) -> Vec<Output> {
        let mut out = Vec::new();
        self.yield_if_late(&input, now, &mut out);
        match input {
            Input::Start => self.start(now, &mut out),
            Input::Resume => self.resume(now, &mut out),
            Input::Timer => self.timer(now, &mut out),
            Input::Advert(advert) => self.hear(&advert, now, &mut out),
            Input::Rejected { source, error } => self.reject(source, error, &mut out),
            Input::Granted(claim) => self.granted(claim, now, &mut out),
            Input::Denied(claim) => self.denied(claim, now, &mut out),
            Input::Fault { source, reason } => self.fault(source, reason, &mut out),
            Input::FaultCleared(source) => self.fault_cleared(&source, now, &mut out),
            Input::Weight { source, delta } => {
                let before = self.effective_priority();
                self.weights.set(source, delta);
                self.priority_changed(before, now, &mut out);
            }
            Input::OwnAddress(own) => {
                self.own = own;
                match own {
                    Some(_) => self.fault_cleared(&FaultSource::OwnAddress, now, &mut out),
                    None => self.fault(FaultSource::OwnAddress, FaultReason::Failed, &mut out),
                }
            }
            Input::PeerReleased => self.peer_released(&mut out),
            Input::Claim => self.claim_asked(&mut out),
            Input::PauseDetected(length) => self.paused(length, now, &mut out),
            Input::Release => self.release(now, &mut out),
            Input::Withdraw => self.withdraw(now, &mut out),
            Input::Announce => self.announce(&mut out),
            Input::Stop => self.stop(&mut out),
            Input::Reload(settings) => self.reload(*settings, now, &mut out),
        }
        out
    }

    /// When to come back with [`Input::Timer`], and what for.
    pub fn next_deadline(&self) -> Option<(Instant, DeadlineReason)> {
        match &self.phase {
            Phase::Backup(backup) => Some((backup.down_at, DeadlineReason::MasterDown)),
            Phase::Master { advert_at, .. } => {
                let advert = (*advert_at, DeadlineReason::Advert);
                let round = self
                    .schedule
                    .next()
                    .map(|(at, _)| (at, DeadlineReason::Announcement));
                Some(round.map_or(advert, |round| advert.min(round)))
            }
            Phase::Releasing { until } => Some((*until, DeadlineReason::ReleaseHold)),
            Phase::Init { .. } | Phase::Claiming { .. } | Phase::Fault | Phase::Stopped => None,
        }
    }

    /// The state.
    pub fn state(&self) -> State {
        match self.phase {
            Phase::Init { .. } => State::Init,
            Phase::Backup(_) => State::Backup,
            Phase::Claiming { .. } => State::Claiming,
            Phase::Master { .. } => State::Master,
            Phase::Releasing { .. } => State::Releasing,
            Phase::Fault => State::Fault,
            Phase::Stopped => State::Stopped,
        }
    }

    /// The settings in force.
    pub fn settings(&self) -> &Settings {
        &self.settings
    }

    /// The source address of our adverts.
    pub fn own_address(&self) -> Option<IpAddr> {
        self.own
    }

    /// The priority that adverts carry now: base, weights, and an owner's concession to another.
    pub fn effective_priority(&self) -> u8 {
        if self.conceded && self.settings.priority.is_owner() {
            254
        } else {
            self.weights.apply(self.settings.priority)
        }
    }

    /// M: our interval, or in v3 that of the master we listen to.
    pub fn master_interval(&self) -> Duration {
        match self.settings.version {
            Version::V2 => self.settings.advert_interval,
            Version::V3 => self.learned.unwrap_or(self.settings.advert_interval),
        }
    }

    /// Master_Down_Interval as it is now.
    pub fn master_down(&self) -> Duration {
        let priority = self.effective_priority();
        let adverts = self.settings.down_timer_adverts;
        master_down_interval(
            self.settings.version,
            self.master_interval(),
            adverts,
            priority,
        )
    }

    /// Address and priority of the master last accepted, unless that is us.
    pub fn master(&self) -> Option<(IpAddr, u8)> {
        self.master
    }

    /// What is broken, or has no result yet.
    pub fn faults(&self) -> impl Iterator<Item = (&FaultSource, FaultReason)> {
        self.faults.iter().map(|(source, reason)| (source, *reason))
    }

    /// Counters since the machine was made.
    pub fn counters(&self) -> &Counters {
        &self.counters
    }

    /// Other hosts heard with this VRID, at most 64 of them.
    pub fn peers(&self) -> impl Iterator<Item = (IpAddr, &Heard)> {
        self.senders.peers()
    }

    fn skew(&self) -> Duration {
        skew_time(
            self.settings.version,
            self.master_interval(),
            self.effective_priority(),
        )
    }

    // Timers.

    fn timer(&mut self, now: Instant, out: &mut Vec<Output>) {
        match self.phase {
            Phase::Backup(ref backup) => {
                let late = now.saturating_duration_since(backup.down_at);
                if now < backup.down_at {
                    return;
                }
                // So late that adverts may wait unread behind us: listen for one interval first.
                if late > self.master_interval() && !backup.graced {
                    out.push(Output::Event(Event::Late(late)));
                    self.grace(now);
                    return;
                }
                let reason = backup.on_expiry;
                self.claim(reason, out);
            }
            Phase::Master { advert_at, .. } => {
                if now >= advert_at {
                    let next = next_in_phase(advert_at, self.settings.advert_interval, now);
                    self.send_advert(AdvertReason::Interval, now, next, out);
                }
                let rounds = self.schedule.due(&self.settings.announcements, now);
                out.extend(rounds.into_iter().map(Output::Announce));
            }
            Phase::Releasing { until } => {
                if now >= until {
                    self.learned = None;
                    self.finish_release(now, out);
                }
            }
            Phase::Init { .. } | Phase::Claiming { .. } | Phase::Fault | Phase::Stopped => {}
        }
    }

    /// Gives a BACKUP whose timer ran while nobody listened one interval to hear the master.
    fn grace(&mut self, now: Instant) {
        let until = now + self.master_interval() + self.skew();
        if let Phase::Backup(backup) = &mut self.phase {
            backup.down_at = backup.down_at.max(until);
            backup.graced = true;
        }
    }

    /// A MASTER silent for so long that a backup must have claimed yields before anything else:
    /// its next advert would meet another MASTER.
    fn yield_if_late(&mut self, input: &Input, now: Instant, out: &mut Vec<Output>) {
        let Phase::Master { sent_at, .. } = self.phase else {
            return;
        };
        let silent = now.saturating_duration_since(sent_at);
        // A pause may be one that `now` did not count, as of a suspended machine.
        let lost = match input {
            Input::PauseDetected(length) => silent.max(*length),
            _ if self.settings.yield_when_late => silent,
            _ => return,
        };
        if lost >= self.earliest_takeover() {
            out.push(Output::Event(Event::Late(lost)));
            self.leave_master(State::Backup, Reason::Paused, out);
            self.enter_backup(Reason::Paused, now, out);
        }
    }

    /// The soonest after our last advert that a backup as keen as can be, priority 254, claims.
    /// With D = 1 that is an interval and a hair, which an ordinary timer misses: two intervals then.
    fn earliest_takeover(&self) -> Duration {
        let Settings {
            version,
            advert_interval,
            down_timer_adverts,
            ..
        } = self.settings;
        let keenest = master_down_interval(version, advert_interval, down_timer_adverts, 254);
        keenest.max(advert_interval * 2)
    }

    fn paused(&mut self, length: Duration, now: Instant, out: &mut Vec<Output>) {
        match self.phase {
            Phase::Backup(_) => self.grace(now),
            // The silence that the wish was based on may have been our own.
            Phase::Claiming { .. } if length > self.master_interval() => {
                out.push(Output::Yield {
                    to: State::Backup,
                    reason: Reason::Paused,
                });
                self.enter_backup(Reason::Paused, now, out);
                self.grace(now);
            }
            // A MASTER frozen for too long has yielded already.
            Phase::Master { .. } | Phase::Claiming { .. } => {}
            Phase::Init { .. } | Phase::Releasing { .. } | Phase::Fault | Phase::Stopped => {}
        }
    }

    /// Moves a running down timer by what the change of Master_Down is, instead of restarting it.
    fn shift_down_timer(&mut self, before: Duration, now: Instant) {
        let after = self.master_down();
        if let Phase::Backup(backup) = &mut self.phase {
            backup.down_at = if after >= before {
                backup.down_at + (after - before)
            } else {
                backup.down_at.checked_sub(before - after).unwrap_or(now)
            };
        }
    }

    fn priority_changed(&mut self, before: u8, now: Instant, out: &mut Vec<Output>) {
        let after = self.effective_priority();
        if after == before {
            return;
        }
        let Settings {
            version,
            down_timer_adverts,
            ..
        } = self.settings;
        let down_before =
            master_down_interval(version, self.master_interval(), down_timer_adverts, before);
        self.shift_down_timer(down_before, now);
        out.push(Output::Event(Event::PriorityChanged {
            from: before,
            to: after,
        }));
    }

    // Small steps that several transitions share.

    fn send_advert(
        &mut self,
        reason: AdvertReason,
        now: Instant,
        next: Instant,
        out: &mut Vec<Output>,
    ) {
        self.counters.advert_sent += 1;
        self.phase = Phase::Master {
            advert_at: next,
            sent_at: now,
        };
        out.push(Output::SendAdvert(AdvertToSend {
            priority: self.effective_priority(),
            reason,
        }));
    }

    /// An advert out of turn: the next follows one interval later.
    fn advert_now(&mut self, reason: AdvertReason, now: Instant, out: &mut Vec<Output>) {
        self.send_advert(reason, now, now + self.settings.advert_interval, out);
    }

    fn send_priority_zero(&mut self, out: &mut Vec<Output>) {
        self.counters.advert_sent += 1;
        self.counters.priority_zero_sent += 1;
        out.push(Output::SendAdvert(AdvertToSend {
            priority: 0,
            reason: AdvertReason::Leaving,
        }));
    }

    fn claim(&mut self, reason: ClaimReason, out: &mut Vec<Output>) {
        self.last_claim += 1;
        let claim = ClaimId(self.last_claim);
        self.set_phase(Phase::Claiming { claim, reason });
        out.push(Output::WantMaster { claim, reason });
    }

    fn set_phase(&mut self, phase: Phase) {
        self.phase = phase;
        self.senders.state_changed();
    }

    fn became(&mut self, state: State, reason: Reason, out: &mut Vec<Output>) {
        if self.told != Some(state) {
            self.told = Some(state);
            out.push(Output::Became { state, reason });
        }
    }

    /// Ends mastership as far as others see it; the caller enters the state that follows.
    fn leave_master(&mut self, to: State, reason: Reason, out: &mut Vec<Output>) {
        self.counters.release_master += 1;
        self.schedule.clear();
        self.conflict = None;
        out.push(Output::Yield { to, reason });
    }

    /// BACKUP with a full Master_Down at the interval in force.
    fn enter_backup(&mut self, reason: Reason, now: Instant, out: &mut Vec<Output>) {
        self.preempt_from = None;
        let down_at = now + self.master_down();
        self.set_phase(Phase::Backup(Backup {
            down_at,
            on_expiry: ClaimReason::Silence,
            graced: false,
        }));
        self.became(State::Backup, reason, out);
    }

    fn announce(&mut self, out: &mut Vec<Output>) {
        if matches!(self.phase, Phase::Master { .. }) {
            let repeat = self.settings.announcements.repeat.max(1);
            out.push(Output::Announce(Round {
                kind: RoundKind::Requested,
                repeat,
            }));
        }
    }

    /// Tells an event unless this sender's kind was told in this state.
    fn tell(&mut self, source: IpAddr, kind: Told, event: Event, out: &mut Vec<Output>) {
        match self.senders.permit(source, kind) {
            Permit::Tell => out.push(Output::Event(event)),
            Permit::Full => out.push(Output::Event(Event::TooManySenders)),
            Permit::Silent => {}
        }
    }
}
