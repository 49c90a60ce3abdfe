//! The lab's network: a bridge and hosts around it, each in a network namespace of its own, and the faults.
//!
//! ```text
//!   namespace "a"      namespace "bridge"      namespace "b"
//!   eth0 ------------- p-a  [ br0 ]  p-b ------------- eth0
//!   10.0.0.1                  p-client                 10.0.0.2
//!                                |
//!                     namespace "client" eth0 10.0.0.50
//! ```
//!
//! iproute2 and nftables do the work, by command. Names contain the process id and its start time: a lab removes its
//! namespaces when it is dropped, and the next lab removes those of a process that could not.
//!
//! Labs on one machine wait for each other: see `turn`.

mod capable;
mod faults;
mod host;
mod names;
mod turn;

use std::collections::BTreeSet;
use std::io::Write;
use std::net::IpAddr;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context, anyhow, bail, ensure};
use rustix::process::Signal;

pub use self::capable::{Incapable, capability, ensure_capable, is_real_root};
use self::faults::{Rule, port, render};
pub use self::host::{CommandFailed, Host, INTERFACE};
use self::turn::Turn;
pub use self::turn::{TURN_BOUND, measure_alone};
use crate::poll;

/// How long the kernel may take to end the processes of a host that lost power; a heap of 8 GiB takes about 1 s.
const DEATH_BOUND: Duration = Duration::from_secs(20);

/// A running network. Dropping it ends every process in it and removes it.
#[derive(Debug)]
pub struct Lab {
    hosts: Vec<Arc<Host>>,
    bridge: Host,
    rules: Mutex<BTreeSet<Rule>>,
    // The order of fields is the order of destruction: the directory goes before the turn is passed on.
    _dir: tempfile::TempDir,
    _turn: Turn,
}

/// The hosts that a lab is to have; see [`Lab::builder`].
#[derive(Debug, Default)]
pub struct Builder {
    hosts: Vec<(String, (IpAddr, u8))>,
    problem: Option<anyhow::Error>,
}

impl Builder {
    /// Adds a host. `name` has at most 12 characters, `address` its prefix: `10.0.0.1/24`.
    #[must_use]
    pub fn host(mut self, name: &str, address: &str) -> Self {
        match parse(name, address) {
            Ok(host) => self.hosts.push((name.to_owned(), host)),
            Err(problem) => self.problem = self.problem.or(Some(problem)),
        }
        self
    }

    /// Waits for this lab's turn on the machine and builds it.
    ///
    /// # Errors
    /// A name or address that cannot be, no rights ([`capability`]), or a command that failed.
    pub fn build(self) -> anyhow::Result<Lab> {
        if let Some(problem) = self.problem {
            return Err(problem);
        }
        capability()?;
        let turn = Turn::take()?;
        names::remove_stale();
        let dir = tempfile::Builder::new()
            .prefix(&format!("{}.", names::unique("files")))
            .rand_bytes(4)
            .tempdir()?;
        let nowhere = (IpAddr::from([0, 0, 0, 0]), 0);
        let bridge = Host::create(
            "bridge",
            names::unique("bridge"),
            nowhere,
            dir.path().join("bridge"),
        )?;
        // From here on the lab exists, and dropping it removes what was made so far.
        let mut lab = Lab {
            hosts: Vec::new(),
            bridge,
            rules: Mutex::default(),
            _dir: dir,
            _turn: turn,
        };
        lab.make_bridge()?;
        for (name, address) in self.hosts {
            lab.add_host(&name, address)?;
        }
        Ok(lab)
    }
}

fn parse(name: &str, address: &str) -> anyhow::Result<(IpAddr, u8)> {
    let named = !name.is_empty()
        && name.len() <= 12
        && name.bytes().all(|c| c.is_ascii_alphanumeric() || c == b'-');
    ensure!(
        named,
        "a host's name has 1 to 12 letters, digits and hyphens, not `{name}`"
    );
    let (ip, prefix) = address
        .split_once('/')
        .ok_or_else(|| anyhow!("`{address}` lacks its prefix, `/24`"))?;
    Ok((
        ip.parse().with_context(|| format!("address `{address}`"))?,
        prefix.parse()?,
    ))
}

impl Lab {
    /// Begins a lab without hosts.
    #[must_use]
    pub fn builder() -> Builder {
        Builder::default()
    }

    /// The usual lab: hosts `a` (10.0.0.1) and `b` (10.0.0.2), and `client` (10.0.0.50), in 10.0.0.0/24.
    ///
    /// # Errors
    /// As [`Builder::build`].
    pub fn pair() -> anyhow::Result<Self> {
        Self::builder()
            .host("a", "10.0.0.1/24")
            .host("b", "10.0.0.2/24")
            .host("client", "10.0.0.50/24")
            .build()
    }

