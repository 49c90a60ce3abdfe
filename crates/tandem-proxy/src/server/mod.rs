//! The proxy as a running thing: sockets bound, threads started, counters readable, pools replaceable.
//!
//! | module | does |
//! |---|---|
//! | `worker` | the loop of one thread |
//! | `crowd` | how many clients there are on all threads |
//! | `socket` | TCP and Unix sockets, listening and connecting |
//! | `secure` | TLS over a TCP socket |
//! | `resolve` | names to addresses, on a thread of its own |
//! | `status` | how everything is, for who asks |
//! | `taken` | whether a reload has reached every thread |
//! | `history` | what a dead primary's writes touched, read from the next one, on a thread of its own |
//! | `mailbox` | letters from other threads to a worker |
//! | `notice` | what a worker has to say |
//! | `pulse` | whether every worker still comes round |
//!
//! This is the one part of the crate that touches sockets, clocks and threads. Threads share nothing on the way of a
//! request: each has its own listeners, connections to servers and core; what they share is which servers take part
//! ([`crate::ejection`]) and counters that only their owner writes.

mod crowd;
mod history;
mod mailbox;
mod notice;
mod pulse;
mod resolve;
mod secure;
mod socket;
mod status;
mod taken;
mod worker;

use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use crate::cluster::Map;
use crate::core::{Core, PoolSetup, Word};
use crate::ejection::Ejector;
use crate::settings::{Address, Distribution, Pool};
use crate::slowlog::SlowLog;
use crate::statistics::{PoolCounters, PoolStatistics, ServerStatistics};
use crate::subscribers::Subscribers;
use crate::topology::Topology;

pub use pulse::Pulse;
pub use status::{Observer, PoolStatus, ShardStatus};
pub use taken::Taken;

use crowd::Crowd;
use mailbox::{Letter, Mailbox, Replacement};
pub use notice::{Notice, Notices};
use notice::{Obituary, Teller};
use resolve::{Resolver, first_address};
use socket::{Door, Listener};
use worker::Worker;

/// How the proxy runs.
#[derive(Debug, Clone)]
pub struct Options {
    /// Threads; at least 1 is started.
    pub threads: usize,
    /// Clients over all threads; None: as many as descriptors allow, as twemproxy.
    pub client_limit: Option<usize>,
    /// Who hears what the threads have to say.
    pub notices: Option<Notices>,
    /// Listen at addresses that are not on this host yet: a VIP that is elsewhere.
    pub free_bind: bool,
}

impl Default for Options {
    /// One thread, as twemproxy.
    fn default() -> Self {
        Self {
            threads: 1,
            client_limit: None,
            notices: None,
            free_bind: false,
        }
    }
}

/// Why the proxy did not start. Nothing is left behind: the caller may try again.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// A pool's address cannot be listened on.
    #[error("pool '{pool}': cannot listen on {listen}: {error}")]
    Listen {
        /// The pool.
        pool: String,
        /// Its address.
        listen: String,
        /// What the system said.
        error: io::Error,
    },
    /// A pool's address is a name that nobody knows.
    #[error("pool '{pool}': the name of {listen} cannot be resolved")]
    Name {
        /// The pool.
        pool: String,
        /// Its address.
        listen: String,
    },
    /// The system gives no poller, thread or descriptor.
    #[error("cannot start a proxy thread: {0}")]
    System(#[from] io::Error),
}

