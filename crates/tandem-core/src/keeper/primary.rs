//! The local server is the group's primary: watch it, watch for another one, give way in order.

use std::time::{Duration, Instant};

use crate::health::Health;
use crate::ids::{Offset, ReplId};
use crate::journal::JournalRole;
use crate::keeper::io::{Hook, Output, Severity, VrrpCommand};
use crate::keeper::phase::{HandCause, Phase, Rejoin, RejoinStage};
use crate::keeper::settings::Preempt;
use crate::keeper::{Keeper, Reply};
use crate::statement::{PhaseName, ReleaseKind, Released};

/// A host that fails back waits until its server has been in sync for this long.
const FAIL_BACK_AFTER: Duration = Duration::from_secs(3);
/// A host that leaves waits this long for a peer that might still become eligible.
const STOP_PATIENCE: Duration = Duration::from_millis(500);
/// A primary whose VRRP is not master wishes again this often.
const CLAIM_AGAIN: Duration = Duration::from_millis(100);

impl Keeper {
    pub(super) fn advance_primary(&mut self, since: Instant, now: Instant) -> bool {
        if self.vrrp_want {
            self.vrrp_want = false;
            self.out.push(Output::Vrrp(VrrpCommand::Grant));
        }
        match self.health(now) {
            Health::Dead(_) => return self.release(ReleaseKind::Dead, now),
            Health::Silent(age) => {
                self.tell(
                    "+sdown",
                    Severity::Alarm,
                    Some(Hook::Fault),
                    format!(
                        "the local server has not answered for {} ms",
                        age.as_millis()
                    ),
                );
                return self.begin_close_silent(now);
            }
            Health::Unmanageable => {
                self.tell(
                    "unmanageable",
                    Severity::Alarm,
                    Some(Hook::Fault),
                    "the local server is alive but refuses the configured user or password: no \
                     failover, and none is possible in order until this is mended"
                        .to_owned(),
                );
            }
            Health::Sick => {
                if self.peer_could_take_over(now).is_ok() {
                    self.tell(
                        "sick",
                        Severity::Alarm,
                        Some(Hook::Fault),
                        "the local server refuses writes because its disk fails".to_owned(),
                    );
                    return self.begin_handover(HandCause::Sick, now);
                }
            }
            Health::Unknown | Health::Fine | Health::Loading | Health::Busy => {}
        }
        self.follow_own_lineage(now);
        self.advance_rise(now);
        if self.server().is_some_and(|view| !view.is_writable()) {
            return self.demoted_by_another_hand(now);
        }
        if let Some(peer) = self.live_peer(now).cloned() {
            if peer.phase.holds_primary() {
                return self.begin_split(now);
            }
            self.recall_evidence(&peer);
            if self.won_meanwhile(&peer) {
                return self.act_on(&peer, now);
            }
            self.rise_if_outranked(&peer, now);
            if self.evidence.is_some() && peer.phase == PhaseName::Replica {
                self.evidence = None;
            }
            self.claim_again(now);
        }
        if self.switchover_wanted(now) {
            return true;
        }
        if let Some(stop_at) = self.stopping {
            return self.stop_as_primary(stop_at, now);
        }
        if self.should_fail_back(since, now) {
            return self.begin_handover(HandCause::FailBack, now);
        }
        false
    }

    /// A primary renames its lineage by itself when its first replica attaches and it had no
    /// backlog yet. The journal must know the name by which the replica will be recognised.
    fn follow_own_lineage(&mut self, now: Instant) {
        let Some(replid) = self
            .server()
            .filter(|view| view.is_writable() && !view.loading)
            .map(|view| view.replid.clone())
        else {
            return;
        };
        if self.journal.primary_lineage.as_ref() == Some(&replid) {
            return;
        }
        if let Some(fork) = self.journal.forks.last_mut()
            && fork.epoch == self.journal.data_epoch
        {
            fork.lineage = replid.clone();
        }
        self.journal.primary_lineage = Some(replid);
        self.take_mark(now);
        self.save(now);
    }

    /// The addresses belong to the primary: wish for them again while the peer is heard not to be
    /// one, as after a verdict against the side that VRRP had favoured.
    fn claim_again(&mut self, now: Instant) {
        let due = self
            .claimed_at
            .is_none_or(|at| now.saturating_duration_since(at) >= CLAIM_AGAIN);
        if !self.front.vrrp_master && due {
            self.claim_vrrp(now);
        }
    }

