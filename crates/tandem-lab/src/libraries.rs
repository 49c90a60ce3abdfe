//! Unmodified client libraries in programs of their own: they find the primary through Sentinels, and write.
//!
//! Each is installed once into the lab's cache directory by its own package manager, at a version that is named here;
//! go-redis, and the compiler that it needs, are distribution packages (`scripts/install-packages`). Jedis and Lettuce
//! are in none of the registries that the lab uses.

use std::fmt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::str::FromStr;
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};

use crate::fleet::{Fleet, Plan, Program};
use crate::poll;

const REDIS_PY: &str = "redis==8.1.0";
const IOREDIS: &str = "ioredis@6.0.0";
const NODE_REDIS: &str = "redis@6.3.1";
/// Where the distribution keeps Go packages.
const GO_PATH: &str = "/usr/share/gocode";

const BOUND: Duration = Duration::from_secs(60);
const EVERY: Duration = Duration::from_millis(20);

/// A client library.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Library {
    /// Python.
    RedisPy,
    /// JavaScript.
    Ioredis,
    /// JavaScript.
    NodeRedis,
    /// Go.
    GoRedis,
}

impl Library {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::RedisPy, Self::Ioredis, Self::NodeRedis, Self::GoRedis];

    /// The name in results and on the command line.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::RedisPy => "redis-py",
            Self::Ioredis => "ioredis",
            Self::NodeRedis => "node-redis",
            Self::GoRedis => "go-redis",
        }
    }

    /// The program; it takes the group and the Sentinels' addresses, writes `client:N` = `N` every 20 ms and prints `ok N`
    /// when that was acknowledged.
    ///
    /// # Errors
    /// When the library cannot be had here, in words for a report.
    pub fn command(self) -> anyhow::Result<Command> {
        match self {
            Self::RedisPy => python(),
            Self::Ioredis => node(IOREDIS, "ioredis.js"),
            Self::NodeRedis => node(NODE_REDIS, "node_redis.js"),
            Self::GoRedis => go(),
        }
    }
}

impl fmt::Display for Library {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Library {
    type Err = String;

    fn from_str(name: &str) -> Result<Self, String> {
        crate::named::parse("library", &Self::ALL, Self::name, name)
    }
}

/// Two servers and three Sentinels of one kind; the library finds the primary, which is then killed.
///
/// # Returns
/// From the kill to a write that the new primary holds.
///
/// # Errors
/// When the library wrote elsewhere, or did not write again.
pub fn follow(mut command: Command, name: &str, program: Program) -> anyhow::Result<Duration> {
    let mut fleet = Fleet::build(Plan::of(2, &[program; 3]).hurried())?;
    fleet.start(BOUND)?;
    command.arg(fleet.group());
    for member in fleet.members() {
        command.arg(member.address().to_string());
    }
    let client = fleet.client_host().spawn(name, &mut command)?;
    let write_after = |number: u64| {
        poll::until(&format!("{name} to write"), BOUND, EVERY, || {
            let text = std::fs::read_to_string(client.log()).unwrap_or_default();
            let written = text
                .lines()
                .rev()
                .find_map(|line| line.strip_prefix("ok ")?.trim().parse::<u64>().ok())
                .filter(|written| *written > number);
            Ok(written.ok_or_else(|| text.lines().rev().take(3).collect::<Vec<_>>().join(" | ")))
        })
    };
    let first = write_after(0)?;
    ensure!(holds(&fleet, 0, first)?, "{name} wrote elsewhere");

    let begun = Instant::now();
    fleet.servers()[0].process().kill();
    poll::until("the other server to be named", BOUND, EVERY, || {
        let named = fleet.agreed()?;
        Ok(if named == Ok(fleet.servers()[1].address()) {
            Ok(())
        } else {
            Err(format!("{named:?}"))
        })
    })?;
    // Everything that is acknowledged after the old primary's death was written to the new one.
    let before = write_after(0)?;
    let after = write_after(before)?;
    ensure!(holds(&fleet, 1, after)?, "{name} wrote elsewhere");
    Ok(begun.elapsed())
}

fn holds(fleet: &Fleet, server: usize, number: u64) -> anyhow::Result<bool> {
    let mut connection = fleet.servers()[server].connect()?;
    let value = connection.demand(&["GET", &format!("client:{number}")])?;
    Ok(value.text() == Some(number.to_string()))
}

/// The directory in which the libraries are installed.
fn cache(what: &str) -> anyhow::Result<PathBuf> {
    let root = match std::env::var_os("TANDEM_LAB_SERVERS") {
        Some(named) => PathBuf::from(named),
        None => PathBuf::from(std::env::var_os("HOME").context("HOME is not set")?)
            .join(".cache/tandem-lab"),
    };
    let folder = root.join("clients").join(what);
    std::fs::create_dir_all(&folder)?;
    Ok(folder)
}

fn demand(command: &mut Command) -> anyhow::Result<()> {
    let output = command
        .output()
        .with_context(|| format!("{:?}", command.get_program()))?;
    let said = String::from_utf8_lossy(&output.stderr);
    let last = said.lines().last().unwrap_or_default();
    ensure!(output.status.success(), "{command:?}: {last}");
    Ok(())
}

fn script(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/clients")
        .join(name)
}

fn python() -> anyhow::Result<Command> {
    let folder = cache("python")?;
    let python = folder.join("bin/python");
    let works =
        |python: &Path| demand(Command::new(python).args(["-c", "import redis.sentinel"])).is_ok();
    if !works(&python) {
        demand(Command::new("python3").args(["-m", "venv"]).arg(&folder))?;
        let install = ["-m", "pip", "install", "-q", "--disable-pip-version-check"];
        demand(Command::new(&python).args(install).arg(REDIS_PY))?;
    }
    let mut command = Command::new(python);
    command.arg(script("redis_py.py"));
    Ok(command)
}

fn node(package: &str, program: &str) -> anyhow::Result<Command> {
    let name = package.split('@').next().unwrap_or_default();
    let folder = cache("node")?;
    if !folder.join("node_modules").join(name).is_dir() {
        let install = [
            "install",
            "--no-audit",
            "--no-fund",
            "--silent",
            "--ignore-scripts",
            "--prefix",
        ];
        demand(Command::new("npm").args(install).arg(&folder).arg(package))?;
    }
    demand(Command::new("node").arg("--version"))?;
    let mut command = Command::new("node");
    command
        .env("NODE_PATH", folder.join("node_modules"))
        .arg(script(program));
    Ok(command)
}

fn go() -> anyhow::Result<Command> {
    let folder = cache("go")?;
    let program = folder.join("go_redis");
    // What was compiled before is taken from its cache.
    demand(
        Command::new("go")
            .env("GO111MODULE", "off")
            .env("GOPATH", GO_PATH)
            .env("GOCACHE", folder.join("compiled"))
            .args(["build", "-o"])
            .arg(&program)
            .arg(script("go_redis.go")),
    )?;
    Ok(Command::new(program))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_read_back() {
        for library in Library::ALL {
            assert_eq!(library.name().parse(), Ok(library));
        }
        assert!("other".parse::<Library>().is_err());
    }
}
