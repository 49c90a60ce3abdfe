//! The local server follows the peer's: stay eligible, and notice when the place is free.

use std::time::{Duration, Instant};

use crate::health::Health;
use crate::journal::JournalRole;
use crate::keeper::io::{Output, ProbeResult, Reply, Severity, Step};
use crate::keeper::phase::Cause;
use crate::keeper::{Keeper, VrrpCommand};
use crate::rules::eligible::{LastPrimary, SyncProof, eligible};
use crate::rules::{Ruling, Says, obstacle, together};
use crate::server::ServerView;
use crate::statement::{PhaseName, Statement};

/// Bound on writing an intent; without it a takeover writes first.
const INTEND_WITHIN: Duration = Duration::from_secs(5);
/// How long a switchover asked for here may take to begin on the primary.
const SWITCHOVER_BEGINS: Duration = Duration::from_secs(5);

impl Keeper {
    pub(super) fn advance_replica(&mut self, since: Instant, now: Instant) -> bool {
        if let Some(since) = self.stopping {
            if let Some(view) = self.server().cloned() {
                self.remember_sync(&view, now);
            }
            if self.may_leave_replica(since, now) {
                self.leave(false, now);
            }
            return false;
        }
        self.probe_if_silent(now);
        self.learn_intent();
        match self.health(now) {
            Health::Dead(_) => {
                self.vrrp_set_fault("the local server is dead");
                self.want_server(now);
                return false;
            }
            Health::Silent(_) | Health::Unknown | Health::Unmanageable | Health::Loading => {
                self.vrrp_set_fault("the local server does not answer as it should");
                return false;
            }
            Health::Fine | Health::Busy | Health::Sick => {}
        }
        let Some(view) = self.server().cloned() else {
            return false;
        };
        if view.is_writable() {
            // It restarted as a primary, or a person promoted it. Only the keeper promotes: it is
            // looked at like any server that comes back.
            self.tell(
                "+reboot",
                Severity::Warning,
                None,
                "the local replica came back as a primary".to_owned(),
            );
            if self.live_peer(now).is_some_and(|p| p.phase.holds_primary()) {
                self.start_rejoin(now);
            } else {
                self.become_undecided(now);
            }
            return true;
        }
        self.remember_sync(&view, now);
        self.show_eligibility();
        self.expire_switchover_request(now);

        if let Some(peer) = self.live_peer(now).cloned() {
            if peer.phase.holds_primary() {
                // Only the adverts are missing: nothing moves, and the cause is named. A daemon that
                // stops is silent everywhere a moment later, which is another story.
                let filtered = self.peer.advert_at.is_none_or(|at| {
                    now.saturating_duration_since(at) >= 2 * self.settings.master_down
                });
                if self.vrrp_want && filtered {
                    self.consider_silence(now);
                }
                return self.follow(&view, &peer, now);
            }
            if let Some(changed) = self.place_offered(&peer, now) {
                return changed;
            }
            if matches!(
                peer.phase,
                PhaseName::Booting | PhaseName::Waiting | PhaseName::Replica
            ) && now.saturating_duration_since(since) > self.settings.master_down
            {
                // The group has no primary although the other side is there: compare data.
                self.become_undecided(now);
                return true;
            }
        }
        // A silent peer's promise is not acted upon: it may have taken its role back because it
        // heard nothing either. From here silence is judged as silence, with a probe.
        self.consider_silence(now)
    }

    /// The peer is primary: our server must follow it and nobody else.
    fn follow(&mut self, view: &ServerView, peer: &Statement, now: Instant) -> bool {
        if !view.follows(&peer.server_address) {
            self.start_rejoin(now);
            return true;
        }
        false
    }

