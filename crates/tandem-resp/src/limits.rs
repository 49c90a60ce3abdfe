//! How much one frame may ask for. Every limit is checked as soon as the length is known, before the bytes arrive.

/// Bounds on one frame, in bytes and elements.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Longest bulk string, in bytes. Redis: `proto-max-bulk-len`, 512 MiB.
    pub max_bulk: usize,
    /// Deepest nesting of aggregates; a flat array has depth 1.
    pub max_depth: usize,
    /// Most values in one frame, aggregates and attributes included; also the most arguments of a request.
    pub max_elements: usize,
    /// Longest line (inline command, simple string, error, number), in bytes without its end. Redis:
    /// `PROTO_INLINE_MAX_SIZE`, 64 KiB.
    pub max_inline: usize,
    /// Longest frame as a whole, in bytes: what a caller's buffer may have to hold.
    pub max_frame: usize,
}

/// 64 KiB, as in Redis.
const INLINE: usize = 64 * 1024;

impl Default for Limits {
    /// The bounds that Redis itself keeps.
    fn default() -> Self {
        Self {
            max_bulk: 512 * 1024 * 1024,
            max_depth: 32,
            max_elements: 1024 * 1024,
            max_inline: INLINE,
            max_frame: 1024 * 1024 * 1024,
        }
    }
}

impl Limits {
    /// For someone who has not authenticated yet: 10 arguments of 16 KiB, as Redis allows since 6.2.6.
    #[must_use]
    pub const fn stranger() -> Self {
        Self {
            max_bulk: 16 * 1024,
            max_depth: 1,
            max_elements: 11,
            max_inline: INLINE,
            max_frame: 11 * (16 * 1024 + 32),
        }
    }

    /// For a control connection, whose largest answer is an INFO or a CONFIG GET: 1 MiB in all.
    #[must_use]
    pub const fn control() -> Self {
        Self {
            max_bulk: 1024 * 1024,
            max_depth: 8,
            max_elements: 16 * 1024,
            max_inline: INLINE,
            max_frame: 1024 * 1024,
        }
    }
}
