//! Requests: RESP arrays of bulk strings, as every client library sends them.
//!
//! The scan runs over one contiguous slice that begins with the request. When the slice ends early, [`Scan`] keeps
//! the offset of the first argument that was not whole, so that the next attempt, over the same bytes and more,
//! begins there: a request of a million arguments costs one pass however it is cut. Inline commands (a line of
//! words, for people with `telnet`) are recognised by [`Scan::is_inline`] and read by `tandem-resp`.
//!
//! Texts of errors are Redis' own (`networking.c`, `processMultibulkBuffer`): clients' authors know them.

use super::{Length, Tail, length, short_length};

/// Bounds on one request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Most arguments, the name included. Redis: 1,048,576.
    pub arguments: u32,
    /// Longest single argument, in bytes. Redis' `proto-max-bulk-len`: 512 MiB.
    pub argument: u64,
    /// Longest request as a whole, in bytes.
    pub whole: u64,
}

impl Limits {
    /// For a client that may send data.
    pub const CLIENT: Self = Self {
        arguments: 1024 * 1024,
        argument: 512 * 1024 * 1024,
        whole: 513 * 1024 * 1024,
    };

    /// For one that has not given the password yet, as Redis since 6.2.6: 10 arguments of 16 KiB.
    pub const STRANGER: Self = Self {
        arguments: 10,
        argument: 16 * 1024,
        whole: 11 * 16 * 1024,
    };
}

/// What is wrong with a request; the client's fault, and the end of its connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum RequestError {
    /// The number of arguments is not a number, or over its bound.
    #[error("Protocol error: invalid multibulk length")]
    Count,
    /// As above, from one that has not given the password.
    #[error("Protocol error: unauthenticated multibulk length")]
    StrangerCount,
    /// The length of an argument is not a number, or over its bound.
    #[error("Protocol error: invalid bulk length")]
    Argument,
    /// As above, from one that has not given the password.
    #[error("Protocol error: unauthenticated bulk length")]
    StrangerArgument,
    /// Something else than a bulk string in the array.
    #[error("Protocol error: expected '$', got '{}'", char::from(*.0).escape_default())]
    NoBulk(u8),
    /// An argument is not followed by its line end.
    #[error("Protocol error: expected line end after argument")]
    NoLineEnd,
    /// The whole is over its bound.
    #[error("Protocol error: too big request")]
    Whole,
    /// A line of words without end.
    #[error("Protocol error: too big inline request")]
    Inline,
    /// A line of words with quotes that do not close.
    #[error("Protocol error: unbalanced quotes in request")]
    Quotes,
}

/// Where an argument lies, counted from the start of its request.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Span {
    /// Offset of the first byte.
    pub start: u32,
    /// Bytes, without line end.
    pub len: u32,
}

/// So many arguments are noted while scanning: a name, a sub-command, a key. The others are found on demand.
const NOTED: usize = 3;

/// How far the scan of one request has come.
#[derive(Debug, Clone, Copy, Default)]
pub struct Scan {
    /// Offset of the first byte that is not understood yet.
    at: u32,
    /// Arguments announced; 0 before the first line is whole.
    count: u32,
    /// Arguments understood.
    seen: u32,
    noted: [Span; NOTED],
}

impl Scan {
    /// Whether what begins so is a line of words.
    #[must_use]
    pub fn is_inline(first: u8) -> bool {
        first != b'*'
    }

    /// Whether something of the request is understood already.
    #[inline]
    #[must_use]
    pub fn has_begun(&self) -> bool {
        self.at != 0
    }

