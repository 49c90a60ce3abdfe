//! `[group.local]`: both servers on one host, two keepers in one daemon, and a proxy in place of the VIP.
//!
//! The same machines, faults and checks as for two hosts, with what one host makes different: no VRRP, no network between the
//! keepers, power and daemon gone or frozen for both at once. Clients come through a proxy, which is told what both keepers say
//! ([`at_first_hand`]) and is a moment late in letting go; while nobody tells it anything it stays where it is.

use tandem_core::keeper::settings::Manage;
use tandem_core::topology::{at_first_hand, endpoint};

use crate::chance::{MS, Us};
use crate::plan::{FaultKind, Plan};
use crate::world::{ADDRESSES, World, other};

/// A proxy acts on a newer word within this.
const PROXY_WITHIN: Us = 50 * MS;

impl Plan {
    /// The same plan for one host: what only a network can do does not happen there.
    pub(crate) fn on_one_host(mut self) -> Self {
        self.one_host = true;
        self.manage = Manage::Adopt;
        self.faults
            .retain(|kind| !matches!(kind, FaultKind::Cut | FaultKind::Weather));
        if self.faults.is_empty() {
            self.faults.push(FaultKind::KillServer);
        }
        self
    }
}

impl World {
    /// Whom a fault of this side's host or daemon hits.
    pub(crate) fn hit_with(&self, h: usize) -> Vec<usize> {
        if self.plan.one_host {
            vec![h, other(h)]
        } else {
            vec![h]
        }
    }

    /// The proxy follows what the keepers say.
    pub(crate) fn follow_keepers(&mut self) {
        if !self.plan.one_host {
            return;
        }
        let now = self.instant();
        let words: Vec<_> = (0..2)
            .filter_map(|h| {
                let daemon = self.hosts[h].daemon.as_ref()?;
                let awake = daemon.frozen_since.is_none();
                let at = endpoint(ADDRESSES[h])?;
                awake.then(|| (at, daemon.pair.keeper().topology(now)))
            })
            .collect();
        let Some(word) = at_first_hand(&words) else {
            return;
        };
        for (h, address) in ADDRESSES.into_iter().enumerate() {
            let here = word.primary == endpoint(address);
            let was = self.hosts[h].vip_until == Us::MAX;
            if here && !was {
                self.hosts[h].vip_until = Us::MAX;
                self.announce(h);
            } else if !here && was {
                let late = self.chance.within(0, PROXY_WITHIN);
                self.hosts[h].vip_until = self.now + late;
            }
        }
    }
}
