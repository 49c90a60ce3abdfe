//! The effective configuration: what keepalived would act on, with every default spelled out.

use std::net::{IpAddr, Ipv4Addr};
use std::path::PathBuf;
use std::time::Duration;

use crate::diagnostic::Span;
use crate::value::IpPrefix;

/// Everything in a `keepalived.conf` and its includes.
#[derive(Debug, Clone, Default)]
pub struct Config {
    /// `global_defs`.
    pub global: GlobalDefs,
    /// `vrrp_script`, by name.
    pub scripts: Vec<ScriptDef>,
    /// `track_file` and `vrrp_track_file`.
    pub track_files: Vec<TrackFile>,
    /// `vrrp_track_process`.
    pub track_processes: Vec<TrackProcess>,
    /// `vrrp_sync_group`.
    pub sync_groups: Vec<SyncGroup>,
    /// `vrrp_instance`, in the order of the file.
    pub instances: Vec<Instance>,
    /// What changes behaviour and is not done here.
    pub unsupported: Vec<Dropped>,
    /// What has no bearing on what tandem does.
    pub ignored: Vec<Dropped>,
}

/// A keyword that is recognised and not acted on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Dropped {
    /// The keyword.
    pub keyword: String,
    /// Where it stands.
    pub at: Span,
    /// Why, and what to do instead.
    pub note: &'static str,
}

/// `global_defs`. Announcement and protocol settings are defaults for the instances and are already merged into those.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GlobalDefs {
    /// `router_id`: a name for logs.
    pub router_id: Option<String>,
    /// `vrrp_version`: 2 or 3.
    pub vrrp_version: u8,
    /// `vrrp_mcast_group4`.
    pub mcast_group4: IpAddr,
    /// `vrrp_mcast_group6`.
    pub mcast_group6: IpAddr,
    /// Announcements, unless an instance says otherwise.
    pub garp: GarpSettings,
    /// `vrrp_down_timer_adverts`: adverts missed until the master counts as down.
    pub down_timer_adverts: u8,
    /// `vrrp_lower_prio_no_advert`.
    pub lower_prio_no_advert: bool,
    /// `vrrp_higher_prio_send_advert`.
    pub higher_prio_send_advert: bool,
    /// `vrrp_check_unicast_src`.
    pub check_unicast_src: bool,
    /// `vrrp_skip_check_adv_addr`.
    pub skip_check_adv_addr: bool,
    /// `vrrp_owner_ignore_adverts`.
    pub owner_ignore_adverts: bool,
    /// `v3_checksum_as_v2`.
    pub v3_checksum_as_v2: bool,
    /// `vrrp_startup_delay`: silence after the start.
    pub startup_delay: Duration,
    /// `vrrp_delay_after_boot`: no start earlier than this after the host's boot.
    pub delay_after_boot: Duration,
    /// `vrrp_notify_priority_changes`.
    pub notify_priority_changes: bool,
    /// `notify_fifo`: a FIFO for state lines.
    pub notify_fifo: Option<FifoDef>,
    /// `notify_fifo_script`: a reader to start for it; it gets the FIFO's path as its last argument.
    pub notify_fifo_script: Option<Script>,
    /// `vrrp_notify_fifo`.
    pub vrrp_notify_fifo: Option<FifoDef>,
    /// `vrrp_notify_fifo_script`.
    pub vrrp_notify_fifo_script: Option<Script>,
    /// `script_user`: user and group of scripts that name none.
    pub script_user: Option<(String, Option<String>)>,
    /// `enable_script_security`.
    pub enable_script_security: bool,
    /// `dynamic_interfaces`: an interface may be missing at the start.
    pub dynamic_interfaces: bool,
    /// `default_interface`.
    pub default_interface: Option<String>,
    /// `vrrp_rt_priority`: SCHED_RR priority of the VRRP process.
    pub rt_priority: Option<u8>,
    /// `vrrp_priority`: nice value of the VRRP process.
    pub nice: Option<i8>,
    /// `vrrp_no_swap`: lock memory.
    pub no_swap: bool,
    /// `vrrp_cpu_affinity`.
    pub cpu_affinity: Vec<u32>,
    /// `max_auto_priority`: how far SCHED_RR may be raised by itself.
    pub max_auto_priority: Option<i32>,
    /// `interface_up_down_delays`: per interface, how long it must be up, and down, before it counts.
    pub interface_delays: Vec<(String, Duration, Duration)>,
}

