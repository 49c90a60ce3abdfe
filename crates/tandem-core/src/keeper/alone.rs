//! A primary that may acknowledge alone (`when_alone = "continue"`), and the promise of the other side that makes it safe.
//!
//! A proxy passes a write on when a replica has it. Without a replica it may do so only if no other server can become the primary
//! without that write. That is the other keeper's to promise, and it is a fact in its journal before it is said:
//!
//! ```text
//!  primary:  the replica takes nothing: "alone" in every statement -----------------------+
//!  other:         hears it: `barred` in the journal, durable, then in its statement       |
//!  primary:            hears that: tells the proxies of its own host "alone until T"      |
//!  primary:  the replica takes the stream again: no T any more, the last one runs out,    |
//!            INFO is read after it: "alone" is not stated any more -----------------------+
//!  other:         in sync, at or past the offset that was stated with that: the bar falls
//! ```
//! - *The primary's host dies at any point:* the bar stays until its primary is back, or a person accepts the loss.
//! - *The other daemon dies or loses its journal:* nobody is promoted who has not heard of this primary, and whoever hears of it
//!   hears "alone" with it, which bars at once.
//! - *Either stands still:* T is counted by the clock that goes on in a host's sleep, and is looked at after each reply was read.
//! - *The other daemon cannot be reached before it has promised:* there is no T, and writes are refused.
//!
//! Only proxies of the primary's own host are told T: their clock is the one by which it runs out here.

use std::time::{Duration, Instant};

use crate::ids::Epoch;
use crate::journal::JournalRole;
use crate::keeper::Keeper;
use crate::keeper::io::{Severity, Step, StepId};
use crate::keeper::phase::Phase;
use crate::rules::Ruling;
use crate::server::ServerView;
use crate::statement::{PhaseName, Statement};
use crate::topology::GoingAlone;

/// Without a replica for this long, a primary is alone.
const ABSENT_AFTER: Duration = Duration::from_millis(300);
/// One that is there shows within two seconds of its sync that the stream reaches it. To go on alone meanwhile would be to do
/// without a failover after each start.
const UNPROVEN_AFTER: Duration = Duration::from_secs(3);
/// For how long proxies may go on without being told again.
const LEASE: Duration = Duration::from_secs(2);
/// Bound on writing the promise; and one that could not be written is tried again after this.
const BAR_WITHIN: Duration = Duration::from_secs(2);
/// Readings of the server after the last T: the question for the first one may have left before it.
const READINGS: u8 = 2;
/// Two that come within less were waiting for us, and may both be from before it. INFO is read every half second.
const APART: Duration = Duration::from_millis(250);

/// Both sides of the promise.
#[derive(Debug, Default)]
pub(super) struct Alone {
    /// Of a primary: since when its replica takes nothing.
    absent: Option<Instant>,
    /// The first statement of this host that says so, without one since that does not.
    asked: Option<u64>,
    /// The proxies of this host may acknowledge alone until then.
    until: Option<Instant>,
    /// Readings since then, and when the last of them came.
    readings: u8,
    read_at: Option<Instant>,
    /// The other side: a promise on its way to the disk, and when it is tried again.
    barring: Option<(StepId, Epoch, Instant)>,
    /// The promise that is durable.
    barred: Option<Epoch>,
}

impl Alone {
    /// What an earlier daemon has promised is durable.
    pub(super) fn inherited(barred: Option<&Epoch>) -> Self {
        Self {
            barred: barred.cloned(),
            ..Self::default()
        }
    }
}

impl Keeper {
    // --- the primary ---------------------------------------------------------------------------

    /// Until when the proxies of this host may acknowledge writes that no replica has.
    pub fn alone_until(&self, now: Instant) -> Option<Instant> {
        self.alone.until.filter(|until| *until > now)
    }

    /// The same for those proxies, with the history that it is about: that of the process that was read last.
    pub(super) fn going_alone(&self, now: Instant) -> Option<GoingAlone> {
        let until = self.alone_until(now)?;
        let history = self.server()?.replid.clone();
        Some(GoingAlone { until, history })
    }

    /// Whoever hears this must not be promoted: this primary acknowledges alone, or has until a moment ago, or wants to.
    pub(super) fn states_alone(&self, now: Instant) -> bool {
        self.alone.until.is_some() || self.wants_alone(now)
    }

