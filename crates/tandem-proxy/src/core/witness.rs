//! Where in its history a server was, known from time to time: what a later proof begins from.
//!
//! While requests go to a group's primary it is asked, at most every [`EVERY_MS`], which history it writes (L) and how far
//! that has come (O). The question travels on a lane behind requests that go there anyway and costs no write of its own.
//! Once the answer is read, whatever is handed over from then on to any connection of this server is executed after O,
//! if it is executed at all; so each lane marks how much it had handed over at that moment.

use std::collections::VecDeque;
use std::sync::Arc;

use super::Core;
use super::lane::{Lane, State};
use super::slots::{NONE, Owner, Slot, Wait};
use crate::settings::Address;
use crate::tail::Question;
use crate::topology::Fork;

/// Between an answer and the next question.
pub(super) const EVERY_MS: u64 = 20;
/// While an answer is awaited.
const WAITS: u64 = u64::MAX - 1;
/// So many samples are remembered. What has waited for longer than these cover is not proven.
const KEPT: usize = 8;
/// Both of what has to be known, in one answer that belongs together.
pub(super) const QUESTION: &[u8] = b"*2\r\n$4\r\nINFO\r\n$11\r\nreplication\r\n";
/// Digits of the name of a history.
const NAME: usize = 40;

/// A place in a history.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Sample {
    /// Which history (`master_replid`).
    pub(super) lineage: [u8; NAME],
    /// How far it had come, in bytes.
    pub(super) offset: u64,
}

/// What a lane had handed over when a sample was read.
#[derive(Debug, Clone, Copy)]
pub(super) struct Mark {
    sample: Sample,
    handed: u64,
}

/// What is known of one server of a pool.
#[derive(Debug, Default)]
pub(super) struct Witness {
    /// The newest is the last.
    samples: VecDeque<Sample>,
    /// The last primary that its group had.
    pub(super) primary: Option<Address>,
    /// The host that it was on, where that is told.
    pub(super) host: Arc<str>,
    /// Where a primary of it last left an older history.
    pub(super) fork: Option<Fork>,
    /// When that was said.
    pub(super) epoch: u64,
    /// Grows when its group gets another one.
    pub(super) era: u32,
    /// A history that is being read, and until when it is waited for.
    pub(super) reading: Option<Reading>,
    /// Counts those.
    pub(super) readings: u32,
}

/// A question to the shell.
#[derive(Debug)]
pub(super) struct Reading {
    pub(super) number: u32,
    pub(super) question: Question,
    pub(super) until_ms: u64,
}

impl Witness {
    /// Whether the primary that was asked last is the one that left nothing beyond this fork.
    pub(super) fn ended_at(&self, fork: &Fork) -> bool {
        let newest = self.samples.back();
        fork.whole && newest.is_some_and(|it| it.lineage == fork.parent.as_bytes())
    }

    /// What was known for certain a while ago: an answer that was due before this sample has long been written.
    pub(super) fn before_last(&self) -> Option<Sample> {
        let before = self.samples.len().checked_sub(2)?;
        self.samples.get(before).copied()
    }
}

impl Lane {
    /// The newest sample that was read before the request was handed over whose last byte is the one before `end`,
    /// counted as [`Lane::handed`] counts.
    pub(super) fn sample_before(&self, end: u64) -> Option<Sample> {
        let marks = self.marks.iter().rev();
        marks
            .filter(|mark| mark.handed < end)
            .map(|mark| mark.sample)
            .next()
    }

    fn mark(&mut self, sample: Sample) {
        if self.marks.len() == KEPT {
            self.marks.pop_front();
        }
        let handed = self.handed;
        self.marks.push_back(Mark { sample, handed });
    }
}

impl Core {
    /// Asks a server where it is, behind what is about to be sent on this lane.
    #[cold]
    #[inline(never)]
    pub(super) fn ask_where(&mut self, index: u32) {
        let lane = &mut self.lanes[index as usize];
        if lane.state != State::Ready || lane.held.is_some() || lane.ring.unsent() == 0 {
            return;
        }
        lane.ring.push(QUESTION);
        let slot = self.desk.slots.take(Slot {
            owner: Owner::Witness,
            wait: Wait::Lane,
            next_in_lane: NONE,
            next_of_client: NONE,
            len: QUESTION.len() as u32,
            since: self.now_ms as u32,
        });
        lane.enqueue(slot, &mut self.desk.slots);
        let (pool, server) = (lane.pool, lane.server);
        self.ask_from(pool, server, WAITS);
    }

