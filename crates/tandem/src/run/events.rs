//! History: one line per event, in the log and in a file that `tandem history` reads.

use std::fs::{self, OpenOptions};
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{SyncSender, sync_channel};

use serde::{Deserialize, Serialize};
use tandem_config::settings::Group;
use tandem_core::keeper::{Event, Severity};

/// Beyond this the file is set aside once; so at most twice this is kept.
const FILE_BYTES_MAX: u64 = 1 << 20;

/// One line of history.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Line {
    /// When, RFC 3339.
    pub(crate) time: String,
    /// The epoch it belongs to.
    pub(crate) epoch: String,
    /// Its stable name.
    pub(crate) name: String,
    /// `info`, `warning` or `alarm`.
    pub(crate) severity: String,
    /// In words.
    pub(crate) text: String,
}

/// Where the history of a group is.
pub(crate) fn path(group_dir: &Path) -> PathBuf {
    group_dir.join("history.jsonl")
}

/// Lines waiting for the disk. Beyond it history has a gap, which the log names; the loop never waits for a disk.
const WAITING_MAX: usize = 256;

/// Writes events to the log and to the group's history. A thread does the writing: a write that the file system holds up
/// for half a second would look like a frozen daemon, and be treated as one.
#[derive(Debug)]
pub(crate) struct Events {
    group: String,
    /// Which of two keepers of one group speaks.
    seat: Option<String>,
    lines: SyncSender<Line>,
}

impl Events {
    /// The events of a group.
    pub(crate) fn new(group: &str, group_dir: &Path) -> Self {
        let path = path(group_dir);
        let (lines, waiting) = sync_channel::<Line>(WAITING_MAX);
        let writer = std::thread::Builder::new()
            .name("history".to_owned())
            .spawn(move || {
                while let Ok(line) = waiting.recv() {
                    if let Err(error) = append(&path, &line) {
                        tracing::warn!("history {}: {error}", path.display());
                    }
                }
            });
        if let Err(error) = writer {
            tracing::error!("history of {group}: {error}; it will have a gap");
        }
        Self {
            group: group.to_owned(),
            seat: None,
            lines,
        }
    }

    /// The events of a keeper; two keepers of one group write one history, each with the name of its server.
    pub(crate) fn of_seat(group: &Group, group_dir: &Path) -> Self {
        Self {
            seat: group.other().map(|_| group.server.to_string()),
            ..Self::new(&group.name, group_dir)
        }
    }

    /// Tells one event.
    pub(crate) fn tell(&self, event: &Event) {
        let severity = match event.severity {
            Severity::Info => "info",
            Severity::Warning => "warning",
            Severity::Alarm => "alarm",
        };
        let text = match &self.seat {
            Some(seat) => format!("{seat}: {}", event.text),
            None => event.text.clone(),
        };
        let (group, epoch, name) = (&self.group, &event.epoch, event.name);
        match event.severity {
            Severity::Info => tracing::info!("{group} epoch {epoch} {name} {text}"),
            Severity::Warning => tracing::warn!("{group} epoch {epoch} {name} {text}"),
            Severity::Alarm => tracing::error!("{group} epoch {epoch} {name} {text}"),
        }
        let line = Line {
            time: jiff::Timestamp::now().to_string(),
            epoch: epoch.to_string(),
            name: name.to_owned(),
            severity: severity.to_owned(),
            text,
        };
        if self.lines.try_send(line).is_err() {
            tracing::error!("history of {group}: the disk is behind, this event is left out");
        }
    }
}

fn append(path: &Path, line: &Line) -> std::io::Result<()> {
    if fs::metadata(path).is_ok_and(|meta| meta.len() > FILE_BYTES_MAX) {
        fs::rename(path, path.with_extension("old"))?;
    }
    let mut text = serde_json::to_string(line)?;
    text.push('\n');
    OpenOptions::new()
        .create(true)
        .append(true)
        .open(path)?
        .write_all(text.as_bytes())
}
