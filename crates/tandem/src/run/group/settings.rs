//! What the keeper is told of a group's file: its settings at the start, and the part that a reload replaces.

use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result};
use tandem_config::settings as config;
use tandem_config::value::MinuteOfDay;
use tandem_core::ids::HostId;
use tandem_core::keeper::settings as core;
use tandem_vrrp::machine::Machine;

use super::sibling::{ABSENT_AFTER, PACE};
use crate::linux::clock::boot_time;
use crate::redis::raw::Credentials;

/// A server that refuses writes for its disk is sick after this.
const SICK_GRACE: Duration = Duration::from_secs(5);

fn boot_id() -> String {
    std::fs::read_to_string("/proc/sys/kernel/random/boot_id")
        .map(|text| text.trim().to_owned())
        .unwrap_or_default()
}

fn random_u64() -> Result<u64> {
    let mut bytes = [0; 8];
    rustix::rand::getrandom(&mut bytes, rustix::rand::GetRandomFlags::empty())?;
    Ok(u64::from_le_bytes(bytes))
}

/// What the group's servers are sent to let us in: the user of the file and the password of its file.
pub(crate) fn credentials(group: &config::Group) -> Result<Option<Credentials>> {
    let Some(path) = &group.password_file else {
        return Ok(None);
    };
    let password = password(path)?;
    Ok(Some(Credentials {
        user: group
            .username
            .as_ref()
            .map(|user| user.clone().into_bytes()),
        password,
    }))
}

/// The password in a file, without the line end.
pub(crate) fn password(path: &Path) -> Result<Vec<u8>> {
    let bytes = std::fs::read(path).with_context(|| format!("password_file {}", path.display()))?;
    Ok(bytes.trim_ascii_end().to_vec())
}

/// The keeper's settings with what a group's file says of policies and bounds.
pub(super) fn core_policies(base: &core::Settings, group: &config::Group) -> core::Settings {
    core::Settings {
        preempt: match group.preempt {
            config::Preempt::Never => core::Preempt::Never,
            config::Preempt::AfterSync => core::Preempt::AfterSync,
        },
        resync: match group.resync {
            config::Resync::Automatic if group.resync_window.is_none() => core::Resync::Automatic,
            config::Resync::Automatic | config::Resync::Ask => core::Resync::Ask,
        },
        max_lag: group.max_lag_bytes,
        boot_wait: group.boot_wait,
        flap_block: group.flap_block,
        drain_deadline: group.drain_deadline,
        switchover_deadline: group.switchover_deadline,
        vip_lifetime: group.vip.as_ref().map(|vip| vip.lifetime),
        ..base.clone()
    }
}

/// The minute of the day here and now: the resync window is in local time, as people mean it.
pub(super) fn minute_of_day() -> MinuteOfDay {
    let now = jiff::Zoned::now();
    let minute = i16::from(now.hour()) * 60 + i16::from(now.minute());
    MinuteOfDay(u16::try_from(minute).unwrap_or(0))
}

/// What the keeper is called among its group's: its host, or its server where both are on one host.
pub(super) fn seat_host(settings: &config::Settings, group: &config::Group) -> HostId {
    match group.other() {
        Some(_) => HostId::new(group.server.to_string()),
        None => HostId::new(&settings.host.id),
    }
}

/// The other server: here, or on the peer, where it is taken to have the same port until its own daemon speaks.
pub(super) fn peer_server(
    settings: &config::Settings,
    group: &config::Group,
) -> Option<SocketAddr> {
    let on_peer = || {
        let peer = settings.peers.first()?;
        Some(SocketAddr::new(peer.address, group.server.port()))
    };
    group.other().or_else(on_peer)
}

/// Of two servers on one host the one that is named first is preferred.
pub(super) fn priority(group: &config::Group) -> u8 {
    match &group.elector {
        config::Elector::Vrrp(vrrp) => vrrp.priority,
        config::Elector::Local { preferred, .. } => 100 + u8::from(*preferred),
    }
}

/// Each keeper has a gate of its own.
pub(super) fn gate_name(group: &config::Group) -> String {
    match &group.elector {
        config::Elector::Vrrp(_) => group.name.clone(),
        config::Elector::Local { preferred, .. } => {
            format!(
                "{}-{}",
                group.name,
                if *preferred { "first" } else { "second" }
            )
        }
    }
}

pub(super) fn core_settings(
    settings: &config::Settings,
    group: &config::Group,
    machine: Option<&Machine>,
) -> Result<core::Settings> {
    let peer = match group.other() {
        Some(other) => Some(HostId::new(other.to_string())),
        None => settings.peers.first().map(|peer| HostId::new(&peer.id)),
    };
    let base = core::Settings {
        host: seat_host(settings, group),
        peer,
        one_host: group.other().is_some(),
        group: group.name.clone(),
        server_address: group.server.to_string(),
        // Until its own statement says otherwise: the same port on the other host.
        peer_server_address: peer_server(settings, group).map(|server| server.to_string()),
        manage: match group.manage {
            config::Manage::Adopt => core::Manage::Adopt,
            config::Manage::Spawn { .. } | config::Manage::Systemd { .. } => core::Manage::Spawn,
        },
        preempt: core::Preempt::Never,
        resync: core::Resync::Automatic,
        alone: settings.proxies.iter().any(|proxy| {
            let here = |shard: &config::Shard| {
                shard.name == group.name && shard.at == config::ShardAt::Here
            };
            proxy.replicas.ack.is_some_and(|ack| ack.alone) && proxy.shards.iter().any(here)
        }),
        down_after: group.down_after,
        sick_grace: SICK_GRACE,
        master_down: machine.map_or(ABSENT_AFTER, Machine::master_down),
        advert_interval: group.vrrp().map_or(PACE, |vrrp| vrrp.advert_interval),
        max_lag: group.max_lag_bytes,
        boot_wait: group.boot_wait,
        flap_block: group.flap_block,
        drain_deadline: group.drain_deadline,
        switchover_deadline: group.switchover_deadline,
        priority: priority(group),
        vip_lifetime: group.vip.as_ref().map(|vip| vip.lifetime),
        boot_id: boot_id(),
        incarnation: random_u64()?,
        turns_from: u64::try_from(boot_time().as_millis()).unwrap_or(u64::MAX),
    };
    Ok(core_policies(&base, group))
}
