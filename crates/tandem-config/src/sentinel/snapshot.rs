//! The included files as they were when the configuration was read, so that a text can be read again without any file.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};

use crate::keepalived::{FileFacts, Files};

/// What was read through [`Files`], to be read again. Scripts are taken to be there.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Snapshot {
    pub(super) contents: BTreeMap<PathBuf, Vec<u8>>,
    pub(super) patterns: BTreeMap<PathBuf, Vec<PathBuf>>,
}

impl Files for Snapshot {
    fn read(&self, path: &Path) -> io::Result<Vec<u8>> {
        self.contents
            .get(path)
            .cloned()
            .ok_or_else(|| io::ErrorKind::NotFound.into())
    }

    fn glob(&self, pattern: &Path) -> io::Result<Vec<PathBuf>> {
        Ok(self.patterns.get(pattern).cloned().unwrap_or_default())
    }

    fn facts(&self, _path: &Path) -> io::Result<FileFacts> {
        Ok(FileFacts {
            is_file: true,
            uid: 0,
            gid: 0,
            mode: 0o755,
        })
    }
}
