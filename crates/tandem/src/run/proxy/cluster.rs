//! Asking the nodes of a Redis Cluster who has which slots.
//!
//! One task for each proxy asks, the threads go by what it finds (`tandem_proxy::cluster`). A node is asked when the proxy starts, every
//! [`PERIOD`], and when a thread wishes for it, no sooner than [`GAP`] after the last answer. One node after the other is asked, first
//! the one that was named last; what a node says is taken if it sees all slots and is not behind what is known (by the epoch
//! of the cluster), otherwise what the node with the most slots said.
//!
//! A changed file may name other nodes of the same cluster. Those of another one would be believed as soon as they were asked, and
//! all keys be somewhere else: so nodes that are named anew are asked first whether they know a node that is known here.

use std::collections::VecDeque;
use std::future::Future;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Result;
use tandem_config::settings as config;
use tandem_proxy::cluster::{Map, Node, Seats, View};
use tandem_proxy::placement::SLOTS;
use tandem_proxy::settings::Address;
use tokio::sync::{mpsc, watch};
use tokio::time::{sleep, sleep_until};

use super::access::Certificates;
use super::node::{Access, Said, ask};
use super::words::tcp;

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

/// Whom to ask while nobody else is known, and how to ask anybody.
#[derive(Clone)]
pub(super) struct Wanted {
    seeds: Vec<Address>,
    access: Access,
}

/// Who asks.
pub(super) struct Asker {
    proxy: String,
    wanted: Wanted,
    /// It may become another.
    newest: watch::Receiver<Wanted>,
    /// All that are known, the next to be asked in front.
    nodes: VecDeque<Address>,
    strangers: Vec<(Address, Instant)>,
    seats: Seats,
    /// Of the last view that was taken.
    epoch: u64,
    wishes: mpsc::Receiver<Option<Address>>,
    maps: watch::Sender<Arc<Map>>,
    /// Of the last view that was taken.
    known: watch::Sender<Arc<Vec<Node>>>,
    /// The last answers were of no use, and that was said.
    bad: bool,
}

/// The other end of an [`Asker`].
#[derive(Clone)]
pub(super) struct Asked {
    wishes: mpsc::Sender<Option<Address>>,
    /// The newest map.
    pub(super) maps: watch::Receiver<Arc<Map>>,
    known: watch::Receiver<Arc<Vec<Node>>>,
    wanted: watch::Sender<Wanted>,
}

impl Wanted {
    /// As the file says.
    ///
    /// # Errors
    /// The password cannot be read.
    pub(super) fn of(
        settings: &config::Proxy,
        certificates: &Certificates,
        source: IpAddr,
    ) -> Result<Self> {
        let seeds = settings.cluster.iter();
        Ok(Self {
            seeds: seeds.map(|&seed| tcp(seed)).collect(),
            access: Access::of(settings, certificates, source)?,
        })
    }
}

impl Asked {
    /// A thread wishes for a newer map, and may name a node that is not on it.
    pub(super) fn wish(&self, stranger: Option<Address>) {
        // Full: the next answer is newer than this wish, too.
        let _ = self.wishes.try_send(stranger);
    }

    /// From now on these are asked, and so.
    pub(super) fn change_to(&self, wanted: Wanted) {
        self.wanted.send_replace(wanted);
    }

    /// Asks whether the nodes that nobody here knows yet are of this cluster. While nobody is known anybody may be.
    pub(super) fn vouch(&self, next: Wanted) -> impl Future<Output = Result<(), String>> + use<> {
        let (known, before) = (
            self.known.borrow().clone(),
            self.wanted.borrow().seeds.clone(),
        );
        async move {
            let is_new = |seed: &Address| {
                !before.contains(seed) && !known.iter().any(|node| node.at == *seed)
            };
            let Wanted { mut seeds, access } = next;
            seeds.retain(|seed| !known.is_empty() && is_new(seed));
            let asked: Vec<_> = seeds
                .into_iter()
                .map(|seed| {
                    let access = access.clone();
                    tokio::spawn(async move { (ask(&seed, &access).await, seed) })
                })
                .collect();
            for answer in asked {
                let (said, seed) = answer.await.map_err(|error| error.to_string())?;
                let said = said.map_err(|error| format!("cluster: {}: {error}", shown(&seed)))?;
                if !is_same_cluster(&known, &said.view) {
                    return Err(format!(
                        "cluster: {} knows none of the nodes that are known: another cluster needs a restart",
                        shown(&seed)
                    ));
                }
            }
            Ok(())
        }
    }
}

