//! The connections a sentinel makes: to servers and to other sentinels.
//!
//! The machine orders and numbers them; here bytes are carried. Each connection is a task of its own on the one
//! thread. What is to be sent in one turn of the loop leaves in one write, at the turn's end and without waking the task,
//! which has to do with it only where the kernel does not take everything. A thousand groups have six thousand
//! connections, so a connection that has nothing half-read holds no buffer, and the task of a plain one is small.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::future::poll_fn;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::Poll;
use std::time::Duration;

use tandem_core::sentinel::io::Loss;
use tandem_core::sentinel::{ConnId, ConnKind, Endpoint, Input};
use tandem_resp::{Limits, ReplyParser, Value, encode_command};
use tokio::io::{AsyncRead, AsyncWriteExt, ReadBuf};
use tokio::net::tcp::OwnedWriteHalf;
use tokio::net::{TcpSocket, TcpStream};
use tokio::sync::{Notify, mpsc};
use tokio::task::AbortHandle;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::pki_types::ServerName;

/// Bytes that wait for a server that does not read; beyond this the connection is closed.
const UNSENT_BOUND: usize = 1024 * 1024;
/// A write that takes longer ends the connection.
const WRITE_WITHIN: Duration = Duration::from_secs(10);
/// One read; shared by all connections of the thread.
const SCRATCH: usize = 64 * 1024;

/// With more connections than this the thread rests between two turns.
const CROWD: usize = 1_000;
/// For so long. Their answers come one by one, each worth a few microseconds of work and ten of waking up; no answer is
/// in a hurry of a millisecond.
const REST: Duration = Duration::from_millis(1);

/// Lets answers gather where there are many connections. For the runtime, before its thread waits for events.
#[derive(Clone, Debug, Default)]
pub(crate) struct Pace(Arc<AtomicBool>);

impl Pace {
    /// Rests, if there is a crowd.
    pub(crate) fn keep(&self) {
        if self.0.load(Ordering::Relaxed) {
            std::thread::sleep(REST);
        }
    }

    fn set(&self, connections: usize) {
        self.0.store(connections > CROWD, Ordering::Relaxed);
    }
}

thread_local! {
    static READ_BUFFER: RefCell<Box<[u8]>> = RefCell::new(vec![0; SCRATCH].into_boxed_slice());
}

/// All connections.
pub(crate) struct Links {
    open: BTreeMap<ConnId, Line>,
    /// Connections that got something to send in this turn.
    dirty: Vec<ConnId>,
    inputs: mpsc::Sender<Input>,
    options: Options,
}

/// How connections are made.
#[derive(Clone, Default)]
pub(crate) struct Options {
    /// `bind-source-addr`.
    pub(crate) source: Option<IpAddr>,
    /// For `tls-replication yes`.
    pub(crate) tls: Option<TlsConnector>,
    /// Told how many there are.
    pub(crate) pace: Pace,
}

/// Our end of one connection's task.
struct Line {
    outbox: Rc<Outbox>,
    task: AbortHandle,
}

/// What waits to be sent, and the bell for it.
#[derive(Default)]
struct Outbox {
    bytes: RefCell<Vec<u8>>,
    bell: Notify,
    overflow: Cell<bool>,
    /// Where bytes may be written without asking the task.
    plain: RefCell<Option<Rc<OwnedWriteHalf>>>,
    /// The task is writing what came before.
    busy: Cell<bool>,
}

impl Outbox {
    /// Writes everything, if the kernel takes it now. False: the task has to.
    fn write_now(&self) -> bool {
        if self.busy.get() || self.overflow.get() {
            return false;
        }
        let plain = self.plain.borrow();
        let Some(plain) = plain.as_ref() else {
            return false;
        };
        let mut bytes = self.bytes.borrow_mut();
        // An error shows again when the task writes or reads, and is told there.
        let written = plain.try_write(&bytes).unwrap_or(0);
        if written == bytes.len() {
            *bytes = Vec::new();
            return true;
        }
        bytes.drain(..written);
        false
    }
}

/// One connection as its task sees it.
struct Wire {
    conn: ConnId,
    kind: ConnKind,
    outbox: Rc<Outbox>,
    inputs: mpsc::Sender<Input>,
    parser: ReplyParser,
    /// The beginning of a frame whose end was not read yet.
    half: Vec<u8>,
}

impl Links {
    /// No connection yet. What happens on connections goes to `inputs`; a full queue holds up reading, nothing else.
    pub(crate) fn new(inputs: mpsc::Sender<Input>, options: Options) -> Self {
        Self {
            open: BTreeMap::new(),
            dirty: Vec::new(),
            inputs,
            options,
        }
    }

    /// Begins a connection; [`Input::Connected`] or [`Input::Lost`] follows within `bound`.
    pub(crate) fn connect(
        &mut self,
        conn: ConnId,
        to: Endpoint,
        kind: ConnKind,
        secure: bool,
        bound: Duration,
    ) {
        let outbox = Rc::new(Outbox::default());
        let wire = Wire {
            conn,
            kind,
            outbox: Rc::clone(&outbox),
            inputs: self.inputs.clone(),
            parser: ReplyParser::new(Limits::control()),
            half: Vec::new(),
        };
        let options = self.options.clone();
        let run = wire.run(to, secure, options, bound);
        let task = tokio::task::spawn_local(run).abort_handle();
        self.open.insert(conn, Line { outbox, task });
        self.options.pace.set(self.open.len());
    }