    /// No question to this server before this time.
    pub(super) fn ask_from(&mut self, pool: u32, server: u32, at_ms: u64) {
        for lane in &mut self.lanes {
            let asks = lane.ask_at_ms != u64::MAX;
            if asks && lane.pool == pool && lane.server == server {
                lane.ask_at_ms = at_ms;
            }
        }
    }

    /// An answer was read on this lane, and nothing was handed over since.
    #[cold]
    #[inline(never)]
    pub(super) fn witnessed(&mut self, index: u32) {
        let reply = std::mem::take(&mut self.desk.witnessed);
        let sample = parse(&reply);
        let refused = reply.first() == Some(&b'-');
        self.desk.spare.give(reply);
        let lane = &self.lanes[index as usize];
        let (pool, server) = (lane.pool, lane.server);
        self.ask_from(pool, server, self.now_ms + EVERY_MS);
        if refused {
            // Its user may not ask that.
            self.lanes[index as usize].ask_at_ms = u64::MAX;
        }
        let Some(sample) = sample else { return };
        let Some(witness) = self.pools[pool as usize].witnesses.get_mut(server as usize) else {
            return;
        };
        if witness.samples.len() == KEPT {
            witness.samples.pop_front();
        }
        witness.samples.push_back(sample);
        for lane in &mut self.lanes {
            if lane.pool == pool && lane.server == server && lane.state == State::Ready {
                lane.mark(sample);
            }
        }
    }
}

/// Whether a server says that it is no primary, or one that was promoted in the place of that which wrote `lineage`: then
/// the word on that is still to come.
pub(super) fn is_another(reply: &[u8], lineage: &[u8; NAME]) -> bool {
    let says = |text: &[u8]| memchr::memmem::find(reply, text).is_some();
    says(b"\r\nrole:slave\r\n") || says(&[b"\r\nmaster_replid2:", &lineage[..]].concat())
}

/// What a primary says of itself. None: it is none, or does not say.
fn parse(reply: &[u8]) -> Option<Sample> {
    let text = std::str::from_utf8(reply).ok()?;
    let (mut primary, mut lineage, mut offset) = (false, None, None);
    for line in text.split("\r\n") {
        // In RESP3 the first line begins behind `txt:`.
        let line = line.strip_prefix("txt:").unwrap_or(line);
        match line.split_once(':') {
            Some(("role", role)) => primary = role == "master",
            Some(("master_replid", name)) => {
                lineage = <[u8; NAME]>::try_from(name.as_bytes()).ok();
            }
            Some(("master_repl_offset", number)) => offset = number.parse().ok(),
            Some(_) | None => {}
        }
    }
    let (lineage, offset) = lineage.zip(offset)?;
    primary.then_some(Sample { lineage, offset })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_primary_that_names_its_history_is_a_witness() {
        let name = "0123456789abcdef0123456789abcdef01234567";
        let said = |role: &str, name: &str| {
            format!(
                "# Replication\r\nrole:{role}\r\nconnected_slaves:1\r\nmaster_failover_state:no-failover\r\n\
                 master_replid:{name}\r\nmaster_replid2:{}\r\nmaster_repl_offset:4711\r\nsecond_repl_offset:-1\r\n",
                "0".repeat(40)
            )
        };
        let expected = Some(Sample {
            lineage: *b"0123456789abcdef0123456789abcdef01234567",
            offset: 4711,
        });
        let bulk = |text: &str| format!("${}\r\n{text}\r\n", text.len()).into_bytes();
        assert_eq!(parse(&bulk(&said("master", name))), expected);
        let verbatim = format!("=400\r\ntxt:{}\r\n", said("master", name));
        assert_eq!(parse(verbatim.as_bytes()), expected);
        assert_eq!(parse(&bulk(&said("slave", name))), None);
        assert_eq!(parse(&bulk(&said("master", "short"))), None);
        assert_eq!(parse(b"-NOPERM this user has no permissions\r\n"), None);
        assert_eq!(parse(b"$-1\r\n"), None);
        let named: [u8; NAME] = name.as_bytes().try_into().unwrap();
        assert!(is_another(&bulk(&said("slave", name)), &named));
        assert!(!is_another(&bulk(&said("master", name)), &named));
        assert!(is_another(&bulk(&said("master", name)), &[b'0'; NAME]));
    }

    #[test]
    fn the_question_is_what_a_client_would_ask() {
        let mut encoded = Vec::new();
        tandem_resp::encode_command(&["INFO", "replication"], &mut encoded);
        assert_eq!(QUESTION, encoded);
    }
}
