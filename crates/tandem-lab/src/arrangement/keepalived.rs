//! keepalived with a check script and notify scripts, as people set it up by hand: by the usual tutorials, and tuned.

use std::process::Command;
use std::time::Duration;

use super::{Arrangement, Fault, Pair, Side, VIP};
use crate::client::Target;
use crate::server::Settings;

/// How the files are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tuning {
    /// VRRP 2 with adverts each second, a check every 2 s that must fail three times, `state MASTER` and preemption.
    Tutorial,
    /// VRRP 3 with adverts each 100 ms, a check each second (the least that this keepalived can) that fails at once.
    Tuned,
}

/// The arrangement.
#[derive(Debug)]
pub struct Keepalived {
    pair: Pair,
    tuning: Tuning,
}

impl Keepalived {
    /// Builds its network.
    ///
    /// # Errors
    /// As [`Pair::new`], and without real root: keepalived cannot run its scripts in a user namespace.
    pub fn new(tuning: Tuning, settings: Settings) -> anyhow::Result<Self> {
        anyhow::ensure!(
            crate::ns::is_real_root(),
            "keepalived cannot run its scripts as the root of a user namespace: needs real root"
        );
        Ok(Self {
            pair: Pair::new(settings)?,
            tuning,
        })
    }

    /// The file of one side.
    fn config(&self, side: Side) -> String {
        let dir = self.pair.host(side).dir().display().to_string();
        let (first, state, priority) = match (self.tuning, side) {
            (Tuning::Tutorial, Side::A) => ("", "MASTER", 100),
            (Tuning::Tutorial, Side::B) => ("", "BACKUP", 90),
            (Tuning::Tuned, Side::A) => ("nopreempt", "BACKUP", 250),
            (Tuning::Tuned, Side::B) => ("nopreempt", "BACKUP", 240),
        };
        let (version, advert, check) = match self.tuning {
            Tuning::Tutorial => (2, "1", "interval 2\n    fall 3\n    rise 2"),
            Tuning::Tuned => (
                3,
                "0.1",
                "interval 1\n    timeout 1\n    fall 1\n    rise 2",
            ),
        };
        format!(
            "global_defs {{
    router_id {host}
    script_user root
}}
vrrp_script check_redis {{
    script \"{dir}/check.sh\"
    {check}
}}
vrrp_instance redis {{
    state {state}
    {first}
    interface eth0
    version {version}
    virtual_router_id 51
    priority {priority}
    advert_int {advert}
    virtual_ipaddress {{
        {VIP}/24 dev eth0
    }}
    track_script {{
        check_redis
    }}
    notify_master \"{dir}/master.sh\"
    notify_backup \"{dir}/backup.sh\"
}}
",
            host = side.host(),
        )
    }
}

impl Arrangement for Keepalived {
    fn name(&self) -> String {
        match self.tuning {
            Tuning::Tutorial => "keepalived tutorial".to_owned(),
            Tuning::Tuned => "keepalived tuned".to_owned(),
        }
    }

    fn pair(&self) -> &Pair {
        &self.pair
    }

    fn pair_mut(&mut self) -> &mut Pair {
        &mut self.pair
    }

    fn target(&self) -> Target {
        Target::Address(self.pair.vip())
    }

    fn supports(&self, fault: Fault) -> bool {
        match fault {
            Fault::Switchover => false,
            Fault::KillServer
            | Fault::FreezeServer
            | Fault::PowerOff
            | Fault::KillDaemon
            | Fault::FreezeDaemon
            | Fault::RestartDaemon
            | Fault::FilterVrrp
            | Fault::CutBothUsed
            | Fault::CutStandbyUsed
            | Fault::CutStandbyIdle => true,
        }
    }

    fn start_daemons(&mut self, side: Side) -> anyhow::Result<()> {
        let port = self.pair.vip().port();
        let peer = self.pair.host(side.other()).address();
        let dir = self.pair.host(side).dir().to_owned();
        for (script, line) in [
            (
                "check.sh",
                format!("redis-cli -p {port} ping | grep -q PONG"),
            ),
            ("master.sh", format!("redis-cli -p {port} replicaof no one")),
            (
                "backup.sh",
                format!("redis-cli -p {port} replicaof {peer} {port}"),
            ),
        ] {
            let path = dir.join(script);
            std::fs::write(&path, format!("#!/bin/sh\n{line}\n"))?;
            use std::os::unix::fs::PermissionsExt;
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755))?;
        }
        let file = dir.join("keepalived.conf");
        std::fs::write(&file, self.config(side))?;
        let (parent, child) = (dir.join("keepalived.pid"), dir.join("keepalived-vrrp.pid"));
        // A host's /run is empty after a boot; a pid file of before would make keepalived refuse to start.
        for stale in [&parent, &child] {
            if stale.exists() {
                std::fs::remove_file(stale)?;
            }
        }
        let mut command = Command::new("keepalived");
        // VRRP only, in the foreground, with the log on standard error and its pid files beside its configuration.
        command
            .args([
                "--vrrp",
                "--dont-fork",
                "--log-console",
                "--log-detail",
                "--use-file",
            ])
            .arg(&file);
        command
            .arg("--pid")
            .arg(parent)
            .arg("--vrrp_pid")
            .arg(child);
        let daemon = self.pair.host(side).spawn("keepalived", &mut command)?;
        self.pair.add_daemon(side, daemon);
        if side == Side::A {
            // The order of the tutorials: the first host's keepalived has the address before the second one's starts.
            let _ = crate::poll::until(
                "the first keepalived",
                Duration::from_secs(10),
                Duration::from_millis(50),
                || Ok(self.pair.vip_primary()?.map(drop)),
            );
        }
        Ok(())
    }

    fn content(&mut self) -> anyhow::Result<Result<(), String>> {
        Ok(Ok(()))
    }
}
