//! `[[proxy]]`: the shell around this host's proxies.
//!
//! A proxy's shards are groups. Where their primaries are is said by the loops of this host's groups, or, for groups of
//! other hosts, by their daemons ([`watch`]); here each word becomes a snapshot for the threads that carry requests
//! (`tandem_proxy`). A Redis Cluster is asked itself ([`cluster`]). Nothing goes the other way: a proxy decides nothing about a group. Which host has its address is decided
//! in `tandem_core::proxy_vip` and enacted by [`vip`].

mod access;
mod change;
mod cluster;
mod node;
mod notices;
mod vip;
mod watch;

use std::net::{IpAddr, SocketAddr};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use tandem_config::settings::{self as config, Settings, ShardAt};
use tandem_core::sentinel::Endpoint;
use tandem_core::session::Secret;
use tandem_core::topology::{Forks as Left, Member, Topology as Word};
use tandem_proxy::cluster::Map;
use tandem_proxy::placement::SLOTS;
use tandem_proxy::server::{Notice, Options, Pulse, Running};
use tandem_proxy::settings::{Address, Server};
use tandem_proxy::topology::{
    Fork, Forks, GoingAlone, Group, Lease, Phase, Rank, Replica, Topology,
};
use tokio::sync::mpsc;
use tokio::sync::watch::{Receiver, Sender};
use tokio::task::JoinSet;

use super::control::{Answer, Proxies, ReplyLine};
use super::directory::{Told, Words};
use crate::linux::clock::boot_time;
use crate::redis::raw::Credentials;
use access::Certificates;
pub(super) use change::{Change, fixed, moves, taken_over};
use change::{Changes, Inbox, Made};
use cluster::{Asked, Asker, Wanted};
use notices::Ears;
use vip::Vip;
use watch::Watch;

/// How long clients may be owed something once the daemon was told to stop.
const DRAIN: Duration = Duration::from_secs(5);
/// Before a proxy that has lost a thread is started afresh.
const RESTART_AFTER: Duration = Duration::from_secs(1);

/// One proxy at work.
pub(super) struct Proxy {
    settings: config::Proxy,
    /// In the order of placement, which is that of its snapshots.
    shards: Vec<config::Shard>,
    running: Running,
    /// Its threads' signs of life, for its VIP.
    pulse: Sender<Pulse>,
    notices: mpsc::Receiver<(usize, Notice)>,
    /// Who asks the nodes of the cluster that it stands before.
    cluster: Option<Asked>,
    /// Of its servers.
    password: Option<Vec<u8>>,
    certificates: Certificates,
    inbox: Inbox,
}

/// Where the words on groups come from, and this host's own address.
#[derive(Clone)]
struct Around {
    here: Told,
    elsewhere: Told,
    address: IpAddr,
}

impl Proxy {
    /// Binds its address and starts its threads. Requests are held until the first word on their group.
    fn start(
        settings: &config::Proxy,
        certificates: &Certificates,
        cluster: Option<Asked>,
        inbox: Inbox,
    ) -> Result<Self> {
        let threads = match settings.threads {
            0 => std::thread::available_parallelism().map_or(1, std::num::NonZero::get),
            threads => usize::from(threads),
        };
        let Made {
            pool,
            shards,
            password,
        } = Made::of(settings, certificates, threads)?;
        let (teller, notices) = notices::channel();
        let options = Options {
            threads,
            client_limit: settings.access.max_clients.map(|most| most as usize),
            notices: Some(teller),
            free_bind: settings.vip.is_some(),
        };
        let running = Running::start(vec![pool], options)?;
        let proxy = Self {
            settings: settings.clone(),
            shards,
            pulse: Sender::new(running.pulse()),
            running,
            notices,
            cluster,
            password,
            certificates: certificates.clone(),
            inbox,
        };
        proxy.tell(&|_| None);
        proxy.map();
        Ok(proxy)
    }

    /// Gives the threads the newest map of their cluster, where they have one.
    fn map(&self) {
        if let Some(cluster) = &self.cluster {
            let map = cluster.maps.borrow().clone();
            self.running.map(&self.settings.name, map);
        }
    }

