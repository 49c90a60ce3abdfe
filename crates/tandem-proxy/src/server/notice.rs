//! What a thread has to say to whoever runs the proxy: rare, and never waited for.

use std::fmt;
use std::sync::Arc;

use crate::settings::Address;
use crate::topology::Rank;

/// Something that happened on one thread.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Notice {
    /// After the word of this rank that a server closes nothing sent to it is unanswered on this thread.
    Quiet {
        /// The pool's name.
        pool: String,
        /// Which of its servers.
        server: usize,
        /// Of the word.
        rank: Rank,
    },
    /// A thread was told that slots are elsewhere than on its map, or lost a node of a cluster.
    Remap {
        /// The pool's name.
        pool: String,
        /// Who was named and is not known.
        stranger: Option<Address>,
    },
    /// The thread stood still: it serves its groups no further before [`super::Running::confirm`].
    Stalled,
    /// The thread has ended without having been asked to.
    Ended(String),
}

/// Takes notices, with the number of the thread. It must not wait.
#[derive(Clone)]
pub struct Notices(Arc<dyn Fn(usize, Notice) + Send + Sync>);

impl Notices {
    /// Has this called for each notice, on the thread that gives it.
    pub fn new(take: impl Fn(usize, Notice) + Send + Sync + 'static) -> Self {
        Self(Arc::new(take))
    }
}

impl fmt::Debug for Notices {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Notices")
    }
}

/// One thread's way to say something.
#[derive(Debug, Clone)]
pub(super) struct Teller {
    pub(super) thread: usize,
    pub(super) notices: Option<Notices>,
}

impl Teller {
    pub(super) fn tell(&self, notice: Notice) {
        if let Some(Notices(take)) = &self.notices {
            take(self.thread, notice);
        }
    }
}

/// Says that the thread has ended, also when it unwinds, unless that was as it should be.
pub(super) struct Obituary {
    teller: Option<Teller>,
}

impl Obituary {
    pub(super) fn of(teller: Teller) -> Self {
        Self {
            teller: Some(teller),
        }
    }

    /// How the thread's work ended.
    pub(super) fn write<T, E: fmt::Display>(mut self, result: &Result<T, E>) {
        let teller = self.teller.take();
        if let (Some(teller), Err(error)) = (teller, result) {
            teller.tell(Notice::Ended(error.to_string()));
        }
    }
}

impl Drop for Obituary {
    fn drop(&mut self) {
        if let Some(teller) = &self.teller {
            teller.tell(Notice::Ended("it panicked".to_owned()));
        }
    }
}