    fn wants_alone(&self, now: Instant) -> bool {
        let patience = if self.stream.begins() {
            UNPROVEN_AFTER
        } else {
            ABSENT_AFTER
        };
        self.settings.alone
            && matches!(self.phase, Phase::Primary { .. })
            && self
                .alone
                .absent
                .is_some_and(|since| now.saturating_duration_since(since) >= patience)
    }

    /// A statement leaves that says so, or does not: promises from before one that does not count no more.
    pub(super) fn note_stated(&mut self, alone: bool) {
        self.alone.asked = match (alone, self.alone.asked) {
            (true, Some(asked)) => Some(asked),
            (true, None) => Some(self.version),
            (false, _) => None,
        };
    }

    /// Grants, renews and withdraws; see the module.
    pub(super) fn advance_alone(&mut self, now: Instant) {
        self.learn_barred(now);
        let primary = matches!(self.phase, Phase::Primary { .. })
            && self.server_usable(now)
            && self.server().is_some_and(ServerView::is_writable);
        let absent = self.settings.alone && primary && !self.stream.flows();
        self.alone.absent = match (absent, self.alone.absent) {
            (true, Some(since)) => Some(since),
            (true, None) => Some(now),
            (false, _) => None,
        };
        // A promise from before may have ended by a statement that is still on its way.
        let asked = self.alone.asked.unwrap_or(u64::MAX);
        let promised = self.peer.statement.as_ref().is_some_and(|peer| {
            peer.barred.as_ref() == Some(&self.journal.data_epoch)
                && peer.seen_incarnation == self.settings.incarnation
                && peer.seen >= asked
                && !peer.phase.holds_primary()
                && peer.phase != PhaseName::TakingOver
        });
        if self.wants_alone(now) && promised && self.rising.is_none() {
            let renew = self.alone.until.is_none_or(|until| until < now + LEASE / 2);
            if self.alone.until.is_none() {
                let text = "acknowledges writes alone: the other side has promised that its server is not promoted";
                self.tell("+alone", Severity::Warning, None, text.to_owned());
            }
            if renew {
                self.alone.until = Some(now + LEASE);
            }
            self.forget_readings();
        } else if self.alone.until.is_some_and(|until| until < now)
            && self.alone.readings >= READINGS
        {
            self.alone.until = None;
            self.news = true;
            let text = "no write is acknowledged alone any more".to_owned();
            self.tell("-alone", Severity::Info, None, text);
            self.said.remove("+alone");
        }
    }

    /// The server was read.
    pub(super) fn note_reading(&mut self, now: Instant) {
        let apart = |at: Instant| now.saturating_duration_since(at) >= APART;
        if self.alone.until.is_some_and(|until| until < now) && self.alone.read_at.is_none_or(apart)
        {
            self.alone.readings = self.alone.readings.saturating_add(1);
            self.alone.read_at = Some(now);
        }
    }

    /// We were late ourselves: what comes next may have waited for us since before the last T.
    pub(super) fn note_late(&mut self, by: Duration) {
        if by >= APART / 2 {
            self.forget_readings();
        }
    }

    fn forget_readings(&mut self) {
        self.alone.readings = 0;
        self.alone.read_at = None;
    }

    // --- the other side ------------------------------------------------------------------------

    /// The promise as far as it is durable.
    pub(super) fn stated_bar(&self) -> Option<Epoch> {
        let durable = self.alone.barred == self.journal.barred;
        self.journal.barred.clone().filter(|_| durable)
    }

