//! The keeper: the only place that promotes, demotes, fences and moves a VIP.
//!
//! It is a state machine without IO. [`Keeper::handle`] takes one input and the time, updates what
//! is known, and then lets the current phase advance until nothing changes any more; each phase
//! lives in a file of its own. What it promises (`docs/architecture.md` has the list):
//! fence before promote wherever the other side can be reached; no VIP without a confirmed
//! promotion; data first, then priority; a promise once stated binds across restarts.
//!
//! VRRP proposes and the keeper disposes (rule 1): the VRRP machine's wish to be master is one
//! piece of evidence among others, and it stays without an advert until the keeper grants it.

mod alone;
mod boot;
mod detach;
mod duplicate;
mod facts;
mod front;
mod handover;
pub mod io;
pub mod phase;
mod primary;
mod publish;
mod rejoin;
mod released;
mod replica;
mod rest;
mod rise;
pub mod settings;
mod source;
mod split;
mod steps;
mod stream;
mod takeover;
#[cfg(test)]
mod testing;
mod topology;
pub mod view;

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use crate::health::{DeathProof, Detector, Health};
use crate::ids::Epoch;
use crate::journal::{Journal, JournalRole};
use crate::rules::Ruling;
use crate::rules::eligible::{LastPrimary, SyncProof};
use crate::rules::verdict::Evidence;
use crate::server::ServerView;
use crate::statement::{LastWords, Statement};

use duplicate::Duplicates;
use facts::{Front, Peer, Probe};
use front::Gate;
pub use io::{
    Command, Event, Hook, Input, Outcome, Output, PeerEvent, ProbeResult, Reply, ServerEvent,
    Severity, Step, StepError, StepErrorKind, StepId, VrrpCommand, VrrpEvent,
};
pub use phase::Phase;
use rise::{Inherited, Rise};
pub use settings::Settings;
use steps::Op;

/// How often a keeper wants to be ticked while nothing happens: a little less often than adverts come that are sent ten times a
/// second, each of which is a tick as well.
pub const TICK_IDLE: Duration = Duration::from_millis(110);
/// How often while a change of role is under way.
pub const TICK_BUSY: Duration = Duration::from_millis(5);
/// Bound on phase changes within one input; more would be a loop in the rules.
const ADVANCES_MAX: usize = 16;

/// The keeper of one group on one host.
#[derive(Debug)]
pub struct Keeper {
    settings: Settings,
    journal: Journal,
    phase: Phase,
    started: Instant,
    /// Since when nothing is decided; `boot_wait` counts from here.
    undecided_since: Instant,
    detector: Detector,
    view: Option<(ServerView, Instant)>,
    proof: Option<SyncProof>,
    last_primary: Option<LastPrimary>,
    peer: Peer,
    front: Front,
    gate: Gate,
    probe: Probe,
    duplicates: Duplicates,
    vrrp_want: bool,
    vrrp_fault: Option<String>,
    vrrp_faulted: bool,
    vrrp_stranger: Option<(String, Instant)>,
    ops: BTreeMap<StepId, Op>,
    results: BTreeMap<StepId, Result<Outcome, StepError>>,
    next_step: u64,
    starting: Option<StepId>,
    start_backoff: (u32, Option<Instant>),
    last_failover: Option<Instant>,
    no_takeover_until: Option<Instant>,
    evidence: Option<Evidence>,
    wants_switchover: Option<(u64, Instant)>,
    /// What the kernel of the local server had for the peer's host when it died last.
    last_words: Vec<LastWords>,
    served_switchover: u64,
    resync_approved: bool,
    accept_loss: bool,
    stopping: Option<Instant>,
    /// It serves on without a daemon or not; since when it wants to leave.
    leaving: Option<(bool, Instant)>,
    stop_failed: bool,
    /// Counts changes of phase, see [`crate::topology::Rank`].
    turn: u64,
    /// The version of our statement from which on our position is stated.
    position_since: u64,
    /// The local server is being detached from a primary that is gone.
    detaching: Option<StepId>,
    exited: bool,
    rulings: Vec<Ruling>,
    last_change: Option<(String, Instant)>,
    said: BTreeMap<&'static str, String>,
    claimed_at: Option<Instant>,
    handing: Option<phase::HandCause>,
    closing_silent: Option<(StepId, Option<StepId>)>,
    news: bool,
    /// Of a primary: whether its stream reaches the peer's server.
    stream: stream::Stream,
    /// The journal's intent as far as it is durable.
    intent: Option<Epoch>,
    intending: Option<(StepId, Epoch)>,
    inherited: Inherited,
    /// Acknowledging without a replica, and the promise not to be promoted meanwhile.
    alone: alone::Alone,
    /// The newer epoch in which this primary goes on once that is durable.
    rising: Option<Rise>,
    /// The newest record that was given to the journal, unless that was a mark.
    last_record: Option<StepId>,
    published: Option<(Statement, Instant)>,
    version: u64,
    marked_at: Option<Instant>,
    out: Vec<Output>,
}

