//! What the port is told once, at start: addresses, limits, secrets, and how the process introduces itself.

use std::path::PathBuf;
use std::time::Duration;

use tandem_core::sentinel::settings::Compat;
use tandem_resp::Limits;

use crate::tls;

/// Where and how to serve. The words and defaults are those of redis.conf.
#[derive(Clone, Debug)]
pub(crate) struct Settings {
    /// `bind`: addresses; `*` and `::*` stand for all of IPv4 and IPv6, and a `-` before one allows that it is missing.
    pub(crate) bind: Vec<String>,
    /// `port`; `None` where the file says 0. Zero lets the kernel choose.
    pub(crate) port: Option<u16>,
    /// `tls-port`, likewise.
    pub(crate) tls_port: Option<u16>,
    /// Certificates and `tls-auth-clients`; needed with `tls_port`.
    pub(crate) tls: Option<tls::ServerFiles>,
    /// `unixsocket`.
    pub(crate) unix_socket: Option<PathBuf>,
    /// `unixsocketperm`, as the number that its octal digits are.
    pub(crate) unix_socket_mode: Option<u32>,
    /// `tcp-backlog`.
    pub(crate) backlog: u32,
    /// `maxclients`.
    pub(crate) max_clients: usize,
    /// `timeout`: a client that is silent for longer is disconnected, unless it listens to a channel. Zero for never.
    pub(crate) idle_after: Duration,
    /// `tcp-keepalive`; zero for none.
    pub(crate) keepalive: Duration,
    /// `protected-mode`: strangers from other hosts are turned away while there is no password. Off in a sentinel by default.
    pub(crate) protected: bool,
    /// `requirepass`.
    pub(crate) requirepass: Option<String>,
    /// The `user` lines of the configuration, each beginning with the word `user`.
    pub(crate) users: Vec<String>,
    /// `aclfile`; the users are in it then, and `users` is empty.
    pub(crate) acl_file: Option<PathBuf>,
    /// `acllog-max-len`.
    pub(crate) acl_log_max: usize,
    /// `acl-pubsub-default allchannels`.
    pub(crate) acl_all_channels: bool,
    /// What one request of a client that may do anything may hold. Whoever still has to authenticate is held shorter.
    pub(crate) request: Limits,
    /// How the process introduces itself.
    pub(crate) identity: Identity,
}

/// What an authenticated client of a sentinel may send in one request. Redis allows 512 MiB; a sentinel's longest
/// command is a line of ACL rules.
const REQUEST: Limits = Limits {
    max_bulk: 1024 * 1024,
    max_depth: 1,
    max_elements: 64 * 1024,
    max_inline: 64 * 1024,
    max_frame: 4 * 1024 * 1024,
};

/// What `HELLO` and `INFO server` say of the process.
#[derive(Clone, Debug)]
pub(crate) struct Identity {
    /// The Redis version that is spoken here.
    pub(crate) redis_version: String,
    /// Whose ways are kept where versions differ.
    pub(crate) compat: Compat,
    /// 40 hexadecimal digits, new with each start and not the sentinel's id.
    pub(crate) run_id: String,
    /// The program's path.
    pub(crate) executable: String,
    /// The configuration file's path.
    pub(crate) config_file: String,
    /// The port that INFO tells: `port`, or `tls-port` where that is 0.
    pub(crate) port: u16,
    /// `maxclients`, as INFO tells it.
    pub(crate) max_clients: usize,
}

impl Default for Settings {
    /// A sentinel's defaults: every address, port 26379, no password, no TLS.
    fn default() -> Self {
        Self {
            bind: vec!["*".to_owned(), "-::*".to_owned()],
            port: Some(26379),
            tls_port: None,
            tls: None,
            unix_socket: None,
            unix_socket_mode: None,
            backlog: 511,
            max_clients: 10_000,
            idle_after: Duration::ZERO,
            keepalive: Duration::from_secs(300),
            protected: false,
            requirepass: None,
            users: Vec::new(),
            acl_file: None,
            acl_log_max: 128,
            acl_all_channels: false,
            request: REQUEST,
            identity: Identity {
                redis_version: "7.0.15".to_owned(),
                compat: Compat::V7_0,
                run_id: "0".repeat(40),
                executable: String::new(),
                config_file: String::new(),
                port: 26379,
                max_clients: 10_000,
            },
        }
    }
}
