//! A server: whether the fence holds on it (rule 14), who is let in, what a resync would cost, where it listens.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::time::{Duration, Instant, SystemTime};

use tandem_config::settings::{Group, Manage};
use tandem_core::info::ServerInfo;
use tandem_resp::{Command, Value};

use super::Finding;
use crate::cli::status::bytes;
use crate::redis::client::Link;
use crate::redis::error::LinkError;
use crate::redis::ops::OLDEST_VERSION;
use crate::redis::raw::Target;

const ANSWER_WITHIN: Duration = Duration::from_secs(3);
/// A backlog that lasts less than this makes an ordinary restart of a replica a full resync.
const BACKLOG_ENOUGH: Duration = Duration::from_secs(60);
/// What is advised instead.
const BACKLOG_GOOD: Duration = Duration::from_secs(600);
/// Clocks further apart than this make archives and logs of both hosts hard to read together.
const CLOCKS_APART: Duration = Duration::from_secs(2);

/// Settings that are asked for.
const CONFIG: &[&str] = &[
    "bind",
    "protected-mode",
    "requirepass",
    "masterauth",
    "repl-backlog-size",
    "repl-backlog-ttl",
    "save",
    "appendonly",
    "maxmemory",
];

/// Commands that tandem gives, as they would be given.
const COMMANDS: &[&[&str]] = &[
    &["REPLICAOF", "NO", "ONE"],
    &["CONFIG", "SET", "masterauth", "x"],
    &["CLIENT", "PAUSE", "1", "WRITE"],
    &["INFO"],
    &["PING"],
    &["PSYNC", "x", "1"],
    &["REPLCONF", "capa", "eof"],
];

/// What a server says about itself.
#[derive(Debug, Default)]
pub(super) struct Facts {
    /// INFO.
    pub(super) info: ServerInfo,
    /// The file that it was started with.
    pub(super) config_file: Option<PathBuf>,
    /// Settings by name; a missing one was not told.
    pub(super) config: BTreeMap<&'static str, String>,
    /// Commands that are renamed or forbidden to us.
    pub(super) missing: Vec<&'static str>,
    /// Bytes of replication stream per second; `None` if it was not measured.
    pub(super) rate: Option<u64>,
    /// Its clock less ours, milliseconds.
    pub(super) clock_ahead_ms: Option<i64>,
}

/// Asks. Changes nothing.
pub(super) async fn gather(target: &Target, sample: Duration) -> Result<Facts, LinkError> {
    let by = || Instant::now() + ANSWER_WITHIN;
    let link = Link::connect(target, by()).await?;
    let mut facts = Facts::default();
    let text = link.call(&["INFO"], by()).await?;
    let text = text.as_str().unwrap_or_default().to_owned();
    facts.info = ServerInfo::parse(&text);
    facts.config_file = text
        .lines()
        .find_map(|line| line.strip_prefix("config_file:"))
        .map(str::trim)
        .filter(|path| !path.is_empty())
        .map(PathBuf::from);
    let before = facts.info.master_repl_offset;
    let asked: Vec<Command> = CONFIG
        .iter()
        .map(|name| Command::from_args(&["CONFIG", "GET", name]))
        .collect();
    for (name, value) in CONFIG.iter().zip(link.pipeline(&asked, by()).await?) {
        let value = value
            .as_array()
            .and_then(|pair| pair.get(1))
            .and_then(Value::as_str);
        if let Some(value) = value {
            facts.config.insert(name, value.to_owned());
        }
    }
    facts.missing = missing(&link).await?;
    facts.clock_ahead_ms = clock(&link.call(&["TIME"], by()).await?);
    if !sample.is_zero() {
        tokio::time::sleep(sample).await;
        let text = link.call(&["INFO", "replication"], by()).await?;
        let after = ServerInfo::parse(text.as_str().unwrap_or_default()).master_repl_offset;
        if let (Some(before), Some(after)) = (before, after) {
            let millis = u64::try_from(sample.as_millis()).unwrap_or(u64::MAX).max(1);
            facts.rate = Some(after.saturating_sub(before).saturating_mul(1000) / millis);
        }
    }
    Ok(facts)
}

