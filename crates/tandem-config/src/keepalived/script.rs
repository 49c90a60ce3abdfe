//! Can the scripts run, and is it safe to run them?
//!
//! keepalived drops a script that is missing or not executable and says so in one line of its log; the address is then held
//! without its health check. Here that is an error. The security test is keepalived's: what root runs must be out of
//! reach of everyone else, along the whole path.

use std::path::Path;

use super::model::{Config, Script, ScriptTest};
use super::{Env, Files, Findings};
use crate::diagnostic::Diagnostic;

/// Where keepalived looks for a program without a slash.
const PATH: &[&str] = &[
    "/usr/local/bin",
    "/usr/bin",
    "/bin",
    "/usr/local/sbin",
    "/usr/sbin",
    "/sbin",
];

pub(super) fn check(config: &Config, files: &dyn Files, env: &Env, findings: &mut Findings) {
    let checks = config.scripts.iter().filter_map(|def| match &def.test {
        Some(ScriptTest::Run(script)) => Some(("script", script)),
        // An unreadable file is a result of this test, not a mistake.
        Some(ScriptTest::Readable(..)) | None => None,
    });
    let groups = config
        .sync_groups
        .iter()
        .flat_map(|group| group.notify.scripts());
    let instances = config
        .instances
        .iter()
        .flat_map(|instance| instance.notify.scripts());
    let fifos = [
        ("notify_fifo_script", &config.global.notify_fifo_script),
        (
            "vrrp_notify_fifo_script",
            &config.global.vrrp_notify_fifo_script,
        ),
    ];
    let fifos = fifos
        .iter()
        .filter_map(|(keyword, script)| script.as_ref().map(|script| (*keyword, script)));
    let mut as_root = None;
    for (keyword, script) in checks.chain(groups).chain(instances).chain(fifos) {
        let secure = config.global.enable_script_security;
        if !one(keyword, script, files, secure, findings) {
            continue;
        }
        let root = match script.user.as_deref() {
            Some(user) => user == "root",
            None => !env.has_script_user,
        };
        if root && script.user.is_none() {
            as_root.get_or_insert(script.at);
        }
    }
    let Some(at) = as_root else { return };
    if config.global.enable_script_security {
        findings.config_error(
            Diagnostic::error("script-user", "scripts would run as root by default")
                .at(at, "names no user, and there is no user keepalived_script")
                .help("add script_user to global_defs; keepalived would drop these scripts"),
        );
    } else {
        findings.security(
            Diagnostic::warning(
                "script-security",
                "scripts run as root without a check of who may change them",
            )
            .at(at, "the first of them")
            .help("add script_user and enable_script_security to global_defs"),
        );
    }
}

/// One script. False: it cannot run.
fn one(
    keyword: &str,
    script: &Script,
    files: &dyn Files,
    secure: bool,
    findings: &mut Findings,
) -> bool {
    let Some(program) = script.argv.first() else {
        return false;
    };
    let found = if program.contains('/') {
        files
            .facts(Path::new(program))
            .ok()
            .map(|facts| (program.clone(), facts))
    } else {
        PATH.iter().find_map(|folder| {
            let path = format!("{folder}/{program}");
            files
                .facts(Path::new(&path))
                .ok()
                .map(|facts| (path, facts))
        })
    };
    let Some((path, facts)) = found else {
        findings.config_error(
            Diagnostic::error("script-missing", format!("`{program}` does not exist"))
                .at(script.at, format!("{keyword} could not run it"))
                .help("keepalived would drop the script and hold the address without it"),
        );
        return false;
    };
    if !facts.is_file || facts.mode & 0o111 == 0 {
        findings.config_error(
            Diagnostic::error(
                "script-not-executable",
                format!("`{path}` is not executable"),
            )
            .at(script.at, format!("{keyword} could not run it"))
            .help(format!(
                "chmod +x {path}; keepalived would drop the script and hold the address without it"
            )),
        );
        return false;
    }
    let runs_as_root = script.user.as_deref().is_none_or(|user| user == "root");
    if runs_as_root
        && path.starts_with('/')
        && let Some((part, why)) = unsafe_part(Path::new(&path), files)
    {
        let found = if secure {
            Diagnostic::error(
                "script-unsafe",
                format!("`{path}` could be changed by others than root"),
            )
            .help("keepalived would drop the script under enable_script_security")
        } else {
            Diagnostic::warning(
                "script-unsafe",
                format!("`{path}` could be changed by others than root"),
            )
            .help("whoever may change it may do anything here as root")
        };
        findings.security(found.at(script.at, format!("{part} {why}")));
    }
    true
}

/// The first part of the path that someone other than root may change.
fn unsafe_part(path: &Path, files: &dyn Files) -> Option<(String, &'static str)> {
    let mut parts: Vec<&Path> = path.ancestors().collect();
    parts.reverse();
    for part in parts {
        let Ok(facts) = files.facts(part) else {
            continue;
        };
        let why = if facts.uid != 0 {
            "does not belong to root"
        } else if facts.mode & 0o1000 != 0 && !facts.is_file {
            continue;
        } else if facts.mode & 0o002 != 0 {
            "is writable by everyone"
        } else if facts.mode & 0o020 != 0 && facts.gid != 0 {
            "is writable by a group"
        } else {
            continue;
        };
        return Some((part.display().to_string(), why));
    }
    None
}
