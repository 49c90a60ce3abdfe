//! The statement and the mark: what is told to the peer and to the keeper's own future.

use std::time::{Duration, Instant};

use crate::health::Health;
use crate::journal::Mark;
use crate::keeper::Keeper;
use crate::keeper::io::Output;
use crate::keeper::phase::{Phase, RejoinStage};
use crate::rules::boot::Position;
use crate::rules::verdict::Evidence;
use crate::statement::{PhaseName, STATEMENT_FORMAT, Statement};

/// Marks are made this often.
const MARK_EVERY: Duration = Duration::from_secs(1);
/// Statements are repeated at least this often, whatever the advert interval is.
const REPEAT_AT_MOST: Duration = Duration::from_millis(250);
/// And wait this long for an advert to leave beside.
const ADVERT_WAIT: Duration = Duration::from_millis(10);

impl Keeper {
    /// The statement as of now.
    pub(super) fn statement(&self, now: Instant) -> Statement {
        let undecided = matches!(
            self.phase.name(),
            PhaseName::Booting
                | PhaseName::Waiting
                | PhaseName::Replica
                | PhaseName::Released
                | PhaseName::Rejoining
        );
        let eligible = match self.phase {
            Phase::Replica { .. } => self.is_eligible() && self.server_usable(now),
            Phase::Booting { .. }
            | Phase::Waiting { .. }
            | Phase::Primary { .. }
            | Phase::TakingOver(_)
            | Phase::HandingOver(_)
            | Phase::Released { .. }
            | Phase::Split(_)
            | Phase::Rejoining(_) => false,
        };
        let taking = match &self.phase {
            Phase::TakingOver(state) => Some(state.epoch.clone()),
            Phase::Booting { .. }
            | Phase::Waiting { .. }
            | Phase::Primary { .. }
            | Phase::Replica { .. }
            | Phase::HandingOver(_)
            | Phase::Released { .. }
            | Phase::Split(_)
            | Phase::Rejoining(_) => None,
        };
        let epoch = match self.phase.name() {
            // What it is primary of, not what it has heard of.
            PhaseName::Primary | PhaseName::HandingOver | PhaseName::Split => {
                self.journal.data_epoch.clone()
            }
            PhaseName::TakingOver
            | PhaseName::Booting
            | PhaseName::Waiting
            | PhaseName::Replica
            | PhaseName::Released
            | PhaseName::Rejoining => taking.unwrap_or_else(|| self.journal.epoch.clone()),
        };
        let spent = self.spent(&epoch);
        Statement {
            format: STATEMENT_FORMAT,
            group: self.settings.group.clone(),
            host: self.settings.host.clone(),
            incarnation: self.settings.incarnation,
            version: self.version,
            epoch,
            phase: self.phase.name(),
            reason: self.reason(),
            released: self.journal.released.clone(),
            last_words: match self.health(now) {
                Health::Dead(_) => self.last_words.clone(),
                _ => Vec::new(),
            },
            declined: self.journal.declined.clone(),
            server: self.server().cloned(),
            healthy: self.server_usable(now),
            eligible,
            streaming: self.phase.name().holds_primary() && self.stream.flows(),
            turn: self.own_turn(),
            alone: self.states_alone(now),
            barred: self.stated_bar(),
            spent,
            fork: self.journal.forks.last().cloned(),
            evidence: self.evidence.clone(),
            beaten_by: self.beaten_by(),
            position: if undecided { self.position() } else { None },
            priority: self.settings.priority,
            vip: self.front.vip,
            paused: self.journal.paused,
            wants_switchover: self.wants_switchover.map(|(id, _)| id),
            seen: self.peer.statement.as_ref().map_or(0, |p| p.version),
            seen_incarnation: self.peer.statement.as_ref().map_or(0, |p| p.incarnation),
            server_address: self.settings.server_address.clone(),
        }
    }

    fn beaten_by(&self) -> Option<Evidence> {
        let Phase::Rejoining(state) = &self.phase else {
            return None;
        };
        state.beaten_by.clone()
    }

