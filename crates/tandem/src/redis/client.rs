//! One persistent, pipelined connection to a server.
//!
//! A task owns the socket; [`Link`] is a handle that may be cloned. Commands are written in the order of the calls, and
//! answers are matched to them in order, as Redis promises. A caller that gives up at its deadline leaves its place
//! in the order behind, so a late answer can never be taken for another command's.
//!
//! While nothing else is to be done it can ask by itself whether the server lives ([`Link::rest`]).
//!
//! What it leaves to others: connecting again, and what silence means.

use std::collections::VecDeque;
use std::io::{self, Read as _, Write as _};
use std::net::TcpStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use tandem_resp::{Command, ReplyDecoder, Value};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::timeout_at;

use super::beat::{Back, Beater, Why};
use super::error::{LinkError, ProtocolError};
use super::raw::{READ_BYTES, RawConnection, Target};
use super::rest::{Asked, News, Noticed, Question, Rest, Resting};
use crate::linux::bell::{Bell, Wants};

/// Commands written and not answered. More wait in the queue until their deadline.
const MAX_IN_FLIGHT: usize = 128;

/// Calls that wait to be written.
const MAX_QUEUED: usize = 32;

/// Bytes waiting for the socket above which no further call is taken.
const MAX_UNWRITTEN_BYTES: usize = 256 * 1024;

/// What the handles ask of the task.
#[derive(Debug)]
enum Wish {
    Call(Call),
    Rest(Resting),
}

#[derive(Debug)]
struct Call {
    bytes: Vec<u8>,
    commands: usize,
    /// Set when the first byte may have left.
    sent: Arc<AtomicBool>,
    answer: oneshot::Sender<Result<Vec<Value>, LinkError>>,
}

/// Sent, and not answered.
#[derive(Debug)]
enum Pending {
    Call {
        remaining: usize,
        values: Vec<Value>,
        answer: oneshot::Sender<Result<Vec<Value>, LinkError>>,
    },
    /// Of a rest that was interrupted.
    Question(Question),
}

/// A handle to the connection. The connection is closed when the last one is dropped.
#[derive(Clone, Debug)]
pub(crate) struct Link {
    wishes: mpsc::Sender<Wish>,
    end: watch::Receiver<Option<LinkError>>,
}

impl Link {
    /// Connects, authenticates and starts the connection's task on the current runtime.
    pub(crate) async fn connect(target: &Target, deadline: Instant) -> Result<Self, LinkError> {
        let (stream, decoder) = RawConnection::open(target, deadline).await?.into_parts();
        let local = |error: io::Error| LinkError::from_io(&error, false);
        // Out of the runtime's hands, which would wake up for every byte; it stays as it was, without blocking.
        let stream = stream.into_std().map_err(local)?;
        let bell = Bell::at(&stream).map_err(local)?;
        let (wishes, queue) = mpsc::channel(MAX_QUEUED);
        let (end_sender, end) = watch::channel(None);
        let connection = Connection {
            stream,
            bell,
            decoder,
            buffer: vec![0; READ_BYTES],
            unwritten: Vec::new(),
            pending: VecDeque::new(),
            beater: None,
            resting: None,
            rests: 0,
            quiet: false,
        };
        tokio::spawn(connection.run(queue, end_sender));
        Ok(Self { wishes, end })
    }

    /// Sends one command, given as its arguments, and waits for the answer. An error reply is a value, not an error.
    pub(crate) async fn call<A: AsRef<[u8]>>(
        &self,
        args: &[A],
        deadline: Instant,
    ) -> Result<Value, LinkError> {
        self.ask(Command::from_args(args), deadline).await
    }

