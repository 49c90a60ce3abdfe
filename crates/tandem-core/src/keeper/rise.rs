//! A primary's epoch is above every other that was used.
//!
//! Whoever follows this group from elsewhere obeys the newest epoch in which there was a primary ([`crate::topology::Rank`]).
//! The primary's own need not be that one: on the other host a promotion may have come to nothing, or happened behind a cut and
//! be over, or this host has forgotten a newer epoch of its own because it died before that was durable. Its server goes
//! on, so nothing is promoted; but as soon as the other side is heard to know such an epoch, and not to act on it, this one goes on
//! in an epoch above both. So does the winner of a verdict.
//!
//! That epoch is durable before anybody hears of it: after a crash in between the role is resumed in the older one, and the
//! other side, which knows of no newer one either, lets it.

use std::time::{Duration, Instant};

use crate::ids::Epoch;
use crate::keeper::Keeper;
use crate::keeper::io::{Severity, Step, StepId};
use crate::server::ServerView;
use crate::statement::{PhaseName, Statement};

/// Bound on writing the new epoch.
const RISE_WITHIN: Duration = Duration::from_secs(5);
/// A disk that failed is tried again after this.
const RISE_AGAIN: Duration = Duration::from_secs(1);

/// A new epoch that is being made durable.
#[derive(Clone, Debug)]
pub(super) struct Rise {
    epoch: Epoch,
    why: String,
    step: StepId,
    /// Should it fail, not before this.
    again: Instant,
}

/// An epoch that was intended before this daemon began.
#[derive(Clone, Debug)]
pub(super) enum Inherited {
    /// Whether it was used is not known yet.
    Unseen(Epoch),
    /// It may have been used.
    Used(Epoch),
    /// There is none, or it was not used.
    Unused,
}

impl Inherited {
    pub(super) fn of(intent: Option<&Epoch>) -> Self {
        intent.map_or(Self::Unused, |epoch| Self::Unseen(epoch.clone()))
    }
}

impl Keeper {
    /// The first look at the server tells whether it can have been promoted in the epoch that was intended.
    pub(super) fn note_inherited(&mut self, view: &ServerView) {
        let Inherited::Unseen(epoch) = &self.inherited else {
            return;
        };
        // A promotion changes the lineage.
        let still = (&view.run_id, &view.replid);
        let synced = self.journal.synced.as_ref();
        let as_it_was = synced.is_some_and(|(run_id, replid)| (run_id, replid) == still);
        self.inherited = if as_it_was && !view.is_writable() {
            Inherited::Unused
        } else {
            Inherited::Used(epoch.clone())
        };
    }

    /// The newest epoch that this host may have used, where that is newer than the one it states.
    pub(super) fn spent(&self, stated: &Epoch) -> Option<Epoch> {
        let used = match &self.inherited {
            Inherited::Used(epoch) => Some(epoch),
            Inherited::Unseen(_) | Inherited::Unused => None,
        };
        let newest = used.into_iter().chain([&self.journal.epoch]).max()?;
        (newest > stated).then(|| newest.clone())
    }

    /// An epoch that the other side knows of and does not act on, although it does not count as older than this primary's.
    fn outranked_by(&self, peer: &Statement) -> Option<Epoch> {
        match peer.phase {
            // It acts on it, or is about to: that is for the rules of a split.
            PhaseName::Primary
            | PhaseName::HandingOver
            | PhaseName::Split
            | PhaseName::TakingOver => return None,
            // What it holds may be newer than this primary's data, which went on alone: that is for rule 17 and a person. Above
            // its epoch it would give that data up by itself.
            PhaseName::Booting | PhaseName::Waiting => {
                let own = &self.journal.data_epoch;
                let theirs = peer.position.as_ref()?;
                if theirs.epoch > *own {
                    return None;
                }
            }
            // So may one that waits by that rule while it rejoins.
            PhaseName::Replica | PhaseName::Rejoining => {
                let own = &self.journal.data_epoch;
                if peer.position.as_ref().is_some_and(|it| it.epoch > *own) {
                    return None;
                }
            }
            PhaseName::Released => {}
        }
        let released = peer.released.as_ref().map(|released| &released.epoch);
        let theirs = released.into_iter().chain([peer.newest_epoch()]).max()?;
        let own = &self.journal.data_epoch;
        // One number for two hosts is not left to the order of their names: some only see the number.
        (theirs != own && theirs.counter >= own.counter).then(|| theirs.clone())
    }

