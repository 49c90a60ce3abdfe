//! The two things that every parser here does: find the end of a line without looking twice, and read a length.

use crate::{ErrorKind, Limits};

/// Where a search for a line feed left off.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct LineScan {
    /// First byte not yet searched, relative to the frame.
    from: usize,
}

/// A complete line.
pub(crate) struct Line {
    /// First byte after the content, relative to the frame.
    pub(crate) end: usize,
    /// First byte after the line feed.
    pub(crate) next: usize,
    /// Whether CR LF ended it, rather than LF alone.
    pub(crate) crlf: bool,
}

impl LineScan {
    /// Finds the end of the line that starts at `start`, or remembers how far it looked.
    pub(crate) fn find(
        &mut self,
        buf: &[u8],
        start: usize,
        limits: &Limits,
    ) -> Result<Option<Line>, ErrorKind> {
        // The bound counts the content and CR LF, so that a line is refused at the same length however it is split.
        let bound = start.saturating_add(limits.max_inline).saturating_add(2);
        let from = self.from.max(start);
        let to = buf.len().min(bound);
        let found = buf
            .get(from..to)
            .and_then(|part| part.iter().position(|&byte| byte == b'\n'));
        let Some(at) = found else {
            if to == bound {
                return Err(ErrorKind::LineTooLong);
            }
            self.from = to;
            return Ok(None);
        };
        let feed = from + at;
        self.from = 0;
        let crlf = feed > start && buf[feed - 1] == b'\r';
        let end = if crlf { feed - 1 } else { feed };
        if end - start > limits.max_inline {
            return Err(ErrorKind::LineTooLong);
        }
        Ok(Some(Line {
            end,
            next: feed + 1,
            crlf,
        }))
    }
}

/// Reads a signed decimal as Redis' `string2ll` does: no plus sign, no leading zeros, no spaces.
pub(crate) fn strict_integer(text: &[u8]) -> Result<i64, ErrorKind> {
    let digits = text.strip_prefix(b"-").unwrap_or(text);
    let lead_ok = digits.first() != Some(&b'0') || text == b"0";
    if digits.is_empty() || !lead_ok || !digits.iter().all(u8::is_ascii_digit) {
        return Err(ErrorKind::BadNumber);
    }
    std::str::from_utf8(text)
        .ok()
        .and_then(|text| text.parse().ok())
        .ok_or(ErrorKind::BadNumber)
}

/// Reads a length: `None` for the -1 of a null.
pub(crate) fn length(text: &[u8]) -> Result<Option<usize>, ErrorKind> {
    if text == b"?" {
        return Err(ErrorKind::Streamed);
    }
    match strict_integer(text)? {
        -1 => Ok(None),
        negative if negative < 0 => Err(ErrorKind::NegativeLength),
        // A length beyond the address space is beyond every limit as well.
        length => Ok(Some(usize::try_from(length).unwrap_or(usize::MAX))),
    }
}
