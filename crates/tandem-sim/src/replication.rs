//! Replication between the two servers: attaching, resyncs, the stream's delivery, and deaths.

use crate::chance::{MS, SEC, Us};
use crate::redis::{Conn, Link, Psync, Snapshot, Target};
use crate::world::{Admin, Cmd, Ev, World, other};

/// Silence after which a replica gives its link up.
pub(crate) const LINK_TIMEOUT: Us = 5 * SEC;

impl World {
    /// This host's server replicates from that process.
    pub(crate) fn follows(&self, h: usize, run: u64) -> bool {
        match self.hosts[h].server.proc.as_ref().map(|p| &p.link) {
            Some(Link::Full { conn, .. } | Link::Up(conn)) => {
                conn.source == run && conn.fin.is_none() && conn.mute_since.is_none()
            }
            Some(Link::None | Link::Down(_)) | None => false,
        }
    }

    fn link_conn(&mut self, h: usize) -> Option<&mut Conn> {
        match self.hosts[h].server.proc.as_mut().map(|p| &mut p.link) {
            Some(Link::Full { conn, .. } | Link::Up(conn)) => Some(conn),
            Some(Link::None | Link::Down(_)) | None => None,
        }
    }

    /// The replica's side of its link has something to do, or looks whether it has.
    pub(crate) fn link(&mut self, h: usize) {
        let now = self.now;
        if !self.hosts[h].powered || self.hosts[h].server_frozen {
            return;
        }
        let Some(proc) = &self.hosts[h].server.proc else {
            return;
        };
        match &proc.link {
            Link::None => {}
            Link::Down(at) if *at > now => {
                let wait = *at - now;
                self.after(wait, Ev::Link { h });
            }
            Link::Down(_) => self.link_connect(h),
            Link::Full {
                done,
                loading,
                conn,
                ..
            } => {
                let (done, loading) = (*done, *loading);
                let ended = conn.fin.is_some() || conn.mute_since.is_some() || !self.redis_path();
                if !loading && ended {
                    // Cut off while receiving: the old data is still there, the place is not.
                    self.hosts[h].server.link_lost(now);
                    self.after(500 * MS, Ev::Link { h });
                } else if now >= done {
                    self.link_received(h);
                } else {
                    self.after(done - now, Ev::Link { h });
                }
            }
            Link::Up(_) => self.link_read(h),
        }
    }

    fn link_connect(&mut self, h: usize) {
        let now = self.now;
        let p = other(h);
        let target = self.hosts[h].server.proc.as_ref().and_then(|x| x.of);
        let reachable = target == Some(Target::Peer) && self.redis_path();
        if !reachable || self.hosts[p].server_frozen {
            self.hosts[h].server.link_refused(now);
            self.after(SEC, Ev::Link { h });
            return;
        }
        let cached = self.hosts[h].server.proc.as_ref().and_then(|x| x.cached);
        let (answer, rest) = self.hosts[p].server.psync(cached, 0, now, &mut self.chance);
        let Some(source) = self.hosts[p].server.proc.clone() else {
            self.hosts[h].server.link_refused(now);
            self.after(SEC, Ev::Link { h });
            return;
        };
        let mut conn = Conn::to(source.run);
        self.say(Some(h), || format!("PSYNC {cached:?}: {answer:?}"));
        match answer {
            Psync::Later => {
                self.hosts[h].server.link_refused(now);
                self.after(SEC, Ev::Link { h });
            }
            Psync::Partial => {
                self.hosts[h].server.continued(source.replid, conn);
                self.send_stream(p, &rest);
            }
            Psync::Full => {
                self.excuse_wiped(h, &source);
                conn.held = self.plan.diskless.then(Vec::new);
                let limit = self.plan.resync_time;
                let takes = self.chance.within(limit / 4, limit);
                let proc = self.hosts[h].server.proc.as_mut().expect("asked above");
                proc.cached = None;
                proc.link = Link::Full {
                    conn,
                    done: now + takes,
                    loading: false,
                    snapshot: Box::new(Snapshot {
                        data: source.data,
                        place: Some((source.replid, source.offset)),
                    }),
                };
                self.after(takes, Ev::Link { h });
            }
        }
    }

