//! `[[proxy]]`: the shell around this host's proxies.
//!
//! A proxy's shards are groups. Where their primaries are is said by the loops of this host's groups, or, for groups of
//! other hosts, by their daemons ([`watch`]); here each word becomes a snapshot for the threads that carry requests
//! (`tandem_proxy`). Nothing goes the other way: a proxy decides nothing about a group. Which host has its address is decided
//! in `tandem_core::proxy_vip` and enacted by [`vip`].

mod access;
mod vip;
mod watch;

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};
use tandem_config::settings::{self as config, Settings, ShardAt};
use tandem_core::sentinel::Endpoint;
use tandem_core::session::Secret;
use tandem_core::topology::{Forks as Left, Member, Topology as Word};
use tandem_proxy::placement::sort_servers;
use tandem_proxy::server::{Options, Running};
use tandem_proxy::settings::{Address, Bounds, Compat, Pool, Server};
use tandem_proxy::topology::{Fork, Forks, Group, Phase, Replica, Topology};
use tokio::sync::watch::Receiver;
use tokio::task::JoinSet;

use super::control::Proxies;
use super::directory::Told;
pub(super) use access::Certificates;
use vip::Vip;
use watch::Watch;

/// How long clients may be owed something once the daemon was told to stop.
const DRAIN: Duration = Duration::from_secs(5);
/// Of a server that nobody fails over: nothing newer is ever said of it.
const FOR_EVER: u64 = 1;

/// One proxy at work.
pub(super) struct Proxy {
    settings: config::Proxy,
    /// In the order of placement, which is that of its snapshots.
    shards: Vec<config::Shard>,
    running: Running,
}

impl Proxy {
    /// Binds its address and starts its threads. Requests are held until the first word on their group.
    fn start(settings: &config::Proxy, certificates: &Certificates) -> Result<Self> {
        let password = settings.password_file.as_deref().map(access::text);
        let password = password.transpose()?;
        let mut servers: Vec<Server> = settings.shards.iter().map(server).collect();
        sort_servers(&mut servers);
        let shard = |server: &Server| {
            let named = |shard: &&config::Shard| shard.name == server.name;
            settings.shards.iter().find(named).cloned()
        };
        let shards = servers.iter().filter_map(shard).collect();
        let threads = match settings.threads {
            0 => std::thread::available_parallelism().map_or(1, std::num::NonZero::get),
            threads => usize::from(threads),
        };
        let pool = Pool {
            name: settings.name.clone(),
            listen: tcp(settings.listen),
            servers,
            hash: settings.hash,
            distribution: settings.distribution,
            hash_tag: settings.hash_tag,
            timeout: settings.timeout,
            backlog: Pool::BACKLOG,
            password,
            database: 0,
            keepalive: true,
            preconnect: false,
            server_connections: settings
                .server_connections
                .saturating_mul(u32::try_from(threads).unwrap_or(u32::MAX)),
            ejection: None,
            compat: Compat::Strict,
            access: access::access(settings, certificates)?,
            bounds: Bounds {
                key: usize::try_from(settings.max_key).unwrap_or(usize::MAX),
                client_stall: settings.client_stall,
                slowlog_slower_than: settings.slowlog_slower_than,
            },
            replicas: settings.replicas,
        };
        let options = Options {
            threads,
            client_limit: settings.access.max_clients.map(|most| most as usize),
            free_bind: settings.vip.is_some(),
        };
        let running = Running::start(vec![pool], options)?;
        let proxy = Self {
            settings: settings.clone(),
            shards,
            running,
        };
        proxy.follow(|_| None);
        Ok(proxy)
    }

