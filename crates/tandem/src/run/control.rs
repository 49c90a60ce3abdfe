//! The control socket: one line of JSON in, one line of JSON out, for the command line on this host.
//!
//! Whoever may open the socket's file may command the daemon; it is readable by its owner only.

use std::io;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tandem_core::follow::FollowStatus;
use tandem_core::ids::HostId;
use tandem_core::keeper::view::GroupStatus;
use tandem_core::keeper::{Command, Reply};
use tandem_core::rules::Ruling;
use tandem_core::sentinel::daemon::{self, About};
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::oneshot;
use tokio::time::timeout;

use super::group::Event;
use super::reload::Reloader;
use super::seat::{Asked, Seat};

/// A request line is short.
const LINE_MAX: u64 = 4096;
/// A switchover answers within its own deadlines; beyond this something is broken.
const ANSWER_WITHIN: Duration = Duration::from_secs(30);
/// Commands at a time.
const CONNECTIONS_MAX: usize = 16;

/// A line from the command line.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Line {
    /// The group; every group when it is not given.
    pub(crate) group: Option<String>,
    /// What.
    pub(crate) verb: Verb,
}

/// What can be asked.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Verb {
    /// How things are.
    Status,
    /// Why they are so.
    Explain,
    /// Hand the role over.
    Switchover {
        /// To this host.
        to: Option<String>,
    },
    /// Make this host primary, whatever is lost.
    FailoverAcceptLoss,
    /// No automatic failover.
    Pause,
    /// Automatic failover.
    Resume,
    /// Begin the resync that waits.
    Resync,
    /// How this host's proxies are.
    Proxies,
    /// Read the configuration again.
    Reload {
        /// Also what moves something.
        accept: bool,
    },
}

/// For a group's loop.
pub(crate) enum Request {
    /// Look.
    Status,
    /// Explain.
    Explain,
    /// Do.
    Command(Command),
    /// A sentinel asks about this host's server.
    Witness(About),
}

/// A group's answer.
#[derive(Debug)]
pub(crate) enum Answer {
    /// How it is.
    Status(Box<GroupStatus>),
    /// How a group is that is followed.
    Follow(Box<FollowStatus>),
    /// Why.
    Explain(Vec<Ruling>),
    /// What became of a command.
    Reply(ReplyLine),
    /// What a sentinel is told of this host's server.
    Witness(daemon::Answer),
}

/// The outcome of a command, as the command line reads it.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct ReplyLine {
    /// `done`, `refused` or `failed`.
    pub(crate) outcome: String,
    /// The rule that refused.
    pub(crate) rule: Option<String>,
    /// In words.
    pub(crate) text: String,
}

impl ReplyLine {
    /// It was done; the sentence says what.
    pub(crate) fn done(text: String) -> Self {
        Self {
            outcome: "done".to_owned(),
            rule: None,
            text,
        }
    }

    /// It was tried, or could not be.
    pub(crate) fn failed(text: String) -> Self {
        Self {
            outcome: "failed".to_owned(),
            rule: None,
            text,
        }
    }
}

impl Answer {
    /// The answer for a keeper's reply.
    pub(crate) fn of(reply: &Reply) -> Self {
        Self::Reply(match reply {
            Reply::Done(text) => ReplyLine::done(text.clone()),
            Reply::Refused { rule, why } => ReplyLine {
                outcome: "refused".to_owned(),
                rule: Some(rule.clone()),
                text: why.clone(),
            },
            Reply::Failed(text) => ReplyLine::failed(text.clone()),
        })
    }

    fn json(&self) -> serde_json::Value {
        let value = match self {
            Self::Status(status) => serde_json::to_value(status),
            Self::Follow(status) => serde_json::to_value(status),
            Self::Explain(rulings) => serde_json::to_value(rulings),
            Self::Reply(line) => serde_json::to_value(line),
            // Nobody asks that on this socket.
            Self::Witness(_) => Ok(serde_json::Value::Null),
        };
        value.unwrap_or(serde_json::Value::Null)
    }
}

/// This host's proxies by name; some may come and go.
pub(crate) type Observed = Arc<Mutex<Vec<(String, tandem_proxy::server::Observer)>>>;

