//! Reads the file as this host sees it, and adds what only the shell knows it cannot do.
//!
//! The reader in `tandem_config` reports everything about the file's meaning. Here come the options that are understood
//! but not carried out by this program, each with its place and what to do instead, so that nothing is dropped silently.

use std::collections::BTreeMap;
use std::time::{SystemTime, UNIX_EPOCH};

use tandem_config::diagnostic::Diagnostic;
use tandem_config::keepalived::{self, Config, ConfigAddress, Env, ExitClass, Instance, Loaded};

use super::VrrpArgs;
use super::scripts::user;
use crate::files::HostFiles;

/// keepalived's user for scripts that name none.
pub(super) const SCRIPT_USER: &str = "keepalived_script";

/// The file with all that it includes. To be run only if the report has no errors.
pub(super) fn load(args: &VrrpArgs) -> Loaded {
    let env = Env {
        config_id: args.config_id.clone().unwrap_or_else(host_name),
        instance: String::new(),
        variables: std::env::vars_os()
            .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
            .collect::<BTreeMap<_, _>>(),
        seed: SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .map_or(0, |now| now.as_secs()),
        has_script_user: user::find(SCRIPT_USER, None).is_ok(),
    };
    let mut loaded = keepalived::read(&args.file, &HostFiles, &env);
    let mut found = beyond_this_program(&loaded.config);
    users(&loaded.config, &mut found);
    for diagnostic in found {
        loaded.report.push(diagnostic);
    }
    if loaded.report.has_errors() {
        loaded.exit = loaded.exit.max(ExitClass::ConfigErrors);
    }
    loaded.report.sort();
    loaded
}

/// What the reader accepts and this program does not do.
fn beyond_this_program(config: &Config) -> Vec<Diagnostic> {
    let mut found = Vec::new();
    for instance in &config.instances {
        not_carried_out(instance, &mut found);
    }
    scheduling(config, &mut found);
    found
}

/// The host's name up to its first dot, keepalived's default for `-i`.
fn host_name() -> String {
    let name = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    name.trim().split('.').next().unwrap_or_default().to_owned()
}

fn not_carried_out(instance: &Instance, found: &mut Vec<Diagnostic>) {
    for address in instance.addresses.iter().chain(&instance.excluded) {
        address_options(address, found);
    }
    let family = instance.is_ipv6();
    for address in &instance.addresses {
        if address.address.addr.is_ipv6() != family {
            found.push(
                Diagnostic::error("address-family", format!("`{}` is not of the instance's family", address.address.addr))
                    .at(address.at, "adverts of one instance carry one family")
                    .help("move it to virtual_ipaddress_excluded, or to an instance of its own in the same vrrp_sync_group"),
            );
        }
    }
}

/// What an address line may say and nothing is done about.
fn address_options(address: &ConfigAddress, found: &mut Vec<Diagnostic>) {
    // `noprefixroute` and `no_track` say what is so anyway.
    let flags = address.flags.iter().map(String::as_str);
    let mut unused: Vec<&str> = flags
        .filter(|flag| ["home", "mngtmpaddr", "autojoin"].contains(flag))
        .collect();
    if address.peer.is_some() {
        unused.push("peer");
    }
    if !unused.is_empty() {
        found.push(
            Diagnostic::warning(
                "not-carried-out",
                format!("not used on this address: {}", unused.join(", ")),
            )
            .at(address.at, "installed without")
            .help("nothing that a client of the address sees depends on it"),
        );
    }
}

