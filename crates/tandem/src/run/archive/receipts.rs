//! The entries of the archive: begun, finished by a receipt, listed, and removed when they exceed the limits.

use std::fs::{self, File};
use std::io;
use std::path::PathBuf;
use std::time::SystemTime;

use serde::{Deserialize, Serialize};
use tandem_core::ids::{Epoch, Offset};
use tandem_core::keeper::{StepError, StepErrorKind};

use super::Archive;
use crate::durable;

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

/// What a receipt says of the data besides whose it is.
#[derive(Debug, Default)]
pub(super) struct Contents {
    pub(super) why: String,
    pub(super) lineage: String,
    pub(super) from: Offset,
    pub(super) to: Offset,
    pub(super) commands: u64,
    pub(super) bytes: u64,
    pub(super) keys: Vec<String>,
    pub(super) key_count: u64,
    pub(super) first_db: Option<u32>,
}

/// An entry that is being written. Unless it is finished it goes with this value: its server was not resynced and still has
/// the data.
#[derive(Debug)]
pub(super) struct Entry<'a> {
    archive: &'a Archive,
    name: String,
    dir: PathBuf,
    epoch: Epoch,
    kind: Kind,
    finished: bool,
}

impl<'a> Entry<'a> {
    /// Makes the folder of a new entry, with the data of `epoch`, and the file for it.
    pub(super) fn begin(
        archive: &'a Archive,
        epoch: &Epoch,
        kind: Kind,
    ) -> Result<(Self, File), StepError> {
        let stamp = jiff::Timestamp::now()
            .strftime("%Y%m%dT%H%M%S%.3f")
            .to_string();
        let (word, file) = match kind {
            Kind::Tail => ("tail", "tail.resp"),
            Kind::Rdb => ("rdb", "dump.rdb"),
        };
        let name = format!("{stamp}-epoch{}-{word}", epoch.counter);
        let dir = archive.entry_dir(&name);
        // Fails where there is one: an entry is never written over.
        fs::create_dir(&dir).map_err(|e| disk_error(&e))?;
        let entry = Self {
            archive,
            name,
            dir,
            epoch: epoch.clone(),
            kind,
            finished: false,
        };
        let file = File::create(entry.dir.join(file)).map_err(|e| disk_error(&e))?;
        Ok((entry, file))
    }

    /// Writes the receipt, which makes the entry one, and then removes what exceeds the limits.
    pub(super) fn finish(mut self, contents: Contents) -> Result<Receipt, StepError> {
        let Contents {
            why,
            lineage,
            from,
            to,
            commands,
            bytes,
            keys,
            key_count,
            first_db,
        } = contents;
        let receipt = Receipt {
            name: self.name.clone(),
            time: jiff::Timestamp::now().to_string(),
            group: self.archive.group.clone(),
            host: self.archive.host.clone(),
            epoch: self.epoch.clone(),
            kind: self.kind,
            why,
            lineage,
            from,
            to,
            commands,
            bytes,
            keys,
            key_count,
            first_db,
        };
        let text = serde_json::to_vec_pretty(&receipt).map_err(|e| StepError {
            kind: StepErrorKind::Refused,
            text: e.to_string(),
        })?;
        durable::replace(&self.dir.join("receipt.json"), &text).map_err(|e| disk_error(&e))?;
        self.finished = true;
        self.archive.prune(&receipt.name);
        Ok(receipt)
    }
}

impl Drop for Entry<'_> {
    fn drop(&mut self) {
        if self.finished {
            return;
        }
        if let Err(error) = fs::remove_dir_all(&self.dir) {
            tracing::warn!("unfinished archive entry {}: {error}", self.name);
        }
    }
}

impl Archive {
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

pub(super) fn disk_error(error: &io::Error) -> StepError {
    StepError {
        kind: StepErrorKind::NoSpace,
        text: format!("archive: {error}"),
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;
    use std::path::Path;
    use std::time::Duration;

    use tandem_config::settings::ArchiveLimits;
    use tandem_core::ids::HostId;

    use super::*;

    fn archive(dir: &Path, max_bytes: u64) -> Archive {
        let limits = ArchiveLimits {
            keep: Duration::from_secs(3600),
            max_bytes,
        };
        let archive = Archive::new(dir, "orders", "a", limits);
        fs::create_dir_all(dir.join("archive")).unwrap();
        archive
    }

    /// An entry with so many bytes of data. Two within a millisecond would have the same name, which is refused.
    fn entry<'a>(archive: &'a Archive, bytes: usize) -> Entry<'a> {
        let epoch = Epoch {
            counter: 7,
            host: HostId::new("a"),
        };
        let begun = std::time::Instant::now();
        loop {
            match Entry::begin(archive, &epoch, Kind::Tail) {
                Ok((entry, mut file)) => {
                    file.write_all(&vec![0; bytes]).unwrap();
                    return entry;
                }
                Err(error) => assert!(begun.elapsed() < Duration::from_secs(5), "{error:?}"),
            }
        }
    }

    #[test]
    fn an_entry_is_one_once_it_has_its_receipt() {
        let dir = tempfile::tempdir().unwrap();
        let archive = archive(dir.path(), 1 << 20);
        let unfinished = entry(&archive, 10);
        assert!(archive.list().unwrap().is_empty());
        drop(unfinished);
        assert_eq!(fs::read_dir(&archive.dir).unwrap().count(), 0);
        let contents = Contents {
            why: "both wrote".to_owned(),
            from: Offset(5),
            to: Offset(15),
            commands: 2,
            ..Contents::default()
        };
        let receipt = entry(&archive, 10).finish(contents).unwrap();
        let listed = archive.list().unwrap();
        assert_eq!(listed.len(), 1);
        assert_eq!(listed[0].name, receipt.name);
        assert_eq!(
            (listed[0].group.as_str(), listed[0].host.as_str()),
            ("orders", "a")
        );
        assert_eq!(
            (listed[0].from, listed[0].to, listed[0].commands),
            (Offset(5), Offset(15), 2)
        );
        assert!(
            listed[0].name.ends_with("-epoch7-tail"),
            "{}",
            listed[0].name
        );
    }

    #[test]
    fn what_exceeds_the_limits_goes_oldest_first_and_the_newest_stays() {
        let dir = tempfile::tempdir().unwrap();
        // Each receipt has some hundred bytes besides.
        let archive = archive(dir.path(), 25_000);
        let made: Vec<String> = [10_000, 10_000, 10_000, 100_000]
            .into_iter()
            .map(|bytes| {
                let receipt = entry(&archive, bytes).finish(Contents::default()).unwrap();
                let newest = archive.list().unwrap().pop().unwrap();
                assert_eq!(newest.name, receipt.name);
                receipt.name
            })
            .collect();
        let left: Vec<String> = archive
            .list()
            .unwrap()
            .into_iter()
            .map(|r| r.name)
            .collect();
        assert_eq!(left, made[3..]);
    }
}