    /// The peer stated that it stepped back. `None` when it did not.
    fn place_offered(&mut self, peer: &Statement, now: Instant) -> Option<bool> {
        let released = peer.released.clone()?;
        let declined = self.journal.declined.as_ref() == Some(&released.epoch);
        if released.epoch < self.journal.data_epoch || declined {
            return None;
        }
        let mut rulings = vec![Ruling::yes(
            "takeover.statement",
            format!(
                "{} stated {:?} at epoch {}",
                peer.host, released.kind, released.epoch
            ),
        )];
        if self.journal.paused && !released.exact {
            let why = "an operator paused automatic failover here: tandem resume ends it";
            rulings.push(Ruling::no("takeover.paused", why));
        }
        rulings.extend(self.eligibility());
        self.rulings = rulings;
        if self.no_takeover_until.is_some_and(|until| now < until) {
            return None;
        }
        match together(&self.rulings) {
            Says::Yes => {
                let exact = released.exact.then_some(released.offset);
                Some(self.begin_takeover(Cause::Statement, exact, now))
            }
            Says::No | Says::Wait => {
                let why = obstacle(&self.rulings)
                    .map(|r| r.evidence.clone())
                    .unwrap_or_default();
                self.tell(
                    "-failover-abort-not-eligible",
                    Severity::Alarm,
                    Some(super::Hook::Fault),
                    format!(
                        "{} stepped back but this host cannot take over: {why}",
                        peer.host
                    ),
                );
                if released.recalled {
                    self.decline(released.epoch, now);
                }
                None
            }
        }
    }

    /// Nobody stepped back, but VRRP wants to be master: why is the other side silent? (Rule 2.)
    fn consider_silence(&mut self, now: Instant) -> bool {
        if !self.vrrp_want {
            return false;
        }
        let (cause, rulings) = self.silence_rulings(now);
        let mut all = rulings;
        if cause == Some(Cause::RemoteFenced) && !self.server().is_some_and(ServerView::in_sync) {
            all.push(Ruling::no(
                "takeover.rest",
                "the other server answers but the replication link to it is down: it may have restarted without its \
                 data, and what it wrote last cannot be read; start the daemon there",
            ));
        }
        all.extend(self.eligibility());
        let says = together(&all);
        let words = obstacle(&all).map(|r| format!("{}: {}", r.rule, r.evidence));
        self.rulings = all;
        match (says, cause) {
            (Says::Yes, Some(cause)) => self.begin_takeover(cause, None, now),
            (Says::No, _) => {
                self.tell(
                    "-failover-abort",
                    Severity::Alarm,
                    Some(super::Hook::Fault),
                    format!(
                        "adverts are silent but nothing moves: {}",
                        words.unwrap_or_default()
                    ),
                );
                false
            }
            (Says::Wait, _) | (Says::Yes, None) => false,
        }
    }

