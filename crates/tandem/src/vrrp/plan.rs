//! A `keepalived.conf` as what this program runs: routers, their groups, and what each of them tracks.
//!
//! Pure: no clock, no socket, no interface. What a router is, for a reload, is its [`Key`], not its name, as in keepalived.

use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

use tandem_config::keepalived::{
    Auth as FileAuth, CheckSource, Checksum, Config, ConfigAddress, HmacMode as FileHmacMode,
    InitialState, Instance, Notify, Preemption, Script, ScriptDef, SyncGroup, TrackFile,
    TrackProcess, Tracked, TrackedInterface,
};
use tandem_vrrp::garp::Announcements;
use tandem_vrrp::packet::{
    AntiReplay, Dialect, HmacKey, HmacKeys, HmacMode, HmacSettings, PassKey,
};
use tandem_vrrp::settings::{AddressCheck, Auth, Preempt, Settings, Transport, UnicastPeer};
use tandem_vrrp::{Family, Priority, Version, Vrid};
use thiserror::Error;

use crate::linux::addr::Options;

/// The MTU that the capacity of an advert is reckoned with; a smaller one would fragment adverts of many addresses.
const MTU: usize = 1500;

/// A configuration that was read without errors and still cannot run. The operator's fault; nothing to retry.
#[derive(Debug, Error)]
#[error("instance {instance}: {why}")]
pub(super) struct PlanError {
    instance: String,
    why: String,
}

/// Which router: instances of two files with the same key are the same one (keepalived's rule, plus the version).
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Key {
    pub(super) vrid: Vrid,
    pub(super) version: Version,
    pub(super) family: Family,
    pub(super) interface: String,
    pub(super) unicast: bool,
}

/// Something whose condition a router follows.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Watched {
    Script(String),
    Interface(String),
    File(String),
    Process(String),
}

/// How a router follows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Tracking {
    pub(super) watched: Watched,
    /// 0: a fault while it is bad.
    pub(super) weight: i32,
    pub(super) reverse: bool,
}

/// An address that a router brings along.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct PlanAddress {
    pub(super) address: IpAddr,
    pub(super) prefix_length: u8,
    pub(super) interface: String,
    pub(super) options: Options,
}

/// A FIFO and who reads it.
#[derive(Debug, Clone)]
pub(super) struct FifoPlan {
    pub(super) path: PathBuf,
    /// Whom it is given to if it has to be made; none: the default user of scripts.
    pub(super) owner: Option<(String, Option<String>)>,
    /// A reader to start for it.
    pub(super) script: Option<Script>,
}

/// One `vrrp_instance`.
#[derive(Debug, Clone)]
pub(super) struct RouterPlan {
    pub(super) name: String,
    pub(super) key: Key,
    pub(super) settings: Settings,
    /// The configured source of adverts; otherwise the interface's own address.
    pub(super) source: Option<IpAddr>,
    /// A configured source must be present on the interface.
    pub(super) track_source: bool,
    /// Advertised ones first, then the excluded, in the order of the file: the order of installation.
    pub(super) addresses: Vec<PlanAddress>,
    pub(super) tracking: Vec<Tracking>,
    pub(super) notify: Notify,
    pub(super) notify_priority_changes: bool,
    /// Change to keepalived's old unicast checksum when a peer is heard to use it.
    pub(super) detect_old_checksum: bool,
    /// `unicast_fault_no_peer` without a peer.
    pub(super) no_peer_fault: bool,
}

/// A `vrrp_sync_group`, or a router that is in none.
#[derive(Debug, Clone)]
pub(super) struct UnitPlan {
    /// The group's name and scripts.
    pub(super) group: Option<(String, Notify)>,
    /// Indices into [`Plan::routers`].
    pub(super) members: Vec<usize>,
}

