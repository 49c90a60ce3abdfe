//! The host: rights, ports, files and room. Its network is in `net`.

use std::io;
use std::net::TcpListener;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::os::unix::net::UnixStream;
use std::path::Path;

use tandem_config::settings::{Group, Hook, Settings};

use super::Finding;
use crate::cli::status::bytes;
use crate::linux::gate::Gate;
use crate::linux::users;
use crate::run::{control_path, group_dir};

/// `CAP_NET_ADMIN`, `linux/capability.h`.
const CAP_NET_ADMIN: u32 = 12;
/// `CAP_NET_RAW`.
const CAP_NET_RAW: u32 = 13;
/// The name of the gate while it is tried.
const PROBE: &str = "check.probe";

/// The two capabilities that `tandem run` lives on, as this process has them.
pub(super) fn rights() -> Vec<Finding> {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let effective = status
        .lines()
        .find_map(|line| line.strip_prefix("CapEff:"))
        .and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok());
    judge_rights(effective)
}

fn judge_rights(effective: Option<u64>) -> Vec<Finding> {
    let Some(mask) = effective else {
        return vec![Finding::note(
            "rights",
            "/proc/self/status does not say",
            "",
        )];
    };
    let of = |bit: u32, name: &str, use_for: &str| {
        if mask & (1 << bit) != 0 {
            Finding::fine(name, "held by this process")
        } else {
            Finding::fails(
                name,
                format!("missing: no {use_for}"),
                "run as root, or from packaging/tandem.service, which grants it",
            )
        }
    };
    vec![
        of(
            CAP_NET_ADMIN,
            "CAP_NET_ADMIN",
            "VIP, no kernel gate, no destroying of sockets",
        ),
        of(CAP_NET_RAW, "CAP_NET_RAW", "adverts, no announcements"),
    ]
}

/// The port for peers: free, or our own daemon's.
pub(super) fn port(settings: &Settings) -> Finding {
    let address = settings.host.socket_addr();
    let item = "port for peers";
    match TcpListener::bind(address) {
        Ok(_) => Finding::fine(item, format!("{address} is free")),
        Err(error) if error.kind() == io::ErrorKind::AddrInUse => {
            let ours = UnixStream::connect(control_path(&settings.host.state_dir)).is_ok();
            if ours {
                Finding::fine(item, format!("{address} is the running daemon's"))
            } else {
                Finding::fails(
                    item,
                    format!("{address} is in use by another program"),
                    "redis-sentinel uses 26379 too: stop it, or set host.port here and peer.port there",
                )
            }
        }
        Err(error) if error.kind() == io::ErrorKind::AddrNotAvailable => Finding::fails(
            item,
            format!("{} is no address of this host", settings.host.address),
            "host.address is how the other host reaches this one; is this file the other host's?",
        ),
        Err(error) => Finding::fails(item, format!("{address}: {error}"), ""),
    }
}

/// The shared secret: there, long enough, nobody else's business.
pub(super) fn secret(settings: &Settings) -> Finding {
    let item = "secret_file";
    let Some(path) = &settings.host.secret_file else {
        return Finding::note(item, "none: there is no peer", "");
    };
    let name = path.display();
    let make = format!("tandem init makes one; it must be the same on both hosts: {name}");
    match std::fs::read(path) {
        Err(error) => Finding::fails(item, format!("{name}: {error}"), make),
        Ok(text) if text.trim_ascii().len() < 16 => {
            Finding::fails(item, format!("{name}: shorter than 16 bytes"), make)
        }
        Ok(_) => {
            let mode = std::fs::metadata(path).map_or(0, |meta| meta.permissions().mode());
            if mode & 0o077 != 0 {
                let advice = format!("chmod 600 {name}");
                Finding::warning(
                    item,
                    format!("{name}: others may read it ({:o})", mode & 0o777),
                    advice,
                )
            } else {
                Finding::fine(item, format!("{name}, for its owner only"))
            }
        }
    }
}

/// Whether the kernel takes a gate: an empty table is made and removed again.
pub(super) fn gate() -> Finding {
    let item = "kernel gate";
    match Gate::install(PROBE, &[], &[]).and_then(Gate::remove) {
        Ok(()) => Finding::fine(item, "nftables works"),
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => Finding::fails(
            item,
            format!("nftables: {error}"),
            "CAP_NET_ADMIN is missing; without the gate a frozen server can only be killed",
        ),
        Err(error) => Finding::warning(
            item,
            format!("nftables: {error}"),
            "load nf_tables and nft_reject_inet; without the gate a frozen server can only be killed",
        ),
    }
}