    /// Goes on in an epoch above the other side's where that is due.
    pub(super) fn rise_if_outranked(&mut self, peer: &Statement, now: Instant) {
        if self.rising.is_some() {
            return;
        }
        if let Some(theirs) = self.outranked_by(peer) {
            let host = &self.settings.host;
            let newest = &self.journal.epoch;
            // One that was chosen before, and that nobody has heard of, will do.
            let unheard = newest.host == *host && *newest > self.journal.data_epoch;
            let epoch = if unheard && *newest > theirs {
                newest.clone()
            } else {
                newest.after(&theirs, host)
            };
            self.rise_to(epoch, &format!("the other side knows of {theirs}"), now);
        }
    }

    /// Goes on in this epoch as soon as that is durable.
    pub(super) fn rise_to(&mut self, epoch: Epoch, why: &str, now: Instant) {
        // Used up, whatever comes of it.
        self.journal.epoch = self.journal.epoch.clone().max(epoch.clone());
        let mut record = self.journal.clone();
        record.rise(epoch.clone());
        let step = self.start_background(Step::Journal(Box::new(record)), RISE_WITHIN, now);
        self.rising = Some(Rise {
            epoch,
            why: why.to_owned(),
            step,
            again: now + RISE_AGAIN,
        });
    }

    /// This primary is on its way to that epoch.
    pub(super) fn is_rising_to(&self, epoch: &Epoch) -> bool {
        self.rising
            .as_ref()
            .is_some_and(|rise| rise.epoch == *epoch)
    }