    /// Ends a connection; nothing more is heard of it.
    pub(crate) fn close(&mut self, conn: ConnId) {
        if let Some(line) = self.open.remove(&conn) {
            line.task.abort();
        }
        self.options.pace.set(self.open.len());
    }

    /// Forgets a connection that ended by itself.
    pub(crate) fn ended(&mut self, conn: ConnId) {
        self.open.remove(&conn);
        self.options.pace.set(self.open.len());
    }

    /// Puts a command behind those that wait.
    pub(crate) fn send(&mut self, conn: ConnId, argv: &[Vec<u8>]) {
        let Some(line) = self.open.get(&conn) else {
            // It ended in this very turn; the machine is about to hear of it.
            return;
        };
        let mut bytes = line.outbox.bytes.borrow_mut();
        if bytes.is_empty() {
            self.dirty.push(conn);
        }
        encode_command(argv, &mut bytes);
        if bytes.len() > UNSENT_BOUND {
            line.outbox.overflow.set(true);
        }
    }

    /// Ends the turn: what was put in line leaves.
    pub(crate) fn flush(&mut self) {
        for conn in self.dirty.drain(..) {
            if let Some(line) = self.open.get(&conn)
                && !line.outbox.write_now()
            {
                line.outbox.bell.notify_one();
            }
        }
    }
}

impl Wire {
    async fn run(mut self, to: Endpoint, secure: bool, options: Options, bound: Duration) {
        let loss = match timeout(bound, dial(&to, &options)).await {
            Err(_) => Loss::TimedOut,
            Ok(Err(error)) => loss_of(&error),
            Ok(Ok(stream)) => self.speak(stream, secure, &options, bound).await,
        };
        // The loop outlives its connections; where it is gone, nobody is there to be told.
        let _ = self
            .inputs
            .send(Input::Lost {
                conn: self.conn,
                loss,
            })
            .await;
    }

    async fn speak(
        &mut self,
        stream: TcpStream,
        secure: bool,
        options: &Options,
        bound: Duration,
    ) -> Loss {
        let (Ok(local), Ok(remote)) = (stream.local_addr(), stream.peer_addr()) else {
            return Loss::Closed;
        };
        let connected = Input::Connected {
            conn: self.conn,
            local: local.ip(),
            remote: remote.ip(),
        };
        let result = match (&options.tls, secure) {
            (_, false) => self.carry_plain(stream, connected).await,
            (None, true) => return Loss::Unreachable,
            // A box, or six thousand plain connections would each have room for it.
            (Some(connector), true) => {
                Box::pin(self.carry_secure(stream, connector, connected, bound)).await
            }
        };
        match result {
            Ok(never) => match never {},
            Err(loss) => loss,
        }
    }

    async fn carry_plain(&mut self, stream: TcpStream, connected: Input) -> Result<Never, Loss> {
        let (mut incoming, outgoing) = stream.into_split();
        let outgoing = Rc::new(outgoing);
        *self.outbox.plain.borrow_mut() = Some(Rc::clone(&outgoing));
        self.tell(connected).await?;
        loop {
            let waiting = self.waiting()?;
            if !waiting.is_empty() {
                self.outbox.busy.set(true);
                within(write_all(&outgoing, &waiting)).await?;
                self.outbox.busy.set(false);
                // More may have come meanwhile.
                continue;
            }
            let values = self.hear(&mut incoming).await?;
            self.report(values).await?;
        }
    }

    async fn carry_secure(
        &mut self,
        stream: TcpStream,
        connector: &TlsConnector,
        connected: Input,
        bound: Duration,
    ) -> Result<Never, Loss> {
        let Input::Connected { remote, .. } = &connected else {
            return Err(Loss::Closed);
        };
        // The name is used for nothing: fleets are configured by address.
        let name = ServerName::IpAddress((*remote).into());
        let mut stream = match timeout(bound, connector.connect(name, stream)).await {
            Err(_) => return Err(Loss::TimedOut),
            Ok(Err(_)) => return Err(Loss::Garbled),
            Ok(Ok(stream)) => stream,
        };
        self.tell(connected).await?;
        loop {
            let waiting = self.waiting()?;
            if !waiting.is_empty() {
                within(stream.write_all(&waiting)).await?;
                // What was encrypted is kept until it is told to go.
                within(stream.flush()).await?;
            }
            let values = self.hear(&mut stream).await?;
            self.report(values).await?;
        }
    }

    /// Takes what waits to be sent.
    fn waiting(&self) -> Result<Vec<u8>, Loss> {
        if self.outbox.overflow.get() {
            return Err(Loss::TimedOut);
        }
        Ok(std::mem::take(&mut *self.outbox.bytes.borrow_mut()))
    }

