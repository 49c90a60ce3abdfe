//! One persistent, pipelined connection to a server.
//!
//! A task owns the socket; [`Link`] is a handle that may be cloned. Commands are written in the order of the calls, and
//! answers are matched to them in order, as Redis promises. A caller that gives up at its deadline leaves its place
//! in the order behind, so a late answer can never be taken for another command's.
//!
//! What it leaves to others: connecting again, and what silence means. It notes when each command was sent and each answer came,
//! because silence counts from the last answer.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use tandem_resp::{Command, ReplyDecoder, Value};
use tokio::io::AsyncReadExt as _;
use tokio::net::TcpStream;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::timeout_at;

use super::error::{LinkError, ProtocolError};
use super::raw::{READ_BYTES, RawConnection, Target};

/// Commands written and not answered. More wait in the queue until their deadline.
const MAX_IN_FLIGHT: usize = 128;

/// Calls that wait to be written.
const MAX_QUEUED: usize = 32;

/// Bytes waiting for the socket above which no further call is taken.
const MAX_UNWRITTEN_BYTES: usize = 256 * 1024;

#[derive(Debug)]
struct Call {
    bytes: Vec<u8>,
    commands: usize,
    /// Set when the first byte may have left.
    sent: Arc<AtomicBool>,
    answer: oneshot::Sender<Result<Vec<Value>, LinkError>>,
}

#[derive(Debug)]
struct Pending {
    remaining: usize,
    values: Vec<Value>,
    answer: oneshot::Sender<Result<Vec<Value>, LinkError>>,
}

/// A handle to the connection. The connection is closed when the last one is dropped.
#[derive(Clone, Debug)]
pub(crate) struct Link {
    calls: mpsc::Sender<Call>,
    end: watch::Receiver<Option<LinkError>>,
}

impl Link {
    /// Connects, authenticates and starts the connection's task on the current runtime.
    pub(crate) async fn connect(target: &Target, deadline: Instant) -> Result<Self, LinkError> {
        let (stream, decoder) = RawConnection::open(target, deadline).await?.into_parts();
        let (calls, queue) = mpsc::channel(MAX_QUEUED);
        let (end_sender, end) = watch::channel(None);
        let connection = Connection {
            stream,
            decoder,
            unwritten: Vec::new(),
            pending: VecDeque::new(),
        };
        tokio::spawn(connection.run(queue, end_sender));
        Ok(Self { calls, end })
    }

    /// Sends one command, given as its arguments, and waits for the answer. An error reply is a value, not an error.
    pub(crate) async fn call<A: AsRef<[u8]>>(
        &self,
        args: &[A],
        deadline: Instant,
    ) -> Result<Value, LinkError> {
        let values = self.pipeline(&[Command::from_args(args)], deadline).await?;
        values
            .into_iter()
            .next()
            .ok_or(LinkError::Protocol(ProtocolError::Kind))
    }

    /// Sends commands in one piece and waits for all their answers.
    pub(crate) async fn pipeline(
        &self,
        commands: &[Command],
        deadline: Instant,
    ) -> Result<Vec<Value>, LinkError> {
        let mut bytes = Vec::new();
        for command in commands {
            command.encode(&mut bytes);
        }
        let sent = Arc::new(AtomicBool::new(false));
        let (answer, answered) = oneshot::channel();
        let call = Call {
            bytes,
            commands: commands.len(),
            sent: Arc::clone(&sent),
            answer,
        };
        let done = timeout_at(deadline.into(), async {
            if self.calls.send(call).await.is_err() {
                return Err(self.why_closed().unsent());
            }
            answered.await.unwrap_or_else(|_| Err(self.why_closed()))
        });
        match done.await {
            Ok(result) => result,
            Err(_) => Err(LinkError::TimedOut {
                sent: sent.load(Ordering::Acquire),
            }),
        }
    }

    /// Waits until the connection ends, and says why. A server's death shows here within milliseconds, and so do other
    /// things: the caller asks again over a fresh connection.
    pub(crate) async fn closed(&self) -> LinkError {
        let mut end = self.end.clone();
        match end.wait_for(Option::is_some).await {
            Ok(reason) => reason.clone().unwrap_or(LinkError::Closed { sent: false }),
            Err(_) => LinkError::Closed { sent: false },
        }
    }

    /// Whether the connection has ended.
    pub(crate) fn is_closed(&self) -> bool {
        self.end.borrow().is_some()
    }

    fn why_closed(&self) -> LinkError {
        let end = self.end.borrow().clone();
        end.unwrap_or(LinkError::Closed { sent: true })
    }
}

