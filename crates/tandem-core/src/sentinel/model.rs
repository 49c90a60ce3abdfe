//! What a sentinel knows: groups, their servers, the other sentinels, and the links to all of them.
//!
//! Plain data with the few questions that every part asks of it. Who may change what, and when, is in the parts.
//! Maps are ordered, so that nothing depends on the order of a hash.

use std::collections::{BTreeMap, VecDeque};
use std::net::IpAddr;
use std::time::{Duration, Instant};

use crate::sentinel::ids::{ConfigEpoch, ElectionEpoch, Endpoint, SentinelId};
use crate::sentinel::io::{ConnId, Loss};
use crate::sentinel::settings::GroupSettings;

/// A link: one command connection, and for servers a second one that hears hello messages.
///
/// A peer that watches several groups has one link for all of them, as in Redis.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct LinkId(pub u64);

/// What the reply to a command that was sent will mean.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Expect {
    /// Nothing is read from it (AUTH, CLIENT SETNAME, SCRIPT KILL).
    Nothing,
    /// PING's.
    Pong,
    /// INFO's.
    Info,
    /// PUBLISH of a hello message, for the group of this number.
    Published(GroupId),
    /// `SENTINEL is-master-down-by-addr`, for the group of this number.
    Opinion(GroupId),
    /// Whether the peer is a tandem sentinel.
    Kind,
    /// A step of a change of roles; its number finds the step.
    Step(u64),
}

/// The command connection of a link, or its hearing one.
#[derive(Clone, Debug)]
pub struct Conn {
    /// Its number.
    pub id: ConnId,
    /// Since when it is being made.
    pub since: Instant,
    /// It stands.
    pub up: bool,
    /// What the coming replies answer, oldest first.
    pub expects: VecDeque<Expect>,
}

/// See [`LinkId`].
#[derive(Clone, Debug)]
pub struct Link {
    /// Instances that use it.
    pub users: u32,
    /// Commands.
    pub command: Option<Conn>,
    /// Hello messages; servers only.
    pub pubsub: Option<Conn>,
    /// When the oldest PING without an answer was sent; starts as the time of creation, so that what was never reached
    /// times out too.
    pub ping_pending: Option<Instant>,
    /// When the newest PING was sent.
    pub last_ping: Option<Instant>,
    /// The newest reply of any kind to a PING.
    pub last_pong: Instant,
    /// The newest reply that counts as alive (`PONG`, `LOADING`, `MASTERDOWN`).
    pub last_available: Instant,
    /// The newest message or reply on the hearing connection.
    pub pubsub_activity: Instant,
    /// The newest attempt to connect.
    pub last_attempt: Option<Instant>,
    /// How the newest connection or attempt ended.
    pub last_loss: Option<Loss>,
    /// Attempts in a row that were refused: nobody listens there.
    pub refused: u32,
    /// Our own address on the command connection.
    pub local: Option<IpAddr>,
}

impl Link {
    /// Either of the connections that it should have is missing.
    #[must_use]
    pub fn disconnected(&self, needs_pubsub: bool) -> bool {
        let up = |conn: &Option<Conn>| conn.as_ref().is_some_and(|c| c.up);
        !up(&self.command) || needs_pubsub && !up(&self.pubsub)
    }

    /// Commands whose reply is outstanding.
    #[must_use]
    pub fn pending_commands(&self) -> usize {
        let expects = |conn: &Option<Conn>| conn.as_ref().map_or(0, |c| c.expects.len());
        expects(&self.command) + expects(&self.pubsub)
    }
}

/// Since when an instance is down, in the two degrees.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Down {
    /// By our own finding.
    pub subjective: Option<Instant>,
    /// By the quorum's; primaries only.
    pub objective: Option<Instant>,
}

/// The role that INFO shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReportedRole {
    /// `role:master`.
    Primary,
    /// `role:slave`.
    Replica,
}

/// What is known of any server from its INFO.
#[derive(Clone, Debug)]
pub struct Observed {
    /// The text of the newest INFO, for `SENTINEL INFO-CACHE`.
    pub info: Option<String>,
    /// When it was read.
    pub info_at: Option<Instant>,
    /// When INFO was last asked for.
    pub info_asked: Option<Instant>,
    /// `run_id`, forty digits; empty before the first INFO.
    pub run_id: String,
    /// The newest role reported.
    pub role: ReportedRole,
    /// Since when it reports that role.
    pub role_since: Instant,
    /// `master_replid`, and how far it is.
    pub lineage: Option<Lineage>,
}

/// Where a server stands in which history (sentinel.md section 10).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lineage {
    /// `master_replid`.
    pub replid: String,
    /// `master_replid2`.
    pub replid2: String,
    /// `second_repl_offset`; `None` for -1.
    pub second_offset: Option<u64>,
    /// `master_repl_offset`; on a replica what it has applied.
    pub offset: u64,
}

/// A primary.
#[derive(Clone, Debug)]
pub struct Primary {
    /// Its address as configured.
    pub at: Endpoint,
    /// The link to it.
    pub link: LinkId,
    /// What INFO says.
    pub observed: Observed,
    /// Down, in which degree.
    pub down: Down,
    /// `SCRIPT KILL` was sent.
    pub script_kill_sent: bool,
    /// It was seen to restart, then: flag `master_reboot`.
    pub rebooted: Option<Instant>,
    /// The last lineage seen of it before it restarted.
    pub before_reboot: Option<Lineage>,
}

/// How far a replica is on its way to a new primary.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reconf {
    /// Told whom to follow, then.
    Sent(Instant),
    /// It says that it follows it.
    InProgress,
    /// Its link is up.
    Done,
}

