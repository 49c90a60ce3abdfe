//! The role is given up: wait for the peer, and get it back if the peer cannot take it.
//!
//! A promise binds until a newer epoch is agreed (rule 4). Getting the role back therefore needs
//! the peer's word that it declines, or the peer's silence on every channel, in which case the same
//! rules apply as to any takeover.

use std::time::{Duration, Instant};

use crate::health::Health;
use crate::journal::JournalRole;
use crate::keeper::Keeper;
use crate::keeper::io::{Output, Severity, Step, VrrpCommand};
use crate::keeper::phase::{Cause, Phase};
use crate::rules::{Says, together};
use crate::statement::{PhaseName, ReleaseKind, Released, Statement};

/// How long the peer has before it is asked to take the role or to decline.
const RECALL_AFTER: Duration = Duration::from_secs(1);
/// How long both may have stepped back before their data is compared as after a boot.
const COMPARE_AFTER: Duration = Duration::from_secs(3);

impl Keeper {
    pub(super) fn advance_released(&mut self, since: Instant, now: Instant) -> bool {
        if self.closing_silent.is_some() {
            return self.advance_closing_silent(now);
        }
        self.probe_if_silent(now);
        let dead = matches!(self.health(now), Health::Dead(_));
        if dead {
            self.want_server(now);
        }
        let Some(released) = self.journal.released.clone() else {
            self.become_undecided(now);
            return true;
        };
        if let Some(peer) = self.live_peer(now).cloned() {
            if peer.phase == PhaseName::Primary && peer.epoch > released.epoch {
                if let Some(cause) = self.handing.take() {
                    let text = format!("{} is primary at epoch {}", peer.host, peer.epoch);
                    self.answer_handover(cause, Ok(text));
                }
                if self.stopping.is_some() {
                    // Leave the server attached, so that it is up to date when it is needed.
                    self.start_rejoin(now);
                    return true;
                }
                if dead || !self.server_usable(now) {
                    return false;
                }
                self.start_rejoin(now);
                return true;
            }
            if peer.phase == PhaseName::TakingOver {
                return false;
            }
            if peer.declined.as_ref() == Some(&released.epoch) {
                return self.restore(&released, now);
            }
            if let Some(theirs) = &peer.released
                && theirs.epoch > released.epoch
                && self.journal.declined.as_ref() != Some(&theirs.epoch)
                && self.server_usable(now)
            {
                if self.journal.barred.is_some() {
                    // It has promised not to take it.
                    self.decline(theirs.epoch.clone(), now);
                    return false;
                }
                return self.begin_takeover(Cause::Statement, None, now);
            }
            self.decline_without_server(&peer, now);
            let waited = now.saturating_duration_since(since);
            let undecided = matches!(
                peer.phase,
                PhaseName::Released | PhaseName::Booting | PhaseName::Waiting
            );
            if undecided && waited >= COMPARE_AFTER && self.server_usable(now) {
                // Nobody is primary and nobody moves: the positions decide, promises kept.
                self.become_undecided(now);
                return true;
            }
            if waited >= RECALL_AFTER && self.server_usable(now) {
                self.recall();
            }
            return false;
        }
        self.released_and_alone(&released, since, now)
    }

    /// The peer asks for its role back and we have no server to take it with: say so at once, or
    /// both would wait for each other while one of them could serve.
    pub(super) fn decline_without_server(&mut self, peer: &Statement, now: Instant) {
        if let Some(theirs) = &peer.released
            && theirs.recalled
            && !self.server_usable(now)
            && self.journal.declined.as_ref() != Some(&theirs.epoch)
        {
            self.decline(theirs.epoch.clone(), now);
        }
    }

