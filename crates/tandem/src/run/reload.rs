//! What a reload cannot change under a running group.

use tandem_config::settings as config;

/// What a reload cannot change under a running group, by name.
pub(crate) fn needs_restart(old: &config::Settings, new: &config::Settings) -> Vec<String> {
    let mut out = Vec::new();
    if old.host != new.host {
        out.push("[host]".to_owned());
    }
    if old.peers != new.peers {
        out.push("[[peer]]".to_owned());
    }
    for group in &old.groups {
        match new.groups.iter().find(|other| other.name == group.name) {
            None => out.push(format!("group {} (gone from the file)", group.name)),
            Some(other) => {
                let moved = group.server != other.server
                    || group.manage != other.manage
                    || group.vip != other.vip
                    || group.vrrp != other.vrrp
                    || group.down_after != other.down_after;
                if moved {
                    out.push(format!(
                        "group {} (server, manage, down_after, vip or vrrp)",
                        group.name
                    ));
                }
            }
        }
    }
    for group in &new.groups {
        if !old.groups.iter().any(|other| other.name == group.name) {
            out.push(format!("group {} (new)", group.name));
        }
    }
    out
}
