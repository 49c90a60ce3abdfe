//! Becoming a replica: archive what would be discarded, fence, ask where asking is due, attach.
//!
//! Until the attach the local data is still there, so this host remains the second choice: if the
//! primary dies first, it is promoted at a fresh epoch and the returning winner is then the
//! divergent side (rule 21).

use std::time::{Duration, Instant};

use crate::health::Health;
use crate::ids::{Epoch, Offset};
use crate::journal::JournalRole;
use crate::keeper::io::{Hook, Outcome, Reply, Severity, Step, StepError, StepErrorKind};
use crate::keeper::phase::{Cause, Phase, Rejoin, RejoinStage};
use crate::keeper::settings::Resync;
use crate::keeper::{Keeper, StepId};
use crate::rules::{Says, together};
use crate::server::ServerView;
use crate::statement::{PhaseName, ReleaseKind, Released, Statement};

/// Bound on one command to a healthy server.
const COMMAND_WITHIN: Duration = Duration::from_secs(2);
/// Bound on saving a tail; it is bounded by the backlog's size anyway.
const TAIL_WITHIN: Duration = Duration::from_secs(60);
/// Bound on saving everything.
const RDB_WITHIN: Duration = Duration::from_secs(3600);
/// A host that leaves waits this long for its sync.
const STOP_WITHIN: Duration = Duration::from_secs(5);
/// A failed step is tried again after this.
const RETRY_AFTER: Duration = Duration::from_secs(1);

/// What has to be saved before the local data may be replaced.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Keep {
    Nothing,
    Tail(Offset),
    Rdb(String),
    /// A person has to say that it may go.
    Ask(&'static str, String),
}

impl Keeper {
    pub(super) fn advance_rejoin(&mut self, state: Rejoin, now: Instant) -> bool {
        match self.health(now) {
            Health::Dead(_) | Health::Unknown => {
                self.vrrp_set_fault("the local server is dead");
                self.want_server(now);
                return self.rejoin_stage(state, RejoinStage::Assess);
            }
            Health::Silent(_) | Health::Loading | Health::Unmanageable => return false,
            Health::Fine | Health::Busy | Health::Sick => {}
        }
        self.probe_if_silent(now);
        let Some(view) = self.server().cloned() else {
            return false;
        };
        if self.followed_stepped_back(&state, now) {
            self.become_undecided(now);
            return true;
        }
        if let Some(changed) = self.second_choice(&state, now) {
            return changed;
        }
        self.vrrp_set_fault("on the way to being a replica");
        match state.stage.clone() {
            RejoinStage::Assess => self.assess(state, &view, now),
            RejoinStage::Closing(id) => match self.result(id) {
                None => false,
                Some(Ok(_)) => self.rejoin_stage(state, RejoinStage::Assess),
                Some(Err(_)) => self.rejoin_retry(state, now),
            },
            RejoinStage::Archiving(id) => self.archived(state, id, now),
            RejoinStage::Fencing(id) => match self.result(id) {
                None => false,
                Some(Ok(Outcome::View(view))) => {
                    self.view = Some((*view, now));
                    self.rejoin_stage(state, RejoinStage::Assess)
                }
                Some(_) => self.rejoin_retry(state, now),
            },
            RejoinStage::Asking { .. } => self.asking(state, &view, now),
            RejoinStage::Attaching(id) => match self.result(id) {
                None => false,
                Some(Ok(_)) => self.rejoin_stage(state, RejoinStage::Syncing),
                Some(Err(_)) => self.rejoin_retry(state, now),
            },
            RejoinStage::Syncing => self.syncing(state, &view, now),
            RejoinStage::RetryAt(at) if now >= at => self.rejoin_stage(state, RejoinStage::Assess),
            RejoinStage::RetryAt(_) => false,
        }
    }

    fn rejoin_stage(&mut self, mut state: Rejoin, stage: RejoinStage) -> bool {
        let changed = state.stage != stage;
        state.stage = stage;
        self.phase = Phase::Rejoining(state);
        changed
    }