    /// The peer fell silent after we stepped back.
    fn released_and_alone(&mut self, released: &Released, since: Instant, now: Instant) -> bool {
        if self.peer_silence(now) < self.settings.master_down
            || now.saturating_duration_since(since) < RECALL_AFTER
            || !self.server_usable(now)
        {
            return false;
        }
        if self.server_restarted() || released.kind == ReleaseKind::Dead {
            // Another process, perhaps with less data: the boot rules decide.
            self.become_undecided(now);
            return true;
        }
        let (cause, rulings) = self.silence_rulings(now);
        let says = together(&rulings);
        self.rulings = rulings;
        match (says, cause) {
            (Says::Yes, Some(Cause::RemoteFenced)) => {
                // The peer's server answers but its daemon is gone: it may have been promoted.
                self.tell(
                    "released-alone",
                    Severity::Alarm,
                    None,
                    "stepped back; the other daemon is silent but its server answers: start that \
                     daemon"
                        .to_owned(),
                );
                false
            }
            (Says::Yes, Some(_)) => self.restore(released, now),
            (Says::Yes, None) | (Says::No | Says::Wait, _) => false,
        }
    }

    fn restore(&mut self, released: &Released, now: Instant) -> bool {
        if !self.server_usable(now) {
            return false;
        }
        if let Some(cause) = self.handing.take() {
            let text = "the other host could not take over; the role comes back".to_owned();
            self.answer_handover(cause, Err(text));
        }
        let barred = self.journal.barred.is_some();
        if self.server_restarted() || released.kind == ReleaseKind::Dead || barred {
            // With the peer's word that it declines, the boot comparison decides what goes on.
            self.become_undecided(now);
            return true;
        }
        self.begin_takeover(Cause::Restored, None, now)
    }

    fn server_restarted(&self) -> bool {
        self.server().map(|view| &view.run_id) != self.journal.run_id.as_ref()
    }

    /// Asks the peer to take the role or to decline.
    pub(super) fn recall(&mut self) {
        if let Some(released) = &mut self.journal.released {
            released.recalled = true;
        }
    }

