//! How the reader sees files without opening any itself.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};

/// What the checks of scripts need to know about a file or folder.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FileFacts {
    /// A regular file, links followed.
    pub is_file: bool,
    /// Owner's user id.
    pub uid: u32,
    /// Owner's group id.
    pub gid: u32,
    /// Permission bits with set-id and sticky bits, as in `st_mode & 0o7777`.
    pub mode: u32,
}

/// The caller's file system.
pub trait Files {
    /// The whole content of a file.
    fn read(&self, path: &Path) -> io::Result<Vec<u8>>;
    /// The files that match a shell pattern, sorted; empty if none does.
    fn glob(&self, pattern: &Path) -> io::Result<Vec<PathBuf>>;
    /// Owner and rights of a file or folder.
    fn facts(&self, path: &Path) -> io::Result<FileFacts>;
}

/// Files in memory, for tests and for text that is on no disk. Patterns match by `*` and `?` only; each file belongs to root
/// with mode 0755.
#[derive(Debug, Clone, Default)]
pub struct MapFiles {
    files: BTreeMap<PathBuf, (Vec<u8>, FileFacts)>,
}

impl MapFiles {
    /// No files.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a file of root's with mode 0755.
    #[must_use]
    pub fn with(self, path: impl Into<PathBuf>, content: impl Into<Vec<u8>>) -> Self {
        self.with_mode(path, content, 0, 0o755)
    }

    /// Adds a file with owner and mode.
    #[must_use]
    pub fn with_mode(
        mut self,
        path: impl Into<PathBuf>,
        content: impl Into<Vec<u8>>,
        uid: u32,
        mode: u32,
    ) -> Self {
        let facts = FileFacts {
            is_file: true,
            uid,
            gid: 0,
            mode,
        };
        self.files.insert(path.into(), (content.into(), facts));
        self
    }
}

impl Files for MapFiles {
    fn read(&self, path: &Path) -> io::Result<Vec<u8>> {
        self.files
            .get(path)
            .map(|(content, _)| content.clone())
            .ok_or_else(|| io::ErrorKind::NotFound.into())
    }

    fn glob(&self, pattern: &Path) -> io::Result<Vec<PathBuf>> {
        let pattern = pattern.to_string_lossy();
        Ok(self
            .files
            .keys()
            .filter(|path| matches(pattern.as_bytes(), path.to_string_lossy().as_bytes()))
            .cloned()
            .collect())
    }

    fn facts(&self, path: &Path) -> io::Result<FileFacts> {
        if let Some((_, facts)) = self.files.get(path) {
            return Ok(*facts);
        }
        if self.files.keys().any(|file| file.starts_with(path)) {
            return Ok(FileFacts {
                is_file: false,
                uid: 0,
                gid: 0,
                mode: 0o755,
            });
        }
        Err(io::ErrorKind::NotFound.into())
    }
}

/// Shell matching of `*` and `?` within one path component, by going back to the last star.
fn matches(pattern: &[u8], text: &[u8]) -> bool {
    let (mut p, mut t) = (0, 0);
    let mut star: Option<(usize, usize)> = None;
    while t < text.len() {
        match pattern.get(p) {
            Some(b'*') => {
                star = Some((p, t));
                p += 1;
            }
            Some(b'?') if text[t] != b'/' => {
                p += 1;
                t += 1;
            }
            Some(byte) if *byte == text[t] => {
                p += 1;
                t += 1;
            }
            Some(_) | None => match star {
                Some((at, taken)) if text[taken] != b'/' => {
                    star = Some((at, taken + 1));
                    p = at + 1;
                    t = taken + 1;
                }
                Some(_) | None => return false,
            },
        }
    }
    pattern[p..].iter().all(|byte| *byte == b'*')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_stay_within_a_component() {
        for (pattern, text, hit) in [
            ("/a/*.conf", "/a/b.conf", true),
            ("/a/*.conf", "/a/b/c.conf", false),
            ("/a/?.conf", "/a/b.conf", true),
            ("/a/b.conf", "/a/b.conf", true),
            ("/a/*", "/a/", true),
            ("*x*y", "axbxcy", true),
            ("*x*y", "axbxc", false),
        ] {
            assert_eq!(
                matches(pattern.as_bytes(), text.as_bytes()),
                hit,
                "{pattern} {text}"
            );
        }
    }
}