    fn rejoin_retry(&mut self, state: Rejoin, now: Instant) -> bool {
        self.rejoin_stage(state, RejoinStage::RetryAt(now + RETRY_AFTER))
    }

    /// The primary that was to be followed is none any more, and nobody is becoming one.
    fn followed_stepped_back(&self, state: &Rejoin, now: Instant) -> bool {
        let idle = match state.stage {
            RejoinStage::Syncing | RejoinStage::Asking { .. } => true,
            RejoinStage::Assess
            | RejoinStage::Closing(_)
            | RejoinStage::Archiving(_)
            | RejoinStage::Fencing(_)
            | RejoinStage::Attaching(_)
            | RejoinStage::RetryAt(_) => false,
        };
        idle && now.saturating_duration_since(state.since) > RETRY_AFTER
            && self.live_peer(now).is_some_and(|peer| {
                !peer.phase.holds_primary() && peer.phase != PhaseName::TakingOver
            })
    }

    /// Looks at both servers and takes the next step: archive, fence, ask or attach.
    fn assess(&mut self, state: Rejoin, view: &ServerView, now: Instant) -> bool {
        let Some(peer) = self.live_peer(now).cloned() else {
            return false;
        };
        let (Some(theirs), true) = (&peer.server, peer.phase.holds_primary()) else {
            let patience = if state.beaten_by.is_some() {
                3 * RETRY_AFTER
            } else {
                RETRY_AFTER
            };
            if !matches!(peer.phase, PhaseName::Primary | PhaseName::TakingOver)
                && now.saturating_duration_since(state.since) > patience
            {
                // The primary that was to be followed is none any more.
                self.become_undecided(now);
                return true;
            }
            return false;
        };
        if !theirs.is_writable() || theirs.loading {
            return false;
        }
        let theirs = theirs.clone();
        if view.follows(&peer.server_address) {
            return self.rejoin_stage(state, RejoinStage::Syncing);
        }
        if state.receipt.is_none() {
            match self.what_to_keep(view, &theirs, &peer) {
                Keep::Nothing => {}
                Keep::Tail(from) => {
                    let epoch = self.journal.data_epoch.clone();
                    let step = Step::ArchiveTail { from, epoch };
                    let id = self.start(step, TAIL_WITHIN, now);
                    return self.rejoin_stage(state, RejoinStage::Archiving(id));
                }
                Keep::Rdb(why) => return self.archive_everything(state, why, now),
                Keep::Ask(rule, why) => {
                    if !(state.approved || self.resync_approved) {
                        if !view.is_fenced() && !view.is_writable() {
                            // Whatever it follows, it must not resync from there meanwhile.
                            let id = self.start(Step::Fence, COMMAND_WITHIN, now);
                            return self.rejoin_stage(state, RejoinStage::Fencing(id));
                        }
                        return self.rejoin_ask(state, rule, why);
                    }
                    return self.archive_everything(
                        state,
                        "an operator allowed the resync of unrelated data".to_owned(),
                        now,
                    );
                }
            }
        }
        if !view.is_fenced() {
            let id = self.start(Step::Fence, COMMAND_WITHIN, now);
            return self.rejoin_stage(state, RejoinStage::Fencing(id));
        }
        self.state_fenced(view, now);
        self.attach_or_ask(state, view, &theirs, &peer, now)
    }

    fn archive_everything(&mut self, state: Rejoin, why: String, now: Instant) -> bool {
        let epoch = self.journal.data_epoch.clone();
        let id = self.start(Step::ArchiveRdb { epoch, why }, RDB_WITHIN, now);
        self.rejoin_stage(state, RejoinStage::Archiving(id))
    }

    /// A loser of a verdict that is fenced says so: the winner may take the addresses.
    fn state_fenced(&mut self, view: &ServerView, now: Instant) {
        if self.journal.released.is_none() && self.journal.role == JournalRole::Loser {
            self.journal.released = Some(Released {
                epoch: self.journal.data_epoch.clone(),
                kind: ReleaseKind::Fenced,
                lineage: view.replid.clone(),
                offset: view.offset,
                exact: false,
                recalled: false,
            });
            self.save(now);
            self.publish(now);
        }
    }

