//! What goes into a machine and what comes out: plain values, so that a run can be recorded.

use std::fmt;
use std::net::IpAddr;
use std::time::Duration;

use crate::garp::Round;
use crate::packet::{DecodeError, Dialect, Received};
use crate::settings::Settings;

/// States of a virtual router: those of RFC 9568 6.4, keepalived's FAULT and STOP, and two of ours
/// that lie between a wish and its fulfilment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum State {
    /// Not started, or waiting for checks that have not run once.
    Init,
    /// Listening.
    Backup,
    /// Wants to be MASTER and waits for the answer. Silent.
    Claiming,
    /// Sends adverts.
    Master,
    /// Sent priority 0 and still holds its addresses, for a moment. Silent.
    Releasing,
    /// Something tracked is broken. Silent.
    Fault,
    /// Stopped for good.
    Stopped,
}

/// As notify scripts and the FIFO spell it.
impl fmt::Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Init => "INIT",
            Self::Backup => "BACKUP",
            Self::Claiming => "CLAIMING",
            Self::Master => "MASTER",
            Self::Releasing => "RELEASING",
            Self::Fault => "FAULT",
            Self::Stopped => "STOP",
        })
    }
}

/// Names one wish, so that a late answer is not taken for the answer to a newer one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct ClaimId(pub u64);

/// Who says that something is broken. Each source is faulty or not; FAULT ends when none is.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum FaultSource {
    /// An interface that is down or missing.
    Interface(String),
    /// The router's own source address is gone. Raised by [`Input::OwnAddress`] itself.
    OwnAddress,
    /// A check script of weight 0.
    Script(String),
    /// A tracked file of weight 0.
    File(String),
    /// A tracked process of weight 0.
    Process(String),
    /// Another member of the sync group.
    SyncGroup,
    /// What the address serves is not fit: for the keeper of the data.
    Service(String),
}

/// What is wrong with a source.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum FaultReason {
    /// It failed.
    Failed,
    /// It has not given a first result. A router with nothing worse stays in INIT, silently.
    Pending,
}

/// What a machine is told. `now` comes beside it.
#[derive(Debug, Clone, PartialEq)]
pub enum Input {
    /// Begin. Faults, weights and the own address known before are honoured.
    Start,
    /// Begin as MASTER with an advert: a daemon restarted while its address stayed.
    Resume,
    /// A deadline may have passed.
    Timer,
    /// An advert that passed [`crate::packet::Receiver`].
    Advert(Received),
    /// A datagram for this VRID that did not.
    Rejected {
        /// Who sent it.
        source: IpAddr,
        /// Why it was dropped.
        error: DecodeError,
    },
    /// Answer to [`Output::WantMaster`]: be MASTER.
    Granted(ClaimId),
    /// Answer to [`Output::WantMaster`]: not now. The router asks again after a Master_Down of
    /// silence; a lasting reason is better said as [`Input::Fault`].
    Denied(ClaimId),
    /// A source is broken.
    Fault {
        /// Which.
        source: FaultSource,
        /// How.
        reason: FaultReason,
    },
    /// A source works again, or for the first time.
    FaultCleared(FaultSource),
    /// A source's contribution to the priority; 0 forgets it. Owners ignore weights.
    Weight {
        /// Names the source.
        source: String,
        /// Added to the base priority; the sum is clamped to 1..=254.
        delta: i32,
    },
    /// Our source address is this now, or gone.
    OwnAddress(Option<IpAddr>),
    /// The peer that sent priority 0 also refuses connections: claim without waiting for the skew.
    PeerReleased,
    /// Claim now, without waiting for silence: whoever decides knows that the place is free.
    Claim,
    /// We did not run for this long.
    PauseDetected(Duration),
    /// Hand over: priority 0 now, addresses for a moment longer. Ignored unless MASTER or claiming.
    Release,
    /// Go BACKUP without priority 0: the sync group lost a member.
    Withdraw,
    /// Announce the addresses again. Ignored unless MASTER.
    Announce,
    /// Leave for good.
    Stop,
    /// New settings for the same router; a MASTER stays MASTER.
    Reload(Box<Settings>),
}

/// Why a router wishes to be MASTER.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum ClaimReason {
    /// Started as owner.
    Owner,
    /// No advert for a Master_Down.
    Silence,
    /// The master sent priority 0 and the skew has passed.
    MasterLeft,
    /// The master sent priority 0 and its service is gone.
    PeerReleased,
    /// A master of lower priority speaks, and we preempt.
    Preempt,
    /// [`Input::Claim`].
    Asked,
}

