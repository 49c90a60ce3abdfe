//! The sockets of the daemons' conversation; what is said on them is `tandem_core::conversation`'s.
//!
//! The port is shared: whoever does not begin as a peer does is handed over to the directory ([`super::directory`]), with
//! what it has said so far. Only a few connections at a time may be of unknown kind, so that a crowd of strangers cannot
//! keep the peer out.
//!
//! Each daemon dials the other and listens for it. A statement holds everything, so only the newest one of
//! each group is kept for sending: nothing can queue up behind a slow peer.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use tandem_config::settings::Settings;
use tandem_core::conversation::{self, Opening};
use tandem_core::ids::HostId;
use tandem_core::keeper::{Input, PeerEvent};
use tandem_core::session::{NONCE_BYTES, Secret};
use tandem_core::statement::Statement;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::{Notify, mpsc, watch};
use tokio::time::timeout;

/// Bound on dialling and on each step of the handshake.
const STEP_WITHIN: Duration = Duration::from_millis(500);
/// Between attempts to dial: short, because a healed link must be noticed at once, and each attempt costs
/// one SYN.
const REDIAL_AFTER: Duration = Duration::from_millis(100);
/// A frame that cannot be handed to the kernel for this long means a dead connection: after a cut the kernel
/// would retry ever more slowly, so it is dialled afresh instead.
const WRITE_WITHIN: Duration = Duration::from_millis(500);
/// Unacknowledged data older than this ends a connection in the kernel.
const USER_TIMEOUT: Duration = Duration::from_millis(1000);
/// Connections accepted at a time; strangers beyond it wait in the kernel.
const ACCEPTED_MAX: usize = 32;
/// A connection that has not authenticated by then is closed.
const STRANGER_WITHIN: Duration = Duration::from_secs(5);
/// A peer that says nothing for this long is dialled and listened to afresh.
const SILENT_AFTER: Duration = Duration::from_secs(5);
/// Inputs on their way to the groups.
const HEARD_MAX: usize = 256;

/// Connections on their way to the directory; more are closed.
const STRANGERS_MAX: usize = 64;

/// A connection that is none of a peer's, and what was read from it.
pub(crate) struct Stranger {
    /// The connection.
    pub(crate) stream: TcpStream,
    /// Its first bytes.
    pub(crate) first: Vec<u8>,
}

/// What comes in on the port.
pub(crate) struct Incoming {
    /// What peers say, with the group that it is about.
    pub(crate) heard: mpsc::Receiver<(String, Input)>,
    /// Everybody else.
    pub(crate) strangers: mpsc::Receiver<Stranger>,
}

type Latest = BTreeMap<String, Arc<Vec<u8>>>;

/// What is said to the peers.
#[derive(Clone, Debug)]
pub(crate) struct Peers {
    latest: watch::Sender<Latest>,
    redial: Arc<Notify>,
}

impl Peers {
    /// Listens and dials. Returns the handle for speaking and what comes in.
    pub(crate) async fn start(
        settings: &Settings,
        secret: Option<Secret>,
    ) -> Result<(Self, Incoming)> {
        let (latest, said) = watch::channel(Latest::new());
        let (heard, inputs) = mpsc::channel(HEARD_MAX);
        let (met, strangers) = mpsc::channel(STRANGERS_MAX);
        let redial = Arc::new(Notify::new());
        let own = HostId::new(&settings.host.id);
        let address = settings.host.socket_addr();
        let listener = listen(address).with_context(|| {
            format!("cannot listen on {address} (host.address and host.port of the configuration)")
        })?;
        let known: Vec<HostId> = settings.peers.iter().map(|p| HostId::new(&p.id)).collect();
        let visitor = Visitor {
            own: own.clone(),
            known,
            secret: secret.clone(),
            heard,
            met,
        };
        tokio::spawn(accept(listener, visitor));
        if let Some(secret) = secret {
            for peer in &settings.peers {
                let dialer = Dialer {
                    own: own.clone(),
                    source: settings.host.address,
                    peer: HostId::new(&peer.id),
                    address: peer.socket_addr(),
                    secret: secret.clone(),
                    redial: redial.clone(),
                };
                tokio::spawn(dialer.run(said.clone()));
            }
        }
        let incoming = Incoming {
            heard: inputs,
            strangers,
        };
        Ok((Self { latest, redial }, incoming))
    }