    /// The server stopped being primary without us: the peer fenced it from afar, or a person typed
    /// REPLICAOF. Either way the role is gone; say so and let the peer have it.
    fn demoted_by_another_hand(&mut self, now: Instant) -> bool {
        let newer = self.live_peer(now).is_some_and(|peer| {
            peer.phase == PhaseName::Primary && peer.epoch > self.journal.data_epoch
        });
        self.tell(
            "-role-change",
            Severity::Alarm,
            Some(Hook::Demoted),
            "the local server was made a replica by another hand than this daemon's".to_owned(),
        );
        if newer {
            self.start_rejoin(now);
            self.out.push(Output::Vrrp(VrrpCommand::Release));
            return true;
        }
        self.release(ReleaseKind::Fenced, now)
    }

    /// States that the role is given up, then everything that follows from it. The statement leaves
    /// first for a dead server: nothing it says can become untrue.
    pub(super) fn release(&mut self, kind: ReleaseKind, now: Instant) -> bool {
        let (lineage, offset) = match self.server() {
            Some(view) => (view.replid.clone(), view.offset),
            // Not read since it changed: the mark is the newest that is known.
            None => match &self.journal.mark {
                Some(mark) => (mark.lineage.clone(), mark.offset),
                None => (ReplId(String::new()), Offset(0)),
            },
        };
        self.journal.released = Some(Released {
            // The epoch that it was primary of, not the newest it has heard of.
            epoch: self.journal.data_epoch.clone(),
            kind,
            lineage,
            offset,
            exact: false,
            recalled: false,
        });
        self.journal.declined = None;
        self.journal.role = JournalRole::Released;
        self.set_phase(Phase::Released { since: now }, now);
        self.publish(now);
        if kind == ReleaseKind::Dead {
            self.close_front(false, true, Duration::from_millis(500), now);
        }
        self.out.push(Output::Vrrp(VrrpCommand::Release));
        self.vrrp_set_fault("stepped back from being primary");
        self.save(now);
        let text = match kind {
            ReleaseKind::Dead => "stepped back: the local server is dead",
            ReleaseKind::Fenced => "stepped back: the local server is fenced",
            ReleaseKind::FrontClosed => "stepped back: front closed, server unfenced",
        };
        self.tell(
            "-primary",
            Severity::Warning,
            Some(Hook::Demoted),
            text.to_owned(),
        );
        true
    }

    pub(super) fn start_rejoin(&mut self, now: Instant) {
        let rejoin = Rejoin {
            since: now,
            stage: RejoinStage::Assess,
            approved: false,
            receipt: None,
            beaten_by: None,
        };
        self.set_phase(Phase::Rejoining(rejoin), now);
    }

    /// May the peer be handed the role now? The refusal names its rule.
    pub(super) fn peer_could_take_over(&self, now: Instant) -> Result<(), (String, String)> {
        let no = |rule: &str, why: String| Err((rule.to_owned(), why));
        let Some(peer) = self.live_peer(now) else {
            return no(
                "switchover.peer-link",
                "the other daemon is not heard".to_owned(),
            );
        };
        if peer.phase != PhaseName::Replica {
            let word = peer.phase.word();
            let why = peer.reason.as_deref().unwrap_or("no reason given");
            return no(
                "switchover.peer-phase",
                format!("{} is {word}: {why}", peer.host),
            );
        }
        if !peer.healthy {
            return no(
                "switchover.peer-health",
                format!("{}'s server is not healthy", peer.host),
            );
        }
        if !peer.eligible {
            let why = peer.reason.as_deref().unwrap_or("no reason given");
            return no(
                "switchover.peer-data",
                format!("{} is not eligible: {why}", peer.host),
            );
        }
        Ok(())
    }

    /// An operator asked on the peer. Served once for each request.
    fn switchover_wanted(&mut self, now: Instant) -> bool {
        let Some(wanted) = self.live_peer(now).and_then(|peer| peer.wants_switchover) else {
            return false;
        };
        if wanted == self.served_switchover {
            return false;
        }
        self.served_switchover = wanted;
        if self.peer_could_take_over(now).is_ok() {
            return self.begin_handover(HandCause::PeerAsked, now);
        }
        false
    }

