//! Asking the nodes of a Redis Cluster who has which slots.
//!
//! One task for each proxy asks, the threads go by what it finds (`tandem_proxy::cluster`). A node is asked when the proxy starts, every
//! [`PERIOD`], and when a thread wishes for it, no sooner than [`GAP`] after the last answer. One node after the other is asked, first
//! the one that was named last; what a node says is taken if it sees all slots and is not behind what is known (by the epoch
//! of the cluster), otherwise what the node with the most slots said.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Result;
use tandem_config::settings as config;
use tandem_proxy::cluster::{Map, Seats};
use tandem_proxy::placement::SLOTS;
use tandem_proxy::settings::Address;
use tokio::sync::{mpsc, watch};
use tokio::time::{sleep, sleep_until};

use super::node::{Access, Said, ask};

/// Between two questions when nothing is known to have changed.
const PERIOD: Duration = Duration::from_secs(1);
/// The same while no node gives a good answer.
const PERIOD_BAD: Duration = Duration::from_millis(500);
/// Between an answer and the next question, however many wish for it.
const GAP: Duration = Duration::from_millis(20);
/// Wishes that wait; more say the same.
const WISHES_MAX: usize = 64;
/// A node that was named and is in nobody's view counts for so long.
const STRANGER_FOR: Duration = Duration::from_secs(5);
/// As many of those as are believed.
const STRANGERS_MAX: usize = 64;
/// While so many are known no stranger is added to them: more than the largest cluster has.
const NODES_MAX: usize = 2048;

/// Who asks.
pub(super) struct Asker {
    proxy: String,
    access: Access,
    seeds: Vec<Address>,
    /// All that are known, the next to be asked in front.
    nodes: VecDeque<Address>,
    strangers: Vec<(Address, Instant)>,
    seats: Seats,
    /// Of the last view that was taken.
    epoch: u64,
    wishes: mpsc::Receiver<Option<Address>>,
    maps: watch::Sender<Arc<Map>>,
    /// The last answers were of no use, and that was said.
    bad: bool,
}

/// The other end of an [`Asker`].
#[derive(Clone)]
pub(super) struct Asked {
    wishes: mpsc::Sender<Option<Address>>,
    /// The newest map.
    pub(super) maps: watch::Receiver<Arc<Map>>,
}

impl Asked {
    /// A thread wishes for a newer map, and may name a node that is not on it.
    pub(super) fn wish(&self, stranger: Option<Address>) {
        // Full: the next answer is newer than this wish, too.
        let _ = self.wishes.try_send(stranger);
    }
}

impl Asker {
    pub(super) fn new(settings: &config::Proxy, access: Access) -> (Self, Asked) {
        let seeds: Vec<Address> = settings
            .cluster
            .iter()
            .map(|&seed| super::tcp(seed))
            .collect();
        let seats = Seats::new();
        let (wish, wishes) = mpsc::channel(WISHES_MAX);
        let (maps, newest) = watch::channel(Arc::new(seats.map().clone()));
        let asker = Self {
            proxy: settings.name.clone(),
            access,
            nodes: seeds.iter().cloned().collect(),
            seeds,
            strangers: Vec::new(),
            seats,
            epoch: 0,
            wishes,
            maps,
            bad: false,
        };
        let asked = Asked {
            wishes: wish,
            maps: newest,
        };
        (asker, asked)
    }

    /// Asks until `stop`.
    pub(super) async fn run(mut self, mut stop: watch::Receiver<bool>) -> Result<()> {
        loop {
            let good = tokio::select! {
                good = self.ask() => good,
                _ = stop.wait_for(|stop| *stop) => return Ok(()),
            };
            let answered = Instant::now();
            let period = if good { PERIOD } else { PERIOD_BAD };
            tokio::select! {
                _ = stop.wait_for(|stop| *stop) => return Ok(()),
                Some(wish) = self.wishes.recv() => self.note(wish),
                () = sleep(period) => {}
            }
            sleep_until((answered + GAP).into()).await;
            while let Ok(wish) = self.wishes.try_recv() {
                self.note(wish);
            }
        }
    }

