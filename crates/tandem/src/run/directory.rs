//! Discovery on the daemon's port: clients that know Redis Sentinel find each group's primary here.
//!
//! What is answered is [`tandem_core::directory`]'s; the port itself is the one of `tandem sentinel`
//! ([`crate::sentinel::serve`]), with a default user who may ask and listen and nothing else. Nobody authenticates, so
//! requests are held short and connections few. The groups' loops say where their servers are; the newest word of each is
//! kept, and a change of primary is told to subscribers in the same turn.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use rustix::process::{Resource, getrlimit};
use tandem_config::settings::{self as config, Settings, ShardAt};
use tandem_core::directory::{Daemon, Directory, Shown, sentinel_id};
use tandem_core::sentinel::daemon::{self, About};
use tandem_core::sentinel::io;
use tandem_core::sentinel::settings::Compat;
use tandem_core::sentinel::{Endpoint, Question};
use tandem_core::topology::Topology;
use tandem_core::word;
use tandem_resp::{Limits, Value};
use tokio::sync::{mpsc, oneshot, watch};

use super::control::{Answer, Request};
use super::group::Event;
use super::look::Looks;
use super::peer::Stranger;
use super::quiet::Quiet;
use crate::sentinel::serve::{self, Ask, Server};

/// The version of Redis whose Sentinel is answered like.
const REDIS_VERSION: &str = "7.0.15";
/// Clients at a time, where the process may open enough files.
const CLIENTS_MAX: u64 = 1000;
/// Files that the daemon itself needs.
const OWN_FILES: u64 = 256;
/// A group's loop answers a sentinel within this, or is said to be busy.
const GROUP_WITHIN: Duration = Duration::from_millis(500);
/// What anybody may ask. Questions to the directory are among it, whatever they are: it refuses them with a reason.
const VISITOR: &str = "user default on nopass &* -@all +auth +hello +ping +role +info +command +client|id +client|info \
     +client|getname +client|setname +client|reply +client|no-evict +subscribe +psubscribe +unsubscribe +punsubscribe \
     +publish +sentinel";
/// The longest request that makes sense here is a subscription to some channels.
const REQUEST: Limits = Limits {
    max_elements: 64,
    max_bulk: 4 * 1024,
    max_frame: 64 * 1024,
    ..Limits::stranger()
};

/// The loops of this host's groups, by the address of their server here.
pub(crate) type Servers = Vec<(SocketAddr, mpsc::Sender<Event>)>;

/// What a group's loop says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Word {
    topology: Topology,
    address: Option<IpAddr>,
}

/// The newest word of each group.
pub(crate) type Words = watch::Receiver<BTreeMap<String, Word>>;

/// Where the groups' loops say where their servers are.
#[derive(Clone, Debug)]
pub(crate) struct Told {
    words: watch::Sender<BTreeMap<String, Word>>,
    /// Who has finished with a primary that closes.
    pub(crate) quiet: Quiet,
    /// Whether it was looked at what is told.
    pub(crate) looks: Looks,
    /// Which shards of proxies it is about.
    ours: fn(&config::Shard) -> bool,
    vip: bool,
}

impl Told {
    /// Of groups of this host.
    pub(crate) fn here(settings: &Settings) -> Self {
        Self::new(settings, Self::is_here)
    }

    /// Of groups of other hosts, as their daemons tell.
    pub(crate) fn elsewhere(settings: &Settings) -> Self {
        Self::new(settings, Self::is_elsewhere)
    }

    fn is_here(shard: &config::Shard) -> bool {
        matches!(shard.at, ShardAt::Here)
    }

    fn is_elsewhere(shard: &config::Shard) -> bool {
        matches!(shard.at, ShardAt::Daemons { .. })
    }

    /// Nothing is known of any group yet.
    fn new(settings: &Settings, ours: fn(&config::Shard) -> bool) -> Self {
        let told = Self {
            words: watch::Sender::default(),
            quiet: Quiet::new(std::iter::empty()),
            looks: Looks::default(),
            ours,
            vip: match settings.host.directory {
                config::DirectoryAddress::Vip => true,
                config::DirectoryAddress::Servers => false,
            },
        };
        told.expect(settings);
        told
    }