async fn missing(link: &Link) -> Result<Vec<&'static str>, LinkError> {
    let by = || Instant::now() + ANSWER_WITHIN;
    let names: Vec<&'static str> = COMMANDS.iter().map(|command| command[0]).collect();
    let mut missing = Vec::new();
    let info = Command::from_args(&["COMMAND", "INFO"]);
    let info = names.iter().fold(info, |command, name| command.arg(name));
    let known = link.pipeline(&[info], by()).await?;
    if let Some(known) = known.first().and_then(Value::as_array) {
        let nobody_knows = |at: usize| matches!(known.get(at), Some(Value::Null));
        missing.extend(
            names
                .iter()
                .enumerate()
                .filter(|(at, _)| nobody_knows(*at))
                .map(|(_, name)| *name),
        );
    }
    // From 7.0 on an ACL can be asked without trying; before, and where ACL itself is forbidden, this says nothing.
    let who = link.call(&["ACL", "WHOAMI"], by()).await?;
    if let Some(who) = who.as_bytes() {
        for command in COMMANDS {
            let dry = Command::from_args(&["ACL", "DRYRUN"]).arg(who);
            let dry = command.iter().fold(dry, |dry, word| dry.arg(word));
            let answer = link.pipeline(&[dry], by()).await?;
            let refused = matches!(answer.first(), Some(Value::Bulk(_)));
            if refused && !missing.contains(&command[0]) {
                missing.push(command[0]);
            }
        }
    }
    Ok(missing)
}

fn clock(time: &Value) -> Option<i64> {
    let parts = time.as_array()?;
    let theirs =
        parts.first()?.as_integer()?.checked_mul(1000)? + parts.get(1)?.as_integer()? / 1000;
    let ours = SystemTime::now()
        .duration_since(SystemTime::UNIX_EPOCH)
        .ok()?;
    Some(theirs - i64::try_from(ours.as_millis()).ok()?)
}

/// A server that could not be asked.
pub(super) fn unreachable(
    item: &str,
    address: SocketAddr,
    error: &LinkError,
    manage: &Manage,
) -> Finding {
    let starts = match manage {
        Manage::Adopt => false,
        Manage::Spawn { .. } | Manage::Systemd { .. } => true,
    };
    let advice = match error {
        LinkError::Refused if starts => {
            return Finding::note(
                item,
                format!("{address}: not running; tandem starts it"),
                "",
            );
        }
        LinkError::Refused => {
            "start it, or correct the address in the file; does it listen there (bind)?"
        }
        LinkError::Auth(_) => "password_file and username must be right for this server",
        LinkError::Unreachable | LinkError::TimedOut { .. } => "is the host up, and the port open?",
        LinkError::Closed { .. } | LinkError::Protocol(_) => {
            "is it a Redis, and does its protected-mode let us in?"
        }
        LinkError::Local(_) => "is host.address an address of this host?",
    };
    Finding::fails(item, format!("{address}: {error}"), advice)
}

/// The server of this host.
pub(super) fn judge(facts: &Facts, group: &Group) -> Vec<Finding> {
    let mut findings = basics("redis", facts);
    findings.extend(reach(facts, group));
    findings.push(replication_password(facts, group));
    findings.push(backlog(facts.info.backlog_size_bytes, facts.rate));
    findings.extend(backlog_ttl(facts));
    findings.push(persistence(facts));
    findings
}

/// The other host's server, as far as it matters to this one.
pub(super) fn judge_peer(item: &str, facts: &Facts, own: Option<&Facts>) -> Vec<Finding> {
    let mut findings = basics(item, facts);
    if let Some(ahead) = facts.clock_ahead_ms
        && ahead.unsigned_abs() > u64::try_from(CLOCKS_APART.as_millis()).unwrap_or(u64::MAX)
    {
        findings.push(Finding::warning(
            "clock",
            format!("that host's clock is {ahead} ms off this one's"),
            "run NTP on both: keys expire by the wall clock, and logs are compared by it",
        ));
    }
    let memory = |facts: &Facts| facts.config.get("maxmemory").cloned();
    if let Some(own) = own
        && let (Some(here), Some(there)) = (memory(own), memory(facts))
        && here != there
    {
        findings.push(Finding::warning(
            item,
            format!("maxmemory is {there} there and {here} here"),
            "set both alike: a smaller primary evicts what the other one holds",
        ));
    }
    findings
}

