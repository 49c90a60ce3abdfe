//! The rest of a request that is passed on, or thrown away, while it still arrives.
//!
//! [`Scan`](super::Scan) needs all of a request at hand. Once its beginning has said where it goes, nothing more of it has
//! to be kept: what is left is counted, argument by argument. A line or a line end that is cut in two is left to be
//! looked at again with what follows, so at most [`Tail::KEPT`] bytes are.

use super::{Length, Limits, RequestError, length};

/// What of one request is still to come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Tail {
    /// Arguments that have not begun.
    arguments: u32,
    /// Bytes of the argument at hand with its line end; 0 between arguments.
    left: u64,
    /// Bytes so far, for the bound of the whole.
    whole: u64,
}

impl Tail {
    /// More is never left unread of what was given: a type byte, ten digits and a line end, without its last byte.
    pub const KEPT: usize = 13;

    /// So many arguments, after so many bytes.
    pub(super) fn new(arguments: u32, whole: usize) -> Self {
        Self {
            arguments,
            left: 0,
            whole: whole as u64,
        }
    }

    /// Whether nothing is to come.
    #[must_use]
    pub fn is_over(&self) -> bool {
        self.arguments == 0 && self.left == 0
    }

    /// Goes over the next bytes of the stream. How many of them are done with; fewer than were given if the request ends
    /// before them, or if the last few cannot be understood without what follows.
    ///
    /// # Errors
    /// The request breaks the protocol or a bound.
    pub fn advance(&mut self, bytes: &[u8], limits: &Limits) -> Result<usize, RequestError> {
        let mut at = 0;
        loop {
            if self.left > 2 {
                let here = (self.left - 2).min((bytes.len() - at) as u64);
                self.left -= here;
                at += here as usize;
            }
            match self.left {
                0 if self.arguments == 0 => break,
                0 => match bytes.get(at) {
                    None => break,
                    Some(b'$') => match length(bytes, at + 1) {
                        Length::Whole(len, _) if len > limits.argument => {
                            return Err(RequestError::Argument);
                        }
                        Length::Whole(len, start) => {
                            self.arguments -= 1;
                            self.left = len + 2;
                            self.whole += (start - at) as u64 + self.left;
                            if self.whole > limits.whole {
                                return Err(RequestError::Whole);
                            }
                            at = start;
                        }
                        Length::Cut => break,
                        Length::Bad => return Err(RequestError::Argument),
                    },
                    Some(&other) => return Err(RequestError::NoBulk(other)),
                },
                2 => match bytes.get(at..at + 2) {
                    Some(b"\r\n") => {
                        self.left = 0;
                        at += 2;
                    }
                    Some(_) => return Err(RequestError::NoLineEnd),
                    None => break,
                },
                // Cut within the argument.
                _ => break,
            }
        }
        Ok(at)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::frame::Scan;
    use proptest::prelude::*;

    /// Goes over a stream in pieces as a connection brings them; how much of it belongs to the request.
    fn drink(tail: &mut Tail, stream: &[u8], pieces: &[usize]) -> Result<usize, RequestError> {
        let (mut at, mut end) = (0, 0);
        let mut sizes = pieces.iter().cycle();
        while !tail.is_over() && end < stream.len() {
            end = stream.len().min(end + sizes.next().unwrap());
            at += tail.advance(&stream[at..end], &Limits::CLIENT)?;
            assert!(
                tail.is_over() || end - at <= Tail::KEPT,
                "{} kept",
                end - at
            );
        }
        Ok(at)
    }

    proptest! {
        #[test]
        fn ends_where_a_whole_request_ends_however_it_is_cut(
            arguments in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..40), 1..12),
            begun in 0usize..200,
            pieces in prop::collection::vec(1usize..20, 1..6),
        ) {
            let words: Vec<&[u8]> = arguments.iter().map(Vec::as_slice).collect();
            let mut bytes = Vec::new();
            tandem_resp::encode_command(&words, &mut bytes);
            let whole = bytes.len();
            bytes.extend_from_slice(b"*1\r\n$4\r\nPING\r\n");
            let mut scan = Scan::default();
            let begun = begun.min(whole - 1);
            prop_assert_eq!(scan.advance(&bytes[..begun], &Limits::CLIENT), Ok(None));
            if let Some((mut tail, at)) = scan.tail() {
                prop_assert_eq!(at + drink(&mut tail, &bytes[at..], &pieces).unwrap(), whole);
            }
        }

        #[test]
        fn no_stream_makes_it_panic(bytes in prop::collection::vec(any::<u8>(), 0..200), pieces in prop::collection::vec(1usize..20, 1..6)) {
            let _ = drink(&mut Tail::new(3, 0), &bytes, &pieces);
        }
    }

    #[test]
    fn a_breach_is_found_where_it_is() {
        for (bytes, error) in [
            (&b":1\r\n"[..], RequestError::NoBulk(b':')),
            (b"$x\r\n", RequestError::Argument),
            (b"$1\r\nxyz", RequestError::NoLineEnd),
            (b"$600000000\r\n", RequestError::Argument),
        ] {
            assert_eq!(Tail::new(2, 0).advance(bytes, &Limits::CLIENT), Err(error));
        }
        let mut tail = Tail::new(3, 0);
        let head = b"$300000000\r\n";
        assert_eq!(tail.advance(head, &Limits::CLIENT), Ok(head.len()));
        tail.left = 0;
        assert_eq!(
            tail.advance(head, &Limits::CLIENT),
            Err(RequestError::Whole)
        );
    }
}
