//! `SENTINEL TANDEM STATUS` and `EXPLAIN`: what this sentinel believes, as JSON for `tandem sentinel status`.
//!
//! The same question to every sentinel of a fleet shows where they differ. Nothing is hidden but passwords. All times
//! are ages in milliseconds at the time of the question. Fields are only ever added.

use std::collections::BTreeMap;
use std::time::Instant;

use serde::{Deserialize, Serialize};
use tandem_resp::Value;

use crate::sentinel::commands::View;
use crate::sentinel::commands::instance::bulk;
use crate::sentinel::ids::Endpoint;
use crate::sentinel::model::{Failover, Group, LinkId, Peer, PeerKind, Replica, ReportedRole};

/// Why a group is as it is: the machine's own findings.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Reasons {
    /// Why there is no failover of ours under way; `None` when there is one.
    pub no_failover: Option<Reason>,
    /// Why these replicas are not to be promoted; the others may be.
    pub excluded: BTreeMap<Endpoint, Reason>,
}

/// One finding.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reason {
    /// A word for programs, the same for all times: `not-down`, `no-quorum`.
    pub code: String,
    /// A sentence for people, with the numbers.
    pub text: String,
}

impl Reason {
    /// A finding.
    #[must_use]
    pub fn new(code: &str, text: impl Into<String>) -> Self {
        Self {
            code: code.to_owned(),
            text: text.into(),
        }
    }
}

/// What one sentinel believes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Report {
    /// Its id.
    pub id: String,
    /// Its program's version.
    pub version: String,
    /// The newest election that it knows of.
    pub epoch: u64,
    /// For how long it has not been sure of what it sees, since it stood still.
    pub stalled_ms: Option<u64>,
    /// The groups, in order of name.
    pub groups: Vec<GroupReport>,
}

/// What it believes of one group.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct GroupReport {
    /// Its name.
    pub name: String,
    /// Where clients are sent.
    pub address: String,
    /// The primary.
    pub primary: PrimaryReport,
    /// Sentinels that must find the primary down.
    pub quorum: u32,
    /// Sentinels whose votes elect a leader.
    pub majority: u64,
    /// Sentinels known, this one included.
    pub voters: u64,
    /// The configuration that names the primary.
    pub config_epoch: u64,
    /// The newest election in which this one voted.
    pub leader_epoch: u64,
    /// Whom it voted for; not known any more after a restart.
    pub leader: Option<String>,
    /// Its replicas.
    pub replicas: Vec<ReplicaReport>,
    /// The other sentinels.
    pub peers: Vec<PeerReport>,
    /// Its own failover.
    pub failover: Option<FailoverReport>,
    /// Why there is none.
    pub no_failover: Option<Reason>,
}

/// What is known of any server or sentinel.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct InstanceReport {
    /// Its address.
    pub at: String,
    /// All connections to it stand.
    pub connected: bool,
    /// Since its last answer that counts as alive.
    pub silent_ms: Option<u64>,
    /// For how long it has been down by our own finding.
    pub s_down_ms: Option<u64>,
    /// For how long it has been down by the quorum's.
    pub o_down_ms: Option<u64>,
}

/// The primary.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PrimaryReport {
    /// What is known of any.
    #[serde(flatten)]
    pub instance: InstanceReport,
    /// The role it reports.
    pub role: String,
    /// Its history and place in it.
    pub replid: Option<String>,
    /// See `replid`.
    pub offset: Option<u64>,
    /// For how long there has been proof that its process is gone.
    pub gone_ms: Option<u64>,
    /// The data that it came back without.
    pub data_gone: Option<String>,
}

/// A replica.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReplicaReport {
    /// What is known of any.
    #[serde(flatten)]
    pub instance: InstanceReport,
    /// The role it reports.
    pub role: String,
    /// Whom it follows.
    pub follows: Option<String>,
    /// Its link to that one is up.
    pub link_up: bool,
    /// `replica-priority`.
    pub priority: u32,
    /// Its history and place in it.
    pub replid: Option<String>,
    /// See `replid`.
    pub offset: u64,
    /// Why it is not to be promoted.
    pub excluded: Option<Reason>,
}

/// Another sentinel.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PeerReport {
    /// Its id.
    pub id: String,
    /// What is known of any.
    #[serde(flatten)]
    pub instance: InstanceReport,
    /// `tandem`, `foreign` or `unknown`.
    pub kind: String,
    /// It finds the primary down.
    pub primary_down: bool,
    /// Since it last said so or otherwise.
    pub opinion_ms: Option<u64>,
    /// Since its last hello.
    pub hello_ms: Option<u64>,
    /// Whom it voted for.
    pub vote: Option<String>,
    /// In which election.
    pub vote_epoch: Option<u64>,
}

