//! The three servers: what the simulated Redis leaves to its surroundings, and their lives.

use super::plan::Plan;
use super::wires::Target;
use super::world::{Ev, Fleet, SERVERS};
use crate::chance::{MS, SEC, Us};
use crate::redis::{Link, Persistence, Server, Target as Follows};

/// A server with what `redis` does not hold: whom it follows by number, its file, and its mood.
#[derive(Debug)]
pub(super) struct Srv {
    pub(super) redis: Server,
    /// Whom it follows.
    pub(super) of: Option<usize>,
    /// Whom its configuration file says it follows.
    pub(super) file_of: Option<usize>,
    pub(super) frozen: bool,
    /// Since when its link is down; `None` while it is up.
    pub(super) down_since: Option<Us>,
    /// It had a link in this life of its process.
    pub(super) linked: bool,
    /// When its primary's stream last said anything.
    pub(super) heard: Us,
    pub(super) priority: u32,
    /// Since when it is empty, loading, or receiving a sync.
    pub(super) poor_since: Option<Us>,
    /// Writes of the client that wait in its socket, or for the end of a pause.
    pub(super) writes: Vec<(u64, u64)>,
    /// Pings, to the primary's replicas, that are under way.
    pub(super) life: u64,
}

impl Srv {
    pub(super) fn new(s: usize, plan: &Plan) -> Self {
        Self {
            redis: Server::new(plan.persistence[s], plan.backlog),
            of: None,
            file_of: (s > 0).then_some(0),
            frozen: false,
            down_since: None,
            linked: false,
            heard: 0,
            priority: plan.priority[s],
            poor_since: None,
            writes: Vec::new(),
            life: 0,
        }
    }

    pub(super) fn is_primary(&self) -> bool {
        self.redis.proc.as_ref().is_some_and(|p| p.is_primary())
    }

    /// Its link to that server is up.
    pub(super) fn follows(&self, s: usize) -> bool {
        self.of == Some(s) && self.redis.proc.as_ref().is_some_and(|p| p.link_up())
    }

    /// It holds no whole data set.
    pub(super) fn is_poor(&self, now: Us) -> bool {
        self.redis.proc.as_ref().is_none_or(|p| {
            p.data.is_empty() || p.is_loading(now) || matches!(p.link, Link::Full { .. })
        })
    }
}

impl Fleet {
    pub(super) fn server_start(&mut self, s: usize, wipe: bool) {
        if self.servers[s].redis.proc.is_some() {
            return;
        }
        let now = self.now;
        let loading = self.chance.within(0, self.plan.resync_time);
        let srv = &mut self.servers[s];
        if wipe {
            srv.redis.rdb = None;
            srv.redis.aof = None;
            srv.redis.aof_synced = None;
        }
        let of = srv.file_of;
        srv.redis
            .start(of.is_some(), loading, now, &mut self.chance);
        srv.of = of;
        if let Some(proc) = &mut srv.redis.proc
            && of.is_some()
        {
            proc.of = Some(Follows::Peer);
        }
        srv.linked = false;
        srv.down_since = None;
        srv.heard = now;
        srv.life += 1;
        let keys = srv.redis.proc.as_ref().map_or(0, |p| p.data.len());
        self.say(|| format!("server {s} starts, follows {of:?}, {keys} keys"));
        self.look_at_links();
    }

    pub(super) fn server_kill(&mut self, s: usize) {
        let Some(proc) = self.servers[s].redis.proc.take() else {
            return;
        };
        self.say(|| format!("server {s} dies"));
        self.servers[s].frozen = false;
        self.servers[s].of = None;
        self.servers[s].writes.clear();
        self.end_streams(s, proc.run);
        let ids: Vec<u64> = self.wires_to(Target::Server(s)).collect();
        for id in ids {
            self.hang_up(id);
        }
        self.writer_cut(s);
    }

    pub(super) fn server_freeze(&mut self, s: usize) {
        if self.servers[s].redis.proc.is_some() {
            self.servers[s].frozen = true;
            self.say(|| format!("server {s} freezes"));
        }
    }

    pub(super) fn server_thaw(&mut self, s: usize) {
        if !std::mem::replace(&mut self.servers[s].frozen, false) {
            return;
        }
        self.say(|| format!("server {s} thaws"));
        self.read_waiting(s);
        self.writes_waiting(s);
        self.look_at_links();
    }

    /// CLIENT PAUSE ran out, or was lifted.
    pub(super) fn unpaused(&mut self, s: usize) {
        let now = self.now;
        let over = self.servers[s]
            .redis
            .proc
            .as_ref()
            .is_some_and(|p| p.paused_until <= now);
        if !over || self.servers[s].frozen {
            return;
        }
        let ids: Vec<u64> = self.wires_to(Target::Server(s)).collect();
        for id in ids {
            if let Some(wire) = self.wires.get_mut(&id) {
                wire.held = false;
            }
        }
        self.read_waiting(s);
        self.writes_waiting(s);
    }

    /// Once a second: files, and links over which nothing came for too long.
    pub(super) fn upkeep(&mut self) {
        let now = self.now;
        for s in 0..SERVERS {
            let limit = self.plan.repl_timeout;
            let srv = &mut self.servers[s];
            if srv.redis.proc.is_none() || srv.frozen {
                continue;
            }
            srv.redis.fsync();
            let loading = srv.redis.proc.as_ref().is_some_and(|p| p.is_loading(now));
            if srv.redis.persistence == Persistence::Rdb && !loading && self.chance.percent(40) {
                srv.redis.save();
            }
            let linked = srv.redis.proc.as_ref().is_some_and(|p| p.link_up());
            if linked && now.saturating_sub(srv.heard) > limit {
                srv.redis.link_lost(now);
                self.note_link(s);
                self.after(MS, Ev::Link(s));
            }
        }
        self.after(SEC, Ev::Upkeep);
    }

    /// Notes since when a link is down.
    pub(super) fn note_link(&mut self, s: usize) {
        let now = self.now;
        let srv = &mut self.servers[s];
        let up = srv.redis.proc.as_ref().is_some_and(|p| p.link_up());
        if up {
            srv.linked = true;
            srv.down_since = None;
        } else {
            srv.down_since.get_or_insert(now);
        }
    }
}
