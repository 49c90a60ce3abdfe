//! Which replica may be promoted, and which one is.
//!
//! Redis' conditions (`sentinel.c`) hold. Redis sorts by priority first and compares offsets as bare numbers, and so
//! promotes replicas that hold nothing, or the data of another history. Here data comes first:
//!
//! - A replica must be of the primary's lineage: share a history id with what was last seen of the primary. Where nothing
//!   was seen of it, or the primary began a history that no replica has, the history of the majority of
//!   replicas counts, of two at least.
//! - It must not be loading or receiving a sync, and must have had a link to its primary in this life of its process.
//! - It must not be empty when another one of the same lineage, or the primary, held keys.
//! - Among those within [`LAG_MAX`] of the best offset, Redis' order holds: priority, offset, run id.

use std::collections::BTreeMap;
use std::time::Duration;

use thiserror::Error;

use crate::sentinel::ids::{Endpoint, GroupName};
use crate::sentinel::machine::Sentinel;
use crate::sentinel::model::{Group, Lineage, Replica};

/// Replicas closer together than this count as equal: 64 KiB is what one socket's buffer holds on the way, so that the
/// difference is one of the moment at which each was asked. More (1 MiB and above) would be thousands of
/// acknowledged writes given away for a preference.
pub const LAG_MAX: u64 = 64 * 1024;
/// A replica that refused its promotion is not asked again for this long.
const REFUSED_FOR: Duration = Duration::from_secs(30);

/// Why a replica may not be promoted.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum Unfit {
    /// Subjectively down.
    #[error("it is down")]
    Down,
    /// No connection to it stands.
    #[error("there is no connection to it")]
    Disconnected,
    /// No acceptable answer to a PING within five ping periods.
    #[error("it has not answered lately")]
    Silent,
    /// `replica-priority 0`.
    #[error("its priority is 0")]
    PriorityZero,
    /// Its INFO is too old.
    #[error("its state is not known well enough: no recent INFO")]
    Stale,
    /// It lost its primary long before we did.
    #[error("its link to the primary was down for too long")]
    Detached,
    /// It reads its data from disk or from its primary.
    #[error("it is loading or receiving a sync")]
    Syncing,
    /// It never had a link to its primary since it was started.
    #[error("it has completed no sync since it was started")]
    NeverSynced,
    /// Its history is not the primary's.
    #[error("its data is of another history than the primary's")]
    OtherLineage,
    /// It holds nothing while others do.
    #[error("it is empty while others hold data")]
    Empty,
    /// It refused lately.
    #[error("it refused to be promoted")]
    Refused,
}

impl Unfit {
    /// A word for programs, the same for all times.
    #[must_use]
    pub fn code(&self) -> &'static str {
        match self {
            Self::Down => "down",
            Self::Disconnected => "disconnected",
            Self::Silent => "silent",
            Self::PriorityZero => "priority-zero",
            Self::Stale => "no-recent-info",
            Self::Detached => "link-down-too-long",
            Self::Syncing => "syncing",
            Self::NeverSynced => "never-synced",
            Self::OtherLineage => "other-history",
            Self::Empty => "empty",
            Self::Refused => "refused",
        }
    }
}

impl Sentinel {
    /// Whether a replica may be promoted now.
    ///
    /// # Errors
    /// The first reason against it. All of them pass or are an operator's to remove.
    pub fn eligible(&self, group: &Group, replica: &Replica) -> Result<(), Unfit> {
        let now = self.now;
        let link = self.links.get(&replica.link).ok_or(Unfit::Disconnected)?;
        let down = group.primary.down.subjective;
        if replica.down.subjective.is_some() {
            return Err(Unfit::Down);
        }
        if !link.is_up() {
            return Err(Unfit::Disconnected);
        }
        if now.saturating_duration_since(link.last_available) > self.periods.ping * 5 {
            return Err(Unfit::Silent);
        }
        if replica.priority == 0 {
            return Err(Unfit::PriorityZero);
        }
        let fresh = if down.is_some() {
            self.periods.ping * 5
        } else {
            self.periods.info * 3
        };
        if replica
            .observed
            .info_at
            .is_none_or(|read| now.saturating_duration_since(read) > fresh)
        {
            return Err(Unfit::Stale);
        }
        let outage = down.map_or(Duration::ZERO, |since| now.saturating_duration_since(since));
        if replica.link_down > outage + group.settings.down_after * 10 {
            return Err(Unfit::Detached);
        }
        if replica
            .refused
            .is_some_and(|at| now.saturating_duration_since(at) < REFUSED_FOR)
        {
            return Err(Unfit::Refused);
        }
        if replica.syncing {
            return Err(Unfit::Syncing);
        }
        if replica.never_linked && !self.shares_history(group, replica) {
            return Err(Unfit::NeverSynced);
        }
        if !of_the_lineage(group, replica) {
            return Err(Unfit::OtherLineage);
        }
        if replica.observed.keys == 0 && others_hold_keys(group, replica) {
            return Err(Unfit::Empty);
        }
        Ok(())
    }

    /// The replica to promote: data first, then priority.
    pub(super) fn choose(&self, group: &Group) -> Option<Endpoint> {
        let fit: Vec<&Replica> = group
            .replicas
            .values()
            .filter(|replica| self.eligible(group, replica).is_ok())
            .collect();
        pick(&fit).map(|replica| replica.at.clone())
    }

