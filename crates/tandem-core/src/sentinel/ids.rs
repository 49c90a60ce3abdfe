//! Names and epochs of a Sentinel fleet, each a type of its own so that they are never mixed up.

use std::fmt;

use serde::{Deserialize, Serialize};

/// A sentinel's own name (`myid`): forty lower-case hex digits, the same for the life of its file. It differs from the
/// `run_id` that INFO shows, which changes with each start.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct SentinelId(String);

impl SentinelId {
    /// Takes forty hex digits; anything else is refused. Upper case becomes lower case.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        (text.len() == 40 && text.bytes().all(|b| b.is_ascii_hexdigit()))
            .then(|| Self(text.to_ascii_lowercase()))
    }

    /// The forty digits.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The first eight digits, as they stand in client names (`sentinel-1234abcd-cmd`).
    #[must_use]
    pub fn short(&self) -> &str {
        &self.0[..8]
    }
}

impl fmt::Display for SentinelId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The number of an election (`current_epoch`): at most one leader per group and number. Never goes back.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
pub struct ElectionEpoch(pub u64);

impl ElectionEpoch {
    /// The next election's number; `None` at the end of the numbers, where no election can be held any more.
    #[must_use]
    pub fn next(self) -> Option<Self> {
        self.0.checked_add(1).map(Self)
    }
}

impl fmt::Display for ElectionEpoch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// The version of a group's configuration (`config_epoch`): the one with the highest number says who is primary.
///
/// It is only ever the number of an election that was won, so [`ConfigEpoch::won`] is the way to make a new one.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
pub struct ConfigEpoch(pub u64);

impl ConfigEpoch {
    /// The configuration that the winner of this election may announce.
    #[must_use]
    pub fn won(election: ElectionEpoch) -> Self {
        Self(election.0)
    }
}

impl fmt::Display for ConfigEpoch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// A group's name (Redis: the master's name). Case-sensitive.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct GroupName(pub String);

impl fmt::Display for GroupName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Where a server or a sentinel listens, as it was told: an address, or a name where `resolve-hostnames` allows it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Endpoint {
    /// An IP address in its usual spelling, or a host name.
    pub host: String,
    /// The port; 0 marks an address that is not to be contacted.
    pub port: u16,
}

impl Endpoint {
    /// An endpoint from its parts.
    #[must_use]
    pub fn new(host: impl Into<String>, port: u16) -> Self {
        Self {
            host: host.into(),
            port,
        }
    }

    /// `ip:port`, or `[v6]:port`: how Redis names a replica.
    #[must_use]
    pub fn name(&self) -> String {
        if self.host.contains(':') {
            format!("[{}]:{}", self.host, self.port)
        } else {
            format!("{}:{}", self.host, self.port)
        }
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_is_forty_hex_digits() {
        let digits = "0123456789ABCDEF0123456789abcdef01234567";
        let id = SentinelId::parse(digits).expect("forty digits");
        assert_eq!(id.as_str(), digits.to_ascii_lowercase());
        assert_eq!(id.short(), "01234567");
        for wrong in [
            "",
            &digits[1..],
            &format!("{digits}0"),
            &digits.replace('A', "g"),
        ] {
            assert_eq!(SentinelId::parse(wrong), None, "{wrong:?}");
        }
    }

    #[test]
    fn the_last_election_has_no_next() {
        assert_eq!(ElectionEpoch(7).next(), Some(ElectionEpoch(8)));
        assert_eq!(ElectionEpoch(u64::MAX).next(), None);
    }

    #[test]
    fn an_address_of_six_gets_brackets() {
        assert_eq!(Endpoint::new("::1", 7).name(), "[::1]:7");
        assert_eq!(Endpoint::new("10.0.0.1", 7).name(), "10.0.0.1:7");
    }
}