/// Everything to run.
#[derive(Debug, Clone)]
pub(super) struct Plan {
    pub(super) routers: Vec<RouterPlan>,
    pub(super) units: Vec<UnitPlan>,
    /// Only those that somebody tracks.
    pub(super) scripts: Vec<ScriptDef>,
    pub(super) files: Vec<TrackFile>,
    pub(super) processes: Vec<TrackProcess>,
    pub(super) fifos: Vec<FifoPlan>,
    pub(super) default_user: Option<(String, Option<String>)>,
    pub(super) dynamic_interfaces: bool,
    pub(super) startup_delay: Duration,
    pub(super) delay_after_boot: Duration,
    /// Per interface: how long up, and how long down, before it counts.
    pub(super) interface_delays: Vec<(String, Duration, Duration)>,
}

impl Plan {
    /// # Errors
    /// The first instance that cannot work.
    pub(super) fn new(config: &Config) -> Result<Self, PlanError> {
        let mut routers = Vec::new();
        for instance in &config.instances {
            let group = config
                .sync_groups
                .iter()
                .find(|group| group.members.iter().any(|(name, _)| *name == instance.name));
            routers.push(router(instance, group)?);
        }
        let position = |name: &str| routers.iter().position(|router| router.name == name);
        let mut units: Vec<UnitPlan> = config
            .sync_groups
            .iter()
            .map(|group| UnitPlan {
                group: Some((group.name.clone(), group.notify.clone())),
                members: group
                    .members
                    .iter()
                    .filter_map(|(name, _)| position(name))
                    .collect(),
            })
            .filter(|unit| !unit.members.is_empty())
            .collect();
        for index in 0..routers.len() {
            if !units.iter().any(|unit| unit.members.contains(&index)) {
                units.push(UnitPlan {
                    group: None,
                    members: vec![index],
                });
            }
        }
        let used = |watched: &Watched| {
            routers.iter().any(|router: &RouterPlan| {
                router
                    .tracking
                    .iter()
                    .any(|tracking| tracking.watched == *watched)
            })
        };
        let global = &config.global;
        let fifos = [
            (&global.notify_fifo, &global.notify_fifo_script),
            (&global.vrrp_notify_fifo, &global.vrrp_notify_fifo_script),
        ];
        Ok(Self {
            scripts: keep(&config.scripts, |def| {
                used(&Watched::Script(def.name.clone()))
            }),
            files: keep(&config.track_files, |def| {
                used(&Watched::File(def.name.clone()))
            }),
            processes: keep(&config.track_processes, |def| {
                used(&Watched::Process(def.name.clone()))
            }),
            routers,
            units,
            fifos: fifos
                .into_iter()
                .filter_map(|(def, script)| {
                    let def = def.as_ref()?;
                    Some(FifoPlan {
                        path: def.path.clone(),
                        owner: def.owner.clone(),
                        script: script.clone(),
                    })
                })
                .collect(),
            default_user: global.script_user.clone(),
            dynamic_interfaces: global.dynamic_interfaces,
            startup_delay: global.startup_delay,
            delay_after_boot: global.delay_after_boot,
            interface_delays: global.interface_delays.clone(),
        })
    }

    /// Every interface that some router needs to exist.
    pub(super) fn interfaces(&self) -> impl Iterator<Item = (&str, &str)> {
        self.routers.iter().flat_map(|router| {
            let own = std::iter::once(router.key.interface.as_str());
            let others = router.addresses.iter().map(|line| line.interface.as_str());
            own.chain(others)
                .map(|interface| (interface, router.name.as_str()))
        })
    }
}

fn keep<T: Clone>(all: &[T], mut used: impl FnMut(&T) -> bool) -> Vec<T> {
    all.iter().filter(|one| used(one)).cloned().collect()
}

