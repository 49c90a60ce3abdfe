//! What other threads have to say to a worker. Rare: looked at only when the waker says so.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use mio::Waker;

use super::pulse::Beats;
use super::socket::Door;
use super::taken::Pending;
use crate::cluster::Map;
use crate::core::{History, Peer, PoolSetup, Word};
use crate::tail::Tail;
use crate::topology::Topology;

/// A message to one worker.
#[derive(Debug)]
pub(super) enum Letter {
    /// A name was looked up.
    Resolved {
        /// The lane that asked.
        peer: Peer,
        /// None: nobody knows it.
        address: Option<SocketAddr>,
    },
    /// The newest word on a pool's groups.
    Topology {
        /// Its name.
        pool: Arc<str>,
        /// What is said.
        topology: Arc<Topology>,
    },
    /// Where the slots of a pool's cluster are.
    Map {
        /// Its name.
        pool: Arc<str>,
        /// The newest map.
        map: Arc<Map>,
    },
    /// What is believed of a group was asked for anew.
    Confirmed {
        /// The pool's name.
        pool: Arc<str>,
        /// Which of its servers.
        server: usize,
        /// No sooner than at this time since boot.
        asked: Duration,
    },
    /// The end of a history was read.
    History {
        /// Which question this answers.
        history: History,
        /// None: it cannot be had.
        tail: Option<Tail>,
    },
    /// Pools replaced by others.
    Reload(Box<Replacement>),
    /// Stop accepting; end when all clients are gone, or then at the latest.
    Drain(Instant),
}

/// What a reload changes for one worker.
#[derive(Debug)]
pub(super) struct Replacement {
    /// All pools from now on.
    pub(super) pools: Vec<PoolSetup>,
    /// Of each, the newest word on its servers.
    pub(super) words: Vec<Option<Word>>,
    /// Listening sockets for pools whose address is new, by index in `pools`.
    pub(super) listeners: Vec<(usize, Door)>,
    /// Let go of when it is done.
    pub(super) pending: Pending,
}

/// A worker's letters.
#[derive(Debug)]
pub(super) struct Mailbox {
    letters: Mutex<Vec<Letter>>,
    waker: Waker,
    pub(super) beats: Beats,
}

impl Mailbox {
    pub(super) fn new(waker: Waker) -> Arc<Self> {
        Arc::new(Self {
            letters: Mutex::new(Vec::new()),
            waker,
            beats: Beats::default(),
        })
    }

    /// Leaves a letter and wakes the worker.
    pub(super) fn put(&self, letter: Letter) {
        self.letters
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .push(letter);
        self.wake();
    }

    /// Has the worker look at its letters.
    pub(super) fn wake(&self) {
        // Fails only when the worker has closed its poller, and then nobody reads letters any more.
        let _ = self.waker.wake();
    }

    /// Takes all letters.
    pub(super) fn take(&self) -> Vec<Letter> {
        std::mem::take(&mut *self.letters.lock().unwrap_or_else(PoisonError::into_inner))
    }
}
