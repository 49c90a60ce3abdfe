//! The part that all arrangements share: the network, two servers, the daemons' processes, faults and their repair.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, bail};

use super::Fault;
use crate::ns::{Host, Lab};
use crate::process::Process;
use crate::server::{Server, Settings};

/// The address that follows the primary, where the arrangement has one.
pub const VIP: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 0, 0, 100));
/// The host of the measuring client.
pub const CLIENT: &str = "client";
/// The host of a second client, which stands on the other side of a cut.
pub const OTHER_SIDE: &str = "other-side";
/// The host of a third voter, which stands with the standby when the network is parted.
pub const THIRD: &str = "c";

/// For a server of a few GiB to reach its replica.
const SYNC_BOUND: Duration = Duration::from_secs(180);

/// One of the two hosts with a server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Side {
    /// Host `a`, 10.0.0.1, primary at first.
    A,
    /// Host `b`, 10.0.0.2.
    B,
}

impl Side {
    /// Both, A first.
    pub const BOTH: [Self; 2] = [Self::A, Self::B];

    /// The name of its host.
    #[must_use]
    pub fn host(self) -> &'static str {
        match self {
            Self::A => "a",
            Self::B => "b",
        }
    }

    /// The other one.
    #[must_use]
    pub fn other(self) -> Self {
        match self {
            Self::A => Self::B,
            Self::B => Self::A,
        }
    }

    fn index(self) -> usize {
        match self {
            Self::A => 0,
            Self::B => 1,
        }
    }
}

/// Two servers in a network, with the processes of whatever looks after them.
#[derive(Debug)]
pub struct Pair {
    settings: Settings,
    servers: [Option<Server>; 2],
    /// Daemons of side A, of side B, and of the third host.
    daemons: [Vec<Process>; 3],
    without_power: [bool; 2],
    lab: Lab,
}

impl Pair {
    /// Builds the network; nothing runs in it yet.
    ///
    /// # Errors
    /// As [`crate::ns::Builder::build`].
    pub fn new(settings: Settings) -> anyhow::Result<Self> {
        let lab = Lab::builder()
            .host(Side::A.host(), "10.0.0.1/24")
            .host(Side::B.host(), "10.0.0.2/24")
            .host(THIRD, "10.0.0.3/24")
            .host(CLIENT, "10.0.0.50/24")
            .host(OTHER_SIDE, "10.0.0.51/24")
            .build()?;
        Ok(Self {
            settings,
            servers: [None, None],
            daemons: Default::default(),
            without_power: [false; 2],
            lab,
        })
    }

    /// The network.
    #[must_use]
    pub fn lab(&self) -> &Lab {
        &self.lab
    }

    /// A side's host.
    #[must_use]
    pub fn host(&self, side: Side) -> &Arc<Host> {
        self.lab.host(side.host())
    }

    /// A side's server.
    ///
    /// # Panics
    /// Before [`Pair::start_servers`].
    #[must_use]
    pub fn server(&self, side: Side) -> &Server {
        self.servers[side.index()]
            .as_ref()
            .expect("the servers are started before they are used")
    }

    /// The address of a side's server.
    #[must_use]
    pub fn server_address(&self, side: Side) -> SocketAddr {
        SocketAddr::new(self.host(side).address(), self.settings.port)
    }

    /// The VIP with the servers' port.
    #[must_use]
    pub fn vip(&self) -> SocketAddr {
        SocketAddr::new(VIP, self.settings.port)
    }

    /// A side's server, to be started again or to have its process looked at.
    ///
    /// # Panics
    /// Before [`Pair::start_servers`].
    pub fn server_mut(&mut self, side: Side) -> &mut Server {
        self.servers[side.index()]
            .as_mut()
            .expect("the servers are started before they are used")
    }

    /// The daemons of a side's host.
    pub fn daemons_mut(&mut self, side: Side) -> &mut Vec<Process> {
        &mut self.daemons[side.index()]
    }

    /// The settings of the servers.
    #[must_use]
    pub fn settings(&self) -> &Settings {
        &self.settings
    }

    /// Takes charge of a daemon on a side's host.
    pub fn add_daemon(&mut self, side: Side, daemon: Process) {
        self.daemons[side.index()].push(daemon);
    }

    /// Takes charge of a daemon on the third host.
    pub fn add_third_daemon(&mut self, daemon: Process) {
        self.daemons[2].push(daemon);
    }

    /// Whether the third host has a daemon already.
    #[must_use]
    pub fn has_third_daemon(&self) -> bool {
        !self.daemons[2].is_empty()
    }

    /// Starts both servers afresh, fills A, and makes B its replica.
    ///
    /// # Errors
    /// When a server does not start, or the replica does not sync.
    pub fn start_servers(&mut self, gib: u64) -> anyhow::Result<()> {
        for side in Side::BOTH {
            self.servers[side.index()] = Some(Server::start(self.host(side), &self.settings)?);
        }
        let (a, b) = (self.server(Side::A), self.server(Side::B));
        a.fill(gib)?;
        b.replicate(Some(a.address()))?;
        b.wait_until_synced(SYNC_BOUND)
    }

    /// Who holds the VIP and has a server that calls itself primary behind it.
    ///
    /// # Errors
    /// When the addresses of a host cannot be read.
    pub fn vip_primary(&self) -> anyhow::Result<Result<Side, String>> {
        let mut holders = Vec::new();
        for side in Side::BOTH {
            if self.host(side).has_address(VIP)? {
                holders.push(side);
            }
        }
        let [holder] = holders[..] else {
            return Ok(Err(format!("the VIP is on {holders:?}")));
        };
        Ok(match self.server(holder).is_primary() {
            Ok(true) => Ok(holder),
            Ok(false) => Err(format!(
                "the VIP is on {holder:?}, whose server is a replica"
            )),
            Err(error) => Err(format!("the VIP is on {holder:?}: {error:#}")),
        })
    }

