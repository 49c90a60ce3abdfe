//! Redis as the keeper meets it: lineages, offsets, backlog, replication and what a restart forgets.
//!
//! The rules are those of replication.c and rdb.c of Redis 7.0: when a lineage is renamed
//! (promotion, first replica of a server without backlog, restart), when a stream can be continued
//! (PSYNC by the first or the second lineage within the backlog), what an RDB carries that an AOF
//! does not, and that a full resync first forgets the cached primary and only then has new data.
//! `tests/real_redis.rs` runs random scripts on this model and on two real servers.
//!
//! Left out: chains of replicas, because a pair has none, and expiry.

use std::collections::VecDeque;

use crate::chance::{Chance, MS, SEC, Us};
use crate::data::Data;

/// Bytes of one client write in the stream.
pub const WRITE_BYTES: u64 = 60;
/// Bytes of the SELECT that precedes the first write of a primary.
const SELECT_BYTES: u64 = 23;
/// Bytes of the PING that a primary sends its replicas.
const PING_BYTES: u64 = 14;
/// A refused or failed replication link is tried again after this.
pub(crate) const RETRY: Us = SEC;

/// What a server keeps on disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Persistence {
    /// Nothing, apart from the RDB file that a full resync leaves behind.
    None,
    /// A snapshot now and then.
    Rdb,
    /// An append-only file with fsync once a second.
    Aof,
}

/// One piece of the stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A client's write.
    Write(u32),
    /// The primary's sign of life.
    Ping,
    /// The choice of a database.
    Select,
}

/// A piece with its place: the offset after it and its length.
#[derive(Clone, Copy, Debug)]
pub struct Entry {
    /// Offset of its last byte.
    pub end: u64,
    /// Bytes.
    pub len: u64,
    /// What.
    pub kind: Kind,
}

/// The recent stream.
#[derive(Clone, Debug)]
pub struct Backlog {
    /// Offset of its first byte.
    pub start: u64,
    /// What it holds.
    pub entries: VecDeque<Entry>,
    bytes: u64,
}

impl Backlog {
    fn at(offset: u64) -> Self {
        Self {
            start: offset + 1,
            entries: VecDeque::new(),
            bytes: 0,
        }
    }

    fn push(&mut self, entry: Entry, limit: u64) {
        self.bytes += entry.len;
        self.entries.push_back(entry);
        while self.bytes > limit
            && let Some(old) = self.entries.pop_front()
        {
            self.bytes -= old.len;
            self.start += old.len;
        }
    }
}

/// Where a server was told to replicate from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Target {
    /// `127.0.0.1:1`, where nobody listens.
    Fence,
    /// The other host's server.
    Peer,
}

/// The bytes between a primary and its replica: what has been sent and not yet been read.
#[derive(Clone, Debug)]
pub struct Conn {
    /// The primary process at the other end.
    pub source: u64,
    /// In order, each with the instant at which it can be read.
    pub queue: VecDeque<(Us, Entry)>,
    /// The end of the stream follows the queue at this instant.
    pub fin: Option<Us>,
    /// The other end vanished without a word; the link ends by its timeout.
    pub mute_since: Option<Us>,
    /// After a sync without a disk: the primary holds the stream back, with what it would have sent, until
    /// an acknowledgement arrives.
    pub held: Option<Vec<Entry>>,
    /// The offset that the primary was told last, and when; `None` before the first time.
    pub acked: Option<(u64, Us)>,
}

impl Conn {
    /// A connection to this primary process on which nothing was sent yet.
    pub fn to(source: u64) -> Self {
        Self {
            source,
            queue: VecDeque::new(),
            fin: None,
            mute_since: None,
            held: None,
            acked: None,
        }
    }
}

/// The state of a server's own replication.
#[derive(Clone, Debug)]
pub enum Link {
    /// It is a primary.
    None,
    /// To be tried at this instant.
    Down(Us),
    /// A full resync is being received, and complete at `done`.
    Full {
        /// The stream that follows the snapshot.
        conn: Conn,
        /// When the snapshot is there.
        done: Us,
        /// It has arrived and is being read until then.
        loading: bool,
        /// What is sent.
        snapshot: Box<Snapshot>,
    },
    /// Following.
    Up(Conn),
}

