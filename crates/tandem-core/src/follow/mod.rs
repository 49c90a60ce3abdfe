//! Following an existing Sentinel fleet: an elector that elects nobody.
//!
//! The fleet, of Redis Sentinel or of ours, promotes and demotes; here is decided only whom it means, and whether the
//! addresses belong on this host. Each sentinel of the file is asked and heard ([`talk`]), the highest configuration epoch
//! decides ([`judge`]), and the server that it names is believed when it says itself that it is a primary. The address
//! is here while the followed primary is this host's server and that server says so; otherwise the front is closed
//! and the address goes. Nothing is ever promoted, demoted or fenced.
//!
//! Without IO, as all electors: `handle(input, now) -> outputs`.

mod io;
mod judge;
mod talk;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

pub use io::{FollowStatus, Input, Output, Role, SentinelRow, Settings};
pub use judge::{Configuration, LEAP_MAX, Verdict};

use crate::rules::Ruling;
use crate::sentinel::{ConnId, Endpoint};
use crate::topology::{Forks, Member, Rank, Topology};
use crate::word::{self, Phase, Word, Words};
use judge::{Electorate, judge};
use talk::Talk;

/// A server that was not a primary when it was asked is asked again after this: a promotion may be under way.
const ASK_AGAIN: Duration = Duration::from_millis(50);
/// An answer about a role that takes longer is none.
const ROLE_WITHIN: Duration = Duration::from_secs(2);
/// Those who go back to an older configuration have to stay there for this long.
const OLDER_FOR: Duration = word::STALE_AFTER;

/// A server that is asked for its role, or was and is no primary.
#[derive(Debug)]
struct Candidate {
    configuration: Configuration,
    /// While the answer is outstanding: since when. Otherwise: why not, and when to ask again.
    state: Asked,
}

#[derive(Debug)]
enum Asked {
    Since(Instant),
    Refused { why: String, again: Instant },
}

/// The follower of one group.
#[derive(Debug)]
pub struct Follower {
    settings: Settings,
    talks: Vec<Talk>,
    current: Option<Configuration>,
    candidate: Option<Candidate>,
    older: Option<(Configuration, Instant)>,
    /// The local server's word, and when it was given.
    local: Option<(Role, Instant)>,
    holding: bool,
    stopping: bool,
    alarms: BTreeMap<&'static str, String>,
    published: Option<Topology>,
    words: Words,
    next_conn: u64,
    out: Vec<Output>,
}

impl Follower {
    /// A follower that knows nothing yet. [`Input::Tick`] begins.
    #[must_use]
    pub fn new(settings: Settings, now: Instant) -> Self {
        let talks = settings
            .sentinels
            .iter()
            .map(|at| Talk::new(at.clone(), now));
        Self {
            talks: talks.collect(),
            settings,
            current: None,
            candidate: None,
            older: None,
            local: None,
            holding: false,
            stopping: false,
            alarms: BTreeMap::new(),
            published: None,
            words: Words::default(),
            next_conn: 0,
            out: Vec::new(),
        }
    }

    /// Takes one input and returns what is to be done, in order. `now` must not go back.
    pub fn handle(&mut self, input: Input, now: Instant) -> Vec<Output> {
        match input {
            Input::Tick => {}
            Input::Connected(conn) => {
                if let Some(talk) = self.talks.iter_mut().find(|it| it.has(conn)) {
                    talk.connected(conn, &self.settings, now, &mut self.out);
                }
            }
            Input::Lost(conn, how) => {
                if let Some(talk) = self.talks.iter_mut().find(|it| it.has(conn)) {
                    talk.end(how, now, &mut self.out);
                }
            }
            Input::Reply(conn, value) => {
                if let Some(talk) = self.talks.iter_mut().find(|it| it.has(conn)) {
                    talk.reply(&value, now, &mut self.out);
                }
            }
            Input::Heard {
                conn,
                channel,
                message,
            } => self.heard(conn, &channel, &message, now),
            Input::Role { server, answer } => self.answered(&server, answer, now),
            Input::Local(role) => self.local = role.map(|role| (role, now)),
            Input::Quiet(rank) => {
                let report = word::Request::Quiet(self.settings.master.clone(), rank);
                for talk in &mut self.talks {
                    talk.report(&report, now, &mut self.out);
                }
            }
            Input::Doubt => {
                for talk in &mut self.talks {
                    talk.doubt(&self.settings, now, &mut self.out);
                }
            }
            Input::Stop => self.stopping = true,
        }
        for talk in &mut self.talks {
            talk.tick(&self.settings, &mut self.next_conn, now, &mut self.out);
            if let Some(word) = talk.word.take()
                && word.group == self.settings.master
            {
                self.words.take(word, now);
            }
        }
        self.decide(now);
        self.place_address(now);
        self.publish(now);
        std::mem::take(&mut self.out)
    }

