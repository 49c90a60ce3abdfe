//! What a person may see of the keeper: status, the promise line, the rules as they stand.

use std::time::{Duration, Instant};

use serde::Serialize;

use crate::health::Health;
use crate::ids::Epoch;
use crate::keeper::Keeper;
use crate::keeper::phase::Phase;
use crate::rules::Ruling;
use crate::server::ServerView;
use crate::statement::{PhaseName, ReleaseKind};

/// One host's row.
#[derive(Clone, Debug, Serialize)]
pub struct HostRow {
    /// Its id.
    pub host: String,
    /// Where its server listens.
    pub address: String,
    /// Its phase in a word.
    pub phase: &'static str,
    /// What its server is like.
    pub health: String,
    /// Its server as last read.
    pub server: Option<ServerView>,
    /// Its data could be promoted now.
    pub eligible: bool,
    /// Why not, or why it waits.
    pub reason: Option<String>,
    /// It carries the VIP.
    pub vip: bool,
    /// How long ago it was heard, milliseconds; `None` for this host.
    pub seen_ms: Option<u64>,
    /// Bytes behind the primary; `None` where that cannot be said.
    pub behind: Option<u64>,
}

/// Everything `tandem status` prints about a group.
#[derive(Clone, Debug, Serialize)]
pub struct GroupStatus {
    /// The group.
    pub group: String,
    /// The epoch.
    pub epoch: Epoch,
    /// This host's part: `primary`, `replica`, or the phase it is in between.
    pub role: &'static str,
    /// This host is where it should be, and the other one could take its place or is the primary.
    pub ready: bool,
    /// The VIP is here.
    pub vip_here: bool,
    /// The addresses that it consists of; whoever carries the status adds them.
    pub addresses: Vec<String>,
    /// Automatic failover is paused on either side.
    pub paused: bool,
    /// This host's row, then the peer's.
    pub hosts: Vec<HostRow>,
    /// What happens if this host dies now.
    pub if_primary_dies: String,
    /// What happens if the other one dies now.
    pub if_replica_dies: String,
    /// Whether the group could fail over now, in a word or two.
    pub promise: String,
    /// Anything that needs a person.
    pub alarms: Vec<String>,
    /// The newest change of phase, and how many milliseconds ago.
    pub last_change: Option<(String, u64)>,
}

/// Why a replica in sync is not protection yet.
const NOT_STREAMING: &str = "the primary is not known to stream to its replica yet (after a sync Redis waits for an \
     acknowledgement, up to two seconds)";

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

impl Keeper {
    /// The status as of now.
    pub fn status(&self, now: Instant) -> GroupStatus {
        let own = self.own_row(now);
        let peer = self.peer_row(now);
        let (promise, primary_dies, replica_dies) = self.promises(now);
        let phase = self.phase.name();
        let ready = match phase {
            PhaseName::Primary => {
                self.settings.peer.is_none()
                    || self.streaming(now)
                        && self.live_peer(now).is_some_and(|p| {
                            p.phase == PhaseName::Replica && p.eligible && p.healthy
                        })
            }
            PhaseName::Replica => {
                own.eligible
                    && self.streaming(now)
                    && self
                        .live_peer(now)
                        .is_some_and(|p| p.phase == PhaseName::Primary)
            }
            PhaseName::Booting
            | PhaseName::Waiting
            | PhaseName::TakingOver
            | PhaseName::HandingOver
            | PhaseName::Released
            | PhaseName::Split
            | PhaseName::Rejoining => false,
        };
        let peer_paused = self.peer.statement.as_ref().is_some_and(|p| p.paused);
        let mut hosts = vec![own];
        hosts.extend(peer);
        GroupStatus {
            group: self.settings.group.clone(),
            epoch: self.journal.epoch.clone(),
            role: phase.word(),
            ready,
            vip_here: self.front.vip,
            addresses: Vec::new(),
            paused: self.journal.paused || peer_paused,
            hosts,
            if_primary_dies: primary_dies,
            if_replica_dies: replica_dies,
            promise,
            alarms: self.alarms(now),
            last_change: self
                .last_change
                .as_ref()
                .map(|(word, at)| (word.clone(), millis(now.saturating_duration_since(*at)))),
        }
    }

