//! The systemd unit of a server: what it restarts, and in which state.
//!
//! Asked by `systemctl show`, whose output is lines of `Property=value`. Nothing here starts or changes a unit.

use std::collections::BTreeMap;
use std::process::Stdio;
use std::time::Duration;

use super::Finding;
use super::fence::AfterRestart;

/// systemd that does not answer by then is stuck.
const ANSWER_WITHIN: Duration = Duration::from_secs(5);
const PROPERTIES: &str = "LoadState,ActiveState,UnitFileState,Restart,ExecStart";
const INCLUDE: &str =
    "tandem init writes an include for redis.conf (replicaof 127.0.0.1 1) that makes restarts safe";

/// What matters of a unit.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Unit {
    /// `loaded`, `not-found`, `masked`.
    pub(super) load_state: String,
    /// `active`, `inactive`, `failed`.
    pub(super) active_state: String,
    /// `enabled`, `disabled`, `static`.
    pub(super) file_state: String,
    /// `no`, `always`, `on-failure`.
    pub(super) restart: String,
    /// The command line that starts the server, the program first.
    pub(super) arguments: Vec<String>,
}

/// Asks systemd. The error is a sentence.
pub(super) async fn show(name: &str) -> Result<Unit, String> {
    let output = tokio::process::Command::new("systemctl")
        .args(["show", "--no-pager", "--property", PROPERTIES, "--", name])
        .stdin(Stdio::null())
        .kill_on_drop(true)
        .output();
    let output = tokio::time::timeout(ANSWER_WITHIN, output)
        .await
        .map_err(|_| format!("systemctl gave no answer in {} s", ANSWER_WITHIN.as_secs()))?
        .map_err(|error| format!("systemctl: {error}"))?;
    if !output.status.success() {
        let text = String::from_utf8_lossy(&output.stderr);
        return Err(format!(
            "systemctl: {}",
            text.lines().next().unwrap_or("failed")
        ));
    }
    Ok(parse(&String::from_utf8_lossy(&output.stdout)))
}

fn parse(text: &str) -> Unit {
    let mut properties: BTreeMap<&str, &str> = BTreeMap::new();
    for (name, value) in text.lines().filter_map(|line| line.split_once('=')) {
        // A unit with several commands has several ExecStart lines; the last one runs on.
        properties.insert(name, value);
    }
    let get = |name: &str| {
        properties
            .get(name)
            .map(|value| (*value).to_owned())
            .unwrap_or_default()
    };
    Unit {
        load_state: get("LoadState"),
        active_state: get("ActiveState"),
        file_state: get("UnitFileState"),
        restart: get("Restart"),
        arguments: arguments(&get("ExecStart")),
    }
}

/// `{ path=... ; argv[]=/usr/bin/redis-server /etc/redis/redis.conf ; ignore_errors=no ; ... }`
fn arguments(exec: &str) -> Vec<String> {
    let Some((_, rest)) = exec.split_once("argv[]=") else {
        return Vec::new();
    };
    let line = rest.split_once(" ; ").map_or(rest, |(line, _)| line);
    line.split_whitespace().map(str::to_owned).collect()
}

/// The unit that a process belongs to, by its control group.
pub(super) fn of_process(pid: u32) -> Option<String> {
    in_cgroup(&std::fs::read_to_string(format!("/proc/{pid}/cgroup")).ok()?)
}

fn in_cgroup(text: &str) -> Option<String> {
    let mut names = text.lines().filter_map(|line| line.rsplit('/').next());
    names
        .find(|name| name.ends_with(".service"))
        .map(str::to_owned)
}

/// A server that somebody else starts (`manage = "adopt"`): best effort, unless it comes up fenced.
pub(super) fn judge_adopted(unit: Option<&Unit>, after: &AfterRestart) -> Finding {
    let item = "restart of redis";
    let by = match unit {
        Some(unit) if unit.restart != "no" && !unit.restart.is_empty() => {
            format!("systemd restarts it (Restart={}), ", unit.restart)
        }
        Some(_) | None => String::new(),
    };
    match after {
        AfterRestart::Fenced(place) => Finding::fine(
            item,
            format!("{by}it comes up as a replica of nobody ({place}): restarts are safe"),
        ),
        AfterRestart::Writable => Finding::warning(
            item,
            format!(
                "{by}it comes up writable, and a replica that finds it empty is wiped before tandem \
                 can detach it: best effort only (rule 18)"
            ),
            INCLUDE,
        ),
        AfterRestart::Follows(address) => Finding::warning(
            item,
            format!(
                "{by}it comes up as a replica of {address}, which may be the wrong one by then (rule 18)"
            ),
            INCLUDE,
        ),
        AfterRestart::Unknown(why) => Finding::warning(
            item,
            format!("{by}how it comes up cannot be told: {why} (rule 18)"),
            INCLUDE,
        ),
    }
}

