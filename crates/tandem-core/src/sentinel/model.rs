//! What a sentinel knows: groups, their servers, the other sentinels, and the links to all of them.
//!
//! Plain data with the few questions that every part asks of it. Who may change what, and when, is in the parts.
//! Maps are ordered, so that nothing depends on the order of a hash.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::IpAddr;
use std::time::{Duration, Instant};

use crate::sentinel::ids::{ConfigEpoch, ElectionEpoch, Endpoint, SentinelId};
use crate::sentinel::io::{ConnId, Loss, SaveVersion};
use crate::sentinel::settings::GroupSettings;
use crate::sentinel::stranger::RefusedWord;

pub use crate::sentinel::stage::{Failover, Handover, HandoverStep, Stage};
pub use crate::sentinel::tail::Tail;

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
    /// AUTH's: an error is worth a line in the log.
    Auth,
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
    /// A command of a step of a change of roles before the deciding one; an error in it explains the step's.
    StepPart(u64),
    /// The deciding reply of a step of a change of roles; its number finds the step.
    Step(u64),
}

/// Whose a link is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Owner {
    /// A group's primary.
    Primary(GroupId),
    /// A group's replica.
    Replica(GroupId, Endpoint),
    /// Another sentinel, with the groups that know it.
    Peer(SentinelId, BTreeSet<GroupId>),
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
    /// Whose it is.
    pub owner: Owner,
    /// Where it leads.
    pub to: Endpoint,
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
    /// When the first of them was.
    pub refused_since: Option<Instant>,
    /// Attempts in a row that failed in any way, of both connections.
    pub failures: u32,
    /// Not before this is the next attempt made.
    pub retry_at: Instant,
    /// A connection stood at some time.
    pub reached: bool,
    /// When INFO was last sent.
    pub info_sent: Option<Instant>,
    /// By how much the next usual INFO comes early.
    pub info_early: Duration,
    /// When the next hello is due; servers only.
    pub hello_at: Instant,
    /// No hello may be published: the server holds writes back, and would hold back all that follows, too.
    pub hold_hello: bool,
    /// Our own address on the command connection.
    pub local: Option<IpAddr>,
}

impl Link {
    /// A link that leads nowhere yet. Silence counts from its beginning.
    #[must_use]
    pub fn new(owner: Owner, to: Endpoint, now: Instant) -> Self {
        Self {
            owner,
            to,
            users: 1,
            command: None,
            pubsub: None,
            ping_pending: Some(now),
            last_ping: None,
            last_pong: now,
            last_available: now,
            pubsub_activity: now,
            last_attempt: None,
            last_loss: None,
            refused: 0,
            refused_since: None,
            failures: 0,
            retry_at: now,
            reached: false,
            info_sent: None,
            info_early: Duration::ZERO,
            hello_at: now,
            hold_hello: false,
            local: None,
        }
    }

    /// It leads to a server, which has a hearing connection as well.
    #[must_use]
    pub fn is_server(&self) -> bool {
        !matches!(self.owner, Owner::Peer(..))
    }

    /// The command connection stands.
    #[must_use]
    pub fn is_up(&self) -> bool {
        self.command.as_ref().is_some_and(|conn| conn.up)
    }

    /// How long it has been silent: since the oldest PING without an answer, or without a connection since the last
    /// sign of life.
    #[must_use]
    pub fn silence(&self, now: Instant) -> Duration {
        self.silent_since()
            .map_or(Duration::ZERO, |since| now.saturating_duration_since(since))
    }

    /// See [`Self::silence`].
    #[must_use]
    pub fn silent_since(&self) -> Option<Instant> {
        self.ping_pending.or_else(|| {
            self.disconnected(self.is_server())
                .then_some(self.last_available)
        })
    }

    /// Either of the connections that it should have is missing.
    #[must_use]
    pub fn disconnected(&self, needs_pubsub: bool) -> bool {
        let up = |conn: &Option<Conn>| conn.as_ref().is_some_and(|c| c.up);
        !up(&self.command) || needs_pubsub && !up(&self.pubsub)
    }

