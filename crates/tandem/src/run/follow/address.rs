//! The addresses of a group that is followed: put on, announced, taken off.

use std::time::{Duration, Instant};

use anyhow::Context as _;
use tandem_core::keeper::{Hook, Severity};
use tandem_vrrp::garp::{Round, RoundKind};

use super::Followed;

/// Announcements of an address that came here: the second round is for switches that forgot the first.
const SECOND_ROUND: Duration = Duration::from_secs(5);
/// Frames per address and round.
const REPEAT: u32 = 5;

impl Followed {
    pub(super) fn take_address(&mut self, now: Instant) {
        let Some(front) = &mut self.front else {
            return;
        };
        let taken = front
            .reopen()
            .and_then(|()| front.add(now).context("putting the addresses on"));
        match taken {
            Ok(()) => {
                self.announce(RoundKind::Entry, now);
                self.second_round = Some(now + SECOND_ROUND);
                let text = "the fleet's primary is this host's server".to_owned();
                let epoch = self
                    .follower
                    .current()
                    .map_or(0, |it| it.epoch.0)
                    .to_string();
                self.hooks.fire(
                    Hook::VipUp,
                    &self.settings.name,
                    &epoch,
                    &text,
                    Severity::Info,
                );
                self.tell("+vip", text, Severity::Info);
            }
            Err(error) => self.tell("vip-failed", format!("{error:#}"), Severity::Alarm),
        }
    }

    /// Clients are refused and reset while the address is still here, and then it goes.
    pub(super) fn give_address(&mut self) {
        self.second_round = None;
        let Some(front) = &mut self.front else {
            return;
        };
        if let Err(error) = front.close(false, false) {
            tracing::warn!("{}: closing the front: {error:#}", self.settings.name);
        }
        if let Err(error) = front.drop_addresses() {
            let text = format!("removing the addresses: {error}");
            self.tell("vip-failed", text, Severity::Alarm);
        } else {
            let text = "the addresses do not belong on this host any more".to_owned();
            self.tell("-vip", text, Severity::Info);
        }
    }

    pub(super) fn announce(&mut self, kind: RoundKind, now: Instant) {
        if let Some(front) = &mut self.front {
            let repeat = REPEAT;
            front.announce(Round { kind, repeat }, now);
        }
    }
}