    fn attach_or_ask(
        &mut self,
        state: Rejoin,
        view: &ServerView,
        theirs: &ServerView,
        peer: &Statement,
        now: Instant,
    ) -> bool {
        let approved = state.approved || self.resync_approved;
        if state.beaten_by.is_some() && peer.epoch <= self.journal.data_epoch {
            // The winner has not drawn the same verdict yet; it will, from the same evidence.
            return false;
        }
        let full = !partial_possible(view, theirs);
        if full && theirs.keys == 0 && view.keys > 0 && !approved {
            let why = format!(
                "{} is primary but empty, this host holds {} keys: a resync would wipe them. If \
                 that is meant, type tandem resync; to keep them, tandem failover --accept-loss",
                peer.host, view.keys
            );
            return self.rejoin_ask(state, "source.empty", why);
        }
        if peer.epoch < self.journal.data_epoch && !approved {
            let why = format!(
                "{} is primary at epoch {} but this host's data is of epoch {}",
                peer.host, peer.epoch, self.journal.data_epoch
            );
            return self.rejoin_ask(state, "source.older", why);
        }
        if full && view.keys > 0 && self.settings.resync == Resync::Ask && !approved {
            let why = format!(
                "a full resync from {} costs it a fork of {} MiB and sends as much; type \
                 tandem resync, or wait for resync_window",
                peer.host,
                theirs.used_memory / (1 << 20)
            );
            return self.rejoin_ask(state, "resync.ask", why);
        }
        let address = peer.server_address.clone();
        let id = self.start(
            Step::Attach {
                address: address.clone(),
            },
            COMMAND_WITHIN,
            now,
        );
        let kind = if full { "full" } else { "partial" };
        self.tell(
            "+convert-to-slave",
            Severity::Info,
            None,
            format!("follows {address}, by a {kind} resync"),
        );
        self.rejoin_stage(state, RejoinStage::Attaching(id))
    }

    fn rejoin_ask(&mut self, state: Rejoin, rule: &'static str, why: String) -> bool {
        self.tell(
            "waiting",
            Severity::Alarm,
            Some(Hook::Fault),
            format!("{rule}: {why}"),
        );
        self.rejoin_stage(state, RejoinStage::Asking { rule, why })
    }

    fn asking(&mut self, mut state: Rejoin, view: &ServerView, now: Instant) -> bool {
        if self.resync_approved {
            state.approved = true;
            return self.rejoin_stage(state, RejoinStage::Assess);
        }
        // What was asked about may have changed by itself.
        let moot = self.live_peer(now).is_some_and(|peer| {
            let Some(theirs) = &peer.server else {
                return false;
            };
            match &state.stage {
                // A primary of an older epoch stays one, however little there is to send.
                RejoinStage::Asking {
                    rule: "source.older",
                    ..
                } => peer.epoch >= self.journal.data_epoch,
                RejoinStage::Asking {
                    rule: "source.empty",
                    ..
                } => theirs.keys > 0 || partial_possible(view, theirs),
                RejoinStage::Asking { .. } => partial_possible(view, theirs),
                RejoinStage::Assess
                | RejoinStage::Closing(_)
                | RejoinStage::Archiving(_)
                | RejoinStage::Fencing(_)
                | RejoinStage::Attaching(_)
                | RejoinStage::Syncing
                | RejoinStage::RetryAt(_) => false,
            }
        });
        if moot {
            self.rejoin_stage(state, RejoinStage::Assess)
        } else {
            false
        }
    }