/// A unit that tandem starts (`manage = "systemd"`): it must come up fenced, or tandem's promise is void.
pub(super) fn judge_managed(name: &str, unit: &Unit, after: &AfterRestart) -> Vec<Finding> {
    let item = "systemd unit";
    if unit.load_state != "loaded" {
        return vec![Finding::fails(
            item,
            format!("{name}: {}", unit.load_state),
            "group.unit names the server's unit, such as redis-server.service",
        )];
    }
    let state = format!("{name}: {}, Restart={}", unit.active_state, unit.restart);
    let mut findings = vec![match after {
        AfterRestart::Fenced(place) => Finding::fine(
            item,
            format!("{state}; it comes up as a replica of nobody ({place})"),
        ),
        AfterRestart::Writable | AfterRestart::Follows(_) | AfterRestart::Unknown(_) => {
            let how = match after {
                AfterRestart::Follows(address) => format!("as a replica of {address}"),
                AfterRestart::Unknown(why) => format!("in a state that cannot be told ({why})"),
                AfterRestart::Writable | AfterRestart::Fenced(_) => "writable".to_owned(),
            };
            Finding::refused(
                "rule 18",
                item,
                format!("{state}; it comes up {how}, before tandem has decided"),
                INCLUDE,
            )
        }
    }];
    if unit.file_state == "disabled" {
        findings.push(Finding::note(
            "boot of redis",
            format!("{name} is disabled: after a boot, tandem starts it"),
            "",
        ));
    }
    findings
}

#[cfg(test)]
mod tests {
    use super::super::Verdict;
    use super::*;

    /// Debian's own unit, as `systemctl show` prints it.
    const DEBIAN: &str = "\
Restart=always
ExecStart={ path=/usr/bin/redis-server ; argv[]=/usr/bin/redis-server /etc/redis/redis.conf --supervised systemd --daemonize no ; ignore_errors=no ; start_time=[Mon 2026-05-04 09:12:44 UTC] ; stop_time=[n/a] ; pid=812 ; code=(null) ; status=0/0 }
LoadState=loaded
ActiveState=active
UnitFileState=enabled
";
    const FENCED: &str = "\
Restart=no
ExecStart={ path=/usr/bin/redis-server ; argv[]=/usr/bin/redis-server /etc/redis/redis.conf --supervised systemd --daemonize no --replicaof 127.0.0.1 1 ; ignore_errors=no ; start_time=[n/a] ; stop_time=[n/a] ; pid=0 ; code=(null) ; status=0/0 }
LoadState=loaded
ActiveState=inactive
UnitFileState=disabled
";
    const MISSING: &str = "\
Restart=no
LoadState=not-found
ActiveState=inactive
UnitFileState=
";

    #[test]
    fn what_systemctl_prints() {
        let unit = parse(DEBIAN);
        assert_eq!(unit.restart, "always");
        assert_eq!(unit.load_state, "loaded");
        assert_eq!(unit.arguments.len(), 6);
        assert_eq!(unit.arguments[1], "/etc/redis/redis.conf");
        assert_eq!(
            parse(FENCED).arguments[6..],
            ["--replicaof", "127.0.0.1", "1"]
        );
        let unit = parse(MISSING);
        assert_eq!(unit.load_state, "not-found");
        assert!(unit.arguments.is_empty());
    }

    #[test]
    fn units_by_control_group() {
        for (text, name) in [
            (
                "0::/system.slice/redis-server.service\n",
                Some("redis-server.service"),
            ),
            (
                "1:name=systemd:/system.slice/redis@a.service\n0::/\n",
                Some("redis@a.service"),
            ),
            ("0::/user.slice/session-3.scope\n", None),
            ("0::/\n", None),
        ] {
            assert_eq!(in_cgroup(text).as_deref(), name);
        }
    }

    #[test]
    fn the_drop_in_that_is_shipped_is_what_is_looked_for() {
        let path = concat!(
            env!("CARGO_MANIFEST_DIR"),
            "/../../packaging/redis-server.service.d/tandem.conf"
        );
        let text = std::fs::read_to_string(path).unwrap();
        let line = text
            .lines()
            .rfind(|line| line.starts_with("ExecStart=/"))
            .unwrap();
        let shown = format!(
            "ExecStart={{ path=x ; argv[]={} ; pid=0 }}",
            &line["ExecStart=".len()..]
        );
        let unit = parse(&shown);
        let conf = std::path::Path::new("/etc/redis/redis.conf");
        let files = tandem_config::keepalived::MapFiles::new().with(conf, "port 6379\n");
        let after = super::super::fence::after_restart(&files, Some(conf), &unit.arguments);
        assert_eq!(after, AfterRestart::Fenced("the command line".to_owned()));
    }

    #[test]
    fn an_adopted_server_is_best_effort_until_it_comes_up_fenced() {
        let unit = parse(DEBIAN);
        let open = judge_adopted(Some(&unit), &AfterRestart::Writable);
        assert_eq!(open.verdict, Verdict::Warning);
        assert!(open.result.contains("Restart=always"), "{}", open.result);
        assert!(open.advice.contains("replicaof 127.0.0.1 1"));
        let fenced = judge_adopted(Some(&unit), &AfterRestart::Fenced("x".to_owned()));
        assert_eq!(fenced.verdict, Verdict::Fine);
    }

    #[test]
    fn a_managed_unit_must_come_up_fenced() {
        let name = "redis-server.service";
        let refused = judge_managed(name, &parse(DEBIAN), &AfterRestart::Writable);
        assert_eq!(
            (refused[0].verdict, refused[0].rule),
            (Verdict::Refused, Some("rule 18"))
        );
        let fine = judge_managed(name, &parse(FENCED), &AfterRestart::Fenced("x".to_owned()));
        assert_eq!(fine[0].verdict, Verdict::Fine);
        let missing = judge_managed(name, &parse(MISSING), &AfterRestart::Writable);
        assert_eq!(missing[0].verdict, Verdict::Fails);
    }
}
