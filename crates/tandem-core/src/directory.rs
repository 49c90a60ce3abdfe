//! A Sentinel's answers for groups that a tandem daemon looks after: discovery and nothing else.
//!
//! Clients that know Redis Sentinel find the primary here, and hear `+switch-master` when it changes. Shapes and texts
//! are those of [`crate::sentinel::commands`], which real clients take for a Sentinel's; what is shown comes from the
//! newest [`Topology`] of each group. Nothing can be changed here: who is primary is decided elsewhere, and votes,
//! hellos and settings are refused by name.
//!
//! Where Redis Sentinel goes on naming a primary that it knows to be dead, here none is named (a null) until there is
//! one again: clients then ask the next address of their list instead of waiting at a dead one.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use sha2::{Digest as _, Sha256};
use tandem_resp::Value;

use crate::sentinel::commands::{self, LogLevel, Outcome, Simulate, Subcommand, View, status};
use crate::sentinel::events::Kind;
use crate::sentinel::ids::{ConfigEpoch, ElectionEpoch, Endpoint, GroupName, SentinelId};
use crate::sentinel::io::{ConnId, Event, Question};
use crate::sentinel::model::{Conn, Down, Group, GroupId, Link, LinkId, Owner};
use crate::sentinel::model::{Peer, PeerKind, Primary, Replica, ReportedRole};
use crate::sentinel::scripts::Queue;
use crate::sentinel::settings::{Compat, Globals, GroupSettings, Periods};
use crate::topology::{Forks, Member, Rank, Topology};

/// Whoever asks for more than discovery reads this.
const REFUSED: &[u8] =
    b"ERR this port of a tandem daemon answers discovery only; roles change by `tandem switchover`";

/// Another daemon that answers for the same groups: a sentinel, to clients.
#[derive(Clone, Debug)]
pub struct Daemon {
    /// Its host's id.
    pub host: String,
    /// Where it listens.
    pub at: SocketAddr,
}

/// A group as it is shown, from its settings.
#[derive(Clone, Debug)]
pub struct Shown {
    /// Its name.
    pub name: String,
    /// The address that leads to its primary, where clients are to be told that one instead of the server's own. The
    /// port is the server's.
    pub address: Option<IpAddr>,
    /// Its server on this host: shown while nothing else is known.
    pub server: SocketAddr,
    /// Silence that counts as down.
    pub down_after: Duration,
}

/// All groups of a daemon.
#[derive(Debug)]
pub struct Directory {
    id: SentinelId,
    globals: Globals,
    daemons: Vec<(SentinelId, Daemon)>,
    groups: BTreeMap<GroupName, Entry>,
}

#[derive(Debug)]
struct Entry {
    shown: Shown,
    topology: Topology,
    /// The newest primary that was known.
    last: Option<Endpoint>,
    /// Since when it is what it is: primary, or lost.
    since: Instant,
    /// Servers that do not answer, and since when.
    down: BTreeMap<Endpoint, Instant>,
}

/// The id under which a daemon is shown as a sentinel: the same wherever it is computed, and for life.
#[must_use]
pub fn sentinel_id(daemon: &Daemon) -> SentinelId {
    let digest = Sha256::digest(format!("tandem directory {} {}", daemon.host, daemon.at));
    let digits: String = digest[..20].iter().map(|b| format!("{b:02x}")).collect();
    SentinelId::parse(&digits).expect("twenty bytes are forty digits")
}

impl Directory {
    /// A directory in which no primary is known yet.
    #[must_use]
    pub fn new(own: &Daemon, others: Vec<Daemon>, groups: Vec<Shown>, now: Instant) -> Self {
        let globals = Globals {
            port: own.at.port(),
            ..Globals::default()
        };
        let entry = |shown: Shown| {
            let entry = Entry {
                shown: shown.clone(),
                topology: Topology::default(),
                last: None,
                since: now,
                down: BTreeMap::new(),
            };
            (GroupName(shown.name), entry)
        };
        Self {
            id: sentinel_id(own),
            globals,
            daemons: others
                .into_iter()
                .map(|it| (sentinel_id(&it), it))
                .collect(),
            groups: groups.into_iter().map(entry).collect(),
        }
    }

    /// From now on clients are told this address for the group's primary, or with `None` the server's own.
    pub fn show_at(&mut self, group: &str, address: Option<IpAddr>) {
        if let Some(entry) = self.groups.get_mut(&GroupName(group.to_owned())) {
            entry.shown.address = address;
        }
    }

