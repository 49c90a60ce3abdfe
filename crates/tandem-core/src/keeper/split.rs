//! Both sides are primary: find the verdict, alike on both sides (rule 19).
//!
//! Each side states its evidence once; from the two pieces both compute the same verdict. Until it
//! is there nothing is discarded. VRRP has meanwhile left the addresses on one side, by priority;
//! if that side loses, it hands them over on its way to being a replica.

use std::time::{Duration, Instant};

use crate::health::Health;
use crate::ids::Offset;
use crate::journal::JournalRole;
use crate::keeper::Keeper;
use crate::keeper::io::{Hook, Outcome, Output, Severity, Step, VrrpCommand};
use crate::keeper::phase::{Phase, Rejoin, RejoinStage, Split};
use crate::rules::verdict::{Evidence, verdict};
use crate::statement::{PhaseName, ReleaseKind, Statement};

/// Bound on counting the tail. A tail that takes longer is counted by its offsets.
const MEASURE_WITHIN: Duration = Duration::from_secs(5);

impl Keeper {
    pub(super) fn begin_split(&mut self, now: Instant) -> bool {
        let Some(peer) = self.live_peer(now).cloned() else {
            return false;
        };
        // A winner has already answered to our evidence, or we to its.
        if let (Some(own), Some(theirs)) = (&self.evidence, self.current_evidence(&peer))
            && let judged = verdict(own, &theirs).epoch
            && (judged == self.journal.data_epoch || self.is_rising_to(&judged))
        {
            // Judged and won; the loser is on its way.
            return false;
        }
        let fork_offset = self.fork_with(&peer);
        let step = Step::MeasureTail { from: fork_offset };
        let measuring = Some(self.start(step, MEASURE_WITHIN, now));
        self.tell(
            "+split",
            Severity::Alarm,
            Some(Hook::Fault),
            format!(
                "{} is primary too, at epoch {}; this host at epoch {}; the histories part at \
                 offset {fork_offset}",
                peer.host, peer.epoch, self.journal.data_epoch
            ),
        );
        self.evidence = None;
        self.set_phase(
            Phase::Split(Split {
                since: now,
                with: (peer.incarnation, peer.epoch),
                measuring,
                fork_offset,
                own: None,
            }),
            now,
        );
        true
    }

    pub(super) fn advance_split(&mut self, mut state: Split, now: Instant) -> bool {
        if self.vrrp_want {
            self.vrrp_want = false;
            self.out.push(Output::Vrrp(VrrpCommand::Grant));
        }
        if matches!(self.health(now), Health::Dead(_)) {
            return self.release(ReleaseKind::Dead, now);
        }
        if let Some(id) = state.measuring
            && let Some(result) = self.result(id)
        {
            state.measuring = None;
            let client_bytes = match result {
                Ok(Outcome::Measured(bytes)) => bytes,
                // Counted by offsets: too many rather than too few, on either side alike.
                Ok(_) | Err(_) => self
                    .server()
                    .map_or(0, |view| view.offset.ahead_of(state.fork_offset)),
            };
            let evidence = Evidence {
                host: self.settings.host.clone(),
                epoch: self.journal.data_epoch.clone(),
                fork_offset: state.fork_offset,
                client_bytes,
            };
            state.own = Some(evidence.clone());
            self.evidence = Some(evidence);
            self.phase = Phase::Split(state);
            self.publish(now);
            return true;
        }
        let Some(peer) = self.live_peer(now).cloned() else {
            // Cut again before the verdict: go on as before, nothing was discarded.
            if self.peer_silence(now) >= self.settings.master_down {
                self.set_phase(Phase::Primary { since: now }, now);
                return true;
            }
            return false;
        };
        if !peer.phase.holds_primary() && self.current_evidence(&peer).is_none() {
            // The other side gave up before any verdict; its data is kept by its own rules.
            self.set_phase(Phase::Primary { since: now }, now);
            return true;
        }
        if state.own.is_some() && self.current_evidence(&peer).is_some() {
            return self.act_on(&peer, now);
        }
        false
    }

    /// The peer's evidence if it is about this split: stated at the epoch that it still has, or
    /// that it has just left by the verdict from that very evidence. Anything else is left over
    /// from an earlier split.
    fn current_evidence(&self, peer: &Statement) -> Option<Evidence> {
        let theirs = peer.evidence.clone()?;
        let by_verdict = self
            .evidence
            .as_ref()
            .is_some_and(|own| verdict(own, &theirs).epoch == peer.epoch);
        (theirs.epoch == peer.epoch || by_verdict).then_some(theirs)
    }

    /// The link went before this host had the peer's evidence, and the peer, which had ours, has drawn the
    /// verdict and lost: it waits for the epoch that follows from it.
    pub(super) fn won_meanwhile(&self, peer: &Statement) -> bool {
        let (Some(own), Some(theirs)) = (&self.evidence, self.current_evidence(peer)) else {
            return false;
        };
        let judged = verdict(own, &theirs);
        peer.phase == PhaseName::Rejoining
            && own.epoch == self.journal.data_epoch
            && judged.winner == self.settings.host
            && judged.epoch > self.journal.data_epoch
            && !self.is_rising_to(&judged.epoch)
    }

    /// A daemon that was started since has no evidence of its own any more, and the epoch in which it was to go on was not durable
    /// when it left. The loser waits for that epoch, and states both pieces from which it has drawn the verdict.
    pub(super) fn recall_evidence(&mut self, peer: &Statement) {
        if self.evidence.is_some() || peer.phase != PhaseName::Rejoining {
            return;
        }
        let (Some(own), Some(theirs)) = (&peer.beaten_by, &peer.evidence) else {
            return;
        };
        let ours = own.host == self.settings.host && own.epoch == self.journal.data_epoch;
        if ours && verdict(own, theirs).winner == self.settings.host {
            self.evidence = Some(own.clone());
        }
    }

