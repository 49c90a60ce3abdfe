//! `tandem.toml`: the settings of `tandem run`, resolved and typed.
//!
//! [`read`] turns text into [`Settings`] or into a report of everything that is wrong with it. Every key, its default and its
//! meaning stand once, in [`KEYS`]; the reader, [`reference_markdown`] and [`init_template`] are made from that table. What
//! the file alone can show to be unsafe is refused here (a pair of three, a peer without a secret, a VIP that is a host's own
//! address); what only the host can show (ports, rights, a running server's settings) is left to `tandem check`.

mod access;
mod check;
mod cluster;
mod follow;
mod kinds;
mod local;
mod proxy;
mod proxy_vip;
mod read;
mod reference;
mod replicas;
mod section;
mod table;
mod template;

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

pub use access::{Access, Account, ClientTls, ServerTls};
use serde::ser::SerializeMap as _;
use serde::{Serialize, Serializer};
use tandem_proxy::settings::{Distribution, Hash, ReadFrom, Replicas};

pub use read::read;
pub use reference::reference_markdown;
pub use table::{KEYS, Key, Presence, SECTIONS, SectionInfo};
pub(crate) use template::toml_text;
pub use template::{InitFacts, init_template};

use crate::value::{IpPrefix, Window};

/// All of a host's settings.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Settings {
    /// This host.
    pub host: Host,
    /// The other hosts. Exactly one as soon as a group is elected by VRRP.
    pub peers: Vec<Peer>,
    /// The groups that this host looks after, with distinct names.
    pub groups: Vec<Group>,
    /// The groups whose primary an existing Sentinel fleet decides.
    pub follows: Vec<Follow>,
    /// The proxies. There is at least one group of either kind, or a proxy.
    pub proxies: Vec<Proxy>,
}

impl Settings {
    /// The names of all groups: those that are led, then those that are followed.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        let led = self.groups.iter().map(|group| group.name.as_str());
        led.chain(self.follows.iter().map(|group| group.name.as_str()))
    }
}

/// `[host]`: this machine, as the others see it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Host {
    /// Name of this host, distinct among the hosts.
    pub id: String,
    /// Where the other hosts reach this one.
    pub address: IpAddr,
    /// Port for peers, the SENTINEL directory and redis-cli.
    pub port: u16,
    /// File with the secret that the hosts share. Present whenever there is a peer.
    pub secret_file: Option<PathBuf>,
    /// Folder of the journal, the archive and the control socket.
    pub state_dir: PathBuf,
    /// The address that Sentinel-aware clients are told on that port.
    pub directory: DirectoryAddress,
}

/// `directory`: where Sentinel-aware clients are sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum DirectoryAddress {
    /// To the group's VIP, which is closed before its primary steps back; to the server where there is no VIP.
    Vip,
    /// To the primary's own address.
    Servers,
}

impl Host {
    /// Where this host listens for its peers.
    pub fn socket_addr(&self) -> SocketAddr {
        SocketAddr::new(self.address, self.port)
    }
}

/// `[[peer]]`: another host that runs tandem.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Peer {
    /// Name of that host: the `id` in its own file.
    pub id: String,
    /// Where it is reached: the `address` in its own file.
    pub address: IpAddr,
    /// The port it listens on.
    pub port: u16,
}

impl Peer {
    /// Where to connect.
    pub fn socket_addr(&self) -> SocketAddr {
        SocketAddr::new(self.address, self.port)
    }
}

