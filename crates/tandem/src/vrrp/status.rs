//! What people and machines see: the log, the state file, process ids.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::Path;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde::Serialize;
use tandem_vrrp::machine::{FaultReason, FaultSource, Machine};
use tandem_vrrp::packet::CounterKind;
use tracing::{error, info, warn};

use super::daemon::{Daemon, Router};

/// Starts the log: one line per event on standard error.
pub(super) fn start_log(details: bool) {
    let level = if details {
        tracing::Level::DEBUG
    } else {
        tracing::Level::INFO
    };
    let log = tracing_subscriber::fmt()
        .with_writer(io::stderr)
        .with_max_level(level)
        .with_ansi(false)
        .with_target(false);
    // Whoever runs this command inside a process with a log keeps that one.
    let _ = if crate::cli::journal::listens() {
        log.event_format(crate::cli::journal::Lines).try_init()
    } else {
        log.try_init()
    };
}

/// Tells the service manager that the start is complete.
pub(super) fn ready() {
    if let Err(error) = crate::service::ready() {
        warn!("telling the service manager: {error}");
    }
}

/// Time since 1970, for stamps on the wire.
pub(super) fn unix_time() -> Duration {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default()
}

/// The state file.
#[derive(Debug, Serialize)]
struct Status {
    pid: u32,
    file: String,
    instances: Vec<InstanceStatus>,
    groups: Vec<GroupStatus>,
    scripts: Vec<ScriptStatus>,
}

#[derive(Debug, Serialize)]
struct InstanceStatus {
    name: String,
    state: String,
    interface: String,
    vrid: u8,
    version: u8,
    source: Option<String>,
    base_priority: u8,
    effective_priority: u8,
    advert_interval_ms: u128,
    master_down_ms: u128,
    master: Option<String>,
    addresses: Vec<String>,
    addresses_restored: u64,
    faults: Vec<String>,
    counters: BTreeMap<&'static str, u64>,
    peers: Vec<PeerStatus>,
    last_script: Option<LastScript>,
}

#[derive(Debug, Serialize)]
struct PeerStatus {
    address: String,
    priority: u8,
    interval_ms: u128,
    checksum: String,
}

#[derive(Debug, Serialize)]
struct LastScript {
    occasion: &'static str,
    script: String,
    result: String,
}

#[derive(Debug, Serialize)]
struct GroupStatus {
    name: String,
    state: String,
    members: Vec<String>,
    last_script: Option<LastScript>,
}

#[derive(Debug, Serialize)]
struct ScriptStatus {
    name: String,
    verdict: String,
    last_result: Option<String>,
}

impl Daemon {
    fn status(&self) -> Status {
        Status {
            pid: std::process::id(),
            file: self.args.file.display().to_string(),
            instances: (0..self.routers.len())
                .filter_map(|index| Some(self.instance(index, self.machine(index)?)))
                .collect(),
            groups: self
                .units
                .iter()
                .filter_map(|unit| {
                    let named = unit.named.as_ref()?;
                    Some(GroupStatus {
                        name: named.name.clone(),
                        state: unit.group.state().to_string(),
                        members: unit
                            .members
                            .iter()
                            .map(|index| self.routers[*index].plan.name.clone())
                            .collect(),
                        last_script: self.last_script(&named.name),
                    })
                })
                .collect(),
            scripts: self
                .checks
                .iter()
                .map(|(name, checking)| ScriptStatus {
                    name: name.clone(),
                    verdict: format!("{:?}", checking.counter.verdict()).to_uppercase(),
                    last_result: checking.last.as_ref().map(|last| last.words.clone()),
                })
                .collect(),
        }
    }

    fn instance(&self, index: usize, machine: &Machine) -> InstanceStatus {
        let Router { plan, restored, .. } = &self.routers[index];
        let settings = machine.settings();
        let held = self.vips.iter().filter(|(_, held)| held.router == index);
        InstanceStatus {
            name: plan.name.clone(),
            state: machine.state().to_string(),
            interface: plan.key.interface.clone(),
            vrid: settings.vrid.get(),
            version: settings.version.number(),
            source: machine.own_address().map(|own| own.to_string()),
            base_priority: settings.priority.get(),
            effective_priority: machine.effective_priority(),
            advert_interval_ms: settings.advert_interval.as_millis(),
            master_down_ms: machine.master_down().as_millis(),
            master: machine.master().map(|(address, _)| address.to_string()),
            addresses: held
                .map(|(vip, _)| format!("{}/{}", vip.address, vip.prefix_length))
                .collect(),
            addresses_restored: *restored,
            faults: machine
                .faults()
                .map(|(source, reason)| fault(source, reason))
                .collect(),
            counters: counters(machine),
            peers: machine
                .peers()
                .map(|(address, heard)| PeerStatus {
                    address: address.to_string(),
                    priority: heard.priority,
                    interval_ms: heard.interval.as_millis(),
                    checksum: format!("{:?}", heard.dialect),
                })
                .collect(),
            last_script: self.last_script(&plan.name),
        }
    }

