//! Rest: how a connection asks its server by itself whether it lives, while nothing else is to be done.
//!
//! Every period the connection's task wakes up once, reads the answer to its last PING and sends the next one. An answer lies in
//! the kernel until then and counts from its question: it came then or later. No other task runs for it; whoever wants to know
//! looks at [`Heard`]. An idle daemon does hardly anything else, and each wake-up finds its caches cold, so it is the number of
//! wake-ups and of the functions they pass through that cost.
//!
//! A rest ends with news: a reading of INFO, an answer that is not PONG, no answer within a period.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use tandem_resp::Value;
use tokio::sync::oneshot;

/// When the last PONG came, at the earliest.
#[derive(Clone, Debug, Default)]
pub(crate) struct Heard(Arc<Mutex<Option<Instant>>>);

impl Heard {
    pub(super) fn note(&self, at: Instant) {
        *self.cell() = Some(at);
    }

    /// What was noted since it was last taken.
    pub(crate) fn take(&self) -> Option<Instant> {
        self.cell().take()
    }

    fn cell(&self) -> std::sync::MutexGuard<'_, Option<Instant>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A wish to rest.
#[derive(Debug)]
pub(crate) struct Rest {
    /// Between two PINGs.
    pub(crate) every: Duration,
    /// The next one.
    pub(crate) ping_at: Instant,
    /// INFO goes with the PING nearest to this.
    pub(crate) info_at: Instant,
    /// Is told of every PONG.
    pub(crate) heard: Heard,
}

/// What ended a rest.
#[derive(Debug)]
pub(crate) struct News {
    pub(crate) what: Noticed,
    /// When the next PING would be due.
    pub(crate) ping_at: Instant,
}

/// Something that is not PONG in time.
#[derive(Debug)]
pub(crate) enum Noticed {
    /// An answer to INFO that was asked for at this time.
    Info(Value, Instant),
    /// Another answer to PING than PONG.
    Odd(Value, Instant),
    /// A whole period passed without an answer.
    Missing,
}

/// A question of a rest.
#[derive(Clone, Copy, Debug)]
pub(super) struct Question {
    /// Of which rest: to a later one its answer says nothing, since who ended the first had other work in between.
    pub(super) rest: u64,
    pub(super) is: Asked,
    pub(super) at: Instant,
}

/// What it asks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Asked {
    Ping,
    Info,
}

/// A rest under way.
#[derive(Debug)]
pub(super) struct Resting {
    pub(super) rest: Rest,
    /// Its number, given by the connection.
    pub(super) number: u64,
    news: oneshot::Sender<News>,
}

/// What a period of rest begins with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Beat {
    /// PING, and perhaps INFO.
    Ask { info: bool },
    /// The last answer has not come: the rest is over.
    Over,
}

impl Resting {
    pub(super) fn new(rest: Rest, news: oneshot::Sender<News>) -> Self {
        let number = 0;
        Self { rest, number, news }
    }

    /// Whether somebody still waits for news.
    pub(super) fn is_wanted(&self) -> bool {
        !self.news.is_closed()
    }

    /// The period that is due begins.
    pub(super) fn beat(&mut self, ping_lies: bool, info_lies: bool, now: Instant) -> Beat {
        if ping_lies {
            return Beat::Over;
        }
        self.rest.ping_at = now + self.rest.every;
        // Both questions in one packet and both answers in one.
        let info = !info_lies && self.rest.info_at <= now + self.rest.every / 2;
        Beat::Ask { info }
    }

    /// Ends it.
    pub(super) fn tell(self, what: Noticed) {
        let ping_at = self.rest.ping_at;
        // Who stopped waiting has other work.
        let _ = self.news.send(News { what, ping_at });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const EVERY: Duration = Duration::from_millis(30);

    fn resting(now: Instant, info_in: Duration) -> (Resting, oneshot::Receiver<News>) {
        let (news, told) = oneshot::channel();
        let rest = Rest {
            every: EVERY,
            ping_at: now,
            info_at: now + info_in,
            heard: Heard::default(),
        };
        (Resting::new(rest, news), told)
    }

    #[test]
    fn info_goes_with_the_nearest_ping() {
        let now = Instant::now();
        let (mut resting, _told) = resting(now, 2 * EVERY + EVERY / 3);
        let mut asked = Vec::new();
        for turn in 0..3 {
            asked.push(resting.beat(false, false, now + turn * EVERY));
        }
        assert_eq!(
            asked,
            [
                Beat::Ask { info: false },
                Beat::Ask { info: false },
                Beat::Ask { info: true }
            ]
        );
        assert_eq!(resting.rest.ping_at, now + 3 * EVERY);
    }

    #[test]
    fn a_missing_answer_ends_it_and_the_ping_stays_due() {
        let now = Instant::now();
        let (mut resting, mut told) = resting(now, EVERY);
        assert_eq!(resting.beat(true, false, now), Beat::Over);
        resting.tell(Noticed::Missing);
        let news = told.try_recv().unwrap();
        assert!(matches!(news.what, Noticed::Missing));
        assert_eq!(news.ping_at, now);
    }

    #[test]
    fn an_early_note_is_taken_once() {
        let heard = Heard::default();
        let at = Instant::now();
        heard.note(at);
        assert_eq!(heard.take(), Some(at));
        assert_eq!(heard.take(), None);
    }
}
