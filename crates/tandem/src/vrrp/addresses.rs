//! The addresses themselves: installed with a lifetime, renewed, put back, removed.
//!
//! An address lives a few seconds and is renewed every third of that, so that the kernel removes it when this process is
//! gone (keepalived's stay for ever after SIGKILL). One that somebody else removes is put back in place.

use std::time::{Duration, Instant};

use tandem_vrrp::machine::{Input, Machine, State};
use tracing::{error, info, warn};

use super::daemon::Daemon;
use crate::linux::addr::{Change, Entry, Lifetime, Options, Vip};

/// An address that is on, or is to be.
#[derive(Debug, Clone)]
pub(super) struct Held {
    /// Who holds it.
    pub(super) router: usize,
    options: Options,
    since: Instant,
}

impl Held {
    /// As the kernel is to be told now: `preferred_lft` counts from the first installation, not from the last renewal.
    fn options_at(&self, now: Instant) -> Options {
        let age = now.saturating_duration_since(self.since);
        Options {
            preferred: self
                .options
                .preferred
                .map(|whole| whole.saturating_sub(age)),
            ..self.options.clone()
        }
    }
}

impl Daemon {
    /// What an earlier process left: only addresses that the file names (keepalived does the same first).
    pub(super) fn remove_leftovers(&mut self) {
        let routers = self.plan.routers.iter();
        let named = routers.flat_map(|router| {
            let own = self.host.own_address(router);
            router.addresses.iter().map(move |address| (own, address))
        });
        for (own, address) in named {
            let Some(link) = self.host.link(&address.interface) else {
                continue;
            };
            let left = self.host.entries().iter().find(|entry| {
                entry.vip.interface_index == link.index && entry.vip.address == address.address
            });
            let Some(left) = left else { continue };
            // An address owner's own address is no leftover; without it the host would be mute.
            if own == Some(left.vip.address) && !left.ours {
                continue;
            }
            match self.netlink.remove(&left.vip) {
                Ok(_) => info!("removed {}, left by an earlier process", address.address),
                Err(error) => error!("removing {}: {error}", address.address),
            }
        }
    }

    /// A third of the lifetime, so that two renewals may be missed.
    pub(super) fn renewal_period(&self) -> Duration {
        match self.args.vip_lifetime {
            0 => Duration::from_secs(3600),
            seconds => Duration::from_secs(seconds.into()) / 3,
        }
    }

    pub(super) fn lifetime(&self) -> Lifetime {
        match self.args.vip_lifetime {
            0 => Lifetime::FOREVER,
            seconds => Lifetime::at_least(Duration::from_secs(seconds.into())),
        }
    }

    /// What a router brings along, on the links as they are now.
    pub(super) fn wanted(&self, index: usize) -> Vec<Vip> {
        let addresses = &self.routers[index].plan.addresses;
        addresses
            .iter()
            .filter_map(|line| {
                Some(Vip {
                    interface_index: self.host.link(&line.interface)?.index,
                    address: line.address,
                    prefix_length: line.prefix_length,
                })
            })
            .collect()
    }

    pub(super) fn install_addresses(&mut self, index: usize) {
        for vip in self.wanted(index) {
            self.install(index, vip);
        }
    }

    /// What the file wants of an address besides that it is there.
    fn options(&self, index: usize, vip: &Vip) -> Options {
        let lines = &self.routers[index].plan.addresses;
        let link = self.host.link_at(vip.interface_index);
        lines
            .iter()
            .find(|line| {
                (line.address, line.prefix_length) == (vip.address, vip.prefix_length)
                    && link.is_some_and(|link| link.name == line.interface)
            })
            .map(|line| line.options.clone())
            .unwrap_or_default()
    }

    /// A held address under a new plan. One whose options changed goes, to be installed anew: the kernel renews lifetimes
    /// only.
    pub(super) fn pass_on(&mut self, vip: Vip, held: Held) {
        let holder = (0..self.routers.len()).find(|index| self.holds(*index, &vip));
        match holder {
            Some(router) if self.options(router, &vip) == held.options => {
                self.vips.insert(vip, Held { router, ..held });
            }
            Some(_) | None => self.remove(vip),
        }
    }

    /// Whether this router is MASTER and wants this address.
    fn holds(&self, index: usize, vip: &Vip) -> bool {
        self.machine(index).map(Machine::state) == Some(State::Master)
            && self.wanted(index).contains(vip)
    }

