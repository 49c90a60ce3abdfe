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

use anyhow::{Context, Result};
use tandem_config::settings::{Settings, ShardAt};
use tandem_core::session::Secret;
use tokio::sync::watch::Receiver;
use tokio::task::JoinSet;

use super::control::Proxies;
use super::directory::Told;
use access::Certificates;
pub(super) use change::{Change, fixed, moves, taken_over};
use change::{Changes, Inbox};
use cluster::{Asker, Wanted};
pub(crate) use node::cluster_seen;
use vip::Vip;
use watch::Watch;
use work::{Around, Proxy};

/// What of the proxies may be changed while they run.
#[derive(Default)]
pub(super) struct Changing {
    /// Files that may be read again.
    pub(super) certificates: Vec<Certificates>,
    /// What the file says.
    pub(super) settings: Vec<Changes>,
}

/// Starts all proxies, and what listens to daemons elsewhere; each ends after `stop`.
///
/// # Errors
/// An address cannot be had, or a password cannot be read.
pub(super) fn start(
    settings: &Settings,
    secret: Option<&Secret>,
    told: &Told,
    stop: &Receiver<bool>,
    running: &mut JoinSet<Result<()>>,
) -> Result<(Changing, Proxies)> {
    let (mut changing, mut proxies) = (Changing::default(), Proxies::new());
    let remote = Told::elsewhere(settings);
    let around = Around {
        here: told.clone(),
        elsewhere: remote.clone(),
        address: settings.host.address,
    };
    let mut watched: Vec<&str> = Vec::new();
    for proxy in &settings.proxies {
        let in_proxy = || format!("proxy {}", proxy.name);
        let certificates = Certificates::read(proxy).with_context(in_proxy)?;
        for shard in &proxy.shards {
            let ShardAt::Daemons { daemons } = &shard.at else {
                continue;
            };
            // Two proxies of one group listen once.
            if watched.contains(&shard.name.as_str()) {
                continue;
            }
            watched.push(&shard.name);
            let mut watch = Watch::new(settings, proxy, &shard.name, daemons, remote.clone())?;
            watch.over_tls(certificates.connector());
            running.spawn_local(watch.run(stop.clone()));
        }
        let cluster = if proxy.cluster.is_empty() {
            None
        } else {
            let wanted = Wanted::of(proxy, &certificates, settings.host.address);
            let (asker, asked) = Asker::new(&proxy.name, wanted.with_context(in_proxy)?);
            running.spawn_local(asker.run(stop.clone()));
            Some(asked)
        };
        let (changes, inbox) = Inbox::of(proxy);
        let started = Proxy::start(proxy, &certificates, cluster, inbox).with_context(in_proxy)?;
        proxies.push((proxy.name.clone(), started.running.observer()));
        if let Some(vip) = &proxy.vip {
            let pulse = started.pulse.subscribe();
            let vip = Vip::open(settings, proxy, vip, secret, pulse).with_context(in_proxy)?;
            running.spawn_local(vip.run(stop.clone()));
        }
        running.spawn_local(started.run(around.clone(), stop.clone()));
        changing.certificates.push(certificates);
        changing.settings.push(changes);
    }
    Ok((changing, proxies))
}