    /// Goes on over `bytes`, which begin with the request and hold at least what the last call saw.
    ///
    /// The length of the request once it is whole; 0 arguments (`*0`, `*-1`) are a request that asks nothing.
    ///
    /// # Errors
    /// The request breaks the protocol or a bound; nothing of it must be forwarded.
    #[inline]
    pub fn advance(
        &mut self,
        bytes: &[u8],
        limits: &Limits,
    ) -> Result<Option<usize>, RequestError> {
        let mut at = self.at as usize;
        if at == 0 {
            match length(bytes, 1) {
                Length::Whole(count, next) => {
                    if count > u64::from(limits.arguments) {
                        return Err(limits.count_error());
                    }
                    self.count = count as u32;
                    at = next;
                }
                Length::Cut => return Ok(None),
                Length::Bad => return negative(bytes),
            }
        }
        while self.seen < self.count {
            match bytes.get(at) {
                Some(b'$') => {}
                Some(&other) => return Err(RequestError::NoBulk(other)),
                None => break,
            }
            let (len, start) = match length(bytes, at + 1) {
                Length::Whole(len, start) => (len, start),
                Length::Cut => break,
                Length::Bad => return Err(limits.argument_error()),
            };
            if len > limits.argument {
                return Err(limits.argument_error());
            }
            if start as u64 + len > limits.whole {
                return Err(RequestError::Whole);
            }
            let end = start + len as usize;
            match bytes.get(end..end + 2) {
                Some(b"\r\n") => {}
                Some(_) => return Err(RequestError::NoLineEnd),
                None => break,
            }
            if let Some(noted) = self.noted.get_mut(self.seen as usize) {
                *noted = Span {
                    start: start as u32,
                    len: len as u32,
                };
            }
            self.seen += 1;
            at = end + 2;
        }
        self.at = at as u32;
        Ok((self.seen == self.count).then_some(at))
    }

    /// How long the request will be at least, as far as `bytes`, which [`Scan::advance`] has seen, tell.
    #[must_use]
    pub fn announced(&self, bytes: &[u8]) -> u64 {
        match self.at_hand(bytes) {
            Some((len, start)) => start as u64 + len + 2,
            None => bytes.len() as u64,
        }
    }

    /// How long the argument is that is not whole, if that is known, and where it begins.
    #[must_use]
    pub fn at_hand(&self, bytes: &[u8]) -> Option<(u64, usize)> {
        let at = self.at as usize;
        bytes.get(at).filter(|_| at > 0)?;
        match length(bytes, at + 1) {
            Length::Whole(len, start) => Some((len, start)),
            Length::Cut | Length::Bad => None,
        }
    }

    /// Arguments that are understood; the next one is at hand.
    #[must_use]
    pub fn seen(&self) -> usize {
        self.seen as usize
    }

    /// What is to come after the arguments that are understood, and where it begins. None: the first line is not whole.
    #[must_use]
    pub fn tail(&self) -> Option<(Tail, usize)> {
        let at = self.at as usize;
        (at > 0).then(|| (Tail::new(self.count - self.seen, at), at))
    }

    /// The request that [`Scan::advance`] found whole, with its bytes.
    #[must_use]
    pub fn request<'a>(&self, bytes: &'a [u8]) -> Request<'a> {
        Request {
            bytes,
            count: self.count,
            noted: self.noted,
        }
    }
}

impl Limits {
    #[cold]
    fn count_error(&self) -> RequestError {
        if *self == Self::STRANGER {
            RequestError::StrangerCount
        } else {
            RequestError::Count
        }
    }

    #[cold]
    fn argument_error(&self) -> RequestError {
        if *self == Self::STRANGER {
            RequestError::StrangerArgument
        } else {
            RequestError::Argument
        }
    }
}

/// `*-1`, which Redis passes over in silence; everything else that is no number is an error.
#[cold]
fn negative(bytes: &[u8]) -> Result<Option<usize>, RequestError> {
    const NOTHING: &[u8] = b"*-1\r\n";
    if bytes.starts_with(NOTHING) {
        Ok(Some(NOTHING.len()))
    } else if NOTHING.starts_with(bytes) {
        Ok(None)
    } else {
        Err(RequestError::Count)
    }
}

/// A length of more digits than two that no limit forbids, and the offset after it.
#[inline(never)]
fn usual_length(bytes: &[u8], at: usize) -> Option<(usize, usize)> {
    match length(bytes, at) {
        Length::Whole(len, start) if len <= Limits::STRANGER.argument => {
            Some((len as usize, start))
        }
        Length::Whole(..) | Length::Cut | Length::Bad => None,
    }
}

/// One whole request and where its arguments are.
#[derive(Debug, Clone, Copy)]
pub struct Request<'a> {
    bytes: &'a [u8],
    count: u32,
    noted: [Span; NOTED],
}