    fn archived(&mut self, mut state: Rejoin, id: StepId, now: Instant) -> bool {
        let Some(result) = self.result(id) else {
            return false;
        };
        match result {
            Ok(Outcome::Archived {
                receipt,
                commands,
                view,
            }) => {
                let text = match &receipt {
                    Some(name) => format!("{commands} commands only this host had are in {name}"),
                    None => "nothing that only this host had needed keeping".to_owned(),
                };
                self.tell("+archive", Severity::Warning, None, text);
                state.receipt = Some(receipt.unwrap_or_default());
                self.view = Some((*view, now));
                self.rejoin_stage(state, RejoinStage::Assess)
            }
            Ok(_) => self.rejoin_retry(state, now),
            Err(StepError {
                kind: StepErrorKind::TailGone,
                text,
            }) => {
                let why = format!("the tail is not in the backlog any more: {text}");
                self.archive_everything(state, why, now)
            }
            Err(error) => {
                // No space, or the server failed: what is not saved is not discarded.
                self.tell(
                    "archive-failed",
                    Severity::Alarm,
                    Some(Hook::Fault),
                    format!("stays fenced without a resync: {}", error.text),
                );
                let fenced = self.server().is_some_and(ServerView::is_fenced);
                if !fenced {
                    let step = Step::Fence;
                    self.start_background(step, COMMAND_WITHIN, now);
                }
                self.rejoin_stage(state, RejoinStage::RetryAt(now + 10 * RETRY_AFTER))
            }
        }
    }

    /// Following: in sync means replica. The rest is Redis' own work, with its own retries.
    fn syncing(&mut self, state: Rejoin, view: &ServerView, now: Instant) -> bool {
        let Some(peer) = self.live_peer(now).cloned() else {
            if self.stopping.is_some() {
                self.leave(false, now);
            }
            return false;
        };
        if !view.follows(&peer.server_address) {
            // The reading may be older than the attach.
            if now.saturating_duration_since(state.since) > 5 * RETRY_AFTER {
                return self.rejoin_retry(state, now);
            }
            return false;
        }
        let same = peer
            .server
            .as_ref()
            .is_some_and(|theirs| theirs.replid == view.replid);
        if !(view.in_sync() && same && peer.phase.holds_primary()) {
            // A host that leaves first writes down whose data it has, within reason.
            if self
                .stopping
                .is_some_and(|at| now.saturating_duration_since(at) > STOP_WITHIN)
            {
                self.leave(false, now);
            }
            return false;
        }
        self.resync_approved = false;
        self.journal.released = None;
        self.journal.declined = None;
        self.evidence = None;
        self.start_background(Step::Unpause, COMMAND_WITHIN, now);
        self.tell(
            "+slave",
            Severity::Info,
            None,
            format!("replica of {} at epoch {}, in sync", peer.host, peer.epoch),
        );
        self.set_phase(Phase::Replica { since: now }, now);
        true
    }

    // --- what to keep --------------------------------------------------------------------------

    /// Compares the lineages; what the primary's history does not contain has to be kept.
    fn what_to_keep(&self, own: &ServerView, theirs: &ServerView, peer: &Statement) -> Keep {
        if own.keys == 0 {
            return Keep::Nothing;
        }
        if own.replid == theirs.replid {
            return if own.offset <= theirs.offset {
                Keep::Nothing
            } else {
                Keep::Rdb("holds more of the same history than the primary".to_owned())
            };
        }
        let related = theirs.replid2 == own.replid
            || own.replid2 == theirs.replid
            || (own.replid2 == theirs.replid2 && !own.replid2.is_none())
            || peer
                .fork
                .as_ref()
                .is_some_and(|fork| fork.parent == own.replid);
        if related && !own.replid.is_none() {
            let from = self.fork_with(peer);
            return if own.offset <= from {
                Keep::Nothing
            } else {
                Keep::Tail(from)
            };
        }
        // Another process with a new lineage: AOF, or somebody else's data.
        let Some(mark) = &self.journal.mark else {
            return Keep::Ask(
                "join.unrelated",
                format!(
                    "this host's {} keys have no history in common with {}'s {} keys; a resync \
                     replaces them (after saving an RDB): type tandem resync",
                    own.keys, peer.host, theirs.keys
                ),
            );
        };
        // A mark says how far it surely came, never how far at most. Only what was read from this
        // very lineage as a replica is a prefix of it for certain.
        let contained = self.journal.role == JournalRole::Replica
            && mark.lineage == theirs.replid
            && !own.is_writable();
        if contained && self.journal.data_epoch != Epoch::zero() {
            Keep::Nothing
        } else {
            Keep::Rdb("restarted with a new lineage, so its tail cannot be read".to_owned())
        }
    }

