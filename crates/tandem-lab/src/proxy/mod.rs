//! Proxies on hosts of the lab: the real nutcracker and haproxy, and `tandem proxy`, each in front of the same servers.
//!
//! One [`Pool`] is rendered for each of them: nutcracker and tandem read the very same file. [`tagged`] is the workload
//! that recognises any answer which was not meant for it, [`pace`] the one that measures waiting.

pub mod pace;
pub mod tagged;

use std::fmt;
use std::fmt::Write;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, bail, ensure};

use crate::ns::Host;
use crate::poll;
use crate::process::Process;

/// For a proxy to listen.
const START_BOUND: Duration = Duration::from_secs(20);
/// For a connection to it.
const CONNECT_BOUND: Duration = Duration::from_secs(2);

/// A program that stands between clients and servers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Program {
    /// twemproxy: Debian's nutcracker 0.5.0.
    Nutcracker,
    /// haproxy forwarding bytes: one server, no knowledge of commands.
    Haproxy,
    /// `tandem proxy`.
    Tandem,
}

impl Program {
    /// All of them, in the order of tables.
    pub const ALL: [Self; 3] = [Self::Nutcracker, Self::Haproxy, Self::Tandem];
    /// Those that place keys on several servers.
    pub const SHARDING: [Self; 2] = [Self::Nutcracker, Self::Tandem];

    /// The name in results and on the command line.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Nutcracker => "nutcracker",
            Self::Haproxy => "haproxy",
            Self::Tandem => "tandem",
        }
    }

    /// Where the program is, if it can be a proxy here.
    ///
    /// # Errors
    /// When it is not installed, or this build of tandem has no proxy.
    pub fn find(self) -> anyhow::Result<PathBuf> {
        let installed = |path: &str| {
            let path = PathBuf::from(path);
            ensure!(path.is_file(), "{} is not at {}", self, path.display());
            Ok(path)
        };
        match self {
            Self::Nutcracker => installed("/usr/sbin/nutcracker"),
            Self::Haproxy => installed("/usr/sbin/haproxy"),
            Self::Tandem => {
                let path = crate::tandem_binary()?;
                ensure!(has_proxy(&path)?, "{} has no verb proxy", path.display());
                Ok(path)
            }
        }
    }
}

/// Whether the binary knows the verb: `-V` prints a version and ends, as nutcracker's does.
fn has_proxy(tandem: &Path) -> anyhow::Result<bool> {
    let status = Command::new(tandem)
        .args(["proxy", "-V"])
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status();
    let status = status.with_context(|| format!("running {}", tandem.display()))?;
    Ok(status.success())
}

impl fmt::Display for Program {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Program {
    type Err = String;

    fn from_str(name: &str) -> Result<Self, String> {
        crate::named::parse("proxy", &Self::ALL, Self::name, name)
    }
}

/// An address that clients know, and the servers behind it.
#[derive(Debug, Clone)]
pub struct Pool {
    /// Where the proxy listens, on every address of its host.
    pub port: u16,
    /// The servers. haproxy takes one.
    pub servers: Vec<SocketAddr>,
    /// Further lines for nutcracker and tandem, `timeout: 400` for example; `hash` and `distribution` are its defaults.
    pub lines: Vec<String>,
    /// Threads of the proxy. nutcracker has one.
    pub threads: usize,
}

impl Pool {
    /// A pool without further lines, one thread.
    #[must_use]
    pub fn new(port: u16, servers: &[SocketAddr]) -> Self {
        Self {
            port,
            servers: servers.to_vec(),
            lines: Vec::new(),
            threads: 1,
        }
    }

    /// Adds a line.
    #[must_use]
    pub fn line(mut self, line: &str) -> Self {
        self.lines.push(line.to_owned());
        self
    }

    /// The file that nutcracker and tandem read.
    #[must_use]
    pub fn nutcracker_yml(&self) -> String {
        let mut text = format!("lab:\n  listen: 0.0.0.0:{}\n  redis: true\n", self.port);
        for line in &self.lines {
            // Writing to a string cannot fail.
            let _ = writeln!(text, "  {line}");
        }
        text.push_str("  servers:\n");
        for server in &self.servers {
            let _ = writeln!(text, "   - {server}:1");
        }
        text
    }

    /// The file that haproxy reads.
    fn haproxy_cfg(&self) -> anyhow::Result<String> {
        let [server] = self.servers[..] else {
            bail!("haproxy forwards to one server, not to {:?}", self.servers);
        };
        Ok(format!(
            "global
    nbthread {threads}
    maxconn {HAPROXY_CONNECTIONS}
defaults
    mode tcp
    timeout connect 5s
    timeout client 1h
    timeout server 1h
listen lab
    bind 0.0.0.0:{port}
    server s {server}
",
            threads = self.threads,
            port = self.port,
        ))
    }
}

/// The most clients of the lab's haproxy, which needs two descriptors for each.
pub const HAPROXY_CONNECTIONS: usize = 9_500;

/// A proxy at work, until it is dropped.
#[derive(Debug)]
pub struct Proxy {
    program: Program,
    host: Arc<Host>,
    port: u16,
    process: Process,
}

impl Proxy {
    /// Writes its file and starts it on a host.
    ///
    /// # Errors
    /// When it is not installed, ends, or does not listen in time.
    pub fn start(program: Program, host: &Arc<Host>, pool: &Pool) -> anyhow::Result<Self> {
        let file = host.dir().join(format!("{program}-{}.conf", pool.port));
        let text = match program {
            Program::Nutcracker | Program::Tandem => pool.nutcracker_yml(),
            Program::Haproxy => pool.haproxy_cfg()?,
        };
        std::fs::write(&file, text)?;
        Self::start_from(program, host, &file, pool.port, pool.threads)
    }