    fn tell(&self, word: &dyn Fn(&str) -> Option<Word>) {
        tell(&self.running, &self.settings.name, &self.shards, word);
    }

    /// Runs until `stop`, then lets clients have what they are owed. A proxy that lost a thread is started afresh.
    async fn run(mut self, around: Around, mut stop: Receiver<bool>) -> Result<()> {
        loop {
            let name = self.settings.name.clone();
            let Err(why) = self.serve(&around, &mut stop).await else {
                break;
            };
            tracing::error!(
                "proxy {name}: {why}; starts it afresh, its clients have to connect again"
            );
            self.running.drain(Duration::ZERO);
            let settings = self.settings.clone();
            let certificates = self.certificates.clone();
            let pulse = self.pulse.clone();
            let cluster = self.cluster.clone();
            let nothing = || Inbox::of(&settings).1;
            let inbox = std::mem::replace(&mut self.inbox, nothing());
            self.end(&around).await?;
            self = loop {
                tokio::select! {
                    () = tokio::time::sleep(RESTART_AFTER) => {}
                    _ = stop.wait_for(|stop| *stop) => return Ok(()),
                }
                match Self::start(&settings, &certificates, cluster.clone(), nothing()) {
                    Ok(proxy) => {
                        pulse.send_replace(proxy.running.pulse());
                        break Self {
                            pulse,
                            inbox,
                            ..proxy
                        };
                    }
                    Err(error) => tracing::error!("proxy {name}: {error:#}"),
                }
            };
        }
        self.running.drain(DRAIN);
        self.end(&around).await
    }

    /// Serves until `stop`. An error: a thread has ended by itself, for this reason.
    async fn serve(&mut self, around: &Around, stop: &mut Receiver<bool>) -> Result<(), String> {
        let (mut here, mut there) = (around.here.subscribe(), around.elsewhere.subscribe());
        let mut ears = self.ears(around);
        let mut maps = self.cluster.as_ref().map(|cluster| cluster.maps.clone());
        loop {
            self.tell(&newest(&here, &there));
            tokio::select! {
                Some((thread, notice)) = self.notices.recv() => ears.hear(thread, notice)?,
                (server, asked) = ears.confirmed() => {
                    self.tell(&newest(&here, &there));
                    self.running.confirm(&self.settings.name, server, asked);
                }
                () = newer(&mut maps) => self.map(),
                (change, vouched) = self.inbox.next(self.cluster.as_ref(), &self.certificates, around.address) => {
                    let before = self.shards.clone();
                    let done = match vouched {
                        Ok(wanted) => self.change(change.settings, wanted, &newest(&here, &there)),
                        Err(error) => Err(error),
                    };
                    if self.shards != before {
                        ears = self.ears(around);
                    }
                    // Whoever asked may have gone.
                    let _ = change.answer.send(Answer::Reply(match done {
                        Ok(()) => ReplyLine::done("taken over, its clients stay".to_owned()),
                        Err(error) => ReplyLine::failed(format!("stays as it was: {error:#}")),
                    }));
                }
                Ok(()) = here.changed() => {}
                Ok(()) = there.changed() => {}
                _ = stop.wait_for(|stop| *stop) => return Ok(()),
            }
        }
    }

    /// From now on it is this.
    fn change(
        &mut self,
        settings: config::Proxy,
        wanted: Option<Wanted>,
        word: &dyn Fn(&str) -> Option<Word>,
    ) -> Result<()> {
        let made = Made::of(&settings, &self.certificates, self.running.threads())?;
        if let Some((cluster, wanted)) = self.cluster.as_ref().zip(wanted) {
            let map = cluster.maps.borrow().clone();
            self.running.reload_mapped(made.pool, map)?;
            cluster.change_to(wanted);
        } else {
            let word = topology(&made.shards, word);
            self.running.reload_following(made.pool, Arc::new(word))?;
        }
        self.inbox.in_force.send_replace(settings.clone());
        self.settings = settings;
        self.shards = made.shards;
        self.password = made.password;
        Ok(())
    }