    /// Rule 2, one ruling for each channel, and how to take over if all of them allow it.
    pub(super) fn silence_rulings(&self, now: Instant) -> (Option<Cause>, Vec<Ruling>) {
        let mut out = Vec::with_capacity(6);
        out.push(if self.journal.paused {
            Ruling::no(
                "takeover.paused",
                "an operator paused automatic failover here",
            )
        } else {
            Ruling::yes("takeover.paused", "automatic failover is on")
        });
        let down = self.settings.master_down;
        let age = |at: Option<Instant>| at.map(|t| now.saturating_duration_since(t));
        let link_age = age(self.peer.heard_at);
        out.push(match link_age {
            Some(age) if age < down => {
                let adverts = self
                    .peer
                    .advert_at
                    .is_some_and(|at| now.saturating_duration_since(at) < down);
                let heard = if adverts {
                    "the other daemon is heard on the peer link"
                } else {
                    "the other daemon is heard on the peer link: only its adverts (protocol 112) are \
                     missing, filtered on the way or not sent"
                };
                Ruling::no("takeover.peer-link", heard).aged(age)
            }
            Some(age) => Ruling::yes("takeover.peer-link", "the peer link is silent").aged(age),
            None => Ruling::yes("takeover.peer-link", "the peer link was never up"),
        });
        out.push(match age(self.peer.advert_at) {
            Some(age) if age < down => {
                Ruling::wait("takeover.adverts", "adverts still arrive").aged(age)
            }
            Some(age) => Ruling::yes("takeover.adverts", "no adverts").aged(age),
            None => Ruling::yes("takeover.adverts", "no advert was ever heard"),
        });
        if now.saturating_duration_since(self.started) < down {
            out.push(Ruling::wait(
                "takeover.listening",
                "this daemon has only just started",
            ));
        }
        let mut cause = None;
        match self.probed(now) {
            None => out.push(Ruling::wait(
                "takeover.probe",
                "the other server is asked once its daemon is silent",
            )),
            Some((ProbeResult::Silent, age)) => {
                cause = Some(Cause::Unfenced);
                out.push(Ruling::yes("takeover.probe", "the other server is silent too").aged(age));
            }
            Some((ProbeResult::Refused, age)) => {
                cause = Some(Cause::ServerGone);
                out.push(
                    Ruling::yes("takeover.probe", "the other server's port refuses").aged(age),
                );
            }
            Some((ProbeResult::AuthRefused, age)) => out.push(
                Ruling::no(
                    "takeover.credentials",
                    "the other server answers but refuses our credentials: it cannot be fenced",
                )
                .aged(age),
            ),
            Some((ProbeResult::Answers { .. }, age)) => {
                cause = Some(Cause::RemoteFenced);
                out.push(
                    Ruling::yes(
                        "takeover.probe",
                        "the other server answers: it will be fenced",
                    )
                    .aged(age),
                );
                let blocked = self
                    .last_failover
                    .map(|at| now.saturating_duration_since(at));
                // The daemon that would renew the address is gone: from here on the living server may be one that no
                // client reaches, and holding back would be an outage.
                let served = self
                    .settings
                    .vip_lifetime
                    .is_none_or(|lifetime| self.peer_silence(now) < lifetime * 2 / 3);
                if let Some(since) = blocked
                    && since < self.settings.flap_block
                    && served
                {
                    out.push(
                        Ruling::no(
                            "takeover.flapping",
                            "a failover happened within flap_block, the other server lives and its clients may \
                             still reach it",
                        )
                        .aged(since),
                    );
                }
            }
        }
        if self.no_takeover_until.is_some_and(|until| now < until) {
            out.push(Ruling::wait(
                "takeover.retry",
                "the last attempt failed a moment ago",
            ));
        }
        (cause, out)
    }

    // --- what is remembered of the primary -----------------------------------------------------

    pub(super) fn learn_primary(&mut self, peer: &Statement) {
        let Some(server) = &peer.server else {
            return;
        };
        if !server.is_writable() || server.loading {
            return;
        }
        let last = LastPrimary {
            replid: server.replid.clone(),
            offset: server.offset,
        };
        self.journal.primary_lineage = Some(server.replid.clone());
        self.last_primary = Some(last);
    }

    fn remember_sync(&mut self, view: &ServerView, now: Instant) {
        let Some(peer) = self.live_peer(now) else {
            return;
        };
        if !peer.phase.holds_primary() || !view.in_sync() || !view.follows(&peer.server_address) {
            return;
        }
        let Some(server) = &peer.server else {
            return;
        };
        if server.replid != view.replid {
            return;
        }
        let proof = SyncProof {
            run_id: view.run_id.clone(),
            replid: view.replid.clone(),
        };
        let epoch = peer.epoch.clone();
        let news = self.proof.as_ref() != Some(&proof)
            || self.journal.data_epoch != epoch
            || self.journal.role != JournalRole::Replica;
        if news {
            self.journal.synced = Some((proof.run_id.clone(), proof.replid.clone()));
            self.proof = Some(proof);
            self.journal.data_epoch = epoch.clone();
            self.journal.epoch = self.journal.epoch.clone().max(epoch);
            self.journal.released = None;
            self.journal.declined = None;
            self.journal_role(JournalRole::Replica);
            self.intend(now);
        }
    }

    /// Writes down ahead of time that this replica may take over at the next epoch, so that the
    /// promotion itself does not wait for a disk that is busy with the servers' own files.
    fn intend(&mut self, now: Instant) {
        let epoch = self
            .journal
            .epoch
            .after(&self.journal.epoch, &self.settings.host);
        self.journal.intent = Some(epoch.clone());
        let record = Box::new(self.journal.clone());
        let id = self.start_background(Step::Journal(record), INTEND_WITHIN, now);
        self.intending = Some((id, epoch));
    }