    /// These are this host's proxies from now on, who are waited for.
    pub(crate) fn expect(&self, settings: &Settings) {
        let shards = settings.proxies.iter().flat_map(|proxy| &proxy.shards);
        let groups = shards.filter(|shard| (self.ours)(shard));
        self.quiet.expect(groups.map(|shard| shard.name.as_str()));
    }

    /// Says this of a group from now on.
    pub(crate) fn say(&self, group: &str, address: Option<IpAddr>, topology: Topology) {
        let word = Word { topology, address };
        self.words.send_if_modified(|words| {
            if words.get(group) == Some(&word) {
                return false;
            }
            words.insert(group.to_owned(), word);
            true
        });
    }

    /// Hears every word from now on, and the newest ones at once.
    pub(crate) fn subscribe(&self) -> Words {
        self.words.subscribe()
    }

    /// The newest word on a group, if there was one.
    pub(crate) fn topology_of(words: &Words, group: &str) -> Option<Topology> {
        words.borrow().get(group).map(|word| word.topology.clone())
    }

    /// The VIP that clients are told: one of the family in which the server listens, if there is one.
    pub(crate) fn address(&self, vip: Option<&config::Vip>, server: SocketAddr) -> Option<IpAddr> {
        let vip = vip.filter(|_| self.vip)?;
        let addresses = || vip.addresses.iter().map(|address| address.addr);
        addresses()
            .find(|address| address.is_ipv4() == server.is_ipv4())
            .or_else(|| addresses().next())
    }
}

/// The port's other half: whoever is no peer.
pub(crate) struct Port {
    server: Server,
    asks: mpsc::Receiver<Ask>,
    strangers: mpsc::Receiver<Stranger>,
    words: watch::Receiver<BTreeMap<String, Word>>,
    quiet: Quiet,
    /// What proxies of other hosts were told last.
    said: BTreeMap<String, word::Word>,
    directory: Directory,
}

impl Port {
    /// Prepares the answers. Connections come from `strangers`.
    pub(crate) fn new(
        settings: &Settings,
        config_path: &std::path::Path,
        told: &Told,
        strangers: mpsc::Receiver<Stranger>,
    ) -> Result<Self> {
        let own = Daemon {
            host: settings.host.id.clone(),
            at: settings.host.socket_addr(),
        };
        let others = settings.peers.iter().map(|peer| Daemon {
            host: peer.id.clone(),
            at: peer.socket_addr(),
        });
        let led = settings.groups.iter().map(|group| Shown {
            name: group.name.clone(),
            address: told.address(group.vip.as_ref(), group.server),
            server: group.server,
            down_after: group.down_after,
        });
        let followed = settings.follows.iter().map(|group| Shown {
            name: group.name.clone(),
            address: told.address(group.vip.as_ref(), group.server),
            server: group.server,
            down_after: group.down_after,
        });
        let groups = led.chain(followed);
        let directory = Directory::new(&own, others.collect(), groups.collect(), Instant::now());
        let max_clients = clients_max();
        let (server, asks) = Server::new(serve::Settings {
            bind: Vec::new(),
            port: None,
            max_clients,
            users: vec![VISITOR.to_owned()],
            request: REQUEST,
            identity: serve::Identity {
                redis_version: REDIS_VERSION.to_owned(),
                compat: Compat::V7_0,
                run_id: sentinel_id(&own).as_str().to_owned(),
                executable: std::env::current_exe()
                    .map(|path| path.display().to_string())
                    .unwrap_or_default(),
                config_file: config_path.display().to_string(),
                port: settings.host.port,
                max_clients,
            },
            ..serve::Settings::default()
        })
        .context("the directory's port")?;
        Ok(Self {
            server,
            asks,
            strangers,
            words: told.words.subscribe(),
            quiet: told.quiet.clone(),
            said: BTreeMap::new(),
            directory,
        })
    }