impl Default for GlobalDefs {
    fn default() -> Self {
        Self {
            router_id: None,
            vrrp_version: 2,
            mcast_group4: IpAddr::from([224, 0, 0, 18]),
            mcast_group6: IpAddr::from([0xff02, 0, 0, 0, 0, 0, 0, 0x12]),
            garp: GarpSettings::default(),
            down_timer_adverts: 3,
            lower_prio_no_advert: false,
            higher_prio_send_advert: false,
            check_unicast_src: false,
            skip_check_adv_addr: false,
            owner_ignore_adverts: false,
            v3_checksum_as_v2: false,
            startup_delay: Duration::ZERO,
            delay_after_boot: Duration::ZERO,
            notify_priority_changes: false,
            notify_fifo: None,
            notify_fifo_script: None,
            vrrp_notify_fifo: None,
            vrrp_notify_fifo_script: None,
            script_user: None,
            enable_script_security: false,
            dynamic_interfaces: false,
            default_interface: None,
            rt_priority: None,
            nice: None,
            no_swap: false,
            cpu_affinity: Vec::new(),
            max_auto_priority: None,
            interface_delays: Vec::new(),
        }
    }
}

/// When and how often addresses are announced by gratuitous ARP and unsolicited NA.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GarpSettings {
    /// Announcements per address in a round.
    pub master_repeat: u32,
    /// Time to the second round; zero means none.
    pub master_delay: Duration,
    /// Time between further rounds while master; zero means none.
    pub master_refresh: Duration,
    /// Announcements per address in those.
    pub master_refresh_repeat: u32,
    /// Announcements per address after a lower-priority master was heard; none means `master_repeat`.
    pub lower_prio_repeat: Option<u32>,
    /// Time to the second such round; none means `master_delay`.
    pub lower_prio_delay: Option<Duration>,
    /// Least time between two ARP frames on an interface.
    pub arp_interval: Duration,
    /// Least time between two NA frames on an interface.
    pub na_interval: Duration,
}

impl Default for GarpSettings {
    fn default() -> Self {
        Self {
            master_repeat: 5,
            master_delay: Duration::from_secs(5),
            master_refresh: Duration::ZERO,
            master_refresh_repeat: 1,
            lower_prio_repeat: None,
            lower_prio_delay: None,
            arp_interval: Duration::ZERO,
            na_interval: Duration::ZERO,
        }
    }
}

/// A command to run, without a shell.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Script {
    /// Program and arguments; not empty.
    pub argv: Vec<String>,
    /// The user to run as. None: `keepalived_script` if that user exists, else root.
    pub user: Option<String>,
    /// The group to run as; none means the user's own.
    pub group: Option<String>,
    /// Where it stands.
    pub at: Span,
}

/// A FIFO for state lines.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FifoDef {
    /// Where it is.
    pub path: PathBuf,
    /// Whom it belongs to if it has to be made: user, and group if not the user's own. None: as for scripts without a user.
    pub owner: Option<(String, Option<String>)>,
    /// Where the path stands.
    pub at: Span,
}

/// What a `vrrp_script` tests.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ScriptTest {
    /// A command; exit code 0 is good.
    Run(Script),
    /// `</path`: good if the file can be read.
    Readable(PathBuf, Span),
}

