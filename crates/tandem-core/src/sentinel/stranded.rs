//! The way out when nobody is primary any more and no replica may be promoted.
//!
//! Servers whose files say the wrong role (a file that CONFIG REWRITE could not write, a restored image) come back
//! following each other in a circle, or all following one that follows somebody else. Each is then a replica that never
//! synced, of which none can prove whose data it has, and Redis' conditions leave the group without a primary until a
//! person comes. No write is taken meanwhile, so nothing is lost by choosing, if everything can be seen: the server with the
//! most keys becomes primary, and among equals the one that the configuration names.
//!
//! It is done only when every known server of the group answers, none is a primary, none has a link, loads or syncs.

use crate::sentinel::ids::Endpoint;
use crate::sentinel::machine::Sentinel;
use crate::sentinel::model::{Group, Link, LinkId, Observed, ReportedRole};

impl Sentinel {
    /// Who should be primary where nobody is and nobody can be by the ordinary rules.
    pub(super) fn stranded(&self, group: &Group) -> Option<Endpoint> {
        let primary = &group.primary;
        let seen = |link: LinkId, observed: &Observed| {
            let fresh = observed.info_at.is_some_and(|read| {
                self.now.saturating_duration_since(read) <= self.periods.ping * 5
            });
            self.links.get(&link).is_some_and(Link::is_up)
                && fresh
                && observed.role == ReportedRole::Replica
                && !observed.attached
                && !observed.loading
        };
        let all = seen(primary.link, &primary.observed)
            && group
                .replicas
                .values()
                .all(|replica| seen(replica.link, &replica.observed) && !replica.syncing);
        if !all {
            return None;
        }
        let best = group
            .replicas
            .values()
            .filter(|replica| replica.priority > 0)
            .max_by_key(|replica| replica.observed.keys);
        match best {
            Some(best) if best.observed.keys > primary.observed.keys => Some(best.at.clone()),
            Some(_) | None => Some(primary.at.clone()),
        }
    }
}