/// Rule 14, and that we are let in.
fn basics(item: &str, facts: &Facts) -> Vec<Finding> {
    let info = &facts.info;
    let mut findings = Vec::new();
    let name = match info.valkey_version {
        Some(version) => format!("Valkey {version}"),
        None => info
            .redis_version
            .map_or_else(|| "of unknown version".to_owned(), |v| format!("Redis {v}")),
    };
    match info.redis_version {
        Some(version) if version >= OLDEST_VERSION => {
            let keys = format!("{} keys, {}", info.keys, bytes(info.used_memory_bytes));
            findings.push(Finding::fine(item, format!("{name}, {keys}, lets us in")));
        }
        Some(_) | None => findings.push(Finding::refused(
            "rule 14",
            item,
            format!("{name}: older than {OLDEST_VERSION}, writes cannot be held back on it"),
            "upgrade it, or use tandem vrrp, which asks less of a server",
        )),
    }
    // A primary does not say; it is asked again when it becomes a replica, and the fence confirms it then.
    if info.replica_read_only == Some(false) {
        findings.push(Finding::refused(
            "rule 14",
            item,
            "replica-read-only is off: a fenced server would go on taking writes",
            "CONFIG SET replica-read-only yes, and in redis.conf",
        ));
    }
    if !facts.missing.is_empty() {
        findings.push(Finding::refused(
            "rule 14",
            item,
            format!("renamed or forbidden to us: {}", facts.missing.join(", ")),
            "take the rename-command lines out, or allow them to tandem's ACL user",
        ));
    }
    findings
}

/// Whether clients at the VIP and the other host get through.
fn reach(facts: &Facts, group: &Group) -> Vec<Finding> {
    let mut findings = Vec::new();
    if let Some(bind) = facts.config.get("bind") {
        let words: Vec<&str> = bind
            .split_whitespace()
            .map(|word| word.trim_start_matches('-'))
            .collect();
        let open = |wanted: IpAddr| {
            words.is_empty()
                || words.iter().any(|word| {
                    let any = if wanted.is_ipv4() {
                        ["*", "0.0.0.0"]
                    } else {
                        ["::*", "::"]
                    };
                    any.contains(word) || word.parse() == Ok(wanted)
                })
        };
        let vips = group
            .vip
            .iter()
            .flat_map(|vip| vip.addresses.iter().map(|a| a.addr));
        let closed: Vec<String> = std::iter::once(group.server.ip())
            .chain(vips)
            .filter(|address| !open(*address))
            .map(|address| address.to_string())
            .collect();
        if !closed.is_empty() {
            findings.push(Finding::fails(
                "bind",
                format!("the server listens on {bind}, not on {}", closed.join(", ")),
                "bind 0.0.0.0 (or * -::*) in redis.conf: the VIP comes and goes while it runs",
            ));
        }
    }
    let is = |name: &str, value: &str| facts.config.get(name).is_some_and(|found| found == value);
    if is("protected-mode", "yes") && is("requirepass", "") && group.password_file.is_none() {
        findings.push(Finding::fails(
            "protected-mode",
            "on, without a password: clients and the other host are refused",
            "set requirepass (and password_file here), or protected-mode no on a private network",
        ));
    }
    findings
}

fn replication_password(facts: &Facts, group: &Group) -> Finding {
    let item = "masterauth";
    let set = |name: &str| {
        facts
            .config
            .get(name)
            .is_some_and(|value| !value.is_empty())
    };
    match (
        group.password_file.is_some(),
        set("requirepass"),
        set("masterauth"),
    ) {
        (true, _, _) => Finding::fine(item, "set by tandem whenever it attaches a replica"),
        (false, true, _) => Finding::fails(
            item,
            "the server wants a password and the file has no password_file",
            "write the password into a file of mode 600 and name it in [[group]]",
        ),
        (false, false, true) => Finding::warning(
            item,
            "set, although the server wants no password",
            "harmless while the other one wants none either",
        ),
        (false, false, false) => Finding::fine(item, "no password in use"),
    }
}

