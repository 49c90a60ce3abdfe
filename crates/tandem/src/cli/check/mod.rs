//! `tandem check`: is this host ready for its configuration? A dry run: nothing is changed for good, nobody is moved.
//!
//! What one file can show to be wrong the configuration's reader says; here is what only the host can show. Each finding has
//! what was seen and what to do. The judging functions take facts and give findings, so that they can be tested without
//! a host in the state they are about.
//!
//! Exit codes: 0 ready, perhaps with warnings; 1 something would fail; 2 the configuration; 3 `tandem run` would not be
//! safe here, with the rule's number.

mod fence;
mod host;
mod net;
mod peer;
mod server;
mod unit;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

use serde::Serialize;
use tandem_config::settings::{Group, Manage, Proxy, Settings};

use self::net::Holders;
pub(crate) use self::net::Links;
use crate::cli::table::table;
use crate::cli::{DONE, FAILED, REFUSED, USAGE, Where, block_on, groups_at};
use crate::files::HostFiles;
use crate::redis::raw::Target;
use crate::run::{cluster_seen, credentials, read_secret};

/// How good it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Verdict {
    /// As it should be.
    Fine,
    /// It could not be found out, or does not matter now.
    Note,
    /// It works, and something is worse than it need be.
    Warning,
    /// It would not work.
    Fails,
    /// It would not be safe.
    Refused,
}

/// One line of the table.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct Finding {
    /// What was looked at.
    pub(crate) item: String,
    /// How good it is.
    pub(crate) verdict: Verdict,
    /// What was seen.
    pub(crate) result: String,
    /// What to do; empty if nothing.
    pub(crate) advice: String,
    /// The rule that refuses.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) rule: Option<&'static str>,
}

impl Finding {
    fn new(
        item: &str,
        verdict: Verdict,
        result: impl Into<String>,
        advice: impl Into<String>,
    ) -> Self {
        Self {
            item: item.to_owned(),
            verdict,
            result: result.into(),
            advice: advice.into(),
            rule: None,
        }
    }

    fn fine(item: &str, result: impl Into<String>) -> Self {
        Self::new(item, Verdict::Fine, result, "")
    }

    fn note(item: &str, result: impl Into<String>, advice: impl Into<String>) -> Self {
        Self::new(item, Verdict::Note, result, advice)
    }

    fn warning(item: &str, result: impl Into<String>, advice: impl Into<String>) -> Self {
        Self::new(item, Verdict::Warning, result, advice)
    }

    fn fails(item: &str, result: impl Into<String>, advice: impl Into<String>) -> Self {
        Self::new(item, Verdict::Fails, result, advice)
    }

    fn refused(
        rule: &'static str,
        item: &str,
        result: impl Into<String>,
        advice: impl Into<String>,
    ) -> Self {
        Self {
            rule: Some(rule),
            ..Self::new(item, Verdict::Refused, result, advice)
        }
    }

    fn of_group(mut self, group: &str, several: bool) -> Self {
        if several {
            self.item = format!("{group}: {}", self.item);
        }
        self
    }
}

/// Looks at everything and prints it. `sample` is how long the write rate is measured.
pub(crate) fn check(at: &Where, as_json: bool, sample: Duration) -> u8 {
    let (settings, groups) = match groups_at(at) {
        Ok(found) => found,
        Err(report) => {
            eprint!("{report}");
            return USAGE;
        }
    };
    let findings = match block_on(look(&settings, &groups, sample)) {
        Ok(findings) => findings,
        Err(error) => {
            eprintln!("tandem: {error}");
            return FAILED;
        }
    };
    let code = exit_code(&findings);
    if as_json {
        println!(
            "{}",
            serde_json::json!({ "format": 1, "exit_code": code, "findings": findings })
        );
    } else {
        print!("{}", show(&findings));
    }
    code
}

fn exit_code(findings: &[Finding]) -> u8 {
    match findings.iter().map(|finding| finding.verdict).max() {
        Some(Verdict::Refused) => REFUSED,
        Some(Verdict::Fails) => FAILED,
        Some(Verdict::Warning | Verdict::Note | Verdict::Fine) | None => DONE,
    }
}

