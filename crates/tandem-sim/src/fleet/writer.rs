//! A client that writes one key after the other, each to where the sentinels send it, and remembers what was
//! acknowledged.

use super::world::{Ev, Fleet};
use crate::chance::{MS, SEC, Us};

/// An answer that does not come.
const TIMEOUT: Us = 500 * MS;
/// Between two questions for the address.
const AGAIN: Us = 100 * MS;

/// The client.
#[derive(Debug, Default)]
pub(super) struct Writer {
    /// Where its connection leads.
    to: Option<usize>,
    /// Counts its connections.
    conn: u64,
    /// Writes so far; the number of the newest.
    serial: u64,
    /// The one without an answer yet.
    pending: Option<u64>,
    pub(super) acked: Vec<u32>,
    /// It writes no more.
    pub(super) stopped: bool,
}

impl Fleet {
    /// The next write, or the question where to.
    pub(super) fn write_next(&mut self) {
        if self.writer.stopped || self.writer.pending.is_some() {
            return;
        }
        let Some(s) = self.writer.to else {
            let count = self.nodes.len() as u64;
            let n = usize::try_from(self.chance.within(0, count)).unwrap_or(0);
            let host = self.client_host();
            if self.nodes[n].is_awake() && self.net.both(host, n) {
                self.ask_address(n);
            }
            let wait = self.chance.within(AGAIN / 4, AGAIN);
            self.after(wait, Ev::Write);
            return;
        };
        self.writer.serial += 1;
        let serial = self.writer.serial;
        let conn = self.writer.conn;
        self.writer.pending = Some(serial);
        let latency = self.latency();
        self.after(latency, Ev::WriteArrives { serial, s, conn });
        self.after(TIMEOUT, Ev::WriteTimeout(serial));
    }

    /// A sentinel told the address.
    pub(super) fn directed(&mut self, to: usize) {
        if self.writer.to.is_none() {
            self.writer.to = Some(to);
            self.writer.conn += 1;
        }
    }

    /// A server reads a write.
    pub(super) fn write_arrives(&mut self, serial: u64, s: usize, conn: u64) {
        let now = self.now;
        let host = self.client_host();
        if !self.net.open(host, s) || self.writer.conn != conn {
            return;
        }
        let srv = &mut self.servers[s];
        let Some(proc) = &srv.redis.proc else {
            self.write_refused(serial, s);
            return;
        };
        if srv.frozen || proc.paused_until > now {
            srv.writes.push((serial, conn));
            return;
        }
        if proc.is_loading(now) || !proc.is_primary() {
            self.write_refused(serial, s);
            return;
        }
        let id = u32::try_from(serial).unwrap_or(u32::MAX);
        if let Some(entries) = srv.redis.write(id) {
            self.send_stream(s, &entries);
            if self.net.open(s, host) {
                let latency = self.latency();
                self.after(
                    latency,
                    Ev::WriteAnswered {
                        serial,
                        taken: true,
                    },
                );
            }
        }
    }

    fn write_refused(&mut self, serial: u64, s: usize) {
        let host = self.client_host();
        if self.net.open(s, host) {
            let latency = self.latency();
            self.after(
                latency,
                Ev::WriteAnswered {
                    serial,
                    taken: false,
                },
            );
        }
    }

    /// What waited for a thaw or the end of a pause.
    pub(super) fn writes_waiting(&mut self, s: usize) {
        for (serial, conn) in std::mem::take(&mut self.servers[s].writes) {
            self.write_arrives(serial, s, conn);
        }
    }

    pub(super) fn write_answered(&mut self, serial: u64, taken: bool) {
        if self.writer.pending != Some(serial) {
            return;
        }
        self.writer.pending = None;
        if taken {
            let id = u32::try_from(serial).unwrap_or(u32::MAX);
            self.writer.acked.push(id);
        } else {
            self.writer.to = None;
        }
        let every = self.plan.write_every;
        let wait = self.chance.within(every / 2, every * 3 / 2);
        self.after(wait, Ev::Write);
    }

    pub(super) fn write_timed_out(&mut self, serial: u64) {
        if self.writer.pending == Some(serial) {
            self.reconnect_writer();
        }
    }

    /// Its connection ends: the server died, or was told to.
    pub(super) fn writer_cut(&mut self, s: usize) {
        if self.writer.to == Some(s) {
            self.reconnect_writer();
        }
    }

    fn reconnect_writer(&mut self) {
        self.writer.to = None;
        self.writer.conn += 1;
        if self.writer.pending.take().is_some() {
            let wait = self.chance.within(MS, SEC / 20);
            self.after(wait, Ev::Write);
        }
    }
}
