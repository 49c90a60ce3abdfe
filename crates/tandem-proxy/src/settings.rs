//! A pool of servers and how it is served: everything that `nutcracker.yml` or a `[[proxy]]` block can say.
//!
//! Readers of files fill these in; nothing here is checked twice. Each default has its one home here, with where it
//! comes from.

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use crate::tls::{Acceptor, Connector};
use crate::users::User;

/// How a key becomes a number, named as twemproxy names it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Hash {
    /// Jenkins' one-at-a-time.
    OneAtATime,
    /// The first four bytes of MD5.
    Md5,
    /// CRC-16 in a register that is never masked.
    Crc16,
    /// Fifteen bits of CRC-32.
    Crc32,
    /// CRC-32 as zlib has it.
    Crc32a,
    /// FNV-1, the low half of 64 bits.
    Fnv1_64,
    /// twemproxy's default: 32 bits of state under a 64-bit name.
    #[default]
    Fnv1a64,
    /// FNV-1 of 32 bits.
    Fnv1_32,
    /// FNV-1a of 32 bits.
    Fnv1a32,
    /// Hsieh's SuperFastHash.
    Hsieh,
    /// MurmurHash2, seeded by the length.
    Murmur,
    /// Jenkins' lookup3.
    Jenkins,
    /// XXH3 of 64 bits: for new pools only, with [`Distribution::Rendezvous`].
    Xxh3,
}

impl Hash {
    /// All of them.
    pub const ALL: [Self; 13] = [
        Self::OneAtATime,
        Self::Md5,
        Self::Crc16,
        Self::Crc32,
        Self::Crc32a,
        Self::Fnv1_64,
        Self::Fnv1a64,
        Self::Fnv1_32,
        Self::Fnv1a32,
        Self::Hsieh,
        Self::Murmur,
        Self::Jenkins,
        Self::Xxh3,
    ];

    /// The word for it in files.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::OneAtATime => "one_at_a_time",
            Self::Md5 => "md5",
            Self::Crc16 => "crc16",
            Self::Crc32 => "crc32",
            Self::Crc32a => "crc32a",
            Self::Fnv1_64 => "fnv1_64",
            Self::Fnv1a64 => "fnv1a_64",
            Self::Fnv1_32 => "fnv1_32",
            Self::Fnv1a32 => "fnv1a_32",
            Self::Hsieh => "hsieh",
            Self::Murmur => "murmur",
            Self::Jenkins => "jenkins",
            Self::Xxh3 => "xxh3",
        }
    }
}

/// How the number chooses a server.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Distribution {
    /// A ring of MD5 points, as libketama.
    #[default]
    Ketama,
    /// Remainder by the number of servers, weights as repetitions.
    Modula,
    /// Any server, for each key anew.
    Random,
    /// Highest random weight: for new pools, moves the fewest keys when servers come and go.
    Rendezvous,
    /// As the nodes of a Redis Cluster say; no file chooses it by name.
    Slots,
}

impl Distribution {
    /// Those that files may choose.
    pub const ALL: [Self; 4] = [Self::Ketama, Self::Modula, Self::Random, Self::Rendezvous];

    /// The word for it in files.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Ketama => "ketama",
            Self::Modula => "modula",
            Self::Random => "random",
            Self::Rendezvous => "rendezvous",
            Self::Slots => "slots",
        }
    }
}

/// Where a socket is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Address {
    /// A name or literal address, resolved when a connection is made, and a port.
    Tcp {
        /// As written.
        host: String,
        /// 1 to 65535.
        port: u16,
    },
    /// A Unix socket.
    Unix {
        /// Its path.
        path: PathBuf,
        /// Permission bits to set on a listening socket; as the umask leaves it without.
        mode: Option<u32>,
    },
}

/// One server of a pool.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Server {
    /// What placement, sorting and statistics know it by.
    pub name: String,
    /// Where it is.
    pub address: Address,
    /// At least 1.
    pub weight: u32,
}

/// When a server that fails is left out of the placement, as twemproxy's `auto_eject_hosts`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ejection {
    /// Closed connections in a row before it is left out.
    pub failure_limit: u32,
    /// How long, until live traffic tries it again.
    pub retry_after: Duration,
}

/// How strictly a pool behaves as twemproxy does where that differs from what its users would want.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Compat {
    /// A pool of `nutcracker.yml`: commands over several keys that twemproxy does not split go by their first key.
    Twemproxy,
    /// A pool of `tandem.toml`: keys on different shards are an error that says so.
    #[default]
    Strict,
}

/// Whose names and passwords clients give.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Users {
    /// The servers': what AUTH gives is checked by a server, and its ACL says what may be done. [`Pool::password`] is the
    /// default user's.
    #[default]
    Server,
    /// Nobody's: there is one password for all, as in twemproxy.
    Password,
    /// The proxy's own, each with its rights; to the servers they are all one user.
    Own(Vec<Account>),
}

/// A user of the proxy's own.
#[derive(Clone, PartialEq, Eq)]
pub struct Account {
    /// Its name and what it may do.
    pub user: User,
    /// None: any will do, and if its name is `default`, clients are this one from the beginning.
    pub password: Option<String>,
}

