//! VRRP v2 (RFC 3768) and v3 (RFC 9568) as keepalived speaks them: bytes, timers, transitions.
//!
//! The crate decides what an advert says, whether one that came in counts, who should be MASTER
//! and when to say so. It opens no socket, reads no clock and knows no address as *installed*: a
//! router that should become MASTER emits a wish ([`machine::Output::WantMaster`]) and stays silent
//! until somebody grants it. What must happen before that, moving an address or promoting a
//! database, is the caller's.
//!
//! Two types to read first: [`machine::Machine`], the virtual router, and [`packet::Receiver`] with
//! [`packet::Sender`], which turn datagrams into its inputs and its outputs into datagrams.
//!
//! ```text
//!   raw socket --bytes--> Receiver --Received | DecodeError--> Machine --AdvertToSend--> Sender --bytes--> raw socket
//!                                          timers, faults, weights --^  |--WantMaster, Became, Yield, Announce, Event
//! ```

#![forbid(unsafe_code)]

pub mod arp;
pub mod garp;
pub mod machine;
pub mod ndisc;
pub mod packet;
pub mod settings;
pub mod sync;
pub mod track;
mod types;

pub use types::{Family, Priority, Version, Vrid};