    /// The host of this name.
    ///
    /// # Panics
    /// When there is none: the caller names hosts that it asked for itself.
    #[must_use]
    pub fn host(&self, name: &str) -> &Arc<Host> {
        let found = self.hosts.iter().find(|host| host.name() == name);
        found.unwrap_or_else(|| panic!("the lab has no host `{name}`"))
    }

    /// All hosts, in the order in which they were asked for.
    #[must_use]
    pub fn hosts(&self) -> &[Arc<Host>] {
        &self.hosts
    }

    /// The directory of the whole lab, removed with it.
    #[must_use]
    pub fn dir(&self) -> &Path {
        self._dir.path()
    }

    /// Cuts the path between two hosts, in both directions. Others still reach both.
    ///
    /// # Errors
    /// When nftables refuses.
    pub fn cut(&self, one: &str, other: &str) -> anyhow::Result<()> {
        self.change(|rules| {
            rules.insert(Rule::Cut {
                from: one.to_owned(),
                to: other.to_owned(),
            });
            rules.insert(Rule::Cut {
                from: other.to_owned(),
                to: one.to_owned(),
            });
        })
    }

    /// Cuts one direction: what `from` sends does not reach `to`.
    ///
    /// # Errors
    /// When nftables refuses.
    pub fn cut_one_way(&self, from: &str, to: &str) -> anyhow::Result<()> {
        self.change(|rules| {
            rules.insert(Rule::Cut {
                from: from.to_owned(),
                to: to.to_owned(),
            });
        })
    }

    /// Parts the network: hosts of different groups do not reach each other, hosts of no group reach everybody.
    ///
    /// # Errors
    /// When nftables refuses.
    pub fn partition(&self, groups: &[&[&str]]) -> anyhow::Result<()> {
        self.change(|rules| {
            for (here, group) in groups.iter().enumerate() {
                let others = groups
                    .iter()
                    .enumerate()
                    .filter(|(there, _)| *there != here)
                    .flat_map(|(_, group)| *group);
                for to in others {
                    rules.extend(group.iter().map(|from| Rule::Cut {
                        from: (*from).to_owned(),
                        to: (*to).to_owned(),
                    }));
                }
            }
        })
    }

    /// Filters VRRP (IP protocol 112) between two hosts and lets everything else pass.
    ///
    /// # Errors
    /// When nftables refuses.
    pub fn filter_vrrp(&self, one: &str, other: &str) -> anyhow::Result<()> {
        self.change(|rules| {
            rules.insert(Rule::Vrrp {
                from: one.to_owned(),
                to: other.to_owned(),
            });
            rules.insert(Rule::Vrrp {
                from: other.to_owned(),
                to: one.to_owned(),
            });
        })
    }

    /// Cuts a host off from everybody, silently: its interface stays up.
    ///
    /// # Errors
    /// When nftables refuses.
    pub fn isolate(&self, host: &str) -> anyhow::Result<()> {
        self.change(|rules| {
            rules.insert(Rule::Dark {
                host: host.to_owned(),
            });
        })
    }

    /// Undoes every cut, isolation and filter. Hosts without power or link stay so.
    ///
    /// # Errors
    /// When nftables refuses.
    pub fn heal(&self) -> anyhow::Result<()> {
        self.change(BTreeSet::clear)
    }

    /// Takes a host's power: first silence, then the death of everything on it.
    ///
    /// In this order nobody else hears a closing socket, and nothing on the host can act on a lost carrier.
    ///
    /// # Errors
    /// When a command fails.
    pub fn power_off(&self, host: &str) -> anyhow::Result<()> {
        self.isolate(host)?;
        for pid in self.host(host).pids() {
            crate::process::signal(pid, Signal::KILL);
        }
        self.link(host, "down")?;
        // The kernel of a host without power has no addresses; nobody may still find the VIP there.
        command(
            "ip",
            &[
                "-n",
                self.host(host).netns(),
                "addr",
                "flush",
                "dev",
                INTERFACE,
            ],
        )
        .map(drop)
    }

    /// Gives the power back: the host has its own address, an empty packet filter, its disk, and no process.
    ///
    /// # Errors
    /// When processes of before do not end, or a command fails.
    pub fn power_on(&self, host: &str) -> anyhow::Result<()> {
        let at = self.host(host);
        poll::until(
            "the processes of a host without power to end",
            DEATH_BOUND,
            Duration::from_millis(5),
            || {
                let left = at.pids();
                // One that forked between the listing and the signal is caught here.
                left.iter()
                    .for_each(|pid| crate::process::signal(*pid, Signal::KILL));
                Ok(if left.is_empty() {
                    Ok(())
                } else {
                    Err(format!("still there: {left:?}"))
                })
            },
        )?;
        at.reset_addresses()?;
        self.link(host, "up")?;
        self.change(|rules| {
            rules.remove(&Rule::Dark {
                host: host.to_owned(),
            });
        })
    }

