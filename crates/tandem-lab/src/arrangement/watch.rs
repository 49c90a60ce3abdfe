//! Looks at both sides all the time and counts what must never be: two primaries, or the VIP on two hosts.

use std::net::IpAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::anyhow;

use super::{Pair, Side, VIP};
use crate::ns::Host;
use crate::resp::Connection;

/// Time between two looks.
const EVERY: Duration = Duration::from_millis(5);
/// For an answer: a frozen server is not a writable one.
const PATIENCE: Duration = Duration::from_millis(20);

/// For how long two sides claimed what only one may have, summed over a watch.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Overlap {
    /// Both servers answered that they are primaries.
    pub primaries: Duration,
    /// Both hosts had the VIP.
    pub vips: Duration,
    /// Both hosts had the VIP with a primary behind it: writes reach either, by the caller's neighbour table.
    pub both: Duration,
}

/// A watch over a pair.
#[derive(Debug)]
pub struct Watch {
    stop: Arc<AtomicBool>,
    overlap: Arc<Mutex<Overlap>>,
    thread: Option<JoinHandle<()>>,
}

impl Watch {
    /// Begins to watch.
    ///
    /// # Errors
    /// When no thread can be had.
    pub fn start(pair: &Pair) -> anyhow::Result<Self> {
        let stop = Arc::new(AtomicBool::new(false));
        let overlap = Arc::new(Mutex::new(Overlap::default()));
        let (ended, seen) = (Arc::clone(&stop), Arc::clone(&overlap));
        let port = pair.vip().port();
        let mut eyes = Side::BOTH.map(|side| Eye {
            host: Arc::clone(pair.host(side)),
            port,
            connection: None,
        });
        let thread = std::thread::Builder::new()
            .name("lab-watch".to_owned())
            .spawn(move || {
                let mut last = Instant::now();
                while !ended.load(Ordering::Relaxed) {
                    // The first one is asked again: between two answers the role may have moved in order.
                    let primaries =
                        eyes.iter_mut().all(Eye::sees_a_primary) && eyes[0].sees_a_primary();
                    let vips = eyes.iter().all(Eye::sees_the_vip);
                    let now = Instant::now();
                    seen.lock().unwrap_or_else(PoisonError::into_inner).add(
                        primaries,
                        vips,
                        now - last,
                    );
                    last = now;
                    std::thread::sleep(EVERY);
                }
            })?;
        Ok(Self {
            stop,
            overlap,
            thread: Some(thread),
        })
    }

    /// What it has seen until now.
    #[must_use]
    pub fn overlap(&self) -> Overlap {
        *self.overlap.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Ends the watch and says what it saw.
    ///
    /// # Errors
    /// When the watching thread panicked.
    pub fn stop(mut self) -> anyhow::Result<Overlap> {
        self.stop.store(true, Ordering::Relaxed);
        let thread = self
            .thread
            .take()
            .ok_or_else(|| anyhow!("a watch ends once"))?;
        thread.join().map_err(|_| anyhow!("the watch panicked"))?;
        Ok(self.overlap())
    }
}

impl Overlap {
    fn add(&mut self, primaries: bool, vips: bool, passed: Duration) {
        for (counter, seen) in [
            (&mut self.primaries, primaries),
            (&mut self.vips, vips),
            (&mut self.both, primaries && vips),
        ] {
            *counter += if seen { passed } else { Duration::ZERO };
        }
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
    }
}

/// What looks at one side.
struct Eye {
    host: Arc<Host>,
    port: u16,
    connection: Option<Connection>,
}

impl Eye {
    fn sees_a_primary(&mut self) -> bool {
        if self.connection.is_none() {
            self.connection =
                Connection::open(&self.host, ([127, 0, 0, 1], self.port).into(), PATIENCE).ok();
        }
        let role = self
            .connection
            .as_mut()
            .map(|connection| connection.call(&["ROLE"]));
        match role {
            Some(Ok(crate::resp::Reply::Array(parts))) => {
                parts.first().and_then(crate::resp::Reply::text).as_deref() == Some("master")
            }
            Some(Ok(_) | Err(_)) | None => {
                self.connection = None;
                false
            }
        }
    }

    fn sees_the_vip(&self) -> bool {
        // Far cheaper than asking `ip` every few milliseconds.
        let table = self
            .host
            .enter(|| std::fs::read_to_string("/proc/thread-self/net/fib_trie"));
        table.is_ok_and(|read| read.is_ok_and(|text| is_local(&text, VIP)))
    }
}

/// Whether an address is the host's own, by the kernel's table of local routes.
fn is_local(fib_trie: &str, address: IpAddr) -> bool {
    let entry = format!("|-- {address}");
    let mut lines = fib_trie.lines();
    while let Some(line) = lines.next() {
        if line.trim() == entry && lines.next().is_some_and(|next| next.contains("host LOCAL")) {
            return true;
        }
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_local_when_the_kernel_routes_it_to_itself() {
        let table = "Local:\n  +-- 10.0.0.0/24 2 0 2\n     |-- 10.0.0.0\n        /24 link UNICAST\n     \
                     |-- 10.0.0.1\n        /32 host LOCAL\n     |-- 10.0.0.255\n        /32 link BROADCAST\n";
        for (address, local) in [
            ("10.0.0.1", true),
            ("10.0.0.0", false),
            ("10.0.0.255", false),
            ("10.0.0.100", false),
        ] {
            assert_eq!(
                is_local(table, address.parse().unwrap()),
                local,
                "{address}"
            );
        }
    }
}
