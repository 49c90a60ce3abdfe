//! History: one line per event, in the log and in a file that `tandem history` reads.

use std::fs::{self, OpenOptions};
use std::io::Write as _;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
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

/// Writes events to the log and to the group's history.
#[derive(Debug)]
pub(crate) struct Events {
    group: String,
    path: PathBuf,
}

impl Events {
    /// The events of a group.
    pub(crate) fn new(group: &str, group_dir: &Path) -> Self {
        Self {
            group: group.to_owned(),
            path: path(group_dir),
        }
    }

    /// Tells one event.
    pub(crate) fn tell(&self, event: &Event) {
        let severity = match event.severity {
            Severity::Info => "info",
            Severity::Warning => "warning",
            Severity::Alarm => "alarm",
        };
        let (group, epoch, name, text) = (&self.group, &event.epoch, event.name, &event.text);
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
            text: text.clone(),
        };
        if let Err(error) = self.append(&line) {
            tracing::warn!("history {}: {error}", self.path.display());
        }
    }

    fn append(&self, line: &Line) -> std::io::Result<()> {
        if fs::metadata(&self.path).is_ok_and(|meta| meta.len() > FILE_BYTES_MAX) {
            fs::rename(&self.path, self.path.with_extension("old"))?;
        }
        let mut text = serde_json::to_string(line)?;
        text.push('\n');
        OpenOptions::new()
            .create(true)
            .append(true)
            .open(&self.path)?
            .write_all(text.as_bytes())
    }
}