/// Users that do not exist: their scripts would not run.
fn users(config: &Config, found: &mut Vec<Diagnostic>) {
    let checks = config.scripts.iter().filter_map(|def| match &def.test {
        Some(keepalived::ScriptTest::Run(script)) => Some(script),
        Some(keepalived::ScriptTest::Readable(..)) | None => None,
    });
    let global = &config.global;
    let readers = [&global.notify_fifo_script, &global.vrrp_notify_fifo_script];
    let notify = config
        .instances
        .iter()
        .map(|instance| &instance.notify)
        .chain(config.sync_groups.iter().map(|group| &group.notify))
        .flat_map(|notify| notify.scripts().map(|(_, script)| script));
    for script in checks.chain(notify).chain(readers.into_iter().flatten()) {
        let Some(name) = script.user.as_deref() else {
            continue;
        };
        if let Err(problem) = user::find(name, script.group.as_deref()) {
            found.push(
                Diagnostic::error("script-user", problem.to_string())
                    .at(script.at, "this script could not run")
                    .help("keepalived would drop the script"),
            );
        }
    }
    for fifo in [&global.notify_fifo, &global.vrrp_notify_fifo] {
        let Some((fifo, (name, group))) = fifo
            .as_ref()
            .and_then(|fifo| Some((fifo, fifo.owner.as_ref()?)))
        else {
            continue;
        };
        if let Err(problem) = user::find(name, group.as_deref()) {
            found.push(
                Diagnostic::error("script-user", problem.to_string())
                    .at(fifo.at, "this FIFO could not be given to its reader"),
            );
        }
    }
}

/// What belongs to whoever starts the daemon.
fn scheduling(config: &Config, found: &mut Vec<Diagnostic>) {
    let global = &config.global;
    for (keyword, used, instead) in [
        (
            "vrrp_rt_priority",
            global.rt_priority.is_some(),
            "CPUSchedulingPolicy=rr and CPUSchedulingPriority=",
        ),
        ("vrrp_priority", global.nice.is_some(), "Nice="),
        ("vrrp_no_swap", global.no_swap, "MemorySwapMax=0"),
        (
            "vrrp_cpu_affinity",
            !global.cpu_affinity.is_empty(),
            "CPUAffinity=",
        ),
    ] {
        if used {
            found.push(
                Diagnostic::warning(
                    "not-carried-out",
                    format!("{keyword} is left to the service manager"),
                )
                .help(format!("set {instead} in the systemd unit")),
            );
        }
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use tandem_config::keepalived::{MapFiles, read};

    use super::*;

    fn said(lines: &str, globals: &str) -> Vec<String> {
        let text = format!(
            "global_defs {{\n{globals}\n}}\nvrrp_instance a {{\ninterface eth0\nvirtual_router_id 1\n{lines}\n}}\n"
        );
        let files = MapFiles::new().with("/k.conf", text);
        let loaded = read(Path::new("/k.conf"), &files, &Env::default());
        beyond_this_program(&loaded.config)
            .into_iter()
            .map(|diagnostic| diagnostic.message)
            .collect()
    }

    #[test]
    fn nothing_that_is_not_done_is_dropped_silently() {
        let address = |line: &str| format!("virtual_ipaddress {{\n{line}\n}}");
        for (lines, globals, words) in [
            (address("10.0.0.9/24 peer 10.0.0.8"), "", "peer"),
            (
                address("fe80::9/64 mngtmpaddr home"),
                "",
                "mngtmpaddr, home",
            ),
            (
                address("10.0.0.9\nfe80::1"),
                "",
                "not of the instance's family",
            ),
            (
                address("10.0.0.9"),
                "vrrp_rt_priority 50",
                "vrrp_rt_priority",
            ),
        ] {
            let said = said(&lines, globals);
            assert!(
                said.iter().any(|message| message.contains(words)),
                "{lines}: {said:?}"
            );
        }
    }

    #[test]
    fn what_is_done_is_not_mentioned() {
        let lines = "unicast_ttl 64\nunicast_peer {\n10.0.0.2\n}\nvirtual_ipaddress {\n10.0.0.9/24 brd + dev eth1 label eth1:1 scope link noprefixroute no_track preferred_lft 9\n}";
        assert!(said(lines, "").is_empty());
    }
}
