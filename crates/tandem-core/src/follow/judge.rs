//! Whom to believe: the rule, without the conversation.
//!
//! A configuration epoch is won by a majority of the fleet and belongs to one primary, so the highest one decides, whoever
//! tells it: the others learn it by hello messages up to two seconds later, and waiting for them would be waiting for
//! nothing. What that leaves open is closed here. At the start nothing is known that could be compared, so a majority of
//! the configured sentinels has to be heard: a single one may be the cut-off one. The same epoch with another address is
//! a contradiction and moves nothing. A lower epoch is stale, unless a majority agrees on it for long: then the fleet was
//! made anew (`SENTINEL REMOVE` and `MONITOR` begin again at 0).

use crate::ids::HostId;
use crate::sentinel::{ConfigEpoch, Endpoint};

/// A leap of epochs that no fleet makes by failovers: a majority has to say it.
pub const LEAP_MAX: u64 = 1 << 20;

/// A configuration: its primary and its number.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Configuration {
    /// The primary.
    pub primary: Endpoint,
    /// The configuration's epoch.
    pub epoch: ConfigEpoch,
    /// Whose epoch it is, where daemons tell that: then one number may stand for the epochs of two hosts, which are ordered
    /// as [`crate::ids::Epoch`] is. A fleet's epochs belong to nobody.
    pub host: HostId,
}

impl Configuration {
    fn era(&self) -> (ConfigEpoch, &HostId) {
        (self.epoch, &self.host)
    }
}

/// What follows from what is believed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Nothing newer.
    Stay,
    /// The primary stays, in a newer configuration.
    Raise(Configuration),
    /// Another primary, if it says so itself.
    Move(Configuration),
    /// Enough of them have gone back to this older configuration, or at the start nobody names a newer one; if that lasts,
    /// it counts.
    Older(Configuration),
    /// The same epoch, and two addresses.
    Contradiction {
        /// The epoch.
        epoch: ConfigEpoch,
        /// The one address.
        one: Endpoint,
        /// The other.
        other: Endpoint,
    },
    /// Too few sentinels say it.
    TooFew {
        /// How many say so.
        heard: usize,
        /// How many have to.
        needed: usize,
    },
}

/// Who is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Electorate {
    /// A fleet of this many sentinels, who vote.
    Fleet(usize),
    /// The daemons of a group, of which each decides with its peer. A pair that has lost a host has no majority, so time
    /// takes its place.
    Daemons(usize),
}

