//! What goes into the keeper and what comes out of it.
//!
//! Inputs are observations and results; outputs are steps to be carried out, statements to be
//! published and events to be told. A step that failed is an input like any other: the keeper
//! decides what becomes of it. Every step carries a deadline that the shell enforces, so nothing
//! waits for ever.

use std::time::{Duration, Instant};

use crate::health::{AnswerKind, DeathProof};
use crate::ids::{Epoch, HostId, Offset, ReplId};
use crate::journal::Journal;
use crate::keeper::settings::Settings;
use crate::rules::duplicate::Answers;
use crate::server::ServerView;
use crate::statement::{LastWords, Statement};
use crate::topology::Rank;

/// Names a step so that its result finds it. A result with an unknown id is ignored: its step was
/// given up.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct StepId(pub u64);

/// Into the keeper.
#[derive(Clone, Debug)]
pub enum Input {
    /// Nothing but the time.
    Tick,
    /// Seen of the local server.
    Server(ServerEvent),
    /// Seen of the peer's daemon.
    Peer(PeerEvent),
    /// The VRRP machine's wishes and changes.
    Vrrp(VrrpEvent),
    /// What came of [`Output::AskVip`], or why it could not be asked.
    VipAnswers(Result<Answers, String>),
    /// A step ended.
    Done {
        /// Which.
        id: StepId,
        /// How.
        result: Result<Outcome, StepError>,
    },
    /// Somebody typed something.
    Operator {
        /// Names the request for its reply.
        id: u64,
        /// What.
        command: Command,
    },
    /// The daemon or its host was frozen for this long: others may have acted meanwhile.
    Frozen(Duration),
    /// The daemon's own loop was late by this much, less than a freeze.
    Late(Duration),
    /// The file was read again: its policies, bounds and priority count from now on; the rest of
    /// these settings is not looked at.
    Reload(Box<Settings>),
    /// The resync window has opened: what waits for `resync = "ask"` may begin.
    ResyncWindow,
    /// TERM: hand over if that is possible, then leave.
    Stop,
}

/// Seen of the local server.
#[derive(Clone, Debug)]
pub enum ServerEvent {
    /// INFO was read.
    View(Box<ServerView>),
    /// Any other answer.
    Answer(AnswerKind),
    /// An answer that lay unread for a while: it came at this time or later.
    Earlier(AnswerKind, Instant),
    /// It has died, and its kernel has this for the peer's host: comes before [`ServerEvent::Dead`].
    LastWords(Vec<LastWords>),
    /// Its death was proven.
    Dead(DeathProof),
}

/// Seen of the peer's daemon.
#[derive(Clone, Debug)]
pub enum PeerEvent {
    /// An authenticated statement arrived.
    Heard(Box<Statement>),
    /// The connection ended. No more than a reason to ask.
    Lost,
}

/// From the VRRP machine, which proposes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum VrrpEvent {
    /// It would be master now; it waits for [`VrrpCommand::Grant`].
    WantMaster,
    /// It no longer wants to be: an advert arrived while it waited.
    WishWithdrawn,
    /// It is master and its advert has left: addresses may go up.
    BecameMaster,
    /// It is not master any more, or the peer has taken the address: addresses must go.
    GiveUpAddresses,
    /// An advert of the peer was accepted.
    PeerAdvert,
    /// An advert of this host leaves.
    AdvertSent,
    /// Adverts of this virtual router arrive from somebody who is not the peer.
    Stranger(String),
}

/// To the VRRP machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum VrrpCommand {
    /// The data is ready: be master.
    Grant,
    /// Wish to be master now, without waiting: the other side stepped back (rule 8).
    Claim,
    /// Go on as master at once after a restart of the daemon (rule 15).
    ResumeMaster,
    /// This host may not be master; the reason is shown.
    Fault(String),
    /// It may again.
    ClearFault,
    /// Step back: priority 0 now, addresses stay until the peer is heard or 50 ms passed.
    Release,
    /// Leave for good.
    Stop,
}