fn show(findings: &[Finding]) -> String {
    let rows = findings.iter().flat_map(|finding| {
        let word = match finding.verdict {
            Verdict::Fine => "ok".to_owned(),
            Verdict::Note => "-".to_owned(),
            Verdict::Warning => "WARN".to_owned(),
            Verdict::Fails => "FAIL".to_owned(),
            Verdict::Refused => format!("REFUSED ({})", finding.rule.unwrap_or_default()),
        };
        let found = vec![word, finding.item.clone(), finding.result.clone()];
        // Below it, not beside it: both are sentences, and a terminal is not that wide.
        let advice = (!finding.advice.is_empty()).then(|| {
            vec![
                String::new(),
                String::new(),
                format!("-> {}", finding.advice),
            ]
        });
        std::iter::once(found).chain(advice)
    });
    let mut out = table(&["", "ITEM", "RESULT, AND WHAT TO DO"], rows);
    let count = |verdict| {
        findings
            .iter()
            .filter(|finding| finding.verdict == verdict)
            .count()
    };
    out.push_str(&match (count(Verdict::Refused), count(Verdict::Fails), count(Verdict::Warning)) {
        (0, 0, 0) => "\nReady: tandem run may be started.\n".to_owned(),
        (0, 0, 1) => "\nReady, with one warning.\n".to_owned(),
            (0, 0, warnings) => format!("\nReady, with {warnings} warnings.\n"),
        (0, fails, _) => format!("\nNot ready: {fails} to be put right first.\n"),
        (refused, fails, _) => format!(
            "\nNot safe: {refused} of the rules that keep data safe would be broken, {fails} more would fail.\n"
        ),
    });
    out
}

async fn look(settings: &Settings, groups: &[Group], sample: Duration) -> Vec<Finding> {
    let mut findings = vec![Finding::fine("configuration", "no errors")];
    findings.extend(host::rights());
    findings.push(host::port(settings));
    findings.push(host::secret(settings));
    let secret = read_secret(settings).ok().flatten();
    findings.push(peer::daemon(settings, secret.as_ref()).await);
    findings.push(host::gate());
    findings.push(host::clock_source());
    for seat in groups.iter().flat_map(Group::seats) {
        let found = of_group(settings, &seat, sample).await;
        let several = settings.groups.len() > 1 || seat.other().is_some();
        let name = seat.seat_name();
        findings.extend(
            found
                .into_iter()
                .map(|finding| finding.of_group(&name, several)),
        );
    }
    for proxy in &settings.proxies {
        if !proxy.cluster.is_empty() {
            let found = proxy_cluster(settings, proxy).await;
            findings.push(found.of_group(&format!("proxy {}", proxy.name), true));
        }
        let Some(vip) = &proxy.vip else { continue };
        let mut found = net::router(settings, &vip.vrrp, Some(&vip.front), Holders::AnyHost).await;
        found.push(host::signed(settings));
        let name = format!("proxy {}", proxy.name);
        findings.extend(
            found
                .into_iter()
                .map(|finding| finding.of_group(&name, true)),
        );
    }
    findings
}

/// Whether a proxy's cluster answers, and has all slots.
async fn proxy_cluster(settings: &Settings, proxy: &Proxy) -> Finding {
    let item = "cluster";
    match cluster_seen(settings, proxy).await {
        Err(why) => Finding::fails(
            item,
            format!("no node can be asked: {why}"),
            "name nodes that run, reachable from here, with the password and TLS that they want",
        ),
        Ok(seen) if seen.uncovered > 0 => Finding::warning(
            item,
            format!("{}, {} slots are nobody's", seen.text, seen.uncovered),
            "redis-cli --cluster fix, at one of the nodes",
        ),
        Ok(seen) => Finding::fine(item, seen.text),
    }
}

async fn of_group(settings: &Settings, group: &Group, sample: Duration) -> Vec<Finding> {
    let vip = group.vip.as_ref();
    let mut findings = match group.vrrp() {
        Some(vrrp) => net::router(settings, vrrp, vip, Holders::Peer).await,
        None => Vec::new(),
    };
    findings.extend(host::hooks(group));
    let target = match credentials(group) {
        Ok(credentials) => Target {
            address: group.server,
            source: None,
            credentials,
        },
        Err(error) => {
            let advice = "make the file readable for the daemon's user";
            findings.push(Finding::fails(
                "password_file",
                format!("{error:#}"),
                advice,
            ));
            return findings;
        }
    };
    let own = server::gather(&target, sample).await;
    match &own {
        Ok(facts) => {
            findings.extend(server::judge(facts, group));
            findings.push(host::room(settings, group, facts.info.used_memory_bytes));
        }
        Err(error) => findings.push(server::unreachable(
            "redis",
            group.server,
            error,
            &group.manage,
        )),
    }
    findings.extend(restarts(group, own.as_ref().ok()).await);
    // Both servers of one host are looked at in turn.
    let peers = settings.peers.iter().filter(|_| group.other().is_none());
    for other in peers {
        let address = SocketAddr::new(other.address, group.server.port());
        let target = Target {
            address,
            source: Some(settings.host.address),
            ..target.clone()
        };
        let theirs = server::gather(&target, Duration::ZERO).await;
        let item = format!("redis of {}", other.id);
        match &theirs {
            Ok(facts) => findings.extend(server::judge_peer(&item, facts, own.as_ref().ok())),
            Err(error) => findings.push(server::unreachable(&item, address, error, &Manage::Adopt)),
        }
    }
    findings
}