/// What the task owns.
#[derive(Debug)]
struct Connection {
    stream: TcpStream,
    decoder: ReplyDecoder,
    unwritten: Vec<u8>,
    pending: VecDeque<Pending>,
}

/// Why the task ends.
enum End {
    /// No handle is left.
    Dropped,
    /// The connection failed.
    Failed(LinkError),
}

impl Connection {
    async fn run(mut self, mut queue: mpsc::Receiver<Call>, end: watch::Sender<Option<LinkError>>) {
        let reason = match self.serve(&mut queue).await {
            End::Dropped => LinkError::Closed { sent: false },
            End::Failed(error) => error,
        };
        // The reason stands before any caller learns of the end; a caller that is gone does not mind.
        end.send_replace(Some(reason.clone()));
        for pending in self.pending.drain(..) {
            let _ = pending.answer.send(Err(reason.clone()));
        }
        queue.close();
        while let Ok(call) = queue.try_recv() {
            let _ = call.answer.send(Err(reason.clone().unsent()));
        }
    }

    async fn serve(&mut self, queue: &mut mpsc::Receiver<Call>) -> End {
        loop {
            let room = self.has_room();
            let mut bytes = [0; READ_BYTES];
            let (mut incoming, outgoing) = self.stream.split();
            let full = !self.unwritten.is_empty();
            // All branches are cancel-safe: a message stays in the queue, bytes and readiness stay with the socket.
            tokio::select! {
                call = queue.recv(), if room => match call {
                    Some(call) => {
                        self.take(call);
                        // What was asked in the same turn leaves in the same packet.
                        while self.has_room() && let Ok(call) = queue.try_recv() {
                            self.take(call);
                        }
                    }
                    None => return End::Dropped,
                },
                // Unlike `try_read` this knows that a part of a buffer was all there was, and does not ask twice.
                read = incoming.read(&mut bytes) => {
                    let taken = match read {
                        Ok(0) => Err(LinkError::Closed { sent: true }),
                        Ok(length) => self.received(&bytes[..length]),
                        Err(error) => Err(LinkError::from_io(&error, true)),
                    };
                    if let Err(error) = taken {
                        return End::Failed(error);
                    }
                }
                ready = outgoing.writable(), if full => {
                    if let Err(error) = ready {
                        return End::Failed(LinkError::from_io(&error, true));
                    }
                }
            }
            if let Err(error) = self.write() {
                return End::Failed(error);
            }
        }
    }

    fn has_room(&self) -> bool {
        self.in_flight() < MAX_IN_FLIGHT && self.unwritten.len() < MAX_UNWRITTEN_BYTES
    }

    fn in_flight(&self) -> usize {
        self.pending.iter().map(|pending| pending.remaining).sum()
    }

    fn take(&mut self, call: Call) {
        // The caller gave up while the call was queued: it was told "not sent", so it must not be.
        if call.answer.is_closed() {
            return;
        }
        call.sent.store(true, Ordering::Release);
        if call.commands == 0 {
            let _ = call.answer.send(Ok(Vec::new()));
            return;
        }
        self.unwritten.extend_from_slice(&call.bytes);
        self.pending.push_back(Pending {
            remaining: call.commands,
            values: Vec::new(),
            answer: call.answer,
        });
    }

    fn write(&mut self) -> Result<(), LinkError> {
        while !self.unwritten.is_empty() {
            match self.stream.try_write(&self.unwritten) {
                Ok(written) => {
                    self.unwritten.drain(..written);
                }
                Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => return Ok(()),
                Err(error) => return Err(LinkError::from_io(&error, true)),
            }
        }
        Ok(())
    }

    fn received(&mut self, bytes: &[u8]) -> Result<(), LinkError> {
        self.decoder.feed(bytes);
        while let Some(value) = self.decoder.next_value()? {
            self.deliver(value)?;
        }
        Ok(())
    }

    fn deliver(&mut self, value: Value) -> Result<(), LinkError> {
        // Nothing here subscribes, so a push is no answer.
        if matches!(value, Value::Push(_)) {
            return Ok(());
        }
        let Some(front) = self.pending.front_mut() else {
            // The server's farewell, such as `-ERR max number of clients reached`, is an answer to nothing as well.
            return Err(LinkError::Protocol(ProtocolError::Unasked));
        };
        front.values.push(value);
        front.remaining -= 1;
        if front.remaining == 0
            && let Some(done) = self.pending.pop_front()
        {
            let _ = done.answer.send(Ok(done.values));
        }
        Ok(())
    }
}