impl<'a> Request<'a> {
    /// The request at the start of `bytes`, if it is all there and of the usual shape: a few arguments, none of them
    /// large. What this finds [`Scan`] finds too, for any limits there are, more slowly.
    #[must_use]
    #[inline]
    pub fn usual(bytes: &'a [u8]) -> Option<Self> {
        let &[b'*', digit, b'\r', b'\n'] = bytes.first_chunk()? else {
            return None;
        };
        let count = digit.wrapping_sub(b'0');
        if count == 0 || count > 9 {
            return None;
        }
        let mut noted = [Span::default(); NOTED];
        let mut at = 4;
        for seen in 0..usize::from(count) {
            if bytes.get(at) != Some(&b'$') {
                return None;
            }
            let (len, start) = match short_length(bytes, at + 1) {
                Some((len, start)) => (len as usize, start),
                None => usual_length(bytes, at + 1)?,
            };
            if let Some(noted) = noted.get_mut(seen) {
                *noted = Span {
                    start: start as u32,
                    len: len as u32,
                };
            }
            let end = start + len;
            if bytes.get(end..end + 2)? != b"\r\n" {
                return None;
            }
            at = end + 2;
        }
        Some(Request {
            bytes: &bytes[..at],
            count: u32::from(count),
            noted,
        })
    }

    /// Everything, as it came.
    #[must_use]
    pub fn bytes(&self) -> &'a [u8] {
        self.bytes
    }

    /// Number of arguments, the name included.
    #[must_use]
    pub fn count(&self) -> usize {
        self.count as usize
    }

    /// One argument; the first three without a search.
    #[must_use]
    #[inline(always)]
    pub fn argument(&self, index: usize) -> Option<&'a [u8]> {
        if index >= self.count() {
            return None;
        }
        match self.noted.get(index) {
            Some(span) => self
                .bytes
                .get(span.start as usize..(span.start + span.len) as usize),
            None => self.arguments().nth(index).map(|argument| argument.value),
        }
    }

    /// All arguments in order.
    #[must_use]
    pub fn arguments(&self) -> Arguments<'a> {
        let at = match length(self.bytes, 1) {
            Length::Whole(_, next) => next,
            Length::Cut | Length::Bad => self.bytes.len(),
        };
        Arguments {
            bytes: self.bytes,
            at,
            left: self.count,
        }
    }
}

/// An argument as value and as it stands on the wire.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Argument<'a> {
    /// Where the value begins, counted from the start of the request.
    pub start: u32,
    /// The bytes that count.
    pub value: &'a [u8],
    /// With length before and line end after, ready to be put into another request.
    pub wire: &'a [u8],
}

/// The arguments of a whole request, in order.
#[derive(Debug, Clone)]
pub struct Arguments<'a> {
    bytes: &'a [u8],
    at: usize,
    left: u32,
}

impl<'a> Iterator for Arguments<'a> {
    type Item = Argument<'a>;

