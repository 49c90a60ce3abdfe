//! What goes into a follower and what comes out of it.

use std::time::Duration;

use serde::Serialize;
use tandem_resp::Value;

use crate::sentinel::{ConnId, ConnKind, Endpoint};
use crate::topology::{Rank, Topology};

/// What a follower is told at its start.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The group, as this host calls it.
    pub group: String,
    /// Its name in the fleet (Sentinel's "master name").
    pub master: String,
    /// The fleet's sentinels: at least one, distinct. A majority is counted among these.
    pub sentinels: Vec<Endpoint>,
    /// User to log in to them as; none is the default user.
    pub username: Option<String>,
    /// The password for them.
    pub password: Option<Vec<u8>>,
    /// The group's server on this host.
    pub server: Endpoint,
    /// A local server that has not said its role for this long is not taken for a primary any more.
    pub down_after: Duration,
    /// The sentinels are tandem daemons, which tell more than a sentinel does ([`crate::word`]), to a proxy.
    pub daemons: bool,
}

/// The role that a server says it has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// `master`.
    Primary,
    /// Anything else.
    Other,
}

/// Into the follower.
#[derive(Clone, Debug)]
pub enum Input {
    /// Nothing but the time.
    Tick,
    /// A connection stands.
    Connected(ConnId),
    /// A connection ended or did not come about; how, in words.
    Lost(ConnId, String),
    /// The next reply on a command connection.
    Reply(ConnId, Value),
    /// A message on a hearing connection.
    Heard {
        /// On which.
        conn: ConnId,
        /// The channel.
        channel: Vec<u8>,
        /// The text.
        message: Vec<u8>,
    },
    /// The answer to [`Output::AskRole`], or why there is none.
    Role {
        /// Who was asked.
        server: Endpoint,
        /// What it said.
        answer: Result<Role, String>,
    },
    /// The local server's own word, each time it was read; `None` when it is proven dead.
    Local(Option<Role>),
    /// A proxy of this host has nothing unanswered, after the word of this rank that the primary closes.
    Quiet(Rank),
    /// Whatever is known may have been overtaken: ask at once. What is said then comes as [`Output::Publish`].
    Doubt,
    /// The daemon leaves: the address goes.
    Stop,
}

/// Out of the follower.
#[derive(Clone, Debug, PartialEq)]
pub enum Output {
    /// Open a connection to a sentinel. [`Input::Connected`] or [`Input::Lost`] follows, within a bound of the shell's.
    Connect {
        /// Its number, used once.
        conn: ConnId,
        /// Where to.
        to: Endpoint,
        /// For what.
        kind: ConnKind,
    },
    /// Close a connection; nothing more of it is heard.
    Close(ConnId),
    /// Send a command, after the connection stands.
    Send {
        /// On which connection.
        conn: ConnId,
        /// Its words.
        argv: Vec<Vec<u8>>,
    },
    /// Ask a server for its ROLE, within a second. [`Input::Role`] follows.
    AskRole(Endpoint),
    /// The fleet's primary is here and says so: the addresses belong on this host.
    TakeAddress,
    /// They do not any more: close the front, then drop them.
    GiveAddress,
    /// For the front and the directory.
    Publish(Topology),
    /// For the log and the history.
    Tell {
        /// Its name.
        name: &'static str,
        /// What happened.
        text: String,
        /// It needs a person.
        alarm: bool,
    },
}

/// What one sentinel believes, for people.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct SentinelRow {
    /// Where it is.
    pub address: String,
    /// It is connected and answers.
    pub heard: bool,
    /// Whom it names.
    pub primary: Option<String>,
    /// Its configuration epoch.
    pub epoch: Option<u64>,
    /// How long ago it said so, milliseconds.
    pub seen_ms: Option<u64>,
    /// What that means here: `followed`, `stale`, `newer`, `other address`, or why nothing is known of it.
    pub verdict: String,
}

/// What is followed, for people.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct FollowStatus {
    /// The group, as this host calls it.
    pub group: String,
    /// Its name in the fleet.
    pub master: String,
    /// The primary that is followed.
    pub primary: Option<String>,
    /// Its configuration epoch.
    pub epoch: Option<u64>,
    /// The group's server on this host.
    pub server: String,
    /// The addresses belong on this host.
    pub vip_here: bool,
    /// Each sentinel of the file.
    pub sentinels: Vec<SentinelRow>,
    /// Anything that needs a person.
    pub alarms: Vec<String>,
}
