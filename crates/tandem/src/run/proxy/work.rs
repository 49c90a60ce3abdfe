//! One proxy at work: its threads are told what holds, heard, changed, started afresh when one is lost, and ended.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};
use tandem_config::settings as config;
use tandem_core::topology::Topology as Word;
use tandem_proxy::cluster::Map;
use tandem_proxy::server::{Notice, Options, Pulse, Running, Taken};
use tokio::sync::watch::{Receiver, Sender};
use tokio::sync::{mpsc, oneshot};

use super::super::control::{Answer, ReplyLine};
use super::super::directory::Told;
use super::access::Certificates;
use super::change::{Inbox, Made};
use super::cluster::{Asked, Wanted};
use super::notices::{self, Ears};
use super::words::{newest, tell, topology};
use crate::redis::raw::Credentials;

/// How long clients may be owed something once the daemon was told to stop.
const DRAIN: Duration = Duration::from_secs(5);
/// How long a change may take to reach every thread before whoever asked for it is answered.
const TAKEN_WITHIN: Duration = Duration::from_secs(2);
/// Before a proxy that has lost a thread is started afresh.
const RESTART_AFTER: Duration = Duration::from_secs(1);

/// One proxy at work.
pub(super) struct Proxy {
    settings: config::Proxy,
    /// In the order of placement, which is that of its snapshots.
    shards: Vec<config::Shard>,
    pub(super) running: Running,
    /// Its threads' signs of life, for its VIP.
    pub(super) pulse: Sender<Pulse>,
    notices: mpsc::Receiver<(usize, Notice)>,
    /// Who asks the nodes of the cluster that it stands before.
    cluster: Option<Asked>,
    /// Of its servers.
    password: Option<Vec<u8>>,
    certificates: Certificates,
    inbox: Inbox,
}

/// Where the words on groups come from, and this host's own address.
#[derive(Clone)]
pub(super) struct Around {
    pub(super) here: Told,
    pub(super) elsewhere: Told,
    pub(super) address: IpAddr,
}

impl Proxy {
    /// Binds its address and starts its threads. Requests are held until the first word on their group.
    pub(super) fn start(
        settings: &config::Proxy,
        certificates: &Certificates,
        cluster: Option<Asked>,
        inbox: Inbox,
    ) -> Result<Self> {
        let threads = match settings.threads {
            0 => std::thread::available_parallelism().map_or(1, std::num::NonZero::get),
            threads => usize::from(threads),
        };
        let Made {
            pool,
            shards,
            password,
        } = Made::of(settings, certificates, threads)?;
        let (teller, notices) = notices::channel();
        let options = Options {
            threads,
            client_limit: settings.access.max_clients.map(|most| most as usize),
            notices: Some(teller),
            free_bind: settings.vip.is_some(),
        };
        let running = Running::start(vec![pool], options)?;
        let proxy = Self {
            settings: settings.clone(),
            shards,
            pulse: Sender::new(running.pulse()),
            running,
            notices,
            cluster,
            password,
            certificates: certificates.clone(),
            inbox,
        };
        proxy.tell(&|_| None);
        proxy.map();
        Ok(proxy)
    }

    /// Gives the threads the newest map of their cluster, where they have one.
    fn map(&self) {
        if let Some(cluster) = &self.cluster {
            let map = cluster.maps.borrow().clone();
            self.running.map(&self.settings.name, map);
        }
    }

    fn tell(&self, word: &dyn Fn(&str) -> Option<Word>) {
        tell(&self.running, &self.settings.name, &self.shards, word);
    }

    /// Runs until `stop`, then lets clients have what they are owed. A proxy that lost a thread is started afresh.
    pub(super) async fn run(mut self, around: Around, mut stop: Receiver<bool>) -> Result<()> {
        loop {
            let name = self.settings.name.clone();
            let Err(why) = self.serve(&around, &mut stop).await else {
                break;
            };
            tracing::error!(
                "proxy {name}: {why}; starts it afresh, its clients have to connect again"
            );
            self.running.drain(Duration::ZERO);
            let settings = self.settings.clone();
            let certificates = self.certificates.clone();
            let pulse = self.pulse.clone();
            let cluster = self.cluster.clone();
            let nothing = || Inbox::of(&settings).1;
            let inbox = std::mem::replace(&mut self.inbox, nothing());
            self.end(&around).await?;
            self = loop {
                tokio::select! {
                    () = tokio::time::sleep(RESTART_AFTER) => {}
                    _ = stop.wait_for(|stop| *stop) => return Ok(()),
                }
                match Self::start(&settings, &certificates, cluster.clone(), nothing()) {
                    Ok(proxy) => {
                        pulse.send_replace(proxy.running.pulse());
                        break Self {
                            pulse,
                            inbox,
                            ..proxy
                        };
                    }
                    Err(error) => tracing::error!("proxy {name}: {error:#}"),
                }
            };
        }
        self.running.drain(DRAIN);
        self.end(&around).await
    }