    /// Every replica of a group with what speaks against promoting it.
    #[must_use]
    pub fn candidates(&self, name: &GroupName) -> Vec<(Endpoint, Result<(), Unfit>)> {
        let group = self.names.get(name).and_then(|id| self.groups.get(id));
        group.map_or_else(Vec::new, |group| {
            group
                .replicas
                .values()
                .map(|replica| (replica.at.clone(), self.eligible(group, replica)))
                .collect()
        })
    }

    /// A replica restarted from its dump has had no link, but its history id proves whose data it has.
    fn shares_history(&self, group: &Group, replica: &Replica) -> bool {
        match (primary_lineage(group), &replica.observed.lineage) {
            (Some(primary), Some(own)) => related(primary, own),
            (Some(_) | None, _) => false,
        }
    }
}

/// The best of those that may be promoted.
fn pick<'a>(fit: &[&'a Replica]) -> Option<&'a Replica> {
    let best = fit.iter().map(|replica| replica.offset).max()?;
    fit.iter()
        .filter(|replica| best - replica.offset <= LAG_MAX)
        .min_by(|one, other| {
            let run_id = |replica: &Replica| {
                // A missing run id comes last.
                let id = replica.observed.run_id.to_ascii_lowercase();
                (id.is_empty(), id)
            };
            one.priority
                .cmp(&other.priority)
                .then(other.offset.cmp(&one.offset))
                .then_with(|| run_id(one).cmp(&run_id(other)))
                .then_with(|| one.at.cmp(&other.at))
        })
        .copied()
}

/// What the primary's history was when it last held its data.
fn primary_lineage(group: &Group) -> Option<&Lineage> {
    let primary = &group.primary;
    if primary.data_gone.is_some() {
        return primary.before_reboot.as_ref();
    }
    primary.observed.lineage.as_ref()
}

fn related(primary: &Lineage, replica: &Lineage) -> bool {
    let ours = [primary.replid.as_str(), primary.replid2.as_str()];
    ours.contains(&replica.replid.as_str()) || replica.replid2 == primary.replid
}

fn of_the_lineage(group: &Group, replica: &Replica) -> bool {
    let primary = primary_lineage(group);
    let Some(own) = &replica.observed.lineage else {
        // Redis before 4 names no history: then nobody in the group does.
        return primary.is_none();
    };
    if let Some(primary) = primary {
        if related(primary, own) {
            return true;
        }
        let anybody = group
            .replicas
            .values()
            .filter_map(|replica| replica.observed.lineage.as_ref())
            .any(|lineage| related(primary, lineage));
        if anybody {
            return false;
        }
    }
    let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
    let known = group
        .replicas
        .values()
        .filter(|replica| !replica.syncing)
        .filter_map(|replica| replica.observed.lineage.as_ref());
    let mut all = 0;
    for lineage in known {
        *counts.entry(&lineage.replid).or_default() += 1;
        all += 1;
    }
    let same = counts.get(own.replid.as_str()).copied().unwrap_or(0);
    // Where nothing at all is known of the primary, one replica alone is the majority it is.
    let least = if primary.is_some() { 2 } else { 1 };
    same >= least && same * 2 > all
}

fn others_hold_keys(group: &Group, replica: &Replica) -> bool {
    let primary = if group.primary.data_gone.is_some() {
        group.primary.keys_before
    } else {
        group.primary.observed.keys
    };
    primary > 0
        || group
            .replicas
            .values()
            .any(|other| other.at != replica.at && other.observed.keys > 0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sentinel::model::LinkId;
    use crate::testing::origin;

    /// Priority, offset and run id of each replica, and the port of the one to be promoted.
    type Row = (&'static [(u32, u64, &'static str)], u16);

    fn replica(port: u16, priority: u32, offset: u64, run_id: &str) -> Replica {
        let mut replica = Replica::new(Endpoint::new("10.0.0.1", port), LinkId(0), origin());
        replica.priority = priority;
        replica.offset = offset;
        run_id.clone_into(&mut replica.observed.run_id);
        replica
    }

    #[test]
    fn data_comes_before_priority_and_priority_before_a_little_lag() {
        const MIB: u64 = 1 << 20;
        let table: &[Row] = &[
            (&[(100, 5, "a"), (100, 7, "b")], 1),
            (&[(100, MIB, "a"), (10, MIB - LAG_MAX, "b")], 1),
            (&[(100, MIB, "a"), (10, MIB - LAG_MAX - 1, "b")], 0),
            (&[(100, 7, "B"), (100, 7, "a")], 1),
            (&[(100, 7, ""), (100, 7, "f")], 1),
            (&[(1, 0, "a"), (100, 10 * MIB, "b")], 1),
        ];
        for (rows, winner) in table {
            let replicas: Vec<Replica> = rows
                .iter()
                .zip(0_u16..)
                .map(|((priority, offset, run_id), port)| replica(port, *priority, *offset, run_id))
                .collect();
            let fit: Vec<&Replica> = replicas.iter().collect();
            assert_eq!(
                pick(&fit).map(|best| best.at.port),
                Some(*winner),
                "{rows:?}"
            );
        }
        assert!(pick(&[]).is_none());
    }
}