/// `vrrp_script`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ScriptDef {
    /// Name, by which instances refer to it.
    pub name: String,
    /// Where the name stands.
    pub at: Span,
    /// What it tests. None: the file names nothing, which is an error.
    pub test: Option<ScriptTest>,
    /// Time from one start to the next. Default 1 s.
    pub interval: Duration,
    /// When a run is ended and counts as failed. Default: the interval.
    pub timeout: Duration,
    /// -253 to 253; 0: failing is a fault. Default 0.
    pub weight: i16,
    /// The weight's effect is turned around.
    pub reverse: bool,
    /// Successes in a row that make it good. Default 1.
    pub rise: u32,
    /// Failures in a row that make it bad. Default 1.
    pub fall: u32,
    /// Starts as failed and needs `rise` successes.
    pub init_fail: bool,
}

/// `track_file` or `vrrp_track_file`: a file whose number steers the priority.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TrackFile {
    /// Name, by which instances refer to it.
    pub name: String,
    /// Where the name stands.
    pub at: Span,
    /// The file.
    pub path: PathBuf,
    /// Factor for its number. 0: a number other than 0 is a fault. Default 1.
    pub weight: i16,
    /// The weight's effect is turned around.
    pub reverse: bool,
    /// Created with this number at the start, if it is missing; with `overwrite` also if it is not.
    pub init: Option<(i64, bool)>,
}

/// `vrrp_track_process`: counts processes by name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TrackProcess {
    /// Name, by which instances refer to it.
    pub name: String,
    /// Where the name stands.
    pub at: Span,
    /// The process' name, or with `full_command` its program and arguments.
    pub process: Vec<String>,
    /// `param_match`: how arguments are compared (`initial` or `partial`); none means exactly.
    pub param_match: Option<String>,
    /// Compare the command line rather than the name.
    pub full_command: bool,
    /// Fewest processes that are good. Default 1.
    pub quorum: u32,
    /// Most processes that are good; none means any number.
    pub quorum_max: Option<u32>,
    /// Time before a change to good counts.
    pub fork_delay: Duration,
    /// Time before a change to bad counts.
    pub terminate_delay: Duration,
    /// As for scripts.
    pub weight: i16,
    /// The weight's effect is turned around.
    pub reverse: bool,
}

/// A reference from an instance or group to something tracked, resolved to its name and effective weight.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tracked {
    /// The name referred to.
    pub name: String,
    /// Where the reference stands.
    pub at: Span,
    /// `weight` of the reference; after resolving always present: its own, else that of the definition.
    pub weight: Option<i16>,
    /// The effect is turned around.
    pub reverse: bool,
}

/// An interface that is watched.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TrackedInterface {
    /// The interface.
    pub name: String,
    /// Where it stands.
    pub at: Span,
    /// 0: down is a fault; otherwise added while up if positive, subtracted while down if negative.
    pub weight: i16,
    /// The effect is turned around.
    pub reverse: bool,
}

/// The scripts of an instance or group, by occasion.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Notify {
    /// `notify_master`.
    pub master: Option<Script>,
    /// `notify_backup`.
    pub backup: Option<Script>,
    /// `notify_fault`.
    pub fault: Option<Script>,
    /// `notify_stop`.
    pub stop: Option<Script>,
    /// `notify_deleted`.
    pub deleted: Option<Script>,
    /// `notify_master_rx_lower_pri`.
    pub master_rx_lower_pri: Option<Script>,
    /// `notify`: run after the specific one, with kind, name, state and priority appended.
    pub any: Option<Script>,
}

impl Notify {
    /// The scripts that are there, each with its keyword.
    pub fn scripts(&self) -> impl Iterator<Item = (&'static str, &Script)> {
        [
            ("notify_master", &self.master),
            ("notify_backup", &self.backup),
            ("notify_fault", &self.fault),
            ("notify_stop", &self.stop),
            ("notify_deleted", &self.deleted),
            ("notify_master_rx_lower_pri", &self.master_rx_lower_pri),
            ("notify", &self.any),
        ]
        .into_iter()
        .filter_map(|(keyword, script)| script.as_ref().map(|script| (keyword, script)))
    }
}

