//! What a `sentinel.conf` says, as values.
//!
//! Everything a directive can change is here with the default that redis-sentinel has without the line. The order of groups,
//! replicas, sentinels, users and renamed commands carries no meaning.

use std::fmt;

/// The port of a sentinel that names none.
pub const DEFAULT_PORT: u16 = 26379;
/// `down-after-milliseconds` of a group that names none.
pub const DEFAULT_DOWN_AFTER_MS: u64 = 30_000;
/// `failover-timeout` of a group that names none, in milliseconds.
pub const DEFAULT_FAILOVER_TIMEOUT_MS: u64 = 180_000;
/// `parallel-syncs` of a group that names none.
pub const DEFAULT_PARALLEL_SYNCS: u32 = 1;

/// A password. Any bytes; never shown by `Debug`.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Secret(Vec<u8>);

impl Secret {
    /// A password of these bytes.
    pub fn new(bytes: impl Into<Vec<u8>>) -> Self {
        Self(bytes.into())
    }

    /// The password itself.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(..)")
    }
}

/// Where a tandem daemon listens unless its file says otherwise.
pub const DAEMON_PORT: u16 = 26379;

/// The version whose version-specific behaviour a sentinel shows: `# tandem: compat 7.2`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub enum Compat {
    /// Redis 7.0, the default.
    #[default]
    V7_0,
    /// Redis 7.2: `SENTINEL CONFIG SET` of several pairs, `loglevel`, more of `COMMAND DOCS`.
    V7_2,
}

impl Compat {
    /// All of them, oldest first.
    pub const ALL: [Self; 2] = [Self::V7_0, Self::V7_2];

    /// As it is written.
    pub fn name(self) -> &'static str {
        match self {
            Self::V7_0 => "7.0",
            Self::V7_2 => "7.2",
        }
    }
}

/// One sentinel's whole configuration with the state that it saved.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SentinelConf {
    /// `myid`: who this sentinel is to the others, 40 characters. Nothing before the first start.
    pub myid: Option<String>,
    /// `current-epoch`: the highest election epoch seen.
    pub current_epoch: u64,
    /// `announce-ip`: what others are told instead of the local address.
    pub announce_ip: Option<String>,
    /// `announce-port`: what others are told instead of the port.
    pub announce_port: Option<u16>,
    /// `resolve-hostnames`: may addresses be names?
    pub resolve_hostnames: bool,
    /// `announce-hostnames`: are names told to others as names?
    pub announce_hostnames: bool,
    /// `sentinel-user`: whom to log in as at other sentinels.
    pub sentinel_user: Option<String>,
    /// `sentinel-pass`: the password at other sentinels; without it `requirepass` is used.
    pub sentinel_pass: Option<Secret>,
    /// `deny-scripts-reconfig`: does `SENTINEL SET` refuse scripts? Yes unless said otherwise.
    pub deny_scripts_reconfig: bool,
    /// The monitored groups.
    pub groups: Vec<GroupConf>,
    /// Ports, files and everything else that any Redis process has.
    pub server: ServerConf,
    /// `user` lines.
    pub users: Vec<AclUser>,
    /// `# tandem: compat`.
    pub compat: Compat,
    /// `# tandem: daemon-port`: where tandem daemons listen on the servers' hosts.
    pub daemon_port: u16,
}

impl Default for SentinelConf {
    fn default() -> Self {
        Self {
            myid: None,
            current_epoch: 0,
            announce_ip: None,
            announce_port: None,
            resolve_hostnames: false,
            announce_hostnames: false,
            sentinel_user: None,
            sentinel_pass: None,
            deny_scripts_reconfig: true,
            groups: Vec::new(),
            server: ServerConf::default(),
            users: Vec::new(),
            compat: Compat::default(),
            daemon_port: DAEMON_PORT,
        }
    }
}

impl SentinelConf {
    /// The group of this name; names are case-sensitive.
    pub fn group(&self, name: &str) -> Option<&GroupConf> {
        self.groups.iter().find(|group| group.name == name)
    }

    /// The same configuration with every list in one agreed order and the current epoch not below any configuration's, so that
    /// equal meanings compare equal.
    #[must_use]
    pub fn canonical(&self) -> Self {
        let mut conf = self.clone();
        // Reading does the same: nobody holds a configuration from an epoch that never was.
        let configured = conf.groups.iter().map(|group| group.config_epoch).max();
        conf.current_epoch = conf.current_epoch.max(configured.unwrap_or(0));
        conf.groups.sort_by(|a, b| a.name.cmp(&b.name));
        for group in &mut conf.groups {
            group.rename_commands.sort();
            group.known_replicas.sort();
            group.known_sentinels.sort();
        }
        conf.users.sort();
        conf
    }
}