fn backlog(size: u64, rate: Option<u64>) -> Finding {
    let item = "backlog";
    let Some(rate) = rate else {
        return Finding::note(
            item,
            format!("{}; the write rate was not measured", bytes(size)),
            "",
        );
    };
    if rate == 0 {
        let text = format!(
            "{}; nothing is written now, ask again under load",
            bytes(size)
        );
        return Finding::note(item, text, "");
    }
    let lasts = size / rate;
    let text = format!(
        "{} at {}/s: partial resync survives {lasts} s at the current rate",
        bytes(size),
        bytes(rate)
    );
    if lasts >= BACKLOG_ENOUGH.as_secs() {
        return Finding::fine(item, text);
    }
    let wanted = rate.saturating_mul(BACKLOG_GOOD.as_secs());
    let megabytes = wanted.div_ceil(1 << 20).max(1).next_power_of_two();
    Finding::warning(
        item,
        text,
        format!(
            "repl-backlog-size {megabytes}mb is good for {} min",
            BACKLOG_GOOD.as_secs() / 60
        ),
    )
}

fn backlog_ttl(facts: &Facts) -> Option<Finding> {
    let ttl = facts.config.get("repl-backlog-ttl")?;
    (ttl != "0").then(|| {
        Finding::warning(
            "backlog",
            format!("forgotten {ttl} s after the last replica left: then a split is archived as a snapshot, without the commands"),
            "repl-backlog-ttl 0",
        )
    })
}