    /// Takes a newer snapshot of a group. The event is to be told to all who listen: the primary is another one.
    pub fn update(&mut self, group: &str, topology: Topology, now: Instant) -> Option<Event> {
        let entry = self.groups.get_mut(&GroupName(group.to_owned()))?;
        let down = topology.servers.iter().filter(|it| !it.healthy);
        entry.down = down
            .map(|it| (it.at.clone(), *entry.down.get(&it.at).unwrap_or(&now)))
            .collect();
        if entry.topology.primary != topology.primary {
            entry.since = now;
        }
        let primary = topology.primary.clone();
        entry.topology = topology;
        let new = primary?;
        let old = entry.last.replace(new.clone())?;
        (old != new).then(|| {
            let (old, new) = (entry.told(&old), entry.told(&new));
            Kind::PlusSwitchMaster.plain(format_args!(
                "{group} {} {} {} {}",
                old.host, old.port, new.host, new.port
            ))
        })
    }

    /// Answers a question; what is not discovery is refused.
    #[must_use]
    pub fn answer(&self, question: &Question, now: Instant) -> Value {
        match question {
            Question::Sentinel(words) | Question::SentinelWithPrograms { args: words, .. } => {
                match commands::parse(words, Compat::V7_0) {
                    Ok(subcommand) => self.subcommand(subcommand, now),
                    Err(error) => error.reply(),
                }
            }
            Question::Role => self.view(now, commands::role),
            Question::InfoSection => self.view(now, commands::info_section),
            Question::Publish { .. } => Value::Error(REFUSED.to_vec()),
        }
    }

    fn subcommand(&self, subcommand: Subcommand, now: Instant) -> Value {
        let told = match &subcommand {
            Subcommand::Primary(name) => self.groups.get(name).map(|it| &it.topology),
            _ => None,
        };
        let more = told.map_or_else(Vec::new, for_proxies);
        match &subcommand {
            Subcommand::AddressOf(name) => {
                let known = |entry: &Entry| entry.topology.primary.is_some();
                if !self.groups.get(name).is_some_and(known) {
                    return Value::Null;
                }
            }
            Subcommand::Primaries
            | Subcommand::Primary(_)
            | Subcommand::Replicas(_)
            | Subcommand::Sentinels(_)
            | Subcommand::CheckQuorum(_)
            | Subcommand::MyId => {}
            Subcommand::IsDown { .. }
            | Subcommand::Reset(_)
            | Subcommand::Failover(_)
            | Subcommand::PendingScripts
            | Subcommand::Monitor { .. }
            | Subcommand::Remove(_)
            | Subcommand::Set { .. }
            | Subcommand::ConfigGet(_)
            | Subcommand::ConfigSet(_)
            | Subcommand::FlushConfig
            | Subcommand::InfoCache(_)
            | Subcommand::SimulateFailure(_)
            | Subcommand::Debug(_)
            | Subcommand::Help
            | Subcommand::Tandem
            | Subcommand::Status(_) => return Value::Error(REFUSED.to_vec()),
        }
        match self.view(now, |view| commands::answer(view, subcommand)) {
            Outcome::Reply(value) => with_more(value, more),
            Outcome::Change(_) => Value::Error(REFUSED.to_vec()),
        }
    }