/// Whether a proxy's adverts can be forged.
pub(super) fn signed(settings: &Settings) -> Finding {
    if settings.host.secret_file.is_some() {
        return Finding::fine("adverts", "signed with the secret");
    }
    Finding::warning(
        "adverts",
        "not signed: whoever can send on this segment can take the address away",
        "give the hosts of this proxy the same secret_file",
    )
}

/// Time comes from the kernel; a clock that it does not trust itself makes deadlines late.
pub(super) fn clock_source() -> Finding {
    let path = "/sys/devices/system/clocksource/clocksource0/current_clocksource";
    match std::fs::read_to_string(path).as_deref().map(str::trim) {
        Ok(source @ ("jiffies" | "refined-jiffies")) => Finding::warning(
            "clock",
            format!("the kernel counts time by {source}, which drifts"),
            "give the machine a proper clock source (tsc, kvm-clock, hpet)",
        ),
        Ok(source) => Finding::fine("clock", format!("source {source}")),
        Err(_) => Finding::note("clock", "source not known", ""),
    }
}

/// Programs that will be run at a change, when it is too late to find them missing.
pub(super) fn hooks(group: &Group) -> Vec<Finding> {
    let hooks = &group.hooks;
    let all: Vec<&Hook> = [
        &hooks.on_promote,
        &hooks.on_demote,
        &hooks.on_vip,
        &hooks.on_fault,
    ]
    .into_iter()
    .flatten()
    .collect();
    let scripts = group.vrrp().into_iter().flat_map(|vrrp| &vrrp.track_script);
    let programs = all
        .iter()
        .filter_map(|hook| hook.command.first())
        .chain(scripts.filter_map(|track| track.script.first()));
    let mut findings: Vec<Finding> = programs
        .filter_map(|path| runnable("hook", Path::new(path)))
        .collect();
    findings.dedup();
    findings
}

/// A finding if it cannot be run.
fn runnable(item: &str, path: &Path) -> Option<Finding> {
    match std::fs::metadata(path) {
        Err(error) => Some(Finding::fails(
            item,
            format!("{}: {error}", path.display()),
            "",
        )),
        Ok(meta) if !meta.is_file() || meta.mode() & 0o111 == 0 => Some(Finding::fails(
            item,
            format!("{} is not executable", path.display()),
            format!("chmod +x {}", path.display()),
        )),
        Ok(_) => None,
    }
}

/// What `manage = "spawn"` starts, and as whom.
pub(super) fn spawn(conf: &Path, server: &Path, run_as: Option<&str>) -> Vec<Finding> {
    let mut findings = Vec::new();
    findings.extend(runnable("redis_server", server));
    if let Err(error) = std::fs::File::open(conf) {
        findings.push(Finding::fails(
            "redis_conf",
            format!("{}: {error}", conf.display()),
            "",
        ));
    }
    if let Some(name) = run_as
        && !users::find(name).is_ok_and(|user| user.is_some())
    {
        findings.push(Finding::fails(
            "run_as",
            format!("there is no user {name} in /etc/passwd"),
            "",
        ));
    }
    if findings.is_empty() {
        findings.push(Finding::fine(
            "restart of redis",
            "tandem starts it as a replica of nobody: restarts are safe",
        ));
    }
    findings
}

/// Room for journal and archive: an archive may need as much as the data.
pub(super) fn room(settings: &Settings, group: &Group, data: u64) -> Finding {
    let dir = group_dir(settings, &group.name);
    // The folder is made by the daemon: what counts is the disk below the nearest one that exists.
    let existing = dir
        .ancestors()
        .find(|path| path.exists())
        .unwrap_or_else(|| Path::new("/"));
    match rustix::fs::statvfs(existing) {
        Err(error) => Finding::fails("state_dir", format!("{}: {error}", existing.display()), ""),
        Ok(disk) => {
            let free = disk.f_bavail.saturating_mul(disk.f_frsize);
            let shown = format!(
                "{}: {} free, data {}",
                dir.display(),
                bytes(free),
                bytes(data)
            );
            if free < data {
                let advice =
                    "an archive may need room for all data; without it a resync waits for a person";
                Finding::warning("state_dir", shown, advice)
            } else {
                Finding::fine("state_dir", shown)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::Verdict;
    use super::*;

    #[test]
    fn missing_rights_are_named_one_by_one() {
        let table: [(u64, [Verdict; 2]); 4] = [
            (0x3000, [Verdict::Fine, Verdict::Fine]),
            (0x1000, [Verdict::Fine, Verdict::Fails]),
            (0x2000, [Verdict::Fails, Verdict::Fine]),
            (0, [Verdict::Fails, Verdict::Fails]),
        ];
        for (mask, expected) in table {
            let found = judge_rights(Some(mask));
            assert_eq!([found[0].verdict, found[1].verdict], expected, "{mask:x}");
            assert_eq!(found[0].item, "CAP_NET_ADMIN");
        }
    }
}
