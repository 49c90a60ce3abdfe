//! The clients' side of the core: who is owed what, in which order, and what is ready to be sent to them.
//!
//! Replies leave in the order of a client's requests. The reply to its oldest request goes straight into its output;
//! one that comes early, because another shard was faster, is parked in the request's slot until it is its turn.

use std::time::Instant;

use super::answers::HEAVY;
use super::client::{Client, Cold, Hold, Life};
use super::intake::gathered;
use super::peer::{Peer, Side};
use super::slots::{NONE, Owner, Slot, Slots, Wait};
use super::spare::Spare;
use super::split::Splits;

/// Requests that a client may have outstanding before it is not read from.
pub(super) const OUTSTANDING: u32 = 1024;
/// Bytes of replies that a client may leave untaken before it is not read from.
pub(super) const UNTAKEN: usize = 256 * 1024;

/// Clients, their requests, their replies.
#[derive(Debug)]
pub(super) struct Desk {
    pub(super) clients: Vec<Client>,
    free: Vec<u32>,
    pub(super) open: usize,
    pub(super) slots: Slots,
    pub(super) spare: Spare,
    pub(super) splits: Splits,
    /// First of those with something to send.
    dirty: u32,
    /// Clients that were held and may go on.
    pub(super) wake: Vec<Peer>,
    /// Clients that are gone; the shell closes their sockets.
    pub(super) gone: Vec<Gone>,
    /// How many lanes wait for a client to take its replies, or for its turn.
    pub(super) stalling: u32,
    /// Bytes of replies that have to be kept until they are whole, and are large.
    pub(super) kept: usize,
    /// A client that has just got more than it should leave untaken.
    pub(super) heavy: u32,
    /// The time, in microseconds of the core, which begin again after 71 minutes.
    pub(super) now_us: u32,
    pub(super) now: Instant,
    /// Bytes of unfinished requests that own a buffer.
    pub(super) gathered: usize,
    /// The last round of samples that was begun, see [`reading`](super::reading).
    pub(super) round: u32,
    /// What a server said when the core asked it; empty as a rule.
    pub(super) witnessed: Vec<u8>,
    /// Of pools, the versions that their servers have told since HELLO was said last; one of each.
    pub(super) versions: Vec<(u32, Vec<u8>)>,
}

/// What is left of a client.
#[derive(Debug, Clone, Copy)]
pub(super) struct Gone {
    pub(super) peer: Peer,
    pub(super) pool: u32,
    /// The connection that it had for itself, or [`NONE`].
    pub(super) pinned: u32,
    /// Its bank, or [`NONE`].
    pub(super) bank: u32,
    /// The bank that it was about to enter, or [`NONE`].
    pub(super) claims: u32,
}

impl Desk {
    pub(super) fn new(now: Instant) -> Self {
        Self {
            clients: Vec::new(),
            free: Vec::new(),
            open: 0,
            slots: Slots::new(),
            spare: Spare::default(),
            splits: Splits::default(),
            dirty: NONE,
            wake: Vec::new(),
            gone: Vec::new(),
            stalling: 0,
            kept: 0,
            heavy: NONE,
            now_us: 0,
            now,
            gathered: 0,
            round: 0,
            witnessed: Vec::new(),
            versions: Vec::new(),
        }
    }

    /// A place for a new client.
    pub(super) fn admit(&mut self, pool: u32, particular: bool, id: u64, now_ms: u32) -> Peer {
        let index = match self.free.pop() {
            Some(index) => index,
            None => {
                self.clients.push(Client::vacant());
                (self.clients.len() - 1) as u32
            }
        };
        self.open += 1;
        let client = &mut self.clients[index as usize];
        client.pool = pool;
        client.life = Life::Open;
        client.progress_ms = now_ms;
        client.particular = particular;
        client.special = particular;
        client.id = id;
        client.peer(index)
    }

    /// The client that `peer` means, unless it is gone.
    #[inline]
    pub(super) fn find(&self, peer: Peer) -> Option<u32> {
        let client = self.clients.get(peer.index())?;
        (peer.side() == Side::Client
            && client.generation == peer.generation()
            && client.life != Life::Vacant)
            .then_some(peer.index() as u32)
    }

    /// What hardly any client has, made on demand.
    pub(super) fn cold(&mut self, index: u32) -> &mut Cold {
        self.clients[index as usize].cold.get_or_insert_default()
    }

    /// The same, if it has any of it.
    pub(super) fn cold_mut(&mut self, index: u32) -> Option<&mut Cold> {
        self.clients[index as usize].cold.as_deref_mut()
    }

    /// Puts a client into the list of those with something to send.
    #[inline]
    pub(super) fn touch(&mut self, index: u32) {
        let client = &mut self.clients[index as usize];
        if !client.dirty {
            client.dirty = true;
            client.next_dirty = self.dirty;
            self.dirty = index;
        }
    }

