//! Measuring answers, and SLOWLOG: the proxy's own, about what its clients waited for, not what servers worked on.

use std::time::Instant;

use super::desk::Desk;
use super::intake::Taken;
use super::lane::Lane;
use super::slots::{Owner, Slots};
use super::{Core, text};
use crate::command::{self, Command};
use crate::frame::{Limits, Request, Scan};
use crate::slowlog::SlowLog;
use crate::statistics::ServerCounters;

/// Entries that SLOWLOG GET gives by itself, as Redis.
const NEWEST: usize = 10;

/// The oldest request of a lane is about to be answered.
#[inline(always)]
pub(super) fn measure(lane: &Lane, slots: &Slots, now_us: u32, now: Instant) {
    if lane.extra_ms != 0
        || !matches!(
            slots[lane.first].owner,
            Owner::Client(_) | Owner::Part { .. }
        )
    {
        // What blocks takes as long as it was asked to; what the proxy asks nobody waits for.
        return;
    }
    let stamp = slots.stamp(lane.first);
    let took_us = now_us.wrapping_sub(stamp.at_us);
    let counters = &lane.counters;
    counters.latency.record(took_us);
    counters.commands.record(stamp.command, took_us);
    if let Some(log) = &counters.slow
        && took_us >= log.threshold_us
    {
        note(log, lane, slots, took_us, now);
    }
}

/// A reply that waited for replicas is about to be passed on. Its request is not kept any more.
pub(super) fn measure_acknowledged(counters: &ServerCounters, desk: &Desk, slot: u32) {
    let stamp = desk.slots.stamp(slot);
    let took_us = desk.now_us.wrapping_sub(stamp.at_us);
    counters.latency.record(took_us);
    counters.commands.record(stamp.command, took_us);
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
fn note(log: &SlowLog, lane: &Lane, slots: &Slots, took_us: u32, now: Instant) {
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