/// `[[group]]`: one primary with its replicas.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Group {
    /// Name of the group, the same on all its hosts (Sentinel's "master name").
    pub name: String,
    /// The group's server on this host; of two, the one that is named first.
    pub server: SocketAddr,
    /// Who starts and stops that server.
    pub manage: Manage,
    /// ACL user to log in as; none means the default user.
    pub username: Option<String>,
    /// File with the password for the servers of the group, which is also the one between them.
    pub password_file: Option<PathBuf>,
    /// A server that is silent for this long, counted from its last answer, is down.
    pub down_after: Duration,
    /// Does the host of higher priority take the group back?
    pub preempt: Preempt,
    /// May a resync that discards or reloads data start without a person?
    pub resync: Resync,
    /// If set, such a resync starts only inside this window of the day.
    pub resync_window: Option<Window>,
    /// A replica further behind than this many bytes is not promoted.
    pub max_lag_bytes: u64,
    /// How long a host that starts alone waits for its peer before it decides.
    pub boot_wait: Duration,
    /// For how long a second automatic failover is held back while the other side still shows life.
    pub flap_block: Duration,
    /// How long and how much of the archive is kept.
    pub archive: ArchiveLimits,
    /// How long a promotion waits for what the dead primary's kernel still delivers.
    pub drain_deadline: Duration,
    /// How long a planned handover may hold writes back before it is called off.
    pub switchover_deadline: Duration,
    /// Commands of the operator, by occasion.
    pub hooks: Hooks,
    /// Addresses that follow the primary.
    pub vip: Option<Vip>,
    /// Who decides which server is primary.
    pub elector: Elector,
}

impl Group {
    /// What VRRP is told, if it is the elector.
    pub fn vrrp(&self) -> Option<&Vrrp> {
        match &self.elector {
            Elector::Vrrp(vrrp) => Some(vrrp),
            Elector::Local { .. } => None,
        }
    }

    /// The other server, if it is on this host too.
    pub fn other(&self) -> Option<SocketAddr> {
        match self.elector {
            Elector::Vrrp(_) => None,
            Elector::Local { other, .. } => Some(other),
        }
    }

    /// The group's servers on this host.
    pub fn servers(&self) -> impl Iterator<Item = SocketAddr> + use<> {
        std::iter::once(self.server).chain(self.other())
    }

    /// What the keeper of `server` answers to: the group's name, or, where there are two, that and its server.
    pub fn seat_name(&self) -> String {
        match self.elector {
            Elector::Vrrp(_) => self.name.clone(),
            Elector::Local { .. } => format!("{}/{}", self.name, self.server),
        }
    }

    /// The group as the keeper of each of its servers here sees it: that server first.
    pub fn seats(&self) -> Vec<Self> {
        let mut seats = vec![self.clone()];
        if let Elector::Local { other, preferred } = self.elector {
            seats.push(Self {
                server: other,
                elector: Elector::Local {
                    other: self.server,
                    preferred: !preferred,
                },
                ..self.clone()
            });
        }
        seats
    }
}

/// Who decides which of a group's servers is primary.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase", tag = "by")]
pub enum Elector {
    /// `[group.vrrp]`: two hosts, each with a server.
    Vrrp(Vrrp),
    /// `[group.local]`: both servers are on this host, and this daemon keeps both.
    Local {
        /// The other server.
        other: SocketAddr,
        /// This one is named first: with preempt = "after-sync" it takes the group back.
        preferred: bool,
    },
}

/// `[[group]]` with `[group.sentinel]`: a group that an existing Sentinel fleet looks after, and that is followed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Follow {
    /// Name of the group on this host.
    pub name: String,
    /// The group's server on this host, as the fleet names it.
    pub server: SocketAddr,
    /// ACL user to log in as at the servers; none means the default user.
    pub username: Option<String>,
    /// File with the password for the servers of the group.
    pub password_file: Option<PathBuf>,
    /// A server that is silent for this long does not hold the address any more.
    pub down_after: Duration,
    /// Retention of what is archived before the fleet resyncs this host's server.
    pub archive: ArchiveLimits,
    /// Run after the VIP appeared on this host.
    pub on_vip: Vec<Hook>,
    /// Addresses that follow the primary.
    pub vip: Option<Vip>,
    /// The fleet.
    pub fleet: Fleet,
}