    /// A peer has not answered yet what it was asked about this group's primary.
    #[must_use]
    pub fn owes_opinion(&self, group: GroupId) -> bool {
        self.command
            .as_ref()
            .is_some_and(|conn| conn.expects.contains(&Expect::Opinion(group)))
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
    /// Keys in all databases.
    pub keys: u64,
    /// It reads its data from disk.
    pub loading: bool,
    /// A sync from its primary is being received.
    pub receiving: bool,
}

impl Observed {
    /// Nothing read yet; until then it is taken for what the configuration says.
    #[must_use]
    pub fn new(role: ReportedRole, now: Instant) -> Self {
        Self {
            info: None,
            info_at: None,
            info_asked: None,
            run_id: String::new(),
            role,
            role_since: now,
            lineage: None,
            keys: 0,
            loading: false,
            receiving: false,
        }
    }
}

/// Where a server stands in which history (PSYNC2, `replication.c`).
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
    /// Since when the configuration says so here.
    pub since: Instant,
    /// The link to it.
    pub link: LinkId,
    /// What INFO says.
    pub observed: Observed,
    /// `master_host:master_port`, while it says that it is a replica.
    pub follows: Option<Endpoint>,
    /// Down, in which degree.
    pub down: Down,
    /// `SCRIPT KILL` was sent.
    pub script_kill_sent: bool,
    /// It was seen to restart, then: flag `master_reboot`.
    pub rebooted: Option<Instant>,
    /// The last lineage seen of it before it restarted.
    pub before_reboot: Option<Lineage>,
    /// Its keys then.
    pub keys_before: u64,
    /// There is proof since then that its process is gone.
    pub gone: Option<Instant>,
    /// It came back without data that its replicas hold.
    pub data_gone: Option<String>,
}

impl Primary {
    /// A primary of which nothing is known yet.
    #[must_use]
    pub fn new(at: Endpoint, link: LinkId, now: Instant) -> Self {
        Self {
            at,
            since: now,
            link,
            observed: Observed::new(ReportedRole::Primary, now),
            follows: None,
            down: Down::default(),
            script_kill_sent: false,
            rebooted: None,
            before_reboot: None,
            keys_before: 0,
            gone: None,
            data_gone: None,
        }
    }
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
    /// `master_link_down_since_seconds:-1`: it never had a link in this life of its process.
    pub never_linked: bool,
    /// When its primary last listed it, or it last answered.
    pub last_seen: Instant,
    /// It refused to be promoted, then.
    pub refused: Option<Instant>,
    /// A standing repair was last tried then.
    pub repaired_at: Option<Instant>,
    /// What became of data that only it holds.
    pub tail: Option<Tail>,
    /// The lineage and offset for which the loss was told already.
    pub told_loss: Option<(String, u64)>,
}

impl Replica {
    /// A replica of which nothing is known yet.
    #[must_use]
    pub fn new(at: Endpoint, link: LinkId, now: Instant) -> Self {
        Self {
            at,
            link,
            observed: Observed::new(ReportedRole::Replica, now),
            down: Down::default(),
            up_since: now,
            script_kill_sent: false,
            promoted: false,
            reconf: None,
            priority: 100,
            follows: None,
            follows_since: now,
            link_up: false,
            link_down: Duration::ZERO,
            syncing: false,
            offset: 0,
            announced: true,
            never_linked: false,
            last_seen: now,
            refused: None,
            repaired_at: None,
            tail: None,
            told_loss: None,
        }
    }
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
    /// When the next hello for this group is due to it.
    pub hello_at: Instant,
    /// When it last said anything, for forgetting it.
    pub last_seen: Instant,
    /// It has named one of our servers, so it is of our fleet (stranger.rs).
    pub acquainted: bool,
    /// Its word that is refused.
    pub refused_word: Option<RefusedWord>,
}

impl Peer {
    /// A sentinel of our fleet.
    #[must_use]
    pub fn new(id: SentinelId, at: Endpoint, link: LinkId, now: Instant) -> Self {
        Self {
            id,
            at,
            link,
            down: Down::default(),
            last_hello: None,
            asked_at: None,
            opinion_at: None,
            primary_down: false,
            vote: None,
            kind: PeerKind::Unknown,
            hello_at: now,
            last_seen: now,
            acquainted: true,
            refused_word: None,
        }
    }
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
    /// No new failover of ours before this.
    pub retry_at: Option<Instant>,
    /// For which such time the log was told.
    pub retry_told: Option<Instant>,
    /// Attempts in a row that came to nothing.
    pub fruitless: u32,
    /// The state that holds our newest vote.
    pub vote_saved: SaveVersion,
    /// Since when a majority of the sentinels can be reached.
    pub majority_since: Option<Instant>,
    /// When we stand for election, unless somebody else does before.
    pub stand_at: Option<Instant>,
    /// The configuration was won by ourselves.
    pub won_here: bool,
    /// The primary that our own failover replaced, until it is a replica: it is made one at once when it returns.
    pub deposed: Option<Endpoint>,
    /// The number of sentinels that found the primary down when it was last told.
    pub agreed: usize,
}

impl Group {
    /// A group of which only the primary's address is known.
    #[must_use]
    pub fn new(id: GroupId, settings: GroupSettings, primary: Primary) -> Self {
        Self {
            id,
            settings,
            config_epoch: ConfigEpoch::default(),
            leader_epoch: ElectionEpoch::default(),
            leader: None,
            primary,
            replicas: BTreeMap::new(),
            peers: BTreeMap::new(),
            failover: None,
            failover_started: None,
            retry_at: None,
            retry_told: None,
            fruitless: 0,
            vote_saved: SaveVersion::default(),
            majority_since: None,
            stand_at: None,
            won_here: false,
            deposed: None,
            agreed: 0,
        }
    }

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
