//! A `[[proxy]]` that has changed in the file: what of it is taken over while clients stay, and what it would do to keys.
//!
//! What a thread is made with stays until a restart: how many there are, how many clients, whether TLS is spoken (certificates
//! are read again, from the files that are named now), the VIP, and who is asked about groups elsewhere. Everything else is one new pool, to which clients move
//! as soon as they are owed nothing.

use std::net::IpAddr;

use anyhow::{Result, anyhow};
use tandem_config::settings::{self as config, ShardAt};
use tandem_proxy::cluster::seats;
use tandem_proxy::placement::{moved_share, sort_servers};
use tandem_proxy::settings::{Bounds, Pool, Server};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::JoinHandle;

use super::access::{self, Certificates};
use super::cluster::{Asked, Wanted};
use super::words::{server, tcp};
use crate::run::control::Answer;

/// Changes that wait for a proxy.
const CHANGES_MAX: usize = 4;

/// A proxy is to be this from now on.
pub(in crate::run) struct Change {
    /// As the file has it, as far as it may be taken over.
    pub(in crate::run) settings: config::Proxy,
    /// Whether it is.
    pub(in crate::run) answer: oneshot::Sender<Answer>,
}

/// Where changes of one proxy go.
#[derive(Clone)]
pub(in crate::run) struct Changes {
    to: mpsc::Sender<Change>,
    in_force: watch::Receiver<config::Proxy>,
}

/// Where a proxy hears of them, and says what it is.
pub(super) struct Inbox {
    changes: mpsc::Receiver<Change>,
    pub(super) in_force: watch::Sender<config::Proxy>,
    /// One about whose nodes it is asked.
    waits: Option<Waiting>,
}

struct Waiting {
    change: Change,
    vouched: JoinHandle<Result<Option<Wanted>>>,
}

impl Inbox {
    /// For a proxy that is this.
    pub(super) fn of(settings: &config::Proxy) -> (Changes, Self) {
        let (to, changes) = mpsc::channel(CHANGES_MAX);
        let (in_force, is) = watch::channel(settings.clone());
        let changer = Changes { to, in_force: is };
        let inbox = Self {
            changes,
            in_force,
            waits: None,
        };
        (changer, inbox)
    }

    /// The next change, and whom its cluster is asked from then on. An error: its nodes are of no use. May be given up and called again.
    pub(super) async fn next(
        &mut self,
        cluster: Option<&Asked>,
        certificates: &Certificates,
        source: IpAddr,
    ) -> (Change, Result<Option<Wanted>>) {
        loop {
            if let Some(waiting) = &mut self.waits {
                let vouched = (&mut waiting.vouched).await;
                if let Some(Waiting { change, .. }) = self.waits.take() {
                    return (change, vouched.map_err(Into::into).flatten());
                }
            }
            let Some(change) = self.changes.recv().await else {
                // Whoever changes proxies has gone: the daemon ends.
                return std::future::pending().await;
            };
            let Some(cluster) = cluster else {
                return (change, Ok(None));
            };
            let wanted = match Wanted::of(&change.settings, certificates, source) {
                Ok(wanted) => wanted,
                Err(error) => return (change, Err(error)),
            };
            let vouches = cluster.vouch(wanted.clone());
            self.waits = Some(Waiting {
                change,
                vouched: tokio::spawn(async move {
                    vouches.await.map_err(|error| anyhow!(error))?;
                    Ok(Some(wanted))
                }),
            });
        }
    }
}

impl Changes {
    /// What the proxy is now.
    pub(in crate::run) fn in_force(&self) -> config::Proxy {
        self.in_force.borrow().clone()
    }

    /// Hands one over. A proxy that is so far behind, or gone, answers nothing, which is told.
    pub(in crate::run) fn send(&self, change: Change) {
        let _ = self.to.try_send(change);
    }
}

/// What a proxy is made of by its settings.
pub(super) struct Made {
    pub(super) pool: Pool,
    /// In the order of placement, which is that of snapshots.
    pub(super) shards: Vec<config::Shard>,
    /// Of its servers.
    pub(super) password: Option<Vec<u8>>,
}

impl Made {
    /// Reads what its settings name.
    ///
    /// # Errors
    /// A password cannot be read.
    pub(super) fn of(
        settings: &config::Proxy,
        certificates: &Certificates,
        threads: usize,
    ) -> Result<Self> {
        let password = settings.password_file.as_deref().map(access::text);
        let password = password.transpose()?;
        let servers = sorted(settings);
        let shard = |server: &Server| {
            let named = |shard: &&config::Shard| shard.name == server.name;
            settings.shards.iter().find(named).cloned()
        };
        let shards = servers.iter().filter_map(shard).collect();
        let threads = u32::try_from(threads).unwrap_or(u32::MAX);
        let pool = Pool {
            hash: settings.hash,
            distribution: settings.distribution,
            hash_tag: settings.hash_tag,
            timeout: settings.timeout,
            password: password.clone(),
            server_connections: settings.server_connections.saturating_mul(threads),
            access: access::access(settings, certificates)?,
            bounds: Bounds {
                key: usize::try_from(settings.max_key).unwrap_or(usize::MAX),
                client_stall: settings.client_stall,
                slowlog_slower_than: settings.slowlog_slower_than,
            },
            replicas: settings.replicas,
            ..Pool::new(settings.name.clone(), tcp(settings.listen), servers)
        };
        Ok(Self {
            pool,
            shards,
            password: password.map(String::into_bytes),
        })
    }
}

