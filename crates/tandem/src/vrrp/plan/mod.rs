//! A `keepalived.conf` as what this program runs: routers, their groups, and what each of them tracks.
//!
//! Pure: no clock, no socket, no interface. What a router is, for a reload, is its [`Key`], not its name, as in keepalived.
//! [`router`] reads one instance, [`wire`] what of it the VRRP machine goes by.

mod router;
#[cfg(test)]
mod tests;
mod wire;

use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

use tandem_config::keepalived::{Config, Notify, Script, ScriptDef, TrackFile, TrackProcess};
use tandem_vrrp::settings::Settings;
use tandem_vrrp::{Family, Version, Vrid};
use thiserror::Error;

use crate::linux::addr::Options;
use router::router;

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
