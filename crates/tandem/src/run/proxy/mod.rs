//! `[[proxy]]`: the shell around this host's proxies.
//!
//! A proxy's shards are groups. Where their primaries are is said by the loops of this host's groups, or, for groups of
//! other hosts, by their daemons ([`watch`]); each word becomes a snapshot ([`words`]) for the threads that carry requests
//! (`tandem_proxy`), which [`work`] looks after. A Redis Cluster is asked itself ([`cluster`]). Nothing goes the other way: a proxy
//! decides nothing about a group. Which host has its address is decided in `tandem_core::proxy_vip` and enacted by [`vip`].
//! What changes in the file of a running daemon is [`change`]'s. Here is how they are started.

mod access;
mod change;
mod cluster;
mod node;
mod notices;
mod vip;
mod watch;
mod words;
mod work;

use std::net::SocketAddr;
use std::sync::PoisonError;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use tandem_config::settings::{self as config, Settings, ShardAt};
use tandem_core::session::Secret;
use tokio::sync::watch::{Sender, channel};
use tokio::task::JoinSet;

use super::control::Observed;
use super::directory::Told;
use access::Certificates;
pub(super) use change::{Change, fixed, moves, taken_over};
use change::{Changes, Inbox};
use cluster::{Asker, Wanted};
pub(crate) use node::cluster_seen;
use vip::Vip;
use watch::Watch;
use work::{Around, Proxy};

/// This host's proxies. Some may come and go while the daemon runs.
pub(super) struct Proxies {
    around: Around,
    secret: Option<Secret>,
    /// Groups elsewhere whose daemons are listened to, and what ends that.
    watched: Vec<(String, Vec<SocketAddr>)>,
    stop: Sender<bool>,
    at_work: Vec<AtWork>,
    observed: Observed,
}

/// One of them.
struct AtWork {
    name: String,
    certificates: Certificates,
    changes: Changes,
    stop: Sender<bool>,
}

impl Proxies {
    /// Starts those of a file.
    ///
    /// # Errors
    /// An address cannot be had, or a password cannot be read.
    pub(super) fn start(
        settings: &Settings,
        secret: Option<&Secret>,
        told: &Told,
        running: &mut JoinSet<Result<()>>,
    ) -> Result<Self> {
        let mut proxies = Self {
            around: Around {
                here: told.clone(),
                elsewhere: Told::elsewhere(settings),
                address: settings.host.address,
            },
            secret: secret.cloned(),
            watched: Vec::new(),
            stop: Sender::new(false),
            at_work: Vec::new(),
            observed: Observed::default(),
        };
        for proxy in &settings.proxies {
            proxies.begin(settings, proxy, running)?;
        }
        Ok(proxies)
    }

    /// Starts one that has come to the file.
    ///
    /// # Errors
    /// As [`Proxies::start`], or other daemons are listened to about one of its groups; nobody is served by it then.
    pub(super) fn add(
        &mut self,
        settings: &Settings,
        proxy: &config::Proxy,
        running: &mut JoinSet<Result<()>>,
    ) -> Result<()> {
        for shard in &proxy.shards {
            if let ShardAt::Daemons { daemons } = &shard.at
                && let Some(known) = self.daemons_of(&shard.name)
                && known != daemons
            {
                bail!(
                    "group {}: other daemons are listened to, which a restart changes",
                    shard.name
                );
            }
        }
        self.begin(settings, proxy, running)
    }

    fn daemons_of(&self, group: &str) -> Option<&Vec<SocketAddr>> {
        let mut watched = self.watched.iter();
        watched.find(|(name, _)| name == group).map(|(_, it)| it)
    }

