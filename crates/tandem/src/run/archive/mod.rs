//! The archive: what was acknowledged here and is not in the group's history any more.
//!
//! Each entry is a folder with the data (`tail.resp`, commands as the server sent them to its replicas, or
//! `dump.rdb`) and a receipt that says what it is. The receipt is written last and synced, so an entry without
//! one was never finished and its server was not resynced.

mod receipts;

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use tandem_config::settings::ArchiveLimits;
use tandem_core::ids::{Epoch, Offset};
use tandem_core::keeper::{StepError, StepErrorKind};
use tandem_core::server::ServerView;

use self::receipts::{Contents, Entry, disk_error};
pub(crate) use self::receipts::{Kind, Receipt};
use crate::redis::client::Link;
use crate::redis::ops::{self, OpError};
use crate::redis::raw::Target;
use crate::redis::rdb::RdbReader;
use crate::redis::sink::{FileSink, SinkError};
use crate::redis::tail::{TailError, TailLimits, TailReader, is_in_backlog};

/// Left free on the disk: the journal must still fit.
const KEEP_FREE_BYTES: u64 = 64 << 20;
/// Keys named in a receipt.
const SAMPLE_KEYS: usize = 100;
/// One command to the server.
const COMMAND_WITHIN: Duration = Duration::from_secs(1);

/// The archive of one group.
#[derive(Debug, Clone)]
pub(crate) struct Archive {
    dir: PathBuf,
    group: String,
    host: String,
    limits: ArchiveLimits,
}

/// What [`Archive::save_tail`] did.
pub(crate) struct Saved {
    pub(crate) receipt: Option<Receipt>,
    pub(crate) view: ServerView,
}

impl Archive {
    /// The archive below a group's folder.
    pub(crate) fn new(group_dir: &Path, group: &str, host: &str, limits: ArchiveLimits) -> Self {
        Self {
            dir: group_dir.join("archive"),
            group: group.to_owned(),
            host: host.to_owned(),
            limits,
        }
    }

    /// Takes reloaded limits.
    pub(crate) fn set_limits(&mut self, limits: ArchiveLimits) {
        self.limits = limits;
    }

    /// Behind a closed front: pauses writes, reads the stream after `from` into a file, fences (rule 20).
    pub(crate) async fn save_tail(
        &self,
        link: &Link,
        target: &Target,
        from: Offset,
        epoch: &Epoch,
        deadline: Instant,
    ) -> Result<Saved, StepError> {
        let info = open_for_reading(link, deadline).await?;
        let replid = info.master_replid.clone().unwrap_or_default();
        // A server that was fenced before has a new name since; its earlier one covers the tail too.
        let known_as = if is_in_backlog(&info, &replid, from.0) {
            replid
        } else {
            let earlier = info.master_replid2.clone().unwrap_or_default();
            if !is_in_backlog(&info, &earlier, from.0) {
                return Err(StepError {
                    kind: StepErrorKind::TailGone,
                    text: format!(
                        "the backlog begins at {}, the fork is at {from}",
                        info.backlog_first_byte_offset
                    ),
                });
            }
            earlier
        };
        let to = Offset(info.master_repl_offset.unwrap_or(from.0));
        let mut reader = TailReader::open(target, &known_as, from.0, deadline)
            .await
            .map_err(tail_error)?;
        let (entry, file) = Entry::begin(self, epoch, Kind::Tail)?;
        let limits = TailLimits {
            max_bytes: to.ahead_of(from).saturating_add(1 << 20),
            sample_keys: SAMPLE_KEYS,
        };
        let tail = reader
            .save(to.0, FileSink::new(file, KEEP_FREE_BYTES), limits, deadline)
            .await
            .map_err(tail_error)?;
        // Saved before the fence: Redis 6.2 drops its readers there, later ones keep them.
        let view = fence(link, deadline).await?;
        if tail.commands == 0 {
            return Ok(Saved {
                receipt: None,
                view,
            });
        }
        let receipt = entry.finish(Contents {
            why: "both hosts wrote; these commands are only here".to_owned(),
            lineage: known_as,
            from,
            to: Offset(tail.to),
            commands: tail.commands,
            bytes: tail.client_bytes,
            keys: tail
                .keys
                .iter()
                .map(|(_, key)| key.escape_ascii().to_string())
                .collect(),
            key_count: 0,
            first_db: info
                .databases
                .first()
                .copied()
                .filter(|_| info.databases.len() == 1),
        })?;
        Ok(Saved {
            receipt: Some(receipt),
            view,
        })
    }