    /// The next client with something to send.
    #[inline]
    pub(super) fn next_dirty(&mut self) -> Option<Peer> {
        while self.dirty != NONE {
            let index = self.dirty;
            let client = &mut self.clients[index as usize];
            self.dirty = client.next_dirty;
            client.dirty = false;
            if client.life != Life::Vacant {
                return Some(client.peer(index));
            }
        }
        None
    }

    /// Puts a request of a client at the end of its list.
    #[inline]
    pub(super) fn expect(&mut self, index: u32, slot: Slot) -> u32 {
        let slot = self.slots.take(slot);
        let client = &mut self.clients[index as usize];
        if client.last == NONE {
            client.first = slot;
        } else {
            self.slots[client.last].next_of_client = slot;
        }
        client.last = slot;
        client.outstanding += 1;
        slot
    }

    /// A reply that the proxy gives by itself.
    #[inline]
    pub(super) fn say(&mut self, index: u32, reply: &[u8]) {
        if self.clients[index as usize].outstanding == 0 {
            self.put(index, reply);
            self.touch(index);
        } else {
            let parked = self.park(reply);
            self.expect(
                index,
                Slot {
                    owner: Owner::Client(index),
                    wait: Wait::Turn(parked),
                    next_in_lane: NONE,
                    next_of_client: NONE,
                    len: 0,
                    since: 0,
                },
            );
        }
    }

    /// The reply to a request that has left its lane's queue.
    #[inline]
    pub(super) fn answer(&mut self, slot: u32, reply: &[u8]) {
        if let Owner::Client(index) = self.slots[slot].owner
            && self.clients[index as usize].first == slot
        {
            self.put(index, reply);
            self.advance(index);
        } else {
            self.answer_otherwise(slot, reply);
        }
    }

    /// To one whose turn it is not, or who is no client.
    fn answer_otherwise(&mut self, slot: u32, reply: &[u8]) {
        match self.slots[slot].owner {
            Owner::Client(_) => {
                let parked = self.park(reply);
                self.slots[slot].wait = Wait::Turn(parked);
            }
            Owner::Part { split, part } => {
                self.slots.give(slot);
                self.part_answered(split, part, reply);
            }
            Owner::Witness => {
                self.slots.give(slot);
                self.witnessed = self.spare.take();
                self.witnessed.extend_from_slice(reply);
            }
            Owner::Script | Owner::Nobody => self.slots.give(slot),
        }
    }

    /// The whole reply of a split request.
    pub(super) fn answer_split(&mut self, slot: u32, reply: Vec<u8>) {
        let index = match self.slots[slot].owner {
            Owner::Client(index) => index,
            Owner::Part { split, part } => {
                // A part that was itself cut into parts.
                self.slots.give(slot);
                self.part_answered(split, part, &reply);
                self.spare.give(reply);
                return;
            }
            Owner::Witness | Owner::Script | Owner::Nobody => {
                unreachable!("the slot of a split belongs to its client, and dies with it")
            }
        };
        if self.clients[index as usize].first == slot {
            self.put(index, &reply);
            self.spare.give(reply);
            self.advance(index);
        } else {
            self.slots[slot].wait = Wait::Turn(self.spare.park(reply));
        }
    }

    /// The reply to this write leaves now: what its client reads must show it.
    pub(super) fn note_write(&mut self, slot: u32) {
        let client = match self.slots[slot].owner {
            Owner::Client(client) => client,
            Owner::Part { split, .. } => match self.splits.slot_of(split) {
                NONE => return,
                slot => match self.slots[slot].owner {
                    Owner::Client(client) => client,
                    Owner::Part { .. } | Owner::Witness | Owner::Script | Owner::Nobody => return,
                },
            },
            Owner::Witness | Owner::Script | Owner::Nobody => return,
        };
        self.clients[client as usize].wrote = self.round + 1;
    }

    /// A piece of the reply to a client's oldest request.
    pub(super) fn stream(&mut self, index: u32, piece: &[u8]) {
        self.put(index, piece);
        self.touch(index);
    }

    /// The reply to the oldest request is complete: it leaves the list, and so do those that waited behind it.
    #[inline(always)]
    pub(super) fn advance(&mut self, index: u32) {
        self.touch(index);
        let client = &mut self.clients[index as usize];
        let next = client.pop(&mut self.slots);
        if next != NONE && matches!(self.slots[next].wait, Wait::Turn(_)) {
            self.pass_on_parked(index);
        } else if client.hold != Hold::No {
            self.wake_if_light(index);
        }
    }

