//! One Sentinel of a fleet: its program, its file, its process, and what it believes.

use std::collections::BTreeMap;
use std::fmt;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus};
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, anyhow, bail, ensure};

use crate::client::sentinel_answer;
use crate::ns::Host;
use crate::poll;
use crate::process::Process;
use crate::resp::{Connection, Reply};
use crate::server::Flavour;

/// The port of every Sentinel in the lab.
pub const PORT: u16 = 26379;

/// For a Sentinel's answer.
const PATIENCE: Duration = Duration::from_secs(2);
/// For a Sentinel to accept after its start.
const START_BOUND: Duration = Duration::from_secs(20);

/// Which Sentinel runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Program {
    /// The distribution's redis-sentinel.
    Real,
    /// `tandem sentinel`.
    Tandem,
    /// Valkey 9.1 as a Sentinel.
    Valkey,
}

impl Program {
    /// The two that are compared everywhere.
    pub const ALL: [Self; 2] = [Self::Real, Self::Tandem];

    /// The name in results and on the command line.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Real => "real",
            Self::Tandem => "tandem",
            Self::Valkey => "valkey",
        }
    }

    /// The command that runs it on a file.
    ///
    /// # Errors
    /// When there is no tandem binary, or no Valkey.
    pub fn command(self, file: &Path) -> anyhow::Result<Command> {
        let mut command = match self {
            Self::Real => Command::new("redis-sentinel"),
            Self::Tandem => {
                let mut command = Command::new(crate::tandem_binary()?);
                command.arg("sentinel");
                command
            }
            Self::Valkey => Command::new(Flavour::Valkey91.find()?),
        };
        command.arg(file);
        if self == Self::Valkey {
            command.arg("--sentinel");
        }
        Ok(command)
    }

    /// Whether it can be run here: the inner error says why not.
    ///
    /// # Errors
    /// When it cannot, in words for a report.
    pub fn available(self) -> anyhow::Result<()> {
        match self {
            Self::Real => {
                let found = Command::new("redis-sentinel").arg("--version").output();
                found.context("redis-sentinel is not installed").map(drop)
            }
            Self::Tandem => {
                let binary = crate::tandem_binary()?;
                let help = Command::new(&binary)
                    .args(["sentinel", "--help"])
                    .output()?;
                ensure!(
                    help.status.success(),
                    "{} has no `sentinel` yet",
                    binary.display()
                );
                Ok(())
            }
            Self::Valkey => Flavour::Valkey91.find().map(drop),
        }
    }
}

impl fmt::Display for Program {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Program {
    type Err = String;

    fn from_str(name: &str) -> Result<Self, String> {
        crate::named::parse("Sentinel", &Self::ALL, Self::name, name)
    }
}

/// What a Sentinel believes of a group, by `SENTINEL MASTER`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Belief {
    /// `flags`: `master` alone when it holds the primary to be well.
    pub flags: String,
    /// `config-epoch`.
    pub config_epoch: u64,
    /// `num-slaves`.
    pub replicas: usize,
    /// `num-other-sentinels`.
    pub others: usize,
}

/// A Sentinel of a fleet.
#[derive(Debug)]
pub struct Member {
    host: Arc<Host>,
    program: Program,
    file: PathBuf,
    first_text: String,
    process: Option<Process>,
    frozen: bool,
}