    pub(super) fn advance_rise(&mut self, now: Instant) {
        let Some(rise) = self.rising.clone() else {
            return;
        };
        match self.result(rise.step) {
            None if self.is_under_way(rise.step) => {}
            Some(Ok(_)) if self.last_record == Some(rise.step) => {
                self.rising = None;
                let Rise { epoch, why, .. } = rise;
                self.journal.rise(epoch.clone());
                let text = format!("goes on at epoch {epoch}: {why}");
                self.tell("+epoch", Severity::Info, None, text);
                self.publish(now);
            }
            // A record that was begun later has the older epoch.
            Some(Ok(_)) => self.rise_to(rise.epoch, &rise.why, now),
            None | Some(Err(_)) if now >= rise.again => self.rise_to(rise.epoch, &rise.why, now),
            None | Some(Err(_)) => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::health::AnswerKind;
    use crate::ids::HostId;
    use crate::keeper::io::Outcome;
    use crate::keeper::testing::keeper;
    use crate::keeper::{Input, Output, PeerEvent, Phase, ServerEvent};
    use crate::rules::boot::{Basis, Position};
    use crate::statement::Released;

    const STATEMENT: &[u8] = include_bytes!("../../tests/corpus/statement/good-replica");

    fn epoch(counter: u64, host: &str) -> Epoch {
        Epoch {
            counter,
            host: HostId::new(host),
        }
    }

    /// Host b, primary of epoch 2@b, whose peer says this and holds data of that epoch.
    fn primary(
        phase: PhaseName,
        theirs: Epoch,
        held: Option<Epoch>,
        now: Instant,
    ) -> (Keeper, Vec<Output>) {
        let mut keeper = keeper(now);
        keeper.phase = Phase::Primary { since: now };
        keeper.journal.epoch = epoch(2, "b");
        keeper.journal.data_epoch = epoch(2, "b");
        keeper.journal.primary_lineage = Some(crate::ids::ReplId("lineage".to_owned()));
        let view = crate::testing::primary_view("run", "lineage", 90);
        keeper.handle(Input::Server(ServerEvent::Answer(AnswerKind::Fine)), now);
        keeper.handle(Input::Server(ServerEvent::View(Box::new(view))), now);
        let statement = Statement {
            group: "g".to_owned(),
            host: HostId::new("a"),
            phase,
            epoch: theirs,
            released: None::<Released>,
            evidence: None,
            position: held.map(|epoch| Position {
                host: HostId::new("a"),
                epoch,
                was_primary: false,
                serving: false,
                lineage: crate::ids::ReplId("other".to_owned()),
                parent: None,
                offset: crate::ids::Offset(90),
                basis: Basis::LoadedRdb,
                keys: 1,
                barred: None,
                follows_peer: false,
            }),
            ..Statement::decode(STATEMENT).expect("the corpus is good")
        };
        let out = keeper.handle(Input::Peer(PeerEvent::Heard(Box::new(statement))), now);
        (keeper, out)
    }

    fn records(out: &[Output]) -> Vec<(StepId, Epoch)> {
        let record = |output: &Output| match output {
            Output::Do {
                id,
                step: Step::Journal(record),
                ..
            } => Some((*id, record.data_epoch.clone())),
            _ => None,
        };
        out.iter().filter_map(record).collect()
    }

    #[test]
    fn a_primary_rises_above_what_nobody_acts_on() {
        let now = crate::testing::origin();
        let table = [
            (PhaseName::Replica, epoch(1, "a"), None, None),
            (PhaseName::Replica, epoch(2, "b"), None, None),
            (PhaseName::Replica, epoch(3, "a"), None, Some(4)),
            (PhaseName::Waiting, epoch(2, "a"), Some(2), Some(3)),
            (PhaseName::Waiting, epoch(3, "a"), Some(1), Some(4)),
            // It may hold what is newer, and then a person decides whether that is given up.
            (PhaseName::Waiting, epoch(3, "a"), None, None),
            (PhaseName::Waiting, epoch(3, "a"), Some(3), None),
            (PhaseName::Booting, epoch(3, "a"), Some(3), None),
            (PhaseName::Rejoining, epoch(3, "a"), Some(3), None),
            (PhaseName::Released, epoch(3, "a"), Some(3), Some(4)),
            // This host's own, which it has forgotten.
            (PhaseName::Rejoining, epoch(3, "b"), None, Some(4)),
            // Whoever acts on it is no matter for this rule.
            (PhaseName::TakingOver, epoch(3, "a"), None, None),
            (PhaseName::Primary, epoch(3, "a"), None, None),
        ];
        for (phase, theirs, held, risen) in table {
            let held = held.map(|counter| epoch(counter, "a"));
            let (keeper, out) = primary(phase, theirs.clone(), held, now);
            let written = records(&out)
                .into_iter()
                .map(|(_, epoch)| epoch.counter)
                .filter(|counter| *counter > 2);
            assert_eq!(
                written.collect::<Vec<_>>(),
                Vec::from_iter(risen),
                "{phase:?} {theirs}"
            );
            let told = keeper.topology(now);
            assert!(told.rank.epoch <= 3 && keeper.journal.data_epoch == epoch(2, "b"));
        }
    }

    #[test]
    fn nobody_hears_of_the_new_epoch_before_it_is_durable() {
        let now = crate::testing::origin();
        let (mut keeper, out) = primary(PhaseName::Replica, epoch(3, "a"), None, now);
        let told = |keeper: &Keeper| keeper.topology(now).rank.epoch;
        let stated = |keeper: &Keeper| keeper.statement(now).epoch.counter;
        let (failed, _) = records(&out)[0].clone();
        let result = Err(crate::keeper::StepError {
            kind: crate::keeper::StepErrorKind::Refused,
            text: "no space".to_owned(),
        });
        let out = keeper.handle(Input::Done { id: failed, result }, now);
        assert_eq!(records(&out), [], "not again at once");
        let later = now + RISE_AGAIN;
        let out = keeper.handle(Input::Server(ServerEvent::Answer(AnswerKind::Fine)), later);
        let (second, again) = records(&out)[0].clone();
        assert_eq!(again, epoch(4, "b"), "the same one: nobody has heard of it");
        assert_eq!((told(&keeper), stated(&keeper)), (2, 2));
        // Something else was written meanwhile, with the older epoch.
        keeper.save(later);
        let done = |id| Input::Done {
            id,
            result: Ok(Outcome::Done),
        };
        let out = keeper.handle(done(second), later);
        assert_eq!((told(&keeper), stated(&keeper)), (2, 2));
        // Behind the record of that something.
        let (third, _) = records(&out).pop().unwrap();
        keeper.handle(done(third), later);
        assert_eq!((told(&keeper), stated(&keeper)), (4, 4));
    }
}
