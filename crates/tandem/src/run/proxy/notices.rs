//! What a proxy's threads have to say, and what is done about it.
//!
//! A thread that has finished with a closing primary says so; when all have, the keeper, or the daemons of the hosts where
//! it is, are told ([`Quiet`](super::super::quiet::Quiet)). A thread that stood still wants to know what holds by now: each
//! group is looked at, and where nobody answers who decides, its primary is asked whether it is one. A thread that ended
//! is the end of the proxy, which is then started afresh.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::time::Duration;

use tandem_config::settings::{Shard, ShardAt};
use tandem_core::follow::Role;
use tandem_core::ids::HostId;
use tandem_core::topology as core;
use tandem_proxy::server::{Notice, Notices};
use tandem_proxy::tls::Connector;
use tandem_proxy::topology::Rank;
use tokio::sync::mpsc;
use tokio::task::AbortHandle;

use super::super::directory::Told;
use super::super::follow::role;
use super::cluster::Asked;
use crate::linux::clock::boot_time;
use crate::redis::raw::Credentials;

/// Notices on their way. One that finds no room is lost: a switchover then waits its few milliseconds in full, and a thread
/// that stood still is asked for again by what it holds.
const NOTICES_MAX: usize = 256;
/// Whoever decides over a group has this long to say what holds, before its primary is asked itself.
const LOOK_WITHIN: Duration = Duration::from_millis(500);

/// How to make a proxy whose notices are heard, and where they come out.
pub(super) fn channel() -> (Notices, mpsc::Receiver<(usize, Notice)>) {
    let (said, heard) = mpsc::channel(NOTICES_MAX);
    let notices = Notices::new(move |thread, notice| {
        // Full, or nobody listens any more.
        let _ = said.try_send((thread, notice));
    });
    (notices, heard)
}

/// What a group's shard asks when something has to be confirmed.
#[derive(Clone)]
struct Source {
    told: Told,
    group: String,
    from: IpAddr,
    credentials: Option<Credentials>,
    /// Servers are asked over TLS.
    tls: Option<Connector>,
}

/// A shard that may be believed again, and the time since boot at which that was asked.
type Confirmed = (usize, Duration);

/// See the module.
pub(super) struct Ears {
    threads: usize,
    sources: Vec<Option<Source>>,
    /// Of each shard: the closing that some threads have finished with, and which.
    finished: BTreeMap<usize, (Rank, BTreeSet<usize>)>,
    /// Of each shard: the look under way.
    looks: BTreeMap<usize, AbortHandle>,
    confirmed: (mpsc::Sender<Confirmed>, mpsc::Receiver<Confirmed>),
    /// Who asks the nodes of a cluster.
    cluster: Option<Asked>,
}

impl Ears {
    /// For a proxy with these shards, in the order of its servers.
    pub(super) fn new(
        shards: &[Shard],
        threads: usize,
        (here, elsewhere): (&Told, &Told),
        from: IpAddr,
        credentials: Option<&Credentials>,
        tls: Option<&Connector>,
        cluster: Option<Asked>,
    ) -> Self {
        let source = |shard: &Shard| {
            let told = match shard.at {
                ShardAt::Server { .. } | ShardAt::Socket { .. } => return None,
                ShardAt::Here => here,
                ShardAt::Daemons { .. } => elsewhere,
            };
            Some(Source {
                told: told.clone(),
                group: shard.name.clone(),
                from,
                credentials: credentials.cloned(),
                tls: tls.cloned(),
            })
        };
        Self {
            threads,
            sources: shards.iter().map(source).collect(),
            finished: BTreeMap::new(),
            looks: BTreeMap::new(),
            confirmed: mpsc::channel(NOTICES_MAX),
            cluster,
        }
    }

    /// The next shard that may be believed again, and the time since boot at which that was asked.
    pub(super) async fn confirmed(&mut self) -> (usize, Duration) {
        match self.confirmed.1.recv().await {
            Some(confirmed) => confirmed,
            // The sender is ours.
            None => std::future::pending().await,
        }
    }

    /// Takes a notice. An error: the thread is gone, for this reason.
    pub(super) fn hear(&mut self, thread: usize, notice: Notice) -> Result<(), String> {
        match notice {
            Notice::Quiet { server, rank, .. } => self.finished(thread, server, &rank),
            Notice::Stalled => {
                tracing::warn!("proxy: thread {thread} stood still; asks what holds by now");
                self.look();
            }
            Notice::Remap { stranger, .. } => {
                if let Some(cluster) = &self.cluster {
                    cluster.wish(stranger);
                }
            }
            Notice::Ended(why) => return Err(format!("thread {thread} has ended: {why}")),
        }
        Ok(())
    }

    fn finished(&mut self, thread: usize, server: usize, rank: &Rank) {
        let (known, threads) = self.finished.entry(server).or_default();
        if *known > *rank {
            return;
        }
        if *known < *rank {
            *known = rank.clone();
            threads.clear();
        }
        threads.insert(thread);
        if threads.len() == self.threads
            && let Some(Some(source)) = self.sources.get(server)
        {
            let rank = core::Rank {
                epoch: rank.epoch,
                host: HostId::new(&*rank.host),
                turn: rank.turn,
            };
            source.told.quiet.here(&source.group, &rank);
        }
    }

    /// Has every group looked at.
    fn look(&mut self) {
        let at = boot_time();
        for (server, source) in self.sources.iter().enumerate() {
            let Some(source) = source.clone() else {
                continue;
            };
            let done = self.confirmed.0.clone();
            let looking = tokio::task::spawn_local(async move {
                source.confirm(at).await;
                // The proxy may have ended.
                let _ = done.send((server, at)).await;
            });
            if let Some(older) = self.looks.insert(server, looking.abort_handle()) {
                older.abort();
            }
        }
    }
}

impl Drop for Ears {
    fn drop(&mut self) {
        for look in self.looks.values() {
            look.abort();
        }
    }
}

impl Source {
    /// Returns once it is known what holds; that is told by then.
    async fn confirm(&self, at: Duration) {
        self.told.looks.ask(at);
        loop {
            let looked = self.told.looks.answered(&self.group, at);
            if tokio::time::timeout(LOOK_WITHIN, looked).await.is_ok() {
                return;
            }
            // Links that are lost change nothing, if the server that was named last says that it is a primary.
            let words = self.told.subscribe();
            let word = Told::topology_of(&words, &self.group);
            let Some(primary) = word.and_then(|word| word.primary) else {
                continue;
            };
            let credentials = self.credentials.clone();
            let said = match &self.tls {
                None => role::ask(&primary, self.from, credentials).await,
                Some(tls) => role::ask_over_tls(&primary, credentials, tls).await,
            };
            if said == Ok(Role::Primary) {
                return;
            }
        }
    }
}