    /// Says this from now on, until something newer is said about the same group.
    pub(crate) fn say(&self, statement: &Statement) {
        let bytes = Arc::new(statement.encode());
        self.latest.send_modify(|latest| {
            latest.insert(statement.group.clone(), bytes);
        });
    }

    /// Dial again at once: an advert says that the network is back.
    pub(crate) fn redial(&self) {
        self.redial.notify_waiters();
    }
}

fn listen(address: std::net::SocketAddr) -> std::io::Result<TcpListener> {
    let socket = if address.is_ipv4() {
        TcpSocket::new_v4()?
    } else {
        TcpSocket::new_v6()?
    };
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    socket.listen(64)
}

fn nonce() -> std::io::Result<[u8; NONCE_BYTES]> {
    let mut nonce = [0; NONCE_BYTES];
    rustix::rand::getrandom(&mut nonce, rustix::rand::GetRandomFlags::empty())?;
    Ok(nonce)
}

fn tune(stream: &TcpStream) {
    // Tuning only: a kernel without an option still works, with slower notice of a cut.
    let _ = stream.set_nodelay(true);
    let socket = socket2::SockRef::from(stream);
    let _ = socket.set_tcp_user_timeout(Some(USER_TIMEOUT));
}

struct Dialer {
    own: HostId,
    source: std::net::IpAddr,
    peer: HostId,
    address: std::net::SocketAddr,
    secret: Secret,
    redial: Arc<Notify>,
}

impl Dialer {
    async fn run(self, mut said: watch::Receiver<Latest>) {
        let mut told: Option<String> = None;
        loop {
            match self.once(&mut said).await {
                // The daemon is leaving.
                Ok(()) => return,
                Err(error) => {
                    let text = format!("{error:#}");
                    if told.as_ref() != Some(&text) {
                        tracing::info!("peer {} at {}: {text}", self.peer, self.address);
                        told = Some(text);
                    }
                }
            }
            tokio::select! {
                () = tokio::time::sleep(REDIAL_AFTER) => {}
                () = self.redial.notified() => {}
            }
        }
    }

    async fn connect(&self) -> Result<TcpStream> {
        let socket = match self.address {
            std::net::SocketAddr::V4(_) => TcpSocket::new_v4()?,
            std::net::SocketAddr::V6(_) => TcpSocket::new_v6()?,
        };
        socket.bind(std::net::SocketAddr::new(self.source, 0))?;
        Ok(timeout(STEP_WITHIN, socket.connect(self.address))
            .await
            .context("silent")??)
    }

    async fn once(&self, said: &mut watch::Receiver<Latest>) -> Result<()> {
        let mut stream = tokio::select! {
            stream = self.connect() => stream?,
            // The kernel repeats a SYN that went into a cut after a second; once the network is back a fresh
            // one takes no time. That one is not given up for the next advert: the way may be long.
            () = self.redial.notified() => self.connect().await?,
        };
        tune(&stream);
        let (mut dialer, hello) = conversation::Dialer::new(
            self.secret.clone(),
            self.own.clone(),
            self.peer.clone(),
            nonce()?,
        );
        timeout(STEP_WITHIN, stream.write_all(&hello))
            .await
            .context("stuck")??;
        let mut chunk = [0; 4096];
        while !dialer.is_up() {
            let length = timeout(STEP_WITHIN, stream.read(&mut chunk))
                .await
                .context("no answer")??;
            anyhow::ensure!(length > 0, "closed by the other side");
            let answer = dialer.receive(&chunk[..length])?;
            timeout(STEP_WITHIN, stream.write_all(&answer))
                .await
                .context("stuck")??;
        }
        tracing::info!("peer {}: link up", self.peer);
        let mut sent: BTreeMap<String, Arc<Vec<u8>>> = BTreeMap::new();
        loop {
            let latest = said.borrow_and_update().clone();
            for (group, statement) in latest {
                if sent
                    .get(&group)
                    .is_some_and(|old| Arc::ptr_eq(old, &statement))
                {
                    continue;
                }
                let bytes = dialer.say(&statement).context("not up")?;
                timeout(WRITE_WITHIN, stream.write_all(&bytes))
                    .await
                    .context("stuck")??;
                sent.insert(group, statement);
            }
            tokio::select! {
                changed = said.changed() => if changed.is_err() { return Ok(()) },
                read = stream.read(&mut chunk) => match read? {
                    0 => anyhow::bail!("closed by the other side"),
                    length => {
                        dialer.receive(&chunk[..length])?;
                    }
                },
            }
        }
    }
}

