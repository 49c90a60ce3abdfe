//! From the configuration file to the machine's state and back.

use std::time::Duration;

use tandem_config::sentinel as conf;
use tandem_core::sentinel::ids::{ConfigEpoch, ElectionEpoch, Endpoint, GroupName, SentinelId};
use tandem_core::sentinel::saved::{SavedGroup, SavedPeer, SavedState};
use tandem_core::sentinel::settings::{Compat, Globals, GroupSettings};

/// The state that a file holds. `fresh` is the id of a sentinel that starts for the first time.
pub(super) fn state_of(file: &conf::SentinelConf, fresh: &SentinelId) -> SavedState {
    let id = file
        .myid
        .as_deref()
        .and_then(SentinelId::parse)
        .unwrap_or_else(|| fresh.clone());
    SavedState {
        current_epoch: ElectionEpoch(file.current_epoch),
        globals: globals_of(file),
        groups: file.groups.iter().map(|g| group_of(g, &id)).collect(),
        id,
    }
}

/// The version that the file asks for.
pub(super) fn compat_of(file: conf::Compat) -> Compat {
    match file {
        conf::Compat::V7_0 => Compat::V7_0,
        conf::Compat::V7_2 => Compat::V7_2,
    }
}

fn globals_of(file: &conf::SentinelConf) -> Globals {
    Globals {
        port: file.server.port,
        tls_port: file.server.tls.port,
        tls_replication: file.server.tls.replication,
        announce_ip: file.announce_ip.clone(),
        announce_port: file.announce_port,
        resolve_hostnames: file.resolve_hostnames,
        announce_hostnames: file.announce_hostnames,
        sentinel_user: file.sentinel_user.clone(),
        sentinel_pass: file.sentinel_pass.as_ref().map(text),
        requirepass: file.server.requirepass.as_ref().map(text),
        deny_scripts_reconfig: file.deny_scripts_reconfig,
        compat: compat_of(file.compat),
    }
}

fn group_of(group: &conf::GroupConf, own: &SentinelId) -> SavedGroup {
    let at = |host: &str, port| Endpoint::new(host, port);
    SavedGroup {
        settings: GroupSettings {
            name: GroupName(group.name.clone()),
            quorum: group.quorum,
            down_after: Duration::from_millis(group.down_after_ms),
            failover_timeout: Duration::from_millis(group.failover_timeout_ms),
            parallel_syncs: group.parallel_syncs,
            auth_user: group.auth_user.clone(),
            auth_pass: group.auth_pass.as_ref().map(text),
            notification_script: group.notification_script.clone(),
            client_reconfig_script: group.client_reconfig_script.clone(),
            rename_commands: group
                .rename_commands
                .iter()
                .map(|renamed| (renamed.from.to_ascii_uppercase(), renamed.to.clone()))
                .collect(),
            reboot_down_after: Duration::from_millis(group.master_reboot_down_after_ms),
        },
        primary: at(&group.host, group.port),
        config_epoch: ConfigEpoch(group.config_epoch),
        leader_epoch: ElectionEpoch(group.leader_epoch),
        replicas: group
            .known_replicas
            .iter()
            .map(|replica| at(&replica.host, replica.port))
            .collect(),
        peers: group
            .known_sentinels
            .iter()
            .filter_map(|peer| {
                // Our own line in a copied file, or an id that no sentinel has.
                let id = SentinelId::parse(&peer.runid).filter(|id| id != own)?;
                Some(SavedPeer {
                    id,
                    at: at(&peer.host, peer.port),
                })
            })
            .collect(),
    }
}

/// A user as a line of the file, beginning with the word `user`.
pub(super) fn user_line(user: &conf::AclUser) -> String {
    format!("user {} {}", user.name, user.rules.join(" "))
}

/// A user from such a line.
pub(super) fn user_of(line: &str) -> Option<conf::AclUser> {
    let mut words = line.split_ascii_whitespace();
    (words.next()? == "user").then_some(())?;
    Some(conf::AclUser {
        name: words.next()?.to_owned(),
        rules: words.map(str::to_owned).collect(),
    })
}