    /// Serves until `stop`. An error: a thread has ended by itself, for this reason.
    async fn serve(&mut self, around: &Around, stop: &mut Receiver<bool>) -> Result<(), String> {
        let (mut here, mut there) = (around.here.subscribe(), around.elsewhere.subscribe());
        let mut ears = self.ears(around);
        let mut maps = self.cluster.as_ref().map(|cluster| cluster.maps.clone());
        loop {
            self.tell(&newest(&here, &there));
            tokio::select! {
                Some((thread, notice)) = self.notices.recv() => ears.hear(thread, notice)?,
                (server, asked) = ears.confirmed() => {
                    self.tell(&newest(&here, &there));
                    self.running.confirm(&self.settings.name, server, asked);
                }
                () = newer(&mut maps) => self.map(),
                (change, vouched) = self.inbox.next(self.cluster.as_ref(), &self.certificates, around.address) => {
                    let before = self.shards.clone();
                    let done = match vouched {
                        Ok(wanted) => self.change(change.settings, wanted, &newest(&here, &there)),
                        Err(error) => Err(error),
                    };
                    if self.shards != before {
                        ears = self.ears(around);
                    }
                    tokio::spawn(answer(change.answer, done));
                }
                Ok(()) = here.changed() => {}
                Ok(()) = there.changed() => {}
                _ = stop.wait_for(|stop| *stop) => return Ok(()),
            }
        }
    }

    /// From now on it is this.
    fn change(
        &mut self,
        settings: config::Proxy,
        wanted: Option<Wanted>,
        word: &dyn Fn(&str) -> Option<Word>,
    ) -> Result<Taken> {
        let made = Made::of(&settings, &self.certificates, self.running.threads())?;
        let taken = if let Some((cluster, wanted)) = self.cluster.as_ref().zip(wanted) {
            let map = cluster.maps.borrow().clone();
            let taken = self.running.reload_mapped(made.pool, map)?;
            cluster.change_to(wanted);
            taken
        } else {
            let word = topology(&made.shards, word);
            self.running.reload_following(made.pool, Arc::new(word))?
        };
        self.inbox.in_force.send_replace(settings.clone());
        self.settings = settings;
        self.shards = made.shards;
        self.password = made.password;
        Ok(taken)
    }

    /// Waits for the threads, which drain. Words go on counting: what is under way has to be answered by somebody.
    async fn end(self, around: &Around) -> Result<()> {
        let (mut here, mut there) = (around.here.subscribe(), around.elsewhere.subscribe());
        let mut ears = self.ears(around);
        let Self {
            settings,
            shards,
            running,
            mut notices,
            pulse: _,
            cluster: _,
            password: _,
            certificates: _,
            inbox: _,
        } = self;
        let running = Arc::new(running);
        let ended = running.clone();
        let mut joined = tokio::task::spawn_blocking(move || ended.wait());
        loop {
            tokio::select! {
                ended = &mut joined => return ended.context("the threads of a proxy"),
                Some((thread, notice)) = notices.recv() => {
                    // That one has ended is what is waited for.
                    let _ = ears.hear(thread, notice);
                }
                (server, asked) = ears.confirmed() => {
                    running.confirm(&settings.name, server, asked);
                }
                Ok(()) = here.changed() => {}
                Ok(()) = there.changed() => {}
            }
            tell(&running, &settings.name, &shards, &newest(&here, &there));
        }
    }

    fn ears(&self, around: &Around) -> Ears {
        let words = (&around.here, &around.elsewhere);
        let credentials = self.password.clone().map(|password| Credentials {
            user: None,
            password,
        });
        let threads = self.running.threads();
        Ears::new(
            &self.shards,
            threads,
            words,
            around.address,
            credentials.as_ref(),
            self.certificates.connector().as_ref(),
            self.cluster.clone(),
        )
    }
}

/// Says how a change went once it counts: whoever is answered may ask what has changed.
async fn answer(to: oneshot::Sender<Answer>, done: Result<Taken>) {
    let line = match done {
        Ok(taken) => {
            let taken = tokio::task::spawn_blocking(|| taken.wait(TAKEN_WITHIN));
            ReplyLine::done(match taken.await {
                Ok(true) => "taken over, its clients stay".to_owned(),
                Ok(false) | Err(_) => {
                    "taken over, its clients stay; some thread has not come round to it yet"
                        .to_owned()
                }
            })
        }
        Err(error) => ReplyLine::failed(format!("stays as it was: {error:#}")),
    };
    // Whoever asked may have gone.
    let _ = to.send(Answer::Reply(line));
}

/// Returns when there is a newer map of a cluster; without a cluster, never.
async fn newer(maps: &mut Option<Receiver<Arc<Map>>>) {
    if let Some(maps) = maps
        && maps.changed().await.is_ok()
    {
        return;
    }
    // Nobody asks, or nobody asks any more: the last map stays.
    std::future::pending::<()>().await;
}