    /// Why this host is not what a person might expect.
    pub(super) fn reason(&self) -> Option<String> {
        match &self.phase {
            Phase::Waiting { rule, why, .. } => Some(format!("{rule}: {why}")),
            Phase::Rejoining(state) => Some(match &state.stage {
                RejoinStage::Asking { rule, why } => format!("{rule}: {why}"),
                RejoinStage::Assess => "compares the histories".to_owned(),
                RejoinStage::Closing(_) => "sends clients away".to_owned(),
                RejoinStage::Archiving(_) => "archives what only it has".to_owned(),
                RejoinStage::Fencing(_) => "fences its server".to_owned(),
                RejoinStage::Attaching(_) => "attaches to the primary".to_owned(),
                RejoinStage::Syncing => "syncs from the primary".to_owned(),
                RejoinStage::RetryAt(_) => "a step failed; tries again".to_owned(),
            }),
            Phase::Replica { .. } => self.ineligible_reason(),
            Phase::Released { .. } => Some("stepped back; waits for the peer".to_owned()),
            Phase::Booting { .. }
            | Phase::Primary { .. }
            | Phase::TakingOver(_)
            | Phase::HandingOver(_)
            | Phase::Split(_) => None,
        }
    }

    /// Publishes now.
    pub(super) fn publish(&mut self, now: Instant) {
        if self.settings.peer.is_none() {
            return;
        }
        self.version += 1;
        let statement = self.statement(now);
        self.note_stated(statement.alone);
        let stated = self
            .published
            .as_ref()
            .and_then(|(s, _)| s.position.as_ref());
        let lineage = |p: &Position| (p.lineage.clone(), p.epoch.clone());
        if stated.map(lineage) != statement.position.as_ref().map(lineage) {
            self.position_since = self.version;
        }
        self.published = Some((statement.clone(), now));
        self.out.push(Output::Publish(Box::new(statement)));
    }

    /// A statement leaves beside an advert where one is due soon, and so keeps step with them: a standby waits until
    /// both have been silent for Master_Down, and would wait longer by the distance between the two. Who hears adverts answers
    /// them, so that both hosts wake up for both.
    pub(super) fn publish_beside_advert(&mut self, now: Instant) {
        let half = self.settings.advert_interval.min(REPEAT_AT_MOST) / 2;
        let due = self
            .published
            .as_ref()
            .is_some_and(|(_, at)| now.saturating_duration_since(*at) >= half);
        if due {
            self.publish(now);
        }
    }

    /// Publishes after any change that the peer acts on, and as a sign of life.
    pub(super) fn publish_if_due(&mut self, now: Instant) {
        let news = std::mem::take(&mut self.news);
        let due = match &self.published {
            None => true,
            Some((last, at)) => {
                let pace = self.settings.advert_interval.min(REPEAT_AT_MOST) + ADVERT_WAIT;
                if now.saturating_duration_since(*at) >= pace {
                    true
                } else if !news {
                    false
                } else {
                    let current = self.statement(now);
                    !same_for_the_peer(last, &current)
                }
            }
        };
        if due {
            self.publish(now);
        }
    }

    pub(super) fn mark_if_due(&mut self, now: Instant) {
        let due = self
            .marked_at
            .is_none_or(|at| now.saturating_duration_since(at) >= MARK_EVERY);
        // A mark says what is surely in the AOF only in a history that continues that of the mark before: no change of name is
        // passed over.
        let named = self.journal.mark.as_ref().map(|mark| &mark.lineage);
        let due = due || named != self.server().map(|view| &view.replid);
        if due && self.take_mark(now) {
            let record = Box::new(self.journal.clone());
            self.last_record = None;
            self.out.push(Output::Mark(record));
        }
    }