    /// Both pieces are there: win or lose.
    pub(super) fn act_on(&mut self, peer: &Statement, now: Instant) -> bool {
        let (Some(own), Some(theirs)) = (self.evidence.clone(), self.current_evidence(peer)) else {
            return false;
        };
        let judged = verdict(&own, &theirs);
        self.tell(
            "+verdict",
            Severity::Alarm,
            Some(Hook::Fault),
            judged.words.clone(),
        );
        if judged.winner == self.settings.host {
            // The evidence stays stated until the loser has drawn the verdict too.
            self.journal_role(JournalRole::Primary);
            self.set_phase(Phase::Primary { since: now }, now);
            self.rise_to(judged.epoch, "it has won the verdict", now);
            self.publish(now);
            return true;
        }
        self.journal.role = JournalRole::Loser;
        self.save(now);
        let id = self.close_front(true, false, Duration::from_secs(1), now);
        self.set_phase(
            Phase::Rejoining(Rejoin {
                since: now,
                stage: RejoinStage::Closing(id),
                approved: false,
                receipt: None,
                beaten_by: Some(theirs),
            }),
            now,
        );
        self.out.push(Output::Vrrp(VrrpCommand::Release));
        self.vrrp_set_fault("lost the verdict of a split; resyncs first");
        true
    }

    /// The last offset that both histories share, from both servers' own lineages.
    pub(super) fn fork_with(&self, peer: &Statement) -> Offset {
        let (Some(own), Some(theirs)) = (self.server(), &peer.server) else {
            return Offset(0);
        };
        if own.replid == theirs.replid {
            return own.offset.min(theirs.offset);
        }
        if own.replid2 == theirs.replid && !own.replid2.is_none() {
            return own.fork_offset().unwrap_or_default();
        }
        if theirs.replid2 == own.replid && !theirs.replid2.is_none() {
            return theirs.fork_offset().unwrap_or_default();
        }
        if own.replid2 == theirs.replid2 && !own.replid2.is_none() {
            let one = own.fork_offset().unwrap_or_default();
            return one.min(theirs.fork_offset().unwrap_or_default());
        }
        // The peer's current lineage may have been forked once more since; its journal knows.
        let journaled = self
            .journal
            .forks
            .iter()
            .rev()
            .find(|fork| fork.parent == theirs.replid || fork.parent == theirs.replid2)
            .map(|fork| fork.offset);
        let stated = peer
            .fork
            .as_ref()
            .filter(|fork| fork.parent == own.replid || fork.parent == own.replid2)
            .map(|fork| fork.offset);
        journaled.or(stated).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::health::AnswerKind;
    use crate::ids::{Epoch, HostId, ReplId};
    use crate::keeper::testing::keeper;
    use crate::keeper::{Input, PeerEvent, ServerEvent};
    use crate::rules::boot::{Basis, Position};

    const STATEMENT: &[u8] = include_bytes!("../../tests/corpus/statement/good-replica");

    fn evidence(host: &str, counter: u64, client_bytes: u64) -> Evidence {
        Evidence {
            host: HostId::new(host),
            epoch: Epoch {
                counter,
                host: HostId::new(host),
            },
            fork_offset: Offset(50),
            client_bytes,
        }
    }

    /// The winner's daemon was gone before its new epoch was durable, and resumed in the old one, lower than the loser's, who
    /// waited for ever. Seed 7812 of the simulator with `--alone`.
    #[test]
    fn a_winner_that_forgot_the_verdict_is_told_of_it_by_the_loser() {
        let now = crate::testing::origin();
        let won = |own: Option<Evidence>, theirs: Option<Evidence>| {
            let mut keeper = keeper(now);
            keeper.journal.epoch = evidence("a", 2, 0).epoch;
            keeper.journal.data_epoch = evidence("b", 1, 0).epoch;
            keeper.journal.primary_lineage = Some(ReplId("lineage".to_owned()));
            keeper.phase = Phase::Primary { since: now };
            let view = crate::testing::primary_view("run", "lineage", 90);
            keeper.handle(Input::Server(ServerEvent::Answer(AnswerKind::Fine)), now);
            keeper.handle(Input::Server(ServerEvent::View(Box::new(view))), now);
            let loser = Statement {
                group: "g".to_owned(),
                host: HostId::new("a"),
                phase: PhaseName::Rejoining,
                epoch: evidence("a", 2, 0).epoch,
                evidence: theirs,
                beaten_by: own,
                // Newer than this primary's, so that it does not rise above it by itself.
                position: Some(Position {
                    host: HostId::new("a"),
                    epoch: evidence("a", 2, 0).epoch,
                    was_primary: true,
                    serving: false,
                    lineage: ReplId("other".to_owned()),
                    parent: None,
                    offset: Offset(90),
                    basis: Basis::Running,
                    keys: 1,
                    barred: None,
                    follows_peer: false,
                }),
                released: None,
                ..Statement::decode(STATEMENT).expect("the corpus is good")
            };
            keeper.handle(Input::Peer(PeerEvent::Heard(Box::new(loser))), now);
            keeper.is_rising_to(&evidence("b", 3, 0).epoch)
        };
        let theirs = || Some(evidence("a", 2, 600));
        assert!(won(Some(evidence("b", 1, 3180)), theirs()));
        assert!(!won(None, theirs()));
        // Of another epoch than this primary's, and one that this host has lost.
        assert!(!won(Some(evidence("b", 3, 3180)), theirs()));
        assert!(!won(Some(evidence("b", 1, 60)), theirs()));
    }
}
