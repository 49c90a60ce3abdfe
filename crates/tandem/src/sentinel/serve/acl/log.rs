//! What was refused lately, for `ACL LOG`: equal refusals within a minute are one entry with a count.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use tandem_resp::Value;

/// Refusals closer together than this are one entry.
const SAME_WITHIN: Duration = Duration::from_secs(60);
/// How far back equal refusals are looked for.
const LOOK_BACK: usize = 10;

/// What was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Reason {
    /// A command.
    Command,
    /// A channel.
    Channel,
    /// A name and password.
    Auth,
}

impl Reason {
    fn word(self) -> &'static str {
        match self {
            Self::Command => "command",
            Self::Channel => "channel",
            Self::Auth => "auth",
        }
    }
}

#[derive(Clone, Debug)]
struct LogEntry {
    count: i64,
    reason: Reason,
    object: Vec<u8>,
    user: Vec<u8>,
    at: Instant,
    client: String,
}

/// The newest refusals first.
#[derive(Clone, Debug)]
pub(crate) struct Log {
    entries: VecDeque<LogEntry>,
    most: usize,
}

impl Log {
    /// Keeps so many entries: `acllog-max-len`, 128 by default.
    pub(crate) fn new(most: usize) -> Self {
        Self {
            entries: VecDeque::new(),
            most,
        }
    }

    /// Writes one down.
    pub(crate) fn add(
        &mut self,
        reason: Reason,
        object: &[u8],
        user: &[u8],
        client: String,
        now: Instant,
    ) {
        let object = object[..object.len().min(128)].to_vec();
        let same = self.entries.iter().take(LOOK_BACK).position(|entry| {
            entry.reason == reason
                && entry.object == object
                && entry.user == user
                && now.saturating_duration_since(entry.at) < SAME_WITHIN
        });
        let count = same
            .and_then(|at| self.entries.remove(at))
            .map_or(0, |entry| entry.count);
        self.entries.push_front(LogEntry {
            count: count.saturating_add(1),
            reason,
            object,
            user: user.to_vec(),
            at: now,
            client,
        });
        self.entries.truncate(self.most);
    }

    /// `ACL LOG RESET`.
    pub(crate) fn clear(&mut self) {
        self.entries.clear();
    }

    /// `ACL LOG [count]`.
    pub(crate) fn to_value(&self, count: usize, now: Instant) -> Value {
        let bulk = |text: &[u8]| Value::Bulk(text.to_vec());
        let each = self.entries.iter().take(count).map(|entry| {
            let age = now.saturating_duration_since(entry.at).as_millis();
            // Milliseconds of an age fit a double exactly for longer than any process lives.
            #[allow(clippy::cast_precision_loss)]
            let seconds = age as f64 / 1000.0;
            Value::Map(vec![
                (bulk(b"count"), Value::Integer(entry.count)),
                (bulk(b"reason"), bulk(entry.reason.word().as_bytes())),
                (bulk(b"context"), bulk(b"toplevel")),
                (bulk(b"object"), bulk(&entry.object)),
                (bulk(b"username"), bulk(&entry.user)),
                (bulk(b"age-seconds"), Value::Double(seconds)),
                (bulk(b"client-info"), bulk(entry.client.as_bytes())),
            ])
        });
        Value::Array(each.collect())
    }
}
