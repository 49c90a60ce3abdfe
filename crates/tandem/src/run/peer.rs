//! The daemons' conversation: RESP on the host's port, mutually authenticated, every frame sealed.
//!
//! Each daemon dials the other and says its statements on the connection it opened; what it hears comes in on
//! the one it accepted. So each direction stands for itself, and a link that works one way only is seen as
//! that. A statement holds everything, so only the newest one of each group is kept for sending: nothing can
//! queue up behind a slow peer.
//!
//! ```text
//! dialer                                   listener
//!   TANDEM HELLO <id> <nonce>        ->
//!                                    <-    *3 <id> <nonce> <proof>
//!   TANDEM AUTH <proof>              ->
//!                                    <-    +OK
//!   TANDEM STATE <statement> <code>  ->    (no answer; again and again)
//! ```

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use tandem_config::settings::Settings;
use tandem_core::ids::HostId;
use tandem_core::keeper::{Input, PeerEvent};
use tandem_core::session::{Direction, Handshake, NONCE_BYTES, Secret, SessionError};
use tandem_core::statement::{STATEMENT_MAX_BYTES, Statement};
use tandem_resp::{Command, Limits, ReplyDecoder, RequestParser, Value};
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

type Latest = BTreeMap<String, Arc<Vec<u8>>>;

/// What is said to the peers.
#[derive(Clone, Debug)]
pub(crate) struct Peers {
    latest: watch::Sender<Latest>,
    redial: Arc<Notify>,
}

impl Peers {
    /// Listens and dials. Returns the handle for speaking and the stream of what is heard.
    pub(crate) async fn start(
        settings: &Settings,
        secret: Option<Secret>,
    ) -> Result<(Self, mpsc::Receiver<(String, Input)>)> {
        let (latest, said) = watch::channel(Latest::new());
        let (heard, inputs) = mpsc::channel(HEARD_MAX);
        let redial = Arc::new(Notify::new());
        let own = HostId::new(&settings.host.id);
        let address = settings.host.socket_addr();
        let listener = listen(address).with_context(|| {
            format!("cannot listen on {address} (host.address and host.port of the configuration)")
        })?;
        let known: Vec<HostId> = settings.peers.iter().map(|p| HostId::new(&p.id)).collect();
        tokio::spawn(accept(listener, own.clone(), known, secret.clone(), heard));
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
        Ok((Self { latest, redial }, inputs))
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
        let mut decoder = ReplyDecoder::new(Limits::stranger());
        let own_nonce = nonce()?;
        let hello = Command::from_args(&[b"TANDEM".as_slice(), b"HELLO"])
            .arg(self.own.0.as_bytes())
            .arg(own_nonce);
        let answer = ask(&mut stream, &mut decoder, &hello).await?;
        let parts = answer.as_array().context("HELLO was refused")?;
        let part = |at: usize| {
            parts
                .get(at)
                .and_then(Value::as_bytes)
                .context("HELLO's answer")
        };
        let found = HostId::new(String::from_utf8_lossy(part(0)?));
        if found != self.peer {
            return Err(SessionError::WrongHost {
                found,
                expected: self.peer.clone(),
            }
            .into());
        }
        let their_nonce: [u8; NONCE_BYTES] = part(1)?.try_into().context("nonce length")?;
        let shake = Handshake::new(
            &self.secret,
            (&self.own, &own_nonce),
            (&self.peer, &their_nonce),
        );
        shake.check(b"listener", part(2)?)?;
        let auth = Command::from_args(&[b"TANDEM".as_slice(), b"AUTH"]).arg(shake.proof(b"dialer"));
        let answer = ask(&mut stream, &mut decoder, &auth).await?;
        anyhow::ensure!(answer.as_bytes() == Some(b"OK"), "AUTH was refused");
        tracing::info!("peer {}: link up", self.peer);
        let (mut direction, _) = shake.directions();
        let mut sent: BTreeMap<String, Arc<Vec<u8>>> = BTreeMap::new();
        let mut unexpected = [0; 64];
        loop {
            let latest = said.borrow_and_update().clone();
            for (group, statement) in latest {
                if sent
                    .get(&group)
                    .is_some_and(|old| Arc::ptr_eq(old, &statement))
                {
                    continue;
                }
                let code = direction.seal(&statement);
                let frame = Command::from_args(&[b"TANDEM".as_slice(), b"STATE"])
                    .arg(statement.as_slice())
                    .arg(code);
                let mut bytes = Vec::with_capacity(statement.len() + 128);
                frame.encode(&mut bytes);
                timeout(WRITE_WITHIN, stream.write_all(&bytes))
                    .await
                    .context("stuck")??;
                sent.insert(group, statement);
            }
            tokio::select! {
                changed = said.changed() => if changed.is_err() { return Ok(()) },
                read = stream.read(&mut unexpected) => match read? {
                    0 => anyhow::bail!("closed by the other side"),
                    _ => anyhow::bail!(
                        "refused: {}",
                        String::from_utf8_lossy(&unexpected).trim_matches(['\0', '\r', '\n'])
                    ),
                },
            }
        }
    }
}