/// A data set with its place in a lineage.
#[derive(Clone, Debug)]
pub struct Snapshot {
    /// The keys.
    pub data: Data,
    /// Lineage and offset, unless the server had none to speak of.
    pub place: Option<(u64, u64)>,
}

/// A running server process.
#[derive(Clone, Debug)]
pub struct Proc {
    /// Process id and run id at once: never used twice.
    pub run: u64,
    /// When it started.
    pub started: Us,
    /// Lineage.
    pub replid: u64,
    /// The lineage before; 0 for none.
    pub replid2: u64,
    /// The first offset that is not `replid2`'s; 0 for none.
    pub second: u64,
    /// Bytes of stream produced or applied.
    pub offset: u64,
    /// The recent stream.
    pub backlog: Option<Backlog>,
    /// Keys.
    pub data: Data,
    /// Whom it follows; `None` is a primary.
    pub of: Option<Target>,
    /// How that goes.
    pub link: Link,
    /// Where a partial resync would start.
    pub cached: Option<(u64, u64)>,
    /// Reads its data until then.
    pub loading_until: Us,
    /// Writes are paused until then.
    pub paused_until: Us,
    /// Syncs given to replicas.
    pub syncs: u64,
    need_select: bool,
}

impl Proc {
    /// It accepts writes.
    pub fn is_primary(&self) -> bool {
        self.of.is_none()
    }

    /// It reads its data.
    pub fn is_loading(&self, now: Us) -> bool {
        now < self.loading_until || matches!(self.link, Link::Full { loading: true, .. })
    }

    /// It follows and is not syncing.
    pub fn link_up(&self) -> bool {
        matches!(self.link, Link::Up(_))
    }
}

/// One host's server: its disk, and its process while there is one.
#[derive(Clone, Debug)]
pub struct Server {
    /// What it keeps.
    pub persistence: Persistence,
    /// Bytes of stream it remembers.
    pub backlog_limit: u64,
    /// The snapshot file.
    pub rdb: Option<Snapshot>,
    /// The append-only file as the kernel has it.
    pub aof: Option<Data>,
    /// The append-only file as the disk has it.
    pub aof_synced: Option<Data>,
    /// The process.
    pub proc: Option<Proc>,
}

/// How PSYNC is answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Psync {
    /// `+CONTINUE`.
    Partial,
    /// `+FULLRESYNC`.
    Full,
    /// `-LOADING`, `-NOMASTERLINK` or nobody there: tried again.
    Later,
}

impl Server {
    /// A server that has never run.
    pub fn new(persistence: Persistence, backlog_limit: u64) -> Self {
        Self {
            persistence,
            backlog_limit,
            rdb: None,
            aof: None,
            aof_synced: None,
            proc: None,
        }
    }

    /// Starts the process; `fenced` is `replicaof 127.0.0.1 1` in its configuration.
    pub fn start(&mut self, fenced: bool, loading: Us, now: Us, chance: &mut Chance) {
        let mut proc = Proc {
            run: chance.name(),
            started: now,
            replid: chance.name(),
            replid2: 0,
            second: 0,
            offset: 0,
            backlog: None,
            data: Data::default(),
            of: fenced.then_some(Target::Fence),
            link: if fenced { Link::Down(now) } else { Link::None },
            cached: None,
            loading_until: now,
            paused_until: 0,
            syncs: 0,
            need_select: true,
        };
        match (self.persistence, &self.aof, &self.rdb) {
            (Persistence::Aof, Some(data), _) => proc.data = data.clone(),
            (Persistence::Aof, None, _) => {}
            (Persistence::None | Persistence::Rdb, _, Some(rdb)) => {
                proc.data = rdb.data.clone();
                if let Some((replid, offset)) = rdb.place {
                    proc.offset = offset;
                    proc.backlog = Some(Backlog::at(offset));
                    if fenced {
                        proc.replid = replid;
                        proc.cached = Some((replid, offset));
                    } else {
                        proc.replid2 = replid;
                        proc.second = offset + 1;
                    }
                }
            }
            (Persistence::None | Persistence::Rdb, _, None) => {}
        }
        if !proc.data.is_empty() {
            proc.loading_until = now + loading;
        }
        if self.persistence == Persistence::Aof && self.aof.is_none() {
            self.aof = Some(Data::default());
            self.aof_synced = Some(Data::default());
        }
        // replicationCacheMasterUsingMyself at start is only reached with an RDB's place.
        self.proc = Some(proc);
    }