impl Asker {
    pub(super) fn new(proxy: &str, wanted: Wanted) -> (Self, Asked) {
        let seats = Seats::new();
        let (wish, wishes) = mpsc::channel(WISHES_MAX);
        let (maps, newest_map) = watch::channel(Arc::new(seats.map().clone()));
        let (known, knows) = watch::channel(Arc::default());
        let (wants, newest) = watch::channel(wanted.clone());
        let asker = Self {
            proxy: proxy.to_owned(),
            nodes: wanted.seeds.iter().cloned().collect(),
            wanted,
            newest,
            strangers: Vec::new(),
            seats,
            epoch: 0,
            wishes,
            maps,
            known,
            bad: false,
        };
        let asked = Asked {
            wishes: wish,
            maps: newest_map,
            known: knows,
            wanted: wants,
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
                Ok(()) = self.newest.changed() => self.heed(),
                () = sleep(period) => {}
            }
            sleep_until((answered + GAP).into()).await;
            while let Ok(wish) = self.wishes.try_recv() {
                self.note(wish);
            }
        }
    }

    /// Whom to ask, and how, is another matter from now on.
    fn heed(&mut self) {
        self.wanted = self.newest.borrow_and_update().clone();
        let known = self.known.borrow().clone();
        let seeds = &self.wanted.seeds;
        self.nodes
            .retain(|it| seeds.contains(it) || known.iter().any(|node| node.at == *it));
        for seed in seeds {
            if !self.nodes.contains(seed) {
                self.nodes.push_front(seed.clone());
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
            let said = ask(&node, &self.wanted.access).await;
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
        let known = nodes(&view).cloned().collect();
        self.known.send_replace(Arc::new(known));
        let mut nodes: Vec<Address> = nodes(&view).map(|node| node.at.clone()).collect();
        // Whoever was asked last stays last; the seeds are asked when nobody else knows anything.
        nodes.extend(self.wanted.seeds.iter().cloned());
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

fn nodes(view: &View) -> impl Iterator<Item = &Node> {
    view.shards.iter().flat_map(|shard| shard.nodes())
}

/// Whether a view is one of the cluster of these nodes: one of them is in it, by its name or, where the cluster was made anew,
/// at its place.
fn is_same_cluster(known: &[Node], view: &View) -> bool {
    nodes(view).any(|node| {
        let is = |it: &Node| it.at == node.at || !it.id.is_empty() && it.id == node.id;
        known.iter().any(is)
    })
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

#[cfg(test)]
mod tests {
    use tandem_proxy::cluster::Shard;

    use super::*;

    #[test]
    fn others_are_asked_once_the_file_names_others() {
        let at = |port: u16| tcp(([10, 0, 0, 1], port).into());
        let wanted = |ports: &[u16]| Wanted {
            seeds: ports.iter().map(|&port| at(port)).collect(),
            access: Access {
                credentials: None,
                tls: None,
                source: [127, 0, 0, 1].into(),
            },
        };
        let (mut asker, asked) = Asker::new("p", wanted(&[1, 2]));
        let shard = Shard {
            primary: Node {
                id: "a".to_owned(),
                at: at(2),
            },
            replicas: Vec::new(),
            slots: vec![(0, 16383)],
        };
        let view = View {
            shards: vec![shard],
        };
        asker.take(Said { view, epoch: 1 });
        asked.change_to(wanted(&[2, 3]));
        asker.heed();
        assert_eq!(asker.nodes, [at(3), at(2)]);
        asked.change_to(wanted(&[3]));
        asker.heed();
        assert_eq!(
            asker.nodes,
            [at(3), at(2)],
            "the cluster itself has named it"
        );
    }

    #[test]
    fn a_cluster_is_known_by_one_node_of_it() {
        let node = |id: &str, port: u16| Node {
            id: id.to_owned(),
            at: tcp(([10, 0, 0, 1], port).into()),
        };
        let known = [node("a", 1), node("b", 2), node("", 3)];
        for (seen, is) in [
            (node("b", 9), true),
            (node("x", 2), true),
            (node("", 3), true),
            (node("x", 9), false),
            (node("", 9), false),
        ] {
            let shard = Shard {
                primary: node("y", 8),
                replicas: vec![seen.clone()],
                slots: Vec::new(),
            };
            let view = View {
                shards: vec![shard],
            };
            assert_eq!(is_same_cluster(&known, &view), is, "{seen:?}");
        }
    }
}
