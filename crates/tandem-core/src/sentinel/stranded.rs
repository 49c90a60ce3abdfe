//! The way out when the configured primary is alive as a replica and nobody may be promoted.
//!
//! Servers whose files say the wrong role (a file that CONFIG REWRITE could not write, a restored image) come back
//! following each other in a circle, or one that lost its data. None can prove whose data it has then, and the ordinary
//! conditions leave the group without a primary until a person comes. Clients are sent to a server that takes no writes
//! meanwhile, so choosing loses nothing that waiting would save, if everything can be seen: the server with the
//! most keys becomes primary, and among equals the one that the configuration names.
//!
//! It is done only when every known server of the group answers and none loads or receives a sync, and when they all follow
//! one another. A server that follows an address outside the group does so on purpose: a copy of another site's data, a
//! migration, or the fence of a tandem daemon (`127.0.0.1 1`). Whether somebody lives at that address cannot be seen from
//! here, so nobody is promoted over it; the log and `SENTINEL TANDEM EXPLAIN` name it.

use crate::sentinel::ids::Endpoint;
use crate::sentinel::machine::Sentinel;
use crate::sentinel::model::{Group, Link, LinkId, Observed, ReportedRole};

impl Sentinel {
    /// Who should be primary where the configured one is none and nobody can be by the ordinary rules.
    pub(super) fn stranded(&self, group: &Group) -> Option<Endpoint> {
        let primary = &group.primary;
        let lately = (self.periods.ping * 5).max(self.periods.info + self.periods.ping);
        let seen = |link: LinkId, observed: &Observed| {
            let fresh = observed
                .info_at
                .is_some_and(|read| self.now.saturating_duration_since(read) <= lately);
            let up = self.links.get(&link).is_some_and(Link::is_up);
            up && fresh && !observed.receiving && !observed.loading
        };
        let all = primary.observed.role == ReportedRole::Replica
            && seen(primary.link, &primary.observed)
            && group
                .replicas
                .values()
                .all(|replica| seen(replica.link, &replica.observed));
        if !all || self.follows_outside(group).is_some() {
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

    /// A server of the group that follows one which is not of the group, and that one.
    pub(super) fn follows_outside<'a>(
        &self,
        group: &'a Group,
    ) -> Option<(&'a Endpoint, &'a Endpoint)> {
        let primary = &group.primary;
        let replicas = group.replicas.values();
        let of_the_group = |at: &Endpoint| {
            self.is_at(&primary.at, at)
                || group.replicas.keys().any(|member| self.is_at(member, at))
        };
        std::iter::once((&primary.at, &primary.follows, primary.observed.role))
            .chain(replicas.map(|it| (&it.at, &it.follows, it.observed.role)))
            .filter(|(_, _, role)| *role == ReportedRole::Replica)
            .filter_map(|(at, follows, _)| Some((at, follows.as_ref()?)))
            .find(|(_, follows)| !of_the_group(follows))
    }
}
