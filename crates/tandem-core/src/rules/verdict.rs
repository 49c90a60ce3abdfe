//! Who keeps what after both sides wrote? (Rule 19.)
//!
//! Both sides compute the verdict from the same two pieces of evidence and so reach the same one.
//! An isolated host that promoted itself for nobody must not win by its newer epoch: a side that no
//! client wrote to since the fork loses, and only then do sizes, epochs and names count.

use serde::{Deserialize, Serialize};

use crate::ids::{Epoch, HostId, Offset};

/// What one side brings to the verdict. It is stated once for a split and not changed afterwards,
/// or the two sides could judge different numbers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Evidence {
    /// The side that states it.
    pub host: HostId,
    /// The epoch in which it was primary.
    pub epoch: Epoch,
    /// The last offset that both histories share.
    pub fork_offset: Offset,
    /// Bytes of commands that clients caused since the fork; bookkeeping of replication is not
    /// counted.
    pub client_bytes: u64,
}

/// Why the winner won, in the order in which the grounds are tried.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Ground {
    /// The other side had no client writes since the fork.
    OtherUnused,
    /// More bytes written by clients.
    MoreBytes,
    /// Equal bytes: the higher epoch counter.
    HigherEpoch,
    /// All equal: the greater host id.
    HostId,
}

/// The verdict: one winner, one loser, one ground.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Verdict {
    /// Goes on as primary, at an epoch above both.
    pub winner: HostId,
    /// Is archived from the fork on, fenced and attached to the winner.
    pub loser: HostId,
    /// Why.
    pub ground: Ground,
    /// The epoch in which the winner goes on.
    pub epoch: Epoch,
    /// The same sentence on both sides: what happened, who won, what becomes of the rest.
    pub words: String,
}

/// Judges a split. The order of the arguments does not matter.
pub fn verdict(one: &Evidence, other: &Evidence) -> Verdict {
    let (first, second) = if one.host <= other.host {
        (one, other)
    } else {
        (other, one)
    };
    let unused_decides = (first.client_bytes == 0) != (second.client_bytes == 0);
    let (winner, loser, ground) = if first.client_bytes != second.client_bytes {
        let (w, l) = if first.client_bytes > second.client_bytes {
            (first, second)
        } else {
            (second, first)
        };
        (
            w,
            l,
            if unused_decides {
                Ground::OtherUnused
            } else {
                Ground::MoreBytes
            },
        )
    } else if first.epoch.counter != second.epoch.counter {
        let (w, l) = if first.epoch.counter > second.epoch.counter {
            (first, second)
        } else {
            (second, first)
        };
        (w, l, Ground::HigherEpoch)
    } else {
        (second, first, Ground::HostId)
    };
    let epoch = winner.epoch.after(&loser.epoch, &winner.host);
    let because = match ground {
        Ground::OtherUnused => format!("no client wrote to {}", loser.host),
        Ground::MoreBytes => format!("clients wrote more to {}", winner.host),
        Ground::HigherEpoch => format!("equal bytes, {} has the higher epoch", winner.host),
        Ground::HostId => "equal bytes and epochs, decided by host id".to_owned(),
    };
    let words = format!(
        "both {} (epoch {}, {} client bytes) and {} (epoch {}, {} client bytes) were primary since \
         offset {}; {} goes on at epoch {} because {}; what only {} has is archived there before \
         it is resynced",
        first.host,
        first.epoch,
        first.client_bytes,
        second.host,
        second.epoch,
        second.client_bytes,
        first.fork_offset.min(second.fork_offset),
        winner.host,
        epoch,
        because,
        loser.host,
    );
    Verdict {
        winner: winner.host.clone(),
        loser: loser.host.clone(),
        ground,
        epoch,
        words,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn evidence(host: &str, counter: u64, bytes: u64) -> Evidence {
        let host = HostId::new(host);
        Evidence {
            epoch: Epoch {
                counter,
                host: host.clone(),
            },
            host,
            fork_offset: Offset(1000),
            client_bytes: bytes,
        }
    }

    #[test]
    fn grounds_in_their_order() {
        let cases = [
            // An isolated standby promoted itself at a newer epoch and nobody used it.
            (("a", 4, 500), ("b", 5, 0), "a", Ground::OtherUnused),
            (("a", 4, 0), ("b", 5, 1), "b", Ground::OtherUnused),
            (("a", 4, 500), ("b", 5, 499), "a", Ground::MoreBytes),
            (("a", 4, 10), ("b", 5, 10), "b", Ground::HigherEpoch),
            (("a", 4, 0), ("b", 5, 0), "b", Ground::HigherEpoch),
            (("a", 5, 7), ("b", 5, 7), "b", Ground::HostId),
        ];
        for (one, other, winner, ground) in cases {
            let x = evidence(one.0, one.1, one.2);
            let y = evidence(other.0, other.1, other.2);
            let v = verdict(&x, &y);
            assert_eq!(v.winner, HostId::new(winner), "{one:?} {other:?}");
            assert_eq!(v.ground, ground);
            assert_eq!(v, verdict(&y, &x), "both sides must say the same");
            assert!(v.epoch > x.epoch && v.epoch > y.epoch);
        }
    }
}
