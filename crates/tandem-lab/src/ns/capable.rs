//! Whether this process may build namespaces, and the re-exec that makes it so without root.

use std::fmt;
use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};
use std::sync::OnceLock;

use super::names;

/// Set in the process that [`ensure_capable`] re-executed, so that it is not tried for ever.
const INNER: &str = "TANDEM_LAB_INNER";

/// Why the lab cannot run here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Incapable(String);

impl fmt::Display for Incapable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Incapable {}

/// Whether this process can build a lab: root (real, or of a user namespace), `ip`, `nft`, and a kernel that agrees.
///
/// The answer is found once, by making and removing a namespace, since rights can be missing in more ways than can
/// be listed.
///
/// # Errors
/// The reason, in words for the person who would have to change it.
pub fn capability() -> Result<(), Incapable> {
    static ANSWER: OnceLock<Result<(), Incapable>> = OnceLock::new();
    ANSWER.get_or_init(probe).clone()
}

/// Makes this process capable: when it is not root, runs it again inside its own user, mount and network namespaces.
///
/// To be called first in `main`, before threads and output: where a re-exec happens, it does not return. Inside,
/// files belong to the calling user and nothing outside can be changed.
///
/// # Errors
/// When neither root nor user namespaces are to be had.
pub fn ensure_capable() -> Result<(), Incapable> {
    if rustix::process::geteuid().is_root() || std::env::var_os(INNER).is_some() {
        return capability();
    }
    let allowed = Command::new("unshare")
        .args(["-Urnm", "true"])
        .stderr(Stdio::null())
        .status();
    if !allowed.is_ok_and(|status| status.success()) {
        return Err(Incapable(
            "not root, and this kernel does not let users make user namespaces (unshare -Urnm fails)".to_owned(),
        ));
    }
    let program = std::env::current_exe()
        .map_err(|error| Incapable(format!("own executable unknown: {error}")))?;
    let error = Command::new("unshare")
        .arg("-Urnm")
        .arg(program)
        .args(std::env::args_os().skip(1))
        .env(INNER, "1")
        .exec();
    Err(Incapable(format!("unshare could not be run: {error}")))
}

fn probe() -> Result<(), Incapable> {
    if !rustix::process::geteuid().is_root() {
        return Err(Incapable(
            "needs root, or to be run under `unshare -Urnm`".to_owned(),
        ));
    }
    for tool in ["ip", "nft"] {
        let found = Command::new(tool)
            .arg("-V")
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .status();
        if found.is_err() {
            return Err(Incapable(format!(
                "`{tool}` is not installed (scripts/install-packages installs it)"
            )));
        }
    }
    let name = names::unique("probe");
    if try_namespace(&name).is_err() && outer_uid() != 0 {
        // In a user namespace /run belongs to the real root. This mount namespace is our own: cover it.
        run("mount", &["-t", "tmpfs", "tmpfs", "/run"])?;
        try_namespace(&name)?;
    }
    try_namespace(&name)?;
    run("ip", &["netns", "del", &name])
}

/// Makes the namespace unless it is there.
fn try_namespace(name: &str) -> Result<(), Incapable> {
    if names::path(name).exists() {
        return Ok(());
    }
    run("ip", &["netns", "add", name])
}

fn run(program: &str, args: &[&str]) -> Result<(), Incapable> {
    let output = Command::new(program)
        .args(args)
        .output()
        .map_err(|error| Incapable(format!("`{program}` could not be run: {error}")))?;
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr);
    Err(Incapable(format!(
        "`{program} {}` failed: {}",
        args.join(" "),
        said.trim()
    )))
}

/// Whether this process is root outside every user namespace too.
///
/// The root of a user namespace has one user and may not change its groups, which keepalived does before each script.
#[must_use]
pub fn is_real_root() -> bool {
    rustix::process::geteuid().is_root() && outer_uid() == 0
}

/// The user outside any user namespace: 0 for the real root, the caller's own for the root of a user namespace.
pub(super) fn outer_uid() -> u32 {
    std::fs::read_to_string("/proc/self/uid_map")
        .ok()
        .and_then(|map| {
            map.split_whitespace()
                .nth(1)
                .and_then(|outer| outer.parse().ok())
        })
        .unwrap_or(0)
}