    /// When [`Input::Tick`] is wanted at the latest.
    #[must_use]
    pub fn next_wake(&self, now: Instant) -> Instant {
        let mut wakes: Vec<Instant> = self.talks.iter().map(Talk::next_wake).collect();
        wakes.extend(self.candidate.as_ref().map(|it| match &it.state {
            Asked::Since(since) => *since + ROLE_WITHIN,
            Asked::Refused { again, .. } => *again,
        }));
        wakes.extend(self.older.as_ref().map(|(_, since)| *since + OLDER_FOR));
        if self.holding {
            wakes.extend(self.local.map(|(_, at)| at + self.settings.down_after));
        }
        let wake = wakes.into_iter().min().unwrap_or(now + talk::POLL);
        wake.max(now)
    }

    /// Whether some sentinel has answered since then, and nobody is to be asked for a role.
    #[must_use]
    pub fn is_fresh(&self, since: Instant, now: Instant) -> bool {
        let fresh = |talk: &Talk| talk.belief(now).is_some_and(|(_, at)| at >= since);
        self.candidate.is_none() && self.talks.iter().any(fresh)
    }

    /// Whom we follow.
    #[must_use]
    pub fn current(&self) -> Option<&Configuration> {
        self.current.as_ref()
    }

    fn heard(&mut self, conn: ConnId, channel: &[u8], message: &[u8], now: Instant) {
        if channel == word::CHANNEL.as_bytes() {
            if let Some(talk) = self.talks.iter_mut().find(|it| it.has(conn)) {
                talk.word = Word::read(message);
            }
            return;
        }
        let named = message.split(|byte| *byte == b' ').next();
        if channel != b"+switch-master" || named != Some(self.settings.master.as_bytes()) {
            return;
        }
        if let Some(talk) = self.talks.iter_mut().find(|it| it.has(conn)) {
            talk.ask_now(&self.settings, now, &mut self.out);
        }
    }

    fn answered(&mut self, server: &Endpoint, answer: Result<Role, String>, now: Instant) {
        let Some(candidate) = &mut self.candidate else {
            return;
        };
        if candidate.configuration.primary != *server {
            return;
        }
        if let Ok(role) = answer
            && *server == self.settings.server
        {
            // As good as the watch's word, and newer.
            self.local = Some((role, now));
        }
        let why = match answer {
            Ok(Role::Primary) => {
                let configuration = candidate.configuration.clone();
                self.candidate = None;
                // Meanwhile another one may have been named.
                if self.wanted(now).as_ref() == Some(&configuration) {
                    self.follow(configuration);
                }
                return;
            }
            Ok(Role::Other) => "it does not say that it is a primary".to_owned(),
            Err(why) => why,
        };
        let again = now + ASK_AGAIN;
        candidate.state = Asked::Refused { why, again };
    }

    fn verdict(&self, now: Instant) -> Verdict {
        let beliefs: Vec<Configuration> = self
            .talks
            .iter()
            .filter_map(|talk| talk.belief(now).map(|(said, _)| said.clone()))
            .collect();
        let electorate = if self.settings.daemons {
            Electorate::Daemons(self.talks.len())
        } else {
            Electorate::Fleet(self.talks.len())
        };
        judge(self.current.as_ref(), &beliefs, electorate)
    }

    /// The configuration to change to, if its primary says so.
    fn wanted(&self, now: Instant) -> Option<Configuration> {
        match self.verdict(now) {
            Verdict::Move(configuration) => Some(configuration),
            Verdict::Older(configuration) => self
                .older
                .as_ref()
                .filter(|(known, since)| *known == configuration && now >= *since + OLDER_FOR)
                .map(|(known, _)| known.clone()),
            Verdict::Stay
            | Verdict::Raise(_)
            | Verdict::Contradiction { .. }
            | Verdict::TooFew { .. } => None,
        }
    }

    fn decide(&mut self, now: Instant) {
        let verdict = self.verdict(now);
        match &verdict {
            Verdict::Older(configuration) => {
                if self
                    .older
                    .as_ref()
                    .is_none_or(|(known, _)| known != configuration)
                {
                    self.older = Some((configuration.clone(), now));
                }
            }
            Verdict::Stay
            | Verdict::Raise(_)
            | Verdict::Move(_)
            | Verdict::Contradiction { .. }
            | Verdict::TooFew { .. } => self.older = None,
        }
        if let Verdict::Raise(configuration) = &verdict {
            self.current = Some(configuration.clone());
        }
        self.raise_alarms(&verdict);
        let Some(wanted) = self.wanted(now) else {
            self.candidate = None;
            return;
        };
        if self
            .current
            .as_ref()
            .is_some_and(|it| it.primary == wanted.primary)
        {
            // Back in an older configuration of the same primary: nothing moves.
            self.follow(wanted);
            return;
        }
        let ask = match &self.candidate {
            Some(known) if known.configuration == wanted => match &known.state {
                Asked::Since(since) => now >= *since + ROLE_WITHIN,
                Asked::Refused { again, .. } => now >= *again,
            },
            Some(_) | None => true,
        };
        if ask {
            self.out.push(Output::AskRole(wanted.primary.clone()));
            self.candidate = Some(Candidate {
                configuration: wanted,
                state: Asked::Since(now),
            });
        }
    }

