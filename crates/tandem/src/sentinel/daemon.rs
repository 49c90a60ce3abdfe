//! Asks the tandem daemon on a server's host (`tandem_core::sentinel::daemon`), on a connection of its own.
//!
//! Most hosts have none: a connection that is refused, or anything that answers like no daemon, says so at once.

use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use tandem_core::sentinel::daemon::{About, Answer, question};
use tandem_core::sentinel::io::Word;
use tandem_core::sentinel::tail::ARCHIVE_WITHIN;
use tandem_core::sentinel::{Endpoint, Input};
use tandem_resp::Command;
use tokio::sync::mpsc;
use tokio::time::{sleep, timeout};

use crate::redis::raw::{RawConnection, Target};

/// A host that does not even refuse keeps a resync from beginning no longer than this.
const CONNECT_WITHIN: Duration = Duration::from_millis(500);
/// One answer; a daemon that is at work says so at once.
const ANSWER_WITHIN: Duration = Duration::from_secs(1);
/// A death that is not proved by then is found by other means.
const LIFE_WITHIN: Duration = Duration::from_secs(1);
/// Between two questions while it is at work.
const AGAIN: Duration = Duration::from_millis(50);

/// Where daemons listen, and where to ask them from.
#[derive(Clone, Copy, Debug)]
pub(super) struct Daemons {
    /// `# tandem: daemon-port`.
    pub(super) port: u16,
    /// `bind-source-addr`.
    pub(super) source: Option<IpAddr>,
}

impl Daemons {
    /// Asks about a server. [`Input::Witness`] follows, as [`tandem_core::sentinel::Output::AskDaemon`] promises.
    pub(super) fn ask(self, server: Endpoint, about: About, inputs: mpsc::Sender<Input>) {
        tokio::task::spawn_local(async move {
            let bound = match about {
                About::Life => LIFE_WITHIN,
                About::Tail => ARCHIVE_WITHIN,
            };
            let answer = match timeout(bound, self.answer(&server, about)).await {
                Ok(answer) => answer,
                Err(_) => Err("its host's daemon is not done in time".to_owned()),
            };
            let word = match (answer, about) {
                (Ok(word), _) => word,
                (Err(why), About::Tail) => Word::Unarchived(why),
                (Err(_), About::Life) => return,
            };
            // The loop may have ended.
            let _ = inputs.send(Input::Witness { server, word }).await;
        });
    }

    async fn answer(self, server: &Endpoint, about: About) -> Result<Word, String> {
        let no_daemon =
            |why: &dyn std::fmt::Display| format!("no tandem daemon on its host: {why}");
        let looked_up = tokio::net::lookup_host((server.host.as_str(), self.port)).await;
        let daemon = looked_up
            .map_err(|error| no_daemon(&error))?
            .next()
            .ok_or_else(|| no_daemon(&"it has no address"))?;
        let target = Target {
            source: self.source.filter(|at| at.is_ipv4() == daemon.is_ipv4()),
            ..Target::new(daemon)
        };
        let mut connection = RawConnection::open(&target, Instant::now() + CONNECT_WITHIN)
            .await
            .map_err(|error| no_daemon(&error))?;
        // A daemon knows its server by its address.
        let server = SocketAddr::new(daemon.ip(), server.port);
        let server = Endpoint::new(server.ip().to_string(), server.port());
        let words = Command::from_args(&question(about, &server));
        loop {
            let value = connection
                .ask(&words, Instant::now() + ANSWER_WITHIN)
                .await
                .map_err(|error| no_daemon(&error))?;
            match Answer::read(&value) {
                Some(Answer::Word(word)) => return Ok(word),
                Some(Answer::Wait(_)) => sleep(AGAIN).await,
                None => return Err(no_daemon(&"what listens there is none")),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::TcpListener;
    use tokio::task::LocalSet;

    use super::*;

    async fn asked(daemons: Daemons, about: About) -> Option<Word> {
        let (inputs, mut heard) = mpsc::channel(1);
        daemons.ask(Endpoint::new("127.0.0.1", 6379), about, inputs);
        match heard.recv().await {
            Some(Input::Witness { server, word }) => {
                assert_eq!(server, Endpoint::new("127.0.0.1", 6379));
                Some(word)
            }
            Some(other) => panic!("{other:?}"),
            None => None,
        }
    }

    /// Answers each question with the next of these.
    fn answering(listener: TcpListener, answers: Vec<Vec<u8>>) {
        tokio::task::spawn_local(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            for answer in answers {
                let mut bytes = vec![0; 1024];
                let read = stream.read(&mut bytes).await.unwrap();
                assert!(String::from_utf8_lossy(&bytes[..read]).contains("127.0.0.1"));
                stream.write_all(&answer).await.unwrap();
            }
        });
    }

    async fn listening() -> (TcpListener, Daemons) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        (listener, Daemons { port, source: None })
    }

    #[tokio::test]
    async fn a_daemon_is_waited_for_and_nobody_is_not() {
        LocalSet::new()
            .run_until(async {
                let (listener, daemons) = listening().await;
                let wait = b"*2\r\n$4\r\nwait\r\n$7\r\nreading\r\n".to_vec();
                let done = b"*2\r\n$8\r\narchived\r\n$8\r\n97 bytes\r\n".to_vec();
                answering(listener, vec![wait.clone(), wait, done]);
                let word = asked(daemons, About::Tail).await;
                assert_eq!(word, Some(Word::Archived("97 bytes".to_owned())));
                // The listener went with its one connection.
                let word = asked(daemons, About::Tail).await;
                assert!(matches!(word, Some(Word::Unarchived(_))), "{word:?}");
                assert_eq!(asked(daemons, About::Life).await, None);
            })
            .await;
    }

    #[tokio::test]
    async fn a_sentinel_at_that_port_is_no_daemon() {
        LocalSet::new()
            .run_until(async {
                let (listener, daemons) = listening().await;
                answering(
                    listener,
                    vec![b"-ERR unknown subcommand 'TANDEM'\r\n".to_vec()],
                );
                let Some(Word::Unarchived(why)) = asked(daemons, About::Tail).await else {
                    panic!("a sentinel was taken for a daemon");
                };
                assert!(why.contains("is none"), "{why}");
            })
            .await;
    }
}