impl Member {
    /// Writes its file on a host; nothing runs yet.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn new(host: Arc<Host>, program: Program, first_text: String) -> anyhow::Result<Self> {
        let file = host.dir().join("sentinel.conf");
        std::fs::write(&file, &first_text)?;
        Ok(Self {
            host,
            program,
            file,
            first_text,
            process: None,
            frozen: false,
        })
    }

    /// Which Sentinel it is.
    #[must_use]
    pub fn program(&self) -> Program {
        self.program
    }

    /// Where it runs.
    #[must_use]
    pub fn host(&self) -> &Arc<Host> {
        &self.host
    }

    /// Its file.
    #[must_use]
    pub fn file(&self) -> &Path {
        &self.file
    }

    /// Where it listens, by its host's own address.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        SocketAddr::new(self.host.address(), PORT)
    }

    /// Its process while it has one.
    #[must_use]
    pub fn process(&self) -> Option<&Process> {
        self.process.as_ref()
    }

    /// Whether it runs and is not frozen.
    #[must_use]
    pub fn is_at_work(&self) -> bool {
        self.process.is_some() && !self.frozen
    }

    /// Starts it from its file as it is, and waits until it answers.
    ///
    /// # Errors
    /// When it ends, or does not answer.
    pub fn start(&mut self) -> anyhow::Result<()> {
        let mut command = self.program.command(&self.file)?;
        let name = format!("sentinel-{}", self.program);
        let mut process = self.host.spawn(&name, &mut command)?;
        let what = format!("{name} on {} to answer", self.host.name());
        poll::until(&what, START_BOUND, Duration::from_millis(5), || {
            if process.ended()?.is_some() {
                bail!("{}", process.obituary());
            }
            Ok(
                match self.connect().and_then(|mut c| Ok(c.call(&["PING"])?)) {
                    Ok(_) => Ok(()),
                    Err(error) => Err(format!("{error:#}")),
                },
            )
        })?;
        self.process = Some(process);
        self.frozen = false;
        Ok(())
    }

    /// SIGKILL, and waits for the end.
    ///
    /// # Errors
    /// When the kernel does not know the child.
    pub fn kill(&mut self) -> anyhow::Result<()> {
        if let Some(mut process) = self.process.take() {
            process.kill();
            process.wait()?;
        }
        Ok(())
    }

    /// Waits until it has ended by itself, and says again and again what is to bring that about.
    ///
    /// # Errors
    /// When it has not after `bound`, with its last words, or is not running.
    pub fn wait_for_the_end(
        &mut self,
        bound: Duration,
        command: &[&str],
    ) -> anyhow::Result<ExitStatus> {
        let mut process = self.process.take().context("it does not run")?;
        let status = poll::until("its end", bound, Duration::from_millis(200), || {
            if let Some(status) = process.ended()? {
                return Ok(Ok(status));
            }
            // It may end before it has answered, and be in the middle of what it was told before.
            let answer = match self.demand(command) {
                Ok(reply) => format!("{reply:?}"),
                Err(error) => format!("{error:#}"),
            };
            Ok(Err(format!("{answer}; {}", process.obituary())))
        });
        if status.is_err() {
            self.process = Some(process);
        }
        status
    }

    /// SIGSTOP.
    pub fn freeze(&mut self) {
        if let Some(process) = &self.process {
            process.freeze();
            self.frozen = true;
        }
    }

    /// SIGCONT.
    pub fn thaw(&mut self) {
        if let Some(process) = &self.process {
            process.thaw();
            self.frozen = false;
        }
    }

    /// Kills it if it runs and starts it again, with all it knew.
    ///
    /// # Errors
    /// As [`Member::start`].
    pub fn restart(&mut self) -> anyhow::Result<()> {
        self.kill()?;
        self.start()
    }

    /// As [`Member::restart`], with its file as it was at first: it has forgotten its id, its epochs and its votes.
    ///
    /// # Errors
    /// As [`Member::start`].
    pub fn restart_without_its_file(&mut self) -> anyhow::Result<()> {
        self.restart_with(&[])
    }

    /// As [`Member::restart_without_its_file`], with further lines in its file.
    ///
    /// # Errors
    /// As [`Member::start`].
    pub fn restart_with(&mut self, lines: &[String]) -> anyhow::Result<()> {
        self.kill()?;
        let mut text = self.first_text.clone();
        for line in lines {
            text.push_str(line);
            text.push('\n');
        }
        std::fs::write(&self.file, text)?;
        self.start()
    }

    /// A connection over its host's loopback.
    ///
    /// # Errors
    /// When it does not accept.
    pub fn connect(&self) -> anyhow::Result<Connection> {
        let to = SocketAddr::from(([127, 0, 0, 1], PORT));
        Ok(Connection::open(&self.host, to, PATIENCE)?)
    }

    /// One command over a connection of its own; an error reply is an error.
    ///
    /// # Errors
    /// When it does not answer, or refuses.
    pub fn demand(&self, command: &[&str]) -> anyhow::Result<Reply> {
        self.connect()?.demand(command)
    }

    /// The address that it gives to clients.
    ///
    /// # Errors
    /// When it does not answer, or does not know the group.
    pub fn addr_by_name(&self, group: &str) -> anyhow::Result<SocketAddr> {
        sentinel_answer(&self.demand(&["SENTINEL", "GET-MASTER-ADDR-BY-NAME", group])?)
    }

    /// What it believes of a group.
    ///
    /// # Errors
    /// When it does not answer, or its answer lacks a field.
    pub fn belief(&self, group: &str) -> anyhow::Result<Belief> {
        let map = fields(&self.demand(&["SENTINEL", "MASTER", group])?);
        let field = |name: &str| {
            map.get(name)
                .ok_or_else(|| anyhow!("SENTINEL MASTER has no {name}: {map:?}"))
        };
        Ok(Belief {
            flags: field("flags")?.clone(),
            config_epoch: field("config-epoch")?.parse()?,
            replicas: field("num-slaves")?.parse()?,
            others: field("num-other-sentinels")?.parse()?,
        })
    }

    /// The current epoch. No command tells it, so the file is written and read.
    ///
    /// # Errors
    /// When it cannot be written, or has no such line.
    pub fn current_epoch(&self) -> anyhow::Result<u64> {
        self.demand(&["SENTINEL", "FLUSHCONFIG"])?;
        let text = std::fs::read_to_string(&self.file)?;
        let value = text
            .lines()
            .find_map(|line| line.strip_prefix("sentinel current-epoch "));
        value
            .with_context(|| format!("{} has no current epoch", self.file.display()))?
            .trim()
            .parse()
            .context("the current epoch")
    }

    /// What keeps it from being able to act, if anything does.
    pub(super) fn discontent(
        &self,
        group: &str,
        replicas: usize,
        others: usize,
    ) -> anyhow::Result<Option<String>> {
        let belief = self.belief(group)?;
        let known = Belief {
            flags: "master".to_owned(),
            config_epoch: belief.config_epoch,
            replicas,
            others,
        };
        if belief != known {
            return Ok(Some(format!("{belief:?}")));
        }
        for (list, flags) in [("REPLICAS", "slave"), ("SENTINELS", "sentinel")] {
            let Reply::Array(entries) = self.demand(&["SENTINEL", list, group])? else {
                return Ok(Some(format!("no list of {list}")));
            };
            for entry in entries.iter().map(fields) {
                let is =
                    |name: &str, value: &str| entry.get(name).is_none_or(|found| found == value);
                if !is("flags", flags) || !is("master-link-status", "ok") {
                    return Ok(Some(format!("{list}: {entry:?}")));
                }
            }
        }
        Ok(None)
    }
}

/// The fields of an instance: names and values in turn.
#[must_use]
pub fn fields(reply: &Reply) -> BTreeMap<String, String> {
    let Reply::Array(parts) = reply else {
        return BTreeMap::new();
    };
    parts
        .chunks_exact(2)
        .filter_map(|pair| Some((pair[0].text()?, pair[1].text()?)))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_programs_are_read_back() {
        for program in Program::ALL {
            assert_eq!(program.name().parse(), Ok(program));
        }
        assert!("other".parse::<Program>().is_err());
    }

    #[test]
    fn fields_are_pairs_and_a_torn_one_is_left_out() {
        let bulk = |text: &str| Reply::Bulk(Some(text.as_bytes().to_vec()));
        let reply = Reply::Array(vec![bulk("name"), bulk("a"), bulk("port")]);
        assert_eq!(
            fields(&reply),
            BTreeMap::from([("name".to_owned(), "a".to_owned())])
        );
        assert!(fields(&Reply::Integer(1)).is_empty());
    }
}
