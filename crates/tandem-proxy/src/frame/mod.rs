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
    match short_length(bytes, at) {
        Some((value, next)) => Length::Whole(value, next),
        None => any_length(bytes, at),
    }
}

/// A length of one or two digits with its line end, as nearly all are, and the offset after it: four bytes looked at as
/// one word.
#[inline(always)]
fn short_length(bytes: &[u8], at: usize) -> Option<(u64, usize)> {
    let word = u32::from_le_bytes(*bytes.get(at..)?.first_chunk()?);
    let digit = |place: u32| ((word >> (8 * place)) & 0xff).wrapping_sub(u32::from(b'0'));
    let (first, second) = (digit(0), digit(1));
    if first > 9 {
        return None;
    }
    if (word >> 8) & 0xffff == LINE_END {
        return Some((u64::from(first), at + 3));
    }
    (word >> 16 == LINE_END && second <= 9)
        .then_some((u64::from(first) * 10 + u64::from(second), at + 4))
}

/// `\r\n` as it lies in a word.
const LINE_END: u32 = u16::from_le_bytes(*b"\r\n") as u32;

/// The same for any number of digits, and for what is cut off or wrong.
fn any_length(bytes: &[u8], at: usize) -> Length {
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
