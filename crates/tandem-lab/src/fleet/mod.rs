//! A fleet of Sentinels over one group of servers: real redis-sentinel, `tandem sentinel`, or both side by side.
//!
//! Each member is started from an ordinary `sentinel.conf`, in which it keeps its state. The lab asks the members over
//! their hosts' loopback, so that it hears them in any state of the network, and judges the group by the servers' own
//! words: who says that it is primary, and whom the others follow.
//!
//! - [`Plan`]: which hosts, which servers, which members;
//! - [`Member`]: one process, its file, and what it believes ([`Belief`]);
//! - [`Recorder`]: every event of every member with the time at which it was heard;
//! - [`Observer`]: when a server became writable and when each member named it;
//! - [`mixed`]: one trouble on five members of both kinds.

mod events;
mod member;
pub mod mixed;
mod observe;
mod plan;

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, ensure};

pub use self::events::{Event, Recorder, story};
pub use self::member::{Belief, Member, PORT, Program, fields};
pub use self::observe::{Observer, Seen};
pub use self::plan::{Place, Plan};
use crate::client::Target;
use crate::ns::{Host, Lab};
use crate::poll;
use crate::server::Server;

/// The host from which clients work.
pub const CLIENT: &str = "client";
/// A second host for clients, to stand on the other side of a cut.
pub const OTHER_SIDE: &str = "other-side";

/// For a replica to be in sync with a primary that has no data to speak of.
const SYNC_BOUND: Duration = Duration::from_secs(30);
/// Between two looks at the fleet.
const EVERY: Duration = Duration::from_millis(20);

/// Servers, and the Sentinels that look after them.
#[derive(Debug)]
pub struct Fleet {
    plan: Plan,
    servers: Vec<Server>,
    members: Vec<Member>,
    // Last: what runs in the network ends before it.
    lab: Lab,
}

impl Fleet {
    /// Builds the network and starts the servers: the first is primary, the others its replicas, in sync.
    ///
    /// Roles are written into the servers' files, so that a restarted server has the role it had.
    ///
    /// # Errors
    /// When the network cannot be built or a server does not come up.
    pub fn build(plan: Plan) -> anyhow::Result<Self> {
        let mut builder = Lab::builder();
        for place in &plan.places {
            builder = builder.host(&place.host, &place.address);
        }
        for (host, address) in &plan.clients {
            builder = builder.host(host, address);
        }
        let mut fleet = Self {
            servers: Vec::new(),
            members: Vec::new(),
            lab: builder.build()?,
            plan,
        };
        fleet.start_servers()?;
        let primary = fleet.servers[0].address();
        for place in &fleet.plan.places {
            if let Some(program) = place.sentinel {
                let host = Arc::clone(fleet.lab.host(&place.host));
                let text = fleet.plan.sentinel_conf(place, primary, &host);
                fleet.members.push(Member::new(host, program, text)?);
            }
        }
        Ok(fleet)
    }

    fn start_servers(&mut self) -> anyhow::Result<()> {
        for place in self.plan.places.iter().filter(|place| place.server) {
            let server = Server::start(self.lab.host(&place.host), &self.plan.server)?;
            self.servers.push(server);
        }
        let primary = self.servers.first().context("a fleet has a server")?;
        let address = primary.address();
        for replica in &self.servers[1..] {
            replica.replicate(Some(address))?;
        }
        for replica in &self.servers[1..] {
            replica.wait_until_synced(SYNC_BOUND)?;
            replica.connect()?.demand(&["CONFIG", "REWRITE"])?;
        }
        Ok(())
    }

    /// Starts every member and waits until each knows all servers and all other members.
    ///
    /// # Errors
    /// When that does not happen within `bound`.
    pub fn start(&mut self, bound: Duration) -> anyhow::Result<()> {
        for member in &mut self.members {
            member.start()?;
        }
        self.wait_until_known(bound)?;
        for (period, value) in &self.plan.debug {
            for member in &self.members {
                member.demand(&["SENTINEL", "DEBUG", period, &value.to_string()])?;
            }
        }
        Ok(())
    }

    /// Waits until every running member knows all servers and all other running members, and holds all of them to be
    /// well.
    ///
    /// # Errors
    /// When that does not happen within `bound`.
    pub fn wait_until_known(&self, bound: Duration) -> anyhow::Result<()> {
        let replicas = self.servers.len() - 1;
        let others = self.running().count().saturating_sub(1);
        poll::until("the Sentinels to know one another", bound, EVERY, || {
            for member in self.running() {
                let unsure = member
                    .discontent(&self.plan.group, replicas, others)
                    .unwrap_or_else(|error| Some(format!("{error:#}")));
                if let Some(reason) = unsure {
                    return Ok(Err(format!("{}: {reason}", member.host().name())));
                }
            }
            Ok(Ok(()))
        })
    }

    /// What was asked for.
    #[must_use]
    pub fn plan(&self) -> &Plan {
        &self.plan
    }

    /// The network, to cut and to heal.
    #[must_use]
    pub fn lab(&self) -> &Lab {
        &self.lab
    }

    /// The name of the group.
    #[must_use]
    pub fn group(&self) -> &str {
        &self.plan.group
    }

    /// The servers, in the order of the plan.
    #[must_use]
    pub fn servers(&self) -> &[Server] {
        &self.servers
    }

    /// The servers, to be restarted.
    #[must_use]
    pub fn servers_mut(&mut self) -> &mut [Server] {
        &mut self.servers
    }

    /// The members, in the order of the plan.
    #[must_use]
    pub fn members(&self) -> &[Member] {
        &self.members
    }

