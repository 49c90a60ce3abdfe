//! Redis and Valkey servers on hosts of the lab, unmodified, started from an ordinary configuration file.
//!
//! After every start the lab asserts that the process which answers is the one it started (`INFO process_id`): a
//! foreign server on the port would silently make a test mean nothing.

mod binary;

use std::fmt::Write;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, anyhow, bail, ensure};

pub use self::binary::Flavour;
use crate::ns::Host;
use crate::poll;
use crate::process::Process;
use crate::resp::Connection;

/// How long a server may take until it answers PING, loading a few GiB included.
const START_BOUND: Duration = Duration::from_secs(120);
/// For one command; `DEBUG POPULATE` of 4 GiB takes the longest.
const REPLY_BOUND: Duration = Duration::from_secs(120);
/// Size of the values that [`Server::fill`] makes. Few large keys: what matters is how many pages the kernel must free.
const FILL_VALUE_BYTES: u64 = 4096;

/// What a server keeps on disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Persistence {
    /// Nothing: a restarted server is empty.
    None,
    /// Snapshots, at Redis' default save points.
    Rdb,
    /// The append-only file as plain commands, synced each second.
    Aof,
    /// The append-only file with a snapshot as its base, Redis' default form of it.
    Mixed,
}

impl Persistence {
    /// All kinds.
    pub const ALL: [Self; 4] = [Self::None, Self::Rdb, Self::Aof, Self::Mixed];

    /// Its lines of `redis.conf`.
    fn directives(self) -> &'static str {
        match self {
            Self::None => "save \"\"\nappendonly no\n",
            Self::Rdb => "save 3600 1\nsave 300 100\nsave 60 10000\nappendonly no\n",
            Self::Aof => {
                "save \"\"\nappendonly yes\nappendfsync everysec\naof-use-rdb-preamble no\n"
            }
            Self::Mixed => {
                "save \"\"\nappendonly yes\nappendfsync everysec\naof-use-rdb-preamble yes\n"
            }
        }
    }
}

/// How a server is to be set up.
#[derive(Debug, Clone)]
pub struct Settings {
    /// The program.
    pub flavour: Flavour,
    /// Its port, on every address of the host, present and future.
    pub port: u16,
    /// What it keeps on disk.
    pub persistence: Persistence,
    /// Further lines of `redis.conf`, `requirepass secret` for example.
    pub extra: Vec<String>,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            flavour: Flavour::Redis70,
            port: 6379,
            persistence: Persistence::None,
            extra: Vec::new(),
        }
    }
}

/// A server on a host of the lab.
#[derive(Debug)]
pub struct Server {
    host: Arc<Host>,
    program: PathBuf,
    port: u16,
    process: Process,
}

impl Server {
    /// Writes its configuration file and starts it.
    ///
    /// # Errors
    /// When the program is not installed, ends, or does not answer as itself in time.
    pub fn start(host: &Arc<Host>, settings: &Settings) -> anyhow::Result<Self> {
        Self::configure(host, settings)?;
        Self::launch(Arc::clone(host), settings.flavour.find()?, settings.port)
    }

    /// Writes its configuration file and its empty data directory, for somebody else to start it from.
    ///
    /// # Errors
    /// When they cannot be written.
    pub fn configure(host: &Host, settings: &Settings) -> anyhow::Result<()> {
        let data = host.dir().join(format!("data-{}", settings.port));
        std::fs::create_dir_all(&data)?;
        let mut text = format!(
            "port {}\nbind 0.0.0.0\nprotected-mode no\ndaemonize no\ndir {}\n{}",
            settings.port,
            data.display(),
            settings.persistence.directives()
        );
        // Before 7.0 there was no such word, and DEBUG was always allowed.
        if settings.flavour != Flavour::Redis62 {
            text.push_str("enable-debug-command yes\n");
        }
        for line in &settings.extra {
            writeln!(text, "{line}")?;
        }
        std::fs::write(config(host, settings.port), text)?;
        Ok(())
    }

    fn launch(host: Arc<Host>, program: PathBuf, port: u16) -> anyhow::Result<Self> {
        let process = host.spawn(
            &format!("redis-{port}"),
            Command::new(&program).arg(config(&host, port)),
        )?;
        let mut server = Self {
            host,
            program,
            port,
            process,
        };
        server.wait_until_it_answers()?;
        Ok(server)
    }

    /// Starts it again after its end, from the configuration file as it is now, on the data it kept.
    ///
    /// # Errors
    /// As [`Server::start`].
    pub fn restart(&mut self) -> anyhow::Result<()> {
        self.process.kill();
        self.process.wait()?;
        *self = Self::launch(Arc::clone(&self.host), self.program.clone(), self.port)?;
        Ok(())
    }