/// What `tandem status` waits for a server that is slow to say how it was started.
const ASKED_WITHIN: Duration = Duration::from_secs(1);

/// Rule 18 for those who read the promise: what a restart by somebody else would do to this host's servers, by group.
/// Nothing where it is safe, or where it cannot be told now.
pub(crate) fn restart_gaps(at: &Where) -> BTreeMap<String, String> {
    let Some(settings) = super::quietly(&at.config) else {
        return BTreeMap::new();
    };
    block_on(async {
        let mut gaps = BTreeMap::new();
        let adopted = |group: &&Group| group.manage == Manage::Adopt;
        for group in settings.groups.iter().filter(adopted) {
            let Ok(credentials) = credentials(group) else {
                continue;
            };
            let target = Target {
                address: group.server,
                source: None,
                credentials,
            };
            let looked = tokio::time::timeout(ASKED_WITHIN, async {
                let facts = server::gather(&target, Duration::ZERO).await.ok()?;
                let found = restarts(group, Some(&facts)).await;
                found.into_iter().find(|one| one.verdict > Verdict::Note)
            });
            if let Ok(Some(gap)) = looked.await {
                gaps.insert(group.name.clone(), gap.result);
            }
        }
        gaps
    })
    .unwrap_or_default()
}

/// Rule 18: how the server comes up again when something restarts it.
async fn restarts(group: &Group, facts: Option<&server::Facts>) -> Vec<Finding> {
    match &group.manage {
        Manage::Spawn {
            redis_conf,
            redis_server,
            run_as,
        } => host::spawn(redis_conf, redis_server, run_as.as_deref()),
        Manage::Adopt => {
            let Some(facts) = facts else {
                return Vec::new();
            };
            let name = facts.info.process_id.and_then(unit::of_process);
            let unit = match &name {
                Some(name) => unit::show(name).await.ok(),
                None => None,
            };
            let after = fence::after_restart(
                &HostFiles,
                facts.config_file.as_deref(),
                unit.as_ref()
                    .map(|unit| unit.arguments.as_slice())
                    .unwrap_or_default(),
            );
            vec![unit::judge_adopted(unit.as_ref(), &after)]
        }
        Manage::Systemd { unit: name } => match unit::show(name).await {
            Ok(unit) => {
                let conf = facts.and_then(|facts| facts.config_file.clone());
                let conf = conf.or_else(|| unit.arguments.get(1).map(std::path::PathBuf::from));
                let after = fence::after_restart(&HostFiles, conf.as_deref(), &unit.arguments);
                unit::judge_managed(name, &unit, &after)
            }
            Err(error) => vec![Finding::fails(
                "systemd unit",
                format!("{name}: {error}"),
                "manage = \"systemd\" needs a running systemd; use \"spawn\" or \"adopt\" elsewhere",
            )],
        },
    }
}

/// Whether a configuration of this text makes a restarted server come up fenced.
#[cfg(test)]
pub(crate) fn after_restart_is_fenced(conf: &str) -> bool {
    let path = std::path::Path::new("/conf");
    let files = tandem_config::keepalived::MapFiles::new().with(path, conf);
    matches!(
        fence::after_restart(&files, Some(path), &[]),
        fence::AfterRestart::Fenced(_)
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_worst_finding_decides_the_exit_code() {
        let fine = Finding::fine("a", "x");
        let warning = Finding::warning("b", "x", "y");
        let fails = Finding::fails("c", "x", "y");
        let refused = Finding::refused("rule 14", "d", "x", "y");
        for (findings, code, last) in [
            (
                vec![fine.clone()],
                DONE,
                "Ready: tandem run may be started.",
            ),
            (
                vec![fine.clone(), warning.clone()],
                DONE,
                "Ready, with one warning.",
            ),
            (
                vec![fails.clone(), warning],
                FAILED,
                "Not ready: 1 to be put right first.",
            ),
            (
                vec![refused, fails, fine],
                REFUSED,
                "Not safe: 1 of the rules",
            ),
        ] {
            assert_eq!(exit_code(&findings), code);
            let text = show(&findings);
            assert!(text.lines().last().unwrap().starts_with(last), "{text}");
        }
    }

    #[test]
    fn a_refusal_names_its_rule() {
        let text = show(&[Finding::refused("rule 14", "redis", "6.0.16", "upgrade")]);
        assert!(text.contains("REFUSED (rule 14)"), "{text}");
    }
}