    /// Starts one, and what listens to daemons elsewhere for it.
    fn begin(
        &mut self,
        settings: &Settings,
        proxy: &config::Proxy,
        running: &mut JoinSet<Result<()>>,
    ) -> Result<()> {
        let in_proxy = || format!("proxy {}", proxy.name);
        let certificates = Certificates::read(proxy).with_context(in_proxy)?;
        let (stop, stopping) = channel(false);
        let (asker, asked) = match proxy.cluster.is_empty() {
            true => (None, None),
            false => {
                let wanted = Wanted::of(proxy, &certificates, settings.host.address);
                let (asker, asked) = Asker::new(&proxy.name, wanted.with_context(in_proxy)?);
                (Some(asker), Some(asked))
            }
        };
        self.listen(settings, proxy, &certificates, running)
            .with_context(in_proxy)?;
        let (changes, inbox) = Inbox::of(proxy);
        let started = Proxy::start(proxy, &certificates, asked, inbox).with_context(in_proxy)?;
        let vip = proxy.vip.as_ref().map(|vip| {
            let pulse = started.pulse.subscribe();
            Vip::open(settings, proxy, vip, self.secret.as_ref(), pulse)
        });
        let vip = match vip.transpose().with_context(in_proxy) {
            Ok(vip) => vip,
            Err(error) => {
                started.running.drain(Duration::ZERO);
                return Err(error);
            }
        };
        if let Some(asker) = asker {
            running.spawn_local(asker.run(stopping.clone()));
        }
        if let Some(vip) = vip {
            running.spawn_local(vip.run(stopping.clone()));
        }
        self.observed()
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .push((proxy.name.clone(), started.running.observer()));
        running.spawn_local(started.run(self.around.clone(), stopping));
        self.at_work.push(AtWork {
            name: proxy.name.clone(),
            certificates,
            changes,
            stop,
        });
        Ok(())
    }

    /// Has somebody listen to the daemons of its groups elsewhere; two proxies of one group listen once.
    fn listen(
        &mut self,
        settings: &Settings,
        proxy: &config::Proxy,
        certificates: &Certificates,
        running: &mut JoinSet<Result<()>>,
    ) -> Result<()> {
        for shard in &proxy.shards {
            let ShardAt::Daemons { daemons } = &shard.at else {
                continue;
            };
            if self.daemons_of(&shard.name).is_some() {
                continue;
            }
            let told = self.around.elsewhere.clone();
            let mut watch = Watch::new(settings, proxy, &shard.name, daemons, told)?;
            watch.over_tls(certificates.connector());
            running.spawn_local(watch.run(self.stop.subscribe()));
            self.watched.push((shard.name.clone(), daemons.clone()));
        }
        Ok(())
    }

    /// Ends one: its clients get what they are owed, within five seconds.
    pub(super) fn end(&mut self, name: &str) {
        for ended in self.at_work.extract_if(.., |one| one.name == name) {
            ended.stop.send_replace(true);
        }
        let mut observed = self.observed.lock().unwrap_or_else(PoisonError::into_inner);
        observed.retain(|(other, _)| other != name);
    }

    /// Ends all of them.
    pub(super) fn stop(&self) {
        self.stop.send_replace(true);
        for one in &self.at_work {
            one.stop.send_replace(true);
        }
    }

    /// What they are now, in no order.
    pub(super) fn in_force(&self) -> Vec<config::Proxy> {
        let changes = self.at_work.iter().map(|one| &one.changes);
        changes.map(Changes::in_force).collect()
    }

    /// Says which ones there are to who waits for them.
    pub(super) fn expect(&self, settings: &Settings) {
        self.around.here.expect(settings);
        self.around.elsewhere.expect(settings);
    }

    /// Has one become this.
    pub(super) fn change(&self, change: Change) {
        let mut at_work = self.at_work.iter();
        if let Some(one) = at_work.find(|one| one.name == change.settings.name) {
            one.changes.send(change);
        }
    }

    /// Files that may be read again, by proxy.
    pub(super) fn certificates(&self) -> impl Iterator<Item = (&str, &Certificates)> {
        self.at_work
            .iter()
            .map(|one| (one.name.as_str(), &one.certificates))
    }

    /// Who sees how they are.
    pub(super) fn observed(&self) -> Observed {
        self.observed.clone()
    }
}