    fn follow(&mut self, configuration: Configuration) {
        let text = match &self.current {
            Some(old) => format!(
                "{} {} {} {} {} (configuration epoch {})",
                self.settings.group,
                old.primary.host,
                old.primary.port,
                configuration.primary.host,
                configuration.primary.port,
                configuration.epoch
            ),
            None => format!(
                "{} {} (configuration epoch {})",
                self.settings.group, configuration.primary, configuration.epoch
            ),
        };
        let name = match &self.current {
            Some(_) => "+switch-master",
            None => "+follow",
        };
        self.out.push(Output::Tell {
            name,
            text,
            alarm: false,
        });
        self.current = Some(configuration);
        self.candidate = None;
        self.older = None;
    }

    /// Tells what needs a person once, when it begins.
    fn raise_alarms(&mut self, verdict: &Verdict) {
        let contradiction = match verdict {
            Verdict::Contradiction { epoch, one, other } => Some(format!(
                "the fleet names two primaries in configuration epoch {epoch}: {one} and {other}; nothing moves"
            )),
            Verdict::Stay
            | Verdict::Raise(_)
            | Verdict::Move(_)
            | Verdict::Older(_)
            | Verdict::TooFew { .. } => None,
        };
        self.alarm("follow-contradiction", contradiction);
        let deaf = self.current.is_some() && !self.talks.iter().any(Talk::is_up);
        let deaf =
            deaf.then(|| "no sentinel can be reached; the last known primary is kept".to_owned());
        self.alarm("follow-deaf", deaf);
    }

    fn alarm(&mut self, name: &'static str, text: Option<String>) {
        match text {
            Some(text) if self.alarms.get(name) != Some(&text) => {
                self.alarms.insert(name, text.clone());
                self.out.push(Output::Tell {
                    name,
                    text,
                    alarm: true,
                });
            }
            Some(_) => {}
            None => {
                self.alarms.remove(name);
            }
        }
    }

    /// The address is here while this host's server is the one that is followed, and says that it is a primary.
    fn place_address(&mut self, now: Instant) {
        let named = self
            .current
            .as_ref()
            .is_some_and(|it| it.primary == self.settings.server);
        let says_so = self.local.is_some_and(|(role, at)| {
            role == Role::Primary && now.saturating_duration_since(at) < self.settings.down_after
        });
        let here = named && says_so && !self.stopping;
        if here != self.holding {
            self.holding = here;
            self.out.push(if here {
                Output::TakeAddress
            } else {
                Output::GiveAddress
            });
        }
    }

    fn publish(&mut self, now: Instant) {
        let Some(current) = &self.current else {
            return;
        };
        // The one that knows the newest configuration knows its replicas best.
        let best = self
            .talks
            .iter()
            .filter_map(|talk| talk.belief(now).map(|(said, at)| ((said.epoch, at), talk)))
            .max_by_key(|(rank, _)| *rank);
        let replicas = match (best, &self.published) {
            (Some((_, talk)), _) => talk.replicas.clone(),
            (None, Some(known)) => known.servers.clone(),
            (None, None) => Vec::new(),
        };
        let mut servers = vec![Member {
            healthy: true,
            ..Member::unknown(current.primary.clone())
        }];
        servers.extend(replicas.into_iter().filter(|it| it.at != current.primary));
        // Where daemons tell more: the primary may be closing, or gone, before there is another one.
        let word = self.words.on(current.epoch.0, &current.host);
        let phase = word.map_or(Phase::Serving, |word| word.phase);
        let topology = Topology {
            rank: Rank {
                epoch: current.epoch.0,
                host: current.host.clone(),
                turn: word.map_or(0, |word| word.rank.turn),
            },
            primary: (phase != Phase::Nobody).then(|| current.primary.clone()),
            closing: phase == Phase::Closing,
            servers,
            daemons: Vec::new(),
            forks: self.forks(current, now),
            alone: None,
        };
        if self.published.as_ref() != Some(&topology) {
            self.out.push(Output::Publish(topology.clone()));
            self.published = Some(topology);
        }
    }