    /// What a restart would find, after the process or after the whole host died.
    pub fn survivors(&self, power_off: bool) -> Data {
        match self.persistence {
            Persistence::Aof => if power_off {
                &self.aof_synced
            } else {
                &self.aof
            }
            .clone()
            .unwrap_or_default(),
            Persistence::None | Persistence::Rdb => self
                .rdb
                .as_ref()
                .map(|r| r.data.clone())
                .unwrap_or_default(),
        }
    }

    /// Writes a snapshot, as far as it would carry the lineage (rdbPopulateSaveInfo).
    pub fn save(&mut self) {
        let Some(proc) = &self.proc else { return };
        let known = match (&proc.of, &proc.link) {
            (None, _) => proc.backlog.is_some(),
            (Some(_), Link::Up(_)) => true,
            (Some(_), Link::None | Link::Down(_) | Link::Full { .. }) => proc.cached.is_some(),
        };
        self.rdb = Some(Snapshot {
            data: proc.data.clone(),
            place: known.then_some((proc.replid, proc.offset)),
        });
    }

    /// The fsync that runs once a second.
    pub fn fsync(&mut self) {
        if self.aof_synced != self.aof {
            self.aof_synced.clone_from(&self.aof);
        }
    }

    /// `REPLICAOF`. True when the replicas attached here are cut off.
    pub fn replicaof(&mut self, to: Option<Target>, now: Us, chance: &mut Chance) -> bool {
        let Some(proc) = &mut self.proc else {
            return false;
        };
        match to {
            None => {
                if proc.of.is_none() {
                    return false;
                }
                proc.of = None;
                proc.link = Link::None;
                proc.cached = None;
                proc.replid2 = proc.replid;
                proc.second = proc.offset + 1;
                proc.replid = chance.name();
                proc.need_select = true;
                true
            }
            Some(target) => {
                if proc.of == Some(target) {
                    return false;
                }
                let was_primary = proc.of.is_none();
                proc.of = Some(target);
                if matches!(proc.link, Link::Up(_)) {
                    proc.cached = Some((proc.replid, proc.offset));
                }
                if was_primary {
                    proc.cached = Some((proc.replid, proc.offset));
                    if proc.backlog.is_none() {
                        proc.backlog = Some(Backlog::at(proc.offset));
                    }
                }
                proc.link = Link::Down(now);
                false
            }
        }
    }

    /// A client's write, if this server takes it; `None` when it is read-only.
    pub fn write(&mut self, id: u32) -> Option<Vec<Entry>> {
        let aof = self.persistence == Persistence::Aof;
        let proc = self.proc.as_mut().filter(|p| p.of.is_none())?;
        proc.data.insert(id);
        if aof && let Some(file) = &mut self.aof {
            file.insert(id);
        }
        let mut fed = Vec::new();
        if proc.backlog.is_some() {
            if proc.need_select {
                proc.need_select = false;
                fed.push(Kind::Select);
            }
            fed.push(Kind::Write(id));
        }
        Some(self.feed(&fed))
    }

    /// The primary's PING to its replicas.
    pub fn ping(&mut self) -> Vec<Entry> {
        match &self.proc {
            Some(proc) if proc.of.is_none() && proc.backlog.is_some() => self.feed(&[Kind::Ping]),
            Some(_) | None => Vec::new(),
        }
    }

    fn feed(&mut self, kinds: &[Kind]) -> Vec<Entry> {
        let limit = self.backlog_limit;
        let Some(proc) = &mut self.proc else {
            return Vec::new();
        };
        let mut entries = Vec::with_capacity(kinds.len());
        for kind in kinds {
            let len = match kind {
                Kind::Write(_) => WRITE_BYTES,
                Kind::Ping => PING_BYTES,
                Kind::Select => SELECT_BYTES,
            };
            proc.offset += len;
            let entry = Entry {
                end: proc.offset,
                len,
                kind: *kind,
            };
            if let Some(backlog) = &mut proc.backlog {
                backlog.push(entry, limit);
            }
            entries.push(entry);
        }
        entries
    }