    /// Values that were read; none: the bell rang.
    async fn hear<S: AsyncRead + Unpin>(&mut self, stream: &mut S) -> Result<Vec<Value>, Loss> {
        let outbox = Rc::clone(&self.outbox);
        tokio::select! {
            biased;
            () = outbox.bell.notified() => Ok(Vec::new()),
            values = self.read(stream) => values,
        }
    }

    async fn report(&self, values: Vec<Value>) -> Result<(), Loss> {
        for value in values {
            if let Some(input) = self.meaning(value) {
                self.tell(input).await?;
            }
        }
        Ok(())
    }

    /// Reads once into the thread's buffer and takes whole values out of it.
    async fn read<S: AsyncRead + Unpin>(&mut self, stream: &mut S) -> Result<Vec<Value>, Loss> {
        poll_fn(|cx| {
            READ_BUFFER.with_borrow_mut(|scratch| {
                let mut buffer = ReadBuf::new(scratch);
                match Pin::new(&mut *stream).poll_read(cx, &mut buffer) {
                    Poll::Pending => Poll::Pending,
                    Poll::Ready(Err(error)) => Poll::Ready(Err(loss_of(&error))),
                    Poll::Ready(Ok(())) if buffer.filled().is_empty() => {
                        Poll::Ready(Err(Loss::Closed))
                    }
                    Poll::Ready(Ok(())) => Poll::Ready(self.take_values(buffer.filled())),
                }
            })
        })
        .await
    }

    fn take_values(&mut self, fresh: &[u8]) -> Result<Vec<Value>, Loss> {
        let mut joined = std::mem::take(&mut self.half);
        let bytes: &[u8] = if joined.is_empty() {
            fresh
        } else {
            joined.extend_from_slice(fresh);
            &joined
        };
        let mut values = Vec::new();
        let mut taken = 0;
        while let Some(len) = self
            .parser
            .parse(&bytes[taken..])
            .map_err(|_| Loss::Garbled)?
        {
            values.push(Value::from_nodes(self.parser.nodes(), &bytes[taken..]));
            taken += len;
            if taken == bytes.len() {
                return Ok(values);
            }
        }
        self.half = bytes[taken..].to_vec();
        Ok(values)
    }

    fn meaning(&self, value: Value) -> Option<Input> {
        match self.kind {
            ConnKind::Command => Some(Input::Reply {
                conn: self.conn,
                value,
            }),
            ConnKind::PubSub => {
                // Anything else answers AUTH and CLIENT SETNAME.
                let (Value::Array(parts) | Value::Push(parts)) = value else {
                    return None;
                };
                let [kind, channel, message] = <[Value; 3]>::try_from(parts).ok()?;
                if kind.as_bytes() != Some(b"message") {
                    return None;
                }
                Some(Input::Heard {
                    conn: self.conn,
                    channel: channel.as_bytes()?.to_vec(),
                    message: message.as_bytes()?.to_vec(),
                })
            }
        }
    }

    async fn tell(&self, input: Input) -> Result<(), Loss> {
        self.inputs.send(input).await.map_err(|_| Loss::Closed)
    }
}

/// A write, with its bound.
async fn within(write: impl Future<Output = io::Result<()>>) -> Result<(), Loss> {
    match timeout(WRITE_WITHIN, write).await {
        Err(_) => Err(Loss::TimedOut),
        Ok(Err(error)) => Err(loss_of(&error)),
        Ok(Ok(())) => Ok(()),
    }
}

async fn write_all(to: &OwnedWriteHalf, mut bytes: &[u8]) -> io::Result<()> {
    while !bytes.is_empty() {
        to.writable().await?;
        match to.try_write(bytes) {
            Ok(written) => bytes = &bytes[written..],
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// What a connection's loop returns if it does not end by a loss: nothing.
enum Never {}

async fn dial(to: &Endpoint, options: &Options) -> io::Result<TcpStream> {
    let address = match to.host.parse::<IpAddr>() {
        Ok(ip) => SocketAddr::new(ip, to.port),
        // The system's resolver, on a thread of its own: a name server that is away holds up nobody else.
        Err(_) => tokio::net::lookup_host((to.host.as_str(), to.port))
            .await?
            .next()
            .ok_or_else(|| io::Error::new(io::ErrorKind::NotFound, "the name has no address"))?,
    };
    let socket = if address.is_ipv4() {
        TcpSocket::new_v4()?
    } else {
        TcpSocket::new_v6()?
    };
    if let Some(source) = options
        .source
        .filter(|ip| ip.is_ipv4() == address.is_ipv4())
    {
        socket.bind(SocketAddr::new(source, 0))?;
    }
    socket.set_nodelay(true)?;
    socket.connect(address).await
}

fn loss_of(error: &io::Error) -> Loss {
    match error.kind() {
        io::ErrorKind::ConnectionRefused => Loss::Refused,
        io::ErrorKind::ConnectionReset
        | io::ErrorKind::ConnectionAborted
        | io::ErrorKind::BrokenPipe
        | io::ErrorKind::UnexpectedEof => Loss::Closed,
        io::ErrorKind::TimedOut => Loss::TimedOut,
        _ => Loss::Unreachable,
    }
}
