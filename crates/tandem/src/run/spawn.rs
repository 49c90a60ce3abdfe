//! Starting the server (`manage = "spawn"`): fenced, as its user, and outliving the daemon.
//!
//! The server starts as a replica of nobody, so it is read-only until the keeper has decided, and a
//! replica that still points here cannot be wiped by it: a replica without a link serves no full sync. It is
//! put into a session of its own and not tied to the daemon's life; the next daemon adopts it again.

use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};
use tandem_config::settings::Manage;
use tandem_core::server::FENCE_ADDRESS;

use crate::linux::users;

/// Starts the server of a `spawn` group, or the unit of a `systemd` group. Returns once it is started; whether it
/// answers is for the watch to see.
pub(crate) fn start(manage: &Manage) -> Result<()> {
    match manage {
        Manage::Adopt => bail!("manage = \"adopt\": somebody else starts this server"),
        Manage::Spawn {
            redis_conf,
            redis_server,
            run_as,
        } => start_process(redis_conf, redis_server, run_as.as_deref()),
        Manage::Systemd { unit } => start_unit(unit),
    }
}

fn start_process(conf: &Path, server: &Path, run_as: Option<&str>) -> Result<()> {
    let (host, port) = FENCE_ADDRESS.split_once(':').context("fence address")?;
    let mut command = Command::new(server);
    command
        .arg(conf)
        .args(["--replicaof", host, port])
        .args(["--daemonize", "no", "--supervised", "no"])
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    if let Some(dir) = conf.parent() {
        command.current_dir(dir);
    }
    if let Some(name) = run_as {
        let user = users::find(name)
            .with_context(|| format!("run_as = \"{name}\""))?
            .with_context(|| format!("run_as = \"{name}\": there is no such user"))?;
        command.uid(user.uid).gid(user.gid);
    }
    // Signals to the daemon's group, a terminal's Ctrl-C for instance, are not for the server.
    command.process_group(0);
    let child = command
        .spawn()
        .with_context(|| format!("starting {}", server.display()))?;
    // Reaped by a thread, or it would stay a zombie that looks like a process.
    std::thread::Builder::new()
        .name("reap".to_owned())
        .spawn(move || {
            let mut child = child;
            let _ = child.wait();
        })?;
    Ok(())
}

fn start_unit(unit: &str) -> Result<()> {
    let status = Command::new("systemctl")
        .args(["start", "--no-block", "--", unit])
        .stdin(Stdio::null())
        .status()
        .context("systemctl")?;
    if !status.success() {
        bail!("systemctl start {unit}: {status}");
    }
    Ok(())
}
