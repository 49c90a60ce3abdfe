//! Saving a server's whole data set as an RDB, through the full resync that replicas use.
//!
//! This is the archive when the divergent tail is gone. The server frames the snapshot in one of two ways: `$<length>`
//! when it wrote a file first, `$EOF:<40 bytes>` when it streams from its child process; there the snapshot ends at
//! the mark. As with a tail, the connection may be opened before a fence and read after it, except on Redis 6.2.

use std::time::Instant;

use tokio::net::TcpStream;

use super::error::{LinkError, ProtocolError};
use super::raw::{PsyncAnswer, READ_BYTES, RawConnection, Target, read_line, read_some};
use super::sink::FileSink;
use super::tail::{TailError, refusal};

/// How far the transfer is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Progress {
    /// Bytes received.
    pub(crate) received: u64,
    /// Bytes in all; a streamed snapshot does not say.
    pub(crate) total: Option<u64>,
}

/// What was saved.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Snapshot {
    /// The lineage.
    pub(crate) replid: String,
    /// The offset that the snapshot holds.
    pub(crate) offset: u64,
    /// Size of the file.
    pub(crate) bytes: u64,
}

/// How the end of a snapshot is known.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Framing {
    Length(u64),
    Mark(Vec<u8>),
}

/// Length of the mark of a streamed snapshot.
const MARK_BYTES: usize = 40;

/// A connection on which the server sends a snapshot.
#[derive(Debug)]
pub(crate) struct RdbReader {
    stream: TcpStream,
    buffer: Vec<u8>,
    replid: String,
    offset: u64,
}

impl RdbReader {
    /// Asks for a full resync. The server forks; it sends line feeds until the snapshot begins.
    pub(crate) async fn open(target: &Target, deadline: Instant) -> Result<Self, TailError> {
        let connection = RawConnection::open(target, deadline).await?;
        let (answer, stream, buffer) = connection.ask_psync("?", -1, deadline).await?;
        match answer {
            PsyncAnswer::FullResync { replid, offset } => Ok(Self {
                stream,
                buffer,
                replid,
                offset,
            }),
            PsyncAnswer::Continue => Err(LinkError::Protocol(ProtocolError::Kind).into()),
            PsyncAnswer::Refused(text) => Err(refusal(text)),
        }
    }

    /// Writes the snapshot into `sink`, at most `max_bytes` of it, and tells `progress` after every read.
    pub(crate) async fn save(
        mut self,
        mut sink: FileSink,
        max_bytes: u64,
        mut progress: impl FnMut(Progress),
        deadline: Instant,
    ) -> Result<Snapshot, TailError> {
        let line = read_line(&mut self.stream, &mut self.buffer, deadline).await?;
        let framing = framing(&line).ok_or(LinkError::Protocol(ProtocolError::Kind))?;
        let total = match framing {
            Framing::Length(length) => Some(length),
            Framing::Mark(_) => None,
        };
        let mut end = End::new(framing);
        let mut piece = std::mem::take(&mut self.buffer);
        loop {
            let (content, done) = end.take(&mut piece);
            let received = sink.bytes() + content.len() as u64;
            if total.unwrap_or(received) > max_bytes {
                return Err(TailError::TooLarge { limit: max_bytes });
            }
            sink.write(&content).await?;
            progress(Progress { received, total });
            if done {
                break;
            }
            let mut chunk = [0; READ_BYTES];
            let read = read_some(&mut self.stream, &mut chunk, deadline).await?;
            piece.extend_from_slice(&chunk[..read]);
        }
        let bytes = sink.finish().await?;
        Ok(Snapshot {
            replid: self.replid,
            offset: self.offset,
            bytes,
        })
    }
}

fn framing(line: &[u8]) -> Option<Framing> {
    let rest = line.strip_prefix(b"$")?;
    if let Some(mark) = rest.strip_prefix(b"EOF:") {
        return (mark.len() == MARK_BYTES).then(|| Framing::Mark(mark.to_vec()));
    }
    std::str::from_utf8(rest)
        .ok()?
        .parse()
        .ok()
        .map(Framing::Length)
}

/// Finds the end of the snapshot in what is read.
#[derive(Debug)]
struct End {
    framing: Framing,
}

impl End {
    fn new(framing: Framing) -> Self {
        Self { framing }
    }

    /// Takes what is certainly content out of `piece`, and says whether it was the last. What may be the beginning of the
    /// mark stays in `piece`.
    fn take(&mut self, piece: &mut Vec<u8>) -> (Vec<u8>, bool) {
        match &mut self.framing {
            Framing::Length(left) => {
                let here = usize::try_from(*left)
                    .unwrap_or(usize::MAX)
                    .min(piece.len());
                *left -= here as u64;
                (piece.drain(..here).collect(), *left == 0)
            }
            // The server streams nothing after the mark until it is acknowledged, so the mark is at the end of what
            // was read once all of it is here. Redis' own replica relies on the same.
            Framing::Mark(mark) if piece.ends_with(mark) => {
                let content = piece.len() - mark.len();
                piece.truncate(content);
                (std::mem::take(piece), true)
            }
            Framing::Mark(mark) => {
                let sure = piece.len().saturating_sub(mark.len());
                (piece.drain(..sure).collect(), false)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn framings() {
        let mark = [b'a'; MARK_BYTES];
        let eof = [&b"$EOF:"[..], &mark].concat();
        assert_eq!(framing(&eof), Some(Framing::Mark(mark.to_vec())));
        assert_eq!(framing(&eof[..44]), None);
        assert_eq!(framing(b"$176"), Some(Framing::Length(176)));
        assert_eq!(framing(b"$x"), None);
        assert_eq!(framing(b"-ERR"), None);
    }

    /// Feeds `wire` in pieces of every size and collects the content.
    fn content(framing: &Framing, wire: &[u8], size: usize) -> (Vec<u8>, bool) {
        let mut end = End::new(framing.clone());
        let (mut all, mut buffer) = (Vec::new(), Vec::new());
        for piece in wire.chunks(size) {
            buffer.extend_from_slice(piece);
            let (content, done) = end.take(&mut buffer);
            all.extend(content);
            if done {
                return (all, true);
            }
        }
        (all, false)
    }

    #[test]
    fn the_end_is_found_however_the_input_is_split() {
        let mark: Vec<u8> = (b'A'..).take(MARK_BYTES).collect();
        // The content holds most of the mark, to be taken for it by a careless reader.
        let data = [&b"REDIS"[..], &mark[..39], b"end"].concat();
        let marked = [&data[..], &mark].concat();
        for size in 1..=marked.len() {
            assert_eq!(
                content(&Framing::Mark(mark.clone()), &marked, size),
                (data.clone(), true)
            );
            let length = Framing::Length(data.len() as u64);
            assert_eq!(content(&length, &data, size), (data.clone(), true));
            assert!(!content(&length, &data[1..], size).1);
        }
    }
}