/// `vrrp_sync_group`: instances that change state together.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SyncGroup {
    /// Name.
    pub name: String,
    /// Names of the instances that exist.
    pub members: Vec<(String, Span)>,
    /// Watched scripts.
    pub track_scripts: Vec<Tracked>,
    /// Watched files.
    pub track_files: Vec<Tracked>,
    /// Watched processes.
    pub track_processes: Vec<Tracked>,
    /// Watched interfaces.
    pub track_interfaces: Vec<TrackedInterface>,
    /// Weights count although the members share their state.
    pub tracking_weight: bool,
    /// Scripts.
    pub notify: Notify,
    /// `notify_priority_changes`.
    pub notify_priority_changes: bool,
}

/// `state`: what an instance starts as.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum InitialState {
    /// Starts as backup.
    #[default]
    Backup,
    /// Only with priority 255 does it start as master; otherwise all it does is switch off `nopreempt` and `preempt_delay`.
    Master,
}

/// What a backup does about a master of lower priority, as it is in effect.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Preemption {
    /// It takes over, this long after it first heard of it.
    After(Duration),
    /// It lets it be.
    Never,
}

/// How adverts of version 2 are authenticated.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Auth {
    /// Not at all.
    None,
    /// A clear-text password of eight bytes, zero-padded.
    Pass([u8; 8]),
    /// An IP authentication header, HMAC-MD5 with this key, zero-padded.
    Ah([u8; 8]),
}

/// How strictly `auth_hmac` is applied, for a change without interruption.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HmacMode {
    /// Checks what arrives, sends without.
    ReceiveOnly,
    /// Sends with, accepts without.
    Permissive,
    /// Sends with, accepts nothing without.
    Enforce,
}

/// A key of `auth_hmac`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HmacKey {
    /// 1 to 255.
    pub id: u8,
    /// 32 to 64 bytes.
    pub key: Vec<u8>,
}

/// `auth_hmac` (keepalived 2.4).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AuthHmac {
    /// The keys that are accepted.
    pub keys: Vec<HmacKey>,
    /// The id of the one that signs.
    pub active_key: u8,
    /// Largest difference of clocks that is accepted, if replay is bound by time as well as by order.
    pub time_window: Option<Duration>,
    /// How strictly.
    pub mode: HmacMode,
}

/// One line of `virtual_ipaddress`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConfigAddress {
    /// The address.
    pub address: IpPrefix,
    /// Where it stands.
    pub at: Span,
    /// The interface that carries it: `dev`, else the instance's.
    pub interface: String,
    /// `brd ADDR`; with `+` the last address of the prefix, with `-` its first.
    pub broadcast: Option<Ipv4Addr>,
    /// `scope`: the kernel's number, 0 global to 255 nowhere.
    pub scope: Option<u8>,
    /// `label`, at most 15 bytes.
    pub label: Option<String>,
    /// `peer`.
    pub peer: Option<IpPrefix>,
    /// `home`, `-nodad`, `mngtmpaddr`, `noprefixroute`, `autojoin`, `no_track`, as written.
    pub flags: Vec<String>,
    /// `preferred_lft`: how long it may be chosen as the source of new connections. None means for ever. Default: zero for
    /// IPv6 with prefix length 128, else for ever.
    pub preferred_lifetime: Option<Duration>,
}

/// One line of `unicast_peer`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct UnicastPeer {
    /// The peer.
    pub address: IpAddr,
    /// `min_ttl`: adverts that crossed more hops are dropped.
    pub min_ttl: Option<u8>,
    /// `max_ttl`.
    pub max_ttl: Option<u8>,
}

/// Is the sender of a unicast advert compared with the peers?
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CheckSource {
    /// As keepalived: no.
    Off,
    /// Yes.
    On,
}

