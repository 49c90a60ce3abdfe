//! What a changed file means for a running daemon: what is taken over in silence, what moves something and needs a
//! person's word, and what only a restart brings.
//!
//! What that is for one group is [`group`]'s, for a proxy its own ([`super::proxy`]).
//!
//! A reload is whole or not at all: while something in the file would move, nothing of it counts without `--accept`. What
//! needs a restart moves nothing by being read; it is named each time and left as it was.

mod group;
#[cfg(test)]
mod tests;

use std::path::PathBuf;
use std::time::Duration;

use tandem_config::settings::{self as config, Settings, ShardAt};
use tokio::sync::{mpsc, oneshot};

use super::control::{Answer, ReplyLine};
use super::proxy;
pub(crate) use group::{addresses, adverts_in_ipv6, moves};
use group::{fixed, taken_over};

/// The rule that refuses.
pub(crate) const RULE: &str = "reload.moves";
/// A group takes its settings over within one turn of its loop.
const ANSWER_WITHIN: Duration = Duration::from_secs(10);
/// Reloads waiting for the daemon.
pub(crate) const REQUESTS_MAX: usize = 4;

/// What a changed file comes to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Plan {
    /// Per group or proxy that has them, what would move.
    pub(crate) moves: Vec<(String, Vec<String>)>,
    /// What waits for a restart of the daemon.
    pub(crate) restart: Vec<String>,
    /// What is in force once the rest is taken over.
    pub(crate) settings: Settings,
}

/// What answers and refusals call a group.
pub(crate) fn of_group(name: &str) -> String {
    format!("group {name}")
}

/// And a proxy.
pub(crate) fn of_proxy(name: &str) -> String {
    format!("proxy {name}")
}

/// Compares what is in force with what the file says now.
pub(crate) fn plan(old: &Settings, new: &Settings) -> Plan {
    let mut plan = Plan {
        moves: Vec::new(),
        restart: Vec::new(),
        settings: old.clone(),
    };
    if old.host != new.host {
        plan.restart.push("[host]".to_owned());
    }
    if old.peers != new.peers {
        plan.restart.push("[[peer]]".to_owned());
    }
    if old.follows != new.follows {
        plan.restart.push("groups with [group.sentinel]".to_owned());
    }
    plan.settings.proxies.clear();
    for proxy in &old.proxies {
        let Some(wanted) = new.proxies.iter().find(|other| other.name == proxy.name) else {
            let moves = vec!["goes, and its clients with it".to_owned()];
            plan.moves.push((of_proxy(&proxy.name), moves));
            continue;
        };
        let mut wanted = wanted.clone();
        if has_new_group(old, &wanted) {
            plan.restart
                .push(format!("proxy {}: groups (one of them is new)", proxy.name));
            wanted.shards = proxy.shards.clone();
        }
        let fixed = proxy::fixed(proxy, &wanted);
        if !fixed.is_empty() {
            plan.restart
                .push(format!("proxy {}: {}", proxy.name, fixed.join(", ")));
        }
        let taken = proxy::taken_over(proxy, &wanted);
        if let Some(moves) = proxy::moves(proxy, &taken) {
            plan.moves.push((of_proxy(&proxy.name), vec![moves]));
        }
        plan.settings.proxies.push(taken);
    }
    for proxy in &new.proxies {
        if old.proxies.iter().any(|other| other.name == proxy.name) {
            continue;
        }
        if has_new_group(old, proxy) {
            plan.restart.push(format!(
                "proxy {} (new, as one of its groups is)",
                proxy.name
            ));
        } else {
            plan.settings.proxies.push(proxy.clone());
        }
    }
    for group in &mut plan.settings.groups {
        let Some(wanted) = new.groups.iter().find(|other| other.name == group.name) else {
            plan.restart
                .push(format!("group {} (gone from the file)", group.name));
            continue;
        };
        let taken = taken_over(group, wanted);
        let fixed = fixed(group, wanted);
        if !fixed.is_empty() {
            plan.restart
                .push(format!("group {}: {}", group.name, fixed.join(", ")));
        } else if taken != *wanted {
            plan.restart.push(format!("group {}", group.name));
        }
        let moves = moves(group, &taken);
        if !moves.is_empty() {
            plan.moves.push((of_group(&group.name), moves));
        }
        *group = taken;
    }
    for group in &new.groups {
        if !old.groups.iter().any(|other| other.name == group.name) {
            plan.restart.push(format!("group {} (new)", group.name));
        }
    }
    plan
}