/// Judges what those who are heard believe.
#[must_use]
pub(super) fn judge(
    current: Option<&Configuration>,
    beliefs: &[Configuration],
    electorate: Electorate,
) -> Verdict {
    let needed = match electorate {
        Electorate::Fleet(configured) => configured / 2 + 1,
        Electorate::Daemons(_) => 1,
    };
    let Some(newest) = beliefs.iter().max_by_key(|it| it.era()) else {
        return match current {
            Some(_) => Verdict::Stay,
            None => Verdict::TooFew { heard: 0, needed },
        };
    };
    let agreeing = beliefs.iter().filter(|it| *it == newest).count();
    let known = current.filter(|it| it.era() == newest.era());
    let same_epoch = known.into_iter().chain(beliefs);
    let other = same_epoch
        .filter(|it| it.era() == newest.era())
        .find(|it| it.primary != newest.primary);
    if let Some(other) = other
        && current.is_none_or(|it| it.era() <= newest.era())
    {
        return Verdict::Contradiction {
            epoch: newest.epoch,
            one: newest.primary.clone(),
            other: other.primary.clone(),
        };
    }
    let Some(current) = current else {
        return match electorate {
            Electorate::Daemons(configured) if beliefs.len() < configured / 2 + 1 => {
                Verdict::Older(newest.clone())
            }
            Electorate::Fleet(_) if beliefs.len() < needed => {
                let heard = beliefs.len();
                Verdict::TooFew { heard, needed }
            }
            Electorate::Daemons(_) | Electorate::Fleet(_) => Verdict::Move(newest.clone()),
        };
    };
    if newest.era() < current.era() {
        return if agreeing < needed {
            Verdict::Stay
        } else {
            Verdict::Older(newest.clone())
        };
    }
    if newest.epoch.0.saturating_sub(current.epoch.0) > LEAP_MAX && agreeing < needed {
        let heard = agreeing;
        return Verdict::TooFew { heard, needed };
    }
    if newest.era() == current.era() {
        Verdict::Stay
    } else if newest.primary == current.primary {
        Verdict::Raise(newest.clone())
    } else {
        Verdict::Move(newest.clone())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(last: u8, epoch: u64) -> Configuration {
        Configuration {
            primary: Endpoint::new(format!("10.0.0.{last}"), 6379),
            epoch: ConfigEpoch(epoch),
            host: HostId::default(),
        }
    }

    /// Three sentinels are configured in every row; those that are heard are listed.
    #[test]
    fn the_highest_epoch_decides_within_bounds() {
        let few = |heard| Verdict::TooFew { heard, needed: 2 };
        let contradiction = |one: Configuration, other: Configuration| Verdict::Contradiction {
            epoch: one.epoch,
            one: one.primary,
            other: other.primary,
        };
        let far = 5 + LEAP_MAX + 1;
        let table = [
            ("nobody at the start", None, vec![], few(0)),
            ("one at the start", None, vec![at(1, 5)], few(1)),
            (
                "two at the start",
                None,
                vec![at(1, 5), at(1, 5)],
                Verdict::Move(at(1, 5)),
            ),
            (
                "a stale one at the start",
                None,
                vec![at(1, 5), at(2, 6)],
                Verdict::Move(at(2, 6)),
            ),
            (
                "two minds at the start",
                None,
                vec![at(1, 5), at(2, 5)],
                // Of equals the last one counts as the newest.
                contradiction(at(2, 5), at(1, 5)),
            ),
            ("nobody later", Some(at(1, 5)), vec![], Verdict::Stay),
            (
                "all agree",
                Some(at(1, 5)),
                vec![at(1, 5); 3],
                Verdict::Stay,
            ),
            (
                "one is newer",
                Some(at(1, 5)),
                vec![at(1, 5), at(2, 6)],
                Verdict::Move(at(2, 6)),
            ),
            (
                "only the newer one",
                Some(at(1, 5)),
                vec![at(2, 6)],
                Verdict::Move(at(2, 6)),
            ),
            (
                "one is stale",
                Some(at(2, 6)),
                vec![at(2, 6), at(1, 5)],
                Verdict::Stay,
            ),
            (
                "only the stale one",
                Some(at(2, 6)),
                vec![at(1, 5)],
                Verdict::Stay,
            ),
            (
                "a majority is older",
                Some(at(2, 6)),
                vec![at(1, 0), at(1, 0)],
                Verdict::Older(at(1, 0)),
            ),
            (
                "older ones that differ",
                Some(at(2, 6)),
                vec![at(1, 0), at(3, 0)],
                Verdict::Stay,
            ),
            (
                "our epoch, another address",
                Some(at(1, 5)),
                vec![at(1, 5), at(2, 5)],
                contradiction(at(2, 5), at(1, 5)),
            ),
            (
                "a newer epoch of the same primary",
                Some(at(1, 5)),
                vec![at(1, 7)],
                Verdict::Raise(at(1, 7)),
            ),
            (
                "the far future, one",
                Some(at(1, 5)),
                vec![at(2, far)],
                few(1),
            ),
            (
                "the far future, two",
                Some(at(1, 5)),
                vec![at(2, far), at(2, far)],
                Verdict::Move(at(2, far)),
            ),
        ];
        for (name, current, beliefs, expected) in table {
            assert_eq!(
                judge(current.as_ref(), &beliefs, Electorate::Fleet(3)),
                expected,
                "{name}"
            );
        }
    }
    /// Both daemons of a pair are configured in every row.
    #[test]
    fn of_daemons_the_greater_host_decides_between_equal_numbers_and_one_is_heard_in_time() {
        let of = |host: &str, configuration: Configuration| Configuration {
            host: HostId::new(host),
            ..configuration
        };
        let (a, b) = (of("a", at(1, 4)), of("b", at(2, 4)));
        let table = [
            (
                "one at the start",
                None,
                vec![&a],
                Verdict::Older(a.clone()),
            ),
            ("both", None, vec![&a, &b], Verdict::Move(b.clone())),
            (
                "the other one",
                Some(&a),
                vec![&b],
                Verdict::Move(b.clone()),
            ),
            ("the older one", Some(&b), vec![&a, &b], Verdict::Stay),
            (
                "only the older one",
                Some(&b),
                vec![&a],
                Verdict::Older(a.clone()),
            ),
        ];
        for (name, current, beliefs, expected) in table {
            let beliefs: Vec<Configuration> = beliefs.into_iter().cloned().collect();
            let judged = judge(current, &beliefs, Electorate::Daemons(2));
            assert_eq!(judged, expected, "{name}");
        }
        // Behind an address that leads to the primary both are the same one.
        let same = of("b", at(1, 4));
        let judged = judge(
            Some(&a),
            std::slice::from_ref(&same),
            Electorate::Daemons(2),
        );
        assert_eq!(judged, Verdict::Raise(same));
    }
}