async fn ask(
    stream: &mut TcpStream,
    decoder: &mut ReplyDecoder,
    command: &Command,
) -> Result<Value> {
    let mut bytes = Vec::new();
    command.encode(&mut bytes);
    timeout(STEP_WITHIN, stream.write_all(&bytes))
        .await
        .context("stuck")??;
    let mut buffer = [0; 4096];
    loop {
        if let Some(value) = decoder.next_value()? {
            if let Some(error) = value.as_error() {
                anyhow::bail!("refused: {}", String::from_utf8_lossy(error));
            }
            return Ok(value);
        }
        let length = timeout(STEP_WITHIN, stream.read(&mut buffer))
            .await
            .context("no answer")??;
        anyhow::ensure!(length > 0, "closed by the other side");
        decoder.feed(&buffer[..length]);
    }
}

async fn accept(
    listener: TcpListener,
    own: HostId,
    known: Vec<HostId>,
    secret: Option<Secret>,
    heard: mpsc::Sender<(String, Input)>,
) {
    let room = Arc::new(tokio::sync::Semaphore::new(ACCEPTED_MAX));
    loop {
        let Ok(permit) = room.clone().acquire_owned().await else {
            return;
        };
        match listener.accept().await {
            Ok((stream, from)) => {
                let visitor = Visitor {
                    own: own.clone(),
                    known: known.clone(),
                    secret: secret.clone(),
                    heard: heard.clone(),
                };
                tokio::spawn(async move {
                    if let Err(error) = visitor.serve(stream).await {
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

/// One accepted connection: the peer, or anybody with redis-cli.
struct Visitor {
    own: HostId,
    known: Vec<HostId>,
    secret: Option<Secret>,
    heard: mpsc::Sender<(String, Input)>,
}

/// How far the other side of a connection has come.
enum Standing {
    Stranger,
    Greeted { shake: Box<Handshake> },
    Peer { direction: Box<Direction> },
}

impl Visitor {
    async fn serve(self, mut stream: TcpStream) -> Result<()> {
        tune(&stream);
        let mut parser = RequestParser::new(Limits::stranger());
        let mut buffer: Vec<u8> = Vec::new();
        let mut chunk = vec![0; 16 * 1024];
        let mut standing = Standing::Stranger;
        let stranger_until = Instant::now() + STRANGER_WITHIN;
        let mut groups: Vec<String> = Vec::new();
        let ended = loop {
            match parser.parse(&buffer) {
                Ok(Some(request)) => {
                    let args: Vec<Vec<u8>> = request.to_args(&buffer);
                    let length = request.len;
                    buffer.drain(..length);
                    if args.is_empty() {
                        continue;
                    }
                    if let Err(error) = self
                        .command(&mut stream, &mut standing, &args, &mut groups)
                        .await
                    {
                        let _ = stream
                            .write_all(format!("-ERR {error}\r\n").as_bytes())
                            .await;
                        break Err(error);
                    }
                    continue;
                }
                Ok(None) => {}
                Err(error) => {
                    let _ = stream
                        .write_all(format!("-ERR {error}\r\n").as_bytes())
                        .await;
                    break Err(error.into());
                }
            }
            let patience = match standing {
                Standing::Peer { .. } => SILENT_AFTER,
                Standing::Stranger | Standing::Greeted { .. } => {
                    stranger_until.saturating_duration_since(Instant::now())
                }
            };
            match timeout(patience, stream.read(&mut chunk)).await {
                Err(_) => break Err(anyhow::anyhow!("silent for {} s", patience.as_secs())),
                Ok(Err(error)) => break Err(error.into()),
                Ok(Ok(0)) => break Ok(()),
                Ok(Ok(length)) => buffer.extend_from_slice(&chunk[..length]),
            }
        };
        for group in groups {
            let _ = self.heard.send((group, Input::Peer(PeerEvent::Lost))).await;
        }
        ended
    }

    async fn command(
        &self,
        stream: &mut TcpStream,
        standing: &mut Standing,
        args: &[Vec<u8>],
        groups: &mut Vec<String>,
    ) -> Result<()> {
        let is = |at: usize, word: &str| {
            args.get(at)
                .is_some_and(|arg| arg.eq_ignore_ascii_case(word.as_bytes()))
        };
        if is(0, "PING") {
            stream.write_all(b"+PONG\r\n").await?;
            return Ok(());
        }
        if is(0, "QUIT") {
            stream.write_all(b"+OK\r\n").await?;
            anyhow::bail!("quit");
        }
        if !is(0, "TANDEM") {
            let text =
                "-ERR this is tandem's port for its peers; try tandem status on the host\r\n";
            stream.write_all(text.as_bytes()).await?;
            return Ok(());
        }
        let Some(secret) = &self.secret else {
            anyhow::bail!("this host has no peers");
        };
        if is(1, "HELLO") && args.len() == 4 {
            let found = HostId::new(String::from_utf8_lossy(&args[2]));
            anyhow::ensure!(
                self.known.contains(&found),
                "{found} is no peer of this host"
            );
            let theirs: [u8; NONCE_BYTES] = args[3]
                .as_slice()
                .try_into()
                .context("a nonce of the wrong length")?;
            let own_nonce = nonce()?;
            let shake = Handshake::new(secret, (&found, &theirs), (&self.own, &own_nonce));
            let mut out = Vec::new();
            Value::Array(vec![
                Value::Bulk(self.own.0.clone().into_bytes()),
                Value::Bulk(own_nonce.to_vec()),
                Value::Bulk(shake.proof(b"listener").to_vec()),
            ])
            .encode(tandem_resp::Protocol::Resp2, &mut out);
            stream.write_all(&out).await?;
            *standing = Standing::Greeted {
                shake: Box::new(shake),
            };
            return Ok(());
        }
        if is(1, "AUTH") && args.len() == 3 {
            let Standing::Greeted { shake } = standing else {
                anyhow::bail!("AUTH before HELLO");
            };
            shake.check(b"dialer", &args[2])?;
            let (direction, _) = shake.directions();
            stream.write_all(b"+OK\r\n").await?;
            *standing = Standing::Peer {
                direction: Box::new(direction),
            };
            return Ok(());
        }
        if is(1, "STATE") && args.len() == 4 {
            let Standing::Peer { direction } = standing else {
                anyhow::bail!("not authenticated");
            };
            direction.open(&args[2], &args[3])?;
            let statement = Statement::decode(&args[2])?;
            let group = statement.group.clone();
            if !groups.contains(&group) {
                groups.push(group.clone());
            }
            let input = Input::Peer(PeerEvent::Heard(Box::new(statement)));
            self.heard
                .send((group, input))
                .await
                .context("the daemon is leaving")?;
            return Ok(());
        }
        anyhow::bail!("unknown or malformed TANDEM command")
    }
}

// A statement is far below what a stranger may send before it is known who sent it.
const _: () = assert!(STATEMENT_MAX_BYTES <= 16 * 1024);
