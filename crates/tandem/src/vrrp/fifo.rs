//! State lines for whoever reads a FIFO: `INSTANCE "name" MASTER 100`.
//!
//! Opened for reading and writing and without blocking, as keepalived does, so that a missing reader neither blocks nor
//! breaks: what it has not read waits in the pipe. keepalived loses lines once the pipe (64 KiB) is full; here
//! [`WAITING_MAX`] more of them wait in memory, and beyond that the oldest are lost, counted and reported, since a reader that
//! comes back needs the newest state. A reader that removed the FIFO and made its own gets what the old one did not read.

use std::collections::VecDeque;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{FileTypeExt, MetadataExt, OpenOptionsExt, fchown};
use std::path::{Path, PathBuf};

use rustix::fs::{CWD, FileType, Mode, mknodat};
use tracing::{error, info, warn};

use super::scripts::user::Account;

/// Lines that wait while the pipe is full.
const WAITING_MAX: usize = 1024;
/// Most bytes taken over from a FIFO that was replaced: the largest pipe that a user may make.
const UNREAD_LEN_MAX: u64 = 1 << 20;

/// A FIFO that is open.
#[derive(Debug)]
pub(super) struct Fifo {
    path: PathBuf,
    owner: Option<Account>,
    pipe: Pipe,
    waiting: VecDeque<String>,
    lost: u64,
    /// The path leads nowhere, and that was said.
    astray: bool,
}

/// What the path led to when it was opened.
#[derive(Debug)]
struct Pipe {
    file: File,
    identity: Identity,
    /// It was missing and is ours to remove.
    made: bool,
}

/// Device and inode.
type Identity = (u64, u64);

impl Fifo {
    /// Opens it; if it is missing it is made and given to `owner`.
    ///
    /// # Errors
    /// `AlreadyExists` if something else is there; otherwise what the kernel says.
    pub(super) fn open(path: &Path, owner: Option<&Account>) -> io::Result<Self> {
        Ok(Self {
            path: path.to_owned(),
            owner: owner.cloned(),
            pipe: Pipe::open(path, owner)?,
            waiting: VecDeque::new(),
            lost: 0,
            astray: false,
        })
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Writes one line, or keeps it until there is room.
    pub(super) fn write(&mut self, line: &str) {
        self.waiting.push_back(line.to_owned());
        self.flush();
        self.shed();
    }

    /// Writes what waits, as far as there is room.
    pub(super) fn flush(&mut self) {
        while let Some(line) = self.waiting.front() {
            // A line is shorter than PIPE_BUF, so it goes as a whole or not at all.
            match self.pipe.file.write_all(line.as_bytes()) {
                Ok(()) => {}
                Err(full) if full.kind() == io::ErrorKind::WouldBlock => return,
                Err(problem) => error!("{}: {problem}", self.path.display()),
            }
            self.waiting.pop_front();
        }
        let lost = std::mem::take(&mut self.lost);
        if lost > 0 {
            info!(
                "{} is read again; the reader missed {lost} lines",
                self.path.display()
            );
        }
    }

    /// Goes over to another FIFO if the path leads to one now; makes one if it leads nowhere.
    pub(super) fn follow(&mut self) {
        if fs::metadata(&self.path).is_ok_and(|there| identity(&there) == self.pipe.identity) {
            self.astray = false;
            return;
        }
        let new = match Pipe::open(&self.path, self.owner.as_ref()) {
            Ok(new) => new,
            Err(problem) => {
                if !std::mem::replace(&mut self.astray, true) {
                    error!("{}: {problem}", self.path.display());
                }
                return;
            }
        };
        let old = std::mem::replace(&mut self.pipe, new);
        let unread = old.unread();
        for line in unread.split_inclusive('\n').rev() {
            self.waiting.push_front(line.to_owned());
        }
        self.flush();
        self.shed();
    }

    /// Its reader reads what is left, and then the end. As with keepalived one that we made goes.
    pub(super) fn close(mut self) {
        self.flush();
        if self.pipe.made
            && let Err(problem) = fs::remove_file(&self.path)
        {
            warn!("removing {}: {problem}", self.path.display());
        }
    }

    /// Keeps the newest.
    fn shed(&mut self) {
        while self.waiting.len() > WAITING_MAX {
            self.waiting.pop_front();
            if self.lost == 0 {
                warn!(
                    "{} is full and nobody reads it; the oldest lines are lost",
                    self.path.display()
                );
            }
            self.lost += 1;
        }
    }
}

impl Pipe {
    fn open(path: &Path, owner: Option<&Account>) -> io::Result<Self> {
        let made = match fs::metadata(path) {
            Ok(found) if found.file_type().is_fifo() => false,
            Ok(_) => return Err(io::ErrorKind::AlreadyExists.into()),
            Err(_) => {
                mknodat(CWD, path, FileType::Fifo, Mode::from_raw_mode(0o600), 0)?;
                true
            }
        };
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .custom_flags(libc::O_NONBLOCK)
            .open(path)?;
        if let (true, Some(owner)) = (made, owner)
            && let Err(problem) = fchown(&file, Some(owner.uid), Some(owner.gid))
        {
            warn!("giving {} to its reader: {problem}", path.display());
        }
        Ok(Self {
            identity: identity(&file.metadata()?),
            file,
            made,
        })
    }