    /// Who was named is asked first.
    fn note(&mut self, stranger: Option<Address>) {
        let Some(stranger) = stranger else { return };
        self.strangers.retain(|(it, _)| *it != stranger);
        let known = self.nodes.contains(&stranger);
        if !known {
            self.strangers
                .retain(|(_, since)| since.elapsed() < STRANGER_FOR);
            if self.strangers.len() >= STRANGERS_MAX || self.nodes.len() >= NODES_MAX {
                return;
            }
            self.strangers.push((stranger.clone(), Instant::now()));
        }
        self.nodes.retain(|it| *it != stranger);
        self.nodes.push_front(stranger);
    }

    /// Asks one node after the other until one gives a good answer. False: none did, or some slots are nobody's.
    async fn ask(&mut self) -> bool {
        let mut best: Option<Said> = None;
        let mut why = String::new();
        for _ in 0..self.nodes.len() {
            let Some(node) = self.nodes.pop_front() else {
                break;
            };
            let said = ask(&node, &self.access).await;
            self.nodes.push_back(node.clone());
            match said {
                Ok(said) => {
                    let rank = |said: &Said| (said.epoch >= self.epoch, said.view.covered());
                    let whole = rank(&said) == (true, SLOTS);
                    if best.as_ref().is_none_or(|best| rank(&said) > rank(best)) {
                        best = Some(said);
                    }
                    if whole {
                        break;
                    }
                }
                Err(error) => why = format!("{}: {error}", shown(&node)),
            }
        }
        let Some(best) = best.filter(|best| best.view.covered() > 0) else {
            self.complain(&format!("no node says who has which slots; {why}"));
            return false;
        };
        let covered = best.view.covered();
        self.take(best);
        if covered < SLOTS {
            self.complain(&format!("{} slots are nobody's", SLOTS - covered));
        } else {
            self.bad = false;
        }
        covered == SLOTS
    }

    fn take(&mut self, said: Said) {
        let Said { mut view, epoch } = said;
        self.strangers
            .retain(|(_, since)| since.elapsed() < STRANGER_FOR);
        for (stranger, _) in &self.strangers {
            view.add_stranger(stranger);
        }
        self.epoch = epoch;
        let known = view.shards.iter().flat_map(|shard| shard.nodes());
        let mut nodes: Vec<Address> = known.map(|node| node.at.clone()).collect();
        // Whoever was asked last stays last; the seeds are asked when nobody else knows anything.
        nodes.extend(self.seeds.iter().cloned());
        self.nodes.retain(|it| nodes.contains(it));
        for node in nodes {
            if !self.nodes.contains(&node) {
                self.nodes.push_back(node);
            }
        }
        if !self.seats.take(&view) {
            return;
        }
        let slots: Vec<String> = view.shards.iter().map(describe).collect();
        tracing::info!("proxy {}: cluster: {}", self.proxy, slots.join(", "));
        if self.seats.left_out() > 0 {
            tracing::error!(
                "proxy {}: cluster: {} shards are too many for one proxy, their keys are not served",
                self.proxy,
                self.seats.left_out()
            );
        }
        self.maps.send_replace(Arc::new(self.seats.map().clone()));
    }

    /// Says it once until it is over.
    fn complain(&mut self, what: &str) {
        if !std::mem::replace(&mut self.bad, true) {
            tracing::warn!("proxy {}: cluster: {what}", self.proxy);
        }
    }
}

fn describe(shard: &tandem_proxy::cluster::Shard) -> String {
    let slots = shard.slots.iter();
    let slots: usize = slots
        .map(|&(first, last)| usize::from(last - first) + 1)
        .sum();
    format!("{} has {slots} slots", shown(&shard.primary.at))
}

fn shown(at: &Address) -> String {
    match at {
        Address::Tcp { host, port } if host.contains(':') => format!("[{host}]:{port}"),
        Address::Tcp { host, port } => format!("{host}:{port}"),
        Address::Unix { path, .. } => path.display().to_string(),
    }
}