impl Keeper {
    /// A keeper with the journal its shell read, or a fresh one.
    pub fn new(settings: Settings, journal: Journal, now: Instant) -> Self {
        let proof = journal
            .synced
            .clone()
            .map(|(run_id, replid)| SyncProof { run_id, replid });
        let last_primary = journal.primary_lineage.clone().map(|replid| LastPrimary {
            offset: journal
                .mark
                .as_ref()
                .filter(|m| m.lineage == replid)
                .map_or(crate::ids::Offset(0), |m| m.peer_offset.unwrap_or(m.offset)),
            replid,
        });
        let detector = Detector::new(settings.down_after, settings.sick_grace);
        let peer_address = settings.peer_server_address.clone();
        let first_turn = settings.turns_from;
        let inherited = Inherited::of(journal.intent.as_ref());
        let alone = alone::Alone::inherited(journal.barred.as_ref());
        Self {
            settings,
            journal,
            phase: Phase::Booting { since: now },
            started: now,
            undecided_since: now,
            detector,
            view: None,
            proof,
            last_primary,
            peer: Peer::new(peer_address),
            front: Front::default(),
            gate: Gate::default(),
            probe: Probe::default(),
            duplicates: Duplicates::default(),
            vrrp_want: false,
            vrrp_fault: None,
            vrrp_faulted: false,
            vrrp_stranger: None,
            ops: BTreeMap::new(),
            results: BTreeMap::new(),
            next_step: 1,
            starting: None,
            start_backoff: (0, None),
            last_failover: None,
            no_takeover_until: None,
            evidence: None,
            wants_switchover: None,
            last_words: Vec::new(),
            served_switchover: 0,
            resync_approved: false,
            accept_loss: false,
            stopping: None,
            leaving: None,
            stop_failed: false,
            turn: first_turn,
            position_since: 0,
            detaching: None,
            exited: false,
            rulings: Vec::new(),
            last_change: None,
            said: BTreeMap::new(),
            claimed_at: None,
            handing: None,
            closing_silent: None,
            news: true,
            stream: stream::Stream::default(),
            intent: None,
            intending: None,
            inherited,
            alone,
            rising: None,
            last_record: None,
            published: None,
            version: 0,
            marked_at: None,
            out: Vec::new(),
        }
    }

    /// Takes one input and returns what is to be done, in order.
    ///
    /// `now` must not go back; a large step forward is not guessed at here but told by
    /// [`Input::Frozen`].
    pub fn handle(&mut self, input: Input, now: Instant) -> Vec<Output> {
        if self.exited {
            return Vec::new();
        }
        let more_of_the_same = match input {
            Input::Server(ServerEvent::Earlier(kind, _)) => self.detector.goes_on(kind, now),
            _ => false,
        };
        self.observe(input, now);
        if more_of_the_same {
            // Changes nothing but when silence would begin.
            return Vec::new();
        }
        self.give_up_late_steps(now);
        for _ in 0..ADVANCES_MAX {
            if self.leaving.is_some() || !self.advance(now) {
                break;
            }
        }
        self.advance_alone(now);
        self.lift_bar(now);
        self.detach_if_orphaned(now);
        self.keep_vrrp_in_step();
        self.keep_vip_in_step(now);
        self.keep_gate_in_step(now);
        self.ask_for_duplicates(now);
        self.mark_if_due(now);
        self.publish_if_due(now);
        self.leave_if_due(now);
        std::mem::take(&mut self.out)
    }

