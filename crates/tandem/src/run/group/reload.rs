//! Taking a changed file over while the group runs.
//!
//! Which differences come here is decided before ([`crate::run::reload`]); here is the order that is safe for clients: new
//! addresses go on first, then adverts and announcements speak of them, and only then those that are no longer in the
//! file go, their clients sent away with a reset while the kernel can still send one.

use std::time::Instant;

use tandem_config::settings as config;
use tandem_core::keeper::{Input, Reply};
use tandem_core::pair::PairInput;
use tandem_vrrp::machine::Machine;

use super::Group;
use super::settings::{core_policies, priority};
use crate::run::reload::{addresses, moves};

impl Group {
    /// Takes the settings over. A failure leaves the addresses as they were and is told; the rest counts all the same.
    pub(super) fn reload(&mut self, new: config::Group, now: Instant) -> Reply {
        if self.settings == new {
            return Reply::Done("nothing to take over".to_owned());
        }
        self.hooks.replace(new.hooks.clone());
        self.workshop.archive.set_limits(new.archive);
        if let Some(vip) = &new.vip {
            self.front.set_lifetime(vip.lifetime);
        }
        let added = self.front.add_vips(&addresses(&new), now);
        let mut taken = new;
        if added.is_err() {
            taken.vip.clone_from(&self.settings.vip);
        }
        let moved = moves(&self.settings, &taken);
        let master_down = self.reload_vrrp(&taken, now);
        if !moved.is_empty() {
            // Adverts list one family; announced are all.
            self.feed(PairInput::Announce, now);
        }
        let mut core = core_policies(&self.core, &taken);
        core.priority = priority(&taken);
        core.master_down = master_down.unwrap_or(core.master_down);
        self.core = core.clone();
        self.feed(PairInput::Keeper(Input::Reload(Box::new(core))), now);
        let removed = self.front.keep_vips(&addresses(&taken));
        self.settings = taken;
        match added.and(removed) {
            Ok(()) if moved.is_empty() => {
                Reply::Done("the changed settings are in force".to_owned())
            }
            Ok(()) => {
                let moved = moved.join("; ");
                tracing::warn!("{}: reloaded: {moved}", self.name);
                Reply::Done(format!("in force: {moved}"))
            }
            Err(error) => Reply::Failed(format!(
                "the addresses could not all be changed: {error:#}; the other settings are in force"
            )),
        }
    }

    /// Gives the VRRP machine its priority and addresses; what it waits for an advert then, as at the start.
    fn reload_vrrp(&mut self, group: &config::Group, now: Instant) -> Option<std::time::Duration> {
        let vrrp = self.vrrp.as_mut()?;
        let settings = vrrp.reload(group);
        self.feed(PairInput::Reload(Box::new(settings.clone())), now);
        Machine::new(settings, None)
            .ok()
            .map(|fresh| fresh.master_down())
    }
}
