//! One connection: reads requests, has them carried out in their order, and sends what its outbox holds.
//!
//! While a request waits for the sentinel's answer, or while the client leaves much unread, no further request is read: the
//! kernel's buffers fill and the client is held up, nobody else. Messages of subscriptions come into the outbox from outside
//! and wake the connection.

use std::cell::RefCell;
use std::future::Future;
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::time::{Duration, Instant};

use tandem_resp::{ErrorKind, FrameError, RequestParser, Value};
use tokio::io::{
    AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, ReadHalf, WriteHalf,
};
use tokio::sync::{Notify, mpsc, oneshot};

use super::Ask;
use super::files;
use super::hub::{Closing, Flow, Hub, Origin, Shape};
use super::subscriptions::ClientId;

/// Anything that carries bytes both ways: TCP, a Unix socket, TLS.
pub(super) trait Wire: AsyncRead + AsyncWrite + Unpin {}

impl<T: AsyncRead + AsyncWrite + Unpin> Wire for T {}

/// A connection's bytes, whatever is below.
pub(super) type Stream = Box<dyn Wire>;

/// Bytes read at a time.
const READ_BYTES: usize = 16 * 1024;
/// Requests carried out before others have their turn.
const TURN: usize = 64;
/// The sentinel answers within a state's write to disk; a client is not held up for ever if it does not.
const ANSWER_WITHIN: Duration = Duration::from_secs(30);
/// A connection that is to end after its replies gets so long to take them.
const LINGER: Duration = Duration::from_secs(5);

/// What a connection needs from the server.
#[derive(Clone)]
pub(super) struct Context {
    pub(super) hub: Rc<RefCell<Hub>>,
    pub(super) asks: mpsc::Sender<Ask>,
    pub(super) idle_after: Duration,
}

/// A client's place in the hub, given up whatever ends the connection.
struct Seat {
    hub: Rc<RefCell<Hub>>,
    id: ClientId,
}

impl Drop for Seat {
    fn drop(&mut self) {
        if let Ok(mut hub) = self.hub.try_borrow_mut() {
            hub.disconnect(self.id);
        }
    }
}

/// What a request waits for.
enum Outcome {
    Answer(Shape, Value),
    UsersRead(Result<String, String>),
    UsersWritten(Result<(), String>),
}

/// What is done with the next request.
enum State {
    /// Look for one in what was read.
    Ready,
    /// More bytes are needed.
    Hungry,
    /// One waits for this.
    Waiting(Pin<Box<dyn Future<Output = Outcome>>>),
    /// One waits for the end of a pause.
    Held(Vec<Vec<u8>>, Instant),
    /// There will be none.
    Ended,
}

/// What happened.
enum Step {
    Woken,
    Outcome(Outcome),
    Wrote(io::Result<usize>),
    Flushed(io::Result<()>),
    Read(io::Result<usize>),
    Time,
}

struct Connection {
    context: Context,
    id: ClientId,
    wake: Rc<Notify>,
    reader: ReadHalf<Stream>,
    writer: WriteHalf<Stream>,
    parser: RequestParser,
    /// Bytes read; those before `at` are dealt with.
    buffer: Vec<u8>,
    at: usize,
    /// Requests that were parsed ended here, counted from the connection's start.
    consumed: u64,
    /// Bytes taken from the outbox; those before `sent` are the kernel's.
    chunk: Vec<u8>,
    sent: usize,
    /// Something was written and not flushed: TLS keeps records back.
    unflushed: bool,
    state: State,
    linger_until: Option<Instant>,
}

/// Serves one connection to its end.
pub(super) async fn serve(context: Context, stream: Stream, origin: Origin) {
    let wake = Rc::new(Notify::new());
    let hub = Rc::clone(&context.hub);
    let id = hub
        .borrow_mut()
        .connect(origin, Rc::clone(&wake), Instant::now());
    let _seat = Seat {
        hub: Rc::clone(&hub),
        id,
    };
    let (reader, writer) = tokio::io::split(stream);
    let limits = hub.borrow().limits(id);
    let connection = Connection {
        context,
        id,
        wake,
        reader,
        writer,
        parser: RequestParser::new(limits),
        buffer: Vec::new(),
        at: 0,
        consumed: 0,
        chunk: Vec::new(),
        sent: 0,
        unflushed: false,
        state: State::Ready,
        linger_until: None,
    };
    connection.run().await;
}

impl Connection {
    async fn run(mut self) {
        loop {
            let more = self.carry_out();
            let Some((closing, waiting)) = self.refill() else {
                return;
            };
            match closing {
                Closing::Now => return,
                Closing::AfterReplies => {
                    self.state = State::Ended;
                    if waiting == 0 && !self.unflushed {
                        let _ = tokio::time::timeout(LINGER, self.writer.shutdown()).await;
                        return;
                    }
                    self.linger_until
                        .get_or_insert_with(|| Instant::now() + LINGER);
                }
                Closing::No => {}
            }
            if more {
                tokio::task::yield_now().await;
            }
            let step = self.step(more).await;
            if !self.take(step) {
                return;
            }
        }
    }

