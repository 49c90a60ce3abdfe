//! The daemons' conversations in a run on bytes: dialling, handshake, frames, and every way they end.
//!
//! `tandem_core::conversation` has both machines; this is the network between them and the shell's part
//! of it: dialling again after a pause or at once when an advert is heard, only the newest statement is
//! kept, a connection that cannot hand its bytes over is given up, and so is one that said something
//! wrong. Bytes wait in the kernel of a frozen daemon and, within bounds, on the way through a cut.

use std::collections::{BTreeMap, VecDeque};
use std::hash::{DefaultHasher, Hash as _, Hasher as _};

use tandem_core::conversation::{Dialer, Listener};
use tandem_core::session::NONCE_BYTES;
use tandem_core::statement::Statement;

use crate::chance::{MS, SEC, Us};
use crate::wire::{Mangling, Wire};
use crate::world::{Ev, HOSTS, World, other};

/// Between attempts to dial.
pub(crate) const REDIAL_AFTER: Us = 100 * MS;
/// A handshake that takes longer is given up.
const UP_WITHIN: Us = 500 * MS;
/// Bytes that cannot be delivered for this long end the connection.
const STALLED_MAX: Us = SEC;
/// Frames that the kernels between two daemons hold.
const KERNELS_HOLD: usize = 64;
/// Bytes that wait are looked at this often.
const LOOK_AGAIN: Us = 20 * MS;
/// Old frames that are kept to be repeated.
const OLD_MAX: usize = 8;
/// Statements whose content is remembered for comparison.
const SAID_MAX: usize = 512;

/// What one host's daemon says to the other, and on what connection.
#[derive(Debug, Default)]
pub(crate) struct Talk {
    conn: Option<Conn>,
    conns: u64,
    dial_at: Us,
    newest: Option<Vec<u8>>,
    /// Version and content of what this daemon said.
    said: BTreeMap<(u64, u64), u64>,
    old: VecDeque<Vec<u8>>,
}

#[derive(Debug)]
struct Conn {
    name: u64,
    since: Us,
    /// The daemons at its ends: the dialer's, the listener's.
    ends: [u64; 2],
    dialer: Dialer,
    listener: Listener,
    /// To the dialer, to the listener: in order, with the instant of arrival.
    ways: [Way; 2],
    /// The newest version that was heard on it.
    heard: u64,
}

#[derive(Debug, Default)]
struct Way {
    queue: VecDeque<(Us, Vec<u8>)>,
    stalled: Option<Us>,
    /// The bytes end here; the reset follows.
    cut_off: bool,
}

const TO_DIALER: usize = 0;
const TO_LISTENER: usize = 1;

fn hash(bytes: &[u8]) -> u64 {
    let mut hasher = DefaultHasher::new();
    bytes.hash(&mut hasher);
    hasher.finish()
}

fn nonce(wire: &mut Wire) -> [u8; NONCE_BYTES] {
    let mut nonce = [0; NONCE_BYTES];
    for chunk in nonce.chunks_mut(8) {
        chunk.copy_from_slice(&wire.chance.name().to_be_bytes()[..chunk.len()]);
    }
    nonce
}

impl World {
    fn talk(&mut self, h: usize) -> Option<&mut Talk> {
        self.wire.as_mut().map(|wire| &mut wire.talks[h])
    }

    fn talk_conn(&mut self, h: usize, name: u64) -> Option<&mut Conn> {
        self.talk(h)?.conn.as_mut().filter(|conn| conn.name == name)
    }

    /// A daemon has started: nothing is left of what its predecessor said.
    pub(crate) fn talk_begins(&mut self, h: usize) {
        if let Some(talk) = self.talk(h) {
            talk.conn = None;
            talk.newest = None;
            talk.said.clear();
            self.dial_in(h, 0);
        }
    }

    fn dial_in(&mut self, h: usize, wait: Us) {
        let (at, inc) = (self.now + wait, self.inc(h));
        if let Some(talk) = self.talk(h) {
            talk.dial_at = at;
            self.after(wait, Ev::Dial { h, inc, at });
        }
    }

    /// An advert says that the network is there: dialled again at once.
    pub(crate) fn talk_redials(&mut self, h: usize) {
        let idle = self.talk(h).is_some_and(|talk| talk.conn.is_none());
        if idle {
            self.dial_in(h, 0);
        }
    }

