//! What can be set: the periods, the process' own settings, and each group's.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::sentinel::ids::GroupName;

/// The version of Redis whose ways are kept where versions differ.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Compat {
    /// Redis 7.0.
    #[default]
    V7_0,
    /// Redis 7.2: `SENTINEL CONFIG SET` of several pairs, `loglevel`.
    V7_2,
}

/// The periods that `SENTINEL DEBUG` shows and sets at run time, with Redis' defaults.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Periods {
    /// INFO to servers.
    pub info: Duration,
    /// PING; also the bound of a connection attempt.
    pub ping: Duration,
    /// `is-master-down-by-addr` to each peer while a primary is down.
    pub ask: Duration,
    /// Hello messages.
    pub publish: Duration,
    /// `down-after-milliseconds` of groups created later.
    pub default_down_after: Duration,
    /// `failover-timeout` of groups created later.
    pub default_failover_timeout: Duration,
    /// A stall of this length is reported as one.
    pub tilt_trigger: Duration,
    /// Shown and settable; a stall costs the stall, not this.
    pub tilt_period: Duration,
    /// How long a replica may take to say that it follows its new primary.
    pub slave_reconf_timeout: Duration,
    /// A younger connection is not closed for idleness.
    pub min_link_reconnect: Duration,
    /// An election that lasts longer is given up.
    pub election_timeout: Duration,
    /// A script that runs longer is killed.
    pub script_max_runtime: Duration,
    /// Before a script's second run; doubles with each.
    pub script_retry_delay: Duration,
}

impl Default for Periods {
    fn default() -> Self {
        let ms = Duration::from_millis;
        Self {
            info: ms(10_000),
            ping: ms(1_000),
            ask: ms(1_000),
            publish: ms(2_000),
            default_down_after: ms(30_000),
            default_failover_timeout: ms(180_000),
            tilt_trigger: ms(2_000),
            tilt_period: ms(30_000),
            slave_reconf_timeout: ms(10_000),
            min_link_reconnect: ms(15_000),
            election_timeout: ms(10_000),
            script_max_runtime: ms(60_000),
            script_retry_delay: ms(30_000),
        }
    }
}

/// Settings of the process that the machine needs.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Globals {
    /// The port we listen on, announced unless `announce_port` says otherwise.
    pub port: u16,
    /// `tls-port`; 0 without.
    pub tls_port: u16,
    /// `tls-replication`: connections to servers and peers use TLS, and the TLS port is announced.
    pub tls_replication: bool,
    /// `announce-ip`.
    pub announce_ip: Option<String>,
    /// `announce-port`.
    pub announce_port: Option<u16>,
    /// `resolve-hostnames`.
    pub resolve_hostnames: bool,
    /// `announce-hostnames`.
    pub announce_hostnames: bool,
    /// `sentinel-user`, for other sentinels.
    pub sentinel_user: Option<String>,
    /// `sentinel-pass`, for other sentinels.
    pub sentinel_pass: Option<String>,
    /// The password clients must give us: also tried on peers where `sentinel_pass` is not set.
    pub requirepass: Option<String>,
    /// `deny-scripts-reconfig`.
    pub deny_scripts_reconfig: bool,
    /// Whose ways are kept.
    pub compat: Compat,
}

/// Settings of one group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GroupSettings {
    /// Its name.
    pub name: GroupName,
    /// How many sentinels must find the primary down.
    pub quorum: u32,
    /// Silence that counts as down.
    pub down_after: Duration,
    /// Bounds a failover and the time between two.
    pub failover_timeout: Duration,
    /// Replicas that are pointed to a new primary at the same time.
    pub parallel_syncs: u32,
    /// `auth-user`.
    pub auth_user: Option<String>,
    /// `auth-pass`.
    pub auth_pass: Option<String>,
    /// Told of warnings.
    pub notification_script: Option<String>,
    /// Told of changes of primary.
    pub client_reconfig_script: Option<String>,
    /// `rename-command`: upper-case original to what the servers call it.
    pub rename_commands: BTreeMap<String, String>,
    /// `master-reboot-down-after-period`; zero is off.
    pub reboot_down_after: Duration,
}

impl GroupSettings {
    /// A new group's settings.
    #[must_use]
    pub fn new(name: GroupName, quorum: u32, periods: &Periods) -> Self {
        Self {
            name,
            quorum,
            down_after: periods.default_down_after,
            failover_timeout: periods.default_failover_timeout,
            parallel_syncs: 1,
            auth_user: None,
            auth_pass: None,
            notification_script: None,
            client_reconfig_script: None,
            rename_commands: BTreeMap::new(),
            reboot_down_after: Duration::ZERO,
        }
    }
}