    /// Answers for as long as the daemon runs. Needs a [`tokio::task::LocalSet`].
    pub(crate) async fn run(mut self, servers: Servers) {
        loop {
            tokio::select! {
                biased;
                changed = self.words.changed() => match changed {
                    Ok(()) => self.take_words(),
                    // The daemon is leaving.
                    Err(_) => return self.server.close(),
                },
                Some(Ask { question, answer }) = self.asks.recv() => match about_server(&question) {
                    Some((about, server)) => ask_group(&servers, about, &server, answer),
                    None => {
                        let reply = match from_proxy(&question) {
                            Some(request) => self.answer_proxy(&request),
                            None => self.directory.answer(&question, Instant::now()),
                        };
                        // The client may have left.
                        let _ = answer.send(reply);
                    }
                },
                Some(Stranger { stream, first }) = self.strangers.recv() => {
                    self.server.adopt(stream, first);
                }
                else => return,
            }
        }
    }

    fn take_words(&mut self) {
        let now = Instant::now();
        let words = self.words.borrow_and_update().clone();
        for (group, word) in words {
            // First: a switchover waits for those who hear this.
            self.tell_proxies(word::Word::of(&group, &word.topology));
            self.directory.show_at(&group, word.address);
            if let Some(event) = self.directory.update(&group, word.topology, now) {
                tracing::info!("{group}: told {}: {}", event.name, event.payload);
                self.server.publish(&event);
            }
        }
    }
}

impl Port {
    fn tell_proxies(&mut self, word: word::Word) {
        if self.said.get(&word.group) == Some(&word) {
            return;
        }
        let proxies = self.server.tell(word::CHANNEL, &word.line());
        if word.phase == word::Phase::Closing {
            self.quiet.told(&word.group, &word.rank, proxies);
        }
        self.said.insert(word.group.clone(), word);
    }

    fn answer_proxy(&self, request: &word::Request) -> Value {
        match request {
            word::Request::Topology(group) => word::answer(self.said.get(group)),
            word::Request::Quiet(group, rank) => {
                self.quiet.there(group, rank);
                Value::Simple(b"OK".to_vec())
            }
        }
    }
}

/// What a proxy of another host asks or reports.
fn from_proxy(question: &Question) -> Option<word::Request> {
    match question {
        Question::Sentinel(words) | Question::SentinelWithPrograms { args: words, .. } => {
            word::Request::read(words)
        }
        Question::Publish { .. } | Question::Role | Question::InfoSection => None,
    }
}

/// What a sentinel asks about a server of this host.
fn about_server(question: &Question) -> Option<(About, Endpoint)> {
    match question {
        Question::Sentinel(words) | Question::SentinelWithPrograms { args: words, .. } => {
            daemon::asked(words)
        }
        Question::Publish { .. } | Question::Role | Question::InfoSection => None,
    }
}

/// Has the loop of the group whose server is at this address answer.
fn ask_group(servers: &Servers, about: About, at: &Endpoint, answer: oneshot::Sender<Value>) {
    let is_at = |server: &SocketAddr| {
        server.port() == at.port
            && (server.ip().is_loopback() || server.ip().to_string() == at.host)
    };
    let Some((_, group)) = servers.iter().find(|(server, _)| is_at(server)) else {
        let none = io::Word::Unarchived(format!("this host's daemon has no server at {at}"));
        let _ = answer.send(daemon::Answer::Word(none).value());
        return;
    };
    let (asked, answered) = oneshot::channel();
    // A loop that is so far behind does not answer, and is asked again.
    let _ = group.try_send(Event::Control(Request::Witness(about), asked));
    tokio::task::spawn_local(async move {
        let said = match tokio::time::timeout(GROUP_WITHIN, answered).await {
            Ok(Ok(Answer::Witness(said))) => said,
            Ok(
                Ok(Answer::Status(_) | Answer::Follow(_) | Answer::Explain(_) | Answer::Reply(_))
                | Err(_),
            )
            | Err(_) => daemon::Answer::Wait("its group is busy".to_owned()),
        };
        // The client may have left.
        let _ = answer.send(said.value());
    });
}

/// A daemon that cannot open a file any more cannot look after its server: clients leave it room.
fn clients_max() -> usize {
    let files = getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX);
    let clients = files.saturating_sub(OWN_FILES).clamp(16, CLIENTS_MAX);
    usize::try_from(clients).unwrap_or(usize::MAX)
}

#[cfg(test)]
mod tests;