    pub(crate) fn dial(&mut self, h: usize, inc: u64, at: Us) {
        let due = self
            .talk(h)
            .is_some_and(|talk| talk.dial_at == at && talk.conn.is_none());
        if !due || self.inc(h) != inc {
            return;
        }
        let now = self.now;
        let p = other(h);
        let frozen = self.hosts[h]
            .daemon
            .as_ref()
            .is_none_or(|d| d.frozen_since.is_some());
        let reaches = self.peer_path() && self.hosts[p].daemon.is_some();
        let ends = [inc, self.inc(p)];
        let Some(wire) = self.wire.as_mut().filter(|_| reaches && !frozen) else {
            self.dial_in(h, REDIAL_AFTER);
            return;
        };
        let nonces = [nonce(wire), nonce(wire)];
        let (own, peer) = (Self::host_id(h), Self::host_id(p));
        let secret = wire.secret.clone();
        let (dialer, hello) = Dialer::new(secret.clone(), own.clone(), peer.clone(), nonces[0]);
        let listener = Listener::new(peer, vec![own], Some(secret), nonces[1]);
        let talk = &mut wire.talks[h];
        talk.conns += 1;
        let name = talk.conns;
        talk.conn = Some(Conn {
            name,
            since: now,
            ends,
            dialer,
            listener,
            ways: [Way::default(), Way::default()],
            heard: 0,
        });
        self.talk_sends(h, TO_LISTENER, hello);
        self.after(UP_WITHIN, Ev::Talk { h, name });
    }

    /// What the daemon says from now on.
    pub(crate) fn talk_says(&mut self, h: usize, statement: &Statement) {
        let bytes = statement.encode();
        let Some(talk) = self.talk(h) else { return };
        talk.said
            .insert((statement.incarnation, statement.version), hash(&bytes));
        if talk.said.len() > SAID_MAX {
            talk.said.pop_first();
        }
        talk.newest = Some(bytes);
        self.talk_speaks(h);
    }

    /// The newest statement goes out, if there is a connection that is up.
    fn talk_speaks(&mut self, h: usize) {
        let Some(talk) = self.talk(h) else { return };
        if let (Some(conn), Some(newest)) = (&mut talk.conn, &talk.newest)
            && let Some(frame) = conn.dialer.say(newest)
        {
            talk.old.push_back(frame.clone());
            if talk.old.len() > OLD_MAX {
                talk.old.pop_front();
            }
            self.talk_sends(h, TO_LISTENER, frame);
        }
    }

    /// Puts bytes on the wire, where things happen to them.
    fn talk_sends(&mut self, h: usize, to: usize, mut bytes: Vec<u8>) {
        if bytes.is_empty() {
            return;
        }
        let lat = self.stream();
        let (now, faults) = (self.now, self.healed_at.is_none());
        let Some(wire) = self.wire.as_mut() else {
            return;
        };
        let mut cut_off = false;
        match wire.mangling().filter(|_| faults) {
            None => {}
            Some(Mangling::Changed) => wire.flip(&mut bytes, 0),
            Some(Mangling::Doubled) => bytes.extend(bytes.clone()),
            Some(Mangling::Repeated) => {
                let old = &wire.talks[h].old;
                let at = wire.chance.within(0, old.len() as u64);
                if let Some(frame) = old.get(usize::try_from(at).unwrap_or(0)) {
                    let behind = wire.chance.percent(50);
                    bytes = if behind {
                        [bytes, frame.clone()].concat()
                    } else {
                        [frame.clone(), bytes].concat()
                    };
                }
            }
            Some(Mangling::CutOff) => {
                let keep = wire.chance.within(0, bytes.len() as u64);
                bytes.truncate(usize::try_from(keep).unwrap_or(0));
                cut_off = true;
            }
        }
        let Some(conn) = &mut wire.talks[h].conn else {
            return;
        };
        let name = conn.name;
        let way = &mut conn.ways[to];
        if way.cut_off {
            return;
        }
        way.cut_off = cut_off;
        let at = way.queue.back().map_or(0, |(at, _)| *at).max(now + lat);
        way.queue.push_back((at, bytes));
        if way.queue.len() > KERNELS_HOLD {
            self.hang_up(h, name);
            return;
        }
        self.after(at - now, Ev::Talk { h, name });
    }

    /// Delivers what is due on a connection.
    pub(crate) fn talk_turn(&mut self, h: usize, name: u64) {
        for to in [TO_DIALER, TO_LISTENER] {
            while self.talk_delivers(h, name, to) {}
        }
        let now = self.now;
        let late = self
            .talk_conn(h, name)
            .is_some_and(|c| !c.dialer.is_up() && now >= c.since + UP_WITHIN);
        if late {
            self.hang_up(h, name);
        }
    }

