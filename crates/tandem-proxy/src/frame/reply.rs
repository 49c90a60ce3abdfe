//! Replies: where one ends, in RESP2 or RESP3, however it is cut.
//!
//! Nesting needs no stack: it is enough to know how many values are still owed. An array of three takes one off
//! and adds three; a map of two adds four; an attribute adds its pairs and is itself no value. The scanner never
//! asks for a byte twice, so a value of 512 MiB passes through it in pieces.
//!
//! RESP3 streamed strings and aggregates (`$?`, `*?`) are refused: no server sends them.

use super::{Length, length, short_length};

/// What is wrong with a reply; the server's fault, and the end of that connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ReplyError {
    /// A byte that begins no reply.
    #[error("unexpected type byte {0:#04x} in a reply")]
    Type(u8),
    /// A length that is none.
    #[error("invalid length in a reply")]
    Length,
    /// More values in one reply than anyone asks for.
    #[error("too many values in a reply")]
    Values,
}

/// What a piece of the stream brought.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fed {
    /// The reply ends after so many bytes of the piece; the scanner is ready for the next.
    End(usize),
    /// The piece belongs to the reply as a whole, and more follows.
    More,
}

/// The most values that one reply may still owe: 2^40, far beyond memory, far below overflow.
const OWED: u64 = 1 << 40;
/// Digits of a length.
const DIGITS: u8 = 12;

/// Finds the end of one reply after the other.
#[derive(Debug, Clone, Copy)]
pub struct Scanner {
    /// Values that this reply still owes, the one in progress included.
    owed: u64,
    place: Place,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Place {
    /// Before a type byte.
    Type,
    /// Within a line that is a value by itself.
    Line,
    /// Within the length after this type byte.
    Length {
        kind: u8,
        value: u64,
        digits: u8,
        negative: bool,
        ended: bool,
    },
    /// Within a bulk string, so many bytes before the end of its line end.
    Bulk { left: u64 },
}

impl Default for Scanner {
    fn default() -> Self {
        Self::new()
    }
}

impl Scanner {
    /// At the start of a reply.
    #[must_use]
    pub fn new() -> Self {
        Self {
            owed: 1,
            place: Place::Type,
        }
    }

    /// Whether a reply has begun and not ended.
    #[must_use]
    #[inline]
    pub fn is_within(&self) -> bool {
        self.owed != 1 || self.place != Place::Type
    }

    /// Goes on with the next piece of the stream.
    ///
    /// # Errors
    /// The stream breaks the protocol: nothing after this point can be matched to a request.
    #[inline(always)]
    pub fn feed(&mut self, piece: &[u8]) -> Result<Fed, ReplyError> {
        if !self.is_within()
            && let Some(end) = whole(piece)
        {
            return Ok(Fed::End(end));
        }
        self.go_on(piece)
    }

    fn go_on(&mut self, piece: &[u8]) -> Result<Fed, ReplyError> {
        let mut at = 0;
        loop {
            match self.place {
                Place::Type => {
                    let Some(&kind) = piece.get(at) else {
                        return Ok(Fed::More);
                    };
                    at += 1;
                    self.place = match kind {
                        b'+' | b'-' | b':' | b',' | b'#' | b'_' | b'(' => Place::Line,
                        b'$' | b'=' | b'!' | b'*' | b'~' | b'>' | b'%' | b'|' => Place::Length {
                            kind,
                            value: 0,
                            digits: 0,
                            negative: false,
                            ended: false,
                        },
                        other => return Err(ReplyError::Type(other)),
                    };
                }
                Place::Line => {
                    let rest = piece.get(at..).unwrap_or_default();
                    let Some(end) = line_end(rest) else {
                        return Ok(Fed::More);
                    };
                    at += end + 1;
                    if self.value_done() {
                        return Ok(Fed::End(at));
                    }
                }
                Place::Length {
                    kind,
                    value,
                    digits,
                    negative,
                    ended,
                } => {
                    let Some(next) =
                        self.length(kind, value, digits, negative, ended, piece, &mut at)?
                    else {
                        return Ok(Fed::More);
                    };
                    if next {
                        return Ok(Fed::End(at));
                    }
                }
                Place::Bulk { left } => {
                    let here = (piece.len() - at) as u64;
                    if here < left {
                        self.place = Place::Bulk { left: left - here };
                        return Ok(Fed::More);
                    }
                    at += left as usize;
                    if self.value_done() {
                        return Ok(Fed::End(at));
                    }
                }
            }
        }
    }