    /// The other side acknowledges alone, or wants to: from now on this server is not promoted.
    pub(super) fn hear_alone(&mut self, peer: &Statement, now: Instant) {
        if !peer.alone {
            return;
        }
        // A role that was given up for an older epoch than the primary's is no claim any more.
        let given_up = self.journal.released.as_ref().is_some_and(|released| {
            peer.phase == PhaseName::Primary && released.epoch < peer.epoch
        });
        let without_claim = match self.phase.name() {
            PhaseName::Replica | PhaseName::Rejoining => true,
            // Before its front is closed a silent server may have to go on instead.
            PhaseName::Released => given_up && self.closing_silent.is_none(),
            PhaseName::Booting | PhaseName::Waiting => match self.journal.role {
                JournalRole::None | JournalRole::Replica | JournalRole::Loser => true,
                JournalRole::Released => given_up,
                // Its server may never have stopped being primary.
                JournalRole::Promoting | JournalRole::Primary | JournalRole::Handing => false,
            },
            PhaseName::Primary
            | PhaseName::TakingOver
            | PhaseName::HandingOver
            | PhaseName::Split => false,
        };
        if !without_claim {
            return;
        }
        let own = peer.turn.as_ref().map(|turn| &turn.of);
        let epoch = own.unwrap_or(&peer.epoch).clone();
        let known = self.journal.barred.as_ref() == Some(&epoch);
        let written = self.alone.barred.as_ref() == Some(&epoch);
        let tries = self
            .alone
            .barring
            .as_ref()
            .is_some_and(|(_, tried, again)| *tried == epoch && now < *again);
        if known && (written || tries) {
            return;
        }
        self.journal.barred = Some(epoch.clone());
        let record = Box::new(self.journal.clone());
        let step = self.start_background(Step::Journal(record), BAR_WITHIN, now);
        self.alone.barring = Some((step, epoch.clone(), now + BAR_WITHIN));
        if !known {
            let text = format!(
                "{} goes on alone at epoch {epoch}: this server is not promoted before it has all of that",
                peer.host
            );
            self.tell("+barred", Severity::Warning, None, text);
        }
    }

    /// A promise counts once its record is durable; every later record has it, too.
    fn learn_barred(&mut self, now: Instant) {
        let Some((step, epoch, _)) = self.alone.barring.clone() else {
            return;
        };
        if let Some(result) = self.result(step) {
            self.alone.barring = result
                .is_err()
                .then(|| (step, epoch.clone(), now + BAR_WITHIN));
            if result.is_ok() {
                self.alone.barred = Some(epoch);
                self.news = true;
            }
        }
    }

    /// The bar falls when this server has all that was acknowledged without it.
    pub(super) fn lift_bar(&mut self, now: Instant) {
        if self.journal.barred.is_none() {
            return;
        }
        let has_all = self.live_peer(now).is_some_and(|peer| {
            let (Some(own), Some(theirs)) = (self.server(), &peer.server) else {
                return false;
            };
            peer.phase == PhaseName::Primary
                && !peer.alone
                && theirs.is_writable()
                && own.in_sync()
                && own.follows(&peer.server_address)
                && own.replid == theirs.replid
                && own.offset >= theirs.offset
        });
        if has_all {
            self.forget_bar();
            self.save(now);
            let text = "this server has all that was acknowledged without it".to_owned();
            self.tell("-barred", Severity::Info, None, text);
            self.said.remove("+barred");
        }
    }

    /// By a person's word, or because it is over.
    pub(super) fn forget_bar(&mut self) {
        self.journal.barred = None;
        self.alone.barred = None;
        self.alone.barring = None;
        self.news = true;
    }

    /// Whether this primary's proxies may go on without a replica, and why not. None: nobody wants them to.
    pub(super) fn alone_ruling(&self, now: Instant) -> Option<Ruling> {
        if self.alone_until(now).is_some() {
            let why =
                "the other host has promised that its server is not promoted before it has all";
            return Some(Ruling::yes("alone", why));
        }
        self.states_alone(now).then(|| {
            let why = "writes wait for a replica: the other host has not promised yet that its server is not promoted";
            Ruling::wait("alone", why)
        })
    }

