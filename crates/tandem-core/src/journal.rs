//! The journal: what a host must still know after it died (rule 16).
//!
//! One small record, replaced as a whole: the shell writes it to a temporary file, syncs and
//! renames, so a crash leaves the old or the new record and never half of one. A record that does
//! not check out was therefore damaged or belongs to somebody else, and is an error that names
//! what is wrong; a fresh start on top of it could let an epoch go back.

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::ids::{Epoch, HostId, Offset, ReplId, RunId};
use crate::statement::{Fork, Released};

/// The role a host had, or was about to take, when the record was written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum JournalRole {
    /// Nothing decided yet.
    None,
    /// Was about to promote its server at `epoch`; whether it happened must be looked up.
    Promoting,
    /// Primary of `epoch`.
    Primary,
    /// About to give its role away.
    Handing,
    /// Stepped back from being primary.
    Released,
    /// Replica in `epoch`.
    Replica,
    /// Lost a verdict and has not been resynced since (rule 21).
    Loser,
}

/// Where the local server stood, once a second.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mark {
    /// The process it was read from.
    pub run_id: RunId,
    /// The lineage.
    pub lineage: ReplId,
    /// Its offset.
    pub offset: Offset,
    /// Keys it held.
    pub keys: u64,
    /// The replication link was up (as a replica) or a replica was online (as primary).
    pub link_up: bool,
    /// The peer's offset as last stated, in the same lineage.
    pub peer_offset: Option<Offset>,
    /// Its offset one mark earlier: what an AOF surely holds after the host went down, as its
    /// fsync runs once a second.
    pub previous_offset: Offset,
    /// Which boot of the host this was. Within one boot the page cache outlives the process.
    pub boot_id: String,
    /// Milliseconds since 1970, for people only.
    pub unix_ms: u64,
}

/// The record.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Journal {
    /// Format of the record.
    pub format: u32,
    /// The host that wrote it.
    pub host: HostId,
    /// The group it is about.
    pub group: String,
    /// The highest epoch this host knows of.
    pub epoch: Epoch,
    /// The epoch whose history the local data belongs to; behind `epoch` on a host that knows of a
    /// newer primary but has not synced from it.
    pub data_epoch: Epoch,
    /// Its role in it.
    pub role: JournalRole,
    /// The server process the role belongs to.
    pub run_id: Option<RunId>,
    /// The local process that last completed a sync, and the lineage it then had.
    pub synced: Option<(RunId, ReplId)>,
    /// Lineage of the group's primary when last known.
    pub primary_lineage: Option<ReplId>,
    /// A replica's standing intent: it may promote its server at this epoch without writing first. An
    /// epoch that was intended is never used for another promotion after a restart.
    #[serde(default)]
    pub intent: Option<Epoch>,
    /// Fork points of this host's promotions, newest last, at most [`FORKS_KEPT`].
    pub forks: Vec<Fork>,
    /// A promise that still binds.
    pub released: Option<Released>,
    /// A promise not to take over on the peer's release.
    pub declined: Option<Epoch>,
    /// A promise: the local server is not promoted before it has all that the primary of this epoch has acknowledged alone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub barred: Option<Epoch>,
    /// The newest mark.
    pub mark: Option<Mark>,
    /// Automatic failover is paused by an operator.
    pub paused: bool,
}

/// The format number that this program writes and reads.
pub const JOURNAL_FORMAT: u32 = 1;
/// Fork points kept: enough to recognise any history that a backlog could still bridge.
pub const FORKS_KEPT: usize = 32;
const MAGIC: &str = "tandem-journal";

/// Why a journal was refused. None of these is cured by a retry; each needs a person.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum JournalError {
    /// The file does not begin as a journal does.
    #[error("not a tandem journal: it does not begin with \"{MAGIC}\"")]
    NotAJournal,
    /// The checksum differs: damaged, or edited by hand.
    #[error("torn or damaged: checksum {found} where the content gives {computed}")]
    Torn {
        /// What the file says.
        found: String,
        /// What its content gives.
        computed: String,
    },
    /// Written by a newer or older program.
    #[error("journal of format {0}, this program reads {JOURNAL_FORMAT}")]
    Format(u32),
    /// It is another host's or another group's.
    #[error(
        "journal of host {found_host}, group {found_group}; this is host {host}, group {group}"
    )]
    Foreign {
        /// Host in the file.
        found_host: HostId,
        /// Group in the file.
        found_group: String,
        /// This host.
        host: HostId,
        /// This group.
        group: String,
    },
    /// The content is not what this program writes.
    #[error("unreadable content: {0}")]
    Content(String),
}

impl Journal {
    /// The journal of a host that has decided nothing yet.
    pub fn fresh(host: HostId, group: impl Into<String>) -> Self {
        Self {
            format: JOURNAL_FORMAT,
            host,
            group: group.into(),
            epoch: Epoch::zero(),
            data_epoch: Epoch::zero(),
            role: JournalRole::None,
            run_id: None,
            synced: None,
            primary_lineage: None,
            intent: None,
            forks: Vec::new(),
            released: None,
            declined: None,
            barred: None,
            mark: None,
            paused: false,
        }
    }