    /// Starts it from a file that is there already, in which it listens on a port.
    ///
    /// # Errors
    /// As [`Proxy::start`].
    pub fn start_from(
        program: Program,
        host: &Arc<Host>,
        file: &Path,
        port: u16,
        threads: usize,
    ) -> anyhow::Result<Self> {
        let mut command = Command::new(program.find()?);
        match program {
            Program::Nutcracker => command.arg("-c").arg(file),
            Program::Tandem => command.args(["proxy", "-c"]).arg(file),
            Program::Haproxy => command.args(["-db", "-f"]).arg(file),
        };
        match program {
            Program::Nutcracker | Program::Tandem => {
                // Without -v 4 nutcracker formats a line for each request that nobody reads; Debian's default log is
                // not the lab's.
                let log = host.dir().join(format!("{program}-{port}.out"));
                command.args(["-v", "4", "-a", "127.0.0.1"]);
                // How old nutcracker's statistics may be: its default of 30 s is longer than any test.
                command.args(["-i", "500"]);
                command.args(["-s", &statistics_port(port).to_string()]);
                command.arg("-o").arg(log);
            }
            Program::Haproxy => {}
        }
        if program == Program::Tandem && threads > 1 {
            command.args(["--threads", &threads.to_string()]);
        }
        let process = host.spawn(&format!("{program}-{port}"), &mut command)?;
        let mut proxy = Self {
            program,
            host: Arc::clone(host),
            port,
            process,
        };
        proxy.wait_until_it_listens()?;
        Ok(proxy)
    }

    fn wait_until_it_listens(&mut self) -> anyhow::Result<()> {
        let what = format!("{} to listen", self.program);
        poll::until(&what, START_BOUND, Duration::from_millis(5), || {
            if self.process.ended()?.is_some() {
                bail!("{}", self.process.obituary());
            }
            Ok(match self.host.connect(self.address(), CONNECT_BOUND) {
                Ok(_) => Ok(()),
                Err(error) => Err(error.to_string()),
            })
        })
    }

    /// Which one it is.
    #[must_use]
    pub fn program(&self) -> Program {
        self.program
    }

    /// Where clients of its own host find it.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        SocketAddr::from(([127, 0, 0, 1], self.port))
    }

    /// The process.
    #[must_use]
    pub fn process(&self) -> &Process {
        &self.process
    }

    /// Asserts that it runs: a proxy that ended would make every later assertion mean nothing.
    ///
    /// # Errors
    /// When it ended, with its last words.
    pub fn ensure_alive(&mut self) -> anyhow::Result<()> {
        if self.process.ended()?.is_some() {
            bail!("{}", self.process.obituary());
        }
        Ok(())
    }

    /// The statistics that it tells on its port, if it has such a port.
    ///
    /// # Errors
    /// When it does not answer or answers no JSON.
    pub fn statistics(&self) -> anyhow::Result<serde_json::Value> {
        ensure!(self.program != Program::Haproxy, "haproxy tells no JSON");
        let to = SocketAddr::from(([127, 0, 0, 1], statistics_port(self.port)));
        let mut stream = self.host.connect(to, CONNECT_BOUND)?;
        stream.set_read_timeout(Some(CONNECT_BOUND))?;
        let mut text = String::new();
        std::io::Read::read_to_string(&mut stream, &mut text)?;
        serde_json::from_str(&text).with_context(|| format!("statistics: {text}"))
    }
}

/// The port of its statistics, next to that of its clients.
fn statistics_port(port: u16) -> u16 {
    port + 1
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_read_back() {
        for program in Program::ALL {
            assert_eq!(program.name().parse(), Ok(program));
        }
        assert!("squid".parse::<Program>().unwrap_err().contains("haproxy"));
    }

    #[test]
    fn a_pool_is_written_for_each_program() {
        let servers = ["127.0.0.1:7001", "127.0.0.1:7002"].map(|text| text.parse().unwrap());
        let pool = Pool::new(22121, &servers).line("timeout: 400");
        assert_eq!(
            pool.nutcracker_yml(),
            "lab:\n  listen: 0.0.0.0:22121\n  redis: true\n  timeout: 400\n  servers:\n   - 127.0.0.1:7001:1\n   - \
             127.0.0.1:7002:1\n"
        );
        assert!(pool.haproxy_cfg().is_err(), "it cannot shard");
        let one = Pool::new(22121, &servers[..1]).haproxy_cfg().unwrap();
        assert!(one.contains("server s 127.0.0.1:7001\n"), "{one}");
    }
}
