//! Counters, named as twemproxy's statistics port names them.
//!
//! Each thread has counters of its own and is the only one who writes them, so that an addition is a load and a
//! store without a lock or a shared cache line; readers add the threads up and may see a moment between two stores.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::latency::{Commands, Histogram};
use crate::settings::{Pool, Server};
use crate::slowlog::SlowLog;

/// A number with one writer.
#[derive(Debug, Default)]
pub struct Counter(AtomicU64);

impl Counter {
    /// Adds; only the owning thread may.
    #[inline]
    pub fn add(&self, amount: u64) {
        self.0.store(
            self.0.load(Ordering::Relaxed).wrapping_add(amount),
            Ordering::Relaxed,
        );
    }

    /// Takes off; only the owning thread may.
    #[inline]
    pub fn sub(&self, amount: u64) {
        self.0.store(
            self.0.load(Ordering::Relaxed).wrapping_sub(amount),
            Ordering::Relaxed,
        );
    }

    /// What it says now.
    #[must_use]
    pub fn value(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// One thread's counters of one server.
#[derive(Debug, Default)]
pub struct ServerCounters {
    /// The server's name.
    pub(crate) name: String,
    /// How long its answers took.
    pub(crate) latency: Histogram,
    /// How long answers of the pool took, by command.
    pub(crate) commands: Arc<Commands>,
    /// Where slow requests are noted.
    pub(crate) slow: Option<Arc<SlowLog>>,
    pub(crate) eof: Counter,
    pub(crate) err: Counter,
    pub(crate) timedout: Counter,
    pub(crate) connections: Counter,
    pub(crate) requests: Counter,
    pub(crate) request_bytes: Counter,
    pub(crate) responses: Counter,
    pub(crate) response_bytes: Counter,
    pub(crate) in_queue: Counter,
    pub(crate) in_queue_bytes: Counter,
    pub(crate) out_queue: Counter,
    pub(crate) out_queue_bytes: Counter,
}

/// One thread's counters of one pool.
#[derive(Debug, Default)]
pub struct PoolCounters {
    pub(crate) client_eof: Counter,
    pub(crate) client_err: Counter,
    pub(crate) client_connections: Counter,
    pub(crate) forward_error: Counter,
    pub(crate) fragments: Counter,
    pub(crate) accepted: Counter,
    /// Requests whose outcome nobody knows.
    pub(crate) unknown: Counter,
    pub(crate) commands: Arc<Commands>,
    pub(crate) slow: Option<Arc<SlowLog>>,
    pub(crate) servers: Vec<Arc<ServerCounters>>,
}

impl PoolCounters {
    /// All zero, for so many servers.
    #[must_use]
    pub fn new(servers: usize) -> Self {
        Self {
            servers: (0..servers).map(|_| Arc::default()).collect(),
            ..Self::default()
        }
    }

    /// All zero, for this pool; slow requests are noted there.
    #[must_use]
    pub fn of(pool: &Pool, slow: Option<Arc<SlowLog>>) -> Self {
        let commands = Arc::new(Commands::default());
        let server = |server: &Server| {
            Arc::new(ServerCounters {
                name: server.name.clone(),
                commands: commands.clone(),
                slow: slow.clone(),
                ..ServerCounters::default()
            })
        };
        Self {
            servers: pool.servers.iter().map(server).collect(),
            commands: commands.clone(),
            slow: slow.clone(),
            ..Self::default()
        }
    }
}

/// What twemproxy says of a pool.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PoolStatistics {
    /// The pool's name.
    pub name: String,
    /// Client connections that ended by themselves.
    pub client_eof: u64,
    /// Client connections that ended by an error.
    pub client_err: u64,
    /// Client connections now.
    pub client_connections: u64,
    /// Client connections ever accepted; not in twemproxy's object for a pool, but summed into `total_connections`.
    pub client_accepted: u64,
    /// Times that a server was left out of the placement.
    pub server_ejects: u64,
    /// Error replies that the proxy wrote itself because a server could not be asked.
    pub forward_error: u64,
    /// Parts of split requests. twemproxy declares it and leaves it at 0; here it counts.
    pub fragments: u64,
    /// In the order of placement.
    pub servers: Vec<ServerStatistics>,
}

/// What twemproxy says of a server.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ServerStatistics {
    /// The server's name.
    pub name: String,
    /// Connections that the server closed.
    pub server_eof: u64,
    /// Connections that ended by an error.
    pub server_err: u64,
    /// Connections that the proxy closed because a request took too long.
    pub server_timedout: u64,
    /// Connections now.
    pub server_connections: u64,
    /// When it was last left out, in microseconds of the Unix epoch; 0 if never.
    pub server_ejected_at: u64,
    /// Requests forwarded, parts counted singly.
    pub requests: u64,
    /// Their bytes.
    pub request_bytes: u64,
    /// Replies.
    pub responses: u64,
    /// Their bytes.
    pub response_bytes: u64,
    /// Requests that are not sent yet.
    pub in_queue: u64,
    /// Their bytes.
    pub in_queue_bytes: u64,
    /// Requests sent and not answered.
    pub out_queue: u64,
    /// Their bytes.
    pub out_queue_bytes: u64,
}

impl PoolStatistics {
    /// Adds one thread's counters.
    pub fn add(&mut self, counters: &PoolCounters) {
        self.client_eof += counters.client_eof.value();
        self.client_err += counters.client_err.value();
        self.client_connections += counters.client_connections.value();
        self.client_accepted += counters.accepted.value();
        self.forward_error += counters.forward_error.value();
        self.fragments += counters.fragments.value();
        for (sum, one) in self.servers.iter_mut().zip(&counters.servers) {
            sum.server_eof += one.eof.value();
            sum.server_err += one.err.value();
            sum.server_timedout += one.timedout.value();
            sum.server_connections += one.connections.value();
            sum.requests += one.requests.value();
            sum.request_bytes += one.request_bytes.value();
            sum.responses += one.responses.value();
            sum.response_bytes += one.response_bytes.value();
            sum.in_queue += one.in_queue.value();
            sum.in_queue_bytes += one.in_queue_bytes.value();
            sum.out_queue += one.out_queue.value();
            sum.out_queue_bytes += one.out_queue_bytes.value();
        }
    }
}