impl fmt::Debug for Account {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.user.fmt(out)
    }
}

/// Who may connect to a pool, and as whom.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Access {
    /// See there.
    pub users: Users,
    /// Clients speak TLS, and nothing else; not over a Unix socket.
    pub tls: Option<Acceptor>,
    /// Servers are spoken to over TLS; not over a Unix socket.
    pub server_tls: Option<Connector>,
    /// Whose password [`Pool::password`] is at the servers; none: the default user's.
    pub server_user: Option<String>,
    /// Where clients connect as well.
    pub socket: Option<Address>,
    /// How long a client may neither ask nor get anything; none: as long as it wants.
    pub client_timeout: Option<Duration>,
}

impl Access {
    /// As twemproxy: one password for all, or none.
    #[must_use]
    pub fn by_password() -> Self {
        Self {
            users: Users::Password,
            ..Self::default()
        }
    }
}

/// What the replicas of a pool's groups are for, besides taking over.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Replicas {
    /// None: a reply is passed on as soon as the primary gives it.
    pub ack: Option<Ack>,
    /// Which servers reads go to.
    pub read: ReadFrom,
}

/// A reply to a write is passed on only when replicas have the write.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ack {
    /// How many replicas that could be promoted; at least 1.
    pub replicas: u32,
    /// Replies to reads wait too, until what they may have seen is on the replicas.
    pub reads: bool,
    /// Without enough replicas it goes on where that is safe ([`Group::alone`](crate::topology::Group::alone)).
    pub alone: bool,
}

/// Where reads go.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum ReadFrom {
    /// To the primary, as everything.
    #[default]
    Primary,
    /// To a replica of the client's own, once that has the client's last write.
    Replica,
}

/// One pool: an address that clients know, and the servers behind it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pool {
    /// Names it in statistics and logs.
    pub name: String,
    /// Where clients connect.
    pub listen: Address,
    /// In the order of placement: by name, shorter names first (twemproxy's `string_compare`).
    pub servers: Vec<Server>,
    /// Hash of keys.
    pub hash: Hash,
    /// Choice of the server.
    pub distribution: Distribution,
    /// Two bytes around the part of a key that is hashed.
    pub hash_tag: Option<[u8; 2]>,
    /// Bound of one request from its entry into a server's queue to its reply; none waits for ever.
    pub timeout: Option<Duration>,
    /// Queue of `listen(2)`.
    pub backlog: u32,
    /// Asked of clients and given to servers.
    pub password: Option<String>,
    /// The database selected on each connection to a server.
    pub database: u32,
    /// SO_KEEPALIVE on client connections.
    pub keepalive: bool,
    /// Connect at the start instead of at the first request.
    pub preconnect: bool,
    /// Connections to each server, over all threads.
    pub server_connections: u32,
    /// None: a server that fails stays in the placement and its requests get errors.
    pub ejection: Option<Ejection>,
    /// See there.
    pub compat: Compat,
    /// Who may connect, and as whom.
    pub access: Access,
    /// What one client may cost.
    pub bounds: Bounds,
    /// See there.
    pub replicas: Replicas,
}

/// What one client may cost the others, and what is noted of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bounds {
    /// The longest key, in bytes.
    pub key: usize,
    /// How long a client may take nothing of a reply that others wait behind; then it is cut off.
    pub client_stall: Duration,
    /// Requests that take so long are noted in the slow log; none: there is no such log.
    pub slowlog_slower_than: Option<Duration>,
}

impl Default for Bounds {
    fn default() -> Self {
        Self {
            key: 64 * 1024,
            client_stall: Duration::from_secs(2),
            slowlog_slower_than: Some(Duration::from_millis(10)),
        }
    }
}

impl Pool {
    /// A pool of which nothing is said but where it is and what is behind it: it places as twemproxy does, has one
    /// connection to each server, and waits without a bound of its own.
    #[must_use]
    pub fn new(name: String, listen: Address, servers: Vec<Server>) -> Self {
        Self {
            name,
            listen,
            servers,
            hash: Hash::default(),
            distribution: Distribution::default(),
            hash_tag: None,
            timeout: None,
            backlog: Self::BACKLOG,
            password: None,
            database: 0,
            keepalive: true,
            preconnect: false,
            server_connections: 1,
            ejection: None,
            compat: Compat::Strict,
            access: Access::default(),
            bounds: Bounds::default(),
            replicas: Replicas::default(),
        }
    }

    /// Every address that clients connect to.
    pub fn addresses(&self) -> impl Iterator<Item = &Address> {
        std::iter::once(&self.listen).chain(&self.access.socket)
    }

    /// nutcracker's default of `backlog`.
    pub const BACKLOG: u32 = 512;
    /// nutcracker's default of `server_retry_timeout`.
    pub const RETRY_AFTER: Duration = Duration::from_secs(30);
    /// nutcracker's default of `server_failure_limit`.
    pub const FAILURE_LIMIT: u32 = 2;
}
