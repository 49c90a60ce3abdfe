//! What goes into a sentinel and what comes out of it.
//!
//! Connections are the machine's: it says when to open and close each, numbers them, and knows from the order of the
//! replies what each reply answers. The shell only carries bytes. A number is used once, so an event of a connection
//! that was closed meanwhile is recognised and dropped.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::time::{Duration, Instant};

use tandem_resp::Value;

use crate::sentinel::commands::LogLevel;
use crate::sentinel::daemon::About;
use crate::sentinel::ids::{Endpoint, GroupName};
use crate::sentinel::saved::SavedState;

/// One attempt to connect, and the connection that comes of it. Never used again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct ConnId(pub u64);

/// A question of a client; its answer carries the same number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct RequestId(pub u64);

/// A state to be written; grows with each.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct SaveVersion(pub u64);

/// One run of a script.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct ScriptId(pub u64);

/// What a connection is for; Redis keeps the two apart because a subscriber may not send other commands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum ConnKind {
    /// Commands and their replies.
    Command,
    /// Hello messages.
    PubSub,
}

/// Into the machine.
#[derive(Clone, Debug)]
pub enum Input {
    /// Nothing but the time.
    Tick,
    /// A connection stands.
    Connected {
        /// Which.
        conn: ConnId,
        /// Our own address on it: what we announce unless `announce-ip` is set.
        local: IpAddr,
        /// The address behind the name, where a name was given.
        remote: IpAddr,
    },
    /// A connection ended or did not come about.
    Lost {
        /// Which.
        conn: ConnId,
        /// How.
        loss: Loss,
    },
    /// The next reply on a [`ConnKind::Command`] connection. Replies come in the order of the commands.
    Reply {
        /// On which connection.
        conn: ConnId,
        /// What.
        value: Value,
    },
    /// A message heard on a [`ConnKind::PubSub`] connection. Replies to SUBSCRIBE do not come here.
    Heard {
        /// On which connection.
        conn: ConnId,
        /// The channel.
        channel: Vec<u8>,
        /// The text.
        message: Vec<u8>,
    },
    /// A client, an operator or another sentinel asks. Exactly one [`Output::Answer`] follows, now or later: a vote waits
    /// for the disk. What the same client asked behind it must be answered behind it, PING included.
    Asked {
        /// Names the question.
        request: RequestId,
        /// What is asked.
        question: Question,
    },
    /// The result of [`Output::Save`]. A later version covers all earlier ones.
    Saved {
        /// Which state.
        version: SaveVersion,
        /// `Err` says why it is not on disk; no vote is given on it.
        result: Result<(), String>,
    },
    /// The script was started, with this process id.
    ScriptStarted {
        /// Which.
        script: ScriptId,
        /// Its process.
        pid: u32,
    },
    /// The script ended, or could not be started.
    ScriptEnded {
        /// Which.
        script: ScriptId,
        /// How.
        end: ScriptEnd,
    },
    /// The address behind a name, or why there is none. Answers [`Output::Resolve`].
    Resolved {
        /// The name.
        host: String,
        /// Its address.
        result: Result<IpAddr, String>,
    },
    /// A host's tandem daemon says something about the server beside it: answers [`Output::AskDaemon`].
    Witness {
        /// The server.
        server: Endpoint,
        /// What is known of it.
        word: Word,
    },
    /// The process did not run for this long: silence in that time was our own.
    Late(Duration),
}

/// How a connection ended or failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Loss {
    /// Nobody listens there: the host is up, and the process is not (or not yet).
    Refused,
    /// The connection was opened and then closed or reset by the other side.
    Closed,
    /// No answer to the attempt in time.
    TimedOut,
    /// No route, no such host, or any other error of this host's network.
    Unreachable,
    /// Bytes that are not the protocol.
    Garbled,
}

/// What a host's daemon says of the server beside it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Word {
    /// Its process is gone, by proof.
    Dead,
    /// The daemon leads it: its role and its resync are the daemon's business.
    Owned,
    /// What only that server held is in the host's archive, and the server is fenced; or there is nothing of the kind.
    Archived(String),
    /// There is no daemon, or it cannot archive; why.
    Unarchived(String),
}

/// How a script ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ScriptEnd {
    /// Exited with this code.
    Exited(i32),
    /// A signal ended it.
    Signalled(i32),
    /// It could not be started at all.
    NotStarted,
}