    /// Reads on in a length. None: the piece is used up; true: the reply ends here.
    #[inline]
    #[expect(
        clippy::too_many_arguments,
        reason = "the parts of one state, kept in registers on the hot path"
    )]
    fn length(
        &mut self,
        kind: u8,
        mut value: u64,
        mut digits: u8,
        mut negative: bool,
        mut ended: bool,
        piece: &[u8],
        at: &mut usize,
    ) -> Result<Option<bool>, ReplyError> {
        while let Some(&byte) = piece.get(*at) {
            *at += 1;
            let digit = byte.wrapping_sub(b'0');
            if digit <= 9 && !ended {
                digits += 1;
                if digits > DIGITS {
                    return Err(ReplyError::Length);
                }
                value = value * 10 + u64::from(digit);
            } else if byte == b'\r' && digits > 0 && !ended {
                ended = true;
            } else if byte == b'\n' && ended {
                return self.announced(kind, value, negative).map(Some);
            } else if byte == b'-' && digits == 0 && !negative && !ended {
                negative = true;
            } else {
                return Err(ReplyError::Length);
            }
        }
        self.place = Place::Length {
            kind,
            value,
            digits,
            negative,
            ended,
        };
        Ok(None)
    }

    /// A length is whole: what follows. True: the reply ends here.
    #[inline]
    fn announced(&mut self, kind: u8, value: u64, negative: bool) -> Result<bool, ReplyError> {
        if negative {
            // RESP2's nulls: `$-1` and `*-1`, nothing follows.
            return if value == 1 && matches!(kind, b'$' | b'*') {
                Ok(self.value_done())
            } else {
                Err(ReplyError::Length)
            };
        }
        match kind {
            b'$' | b'=' | b'!' => {
                self.place = Place::Bulk { left: value + 2 };
                Ok(false)
            }
            _ => {
                let pairs = matches!(kind, b'%' | b'|');
                self.owed += if pairs { value * 2 } else { value };
                if self.owed > OWED {
                    return Err(ReplyError::Values);
                }
                if kind == b'|' {
                    self.place = Place::Type;
                    return Ok(false);
                }
                Ok(self.value_done())
            }
        }
    }

    /// One value less is owed. True: it was the last, and the scanner is ready for the next reply.
    #[inline]
    fn value_done(&mut self) -> bool {
        self.place = Place::Type;
        if self.owed > 1 {
            self.owed -= 1;
            return false;
        }
        self.owed = 1;
        true
    }
}

/// Where a reply ends that is of the common kinds and all there: a short line, a bulk string, RESP2's null.
#[inline(always)]
fn whole(piece: &[u8]) -> Option<usize> {
    const OK: &[u8] = b"+OK\r\n";
    if piece.first()? == &b'$'
        && let Some((len, start)) = short_length(piece, 1)
    {
        let end = start + len as usize + 2;
        return (end <= piece.len()).then_some(end);
    }
    if piece.starts_with(OK) {
        return Some(OK.len());
    }
    whole_line_or_value(piece)
}

fn whole_line_or_value(piece: &[u8]) -> Option<usize> {
    match piece.first()? {
        b'$' => match length(piece, 1) {
            Length::Whole(len, start) => {
                let end = start + len as usize + 2;
                (end <= piece.len()).then_some(end)
            }
            Length::Bad => piece.starts_with(b"$-1\r\n").then_some(5),
            Length::Cut => None,
        },
        b'+' | b'-' | b':' => line_end(piece).map(|end| end + 1),
        _ => None,
    }
}

