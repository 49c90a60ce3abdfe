//! A results file: JSON, one line for each outcome, written when its run is over.

use std::fs::File;
use std::io::Write;
use std::path::Path;

use anyhow::Context;
use serde::Serialize;
use serde::de::DeserializeOwned;

/// All outcomes, those of earlier invocations included.
#[derive(Debug)]
pub(super) struct Lines<T> {
    file: File,
    outcomes: Vec<T>,
}

impl<T: Serialize + DeserializeOwned> Lines<T> {
    /// Opens the file, or begins it.
    ///
    /// # Errors
    /// When it cannot be read or written, or a line in it is no outcome; the line is named.
    pub(super) fn open(path: &Path) -> anyhow::Result<Self> {
        let text = if path.exists() {
            std::fs::read_to_string(path)?
        } else {
            String::new()
        };
        // A run that was cut off in the middle of its line left no newline: that run is to be repeated.
        let whole = text.rfind('\n').map_or(0, |end| end + 1);
        let outcomes = text[..whole]
            .lines()
            .enumerate()
            .map(|(index, line)| {
                serde_json::from_str(line)
                    .with_context(|| format!("{}, line {}", path.display(), index + 1))
            })
            .collect::<anyhow::Result<_>>()?;
        let file = File::options().create(true).append(true).open(path)?;
        file.set_len(whole as u64)?;
        Ok(Self { file, outcomes })
    }

    /// Adds one and writes it down.
    ///
    /// # Errors
    /// When it cannot be written.
    pub(super) fn add(&mut self, outcome: T) -> anyhow::Result<()> {
        let mut line = serde_json::to_string(&outcome)?;
        line.push('\n');
        self.file.write_all(line.as_bytes())?;
        self.outcomes.push(outcome);
        Ok(())
    }

    /// All of them, in the order in which they were made.
    pub(super) fn outcomes(&self) -> &[T] {
        &self.outcomes
    }
}