    /// One piece, one way. False when nothing is due, or nothing can be delivered.
    fn talk_delivers(&mut self, h: usize, name: u64, to: usize) -> bool {
        let now = self.now;
        let path = self.peer_path();
        let receiver = if to == TO_LISTENER { other(h) } else { h };
        let inc = self.inc(receiver);
        let frozen = self.hosts[receiver]
            .daemon
            .as_ref()
            .is_some_and(|d| d.frozen_since.is_some());
        let Some(conn) = self.talk_conn(h, name) else {
            return false;
        };
        let end = conn.ends[if to == TO_LISTENER { 1 } else { 0 }];
        let way = &mut conn.ways[to];
        if way.queue.front().is_none_or(|(at, _)| *at > now) {
            return false;
        }
        if !path {
            let since = *way.stalled.get_or_insert(now);
            if now >= since + STALLED_MAX {
                self.hang_up(h, name);
            } else {
                self.after(LOOK_AGAIN, Ev::Talk { h, name });
            }
            return false;
        }
        way.stalled = None;
        if end != inc {
            // Nobody there: the kernel answers with a reset.
            self.hang_up(h, name);
            return false;
        }
        if frozen {
            self.after(LOOK_AGAIN, Ev::Talk { h, name });
            return false;
        }
        let Some((_, bytes)) = way.queue.pop_front() else {
            return false;
        };
        let cut_off = way.cut_off && way.queue.is_empty();
        if to == TO_LISTENER {
            self.listener_reads(h, name, &bytes);
        } else {
            self.dialer_reads(h, name, &bytes);
        }
        if cut_off {
            self.hang_up(h, name);
        }
        true
    }

    fn dialer_reads(&mut self, h: usize, name: u64, bytes: &[u8]) {
        let Some(conn) = self.talk_conn(h, name) else {
            return;
        };
        let was_up = conn.dialer.is_up();
        match conn.dialer.receive(bytes) {
            Ok(answer) => {
                let up = !was_up && conn.dialer.is_up();
                self.talk_sends(h, TO_LISTENER, answer);
                if up {
                    self.talk_speaks(h);
                }
            }
            Err(error) => {
                self.say(Some(h), || format!("dialled, but: {error}"));
                self.hang_up(h, name);
            }
        }
    }

    fn listener_reads(&mut self, h: usize, name: u64, bytes: &[u8]) {
        let p = other(h);
        let Some(conn) = self.talk_conn(h, name) else {
            return;
        };
        let turn = conn.listener.receive(bytes);
        self.talk_sends(h, TO_DIALER, turn.answer);
        for statement in turn.heard {
            self.check_heard(h, name, &statement);
            self.statement_arrives(p, Box::new(statement));
        }
        if let Some(error) = turn.ended {
            self.say(Some(p), || format!("a conversation ends: {error}"));
            self.hang_up(h, name);
        }
    }

    /// What was heard is what was said, and on one connection everything once and in order.
    fn check_heard(&mut self, h: usize, name: u64, statement: &Statement) {
        let content = hash(&statement.encode());
        let Some(talk) = self.talk(h) else { return };
        let said = talk.said.get(&(statement.incarnation, statement.version)) == Some(&content);
        let news = talk.conn.as_mut().is_some_and(|conn| {
            let news = conn.name == name && statement.version > conn.heard;
            conn.heard = statement.version;
            news
        });
        if !said || !news {
            let text = format!(
                "{} believes statement {} of {}, said so: {said}, for the first time: {news}",
                HOSTS[other(h)],
                statement.version,
                HOSTS[h]
            );
            self.broken("wire", text);
        }
    }

    /// A connection ends; its dialer tries again.
    fn hang_up(&mut self, h: usize, name: u64) {
        if self.talk_conn(h, name).is_none() {
            return;
        }
        let conn = self.talk(h).and_then(|talk| talk.conn.take());
        if conn.is_some_and(|conn| conn.listener.is_peer()) {
            let wait = self.stream();
            self.after(wait, Ev::PeerLost { to: other(h) });
        }
        self.dial_in(h, REDIAL_AFTER);
    }

    /// A daemon died: its kernel closes both connections. False in a run on values.
    pub(crate) fn talks_end(&mut self) -> bool {
        if self.wire.is_none() {
            return false;
        }
        for dialer in 0..2 {
            let conn = self.talk(dialer).and_then(|talk| talk.conn.as_ref());
            if let Some(name) = conn.map(|conn| conn.name) {
                self.hang_up(dialer, name);
            }
        }
        true
    }
}
