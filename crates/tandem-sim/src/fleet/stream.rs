//! Replication among the three servers, chains included: a replica hands on what it applies.
//!
//! `redis` holds the rules of lineages and offsets; it knows one other server, so a change from one primary to
//! another is told to it as the loss of the one and the gain of the other, which leaves the same state in both.

use super::world::{Ev, Fleet, SERVERS};
use crate::chance::{MS, SEC, Us};
use crate::redis::{Conn, Entry, Kind, Link, Psync, Snapshot, Target as Follows};

impl Fleet {
    /// Server `r` replicates from that process of server `s`.
    fn attached(&self, r: usize, s: usize, run: u64) -> bool {
        let srv = &self.servers[r];
        if srv.of != Some(s) {
            return false;
        }
        match srv.redis.proc.as_ref().map(|p| &p.link) {
            Some(Link::Full { conn, .. } | Link::Up(conn)) => {
                conn.source == run && conn.fin.is_none() && conn.mute_since.is_none()
            }
            Some(Link::None | Link::Down(_)) | None => false,
        }
    }

    /// Who replicates from a server's present process.
    pub(super) fn replicas_of(&self, s: usize) -> Vec<usize> {
        let Some(run) = self.servers[s].redis.proc.as_ref().map(|p| p.run) else {
            return Vec::new();
        };
        (0..SERVERS).filter(|r| self.attached(*r, s, run)).collect()
    }

    fn link_conn(&mut self, s: usize) -> Option<&mut Conn> {
        match self.servers[s].redis.proc.as_mut().map(|p| &mut p.link) {
            Some(Link::Full { conn, .. } | Link::Up(conn)) => Some(conn),
            Some(Link::None | Link::Down(_)) | None => None,
        }
    }

    /// `REPLICAOF`.
    pub(super) fn replicaof(&mut self, s: usize, to: Option<usize>) {
        let now = self.now;
        let Some(run) = self.servers[s].redis.proc.as_ref().map(|p| p.run) else {
            return;
        };
        if self.servers[s].of == to && to.is_some() {
            return;
        }
        let was = self.servers[s].of;
        let srv = &mut self.servers[s];
        if was.is_some() && to.is_some() {
            srv.redis
                .replicaof(Some(Follows::Fence), now, &mut self.chance);
        }
        let target = to.map(|_| Follows::Peer);
        let cut = srv.redis.replicaof(target, now, &mut self.chance);
        srv.of = to;
        if to.is_some() {
            // As if it were new: whom it follows now it was not linked to yet, but that it was to somebody counts.
            srv.down_since.get_or_insert(now);
        }
        if cut {
            self.end_streams(s, run);
        }
        self.after(MS, Ev::Link(s));
    }

    /// The replica's side of a link has something to do, or looks whether it has.
    pub(super) fn link(&mut self, s: usize) {
        let now = self.now;
        if self.servers[s].frozen {
            return;
        }
        let Some(proc) = &self.servers[s].redis.proc else {
            return;
        };
        match &proc.link {
            Link::None => {}
            Link::Down(at) if *at > now => {
                let wait = *at - now;
                self.after(wait, Ev::Link(s));
            }
            Link::Down(_) => self.link_connect(s),
            Link::Full {
                done,
                loading,
                conn,
                ..
            } => {
                let (done, loading) = (*done, *loading);
                let path = self.servers[s].of.is_some_and(|of| self.net.both(s, of));
                let ended = conn.fin.is_some() || conn.mute_since.is_some() || !path;
                if !loading && ended {
                    // Cut off while receiving: the old data is still there, the place is not.
                    self.servers[s].redis.link_lost(now);
                    self.after(500 * MS, Ev::Link(s));
                } else if now >= done {
                    self.link_received(s);
                } else {
                    self.after((done - now).min(500 * MS), Ev::Link(s));
                }
            }
            Link::Up(_) => self.link_read(s),
        }
        self.note_link(s);
    }

    fn link_later(&mut self, s: usize) {
        let now = self.now;
        self.servers[s].redis.link_refused(now);
        self.after(SEC, Ev::Link(s));
    }

    fn link_connect(&mut self, s: usize) {
        let now = self.now;
        let Some(p) = self.servers[s].of else {
            return;
        };
        // Itself: Redis takes the order and never gets an answer from its own PSYNC.
        if p == s || !self.net.both(s, p) || self.servers[p].frozen {
            self.link_later(s);
            return;
        }
        let from = self.servers[s].redis.proc.as_ref().and_then(|x| x.cached);
        let replicas = self.replicas_of(p).len();
        let (answer, rest) = self.psync(p, from, replicas);
        let Some(source) = self.servers[p].redis.proc.as_ref() else {
            self.link_later(s);
            return;
        };
        let (run, replid) = (source.run, source.replid);
        let conn = Conn::to(run);
        match answer {
            Psync::Later => self.link_later(s),
            Psync::Partial => {
                self.say(|| format!("server {s} continues with {p}"));
                let own = self.servers[s]
                    .redis
                    .proc
                    .as_ref()
                    .map(|x| (x.run, x.replid));
                self.servers[s].heard = now;
                self.servers[s].redis.continued(replid, conn);
                if let Some((own_run, old)) = own
                    && old != replid
                {
                    self.end_streams(s, own_run);
                }
                for entry in rest {
                    self.send_entry(p, s, entry);
                }
            }
            Psync::Full => {
                self.say(|| format!("server {s} syncs from {p}"));
                let limit = self.plan.resync_time;
                let takes = self.chance.within(limit / 4, limit);
                let snapshot = Box::new(Snapshot {
                    data: source.data.clone(),
                    place: Some((source.replid, source.offset)),
                });
                self.servers[s].heard = now;
                if let Some(proc) = &mut self.servers[s].redis.proc {
                    proc.cached = None;
                    proc.link = Link::Full {
                        conn,
                        done: now + takes,
                        loading: false,
                        snapshot,
                    };
                }
                self.after(takes.min(500 * MS), Ev::Link(s));
            }
        }
    }