    /// Carries out requests that are there, as far as nothing stands against it. Says whether more may be there.
    fn carry_out(&mut self) -> bool {
        for _ in 0..TURN {
            let now = Instant::now();
            let argv = match std::mem::replace(&mut self.state, State::Ready) {
                State::Held(argv, until) if until <= now => argv,
                State::Ready => match self.next_request() {
                    Some(argv) => argv,
                    None => return false,
                },
                other @ (State::Hungry | State::Waiting(_) | State::Held(..) | State::Ended) => {
                    self.state = other;
                    return false;
                }
            };
            let flow = self.context.hub.borrow_mut().execute(self.id, &argv, now);
            self.state = match flow {
                Flow::Done => State::Ready,
                Flow::Later(until) => State::Held(argv, until),
                Flow::Ask { question, shape } => {
                    let asks = self.context.asks.clone();
                    State::Waiting(Box::pin(ask(asks, question, shape)))
                }
                Flow::ReadUsers(path) => State::Waiting(Box::pin(async move {
                    Outcome::UsersRead(files::blocking(move || files::read(&path)).await)
                })),
                Flow::WriteUsers(path, text) => State::Waiting(Box::pin(async move {
                    Outcome::UsersWritten(files::blocking(move || files::write(&path, &text)).await)
                })),
            };
        }
        true
    }

    /// The next request that has words; `None` if there is none now, and the state says why.
    fn next_request(&mut self) -> Option<Vec<Vec<u8>>> {
        let mut hub = self.context.hub.borrow_mut();
        loop {
            let client = hub.client_mut(self.id)?;
            // Ready all the same: when the client has read, or not at all if it is being closed.
            if client.closing() != Closing::No || client.outbox().is_full() {
                return None;
            }
            self.parser.set_limits(hub.limits(self.id));
            let rest = &self.buffer[self.at..];
            match self.parser.parse(rest) {
                Ok(Some(request)) => {
                    let argv = request.to_args(rest);
                    self.at += request.len;
                    self.consumed += request.len as u64;
                    if !argv.is_empty() {
                        return Some(argv);
                    }
                }
                Ok(None) => {
                    self.buffer.drain(..self.at);
                    self.at = 0;
                    self.state = State::Hungry;
                    return None;
                }
                Err(error) => {
                    let stranger = hub.must_authenticate(self.id);
                    let text =
                        protocol_error(&error, rest, error.offset == self.consumed, stranger);
                    hub.refuse(self.id, &text);
                    return None;
                }
            }
        }
    }

    /// Takes what waits, once the last of it is gone. `None` when the client is not known any more.
    fn refill(&mut self) -> Option<(Closing, usize)> {
        let mut hub = self.context.hub.borrow_mut();
        let client = hub.client_mut(self.id)?;
        if self.sent == self.chunk.len() {
            self.chunk = client.outbox().take();
            self.sent = 0;
        }
        Some((client.closing(), client.outbox().waiting()))
    }

    /// When something has to be looked at although nothing happens.
    fn deadline(&self) -> Option<Instant> {
        let held = match &self.state {
            State::Held(_, until) => Some(*until),
            State::Ready | State::Hungry | State::Waiting(_) | State::Ended => None,
        };
        let hub = self.context.hub.borrow();
        let idle = (!self.context.idle_after.is_zero() && !hub.is_subscriber(self.id))
            .then(|| hub.active(self.id))
            .flatten()
            .map(|active| active + self.context.idle_after);
        [held, idle, self.linger_until].into_iter().flatten().min()
    }

    async fn step(&mut self, more: bool) -> Step {
        let deadline = match more {
            true => Some(Instant::now()),
            false => self.deadline(),
        };
        let hungry = matches!(self.state, State::Hungry);
        let outcome = async {
            match &mut self.state {
                State::Waiting(future) => future.await,
                State::Ready | State::Hungry | State::Held(..) | State::Ended => {
                    std::future::pending().await
                }
            }
        };
        let time = async {
            match deadline {
                Some(at) => tokio::time::sleep_until(at.into()).await,
                None => std::future::pending().await,
            }
        };
        if hungry {
            self.buffer.reserve(READ_BYTES);
        }
        let buffer = &mut self.buffer;
        let writer = &mut self.writer;
        let unsent = &self.chunk[self.sent..];
        let unflushed = self.unflushed;
        let write = async {
            if unsent.is_empty() {
                Step::Flushed(writer.flush().await)
            } else {
                Step::Wrote(writer.write(unsent).await)
            }
        };
        tokio::select! {
            biased;
            step = write, if !unsent.is_empty() || unflushed => step,
            outcome = outcome => Step::Outcome(outcome),
            () = self.wake.notified() => Step::Woken,
            read = self.reader.read_buf(buffer), if hungry => Step::Read(read),
            () = time => Step::Time,
        }
    }

