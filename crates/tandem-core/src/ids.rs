//! Names of things: hosts, epochs, lineages, offsets.
//!
//! They are newtypes so that a replication offset is never compared with an epoch counter, and a
//! run id never with a replication id: both are forty hex digits and mean different things.

use std::fmt;

use serde::{Deserialize, Serialize};

/// The `id` of a host as its configuration spells it; unique within a group.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct HostId(pub String);

impl HostId {
    /// A host id from anything that reads as one.
    pub fn new(id: impl Into<String>) -> Self {
        Self(id.into())
    }
}

impl fmt::Display for HostId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A generation of the group: it grows with every change of primary and never goes back.
///
/// The host id breaks the tie when both sides of a split took the same number (rule 19), so two
/// different promotions never carry the same epoch.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Epoch {
    /// Counts changes of primary; 0 before the first one.
    pub counter: u64,
    /// The host that became primary in this epoch.
    pub host: HostId,
}

impl Epoch {
    /// The epoch before any decision: older than every other.
    pub fn zero() -> Self {
        Self {
            counter: 0,
            host: HostId(String::new()),
        }
    }

    /// The epoch that `host` takes when it becomes primary after `self` and `other`.
    pub fn after(&self, other: &Self, host: &HostId) -> Self {
        Self {
            counter: self.counter.max(other.counter).saturating_add(1),
            host: host.clone(),
        }
    }
}

impl fmt::Display for Epoch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.host.0.is_empty() {
            write!(f, "{}", self.counter)
        } else {
            write!(f, "{}@{}", self.counter, self.host)
        }
    }
}

/// A replication id of Redis (`master_replid`): the name of one line of history.
///
/// Two servers whose id is equal hold a prefix of the same stream; the longer one is newer.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct ReplId(pub String);

impl ReplId {
    /// Redis' way of saying "no second lineage": forty zeros.
    pub fn is_none(&self) -> bool {
        self.0.is_empty() || self.0.bytes().all(|b| b == b'0')
    }
}

impl fmt::Display for ReplId {
    /// The first eight digits, which is what a person compares.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0.get(..8).unwrap_or(&self.0))
    }
}

/// The id of one run of a server process (`run_id`): it changes with every restart.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct RunId(pub String);

impl fmt::Display for RunId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0.get(..8).unwrap_or(&self.0))
    }
}

/// A position in a replication stream, in bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Offset(pub u64);

impl Offset {
    /// How many bytes `self` is ahead of `other`; 0 when it is not ahead.
    pub fn ahead_of(self, other: Self) -> u64 {
        self.0.saturating_sub(other.0)
    }
}

impl fmt::Display for Offset {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn epochs_order_by_counter_then_host_and_never_repeat() {
        let a = HostId::new("a");
        let b = HostId::new("b");
        let zero = Epoch::zero();
        let one_a = zero.after(&zero, &a);
        let one_b = zero.after(&zero, &b);
        assert!(zero < one_a && one_a < one_b, "the host id breaks the tie");
        let two = one_a.after(&one_b, &a);
        assert!(two > one_b && two > one_a);
        assert_eq!(two.to_string(), "2@a");
    }

    #[test]
    fn forty_zeros_name_no_lineage() {
        assert!(ReplId("0".repeat(40)).is_none());
        assert!(!ReplId("a".repeat(40)).is_none());
    }
}