/// A failover under way.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FailoverReport {
    /// Its election.
    pub epoch: u64,
    /// How far it is, in the words of `failover-state`.
    pub stage: String,
    /// Since when it is there.
    pub stage_ms: u64,
    /// An operator asked for it.
    pub forced: bool,
    /// The replica chosen.
    pub chosen: Option<String>,
}

/// The report on these groups, as text in a bulk string.
pub(super) fn reply<'g>(view: &View<'_>, groups: impl Iterator<Item = &'g Group>) -> Value {
    let report = Report {
        id: view.id.to_string(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        epoch: view.epoch.0,
        stalled_ms: millis(view, view.tilt),
        groups: groups.map(|it| group(view, it)).collect(),
    };
    bulk(serde_json::to_vec(&report).expect("plain structs with text keys have a JSON form"))
}

fn group(view: &View<'_>, it: &Group) -> GroupReport {
    let reasons = (view.reasons)(it);
    let voters = it.voters() as u64;
    GroupReport {
        name: it.settings.name.to_string(),
        address: shown(view, it.current_address()),
        primary: PrimaryReport {
            instance: InstanceReport {
                s_down_ms: millis(view, it.primary.down.subjective),
                o_down_ms: millis(view, it.primary.down.objective),
                ..instance(view, &it.primary.at, it.primary.link, true)
            },
            role: role(it.primary.observed.role),
            replid: it
                .primary
                .observed
                .lineage
                .as_ref()
                .map(|lineage| lineage.replid.clone()),
            offset: it
                .primary
                .observed
                .lineage
                .as_ref()
                .map(|lineage| lineage.offset),
            gone_ms: millis(view, it.primary.gone),
            data_gone: it.primary.data_gone.clone(),
        },
        quorum: it.settings.quorum,
        majority: voters / 2 + 1,
        voters,
        config_epoch: it.config_epoch.0,
        leader_epoch: it.leader_epoch.0,
        leader: it.leader.as_ref().map(ToString::to_string),
        replicas: it
            .replicas
            .values()
            .map(|of| replica(view, of, &reasons))
            .collect(),
        peers: it.peers.values().map(|of| peer(view, of)).collect(),
        failover: it.failover.as_ref().map(|of| failover(view, of)),
        no_failover: reasons.no_failover,
    }
}

fn replica(view: &View<'_>, it: &Replica, reasons: &Reasons) -> ReplicaReport {
    ReplicaReport {
        instance: InstanceReport {
            s_down_ms: millis(view, it.down.subjective),
            ..instance(view, &it.at, it.link, true)
        },
        role: role(it.observed.role),
        follows: it.follows.as_ref().map(Endpoint::name),
        link_up: it.link_up,
        priority: it.priority,
        replid: it
            .observed
            .lineage
            .as_ref()
            .map(|lineage| lineage.replid.clone()),
        offset: it.offset,
        excluded: reasons.excluded.get(&it.at).cloned(),
    }
}

fn peer(view: &View<'_>, it: &Peer) -> PeerReport {
    let kind = match it.kind {
        PeerKind::Unknown => "unknown",
        PeerKind::Foreign => "foreign",
        PeerKind::Tandem => "tandem",
    };
    PeerReport {
        id: it.id.to_string(),
        instance: InstanceReport {
            s_down_ms: millis(view, it.down.subjective),
            ..instance(view, &it.at, it.link, false)
        },
        kind: kind.to_owned(),
        primary_down: it.primary_down,
        opinion_ms: millis(view, it.opinion_at),
        hello_ms: millis(view, it.last_hello),
        vote: it.vote.as_ref().map(|(id, _)| id.to_string()),
        vote_epoch: it.vote.as_ref().map(|(_, epoch)| epoch.0),
    }
}

fn failover(view: &View<'_>, it: &Failover) -> FailoverReport {
    FailoverReport {
        epoch: it.epoch.0,
        stage: it.stage.word().to_owned(),
        stage_ms: millis(view, Some(it.stage_since)).unwrap_or_default(),
        forced: it.forced,
        chosen: it.chosen.as_ref().map(|at| shown(view, at)),
    }
}

/// What the link tells; who is down is the caller's to add.
fn instance(view: &View<'_>, at: &Endpoint, link: LinkId, needs_pubsub: bool) -> InstanceReport {
    InstanceReport {
        at: shown(view, at),
        connected: !view.disconnected(link, needs_pubsub),
        silent_ms: millis(view, view.links.get(&link).map(|link| link.last_available)),
        s_down_ms: None,
        o_down_ms: None,
    }
}

fn role(role: ReportedRole) -> String {
    match role {
        ReportedRole::Primary => "primary",
        ReportedRole::Replica => "replica",
    }
    .to_owned()
}

fn shown(view: &View<'_>, at: &Endpoint) -> String {
    view.announce().endpoint(at).name()
}

fn millis(view: &View<'_>, since: Option<Instant>) -> Option<u64> {
    let age = view.now.saturating_duration_since(since?).as_millis();
    Some(u64::try_from(age).unwrap_or(u64::MAX))
}