/// Offset of the `\n`: most lines are a few bytes, the rest are left to a vectorised search.
#[inline]
fn line_end(rest: &[u8]) -> Option<usize> {
    const SHORT: usize = 16;
    let near = rest.len().min(SHORT);
    match rest[..near].iter().position(|&byte| byte == b'\n') {
        Some(end) => Some(end),
        None => memchr::memchr(b'\n', &rest[near..]).map(|end| end + near),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Generates replies together with nothing else: the bytes are the truth.
    fn reply() -> impl Strategy<Value = Vec<u8>> {
        let line = (prop::sample::select(&b"+-:,#_("[..]), "[a-z0-9 ]{0,40}")
            .prop_map(|(kind, text)| [&[kind][..], text.as_bytes(), b"\r\n"].concat());
        let bulk = (
            prop::sample::select(&b"$=!"[..]),
            prop::collection::vec(any::<u8>(), 0..50),
        )
            .prop_map(|(kind, value)| {
                [
                    &[kind][..],
                    value.len().to_string().as_bytes(),
                    b"\r\n",
                    &value,
                    b"\r\n",
                ]
                .concat()
            });
        let null = prop::sample::select(vec![b"$-1\r\n".to_vec(), b"*-1\r\n".to_vec()]);
        prop_oneof![line, bulk, null].prop_recursive(4, 40, 6, |inner| {
            let flat = (
                prop::sample::select(&b"*~>"[..]),
                prop::collection::vec(inner.clone(), 0..6),
            )
                .prop_map(|(kind, values)| {
                    [
                        &[kind][..],
                        values.len().to_string().as_bytes(),
                        b"\r\n",
                        &values.concat(),
                    ]
                    .concat()
                });
            let pairs =
                prop::collection::vec((inner.clone(), inner.clone()), 0..4).prop_map(|pairs| {
                    let body: Vec<u8> = pairs
                        .iter()
                        .flat_map(|(key, value)| [&key[..], value].concat())
                        .collect();
                    [format!("%{}\r\n", pairs.len()).as_bytes(), &body].concat()
                });
            let attribute = (inner.clone(), inner.clone(), inner)
                .prop_map(|(key, value, real)| [b"|1\r\n", &key[..], &value, &real].concat());
            prop_oneof![flat, pairs, attribute]
        })
    }

    #[test]
    fn refuses_what_is_no_reply() {
        for (bytes, error) in [
            (&b"x"[..], ReplyError::Type(b'x')),
            (b"$?\r\n", ReplyError::Length),
            (b"$-2\r\n", ReplyError::Length),
            (b"%-1\r\n", ReplyError::Length),
            (b"*1\rx", ReplyError::Length),
            (b"*9999999999999\r\n", ReplyError::Length),
            (b"*999999999999\r\n*999999999999\r\n", ReplyError::Values),
        ] {
            let mut scanner = Scanner::new();
            let mut result = scanner.feed(bytes);
            if result == Ok(Fed::More) {
                result = scanner.feed(b"");
            }
            assert_eq!(result, Err(error), "{:?}", String::from_utf8_lossy(bytes));
        }
    }

    proptest! {
        #[test]
        fn any_cut_ends_replies_at_the_same_places(
            replies in prop::collection::vec(reply(), 1..6),
            sizes in prop::collection::vec(1usize..40, 1..8),
        ) {
            let stream = replies.concat();
            let mut ends = Vec::new();
            let mut scanner = Scanner::new();
            let mut at = 0;
            let mut sizes = sizes.into_iter().cycle();
            while at < stream.len() {
                let piece_end = stream.len().min(at + sizes.next().unwrap());
                match scanner.feed(&stream[at..piece_end]) {
                    Ok(Fed::End(used)) => {
                        at += used;
                        ends.push(at);
                        prop_assert!(!scanner.is_within());
                    }
                    Ok(Fed::More) => at = piece_end,
                    Err(error) => prop_assert!(false, "{error} at {at}"),
                }
            }
            let mut expected = Vec::new();
            let mut end = 0;
            for reply in &replies {
                end += reply.len();
                expected.push(end);
            }
            prop_assert_eq!(ends, expected);
        }

        #[test]
        fn never_panics_on_what_servers_send(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let mut scanner = Scanner::new();
            if let Ok(Fed::End(used)) = scanner.feed(&bytes) {
                prop_assert!(used <= bytes.len());
            }
        }
    }
}
