//! Talking to one Redis or Valkey server.
//!
//! Everything here does what it is told within a deadline and reports what came of it. Whether to promote, fence or
//! archive is the keeper's to decide; what an answer means is `tandem-core`'s to say; framing is `tandem-resp`'s.
//!
//! ```text
//!   ops, fence      composite operations: promote, fence, attach, remote fence, checks
//!      |
//!    client         one persistent pipelined connection; answers matched in order
//!      |   rest     what it asks by itself while nothing else is to be done
//!      |   beat     the thread that asks
//!      |   streams  which connections replication runs over
//!      |
//!     raw           connect, authenticate, one question at a time
//!      |
//!   tail, rdb       replication connections: the divergent tail, or the whole data set, into a file
//! ```
//!
//! Passwords travel over the connection only, never through an argument list, and no `Debug` shows them.

mod beat;
pub(crate) mod client;
pub(crate) mod error;
pub(crate) mod fence;
pub(crate) mod ops;
pub(crate) mod raw;
pub(crate) mod rdb;
pub(crate) mod rest;
pub(crate) mod sink;
pub(crate) mod streams;
pub(crate) mod tail;

#[cfg(test)]
pub(crate) mod tests;