    /// Sends one command and waits for the answer.
    pub(crate) async fn ask(
        &self,
        command: Command,
        deadline: Instant,
    ) -> Result<Value, LinkError> {
        let values = self.pipeline(&[command], deadline).await?;
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
            if self.wishes.send(Wish::Call(call)).await.is_err() {
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

    /// Asks by itself until there is news; none if the connection has ended. Whoever stops waiting ends the rest.
    pub(crate) async fn rest(&self, rest: Rest) -> Option<News> {
        let (news, told) = oneshot::channel();
        let wish = Wish::Rest(Resting::new(rest, news));
        self.wishes.send(wish).await.ok()?;
        told.await.ok()
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
    bell: Bell,
    decoder: ReplyDecoder,
    buffer: Vec<u8>,
    unwritten: Vec<u8>,
    pending: VecDeque<Pending>,
    /// Has the connection while it rests; started by the first rest.
    beater: Option<Beater>,
    /// A rest that waits for the connection to have nothing else to do.
    resting: Option<Resting>,
    /// How many there were.
    rests: u64,
    /// No byte is to wake anybody. Outlasts a rest that ended with news, because the next one follows.
    quiet: bool,
}

impl Connection {
    async fn run(mut self, mut queue: mpsc::Receiver<Wish>, end: watch::Sender<Option<LinkError>>) {
        let reason = match self.serve(&mut queue).await {
            Ok(()) => LinkError::Closed { sent: false },
            Err(error) => error,
        };
        // The reason stands before any caller learns of the end; a caller that is gone does not mind.
        end.send_replace(Some(reason.clone()));
        for pending in self.pending.drain(..) {
            if let Pending::Call { answer, .. } = pending {
                let _ = answer.send(Err(reason.clone()));
            }
        }
        queue.close();
        while let Ok(wish) = queue.try_recv() {
            if let Wish::Call(call) = wish {
                let _ = call.answer.send(Err(reason.clone().unsent()));
            }
        }
    }

    /// Until no handle is left or the connection fails.
    async fn serve(&mut self, queue: &mut mpsc::Receiver<Wish>) -> Result<(), LinkError> {
        loop {
            self.hand_over();
            let wants = Wants {
                data: !self.quiet || !self.pending.is_empty(),
                room: !self.unwritten.is_empty(),
            };
            self.bell.want(&self.stream, wants).map_err(failed)?;
            let room = self.has_room();
            // All branches are cancel-safe: a wish stays in the queue, bytes and readiness stay with the socket.
            tokio::select! {
                biased;
                wish = queue.recv(), if room => match wish {
                    Some(wish) => {
                        self.call_back().await?;
                        self.fulfil(wish);
                        // What was asked in the same turn leaves in the same packet.
                        while self.has_room() && let Ok(wish) = queue.try_recv() {
                            self.fulfil(wish);
                        }
                    }
                    None => return Ok(()),
                },
                back = came_back(&mut self.beater) => self.take_back(back)?,
                rung = self.bell.rung() => {
                    rung.map_err(failed)?;
                    self.call_back().await?;
                    self.read()?;
                }
            }
            self.write()?;
        }
    }

    /// A rest begins when nothing is under way, and goes on when nothing is again.
    fn hand_over(&mut self) {
        let is_free = self.pending.is_empty() && self.unwritten.is_empty();
        let Some(resting) = self.resting.take_if(|_| is_free) else {
            return;
        };
        self.quiet = resting.is_wanted();
        if !self.quiet {
            return;
        }
        if self.beater.is_none() {
            match Beater::start(&self.stream) {
                Ok(beater) => self.beater = Some(beater),
                Err(error) => tracing::debug!("no thread for a rest: {error}"),
            }
        }
        match &mut self.beater {
            Some(beater) => beater.begin(resting),
            // Then whoever wants to rest has to ask himself.
            None => {
                self.quiet = false;
                resting.tell(Noticed::Missing);
            }
        }
    }

    async fn call_back(&mut self) -> Result<(), LinkError> {
        match &mut self.beater {
            Some(beater) if beater.is_away() => {
                let back = beater.call_back().await;
                self.take_back(back)
            }
            Some(_) | None => Ok(()),
        }
    }

    /// What was under way in a rest is waited for as calls are. None if its thread has ended, which it does not before its handle.
    fn take_back(&mut self, back: Option<Back>) -> Result<(), LinkError> {
        let back = back.ok_or(LinkError::Closed { sent: true })?;
        let questions = back.questions.into_iter().map(Pending::Question);
        self.pending.extend(questions);
        self.unwritten.extend_from_slice(back.unsent);
        match back.why {
            Why::Called => self.resting = Some(back.resting),
            Why::Missing => {
                self.quiet = false;
                back.resting.tell(Noticed::Missing);
            }
        }
        self.take_bytes(&back.unread)
    }

    fn has_room(&self) -> bool {
        self.in_flight() < MAX_IN_FLIGHT && self.unwritten.len() < MAX_UNWRITTEN_BYTES
    }

    fn in_flight(&self) -> usize {
        let commands = |pending: &Pending| match pending {
            Pending::Call { remaining, .. } => *remaining,
            Pending::Question(_) => 1,
        };
        self.pending.iter().map(commands).sum()
    }

    fn fulfil(&mut self, wish: Wish) {
        match wish {
            Wish::Call(call) => {
                self.quiet = false;
                self.take(call);
            }
            Wish::Rest(mut resting) => {
                self.rests += 1;
                resting.number = self.rests;
                self.resting = Some(resting);
            }
        }
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
        self.pending.push_back(Pending::Call {
            remaining: call.commands,
            values: Vec::new(),
            answer: call.answer,
        });
    }

    fn write(&mut self) -> Result<(), LinkError> {
        while !self.unwritten.is_empty() {
            match self.stream.write(&self.unwritten) {
                Ok(written) => {
                    self.unwritten.drain(..written);
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(failed(error)),
            }
        }
        Ok(())
    }

    /// Until the kernel has neither bytes nor an end.
    fn read(&mut self) -> Result<(), LinkError> {
        loop {
            match self.stream.read(&mut self.buffer) {
                Ok(0) => return Err(LinkError::Closed { sent: true }),
                Ok(length) => {
                    let buffer = std::mem::take(&mut self.buffer);
                    let taken = self.take_bytes(buffer.get(..length).unwrap_or_default());
                    self.buffer = buffer;
                    taken?;
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(failed(error)),
            }
        }
    }

    fn take_bytes(&mut self, bytes: &[u8]) -> Result<(), LinkError> {
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
        match self.pending.front_mut() {
            // The server's farewell, such as `-ERR max number of clients reached`, is an answer to nothing as well.
            None => return Err(LinkError::Protocol(ProtocolError::Unasked)),
            Some(Pending::Call {
                remaining, values, ..
            }) if *remaining > 1 => {
                values.push(value);
                *remaining -= 1;
                return Ok(());
            }
            Some(_) => {}
        }
        match self.pending.pop_front() {
            Some(Pending::Call {
                mut values, answer, ..
            }) => {
                values.push(value);
                let _ = answer.send(Ok(values));
            }
            Some(Pending::Question(question)) => self.noticed(question, value),
            None => {}
        }
        Ok(())
    }

    /// An answer to a question of a rest. It is lost on whoever has stopped waiting.
    fn noticed(&mut self, question: Question, value: Value) {
        let asked = |resting: &mut Resting| resting.number == question.rest;
        let Some(resting) = self.resting.take_if(asked) else {
            return;
        };
        match question.is {
            Asked::Ping if value.as_error().is_none() => {
                resting.rest.heard.note(question.at);
                self.resting = Some(resting);
            }
            Asked::Ping => resting.tell(Noticed::Odd(value, question.at)),
            Asked::Role => resting.tell(Noticed::Link),
            Asked::Info => resting.tell(Noticed::Info(value, question.at)),
        }
    }
}

async fn came_back(beater: &mut Option<Beater>) -> Option<Back> {
    match beater {
        Some(beater) => beater.back().await,
        None => std::future::pending().await,
    }
}

fn failed(error: io::Error) -> LinkError {
    LinkError::from_io(&error, true)
}
