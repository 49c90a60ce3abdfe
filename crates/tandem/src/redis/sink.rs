//! A file that is written while a socket is read: in large pieces, off the runtime's thread, and never into the last
//! free bytes of a disk.
//!
//! The disk of an archive is usually the disk of the server's own AOF and RDB. Filling it would turn a saved tail into a
//! server that answers MISCONF, so some space is left free.

use std::fs::File;
use std::io::{self, Write};

/// Why a file could not be written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum SinkError {
    /// The disk is full, or the next piece would leave less free than must stay free.
    #[error("disk full")]
    DiskFull,
    /// Anything else.
    #[error("disk: {0}")]
    Io(io::ErrorKind),
}

impl SinkError {
    fn from_io(error: &io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => Self::DiskFull,
            other => Self::Io(other),
        }
    }
}

/// Bytes collected before they are written.
const PIECE_BYTES: usize = 256 * 1024;

/// A file being written.
#[derive(Debug)]
pub(crate) struct FileSink {
    /// `None` only while a piece is being written, and after a failure.
    file: Option<File>,
    collected: Vec<u8>,
    bytes: u64,
    keep_free_bytes: u64,
}

impl FileSink {
    /// Writes into `file` from its start on, and keeps so many bytes of its disk free.
    pub(crate) fn new(file: File, keep_free_bytes: u64) -> Self {
        Self {
            file: Some(file),
            collected: Vec::new(),
            bytes: 0,
            keep_free_bytes,
        }
    }

    /// Bytes taken so far.
    pub(crate) fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Appends bytes.
    pub(crate) async fn write(&mut self, bytes: &[u8]) -> Result<(), SinkError> {
        self.collected.extend_from_slice(bytes);
        self.bytes += bytes.len() as u64;
        if self.collected.len() >= PIECE_BYTES {
            self.flush(false).await?;
        }
        Ok(())
    }

    /// Writes what is left and makes the file durable.
    ///
    /// # Returns
    /// How many bytes the file has.
    pub(crate) async fn finish(mut self) -> Result<u64, SinkError> {
        self.flush(true).await?;
        Ok(self.bytes)
    }

    async fn flush(&mut self, sync: bool) -> Result<(), SinkError> {
        let piece = std::mem::take(&mut self.collected);
        let keep_free = self.keep_free_bytes;
        let mut file = self
            .file
            .take()
            .ok_or(SinkError::Io(io::ErrorKind::Other))?;
        let written = tokio::task::spawn_blocking(move || {
            let free = free_bytes(&file)?;
            if free < keep_free.saturating_add(piece.len() as u64) {
                return Err(io::Error::from(io::ErrorKind::StorageFull));
            }
            file.write_all(&piece)?;
            if sync {
                file.sync_all()?;
            }
            Ok(file)
        });
        let file = written
            .await
            .map_err(|_| SinkError::Io(io::ErrorKind::Other))?
            .map_err(|error| SinkError::from_io(&error))?;
        self.file = Some(file);
        Ok(())
    }
}

/// What an unprivileged process may still write on the file's disk.
fn free_bytes(file: &File) -> io::Result<u64> {
    let stat = rustix::fs::fstatvfs(file)?;
    Ok(stat.f_bavail.saturating_mul(stat.f_frsize))
}
