//! Rounds of gratuitous ARP and unsolicited NA: which frames, where, and how far apart.
//!
//! When there is a round is the machine's decision (`tandem_vrrp::garp`). Without a configured gap all frames leave within
//! the call, round-robin over the addresses as keepalived sends them; with one they leave from a task.

use std::collections::BTreeMap;
use std::io;
use std::net::IpAddr;
use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use tandem_vrrp::garp::Round;
use tandem_vrrp::{arp, ndisc};
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep_until};
use tracing::warn;

use crate::linux::addr::Link;
use crate::linux::announce::Announcer;

/// One address and the link that it is announced on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Announced {
    pub(super) address: IpAddr,
    pub(super) link: Link,
}

/// The packet sockets, one per interface.
#[derive(Debug, Default)]
pub(super) struct Announcers {
    open: BTreeMap<NonZeroU32, Arc<Announcer>>,
}

impl Announcers {
    /// Forgets the socket of an interface that is gone.
    pub(super) fn forget(&mut self, index: NonZeroU32) {
        self.open.remove(&index);
    }

    /// Sends one round over addresses of one family. The task, if the frames have to be spaced.
    pub(super) fn send(
        &mut self,
        addresses: &[Announced],
        round: Round,
        gap: Duration,
    ) -> Option<JoinHandle<()>> {
        let mut ready = Vec::new();
        for one in addresses {
            match self.prepare(one) {
                Ok(prepared) => ready.extend(prepared),
                Err(error) => warn!("announcing {} on {}: {error}", one.address, one.link.name),
            }
        }
        let frames: Vec<_> = round.frames(ready.len(), gap).collect();
        if gap.is_zero() {
            for (index, _) in frames {
                let (announcer, frame) = &ready[index];
                report(announcer.send(frame));
            }
            return None;
        }
        let start = Instant::now();
        Some(tokio::spawn(async move {
            for (index, offset) in frames {
                sleep_until(start + offset).await;
                let (announcer, frame) = &ready[index];
                report(announcer.send(frame));
            }
        }))
    }

    /// The socket and the frame; nothing for an interface without neighbours to tell.
    fn prepare(&mut self, one: &Announced) -> io::Result<Option<(Arc<Announcer>, Vec<u8>)>> {
        let (Some(mac), true) = (one.link.mac, one.link.resolves) else {
            return Ok(None);
        };
        let announcer = match self.open.get(&one.link.index) {
            Some(announcer) => Arc::clone(announcer),
            None => {
                let announcer = Arc::new(Announcer::open(one.link.index)?);
                self.open.insert(one.link.index, Arc::clone(&announcer));
                announcer
            }
        };
        let frame = match one.address {
            IpAddr::V4(address) => arp::gratuitous(mac, address, arp::Form::Request).to_vec(),
            IpAddr::V6(address) => ndisc::unsolicited(mac, address, false).to_vec(),
        };
        Ok(Some((announcer, frame)))
    }
}

fn report(sent: io::Result<()>) {
    if let Err(error) = sent {
        warn!("an announcement did not leave: {error}");
    }
}