    /// Waits for the threads, which drain. Words go on counting: what is under way has to be answered by somebody.
    async fn end(self, around: &Around) -> Result<()> {
        let (mut here, mut there) = (around.here.subscribe(), around.elsewhere.subscribe());
        let mut ears = self.ears(around);
        let Self {
            settings,
            shards,
            running,
            mut notices,
            pulse: _,
            cluster: _,
            password: _,
            certificates: _,
            inbox: _,
        } = self;
        let running = Arc::new(running);
        let ended = running.clone();
        let mut joined = tokio::task::spawn_blocking(move || ended.wait());
        loop {
            tokio::select! {
                ended = &mut joined => return ended.context("the threads of a proxy"),
                Some((thread, notice)) = notices.recv() => {
                    // That one has ended is what is waited for.
                    let _ = ears.hear(thread, notice);
                }
                (server, asked) = ears.confirmed() => {
                    running.confirm(&settings.name, server, asked);
                }
                Ok(()) = here.changed() => {}
                Ok(()) = there.changed() => {}
            }
            tell(&running, &settings.name, &shards, &newest(&here, &there));
        }
    }

    fn ears(&self, around: &Around) -> Ears {
        let words = (&around.here, &around.elsewhere);
        let credentials = self.password.clone().map(|password| Credentials {
            user: None,
            password,
        });
        let threads = self.running.threads();
        Ears::new(
            &self.shards,
            threads,
            words,
            around.address,
            credentials.as_ref(),
            self.certificates.connector().as_ref(),
            self.cluster.clone(),
        )
    }
}

/// Returns when there is a newer map of a cluster; without a cluster, never.
async fn newer(maps: &mut Option<Receiver<Arc<Map>>>) {
    if let Some(maps) = maps
        && maps.changed().await.is_ok()
    {
        return;
    }
    // Nobody asks, or nobody asks any more: the last map stays.
    std::future::pending::<()>().await;
}

/// The newest word on a group.
fn newest<'w>(here: &'w Words, there: &'w Words) -> impl Fn(&str) -> Option<Word> + 'w {
    |name| Told::topology_of(here, name).or_else(|| Told::topology_of(there, name))
}

/// Gives the threads a word on every shard.
fn tell(
    running: &Running,
    proxy: &str,
    shards: &[config::Shard],
    word: &dyn Fn(&str) -> Option<Word>,
) {
    if shards.is_empty() {
        // It stands before a cluster, which is told by maps.
        return;
    }
    let topology = topology(shards, word);
    running.follow(proxy, Arc::new(topology));
}

/// A word on every shard, as threads get it.
fn topology(shards: &[config::Shard], word: &dyn Fn(&str) -> Option<Word>) -> Topology {
    let groups = shards.iter().map(|shard| match &shard.at {
        ShardAt::Server { server } => Group {
            rank: Rank::default(),
            phase: Phase::Serving {
                primary: tcp(*server),
            },
            lease: Lease::Fixed,
            alone: None,
            replicas: Vec::new(),
            forks: Forks::Untold,
        },
        ShardAt::Socket { socket } => Group {
            rank: Rank::default(),
            phase: Phase::Serving {
                primary: unix(socket),
            },
            lease: Lease::Fixed,
            alone: None,
            replicas: Vec::new(),
            forks: Forks::Untold,
        },
        ShardAt::Here | ShardAt::Daemons { .. } => group(word(&shard.name).as_ref()),
    });
    Topology {
        groups: groups.collect(),
    }
}

/// What of the proxies may be changed while they run.
#[derive(Default)]
pub(super) struct Changing {
    /// Files that may be read again.
    pub(super) certificates: Vec<Certificates>,
    /// What the file says.
    pub(super) settings: Vec<Changes>,
}

