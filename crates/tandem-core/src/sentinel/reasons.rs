//! Why a group is as it is, for `SENTINEL TANDEM EXPLAIN`: the machine's own rules, asked again, with their numbers.

use crate::sentinel::commands::status::{Reason, Reasons};
use crate::sentinel::machine::Sentinel;
use crate::sentinel::model::{Group, GroupId, ReportedRole};

impl Sentinel {
    /// What keeps a group from a failover, and replicas from being promoted.
    pub(super) fn reasons(&self, group: &Group) -> Reasons {
        let excluded = group
            .replicas
            .values()
            .filter_map(|replica| {
                let unfit = self.eligible(group, replica).err()?;
                Some((
                    replica.at.clone(),
                    Reason::new(unfit.code(), unfit.to_string()),
                ))
            })
            .collect();
        Reasons {
            no_failover: self.no_failover(group),
            excluded,
            would_promote: self.choose(group),
        }
    }

    fn no_failover(&self, group: &Group) -> Option<Reason> {
        if group.failover.is_some() {
            return None;
        }
        let primary = &group.primary;
        if primary.down.subjective.is_none() {
            let silence = self
                .links
                .get(&primary.link)
                .map_or(0, |link| link.silence(self.now).as_millis());
            let limit = group.settings.down_after.as_millis();
            let proof = if primary.gone.is_some() && !group.all_ours() {
                ", and proof that it is gone counts only where every sentinel is ours"
            } else if primary.observed.role == ReportedRole::Replica {
                ", and reports to be a replica"
            } else {
                ""
            };
            return Some(Reason::new(
                "not-down",
                format!("the primary has been silent for {silence} of {limit} ms{proof}"),
            ));
        }
        let quorum = group.settings.quorum;
        if primary.down.objective.is_none() {
            let agree = 1 + group
                .peers
                .values()
                .filter(|peer| peer.primary_down)
                .count();
            return Some(Reason::new(
                "no-quorum",
                format!("{agree} of {quorum} sentinels needed find it down"),
            ));
        }
        if let Some(at) = group.retry_at.filter(|at| self.now < *at) {
            let wait = (at - self.now).as_millis();
            let why = match &group.leader {
                Some(leader) if *leader != self.id => {
                    format!("{leader} has our vote in election {}", group.leader_epoch)
                }
                Some(_) | None => "the last attempt came to nothing".to_owned(),
            };
            return Some(Reason::new(
                "waiting",
                format!("{why}; not before {wait} ms from now"),
            ));
        }
        if let (None, None, Some((at, outside))) = (
            self.choose(group),
            self.stranded(group),
            self.follows_outside(group),
        ) {
            return Some(Reason::new(
                "follows-outside",
                format!("{at} follows {outside}, which is no server of this group"),
            ));
        }
        if self.choose(group).is_none() && self.stranded(group).is_none() {
            return Some(Reason::new("no-good-replica", "no replica may be promoted"));
        }
        Some(Reason::new("standing", "about to stand for election"))
    }
}

/// Why no replica was good enough, for the log.
pub(super) fn explain(sentinel: &Sentinel, id: GroupId) -> String {
    let Some(group) = sentinel.groups.get(&id) else {
        return String::new();
    };
    let reasons: Vec<String> = group
        .replicas
        .values()
        .map(|replica| match sentinel.eligible(group, replica) {
            Ok(()) => format!("{}: eligible", replica.at),
            Err(reason) => format!("{}: {reason}", replica.at),
        })
        .collect();
    let mut text = if reasons.is_empty() {
        "No replica is known".to_owned()
    } else {
        format!("No replica can be promoted: {}", reasons.join("; "))
    };
    if let Some((at, outside)) = sentinel.follows_outside(group) {
        text += "; ";
        text += &format!("{at} follows {outside}, which is no server of this group: left alone");
    }
    text
}
