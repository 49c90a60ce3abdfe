//! Requests in flight: 32 bytes each, in one slab, linked twice without further memory.
//!
//! Every slot is in the list of its client (the order in which replies must leave) and, until its reply came, in the
//! queue of the lane that carries it (the order in which replies arrive). A client that leaves takes its slots out of
//! its own list; those that are still in a lane's queue become [`Owner::Nobody`] and swallow their replies.

/// No slot, no client, no buffer.
pub(super) const NONE: u32 = u32::MAX;

/// Who waits for a reply.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Owner {
    /// The client of this index.
    Client(u32),
    /// A split request, of which this is part number `part`.
    Part {
        /// Index of the split.
        split: u32,
        /// Which of its parts.
        part: u16,
    },
    /// The core itself, which asks where in its history a server is.
    Witness,
    /// The core itself, which brings a script along.
    Script,
    /// One who has left.
    Nobody,
}

/// What the slot of a client waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Wait {
    /// The reply of a lane.
    Lane,
    /// The reply of a lane, which is about a write: see [`particular`](super::particular).
    Write,
    /// That replicas have what it wrote; the reply is in the queue of its server.
    Ack,
    /// The parts of this split.
    Split(u32),
    /// Nothing but its turn: the reply lies in this parked buffer.
    Turn(u32),
}

/// One request in flight.
#[derive(Debug, Clone, Copy)]
pub(super) struct Slot {
    pub(super) owner: Owner,
    pub(super) wait: Wait,
    /// The next in the lane's queue; in the free list while unused.
    pub(super) next_in_lane: u32,
    /// The next of the same client.
    pub(super) next_of_client: u32,
    /// Bytes of the request in the lane's ring.
    pub(super) len: u32,
    /// When it entered the queue, in milliseconds of the core.
    pub(super) since: u32,
}

const _: () = assert!(size_of::<Slot>() <= 32);

/// What a request is measured by.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Stamp {
    /// When it entered the queue, in microseconds of the core, which begin again after 71 minutes.
    pub(super) at_us: u32,
    /// Which command.
    pub(super) command: u16,
    /// How often it was asked elsewhere than where it entered first.
    pub(super) hops: u8,
}

/// All slots of a thread.
#[derive(Debug)]
pub(super) struct Slots {
    slots: Vec<Slot>,
    /// Of the slot in the same place.
    stamps: Vec<Stamp>,
    free: u32,
    used: usize,
}

impl Slots {
    pub(super) fn new() -> Self {
        Self {
            slots: Vec::new(),
            stamps: Vec::new(),
            free: NONE,
            used: 0,
        }
    }

    /// Slots in use, for the balance that tests draw.
    #[cfg(test)]
    pub(super) fn used(&self) -> usize {
        self.used
    }

    #[inline(always)]
    pub(super) fn take(&mut self, slot: Slot) -> u32 {
        self.used += 1;
        if self.free == NONE {
            return self.grow(slot);
        }
        let index = self.free;
        let place = &mut self.slots[index as usize];
        self.free = place.next_in_lane;
        *place = slot;
        index
    }

    #[cold]
    fn grow(&mut self, slot: Slot) -> u32 {
        self.slots.push(slot);
        self.stamps.push(Stamp::default());
        (self.slots.len() - 1) as u32
    }

    /// Says when a request entered, and what it is.
    #[inline(always)]
    pub(super) fn set_stamp(&mut self, index: u32, stamp: Stamp) {
        self.stamps[index as usize] = stamp;
    }

    /// A request was where it belonged.
    pub(super) fn forget_hops(&mut self, index: u32) {
        self.stamps[index as usize].hops = 0;
    }

    /// A request is asked once more; how often that makes.
    pub(super) fn hop(&mut self, index: u32) -> u8 {
        let hops = &mut self.stamps[index as usize].hops;
        *hops = hops.saturating_add(1);
        *hops
    }

    #[inline(always)]
    pub(super) fn stamp(&self, index: u32) -> Stamp {
        self.stamps[index as usize]
    }

    #[inline(always)]
    pub(super) fn give(&mut self, index: u32) {
        self.used -= 1;
        self.slots[index as usize].next_in_lane = self.free;
        self.free = index;
        if self.used == 0 && self.slots.len() > Self::KEEP {
            self.forget();
        }
    }

    /// After a peak: with none in use, all of it may go.
    #[cold]
    fn forget(&mut self) {
        self.slots = Vec::new();
        self.stamps = Vec::new();
        self.free = NONE;
    }

    /// So many slots are kept when none is in use: 512 KiB.
    const KEEP: usize = 16 * 1024;
}

impl std::ops::Index<u32> for Slots {
    type Output = Slot;

    #[inline]
    fn index(&self, index: u32) -> &Slot {
        &self.slots[index as usize]
    }
}

impl std::ops::IndexMut<u32> for Slots {
    #[inline]
    fn index_mut(&mut self, index: u32) -> &mut Slot {
        &mut self.slots[index as usize]
    }
}
