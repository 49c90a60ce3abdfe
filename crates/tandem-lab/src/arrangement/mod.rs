//! One pair of servers, kept available in different ways: the same fault runs on each of them.
//!
//! An [`Arrangement`] says how its daemons are started, how clients find the primary and when all is well again. What
//! breaks, how it is repaired and who is primary by the evidence is the same for all, and lives in [`Pair`].
//! The lab has five hosts: `a` and `b` with a server each, `c` for a third voter, and the clients `client` and
//! `other-side`, which stands on the far side of a cut.

mod fault;
mod keepalived;
mod pair;
mod sentinel;
mod tandem;
mod watch;

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use anyhow::ensure;

pub use self::fault::Fault;
pub use self::keepalived::{Keepalived, Tuning};
pub use self::pair::{CLIENT, OTHER_SIDE, Pair, Side, THIRD, VIP};
pub use self::sentinel::Sentinel;
pub use self::tandem::TandemPair;
pub use self::watch::{Overlap, Watch};
use crate::client::Target;
use crate::poll;

/// How long an arrangement may take from its start until all is well; Sentinels learn of replicas every 10 s.
const READY_BOUND: Duration = Duration::from_secs(60);

/// A fault as it was injected.
#[derive(Debug, Clone, Copy)]
pub struct Injection {
    /// Immediately before.
    pub at: Instant,
    /// Who was primary then.
    pub primary: Side,
}

/// A way to keep a pair of servers available.
pub trait Arrangement {
    /// The name in results: `keepalived tuned`.
    fn name(&self) -> String;

    /// The network and the servers.
    fn pair(&self) -> &Pair;

    /// The network and the servers.
    fn pair_mut(&mut self) -> &mut Pair;

    /// How clients find the primary.
    fn target(&self) -> Target;

    /// Whether the fault has a meaning here.
    fn supports(&self, fault: Fault) -> bool;

    /// Writes the configuration of a side's daemons and starts them. Called again after a host's power-off.
    ///
    /// # Errors
    /// When they cannot be started.
    fn start_daemons(&mut self, side: Side) -> anyhow::Result<()>;

    /// Whether the daemons are content: the inner error says what is missing.
    ///
    /// # Errors
    /// When there is no use in asking again.
    fn content(&mut self) -> anyhow::Result<Result<(), String>>;

    /// Who is primary, by the evidence that clients go by; the inner error says why nobody is.
    ///
    /// # Errors
    /// When it cannot be found out.
    fn primary(&mut self) -> anyhow::Result<Result<Side, String>> {
        self.pair().vip_primary()
    }

    /// Moves the primary to the other side as planned. Returns when the command does.
    ///
    /// # Errors
    /// When it is refused, or where there is no such thing.
    fn switchover(&mut self) -> anyhow::Result<()> {
        anyhow::bail!("{} has no planned switchover", self.name())
    }

    /// Which of these keys are in an archive of what a resync would have discarded.
    ///
    /// # Errors
    /// When an archive cannot be read.
    fn archived(&self, _keys: &BTreeSet<String>) -> anyhow::Result<BTreeSet<String>> {
        Ok(BTreeSet::new())
    }

    /// Starts everything: servers, `gib` GiB of data, replication from A to B, daemons; waits until all is well.
    ///
    /// # Errors
    /// When that does not happen.
    fn start(&mut self, gib: u64) -> anyhow::Result<Side> {
        self.pair_mut().start_servers(gib)?;
        for side in Side::BOTH {
            self.start_daemons(side)?;
        }
        self.wait_until_well(READY_BOUND)
    }

    /// Breaks something, at the primary where the fault is about one side.
    ///
    /// # Errors
    /// When nobody is primary, or the fault cannot be made.
    fn inject(&mut self, fault: Fault) -> anyhow::Result<Injection> {
        ensure!(
            self.supports(fault),
            "{fault} has no meaning for {}",
            self.name()
        );
        let primary = self
            .primary()?
            .map_err(|reason| anyhow::anyhow!("no primary to break: {reason}"))?;
        let at = Instant::now();
        match fault {
            Fault::Switchover => self.switchover()?,
            Fault::RestartDaemon => {
                let pair = self.pair_mut();
                pair.inject(Fault::KillDaemon, primary)?;
                pair.daemons_mut(primary).clear();
                self.start_daemons(primary)?;
            }
            Fault::KillServer
            | Fault::FreezeServer
            | Fault::PowerOff
            | Fault::KillDaemon
            | Fault::FreezeDaemon
            | Fault::FilterVrrp
            | Fault::CutBothUsed
            | Fault::CutStandbyUsed
            | Fault::CutStandbyIdle => self.pair_mut().inject(fault, primary)?,
        }
        Ok(Injection { at, primary })
    }

    /// Repairs what is broken (power, cables, processes), touches nothing else, and waits until all is well.
    ///
    /// # Errors
    /// When it does not become well within `bound`: a person would be needed.
    fn settle(&mut self, bound: Duration) -> anyhow::Result<Side> {
        let begun = Instant::now();
        for side in self.pair_mut().repair()? {
            self.start_daemons(side)?;
        }
        self.wait_until_well(bound.saturating_sub(begun.elapsed()))
    }

    /// Waits until one side is primary, the other its replica and in sync, and the daemons are content.
    ///
    /// # Errors
    /// When that does not happen within `bound`.
    fn wait_until_well(&mut self, bound: Duration) -> anyhow::Result<Side> {
        let what = format!("{} to be well", self.name());
        poll::until(&what, bound, Duration::from_millis(50), || {
            let primary = match self.primary()? {
                Ok(primary) => primary,
                Err(reason) => return Ok(Err(reason)),
            };
            if let Err(reason) = self.pair().replicates(primary.other()) {
                return Ok(Err(format!(
                    "replica {primary:?}: {reason}",
                    primary = primary.other()
                )));
            }
            Ok(self.content()?.map(|()| primary))
        })
    }

    /// Ends daemons and servers; the network stays for another start.
    ///
    /// # Errors
    /// When the network cannot be put back in order.
    fn stop(&mut self) -> anyhow::Result<()> {
        self.pair_mut().stop()
    }
}
