//! The keeper and its rules: who may be primary, and what is done to make it so; no IO.
//!
//! ```text
//!  server readings, peer statements, VRRP wishes, results, operator, clock
//!        | Input + now                                   ^ Output: steps, statements, events
//!        v                                               |
//!   +---------------------------- Keeper ----------------+----+
//!   |  rules (pure, one ruling each)  ->  phase  ->  step     |
//!   +----------------------------------------------------------+
//! ```
//!
//! The crate refuses to do IO, to read a clock and to be random: everything comes in through
//! [`keeper::Keeper::handle`] and leaves as a list of outputs. The shell of the `tandem` binary
//! carries them out against real servers, the simulator against simulated ones. The types to read
//! first are [`keeper::Input`], [`keeper::Output`] and [`keeper::Phase`].

pub mod answer;
pub mod conversation;
pub mod directory;
pub mod follow;
pub mod health;
pub mod ids;
pub mod info;
pub mod journal;
pub mod keeper;
pub mod pair;
pub mod proxy_vip;
pub mod rules;
pub mod sentinel;
pub mod server;
pub mod session;
pub mod statement;
#[cfg(test)]
mod testing;
pub mod topology;
pub mod word;
