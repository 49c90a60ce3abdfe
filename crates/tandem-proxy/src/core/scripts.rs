//! Scripts that clients call by their digest: brought along where a server may not have them.
//!
//! A script is known to the one server that was given it, until that restarts or another one takes its place. So the bodies
//! that pass through, of SCRIPT LOAD and EVAL, are kept, within bounds; and before the first EVALSHA on each connection
//! to a server its script is loaded there, in the same pipeline. Loading it afterwards, when the server has said NOSCRIPT,
//! would be too late for a transaction and would turn the order of a client's requests round. Of a script that is not
//! known here NOSCRIPT is passed on, as a server would say it, and clients answer that with EVAL.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use sha1::{Digest as _, Sha1};

use super::Core;
use super::intake::Taken;
use super::scatter::{ANYWHERE, Shared};
use super::slots::{NONE, Owner, Slot, Wait};
use crate::command::Command;
use crate::frame::{Limits, Request, Scan};

/// A body longer than this is not kept.
const LONGEST: usize = 64 * 1024;
/// Bytes of bodies that are kept, per thread.
const KEPT: usize = 4 * 1024 * 1024;
/// Scripts that are kept, per thread; and digests that are remembered of a connection.
const MOST: usize = 4096;

/// SHA-1, as servers name scripts.
pub(super) type Name = [u8; 20];

/// The bodies that are known.
#[derive(Debug, Default)]
pub(super) struct Scripts {
    /// `SCRIPT LOAD body`, as it is sent.
    loads: BTreeMap<Name, Box<[u8]>>,
    /// From the one known for longest.
    order: VecDeque<Name>,
    bytes: usize,
    /// Bodies by a cheap hash, so that one that is known costs no digest.
    seen: BTreeSet<u64>,
}

impl Scripts {
    fn learn(&mut self, body: &[u8]) {
        if body.len() > LONGEST || !self.seen.insert(xxhash_rust::xxh3::xxh3_64(body)) {
            return;
        }
        if self.seen.len() > MOST {
            // What is forgotten costs a digest once more.
            self.seen.clear();
        }
        let name: Name = Sha1::digest(body).into();
        if self.loads.contains_key(&name) {
            return;
        }
        let mut load = Vec::with_capacity(body.len() + 40);
        tandem_resp::encode_command(&[&b"SCRIPT"[..], b"LOAD", body], &mut load);
        self.bytes += load.len();
        self.loads.insert(name, load.into());
        self.order.push_back(name);
        while self.bytes > KEPT || self.order.len() > MOST {
            let Some(oldest) = self.order.pop_front() else {
                break;
            };
            self.seen.clear();
            if let Some(load) = self.loads.remove(&oldest) {
                self.bytes -= load.len();
            }
        }
    }

    fn forget(&mut self) {
        *self = Self::default();
    }
}

impl Core {
    /// EVAL, EVALSHA and FCALL.
    pub(super) fn script(
        &mut self,
        index: u32,
        command: &'static Command,
        request: &Request<'_>,
    ) -> Taken {
        match command.name {
            "eval" | "eval_ro" => {
                self.scripts.learn(request.argument(1).unwrap_or_default());
            }
            "evalsha" | "evalsha_ro" => {
                let pool = self.desk.clients[index as usize].pool;
                let server = match self.servers_of_keys(index, command, request) {
                    Shared::At(server) | Shared::Apart(server) => Some(server),
                    Shared::Nowhere => self.server_for(pool, ANYWHERE),
                    Shared::Anywhere | Shared::Nobody => None,
                };
                if let Some(server) = server
                    && let Some(name) = called(request.bytes())
                    && let Some(load) = self.scripts.loads.get(&name)
                {
                    let bytes = load.len() + request.bytes().len();
                    let lane = self.lane_for(index, server);
                    if !self.open_for(lane, index, bytes) {
                        return Taken::Wait;
                    }
                    if self.shut(lane).is_none() {
                        self.bring_script(lane, request.bytes());
                    }
                }
            }
            _ => {}
        }
        self.together(index, command, request)
    }

