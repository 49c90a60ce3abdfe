//! The steps that the keeper orders, each one bounded by a deadline and confirmed by the server's own INFO.
//!
//! A step answers what the server is afterwards, not what it was told. A confirmation travels in the same pipeline as the
//! command, so nothing of ours runs between them. Order and meaning of the steps (`pair-rules.md` in the project's notes
//! calls them rules 2, 10 and 13) are the keeper's.
//!
//! The one surprising thing: `REPLICAOF NO ONE` answers OK also on a replica in the middle of its first sync, and
//! makes an empty primary. Whoever promotes has checked eligibility before.

use std::time::{Duration, Instant};

use tandem_core::answer::AnswerClass;
use tandem_core::info::{Role, ServerInfo, Version};
use tandem_resp::{Command, Value};

use super::client::Link;
use super::error::LinkError;
use super::raw::Credentials;

/// Where a fenced server looks for its primary: nobody listens on port 1 of the loopback.
pub(crate) const FENCE_HOST: &str = "127.0.0.1";
/// See [`FENCE_HOST`].
pub(crate) const FENCE_PORT: u16 = 1;

/// The oldest server with `CLIENT PAUSE ... WRITE`.
pub(crate) const OLDEST_VERSION: Version = Version {
    major: 6,
    minor: 2,
    patch: 0,
};

/// Why a step was not done, or is not known to be done.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum OpError {
    /// The connection failed.
    #[error(transparent)]
    Link(#[from] LinkError),
    /// The server refused the command.
    #[error("{command}: {text}")]
    Refused {
        /// Which command.
        command: &'static str,
        /// What kind of refusal.
        class: AnswerClass,
        /// The server's words.
        text: String,
    },
    /// The server accepted the command, and its INFO shows another state.
    #[error("not confirmed: {0}")]
    NotConfirmed(&'static str),
    /// The offset was not reached before the deadline.
    #[error("offset {wanted} not reached, stands at {reached}")]
    NotReached {
        /// The offset waited for.
        wanted: u64,
        /// Where it stood at last.
        reached: u64,
    },
}

impl OpError {
    /// Whether the step certainly changed nothing.
    pub(crate) fn is_retry_safe(&self) -> bool {
        match self {
            Self::Link(error) => error.is_retry_safe(),
            Self::Refused { .. } | Self::NotReached { .. } => true,
            Self::NotConfirmed(_) => false,
        }
    }
}

/// Where a server stands in the history of its data.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Offsets {
    /// Its role.
    pub(crate) role: Role,
    /// The lineage.
    pub(crate) replid: String,
    /// The end of the history that it holds: written by a primary, applied by a replica.
    pub(crate) offset: u64,
    /// Replica: what it has read but perhaps not applied.
    pub(crate) read: Option<u64>,
}

impl Offsets {
    /// Takes the offsets out of INFO; `None` if it lacks one.
    pub(crate) fn of(info: &ServerInfo) -> Option<Self> {
        let role = info.role?;
        let offset = match role {
            Role::Primary => info.master_repl_offset?,
            Role::Replica => info.slave_repl_offset?,
        };
        Some(Self {
            role,
            replid: info.master_replid.clone()?,
            offset,
            read: info.slave_read_repl_offset,
        })
    }
}

/// Reads INFO whole.
pub(crate) async fn info(link: &Link, deadline: Instant) -> Result<ServerInfo, OpError> {
    let values = link.pipeline(&[Command::new("INFO")], deadline).await?;
    parse_info(values.last())
}

/// Reads INFO whole, and asks something else in the same pipeline, so that nothing of ours runs between them.
pub(crate) async fn info_and(
    link: &Link,
    question: Command,
    deadline: Instant,
) -> Result<(ServerInfo, Value), OpError> {
    let mut values = link
        .pipeline(&[Command::new("INFO"), question], deadline)
        .await?;
    let answer = values.pop().unwrap_or(Value::Null);
    Ok((parse_info(values.last())?, answer))
}