    /// Installs what a reload added; whether there was anything.
    pub(super) fn install_missing(&mut self, index: usize) -> bool {
        let missing: Vec<Vip> = self
            .wanted(index)
            .into_iter()
            .filter(|vip| !self.vips.contains_key(vip))
            .collect();
        for vip in &missing {
            self.install(index, *vip);
        }
        !missing.is_empty()
    }

    fn install(&mut self, index: usize, vip: Vip) {
        let held = Held {
            router: index,
            options: self.options(index, &vip),
            since: Instant::now(),
        };
        let installed = self
            .netlink
            .install_with(&vip, self.lifetime(), &held.options);
        // Held from here on: one that could not be installed is tried again.
        self.vips.insert(vip, held);
        match installed {
            Ok(()) => self.host.apply(&Change::Address(as_installed(vip))),
            Err(error) => error!(
                "({}) installing {}: {error}",
                self.routers[index].plan.name, vip.address
            ),
        }
    }

    pub(super) fn remove(&mut self, vip: Vip) {
        self.vips.remove(&vip);
        match self.netlink.remove(&vip) {
            Ok(_) => self.host.apply(&Change::AddressGone(as_installed(vip))),
            Err(error) => error!("removing {}: {error}", vip.address),
        }
    }

    pub(super) fn drop_addresses(&mut self, index: usize) {
        for round in self.routers[index].rounds.drain(..) {
            round.abort();
        }
        let held: Vec<Vip> = self
            .vips
            .iter()
            .filter(|(_, held)| held.router == index)
            .map(|(vip, _)| *vip)
            .collect();
        for vip in held {
            self.remove(vip);
        }
    }

    /// Lets the kernel's clock on every held address begin anew.
    pub(super) fn renew_addresses(&mut self) {
        let (lifetime, now) = (self.lifetime(), Instant::now());
        for (vip, held) in &self.vips {
            let options = held.options_at(now);
            if let Err(error) = self.netlink.install_with(vip, lifetime, &options) {
                error!(
                    "({}) renewing {}: {error}",
                    self.routers[held.router].plan.name, vip.address
                );
            }
        }
    }

    /// Puts addresses back that somebody else removed, without a change of state. keepalived gives mastership up and takes
    /// it again, with both scripts.
    pub(super) fn restore_addresses(&mut self) {
        for index in 0..self.routers.len() {
            let master = self.machine(index).map(Machine::state) == Some(State::Master);
            if !master {
                continue;
            }
            let missing: Vec<Vip> = self
                .wanted(index)
                .into_iter()
                .filter(|vip| !self.host.entries().iter().any(|entry| entry.vip == *vip))
                .collect();
            if missing.is_empty() {
                continue;
            }
            // The events seen so far may be older than our own last installation: ask the kernel.
            let present = self.netlink.addresses().unwrap_or_default();
            let mut gone = Vec::new();
            for vip in missing {
                match present.iter().find(|entry| entry.vip == vip) {
                    Some(entry) => self.host.apply(&Change::Address(*entry)),
                    None => gone.push(vip),
                }
            }
            if gone.is_empty() {
                continue;
            }
            for vip in &gone {
                self.install(index, *vip);
            }
            let router = &mut self.routers[index];
            router.restored += 1;
            // The first, then each tenth: somebody may do this all day.
            if router.restored % 10 == 1 {
                let name = &router.plan.name;
                let times = router.restored;
                warn!(
                    "({name}) somebody removed {} of its addresses; put back, {times} times so far",
                    gone.len()
                );
            }
            self.dirty = true;
            self.feed(index, Input::Announce);
        }
    }
}

/// What the kernel will report of an address just installed.
fn as_installed(vip: Vip) -> Entry {
    Entry {
        vip,
        ours: true,
        valid_seconds: None,
        secondary: false,
        tentative: false,
        duplicate: false,
        global: true,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_preferred_lifetime_is_used_up_once_however_often_it_is_renewed() {
        let since = Instant::now();
        let seconds = Duration::from_secs;
        for (given, age, left) in [
            (None, 100, None),
            (Some(30), 0, Some(30)),
            (Some(30), 10, Some(20)),
            (Some(30), 31, Some(0)),
            (Some(0), 1, Some(0)),
        ] {
            let held = Held {
                router: 0,
                options: Options {
                    preferred: given.map(seconds),
                    ..Options::default()
                },
                since,
            };
            let found = held.options_at(since + seconds(age)).preferred;
            assert_eq!(found, left.map(seconds), "{given:?} after {age} s");
        }
    }
}
