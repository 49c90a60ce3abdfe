//! The core by bytes in and bytes out: a shell without sockets drives it.

mod accounts;
mod acks;
mod bounds;
mod cluster;
mod early;
mod ears;
mod failures;
mod follow;
mod hello;
mod identities;
mod lease;
mod monitor;
mod phase;
mod pinned;
mod proof;
mod reading;
mod retire;
mod scripts;
mod slow;
mod stories;
mod streams;
mod uploads;
mod waits;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use super::*;
use crate::settings::{Address, Bounds, Distribution, Ejection, Hash, Pool, Server};
use crate::slowlog::SlowLog;

/// A pool of so many servers, named so that placement is easy to steer by hash tags.
pub(super) fn pool(servers: usize) -> Pool {
    Pool {
        hash: Hash::Murmur,
        distribution: Distribution::Ketama,
        keepalive: false,
        ..Pool::new(
            "test".to_owned(),
            Address::Tcp {
                host: "127.0.0.1".to_owned(),
                port: 1,
            },
            (0..servers)
                .map(|at| Server {
                    name: format!("server{at}"),
                    address: Address::Tcp {
                        host: "127.0.0.1".to_owned(),
                        port: 1000 + at as u16,
                    },
                    weight: 1,
                })
                .collect(),
        )
    }
}

/// A request as clients send it.
pub(super) fn request(words: &str) -> Vec<u8> {
    let words: Vec<&str> = words.split(' ').collect();
    let mut bytes = Vec::new();
    tandem_resp::encode_command(&words, &mut bytes);
    bytes
}

/// A core, and what a shell would hold: the bytes that went out to everyone.
pub(super) struct World {
    pub(super) core: Core,
    pub(super) now: Instant,
    pub(super) counters: Arc<PoolCounters>,
    pub(super) ejector: Arc<Ejector>,
    /// Bytes that each peer got and nobody has looked at.
    got: HashMap<Peer, Vec<u8>>,
    /// Lanes up, by server.
    pub(super) up: HashMap<usize, Peer>,
    /// Every connection to a place that came up, in order.
    pub(super) connections: Vec<(usize, Peer)>,
    pub(super) closed: Vec<Peer>,
    pub(super) resumed: Vec<Peer>,
    /// Closings that were reported as done.
    pub(super) quiet: Vec<(usize, Rank)>,
    /// How often the core wanted to know what still holds.
    pub(super) confirms: usize,
    /// How often a core wanted a newer map.
    pub(super) remaps: usize,
    /// Histories that were asked for.
    pub(super) histories: Vec<History>,
    /// Servers that refuse connections.
    pub(super) refusing: Vec<usize>,
    /// Peers that take nothing.
    pub(super) stuck: Vec<Peer>,
}

impl World {
    pub(super) fn new(pool: Pool) -> Self {
        let now = Instant::now();
        let settings = Arc::new(pool);
        let ejector = Arc::new(Ejector::new(settings.clone(), now, 0));
        let slow = settings.bounds.slowlog_slower_than;
        let slow =
            slow.map(|slow| Arc::new(SlowLog::new(Some(slow), (now, SystemTime::UNIX_EPOCH))));
        let counters = Arc::new(PoolCounters::of(&settings, slow));
        let connections = settings.server_connections;
        let setup = PoolSetup {
            subscribers: Arc::new(Subscribers::new(settings.servers.len())),
            settings,
            ejector: ejector.clone(),
            counters: counters.clone(),
            connections,
        };
        Self {
            core: Core::new(vec![setup], 1, 0, 1, now),
            now,
            counters,
            ejector,
            got: HashMap::new(),
            up: HashMap::new(),
            connections: Vec::new(),
            closed: Vec::new(),
            resumed: Vec::new(),
            quiet: Vec::new(),
            confirms: 0,
            remaps: 0,
            histories: Vec::new(),
            refusing: Vec::new(),
            stuck: Vec::new(),
        }
    }

    pub(super) fn client(&mut self) -> Peer {
        self.client_of(0)
    }

    pub(super) fn client_of(&mut self, pool: usize) -> Peer {
        self.core.accepted(pool, self.now).unwrap()
    }

    /// Hands bytes over in pieces that fit; false if the peer was not to be read from.
    pub(super) fn give(&mut self, peer: Peer, bytes: &[u8]) -> bool {
        let mut rest = bytes;
        while !rest.is_empty() {
            let space = self.core.recv_space(peer);
            if space.is_empty() {
                return false;
            }
            let now = space.len().min(rest.len());
            space[..now].copy_from_slice(&rest[..now]);
            rest = &rest[now..];
            self.core.received(peer, now, self.now);
            self.turn();
        }
        true
    }