/// One primary with its replicas: Redis' "master".
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GroupConf {
    /// The name clients ask for.
    pub name: String,
    /// The primary's address; a host name only with `resolve_hostnames`.
    pub host: String,
    /// The primary's port. 0 is legal and never connected to.
    pub port: u16,
    /// How many sentinels have to agree that the primary is down; at least 1.
    pub quorum: u32,
    /// `down-after-milliseconds`; at least 1.
    pub down_after_ms: u64,
    /// `failover-timeout` in milliseconds; at least 1.
    pub failover_timeout_ms: u64,
    /// `parallel-syncs`: how many replicas are repointed at a time; at least 1.
    pub parallel_syncs: u32,
    /// `auth-user`, at the primary and its replicas.
    pub auth_user: Option<String>,
    /// `auth-pass`, at the primary and its replicas.
    pub auth_pass: Option<Secret>,
    /// `notification-script`: run for each warning event of this group.
    pub notification_script: Option<String>,
    /// `client-reconfig-script`: run when the primary's address changes.
    pub client_reconfig_script: Option<String>,
    /// `master-reboot-down-after-period` in milliseconds; 0 is off.
    pub master_reboot_down_after_ms: u64,
    /// `rename-command`: what commands are called on these servers.
    pub rename_commands: Vec<RenamedCommand>,
    /// `config-epoch`: the failover that the primary's address comes from.
    pub config_epoch: u64,
    /// `leader-epoch`: the last epoch this sentinel voted in for this group.
    pub leader_epoch: u64,
    /// `known-replica`.
    pub known_replicas: Vec<KnownReplica>,
    /// `known-sentinel`: the other sentinels; they all count for the majority.
    pub known_sentinels: Vec<KnownSentinel>,
}

impl GroupConf {
    /// A group as its `monitor` line alone defines it.
    pub fn new(name: impl Into<String>, host: impl Into<String>, port: u16, quorum: u32) -> Self {
        Self {
            name: name.into(),
            host: host.into(),
            port,
            quorum,
            down_after_ms: DEFAULT_DOWN_AFTER_MS,
            failover_timeout_ms: DEFAULT_FAILOVER_TIMEOUT_MS,
            parallel_syncs: DEFAULT_PARALLEL_SYNCS,
            auth_user: None,
            auth_pass: None,
            notification_script: None,
            client_reconfig_script: None,
            master_reboot_down_after_ms: 0,
            rename_commands: Vec::new(),
            config_epoch: 0,
            leader_epoch: 0,
            known_replicas: Vec::new(),
            known_sentinels: Vec::new(),
        }
    }
}

/// A replica that was seen under a primary.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct KnownReplica {
    /// Its address.
    pub host: String,
    /// Its port.
    pub port: u16,
}

/// Another sentinel of a group.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct KnownSentinel {
    /// Its address.
    pub host: String,
    /// Its port; Redis before 7.0 writes 0 for one whose address another sentinel took over.
    pub port: u16,
    /// Its `myid`.
    pub runid: String,
}

/// A command with another name on the servers of a group.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct RenamedCommand {
    /// The command's own name.
    pub from: String,
    /// What to send instead.
    pub to: String,
}

/// A `user` line. The rules are words of the ACL language, clear-text passwords already replaced by their hashes; what the
/// words allow is for whoever enforces them.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct AclUser {
    /// Whom `AUTH` names.
    pub name: String,
    /// The rules in order.
    pub rules: Vec<String>,
}

/// `loglevel`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum LogLevel {
    /// Everything.
    Debug,
    /// Much, without the noise of debugging.
    Verbose,
    /// What an operator wants to know; the default.
    Notice,
    /// Only what is wrong.
    Warning,
    /// Nothing (Redis 7.2).
    Nothing,
}

/// `supervised`: who started the process and waits for its word.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Supervised {
    /// Nobody.
    No,
    /// upstart, by stopping itself.
    Upstart,
    /// systemd, by its notification socket.
    Systemd,
    /// Whichever the environment shows.
    Auto,
}

/// `tls-auth-clients`: must clients show a certificate?
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum TlsAuthClients {
    /// They need not and are not asked.
    No,
    /// They must.
    Yes,
    /// It is checked if they do.
    Optional,
}