    /// What nobody has read.
    fn unread(self) -> String {
        let mut bytes = Vec::new();
        // Ends with "would block" where the pipe is empty; what was read until then is kept.
        let _ = self.file.take(UNREAD_LEN_MAX).read_to_end(&mut bytes);
        String::from_utf8_lossy(&bytes).into_owned()
    }
}

fn identity(found: &fs::Metadata) -> Identity {
    (found.dev(), found.ino())
}

/// A line as keepalived writes it.
pub(super) fn line(kind: &str, name: &str, word: &str, priority: u8) -> String {
    format!("{kind} \"{name}\" {word} {priority}\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What is in a FIFO now.
    fn read(path: &Path) -> String {
        Pipe::open(path, None).unwrap().unread()
    }

    fn numbered(number: usize) -> String {
        line("INSTANCE", &format!("VI_{number}"), "BACKUP", 100)
    }

    #[test]
    fn lines_arrive_as_keepalived_writes_them() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("fifo");
        let mut fifo = Fifo::open(&path, None).unwrap();
        fifo.write(&line("INSTANCE", "VI_1", "MASTER", 100));
        fifo.write(&line("GROUP", "G", "FAULT", 0));
        assert_eq!(
            read(&path),
            "INSTANCE \"VI_1\" MASTER 100\nGROUP \"G\" FAULT 0\n"
        );
    }

    #[test]
    fn a_reader_that_comes_back_gets_every_line_up_to_the_bound() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("fifo");
        let mut fifo = Fifo::open(&path, None).unwrap();
        // More than the pipe takes, less than waits in memory besides.
        let mut written = 0;
        while fifo.waiting.len() < WAITING_MAX {
            fifo.write(&numbered(written));
            written += 1;
        }
        assert_eq!(fifo.lost, 0);
        let mut got = String::new();
        while !fifo.waiting.is_empty() {
            got.push_str(&read(&path));
            fifo.flush();
        }
        got.push_str(&read(&path));
        let expected: String = (0..written).map(numbered).collect();
        assert_eq!(got, expected);
    }

    #[test]
    fn beyond_the_bound_the_oldest_that_wait_are_lost_and_counted() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("fifo");
        let mut fifo = Fifo::open(&path, None).unwrap();
        for number in 0..10_000 {
            fifo.write(&numbered(number));
        }
        assert_eq!(fifo.waiting.len(), WAITING_MAX);
        let in_pipe = read(&path).lines().count();
        assert_eq!(in_pipe + WAITING_MAX + fifo.lost as usize, 10_000);
        fifo.flush();
        assert_eq!(fifo.lost, 0, "said, and counted from the beginning");
        let got = read(&path);
        assert!(got.ends_with(&numbered(9_999)), "the newest is there");
    }

    #[test]
    fn a_fifo_that_was_replaced_is_followed_with_what_was_not_read() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("fifo");
        let mut fifo = Fifo::open(&path, None).unwrap();
        fifo.write(&numbered(1));
        fs::remove_file(&path).unwrap();
        let theirs = Pipe::open(&path, None).unwrap();
        fifo.follow();
        fifo.write(&numbered(2));
        assert_eq!(theirs.unread(), numbered(1) + &numbered(2));
        // Removed and not made again: it is there for the next reader.
        fs::remove_file(&path).unwrap();
        fifo.write(&numbered(3));
        fifo.follow();
        assert_eq!(read(&path), numbered(3));
    }

    #[test]
    fn what_was_made_is_removed_and_what_was_there_stays() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("fifo");
        let fifo = Fifo::open(&path, None).unwrap();
        let second = Fifo::open(&path, None).unwrap();
        second.close();
        assert!(path.exists(), "it was there before the second");
        fifo.close();
        assert!(!path.exists());
        fs::write(&path, "").unwrap();
        let refused = Fifo::open(&path, None).unwrap_err();
        assert_eq!(refused.kind(), io::ErrorKind::AlreadyExists, "a file");
    }
}