    #[inline]
    fn next(&mut self) -> Option<Self::Item> {
        if self.left == 0 {
            return None;
        }
        self.left -= 1;
        // The request is whole, so neither length nor slices can fail; a caller that broke that gets an early end.
        let Length::Whole(len, start) = length(self.bytes, self.at + 1) else {
            return None;
        };
        let end = start + len as usize;
        let value = self.bytes.get(start..end)?;
        let wire = self.bytes.get(self.at..end + 2)?;
        self.at = end + 2;
        Some(Argument {
            start: start as u32,
            value,
            wire,
        })
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        (0, Some(self.left as usize))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn encode(arguments: &[Vec<u8>]) -> Vec<u8> {
        let mut bytes = format!("*{}\r\n", arguments.len()).into_bytes();
        for argument in arguments {
            bytes.extend_from_slice(format!("${}\r\n", argument.len()).as_bytes());
            bytes.extend_from_slice(argument);
            bytes.extend_from_slice(b"\r\n");
        }
        bytes
    }

    fn refused(bytes: &[u8], limits: &Limits) -> RequestError {
        let mut scan = Scan::default();
        match scan.advance(bytes, limits) {
            Err(error) => error,
            other => panic!("{other:?} for {:?}", String::from_utf8_lossy(bytes)),
        }
    }

    #[test]
    fn finds_name_and_key_without_touching_what_follows() {
        let bytes = b"*2\r\n$3\r\nGET\r\n$1\r\nk\r\n*1\r\n$4\r\nPING\r\n";
        let mut scan = Scan::default();
        let len = scan.advance(bytes, &Limits::CLIENT).unwrap().unwrap();
        let request = scan.request(&bytes[..len]);
        assert_eq!(len, 20);
        assert_eq!(request.argument(0), Some(&b"GET"[..]));
        assert_eq!(request.argument(1), Some(&b"k"[..]));
        assert_eq!(request.argument(2), None);
        assert_eq!(request.arguments().last().unwrap().wire, b"$1\r\nk\r\n");
    }

    #[test]
    fn refuses_with_the_texts_of_redis() {
        for (bytes, limits, error) in [
            (&b"*x\r\n"[..], Limits::CLIENT, RequestError::Count),
            (b"*2000000\r\n", Limits::CLIENT, RequestError::Count),
            (b"*99999999999\r\n", Limits::CLIENT, RequestError::Count),
            (b"*11\r\n", Limits::STRANGER, RequestError::StrangerCount),
            (b"*1\r\n:1\r\n", Limits::CLIENT, RequestError::NoBulk(b':')),
            (b"*1\r\n$-1\r\n", Limits::CLIENT, RequestError::Argument),
            (
                b"*1\r\n$600000000\r\n",
                Limits::CLIENT,
                RequestError::Argument,
            ),
            (
                b"*1\r\n$20000\r\n",
                Limits::STRANGER,
                RequestError::StrangerArgument,
            ),
            (b"*1\r\n$1\r\nabc", Limits::CLIENT, RequestError::NoLineEnd),
        ] {
            assert_eq!(
                refused(bytes, &limits),
                error,
                "{:?}",
                String::from_utf8_lossy(bytes)
            );
        }
    }

    #[test]
    fn passes_over_requests_for_nothing() {
        for bytes in [&b"*0\r\n"[..], b"*-1\r\n"] {
            let mut scan = Scan::default();
            assert_eq!(scan.advance(bytes, &Limits::CLIENT), Ok(Some(bytes.len())));
            assert_eq!(scan.request(bytes).count(), 0);
        }
    }

    #[test]
    fn what_is_not_usual_is_left_to_the_scan() {
        for bytes in [
            &b"*0\r\n"[..],
            b"*10\r\n",
            b"*1\r\n:1\r\n",
            b"*1\r\n$x\r\n",
            b"*1\r\n$1\r\nabc",
            b"*1\r\n$16385\r\n",
            b"PING\r\n",
            b"",
        ] {
            assert!(Request::usual(bytes).is_none(), "{bytes:?}");
        }
    }

    proptest! {
        #[test]
        fn what_is_usual_is_what_the_scan_finds(
            arguments in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..120), 1..12),
            cut in any::<prop::sample::Index>(),
            whole in any::<bool>(),
        ) {
            let mut bytes = encode(&arguments);
            let usual = arguments.len() <= 9;
            if whole {
                bytes.extend_from_slice(b"*1\r\n");
            } else {
                bytes.truncate(cut.index(bytes.len()));
            }
            let found = Request::usual(&bytes);
            prop_assert_eq!(found.is_some(), usual && whole);
            if let Some(found) = found {
                for limits in [Limits::CLIENT, Limits::STRANGER] {
                    let mut scan = Scan::default();
                    let len = scan.advance(&bytes, &limits).unwrap().unwrap();
                    prop_assert_eq!(len, found.bytes().len());
                    let scanned = scan.request(&bytes[..len]);
                    prop_assert_eq!(scanned.count(), found.count());
                    for (at, argument) in arguments.iter().enumerate() {
                        prop_assert_eq!(scanned.argument(at), Some(&argument[..]));
                        prop_assert_eq!(found.argument(at), Some(&argument[..]));
                    }
                }
            }
        }
    }

    proptest! {
        #[test]
        fn any_cut_gives_the_same_request(
            arguments in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..40), 1..12),
            cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..6),
        ) {
            let bytes = encode(&arguments);
            let mut ends: Vec<usize> = cuts.iter().map(|cut| cut.index(bytes.len())).collect();
            ends.sort_unstable();
            let mut scan = Scan::default();
            for end in ends {
                prop_assert_eq!(scan.advance(&bytes[..end], &Limits::CLIENT), Ok(None));
            }
            prop_assert_eq!(scan.advance(&bytes, &Limits::CLIENT), Ok(Some(bytes.len())));
            let request = scan.request(&bytes);
            for (index, argument) in arguments.iter().enumerate() {
                prop_assert_eq!(request.argument(index), Some(&argument[..]));
            }
            prop_assert_eq!(request.arguments().count(), arguments.len());
        }

        #[test]
        fn never_panics_on_what_strangers_send(bytes in prop::collection::vec(any::<u8>(), 1..200)) {
            let mut framed = b"*3\r\n".to_vec();
            framed.extend_from_slice(&bytes);
            let mut scan = Scan::default();
            if let Ok(Some(len)) = scan.advance(&framed, &Limits::STRANGER) {
                prop_assert!(len <= framed.len());
            }
        }
    }
}