    /// Counts the bytes of client commands after `from`: a side's weight in the verdict (rule 19). Deletions
    /// that expiry explains are not clients' doing.
    pub(crate) async fn measure(
        &self,
        link: &Link,
        target: &Target,
        from: Offset,
        deadline: Instant,
    ) -> Result<u64, StepError> {
        let info = ops::info(link, deadline).await.map_err(op_error)?;
        let to = Offset(info.master_repl_offset.unwrap_or(from.0));
        if to <= from {
            return Ok(0);
        }
        let replid = info.master_replid.clone().unwrap_or_default();
        if !is_in_backlog(&info, &replid, from.0) {
            return Err(StepError {
                kind: StepErrorKind::TailGone,
                text: format!(
                    "the backlog begins at {}, the fork is at {from}",
                    info.backlog_first_byte_offset
                ),
            });
        }
        let mut reader = TailReader::open(target, &replid, from.0, deadline)
            .await
            .map_err(tail_error)?;
        let path = self.dir.join("measuring.tmp");
        let file = File::create(&path).map_err(|e| disk_error(&e))?;
        let limits = TailLimits {
            max_bytes: to.ahead_of(from).saturating_add(1 << 20),
            sample_keys: 0,
        };
        let tail = reader
            .save(to.0, FileSink::new(file, KEEP_FREE_BYTES), limits, deadline)
            .await;
        let _ = fs::remove_file(&path);
        let tail = tail.map_err(tail_error)?;
        let lone = tail.lone_deletions;
        let expired = info
            .expired_keys
            .saturating_add(info.evicted_keys)
            .min(lone.commands);
        let by_expiry = lone.bytes.checked_div(lone.commands).unwrap_or(0) * expired;
        Ok(tail.client_bytes.saturating_sub(by_expiry))
    }

    /// Behind a closed front: saves everything as an RDB, then fences.
    pub(crate) async fn save_rdb(
        &self,
        link: &Link,
        target: &Target,
        epoch: &Epoch,
        why: &str,
        deadline: Instant,
    ) -> Result<Saved, StepError> {
        let info = open_for_reading(link, deadline).await?;
        let reader = RdbReader::open(target, deadline)
            .await
            .map_err(tail_error)?;
        let (entry, file) = Entry::begin(self, epoch, Kind::Rdb)?;
        let mut told = Instant::now();
        let progress = |progress: crate::redis::rdb::Progress| {
            if told.elapsed() >= Duration::from_secs(5) {
                told = Instant::now();
                tracing::info!("archiving: {progress:?}");
            }
        };
        let sink = FileSink::new(file, KEEP_FREE_BYTES);
        let snapshot = reader
            .save(sink, self.limits.max_bytes, progress, deadline)
            .await
            .map_err(tail_error)?;
        let view = fence(link, deadline).await?;
        let receipt = entry.finish(Contents {
            why: why.to_owned(),
            lineage: snapshot.replid,
            to: Offset(snapshot.offset),
            bytes: snapshot.bytes,
            key_count: info.keys,
            ..Contents::default()
        })?;
        Ok(Saved {
            receipt: Some(receipt),
            view,
        })
    }
}

/// Writes stand still and the server serves its history: a fenced one is made a primary again behind its closed
/// front and the pause, because a replica without a link serves none (rule 20).
async fn open_for_reading(
    link: &Link,
    deadline: Instant,
) -> Result<tandem_core::info::ServerInfo, StepError> {
    let pause = deadline.saturating_duration_since(Instant::now());
    ops::pause_writes(link, pause, Instant::now() + COMMAND_WITHIN)
        .await
        .map_err(op_error)?;
    let info = ops::info(link, Instant::now() + COMMAND_WITHIN)
        .await
        .map_err(op_error)?;
    if info.role == Some(tandem_core::info::Role::Primary) {
        return Ok(info);
    }
    ops::promote(link, Instant::now() + COMMAND_WITHIN)
        .await
        .map_err(op_error)
}

async fn fence(link: &Link, deadline: Instant) -> Result<ServerView, StepError> {
    let by = deadline.max(Instant::now() + COMMAND_WITHIN);
    let info = ops::fence(link, by).await.map_err(op_error)?;
    let _ = ops::kill_clients(link, by).await;
    let _ = ops::unpause(link, by).await;
    ServerView::from_info(&info).ok_or_else(|| StepError {
        kind: StepErrorKind::Broken,
        text: "INFO lacks what decisions rest on".to_owned(),
    })
}

fn tail_error(error: TailError) -> StepError {
    let kind = match &error {
        TailError::FullResyncOffered { .. } => StepErrorKind::TailGone,
        TailError::Disk(SinkError::DiskFull) | TailError::TooLarge { .. } => StepErrorKind::NoSpace,
        TailError::Link(_) | TailError::Disk(_) => StepErrorKind::Broken,
        TailError::NoMasterLink | TailError::Refused { .. } | TailError::Stream(_) => {
            StepErrorKind::Refused
        }
    };
    StepError {
        kind,
        text: error.to_string(),
    }
}

/// A failed operation as the keeper sees it.
pub(crate) fn op_error(error: OpError) -> StepError {
    let kind = if error.is_retry_safe() {
        StepErrorKind::Refused
    } else {
        match &error {
            OpError::Link(crate::redis::error::LinkError::TimedOut { .. }) => {
                StepErrorKind::TimedOut
            }
            OpError::Link(_)
            | OpError::Refused { .. }
            | OpError::NotConfirmed(_)
            | OpError::NotReached { .. } => StepErrorKind::Broken,
        }
    };
    StepError {
        kind,
        text: error.to_string(),
    }
}
