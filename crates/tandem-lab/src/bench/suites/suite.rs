//! The suites: where their tests are, how they are started, and how they tell what came of each test.

use std::fmt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::str::FromStr;

use anyhow::{Context, ensure};
use serde::{Deserialize, Serialize};

use super::stage::PORT;

/// Under which the outcomes' file is named to the reporters.
pub(super) const OUTCOMES: &str = "SUITE_OUTCOMES";
/// For one test of redis-py, in seconds; those that wait for something that never comes end with it.
const TEST_SECONDS: u32 = 30;

/// A library's own tests.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Suite {
    /// redis-py, as it is by default: RESP3.
    RedisPy,
    /// redis-py in RESP2.
    RedisPyResp2,
    /// ioredis.
    Ioredis,
}

/// What came of one test.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Outcome {
    /// Its name, as the suite's runner prints it.
    pub test: String,
    /// `passed`, `failed` or `skipped`.
    pub outcome: String,
    /// The first line of what a failed one said.
    #[serde(default)]
    pub reason: String,
}

impl Suite {
    /// All of them, in the order of reports.
    pub const ALL: [Self; 3] = [Self::RedisPy, Self::RedisPyResp2, Self::Ioredis];

    /// The name in results and on the command line.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::RedisPy => "redis-py",
            Self::RedisPyResp2 => "redis-py-resp2",
            Self::Ioredis => "ioredis",
        }
    }

    /// The folder below that of `scripts/fetch-suites`.
    fn folder(self, root: &Path) -> PathBuf {
        root.join(match self {
            Self::RedisPy | Self::RedisPyResp2 => "redis-py",
            Self::Ioredis => "ioredis",
        })
    }

    /// Makes sure that it is there.
    ///
    /// # Errors
    /// When it is not, with how to get it.
    pub fn find(self, root: &Path) -> anyhow::Result<()> {
        let folder = self.folder(root);
        let runner = folder.join(match self {
            Self::RedisPy | Self::RedisPyResp2 => "venv/bin/pytest",
            Self::Ioredis => "node_modules/.bin/_mocha",
        });
        ensure!(
            runner.is_file(),
            "the tests of {self} are not in {}: get them with `scripts/fetch-suites {}`",
            folder.display(),
            root.display()
        );
        Ok(())
    }

    /// The command that runs it against [`PORT`] of its own host and writes an [`Outcome`] for each test, a line each.
    pub(super) fn command(self, root: &Path, only: &[String], outcomes: &Path) -> Command {
        let folder = self.folder(root);
        let reporters = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/clients");
        let mut command = match self {
            Self::RedisPy | Self::RedisPyResp2 => {
                let mut command = Command::new(folder.join("venv/bin/pytest"));
                command
                    .env("PYTHONPATH", &reporters)
                    .args(["-p", "suite_pytest", "-p", "no:cacheprovider"])
                    .args(["-q", "--tb=no", "--no-header", "--disable-warnings"])
                    .arg(format!("--rootdir={}", folder.display()))
                    .arg("-c")
                    .arg(folder.join("pyproject.toml"))
                    .arg(format!("--timeout={TEST_SECONDS}"))
                    .arg("--timeout-method=signal")
                    .arg(format!("--redis-url=redis://127.0.0.1:{PORT}/0"));
                if self == Self::RedisPyResp2 {
                    command.arg("--protocol=2");
                }
                // They want a cluster, modules, Sentinels, or test servers of the library's makers.
                command.args(["-m", "not onlycluster and not redismod and not ssl"]);
                for part in ELSEWHERE {
                    command.arg(format!("--ignore={}", folder.join(part).display()));
                }
                if only.is_empty() {
                    command.arg(folder.join("tests"));
                }
                command.args(only.iter().map(|test| folder.join(test)));
                command
            }
            Self::Ioredis => {
                let mut command = Command::new("sh");
                command
                    .env("NODE_ENV", "test")
                    .args(["-c", EACH_FILE, "suite"])
                    .arg(&folder)
                    .arg(reporters.join("suite_mocha.js"));
                command
            }
        };
        command.env(OUTCOMES, outcomes);
        command
    }

    /// What [`Suite::command`] takes to run some tests again: mocha's runner only takes files.
    pub(super) fn only(self, tests: &[String]) -> Vec<String> {
        match self {
            Self::RedisPy | Self::RedisPyResp2 => tests.to_vec(),
            Self::Ioredis => Vec::new(),
        }
    }
}

/// Each file by itself: mocha ends at an error between two tests.
const EACH_FILE: &str = r#"cd "$1" || exit 1
for file in $(find test -name '*.js' ! -path 'test/helpers/*' | sort); do
    node_modules/.bin/_mocha --opts /dev/null --reporter "$2" --timeout 8000 test/helpers "$file"
done"#;

/// Parts of redis-py's suite for which there is nothing here.
const ELSEWHERE: [&str; 7] = [
    "tests/test_scenario",
    "tests/test_cluster.py",
    "tests/test_cluster_transaction.py",
    "tests/test_ssl.py",
    "tests/test_asyncio/test_cluster.py",
    "tests/test_asyncio/test_cluster_transaction.py",
    "tests/test_asyncio/test_ssl.py",
];

/// Reads a reporter's file.
pub(super) fn read(path: &Path) -> anyhow::Result<Vec<Outcome>> {
    let text = std::fs::read_to_string(path).context("the suite told no outcomes")?;
    text.lines()
        .map(|line| serde_json::from_str(line).with_context(|| format!("`{line}`")))
        .collect()
}

impl fmt::Display for Suite {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Suite {
    type Err = String;

    fn from_str(name: &str) -> Result<Self, String> {
        crate::named::parse("suite", &Self::ALL, Self::name, name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_suite_that_is_missing_says_how_to_get_it() {
        for suite in Suite::ALL {
            assert_eq!(suite.name().parse(), Ok(suite));
            let error = suite.find(Path::new("/nowhere")).unwrap_err().to_string();
            assert!(error.contains("scripts/fetch-suites /nowhere"), "{error}");
        }
    }
}
