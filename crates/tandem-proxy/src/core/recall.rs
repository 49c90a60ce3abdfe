//! Answers that mean "not executed, ask the primary": taken back instead of passed on.
//!
//! A demoted server goes on answering: writes with READONLY, reads with what it last knew. When a request of a client is
//! taken back, what the same client asked after it is taken back too, so that it sees its own writes, as long as that
//! only reads. If a later *write* of it was executed all the same (the server has changed its mind), repeating would
//! turn their order round: then the error is passed on. Nothing new is sent until what is out is answered.
//!
//! Only exact texts count: an error that a script makes up may look similar, and the script may have written before it.

use super::desk::Desk;
use super::files;
use super::follow::{HOLD, RETRY_MS};
use super::lane::Lane;
use super::slots::Owner;
use super::takeback::may_repeat;
use crate::command::{self, Route};
use crate::frame::{Limits, Scan};

/// A request that was answered with "not executed", or asked behind one.
#[derive(Debug)]
pub(super) struct Recalled {
    pub(super) slot: u32,
    pub(super) bytes: Vec<u8>,
    /// What the server said, to be passed on if need be.
    pub(super) reply: Vec<u8>,
}

/// What servers say that have not executed a request and are not the ones to ask.
const NOT_EXECUTED: [&[u8]; 7] = [
    b"-READONLY You can't write against a read only replica.\r\n",
    b"-READONLY Can not run script with write flag on readonly replica\r\n",
    b"-LOADING ",
    b"-MASTERDOWN Link with MASTER is down, replica-serve-stale-data is set to 'no' and 'allow-stale' flag",
    b"-MASTERDOWN Link with MASTER is down and replica-serve-stale-data is set to 'no'.\r\n",
    b"-NOREPLICAS Not enough good replicas to write.\r\n",
    b"-CLUSTERDOWN ",
];

/// What a server says that stops being a primary while a command blocks there; others may end one with other words.
const UNBLOCKED: &[u8] =
    b"-UNBLOCKED force unblock from blocking operation, instance state changed ";

/// The whole of what servers say that have not even begun a script. One that has begun can say anything, after it wrote.
const SCRIPT_NOT_BEGUN: [&[u8]; 10] = [
    b"-READONLY You can't write against a read only replica.\r\n",
    b"-READONLY Can not run script with write flag on readonly replica\r\n",
    b"-LOADING Redis is loading the dataset in memory\r\n",
    b"-LOADING Valkey is loading the dataset in memory\r\n",
    b"-MASTERDOWN Link with MASTER is down and replica-serve-stale-data is set to 'no'.\r\n",
    b"-MASTERDOWN Link with MASTER is down, replica-serve-stale-data is set to 'no' and 'allow-stale' flag is not set on \
the script.\r\n",
    b"-NOREPLICAS Not enough good replicas to write.\r\n",
    b"-CLUSTERDOWN The cluster is down\r\n",
    b"-CLUSTERDOWN The cluster is down and only accepts read commands\r\n",
    b"-CLUSTERDOWN Hash slot not served\r\n",
];

/// Most requests that a lane takes back before errors are passed on.
const MOST: usize = 16 * 1024;

/// Whether a server says that it has not executed a request, and is not the one to ask.
pub(super) fn is_not_executed(reply: &[u8]) -> bool {
    NOT_EXECUTED.iter().any(|text| reply.starts_with(text))
}

/// Looks at the reply to the oldest request of a followed lane. True: it was taken back, and the lane has changed.
#[cold]
#[inline(never)]
pub(super) fn take_back(lane: &mut Lane, desk: &mut Desk, reply: &[u8], now_ms: u64) -> bool {
    if lane.clustered
        && let Some(taken) = super::cluster::look(lane, desk, reply)
    {
        return taken;
    }
    let slot = lane.first;
    let place = desk.slots[slot];
    let waited = u64::from((now_ms as u32).wrapping_sub(place.since));
    let unblocked = reply.starts_with(UNBLOCKED);
    let refused = unblocked || is_not_executed(reply);
    let behind = lane
        .recalled
        .iter()
        .any(|before| same_client(desk.slots[before.slot].owner, place.owner));
    if !matches!(place.owner, Owner::Client(_) | Owner::Part { .. }) || (!refused && !behind) {
        return false;
    }
    if refused && files::is_about_files(desk.slots.stamp(slot).command) {
        // The next primary has files of its own, and need not have what was written here.
        lane.dequeue(&desk.slots);
        desk.answer(slot, files::IN_NONE);
        return true;
    }
    let bytes = lane.ring.oldest(place.len as usize);
    let refused = refused && (unblocked || SCRIPT_NOT_BEGUN.contains(&reply) || !is_script(&bytes));
    if !refused && !behind {
        return false;
    }
    let expired = (waited > HOLD.as_millis() as u64 && !unblocked) || lane.recalled.len() >= MOST;
    if expired || (behind && !refused && !may_repeat(&bytes)) {
        pass_on(lane, desk, place.owner);
        return false;
    }
    lane.dequeue(&desk.slots);
    if unblocked {
        // It waited at the server as it was meant to: how long it is held counts from now.
        desk.slots[slot].since = now_ms as u32;
    }
    lane.recalled.push(Recalled {
        slot,
        bytes,
        reply: reply.to_vec(),
    });
    if lane.held.is_none() {
        lane.held = Some(lane.half_sent(&desk.slots));
    }
    lane.retry_at_ms = now_ms + RETRY_MS;
    true
}

/// Whether a server says that it has not executed a request and is not the one to ask, or ends a wait for the same reason.
pub(super) fn is_refusal(reply: &[u8]) -> bool {
    reply.starts_with(UNBLOCKED) || is_not_executed(reply)
}

/// What this client had taken back gets the answers that came for it after all.
pub(super) fn pass_on(lane: &mut Lane, desk: &mut Desk, owner: Owner) {
    let (theirs, others): (Vec<Recalled>, Vec<Recalled>) = std::mem::take(&mut lane.recalled)
        .into_iter()
        .partition(|before| same_client(desk.slots[before.slot].owner, owner));
    lane.recalled = others;
    for request in theirs {
        request.pass_on(desk);
    }
}

impl Recalled {
    /// Its client gets what the server said.
    pub(super) fn pass_on(self, desk: &mut Desk) {
        let reply = if super::cluster::is_block(&self.bytes) {
            super::text::EXECABORT
        } else {
            &self.reply
        };
        desk.answer(self.slot, reply);
    }
}

pub(super) fn is_script(bytes: &[u8]) -> bool {
    let mut scan = Scan::default();
    match scan.advance(bytes, &Limits::CLIENT) {
        Ok(Some(_)) => command::resolve(&scan.request(bytes))
            .is_some_and(|command| command.route == Route::Script),
        Ok(None) | Err(_) => false,
    }
}

pub(super) fn same_client(left: Owner, right: Owner) -> bool {
    match (left, right) {
        (Owner::Client(left), Owner::Client(right)) => left == right,
        (Owner::Part { .. } | Owner::Witness | Owner::Script | Owner::Nobody, _)
        | (_, Owner::Part { .. } | Owner::Witness | Owner::Script | Owner::Nobody) => false,
    }
}
