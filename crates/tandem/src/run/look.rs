//! Whether what is told of a group was looked at since a moment.
//!
//! A proxy that stood still may have missed a word, and so may the daemon that it runs in. So it asks for a look: each
//! group's loop answers it at the end of a turn that began after the question, in which it has told what holds now.
//! Questions are numbered by the time since boot, sleep included.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use tandem_core::follow::Follower;
use tokio::sync::watch;

/// Questions, and how far each group has answered them.
#[derive(Clone, Debug, Default)]
pub(crate) struct Looks {
    asked: watch::Sender<Duration>,
    answered: watch::Sender<BTreeMap<String, Duration>>,
}

impl Looks {
    /// Asks all groups.
    pub(crate) fn ask(&self, at: Duration) {
        self.asked.send_if_modified(|asked| {
            let newer = *asked < at;
            *asked = at.max(*asked);
            newer
        });
    }

    /// For a group's loop: the questions to come.
    pub(crate) fn questions(&self) -> watch::Receiver<Duration> {
        self.asked.subscribe()
    }

    /// This group has looked since that question.
    pub(crate) fn answer(&self, group: &str, at: Duration) {
        self.answered.send_if_modified(|answered| {
            let last = answered.entry(group.to_owned()).or_default();
            let newer = *last < at;
            *last = at.max(*last);
            newer
        });
    }

    /// Returns when this group has looked since then, if ever.
    pub(crate) async fn answered(&self, group: &str, at: Duration) {
        let mut answered = self.answered.subscribe();
        let done = |it: &BTreeMap<String, Duration>| it.get(group).is_some_and(|last| *last >= at);
        // The sender is ours.
        let _ = answered.wait_for(done).await;
    }
}

/// A question to a group that is followed: answered once some sentinel, or daemon, has said anew what it believes.
#[derive(Debug, Default)]
pub(crate) struct Looking(Option<(Duration, Instant)>);

impl Looking {
    /// This is asked now; the follower is to be told [`tandem_core::follow::Input::Doubt`].
    pub(crate) fn begin(&mut self, at: Duration, now: Instant) {
        self.0 = Some((at, now));
    }

    /// The question that is answered by now.
    pub(crate) fn end(&mut self, follower: &Follower, now: Instant) -> Option<Duration> {
        let (at, _) = self
            .0
            .take_if(|(_, since)| follower.is_fresh(*since, now))?;
        Some(at)
    }
}