async fn accept(listener: TcpListener, visitor: Visitor) {
    let room = Arc::new(tokio::sync::Semaphore::new(ACCEPTED_MAX));
    loop {
        let Ok(permit) = room.clone().acquire_owned().await else {
            return;
        };
        match listener.accept().await {
            Ok((stream, from)) => {
                let visitor = visitor.clone();
                tokio::spawn(async move {
                    if let Err(error) = visitor.receive(stream).await {
                        tracing::info!("connection from {from}: {error:#}");
                    }
                    drop(permit);
                });
            }
            Err(error) => {
                tracing::warn!("accept: {error}");
                tokio::time::sleep(REDIAL_AFTER).await;
            }
        }
    }
}

/// Who receives an accepted connection: the peer's, or anybody's.
#[derive(Clone)]
struct Visitor {
    own: HostId,
    known: Vec<HostId>,
    secret: Option<Secret>,
    heard: mpsc::Sender<(String, Input)>,
    met: mpsc::Sender<Stranger>,
}

impl Visitor {
    /// Finds out who it is.
    async fn receive(self, mut stream: TcpStream) -> Result<()> {
        let mut first = Vec::new();
        let reading = async {
            loop {
                match conversation::opening(&first) {
                    Opening::Undecided => {}
                    decided @ (Opening::Peer | Opening::Client) => return Ok(Some(decided)),
                }
                if stream.read_buf(&mut first).await? == 0 {
                    return Ok::<_, std::io::Error>(None);
                }
            }
        };
        let opening = match timeout(STRANGER_WITHIN, reading).await {
            Ok(decided) => decided?,
            // A client that connects long before it asks; a peer says its word at once.
            Err(_) if first.is_empty() => Some(Opening::Client),
            Err(_) => anyhow::bail!("silent for {} s", STRANGER_WITHIN.as_secs()),
        };
        match opening {
            Some(Opening::Peer) => self.serve(stream, first).await,
            Some(Opening::Client | Opening::Undecided) => {
                if self.met.try_send(Stranger { stream, first }).is_err() {
                    anyhow::bail!("too many connections at once");
                }
                Ok(())
            }
            None => Ok(()),
        }
    }

    async fn serve(self, mut stream: TcpStream, first: Vec<u8>) -> Result<()> {
        tune(&stream);
        let mut first = Some(first);
        let mut listener = conversation::Listener::new(self.own, self.known, self.secret, nonce()?);
        let mut chunk = vec![0; 16 * 1024];
        let stranger_until = Instant::now() + STRANGER_WITHIN;
        let mut groups: Vec<String> = Vec::new();
        let ended = loop {
            let patience = if listener.is_peer() {
                SILENT_AFTER
            } else {
                stranger_until.saturating_duration_since(Instant::now())
            };
            let turn = match first.take() {
                Some(first) => listener.receive(&first),
                None => match timeout(patience, stream.read(&mut chunk)).await {
                    Err(_) => break Err(anyhow::anyhow!("silent for {} s", patience.as_secs())),
                    Ok(Err(error)) => break Err(error.into()),
                    Ok(Ok(0)) => break Ok(()),
                    Ok(Ok(length)) => listener.receive(&chunk[..length]),
                },
            };
            for statement in turn.heard {
                let group = statement.group.clone();
                if !groups.contains(&group) {
                    groups.push(group.clone());
                }
                let input = Input::Peer(PeerEvent::Heard(Box::new(statement)));
                if self.heard.send((group, input)).await.is_err() {
                    anyhow::bail!("the daemon is leaving");
                }
            }
            let answered = timeout(WRITE_WITHIN, stream.write_all(&turn.answer)).await;
            if let Some(error) = turn.ended {
                break Err(error.into());
            }
            match answered {
                Err(_) => break Err(anyhow::anyhow!("stuck")),
                Ok(Err(error)) => break Err(error.into()),
                Ok(Ok(())) => {}
            }
        };
        for group in groups {
            let _ = self.heard.send((group, Input::Peer(PeerEvent::Lost))).await;
        }
        ended
    }
}