    /// The members, to be killed and started.
    #[must_use]
    pub fn members_mut(&mut self) -> &mut [Member] {
        &mut self.members
    }

    /// The host of clients.
    #[must_use]
    pub fn client_host(&self) -> &Arc<Host> {
        self.lab.host(CLIENT)
    }

    /// Clients that ask the members, in the order of the plan.
    #[must_use]
    pub fn target(&self) -> Target {
        Target::Sentinels {
            sentinels: self.members.iter().map(Member::address).collect(),
            group: self.plan.group.clone(),
        }
    }

    /// The server at an address.
    #[must_use]
    pub fn server_at(&self, address: SocketAddr) -> Option<usize> {
        self.servers
            .iter()
            .position(|server| server.address() == address)
    }

    /// Cuts these hosts off from all others, clients included. Among themselves they go on.
    ///
    /// # Errors
    /// When the network refuses.
    pub fn cut(&self, hosts: &[&str]) -> anyhow::Result<()> {
        let others: Vec<&str> = self
            .lab
            .hosts()
            .iter()
            .map(|host| host.name())
            .filter(|name| !hosts.contains(name))
            .collect();
        self.lab.partition(&[hosts, &others])
    }

    /// Undoes every cut.
    ///
    /// # Errors
    /// When the network refuses.
    pub fn heal(&self) -> anyhow::Result<()> {
        self.lab.heal()
    }

    /// Starts a server again from its file, on what it kept.
    ///
    /// # Errors
    /// When it does not come up.
    pub fn restart_server(&mut self, place: usize) -> anyhow::Result<()> {
        self.servers[place].restart()
    }

    /// The address that each running member gives to clients, if they all give the same one.
    ///
    /// # Errors
    /// When no member runs.
    pub fn agreed(&self) -> anyhow::Result<Result<SocketAddr, String>> {
        let mut given = BTreeSet::new();
        for member in self.running() {
            match member.addr_by_name(&self.plan.group) {
                Ok(address) => given.insert(address),
                Err(error) => return Ok(Err(format!("{}: {error:#}", member.host().name()))),
            };
        }
        let first = *given.first().context("no Sentinel is running")?;
        Ok(if given.len() == 1 {
            Ok(first)
        } else {
            Err(format!("clients are told {given:?}"))
        })
    }

    /// Waits until the fleet is of one mind and right: every member names the same server, at the same epochs and
    /// without a flag that says otherwise; that server says that it is primary, all others follow it and are in sync.
    ///
    /// # Errors
    /// When that does not happen within `bound`.
    pub fn settle(&self, bound: Duration) -> anyhow::Result<usize> {
        poll::until("one primary, known to all", bound, EVERY, || {
            let address = match self.agreed()? {
                Ok(address) => address,
                Err(reason) => return Ok(Err(reason)),
            };
            let Some(primary) = self.server_at(address) else {
                return Ok(Err(format!("{address} is none of the servers")));
            };
            if let Err(reason) = self.roles(primary) {
                return Ok(Err(format!("{reason:#}")));
            }
            Ok(self
                .epochs()
                .map(|_| primary)
                .map_err(|error| format!("{error:#}")))
        })
    }

    /// Whether exactly this server is primary and all others are its replicas, in sync.
    ///
    /// # Errors
    /// What is otherwise.
    pub fn roles(&self, primary: usize) -> anyhow::Result<()> {
        let address = self.servers[primary].address();
        for (place, server) in self.servers.iter().enumerate() {
            let mut connection = server.connect_within(Duration::from_secs(1))?;
            let role = connection.info("role")?;
            if place == primary {
                ensure!(role == "master", "{address} is no primary");
                continue;
            }
            ensure!(role == "slave", "{} is a second primary", server.address());
            let followed = format!(
                "{}:{}",
                connection.info("master_host")?,
                connection.info("master_port")?
            );
            ensure!(
                followed == address.to_string(),
                "{} follows {followed}",
                server.address()
            );
            let link = connection.info("master_link_status")?;
            ensure!(link == "up", "{}: link {link}", server.address());
        }
        Ok(())
    }

    /// The configuration epoch and the current epoch on which every running member agrees.
    ///
    /// # Errors
    /// When two differ, or one holds the primary to be anything but well.
    pub fn epochs(&self) -> anyhow::Result<(u64, u64)> {
        let mut all = BTreeSet::new();
        for member in self.running() {
            let belief = member.belief(&self.plan.group)?;
            ensure!(
                belief.flags == "master",
                "{} says `{}`",
                member.host().name(),
                belief.flags
            );
            all.insert((belief.config_epoch, member.current_epoch()?));
        }
        ensure!(all.len() == 1, "epochs differ: {all:?}");
        all.first().copied().context("no Sentinel is running")
    }

    /// The last lines of each member's log, for a report.
    #[must_use]
    pub fn logs(&self) -> String {
        const LINES: usize = 25;
        let mut text = String::new();
        for process in self.members.iter().filter_map(Member::process) {
            let log = std::fs::read_to_string(process.log()).unwrap_or_default();
            let lines: Vec<&str> = log.lines().collect();
            text.push_str(&format!("--- {} ---\n", process.log().display()));
            for line in &lines[lines.len().saturating_sub(LINES)..] {
                text.push_str(line);
                text.push('\n');
            }
        }
        text
    }

    /// The members whose processes run and are not frozen.
    fn running(&self) -> impl Iterator<Item = &Member> {
        self.members.iter().filter(|member| member.is_at_work())
    }
}