    /// Shows the groups as a sentinel's model has them.
    fn view<R>(&self, now: Instant, look: impl FnOnce(&View<'_>) -> R) -> R {
        let mut links = BTreeMap::new();
        let mut names = BTreeMap::new();
        let mut groups = BTreeMap::new();
        for (number, (name, entry)) in self.groups.iter().enumerate() {
            let id = GroupId(number as u64);
            names.insert(name.clone(), id);
            groups.insert(id, entry.model(id, &self.daemons, &mut links, now));
        }
        let epochs = self.groups.values().map(|entry| entry.topology.rank.epoch);
        look(&View {
            now,
            id: &self.id,
            epoch: ElectionEpoch(epochs.max().unwrap_or(0)),
            globals: &self.globals,
            log_level: LogLevel::Notice,
            periods: &Periods::default(),
            groups: commands::Directory {
                names: &names,
                groups: &groups,
            },
            links: &links,
            resolved: &BTreeMap::new(),
            tilt: None,
            simulate: Simulate::default(),
            scripts: &Queue::default(),
            executable: &|_| false,
            reasons: &|_| status::Reasons {
                no_failover: None,
                excluded: BTreeMap::new(),
                would_promote: None,
            },
        })
    }
}

/// The answer to `SENTINEL MASTER` has fields that a Sentinel's has not, for proxies of other hosts.
fn for_proxies(topology: &Topology) -> Vec<(&'static str, String)> {
    let host = (Rank::FIELD, topology.rank.host.0.clone());
    let fork = topology.forks.told().map(|fork| (Forks::FIELD, fork));
    let host = (!host.1.is_empty()).then_some(host);
    host.into_iter().chain(fork).collect()
}

fn with_more(answer: Value, more: Vec<(&'static str, String)>) -> Value {
    let text = |text: &str| Value::Bulk(text.as_bytes().to_vec());
    let more = more.iter().map(|(name, value)| (text(name), text(value)));
    match answer {
        Value::Map(mut pairs) => {
            pairs.extend(more);
            Value::Map(pairs)
        }
        Value::Array(mut items) => {
            items.extend(more.flat_map(|(name, value)| [name, value]));
            Value::Array(items)
        }
        other => other,
    }
}

type Links = BTreeMap<LinkId, Link>;

impl Entry {
    /// The address that clients are told for this primary.
    fn told(&self, primary: &Endpoint) -> Endpoint {
        match self.shown.address {
            Some(address) => Endpoint::new(address.to_string(), primary.port),
            None => primary.clone(),
        }
    }

    fn model(
        &self,
        id: GroupId,
        daemons: &[(SentinelId, Daemon)],
        links: &mut Links,
        now: Instant,
    ) -> Group {
        let topology = &self.topology;
        let mut settings =
            GroupSettings::new(GroupName(self.shown.name.clone()), 1, &Periods::default());
        settings.down_after = self.shown.down_after;
        let server = self.shown.server;
        let at = match topology.primary.as_ref().or(self.last.as_ref()) {
            Some(at) => at.clone(),
            None => Endpoint::new(server.ip().to_string(), server.port()),
        };
        let known = topology.primary.is_some();
        let link = linked(links, Owner::Primary(id), &self.told(&at), known, now);
        let mut primary = Primary::new(self.told(&at), link, now);
        primary.observed.role_since = self.since;
        primary.observed.info_at = Some(now);
        if let Some(member) = topology.servers.iter().find(|it| it.at == at) {
            primary.observed.run_id.clone_from(&member.run_id);
        }
        if !known {
            primary.down = Down {
                subjective: Some(self.since),
                objective: Some(self.since),
            };
        }
        let mut group = Group::new(id, settings, primary);
        group.config_epoch = ConfigEpoch(topology.rank.epoch);
        for member in topology.servers.iter().filter(|it| it.at != at) {
            let replica = self.replica(id, member, links, now);
            group.replicas.insert(member.at.clone(), replica);
        }
        for (peer, daemon) in daemons {
            let heard = topology.daemons.contains(&daemon.host);
            let at = Endpoint::new(daemon.at.ip().to_string(), daemon.at.port());
            let owner = Owner::Peer(peer.clone(), BTreeSet::from([id]));
            let link = linked(links, owner, &at, heard, now);
            let mut shown = Peer::new(peer.clone(), at, link, now);
            shown.kind = PeerKind::Tandem;
            shown.down.subjective = (!heard).then_some(now);
            group.peers.insert(peer.clone(), shown);
        }
        group
    }

    fn replica(&self, id: GroupId, member: &Member, links: &mut Links, now: Instant) -> Replica {
        let owner = Owner::Replica(id, member.at.clone());
        let link = linked(links, owner, &member.at, member.healthy, now);
        let mut replica = Replica::new(member.at.clone(), link, now);
        replica.observed.run_id.clone_from(&member.run_id);
        replica.observed.info_at = Some(now);
        if member.follows.is_none() && member.healthy {
            replica.observed.role = ReportedRole::Primary;
        }
        replica.down.subjective = self.down.get(&member.at).copied();
        replica.follows.clone_from(&member.follows);
        replica.link_up = member.link_up;
        replica.offset = member.offset;
        replica
    }
}

/// A link that stands, or does not: what it is for is not done here, only shown.
fn linked(links: &mut Links, owner: Owner, to: &Endpoint, up: bool, now: Instant) -> LinkId {
    let id = LinkId(links.len() as u64);
    let mut link = Link::new(owner, to.clone(), now);
    if up {
        let conn = Conn {
            id: ConnId(0),
            since: now,
            up: true,
            expects: VecDeque::new(),
        };
        link.command = Some(conn.clone());
        link.pubsub = Some(conn);
        link.ping_pending = None;
    }
    links.insert(id, link);
    id
}

#[cfg(test)]
mod tests;