    fn own_row(&self, now: Instant) -> HostRow {
        let health = match self.health(now) {
            Health::Unknown => "unknown".to_owned(),
            Health::Fine => "up".to_owned(),
            Health::Loading => "loading".to_owned(),
            Health::Busy => "busy with a script".to_owned(),
            Health::Sick => "refuses writes (disk)".to_owned(),
            Health::Unmanageable => "refuses our credentials".to_owned(),
            Health::Silent(age) => format!("silent for {} ms", age.as_millis()),
            Health::Dead(proof) => format!("dead: {}", proof.words()),
        };
        let behind = match self.phase {
            Phase::Replica { .. } => self.last_primary.as_ref().and_then(|last| {
                self.server()
                    .filter(|view| view.replid == last.replid)
                    .map(|view| last.offset.ahead_of(view.offset))
            }),
            Phase::Booting { .. }
            | Phase::Waiting { .. }
            | Phase::Primary { .. }
            | Phase::TakingOver(_)
            | Phase::HandingOver(_)
            | Phase::Released { .. }
            | Phase::Split(_)
            | Phase::Rejoining(_) => None,
        };
        let is_replica = matches!(self.phase, Phase::Replica { .. });
        HostRow {
            host: self.settings.host.to_string(),
            address: self.settings.server_address.clone(),
            phase: self.phase.name().word(),
            health,
            server: self.server().cloned(),
            eligible: is_replica && self.is_eligible(),
            reason: self.reason(),
            vip: self.front.vip,
            seen_ms: None,
            behind,
        }
    }

    fn peer_row(&self, now: Instant) -> Option<HostRow> {
        let host = self.settings.peer.as_ref()?;
        let seen = self
            .peer
            .heard_at
            .map(|at| millis(now.saturating_duration_since(at)));
        let live = self.live_peer(now).is_some();
        let Some(peer) = &self.peer.statement else {
            return Some(HostRow {
                host: host.to_string(),
                address: self.peer.server_address.clone().unwrap_or_default(),
                phase: "unknown",
                health: "never heard".to_owned(),
                server: None,
                eligible: false,
                reason: None,
                vip: false,
                seen_ms: None,
                behind: None,
            });
        };
        let behind = match (&peer.server, self.server(), &self.phase) {
            // What one that is silent has read since cannot be known.
            (Some(theirs), Some(own), Phase::Primary { .. })
                if live && theirs.replid == own.replid =>
            {
                Some(own.offset.ahead_of(theirs.offset))
            }
            _ => None,
        };
        Some(HostRow {
            host: peer.host.to_string(),
            address: peer.server_address.clone(),
            phase: if live { peer.phase.word() } else { "silent" },
            health: match (live, peer.healthy) {
                (false, _) => "not known now".to_owned(),
                (true, true) => "up".to_owned(),
                (true, false) => "not healthy".to_owned(),
            },
            server: peer.server.clone(),
            eligible: live && peer.eligible,
            reason: peer.reason.clone().filter(|_| live),
            vip: live && peer.vip,
            seen_ms: seen,
            behind,
        })
    }

    /// The primary's stream reaches its replica: what is written now is on both in a moment.
    fn streaming(&self, now: Instant) -> bool {
        match self.phase.name() {
            PhaseName::Primary => self.stream.flows(),
            PhaseName::Booting
            | PhaseName::Waiting
            | PhaseName::Replica
            | PhaseName::TakingOver
            | PhaseName::HandingOver
            | PhaseName::Released
            | PhaseName::Split
            | PhaseName::Rejoining => self.live_peer(now).is_some_and(|peer| peer.streaming),
        }
    }

    /// The promise that holds now, and what each death would mean (design, section 3).
    fn promises(&self, now: Instant) -> (String, String, String) {
        let replica_ready = match self.phase.name() {
            PhaseName::Primary => self
                .peer_could_take_over(now)
                .map_err(|(rule, why)| format!("{why} ({rule})")),
            PhaseName::Replica => {
                let primary_heard = self
                    .live_peer(now)
                    .is_some_and(|p| p.phase == PhaseName::Primary);
                match self.ineligible_reason() {
                    Some(why) if primary_heard => Err(why),
                    None if primary_heard => Ok(()),
                    Some(_) | None => Err("the primary's daemon is not heard".to_owned()),
                }
            }
            PhaseName::Booting
            | PhaseName::Waiting
            | PhaseName::TakingOver
            | PhaseName::HandingOver
            | PhaseName::Released
            | PhaseName::Split
            | PhaseName::Rejoining => Err(format!("this host is {}", self.phase.name().word())),
        };
        let silent_ms = self.settings.master_down.as_millis();
        match replica_ready {
            Ok(()) if self.journal.paused => (
                "PAUSED (failover ready, but an operator paused it)".to_owned(),
                "nothing happens by itself: failover is paused".to_owned(),
                "nothing changes for clients".to_owned(),
            ),
            Ok(()) if !self.streaming(now) => (
                format!("NOT PROTECTED: {NOT_STREAMING}"),
                "the replica takes over; lost is what was acknowledged and not sent to it yet"
                    .to_owned(),
                "nothing changes for clients".to_owned(),
            ),
            Ok(()) if self.settings.one_host => (
                "PROTECTED against the death of a server (failover ready; both are on this host and end with it)"
                    .to_owned(),
                "the replica takes over in milliseconds; lost is what was acknowledged but still in flight".to_owned(),
                "nothing changes for clients".to_owned(),
            ),
            Ok(()) => (
                "PROTECTED (failover ready; a cut link may leave both writing until it heals)"
                    .to_owned(),
                format!(
                    "the replica takes over, in milliseconds if it is the server, in about {silent_ms} ms \
                     if it is the host; lost is what was acknowledged and still in flight"
                ),
                "nothing changes for clients".to_owned(),
            ),
            Err(why) => (
                format!("NOT PROTECTED: {why}"),
                "the group is down until it comes back, or tandem failover --accept-loss"
                    .to_owned(),
                "nothing changes for clients".to_owned(),
            ),
        }
    }

