//! One `vrrp_instance` as a router: where it is, its addresses, and what it and its group track.

use tandem_config::keepalived::{
    Checksum, ConfigAddress, Instance, SyncGroup, Tracked, TrackedInterface,
};
use tandem_vrrp::Version;

use super::wire::settings;
use super::{Key, PlanAddress, PlanError, RouterPlan, Tracking, Watched};
use crate::linux::addr::Options;

pub(super) fn router(
    instance: &Instance,
    group: Option<&SyncGroup>,
) -> Result<RouterPlan, PlanError> {
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