    /// Sends everything that is ready, obeys every order.
    pub(super) fn turn(&mut self) {
        loop {
            while let Some(peer) = self.core.next_dirty() {
                if self.stuck.contains(&peer) {
                    continue;
                }
                let bytes = self.core.pending(peer).concat();
                if !bytes.is_empty() {
                    self.core.sent(peer, bytes.len());
                    self.got.entry(peer).or_default().extend_from_slice(&bytes);
                }
            }
            let Some(order) = self.core.next_order() else {
                return;
            };
            match order {
                Order::Connect(peer) => {
                    let Some(Address::Tcp { port, .. }) = self.core.address_of(peer) else {
                        self.core.closed(peer, How::Refused, self.now);
                        continue;
                    };
                    let server = usize::from(*port) - 1000;
                    if self.refusing.contains(&server) {
                        self.core.closed(peer, How::Refused, self.now);
                    } else {
                        self.up.insert(server, peer);
                        self.connections.push((server, peer));
                        self.core.connected(peer, self.now);
                    }
                }
                Order::Close(peer) => {
                    self.closed.push(peer);
                    self.up.retain(|_, lane| *lane != peer);
                }
                Order::Resume(peer) => self.resumed.push(peer),
                Order::Quiesced(_, server, rank) => self.quiet.push((server, rank)),
                Order::Remap(_) => self.remaps += 1,
                Order::Confirm => self.confirms += 1,
                Order::ReadHistory(history) => self.histories.push(history),
            }
        }
    }

    /// What a peer got since the last time.
    pub(super) fn take(&mut self, peer: Peer) -> String {
        String::from_utf8_lossy(&self.got.remove(&peer).unwrap_or_default()).into_owned()
    }

    /// What a server got since the last time.
    pub(super) fn at_server(&mut self, server: usize) -> String {
        match self.up.get(&server) {
            Some(&lane) => self.take(lane),
            None => String::new(),
        }
    }

    pub(super) fn server_says(&mut self, server: usize, bytes: &[u8]) {
        let lane = self.up[&server];
        assert!(self.give(lane, bytes), "the lane is stalled");
    }

    pub(super) fn later(&mut self, by: Duration) {
        self.now += by;
        self.core.tick(self.now);
        self.turn();
    }

    /// The pool becomes another, as by a reload.
    pub(super) fn replace(&mut self, change: impl FnOnce(&mut Pool), word: Option<Word>) {
        let before = &self.core.pools[self.core.pool_named("test").unwrap()].setup;
        let mut settings = (*before.settings).clone();
        change(&mut settings);
        let same_servers = settings.servers == before.settings.servers;
        let counters = match same_servers {
            true => before.counters.clone(),
            false => Arc::new(PoolCounters::of(&settings, None)),
        };
        let settings = Arc::new(settings);
        let setup = PoolSetup {
            subscribers: before.subscribers.clone(),
            ejector: Arc::new(Ejector::new(settings.clone(), self.now, 0)),
            connections: settings.server_connections,
            settings,
            counters: counters.clone(),
        };
        self.counters = counters;
        self.core.reload(vec![(setup, word)], self.now);
        self.turn();
    }

    /// A key that lives on this server.
    pub(super) fn key_on(&self, server: usize) -> String {
        (0..)
            .map(|at| format!("k{at}"))
            .find(|key| self.ejector.placement().server_of(key.as_bytes(), || 0) == Some(server))
            .unwrap()
    }

    /// With nothing outstanding nothing may be kept.
    pub(super) fn assert_nothing_is_left(&self) {
        assert_eq!(self.core.desk.slots.used(), 0, "slots");
        assert_eq!(self.core.desk.spare.parked_bytes(), 0, "parked replies");
        assert_eq!(self.core.desk.splits.in_use(), 0, "splits");
        assert!(
            self.core.lanes.iter().all(|lane| lane.ring.len() == 0),
            "requests in rings"
        );
        let one = &self.counters.servers;
        assert!(
            one.iter()
                .all(|server| server.in_queue.value() == 0 && server.out_queue.value() == 0),
            "gauges"
        );
    }
}

pub(super) fn with_ejection(mut pool: Pool, failure_limit: u32, retry_after: Duration) -> Pool {
    pool.ejection = Some(Ejection {
        failure_limit,
        retry_after,
    });
    pool
}
