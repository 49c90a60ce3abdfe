//! Rest: how a connection asks its server by itself whether it lives, while nothing else is to be done.
//!
//! Every period the answer to the last PING is read and the next one sent. An answer lies in the kernel until then and counts from
//! its question: it came then or later. Nobody is told of it; whoever wants to know looks at [`Heard`]. The connection's task
//! leaves that to a thread ([`super::beat`]) and takes it back as soon as there is anything else to do.
//!
//! A rest ends with news: a reading of INFO, an answer that is not PONG, no answer within a period, a replica whose link changed.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use tandem_core::server::ServerRole;
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
    /// Of a replica: how its link is looked at between two readings of INFO.
    pub(crate) link: Option<LinkLook>,
}

/// Looks at a replica's link to its primary by ROLE, whose answer is short and the same all the time but for the offset at its end.
#[derive(Clone, Debug)]
pub(crate) struct LinkLook {
    every: Duration,
    at: Instant,
    /// The answer up to the offset while nothing changes.
    unchanged: Vec<u8>,
}

impl LinkLook {
    /// Looks this often from now on whether this role is still the same; none at one whose link is not up.
    pub(crate) fn new(role: &ServerRole, every: Duration, now: Instant) -> Option<Self> {
        let ServerRole::Replica {
            of,
            link_up: true,
            syncing: false,
        } = role
        else {
            return None;
        };
        let (host, port) = of.rsplit_once(':')?;
        let length = host.len();
        let unchanged =
            format!("*5\r\n$5\r\nslave\r\n${length}\r\n{host}\r\n:{port}\r\n$9\r\nconnected\r\n:");
        Some(Self {
            every,
            at: now + every,
            unchanged: unchanged.into_bytes(),
        })
    }

    /// Whether this is all of the answer of a link that is as it was.
    fn is_as_before(&self, answer: &[u8]) -> bool {
        answer
            .strip_prefix(self.unchanged.as_slice())
            .and_then(|rest| rest.strip_suffix(b"\r\n"))
            .is_some_and(|offset| offset.iter().all(u8::is_ascii_digit))
    }
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
    /// The replica's link is not what it was, or ROLE may not be asked.
    Link,
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
    Role,
    Info,
}

/// What goes with a PING.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Beside {
    #[default]
    Nothing,
    Role,
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

impl Resting {
    pub(super) fn new(rest: Rest, news: oneshot::Sender<News>) -> Self {
        let number = 0;
        Self { rest, number, news }
    }

    /// Whether somebody still waits for news.
    pub(super) fn is_wanted(&self) -> bool {
        !self.news.is_closed()
    }

    /// The period that is due begins: what is asked with its PING. INFO says all that ROLE says.
    pub(super) fn begin_period(&mut self, now: Instant) -> Beside {
        let rest = &mut self.rest;
        rest.ping_at = now + rest.every;
        // Questions in one packet and answers in one.
        let nearest = now + rest.every / 2;
        if rest.info_at <= nearest {
            return Beside::Info;
        }
        match &mut rest.link {
            Some(link) if link.at <= nearest => {
                link.at = now + link.every;
                Beside::Role
            }
            Some(_) | None => Beside::Nothing,
        }
    }

    /// Whether these bytes are what is always answered. What INFO says never is.
    pub(super) fn is_nothing_new(&self, answer: &[u8], to: Beside) -> bool {
        let Some(rest) = answer.strip_prefix(b"+PONG\r\n") else {
            return false;
        };
        match (to, &self.rest.link) {
            (Beside::Nothing, _) => rest.is_empty(),
            (Beside::Role, Some(link)) => link.is_as_before(rest),
            (Beside::Role, None) | (Beside::Info, _) => false,
        }
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

    fn replica(link_up: bool, syncing: bool) -> ServerRole {
        ServerRole::Replica {
            of: "10.0.0.1:6379".to_owned(),
            link_up,
            syncing,
        }
    }

    fn resting(now: Instant, info_in: Duration, role: &ServerRole) -> Resting {
        let (news, _) = oneshot::channel();
        let rest = Rest {
            every: EVERY,
            ping_at: now,
            info_at: now + info_in,
            heard: Heard::default(),
            link: LinkLook::new(role, 2 * EVERY, now),
        };
        Resting::new(rest, news)
    }

    #[test]
    fn role_and_info_go_with_the_nearest_ping() {
        let now = Instant::now();
        for (role, between) in [
            (ServerRole::Primary, Beside::Nothing),
            (replica(true, false), Beside::Role),
        ] {
            let mut resting = resting(now, 3 * EVERY + EVERY / 3, &role);
            let mut asked = Vec::new();
            for turn in 0..4 {
                asked.push(resting.begin_period(now + turn * EVERY));
            }
            let expected = [Beside::Nothing, Beside::Nothing, between, Beside::Info];
            assert_eq!(asked, expected, "{role:?}");
            assert_eq!(resting.rest.ping_at, now + 4 * EVERY);
        }
    }

    #[test]
    fn only_what_is_always_answered_is_nothing_new() {
        let now = Instant::now();
        let resting = resting(now, EVERY, &replica(true, false));
        let role = "*5\r\n$5\r\nslave\r\n$8\r\n10.0.0.1\r\n:6379\r\n$9\r\nconnected\r\n:4711\r\n";
        let with = |role: &str| format!("+PONG\r\n{role}");
        let cases = [
            (with(""), Beside::Nothing, true),
            (with(role), Beside::Role, true),
            (with(role), Beside::Nothing, false),
            (with(""), Beside::Role, false),
            (with(""), Beside::Info, false),
            (
                with(&role.replace("connected", "connecting")),
                Beside::Role,
                false,
            ),
            (
                with(&role.replace("10.0.0.1", "10.0.0.2")),
                Beside::Role,
                false,
            ),
            (with(&role[..role.len() - 2]), Beside::Role, false),
            (with(&format!("{role}+PONG\r\n")), Beside::Role, false),
            ("-LOADING\r\n".to_owned(), Beside::Nothing, false),
        ];
        for (answer, to, nothing_new) in cases {
            let seen = resting.is_nothing_new(answer.as_bytes(), to);
            assert_eq!(seen, nothing_new, "{answer:?} to PING and {to:?}");
        }
    }

    #[test]
    fn only_a_link_that_is_up_is_looked_at() {
        let now = Instant::now();
        for role in [
            ServerRole::Primary,
            replica(false, false),
            replica(true, true),
        ] {
            assert!(LinkLook::new(&role, EVERY, now).is_none(), "{role:?}");
        }
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