    /// When the keeper wants [`Input::Tick`] at the latest.
    pub fn next_deadline(&self, now: Instant) -> Instant {
        let pace = if self.phase.is_transition() {
            TICK_BUSY
        } else {
            TICK_IDLE
        };
        let mut next = now + pace;
        if let Some(silent) = self.detector.silent_at()
            && silent > now
        {
            next = next.min(silent);
        }
        // The peer's server is asked as soon as the peer is quiet, or the answer comes too late.
        if let Some(quiet) = self.quiet_at()
            && quiet > now
        {
            next = next.min(quiet);
        }
        // The adverts were silent first: the peer link is silent for as long at this moment.
        if self.vrrp_want
            && let Some(silent) = self.peer.heard_at.map(|at| at + self.settings.master_down)
            && silent > now
        {
            next = next.min(silent);
        }
        next
    }

    /// The journal as it stands.
    pub fn journal(&self) -> &Journal {
        &self.journal
    }

    /// The current phase.
    pub fn phase(&self) -> &Phase {
        &self.phase
    }

    /// The highest epoch this host knows of.
    pub fn epoch(&self) -> &Epoch {
        &self.journal.epoch
    }

    fn observe(&mut self, input: Input, now: Instant) {
        // Answers and ticks are most of what comes in and change nothing by themselves; a statement
        // is only compared with the last one when something may have changed.
        self.news |= !matches!(
            input,
            Input::Tick
                | Input::Server(ServerEvent::Answer(_) | ServerEvent::Earlier(..))
                | Input::Vrrp(VrrpEvent::PeerAdvert | VrrpEvent::AdvertSent)
        );
        match input {
            Input::Tick => {}
            Input::Server(ServerEvent::Answer(kind)) => {
                self.forget_outdated_view(now);
                self.detector.answered(kind, now);
            }
            Input::Server(ServerEvent::Earlier(kind, at)) => {
                self.forget_outdated_view(now);
                self.detector.had_answered(kind, at);
            }
            Input::Server(ServerEvent::LastWords(words)) => self.last_words = words,
            Input::Server(ServerEvent::Dead(proof)) => self.server_died(proof, now),
            Input::Server(ServerEvent::View(view)) => self.server_viewed(*view, now),
            Input::Peer(PeerEvent::Heard(statement)) => self.peer_heard(*statement, now),
            Input::Peer(PeerEvent::Lost) => self.peer.lost = true,
            Input::Vrrp(event) => self.vrrp_event(event, now),
            Input::Done { id, result } => self.step_done(id, result),
            Input::Operator { id, command } => self.operator(id, command, now),
            Input::Late(by) => {
                self.detector.late(by, now);
                self.note_late(by);
            }
            Input::Frozen(for_) => self.frozen(for_, now),
            Input::Reload(new) => self.reload(&new),
            Input::VipAnswers(answers) => self.vip_answered(answers, now),
            Input::ResyncWindow => self.resync_window_opened(),
            Input::Stop => {
                self.stopping.get_or_insert(now);
            }
        }
    }

    /// Takes over policies, bounds and the priority. Who the hosts are, where the server is and how
    /// VRRP speaks stay as they were.
    fn reload(&mut self, new: &Settings) {
        let own = &mut self.settings;
        own.preempt = new.preempt;
        own.resync = new.resync;
        own.max_lag = new.max_lag;
        own.boot_wait = new.boot_wait;
        own.flap_block = new.flap_block;
        own.drain_deadline = new.drain_deadline;
        own.switchover_deadline = new.switchover_deadline;
        own.priority = new.priority;
        own.master_down = new.master_down;
        // Whether there is a VIP at all waits for a restart, as its interface does.
        own.vip_lifetime = own.vip_lifetime.map(|old| new.vip_lifetime.unwrap_or(old));
    }

