//! Asks a whole fleet: one sentinel, then in rounds all those that were named and not asked yet.
//!
//! Everything is bounded: the sentinels by [`SENTINELS_MAX`], each by [`WITHIN`] for name look-up, connection and answers
//! together. A round is asked at once, so a fleet in which some are dead takes about that long.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use serde::Serialize;
use tandem_core::sentinel::commands::status::Report;
use tandem_resp::{Command, Value};
use tokio::task::JoinSet;
use tokio::time::timeout_at;

use super::{Address, foreign};
use crate::redis::client::Link;
use crate::redis::error::LinkError;
use crate::redis::raw::{Credentials, Target};

/// Sentinels asked at most; a fleet has three to seven.
const SENTINELS_MAX: usize = 64;
/// What one sentinel may take in all.
const WITHIN: Duration = Duration::from_secs(3);

/// Which program answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Program {
    /// One of ours.
    Tandem,
    /// Another Sentinel, as a rule redis-sentinel.
    Redis,
}

/// One sentinel and its answer.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Asked {
    /// Where it was asked.
    pub(super) at: String,
    /// What it is, if it answered.
    pub(super) program: Option<Program>,
    /// What it believes.
    pub(super) report: Option<Report>,
    /// Why it did not answer.
    pub(super) error: Option<String>,
}

impl Asked {
    fn new(at: &Address, answer: Result<(Program, Report), String>) -> Self {
        let (program, report, error) = match answer {
            Ok((program, report)) => (Some(program), Some(report), None),
            Err(error) => (None, None, Some(error)),
        };
        Self {
            at: at.to_string(),
            program,
            report,
            error,
        }
    }
}

/// Asks the fleet that `first` belongs to; its answer comes first, the others in order of address.
pub(super) async fn fleet(
    first: &Address,
    login: Option<&Credentials>,
    group: Option<&str>,
) -> Vec<Asked> {
    let mut met = Met::default();
    let mut all = vec![Asked::new(
        first,
        ask(first.clone(), login.cloned(), group.map(str::to_owned)).await,
    )];
    met.take(&all[0]);
    loop {
        let room = SENTINELS_MAX.saturating_sub(all.len());
        let round = met.next(room);
        if round.is_empty() {
            break;
        }
        let mut asking = JoinSet::new();
        for address in round {
            let (login, group) = (login.cloned(), group.map(str::to_owned));
            asking.spawn(
                async move { Asked::new(&address, ask(address.clone(), login, group).await) },
            );
        }
        while let Some(joined) = asking.join_next().await {
            // A task that panicked is a defect of ours, and the others' answers are good all the same.
            let Ok(asked) = joined else { continue };
            met.take(&asked);
            all.push(asked);
        }
    }
    all[1..].sort_by(|a, b| a.at.cmp(&b.at));
    all
}

/// Who was named, and who is known by now: one sentinel may be reached by several addresses.
#[derive(Default)]
struct Met {
    ids: BTreeSet<String>,
    asked: BTreeSet<String>,
    named: Vec<(String, Address)>,
}

impl Met {
    fn take(&mut self, asked: &Asked) {
        self.asked.insert(asked.at.clone());
        let Some(report) = &asked.report else {
            return;
        };
        self.ids.insert(report.id.clone());
        for peer in report.groups.iter().flat_map(|group| &group.peers) {
            if let Ok(address) = peer.instance.at.parse() {
                self.named.push((peer.id.clone(), address));
            }
        }
    }

    /// Those to be asked next, each address once.
    fn next(&mut self, room: usize) -> BTreeSet<Address> {
        let mut round = BTreeSet::new();
        for (id, address) in std::mem::take(&mut self.named) {
            let known = self.ids.contains(&id) || self.asked.contains(&address.to_string());
            if !known && round.len() < room {
                round.insert(address);
            }
        }
        round
    }
}

async fn ask(
    at: Address,
    login: Option<Credentials>,
    group: Option<String>,
) -> Result<(Program, Report), String> {
    let deadline = Instant::now() + WITHIN;
    let answer = timeout_at(deadline.into(), async {
        let address = tokio::net::lookup_host((at.host.as_str(), at.port))
            .await
            .map_err(|error| error.to_string())?
            .next()
            .ok_or("the name has no address")?;
        let target = Target {
            credentials: login,
            ..Target::new(address)
        };
        let link = Link::connect(&target, deadline)
            .await
            .map_err(|error| error.to_string())?;
        Conversation { link, deadline }
            .report(group.as_deref())
            .await
    });
    answer
        .await
        .unwrap_or_else(|_| Err(format!("nothing within {} s", WITHIN.as_secs())))
}

