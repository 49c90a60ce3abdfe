//! The remote fence: our keeper fences the other host's server when the daemon there is gone and the server answers.
//!
//! The order is fixed: hold back writes, wait until our replica has applied the last of them, and only then make
//! the server read-only and throw its clients out. A failure before the fence ends the pause and leaves the server
//! as it was; a failure during it is told as such, because the server may be fenced.

use std::time::Instant;

use tandem_core::ids::ReplId;
use tandem_core::info::Role;
use tandem_resp::Command;

use super::client::Link;
use super::ops::{self, OpError};
use super::raw::Target;

/// Why there is no fence, or none that is known.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum RemoteFenceError {
    /// Before the fence; the server is as it was, or its writes are held back until the deadline at most.
    #[error("not fenced, {step}: {error}")]
    Before {
        /// What failed.
        step: &'static str,
        /// How.
        error: OpError,
    },
    /// The server is no primary, or of another lineage than the local one: there is nothing here to take over.
    #[error("not fenced: {0}")]
    Unrelated(&'static str),
    /// The fence was sent; whether it holds is not known.
    #[error("fence not confirmed: {0}")]
    Unconfirmed(OpError),
}

/// Fences the server at `target`, whose replica is at `local` and holds the history `lineage`.
///
/// A server of another lineage is left alone before anything is awaited of it: a replica that reconnects to one that
/// restarted without its data becomes equal to it by losing its own.
///
/// Half of the time until `deadline` is for the offsets to become equal; the pause lasts the whole of it. Returns the
/// fenced server's offset, which the local replica has applied.
pub(crate) async fn remote_fence(
    target: &Target,
    local: &Link,
    lineage: &ReplId,
    deadline: Instant,
) -> Result<u64, RemoteFenceError> {
    let before = |step| move |error: OpError| RemoteFenceError::Before { step, error };
    let remote = Link::connect(target, deadline)
        .await
        .map_err(|error| before("connect")(error.into()))?;
    let now = Instant::now();
    let remaining = deadline.saturating_duration_since(now);
    // The pause and the offset are one pipeline: nothing can be written between them.
    let commands = [
        ops::pause_command(remaining),
        Command::from_args(&["INFO", "replication"]),
    ];
    let values = remote
        .pipeline(&commands, deadline)
        .await
        .map_err(|error| before("pause")(error.into()))?;
    ops::expect_ok("CLIENT PAUSE", values.first()).map_err(before("pause"))?;
    let caught_up = catch_up(&values, local, lineage, now + remaining / 2).await;
    if let Err(error) = caught_up {
        // If this fails too, the pause ends by itself at the deadline.
        let _ = ops::unpause(&remote, deadline).await;
        return Err(error);
    }
    let [kill_normal, kill_pubsub] = ops::kill_commands();
    let commands = [
        ops::fence_command(),
        kill_normal,
        kill_pubsub,
        // Whoever is still held back is now told READONLY, instead of waiting for the pause to end.
        Command::from_args(&["CLIENT", "UNPAUSE"]),
        Command::new("INFO"),
    ];
    let confirm = async {
        let values = remote.pipeline(&commands, deadline).await?;
        ops::expect_ok("REPLICAOF", values.first())?;
        for value in values.iter().skip(1).take(2) {
            ops::expect_count("CLIENT KILL", Some(value))?;
        }
        let info = ops::parse_info(values.last())?;
        ops::confirm_fenced(&info)?;
        // A pause does not hold back the server's own PINGs, so it may have gone on a little. Its replicas stay attached
        // over the fence, and what they have not read yet still comes.
        let last = info
            .slave_repl_offset
            .ok_or(OpError::NotConfirmed("INFO without offsets"))?;
        ops::wait_equal_offset(local, last, deadline).await?;
        Ok(last)
    };
    confirm.await.map_err(RemoteFenceError::Unconfirmed)
}

/// Waits until the local replica has applied what the paused server wrote.
async fn catch_up(
    values: &[tandem_resp::Value],
    local: &Link,
    lineage: &ReplId,
    deadline: Instant,
) -> Result<(), RemoteFenceError> {
    let before = |step| move |error: OpError| RemoteFenceError::Before { step, error };
    let info = ops::parse_info(values.last()).map_err(before("read its offset"))?;
    let remote =
        ops::Offsets::of(&info).ok_or(RemoteFenceError::Unrelated("its INFO has no offsets"))?;
    if remote.role != Role::Primary {
        return Err(RemoteFenceError::Unrelated("it is no primary"));
    }
    if remote.replid != lineage.0 {
        return Err(RemoteFenceError::Unrelated(
            "it is not of the lineage that the local server holds: it has restarted",
        ));
    }
    let reached = ops::wait_equal_offset(local, remote.offset, deadline)
        .await
        .map_err(before("equal offset"))?;
    if reached.replid != remote.replid || reached.role != Role::Replica {
        return Err(RemoteFenceError::Unrelated(
            "the local server is no replica of its lineage",
        ));
    }
    Ok(())
}