    // --- second choice -------------------------------------------------------------------------

    /// The data is still here: not attached, not discarded (rule 21).
    pub(super) fn is_second_choice(&self) -> bool {
        let Some(view) = self.server() else {
            return false;
        };
        !view.loading
            && self.journal.barred.is_none()
            && (view.is_writable() || view.is_fenced())
            && self.journal.data_epoch != Epoch::zero()
            && self.journal.run_id.as_ref() == Some(&view.run_id)
    }

    /// The primary we were to follow is proven dead or wholly silent.
    fn second_choice(&mut self, state: &Rejoin, now: Instant) -> Option<bool> {
        if !self.is_second_choice()
            || !matches!(
                state.stage,
                RejoinStage::Assess | RejoinStage::Asking { .. } | RejoinStage::RetryAt(_)
            )
        {
            return None;
        }
        if self.no_takeover_until.is_some_and(|until| now < until) {
            return None;
        }
        let peer = self.peer.statement.clone()?;
        if let Some(released) = &peer.released
            && released.epoch > self.journal.data_epoch
            && !released.exact
            && self.live_peer(now).is_some()
            && self.journal.declined.as_ref() != Some(&released.epoch)
        {
            return Some(self.begin_takeover(Cause::Statement, None, now));
        }
        if self.peer_silence(now) < self.settings.master_down || !self.peer.fresh {
            return None;
        }
        let (cause, rulings) = self.silence_rulings(now);
        let says = together(&rulings);
        self.rulings = rulings;
        match (says, cause) {
            (Says::Yes, Some(cause @ (Cause::Unfenced | Cause::ServerGone))) => {
                Some(self.begin_takeover(cause, None, now))
            }
            (Says::Yes | Says::No | Says::Wait, _) => None,
        }
    }

    pub(super) fn operator_resync(&mut self, id: u64) {
        let asked = match &self.phase {
            Phase::Rejoining(Rejoin {
                stage: RejoinStage::Asking { why, .. },
                ..
            }) => Some(why.clone()),
            Phase::Booting { .. }
            | Phase::Waiting { .. }
            | Phase::Primary { .. }
            | Phase::Replica { .. }
            | Phase::TakingOver(_)
            | Phase::HandingOver(_)
            | Phase::Released { .. }
            | Phase::Split(_)
            | Phase::Rejoining(_) => None,
        };
        match asked {
            Some(why) => {
                self.resync_approved = true;
                self.reply(
                    id,
                    Reply::Done(format!("begins the resync that waited: {why}")),
                );
            }
            None => {
                let why = format!("this host is {}; nothing waits", self.phase.name().word());
                self.reply(
                    id,
                    Reply::Refused {
                        rule: "resync.none".to_owned(),
                        why,
                    },
                );
            }
        }
    }

    /// The resync window has opened: what waits for `resync = "ask"` may begin.
    pub(super) fn resync_window_opened(&mut self) {
        if let Phase::Rejoining(Rejoin {
            stage: RejoinStage::Asking {
                rule: "resync.ask", ..
            },
            ..
        }) = &self.phase
        {
            self.resync_approved = true;
        }
    }
}

/// Redis will continue the stream instead of sending everything, as far as lineages tell. The
/// backlog may still be too short; Redis then falls back by itself.
fn partial_possible(own: &ServerView, theirs: &ServerView) -> bool {
    if own.replid == theirs.replid {
        return own.offset <= theirs.offset;
    }
    own.replid == theirs.replid2
        && !own.replid.is_none()
        && theirs.fork_offset().is_some_and(|fork| own.offset <= fork)
}