/// Why a state was entered or addresses must go.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Reason {
    /// [`Input::Start`].
    Started,
    /// [`Input::Resume`].
    Resumed,
    /// The claim was granted.
    Granted(ClaimReason),
    /// The claim was denied.
    Denied,
    /// A master of higher priority, or of equal priority and higher address, was heard.
    HigherMaster {
        /// Who.
        source: IpAddr,
        /// With what priority.
        priority: u8,
    },
    /// A source broke.
    Fault,
    /// The last fault was cleared.
    Recovered,
    /// We were frozen so long that another must have taken over.
    Paused,
    /// [`Input::Release`].
    Released,
    /// [`Input::Withdraw`].
    Withdrawn,
    /// [`Input::Stop`].
    Stopped,
    /// An answer came to a wish that had been given up.
    StaleGrant,
}

/// Why an advert is sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum AdvertReason {
    /// Becoming MASTER.
    Entry,
    /// The interval has passed.
    Interval,
    /// Another master's priority 0 was heard.
    PeerLeft,
    /// A lower master was heard (RFC 9568 6.4.3).
    LowerMaster,
    /// A higher master was heard, and settings say to let it know that we were there.
    HigherMaster,
    /// Settings were reloaded.
    Reload,
    /// Leaving: priority 0.
    Leaving,
}

/// An advert for [`crate::packet::Sender::advert`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AdvertToSend {
    /// The effective priority, or 0.
    pub priority: u8,
    /// Why.
    pub reason: AdvertReason,
}

/// What a machine wants done, in this order.
#[derive(Debug, Clone, PartialEq)]
pub enum Output {
    /// A wish. The caller answers with [`Input::Granted`] or [`Input::Denied`], within a bound of its
    /// own; until then no advert leaves.
    WantMaster {
        /// To name in the answer.
        claim: ClaimId,
        /// Why.
        reason: ClaimReason,
    },
    /// Send an advert.
    SendAdvert(AdvertToSend),
    /// The addresses, or the wish for them, must be given up now.
    Yield {
        /// The state that follows.
        to: State,
        /// Why.
        reason: Reason,
    },
    /// A state to tell others: MASTER (install the addresses), BACKUP, FAULT or STOP.
    Became {
        /// Which.
        state: State,
        /// Why.
        reason: Reason,
    },
    /// Announce the addresses.
    Announce(Round),
    /// Something for the log.
    Event(Event),
}

/// What an operator may want to know. Repeated kinds come once per sender until the state changes.
#[derive(Debug, Clone, PartialEq)]
pub enum Event {
    /// A datagram with our VRID was dropped: another cluster, or a peer with other settings.
    Rejected {
        /// Who.
        source: IpAddr,
        /// Why.
        error: DecodeError,
    },
    /// A v3 master advertises another interval than ours; it was adopted.
    IntervalDiffers {
        /// Who.
        source: IpAddr,
        /// Its interval.
        theirs: Duration,
        /// Ours.
        ours: Duration,
    },
    /// Alarm: the adopted interval is so large that a failover will be slow.
    IntervalLarge {
        /// Who.
        source: IpAddr,
        /// Its interval.
        theirs: Duration,
        /// M after the cap, if there is one.
        used: Duration,
    },
    /// A sender lists other addresses than ours.
    AddressesDiffer {
        /// Who.
        source: IpAddr,
    },
    /// A sender computes its checksums unlike us.
    DialectDiffers {
        /// Who.
        source: IpAddr,
        /// Its way.
        theirs: Dialect,
    },
    /// Another host speaks with our priority and our address.
    OwnAddressHeard {
        /// The address.
        source: IpAddr,
    },
    /// keepalived's MASTER_RX_LOWER_PRI: two masters, the other is lower.
    LowerMaster {
        /// Who.
        source: IpAddr,
        /// With what priority.
        priority: u8,
    },
    /// A backup heard a lower master and lets its timer run.
    PreemptPending {
        /// Who.
        source: IpAddr,
        /// With what priority.
        priority: u8,
    },
    /// Two owners: both configured with 255.
    OwnerConflict {
        /// The other.
        source: IpAddr,
    },
    /// The effective priority changed.
    PriorityChanged {
        /// Before.
        from: u8,
        /// Now.
        to: u8,
    },
    /// The set of faults changed without a change of state.
    FaultsChanged {
        /// How many remain.
        remaining: usize,
    },
    /// A timer came this late.
    Late(Duration),
    /// Reloaded settings are of another router (VRID, version, family) or cannot work; kept the old.
    ReloadRefused,
    /// A sender was not remembered because the table is full; its events may repeat.
    TooManySenders,
}

/// Why the machine wants to be woken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum DeadlineReason {
    /// The next advert.
    Advert,
    /// No advert heard until then: claim.
    MasterDown,
    /// The successor of a release has not been heard until then: give the addresses up.
    ReleaseHold,
    /// An announcement round.
    Announcement,
}
