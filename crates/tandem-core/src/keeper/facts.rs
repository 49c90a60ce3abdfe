//! What the keeper holds of others: the peer, the front, the last probe.

use std::time::{Duration, Instant};

use crate::keeper::Keeper;
use crate::keeper::io::{ProbeResult, Severity, Step, StepId};
use crate::statement::{PhaseName, Statement};

/// The peer as last heard.
#[derive(Debug, Default)]
pub(super) struct Peer {
    /// Its newest statement; promises in it bind however old it is.
    pub(super) statement: Option<Statement>,
    /// When an authenticated frame arrived last.
    pub(super) heard_at: Option<Instant>,
    /// When an advert of it was accepted last.
    pub(super) advert_at: Option<Instant>,
    /// The connection is gone.
    pub(super) lost: bool,
    /// Where its server is.
    pub(super) server_address: Option<String>,
    /// The statement was made after the last freeze of our own.
    pub(super) fresh: bool,
    /// The version of our own statement that the peer must have seen for that.
    pub(super) fresh_from: u64,
}

impl Peer {
    pub(super) fn new(server_address: Option<String>) -> Self {
        Self {
            server_address,
            ..Self::default()
        }
    }

    /// After a freeze of our own, what we hold is history, and so is what waits in the sockets:
    /// only an answer to something that we say from now on is news.
    pub(super) fn forget_freshness(&mut self, next_version: u64) {
        self.fresh = false;
        self.fresh_from = next_version;
    }
}

/// The addresses and the gate as far as the shell confirmed.
#[derive(Debug, Default)]
pub(super) struct Front {
    /// VRRP says that the addresses belong here.
    pub(super) vrrp_master: bool,
    /// VRRP gave them up at this instant.
    pub(super) given_up_at: Option<Instant>,
    /// The addresses are on.
    pub(super) vip: bool,
    /// That was confirmed since the start; a predecessor may have left them.
    pub(super) known: bool,
    /// An addition or removal under way.
    pub(super) changing: Option<(bool, StepId)>,
    /// Not again before this, after a failure.
    pub(super) retry_at: Option<Instant>,
}

/// The question to the peer's server.
#[derive(Debug, Default)]
pub(super) struct Probe {
    pub(super) op: Option<StepId>,
    pub(super) last: Option<(ProbeResult, Instant)>,
}

impl Keeper {
    /// The peer's statement while it is being heard; `None` once it has been silent for longer
    /// than VRRP would wait, or was not heard since our own freeze.
    pub(super) fn live_peer(&self, now: Instant) -> Option<&Statement> {
        let heard = self.peer.heard_at?;
        if !self.peer.fresh || now.saturating_duration_since(heard) >= self.settings.master_down {
            return None;
        }
        self.peer.statement.as_ref()
    }

    /// How long the peer has been silent on the link and by advert; from our start when it was
    /// never heard.
    pub(super) fn peer_silence(&self, now: Instant) -> Duration {
        let last = self
            .peer
            .heard_at
            .max(self.peer.advert_at)
            .unwrap_or(self.started);
        now.saturating_duration_since(last.max(self.started))
    }

    pub(super) fn peer_heard(&mut self, statement: Statement, now: Instant) {
        if Some(&statement.host) != self.settings.peer.as_ref()
            || statement.group != self.settings.group
        {
            self.tell(
                "peer-foreign",
                Severity::Alarm,
                None,
                format!(
                    "a statement of host {} for group {} does not belong to this group",
                    statement.host, statement.group
                ),
            );
            return;
        }
        if let Some(old) = &self.peer.statement
            && old.incarnation == statement.incarnation
            && old.version > statement.version
        {
            // A frame that was overtaken.
            return;
        }
        self.peer.heard_at = Some(now);
        self.peer.lost = false;
        self.peer.fresh |= statement.seen >= self.peer.fresh_from;
        self.peer.server_address = Some(statement.server_address.clone());
        if statement.phase == PhaseName::Primary || statement.phase == PhaseName::HandingOver {
            self.learn_primary(&statement);
        }
        if statement.epoch > self.journal.epoch && statement.phase == PhaseName::Primary {
            self.journal.epoch = statement.epoch.clone();
        }
        self.hear_alone(&statement, now);
        self.peer.statement = Some(statement);
    }

    /// Silence that is longer than any that the advert interval explains.
    fn quiet_after(&self) -> Duration {
        self.settings.advert_interval * 3 / 2
    }

    /// When the peer will have been quiet for long enough to ask its server.
    pub(super) fn quiet_at(&self) -> Option<Instant> {
        let last = self.peer.heard_at.max(self.peer.advert_at)?;
        Some(last + self.quiet_after())
    }

    /// Asks the peer's server directly while the peer is silent, so that the answer is there when
    /// it is needed (rule 2).
    pub(super) fn probe_if_silent(&mut self, now: Instant) {
        if let Some(id) = self.probe.op {
            match self.result(id) {
                None => return,
                Some(result) => {
                    self.probe.op = None;
                    let found = match result {
                        Ok(crate::keeper::io::Outcome::Probed(found)) => found,
                        Ok(_) | Err(_) => ProbeResult::Silent,
                    };
                    self.probe.last = Some((found, now));
                }
            }
        }
        if self.peer_silence(now) < self.quiet_after() {
            self.probe.last = None;
            return;
        }
        let stale = match &self.probe.last {
            None => true,
            Some((_, at)) => now.saturating_duration_since(*at) >= self.settings.master_down / 2,
        };
        if stale && self.peer.server_address.is_some() {
            let within = self.settings.master_down / 3;
            self.probe.op = Some(self.start(Step::Probe, within, now));
        }
    }

    /// The probe's result if it was made during the present silence and is not old.
    pub(super) fn probed(&self, now: Instant) -> Option<(&ProbeResult, Duration)> {
        let (found, at) = self.probe.last.as_ref()?;
        let age = now.saturating_duration_since(*at);
        (age < self.settings.master_down.max(Duration::from_millis(500))).then_some((found, age))
    }
}
