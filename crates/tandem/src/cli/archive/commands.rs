//! Reading a saved tail: the commands in order, each with its place in the file.
//!
//! A tail is what the server sent to its replicas, so it is read as a replication stream. One command is held in memory at a
//! time, and how long that may be is Redis' own bound; the file may be of any size.

use std::fs::File;
use std::io::{self, Read as _};
use std::path::Path;

use tandem_resp::stream::{Entry, StreamParser};
use tandem_resp::{FrameError, Limits};

const READ_BYTES: usize = 64 * 1024;

/// Why a tail cannot be read.
#[derive(Debug, thiserror::Error)]
pub(crate) enum TailFileError {
    /// The file system's reason.
    #[error(transparent)]
    Io(#[from] io::Error),
    /// The file was damaged: no server wrote this.
    #[error("the file is damaged: {0}")]
    Damaged(#[from] FrameError),
    /// The file ends within a command: it was cut off after it was saved.
    #[error("the file ends in the middle of a command, {0} bytes after the last complete one")]
    CutOff(usize),
}

/// A saved tail, read from its beginning.
#[derive(Debug)]
pub(crate) struct TailFile {
    file: File,
    parser: StreamParser,
    buffer: Vec<u8>,
    /// Bytes at the front of the buffer that earlier commands took.
    taken: usize,
    /// Place in the file of the next command.
    at: u64,
}

/// One command of a tail.
pub(crate) struct TailCommand<'a> {
    /// What the stream's parser says of it; arguments are relative to `bytes`.
    pub(crate) entry: Entry,
    /// Its bytes.
    pub(crate) bytes: &'a [u8],
    /// Its place in the file.
    pub(crate) at: u64,
}

impl TailCommand<'_> {
    /// An argument; the name is at 0.
    pub(crate) fn arg(&self, index: usize) -> &[u8] {
        self.entry.arg(index, self.bytes).unwrap_or_default()
    }

    /// All arguments, the name first.
    pub(crate) fn args(&self) -> Vec<&[u8]> {
        (0..self.entry.argv.len())
            .map(|index| self.arg(index))
            .collect()
    }
}

impl TailFile {
    /// Opens a tail that begins in this database, if it is known.
    pub(crate) fn open(path: &Path, first_db: Option<u32>) -> io::Result<Self> {
        Ok(Self {
            file: File::open(path)?,
            parser: StreamParser::in_db(0, first_db, Limits::default()),
            buffer: Vec::new(),
            taken: 0,
            at: 0,
        })
    }

    /// The next command; `None` at the end.
    pub(crate) fn next(&mut self) -> Result<Option<TailCommand<'_>>, TailFileError> {
        let entry = loop {
            if let Some(entry) = self.parser.next_entry(&self.buffer[self.taken..])? {
                break entry;
            }
            if !self.fill()? {
                let rest = self.buffer.len() - self.taken;
                return if rest == 0 {
                    Ok(None)
                } else {
                    Err(TailFileError::CutOff(rest))
                };
            }
        };
        let (start, at) = (self.taken, self.at);
        self.taken += entry.len;
        self.at += entry.len as u64;
        Ok(Some(TailCommand {
            bytes: &self.buffer[start..self.taken],
            entry,
            at,
        }))
    }

    fn fill(&mut self) -> io::Result<bool> {
        self.buffer.drain(..self.taken);
        self.taken = 0;
        let had = self.buffer.len();
        self.buffer.resize(had + READ_BYTES, 0);
        let read = self.file.read(&mut self.buffer[had..])?;
        self.buffer.truncate(had + read);
        Ok(read > 0)
    }
}

/// A command as one would type it into redis-cli: arguments that need it are quoted, long ones cut.
pub(crate) fn typed(args: &[&[u8]], longest: usize) -> String {
    let mut out = String::new();
    for (index, arg) in args.iter().enumerate() {
        if index > 0 {
            out.push(' ');
        }
        out.push_str(&quoted(arg, longest));
    }
    out
}

fn quoted(arg: &[u8], longest: usize) -> String {
    let shown = &arg[..arg.len().min(longest)];
    let plain = !shown.is_empty()
        && shown
            .iter()
            .all(|byte| byte.is_ascii_graphic() && !matches!(byte, b'"' | b'\'' | b'\\'));
    let mut out = if plain {
        String::from_utf8_lossy(shown).into_owned()
    } else {
        match std::str::from_utf8(shown) {
            // Text in any language stays readable; only what would break the line or the quotes is escaped.
            Ok(text) => {
                let mut out = String::from("\"");
                for c in text.chars() {
                    match c {
                        '"' | '\\' => out.extend(['\\', c]),
                        '\n' => out.push_str("\\n"),
                        '\r' => out.push_str("\\r"),
                        '\t' => out.push_str("\\t"),
                        c if c.is_control() => {
                            let mut bytes = [0; 4];
                            for byte in c.encode_utf8(&mut bytes).bytes() {
                                out.push_str(&format!("\\x{byte:02x}"));
                            }
                        }
                        c => out.push(c),
                    }
                }
                out + "\""
            }
            Err(_) => format!(
                "\"{}\"",
                shown.escape_ascii().to_string().replace("\\'", "'")
            ),
        }
    };
    if arg.len() > longest {
        out.push_str(&format!("...({} bytes)", arg.len()));
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use tandem_resp::encode_command;

    #[test]
    fn commands_have_their_places_whatever_the_reads_are_like() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("tail.resp");
        let long = vec![b'x'; 3 * READ_BYTES];
        let mut bytes = Vec::new();
        let mut places = Vec::new();
        for value in [b"1".as_slice(), &long, b"3"] {
            places.push(bytes.len() as u64);
            encode_command(&[b"SET".as_slice(), b"k", value], &mut bytes);
        }
        std::fs::write(&path, &bytes).unwrap();
        let mut tail = TailFile::open(&path, Some(2)).unwrap();
        let mut seen = Vec::new();
        while let Some(command) = tail.next().unwrap() {
            assert_eq!(command.entry.db, Some(2));
            assert_eq!(command.arg(1), b"k");
            let end = command.at as usize + command.bytes.len();
            assert_eq!(command.bytes, &bytes[command.at as usize..end]);
            seen.push(command.at);
        }
        assert_eq!(seen, places);
    }

    #[test]
    fn a_file_that_was_cut_off_says_so() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("tail.resp");
        let mut bytes = Vec::new();
        encode_command(&["SET", "k", "v"], &mut bytes);
        bytes.extend_from_slice(b"*3\r\n$3");
        std::fs::write(&path, &bytes).unwrap();
        let mut tail = TailFile::open(&path, None).unwrap();
        assert!(tail.next().unwrap().is_some());
        assert!(matches!(tail.next(), Err(TailFileError::CutOff(6))));
    }

    #[test]
    fn arguments_are_quoted_where_they_need_it() {
        let table: &[(&[u8], &str)] = &[
            (b"plain:key", "plain:key"),
            (b"", "\"\""),
            (b"two words", "\"two words\""),
            (b"a\"b\\c", "\"a\\\"b\\\\c\""),
            (b"line\r\nend", "\"line\\r\\nend\""),
            ("Zürich".as_bytes(), "\"Zürich\""),
            (b"\x1b[2J", "\"\\x1b[2J\""),
            (b"\xff\x00'", "\"\\xff\\x00'\""),
            (b"0123456789abc", "0123456789...(13 bytes)"),
        ];
        for (arg, shown) in table {
            assert_eq!(typed(&[arg], 10), *shown, "{}", arg.escape_ascii());
        }
    }
}