    /// Replies that came before their turn, which is now.
    fn pass_on_parked(&mut self, index: u32) {
        loop {
            let oldest = self.clients[index as usize].first;
            if oldest == NONE {
                break;
            }
            let Wait::Turn(parked) = self.slots[oldest].wait else {
                break;
            };
            let reply = self.spare.unpark(parked);
            self.put(index, &reply);
            self.spare.give(reply);
            self.clients[index as usize].pop(&mut self.slots);
        }
        self.wake_if_light(index);
    }

    /// Lets a client go on that was held for its own weight, or until it was quiet.
    fn wake_if_light(&mut self, index: u32) {
        let client = &mut self.clients[index as usize];
        let light = match client.hold {
            Hold::No | Hold::Lane => false,
            Hold::Own => client.outstanding <= OUTSTANDING / 2 && client.unsent() <= UNTAKEN / 2,
            Hold::Quiet => client.outstanding == 0,
        };
        if light {
            client.hold = Hold::No;
            let peer = client.peer(index);
            self.wake.push(peer);
        }
    }

    /// The kernel took so many bytes.
    #[inline]
    pub(super) fn sent(&mut self, index: u32, bytes: usize, now_ms: u32) {
        let client = &mut self.clients[index as usize];
        client.sent += bytes;
        debug_assert!(
            client.sent <= client.output.len(),
            "more sent than there was"
        );
        client.progress_ms = now_ms;
        if client.sent == client.output.len() {
            client.sent = 0;
            let output = std::mem::take(&mut client.output);
            self.spare.give(output);
            if client.life == Life::Leaving && client.outstanding == 0 {
                self.leave(index);
                return;
            }
        } else if client.sent >= UNTAKEN {
            client.output.drain(..client.sent);
            client.sent = 0;
        }
        if self.clients[index as usize].hold != Hold::No {
            self.wake_if_light(index);
        }
    }

    /// Whether a client is owed nothing by servers; if not, it is held until then.
    pub(super) fn quiet(&mut self, index: u32) -> bool {
        let client = &mut self.clients[index as usize];
        if client.outstanding == 0 {
            return true;
        }
        client.hold = Hold::Quiet;
        false
    }

    /// Nothing more is read from this client; it goes when it has what it is owed.
    pub(super) fn dismiss(&mut self, index: u32) {
        let client = &mut self.clients[index as usize];
        client.life = Life::Leaving;
        let input = std::mem::take(&mut client.input);
        self.gathered -= gathered(input.len());
        let settled = client.is_settled();
        self.spare.give(input);
        if settled {
            self.leave(index);
        }
    }

    /// Forgets a client at once. Replies to what it asked are swallowed when they come.
    pub(super) fn leave(&mut self, index: u32) {
        let mut slot = self.clients[index as usize].first;
        while slot != NONE {
            let next = self.slots[slot].next_of_client;
            match self.slots[slot].wait {
                Wait::Lane | Wait::Write | Wait::Ack => self.slots[slot].owner = Owner::Nobody,
                Wait::Split(split) => {
                    self.splits.orphan(split);
                    self.slots.give(slot);
                }
                Wait::Turn(parked) => {
                    let reply = self.spare.unpark(parked);
                    self.spare.give(reply);
                    self.slots.give(slot);
                }
            }
            slot = next;
        }
        let client = &mut self.clients[index as usize];
        self.gone.push(Gone {
            peer: client.peer(index),
            pool: client.pool,
            pinned: client.pinned,
            bank: client.bank,
            claims: client.claims(),
        });
        let input = std::mem::take(&mut client.input);
        self.gathered -= gathered(input.len());
        let output = std::mem::take(&mut client.output);
        // `dirty` stays as it is: the place may still be in that list, and is passed over there.
        let (generation, dirty, next_dirty) = (client.generation, client.dirty, client.next_dirty);
        *client = Client {
            generation: generation.wrapping_add(1),
            dirty,
            next_dirty,
            ..Client::vacant()
        };
        self.spare.give(input);
        self.spare.give(output);
        self.free.push(index);
        self.open -= 1;
    }

    /// Bytes of all transactions that were not sent yet.
    pub(super) fn multi_bytes(&self) -> usize {
        let cold = self
            .clients
            .iter()
            .filter_map(|client| client.cold.as_ref());
        cold.filter_map(|cold| cold.multi.as_ref())
            .map(|multi| multi.bytes.capacity())
            .sum()
    }

    /// A reply that has to wait, in a buffer of its own.
    pub(super) fn park(&mut self, reply: &[u8]) -> u32 {
        let mut buffer = self.spare.take();
        buffer.extend_from_slice(reply);
        self.spare.park(buffer)
    }

    #[inline(always)]
    fn put(&mut self, index: u32, reply: &[u8]) {
        let client = &mut self.clients[index as usize];
        if client.output.capacity() == 0 {
            client.output = self.spare.take();
        }
        client.output.extend_from_slice(reply);
        if client.output.len() > HEAVY {
            self.heavy = index;
        }
    }
}
