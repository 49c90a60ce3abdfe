//! The log as Redis writes it: `<pid>:X <date> <mark> <text>`, to a file or to standard output.
//!
//! Operators' tools read these lines.

use std::io;
use std::path::PathBuf;

use jiff::Zoned;
use tandem_core::sentinel::commands::LogLevel;
use tandem_core::sentinel::io::Level;

use crate::lines::{Lines, Target};

/// Where lines go.
#[derive(Clone)]
pub(super) struct RedisLog {
    lines: Lines,
    /// Nothing at all where there is none.
    least: Option<Level>,
    pid: u32,
}

impl RedisLog {
    /// Begins to write to `path`, or to standard output. `least` decides what is left out.
    ///
    /// # Errors
    /// When the file cannot be opened for appending.
    pub(super) fn start(path: Option<PathBuf>, least: LogLevel) -> io::Result<Self> {
        Ok(Self {
            lines: Lines::start(path.map_or(Target::Stdout, Target::Anew))?,
            least: level_of(least),
            pid: std::process::id(),
        })
    }

    /// From now on, lines below `least` are left out.
    pub(super) fn set_least(&mut self, least: LogLevel) {
        self.least = level_of(least);
    }

    /// Writes a line.
    pub(super) fn line(&self, level: Level, text: &str) {
        if self.least.is_none_or(|least| level < least) {
            return;
        }
        let mark = match level {
            Level::Debug => '.',
            Level::Verbose => '-',
            Level::Notice => '*',
            Level::Warning => '#',
        };
        let time = Zoned::now().strftime("%d %b %Y %H:%M:%S%.3f").to_string();
        self.lines
            .line(format!("{}:X {time} {mark} {text}\n", self.pid));
    }

    /// Waits until what was logged so far is written, within reason.
    pub(super) fn flush(&self) {
        self.lines.flush();
    }
}

/// The least grave lines that are written.
fn level_of(least: LogLevel) -> Option<Level> {
    match least {
        LogLevel::Debug => Some(Level::Debug),
        LogLevel::Verbose => Some(Level::Verbose),
        LogLevel::Notice => Some(Level::Notice),
        LogLevel::Warning => Some(Level::Warning),
        LogLevel::Nothing => None,
    }
}