    /// Gives the threads the newest word on every shard.
    fn follow(&self, word: impl Fn(&str) -> Option<Word>) {
        let groups = self.shards.iter().map(|shard| match &shard.at {
            ShardAt::Server { server } => Group {
                epoch: FOR_EVER,
                phase: Phase::Serving {
                    primary: tcp(*server),
                },
                replicas: Vec::new(),
                forks: Forks::Untold,
            },
            ShardAt::Socket { socket } => Group {
                epoch: FOR_EVER,
                phase: Phase::Serving {
                    primary: unix(socket),
                },
                replicas: Vec::new(),
                forks: Forks::Untold,
            },
            ShardAt::Here | ShardAt::Daemons { .. } => group(word(&shard.name).as_ref()),
        });
        let topology = Topology {
            groups: groups.collect(),
        };
        self.running.follow(&self.settings.name, Arc::new(topology));
    }

    /// Runs until `stop`, then lets clients have what they are owed.
    async fn run(self, told: Told, remote: Told, mut stop: Receiver<bool>) -> Result<()> {
        let (mut here, mut there) = (told.subscribe(), remote.subscribe());
        loop {
            self.follow(|name| {
                let elsewhere = || Told::topology_of(&there, name);
                Told::topology_of(&here, name).or_else(elsewhere)
            });
            tokio::select! {
                Ok(()) = here.changed() => {}
                Ok(()) = there.changed() => {}
                _ = stop.wait_for(|stop| *stop) => break,
            }
        }
        self.running.drain(DRAIN);
        let running = self.running;
        tokio::task::spawn_blocking(|| running.join())
            .await
            .context("the threads of a proxy")
    }
}

/// Starts all proxies, and what listens to daemons elsewhere; each ends after `stop`. Their certificates may be read again.
///
/// # Errors
/// An address cannot be had, or a password cannot be read.
pub(super) fn start(
    settings: &Settings,
    secret: Option<&Secret>,
    told: &Told,
    stop: &Receiver<bool>,
    running: &mut JoinSet<Result<()>>,
) -> Result<(Vec<Certificates>, Proxies)> {
    let (mut all, mut proxies) = (Vec::new(), Proxies::new());
    let remote = Told::new(settings);
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
        let started = Proxy::start(proxy, &certificates).with_context(in_proxy)?;
        proxies.push((proxy.name.clone(), started.running.observer()));
        if let Some(vip) = &proxy.vip {
            let pulse = started.running.pulse();
            let vip = Vip::open(settings, proxy, vip, secret, pulse).with_context(in_proxy)?;
            running.spawn_local(vip.run(stop.clone()));
        }
        running.spawn_local(started.run(told.clone(), remote.clone(), stop.clone()));
        all.push(certificates);
    }
    Ok((all, proxies))
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
        epoch: word.map_or(0, |word| word.epoch),
        phase: match word.and_then(|word| word.primary.as_ref()) {
            Some(primary) => Phase::Serving {
                primary: at(primary),
            },
            None => Phase::None,
        },
        replicas: word.map_or_else(Vec::new, replicas),
        forks: match word.map(|word| &word.forks) {
            Some(Left::At { parent, offset }) => Forks::At(Fork {
                parent: parent.0.clone(),
                offset: offset.0,
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

    #[test]
    fn a_word_without_a_primary_holds_requests() {
        let mut word = Word {
            epoch: 7,
            ..Word::default()
        };
        let held = Group {
            epoch: 7,
            phase: Phase::None,
            replicas: Vec::new(),
            forks: Forks::Untold,
        };
        assert_eq!(group(Some(&word)), held);
        assert_eq!(group(None).phase, Phase::None);
        word.primary = Some(Endpoint::new("10.0.0.2", 6379));
        let primary = tcp(([10, 0, 0, 2], 6379).into());
        assert_eq!(group(Some(&word)).phase, Phase::Serving { primary });
    }

    #[test]
    fn whoever_is_not_the_primary_is_a_replica_in_the_order_of_addresses() {
        let at = |last: u8| Endpoint::new(format!("10.0.0.{last}"), 6379);
        let member = |last: u8, link_up: bool| Member {
            link_up,
            ..Member::unknown(at(last))
        };
        let word = Word {
            epoch: 7,
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