/// Something for the shell to do, with the answer coming back as [`Input::Done`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// Make this record durable before anything that follows from it.
    Journal(Box<Journal>),
    /// Start the server process, fenced (`manage = "spawn"` or `"systemd"`).
    StartServer,
    /// SIGKILL the server: the last fence, when its front cannot be closed (rule 12).
    KillServer,
    /// `REPLICAOF NO ONE`, confirmed by INFO.
    Promote,
    /// `REPLICAOF 127.0.0.1 1`, clients killed, confirmed by INFO.
    Fence,
    /// Follow the peer's server.
    Attach {
        /// `host:port`.
        address: String,
    },
    /// Wait until the proxies that were told that this server is closing have nothing outstanding there.
    Quiesce(Rank),
    /// `CLIENT PAUSE .. WRITE` for this long; the view read after it.
    PauseWrites(Duration),
    /// `CLIENT UNPAUSE`.
    Unpause,
    /// Wait until the peer's server has applied `offset`.
    WaitPeerOffset {
        /// Its address.
        address: String,
        /// To reach.
        offset: Offset,
    },
    /// Wait until the local replica has read all that the old primary's kernel still delivers
    /// (rule 6): `offset` reached, or its link reported down, or all `last_words` arrived and read, or, where none
    /// are known, its receive queue empty for a while.
    Drain {
        /// Reached means drained; `None` waits for the link's end.
        offset: Option<Offset>,
        /// Only the offset counts: a switchover's peer must be equal.
        exact: bool,
        /// What the dead primary's kernel said that it would deliver; empty if it said nothing.
        last_words: Vec<LastWords>,
    },
    /// Refuse with RST at the VIP's port and destroy client sockets there; with `direct`, at the
    /// server's own port as well, except for the hosts of the group.
    CloseFront {
        /// The server does not obey: its port is closed to everybody else.
        direct: bool,
        /// The process is dead or dying: its listening socket is destroyed too.
        listener: bool,
    },
    /// Undo [`Step::CloseFront`].
    OpenFront,
    /// Put the addresses on and announce them.
    AddVip,
    /// Take the addresses off.
    DropVip,
    /// A fresh connection to the peer's server and one question.
    Probe,
    /// Fence the peer's server over the network because its daemon is gone: pause, wait until the
    /// local server is equal, `REPLICAOF 127.0.0.1 1`, kill its clients (rule 2).
    RemoteFence {
        /// The lineage of the local data. A server of another one has restarted, perhaps without its data:
        /// becoming equal to it would be the loss of ours.
        lineage: ReplId,
    },
    /// Count the bytes of client commands after `from` in the local stream (rule 19).
    MeasureTail {
        /// The last shared offset.
        from: Offset,
    },
    /// Behind a closed front: pause, read the stream after `from` into the archive, fence
    /// (rule 20).
    ArchiveTail {
        /// The last shared offset.
        from: Offset,
        /// The epoch whose writes these are.
        epoch: Epoch,
    },
    /// The tail is gone: save everything as an RDB, fenced.
    ArchiveRdb {
        /// The epoch whose writes these are.
        epoch: Epoch,
        /// Why no tail, for the receipt.
        why: String,
    },
}

impl Step {
    /// One word for logs and errors.
    pub fn word(&self) -> &'static str {
        match self {
            Self::Journal(_) => "journal",
            Self::StartServer => "start-server",
            Self::KillServer => "kill-server",
            Self::Promote => "promote",
            Self::Fence => "fence",
            Self::Attach { .. } => "attach",
            Self::Quiesce(_) => "quiesce",
            Self::PauseWrites(_) => "pause-writes",
            Self::Unpause => "unpause",
            Self::WaitPeerOffset { .. } => "wait-peer-offset",
            Self::Drain { .. } => "drain",
            Self::CloseFront { .. } => "close-front",
            Self::OpenFront => "open-front",
            Self::AddVip => "add-vip",
            Self::DropVip => "drop-vip",
            Self::Probe => "probe",
            Self::RemoteFence { .. } => "remote-fence",
            Self::MeasureTail { .. } => "measure-tail",
            Self::ArchiveTail { .. } => "archive-tail",
            Self::ArchiveRdb { .. } => "archive-rdb",
        }
    }
}