    /// Whether a side's server is a replica of the other side's, with its link up and everything read.
    ///
    /// # Errors
    /// What is missing, as a sentence.
    pub fn replicates(&self, side: Side) -> Result<(), String> {
        let ask = || -> anyhow::Result<Result<(), String>> {
            let bound = Duration::from_secs(1);
            let mut source = self.server(side.other()).connect_within(bound)?;
            let written: u64 = source.info("master_repl_offset")?.parse()?;
            let mut replica = self.server(side).connect_within(bound)?;
            if replica.info("role")? != "slave" {
                return Ok(Err("it calls itself a primary".to_owned()));
            }
            let source = replica.info("master_host")?;
            if source != self.host(side.other()).address().to_string() {
                return Ok(Err(format!("it follows {source}")));
            }
            let link = replica.info("master_link_status")?;
            if link != "up" || replica.info("master_sync_in_progress")? != "0" {
                return Ok(Err(format!("its link is {link}")));
            }
            // In sync by its own word, it may still be sent nothing for a second: a fault in that second is
            // another test's.
            let applied: u64 = replica.info("slave_repl_offset")?.parse()?;
            if applied < written {
                return Ok(Err(format!("it has {applied} of {written} bytes")));
            }
            Ok(Ok(()))
        };
        ask().unwrap_or_else(|error| Err(format!("{error:#}")))
    }

    /// Breaks something at the primary. A planned switchover is the arrangement's business, not the pair's.
    pub(super) fn inject(&mut self, fault: Fault, primary: Side) -> anyhow::Result<()> {
        let (here, there) = (primary.host(), primary.other().host());
        let daemons = &self.daemons[primary.index()];
        match fault {
            Fault::KillServer => self.server(primary).process().kill(),
            Fault::FreezeServer => self.server(primary).process().freeze(),
            Fault::PowerOff => self.power_off(primary)?,
            Fault::Switchover => bail!("a switchover is ordered, not injected"),
            Fault::RestartDaemon => bail!("only the arrangement can start its daemons"),
            Fault::KillDaemon => daemons.iter().for_each(Process::kill),
            Fault::FreezeDaemon => daemons.iter().for_each(Process::freeze),
            Fault::FilterVrrp => self.lab.filter_vrrp(here, there)?,
            Fault::CutBothUsed => self
                .lab
                .partition(&[&[here, CLIENT], &[there, THIRD, OTHER_SIDE]])?,
            Fault::CutStandbyUsed => self
                .lab
                .partition(&[&[here], &[there, THIRD, CLIENT, OTHER_SIDE]])?,
            Fault::CutStandbyIdle => self
                .lab
                .partition(&[&[here, THIRD, CLIENT, OTHER_SIDE], &[there]])?,
        }
        Ok(())
    }

    /// Takes the power of a side's host.
    ///
    /// # Errors
    /// As [`Lab::power_off`].
    pub fn power_off(&mut self, side: Side) -> anyhow::Result<()> {
        self.without_power[side.index()] = true;
        self.lab.power_off(side.host())
    }

    /// Gives a side's host its power back and starts its server; its daemons are the arrangement's to start.
    ///
    /// # Errors
    /// When the host or the server does not come back.
    pub fn power_on(&mut self, side: Side) -> anyhow::Result<()> {
        self.daemons[side.index()].clear();
        self.lab.power_on(side.host())?;
        self.servers[side.index()]
            .as_mut()
            .context("the servers are started before they lose power")?
            .restart()?;
        self.without_power[side.index()] = false;
        Ok(())
    }

    /// Replaces the settings of the servers that the next start makes.
    pub fn set_settings(&mut self, settings: Settings) {
        self.settings = settings;
    }

    /// Undoes every fault the way an operator's machines do by themselves: power, cables, processes that run again.
    ///
    /// Returns the sides whose daemons have to be started.
    pub(super) fn repair(&mut self) -> anyhow::Result<Vec<Side>> {
        self.lab.heal()?;
        let mut without_daemons = Vec::new();
        for side in Side::BOTH {
            let index = side.index();
            if self.without_power[index] {
                self.power_on(side)?;
                without_daemons.push(side);
                continue;
            }
            let server = self.servers[index]
                .as_mut()
                .context("the servers are started before they are broken")?;
            server.process().thaw();
            if !server.is_running_soon()? {
                server.restart()?;
            }
            let daemons = &mut self.daemons[index];
            daemons.iter().for_each(Process::thaw);
            let before = daemons.len();
            daemons.retain_mut(|daemon| matches!(daemon.ended(), Ok(None)));
            if daemons.len() < before {
                daemons.clear();
                without_daemons.push(side);
            }
        }
        Ok(without_daemons)
    }

    /// Ends everything and puts the network in order.
    pub(super) fn stop(&mut self) -> anyhow::Result<()> {
        self.daemons.iter_mut().for_each(Vec::clear);
        self.servers = [None, None];
        self.without_power = [false; 2];
        self.lab.heal()?;
        for host in [Side::A.host(), Side::B.host(), THIRD] {
            self.lab.power_off(host)?;
            self.lab.power_on(host)?;
            for entry in std::fs::read_dir(self.lab.host(host).dir())? {
                let path = entry?.path();
                if path.is_dir() {
                    std::fs::remove_dir_all(path)?;
                } else {
                    std::fs::remove_file(path)?;
                }
            }
        }
        Ok(())
    }
}