/// Whether a proxy would stand before a group of this host that nobody leads or follows yet.
fn has_new_group(running: &Settings, proxy: &config::Proxy) -> bool {
    let mut shards = proxy.shards.iter();
    shards.any(|shard| {
        matches!(shard.at, ShardAt::Here) && !running.names().any(|name| name == shard.name)
    })
}

/// A reload that was asked for: by HUP, which never accepts, or by a person.
pub(crate) struct Request {
    /// What the file says.
    pub(crate) new: Settings,
    /// A person agrees to what it moves.
    pub(crate) accept: bool,
    /// The answers, each as soon as its group has one.
    pub(crate) answer: oneshot::Sender<Answers>,
}

/// Answers under way, by group.
pub(crate) type Answers = Vec<(String, oneshot::Receiver<Answer>)>;

/// Asks the daemon to read its file again.
#[derive(Debug, Clone)]
pub(crate) struct Reloader {
    path: PathBuf,
    requests: mpsc::Sender<Request>,
}

impl Reloader {
    /// For a daemon with this file.
    pub(crate) fn new(path: PathBuf, requests: mpsc::Sender<Request>) -> Self {
        Self { path, requests }
    }

    /// Reads the file and has it taken over; what became of it, by group.
    pub(crate) async fn reload(&self, accept: bool) -> Vec<(String, ReplyLine)> {
        let path = self.path.clone();
        // A disk may take its time, and the daemon's only thread must not.
        let read = tokio::task::spawn_blocking(move || crate::cli::load(&path)).await;
        let new = match read {
            Ok(Ok(new)) => new,
            Ok(Err(report)) => {
                let text = format!("the old settings stay in force:\n{report}");
                return vec![("[file]".to_owned(), ReplyLine::failed(text))];
            }
            Err(error) => return vec![("[file]".to_owned(), ReplyLine::failed(error.to_string()))],
        };
        let (answer, answered) = oneshot::channel();
        let request = Request {
            new,
            accept,
            answer,
        };
        let asked = self.requests.send(request).await.is_ok();
        let Some(answers) = asked.then_some(answered.await.ok()).flatten() else {
            let text = "the daemon is stopping".to_owned();
            return vec![("[daemon]".to_owned(), ReplyLine::failed(text))];
        };
        let mut out = Vec::new();
        for (group, answer) in answers {
            let line = match tokio::time::timeout(ANSWER_WITHIN, answer).await {
                Ok(Ok(Answer::Reply(line))) => line,
                Ok(
                    Ok(
                        Answer::Status(_)
                        | Answer::Follow(_)
                        | Answer::Explain(_)
                        | Answer::Witness(_),
                    )
                    | Err(_),
                )
                | Err(_) => ReplyLine::failed("the group's loop gave no answer".to_owned()),
            };
            out.push((group, line));
        }
        out
    }
}

impl Plan {
    /// The refusal for a group or proxy, if the plan may not be taken over.
    pub(crate) fn refusal(&self, whose: &str) -> ReplyLine {
        let own = self.moves.iter().find(|(name, _)| name == whose);
        let why = match own {
            Some((_, moves)) => moves.join("; "),
            None => {
                let others: Vec<&str> = self.moves.iter().map(|(name, _)| name.as_str()).collect();
                format!("{} would move", others.join(", "))
            }
        };
        ReplyLine {
            outcome: "refused".to_owned(),
            rule: Some(RULE.to_owned()),
            text: format!("{why}. Nothing was taken over; tandem reload --accept does it"),
        }
    }
}
