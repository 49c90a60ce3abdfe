//! Sentinel without IO: what one sentinel believes, decides and says.
//!
//! The machine speaks the protocol of Redis Sentinel (baseline 7.0.15) so that real ones vote with it, and decides
//! faster: it acts on events instead of ticks, counts time on a monotonic clock, and knows more kinds of evidence than
//! silence. It opens no socket, reads no clock and writes no file. Everything comes in through one `handle(input, now)`
//! and leaves as a list of [`Output`]s; the shell carries them out and reports each result, failure included.
//!
//! What is promised to the others on the wire (a vote, an epoch) is durable before it leaves: the machine asks for
//! [`Output::Save`] and holds the answer back until [`Input::Saved`].

pub mod commands;
pub mod daemon;
mod down;
mod due;
mod election;
pub mod events;
pub mod evidence;
mod failover;
mod forced;
pub mod forget;
pub mod hello;
pub mod ids;
mod inspect;
pub mod io;
mod late;
mod links;
mod machine;
mod manual;
pub mod model;
mod observe;
mod periodic;
mod promotion;
mod questions;
mod random;
mod reasons;
mod reconf;
mod repair;
mod replies;
mod save;
pub mod saved;
pub mod scripts;
pub mod select;
pub mod settings;
pub mod stage;
mod standing;
mod steps;
mod stranded;
pub mod stranger;
mod switch;
pub mod tail;
#[cfg(test)]
mod tests;
mod vote;

pub use ids::{ConfigEpoch, ElectionEpoch, Endpoint, GroupName, SentinelId};
pub use io::{ConnId, ConnKind, Input, Output, Question, RequestId};
pub use machine::Sentinel;
pub use manual::CannotFailOver;
