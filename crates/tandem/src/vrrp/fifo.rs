//! State lines for whoever reads a FIFO: `INSTANCE "name" MASTER 100`.
//!
//! Opened for reading and writing and without blocking, as keepalived does, so that a missing reader neither
//! blocks nor breaks; a line that does not fit is lost, and that is logged.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{FileTypeExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use rustix::fs::{CWD, FileType, Mode, mknodat};
use tracing::{error, warn};

/// A FIFO that is open.
#[derive(Debug)]
pub(super) struct Fifo {
    path: PathBuf,
    file: File,
    full: bool,
}

impl Fifo {
    /// Opens it, and makes it if it is missing.
    ///
    /// # Errors
    /// `AlreadyExists` if something else is there; otherwise what the kernel says.
    pub(super) fn open(path: &Path) -> io::Result<Self> {
        match std::fs::metadata(path) {
            Ok(found) if found.file_type().is_fifo() => {}
            Ok(_) => return Err(io::ErrorKind::AlreadyExists.into()),
            Err(_) => mknodat(CWD, path, FileType::Fifo, Mode::from_raw_mode(0o600), 0)?,
        }
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .custom_flags(libc::O_NONBLOCK)
            .open(path)?;
        Ok(Self {
            path: path.to_owned(),
            file,
            full: false,
        })
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Writes one line; says once when readers are too slow.
    pub(super) fn write(&mut self, line: &str) {
        match self.file.write_all(line.as_bytes()) {
            Ok(()) => self.full = false,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                if !std::mem::replace(&mut self.full, true) {
                    warn!(
                        "{} is full, nobody reads it; lines are lost",
                        self.path.display()
                    );
                }
            }
            Err(problem) => error!("{}: {problem}", self.path.display()),
        }
    }
}

/// A line as keepalived writes it.
pub(super) fn line(kind: &str, name: &str, word: &str, priority: u8) -> String {
    format!("{kind} \"{name}\" {word} {priority}\n")
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Read;

    #[test]
    fn lines_arrive_as_keepalived_writes_them() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("fifo");
        let mut fifo = Fifo::open(&path).unwrap();
        fifo.write(&line("INSTANCE", "VI_1", "MASTER", 100));
        fifo.write(&line("GROUP", "G", "FAULT", 0));
        let mut reader = OpenOptions::new()
            .read(true)
            .custom_flags(libc::O_NONBLOCK)
            .open(&path)
            .unwrap();
        let expected = "INSTANCE \"VI_1\" MASTER 100\nGROUP \"G\" FAULT 0\n";
        let mut text = vec![0; expected.len()];
        reader.read_exact(&mut text).unwrap();
        assert_eq!(String::from_utf8(text).unwrap(), expected);
    }

    #[test]
    fn a_full_fifo_does_not_block_and_a_file_is_not_one() {
        let dir = tempfile::tempdir().unwrap();
        let mut fifo = Fifo::open(&dir.path().join("fifo")).unwrap();
        for _ in 0..10_000 {
            fifo.write(&line("INSTANCE", "VI_1", "BACKUP", 100));
        }
        assert!(fifo.full);
        std::fs::write(dir.path().join("file"), "").unwrap();
        assert!(Fifo::open(&dir.path().join("file")).is_err());
    }
}