    /// The snapshot is complete: first it is read, then it is the data.
    fn link_received(&mut self, h: usize) {
        let now = self.now;
        let limit = self.plan.resync_time;
        let takes = self.chance.within(0, limit);
        let Some(proc) = &mut self.hosts[h].server.proc else {
            return;
        };
        if let Link::Full { done, loading, .. } = &mut proc.link
            && !*loading
        {
            *loading = true;
            *done = now + takes;
            self.after(takes, Ev::Link { h });
            return;
        }
        let link = std::mem::replace(&mut proc.link, Link::None);
        let Link::Full { conn, snapshot, .. } = link else {
            proc.link = link;
            return;
        };
        self.say(Some(h), || {
            format!("resynced, {} keys", snapshot.data.len())
        });
        for id in snapshot.data.iter() {
            self.writes[id as usize].reached = true;
        }
        self.hosts[h].server.resynced(*snapshot, conn);
        // The first acknowledgement mostly comes before the primary has collected its child: it counts for
        // the offset, and the stream waits for the next one.
        let early = self.later.percent(60);
        self.acknowledge(h, !early);
        self.link_read(h);
    }

    /// Reads what has arrived.
    fn link_read(&mut self, h: usize) {
        let now = self.now;
        let path = self.redis_path();
        loop {
            let Some(conn) = self.link_conn(h) else {
                return;
            };
            let Some((at, entry)) = conn.queue.front().copied() else {
                break;
            };
            if at > now {
                self.after(at - now, Ev::Link { h });
                return;
            }
            if !path && conn.mute_since.is_none() {
                // In the other host's kernel until the path is back.
                return;
            }
            conn.queue.pop_front();
            self.hosts[h].server.apply(entry);
            self.note_reached(&entry);
        }
        let Some(conn) = self.link_conn(h) else {
            return;
        };
        let ended = conn.fin.is_some_and(|at| at <= now) && (path || conn.mute_since.is_some());
        let timed_out = conn.mute_since.is_some_and(|at| at + LINK_TIMEOUT <= now);
        let pending = conn.fin.filter(|at| *at > now);
        let source = conn.source;
        if ended || timed_out {
            self.hosts[h].orphaned = Some((now, source));
            self.hosts[h].neglected = false;
            self.say(Some(h), || "replication link down".to_owned());
            self.hosts[h].server.link_lost(now);
            self.after(MS, Ev::Link { h });
        } else if let Some(at) = pending {
            self.after(at - now, Ev::Link { h });
        }
    }

    /// The replica's acknowledgement reaches its primary, which then sends what it held back.
    fn acknowledge(&mut self, h: usize, starts: bool) {
        let now = self.now;
        let p = other(h);
        let path =
            self.redis_path() && !self.hosts[p].server_frozen && !self.hosts[h].server_frozen;
        let offset = self.hosts[h]
            .server
            .proc
            .as_ref()
            .map_or(0, |proc| proc.offset);
        let there = self.hosts[p].server.proc.as_ref().map(|proc| proc.run);
        let Some(Link::Up(conn)) = self.hosts[h]
            .server
            .proc
            .as_mut()
            .map(|proc| &mut proc.link)
        else {
            return;
        };
        if !path || there != Some(conn.source) || conn.fin.is_some() {
            return;
        }
        conn.acked = Some((offset, now));
        if starts && let Some(held) = conn.held.take() {
            self.send_stream(p, &held);
        }
    }

    /// Replicas acknowledge once a second.
    pub(crate) fn replica_acks(&mut self, h: usize) {
        self.acknowledge(h, true);
        self.after(SEC, Ev::ReplicaAck { h });
    }

    /// Ends the streams that this host's server sends: FIN follows what is in its kernel.
    pub(crate) fn end_streams(&mut self, h: usize, run: u64) {
        if !self.follows(other(h), run) {
            return;
        }
        let lat = self.stream();
        let now = self.now;
        let r = other(h);
        if let Some(conn) = self.link_conn(r) {
            let last = conn.queue.back().map_or(now, |(at, _)| (*at).max(now));
            conn.fin = Some(last + lat);
            let wait = last + lat - now;
            self.after(wait, Ev::Link { h: r });
        }
    }

    /// The path is back, a server thawed or was replaced: links look again.
    pub(crate) fn look_at_links(&mut self) {
        for h in 0..2 {
            self.after(MS, Ev::Link { h });
        }
    }

    /// A sign of life of a primary, once in ten seconds; here more often.
    pub(crate) fn replica_ping(&mut self, h: usize) {
        let run = self.hosts[h].server.proc.as_ref().map(|p| p.run);
        if !self.hosts[h].server_frozen
            && let Some(run) = run
            && self.follows(other(h), run)
        {
            let entries = self.hosts[h].server.ping();
            self.send_stream(h, &entries);
        }
        let wait = self.chance.within(500 * MS, 1500 * MS);
        self.after(wait, Ev::ReplicaPing { h });
        self.after(wait, Ev::Link { h });
    }