    /// Whether the promise forbids a promotion.
    pub(super) fn bar_ruling(&self) -> Option<Ruling> {
        let epoch = self.journal.barred.as_ref()?;
        let why = format!(
            "the primary of epoch {epoch} has acknowledged writes alone, which this server may not have: start it, or tandem \
             failover --accept-loss"
        );
        Some(Ruling::no("eligible.barred", why))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::health::AnswerKind;
    use crate::ids::HostId;
    use crate::keeper::io::{Input, Outcome, Output, PeerEvent, ServerEvent};
    use crate::keeper::testing::{keeper, settings};
    use crate::testing::{primary_view, replica_view};

    const STATEMENT: &[u8] = include_bytes!("../../tests/corpus/statement/good-replica");
    const MS: Duration = Duration::from_millis(1);

    fn epoch(counter: u64, host: &str) -> Epoch {
        Epoch {
            counter,
            host: HostId::new(host),
        }
    }

    /// What host a says to host b, whose daemon is the first.
    fn said(change: impl FnOnce(&mut Statement)) -> Input {
        let mut statement = Statement {
            group: "g".to_owned(),
            host: HostId::new("a"),
            server_address: "10.0.0.1:6379".to_owned(),
            seen_incarnation: settings().incarnation,
            turn: None,
            ..Statement::decode(STATEMENT).expect("the corpus is good")
        };
        change(&mut statement);
        Input::Peer(PeerEvent::Heard(Box::new(statement)))
    }

    fn read(keeper: &mut Keeper, view: ServerView, now: Instant) -> Vec<Output> {
        keeper.handle(Input::Server(ServerEvent::Answer(AnswerKind::Fine)), now);
        keeper.handle(Input::Server(ServerEvent::View(Box::new(view))), now)
    }

    /// Host b, primary of epoch 2@b without a replica.
    fn primary(now: Instant) -> Keeper {
        let mut keeper = keeper(now);
        keeper.settings.alone = true;
        keeper.phase = Phase::Primary { since: now };
        keeper.journal.epoch = epoch(2, "b");
        keeper.journal.data_epoch = epoch(2, "b");
        keeper.journal.primary_lineage = Some(crate::ids::ReplId("lineage".to_owned()));
        read(&mut keeper, primary_view("run", "lineage", 90), now);
        keeper
    }

    #[test]
    fn it_goes_on_alone_only_with_a_promise_that_answers_its_request_and_withdraws_that_first() {
        let start = crate::testing::origin();
        let mut keeper = primary(start);
        let promise = |seen: u64| {
            said(|it| {
                it.phase = PhaseName::Replica;
                it.epoch = epoch(2, "b");
                it.barred = Some(epoch(2, "b"));
                it.seen = seen;
            })
        };
        // A promise from before it was asked for may have ended.
        keeper.handle(promise(keeper.version), start);
        assert!(!keeper.states_alone(start), "it may be a moment's absence");
        let asks = start + ABSENT_AFTER;
        let out = keeper.handle(Input::Tick, asks);
        let asked = out.iter().find_map(|out| match out {
            Output::Publish(statement) if statement.alone => Some(statement.version),
            _ => None,
        });
        let asked = asked.expect("it is asked for");
        assert_eq!(keeper.alone_until(asks), None);
        keeper.handle(promise(asked), asks);
        let told = GoingAlone {
            until: asks + LEASE,
            history: crate::ids::ReplId("lineage".to_owned()),
        };
        assert_eq!(keeper.topology(asks).alone, Some(told));
        // The replica is back: what proxies were told runs out, the server is read twice, and only then is that stated.
        let mut now = asks;
        let mut view = primary_view("run", "lineage", 95);
        for second in 0..10_u64 {
            now += 300 * MS;
            view.uptime_s = 100 + second;
            view.replicas = vec![crate::server::OnlineReplica {
                address: "10.0.0.1:6379".to_owned(),
                acked: crate::ids::Offset(90 + second),
                lag_s: 0,
            }];
            let out = read(&mut keeper, view.clone(), now);
            let over = now > asks + LEASE + 300 * MS;
            assert_eq!(keeper.states_alone(now), !over, "{second}");
            let withdrawn = |out: &Output| matches!(out, Output::Publish(it) if !it.alone);
            assert!(over || !out.iter().any(withdrawn), "{second}");
            assert!(keeper.alone_until(now).is_none() || now < asks + LEASE);
        }
    }

    /// The lab: each start of a pair cost it its failover for four seconds.
    #[test]
    fn a_replica_that_has_yet_to_show_that_the_stream_reaches_it_is_not_absent() {
        let start = crate::testing::origin();
        for (lag_s, asks_after) in [(1, UNPROVEN_AFTER), (5, ABSENT_AFTER)] {
            let mut keeper = primary(start);
            let mut view = primary_view("run", "lineage", 90);
            view.replicas = vec![crate::server::OnlineReplica {
                address: "10.0.0.1:6379".to_owned(),
                acked: crate::ids::Offset(90),
                lag_s,
            }];
            read(&mut keeper, view, start);
            for (at, asks) in [(asks_after - MS, false), (asks_after, true)] {
                let now = start + at;
                keeper.handle(Input::Server(ServerEvent::Answer(AnswerKind::Fine)), now);
                assert_eq!(keeper.states_alone(now), asks, "{lag_s} {at:?}");
            }
        }
    }

    /// What waited for a daemon that came late was read before the last T, although it comes after it.
    #[test]
    fn readings_that_waited_for_us_say_nothing() {
        let start = crate::testing::origin();
        let mut keeper = primary(start);
        keeper.alone.until = Some(start);
        let mut now = start + MS;
        keeper.handle(Input::Late(APART), now);
        let view = || primary_view("run", "lineage", 90);
        for _ in 0..5 {
            read(&mut keeper, view(), now);
            now += MS;
        }
        assert!(keeper.states_alone(now), "they came at once");
        now += APART;
        keeper.handle(Input::Late(APART), now);
        read(&mut keeper, view(), now);
        assert!(keeper.states_alone(now), "it was late again");
        now += APART;
        read(&mut keeper, view(), now);
        assert_eq!(keeper.alone.until, None);
    }

    #[test]
    fn a_promise_is_durable_before_it_is_stated_and_ends_with_all_that_was_acknowledged() {
        let start = crate::testing::origin();
        let mut keeper = keeper(start);
        keeper.phase = Phase::Replica { since: start };
        keeper.journal.role = JournalRole::Replica;
        let theirs = |alone: bool, offset: u64| {
            said(|it| {
                it.phase = PhaseName::Primary;
                it.epoch = epoch(3, "a");
                it.alone = alone;
                it.server = Some(primary_view("theirs", "lineage", offset));
            })
        };
        let out = keeper.handle(theirs(true, 50), start);
        let (id, record) = out
            .iter()
            .find_map(|out| match out {
                Output::Do {
                    id,
                    step: Step::Journal(record),
                    ..
                } => Some((*id, record.clone())),
                _ => None,
            })
            .expect("it is written");
        assert_eq!(record.barred, Some(epoch(3, "a")));
        assert_eq!(keeper.stated_bar(), None);
        assert!(keeper.bar_ruling().is_some(), "it binds at once");
        // In whatever phase.
        let names = |keeper: &Keeper| {
            let rulings = keeper.explain(start);
            let barred = rulings.iter().filter(|it| it.rule == "eligible.barred");
            barred.count()
        };
        assert_eq!(names(&keeper), 1);
        let before = std::mem::replace(&mut keeper.phase, Phase::Booting { since: start });
        assert_eq!(names(&keeper), 1);
        keeper.phase = before;
        let done = Input::Done {
            id,
            result: Ok(Outcome::Done),
        };
        keeper.handle(done, start);
        assert_eq!(keeper.stated_bar(), Some(epoch(3, "a")));
        // In sync, and what is acknowledged alone goes on; then not far enough; then it has all.
        for (alone, offset, lifted) in [(true, 80, false), (false, 90, false), (false, 80, true)] {
            keeper.handle(theirs(alone, offset), start);
            read(&mut keeper, replica_view("run", "lineage", 80), start);
            assert_eq!(keeper.stated_bar().is_none(), lifted, "{alone} {offset}");
        }
        assert_eq!(keeper.journal.barred, None);
    }

    #[test]
    fn whoever_has_a_claim_promises_nothing() {
        let start = crate::testing::origin();
        for (role, promises) in [
            (JournalRole::None, true),
            (JournalRole::Replica, true),
            (JournalRole::Primary, false),
            (JournalRole::Promoting, false),
        ] {
            let mut keeper = keeper(start);
            keeper.journal.role = role;
            let alone = said(|it| {
                it.phase = PhaseName::Primary;
                it.epoch = epoch(3, "a");
                it.alone = true;
            });
            keeper.handle(alone, start);
            assert_eq!(keeper.journal.barred.is_some(), promises, "{role:?}");
        }
    }
}