    /// A replica with a link serves others, too; one without has nothing to hand on.
    fn psync(
        &mut self,
        p: usize,
        from: Option<(u64, u64)>,
        replicas: usize,
    ) -> (Psync, Vec<Entry>) {
        let now = self.now;
        let redis = &mut self.servers[p].redis;
        let linked = redis.proc.as_ref().is_some_and(|x| x.link_up());
        let of = match &mut redis.proc {
            Some(proc) if linked => proc.of.take(),
            Some(_) | None => None,
        };
        let answer = redis.psync(from, replicas, now, &mut self.chance);
        if let (Some(proc), true) = (&mut redis.proc, of.is_some()) {
            proc.of = of;
        }
        answer
    }

    /// The snapshot is complete: first it is read, then it is the data.
    fn link_received(&mut self, s: usize) {
        let now = self.now;
        let limit = self.plan.resync_time;
        let takes = self.chance.within(0, limit);
        let Some(proc) = &mut self.servers[s].redis.proc else {
            return;
        };
        let run = proc.run;
        if let Link::Full { done, loading, .. } = &mut proc.link
            && !*loading
        {
            *loading = true;
            *done = now + takes;
            self.end_streams(s, run);
            self.after(takes.min(500 * MS), Ev::Link(s));
            return;
        }
        let link = std::mem::replace(&mut proc.link, Link::None);
        let Link::Full { conn, snapshot, .. } = link else {
            proc.link = link;
            return;
        };
        self.say(|| format!("server {s} is synced, {} keys", snapshot.data.len()));
        self.servers[s].heard = now;
        self.servers[s].redis.resynced(*snapshot, conn);
        self.link_read(s);
    }

    /// Reads what has arrived.
    fn link_read(&mut self, s: usize) {
        let now = self.now;
        let Some(p) = self.servers[s].of else {
            return;
        };
        let path = self.net.open(p, s);
        loop {
            let Some(conn) = self.link_conn(s) else {
                return;
            };
            let Some((at, entry)) = conn.queue.front().copied() else {
                break;
            };
            if at > now {
                self.after(at - now, Ev::Link(s));
                return;
            }
            if !path {
                // In the other host's kernel until the way is open.
                return;
            }
            conn.queue.pop_front();
            self.servers[s].heard = now;
            self.servers[s].redis.apply(entry);
            self.send_stream(s, &[entry]);
        }
        let Some(conn) = self.link_conn(s) else {
            return;
        };
        let Some(fin) = conn.fin else {
            return;
        };
        if fin <= now && path {
            self.servers[s].redis.link_lost(now);
            self.after(MS, Ev::Link(s));
        } else if fin > now {
            self.after(fin - now, Ev::Link(s));
        }
    }

    /// What a server writes into its stream, to all that replicate from it.
    pub(super) fn send_stream(&mut self, s: usize, entries: &[Entry]) {
        if entries.is_empty() {
            return;
        }
        for r in self.replicas_of(s) {
            for entry in entries {
                self.send_entry(s, r, *entry);
            }
        }
    }

    fn send_entry(&mut self, _from: usize, r: usize, entry: Entry) {
        let at = self.now + self.latency();
        let mut due = at;
        if let Some(conn) = self.link_conn(r) {
            let last = conn.queue.back().map_or(0, |(at, _)| *at);
            due = at.max(last);
            conn.queue.push_back((due, entry));
        }
        self.at(due, Ev::Link(r));
    }

    /// Ends the streams that a process sends: the end follows what is in its kernel.
    pub(super) fn end_streams(&mut self, s: usize, run: u64) {
        let now = self.now;
        let ends: Vec<usize> = (0..SERVERS).filter(|r| self.attached(*r, s, run)).collect();
        for r in ends {
            let latency = self.latency();
            let mut fin: Us = now;
            if let Some(conn) = self.link_conn(r) {
                let last = conn.queue.back().map_or(now, |(at, _)| (*at).max(now));
                fin = last + latency;
                conn.fin = Some(fin);
            }
            self.at(fin, Ev::Link(r));
        }
    }

    /// A way is open, a server thawed or was started: links look again.
    pub(super) fn look_at_links(&mut self) {
        for s in 0..SERVERS {
            self.after(MS, Ev::Link(s));
        }
    }

    /// A sign of life of a primary to its replicas.
    pub(super) fn replica_ping(&mut self, s: usize) {
        let srv = &self.servers[s];
        if !srv.frozen && srv.is_primary() && !self.replicas_of(s).is_empty() {
            let entries = self.servers[s].redis.ping();
            debug_assert!(entries.iter().all(|entry| entry.kind == Kind::Ping));
            self.send_stream(s, &entries);
        }
        let wait = self.chance.within(500 * MS, 1500 * MS);
        self.after(wait, Ev::Ping(s));
        self.after(wait, Ev::Link(s));
    }
}
