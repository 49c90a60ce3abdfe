//! Transactions whose slot moves: sent again as a whole.
//!
//! A node that is not the one to ask says so to one of the requests between MULTI and EXEC, whose replies are nobody's, and aborts
//! the transaction at EXEC: nothing of it was executed. So what was sent is kept beside the lane, within bounds, until then. A
//! transaction that is not kept any more is aborted, as a server that is itself asked would do.

use super::super::Core;
use super::super::lane::{Lane, RING_BOUND};
use super::super::slots::{NONE, Owner, Slots};
use super::super::transaction::{EXEC, MULTI};
use crate::frame::{Limits, Scan};

/// Transactions that a lane keeps.
const MOST: usize = 1024;
/// One that is larger is not kept.
const LARGEST: usize = 64 * 1024;

/// A transaction that was sent.
#[derive(Debug)]
pub(in super::super) struct Block {
    /// Of its EXEC. One that was answered may be another's by now, whose request is no EXEC or is kept later than this.
    slot: u32,
    /// From MULTI to EXEC.
    bytes: Vec<u8>,
    /// Its requests between those.
    inner: usize,
    /// What a node said to the first of them that it did not take.
    refused: Option<Vec<u8>>,
}

/// Whether this is a whole transaction.
pub(in super::super) fn is_block(bytes: &[u8]) -> bool {
    bytes.starts_with(MULTI)
}

/// The requests of a piece of bytes, one after the other.
pub(super) fn requests(mut bytes: &[u8]) -> impl Iterator<Item = &[u8]> {
    std::iter::from_fn(move || {
        let mut scan = Scan::default();
        let Ok(Some(len)) = scan.advance(bytes, &Limits::CLIENT) else {
            return None;
        };
        let (request, rest) = bytes.split_at(len);
        bytes = rest;
        Some(request)
    })
}

/// A request that is nobody's was refused with this: if it is of a transaction that is kept, that is noted.
pub(super) fn note_refusal(lane: &mut Lane, slots: &Slots, reply: &[u8]) {
    let mut slot = lane.first;
    let mut steps = 0;
    while slot != NONE && !matches!(slots[slot].owner, Owner::Client(_)) {
        slot = slots[slot].next_in_lane;
        steps += 1;
    }
    let block = lane.blocks.iter_mut().rfind(|block| block.slot == slot);
    if let Some(block) = block
        && steps <= block.inner
    {
        block.refused.get_or_insert_with(|| reply.to_vec());
    }
}

/// The oldest request of a lane is an EXEC, and is answered with an error: the transaction, and why a node did not take it.
pub(super) fn refused(
    lane: &mut Lane,
    reply: &[u8],
    redirects: bool,
) -> Option<(Vec<u8>, Vec<u8>)> {
    let slot = lane.first;
    let at = lane.blocks.iter().rposition(|block| block.slot == slot)?;
    let block = lane.blocks.remove(at)?;
    if redirects {
        return Some((block.bytes, reply.to_vec()));
    }
    let why = block
        .refused
        .filter(|_| reply.starts_with(b"-EXECABORT "))?;
    Some((block.bytes, why))
}

impl Core {
    /// A transaction has just been sent on this lane.
    pub(in super::super) fn keep_block(&mut self, index: u32, inner: &[u8], count: usize) {
        let lane = &mut self.lanes[index as usize];
        if !lane.clustered {
            return;
        }
        if lane.queued as usize <= count + 2 {
            // Nothing else is under way.
            lane.blocks.clear();
        }
        if inner.len() > LARGEST {
            return;
        }
        let mut kept: usize = lane.blocks.iter().map(|block| block.bytes.len()).sum();
        while let Some(oldest) = lane.blocks.front()
            && (kept + inner.len() > RING_BOUND || lane.blocks.len() >= MOST)
        {
            kept -= oldest.bytes.len();
            lane.blocks.pop_front();
        }
        lane.blocks.push_back(Block {
            slot: lane.last,
            bytes: [MULTI, inner, EXEC].concat(),
            inner: count,
            refused: None,
        });
    }
}