    fn last_script(&self, owner: &str) -> Option<LastScript> {
        let finished = self.finished.get(owner)?;
        Some(LastScript {
            occasion: finished.occasion,
            script: finished.script.clone(),
            result: finished.words(),
        })
    }

    /// Keeps the state file as new as the state.
    pub(super) fn write_state_if_changed(&mut self) {
        if !std::mem::take(&mut self.dirty) {
            return;
        }
        if let Some(path) = &self.args.state_file
            && let Err(error) = replace(path, &self.text())
        {
            error!("state file {}: {error}", path.display());
        }
    }

    /// SIGUSR1: the state into its file, or without one into the log.
    pub(super) fn dump(&mut self) {
        if self.args.state_file.is_some() {
            self.dirty = true;
            self.write_state_if_changed();
        } else {
            info!(
                "{}",
                serde_json::to_string(&self.status()).unwrap_or_default()
            );
        }
    }

    fn text(&self) -> String {
        let mut text = serde_json::to_string_pretty(&self.status()).unwrap_or_default();
        text.push('\n');
        text
    }

    pub(super) fn write_pid_files(&self) {
        for path in self.pid_files() {
            if let Err(error) = fs::write(path, format!("{}\n", std::process::id())) {
                error!("pid file {}: {error}", path.display());
            }
        }
    }

    pub(super) fn remove_pid_files(&self) {
        for path in self.pid_files() {
            if let Err(error) = fs::remove_file(path) {
                warn!("pid file {}: {error}", path.display());
            }
        }
    }

    fn pid_files(&self) -> impl Iterator<Item = &Path> {
        let files = [&self.args.pid_file, &self.args.vrrp_pid_file];
        files.into_iter().flatten().map(std::path::PathBuf::as_path)
    }
}

/// Readers see the old content or the new, never half of it.
fn replace(path: &Path, text: &str) -> io::Result<()> {
    let mut name = path.as_os_str().to_owned();
    name.push(".new");
    fs::write(&name, text)?;
    fs::rename(&name, path)
}

/// What is wrong with a router, for the end of a log line.
pub(super) fn faults(machine: &Machine) -> String {
    let all: Vec<String> = machine
        .faults()
        .map(|(source, reason)| fault(source, reason))
        .collect();
    if all.is_empty() {
        String::new()
    } else {
        format!(": {}", all.join(", "))
    }
}

fn fault(source: &FaultSource, reason: FaultReason) -> String {
    let what = match source {
        FaultSource::Interface(name) => format!("interface {name}"),
        FaultSource::OwnAddress => "own address".to_owned(),
        FaultSource::Script(name) => format!("script {name}"),
        FaultSource::File(name) => format!("file {name}"),
        FaultSource::Process(name) => format!("process {name}"),
        FaultSource::SyncGroup => "sync group".to_owned(),
        FaultSource::Service(name) => name.clone(),
    };
    match reason {
        FaultReason::Failed => what,
        FaultReason::Pending => format!("{what} (no result yet)"),
    }
}

/// By keepalived's names.
fn counters(machine: &Machine) -> BTreeMap<&'static str, u64> {
    let counters = machine.counters();
    let mut all = BTreeMap::from([
        ("advert_rcvd", counters.advert_received),
        ("advert_sent", counters.advert_sent),
        ("become_master", counters.become_master),
        ("release_master", counters.release_master),
        ("pri_zero_rcvd", counters.priority_zero_received),
        ("pri_zero_sent", counters.priority_zero_sent),
    ]);
    for (name, kind) in [
        ("packet_len_err", CounterKind::PacketLength),
        ("ip_ttl_err", CounterKind::Ttl),
        ("version_err", CounterKind::Version),
        ("invalid_type_rcvd", CounterKind::InvalidType),
        ("chk_err", CounterKind::Checksum),
        ("vrid_err", CounterKind::Vrid),
        ("invalid_authtype", CounterKind::InvalidAuthType),
        ("authtype_mismatch", CounterKind::AuthTypeMismatch),
        ("auth_failure", CounterKind::AuthFailure),
        ("auth_ext_missing", CounterKind::HmacMissing),
        ("auth_ext_key", CounterKind::HmacKey),
        ("auth_ext_mac", CounterKind::HmacMac),
        ("auth_ext_replay", CounterKind::HmacReplay),
        ("advert_interval_err", CounterKind::Interval),
        ("addr_list_err", CounterKind::AddressList),
    ] {
        all.insert(name, counters.dropped(kind));
    }
    all
}