fn router(instance: &Instance, group: Option<&SyncGroup>) -> Result<RouterPlan, PlanError> {
    let problem = |why: String| PlanError {
        instance: instance.name.clone(),
        why,
    };
    let mut settings = settings(instance).map_err(problem)?;
    settings.in_sync_group = group.is_some();
    let advertised = instance.addresses.iter();
    let addresses = advertised
        .chain(&instance.excluded)
        .map(|line| PlanAddress {
            address: line.address.addr,
            prefix_length: line.address.prefix,
            interface: line.interface.clone(),
            options: options(line),
        })
        .collect();
    settings
        .check()
        .map_err(|error| problem(error.to_string()))?;
    let weights_count = group.is_none_or(|group| group.tracking_weight);
    Ok(RouterPlan {
        name: instance.name.clone(),
        key: Key {
            vrid: settings.vrid,
            version: settings.version,
            family: settings.family,
            interface: instance.interface.clone(),
            unicast: settings.is_unicast(),
        },
        source: instance.source,
        track_source: instance.track_source,
        addresses,
        tracking: tracking(instance, group, weights_count),
        notify: instance.notify.clone(),
        notify_priority_changes: instance.notify_priority_changes,
        detect_old_checksum: settings.is_unicast()
            && settings.version == Version::V3
            && instance.checksum == Checksum::Detect,
        no_peer_fault: instance.unicast_fault_no_peer && instance.unicast_peers.is_empty(),
        settings,
    })
}

fn options(line: &ConfigAddress) -> Options {
    Options {
        label: line.label.clone(),
        broadcast: line.broadcast,
        scope: line.scope.unwrap_or_default(),
        preferred: line.preferred_lifetime,
        detect_duplicates: line.flags.iter().any(|flag| flag == "-nodad"),
    }
}

/// The instance's own interface, what it tracks, and what its group tracks for it. In a group whose weights do not count a
/// failure of anything tracked is a fault, as in keepalived.
fn tracking(instance: &Instance, group: Option<&SyncGroup>, weights_count: bool) -> Vec<Tracking> {
    let mut all = Vec::new();
    if !instance.dont_track_primary {
        all.push(Tracking {
            watched: Watched::Interface(instance.interface.clone()),
            weight: 0,
            reverse: false,
        });
    }
    let mut add = |watched: Watched, weight: i16, reverse: bool| {
        let weight = if weights_count { weight.into() } else { 0 };
        let tracking = Tracking {
            watched,
            weight,
            reverse,
        };
        // The instance comes first: its own words win over the group's.
        if !all
            .iter()
            .any(|known: &Tracking| known.watched == tracking.watched)
        {
            all.push(tracking);
        }
    };
    let named = |list: &[Tracked], kind: fn(String) -> Watched| {
        list.iter()
            .map(|one| (kind(one.name.clone()), one.weight.unwrap_or(0), one.reverse))
            .collect::<Vec<_>>()
    };
    let interfaces = |list: &[TrackedInterface]| {
        list.iter()
            .map(|one| {
                (
                    Watched::Interface(one.name.clone()),
                    one.weight,
                    one.reverse,
                )
            })
            .collect::<Vec<_>>()
    };
    let mut wanted = named(&instance.track_scripts, Watched::Script);
    wanted.extend(named(&instance.track_files, Watched::File));
    wanted.extend(named(&instance.track_processes, Watched::Process));
    wanted.extend(interfaces(&instance.track_interfaces));
    if let Some(group) = group {
        wanted.extend(named(&group.track_scripts, Watched::Script));
        wanted.extend(named(&group.track_files, Watched::File));
        wanted.extend(named(&group.track_processes, Watched::Process));
        wanted.extend(interfaces(&group.track_interfaces));
    }
    for (watched, weight, reverse) in wanted {
        add(watched, weight, reverse);
    }
    all
}