    /// TERM is a switchover if the peer is eligible; otherwise the server goes on serving.
    fn stop_as_primary(&mut self, stop_at: Instant, now: Instant) -> bool {
        match self.peer_could_take_over(now) {
            Ok(()) if !self.stop_failed => self.begin_handover(HandCause::Stopping, now),
            Ok(()) => {
                self.leave(true, now);
                false
            }
            Err((_, why)) => {
                if self.settings.peer.is_some()
                    && now.saturating_duration_since(stop_at) < STOP_PATIENCE
                {
                    return false;
                }
                self.tell(
                    "stopped-serving",
                    Severity::Alarm,
                    None,
                    format!("leaves while its server goes on as primary: {why}"),
                );
                self.leave(true, now);
                false
            }
        }
    }

    fn should_fail_back(&self, since: Instant, now: Instant) -> bool {
        // The statement of the peer carries its own wish: the higher priority is primary.
        self.settings.preempt == Preempt::AfterSync
            && !self.journal.paused
            && self
                .peer
                .statement
                .as_ref()
                .is_some_and(|p| p.priority > self.settings.priority)
            && now.saturating_duration_since(since) >= FAIL_BACK_AFTER
            && self.no_takeover_until.is_none_or(|until| now >= until)
            && self.peer_could_take_over(now).is_ok()
            && self
                .live_peer(now)
                .and_then(|p| p.server.as_ref())
                .is_some_and(|s| s.in_sync())
    }

    pub(super) fn operator_switchover(
        &mut self,
        id: u64,
        to: Option<crate::ids::HostId>,
        now: Instant,
    ) {
        if let Some(to) = &to
            && Some(to) != self.settings.peer.as_ref()
            && *to != self.settings.host
        {
            let why = format!("{to} is not a host of this group");
            self.reply(
                id,
                Reply::Refused {
                    rule: "switchover.target".to_owned(),
                    why,
                },
            );
            return;
        }
        let is_primary = matches!(self.phase, Phase::Primary { .. });
        let to_here = to.as_ref() == Some(&self.settings.host);
        let already = is_primary && to_here;
        let peer_is_primary = self
            .live_peer(now)
            .is_some_and(|p| p.phase == PhaseName::Primary);
        if already || (!is_primary && peer_is_primary && to == self.settings.peer) {
            self.reply(id, Reply::Done("it is primary already".to_owned()));
        } else if is_primary {
            match self.peer_could_take_over(now) {
                Ok(()) => {
                    self.begin_handover(HandCause::Operator(id), now);
                }
                Err((rule, why)) => self.reply(id, Reply::Refused { rule, why }),
            }
        } else if peer_is_primary && matches!(self.phase, Phase::Replica { .. }) {
            if self.wants_switchover.is_some() {
                let why = "another switchover is under way".to_owned();
                self.reply(
                    id,
                    Reply::Refused {
                        rule: "switchover.busy".to_owned(),
                        why,
                    },
                );
            } else if self.is_eligible() {
                // The request is carried by our statement; the answer is our own promotion.
                self.wants_switchover = Some((id, now));
            } else {
                let why = self.ineligible_reason().unwrap_or_default();
                self.reply(
                    id,
                    Reply::Refused {
                        rule: "switchover.data".to_owned(),
                        why,
                    },
                );
            }
        } else {
            let why = format!("this host is {}", self.phase.name().word());
            self.reply(
                id,
                Reply::Refused {
                    rule: "switchover.phase".to_owned(),
                    why,
                },
            );
        }
    }

    pub(super) fn operator_accept_loss(&mut self, id: u64, now: Instant) {
        let refuse = |rule: &str, why: &str| Reply::Refused {
            rule: rule.to_owned(),
            why: why.to_owned(),
        };
        if matches!(self.phase, Phase::Primary { .. } | Phase::TakingOver(_)) {
            self.reply(id, Reply::Done("this host is primary already".to_owned()));
        } else if self.live_peer(now).is_some_and(|p| p.phase.holds_primary()) {
            self.reply(
                id,
                refuse(
                    "failover.peer-primary",
                    "the other host is primary; use switchover",
                ),
            );
        } else if !self.server_usable(now) {
            self.reply(
                id,
                refuse("failover.server", "the local server does not answer"),
            );
        } else {
            self.tell(
                "accept-loss",
                Severity::Alarm,
                None,
                "an operator makes this host's data the group's, whatever is lost".to_owned(),
            );
            self.accept_loss = true;
            self.become_undecided(now);
            self.reply(id, Reply::Done("this host becomes primary".to_owned()));
        }
    }
}