fn persistence(facts: &Facts) -> Finding {
    let item = "persistence";
    let save = facts
        .config
        .get("save")
        .is_some_and(|save| !save.is_empty());
    let aof = facts.info.aof_enabled;
    let failing =
        facts.info.rdb_last_bgsave_ok == Some(false) || facts.info.aof_last_write_ok == Some(false);
    match (save, aof) {
        _ if failing => Finding::fails(
            item,
            "the last write to disk failed",
            "look at the disk: a server that refuses writes for it is failed over from",
        ),
        (true, true) => Finding::fine(item, "RDB and AOF"),
        (true, false) => Finding::fine(item, "RDB"),
        (false, true) => Finding::fine(item, "AOF"),
        (false, false) => Finding::warning(
            item,
            "none: if both hosts stop, the data is gone",
            "fine for a cache; else save or appendonly in redis.conf",
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::super::Verdict;
    use super::*;
    use crate::redis::tests::server::Server;

    fn group(extra: &str) -> Group {
        let text = format!(
            "[host]\nid = \"a\"\naddress = \"10.0.0.1\"\nsecret_file = \"/s\"\n[[peer]]\nid = \"b\"\n\
             address = \"10.0.0.2\"\n[[group]]\nname = \"g\"\nservers = [\"10.0.0.1:6379\"]\n{extra}\
             [group.vip]\naddress = \"10.0.0.9/24\"\ninterface = \"eth0\"\n[group.vrrp]\nrouter_id = 1\npriority = 100\n"
        );
        tandem_config::settings::read("t", &text)
            .0
            .unwrap()
            .groups
            .remove(0)
    }

    fn facts(info: &str, config: &[(&'static str, &str)]) -> Facts {
        Facts {
            info: ServerInfo::parse(info),
            config: config
                .iter()
                .map(|(name, value)| (*name, (*value).to_owned()))
                .collect(),
            ..Facts::default()
        }
    }

    #[test]
    fn the_backlog_in_seconds() {
        let table = [
            (1 << 20, Some(1024), Verdict::Fine, "survives 1024 s"),
            (1 << 20, Some(1 << 20), Verdict::Warning, "survives 1 s"),
            (1 << 20, Some(0), Verdict::Note, "nothing is written"),
            (1 << 20, None, Verdict::Note, "not measured"),
        ];
        for (size, rate, verdict, words) in table {
            let found = backlog(size, rate);
            assert_eq!(found.verdict, verdict, "{}", found.result);
            assert!(found.result.contains(words), "{}", found.result);
        }
        // 1 MiB/s for ten minutes are 600 MiB: the next power of two.
        assert!(
            backlog(1 << 20, Some(1 << 20))
                .advice
                .starts_with("repl-backlog-size 1024mb")
        );
    }

    #[test]
    fn rule_14_refuses() {
        let refused = |info: &str, missing: &[&'static str]| {
            let facts = Facts {
                missing: missing.to_vec(),
                ..facts(info, &[])
            };
            basics("redis", &facts)
                .into_iter()
                .filter(|f| f.verdict == Verdict::Refused)
                .count()
        };
        assert_eq!(refused("redis_version:7.0.15\r\n", &[]), 0);
        assert_eq!(refused("redis_version:6.2.0\r\n", &[]), 0);
        assert_eq!(refused("redis_version:6.0.16\r\n", &[]), 1);
        assert_eq!(
            refused(
                "redis_version:7.0.15\r\nrole:slave\r\nslave_read_only:0\r\n",
                &[]
            ),
            1
        );
        assert_eq!(refused("redis_version:7.0.15\r\n", &["REPLICAOF"]), 1);
        assert_eq!(refused("", &[]), 1);
    }

    #[test]
    fn a_server_that_does_not_listen_at_the_vip() {
        let fails = |bind: &str| {
            reach(&facts("", &[("bind", bind)]), &group(""))
                .into_iter()
                .any(|finding| finding.verdict == Verdict::Fails)
        };
        for (bind, expected) in [
            ("127.0.0.1 -::1", true),
            ("10.0.0.1", true),
            ("10.0.0.1 10.0.0.9", false),
            ("* -::*", false),
            ("0.0.0.0", false),
            ("", false),
        ] {
            assert_eq!(fails(bind), expected, "{bind}");
        }
    }

    #[test]
    fn passwords() {
        let with_file = group("password_file = \"/p\"\n");
        let table = [
            (
                &with_file,
                [("requirepass", "x"), ("masterauth", "")],
                Verdict::Fine,
            ),
            (
                &group(""),
                [("requirepass", "x"), ("masterauth", "x")],
                Verdict::Fails,
            ),
            (
                &group(""),
                [("requirepass", ""), ("masterauth", "x")],
                Verdict::Warning,
            ),
            (
                &group(""),
                [("requirepass", ""), ("masterauth", "")],
                Verdict::Fine,
            ),
        ];
        for (group, config, verdict) in table {
            assert_eq!(
                replication_password(&facts("", &config), group).verdict,
                verdict
            );
        }
    }

    #[tokio::test]
    async fn a_real_server_tells_what_is_asked() {
        let settings = [
            ("rename-command", "REPLICAOF hidden"),
            ("appendonly", "yes"),
        ];
        let server = Server::start(&settings).await;
        let facts = gather(&server.target(), Duration::from_millis(1))
            .await
            .unwrap();
        assert_eq!(facts.missing, ["REPLICAOF"]);
        assert_eq!(
            facts.config_file.as_deref(),
            Some(server.dir().join("redis.conf").as_path())
        );
        assert_eq!(
            facts.config.get("bind").map(String::as_str),
            Some("127.0.0.1")
        );
        assert_eq!(facts.rate, Some(0));
        assert!(facts.clock_ahead_ms.unwrap().abs() < 2000);
        assert_eq!(persistence(&facts).result, "AOF");
        let rules: Vec<_> = basics("redis", &facts)
            .into_iter()
            .filter_map(|f| f.rule)
            .collect();
        assert_eq!(rules, ["rule 14"]);
    }

    #[tokio::test]
    async fn an_acl_user_without_rights_is_seen_before_it_matters() {
        let user = ("user", "weak on nopass ~* +@all -replicaof");
        let server = Server::start(&[user]).await;
        let mut target = server.target();
        target.credentials = Some(crate::redis::raw::Credentials {
            user: Some(b"weak".to_vec()),
            password: b"any".to_vec(),
        });
        let facts = gather(&target, Duration::ZERO).await.unwrap();
        assert_eq!(facts.missing, ["REPLICAOF"]);
        assert_eq!(facts.rate, None);
    }
}