    /// Says whether the connection goes on.
    fn take(&mut self, step: Step) -> bool {
        let now = Instant::now();
        match step {
            Step::Woken => {
                // A pause may be over: the request is looked at again.
                if let State::Held(_, until) = &mut self.state {
                    *until = now;
                }
                true
            }
            Step::Outcome(outcome) => {
                self.state = State::Ready;
                let mut hub = self.context.hub.borrow_mut();
                match outcome {
                    Outcome::Answer(shape, value) => hub.answer(self.id, shape, value),
                    Outcome::UsersRead(text) => hub.load_users(self.id, text),
                    Outcome::UsersWritten(result) => hub.users_saved(self.id, result),
                }
                true
            }
            Step::Wrote(Ok(0))
            | Step::Wrote(Err(_))
            | Step::Flushed(Err(_))
            | Step::Read(Err(_)) => false,
            Step::Wrote(Ok(bytes)) => {
                self.sent += bytes;
                self.unflushed = true;
                self.context.hub.borrow_mut().sent(self.id, bytes, now);
                true
            }
            Step::Flushed(Ok(())) => {
                self.unflushed = false;
                true
            }
            Step::Read(Ok(0)) => {
                // The other side has said all it will; what it asked for is still sent.
                if let Some(client) = self.context.hub.borrow_mut().client_mut(self.id) {
                    client.finish();
                }
                true
            }
            Step::Read(Ok(bytes)) => {
                self.state = State::Ready;
                let waiting = self.buffer.len();
                self.context
                    .hub
                    .borrow_mut()
                    .received(self.id, bytes, waiting, now);
                true
            }
            Step::Time => {
                if self.linger_until.is_some_and(|until| until <= now) {
                    return false;
                }
                !self.is_idle(now)
            }
        }
    }

    fn is_idle(&self, now: Instant) -> bool {
        let hub = self.context.hub.borrow();
        let idle_after = self.context.idle_after;
        !idle_after.is_zero()
            && !hub.is_subscriber(self.id)
            && hub
                .active(self.id)
                .is_some_and(|active| active + idle_after <= now)
    }
}

async fn ask(
    asks: mpsc::Sender<Ask>,
    question: tandem_core::sentinel::Question,
    shape: Shape,
) -> Outcome {
    let (answer, answered) = oneshot::channel();
    let asking = async {
        asks.send(Ask { question, answer }).await.ok()?;
        answered.await.ok()
    };
    let value = match tokio::time::timeout(ANSWER_WITHIN, asking).await {
        Ok(Some(value)) => value,
        Ok(None) => Value::Error(b"ERR the sentinel is shutting down".to_vec()),
        Err(_) => Value::Error(b"ERR the sentinel did not answer in time".to_vec()),
    };
    Outcome::Answer(shape, value)
}

/// What Redis says about bytes that are no request. `at_start` tells the number of arguments from an argument's length.
fn protocol_error(error: &FrameError, rest: &[u8], at_start: bool, stranger: bool) -> String {
    let multibulk = rest.first() == Some(&b'*');
    let what = match error.kind {
        ErrorKind::UnbalancedQuotes => "unbalanced quotes in request",
        ErrorKind::LineTooLong if !multibulk => "too big inline request",
        ErrorKind::LineTooLong if at_start => "too big mbulk count string",
        ErrorKind::LineTooLong => "too big bulk count string",
        ErrorKind::ExpectedBulk(byte) => {
            // Anything but printable ASCII would garble the log and the reply.
            let shown = if (b' '..=b'~').contains(&byte) {
                byte
            } else {
                b'.'
            };
            return format!("expected '$', got '{}'", char::from(shown));
        }
        ErrorKind::TooManyElements if stranger => "unauthenticated multibulk length",
        ErrorKind::TooManyElements => "invalid multibulk length",
        ErrorKind::BulkTooLong | ErrorKind::FrameTooLong if stranger => {
            "unauthenticated bulk length"
        }
        ErrorKind::BadNumber | ErrorKind::NegativeLength | ErrorKind::Streamed if at_start => {
            "invalid multibulk length"
        }
        ErrorKind::BadNumber
        | ErrorKind::NegativeLength
        | ErrorKind::Streamed
        | ErrorKind::BulkTooLong
        | ErrorKind::FrameTooLong
        | ErrorKind::MissingCarriageReturn
        | ErrorKind::MissingTerminator
        | ErrorKind::TooDeep
        | ErrorKind::UnknownType(_) => "invalid bulk length",
    };
    what.to_owned()
}
