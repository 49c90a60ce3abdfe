//! How a running proxy is: put together from all threads when somebody asks.

use std::sync::{Arc, Mutex, PoisonError};

use super::{Running, Shared};
use crate::command;
use crate::latency::Latency;
use crate::settings::{Address, Distribution};
use crate::statistics::PoolStatistics;
use crate::topology::Phase;

/// One pool.
#[derive(Debug, Clone)]
pub struct PoolStatus {
    /// What twemproxy would say of it.
    pub statistics: PoolStatistics,
    /// Where clients connect.
    pub listen: String,
    /// In the order of placement, as the servers of `statistics`.
    pub shards: Vec<ShardStatus>,
    /// Requests whose outcome nobody knows.
    pub unknown: u64,
    /// Requests in the slow log; none: there is no such log.
    pub slow: Option<usize>,
    /// Of the commands that were asked, in the order of their names.
    pub commands: Vec<(&'static str, Latency)>,
}

/// One shard.
#[derive(Debug, Clone)]
pub struct ShardStatus {
    /// Where its requests go now; none: nowhere.
    pub primary: Option<String>,
    /// `serving`, `closing` or `none`, as the newest word on its group has it; a server that nobody moves is serving.
    pub phase: &'static str,
    /// The epoch of that word.
    pub epoch: Option<u64>,
    /// How long its answers took.
    pub latency: Latency,
}

/// Sees how a proxy is, also while it drains and when it has ended.
#[derive(Debug, Clone)]
pub struct Observer(Arc<Mutex<Vec<Shared>>>);

impl Running {
    /// One who may look at any time.
    #[must_use]
    pub fn observer(&self) -> Observer {
        Observer(self.pools.clone())
    }
}

impl Observer {
    /// How all pools are, in their order.
    #[must_use]
    pub fn status(&self) -> Vec<PoolStatus> {
        let pools = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        pools.iter().map(status).collect()
    }
}

fn status(pool: &Shared) -> PoolStatus {
    let mut sums = vec![Latency::default(); command::COUNT];
    let mut unknown = 0;
    let mut slow = None;
    for counters in &pool.counters {
        counters.commands.add_to(&mut sums);
        unknown += counters.unknown.value();
        slow = counters.slow.as_ref().map(|log| log.len());
    }
    let commands = sums
        .into_iter()
        .zip(0..)
        .filter(|(sum, _)| sum.count() > 0)
        .filter_map(|(sum, id)| Some((command::name_of(id)?, sum)));
    let mut statistics = pool.statistics();
    // Of a cluster's seats, those that are somebody's.
    let seated = |server: usize| {
        let word = pool.topology.as_ref();
        let group = word.and_then(|word| word.groups.get(server));
        pool.settings.distribution != Distribution::Slots
            || group.is_some_and(|group| group.phase != Phase::None)
    };
    let servers = (0..pool.settings.servers.len()).filter(|&server| seated(server));
    let mut at = 0..;
    statistics.servers.retain(|_| at.next().is_some_and(seated));
    PoolStatus {
        statistics,
        listen: shown(&pool.settings.listen),
        shards: servers.map(|server| shard(pool, server)).collect(),
        unknown,
        slow,
        commands: commands.collect(),
    }
}

fn shard(pool: &Shared, server: usize) -> ShardStatus {
    let mut latency = Latency::default();
    for counters in &pool.counters {
        if let Some(counters) = counters.servers.get(server) {
            latency.add(&counters.latency);
        }
    }
    let word = pool.topology.as_ref();
    let group = word.and_then(|word| word.groups.get(server));
    let (phase, primary) = match group.map(|group| &group.phase) {
        None => (
            "serving",
            Some(shown(&pool.settings.servers[server].address)),
        ),
        Some(Phase::None) => ("none", None),
        Some(Phase::Closing) => ("closing", None),
        Some(Phase::Serving { primary, .. }) => ("serving", Some(shown(primary))),
    };
    ShardStatus {
        primary,
        phase,
        epoch: group.map(|group| group.rank.epoch),
        latency,
    }
}

fn shown(address: &Address) -> String {
    match address {
        Address::Tcp { host, port } if host.contains(':') => format!("[{host}]:{port}"),
        Address::Tcp { host, port } => format!("{host}:{port}"),
        Address::Unix { path, .. } => path.display().to_string(),
    }
}