/// Starts all proxies, and what listens to daemons elsewhere; each ends after `stop`.
///
/// # Errors
/// An address cannot be had, or a password cannot be read.
pub(super) fn start(
    settings: &Settings,
    secret: Option<&Secret>,
    told: &Told,
    stop: &Receiver<bool>,
    running: &mut JoinSet<Result<()>>,
) -> Result<(Changing, Proxies)> {
    let (mut changing, mut proxies) = (Changing::default(), Proxies::new());
    let remote = Told::elsewhere(settings);
    let around = Around {
        here: told.clone(),
        elsewhere: remote.clone(),
        address: settings.host.address,
    };
    let mut watched: Vec<&str> = Vec::new();
    for proxy in &settings.proxies {
        let in_proxy = || format!("proxy {}", proxy.name);
        let certificates = Certificates::read(proxy).with_context(in_proxy)?;
        for shard in &proxy.shards {
            let ShardAt::Daemons { daemons } = &shard.at else {
                continue;
            };
            // Two proxies of one group listen once.
            if watched.contains(&shard.name.as_str()) {
                continue;
            }
            watched.push(&shard.name);
            let mut watch = Watch::new(settings, proxy, &shard.name, daemons, remote.clone())?;
            watch.over_tls(certificates.connector());
            running.spawn_local(watch.run(stop.clone()));
        }
        let cluster = if proxy.cluster.is_empty() {
            None
        } else {
            let wanted = Wanted::of(proxy, &certificates, settings.host.address);
            let (asker, asked) = Asker::new(&proxy.name, wanted.with_context(in_proxy)?);
            running.spawn_local(asker.run(stop.clone()));
            Some(asked)
        };
        let (changes, inbox) = Inbox::of(proxy);
        let started = Proxy::start(proxy, &certificates, cluster, inbox).with_context(in_proxy)?;
        proxies.push((proxy.name.clone(), started.running.observer()));
        if let Some(vip) = &proxy.vip {
            let pulse = started.pulse.subscribe();
            let vip = Vip::open(settings, proxy, vip, secret, pulse).with_context(in_proxy)?;
            running.spawn_local(vip.run(stop.clone()));
        }
        running.spawn_local(started.run(around.clone(), stop.clone()));
        changing.certificates.push(certificates);
        changing.settings.push(changes);
    }
    Ok((changing, proxies))
}

/// What `tandem check` sees of a proxy's cluster.
pub(crate) struct Seen {
    /// Shards and nodes.
    pub(crate) text: String,
    /// Slots that nobody has.
    pub(crate) uncovered: usize,
}

/// Asks the nodes that a proxy's settings name, until one answers.
pub(crate) async fn cluster_seen(
    settings: &Settings,
    proxy: &config::Proxy,
) -> Result<Seen, String> {
    let error = |error: anyhow::Error| format!("{error:#}");
    let certificates = Certificates::read(proxy).map_err(error)?;
    let access = node::Access::of(proxy, &certificates, settings.host.address).map_err(error)?;
    let mut why = String::new();
    for &seed in &proxy.cluster {
        match node::ask(&tcp(seed), &access).await {
            Ok(said) => {
                let nodes = said.view.shards.iter().flat_map(|shard| shard.nodes());
                return Ok(Seen {
                    text: format!("{} shards, {} nodes", said.view.shards.len(), nodes.count()),
                    uncovered: SLOTS.saturating_sub(said.view.covered()),
                });
            }
            Err(error) => why = format!("{seed}: {error}"),
        }
    }
    Err(why)
}

fn tcp(at: SocketAddr) -> Address {
    Address::Tcp {
        host: at.ip().to_string(),
        port: at.port(),
    }
}

fn unix(path: &Path) -> Address {
    Address::Unix {
        path: path.to_owned(),
        mode: None,
    }
}

/// A shard as placement knows it: by its name alone, whoever is its primary.
fn server(shard: &config::Shard) -> Server {
    let address = match &shard.at {
        ShardAt::Server { server } => tcp(*server),
        ShardAt::Socket { socket } => unix(socket),
        // Replaced by the first snapshot, before any client is served.
        ShardAt::Here | ShardAt::Daemons { .. } => Address::Tcp {
            host: shard.name.clone(),
            port: 0,
        },
    };
    Server {
        name: shard.name.clone(),
        address,
        weight: 1,
    }
}

