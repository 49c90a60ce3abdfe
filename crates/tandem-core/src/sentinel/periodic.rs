//! What is sent again and again on each link, and the one look at a link when its moment has come.
//!
//! Periods are Redis' (`sentinel.c`) with these differences, none of which another sentinel can notice as wrong:
//! a primary is asked more often so that its silence is noticed in time whatever the phase; INFO comes at once and often
//! where a decision waits for it; and periodic commands keep to a grid of 10 ms, so that a thousand groups
//! wake the process a hundred times a second and not five thousand times.

use std::time::{Duration, Instant};

use crate::sentinel::due::{Key, earlier};
use crate::sentinel::ids::Endpoint;
use crate::sentinel::machine::Sentinel;
use crate::sentinel::model::{Expect, Group, GroupId, Link, LinkId, Owner, Reconf, Stage};

/// What periodic commands are aligned to.
const GRID: Duration = Duration::from_millis(10);
/// A primary's PINGs come no faster than this.
const PING_FAST: Duration = Duration::from_millis(50);
/// PINGs within `down-after`, so that the phase of the PING costs no more than a twentieth of it.
const PINGS_PER_DOWN_AFTER: u32 = 20;
/// PINGs to primaries per second in all groups together that come only from asking faster; with more primaries than
/// this allows at full speed, each is asked less often: a thousand groups cost no more PINGs than with Redis.
const FAST_PINGS_PER_SECOND: u64 = 1_000;
/// Periods are shortened at random by up to this part of them, so that links which began together do not stay together
/// and a thousand groups make no bursts.
pub(super) const JITTER_PART: u32 = 20;
/// INFO where a decision waits and every sentinel is ours.
const INFO_FAST: Duration = Duration::from_millis(100);
/// INFO where Redis asks every second.
const INFO_SOON: Duration = Duration::from_secs(1);

impl Sentinel {
    /// Looks at one link: does what is due, and says when to look again.
    pub(super) fn tick_link(&mut self, id: LinkId) {
        let Some(down_after) = self.down_after(id) else {
            return;
        };
        let mut next = self.drop_idle(id, down_after);
        next = earlier(next, self.reconnect(id));
        next = earlier(next, self.send_periodic(id));
        next = earlier(next, self.check_link_down(id));
        if let Some(next) = next {
            let soon = self.now + Duration::from_millis(1);
            self.due.set(Key::Link(id), next.max(soon));
        }
    }

    /// The shortest `down-after` of all that use a link.
    fn down_after(&self, id: LinkId) -> Option<Duration> {
        let of = |group: &GroupId| {
            self.groups
                .get(group)
                .map(|group| group.settings.down_after)
        };
        match &self.links.get(&id)?.owner {
            Owner::Primary(group) | Owner::Replica(group, _) => of(group),
            Owner::Peer(_, groups) => groups.iter().filter_map(of).min(),
        }
    }

    /// How often a link's other side is PINGed.
    fn ping_period(&self, link: &Link, down_after: Duration) -> Duration {
        let slow = self.periods.ping.min(down_after);
        if !matches!(link.owner, Owner::Primary(_)) {
            return slow;
        }
        let crowded =
            Duration::from_micros(self.groups.len() as u64 * (1_000_000 / FAST_PINGS_PER_SECOND));
        (down_after / PINGS_PER_DOWN_AFTER)
            .max(PING_FAST)
            .max(crowded)
            .min(slow)
    }

    fn send_periodic(&mut self, id: LinkId) -> Option<Instant> {
        let down_after = self.down_after(id)?;
        let now = self.now;
        let link = self.links.get(&id)?;
        link.command.as_ref()?;
        let mut next = None;

        let every = self.ping_period(link, down_after);
        // A PING that is not answered yet is repeated, but not at the fast pace: one answer says as much as twenty.
        let pause = if link.ping_pending.is_some() {
            every.max(self.periods.ping.min(down_after) / 2)
        } else {
            every
        };
        let ping_at = link
            .last_ping
            .map_or(now, |last| self.on_grid(last + pause));

        let (info_at, hello_at) = match &link.owner {
            Owner::Primary(group) => (
                self.info_due(link, self.info_period(*group, None)),
                Some(link.hello_at),
            ),
            Owner::Replica(group, at) => (
                self.info_due(link, self.info_period(*group, Some(at))),
                Some(link.hello_at),
            ),
            Owner::Peer(..) => (None, None),
        };
        let hello_at = hello_at.filter(|_| !link.hold_hello && link.is_up());

        if !self.may_send(id) {
            return Some(now + self.periods.ping);
        }
        // What is due soon goes with what is due now: a packet costs more than what is in it.
        let is_due = |at: Instant| at <= now;
        let any = is_due(ping_at) || info_at.is_some_and(is_due) || hello_at.is_some_and(is_due);
        let together = if any { now + every / 2 } else { now };
        if ping_at <= together {
            self.ping(id);
            next = earlier(next, Some(self.on_grid(now + every)));
        } else {
            next = earlier(next, Some(ping_at));
        }
        if let Some(at) = info_at {
            if at <= together {
                self.ask_info(id);
            } else {
                next = earlier(next, Some(at));
            }
        }
        if let Some(at) = hello_at {
            if at <= together {
                self.publish_hello(id);
                next = earlier(next, Some(self.on_grid(now + self.periods.publish)));
            } else {
                next = earlier(next, Some(at));
            }
        }
        next
    }

