//! When the state is written, and what waits for it.
//!
//! Redis writes synchronously in its loop at every change. Here one [`Output::Save`] is under way at a time and at most one
//! more is wanted, which then holds the newest state; so a burst of discoveries costs two writes, and only an answer
//! that promises something (a vote, vote.rs) waits. What may be lost with a crash (a replica that will be
//! found again) is gathered for a moment first.

use std::time::Duration;

use crate::sentinel::due::Key;
use crate::sentinel::events::Kind;
use crate::sentinel::io::{Level, Output, SaveVersion};
use crate::sentinel::machine::Sentinel;
use crate::sentinel::saved::{SavedGroup, SavedPeer, SavedState};

/// How long a change that promises nothing waits for others.
const GATHER: Duration = Duration::from_millis(100);
/// After a state could not be written, it is tried again this much later.
const RETRY: Duration = Duration::from_secs(1);

/// What is under way and what is on disk.
#[derive(Debug, Default)]
pub(super) struct Saver {
    /// The newest version that was asked for.
    newest: SaveVersion,
    /// Its answer is outstanding.
    outstanding: bool,
    /// The state has changed since.
    wanted: bool,
    /// The newest version that is on disk.
    durable: SaveVersion,
    /// The last attempt failed.
    failing: bool,
}

impl Saver {
    /// Whether the state of this version is on disk.
    pub(super) fn holds(&self, version: SaveVersion) -> bool {
        self.durable >= version
    }

    /// The last attempt failed, and none succeeded since.
    pub(super) fn is_failing(&self) -> bool {
        self.failing
    }
}

impl Sentinel {
    /// Has the state as it is at the end of this input written at once.
    ///
    /// # Returns
    /// The version that will hold it.
    pub(super) fn save(&mut self) -> SaveVersion {
        self.saver.wanted = true;
        SaveVersion(self.saver.newest.0 + 1)
    }

    /// Has the state written soon, together with what else changes until then.
    pub(super) fn save_soon(&mut self) {
        self.due.by(Key::Save, self.now + GATHER);
    }

    /// The moment of [`Self::save_soon`], or of another attempt, has come.
    pub(super) fn save_again(&mut self) {
        self.saver.wanted = true;
    }

    /// Lets the newest state go out unless one is under way.
    pub(super) fn flush_save(&mut self) {
        if !self.saver.wanted || self.saver.outstanding {
            return;
        }
        self.saver.wanted = false;
        self.saver.outstanding = true;
        self.saver.newest.0 += 1;
        self.due.forget(Key::Save);
        self.out.push(Output::Save {
            version: self.saver.newest,
            state: Box::new(self.state()),
        });
    }

    /// The shell has written a state, or could not.
    pub(super) fn saved(&mut self, version: SaveVersion, result: Result<(), String>) {
        if !self.saver.outstanding || version != self.saver.newest {
            return;
        }
        self.saver.outstanding = false;
        match result {
            Ok(()) => {
                self.saver.durable = version;
                if self.saver.failing {
                    self.saver.failing = false;
                    self.log(Level::Notice, "The state is on disk again");
                }
            }
            Err(reason) => {
                if !self.saver.failing {
                    self.saver.failing = true;
                    self.tell(
                        Kind::MinusSaveFailed,
                        format_args!("{reason}; no vote is given until it is saved"),
                    );
                }
                self.due.by(Key::Save, self.now + RETRY);
            }
        }
        self.release_held(version);
        self.release_following(version);
        // Our own vote counts from now on.
        let electing: Vec<_> = self
            .groups
            .values()
            .filter(|group| group.failover.is_some())
            .map(|group| group.id)
            .collect();
        self.marked.extend(electing);
    }

    /// Everything that survives a restart.
    #[must_use]
    pub fn state(&self) -> SavedState {
        let group = |id| self.groups.get(id).map(saved_group);
        SavedState {
            id: self.id.clone(),
            current_epoch: self.current_epoch,
            globals: self.globals.clone(),
            groups: self.names.values().filter_map(group).collect(),
        }
    }
}

fn saved_group(group: &crate::sentinel::model::Group) -> SavedGroup {
    SavedGroup {
        settings: group.settings.clone(),
        primary: group.current_address().clone(),
        config_epoch: group.config_epoch,
        leader_epoch: group.leader_epoch,
        replicas: group.replicas.keys().cloned().collect(),
        peers: group
            .peers
            .values()
            .filter(|peer| peer.acquainted)
            .map(|peer| SavedPeer {
                id: peer.id.clone(),
                at: peer.at.clone(),
            })
            .collect(),
    }
}