    /// Where it listens, by the host's own address.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        SocketAddr::new(self.host.address(), self.port)
    }

    /// The host that it runs on.
    #[must_use]
    pub fn host(&self) -> &Arc<Host> {
        &self.host
    }

    /// The process, to be killed, frozen and thawed.
    #[must_use]
    pub fn process(&self) -> &Process {
        &self.process
    }

    /// Whether the process is there; a frozen one is.
    #[must_use]
    pub fn is_running(&mut self) -> bool {
        matches!(self.process.ended(), Ok(None))
    }

    /// Whether the process is there and not on its way out: the end of one that was killed is waited for.
    ///
    /// # Errors
    /// When the kernel does not know the child.
    pub fn is_running_soon(&mut self) -> anyhow::Result<bool> {
        if self.process.is_exiting() {
            self.process.wait()?;
        }
        Ok(self.is_running())
    }

    /// A connection from the server's own host, which works in any state of the network.
    ///
    /// # Errors
    /// When it does not accept.
    pub fn connect(&self) -> anyhow::Result<Connection> {
        self.connect_within(REPLY_BOUND)
    }

    /// As [`Server::connect`], with another bound for the connection and for each reply.
    ///
    /// # Errors
    /// When it does not accept.
    pub fn connect_within(&self, bound: Duration) -> anyhow::Result<Connection> {
        // Its loopback: the own address can be away while the interface is down.
        let to = SocketAddr::from(([127, 0, 0, 1], self.port));
        Connection::open(&self.host, to, bound)
            .with_context(|| format!("connecting to the server of {}", self.host.name()))
    }

    /// Whether it is a primary that accepts writes as far as its role says.
    ///
    /// # Errors
    /// When it does not answer within a second.
    pub fn is_primary(&self) -> anyhow::Result<bool> {
        Ok(self.connect_within(Duration::from_secs(1))?.info("role")? == "master")
    }

    /// Makes it a replica of another server, or of none.
    ///
    /// # Errors
    /// When it refuses.
    pub fn replicate(&self, primary: Option<SocketAddr>) -> anyhow::Result<()> {
        let (ip, port) = match primary {
            Some(primary) => (primary.ip().to_string(), primary.port().to_string()),
            None => ("NO".to_owned(), "ONE".to_owned()),
        };
        self.connect()?.demand(&["REPLICAOF", &ip, &port]).map(drop)
    }

    /// Waits until its replication link is up and everything the primary had then was read.
    ///
    /// # Errors
    /// When that does not happen within `bound`.
    pub fn wait_until_synced(&self, bound: Duration) -> anyhow::Result<()> {
        let what = format!("the replica on {} to be in sync", self.host.name());
        poll::until(&what, bound, Duration::from_millis(10), || {
            let mut connection = self.connect()?;
            if connection.info("role")? != "slave" {
                return Ok(Err("it is a primary".to_owned()));
            }
            let link = connection.info("master_link_status")?;
            Ok(if link == "up" {
                Ok(())
            } else {
                Err(format!("link {link}"))
            })
        })
    }

    /// Waits until its append-only file holds what it was given: after a full sync it is written anew, and a server that
    /// dies before the end of that has kept nothing.
    ///
    /// # Errors
    /// When that does not happen within `bound`.
    pub fn wait_until_rewritten(&self, bound: Duration) -> anyhow::Result<()> {
        let what = format!("the append-only file on {}", self.host.name());
        poll::until(&what, bound, Duration::from_millis(10), || {
            let mut connection = self.connect()?;
            for field in ["aof_rewrite_in_progress", "aof_rewrite_scheduled"] {
                if connection.info(field)? != "0" {
                    return Ok(Err(field.to_owned()));
                }
            }
            Ok(Ok(()))
        })
    }

    /// Fills it with data of about `gib` GiB, in seconds.
    ///
    /// It must have no replica yet: `DEBUG POPULATE` does not replicate, so a replica has to come by a full sync.
    ///
    /// # Errors
    /// When it has a replica or refuses.
    pub fn fill(&self, gib: u64) -> anyhow::Result<()> {
        if gib == 0 {
            return Ok(());
        }
        let mut connection = self.connect()?;
        ensure!(
            connection.info("connected_slaves")? == "0",
            "a server is filled before replicas are attached"
        );
        let keys = (gib << 30) / FILL_VALUE_BYTES;
        connection.demand(&[
            "DEBUG",
            "POPULATE",
            &keys.to_string(),
            "fill",
            &FILL_VALUE_BYTES.to_string(),
        ])?;
        let held: u64 = connection.info("used_memory")?.parse()?;
        ensure!(
            held >= gib << 30,
            "filled with {gib} GiB, but it holds {held} bytes"
        );
        Ok(())
    }

    fn wait_until_it_answers(&mut self) -> anyhow::Result<()> {
        let what = format!("the server on {} to answer", self.host.name());
        poll::until(&what, START_BOUND, Duration::from_millis(5), || {
            if self.process.ended()?.is_some() {
                bail!("{}", self.process.obituary());
            }
            let Ok(mut connection) = self.connect() else {
                return Ok(Err("it does not accept yet".to_owned()));
            };
            match connection.call(&["PING"]) {
                Ok(crate::resp::Reply::Error(text)) if text.starts_with("NOAUTH") => Ok(Ok(())),
                Ok(crate::resp::Reply::Error(text)) => Ok(Err(text)),
                // A daemon that fences the server at once also closes the connections it finds: ask again then.
                Ok(_) => match connection.info("process_id") {
                    Err(error) => Ok(Err(error.to_string())),
                    Ok(pid) if pid.parse::<u32>()? == self.process.pid() => Ok(Ok(())),
                    Ok(other) => Err(anyhow!(
                        "process {other} answers in place of {}",
                        self.process.pid()
                    )),
                },
                Err(error) => Ok(Err(error.to_string())),
            }
        })
    }
}

/// Where the configuration file of a server on a host is.
#[must_use]
pub fn config(host: &Host, port: u16) -> PathBuf {
    host.dir().join(format!("redis-{port}.conf"))
}
