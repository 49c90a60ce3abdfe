//! For how long what is believed of a group may be believed.
//!
//! A reply is passed on only if the clock, read after the reply was read, says that the word on its server still holds.
//! Where an elector gives a lease that is its end. Where none does, as in a pair, the thread's own turns take its place: they
//! show that it would have heard of anything newer. One that stood still for longer than [`STALL`] (stopped, or its host
//! paused) may have slept through a whole failover. What it had sent may have been answered by a server that was not the
//! primary any more; so it leaves what has come in unread, sends nothing, and has somebody ask ([`Order::Confirm`]). If the
//! primary is still the same, it reads on and nothing was lost but the time. If it is another one, all that was sent and
//! not answered is judged as when a connection ends. So is, at once, a reply that was read before the stall was noticed.

use std::time::{Duration, Instant};

use super::{Core, How, Order};
use crate::topology::Lease;

/// A thread that stood still for longer has to ask: less than what a pair takes to find out that a host is gone, and more
/// than a busy host makes a thread wait for its turn.
const STALL: Duration = Duration::from_millis(350);
/// A thread that has nothing to do shows itself that it is awake this often.
const TURN: Duration = Duration::from_millis(150);

/// The clock that counts the time since boot, sleep included, and what it means.
#[derive(Debug, Default)]
pub(super) struct Watch {
    /// The last time that was read.
    pub(super) boot: Duration,
    /// When this turn began; none before the first.
    turned: Option<Duration>,
    /// Some group has a lease that does not end by itself.
    open: bool,
    /// The first end of those that do.
    granted: Option<Duration>,
    /// What is read after this may have come too late; `None`: nothing ever does.
    until: Option<Duration>,
    /// The last read may have brought something too late.
    pub(super) late: bool,
}

impl Core {
    /// Whether [`Core::look`] and [`Core::turned`] make a difference.
    #[inline]
    #[must_use]
    pub fn has_leases(&self) -> bool {
        self.watch.open || self.watch.granted.is_some()
    }

    /// To be called after each read from a server, before [`Core::received`], with the time since boot read after it.
    #[inline]
    pub fn look(&mut self, boot: Duration) {
        self.watch.boot = boot;
        self.watch.late = self.watch.until.is_some_and(|until| boot > until);
    }

    /// A turn begins: the thread has waited, and now it is this long since boot.
    pub fn turned(&mut self, boot: Duration, now: Instant) {
        self.clock(now);
        self.watch.boot = boot;
        let before = self.watch.turned.replace(boot);
        let slept = before.map_or(Duration::ZERO, |before| boot.saturating_sub(before));
        let stalled = self.watch.open && slept > TURN + STALL;
        if stalled || self.watch.granted.is_some_and(|until| boot > until) {
            self.doubt(stalled);
        }
        self.watch.late = false;
        self.limit();
        self.arm_turn();
    }

    /// What holds has changed.
    pub(super) fn leases_changed(&mut self) {
        let groups = || {
            self.pools
                .iter()
                .flat_map(|pool| pool.groups.iter().flatten())
        };
        self.watch.open = groups().any(|known| known.group.lease == Lease::Open);
        self.watch.granted = groups()
            .filter(|known| known.doubted.is_none())
            .filter_map(|known| match known.group.lease {
                Lease::Until(until) => Some(until),
                Lease::Open | Lease::Fixed | Lease::Members => None,
            })
            .min();
        self.limit();
        self.arm_turn();
    }

    /// Sees to it that the thread shows that it is awake. Whoever sets all that is due anew has to ask for this too: a thread
    /// that slept because nothing else was due would take itself for one that stood still.
    pub(super) fn arm_turn(&mut self) {
        if self.watch.open {
            self.arm(self.now_ms + TURN.as_millis() as u64);
        }
    }

    fn limit(&mut self) {
        let turns = self.watch.turned.filter(|_| self.watch.open);
        let awake = turns.map(|turned| turned + STALL);
        self.watch.until = match (awake, self.watch.granted) {
            (Some(awake), Some(granted)) => Some(awake.min(granted)),
            (awake, granted) => awake.or(granted),
        };
    }

    /// Doubts every group whose lease is over, and with `stalled` all that have none.
    fn doubt(&mut self, stalled: bool) {
        let boot = self.watch.boot;
        for pool in 0..self.pools.len() as u32 {
            for server in 0..self.pools[pool as usize].groups.len() as u32 {
                let Some(known) = &mut self.pools[pool as usize].groups[server as usize] else {
                    continue;
                };
                let over = match known.group.lease {
                    Lease::Fixed | Lease::Members => false,
                    Lease::Open => stalled,
                    Lease::Until(until) => boot > until && known.doubted.is_none(),
                };
                if over {
                    known.doubted = Some(boot);
                    self.obey(pool, server, false);
                }
            }
        }
        self.leases_changed();
        if stalled {
            self.orders.push_back(Order::Confirm);
        }
    }

    /// Something was read from a server later than this thread should have slept. Whether that makes it void.
    #[cold]
    pub(super) fn came_late(&mut self, index: u32) -> bool {
        let boot = self.watch.boot;
        let stalled = self.watch.open
            && (self.watch.turned).is_some_and(|turned| boot.saturating_sub(turned) > STALL);
        self.doubt(stalled);
        // What is doubted from now on is not read; only this one was.
        self.watch.turned = Some(boot);
        self.watch.late = false;
        self.limit();
        let lane = &self.lanes[index as usize];
        let groups = &self.pools[lane.pool as usize].groups;
        let doubted = groups
            .get(lane.server as usize)
            .and_then(Option::as_ref)
            .is_some_and(|known| known.doubted.is_some());
        if doubted {
            // It was sent, and it was not answered.
            self.lane_down(index, How::TimedOut);
        }
        doubted
    }

    /// What was said of a group was asked for anew, no sooner than at this time since boot.
    pub fn confirmed(&mut self, pool: usize, server: usize, asked: Duration, now: Instant) {
        self.clock(now);
        let known = self.pools.get_mut(pool);
        let known = known.and_then(|pool| pool.groups.get_mut(server)?.as_mut());
        if let Some(known) = known
            && known.group.lease == Lease::Open
            && known.doubted.is_some_and(|since| asked >= since)
        {
            known.doubted = None;
            self.obey(pool as u32, server as u32, false);
        }
        self.settle();
    }
}