/// What a client asks. Everything else a client may say (HELLO, AUTH, SUBSCRIBE, CLIENT ...) is the shell's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Question {
    /// `SENTINEL ...`: the arguments after the word SENTINEL.
    Sentinel(Vec<Vec<u8>>),
    /// The same where it names scripts ([`crate::sentinel::commands::scripts_named`]), with those of them that are
    /// programs which can be run. In [`Self::Sentinel`] none counts as one.
    SentinelWithPrograms {
        /// The arguments after the word SENTINEL.
        args: Vec<Vec<u8>>,
        /// The paths of programs.
        programs: BTreeSet<String>,
    },
    /// `PUBLISH channel message`, which a sentinel takes from its peers for the hello channel only.
    Publish {
        /// The channel.
        channel: Vec<u8>,
        /// The text.
        message: Vec<u8>,
    },
    /// `ROLE`.
    Role,
    /// The lines of INFO's section `Sentinel`, header included.
    InfoSection,
}

/// Who is told an event, and how it reads in the log (`* - . #` of Redis' log lines).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    /// Log only, never published.
    Debug,
    /// Published; log mark `-`.
    Verbose,
    /// Published; log mark `*`.
    Notice,
    /// Published and given to the notification script; log mark `#`.
    Warning,
}

/// Something that happened, as subscribers are told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    /// Who is told.
    pub level: Level,
    /// The event's name, which is its channel: `+sdown`.
    pub name: &'static str,
    /// The text.
    pub payload: String,
}

/// Out of the machine.
#[derive(Clone, Debug)]
pub enum Output {
    /// Open a connection. [`Input::Connected`] or [`Input::Lost`] follows, within a bound of the shell's (the ping period).
    Connect {
        /// Its number.
        conn: ConnId,
        /// Where to.
        to: Endpoint,
        /// For what; the shell splits messages from replies by it.
        kind: ConnKind,
        /// Over TLS (`tls-replication yes`).
        tls: bool,
    },
    /// Close a connection. Nothing more of it is heard.
    Close {
        /// Which.
        conn: ConnId,
    },
    /// Send a command. What is sent before [`Input::Connected`] leaves when the connection stands.
    Send {
        /// On which connection.
        conn: ConnId,
        /// The command's words.
        argv: Vec<Vec<u8>>,
    },
    /// The answer to a question.
    Answer {
        /// Which.
        request: RequestId,
        /// What; maps are flattened for RESP2 by the encoder.
        value: Value,
    },
    /// Tell subscribers and the log.
    Tell(Event),
    /// For the log alone.
    Log {
        /// How grave.
        level: Level,
        /// The text.
        text: String,
    },
    /// `Next failover delay: I will not start a failover before <time>`: the shell knows the wall clock.
    NextFailover {
        /// The group.
        group: GroupName,
        /// Not before.
        at: Instant,
    },
    /// Write the state to the file, whole, atomically and synced. [`Input::Saved`] follows.
    Save {
        /// Which state.
        version: SaveVersion,
        /// The state.
        state: Box<SavedState>,
    },
    /// Run a script: no shell, no descriptors of ours, its own process group.
    RunScript {
        /// Its number.
        script: ScriptId,
        /// Program and arguments.
        argv: Vec<String>,
    },
    /// End a script that runs for too long (SIGKILL). [`Input::ScriptEnded`] follows as always.
    KillScript {
        /// Which.
        script: ScriptId,
    },
    /// Find the address behind a name without holding up anything. [`Input::Resolved`] follows.
    Resolve {
        /// The name.
        host: String,
    },
    /// Ask the tandem daemon on a server's host. [`Input::Witness`] follows within [`ARCHIVE_WITHIN`](crate::sentinel::tail::ARCHIVE_WITHIN), with
    /// [`Word::Unarchived`] where there is no daemon; about a server's life nothing follows then.
    AskDaemon {
        /// The server.
        server: Endpoint,
        /// What about it.
        about: About,
    },
    /// Log this much from now on (`SENTINEL CONFIG SET loglevel`).
    SetLogLevel(LogLevel),
    /// End the process at once with this code (`SENTINEL SIMULATE-FAILURE`).
    Exit {
        /// The code.
        code: i32,
    },
}
