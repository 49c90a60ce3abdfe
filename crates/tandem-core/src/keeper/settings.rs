//! What the keeper is told at its start.

use std::time::Duration;

use crate::ids::HostId;

/// Who runs the server process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Manage {
    /// Somebody else; tandem adopts what runs.
    Adopt,
    /// tandem starts it, fenced, and restarts it.
    Spawn,
}

/// When this host takes its role back after it returned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Preempt {
    /// It stays a replica until something happens.
    Never,
    /// Once its data is equal, by a switchover.
    AfterSync,
}

/// What is to be done about a full resync, which loads the primary and replaces local data.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Resync {
    /// Begin at once.
    Automatic,
    /// Wait for `tandem resync`, or for the resync window.
    Ask,
}

/// The settings of one group on one host.
#[derive(Clone, Debug)]
pub struct Settings {
    /// This host.
    pub host: HostId,
    /// The other host; `None` runs a group of one.
    pub peer: Option<HostId>,
    /// The peer is another keeper of this very daemon, and its server is on this host: both stand still together, and what
    /// ends the host ends both.
    pub one_host: bool,
    /// The group.
    pub group: String,
    /// The local server, as the peer reaches it.
    pub server_address: String,
    /// The peer's server until its own statement says otherwise.
    pub peer_server_address: Option<String>,
    /// Who runs the server.
    pub manage: Manage,
    /// Fail-back.
    pub preempt: Preempt,
    /// Resync policy.
    pub resync: Resync,
    /// Some proxy of this host goes on without a replica (`when_alone = "continue"`).
    pub alone: bool,
    /// Silence of the server that counts as its failure.
    pub down_after: Duration,
    /// How long a server may refuse writes for its disk before it counts as sick.
    pub sick_grace: Duration,
    /// Silence of the other host that VRRP waits for.
    pub master_down: Duration,
    /// The advert interval, which paces statements too.
    pub advert_interval: Duration,
    /// Bytes a replica may be behind and still be promoted.
    pub max_lag: u64,
    /// How long a booting host waits for its peer.
    pub boot_wait: Duration,
    /// No second failover within this, while the other server still shows life (rule 9).
    pub flap_block: Duration,
    /// How long reading the dead primary's rest may take.
    pub drain_deadline: Duration,
    /// How long a switchover may hold writes.
    pub switchover_deadline: Duration,
    /// VRRP priority, shown to the peer.
    pub priority: u8,
    /// How long the group's VIP outlives a daemon that was killed or frozen, the same on both hosts; none: there is no VIP.
    pub vip_lifetime: Option<Duration>,
    /// Which boot of the host this is.
    pub boot_id: String,
    /// Random for each start of the daemon.
    pub incarnation: u64,
    /// Where turns are counted from ([`crate::topology::Rank`]): more than any that an earlier daemon got to while the
    /// server ran. The milliseconds since the boot are.
    pub turns_from: u64,
}
