//! One host: a network namespace with an interface `eth0`, in which processes are started and sockets opened.

use std::fs::File;
use std::io;
use std::net::{IpAddr, SocketAddr, TcpStream};
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::mpsc;
use std::time::Duration;

use anyhow::{Context, anyhow};
use rustix::process::Signal;
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};
use thiserror::Error;

use super::names;
use crate::process::{Process, signal};

/// A host of the lab. Cheap to borrow, and usable from any thread.
#[derive(Debug)]
pub struct Host {
    name: String,
    netns: String,
    handle: File,
    address: IpAddr,
    prefix: u8,
    dir: PathBuf,
}

/// A command that ran on a host and ended badly.
#[derive(Debug, Error)]
#[error("`{command}` on host {host}: {status}: {said}")]
pub struct CommandFailed {
    /// Program and arguments.
    pub command: String,
    /// The host's name.
    pub host: String,
    /// How it ended.
    pub status: std::process::ExitStatus,
    /// What it wrote to its standard error, without the last line end.
    pub said: String,
}

/// The interface of every host.
pub const INTERFACE: &str = "eth0";

/// No command of the lab takes longer: those of `tandem` give up by themselves after 40 s.
const COMMAND_BOUND: Duration = Duration::from_secs(120);

/// Waits for a child's end and its output; after `bound` it is killed.
fn bounded(child: Child, bound: Duration) -> io::Result<Output> {
    let pid = child.id();
    let (ended, end) = mpsc::channel::<()>();
    let guard = std::thread::spawn(move || {
        // The sender is dropped, not used, when the child has ended.
        if end.recv_timeout(bound) == Err(mpsc::RecvTimeoutError::Timeout) {
            signal(pid, Signal::KILL);
        }
    });
    let output = child.wait_with_output();
    drop(ended);
    // It has nothing to do any more but to return.
    let _ = guard.join();
    output
}

impl Host {
    /// Makes the namespace. Its interface comes from the lab.
    pub(super) fn create(
        name: &str,
        netns: String,
        address: (IpAddr, u8),
        dir: PathBuf,
    ) -> anyhow::Result<Self> {
        super::command("ip", &["netns", "add", &netns])?;
        std::fs::create_dir_all(&dir)?;
        let handle = File::open(names::path(&netns))
            .with_context(|| format!("opening namespace {netns}"))?;
        let (address, prefix) = address;
        Ok(Self {
            name: name.to_owned(),
            netns,
            handle,
            address,
            prefix,
            dir,
        })
    }

    /// The name it was given, `a` for example.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The address it was given; further ones, such as a VIP, are in [`Host::addresses`].
    #[must_use]
    pub fn address(&self) -> IpAddr {
        self.address
    }

    /// Its own directory, for configuration, logs and data. It survives a power-off, as a disk does.
    #[must_use]
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// The name under which `ip netns exec` knows it.
    #[must_use]
    pub fn netns(&self) -> &str {
        &self.netns
    }

    /// Runs `work` on a thread that is inside this host's network.
    ///
    /// Sockets opened there stay in that network, and so do processes started there.
    ///
    /// # Errors
    /// When the namespace cannot be entered.
    pub fn enter<T: Send>(&self, work: impl FnOnce() -> T + Send) -> io::Result<T> {
        std::thread::scope(|scope| {
            let inside = scope.spawn(|| {
                self.move_in()?;
                Ok(work())
            });
            match inside.join() {
                Ok(result) => result,
                Err(panic) => std::panic::resume_unwind(panic),
            }
        })
    }