    /// What those tell of forks who name the primary that is followed: one that knows the fork is enough.
    fn forks(&self, current: &Configuration, now: Instant) -> Forks {
        let agrees = |talk: &&Talk| talk.belief(now).is_some_and(|(said, _)| said == current);
        let same = |known: &&Topology| {
            (known.rank.epoch, &known.rank.host) == (current.epoch.0, &current.host)
                && known.primary.as_ref() == Some(&current.primary)
        };
        let before = self.published.as_ref().filter(same);
        let mut told = before.map_or(Forks::Untold, |known| known.forks.clone());
        for talk in self.talks.iter().filter(agrees) {
            match (&talk.forks, &told) {
                (Forks::At { .. }, _) | (Forks::None, Forks::Untold) => {
                    told = talk.forks.clone();
                }
                (Forks::None | Forks::Untold, _) => {}
            }
        }
        told
    }

    /// What is followed, and what each sentinel believes.
    #[must_use]
    pub fn status(&self, now: Instant) -> FollowStatus {
        FollowStatus {
            group: self.settings.group.clone(),
            master: self.settings.master.clone(),
            primary: self.current.as_ref().map(|it| it.primary.name()),
            epoch: self.current.as_ref().map(|it| it.epoch.0),
            server: self.settings.server.name(),
            vip_here: self.holding,
            sentinels: self.talks.iter().map(|talk| self.row(talk, now)).collect(),
            alarms: self.alarms.values().cloned().collect(),
        }
    }

    fn row(&self, talk: &Talk, now: Instant) -> SentinelRow {
        let belief = talk.belief(now);
        let verdict = match (belief, &self.current) {
            (None, _) => talk.trouble.clone().unwrap_or_else(|| "silent".to_owned()),
            (Some((said, _)), Some(current)) if said == current => "followed".to_owned(),
            (Some((said, _)), Some(current)) if said.epoch < current.epoch => "stale".to_owned(),
            (Some((said, _)), Some(current)) if said.epoch == current.epoch => {
                "other address".to_owned()
            }
            (Some(_), Some(_) | None) => "newer".to_owned(),
        };
        SentinelRow {
            address: talk.at.name(),
            heard: talk.is_up() && belief.is_some(),
            primary: belief.map(|(said, _)| said.primary.name()),
            epoch: belief.map(|(said, _)| said.epoch.0),
            seen_ms: belief.map(|(_, at)| {
                u64::try_from(now.saturating_duration_since(at).as_millis()).unwrap_or(u64::MAX)
            }),
            verdict,
        }
    }

    /// Why the address is here or not, and why nothing else is followed.
    #[must_use]
    pub fn explain(&self, now: Instant) -> Vec<Ruling> {
        let mut out = vec![match &self.current {
            Some(current) => Ruling::yes(
                "follow.primary",
                format!(
                    "{} at configuration epoch {}",
                    current.primary, current.epoch
                ),
            ),
            None => Ruling::wait("follow.primary", "no primary is followed yet".to_owned()),
        }];
        out.push(match self.verdict(now) {
            Verdict::Stay | Verdict::Raise(_) => Ruling::yes(
                "follow.epoch",
                "no sentinel knows a newer configuration".to_owned(),
            ),
            Verdict::Move(next) => Ruling::wait("follow.epoch", self.why_not(&next)),
            Verdict::Older(next) => Ruling::wait(
                "follow.epoch",
                format!(
                    "{} of epoch {} is named, and nothing newer; that counts after {} s",
                    next.primary,
                    next.epoch,
                    OLDER_FOR.as_secs()
                ),
            ),
            Verdict::Contradiction { epoch, one, other } => Ruling::no(
                "follow.epoch",
                format!("epoch {epoch} has {one} and {other}"),
            ),
            Verdict::TooFew { heard, needed } => Ruling::wait(
                "follow.majority",
                format!("{heard} sentinels say so, {needed} have to"),
            ),
        });
        out.push(match (&self.current, self.local) {
            (Some(current), _) if current.primary != self.settings.server => Ruling::no(
                "follow.address",
                "the primary is on another host".to_owned(),
            ),
            (Some(_), Some((Role::Primary, _))) if self.holding => Ruling::yes(
                "follow.address",
                "the local server says that it is the primary".to_owned(),
            ),
            (Some(_), _) => Ruling::no(
                "follow.address",
                "the local server does not say that it is a primary".to_owned(),
            ),
            (None, _) => Ruling::wait("follow.address", "nothing is followed yet".to_owned()),
        });
        out
    }

    fn why_not(&self, next: &Configuration) -> String {
        let told = format!("{} is named in epoch {}", next.primary, next.epoch);
        match self.candidate.as_ref().map(|it| &it.state) {
            Some(Asked::Refused { why, .. }) => format!("{told}, but {why}"),
            Some(Asked::Since(_)) | None => format!("{told}; it is being asked for its role"),
        }
    }
}