/// A connection to one sentinel.
pub(super) struct Conversation {
    link: Link,
    deadline: Instant,
}

impl Conversation {
    /// One question after the other; an error reply is a value.
    pub(super) async fn call(&self, words: &[&str]) -> Result<Value, String> {
        let mut answers = self.calls(&[words]).await?;
        answers.pop().ok_or_else(|| "no answer".to_owned())
    }

    /// Several questions in one piece.
    pub(super) async fn calls(&self, questions: &[&[&str]]) -> Result<Vec<Value>, String> {
        let commands: Vec<Command> = questions
            .iter()
            .map(|words| Command::from_args(words))
            .collect();
        self.link
            .pipeline(&commands, self.deadline)
            .await
            .map_err(|error| match error {
                LinkError::Protocol(_) => format!("{error} (of very many groups, name one)"),
                LinkError::Refused
                | LinkError::Unreachable
                | LinkError::TimedOut { .. }
                | LinkError::Closed { .. }
                | LinkError::Auth(_)
                | LinkError::Local(_) => error.to_string(),
            })
    }

    async fn report(&self, group: Option<&str>) -> Result<(Program, Report), String> {
        let ours = match group {
            None => self.call(&["SENTINEL", "TANDEM", "STATUS"]).await?,
            Some(group) => self.call(&["SENTINEL", "TANDEM", "EXPLAIN", group]).await?,
        };
        if let Some(text) = ours.as_str() {
            let report = serde_json::from_str(text)
                .map_err(|error| format!("a report of another version: {error}"))?;
            return Ok((Program::Tandem, report));
        }
        if let Some(error) = ours.as_error()
            && !error.starts_with(b"ERR")
        {
            // NOAUTH, NOPERM: it would say the same to every other question.
            return Err(String::from_utf8_lossy(error).into_owned());
        }
        let report = foreign::report(self, group).await?;
        // Ours does not know the group, and says so as any Sentinel does.
        let name = self.call(&["SENTINEL", "TANDEM"]).await?;
        let program = if name.as_error().is_none() {
            Program::Tandem
        } else {
            Program::Redis
        };
        Ok((program, report))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::sentinel::foreign::tests::peer;
    use crate::cli::sentinel::table::tests::report;

    #[test]
    fn nobody_is_asked_twice_whatever_he_is_called() {
        let mut met = Met::default();
        let mut first = report("a", 3);
        first.groups[0].peers = vec![peer("b", "10.0.0.2:26379"), peer("c", "10.0.0.3:26379")];
        let local = "127.0.0.1".parse().unwrap();
        met.take(&Asked::new(&local, Ok((Program::Tandem, first))));
        let named: Vec<String> = met.next(9).iter().map(ToString::to_string).collect();
        assert_eq!(named, ["10.0.0.2:26379", "10.0.0.3:26379"]);
        let mut second = report("b", 3);
        // The first one by its real address, which is not the one that it was asked by.
        second.groups[0].peers = vec![peer("a", "10.0.0.1:26379"), peer("c", "10.0.0.3:26379")];
        let b = "10.0.0.2".parse().unwrap();
        let c = "10.0.0.3".parse().unwrap();
        met.take(&Asked::new(&c, Err("connection refused".to_owned())));
        met.take(&Asked::new(&b, Ok((Program::Redis, second))));
        assert!(met.next(9).is_empty());
    }

    #[test]
    fn a_fleet_without_end_is_cut_off() {
        let mut met = Met::default();
        let mut first = report("a", 3);
        first.groups[0].peers = (1..200)
            .map(|n| peer(&format!("p{n}"), &format!("10.0.0.{n}:26379")))
            .collect();
        let local = "127.0.0.1".parse().unwrap();
        met.take(&Asked::new(&local, Ok((Program::Tandem, first))));
        assert_eq!(met.next(5).len(), 5);
    }
}
