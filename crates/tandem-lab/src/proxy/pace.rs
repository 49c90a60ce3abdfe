//! Requests at a steady average rate that waits for nobody, and how long each took.
//!
//! The moments are drawn beforehand (exponential gaps, as of many independent clients), and an answer's time counts from
//! the moment at which its request was due, not from when it was sent: a generator that waits for a slow answer before
//! it asks again would leave out exactly the requests that had to wait.

use std::collections::VecDeque;
use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::num::NonZeroU64;
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use hdrhistogram::Histogram;
use rustix::buffer::spare_capacity;
use rustix::event::{Timespec, epoll};

use crate::chance::Chance;
use crate::ns::Host;
use crate::resp::encode;

/// Ten seconds in nanoseconds: longer than any answer may take.
const LONGEST_NS: u64 = 10_000_000_000;
/// After the last request, answers are awaited for this long.
const PATIENCE: Duration = Duration::from_secs(5);

/// What is asked, and how often.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Where to.
    pub to: SocketAddr,
    /// Connections over which requests are dealt in turn.
    pub connections: usize,
    /// Requests per second on average.
    pub rate: f64,
    /// How long requests are sent.
    pub span: Duration,
    /// Keys `key:0` to this: half of the requests are SET, half GET.
    pub keys: usize,
    /// Length of values.
    pub value_bytes: usize,
    /// Chance begins here.
    pub seed: u64,
}

/// Runs the load from a host and returns the times of all answers, in nanoseconds.
///
/// # Errors
/// When a connection fails, an answer is an error, or answers are missing in the end.
pub fn run(host: &Host, settings: &Settings) -> anyhow::Result<Histogram<u64>> {
    host.enter(|| {
        // The kernel lets a sleep end 50 µs late by default, which is as long as what is measured.
        rustix::thread::set_current_timer_slack(NonZeroU64::new(1))?;
        Load::connect(settings)?.run(settings)
    })?
}

/// One connection.
struct Lane {
    stream: TcpStream,
    /// When each unanswered request was due.
    due: VecDeque<Instant>,
    input: Vec<u8>,
}

struct Load {
    epoll: OwnedFd,
    lanes: Vec<Lane>,
    times: Histogram<u64>,
}

impl Load {
    fn connect(settings: &Settings) -> anyhow::Result<Self> {
        let epoll = epoll::create(epoll::CreateFlags::CLOEXEC)?;
        let mut lanes = Vec::new();
        for number in 0..settings.connections {
            let stream = TcpStream::connect(settings.to).context("connecting")?;
            stream.set_nodelay(true)?;
            stream.set_nonblocking(true)?;
            let data = epoll::EventData::new_u64(number as u64);
            epoll::add(&epoll, &stream, data, epoll::EventFlags::IN)?;
            lanes.push(Lane {
                stream,
                due: VecDeque::new(),
                input: Vec::new(),
            });
        }
        Ok(Self {
            epoll,
            lanes,
            times: Histogram::new_with_max(LONGEST_NS, 3)
                .expect("the bounds are constants that it takes"),
        })
    }

    fn run(mut self, settings: &Settings) -> anyhow::Result<Histogram<u64>> {
        let mut chance = Chance::new(settings.seed);
        let value = "v".repeat(settings.value_bytes);
        let begun = Instant::now();
        let end = begun + settings.span;
        let mut next = begun;
        let mut sent = 0_usize;
        while next < end {
            let now = Instant::now();
            if now < next {
                self.listen(next - now)?;
                continue;
            }
            let key = format!("key:{}", chance.below(settings.keys));
            let request = if sent.is_multiple_of(2) {
                encode(&["SET", &key, &value])
            } else {
                encode(&["GET", &key])
            };
            let lane = &mut self.lanes[sent % settings.connections];
            // A request of this size always finds room, or the other side has stopped reading for good.
            lane.stream.write_all(&request).context("sending")?;
            lane.due.push_back(next);
            sent += 1;
            let gap = -chance.share().ln() / settings.rate;
            next += Duration::from_secs_f64(gap);
        }
        let last = Instant::now() + PATIENCE;
        while self.times.len() < sent as u64 {
            let left = last.saturating_duration_since(Instant::now());
            ensure!(
                !left.is_zero(),
                "{} of {sent} requests were answered",
                self.times.len()
            );
            self.listen(left)?;
        }
        Ok(self.times)
    }

    /// Reads what comes within some time, and returns after the first of it.
    fn listen(&mut self, bound: Duration) -> anyhow::Result<()> {
        let mut events = Vec::with_capacity(64);
        let bound = Timespec::try_from(bound).context("a wait")?;
        match epoll::wait(&self.epoll, spare_capacity(&mut events), Some(&bound)) {
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
        for event in events {
            let lane = usize::try_from(event.data.u64()).context("a lane's number")?;
            self.lanes[lane].receive(&mut self.times)?;
        }
        Ok(())
    }
}

impl Lane {
    fn receive(&mut self, times: &mut Histogram<u64>) -> anyhow::Result<()> {
        let mut buffer = [0; 16384];
        match self.stream.read(&mut buffer) {
            Ok(0) => return Err(io::Error::from(io::ErrorKind::UnexpectedEof).into()),
            Ok(count) => self.input.extend_from_slice(&buffer[..count]),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
            Err(error) => return Err(error.into()),
        }
        let now = Instant::now();
        let mut at = 0;
        while let Some(length) = answer(&self.input[at..])? {
            at += length;
            let due = self
                .due
                .pop_front()
                .context("an answer that nobody asked for")?;
            let late = now.saturating_duration_since(due).as_nanos();
            times.saturating_record(u64::try_from(late).unwrap_or(u64::MAX));
        }
        self.input.drain(..at);
        Ok(())
    }
}

/// The length of the answer at the beginning, if it is whole: `+OK`, or a bulk string or nil.
fn answer(bytes: &[u8]) -> anyhow::Result<Option<usize>> {
    let Some(end) = bytes.windows(2).position(|two| two == b"\r\n") else {
        return Ok(None);
    };
    let line = String::from_utf8_lossy(&bytes[..end]);
    let whole = match line.split_at_checked(1) {
        Some(("$", "-1")) | Some(("+", _)) => end + 2,
        Some(("$", length)) => end + 4 + length.parse::<usize>().context("a length")?,
        _ => anyhow::bail!("the load was answered with {line}"),
    };
    Ok((bytes.len() >= whole).then_some(whole))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_as_long_as_it_says() {
        for (bytes, length) in [
            ("+OK\r\n", Some(5)),
            ("$-1\r\n+OK\r\n", Some(5)),
            ("$3\r\nabc\r\n+", Some(9)),
            ("$3\r\nabc\r", None),
            ("$3", None),
        ] {
            assert_eq!(answer(bytes.as_bytes()).unwrap(), length, "{bytes:?}");
        }
        assert!(answer(b"-ERR no\r\n").is_err());
        assert!(answer(b"\r\n").is_err());
    }
}
