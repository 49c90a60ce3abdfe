//! Clients: they write unique ids to the VIP and remember what was acknowledged.
//!
//! A client follows the address as a host on the segment does: by the last gratuitous announcement
//! that reached it, and by asking again when nobody answers. A write is acknowledged when the server
//! executed it and the reply could leave: the connection lives, the address is here, the front is open.

use crate::chance::{MS, Us};
use crate::redis::{Entry, Kind, Link};
use crate::world::{Cmd, Ev, World, other};

/// Connect and reply timeouts.
const REPLY_WITHIN: Us = 250 * MS;

/// One write.
#[derive(Clone, Debug)]
pub(crate) struct Write {
    /// The client was told that it is done.
    pub(crate) acked: Option<(Us, usize)>,
    /// By a proxy of the primary's host that may acknowledge alone.
    pub(crate) alone: bool,
    /// It was on the other host once.
    pub(crate) reached: bool,
    /// Why it may be missing at the end.
    pub(crate) excused: Option<String>,
}

/// One client.
#[derive(Clone, Debug)]
pub(crate) struct Client {
    /// Hosts it can reach.
    pub(crate) reach: [bool; 2],
    /// Where its neighbour table says that the VIP is.
    pub(crate) arp: usize,
    /// Its connection: host, server process, name.
    pub(crate) conn: Option<(usize, u64, u64)>,
    /// The write it waits for.
    pub(crate) waits: Option<(u32, Us)>,
    serial: u64,
}

impl Client {
    pub(crate) fn new(arp: usize) -> Self {
        Self {
            reach: [true, true],
            arp,
            conn: None,
            waits: None,
            serial: 0,
        }
    }
}

impl World {
    /// The VIP answers at this host for this client.
    fn vip_answers(&self, c: usize, h: usize) -> bool {
        let host = &self.hosts[h];
        self.clients[c].reach[h] && host.powered && host.vip_until > self.now
    }

    fn conn_lives(&self, c: usize, serial: u64) -> bool {
        let Some((h, run, s)) = self.clients[c].conn else {
            return false;
        };
        let host = &self.hosts[h];
        s == serial
            && self.vip_answers(c, h)
            && !host.gate
            && !host.gate_direct
            && host.server.proc.as_ref().is_some_and(|p| p.run == run)
    }

    /// Sockets of clients at this host are destroyed.
    pub(crate) fn drop_clients(&mut self, h: usize) {
        for client in &mut self.clients {
            if client.conn.is_some_and(|(host, _, _)| host == h) {
                client.conn = None;
                client.waits = None;
            }
        }
    }

    /// A gratuitous announcement from this host.
    pub(crate) fn announce(&mut self, h: usize) {
        if self.hosts[h].vip_until <= self.now || !self.hosts[h].powered {
            return;
        }
        for c in 0..self.clients.len() {
            if self.clients[c].reach[h] {
                self.clients[c].arp = h;
            }
        }
    }

    /// One turn of a client.
    pub(crate) fn client(&mut self, c: usize) {
        if self.quiet {
            return;
        }
        let pace = self.plan.pace;
        let pause = self.chance.within(pace / 2, pace * 3 / 2);
        let wait = match self.clients[c].conn {
            None => {
                let h = self.clients[c].arp;
                let up = self.hosts[h].server.proc.as_ref().map(|p| p.run);
                if self.vip_answers(c, h)
                    && !self.hosts[h].gate
                    && !self.hosts[h].gate_direct
                    && let Some(run) = up
                {
                    self.clients[c].serial += 1;
                    self.clients[c].conn = Some((h, run, self.clients[c].serial));
                    1
                } else {
                    if !self.vip_answers(c, h) && self.vip_answers(c, other(h)) {
                        self.clients[c].arp = other(h);
                    }
                    20 * MS
                }
            }
            Some((h, _, serial)) => {
                if !self.conn_lives(c, serial) || self.clients[c].arp != h {
                    self.clients[c].conn = None;
                    self.clients[c].waits = None;
                    MS
                } else if let Some((_, since)) = self.clients[c].waits {
                    if self.now >= since + REPLY_WITHIN {
                        self.clients[c].conn = None;
                        self.clients[c].waits = None;
                    }
                    pause
                } else {
                    let id = u32::try_from(self.writes.len()).expect("a run has few writes");
                    self.writes.push(Write {
                        acked: None,
                        alone: false,
                        reached: false,
                        excused: None,
                    });
                    self.clients[c].waits = Some((id, self.now));
                    let lat = self.stream();
                    self.after(lat, Ev::Arrive { c, serial, h, id });
                    pause
                }
            }
        };
        self.after(wait, Ev::Client { c });
    }

    /// A write reaches a server's socket.
    pub(crate) fn arrive(&mut self, c: usize, serial: u64, h: usize, id: u32) {
        if !self.conn_lives(c, serial) {
            return;
        }
        if self.hosts[h].server_frozen {
            self.hosts[h].queued.push_back(Cmd::Write { c, serial, id });
        } else {
            self.execute_write(h, c, serial, id);
        }
    }

    /// The server reads a write from its socket.
    pub(crate) fn execute_write(&mut self, h: usize, c: usize, serial: u64, id: u32) {
        let now = self.now;
        let host = &mut self.hosts[h];
        let Some(proc) = &host.server.proc else {
            return;
        };
        if proc.is_primary() && proc.paused_until > now {
            host.paused.push_back(Cmd::Write { c, serial, id });
            return;
        }
        let loading = proc.is_loading(now);
        let refused = loading || host.misconf;
        let entries = if refused { None } else { host.server.write(id) };
        let Some(entries) = entries else {
            // An error reply: the client closes and asks again.
            if self.conn_lives(c, serial) {
                self.clients[c].conn = None;
                self.clients[c].waits = None;
            }
            return;
        };
        self.send_stream(h, &entries);
        if self.conn_lives(c, serial) {
            self.clients[c].waits = None;
            self.writes[id as usize].acked = Some((now, h));
            self.writes[id as usize].alone = self.may_be_alone(h);
            self.last_ack = now;
            self.check_writer(h);
        }
    }

    /// Puts pieces of the stream on the wire to the replica, if there is one.
    pub(crate) fn send_stream(&mut self, h: usize, entries: &[Entry]) {
        let Some(run) = self.hosts[h].server.proc.as_ref().map(|p| p.run) else {
            return;
        };
        if entries.is_empty() || !self.follows(other(h), run) {
            return;
        }
        let lat = self.stream();
        let now = self.now;
        let r = other(h);
        let Some(proc) = &mut self.hosts[r].server.proc else {
            return;
        };
        let (Link::Full { conn, .. } | Link::Up(conn)) = &mut proc.link else {
            return;
        };
        if let Some(held) = &mut conn.held {
            held.extend_from_slice(entries);
            return;
        }
        let at = conn.queue.back().map_or(0, |(at, _)| *at).max(now + lat);
        for entry in entries {
            conn.queue.push_back((at, *entry));
        }
        self.after(at - now, Ev::Link { h: r });
    }

    /// A write was applied on a host that did not acknowledge it.
    pub(crate) fn note_reached(&mut self, entry: &Entry) {
        if let Kind::Write(id) = entry.kind {
            self.writes[id as usize].reached = true;
        }
    }
}
