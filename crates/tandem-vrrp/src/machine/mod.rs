//! One virtual router: who should be MASTER, and when to say so.

mod io;

pub use io::{
    AdvertReason, AdvertToSend, ClaimId, ClaimReason, DeadlineReason, Event, FaultReason,
    FaultSource, Input, Output, Reason, State,
};