fn settings(instance: &Instance) -> Result<Settings, String> {
    let vrid = Vrid::new(instance.router_id).ok_or("virtual_router_id 0 does not exist")?;
    let family = if instance.is_ipv6() {
        Family::Ipv6
    } else {
        Family::Ipv4
    };
    let addresses = instance.addresses.iter().map(|line| line.address.addr);
    let mut settings = Settings::new(vrid, family, addresses.collect());
    settings.version = if instance.version == 3 {
        Version::V3
    } else {
        Version::V2
    };
    settings.priority = Priority::new(instance.priority).ok_or("priority 0 means to leave")?;
    settings.start_as_master = instance.state == InitialState::Master;
    settings.advert_interval = instance.advert_interval;
    settings.down_timer_adverts = instance.down_timer_adverts;
    settings.preempt = match instance.preemption {
        Preemption::Never => Preempt::Never,
        Preemption::After(Duration::ZERO) => Preempt::Always,
        Preemption::After(delay) => Preempt::After(delay),
    };
    settings.transport = transport(instance);
    settings.auth = match instance.auth {
        FileAuth::None => Auth::None,
        FileAuth::Pass(key) => Auth::Pass(pass(&key)?),
        FileAuth::Ah(key) => Auth::Ah(pass(&key)?),
    };
    settings.hmac = hmac(instance)?;
    settings.checksum = match instance.checksum {
        Checksum::Detect | Checksum::Standard => Dialect::A,
        Checksum::Old => Dialect::B,
        Checksum::AsV2 => Dialect::C,
    };
    settings.lower_prio_no_advert = instance.lower_prio_no_advert;
    settings.higher_prio_send_advert = instance.higher_prio_send_advert;
    settings.address_check = AddressCheck::Report;
    settings.owner_ignore_adverts = instance.owner_ignore_adverts;
    let garp = &instance.garp;
    settings.announcements = Announcements {
        repeat: garp.master_repeat,
        delay: garp.master_delay,
        refresh: garp.master_refresh,
        refresh_repeat: garp.master_refresh_repeat,
        lower_prio_repeat: garp.lower_prio_repeat.unwrap_or(garp.master_repeat),
        lower_prio_delay: garp.lower_prio_delay.unwrap_or(garp.master_delay),
        arp_interval: garp.arp_interval,
        na_interval: garp.na_interval,
    };
    // What does not fit an advert is installed all the same and not listed.
    let capacity = settings.capacity(MTU);
    settings.addresses.truncate(capacity);
    Ok(settings)
}

fn transport(instance: &Instance) -> Transport {
    if instance.unicast_peers.is_empty() {
        return Transport::Multicast {
            group: instance.multicast,
        };
    }
    let peers = instance.unicast_peers.iter().map(|peer| UnicastPeer {
        address: peer.address,
        // keepalived checks nothing unless the peer's line says so.
        min_ttl: peer.min_ttl.unwrap_or(0),
        max_ttl: peer.max_ttl.unwrap_or(255),
    });
    Transport::Unicast {
        peers: peers.collect(),
        check_source: instance.check_source == CheckSource::On,
        // keepalived leaves IPv6 to the kernel's default of 64, which a receiver that wants 255 drops.
        ttl: instance.unicast_ttl.unwrap_or(255),
    }
}

fn pass(key: &[u8; 8]) -> Result<PassKey, String> {
    PassKey::new(key).ok_or_else(|| "the password is empty".to_owned())
}