    fn alarms(&self, now: Instant) -> Vec<String> {
        let mut out = Vec::new();
        if let Phase::Waiting { rule, why, .. } = &self.phase
            && self.waits_too_long(rule, now)
        {
            out.push(format!("{rule}: {why}"));
        }
        if let Phase::Split(_) = &self.phase {
            out.push("both hosts are primary; the verdict is being found".to_owned());
        }
        if let Some(released) = &self.journal.released
            && released.kind == ReleaseKind::FrontClosed
        {
            out.push(
                "front closed, server unfenced: clients on direct addresses are not covered"
                    .to_owned(),
            );
        }
        if self.alone_until(now).is_some() {
            out.push(
                "writes are acknowledged by this host's server alone; the other one is not promoted before it has them"
                    .to_owned(),
            );
        }
        if let Some(ruling) = self.bar_ruling() {
            out.push(format!("{}: {}", ruling.rule, ruling.evidence));
        }
        if matches!(self.health(now), Health::Unmanageable) {
            out.push("the local server refuses the configured user or password".to_owned());
        }
        if let Some((text, at)) = &self.vrrp_stranger
            && now.saturating_duration_since(*at).as_secs() < 60
        {
            out.push(text.clone());
        }
        out.extend(self.duplicate_alarm(now));
        out
    }

    /// The rules as they stand now, for `tandem explain`: why there was or was no failover.
    pub fn explain(&self, now: Instant) -> Vec<Ruling> {
        let mut out = Vec::new();
        let name = self.phase.name();
        out.push(match (&self.phase, self.reason()) {
            (Phase::Waiting { rule, why, .. }, _) => Ruling::wait(rule, why.clone()),
            (_, Some(why)) => Ruling::wait("phase", format!("{}: {why}", name.word())),
            (_, None) => Ruling::yes(
                "phase",
                format!("{} at epoch {}", name.word(), self.journal.epoch),
            ),
        });
        let health = self.health(now);
        let answer = self.detector.answer_age(now).unwrap_or_default();
        let says = match health {
            Health::Fine | Health::Busy => Ruling::yes("server", self.own_row(now).health),
            Health::Loading | Health::Unknown => Ruling::wait("server", self.own_row(now).health),
            Health::Sick | Health::Unmanageable | Health::Silent(_) | Health::Dead(_) => {
                Ruling::no("server", self.own_row(now).health)
            }
        };
        out.push(says.aged(answer));
        match name {
            PhaseName::Primary => match self.peer_could_take_over(now) {
                Ok(()) => {
                    out.push(Ruling::yes("peer", "the other host could take over"));
                    out.push(if self.streaming(now) {
                        Ruling::yes("stream", "what is written reaches the other host")
                    } else {
                        Ruling::wait("stream", NOT_STREAMING)
                    });
                }
                Err((rule, why)) => {
                    out.push(Ruling::no("peer", format!("{rule}: {why}")));
                    out.extend(self.alone_ruling(now));
                }
            },
            PhaseName::Replica | PhaseName::Rejoining | PhaseName::Released => {
                out.extend(self.silence_rulings(now).1);
                out.extend(self.eligibility());
            }
            PhaseName::Booting
            | PhaseName::Waiting
            | PhaseName::TakingOver
            | PhaseName::HandingOver
            | PhaseName::Split => out.extend(self.rulings.clone()),
        }
        // Whatever else is waited for first.
        if !out.iter().any(|ruling| ruling.rule == "eligible.barred") {
            out.extend(self.bar_ruling());
        }
        out.extend(self.duplicate_ruling(now));
        out
    }
}
