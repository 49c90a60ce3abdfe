//! Addresses that a reload adds or takes away, while the front is in use.

use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};

use super::Front;
use crate::linux::addr::Vip;
use crate::linux::gate::Closure;
use crate::linux::sockdiag::Local;

impl Front {
    /// Takes a reloaded lifetime; the next renewal has it.
    pub(crate) fn set_lifetime(&mut self, lifetime: Duration) {
        self.lifetime = lifetime;
        if let Some(at) = &mut self.renew_at {
            *at = (*at).min(Instant::now() + lifetime / 3);
        }
    }

    /// Adds those of `wanted` that are new, and puts them on if the others are. An error leaves the addresses as they were.
    pub(crate) fn add_vips(&mut self, wanted: &[IpAddr], now: Instant) -> Result<()> {
        let before = self.vips.clone();
        let new: Vec<IpAddr> = wanted
            .iter()
            .filter(|vip| !before.contains(vip))
            .copied()
            .collect();
        if new.is_empty() {
            return Ok(());
        }
        self.vips.extend(&new);
        let closed = self.close_new(&new);
        let added = closed.and_then(|()| {
            if self.up {
                self.add(now).context("putting the new addresses on")?;
            }
            Ok(())
        });
        if added.is_err() {
            self.keep_vips(&before)?;
        }
        added
    }

    /// A front that is closed is closed at its new addresses too.
    fn close_new(&mut self, new: &[IpAddr]) -> Result<()> {
        let closed = self
            .closed
            .iter()
            .any(|closure| matches!(closure, Closure::Front(_)));
        let Some(gate) = self.gate.as_mut().filter(|_| closed) else {
            return Ok(());
        };
        for vip in new {
            let closure = Closure::Front(SocketAddr::new(*vip, self.server.port()));
            gate.close(closure)?;
            self.closed.push(closure);
        }
        Ok(())
    }

    /// Takes off those that are not in `wanted`: their clients are refused and reset while the kernel still has the address to do
    /// it from (rule 10).
    pub(crate) fn keep_vips(&mut self, wanted: &[IpAddr]) -> Result<()> {
        let mut first_error = None;
        for vip in self.kernel_vips() {
            if wanted.contains(&vip.address) {
                continue;
            }
            self.vips.retain(|kept| *kept != vip.address);
            self.planned.retain(|_, planned| *planned != vip.address);
            if self.up
                && let Err(error) = self.send_away(&vip)
            {
                first_error.get_or_insert(error);
            }
        }
        first_error.map_or(Ok(()), Err)
    }

    fn send_away(&mut self, vip: &Vip) -> Result<()> {
        let front = SocketAddr::new(vip.address, self.server.port());
        if let Some(gate) = &mut self.gate {
            gate.close(Closure::Front(front))?;
        }
        let local = Local {
            address: Some(vip.address),
            port: front.port(),
        };
        let destroyed = self.diag.destroy_clients(local, &[]);
        let removed = self.addresses.remove(vip);
        if let Some(gate) = &mut self.gate {
            gate.open(Closure::Front(front))?;
        }
        destroyed.context("resetting its clients")?;
        removed.with_context(|| format!("removing {}", vip.address))?;
        Ok(())
    }
}