    /// Puts where the local server stands into the record, which the caller has to write. False:
    /// nothing may be said of it now.
    ///
    /// A promotion does so in the record that makes it known: a host that is lost within its first
    /// second as primary would otherwise come back with an RDB of a lineage that no record names,
    /// and would be taken for the older one.
    pub(super) fn take_mark(&mut self, now: Instant) -> bool {
        // Only a server that this host's role belongs to may leave a mark; a restarted one has to
        // be compared with the old mark first.
        let settled = matches!(self.phase, Phase::Primary { .. } | Phase::Replica { .. });
        let Some(view) = self.server() else {
            return false;
        };
        if !settled || view.loading {
            return false;
        }
        // A promotion continues the history under a new name. A mark that comes early leaves what is surely in the AOF
        // as it was: nothing has been synced for a second since.
        let continued = |m: &&Mark| m.lineage == view.replid || m.lineage == view.replid2;
        let early = self
            .marked_at
            .is_some_and(|at| now.saturating_duration_since(at) < MARK_EVERY);
        let previous = self
            .journal
            .mark
            .as_ref()
            .filter(continued)
            .map_or(view.offset, |m| {
                if early { m.previous_offset } else { m.offset }
            });
        let peer_offset = self
            .peer
            .statement
            .as_ref()
            .and_then(|p| p.server.as_ref())
            .filter(|theirs| theirs.replid == view.replid)
            .map(|theirs| theirs.offset);
        let link_up = view.in_sync() || view.online_replicas > 0;
        let mark = Mark {
            run_id: view.run_id.clone(),
            lineage: view.replid.clone(),
            offset: view.offset,
            keys: view.keys,
            link_up,
            peer_offset,
            previous_offset: previous,
            boot_id: self.settings.boot_id.clone(),
            unix_ms: 0,
        };
        self.marked_at = Some(now);
        self.journal.mark = Some(mark);
        if self.journal.run_id.is_none() {
            self.journal.run_id = self.server().map(|v| v.run_id.clone());
        }
        true
    }
}

/// Equal in everything that makes the other side act.
fn same_for_the_peer(a: &Statement, b: &Statement) -> bool {
    let server = |s: &Statement| {
        s.server.as_ref().map(|v| {
            (
                v.run_id.clone(),
                v.role.clone(),
                v.replid.clone(),
                v.loading,
            )
        })
    };
    a.phase == b.phase
        && a.epoch == b.epoch
        && a.reason == b.reason
        && a.turn == b.turn
        && a.spent == b.spent
        && a.alone == b.alone
        && a.barred == b.barred
        && a.released == b.released
        && a.declined == b.declined
        && a.healthy == b.healthy
        && a.eligible == b.eligible
        && a.streaming == b.streaming
        && a.evidence == b.evidence
        && a.beaten_by == b.beaten_by
        && a.position == b.position
        && a.vip == b.vip
        && a.paused == b.paused
        && a.wants_switchover == b.wants_switchover
        && server(a) == server(b)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::keeper::testing::{keeper, settings};
    use crate::keeper::{Input, VrrpEvent};

    fn statements(keeper: &mut Keeper, input: Input, now: Instant) -> usize {
        let out = keeper.handle(input, now);
        out.iter()
            .filter(|out| matches!(out, Output::Publish(_)))
            .count()
    }

    #[test]
    fn statements_fall_into_step_with_adverts() {
        let pace = settings().advert_interval.min(REPEAT_AT_MOST) + ADVERT_WAIT;
        let start = crate::testing::origin();
        let mut keeper = keeper(start);
        assert_eq!(statements(&mut keeper, Input::Tick, start), 1);
        let advert = || Input::Vrrp(VrrpEvent::AdvertSent);
        // Soon after a statement there is no second one; later it comes early, and the next one a whole pace after it.
        let soon = start + pace / 4;
        assert_eq!(statements(&mut keeper, advert(), soon), 0);
        let later = start + pace * 3 / 4;
        assert_eq!(statements(&mut keeper, advert(), later), 1);
        assert_eq!(statements(&mut keeper, Input::Tick, start + pace), 0);
        assert_eq!(statements(&mut keeper, advert(), later + pace), 1);
    }
}