/// Serves until the returned guard is dropped with the daemon.
pub(crate) fn serve(
    path: &Path,
    seats: Vec<Seat>,
    reloader: Reloader,
    proxies: Observed,
) -> io::Result<tokio::task::AbortHandle> {
    if let Err(error) = std::fs::remove_file(path)
        && error.kind() != io::ErrorKind::NotFound
    {
        return Err(error);
    }
    let listener = UnixListener::bind(path)?;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600))?;
    let task = tokio::spawn(async move {
        let room = Arc::new(tokio::sync::Semaphore::new(CONNECTIONS_MAX));
        loop {
            let Ok(permit) = room.clone().acquire_owned().await else {
                return;
            };
            match listener.accept().await {
                Ok((stream, _)) => {
                    let (seats, reloader) = (seats.clone(), reloader.clone());
                    let proxies = proxies.clone();
                    tokio::spawn(async move {
                        if let Err(error) = answer(stream, &seats, &reloader, &proxies).await {
                            tracing::debug!("control: {error}");
                        }
                        drop(permit);
                    });
                }
                Err(error) => {
                    tracing::warn!("control: {error}");
                    tokio::time::sleep(Duration::from_millis(100)).await;
                }
            }
        }
    });
    Ok(task.abort_handle())
}

async fn answer(
    stream: UnixStream,
    seats: &[Seat],
    reloader: &Reloader,
    proxies: &Observed,
) -> io::Result<()> {
    let (read, mut write) = stream.into_split();
    let mut line = String::new();
    let mut reader = BufReader::new(read.take(LINE_MAX));
    timeout(Duration::from_secs(5), reader.read_line(&mut line)).await??;
    let request: Line = serde_json::from_str(&line)?;
    let mut answers = serde_json::Map::new();
    if let Verb::Reload { accept } = &request.verb {
        // The file is one for all groups.
        for (name, line) in reloader.reload(*accept).await {
            answers.insert(name, Answer::Reply(line).json());
        }
    }
    if let Verb::Proxies = &request.verb {
        let proxies = proxies.lock().unwrap_or_else(PoisonError::into_inner);
        for (name, proxy) in &*proxies {
            answers.insert(name.clone(), crate::proxy::status::value(&proxy.status()));
        }
    }
    for seat in seats {
        let Some(asked) = request_of(&request.verb) else {
            break;
        };
        match seat.asked(request.group.as_deref(), &request.verb) {
            Asked::Yes => {}
            Asked::No => continue,
            Asked::Which => {
                answers.insert(seat.group.clone(), which(&seat.name));
                continue;
            }
        }
        let (answer, answered) = oneshot::channel();
        let event = Event::Control(asked, answer);
        let value = match seat.events.send(event).await {
            Ok(()) => match timeout(ANSWER_WITHIN, answered).await {
                Ok(Ok(answer)) => answer.json(),
                Ok(Err(_)) => failed("the group's loop gave no answer"),
                Err(_) => failed("no answer in time; see tandem status"),
            },
            Err(_) => failed("the group has stopped"),
        };
        answers.insert(seat.name.clone(), value);
    }
    let mut text = serde_json::to_vec(&serde_json::Value::Object(answers))?;
    text.push(b'\n');
    write.write_all(&text).await
}

fn which(example: &str) -> serde_json::Value {
    let reply = Reply::Refused {
        rule: "failover.which".to_owned(),
        why: format!(
            "both servers of this group are here: say which one's data is to count, as --group {example}"
        ),
    };
    Answer::of(&reply).json()
}

fn failed(text: &str) -> serde_json::Value {
    serde_json::to_value(ReplyLine::failed(text.to_owned())).unwrap_or(serde_json::Value::Null)
}

/// What a verb asks of each group; nothing for one that is the whole daemon's.
fn request_of(verb: &Verb) -> Option<Request> {
    let command = match verb {
        Verb::Status => return Some(Request::Status),
        Verb::Explain => return Some(Request::Explain),
        Verb::Reload { .. } | Verb::Proxies => return None,
        Verb::Switchover { to } => Command::Switchover {
            to: to.as_ref().map(HostId::new),
        },
        Verb::FailoverAcceptLoss => Command::FailoverAcceptLoss,
        Verb::Pause => Command::Pause,
        Verb::Resume => Command::Resume,
        Verb::Resync => Command::Resync,
    };
    Some(Request::Command(command))
}