    /// One step of the current phase. True when the phase changed and wants to look again.
    fn advance(&mut self, now: Instant) -> bool {
        match self.phase.clone() {
            Phase::Booting { .. } | Phase::Waiting { .. } => self.advance_undecided(now),
            Phase::Primary { since } => self.advance_primary(since, now),
            Phase::Replica { since } => self.advance_replica(since, now),
            Phase::TakingOver(state) => self.advance_takeover(state, now),
            Phase::HandingOver(state) => self.advance_handover(state, now),
            Phase::Released { since } => self.advance_released(since, now),
            Phase::Split(state) => self.advance_split(state, now),
            Phase::Rejoining(state) => self.advance_rejoin(state, now),
        }
    }

    fn set_phase(&mut self, phase: Phase, now: Instant) {
        self.news = true;
        if self.phase.name() != phase.name() {
            self.last_change = Some((phase.name().word().to_owned(), now));
            self.turn += 1;
            self.rising = None;
        }
        self.phase = phase;
    }

    /// Tells an event, but the same words under the same name only once in a row.
    fn tell(&mut self, name: &'static str, severity: Severity, hook: Option<Hook>, text: String) {
        let repeats = matches!(hook, None | Some(Hook::Fault));
        if repeats && self.said.get(name) == Some(&text) {
            return;
        }
        self.said.insert(name, text.clone());
        let epoch = self.journal.epoch.clone();
        self.out.push(Output::Event(Event {
            name,
            epoch,
            text,
            severity,
            hook,
        }));
    }

    fn reply(&mut self, id: u64, reply: Reply) {
        self.out.push(Output::Reply { id, reply });
    }

    fn server(&self) -> Option<&ServerView> {
        self.view.as_ref().map(|(view, _)| view)
    }

    fn health(&self, now: Instant) -> Health {
        self.detector.health(now)
    }

    /// The local server answers and is not loading.
    fn server_usable(&self, now: Instant) -> bool {
        match self.health(now) {
            Health::Fine | Health::Busy | Health::Sick => {
                self.server().is_some_and(|view| !view.loading)
            }
            Health::Unknown
            | Health::Loading
            | Health::Unmanageable
            | Health::Silent(_)
            | Health::Dead(_) => false,
        }
    }

    fn server_died(&mut self, proof: DeathProof, now: Instant) {
        if matches!(self.health(now), Health::Dead(_)) {
            return;
        }
        self.detector.died(proof);
        self.tell(
            "+server-dead",
            Severity::Warning,
            None,
            format!("the local server is dead: {}", proof.words()),
        );
    }

    fn server_viewed(&mut self, view: ServerView, now: Instant) {
        let replaced = self.server().is_some_and(|old| old.run_id != view.run_id);
        if replaced && self.holds_role() && !matches!(self.health(now), Health::Dead(_)) {
            // The process that held the role is gone, whoever answers now. The role is given up
            // first; the newcomer is looked at with the next reading.
            self.server_died(DeathProof::Replaced, now);
            return;
        }
        if replaced && matches!(self.health(now), Health::Dead(_)) && self.holds_role() {
            return;
        }
        if self.starting.is_some() || self.start_backoff.0 > 0 {
            self.starting = None;
            self.start_backoff = (0, None);
        }
        self.note_inherited(&view);
        self.note_resync(&view, now);
        self.note_reading(now);
        self.stream.read(&view, self.peer.server_address.as_deref());
        self.view = Some((view, now));
    }

    /// The local server may be accepting writes by right.
    fn holds_role(&self) -> bool {
        self.phase.name().holds_primary()
    }