    /// Answers `PSYNC replid offset+1`, or `PSYNC ? -1`. With [`Psync::Partial`], the rest of the stream.
    pub fn psync(
        &mut self,
        from: Option<(u64, u64)>,
        replicas: usize,
        now: Us,
        chance: &mut Chance,
    ) -> (Psync, Vec<Entry>) {
        let Some(proc) = &mut self.proc else {
            return (Psync::Later, Vec::new());
        };
        if proc.is_loading(now) || proc.of.is_some() {
            return (Psync::Later, Vec::new());
        }
        if let (Some((replid, offset)), Some(backlog)) = (from, &proc.backlog) {
            let next = offset + 1;
            let known = replid == proc.replid
                || (replid == proc.replid2 && replid != 0 && next <= proc.second);
            if known && next >= backlog.start && next <= backlog.start + backlog.bytes {
                let rest = backlog.entries.iter().filter(|e| e.end > offset);
                let rest = rest.copied().collect();
                proc.syncs += 1;
                return (Psync::Partial, rest);
            }
        }
        if replicas == 0 && proc.backlog.is_none() {
            proc.replid = chance.name();
            proc.replid2 = 0;
            proc.second = 0;
            proc.backlog = Some(Backlog::at(proc.offset));
        }
        proc.need_select = true;
        proc.syncs += 1;
        (Psync::Full, Vec::new())
    }

    /// The replica's side of `+CONTINUE`.
    pub fn continued(&mut self, replid: u64, conn: Conn) {
        let Some(proc) = &mut self.proc else { return };
        if let Some((old, _)) = proc.cached.take()
            && old != replid
        {
            proc.replid2 = old;
            proc.second = proc.offset + 1;
            proc.replid = replid;
        }
        if proc.backlog.is_none() {
            proc.backlog = Some(Backlog::at(proc.offset));
        }
        proc.link = Link::Up(conn);
    }

    /// The replica has read the whole snapshot.
    pub fn resynced(&mut self, snapshot: Snapshot, conn: Conn) {
        self.rdb = Some(snapshot.clone());
        if self.persistence == Persistence::Aof {
            self.aof = Some(snapshot.data.clone());
            self.aof_synced = Some(snapshot.data.clone());
        }
        let Some(proc) = &mut self.proc else { return };
        let (replid, offset) = snapshot.place.expect("a full resync has a place");
        proc.data = snapshot.data;
        proc.replid = replid;
        proc.offset = offset;
        proc.replid2 = 0;
        proc.second = 0;
        proc.cached = None;
        proc.backlog = Some(Backlog::at(offset));
        proc.link = Link::Up(conn);
    }

    /// The replica applies one piece of its primary's stream.
    pub fn apply(&mut self, entry: Entry) {
        let limit = self.backlog_limit;
        let aof = self.persistence == Persistence::Aof;
        let Some(proc) = &mut self.proc else { return };
        if entry.end <= proc.offset {
            return;
        }
        proc.offset = entry.end;
        if let Kind::Write(id) = entry.kind {
            proc.data.insert(id);
            if aof && let Some(file) = &mut self.aof {
                file.insert(id);
            }
        }
        if let Some(backlog) = &mut proc.backlog {
            backlog.push(entry, limit);
        }
    }

    /// The link is gone; what was reached is remembered for a partial resync.
    pub fn link_lost(&mut self, now: Us) {
        let Some(proc) = &mut self.proc else { return };
        if matches!(proc.link, Link::Up(_)) {
            proc.cached = Some((proc.replid, proc.offset));
        }
        if proc.of.is_some() {
            proc.link = Link::Down(now + MS);
        }
    }

    /// The link could not be made; tried again later.
    pub fn link_refused(&mut self, now: Us) {
        if let Some(proc) = &mut self.proc
            && proc.of.is_some()
        {
            proc.link = Link::Down(now + RETRY);
        }
    }
}