fn hmac(instance: &Instance) -> Result<Option<HmacSettings>, String> {
    let Some(hmac) = &instance.hmac else {
        return Ok(None);
    };
    let mut keys = Vec::new();
    for key in &hmac.keys {
        let value = HmacKey::new(&key.key).map_err(|error| error.to_string())?;
        keys.push((key.id, value));
    }
    Ok(Some(HmacSettings {
        keys: HmacKeys::new(keys, hmac.active_key).map_err(|error| error.to_string())?,
        mode: match hmac.mode {
            FileHmacMode::ReceiveOnly => HmacMode::ReceiveOnly,
            FileHmacMode::Permissive => HmacMode::Permissive,
            FileHmacMode::Enforce => HmacMode::Enforce,
        },
        anti_replay: match hmac.time_window {
            Some(window) => AntiReplay::Time(window),
            None => AntiReplay::Counter,
        },
    }))
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use tandem_config::keepalived::{Env, MapFiles, read};

    use super::*;

    fn plan(text: &str) -> Plan {
        let files = MapFiles::new()
            .with("/k.conf", text)
            .with_mode("/bin/true", "", 0, 0o755);
        let loaded = read(Path::new("/k.conf"), &files, &Env::default());
        assert!(
            !loaded.report.has_errors(),
            "{}",
            loaded.report.render(false)
        );
        Plan::new(&loaded.config).unwrap()
    }

    const TWO: &str = "
vrrp_script ok {
    script /bin/true
    weight 5
}
vrrp_script unused {
    script /bin/true
}
vrrp_sync_group G {
    group {
        one
        two
    }
    track_interface {
        eth9 weight 7
    }
}
vrrp_instance one {
    interface eth0
    virtual_router_id 51
    virtual_ipaddress {
        10.0.0.100/24
    }
    virtual_ipaddress_excluded {
        10.0.0.101 dev eth1
    }
    track_script {
        ok
    }
}
vrrp_instance two {
    interface eth1
    virtual_router_id 52
    version 3
    advert_int 0.1
    unicast_peer {
        10.0.0.2
    }
    virtual_ipaddress {
        10.0.0.102
    }
}
vrrp_instance alone {
    interface eth2
    virtual_router_id 53
    nopreempt
    virtual_ipaddress {
        10.0.0.103
    }
}
";

    #[test]
    fn groups_gather_their_members_and_others_stand_alone() {
        let plan = plan(TWO);
        let units: Vec<_> = plan
            .units
            .iter()
            .map(|unit| {
                let name = unit.group.as_ref().map(|(name, _)| name.as_str());
                (name, unit.members.clone())
            })
            .collect();
        assert_eq!(units, [(Some("G"), vec![0, 1]), (None, vec![2])]);
        assert!(plan.routers[0].settings.in_sync_group);
        assert!(!plan.routers[2].settings.in_sync_group);
        assert_eq!(plan.routers[2].settings.preempt, Preempt::Never);
    }

    #[test]
    fn unused_scripts_do_not_run_and_weights_in_a_group_become_faults() {
        let plan = plan(TWO);
        assert_eq!(plan.scripts.len(), 1);
        let first: Vec<_> = plan.routers[0]
            .tracking
            .iter()
            .map(|tracking| (tracking.watched.clone(), tracking.weight))
            .collect();
        assert_eq!(
            first,
            [
                (Watched::Interface("eth0".into()), 0),
                (Watched::Script("ok".into()), 0),
                (Watched::Interface("eth9".into()), 0),
            ]
        );
    }

    #[test]
    fn excluded_addresses_are_installed_and_not_advertised() {
        let plan = plan(TWO);
        let one = &plan.routers[0];
        assert_eq!(one.settings.addresses.len(), 1);
        let installed: Vec<_> = one
            .addresses
            .iter()
            .map(|line| {
                (
                    line.address.to_string(),
                    line.prefix_length,
                    line.interface.as_str(),
                )
            })
            .collect();
        assert_eq!(
            installed,
            [
                ("10.0.0.100".to_owned(), 24, "eth0"),
                ("10.0.0.101".to_owned(), 32, "eth1")
            ]
        );
    }

    #[test]
    fn options_of_addresses_and_adverts_are_carried_over() {
        let text = TWO
            .replace(
                "10.0.0.100/24",
                "10.0.0.100/24 brd + label eth0:1 scope link",
            )
            .replace("advert_int 0.1", "advert_int 0.1\n    unicast_ttl 64");
        let plan = plan(&text);
        assert_eq!(
            plan.routers[0].addresses[0].options,
            Options {
                label: Some("eth0:1".to_owned()),
                broadcast: Some([10, 0, 0, 255].into()),
                scope: 253,
                ..Options::default()
            }
        );
        assert_eq!(plan.routers[0].addresses[1].options, Options::default());
        let ttl = |router: &RouterPlan| match router.settings.transport {
            Transport::Unicast { ttl, .. } => Some(ttl),
            Transport::Multicast { .. } => None,
        };
        let ttls: Vec<_> = plan.routers.iter().map(ttl).collect();
        assert_eq!(ttls, [None, Some(64), None]);
    }

    #[test]
    fn a_router_is_known_by_its_wire_not_by_its_name() {
        let before = plan(TWO);
        let after = plan(
            &TWO.replace("alone", "renamed")
                .replace("nopreempt", "priority 7"),
        );
        assert_eq!(before.routers[2].key, after.routers[2].key);
        assert_ne!(before.routers[0].key, before.routers[1].key);
        assert!(before.routers[1].key.unicast);
    }
}