    fn vrrp_event(&mut self, event: VrrpEvent, now: Instant) {
        match event {
            VrrpEvent::WantMaster => self.vrrp_want = true,
            VrrpEvent::WishWithdrawn => {
                self.vrrp_want = false;
                // Adverts are back; should they go missing again, that is news.
                self.said.remove("-failover-abort");
            }
            VrrpEvent::BecameMaster => {
                self.vrrp_want = false;
                self.front.vrrp_master = true;
            }
            VrrpEvent::GiveUpAddresses => {
                self.vrrp_want = false;
                self.front.vrrp_master = false;
                self.front.given_up_at = Some(now);
            }
            VrrpEvent::PeerAdvert => {
                self.peer.advert_at = Some(now);
                self.publish_beside_advert(now);
            }
            VrrpEvent::AdvertSent => self.publish_beside_advert(now),
            VrrpEvent::Stranger(text) => {
                self.tell(
                    "vrrp-stranger",
                    Severity::Alarm,
                    Some(Hook::Fault),
                    text.clone(),
                );
                self.vrrp_stranger = Some((text, now));
            }
        }
    }

    /// We were frozen (stopped, paused, asleep). Others may have promoted their server meanwhile, so
    /// the front is closed and the server fenced before anything is said; what the peer knows is
    /// heard first, then the role is taken back or not (rule 4 of the front section).
    fn frozen(&mut self, for_: Duration, now: Instant) {
        self.detector.late(Duration::MAX, now);
        let was_primary = self.holds_role();
        self.tell(
            "frozen",
            Severity::Warning,
            None,
            format!("this daemon stood still for {} ms", for_.as_millis()),
        );
        if !was_primary {
            // The server went on without us: what it holds has to be read again.
            self.view = None;
        }
        self.peer.forget_freshness(self.version + 1);
        // Whoever could have been promoted in this process stood still as well.
        let nobody_acted = for_ < self.settings.master_down || self.settings.one_host;
        if nobody_acted || !was_primary {
            return;
        }
        self.probe = Probe::default();
        self.begin_self_fence(now);
    }

    fn operator(&mut self, id: u64, command: Command, now: Instant) {
        match command {
            Command::Pause | Command::Resume => {
                let paused = command == Command::Pause;
                self.journal.paused = paused;
                self.save(now);
                let words = if paused {
                    "automatic failover is paused on this host; tandem resume ends it"
                } else {
                    "automatic failover is on"
                };
                self.tell("pause", Severity::Warning, None, words.to_owned());
                self.reply(id, Reply::Done(words.to_owned()));
            }
            Command::Resync => self.operator_resync(id),
            Command::FailoverAcceptLoss => self.operator_accept_loss(id, now),
            Command::Switchover { to } => self.operator_switchover(id, to, now),
        }
    }

    /// Makes the journal durable in the background: for facts that nothing waits for.
    fn save(&mut self, now: Instant) {
        let record = Box::new(self.journal.clone());
        self.start_background(Step::Journal(record), Duration::from_secs(5), now);
    }

    /// Starts the server if that is ours to do, with a back-off between attempts.
    fn want_server(&mut self, now: Instant) {
        if self.settings.manage != settings::Manage::Spawn {
            return;
        }
        if let Some(id) = self.starting {
            match self.result(id) {
                None => return,
                Some(Ok(_)) => {
                    // Started; it still has to answer. Until then no second start.
                    self.start_backoff.1 = Some(now + Duration::from_secs(5));
                    self.starting = None;
                }
                Some(Err(_)) => {
                    let tries = self.start_backoff.0.min(6) + 1;
                    let wait = Duration::from_millis(250) * (1 << tries.min(7));
                    self.start_backoff = (tries, Some(now + wait));
                    self.starting = None;
                }
            }
        }
        if self.start_backoff.1.is_some_and(|until| now < until) {
            return;
        }
        self.start_backoff.0 = self.start_backoff.0.max(1);
        self.starting =
            Some(self.start_background(Step::StartServer, Duration::from_secs(30), now));
    }

    fn journal_role(&mut self, role: JournalRole) {
        self.journal.role = role;
        self.journal.run_id = self.server().map(|view| view.run_id.clone());
    }
}
