//! RESP2 and RESP3 framing for untrusted bytes, command encoding and limits; no IO.
//!
//! What this crate decides: where a frame begins and ends, whether its bytes are well formed, and whether it is
//! larger than the caller allows. What it leaves to others: sockets, time, the meaning of a command or an error.
//! It follows the RESP2 and RESP3 descriptions of the Redis documentation and, for requests, `networking.c`:
//! a request is an array of bulk strings or one inline line.
//!
//! Read first: [`ReplyParser`] (a client's side of a connection), [`RequestParser`] (a server's side) and
//! [`stream::StreamParser`] (a replica's side). All three are handed a slice that starts at the frame in progress,
//! remember how far they looked, and never look at a byte twice when more arrives. They answer with byte ranges;
//! [`Value`] is the owned form for those who do not count allocations. [`ReplyDecoder`] adds the buffer.
//!
//! The one surprising thing: streamed RESP3 strings and aggregates (`$?`, `*?`) are refused. No server sends them,
//! and accepting them would make the length of a frame unknowable before its end.

mod encode;
mod error;
mod inline;
mod limits;
mod line;
mod reply;
mod request;
pub mod stream;
mod value;

pub use encode::{
    Command, Protocol, encode_command, write_array_header, write_bulk, write_error, write_integer,
    write_map_header, write_null, write_null_array, write_push_header, write_simple,
};
pub use error::{ErrorKind, FrameError};
pub use inline::{QuoteError, split_inline};
pub use limits::Limits;
pub use reply::{Kind, Node, ReplyDecoder, ReplyParser};
pub use request::{Argv, Request, RequestParser};
pub use value::Value;