fn group(word: Option<&Word>) -> Group {
    let at = |at: &Endpoint| Address::Tcp {
        host: at.host.clone(),
        port: at.port,
    };
    Group {
        rank: word.map_or_else(Rank::default, |word| Rank {
            epoch: word.rank.epoch,
            host: word.rank.host.0.as_str().into(),
            turn: word.rank.turn,
        }),
        lease: Lease::Open,
        phase: match word.and_then(|word| word.primary.as_ref()) {
            Some(_) if word.is_some_and(|word| word.closing) => Phase::Closing,
            Some(primary) => Phase::Serving {
                primary: at(primary),
            },
            None => Phase::None,
        },
        alone: word.and_then(|word| word.alone.as_ref()).and_then(|word| {
            // The clock that goes on while the host sleeps, and read first: it runs out there no later than where it was given.
            let boot = boot_time();
            let left = word.until.checked_duration_since(Instant::now())?;
            Some(GoingAlone {
                until: boot + left,
                history: word.history.0.clone(),
            })
        }),
        replicas: word.map_or_else(Vec::new, replicas),
        forks: match word.map(|word| &word.forks) {
            Some(Left::At {
                parent,
                offset,
                whole,
            }) => Forks::At(Fork {
                parent: parent.0.clone(),
                offset: offset.0,
                whole: *whole,
            }),
            Some(Left::None) => Forks::None,
            Some(Left::Untold) | None => Forks::Untold,
        },
    }
}

/// The servers of a group without its primary, in the order of their addresses: words of two daemons then say the same.
fn replicas(word: &Word) -> Vec<Replica> {
    let is_primary = |member: &&Member| Some(&member.at) == word.primary.as_ref();
    let mut members: Vec<&Member> = word.servers.iter().filter(|it| !is_primary(it)).collect();
    members.sort_by(|left, right| left.at.cmp(&right.at));
    let replica = |member: &Member| Replica {
        address: Address::Tcp {
            host: member.at.host.clone(),
            port: member.at.port,
        },
        promotable: member.promotable,
        // Whom it follows is not compared: the primary may be told by the group's VIP. Its history is, by samples.
        link_up: member.link_up,
    };
    members.into_iter().map(replica).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn core_rank(epoch: u64) -> tandem_core::topology::Rank {
        tandem_core::topology::Rank {
            epoch,
            ..Default::default()
        }
    }

    #[test]
    fn a_word_without_a_primary_holds_requests() {
        let mut word = Word {
            rank: core_rank(7),
            ..Word::default()
        };
        let held = Group {
            rank: Rank::of(7),
            phase: Phase::None,
            lease: Lease::Open,
            alone: None,
            replicas: Vec::new(),
            forks: Forks::Untold,
        };
        assert_eq!(group(Some(&word)), held);
        assert_eq!(group(None).phase, Phase::None);
        word.primary = Some(Endpoint::new("10.0.0.2", 6379));
        let primary = tcp(([10, 0, 0, 2], 6379).into());
        assert_eq!(group(Some(&word)).phase, Phase::Serving { primary });
        word.closing = true;
        assert_eq!(group(Some(&word)).phase, Phase::Closing);
        assert_eq!(group(Some(&word)).alone, None);
        let left = Duration::from_secs(60);
        let alone = |until: Instant| tandem_core::topology::GoingAlone {
            until,
            history: tandem_core::ids::ReplId("a".repeat(40)),
        };
        word.alone = Some(alone(Instant::now() + left));
        let told = group(Some(&word)).alone.unwrap();
        assert!(told.until <= boot_time() + left && told.until > boot_time());
        assert_eq!(told.history, "a".repeat(40));
        word.alone = Instant::now().checked_sub(left).map(alone);
        assert_eq!(group(Some(&word)).alone, None, "it is over");
    }

    #[test]
    fn whoever_is_not_the_primary_is_a_replica_in_the_order_of_addresses() {
        let at = |last: u8| Endpoint::new(format!("10.0.0.{last}"), 6379);
        let member = |last: u8, link_up: bool| Member {
            link_up,
            ..Member::unknown(at(last))
        };
        let word = Word {
            rank: core_rank(7),
            primary: Some(at(2)),
            servers: vec![member(3, true), Member::unknown(at(2)), member(1, false)],
            daemons: Vec::new(),
            ..Word::default()
        };
        let seen: Vec<(Address, bool)> = group(Some(&word))
            .replicas
            .into_iter()
            .map(|replica| (replica.address, replica.link_up))
            .collect();
        let tcp = |last: u8| tcp(([10, 0, 0, last], 6379).into());
        assert_eq!(seen, [(tcp(1), false), (tcp(3), true)]);
    }
}
