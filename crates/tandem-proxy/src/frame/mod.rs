//! Where frames end on the wire, and nothing more.
//!
//! | module | finds | keeps |
//! |---|---|---|
//! | [`request`] | one whole request at the start of a slice, and where its arguments lie | a resumable place, no bytes |
//! | [`tail`] | the end of a request that is too large to be kept | a few counters, no bytes |
//! | [`reply`] | the end of one reply, RESP2 or RESP3, nested, of any size | a few counters, no bytes |
//!
//! Values are never decoded. A request is wanted whole, because its key decides where it goes; a reply may be
//! passed on while it still arrives, so its scanner accepts pieces cut anywhere. What is too large is refused as
//! soon as its length is known, before the bytes arrive.

pub mod reply;
pub mod request;
pub mod tail;

pub use reply::{Fed, ReplyError, Scanner};
pub use request::{Limits, Request, RequestError, Scan, Span};
pub use tail::Tail;

/// A decimal length with its line end, as found after a type byte.
enum Length {
    /// The value, and the offset after the line end.
    Whole(u64, usize),
    /// The line is cut off; nothing wrong so far.
    Cut,
    /// Not digits and a line end, or more digits than any length has.
    Bad,
}

/// The most digits that a length may have: ten billion is beyond every limit here.
const DIGITS: usize = 10;

/// Reads the length that begins at `at`, just after a type byte.
#[inline(always)]
fn length(bytes: &[u8], at: usize) -> Length {
    let mut value = 0u64;
    let mut end = at;
    while let Some(&byte) = bytes.get(end) {
        let digit = byte.wrapping_sub(b'0');
        if digit <= 9 {
            if end - at >= DIGITS {
                return Length::Bad;
            }
            value = value * 10 + u64::from(digit);
            end += 1;
            continue;
        }
        if byte != b'\r' || end == at {
            return Length::Bad;
        }
        return match bytes.get(end + 1) {
            Some(b'\n') => Length::Whole(value, end + 2),
            Some(_) => Length::Bad,
            None => Length::Cut,
        };
    }
    Length::Cut
}
