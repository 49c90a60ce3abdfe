//! Asking the nodes of a Redis Cluster who has which slots.
//!
//! One task for each proxy asks, the threads go by what it finds (`tandem_proxy::cluster`). A node is asked when the proxy starts, every
//! [`PERIOD`], and when a thread wishes for it, no sooner than [`GAP`] after the last answer. One node after the other is asked, first
//! the one that was named last; what a node says is taken if it sees all slots and is not behind what is known (by the epoch
//! of the cluster), otherwise what the node with the most slots said.

use std::collections::VecDeque;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Result;
use tandem_config::settings as config;
use tandem_proxy::cluster::{Map, Seats, View};
use tandem_proxy::placement::SLOTS;
use tandem_proxy::settings::Address;
use tandem_proxy::tls::Connector;
use tandem_resp::{Command, Limits, ReplyDecoder, Value};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};
use tokio::sync::{mpsc, watch};
use tokio::time::{sleep, sleep_until, timeout};
use tokio_rustls::TlsConnector;

use crate::redis::raw::Credentials;

/// Between two questions when nothing is known to have changed.
const PERIOD: Duration = Duration::from_secs(1);
/// The same while no node gives a good answer.
const PERIOD_BAD: Duration = Duration::from_millis(500);
/// Between an answer and the next question, however many wish for it.
const GAP: Duration = Duration::from_millis(20);
/// Bound on asking one node.
const WITHIN: Duration = Duration::from_millis(500);
/// Wishes that wait; more say the same.
const WISHES_MAX: usize = 64;
/// A node that was named and is in nobody's view counts for so long.
const STRANGER_FOR: Duration = Duration::from_secs(5);
/// As many of those as are believed.
const STRANGERS_MAX: usize = 64;
/// While so many are known no stranger is added to them: more than the largest cluster has.
const NODES_MAX: usize = 2048;

/// A description of a cluster with all slots in the smallest pieces, on a thousand nodes.
const LIMITS: Limits = Limits {
    max_bulk: 64 * 1024,
    max_depth: 8,
    max_elements: 512 * 1024,
    max_inline: 64 * 1024,
    max_frame: 32 * 1024 * 1024,
};

/// How nodes are spoken to.
#[derive(Clone)]
pub(super) struct Access {
    /// Whom this proxy is to them.
    pub(super) credentials: Option<Credentials>,
    /// Over TLS.
    pub(super) tls: Option<Connector>,
    /// A VIP on this host must not become the source.
    pub(super) source: IpAddr,
}

/// What one node says.
pub(super) struct Said {
    /// Who has what.
    pub(super) view: View,
    /// Of the newest change that the node knows of.
    pub(super) epoch: u64,
}

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

/// What this node says of its cluster.
pub(super) async fn ask(node: &Address, access: &Access) -> Result<Said, String> {
    let Address::Tcp { host, port } = node else {
        return Err("it is no address of a network".to_owned());
    };
    let exchange = async {
        let stream = connect(host, *port, access.source)
            .await
            .map_err(|error| error.to_string())?;
        match &access.tls {
            None => converse(stream, host, access).await,
            Some(tls) => {
                let connector = TlsConnector::from(tls.config.get());
                let stream = connector.connect(tls.name.clone(), stream).await;
                converse(stream.map_err(|error| error.to_string())?, host, access).await
            }
        }
    };
    timeout(WITHIN, exchange)
        .await
        .unwrap_or_else(|_| Err("no answer in time".to_owned()))
}

async fn connect(host: &str, port: u16, source: IpAddr) -> io::Result<TcpStream> {
    let at: SocketAddr = match host.parse::<IpAddr>() {
        Ok(ip) => SocketAddr::new(ip, port),
        Err(_) => tokio::net::lookup_host((host, port))
            .await?
            .next()
            .ok_or(io::ErrorKind::NotFound)?,
    };
    let socket = if at.is_ipv4() {
        TcpSocket::new_v4()?
    } else {
        TcpSocket::new_v6()?
    };
    if source.is_ipv4() == at.is_ipv4() && !at.ip().is_loopback() {
        socket.bind(SocketAddr::new(source, 0))?;
    }
    socket.connect(at).await
}

async fn converse(
    stream: impl AsyncRead + AsyncWrite + Unpin,
    host: &str,
    access: &Access,
) -> Result<Said, String> {
    let mut link = Link {
        stream,
        decoder: ReplyDecoder::new(LIMITS),
    };
    if let Some(credentials) = &access.credentials {
        let mut auth = Command::new("AUTH");
        if let Some(user) = &credentials.user {
            auth = auth.arg(user);
        }
        // What a server says that asks for no password is no matter; what one says that does not let us in is said again.
        link.call(&auth.arg(&credentials.password)).await?;
    }
    let info = link.call(&Command::from_args(&["CLUSTER", "INFO"])).await?;
    if let Some(error) = info.as_error() {
        return Err(format!("it says: {}", String::from_utf8_lossy(error)));
    }
    let epoch = epoch(info.as_bytes().unwrap_or_default());
    let shards = link
        .call(&Command::from_args(&["CLUSTER", "SHARDS"]))
        .await?;
    let view = match View::of_shards(&shards, host, access.tls.is_some()) {
        Err(error) if error.is_unknown_command() => {
            let slots = link
                .call(&Command::from_args(&["CLUSTER", "SLOTS"]))
                .await?;
            View::of_slots(&slots, host)
        }
        view => view,
    };
    match view {
        Ok(view) => Ok(Said { view, epoch }),
        Err(error) => Err(error.to_string()),
    }
}

struct Link<S> {
    stream: S,
    decoder: ReplyDecoder,
}

impl<S: AsyncRead + AsyncWrite + Unpin> Link<S> {
    async fn call(&mut self, command: &Command) -> Result<Value, String> {
        let mut bytes = Vec::new();
        command.encode(&mut bytes);
        let text = |error: io::Error| error.to_string();
        self.stream.write_all(&bytes).await.map_err(text)?;
        loop {
            if let Some(value) = self
                .decoder
                .next_value()
                .map_err(|error| error.to_string())?
            {
                return Ok(value);
            }
            let mut piece = [0; 16 * 1024];
            match self.stream.read(&mut piece).await.map_err(text)? {
                0 => return Err("it ends the connection".to_owned()),
                read => self.decoder.feed(&piece[..read]),
            }
        }
    }
}

/// `cluster_current_epoch` of CLUSTER INFO: grows with every failover and most moves of slots.
fn epoch(info: &[u8]) -> u64 {
    let lines = info.split(|&byte| byte == b'\n');
    let mut values = lines.filter_map(|line| line.strip_prefix(b"cluster_current_epoch:"));
    let text = values.next().map(<[u8]>::trim_ascii);
    text.and_then(|text| std::str::from_utf8(text).ok()?.parse().ok())
        .unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_epoch_is_found_or_0() {
        let info = b"cluster_state:ok\r\ncluster_size:3\r\ncluster_current_epoch:17\r\ncluster_my_epoch:2\r\n";
        assert_eq!(epoch(info), 17);
        assert_eq!(epoch(b"cluster_state:ok\r\n"), 0);
    }
}