/// Why a reload changed nothing: everything goes on as before.
#[derive(Debug, thiserror::Error)]
#[error("nothing was changed: {0}")]
pub struct ReloadError(#[from] StartError);

/// One pool over all threads.
#[derive(Debug, Clone)]
struct Shared {
    settings: Arc<Pool>,
    ejector: Arc<Ejector>,
    subscribers: Arc<Subscribers>,
    counters: Vec<Arc<PoolCounters>>,
    /// The newest word on its groups; none: its servers are where the settings say.
    topology: Option<Arc<Topology>>,
}

/// A running proxy. Dropping it leaves its threads running; [`Running::drain`] ends them.
#[derive(Debug)]
pub struct Running {
    threads: Mutex<Vec<JoinHandle<io::Result<()>>>>,
    mailboxes: Vec<Arc<Mailbox>>,
    pools: Arc<Mutex<Vec<Shared>>>,
    free_bind: bool,
    /// One moment by both clocks, so that instants can be told as times.
    base: (Instant, SystemTime),
}

impl Running {
    /// Binds every pool's address and starts the threads.
    ///
    /// # Errors
    /// An address cannot be had, or the system refuses a thread. Nothing runs then.
    pub fn start(pools: Vec<Pool>, options: Options) -> Result<Self, StartError> {
        let threads = options.threads.max(1);
        let base = (Instant::now(), SystemTime::now());
        let shared: Vec<Shared> = pools
            .into_iter()
            .map(|pool| share(pool, threads, base))
            .collect();
        let mut listeners = Vec::new();
        listeners.resize_with(threads, Vec::new);
        for (number, pool) in shared.iter().enumerate() {
            for address in pool.settings.addresses() {
                let bound = bind(address, &pool.settings, threads, options.free_bind)?;
                for (thread, listener) in bound.into_iter().enumerate() {
                    listeners[thread].push((number, listener));
                }
            }
        }
        let limit = options.client_limit.unwrap_or_else(|| descriptors(&shared));
        let crowd = Crowd::new(limit);
        let resolver = Resolver::start()?;
        let mut workers = Vec::new();
        let mut mailboxes = Vec::new();
        for (thread, listeners) in listeners.into_iter().enumerate() {
            let poll = mio::Poll::new()?;
            let mailbox = Mailbox::new(mio::Waker::new(poll.registry(), worker::WAKER)?);
            let setups: Vec<PoolSetup> = shared
                .iter()
                .map(|pool| pool.setup(thread, threads))
                .collect();
            let seed = seed(base.1, thread);
            let core = Core::new(setups, seed, thread as u32, threads as u32, base.0);
            workers.push(Worker::new(
                poll,
                core,
                listeners,
                mailbox.clone(),
                resolver.clone(),
                crowd.clone(),
                Teller {
                    thread,
                    notices: options.notices.clone(),
                },
            )?);
            mailboxes.push(mailbox);
        }
        let running = Self {
            threads: Mutex::default(),
            mailboxes,
            pools: Arc::new(Mutex::new(shared)),
            free_bind: options.free_bind,
            base,
        };
        for (thread, worker) in workers.into_iter().enumerate() {
            let spawned = std::thread::Builder::new()
                .name(format!("proxy-{thread}"))
                .spawn(move || {
                    let obituary = Obituary::of(worker.teller());
                    let result = worker.run();
                    obituary.write(&result);
                    result
                });
            match spawned {
                Ok(handle) => running.handles().push(handle),
                Err(error) => {
                    running.drain(Duration::ZERO);
                    running.join();
                    return Err(error.into());
                }
            }
        }
        Ok(running)
    }

    fn handles(&self) -> MutexGuard<'_, Vec<JoinHandle<io::Result<()>>>> {
        self.threads.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What happened so far, summed over threads, in the order of the pools.
    #[must_use]
    pub fn statistics(&self) -> Vec<PoolStatistics> {
        let pools = self.pools.lock().unwrap_or_else(PoisonError::into_inner);
        pools.iter().map(Shared::statistics).collect()
    }

    /// Replaces all pools. Clients of a pool whose name stays are kept, and go to its servers of the new settings
    /// once they are owed nothing; listening sockets whose address stays are kept. It counts once the threads have taken it over.
    ///
    /// # Errors
    /// A new address cannot be had; nothing was changed.
    pub fn reload(&self, pools: Vec<Pool>) -> Result<Taken, ReloadError> {
        self.replace(pools, None)
    }

    /// As [`Running::reload`] for a pool whose servers are groups, with the newest word on them.
    ///
    /// # Errors
    /// As there.
    pub fn reload_following(&self, pool: Pool, word: Arc<Topology>) -> Result<Taken, ReloadError> {
        self.replace(vec![pool], Some(Word::Groups(word)))
    }

    /// As [`Running::reload`] for a pool whose servers are the seats of a cluster, with its newest map. It has to be the same
    /// cluster: what was asked before the reload goes by newer maps, too.
    ///
    /// # Errors
    /// As there.
    pub fn reload_mapped(&self, pool: Pool, map: Arc<Map>) -> Result<Taken, ReloadError> {
        self.replace(vec![pool], Some(Word::Slots(map)))
    }

    fn replace(&self, pools: Vec<Pool>, word: Option<Word>) -> Result<Taken, ReloadError> {
        let threads = self.mailboxes.len();
        let mut current = self.pools.lock().unwrap_or_else(PoisonError::into_inner);
        let mut shared: Vec<Shared> = pools
            .into_iter()
            .map(|pool| inherit(&current, pool, threads, self.base))
            .collect();
        let told = word.as_ref().map(|word| match word {
            Word::Groups(topology) => topology.clone(),
            Word::Slots(map) => Arc::new(map.topology.clone()),
        });
        if let Some(told) = told {
            for pool in &mut shared {
                pool.topology = Some(told.clone());
            }
        }
        let mut listeners = Vec::new();
        listeners.resize_with(threads, Vec::new);
        for (number, pool) in shared.iter().enumerate() {
            for address in pool.settings.addresses() {
                let mut open = current.iter().flat_map(|old| old.settings.addresses());
                if open.any(|open| open == address) {
                    continue;
                }
                let bound = bind(address, &pool.settings, threads, self.free_bind)?;
                for (thread, listener) in bound.into_iter().enumerate() {
                    listeners[thread].push((number, listener));
                }
            }
        }
        let newest = |pool: &Shared| match &word {
            Some(word) => Some(word.clone()),
            None => pool.topology.clone().map(Word::Groups),
        };
        let (pending, taken) = Taken::new();
        for ((thread, mailbox), listeners) in self.mailboxes.iter().enumerate().zip(listeners) {
            let pools = shared
                .iter()
                .map(|pool| pool.setup(thread, threads))
                .collect();
            mailbox.put(Letter::Reload(Box::new(Replacement {
                pools,
                words: shared.iter().map(newest).collect(),
                listeners,
                pending: pending.clone(),
            })));
        }
        *current = shared;
        Ok(taken)
    }

    /// The newest word on the groups of the pool of this name: its servers are groups from now on, and requests are held
    /// while one of them has no primary.
    pub fn follow(&self, pool: &str, topology: Arc<Topology>) {
        let mut pools = self.pools.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = pools.iter_mut().find(|one| one.settings.name == pool) {
            known.topology = Some(topology.clone());
        }
        drop(pools);
        let pool: Arc<str> = pool.into();
        for mailbox in &self.mailboxes {
            mailbox.put(Letter::Topology {
                pool: pool.clone(),
                topology: topology.clone(),
            });
        }
    }

    /// Where the slots of the pool of this name are, whose servers are those of a cluster.
    pub fn map(&self, pool: &str, map: Arc<Map>) {
        let mut pools = self.pools.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = pools.iter_mut().find(|one| one.settings.name == pool) {
            known.topology = Some(Arc::new(map.topology.clone()));
        }
        drop(pools);
        let pool: Arc<str> = pool.into();
        for mailbox in &self.mailboxes {
            mailbox.put(Letter::Map {
                pool: pool.clone(),
                map: map.clone(),
            });
        }
    }

    /// What is believed of a group was asked for anew, no sooner than at this time since boot (`CLOCK_BOOTTIME`): threads
    /// that stood still before that, and were told if there is something newer, go on.
    pub fn confirm(&self, pool: &str, server: usize, asked: Duration) {
        let pool: Arc<str> = pool.into();
        for mailbox in &self.mailboxes {
            mailbox.put(Letter::Confirmed {
                pool: pool.clone(),
                server,
                asked,
            });
        }
    }

    /// What asks every thread for signs of life.
    #[must_use]
    pub fn pulse(&self) -> Pulse {
        Pulse::of(&self.mailboxes)
    }

    /// How many threads there are.
    #[must_use]
    pub fn threads(&self) -> usize {
        self.mailboxes.len()
    }

    /// No new clients; those that are here go when they are owed nothing, and all of them after `within`.
    pub fn drain(&self, within: Duration) {
        let until = Instant::now() + within;
        for mailbox in &self.mailboxes {
            mailbox.put(Letter::Drain(until));
        }
    }

    /// Waits until every thread has ended.
    pub fn join(self) {
        self.wait();
    }

    /// Waits until every thread has ended; for one caller.
    pub fn wait(&self) {
        let threads = std::mem::take(&mut *self.handles());
        for thread in threads {
            // A thread that panicked has said so itself; the others still have to be waited for.
            let _ = thread.join();
        }
    }
}

impl Shared {
    /// The part of one thread. Connections to servers are shared out, not multiplied.
    fn setup(&self, thread: usize, threads: usize) -> PoolSetup {
        let all = self.settings.server_connections.max(1) as usize;
        let more = usize::from(thread < all % threads);
        PoolSetup {
            settings: self.settings.clone(),
            ejector: self.ejector.clone(),
            subscribers: self.subscribers.clone(),
            counters: self.counters[thread].clone(),
            connections: (all / threads + more).max(1) as u32,
        }
    }

    fn statistics(&self) -> PoolStatistics {
        let servers = self
            .settings
            .servers
            .iter()
            .enumerate()
            .map(|(at, server)| ServerStatistics {
                name: server.name.clone(),
                server_ejected_at: self.ejector.ejected_at_us(at),
                ..ServerStatistics::default()
            });
        let mut sum = PoolStatistics {
            name: self.settings.name.clone(),
            server_ejects: self.ejector.ejects(),
            servers: servers.collect(),
            ..PoolStatistics::default()
        };
        for counters in &self.counters {
            sum.add(counters);
        }
        sum
    }
}

fn share(pool: Pool, threads: usize, (base, wall): (Instant, SystemTime)) -> Shared {
    let settings = Arc::new(pool);
    let wall_us = wall
        .duration_since(UNIX_EPOCH)
        .map_or(0, |since| since.as_micros() as u64);
    let slow = settings.bounds.slowlog_slower_than;
    let slow = slow.map(|slow| Arc::new(SlowLog::new(Some(slow), (base, wall))));
    Shared {
        ejector: Arc::new(Ejector::new(settings.clone(), base, wall_us)),
        subscribers: Arc::new(Subscribers::new(settings.servers.len())),
        counters: (0..threads)
            .map(|_| Arc::new(PoolCounters::of(&settings, slow.clone())))
            .collect(),
        topology: None,
        settings,
    }
}

/// A pool after a reload: unchanged it is the same one, and while its servers have the same names its counters go on.
fn inherit(current: &[Shared], pool: Pool, threads: usize, base: (Instant, SystemTime)) -> Shared {
    let Some(old) = current.iter().find(|old| old.settings.name == pool.name) else {
        return share(pool, threads, base);
    };
    if *old.settings == pool {
        return old.clone();
    }
    let names = |pool: &Pool| -> Vec<String> {
        pool.servers
            .iter()
            .map(|server| server.name.clone())
            .collect()
    };
    let same_servers = names(&old.settings) == names(&pool);
    let mut new = share(pool, threads, base);
    if same_servers {
        new.counters = old.counters.clone();
        new.topology = old.topology.clone();
        // Those who subscribe stay where they are, and what is published by clients of the new pool waits for them, too.
        new.subscribers = old.subscribers.clone();
    }
    new
}

/// A listener at one address of a pool for each thread; `free`: the address may be elsewhere.
fn bind(
    address: &Address,
    pool: &Pool,
    threads: usize,
    free: bool,
) -> Result<Vec<Door>, StartError> {
    let failed = |listen: String, error| StartError::Listen {
        pool: pool.name.clone(),
        listen,
        error,
    };
    let listeners = match address {
        Address::Tcp { host, port } => {
            let listen = format!("{host}:{port}");
            let Some(address) = first_address(host, *port) else {
                return Err(StartError::Name {
                    pool: pool.name.clone(),
                    listen,
                });
            };
            bind_tcp(address, pool, threads, free).map_err(|error| failed(listen, error))?
        }
        Address::Unix { path, mode } => {
            let bound = || -> io::Result<Vec<Listener>> {
                let first = socket::listen_unix(path, *mode)?;
                (0..threads)
                    .map(|_| {
                        Ok(Listener::Unix(mio::net::UnixListener::from_std(
                            first.try_clone()?,
                        )))
                    })
                    .collect()
            };
            bound().map_err(|error| failed(path.display().to_string(), error))?
        }
    };
    let door = |listener| Door {
        address: address.clone(),
        listener,
    };
    Ok(listeners.into_iter().map(door).collect())
}

fn bind_tcp(
    address: SocketAddr,
    pool: &Pool,
    threads: usize,
    free: bool,
) -> io::Result<Vec<Listener>> {
    let shared = threads > 1;
    if shared {
        socket::probe_tcp(address, free)?;
    }
    (0..threads)
        .map(|_| {
            let listener = socket::listen_tcp(address, pool.backlog, shared, free)?;
            Ok(Listener::Tcp {
                listener: mio::net::TcpListener::from_std(listener),
                keepalive: pool.keepalive,
            })
        })
        .collect()
}

/// twemproxy's limit of clients: the descriptors of the process without those for servers, listeners and 32 more.
fn descriptors(pools: &[Shared]) -> usize {
    let all = rustix::process::getrlimit(rustix::process::Resource::Nofile)
        .current
        .unwrap_or(u64::MAX);
    let own: u64 = pools
        .iter()
        .map(|pool| {
            let servers = match pool.settings.distribution {
                // Seats, of which few are taken as a rule.
                Distribution::Slots => 16,
                _ => pool.settings.servers.len() as u64,
            };
            u64::from(pool.settings.server_connections) * servers + 1
        })
        .sum();
    usize::try_from(all.saturating_sub(own + 32))
        .unwrap_or(usize::MAX)
        .max(1)
}

/// Something that differs from start to start and thread to thread, for `random` placement.
fn seed(now: SystemTime, thread: usize) -> u32 {
    let nanos = now
        .duration_since(UNIX_EPOCH)
        .map_or(0, |since| since.subsec_nanos());
    nanos.rotate_left(16) ^ (thread as u32).wrapping_mul(0x9e37_79b9)
}
