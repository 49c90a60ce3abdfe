//! One client: what it has sent and not been answered, and nothing else that an idle connection would have to own.

use super::peer::{Peer, Side};
use super::slots::NONE;
use crate::frame::Scan;

/// Why nothing more is read from a client for now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Hold {
    /// It is read from.
    No,
    /// It has too much outstanding, or does not take its replies.
    Own,
    /// A lane that its next request needs is full.
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

/// One client connection.
#[derive(Debug)]
pub(super) struct Client {
    pub(super) generation: u32,
    pub(super) pool: u32,
    pub(super) life: Life,
    pub(super) hold: Hold,
    /// Has not given the pool's password.
    pub(super) stranger: bool,
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
}

impl Client {
    pub(super) fn vacant() -> Self {
        Self {
            generation: 0,
            pool: 0,
            life: Life::Vacant,
            hold: Hold::No,
            stranger: false,
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
            id: 0,
            cold: None,
        }
    }

    pub(super) fn peer(&self, index: u32) -> Peer {
        Peer::new(Side::Client, index, self.generation)
    }

    /// Bytes that the kernel has not taken.
    #[inline]
    pub(super) fn unsent(&self) -> usize {
        self.output.len() - self.sent
    }

    /// Whether it is owed nothing any more.
    pub(super) fn is_settled(&self) -> bool {
        self.outstanding == 0 && self.unsent() == 0
    }
}