    /// Remembers a fork point and forgets the oldest beyond [`FORKS_KEPT`].
    pub fn add_fork(&mut self, fork: Fork) {
        self.forks.retain(|f| f.epoch != fork.epoch);
        self.forks.push(fork);
        if self.forks.len() > FORKS_KEPT {
            self.forks.remove(0);
        }
    }

    /// The primary of `data_epoch` goes on in this newer epoch, with the same history.
    pub fn rise(&mut self, epoch: Epoch) {
        if let Some(fork) = self.forks.last_mut()
            && fork.epoch == self.data_epoch
        {
            fork.epoch = epoch.clone();
        }
        self.epoch = self.epoch.clone().max(epoch.clone());
        self.data_epoch = epoch;
    }

    /// The file's bytes: a head line with the checksum, then the record.
    pub fn encode(&self) -> Vec<u8> {
        let body = serde_json::to_string_pretty(self).unwrap_or_default();
        format!("{MAGIC} {}\n{body}\n", checksum(body.as_bytes())).into_bytes()
    }

    /// Reads the file of `host` and `group`.
    pub fn decode(bytes: &[u8], host: &HostId, group: &str) -> Result<Self, JournalError> {
        #[derive(Deserialize)]
        struct FormatOnly {
            format: u32,
        }
        let text = std::str::from_utf8(bytes).map_err(|_| JournalError::NotAJournal)?;
        let (head, body) = text.split_once('\n').ok_or(JournalError::NotAJournal)?;
        let found = head
            .strip_prefix(MAGIC)
            .and_then(|rest| rest.strip_prefix(' '))
            .ok_or(JournalError::NotAJournal)?;
        let body = body.strip_suffix('\n').unwrap_or(body);
        let computed = checksum(body.as_bytes());
        if found != computed {
            return Err(JournalError::Torn {
                found: found.to_owned(),
                computed,
            });
        }
        let content = |e: serde_json::Error| JournalError::Content(e.to_string());
        let probe: FormatOnly = serde_json::from_str(body).map_err(content)?;
        if probe.format != JOURNAL_FORMAT {
            return Err(JournalError::Format(probe.format));
        }
        let journal: Self = serde_json::from_str(body).map_err(content)?;
        if journal.host != *host || journal.group != group {
            return Err(JournalError::Foreign {
                found_host: journal.host,
                found_group: journal.group,
                host: host.clone(),
                group: group.to_owned(),
            });
        }
        Ok(journal)
    }
}

fn checksum(bytes: &[u8]) -> String {
    use std::fmt::Write as _;
    Sha256::digest(bytes)
        .iter()
        .take(16)
        .fold(String::new(), |mut hex, byte| {
            // Writing to a String cannot fail.
            let _ = write!(hex, "{byte:02x}");
            hex
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample() -> Journal {
        let host = HostId::new("a");
        let mut journal = Journal::fresh(host.clone(), "orders");
        journal.epoch = Epoch { counter: 7, host };
        journal.role = JournalRole::Primary;
        journal
    }

    #[test]
    fn reads_back_what_it_wrote() {
        let journal = sample();
        let back = Journal::decode(&journal.encode(), &journal.host, "orders");
        assert_eq!(back, Ok(journal));
    }

    #[test]
    fn every_single_byte_counts() {
        let journal = sample();
        let bytes = journal.encode();
        for at in 0..bytes.len() - 1 {
            let mut torn = bytes.clone();
            torn[at] ^= 0x20;
            assert!(
                Journal::decode(&torn, &journal.host, "orders").is_err(),
                "byte {at}"
            );
            assert!(
                Journal::decode(&bytes[..at], &journal.host, "orders").is_err(),
                "cut at {at}"
            );
        }
    }

    #[test]
    fn a_foreign_journal_is_named() {
        let bytes = sample().encode();
        let error = Journal::decode(&bytes, &HostId::new("b"), "orders");
        assert!(
            matches!(error, Err(JournalError::Foreign { .. })),
            "{error:?}"
        );
        let error = Journal::decode(&bytes, &HostId::new("a"), "carts");
        assert!(
            matches!(error, Err(JournalError::Foreign { .. })),
            "{error:?}"
        );
    }

    #[test]
    fn forks_are_bounded_and_the_newest_stay() {
        let mut journal = sample();
        for counter in 0..100 {
            journal.add_fork(Fork {
                epoch: Epoch {
                    counter,
                    host: HostId::new("a"),
                },
                parent: ReplId("p".into()),
                offset: Offset(counter),
                lineage: ReplId("l".into()),
                ended: true,
                whole: false,
            });
        }
        assert_eq!(journal.forks.len(), FORKS_KEPT);
        assert_eq!(journal.forks.last().map(|f| f.offset), Some(Offset(99)));
    }
}
