//! Names for the two sides: a place in a table, and which of its tenants is meant.

/// A connection, to a client or to a server.
///
/// The generation makes sure that what is said about a connection that is gone does not reach the next one in its
/// place, which matters because one poll may report both.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Peer {
    side: Side,
    index: u32,
    generation: u32,
}

/// Which table.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Side {
    /// A client's connection.
    Client,
    /// A shared connection to a server.
    Lane,
}

/// Top bit of the lower half of a token: the side.
const LANE: u64 = 1 << 31;

impl Peer {
    pub(crate) fn new(side: Side, index: u32, generation: u32) -> Self {
        debug_assert!(
            u64::from(index) < LANE,
            "as many connections as no machine has"
        );
        Self {
            side,
            index,
            generation,
        }
    }

    /// Which table it is in.
    #[must_use]
    pub fn side(self) -> Side {
        self.side
    }

    /// Its place there: small numbers, used again.
    #[must_use]
    pub fn index(self) -> usize {
        self.index as usize
    }

    /// As one number, for a poller.
    #[must_use]
    pub fn token(self) -> u64 {
        let side = match self.side {
            Side::Client => 0,
            Side::Lane => LANE,
        };
        u64::from(self.generation) << 32 | side | u64::from(self.index)
    }

    /// What [`Peer::token`] gave.
    #[must_use]
    pub fn from_token(token: u64) -> Self {
        let side = if token & LANE == 0 {
            Side::Client
        } else {
            Side::Lane
        };
        Self {
            side,
            index: (token & (LANE - 1)) as u32,
            generation: (token >> 32) as u32,
        }
    }

    pub(crate) fn generation(self) -> u32 {
        self.generation
    }
}

/// How a connection ended, as far as anyone may tell.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum How {
    /// The other side has said all it has to say.
    Eof,
    /// Nobody listens there.
    Refused,
    /// Cut off.
    Reset,
    /// No sign within the time that a connection may take.
    TimedOut,
    /// No way there.
    Unreachable,
    /// Its name could not be resolved.
    NoName,
    /// Bytes came that are no protocol.
    Protocol,
    /// The operating system refused something else.
    Failed,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_name_one_peer_each() {
        for side in [Side::Client, Side::Lane] {
            for (index, generation) in [(0, 0), (7, u32::MAX - 1), (LANE as u32 - 1, 3)] {
                let peer = Peer::new(side, index, generation);
                assert_eq!(Peer::from_token(peer.token()), peer);
            }
        }
    }
}