    /// fsync once a second, a snapshot now and then.
    pub(crate) fn upkeep(&mut self, h: usize) {
        if self.hosts[h].powered
            && self.hosts[h].server.proc.is_some()
            && !self.hosts[h].server_frozen
        {
            self.hosts[h].server.fsync();
            let rdb = self.plan.persistence[h] == crate::redis::Persistence::Rdb;
            let loading = self.hosts[h]
                .server
                .proc
                .as_ref()
                .is_some_and(|p| p.is_loading(self.now));
            if rdb && !loading && self.chance.percent(40) {
                self.hosts[h].server.save();
            }
        }
        self.after(SEC, Ev::Upkeep { h });
    }

    /// The process dies; its kernel lives on unless the power went.
    pub(crate) fn kill_server(&mut self, h: usize, power_off: bool) {
        let Some(proc) = self.hosts[h].server.proc.take() else {
            return;
        };
        self.excuse_deaths(h, &proc, power_off);
        self.say(Some(h), || format!("server dies (power off: {power_off})"));
        if power_off {
            let aof = self.hosts[h].server.aof_synced.clone();
            self.hosts[h].server.aof = aof;
        } else {
            self.end_streams(h, proc.run);
        }
        let host = &mut self.hosts[h];
        host.server_frozen = false;
        host.queued.clear();
        host.paused.clear();
        self.drop_clients(h);
        let inc = self.inc(h);
        if !power_off && inc != 0 {
            let wait = self.chance.within(MS, 5 * MS);
            self.after(
                wait,
                Ev::ServerDied {
                    h,
                    inc,
                    run: proc.run,
                },
            );
        }
        if !power_off
            && self.plan.manage == tandem_core::keeper::settings::Manage::Adopt
            && self.chance.percent(self.plan.supervised)
        {
            let wait = self.chance.within(100 * MS, 3 * SEC);
            let boot = self.hosts[h].boot;
            self.after(
                wait,
                Ev::ServerStart {
                    h,
                    boot,
                    fenced: !self.plan.bare,
                },
            );
        }
    }

    /// A kernel dies, and with it what it had not delivered of its servers' streams: of the one that `ran`, and of one
    /// that died before.
    pub(crate) fn end_kernel(&mut self, h: usize, ran: Option<u64>) {
        let now = self.now;
        let r = other(h);
        let cut = self.cuts.redis != [false, false];
        if let Some(conn) = self.link_conn(r)
            && conn.mute_since.is_none()
        {
            let lost = cut && Some(conn.source) == ran;
            conn.queue.retain(|(at, _)| *at <= now && !lost);
            conn.fin = conn.fin.filter(|at| *at <= now && !lost);
            conn.mute_since = Some(now);
            self.after(LINK_TIMEOUT, Ev::Link { h: r });
        }
    }

    /// A supervisor or the daemon starts the process.
    pub(crate) fn server_start(&mut self, h: usize, boot: u32, fenced: bool) {
        let host = &mut self.hosts[h];
        if !host.powered || host.boot != boot || host.server.proc.is_some() {
            return;
        }
        let loading = self.chance.within(0, self.plan.resync_time);
        let now = self.now;
        self.hosts[h]
            .server
            .start(fenced, loading, now, &mut self.chance);
        self.say(Some(h), || "server starts".to_owned());
        self.look_at_links();
    }

    /// Commands that waited in a frozen server's sockets run before anything newer.
    pub(crate) fn thaw_server(&mut self, h: usize) {
        if !self.hosts[h].server_frozen {
            return;
        }
        self.say(Some(h), || "server thaws".to_owned());
        self.hosts[h].server_frozen = false;
        self.hosts[h].unwatched = self.now;
        let queued = std::mem::take(&mut self.hosts[h].queued);
        for cmd in queued {
            match cmd {
                Cmd::Write { c, serial, id } => self.execute_write(h, c, serial, id),
                Cmd::Admin(admin) => {
                    if matches!(admin, Admin::Promote | Admin::Fence | Admin::Attach) {
                        self.excuse_unread(h);
                    }
                    self.execute_admin(h, admin);
                }
            }
        }
        self.look_at_links();
    }

    /// The pause may be over.
    pub(crate) fn unpaused(&mut self, h: usize) {
        let now = self.now;
        let over = self.hosts[h]
            .server
            .proc
            .as_ref()
            .is_some_and(|p| p.paused_until <= now || !p.is_primary());
        if over && !self.hosts[h].server_frozen {
            let waiting = std::mem::take(&mut self.hosts[h].paused);
            for cmd in waiting {
                match cmd {
                    Cmd::Write { c, serial, id } => self.execute_write(h, c, serial, id),
                    Cmd::Admin(admin) => self.execute_admin(h, admin),
                }
            }
        }
    }
}
