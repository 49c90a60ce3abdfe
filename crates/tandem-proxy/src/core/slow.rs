//! Measuring answers, and SLOWLOG: the proxy's own, about what its clients waited for, not what servers worked on.

use std::sync::Arc;
use std::time::Instant;

use super::desk::Desk;
use super::intake::Taken;
use super::lane::Lane;
use super::slots::{Owner, Stamp};
use super::{Core, text};
use crate::command::{self, Command};
use crate::frame::{Limits, Request, Scan};
use crate::slowlog::SlowLog;
use crate::statistics::ServerCounters;

/// Entries that SLOWLOG GET gives by itself, as Redis.
const NEWEST: usize = 10;

/// Of what one server answers in one turn, this many are noted at most. A request that holds a server up is answered before those
/// that waited behind it; under a load at which everything is slow, noting each would make it slower still.
const NOTED: u8 = 8;

/// Answers one after the other to the same command that took the same time, as those of one turn do: counted together.
#[derive(Debug, Default)]
pub(super) struct Run {
    stamp: Stamp,
    answers: u32,
    /// They took so long that they are to be noted.
    slow: bool,
    /// How many were, of these and of those before.
    noted: u8,
}

impl Run {
    /// The oldest request of a lane is about to be answered.
    #[inline(always)]
    pub(super) fn measure(&mut self, lane: &Lane, desk: &Desk) {
        let owner = desk.slots[lane.first].owner;
        if lane.extra_ms != 0 || !matches!(owner, Owner::Client(_) | Owner::Part { .. }) {
            // What blocks takes as long as it was asked to; what the proxy asks nobody waits for.
            return;
        }
        let stamp = desk.slots.stamp(lane.first);
        if stamp != self.stamp || self.answers == 0 {
            self.begin(stamp, &lane.counters, desk);
        }
        self.answers += 1;
        if self.slow && self.noted < NOTED {
            self.noted += 1;
            note(lane, desk, desk.now_us.wrapping_sub(stamp.at_us));
        }
    }

    fn begin(&mut self, stamp: Stamp, counters: &ServerCounters, desk: &Desk) {
        self.end(counters, desk);
        self.stamp = stamp;
        let took_us = desk.now_us.wrapping_sub(stamp.at_us);
        let slow = |log: &Arc<SlowLog>| took_us >= log.threshold_us;
        self.slow = counters.slow.as_ref().is_some_and(slow);
    }

    /// Counts them.
    #[inline]
    pub(super) fn end(&mut self, counters: &ServerCounters, desk: &Desk) {
        let answers = std::mem::take(&mut self.answers);
        if answers > 0 {
            let took_us = desk.now_us.wrapping_sub(self.stamp.at_us);
            counters.latency.record(took_us, answers);
            counters
                .commands
                .record(self.stamp.command, took_us, answers);
        }
    }
}

/// A reply that waited for replicas is about to be passed on. Its request is not kept any more.
pub(super) fn measure_acknowledged(counters: &ServerCounters, desk: &Desk, slot: u32) {
    let stamp = desk.slots.stamp(slot);
    let took_us = desk.now_us.wrapping_sub(stamp.at_us);
    counters.latency.record(took_us, 1);
    counters.commands.record(stamp.command, took_us, 1);
    if let Some(log) = &counters.slow
        && took_us >= log.threshold_us
    {
        note_name(log, &counters.name, stamp.command, took_us, desk.now);
    }
}

#[cold]
fn note_name(log: &SlowLog, server: &str, command: u16, took_us: u32, now: Instant) {
    let words = command::name_of(command).map(str::as_bytes).into_iter();
    log.note(now, took_us, server, words, 1);
}

#[cold]
fn note(lane: &Lane, desk: &Desk, took_us: u32) {
    let Some(log) = &lane.counters.slow else {
        return;
    };
    let (slots, now) = (&desk.slots, desk.now);
    let bytes = lane.ring.oldest(slots[lane.first].len as usize);
    let mut scan = Scan::default();
    let name = &lane.counters.name;
    if bytes.is_empty() || !matches!(scan.advance(&bytes, &Limits::CLIENT), Ok(Some(_))) {
        // Too large to be kept.
        note_name(log, name, slots.stamp(lane.first).command, took_us, now);
        return;
    }
    let request = scan.request(&bytes);
    let words = request.arguments().map(|argument| argument.value);
    log.note(now, took_us, name, words, request.count());
}

impl Core {
    /// SLOWLOG GET, LEN and RESET.
    pub(super) fn slowlog(
        &mut self,
        index: u32,
        command: &'static Command,
        request: &Request<'_>,
    ) -> Taken {
        let pool = self.desk.clients[index as usize].pool;
        let Some(log) = self.pools[pool as usize].setup.counters.slow.clone() else {
            self.desk.say(
                index,
                b"-ERR this proxy keeps no slow log: slowlog_slower_than is off\r\n",
            );
            return Taken::Yes;
        };
        let mut reply = Vec::new();
        match command.name {
            "slowlog|len" => reply = format!(":{}\r\n", log.len()).into_bytes(),
            "slowlog|reset" => {
                log.reset();
                reply.extend_from_slice(b"+OK\r\n");
            }
            _ => {
                let wanted = match request.argument(2) {
                    None => Some(NEWEST),
                    Some(b"-1") => Some(usize::MAX),
                    Some(number) => std::str::from_utf8(number)
                        .ok()
                        .and_then(|number| number.parse().ok()),
                };
                match wanted {
                    Some(wanted) => entries(&log, wanted, &mut reply),
                    None => reply.extend_from_slice(text::NOT_INTEGER),
                }
            }
        }
        self.desk.say(index, &reply);
        Taken::Yes
    }
}

/// As Redis shows them; where Redis has the client's address there is the server that was asked, and no name.
fn entries(log: &SlowLog, wanted: usize, reply: &mut Vec<u8>) {
    let entries = log.newest(wanted);
    tandem_resp::write_array_header(entries.len(), reply);
    for entry in entries {
        tandem_resp::write_array_header(6, reply);
        for number in [entry.id, entry.at_s, u64::from(entry.took_us)] {
            reply.extend_from_slice(format!(":{number}\r\n").as_bytes());
        }
        tandem_resp::write_array_header(entry.words.len(), reply);
        for word in &entry.words {
            tandem_resp::write_bulk(word, reply);
        }
        tandem_resp::write_bulk(entry.server.as_bytes(), reply);
        tandem_resp::write_bulk(b"", reply);
    }
}
