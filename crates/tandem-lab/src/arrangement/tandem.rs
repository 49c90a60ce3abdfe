//! tandem itself: a daemon on each host, started by its path from an ordinary `tandem.toml`.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, bail};
use serde_json::Value;

use super::{Arrangement, Fault, Pair, Side, VIP};
use crate::client::Target;
use crate::server::Settings;

/// The secret that the two daemons share.
const SECRET: &str = "a-secret-of-the-lab-and-of-nothing-else\n";

/// The arrangement.
#[derive(Debug)]
pub struct TandemPair {
    pair: Pair,
    program: PathBuf,
    /// Lines that go into the host's block of both files, `directory = "servers"` for example.
    host_lines: Vec<String>,
    /// Lines that go into the group's block of both files, `preempt = "after-sync"` for example.
    group_lines: Vec<String>,
    /// Sections that both files end with, `[[proxy]]` for example.
    sections: Vec<String>,
    advert_interval: String,
    down_after: String,
    spawns: bool,
}

impl TandemPair {
    /// Builds its network; `program` is the tandem binary ([`crate::tandem_binary`]).
    ///
    /// # Errors
    /// As [`Pair::new`].
    pub fn new(program: PathBuf, settings: Settings) -> anyhow::Result<Self> {
        Ok(Self {
            pair: Pair::new(settings)?,
            program,
            host_lines: Vec::new(),
            group_lines: Vec::new(),
            sections: Vec::new(),
            advert_interval: "100ms".to_owned(),
            down_after: "300ms".to_owned(),
            spawns: false,
        })
    }

    /// Adds a line to the host's block of both configuration files.
    #[must_use]
    pub fn host_line(mut self, line: &str) -> Self {
        self.host_lines.push(line.to_owned());
        self
    }

    /// Adds a line to the group's block of both configuration files.
    #[must_use]
    pub fn group_line(mut self, line: &str) -> Self {
        self.group_lines.push(line.to_owned());
        self
    }

    /// Adds a section to the end of both configuration files.
    #[must_use]
    pub fn section(mut self, text: &str) -> Self {
        self.sections.push(text.to_owned());
        self
    }

    /// Time between adverts, `1s` for example, in place of 100 ms.
    #[must_use]
    pub fn advert_interval(mut self, interval: &str) -> Self {
        self.advert_interval = interval.to_owned();
        self
    }

    /// Sets `down_after`, `"1s"` for instance.
    #[must_use]
    pub fn down_after(mut self, silence: &str) -> Self {
        self.down_after = silence.to_owned();
        self
    }

    /// The daemons start the servers themselves (`manage = "spawn"`), from the lab's configuration files.
    #[must_use]
    pub fn spawning(mut self) -> Self {
        self.spawns = true;
        self
    }

    /// The configuration file of a side.
    #[must_use]
    pub fn file(&self, side: Side) -> PathBuf {
        self.pair.host(side).dir().join("tandem.toml")
    }

    /// The directory of a side's journal and archive.
    #[must_use]
    pub fn state_dir(&self, side: Side) -> PathBuf {
        self.pair.host(side).dir().join("state")
    }

    /// Runs a verb of tandem on a side's host, `status` for example, and returns its output.
    ///
    /// # Errors
    /// When it fails, with its standard error.
    pub fn tandem(&self, side: Side, verb: &str, args: &[&str]) -> anyhow::Result<String> {
        let program = self
            .program
            .to_str()
            .context("the path of the tandem binary is not UTF-8")?;
        let file = self.file(side);
        let file = file
            .to_str()
            .context("the path of the lab's directory is not UTF-8")?;
        self.pair
            .host(side)
            .run(program, &[&[verb, "-c", file], args].concat())
    }

    /// `tandem status --json` of a side.
    ///
    /// # Errors
    /// When the daemon does not answer or answers no JSON.
    pub fn status(&self, side: Side) -> anyhow::Result<Value> {
        let text = self.tandem(side, "status", &["--json"])?;
        serde_json::from_str(&text).with_context(|| format!("status is no JSON: {text}"))
    }

    fn config(&self, side: Side) -> String {
        let peer = side.other();
        let priority = match side {
            Side::A => 250,
            Side::B => 240,
        };
        format!(
            r#"[host]
id          = "{id}"
address     = "{address}"
secret_file = "{secret}"
state_dir   = "{state}"
{host_lines}

[[peer]]
id      = "{peer_id}"
address = "{peer_address}"

[[group]]
name       = "orders"
servers    = ["{server}"]
{manage}
down_after = "{down_after}"
{lines}

[group.vip]
address   = "{VIP}/24"
interface = "eth0"

[group.vrrp]
router_id       = 51
priority        = {priority}
advert_interval = "{advert_interval}"

{sections}
"#,
            id = side.host(),
            address = self.pair.host(side).address(),
            secret = self.secret(side).display(),
            state = self.state_dir(side).display(),
            peer_id = peer.host(),
            peer_address = self.pair.host(peer).address(),
            server = self.pair.server_address(side),
            host_lines = self.host_lines.join("\n"),
            lines = self.group_lines.join("\n"),
            manage = self.manage(side),
            sections = self.sections.join("\n"),
            advert_interval = self.advert_interval,
            down_after = self.down_after,
        )
    }

