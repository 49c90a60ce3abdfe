//! Recorded exchanges with a Sentinel: what was sent, and byte for byte what came back.
//!
//! A recording is one text file that is script and expectation at once. A real redis-sentinel writes the expected
//! lines; afterwards every Sentinel, the real one included, is measured against them:
//!
//! ```text
//! # A comment, kept.
//! @conf requirepass secret     a line for the Sentinel's file
//! @peer                        another Sentinel, a real one, is in the group
//! @on second                   go on over this connection, opened when there is none of the name
//! @replies 2                   the next request is answered by two values
//! @sort                        the order of the next answer's parts means nothing
//! @names                       of the next answer's INFO text the names of the fields count
//! @hide                        of the next answer only the kinds of its values count
//! > SENTINEL MASTER "no such"  a request: words, "" for an empty one
//! >> PING\r\n                  a request as bytes
//! @read 1                      no request: what comes by itself
//! < -ERR No such master with that name
//! ```
//!
//! What is different each time (ages, ids, offsets) is masked by the table in [`mask`].

pub mod mask;
mod play;
mod script;
mod stage;

pub use self::play::{Mismatch, Player};
pub use self::script::{Look, Request, Script, Step};
pub use self::stage::{PEER_ID, SUBJECT_ID, Stage};