    /// What SCRIPT LOAD and SCRIPT FLUSH mean for what is known here; they go to every server.
    pub(super) fn note_scripts(&mut self, command: &Command, request: &Request<'_>) {
        match command.name {
            "script|load" => self.scripts.learn(request.argument(2).unwrap_or_default()),
            "script|flush" => {
                self.scripts.forget();
                for lane in &mut self.lanes {
                    lane.loaded.clear();
                }
            }
            _ => {}
        }
    }

    /// If `bytes` call a script that this connection may not know and that is known here: loads it first.
    pub(super) fn bring_script(&mut self, index: u32, bytes: &[u8]) {
        let Some(name) = called(bytes) else { return };
        let Some(load) = self.scripts.loads.get(&name) else {
            return;
        };
        let lane = &mut self.lanes[index as usize];
        if lane.loaded.len() >= MOST {
            lane.loaded.clear();
        }
        if !lane.loaded.insert(name) {
            return;
        }
        lane.ring.push(load);
        let slot = self.desk.slots.take(Slot {
            owner: Owner::Script,
            wait: Wait::Lane,
            next_in_lane: NONE,
            next_of_client: NONE,
            len: load.len() as u32,
            since: self.now_ms as u32,
        });
        lane.enqueue(slot, &mut self.desk.slots);
    }
}

/// The script that a request calls by its digest.
fn called(bytes: &[u8]) -> Option<Name> {
    // Cheap first: this is asked of every request that is sent again, and of each of a transaction.
    let name = bytes.split(|&byte| byte == b'\n').nth(2)?;
    if !matches!(name.len(), 8 | 11) || !name[..7].eq_ignore_ascii_case(b"EVALSHA") {
        return None;
    }
    let mut scan = Scan::default();
    let Ok(Some(_)) = scan.advance(bytes, &Limits::CLIENT) else {
        return None;
    };
    let digest = scan.request(bytes).argument(1)?;
    let digits: &[u8; 40] = digest.try_into().ok()?;
    let mut name = [0; 20];
    for (byte, pair) in name.iter_mut().zip(digits.chunks_exact(2)) {
        let digit = |at: usize| char::from(pair[at]).to_digit(16);
        *byte = (digit(0)? << 4 | digit(1)?) as u8;
    }
    Some(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(words: &[&str]) -> Vec<u8> {
        let mut bytes = Vec::new();
        tandem_resp::encode_command(words, &mut bytes);
        bytes
    }

    #[test]
    fn digests_are_read_in_any_case_and_nothing_else_is() {
        let digest = "E0E1F9FABFC9D4800C877A703B823AC0578FF8DB";
        let name = called(&request(&["evalsha", digest, "0"])).unwrap();
        assert_eq!(name, <[u8; 20]>::from(Sha1::digest(b"return 1")));
        let read_only = called(&request(&["EVALSHA_RO", &digest.to_lowercase(), "0"]));
        assert_eq!(read_only, Some(name));
        assert_eq!(called(&request(&["EVALSHA", "short", "0"])), None);
        assert_eq!(called(&request(&["EVALSHA", &"g".repeat(40), "0"])), None);
        assert_eq!(called(&request(&["EVAL", digest, "0"])), None);
        assert_eq!(called(&request(&["GET", digest])), None);
        assert_eq!(called(b"*1\r\n"), None);
    }

    #[test]
    fn what_is_kept_has_bounds() {
        let mut scripts = Scripts::default();
        scripts.learn(&vec![b'x'; LONGEST + 1]);
        assert_eq!(scripts.bytes, 0);
        for number in 0..200 {
            let body = format!("{number}{}", "x".repeat(LONGEST - 10));
            scripts.learn(body.as_bytes());
            scripts.learn(body.as_bytes());
            assert!(scripts.bytes <= KEPT && scripts.order.len() == scripts.loads.len());
        }
        let kept: usize = scripts.loads.values().map(|load| load.len()).sum();
        assert_eq!(kept, scripts.bytes);
        for number in 0..2 * MOST {
            scripts.learn(number.to_string().as_bytes());
        }
        assert!(scripts.order.len() <= MOST && scripts.seen.len() <= MOST + 1);
        let last = (2 * MOST - 1).to_string();
        let name = <[u8; 20]>::from(Sha1::digest(last.as_bytes()));
        assert!(scripts.loads.contains_key(&name));
    }
}