/// In the order of placement. Before a cluster they are the seats that its shards take.
fn sorted(settings: &config::Proxy) -> Vec<Server> {
    if !settings.cluster.is_empty() {
        return seats::pool(settings.name.clone(), tcp(settings.listen)).servers;
    }
    let mut servers: Vec<Server> = settings.shards.iter().map(server).collect();
    sort_servers(&mut servers);
    servers
}

/// The running settings with what can be taken over from the file. Every field is named, so that a new one is decided upon.
pub(in crate::run) fn taken_over(old: &config::Proxy, new: &config::Proxy) -> config::Proxy {
    if stands_elsewhere(old, new) {
        return old.clone();
    }
    let config::Proxy {
        name,
        threads,
        access,
        vip,
        ..
    } = old.clone();
    let config::Proxy {
        listen,
        shards,
        cluster,
        hash,
        distribution,
        hash_tag,
        server_connections,
        timeout,
        client_stall,
        max_key,
        slowlog_slower_than,
        password_file,
        replicas,
        ..
    } = new.clone();
    let shards = match asks_others(old, new) {
        false => shards,
        true => old.shards.clone(),
    };
    // Clients of a VIP are reset at the port that was there when it was opened.
    let listen = match old.vip {
        Some(_) => old.listen,
        None => listen,
    };
    config::Proxy {
        name,
        listen,
        shards,
        hash,
        distribution,
        hash_tag,
        threads,
        server_connections,
        timeout,
        client_stall,
        max_key,
        slowlog_slower_than,
        password_file,
        access: config::Access {
            max_clients: access.max_clients,
            tls: match speaks_otherwise(old, new) {
                true => access.tls,
                false => new.access.tls.clone(),
            },
            server_tls: match asks_otherwise(old, new) {
                true => access.server_tls,
                false => new.access.server_tls.clone(),
            },
            ..new.access.clone()
        },
        replicas,
        vip,
        cluster,
    }
}

/// Whether a cluster would take the place of groups, or the other way round.
fn stands_elsewhere(old: &config::Proxy, new: &config::Proxy) -> bool {
    old.cluster.is_empty() != new.cluster.is_empty()
}

/// Whether clients would have to speak TLS that do not, or the other way round.
fn speaks_otherwise(old: &config::Proxy, new: &config::Proxy) -> bool {
    old.access.tls.is_some() != new.access.tls.is_some()
}

/// The same of servers; connections to them are made with the name that is looked for.
fn asks_otherwise(old: &config::Proxy, new: &config::Proxy) -> bool {
    let [old, new] = [old, new].map(|proxy| {
        let tls = proxy.access.server_tls.as_ref();
        tls.map(|tls| &tls.server_name)
    });
    old != new
}

/// Whether daemons or sentinels would have to be listened to that are not.
fn asks_others(old: &config::Proxy, new: &config::Proxy) -> bool {
    let mut new = new.shards.iter();
    new.any(|shard| matches!(shard.at, ShardAt::Daemons { .. }) && !old.shards.contains(shard))
}

/// What differs and waits for a restart, by its keys.
pub(in crate::run) fn fixed(old: &config::Proxy, new: &config::Proxy) -> Vec<&'static str> {
    if stands_elsewhere(old, new) {
        return vec![
            "everything, as a cluster takes the place of groups or groups that of a cluster",
        ];
    }
    let keys = [
        ("threads", old.threads != new.threads),
        (
            "max_clients",
            old.access.max_clients != new.access.max_clients,
        ),
        ("tls (whether there is one)", speaks_otherwise(old, new)),
        (
            "server_tls (whether there is one, or its server_name)",
            asks_otherwise(old, new),
        ),
        (
            "listen (beside a VIP)",
            old.vip.is_some() && old.listen != new.listen,
        ),
        ("vip, vrrp", old.vip != new.vip),
        (
            "group (daemons that are not listened to)",
            asks_others(old, new),
        ),
    ];
    keys.into_iter()
        .filter_map(|(key, differs)| differs.then_some(key))
        .collect()
}

/// What becomes of keys if `new` is taken over, in words.
pub(in crate::run) fn moves(old: &config::Proxy, new: &config::Proxy) -> Option<String> {
    if !new.cluster.is_empty() {
        // It says itself where its keys are, and stays the same one.
        return None;
    }
    let [old, new] = [old, new].map(placed);
    let share = moved_share(&old, &new);
    (share > 0.0).then(|| {
        format!(
            "{:.1} % of the keys would be looked for on another shard",
            (share * 100.0).max(0.1)
        )
    })
}

/// A pool that only places.
fn placed(settings: &config::Proxy) -> Pool {
    Pool {
        hash: settings.hash,
        distribution: settings.distribution,
        hash_tag: settings.hash_tag,
        ..Pool::new(
            settings.name.clone(),
            tcp(settings.listen),
            sorted(settings),
        )
    }
}