    /// The intent is durable once its record is.
    pub(super) fn learn_intent(&mut self) {
        if let Some((id, epoch)) = self.intending.clone()
            && let Some(result) = self.result(id)
        {
            self.intending = None;
            self.intent = result.is_ok().then_some(epoch);
        }
    }

    /// Rule 5 about the local server.
    pub(super) fn eligibility(&self) -> Vec<Ruling> {
        let mut rulings = eligible(
            self.server(),
            self.proof.as_ref(),
            self.last_primary.as_ref(),
            self.settings.max_lag,
        );
        rulings.extend(self.bar_ruling());
        rulings
    }

    pub(super) fn is_eligible(&self) -> bool {
        together(&self.eligibility()) == Says::Yes
    }

    pub(super) fn ineligible_reason(&self) -> Option<String> {
        obstacle(&self.eligibility()).map(|r| format!("{}: {}", r.rule, r.evidence))
    }

    /// Not eligible: no VIP anywhere near this host (rule 5). VRRP is in FAULT and shows why.
    fn show_eligibility(&mut self) {
        match self.ineligible_reason() {
            Some(why) => self.vrrp_set_fault(&why),
            None => self.vrrp_clear_fault(),
        }
    }

    fn expire_switchover_request(&mut self, now: Instant) {
        if let Some((id, at)) = self.wants_switchover
            && now.saturating_duration_since(at) > SWITCHOVER_BEGINS
        {
            self.wants_switchover = None;
            let text = "the primary did not begin the switchover; see tandem explain there";
            self.reply(id, Reply::Failed(text.to_owned()));
        }
    }

    /// A promise not to take over on the peer's release, durable before it is stated.
    pub(super) fn decline(&mut self, epoch: crate::ids::Epoch, now: Instant) {
        self.journal.declined = Some(epoch.clone());
        self.save(now);
        self.tell(
            "declined",
            Severity::Warning,
            None,
            format!("declines epoch {epoch}"),
        );
    }

    // --- VRRP in step --------------------------------------------------------------------------

    pub(super) fn vrrp_set_fault(&mut self, why: &str) {
        self.vrrp_fault = Some(why.to_owned());
    }

    pub(super) fn vrrp_clear_fault(&mut self) {
        self.vrrp_fault = None;
    }

    /// Tells the machine only changes of being in FAULT; words may change every tick.
    pub(super) fn keep_vrrp_in_step(&mut self) {
        match (&self.vrrp_fault, self.vrrp_faulted) {
            (Some(why), false) => {
                let why = why.clone();
                self.vrrp_faulted = true;
                self.vrrp_want = false;
                self.out.push(Output::Vrrp(VrrpCommand::Fault(why)));
            }
            (None, true) => {
                self.vrrp_faulted = false;
                self.out.push(Output::Vrrp(VrrpCommand::ClearFault));
            }
            (Some(_), true) | (None, false) => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::keeper::testing::{keeper, settings};

    /// Three daemons frozen in turn: the third takeover was held back for `flap_block`, and nobody had the address.
    #[test]
    fn flapping_holds_back_only_while_the_other_side_may_have_clients() {
        let start = crate::testing::origin();
        let lifetime = settings().vip_lifetime.expect("this group has an address");
        let mut keeper = keeper(start);
        keeper.last_failover = Some(start);
        keeper.peer.advert_at = Some(start);
        keeper.peer.heard_at = Some(start);
        let cause_and_flapping = |keeper: &mut Keeper, now: Instant| {
            keeper.probe.last = Some((ProbeResult::Answers { writable: true }, now));
            let (cause, rulings) = keeper.silence_rulings(now);
            let held = rulings
                .iter()
                .any(|ruling| ruling.rule == "takeover.flapping");
            (cause, held)
        };
        let silent = start + settings().master_down;
        let fence = Some(Cause::RemoteFenced);
        assert_eq!(cause_and_flapping(&mut keeper, silent), (fence, true));
        let gone = start + lifetime;
        assert_eq!(cause_and_flapping(&mut keeper, gone), (fence, false));
        // Clients at the server's own address lose nothing when an address they do not use runs out.
        keeper.settings.vip_lifetime = None;
        assert_eq!(cause_and_flapping(&mut keeper, gone), (fence, true));
    }
}