/// `[group.sentinel]`: an existing fleet.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Fleet {
    /// The group's name in the fleet (Sentinel's "master name").
    pub master: String,
    /// Its sentinels; at least one, distinct.
    pub sentinels: Vec<SocketAddr>,
    /// ACL user to log in as at the sentinels; none means the default user.
    pub username: Option<String>,
    /// File with the password for the sentinels.
    pub password_file: Option<PathBuf>,
}

/// `manage`: who starts and stops the server.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase", tag = "by")]
pub enum Manage {
    /// It runs already; something else restarts it.
    Adopt,
    /// tandem starts it, fenced, and restarts it with back-off.
    Spawn {
        /// The redis.conf to start it with.
        redis_conf: PathBuf,
        /// The server's binary.
        redis_server: PathBuf,
        /// The user to run it as; none means the daemon's own.
        run_as: Option<String>,
    },
    /// A systemd unit.
    Systemd {
        /// Name of the unit, such as `redis-server.service`.
        unit: String,
    },
}

/// `preempt`: does the preferred host take the group back?
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Preempt {
    /// The primary stays where it is until something fails or a person moves it.
    Never,
    /// The host of higher priority takes it back by a switchover, once its data is equal.
    AfterSync,
}

/// `resync`: may a full or diverged resync start by itself?
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Resync {
    /// Yes, after what differs was archived.
    Automatic,
    /// It waits for `tandem resync`.
    Ask,
}

/// Retention of the archive. What exceeds either limit is removed, oldest first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct ArchiveLimits {
    /// Age at which an archive is removed.
    pub keep: Duration,
    /// Bytes that all archives of the group may take together.
    pub max_bytes: u64,
}

/// The operator's commands, run in order, each with a deadline.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Hooks {
    /// After this host's server became primary.
    pub on_promote: Vec<Hook>,
    /// After this host's server stopped being primary.
    pub on_demote: Vec<Hook>,
    /// After the VIP appeared on this host.
    pub on_vip: Vec<Hook>,
    /// After this host became unable to hold the group.
    pub on_fault: Vec<Hook>,
}

/// One command of the operator.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Hook {
    /// Program and arguments, run without a shell. Not empty; the program is an absolute path.
    pub command: Vec<String>,
    /// When it is killed.
    pub timeout: Duration,
}

/// `[group.vip]`: addresses that follow the primary.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Vip {
    /// The addresses; at least one, distinct.
    pub addresses: Vec<IpPrefix>,
    /// The interface that carries them.
    pub interface: String,
    /// Lifetime in the kernel, in whole seconds: how long an address outlives a daemon that was killed.
    pub lifetime: Duration,
}

/// The version of VRRP on the wire.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub enum VrrpVersion {
    /// RFC 3768: IPv4, whole seconds.
    #[serde(rename = "2")]
    V2,
    /// RFC 9568: both families, centiseconds.
    #[serde(rename = "3")]
    V3,
}

/// `[group.vrrp]`: the pair's elector.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Vrrp {
    /// VRID, 1 to 255, the same on both hosts and used by nobody else on the segment.
    pub router_id: u8,
    /// 1 to 254; the higher one is preferred.
    pub priority: u8,
    /// The interface that carries the adverts.
    pub interface: String,
    /// Time between adverts: whole centiseconds in version 3, whole seconds in version 2.
    pub advert_interval: Duration,
    /// The version on the wire.
    pub version: VrrpVersion,
    /// Adverts go to the peer's address rather than to the multicast group.
    pub unicast: bool,
    /// Interfaces that must be up, besides `interface`.
    pub track_interface: Vec<String>,
    /// Extra checks of the operator.
    pub track_script: Vec<TrackScript>,
}

/// `[[group.vrrp.track_script]]`: an extra check.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct TrackScript {
    /// Program and arguments, run without a shell. Not empty; the program is an absolute path.
    pub script: Vec<String>,
    /// Time from one start to the next.
    pub interval: Duration,
    /// When a run is killed and counts as failed.
    pub timeout: Duration,
    /// Successes in a row that make it good.
    pub rise: u32,
    /// Failures in a row that make it bad.
    pub fall: u32,
    /// 0: a bad check is a fault of the host. Otherwise keepalived's arithmetic: added while good if positive, subtracted while
    /// bad if negative; -253 to 253.
    pub weight: i16,
}