/// Which checksum of version 3 goes out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Checksum {
    /// With the real destination; changes to `Old` when a unicast peer is heard to use that.
    Detect,
    /// With the real destination, whatever the peers do (`old_unicast_checksum never`).
    Standard,
    /// With the multicast group even in unicast, as keepalived up to 1.3.6.
    Old,
    /// Without addresses (`v3_checksum_as_v2`).
    AsV2,
}

/// `vrrp_instance`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Instance {
    /// Name.
    pub name: String,
    /// Where the name stands.
    pub at: Span,
    /// `state`.
    pub state: InitialState,
    /// `interface`, or the global default.
    pub interface: String,
    /// `virtual_router_id`.
    pub router_id: u8,
    /// `priority`, 1 to 255. Default 100; 255 with `state MASTER` is the address owner.
    pub priority: u8,
    /// Where the priority stands.
    pub priority_at: Span,
    /// `advert_int`. Default 1 s.
    pub advert_interval: Duration,
    /// 2 or 3; IPv6 is always 3.
    pub version: u8,
    /// What is in effect after `state MASTER` has had its say.
    pub preemption: Preemption,
    /// What is in effect: none in version 3, and none where the password was lost.
    pub auth: Auth,
    /// `auth_hmac`.
    pub hmac: Option<AuthHmac>,
    /// `virtual_ipaddress`: sent in adverts.
    pub addresses: Vec<ConfigAddress>,
    /// `virtual_ipaddress_excluded`: not sent in adverts.
    pub excluded: Vec<ConfigAddress>,
    /// `no_virtual_ipaddress`: none is meant.
    pub no_addresses: bool,
    /// `unicast_src_ip` or `mcast_src_ip`.
    pub source: Option<IpAddr>,
    /// `track_src_ip`.
    pub track_source: bool,
    /// `mcast_dst_ip`, or the group of the family.
    pub multicast: IpAddr,
    /// `unicast_peer`; not empty means unicast.
    pub unicast_peers: Vec<UnicastPeer>,
    /// `unicast_ttl`.
    pub unicast_ttl: Option<u8>,
    /// `unicast_fault_no_peer`.
    pub unicast_fault_no_peer: bool,
    /// `check_unicast_src`, or the global default.
    pub check_source: CheckSource,
    /// Which checksum goes out.
    pub checksum: Checksum,
    /// Watched scripts.
    pub track_scripts: Vec<Tracked>,
    /// Watched interfaces.
    pub track_interfaces: Vec<TrackedInterface>,
    /// Watched files.
    pub track_files: Vec<Tracked>,
    /// Watched processes.
    pub track_processes: Vec<Tracked>,
    /// `dont_track_primary`: the instance's own interface may go down.
    pub dont_track_primary: bool,
    /// Announcements.
    pub garp: GarpSettings,
    /// Adverts missed until the master counts as down.
    pub down_timer_adverts: u8,
    /// No advert in answer to a lower priority.
    pub lower_prio_no_advert: bool,
    /// An advert in answer to a higher priority.
    pub higher_prio_send_advert: bool,
    /// The address list of an advert is not compared again for the same master.
    pub skip_check_adv_addr: bool,
    /// An owner ignores adverts.
    pub owner_ignore_adverts: bool,
    /// `timer_expired_backup`: yields when it was late enough that a peer must have taken over.
    pub timer_expired_backup: bool,
    /// `accept`, or its absence with `no_accept`; packets to the addresses are always taken here.
    pub accept: bool,
    /// Scripts.
    pub notify: Notify,
    /// `notify_priority_changes`.
    pub notify_priority_changes: bool,
    /// `promote_secondaries`.
    pub promote_secondaries: bool,
}

impl Instance {
    /// Do adverts of this instance travel over IPv6? Decided by the source, the peers, then the addresses.
    pub fn is_ipv6(&self) -> bool {
        self.source
            .or_else(|| self.unicast_peers.first().map(|peer| peer.address))
            .or_else(|| self.addresses.first().map(|line| line.address.addr))
            .is_some_and(|address| address.is_ipv6())
    }
}
