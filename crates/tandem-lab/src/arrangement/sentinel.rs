//! Redis Sentinel: three of them, on both servers' hosts and on a third one; clients ask them for the primary.

use std::net::SocketAddr;
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use anyhow::anyhow;

use super::{Arrangement, Fault, Pair, Side, THIRD};
use crate::client::{Target, sentinel_answer};
use crate::ns::Host;
use crate::process::Process;
use crate::resp::{Connection, Reply};
use crate::server::Settings;

const PORT: u16 = 26379;
const GROUP: &str = "orders";
/// For a Sentinel's answer.
const PATIENCE: Duration = Duration::from_millis(300);

/// The arrangement.
#[derive(Debug)]
pub struct Sentinel {
    pair: Pair,
    down_after: Duration,
}

impl Sentinel {
    /// Builds its network; `down_after` is Sentinel's `down-after-milliseconds`.
    ///
    /// # Errors
    /// As [`Pair::new`].
    pub fn new(down_after: Duration, settings: Settings) -> anyhow::Result<Self> {
        Ok(Self {
            pair: Pair::new(settings)?,
            down_after,
        })
    }

    fn hosts(&self) -> [&Arc<Host>; 3] {
        // The third one first: it is the one that no fault takes away.
        [
            self.pair.lab().host(THIRD),
            self.pair.host(Side::A),
            self.pair.host(Side::B),
        ]
    }

    fn launch(&self, host: &Arc<Host>) -> anyhow::Result<Process> {
        let primary = self.pair.server_address(Side::A);
        let dir = host.dir().join("sentinel");
        std::fs::create_dir_all(&dir)?;
        let file = host.dir().join("sentinel.conf");
        // A Sentinel keeps its state in its file: one that comes back goes on with what it knew.
        if !file.exists() {
            let text = format!(
                "port {PORT}\nbind 0.0.0.0\nprotected-mode no\ndir {dir}\nsentinel monitor {GROUP} {ip} {port} 2\n\
                 sentinel down-after-milliseconds {GROUP} {down_after}\nsentinel failover-timeout {GROUP} 10000\n",
                dir = dir.display(),
                ip = primary.ip(),
                port = primary.port(),
                down_after = self.down_after.as_millis(),
            );
            std::fs::write(&file, text)?;
        }
        host.spawn("sentinel", Command::new("redis-sentinel").arg(file))
    }

    fn connect(host: &Arc<Host>) -> anyhow::Result<Connection> {
        Ok(Connection::open(
            host,
            SocketAddr::from(([127, 0, 0, 1], PORT)),
            PATIENCE,
        )?)
    }

    /// What keeps one Sentinel from being able to act.
    fn discontent(host: &Arc<Host>) -> anyhow::Result<Option<String>> {
        let mut connection = Self::connect(host)?;
        let quorum = connection
            .demand(&["SENTINEL", "CKQUORUM", GROUP])?
            .text()
            .unwrap_or_default();
        if !quorum.contains("3 usable") {
            return Ok(Some(quorum));
        }
        let Reply::Array(replicas) = connection.demand(&["SENTINEL", "REPLICAS", GROUP])? else {
            return Ok(Some("no list of replicas".to_owned()));
        };
        let usable = replicas.iter().any(|replica| {
            let Reply::Array(fields) = replica else {
                return false;
            };
            let texts: Vec<_> = fields.iter().filter_map(Reply::text).collect();
            let field = |name: &str| {
                texts
                    .chunks(2)
                    .find(|pair| pair[0] == name)
                    .and_then(|pair| pair.get(1).cloned())
            };
            field("flags").as_deref() == Some("slave")
                && field("master-link-status").as_deref() == Some("ok")
        });
        Ok(if usable {
            None
        } else {
            Some("no usable replica".to_owned())
        })
    }
}

impl Arrangement for Sentinel {
    fn name(&self) -> String {
        format!("sentinel {} ms", self.down_after.as_millis())
    }

    fn pair(&self) -> &Pair {
        &self.pair
    }

    fn pair_mut(&mut self) -> &mut Pair {
        &mut self.pair
    }

    fn target(&self) -> Target {
        let sentinels = self
            .hosts()
            .map(|host| SocketAddr::new(host.address(), PORT))
            .to_vec();
        Target::Sentinels {
            sentinels,
            group: GROUP.to_owned(),
        }
    }

    fn supports(&self, fault: Fault) -> bool {
        match fault {
            Fault::KillServer
            | Fault::FreezeServer
            | Fault::PowerOff
            | Fault::Switchover
            | Fault::CutBothUsed
            | Fault::CutStandbyUsed
            | Fault::CutStandbyIdle => true,
            // A Sentinel is no part of the path to the primary, and there is no VRRP.
            Fault::KillDaemon | Fault::FreezeDaemon | Fault::RestartDaemon | Fault::FilterVrrp => {
                false
            }
        }
    }

    fn start_daemons(&mut self, side: Side) -> anyhow::Result<()> {
        let daemon = self.launch(self.pair.host(side))?;
        self.pair.add_daemon(side, daemon);
        if !self.pair.has_third_daemon() {
            let third = self.launch(self.pair.lab().host(THIRD))?;
            self.pair.add_third_daemon(third);
        }
        Ok(())
    }

    fn content(&mut self) -> anyhow::Result<Result<(), String>> {
        for host in self.hosts() {
            let discontent =
                Self::discontent(host).unwrap_or_else(|error| Some(format!("{error:#}")));
            if let Some(reason) = discontent {
                return Ok(Err(format!("sentinel on {}: {reason}", host.name())));
            }
        }
        Ok(Ok(()))
    }

    fn primary(&mut self) -> anyhow::Result<Result<Side, String>> {
        let answer = self.hosts().into_iter().find_map(|host| {
            let reply = Self::connect(host)
                .ok()?
                .call(&["SENTINEL", "GET-MASTER-ADDR-BY-NAME", GROUP])
                .ok()?;
            sentinel_answer(&reply).ok()
        });
        let Some(address) = answer else {
            return Ok(Err("no Sentinel answers".to_owned()));
        };
        let side = Side::BOTH
            .into_iter()
            .find(|side| self.pair.server_address(*side) == address);
        let side = side.ok_or_else(|| anyhow!("Sentinel names {address}, a stranger"))?;
        Ok(match self.pair.server(side).is_primary() {
            Ok(true) => Ok(side),
            Ok(false) => Err(format!(
                "Sentinel names {side:?}, whose server is a replica"
            )),
            Err(error) => Err(format!("Sentinel names {side:?}: {error:#}")),
        })
    }

    fn switchover(&mut self) -> anyhow::Result<()> {
        Self::connect(self.pair.lab().host(THIRD))?
            .demand(&["SENTINEL", "FAILOVER", GROUP])
            .map(drop)
    }
}