    fn manage(&self, side: Side) -> String {
        if !self.spawns {
            return "manage     = \"adopt\"".to_owned();
        }
        let file = crate::server::config(self.pair.host(side), self.pair.vip().port());
        format!(
            "manage     = \"spawn\"\nredis_conf = \"{}\"",
            file.display()
        )
    }

    /// The file with the secret that the daemons share, once a side's are started.
    pub(crate) fn secret(&self, side: Side) -> PathBuf {
        self.pair.host(side).dir().join("secret")
    }
}

impl Arrangement for TandemPair {
    fn name(&self) -> String {
        "tandem".to_owned()
    }

    fn pair(&self) -> &Pair {
        &self.pair
    }

    fn pair_mut(&mut self) -> &mut Pair {
        &mut self.pair
    }

    fn target(&self) -> Target {
        Target::Address(self.pair.vip())
    }

    fn supports(&self, _fault: Fault) -> bool {
        true
    }

    fn start_daemons(&mut self, side: Side) -> anyhow::Result<()> {
        use std::os::unix::fs::PermissionsExt;
        let secret = self.secret(side);
        std::fs::write(&secret, SECRET)?;
        std::fs::set_permissions(&secret, std::fs::Permissions::from_mode(0o600))?;
        std::fs::create_dir_all(self.state_dir(side))?;
        let file = self.file(side);
        std::fs::write(&file, self.config(side))?;
        let mut command = Command::new(&self.program);
        command.arg("run").arg("-c").arg(file);
        let daemon = self.pair.host(side).spawn("tandem", &mut command)?;
        self.pair.add_daemon(side, daemon.alone());
        Ok(())
    }

    fn content(&mut self) -> anyhow::Result<Result<(), String>> {
        let mut roles = Vec::new();
        for side in Side::BOTH {
            let status = match self.status(side) {
                Ok(status) => status,
                Err(error) => return Ok(Err(format!("{error:#}"))),
            };
            let group = &status["groups"][0];
            if group["ready"] != Value::Bool(true) {
                return Ok(Err(format!("host {} is not ready: {group}", side.host())));
            }
            let Some(role) = group["role"].as_str() else {
                bail!("status names no role: {status}")
            };
            roles.push(role.to_owned());
        }
        roles.sort();
        Ok(if roles == ["primary", "replica"] {
            Ok(())
        } else {
            Err(format!("roles are {roles:?}"))
        })
    }

    fn switchover(&mut self) -> anyhow::Result<()> {
        // Either side may be asked; the primary's knows the reason when it is refused.
        let asked = self.primary()?.unwrap_or(Side::A);
        self.tandem(asked, "switchover", &[]).map(drop)
    }

    fn archived(&self, keys: &BTreeSet<String>) -> anyhow::Result<BTreeSet<String>> {
        let mut found = BTreeSet::new();
        for side in Side::BOTH {
            collect_keys(&self.state_dir(side), keys, &mut found)?;
        }
        Ok(found)
    }
}

/// Looks for keys in the archives below a directory, whole words only: `w:1` is not in `w:12`.
///
/// A command tail has its keys as bulk strings, a snapshot as length-prefixed strings; neither kind continues a key
/// with a digit except by chance, which would make the lab see a loss where there is none, not the reverse. Receipts and
/// histories name keys too, and do not count.
fn collect_keys(
    dir: &Path,
    keys: &BTreeSet<String>,
    found: &mut BTreeSet<String>,
) -> anyhow::Result<()> {
    let prefixes: BTreeSet<&str> = keys
        .iter()
        .filter_map(|key| key.find(':').map(|colon| &key[..=colon]))
        .collect();
    for entry in std::fs::read_dir(dir).with_context(|| format!("reading {}", dir.display()))? {
        let path = entry?.path();
        if path.is_dir() {
            collect_keys(&path, keys, found)?;
            continue;
        }
        let name = path.file_name().and_then(|name| name.to_str());
        if !matches!(name, Some("tail.resp" | "dump.rdb")) {
            continue;
        }
        let bytes = std::fs::read(&path)?;
        for start in 0..bytes.len() {
            let here = &bytes[start..];
            let Some(prefix) = prefixes.iter().find(|p| here.starts_with(p.as_bytes())) else {
                continue;
            };
            let digits = here[prefix.len()..]
                .iter()
                .take_while(|byte| byte.is_ascii_digit())
                .count();
            let word = String::from_utf8_lossy(&here[..prefix.len() + digits]).into_owned();
            if keys.contains(&word) {
                found.insert(word);
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_found_in_archives_as_whole_words() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir(dir.path().join("archive")).unwrap();
        std::fs::write(
            dir.path().join("archive/tail.resp"),
            b"*3\r\n$3\r\nSET\r\n$4\r\nw:12\r\n$2\r\n12\r\n\xffo:30\x02",
        )
        .unwrap();
        std::fs::write(dir.path().join("archive/receipt.json"), "w:4").unwrap();
        let keys: BTreeSet<String> = ["w:1", "w:12", "o:30", "w:4"].map(str::to_owned).into();
        let mut found = BTreeSet::new();
        collect_keys(dir.path(), &keys, &mut found).unwrap();
        assert_eq!(found, ["w:12", "o:30"].map(str::to_owned).into());
    }
}
