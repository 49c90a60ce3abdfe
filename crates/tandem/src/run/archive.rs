//! The archive: what was acknowledged here and is not in the group's history any more.
//!
//! Each entry is a folder with the data (`tail.resp`, commands as the server sent them to its replicas, or
//! `dump.rdb`) and a receipt that says what it is. The receipt is written last and synced, so an entry without
//! one was never finished and its server was not resynced.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime};

use serde::{Deserialize, Serialize};
use tandem_config::settings::ArchiveLimits;
use tandem_core::ids::{Epoch, Offset};
use tandem_core::keeper::{StepError, StepErrorKind};
use tandem_core::server::ServerView;

use super::journal_file::replace;
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

/// What an entry holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Kind {
    /// The commands after the fork.
    Tail,
    /// A whole snapshot.
    Rdb,
}

/// The receipt of an entry.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Receipt {
    /// The entry's name, which is its folder's.
    pub(crate) name: String,
    /// When it was made, RFC 3339.
    pub(crate) time: String,
    /// The group.
    pub(crate) group: String,
    /// The host whose data it is.
    pub(crate) host: String,
    /// The epoch in which it was written.
    pub(crate) epoch: Epoch,
    /// Tail or snapshot.
    pub(crate) kind: Kind,
    /// Why it was made.
    pub(crate) why: String,
    /// The lineage.
    pub(crate) lineage: String,
    /// The last offset that the winner's history shares.
    pub(crate) from: Offset,
    /// The last offset saved.
    pub(crate) to: Offset,
    /// Data commands, 0 for a snapshot.
    pub(crate) commands: u64,
    /// Bytes of data commands, or of the snapshot.
    pub(crate) bytes: u64,
    /// A bounded sample of the keys that the commands touch, or how many keys the snapshot has.
    pub(crate) keys: Vec<String>,
    /// Keys in the snapshot.
    pub(crate) key_count: u64,
    /// The database in which a tail begins, as far as it is known.
    pub(crate) first_db: Option<u32>,
}

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

    /// The folder of an entry.
    pub(crate) fn entry_dir(&self, name: &str) -> PathBuf {
        self.dir.join(name)
    }

    /// All finished entries, oldest first.
    pub(crate) fn list(&self) -> io::Result<Vec<Receipt>> {
        let mut receipts = Vec::new();
        for entry in fs::read_dir(&self.dir)? {
            let path = entry?.path().join("receipt.json");
            if let Ok(bytes) = fs::read(&path)
                && let Ok(receipt) = serde_json::from_slice::<Receipt>(&bytes)
            {
                receipts.push(receipt);
            }
        }
        receipts.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(receipts)
    }

    fn begin(&self, epoch: &Epoch, kind: Kind) -> io::Result<(String, PathBuf)> {
        let stamp = jiff::Timestamp::now()
            .strftime("%Y%m%dT%H%M%S%.3f")
            .to_string();
        let word = match kind {
            Kind::Tail => "tail",
            Kind::Rdb => "rdb",
        };
        let name = format!("{stamp}-epoch{}-{word}", epoch.counter);
        let dir = self.dir.join(&name);
        fs::create_dir_all(&dir)?;
        Ok((name, dir))
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
        let (name, dir) = self.begin(epoch, Kind::Tail).map_err(|e| disk_error(&e))?;
        let path = dir.join("tail.resp");
        let file = File::create(&path).map_err(|e| disk_error(&e))?;
        let limits = TailLimits {
            max_bytes: to.ahead_of(from).saturating_add(1 << 20),
            sample_keys: SAMPLE_KEYS,
        };
        let saved = reader
            .save(to.0, FileSink::new(file, KEEP_FREE_BYTES), limits, deadline)
            .await;
        let tail = match saved {
            Ok(tail) => tail,
            Err(error) => {
                let _ = fs::remove_dir_all(&dir);
                return Err(tail_error(error));
            }
        };
        // Saved before the fence: Redis 6.2 drops its readers there, later ones keep them.
        let view = fence(link, deadline).await?;
        if tail.commands == 0 {
            let _ = fs::remove_dir_all(&dir);
            return Ok(Saved {
                receipt: None,
                view,
            });
        }
        let receipt = Receipt {
            name: name.clone(),
            time: jiff::Timestamp::now().to_string(),
            group: self.group.clone(),
            host: self.host.clone(),
            epoch: epoch.clone(),
            kind: Kind::Tail,
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
        };
        self.finish(&dir, &receipt)?;
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
        let (name, dir) = self.begin(epoch, Kind::Rdb).map_err(|e| disk_error(&e))?;
        let path = dir.join("dump.rdb");
        let file = File::create(&path).map_err(|e| disk_error(&e))?;
        let mut told = Instant::now();
        let progress = |progress: crate::redis::rdb::Progress| {
            if told.elapsed() >= Duration::from_secs(5) {
                told = Instant::now();
                tracing::info!("archiving: {progress:?}");
            }
        };
        let sink = FileSink::new(file, KEEP_FREE_BYTES);
        let saved = reader
            .save(sink, self.limits.max_bytes, progress, deadline)
            .await;
        let snapshot = match saved {
            Ok(snapshot) => snapshot,
            Err(error) => {
                let _ = fs::remove_dir_all(&dir);
                return Err(tail_error(error));
            }
        };
        let view = fence(link, deadline).await?;
        let bytes = fs::metadata(&path)
            .map(|meta| meta.len())
            .unwrap_or_default();
        let receipt = Receipt {
            name: name.clone(),
            time: jiff::Timestamp::now().to_string(),
            group: self.group.clone(),
            host: self.host.clone(),
            epoch: epoch.clone(),
            kind: Kind::Rdb,
            why: why.to_owned(),
            lineage: snapshot.replid,
            from: Offset(0),
            to: Offset(snapshot.offset),
            commands: 0,
            bytes,
            keys: Vec::new(),
            key_count: info.keys,
            first_db: None,
        };
        self.finish(&dir, &receipt)?;
        Ok(Saved {
            receipt: Some(receipt),
            view,
        })
    }

    fn finish(&self, dir: &Path, receipt: &Receipt) -> Result<(), StepError> {
        let text = serde_json::to_vec_pretty(receipt).map_err(|e| StepError {
            kind: StepErrorKind::Refused,
            text: e.to_string(),
        })?;
        replace(&dir.join("receipt.json"), &text).map_err(|e| disk_error(&e))?;
        self.prune(&receipt.name);
        Ok(())
    }

    /// Removes what is older or larger than the limits allow, oldest first, never the newest entry.
    fn prune(&self, newest: &str) {
        let Ok(receipts) = self.list() else {
            return;
        };
        let mut total: u64 = receipts.iter().map(|r| self.size_of(&r.name)).sum();
        for receipt in receipts {
            if receipt.name == newest {
                continue;
            }
            let dir = self.entry_dir(&receipt.name);
            let age = fs::metadata(dir.join("receipt.json"))
                .and_then(|meta| meta.modified())
                .ok()
                .and_then(|at| SystemTime::now().duration_since(at).ok())
                .unwrap_or_default();
            if age <= self.limits.keep && total <= self.limits.max_bytes {
                continue;
            }
            let size = self.size_of(&receipt.name);
            match fs::remove_dir_all(&dir) {
                Ok(()) => {
                    total = total.saturating_sub(size);
                    tracing::warn!(
                        "archive entry {} exceeded the limits and is gone",
                        receipt.name
                    );
                }
                Err(error) => tracing::warn!("archive entry {}: {error}", receipt.name),
            }
        }
    }

    fn size_of(&self, name: &str) -> u64 {
        let Ok(entries) = fs::read_dir(self.entry_dir(name)) else {
            return 0;
        };
        entries
            .flatten()
            .filter_map(|e| e.metadata().ok())
            .map(|meta| meta.len())
            .sum()
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

fn disk_error(error: &io::Error) -> StepError {
    StepError {
        kind: StepErrorKind::NoSpace,
        text: format!("archive: {error}"),
    }
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
