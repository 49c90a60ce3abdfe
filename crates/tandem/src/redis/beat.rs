//! The thread that asks while a connection rests: three system calls a period and hardly any code between them.
//!
//! An idle daemon does little else than to ask its server 33 times a second whether it lives, and each time finds its caches cold,
//! because its processor has slept. What that costs is what is touched: the way through the runtime to a task and back
//! costs a third of all. So the thread sleeps, reads what lies there and sends the next PING. Whatever it does not expect it hands
//! back with the connection. That the connection ends is noticed by its task, which calls it back.

use std::io::{self, Read as _, Write as _};
use std::net::TcpStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread;
use std::time::Instant;

use tokio::sync::oneshot;

use super::rest::{Asked, Beside, Question, Resting};

/// More than is expected as an answer; the rest stays where it is for the connection.
const READ_BYTES: usize = 1024;
const STACK_BYTES: usize = 128 * 1024;

const PING: &[u8] = b"*1\r\n$4\r\nPING\r\n";
const PING_ROLE: &[u8] = b"*1\r\n$4\r\nPING\r\n*1\r\n$4\r\nROLE\r\n";
const PING_INFO: &[u8] = b"*1\r\n$4\r\nPING\r\n*1\r\n$4\r\nINFO\r\n";

/// What comes back with the connection.
#[derive(Debug)]
pub(super) struct Back {
    pub(super) resting: Resting,
    pub(super) why: Why,
    /// Asked, and not answered by what was read before.
    pub(super) questions: Vec<Question>,
    /// Read, and not understood.
    pub(super) unread: Vec<u8>,
    /// What the socket did not take of the questions.
    pub(super) unsent: &'static [u8],
}

/// Why it comes back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Why {
    /// It was called back, nobody wants it any more, or something else than usual was answered.
    Called,
    /// A period has passed without an answer.
    Missing,
}

#[derive(Debug)]
struct Job {
    resting: Resting,
    back: oneshot::Sender<Back>,
}

/// The thread of one connection. It ends with this handle.
#[derive(Debug)]
pub(super) struct Beater {
    jobs: SyncSender<Job>,
    thread: thread::Thread,
    called: Arc<AtomicBool>,
    away: Option<oneshot::Receiver<Back>>,
}

impl Beater {
    /// Starts the thread, which waits until there is a rest.
    pub(super) fn start(stream: &TcpStream) -> io::Result<Self> {
        let called = Arc::new(AtomicBool::new(false));
        // One rest at a time.
        let (jobs, queue) = sync_channel(1);
        let asker = Asker {
            stream: stream.try_clone()?,
            called: called.clone(),
        };
        let thread = thread::Builder::new()
            .name("tandem-rest".to_owned())
            .stack_size(STACK_BYTES)
            .spawn(move || asker.run(&queue))?
            .thread()
            .clone();
        Ok(Self {
            jobs,
            thread,
            called,
            away: None,
        })
    }

    /// Nobody else may use the connection from now on until it is back.
    pub(super) fn begin(&mut self, resting: Resting) {
        let (back, away) = oneshot::channel();
        // The thread lives as long as this handle, and has no other.
        if self.jobs.try_send(Job { resting, back }).is_ok() {
            self.away = Some(away);
        }
    }

    /// Whether the thread has the connection.
    pub(super) fn is_away(&self) -> bool {
        self.away.is_some()
    }

    /// Waits until the connection comes back by itself. Whoever stops waiting has lost nothing.
    pub(super) async fn back(&mut self) -> Option<Back> {
        let Some(away) = &mut self.away else {
            return std::future::pending().await;
        };
        let back = away.await.ok();
        self.away = None;
        back
    }

    /// Has it back now, that is within a fraction of a millisecond.
    pub(super) async fn call_back(&mut self) -> Option<Back> {
        self.away.as_ref()?;
        self.call();
        let back = self.back().await;
        // A call for one rest does not end the next.
        self.called.store(false, Ordering::Release);
        back
    }

    fn call(&self) {
        self.called.store(true, Ordering::Release);
        self.thread.unpark();
    }
}

impl Drop for Beater {
    fn drop(&mut self) {
        self.call();
    }
}

struct Asker {
    stream: TcpStream,
    called: Arc<AtomicBool>,
}

impl Asker {
    fn run(mut self, jobs: &Receiver<Job>) {
        let mut buffer = [0; READ_BYTES];
        while let Ok(Job { resting, back }) = jobs.recv() {
            // A connection that is gone needs nothing back.
            let _ = back.send(self.rest(resting, &mut buffer));
        }
    }

    fn rest(&mut self, mut resting: Resting, buffer: &mut [u8]) -> Back {
        let mut asked: Option<(Beside, Instant)> = None;
        loop {
            let mut now = Instant::now();
            while now < resting.rest.ping_at {
                if self.called.load(Ordering::Acquire) {
                    return back(resting, Why::Called, asked);
                }
                thread::park_timeout(resting.rest.ping_at - now);
                now = Instant::now();
            }
            if let Some((beside, at)) = asked {
                match self.stream.read(buffer) {
                    Ok(length) => {
                        let answer = buffer.get(..length).unwrap_or_default();
                        if !resting.is_nothing_new(answer, beside) {
                            return Back {
                                unread: answer.to_vec(),
                                ..back(resting, Why::Called, asked)
                            };
                        }
                        resting.rest.heard.note(at);
                    }
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                        return back(resting, Why::Missing, asked);
                    }
                    // The connection finds out itself.
                    Err(_) => return back(resting, Why::Called, asked),
                }
            }
            if !resting.is_wanted() {
                return back(resting, Why::Called, None);
            }
            let beside = resting.begin_period(now);
            asked = Some((beside, now));
            let questions = match beside {
                Beside::Nothing => PING,
                Beside::Role => PING_ROLE,
                Beside::Info => PING_INFO,
            };
            let written = self.stream.write(questions).unwrap_or_default();
            if written < questions.len() {
                return Back {
                    unsent: questions.get(written..).unwrap_or_default(),
                    ..back(resting, Why::Called, asked)
                };
            }
        }
    }
}

fn back(resting: Resting, why: Why, asked: Option<(Beside, Instant)>) -> Back {
    let rest = resting.number;
    let questions = asked.into_iter().flat_map(|(beside, at)| {
        let beside = match beside {
            Beside::Nothing => None,
            Beside::Role => Some(Asked::Role),
            Beside::Info => Some(Asked::Info),
        };
        let all = std::iter::once(Asked::Ping).chain(beside);
        all.map(move |is| Question { rest, is, at })
    });
    Back {
        questions: questions.collect(),
        resting,
        why,
        unread: Vec::new(),
        unsent: &[],
    }
}