/// Reads the offsets.
pub(crate) async fn read_offsets(link: &Link, deadline: Instant) -> Result<Offsets, OpError> {
    let values = link
        .pipeline(&[Command::new("INFO").arg("replication")], deadline)
        .await?;
    Offsets::of(&parse_info(values.last())?).ok_or(OpError::NotConfirmed("INFO without offsets"))
}

/// Makes the server a primary. The caller has checked that it may be one.
pub(crate) async fn promote(link: &Link, deadline: Instant) -> Result<ServerInfo, OpError> {
    let commands = [
        Command::from_args(&["REPLICAOF", "NO", "ONE"]),
        Command::new("INFO"),
    ];
    let values = link.pipeline(&commands, deadline).await?;
    expect_ok("REPLICAOF", values.first())?;
    let info = parse_info(values.last())?;
    if info.role != Some(Role::Primary) {
        return Err(OpError::NotConfirmed("role is not master"));
    }
    Ok(info)
}

/// Makes the server a replica of nobody: read-only at once, data and lineage kept, a partial resync still possible.
pub(crate) async fn fence(link: &Link, deadline: Instant) -> Result<ServerInfo, OpError> {
    let commands = [fence_command(), Command::new("INFO")];
    let values = link.pipeline(&commands, deadline).await?;
    expect_ok("REPLICAOF", values.first())?;
    let info = parse_info(values.last())?;
    confirm_fenced(&info)?;
    Ok(info)
}

pub(super) fn fence_command() -> Command {
    Command::new("REPLICAOF").arg(FENCE_HOST).number(FENCE_PORT)
}

/// A fence holds only on a replica that refuses writes.
pub(super) fn confirm_fenced(info: &ServerInfo) -> Result<(), OpError> {
    if !is_fenced(info) {
        return Err(OpError::NotConfirmed("not a replica of nobody"));
    }
    if info.replica_read_only != Some(true) {
        return Err(OpError::NotConfirmed(
            "replica-read-only is off: the fence is void",
        ));
    }
    Ok(())
}

/// Whether a server is a replica of nobody.
pub(crate) fn is_fenced(info: &ServerInfo) -> bool {
    info.role == Some(Role::Replica)
        && info.master_host.as_deref() == Some(FENCE_HOST)
        && info.master_port == Some(FENCE_PORT)
}

/// Makes the server a replica of another. Credentials for that one are set before, in the same pipeline, so that the
/// first attempt to connect already has them. The link need not be up when this returns.
pub(crate) async fn attach(
    link: &Link,
    host: &str,
    port: u16,
    credentials: Option<&Credentials>,
    deadline: Instant,
) -> Result<ServerInfo, OpError> {
    let mut commands = Vec::new();
    if let Some(credentials) = credentials {
        let set = |name: &str, value: &[u8]| Command::new("CONFIG").arg("SET").arg(name).arg(value);
        let user = credentials.user.as_deref().unwrap_or_default();
        let settings = [
            set("masteruser", user),
            set("masterauth", &credentials.password),
        ];
        // Sent apart from REPLICAOF: without its password the server would be turned away for ever.
        let values = link.pipeline(&settings, deadline).await?;
        for value in &values {
            expect_ok("CONFIG SET", Some(value))?;
        }
    }
    commands.push(Command::new("REPLICAOF").arg(host).number(port));
    commands.push(Command::new("INFO"));
    let values = link.pipeline(&commands, deadline).await?;
    expect_ok("REPLICAOF", values.first())?;
    let info = parse_info(values.last())?;
    let attached = info.role == Some(Role::Replica)
        && info.master_host.as_deref() == Some(host)
        && info.master_port == Some(port);
    if !attached {
        return Err(OpError::NotConfirmed("not a replica of the server named"));
    }
    Ok(info)
}

/// Holds back writes, expiry and eviction for a time, so that the offset stands still. A second call can only
/// make it longer.
pub(crate) async fn pause_writes(
    link: &Link,
    time: Duration,
    deadline: Instant,
) -> Result<(), OpError> {
    let values = link.pipeline(&[pause_command(time)], deadline).await?;
    expect_ok("CLIENT PAUSE", values.first())
}