    /// Unplugs the host's cable: it notices the lost carrier.
    ///
    /// # Errors
    /// When a command fails.
    pub fn link_down(&self, host: &str) -> anyhow::Result<()> {
        self.link(host, "down")
    }

    /// Plugs the host's cable in again.
    ///
    /// # Errors
    /// When a command fails.
    pub fn link_up(&self, host: &str) -> anyhow::Result<()> {
        self.link(host, "up")
    }

    fn link(&self, host: &str, state: &str) -> anyhow::Result<()> {
        command(
            "ip",
            &[
                "-n",
                self.bridge.netns(),
                "link",
                "set",
                &port(self.host(host).name()),
                state,
            ],
        )
        .map(drop)
    }

    fn change(&self, how: impl FnOnce(&mut BTreeSet<Rule>)) -> anyhow::Result<()> {
        let mut rules = self.rules.lock().unwrap_or_else(PoisonError::into_inner);
        how(&mut rules);
        let text = render(&rules);
        let mut nft = Command::new("nft");
        nft.args(["-f", "-"])
            .stdin(Stdio::piped())
            .stderr(Stdio::piped());
        let mut nft = self.bridge.enter(|| nft.spawn())?.context("starting nft")?;
        nft.stdin
            .take()
            .context("nft's input was asked for")?
            .write_all(text.as_bytes())?;
        let output = nft.wait_with_output()?;
        ensure!(
            output.status.success(),
            "nft: {}\n{text}",
            String::from_utf8_lossy(&output.stderr).trim()
        );
        Ok(())
    }

    fn make_bridge(&self) -> anyhow::Result<()> {
        let netns = self.bridge.netns();
        // No spanning tree and no snooping: a port forwards at once, and multicast reaches every port.
        let bridge = [
            "type",
            "bridge",
            "stp_state",
            "0",
            "forward_delay",
            "0",
            "mcast_snooping",
            "0",
        ];
        command(
            "ip",
            &[&["-n", netns, "link", "add", "br0"], &bridge[..]].concat(),
        )?;
        command("ip", &["-n", netns, "link", "set", "br0", "up"])?;
        self.heal()
    }

    fn add_host(&mut self, name: &str, address: (IpAddr, u8)) -> anyhow::Result<()> {
        if self.hosts.iter().any(|host| host.name() == name) {
            bail!("two hosts are called `{name}`");
        }
        let host = Host::create(
            name,
            names::unique(name),
            address,
            self._dir.path().join(name),
        )?;
        let host = Arc::new(host);
        self.hosts.push(Arc::clone(&host));
        let (bridge, port) = (self.bridge.netns(), port(name));
        let pair = [
            "type",
            "veth",
            "peer",
            "name",
            INTERFACE,
            "netns",
            host.netns(),
        ];
        command(
            "ip",
            &[&["-n", bridge, "link", "add", &port], &pair[..]].concat(),
        )?;
        command(
            "ip",
            &["-n", bridge, "link", "set", &port, "master", "br0", "up"],
        )?;
        host.reset_addresses()
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        for host in &self.hosts {
            names::remove(host.netns());
        }
        names::remove(self.bridge.netns());
    }
}

/// Runs a command to its end.
fn command(program: &str, args: &[&str]) -> anyhow::Result<String> {
    let output = Command::new(program)
        .args(args)
        .output()
        .with_context(|| format!("running {program}"))?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        bail!(
            "`{program} {}`: {}: {}",
            args.join(" "),
            output.status,
            said.trim()
        );
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_needs_a_usable_name_and_an_address_with_prefix() {
        assert_eq!(
            parse("a", "10.0.0.1/24").unwrap(),
            ("10.0.0.1".parse().unwrap(), 24)
        );
        assert_eq!(
            parse("db-1", "fd00::1/64").unwrap(),
            ("fd00::1".parse().unwrap(), 64)
        );
        for (name, address) in [
            ("", "10.0.0.1/24"),
            ("a b", "10.0.0.1/24"),
            ("a", "10.0.0.1"),
            ("a", "x/24"),
        ] {
            assert!(parse(name, address).is_err(), "{name} {address}");
        }
        assert!(parse("thirteen-long", "10.0.0.1/24").is_err());
    }
}