/// What a step brought.
#[derive(Clone, Debug)]
pub enum Outcome {
    /// Done, nothing more to say.
    Done,
    /// Done, and this is the server now.
    View(Box<ServerView>),
    /// The peer's server, asked directly.
    Probed(ProbeResult),
    /// The peer's server is fenced at this offset.
    RemoteFenced(Offset),
    /// Client bytes after the fork.
    Measured(u64),
    /// Archived under this name, with so many commands; the server afterwards.
    Archived {
        /// Name of the receipt, or `None` when there was nothing to keep.
        receipt: Option<String>,
        /// Commands kept; 0 for an RDB.
        commands: u64,
        /// The server, fenced.
        view: Box<ServerView>,
    },
}

/// What a fresh connection to the peer's server found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ProbeResult {
    /// It answers and takes our credentials.
    Answers {
        /// It accepts writes.
        writable: bool,
    },
    /// It answers but refuses our credentials.
    AuthRefused,
    /// The host answers that nobody listens there.
    Refused,
    /// Nothing came back in time.
    Silent,
}

/// Why a step failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StepError {
    /// What kind, which decides what is done about it.
    pub kind: StepErrorKind,
    /// In words, naming the object.
    pub text: String,
}

/// Kinds of failure of a step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StepErrorKind {
    /// Not done within the deadline; whether it took effect is unknown.
    TimedOut,
    /// The server or the kernel said no; nothing happened.
    Refused,
    /// The connection broke; whether it took effect is unknown.
    Broken,
    /// The stream after the fork is no longer in the backlog.
    TailGone,
    /// No space for it.
    NoSpace,
}

/// What an operator can ask for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Command {
    /// Give the role to the other host, in order and without loss.
    Switchover {
        /// Must be the other host when given.
        to: Option<HostId>,
    },
    /// Make this host's data the group's, whatever is lost.
    FailoverAcceptLoss,
    /// No automatic failover until resumed.
    Pause,
    /// Automatic failover again.
    Resume,
    /// Begin the resync that waits for a person.
    Resync,
}

/// A command's outcome.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reply {
    /// Done; the sentence says what.
    Done(String),
    /// Refused for safety by this rule.
    Refused {
        /// The rule's name.
        rule: String,
        /// Why, in words.
        why: String,
    },
    /// Tried and failed; what holds now.
    Failed(String),
}

/// How much a person should care.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Severity {
    /// Ordinary.
    Info,
    /// Look at it when there is time.
    Warning,
    /// Look at it now.
    Alarm,
}

/// A change of role or state that hooks hang on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hook {
    /// This host's server became primary.
    Promoted,
    /// This host's server stopped being primary.
    Demoted,
    /// The addresses are here.
    VipUp,
    /// Something needs a person.
    Fault,
}

/// One line of history.
#[derive(Clone, Debug)]
pub struct Event {
    /// Short stable name, sentinel's spelling where there is one.
    pub name: &'static str,
    /// The epoch it belongs to.
    pub epoch: Epoch,
    /// In words.
    pub text: String,
    /// How much it matters.
    pub severity: Severity,
    /// Hooks to run for it.
    pub hook: Option<Hook>,
}

/// Out of the keeper, in the order in which it is to be carried out.
#[derive(Clone, Debug)]
pub enum Output {
    /// Carry this out and report.
    Do {
        /// For the report.
        id: StepId,
        /// What.
        step: Step,
        /// Report failure by then.
        deadline: Instant,
    },
    /// Tell the VRRP machine.
    Vrrp(VrrpCommand),
    /// Send this to the peer now.
    Publish(Box<Statement>),
    /// Write this record when there is time: it only sharpens what is already durable.
    Mark(Box<Journal>),
    /// Tell people.
    Event(Event),
    /// Ask the segment who answers for the addresses and for the peer's own, and report
    /// [`Input::VipAnswers`] whenever it is known. Nothing waits for it.
    AskVip,
    /// Answer an operator.
    Reply {
        /// The request.
        id: u64,
        /// The answer.
        reply: Reply,
    },
    /// Leave. With `serving`, the server goes on alone and its address should outlive the daemon
    /// for a restart.
    Exit {
        /// The role could not be handed over.
        serving: bool,
    },
}