pub(super) fn pause_command(time: Duration) -> Command {
    let millis = u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
    Command::from_args(&["CLIENT", "PAUSE"])
        .number(millis)
        .arg("WRITE")
}

/// Ends a pause; no error if there is none.
pub(crate) async fn unpause(link: &Link, deadline: Instant) -> Result<(), OpError> {
    let values = link
        .pipeline(&[Command::from_args(&["CLIENT", "UNPAUSE"])], deadline)
        .await?;
    expect_ok("CLIENT UNPAUSE", values.first())
}

pub(super) fn kill_commands() -> [Command; 2] {
    ["normal", "pubsub"]
        .map(|kind| Command::from_args(&["CLIENT", "KILL", "TYPE", kind, "SKIPME", "yes"]))
}

/// Closes the connections of all clients but this one, other links of ours among them.
///
/// # Returns
/// How many were closed.
pub(crate) async fn kill_clients(link: &Link, deadline: Instant) -> Result<u64, OpError> {
    let values = link.pipeline(&kill_commands(), deadline).await?;
    let mut killed = 0;
    for value in &values {
        killed += expect_count("CLIENT KILL", Some(value))?;
    }
    Ok(killed)
}

/// Asks again so soon while an offset is waited for, and at the latest after the second bound.
const POLL_BOUNDS: (Duration, Duration) = (Duration::from_millis(1), Duration::from_millis(20));

/// Waits until the server has applied an offset.
pub(crate) async fn wait_equal_offset(
    link: &Link,
    wanted: u64,
    deadline: Instant,
) -> Result<Offsets, OpError> {
    let (mut pause, longest) = POLL_BOUNDS;
    let mut reached = 0;
    loop {
        match read_offsets(link, deadline).await {
            Ok(offsets) if offsets.offset >= wanted => return Ok(offsets),
            Ok(offsets) => reached = offsets.offset,
            Err(OpError::Link(LinkError::TimedOut { .. })) => {
                return Err(OpError::NotReached { wanted, reached });
            }
            Err(error) => return Err(error),
        }
        if Instant::now() + pause >= deadline {
            return Err(OpError::NotReached { wanted, reached });
        }
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(longest);
    }
}

pub(super) fn parse_info(value: Option<&Value>) -> Result<ServerInfo, OpError> {
    let value = value.ok_or(OpError::NotConfirmed("no answer to INFO"))?;
    refuse_error("INFO", value)?;
    let text = value
        .as_bytes()
        .ok_or(OpError::NotConfirmed("INFO is no text"))?;
    Ok(ServerInfo::parse(&String::from_utf8_lossy(text)))
}

/// `REPLICAOF` may answer `OK Already connected to specified master`.
pub(super) fn expect_ok(command: &'static str, value: Option<&Value>) -> Result<(), OpError> {
    let value = value.ok_or(OpError::NotConfirmed("no answer"))?;
    refuse_error(command, value)?;
    match value.as_bytes() {
        Some(text) if text.starts_with(b"OK") => Ok(()),
        Some(_) | None => Err(OpError::NotConfirmed("the answer is not OK")),
    }
}

pub(super) fn expect_count(command: &'static str, value: Option<&Value>) -> Result<u64, OpError> {
    let value = value.ok_or(OpError::NotConfirmed("no answer"))?;
    refuse_error(command, value)?;
    value
        .as_integer()
        .and_then(|count| count.try_into().ok())
        .ok_or(OpError::NotConfirmed("the answer is no count"))
}

fn refuse_error(command: &'static str, value: &Value) -> Result<(), OpError> {
    match value.as_error() {
        None => Ok(()),
        Some(text) => Err(OpError::Refused {
            command,
            class: AnswerClass::of_error(text),
            text: String::from_utf8_lossy(text).into_owned(),
        }),
    }
}
