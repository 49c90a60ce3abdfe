//! What a suite runs against: one host, on which it finds a server, or a proxy in front of pairs, at the port that it expects.

use std::fmt;
use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use anyhow::{bail, ensure};
use serde::{Deserialize, Serialize};

use super::suite::{self, Outcome, Suite};
use crate::ns::{Host, Lab};
use crate::poll;
use crate::process::Process;
use crate::resp::Connection;
use crate::server::{Persistence, Server, Settings};
use crate::tandem_binary;

/// Where every suite looks for its server.
pub(super) const PORT: u16 = 6379;
/// The ports of the groups' servers, two for each group.
const SERVERS: [u16; 4] = [7001, 7002, 7003, 7004];
const GROUPS: [&str; 2] = ["one", "two"];
const HOST: &str = "suite";
/// For servers and daemons to be ready.
const BOUND: Duration = Duration::from_secs(60);
const LOOK: Duration = Duration::from_millis(50);
/// For a whole suite on a machine that is busy with other things.
const SUITE_BOUND: Duration = Duration::from_secs(3600);

/// What answers the suite.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Target {
    /// redis-server.
    Server,
    /// A proxy in front of a pair.
    OneGroup,
    /// A proxy in front of two pairs.
    TwoGroups,
}

impl Target {
    /// All of them; the server first, as the others are compared with it.
    pub const ALL: [Self; 3] = [Self::Server, Self::OneGroup, Self::TwoGroups];

    fn groups(self) -> &'static [&'static str] {
        match self {
            Self::Server => &[],
            Self::OneGroup => &GROUPS[..1],
            Self::TwoGroups => &GROUPS,
        }
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Server => "redis-server",
            Self::OneGroup => "one group",
            Self::TwoGroups => "two groups",
        })
    }
}

/// See the module.
pub(super) struct Stage {
    daemon: Option<Process>,
    servers: Vec<Server>,
    lab: Lab,
}

impl Stage {
    /// Starts everything anew: a suite leaves settings and functions behind.
    pub(super) fn build(target: Target) -> anyhow::Result<Self> {
        let lab = Lab::builder().host(HOST, "10.0.0.1/24").build()?;
        let host = lab.host(HOST);
        let groups = target.groups();
        let ports = match target {
            Target::Server => &[PORT][..],
            Target::OneGroup | Target::TwoGroups => &SERVERS[..2 * groups.len()],
        };
        let servers = ports
            .iter()
            .map(|&port| Server::start(host, &settings(port)))
            .collect::<anyhow::Result<Vec<_>>>()?;
        for pair in servers.chunks_exact(2) {
            pair[1].replicate(Some(pair[0].address()))?;
            pair[1].wait_until_synced(BOUND)?;
        }
        let daemon = match groups {
            [] => None,
            groups => Some(start_daemon(host, groups)?),
        };
        let mut stage = Self {
            daemon,
            servers,
            lab,
        };
        stage.wait_until_ready()?;
        Ok(stage)
    }

    fn host(&self) -> &Host {
        self.lab.host(HOST)
    }

    fn wait_until_ready(&mut self) -> anyhow::Result<()> {
        let at = SocketAddr::from(([127, 0, 0, 1], PORT));
        poll::until("an answer at the suite's port", BOUND, LOOK, || {
            if let Some(daemon) = &mut self.daemon
                && daemon.ended()?.is_some()
            {
                bail!("{}", daemon.obituary());
            }
            // One that needs every group.
            let flush = || {
                let mut connection = Connection::open(self.lab.host(HOST), at, BOUND)?;
                connection.demand(&["FLUSHALL"])
            };
            Ok(match flush() {
                Ok(_) => Ok(()),
                Err(error) => Err(format!("{error:#}")),
            })
        })
    }

    /// Runs a suite to its end.
    ///
    /// # Errors
    /// When it does not come to its end, tells of no test, or something died under it.
    pub(super) fn run(
        mut self,
        suite: Suite,
        folder: &Path,
        only: &[String],
    ) -> anyhow::Result<Vec<Outcome>> {
        let outcomes = self.host().dir().join("outcomes.jsonl");
        let folder = folder.canonicalize()?;
        let mut command = suite.command(&folder, only, &outcomes);
        let mut process = self.host().spawn("suite", &mut command)?;
        poll::until(&format!("{suite} to end"), SUITE_BOUND, LOOK, || {
            Ok(process.ended()?.ok_or_else(|| "it is running".to_owned()))
        })?;
        let told = suite::read(&outcomes)?;
        ensure!(!told.is_empty(), "{suite}: {}", process.obituary());
        for server in &mut self.servers {
            ensure!(server.is_running(), "a server did not outlive {suite}");
        }
        if let Some(daemon) = &mut self.daemon
            && daemon.ended()?.is_some()
        {
            bail!("{}", daemon.obituary());
        }
        Ok(told)
    }
}

fn settings(port: u16) -> Settings {
    Settings {
        port,
        persistence: Persistence::Aof,
        extra: vec!["repl-diskless-sync-delay 0".to_owned()],
        ..Settings::default()
    }
}

/// `tandem run` with both servers of each group on this host.
fn start_daemon(host: &Host, groups: &[&str]) -> anyhow::Result<Process> {
    let (address, dir) = (host.address(), host.dir().display());
    let mut text =
        format!("[host]\nid = \"{HOST}\"\naddress = \"{address}\"\nstate_dir = \"{dir}/state\"\n");
    for (name, ports) in groups.iter().zip(SERVERS.chunks_exact(2)) {
        let [first, second] = [ports[0], ports[1]].map(|port| format!("\"{address}:{port}\""));
        text.push_str(&format!(
            "\n[[group]]\nname = \"{name}\"\nservers = [{first}, {second}]\nboot_wait = \"2s\"\n\n[group.local]\n"
        ));
    }
    text.push_str(&format!(
        "\n[[proxy]]\nlisten = \"0.0.0.0:{PORT}\"\ngroups = {groups:?}\n"
    ));
    std::fs::write(host.dir().join("tandem.toml"), text)?;
    let mut command = Command::new(tandem_binary()?);
    command.args(["run", "-c", "tandem.toml"]);
    host.spawn("tandem", &mut command)
}
