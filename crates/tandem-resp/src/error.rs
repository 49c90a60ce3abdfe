//! What can be wrong with bytes that claim to be RESP, and where.

use std::fmt;

/// Why a frame was refused. The sender is at fault in every case; after one of these the connection is of no
/// further use, because the start of the next frame is unknown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ErrorKind {
    /// The first byte of a value is none of the known types.
    UnknownType(u8),
    /// A request's argument does not begin with `$`.
    ExpectedBulk(u8),
    /// A line ended with a line feed that no carriage return precedes.
    MissingCarriageReturn,
    /// The bytes after a bulk string are not CR LF.
    MissingTerminator,
    /// A length, integer, double or boolean that is not one.
    BadNumber,
    /// A negative length other than the -1 of a null.
    NegativeLength,
    /// A streamed string or aggregate (`$?`, `*?`), which no server sends.
    Streamed,
    /// A line longer than `max_inline`.
    LineTooLong,
    /// A bulk string longer than `max_bulk`.
    BulkTooLong,
    /// Aggregates nested deeper than `max_depth`.
    TooDeep,
    /// More values than `max_elements`.
    TooManyElements,
    /// A frame longer than `max_frame`.
    FrameTooLong,
    /// An inline command whose quotes are not balanced.
    UnbalancedQuotes,
}

/// A refused frame: what is wrong, and at which byte since the parser was made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FrameError {
    /// What is wrong.
    pub kind: ErrorKind,
    /// Bytes since the parser was made, of the value or line that is wrong.
    pub offset: u64,
}

impl fmt::Display for ErrorKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::UnknownType(byte) => write!(f, "unknown type byte 0x{byte:02x}"),
            Self::ExpectedBulk(byte) => write!(f, "expected '$', got 0x{byte:02x}"),
            Self::MissingCarriageReturn => f.write_str("line feed without carriage return"),
            Self::MissingTerminator => f.write_str("bulk string without CR LF at its end"),
            Self::BadNumber => f.write_str("not a number"),
            Self::NegativeLength => f.write_str("negative length"),
            Self::Streamed => f.write_str("streamed values are not supported"),
            Self::LineTooLong => f.write_str("line too long"),
            Self::BulkTooLong => f.write_str("bulk string too long"),
            Self::TooDeep => f.write_str("nested too deeply"),
            Self::TooManyElements => f.write_str("too many elements"),
            Self::FrameTooLong => f.write_str("frame too long"),
            Self::UnbalancedQuotes => f.write_str("unbalanced quotes"),
        }
    }
}

impl fmt::Display for FrameError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} at byte {}", self.kind, self.offset)
    }
}

impl std::error::Error for FrameError {}
