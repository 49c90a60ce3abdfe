//! Questions to a running `tandem proxy`: one line of JSON in, one line of JSON out, as on the daemon's control socket.
//!
//! The socket is an abstract one, named after the port of the statistics: it needs no folder, leaves nothing behind and
//! belongs to the network namespace that the port belongs to. Root and the user of the process may ask.

use std::io::{self, BufRead as _, BufReader, Write as _};
use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::net::{SocketAddr, UnixListener, UnixStream};
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::Value;
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _};
use tokio::sync::{Semaphore, mpsc, oneshot};
use tokio::time::timeout;

/// A question is short.
const LINE_MAX: u64 = 1024;
/// For one conversation; a reload binds new addresses within it.
const TALK_WITHIN: Duration = Duration::from_secs(10);
/// Conversations at a time.
const TALKS_MAX: usize = 8;

/// What can be asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Question {
    /// How everything is.
    Status,
    /// Read the file again, as SIGUSR1 asks for it.
    Reload {
        /// Also if keys would be looked for elsewhere.
        accept_move: bool,
    },
}

/// A question, and where its answer goes.
#[derive(Debug)]
pub(super) struct Ask {
    pub(super) question: Question,
    pub(super) answer: oneshot::Sender<Value>,
}

fn address(stats_port: u16) -> io::Result<SocketAddr> {
    SocketAddr::from_abstract_name(format!("tandem-proxy-{stats_port}"))
}

/// Listens until the returned end is dropped. Needs a [`tokio::task::LocalSet`].
///
/// # Errors
/// Another process has the name.
pub(super) fn listen(stats_port: u16) -> io::Result<mpsc::Receiver<Ask>> {
    let listener = UnixListener::bind_addr(&address(stats_port)?)?;
    listener.set_nonblocking(true)?;
    let listener = tokio::net::UnixListener::from_std(listener)?;
    let (asks, asked) = mpsc::channel(TALKS_MAX);
    tokio::task::spawn_local(async move {
        let room = Arc::new(Semaphore::new(TALKS_MAX));
        loop {
            let Ok(permit) = Arc::clone(&room).acquire_owned().await else {
                return;
            };
            match listener.accept().await {
                Ok((stream, _)) => {
                    let asks = asks.clone();
                    tokio::task::spawn_local(async move {
                        // Whoever breaks off gets no answer.
                        let _ = timeout(TALK_WITHIN, talk(stream, asks)).await;
                        drop(permit);
                    });
                }
                // Out of descriptors, most likely: clients come first.
                Err(_) => tokio::time::sleep(Duration::from_millis(100)).await,
            }
        }
    });
    Ok(asked)
}

async fn talk(mut stream: tokio::net::UnixStream, asks: mpsc::Sender<Ask>) -> io::Result<()> {
    let who = stream.peer_cred()?.uid();
    if who != 0 && who != rustix::process::geteuid().as_raw() {
        return Err(io::ErrorKind::PermissionDenied.into());
    }
    let (read, mut write) = stream.split();
    let mut line = String::new();
    tokio::io::BufReader::new(read.take(LINE_MAX))
        .read_line(&mut line)
        .await?;
    let question = serde_json::from_str(&line)?;
    let (answer, answered) = oneshot::channel();
    let gone = |_| io::Error::from(io::ErrorKind::BrokenPipe);
    let ask = Ask { question, answer };
    asks.send(ask)
        .await
        .map_err(|_| io::Error::from(io::ErrorKind::BrokenPipe))?;
    let mut text = serde_json::to_vec(&answered.await.map_err(gone)?)?;
    text.push(b'\n');
    write.write_all(&text).await
}

/// Asks the process whose statistics are at this port.
///
/// # Errors
/// There is none, or it does not answer.
pub(crate) fn ask(stats_port: u16, question: Question) -> io::Result<Value> {
    let mut stream = UnixStream::connect_addr(&address(stats_port)?)?;
    stream.set_read_timeout(Some(TALK_WITHIN))?;
    stream.set_write_timeout(Some(TALK_WITHIN))?;
    let mut line = serde_json::to_string(&question)?;
    line.push('\n');
    stream.write_all(line.as_bytes())?;
    let mut answer = String::new();
    BufReader::new(stream).read_line(&mut answer)?;
    if answer.is_empty() {
        // It hangs up on those who may not ask.
        return Err(io::ErrorKind::PermissionDenied.into());
    }
    Ok(serde_json::from_str(&answer)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_question_is_answered() {
        let local = tokio::task::LocalSet::new();
        // No test of another process has this port.
        let port = u16::try_from(std::process::id() % 60_000).unwrap_or_default();
        local
            .run_until(async {
                let mut asked = listen(port).unwrap();
                let wanted = Question::Reload { accept_move: true };
                let asking = tokio::task::spawn_blocking(move || ask(port, wanted));
                let Ask { question, answer } = asked.recv().await.unwrap();
                assert_eq!(question, wanted);
                answer.send(serde_json::json!({"a": 1})).unwrap();
                assert_eq!(asking.await.unwrap().unwrap()["a"], 1);
                assert!(listen(port).is_err(), "the name is taken");
            })
            .await;
    }
}
