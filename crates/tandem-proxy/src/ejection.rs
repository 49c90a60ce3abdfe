//! Which servers take part in the placement: one answer for the whole process.
//!
//! Each thread has connections of its own, but if each kept its own list of failed servers there would be two rings,
//! and one key on two servers. So failures are counted here, under a lock that only a failing or returning server
//! takes; what threads look at on every request is two numbers that hardly ever change.
//!
//! The behaviour is twemproxy's (`nc_server.c`, `server_failure`): every close of a connection counts; at the limit
//! the server is left out and its count begins anew; a good reply forgives; after `retry_after` live traffic tries.
//! Without [`settings::Ejection`] nobody is ever left out.

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use crate::placement::Placement;
use crate::settings;

/// One pool's live servers and the placement over them.
#[derive(Debug)]
pub struct Ejector {
    /// Instants are compared as milliseconds since this one.
    base: Instant,
    /// The same moment in microseconds of the Unix epoch, for statistics only.
    base_wall_us: u64,
    pool: Arc<settings::Pool>,
    failures: Vec<AtomicU32>,
    ejected_at_us: Vec<AtomicU64>,
    ejects: AtomicU64,
    /// Grows with every change of the placement.
    version: AtomicU64,
    /// When the first left-out server may return; `u64::MAX` while none is out.
    retry_at_ms: AtomicU64,
    inner: Mutex<Inner>,
}

#[derive(Debug)]
struct Inner {
    /// None: takes part.
    out_until_ms: Vec<Option<u64>>,
    placement: Arc<Placement>,
}

impl Ejector {
    /// All servers take part. `base` and `base_wall_us` name the same moment.
    #[must_use]
    pub fn new(pool: Arc<settings::Pool>, base: Instant, base_wall_us: u64) -> Self {
        let count = pool.servers.len();
        let placement = Arc::new(Placement::new(&pool, &vec![true; count]));
        Self {
            base,
            base_wall_us,
            failures: (0..count).map(|_| AtomicU32::new(0)).collect(),
            ejected_at_us: (0..count).map(|_| AtomicU64::new(0)).collect(),
            ejects: AtomicU64::new(0),
            version: AtomicU64::new(0),
            retry_at_ms: AtomicU64::new(u64::MAX),
            inner: Mutex::new(Inner {
                out_until_ms: vec![None; count],
                placement,
            }),
            pool,
        }
    }

    /// Which placement is in force; equal numbers mean the same one.
    #[inline]
    pub fn version(&self) -> u64 {
        self.version.load(Ordering::Acquire)
    }

    /// The placement in force.
    pub fn placement(&self) -> Arc<Placement> {
        self.lock().placement.clone()
    }

    /// A connection to `server` closed, for whatever reason.
    pub fn failed(&self, server: usize, now: Instant) {
        let Some(ejection) = self.pool.ejection else {
            return;
        };
        let failures = self.failures[server].fetch_add(1, Ordering::Relaxed) + 1;
        if failures < ejection.failure_limit {
            return;
        }
        let mut inner = self.lock();
        self.failures[server].store(0, Ordering::Relaxed);
        let now_ms = self.ms(now);
        inner.out_until_ms[server] = Some(now_ms + ejection.retry_after.as_millis() as u64);
        self.ejects.fetch_add(1, Ordering::Relaxed);
        let wall_us =
            self.base_wall_us + now.saturating_duration_since(self.base).as_micros() as u64;
        self.ejected_at_us[server].store(wall_us, Ordering::Relaxed);
        self.publish(&mut inner);
    }

    /// `server` gave a good reply.
    #[inline]
    pub fn answered(&self, server: usize) {
        if self.failures[server].load(Ordering::Relaxed) != 0 {
            self.failures[server].store(0, Ordering::Relaxed);
        }
    }

    /// Looks whether a left-out server is due; to be asked before a request is placed.
    #[inline]
    pub fn look(&self, now: Instant) {
        if self.retry_at_ms.load(Ordering::Relaxed) != u64::MAX {
            self.revive(self.ms(now));
        }
    }

    /// Times that a server was left out.
    pub fn ejects(&self) -> u64 {
        self.ejects.load(Ordering::Relaxed)
    }

    /// When `server` was last left out, in microseconds of the Unix epoch; 0 if never.
    pub fn ejected_at_us(&self, server: usize) -> u64 {
        self.ejected_at_us[server].load(Ordering::Relaxed)
    }

    #[cold]
    fn revive(&self, now_ms: u64) {
        if now_ms < self.retry_at_ms.load(Ordering::Relaxed) {
            return;
        }
        let mut inner = self.lock();
        for until in &mut inner.out_until_ms {
            if until.is_some_and(|until| until <= now_ms) {
                *until = None;
            }
        }
        self.publish(&mut inner);
    }

    fn publish(&self, inner: &mut Inner) {
        let alone = inner.out_until_ms.len() == 1;
        // Of a pool's only server twemproxy counts the ejections and asks it all the same.
        let live: Vec<bool> = inner
            .out_until_ms
            .iter()
            .map(|until| alone || until.is_none())
            .collect();
        inner.placement = Arc::new(Placement::new(&self.pool, &live));
        let next = inner
            .out_until_ms
            .iter()
            .flatten()
            .min()
            .copied()
            .unwrap_or(u64::MAX);
        self.retry_at_ms.store(next, Ordering::Relaxed);
        self.version.fetch_add(1, Ordering::Release);
    }

    fn ms(&self, now: Instant) -> u64 {
        now.saturating_duration_since(self.base).as_millis() as u64
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Inner> {
        // Nothing in here is left half-done by a panic: each change is one assignment before `publish`.
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The longest that anyone is left out, for tests and status.
    #[must_use]
    pub fn retry_after(&self) -> Option<Duration> {
        self.pool.ejection.map(|ejection| ejection.retry_after)
    }
}