/// Puts the machine's state into the configuration that the file is written from.
pub(super) fn put_state(file: &mut conf::SentinelConf, state: &SavedState) {
    file.myid = Some(state.id.as_str().to_owned());
    file.current_epoch = state.current_epoch.0;
    file.announce_ip.clone_from(&state.globals.announce_ip);
    file.announce_port = state.globals.announce_port;
    file.resolve_hostnames = state.globals.resolve_hostnames;
    file.announce_hostnames = state.globals.announce_hostnames;
    file.sentinel_user.clone_from(&state.globals.sentinel_user);
    file.sentinel_pass = state.globals.sentinel_pass.as_deref().map(secret);
    file.groups = state.groups.iter().map(conf_of).collect();
}

fn conf_of(group: &SavedGroup) -> conf::GroupConf {
    let settings = &group.settings;
    conf::GroupConf {
        name: settings.name.0.clone(),
        host: group.primary.host.clone(),
        port: group.primary.port,
        quorum: settings.quorum,
        down_after_ms: millis(settings.down_after),
        failover_timeout_ms: millis(settings.failover_timeout),
        parallel_syncs: settings.parallel_syncs,
        auth_user: settings.auth_user.clone(),
        auth_pass: settings.auth_pass.as_deref().map(secret),
        notification_script: settings.notification_script.clone(),
        client_reconfig_script: settings.client_reconfig_script.clone(),
        master_reboot_down_after_ms: millis(settings.reboot_down_after),
        rename_commands: settings
            .rename_commands
            .iter()
            .map(|(from, to)| conf::RenamedCommand {
                from: from.clone(),
                to: to.clone(),
            })
            .collect(),
        config_epoch: group.config_epoch.0,
        leader_epoch: group.leader_epoch.0,
        known_replicas: group
            .replicas
            .iter()
            .map(|at| conf::KnownReplica {
                host: at.host.clone(),
                port: at.port,
            })
            .collect(),
        known_sentinels: group
            .peers
            .iter()
            .map(|peer| conf::KnownSentinel {
                host: peer.at.host.clone(),
                port: peer.at.port,
                runid: peer.id.as_str().to_owned(),
            })
            .collect(),
    }
}

/// A password as text. One that is no UTF-8 could not be told to `SENTINEL SET` either.
fn text(secret: &conf::Secret) -> String {
    String::from_utf8_lossy(secret.as_bytes()).into_owned()
}

fn secret(text: &str) -> conf::Secret {
    conf::Secret::new(text.as_bytes())
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_file_holds_comes_back_into_it() {
        let mut file = conf::SentinelConf {
            myid: Some("0123456789abcdef0123456789abcdef01234567".to_owned()),
            current_epoch: 7,
            announce_ip: Some("10.0.0.9".to_owned()),
            sentinel_pass: Some(secret("s")),
            ..conf::SentinelConf::default()
        };
        let mut group = conf::GroupConf::new("m", "10.0.0.1", 6379, 2);
        group.auth_pass = Some(secret("a b#c"));
        group.config_epoch = 5;
        group.leader_epoch = 6;
        group.rename_commands.push(conf::RenamedCommand {
            from: "CONFIG".to_owned(),
            to: "guessme".to_owned(),
        });
        group.known_replicas.push(conf::KnownReplica {
            host: "10.0.0.2".to_owned(),
            port: 6379,
        });
        group.known_sentinels.push(conf::KnownSentinel {
            host: "10.0.0.3".to_owned(),
            port: 26379,
            runid: "f".repeat(40),
        });
        file.groups.push(group);
        let other = SentinelId::parse(&"a".repeat(40)).expect("forty digits");
        let state = state_of(&file, &other);
        let mut again = conf::SentinelConf::default();
        put_state(&mut again, &state);
        assert_eq!(again, file);
    }

    #[test]
    fn a_first_start_takes_the_fresh_id_and_a_copied_file_does_not_know_itself() {
        let mut file = conf::SentinelConf::default();
        let mut group = conf::GroupConf::new("m", "10.0.0.1", 6379, 2);
        group.known_sentinels.push(conf::KnownSentinel {
            host: "10.0.0.3".to_owned(),
            port: 26379,
            runid: "a".repeat(40),
        });
        file.groups.push(group);
        let fresh = SentinelId::parse(&"a".repeat(40)).expect("forty digits");
        let state = state_of(&file, &fresh);
        assert_eq!(state.id, fresh);
        assert!(state.groups[0].peers.is_empty());
    }
}