/// The settings that a sentinel shares with every Redis process and that mean something here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServerConf {
    /// `port`; 0 does not listen.
    pub port: u16,
    /// `bind`: addresses as written; a leading `-` means that it may be missing. Empty: all.
    pub bind: Vec<String>,
    /// `bind-source-addr`: where outgoing connections come from.
    pub bind_source_addr: Option<String>,
    /// `protected-mode`: without a password only this host is served. Off in sentinel mode.
    pub protected_mode: bool,
    /// `unixsocket`.
    pub unixsocket: Option<String>,
    /// `unixsocketperm`: rights of the socket.
    pub unixsocketperm: Option<u32>,
    /// `timeout`: idle seconds after which a client is closed; 0 never.
    pub timeout_s: u32,
    /// `tcp-backlog`.
    pub tcp_backlog: u32,
    /// `tcp-keepalive` in seconds; 0 is off.
    pub tcp_keepalive_s: u32,
    /// `maxclients`.
    pub maxclients: u32,
    /// `dir`: the working directory, also of scripts.
    pub dir: Option<String>,
    /// `logfile`; nothing is standard output.
    pub logfile: Option<String>,
    /// `loglevel`.
    pub loglevel: LogLevel,
    /// `daemonize`.
    pub daemonize: bool,
    /// `pidfile`.
    pub pidfile: Option<String>,
    /// `supervised`.
    pub supervised: Supervised,
    /// `syslog-enabled`.
    pub syslog_enabled: bool,
    /// `syslog-ident`.
    pub syslog_ident: String,
    /// `syslog-facility`.
    pub syslog_facility: String,
    /// `requirepass`: the password of the default user; also shown to other sentinels without `sentinel_pass`.
    pub requirepass: Option<Secret>,
    /// `aclfile`.
    pub aclfile: Option<String>,
    /// `acllog-max-len`.
    pub acllog_max_len: u64,
    /// `tls-...`.
    pub tls: TlsConf,
}

impl Default for ServerConf {
    fn default() -> Self {
        Self {
            port: DEFAULT_PORT,
            bind: Vec::new(),
            bind_source_addr: None,
            protected_mode: false,
            unixsocket: None,
            unixsocketperm: None,
            timeout_s: 0,
            tcp_backlog: 511,
            tcp_keepalive_s: 300,
            maxclients: 10_000,
            dir: None,
            logfile: None,
            loglevel: LogLevel::Notice,
            daemonize: false,
            pidfile: None,
            supervised: Supervised::No,
            syslog_enabled: false,
            syslog_ident: "redis".to_owned(),
            syslog_facility: "local0".to_owned(),
            requirepass: None,
            aclfile: None,
            acllog_max_len: 128,
            tls: TlsConf::default(),
        }
    }
}

/// The `tls-...` settings.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TlsConf {
    /// `tls-port`; 0 does not listen.
    pub port: u16,
    /// `tls-replication`: are links to servers and other sentinels encrypted?
    pub replication: bool,
    /// `tls-cert-file`.
    pub cert_file: Option<String>,
    /// `tls-key-file`.
    pub key_file: Option<String>,
    /// `tls-key-file-pass`.
    pub key_file_pass: Option<Secret>,
    /// `tls-client-cert-file`: preferred on outgoing links.
    pub client_cert_file: Option<String>,
    /// `tls-client-key-file`.
    pub client_key_file: Option<String>,
    /// `tls-client-key-file-pass`.
    pub client_key_file_pass: Option<Secret>,
    /// `tls-dh-params-file`.
    pub dh_params_file: Option<String>,
    /// `tls-ca-cert-file`.
    pub ca_cert_file: Option<String>,
    /// `tls-ca-cert-dir`.
    pub ca_cert_dir: Option<String>,
    /// `tls-auth-clients`.
    pub auth_clients: TlsAuthClients,
    /// `tls-protocols`, as written; nothing is the library's choice.
    pub protocols: Option<String>,
    /// `tls-ciphers` (TLS 1.2 and before), as written.
    pub ciphers: Option<String>,
    /// `tls-ciphersuites` (TLS 1.3), as written.
    pub ciphersuites: Option<String>,
    /// `tls-prefer-server-ciphers`.
    pub prefer_server_ciphers: bool,
    /// `tls-session-caching`.
    pub session_caching: bool,
    /// `tls-session-cache-size`, in sessions.
    pub session_cache_size: u32,
    /// `tls-session-cache-timeout`, in seconds.
    pub session_cache_timeout_s: u32,
}

impl Default for TlsConf {
    fn default() -> Self {
        Self {
            port: 0,
            replication: false,
            cert_file: None,
            key_file: None,
            key_file_pass: None,
            client_cert_file: None,
            client_key_file: None,
            client_key_file_pass: None,
            dh_params_file: None,
            ca_cert_file: None,
            ca_cert_dir: None,
            auth_clients: TlsAuthClients::Yes,
            protocols: None,
            ciphers: None,
            ciphersuites: None,
            prefer_server_ciphers: false,
            session_caching: true,
            session_cache_size: 20_480,
            session_cache_timeout_s: 300,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_password_is_not_shown() {
        let mut conf = SentinelConf::default();
        conf.server.requirepass = Some(Secret::new("hunter2"));
        assert!(!format!("{conf:?}").contains("hunter2"));
    }

    #[test]
    fn the_order_of_lists_means_nothing() {
        let group = |name: &str| GroupConf::new(name, "10.0.0.1", 6379, 2);
        let one = SentinelConf {
            groups: vec![group("a"), group("b")],
            ..SentinelConf::default()
        };
        let other = SentinelConf {
            groups: vec![group("b"), group("a")],
            ..SentinelConf::default()
        };
        assert_ne!(one, other);
        assert_eq!(one.canonical(), other.canonical());
    }
}