/// A replica.
#[derive(Clone, Debug)]
pub struct Replica {
    /// Its address; its name is [`Endpoint::name`].
    pub at: Endpoint,
    /// The link to it.
    pub link: LinkId,
    /// What INFO says.
    pub observed: Observed,
    /// Down, subjectively at most.
    pub down: Down,
    /// When that ended for the last time, for the standing repairs.
    pub up_since: Instant,
    /// `SCRIPT KILL` was sent.
    pub script_kill_sent: bool,
    /// Chosen for promotion.
    pub promoted: bool,
    /// On its way to the new primary.
    pub reconf: Option<Reconf>,
    /// `slave_priority`; 0 is never promoted.
    pub priority: u32,
    /// `master_host:master_port`, as it says.
    pub follows: Option<Endpoint>,
    /// Since when it follows that one.
    pub follows_since: Instant,
    /// `master_link_status:up`.
    pub link_up: bool,
    /// `master_link_down_since_seconds`; zero when up.
    pub link_down: Duration,
    /// `master_sync_in_progress:1`, or loading: it holds no whole data set.
    pub syncing: bool,
    /// `slave_repl_offset`.
    pub offset: u64,
    /// `replica_announced:0` hides it from `SENTINEL REPLICAS`.
    pub announced: bool,
}

/// What kind of sentinel a peer is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum PeerKind {
    /// Not asked yet, or no answer.
    #[default]
    Unknown,
    /// A Redis Sentinel, or one that does not know the question.
    Foreign,
    /// A tandem sentinel.
    Tandem,
}

/// Another sentinel, as one group knows it.
#[derive(Clone, Debug)]
pub struct Peer {
    /// Its id, which is its name.
    pub id: SentinelId,
    /// Where it listens.
    pub at: Endpoint,
    /// The link to it, shared by all groups that know it.
    pub link: LinkId,
    /// Down, subjectively at most.
    pub down: Down,
    /// When its newest hello for this group came.
    pub last_hello: Option<Instant>,
    /// When it was last asked for its opinion.
    pub asked_at: Option<Instant>,
    /// When it last told its opinion.
    pub opinion_at: Option<Instant>,
    /// It finds the primary down: flag `master_down`.
    pub primary_down: bool,
    /// Whom it voted for, as it said itself.
    pub vote: Option<(SentinelId, ElectionEpoch)>,
    /// Whose program it is.
    pub kind: PeerKind,
}

/// The states of a failover, numbered as Redis logs them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Stage {
    /// Waiting to be elected (`wait_start`).
    Electing,
    /// Choosing a replica (`select_slave`).
    Selecting,
    /// About to promote it (`send_slaveof_noone`).
    Promoting,
    /// Promoted, not confirmed yet (`wait_promotion`).
    Confirming,
    /// Pointing the others to it (`reconf_slaves`).
    Reconfiguring,
    /// Taking over the new address (`update_config`).
    Updating,
}

impl Stage {
    /// The word in `failover-state`.
    #[must_use]
    pub fn word(&self) -> &'static str {
        match self {
            Self::Electing => "wait_start",
            Self::Selecting => "select_slave",
            Self::Promoting => "send_slaveof_noone",
            Self::Confirming => "wait_promotion",
            Self::Reconfiguring => "reconf_slaves",
            Self::Updating => "update_config",
        }
    }
}

/// A failover of ours.
#[derive(Clone, Debug)]
pub struct Failover {
    /// The election it rests on.
    pub epoch: ElectionEpoch,
    /// How far it is.
    pub stage: Stage,
    /// Since when it is there.
    pub stage_since: Instant,
    /// An operator asked for it: no election (flag `force_failover`).
    pub forced: bool,
    /// The replica to promote.
    pub chosen: Option<Endpoint>,
}

/// Counts groups; a group keeps its number for life, whatever its name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct GroupId(pub u64);

/// A group: one primary, its replicas, and who else watches them.
#[derive(Clone, Debug)]
pub struct Group {
    /// Its number.
    pub id: GroupId,
    /// What is set.
    pub settings: GroupSettings,
    /// The configuration that names the primary.
    pub config_epoch: ConfigEpoch,
    /// The newest election we voted in, and for whom; who is not known after a restart.
    pub leader_epoch: ElectionEpoch,
    /// See `leader_epoch`.
    pub leader: Option<SentinelId>,
    /// The primary.
    pub primary: Primary,
    /// The replicas, by address.
    pub replicas: BTreeMap<Endpoint, Replica>,
    /// The other sentinels.
    pub peers: BTreeMap<SentinelId, Peer>,
    /// A failover of ours under way.
    pub failover: Option<Failover>,
    /// When the newest failover was begun, here or by somebody we voted for; no new one of ours within twice the
    /// failover time-out.
    pub failover_started: Option<Instant>,
}

impl Group {
    /// Where clients are sent: the promoted replica once it is confirmed, else the primary.
    #[must_use]
    pub fn current_address(&self) -> &Endpoint {
        let promoted = self.failover.as_ref().and_then(|f| match f.stage {
            Stage::Reconfiguring | Stage::Updating => f.chosen.as_ref(),
            Stage::Electing | Stage::Selecting | Stage::Promoting | Stage::Confirming => None,
        });
        promoted.unwrap_or(&self.primary.at)
    }

    /// Every sentinel known, ourselves included; the silent and the dead count too, as in Redis.
    #[must_use]
    pub fn voters(&self) -> usize {
        self.peers.len() + 1
    }

    /// No sentinel of this group is known to be, or may be, a foreign one.
    #[must_use]
    pub fn all_ours(&self) -> bool {
        self.peers
            .values()
            .all(|peer| peer.kind == PeerKind::Tandem)
    }
}
