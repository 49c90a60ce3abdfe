//! Clients that neither ask nor get anything for too long, where the settings say how long that is.
//!
//! As in Redis, who waits for something (in a blocking command, for messages, for a server) does not idle. What counts is
//! when a client last took bytes of a reply, which is noted anyway; so one that sends a request letter by letter idles too.

use super::Core;
use super::client::Life;

/// Between two looks at the clients.
const LOOK_MS: u64 = 1000;

impl Core {
    /// A client of this pool has come.
    pub(super) fn arm_idle(&mut self, pool: u32) {
        if self.pools[pool as usize]
            .setup
            .settings
            .access
            .client_timeout
            .is_some()
        {
            self.idle_at_ms = self.idle_at_ms.min(self.now_ms + LOOK_MS);
            self.arm(self.idle_at_ms);
        }
    }

    /// Lets clients go that idle.
    pub(super) fn end_idle(&mut self) {
        if self.now_ms < self.idle_at_ms {
            self.arm(self.idle_at_ms);
            return;
        }
        self.idle_at_ms = u64::MAX;
        for index in 0..self.desk.clients.len() as u32 {
            let client = &self.desk.clients[index as usize];
            let settings = &self.pools[client.pool as usize].setup.settings;
            let Some(most) = settings.access.client_timeout else {
                continue;
            };
            if client.life != Life::Open {
                continue;
            }
            let pool = client.pool;
            let waits = client.outstanding > 0 || client.is_subscribed() || client.has_claim();
            let idle = u64::from((self.now_ms as u32).wrapping_sub(client.progress_ms));
            if !waits && idle > most.as_millis() as u64 {
                self.desk.leave(index);
            } else {
                self.arm_idle(pool);
            }
        }
    }
}
