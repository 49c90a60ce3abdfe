//! The log as twemproxy writes it: `[<date>] <file>:<line> <text>`, at levels 0 (gravest) to 11.
//!
//! Scripts read these lines. The file and line are those of this program's source, as twemproxy's are of its own.

use std::io;
use std::panic::Location;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};

use jiff::Zoned;

use crate::lines::{Lines, Target};

/// How grave a line is, by syslog's names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Level {
    Error = 3,
    Warning = 4,
    Notice = 5,
}

/// twemproxy's highest level; a higher wish counts as this.
const LEVEL_MAX: u8 = 11;

/// Where lines go. Clones share the level.
#[derive(Debug, Clone)]
pub(super) struct Log {
    lines: Lines,
    level: Arc<AtomicU8>,
}

impl Log {
    /// Begins to write to `path`, or to standard error, lines up to `level`.
    ///
    /// # Errors
    /// When the file cannot be opened for appending.
    pub(super) fn start(path: Option<PathBuf>, level: u32) -> io::Result<Self> {
        let level = u8::try_from(level).map_or(LEVEL_MAX, |level| level.min(LEVEL_MAX));
        Ok(Self {
            lines: Lines::start(path.map_or(Target::Stderr, Target::Kept))?,
            level: Arc::new(AtomicU8::new(level)),
        })
    }

    #[track_caller]
    pub(super) fn error(&self, text: &str) {
        self.line(Level::Error, text);
    }

    #[track_caller]
    pub(super) fn warning(&self, text: &str) {
        self.line(Level::Warning, text);
    }

    #[track_caller]
    pub(super) fn notice(&self, text: &str) {
        self.line(Level::Notice, text);
    }

    #[track_caller]
    fn line(&self, level: Level, text: &str) {
        if level as u8 > self.level.load(Ordering::Relaxed) {
            return;
        }
        let at = Location::caller();
        let file = at.file().rsplit('/').next().unwrap_or_default();
        let time = Zoned::now().strftime("%Y-%m-%d %H:%M:%S%.3f").to_string();
        self.lines
            .line(format!("[{time}] {file}:{} {text}\n", at.line()));
    }

    /// One level more; the new level.
    pub(super) fn up(&self) -> u8 {
        self.change(|level| (level + 1).min(LEVEL_MAX))
    }

    /// One level less; the new level.
    pub(super) fn down(&self) -> u8 {
        self.change(|level| level.saturating_sub(1))
    }

    fn change(&self, how: impl Fn(u8) -> u8) -> u8 {
        let level = how(self.level.load(Ordering::Relaxed));
        self.level.store(level, Ordering::Relaxed);
        level
    }

    /// Opens the file anew, for whoever rotated it.
    pub(super) fn reopen(&self) {
        self.lines.reopen();
    }

    /// Waits until what was logged so far is written, within reason.
    pub(super) fn flush(&self) {
        self.lines.flush();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(level: u32, work: impl FnOnce(&Log)) -> Vec<String> {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("log");
        let log = Log::start(Some(path.clone()), level).unwrap();
        work(&log);
        log.flush();
        let text = std::fs::read_to_string(path).unwrap();
        text.lines().map(str::to_owned).collect()
    }

    #[test]
    fn lines_have_the_form_of_twemproxy() {
        let lines = written(5, |log| log.notice("signal 1 (SIGHUP) received"));
        let [line] = &lines[..] else {
            panic!("{lines:?}")
        };
        let (date, rest) = line.strip_prefix('[').unwrap().split_once("] ").unwrap();
        assert!(
            jiff::civil::DateTime::strptime("%Y-%m-%d %H:%M:%S%.3f", date).is_ok(),
            "{date}"
        );
        let (place, text) = rest.split_once(' ').unwrap();
        let (file, number) = place.split_once(':').unwrap();
        assert_eq!((file, text), ("log.rs", "signal 1 (SIGHUP) received"));
        assert!(number.parse::<u32>().is_ok());
    }

    #[test]
    fn levels_go_up_and_down_within_their_bounds() {
        let lines = written(4, |log| {
            log.notice("no");
            assert_eq!(log.up(), 5);
            log.notice("yes");
            assert_eq!([log.down(), log.down()], [4, 3]);
            log.warning("no");
            log.error("grave");
        });
        let texts: Vec<&str> = lines
            .iter()
            .map(|line| line.rsplit(' ').next().unwrap())
            .collect();
        assert_eq!(texts, ["yes", "grave"]);
        written(99, |log| assert_eq!(log.up(), LEVEL_MAX));
        written(0, |log| assert_eq!(log.down(), 0));
    }
}
