//! Joining names, once the whole file is known.
//!
//! keepalived drops a reference to what is defined further down, and runs unchecked; here the order does not matter, and a
//! reference to what is defined nowhere is an error.

use super::Findings;
use super::model::{Config, Tracked};
use crate::diagnostic::{Diagnostic, Span};
use crate::suggest::nearest;

/// What can be referred to: name, weight, reversed, where the name stands.
type Definitions = Vec<(String, i16, bool, Span)>;

pub(super) fn resolve(config: &mut Config, findings: &mut Findings) {
    let scripts: Definitions = config
        .scripts
        .iter()
        .map(|def| (def.name.clone(), def.weight, def.reverse, def.at))
        .collect();
    let files: Definitions = config
        .track_files
        .iter()
        .map(|def| (def.name.clone(), def.weight, def.reverse, def.at))
        .collect();
    let processes: Definitions = config
        .track_processes
        .iter()
        .map(|def| (def.name.clone(), def.weight, def.reverse, def.at))
        .collect();
    for (kind, definitions) in [
        ("vrrp_script", &scripts),
        ("track_file", &files),
        ("vrrp_track_process", &processes),
    ] {
        distinct(kind, definitions, findings);
    }
    for instance in &mut config.instances {
        join(
            "vrrp_script",
            &mut instance.track_scripts,
            &scripts,
            findings,
        );
        join("track_file", &mut instance.track_files, &files, findings);
        join(
            "vrrp_track_process",
            &mut instance.track_processes,
            &processes,
            findings,
        );
    }
    for group in &mut config.sync_groups {
        join("vrrp_script", &mut group.track_scripts, &scripts, findings);
        join("track_file", &mut group.track_files, &files, findings);
        join(
            "vrrp_track_process",
            &mut group.track_processes,
            &processes,
            findings,
        );
    }
    members(config, findings);
    instances(config, findings);
    if config.instances.is_empty() {
        findings.advice(Diagnostic::warning(
            "no-instance",
            "there is no usable vrrp_instance, so there is nothing to do",
        ));
    }
}

fn distinct(kind: &str, definitions: &Definitions, findings: &mut Findings) {
    for (index, (name, _, _, at)) in definitions.iter().enumerate() {
        if let Some((_, _, _, earlier)) = definitions[..index].iter().find(|(n, ..)| n == name) {
            findings.config_error(
                Diagnostic::error("same-name", format!("two {kind} are called `{name}`"))
                    .at(*at, "this one")
                    .at(*earlier, "and this one"),
            );
        }
    }
}

fn join(
    kind: &str,
    references: &mut [Tracked],
    definitions: &Definitions,
    findings: &mut Findings,
) {
    for reference in references {
        let found = definitions
            .iter()
            .find(|(name, ..)| *name == reference.name);
        let Some((_, weight, reverse, at)) = found else {
            let name = &reference.name;
            let label = match nearest(name, definitions.iter().map(|(name, ..)| name.as_str())) {
                Some(near) => format!("did you mean `{near}`?"),
                None => format!("no {kind} of this name in the whole file"),
            };
            findings.config_error(
                Diagnostic::error("undefined", format!("`{name}` is not defined"))
                    .at(reference.at, label)
                    .help("keepalived would drop the reference and run without this check"),
            );
            continue;
        };
        if reference.weight.is_none() {
            reference.weight = Some(*weight);
            reference.reverse = *reverse;
        }
        if at.file == reference.at.file && at.start > reference.at.start {
            findings.config_error(
                Diagnostic::warning("defined-below", format!("`{}` is defined below its use", reference.name))
                    .at(reference.at, "used here")
                    .at(*at, "defined here")
                    .help("tandem finds it; a keepalived on the other host drops the reference: move the definition up"),
            );
        }
    }
}

fn members(config: &mut Config, findings: &mut Findings) {
    let names: Vec<&str> = config
        .instances
        .iter()
        .map(|instance| instance.name.as_str())
        .collect();
    for group in &mut config.sync_groups {
        group.members.retain(|(name, at)| {
            let known = names.contains(&name.as_str());
            if !known {
                let label = match nearest(name, names.iter().copied()) {
                    Some(near) => format!("did you mean `{near}`?"),
                    None => "no vrrp_instance of this name in the whole file".to_owned(),
                };
                findings.config_error(
                    Diagnostic::error("undefined", format!("`{name}` is not an instance"))
                        .at(*at, label),
                );
            }
            known
        });
    }
}

fn instances(config: &Config, findings: &mut Findings) {
    for (index, instance) in config.instances.iter().enumerate() {
        for earlier in &config.instances[..index] {
            let same_wire = instance.router_id == earlier.router_id
                && instance.interface == earlier.interface
                && instance.is_ipv6() == earlier.is_ipv6()
                && instance.unicast_peers.is_empty() == earlier.unicast_peers.is_empty();
            let clash = if instance.name == earlier.name {
                "the same name"
            } else if same_wire {
                "the same virtual_router_id on the same interface"
            } else {
                continue;
            };
            findings.config_error(
                Diagnostic::error("same-instance", format!("two instances have {clash}"))
                    .at(instance.at, "this one")
                    .at(earlier.at, "and this one"),
            );
        }
        if instance.addresses.is_empty() && !instance.no_addresses {
            findings.config_error(
                Diagnostic::warning(
                    "no-address",
                    format!("instance `{}` has no virtual_ipaddress", instance.name),
                )
                .at(instance.at, "it elects a master, and nothing follows")
                .help("add virtual_ipaddress, or no_virtual_ipaddress if that is meant"),
            );
        }
    }
}