    /// Moves the calling thread into this host's network, for good.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub(crate) fn move_in(&self) -> io::Result<()> {
        Ok(move_into_link_name_space(
            self.handle.as_fd(),
            Some(LinkNameSpaceType::Network),
        )?)
    }

    /// Starts a process on this host. Its output goes to `NAME.log` in the host's directory, appended.
    ///
    /// # Errors
    /// When the program cannot be started.
    pub fn spawn(&self, name: &str, command: &mut Command) -> anyhow::Result<Process> {
        let path = self.dir.join(format!("{name}.log"));
        let log = File::options().create(true).append(true).open(&path)?;
        command
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .current_dir(&self.dir);
        // A child is born in the network of the thread that forks it, so no code has to run between fork and exec.
        let child = self
            .enter(|| command.spawn())
            .and_then(|spawned| spawned)
            .with_context(|| {
                format!(
                    "starting {name} on host {}: {:?}",
                    self.name,
                    command.get_program()
                )
            })?;
        Ok(Process::new(
            child,
            format!("{name} on host {}", self.name),
            path,
        ))
    }

    /// Runs a command on this host to its end and returns what it wrote. One that takes longer than any should is ended.
    ///
    /// # Errors
    /// When it cannot be started; [`CommandFailed`] when it fails or is ended.
    pub fn run(&self, program: &str, args: &[&str]) -> anyhow::Result<String> {
        let mut command = Command::new(program);
        command.args(args);
        command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let output = self
            .enter(|| command.spawn())
            .and_then(|spawned| spawned)
            .and_then(|child| bounded(child, COMMAND_BOUND))
            .with_context(|| format!("running {program} on host {}", self.name))?;
        if !output.status.success() {
            let said = String::from_utf8_lossy(&output.stderr);
            return Err(CommandFailed {
                command: format!("{program} {}", args.join(" ")),
                host: self.name.clone(),
                status: output.status,
                said: said.trim().to_owned(),
            }
            .into());
        }
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }

    /// Opens a TCP connection from this host.
    ///
    /// # Errors
    /// As [`TcpStream::connect_timeout`].
    pub fn connect(&self, to: SocketAddr, timeout: Duration) -> io::Result<TcpStream> {
        self.enter(|| TcpStream::connect_timeout(&to, timeout))?
    }

    /// The addresses on the interface now, without loopback and link-local ones.
    ///
    /// # Errors
    /// When `ip` cannot tell.
    pub fn addresses(&self) -> anyhow::Result<Vec<IpAddr>> {
        let text = super::command(
            "ip",
            &["-n", &self.netns, "-j", "addr", "show", "dev", INTERFACE],
        )?;
        let links: serde_json::Value =
            serde_json::from_str(&text).context("output of `ip -j addr`")?;
        let infos = links
            .get(0)
            .and_then(|link| link.get("addr_info")?.as_array())
            .ok_or_else(|| anyhow!("`ip -j addr` describes no interface: {text}"))?;
        Ok(infos
            .iter()
            .filter(|info| info.get("scope").and_then(|scope| scope.as_str()) == Some("global"))
            .filter_map(|info| info.get("local")?.as_str()?.parse().ok())
            .collect())
    }

    /// Whether the address, a VIP for example, is on this host now.
    ///
    /// # Errors
    /// As [`Host::addresses`].
    pub fn has_address(&self, address: IpAddr) -> anyhow::Result<bool> {
        Ok(self.addresses()?.contains(&address))
    }

    /// The processes that run in this host's network.
    #[must_use]
    pub fn pids(&self) -> Vec<u32> {
        names::members(&self.netns)
    }

    /// SIGKILL to a process of this host that somebody else than the lab started.
    ///
    /// # Errors
    /// When no process of this host has the id.
    pub fn kill(&self, pid: u32) -> anyhow::Result<()> {
        anyhow::ensure!(
            self.pids().contains(&pid),
            "process {pid} is not on host {}",
            self.name
        );
        signal(pid, Signal::KILL);
        Ok(())
    }

    /// Brings the interface up with the host's own address and nothing else, as after a boot.
    pub(super) fn reset_addresses(&self) -> anyhow::Result<()> {
        let ip =
            |args: &[&str]| super::command("ip", &[&["-n", self.netns.as_str()], args].concat());
        ip(&["link", "set", "lo", "up"])?;
        ip(&["addr", "flush", "dev", INTERFACE, "scope", "global"])?;
        let own = format!("{}/{}", self.address, self.prefix);
        let add: &[&str] = &["addr", "add", &own, "dev", INTERFACE];
        // Duplicate address detection would keep an IPv6 address unusable for its first second.
        if self.address.is_ipv6() {
            ip(&[add, &["nodad"]].concat())?
        } else {
            ip(add)?
        };
        ip(&["link", "set", INTERFACE, "up"])?;
        // Whatever the last boot left in the packet filter is gone too.
        self.run("nft", &["flush", "ruleset"])?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::process::ExitStatusExt;

    use super::*;

    #[test]
    fn a_command_that_hangs_is_ended() {
        let child = Command::new("sleep").arg("600").spawn().unwrap();
        let output = bounded(child, Duration::from_millis(20)).unwrap();
        assert_eq!(output.status.signal(), Some(Signal::KILL.as_raw()));
        let child = Command::new("true").spawn().unwrap();
        assert!(
            bounded(child, Duration::from_secs(600))
                .unwrap()
                .status
                .success()
        );
    }
}
