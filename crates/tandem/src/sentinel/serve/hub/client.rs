//! What is known of one connection, and how `CLIENT LIST` shows it.

use std::rc::Rc;
use std::time::Instant;

use tandem_resp::Protocol;
use tokio::sync::Notify;

use crate::sentinel::serve::outbox::Outbox;
use crate::sentinel::serve::subscriptions::ClientId;

/// Where a connection comes from.
#[derive(Clone, Debug, Default)]
pub(crate) struct Origin {
    /// The other side, `ip:port`, or the socket's path and `:0`.
    pub(crate) remote: String,
    /// Our side.
    pub(crate) local: String,
    /// The descriptor.
    pub(crate) fd: i32,
    /// Over a Unix socket.
    pub(crate) unix: bool,
}

/// Whether a connection is to end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Closing {
    /// No.
    No,
    /// When what waits has been sent; no further request is read.
    AfterReplies,
    /// At once.
    Now,
}

/// `CLIENT REPLY`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Replies {
    On,
    Off,
    /// The reply to this request is dropped.
    Skip,
    /// The reply to the next one will be.
    SkipNext,
}

/// `CLIENT TRACKING on`: a sentinel has no keys to tell anything about, and clients ask for it all the same.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Tracking {
    pub(super) redirect: Option<ClientId>,
    pub(super) bcast: bool,
    pub(super) prefixes: Vec<Vec<u8>>,
    pub(super) optin: bool,
    pub(super) optout: bool,
    pub(super) noloop: bool,
    /// `CLIENT CACHING`, for the next command.
    pub(super) caching: Option<bool>,
}

/// One connection.
#[derive(Debug)]
pub(crate) struct Client {
    pub(super) id: ClientId,
    pub(super) origin: Origin,
    pub(super) since: Instant,
    /// When it last sent something.
    pub(super) active: Instant,
    pub(super) name: Vec<u8>,
    pub(super) lib_name: Vec<u8>,
    pub(super) lib_ver: Vec<u8>,
    pub(super) user: Vec<u8>,
    pub(super) authenticated: bool,
    pub(super) protocol: Protocol,
    pub(super) replies: Replies,
    pub(super) no_evict: bool,
    pub(super) no_touch: bool,
    pub(super) tracking: Option<Tracking>,
    pub(super) command: &'static str,
    /// Bytes of requests that were read and not yet carried out.
    pub(super) query: usize,
    pub(super) outbox: Outbox,
    pub(super) closing: Closing,
    pub(super) wake: Rc<Notify>,
}

/// The kinds that `CLIENT LIST TYPE` and `CLIENT KILL TYPE` know.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ClientType {
    Normal,
    /// Has subscriptions.
    PubSub,
    /// Replicas and primaries: a sentinel has neither.
    Replication,
}

impl ClientType {
    pub(super) fn parse(word: &[u8]) -> Option<Self> {
        let is = |name: &str| word.eq_ignore_ascii_case(name.as_bytes());
        if is("normal") {
            Some(Self::Normal)
        } else if is("pubsub") {
            Some(Self::PubSub)
        } else if is("slave") || is("replica") || is("master") {
            Some(Self::Replication)
        } else {
            None
        }
    }
}

impl Client {
    /// Ends the connection. The stronger wish wins.
    pub(super) fn close(&mut self, how: Closing) {
        if self.closing != Closing::Now {
            self.closing = how;
        }
        self.wake.notify_one();
    }

    /// One line of `CLIENT LIST`, without its end.
    pub(super) fn describe(&self, channels: usize, patterns: usize, now: Instant) -> String {
        let mut flags = String::new();
        if channels + patterns > 0 {
            flags.push('P');
        }
        if let Some(tracking) = &self.tracking {
            flags.push('t');
            if tracking.bcast {
                flags.push('B');
            }
        }
        match self.closing {
            Closing::No => {}
            Closing::AfterReplies => flags.push('c'),
            Closing::Now => flags.push('A'),
        }
        if self.origin.unix {
            flags.push('U');
        }
        if self.no_evict {
            flags.push('e');
        }
        if self.no_touch {
            flags.push('T');
        }
        if flags.is_empty() {
            flags.push('N');
        }
        let seconds = |since: Instant| now.saturating_duration_since(since).as_secs();
        let waiting = self.outbox.waiting();
        let redirect = match &self.tracking {
            None => "-1".to_owned(),
            Some(tracking) => tracking.redirect.unwrap_or(0).to_string(),
        };
        let mut line = format!(
            "id={} addr={} laddr={} fd={} name={} age={} idle={} flags={flags} db=0 sub={channels} psub={patterns} ssub=0 \
             multi=-1 qbuf={} qbuf-free=0 argv-mem=0 multi-mem=0 rbs=0 rbp=0 obl={waiting} oll=0 omem=0 tot-mem={} \
             events={} cmd={} user={} redir={redirect} resp={}",
            self.id,
            self.origin.remote,
            self.origin.local,
            self.origin.fd,
            self.name.escape_ascii(),
            seconds(self.since),
            seconds(self.active),
            self.query,
            self.query + waiting + size_of::<Self>(),
            if waiting > 0 { "rw" } else { "r" },
            self.command,
            String::from_utf8_lossy(&self.user),
            match self.protocol {
                Protocol::Resp2 => 2,
                Protocol::Resp3 => 3,
            }
        );
        // As 7.2 shows what CLIENT SETINFO told; absent where the client told nothing, as in 7.0.
        if !self.lib_name.is_empty() || !self.lib_ver.is_empty() {
            line.push_str(&format!(
                " lib-name={} lib-ver={}",
                self.lib_name.escape_ascii(),
                self.lib_ver.escape_ascii()
            ));
        }
        line
    }
}

/// Whether a text may be a name: printable ASCII without spaces.
pub(super) fn is_plain(text: &[u8]) -> bool {
    text.iter().all(|byte| (b'!'..=b'~').contains(byte))
}
