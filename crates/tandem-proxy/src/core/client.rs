//! One client: what it has sent and not been answered, and nothing else that an idle connection would have to own.

use super::identity::Claim;
use super::moving::Subscriptions;
use super::peer::{Peer, Side};
use super::slots::{NONE, Slots};
use crate::frame::Scan;

/// Why nothing more is read from a client for now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Hold {
    /// It is read from.
    No,
    /// It has too much outstanding, or does not take its replies.
    Own,
    /// A lane that its next request needs is full, or does not listen yet.
    Lane,
    /// Its next request may only go when all before it are answered, because it changes the way that they take.
    Quiet,
}

/// How far a client is from its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Life {
    /// Nobody is in this place.
    Vacant,
    /// Speaks and is answered.
    Open,
    /// Says nothing more, or is not listened to any more; what it is owed is still delivered.
    Leaving,
}

/// Nobody of the proxy's own users.
pub(super) const NO_ACCOUNT: u16 = u16::MAX;

/// One client connection.
#[derive(Debug)]
pub(super) struct Client {
    pub(super) generation: u32,
    pub(super) pool: u32,
    /// Its lanes; [`NONE`] in a vacant place only.
    pub(super) bank: u32,
    pub(super) life: Life,
    pub(super) hold: Hold,
    /// Has not given the pool's password.
    pub(super) stranger: bool,
    /// Which of the proxy's own users it is; [`NO_ACCOUNT`] where there are none.
    pub(super) account: u16,
    /// That user may not do everything.
    pub(super) restricted: bool,
    /// Not every request goes its ordinary way: a stranger, restricted, inside MULTI, watching, subscribed, in a large
    /// request, or its pool is particular.
    pub(super) special: bool,
    /// Its pool wants something of replicas.
    pub(super) particular: bool,
    /// What it is owed is owed by replicas.
    pub(super) away: bool,
    /// Has closed its half while requests had to be held: it is not asked for what was not sent by then.
    pub(super) gave_up: bool,
    /// Has asked for RESP3.
    pub(super) resp3: bool,
    /// Is in the list of those with something to send.
    pub(super) dirty: bool,
    pub(super) next_dirty: u32,
    /// Its oldest request.
    pub(super) first: u32,
    /// Its youngest request.
    pub(super) last: u32,
    /// Requests not answered.
    pub(super) outstanding: u32,
    /// How far the request at the start of `input` is understood.
    pub(super) scan: Scan,
    /// An unfinished request, and requests that wait for room; begins with a request.
    pub(super) input: Vec<u8>,
    /// Replies.
    pub(super) output: Vec<u8>,
    /// How much of `output` the kernel has.
    pub(super) sent: usize,
    /// When it last took something, while a lane waits for it.
    pub(super) progress_ms: u32,
    /// The connection that it has for itself; [`NONE`] as a rule.
    pub(super) pinned: u32,
    /// The first round of samples begun after its last write was answered; 0 before its first.
    pub(super) wrote: u32,
    /// What CLIENT ID says: unique in the process.
    pub(super) id: u64,
    pub(super) cold: Option<Box<Cold>>,
}

/// What hardly any client has.
#[derive(Debug, Default)]
pub(super) struct Cold {
    /// CLIENT SETNAME.
    pub(super) name: Vec<u8>,
    /// CLIENT SETINFO LIB-NAME.
    pub(super) lib_name: Vec<u8>,
    /// CLIENT SETINFO LIB-VER.
    pub(super) lib_ver: Vec<u8>,
    /// Between MULTI and EXEC.
    pub(super) multi: Option<Box<Multi>>,
    /// Clients with a lower id had come when it was told last that its primary had moved before a WAIT.
    pub(super) waited: u64,
    /// What it watches, on its pinned connection.
    pub(super) watch: Watch,
    /// Its pinned connection brings messages, or what MONITOR shows.
    pub(super) subscribed: bool,
    /// It is about to be somebody else.
    pub(super) claim: Option<Claim>,
    /// Of what, while it does; none: it is MONITOR's.
    pub(super) subscriptions: Option<Box<Subscriptions>>,
    /// A large request that is under way.
    pub(super) upload: Option<Box<super::upload::Upload>>,
}

