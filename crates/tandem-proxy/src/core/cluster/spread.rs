//! Commands over several slots: one part for each slot, because a node takes keys of one slot only, even if it has them all.
//! And commands over all shards: one part for each seat that is somebody's.

use super::super::Core;
use super::super::intake::Taken;
use super::super::scatter::head_of_part;
use super::super::split::Join;
use crate::command::{Command, Merge};
use crate::frame::Request;
use crate::placement::{SLOTS, slot_of};

const NO_PART: u16 = u16::MAX;

/// What a split needs while it is made; kept to be filled again.
#[derive(Debug, Default)]
pub(super) struct Spread {
    /// Of each slot, its part; empty before the first use.
    part_of: Vec<u16>,
    parts: Vec<Part>,
    /// Of each key, its part, and where its arguments are in the request.
    keys: Vec<(u16, u32, u32)>,
    /// The keys in the order of their parts.
    sorted: Vec<u32>,
}

#[derive(Debug)]
struct Part {
    slot: u16,
    lane: u32,
    keys: usize,
    /// Of its arguments; later of all of it.
    bytes: usize,
    /// Its first place in `sorted`; while that is filled, its next.
    from: usize,
}

impl Spread {
    /// Finds the part of each key, and how much each part has.
    fn share_out(&mut self, request: &Request<'_>, first: usize, step: usize) {
        self.part_of.resize(SLOTS, NO_PART);
        self.parts.clear();
        self.keys.clear();
        let begin = request.bytes().as_ptr() as usize;
        for (at, argument) in request.arguments().skip(first).enumerate() {
            if at % step == 0 {
                let slot = slot_of(argument.value);
                let part = &mut self.part_of[usize::from(slot)];
                if *part == NO_PART {
                    *part = self.parts.len() as u16;
                    self.parts.push(Part {
                        slot,
                        lane: 0,
                        keys: 0,
                        bytes: 0,
                        from: 0,
                    });
                }
                self.parts[usize::from(*part)].keys += 1;
                let start = argument.wire.as_ptr() as usize - begin;
                self.keys.push((*part, start as u32, 0));
            }
            if let Some((part, _, len)) = self.keys.last_mut() {
                // The arguments of a key follow each other.
                *len += argument.wire.len() as u32;
                self.parts[usize::from(*part)].bytes += argument.wire.len();
            }
        }
        for part in &self.parts {
            self.part_of[usize::from(part.slot)] = NO_PART;
        }
        let mut from = 0;
        for part in &mut self.parts {
            part.from = from;
            from += part.keys;
        }
        self.sorted.clear();
        self.sorted.resize(self.keys.len(), 0);
        for (key, &(part, ..)) in (0..).zip(&self.keys) {
            let part = &mut self.parts[usize::from(part)];
            self.sorted[part.from] = key;
            part.from += 1;
        }
        for part in &mut self.parts {
            part.from -= part.keys;
        }
    }
}

impl Core {
    /// Cuts a request by the slots of its keys. With one slot it goes as it came.
    pub(in super::super) fn split_by_slot(
        &mut self,
        index: u32,
        command: &'static Command,
        (first, step): (usize, usize),
        merge: Merge,
        request: &Request<'_>,
    ) -> Taken {
        let pool = self.desk.clients[index as usize].pool;
        let Some(cluster) = &mut self.pools[pool as usize].cluster else {
            return Taken::Yes;
        };
        let mut spread = std::mem::take(&mut cluster.spread);
        spread.share_out(request, first, step);
        let taken = match spread.parts[..] {
            [] => self.wrong_number(index, command),
            [Part { .. }] => {
                let key = request.argument(first).unwrap_or_default();
                self.by_key(index, key, request.bytes())
            }
            _ => self.send_spread(index, command, step, merge, request, &mut spread),
        };
        if let Some(cluster) = &mut self.pools[pool as usize].cluster {
            cluster.spread = spread;
        }
        taken
    }

    fn send_spread(
        &mut self,
        index: u32,
        command: &'static Command,
        step: usize,
        merge: Merge,
        request: &Request<'_>,
        spread: &mut Spread,
    ) -> Taken {
        let pool = self.desk.clients[index as usize].pool;
        let name = command.name.as_bytes();
        let Spread {
            parts,
            keys,
            sorted,
            ..
        } = spread;
        let mut head = self.desk.spare.take();
        for part in parts.iter_mut() {
            let (_, start, _) = keys[sorted[part.from] as usize];
            debug_assert!(start > 0, "a name comes before it");
            let seat = self.pools[pool as usize]
                .placement
                .place_of_slot(part.slot)
                .unwrap_or_default();
            part.lane = self.lane_for(index, seat);
            head.clear();
            head_of_part(&mut head, name, part.keys * step + 1);
            part.bytes += head.len();
        }
        // All or none: a part that waits while others are under way would be answered in another order.
        for part in parts.iter() {
            if !self.open_for(part.lane, index, part.bytes) {
                self.desk.spare.give(head);
                return Taken::Wait;
            }
        }
        let order: Vec<u16> = match merge {
            Merge::InOrder => keys.iter().map(|&(part, ..)| part).collect(),
            _ => Vec::new(),
        };
        let split = self.await_parts(index, Join::All(merge), parts.len() as u16, &order);
        for (number, part) in (0..).zip(parts.iter()) {
            // It waits, if it cannot be connected: its server is a group.
            let _ = self.shut(part.lane);
            head.clear();
            head_of_part(&mut head, name, part.keys * step + 1);
            let ring = &mut self.lanes[part.lane as usize].ring;
            ring.push(&head);
            for &key in &sorted[part.from..part.from + part.keys] {
                let (_, start, len) = keys[key as usize];
                ring.push(&request.bytes()[start as usize..(start + len) as usize]);
            }
            self.enter_waiting_part(part.lane, split, number, part.bytes);
        }
        self.desk.spare.give(head);
        Taken::Yes
    }

    /// The same request to every shard.
    pub(in super::super) fn everywhere_in_cluster(
        &mut self,
        index: u32,
        merge: Merge,
        request: &Request<'_>,
    ) -> Taken {
        let pool = self.desk.clients[index as usize].pool;
        let Some(cluster) = &self.pools[pool as usize].cluster else {
            return Taken::Yes;
        };
        let mut seats: Vec<u32> = cluster.taken().collect();
        if seats.is_empty() {
            // Nobody is known yet: it waits with the others.
            seats.push(0);
        }
        let bytes = request.bytes();
        let lanes: Vec<u32> = seats
            .into_iter()
            .map(|seat| self.lane_for(index, seat))
            .collect();
        for &lane in &lanes {
            if !self.open_for(lane, index, bytes.len()) {
                return Taken::Wait;
            }
        }
        let split = self.await_parts(index, Join::All(merge), lanes.len() as u16, &[]);
        for (part, lane) in (0..).zip(lanes) {
            let _ = self.shut(lane);
            self.lanes[lane as usize].ring.push(bytes);
            self.enter_waiting_part(lane, split, part, bytes.len());
        }
        Taken::Yes
    }

    /// Of a pool's servers, the one that a walk over all comes to after `server`; none: it was the last.
    pub(in super::super) fn server_after(&self, pool: u32, server: Option<u64>) -> Option<u64> {
        let state = &self.pools[pool as usize];
        let next = server.map_or(0, |server| server + 1);
        match &state.cluster {
            None => (next < state.setup.settings.servers.len() as u64).then_some(next),
            Some(cluster) => cluster.taken().map(u64::from).find(|&seat| seat >= next),
        }
    }
}