/// `[[proxy]]`: an address at which clients find groups as one server.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Proxy {
    /// Names it in statistics and logs, distinct among the proxies.
    pub name: String,
    /// Where clients connect.
    pub listen: SocketAddr,
    /// With distinct names; at least one, unless it stands before a cluster.
    pub shards: Vec<Shard>,
    /// Nodes of the Redis Cluster that it stands before; none: it stands before groups.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub cluster: Vec<SocketAddr>,
    /// Hash of keys.
    #[serde(serialize_with = "hash_word")]
    pub hash: Hash,
    /// Choice of the shard.
    #[serde(serialize_with = "distribution_word")]
    pub distribution: Distribution,
    /// Two bytes around the part of a key that is hashed.
    pub hash_tag: Option<[u8; 2]>,
    /// Threads that serve clients; 0 is one for each core.
    pub threads: u16,
    /// Shared connections of each thread to each server.
    pub server_connections: u32,
    /// How long a server may take to answer; none: as long as it wants.
    pub timeout: Option<Duration>,
    /// How long a client may take nothing of a large reply, while others wait behind it.
    pub client_stall: Duration,
    /// Bytes of the longest key.
    pub max_key: u64,
    /// Requests whose answer takes so long are noted; none: none is.
    pub slowlog_slower_than: Option<Duration>,
    /// File with the password that clients must give and that the servers are given; with users of the proxy's own, only
    /// the latter.
    pub password_file: Option<PathBuf>,
    /// Who may connect, how, and as whom.
    #[serde(flatten)]
    pub access: Access,
    /// What the groups' replicas are for besides taking over.
    #[serde(flatten, serialize_with = "replica_words")]
    pub replicas: Replicas,
    /// Addresses that are where a proxy answers.
    pub vip: Option<ProxyVip>,
}

/// `[proxy.vip]` and `[proxy.vrrp]`: addresses on one of the hosts that run a proxy.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ProxyVip {
    /// The addresses.
    pub front: Vip,
    /// Which host has them. Without a `track_script`: the check is the proxy's own.
    pub vrrp: Vrrp,
    /// A host of higher priority takes them back.
    pub preempt: bool,
}

fn replica_words<S: Serializer>(replicas: &Replicas, to: S) -> Result<S::Ok, S::Error> {
    let mut words = to.serialize_map(Some(3))?;
    let ack = replicas.ack;
    words.serialize_entry("ack", &ack.map_or(0, |ack| ack.replicas))?;
    let acked = ack.is_some_and(|ack| ack.reads);
    words.serialize_entry("reads", if acked { "acked" } else { "immediate" })?;
    let read = match replicas.read {
        ReadFrom::Primary => "primary",
        ReadFrom::Replica => "replica",
    };
    words.serialize_entry("read", read)?;
    words.end()
}

fn hash_word<S: Serializer>(hash: &Hash, to: S) -> Result<S::Ok, S::Error> {
    to.serialize_str(hash.name())
}

fn distribution_word<S: Serializer>(it: &Distribution, to: S) -> Result<S::Ok, S::Error> {
    to.serialize_str(it.name())
}

/// One shard of a proxy.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Shard {
    /// What placement and statistics know it by.
    pub name: String,
    /// Who says where it is.
    pub at: ShardAt,
}

/// Who says which server is the primary of a shard.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase", tag = "by")]
pub enum ShardAt {
    /// A group of this host.
    Here,
    /// Daemons or sentinels elsewhere.
    Daemons {
        /// At least one.
        daemons: Vec<SocketAddr>,
    },
    /// Nobody: it is this server for ever.
    Server {
        /// Where.
        server: SocketAddr,
    },
    /// Nobody: it is the server behind this Unix socket for ever.
    Socket {
        /// Its path.
        socket: PathBuf,
    },
}