/// Whether WATCH is in force.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) enum Watch {
    /// Nothing is watched.
    #[default]
    No,
    /// The server watches for it.
    Yes,
    /// The connection that watched is gone: nobody knows what happened to the keys since.
    Lost,
}

/// A transaction that the server has not seen yet.
#[derive(Debug, Default)]
pub(super) struct Multi {
    /// Its requests, one after the other, as they came.
    pub(super) bytes: Vec<u8>,
    /// How long each is.
    pub(super) lengths: Vec<u32>,
    /// Where its keys are, once one has been named.
    pub(super) server: Option<u32>,
    /// Their slot, in a cluster, where that may move while the transaction is written.
    pub(super) slot: Option<u16>,
    /// One of its requests was refused: EXEC will be too.
    pub(super) broken: bool,
}

impl Client {
    pub(super) fn vacant() -> Self {
        Self {
            generation: 0,
            pool: 0,
            bank: NONE,
            life: Life::Vacant,
            hold: Hold::No,
            stranger: false,
            account: NO_ACCOUNT,
            restricted: false,
            special: false,
            particular: false,
            away: false,
            gave_up: false,
            resp3: false,
            dirty: false,
            next_dirty: NONE,
            first: NONE,
            last: NONE,
            outstanding: 0,
            scan: Scan::default(),
            input: Vec::new(),
            output: Vec::new(),
            sent: 0,
            progress_ms: 0,
            pinned: NONE,
            wrote: 0,
            id: 0,
            cold: None,
        }
    }

    /// To be called after what it depends on has changed.
    pub(super) fn set_special(&mut self) {
        self.special = self.particular || self.restricted || self.is_special();
    }

    /// By itself, whatever its pool wants and its user may do.
    pub(super) fn is_special(&self) -> bool {
        self.stranger
            || self.cold.as_ref().is_some_and(|cold| {
                cold.multi.is_some()
                    || cold.subscribed
                    || cold.upload.is_some()
                    || cold.watch != Watch::No
            })
    }

    /// Whether it waits to be let in as somebody else.
    pub(super) fn has_claim(&self) -> bool {
        self.cold.as_ref().is_some_and(|cold| cold.claim.is_some())
    }

    /// Whether its own connection brings messages.
    pub(super) fn is_subscribed(&self) -> bool {
        self.cold.as_ref().is_some_and(|cold| cold.subscribed)
    }

    /// Whether that is what MONITOR shows.
    pub(super) fn is_monitoring(&self) -> bool {
        self.cold
            .as_ref()
            .is_some_and(|cold| cold.subscribed && cold.subscriptions.is_none())
    }

    /// The bank that it is about to enter, or [`NONE`].
    pub(super) fn claims(&self) -> u32 {
        let claim = self.cold.as_ref().and_then(|cold| cold.claim.as_ref());
        claim.map_or(NONE, |claim| claim.bank)
    }

    pub(super) fn peer(&self, index: u32) -> Peer {
        Peer::new(Side::Client, index, self.generation)
    }

    /// Bytes that the kernel has not taken.
    #[inline]
    pub(super) fn unsent(&self) -> usize {
        self.output.len() - self.sent
    }

    /// Its oldest request leaves its list. Which one is the oldest now, or [`NONE`].
    #[inline(always)]
    pub(super) fn pop(&mut self, slots: &mut Slots) -> u32 {
        let oldest = self.first;
        let next = slots[oldest].next_of_client;
        slots.give(oldest);
        self.first = next;
        self.outstanding -= 1;
        if next == NONE {
            self.last = NONE;
        }
        next
    }

    /// Whether it is owed nothing any more.
    pub(super) fn is_settled(&self) -> bool {
        self.outstanding == 0 && self.unsent() == 0
    }
}