    /// When INFO is due; `None` while one is unanswered.
    fn info_due(&self, link: &Link, every: Duration) -> Option<Instant> {
        let waits = link
            .command
            .as_ref()
            .is_some_and(|conn| conn.expects.contains(&Expect::Info));
        if waits {
            return None;
        }
        // Only the usual period is shortened: the fast ones are shorter than what would be taken off.
        let every = if every == self.periods.info {
            every.saturating_sub(link.info_early)
        } else {
            every
        };
        Some(
            link.info_sent
                .map_or(self.now, |sent| self.on_grid(sent + every)),
        )
    }

    /// How often INFO is asked of a group's primary (`None`) or of one of its replicas.
    fn info_period(&self, id: GroupId, replica: Option<&Endpoint>) -> Duration {
        let usual = self.periods.info;
        let Some(group) = self.groups.get(&id) else {
            return usual;
        };
        let fast = INFO_FAST.min(usual);
        let soon = INFO_SOON.min(usual);
        let Some(at) = replica else {
            // The new primary is watched until the others follow it.
            return if group.failover.is_some() {
                soon
            } else {
                usual
            };
        };
        let Some(replica) = group.replicas.get(at) else {
            return usual;
        };
        if waits_for(group, at)
            || matches!(replica.reconf, Some(Reconf::Sent(_) | Reconf::InProgress))
        {
            return fast;
        }
        let troubled = group.primary.down.subjective.is_some() || group.failover.is_some();
        if troubled {
            return if group.all_ours() { fast } else { soon };
        }
        if replica.link_up { usual } else { soon }
    }

    /// A moment on the grid, this one or the next.
    fn on_grid(&self, at: Instant) -> Instant {
        let since = at.saturating_duration_since(self.began).as_nanos();
        let over = since % GRID.as_nanos();
        if over == 0 {
            return at;
        }
        at + Duration::from_nanos(u64::try_from(GRID.as_nanos() - over).unwrap_or(0))
    }

    /// Sends PING; silence counts from the first without an answer.
    pub(super) fn ping(&mut self, id: LinkId) {
        let early = self
            .random
            .between(Duration::ZERO, self.periods.ping / JITTER_PART);
        if self.send(id, vec![b"PING".to_vec()], Expect::Pong)
            && let Some(link) = self.links.get_mut(&id)
        {
            link.last_ping = self.now.checked_sub(early).or(Some(self.now));
            link.ping_pending.get_or_insert(self.now);
        }
    }

    /// Sends INFO.
    pub(super) fn ask_info(&mut self, id: LinkId) {
        if !self.send(id, vec![b"INFO".to_vec()], Expect::Info) {
            return;
        }
        let now = self.now;
        let early = self
            .random
            .between(Duration::ZERO, self.periods.info / JITTER_PART);
        let Some(link) = self.links.get_mut(&id) else {
            return;
        };
        link.info_sent = Some(now);
        link.info_early = early;
        let observed = match &link.owner {
            Owner::Primary(group) => self
                .groups
                .get_mut(group)
                .map(|group| &mut group.primary.observed),
            Owner::Replica(group, at) => self
                .groups
                .get_mut(group)
                .and_then(|group| group.replicas.get_mut(at))
                .map(|replica| &mut replica.observed),
            Owner::Peer(..) => None,
        };
        if let Some(observed) = observed {
            observed.info_asked = Some(now);
        }
    }

    /// Sends INFO unless one is unanswered already.
    pub(super) fn ask_info_now(&mut self, id: LinkId) {
        let free = self.links.get(&id).is_some_and(|link| {
            link.is_up()
                && !link
                    .command
                    .as_ref()
                    .is_some_and(|conn| conn.expects.contains(&Expect::Info))
        });
        if free && self.may_send(id) {
            self.ask_info(id);
            self.due.by(Key::Link(id), self.now + GRID);
        }
    }

    /// Asks a group's primary for its state at once, if it can be asked.
    pub(super) fn ask_primary(&mut self, id: GroupId) {
        if let Some(link) = self.groups.get(&id).map(|group| group.primary.link) {
            self.ask_info_now(link);
        }
    }

    /// Asks all replicas of a group for their state at once.
    pub(super) fn ask_replicas(&mut self, id: GroupId) {
        let links: Vec<LinkId> = self.groups.get(&id).map_or_else(Vec::new, |group| {
            group
                .replicas
                .values()
                .map(|replica| replica.link)
                .collect()
        });
        for link in links {
            self.ask_info_now(link);
        }
    }
}

/// The failover cannot go on before this replica has told its role or position.
fn waits_for(group: &Group, at: &Endpoint) -> bool {
    group.failover.as_ref().is_some_and(|failover| {
        failover.chosen.as_ref() == Some(at)
            && match failover.stage {
                Stage::Promoting | Stage::Confirming => true,
                Stage::Electing | Stage::Selecting | Stage::Reconfiguring | Stage::Updating => {
                    false
                }
            }
    })
}