    /// First the gate, then the journal, then the words: a silent server's promise is only true
    /// once its front is closed, and must survive us.
    fn advance_closing_silent(&mut self, now: Instant) -> bool {
        let Some((close, journal)) = self.closing_silent else {
            return false;
        };
        if let Some(id) = journal {
            return match self.result(id) {
                None => false,
                Some(result) => {
                    self.closing_silent = None;
                    if let Err(error) = result {
                        let text = format!("the journal cannot be written: {}", error.text);
                        self.tell("journal", Severity::Alarm, None, text);
                    }
                    self.release(ReleaseKind::FrontClosed, now)
                }
            };
        }
        match self.result(close) {
            None => false,
            Some(Ok(_)) => {
                let mut record = self.journal.clone();
                record.role = JournalRole::Released;
                if let Some(view) = self.server() {
                    record.released = Some(Released {
                        epoch: record.data_epoch.clone(),
                        kind: ReleaseKind::FrontClosed,
                        lineage: view.replid.clone(),
                        offset: view.offset,
                        exact: false,
                        recalled: false,
                    });
                }
                let step = Step::Journal(Box::new(record));
                let id = self.start(step, Duration::from_millis(500), now);
                self.closing_silent = Some((close, Some(id)));
                false
            }
            Some(Err(error)) => {
                // The last fence: a server whose front cannot be closed must not wake up.
                self.closing_silent = None;
                self.tell(
                    "kill-server",
                    Severity::Alarm,
                    None,
                    format!(
                        "the front cannot be closed ({}): kills the server",
                        error.text
                    ),
                );
                self.start_background(Step::KillServer, Duration::from_secs(1), now);
                self.out.push(Output::Vrrp(VrrpCommand::Release));
                // It is stated as dead once that is proven. Until then this host has no role that would open the front again.
                self.set_phase(Phase::Primary { since: now }, now);
                true
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::health::AnswerKind;
    use crate::ids::{Epoch, HostId, Offset, ReplId};
    use crate::keeper::io::{Input, PeerEvent, ServerEvent};
    use crate::keeper::testing::keeper;

    fn released(counter: u64, host: &str) -> Released {
        Released {
            epoch: Epoch {
                counter,
                host: HostId::new(host),
            },
            kind: ReleaseKind::FrontClosed,
            lineage: ReplId("lineage".to_owned()),
            offset: Offset(100),
            exact: false,
            recalled: true,
        }
    }

    /// Both had stepped back with frozen servers. This one declined, thawed, and took over all the same, while the other one
    /// acted upon its word. Seed 103168 of the simulator.
    #[test]
    fn a_release_that_was_declined_is_left_to_its_sender() {
        const STATEMENT: &[u8] = include_bytes!("../../tests/corpus/statement/good-replica");
        let start = crate::testing::origin();
        for declines in [false, true] {
            let mut keeper = keeper(start);
            keeper.journal.released = Some(released(2, "b"));
            keeper.journal.role = JournalRole::Released;
            keeper.phase = Phase::Released { since: start };
            let theirs = released(3, "a");
            if declines {
                keeper.journal.declined = Some(theirs.epoch.clone());
            }
            let statement = Statement {
                group: "g".to_owned(),
                host: HostId::new("a"),
                phase: PhaseName::Released,
                epoch: theirs.epoch.clone(),
                released: Some(theirs),
                ..Statement::decode(STATEMENT).expect("the corpus is good")
            };
            let view = crate::testing::primary_view("run", "lineage", 90);
            for event in [
                ServerEvent::Answer(AnswerKind::Fine),
                ServerEvent::View(Box::new(view)),
            ] {
                keeper.handle(Input::Server(event), start);
            }
            keeper.handle(Input::Peer(PeerEvent::Heard(Box::new(statement))), start);
            let takes = matches!(keeper.phase, Phase::TakingOver(_));
            assert_eq!(takes, !declines, "{:?}", keeper.phase);
        }
    }

    /// The front of a silent server could not be closed, so that it was to be killed. In the same breath the addresses were put on
    /// and the front was opened, because this host counted as the primary until it was dead. Seed 19803 of the simulator
    /// with `--alone`.
    #[test]
    fn a_server_that_is_killed_because_its_front_stays_open_gets_no_addresses() {
        let start = crate::testing::origin();
        let mut keeper = keeper(start);
        let view = crate::testing::primary_view("run", "lineage", 90);
        keeper.handle(Input::Server(ServerEvent::Answer(AnswerKind::Fine)), start);
        keeper.handle(Input::Server(ServerEvent::View(Box::new(view))), start);
        keeper.phase = Phase::Primary { since: start };
        let silent = start + crate::keeper::testing::settings().down_after;
        let steps = |out: Vec<Output>| -> Vec<_> {
            let step = |out| match out {
                Output::Do { id, step, .. } => Some((id, step)),
                _ => None,
            };
            out.into_iter().filter_map(step).collect()
        };
        let close = |steps: &[(crate::keeper::StepId, Step)]| {
            let close = |(_, step): &&(_, Step)| matches!(step, Step::CloseFront { .. });
            steps.iter().find(close).map(|(id, _)| *id)
        };
        let begun = steps(keeper.handle(Input::Tick, silent));
        let id = close(&begun).expect("a silent server's front is closed");
        keeper.front.known = true;
        keeper.front.changing = None;
        keeper.front.vrrp_master = true;
        let result = Err(crate::keeper::StepError {
            kind: crate::keeper::StepErrorKind::Refused,
            text: "refused".to_owned(),
        });
        let then = steps(keeper.handle(Input::Done { id, result }, silent));
        assert!(then.iter().any(|(_, step)| *step == Step::KillServer));
        assert!(close(&then).is_some(), "it is tried again: {then:?}");
        let opens = |(_, step): &(_, Step)| matches!(step, Step::AddVip | Step::OpenFront);
        assert!(!then.iter().any(opens), "{then:?}");
    }
}
